"""One colour for each quantity: those of the explorer page have the hues of the pictures."""

import colorsys
import re
from importlib import resources

import pytest
from matplotlib.colors import to_rgb
from small_models import IDS, lstm, stack

from scratchlstm.inspection import gates_over_words, trace

STYLE = resources.files("scratchlstm.inspection.explorer").joinpath("style/base.css").read_text("utf-8")


def _hue(color):
    return 360 * colorsys.rgb_to_hsv(*to_rgb(color))[0]


@pytest.mark.parametrize("name", "ifgoch")
def test_a_quantity_has_one_hue(name):
    panels = gates_over_words(trace(stack(lstm()), IDS[:1]), ["a", "b", "c", "d", "e"]).axes
    (line, *_) = [line for panel in panels for line in panel.lines if line.get_label().endswith(f" {name}")]
    for color in re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\);", STYLE).groups():
        apart = abs(_hue(color) - _hue(line.get_color())) % 360
        assert min(apart, 360 - apart) < 30
