"""Normalization of activations."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm import initializers
from scratchlstm._support import checks
from scratchlstm.layers.base import Layer, Shape, Specs
from scratchlstm.layers.dense import known_features


class LayerNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, over the last axis (Ba, Kiros & Hinton, 2016).

    Args:
        epsilon: keeps the root away from 0.
        center, scale: whether there are beta and gamma.
        beta_initializer, gamma_initializer: names or `Initializer` objects.
        beta_regularizer, gamma_regularizer: penalties added to the loss, or None.
        beta_constraint, gamma_constraint: applied after each update, or None.
        name, dtype, input_shape: see `Layer`.

    Input and output: (B, ..., E).

    Parameters: `gamma` (E,), `beta` (E,).
    """

    passes_mask = True
    of_a_pass: ClassVar = ("normal", "inverse_deviation", "given_out")

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
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
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

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        centered = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(centered * centered, axis=-1, keepdims=True)
        self.inverse_deviation = 1 / np.sqrt(variance + x.dtype.type(self.epsilon))  # (B, ..., 1)
        self.normal, self.given_out = centered * self.inverse_deviation, x.shape
        y = self.normal * self.params["gamma"] if self.scale else self.normal
        return y + self.params["beta"] if self.center else y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy = self.require_gradient(dy, self.given_out)
        rows = tuple(range(dy.ndim - 1))
        if self.center:
            self.grads["beta"] = dy.sum(axis=rows)
        if self.scale:
            self.grads["gamma"] = np.sum(dy * self.normal, axis=rows)
        d_normal = dy * self.params["gamma"] if self.scale else dy
        # mean and variance hang on every x of the row: what d_normal has along 1 and along normal falls away
        along_one = d_normal.mean(axis=-1, keepdims=True)
        along_normal = np.mean(d_normal * self.normal, axis=-1, keepdims=True)
        return self.inverse_deviation * (d_normal - along_one - self.normal * along_normal)
