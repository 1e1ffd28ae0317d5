"""Checks of a user's own cell against the contract, at the first two steps of each pass; see `Cell`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np

from scratchlstm._support import registry
from scratchlstm._support.checks import came
from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import IN_TRACE, Cell, Specs
from scratchlstm.initializers import Initializer


def require_sizes(cell: Cell) -> None:
    """Raise TypeError unless `state_sizes` has a size for each state and `param_specs` has the right arguments."""
    sizes, name = cell.state_sizes, type(cell).__name__
    if not isinstance(sizes, dict) or tuple(sizes) != tuple(cell.states) or not _are_sizes(sizes.values()):
        wanted = f"a property with a whole number above 0 for each state, like {dict.fromkeys(cell.states, cell.units)}"
        given = "a method" if callable(sizes) else came(sizes)
        raise TypeError(f"state_sizes of {name} must be {wanted}, not {given}")
    try:
        signature(cell.param_specs).bind(1)
    except TypeError:
        given = f"param_specs({', '.join(signature(type(cell).param_specs).parameters)})"
        raise TypeError(f"{name} must define param_specs(self, features), with the size of x, not {given}") from None


def param_specs(cell: Cell, features: int) -> Specs:
    """The cell's `param_specs`, checked.

    Raises:
        TypeError: they are not as described in `Cell.param_specs`, or do not match `forward`.
    """
    own, name = cell.param_specs(features), type(cell).__name__
    if not isinstance(own, dict):
        raise TypeError(f"param_specs of {name} must return a dict, name -> (shape, initializer), not {_shown(own)}")
    for param, spec in own.items():
        pair = isinstance(spec, tuple | list) and len(spec) == 2 and isinstance(spec[0], tuple)
        if not pair or not _are_sizes(spec[0]) or not isinstance(spec[1], str | Initializer):
            wanted = f"(shape, initializer) for {param!r}, like ((3, 4), 'glorot_uniform')"
            raise TypeError(f"param_specs of {name} must have {wanted}, not {came(spec)}")
        if param in {*IN_TRACE, *cell.gates, *cell.states}:
            problem = f"a parameter {param!r}, a name that traces use for something else: rename it"
            raise TypeError(f"param_specs of {name} calls {problem}")
    if len(own) != len(cell.params):
        problem = f"its forward takes {', '.join(cell.params)}, but its param_specs are {', '.join(own)}"
        raise TypeError(f"{name} must use the same parameter names in both: {problem}")
    return own


def _are_sizes(numbers: Iterable[Any]) -> bool:
    return all(isinstance(each, int | np.integer) and not isinstance(each, bool) and each > 0 for each in numbers)


def first_steps(cell: Cell) -> Any:
    """An object with the cell's `forward` and `backward` for one pass; a user's own are checked at the first steps."""
    return cell if registry.is_ours(type(cell)) else _Checked(cell)


class _Checked:
    """A cell's two functions, whose errors at the first two steps say what is wrong."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.name, self.steps = cell, type(cell).__name__, 0
        self.returned: _Copies = []  # at the previous step

    def forward(self, *given: Array) -> tuple[Any, ...]:
        """See `Cell.forward`."""
        cell, batch = self.cell, len(given[0])
        if self.steps == 2:
            return cell.forward(*given)
        before = _copies(_arrays(cell.arguments, given))
        result: Any = self._called("forward", cell.forward, given)
        if not isinstance(result, tuple) or len(result) != len(cell.states) + 1:
            wanted = f"({', '.join(cell.states)}, cache)"
            raise TypeError(f"forward of {self.name} must return {wanted}, to match its states, not {_shown(result)}")
        for (name, size), state in zip(cell.state_sizes.items(), result, strict=False):
            self._require("forward", name, state, (batch, size), given[0])
        for gate in cell.gates:
            if not hasattr(result[-1], gate):
                problem = f"the attribute {gate}, one of its gates: a NamedTuple has it, not {_shown(result[-1])}"
                raise TypeError(f"the cache of {self.name} must have {problem}")
            self._require("forward", f"{gate} in its cache", getattr(result[-1], gate), (batch, cell.units), given[0])
        self._require_own("forward", _arrays((*cell.states, "cache"), result), before)
        return result

    def backward(self, *given: Any) -> Mapping[str, Array]:
        """See `Cell.backward`."""
        cell, count = self.cell, len(self.cell.states)
        if self.steps == 2:
            return cell.backward(*given)
        before = _copies(_arrays([*(f"d{state}" for state in cell.states), "cache", *cell.params], given))
        result = self._called("backward", cell.backward, given)
        step: Any = result._asdict() if hasattr(result, "_asdict") else result
        wanted = [f"d{name}" for name in cell.arguments]
        if not isinstance(step, dict):
            problem = f"a dict or a NamedTuple with {', '.join(wanted)}, not {_shown(result)}"
            raise TypeError(f"backward of {self.name} must return {problem}")
        if not step:
            raise TypeError(f"backward of {self.name} returned no gradients: it must return {', '.join(wanted)}")
        if missing := [name for name in wanted if name not in step]:
            problem = f"has no {', '.join(missing)} among {', '.join(step)}"
            raise TypeError(f"backward of {self.name} {problem}: a gradient is called d plus the argument's name")
        params, batch = dict(zip(cell.params, given[count + 1 :], strict=True)), len(given[0])
        shapes = {f"d{name}": param.shape for name, param in params.items()}
        before_step = {f"d{state}_prev": (batch, size) for state, size in cell.state_sizes.items()}
        shapes |= {name: shape for name, shape in before_step.items() if name in wanted}
        columns = len(cell.blocks) * cell.units
        if columns and "z" not in cell.gates:  # a gate named z has its own dz
            shapes["dz"] = (batch, columns)
        shapes |= {f"d{state}": (batch, size) for state, size in cell.state_sizes.items()}
        if "kernel" in (names := [*cell.param_specs(1)]):
            shapes["dx"] = (batch, params[cell.params[names.index("kernel")]].shape[0])
        for name, shape in shapes.items():
            if name in step:
                self._require("backward", name, step[name], shape, given[0])
        self._require_own("backward", _arrays([*step], [*step.values()]), before)
        return step

    def _called(self, function: str, call: Callable[..., Any], given: Any) -> Any:
        """The result of a call, with errors about mixed backends explained."""
        self.steps += 1
        try:
            return call(*given)
        except TypeError as error:
            if namespace(given[0]).__name__ != "cupy" or "implicit" not in str(error).lower():
                raise
            what = f"{function} of {self.name} mixes NumPy with CuPy arrays ({error})"
            raise TypeError(f"{what}: use the functions of backend.namespace(x), which are CuPy's then") from error

    def _require_own(self, function: str, result: Iterable[tuple[str, Array]], given: "_Copies") -> None:
        """Check that this call changed neither its arguments nor what the previous step returned."""
        results = dict(result)
        for name, array, copy in self.returned:
            may_return = "of the cache" in name or any(_share(array, each) for _, each, _ in given)  # unchanged
            if name in results and _share(results[name], array) and (_differ(array, copy) or not may_return):
                problem = f"returns as {name} the same array as at the previous step, which changes that result, too"
                raise ValueError(f"{function} of {self.name} {problem}: make a new one")
        for name, array, copy in given:
            if _differ(array, copy):
                raise ValueError(f"{function} of {self.name} changes {name} in place, which it does not own: copy it")
        self.returned = _copies(results.items())

    def _require(self, function: str, name: str, array: Any, shape: tuple[int, ...], other: Array) -> None:
        if getattr(array, "shape", None) != shape:
            raise ValueError(f"{function} of {self.name} must return {name} with the shape {shape}, not {came(array)}")
        if array.dtype != other.dtype:
            wanted = f"the dtype {other.dtype}, that of x, not {array.dtype}"
            raise TypeError(f"{function} of {self.name} must return {name} with {wanted}")


_Copies = list[tuple[str, Array, Array]]  # name, array, a copy of it


def _copies(arrays: Iterable[tuple[str, Array]]) -> _Copies:
    return [(name, array, array.copy()) for name, array in arrays]


def _differ(array: Array, copy: Array) -> bool:
    return not bool(((array == copy) | (array != array)).all())  # NaN equals NaN here


def _share(one: Array, other: Array) -> bool:
    return one is other or (isinstance(one, np.ndarray) and np.shares_memory(one, other))


def _arrays(names: Sequence[str], given: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    """Each array among the arguments, including those in the cache."""
    for name, value in zip(names, given, strict=True):
        if hasattr(value, "shape"):
            yield name, value
        else:
            fields = value._asdict() if hasattr(value, "_asdict") else vars(value) if hasattr(value, "__dict__") else {}
            yield from ((f"{field} of the {name}", array) for field, array in fields.items() if hasattr(array, "shape"))


def _shown(result: Any) -> str:
    if isinstance(result, list | tuple):
        return f"a {type(result).__name__} of {len(result)}"
    return came(result) if result is None or hasattr(result, "shape") else type(result).__name__
