"""Arguments checked, with errors that name the argument, what came, and what was expected."""

import math
from typing import Any

import numpy as np


def whole_number(argument: str, value: Any, at_least: int = 0) -> int:
    """`value` as an int.

    Raises:
        ValueError: not a whole number, or below `at_least`.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < at_least:
        bound = "above 0" if at_least == 1 else f"of at least {at_least}"
        raise ValueError(f"{argument} must be a whole number {bound}, not {value!r}")
    return int(value)


def positive_int(argument: str, value: Any) -> int:
    """`value` as an int above 0.

    Raises:
        ValueError: anything else.
    """
    return whole_number(argument, value, at_least=1)


def index(argument: str, value: Any, size: int) -> int:
    """`value` as the place of one of `size` things, counted from 0.

    Raises:
        ValueError: there is no such place.
    """
    if whole_number(argument, value) >= size:
        raise ValueError(f"{argument} must be from 0 to {size - 1}, not {value}")
    return int(value)


def number(
    argument: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """`value` as a finite float within the bounds.

    Raises:
        ValueError: not a number, or out of bounds.
    """
    kinds = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    bounds = " and ".join(f"{words} {bound:g}" for words, bound in kinds.items() if bound is not None)
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if (
        not is_number
        or not math.isfinite(value)
        or (above is not None and value <= above)
        or (at_least is not None and value < at_least)
        or (below is not None and value >= below)
        or (at_most is not None and value > at_most)
    ):
        raise ValueError(f"{argument} must be {bounds or 'a finite number'}, not {value!r}")
    return float(value)


def numbers(argument: str, values: Any, **bounds: float) -> list[float]:
    """`values` as a list of finite floats within the bounds of `number`.

    Raises:
        ValueError: no list of such numbers.
    """
    if not isinstance(values, list | tuple | np.ndarray):
        raise ValueError(f"{argument} must be a list of numbers, not {values!r}")
    return [number(f"each of {argument}", value, **bounds) for value in values]


def flag(argument: str, value: Any) -> bool:
    """`value`, which has to be True or False.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} must be True or False, not {value!r}")
    return bool(value)


def string(argument: str, value: Any) -> str:
    """`value`, which has to be a string.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, not {value!r}")
    return value


def seed(value: Any) -> int | None:
    """A seed as NumPy's generators take it.

    Raises:
        ValueError: neither None nor a whole number of at least 0.
    """
    return None if value is None else whole_number("seed", value)
