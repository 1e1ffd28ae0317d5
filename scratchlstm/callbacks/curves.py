"""How training went, as a picture; to users it is `inspection.learning_curve`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support.drawing import PALETTE, add_legend, as_written, require_title

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure

Curves = Mapping[str, Sequence[float]]  # `History.history`
_QUANTITIES = "accuracy", "loss"


def learning_curve(*histories: Any, title: str = "") -> "Figure":
    """Accuracy and loss against the epoch, for training and validation.

    What the histories do not have is not drawn. The epoch with the lowest validation loss is marked: from there on the
    model overfits.

    Args:
        histories: `History` objects or their `history` dicts. Of several runs, the median is drawn and the range
            shaded. To compare kinds of runs, one dict instead: label -> list of histories, `{"LSTM": [...], ...}`;
            each kind has its colour then, and no epoch is marked.
        title: above the picture.

    Raises:
        TypeError: something else than histories.
        ValueError: no history, one without a completed epoch, or histories that have no curve in common.
    """
    from matplotlib.ticker import MaxNLocator

    from scratchlstm._support.figure import Figure

    require_title(title)
    kinds = _kinds(histories)
    runs = [run for of_kind in kinds.values() for run in of_kind]
    if not all(kinds.values()) or not all(map(_epochs, runs)):
        raise ValueError("learning_curve needs at least one history with a completed epoch")
    quantities = [name for name in _QUANTITIES if all(name in run or f"val_{name}" in run for run in runs)]
    if not quantities:
        names = " and ".join(", ".join(run) for run in runs)
        raise ValueError(f"learning_curve draws accuracy or loss where all histories have it, but they have {names}")
    figure = Figure(figsize=(5.5 * len(quantities), 4.2), layout="constrained")
    best = best_epoch(runs) if len(kinds) == 1 else None
    last = max(min(map(_epochs, of_kind)) for of_kind in kinds.values())
    for panel, name in zip(np.atleast_1d(figure.subplots(1, len(quantities))), quantities, strict=True):
        lines = []
        for number, (kind, of_kind) in enumerate(kinds.items()):
            color = PALETTE[number % len(PALETTE)]
            looks = [(color, "--"), (color, "-")] if len(kinds) > 1 else [(PALETTE[0], "-"), (PALETTE[1], "-")]
            halves = (name, "training", "o"), (f"val_{name}", "validation", "s")
            for (key, label, marker), (color, line) in zip(halves, looks, strict=True):
                if all(key in run for run in of_kind):
                    style = {"color": color, "marker": marker, "linestyle": line}
                    style["label"] = f"{kind}, {label}" if kind else label
                    lines.append(_draw(panel, [run[key] for run in of_kind], style))
        if best is not None:
            told = f"lowest validation loss (epoch {best})"
            lines.append(panel.axvline(best, color="0.35", linestyle=":", label=told))
        panel.set(xlabel="epoch", ylabel=name, title=name.capitalize(), xlim=(0.5, last + 0.5))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(alpha=0.25)
        add_legend(panel, lines)
    if title:
        figure.suptitle(title)
    return as_written(figure)


def best_epoch(runs: Sequence[Curves]) -> int | None:
    """The epoch, from 1, at which the median validation loss is lowest; None without one that is a number."""
    if not all(run.get("val_loss") for run in runs):
        return None
    median = _median([run["val_loss"] for run in runs])
    return None if np.isnan(median).all() else int(np.nanargmin(median)) + 1


def _kinds(histories: Sequence[Any]) -> dict[str, list[Curves]]:
    """Label -> runs; "" where there are no labels."""
    kinds: Mapping[Any, Any] = {"": histories}
    if len(histories) == 1 and isinstance(histories[0], Mapping):
        lists = [of for of in histories[0].values() if isinstance(of, list | tuple)]
        if any(isinstance(_curves(each), Mapping) for of in lists for each in of):
            kinds = histories[0]
    for runs in kinds.values():
        if not isinstance(runs, list | tuple) or not all(isinstance(_curves(run), Mapping) for run in runs):
            wanted = "History objects or their history dicts, or one dict of labels and lists of them"
            raise TypeError(f"learning_curve takes {wanted}, not {runs!r:.80}")
    return {str(label): [_curves(run) for run in runs] for label, runs in kinds.items()}


def _epochs(run: Curves) -> int:
    """How many are completed."""
    return max((len(run[key]) for name in _QUANTITIES for key in (name, f"val_{name}") if key in run), default=len(run))


def _curves(run: Any) -> Any:
    return getattr(run, "history", run)


def _draw(panel: Any, curves: Sequence[Sequence[float]], style: Mapping[str, Any]) -> Any:
    median = _median(curves)
    epochs = np.arange(1, len(median) + 1)
    (line,) = panel.plot(epochs, median, **style)
    if len(curves) > 1:
        values = np.array([curve[: len(median)] for curve in curves])
        low, high = values.min(axis=0), values.max(axis=0)
        panel.fill_between(epochs, low, high, color=style["color"], alpha=0.18, linewidth=0)
    return line


def _median(curves: Sequence[Sequence[float]]) -> np.ndarray:
    length = min(len(curve) for curve in curves)
    return np.median([curve[:length] for curve in curves], axis=0)
