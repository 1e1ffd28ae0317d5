"""Activations: each computes its value and, from that value, its derivative."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlstm._support import checks, cupy_elementwise, registry
from scratchlstm.backend import is_cupy, namespace
from scratchlstm.gates import Array, Function, sigmoid, sigmoid_prime, tanh, tanh_prime


@dataclass(frozen=True)
class Activation(registry.Configured):
    """An elementwise function: y = function(z), dy/dz = prime(y); `on_gpu` does the same in one kernel launch."""

    name: str
    function: Function
    prime: Function
    on_gpu: Function | None = None

    def __post_init__(self) -> None:
        checks.string("name", self.name)
        checks.function("function", self.function)
        checks.function("prime", self.prime)

    def __call__(self, z: Array) -> Array:
        """y, with the shape of z."""
        has_kernel = self.on_gpu is not None and is_cupy(z) and z.dtype in (np.float32, np.float64)
        return (self.on_gpu if has_kernel else self.function)(z)  # type: ignore[misc]

    def backward(self, y: Array, dy: Array) -> Array:
        """dz, from the value y and dy, all of the same shape."""
        return dy * self.prime(y)

    def description(self) -> Any:
        """The name for `get`; for one of the user's own, what `registry.serialize` returns for it."""
        if _KNOWN.get(self.name) == self:
            return self.name
        module = getattr(self.function, "__module__", "numpy")  # ufuncs have none before NumPy 2.1
        return registry.OwnPart({"class_name": self.name, "config": {}, "foreign": module}, self)


class Softmax(Activation):
    """exp(z) / Σ exp(z) over the last axis: every output depends on every input."""

    def backward(self, y: Array, dy: Array) -> Array:
        """dz_j = y_j (dy_j - Σ_k dy_k y_k)."""
        return y * (dy - namespace(y).sum(dy * y, axis=-1, keepdims=True))


def softmax(z: Array) -> Array:
    """exp(z) / Σ exp(z) over the last axis, shifted by the largest z so that nothing overflows."""
    xp = namespace(z)
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def hard_sigmoid(z: Array) -> Array:
    """clip((z + 3) / 6, 0, 1): Keras 3's piecewise linear function (Keras 2 had 0.2 z + 0.5)."""
    return namespace(z).clip(z / 6 + 0.5, 0, 1)


def _hard_sigmoid_prime(y: Array) -> Array:
    return namespace(y).astype((y > 0) & (y < 1), y.dtype) / 6


def relu(z: Array) -> Array:
    """max(z, 0)."""
    return namespace(z).clip(z, 0, None)


def _relu_prime(y: Array) -> Array:
    return namespace(y).astype(y > 0, y.dtype)


def linear(z: Array) -> Array:
    """z itself."""
    return z


def _linear_prime(y: Array) -> Array:
    return namespace(y).ones_like(y)


SIGMOID = Activation("sigmoid", sigmoid, sigmoid_prime, cupy_elementwise.sigmoid)
TANH = Activation("tanh", tanh, tanh_prime)
LINEAR = Activation("linear", linear, _linear_prime)
_HARD_SIGMOID = Activation("hard_sigmoid", hard_sigmoid, _hard_sigmoid_prime)
_RELU = Activation("relu", relu, _relu_prime)
_SOFTMAX = Softmax("softmax", softmax, _linear_prime)

_KNOWN = {each.name: each for each in (SIGMOID, TANH, LINEAR, _HARD_SIGMOID, _RELU, _SOFTMAX)}


def serialize(activation: Activation) -> Any:
    """The name of an activation, as in Keras; see `Activation.description`."""
    return get(activation).description()


def get(identifier: Any, argument: str = "") -> Activation:
    """The activation with that name, or for a function of this module; None is linear, as in Keras.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor an `Activation`.
    """
    if identifier is None:
        return LINEAR
    for activation in _KNOWN.values():
        if identifier is activation.function:  # activations.relu, as in Keras
            return activation
    return registry.resolve("activation", identifier, _KNOWN, Activation, argument)
