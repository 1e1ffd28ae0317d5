"""The shape of a model's input."""

from contextlib import suppress

import numpy as np

from scratchlstm.layers.base import INPUT, Layer, Node
from scratchlstm.layers.weights import Shape, as_shape


class Input(Layer, Node):
    """States the shape of one sample, `Input((100,))` or `Input((None, 128))`; has no parameters.

    In a `Sequential` it takes the place of the first layer's `input_shape`, and the summary does not list it (as in
    Keras 3). Of a `Model` it is where the layers begin.

    Args:
        shape: of one sample; None for a length left open.
        name: see `Layer`.
        dtype: of the data, as a note to the reader ("int32" for ids); each layer checks and casts what it gets.

    Raises:
        TypeError: no dtype of numbers.
    """

    def __init__(self, shape: Shape, *, name: str | None = None, dtype: str | None = None) -> None:
        Layer.__init__(self, name=name, input_shape=as_shape(shape, "shape"))
        self.name = INPUT if name is None else self.name
        Node.__init__(self, self, (), as_shape(shape))
        with suppress(TypeError):  # no dtype at all
            if dtype is None or np.dtype(dtype).kind in "iuf":
                return
        raise TypeError(f"dtype of an Input must be one of numbers, not {dtype!r}")
