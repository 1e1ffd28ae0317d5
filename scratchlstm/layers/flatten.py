"""All features of a sample in one row."""

import math

import numpy as np

from scratchlstm.layers.base import Layer, Shape


class Flatten(Layer):
    """(B, ...) -> (B, N). A mask ends here.

    Args:
        name, dtype, input_shape: see `Layer`.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return (None,) if None in input_shape else (math.prod(size for size in input_shape if size is not None),)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        y = x.reshape(len(x), -1)
        self.shape, self.given_out = x.shape, y.shape
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return self.require_gradient(dy, self.given_out).reshape(self.shape)
