"""The gated recurrent unit as a layer."""

from typing import Any, ClassVar, Unpack

from scratchlstm.cells.gru import GRUCell
from scratchlstm.kernels.numpy_gru import NumpyGRU
from scratchlstm.layers.fused import Fused
from scratchlstm.layers.rnn import Part, RecurrentOptions, split_options


class GRU(Fused):
    """Gated recurrent unit over a sequence; the equations are in `scratchlstm.cells.gru`.

    Args:
        units: H.
        activation: of the candidate n.
        recurrent_activation: of the gates u and r.
        use_bias, kernel_initializer, ..., options: see `Cell` and `RNN`.
        reset_after: whether the reset gate acts after the product of h_prev with its kernel (as cuDNN has it), or
            before.
        implementation: "fused" (`kernels.numpy_gru`, about twice as fast) or "textbook" (the cell, to study).

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in three blocks u r n (Keras' z r h): `kernel` (E, 3H), `recurrent_kernel` (H, 3H), `bias`
    (2, 3H) with `reset_after` (for x, and for h_prev), else (3H,).

    Call: `layer(x, mask=mask, initial_state=[h0])`; see `RNN`.
    """

    cell_class: ClassVar = GRUCell
    on_gpu: ClassVar = "there is no kernel for a GRU there"
    reset_after: bool

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
        implementation: str = "fused",
        **options: Unpack[RecurrentOptions],
    ) -> None:
        own, of_cell = split_options(options)
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        gates = units, activation, recurrent_activation
        cell = GRUCell(*gates, use_bias, *initial, reset_after=reset_after, **of_cell)
        super().__init__(cell, implementation, **own)

    @property
    def runs(self) -> str:
        return "numpy" if super().runs == "compiled" else super().runs

    def kernel(self, part: Part) -> Any:
        if self.backend != "numpy":
            return None
        W, U, b = part.params
        options = self.activation, self.recurrent_activation, self.go_backwards, part.by_block, part.recurrent_dropout
        return NumpyGRU(W, U, b, *options, self.reset_after)
