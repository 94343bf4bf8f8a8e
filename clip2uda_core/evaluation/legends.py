"""Legends and colour scales of the pictures, set in type with Pillow."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clip2uda_core.labels import IGNORE, LabelSpace

Picture = NDArray[np.uint8]

BACKGROUND = (17, 19, 24)
TEXT = (214, 218, 226)
DEPTH_TICKS_M = (0.5, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 120, 200)


_TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1]


@lru_cache(maxsize=16)
def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface that Pillow carries."""
    return ImageFont.load_default(size_px)


def turbo(fraction: NDArray[np.floating]) -> Picture:
    """(N, 3) RGB of the turbo colour map for values from 0 (blue) to 1 (red); values outside are clipped.

    The map's two ends are left out: they are too dark to be seen on a dark picture.
    """
    return _TURBO[np.rint(20 + 215 * np.clip(fraction, 0, 1)).astype(np.uint8)]


def depth_colors(depth_m: NDArray[np.floating], near_m: float, far_m: float) -> Picture:
    """(N, 3) RGB: red at `near_m`, blue at `far_m`, logarithmic between."""
    return turbo(1 - np.log(np.maximum(depth_m, near_m) / near_m) / np.log(far_m / near_m))


def class_strip(labels: NDArray[np.uint8], label_space: LabelSpace, width_px: int) -> Picture:
    """A strip with swatch, name and share of each class that occurs; as many lines as it takes."""
    size_px = text_size_px(width_px)
    line_px, gap_px = 2 * size_px, round(1.6 * size_px)
    places, x, y = [], gap_px // 2, 0
    for label, text in _class_texts(labels, label_space):
        entry_px = round(1.5 * size_px + font(size_px).getlength(text))
        if x > gap_px and x + entry_px > width_px:
            x, y = gap_px // 2, y + line_px
        places.append((x, y, label, text))
        x += entry_px + gap_px
    strip = Image.new("RGB", (width_px, y + line_px), BACKGROUND)
    _write_entries(strip, places, label_space, size_px)
    return np.array(strip)


def class_panel(labels: NDArray[np.uint8], label_space: LabelSpace, height_px: int) -> Picture:
    """A column with the same entries, one below the other."""
    size_px = max(11, height_px // 52)
    texts = _class_texts(labels, label_space)
    width_px = round(max([font(size_px).getlength(text) for _, text in texts], default=0.0) + 4 * size_px)
    panel = Image.new("RGB", (width_px, height_px), BACKGROUND)
    places = [(size_px, size_px + 2 * size_px * i, label, text) for i, (label, text) in enumerate(texts)]
    _write_entries(panel, places, label_space, size_px)
    return np.array(panel)


def depth_strip(near_m: float, far_m: float, note: str, width_px: int) -> Picture:
    """A strip with the depth scale on the left and a note on the right."""
    size_px = text_size_px(width_px)
    height_px, bar_px = round(2.9 * size_px), round(0.45 * width_px)
    strip = Image.new("RGB", (width_px, height_px), BACKGROUND)
    depth_m = near_m * (far_m / near_m) ** np.linspace(0, 1, bar_px)
    bar = np.repeat(depth_colors(depth_m, near_m, far_m)[None], round(0.8 * size_px), axis=0)
    left, top = 2 * size_px, round(0.5 * size_px)
    strip.paste(Image.fromarray(bar), (left, top))
    draw = ImageDraw.Draw(strip)
    below = top + len(bar)
    for tick_m in DEPTH_TICKS_M:
        if near_m <= tick_m <= far_m:
            x = left + bar_px * np.log(tick_m / near_m) / np.log(far_m / near_m)
            draw.line((x, below, x, below + size_px // 4), TEXT, max(1, size_px // 14))
            draw.text((x, below + size_px // 3), f"{tick_m:g} m", TEXT, font(size_px), anchor="mt")
    draw.text((width_px - size_px, height_px // 2), note, TEXT, font(size_px), anchor="rm")
    return np.array(strip)


def height_panel(low_m: float, high_m: float, height_px: int) -> Picture:
    """A column with the scale of heights above and below the sensor."""
    size_px = max(11, height_px // 52)
    panel = Image.new("RGB", (6 * size_px, height_px), BACKGROUND)
    top, bar_px = 3 * size_px, height_px // 3
    bar = np.repeat(turbo(np.linspace(1, 0, bar_px))[:, None], size_px, axis=1)
    panel.paste(Image.fromarray(bar), (size_px, top))
    draw = ImageDraw.Draw(panel)
    draw.text((size_px, size_px), "height", TEXT, font(size_px))
    for height_m, y in ((high_m, top), ((low_m + high_m) / 2, top + bar_px / 2), (low_m, top + bar_px)):
        draw.text((round(2.4 * size_px), y), f"{height_m:+.1f} m", TEXT, font(size_px), anchor="lm")
    return np.array(panel)


def text_size_px(width_px: int) -> int:
    """Type that reads well in a picture of this width."""
    return int(np.clip(width_px // 80, 11, 30))


def _class_texts(labels: NDArray[np.uint8], label_space: LabelSpace) -> list[tuple[int, str]]:
    """(label, "name 12 %") of the classes that occur, in the order of the label space, the unlabelled last."""
    counts = np.bincount(labels, minlength=256)
    shares = 100 * counts / max(1, len(labels))
    entries = [(i, f"{name} {_percent(shares[i])}") for i, name in enumerate(label_space.names) if counts[i]]
    if counts[IGNORE]:
        entries.append((IGNORE, f"no class {_percent(shares[IGNORE])}"))
    return entries


def _percent(share: float) -> str:
    return f"{share:.0f} %" if share >= 1 else "<1 %"


def _write_entries(
    picture: Image.Image, places: list[tuple[int, int, int, str]], label_space: LabelSpace, size_px: int
) -> None:
    draw = ImageDraw.Draw(picture)
    for x, y, label, text in places:
        middle = y + size_px
        swatch = (x, middle - size_px // 2, x + size_px, middle + size_px // 2)
        draw.rounded_rectangle(swatch, radius=size_px // 4, fill=tuple(int(c) for c in label_space.colors[label]))
        draw.text((x + round(1.5 * size_px), middle), text, TEXT, font(size_px), anchor="lm")
