"""The gated recurrent unit: two gates, and a single state that is both memory and output.

    z = x W + b, k = h_prev U + b'    three blocks of H columns each, in the order u r n

    (G1)  u = σ(z_u + k_u)            update gate: how much of the old state is kept
    (G2)  r = σ(z_r + k_r)            reset gate:  how much of it the candidate sees
    (G3)  n = φ(z_n + r k_n)          candidate, with `reset_after`
    (G4)  s = r h_prev                without it: r multiplies h_prev before the product, and there is no b'
    (G5)  n = φ(z_n + s U_n)
    (G6)  h = u h_prev + (1 - u) n    the hidden state

docs/variants.md derives them. Source: Cho et al. (2014); `reset_after` is Keras' default. Keras' z and hh are u and n.
"""

from collections import namedtuple
from typing import Any, Unpack

from scratchlstm._support import checks
from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import CellOptions, GatedCell, Specs, each_copy, sum_each_copy

# what the backward step needs from the forward step: x (B, E), the others (B, H); s is None with `reset_after`
_StepCache = namedtuple("_StepCache", "x h_in h_prev u r n k_n s")


class GRUCell(GatedCell):
    """A GRU cell; `layers.GRU` runs it faster and describes its arguments.

    Args: those of `GatedCell`, and `reset_after`: whether r multiplies h_prev U_n, or else h_prev before the product.

    Parameters, columns in three blocks u r n: `kernel` (E, 3H), `recurrent_kernel` (H, 3H), and `bias`, (2, 3H) with
    `reset_after` (b in its first row, b' in its second), else (3H,).
    """

    gates = ("u", "r", "n")

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", *, reset_after: bool = True, **options: Unpack[CellOptions],
    ) -> None:  # fmt: skip
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *initial, **options)
        self.reset_after = checks.flag("reset_after", reset_after)

    def param_specs(self, features: int) -> Specs:
        shape = (2, 3 * self.units) if self.reset_after else (3 * self.units,)
        return super().param_specs(features) | {"bias": (shape, self.bias_initializer)}

    def forward(self, x: Array, h_in: Array, h_prev: Array, W: Array, U: Array, b: Array) -> tuple[Array, _StepCache]:
        sigma, phi, H = self.recurrent_activation, self.activation, self.units
        b_x, b_h = b if self.reset_after else (b, 0)  #            (3H,)
        z_u, z_r, z_n = self.split(x @ W + b_x)  #                 (B, H) each
        k_u, k_r, k_n = self.split(h_in @ U + b_h)  #              (B, H) each
        u = sigma(z_u + k_u)  #                                    (B, H)   (G1)
        r = sigma(z_r + k_r)  #                                    (B, H)   (G2)
        if self.reset_after:
            s = None
            n = phi(z_n + r * k_n)  #                              (B, H)   (G3)
        else:
            s = each_copy(r, h_in) * h_in  #                       (B, H)   (G4)
            n = phi(z_n + s @ U[:, 2 * H :])  #                    (B, H)   (G5)
        h = u * h_prev + (1 - u) * n  #                            (B, H)   (G6)
        return h, _StepCache(x, h_in, h_prev, u, r, n, k_n, s)

    def backward(self, dh: Array, cache: _StepCache, W: Array, U: Array, b: Array) -> dict[str, Array]:
        x, h_in, h_prev, u, r, n, k_n, s = cache
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        xp, H = namespace(dh), self.units
        du = dh * (h_prev - n)  #                                  (B, H)   (G7)
        dn = dh * (1 - u)  #                                       (B, H)   (G8)
        dh_prev = dh * u  #                                        (B, H)   (G9)
        dz_n = dn * phi_prime(n)  #                                (B, H)  (G10)
        if self.reset_after:
            dr = dz_n * k_n  #                                     (B, H)  (G11)
        else:
            ds = dz_n @ U[:, 2 * H :].T  #                         (B, H)  (G12)
            dr = sum_each_copy(ds * h_in, H)  #                    (B, H)  (G13)
        dz_u = du * sigma_prime(u)  #                              (B, H)  (G14)
        dz_r = dr * sigma_prime(r)  #                              (B, H)  (G15)
        dz = xp.concat([dz_u, dz_r, dz_n], axis=1)  #              (B, 3H)
        if self.reset_after:
            dk_n = dz_n * r  #                                     (B, H)  (G16)
            dk = xp.concat([dz_u, dz_r, dk_n], axis=1)  #          (B, 3H)
            dh_in = dk @ U.T  #                                    (B, H)  (G17)
            dU = h_in.T @ dk  #                                    (H, 3H) (G18)
            db = xp.stack([xp.sum(dz, axis=0), xp.sum(dk, axis=0)])  # (2, 3H) (G19)
        else:
            dk = dz[:, : 2 * H]  # of u and r
            dh_in = dk @ U[:, : 2 * H].T + ds * each_copy(r, h_in)  # (B, H) (G20)
            dU = xp.concat([h_in.T @ dk, s.T @ dz_n], axis=1)  #   (H, 3H) (G21)
            db = xp.sum(dz, axis=0)  #                             (3H,)    (21)
        return {"dx": dz @ W.T, "dh_in": dh_in, "dh_prev": dh_prev, "dW": x.T @ dz, "dU": dU, "db": db, "dz": dz}
