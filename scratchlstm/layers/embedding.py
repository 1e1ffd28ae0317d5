"""Word ids to word vectors."""

from typing import Any, ClassVar, Unpack

import numpy as np

from scratchlstm import backend, initializers
from scratchlstm._support import checks
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.weights import Shape, Specs, as_shape
from scratchlstm.rows import GatheredRows, Groups, RowGradient


def integer_ids(name: str, x: Any) -> np.ndarray:
    """Ids on the CPU, checked, for the layer of this name.

    Raises:
        TypeError: not integers.
    """
    x = backend.host(x)
    if x.dtype.kind not in "iu":
        hint = "rows of different lengths? see pad_sequences" if x.dtype == object else 'x.astype("int32")'
        raise TypeError(f"{name} takes integer ids, but the input has dtype {x.dtype}; {hint}")
    return x


class Embedding(Layer):
    """A table with one vector per word id: y[b, t] = embeddings[x[b, t]].

    A lookup is a product with a one-hot matrix, so the gradient of a row is the sum of dy over the positions of its
    id. Both passes work on distinct ids only (see `scratchlstm.rows`).

    Args:
        input_dim: V, the number of ids; ids run from 0 to V - 1.
        output_dim: E, the size of a vector.
        embeddings_initializer: default uniform in ±0.05, as in Keras.
        embeddings_regularizer: a penalty added to the loss, or None. (With one, the gradient has all V rows.)
        embeddings_constraint: applied after each update, or None.
        mask_zero: whether id 0 is padding, which later layers ignore; its row is then never used.
        input_length: T, if this is a model's first layer; the same as `input_shape=(T,)`.
        input_shape: (T,), or (None,) for any length.
        options: name, dtype; see `Layer`.

    Input: integers (B, T). Output: (B, T, E).

    Parameters: `embeddings` (V, E).

    Unlike in Keras, ids that are negative, too large or not integers raise an error (Keras wraps or truncates them).
    """

    ranks: ClassVar = (1, 2, 3)

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        *,
        input_length: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        if input_length is not None:
            length_shape = (checks.positive_int("input_length", input_length),)
            input_shape = options.get("input_shape")
            if input_shape is not None and as_shape(input_shape) != length_shape:
                raise ValueError(f"input_length={input_length} and input_shape={input_shape} contradict each other")
            options["input_shape"] = length_shape
        super().__init__(**options)
        self.input_dim = checks.positive_int("input_dim", input_dim)
        self.output_dim = checks.positive_int("output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer, "embeddings_initializer")
        self.limit(embeddings=("embeddings", embeddings_regularizer, embeddings_constraint))
        self.mask_zero = checks.flag("mask_zero", mask_zero)
        self.makes_mask = self.mask_zero

    def param_specs(self, input_shape: Shape) -> Specs:
        return {"embeddings": ((self.input_dim, self.output_dim), self.embeddings_initializer)}

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.output_dim)

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray | None:
        """If `mask_zero`, False at each id 0."""
        return backend.host(x) != 0 if self.makes_mask else None

    def place(self, x: Any) -> np.ndarray:
        """Ids stay on the CPU, which sorts them."""
        return backend.host(x)

    def cast(self, x: Any) -> np.ndarray:
        """Check that x holds ids within this table.

        Raises:
            TypeError: not integers.
            ValueError: ids below 0 or not below `input_dim`. (CuPy would silently take other rows.)
        """
        x = integer_ids(self.name, x)
        extreme, what = (x.min(), "negative") if x.min() < 0 else (x.max(), "too large")
        if not 0 <= extreme < self.input_dim:
            given = f"the input holds the id {extreme} ({what})"
            raise ValueError(f"{self.name} has rows for ids 0 to {self.input_dim - 1}, but {given}")
        return x

    def forward(self, x: np.ndarray, run: Pass) -> tuple[GatheredRows | backend.Array, GatheredRows]:
        groups = Groups(x)
        table = self.params["embeddings"]
        ids = groups.on_device.ids if backend.is_cupy(table) else groups.ids
        rows = GatheredRows(table.take(ids, axis=0), groups, table.shape)
        return rows if run.embed is None else run.embed(rows), rows

    def backward(self, dy: backend.Array | RowGradient, cache: GatheredRows) -> tuple[None, Gradients]:
        """The gradient of `embeddings`, a `RowGradient`; the ids have none.

        Args:
            dy: (B, T, E), or already summed per distinct id.
            cache: from `forward`.
        """
        return None, {"embeddings": cache.row_gradient(dy)} if self.trainable else {}
