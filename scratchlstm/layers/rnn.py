"""Runs any cell over a sequence: states, masks, direction, dropout, and the choice of steps to return."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Unpack
from weakref import WeakValueDictionary

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks, registry
from scratchlstm._support.threads import one_blas_thread
from scratchlstm.activations import Activation
from scratchlstm.backend import Array
from scratchlstm.cells import contract
from scratchlstm.cells.base import LIMITED, Cell, CellOptions
from scratchlstm.cells.scan import Scan, States, scan, scan_back
from scratchlstm.cells.stacked import StackedRNNCells, as_cell
from scratchlstm.layers.base import KNOWN, Gradients, Layer, LayerOptions, Signal
from scratchlstm.layers.composite import of_part, with_prefix
from scratchlstm.layers.passes import DropoutMask, Pass
from scratchlstm.layers.weights import Shape, Specs, known_features
from scratchlstm.rows import as_array

StateGradients = Sequence[Array | None]


class SequenceOptions(LayerOptions, total=False):
    """Arguments of `RNN` other than the cell; see there."""

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool


class RecurrentOptions(SequenceOptions, CellOptions, total=False):
    """Keyword arguments of a layer that makes its own cell; see `RNN` and `Cell`."""


class Part(NamedTuple):
    """One cell's share of a pass."""

    cell: Cell
    params: list[Array]  #              in the order of the cell's `forward`: W, U, b
    x: Signal  #                        (B, T, E), after input dropout if all blocks share one mask
    states: States  #                   initial states, (B, H)
    mask: Array | None  #               (B, T)
    input_dropout: Array | None  #      (B, E) or, for each block, (B, n, E)
    recurrent_dropout: Array | None  #  (B, n, H)
    steps: Any  #                       what the recurrence keeps

    @property
    def by_block(self) -> Array | None:
        """The input dropout if each block has its own mask, (B, n, E)."""
        return None if self.input_dropout is None or self.input_dropout.ndim == 2 else self.input_dropout

    @property
    def for_all_blocks(self) -> Array | None:
        """The input dropout if all blocks share one mask, (B, E); it was applied to x before the recurrence."""
        return self.input_dropout if self.by_block is None else None


class Kept(NamedTuple):
    """What a forward pass of a recurrent layer keeps."""

    parts: list[Part]  #        one per cell
    given: bool  #              whether the caller gave initial states
    shown: Array | None  #      False where the output is set to 0, (B, T, 1) or (B, 1)


def what_runs(layer: Layer) -> list[tuple[str, str]]:
    """The name of each recurrent layer in this one (or this one itself), and what runs it; see `RNN.runs`."""
    return [(each.name, each.runs) for each in layer.with_inner() if isinstance(each, RNN)]


def all_compiled(layer: Layer) -> bool:
    """Whether this layer contains recurrent layers and all of them run compiled loops."""
    return {runs for _, runs in what_runs(layer)} == {"compiled"}


def no_layer(given: Any) -> str:
    """What was given instead of a layer, for an error message."""
    if isinstance(given, Cell | StackedRNNCells):
        return f"the cell {type(given).__name__}: RNN(cell) makes a layer from it"
    return registry.stranger(given, KNOWN)


class RNN(Layer):
    """Runs a cell over a sequence, carrying its states from one time step to the next; the arguments are Keras'.

    Args:
        cell: computes one step, for example `LSTMCell(32)` or a cell of your own (see `cells.Cell`); a list of cells
            becomes `StackedRNNCells`. A cell belongs to one layer only.
        return_sequences: return every h_t, (B, T, H), instead of only the last, (B, H).
        return_state: return [output, each final state (B, H)].
        go_backwards: process the steps from last to first. A returned sequence is in the order of computation.
        stateful: start each row from its final states in the last batch, until `reset_state`.
        zero_output_for_mask: return zeros at masked steps instead of repeating the output before.
        options: name, dtype, input_shape, trainable; see `Layer`.

    Input: (B, T, E), or for `forward` a tuple of it and the initial states, each (B, H). Output: (B, H) or (B, T, H);
    with `return_state` a tuple of it and the final states. Gradients have the same structure.

    Parameters: those of the cell; with several cells `cell_0/kernel`, ..., and states `cell_0/h`, ...

    Call: `layer(x, mask=mask, initial_state=[...])`. At a masked step (False) a row's states are unchanged, its output
    repeats the one before (0 if there is none yet), and x gets no gradient.

    The backward pass uses the weights of its forward pass, even if the parameters have changed since.

    Raises:
        TypeError, ValueError: not a cell, or one that already belongs to another layer.
    """

    ranks: ClassVar = (3,)
    takes_mask: ClassVar = True
    call_order: ClassVar = ("initial_state", "mask", "training")
    cell: Any

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        *,
        zero_output_for_mask: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        self.return_sequences = checks.flag("return_sequences", return_sequences)
        self.return_state = checks.flag("return_state", return_state)
        self.go_backwards, self.stateful = checks.flag("go_backwards", go_backwards), checks.flag("stateful", stateful)
        self.zero_output_for_mask = checks.flag("zero_output_for_mask", zero_output_for_mask)
        super().__init__(**options)
        self.cell = as_cell("cell", cell)
        several = isinstance(self.cell, StackedRNNCells)
        cells = self.cell.cells if several else [self.cell]
        for number, each in enumerate(cells):
            owner = _owners.get(id(each))
            taken = owner is not None and any(each is of for of in owner.cells.values())
            if taken or any(each is other for other in cells[:number]):
                problem = f"this {type(each).__name__} belongs to another layer, or is listed twice"
                todo = "make one cell for each, or to share parameters, call the same layer in both places"
                raise ValueError(f"cell of {self.name}: {problem}: {todo}")
            contract.require_sizes(each)
        self.cells: dict[str, Cell] = {f"cell_{number}" if several else "": each for number, each in enumerate(cells)}
        self.regularizers = self._joined({name: each.limits("regularizer") for name, each in self.cells.items()})
        self.constraints = self._joined({name: each.limits("constraint") for name, each in self.cells.items()})
        self.masks_of = [
            (
                DropoutMask(each.dropout, each.seed, "dropout"),
                DropoutMask(each.recurrent_dropout, None if each.seed is None else each.seed + 1, "recurrent_dropout"),
            )
            for each in self.cells.values()
        ]
        self.dropout_masks = [mask for masks in self.masks_of for mask in masks]
        self.states: States | None = None
        # the mask is passed on if every step is returned; `go_backwards` does not reverse it, as in Keras
        self.passes_mask = self.return_sequences
        self.outputs = 1 + len(self.state_names) if self.return_state else 1
        _owners.update({id(each): self for each in cells})

    # --- the recurrence of one cell -------------------------------------------------------------------------------

    def scan(self, part: Part, run: Pass) -> tuple[Array, States, Any]:
        """Run the recurrence over all steps.

        Args:
            part: the cell's input, states, mask and dropout; its `steps` will hold this method's third result.
            run: the pass.

        Returns:
            every h_t in the order of time, (B, T, H), or without `return_sequences` possibly only the last, (B, H); the
            final states; and what `scan_back` needs.
        """
        h, final, steps = self._loop(part)
        return h, final, steps._replace(params=[param.copy() for param in steps.params])

    def _loop(self, part: Part, keeps: bool = True) -> tuple[Array, States, Scan]:
        """The plain loop over all steps, in time order."""
        x, mask = reverse_steps(part.x, self.go_backwards), self._in_order(part.mask)
        dropout = part.by_block, part.recurrent_dropout
        hs, final, steps = scan(part.cell, x, part.states, part.params, mask, *dropout, keeps)
        return reverse_steps(hs, self.go_backwards), [state.copy() for state in final], steps

    def scan_back(self, dh: Array, d_states: StateGradients, part: Part, need: bool) -> tuple[Any, States, States]:
        """dx, the gradients of the parameters in the order of the cell's `forward`, and those of the initial states.

        What is not needed may be None: dx, and the parameters' gradients if the layer is not `trainable`.

        Args:
            dh: like the h that `scan` returned.
            d_states: gradients arriving at the final states; None for zero.
            part: the part from the forward pass.
            need: whether to compute dx.
        """
        dhs = self.dh_in_order(dh, len(part.steps.caches))
        dx, grads, d_initial = scan_back(part.cell, dhs, d_states, part.steps, self.trainable)
        return reverse_steps(dx, self.go_backwards), grads, d_initial

    def scan_only(self, part: Part) -> tuple[Array, States]:
        """Like `scan`, when no backward pass will follow."""
        return self._loop(part, keeps=False)[:2]

    # --- what it gets ---------------------------------------------------------------------------------------------

    def param_specs(self, input_shape: Shape) -> Specs:
        features = known_features(self.name, input_shape)
        specs: Specs = {}
        for name, cell in self.cells.items():
            own = contract.param_specs(cell, features)
            specs |= with_prefix(name, {param: of for param, of in own.items() if param != "bias" or cell.use_bias})
            features = cell.output_size
        return specs

    @property
    def runs(self) -> str:
        """What computes the recurrence: "textbook" is the cell, step by step; `LSTM` lists the others."""
        return "textbook"

    @property
    def output_size(self) -> int:
        """H of the last cell."""
        return list(self.cells.values())[-1].output_size

    def output_shape(self, input_shape: Shape) -> Any:
        size = self.output_size
        shape = (input_shape[0], size) if self.return_sequences else (size,)
        return [shape, *((size,) for size in self.state_sizes.values())] if self.return_state else shape

    def receive(self, x: Any) -> Any:
        x, *states = x if has_states(x) else (x,)
        x = super().receive(x)
        return (x, *self._placed_states(x.shape[0], states)) if states else x

    def receive_states(self, given: Any) -> Sequence[Any]:
        return as_states(self.name, list(self.state_sizes), given)

    @one_blas_thread(sharing=True)
    def forward(self, x: Any, run: Pass, mask: Any = None) -> tuple[Any, Any]:
        return self._run(x, mask, run)

    @one_blas_thread(sharing=True)
    def infer(self, x: Any, mask: Any = None) -> Any:
        return self._run(x, mask, None)[0]

    def _run(self, x: Any, mask: np.ndarray | None, run: Pass | None) -> tuple[Any, Kept]:
        """Run the cells over the sequence, one after another; without a pass, nothing is kept."""
        x, *states = x if isinstance(x, tuple) else (x,)
        given, placed = bool(states), self.place(mask)
        states = list(states) or self._own_states(x.shape[0])
        parts, final = [], []
        for number, (name, cell) in enumerate(self.cells.items()):
            own, states = states[: len(cell.states)], states[len(cell.states) :]
            part = Part(cell, self.kernels(name), x, own, placed, None, None, None)
            if run is None:
                x, of_cell = self.scan_only(part)
            else:
                part = self._dropped(part, run, *self.masks_of[number])
                x, of_cell, steps = self.scan(part, run)
                parts.append(part._replace(steps=steps))
            final += of_cell
        kept = Kept(parts, given, self._shown(mask))
        return self._output(x, final, kept, run is None or run.keeps_states), kept

    def _dropped(self, part: Part, run: Pass, input_mask: DropoutMask, recurrent_mask: DropoutMask) -> Part:
        """The part with its dropout masks drawn."""
        (B, _, E), n = part.x.shape, len(part.cell.blocks)
        # one mask for x, or one per block if h_prev has dropout, too (as in Keras); one per block for h_prev
        of_input = (n,) if recurrent_mask.rate > 0 and n > 1 else ()
        of_x = self.place(run.dropout(input_mask, (B, *of_input, E), self.dtype))
        of_h = self.place(run.dropout(recurrent_mask, (B, n, part.cell.output_size), self.dtype))
        part = part._replace(input_dropout=of_x, recurrent_dropout=of_h)
        if of_x is None:
            return part
        x = as_array(part.x)  # each row drops different features, so equal words are no longer equal vectors
        return part._replace(x=x if part.for_all_blocks is None else x * part.for_all_blocks[:, None])

    @one_blas_thread(sharing=True)
    def backward(self, dy: Any, cache: Any, need: Any = True) -> tuple[Any, Gradients]:
        """Backpropagation through time.

        Args:
            dy: dL/d(output), (B, T, H) or (B, H); with `return_state` a tuple with dL/d of each final state, (B, H).
            cache: from `forward`.
            need: whether to compute dx, or a tuple that says so for x and each initial state.

        Returns:
            dx, (B, T, E), a `RowGradient` if the input came from an `Embedding` as gathered rows; if initial states
            were given, a tuple of dx and their gradients. Then the gradients of the parameters.
        """
        kept, need_x = cache, need[0] if isinstance(need, tuple | list) else need
        dx, d_states = self.arriving(dy, kept)
        d_initial: States = []
        named: Gradients = {}
        for (name, cell), part in reversed(list(zip(self.cells.items(), kept.parts, strict=True))):
            d_own, d_states = d_states[len(d_states) - len(cell.states) :], d_states[: -len(cell.states)]
            dx, grads, of_cell = self.scan_back(dx, d_own, part, need_x or part is not kept.parts[0])
            if dx is not None and part.for_all_blocks is not None:
                dx *= part.for_all_blocks[:, None]
            d_initial = [*of_cell, *d_initial]
            own = dict(zip(cell.param_specs(1), grads, strict=True))
            if not cell.use_bias:
                own.pop("bias", None)
            named = with_prefix(name, own) | named
        return ((dx, *d_initial) if kept.given else dx), named

    def reset_state(self) -> None:
        """Reset the states of a stateful layer to zero."""
        self.states = None

    reset_states = reset_state

    @property
    def state_sizes(self) -> dict[str, int]:  # type: ignore[override]
        """Name -> H of each initial state, in the order of `initial_state`."""
        return {f"{name}0": size for name, size in self._sizes.items()}

    @property
    def _sizes(self) -> dict[str, int]:
        """Name -> H of each state."""
        return self._joined({name: cell.state_sizes for name, cell in self.cells.items()})

    @property
    def state_names(self) -> tuple[str, ...]:
        """The name of each state, in order."""
        return tuple(self._sizes)

    @property
    def column_blocks(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        """Names of the column blocks of the kernels and the bias, by parameter."""
        of_all = self._joined({name: dict.fromkeys(LIMITED.values(), each) for name, each in self.cells.items()})
        return {
            name: cell.blocks
            for name, cell in of_all.items()
            if name in self.params and self.params[name].shape[-1] == len(cell.blocks) * cell.units
        }

    @staticmethod
    def _joined(of_cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The mappings of all cells in one, under the layer's names."""
        return {key: value for name, own in of_cells.items() for key, value in with_prefix(name, own).items()}

    def extra_state(self) -> dict[str, np.ndarray]:
        return {} if self.states is None else dict(zip(self.state_names, self.states, strict=True))

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            self.states = None
            return
        if not self.stateful or set(state) != set(self.state_names):
            raise ValueError(f"{self.name} has no states named: {', '.join(state)}")
        states = [backend.host(state[name]) for name in self.state_names]
        for (name, size), array in zip(self._sizes.items(), states, strict=True):
            if array.dtype != self.dtype or array.ndim != 2 or not np.isfinite(array).all():
                wanted = f"finite values in {self.dtype}, (B, {size})"
                raise ValueError(f"state {name} of {self.name} must hold {wanted}")
        self.states = self._placed_states(len(states[0]), states)

    def kernels(self, name: str = "") -> list[Array]:
        """The parameters of the cell of that name as its `forward` takes them: W, U, b; b is 0 if there is no bias."""
        cell, own = self.cells[name], of_part(name, self.params)
        if cell.use_bias:
            return list(own.values())
        shapes = {param: shape for param, (shape, _) in cell.param_specs(1).items()}
        zeros = backend.module(self.backend).zeros
        return [own[param] if param in own else zeros(shape, dtype=self.dtype) for param, shape in shapes.items()]

    def arriving(self, dy: Any, kept: Kept) -> tuple[Array, list[Array | None]]:
        """From `backward`'s dy, the gradients arriving at the last cell's h and at the final states."""
        dy, *d_states = dy if isinstance(dy, tuple) else (dy,)
        if dy is None:  # only the final states have a gradient
            B, T, _ = kept.parts[-1].x.shape
            shape = (B, *((T,) if self.return_sequences else ()), self.output_size)
            dy = backend.module(self.backend).zeros(shape, dtype=self.dtype)
        if self.return_sequences and self.go_backwards:
            dy = dy[:, ::-1]
        return (dy if kept.shown is None else dy * kept.shown), d_states or [None] * len(self.state_names)

    def dh_in_order(self, dh: Array, T: int) -> Array:
        """The gradient of h for `scan_back`, at each of the T steps in order of computation; a new array, (B, T, H)."""
        if dh.ndim == 3:
            return reverse_steps(dh, self.go_backwards).copy()
        dhs = backend.module(self.backend).zeros((len(dh), T, dh.shape[1]), dtype=self.dtype)
        dhs[:, -1] = dh
        return dhs

    def _in_order(self, mask: Array | None) -> Array | None:
        """A mask in the order of computation."""
        return None if mask is None else reverse_steps(mask, self.go_backwards)

    def _output(self, h: Array, final: States, kept: Kept, keeps_states: bool = True) -> Any:
        if self.stateful and keeps_states:
            self.states = [state.copy() for state in final]  # equation (26): the values, no gradient
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
        """False where the output is set to 0, (B, T, 1) or (B, 1); None if it is nowhere."""
        if mask is None:
            return None
        if not self.zero_output_for_mask:  # then only before the first valid step, when there is nothing to repeat
            order = slice(None, None, -1 if self.go_backwards else 1)
            mask = np.logical_or.accumulate(mask[:, order], axis=1)[:, order]
        shown = mask[:, :, None] if self.return_sequences else mask[:, self._last_step, None]
        return None if shown.all() else self.place(shown)

    def _own_states(self, batch: int) -> States:
        """Zeros, or for a stateful layer the final states of the last batch."""
        if not self.stateful or self.states is None:
            zeros = backend.module(self.backend).zeros
            return [zeros((batch, size), dtype=self.dtype) for size in self._sizes.values()]
        if len(self.states[0]) != batch:
            problem = f"with states of {len(self.states[0])} rows, but this batch has {batch}"
            todo = "use a batch_size that divides the number of samples, or call reset_state() first"
            raise ValueError(f"{self.name} is stateful, {problem}: {todo}")
        return self._placed_states(batch, self.states)

    def _placed_states(self, batch: int, given: Any) -> States:
        sizes = self.state_sizes
        states = [backend.to(self.backend, state, self.dtype) for state in as_states(self.name, list(sizes), given)]
        for (name, size), state in zip(sizes.items(), states, strict=True):
            if state.shape != (shape := (batch, size)):
                raise ValueError(f"{name} in initial_state of {self.name} must have shape {shape}, not {state.shape}")
        return states


class WithOwnCell(RNN):
    """A recurrent layer that makes its own cell, and has the cell's arguments and attributes."""

    cell_class: ClassVar[type[Cell]]
    units: int
    activation: Activation
    use_bias: bool

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in registry.defaults(cls.cell_class) if "cell_class" in vars(cls) else ():
            setattr(cls, name, property(attrgetter(f"cell.{name}"), doc="See the cell."))


def split_options(options: RecurrentOptions) -> tuple[SequenceOptions, CellOptions]:
    """The options split into those of the layer and those of its cell."""
    of_cell: Any = {name: value for name, value in options.items() if name in CellOptions.__annotations__}
    return {name: value for name, value in options.items() if name not in of_cell}, of_cell  # type: ignore[return-value]


def has_states(x: Any) -> bool:
    """Whether x is (x, *initial states) rather than data."""
    return isinstance(x, tuple) and len(x) > 1 and getattr(x[0], "ndim", 0) == 3


def reverse_steps(x: Signal, reverse: bool) -> Array:
    """An array (B, T, ...), with its steps reversed if `reverse`."""
    return as_array(x)[:, ::-1] if reverse else as_array(x)


def as_states(owner: str, names: Sequence[str], given: Any) -> Sequence[Any]:
    """One state for each of the names; a single state need not be in a list.

    Raises:
        ValueError: the wrong number of states, or not a list.
    """
    if backend.is_array(given) and len(names) == 1:
        given = [given]
    if not isinstance(given, list | tuple) or len(given) != len(names):
        came = f"{len(given)} arrays" if isinstance(given, list | tuple) else type(given).__name__
        raise ValueError(f"initial_state of {owner} must be [{', '.join(names)}], not {came}")
    checks.require_array_like(f"initial_state of {owner}", given)
    return given


_owners: WeakValueDictionary[int, RNN] = WeakValueDictionary()  # id of a cell -> the layer it belongs to
