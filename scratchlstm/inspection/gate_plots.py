"""Pictures of a trace: gates over words, one gate of all units, words coloured, saturation.

Each returns its matplotlib figure; none shows or saves it.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.drawing import AHEAD, BACK, QUANTITIES, QUIET, RULE, as_written, in_style, label_ends
from scratchlstm.inspection.trace import LayerTrace, Trace
from scratchlstm.inspection.words import chosen_layer, steps_with_words

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure

OPEN, SHUT = 0.9, 0.1  # beyond which a gate is called saturated (Karpathy, Johnson & Fei-Fei, 2015)
_MOST_LABELS = 150  # more words than these are not all named
_PER_WORD = 0.18  # inches
_NAMES = {
    "i": "input gate", "f": "forget gate", "o": "output gate", "g": "candidate", "c": "cell", "h": "hidden state",
    "u": "update gate", "r": "reset gate", "n": "candidate",
}  # fmt: skip
# a GRU's u keeps the old state, as f does; r opens it to the rest, as o does; n is what may be written, as g
_COLORS = QUANTITIES | {"u": QUANTITIES["f"], "r": QUANTITIES["o"], "n": QUANTITIES["g"]}


@in_style
def gates_over_words(
    trace: Trace | LayerTrace, words: Sequence[str], layer: str | None = None, sample: int = 0, units: Any = None,
    title: str = "",
) -> "Figure":  # fmt: skip
    """Gates and states over the words of a sample, a pair of panels for each unit (one if the cell has no gates).

    Args:
        trace: from `trace`; all of it, or one layer of it (`traced.lstm`, `traced["gru"]`).
        words: one for each step, or for each step that counts (see `LayerTrace.mask`); others are not drawn.
        layer: the layer's name if there are several.
        sample: number of the row in the batch.
        units: numbers of units. Default: the two that matter most (`LayerTrace.importance`).
        title: above the picture.

    Raises:
        TypeError: not a trace, or words that are no strings.
        ValueError: no such layer, sample or unit, or not as many words as steps.
    """
    from scratchlstm._support.figure import Figure

    of = chosen_layer(trace, layer, title)
    steps, texts = steps_with_words(of, words, sample)
    chosen = chosen_units(of, units, sample, steps, 2)
    dots: dict[str, Any] = {"marker": "o", "markersize": 4} if len(steps) <= 40 else {}
    looks, panels = looks_of(of), [(2, "memory", list(filter(of.has_units, of.memory)))]
    if of.gates:
        panels = [(3, "gates", sorted(of.gates, key=_is_candidate)), *panels]
    ratios = [ratio for ratio, *_ in panels] * len(chosen)
    figure = Figure(figsize=_size(texts, 0.68 * sum(ratios) + 0.6), layout="constrained")
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for unit, row in zip(chosen, grid.reshape(len(chosen), -1), strict=True):
        for panel, (_, label, names) in zip(row, panels, strict=True):
            for name in names:
                told, color = looks[name]
                panel.plot(of.arrays[name][sample, steps, unit], label=told, color=color, clip_on=False, **dots)
            panel.grid(axis="x")
            panel.axhline(0, color=QUIET, linewidth=0.8, zorder=0)
            panel.set(ylabel=f"{label}, candidate" if any(map(_is_candidate, names)) else label)
        if of.gates and all(np.all(np.abs(of.arrays[gate][sample, steps, unit]) <= 1) for gate in of.gates):
            row[0].set(ylim=(-1.05, 1.05))
        row[0].set(title=f"unit {unit}")
    _name_words(grid[-1], texts)
    grid[-1].set_xlim(-0.3, len(texts) - 1 or 0.3)
    figure.suptitle(title or f"What {of.name} does with each word")
    label_ends(*grid)
    return figure


@in_style
def gate_heatmap(
    trace: Trace | LayerTrace, words: Sequence[str], gate: str = "", layer: str | None = None, sample: int = 0,
    title: str = "",
) -> "Figure":  # fmt: skip
    """One gate of all units over all words of a sample.

    Args:
        trace, words, layer, sample: see `gates_over_words`.
        gate: a gate or a state ("i", "f", "g", "o", "c", "h" of an LSTM); with a target also the gradient of a state or
            a pre-activation ("dh", "dc", "dz_i", ...). Default: the forget gate, or else the cell's first gate, or h.
        title: above the picture.

    Raises:
        TypeError, ValueError: as `gates_over_words`; no such gate, or a gradient in a trace without a target.
    """
    from matplotlib.ticker import MaxNLocator

    from scratchlstm._support.figure import Figure

    of = chosen_layer(trace, layer, title)
    steps, texts = steps_with_words(of, words, sample)
    looks = looks_of(of)
    names = [*looks, *(f"d{state}" for state in of.states if f"d{state}" in of.gradients)]
    names += [name for name in of.gradients if name.startswith("dz_")]
    if not isinstance(gate, str) or gate not in ["", *names]:
        why = of.why_not(gate) if isinstance(gate, str) else ""
        raise ValueError(f"gate must be one of {', '.join(names)}, not {gate!r}{why}")
    gate = gate or ("f" if "f" in of.gates else names[0])
    label = looks[gate][0] if gate in looks else f"dL/d{gate.removeprefix('d')}"
    head = label.capitalize() if gate in looks else label
    values = (of.arrays[gate] if gate in looks else of.gradient(gate))[sample, steps].T
    figure = Figure(figsize=_size(texts, min(0.8 + 0.14 * max(len(values), 8), 24)), layout="constrained")
    panel = figure.subplots()
    look = {"cmap": "cividis", "vmin": 0, "vmax": 1} if gate in _opening(of) else scale(values)
    picture = panel.imshow(values, aspect="auto", interpolation="nearest", **look)
    panel.set(ylabel="unit", title=title or f"{head} of {of.name}")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _name_words(panel, texts)
    figure.colorbar(picture, ax=panel, label=label, aspect=30, pad=0.01)
    return as_written(figure)


@in_style
def gate_saturation(trace: Trace | LayerTrace, layer: str | None = None, title: str = "") -> "Figure":
    """How open the gates are: histograms over all samples, units and steps that count.

    Drawn are the gates whose values all lie between 0 and 1, except candidates (g, n). The parts below 0.1 (shut) and
    above 0.9 (open) are shaded and stated; a saturated gate has next to no gradient.

    Args:
        trace, layer, title: see `gates_over_words`.

    Raises:
        TypeError, ValueError: as `gates_over_words`; no step that counts, or gates that are not between 0 and 1.
    """
    from matplotlib.ticker import PercentFormatter

    from scratchlstm._support.figure import Figure

    of = chosen_layer(trace, layer, title)
    if not of.mask.any():
        raise ValueError("every step is masked: there is nothing to draw")
    if not (gates := _opening(of)):
        own = f"those of {of.name} are {of.recurrent_activation}" if of.gates and of.recurrent_activation else ""
        raise ValueError(f"gates saturate at 0 and 1, but {own or f'{of.name} ({of.cell}) has none between them'}")
    looks = looks_of(of)
    figure = Figure(figsize=(0.8 + 1.95 * len(gates), 2.9), layout="constrained")
    for panel, gate in zip(figure.subplots(1, len(gates), sharey=True, squeeze=False)[0], gates, strict=True):
        values, (name, color) = of.arrays[gate][of.mask].ravel(), looks[gate]
        panel.hist(values, bins=np.linspace(0, 1, 41), weights=np.full(values.size, 1 / values.size), color=color)
        shut, opened = f"{np.mean(values < SHUT):.1%}\nbelow {SHUT}", f"{np.mean(values > OPEN):.1%}\nabove {OPEN}"
        for start, end, x, side, told in ((0, SHUT, 0.02, "left", shut), (OPEN, 1, 0.98, "right", opened)):
            panel.axvspan(start, end, color=RULE, alpha=0.5, linewidth=0, zorder=0)
            panel.text(x, 0.97, told, ha=side, va="top", transform=panel.transAxes)
        panel.set(xlim=(0, 1), xlabel="value", title=name.capitalize())
        panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panel.margins(y=0.4)  # room for what stands in the corners
        panel.yaxis.set_major_formatter(PercentFormatter(1))
    first = figure.axes[0]  # the others have its axis
    ylim = first.get_ylim()
    first.set_yticks([tick for tick in first.get_yticks() if 0 <= tick <= min(1, ylim[1])])
    first.set(ylabel="share of values", ylim=ylim)
    figure.suptitle(title or f"How open the gates of {of.name} are")
    return as_written(figure)


def looks_of(of: LayerTrace) -> dict[str, tuple[str, str]]:
    """Name and colour of each gate and state; those that we do not know have the colours that are left."""
    names = dict.fromkeys(of.gates, "gate") | dict.fromkeys(of.memory, "state")
    taken = {_COLORS[name] for name in names if name in _COLORS}
    others = itertools.cycle([color for color in QUANTITIES.values() if color not in taken] or [QUIET])
    return {
        name: (f"{_NAMES.get(name, kind)} {name}", _COLORS[name] if name in _COLORS else next(others))
        for name, kind in names.items()
    }


def _is_candidate(gate: str) -> bool:
    return _NAMES.get(gate) == "candidate"


def _opening(of: LayerTrace) -> list[str]:
    """The gates whose values lie between 0, shut, and 1, open."""
    if of.recurrent_activation not in (None, "sigmoid", "hard_sigmoid"):
        return []
    inside = {gate: not np.any((of.arrays[gate] < 0) | (of.arrays[gate] > 1)) for gate in of.gates}
    return [gate for gate in of.gates if inside[gate] and not _is_candidate(gate)]


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
    from matplotlib.colors import LinearSegmentedColormap

    largest = np.abs(values).max() or 1
    signed = LinearSegmentedColormap.from_list("signed", [BACK, "white", AHEAD])
    return {"cmap": signed, "vmin": -largest, "vmax": largest}


def _size(texts: Sequence[str], height: float) -> tuple[float, float]:
    """Of a picture with room for these words below panels of this height, in inches."""
    width = float(np.clip(2.4 + _PER_WORD * len(texts), 6.5, 2.4 + _PER_WORD * _MOST_LABELS))
    return width, height + 0.5 + 0.08 * max(map(len, texts)) * _on_end(texts, width)


def _on_end(texts: Sequence[str], width: float) -> bool:
    """Whether the words have to be written from bottom to top in a picture of this width."""
    return 0.1 * max(map(len, texts)) > (width - 2.4) / len(texts)


def _name_words(panel: Any, texts: Sequence[str]) -> None:
    """The words below the panel; where there are very many, not all of them."""
    every = -(-len(texts) // _MOST_LABELS)
    rotation = 90 if _on_end(texts, panel.figure.get_figwidth()) else 0
    panel.set_xticks(range(0, len(texts), every), texts[::every], rotation=rotation, parse_math=False)
    panel.set(xlabel="" if every == 1 else f"one word in {every} is named", xlim=(-0.5, len(texts) - 0.5))
    panel.tick_params(axis="x", length=0)
