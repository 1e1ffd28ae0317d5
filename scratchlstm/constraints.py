"""What parameters are put back to after each update, with Keras' names and formulas."""

from typing import Any

import numpy as np

from scratchlstm._support import checks, registry

_EPSILON = 1e-7  # Keras' epsilon under a norm


class Constraint(registry.Configured):
    """A function of a parameter that gives an allowed one."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """The allowed parameter for w, of the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} has to define __call__(w)")

    def require_axis(self, param: str, shape: tuple[int, ...]) -> None:
        """Compare the axis, if there is one, with a parameter's shape.

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
    """What acts on norms along an axis."""

    axis: int

    def norms(self, w: np.ndarray) -> np.ndarray:
        """‖w‖ along the axis, which stays, with size 1."""
        self.require_axis("w", w.shape)
        return np.sqrt(np.sum(np.square(w), axis=self.axis, keepdims=True))


class MaxNorm(_Norm):
    """Shorten what is longer than `max_value`: w · min(‖w‖, max_value) / (‖w‖ + 1e-7).

    Args:
        max_value: the largest norm.
        axis: along which the norm is taken; 0 for the weights that come into one unit.
    """

    def __init__(self, max_value: float = 2, axis: int = 0) -> None:
        self.max_value, self.axis = checks.number("max_value", max_value, at_least=0), checks.whole_number("axis", axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        w = checks.parameter(w)
        norms = self.norms(w)
        return w * (np.minimum(norms, w.dtype.type(self.max_value)) / (w.dtype.type(_EPSILON) + norms))


class UnitNorm(_Norm):
    """w / (‖w‖ + 1e-7).

    Args:
        axis: see `MaxNorm`.
    """

    def __init__(self, axis: int = 0) -> None:
        self.axis = checks.whole_number("axis", axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        w = checks.parameter(w)
        return w / (w.dtype.type(_EPSILON) + self.norms(w))


# under which Keras has them, too
non_neg, max_norm, unit_norm = NonNeg, MaxNorm, UnitNorm

_KNOWN = registry.by_both_names(NonNeg, MaxNorm, UnitNorm)


def get(identifier: Any, argument: str = "") -> Constraint | None:
    """The constraint of that name, None for None.

    Raises:
        ValueError: unknown name; the known ones are listed.
        TypeError: neither a name nor a `Constraint`.
    """
    return None if identifier is None else registry.resolve("constraint", identifier, _KNOWN, Constraint, argument)
