"""Compare each gradient with the numerical one, and with TensorFlow's if available."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm.backend import Array, host
from scratchlstm.gradcheck.numerical import Loss, numeric_error, relative_error
from scratchlstm.gradcheck.report import Row
from scratchlstm.rows import RowGradient


def compare(
    values: Mapping[str, np.ndarray], tensors: Mapping[str, tuple[np.ndarray, Any]], loss: Loss,
    answers: Mapping[str, np.ndarray], rng: np.random.Generator, epsilon: float, tolerance: float,
    blocks: Mapping[str, Sequence[str]] = {}, sequences: Collection[str] = (),
) -> Iterator[Row]:  # fmt: skip
    """Compare the forward pass's outputs, if TensorFlow has them to compare with, then the gradients.

    For a wrong gradient, says which of its `blocks` of columns are wrong, or for `sequences`, (B, T, E), which steps.
    """
    # copy all analytic gradients first: computing the loss runs the layers again
    dense = {name: d.dense() if isinstance(d, RowGradient) else d for name, (_, d) in tensors.items()}
    copies = {name: None if d is None else np.array(host(d)) for name, d in dense.items()}
    if answers:
        for name, value in values.items():
            yield _compared(Row(name, value.shape, tolerance=tolerance), value, answers[name])
    for name, (array, _) in tensors.items():
        row, analytic = Row(name, array.shape, tolerance=tolerance), copies[name]
        if analytic is None:
            row.problem = "no gradient"
        elif analytic.shape != array.shape:
            row.problem = f"gradient of shape {analytic.shape}"
        else:
            row.numerical = numeric_error(loss, array, analytic, rng, epsilon)
            if answers:
                _compared(row, analytic, answers[name])
        if row.differs and not row.problem:
            given = loss, array, analytic, rng, epsilon, tolerance
            if len(names := blocks.get(name, ())) > 1:
                row.problem = in_blocks(names, _wrong_parts(len(names), -1, *given))
            elif name in sequences:
                row.problem = at_steps(_wrong_parts(array.shape[1], 1, *given))
        yield row


def _wrong_parts(
    count: int, axis: int, loss: Loss, array: Array, analytic: Any, rng: np.random.Generator, epsilon: float,
    tolerance: float,
) -> list[bool]:  # fmt: skip
    """Whether each of the parts along an axis is wrong."""
    parts = zip(np.split(array, count, axis), np.split(analytic, count, axis), strict=True)
    # views, changed in place
    return [not numeric_error(loss, *part, rng, epsilon, array.size) <= tolerance for part in parts]


def in_blocks(names: Sequence[str], wrong: Sequence[bool]) -> str:
    """Which blocks of columns are wrong, in words."""
    ok = ", ".join(name for name, bad in zip(names, wrong, strict=True) if not bad)
    return f"in {', '.join(itertools.compress(names, wrong))}" + f" ({ok} ok)" * bool(ok)


def at_steps(wrong: Sequence[bool]) -> str:
    """Which steps are wrong, in words; "" if all are."""
    right = [not bad for bad in wrong]
    return f"at {_steps(wrong)}, right at {_steps(right)}" if any(right) else ""


def _steps(chosen: Sequence[bool]) -> str:
    """Such as "step 3", "steps 0 to 2", or "steps 0, 2 to 4 and 6"."""
    numbers = np.flatnonzero(chosen)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    *most, last = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"step{'s' * (len(numbers) > 1)} {', '.join(most)}{' and ' if most else ''}{last}"


def _compared(row: Row, ours: np.ndarray, answer: np.ndarray) -> Row:
    """The row with its difference from TensorFlow's answer."""
    if answer.shape != ours.shape:
        row.problem = f"TensorFlow's has shape {answer.shape}"
    else:
        row.tensorflow = relative_error(ours, answer)
        row.problem = "" if np.all(np.isfinite(answer)) else "TensorFlow's is not finite"
    return row
