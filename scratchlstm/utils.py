"""Helpers for scripts: some of Keras', and safe writing of files."""

from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.files import atomic_write, held_folder
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.timeseries import timeseries_dataset_from_array

__all__ = ["atomic_write", "held_folder", "pad_sequences", "timeseries_dataset_from_array", "to_categorical"]


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """One-hot rows for class indices.

    Args:
        x: whole numbers, (...); a last axis of size 1 is dropped, as in Keras.
        num_classes: the number of classes; None means the largest index plus one.

    Returns:
        (..., num_classes), float64 as in Keras.

    Raises:
        ValueError: not whole numbers, or one that is not a class.
    """
    x = checks.array("x", x)
    if x.dtype.kind not in "iub" or x.size == 0:
        raise ValueError(f"x of to_categorical takes class indices, not {x.size} values of dtype {x.dtype}")
    x = x.astype(np.intp)
    if x.ndim > 1 and x.shape[-1] == 1:
        x = x[..., 0]
    classes = int(x.max()) + 1 if num_classes is None else checks.positive_int("num_classes", num_classes)
    if x.min() < 0 or x.max() >= classes:
        raise ValueError(f"class indices in x must be from 0 to {classes - 1}, but range from {x.min()} to {x.max()}")
    return np.eye(classes)[x]
