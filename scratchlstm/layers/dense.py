"""The fully connected layer."""

from typing import Any, NamedTuple, Unpack

from scratchlstm import activations, initializers
from scratchlstm._support import checks
from scratchlstm._support.threads import product
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.passes import FromLogits, at_logits
from scratchlstm.layers.weights import Shape, Specs, known_features


class Kept(NamedTuple):
    """What a forward pass keeps for the backward pass."""

    x: Array
    logits: Array
    y: Array


class Dense(Layer):
    """y = activation(x · kernel + bias), over the last axis.

    Args:
        units: the size of the output.
        activation: the name of a function in `activations`; None is linear.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer: names or `Initializer` objects.
        kernel_regularizer, bias_regularizer: penalties added to the loss, or None.
        kernel_constraint, bias_constraint: applied after each update, or None.
        options: name, dtype, input_shape; see `Layer`.

    Input: (B, ..., E). Output: (B, ..., units).

    Parameters: `kernel` (E, units), `bias` (units,).
    """

    passes_mask = True
    keeps_logits = True

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
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.units = checks.positive_int("units", units)
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

    def forward(self, x: Array) -> tuple[Array, Kept]:
        logits = product(x, self.params["kernel"])
        if self.use_bias:
            logits += self.params["bias"]
        y = self.activation(logits)
        return y, Kept(x, logits, y)

    def backward(self, dy: Array | FromLogits, cache: Kept, need: bool = True) -> tuple[Array | None, Gradients]:
        dz = at_logits(dy, self.activation, cache.y)
        x, flat_dz = cache.x.reshape(-1, cache.x.shape[-1]), dz.reshape(-1, self.units)
        grads: Gradients = {"kernel": product(x.T, flat_dz)} if self.trainable else {}  # equation (30)
        if self.use_bias and self.trainable:
            grads["bias"] = flat_dz.sum(axis=0)  # equation (31)
        return (product(dz, self.params["kernel"].T) if need else None), grads  # equation (32)
