"""What the fast GRU recurrences share, whatever computes their steps: biases, and the parameters' gradients."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.kernels.recurrence import Recurrence, States, kernel_gradient


class GRURecurrence(Recurrence):
    """One pass over a batch of sequences. Its arguments are those of `Recurrence`, except for two.

    The workspace's `inner` is k_n = h_prev U_n + b'_n with `reset_after`, which the backward pass overwrites with its
    gradient; otherwise s = r h_prev.

    Args:
        b: bias. With `reset_after` (2, 3H): b[0] is added to x W and b[1] to h U; else (3H,).
        reset_after: whether r multiplies h U_n, as in Keras by default, or h.
    """

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
        if reset_after:  # n's own bias must be added before r multiplies it; all others can be added now
            self.b_n = b[1, self.split :].copy()
            b = np.concatenate([b[0, : self.split] + b[1, : self.split], b[0, self.split :]])
        super().__init__(W, U, b, activation, recurrent_activation, reverse, input_dropout, recurrent_dropout)

    def recurrent_gradient(self, h_prev: np.ndarray, dz: np.ndarray) -> np.ndarray:
        inner, (of_ur, of_n) = self.workspace.inner, ur_and_n(self.recurrent_dropout)
        if self.mask is not None:
            inner[~self.mask.T] = 0  # a masked step does not contribute
        inner, (dz_ur, dz_n) = inner.reshape(-1, self.H), np.split(dz, [self.split], axis=1)
        dU_n = kernel_gradient(h_prev, inner, of_n) if self.reset_after else inner.T @ dz_n  # (G18), (G21)
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
            db[1, self.split :] = self.workspace.inner.sum(axis=(0, 1))  # (G19)
        return dx, [dW, dU, db], d_initial


def ur_and_n(dropout: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The dropout of the gates u and r, and that of n, (k, B, H) each."""
    return (None, None) if dropout is None else (dropout[:2], dropout[2:])
