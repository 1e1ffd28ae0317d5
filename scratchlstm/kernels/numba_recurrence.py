"""What the compiled recurrences share: everything but a cell's own loops.

There are no tricks here: parameters and gates keep Keras' order, each row's gates are contiguous as in the equations'
(B, nH), and loops compute the equations as written, number by number (docs/fast.md).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import threads
from scratchlstm._support.compiled import loop, part
from scratchlstm.kernels.recurrence import Recurrence, States, Workspace, by_gate, project_by_gate, time_major
from scratchlstm.rows import GatheredRows

_SMALL = 1_000_000  # multiplications up to which OpenBLAS does not copy its operands first
_BLOCK = 256, 32  # block of a kernel: 32 KB, which stay in a core's level-1 cache
_ELEMENTWISE = 256  # number of multiplications as slow as a step's elementwise work for one unit


@loop
def copy(row: Any, into: Any) -> None:
    """Copy a row; an assignment of slices would take Numba a third of a second more to compile."""
    for j in range(len(row)):
        into[j] = row[j]


@loop
def add(row: Any, to: Any) -> None:
    """Add a row to another, up to the length of the shorter."""
    for j in range(len(to)):
        to[j] += row[j]


@loop
def clear(row: Any) -> None:
    """Set a row to 0."""
    for j in range(len(row)):
        row[j] = 0


@loop
def of_rows(dropout: Any, first: int, last: int) -> Any:
    """The dropout of some rows, if any."""
    return None if dropout is None else dropout[first:last]


@loop
def any_counts(mask: Any) -> bool:
    """Whether any of these rows is valid, (rows,)."""
    for counts in mask:  # noqa: SIM110  which Numba compiles
        if counts:
            return True
    return False


@loop
def multiply(a: Any, U: Any, out: Any) -> None:
    """A product, block by block.

    Args:
        a: (rows, K).
        U: a matrix (K, N) from `blocks`.
        out: output, (rows, N).
    """
    (down, across, K, N), rows = U.shape, len(a)
    if down * across == 1:
        np.dot(a, U[0, 0], out)
        return
    a_k, added = np.empty((rows, K), a.dtype), np.empty((rows, N), a.dtype)
    for row in range(rows):
        clear(out[row])
    for k in range(down):
        for row in range(rows):
            clear(a_k[row])
            copy(a[row, k * K : (k + 1) * K], a_k[row])
        for j in range(across):
            np.dot(a_k, U[k, j], added)
            for row in range(rows):
                add(added[row], out[row, j * N : (j + 1) * N])


@loop
def product(h: Any, U: Any, dropout: Any, h_U: Any) -> None:
    """h_prev U for some rows.

    Args:
        h: (rows, H).
        U: in `blocks`, (1, H, nH); with dropout a kernel for each gate, (n, H, H).
        dropout: (rows, n, H), or None.
        h_U: output, (rows, nH).
    """
    if dropout is None:
        multiply(h, U[0], h_U)
        return
    rows, H = h.shape
    h_in, of_gate = np.empty((rows, H), h.dtype), np.empty((rows, H), h.dtype)
    for k in range(len(U)):
        for row in range(rows):
            for j in range(H):
                h_in[row, j] = h[row, j] * dropout[row, k, j]
        multiply(h_in, U[k], of_gate)
        for row in range(rows):
            copy(of_gate[row], h_U[row, k * H : (k + 1) * H])


@part
def product_back(dz: Any, U_back: Any, dropout: Any, dh_prev: Any) -> None:
    """The gradient of h_prev through `product`: dz U^T, (18).

    Args:
        dz: (rows, nH).
        U_back: in `blocks`, (1, nH, H), with dropout (n, H, H).
        dropout: as in `product`.
        dh_prev: output, (rows, H).
    """
    if dropout is None:
        multiply(dz, U_back[0], dh_prev)
        return
    rows, H = dh_prev.shape
    dz_k, of_gate = np.empty((rows, H), dz.dtype), np.empty((rows, H), dz.dtype)
    for row in range(rows):
        clear(dh_prev[row])
    for k in range(len(U_back)):
        for row in range(rows):
            copy(dz[row, k * H : (k + 1) * H], dz_k[row])
        multiply(dz_k, U_back[k], of_gate)
        for row in range(rows):
            for j in range(H):
                dh_prev[row, j] += of_gate[row, j] * dropout[row, k, j]


def blocks(matrices: np.ndarray, rows: int) -> np.ndarray:
    """Matrices (n, K, N) cut into blocks, (n, down, across, k, n), the last ones padded with zeros.

    BLAS computes a small product at once. Before a larger one it copies the matrix into a more suitable order, again at
    each step, and with few rows that takes as long as the product. So it gets small blocks.

    Args:
        matrices: the matrices.
        rows: number of rows multiplied with them.
    """
    n, K, N = matrices.shape
    small = rows * K * N <= _SMALL
    down, across = (1, 1) if small else (-(-K // _BLOCK[0]), -(-N // _BLOCK[1]))
    k, j = -(-K // down), -(-N // across)
    whole = np.zeros((n, down * k, across * j), matrices.dtype)
    whole[:, :K, :N] = matrices
    return np.ascontiguousarray(whole.reshape(n, down, k, across, j).swapaxes(2, 3))


class CompiledWorkspace(Workspace):
    """Gates are stored row by row at each step, (T, B, nH), so that dz can always overwrite them."""

    @classmethod
    def gates_shape(cls, T: int, B: int, H: int) -> tuple[int, ...]:
        return T, B, cls.gate_count * H


class CompiledRecurrence(Recurrence):
    """A recurrence whose steps are compiled loops; the arguments are those of `Recurrence`, its activations σ and tanh.

    A subclass names its loops. Each takes some rows of the batch through all steps, in one call. Missing arrays are
    None: Numba specializes a loop for its arguments, so checks for them cost nothing.
    """

    memory: ClassVar[type[CompiledWorkspace]]
    strip: ClassVar = 64
    forward_rows: ClassVar[Callable[..., None]]
    backward_rows: ClassVar[Callable[..., None]]
    infer_rows: ClassVar[Callable[..., None]]

    def fill(self) -> None:
        x, workspace = self.x, self.workspace
        if isinstance(x, GatheredRows):
            index, projected = np.ascontiguousarray(x.groups.index.T), self._project(x.values)
        else:
            index, projected = None, None
            self._project(time_major(x), out=workspace.gates.reshape(-1, self.n * self.H))
        self._run(self.forward_rows, self.b, index, projected, workspace.gates, workspace.inner, *workspace.states)

    def back_through_time(self, dh: np.ndarray, d_last: Sequence[np.ndarray | None]) -> tuple[np.ndarray, States]:
        workspace, dtype = self.workspace, self.workspace.gates.dtype
        d_states = [np.zeros((len(dh), self.H), dtype) if last is None else last.astype(dtype) for last in d_last]
        if dh.ndim == 2:
            d_states[0] += dh
        dhs = np.ascontiguousarray(dh) if dh.ndim == 3 else None
        arrays = dhs, workspace.gates, workspace.inner, workspace.states[-1], *d_states
        self._run(self.backward_rows, *arrays, back=True)
        return workspace.gates, d_states

    def inferring(
        self, x: np.ndarray | GatheredRows, mask: np.ndarray | None, hs: np.ndarray | None
    ) -> Callable[[Any, States], None]:
        B, T, E = x.shape
        table = self._project(x.values) if isinstance(x, GatheredRows) else None
        U = self._recurrent(min(B, self.strip))

        def run(rows: Any, own: States) -> None:
            n = len(own[0])
            strip = None if hs is None else np.empty((n, T, self.H), hs.dtype)
            if isinstance(x, GatheredRows):
                projected, index = table, np.ascontiguousarray(x.groups.index[rows].T)
            else:
                projected = self._project(x[rows].reshape(n * T, E))
                index = np.arange(n * T).reshape(n, T).T.copy()
            counts = None if mask is None else np.ascontiguousarray(mask[rows].T)
            self.infer_rows(self.reverse, *U, self.b, counts, index, projected, *own, strip)
            if hs is not None:
                hs[rows] = strip

        return run

    def spread_rows(self, tasks: Sequence[Callable[[], None]], B: int, T: int) -> None:
        threads.spread(tasks, T * B * self.H * (self.n * self.H + _ELEMENTWISE), most=len(tasks))

    def _run(self, loop: Callable[..., None], *arrays: Any, back: bool = False) -> None:
        """Take parts of the batch through all steps, one call of a loop for each.

        The rows of each part do not depend on the number of threads: a product's last digits may depend on its number
        of rows. A single row would be slow.
        """
        B, T, _ = self.x.shape
        count = min(max(1, B // 2), max(2, B // 32))
        mask = None if self.mask is None else np.ascontiguousarray(self.mask.T)  # (T, B)
        dropout = None if self.recurrent_dropout is None else self.recurrent_dropout.swapaxes(0, 1).copy()  # (B, n, H)
        arguments = self.reverse, *self._recurrent(-(-B // count), back), mask, dropout, *arrays
        parts = pairwise(B * k // count for k in range(count + 1))
        self.spread_rows([partial(loop, *rows, *arguments) for rows in parts], B, T)

    def _project(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows (N, E) times W, (N, nH)."""
        if self.input_dropout is None:
            return threads.product(rows, self.W, out=out)
        out = np.empty((len(rows), self.W.shape[1]), rows.dtype) if out is None else out
        project_by_gate(rows, by_gate(self.W, self.n), self.input_dropout, by_gate(out, self.n))
        return out

    def _recurrent(self, rows: int, back: bool = False) -> tuple[Any, ...]:
        """U in the form a cell's loops take, for this many rows, or transposed for the backward pass."""
        return (self._for_product(self.U, rows, back),)

    def _for_product(self, U: np.ndarray, rows: int, back: bool = False) -> np.ndarray:
        """Some gates' U in the form for `product`, or transposed for `product_back`."""
        U = U[None] if self.recurrent_dropout is None else by_gate(U, U.shape[1] // self.H)
        return blocks(U.swapaxes(1, 2) if back else U, rows)
