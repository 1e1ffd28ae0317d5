"""Layer normalization."""

from typing import Any, Unpack

import numpy as np

from scratchlstm import initializers
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.cells.normalize import Normal, normalize, normalize_back
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.weights import Shape, Specs, known_features


class LayerNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, over the last axis (Ba, Kiros & Hinton, 2016).

    Args:
        epsilon: added to the variance, so that the root is never 0.
        center, scale: whether to use beta and gamma.
        beta_initializer, gamma_initializer: names or `Initializer` objects.
        beta_regularizer, gamma_regularizer: penalties added to the loss, or None.
        beta_constraint, gamma_constraint: applied after each update, or None.
        options: name, dtype, input_shape; see `Layer`.

    Input and output: (B, ..., E).

    Parameters: `gamma` (E,), `beta` (E,).
    """

    passes_mask = True

    def __init__(
        self,
        *,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.epsilon = checks.number("epsilon", epsilon, above=0)
        self.center, self.scale = checks.flag("center", center), checks.flag("scale", scale)
        self.beta_initializer = initializers.get(beta_initializer, "beta_initializer")
        self.gamma_initializer = initializers.get(gamma_initializer, "gamma_initializer")
        self.limit(
            beta=("beta", beta_regularizer if center else None, beta_constraint if center else None),
            gamma=("gamma", gamma_regularizer if scale else None, gamma_constraint if scale else None),
        )

    def param_specs(self, input_shape: Shape) -> Specs:
        shape = (known_features(self.name, input_shape),)
        specs: Specs = {"gamma": (shape, self.gamma_initializer)} if self.scale else {}
        return specs | ({"beta": (shape, self.beta_initializer)} if self.center else {})

    def forward(self, x: Array) -> tuple[Array, Normal]:
        normal = normalize(x, self.epsilon)
        y = normal.value * self.params["gamma"] if self.scale else normal.value
        return (y + self.params["beta"] if self.center else y), normal

    def backward(self, dy: Array, cache: Normal) -> tuple[Array, Gradients]:
        rows = tuple(range(dy.ndim - 1))
        grads: Gradients = {"gamma": np.sum(dy * cache.value, axis=rows)} if self.scale else {}
        if self.center:
            grads["beta"] = dy.sum(axis=rows)
        return normalize_back(dy * self.params["gamma"] if self.scale else dy, cache), grads
