"""What the compiled recurrences share: all but a cell's own loops.

There are no tricks here: parameters and gates keep Keras' order, each row's gates lie together as in the equations'
(B, nH), and a loop computes what the page of equations says, number by number (docs/fast.md).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import threads
from scratchlstm._support.compiled import loop, part
from scratchlstm.kernels.numpy_recurrence import Workspace
from scratchlstm.kernels.recurrence import Recurrence, States, by_gate, dropped, time_major
from scratchlstm.rows import GatheredRows

_STRIP = 64  # rows that inference takes through all steps together
_SMALL = 1_000_000  # multiplications: so many OpenBLAS does without copying its operands first
_BLOCK = 256, 32  # of a kernel: 32 KB, which stay in a core's first cache
_ELEMENTWISE = 256  # multiplications that take as long as what a step does for one unit besides its product


@loop
def copy(row: Any, into: Any) -> None:
    """Copy a row; an assignment of slices would take Numba a third of a second more to compile."""
    for j in range(len(row)):
        into[j] = row[j]


@loop
def add(row: Any, to: Any) -> None:
    """Add a row to another, as far as that goes."""
    for j in range(len(to)):
        to[j] += row[j]


@loop
def clear(row: Any) -> None:
    """Let a row be 0."""
    for j in range(len(row)):
        row[j] = 0


@loop
def of_rows(dropout: Any, first: int, last: int) -> Any:
    """The dropout of some rows, if any."""
    return None if dropout is None else dropout[first:last]


@loop
def any_counts(mask: Any) -> bool:
    """Whether any of these rows counts, (rows,)."""
    for counts in mask:  # noqa: SIM110  which Numba compiles
        if counts:
            return True
    return False


@loop
def multiply(a: Any, U: Any, out: Any) -> None:
    """A product, block by block.

    Args:
        a: (rows, K).
        U: a matrix (K, N) as `blocks` makes it.
        out: to be filled, (rows, N).
    """
    (down, across, K, N), rows = U.shape, len(a)
    if down * across == 1:
        np.dot(a, U[0, 0], out)
        return
    of_block, part = np.empty((rows, K), a.dtype), np.empty((rows, N), a.dtype)
    for row in range(rows):
        clear(out[row])
    for k in range(down):
        for row in range(rows):
            clear(of_block[row])
            copy(a[row, k * K : (k + 1) * K], of_block[row])
        for j in range(across):
            np.dot(of_block, U[k, j], part)
            for row in range(rows):
                add(part[row], out[row, j * N : (j + 1) * N])


@loop
def product(h: Any, U: Any, dropout: Any, h_U: Any) -> None:
    """h_prev U of some rows.

    Args:
        h: (rows, H).
        U: in `blocks`, (1, H, nH); with dropout a kernel for each gate, (n, H, H).
        dropout: (rows, n, H), or None.
        h_U: to be filled, (rows, nH).
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
    """What reaches h_prev through `product`: dz U^T, (18).

    Args:
        dz: (rows, nH).
        U_back: in `blocks`, (1, nH, H), with dropout (n, H, H).
        dropout: as of `product`.
        dh_prev: to be filled, (rows, H).
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
    """Matrices (n, K, N) cut into blocks, (n, down, across, k, n), the last of them filled up with zeros.

    A small product BLAS computes at once. Before a larger one it copies the matrix into an order that suits it, at each
    step again, and with few rows that takes as long as the product. So it gets small blocks.

    Args:
        matrices: what is multiplied with.
        rows: how many of them are multiplied with it.
    """
    n, K, N = matrices.shape
    small = rows * K * N <= _SMALL
    down, across = (1, 1) if small else (-(-K // _BLOCK[0]), -(-N // _BLOCK[1]))
    k, j = -(-K // down), -(-N // across)
    whole = np.zeros((n, down * k, across * j), matrices.dtype)
    whole[:, :K, :N] = matrices
    return np.ascontiguousarray(whole.reshape(n, down, k, across, j).swapaxes(2, 3))


class CompiledWorkspace(Workspace):
    """Gates are kept row by row, (T, B, nH), so that dz can always take their place."""

    @classmethod
    def empty(cls, T: int, B: int, H: int, dtype: np.dtype) -> Any:
        workspace = super().empty(T, B, H, dtype)
        workspace.gates = workspace.gates.reshape(T, B, -1)
        return workspace

    def fits(self, T: int, B: int, H: int, dtype: np.dtype) -> bool:
        return self.gates.shape == (T, B, self.gate_count * H) and self.gates.dtype == dtype


class CompiledRecurrence(Recurrence):
    """A recurrence whose steps are compiled loops; the arguments are those of `Recurrence`, its activations σ and tanh.

    A subclass names its loops. Each takes some rows of the batch through all steps, in one call. What there is not is
    None: Numba compiles a loop for what it gets, so that nothing is asked there twice.
    """

    memory: ClassVar[type[CompiledWorkspace]]
    forward_rows: ClassVar[Callable[..., None]]
    backward_rows: ClassVar[Callable[..., None]]
    infer_rows: ClassVar[Callable[..., None]]

    def forward(
        self,
        x: np.ndarray | GatheredRows,
        states: Sequence[np.ndarray],
        workspace: Any = None,
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        (B, T, _), H = x.shape, self.H
        if workspace is None or not workspace.fits(T, B, H, x.dtype):
            workspace = self.memory.empty(T, B, H, x.dtype)
        self.x, self.workspace, self.mask = x, workspace, mask
        in_order = [state[self.order] for state in workspace.states]
        for state, initial in zip(in_order, states, strict=True):
            state[0] = initial
        self.fill()
        sequence = self.before_and_after(workspace.states[0])[1].swapaxes(0, 1)
        return (sequence if return_sequences else in_order[0][-1]).copy(), [state[-1].copy() for state in in_order]

    def fill(self) -> None:
        x, workspace = self.x, self.workspace
        if isinstance(x, GatheredRows):
            index, projected = np.ascontiguousarray(x.groups.index.T), self._project(x.values)
        else:
            index, projected = None, None
            self._project(time_major(x), out=workspace.gates.reshape(-1, self.n * self.H))
        parts = self._parts()
        U, mask, dropout = self._recurrent(_most(parts)), self._mask(), self._dropout()
        arguments = self.reverse, *U, self.b, mask, dropout, index, projected
        arrays = workspace.gates, workspace.inner, *workspace.states
        self._spread([partial(self.forward_rows, *rows, *arguments, *arrays) for rows in parts])
        self.spent = False

    def back_through_time(self, dh: np.ndarray, d_last: Sequence[np.ndarray | None]) -> tuple[np.ndarray, States]:
        workspace, dtype = self.workspace, self.workspace.gates.dtype
        d_states = [np.zeros((len(dh), self.H), dtype) if last is None else last.astype(dtype) for last in d_last]
        if dh.ndim == 2:
            d_states[0] += dh
        dhs = np.ascontiguousarray(dh) if dh.ndim == 3 else None
        parts = self._parts()
        arguments = self.reverse, *self._recurrent(_most(parts), back=True), self._mask(), self._dropout(), dhs
        arrays = workspace.gates, workspace.inner, workspace.states[-1], *d_states
        self._spread([partial(self.backward_rows, *rows, *arguments, *arrays) for rows in parts])
        return workspace.gates, d_states

    def infer(
        self,
        x: np.ndarray | GatheredRows,
        states: Sequence[np.ndarray],
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        """As `forward`, but nothing is kept, and few rows at a time go through all steps.

        Rows of about one length go together: what is masked in all of them is passed over. The distinct rows of x are
        projected once for all.
        """
        (B, T, _), H, dtype = x.shape, self.H, x.dtype
        table = self._project(x.values) if isinstance(x, GatheredRows) else None
        hs = np.empty((B, T, H), dtype) if return_sequences else None
        final = [state.astype(dtype, order="C") for state in states]  # each strip overwrites its rows
        U = self._recurrent(min(B, _STRIP))

        def run(rows: np.ndarray) -> None:
            own = [state[rows] for state in final]
            strip = None if hs is None else np.empty((len(rows), T, H), dtype)
            if isinstance(x, GatheredRows):
                projected, index = table, np.ascontiguousarray(x.groups.index[rows].T)
            else:
                projected = self._project(x[rows].reshape(-1, x.shape[2]))
                index = np.arange(len(projected)).reshape(len(rows), T).T.copy()
            counts = None if mask is None else np.ascontiguousarray(mask[rows].T)
            self.infer_rows(self.reverse, *U, self.b, counts, index, projected, *own, strip)
            for state, of_rows in zip(final, own, strict=True):
                state[rows] = of_rows
            if hs is not None:
                hs[rows] = strip

        order = np.arange(B) if mask is None else np.argsort(mask.sum(axis=1), kind="stable")
        self._spread([partial(run, order[first : first + _STRIP]) for first in range(0, B, _STRIP)], B * T)
        return (final[0].copy() if hs is None else hs), final

    def _parts(self) -> list[tuple[int, int]]:
        """From which row to which each call takes.

        How many threads there are does not matter: a product's last digits may depend on how many rows it has.
        """
        B = self.workspace.gates.shape[1]
        count = min(B, max(2, B // 32))
        return [(B * k // count, B * (k + 1) // count) for k in range(count)]

    def _spread(self, tasks: Sequence[Callable[[], None]], steps: int = 0) -> None:
        """Let threads share these calls, if they are long."""
        T, B, columns = self.workspace.gates.shape if not steps else (steps, 1, self.n * self.H)
        threads.spread(tasks, T * B * self.H * (columns + _ELEMENTWISE), most=len(tasks))

    def _project(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows (N, E) times W, (N, nH)."""
        if self.input_dropout is None:
            return threads.product(rows, self.W, out=out)
        out, own = np.empty((len(rows), self.W.shape[1]), rows.dtype) if out is None else out, np.empty_like(rows)
        W = by_gate(self.W, self.n)
        for z_k, W_k, kept in zip(by_gate(out, self.n), W, self.input_dropout, strict=True):
            z_k[...] = dropped(rows, kept, out=own) @ W_k
        return out

    def _recurrent(self, rows: int, back: bool = False) -> tuple[Any, ...]:
        """U as a cell's loops take it, for as many rows, or turned for the backward pass."""
        return (self._for_product(self.U, rows, back),)

    def _for_product(self, U: np.ndarray, rows: int, back: bool = False) -> np.ndarray:
        """Some gates' U as `product` takes it, or turned for `product_back`."""
        U = U[None] if self.recurrent_dropout is None else by_gate(U, U.shape[1] // self.H)
        return blocks(U.swapaxes(1, 2) if back else U, rows)

    def _dropout(self) -> np.ndarray | None:
        """By rows, (B, n, H), of which a loop takes its own."""
        return None if self.recurrent_dropout is None else self.recurrent_dropout.swapaxes(0, 1).copy()

    def _mask(self) -> np.ndarray | None:
        """By time steps, (T, B)."""
        return None if self.mask is None else np.ascontiguousarray(self.mask.T)


def _most(parts: list[tuple[int, int]]) -> int:
    """The most rows of a part."""
    return max(last - first for first, last in parts)
