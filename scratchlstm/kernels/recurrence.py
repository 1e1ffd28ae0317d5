"""What the fast recurrences share, whatever computes their steps: the input's part, and the parameters' gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from scratchlstm._support.threads import LARGE, spread
from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.rows import GatheredRows

States = list[np.ndarray]


@dataclass
class Workspace:
    """The arrays of one forward pass, kept for the backward pass and reused by the next pass of the same shape."""

    gates: np.ndarray  #  the gates' values, of shape `gates_shape`; the backward pass may overwrite them with dz
    inner: np.ndarray  #  (T, B, H)    whatever else the backward step needs
    states: States  #     (T+1, B, H)  each: the initial state and the state after each step

    gate_count: ClassVar[int]
    state_count: ClassVar[int]

    @classmethod
    def gates_shape(cls, T: int, B: int, H: int) -> tuple[int, ...]:
        """The memory layout of the gates of T steps."""
        raise NotImplementedError(f"{cls.__name__} must define gates_shape")

    @classmethod
    def empty(cls, T: int, B: int, H: int, dtype: np.dtype) -> Self:
        """Memory for T steps."""
        states = [np.empty((T + 1, B, H), dtype) for _ in range(cls.state_count)]
        return cls(np.empty(cls.gates_shape(T, B, H), dtype), np.empty((T, B, H), dtype), states)

    def fits(self, T: int, B: int, H: int, dtype: np.dtype) -> bool:
        """Whether a pass with these sizes fits."""
        return self.gates.shape == self.gates_shape(T, B, H) and self.gates.dtype == dtype


class Recurrence:
    """One pass over a batch of sequences, forward then backward.

    A subclass computes the steps. The first state is h. The last one is carried from step to step elementwise: c of an
    LSTM, h of a GRU.

    Args:
        W: kernel, (E, nH).
        U: recurrent kernel, (H, nH).
        b: bias, (nH,).
        activation: φ, activation of the candidate.
        recurrent_activation: σ, activation of the other gates.
        reverse: from the last step to the first.
        input_dropout: (B, n, E), factors of x for each gate, in Keras' order; the same at every step.
        recurrent_dropout: (B, n, H), the same for h_prev.
    """

    memory: ClassVar[type[Workspace]]  # keeps a forward pass for the backward pass, see `layers.passes.Workspaces`
    order_of_gates: ClassVar[list[int]]  # from Keras' order to ours, and back
    strip: ClassVar[int]  # number of rows that inference takes through all steps together

    x: np.ndarray | GatheredRows  # from the forward pass, like everything below
    mask: np.ndarray | None
    workspace: Any
    spent: bool  # whether dz has overwritten its values

    def __init__(
        self,
        W: np.ndarray,
        U: np.ndarray,
        b: np.ndarray,
        activation: Activation = TANH,
        recurrent_activation: Activation = SIGMOID,
        reverse: bool = False,
        input_dropout: np.ndarray | None = None,
        recurrent_dropout: np.ndarray | None = None,
    ) -> None:
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.H, self.n, self.reverse = len(U), len(self.order_of_gates), reverse
        self.order = slice(None, None, -1 if reverse else 1)  # order of the steps relative to time
        self.W, self.U, self.b = (self._reordered(array) for array in (W, U, b))
        self.W_back, self.U_back = self.W.T, self.U.T  # for dx and dh
        self.input_dropout, self.recurrent_dropout = (
            None if masks is None else np.ascontiguousarray(masks.swapaxes(0, 1)[self.order_of_gates])
            for masks in (input_dropout, recurrent_dropout)
        )  # (n, B, E), (n, B, H)

    # --- what a subclass defines --------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Run through all steps, from the initial states in the workspace."""
        raise NotImplementedError(f"{type(self).__name__} must define fill")

    def inferring(
        self, x: np.ndarray | GatheredRows, mask: np.ndarray | None, hs: np.ndarray | None
    ) -> Callable[[Any, States], None]:
        """A function that takes some rows of x through all steps and keeps nothing.

        Its arguments are the rows, and their states, which it updates to the final ones. It writes every h of these
        rows into hs, (B, T, H), if given.
        """
        raise NotImplementedError(f"{type(self).__name__} must define inferring")

    def spread_rows(self, tasks: Sequence[Callable[[], None]], B: int, T: int) -> None:
        """Do the tasks of `infer`, with all of B rows and T steps, in several threads if it pays off."""
        raise NotImplementedError(f"{type(self).__name__} must define spread_rows")

    def back_through_time(self, dh: np.ndarray, d_last: Sequence[np.ndarray | None]) -> tuple[np.ndarray, States]:
        """dz of every step, (T, B, nH), and the gradients of the initial states; the arguments are `backward`'s."""
        raise NotImplementedError(f"{type(self).__name__} must define back_through_time")

    def recurrent_gradient(self, h_prev: np.ndarray, dz: np.ndarray) -> np.ndarray:
        """dU, (H, nH), from h_prev (N, H) and dz (N, nH) of all steps and rows."""
        return kernel_gradient(h_prev, dz, self.recurrent_dropout)  # (20)

    # --- what follows from the steps ----------------------------------------------------------------------------------

    def forward(
        self,
        x: np.ndarray | GatheredRows,
        states: Sequence[np.ndarray],
        workspace: Any = None,
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        """Compute every step; everything is kept for `backward`.

        Args:
            x: (B, T, E).
            states: initial states, (B, H).
            workspace: the workspace of an earlier pass, overwritten if the shape is the same.
            return_sequences: whether to return every h_t or only that of the last step computed.
            mask: (B, T); where False, a row's states do not change.

        Returns:
            h: (B, T, H) or (B, H), and the final states, (B, H).
        """
        (B, T, _), H = x.shape, self.H
        if workspace is None or not workspace.fits(T, B, H, x.dtype):
            workspace = self.memory.empty(T, B, H, x.dtype)
        self.x, self.workspace, self.mask = x, workspace, mask
        in_order = [state[self.order] for state in workspace.states]
        for state, initial in zip(in_order, states, strict=True):
            state[0] = initial
        self.fill()
        self.spent = False
        sequence = self.before_and_after(workspace.states[0])[1].swapaxes(0, 1)
        return (sequence if return_sequences else in_order[0][-1]).copy(), [state[-1].copy() for state in in_order]

    def infer(
        self,
        x: np.ndarray | GatheredRows,
        states: Sequence[np.ndarray],
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        """Like `forward`, but keeps nothing; few rows at a time go through all steps, with their states in the cache.

        Rows of similar lengths go together: steps masked in all of them are skipped. The distinct rows of x are
        projected just once.
        """
        B, T, _ = x.shape
        hs = np.empty((B, T, self.H), x.dtype) if return_sequences else None
        final = [state.astype(x.dtype, order="C") for state in states]  # each strip overwrites its rows
        through_all_steps = self.inferring(x, mask, hs)

        def run(rows: Any) -> None:
            own = [state[rows] for state in final]
            through_all_steps(rows, own)
            for state, of_rows in zip(final, own, strict=True):
                state[rows] = of_rows

        strips: list[Any] = [slice(first, first + self.strip) for first in range(0, B, self.strip)]
        if mask is not None:
            by_length = np.argsort(mask.sum(axis=1), kind="stable")
            strips = [by_length[rows] for rows in strips]
        self.spread_rows([partial(run, rows) for rows in strips], B, T)
        return (final[0].copy() if hs is None else hs), final

    def backward(
        self,
        dh: np.ndarray,
        d_last: Sequence[np.ndarray | None],
        input_gradient: bool = True,
        weight_gradients: bool = True,
    ) -> tuple[np.ndarray | None, list[np.ndarray | None], States]:
        """Backpropagate through every step, last to first.

        dz may overwrite the gates; another backward pass over the same forward pass first recomputes them.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or only for the last step computed, (B, H).
            d_last: further gradients of the final states, (B, H), or None.
            input_gradient: whether to compute dx.
            weight_gradients: whether to compute dW, dU and db.

        Returns:
            dx, [dW, dU, db] and the gradients of the initial states, None for what is not needed. dx is (B, T, E), or
            (K, E) per distinct row if the input was `GatheredRows`.
        """
        if self.spent:
            self.fill()
        self.spent = True
        dz, d_initial = self.back_through_time(dh, d_last)
        (T, B, _), H = dz.shape, self.H
        h_prev = self.before_and_after(self.workspace.states[0])[0].reshape(T * B, H)
        tasks = [
            lambda: self.recurrent_gradient(h_prev, dz.reshape(T * B, -1)) if weight_gradients else None,
            lambda: self._backward_input(dz, input_gradient, weight_gradients),
        ]
        dU, (dx, dW, db) = spread(tasks, multiplications=dz.size * H)
        return dx, [None if d is None else self._reordered(d) for d in (dW, dU, db)], d_initial

    def _backward_input(self, dz: np.ndarray, input_gradient: bool, weight_gradients: bool) -> tuple[Any, Any, Any]:
        """dx, dW and db from dz of all steps, (T, B, nH), if needed; see `backward`."""
        if not (input_gradient or weight_gradients):
            return None, None, None
        x, (T, B, _) = self.x, dz.shape
        flat = dz.reshape(T * B, -1)
        rows = x.values if isinstance(x, GatheredRows) else time_major(x)
        dz_rows = x.groups.sum(flat) if isinstance(x, GatheredRows) else flat
        tasks = [
            lambda: self._dx(rows, flat, dz_rows) if input_gradient else None,
            lambda: kernel_gradient(rows, dz_rows, self.input_dropout) if weight_gradients else None,  # (19)
        ]
        dx, dW = spread(tasks, multiplications=dz_rows.size * rows.shape[1])
        if dx is not None and not isinstance(x, GatheredRows):
            dx = dx.reshape(T, B, -1).swapaxes(0, 1)
        db = None if not weight_gradients else dz_rows.sum(axis=0)  # (21)
        return dx, dW, db

    def _dx(self, rows: np.ndarray, dz: np.ndarray, dz_rows: np.ndarray) -> np.ndarray:
        """The gradient of `rows`, whose dz is `dz_rows`; with dropout, from dz of each step."""
        if self.input_dropout is None:
            return dz_rows @ self.W_back  # (17)
        dx, of_gate = np.zeros_like(rows), np.empty_like(rows)
        W_by_gate = self.W_back.reshape(self.n, self.H, -1)
        for dz_k, W_k, kept in zip(by_gate(dz, self.n), W_by_gate, self.input_dropout, strict=True):
            np.matmul(dz_k, W_k, out=of_gate)
            dx += dropped(of_gate, kept, out=of_gate)
        return dx

    def before_and_after(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of T+1 states, those before each step and those after it, by the step's time."""
        return (states[:-1], states[1:]) if self.order.step == 1 else (states[1:], states[:-1])

    def _reordered(self, columns: np.ndarray) -> np.ndarray:
        """Blocks of H columns from Keras' order to ours, or back."""
        blocks = columns.reshape(*columns.shape[:-1], self.n, self.H)[..., self.order_of_gates, :]
        return blocks.reshape(columns.shape)


def dropped(rows: np.ndarray, kept: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Rows (T·B, n) times one gate's dropout, (B, n), at every step."""
    by_step = -1, *kept.shape
    np.multiply(rows.reshape(by_step), kept, out=out.reshape(by_step))
    return out


def project_by_gate(rows: np.ndarray, W: np.ndarray, dropout: np.ndarray, out: np.ndarray) -> None:
    """Rows (N, E), with each gate's dropout, times its kernel: W (n, E, H), out (n, N, H)."""
    own = np.empty_like(rows)
    for W_k, kept, z_k in zip(W, dropout, out, strict=True):
        np.matmul(dropped(rows, kept, out=own), W_k, out=z_k)


def kernel_gradient(rows: np.ndarray, dz: np.ndarray, dropout: np.ndarray | None) -> np.ndarray:
    """A kernel's gradient: rows (N, m) transposed, times dz (N, nH); with dropout each gate has its own rows."""
    if dropout is None and rows.size * dz.shape[1] < 8 * LARGE:
        return rows.T @ dz
    if dropout is None:
        gradient = np.empty((rows.shape[1], dz.shape[1]), dz.dtype)
        halves = zip(np.array_split(dz, 2, axis=1), np.array_split(gradient, 2, axis=1), strict=True)
        tasks = [partial(np.matmul, rows.T, half, out=into) for half, into in halves]
        spread(tasks)
        return gradient
    own = np.empty_like(rows)
    gates = zip(dropout, by_gate(dz, len(dropout)), strict=True)
    return np.concatenate([dropped(rows, kept, out=own).T @ dz_k for kept, dz_k in gates], axis=1)


def by_gate(columns: np.ndarray, n: int) -> np.ndarray:
    """(N, nH) -> (n, N, H), a view."""
    return columns.reshape(len(columns), n, -1).swapaxes(0, 1)


def time_major(x: np.ndarray) -> np.ndarray:
    """(B, T, E) -> (T·B, E)."""
    return x.swapaxes(0, 1).reshape(-1, x.shape[2])
