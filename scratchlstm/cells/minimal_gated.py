"""The minimal gated unit: a GRU with a single gate.

    (M1)  f = σ(x W_f + h_prev U_f + b_f)          forget gate: how much of h is new, and how much of the old h n sees
    (M2)  n = φ(x W_n + (f h_prev) U_n + b_n)      candidate
    (M3)  h = (1 - f) h_prev + f n

Despite its name, a forget gate near 1 does not keep h but replaces it. The numbers of the lines are those of
docs/variants.md. Source: Zhou, Wu, Zhang & Zhou (2016).
"""

from typing import NamedTuple

from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import GatedCell, back_to_input, each_copy, sum_each_copy


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #       (B, E)  for dW
    h_in: Array  #    (B, H)  for dU_f, and for df
    h_prev: Array  #  (B, H)  for df
    f: Array  #       (B, H)
    n: Array  #       (B, H)
    into_n: Array  #  (B, H)  f h_in, for dU_n


class MGUCell(GatedCell):
    """A minimal gated unit.

    Args: those of `GatedCell`.

    Parameters, columns in two blocks f n: `kernel` (E, 2H), `recurrent_kernel` (H, 2H), `bias` (2H,).
    """

    gates = ("f", "n")

    def forward(self, x: Array, h_in: Array, h_prev: Array, W: Array, U: Array, b: Array) -> tuple[Array, StepCache]:
        (z_f, z_n), (U_f, U_n) = self.split(x @ W + b), self.split(U)
        sigma, phi = self.recurrent_activation, self.activation
        f = sigma(z_f + h_in @ U_f)  #                             (B, H)  (M1)
        into_n = each_copy(f, h_in) * h_in  #                      (B, H)
        n = phi(z_n + into_n @ U_n)  #                             (B, H)  (M2)
        h = (1 - f) * h_prev + f * n  #                            (B, H)  (M3)
        return h, StepCache(x, h_in, h_prev, f, n, into_n)

    def backward(self, dh: Array, cache: StepCache, W: Array, U: Array, b: Array) -> dict[str, Array]:
        x, h_in, h_prev, f, n, into_n = cache
        xp, (U_f, U_n), H = namespace(dh), self.split(U), self.units
        sigma_prime, phi_prime = self.recurrent_activation.prime, self.activation.prime
        dn = dh * f  #                                             (B, H)  (M4)
        dz_n = dn * phi_prime(n)  #                                (B, H)  (M5)
        dinto_n = dz_n @ U_n.T  #                                  (B, H)  (M6)
        # f is used three times: in both products of (M3), and in (M2)
        df = dh * (n - h_prev) + sum_each_copy(dinto_n * h_in, H)  # (B, H)  (M7)
        dz_f = df * sigma_prime(f)  #                              (B, H)  (M8)
        # and h_prev three times: in (M3), directly, and in both products with U
        dh_prev = dh * (1 - f)  #                                  (B, H)  (M9)
        dh_in = dz_f @ U_f.T + each_copy(f, h_in) * dinto_n  #     (B, H) (M10)
        dU_f = h_in.T @ dz_f  #                                    (H, H) (M11)
        dU_n = into_n.T @ dz_n  #                                  (H, H) (M12)
        dz, dU = xp.concat([dz_f, dz_n], axis=1), xp.concat([dU_f, dU_n], axis=1)  # (B, 2H), (H, 2H)
        return back_to_input(dz, x, W) | {"dh_in": dh_in, "dh_prev": dh_prev, "dU": dU}
