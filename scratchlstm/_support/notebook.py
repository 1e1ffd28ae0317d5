"""Tables and pages in a notebook, in its own colours, light or dark."""

import sys
from collections.abc import Collection, Iterable, Sequence
from html import escape

_WRONG = ' style="background: rgba(213, 94, 0, 0.3)"'  # visible on a light and on a dark background


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel, which can show pictures."""
    return "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], wrong: Collection[int] = ()) -> str:
    """An HTML table; all texts are shown literally.

    Args:
        title: title above the table; may have several lines.
        columns: their names.
        rows: a text for each column.
        wrong: indices of the rows to mark, from 0.
    """

    def row(cells: Sequence[str], kind: str = "td", look: str = "") -> str:
        return f"<tr{look}>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"

    above = f"<p>{escape(title).replace(chr(10), '<br>')}</p>" if title else ""
    body = "".join(row(cells, look=_WRONG if number in wrong else "") for number, cells in enumerate(rows))
    return f"{above}<table><thead>{row(columns, 'th')}</thead><tbody>{body}</tbody></table>"


def framed(page: str, title: str) -> str:
    """A whole HTML page in a frame, which cannot reach anything outside it."""
    look = "width: 100%; height: 1720px; border: 0; resize: vertical"
    frame = f'<iframe title="{escape(title)}" sandbox="allow-scripts" style="{look}" srcdoc="{escape(page)}"></iframe>'
    return f"{frame}<p>{escape(title)}</p>"
