"""Noise in training, against overfitting."""

import math
from typing import Any, cast

import numpy as np

from scratchlstm import checks
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
        self.rate, self.seed = checks.number("rate", rate, at_least=0, below=1), checks.seed(seed)
        self.rows: tuple[int, int] | None = None  # where a batch is split between processes: our first row, all rows

    def build(self, input_shape: Shape, rng: np.random.Generator | None = None, params: Any = None) -> None:
        if not self.built:
            parent = np.random.default_rng() if rng is None else rng
            self.rng = parent.spawn(1)[0] if self.seed is None else np.random.default_rng(self.seed)
        super().build(input_shape, rng, params)

    def skip(self, rows: int) -> None:
        """Draw what a batch of `rows` rows would, where none of them is ours."""
        _uniform(self.rng, (0, *self.row_shape), 0, rows)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.mask, self.row_shape = None, x.shape[1:]
        if training and self.rate > 0:
            kept = _uniform(self.rng, x.shape, *(self.rows or (0, len(x)))) >= self.rate
            self.mask = kept * x.dtype.type(1 / (1 - self.rate))
        return x if self.mask is None else x * self.mask

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy if self.mask is None else dy * self.mask

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "seed": self.seed}


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], first_row: int, rows: int) -> np.ndarray:
    """Numbers in [0, 1) for `shape`, which begins at `first_row` of an array of `rows` rows.

    Whoever draws any part of that array gets the numbers that a draw of the whole would have there, and leaves the
    generator where that draw would leave it.
    """
    row, bits = math.prod(shape[1:]), cast(np.random.PCG64, rng.bit_generator)
    before, skipped = bits.state, first_row * row
    bits.advance(skipped // 2)  # two float32 are made of each 64-bit number
    numbers = rng.random(skipped % 2 + math.prod(shape), dtype=np.float32)[skipped % 2 :].reshape(shape)
    bits.state = before
    bits.advance((rows * row + 1) // 2)
    return numbers
