"""The gated recurrent unit: two gates, one state, and nothing kept apart from what is shown.

    u = σ(x W_u + h_prev U_u + b_u)               update gate: how much of the old state is kept
    r = σ(x W_r + h_prev U_r + b_r)               reset gate:  how much of it the candidate sees
    n = φ(x W_n + b_n + r (h_prev U_n + b'_n))    candidate, with `reset_after`
    n = φ(x W_n + (r h_prev) U_n + b_n)           candidate, without
    h = u h_prev + (1 - u) n

Source: Cho et al. (2014); with `reset_after` the variant of cuDNN and Keras' default. Keras calls u `z` and n `hh`.
"""

from typing import Any, NamedTuple, Unpack

from scratchlstm._support import checks
from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import CellOptions, GatedCell, Specs, each_copy, sum_each_copy


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #       (B, E)  for dW
    h_in: Array  #    (B, H)  for dU
    h_prev: Array  #  (B, H)  for du
    u: Array  #       (B, H)
    r: Array  #       (B, H)
    n: Array  #       (B, H)
    into_n: Array  #  (B, H)  with `reset_after`: h_prev U_n + b'_n, for dr; else r h_in, for dU_n


class GRUCell(GatedCell):
    """See `layers.GRU`, which runs it faster, for the arguments.

    Args:
        units, activation, recurrent_activation, use_bias, ..., options: see `Cell`.
        reset_after: whether r multiplies h_prev U_n, after the product, or h_prev, before it.

    Parameters, columns in three blocks u r n: `kernel` (E, 3H), `recurrent_kernel` (H, 3H), and `bias`, (2, 3H) with
    `reset_after` (b in its first row, b' in its second), else (3H,).
    """

    gates = ("u", "r", "n")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        *,
        reset_after: bool = True,
        **options: Unpack[CellOptions],
    ) -> None:
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *initial, **options)
        self.reset_after = checks.flag("reset_after", reset_after)

    def param_specs(self, features: int) -> Specs:
        shape = (2, 3 * self.units) if self.reset_after else (3 * self.units,)
        return super().param_specs(features) | {"bias": (shape, self.bias_initializer)}

    def forward(self, x: Array, h_in: Array, h_prev: Array, W: Array, U: Array, b: Array) -> tuple[Array, StepCache]:
        sigma, phi, H = self.recurrent_activation, self.activation, self.units
        b_x, b_h = b if self.reset_after else (b, 0)  #            (3H,)
        z_u, z_r, z_n = self.split(x @ W + b_x)  #                 (B, H) each
        h_u, h_r, h_n = self.split(h_in @ U + b_h)  #              (B, H) each
        u, r = sigma(z_u + h_u), sigma(z_r + h_r)  #               (B, H) each
        if self.reset_after:
            into_n, through_r = h_n, r * h_n  #                    (B, H) each
        else:
            into_n = each_copy(r, h_in) * h_in  #                  (B, H)
            through_r = into_n @ U[:, 2 * H :]  #                  (B, H)
        n = phi(z_n + through_r)  #                                (B, H)
        h = u * h_prev + (1 - u) * n  #                            (B, H)
        return h, StepCache(x, h_in, h_prev, u, r, n, into_n)

    def backward(self, dh: Array, cache: StepCache, W: Array, U: Array, b: Array) -> dict[str, Array]:
        x, h_in, h_prev, u, r, n, into_n = cache
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        xp, H, U_n = namespace(dh), self.units, U[:, 2 * self.units :]
        dz_u = dh * (h_prev - n) * sigma_prime(u)  #               (B, H)
        dz_n = dh * (1 - u) * phi_prime(n)  #                      (B, H)
        if self.reset_after:
            dr, dz_h_n = dz_n * into_n, dz_n * r  #                (B, H) each
        else:
            d_into = dz_n @ U_n.T  #                               (B, H)
            dr, dz_h_n = sum_each_copy(d_into * h_in, H), 0 * dz_n  # (B, H) each
        dz_r = dr * sigma_prime(r)  #                              (B, H)
        dz = xp.concat([dz_u, dz_r, dz_n], axis=1)  #              (B, 3H)  what reaches x W + b
        dz_h = xp.concat([dz_u, dz_r, dz_h_n], axis=1)  #          (B, 3H)  what reaches h_in U + b'
        dh_in, dU, db = dz_h @ U.T, h_in.T @ dz_h, xp.sum(dz, axis=0)
        if self.reset_after:
            db = xp.stack([db, xp.sum(dz_h, axis=0)])  #           (2, 3H)
        else:
            dh_in = dh_in + d_into * each_copy(r, h_in)  #         (B, H)
            dU[:, 2 * H :] = into_n.T @ dz_n  #                    (H, 3H)
        return {"dx": dz @ W.T, "dh_in": dh_in, "dh_prev": dh * u, "dW": x.T @ dz, "dU": dU, "db": db, "dz": dz}
