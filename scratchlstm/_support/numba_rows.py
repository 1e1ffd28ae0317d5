"""Sums by id as one compiled loop: see `rows.py` and its `Groups`."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support import threads
from scratchlstm._support.compiled import loop

if TYPE_CHECKING:
    from scratchlstm.rows import Groups

_EACH = 16  # number of multiplications as slow as one addition with operands far apart in memory

_NARROW = 16  # columns per thread: one unit of memory access, for float32


@loop
def sum_columns(order: Any, starts: Any, counts: Any, values: Any, first: int, last: int, sums: Any) -> None:
    """Some columns of all sums, added in float64: in float32 a long sum would lose its small terms."""
    total = np.empty(last - first, np.float64)
    for k in range(len(starts)):
        for j in range(len(total)):
            total[j] = 0
        for position in range(starts[k], starts[k] + counts[k]):
            row = values[order[position]][first:last]
            for j in range(len(total)):
                total[j] += row[j]
        into = sums[k][first:last]
        for j in range(len(total)):
            into[j] = total[j]


def total(groups: "Groups", values: np.ndarray) -> np.ndarray:
    """The result of `Groups.sum` for float32 or float64; each id's values are added one after another, by position.

    Threads share the columns, so each does the same number of additions, however often an id occurs.
    """
    D = values.shape[1]
    parts = min(threads.threads(), 1 + D // _NARROW)
    values, sums = np.ascontiguousarray(values), np.empty((len(groups.ids), D), values.dtype)
    add = partial(sum_columns, groups.order, groups.starts, groups.counts, values)
    tasks = [partial(add, D * part // parts, D * (part + 1) // parts, sums) for part in range(parts)]
    threads.spread(tasks, multiplications=_EACH * values.size)
    return sums
