"""The GRU recurrence, fast in NumPy: (G1) to (G21) of `cells/gru.py`, which its twin there computes line by line.

All but the step itself is in `numpy_recurrence`.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.kernels import numpy_recurrence
from scratchlstm.kernels.numpy_recurrence import NumpyRecurrence
from scratchlstm.kernels.recurrence import States, kernel_gradient


class Workspace(numpy_recurrence.Workspace):
    """Gates u r n, state h; `inner` is h_prev U_n + b_n with `reset_after`, else r h_prev."""

    gate_count: ClassVar = 3
    state_count: ClassVar = 1


class NumpyGRU(NumpyRecurrence):
    """One pass over a batch of sequences. Its arguments are those of `Recurrence`, except for two.

    Args:
        b: bias. With `reset_after` (2, 3H): b[0] is added to x W and b[1] to h U; else (3H,).
        reset_after: whether r multiplies h U_n, as in Keras by default, or h.
    """

    memory: ClassVar = Workspace
    order_of_gates: ClassVar = [0, 1, 2]

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
        reset_after: bool = True,
    ) -> None:
        self.reset_after, self.split = reset_after, 2 * len(U)  # columns of u and r, then those of n
        if reset_after:  # n's own share has to be added before r multiplies it; all others can be added now
            self.b_n = b[1, self.split :].copy()
            b = np.concatenate([b[0, : self.split] + b[1, : self.split], b[0, self.split :]])
        super().__init__(W, U, b, activation, recurrent_activation, reverse, input_dropout, recurrent_dropout)

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
        of_ur, of_n = _ur_and_n(dropout)

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

    def recurrent_gradient(self, h_prev: np.ndarray, dz: np.ndarray) -> np.ndarray:
        inner, (of_ur, of_n) = self.workspace.inner, _ur_and_n(self.recurrent_dropout)
        if self.mask is not None:
            inner[~self.mask.T] = 0  # a masked step has no part in it
        inner, (dz_ur, dz_n) = inner.reshape(-1, self.H), np.split(dz, [self.split], axis=1)
        dU_n = kernel_gradient(h_prev, inner, of_n) if self.reset_after else inner.T @ dz_n
        return np.concatenate([kernel_gradient(h_prev, dz_ur, of_ur), dU_n], axis=1)

    def backward(
        self,
        dh: np.ndarray,
        d_last: Sequence[np.ndarray | None],
        input_gradient: bool = True,
        weight_gradients: bool = True,
    ) -> tuple[Any, list[Any], States]:
        dx, (dW, dU, db), d_initial = super().backward(dh, d_last, input_gradient, weight_gradients)
        if self.reset_after and db is not None:
            db = np.stack([db, db])
            db[1, self.split :] = self.workspace.inner.sum(axis=(0, 1))  # by now r dz_n
        return dx, [dW, dU, db], d_initial


def _ur_and_n(dropout: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The dropout of the gates u and r, and that of n, (k, B, H) each."""
    return (None, None) if dropout is None else (dropout[:2], dropout[2:])
