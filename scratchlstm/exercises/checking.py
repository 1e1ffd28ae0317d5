"""Check a learner's function and, if it is wrong, say what is wrong with it.

Each function is checked separately: it gets correct values for everything computed before it, so one mistake is one
finding. A wrong result is first compared with the results of the exercise's known mistakes, one at a time and in pairs,
then analysed by `gradcheck.diagnosis`. If neither explains it, the message says so: nothing is guessed.
"""

import contextlib
import copy
import difflib
import inspect
import itertools
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm.exercises.exercise import EXERCISES, Exercise
from scratchlstm.exercises.limits import TooLongError, in_words, limited, message
from scratchlstm.exercises.mistakes import Mistake
from scratchlstm.exercises.scenes import Scene
from scratchlstm.gradcheck.diagnosis import explain

# two sets of random arguments; the first, used to explain mistakes, has no two equal sizes, including 4H
_SIZES = ({"B": 3, "T": 4, "E": 5, "H": 2}, {"B": 2, "T": 1, "E": 3, "H": 4})
_SAME = 1e-9  # largest relative difference between float64 results of the same formula
_FLOAT32 = 1e-5
_PAIRED = 60  # up to this many mistakes, all pairs are tried
_BETWEEN = ". Right for one step, wrong for several: the mistake is in how the steps are connected"


class Verdict(NamedTuple):
    """The result of checking one function."""

    exercise: str
    function: str
    equation: str  # its number in parentheses, if any
    state: str  #   "right", "wrong" or "open"
    says: str

    def __str__(self) -> str:
        name = f"{self.function} {self.equation}".rstrip()
        return f"{name} is {'not written yet' if self.state == 'open' else self.state}{self.says and ': ' + self.says}"


class _Wrong(Exception):
    """What is wrong, in words."""


class _Endless(_Wrong):
    """It ran too long and was stopped."""


class _Open(Exception):
    """The three dots have not been replaced."""


def judge(exercise: Exercise, name: str, function: Any) -> Verdict:
    """Compare a learner's function with the correct one called `name`."""

    def verdict(state: str, says: str = "") -> Verdict:
        return Verdict(exercise.name, name, exercise.equation(name), state, says)

    if not callable(function):
        return verdict("wrong", f"it must be a function, not {type(function).__name__}")
    trial, notes = _Trial(exercise, name, function), []
    try:
        for seed, sizes in enumerate(_SIZES):
            notes.append(trial.run(seed, sizes))
    except _Open as open_:
        return verdict("open", str(open_))
    except _Wrong as wrong:
        return verdict("wrong", str(wrong))
    return verdict("right", notes[0])


class _Trial:
    """A learner's function next to the correct one."""

    def __init__(self, exercise: Exercise, name: str, function: Callable[..., Any]) -> None:
        self.exercise, self.name, self.right = exercise, name, exercise.functions[name]
        self.arguments = list(inspect.signature(self.right).parameters)
        self.function = _in_order(function, self.arguments)
        last = inspect.getsource(self.right).rpartition("return ")[2].partition("  #")[0]
        self.returned = [each.strip() for each in last.split(",")]
        code = getattr(getattr(function, "forward", function), "__code__", None)  # for a cell, that of its step
        self.file = getattr(code, "co_filename", "")
        try:
            self.text = inspect.getsource(function)
        except (OSError, TypeError):  # typed into an interpreter, or not a function
            self.text = ""

    def run(self, seed: int, sizes: Mapping[str, int]) -> str:
        """A remark on a correct result; raises `_Wrong` or `_Open`."""
        scene, precise = self.exercise.scene(seed, **sizes), True
        if not inspect.isclass(self.right):  # a cell has no single result: `examine` checks all of it
            precise = self._compared(scene, seed, sizes)
        if says := self._guarded(self.exercise.ask, "examine", self.name, self.function, scene):
            raise _Wrong(says)
        return "" if precise else "but only to float32 precision; the arguments are float64"

    def _compared(self, scene: Scene, seed: int, sizes: Mapping[str, int]) -> bool:
        """Whether the result is correct to float64 precision (otherwise float32); raises `_Wrong`."""
        try:
            given, right, found = self._results(scene)
            return self._compare(found, right, given, scene, sizes)
        except _Wrong as wrong:
            if not isinstance(wrong, _Endless) and self._right_for_one_step(scene, seed, sizes):
                raise _Wrong(f"{wrong}{_BETWEEN}") from None
            raise

    def _right_for_one_step(self, scene: Scene, seed: int, sizes: Mapping[str, int]) -> bool:
        """Whether a function of sequences is correct if T is 1 and everything else is unchanged."""
        one = self.exercise.scene(seed, **{**sizes, "T": 1})
        if all(_extent(scene[name]) == _extent(one[name]) for name in self.arguments):
            return False
        try:
            _, right, found = self._results(one)
        except (_Wrong, _Open):
            return False
        return max(_errors(found, right).values()) <= _FLOAT32

    def _results(self, scene: Scene) -> tuple[list[Any], dict[str, Any], dict[str, np.ndarray]]:
        """The arguments, and the named parts of the correct result and of the learner's."""
        given = [scene[argument] for argument in self.arguments]
        right = self._named(self.right(*copy.deepcopy(given)))
        return given, right, self._parts(self._call(copy.deepcopy(given)), right)

    def _call(self, given: list[Any]) -> Any:
        """The function's result; checks that its arguments are unchanged afterwards."""
        before = copy.deepcopy(given)
        try:
            with contextlib.suppress(ValueError):  # `max` and others do not tell their arguments
                inspect.signature(self.function).bind(*given)
        except TypeError:
            names = ", ".join(self.arguments)
            raise _Wrong(f"it must take {names}, in this order, or any of them by these names") from None
        result = self._guarded(self.function, *given)
        for name, old, new in zip(self.arguments, before, given, strict=True):
            if name not in self.exercise.in_place and not _same_arrays(old, new):
                what = "" if isinstance(old, np.ndarray) else "an array in "  # a cache
                raise _Wrong(f"it changes {what}its argument {name}; compute a new array, or change a copy of it")
        return result

    def _guarded(self, function: Callable[..., Any], *given: Any) -> Any:
        """The result of a call that runs the learner's code; errors and endless loops are put into words."""
        named = zip(self.arguments, given, strict=False)
        shapes = [f"{name} {each.shape}" for name, each in named if isinstance(each, np.ndarray)]
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return limited(function, *given)
        except (Exception, SystemExit, TooLongError) as error:
            says = in_words(error, self.file)
            if "ellipsis" in message(error).lower() or _met_dots(error, self.file):
                raise _Open(says.partition(": ")[0] if says.startswith("line ") else "") from error
            if isinstance(error, ValueError | IndexError) and shapes:
                says += f" (shapes: {', '.join(shapes)})"
            known = self._failing(error, given) if function is self.function else None
            wrong = _Endless if isinstance(error, TooLongError) else _Wrong
            raise wrong(f"{known.says}. Python says: {says}" if known else says) from error

    def _failing(self, error: BaseException, given: Sequence[Any]) -> Mistake | None:
        """The known mistake that fails with the same error, if it is in the learner's code."""
        for mistake in self.exercise.mistakes_in(self.name):
            if _squeezed(mistake.new) in _squeezed(self.text):
                try:
                    self.exercise.planted(mistake)[self.name](*given)
                except Exception as same:
                    if message(same) == message(error):
                        return mistake
        return None

    def _named(self, value: Any) -> dict[str, Any]:
        """A result's parts by name; for a tuple, the names in the correct function's last line."""
        if not isinstance(value, tuple):
            return {self.name: value}
        if fields := getattr(value, "_fields", None):
            return dict(zip(fields, value, strict=True))
        return dict(zip(self.returned, value, strict=True))

    def _parts(self, result: Any, right: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The result's arrays, under the names of the correct ones."""
        if result is Ellipsis or (isinstance(result, tuple | list) and any(each is Ellipsis for each in result)):
            raise _Open("")
        if result is None:
            raise _Wrong("it returns nothing: is `return` missing?")
        if len(right) > 1:
            if not isinstance(result, tuple | list):
                raise _Wrong(f"it must return {len(right)} values, {', '.join(right)}, not one")
            if len(result) != len(right):
                raise _Wrong(f"it must return {len(right)} values, {', '.join(right)}, not {len(result)}")
        parts = zip(right, result if len(right) > 1 else [result], strict=True)
        return {name: self._array(name, each, right[name]) for name, each in parts}

    def _array(self, name: str, value: Any, right: Any) -> np.ndarray:
        what = "it" if name == self.name else name
        if value is Ellipsis:
            raise _Open("")
        if value is None:
            raise _Wrong(f"{what} is None; it must be an array")
        if isinstance(value, list | tuple) and np.ndim(right):
            raise _Wrong(f"{what} must be an array, not a {type(value).__name__}: use np.stack or np.array")
        try:
            array = np.asarray(value)
        except Exception as error:  # a ragged list, or a class of the learner's own
            expected = "an array" if np.ndim(right) else "a single number"
            raise _Wrong(f"{what} must be {expected}, not a {type(value).__name__}") from error
        if array.dtype.kind not in "fiub":
            single = repr(value) if isinstance(value, str) else type(value).__name__
            kind = f"an array of {array.dtype}" if array.ndim else single
            raise _Wrong(f"{what} must be {'an array of numbers' if np.ndim(right) else 'a number'}, not {kind}")
        return array

    def _compare(
        self,
        found: Mapping[str, np.ndarray],
        right: Mapping[str, Any],
        given: list[Any],
        scene: Scene,
        sizes: Mapping[str, int],
    ) -> bool:
        """Whether the result is correct to float64 precision (otherwise float32); raises `_Wrong`, and says why."""
        errors = _errors(found, right)
        if max(errors.values()) <= _FLOAT32:
            return max(errors.values()) <= _SAME
        known = self.exercise.mistakes_in(self.name)
        # two mistakes may give the same result, for example a sign in (9) or in (13)
        if one := [each.says for each in known if self._gives(found, given, each)]:
            raise _Wrong("; or ".join(dict.fromkeys(one)))
        if sorted(_places(found, right)) == list(range(len(right))):
            raise _Wrong(f"the values are right, but in another order; return {', '.join(right)}")
        comparable = np.isfinite(max(errors.values()))  # of the correct shapes, and without NaN
        if comparable and (says := self._guarded(self.exercise.ask, "explain", self.name, self.function, scene)):
            raise _Wrong(says)
        pairs = itertools.permutations(known, 2) if len(known) <= _PAIRED else ()  # one may change the other's text
        for two in pairs:
            if self._gives(found, given, *two):
                raise _Wrong("; and ".join(each.says for each in two))
        wrong = [name for name, error in errors.items() if not error <= _FLOAT32]
        wrong = [name for name in wrong if not np.isfinite(errors[name])] or wrong  # shapes and NaN first
        says = {name: self._explained(found[name], np.asarray(right[name]), scene, sizes) for name in wrong}
        if unknown := [name for name in wrong if not says[name]]:
            says = {name: each for name, each in says.items() if each}
            says[", ".join(unknown)] = _unexplained(unknown, found, right)
        raise _Wrong("; ".join(f"{names}: {each}" if len(found) > 1 else str(each) for names, each in says.items()))

    def _gives(self, found: Mapping[str, np.ndarray], given: list[Any], *mistakes: Mistake) -> bool:
        """Whether these mistakes give exactly this result."""
        try:
            with np.errstate(all="ignore"):
                value = self.exercise.planted(*mistakes)[self.name](*copy.deepcopy(given))
        except Exception:  # one raises an error, or two cannot be combined
            return False
        wrong = self._named(value)
        return wrong.keys() == found.keys() and max(_errors(found, wrong).values()) <= _FLOAT32

    def _explained(self, found: np.ndarray, right: np.ndarray, scene: Scene, sizes: Mapping[str, int]) -> str | None:
        if found.shape != right.shape:
            return _shape_in_words(found, right, sizes)
        if bad := np.argwhere(~np.isfinite(found)).tolist():
            causes = "a division by 0, exp of a large number, or the log or root of a number that is not positive"
            return f"it is NaN or infinite at {bad[0]}: look for {causes}"
        given = {name: scene[name] for name in self.arguments if isinstance(scene[name], np.ndarray)}
        over_time = any(array.ndim == 3 for array in given.values())
        counts = {name: sizes[name] for name in ("BT" if over_time else "B")} if given else {}
        return explain(found, right, given | counts)


def _unexplained(names: list[str], found: Mapping[str, np.ndarray], right: Mapping[str, Any]) -> str:
    value, expected = found[names[0]], np.asarray(right[names[0]])
    place = tuple(np.unravel_index(np.argmax(np.abs(value - expected)), value.shape))
    of = f" of {names[0]}" if len(names) > 1 else ""
    where = f"At {list(map(int, place))}{of}, for example, " if place else ""
    return (
        f"the values are wrong, but not by any mistake known here. {where}{value[place]:.6g} "
        f"should be {expected[place]:.6g}"
    )


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _same_arrays(old: Any, new: Any) -> bool:
    """Whether the arrays are equal, including those in a cache or in a list of caches."""
    if isinstance(old, tuple | list):
        return len(old) == len(new) and all(map(_same_arrays, old, new))
    return not isinstance(old, np.ndarray) or np.array_equal(old, new)


def _met_dots(error: BaseException, file: str) -> bool:
    """Whether a variable of the failing code still has three dots as its value."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return any(value is Ellipsis for frame in frames for value in frame.f_locals.values())


def _extent(value: Any) -> Any:
    """The shape of an array, or the length of a list."""
    return len(value) if isinstance(value, list) else np.shape(value) if isinstance(value, np.ndarray) else None


def _in_order(function: Callable[..., Any], arguments: Sequence[str]) -> Callable[..., Any]:
    """A function of all `arguments` in order, for a learner's function that takes some of them in its own order."""
    try:
        own = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # it does not tell its arguments
        return function
    if not own or not set(own) <= set(arguments) or own == list(arguments):
        return function
    return lambda *given: function(*(given[arguments.index(name)] for name in own))


def difference(found: np.ndarray, right: np.ndarray) -> float:
    """The largest difference relative to the largest value; infinite if the shapes differ."""
    if found.shape != right.shape:
        return np.inf
    scale = np.max(np.abs(right), initial=1e-300)
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.max(np.abs(found - right), initial=0) / scale
    return float(largest) if np.isfinite(largest) else np.inf


def _places(found: Mapping[str, np.ndarray], right: Mapping[str, Any]) -> list[int]:
    """Which of the correct values each part equals."""
    values = list(map(np.asarray, right.values()))
    return [n for each in found.values() for n, value in enumerate(values) if difference(each, value) <= _FLOAT32]


def _errors(found: Mapping[str, np.ndarray], right: Mapping[str, Any]) -> dict[str, float]:
    """The difference of each part."""
    return {name: difference(array, np.asarray(right[name])) for name, array in found.items()}


def _shape_in_words(found: np.ndarray, right: np.ndarray, sizes: Mapping[str, int]) -> str:
    for axis in range(found.ndim):
        if found.shape[axis] > 1 and difference(np.sum(found, axis), right) <= _FLOAT32:
            return f"the sum over its {_AXES[axis]} axis is missing: np.sum(..., axis={axis})"
    if difference(found.T, right) <= _FLOAT32:
        return "it is the transpose of the right one"
    if difference(found.reshape(-1), right.reshape(-1)) <= _FLOAT32:
        return f"the values are right, but in the shape {found.shape}, not {right.shape}"
    if not right.ndim:
        return f"it must be a single number, not an array of shape {found.shape}"
    letters = [_letter(size, sizes) for size in right.shape]
    meaning = "" if any(map(str.isdigit, letters)) else f", that is ({', '.join(letters)}{',' * (right.ndim == 1)})"
    return f"it must have the shape {right.shape}{meaning}, not {found.shape}"


_AXES = ("first", "second", "third", "fourth")


def _letter(size: int, sizes: Mapping[str, int]) -> str:
    """The letter for a size: the one with that size in `_SIZES[0]`."""
    named = {value: name for name, value in sizes.items()} | {4 * sizes["H"]: "4H"}
    return named.get(size, str(size))


def find(name: str) -> Exercise:
    """The exercise that asks for a function of this name.

    Raises:
        ValueError: none does.
    """
    asked = {function: exercise for exercise in EXERCISES for function in exercise.functions}
    if name not in asked:
        near = {each.lower(): each for each in asked}
        close = difflib.get_close_matches(name.lower(), near, n=1)
        meant = f"did you mean {near[close[0]]}?" if close else f"they ask for {', '.join(asked)}"
        advice = 'if yours has another name, add the name the exercise uses: check(function, "do")'
        raise ValueError(f"no exercise asks for a function {name!r}; {meant}; {advice}")
    return asked[name]
