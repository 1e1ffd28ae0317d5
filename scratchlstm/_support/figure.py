"""The figure that every plot returns, which shows itself as the last expression of a notebook's cell.

Apart from `drawing`, since a program that draws nothing need not import matplotlib.
"""

import io

from matplotlib import figure


class Figure(figure.Figure):
    """matplotlib's `Figure`, of which `pyplot` knows nothing, with its picture for a notebook.

    With `%matplotlib inline`, Jupyter draws it as every other figure instead.
    """

    def _repr_png_(self) -> bytes:
        """The picture as a PNG file."""
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()
