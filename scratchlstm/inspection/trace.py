"""What the recurrent cells of a trained model compute at every step of real input and, given a target, each gradient.

Names follow from the cell: its gates, blocks and states (`cells.Cell`). Those of the LSTM are explained in
`scratchlstm.gates`. B samples, T steps, E input features, H units.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm.cells import Cell, LSTMCell
from scratchlstm.cells.scan import Scan, StepBack, scan, steps_back
from scratchlstm.inspection.recording import Recorded, choose, record
from scratchlstm.layers.rnn import reverse_steps


@dataclass(frozen=True, repr=False)
class LayerTrace:
    """What one recurrent cell did at each step: arrays by name, also available as attributes (`traced.f`, `traced.dh`).

    `dx` means dL/dx, summed over all paths from x to the loss: `dh` is `dh_above` + `dh_next`. Gradients are None
    without a target. Values are what the layer computes: exploding gradients are infinite or NaN. Arrays are in time
    order, even if the layer runs backwards.

    At a masked step (see `mask`) the states are those of the previous step. The gates show what they would be, but
    nothing uses them: their gradients are 0, and the gradients of the states pass to the previous step unchanged.

    The arrays, for a cell with a gate and block i and the states h and c (an LSTM has i f g o); (B, T, H) unless stated
    otherwise:

    - `kernel`, `recurrent_kernel`, `bias`, ...: the cell's parameters; a bias of zeros if it has none.
    - `mask`, (B, T): True at valid steps.
    - `input`, (B, T, E): x.
    - `h_prev`, `c_prev`: the states at the start of the step.
    - `z_i`: the pre-activation of block i, from `z` in the cell's cache, (B, nH). For a cell whose `forward` takes
      `h_in` (not `h_prev`) and only W, U and b, it is x W + h_prev U + b. Other cells have none.
    - `i`: the gate.
    - `h`, `c`: the new states.
    - `dh_above`: dL/dh from the layer above or the loss; at the last step also from layers that take the final h.
    - `dh_next`, `dc_next`: gradients from the step computed after this one. At the last step `dh_next` is 0, and
      `dc_next` is the gradient from layers that take the final c.
    - `dh`: dL/dh. `dc`: dL/dc, including the path through this step's h, if the cell's `backward` returns "dc".
    - `dh_prev`, `dc_prev`: gradients for the step computed before this one.
    - `dz_i`: dL/dz of block i, if the cell's `backward` returns "dz".
    - `d_input`, (B, T, E): dL/dx.

    Attributes:
        name: the name in the model; "bidirectional/forward" and "bidirectional/backward" for the two directions,
            "rnn/cell_0", ... for the cells of a layer with several.
        cell: the name of the cell's class.
        activation, recurrent_activation: names of φ and of the gates' σ; None if the cell has no such attribute.
        go_backwards: whether the last step was computed first, so that h_prev is the state at the *next* time.
        gates, blocks, states: the cell's names.
        arrays: all arrays, by name.
    """

    name: str
    cell: str
    activation: str | None
    recurrent_activation: str | None
    go_backwards: bool
    gates: tuple[str, ...]
    blocks: tuple[str, ...]
    states: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    def __getattr__(self, name: str) -> Any:
        """The array of that name; None for a gradient in a trace without a target."""
        if "arrays" not in vars(self):  # while being copied
            raise AttributeError(name)
        if name not in self.arrays and name not in self.gradients:
            there_is = ", ".join([*self.arrays, *(each for each in self.gradients if each not in self.arrays)])
            problem = f"the trace of {self.name} ({self.cell}) has no {name!r}{self.why_not(name)}"
            raise AttributeError(f"{problem}; it has {there_is}")
        return self.arrays.get(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.arrays, *self.gradients})

    @property
    def gradients(self) -> list[str]:
        """Names of the gradients available, or that would be with a target."""
        names = [f"d{self.states[0]}_above"]
        names += [f"d{state}{which}" for state in self.states for which in ("_next", "", "_prev")]
        names += [*(f"dz_{block}" for block in self.blocks), "d_input"]
        return [name for name in names if name in self.arrays] if "d_input" in self.arrays else names

    def why_not(self, name: str) -> str:
        """Why a gradient of that name is missing, for error messages; "" if no cell's `backward` returns it."""
        given = name[:2] if name in [f"dz_{block}" for block in self.blocks] else name
        known = "z" not in (*self.gates, *self.states) if given == "dz" else given in [f"d{s}" for s in self.states]
        return f": backward of {self.cell} does not return {given}" if known else ""

    @property
    def memory(self) -> list[str]:
        """Names of the states that are not gates, the last one first: c and h of an LSTM, h of a GRU."""
        return [state for state in reversed(self.states) if state not in self.gates] or [*reversed(self.states)]

    @property
    def units(self) -> int:
        """The number of units, H: the size of the last state in `memory`."""
        return self.arrays[self.memory[0]].shape[2]

    @property
    def d_words(self) -> np.ndarray:
        """The norm of `d_input` at each step: how much the word there affects the loss, (B, T) in float64.

        Raises:
            ValueError: the trace has no gradients.
        """
        d_input = self.gradient("d_input").astype("float64")
        largest = np.max(np.abs(d_input), axis=-1, keepdims=True, initial=0)
        scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1)  # so that no square overflows
        return np.linalg.norm(d_input / scale, axis=-1) * scale[..., 0]

    def importance(self, sample: int = 0, steps: Any = slice(None)) -> np.ndarray:
        """How much the loss depends on each unit in a sample, (H,) in float64: the sum of `|dL/dc · c|` over the steps.

        c is the first name in `memory` whose gradient the trace has. To first order, scaling c by a fraction at every
        step changes the loss by at most that fraction of it. Without gradients it is the sum of `|c|` of the first.

        Args:
            sample: number of the row in the batch.
            steps: an index that selects steps; masked ones are ignored.

        Raises:
            ValueError: no such sample or steps.
        """
        sample, T = checks.index("sample", sample, len(self.mask)), self.mask.shape[1]
        try:
            steps = np.atleast_1d(np.arange(T)[steps])
        except (IndexError, TypeError) as error:
            raise ValueError(f"steps must be an index into the {T} steps, but {error}") from error
        if steps.ndim > 1:
            raise ValueError(f"steps must choose a row of steps, not {steps.ndim} dimensions of them")
        state = next((each for each in self.memory if self.has_units(f"d{each}")), None)
        cells = self.arrays[state or self.memory[0]][sample, steps].astype("float64")  # (steps, H)
        slopes = self.arrays[f"d{state}"][sample, steps] if state else 1.0
        return np.sum(np.abs(slopes * cells), axis=0, where=self.mask[sample, steps, None])

    def gradient(self, name: str) -> np.ndarray:
        """The gradient of that name.

        Raises:
            ValueError: no such gradient, or a trace without gradients.
        """
        if not isinstance(name, str) or name not in self.gradients:
            why = self.why_not(name) if isinstance(name, str) else ""
            wanted = f"that of a gradient, one of {', '.join(self.gradients)}"
            raise ValueError(f"name must be {wanted}, not {name!r:.80}{why}")
        if name not in self.arrays:
            raise ValueError(f"{name} is a gradient, so the trace needs a target: trace(model, x, y)")
        return self.arrays[name]

    def as_dict(self) -> dict[str, np.ndarray]:
        """All arrays by name, for example for `np.savez`."""
        return dict(self.arrays)

    def table(self, sample: int = 0, unit: int = 0) -> list[dict[str, Any]]:
        """One sample and unit, step by step: "step" (from 0), "counts", and a number for each array (B, T, H).

        Raises:
            ValueError: no such sample or unit.
        """
        sample, unit = checks.index("sample", sample, len(self.mask)), checks.index("unit", unit, self.units)
        names = [*(f"z_{block}" for block in self.blocks), *self.gates]
        names += [name for state in reversed(self.states) for name in (f"{state}_prev", state)]
        names += [name for name in self.gradients if name != "d_input"]
        of_unit = [name for name in names if self.has_units(name)]
        columns = [self.arrays[name][sample, :, unit].tolist() for name in of_unit]
        rows = zip(range(self.mask.shape[1]), self.mask[sample].tolist(), *columns, strict=True)
        return [dict(zip(["step", "counts", *of_unit], row, strict=True)) for row in rows]

    def has_units(self, name: str) -> bool:
        """Whether the trace has that array, with one value per unit: not if h is narrower than c."""
        return name in self.arrays and self.arrays[name].shape == (*self.mask.shape, self.units)

    def __repr__(self) -> str:
        B, T, E = self.input.shape
        names = [*self.gates, *self.memory, *(f"d{state}" for state in reversed(self.memory))]
        width = max(3, *(len(name) + 1 for name in names))
        lines = [
            f"LayerTrace {self.name!r}: {B} sample{'s' * (B != 1)}, {T} steps, {E} features, {self.units} units"
            + (", backwards" if self.go_backwards else "")
            + ("" if self.mask.all() else f"; {np.mean(self.mask):.0%} of the steps count"),
            f"  {'':{width}}{'mean':>10}{'min':>10}{'max':>10}",
        ]
        for name in (name for name in names if name in self.arrays):
            values = self.arrays[name][self.mask]
            numbers = "".join(f"{of(values):10.3g}" for of in (np.mean, np.min, np.max)) if values.size else "  (none)"
            lines.append(f"  {name:<{width}}{numbers}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Trace:
    """What every recurrent cell of a model did with a batch: `trace["gru"]`, or `trace.lstm` for the only LSTM.

    Attributes:
        x: the input, (B, ...); a tuple for several inputs.
        y: the target, or None; a tuple for several outputs.
        prediction: the model's output, (B, ...); a tuple of several.
        loss: as from `Model.evaluate`; None without a target.
        layers: name -> `LayerTrace`, in the model's order.
    """

    x: Any
    y: Any
    prediction: Any
    loss: float | None
    layers: dict[str, LayerTrace]

    def __getitem__(self, name: str | None) -> LayerTrace:
        """The layer of that name; None means the only one.

        Raises:
            ValueError: no such layer, or several to choose from; the message lists them.
        """
        return choose(self.layers, name)

    @property
    def lstm(self) -> LayerTrace:
        """The only LSTM.

        Raises:
            ValueError: there is none, or there are several; the message lists them.
        """
        return choose(self.lstms("trace.lstm"), None)

    def lstms(self, caller: str) -> dict[str, LayerTrace]:
        """The LSTMs by name.

        Args:
            caller: the caller's name, for the error message.

        Raises:
            ValueError: there is none.
        """
        ours = LSTMCell.__name__, LSTMCell.gates, LSTMCell.states
        found = {name: of for name, of in self.layers.items() if (of.cell, of.gates, of.states) == ours}
        if not found:
            has = ", ".join(f"{name} ({layer.cell})" for name, layer in self.layers.items())
            raise ValueError(f"{caller} shows an LSTM, but the model has none: it has {has}")
        return found

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        inputs, outputs = (each if isinstance(each, tuple) else (each,) for each in (self.x, self.prediction))
        count = len(outputs[0])
        read = f"1 sample, input {', '.join(map(_brief, inputs))}" if count == 1 else f"{count} samples"
        head = f"Trace of {read}, prediction {', '.join(map(_brief, outputs))}{loss}"
        return "\n".join([head, *map(repr, self.layers.values())])


def _brief(array: np.ndarray) -> str:
    """The values of a single sample in one row, or a few of them if there are many; otherwise the shape."""
    if len(array) != 1 or array.ndim != 2:
        return str(array.shape)
    return np.array2string(array[0], precision=4, threshold=16, edgeitems=4, max_line_width=1000)


def trace(model: Any, x: Any, y: Any = None, *, sample_weight: Any = None) -> Trace:
    """Compute every gate and state of a model's recurrent cells for a batch; given a target, also their gradients.

    The model is not changed: parameters, gradients, states of stateful layers (which the pass starts from), dropout's
    generators, optimizer. Dropout is off. All values are computed by the cell's own `forward` and `backward` (for an
    LSTM, the functions of `scratchlstm.gates`) from the layer's input, states and mask, so they are the same for every
    implementation. An exploding gradient is shown as it is, infinite or NaN, with NumPy's warning.

    Args:
        model: a built `Sequential` or `Model` with a recurrent layer, `LSTM`, `GRU`, `RNN(cell)`, ..., possibly within
            `Bidirectional`. If a layer has several cells, each has a trace: "rnn/cell_0", ... A layer used in several
            places has one for each use: "lstm", "lstm#2", ... in the order of computation. (Within `TimeDistributed` it
            runs over a separate sequence at each outer step s of S: row b·S + s of its arrays.)
        x: a batch, as for the model.
        y: targets; the model must then be compiled.
        sample_weight: weights for the loss, (B,).

    Raises:
        TypeError: not a model, or data that are not numeric.
        ValueError: not built, without a recurrent layer, or data of the wrong shape.
        RuntimeError: a target is given, but the model is not compiled.
    """
    recording = record(model, x, y, sample_weight, "trace")
    if not recording.layers:
        has = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in model.layers)
        raise ValueError(f"trace shows the gates of recurrent layers, but the model has none: it has {has}")
    return Trace(*recording[:4], {name: trace_layer(name, of) for name, of in recording.layers.items()})


def trace_layer(name: str, of: Recorded) -> LayerTrace:
    """A cell's steps, from the recording; here all arrays are in the order of computation."""
    cell, backwards = of.cell, of.layer.go_backwards
    x, mask = reverse_steps(of.x, backwards), np.ones(of.x.shape[:2], bool)
    if of.mask is not None:
        mask = reverse_steps(of.mask, backwards)
    at, caches = [of.states], []  # the states before each step, and after the last
    for t in range(x.shape[1]):
        _, states, kept = scan(cell, x[:, t : t + 1], at[-1], of.params, mask[:, t : t + 1])
        at.append(states)
        caches += kept.caches
    states_at = {state: _stack(each) for state, each in zip(cell.states, zip(*at, strict=True), strict=True)}
    steps = {"input": x, "mask": mask} | {f"{state}_prev": each[:, :-1] for state, each in states_at.items()}
    steps |= _z_by_block("z", cell, _pre_activations(of, x, steps[f"{cell.states[0]}_prev"], caches))
    steps |= {gate: _stack(getattr(cache, gate) for cache in caches) for gate in cell.gates}
    steps |= {state: each[:, 1:] for state, each in states_at.items()}
    if of.reached is not None:
        steps |= _gradients(of, of.reached, caches, mask)
    params = {param: array.copy() for param, array in zip(cell.param_specs(1), of.params, strict=True)}
    in_time = {key: np.ascontiguousarray(reverse_steps(array, backwards)) for key, array in steps.items()}
    phi, sigma = (getattr(getattr(cell, each, None), "name", None) for each in ("activation", "recurrent_activation"))
    names = cell.gates, cell.blocks, cell.states
    return LayerTrace(name, type(cell).__name__, phi, sigma, backwards, *names, params | in_time)


def _pre_activations(of: Recorded, x: np.ndarray, h_prev: np.ndarray, caches: list[Any]) -> np.ndarray | None:
    """z of all blocks, (B, T, nH); None if not known."""
    if hasattr(caches[0], "z"):
        return _stack(cache.z for cache in caches)
    if of.cell.params != ("W", "U", "b") or "h_in" not in of.cell.arguments or "h_prev" in of.cell.arguments:
        return None  # h_prev may reach a gate in other ways than the product
    W, U, b = of.params
    return x @ W + h_prev @ U + b


def _gradients(of: Recorded, reached: Any, caches: list[Any], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Backpropagation through time, keeping each step's gradients."""
    dh, (d_last, *d_others) = reached
    dh_above = of.layer.dh_in_order(dh, len(caches))  #  (B, T, H)
    if d_last is not None:
        dh_above[:, -1] += d_last
    kept = Scan(caches, of.params, mask, None, None)
    shown = {"dx", "dz", *(f"d{state}" for state in of.cell.states)}  # not dW, as one per step would take much memory
    back: list[StepBack] = []
    for step in steps_back(of.cell, dh_above, [None, *d_others], kept):
        back.append(step._replace(gradients={name: step.gradients[name] for name in shown & {*step.gradients}}))
    back.reverse()
    found, given = {f"d{of.cell.states[0]}_above": dh_above}, back[0].gradients
    for number, state in enumerate(of.cell.states):
        arrived = _stack(step.arrived[number] for step in back)
        handed_on = _stack(step.handed_on[number] for step in back)
        after = arrived if number else np.concatenate([handed_on[:, 1:], np.zeros_like(handed_on[:, :1])], axis=1)
        found |= {f"d{state}_next": after}
        if f"d{state}" in given:
            whole = _stack(step.gradients[f"d{state}"] for step in back)
            found[f"d{state}"] = np.where(mask[..., None], whole, arrived)
        elif not number:  # for other states, only the cell knows the path through this step's output
            found[f"d{state}"] = arrived
        found[f"d{state}_prev"] = handed_on
    if "dz" in given:
        found |= _z_by_block("dz", of.cell, _stack(step.gradients["dz"] for step in back))
    return found | {"d_input": _stack(step.gradients["dx"] for step in back)}


def _stack(steps: Iterable[np.ndarray]) -> np.ndarray:
    """(B, H) of each step -> (B, T, H)."""
    return np.stack(list(steps), axis=1)


def _z_by_block(name: str, cell: Cell, z: np.ndarray | None) -> dict[str, np.ndarray]:
    """Z or dz by block; empty if not known, or if the cell calls a gate or state z."""
    known = z is not None and z.shape[2:] == (len(cell.blocks) * cell.units,)
    return by_block(name, cell.blocks, z) if known and "z" not in (*cell.gates, *cell.states) else {}


def by_block(name: str, blocks: Sequence[str], columns: Any) -> dict[str, np.ndarray]:
    """The blocks of an array (..., nH), as "name_i", "name_f", ..."""
    parts = np.split(columns, len(blocks), axis=-1)
    return {f"{name}_{block}": part for block, part in zip(blocks, parts, strict=True)}
