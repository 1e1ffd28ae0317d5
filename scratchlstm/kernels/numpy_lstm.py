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

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.kernels.rows import GatheredRows


@dataclass
class Workspace:
    """The arrays of one forward pass, kept for the backward pass and used again by the next step of the same shape."""

    gates: np.ndarray  #   (T, 4, B, H)  values of i f o g; the backward pass writes dz over them
    c: np.ndarray  #       (T+1, B, H)   c[0] is the initial cell, c[t+1] the cell after step t
    tanh_c: np.ndarray  #  (T, B, H)
    h: np.ndarray  #       (T+1, B, H)

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
    """

    def __init__(
        self,
        W: np.ndarray,
        U: np.ndarray,
        b: np.ndarray,
        activation: Activation = TANH,
        recurrent_activation: Activation = SIGMOID,
    ) -> None:
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.one_tanh = activation is TANH and recurrent_activation is SIGMOID
        self.H = len(U)
        W, U, b = (_swap_g_and_o(array) for array in (W, U, b))
        self.W_back, self.U_back = W.T, np.ascontiguousarray(U.T)  # for dx and dh
        self.W, self.U, self.b = _by_gate(W), _by_gate(U), _by_gate(b[None])  # (4, E, H), (4, H, H), (4, 1, H)
        if self.one_tanh:
            for array in (self.W, self.U, self.b):
                array[:3] *= 0.5  # z/2 for the σ gates

    def forward(
        self,
        x: np.ndarray | GatheredRows,
        h0: np.ndarray,
        c0: np.ndarray,
        workspace: Workspace | None = None,
        keep: bool = True,
        return_sequences: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Equations (1) to (6) at every step.

        Args:
            x: (B, T, E).
            h0, c0: initial states, (B, H).
            workspace: of an earlier pass, overwritten if the shape is the same.
            keep: whether `backward` will follow; without it a step's values overwrite those of the step before.
            return_sequences: whether every h_t is wanted or only the last.

        Returns:
            h: (B, T, H) or (B, H), and the last c, (B, H).
        """
        (B, T, _), H, dtype = x.shape, self.H, x.dtype
        kept = T if keep else 1
        if workspace is None or not workspace.fits(kept, B, H, dtype):
            workspace = Workspace.empty(kept, B, H, dtype)
        self.x, self.workspace = x, workspace
        gates, c, tanh_c, h = workspace.gates, workspace.c, workspace.tanh_c, workspace.h
        h[0], c[0] = h0, c0
        hs = np.empty((B, T, H), dtype=dtype) if return_sequences else None
        steps = zip(gates, c, c[1:], tanh_c, h, h[1:], strict=False)
        written = np.empty((B, H), dtype=dtype)
        for t, (z_x, (z, c_prev, c_t, tanh_c_t, h_prev, h_t)) in enumerate(
            zip(
                self._projected(x),
                steps if keep else repeat((gates[0], c[0], c[0], tanh_c[0], h[0], h[0])),
                strict=False,
            )
        ):
            np.matmul(h_prev, self.U, out=z)
            z += z_x
            self._activate(z)  # (1) to (4)
            i, f, o, g = z
            np.multiply(f, c_prev, out=c_t)  # (5)
            np.multiply(i, g, out=written)
            c_t += written
            self._activate_cell(c_t, out=tanh_c_t)
            np.multiply(o, tanh_c_t, out=h_t)  # (6)
            if hs is not None:
                hs[:, t] = h_t
        last = T if keep else 0
        return (h[last].copy() if hs is None else hs), c[last].copy()

    def backward(
        self, dh: np.ndarray, dh_last: np.ndarray | None, dc_last: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Equations (7) to (21) at every step, last to first; once for each forward pass, whose gates it overwrites.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or of the last step only, (B, H).
            dh_last, dc_last: what reaches the final states besides, (B, H), or None.

        Returns:
            dx, dW, dU, db, dh0, dc0. dx is (B, T, E), or (K, E) per distinct row where the input was `GatheredRows`.
        """
        x, workspace, H = self.x, self.workspace, self.H
        T, _, B, _ = workspace.gates.shape
        dtype = workspace.gates.dtype
        dz = workspace.gates.reshape(T, B, 4 * H)  # step by step in the place of the gates, which are then done with
        dh_t = np.zeros((B, H), dtype=dtype) if dh_last is None else dh_last.copy()
        dc = np.zeros((B, H), dtype=dtype) if dc_last is None else dc_last.copy()
        every_step = dh.ndim == 3
        if not every_step:
            dh_t += dh
        d_gates, prime = np.empty((4, B, H), dtype=dtype), np.empty((4, B, H), dtype=dtype)
        di, df, do, dg = d_gates
        through_h = np.empty((B, H), dtype=dtype)
        dz_by_gate = dz.reshape(T, B, 4, H).swapaxes(1, 2)
        for t in reversed(range(T)):
            gates, tanh_c, c_prev = workspace.gates[t], workspace.tanh_c[t], workspace.c[t]
            i, f, o, g = gates
            if every_step:
                dh_t += dh[:, t]
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
            np.matmul(dz[t], self.U_back, out=dh_t)  # (18)
        flat = dz.reshape(T * B, 4 * H)
        dU = workspace.h[:T].reshape(T * B, H).T @ flat  # (20)
        if isinstance(x, GatheredRows):
            rows, dz_rows = x.values, x.groups.sum(flat)
        else:
            rows, dz_rows = _time_major(x), flat
        dW, db = rows.T @ dz_rows, dz_rows.sum(axis=0)  # (19), (21)
        dx = dz_rows @ self.W_back  # (17)
        if not isinstance(x, GatheredRows):
            dx = np.ascontiguousarray(dx.reshape(T, B, -1).swapaxes(0, 1))
        return dx, _swap_g_and_o(dW), _swap_g_and_o(dU), _swap_g_and_o(db), dh_t, dc

    def _projected(self, x: np.ndarray | GatheredRows) -> Iterator[np.ndarray]:
        """x_t W + b for each step, (4, B, H); the next one may overwrite it."""
        B, T, _ = x.shape
        if isinstance(x, GatheredRows):
            rows = np.matmul(x.values, self.W)  # (4, K, H)
            rows += self.b
            z_x = np.empty((4, B, self.H), dtype=x.dtype)
            for index in np.ascontiguousarray(x.groups.index.T):  # (B,) at each step
                yield np.take(rows, index, axis=1, out=z_x, mode="clip")
        else:
            steps = np.matmul(_time_major(x), self.W)  # (4, T·B, H)
            steps += self.b
            yield from steps.reshape(4, T, B, self.H).swapaxes(0, 1)

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


def _by_gate(W: np.ndarray) -> np.ndarray:
    """(n, 4H) -> (4, n, H), a copy."""
    return W.reshape(len(W), 4, -1).swapaxes(0, 1).copy()


def _time_major(x: np.ndarray) -> np.ndarray:
    """(B, T, E) -> (T·B, E)."""
    return x.swapaxes(0, 1).reshape(-1, x.shape[2])
