"""The LSTM whose gates also see all gates of the previous step, through nine more matrices.

    z = x W + h_prev U + b                  four blocks of H columns each, in the order i f g o
    s = [i_prev f_prev o_prev] R            three blocks, in the order i f o

    (F1)  i = σ(z_i + s_i)
    (F2)  f = σ(z_f + s_f)
    (3)   g = φ(z_g)
    (F3)  o = σ(z_o + s_o)
    (5)   c = f c_prev + i g
    (6)   h = o φ(c)

A line keeps its number from `gates.py` if unchanged; (F1) to (F8) are derived in docs/variants.md. Source: FGR, "full
gate recurrence", in Greff et al. (2015); the LSTM of Hochreiter & Schmidhuber (1997) had such connections.
"""

from typing import Any, NamedTuple

from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import Specs, back_to_inputs
from scratchlstm.cells.lstm import LSTMCell


class StepCache(NamedTuple):
    """What the backward step needs from the forward step; see `gates.StepCache`."""

    x: Array
    h_in: Array
    c_prev: Array
    ifo_prev: Array  #  (B, 3H)  for dR
    i: Array
    f: Array
    g: Array
    o: Array
    tanh_c: Array


class FullGateLSTMCell(LSTMCell):
    """An LSTM cell whose gates i f o are states, too. Its arguments are those of `LSTMCell`.

    Parameters: those of `LSTMCell`, then `gate_kernel` R (3H, 3H), rows and columns in three blocks i f o.
    """

    states = ("h", "c", "i", "f", "o")

    def param_specs(self, features: int) -> Specs:
        H = self.units
        return super().param_specs(features) | {"gate_kernel": ((3 * H, 3 * H), self.recurrent_initializer)}

    def forward(  # type: ignore[override]
        self, x: Array, h_in: Array, c_prev: Array, i_prev: Array, f_prev: Array, o_prev: Array,
        W: Array, U: Array, b: Array, R: Array,
    ) -> tuple[Any, ...]:  # fmt: skip
        xp, sigma, phi, H = namespace(x), self.recurrent_activation, self.activation, self.units
        z_i, z_f, z_g, z_o = self.split(x @ W + h_in @ U + b)  # (B, H) each
        ifo_prev = xp.concat([i_prev, f_prev, o_prev], axis=1)  # (B, 3H)
        s = ifo_prev @ R  #                          (B, 3H)
        i = sigma(z_i + s[:, :H])  #                 (B, H)  (F1)
        f = sigma(z_f + s[:, H : 2 * H])  #          (B, H)  (F2)
        g = phi(z_g)  #                              (B, H)   (3)
        o = sigma(z_o + s[:, 2 * H :])  #            (B, H)  (F3)
        c = f * c_prev + i * g  #                    (B, H)   (5)
        tanh_c = phi(c)  #                           (B, H)
        h = o * tanh_c  #                            (B, H)   (6)
        return h, c, i, f, o, StepCache(x, h_in, c_prev, ifo_prev, i, f, g, o, tanh_c)

    def backward(  # type: ignore[override]
        self, dh: Array, dc_next: Array, di_next: Array, df_next: Array, do_next: Array, cache: StepCache,
        W: Array, U: Array, b: Array, R: Array,
    ) -> dict[str, Array]:  # fmt: skip
        x, h_in, c_prev, ifo_prev, i, f, g, o, tanh_c = cache
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        xp, H = namespace(dh), self.units
        do = do_next + dh * tanh_c  #                (B, H)  (F4)
        dc = dc_next + dh * o * phi_prime(tanh_c)  # (B, H)   (8)
        di = di_next + dc * g  #                     (B, H)  (F5)
        df = df_next + dc * c_prev  #                (B, H)  (F6)
        dg = dc * i  #                               (B, H)  (11)
        dc_prev = dc * f  #                          (B, H)  (12)
        dz_i = di * sigma_prime(i)  #                (B, H)  (13)
        dz_f = df * sigma_prime(f)  #                (B, H)  (14)
        dz_g = dg * phi_prime(g)  #                  (B, H)  (15)
        dz_o = do * sigma_prime(o)  #                (B, H)  (16)
        ds = xp.concat([dz_i, dz_f, dz_o], axis=1)  # (B, 3H)
        difo_prev = ds @ R.T  #                      (B, 3H) (F7)
        dR = ifo_prev.T @ ds  #                      (3H, 3H) (F8)
        before = {f"d{k}_prev": difo_prev[:, n * H : (n + 1) * H] for n, k in enumerate("ifo")}
        dz = xp.concat([dz_i, dz_f, dz_g, dz_o], axis=1)  # (B, 4H)
        whole = {"dc": dc, "di": di, "df": df, "do": do}
        return before | whole | {"dc_prev": dc_prev, "dR": dR} | back_to_inputs(dz, x, h_in, W, U)
