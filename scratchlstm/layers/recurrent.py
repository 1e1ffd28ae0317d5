"""What the recurrent layers share: states, masks, direction, dropout, and which steps are given out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm import activations, backend, initializers
from scratchlstm._support import checks
from scratchlstm._support.checks import positive_int
from scratchlstm._support.threads import one_blas_thread
from scratchlstm.backend import Array
from scratchlstm.layers.base import Layer, Shape, Signal, Specs
from scratchlstm.layers.dense import known_features
from scratchlstm.layers.noise import Noise
from scratchlstm.rows import GatheredRows, RowGradient, as_array

States = list[np.ndarray]


class Recurrent(Layer):
    """A layer that takes its state from one time step to the next, with Keras' arguments.

    Args:
        units: H.
        activation: of the layer's values.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties added to the loss, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: applied after each update, or None.
        dropout: rate for x; one mask for all steps, drawn anew for each batch.
        recurrent_dropout: the same for h_prev.
        seed: of the dropout; None draws from the model's generator.
        return_sequences: give every h_t, (B, T, H), instead of the last, (B, H).
        return_state: give [output, and each final state, (B, H)].
        go_backwards: from the last step to the first. A sequence is given out in the order in which it was computed.
        stateful: begin a batch with the states that the last batch ended with, row by row, until `reset_state`.
        zero_output_for_mask: give zeros at masked steps instead of the output before.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Call: `layer(x, mask=mask, initial_state=[...])`. At a masked step (False) a row's states stay as they are, its
    output repeats the one before (0 if there is none yet), and x has no gradient. After `backward`,
    `initial_state_grads` holds the gradients of the initial states.

    Attributes:
        states: of a stateful layer, at the end of the last batch; None at the beginning.
    """

    ranks: ClassVar = (3,)
    takes_mask: ClassVar = True
    call_order: ClassVar = ("initial_state", "mask", "training")
    of_a_pass: ClassVar[tuple[str, ...]] = (
        *("shown", "given_out", "input_dropout", "recurrent_dropout"),
        "initial_state_grads",
    )
    gate_count: ClassVar[int]  # how many blocks of H columns the kernels have
    state_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.units = positive_int("units", units)
        self.activation = elementwise("activation", activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = initializers.get(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.limit(
            kernel=("kernel", kernel_regularizer, kernel_constraint),
            recurrent=("recurrent_kernel", recurrent_regularizer, recurrent_constraint),
            bias=("bias", bias_regularizer if use_bias else None, bias_constraint if use_bias else None),
        )
        self.input_noise = Noise(dropout, seed, "dropout")
        self.recurrent_noise = Noise(recurrent_dropout, None if seed is None else seed + 1, "recurrent_dropout")
        self.noises = [self.input_noise, self.recurrent_noise]
        self.return_sequences = checks.flag("return_sequences", return_sequences)
        self.return_state = checks.flag("return_state", return_state)
        self.go_backwards = checks.flag("go_backwards", go_backwards)
        self.stateful = checks.flag("stateful", stateful)
        self.zero_output_for_mask = checks.flag("zero_output_for_mask", zero_output_for_mask)
        self.states: States | None = None
        self.input_dropout: np.ndarray | None = None  # (B, E) or, for each gate, (B, gate_count, E)
        self.recurrent_dropout: np.ndarray | None = None  # (B, H) or (B, gate_count, H)
        # the mask is handed on where every step is given out; not turned around by `go_backwards`, as in Keras
        self.passes_mask = self.return_sequences
        self.outputs = 1 + len(self.state_names) if self.return_state else 1

    # --- what a recurrent layer defines ---------------------------------------------------------------------------

    def run(self, x: Signal, states: States, mask: np.ndarray | None) -> tuple[np.ndarray, States]:
        """Every h_t in the order of time, (B, T, H), or where `return_sequences` is off perhaps only the last, (B, H).

        And the final states.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define run")

    def run_back(self, dh: np.ndarray, d_states: Sequence[np.ndarray | None]) -> tuple[Any, States, States]:
        """dx (or None where `input_gradient` is off), the parameters' gradients in their order, the initial states'.

        Args:
            dh: as `run` gave h.
            d_states: what reaches the final states besides; None is zero.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define run_back")

    def run_only(self, x: Signal, states: States, mask: np.ndarray | None) -> tuple[np.ndarray, States]:
        """As `run`, where no way back will follow."""
        return self.run(x, states, mask)

    # --- what it gets ---------------------------------------------------------------------------------------------

    def param_specs(self, input_shape: Shape) -> Specs:
        E, width = known_features(self.name, input_shape), self.gate_count * self.units
        specs: Specs = {
            "kernel": ((E, width), self.kernel_initializer),
            "recurrent_kernel": ((self.units, width), self.recurrent_initializer),
        }
        if self.use_bias:
            specs["bias"] = ((width,), self.bias_initializer)
        return specs

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.units) if self.return_sequences else (self.units,)

    @one_blas_thread(sharing=True)
    def forward(
        self, x: Signal, training: bool = False, mask: Any = None, initial_state: Any = None
    ) -> np.ndarray | list[np.ndarray]:
        mask, states = self.check_mask(mask, x.shape[:2]), self._initial_states(x.shape[0], initial_state)
        self._draw_dropout(x.shape, training)
        if self.input_dropout is not None:
            x = as_array(x)  # every row drops other features, so that equal words are alike no longer
            if self.input_dropout.ndim == 2:
                x = x * self.input_dropout[:, None]
        h, final = self.run(x, states, self._placed(mask))
        self.shown = self._shown(mask)
        y = self._output(h, final, self.shown)
        self.given_out = h.shape if self.return_sequences else (len(h), self.units)
        return y

    @one_blas_thread(sharing=True)
    def infer(self, x: Any, mask: Any = None, initial_state: Any = None) -> Any:  # type: ignore[override]
        x = self.receive(x)
        mask, states = self.check_mask(mask, x.shape[:2]), self._initial_states(x.shape[0], initial_state)
        kept = vars(self).copy()  # of the last forward pass, whose way back may still come
        self.input_dropout = self.recurrent_dropout = None
        try:
            h, final = self.run_only(x, states, self._placed(mask))
        finally:
            vars(self).update(kept)
        return self._output(h, final, self._shown(mask))

    @one_blas_thread(sharing=True)
    def backward(self, dy: np.ndarray, *d_states: np.ndarray | None) -> np.ndarray | RowGradient | None:
        """Backpropagation through time.

        Args:
            dy: dL/d(output), (B, T, H) or (B, H).
            d_states: dL/d of each returned final state besides, (B, H); None is zero.

        Returns:
            dx, (B, T, E); a `RowGradient` where the input came from an `Embedding` as gathered rows.

        Raises:
            RuntimeError: no forward pass came before.
            ValueError: gradients of other shapes.
        """
        dy = self.require_gradient(dy, self.given_out)
        if len(d_states) not in (0, len(self.state_names)):
            raise ValueError(
                f"{self.name} has {len(self.state_names)} final states, but {len(d_states)} gradients came"
            )
        states = [None if d is None else self.require_gradient(d, (len(dy), self.units)) for d in d_states]
        if self.return_sequences and self.go_backwards:
            dy = dy[:, ::-1]
        if self.shown is not None:
            dy = dy * self.shown
        dx, grads, self.initial_state_grads = self.run_back(dy, states or [None] * len(self.state_names))
        self.grads.update(zip(self.params, grads, strict=False))  # a bias that is not used has a gradient, too
        if dx is not None and self.input_dropout is not None and self.input_dropout.ndim == 2:
            dx *= self.input_dropout[:, None]
        return dx

    def reset_state(self) -> None:
        """Let a stateful layer begin anew, from zeros."""
        self.states = None

    reset_states = reset_state

    @property
    def state_sizes(self) -> dict[str, int]:
        """Name -> H of each initial state, in the order of `initial_state`."""
        return {f"{name}0": self.units for name in self.state_names}

    def extra_state(self) -> dict[str, np.ndarray]:
        return {} if self.states is None else dict(zip(self.state_names, self.states, strict=True))

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            self.states = None
            return
        if not self.stateful or set(state) != set(self.state_names):
            raise ValueError(f"{self.name} has no such states: {', '.join(state)}")
        states = [backend.host(state[name]) for name in self.state_names]
        for name, array in zip(self.state_names, states, strict=True):
            if array.dtype != self.dtype or array.ndim != 2 or not np.isfinite(array).all():
                raise ValueError(
                    f"state {name} of {self.name} must hold finite numbers in {self.dtype}, (B, {self.units})"
                )
        self.states = self._initial_states(len(states[0]), states)

    def kernels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """W, U and b; b is zero where there is none."""
        kernel, recurrent_kernel = self.params["kernel"], self.params["recurrent_kernel"]
        bias = self.params["bias"] if self.use_bias else np.zeros_like(kernel[0])
        return kernel, recurrent_kernel, bias

    def dh_in_order(self, dh: np.ndarray, dh_last: np.ndarray | None, T: int) -> np.ndarray:
        """What `run_back` gets for h, at each of the T steps in the order of computation; new, (B, T, H)."""
        if self.return_sequences:
            dhs = reverse_steps(dh, self.go_backwards).copy()
        else:
            dhs = backend.module(self.backend).zeros((len(dh), T, self.units), dtype=self.dtype)
            dhs[:, -1] = dh
        if dh_last is not None:
            dhs[:, -1] += dh_last
        return dhs

    def _draw_dropout(self, shape: tuple[int, ...], training: bool) -> None:
        """For x one mask, or where h_prev is dropped, too, one for each gate (as in Keras); for h_prev one for each."""
        B, _, E = shape
        by_gate = (self.gate_count,) if self.gate_count > 1 else ()
        of_input = by_gate if self.recurrent_noise.rate > 0 else ()
        self.input_dropout = self.input_noise.draw((B, *of_input, E), self.dtype) if training else None
        self.recurrent_dropout = self.recurrent_noise.draw((B, *by_gate, self.units), self.dtype) if training else None

    def _output(self, h: np.ndarray, final: States, shown: np.ndarray | None) -> Any:
        if self.stateful:
            self.states = [state.copy() for state in final]
        if h.ndim == 3 and not self.return_sequences:
            h = h[:, self._last_step].copy()
        if shown is not None:
            h = h * shown
        if self.return_sequences and self.go_backwards:
            h = h[:, ::-1]
        return [h, *final] if self.return_state else h

    @property
    def _last_step(self) -> int:
        """The time of the step that is computed last."""
        return 0 if self.go_backwards else -1

    def _shown(self, mask: np.ndarray | None) -> np.ndarray | None:
        """False where the output is 0, (B, T, 1) or (B, 1); None where it is nowhere."""
        if mask is None:
            return None
        if not self.zero_output_for_mask:  # then it is only before the first step that counts: nothing to repeat yet
            order = slice(None, None, -1 if self.go_backwards else 1)
            mask = np.logical_or.accumulate(mask[:, order], axis=1)[:, order]
        shown = mask[:, :, None] if self.return_sequences else mask[:, self._last_step, None]
        return None if shown.all() else backend.to(self.backend, shown)

    def _placed(self, mask: np.ndarray | None) -> Array | None:
        """The mask, which the CPU has looked at, where the layer computes."""
        return None if mask is None else backend.to(self.backend, mask)

    def _initial_states(self, batch: int, given: Any) -> States:
        shape = batch, self.units
        names = list(self.state_sizes)
        if given is None and self.stateful and self.states is not None:
            if self.states[0].shape != shape:
                raise ValueError(
                    f"{self.name} is stateful, with states of {len(self.states[0])} rows, but this batch has {batch}: "
                    f"use a batch_size that divides the number of samples, or call reset_state() before"
                )
            return self.states
        if given is None:
            return [backend.module(self.backend).zeros(shape, dtype=self.dtype) for _ in names]
        states = [backend.to(self.backend, state, self.dtype) for state in as_states(self.name, names, given)]
        for name, state in zip(names, states, strict=True):
            if state.shape != shape:
                raise ValueError(f"{name} in initial_state of {self.name} must have shape {shape}, not {state.shape}")
        return states

    def kept_elsewhere(self) -> dict[str, Any]:
        return super().kept_elsewhere() | {
            "dropout": self.input_noise.rate,
            "recurrent_dropout": self.recurrent_noise.rate,
            "seed": self.input_noise.seed,
        }


def reverse_steps(x: Signal, reverse: bool) -> Array:
    """An array (B, T, ...) with its steps turned around where `reverse`."""
    return as_array(x)[:, ::-1] if reverse else as_array(x)


def rows_gradient(x: Signal, dx: np.ndarray) -> np.ndarray | RowGradient:
    """The gradient of x that goes on: for gathered rows, from that of each distinct row, (K, E)."""
    return x.gradient(dx) if isinstance(x, GatheredRows) else dx


def as_states(owner: str, names: Sequence[str], given: Any) -> Sequence[Any]:
    """A state for each of the names; a single one may be given without a list.

    Raises:
        ValueError: another number of states, or no list of them.
    """
    if backend.is_array(given) and len(names) == 1:
        given = [given]
    if not isinstance(given, list | tuple) or len(given) != len(names):
        came = f"{len(given)} arrays" if isinstance(given, list | tuple) else type(given).__name__
        raise ValueError(f"initial_state of {owner} must be [{', '.join(names)}], not {came}")
    checks.require_array_like(f"initial_state of {owner}", given)
    return given


def elementwise(argument: str, identifier: Any) -> activations.Activation:
    """The activation of that name.

    Raises:
        ValueError: unknown name, or one that mixes its inputs.
    """
    activation = activations.get(identifier, argument)
    if isinstance(activation, activations.Softmax):
        raise ValueError(f"{argument} of a recurrent layer must act on each number by itself; softmax does not")
    return activation
