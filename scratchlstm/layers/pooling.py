"""From a sequence to one vector."""

from typing import ClassVar

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.layers.base import Layer, Shape


class _GlobalPooling1D(Layer):
    """Takes the time axis out of (B, T, E).

    Args:
        keepdims: leave it in, with size 1.
        name, dtype, input_shape: see `Layer`.
    """

    ranks: ClassVar = (3,)
    of_a_pass: ClassVar = ("share", "given_out")
    share: np.ndarray  # of each step in the output, as `forward` leaves it for the way back

    def __init__(
        self,
        *,
        keepdims: bool = False,
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.keepdims = checks.flag("keepdims", keepdims)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (1, input_shape[1]) if self.keepdims else (input_shape[1],)

    def _out(self, y: np.ndarray) -> np.ndarray:
        """(B, 1, E) as it is wanted."""
        y = y if self.keepdims else y[:, 0]
        self.given_out = y.shape
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy = self.require_gradient(dy, self.given_out)
        return (dy if self.keepdims else dy[:, None]) * self.share


class GlobalAveragePooling1D(_GlobalPooling1D):
    """The mean over the time steps; over those that are not masked, where there is a mask.

    A row that is masked throughout gives 0 (Keras divides 0 by 0 there).

    Args:
        keepdims: leave the time axis in, with size 1.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, E), or (B, 1, E).
    """

    takes_mask: ClassVar = True
    call_order: ClassVar = ("mask", "training")

    def forward(self, x: np.ndarray, training: bool = False, mask: np.ndarray | None = None) -> np.ndarray:
        mask = self.check_mask(mask, x.shape[:2])
        valid = np.ones(x.shape[:2], dtype=bool) if mask is None else mask
        share = (valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)).astype(self.dtype)[..., None]
        self.share = backend.to(self.backend, share)
        return self._out(np.sum(x * self.share, axis=1, keepdims=True))


class GlobalMaxPooling1D(_GlobalPooling1D):
    """The largest value over the time steps, of each feature. A mask is ignored, as in Keras.

    Where several steps have the largest value they share its gradient, as in TensorFlow.

    Args:
        keepdims: leave the time axis in, with size 1.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, E), or (B, 1, E).
    """

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        y = np.max(x, axis=1, keepdims=True)
        largest = x == y
        self.share = largest / largest.sum(axis=1, keepdims=True).astype(self.dtype)
        return self._out(y)


class MaskedGlobalMaxPooling1D(GlobalMaxPooling1D):
    """`GlobalMaxPooling1D` over the steps that are not masked; 0 for a row that is masked throughout. (Not in Keras.)

    Args:
        keepdims: leave the time axis in, with size 1.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, E), or (B, 1, E).
    """

    takes_mask: ClassVar = True
    call_order: ClassVar = ("mask", "training")

    def forward(self, x: np.ndarray, training: bool = False, mask: np.ndarray | None = None) -> np.ndarray:
        mask = self.check_mask(mask, x.shape[:2])
        if mask is None:
            return super().forward(x)
        valid = backend.to(self.backend, mask, bool)[..., None]
        y = super().forward(np.where(valid, x, x.dtype.type(-np.inf)))
        self.share = self.share * valid  # of a row that is masked throughout every step is the largest
        return np.where(np.isneginf(y), y.dtype.type(0), y)
