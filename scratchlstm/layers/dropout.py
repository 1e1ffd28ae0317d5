"""Noise in training, against overfitting."""

from operator import attrgetter
from typing import ClassVar, Unpack

import numpy as np

from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.passes import DropoutMask, Pass


class Dropout(Layer):
    """In training, zero each number with probability `rate` and divide the others by 1 - rate; else do nothing.

    Dividing in training keeps the expected sum, so that nothing needs scaling afterwards (Srivastava et al., 2014;
    "inverted" as in Keras).

    Args:
        rate: in [0, 1).
        seed: None draws from the model's generator, an integer from a generator of the layer's own.
        options: name, dtype, input_shape, see `Layer`.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    passes_mask = True
    may_be_identity = True

    def __init__(self, rate: float, *, seed: int | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.source = DropoutMask(rate, seed)
        self.dropout_masks = [self.source]

    @property
    def rate(self) -> float:
        """The probability, which may be set."""
        return self.source.rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.source.rate = checks.number("rate", value, at_least=0, below=1)

    seed = property(attrgetter("source.seed"), doc="Of a generator of the layer's own.")

    def draw(self, x: Array, run: Pass) -> np.ndarray | None:
        """What to multiply x by; None for nothing."""
        return run.dropout(self.source, x.shape, x.dtype)

    def forward(self, x: Array, run: Pass) -> tuple[Array, Array | None]:
        kept = self.place(self.draw(x, run))
        return (x if kept is None else x * kept), kept

    def backward(self, dy: Array, cache: Array | None) -> tuple[Array, Gradients]:
        return (dy if cache is None else dy * cache), {}

    def is_identity(self, kept: Array | None) -> bool:
        return kept is None


class SpatialDropout1D(Dropout):
    """Dropout of whole features: one decision for all time steps of a row.

    Neighbouring steps of an embedded text are alike; to drop a feature at some of them would take little away
    (Tompson et al., 2015).

    Args:
        rate, seed: see `Dropout`.
        options: name, dtype, input_shape, see `Layer`.

    Input and output: (B, T, E).
    """

    ranks: ClassVar = (3,)

    def draw(self, x: Array, run: Pass) -> np.ndarray | None:
        """What to multiply x by, (B, 1, E); None for nothing."""
        drawn = run.dropout(self.source, (len(x), x.shape[2]), x.dtype)
        return None if drawn is None else drawn[:, None]
