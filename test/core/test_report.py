"""The report page without a browser: what it holds is what was put in, whole, escaped, and written at once."""

import base64
import hashlib
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_report import (
    AFTER,
    BEFORE,
    BUILDING,
    HEIGHT,
    HOSTILE,
    LABELS,
    VEHICLE,
    WIDTH,
    full_report,
    random_prediction,
    street,
)

from clip2uda_core.errors import DataError
from clip2uda_core.report import (
    ReportContent,
    Series,
    Signal,
    cloud_view,
    overlay_pair,
    render_report,
    write_report,
)
from clip2uda_core.types import Frame, PointCloud

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Reads a page strictly: elements close in the order in which they open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> says the same twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes = self.elements[-1][1]
            key = attributes.get("id") or attributes.get("type") or ""
            self.scripts[key] = self.scripts.get(key, "") + data
        elif "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def bytes_of(self, name: str) -> bytes:
        return base64.b64decode(self.scripts[name], validate=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ReportContent:
    return full_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(report: ReportContent) -> Page:
    return Page(render_report(report))


def test_embedded_cloud_decodes_to_the_true_points_and_labels(page: Page) -> None:
    frame = street()
    header = json.loads(page.scripts["data"])["clouds"][0]
    finite = np.isfinite(frame.cloud.xyz_m).all(1)
    values = np.frombuffer(page.bytes_of("cloud-0-xyz"), "<u2").reshape(-1, 3)
    xyz_m = np.array(header["low"]) + np.array(header["step"]) * values
    assert header["points"] == finite.sum() == len(frame.cloud) - 2
    np.testing.assert_allclose(xyz_m, frame.cloud.xyz_m[finite], atol=0.001)
    for name, prediction in (("before", BEFORE), ("after", AFTER)):
        assert page.bytes_of(f"cloud-0-{name}") == prediction.labels[finite].tobytes()
        confidence = np.frombuffer(page.bytes_of(f"cloud-0-confidence_{name}"), np.uint8)
        np.testing.assert_allclose(confidence / 255, prediction.confidence[finite], atol=0.5 / 255 + 1e-6)
    assert header["names"] == list(LABELS.names)
    assert header["colors"] == LABELS.colors[: len(LABELS)].tolist()
    labelled = street(labelled=True).cloud.labels
    assert labelled is not None
    assert page.bytes_of("cloud-1-truth") == labelled[finite].tobytes()
    assert "before" not in json.loads(page.scripts["data"])["clouds"][1]["layers"]


def test_large_clouds_are_thinned_alike_in_every_layer() -> None:
    frame = street(labelled=True)
    view = cloud_view(frame, None, AFTER, LABELS, max_points=500)
    again = cloud_view(frame, None, AFTER, LABELS, max_points=500)
    assert (view.points, view.points_in_cloud) == (500, 12000)
    assert view == again
    assert view.layers["truth"] == view.layers["after"]  # which they are in the whole cloud, too
    z = view.low_m[2] + view.step_m[2] * np.frombuffer(view.xyz_u16, "<u2").reshape(-1, 3)[:, 2]
    on_road = np.frombuffer(view.layers["after"], np.uint8) == LABELS.names.index("road")
    np.testing.assert_allclose(z[on_road], -1.8, atol=1e-3)


def test_strays_do_not_spoil_the_positions() -> None:
    cloud = PointCloud(np.array([[1, 2, 3], [1e6, 0, 0], [4, 5, 6]], np.float32), 0)
    prediction = random_prediction(3)
    view = cloud_view(Frame(cloud), None, prediction, LABELS)
    xyz_m = np.array(view.low_m) + np.array(view.step_m) * np.frombuffer(view.xyz_u16, "<u2").reshape(-1, 3)
    np.testing.assert_allclose(xyz_m, [[1, 2, 3], [4, 5, 6]], atol=1e-4)
    assert list(view.layers["after"]) == prediction.labels[[0, 2]].tolist()


@pytest.mark.parametrize("xyz_m", [np.empty((0, 3)), np.full((4, 3), np.nan), np.full((4, 3), 1e5)])
def test_cloud_without_a_point_to_show_is_told(xyz_m: np.ndarray) -> None:
    frame = Frame(PointCloud(xyz_m.astype(np.float32), 0), source="far[3]")
    with pytest.raises(DataError, match=r"far\[3\].*no finite point"):
        cloud_view(frame, None, random_prediction(len(xyz_m)), LABELS)


def test_predictions_of_another_cloud_are_refused() -> None:
    short = replace(AFTER, labels=AFTER.labels[:5])
    with pytest.raises(DataError, match="5 labels"):
        cloud_view(street(), None, short, LABELS)
    with pytest.raises(DataError, match="5 labels"):
        overlay_pair(street(), short, AFTER, LABELS)


def test_overlays_show_each_prediction_in_its_colours() -> None:
    pair = overlay_pair(street(), BEFORE, AFTER, LABELS, camera="front")
    assert pair.before is not None
    assert pair.caption == "street[0], camera front"
    shown = {}
    for name, encoded in (("before", pair.before), ("after", pair.after)):
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (HEIGHT, WIDTH, 3) == (pair.height_px, pair.width_px, 3)
        shown[name] = picture[70:84, 145:175, ::-1].reshape(-1, 3).mean(0)  # the car, straight ahead
    assert np.abs(shown["before"] - LABELS.colors[BUILDING]).max() < 60
    assert np.abs(shown["after"] - LABELS.colors[VEHICLE]).max() < 60
    with pytest.raises(DataError, match=r"camera 'rear'.*has front"):
        overlay_pair(street(), BEFORE, AFTER, LABELS, camera="rear")


def test_page_is_valid_and_asks_for_nothing(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:", "#")), f"<{tag} {name}={value[:60]}>"
            assert not value.startswith("#") or value == "#" or value[1:] in ids, f"{value} leads nowhere"
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert len(page.all("h1")) == len(page.all("title")) == 1


def test_only_the_pages_own_script_may_run(page: Page) -> None:
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(page.scripts["module"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    text = render_report(full_report(tmp_path, HOSTILE))
    page, harmless = Page(text), Page(render_report(full_report(tmp_path)))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(attributes) for _, attributes in page.elements] == [sorted(a) for _, a in harmless.elements]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert json.loads(page.scripts["data"])["clouds"][1]["caption"] == HOSTILE
    assert page.text.count(HOSTILE) >= 12
    assert page.scripts["module"] == harmless.scripts["module"]


PARTS = [field.name for field in fields(ReportContent) if field.name not in ("title", "created", "iou_note")]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_stands_alone_and_can_be_missing(part: str, report: ReportContent, page: Page) -> None:
    bare = ReportContent("alone")
    alone = Page(render_report(replace(bare, **{part: getattr(report, part)})))
    without = Page(render_report(replace(report, **{part: getattr(bare, part)})))
    assert len(alone.elements) > len(Page(render_report(bare)).elements)
    assert len(without.elements) < len(page.elements)


def test_page_with_four_full_clouds_and_six_images_stays_below_15_mb(report: ReportContent) -> None:
    random = np.random.default_rng(1)
    xyz_m = random.uniform(-60, 60, (200_000, 3)).astype(np.float32)
    frame = Frame(PointCloud(xyz_m, 0, intensity=random.random(len(xyz_m), np.float32)))
    prediction = random_prediction(len(xyz_m))
    view = cloud_view(frame, prediction, prediction, LABELS)
    picture = random.integers(0, 256, (90, 320, 3), dtype=np.uint8)
    busy = cv2.imencode(".jpg", cv2.resize(picture, (1280, 360)), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    pair = replace(report.overlays[0], before=busy, after=busy)
    large = replace(report, clouds=(view,) * 4, overlays=(pair,) * 6)
    assert len(render_report(large).encode()) < 15_000_000


def test_report_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "report.html"
    write_report(ReportContent("first"), path)
    write_report(ReportContent("second"), path)
    assert "<h1>second</h1>" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for path in (tmp_path / "file" / "report.html", tmp_path / "folder.html"):
        with pytest.raises(DataError, match=r"the report .* cannot be written"):
            write_report(ReportContent("lost"), path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.html"]


def test_gaps_are_valid_json(report: ReportContent) -> None:
    chart = replace(report.charts[0], series=(Series("loss", (1, 2, 3), (0.5, float("nan"), float("inf"))),))
    data = Page(render_report(ReportContent("gaps", charts=(chart,)))).scripts["data"]
    read = json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read["charts"][0]["series"][0]["y"] == [0.5, None, None]
    with pytest.raises(DataError, match="2 x and 1 y"):
        Series("loss", (1, 2), (1,))


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        (Signal("s", 10.0, 12.0, "higher", "%"), "+2.0 · better"),
        (Signal("s", 10.0, 12.0, "lower", "%"), "+2.0 · worse"),
        (Signal("s", 1.5, 1.25, "lower", "nats"), "−0.250 · better"),
        (Signal("s", 10.0, 10.0, "higher", "%"), "±0.0"),
        (Signal("s", 10.0, 12.0), "+2.0"),
    ],
)
def test_signals_are_judged_in_words(signal: Signal, words: str) -> None:
    text = render_report(ReportContent("signals", signals=(signal,)))
    judgement = re.search(r'<p class="judgement[^>]*>([^<]*)</p>', text)
    assert judgement is not None
    assert judgement[1] == words
