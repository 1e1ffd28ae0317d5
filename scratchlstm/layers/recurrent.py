"""What the recurrent layers share: states, masks, direction, dropout, and which steps are given out."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np

from scratchlstm import activations, backend, initializers
from scratchlstm._support import checks
from scratchlstm._support.threads import one_blas_thread
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions, Signal
from scratchlstm.layers.passes import DropoutMask, Pass
from scratchlstm.layers.weights import Shape, Specs, known_features
from scratchlstm.rows import GatheredRows, as_array

States = list[Array]
StateGradients = Sequence[Array | None]


class RecurrentOptions(LayerOptions, total=False):
    """Arguments that every recurrent layer takes by keyword, see `Recurrent`."""

    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: int | None
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool


class Kept(NamedTuple):
    """What a pass of a recurrent layer keeps."""

    x: Signal  #                (B, T, E), after the input's dropout if one mask serves all gates
    states: States  #           initial ones, (B, H)
    given: bool  #              whether the caller gave them
    mask: Array | None  #       (B, T)
    shown: Array | None  #      False if the output is 0, (B, T, 1) or (B, 1)
    input_dropout: Array | None  #      (B, E) or, for each gate, (B, gate_count, E)
    recurrent_dropout: Array | None  #  (B, H) or (B, gate_count, H)
    steps: Any  #               of the recurrence


class Recurrent(Layer):
    """A layer that takes its state from one time step to the next, with Keras' arguments.

    Args:
        units: H.
        activation: of the layer's values.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties added to the loss, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: applied after each update, or None.
        dropout: rate for x; one mask for all steps, drawn for each batch.
        recurrent_dropout: the same for h_prev.
        seed: of the dropout; None draws from the model's generator.
        return_sequences: give every h_t, (B, T, H), instead of the last, (B, H).
        return_state: give [output, and each final state, (B, H)].
        go_backwards: from the last step to the first. A sequence is given out in the order in which it was computed.
        stateful: begin a batch with the states that the last batch ended with, row by row, until `reset_state`.
        zero_output_for_mask: give zeros at masked steps instead of the output before.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E), or for `forward` a tuple of it and the initial states, each (B, H). Output: (B, H) or (B, T, H);
    with `return_state` a tuple of it and the final states. The gradients mirror both.

    Call: `layer(x, mask=mask, initial_state=[...])`. At a masked step (False) a row's states stay as they are, its
    output repeats the one before (0 if there is none yet), and x has no gradient.

    The backward pass uses the weights of its forward pass, whatever has become of the parameters since.

    Attributes:
        states: of a stateful layer, at the end of the last batch; None at the beginning.
    """

    ranks: ClassVar = (3,)
    call_order: ClassVar = ("initial_state", "mask", "training")
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
        **options: Unpack[RecurrentOptions],
    ) -> None:
        def option(name: str, default: Any = None) -> Any:
            return options.pop(name, default)  # type: ignore[misc]

        def flag(name: str) -> bool:
            return checks.flag(name, option(name, False))

        limits = {
            name: (param, option(f"{name}_regularizer"), option(f"{name}_constraint"))
            for name, param in {"kernel": "kernel", "recurrent": "recurrent_kernel", "bias": "bias"}.items()
        }
        dropout, recurrent_dropout, seed = option("dropout", 0.0), option("recurrent_dropout", 0.0), option("seed")
        self.return_sequences, self.return_state = flag("return_sequences"), flag("return_state")
        self.go_backwards, self.stateful = flag("go_backwards"), flag("stateful")
        self.zero_output_for_mask = flag("zero_output_for_mask")
        super().__init__(**options)  # type: ignore[misc]  # what is left are those of every layer
        self.units = checks.positive_int("units", units)
        self.activation = elementwise("activation", activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = initializers.get(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.limit(**limits if use_bias else limits | {"bias": ("bias", None, None)})
        self.input_mask = DropoutMask(dropout, seed, "dropout")
        self.recurrent_mask = DropoutMask(recurrent_dropout, None if seed is None else seed + 1, "recurrent_dropout")
        self.dropout_masks = [self.input_mask, self.recurrent_mask]
        self.states: States | None = None
        # the mask is handed on if every step is given out; not turned around by `go_backwards`, as in Keras
        self.passes_mask = self.return_sequences
        self.outputs = 1 + len(self.state_names) if self.return_state else 1

    dropout = property(attrgetter("input_mask.rate"), doc="The rate for x.")
    recurrent_dropout = property(attrgetter("recurrent_mask.rate"), doc="The rate for h_prev.")
    seed = property(attrgetter("input_mask.seed"), doc="Of the dropout.")

    # --- what a recurrent layer defines ---------------------------------------------------------------------------

    def scan(self, kept: Kept, run: Pass) -> tuple[Array, States, Any]:
        """The recurrence over all steps.

        Args:
            kept: the input, states, mask and dropout; its `steps` are what this gives.
            run: the pass.

        Returns:
            every h_t in the order of time, (B, T, H), or without `return_sequences` perhaps only the last, (B, H); the
            final states; and what `scan_back` needs.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define scan")

    def scan_back(self, dh: Array, d_states: StateGradients, kept: Kept, need: bool) -> tuple[Any, States, States]:
        """dx, the gradients of the kernel, the recurrent kernel and the bias, and those of the initial states.

        What is not wanted may be None: dx, and the parameters' gradients if the layer is not `trainable`.

        Args:
            dh: as `scan` gave h.
            d_states: what reaches the final states besides; None is zero.
            kept: of the pass.
            need: whether dx is wanted.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define scan_back")

    def scan_only(self, kept: Kept) -> tuple[Array, States]:
        """As `scan`, if no backward pass will follow."""
        return self.scan(kept, Pass())[:2]

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

    def output_shape(self, input_shape: Shape) -> Any:
        shape = (input_shape[0], self.units) if self.return_sequences else (self.units,)
        return [shape, *((size,) for size in self.state_sizes.values())] if self.return_state else shape

    def receive(self, x: Any) -> Any:
        x, *states = x if has_states(x) else (x,)
        x = super().receive(x)
        return (x, *self._placed_states(x.shape[0], states)) if states else x

    def receive_states(self, given: Any) -> Sequence[Any]:
        return as_states(self.name, list(self.state_sizes), given)

    @one_blas_thread(sharing=True)
    def forward(self, x: Any, run: Pass, mask: Any = None) -> tuple[Any, Any]:
        begun = self._begin(x, mask)
        B, _, E = begun.x.shape
        by_gate = (self.gate_count,) if self.gate_count > 1 else ()
        # one mask for x, or one for each gate if h_prev is dropped, too (as in Keras); for h_prev one for each gate
        of_input = by_gate if self.recurrent_mask.rate > 0 else ()
        of_x = self.place(run.dropout(self.input_mask, (B, *of_input, E), self.dtype))
        of_h = self.place(run.dropout(self.recurrent_mask, (B, *by_gate, self.units), self.dtype))
        begun = begun._replace(input_dropout=of_x, recurrent_dropout=of_h)
        if of_x is not None:
            dropped = as_array(begun.x)  # every row drops other features, so that equal words are alike no longer
            begun = begun._replace(x=dropped * of_x[:, None] if of_x.ndim == 2 else dropped)
        h, final, steps = self.scan(begun, run)
        return self._output(h, final, begun, run.keeps_states), begun._replace(steps=steps)

    @one_blas_thread(sharing=True)
    def infer(self, x: Any, mask: Any = None) -> Any:
        begun = self._begin(x, mask)
        return self._output(*self.scan_only(begun), begun)

    @one_blas_thread(sharing=True)
    def backward(self, dy: Any, cache: Any, need: Any = True) -> tuple[Any, Gradients]:
        """Backpropagation through time.

        Args:
            dy: dL/d(output), (B, T, H) or (B, H); with `return_state` a tuple with dL/d of each final state, (B, H).
            cache: from `forward`.
            need: whether dx is wanted, or a tuple with the same for each initial state.

        Returns:
            dx, (B, T, E), a `RowGradient` if the input came from an `Embedding` as gathered rows; if initial states
            were given, a tuple with their gradients. And the parameters' gradients.
        """
        kept, need_x = cache, need[0] if isinstance(need, tuple | list) else need
        dx, grads, d_initial = self.scan_back(*self.arriving(dy, kept), kept, need_x)
        if dx is not None and kept.input_dropout is not None and kept.input_dropout.ndim == 2:
            dx *= kept.input_dropout[:, None]
        named = dict(zip(("kernel", "recurrent_kernel", "bias"), grads, strict=True))
        if not self.use_bias:
            del named["bias"]
        return ((dx, *d_initial) if kept.given else dx), named

    def reset_state(self) -> None:
        """Let a stateful layer begin from zeros."""
        self.states = None

    reset_states = reset_state

    @property
    def state_sizes(self) -> dict[str, int]:  # type: ignore[override]
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
                wanted = f"finite numbers in {self.dtype}, (B, {self.units})"
                raise ValueError(f"state {name} of {self.name} must hold {wanted}")
        self.states = self._placed_states(len(states[0]), states)

    def kernels(self) -> tuple[Array, Array, Array]:
        """W, U and b; b is zero if there is none."""
        kernel, recurrent_kernel = self.params["kernel"], self.params["recurrent_kernel"]
        bias = self.params["bias"] if self.use_bias else np.zeros_like(kernel[0])
        return kernel, recurrent_kernel, bias

    def arriving(self, dy: Any, kept: Kept) -> tuple[Array, StateGradients]:
        """From `backward`'s dy, what `scan_back` gets for h and for the final states."""
        dy, *d_states = dy if isinstance(dy, tuple) else (dy,)
        if dy is None:  # something reached the final states alone
            shape = (len(kept.states[0]), *((kept.x.shape[1],) if self.return_sequences else ()), self.units)
            dy = backend.module(self.backend).zeros(shape, dtype=self.dtype)
        if self.return_sequences and self.go_backwards:
            dy = dy[:, ::-1]
        return (dy if kept.shown is None else dy * kept.shown), d_states or [None] * len(self.state_names)

    def dh_in_order(self, dh: Array, dh_last: Array | None, T: int) -> Array:
        """What `scan_back` gets for h, at each of the T steps in the order of computation; new, (B, T, H)."""
        if self.return_sequences:
            dhs = reverse_steps(dh, self.go_backwards).copy()
        else:
            dhs = backend.module(self.backend).zeros((len(dh), T, self.units), dtype=self.dtype)
            dhs[:, -1] = dh
        if dh_last is not None:
            dhs[:, -1] += dh_last
        return dhs

    def _in_order(self, mask: Array | None) -> Array | None:
        """A mask in the order of computation."""
        return None if mask is None else reverse_steps(mask, self.go_backwards)

    def _begin(self, x: Any, mask: np.ndarray | None) -> Kept:
        """What a pass begins with."""
        x, *states = x if isinstance(x, tuple) else (x,)
        given, shown = bool(states), self._shown(mask)
        return Kept(x, states or self._own_states(x.shape[0]), given, self.place(mask), shown, None, None, None)

    def _output(self, h: Array, final: States, kept: Kept, keeps_states: bool = True) -> Any:
        if self.stateful and keeps_states:
            self.states = [state.copy() for state in final]
        if h.ndim == 3 and not self.return_sequences:
            h = h[:, self._last_step].copy()
        if kept.shown is not None:
            h = h * kept.shown
        if self.return_sequences and self.go_backwards:
            h = h[:, ::-1]
        return (h, *final) if self.return_state else h

    @property
    def _last_step(self) -> int:
        """The time of the step that is computed last."""
        return 0 if self.go_backwards else -1

    def _shown(self, mask: np.ndarray | None) -> Array | None:
        """False if the output is 0, (B, T, 1) or (B, 1); None if it is nowhere."""
        if mask is None:
            return None
        if not self.zero_output_for_mask:  # then only before the first step that counts: nothing to repeat yet
            order = slice(None, None, -1 if self.go_backwards else 1)
            mask = np.logical_or.accumulate(mask[:, order], axis=1)[:, order]
        shown = mask[:, :, None] if self.return_sequences else mask[:, self._last_step, None]
        return None if shown.all() else self.place(shown)

    def _own_states(self, batch: int) -> States:
        """Zeros, or what a stateful layer ended the last batch with."""
        if not self.stateful or self.states is None:
            zeros = backend.module(self.backend).zeros
            return [zeros((batch, self.units), dtype=self.dtype) for _ in self.state_names]
        if len(self.states[0]) != batch:
            problem = f"with states of {len(self.states[0])} rows, but this batch has {batch}"
            todo = "use a batch_size that divides the number of samples, or call reset_state() before"
            raise ValueError(f"{self.name} is stateful, {problem}: {todo}")
        return self.states

    def _placed_states(self, batch: int, given: Any) -> States:
        names, shape = list(self.state_sizes), (batch, self.units)
        states = [backend.to(self.backend, state, self.dtype) for state in as_states(self.name, names, given)]
        for name, state in zip(names, states, strict=True):
            if state.shape != shape:
                raise ValueError(f"{name} in initial_state of {self.name} must have shape {shape}, not {state.shape}")
        return states


def has_states(x: Any) -> bool:
    """Whether x is (x, *initial states), and no data."""
    return isinstance(x, tuple) and len(x) > 1 and getattr(x[0], "ndim", 0) == 3


def reverse_steps(x: Signal, reverse: bool) -> Array:
    """An array (B, T, ...) with its steps turned around if `reverse`."""
    return as_array(x)[:, ::-1] if reverse else as_array(x)


def rows_gradient(x: Signal, dx: Array) -> Any:
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
