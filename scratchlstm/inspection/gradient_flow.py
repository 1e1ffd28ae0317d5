"""How far back in time the gradient reaches: its norm at each step, for any recurrent cell."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support.drawing import GRADIENT, SERIES, in_style, label_ends, require_title
from scratchlstm.inspection.recording import choose, record
from scratchlstm.inspection.trace import trace_layer

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure


def gradient_norm_over_time(
    model: Any, x: Any, y: Any, *, layer: str | None = None, sample_weight: Any = None
) -> np.ndarray:
    """||dL/dh_t|| at each step t of a recurrent layer, averaged over the batch.

    dL/dh_t is the full derivative: from the layer above and through all later steps. If it decays towards the first
    steps, the model cannot learn from them ("vanishing gradient": Hochreiter, 1991; Bengio, Simard & Frasconi, 1994).

    Args:
        model: built and compiled; it is not changed, and dropout is off (see `trace`).
        x, y, sample_weight: a batch.
        layer: the recurrent layer's name if there are several ("bidirectional/forward", "rnn/cell_0", ...).

    Returns:
        (T,), in time order.

    Raises:
        TypeError: not a model, or data that are not numeric.
        ValueError: not built, no such layer, or data of the wrong shape.
        RuntimeError: not compiled.
    """
    if y is None:
        raise ValueError("gradient_norm_over_time needs targets y, as the gradient is that of the loss")
    recording = record(model, x, y, sample_weight, "gradient_norm_over_time")
    if not recording.layers:
        raise ValueError("gradient_norm_over_time needs a recurrent layer, but the model has none")
    traced = trace_layer("", choose(recording.layers, layer))
    return np.mean(np.linalg.norm(traced.gradient(f"d{traced.states[0]}"), axis=-1), axis=0)


@in_style
def gradient_norms(norms: Mapping[str, Any], title: str = "Gradient of the loss by the hidden state") -> "Figure":
    """Draw gradient norms against time on a logarithmic axis, where exponential decay is a straight line.

    Args:
        norms: label -> (T,), for example from `gradient_norm_over_time`. A step without a gradient leaves a gap. For
            several panels with a common axis, a dict of such dicts: `{"before training": {"LSTM": (T,)}, ...}`.
        title: title of the picture.

    Raises:
        TypeError: not a dict.
        ValueError: nothing to draw, or values that are not norms.
    """
    from matplotlib.ticker import MaxNLocator

    from scratchlstm._support.figure import Figure

    require_title(title)
    if not isinstance(norms, Mapping):
        raise TypeError(f"norms must be a dict of labels and norms such as {{'LSTM': (T,)}}, not {norms!r:.80}")
    several = norms and all(isinstance(of, Mapping) for of in norms.values())
    panels = {
        str(head): {str(label): _checked(label, values) for label, values in lines.items()}
        for head, lines in (norms if several else {title: norms}).items()
    }
    if not panels or not all(any(np.any(line > 0) for line in lines.values()) for lines in panels.values()):
        raise ValueError("norms must contain at least one value above 0")
    figure = Figure(figsize=(6.5 if len(panels) == 1 else 4.6 * len(panels), 3.8), layout="constrained")
    grid = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for panel, (head, lines) in zip(grid, panels.items(), strict=True):
        for number, (label, line) in enumerate(lines.items()):
            zero = "" if np.any(line > 0) else " (0 throughout)"
            style = {"color": SERIES[number % len(SERIES)], "marker": "o" if len(line) == 1 else None}
            panel.plot(np.where(line > 0, line, np.nan), label=f"{label}{zero}", linestyle=GRADIENT, **style)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set(xlabel="step t", title=head)
        panel.grid(axis="y")
    grid[0].set_ylabel("‖dL/dh_t‖")
    if several:
        figure.suptitle(title)
    label_ends(*grid)
    return figure


def _checked(label: Any, values: Any) -> np.ndarray:
    line = np.asarray(values)
    if line.ndim != 1 or not line.size or line.dtype.kind not in "fiu" or not np.all(np.isfinite(line) & (line >= 0)):
        raise ValueError(f"norms of {label!r} must be finite numbers of at least 0, one for each step, (T,)")
    return line.astype("float64")
