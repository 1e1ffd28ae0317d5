"""Pictures of traces: that what is drawn is what was traced, that all can be read, and what is refused."""

import io
import itertools
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from own_cells import SlowCell
from small_models import IDS, LABELS, lstm, stack

from scratchlstm._support.drawing import AHEAD, BACK, tint
from scratchlstm.cells import FullGateLSTMCell, NoInputGateLSTMCell, ProjectedLSTMCell
from scratchlstm.inspection import colored_words, gate_heatmap, gate_saturation, gates_over_words, trace
from scratchlstm.inspection.words import drawable
from scratchlstm.layers import GRU, RNN, SimpleRNN

TRACE = trace(stack(lstm()), IDS, LABELS)
LAYER = TRACE.lstm
WORDS = ["one", "two", "three", "four", "five"]
ODD = [
    *("😀", "👩‍👩‍👧", "שלום", "مرحبا", "$5", "$10", r"$\alpha$", r"\frac", "_^{}", "%s", "漢字", "e\u0301", "\ud800"),
    *("<script>alert(1)</script>", "&amp;", "a\nb\tc", "\x00", "\u200b", "", "  ", "x" * 300),
]


def long_trace(T, units=4):
    return trace(stack(lstm(units)), np.random.default_rng(0).integers(1, 6, size=(1, T)), [1])


WITH_WORDS = gates_over_words, gate_heatmap, colored_words


def told(panel):
    return [text.get_text() for text in panel.texts]


def draw(figure):
    """Draw as for a file; every warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


@pytest.mark.parametrize("plot", [gates_over_words, gate_heatmap, colored_words, gate_saturation])
def test_one_layer_of_a_trace_is_drawn_as_the_whole_trace_is(plot):
    words = [] if plot is gate_saturation else [WORDS]
    whole, one, named = plot(TRACE, *words), plot(LAYER, *words), plot(LAYER, *words, layer="lstm")
    assert whole._repr_png_() == one._repr_png_() == named._repr_png_()
    with pytest.raises(ValueError, match="there is no layer 'gru' here; there is lstm"):
        plot(LAYER, *words, layer="gru")


# --- gates over words -------------------------------------------------------------------------------------------------


def test_each_unit_has_its_gates_and_its_memory():
    figure = draw(gates_over_words(TRACE, WORDS, sample=2, units=(3, 1), title="a review"))
    assert figure.get_suptitle() == "a review"
    assert [panel.get_title() for panel in figure.axes[::2]] == ["unit 3", "unit 1"]
    for unit, above, below in zip((3, 1), figure.axes[::2], figure.axes[1::2], strict=True):
        for panel, names in ((above, "ifog"), (below, "ch")):
            for name, line in zip(names, panel.lines, strict=False):
                np.testing.assert_array_equal(line.get_ydata(), getattr(LAYER, name)[2, :, unit])
            assert told(panel) == [line.get_label() for line in panel.lines[: len(names)]]
            assert [label[-1] for label in told(panel)] == list(names)
            assert panel.get_ylabel()
            assert len({line.get_color() for line in panel.lines[: len(names)]}) == len(names)
            assert [text.get_color() for text in panel.texts] == [line.get_color() for line in panel.lines[:-1]]
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == WORDS


def test_the_units_that_matter_most_are_drawn_where_none_is_named():
    first, second = np.argsort(np.abs(LAYER.dc[2] * LAYER.c[2]).sum(axis=0))[::-1][:2]
    titles = [panel.get_title() for panel in gates_over_words(TRACE, WORDS, sample=2).axes[::2]]
    assert titles == [f"unit {first}", f"unit {second}"]
    assert f"unit {first} " in colored_words(TRACE, WORDS, sample=2).axes[0].texts[0].get_text()


@pytest.mark.parametrize("words", [WORDS, WORDS[2:], np.array(WORDS), tuple(WORDS)])
def test_steps_that_do_not_count_are_left_out(words):
    panel = gates_over_words(TRACE, words, sample=0, units=0).axes[1]
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), LAYER.c[0, 2:, 0])
    assert [text.get_text() for text in panel.get_xticklabels()] == WORDS[2:]


def test_an_activation_without_bounds_is_not_cut_off():
    found = trace(stack(lstm(activation="relu")), IDS)
    below, above = gates_over_words(found, WORDS, sample=2, units=range(4)).axes[0].get_ylim()
    assert below <= 0 <= found.lstm.g[2, :, 0].max() <= above


# --- other cells ------------------------------------------------------------------------------------------------------

CELLS = {
    "gru": (lambda: GRU(4, dtype="float64"), ["update gate u", "reset gate r", "candidate n"], ["hidden state h"]),
    "simple rnn": (lambda: SimpleRNN(4, dtype="float64"), [], ["hidden state h"]),
    "own": (
        lambda: RNN(SlowCell(4), dtype="float64"), ["gate open", "gate idea"], ["state m", "hidden state h"]
    ),
    "h is narrow": (
        lambda: RNN(ProjectedLSTMCell(4, 3), dtype="float64"),
        ["input gate i", "forget gate f", "output gate o", "candidate g"], ["cell c"],
    ),
    "gates are states": (
        lambda: RNN(FullGateLSTMCell(4), dtype="float64"),
        ["input gate i", "forget gate f", "output gate o", "candidate g"], ["cell c", "hidden state h"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_any_cell_has_its_gates_above_and_its_states_below(name):
    make, gates, states = CELLS[name]
    found = trace(stack(make()), IDS, LABELS)
    layer, figure = found[None], draw(gates_over_words(found, WORDS, sample=2, units=(3, 1)))
    rows = [row for row in (gates, states) if row]
    assert len(figure.axes) == 2 * len(rows)
    for panel, row, unit in zip(figure.axes, rows * 2, np.repeat([3, 1], len(rows)), strict=True):
        assert told(panel) == row
        for label, line in zip(row, panel.lines, strict=False):
            np.testing.assert_array_equal(line.get_ydata(), layer.arrays[label.split()[-1]][2, :, unit])
    assert figure.axes[0].get_title() == "unit 3"
    assert len({line.get_color() for panel in figure.axes[: len(rows)] for line in panel.lines[:-1]}) == len(
        gates + states
    )
    for gate in (*layer.gates, *layer.states, *(each for each in layer.gradients if each[:3] in ("dh", "dc", "dz_"))):
        picture = gate_heatmap(found, WORDS, gate, sample=2).axes[0].images[0]
        np.testing.assert_array_equal(picture.get_array(), layer.arrays[gate][2].T)
    first = {"gru": "Update gate u", "simple rnn": "Hidden state h", "own": "Gate open"}.get(name, "Forget gate f")
    assert draw(gate_heatmap(found, WORDS)).axes[0].get_title().startswith(f"{first} of ")
    (panel,) = draw(colored_words(found, WORDS, unit=2, sample=2)).axes
    assert f"{states[0]} of unit 2" in told(panel)
    draw(colored_words(found, WORDS, "saliency"))


def test_a_quantity_has_one_colour_in_every_picture():
    colors = {}
    for make in (lstm, *(of[0] for of in CELLS.values())):
        found = trace(stack(make()), IDS)
        lines = [line for panel in gates_over_words(found, WORDS, units=0).axes for line in panel.lines]
        for line in lines:
            colors.setdefault(line.get_label(), set()).add(line.get_color())
        if found[None].gates:
            for panel in gate_saturation(found).axes:
                colors[panel.get_title()[0].lower() + panel.get_title()[1:]].add(
                    "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in panel.patches[0].get_facecolor()[:3]))
                )
    colors = {label: {str(color).lower() for color in of} for label, of in colors.items() if " " in label}
    assert all(len(of) == 1 for of in colors.values())
    assert {label: colors[label] for label in ("update gate u", "reset gate r", "candidate n")} == {
        "update gate u": colors["forget gate f"],
        "reset gate r": colors["output gate o"],
        "candidate n": colors["candidate g"],
    }


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (CELLS["gru"][0], ["Update gate u", "Reset gate r"]),
        (CELLS["own"][0], ["Gate open"]),
        (lambda: RNN(NoInputGateLSTMCell(4), dtype="float64"), ["Forget gate f", "Output gate o"]),
    ],
)
def test_the_gates_that_stay_between_0_and_1_saturate(make, expected):
    found = trace(stack(make()), IDS)
    assert [panel.get_title() for panel in draw(gate_saturation(found)).axes] == expected
    for title in expected:
        low, high = gate_heatmap(found, WORDS, title.split()[-1]).axes[0].images[0].get_clim()
        assert (low, high) == (0, 1)


# --- heat map ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["i", "f", "g", "o", "c", "h", "dh", "dc", "dz_i", "dz_f", "dz_g", "dz_o"])
def test_a_heat_map_has_a_row_for_each_unit_and_a_column_for_each_word(gate):
    panel, bar = gate_heatmap(TRACE, WORDS, gate, sample=0).axes
    (picture,) = panel.images
    np.testing.assert_array_equal(picture.get_array(), getattr(LAYER, gate)[0, 2:].T)
    assert [text.get_text() for text in panel.get_xticklabels()] == WORDS[2:]
    assert panel.get_ylabel() == "unit"
    low, high = picture.get_clim()
    assert (low, high) == (0, 1) if gate in "ifo" else low == -high < 0
    assert gate.removeprefix("d") in bar.get_ylabel()
    names = {"i": "Input gate i", "f": "Forget gate f", "g": "Candidate g", "o": "Output gate o", "c": "Cell c"}
    assert panel.get_title() == f"{(names | {'h': 'Hidden state h'}).get(gate, f'dL/{gate}')} of lstm"


def test_a_layer_is_called_as_it_is_called():
    found = trace(stack(lstm(name="Encoder_A")), IDS, LABELS)
    assert gate_heatmap(found, WORDS).axes[0].get_title() == "Forget gate f of Encoder_A"


def test_one_unit_has_one_tick():
    panel = draw(gate_heatmap(trace(stack(lstm(1)), IDS), WORDS)).axes[0]
    low, high = sorted(panel.get_ylim())
    assert [tick for tick in panel.get_yticks() if low <= tick <= high] == [0]


# --- words in colours -------------------------------------------------------------------------------------------------


def test_words_have_the_colour_of_their_cell():
    (panel,) = draw(colored_words(TRACE, WORDS, unit=1, sample=2)).axes
    grounds, letters = panel.collections
    assert panel.texts[0].get_text() == "What unit 1 of lstm remembers"
    for drawn, word in zip(letters.get_paths(), WORDS, strict=True):
        outlines = np.array(text_to_path.get_text_path(FontProperties(), word)[0])[:, 0]
        np.testing.assert_allclose(np.diff(drawn.vertices[1:, 0]), np.diff(outlines) * 11 / 100, atol=1e-9)
    c = LAYER.c[2, :, 1]
    largest = f"{np.abs(c).max():.3g}"
    assert told(panel)[1:] == ["cell c of unit 1", f"−{largest} ", "0", f"+{largest} "]
    np.testing.assert_allclose(grounds.get_facecolors(), tint(c))


@pytest.mark.parametrize("size", [1e-7, 1e-4, 1.0, 1e4])
@pytest.mark.parametrize("by", ["cell", "saliency"])
def test_the_key_of_the_colours_stands_apart(by, size):
    layer = replace(LAYER, arrays=LAYER.arrays | {"c": LAYER.c * size, "d_input": LAYER.d_input * size})
    figure = colored_words(replace(TRACE, layers={"lstm": layer}), WORDS, by, sample=2)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts if text.get_bbox_patch()]
    assert len(boxes) == 3
    assert all(first.x1 + 3 < second.x0 for first, second in itertools.pairwise(boxes))
    assert boxes[-1].x1 < figure.bbox.x1
    assert min(box.y0 for box in boxes) > 0


def test_colours_have_a_sign_and_0_has_none():
    below, zero, above = tint(np.array([-2.0, 0, 1]))
    assert zero[3] == 0
    assert below[3] == 2 * above[3] > 0
    assert to_hex(below) == BACK
    assert to_hex(above) == AHEAD


def test_words_have_the_colour_of_what_they_add_to_the_loss():
    """Measured: what the loss changes by if a word's input is scaled by 1 + ε, per ε."""
    ids, label = np.array([[1, 2, 3, 4, 5]]), np.array([1])

    def loss(word, factor):
        model = stack(lstm())
        weights = model.get_weights()
        weights[0][word] *= factor
        model.set_weights(weights)
        return model.evaluate(ids, label, verbose=0)

    added = np.array([(loss(word, 1 + 1e-5) - loss(word, 1 - 1e-5)) / 2e-5 for word in ids[0]])
    assert added.min() < 0 < added.max()
    (panel,) = draw(colored_words(trace(stack(lstm()), ids, label), WORDS, "saliency", title="why")).axes
    assert panel.texts[0].get_text() == "why"
    largest = f"{np.abs(added).max():.3g}"
    assert told(panel)[1:] == [
        "gradient times input, Σ x · dL/dx", f"−{largest} lowers the loss", "0", f"+{largest} raises the loss",
    ]  # fmt: skip
    np.testing.assert_allclose(panel.collections[0].get_facecolors(), tint(added), rtol=1e-5)


@pytest.mark.parametrize("by", ["cell", "saliency"])
@pytest.mark.parametrize("T", [100, 10_000])
def test_a_text_is_set_in_lines_that_can_be_read(by, T):
    """Every word is on its background, no two backgrounds touch or leave the picture, and ink contrasts."""
    words = [("word", "i", "extraordinarily", "cinema", "")[n % 5] for n in range(T)]
    figure = colored_words(long_trace(T), words, by)
    panel = figure.axes[0]
    grounds, letters = panel.collections
    assert len(grounds.get_paths()) == len(letters.get_paths()) == T
    (x0, y0), (x1, y1) = corners(grounds)
    (word_x0, word_y0), (word_x1, word_y1) = corners(letters)
    assert np.all((x0 < word_x0) & (word_x1 < x1) & (y0 <= word_y0) & (word_y1 <= y1))
    assert np.all((x0 >= 0) & (x1 <= panel.get_xlim()[1]) & (y0 >= 0) & (y1 <= panel.get_ylim()[0]))
    assert np.all((x0[1:] > x1[:-1]) | (y0[1:] > y1[:-1]))
    assert len(np.unique(y0)) > T / 20
    strength = grounds.get_facecolors()[:, 3:]
    (ink,) = letters.get_facecolors()
    for light in ("#ffffff", strength * grounds.get_facecolors()[:, :3] + 1 - strength):
        assert np.min(contrast(ink, light)) >= 4.5  # WCAG's for text
    figure.set_dpi(72)  # a point is a pixel
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    left, right, top, bottom = (int(edge[-2]) for edge in (x0, x1, y0, y1))  # of the last "cinema"
    assert len(np.unique(np.asarray(canvas.buffer_rgba())[top : bottom + 1, left : right + 1, :3])) > 20


def contrast(ink, grounds):
    """WCAG 2.2's contrast of a colour with darker or lighter ones."""
    one, other = (luminance(np.atleast_2d(to_rgba_array(color))[:, :3]) for color in (ink, grounds))
    return (np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05)


def luminance(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def corners(paths):
    """The least and the largest x and y of each path, two arrays (2, N)."""
    return (np.transpose([edge(path.vertices, axis=0) for path in paths.get_paths()]) for edge in (np.min, np.max))


# --- saturation -------------------------------------------------------------------------------------------------------


def test_histograms_count_what_is_shut_and_open():
    values = np.full(LAYER.f.shape, 0.5)
    values[~LAYER.mask] = 0  # do not count
    values[2, :4, 0] = 0.95, 0.96, 0.97, 0.05
    found = replace(TRACE, layers={"lstm": replace(LAYER, arrays=LAYER.arrays | {"f": values})})
    panels = draw(gate_saturation(found)).axes
    assert [panel.get_title() for panel in panels] == ["Input gate i", "Forget gate f", "Output gate o"]
    n = 4 * np.count_nonzero(LAYER.mask)
    assert [text.get_text() for text in panels[1].texts] == [f"{1 / n:.1%}\nbelow 0.1", f"{3 / n:.1%}\nabove 0.9"]
    for panel in panels:
        heights = [patch.get_height() for patch in panel.patches[:40]]
        assert sum(heights) == pytest.approx(1)
        assert panel.get_xlabel() == "value"


def test_a_share_beyond_all_is_not_named():
    values = np.full(LAYER.f.shape, 0.5)
    layer = replace(LAYER, arrays=LAYER.arrays | {"i": values})
    panels = draw(gate_saturation(replace(TRACE, layers={"lstm": layer}))).axes
    assert panels[0].get_ylim()[1] > 1.1  # room above the bar, in which the shares stand
    for panel in panels:
        assert max(panel.get_yticks()) == pytest.approx(1)


# --- anything goes in a title -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("text", ["costs $5 and $6 for a_b", "$\\x$", "a$_$b", "_hidden"])
@pytest.mark.parametrize("plot", [*WITH_WORDS, gate_saturation])
def test_titles_and_names_are_shown_letter_by_letter(plot, text):
    found = trace(stack(lstm(name=text)), IDS, LABELS)
    words = [] if plot is gate_saturation else [WORDS]
    for title in ("", text):
        figure = draw(plot(found, *words, title=title))
        texts = [*figure.texts, *(each for panel in figure.axes for each in (panel.title, *panel.texts))]
        (shown,) = [each for each in texts if text in each.get_text()]
        assert not shown.get_parse_math()


# --- anything goes in a word ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", WITH_WORDS)
def test_any_word_is_drawn_without_a_warning(plot):
    draw(plot(long_trace(len(ODD)), ODD))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("film", "film"),
        ("שלום", "שלום"),
        ("$5", "$5"),
        ("a\nb\tc", "a b c"),
        ("漢", "□"),
        ("a\x00\u200b\ud800b", "ab"),
        ("x" * 24, "x" * 24),
        ("x" * 25, "x" * 23 + "…"),
    ],
)
def test_a_word_as_it_is_drawn(word, expected):
    assert drawable(word) == expected


@pytest.mark.parametrize("plot", [gates_over_words, gate_heatmap])
def test_a_hundred_words_do_not_overlap_and_very_many_are_thinned(plot):
    figure = plot(long_trace(100), [f"word{n}" for n in range(100)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    panel = next(each for each in reversed(figure.axes) if each.get_xticklabels())
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in panel.get_xticklabels()]
    assert len(boxes) == 100
    for first, second in itertools.pairwise(boxes):
        assert first.x1 <= second.x0 + 1
    assert min(box.y0 for box in boxes) > 0
    panel = next(each for each in plot(long_trace(400), ["word"] * 400).axes if each.get_xlabel())
    assert len(panel.get_xticklabels()) == 134
    assert panel.get_xlabel() == "one word in 3 is named"


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", WITH_WORDS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"trace": WORDS}, TypeError, r"trace must be the result of trace\(model, x\), or one layer of it, not list"),
        ({"layer": "gru"}, ValueError, "there is no layer 'gru' here; there is lstm"),
        ({"words": "one two"}, TypeError, "words must be a list of strings, one for each step, not 'one two'"),
        ({"words": 5}, TypeError, "words must be a list of strings"),
        ({"words": [1, 2, 3, 4, 5]}, TypeError, "words must be strings, but 1 is int"),
        ({"words": WORDS[:2]}, ValueError, "there are 5 steps, of which 3 count, but 2 words; padding is a step, too"),
        ({"words": WORDS[:3], "sample": 2}, ValueError, "there are 5 steps, but 3 words"),
        ({"words": []}, ValueError, "but 0 words"),
        ({"sample": 3}, ValueError, "sample must be from 0 to 2, not 3"),
        ({"sample": -1}, ValueError, "sample must be a whole number of at least 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plot, change, error, match):
    with pytest.raises(error, match=match):
        plot(**({"trace": TRACE, "words": WORDS} | change))


@pytest.mark.parametrize(
    ("draw_it", "match"),
    [
        (lambda: gates_over_words(TRACE, WORDS, units=[0, 4]), "each of units must be from 0 to 3, not 4"),
        (lambda: gates_over_words(TRACE, WORDS, units=()), "units must name at least one unit"),
        (lambda: gates_over_words(TRACE, WORDS, units="f"), "each of units must be a whole number"),
        (lambda: gate_heatmap(TRACE, WORDS, "forget"), "gate must be one of i, f, g, o, c, h, dh, .*, not 'forget'"),
        (lambda: gate_heatmap(trace(stack(lstm()), IDS), WORDS, "dh"), "dh is a gradient, .* needs a target"),
        (lambda: colored_words(TRACE, WORDS, "gate"), "by must be 'cell' or 'saliency', not 'gate'"),
        (lambda: colored_words(TRACE, WORDS, "saliency", unit=1), "unit is for by='cell'"),
        (lambda: colored_words(trace(stack(lstm()), IDS), WORDS, "saliency"), "d_input is a gradient"),
        (lambda: colored_words(TRACE, WORDS, unit=4), "unit must be from 0 to 3, not 4"),
        (lambda: colored_words(TRACE, WORDS, unit=[0, 1]), r"unit must be a whole number of at least 0, not \[0, 1\]"),
        (lambda: gates_over_words(trace(stack(lstm()), IDS * 0), WORDS), "sample 0 is entirely masked"),
        (lambda: gate_saturation(trace(stack(lstm()), IDS * 0)), "every step is masked"),
        (lambda: gate_saturation(trace(stack(lstm(recurrent_activation="tanh")), IDS)), "those of lstm are tanh"),
        (
            lambda: gate_saturation(trace(stack(SimpleRNN(4, dtype="float64")), IDS)),
            r"at 0 and 1, but simple_rnn \(SimpleRNNCell\) has none between them",
        ),
        (
            lambda: gate_heatmap(trace(stack(GRU(4, dtype="float64")), IDS), WORDS, "f"),
            "gate must be one of u, r, n, h, dh, dz_u, dz_r, dz_n, not 'f'",
        ),
    ],
)
def test_what_is_not_there_is_said(draw_it, match):
    with pytest.raises(ValueError, match=match):
        draw_it()


def test_pyplot_and_a_display_play_no_part(tmp_path):
    program = """
import sys
import numpy as np
from scratchlstm import Sequential
from scratchlstm.inspection import gate_saturation, trace
from scratchlstm.layers import LSTM
assert "matplotlib" not in sys.modules
gate_saturation(trace(Sequential([LSTM(2, input_shape=(3, 2))]), np.ones((1, 3, 2)))).savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    path, command = tmp_path / "gates.png", [sys.executable, "-c", program]
    without = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    without["MPLBACKEND"] = "tkagg"  # which needs a display
    run = subprocess.run([*command, path], env=without, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert path.stat().st_size > 5000
