"""The adding problem, solved with a cell of your own.

Each step shows a random number from 0 to 1 and a mark. The mark is 1 at two steps, one in each half of the sequence,
and 0 at all others. What is the sum of the two marked numbers? Always answering 1, the mean sum, gives a mean squared
error of 1/6 = 0.167. To do better, a cell has to remember. Here is one whose output h is its memory:

    f = σ(z_f),  i = σ(z_i),  g = tanh(z_g)      z = x W + h_prev U + b, three blocks of H columns
    (S1)  h = f h_prev + i g

Write it forward and backward. `dh` is given, the whole gradient of h. h_prev is in the sum (S1), and in z. Then run
this file: it checks the gradients, and trains the cell.

Any other cell of your own is fine, too, if its gradients are right and it solves the problem: change the gates as you
like.

Shapes: x (B, E), W (E, 3H), U (H, 3H), b (3H,); all others (B, H).
"""

from typing import NamedTuple

import numpy as np

from scratchlstm.cells import Cell
from scratchlstm.gates import sigmoid
from scratchlstm.gradcheck import check_layer
from scratchlstm.layers import RNN, Dense
from scratchlstm.models import Sequential
from scratchlstm.optimizers import Adam

SOLVED = 0.02  # the mean squared error must be below this


class StepCache(NamedTuple):
    """What the backward pass needs from a step."""

    x: np.ndarray
    h_prev: np.ndarray
    f: np.ndarray
    i: np.ndarray
    g: np.ndarray


class OwnCell(Cell):
    """(S1), one step, and its derivatives."""

    gates = ("f", "i", "g")

    def forward(self, x, h_prev, W, U, b):
        z_f, z_i, z_g = self.split(x @ W + h_prev @ U + b)  # (B, H) each
        f, i, g = sigmoid(z_f), sigmoid(z_i), np.tanh(z_g)
        h = f * h_prev + i * g  # (S1) ?
        return h, StepCache(x, h_prev, f, i, g)

    def backward(self, dh, cache, W, U, b):
        x, h_prev, f, i, g = cache
        df = dh * h_prev  # ?
        di = dh * g  # ?
        dg = dh * i  # ?
        dz_f = df * f * (1 - f)  # ?
        dz_i = di * i * (1 - i)  # ?
        dz_g = dg * (1 - g * g)  # ?
        dz = np.concatenate([dz_f, dz_i, dz_g], axis=1)  # (B, 3H)
        dx = dz @ W.T
        dh_prev = dh * f + dz @ U.T  # ?
        dW = x.T @ dz  # ?
        dU = h_prev.T @ dz  # ?
        db = np.sum(dz, axis=0)  # ?
        return {"dx": dx, "dh_prev": dh_prev, "dW": dW, "dU": dU, "db": db}


def sequences(count, T, rng):
    """Numbers and marks, (count, T, 2), and the sums, (count, 1)."""
    x, rows = np.zeros((count, T, 2)), np.arange(count)
    x[:, :, 0] = rng.random((count, T))
    first, second = rng.integers(0, T // 2, count), rng.integers(T // 2, T, count)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, (x[rows, first, 0] + x[rows, second, 0])[:, None]


def gradients(cell):
    """gradcheck's table for a cell of 2 units, over 3 steps."""
    layer = RNN(cell, return_sequences=True, dtype="float64")
    return check_layer(layer, np.random.default_rng(0).normal(size=(3, 3, 4)))


def trained(cell, T=10, seed=0):
    """The mean squared error of a trained cell on new sequences, and the model."""
    rng = np.random.default_rng(seed)
    model = Sequential([RNN(cell, input_shape=(T, 2)), Dense(1)], seed=seed)
    model.compile(Adam(0.03, clipnorm=1.0), "mean_squared_error")
    model.fit(*sequences(2000, T, rng), batch_size=50, epochs=5, verbose=0)
    return model.evaluate(*sequences(500, T, rng), verbose=0), model


if __name__ == "__main__":
    print(gradients(OwnCell(2)))
    print(f"mean squared error {trained(OwnCell(8))[0]:.4f} (always 1: 0.167; solved: below {SOLVED})")


# --- the checker's part ---

import inspect  # noqa: E402
from functools import cache  # noqa: E402
from itertools import combinations  # noqa: E402

from scratchlstm.exercises.checking import difference, find  # noqa: E402
from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "OwnCell": (
        "(S1) is the cell of the LSTM, (5), with h in place of c; so are the first derivatives, (9) to (12).",
        "df, di and dg follow from the product rule; each dz has the slope of its activation. h_prev has two paths: "
        "through the sum, by dh * f, and through z, by dz @ U.T.",
        "h = f * h_prev + i * g; df, di, dg = dh * h_prev, dh * g, dh * i; dz_f = df * f * (1 - f), dz_i = di * i * "
        "(1 - i), dz_g = dg * (1 - g * g); dh_prev = dh * f + dz @ U.T; dW = x.T @ dz, dU = h_prev.T @ dz, db = "
        "np.sum(dz, axis=0)",
    )
}
# gate -> its factor in (S1), and the slope of its activation, in code and in words; last, the slope of the other one
_SLOPES = {
    "f": ("h_prev", "f * (1 - f)", "f (1 - f)", "σ", "(1 - f * f)", "tanh"),
    "i": ("g", "i * (1 - i)", "i (1 - i)", "σ", "(1 - i * i)", "tanh"),
    "g": ("i", "(1 - g * g)", "1 - g²", "tanh", "g * (1 - g)", "σ"),
}


def _of_gate(gate, factor, slope, formula, name, other, other_name):
    value = f"d{gate} = dh * {factor}"
    yield Mistake(value, f"d{gate} = dh", f"d{gate}: the factor {factor} is missing")
    for wrong in [each for each in ("f", "i", "g", "h_prev") if each != factor]:
        yield Mistake(
            value, f"d{gate} = dh * {wrong}", f"d{gate}: in (S1) {gate} is multiplied by {factor}, so that is its slope"
        )
    right = f"dz_{gate} = d{gate} * {slope}"
    yield Mistake(right, f"dz_{gate} = d{gate}", f"dz_{gate}: the slope of {name} is missing, {formula}")
    yield Mistake(
        right, f"dz_{gate} = d{gate} * {gate}", f"dz_{gate}: this is {name} itself; its slope belongs here, {formula}"
    )
    yield Mistake(
        right, f"dz_{gate} = d{gate} * (1 - {gate})", f"dz_{gate}: this is not the whole slope of {name}, {formula}"
    )
    yield Mistake(
        right,
        f"dz_{gate} = d{gate} * {other}",
        f"dz_{gate}: this is the slope of {other_name}; {gate} is the output of {name}",
    )


MISTAKES = [
    Mistake(
        "h = f * h_prev + i * g", "h = f * h_prev + g", "h: the input gate is missing, so every step is written in full"
    ),
    Mistake("h = f * h_prev + i * g", "h = h_prev + i * g", "h: the forget gate is missing, h = f h_prev + i g"),
    Mistake("h = f * h_prev + i * g", "h = i * g", "h: f h_prev is missing, so nothing is remembered"),
    Mistake("h = f * h_prev + i * g", "h = f * h_prev", "h: i g is missing, so nothing is written"),
    Mistake("h = f * h_prev + i * g", "h = np.tanh(f * h_prev + i * g)", "h: (S1) has no tanh around the sum"),
    Mistake("h = f * h_prev + i * g", "h = i * h_prev + f * g", "h: f and i are swapped; f keeps h_prev, i writes g"),
    *(mistake for gate, slope in _SLOPES.items() for mistake in _of_gate(gate, *slope)),
    Mistake(
        "dh_prev = dh * f + dz @ U.T", "dh_prev = dz @ U.T", "dh_prev: the path through the sum (S1) is missing, dh f"
    ),
    Mistake("dh_prev = dh * f + dz @ U.T", "dh_prev = dh * f", "dh_prev: the path through z is missing, dz Uᵀ"),
    Mistake("dh_prev = dh * f + dz @ U.T", "dh_prev = dh + dz @ U.T", "dh_prev: the factor f is missing in dh f"),
    Mistake("dh_prev = dh * f + dz @ U.T", "dh_prev = df * f + dz @ U.T", "dh_prev: dh belongs here, not df"),
    Mistake("dU = h_prev.T @ dz", "dU = (f * h_prev + i * g).T @ dz", "dU: this is the new h; z has h_prev"),
    Mistake("dW = x.T @ dz", "dW = x.T @ dz / len(x)", "dW: this is the mean over the batch; the sum belongs here"),
    Mistake(
        "dU = h_prev.T @ dz", "dU = h_prev.T @ dz / len(x)", "dU: this is the mean over the batch; the sum belongs here"
    ),
    Mistake(
        "db = np.sum(dz, axis=0)",
        "db = np.mean(dz, axis=0)",
        "db: this is the mean over the batch; the sum belongs here",
    ),
    Mistake("db = np.sum(dz, axis=0)", "db = dz", "db: the sum over the batch is missing"),
]


def scene(rng, B, T, E, H):
    """One step of three gates, and a gradient of its h."""
    shapes = {"x": (B, E), "h_prev": (B, H), "W": (E, 3 * H), "U": (H, 3 * H), "b": (3 * H,), "dh": (B, H)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()} | {"T": T, "H": H}


def examine(name, function, scene):
    """Check a cell: known mistakes in a step, its gradients, and whether it solves the problem."""
    if not (inspect.isclass(function) and issubclass(function, Cell)):
        return f"{name} must be a subclass of scratchlstm.cells.Cell: `class {name}(Cell):`"
    if scene["T"] == 1:  # the second check, which shows nothing new for a cell
        return None
    if says := _known(name, function, scene, 1):
        return says
    try:
        wrong = [f"{row.tensor} {row.problem}".rstrip() for row in gradients(function(2)).rows if not row.ok]
    except ValueError:  # a wrong shape
        if says := _known(name, function, scene, 2):
            return says
        raise
    if wrong:
        says = f"forward and backward do not match. Wrong gradients: {'; '.join(wrong)}"
        return _known(name, function, scene, 2) or says
    error, model = trained(function(8))
    if error < SOLVED:
        return None
    x = sequences(9, 10, np.random.default_rng(0))[0]
    both = np.concatenate([x, x * (np.arange(10) > 0)[:, None]])  # the second time without the first step
    seen = np.ptp(model.predict(both, verbose=0).reshape(2, 9), axis=0)
    why = "it remembers too little: what does h keep of h_prev, and what decides that?"
    if np.max(seen) < 1e-6:
        why = "it forgets, and the first step makes no difference to the last h: h has to depend on h_prev"
    return f"its gradients are right, but trained, its error is {error:.3f} (always 1: 0.167; solved: {SOLVED}): {why}"


def _known(name, function, scene, count):
    """The message for this many known mistakes that together explain a step's results, if any."""
    if (function.gates, function.states) != (OwnCell.gates, OwnCell.states):
        return None  # a different cell
    try:
        step = _step(function, scene)
    except (KeyError, TypeError, ValueError):
        return None  # gradcheck says what does not match
    for mistakes in combinations(MISTAKES, count):
        if len({each.old for each in mistakes}) == count:
            planted = _step(_planted(name, *mistakes), scene)
            if all(difference(np.asarray(found), wrong) < 1e-9 for found, wrong in zip(step, planted, strict=True)):
                return "; and ".join(each.says for each in mistakes)
    return None


@cache
def _planted(name, *mistakes):
    return find(name).planted(*mistakes)[name]


def _step(cell_class, scene):
    """A cell's results for one step, forward and backward."""
    x, h_prev, W, U, b, dh = (scene[name].copy() for name in ("x", "h_prev", "W", "U", "b", "dh"))
    cell = cell_class(scene["H"])
    h, cache = cell.forward(x, h_prev, W, U, b)
    back = cell.backward(dh, cache, W, U, b)
    return [h, *(back[name] for name in ("dx", "dh_prev", "dW", "dU", "db"))]
