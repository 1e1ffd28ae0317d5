"""NumPy or CuPy."""

from typing import Any


def cupy() -> Any:
    """The module CuPy."""
    import cupy

    return cupy
