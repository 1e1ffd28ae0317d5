"""The text itself as the picture: its words in lines, each on a coloured ground."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.drawing import INK, TEXT, as_written, in_style, tint
from scratchlstm.inspection.gate_plots import chosen_units, looks_of
from scratchlstm.inspection.trace import LayerTrace, Trace
from scratchlstm.inspection.words import chosen_layer, steps_with_words

if TYPE_CHECKING:
    from matplotlib.path import Path

    from scratchlstm._support.figure import Figure

# in points, 72 to the inch
_WIDTH, _SIZE, _LINE, _GAP, _PAD, _MARGIN = 470.0, 11.0, 21.0, 3.0, 2.5, 14.0
_HEAD, _FOOT = 34.0, 58.0  # of the title, and of the key


@in_style
def colored_words(
    trace: Trace | LayerTrace, words: Sequence[str], by: str = "cell", unit: int | None = None,
    layer: str | None = None, sample: int = 0, title: str = "",
) -> "Figure":  # fmt: skip
    """The words of a sample as a text, each coloured by one unit's memory after it, or what it does to the loss.

    Args:
        trace: from `trace`, or one layer of it; for "saliency" with a target.
        words: one for each step, or for each step that counts (see `LayerTrace.mask`); others are not drawn.
        by: "cell" (c of `unit`, or h if the cell has no c), or "saliency" (gradient times input, Σ x · dL/dx over the
            features of the layer's input x: to first order, what the word adds to the loss. Above 0 it raises the
            loss, below 0 it lowers it).
        unit: for "cell". Default: the one that matters most (`LayerTrace.importance`).
        layer: the layer's name if there are several.
        sample: number of the row in the batch.
        title: above the picture.

    Raises:
        TypeError: not a trace, or words that are no strings.
        ValueError: no such layer, sample, unit or `by`, not as many words as steps, or a trace without a target.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.patches import BoxStyle

    from scratchlstm._support.figure import Figure

    of = chosen_layer(trace, layer, title)
    steps, texts = steps_with_words(of, words, sample)
    values, head, told = _values(of, by, unit, sample, steps)
    shapes = {text: _outlines(text) for text in set(texts)}
    places, lines = _set([shapes[text] for text in texts])
    height = _HEAD + lines * _LINE + _FOOT
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set(xlim=(0, _WIDTH), ylim=(height, 0))  # in points, downwards
    panel.axis("off")
    panel.text(_MARGIN, _HEAD / 2, title or head, va="center", fontsize=12, fontweight="bold")
    # all grounds at once, and all words as the outlines of their letters: one artist for each takes ten times as long
    rounded = BoxStyle.Round(pad=0, rounding_size=3)
    grounds = [rounded(left, middle - _LINE / 2 + 2, width, _LINE - 4, 1) for left, middle, width in places]
    panel.add_collection(PathCollection(grounds, facecolors=tint(values), linewidths=0), autolim=False)
    letters = [_letters(shapes[text], *place) for text, place in zip(texts, places, strict=True)]
    panel.add_collection(PathCollection(letters, facecolors=INK, linewidths=0), autolim=False)
    _key(panel, np.abs(values).max(), height, *told)
    return as_written(figure)


def _key(panel: Any, largest: float, height: float, label: str, below: str, above: str) -> None:
    """At the foot: what the colours mean."""
    panel.text(_MARGIN, height - 38, label, va="center")
    left, ends = _MARGIN + 4, np.array([-1.0, 0, 1])
    for value, text, face in zip(largest * ends, (below, "", above), tint(ends), strict=True):
        shown = f"{value:+.3g} {text}".replace("-", "−") if value else "0"
        panel.text(left, height - 15, shown, va="center", bbox={"boxstyle": "round", "facecolor": face, "linewidth": 0})
        left += 0.62 * TEXT * len(shown) + 20  # no letter of most words is wider


def _values(of: LayerTrace, by: str, unit: int | None, sample: int, steps: np.ndarray) -> tuple[np.ndarray, str, tuple]:
    """A number for each word, the title, and what the number is, below and above 0."""
    if not isinstance(by, str) or by not in ("cell", "saliency"):
        raise ValueError(f"by must be 'cell' or 'saliency', not {by!r}")
    if by == "cell":
        given = None if unit is None else checks.index("unit", unit, of.units)
        (chosen,) = chosen_units(of, given, sample, steps, 1)
        name, _ = looks_of(of)[of.memory[0]]
        values = of.arrays[of.memory[0]][sample, steps, chosen]
        return values, f"What unit {chosen} of {of.name} remembers", (f"{name} of unit {chosen}", "", "")
    if unit is not None:
        raise ValueError(f"unit is for by='cell'; saliency is that of the whole layer, but unit={unit!r} was given")
    x, dx = (array[sample, steps].astype("float64") for array in (of.input, of.gradient("d_input")))
    told = "gradient times input, Σ x · dL/dx", "lowers the loss", "raises the loss"
    return np.sum(x * dx, axis=-1), f"What each word does to the loss, through {of.name}", told


def _outlines(text: str) -> "Path":
    """The word's letters, from the baseline's left end, in points, downwards."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import text_to_path

    vertices, codes = text_to_path.get_text_path(FontProperties(), text)
    scale = _SIZE / text_to_path.FONT_SCALE
    # the first move, to where the next one starts, is there for a word without letters
    return Path(np.array([(0, 0), *vertices]) * (scale, -scale), [Path.MOVETO, *codes])


def _set(shapes: "Sequence[Path]") -> tuple[list[tuple[float, float, float]], int]:
    """Words set in lines: the left edge, middle and width of each one's ground, in points; and how many lines."""
    places, left, line = [], _MARGIN, 0
    for shape in shapes:
        width = max(np.ptp(np.asarray(shape.vertices)[:, 0]), 4) + 2 * _PAD
        if left + width > _WIDTH - _MARGIN and left > _MARGIN:
            left, line = _MARGIN, line + 1
        places.append((left, _HEAD + (line + 0.5) * _LINE, width))
        left += width + _GAP
    return places, line + 1


def _letters(shape: "Path", left: float, middle: float, width: float) -> "Path":
    """A word's outlines in the middle of its ground."""
    from matplotlib.path import Path

    vertices = np.asarray(shape.vertices)  # (N, 2)
    x = vertices[:, 0]
    start = left + (width - np.ptp(x)) / 2 - x.min(), middle + 0.36 * _SIZE  # capitals are 0.73 high
    return Path(vertices + start, shape.codes)
