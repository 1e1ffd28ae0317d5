"""The plain recurrent cell, the LSTM's older sister: one equation forward, and its derivatives backward.

    z = x W + h_prev U + b
    h = φ(z)

Its gradient contains powers of U, so over many steps it vanishes or explodes (Hochreiter, 1991; Bengio, Simard &
Frasconi, 1994), which is what the LSTM's cell was designed to avoid. Names and sizes as in `gates`. Source: Elman
(1990).
"""

from typing import NamedTuple

from scratchlstm.backend import Array
from scratchlstm.cells.base import Cell, back_to_inputs


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #     (B, E)  for dW
    h_in: Array  #  (B, H)  for dU
    h: Array  #     (B, H)  for φ'


class SimpleRNNCell(Cell):
    """A simple recurrent cell; see `layers.SimpleRNN` for the arguments.

    Parameters: `kernel` (E, H), `recurrent_kernel` (H, H), `bias` (H,).
    """

    blocks = ("h",)

    def forward(self, x: Array, h_in: Array, W: Array, U: Array, b: Array) -> tuple[Array, StepCache]:
        h = self.activation(x @ W + h_in @ U + b)  # (B, H)
        return h, StepCache(x, h_in, h)

    def backward(self, dh: Array, cache: StepCache, W: Array, U: Array, b: Array) -> dict[str, Array]:
        x, h_in, h = cache
        return back_to_inputs(dh * self.activation.prime(h), x, h_in, W, U)
