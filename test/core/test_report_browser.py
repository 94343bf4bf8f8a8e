"""The report page in a real browser: it renders without a complaint or a request, and what can be switched switches."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import HOW_TO_INSTALL, Chromium, alike, find_chromium
from numpy.typing import NDArray
from tiny_report import BUILDING, HOSTILE, LABELS, ROAD, VEHICLE, full_report

from clip2uda_core.report import ReportContent, write_report

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=HOW_TO_INSTALL)

STAGE = ".stage canvas"
SIZES = {"desktop": (1280, 900, False), "phone": (390, 844, True)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(full_report(folder), folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def page(browser: Chromium, report: Path) -> Iterator[Chromium]:
    """The report in a small window, which software draws quickly."""
    browser.show(700, 600)
    browser.open(report)
    yield browser
    assert browser.errors == []


def pixels_of(picture: NDArray[np.uint8], label: int) -> int:
    """How many pixels have the colour of a class, which depth may darken."""
    color = LABELS.colors[label].astype(float)
    brightness = (picture @ color) / (color @ color)
    off = np.abs(picture - brightness[..., None] * color).max(-1)
    return int(((off < 14) & (brightness > 0.3) & (brightness < 1.1)).sum())


def choose(page: Chromium, name: str, value: str) -> NDArray[np.uint8]:
    """Sets a control of the viewer as a hand would, and gives the picture."""
    page.evaluate(
        f"(() => {{const c = document.querySelector('.controls [name={name}]'); c.value = '{value}';"
        "c.dispatchEvent(new Event('input', {bubbles: true}))})()"
    )
    return page.picture(STAGE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_page_opens_whole_quiet_and_alone(browser: Chromium, report: Path, size: str, scheme: str) -> None:
    width, height, mobile = SIZES[size]
    browser.show(width, height, scheme, mobile)
    browser.open(report)
    assert browser.evaluate("document.documentElement.scrollWidth") == width, "the page is wider than the window"
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.evaluate("document.querySelectorAll('.chart svg path').length") == 5
    scene = browser.picture(STAGE)
    assert all(pixels_of(scene, label) > 100 for label in (ROAD, BUILDING, VEHICLE))
    browser.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    window = browser.picture()
    assert window.shape == (height, width, 3)
    assert (np.median(window) > 128) == (scheme == "light")
    assert browser.errors == []
    assert browser.requests == [report.absolute().as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Chromium, report: Path, scheme: str) -> None:
    browser.show(*SIZES["desktop"][:2], scheme)
    browser.open(report)
    weakest = browser.weakest_contrast(except_in=".stage, .compare, svg, noscript")
    assert weakest["ratio"] >= 4.5, f"WCAG AA asks for 4.5: {weakest}"


def test_class_switches_take_points_away_and_bring_them_back(page: Chromium) -> None:
    everything = page.picture(STAGE)
    assert page.evaluate("document.querySelector('.status').textContent") == "12,000 points shown"
    page.click(f"[name=class][value='{VEHICLE}']")
    without = page.picture(STAGE)
    assert pixels_of(without, VEHICLE) < 0.02 * pixels_of(everything, VEHICLE)
    assert pixels_of(without, ROAD) >= 0.95 * pixels_of(everything, ROAD)
    assert page.evaluate("document.querySelector('.status').textContent") == "9,000 points shown"
    page.click(".controls .none")
    page.click("[name=rings]")
    nothing = page.picture(STAGE)[60:-20, 20:-20]  # without the buttons and the round corners
    assert len(np.unique(nothing.reshape(-1, 3), axis=0)) == 1
    page.click("[name=rings]")
    page.click(".controls .all")
    page.wait_for_picture(STAGE, everything)


def test_colours_follow_the_choice(page: Chromium) -> None:
    after = page.picture(STAGE)
    before = choose(page, "coloring", "before")
    assert pixels_of(before, VEHICLE) < 0.02 * pixels_of(after, VEHICLE)
    assert pixels_of(before, BUILDING) > 1.1 * pixels_of(after, BUILDING)
    changes = choose(page, "coloring", "changes")
    assert page.evaluate("document.querySelector('.status').textContent").endswith("25.0 % of the points differ")
    assert pixels_of(changes, VEHICLE) >= pixels_of(after, VEHICLE)
    assert pixels_of(changes, ROAD) < 0.05 * pixels_of(after, ROAD)
    pictures = [after, before, changes]
    for coloring in ("confidence_after", "confidence_before", "intensity", "height"):
        pictures.append(choose(page, "coloring", coloring))
        assert page.evaluate("document.querySelector('.ramp').offsetWidth") > 100
    assert not any(alike(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    page.click(f"[name=class][value='{VEHICLE}']")
    assert not alike(page.picture(STAGE), pictures[-1])


def test_size_and_frame_follow_the_choice(page: Chromium) -> None:
    small, large = choose(page, "size", "1"), choose(page, "size", "8")
    assert pixels_of(large, ROAD) > 1.5 * pixels_of(small, ROAD)
    choose(page, "frame", "1")
    options = page.evaluate("[...document.querySelector('[name=coloring]').options].map(option => option.value)")
    assert options == ["after", "truth", "errors", "confidence_after", "intensity", "height"]
    assert pixels_of(choose(page, "coloring", "truth"), VEHICLE) > 100


def test_mouse_turns_moves_and_zooms(page: Chromium) -> None:
    first = page.steady_picture(STAGE)
    left, top, width, height = page.place(STAGE)
    x, y = left + width / 2, top + height / 2
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-200)
    page.settle()
    page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    assert alike(page.picture(STAGE), first), "a view that nobody has clicked leaves the wheel to the page"
    pictures = [first]
    for button, dx, dy in (("left", 120, 0), ("left", 0, 60), ("right", 80, 30)):
        page.drag(x, y, dx, dy, button)
        pictures.append(page.picture(STAGE))
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-200)
    page.settle()
    pictures.append(page.picture(STAGE))
    page.click(".from-above")
    pictures.append(page.picture(STAGE))
    assert not any(alike(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    page.click(".reset")
    page.evaluate("document.activeElement.blur()")
    page.mouse("Moved", 2, 2)
    page.wait_for_picture(STAGE, first)


def test_keys_do_what_the_mouse_does(page: Chromium) -> None:
    page.evaluate(f"document.querySelector('{STAGE}').focus()")
    first = page.steady_picture(STAGE)
    pictures = [first]
    for key, shift in (("ArrowLeft", False), ("ArrowUp", False), ("ArrowLeft", True), ("+", False), ("t", False)):
        page.press(key, shift)
        pictures.append(page.picture(STAGE))
    assert not any(alike(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    page.press("Home")
    page.wait_for_picture(STAGE, first)
    page.press("Enter")
    picked = page.wait_for("document.querySelector('.picked').textContent")
    assert picked.startswith("vehicle 80 % · before: building 40 % · ")


def test_pointer_tells_class_and_confidence(page: Chromium) -> None:
    left, top, width, height = page.place(STAGE)
    page.mouse("Moved", left + width / 2, top + height / 2)
    assert page.wait_for("document.querySelector('.tip').textContent").startswith("vehicle 80 % · before: building")
    assert not page.evaluate("document.querySelector('.tip').hidden")
    page.mouse("Moved", left + 30, top + height - 5)
    page.wait_for("document.querySelector('.tip').hidden")
    page.click(STAGE)
    assert "vehicle" in page.wait_for("document.querySelector('.picked').textContent")


def test_fingers_turn_and_pinch(browser: Chromium, report: Path) -> None:
    browser.show(*SIZES["phone"][:2], mobile=True)
    browser.open(report)
    left, top, width, height = browser.place(STAGE)
    x, y = left + width / 2, top + height / 2
    pictures = [browser.picture(STAGE)]
    browser.touch("Start", (x, y))
    browser.touch("Move", (x + 60, y + 10))
    browser.touch("End")
    browser.settle()
    pictures.append(browser.picture(STAGE))
    browser.touch("Start", (x - 30, y), (x + 30, y))
    browser.touch("Move", (x - 80, y), (x + 80, y))
    browser.touch("End")
    browser.settle()
    pictures.append(browser.picture(STAGE))
    assert not any(alike(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    assert pixels_of(pictures[2], VEHICLE) > 1.3 * pixels_of(pictures[1], VEHICLE), "apart is nearer"
    assert browser.errors == []


def test_slider_uncovers_before_and_after(page: Chromium) -> None:
    left, top, width, _ = page.place(".compare")
    page.drag(left + 5, top + 30, 0.3 * width, 0)
    assert 29 <= float(page.evaluate("document.querySelector('.compare input').value")) <= 32
    page.press("ArrowRight")
    pictures = []
    for value in (0, 100):
        page.evaluate(
            f"(() => {{const s = document.querySelector('.compare input'); s.value = {value};"
            "s.dispatchEvent(new Event('input'))})()"
        )
        pictures.append(page.picture(".compare"))
    after, before = (pixels_of(picture, VEHICLE) for picture in pictures)
    assert after > 1000
    assert before < 0.05 * after


def test_thumbnails_choose_the_image(page: Chromium) -> None:
    shown = "[...document.querySelectorAll('.overlay')].map(figure => figure.offsetHeight > 0)"
    assert page.evaluate(shown) == [True, False]
    page.click(".strip button:nth-child(2)")
    assert page.evaluate(shown) == [False, True]
    assert page.evaluate("document.querySelector('.strip [aria-pressed=true] img').alt") == "street[0], camera front"


def test_legend_switches_lines_and_pointer_reads_values(page: Chromium) -> None:
    chart = ".chart[data-chart='3']"
    lines = f'document.querySelectorAll("{chart} path").length'
    assert page.evaluate(lines) == 2
    page.click(f"{chart} .key")
    assert page.evaluate(lines) == 1
    assert page.evaluate(f'document.querySelector("{chart} .key").ariaPressed') == "false"
    page.click(f"{chart} .key")
    assert page.evaluate(lines) == 2
    left, top, width, height = page.place(f"{chart} .plot")
    page.mouse("Moved", left + width - 22, top + height / 2)
    readout = page.wait_for(f'document.querySelector("{chart} .readout").textContent')
    assert readout == "iteration 20: 2D and 3D agree 70, mean confidence 50"


def test_paper_gets_pictures_in_place_of_what_moves(page: Chromium) -> None:
    shown = "[...document.querySelectorAll('{}')].map(element => element.offsetHeight > 0)"
    assert page.evaluate(shown.format(".viewer, .flat")) == [True, False]
    page.send("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(shown.format(".viewer, .flat")) == [False, True]
    assert page.evaluate(shown.format(".overlay")) == [True, True]
    assert len(page.send("Page.printToPDF", printBackground=True)["data"]) > 10_000
    page.send("Emulation.setEmulatedMedia", media="")


def test_hostile_words_run_nothing(browser: Chromium, tmp_path: Path) -> None:
    write_report(full_report(tmp_path, HOSTILE), tmp_path / "report.html")
    browser.show(*SIZES["desktop"][:2])
    browser.open(tmp_path / "report.html")
    assert browser.evaluate("window.hacked") is None
    assert browser.evaluate("document.querySelector('h1').textContent") == f"Report {HOSTILE}"
    assert browser.evaluate("document.querySelector('[name=frame]').options[1].textContent.trim()") == HOSTILE.strip()
    assert browser.errors == []
    assert len(browser.requests) == 1


def test_report_without_anything_is_quiet(browser: Chromium, tmp_path: Path) -> None:
    write_report(ReportContent("nothing"), tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    assert browser.evaluate("document.querySelector('h1').textContent") == "nothing"
    assert browser.errors == []


def test_browser_without_webgl_shows_the_cloud_from_above(report: Path, tmp_path: Path) -> None:
    plain = Chromium(tmp_path, "--disable-3d-apis")
    try:
        plain.show(*SIZES["desktop"][:2])
        plain.open(report)
        assert plain.evaluate("document.querySelector('.viewer').offsetHeight") == 0
        assert "needs WebGL2" in plain.evaluate("document.querySelector('.no-webgl').innerText")
        assert pixels_of(plain.picture(".flat img"), VEHICLE) > 100
        assert plain.evaluate("document.querySelectorAll('.chart svg').length") == 4
    finally:
        plain.close()
