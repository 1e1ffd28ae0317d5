"""Pictures of what the benchmarks measure: SVG files for docs/figures."""

import sys
import textwrap
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scratchlstm._support.drawing import AHEAD, BACK, QUIET, THIRD, in_style, label_ends

sys.path.append(str(Path(__file__).parents[2] / "docs"))
import pictures

PARTS = {"forward": AHEAD, "backward": BACK, "optimizer": THIRD, "rest": QUIET}  # of a training step


@in_style
def cpu_chart(results, path):
    """A panel for each quantity, a bar for each contender."""
    figure = Figure(figsize=(6.6, 2.0 * -(-len(results) // 2) + 0.4), layout="constrained")
    figure.suptitle("A training step takes less than half of the others' time")
    colors = (AHEAD, AHEAD, BACK, QUIET)
    panels = figure.subplots(-(-len(results) // 2), 2, sharey=True)
    for panel, (quantity, by_name) in zip(panels.ravel(), results.items(), strict=True):
        names = [name.replace("scratchlstm without", "scratchlstm\nwithout") for name in by_name]
        bars = panel.barh(names, [median(values) for values in by_name.values()], color=colors[: len(names)])
        for bar, values in zip(bars, by_name.values(), strict=True):
            value = median(values)
            text = f"{value:,.0f}" if value > 100 else f"{value:.1f}"
            panel.annotate(text, (value, bar.get_y() + 0.4), (3, 0), textcoords="offset points", va="center")
        panel.set_title(textwrap.fill(quantity, 26), fontweight="normal")
        panel.set(xticks=[])
        panel.margins(x=0.3)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    panels[0, 0].invert_yaxis()
    pictures.save(figure, path)


@in_style
def sweep_chart(points, times, path):
    """A training step against each size, on logarithmic axes."""
    figure = Figure(figsize=(6.6, 7.6), layout="constrained")
    figure.suptitle("A training step in ms, for other sizes")
    panels = figure.subplots(3, 2, sharey="row")
    for column, tokens in enumerate((True, False)):
        for row, what in zip(panels, "HTB", strict=True):
            panel = row[column]
            here = [(value, ms) for (w, value, t, _), ms in zip(points, times, strict=True) if (w, t) == (what, tokens)]
            sizes = [value for value, _ in here]
            for name, color in zip(times[0], (AHEAD, BACK, QUIET, THIRD), strict=False):
                line = [ms[name] for _, ms in here]
                label = name.split(",")[0] if column else None
                panel.loglog(sizes, line, "o-", markersize=4, color=color, label=label)
            panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            panel.xaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_major_formatter("{x:g}")
            panel.set(xlabel={"H": "units H", "T": "steps T", "B": "batch B"}[what])
            panel.grid(axis="y")
    for panel, title in zip(panels[0], ("ids", "dense input"), strict=True):
        panel.set_title(title)
    label_ends(*panels[:, 1])
    pictures.save(figure, path)


@in_style
def parts_chart(results, path):
    """A bar for each variant, cut into its parts."""
    figure = Figure(figsize=(6.6, 0.62 * len(results) + 0.7), layout="constrained")
    figure.suptitle("Where a step's time goes, and what each technique saves (ms)")
    panel = figure.subplots()
    rows, left = np.arange(len(results)), np.zeros(len(results))
    for number, (part, color) in enumerate(PARTS.items()):
        widths = np.array([parts[part] for parts in results.values()])
        panel.barh(rows, widths, left=left, color=color, height=0.4)
        left += widths
        panel.text(0.4 + 0.15 * number, 0, part, color=color, transform=panel.get_yaxis_transform(), va="center")
    for row, (name, parts) in enumerate(results.items()):
        panel.annotate(name, (0, row - 0.24), (0, 1), textcoords="offset points", va="bottom")
        panel.annotate(f"{parts['step']:.1f}", (left[row], row), (4, 0), textcoords="offset points", va="center")
    panel.set(ylim=(len(results) - 0.6, -0.7), xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    pictures.save(figure, path)
