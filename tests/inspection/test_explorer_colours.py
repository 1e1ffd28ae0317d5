"""The colours of all pictures and of the explorer page: the same, told apart by all eyes, and easy to read."""

import itertools
import re
from importlib import resources

import numpy as np
import pytest

from scratchlstm._support import drawing

STYLE = resources.files("scratchlstm.inspection.explorer").joinpath("style/base.css").read_text("utf-8")
PAGE = {name: both for name, *both in re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\);", STYLE)}
TEXTS = [*"ifgoch", "ink", "quiet", "ahead", "back", "third"]
# what people without red, green or blue cones see, of linear red, green and blue: Machado, Oliveira & Fernandes (2009)
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
APART = {"all cones": 35, "no red": 21, "no green": 23, "no blue": 8}  # at least; the last are 1 in 30,000 people


def linear(color):
    parts = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(color):
    """CIE L*a*b*, in which a distance of some 2 can just be seen."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(color, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_pictures_have_the_colours_of_the_page():
    assert {name: PAGE[name][0] for name in "ifgoch"} == drawing.QUANTITIES
    shared = {"ink": "INK", "quiet": "QUIET", "line": "RULE", "ahead": "AHEAD", "back": "BACK", "third": "THIRD"}
    assert {name: PAGE[name][0] for name in shared} == {
        name: getattr(drawing, constant) for name, constant in shared.items()
    }


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("way", [0, 1], ids=["light", "dark"])
def test_the_colours_differ_for_all_eyes(way, eyes):
    seen = {name: lab(EYES[eyes] @ linear(PAGE[name][way])) for name in "ifgoch"}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > APART[eyes], (one, other)


@pytest.mark.parametrize("way", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(way):
    """WCAG AA: 4.5 to 1."""
    luminance = {name: linear(both[way]) @ [0.2126, 0.7152, 0.0722] for name, both in PAGE.items()}
    for text in TEXTS:
        for ground in ("ground", "card"):
            light, dark = sorted([luminance[text], luminance[ground]], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
