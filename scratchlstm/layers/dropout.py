"""Noise in training, against overfitting."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import checks
from scratchlstm.layers.base import Layer, Shape
from scratchlstm.layers.noise import Noise


class Dropout(Layer):
    """In training, zero each number with probability `rate` and divide the others by 1 - rate; else do nothing.

    Dividing in training keeps the expected sum, so that nothing needs scaling afterwards (Srivastava et al., 2014;
    "inverted" as in Keras).

    Args:
        rate: in [0, 1).
        seed: None draws from the model's generator, an integer from a generator of the layer's own.
        name, dtype, input_shape: see `Layer`.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    passes_mask = True
    of_a_pass: ClassVar = ("kept", "given_out")
    kept: Any = None  # what the last pass multiplied x by

    def __init__(
        self,
        rate: float,
        *,
        seed: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.noise = Noise(rate, seed)
        self.noises = [self.noise]

    @property
    def rate(self) -> float:
        """The probability, which may be set."""
        return self.noise.rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.noise.rate = checks.number("rate", value, at_least=0, below=1)

    @property
    def identity(self) -> bool:  # type: ignore[override]
        """Whether nothing was dropped in the last pass."""
        return self.kept is None

    def draw(self, x: np.ndarray) -> np.ndarray | None:
        """What to multiply x by; None for nothing."""
        return self.noise.draw(x.shape, x.dtype)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.kept, self.given_out = self.draw(x) if training else None, x.shape
        return x if self.kept is None else x * self.kept

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy = self.require_gradient(dy, self.given_out)
        return dy if self.kept is None else dy * self.kept

    def kept_elsewhere(self) -> dict[str, Any]:
        return super().kept_elsewhere() | {"seed": self.noise.seed}


class SpatialDropout1D(Dropout):
    """Dropout of whole features: one decision for all time steps of a row.

    Neighbouring steps of an embedded text are alike; to drop a feature at some of them would take little away
    (Tompson et al., 2015).

    Args:
        rate, seed: see `Dropout`.
        name, dtype, input_shape: see `Layer`.

    Input and output: (B, T, E).
    """

    ranks: ClassVar = (3,)

    def draw(self, x: np.ndarray) -> np.ndarray | None:
        """What to multiply x by, (B, 1, E); None for nothing."""
        kept = self.noise.draw((len(x), x.shape[2]), x.dtype)
        return None if kept is None else kept[:, None]
