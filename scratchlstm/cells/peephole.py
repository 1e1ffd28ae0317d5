"""The LSTM with peepholes, through which the gates also see the cell: i and f the old one, o the new one, unit by unit.

    z = x W + h_prev U + b         four blocks of H columns each, in the order i f g o

    (P1)  i = σ(z_i + p_i c_prev)
    (P2)  f = σ(z_f + p_f c_prev)
    (3)   g = φ(z_g)
    (5)   c = f c_prev + i g
    (P3)  o = σ(z_o + p_o c)
    (6)   h = o φ(c)

Without peepholes, gates see only as much of the cell as the output gate lets through, so a closed one hides it from all
of them. A line keeps its number from `gates.py` if unchanged; (P1) to (P8) are derived in docs/variants.md. Source:
Gers & Schmidhuber (2000).
"""

from typing import Any

from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import Specs, back_to_inputs
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.gates import StepCache


class PeepholeLSTMCell(LSTMCell):
    """An LSTM cell with peepholes.

    Args: those of `LSTMCell`.

    Parameters: those of `LSTMCell`, then `peephole` (3, H), with rows p_i p_f p_o. They start at 0, so a new cell is
        a plain LSTM.
    """

    def param_specs(self, features: int) -> Specs:
        return super().param_specs(features) | {"peephole": ((3, self.units), "zeros")}

    def forward(  # type: ignore[override]
        self, x: Array, h_in: Array, c_prev: Array, W: Array, U: Array, b: Array, p: Array
    ) -> tuple[Any, ...]:
        sigma, phi, (p_i, p_f, p_o) = self.recurrent_activation, self.activation, p
        z_i, z_f, z_g, z_o = self.split(x @ W + h_in @ U + b)  # (B, H) each
        i = sigma(z_i + p_i * c_prev)  #                          (B, H)  (P1)
        f = sigma(z_f + p_f * c_prev)  #                          (B, H)  (P2)
        g = phi(z_g)  #                                           (B, H)   (3)
        c = f * c_prev + i * g  #                                 (B, H)   (5)
        o = sigma(z_o + p_o * c)  #                               (B, H)  (P3)
        tanh_c = phi(c)  #                                        (B, H)
        h = o * tanh_c  #                                         (B, H)   (6)
        return h, c, StepCache(x, h_in, c_prev, i, f, g, o, tanh_c)

    def backward(  # type: ignore[override]
        self, dh: Array, dc_next: Array, cache: StepCache, W: Array, U: Array, b: Array, p: Array
    ) -> dict[str, Array]:
        x, h_in, c_prev, i, f, g, o, tanh_c = cache
        sigma_prime, phi_prime, (p_i, p_f, p_o) = self.recurrent_activation.prime, self.activation.prime, p
        xp, c = namespace(dh), f * c_prev + i * g
        do = dh * tanh_c  #                                       (B, H)   (7)
        dz_o = do * sigma_prime(o)  #                             (B, H)  (16)
        # the third path to c, through o
        dc = dc_next + dh * o * phi_prime(tanh_c) + dz_o * p_o  # (B, H)  (P4)
        di = dc * g  #                                            (B, H)   (9)
        df = dc * c_prev  #                                       (B, H)  (10)
        dg = dc * i  #                                            (B, H)  (11)
        dz_i = di * sigma_prime(i)  #                             (B, H)  (13)
        dz_f = df * sigma_prime(f)  #                             (B, H)  (14)
        dz_g = dg * phi_prime(g)  #                               (B, H)  (15)
        dc_prev = dc * f + dz_i * p_i + dz_f * p_f  #             (B, H)  (P5)
        dp_i = xp.sum(dz_i * c_prev, axis=0)  #                   (H,)    (P6)
        dp_f = xp.sum(dz_f * c_prev, axis=0)  #                   (H,)    (P7)
        dp_o = xp.sum(dz_o * c, axis=0)  #                        (H,)    (P8)
        dz = xp.concat([dz_i, dz_f, dz_g, dz_o], axis=1)  #       (B, 4H)
        inner = {"dc_prev": dc_prev, "dp": xp.stack([dp_i, dp_f, dp_o]), "dc": dc}
        return inner | back_to_inputs(dz, x, h_in, W, U)
