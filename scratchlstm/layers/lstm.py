"""The LSTM as a layer: parameters, states, and the choice between the textbook and the fast implementations."""

from typing import Any, ClassVar, Unpack

from scratchlstm.activations import SIGMOID, TANH
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.layers.fused import Fused
from scratchlstm.layers.rnn import Part, RecurrentOptions, split_options


class LSTM(Fused):
    """Long short-term memory over a sequence; its equations are in `scratchlstm.gates`.

    `implementation` chooses what computes the recurrence; the results agree up to rounding:

    - "textbook": the step functions of `gates.py`. Choose it to edit the gates and see the effect.
    - "numpy": `kernels.numpy_lstm`, about twice as fast.
    - "compiled": the plain loops of `kernels.numba_lstm`, compiled by Numba (`pip install "scratchlstm[fast]"`), about
          twice as fast again. They support activation="tanh" and recurrent_activation="sigmoid"; with others the layer
          runs "numpy".
    - "fused", the default: the fastest one available. On a GPU it is a single CUDA kernel, which supports the same
      activations, but neither recurrent_dropout nor a separate input dropout for each gate; with other settings the
      layer runs the textbook there, with a warning.

    The attribute `runs` says which one is in use.

    Args:
        units: H.
        activation: activation of the candidate g, and of the cell in (6).
        recurrent_activation: activation of the gates i, f, o.
        use_bias: whether the pre-activations z have a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        unit_forget_bias: start the forget gate's bias at 1, so that a new cell remembers (Jozefowicz et al., 2015);
            the other three blocks use `bias_initializer`.
        implementation: "fused", "compiled", "numpy" or "textbook", see above.
        options: keyword arguments of `Cell` and `RNN`. `dropout` uses one mask (B, E) for all steps and gates, or one
            per gate if there is `recurrent_dropout`, too, as in Keras. `recurrent_dropout` uses a mask (B, H) for each
            gate. `return_state` gives (output, h_T, c_T).

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in four blocks i f g o as in Keras: `kernel` (E, 4H), `recurrent_kernel` (H, 4H), `bias` (4H,).

    Call: `layer(x, mask=mask, initial_state=[h0, c0])`; see `RNN`.
    """

    cell_class: ClassVar = LSTMCell
    on_gpu: ClassVar = "the GPU kernel needs tanh, sigmoid and no recurrent_dropout"

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        *,
        implementation: str = "fused",
        **options: Unpack[RecurrentOptions],
    ) -> None:
        own, of_cell = split_options(options)
        initial = kernel_initializer, recurrent_initializer, bias_initializer, unit_forget_bias
        cell = LSTMCell(units, activation, recurrent_activation, use_bias, *initial, **of_cell)
        super().__init__(cell, implementation, **own)

    def numpy_kernel(self) -> Any:
        return NumpyLSTM

    def compiled_kernel(self) -> Any:
        from scratchlstm.kernels.numba_lstm import NumbaLSTM

        return NumbaLSTM

    def cuda_kernel(self, part: Part) -> Any:
        tanh_and_sigmoid = (self.activation, self.recurrent_activation) == (TANH, SIGMOID)
        if not tanh_and_sigmoid or part.by_block is not None or part.recurrent_dropout is not None:
            return None
        from scratchlstm.kernels.cupy_lstm import CupyLSTM

        W, U, b = part.params
        return CupyLSTM(W, U, b, self.go_backwards)
