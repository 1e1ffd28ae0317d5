"""Checks of the arguments shared by all gradient checks."""

from collections.abc import Mapping

import numpy as np

from scratchlstm._support import checks
from scratchlstm.rows import as_array


def require_arguments(epsilon: float, tolerance: float, **flags: bool) -> None:
    """Raise an error unless flags are True or False and both numbers are above 0."""
    for argument, value in flags.items():
        checks.flag(argument, value)
    checks.number("epsilon", epsilon, above=0)
    checks.number("tolerance", tolerance, above=0)


def require_float64(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError, naming the first array that is not float64."""
    for name, array in arrays.items():
        if (dtype := as_array(array).dtype) != np.float64:
            advice = 'make it float64 (for layers of this package: dtype="float64", or config.set_floatx("float64"))'
            raise ValueError(f"{name} is {dtype}, which is too coarse to check a gradient; {advice}")
