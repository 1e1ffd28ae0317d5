"""Arrays as text, for a page."""

import base64
from collections.abc import Iterable

import numpy as np


def packed(array: np.ndarray) -> str:
    """Values in their own precision as base64, less than half as long as their digits.

    The first letter gives the precision: "d" for float64, "f" for float32.
    """
    precision, kind = ("d", "<f8") if array.dtype == "float64" else ("f", "<f4")
    return precision + base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def packed_size(arrays: Iterable[np.ndarray]) -> int:
    """The number of bytes of these arrays when packed, without packing them."""
    bytes_of = (array.size * (8 if array.dtype == "float64" else 4) for array in arrays)
    return sum(1 + 4 * -(-each // 3) for each in bytes_of)
