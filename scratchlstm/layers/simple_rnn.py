"""The plain recurrent network as a layer, to compare with the LSTM."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm.cells import simple_rnn
from scratchlstm.layers.base import Signal
from scratchlstm.layers.recurrent import Recurrent, States, reverse_steps


class SimpleRNN(Recurrent):
    """h_t = activation(x_t W + h_prev U + b); the equations are in `scratchlstm.cells.simple_rnn`, with no faster path.

    Args:
        units: H.
        activation: φ.
        use_bias, kernel_initializer, ..., zero_output_for_mask: see `Recurrent`.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters: `kernel` (E, H), `recurrent_kernel` (H, H), `bias` (H,).

    Call: `layer(x, mask=mask, initial_state=[h0])`; see `Recurrent`.
    """

    of_a_pass: ClassVar = ("mask", "_caches")
    gate_count: ClassVar = 1
    state_names: ClassVar = ("h",)

    def run(self, x: Signal, states: States, mask: np.ndarray | None) -> tuple[np.ndarray, States]:
        self.mask = None if mask is None else reverse_steps(mask, self.go_backwards)
        W, U, b = self.kernels()
        x = reverse_steps(x, self.go_backwards)
        hs, self._caches = simple_rnn.rnn_forward(
            x, states[0], W, U, b, self.activation, self.mask, self.recurrent_dropout
        )
        return reverse_steps(hs, self.go_backwards), [hs[:, -1].copy()]

    def run_back(self, dh: np.ndarray, d_states: Sequence[np.ndarray | None]) -> tuple[Any, States, States]:
        dhs = self.dh_in_order(dh, d_states[0], len(self._caches))
        W, U, _ = self.kernels()
        dx, dW, dU, db, dh0 = simple_rnn.rnn_backward(
            dhs, self._caches, W, U, self.activation.prime, self.mask, self.recurrent_dropout
        )
        return reverse_steps(dx, self.go_backwards), [dW, dU, db], [dh0]
