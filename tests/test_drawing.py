"""Labels at the ends of lines: each at its own, none over another."""

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from scratchlstm._support.drawing import TEXT, in_style, label_ends


def panel_of(*ends, log=False):
    panel = Figure(figsize=(6, 3), layout="constrained").subplots()
    panel.set_xlim(0, 1)
    for number, end in enumerate(ends):
        panel.plot([0, 1], [1, end], label=f"line {number}")
    if log:
        panel.set_yscale("log")
    return panel


def boxes(panel):
    panel.figure.draw_without_rendering()
    return {text.get_text(): text.get_window_extent() for text in panel.texts}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("ends", [(5,), (1, 9), (5, 5.01, 5.02, 9), (3, 2, 1), (7,) * 6, (9, np.nan, 1)])
def test_labels_keep_the_order_of_the_ends_and_do_not_overlap(ends, log):
    panel = panel_of(*ends, log=log)
    label_ends(panel)
    found = [box for _, box in sorted(boxes(panel).items())]
    assert len(found) == len(ends)
    assert all(box.x0 > panel.bbox.x1 and box.x1 <= panel.figure.bbox.x1 for box in found if np.isfinite(ends).all())
    heights = np.array([(box.y0 + box.y1) / 2 for box in found])
    assert np.all(np.diff(np.sort(heights)) > TEXT / 72 * panel.figure.dpi)
    order = np.argsort(np.nan_to_num(ends, nan=-np.inf), kind="stable")
    assert np.all(np.diff(heights[order]) > 0)


def test_a_label_that_has_room_is_at_the_end_of_its_line():
    panel = panel_of(2, 9)
    label_ends(panel)
    for box, end in zip(boxes(panel).values(), (2, 9), strict=True):
        assert abs((box.y0 + box.y1) / 2 - panel.transData.transform((1, end))[1]) < 3


def test_labels_are_written_again_and_other_texts_and_lines_stay():
    panel = panel_of(2, 900)
    panel.text(0, 2, "a note")
    panel.axhline(50, label="$limit$")
    panel.axhline(60)
    label_ends(panel)
    before = boxes(panel)
    panel.set_yscale("log")
    label_ends(panel)
    assert list(before) == list(boxes(panel)) == ["a note", "line 0", "line 1", "$limit$"]
    assert boxes(panel)["$limit$"].y0 > before["$limit$"].y0


def test_the_style_ends_with_the_function():
    size = rcParams["font.size"]
    assert in_style(lambda: rcParams["font.size"])() == TEXT
    assert rcParams["font.size"] == size
