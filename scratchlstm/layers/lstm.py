"""The LSTM as a layer: parameters, states, and the choice between the textbook and the fast recurrence."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm import gates, initializers
from scratchlstm._support import checks
from scratchlstm.activations import SIGMOID, TANH
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.layers.base import Shape, Signal, Specs
from scratchlstm.layers.recurrent import Recurrent, States, elementwise, reverse_steps, rows_gradient

IMPLEMENTATIONS = ("fused", "textbook")


class LSTM(Recurrent):
    """Long short-term memory over a sequence; the equations are in `scratchlstm.gates`.

    Args:
        units: H.
        activation: of the candidate g and of the cell in (6).
        recurrent_activation: of the gates i, f, o.
        use_bias: whether z has a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        unit_forget_bias: start the forget gate's bias at 1, so that a new cell remembers (Jozefowicz et al., 2015);
            the other three blocks keep `bias_initializer`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: see `Recurrent`.
        kernel_constraint, recurrent_constraint, bias_constraint: see `Recurrent`.
        dropout: rate for x; one mask (B, E) for all steps and gates, drawn anew for each batch. With
            `recurrent_dropout`, too, each gate has a mask of its own, as in Keras.
        recurrent_dropout: rate for h_prev; one mask (B, H) for each gate, the same at all steps.
        seed, return_sequences, go_backwards, stateful, zero_output_for_mask: see `Recurrent`.
        return_state: give [output, h_T, c_T].
        implementation: "fused" (fast) or "textbook" (`gates.lstm_forward`, to study); the same result to rounding.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in four blocks i f g o as in Keras: `kernel` (E, 4H), `recurrent_kernel` (H, 4H), `bias` (4H,).

    Call: `layer(x, mask=mask, initial_state=[h0, c0])`; see `Recurrent`. After `backward`, `initial_state_grads` is
    [dh0, dc0].
    """

    takes_rows: ClassVar = True
    of_a_pass: ClassVar = ("x", "mask", "_caches", "_kernel", "_workspace")
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
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        implementation: str = "fused",
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint, dropout=dropout,
            recurrent_dropout=recurrent_dropout, seed=seed, return_sequences=return_sequences,
            return_state=return_state, go_backwards=go_backwards, stateful=stateful,
            zero_output_for_mask=zero_output_for_mask, name=name, dtype=dtype, input_shape=input_shape,
        )  # fmt: skip
        self.recurrent_activation = elementwise("recurrent_activation", recurrent_activation)
        self.unit_forget_bias = checks.flag("unit_forget_bias", unit_forget_bias)
        if not isinstance(implementation, str) or implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, not {implementation!r}")
        self.implementation = implementation
        self._workspace: Any = None  # of the last kernel, to be used again

    def param_specs(self, input_shape: Shape) -> Specs:
        specs = super().param_specs(input_shape)
        if self.use_bias and self.unit_forget_bias:
            shape, others = specs["bias"]
            specs["bias"] = shape, _UnitForgetBias(others)
        return specs

    def run(self, x: Signal, states: States, mask: np.ndarray | None) -> tuple[np.ndarray, States]:
        self.x, self.mask, self._by_textbook = x, mask, self._needs_textbook
        return (self._run_textbook if self._by_textbook else self._run_fused)(states)

    def run_back(self, dh: np.ndarray, d_states: Sequence[np.ndarray | None]) -> tuple[Any, States, States]:
        back = self._run_back_textbook if self._by_textbook else self._run_back_fused
        dx, dW, dU, db, dh0, dc0 = back(dh, *d_states)
        return dx, [dW, dU, db], [dh0, dc0]

    def run_only(self, x: Signal, states: States, mask: np.ndarray | None) -> tuple[np.ndarray, States]:
        if self._needs_textbook:
            return self.run(x, states, mask)
        h, c = self._fused_kernel().infer(x, states[0], states[1], self.return_sequences, mask)
        return h, [self._last(h), c]

    # --- the textbook ---------------------------------------------------------------------------------------------

    def _run_textbook(self, states: States) -> tuple[np.ndarray, States]:
        W, U, b = self.kernels()
        x = reverse_steps(self.x, self.go_backwards)
        if self._dropout_by_gate is not None:
            x, W = gates.four_copies(x, self._dropout_by_gate[:, None]), gates.block_diagonal(W)
        options = self.recurrent_activation, self.activation, self._mask_in_order(), self.recurrent_dropout
        hs, c, self._caches = gates.lstm_forward(x, states[0], states[1], W, U, b, *options)
        return reverse_steps(hs, self.go_backwards), [hs[:, -1].copy(), c]

    def _run_back_textbook(self, dh: np.ndarray, dh_last: np.ndarray | None, dc: np.ndarray | None) -> Any:
        W, U, _ = self.kernels()
        if self._dropout_by_gate is not None:
            W = gates.block_diagonal(W)
        dhs = self.dh_in_order(dh, dh_last, self.x.shape[1])
        dx, dW, dU, db, dh0, dc0 = gates.lstm_backward(
            dhs, np.zeros_like(dhs[:, 0]) if dc is None else dc, self._caches, W, U, self.recurrent_activation.prime,
            self.activation.prime, self._mask_in_order(), self.recurrent_dropout,
        )  # fmt: skip
        if self._dropout_by_gate is not None:
            dx, dW = gates.sum_copies(dx, self._dropout_by_gate[:, None]), gates.diagonal_blocks(dW)
        return reverse_steps(dx, self.go_backwards), dW, dU, db, dh0, dc0

    def _mask_in_order(self) -> np.ndarray | None:
        return None if self.mask is None else reverse_steps(self.mask, self.go_backwards)

    # --- the fast one ---------------------------------------------------------------------------------------------

    def _run_fused(self, states: States) -> tuple[np.ndarray, States]:
        self._kernel = self._fused_kernel()
        h, c = self._kernel.forward(self.x, states[0], states[1], self._workspace, self.return_sequences, self.mask)
        self._workspace = self._kernel.workspace
        return h, [self._last(h), c]

    def _run_back_fused(self, dh: np.ndarray, dh_last: np.ndarray | None, dc: np.ndarray | None) -> Any:
        dx, *rest = self._kernel.backward(dh, dh_last, dc, self.input_gradient)
        return (rows_gradient(self.x, dx) if self.input_gradient else None), *rest

    def _fused_kernel(self) -> Any:
        if self.backend == "cupy":
            from scratchlstm.kernels.cupy_lstm import CupyLSTM

            return CupyLSTM(*self.kernels(), self.go_backwards)
        return NumpyLSTM(
            *self.kernels(), self.activation, self.recurrent_activation, self.go_backwards, self._dropout_by_gate,
            self.recurrent_dropout,
        )  # fmt: skip

    @property
    def _needs_textbook(self) -> bool:
        """Whether that was chosen, or is the only one: the GPU's kernel has tanh and σ alone, and no dropout inside."""
        if self.implementation == "textbook" or self.backend == "numpy":
            return self.implementation == "textbook"
        other = (self.activation, self.recurrent_activation) != (TANH, SIGMOID)
        return other or self.recurrent_dropout is not None or self._dropout_by_gate is not None

    def _last(self, h: np.ndarray) -> np.ndarray:
        """A copy of the last h_t, from every one or just that."""
        return (h[:, self._last_step] if self.return_sequences else h).copy()

    # --- both -----------------------------------------------------------------------------------------------------

    @property
    def _dropout_by_gate(self) -> np.ndarray | None:
        """The input's dropout where each gate has its own mask, (B, 4, E); a single mask was applied to x before."""
        return None if self.input_dropout is None or self.input_dropout.ndim == 2 else self.input_dropout


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
