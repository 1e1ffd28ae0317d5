"""Work on distinct rows only.

A batch of 128 reviews of 100 words has 12,800 positions but only some 2,800 distinct words. What is linear in the
embedding (the input's projection, and its gradient) is done once per distinct word and gathered or summed per position.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# up to so many repetitions the j-th occurrences of all ids are added at once; beyond, a product per id is faster
_FEW = 8


class Groups:
    """Positions grouped by the id that stands there.

    Positions are counted in column-major order: for ids (B, T) position t·B + b is row b at time t, so that a
    time-major kernel's (T, B) layout needs no reordering.

    Args:
        ids: integers of any shape, not negative.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self.shape = ids.shape
        flat = ids.ravel(order="F")
        self.order = np.argsort(flat, kind="stable")  # (N,) positions, sorted by id
        sorted_ids = flat[self.order]
        first = np.ones(flat.size, dtype=bool)
        np.not_equal(sorted_ids[1:], sorted_ids[:-1], out=first[1:])
        self.starts = np.flatnonzero(first)  # (K,) where each id's run begins in `order`
        self.ids = sorted_ids[self.starts]  # (K,) the distinct ids, ascending

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each distinct id occurs, (K,)."""
        return np.diff(self.starts, append=self.order.size)

    @cached_property
    def index(self) -> np.ndarray:
        """For each position the number k of its id among the distinct ones; the shape of the ids."""
        index = np.empty(self.order.size, dtype=np.intp)
        index[self.order] = np.repeat(np.arange(self.ids.size), self.counts)
        return index.reshape(self.shape, order="F")

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of values (N, D) over the positions of each distinct id, (K, D); N in column-major order.

        Nothing is lost where an id repeats (`dW[ids] += values` would keep only the last one), and the order of
        summation is fixed. Distinct ids are taken together by how often they occur.
        """
        sums = np.empty((self.ids.size, values.shape[1]), dtype=values.dtype)
        for count in np.unique(self.counts):
            which = np.flatnonzero(self.counts == count)
            starts = self.starts[which]
            if count <= _FEW:
                total = np.take(values, self.order[starts], axis=0)
                for j in range(1, count):
                    total += np.take(values, self.order[starts + j], axis=0)
                sums[which] = total
            else:
                ones = np.ones(count, dtype=values.dtype)
                for k, start in zip(which, starts, strict=True):
                    np.dot(ones, np.take(values, self.order[start : start + count], axis=0), out=sums[k])
        return sums


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a (V, E) matrix of which only the rows `ids` were used; all other rows are zero.

    `ids` are distinct and ascending. `np.asarray` gives the dense gradient.
    """

    ids: np.ndarray  #     (K,)
    values: np.ndarray  #  (K, E)
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype:
        """As of the dense gradient."""
        return self.values.dtype

    def astype(self, dtype: Any, copy: bool = True) -> "RowGradient":
        """The same gradient in another dtype."""
        return RowGradient(self.ids, self.values.astype(dtype, copy=copy), self.shape)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The dense gradient of rows start to stop, (stop - start, E)."""
        dense = np.zeros((stop - start, self.shape[1]), dtype=self.dtype)
        first, last = np.searchsorted(self.ids, (start, stop))
        dense[self.ids[first:last] - start] = self.values[first:last]
        return dense

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.rows(0, self.shape[0]).astype(self.dtype if dtype is None else dtype, copy=False)


@dataclass(frozen=True)
class GatheredRows:
    """A (B, T, E) array kept as its K distinct rows and the place of each.

    To whoever asks for an array (`np.asarray`, `shape`, `dtype`) it is one; a layer that knows better reads `values`
    and `groups`.
    """

    values: np.ndarray  # (K, E)
    groups: Groups  #     of the ids, (B, T)
    table_shape: tuple[int, int]  # (V, E), of the matrix that the rows come from

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the array it stands for: (B, T, E)."""
        return (*self.groups.shape, self.values.shape[1])

    @property
    def ndim(self) -> int:
        """As of the array it stands for."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """As of the array it stands for."""
        return self.values.dtype

    def astype(self, dtype: Any, copy: bool = True) -> "GatheredRows":
        """The same rows in another dtype."""
        return GatheredRows(self.values.astype(dtype, copy=copy), self.groups, self.table_shape)

    def gradient(self, values: np.ndarray) -> RowGradient:
        """The table's gradient, from that of each distinct row, (K, E)."""
        return RowGradient(self.groups.ids, values, self.table_shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values[self.groups.index].astype(self.dtype if dtype is None else dtype, copy=False)


Gradient = np.ndarray | RowGradient
