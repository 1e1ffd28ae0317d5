"""Work on distinct rows only: each word of a batch is processed once.

A batch of 128 reviews of 100 words has 12,800 positions but only about 2,800 distinct words. Anything linear in the
embedding (the input's projection, and its gradient) is done once per distinct word and gathered or summed per position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scratchlstm._support import compiled
from scratchlstm._support.checks import require_array_like
from scratchlstm._support.cupy_rows import DeviceGroups
from scratchlstm.backend import Array, is_cupy, namespace

# this many occurrences of an id are added together with those of other ids; the rest by a product per id
_FEW = 32
# a product adds at most this many: in float32 a longer sum would lose its small terms
_RUN = 1024
# fewer values are summed in NumPy: loading Numba would take longer than a loop could save
_COMPILED = 1 << 12


class Groups:
    """Positions grouped by the id at each.

    Positions are counted in column-major order: for ids (B, T) position t·B + b is row b at time t, so that a
    time-major kernel's (T, B) layout needs no reordering.

    Args:
        ids: nonnegative integers of any shape.

    Attributes:
        ids: the distinct ids, (K,), most frequent first.
        counts: the number of occurrences of each, (K,).
    """

    def __init__(self, ids: np.ndarray) -> None:
        self.shape = ids.shape
        flat = ids.ravel(order="F")
        if flat.max(initial=0) <= np.iinfo(np.uint16).max:
            flat = flat.astype(np.uint16)  # NumPy radix-sorts these, several times faster
        self.order = np.argsort(flat, kind="stable")  # (N,) positions, sorted by id
        sorted_ids = flat[self.order]
        first = np.ones(flat.size, dtype=bool)
        np.not_equal(sorted_ids[1:], sorted_ids[:-1], out=first[1:])
        starts = np.flatnonzero(first)  # where each id's run begins in `order`
        counts = np.diff(starts, append=flat.size)
        by_count = np.argsort(-counts, kind="stable")
        self.starts, self.counts = starts[by_count], counts[by_count]
        self.ids = sorted_ids[self.starts].astype(np.intp)

    @cached_property
    def index(self) -> np.ndarray:
        """For each position, the index k of its id among the distinct ones; has the shape of the ids."""
        index = np.empty(self.order.size, dtype=np.intp)
        runs = np.argsort(self.starts)  # the distinct ids in the order of their runs
        index[self.order] = np.repeat(runs, self.counts[runs])
        return index.reshape(self.shape, order="F")

    @cached_property
    def ascending(self) -> tuple[np.ndarray, np.ndarray]:
        """The order that sorts the distinct ids, and the sorted ids."""
        order = np.argsort(self.ids)
        return order, self.ids[order]

    @cached_property
    def on_device(self) -> DeviceGroups:
        """What a GPU's kernels need to know about these groups; uploaded on first use."""
        return DeviceGroups(self)

    def sum(self, values: Array) -> Array:
        """Equation (28): sum of values (N, D) over the positions of each distinct id, (K, D); N in column-major order.

        Nothing is lost when an id repeats (`dW[ids] += values` would keep only the last one), and the order of
        summation is fixed. Which code computes the sum depends only on the size of `values`.

        Raises:
            ValueError: values for the wrong number of positions.
        """
        if len(values) != self.order.size:
            raise ValueError(f"{self.order.size} positions have ids, but values has {len(values)} rows")
        if is_cupy(values):
            return self.on_device.sum(values)
        if values.size >= _COMPILED and values.dtype in (np.float32, np.float64) and not compiled.missing():
            from scratchlstm._support import numba_rows

            return numba_rows.total(self, values)
        return self._sum(values)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """`sum` in NumPy: first every id's first occurrence, then the second of those that have one, and so on.

        As the most frequent ids come first, each of these is an addition to a contiguous run of rows from the top.
        """
        sums = np.take(values, self.order[self.starts], axis=0)
        for j in range(1, _FEW):
            repeated = np.searchsorted(-self.counts, -j)  # number of ids that occur more than j times
            sums[:repeated] += np.take(values, self.order[self.starts[:repeated] + j], axis=0)
        for k in range(np.searchsorted(-self.counts, -_FEW)):
            rest = self.order[self.starts[k] + _FEW : self.starts[k] + self.counts[k]]
            for start in range(0, len(rest), _RUN):
                run = rest[start : start + _RUN]
                sums[k] += np.ones(len(run), dtype=values.dtype) @ np.take(values, run, axis=0)
        return sums


@dataclass(frozen=True)
class RowGradient:
    """A row-sparse gradient, TensorFlow's `IndexedSlices`: that of a (V, E) matrix, zero except in the rows `ids`.

    `ids` are distinct and ascending; on a GPU (where the ids are, too) in any order. `np.asarray` returns the dense
    gradient, if it is on the CPU.
    """

    ids: Array  #       (K,)
    values: Array  #    (K, E)
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the dense gradient."""
        return self.values.dtype

    def astype(self, dtype: Any, copy: bool = True) -> "RowGradient":
        """The same gradient in another dtype."""
        return RowGradient(self.ids, self.values.astype(dtype, copy=copy), self.shape)

    def __add__(self, other: "RowGradient") -> "RowGradient":
        """The sum by id, as if both were dense."""
        if self.ids is other.ids:  # e.g. from two layers above one embedding
            return RowGradient(self.ids, self.values + other.values, self.shape)
        return total([self, other])

    def block(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows from start to stop that have a gradient, counted from `start`, and their gradients."""
        first, last = np.searchsorted(self.ids, (start, stop))
        return self.ids[first:last] - start, self.values[first:last]

    def dense(self) -> Array:
        """The whole gradient, (V, E)."""
        whole = namespace(self.values).zeros(self.shape, dtype=self.dtype)
        whole[self.ids] = self.values
        return whole

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.dense(), dtype=dtype)


def total(parts: Sequence[RowGradient]) -> RowGradient:
    """The sum of gradients of one matrix, by id, as if all were dense; the last digits depend on the order."""
    xp, shape = namespace(parts[0].values), parts[0].shape
    used = xp.zeros(shape[0], dtype=bool)
    for each in parts:
        used[each.ids] = True
    ids = xp.flatnonzero(used)
    places = xp.empty(shape[0], dtype=ids.dtype)  # index of a row's id among the ids of the sum
    places[ids] = xp.arange(len(ids))
    values = xp.zeros((len(ids), *parts[0].values.shape[1:]), dtype=parts[0].dtype)
    for each in parts:
        values[places[each.ids]] += each.values  # its ids are distinct: nothing is lost
    return RowGradient(ids, values, shape)


@dataclass(frozen=True)
class GatheredRows:
    """A (B, T, E) array stored as its K distinct rows and the index of each position's row.

    It acts as an array for anyone who asks for one (`as_array`, `shape`, `dtype`, and `np.asarray` if the values are
    NumPy's); layers that know better read `values` and `groups`.
    """

    values: Array  #   (K, E)
    groups: Groups  #  groups of the ids, (B, T)
    table_shape: tuple[int, int]  # (V, E), shape of the matrix the rows come from

    def __post_init__(self) -> None:
        """Check the sizes; a compiled loop would read past the end of the rows.

        Raises:
            ValueError: the number of rows is not that of distinct ids.
        """
        if len(self.values) != len(self.groups.ids):
            raise ValueError(f"{len(self.groups.ids)} distinct ids need a row each, but values has {len(self.values)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array it represents, (B, T, E)."""
        return (*self.groups.shape, self.values.shape[1])

    @property
    def ndim(self) -> int:
        """The number of dimensions of the array it represents."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the array it represents."""
        return self.values.dtype

    def astype(self, dtype: Any, copy: bool = True) -> "GatheredRows":
        """The same rows in another dtype."""
        return GatheredRows(self.values.astype(dtype, copy=copy), self.groups, self.table_shape)

    def row_gradient(self, dy: Array | RowGradient) -> RowGradient:
        """The table's gradient, from that of each position, (B, T, E); returned as it is if it already is one."""
        if isinstance(dy, RowGradient):
            return dy
        # column-major positions, as `Groups` counts them: (B, T, E) -> (T, B, E) -> (T·B, E)
        flat = dy.transpose(*reversed(range(dy.ndim - 1)), dy.ndim - 1).reshape(-1, dy.shape[-1])
        return self.gradient(self.groups.sum(flat))

    def gradient(self, values: Array) -> RowGradient:
        """The table's gradient, from that of each distinct row, (K, E)."""
        if is_cupy(values):
            return RowGradient(self.groups.on_device.ids, values, self.table_shape)
        ascending, ids = self.groups.ascending
        return RowGradient(ids, values[ascending], self.table_shape)

    def gathered(self) -> Array:
        """The array it represents, (B, T, E)."""
        if not is_cupy(self.values):
            return self.values[self.groups.index]
        places, features = self.groups.shape, self.values.shape[1]
        flat = self.values.take(self.groups.on_device.index, axis=0)  # (N, E), the first axis of the ids varies fastest
        axes = *reversed(range(len(places))), len(places)
        return flat.reshape(*reversed(places), features).transpose(*axes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.gathered(), dtype=dtype)


Gradient = Array | RowGradient


def as_array(x: Any, argument: str = "x") -> Array:
    """`x` as an array: a CuPy array if it is one, otherwise NumPy.

    Raises:
        TypeError: a data source that would have to be read item by item.
    """
    if isinstance(x, GatheredRows):
        return x.gathered()
    require_array_like(argument, x)
    return x if is_cupy(x) else np.asarray(x)
