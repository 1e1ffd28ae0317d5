"""The pictures of the documentation: their colours, light and dark, and texts that a phone's reader can read."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pictures
import pytest

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
SVG = "{http://www.w3.org/2000/svg}"


def drawn():
    return [pytest.param(path, id=path.stem) for path in sorted(FIGURES.glob("*.svg"))]


@pytest.mark.parametrize("path", drawn())
def test_light_and_dark_have_the_colours_of_the_palette(path):
    text = path.read_text(encoding="utf-8")
    assert text.count(pictures.style().strip()) == 1
    others = set(re.findall(r"#[0-9a-f]{6}\b", text.replace(pictures.style().strip(), "")))
    assert not others, "colours that are the same on a light and on a dark ground"
    assert set(re.findall(r"var\(--(\w+)", text)) <= {name for name, *_ in pictures.PALETTE.values()} | {"own"}


@pytest.mark.parametrize("path", drawn())
def test_no_text_is_smaller_than_14_pixels(path):
    root = ElementTree.parse(path).getroot()
    width, unit = re.fullmatch(r"([\d.]+)(pt)?", root.get("width")).groups()
    scale = float(width) * (4 / 3 if unit else 1) / float(root.get("viewBox").split()[2])
    sizes = set(re.findall(r"font(?:-size)?: ([\d.]+)px", path.read_text(encoding="utf-8")))
    sizes |= {element.get("font-size") for element in root.iter() if element.get("font-size")}
    assert sizes
    assert min(map(float, sizes)) * scale >= 14 - 1e-6
    assert float(width) * (4 / 3 if unit else 1) <= 900


def test_a_picture_is_told_from_one_that_shows_something_else():
    one = (FIGURES / "gates.svg").read_text(encoding="utf-8")
    assert pictures.same_svg(one, one)
    assert not pictures.same_svg(one, one.replace("not", "never"))
