"""A plot of what a classifier confuses; like all plots it is returned, neither shown nor saved."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support.drawing import AHEAD, STRONGEST, as_written, in_style, require_title

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure


@in_style
def confusion_matrix(matrix: Any, labels: Sequence[str] | None = None, title: str = "") -> "Figure":
    """Counts of predicted classes for each true class, shaded by their part of the true class (of the row).

    Args:
        matrix: counts (C, C), row true class, column predicted class (`metrics.confusion_matrix`).
        labels: names of the C classes. Default: their numbers.
        title: above the picture.

    Raises:
        ValueError: a matrix that is not square or holds anything but counts, or another number of labels.
    """
    from matplotlib.patches import Rectangle

    from scratchlstm._support.figure import Figure

    require_title(title)
    if labels is not None and (isinstance(labels, str) or not hasattr(labels, "__len__")):
        raise TypeError(f"labels must be a list of names, not {labels!r:.80}")
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"matrix must be square, (C, C), not {counts.shape}")
    if counts.dtype.kind not in "iuf" or np.any(counts < 0) or np.any(counts != np.floor(counts)):
        raise ValueError("matrix must hold counts: whole numbers of at least 0")
    names = [str(label) for label in (range(len(counts)) if labels is None else labels)]
    if len(names) != len(counts):
        raise ValueError(f"labels must name the {len(counts)} classes, but there are {len(names)}")
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    letter = 0.105  # inches, as is the cell
    cell = max(0.62, 2.6 / len(counts), letter * max(len(f"{count:.0f}") for count in counts.ravel()))
    longest = max(map(len, names))
    side = cell * len(counts)
    figure = Figure(figsize=(side + letter * longest + 0.9, side + letter * longest + 1), layout="compressed")
    panel = figure.subplots()
    for (row, column), part in np.ndenumerate(parts):
        tile = Rectangle((column - 0.5, row - 0.5), 1, 1, color=AHEAD, linewidth=0)
        tile.set_alpha(STRONGEST * part)
        panel.add_patch(tile)
        panel.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center")
    panel.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5), aspect="equal")
    places = range(len(counts))
    tilt: dict[str, Any] = {"rotation": 45, "ha": "right"} if letter * longest > cell else {}
    panel.set_xticks(places, names, rotation_mode="anchor", parse_math=False, **tilt)
    panel.set_yticks(places, names, parse_math=False)
    panel.set(xlabel="predicted class", ylabel="true class", title=title)
    panel.tick_params(length=0)
    return as_written(figure)
