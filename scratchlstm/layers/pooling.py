"""Pooling: from a sequence to one vector."""

from typing import ClassVar, Unpack

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.weights import Shape


class _GlobalPooling1D(Layer):
    """Reduces the time axis of (B, T, E).

    Args:
        keepdims: keep the time axis, with size 1.
        options: name, dtype, input_shape; see `Layer`.
    """

    ranks: ClassVar = (3,)

    def __init__(self, *, keepdims: bool = False, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.keepdims = checks.flag("keepdims", keepdims)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (1, input_shape[1]) if self.keepdims else (input_shape[1],)

    def _out(self, y: Array) -> Array:
        """Y with the time axis kept as (B, 1, E) if `keepdims`."""
        return y if self.keepdims else y[:, 0]

    def backward(self, dy: Array, cache: Array) -> tuple[Array, Gradients]:
        """The cache is each step's share in the output."""
        return (dy if self.keepdims else dy[:, None]) * cache, {}


class GlobalAveragePooling1D(_GlobalPooling1D):
    """The mean over the time steps; with a mask, over the unmasked ones.

    A row that is entirely masked gives 0 (Keras divides 0 by 0 here).

    Args:
        keepdims: keep the time axis, with size 1.
        options: name, dtype, input_shape; see `Layer`.

    Input: (B, T, E). Output: (B, E), or (B, 1, E).
    """

    call_order: ClassVar = ("mask", "training")

    def forward(self, x: Array, mask: np.ndarray | None = None) -> tuple[Array, Array]:
        valid = np.ones(x.shape[:2], dtype=bool) if mask is None else mask
        share = (valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)).astype(self.dtype)[..., None]
        share = backend.to(self.backend, share)
        return self._out(np.sum(x * share, axis=1, keepdims=True)), share


class GlobalMaxPooling1D(_GlobalPooling1D):
    """The maximum of each feature over the time steps. A mask is ignored, as in Keras.

    If several steps have the maximum, they share its gradient, as in TensorFlow.

    Args:
        keepdims: keep the time axis, with size 1.
        options: name, dtype, input_shape; see `Layer`.

    Input: (B, T, E). Output: (B, E), or (B, 1, E).
    """

    def forward(self, x: Array) -> tuple[Array, Array]:
        y = np.max(x, axis=1, keepdims=True)
        largest = x == y
        return self._out(y), largest / largest.sum(axis=1, keepdims=True).astype(self.dtype)


class MaskedGlobalMaxPooling1D(GlobalMaxPooling1D):
    """`GlobalMaxPooling1D` over the unmasked steps; 0 for a row that is entirely masked. (Not in Keras.)

    Args:
        keepdims: keep the time axis, with size 1.
        options: name, dtype, input_shape; see `Layer`.

    Input: (B, T, E). Output: (B, E), or (B, 1, E).
    """

    call_order: ClassVar = ("mask", "training")

    def forward(self, x: Array, mask: np.ndarray | None = None) -> tuple[Array, Array]:
        if mask is None:
            return super().forward(x)
        valid = backend.to(self.backend, mask, bool)[..., None]
        y, cache = super().forward(np.where(valid, x, x.dtype.type(-np.inf)))
        share = cache.kept * valid  # in an entirely masked row every step is the maximum
        return np.where(np.isneginf(y), y.dtype.type(0), y), share
