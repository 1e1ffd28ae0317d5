"""Noise in training, against overfitting."""

from typing import Any

import numpy as np

from scratchlstm.layers.base import Layer, Shape


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
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, not {rate!r}")
        self.rate, self.seed = float(rate), seed

    def build(self, input_shape: Shape, rng: np.random.Generator | None = None, params: Any = None) -> None:
        if not self.built:
            parent = np.random.default_rng() if rng is None else rng
            self.rng = parent.spawn(1)[0] if self.seed is None else np.random.default_rng(self.seed)
        super().build(input_shape, rng, params)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.mask = None
        if training and self.rate > 0:
            kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
            self.mask = kept.astype(x.dtype) / x.dtype.type(1 - self.rate)
        return x if self.mask is None else x * self.mask

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy if self.mask is None else dy * self.mask

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
