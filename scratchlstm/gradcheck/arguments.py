"""What every check requires of its arguments."""

from collections.abc import Mapping

import numpy as np

from scratchlstm._support import checks
from scratchlstm.rows import as_array


def require_arguments(epsilon: float, tolerance: float, **flags: bool) -> None:
    """Raise unless flags are True or False and the two numbers are above 0."""
    for argument, value in flags.items():
        checks.flag(argument, value)
    checks.number("epsilon", epsilon, above=0)
    checks.number("tolerance", tolerance, above=0)


def require_float64(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError at the first array, by name, that is not float64."""
    for name, array in arrays.items():
        if (dtype := as_array(array).dtype) != np.float64:
            advice = 'make it float64 (for layers of this package: dtype="float64", or config.set_floatx("float64"))'
            raise ValueError(f"{name} is {dtype}, in which a gradient cannot be checked closely; {advice}")
