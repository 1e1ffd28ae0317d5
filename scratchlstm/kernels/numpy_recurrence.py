"""What the fast NumPy recurrences share: everything but a cell's own step, forward and backward.

Four ideas (docs/fast.md explains and measures each):

- *Gate-major.* Internally, a step of n gates is (n, B, H): each gate is one contiguous block, every elementwise call
  one flat loop, and nothing is ever transposed.
- *One tanh.* σ(z) = (1 + tanh(z/2)) / 2. With the halving folded into the weights, tanh serves all gates; the σ gates
  are adjacent, the candidate comes last.
- *Distinct rows.* If the input is `GatheredRows`, only its K rows are projected, and dz is summed per distinct row
  before it meets W (`rows.py`).
- *A workspace.* Everything a step writes to was allocated by an earlier pass.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, ClassVar

import numpy as np

from scratchlstm._support.threads import LARGE, MOST, product, spread, threads
from scratchlstm.activations import SIGMOID, TANH
from scratchlstm.kernels.recurrence import Recurrence, States, Workspace, by_gate, project_by_gate, time_major
from scratchlstm.rows import GatheredRows

_LARGE_STEP = 1 << 22  # from this many multiplications per step, two threads with separate rows are faster than one


@dataclass
class NumpyWorkspace(Workspace):
    """Gates are stored one after another at each step, (T, n, B, H)."""

    dz: np.ndarray | None = None  # (T, B, nH), if it cannot overwrite the gates

    @classmethod
    def gates_shape(cls, T: int, B: int, H: int) -> tuple[int, ...]:
        return T, cls.gate_count, B, H


class NumpyRecurrence(Recurrence):
    """A recurrence whose steps are computed by NumPy; the arguments are those of `Recurrence`.

    A subclass names its workspace and the order of its gates, candidate last, and defines `forward_step` and
    `backward_step`.
    """

    memory: ClassVar[type[NumpyWorkspace]]
    strip: ClassVar = 128

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        activations = self.activation, self.recurrent_activation
        self.one_tanh = activations == (TANH, SIGMOID)
        # a user's own activation, which has no name here, may not be thread-safe
        self.shares = all(isinstance(each.description(), str) for each in activations)
        # (n, E, H), (n, H, H), (n, 1, H)
        self.W, self.U, self.b = (by_gate(array, self.n).copy() for array in (self.W, self.U, self.b[None]))
        if self.one_tanh:
            for array in (self.W, self.U, self.b):
                array[:-1] *= 0.5  # z/2 for the σ gates

    # --- what a cell defines ------------------------------------------------------------------------------------------

    def forward_step(
        self, z_x: np.ndarray, h_in: np.ndarray, gates: np.ndarray, inner: np.ndarray, prev: np.ndarray, after: States
    ) -> None:
        """Compute one step.

        Args:
            z_x: x_t W + b, (n, B, H).
            h_in: h_prev, (B, H), or with dropout one for each gate, (n, B, H).
            gates, inner: outputs, see `Workspace`.
            prev: the last state before the step; may be overwritten by the new one.
            after: the states after the step, outputs.
        """
        raise NotImplementedError

    def backward_step(self, B: int, dtype: np.dtype, dropout: np.ndarray | None) -> Callable[..., None]:
        """A function for one backward step of B rows, which reuses its own memory at each step.

        Its arguments:
            d_states: gradients of the states after the step, replaced in place by those before the step.
            gates, inner, prev: from the forward step; inner may be overwritten.
            dz: (B, nH), output.
            dz_by_gate: the same memory, (n, B, H).

        Args:
            B: rows.
            dtype: of all arrays.
            dropout: of h_prev, (n, B, H).
        """
        raise NotImplementedError

    # --- forward ------------------------------------------------------------------------------------------------------

    def inferring(
        self, x: np.ndarray | GatheredRows, mask: np.ndarray | None, hs: np.ndarray | None
    ) -> Callable[[Any, States], None]:
        table = self._project(x) if isinstance(x, GatheredRows) else np.empty(0, x.dtype)
        sequence = None if hs is None else hs.swapaxes(0, 1)[self.order]

        def run(rows: Any, own: States) -> None:
            gates, inner = np.empty((self.n, *own[0].shape), own[0].dtype), np.empty_like(own[0])
            projected, at = (table, rows) if isinstance(x, GatheredRows) else (self._project(x[rows]), slice(None))
            idle = self._idle_rows(x, mask, rows)
            self._run(self._inputs(x, projected, at), repeat((gates, inner, own, own)), rows, idle, sequence)

        return run

    def spread_rows(self, tasks: Sequence[Callable[[], None]], B: int, T: int) -> None:
        large = self.shares and T > 1 and min(B, self.strip) * self.U.size >= _LARGE_STEP
        spread(tasks, multiplications=LARGE if large else 0)  # one step is over before a thread wakes up

    def fill(self) -> None:
        workspace, projected = self.workspace, self._project(self.x)
        before, after = zip(*map(self.before_and_after, workspace.states), strict=True)

        def fill(rows: slice) -> None:
            def part(array: np.ndarray) -> np.ndarray:
                return array[self.order][..., rows, :]

            states = (zip(*map(part, arrays), strict=True) for arrays in (before, after))
            steps = zip(part(workspace.gates), part(workspace.inner), *states, strict=True)
            self._run(self._inputs(self.x, projected, rows), steps, rows, self._idle_rows(self.x, self.mask, rows))

        spread([partial(fill, rows) for rows in self._parts()])

    def _run(
        self, inputs: Iterable[np.ndarray], steps: Iterable[Any], rows: Any, idle: list[Any], sequence: Any = None
    ) -> None:
        """Run the recurrence.

        Args:
            inputs: x_t W + b of each step, (n, B, H).
            steps: the arrays of each step: gates, inner, the states before and after it.
            rows: rows of the batch.
            idle: see `_idle_rows`.
            sequence: where to copy each h of these rows, (T, batch, H), if anywhere.
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

    def _parts(self) -> list[slice]:
        """The rows that go through the steps together: all of them, or if a step is large, a part for each thread."""
        B = self.workspace.gates.shape[2]
        count = min(threads(), MOST, B) if self.shares and B * self.U.size >= _LARGE_STEP else 1
        return [slice(B * k // count, B * (k + 1) // count) for k in range(count)]

    def _idle_rows(self, x: Any, mask: np.ndarray | None, rows: Any) -> list[Any]:
        """For each time, the masked ones among the rows."""
        return [()] * x.shape[1] if mask is None else [np.flatnonzero(of_step) for of_step in ~mask[rows].T]

    # --- backward -----------------------------------------------------------------------------------------------------

    def back_through_time(self, dh: np.ndarray, d_last: Sequence[np.ndarray | None]) -> tuple[np.ndarray, States]:
        """See `Recurrence`. If several threads share the rows, dz has its own memory."""
        self.U_back = np.ascontiguousarray(self.U_back)  # not needed for inference
        workspace, parts, H = self.workspace, self._parts(), self.H
        T, n, B, _ = workspace.gates.shape
        if len(parts) == 1:
            dz = workspace.gates.reshape(T, B, n * H)  # step by step in place of gates no longer needed
        else:  # otherwise a thread's dz would overwrite gates that another still needs
            if workspace.dz is None:
                workspace.dz = np.empty((T, B, n * H), dtype=workspace.gates.dtype)
            dz = workspace.dz
        d_states = spread([partial(self._back_through_time, rows, dh, d_last, dz) for rows in parts])
        d_initial = [np.concatenate(of_parts) for of_parts in zip(*d_states, strict=True)]
        return dz, d_initial

    def _back_through_time(
        self, rows: slice, dh: np.ndarray, d_last: Sequence[np.ndarray | None], dz: np.ndarray
    ) -> States:
        """Write dz of these rows at every step, last to first; returns the gradients of their initial states."""
        workspace, dh, dz = self.workspace, dh[rows], dz[:, rows]
        (T, B, _), dtype = dz.shape, dz.dtype
        d_states = [np.zeros((B, self.H), dtype) if last is None else last[rows].copy() for last in d_last]
        dh_t, every_step = d_states[0], dh.ndim == 3
        if not every_step:
            dh_t += dh
        idle_rows, prev = self._idle_rows(self.x, self.mask, rows), self.before_and_after(workspace.states[-1])[0]
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
        """The gradient of h_prev, (B, H), through its products: dz (B, kH) of k gates times their U_back (kH, H)."""
        if dropout is None:
            return np.matmul(dz, U_back, out=out)  # (18)
        copies = np.matmul(by_gate(dz, len(dropout)), U_back.reshape(dropout.shape[0], self.H, self.H))
        copies *= dropout
        return np.sum(copies, axis=0, out=out)

    # --- the input ----------------------------------------------------------------------------------------------------

    def _project(self, x: np.ndarray | GatheredRows) -> np.ndarray:
        """x W + b: for each distinct row, (n, K, H), if x is gathered; else for each row and step, (T, n, B, H)."""
        rows = x.values if isinstance(x, GatheredRows) else time_major(x)
        if self.input_dropout is None:
            projected = product(rows, self.W)
        else:
            projected = np.empty((self.n, len(rows), self.H), dtype=rows.dtype)
            project_by_gate(rows, self.W, self.input_dropout, projected)
        projected += self.b
        if isinstance(x, GatheredRows):
            return projected
        B, T, _ = x.shape
        return projected.reshape(self.n, T, B, self.H).swapaxes(0, 1)

    def _inputs(self, x: np.ndarray | GatheredRows, projected: np.ndarray, rows: Any) -> Iterator[np.ndarray]:
        """x_t W + b of these rows at each step, (n, B, H), from the result of `_project`."""
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
