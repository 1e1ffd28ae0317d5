"""The LSTM recurrence, fast in NumPy: what `gates.lstm_forward` and `gates.lstm_backward` compute, to rounding.

Three ideas:

- *Feature-major.* Inside, a step is (4H, B): each gate is one contiguous block, every elementwise call one flat loop.
- *One tanh.* σ(z) = (1 + tanh(z/2)) / 2. With the halving folded into the weights, one tanh call serves all four gates;
  the σ gates i f o lie together, g last.
- *Distinct rows.* Where the input is `GatheredRows`, only its K rows are projected, and dz is summed per distinct row
  before it meets W (`rows.py`).
"""

from dataclasses import dataclass

import numpy as np

from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.kernels.rows import GatheredRows


@dataclass
class Workspace:
    """The arrays of one forward pass, kept for the backward pass and used again by the next step of the same shape."""

    gates: np.ndarray  #   (T, 4H, B)    values of i f o g
    c: np.ndarray  #       (T+1, H, B)   c[0] is the initial cell, c[t+1] the cell after step t
    tanh_c: np.ndarray  #  (T, H, B)
    h: np.ndarray  #       (T+1, H, B)

    @classmethod
    def empty(cls, T: int, H: int, B: int, dtype: np.dtype) -> "Workspace":
        """Room for T steps."""
        shapes = (T, 4 * H, B), (T + 1, H, B), (T, H, B), (T + 1, H, B)
        return cls(*(np.empty(shape, dtype=dtype) for shape in shapes))

    def fits(self, T: int, H: int, B: int, dtype: np.dtype) -> bool:
        """Whether a pass of these sizes can run in it."""
        return self.gates.shape == (T, 4 * H, B) and self.gates.dtype == dtype


def _kernel_order(W: np.ndarray) -> np.ndarray:
    """Columns i f g o -> i f o g, a copy."""
    i, f, g, o = np.split(W, 4, axis=-1)
    return np.concatenate([i, f, o, g], axis=-1)


def _keras_order(dW: np.ndarray) -> np.ndarray:
    """Columns i f o g -> i f g o, a copy."""
    return _kernel_order(dW)  # swapping the last two blocks undoes itself


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
        self.W, self.U, b = (_kernel_order(array) for array in (W, U, b))
        self.H = len(U)
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.one_tanh = activation is TANH and recurrent_activation is SIGMOID
        halves = np.ones_like(b)
        if self.one_tanh:
            halves[: 3 * self.H] = 0.5  # z/2 for the σ gates
        self.W_in, self.U_in, self.b_in = self.W * halves, np.ascontiguousarray((self.U * halves).T), b * halves

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
            keep: whether `backward` will follow; without it a step's gates overwrite those of the step before.
            return_sequences: whether every h_t is wanted or only the last.

        Returns:
            h: (B, T, H) or (B, H), and the last c, (B, H).
        """
        (B, T, _), H, dtype = x.shape, self.H, x.dtype
        steps = T if keep else 1
        if workspace is None or not workspace.fits(steps, H, B, dtype):
            workspace = Workspace.empty(steps, H, B, dtype)
        self.x, self.workspace = x, workspace
        gates, c, tanh_c, h = workspace.gates, workspace.c, workspace.tanh_c, workspace.h
        h[0], c[0] = h0.T, c0.T
        hs = np.empty((B, T, H), dtype=dtype) if return_sequences else None
        projected = self._project(x)
        write = np.empty((H, B), dtype=dtype)
        z_x = np.empty((B, 4 * H), dtype=dtype)
        for t in range(T):
            now, then = (t, t + 1) if keep else (0, 0)
            z = gates[now]
            np.matmul(self.U_in, h[now], out=z)
            z += projected(t, z_x).T
            i, f, o, g = self._activate(z)
            np.multiply(f, c[now], out=c[then])  # (5)
            np.multiply(i, g, out=write)
            c[then] += write
            self._activate_cell(c[then], out=tanh_c[now])
            np.multiply(o, tanh_c[now], out=h[then])  # (6)
            if hs is not None:
                hs[:, t] = h[then].T
        return (h[then].T.copy() if hs is None else hs), c[then].T.copy()

    def backward(
        self, dh: np.ndarray, dh_last: np.ndarray | None, dc_last: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Equations (7) to (21) at every step, last to first.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or of the last step only, (B, H).
            dh_last, dc_last: what reaches the final states besides, (B, H), or None.

        Returns:
            dx, dW, dU, db, dh0, dc0. dx is (B, T, E), or (K, E) per distinct row where the input was `GatheredRows`.
        """
        x, H = self.x, self.H
        gates, c, tanh_c, h = self.workspace.gates, self.workspace.c, self.workspace.tanh_c, self.workspace.h
        T, _, B = gates.shape
        dtype = gates.dtype
        dh_t = np.zeros((H, B), dtype=dtype) if dh_last is None else dh_last.T.copy()
        dc = np.zeros((H, B), dtype=dtype) if dc_last is None else dc_last.T.copy()
        every_step = dh.ndim == 3
        if not every_step:
            dh_t += dh.T
        dz = np.empty((T, B, 4 * H), dtype=dtype)
        h_prev = np.empty((T, B, H), dtype=dtype)
        dz_t, prime = np.empty((4 * H, B), dtype=dtype), np.empty((4 * H, B), dtype=dtype)
        scratch = np.empty((H, B), dtype=dtype)
        di, df, do, dg = (dz_t[k * H : (k + 1) * H] for k in range(4))
        for t in reversed(range(T)):
            i, f, o, g = (gates[t, k * H : (k + 1) * H] for k in range(4))
            if every_step:
                dh_t += dh[:, t].T
            self._cell_prime(tanh_c[t], out=scratch)
            scratch *= o
            scratch *= dh_t
            dc += scratch  # (8)
            np.multiply(dh_t, tanh_c[t], out=do)  # (7)
            np.multiply(dc, g, out=di)  # (9)
            np.multiply(dc, c[t], out=df)  # (10)
            np.multiply(dc, i, out=dg)  # (11)
            self._gates_prime(gates[t], out=prime)
            dz_t *= prime  # (13) to (16)
            np.matmul(self.U, dz_t, out=dh_t)  # (18)
            dc *= f  # (12)
            dz[t], h_prev[t] = dz_t.T, h[t].T
        flat = dz.reshape(T * B, 4 * H)
        dU = h_prev.reshape(T * B, H).T @ flat  # (20)
        if isinstance(x, GatheredRows):
            rows, dz_rows = x.values, x.groups.sum(flat)
        else:
            rows, dz_rows = _time_major(x), flat
        dW, db = rows.T @ dz_rows, dz_rows.sum(axis=0)  # (19), (21)
        dx = dz_rows @ self.W.T  # (17)
        if not isinstance(x, GatheredRows):
            dx = np.ascontiguousarray(dx.reshape(T, B, -1).swapaxes(0, 1))
        return dx, _keras_order(dW), _keras_order(dU), _keras_order(db), dh_t.T.copy(), dc.T.copy()

    def _project(self, x):  # type: ignore[no-untyped-def]
        """A function of t and a buffer that gives x_t W + b, (B, 4H)."""
        if isinstance(x, GatheredRows):
            rows = x.values @ self.W_in + self.b_in  # (K, 4H)
            index = np.ascontiguousarray(x.groups.index.T)  # (T, B)
            return lambda t, out: np.take(rows, index[t], axis=0, out=out, mode="clip")
        steps = (_time_major(x) @ self.W_in + self.b_in).reshape(x.shape[1], x.shape[0], 4 * self.H)
        return lambda t, out: steps[t]

    def _activate(self, z: np.ndarray) -> list[np.ndarray]:
        """(1) to (4), in place: from z to the blocks i f o g."""
        H = self.H
        if self.one_tanh:
            np.tanh(z, out=z)
            z[: 3 * H] *= 0.5
            z[: 3 * H] += 0.5
        else:
            z[: 3 * H] = self.recurrent_activation(z[: 3 * H])
            z[3 * H :] = self.activation(z[3 * H :])
        return [z[k * H : (k + 1) * H] for k in range(4)]

    def _activate_cell(self, c: np.ndarray, out: np.ndarray) -> None:
        if self.one_tanh:
            np.tanh(c, out=out)
        else:
            out[...] = self.activation(c)

    def _gates_prime(self, gates: np.ndarray, out: np.ndarray) -> None:
        """The four activations' derivatives: σ' = s - s², tanh' = 1 - t²."""
        H = self.H
        if self.one_tanh:
            np.multiply(gates, gates, out=out)
            np.subtract(gates[: 3 * H], out[: 3 * H], out=out[: 3 * H])
            np.subtract(1, out[3 * H :], out=out[3 * H :])
        else:
            out[: 3 * H] = self.recurrent_activation.prime(gates[: 3 * H])
            out[3 * H :] = self.activation.prime(gates[3 * H :])

    def _cell_prime(self, tanh_c: np.ndarray, out: np.ndarray) -> None:
        if self.one_tanh:
            np.multiply(tanh_c, tanh_c, out=out)
            np.subtract(1, out, out=out)
        else:
            out[...] = self.activation.prime(tanh_c)


def _time_major(x: np.ndarray) -> np.ndarray:
    """(B, T, E) -> (T·B, E)."""
    return x.swapaxes(0, 1).reshape(-1, x.shape[2])
