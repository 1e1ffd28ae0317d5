"""Pictures of the documentation: drawn as SVG, compared by what they show.

In an SVG text stays text, and one file serves light and dark.
"""

import io
import os
import re
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parents[1]
# Colors of a drawing: the name of each, and what it is on a light and on a dark ground. They are the explorer page's.
_COLORS = ROOT / "scratchlstm" / "inspection" / "explorer" / "style" / "base.css"
_COLOR = re.compile(r"--(\w+): light-dark\((#\w+), (#\w+)\);")
PALETTE = {light: (name, light, dark) for name, light, dark in _COLOR.findall(_COLORS.read_text(encoding="utf-8"))}
PALETTE["#000000"] = PALETTE["#1b1f24"]  # of figures that have matplotlib's own look
_ATTRIBUTES = {"svg.fonttype": "none", "svg.hashsalt": "scratchlstm"}
_NAMED_BY_HASH = re.compile(r"(?<=#)[a-z]\w{10}\b")  # markers and clipping paths
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_APART = 0.5  # points by which what shows the same may be
_WIDTH = 240  # pixels to which two PNG files are shrunk
_BLUR = 2.5  # of these pixels
_SHARE = 0.005  # of the pixels: those in which the two differ most
_LARGEST = 8.0  # of 255 levels, by which these differ in pictures that show the same
_SHAPES = 0.03  # by which width / height of the two may differ
_draw = Figure.savefig


def svg(figure: Figure) -> str:
    """The figure on a transparent ground, with the colors of the palette as CSS variables."""
    drawn = io.StringIO()
    with mpl.rc_context(_ATTRIBUTES):
        _draw(figure, drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head, start, body = drawn.getvalue().partition("<defs>")
    for color, (name, *_) in PALETTE.items():
        body = re.sub(rf"{color}\b", f"var(--{name})", body, flags=re.IGNORECASE)
    return f"{head}{style()}{start}{body}"


def style() -> str:
    """The colors, for the file itself and what is drawn by hand."""
    colors = dict.fromkeys(PALETTE.values())
    light, dark = ("".join(f"--{name}: {ways[way]}; " for name, *ways in colors) for way in (0, 1))
    return (
        f"<style>svg {{ {light}}} @media (prefers-color-scheme: dark) {{ svg {{ {dark}}} }} "
        "text { fill: var(--ink) }</style>\n "
    )


def save(figure: Figure, file: str | os.PathLike[str] | IO[bytes], **options: object) -> None:
    """What stands in for `Figure.savefig`: SVG, whatever the file is called."""
    text = svg(figure).encode()
    if hasattr(file, "write"):
        file.write(text)
    else:
        Path(file).write_bytes(text)


def same_svg(one: str, other: str) -> bool:
    """Whether two SVG files have the same elements, words and colors, at the same places up to half a point."""
    elements = [list(ElementTree.fromstring(text).iter()) for text in (one, other)]
    return len(elements[0]) == len(elements[1]) and all(map(_same_element, *elements))


def _same_element(one: ElementTree.Element, other: ElementTree.Element) -> bool:
    words, numbers = zip(*map(_taken_apart, (one, other)), strict=True)
    return words[0] == words[1] and np.allclose(*numbers, rtol=0, atol=_APART)


def _taken_apart(element: ElementTree.Element) -> tuple[list[str], list[float]]:
    """What has to be equal, and the numbers of the attributes."""
    attributes = _NAMED_BY_HASH.sub("", str({name: text for name, text in element.items() if name != "id"}))
    fixed = [element.tag, (element.text or "").strip(), _NUMBER.sub("0", attributes)]
    return fixed, [float(number) for number in _NUMBER.findall(attributes)]


def same_png(one: bytes, other: bytes) -> bool:
    """Whether two PNG files show the same, as far as an eye can tell that stands back a little.

    Fonts, their smoothing and the resolution may differ.
    """
    shapes = [image.width / image.height for image in map(_opened, (one, other))]
    return abs(shapes[0] / shapes[1] - 1) <= _SHAPES and _difference(one, other) <= _LARGEST


def _difference(one: bytes, other: bytes) -> float:
    """By how many of 255 levels two pictures differ in the parts in which they differ most.

    What each shows has to be found in the other at the same place or a pixel beside it.
    """
    images = [_opened(each) for each in (one, other)]
    height = round(_WIDTH * np.mean([image.height / image.width for image in images]))
    small = [image.resize((_WIDTH, height), Image.Resampling.LANCZOS) for image in images]
    pictures = [image.filter(ImageFilter.GaussianBlur(_BLUR)) for image in small]
    apart = np.maximum(_missing(*pictures), _missing(*reversed(pictures))).max(axis=2).ravel()
    worst = max(1, round(_SHARE * apart.size))
    return float(np.mean(np.sort(apart)[-worst:]))


def _opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def _missing(picture: Image.Image, other: Image.Image) -> np.ndarray:
    """How far each pixel is from the values that the other picture has around it."""
    values, low, high = (
        np.asarray(each, float)
        for each in (picture, other.filter(ImageFilter.MinFilter(3)), other.filter(ImageFilter.MaxFilter(3)))
    )
    return np.maximum(0, np.maximum(low - values, values - high))
