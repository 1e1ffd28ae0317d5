"""Steps to be ignored, told from the data."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.layers.base import Layer, Shape
from scratchlstm.rows import as_array


class Masking(Layer):
    """Mask the steps at which every feature equals `mask_value`; they are 0 in the output.

    Args:
        mask_value: what padded steps were filled with.
        name, dtype, input_shape: see `Layer`.

    Input and output: (B, T, E).
    """

    ranks: ClassVar = (3,)
    of_a_pass: ClassVar = ("kept", "given_out")
    makes_mask = True

    def __init__(
        self,
        mask_value: float = 0.0,
        *,
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.mask_value = checks.number("mask_value", mask_value)

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray:
        """False where all features have the value, (B, T)."""
        x = as_array(x).astype(self.dtype, copy=False)
        return backend.host(np.any(x != x.dtype.type(self.mask_value), axis=-1))

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.kept, self.given_out = backend.to(self.backend, self.output_mask(x, None))[..., None], x.shape
        return x * self.kept

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy = self.require_gradient(dy, self.given_out)
        return dy * self.kept
