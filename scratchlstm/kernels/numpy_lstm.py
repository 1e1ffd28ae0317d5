"""The LSTM recurrence, fast in NumPy: what `gates.lstm_forward` and `gates.lstm_backward` compute, to rounding.

Four ideas (docs/fast.md explains and measures each):

- *Gate-major.* Inside, a step is (4, B, H): each gate is one contiguous block, every elementwise call one flat loop,
  and nothing is ever transposed.
- *One tanh.* σ(z) = (1 + tanh(z/2)) / 2. With the halving folded into the weights, one tanh call serves all four gates;
  the σ gates i f o lie together, g last.
- *Distinct rows.* Where the input is `GatheredRows`, only its K rows are projected, and dz is summed per distinct row
  before it meets W (`rows.py`).
- *A workspace.* All that a step writes was allocated by the step before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, ClassVar

import numpy as np

from scratchlstm._support.threads import LARGE, product, spread, threads
from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.rows import GatheredRows

_STRIP = 128  # rows that inference takes through all steps together
_LARGE_STEP = 1 << 22  # multiplications of a step from which on two threads, each with its rows, are faster than one


@dataclass
class Workspace:
    """The arrays of one forward pass, kept for the backward pass and used again by the next step of the same shape."""

    gates: np.ndarray  #   (T, 4, B, H)  values of i f o g; the backward pass writes dz over them
    c: np.ndarray  #       (T+1, B, H)   c[0] is the initial cell, c[t+1] the cell after step t
    tanh_c: np.ndarray  #  (T, B, H)
    h: np.ndarray  #       (T+1, B, H)
    dz: np.ndarray | None = None  # (T, B, 4H), if it cannot take the place of the gates

    @classmethod
    def empty(cls, T: int, B: int, H: int, dtype: np.dtype) -> "Workspace":
        """Room for T steps."""
        shapes = (T, 4, B, H), (T + 1, B, H), (T, B, H), (T + 1, B, H)
        return cls(*(np.empty(shape, dtype=dtype) for shape in shapes))

    def fits(self, T: int, B: int, H: int, dtype: np.dtype) -> bool:
        """Whether a pass of these sizes can run in it."""
        return self.gates.shape == (T, 4, B, H) and self.gates.dtype == dtype


class NumpyLSTM:
    """One pass over a batch of sequences, forward then backward.

    Args:
        W: kernel, (E, 4H).
        U: recurrent kernel, (H, 4H).
        b: bias, (4H,).
        activation: of the candidate and the cell.
        recurrent_activation: of the gates i f o.
        reverse: from the last step to the first.
        input_dropout: (B, 4, E), what multiplies x on its way to each gate i f g o; the same at every step.
        recurrent_dropout: (B, 4, H), the same for h_prev.
    """

    memory: ClassVar = Workspace

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
        self.H = len(U)
        self.order = slice(None, None, -1 if reverse else 1)  # of the steps, from the time they stand at
        W, U, b = (_swap_g_and_o(array) for array in (W, U, b))
        self.W_back, self.U_back = W.T, U.T  # for dx and dh
        self.W, self.U, self.b = (
            _by_gate(array).copy() for array in (W, U, b[None])
        )  # (4, E, H), (4, H, H), (4, 1, H)
        if self.one_tanh:
            for array in (self.W, self.U, self.b):
                array[:3] *= 0.5  # z/2 for the σ gates
        self.input_dropout, self.recurrent_dropout = _gate_first(input_dropout), _gate_first(recurrent_dropout)

    def forward(
        self,
        x: np.ndarray | GatheredRows,
        h0: np.ndarray,
        c0: np.ndarray,
        workspace: Workspace | None = None,
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Equations (1) to (6) at every step; everything is kept for `backward`.

        Args:
            x: (B, T, E).
            h0, c0: initial states, (B, H).
            workspace: of an earlier pass, overwritten if the shape is the same.
            return_sequences: whether every h_t is wanted or only that of the step computed last.
            mask: (B, T); where False, a row's state stays as it is.

        Returns:
            h: (B, T, H) or (B, H), and the last c, (B, H).
        """
        (B, T, _), H = x.shape, self.H
        if workspace is None or not workspace.fits(T, B, H, x.dtype):
            workspace = Workspace.empty(T, B, H, x.dtype)
        self.x, self.workspace, self.mask = x, workspace, mask
        h, c = workspace.h[self.order], workspace.c[self.order]
        h[0], c[0] = h0, c0
        self._fill()
        sequence = self._before_and_after(workspace.h)[1].swapaxes(0, 1)
        return (sequence if return_sequences else h[-1]).copy(), c[-1].copy()

    def _before_and_after(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of T+1 states, those before each step and those after it, by the time that the step stands at."""
        return (states[:-1], states[1:]) if self.order.step == 1 else (states[1:], states[:-1])

    def _fill(self) -> None:
        """Run through all steps from the initial states in the workspace."""
        workspace, projected = self.workspace, self._project(self.x)
        c, h = self._before_and_after(workspace.c), self._before_and_after(workspace.h)

        def fill(rows: slice) -> None:
            kept = (workspace.gates, *c, workspace.tanh_c, *h)
            steps = zip(*(each[self.order][..., rows, :] for each in kept), strict=True)
            self._run(self._inputs(self.x, projected, rows), steps, rows, self._idle_rows(self.x, self.mask, rows))

        spread([partial(fill, rows) for rows in self._parts()])
        self.gates_hold_dz = False

    def _parts(self) -> list[slice]:
        """The rows that go through the steps together: all of them, or if a step is large, a part for each thread."""
        B = self.workspace.gates.shape[2]
        count = min(threads(), B) if self.shares and B * self.U.size >= _LARGE_STEP else 1
        return [slice(B * k // count, B * (k + 1) // count) for k in range(count)]

    def infer(
        self,
        x: np.ndarray | GatheredRows,
        h0: np.ndarray,
        c0: np.ndarray,
        return_sequences: bool = True,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `forward`, but nothing is kept, and few rows at a time go through all steps, their state in the cache.

        Rows of about one length go together: what is masked in all of them is passed over. The distinct rows of x are
        projected once for all.
        """
        (B, T, _), H, dtype = x.shape, self.H, x.dtype
        table = self._project(x) if isinstance(x, GatheredRows) else np.empty(0, dtype)
        hs = np.empty((B, T, H), dtype=dtype) if return_sequences else None
        sequence = None if hs is None else hs.swapaxes(0, 1)[self.order]
        h_last, c_last = (each.astype(dtype, order="C") for each in (h0, c0))  # each strip overwrites its rows

        def run(rows: Any) -> None:
            h, c = h_last[rows], c_last[rows]
            gates, tanh_c = np.empty((4, *c.shape), dtype=dtype), np.empty_like(c)
            projected, own = (table, rows) if isinstance(x, GatheredRows) else (self._project(x[rows]), slice(None))
            idle = self._idle_rows(x, mask, rows)
            self._run(self._inputs(x, projected, own), repeat((gates, c, c, tanh_c, h, h)), rows, idle, sequence)
            h_last[rows], c_last[rows] = h, c

        strips: list[Any] = [slice(first, first + _STRIP) for first in range(0, B, _STRIP)]
        if mask is not None:
            by_length = np.argsort(mask.sum(axis=1), kind="stable")
            strips = [by_length[rows] for rows in strips]
        large = (
            self.shares and T > 1 and min(B, _STRIP) * self.U.size >= _LARGE_STEP
        )  # one step is over before a thread wakes up
        spread([partial(run, rows) for rows in strips], multiplications=LARGE if large else 0)
        return (h_last if hs is None else hs), c_last

    def _idle_rows(self, x: Any, mask: np.ndarray | None, rows: Any) -> list[Any]:
        """At each time those of the rows that are masked."""
        return [()] * x.shape[1] if mask is None else [np.flatnonzero(of_step) for of_step in ~mask[rows].T]

    def _run(
        self, inputs: Iterable[np.ndarray], steps: Iterable[Any], rows: Any, idle: list[Any], sequence: Any = None
    ) -> None:
        """The recurrence.

        Args:
            inputs: x_t W + b of each step, (4, B, H).
            steps: where each step's values go and come from: gates, c_prev, c, tanh(c), h_prev, h.
            rows: of the batch.
            idle: see `_idle_rows`.
            sequence: where each h of these rows is to be copied, (T, batch, H), if anywhere.
        """
        written: np.ndarray | None = None
        dropped: np.ndarray | None = None
        ordered = zip(inputs, idle[self.order], steps, strict=False)
        for t, (z_x, at_rest, (z, c_prev, c, tanh_c, h_prev, h)) in enumerate(ordered):
            held = (h_prev[at_rest], c_prev[at_rest]) if len(at_rest) else None
            if len(at_rest) < len(h):
                h_in = h_prev
                if self.recurrent_dropout is not None:
                    h_in = dropped = np.multiply(h_prev, self.recurrent_dropout[:, rows], out=dropped)
                np.matmul(h_in, self.U, out=z)
                z += z_x
                self._activate(z)  # (1) to (4)
                i, f, o, g = z
                np.multiply(f, c_prev, out=c)  # (5)
                written = np.multiply(i, g, out=written)
                c += written
                self._activate_cell(c, out=tanh_c)
                np.multiply(o, tanh_c, out=h)  # (6)
            if held is not None:
                h[at_rest], c[at_rest] = held
            if sequence is not None:
                sequence[t, rows] = h

    def backward(
        self,
        dh: np.ndarray,
        dh_last: np.ndarray | None,
        dc_last: np.ndarray | None,
        input_gradient: bool = True,
        weight_gradients: bool = True,
    ) -> tuple[Any, Any, Any, Any, np.ndarray, np.ndarray]:
        """Equations (7) to (21) at every step, last to first.

        dz is written over the gates, and another backward pass over the same forward pass computes them again first. If
        several threads share the rows, dz has memory of its own.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or of the step computed last only, (B, H).
            dh_last, dc_last: what reaches the final states besides, (B, H), or None.
            input_gradient: whether dx is wanted.
            weight_gradients: whether dW, dU and db are.

        Returns:
            dx, dW, dU, db, dh0, dc0, None for what is not wanted. dx is (B, T, E), or (K, E) per distinct row if the
            input was `GatheredRows`.
        """
        if self.gates_hold_dz:
            self._fill()
        self.U_back = np.ascontiguousarray(self.U_back)  # which inference has no use for
        workspace, parts, H = self.workspace, self._parts(), self.H
        T, _, B, _ = workspace.gates.shape
        self.gates_hold_dz = len(parts) == 1
        if self.gates_hold_dz:
            dz = workspace.gates.reshape(T, B, 4 * H)  # step by step in the place of gates that are done with
        else:  # there, a thread's dz would replace gates that another still needs
            if workspace.dz is None:
                workspace.dz = np.empty((T, B, 4 * H), dtype=workspace.gates.dtype)
            dz = workspace.dz
        d_states = spread([partial(self._back_through_time, rows, dh, dh_last, dc_last, dz) for rows in parts])
        dh0, dc0 = (np.concatenate(of_parts) for of_parts in zip(*d_states, strict=True))
        h_before = self._before_and_after(workspace.h)[0]
        h_rows, dz_rows = h_before.reshape(T * B, H), dz.reshape(T * B, 4 * H)
        tasks = [
            lambda: _by_product(h_rows, dz_rows, self.recurrent_dropout) if weight_gradients else None,  # (20)
            lambda: self._backward_input(dz, input_gradient, weight_gradients),
        ]
        dU, (dx, dW, db) = spread(tasks, multiplications=dz.size * H)
        return dx, *(None if d is None else _swap_g_and_o(d) for d in (dW, dU, db)), dh0, dc0

    def _back_through_time(
        self, rows: slice, dh: np.ndarray, dh_last: np.ndarray | None, dc_last: np.ndarray | None, dz: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Write dz of these rows at every step, last to first; their dh0 and dc0. Arguments as of `backward`."""
        workspace, H, dh, dz = self.workspace, self.H, dh[rows], dz[:, rows]
        (T, B, _), dtype = dz.shape, dz.dtype
        dh_t, dc = (np.zeros((B, H), dtype) if last is None else last[rows].copy() for last in (dh_last, dc_last))
        every_step = dh.ndim == 3
        if not every_step:
            dh_t += dh
        d_gates, prime = np.empty((4, B, H), dtype=dtype), np.empty((4, B, H), dtype=dtype)
        di, df, do, dg = d_gates
        through_h = np.empty((B, H), dtype=dtype)
        dz_by_gate = dz.reshape(T, B, 4, H).swapaxes(1, 2)
        idle_rows, c_before = self._idle_rows(self.x, self.mask, rows), self._before_and_after(workspace.c)[0][:, rows]
        values, tanh_cs = workspace.gates[:, :, rows], workspace.tanh_c[:, rows]
        for t in range(T)[self.order][::-1]:
            if every_step:
                dh_t += dh[:, t]
            idle = idle_rows[t]
            if len(idle) == B:
                dz[t] = 0
                continue
            held = (dh_t[idle], dc[idle]) if len(idle) else None
            gates, tanh_c, c_prev = values[t], tanh_cs[t], c_before[t]
            i, f, o, g = gates
            self._cell_prime(tanh_c, out=through_h)
            through_h *= o
            through_h *= dh_t
            dc += through_h  # (8)
            np.multiply(dh_t, tanh_c, out=do)  # (7)
            np.multiply(dc, g, out=di)  # (9)
            np.multiply(dc, c_prev, out=df)  # (10)
            np.multiply(dc, i, out=dg)  # (11)
            self._gates_prime(gates, out=prime)
            dc *= f  # (12)
            np.multiply(d_gates, prime, out=dz_by_gate[t])  # (13) to (16)
            if held is not None:
                dz[t, idle] = 0
            if self.recurrent_dropout is None:
                np.matmul(dz[t], self.U_back, out=dh_t)  # (18)
            else:
                dropped = np.matmul(dz_by_gate[t], self.U_back.reshape(4, H, H))
                dropped *= self.recurrent_dropout[:, rows]
                np.sum(dropped, axis=0, out=dh_t)
            if held is not None:
                dh_t[idle], dc[idle] = held
        return dh_t, dc

    def _backward_input(self, dz: np.ndarray, input_gradient: bool, weight_gradients: bool) -> tuple[Any, Any, Any]:
        """dx, dW and db from dz of all steps, (T, B, 4H), as far as they are wanted; see `backward`."""
        if not (input_gradient or weight_gradients):
            return None, None, None
        x, (T, B, _) = self.x, dz.shape
        flat = dz.reshape(T * B, -1)
        rows = x.values if isinstance(x, GatheredRows) else _time_major(x)
        dz_rows = x.groups.sum(flat) if isinstance(x, GatheredRows) else flat
        tasks = [
            lambda: self._dx(rows, flat, dz_rows) if input_gradient else None,
            lambda: _by_product(rows, dz_rows, self.input_dropout) if weight_gradients else None,  # (19)
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
        W_by_gate = self.W_back.reshape(4, self.H, -1)
        for dz_k, W_k, kept in zip(_by_gate(dz), W_by_gate, self.input_dropout, strict=True):
            np.matmul(dz_k, W_k, out=of_gate)
            dx += _dropped(of_gate, kept, out=of_gate)
        return dx

    def _project(self, x: np.ndarray | GatheredRows) -> np.ndarray:
        """x W + b: of each distinct row, (4, K, H), if x is gathered; else of each row at each step, (T, 4, B, H)."""
        rows = x.values if isinstance(x, GatheredRows) else _time_major(x)
        if self.input_dropout is None:
            projected = product(rows, self.W)
        else:
            projected, own = np.empty((4, len(rows), self.H), dtype=rows.dtype), np.empty_like(rows)
            for z_k, W_k, kept in zip(projected, self.W, self.input_dropout, strict=True):
                np.matmul(_dropped(rows, kept, out=own), W_k, out=z_k)
        projected += self.b
        if isinstance(x, GatheredRows):
            return projected
        B, T, _ = x.shape
        return projected.reshape(4, T, B, self.H).swapaxes(0, 1)

    def _inputs(self, x: np.ndarray | GatheredRows, projected: np.ndarray, rows: Any) -> Iterator[np.ndarray]:
        """Of what `_project` made of x, x_t W + b of these rows at each step, (4, B, H)."""
        if not isinstance(x, GatheredRows):
            yield from projected[self.order][:, :, rows]
            return
        index = np.ascontiguousarray(x.groups.index[rows].T)[self.order]  # (T, B)
        z_x = np.empty((4, index.shape[1], self.H), dtype=projected.dtype)  # each step overwrites the one before
        for of_step in index:
            yield np.take(projected, of_step, axis=1, out=z_x, mode="clip")

    def _activate(self, z: np.ndarray) -> None:
        """From z to the gates' values, in place."""
        if self.one_tanh:
            np.tanh(z, out=z)
            z[:3] *= 0.5
            z[:3] += 0.5
        else:
            z[:3] = self.recurrent_activation(z[:3])
            z[3] = self.activation(z[3])

    def _activate_cell(self, c: np.ndarray, out: np.ndarray) -> None:
        if self.one_tanh:
            np.tanh(c, out=out)
        else:
            out[...] = self.activation(c)

    def _gates_prime(self, gates: np.ndarray, out: np.ndarray) -> None:
        """The four activations' derivatives: σ' = s - s², tanh' = 1 - t²."""
        if self.one_tanh:
            np.multiply(gates, gates, out=out)
            np.subtract(gates[:3], out[:3], out=out[:3])
            np.subtract(1, out[3], out=out[3])
        else:
            out[:3] = self.recurrent_activation.prime(gates[:3])
            out[3] = self.activation.prime(gates[3])

    def _cell_prime(self, tanh_c: np.ndarray, out: np.ndarray) -> None:
        if self.one_tanh:
            np.multiply(tanh_c, tanh_c, out=out)
            np.subtract(1, out, out=out)
        else:
            out[...] = self.activation.prime(tanh_c)


def _swap_g_and_o(W: np.ndarray) -> np.ndarray:
    """Columns from Keras' order i f g o to i f o g, and back; a copy."""
    i, f, g, o = np.split(W, 4, axis=-1)
    return np.concatenate([i, f, o, g], axis=-1)


def _gate_first(dropout: np.ndarray | None) -> np.ndarray | None:
    """(B, 4, n) for i f g o -> (4, B, n) for i f o g."""
    return None if dropout is None else np.ascontiguousarray(dropout.swapaxes(0, 1)[[0, 1, 3, 2]])


def _dropped(rows: np.ndarray, kept: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Rows (T·B, n) times one gate's dropout, (B, n), at every step."""
    by_step = -1, *kept.shape
    np.multiply(rows.reshape(by_step), kept, out=out.reshape(by_step))
    return out


def _by_product(rows: np.ndarray, dz: np.ndarray, dropout: np.ndarray | None) -> np.ndarray:
    """A kernel's gradient, (n, 4H): rows (N, n) turned, times dz (N, 4H); with dropout each gate's rows are its own."""
    if dropout is None:
        return rows.T @ dz
    own = np.empty_like(rows)
    by_gate = zip(dropout, _by_gate(dz), strict=True)
    return np.concatenate([_dropped(rows, kept, out=own).T @ dz_k for kept, dz_k in by_gate], axis=1)


def _by_gate(columns: np.ndarray) -> np.ndarray:
    """(n, 4H) -> (4, n, H), a view."""
    return columns.reshape(len(columns), 4, -1).swapaxes(0, 1)


def _time_major(x: np.ndarray) -> np.ndarray:
    """(B, T, E) -> (T·B, E)."""
    return x.swapaxes(0, 1).reshape(-1, x.shape[2])
