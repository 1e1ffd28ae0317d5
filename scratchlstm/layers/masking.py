"""A mask computed from the data."""

from typing import Any, ClassVar, Unpack

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.rows import as_array


class Masking(Layer):
    """Masks the steps at which every feature equals `mask_value`, and sets them to 0 in the output.

    Args:
        mask_value: the value padded steps are filled with.
        options: name, dtype, input_shape; see `Layer`.

    Input and output: (B, T, E).
    """

    ranks: ClassVar = (3,)
    makes_mask = True

    def __init__(self, mask_value: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.mask_value = checks.number("mask_value", mask_value)

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray:
        """(B, T), False at steps where every feature equals `mask_value`."""
        x = as_array(x).astype(self.dtype, copy=False)
        return backend.host(np.any(x != x.dtype.type(self.mask_value), axis=-1))

    def forward(self, x: Array) -> tuple[Array, Array]:
        kept = backend.to(self.backend, self.output_mask(x, None))[..., None]
        return x * kept, kept

    def backward(self, dy: Array, cache: Array) -> tuple[Array, Gradients]:
        return dy * cache, {}
