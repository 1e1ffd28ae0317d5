"""Any cell over a sequence: states, masks, direction, dropout, and which steps are given out."""

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
    """Arguments of `RNN` besides the cell, see there."""

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool


class RecurrentOptions(SequenceOptions, CellOptions, total=False):
    """Arguments that a layer with a cell of its own takes by keyword, see `RNN` and `Cell`."""


class Part(NamedTuple):
    """One cell's part in a pass."""

    cell: Cell
    params: list[Array]  #              in the order of the cell's `forward`: W, U, b
    x: Signal  #                        (B, T, E), after the input's dropout if one mask serves all blocks
    states: States  #                   initial ones, (B, H)
    mask: Array | None  #               (B, T)
    input_dropout: Array | None  #      (B, E) or, for each block, (B, n, E)
    recurrent_dropout: Array | None  #  (B, n, H)
    steps: Any  #                       of the recurrence

    @property
    def by_block(self) -> Array | None:
        """The input's dropout if each block has its own mask, (B, n, E)."""
        return None if self.input_dropout is None or self.input_dropout.ndim == 2 else self.input_dropout

    @property
    def for_all_blocks(self) -> Array | None:
        """The input's dropout if one mask serves all blocks, (B, E): it was applied to x before the recurrence."""
        return self.input_dropout if self.by_block is None else None


class Kept(NamedTuple):
    """What a pass of a recurrent layer keeps."""

    parts: list[Part]  #        one for each cell
    given: bool  #              whether the caller gave initial states
    shown: Array | None  #      False if the output is 0, (B, T, 1) or (B, 1)


def what_runs(layer: Layer) -> list[tuple[str, str]]:
    """The name of each recurrent layer in this one, itself included, and what it runs; see `RNN.runs`."""
    return [(each.name, each.runs) for each in layer.with_inner() if isinstance(each, RNN)]


def all_compiled(layer: Layer) -> bool:
    """Whether there are recurrent layers in this one, and all of them run compiled loops."""
    return {runs for _, runs in what_runs(layer)} == {"compiled"}


def no_layer(given: Any) -> str:
    """What came instead of a layer, for an error."""
    if isinstance(given, Cell | StackedRNNCells):
        return f"the cell {type(given).__name__}: RNN(cell) makes a layer of it"
    return registry.stranger(given, KNOWN)


class RNN(Layer):
    """A cell over a sequence: its parameters, its states from one time step to the next, with Keras' arguments.

    Args:
        cell: what happens at a step, for example `LSTMCell(32)`, or a cell of your own (see `cells.Cell`); a list of
            cells is `StackedRNNCells`. Each cell belongs to one layer.
        return_sequences: give every h_t, (B, T, H), instead of the last, (B, H).
        return_state: give [output, and each final state, (B, H)].
        go_backwards: from the last step to the first. A sequence is given out in the order in which it was computed.
        stateful: begin a batch with the states that the last batch ended with, row by row, until `reset_state`.
        zero_output_for_mask: give zeros at masked steps instead of the output before.
        options: name, dtype, input_shape, trainable, see `Layer`.

    Input: (B, T, E), or for `forward` a tuple of it and the initial states, each (B, H). Output: (B, H) or (B, T, H);
    with `return_state` a tuple of it and the final states. The gradients mirror both.

    Parameters: those of the cell; of several cells as `cell_0/kernel`, ..., and their states as `cell_0/h`, ...

    Call: `layer(x, mask=mask, initial_state=[...])`. At a masked step (False) a row's states stay as they are, its
    output repeats the one before (0 if there is none yet), and x has no gradient.

    The backward pass uses the weights of its forward pass, whatever has become of the parameters since.

    Raises:
        TypeError, ValueError: no cell, or one that another layer has already.
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
                problem = f"this {type(each).__name__} belongs to another layer, or comes twice"
                todo = "make a cell for each, or call the layer itself at both places if they are to share parameters"
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
        # the mask is handed on if every step is given out; not turned around by `go_backwards`, as in Keras
        self.passes_mask = self.return_sequences
        self.outputs = 1 + len(self.state_names) if self.return_state else 1
        _owners.update({id(each): self for each in cells})

    # --- the recurrence of one cell -------------------------------------------------------------------------------

    def scan(self, part: Part, run: Pass) -> tuple[Array, States, Any]:
        """The recurrence over all steps.

        Args:
            part: the cell's input, states, mask and dropout; its `steps` are what this gives.
            run: the pass.

        Returns:
            every h_t in the order of time, (B, T, H), or without `return_sequences` perhaps only the last, (B, H); the
            final states; and what `scan_back` needs.
        """
        h, final, steps = self._loop(part)
        return h, final, steps._replace(params=[param.copy() for param in steps.params])

    def _loop(self, part: Part, keeps: bool = True) -> tuple[Array, States, Scan]:
        """The plain loop over all steps, in the order of time."""
        x, mask = reverse_steps(part.x, self.go_backwards), self._in_order(part.mask)
        dropout = part.by_block, part.recurrent_dropout
        hs, final, steps = scan(part.cell, x, part.states, part.params, mask, *dropout, keeps)
        return reverse_steps(hs, self.go_backwards), [state.copy() for state in final], steps

    def scan_back(self, dh: Array, d_states: StateGradients, part: Part, need: bool) -> tuple[Any, States, States]:
        """dx, the gradients of the parameters in the order of the cell's `forward`, and those of the initial states.

        What is not wanted may be None: dx, and the parameters' gradients if the layer is not `trainable`.

        Args:
            dh: as `scan` gave h.
            d_states: what reaches the final states besides; None is zero.
            part: of the pass.
            need: whether dx is wanted.
        """
        dhs = self.dh_in_order(dh, len(part.steps.caches))
        dx, grads, d_initial = scan_back(part.cell, dhs, d_states, part.steps, self.trainable)
        return reverse_steps(dx, self.go_backwards), grads, d_initial

    def scan_only(self, part: Part) -> tuple[Array, States]:
        """As `scan`, if no backward pass will follow."""
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
        """What computes the recurrence: "textbook" is the cell, step by step; see `LSTM` for others."""
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
        """The cells over the sequence, one after another; None instead of a pass keeps nothing."""
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
        """The part with its dropout drawn."""
        (B, _, E), n = part.x.shape, len(part.cell.blocks)
        # one mask for x, or one for each block if h_prev is dropped, too (as in Keras); for h_prev one for each block
        of_input = (n,) if recurrent_mask.rate > 0 and n > 1 else ()
        of_x = self.place(run.dropout(input_mask, (B, *of_input, E), self.dtype))
        of_h = self.place(run.dropout(recurrent_mask, (B, n, part.cell.output_size), self.dtype))
        part = part._replace(input_dropout=of_x, recurrent_dropout=of_h)
        if of_x is None:
            return part
        x = as_array(part.x)  # every row drops other features, so that equal words are alike no longer
        return part._replace(x=x if part.for_all_blocks is None else x * part.for_all_blocks[:, None])

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
        """Let a stateful layer begin from zeros."""
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
        """Of each state, in order."""
        return tuple(self._sizes)

    @property
    def column_blocks(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        """Parameter -> the names of its blocks, of the kernels and the bias."""
        of_all = self._joined({name: dict.fromkeys(LIMITED.values(), each) for name, each in self.cells.items()})
        return {
            name: cell.blocks
            for name, cell in of_all.items()
            if name in self.params and self.params[name].shape[-1] == len(cell.blocks) * cell.units
        }

    @staticmethod
    def _joined(of_cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Mappings of all cells under the names that the layer has for what is in them."""
        return {key: value for name, own in of_cells.items() for key, value in with_prefix(name, own).items()}

    def extra_state(self) -> dict[str, np.ndarray]:
        return {} if self.states is None else dict(zip(self.state_names, self.states, strict=True))

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            self.states = None
            return
        if not self.stateful or set(state) != set(self.state_names):
            raise ValueError(f"{self.name} has no such states: {', '.join(state)}")
        states = [backend.host(state[name]) for name in self.state_names]
        for (name, size), array in zip(self._sizes.items(), states, strict=True):
            if array.dtype != self.dtype or array.ndim != 2 or not np.isfinite(array).all():
                wanted = f"finite numbers in {self.dtype}, (B, {size})"
                raise ValueError(f"state {name} of {self.name} must hold {wanted}")
        self.states = self._placed_states(len(states[0]), states)

    def kernels(self, name: str = "") -> list[Array]:
        """The parameters of the cell of that name as its `forward` takes them: W, U, b; b is 0 if it has none."""
        cell, own = self.cells[name], of_part(name, self.params)
        if cell.use_bias:
            return list(own.values())
        shapes = {param: shape for param, (shape, _) in cell.param_specs(1).items()}
        zeros = backend.module(self.backend).zeros
        return [own[param] if param in own else zeros(shape, dtype=self.dtype) for param, shape in shapes.items()]

    def arriving(self, dy: Any, kept: Kept) -> tuple[Array, list[Array | None]]:
        """From `backward`'s dy, what reaches the last cell's h, and what reaches the final states."""
        dy, *d_states = dy if isinstance(dy, tuple) else (dy,)
        if dy is None:  # something reached the final states alone
            B, T, _ = kept.parts[-1].x.shape
            shape = (B, *((T,) if self.return_sequences else ()), self.output_size)
            dy = backend.module(self.backend).zeros(shape, dtype=self.dtype)
        if self.return_sequences and self.go_backwards:
            dy = dy[:, ::-1]
        return (dy if kept.shown is None else dy * kept.shown), d_states or [None] * len(self.state_names)

    def dh_in_order(self, dh: Array, T: int) -> Array:
        """What `scan_back` gets for h, at each of the T steps in the order of computation; new, (B, T, H)."""
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
            return [zeros((batch, size), dtype=self.dtype) for size in self._sizes.values()]
        if len(self.states[0]) != batch:
            problem = f"with states of {len(self.states[0])} rows, but this batch has {batch}"
            todo = "use a batch_size that divides the number of samples, or call reset_state() before"
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
    """A recurrent layer that makes its cell: the cell's arguments are the layer's, and so are its attributes."""

    cell_class: ClassVar[type[Cell]]
    units: int
    activation: Activation
    use_bias: bool

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in registry.defaults(cls.cell_class) if "cell_class" in vars(cls) else ():
            setattr(cls, name, property(attrgetter(f"cell.{name}"), doc="See the cell."))


def split_options(options: RecurrentOptions) -> tuple[SequenceOptions, CellOptions]:
    """Those of the layer, and those of its cell."""
    of_cell: Any = {name: value for name, value in options.items() if name in CellOptions.__annotations__}
    return {name: value for name, value in options.items() if name not in of_cell}, of_cell  # type: ignore[return-value]


def has_states(x: Any) -> bool:
    """Whether x is (x, *initial states), and no data."""
    return isinstance(x, tuple) and len(x) > 1 and getattr(x[0], "ndim", 0) == 3


def reverse_steps(x: Signal, reverse: bool) -> Array:
    """An array (B, T, ...) with its steps turned around if `reverse`."""
    return as_array(x)[:, ::-1] if reverse else as_array(x)


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


_owners: WeakValueDictionary[int, RNN] = WeakValueDictionary()  # id of a cell -> the layer that has it
