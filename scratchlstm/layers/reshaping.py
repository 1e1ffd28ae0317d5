"""Layers that change the shape of a sample."""

import math
from typing import Any, ClassVar, Unpack

import numpy as np

from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.weights import Shape, Specs, with_batch


class _Reshaped(Layer):
    """Gives the same values the shape `output_shape`."""

    def forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        return x.reshape(len(x), *self.output_shape(x.shape[1:])), x.shape

    def backward(self, dy: Array, cache: tuple[int, ...]) -> tuple[Array, Gradients]:
        return dy.reshape(cache), {}


class Flatten(_Reshaped):
    """All features of a sample in one row: (B, ...) -> (B, N). The output has no mask.

    Args:
        options: name, dtype, input_shape; see `Layer`.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return (None,) if None in input_shape else (math.prod(size for size in input_shape if size is not None),)


class Reshape(_Reshaped):
    """(B, ...) -> (B, target_shape). The output has no mask, as in Keras.

    Args:
        target_shape: the shape of one sample; one size may be -1, for whatever remains.
        options: name, dtype, input_shape; see `Layer`.

    Raises:
        ValueError: sizes other than positive whole numbers and one -1; on building, an input with another number of
            elements.
    """

    def __init__(self, target_shape: Any, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if not isinstance(target_shape, list | tuple):
            raise ValueError(f"target_shape must be a tuple such as (3, -1), not {checks.came(target_shape)}")
        sizes = [checks.whole_number("each size of target_shape", size, at_least=-1) for size in target_shape]
        if 0 in sizes or sizes.count(-1) > 1:
            raise ValueError(f"target_shape must have sizes above 0 and at most one -1, but is {tuple(target_shape)}")
        self.target_shape = tuple(sizes)

    def param_specs(self, input_shape: Shape) -> Specs:
        self.output_shape(input_shape)  # which checks the sizes
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        known = [size for size in input_shape if size is not None]
        if len(known) < len(input_shape):
            return tuple(None if size == -1 else size for size in self.target_shape)
        left, rest = divmod(math.prod(known), abs(math.prod(self.target_shape)))
        if rest or (left != 1 and -1 not in self.target_shape):
            given = f"an input of shape {with_batch(input_shape)}, {math.prod(known)} elements a sample"
            raise ValueError(f"{self.name} got {given}, which cannot be arranged as target_shape {self.target_shape}")
        return tuple(left if size == -1 else size for size in self.target_shape)


class RepeatVector(Layer):
    """Repeats a vector n times: (B, E) -> (B, n, E).

    Args:
        n: number of steps.
        options: name, dtype, input_shape; see `Layer`.

    Raises:
        ValueError: n is not a positive whole number.
    """

    ranks: ClassVar = (2,)

    def __init__(self, n: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.n = checks.positive_int("n", n)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.n, *input_shape)

    def forward(self, x: Array) -> tuple[Array, None]:
        return np.repeat(x[:, None], self.n, axis=1), None

    def backward(self, dy: Array, cache: None) -> tuple[Array, Gradients]:
        return dy.sum(axis=1), {}
