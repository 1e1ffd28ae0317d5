"""Find what is wrong in a custom recurrent layer, by calling only its forward(x) and backward(dy).

It starts from zeros, so a single step would show nothing of a forget gate. We run two, with a gradient only at the
last, for a single sample: then the kernel's gradient is x_0 dz_0 + x_1 dz_1, which reveals the dz of both steps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm.cells import LSTMCell
from scratchlstm.cells.scan import scan
from scratchlstm.gradcheck.diagnosis import NUMBERS, explain, wrong_equations
from scratchlstm.gradcheck.loop import NOT_CARRIED, Loop, diagnose_loop, run_loop, same
from scratchlstm.gradcheck.numerical import EPSILON, relative_error, slope
from scratchlstm.gradcheck.recurrent import LOOP, SAMPLES, STEPS
from scratchlstm.gradcheck.report import TOLERANCE
from scratchlstm.layers import Layer
from scratchlstm.layers.passes import Pass

ByName = dict[str, np.ndarray]
IN_KERAS_ORDER = "its four blocks of columns are assumed to be in Keras' order, i f g o"
CARRIED = "right in the last step, wrong before it: what a step passes to the previous one, or the loop"
MIXED = "a sample's gradients differ in a batch and alone: use only its own values, and take no mean over the batch"
ABOVE = "the loop. The gradient from above at step t belongs to another step, or is lost: add dy[:, t]"
_NAMES = {"kernel": "dW", "recurrent_kernel": "dU", "bias": "db"}


def own_blocks(layer: Any) -> dict[str, tuple[str, ...]]:
    """Like `Layer.column_blocks`, for a layer with a recurrent_kernel (H, nH): parameter -> names of its blocks."""
    shape = np.shape(layer.params.get("recurrent_kernel"))
    if len(shape) != 2 or not shape[0] or shape[1] % shape[0]:
        return {}
    n = shape[1] // shape[0]
    names = tuple("ifgo") if n == 4 else tuple(f"block {number}" for number in range(1, n + 1))
    return {name: names for name, param in layer.params.items() if np.shape(param)[-1:] == shape[1:]}


class Trial:
    """One pass of the layer over a random x, starting from zeros."""

    def __init__(self, layer: Any, B: int, T: int, rng: np.random.Generator, last_only: bool = False) -> None:
        self.layer, self.W, self.U = layer, layer.params["kernel"], layer.params["recurrent_kernel"]
        self.x, self.dhs = rng.normal(size=(B, T, len(self.W))), rng.normal(size=(B, T, len(self.U)))
        if last_only:
            self.dhs[:, :-1] = 0
        self.run()

    def run(self) -> None:
        """Run both passes; results are copied, since a layer may reuse its arrays."""
        y, cache = self.forward()
        self.y = np.array(y)
        if self.y.ndim == 2:
            self.dhs[:, :-1] = 0
        self.dy = self.dhs if self.y.ndim == 3 else self.dhs[:, -1]
        if isinstance(self.layer, Layer):
            dx, grads = self.layer.backward(self.dy, cache)
        else:
            dx, grads = self.layer.backward(self.dy), self.layer.grads
        found = {"dx": dx} | {_NAMES[name]: d for name, d in grads.items() if name in _NAMES}
        self.found = {name: np.array(d) for name, d in found.items()}

    @classmethod
    def batch(cls, trials: Sequence["Trial"], backwards: bool = False) -> "Trial":
        """The samples of several trials in one pass; if `backwards`, the last step's gradient goes to the first."""
        batch = object.__new__(cls)
        batch.layer, batch.W, batch.U = trials[0].layer, trials[0].W, trials[0].U
        batch.x, batch.dhs = (np.concatenate([getattr(each, name) for each in trials]) for name in ("x", "dhs"))
        if backwards:
            batch.dhs = batch.dhs[:, ::-1].copy()
        batch.run()
        return batch

    def forward(self) -> tuple[np.ndarray, Any]:
        """y, and any other arguments of `backward`."""
        layer = self.layer
        return layer.forward(self.x, Pass()) if isinstance(layer, Layer) else (layer.forward(self.x), None)

    def loss(self) -> float:
        """The loss whose gradients are checked."""
        return float(np.sum(self.dy * self.forward()[0]))

    def dz(self) -> np.ndarray:
        """dL/dz of each step (T, nH), computed from the kernel's gradient for one sample."""
        return np.linalg.pinv(self.x[0]).T @ self.found["dW"]

    def right_dz(self) -> np.ndarray:
        """The numerical one: the slope along the change of the kernel that adds to z at just one step."""
        directions = np.linalg.pinv(self.x[0]).T
        units = np.eye(self.W.shape[1])
        return np.array([[slope(self.loss, self.W, np.outer(d, unit), EPSILON) for unit in units] for d in directions])


def diagnose(layer: Any, seed: int) -> tuple[list[bool], list[str]]:
    """Whether each block of columns is wrong in the last step itself, and what is wrong, if recognised."""
    if np.ndim(layer.params.get("kernel")) != 2 or len(layer.params["kernel"]) < 2:
        return [], []
    rng = np.random.default_rng(seed)
    alone = [Trial(layer, 1, 2, rng, last_only=True) for _ in range(SAMPLES)]
    n = alone[0].U.shape[1] // len(alone[0].U)
    before, last = zip(alone[0].dz(), alone[0].right_dz(), strict=True)
    wrong = [not relative_error(*block) <= TOLERANCE for block in zip(*(np.split(dz, n) for dz in last), strict=True)]
    if n == 4 and (lstm := _LSTM.of(layer, alone)):
        return wrong, lstm.mistakes(Trial(layer, SAMPLES, STEPS, rng), alone, any(wrong))
    if any(wrong):
        return wrong, [IN_KERAS_ORDER] * (n == 4)
    return wrong, [] if relative_error(*before) <= TOLERANCE else [CARRIED]


class _LSTM(NamedTuple):
    """A layer that computes an LSTM, so that its inner values are known."""

    cell: LSTMCell
    params: list[np.ndarray]

    @classmethod
    def of(cls, layer: Any, trials: Sequence[Trial]) -> "_LSTM | None":
        """None if the layer's forward pass is a different one."""
        W, U = trials[0].W, trials[0].U
        lstm = cls(LSTMCell(len(U)), [W, U, layer.params.get("bias", np.zeros(U.shape[1]))])
        if lstm.params[2].shape != U.shape[1:]:
            return None
        hs = [lstm.scan(trial.x)[0] for trial in trials]
        fits = [same(trial.y, h if trial.y.ndim == 3 else h[:, -1]) for trial, h in zip(trials, hs, strict=True)]
        return lstm if all(fits) else None

    def scan(self, x: np.ndarray) -> Any:
        """Run over x, starting from zeros."""
        return scan(self.cell, x, [np.zeros((len(x), self.cell.units))] * 2, self.params)

    def mistakes(self, several: Trial, alone: Sequence[Trial], last_is_wrong: bool) -> list[str]:
        """A line for each recognised mistake: in the loop, in the last step, in sums, or in what leads to step 0."""
        zeros = [np.zeros((SAMPLES, self.cell.units))] * 2
        loop = diagnose_loop(self.cell, several.x, zeros, self.params, several.dhs, [None, None], several.found)
        if loop is not None:
            return [f"{LOOP}. {words}" for words in loop]
        batch, above = Trial.batch(alone), Trial.batch(alone, backwards=True)
        dx, has_steps = batch.found["dx"], batch.y.ndim == 3
        if not (np.isfinite(dx).all() and same(dx, Trial.batch(alone).found["dx"])):
            return []
        if not same(dx, np.concatenate([trial.found["dx"] for trial in alone])):
            return [MIXED]
        if has_steps and above.found["dx"][:, 1].any():
            return [ABOVE]
        if (last := self.in_last_step(alone)) or last_is_wrong:
            return last
        hs, _, kept = self.scan(several.x)
        steps, _ = run_loop(self.cell, Loop(), kept.caches, self.params, several.dhs, [None, None])
        if not same(several.found["dx"], np.stack([step["dx"] for step in steps], axis=1)):
            lost = has_steps and not above.found["dx"][:, 0].any()
            return [ABOVE] if lost else self.in_what_is_carried(alone) or [CARRIED]
        hand = {name: np.concatenate([getattr(cache, name) for cache in kept.caches]) for name in ("x", "h_prev")}
        hand |= {"h": np.concatenate(np.swapaxes(hs, 0, 1)), "dz": np.concatenate([step["dz"] for step in steps])}
        totals = {name: sum(step[name] for step in steps) for name in _NAMES.values() if name in several.found}
        return _explained(several.found, totals, hand | {"B": SAMPLES, "T": STEPS})

    def in_last_step(self, alone: Sequence[Trial]) -> list[str]:
        """The wrong equations of the last step, except (12), (18) and (21)."""
        known, _ = self.last_step(alone)
        dx, dU = (np.array([trial.found[name] for trial in alone]) for name in ("dx", "dU"))
        dW = known["x"][:, :, None] * np.array([trial.dz()[1] for trial in alone])[:, None]
        findings = wrong_equations({"dx": dx[:, 0, 1], "dW": dW, "dU": dU}, known)
        # if nothing of the last step remains in dW or dU, step 0 may have overwritten it
        hidden = [name for name, d in (("dW", dW), ("dU", dU)) if np.allclose(d, 0, rtol=0, atol=1e-12)]
        return [
            f"{each.equation} {each.name}: {each.text}" for each in findings if each.text and each.name not in hidden
        ]

    def last_step(self, alone: Sequence[Trial]) -> tuple[ByName, list[Any]]:
        """The last step, where dh is the only gradient, by name; and the caches of both."""
        hs, (_, c), kept = self.scan(np.concatenate([trial.x for trial in alone]))
        dh = np.concatenate([trial.dhs[:, 1] for trial in alone])
        given = {"h": hs[:, 1], "c": c, "dh": dh, "dc_next": np.zeros_like(dh)}
        return kept.caches[1]._asdict() | dict(zip("WUb", self.params, strict=True)) | given, kept.caches

    def in_what_is_carried(self, alone: Sequence[Trial]) -> list[str]:
        """(12) and (18): dz of step 0 reveals its dh and dc."""
        known, caches = self.last_step(alone)
        i, g, o, tanh_c = (getattr(caches[0], name) for name in ("i", "g", "o", "tanh_c"))
        dz_i, _, _, dz_o = np.split(np.array([trial.dz()[0] for trial in alone]), 4, axis=1)
        dh_prev = dz_o / (tanh_c * o * (1 - o))
        found = {"dh_prev": dh_prev, "dc_prev": dz_i / (g * i * (1 - i)) - dh_prev * o * (1 - tanh_c**2)}
        step = self.cell.backward(known["dh"], known["dc_next"], caches[1], *self.params)
        right = {"dh_prev": step["dh_in"], "dc_prev": step["dc_prev"]}
        lost = [state for state in self.cell.states if np.allclose(found[f"d{state}_prev"], 0, rtol=0, atol=1e-9)]
        if lost:
            return [f"the loop. {NOT_CARRIED.format(state)}" for state in lost]
        return _explained(found, right, known | {"dc": step["dc"], "dz": step["dz"]})


def _explained(found: ByName, right: ByName, hand: Any) -> list[str]:
    said = {name: explain(found[name], value, hand) for name, value in right.items()}
    return [f"({NUMBERS[name]}) {name}: {words}" for name, words in said.items() if words]
