"""A user's own cell, compared with the contract at the first step of each pass; see `Cell`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from scratchlstm._support import registry
from scratchlstm._support.checks import came
from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import Cell


def first_step(cell: Cell) -> Any:
    """What has the cell's `forward` and `backward`, with checks around those of a class of the user's own."""
    return cell if registry.is_ours(type(cell)) else _Checked(cell)


class _Checked:
    """The two functions of a cell, whose errors name what is wrong."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.name = cell, type(cell).__name__

    def forward(self, *given: Array) -> tuple[Any, ...]:
        """See `Cell.forward`."""
        cell, names, batch = self.cell, self.cell.arguments, len(given[0])
        result = self._unchanged("forward", names, given, cell.forward)
        if not isinstance(result, tuple) or len(result) != len(cell.states) + 1:
            wanted = f"({', '.join(cell.states)}, cache)"
            raise TypeError(f"forward of {self.name} must return {wanted}, as its states say, not {_shown(result)}")
        for (name, size), state in zip(cell.state_sizes.items(), result, strict=False):
            self._require("forward", name, state, (batch, size), given[0])
        for gate in cell.gates:
            if not hasattr(result[-1], gate):
                problem = f"the attribute {gate}, one of its gates: a NamedTuple has it, not {_shown(result[-1])}"
                raise TypeError(f"the cache of {self.name} must have {problem}")
            self._require("forward", f"{gate} in its cache", getattr(result[-1], gate), (batch, cell.units), given[0])
        return result

    def backward(self, *given: Any) -> Mapping[str, Array]:
        """See `Cell.backward`."""
        cell, count = self.cell, len(self.cell.states)
        names = [*(f"d{state}" for state in cell.states), "cache", *cell.params]
        result = self._unchanged("backward", names, given, cell.backward)
        step: Any = result._asdict() if hasattr(result, "_asdict") else result
        wanted = [f"d{name}" for name in cell.arguments]
        if not isinstance(step, dict):
            problem = f"a dict or a NamedTuple with {', '.join(wanted)}, not {_shown(result)}"
            raise TypeError(f"backward of {self.name} must return {problem}")
        if missing := [name for name in wanted if name not in step]:
            problem = f"has no {', '.join(missing)} among {', '.join(step)}"
            raise TypeError(f"backward of {self.name} {problem}: a gradient is called d and the argument's name")
        params = dict(zip(cell.params, given[count + 1 :], strict=True))
        for name, param in params.items():
            self._require("backward", f"d{name}", step[f"d{name}"], param.shape, given[0])
        sizes = {f"d{state}_prev": size for state, size in cell.state_sizes.items()}
        for name in wanted:
            if name in sizes:
                self._require("backward", name, step[name], (len(given[0]), sizes[name]), given[0])
        if "dx" in step and cell.params:
            features = next(iter(params.values())).shape[0]
            self._require("backward", "dx", step["dx"], (len(given[0]), features), given[0])
        return step

    def _unchanged(self, function: str, names: Any, given: Any, call: Callable[..., Any]) -> Any:
        """The result of a call, whose arguments must be what they were before it."""
        arrays = dict(_arrays(names, given))
        before = {name: array.copy() for name, array in arrays.items()}
        try:
            result = call(*given)
        except TypeError as error:
            if namespace(given[0]).__name__ != "cupy" or "implicit" not in str(error).lower():
                raise
            what = f"{function} of {self.name} mixes NumPy with arrays of CuPy ({error})"
            raise TypeError(f"{what}: use the functions of backend.namespace(x), which are CuPy's there") from error
        for name, array in arrays.items():
            if not bool(((array == before[name]) | (array != array)).all()):  # NaN may stay NaN
                raise ValueError(f"{function} of {self.name} changes {name} in place, which belongs to others: copy it")
        return result

    def _require(self, function: str, name: str, array: Any, shape: tuple[int, ...], other: Array) -> None:
        if getattr(array, "shape", None) != shape:
            raise ValueError(f"{function} of {self.name} must give {name} the shape {shape}, not {came(array)}")
        if array.dtype != other.dtype:
            wanted = f"the dtype {other.dtype}, as x has it, not {array.dtype}"
            raise TypeError(f"{function} of {self.name} must give {name} {wanted}")


def _arrays(names: Sequence[str], given: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    """Each array among the arguments, and those that the cache holds."""
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
