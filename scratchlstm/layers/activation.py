"""An activation function as a layer of its own."""

from typing import Any, NamedTuple, Unpack

from scratchlstm import activations
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.passes import FromLogits, at_logits


class Kept(NamedTuple):
    """What a forward pass keeps for the backward pass."""

    logits: Array
    y: Array


class Activation(Layer):
    """y = activation(x).

    Args:
        activation: the name of a function in `activations`.
        options: name, dtype, input_shape; see `Layer`.
    """

    passes_mask = True
    may_be_identity = True
    keeps_logits = True

    def __init__(self, activation: Any, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.activation = activations.get(activation)

    def forward(self, x: Array) -> tuple[Array, Kept]:
        y = self.activation(x)
        return y, Kept(x, y)

    def backward(self, dy: Array | FromLogits, cache: Kept) -> tuple[Array, Gradients]:
        return at_logits(dy, self.activation, cache.y), {}

    def is_identity(self, kept: Kept) -> bool:
        return self.activation == activations.LINEAR
