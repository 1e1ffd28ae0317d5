"""An activation as a layer of its own."""

from typing import Any, NamedTuple, Unpack

from scratchlstm import activations
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions


class Kept(NamedTuple):
    """What a pass keeps."""

    logits: Array
    y: Array


class Activation(Layer):
    """y = activation(x).

    Args:
        activation: a name of `activations`.
        options: name, dtype, input_shape, see `Layer`.
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

    def backward(self, dy: Array, cache: Kept) -> tuple[Array, Gradients]:
        return self.activation.backward(cache.y, dy), {}

    def backward_from_logits(self, dz: Array, kept: Kept, need: bool) -> tuple[Array, Gradients]:
        """`backward` for a gradient that has the activation's derivative in it already (as a loss on logits gives)."""
        return dz, {}

    def is_identity(self, kept: Kept) -> bool:
        return self.activation == activations.LINEAR
