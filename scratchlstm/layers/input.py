"""The input of a model, with its shape."""

from contextlib import suppress

import numpy as np

from scratchlstm.layers.base import INPUT, Layer, Node
from scratchlstm.layers.weights import Shape, as_shape


class Input(Layer, Node):
    """Declares the shape of one sample, `Input((100,))` or `Input((None, 128))`; has no parameters.

    In a `Sequential` it replaces the first layer's `input_shape` and is not listed in the summary (as in Keras 3). In a
    `Model` it is the starting point for the layers.

    Args:
        shape: the shape of one sample; None for a size left open.
        name: see `Layer`.
        dtype: that of the data, as a note to the reader ("int32" for ids); each layer checks and casts its own input.

    Raises:
        TypeError: not a numeric dtype.
    """

    def __init__(self, shape: Shape, *, name: str | None = None, dtype: str | None = None) -> None:
        Layer.__init__(self, name=name, input_shape=as_shape(shape, "shape"))
        self.name = INPUT if name is None else self.name
        Node.__init__(self, self, (), as_shape(shape))
        with suppress(TypeError):  # not a dtype at all
            if dtype is None or np.dtype(dtype).kind in "iuf":
                return
        raise TypeError(f"dtype of an Input must be numeric, not {dtype!r}")
