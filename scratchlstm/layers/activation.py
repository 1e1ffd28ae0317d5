"""An activation as a layer of its own."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm import activations
from scratchlstm.layers.base import Layer, Shape


class Activation(Layer):
    """y = activation(x).

    Args:
        activation: a name of `activations`.
        name, dtype, input_shape: see `Layer`.
    """

    passes_mask = True
    of_a_pass: ClassVar = ("logits", "y", "given_out")

    def __init__(
        self, activation: Any, *, name: str | None = None, dtype: str | None = None, input_shape: Shape | None = None
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.activation = activations.get(activation)
        self.identity = self.activation == activations.LINEAR

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.logits = x
        self.y, self.given_out = self.activation(x), x.shape
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy = self.require_gradient(dy, self.given_out)
        return self.backward_from_logits(self.activation.backward(self.y, dy))

    def backward_from_logits(self, dz: np.ndarray) -> np.ndarray:
        """`backward` for a gradient that has the activation's derivative in it already (as a loss on logits gives)."""
        return dz
