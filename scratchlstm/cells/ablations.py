"""Five LSTMs with one component removed, to see what it is for.

The step is that of `gates.py`, (1) to (21). A removed gate is 1 everywhere and has no parameters; a removed activation
returns its input. Source: Greff et al., "LSTM: A Search Space Odyssey" (2015).
"""

from typing import Any, ClassVar

from scratchlstm.activations import LINEAR, Activation
from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import back_to_inputs
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.gates import StepCache


class AblatedLSTMCell(LSTMCell):
    """The step of all five cells; subclasses say what is removed.

    Args: those of `LSTMCell`.

    Parameters, one block of columns for each of the n remaining gates: `kernel` (E, nH), `recurrent_kernel` (H, nH),
    `bias` (nH,).
    """

    input_activation: ClassVar[Activation | None] = None  # activation of g, if not `activation`
    output_activation: ClassVar[Activation | None] = None  # activation of c, if not `activation`

    def forward(self, x: Array, h_in: Array, c_prev: Array, W: Array, U: Array, b: Array) -> tuple[Any, ...]:
        z = dict(zip(self.blocks, self.split(x @ W + h_in @ U + b), strict=True))  # (B, H) each
        sigma, one = self.recurrent_activation, namespace(x).ones_like(c_prev)
        i = sigma(z["i"]) if "i" in z else one  #                 (B, H)   (1)
        f = sigma(z["f"]) if "f" in z else one  #                 (B, H)   (2)
        g = (self.input_activation or self.activation)(z["g"])  # (B, H)   (3)
        o = sigma(z["o"]) if "o" in z else one  #                 (B, H)   (4)
        c = f * c_prev + i * g  #                                 (B, H)   (5)
        phi_c = (self.output_activation or self.activation)(c)  # (B, H)
        h = o * phi_c  #                                          (B, H)   (6)
        return h, c, StepCache(x, h_in, c_prev, i, f, g, o, phi_c)

    def backward(self, dh: Array, dc_next: Array, cache: StepCache, W: Array, U: Array, b: Array) -> dict[str, Array]:
        x, h_in, c_prev, i, f, g, o, phi_c = cache
        sigma_prime = self.recurrent_activation.prime
        g_prime = (self.input_activation or self.activation).prime
        phi_prime = (self.output_activation or self.activation).prime
        do = dh * phi_c  #                                        (B, H)   (7)
        dc = dc_next + dh * o * phi_prime(phi_c)  #               (B, H)   (8)
        di = dc * g  #                                            (B, H)   (9)
        df = dc * c_prev  #                                       (B, H)  (10)
        dg = dc * i  #                                            (B, H)  (11)
        dc_prev = dc * f  #                                       (B, H)  (12)
        dz_i = di * sigma_prime(i)  #                             (B, H)  (13)
        dz_f = df * sigma_prime(f)  #                             (B, H)  (14)
        dz_g = dg * g_prime(g)  #                                 (B, H)  (15)
        dz_o = do * sigma_prime(o)  #                             (B, H)  (16)
        every = {"i": dz_i, "f": dz_f, "g": dz_g, "o": dz_o}
        dz = namespace(dh).concat([every[block] for block in self.blocks], axis=1)  # (B, nH)
        return {"dc_prev": dc_prev, "dc": dc} | back_to_inputs(dz, x, h_in, W, U)


class NoInputGateLSTMCell(AblatedLSTMCell):
    """No input gate: candidates are always written in full, i = 1."""

    gates = ("f", "g", "o")  # (A1)


class NoForgetGateLSTMCell(AblatedLSTMCell):
    """No forget gate: nothing is forgotten, f = 1, as in the LSTM of 1997; `unit_forget_bias` has no effect."""

    gates = ("i", "g", "o")  # (A2)


class NoOutputGateLSTMCell(AblatedLSTMCell):
    """No output gate: the cell is always fully visible, o = 1."""

    gates = ("i", "f", "g")  # (A3)


class NoInputActivationLSTMCell(AblatedLSTMCell):
    """No input activation: the candidate is not squashed, g = z_g."""

    input_activation = LINEAR  # (A4)


class NoOutputActivationLSTMCell(AblatedLSTMCell):
    """No output activation: the cell is output unsquashed, h = o c."""

    output_activation = LINEAR  # (A5)
