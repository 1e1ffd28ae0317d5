"""The LSTM with coupled input and forget gates: it forgets as much as it writes, so c is a running mean of g.

    z = x W + h_prev U + b     three blocks of H columns each, in the order i g o

    (1)   i = σ(z_i)
    (C1)  f = 1 - i
    (3)   g = φ(z_g)
    (4)   o = σ(z_o)
    (5)   c = f c_prev + i g
    (6)   h = o φ(c)

A line keeps its number from `gates.py` if unchanged; (C1), (C2) are derived in docs/variants.md. Source: CIFG, "coupled
input and forget gate", in Greff et al. (2015); the update gate of a GRU does the same.
"""

from typing import Any

from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import back_to_inputs
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.gates import StepCache


class CoupledLSTMCell(LSTMCell):
    """An LSTM cell with f = 1 - i.

    Args: those of `LSTMCell`; `unit_forget_bias` initializes the bias of i to -1, so that f = 1 - σ(-1) = σ(1), as in
        a new LSTM.

    Parameters, columns in three blocks i g o: `kernel` (E, 3H), `recurrent_kernel` (H, 3H), `bias` (3H,).
    """

    blocks = ("i", "g", "o")
    starts = {"i": -1.0}

    def forward(self, x: Array, h_in: Array, c_prev: Array, W: Array, U: Array, b: Array) -> tuple[Any, ...]:
        sigma, phi = self.recurrent_activation, self.activation
        z_i, z_g, z_o = self.split(x @ W + h_in @ U + b)  # (B, H) each
        i = sigma(z_i)  #                            (B, H)   (1)
        f = 1 - i  #                                 (B, H)  (C1)
        g = phi(z_g)  #                              (B, H)   (3)
        o = sigma(z_o)  #                            (B, H)   (4)
        c = f * c_prev + i * g  #                    (B, H)   (5)
        tanh_c = phi(c)  #                           (B, H)
        h = o * tanh_c  #                            (B, H)   (6)
        return h, c, StepCache(x, h_in, c_prev, i, f, g, o, tanh_c)

    def backward(self, dh: Array, dc_next: Array, cache: StepCache, W: Array, U: Array, b: Array) -> dict[str, Array]:
        x, h_in, c_prev, i, f, g, o, tanh_c = cache
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        do = dh * tanh_c  #                          (B, H)   (7)
        dc = dc_next + dh * o * phi_prime(tanh_c)  # (B, H)   (8)
        # i reaches c in two ways: more is written, and less is kept
        di = dc * (g - c_prev)  #                    (B, H)  (C2)
        dg = dc * i  #                               (B, H)  (11)
        dc_prev = dc * f  #                          (B, H)  (12)
        dz_i = di * sigma_prime(i)  #                (B, H)  (13)
        dz_g = dg * phi_prime(g)  #                  (B, H)  (15)
        dz_o = do * sigma_prime(o)  #                (B, H)  (16)
        dz = namespace(dh).concat([dz_i, dz_g, dz_o], axis=1)  # (B, 3H)
        return {"dc_prev": dc_prev, "dc": dc} | back_to_inputs(dz, x, h_in, W, U)
