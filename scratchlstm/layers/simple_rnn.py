"""The plain recurrent network as a layer, for comparison with the LSTM."""

from typing import Any, ClassVar, Unpack

from scratchlstm.cells.simple_rnn import SimpleRNNCell
from scratchlstm.layers.rnn import RecurrentOptions, WithOwnCell, split_options


class SimpleRNN(WithOwnCell):
    """h_t = activation(x_t W + h_prev U + b); its equations are in `scratchlstm.cells.simple_rnn`.

    Args:
        units: H.
        activation: φ.
        use_bias, kernel_initializer, ..., options: see `Cell` and `RNN`.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters: `kernel` (E, H), `recurrent_kernel` (H, H), `bias` (H,).

    Call: `layer(x, mask=mask, initial_state=[h0])`; see `RNN`.
    """

    cell_class: ClassVar = SimpleRNNCell

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **options: Unpack[RecurrentOptions],
    ) -> None:
        own, of_cell = split_options(options)
        initial = kernel_initializer, recurrent_initializer, bias_initializer
        super().__init__(SimpleRNNCell(units, activation, use_bias, *initial, **of_cell), **own)
