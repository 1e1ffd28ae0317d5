"""The GRU recurrence, fast in NumPy: (G1) to (G21) of `cells/gru.py`, which is the version to read.

Everything but the step itself is in `numpy_recurrence`.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from scratchlstm.kernels.gru_recurrence import GRURecurrence, ur_and_n
from scratchlstm.kernels.numpy_recurrence import NumpyRecurrence, NumpyWorkspace
from scratchlstm.kernels.recurrence import States


class Workspace(NumpyWorkspace):
    """Gates u r n, state h; `inner` is h_prev U_n + b_n with `reset_after`, otherwise r h_prev."""

    gate_count: ClassVar = 3
    state_count: ClassVar = 1


class NumpyGRU(GRURecurrence, NumpyRecurrence):
    """Equations (G1) to (G6) at every step, and (G7) to (G21) backward; the arguments are those of `GRURecurrence`."""

    memory: ClassVar = Workspace

    def forward_step(
        self, z_x: np.ndarray, h_in: np.ndarray, gates: np.ndarray, inner: np.ndarray, h_prev: np.ndarray, after: States
    ) -> None:
        (h,), ur, (u, r, n) = after, gates[:2], gates
        if self.reset_after:
            np.matmul(h_in, self.U, out=gates)
            np.add(n, self.b_n, out=inner)
        else:
            h_ur, h_n = (h_in, h_in) if h_in.ndim == 2 else (h_in[:2], h_in[2])
            np.matmul(h_ur, self.U[:2], out=ur)
        ur += z_x[:2]
        self._sigma(ur)  # (G1), (G2)
        if self.reset_after:
            np.multiply(r, inner, out=n)
        else:
            np.multiply(r, h_n, out=inner)
            np.matmul(inner, self.U[2], out=n)
        n += z_x[2]
        self._phi(n, out=n)  # (G3), (G5)
        np.subtract(h_prev, n, out=h)
        h *= u
        h += n  # (G6), as n + u (h_prev - n)

    def backward_step(self, B: int, dtype: np.dtype, dropout: np.ndarray | None) -> Callable[..., None]:
        d_gates, prime = np.empty((2, 3, B, self.H), dtype=dtype)
        (du, dr, dn), (dz_n, kept) = d_gates, np.empty((2, B, self.H), dtype=dtype)
        U_ur, U_n = np.split(self.U_back, [self.split])
        of_ur, of_n = ur_and_n(dropout)

        def step(
            d_states: States,
            gates: np.ndarray,
            inner: np.ndarray,
            h_prev: np.ndarray,
            dz: np.ndarray,
            dz_by_gate: np.ndarray,
        ) -> None:
            (dh,), (u, r, n) = d_states, gates
            self._gates_prime(gates, out=prime)
            # h = u h_prev + (1 - u) n
            np.subtract(h_prev, n, out=du)
            np.multiply(du, dh, out=du)  # (G7)
            np.multiply(dh, u, out=kept)  # (G9)
            np.subtract(dh, kept, out=dn)  # (G8)
            np.multiply(dn, prime[2], out=dz_n)  # (G10)
            if self.reset_after:  # dz_n reaches r and the product that r multiplies
                np.multiply(dz_n, inner, out=dr)  # (G11)
                np.multiply(dz_n, r, out=inner)  # (G16)
                self._back_to_h(inner, U_n, of_n, out=dh)
            else:  # dz_n reaches r and h_prev through the product
                self._back_to_h(dz_n, U_n, of_n, out=dh)
                np.multiply(dh, h_prev, out=dr)  # (G13)
                dh *= r
            np.add(kept, dh, out=kept)
            np.multiply(d_gates, prime, out=dz_by_gate)  # (G14), (G15)
            self._back_to_h(dz[:, : self.split], U_ur, of_ur, out=dh)
            dh += kept

        return step
