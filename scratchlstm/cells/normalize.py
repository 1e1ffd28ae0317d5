"""Layer normalization by hand: scales each row of an array to mean 0 and variance 1, with the derivative.

    a^ = (a - mean(a)) / sqrt(var(a) + ε)

`layers.LayerNormalization` and `cells.LayerNormLSTMCell` use it. Source: Ba, Kiros & Hinton (2016).
"""

from typing import NamedTuple

from scratchlstm.backend import Array, namespace


class Normal(NamedTuple):
    """Normalized rows, and what else their derivative needs."""

    value: Array  #  (..., n)
    scale: Array  #  (..., 1)  1 / sqrt(var(a) + ε)


def normalize(a: Array, epsilon: float) -> Normal:
    """Each row minus its mean, divided by its standard deviation.

    Args:
        a: (..., n).
        epsilon: added to the variance, so that the root is never 0.
    """
    centered = a - mean(a)  #                                                   (..., n)
    scale = 1 / namespace(a).sqrt(mean(centered * centered) + epsilon)  #       (..., 1)
    value = centered * scale  #                                                 (..., n)  (N1)
    return Normal(value, scale)


def normalize_back(d_value: Array, normal: Normal) -> Array:
    """The derivative of `normalize`; mean and deviation depend on every element of the row.

    Args:
        d_value: dL/d(value), (..., n).
        normal: from `normalize`.
    """
    value, scale = normal
    da = scale * (d_value - mean(d_value) - value * mean(d_value * value))  #   (..., n)  (N5)
    return da


def mean(a: Array) -> Array:
    """The mean of each row, (..., n) -> (..., 1)."""
    return namespace(a).mean(a, axis=-1, keepdims=True)
