"""The plain recurrent network as a layer, to compare with the LSTM."""

from typing import Any, ClassVar

from scratchlstm.backend import Array
from scratchlstm.cells import simple_rnn
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.recurrent import Kept, Recurrent, StateGradients, States, reverse_steps


class SimpleRNN(Recurrent):
    """h_t = activation(x_t W + h_prev U + b); the equations are in `scratchlstm.cells.simple_rnn`.

    Args:
        units: H.
        activation: φ.
        use_bias, kernel_initializer, ..., options: see `Recurrent`.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters: `kernel` (E, H), `recurrent_kernel` (H, H), `bias` (H,).

    Call: `layer(x, mask=mask, initial_state=[h0])`; see `Recurrent`.
    """

    gate_count: ClassVar = 1
    state_names: ClassVar = ("h",)

    def scan(self, kept: Kept, run: Pass) -> tuple[Array, States, Any]:
        (W, U, b), (h0,) = self.kernels(), kept.states
        x, mask = reverse_steps(kept.x, self.go_backwards), self._in_order(kept.mask)
        hs, caches = simple_rnn.rnn_forward(x, h0, W, U, b, self.activation, mask, kept.recurrent_dropout)
        return reverse_steps(hs, self.go_backwards), [hs[:, -1].copy()], (caches, W.copy(), U.copy())

    def scan_back(self, dh: Array, d_states: StateGradients, kept: Kept, need: bool) -> tuple[Any, States, States]:
        caches, W, U = kept.steps
        dhs, mask = self.dh_in_order(dh, d_states[0], len(caches)), self._in_order(kept.mask)
        dx, dW, dU, db, dh0 = simple_rnn.rnn_backward(
            dhs, caches, W, U, self.activation.prime, mask, kept.recurrent_dropout
        )
        return reverse_steps(dx, self.go_backwards), [dW, dU, db], [dh0]
