"""Central differences: how a loss changes when an element is nudged."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.gradcheck.arguments import require_float64

EPSILON = 1e-5
# tensors up to this size are checked element by element, larger ones along random directions
EVERY_NUMBER = 2000
DIRECTIONS = 20
Loss = Callable[[], float]
_NEGLIGIBLE = 1e-2  # the smallest norm to measure differences against, so that rounding is not compared to zero


def numerical_gradient(loss: Callable[[], float], array: Array, epsilon: float = EPSILON) -> np.ndarray:
    """Central differences, dL/da ≈ (L(a + ε) - L(a - ε)) / 2ε, for each element of `array`.

    Args:
        loss: computes L from `array`, which is changed in place and restored.
        array: float64, NumPy or CuPy.
        epsilon: ε; 1e-5 balances rounding and curvature in float64.

    Returns:
        a NumPy array of the same shape.

    Raises:
        TypeError: not an array.
        ValueError: another dtype, or an epsilon that is not above 0.
    """
    checks.function("loss", loss)
    if not backend.is_array(array):
        raise TypeError(f"array must be a NumPy array, which can be changed in place, not {type(array).__name__}")
    require_float64({"array": array})
    checks.number("epsilon", epsilon, above=0)
    gradient = np.empty(array.shape)
    for place in np.ndindex(array.shape):
        direction = np.zeros(array.shape)
        direction[place] = 1
        gradient[place] = slope(loss, array, direction, epsilon)
    return gradient


def relative_error(analytic: Any, reference: Any) -> float:
    """||a - b|| / max(||a||, ||b||), with a lower bound on the divisor in case both are tiny."""
    analytic = checks.array("analytic", analytic, numeric=True)
    reference = checks.array("reference", reference, numeric=True)
    scale = max(float(np.linalg.norm(analytic)), float(np.linalg.norm(reference)), _NEGLIGIBLE)
    return float(np.linalg.norm(analytic - reference)) / scale


def numeric_error(
    loss: Loss, array: Array, analytic: np.ndarray, rng: np.random.Generator, epsilon: float, size: int = 0
) -> float:
    """The relative error of an analytic gradient; along random directions if its tensor is large."""
    if max(size, array.size) <= EVERY_NUMBER:
        return relative_error(analytic, numerical_gradient(loss, array, epsilon))
    directions = [direction / np.linalg.norm(direction) for direction in rng.normal(size=(DIRECTIONS, *array.shape))]
    slopes = [slope(loss, array, direction, epsilon) for direction in directions]
    return relative_error([float(np.sum(analytic * direction)) for direction in directions], slopes)


def slope(loss: Loss, array: Array, direction: np.ndarray, epsilon: float) -> float:
    """How L changes along `direction`; `array` is restored exactly."""
    before = array.copy()
    try:
        step = epsilon * backend.beside(array, direction)
        array[...] = before + step
        above = loss()
        array[...] = before - step
        return (above - loss()) / (2 * epsilon)
    finally:
        array[...] = before
