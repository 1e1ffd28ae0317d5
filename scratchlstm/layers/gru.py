"""The gated recurrent unit (GRU) as a layer."""

from functools import partial
from typing import Any, ClassVar, Unpack

from scratchlstm.cells.gru import GRUCell
from scratchlstm.kernels.numpy_gru import NumpyGRU
from scratchlstm.layers.fused import Fused
from scratchlstm.layers.rnn import RecurrentOptions, split_options


class GRU(Fused):
    """The gated recurrent unit over a sequence; its equations are in `scratchlstm.cells.gru`.

    `implementation` chooses what computes the recurrence; the results agree up to rounding:

    - "textbook": the cell of `cells/gru.py`. Choose it to edit the cell and see the effect.
    - "numpy": `kernels.numpy_gru`.
    - "compiled": the plain loops of `kernels.numba_gru`, compiled by Numba (`pip install "scratchlstm[fast]"`). They
      support activation="tanh" and recurrent_activation="sigmoid"; with others the layer runs "numpy".
    - "fused", the default: the fastest one available. On a GPU that is the textbook, with a warning.

    The attribute `runs` says which one is in use.

    Args:
        units: H.
        activation: activation of the candidate n.
        recurrent_activation: activation of the gates u and r.
        use_bias, kernel_initializer, ..., options: see `Cell` and `RNN`.
        reset_after: whether the reset gate is applied after the product of h_prev with its kernel (as in cuDNN) or
            before.
        implementation: "fused", "compiled", "numpy" or "textbook", see above.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in three blocks u r n (Keras' z r h): `kernel` (E, 3H), `recurrent_kernel` (H, 3H), `bias`
    (2, 3H) with `reset_after` (for x, and for h_prev), else (3H,).

    Call: `layer(x, mask=mask, initial_state=[h0])`; see `RNN`.
    """

    cell_class: ClassVar = GRUCell
    on_gpu: ClassVar = "there is no GPU kernel for GRU"
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

    def numpy_kernel(self) -> Any:
        return partial(NumpyGRU, reset_after=self.reset_after)

    def compiled_kernel(self) -> Any:
        from scratchlstm.kernels.numba_gru import NumbaGRU

        return partial(NumbaGRU, reset_after=self.reset_after)
