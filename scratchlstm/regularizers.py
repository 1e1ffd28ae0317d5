"""Penalties on parameters, added to the loss, with Keras' names and formulas."""

from typing import Any

import numpy as np

from scratchlstm._support import checks, registry
from scratchlstm.backend import Array, is_cupy


class Regularizer(registry.Configured):
    """l1 Σ|w| + l2 Σw²."""

    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, w: Array) -> Any:
        """The penalty: a float, or if w is on a GPU, a 0-d array there."""
        w = checks.parameter(w)
        penalty = self.l1 * np.sum(np.abs(w)) + self.l2 * np.vdot(w, w)
        return penalty if is_cupy(penalty) else float(penalty)

    def gradient(self, w: Array) -> Array:
        """Its derivative, l1 sign(w) + 2 l2 w, with the shape of w (0 at w = 0)."""
        w = checks.parameter(w)
        return w.dtype.type(self.l1) * np.sign(w) + w.dtype.type(2 * self.l2) * w


class L1(Regularizer):
    """l1 Σ|w|.

    Args:
        l1: the factor.
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = checks.number("l1", l1, at_least=0)


class L2(Regularizer):
    """l2 Σw² (without the factor 1/2, as in Keras).

    Args:
        l2: the factor.
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = checks.number("l2", l2, at_least=0)


class L1L2(Regularizer):
    """l1 Σ|w| + l2 Σw².

    Args:
        l1, l2: the factors.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = checks.number("l1", l1, at_least=0), checks.number("l2", l2, at_least=0)


# Keras' aliases
l1, l2, l1_l2 = L1, L2, L1L2

_KNOWN = registry.by_both_names(L1, L2) | {"L1L2": L1L2}


def get(identifier: Any, argument: str = "") -> Regularizer | None:
    """The regularizer of that name, None for None.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor a `Regularizer`.
    """
    return None if identifier is None else registry.resolve("regularizer", identifier, _KNOWN, Regularizer, argument)
