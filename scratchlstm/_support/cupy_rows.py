"""Work on distinct rows only, on a GPU: see `rows.py`, whose `Groups` are made on the host, and `rows.cu`."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import device

if TYPE_CHECKING:
    from scratchlstm.rows import Groups

_CHUNK = 32  # rows one block adds; more only if the longest run would have more chunks than a chunk has rows
_THREADS = 256  # most threads per block


class DeviceGroups:
    """What kernels need to know about `Groups`, uploaded once, as one piece.

    Attributes:
        ids: the distinct ids, (K,), int32, most frequent first.
        index: for each position the index k of its id, (N,), int32; positions in column-major order, as everywhere
            in `Groups`.
    """

    def __init__(self, groups: "Groups") -> None:
        counts, starts = groups.counts, groups.starts
        chunk = max(_CHUNK, math.isqrt(int(counts.max(initial=0))))
        # the most frequent ids come first, and so do the long runs
        self.long_runs = long_runs = int(np.searchsorted(-counts, -chunk))
        parts = -(-counts[:long_runs] // chunk)  # number of chunks of each
        first_part = np.cumsum(parts) - parts
        self.parts = int(parts.sum())
        run = np.repeat(np.arange(long_runs), parts)  # the run each chunk belongs to
        before = chunk * (np.arange(self.parts) - first_part[run])  # rows of the run before it
        self.K = len(groups.ids)
        run_starts = np.concatenate([starts[run] + before, starts[long_runs:]])
        run_counts = np.concatenate([np.minimum(counts[run] - before, chunk), counts[long_runs:]])
        index = groups.index.ravel(order="F")
        uploaded = _upload(groups.ids, index, groups.order, run_starts, run_counts, first_part, parts)
        self.ids, self.index, self.order, self.starts, self.counts, self.first_part, self.part_counts = uploaded

    def sum(self, values: Any) -> Any:
        """The result of `Groups.sum`: the same values on every run, bit for bit.

        Args:
            values: (N, D); N in column-major order.

        Returns:
            Σ of the values of each distinct id, (K, D).
        """
        cupy = backend.cupy()
        values = cupy.ascontiguousarray(values)
        D = values.shape[1]
        sums = cupy.empty((self.K, D), dtype=values.dtype)
        if not sums.size:
            return sums
        sum_rows = device.kernel("rows.cu", "sum_rows", values.dtype)
        block = (min(_THREADS, -(-D // 32) * 32),)
        part_sums = cupy.empty((self.parts, D), dtype=values.dtype) if self.parts else None
        long_runs, parts, width = np.int32(self.long_runs), np.int32(self.parts), np.int32(D)
        tables = self.order, self.starts, self.counts
        sum_rows((self.starts.size,), block, (values, *tables, parts, long_runs, part_sums, sums, width))
        if self.long_runs:
            tables = None, self.first_part, self.part_counts
            none = np.int32(0)
            sum_rows((self.long_runs,), block, (part_sums, *tables, none, none, None, sums, width))
        return sums


def _upload(*pieces: np.ndarray) -> list[Any]:
    """Integers from the host as int32 arrays on the device, copied all at once."""
    packed = backend.cupy().asarray(np.concatenate(pieces, dtype=np.int32, casting="same_kind"))
    ends = np.cumsum([piece.size for piece in pieces])
    return [packed[end - piece.size : end] for piece, end in zip(pieces, ends, strict=True)]
