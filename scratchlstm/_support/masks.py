"""Masks for arrays with more dimensions."""

from typing import Any

import numpy as np


def of_rank(mask: Any, rank: int) -> Any:
    """A mask (B, T) with this many dimensions, (B, T, 1, ...)."""
    return mask.reshape(mask.shape + (1,) * (rank - mask.ndim))


def over(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask for values of this shape, from one for their leading dimensions."""
    return np.broadcast_to(of_rank(mask, len(shape)), shape)
