"""A layer of weighted sums."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm import activations, initializers
from scratchlstm._support import checks
from scratchlstm._support.checks import positive_int
from scratchlstm._support.threads import product
from scratchlstm.layers.base import Layer, Shape, Specs


class Dense(Layer):
    """y = activation(x · kernel + bias), over the last axis.

    Args:
        units: the size of the output.
        activation: a name of `activations`; None is linear.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer: names or `Initializer` objects.
        kernel_regularizer, bias_regularizer: penalties added to the loss, or None.
        kernel_constraint, bias_constraint: applied after each update, or None.
        name, dtype, input_shape: see `Layer`.

    Input: (B, ..., E). Output: (B, ..., units).

    Parameters: `kernel` (E, units), `bias` (units,).
    """

    passes_mask = True
    of_a_pass: ClassVar = ("x", "logits", "y")

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.units = positive_int("units", units)
        self.y: np.ndarray | None = None  # of the last forward pass
        self.activation = activations.get(activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.limit(
            kernel=("kernel", kernel_regularizer, kernel_constraint),
            bias=("bias", bias_regularizer if use_bias else None, bias_constraint if use_bias else None),
        )

    def param_specs(self, input_shape: Shape) -> Specs:
        features = known_features(self.name, input_shape)
        specs: Specs = {"kernel": ((features, self.units), self.kernel_initializer)}
        if self.use_bias:
            specs["bias"] = ((self.units,), self.bias_initializer)
        return specs

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.x = x
        self.logits = product(x, self.params["kernel"])
        if self.use_bias:
            self.logits += self.params["bias"]
        self.y = self.activation(self.logits)
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        dy = self.require_gradient(dy, None if self.y is None else self.y.shape)
        return self.backward_from_logits(self.activation.backward(self.y, dy))

    def backward_from_logits(self, dz: np.ndarray) -> np.ndarray | None:
        """`backward` for a gradient that has the activation's derivative in it already (as a loss on logits gives)."""
        x, flat_dz = self.x.reshape(-1, self.x.shape[-1]), dz.reshape(-1, self.units)
        self.grads["kernel"] = product(x.T, flat_dz)
        if self.use_bias:
            self.grads["bias"] = flat_dz.sum(axis=0)
        return product(dz, self.params["kernel"].T) if self.input_gradient else None


def known_features(name: str, input_shape: Shape) -> int:
    """The last size of `input_shape`, which has to be known.

    Raises:
        ValueError: where it was left open.
    """
    if not input_shape or input_shape[-1] is None:
        raise ValueError(f"{name} needs to know the last size of its input, but the shape is {input_shape}")
    return input_shape[-1]
