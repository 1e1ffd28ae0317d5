"""The figure returned by every plot; it displays itself as the last expression in a notebook cell.

Separate from `drawing`, since a program that draws nothing need not import matplotlib.
"""

import io

from matplotlib import figure


class Figure(figure.Figure):
    """matplotlib's `Figure`, unknown to `pyplot`, with its picture for a notebook.

    With `%matplotlib inline`, Jupyter draws it like any other figure instead.
    """

    def _repr_png_(self) -> bytes:
        """The picture as a PNG file."""
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()
