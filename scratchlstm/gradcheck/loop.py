"""Backpropagation through time with one mistake in the loop, to see whether it gives the gradients found."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm.cells import Cell
from scratchlstm.cells.scan import scan
from scratchlstm.gradcheck.numerical import relative_error

Arrays = Mapping[str, np.ndarray]
SAME = 1e-9  # relative error up to which two computations count as equal
NOT_CARRIED = "d{0} is not carried from step to step: add d{0}_prev at the previous step"
ALL, BACKWARDS = slice(None), slice(None, None, -1)
_SUMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # what the loop made of a parameter's gradients at the steps
    "": lambda steps: steps.sum(axis=0),
    "only the gradient of the last step, where the sum over all steps belongs": lambda steps: steps[-1],
    "only the gradient of step 0, where the sum over all steps belongs": lambda steps: steps[0],
    "the mean over the steps, where their sum belongs": lambda steps: steps.mean(axis=0),
}


class Loop(NamedTuple):
    """A loop from the last step to the first, with at most one mistake, and what to say about it."""

    words: str = ""
    not_carried: str = ""  #       the state whose gradient does not reach the previous step
    initial: bool = True  #        whether its gradient is still returned as that of the initial state
    overwritten: bool = False  #   whether the gradient from step t+1 replaces the one from above
    shift: int = 0  #              offset of the cache that a step reads
    times: slice = BACKWARDS  #    the steps in the order in which they are processed
    output: slice = ALL  #         the steps of dx in the order in which they are returned


def loops(states: Sequence[str]) -> Iterator[Loop]:
    """The correct loop, then those with a mistake."""
    yield Loop()
    for state, initial in itertools.product(states, (True, False)):
        yield Loop(NOT_CARRIED.format(state), state, initial)
    above = f"d{states[0]} from above"
    yield Loop(f"{above} is overwritten by the gradient from step t+1: add the two", overwritten=True)
    yield Loop("step t reads what the forward pass kept at step t-1", shift=-1)
    yield Loop("step t reads what the forward pass kept at step t+1", shift=1)
    for output in ALL, BACKWARDS:
        yield Loop("the steps are processed from the first to the last: start at the last", times=ALL, output=output)
    yield Loop("step 0 is skipped", times=slice(None, 0, -1))
    yield Loop("the last step is skipped", times=slice(-2, None, -1))
    yield Loop("dx is in the order of the loop, its last step first: reverse it", output=BACKWARDS)


def diagnose_loop(
    cell: Cell, x: np.ndarray, states: Sequence[np.ndarray], params: Sequence[np.ndarray], dhs: np.ndarray,
    d_last: Sequence[np.ndarray | None], found: Arrays,
) -> list[str] | None:  # fmt: skip
    """What is wrong in a loop with correct steps; [] if all is right, None if no known mistake gives `found`.

    Args:
        cell: its step is correct.
        x: input in the order of computation, (B, T, E).
        states: initial states, (B, H).
        params: parameters for `cell.forward`.
        dhs: dL/dh from above at every step, (B, T, H).
        d_last: dL/d of the final states; None is zero.
        found: gradients named as in the cell's `backward`: dx (B, T, E) and others returned by the layer.
    """
    caches = scan(cell, x, states, params)[2].caches
    for loop in loops(cell.states):
        steps, d_initial = run_loop(cell, loop, caches, params, dhs, d_last)
        dx = np.stack([step["dx"] for step in steps], axis=1)[:, loop.output]
        expected = {"dx": dx} | {f"d{s}_prev": d for s, d in zip(cell.states, d_initial, strict=True)}
        if any(name in found and not same(found[name], value) for name, value in expected.items()):
            continue
        names: dict[str | None, list[str]] = {}  # what became of each parameter's gradient
        for name in [f"d{param}" for param in cell.params if f"d{param}" in found]:
            each = np.stack([step[name] for step in steps])
            which = next((words for words, total in _SUMS.items() if same(found[name], total(each))), None)
            names.setdefault(which, []).append(name)
        if None not in names:
            wrong = [f"{', '.join(each)}: {words}" for words, each in names.items() if words]
            return [loop.words] * bool(loop.words) + wrong
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two arrays are equal up to rounding."""
    return np.shape(one) == np.shape(other) and relative_error(one, other) < SAME


def run_loop(
    cell: Cell, loop: Loop, caches: Sequence[Any], params: Sequence[np.ndarray], dhs: np.ndarray,
    d_last: Sequence[np.ndarray | None],
) -> tuple[list[Any], list[np.ndarray]]:  # fmt: skip
    """The gradients of each step in time order, zeros for skipped steps, and those of the initial states."""
    leaving = [f"d{name}" for name in cell.arguments[1 : len(cell.arguments) - len(cell.params)]]
    sizes = cell.state_sizes.values()
    carried = [np.zeros((len(dhs), size)) if d is None else d for size, d in zip(sizes, d_last, strict=True)]
    T, steps = len(caches), {}
    for number, t in enumerate(range(T)[loop.times]):
        above = 0 if loop.overwritten and number else dhs[:, t]
        step = cell.backward(above + carried[0], *carried[1:], caches[(t + loop.shift) % T], *params)
        steps[t] = step = step if isinstance(step, dict) else step._asdict()
        carried = [step[name] for name in leaving]
        if len(leaving) > len(cell.states):  # h_in as well as h_prev
            carried = [carried[0] + carried[1], *carried[2:]]
        whole = carried
        carried = [d * (state != loop.not_carried) for state, d in zip(cell.states, carried, strict=True)]
    none = {name: np.zeros_like(value) for name, value in step.items()}
    return [steps.get(t, none) for t in range(T)], whole if loop.initial else carried
