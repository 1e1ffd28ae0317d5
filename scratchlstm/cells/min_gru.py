"""minGRU: gate and candidate see only x, and h is a weighted mean of its old value and the candidate.

    (L1)  i = σ(x W_i + b_i)              input gate: how much of h is new
    (L2)  g = φ(x W_g + b_g)              candidate
    (L3)  h = (1 - i) h_prev + i g

A line keeps its number from `gates.py` if unchanged; the others are those of docs/variants.md. Source: Feng et al.
(2024), "Were RNNs all we needed?", in the plain form, in which φ is the identity, not the log-space form. They call i
`z` and g `h~`; a GRU's u is 1 - i.
"""

from typing import Any, ClassVar, NamedTuple, Unpack

from scratchlstm.backend import Array, namespace
from scratchlstm.cells.base import CellOptions, GatedCell, Specs, back_to_input


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #       (B, E)  for dW
    h_prev: Array  #  (B, H)  for di
    i: Array  #       (B, H)
    g: Array  #       (B, H)


class MinGRUCell(GatedCell):
    """A minimal GRU.

    Args:
        units, recurrent_activation, use_bias, kernel_initializer, bias_initializer: see `Cell`.
        activation: activation of g; the authors use none.
        options: see `Cell`, except those for a recurrent kernel.

    Parameters, columns in two blocks i g: `kernel` (E, 2H), `bias` (2H,).
    """

    gates: ClassVar[tuple[str, ...]] = ("i", "g")

    def __init__(
        self,
        units: int,
        activation: Any = "linear",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **options: Unpack[CellOptions],
    ) -> None:
        if "recurrent_initializer" in options:
            raise ValueError(f"{type(self).__name__} does not take recurrent_initializer: it has no recurrent_kernel")
        initial = kernel_initializer, "zeros", bias_initializer
        super().__init__(units, activation, recurrent_activation, use_bias, *initial, **options)

    def param_specs(self, features: int) -> Specs:
        return {name: of for name, of in super().param_specs(features).items() if name != "recurrent_kernel"}

    def forward(self, x: Array, h_prev: Array, W: Array, b: Array) -> tuple[Array, Any]:
        z_i, z_g = self.split(x @ W + b)  #                (B, H) each
        i = self.recurrent_activation(z_i)  #              (B, H)  (L1)
        g = self.activation(z_g)  #                        (B, H)  (L2)
        h = (1 - i) * h_prev + i * g  #                    (B, H)  (L3)
        return h, StepCache(x, h_prev, i, g)

    def backward(self, dh: Array, cache: Any, W: Array, b: Array) -> dict[str, Array]:
        x, h_prev, i, g = cache
        di = dh * (g - h_prev)  #                          (B, H)  (L4)
        dg = dh * i  #                                     (B, H)  (L5)
        dh_prev = dh * (1 - i)  #                          (B, H)  (L6)
        dz_i = di * self.recurrent_activation.prime(i)  #  (B, H)  (13)
        dz_g = dg * self.activation.prime(g)  #            (B, H)  (15)
        dz = namespace(dh).concat([dz_i, dz_g], axis=1)  # (B, 2H)
        return back_to_input(dz, x, W) | {"dh_prev": dh_prev}
