"""How training went, as a picture; to users it is `inspection.learning_curve`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support.drawing import AHEAD, BACK, QUIET, SERIES, in_style, label_ends, require_title

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure

Curves = Mapping[str, Sequence[float]]  # `History.history`
_QUANTITIES = "accuracy", "loss"


@in_style
def learning_curve(*histories: Any, title: str = "") -> "Figure":
    """Accuracy and loss against the epoch, for training and validation.

    What not all histories have is not drawn. The epoch with the lowest validation loss is marked: from there on the
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
    figure = Figure(figsize=(6.5, 0.9 + 2.2 * len(quantities)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(quantities), 1, sharex=True))
    best = best_epoch(runs) if len(kinds) == 1 else None
    last = max(min(map(_epochs, of_kind)) for of_kind in kinds.values())
    dots: dict[str, Any] = {"marker": "o", "markersize": 4} if last <= 20 else {}
    for panel, name in zip(panels, quantities, strict=True):
        keys = {"training": name, "validation": f"val_{name}"}
        halves = [half for half, key in keys.items() if any(key in run for run in runs)]
        for number, (kind, of_kind) in enumerate(kinds.items()):
            for half, color in zip(keys, (AHEAD, BACK), strict=True):
                if all(keys[half] in run for run in of_kind):
                    style = {"color": SERIES[number % len(SERIES)] if len(kinds) > 1 else color}
                    style |= {"linewidth": 1 if half == "training" else 2, "clip_on": False} | dots
                    style["label"] = kind if kind and len(halves) == 1 else f"{kind}, {half}".removeprefix(", ")
                    _draw(panel, [run[keys[half]] for run in of_kind], style)
        if best is not None:
            panel.axvline(best, color=QUIET, linewidth=1, linestyle=":")
        panel.set(ylabel=name if len(halves) > 1 else f"{halves[0]} {name}", xlim=(0.5, last))
        panel.grid(axis="y")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[-1].set(xlabel="epoch")
    if best is not None:
        side = {"xytext": (-4, 2), "ha": "left"} if 2 * best <= last else {"xytext": (4, 2), "ha": "right"}
        panels[0].annotate(
            f"lowest validation loss (epoch {best})", (best, 1), xycoords=panels[0].get_xaxis_transform(),
            textcoords="offset points", color=QUIET, **side,
        )  # fmt: skip
    if title:
        figure.suptitle(title)
    label_ends(*panels)
    return figure


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


def _draw(panel: Any, curves: Sequence[Sequence[float]], style: Mapping[str, Any]) -> None:
    median = _median(curves)
    epochs = np.arange(1, len(median) + 1)
    panel.plot(epochs, median, **style)
    if len(curves) > 1:
        values = np.array([curve[: len(median)] for curve in curves])
        low, high = values.min(axis=0), values.max(axis=0)
        panel.fill_between(epochs, low, high, color=style["color"], alpha=0.18, linewidth=0)


def _median(curves: Sequence[Sequence[float]]) -> np.ndarray:
    length = min(len(curve) for curve in curves)
    return np.median([curve[:length] for curve in curves], axis=0)
