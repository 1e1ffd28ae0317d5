"""The checks can fail: each known mistake is planted, and the check has to see it.

A mistake in the backward pass alone shows against numerical gradients. One that changes forward and backward together
is a consistent other network: only numbers from outside show it.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import planting
import pytest
from implementations import FAST, IMPLEMENTATIONS

from scratchlstm import gates, gradcheck, optimizers, rows
from scratchlstm.cells import LSTMCell, scan
from scratchlstm.exercises.exercise import EXERCISES
from scratchlstm.kernels import gru_recurrence, numpy_gru, numpy_lstm, numpy_recurrence
from scratchlstm.layers import LSTM, Dense, Embedding, attention, dropout, merging
from scratchlstm.models.model import Sequential


def lstm_gradients_are_right(implementation: str) -> bool:
    layer = LSTM(3, return_sequences=True, return_state=True, implementation=implementation, dtype="float64")
    layer.build((5, 4), np.random.default_rng(0))
    layer.params["bias"][:] = np.random.default_rng(1).normal(size=12)
    return gradcheck.check_layer(layer, np.random.default_rng(2).normal(size=(2, 5, 4))).ok


def model_gradients_are_right() -> bool:
    model = Sequential(seed=0)
    model.add(Embedding(5, 4, input_shape=(6,), dtype="float64"))
    model.add(LSTM(3, dtype="float64"))
    model.add(Dense(1, activation="sigmoid", dtype="float64"))
    model.compile("sgd", "binary_crossentropy")
    x = np.random.default_rng(0).integers(0, 5, size=(4, 6))
    return gradcheck.check_model(model, x, [0, 1, 1, 0]).ok


def outputs_are_those_of_keras(implementation: str) -> bool:
    """The final states that keras.layers.LSTM (3.15, float64) gives for weights sin(k n)."""

    def wave(k: float, *shape: int) -> np.ndarray:
        return np.sin(k * np.arange(1, np.prod(shape) + 1)).reshape(shape)

    B, T, E, H = 2, 4, 2, 3
    layer = LSTM(H, return_state=True, implementation=implementation, dtype="float64")
    layer.build((T, E))
    layer.set_weights([wave(1.3, E, 4 * H), wave(0.7, H, 4 * H), wave(2.1, 4 * H)])
    _, h, c = layer(wave(0.9, B, T, E), initial_state=[wave(1.7, B, H), wave(0.4, B, H)])
    expected_h = [[0.37768959, -0.06126588, 0.21354598], [0.47128016, -0.12964113, 0.07148904]]
    expected_c = [[0.61547625, -0.28124663, 0.38261061], [0.79061178, -0.41472524, 0.11805601]]
    return np.allclose(h, expected_h, rtol=0, atol=1e-8) and np.allclose(c, expected_c, rtol=0, atol=1e-8)


def adam_steps_are_right() -> bool:
    """Three steps of one weight, computed from Keras' formula in plain floats."""
    w, m, v = 0.3, 0.0, 0.0
    param, adam = np.array([[w]]), optimizers.Adam(0.01, epsilon=1e-2)
    for t, g in enumerate([0.5, -0.02, 0.003], start=1):
        adam.apply([param], [np.array([[g]])])
        m += (g - m) * (1 - 0.9)
        v += (g * g - v) * (1 - 0.999)
        w -= 0.01 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v**0.5 + 1e-2)
    return abs(param[0, 0] - w) < 1e-14


def test_nothing_planted_nothing_seen():
    for implementation in IMPLEMENTATIONS:
        assert lstm_gradients_are_right(implementation)
        assert outputs_are_those_of_keras(implementation)
        assert masked_gradients_are_right(implementation)
    assert model_gradients_are_right()
    assert adam_steps_are_right()


# what the exercises' mistakes in the textbook are in the fast recurrences
NUMPY = {
    "forget the factor f in dc_prev": ("dc *= f  # (12)", "pass"),
    "swap the i and f gradient blocks": ("(di, df, do, dg), spare = d_gates", "(df, di, do, dg), spare = d_gates"),
    "sigma instead of its derivative": (
        "np.subtract(gates[:-1], sigma_prime, out=sigma_prime)",
        "sigma_prime[...] = gates[:-1]",
    ),
    "no derivative of the cell's tanh": (
        "return np.subtract(1, np.multiply(tanh_c, tanh_c, out=out), out=out)",
        "out[...] = 1\n            return out",
    ),
    "no tanh on the cell where o is reached": ("np.multiply(dh, tanh_c, out=do)  # (7)", "do[...] = dh"),
    "one bias for all gates": (
        "dz_rows.sum(axis=0)  # (21)",
        "np.tile(dz_rows.sum(axis=0)[2 * self.H : 3 * self.H], 4)",
    ),
}
COMPILED = {
    "forget the factor f in dc_prev": ("flushed(dc_j * f)  # (12)", "flushed(dc_j)"),
    "swap the i and f gradient blocks": ("di * i * (one - i)", "df * f * (one - f)"),
    "sigma instead of its derivative": ("df * f * (one - f)", "df * f"),
    "no derivative of the cell's tanh": ("dh[j] * o * (one - tanh_c[j] * tanh_c[j])", "dh[j] * o"),
    "no tanh on the cell where o is reached": ("do = dh[j] * tanh_c[j]  # (7)", "do = dh[j]"),
    "c instead of c_prev": ("tanh_c[t, row], c[before, row])", "tanh_c[t, row], c[t + 1, row])"),
}
BACKWARD = {
    "drop dc between steps": (
        ("[step[name] for name in leaving]", "[step[name] * (name[1] == 'h') for name in leaving]"),
        ("dc *= f  # (12)", "dc *= 0"),
        ("dc_j = dc[j] + dh[j] * o", "dc_j = dh[j] * o"),
    ),
    "drop dh between steps": (
        ("arrived = [dhs[:, t] + handed_on[0], *", "arrived = [dhs[:, t] + 0, *"),
        ("self._back_to_h(dz, self.U_back, dropout, out=dh)  # (18)", "dh[...] = 0"),
        ("copy(dh_prev[row - first], dh[row - first])", "clear(dh[row - first])"),
    ),
    "overwrite dh instead of adding the upstream gradient": (
        ("dhs[:, t] + handed_on[0]", "dhs[:, t] if t == len(kept.caches) - 1 else handed_on[0]"),
        ("dh_t += dh[:, t]", "dh_t += dh[:, t] if t == T - 1 else 0"),
        ("            if dhs is not None:\n", "            if dhs is not None and t == T - 1:\n"),
    ),
    "gradient of the last step only for U": (
        ('total += step.gradients[f"d{name}"]', "total += step.gradients[f'd{name}'] if not dxs or name != 'U' else 0"),
        *[("kernel_gradient(h_prev, dz, self.recurrent_dropout)", "kernel_gradient(h_prev[-2:], dz[-2:], None)")] * 2,
    ),
}


def module_with(implementation: str, line: str) -> Any:
    modules = dict(zip(IMPLEMENTATIONS, [*planting.LSTM_KERNELS, [gates, scan]], strict=True))
    found = [module for module in modules[implementation] if line in inspect.getsource(module)]
    assert found, f"no module of {implementation} has {line!r}"
    return found[0]


def planted(changes_by_name: dict[str, Any], implementations: Sequence[str] = ("textbook", *FAST)) -> list[Any]:
    """The first change of each is planted in the textbook, the second in NumPy's recurrence, the third in loops."""
    return [
        pytest.param(implementation, module_with(implementation, old), old, new, id=f"{name} [{implementation}]")
        for name, changes in changes_by_name.items()
        for implementation, (old, new) in zip(implementations, changes, strict=False)
    ]


@pytest.mark.parametrize(
    ("implementation", "module", "old", "new"),
    planted(BACKWARD)
    + [
        each
        for implementation, changes in zip(FAST, (NUMPY, COMPILED), strict=False)
        for each in planted({name: [change] for name, change in changes.items()}, [implementation])
    ],
)
def test_numerical_gradients_see(monkeypatch, implementation, module, old, new):
    planting.plant(monkeypatch, module, old, new)
    assert not lstm_gradients_are_right(implementation)


def as_in_gates(text: str) -> str:
    """A line of an exercise, which knows one array module and one activation of each kind, as `gates.py` has it."""
    for ours, theirs in {"sigmoid": "sigma", "tanh": "phi"}.items():
        text = re.sub(rf"\b{ours}(_prime)?\(", rf"{theirs}\1(", text)
    return re.sub(r"\bnp\.", "xp.", text.replace("np.concatenate", "np.concat"))


GATES = inspect.getsource(gates)
# the mistakes of exercises about lines of gates.py; several exercises may know the same
SHIFTED = "sigmoid(z[:, 1 * H : 2 * H] + 1)"  # another network, whose gradients are right
KNOWN = {
    (old, mistake.new): f"{exercise.name}: {mistake.old} -> {mistake.new}"
    for exercise in EXERCISES
    for mistake in exercise.mistakes
    if GATES.count(old := as_in_gates(mistake.old)) == 1 and mistake.new != SHIFTED
}


def equations_are_right(of: Any) -> bool:
    """The loop of `gates.py`, with a mask, against numerical gradients."""
    mask = np.array([[True, False, True], [True, True, True]])

    def forward(*inputs: Any) -> Any:
        hs, c, caches = of.lstm_forward(*inputs, mask=mask)
        return (hs, c), (caches, *inputs[3:5])

    def backward(arrived: Any, kept: Any) -> Any:
        dx, dW, dU, db, dh0, dc0 = of.lstm_backward(*arrived, *kept, mask=mask)
        return dx, dh0, dc0, dW, dU, db

    rng = np.random.default_rng(0)
    shapes = (2, 3, 1), (2, 2), (2, 2), (1, 8), (2, 8), (8,)
    try:
        return gradcheck.check_functions(forward, backward, [rng.normal(size=shape) for shape in shapes]).ok
    except (ValueError, TypeError, IndexError):
        return False


@pytest.mark.parametrize(("old", "new"), KNOWN, ids=KNOWN.values())
def test_numerical_gradients_see_what_the_exercises_know(old, new):
    try:
        assert not equations_are_right(planting.mutated(gates, old, new))
    except NameError as error:
        pytest.skip(f"at hand in the exercise, but not in gates.py: {error.name}")


def test_the_equations_are_right():
    assert equations_are_right(gates)
    assert len(KNOWN) > 60


MASKED = {
    "state of a masked step not carried": (
        ("[xp.where(valid, s, s_prev) for s, s_prev in", "[s if s is new[-1] else s_prev for s, s_prev in"),
        ("state[at_rest] = of_rows", "state[rows] = of_rows[0]"),
        ("copy(c[before, row], c[after, row])", "clear(c[after, row])"),
    ),
    "gradients not carried past a masked step": (
        ("d + xp.where(valid, 0, past)", "d"),
        ("d[idle] = of_rows", "pass"),
        ("if mask is None or mask[t, row]:\n                copy(dh_prev", "if True:\n                copy(dh_prev"),
    ),
    "gradients into the gates of a masked step": (
        ("inside = [xp.where(valid, d, 0) for d in arrived]", "pass"),
        ("dz[t, idle] = 0", "pass"),
        ("clear(gates[t, row])", "pass"),
    ),
}


def masked_gradients_are_right(implementation: str) -> bool:
    layer = LSTM(3, return_sequences=True, return_state=True, implementation=implementation, dtype="float64")
    mask = np.array([[False] * 5, [True, False, True, True, False], [True, True, False, False, True]])
    x = np.random.default_rng(2).normal(size=(3, 5, 4))
    return gradcheck.check_layer(layer, x, mask=mask).ok and _masked_steps_change_nothing(implementation)


def _masked_steps_change_nothing(implementation: str) -> bool:
    """A masked step changes nothing: without it the final states are the same."""
    layer = LSTM(3, return_state=True, implementation=implementation, dtype="float64")
    layer.build((None, 4), np.random.default_rng(0))
    x, states = np.random.default_rng(3).normal(size=(2, 5, 4)), list(np.random.default_rng(4).normal(size=(2, 2, 3)))
    with_mask = layer(x, mask=np.array([[True, False, True, True, False]] * 2), initial_state=states)
    without = layer(x[:, [0, 2, 3]], initial_state=states)
    return all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(with_mask, without, strict=True))


@pytest.mark.parametrize(("implementation", "module", "old", "new"), planted(MASKED))
def test_the_check_with_a_mask_sees(monkeypatch, implementation, module, old, new):
    planting.plant(monkeypatch, module, old, new)
    assert not masked_gradients_are_right(implementation)


PLAIN = {
    "dc dropped between steps": ("dc_next = step.dc_prev + dc_past", "dc_next = dc_past"),
    "dh dropped between steps": ("dh = dhs[:, t, :] + dh_next", "dh = dhs[:, t, :]"),
    "gradient of the last step only for U": ("dU + step.dU", "dU if t < len(caches) - 1 else step.dU"),
    "state of a masked step not carried": ("c_t = xp.where(valid, c_t, c)", "pass"),
    "gradients not carried past a masked step": ("dc_next = step.dc_prev + dc_past", "dc_next = step.dc_prev"),
    "gradients into the gates of a masked step": ("dh = xp.where(valid, dh, none)", "pass"),
}


def plain_loop_is_right(of: Any) -> bool:
    """`lstm_forward` and `lstm_backward` against the loop for any cell."""
    rng = np.random.default_rng(0)
    x, states, dhs = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 5, 3))
    params = [rng.normal(size=shape) for shape in ((4, 12), (3, 12), (12,))]
    mask = np.array([[True, False, True, True, False], [False, True, True, False, True]])
    hs, c, caches = of.lstm_forward(x, *states, *params, mask=mask)
    found = [hs, c, *of.lstm_backward(dhs, states[0], caches, *params[:2], mask=mask)]
    hs, (_, c), kept = scan.scan(LSTMCell(3), x, states, params, mask)
    dx, grads, d_states = scan.scan_back(LSTMCell(3), dhs, [None, states[0]], kept)
    return all(np.allclose(*pair) for pair in zip(found, [hs, c, dx, *grads, *d_states], strict=True))


@pytest.mark.parametrize(("old", "new"), PLAIN.values(), ids=PLAIN)
def test_the_loop_for_any_cell_sees(old, new):
    assert plain_loop_is_right(gates)
    assert not plain_loop_is_right(planting.mutated(gates, old, new))


CONSISTENT = [
    pytest.param(
        gates,
        [
            ("f = sigma(z[:, 1 * H : 2 * H])  # (B, H)  (2)", "f = sigma(z[:, 0 * H : 1 * H])"),
            ("i = sigma(z[:, 0 * H : 1 * H])  # (B, H)  (1)", "i = sigma(z[:, 1 * H : 2 * H])"),
        ],
        "textbook",
        id="gate order f i g o [textbook]",
    ),
    pytest.param(gates, [("tanh_c = phi(c)", "tanh_c = c")], "textbook", id="no tanh on the cell [textbook]"),
    pytest.param(
        numpy_lstm,
        [("self._phi(c, out=tanh_c)", "tanh_c[...] = c")],
        "numpy",
        id="no tanh on the cell [numpy]",
    ),
    pytest.param(
        numpy_lstm,
        [("order_of_gates: ClassVar = [0, 1, 3, 2]", "order_of_gates: ClassVar = [1, 0, 3, 2]")],
        "numpy",
        id="gate order f i g o [numpy]",
    ),
    pytest.param(numpy_recurrence, [("array[:-1] *= 0.5", "pass")], "numpy", id="sigmoid of 2z [numpy]"),
]
if "compiled" in FAST:
    CONSISTENT += [
        pytest.param(planting.LSTM_KERNELS[1][-1], [change], "compiled", id=f"{name} [compiled]")
        for name, change in {
            "no tanh on the cell": ("tanh_c[j] = tanh(c[j])", "tanh_c[j] = c[j]"),
            "gate order f i g o": ("ClassVar = [0, 1, 2, 3]", "ClassVar = [1, 0, 2, 3]"),
            "tanh for sigma": ("o = sigmoid(z[3 * H + j])  # (4)", "o = tanh(z[3 * H + j])"),
            "no bias": ("h_U[j] + b[j]", "h_U[j]"),
            "first step last": ("else number\n        if mask", "else T - 1 - number\n        if mask"),
        }.items()
    ]  # fmt: skip


@pytest.mark.parametrize(("module", "changes", "implementation"), CONSISTENT)
def test_numbers_from_keras_see(monkeypatch, module, changes, implementation):
    for old, new in changes:
        planting.plant(monkeypatch, module, old, new)
        assert not outputs_are_those_of_keras(implementation)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("for j in range(1, _FEW):", "for j in range(1, 1):"),
        ("        return sums\n", "        return sums / self.counts[:, None]\n"),
        ("self.starts[:repeated] + j", "self.starts[:repeated]"),
    ],
    ids=["lost repeated ids", "mean instead of sum over repeated ids", "first occurrence counted again"],
)
def test_the_model_check_sees_lost_ids(monkeypatch, old, new):
    planting.plant(monkeypatch, rows, old, new)
    assert not model_gradients_are_right()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "step += self.epsilon",
            "step += self.epsilon * math.sqrt(1 - self.beta_2**self.iterations)",
        ),
        ("math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)", "math.sqrt(1 - self.beta_2**t)"),
        ("velocity[rows] += (1 - self.beta_2) * g * g", "velocity[rows] += (1 - self.beta_2) * g"),
    ],
    ids=["Adam's two forms confused (epsilon after the correction)", "no correction of m", "g instead of its square"],
)
def test_the_optimizer_check_sees(monkeypatch, old, new):
    planting.plant(monkeypatch, optimizers, old, new)
    assert not adam_steps_are_right()


ATTENTION = {
    "the mask of the values ignored in the softmax": ("axis=-1, keepdims=True)) * values", "axis=-1, keepdims=True))"),
    "the softmax without its sum": (" - np.sum(da * a, axis=-1, keepdims=True)", ""),
    "gradient of masked queries": ("dy = dy if queries is None else dy * queries", "dy = dy"),
    "gradient of the weights lost": ("dw = dw if dw_given is None else dw + dw_given", "dw = dw"),
    "dropout in the forward pass alone": ("da = dw if dropout is None else dw * dropout", "da = dw"),
    "values as weighted before dropout": ("dv = w.swapaxes(1, 2) @ dy", "dv = a.swapaxes(1, 2) @ dy"),
    "no scale in the gradient of the keys": ("dk = scale * ds", "dk = ds"),
    "the value that is the key, as value alone": ("dv + dk", "dv"),
}


def attention_gradients_are_right(of: Any) -> bool:
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4))]
    layer = of.Attention(use_scale=True, dropout=0.3, seed=1, dtype="float64")
    layer.build([each.shape[1:] for each in x])
    layer.params["scale"][...] = 0.7
    mask = [np.array([[True, True, False], [True] * 3]), np.array([[True, False, True, True, False], [True] * 5])]
    _, weights = layer(x, mask=mask, return_attention_scores=True)
    return gradcheck.check_layer(layer, x, mask=mask, training=True).ok and not weights[0, :, [1, 4]].any()


@pytest.mark.parametrize(("old", "new"), ATTENTION.values(), ids=ATTENTION)
def test_the_check_of_attention_sees(old, new):
    assert attention_gradients_are_right(attention)
    assert not attention_gradients_are_right(planting.mutated(attention, old, new))


WORDS = {
    "padding replaced, too": (" & (x != 0)", ""),
    "the words that stay replaced": ("kept == 0", "kept != 0"),
    "the batch itself changed": ("x = x.copy()", "pass"),
    "zero for an unknown word": ("= self.oov_id\n        return", "= 0\n        return"),
    "words dropped in inference": ("        kept = self.draw(x, run)", "        kept = self.draw(x, Pass(True))"),
}


def word_dropout_is_right(of: Any) -> bool:
    """In training a quarter of the words, and no padding, become 2; in inference, and in the batch itself, none."""
    x, layer = np.tile([7, 7, 7, 0], (50, 40)), of.WordDropout(0.25, 2, seed=1)
    y, read, unchanged = layer(x, training=True), layer(x), np.tile([7, 7, 7, 0], (50, 40))
    dropped = y == 2
    right = np.array_equal(y, np.where(dropped, 2, unchanged)) and not dropped[:, 3::4].any()
    right = right and 0.2 < dropped[unchanged == 7].mean() < 0.3
    return bool(right and np.array_equal(x, unchanged) and np.array_equal(read, unchanged))


@pytest.mark.parametrize(("old", "new"), WORDS.values(), ids=WORDS)
def test_the_check_of_word_dropout_sees(old, new):
    assert word_dropout_is_right(dropout)
    assert not word_dropout_is_right(planting.mutated(dropout, old, new))


MERGING = {
    "what was broadcast not summed": ("(d.sum(axis=repeated) if repeated else d)", "(d[:, :1] if repeated else d)"),
    "a masked factor with a gradient": ("d if m is None else d * m", "d"),
    "the own factor among the others": ("aligned[:number] + aligned[number + 1 :]", "aligned[: number + 1]"),
    "length taken for constant": ("d - along * self.rows", "d"),
}


def merging_gradients_are_right(of: Any) -> bool:
    rng, mask = np.random.default_rng(0), np.array([[True, True, False], [True] * 3])
    x, one = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))
    cases: list[Any] = [(of.Multiply(dtype="float64"), [x, one], {"mask": [mask, None]})]
    cases += [(of.Dot((1, 2), True, dtype="float64"), [x, rng.normal(size=(2, 2, 3))], {})]
    return all(gradcheck.check_layer(layer, inputs, **call).ok for layer, inputs, call in cases)


@pytest.mark.parametrize(("old", "new"), MERGING.values(), ids=MERGING)
def test_the_check_of_merging_layers_sees(old, new):
    assert merging_gradients_are_right(merging)
    assert not merging_gradients_are_right(planting.mutated(merging, old, new))


GRUS = [numpy_gru]
if "compiled" in FAST:
    from scratchlstm.kernels import numba_gru

    GRUS.append(numba_gru)


def gru_of(module: Any) -> Any:
    return getattr(module, "NumpyGRU", None) or module.NumbaGRU


def gru_gradients_are_right(of: Any, reset_after: bool) -> bool:
    mask, kind = np.array([[True, False, True, True], [True, True, False, True]]), gru_of(of)

    def forward(*inputs: np.ndarray) -> Any:
        x, h0, *parameters = inputs
        kernel = kind(*parameters, recurrent_dropout=dropout, reset_after=reset_after)
        h, final = kernel.forward(x, [h0], mask=mask)
        return (h, *final), kernel

    def backward(d_outputs: Any, kernel: Any) -> Any:
        dx, gradients, d_initial = kernel.backward(d_outputs[0], d_outputs[1:])
        return dx, *d_initial, *gradients

    rng, shape = np.random.default_rng(0), (2, 9) if reset_after else (9,)
    inputs = [rng.normal(size=shape) for shape in ((2, 4, 5), (2, 3), (5, 9), (3, 9), shape)]
    dropout = rng.random((2, 3, 3))
    return gradcheck.check_functions(forward, backward, inputs).ok


def gru_outputs_are_those_of_keras(of: Any, reset_after: bool) -> bool:
    """The final state that keras.layers.GRU (3.15, float64) gives for weights sin(k n)."""

    def wave(k: float, *shape: int) -> np.ndarray:
        return np.sin(k * np.arange(1, np.prod(shape) + 1)).reshape(shape)

    B, T, E, H = 2, 4, 2, 3
    bias = wave(2.1, 2, 3 * H) if reset_after else wave(2.1, 3 * H)
    kernel = gru_of(of)(wave(1.3, E, 3 * H), wave(0.7, H, 3 * H), bias, reset_after=reset_after)
    h, _ = kernel.forward(wave(0.9, B, T, E), [wave(1.7, B, H)], return_sequences=False)
    expected = {
        True: [[0.81914085, -0.51693674, -0.02769439], [0.6680864, -0.64631824, -0.30232013]],
        False: [[0.20650036, -0.57726583, -0.22221566], [0.41070325, -0.43262512, -0.36525559]],
    }
    return np.allclose(h, expected[reset_after], rtol=0, atol=1e-8)


GRU_BACKWARD = {
    "dh_prev without u dh": ("np.add(kept, dh, out=kept)", "kept[...] = dh"),
    "dh_prev without the gates": ("            dh += kept\n", "            dh[...] = kept\n"),
    "dh_prev without the candidate": ("np.add(kept, dh, out=kept)", "pass"),
    "du without n": ("np.subtract(h_prev, n, out=du)", "du[...] = h_prev"),
    "du of the other sign": ("np.subtract(h_prev, n, out=du)", "np.subtract(n, h_prev, out=du)"),
    "dn by u": ("np.subtract(dh, kept, out=dn)", "dn[...] = kept"),
    "the candidate's tanh without its derivative": ("np.multiply(dn, prime[2], out=dz_n)", "dz_n[...] = dn"),
    "blocks of u and r swapped": ("(du, dr, dn), (dz_n, kept)", "(dr, du, dn), (dz_n, kept)"),
}
GRU_AFTER = {
    "r forgotten where h U_n is reached": ("np.multiply(dz_n, r, out=inner)", "inner[...] = dz_n"),
    "dr without h U_n": ("np.multiply(dz_n, inner, out=dr)", "dr[...] = dz_n"),
    "dU_n from dz_n": ("if self.reset_after else inner.T @ dz_n", "if False else h_prev.T @ dz_n"),
    "one bias for both": ("db[1, self.split :] = ", "_ = "),
    "what a masked step had there": ("inner[~self.mask.T] = 0", "pass"),
}
GRU_BEFORE = {
    "r forgotten where h is reached": ("                dh *= r\n", ""),
    "dr without h": ("np.multiply(dh, h_prev, out=dr)", "dr[...] = dh"),
    "dU_n from h": ("if self.reset_after else inner.T @ dz_n", "if self.reset_after else h_prev.T @ dz_n"),
}
GRU_CONSISTENT = {
    "u and 1 - u swapped": (
        "np.subtract(h_prev, n, out=h)\n        h *= u\n        h += n",
        "h[...] = h_prev + u * (n - h_prev)",
    ),
    "gate order r u n": ("order_of_gates: ClassVar = [0, 1, 2]", "order_of_gates: ClassVar = [1, 0, 2]"),
    "the other place of r": ("self.reset_after, self.split = reset_after,", "self.reset_after, self.split = False,"),
}


COMPILED_GRU_BACKWARD = {
    "dh_prev without u dh": ("dh[j] = flushed(dh[j] * u)  # (G9)", "dh[j] = 0"),
    "dh_prev without the gates": ("add(dh_in[row], dh[row])", "pass"),
    "du without n": ("du = dh[j] * (h_prev[j] - n)", "du = dh[j] * h_prev[j]"),
    "dn by u": ("dn = dh[j] * (one - u)", "dn = dh[j] * u"),
    "the candidate's tanh without its derivative": ("flushed(dn * (one - n * n))", "flushed(dn)"),
    "gradients into the gates of a masked step": ("clear(z[row])", "pass"),
}
COMPILED_GRU_AFTER = {
    "r forgotten where h U_n is reached": ("flushed(dz_n[j] * r)  # (G16)", "dz_n[j]"),
    "dr without h U_n": ("dr = dz_n[j] * k_n[j]", "dr = dz_n[j]"),
    "dz_n instead of dk_n": ("gates[j], gates[H + j], k_n[j]", "gates[j], gates[H + j], dz_n[j]"),
}
COMPILED_GRU_BEFORE = {
    "r forgotten where h is reached": ("dh[j] += ds[j] * r  # (G20)", "dh[j] += ds[j]"),
    "dr without h": ("dr = ds[j] * h_prev[j]", "dr = ds[j]"),
    "no dropout where s is reached": ("scale(ds[row], dropout[first + row, 2])", "pass"),
}
COMPILED_GRU_CONSISTENT = {
    "u and 1 - u swapped": ("u * h_prev[j] + (one - u) * n", "(one - u) * h_prev[j] + u * n"),
    "no bias of h U_n": ("k[2 * H + j] + b[3 * H + j]", "k[2 * H + j]"),
    "sigma for tanh": ("n = tanh(z[2 * H + j]", "n = sigmoid(z[2 * H + j]"),
}


def test_nothing_planted_in_the_gru_nothing_seen():
    for of in GRUS:
        for reset_after in (True, False):
            assert gru_gradients_are_right(of, reset_after)
            assert gru_outputs_are_those_of_keras(of, reset_after)


def mutated_gru(monkeypatch: pytest.MonkeyPatch, of: Any, old: str, new: str) -> Any:
    module = of if old in inspect.getsource(of) else gru_recurrence
    return planting.rebuilt(monkeypatch, [gru_recurrence, of], module, old, new)


def planted_in_grus(changes_by_kind: Sequence[Any]) -> list[Any]:
    """For each kind of GRU: the changes, and whether r multiplies the product."""
    return [
        pytest.param(of, reset_after, *change, id=f"{name} [{of.__name__[20:]}{'' if reset_after else ', before'}]")
        for of, pairs in zip(GRUS, changes_by_kind, strict=False)
        for reset_after, changes in pairs
        for name, change in changes.items()
    ]


@pytest.mark.parametrize(
    ("of", "reset_after", "old", "new"),
    planted_in_grus(
        [
            [(True, GRU_BACKWARD | GRU_AFTER), (False, GRU_BACKWARD | GRU_BEFORE)],
            [(True, COMPILED_GRU_BACKWARD | COMPILED_GRU_AFTER), (False, COMPILED_GRU_BEFORE)],
        ]
    ),
)
def test_numerical_gradients_of_the_gru_see(monkeypatch, of, reset_after, old, new):
    assert not gru_gradients_are_right(mutated_gru(monkeypatch, of, old, new), reset_after)


@pytest.mark.parametrize(
    ("of", "reset_after", "old", "new"),
    planted_in_grus([[(True, GRU_CONSISTENT)], [(True, COMPILED_GRU_CONSISTENT)]]),
)
def test_numbers_from_keras_see_another_gru(monkeypatch, of, reset_after, old, new):
    assert not gru_outputs_are_those_of_keras(mutated_gru(monkeypatch, of, old, new), reset_after)


def test_a_change_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match="occurs 0 times"):
        planting.mutated(gates, "no such line", "")
