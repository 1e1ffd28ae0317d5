"""All features of a sample in one row."""

import math

from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer
from scratchlstm.layers.weights import Shape


class Flatten(Layer):
    """(B, ...) -> (B, N). A mask ends here.

    Args:
        options: name, dtype, input_shape, see `Layer`.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return (None,) if None in input_shape else (math.prod(size for size in input_shape if size is not None),)

    def forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        return x.reshape(len(x), -1), x.shape

    def backward(self, dy: Array, cache: tuple[int, ...]) -> tuple[Array, Gradients]:
        return dy.reshape(cache), {}
