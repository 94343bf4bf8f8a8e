"""A headless Chromium over its DevTools pipe: opens a page, presses, looks at pixels, and keeps what went wrong.

Needs the browser alone (on Debian and Ubuntu: `apt-get install --no-install-recommends chromium`); WebGL runs in
software.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW_TO_INSTALL = "no Chromium: apt-get install --no-install-recommends chromium"
FLAGS = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
PATIENCE_S = 120.0
STEADY_S = 0.3

WEAKEST_CONTRAST = """(except => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = color => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => sum + part * linear(color[i] / 255), 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3) return color;
    }
    return [255, 255, 255];
  };
  let weakest = {ratio: 99};
  for (const element of document.querySelectorAll('main *, header *, nav *, footer *')) {
    if (element.closest(except) || !element.offsetParent) continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < weakest.ratio) weakest = {ratio, text: element.textContent.trim().slice(0, 60)};
  }
  return weakest;
})"""
"""The least contrast of text on its ground, by the formula of WCAG 2."""


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def alike(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    return a.shape == b.shape and bool((a == b).all())


class Chromium:
    """One page of one browser. `errors`: messages and exceptions of its console. `requests`: addresses that it asked
    for, beside those inside the page (`data:`)."""

    def __init__(self, profile: Path, *flags: str) -> None:
        binary = find_chromium()
        assert binary is not None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def give_pipes() -> None:  # Chromium reads commands from descriptor 3 and answers on 4
            reading, writing = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self._process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"],
            preexec_fn=give_pipes,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._sent = 0
        self._session: str | None = None
        self._loaded = False
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        self._sent += 1
        number = self._sent
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], PATIENCE_S)
            assert ready, f"Chromium said nothing for {PATIENCE_S:g} s"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium ended"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, values: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(values["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(values["args"]))
        elif event == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.errors.append(values["entry"]["text"])
        elif event == "Network.requestWillBeSent" and not values["request"]["url"].startswith("data:"):
            self.requests.append(values["request"]["url"])

    def show(self, width: int, height: int, scheme: str = "light", mobile: bool = False) -> None:
        """The size of the window, and the theme that its user prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, page: Path) -> None:
        """Loads a file and waits until its pictures are drawn."""
        self.errors.clear()
        self.requests.clear()
        self._loaded = False
        answer = self.send("Page.navigate", url=page.absolute().as_uri())
        assert "errorText" not in answer, f"{page}: {answer['errorText']}"
        while not self._loaded:
            self._receive()
        self.settle()

    def settle(self) -> None:
        """Waits until what was asked for is on the screen."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done))))"
        )

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, after its promise."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Asks until the value of an expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"never true: {script}"
            self.settle()
        return value

    def weakest_contrast(self, except_in: str) -> dict[str, Any]:
        """{ratio, text} of the text that stands out least, outside the elements that are excepted."""
        return self.evaluate(f"{WEAKEST_CONTRAST}({json.dumps(except_in)})")

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """(left, top, width, height) of an element in the window, after it was scrolled into the middle."""
        box = self.evaluate(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]})()"
        )
        return box[0], box[1], box[2], box[3]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """kind: Pressed, Released, Moved or Wheel."""
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def drag(self, x: float, y: float, dx: float, dy: float, button: str = "left") -> None:
        held = {"left": 1, "right": 2}[button]
        self.mouse("Pressed", x, y, button=button, buttons=held, clickCount=1)
        for step in (1, 2):
            self.mouse("Moved", x + dx * step / 2, y + dy * step / 2, button=button, buttons=held)
        self.mouse("Released", x + dx, y + dy, button=button, clickCount=1)
        self.settle()

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        """kind: Start, Move or End, with the places of all fingers that are down."""
        self.send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[{"x": x, "y": y} for x, y in places])

    def click(self, selector: str) -> None:
        left, top, width, height = self.place(selector)
        x, y = left + width / 2, top + height / 2
        self.mouse("Pressed", x, y, button="left", buttons=1, clickCount=1)
        self.mouse("Released", x, y, button="left", clickCount=1)
        self.settle()

    def press(self, key: str, shift: bool = False) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=8 if shift else 0)
        self.settle()

    def picture(self, selector: str | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of the window, or of an element of it."""
        clip = {}
        if selector is not None:
            x, y, width, height = self.place(selector)
            page_y = self.evaluate("window.scrollY")
            clip = {"clip": {"x": x, "y": y + page_y, "width": width, "height": height, "scale": 1}}
        self.settle()
        png = self.send("Page.captureScreenshot", format="png", **clip)["data"]
        return self._decode(png)

    def steady_picture(self, selector: str) -> NDArray[np.uint8]:
        """An element once it stays as it is: a page that was just opened may still be drawn."""
        end, before = time.monotonic() + PATIENCE_S, self.picture(selector)
        while True:
            time.sleep(STEADY_S)
            now = self.picture(selector)
            if alike(now, before):
                return now
            assert time.monotonic() < end, f"{selector} never stays as it is"
            before = now

    def wait_for_picture(self, selector: str, expected: NDArray[np.uint8]) -> None:
        """Looks until an element looks as expected: a busy machine may show the picture before it a little longer."""
        end = time.monotonic() + PATIENCE_S
        while not alike(self.picture(selector), expected):
            assert time.monotonic() < end, f"{selector} never looks as expected"

    @staticmethod
    def _decode(png: str) -> NDArray[np.uint8]:
        encoded = np.frombuffer(base64.b64decode(png), np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert picture is not None
        return np.asarray(picture[..., ::-1], np.uint8)
