"""Arrays as text, for a page."""

import base64

import numpy as np


def packed(array: np.ndarray) -> str:
    """Values in their own precision, as base64, which is less than half the length of their digits.

    The first letter is the precision: "d" for float64, "f" for float32.
    """
    precision, kind = ("d", "<f8") if array.dtype == "float64" else ("f", "<f4")
    return precision + base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()
