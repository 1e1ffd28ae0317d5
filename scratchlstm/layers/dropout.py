"""Dropout: random zeros during training, against overfitting."""

from operator import attrgetter
from typing import Any, ClassVar, Unpack

import numpy as np

from scratchlstm._support import checks
from scratchlstm.backend import Array, host
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.embedding import integer_ids
from scratchlstm.layers.passes import DropoutMask, Pass


class Dropout(Layer):
    """During training, zero each value with probability `rate` and divide the rest by 1 - rate; otherwise do nothing.

    Dividing during training keeps the expected sum, so nothing needs scaling afterwards (Srivastava et al., 2014;
    "inverted dropout", as in Keras).

    Args:
        rate: in [0, 1).
        seed: None draws from the model's generator, an integer seeds a generator of the layer's own.
        options: name, dtype, input_shape; see `Layer`.

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
        """The dropout probability; may be set."""
        return self.source.rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.source.rate = checks.number("rate", value, at_least=0, below=1)

    seed = property(attrgetter("source.seed"), doc="Seed of the layer's own generator, if it has one.")

    def draw(self, x: Array, run: Pass) -> np.ndarray | None:
        """The mask to multiply x by; None if nothing is dropped."""
        return run.dropout(self.source, x.shape, self.dtype)

    def forward(self, x: Array, run: Pass) -> tuple[Array, Array | None]:
        kept = self.place(self.draw(x, run))
        return (x if kept is None else x * kept), kept

    def backward(self, dy: Array, cache: Array | None) -> tuple[Array, Gradients]:
        return (dy if cache is None else dy * cache), {}

    def is_identity(self, kept: Array | None) -> bool:
        return kept is None


class SpatialDropout1D(Dropout):
    """Dropout of whole features: each feature is dropped or kept at all time steps of a row at once.

    Neighbouring steps of an embedded text are alike, so dropping a feature at only some of them takes little away
    (Tompson et al., 2015).

    Args:
        rate, seed: see `Dropout`.
        options: name, dtype, input_shape; see `Layer`.

    Input and output: (B, T, E).
    """

    ranks: ClassVar = (3,)

    def draw(self, x: Array, run: Pass) -> np.ndarray | None:
        """The mask to multiply x by, (B, 1, E); None if nothing is dropped."""
        drawn = run.dropout(self.source, (len(x), x.shape[2]), x.dtype)
        return None if drawn is None else drawn[:, None]


class WordDropout(Dropout):
    """Dropout of whole words: during training, replace each id by `oov_id` with probability `rate`.

    Put it before an `Embedding`: the model then cannot rely on any single word, and learns a vector for unknown words
    (Iyyer et al., 2015; Bowman et al., 2016). Padding, id 0, is never replaced. Keras has no such layer.

    Args:
        rate, seed: see `Dropout`.
        oov_id: the id of unknown words; 0 removes words altogether if the `Embedding` has `mask_zero`.
        options: name, dtype, input_shape; see `Layer`.

    Input and output: integers of any shape and dtype, such as (B, T).

    Raises:
        ValueError: a rate outside [0, 1), or a negative `oov_id`.
    """

    def __init__(
        self, rate: float, oov_id: int = 1, *, seed: int | None = None, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(rate, seed=seed, **options)
        self.oov_id = checks.whole_number("oov_id", oov_id, at_least=0)

    def place(self, x: Any) -> np.ndarray:
        """Ids stay on the CPU, as in `Embedding`."""
        return host(x)

    def cast(self, x: Any) -> np.ndarray:
        """Check that x holds ids.

        Raises:
            TypeError: not integers.
            ValueError: integers too small for `oov_id`.
        """
        x = integer_ids(self.name, x)
        if self.oov_id > np.iinfo(x.dtype).max:
            raise ValueError(f"oov_id of {self.name} is {self.oov_id}, which does not fit into ids of dtype {x.dtype}")
        return x

    def forward(self, x: np.ndarray, run: Pass) -> tuple[np.ndarray, None]:
        kept = self.draw(x, run)
        if kept is not None:
            x = x.copy()
            x[(kept == 0) & (x != 0)] = self.oov_id
        return x, None

    def backward(self, dy: Array, cache: None) -> tuple[None, Gradients]:
        """Ids have no gradient."""
        return None, {}
