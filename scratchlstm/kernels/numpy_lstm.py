"""The LSTM recurrence, fast in NumPy: the same as `gates.lstm_forward` and `gates.lstm_backward`, up to rounding.

Everything but the step itself is in `numpy_recurrence`. One call of tanh serves all four gates.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from scratchlstm.kernels.numpy_recurrence import NumpyRecurrence, NumpyWorkspace
from scratchlstm.kernels.recurrence import States


class Workspace(NumpyWorkspace):
    """Gates i f o g, states h and c; `inner` is tanh(c)."""

    gate_count: ClassVar = 4
    state_count: ClassVar = 2


class NumpyLSTM(NumpyRecurrence):
    """Equations (1) to (6) at every step, and (7) to (21) backward; the arguments are those of `Recurrence`."""

    memory: ClassVar = Workspace
    order_of_gates: ClassVar = [0, 1, 3, 2]  # i f g o -> i f o g

    def forward_step(
        self, z_x: np.ndarray, h_in: np.ndarray, z: np.ndarray, tanh_c: np.ndarray, c_prev: np.ndarray, after: States
    ) -> None:
        h, c = after
        np.matmul(h_in, self.U, out=z)
        z += z_x
        self._activate(z)  # (1) to (4)
        i, f, o, g = z
        np.multiply(f, c_prev, out=c)
        c += np.multiply(i, g, out=h)  # (5); h is free until (6)
        self._phi(c, out=tanh_c)
        np.multiply(o, tanh_c, out=h)  # (6)

    def _activate(self, z: np.ndarray) -> None:
        """From z to the gates' values, in place."""
        ifo, g = z[:3], z[3]
        if self.one_tanh:
            np.tanh(z, out=z)
            ifo *= 0.5
            ifo += 0.5
        else:
            self._sigma(ifo)
            self._phi(g, out=g)

    def backward_step(self, B: int, dtype: np.dtype, dropout: np.ndarray | None) -> Callable[..., None]:
        d_gates, prime = np.empty((2, 4, B, self.H), dtype=dtype)
        (di, df, do, dg), spare = d_gates, np.empty((B, self.H), dtype=dtype)

        def step(
            d_states: States,
            gates: np.ndarray,
            tanh_c: np.ndarray,
            c_prev: np.ndarray,
            dz: np.ndarray,
            dz_by_gate: np.ndarray,
        ) -> None:
            (dh, dc), (i, f, o, g) = d_states, gates
            through_h = self._cell_prime(tanh_c, out=spare)
            through_h *= o
            through_h *= dh
            dc += through_h  # (8)
            np.multiply(dh, tanh_c, out=do)  # (7)
            np.multiply(dc, g, out=di)  # (9)
            np.multiply(dc, c_prev, out=df)  # (10)
            np.multiply(dc, i, out=dg)  # (11)
            self._gates_prime(gates, out=prime)
            dc *= f  # (12)
            np.multiply(d_gates, prime, out=dz_by_gate)  # (13) to (16)
            self._back_to_h(dz, self.U_back, dropout, out=dh)  # (18)

        return step

    def _cell_prime(self, tanh_c: np.ndarray, out: np.ndarray) -> np.ndarray:
        if self.one_tanh:
            return np.subtract(1, np.multiply(tanh_c, tanh_c, out=out), out=out)
        out[...] = self.activation.prime(tanh_c)
        return out
