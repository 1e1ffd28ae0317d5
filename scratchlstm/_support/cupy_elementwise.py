"""Elementwise functions on a GPU, in one kernel launch: see `elementwise.cu`."""

from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import device

_THREADS = 256  # threads per block


def sigmoid(x: Any) -> Any:
    """`gates.sigmoid` of a CuPy array of any shape."""
    return _run("sigmoid", [x], 1)[0]


def binary_crossentropy(logits: Any, targets: Any) -> tuple[Any, Any]:
    """Losses and their derivatives with respect to the logits; all CuPy arrays of the same shape and dtype."""
    return _run("binary_crossentropy", [logits, targets], 2)


def _run(name: str, inputs: list[Any], outputs: int) -> Any:
    cupy = backend.cupy()
    inputs = [cupy.ascontiguousarray(array) for array in inputs]
    results = [cupy.empty(inputs[0].shape, dtype=inputs[0].dtype) for _ in range(outputs)]
    if size := inputs[0].size:
        kernel = device.kernel("elementwise.cu", name, np.dtype(inputs[0].dtype))
        kernel((-(-size // _THREADS),), (_THREADS,), (*inputs, *results, np.int64(size)))
    return results
