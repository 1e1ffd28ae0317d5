"""The shape of a model's input, said first."""

from scratchlstm.layers.base import Layer, Shape


class Input(Layer):
    """States the shape of one sample, `Input((100,))` or `Input((None, 128))`; has no parameters.

    In a `Sequential` it takes the place of the first layer's `input_shape`, and the summary does not list it (as in
    Keras 3).
    """

    def __init__(self, shape: Shape, *, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name, dtype, shape)
