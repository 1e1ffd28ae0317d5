"""What the fast recurrences in NumPy share: all but a cell's own step, forward and backward.

Four ideas (docs/fast.md explains and measures each):

- *Gate-major.* Inside, a step of n gates is (n, B, H): each gate is one contiguous block, every elementwise call one
  flat loop, and nothing is ever transposed.
- *One tanh.* σ(z) = (1 + tanh(z/2)) / 2. With the halving folded into the weights, tanh serves all gates; the σ gates
  lie together, the candidate last.
- *Distinct rows.* If the input is `GatheredRows`, only its K rows are projected, and dz is summed per distinct row
  before it meets W (`rows.py`).
- *A workspace.* All that a step writes was allocated by the step before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, ClassVar, Self

import numpy as np

from scratchlstm._support.threads import LARGE, product, spread, threads
from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.rows import GatheredRows

_STRIP = 128  # rows that inference takes through all steps together
_LARGE_STEP = 1 << 22  # multiplications of a step from which on two threads, each with its rows, are faster than one

States = list[np.ndarray]


@dataclass
class Workspace:
    """The arrays of one forward pass, kept for the backward pass and used again by the next pass of the same shape."""

    gates: np.ndarray  #  (T, n, B, H)  the gates' values; the backward pass writes dz over them
    inner: np.ndarray  #  (T, B, H)     what else the backward step needs
    states: States  #     (T+1, B, H)   each: the initial one and that after each step
    dz: np.ndarray | None = None  # (T, B, nH), if it cannot take the place of the gates

    gate_count: ClassVar[int]
    state_count: ClassVar[int]

    @classmethod
    def empty(cls, T: int, B: int, H: int, dtype: np.dtype) -> Self:
        """Room for T steps."""
        states = [np.empty((T + 1, B, H), dtype=dtype) for _ in range(cls.state_count)]
        return cls(np.empty((T, cls.gate_count, B, H), dtype=dtype), np.empty((T, B, H), dtype=dtype), states)

    def fits(self, T: int, B: int, H: int, dtype: np.dtype) -> bool:
        """Whether a pass of these sizes can run in it."""
        return self.gates.shape == (T, self.gate_count, B, H) and self.gates.dtype == dtype


class Recurrence:
    """One pass over a batch of sequences, forward then backward.

    A subclass names its workspace and the order of its gates, and defines `forward_step` and `backward_step`. The first
    state is h. The last is the one that a step carries over element by element: c of an LSTM, h of a GRU.

    Args:
        W: kernel, (E, nH).
        U: recurrent kernel, (H, nH).
        b: bias, (nH,).
        activation: φ, of the candidate.
        recurrent_activation: σ, of the other gates.
        reverse: from the last step to the first.
        input_dropout: (B, n, E), what multiplies x on its way to each gate, in Keras' order; the same at every step.
        recurrent_dropout: (B, n, H), the same for h_prev.
    """

    memory: ClassVar[type[Workspace]]
    order_of_gates: ClassVar[list[int]]  # from Keras' order to ours, candidate last, and back

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
        self.one_tanh = activation == TANH and recurrent_activation == SIGMOID
        # of one of the user's own, which has no name here, nobody knows whether threads can share it
        self.shares = all(isinstance(each.description(), str) for each in (activation, recurrent_activation))
        self.H, self.n = len(U), len(self.order_of_gates)
        self.order = slice(None, None, -1 if reverse else 1)  # of the steps, from their order in time
        W, U, b = (self._reordered(array) for array in (W, U, b))
        self.W_back, self.U_back = W.T, U.T  # for dx and dh
        # (n, E, H), (n, H, H), (n, 1, H)
        self.W, self.U, self.b = (_by_gate(array, self.n).copy() for array in (W, U, b[None]))
        if self.one_tanh:
            for array in (self.W, self.U, self.b):
                array[:-1] *= 0.5  # z/2 for the σ gates
        self.input_dropout, self.recurrent_dropout = (
            None if masks is None else np.ascontiguousarray(masks.swapaxes(0, 1)[self.order_of_gates])
            for masks in (input_dropout, recurrent_dropout)
        )  # (n, B, E), (n, B, H)

    # --- what a cell defines ------------------------------------------------------------------------------------------

    def forward_step(
        self, z_x: np.ndarray, h_in: np.ndarray, gates: np.ndarray, inner: np.ndarray, prev: np.ndarray, after: States
    ) -> None:
        """One step.

        Args:
            z_x: x_t W + b, (n, B, H).
            h_in: h_prev, (B, H), or with dropout that of each gate, (n, B, H).
            gates, inner: to be filled, see `Workspace`.
            prev: the last state before the step; the one after it may be written over it.
            after: the states after the step, to be filled.
        """
        raise NotImplementedError

    def backward_step(self, B: int, dtype: np.dtype, dropout: np.ndarray | None) -> Callable[..., None]:
        """A function for one step of B rows, with memory of its own that it uses again at each.

        Its arguments:
            d_states: of the states after the step; it turns them, in place, into those of the states before.
            gates, inner, prev: of the forward step; inner may be overwritten.
            dz: (B, nH), to be filled.
            dz_by_gate: the same memory, (n, B, H).

        Args:
            B: rows.
            dtype: of all arrays.
            dropout: of h_prev, (n, B, H).
        """
        raise NotImplementedError

    def recurrent_gradient(self, h_prev: np.ndarray, dz: np.ndarray) -> np.ndarray:
        """dU, (H, nH), from h_prev (N, H) and dz (N, nH) of all steps and rows."""
        return kernel_gradient(h_prev, dz, self.recurrent_dropout)  # (20)

    # --- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: np.ndarray | GatheredRows,
        states: Sequence[np.ndarray],
        workspace: Workspace | None = None,
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        """Every step; everything is kept for `backward`.

        Args:
            x: (B, T, E).
            states: initial ones, (B, H).
            workspace: of an earlier pass, overwritten if the shape is the same.
            return_sequences: whether every h_t is wanted or only that of the step computed last.
            mask: (B, T); where False, a row's states stay as they are.

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
        self._fill()
        sequence = self._before_and_after(workspace.states[0])[1].swapaxes(0, 1)
        return (sequence if return_sequences else in_order[0][-1]).copy(), [state[-1].copy() for state in in_order]

    def infer(
        self,
        x: np.ndarray | GatheredRows,
        states: Sequence[np.ndarray],
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        """As `forward`, but nothing is kept, and few rows at a time go through all steps, their states in the cache.

        Rows of about one length go together: what is masked in all of them is passed over. The distinct rows of x are
        projected once for all.
        """
        (B, T, _), H, dtype = x.shape, self.H, x.dtype
        table = self._project(x) if isinstance(x, GatheredRows) else np.empty(0, dtype)
        hs = np.empty((B, T, H), dtype=dtype) if return_sequences else None
        sequence = None if hs is None else hs.swapaxes(0, 1)[self.order]
        final = [state.astype(dtype, order="C") for state in states]  # each strip overwrites its rows

        def run(rows: Any) -> None:
            own = [state[rows] for state in final]
            gates, inner = np.empty((self.n, *own[0].shape), dtype=dtype), np.empty_like(own[0])
            projected, at = (table, rows) if isinstance(x, GatheredRows) else (self._project(x[rows]), slice(None))
            idle = self._idle_rows(x, mask, rows)
            self._run(self._inputs(x, projected, at), repeat((gates, inner, own, own)), rows, idle, sequence)
            for state, of_rows in zip(final, own, strict=True):
                state[rows] = of_rows

        strips: list[Any] = [slice(first, first + _STRIP) for first in range(0, B, _STRIP)]
        if mask is not None:
            by_length = np.argsort(mask.sum(axis=1), kind="stable")
            strips = [by_length[rows] for rows in strips]
        large = (
            self.shares and T > 1 and min(B, _STRIP) * self.U.size >= _LARGE_STEP
        )  # one step is over before a thread wakes up
        spread([partial(run, rows) for rows in strips], multiplications=LARGE if large else 0)
        return (final[0].copy() if hs is None else hs), final

    def _fill(self) -> None:
        """Run through all steps from the initial states in the workspace."""
        workspace, projected = self.workspace, self._project(self.x)
        before, after = zip(*map(self._before_and_after, workspace.states), strict=True)

        def fill(rows: slice) -> None:
            def part(array: np.ndarray) -> np.ndarray:
                return array[self.order][..., rows, :]

            states = (zip(*map(part, arrays), strict=True) for arrays in (before, after))
            steps = zip(part(workspace.gates), part(workspace.inner), *states, strict=True)
            self._run(self._inputs(self.x, projected, rows), steps, rows, self._idle_rows(self.x, self.mask, rows))

        spread([partial(fill, rows) for rows in self._parts()])
        self.spent = False

    def _run(
        self, inputs: Iterable[np.ndarray], steps: Iterable[Any], rows: Any, idle: list[Any], sequence: Any = None
    ) -> None:
        """The recurrence.

        Args:
            inputs: x_t W + b of each step, (n, B, H).
            steps: where each step's values go and come from: gates, inner, the states before it, those after it.
            rows: of the batch.
            idle: see `_idle_rows`.
            sequence: where each h of these rows is to be copied, (T, batch, H), if anywhere.
        """
        dropout = None if self.recurrent_dropout is None else self.recurrent_dropout[:, rows]
        dropped: np.ndarray | None = None
        step = self.forward_step
        ordered = zip(inputs, idle[self.order], steps, strict=False)
        for t, (z_x, at_rest, (gates, inner, before, after)) in enumerate(ordered):
            held = [state[at_rest] for state in before] if len(at_rest) else None
            h_in = before[0]
            if len(at_rest) < len(h_in):
                if dropout is not None:
                    h_in = dropped = np.multiply(h_in, dropout, out=dropped)
                step(z_x, h_in, gates, inner, before[-1], after)
            if held is not None:
                for state, of_rows in zip(after, held, strict=True):
                    state[at_rest] = of_rows
            if sequence is not None:
                sequence[t, rows] = after[0]

    def _before_and_after(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of T+1 states, those before each step and those after it, by the step's place in time."""
        return (states[:-1], states[1:]) if self.order.step == 1 else (states[1:], states[:-1])

    def _parts(self) -> list[slice]:
        """The rows that go through the steps together: all of them, or if a step is large, a part for each thread."""
        B = self.workspace.gates.shape[2]
        count = min(threads(), B) if self.shares and B * self.U.size >= _LARGE_STEP else 1
        return [slice(B * k // count, B * (k + 1) // count) for k in range(count)]

    def _idle_rows(self, x: Any, mask: np.ndarray | None, rows: Any) -> list[Any]:
        """At each time those of the rows that are masked."""
        return [()] * x.shape[1] if mask is None else [np.flatnonzero(of_step) for of_step in ~mask[rows].T]

    # --- backward -----------------------------------------------------------------------------------------------------

    def backward(
        self,
        dh: np.ndarray,
        d_last: Sequence[np.ndarray | None],
        input_gradient: bool = True,
        weight_gradients: bool = True,
    ) -> tuple[np.ndarray | None, list[np.ndarray | None], States]:
        """Every step, last to first.

        dz is written over the gates, and another backward pass over the same forward pass computes them again first. If
        several threads share the rows, dz has memory of its own.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or of the step computed last only, (B, H).
            d_last: what reaches each final state besides, (B, H), or None.
            input_gradient: whether dx is wanted.
            weight_gradients: whether dW, dU and db are.

        Returns:
            dx, [dW, dU, db] and the gradients of the initial states, None for what is not wanted. dx is (B, T, E), or
            (K, E) per distinct row if the input was `GatheredRows`.
        """
        if self.spent:
            self._fill()
        self.spent = True
        self.U_back = np.ascontiguousarray(self.U_back)  # which inference has no use for
        workspace, parts, H = self.workspace, self._parts(), self.H
        T, n, B, _ = workspace.gates.shape
        if len(parts) == 1:
            dz = workspace.gates.reshape(T, B, n * H)  # step by step in the place of gates that are done with
        else:  # there, a thread's dz would replace gates that another still needs
            if workspace.dz is None:
                workspace.dz = np.empty((T, B, n * H), dtype=workspace.gates.dtype)
            dz = workspace.dz
        d_states = spread([partial(self._back_through_time, rows, dh, d_last, dz) for rows in parts])
        d_initial = [np.concatenate(of_parts) for of_parts in zip(*d_states, strict=True)]
        h_prev = self._before_and_after(workspace.states[0])[0].reshape(T * B, H)
        tasks = [
            lambda: self.recurrent_gradient(h_prev, dz.reshape(T * B, n * H)) if weight_gradients else None,
            lambda: self._backward_input(dz, input_gradient, weight_gradients),
        ]
        dU, (dx, dW, db) = spread(tasks, multiplications=dz.size * H)
        return dx, [None if d is None else self._reordered(d) for d in (dW, dU, db)], d_initial

    def _back_through_time(
        self, rows: slice, dh: np.ndarray, d_last: Sequence[np.ndarray | None], dz: np.ndarray
    ) -> States:
        """Write dz of these rows at every step, last to first; the gradients of their initial states."""
        workspace, dh, dz = self.workspace, dh[rows], dz[:, rows]
        (T, B, _), dtype = dz.shape, dz.dtype
        d_states = [np.zeros((B, self.H), dtype) if last is None else last[rows].copy() for last in d_last]
        dh_t, every_step = d_states[0], dh.ndim == 3
        if not every_step:
            dh_t += dh
        idle_rows, prev = self._idle_rows(self.x, self.mask, rows), self._before_and_after(workspace.states[-1])[0]
        gates, inner, prev = workspace.gates[:, :, rows], workspace.inner[:, rows], prev[:, rows]
        dropout = None if self.recurrent_dropout is None else self.recurrent_dropout[:, rows]
        step, dz_by_gate = self.backward_step(B, dtype, dropout), dz.reshape(T, B, self.n, self.H).swapaxes(1, 2)
        for t in range(T)[self.order][::-1]:
            if every_step:
                dh_t += dh[:, t]
            idle = idle_rows[t]
            if len(idle) == B:
                dz[t] = 0
                continue
            held = [d[idle] for d in d_states] if len(idle) else None
            step(d_states, gates[t], inner[t], prev[t], dz[t], dz_by_gate[t])
            if held is not None:
                dz[t, idle] = 0
                for d, of_rows in zip(d_states, held, strict=True):
                    d[idle] = of_rows
        return d_states

    def _back_to_h(self, dz: np.ndarray, U_back: np.ndarray, dropout: np.ndarray | None, out: np.ndarray) -> np.ndarray:
        """What reaches h_prev, (B, H), through its products: dz (B, kH) of k gates times their U_back (kH, H)."""
        if dropout is None:
            return np.matmul(dz, U_back, out=out)  # (18)
        copies = np.matmul(_by_gate(dz, len(dropout)), U_back.reshape(dropout.shape[0], self.H, self.H))
        copies *= dropout
        return np.sum(copies, axis=0, out=out)

    def _backward_input(self, dz: np.ndarray, input_gradient: bool, weight_gradients: bool) -> tuple[Any, Any, Any]:
        """dx, dW and db from dz of all steps, (T, B, nH), as far as they are wanted; see `backward`."""
        if not (input_gradient or weight_gradients):
            return None, None, None
        x, (T, B, _) = self.x, dz.shape
        flat = dz.reshape(T * B, -1)
        rows = x.values if isinstance(x, GatheredRows) else _time_major(x)
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
        for dz_k, W_k, kept in zip(_by_gate(dz, self.n), W_by_gate, self.input_dropout, strict=True):
            np.matmul(dz_k, W_k, out=of_gate)
            dx += _dropped(of_gate, kept, out=of_gate)
        return dx

    # --- the input ----------------------------------------------------------------------------------------------------

    def _project(self, x: np.ndarray | GatheredRows) -> np.ndarray:
        """x W + b: of each distinct row, (n, K, H), if x is gathered; else of each row at each step, (T, n, B, H)."""
        rows = x.values if isinstance(x, GatheredRows) else _time_major(x)
        if self.input_dropout is None:
            projected = product(rows, self.W)
        else:
            projected, own = np.empty((self.n, len(rows), self.H), dtype=rows.dtype), np.empty_like(rows)
            for z_k, W_k, kept in zip(projected, self.W, self.input_dropout, strict=True):
                np.matmul(_dropped(rows, kept, out=own), W_k, out=z_k)
        projected += self.b
        if isinstance(x, GatheredRows):
            return projected
        B, T, _ = x.shape
        return projected.reshape(self.n, T, B, self.H).swapaxes(0, 1)

    def _inputs(self, x: np.ndarray | GatheredRows, projected: np.ndarray, rows: Any) -> Iterator[np.ndarray]:
        """Of what `_project` made of x, x_t W + b of these rows at each step, (n, B, H)."""
        if not isinstance(x, GatheredRows):
            yield from projected[self.order][:, :, rows]
            return
        index = np.ascontiguousarray(x.groups.index[rows].T)[self.order]  # (T, B)
        z_x = np.empty((self.n, index.shape[1], self.H), dtype=projected.dtype)  # each step overwrites the one before
        for of_step in index:
            yield np.take(projected, of_step, axis=1, out=z_x, mode="clip")

    # --- activations --------------------------------------------------------------------------------------------------

    def _sigma(self, z: np.ndarray) -> None:
        """From z to the values of the σ gates, in place."""
        if self.one_tanh:
            np.tanh(z, out=z)
            z *= 0.5
            z += 0.5
        else:
            z[...] = self.recurrent_activation(z)

    def _phi(self, z: np.ndarray, out: np.ndarray) -> None:
        """The candidate's activation."""
        if self.one_tanh:
            np.tanh(z, out=out)
        else:
            out[...] = self.activation(z)

    def _gates_prime(self, gates: np.ndarray, out: np.ndarray) -> None:
        """The activations' derivatives: σ' = s - s², tanh' = 1 - t²."""
        sigma_prime, phi_prime = out[:-1], out[-1]
        if self.one_tanh:
            np.multiply(gates, gates, out=out)
            np.subtract(gates[:-1], sigma_prime, out=sigma_prime)
            np.subtract(1, phi_prime, out=phi_prime)
        else:
            sigma_prime[...] = self.recurrent_activation.prime(gates[:-1])
            phi_prime[...] = self.activation.prime(gates[-1])

    def _reordered(self, columns: np.ndarray) -> np.ndarray:
        """Blocks of H columns from Keras' order to ours, or back; a copy."""
        blocks = columns.reshape(*columns.shape[:-1], self.n, self.H)[..., self.order_of_gates, :]
        return blocks.reshape(columns.shape)


def _dropped(rows: np.ndarray, kept: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Rows (T·B, n) times one gate's dropout, (B, n), at every step."""
    by_step = -1, *kept.shape
    np.multiply(rows.reshape(by_step), kept, out=out.reshape(by_step))
    return out


def kernel_gradient(rows: np.ndarray, dz: np.ndarray, dropout: np.ndarray | None) -> np.ndarray:
    """A kernel's gradient: rows (N, m) turned, times dz (N, nH); with dropout each gate's rows are its own."""
    if dropout is None:
        return rows.T @ dz
    own = np.empty_like(rows)
    by_gate = zip(dropout, _by_gate(dz, len(dropout)), strict=True)
    return np.concatenate([_dropped(rows, kept, out=own).T @ dz_k for kept, dz_k in by_gate], axis=1)


def _by_gate(columns: np.ndarray, n: int) -> np.ndarray:
    """(N, nH) -> (n, N, H), a view."""
    return columns.reshape(len(columns), n, -1).swapaxes(0, 1)


def _time_major(x: np.ndarray) -> np.ndarray:
    """(B, T, E) -> (T·B, E)."""
    return x.swapaxes(0, 1).reshape(-1, x.shape[2])
