"""The LSTM cell for `RNN`; its equations, (1) to (21), are in `gates.py`."""

from typing import Any, ClassVar, Unpack

from scratchlstm import gates as equations
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.cells.base import CellOptions, GatedCell, Specs


class LSTMCell(GatedCell):
    """An LSTM cell; `layers.LSTM` runs it faster and describes its arguments.

    Args:
        units, activation, recurrent_activation, use_bias, ..., options: see `Cell`.
        unit_forget_bias: initialize the forget gate's bias to 1, so that a new cell remembers (Jozefowicz et al.,
            2015).

    Parameters, columns in four blocks i f g o: `kernel` (E, 4H), `recurrent_kernel` (H, 4H), `bias` (4H,).
    """

    gates: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    starts = {"f": 1.0}

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        **options: Unpack[CellOptions],
    ) -> None:
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *initial, **options)
        self.unit_forget_bias = checks.flag("unit_forget_bias", unit_forget_bias)

    def param_specs(self, features: int) -> Specs:
        specs = super().param_specs(features)
        return specs if self.unit_forget_bias else specs | {"bias": (specs["bias"][0], self.bias_initializer)}

    def forward(self, x: Array, h_in: Array, c_prev: Array, W: Array, U: Array, b: Array) -> tuple[Any, ...]:
        return equations.lstm_step_forward(x, h_in, c_prev, W, U, b, self.recurrent_activation, self.activation)

    def backward(self, dh: Array, dc_next: Array, cache: equations.StepCache, W: Array, U: Array, b: Array) -> Any:
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        step = equations.lstm_step_backward(dh, dc_next, cache, W, U, sigma_prime, phi_prime)
        dx, dh_in, dc_prev, dW, dU, db, dc, dz = step
        return {"dx": dx, "dh_in": dh_in, "dc_prev": dc_prev, "dW": dW, "dU": dU, "db": db, "dc": dc, "dz": dz}
