"""The LSTM with a projection: a wide cell and a narrow hidden state, which keeps U small.

    (1) to (5)  of `gates.py`, with h_prev (B, P) and U (P, 4H)
    (R1)  m = o φ(c)       (B, H)
    (R2)  h = m R          (B, P)

A line keeps its number from `gates.py` if unchanged; the others are those of docs/variants.md. Source: Sak, Senior &
Beaufays (2014), without their non-recurrent projection and peepholes: PyTorch's `nn.LSTM(proj_size=P)`.
"""

from typing import Any, NamedTuple, Unpack

from scratchlstm import gates as equations
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.cells.base import CellOptions, Specs
from scratchlstm.cells.lstm import LSTMCell


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    i: Array
    f: Array
    g: Array
    o: Array
    m: Array  #                   (B, H)  for dR
    lstm: equations.StepCache  #  with h_in, (B, P), as its h_prev


class ProjectedLSTMCell(LSTMCell):
    """An LSTM cell whose h is a linear function, R, of the output gate's result.

    Args:
        units: H, the size of c and of each gate.
        projection: P, the size of h.
        activation, ..., unit_forget_bias, options: see `LSTMCell`.

    Parameters: `kernel` (E, 4H), `recurrent_kernel` (P, 4H), `bias` (4H,), `projection_kernel` R (H, P).
    """

    def __init__(
        self,
        units: int,
        projection: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        **options: Unpack[CellOptions],
    ) -> None:
        self.projection = checks.positive_int("projection", projection)
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *initial, unit_forget_bias, **options)

    @property
    def state_sizes(self) -> dict[str, int]:
        return {"h": self.projection, "c": self.units}

    def param_specs(self, features: int) -> Specs:
        R = ((self.units, self.projection), self.kernel_initializer)
        return super().param_specs(features) | {"projection_kernel": R}

    def forward(  # type: ignore[override]
        self, x: Array, h_in: Array, c_prev: Array, W: Array, U: Array, b: Array, R: Array
    ) -> tuple[Any, ...]:
        m, c, lstm = super().forward(x, h_in, c_prev, W, U, b)  # (B, H) each  (1) to (5), (R1)
        h = m @ R  #                                              (B, P)       (R2)
        return h, c, StepCache(lstm.i, lstm.f, lstm.g, lstm.o, m, lstm)

    def backward(  # type: ignore[override]
        self, dh: Array, dc_next: Array, cache: StepCache, W: Array, U: Array, b: Array, R: Array
    ) -> dict[str, Array]:
        dm = dh @ R.T  #                                          (B, H)       (R3)
        dR = cache.m.T @ dh  #                                    (H, P)       (R4)
        lstm = super().backward(dm, dc_next, cache.lstm, W, U, b)  #           (7) to (21), with dm for dh
        return {**lstm, "dR": dR}
