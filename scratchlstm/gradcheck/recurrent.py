"""Say what is wrong in a recurrent layer: in a single step, or in the loop over the steps.

A single step is run sample by sample: then the gradient of the bias is dz, the gradient before the gates' activations,
of that sample. The result of each known mistake is compared with what was found, so nothing wrong is claimed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm.cells import Cell, LSTMCell
from scratchlstm.cells.scan import scan
from scratchlstm.gates import StepCache
from scratchlstm.gradcheck.diagnosis import Finding, explain, explain_step, right_step
from scratchlstm.gradcheck.loop import diagnose_loop, same
from scratchlstm.gradcheck.numerical import EPSILON, EVERY_NUMBER, numerical_gradient, relative_error, slope
from scratchlstm.gradcheck.report import TOLERANCE
from scratchlstm.layers import Layer
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import RNN, Part
from scratchlstm.layers.weights import known_features

Arrays = Sequence[Any]
ByName = dict[str, np.ndarray]
SAMPLES, STEPS = 4, 3  # different sizes, so that means over samples and over steps are not confused
ALL = slice(None)
LOOP = "right in one step, wrong over several: the loop"


class Ran(NamedTuple):
    """One forward pass and its backward pass."""

    outputs: Arrays  # h as the layer returns it, and the final states (B, H)
    back: Callable[[Arrays], ByName]  # dL/d of each output -> gradients by name


class OneCell(NamedTuple):
    """A cell of one of our layers, run by that layer's own loop."""

    layer: RNN
    name: str

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.layer.cells[self.name]

    @property
    def features(self) -> int:
        """E, the size of the cell's input."""
        sizes = [cell.output_size for cell in self.layer.cells.values()]
        number = list(self.layer.cells).index(self.name)
        return sizes[number - 1] if number else known_features(self.layer.name, self.layer.input_shape or ())

    def run(self, x: np.ndarray, states: Arrays, params: Arrays) -> Ran:
        """Run both passes over x, (B, T, E)."""
        part = Part(self.cell, list(params), x, list(states), None, None, None, None)
        h, final, steps = self.layer.scan(part, Pass(keeps_states=False))

        def back(d_outputs: Arrays) -> ByName:
            dh, *d_final = d_outputs
            dx, grads, d_initial = self.layer.scan_back(dh.copy(), d_final, part._replace(steps=steps), True)
            of_params = {f"d{name}": d for name, d in zip(self.cell.params, grads, strict=True)}
            of_states = {f"d{name}_prev": d for name, d in zip(self.cell.states, d_initial, strict=True)}
            return {"dx": dx} | of_params | of_states

        return Ran([h, *final], back)


class Trial:
    """A cell with random inputs, initial states and dL/d of every output."""

    def __init__(self, one: OneCell, steps: int, rng: np.random.Generator) -> None:
        self.one, self.cell, self.params = one, one.cell, one.layer.kernels(one.name)
        self.x = rng.normal(size=(SAMPLES, steps, one.features))
        self.states = [rng.normal(size=(SAMPLES, size)) for size in self.cell.state_sizes.values()]
        self.d_outputs = [rng.normal(size=y.shape) for y in self.run().outputs]
        self.d_outputs[1][...] = 0  # the final state that is also the output

    def run(self, samples: slice = ALL) -> Ran:
        """Run both passes over the samples."""
        return self.one.run(self.x[samples], [state[samples] for state in self.states], self.params)

    def gradients(self, samples: slice = ALL) -> ByName:
        """The layer's gradients."""
        return self.run(samples).back([d[samples] for d in self.d_outputs])

    def slopes(self, array: np.ndarray, samples: slice = ALL) -> np.ndarray:
        """The numerical gradient."""
        return numerical_gradient(lambda: self.loss(samples), array)

    def loss(self, samples: slice = ALL) -> float:
        """The loss whose gradients are checked."""
        outputs = zip(self.d_outputs, self.run(samples).outputs, strict=True)
        return sum(float(np.sum(d[samples] * y)) for d, y in outputs)

    def is_right(self, found: ByName, rng: np.random.Generator) -> bool:
        """Whether the slopes along random directions match the gradients."""
        directions = {name: rng.normal(size=array.shape) for name, array in self.inputs.items()}
        slopes = {name: slope(self.loss, self.inputs[name], d, EPSILON) for name, d in directions.items()}
        return all(relative_error(np.sum(found[name] * d), slopes[name]) <= TOLERANCE for name, d in directions.items())

    @property
    def inputs(self) -> ByName:
        """Everything that has a gradient, by the gradients' names."""
        names = ["x", *(f"{name}_prev" for name in self.cell.states), *self.cell.params]
        return {f"d{name}": a for name, a in zip(names, [self.x, *self.states, *self.params], strict=True)}

    @property
    def at_hand(self) -> ByName:
        """Everything available for computing the gradients of the first step."""
        cell, (dh, _, *others) = self.cell, self.d_outputs
        _, new, kept = scan(cell, self.x[:, :1], self.states, self.params)
        hand = _fields(kept.caches[0]) | dict(zip(cell.params, self.params, strict=True))
        hand |= dict(zip(cell.states, new, strict=True))
        hand |= {f"{name}_prev": state for name, state in zip(cell.states, self.states, strict=True)}
        hand |= {f"d{name}": d for name, d in zip(cell.states, [dh.reshape(SAMPLES, -1), *others], strict=True)}
        return {name: a for name, a in hand.items() if np.shape(a) in ((SAMPLES, cell.units), (cell.units,))}


def diagnoses(layer: Layer, seed: int) -> list[str]:
    """What is wrong in each cell of the recurrent layers inside, as far as it is recognised."""
    inner = {id(each): each for each in layer.with_inner() if isinstance(each, RNN) and each.trainable}
    cells = [OneCell(each, name) for each in inner.values() if each.backend == "numpy" for name in each.cells]
    found = {f"{one.layer.name}{'/' * bool(one.name)}{one.name}: ": _of_cell(one, seed) for one in cells}
    return [(name if len(cells) > 1 else "") + line for name, lines in found.items() for line in lines]


def _of_cell(one: OneCell, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    several, alone = Trial(one, STEPS, rng), Trial(one, 1, rng)
    found = several.gradients()
    if any(found[name].shape != array.shape for name, array in several.inputs.items()) or several.is_right(found, rng):
        return []  # the table names the wrong shape
    step = _of_step(alone)
    order = slice(None, None, -1 if one.layer.go_backwards else 1)
    found["dx"] = found["dx"][:, order]
    dhs, d_final = one.layer.dh_in_order(several.d_outputs[0], STEPS), several.d_outputs[1:]
    loop = diagnose_loop(one.cell, several.x[:, order], several.states, several.params, dhs, d_final, found)
    if loop:
        return [f"{'the loop' if step else LOOP}. {words}" for words in loop]
    return [line for line in step if line] if step or loop is not None else [LOOP]


def _of_step(trial: Trial) -> list[str]:
    """A line for each mistake in a single step; "" for one that is not recognised."""
    cell, hand = trial.cell, trial.at_hand
    found = trial.gradients()
    right = {name: trial.slopes(array) for name, array in trial.inputs.items() if array.size <= EVERY_NUMBER}
    if dz := _dz(trial):
        found, right = ({**named, **_by_block(cell, of)} for named, of in zip((found, right), dz, strict=True))
    wrong = [name for name in right if not relative_error(found[name], right[name]) <= TOLERANCE]
    if wrong and _is_lstm(trial, hand, right):
        return [f"{each.equation} {each.name}: {each.text}" if each.text else "" for each in _equations(trial, hand)]
    of_gates = [name for name in wrong if name.startswith("dz_")]  # a wrong dz makes everything after it wrong
    of_z = {} if of_gates else {name: d for name, d in found.items() if name.startswith("dz_")}
    at_hand: dict[str, Any] = hand | of_z | {"B": SAMPLES}
    said = {name: explain(found[name], right[name], at_hand) for name in of_gates or wrong}
    return [f"{name}: {words}" if words else "" for name, words in said.items()]


def _dz(trial: Trial) -> tuple[np.ndarray, np.ndarray] | None:
    """dL/dz of one step as found, and the right one, (B, nH); None if the cell has no z.

    If x and h_prev are multiplied by W and U, the gradients of these reveal dz, as does that of the bias: the dz found
    is the one that two of the three agree on.
    """
    names, each = list(trial.cell.param_specs(1)), [slice(n, n + 1) for n in range(SAMPLES)]
    params = dict(zip(names, zip(trial.cell.params, trial.params, strict=True), strict=True))
    width = len(trial.cell.blocks) * trial.cell.units
    if "bias" not in params or params["bias"][1].shape != (width,):
        return None
    alone = [trial.gradients(sample) for sample in each]
    shown = [np.stack([of_one[f"d{params['bias'][0]}"] for of_one in alone])]
    for name, a in ("kernel", trial.x[:, 0]), ("recurrent_kernel", trial.states[0]):
        if name in params and params[name][1].shape == (a.shape[1], width):
            d = np.stack([of_one[f"d{params[name][0]}"] for of_one in alone])
            shown.append(np.einsum("nk,nkz->nz", a, d) / np.sum(a * a, axis=1, keepdims=True))
    found = np.median(shown, axis=0)
    if sum(same(found, dz) for dz in shown) < min(2, len(shown)):
        return None
    return found, np.stack([trial.slopes(params["bias"][1], sample) for sample in each])


def _by_block(cell: Cell, dz: np.ndarray) -> ByName:
    return {f"dz_{name}": block for name, block in zip(cell.blocks, cell.split(dz), strict=True)}


def _is_lstm(trial: Trial, hand: ByName, right: ByName) -> bool:
    """Whether the step is that of (1) to (6), so that (7) to (21) are its derivatives."""
    cell = trial.cell
    if not isinstance(cell, LSTMCell) or type(cell).forward is not LSTMCell.forward:
        return False
    of_gates = _by_block(cell, right_step({**hand, "dc_next": hand["dc"]}).dz)
    return all(name in right and relative_error(right[name], dz) <= TOLERANCE for name, dz in of_gates.items())


def _equations(trial: Trial, hand: ByName) -> list[Finding]:
    """The wrong equations among (7) to (21)."""
    W, U, b = trial.params
    known = hand | {"x": trial.x[:, 0], "W": W, "U": U, "b": b, "dc_next": hand["dc"]}

    def backward(dh: np.ndarray, dc_next: np.ndarray, cache: StepCache, *weights: np.ndarray) -> ByName:
        ran = trial.one.run(cache.x[:, None], [cache.h_prev, cache.c_prev], trial.params)
        found = ran.back([dh.reshape(ran.outputs[0].shape), np.zeros_like(dh), dc_next])
        return found | {"dx": found["dx"][:, 0]}

    return explain_step(backward, known)


def _fields(cache: Any) -> dict[str, Any]:
    return cache._asdict() if hasattr(cache, "_asdict") else getattr(cache, "__dict__", {})
