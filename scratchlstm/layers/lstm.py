"""The LSTM as a layer: parameters, states, and the choice between the textbook and the fast recurrence."""

from typing import Any, ClassVar, Unpack
from weakref import WeakSet

from scratchlstm._support.console import warn
from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.backend import Array
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.cells.scan import Scan, States
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.layers import rnn
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import Part, RecurrentOptions, StateGradients, WithOwnCell, split_options

IMPLEMENTATIONS = ("fused", "textbook")


class LSTM(WithOwnCell):
    """Long short-term memory over a sequence; the equations are in `scratchlstm.gates`.

    `implementation="textbook"` runs the functions of `gates.py`: choose it if you want to edit them and see the effect.
    "fused", the default, computes the same to rounding with `kernels.numpy_lstm`, which is several times faster; on a
    GPU with one CUDA kernel, which exists for activation="tanh", recurrent_activation="sigmoid", no recurrent_dropout
    and no dropout of its own for each gate. A layer with other settings runs the textbook there, with a warning.

    Args:
        units: H.
        activation: of the candidate g and of the cell in (6).
        recurrent_activation: of the gates i, f, o.
        use_bias: whether z has a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        unit_forget_bias: start the forget gate's bias at 1, so that a new cell remembers (Jozefowicz et al., 2015);
            the other three blocks keep `bias_initializer`.
        implementation: "fused" (fast) or "textbook" (to study).
        options: by keyword, see `Cell` and `RNN`. `dropout`'s mask (B, E) serves all steps and gates; with
            `recurrent_dropout`, too, each gate has its own, as in Keras. `recurrent_dropout` has a mask (B, H) for each
            gate. `return_state` gives (output, h_T, c_T).

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in four blocks i f g o as in Keras: `kernel` (E, 4H), `recurrent_kernel` (H, 4H), `bias` (4H,).

    Call: `layer(x, mask=mask, initial_state=[h0, c0])`; see `RNN`.
    """

    takes_rows: ClassVar = True
    cell_class: ClassVar = LSTMCell
    recurrent_activation: Activation

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
        super().__init__(LSTMCell(units, activation, recurrent_activation, use_bias, *initial, **of_cell), **own)
        if not isinstance(implementation, str) or implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, not {implementation!r}")
        self.implementation = implementation

    def scan(self, part: Part, run: Pass) -> tuple[Array, States, Any]:
        if self._runs_textbook(part):
            return super().scan(part, run)
        kernel = self._kernel(part)
        (B, T, _), (h0, c0) = part.x.shape, part.states
        workspace = run.workspace(kernel.memory, T, B, self.units, part.x.dtype)
        h, c = kernel.forward(part.x, h0, c0, workspace, self.return_sequences, part.mask)
        return h, [self._last(h), c], kernel

    def scan_back(self, dh: Array, d_states: StateGradients, part: Part, need: bool) -> tuple[Any, States, States]:
        if isinstance(part.steps, Scan):
            return super().scan_back(dh, d_states, part, need)
        dx, dW, dU, db, dh0, dc0 = part.steps.backward(dh, *d_states, need, self.trainable)
        return rnn.rows_gradient(part.x, dx) if need else None, [dW, dU, db], [dh0, dc0]

    def scan_only(self, part: Part) -> tuple[Array, States]:
        if self._runs_textbook(part):
            return super().scan_only(part)
        h, c = self._kernel(part).infer(part.x, *part.states, self.return_sequences, part.mask)
        return h, [self._last(h), c]

    # --- the fast one ---------------------------------------------------------------------------------------------

    def _kernel(self, part: Part) -> Any:
        W, U, b = part.params
        if self.backend == "cupy":
            from scratchlstm.kernels.cupy_lstm import CupyLSTM

            return CupyLSTM(W, U, b, self.go_backwards)
        return NumpyLSTM(
            W, U, b, self.activation, self.recurrent_activation, self.go_backwards, part.by_block,
            part.recurrent_dropout,
        )  # fmt: skip

    def _runs_textbook(self, part: Part) -> bool:
        """Whether that was chosen, or is the only one: the GPU's kernel has tanh and σ alone, and no dropout inside."""
        if self.implementation == "textbook" or self.backend == "numpy":
            return self.implementation == "textbook"
        others = (self.activation, self.recurrent_activation) != (TANH, SIGMOID)
        falls_back = others or part.recurrent_dropout is not None or part.by_block is not None
        if falls_back and self not in _told:
            _told.add(self)
            why = "the kernel there is for tanh, sigmoid and no recurrent_dropout"
            warn(f"{self.name} runs the textbook's functions on the GPU, step by step: {why}")
        return falls_back

    def _last(self, h: Array) -> Array:
        """A copy of the last h_t, from every one or just that."""
        return (h[:, self._last_step] if self.return_sequences else h).copy()


_told: WeakSet[LSTM] = WeakSet()  # layers that have said that they fall back to the textbook
