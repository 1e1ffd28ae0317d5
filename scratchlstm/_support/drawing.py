"""What all pictures share: colours, and titles and labels shown exactly as given.

The colours are distinguishable for colour-blind readers, and the dashes in grey print. Texts are shown literally: by
default matplotlib takes `$` for mathematics and hides names starting with `_`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scratchlstm._support.checks import instance

if TYPE_CHECKING:
    from scratchlstm._support.figure import Figure

# blue, vermilion, bluish green, purple, orange, sky blue, black of Okabe & Ito's palette
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# indigo, wine, olive; teal, brown, grey of Tol's "muted" palette, for what an LSTM does not have
MORE_COLORS = ("#332288", "#882255", "#999933", "#44AA99", "#661100", "#888888")
DASHES = ("solid", "dashed", "dashdot", "dotted", (0, (5, 1, 1, 1, 1, 1)))


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


def add_legend(panel: Any, lines: Sequence[Any], **options: Any) -> None:
    """Add a legend of these lines with their labels, whatever those are."""
    legend = panel.legend(lines, [str(number) for number in range(len(lines))], **options)
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_text(line.get_label())
        text.set_parse_math(False)
