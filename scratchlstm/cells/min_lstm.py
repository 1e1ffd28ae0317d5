"""minLSTM: gates and candidate see only x, and the two gates are scaled to add up to 1.

    (1)   i = σ(x W_i + b_i)              input gate
    (2)   f = σ(x W_f + b_f)              forget gate
    (3)   g = φ(x W_g + b_g)              candidate
    (L7)  w = i / (f + i)                 how much of h is new
    (L8)  h = (1 - w) h_prev + w g

A line keeps its number from `gates.py` if it only lacks h_prev U; the others are those of docs/variants.md. Source:
Feng et al. (2024), "Were RNNs all we needed?", in the plain form, in which φ is the identity, not the log-space form.
They call w `i'`, 1 - w `f'` and g `h~`.
"""

from typing import Any, NamedTuple

from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import back_to_input
from scratchlstm.cells.min_gru import MinGRUCell


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #       (B, E)  for dW
    h_prev: Array  #  (B, H)  for dw
    i: Array  #       (B, H)
    f: Array  #       (B, H)
    g: Array  #       (B, H)
    w: Array  #       (B, H)


class MinLSTMCell(MinGRUCell):
    """A minimal LSTM, whose c is its h.

    Args: those of `MinGRUCell`; recurrent_activation must be positive everywhere, like σ, because f + i is a divisor.

    Parameters, columns in three blocks i f g: `kernel` (E, 3H), `bias` (3H,).
    """

    gates = ("i", "f", "g")

    def __init__(
        self, units: int, activation: Any = "linear", recurrent_activation: Any = "sigmoid", **options: Any
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **options)
        if (name := self.recurrent_activation.name) in ("hard_sigmoid", "linear", "relu", "tanh"):
            raise ValueError(f"recurrent_activation of MinLSTMCell must not be {name}: the divisor f + i would be 0")

    def forward(self, x: Array, h_prev: Array, W: Array, b: Array) -> tuple[Array, StepCache]:
        z_i, z_f, z_g = self.split(x @ W + b)  #                 (B, H) each
        i = self.recurrent_activation(z_i)  #                    (B, H)   (1)
        f = self.recurrent_activation(z_f)  #                    (B, H)   (2)
        g = self.activation(z_g)  #                              (B, H)   (3)
        w = i / (f + i)  #                                       (B, H)  (L7)
        h = (1 - w) * h_prev + w * g  #                          (B, H)  (L8)
        return h, StepCache(x, h_prev, i, f, g, w)

    def backward(self, dh: Array, cache: StepCache, W: Array, b: Array) -> dict[str, Array]:
        x, h_prev, i, f, g, w = cache
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        dw = dh * (g - h_prev)  #                                (B, H)  (L9)
        dg = dh * w  #                                           (B, H) (L10)
        dh_prev = dh * (1 - w)  #                                (B, H) (L11)
        di = dw * (1 - w) / (f + i)  #                           (B, H) (L12)
        df = -dw * w / (f + i)  #                                (B, H) (L13)
        dz_i = di * sigma_prime(i)  #                            (B, H)  (13)
        dz_f = df * sigma_prime(f)  #                            (B, H)  (14)
        dz_g = dg * phi_prime(g)  #                              (B, H)  (15)
        dz = namespace(dh).concat([dz_i, dz_f, dz_g], axis=1)  # (B, 3H)
        return back_to_input(dz, x, W) | {"dh_prev": dh_prev}
