"""What all pictures share: colours, plain axes, labels at the ends of lines, texts shown exactly as given.

Each quantity has one colour, the same as on the explorer page; gradients are dashed. Texts are shown literally: by
default matplotlib takes `$` for mathematics and hides names starting with `_`.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from scratchlstm._support.checks import instance

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

# the explorer page's (base.css) on a light background
INK, QUIET, RULE = "#1b1f24", "#57606a", "#c9d3dc"
QUANTITIES = {"i": "#0050b8", "f": "#ac5813", "g": "#97116e", "o": "#177e58", "c": "#61481c", "h": "#1577a3"}
AHEAD, BACK, THIRD = "#005a8d", "#b34a00", "#00694c"  # AHEAD is for positive numbers, too, BACK for negative ones
SERIES = (AHEAD, BACK, THIRD, QUANTITIES["g"], QUANTITIES["c"], QUIET)  # for anything else that is compared
TEXT = 10.5  # points; 14 pixels in a browser
GRADIENT = "dashed"
STRONGEST = 0.45  # opacity of a tint, on which ink can still be read

_STYLE: Any = {
    "font.size": TEXT, "axes.labelsize": TEXT, "xtick.labelsize": TEXT, "ytick.labelsize": TEXT,
    "axes.titlesize": TEXT, "axes.titleweight": "bold",
    "figure.titlesize": 12, "figure.titleweight": "bold",
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.facecolor": "none", "axes.edgecolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET,
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": RULE, "lines.linewidth": 2,
}  # fmt: skip


def in_style(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that draws, so that its picture has our style, whatever the user's settings."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def require_title(title: Any) -> None:
    """Raise TypeError for a title that is neither a string nor None."""
    instance("title", title, str | None, "a string")


def as_written(figure: "Figure") -> "Figure":
    """The figure, with titles, labels and other texts shown literally (except ticks, often 10^n)."""
    texts = list(figure.texts)  # including the figure's title
    for panel in figure.axes:
        texts += [panel.title, panel.xaxis.label, panel.yaxis.label, *panel.texts]
    for text in texts:
        text.set_parse_math(False)
    return figure


def label_ends(*panels: Any) -> None:
    """Write each line's label at its right end in its colour, without overlaps; earlier such labels are replaced.

    Call it last, with all panels of a figure at once: the labels do not follow a later change of the scale.
    """
    for panel in panels:
        for text in [text for text in panel.texts if text.get_gid() == "end"]:
            text.remove()
    as_written(panels[0].figure).draw_without_rendering()  # does the layout
    for panel in panels:
        _label_ends(panel)


def _label_ends(panel: Any) -> None:
    ends = []
    for line in panel.lines:
        if line.get_label().startswith("_child"):
            continue
        points = np.asarray(line.get_data(), dtype="float64").T  # (N, 2)
        there = points[np.isfinite(points).all(axis=1)]
        end = panel.transAxes.inverted().transform(line.get_transform().transform(there[-1])) if len(there) else (1, 0)
        ends.append((*end, line))
    if not ends:
        return
    x, y, lines = zip(*ends, strict=True)
    gap = 1.25 * TEXT / 72 * panel.figure.dpi / panel.bbox.height
    for right, height, line in zip(x, _apart(np.array(y), gap), lines, strict=True):
        panel.annotate(
            line.get_label(), (right, height), (6, 0), "axes fraction", "offset points",
            color=line.get_color(), va="center", gid="end", parse_math=False,
        )  # fmt: skip


def tint(values: np.ndarray) -> np.ndarray:
    """Background colours that keep text readable: one hue for positive values, one for negative, fading towards 0.

    Returns:
        RGBA, shape of values + (4,).
    """
    from matplotlib.colors import to_rgb

    color = np.where(values[..., None] < 0, to_rgb(BACK), to_rgb(AHEAD))
    return np.concatenate([color, STRONGEST * np.abs(values)[..., None] / (np.abs(values).max() or 1)], axis=-1)


def _apart(positions: np.ndarray, gap: float) -> np.ndarray:
    """The least-squares nearest positions in the same order, at least `gap` apart (pool adjacent violators)."""
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    pools: list[list[float]] = []
    for position in positions[order] - steps:
        pools.append([position])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    moved = np.empty(len(positions))
    moved[order] = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools]) + steps
    return moved
