"""The LSTM with layer normalization, of the products the gates see and of c before the output gate.

    (N1)  a^ = (a - mean(a)) / sqrt(var(a) + ε)           for each row, see `normalize.py`
    (N2)  z = gain_x (x W)^ + gain_h (h_prev U)^ + b      each over all 4H columns together; then (1) to (5)
    (N3)  m = gain_c c^ + bias_c
    (N4)  h = o φ(m)

A line keeps its number from `gates.py` if unchanged; the others are those of docs/variants.md. Source: Ba, Kiros &
Hinton (2016), who also add a bias to each normalized product; b is their sum.
"""

from typing import Any, NamedTuple, Unpack

from scratchlstm._support import checks
from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import CellOptions, Specs
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.cells.normalize import Normal, normalize, normalize_back


class StepCache(NamedTuple):
    """What the backward step needs from the forward step; see `gates.StepCache`."""

    x: Array
    h_in: Array
    c_prev: Array
    i: Array
    f: Array
    g: Array
    o: Array
    phi_m: Array
    normals: tuple[Normal, Normal, Normal]  # of x W and h_in U, (B, 4H), and of c, (B, H)


class LayerNormLSTMCell(LSTMCell):
    """An LSTM cell with layer normalization.

    Args:
        units, ..., unit_forget_bias, options: see `LSTMCell`; without `use_bias` there is no b, but still bias_c.
        epsilon: ε; the default is that of `layers.LayerNormalization`.

    Parameters: those of `LSTMCell`, then `gain_x` (4H,), `gain_h` (4H,), `gain_c` (H,) and `bias_c` (H,).
    """

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid",
                 use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
                 unit_forget_bias: bool = True, epsilon: float = 1e-3,
                 **options: Unpack[CellOptions]) -> None:  # fmt: skip
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *initial, unit_forget_bias, **options)
        self.epsilon = checks.number("epsilon", epsilon, above=0)

    def param_specs(self, features: int) -> Specs:
        H = self.units
        gains: Specs = {"gain_x": ((4 * H,), "ones"), "gain_h": ((4 * H,), "ones"), "gain_c": ((H,), "ones")}
        return super().param_specs(features) | gains | {"bias_c": ((H,), "zeros")}

    def forward(self, x: Array, h_in: Array, c_prev: Array, W: Array, U: Array, b: Array,  # type: ignore[override]
                gain_x: Array, gain_h: Array, gain_c: Array, bias_c: Array) -> tuple[Any, ...]:  # fmt: skip
        sigma, phi, epsilon = self.recurrent_activation, self.activation, self.epsilon
        of_x, of_h = normalize(x @ W, epsilon), normalize(h_in @ U, epsilon)
        z = gain_x * of_x.value + gain_h * of_h.value + b  #  (B, 4H)  (N2)
        z_i, z_f, z_g, z_o = self.split(z)  #                 (B, H) each
        i, f, g, o = sigma(z_i), sigma(z_f), phi(z_g), sigma(z_o)  #   (1) to (4)
        c = f * c_prev + i * g  #                             (B, H)   (5)
        of_c = normalize(c, epsilon)
        phi_m = phi(gain_c * of_c.value + bias_c)  #          (B, H)   (N3)
        h = o * phi_m  #                                      (B, H)   (N4)
        return h, c, StepCache(x, h_in, c_prev, i, f, g, o, phi_m, (of_x, of_h, of_c))

    def backward(self, dh: Array, dc_next: Array, cache: Any, W: Array, U: Array, b: Array,  # type: ignore[override]
                 gain_x: Array, gain_h: Array, gain_c: Array, bias_c: Array) -> dict[str, Array]:  # fmt: skip
        x, h_in, c_prev, i, f, g, o, phi_m, (of_x, of_h, of_c) = cache
        xp, sigma_prime, phi_prime = namespace(dh), self.recurrent_activation.prime, self.activation.prime
        do = dh * phi_m  #                                    (B, H)   (N6)
        dm = dh * o * phi_prime(phi_m)  #                     (B, H)   (N7)
        dgain_c = xp.sum(dm * of_c.value, axis=0)  #          (H,)     (N8)
        dbias_c = xp.sum(dm, axis=0)  #                       (H,)     (N9)
        dc = dc_next + normalize_back(dm * gain_c, of_c)  #   (B, H)  (N10)
        dz_i, dz_f = dc * g * sigma_prime(i), dc * c_prev * sigma_prime(f)  # (9), (10), (13), (14)
        dz_g, dz_o = dc * i * phi_prime(g), do * sigma_prime(o)  #            (11), (15), (16)
        dz = xp.concat([dz_i, dz_f, dz_g, dz_o], axis=1)  #   (B, 4H)
        dgain_x = xp.sum(dz * of_x.value, axis=0)  #          (4H,)   (N11)
        dgain_h = xp.sum(dz * of_h.value, axis=0)  #          (4H,)   (N12)
        dxW = normalize_back(dz * gain_x, of_x)  #            (B, 4H) (N13)
        dhU = normalize_back(dz * gain_h, of_h)  #            (B, 4H) (N14)
        of_gains = {"dgain_x": dgain_x, "dgain_h": dgain_h, "dgain_c": dgain_c, "dbias_c": dbias_c}
        of_products = {"dx": dxW @ W.T, "dh_in": dhU @ U.T, "dW": x.T @ dxW, "dU": h_in.T @ dhU}
        return of_gains | of_products | {"db": xp.sum(dz, axis=0), "dc_prev": dc * f, "dz": dz, "dc": dc}
