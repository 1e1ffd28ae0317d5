"""Argument checks, with errors that name the argument, what was given, and what was expected."""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from scratchlstm import backend, config

F = TypeVar("F", bound=Callable[..., Any])


def came(value: Any) -> str:
    """`value` as shown in an error message: an array by its shape, a dict by its keys, anything long truncated."""
    if np.ndim(getattr(value, "shape", 0)) == 1 and hasattr(value, "ndim") and not isinstance(value, np.generic):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, Mapping) and not all(isinstance(each, str | float | int) for each in value.values()):
        return f"a dict with {', '.join(map(repr, value))}"
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."


def whole_number(argument: str, value: Any, at_least: int = 0) -> int:
    """`value` as an int.

    Raises:
        ValueError: not a whole number, or below `at_least`.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < at_least:
        bound = "above 0" if at_least == 1 else f"of at least {at_least}"
        raise ValueError(f"{argument} must be a whole number {bound}, not {came(value)}")
    return int(value)


def positive_int(argument: str, value: Any) -> int:
    """`value` as an int above 0.

    Raises:
        ValueError: anything else.
    """
    return whole_number(argument, value, at_least=1)


def index(argument: str, value: Any, size: int) -> int:
    """`value` as an index into `size` things, counted from 0.

    Raises:
        ValueError: it is out of range.
    """
    if whole_number(argument, value) >= size:
        raise ValueError(f"{argument} must be from 0 to {size - 1}, not {value}")
    return int(value)


_BOUNDS = {"above": operator.gt, "at_least": operator.ge, "below": operator.lt, "at_most": operator.le}


def number(argument: str, value: Any, **bounds: float) -> float:
    """`value` as a finite float within the bounds: any of `above`, `at_least`, `below` and `at_most`.

    Raises:
        ValueError: not a number, or out of bounds.
    """
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    is_finite = is_number and math.isfinite(value)
    if not is_finite or not all(_BOUNDS[name](value, bound) for name, bound in bounds.items()):
        wanted = " and ".join(f"{name.replace('_', ' ')} {bound:g}" for name, bound in bounds.items())
        raise ValueError(f"{argument} must be {wanted or 'a finite number'}, not {came(value)}")
    return float(value)


def numbers(argument: str, values: Any, **bounds: float) -> list[float]:
    """`values` as a list of finite floats within the bounds of `number`.

    Raises:
        ValueError: not a list of such numbers.
    """
    if not isinstance(values, list | tuple | np.ndarray):
        raise ValueError(f"{argument} must be a list of numbers, not {came(values)}")
    return [number(f"each of {argument}", value, **bounds) for value in values]


def whole_numbers(argument: str, values: Any) -> list[int]:
    """`values` as a list of whole numbers, each at least 0.

    Raises:
        ValueError: not a list of such numbers.
    """
    numbers(argument, values)
    return [whole_number(f"each of {argument}", value) for value in values]


def flag(argument: str, value: Any) -> bool:
    """`value`, which must be True or False (or 1 or 0).

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
        raise TypeError(f"{argument} must be True or False, not {came(value)}")
    return bool(value)


def string(argument: str, value: Any) -> str:
    """`value`, which must be a string.

    Raises:
        TypeError: it is not.
    """
    return instance(argument, value, str, "a string")


def instance(argument: str, value: Any, kinds: Any, what: str) -> Any:
    """`value`, which must be of one of these kinds, called `what` in the error.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kinds):
        raise TypeError(f"{argument} must be {what}, not {came(value)}")
    return value


def one_of(argument: str, value: Any, choices: Sequence[str | None]) -> Any:
    """`value`, which must be one of `choices`.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str | None) or value not in choices:
        *first, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
        raise ValueError(f"{argument} must be {', '.join(first)} or {last}, not {came(value)}")
    return value


def verbosity(value: Any) -> int:
    """0, 1 or 2; "auto" is 1.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, str) and value == "auto":
        return 1
    if not isinstance(value, int | float | np.generic) or value not in (0, 1, 2):
        raise ValueError(f'verbose must be 0, 1, 2 or "auto", not {came(value)}')
    return int(value)


def function(argument: str, value: Any) -> Callable[..., Any]:
    """`value`, which must be callable.

    Raises:
        TypeError: it is not.
    """
    return instance(argument, value, Callable, "a function")


def seed(value: Any) -> int | None:
    """A seed for NumPy's generators.

    Raises:
        ValueError: neither None nor a whole number of at least 0.
    """
    return None if value is None else whole_number("seed", value)


def generator(rng: Any) -> np.random.Generator:
    """`rng` itself, or a new generator for None.

    Raises:
        TypeError: it is not a NumPy generator.
    """
    instance("rng", rng, np.random.Generator | None, "a generator such as np.random.default_rng(seed)")
    return np.random.default_rng() if rng is None else rng


def array(argument: str, value: Any, numeric: bool = False) -> np.ndarray:
    """`value`, an array of any library on the CPU or of CuPy, a number, or a list of these, as a NumPy array.

    Anything that would have to be iterated over, such as a generator or a data set, is rejected unread.

    Raises:
        TypeError: it is nothing of that kind (the message says what to pass instead), or not numeric if `numeric`.
        ValueError: it is missing, has rows of different lengths, or is a tuple (x, y).
    """
    if value is None:
        raise ValueError(f"{argument} is missing")
    require_array_like(argument, value)
    advice = "preprocessing.sequence.pad_sequences makes them equal"
    try:
        converted = backend.host(value)
    except ValueError as error:
        problem = f"has rows of different lengths; {advice}"
        if isinstance(value, tuple) and len({np.shape(v)[:1] for v in value if backend.is_array_like(v)}) == 1:
            problem = "looks like a tuple (x, y); pass its parts as separate arguments"
        raise ValueError(f"{argument} {problem}") from error
    except (TypeError, RuntimeError) as error:  # from another library, e.g. for a tensor that requires a gradient
        raise TypeError(f"{argument} cannot be converted to a NumPy array: {error}") from error
    if converted.dtype == object and converted.ndim == 0:
        raise TypeError(f"{argument} must be an array or a list of rows; {type(value).__name__} holds no data")
    if converted.dtype == object:
        raise ValueError(f"{argument} contains objects instead of numbers (rows of different lengths?); {advice}")
    if numeric and converted.dtype.kind not in "fiub":
        raise TypeError(f"{argument} must contain numbers, but has dtype {converted.dtype}")
    return converted


def parameter(w: Any) -> backend.Array:
    """`w` as a NumPy or CuPy array of floats.

    Raises:
        TypeError, ValueError: see `array`.
    """
    w = w if backend.is_array(w) else array("w", w, numeric=True)
    return w if w.dtype.kind == "f" else w.astype(config.floatx())


def fitting(shapes: str) -> Callable[[F], F]:
    """Decorate a cell's function so that arguments that do not match are named.

    Functions over a sequence check them first. A single step, which must be fast, is only explained once it has failed.

    Args:
        shapes: of each argument, a letter for each dimension: equal letters are equal sizes, and Z is 4H. "call" means
            a function, "cache" the result of a forward pass, and a `?` at the end allows None.
    """

    def decorate(cell: F) -> F:
        expected = dict(zip(inspect.signature(cell).parameters, shapes.split(), strict=True))

        def compare(given: dict[str, Any]) -> None:
            sizes = {"4": 4}
            for argument, letters in expected.items():
                value, names = given.get(argument), letters.rstrip("?")
                if argument not in given or (value is None and names != letters):
                    continue
                sizes = dict(zip(names, getattr(value, "shape", ()), strict=False)) | sizes
                sizes["Z"] = 4 * sizes.get("H", 0)
                if letters == "call":
                    function(argument, value)
                elif letters == "cache":
                    instance(argument, value, list | tuple, "the forward pass's result")
                elif getattr(value, "shape", None) != tuple(map(sizes.get, names)):
                    wanted = ", ".join(names).replace("Z", "4H")
                    raise ValueError(f"{argument} must be an array ({wanted}) like the others, not {came(value)}")

        @functools.wraps(cell)
        def checked(*args: Any, **named: Any) -> Any:
            if "T" in shapes:
                compare(dict(zip(expected, args, strict=False)) | named)
            try:
                return cell(*args, **named)
            except (AttributeError, IndexError, TypeError, ValueError):
                compare(dict(zip(expected, args, strict=False)) | named)
                raise

        return checked  # type: ignore[return-value]

    return decorate


_PLAIN = {bool, int, float, complex, str, bytes, type(None), np.ndarray}


def require_array_like(argument: str, value: Any, depth: int = 0) -> None:
    """Reject a data source that is not an array or list: NumPy would read it item by item, perhaps forever.

    Raises:
        TypeError: `value`, or something in it, is such a source.
    """
    kind = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, list | tuple):
        if depth < 64 and not set(map(type, value)) <= _PLAIN:  # NumPy's maximum number of dimensions
            for item in value:
                require_array_like(argument, item, depth + 1)
    elif isinstance(value, Mapping):
        raise TypeError(f"{argument} contains objects, in a {kind.__name__}; pass the array itself")
    elif (hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")) and not hasattr(value, "sample_shape"):  # a Node
        if isinstance(value, Sequence) or backend.is_array_like(value):
            return
        if hasattr(kind, "ragged_rank"):
            raise TypeError(f"{argument} has rows of different lengths; pad_sequences(x.to_list()) makes them equal")
        each = "x for x, y in d" if hasattr(kind, "__iter__") else "d[i][0] for i in range(len(d))"
        raise TypeError(
            f"{argument} must be an array or a list of rows, not a {kind.__name__}, whose samples must be fetched "
            f"one by one; make arrays of them first, as with np.stack([{each}]), or np.concatenate if they come in "
            f"batches"
        )
