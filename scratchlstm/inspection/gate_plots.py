"""Pictures of a trace: gates over words, one gate of all units, words coloured, saturation.

Each returns its matplotlib figure; none shows or saves it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.drawing import DASHES, PALETTE, add_legend, as_written
from scratchlstm.inspection.trace import LayerTrace, Trace
from scratchlstm.inspection.words import chosen_layer, steps_with_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPEN, SHUT = 0.9, 0.1  # beyond which a gate is called saturated (Karpathy, Johnson & Fei-Fei, 2015)
_MOST_LABELS = 150  # more words than these are not all named
_NAMES = {
    "i": "input gate i", "f": "forget gate f", "g": "candidate g", "o": "output gate o",
    "c": "cell c", "h": "hidden state h",
}  # fmt: skip


def gates_over_words(
    trace: Trace, words: Sequence[str], layer: str | None = None, sample: int = 0, units: Any = None, title: str = ""
) -> "Figure":
    """Gates, candidate, cell and hidden state over the words of a sample, a pair of panels for each unit.

    Args:
        trace: from `trace`.
        words: one for each step, or for each step that counts (see `LayerTrace.mask`); others are not drawn.
        layer: the LSTM's name, where there are several.
        sample: number of the row in the batch.
        units: numbers of units. Default: the two that matter most (`LayerTrace.importance`).
        title: above the picture.

    Raises:
        TypeError: not a trace, or words that are no strings.
        ValueError: no such layer, sample or unit, or not as many words as steps.
    """
    from matplotlib.figure import Figure

    of = chosen_layer(trace, layer, title)
    steps, texts = steps_with_words(of, words, sample)
    chosen = chosen_units(of, units, sample, steps, 2)
    figure = Figure(figsize=_size(texts, 3.4 * len(chosen) + 0.6), layout="constrained")
    grid = figure.subplots(2 * len(chosen), 1, sharex=True, squeeze=False, height_ratios=[3, 2] * len(chosen))
    bounded = {of.activation, of.recurrent_activation} <= {"tanh", "sigmoid", "hard_sigmoid"}  # from -1 to 1
    for unit, (above, below) in zip(chosen, grid[:, 0].reshape(-1, 2), strict=True):
        for panel, names in ((above, "ifog"), (below, "ch")):
            for number, name in enumerate(names):
                style: dict[str, Any] = {"color": PALETTE[number + 4 * (panel is below)], "linestyle": DASHES[number]}
                style |= {"marker": "o", "markersize": 3} if len(steps) <= 40 else {}
                panel.plot(getattr(of, name)[sample, steps, unit], label=_NAMES[name], linewidth=1.8, **style)
            panel.grid(alpha=0.25)
            add_legend(panel, panel.lines, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
            panel.axhline(0, color="0.5", linewidth=0.8, zorder=0)
        above.set(ylabel="gates, candidate", ylim=(-1.05, 1.05) if bounded else None, title=f"unit {unit}")
        below.set(ylabel="memory")
    _name_words(below, texts)
    figure.suptitle(title or f"What {of.name} does with each word")
    return as_written(figure)


def gate_heatmap(
    trace: Trace, words: Sequence[str], gate: str = "f", layer: str | None = None, sample: int = 0, title: str = ""
) -> "Figure":
    """One gate of all units over all words of a sample.

    Args:
        trace, words, layer, sample: see `gates_over_words`.
        gate: "i", "f", "g", "o", or "c" or "h"; with a target also "dh", "dc", "dz_i", "dz_f", "dz_g", "dz_o".
        title: above the picture.

    Raises:
        TypeError, ValueError: as `gates_over_words`; no such gate, or a gradient in a trace without a target.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    of = chosen_layer(trace, layer, title)
    steps, texts = steps_with_words(of, words, sample)
    names = [*_NAMES, "dh", "dc", "dz_i", "dz_f", "dz_g", "dz_o"]
    if not isinstance(gate, str) or gate not in names:
        raise ValueError(f"gate must be one of {', '.join(names)}, not {gate!r}")
    label = _NAMES.get(gate, f"dL/d{gate.removeprefix('d')}")
    head = label.capitalize() if gate in _NAMES else label
    values = (getattr(of, gate) if gate in _NAMES else of.gradient(gate))[sample, steps].T
    figure = Figure(figsize=_size(texts, min(0.8 + 0.14 * max(of.units, 8), 24)), layout="constrained")
    panel = figure.subplots()
    look = {"cmap": "cividis", "vmin": 0, "vmax": max(1, values.max())} if gate in "ifo" else scale(values)
    picture = panel.imshow(values, aspect="auto", interpolation="nearest", **look)
    panel.set(ylabel="unit", title=title or f"{head} of {of.name}")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _name_words(panel, texts)
    figure.colorbar(picture, ax=panel, label=label, aspect=30, pad=0.01)
    return as_written(figure)


def gate_saturation(trace: Trace, layer: str | None = None, title: str = "") -> "Figure":
    """How open the gates i, f and o are: histograms over all samples, units and steps that count.

    The parts below 0.1 (shut) and above 0.9 (open) are shaded and stated; a saturated gate has next to no gradient.

    Args:
        trace, layer, title: see `gates_over_words`.

    Raises:
        TypeError, ValueError: as `gates_over_words`; no step that counts, or gates that are not between 0 and 1.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    of = chosen_layer(trace, layer, title)
    if not of.mask.any():
        raise ValueError("every step is masked: there is nothing to draw")
    if of.recurrent_activation not in ("sigmoid", "hard_sigmoid"):
        raise ValueError(f"gates saturate at 0 and 1, but those of {of.name} are {of.recurrent_activation}")
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for panel, gate, color in zip(figure.subplots(1, 3, sharey=True), "ifo", PALETTE, strict=False):
        values = getattr(of, gate)[of.mask].ravel()
        panel.hist(values, bins=np.linspace(0, 1, 41), weights=np.full(values.size, 1 / values.size), color=color)
        shut, opened = f"{np.mean(values < SHUT):.1%}\nbelow {SHUT}", f"{np.mean(values > OPEN):.1%}\nabove {OPEN}"
        for start, end, x, side, told in ((0, SHUT, 0.02, "left", shut), (OPEN, 1, 0.98, "right", opened)):
            panel.axvspan(start, end, color="0.88", zorder=0)
            panel.text(x, 0.97, told, ha=side, va="top", transform=panel.transAxes)
        panel.set(xlim=(0, 1), xlabel="value", title=_NAMES[gate].capitalize())
        panel.margins(y=0.25)  # room for what stands in the corners
        panel.yaxis.set_major_formatter(PercentFormatter(1))
    first = figure.axes[0]  # the others have its axis
    ylim = first.get_ylim()
    first.set_yticks([tick for tick in first.get_yticks() if 0 <= tick <= min(1, ylim[1])])
    first.set(ylabel="share of values", ylim=ylim)
    figure.suptitle(title or f"How open the gates of {of.name} are")
    return as_written(figure)


def chosen_units(of: LayerTrace, units: Any, sample: int, steps: np.ndarray, default: int) -> list[int]:
    """Numbers of units, checked; without any those that matter most at these steps."""
    if units is None:
        return np.argsort(-of.importance(sample, steps), kind="stable")[:default].tolist()
    given = list(units) if isinstance(units, Sequence | np.ndarray) and not isinstance(units, str) else [units]
    if not given:
        raise ValueError("units must name at least one unit")
    return [checks.index("each of units", unit, of.units) for unit in given]


def scale(values: np.ndarray) -> dict[str, Any]:
    """Colours for what has a sign: two hues, white at 0."""
    largest = np.abs(values).max() or 1
    return {"cmap": "PuOr", "vmin": -largest, "vmax": largest}


def _size(texts: Sequence[str], height: float) -> tuple[float, float]:
    """Of a picture with room for these words below panels of this height, in inches."""
    return float(np.clip(2.4 + 0.15 * len(texts), 7, 26)), height + 0.5 + 0.07 * max(map(len, texts))


def _name_words(panel: Any, texts: Sequence[str]) -> None:
    """The words below the panel, from bottom to top; where there are very many, not all of them."""
    every = -(-len(texts) // _MOST_LABELS)
    panel.set_xticks(range(0, len(texts), every), texts[::every], rotation=90, fontsize=8, parse_math=False)
    label = "word" if every == 1 else f"word (one in {every} is named)"
    panel.set(xlabel=label, xlim=(-0.5, len(texts) - 0.5))
