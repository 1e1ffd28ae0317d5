"""The LSTM as a layer: parameters, states, and the choice between the textbook and the fast recurrence."""

from typing import Any, ClassVar, Unpack
from weakref import WeakSet

import numpy as np

from scratchlstm import gates, initializers
from scratchlstm._support import checks
from scratchlstm._support.console import warn
from scratchlstm.activations import SIGMOID, TANH
from scratchlstm.backend import Array
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.layers import recurrent
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.recurrent import Kept, Recurrent, RecurrentOptions, StateGradients, States
from scratchlstm.layers.weights import Shape, Specs

IMPLEMENTATIONS = ("fused", "textbook")


class LSTM(Recurrent):
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
        options: by keyword, see `Recurrent`. `dropout`'s mask (B, E) serves all steps and gates; with
            `recurrent_dropout`, too, each gate has its own, as in Keras. `recurrent_dropout` has a mask (B, H) for each
            gate. `return_state` gives (output, h_T, c_T).

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in four blocks i f g o as in Keras: `kernel` (E, 4H), `recurrent_kernel` (H, 4H), `bias` (4H,).

    Call: `layer(x, mask=mask, initial_state=[h0, c0])`; see `Recurrent`.
    """

    takes_rows: ClassVar = True
    gate_count: ClassVar = 4
    state_names: ClassVar = ("h", "c")

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
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, **options
        )
        self.recurrent_activation = recurrent.elementwise("recurrent_activation", recurrent_activation)
        self.unit_forget_bias = checks.flag("unit_forget_bias", unit_forget_bias)
        if not isinstance(implementation, str) or implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, not {implementation!r}")
        self.implementation = implementation

    def param_specs(self, input_shape: Shape) -> Specs:
        specs = super().param_specs(input_shape)
        if self.use_bias and self.unit_forget_bias:
            specs["bias"] = specs["bias"][0], _UnitForgetBias(self.bias_initializer)
        return specs

    def scan(self, kept: Kept, run: Pass) -> tuple[Array, States, Any]:
        if self._runs_textbook(kept):
            h, final, (caches, W, U) = self._scan_textbook(kept)
            return h, final, (caches, W.copy(), U.copy())
        kernel = self._kernel(kept)
        (B, T, _), (h0, c0) = kept.x.shape, kept.states
        workspace = run.workspace(kernel.memory, T, B, self.units, kept.x.dtype)
        h, c = kernel.forward(kept.x, h0, c0, workspace, self.return_sequences, kept.mask)
        return h, [self._last(h), c], kernel

    def scan_back(self, dh: Array, d_states: StateGradients, kept: Kept, need: bool) -> tuple[Any, States, States]:
        if isinstance(kept.steps, tuple):
            dx, dW, dU, db, dh0, dc0 = self._scan_back_textbook(dh, d_states, kept)
        else:
            dx, dW, dU, db, dh0, dc0 = kept.steps.backward(dh, *d_states, need, self.trainable)
            dx = recurrent.rows_gradient(kept.x, dx) if need else None
        return dx, [dW, dU, db], [dh0, dc0]

    def scan_only(self, kept: Kept) -> tuple[Array, States]:
        if self._runs_textbook(kept):
            return self._scan_textbook(kept)[:2]
        h, c = self._kernel(kept).infer(kept.x, *kept.states, self.return_sequences, kept.mask)
        return h, [self._last(h), c]

    # --- the textbook ---------------------------------------------------------------------------------------------

    def _scan_textbook(self, kept: Kept) -> tuple[Array, States, Any]:
        W, U, b = self.kernels()
        x, by_gate = recurrent.reverse_steps(kept.x, self.go_backwards), _by_gate(kept)
        if by_gate is not None:
            x, W = gates.four_copies(x, by_gate[:, None]), gates.block_diagonal(W)
        (h0, c0), mask = kept.states, self._in_order(kept.mask)
        hs, c, caches = gates.lstm_forward(
            x, h0, c0, W, U, b, self.recurrent_activation, self.activation, mask, kept.recurrent_dropout
        )
        return recurrent.reverse_steps(hs, self.go_backwards), [hs[:, -1].copy(), c], (caches, W, U)

    def _scan_back_textbook(self, dh: Array, d_states: StateGradients, kept: Kept) -> Any:
        (dh_last, dc), (caches, W, U), by_gate = d_states, kept.steps, _by_gate(kept)
        dhs = self.dh_in_order(dh, dh_last, len(caches))
        dx, dW, dU, db, dh0, dc0 = gates.lstm_backward(
            dhs, np.zeros_like(dhs[:, 0]) if dc is None else dc, caches, W, U, self.recurrent_activation.prime,
            self.activation.prime, self._in_order(kept.mask), kept.recurrent_dropout,
        )  # fmt: skip
        if by_gate is not None:
            dx, dW = gates.sum_copies(dx, by_gate[:, None]), gates.diagonal_blocks(dW)
        return recurrent.reverse_steps(dx, self.go_backwards), dW, dU, db, dh0, dc0

    # --- the fast one ---------------------------------------------------------------------------------------------

    def _kernel(self, kept: Kept) -> Any:
        if self.backend == "cupy":
            from scratchlstm.kernels.cupy_lstm import CupyLSTM

            return CupyLSTM(*self.kernels(), self.go_backwards)
        return NumpyLSTM(
            *self.kernels(), self.activation, self.recurrent_activation, self.go_backwards, _by_gate(kept),
            kept.recurrent_dropout,
        )  # fmt: skip

    def _runs_textbook(self, kept: Kept) -> bool:
        """Whether that was chosen, or is the only one: the GPU's kernel has tanh and σ alone, and no dropout inside."""
        if self.implementation == "textbook" or self.backend == "numpy":
            return self.implementation == "textbook"
        others = (self.activation, self.recurrent_activation) != (TANH, SIGMOID)
        falls_back = others or kept.recurrent_dropout is not None or _by_gate(kept) is not None
        if falls_back and self not in _told:
            _told.add(self)
            why = "the kernel there is for tanh, sigmoid and no recurrent_dropout"
            warn(f"{self.name} runs the textbook's functions on the GPU, step by step: {why}")
        return falls_back

    def _last(self, h: Array) -> Array:
        """A copy of the last h_t, from every one or just that."""
        return (h[:, self._last_step] if self.return_sequences else h).copy()


_told: WeakSet[LSTM] = WeakSet()  # layers that have said that they fall back to the textbook


def _by_gate(kept: Kept) -> Array | None:
    """The input's dropout if each gate has its own mask, (B, 4, E); a single mask was applied to x before."""
    return None if kept.input_dropout is None or kept.input_dropout.ndim == 2 else kept.input_dropout


class _UnitForgetBias(initializers.Initializer):
    """`others` for the blocks i, g and o, and 1 for f."""

    def __init__(self, others: initializers.Initializer) -> None:
        super().__init__()
        self.others = others

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        bias = np.array(self.others(shape, "float64", rng))
        H = len(bias) // 4
        bias[H : 2 * H] = 1
        return bias
