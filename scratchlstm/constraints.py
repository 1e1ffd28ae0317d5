"""Constraints that parameters must meet after each update, with Keras' names and formulas."""

from typing import Any

import numpy as np

from scratchlstm._support import checks, registry

_EPSILON = 1e-7  # Keras' epsilon, added to a norm


class Constraint(registry.Configured):
    """A function that maps a parameter to an allowed value."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """The allowed value for w, with the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(w)")

    def require_axis(self, param: str, shape: tuple[int, ...]) -> None:
        """Check the axis, if there is one, against a parameter's shape.

        Raises:
            ValueError: the parameter has no such axis.
        """
        axis = getattr(self, "axis", 0)
        if axis >= len(shape):
            raise ValueError(f"{type(self).__name__} has axis={axis}, but {param} has the shape {shape}")


class NonNeg(Constraint):
    """max(w, 0)."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return np.maximum(checks.parameter(w), 0)


class _Norm(Constraint):
    """A constraint on norms along an axis."""

    axis: int

    def norms(self, w: np.ndarray) -> np.ndarray:
        """‖w‖ along the axis, which is kept with size 1."""
        self.require_axis("w", w.shape)
        return np.sqrt(np.sum(np.square(w), axis=self.axis, keepdims=True))


class MaxNorm(_Norm):
    """Shortens vectors longer than `max_value`: w · min(‖w‖, max_value) / (‖w‖ + 1e-7).

    Args:
        max_value: the largest norm.
        axis: the axis of the norm; 0 for the incoming weights of each unit.
    """

    def __init__(self, max_value: float = 2, axis: int = 0) -> None:
        self.max_value, self.axis = checks.number("max_value", max_value, at_least=0), checks.whole_number("axis", axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        w = checks.parameter(w)
        norms = self.norms(w)
        return w * (np.minimum(norms, w.dtype.type(self.max_value)) / (w.dtype.type(_EPSILON) + norms))


class UnitNorm(_Norm):
    """Scales vectors to length 1: w / (‖w‖ + 1e-7).

    Args:
        axis: see `MaxNorm`.
    """

    def __init__(self, axis: int = 0) -> None:
        self.axis = checks.whole_number("axis", axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        w = checks.parameter(w)
        return w / (w.dtype.type(_EPSILON) + self.norms(w))


# Keras' aliases
non_neg, max_norm, unit_norm = NonNeg, MaxNorm, UnitNorm

_KNOWN = registry.by_both_names(NonNeg, MaxNorm, UnitNorm)


def get(identifier: Any, argument: str = "") -> Constraint | None:
    """The constraint of that name, None for None.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor a `Constraint`.
    """
    return None if identifier is None else registry.resolve("constraint", identifier, _KNOWN, Constraint, argument)
