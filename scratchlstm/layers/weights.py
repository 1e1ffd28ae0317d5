"""Checks of weights and shapes given by the caller."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.initializers import Initializer
from scratchlstm.rows import as_array

Shape = tuple[int | None, ...]  # without the batch dimension; None for any length
Specs = dict[str, tuple[tuple[int, ...], Initializer | str]]  # parameter name -> (shape, initializer)


def name_weights(owner: str, names: list[str], weights: Any) -> dict[str, Any]:
    """A list of weights as a mapping by name.

    Raises:
        TypeError: not a list.
        ValueError: the wrong number of weights.
    """
    if not isinstance(weights, list | tuple):
        raise TypeError(f"set_weights takes a list of weights, like that of get_weights, not {type(weights).__name__}")
    if len(weights) != len(names):
        raise ValueError(f"{owner} has {len(names)} weights, but {len(weights)} were given")
    return dict(zip(names, weights, strict=True))


def check_weights(
    owner: str, shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Any], dtype: str
) -> dict[str, np.ndarray]:
    """`weights` as arrays, checked against the parameters that `owner` has.

    Raises:
        ValueError: wrong names, a wrong shape, or values that are not finite numbers (in `dtype`).
    """
    checks.instance(f"weights of {owner}", weights, Mapping, "a dict of arrays by name")
    if set(weights) != set(shapes):
        raise ValueError(f"{owner} has the weights {', '.join(shapes) or 'none'}, but {', '.join(weights)} were given")
    arrays = {}
    for name, shape in shapes.items():
        try:
            arrays[name] = weight = backend.host(as_array(weights[name], f"weight {name} of {owner}"))
        except ValueError as error:
            raise ValueError(f"weight {name} of {owner} is not an array: {error}") from error
        if weight.shape != shape:
            raise ValueError(f"weight {name} of {owner} has shape {shape}, but {weight.shape} was given")
        with np.errstate(over="ignore"):
            if weight.dtype.kind not in "fiu" or not np.isfinite(weight.astype(dtype)).all():
                raise ValueError(f"weight {name} of {owner} was given values that are not finite numbers in {dtype}")
    return arrays


def as_shape(shape: Any, argument: str = "a shape") -> Shape:
    """A shape as a tuple of positive whole numbers and None.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(shape, tuple | list):
        raise ValueError(f"{argument} must be a tuple such as (100,), not {checks.came(shape)}")
    return tuple(None if size is None else checks.positive_int("each size of a shape", size) for size in shape)


def same_sizes(one: Shape, other: Shape) -> bool:
    """Whether the sizes are equal wherever both are known."""
    return len(one) == len(other) and all(a == b or None in (a, b) for a, b in zip(one, other, strict=True))


def shapes_of(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: array.shape for name, array in arrays.items()}


def with_batch(shape: Shape | None) -> str:
    """(100,) -> "(None, 100)", as Keras shows a shape."""
    return f"({', '.join(str(size) for size in (None, *(shape or ())))})"


def known_features(name: str, input_shape: Shape) -> int:
    """The last size of `input_shape`, which must be known.

    Raises:
        ValueError: it was left open.
    """
    if not input_shape or input_shape[-1] is None:
        raise ValueError(f"{name} needs to know the last size of its input, but the shape is {input_shape}")
    return input_shape[-1]
