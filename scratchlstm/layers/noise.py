"""The random masks of dropout."""

import math
from typing import cast

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks


class Noise:
    """Draws dropout's masks: 0 with probability `rate`, else 1 / (1 - rate), so that the expected sum stays.

    (Srivastava et al., 2014; "inverted" as in Keras.)

    Args:
        rate: in [0, 1).
        seed: None draws from the model's generator, an integer from a generator of the layer's own.
        argument: the name of `rate` in errors.

    Attributes:
        rng: where the masks come from, once built.
        rows: if a batch is split between processes: our first row, how many are ours, and how many there are in all.
        backend: where the masks are wanted. They are drawn by NumPy in any case, so that all backends draw the same.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    def __init__(self, rate: float, seed: int | None = None, argument: str = "rate") -> None:
        self.rate, self.seed = checks.number(argument, rate, at_least=0, below=1), checks.seed(seed)
        self.rows: tuple[int, int, int] | None = None
        self.backend = "numpy"

    def build(self, rng: np.random.Generator | None) -> None:
        """Make the generator; `rng` is its parent where there is no seed."""
        self.rng = checks.generator(rng).spawn(1)[0] if self.seed is None else np.random.default_rng(self.seed)

    def draw(self, shape: tuple[int, ...], dtype: str | np.dtype) -> backend.Array | None:
        """A mask (B, ...); None, for all ones, where the rate is 0."""
        if self.rate == 0:
            return None
        first, own, rows = self.rows or (0, shape[0], shape[0])
        repeats = shape[0] // own  # rows of the mask for each row of the batch: its steps, in a `TimeDistributed`
        kept = _uniform(self.rng, shape, first * repeats, rows * repeats) >= self.rate
        return backend.to(self.backend, kept * np.dtype(dtype).type(1 / (1 - self.rate)))


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
