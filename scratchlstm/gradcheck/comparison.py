"""Each gradient beside the numerical one, and TensorFlow's if it is there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm.backend import Array, host
from scratchlstm.gradcheck.numerical import Loss, numeric_error, relative_error
from scratchlstm.gradcheck.report import Row
from scratchlstm.rows import RowGradient


def compare(
    values: Mapping[str, np.ndarray], tensors: Mapping[str, tuple[np.ndarray, Any]], loss: Loss,
    answers: Mapping[str, np.ndarray], rng: np.random.Generator, epsilon: float, tolerance: float,
    blocks: Mapping[str, Sequence[str]] = {},
) -> Iterator[Row]:  # fmt: skip
    """First what the forward pass gave, where TensorFlow has answers to compare it with, then the gradients."""
    # all analytic gradients are copied first: computing the loss runs the layers again
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
        if not (row.ok or row.problem) and len(blocks.get(name, ())) > 1:
            row.problem = _wrong_blocks(blocks[name], loss, array, analytic, rng, epsilon, tolerance)
        yield row


def _wrong_blocks(
    blocks: Sequence[str], loss: Loss, array: Array, analytic: Any, rng: np.random.Generator, epsilon: float,
    tolerance: float,
) -> str:  # fmt: skip
    """Which of the named blocks of columns a wrong gradient is wrong in."""
    columns = zip(np.split(array, len(blocks), axis=-1), np.split(analytic, len(blocks), axis=-1), strict=True)
    found = [numeric_error(loss, *of_block, rng, epsilon) for of_block in columns]  # views, changed in place
    errors = dict(zip(blocks, found, strict=True))
    wrong = [name for name, error in errors.items() if not error <= tolerance]
    right = [name for name in errors if name not in wrong]
    return f"in {', '.join(wrong)}" + (f" ({', '.join(right)} ok)" if right else "")


def _compared(row: Row, ours: np.ndarray, answer: np.ndarray) -> Row:
    """The row with the difference from TensorFlow's answer."""
    if answer.shape != ours.shape:
        row.problem = f"TensorFlow's has shape {answer.shape}"
    else:
        row.tensorflow = relative_error(ours, answer)
        row.problem = "" if np.all(np.isfinite(answer)) else "TensorFlow's is not finite"
    return row
