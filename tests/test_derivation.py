"""docs/derivation.md, equation by equation: each numbered line of gates.py, run alone, is the slope it claims to be.

L = Σ d(output) · output for a random d(output), so that dL/d(output) is that very array; then one input after the other
is nudged. The lines are read from the source: a mistake in one of them is seen under its number. (22) to (32) are about
sequences and about the layers below and above: there it is the package's own functions and layers that are checked.
(33) to (41), attention, are lines again. (42) is (12) over many steps.

The page's numbers beside the equations are checked, too, and its table of each equation's code, test and exercise.
"""

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import gates, losses
from scratchlstm.exercises.exercise import EXERCISES
from scratchlstm.initializers import Constant
from scratchlstm.layers import LSTM, Dense, Embedding, attention

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "derivation.md").read_text(encoding="utf-8")
LINES = {
    int(number): code.strip()
    for module in (gates, attention)
    for code, number in re.findall(r"^( +\w+ = .*?) +# .*\((\d+)\)$", inspect.getsource(module), re.MULTILINE)
}
B, E, H = 3, 4, 2
SHAPES = {"x": (B, E), "W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,), "dz": (B, 4 * H)}


def some_values():
    """A random array for every name in the lines; activations' values lie where the activations put them."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    states = (
        "h_prev",
        "c_prev",
        "c",
        "dh",
        "dc",
        "dc_next",
        *"ifgo",
        *(f"z_{k}" for k in "ifgo"),
        *(f"d{k}" for k in "ifgo"),
    )
    values |= {name: rng.normal(size=(B, H)) for name in states}
    for name in "ifo":
        values[name] = gates.sigmoid(values[name])
    return values | {"g": np.tanh(values["g"]), "tanh_c": np.tanh(values["c"])}


def slope(loss, array):
    """dL/d(array) by central differences; `loss` looks at the array itself."""
    numerical = np.empty_like(array)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + 1e-5
        above = loss()
        array[place] = value - 1e-5
        numerical[place] = (above - loss()) / 2e-5
        array[place] = value
    return numerical


def evaluated(number, name, values):
    """What the line of equation `number` gives, which has to be for this name."""
    target, expression = LINES[number].split(" = ", 1)
    assert target == name
    functions = {"sigma": gates.sigmoid, "phi": gates.tanh, "softmax": attention.softmax}
    slopes = {"sigma_prime": gates.sigmoid_prime, "phi_prime": gates.tanh_prime}
    return eval(expression, functions | slopes | {"xp": np, "np": np}, values)


def check(number, name, loss, values):
    """Equation `number` gives d(name) as the slope of `loss`, and nothing else."""
    analytic = evaluated(number, f"d{name}", values)
    np.testing.assert_allclose(analytic, slope(lambda: loss(**values), values[name]), rtol=1e-7, atol=1e-9)


def hidden(dh, dc_next, o, c, **_):  # (6), and what c gives to the step after
    return np.sum(dh * o * np.tanh(c)) + np.sum(dc_next * c)


def cell(dc, f, c_prev, i, g, **_):  # (5)
    return np.sum(dc * (f * c_prev + i * g))


def activations(di, df, dg, do, z_i, z_f, z_g, z_o, **_):  # (1) to (4)
    sigma = gates.sigmoid
    return np.sum(di * sigma(z_i)) + np.sum(df * sigma(z_f)) + np.sum(dg * np.tanh(z_g)) + np.sum(do * sigma(z_o))


def products(dz, x, W, h_prev, U, b, **_):  # z
    return np.sum(dz * (x @ W + h_prev @ U + b))


def at_its_gate(gate):
    """Random values in which a gate is what its z makes it."""
    values = some_values()
    activation = np.tanh if gate == "g" else gates.sigmoid
    return values | {gate: activation(values[f"z_{gate}"])}


def check_forward(number, name, expected):
    """Equation `number` computes `expected`, a formula written out in NumPy."""
    values = some_values() | {"H": H, "z": 3 * np.random.default_rng(7).normal(size=(B, 4 * H))}
    np.testing.assert_allclose(evaluated(number, name, values), expected(**values), rtol=1e-12)


def test_equation_1():
    check_forward(1, "i", lambda z, **_: 1 / (1 + np.exp(-z[:, 0:2])))


def test_equation_2():
    check_forward(2, "f", lambda z, **_: 1 / (1 + np.exp(-z[:, 2:4])))


def test_equation_3():
    check_forward(3, "g", lambda z, **_: np.tanh(z[:, 4:6]))


def test_equation_4():
    check_forward(4, "o", lambda z, **_: 1 / (1 + np.exp(-z[:, 6:8])))


def test_equation_5():
    check_forward(5, "c", lambda f, c_prev, i, g, **_: f * c_prev + i * g)


def test_equation_6():
    check_forward(6, "h", lambda o, c, **_: o * np.tanh(c))


def test_equation_7():
    check(7, "o", hidden, some_values())


def test_equation_8():
    check(8, "c", hidden, some_values())


def test_equation_9():
    check(9, "i", cell, some_values())


def test_equation_10():
    check(10, "f", cell, some_values())


def test_equation_11():
    check(11, "g", cell, some_values())


def test_equation_12():
    check(12, "c_prev", cell, some_values())


def test_equation_13():
    check(13, "z_i", activations, at_its_gate("i"))


def test_equation_14():
    check(14, "z_f", activations, at_its_gate("f"))


def test_equation_15():
    check(15, "z_g", activations, at_its_gate("g"))


def test_equation_16():
    check(16, "z_o", activations, at_its_gate("o"))


def test_equation_17():
    check(17, "x", products, some_values())


def test_equation_18():
    check(18, "h_prev", products, some_values())


def test_equation_19():
    check(19, "W", products, some_values())


def test_equation_20():
    check(20, "U", products, some_values())


def test_equation_21():
    check(21, "b", products, some_values())


# one mistake for each line, as it is often made
MISTAKES = {
    1: ("0 * H : 1 * H", "1 * H : 2 * H"),
    2: ("sigma", "phi"),
    3: ("phi", "sigma"),
    4: ("3 * H", "2 * H"),
    5: ("f * c_prev", "c_prev"),
    6: ("tanh_c", "c"),
    7: ("* tanh_c", "* c"),
    8: ("dc_next + ", ""),
    9: ("* g", "* i"),
    10: ("* c_prev", "* c"),
    11: ("* i", "* f"),
    12: ("* f", ""),
    13: ("sigma_prime(i)", "i"),
    14: ("sigma_prime(f)", "sigma_prime(i)"),
    15: ("phi_prime(g)", "sigma_prime(g)"),
    16: ("sigma_prime", "phi_prime"),
    17: ("W.T", "W.T / len(x)"),
    18: ("U.T", "U[:, ::-1].T"),
    19: ("x.T @ dz", "x.T @ dz / len(x)"),
    20: ("h_prev.T", "h_prev[::-1].T"),
    21: ("xp.sum(dz, axis=0)", "xp.mean(dz, axis=0)"),
    33: ("scale * ", ""),
    34: ("values", "None"),
    35: ("w @ v", "w @ v / v.shape[1]"),
    36: ("w.swapaxes", "w[:, ::-1].swapaxes"),
    37: ("v.swapaxes", "v[:, ::-1].swapaxes"),
    38: (" - np.sum(da * a, axis=-1, keepdims=True)", ""),
    39: ("scale * ", ""),
    40: ("scale * ", ""),
    41: ("ds * qk", "ds"),
}


@pytest.mark.parametrize("number", MISTAKES)
def test_a_mistake_is_seen_under_its_number(number, monkeypatch):
    old, new = MISTAKES[number]
    assert LINES[number].count(old) == 1
    monkeypatch.setitem(LINES, number, LINES[number].replace(old, new))
    with pytest.raises(AssertionError):
        globals()[f"test_equation_{number}"]()


def test_the_page_has_every_equation_in_order():
    assert [int(number) for number in re.findall(r"\\tag\{(\d+)\}", PAGE)] == list(range(1, 43))
    assert sorted(LINES) == [*range(1, 26), *range(33, 42)]


# whose comment, or first line of a docstring, has the number of an equation
CODE = (
    [("scratchlstm/gates.py", n) for n in (*range(1, 26), 27, 42)]
    + [("scratchlstm/layers/rnn.py", 26), ("scratchlstm/rows.py", 28), ("scratchlstm/losses.py", 29)]
    + [("scratchlstm/layers/dense.py", n) for n in (30, 31, 32)]
    + [("scratchlstm/layers/attention.py", n) for n in range(33, 42)]
)


def line_of(path, pattern):
    """The link to the line of a file of the repository that matches."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if re.search(pattern, line))
    return f"../{path}#L{number}"


def numbers_of(exercise):
    """The equations that its functions ask for one by one, or as a range."""
    for function in exercise.functions:
        if found := re.fullmatch(r"\((\d+)(?: to (\d+))?\)", exercise.equation(function)):
            yield from range(int(found[1]), int(found[2] or found[1]) + 1)


def sections():
    """The anchor of each equation's section on the page."""
    found = {}
    for title, text in re.findall(r"^##+ ([^\n]+)(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found |= dict.fromkeys(map(int, re.findall(r"\\tag\{(\d+)\}", text)), anchor)
    return found


def table():
    """The rows of the page's table: from each equation to its code, its test and its exercise."""
    exercises, anchors, rows = {}, sections(), []
    for exercise in EXERCISES:
        for n in numbers_of(exercise):
            exercises.setdefault(n, f"{exercise.number} `{exercise.name}`")
    for path, n in sorted(CODE, key=lambda each: each[1]):
        marked = 12 if n == 42 else n  # (42) is the line of (12), over many steps
        code = line_of(path, rf"# .*\({marked}\)$|(# e|\"\"\"E)quation \({marked}\)")
        test = line_of("tests/test_derivation.py", rf"^def test_equation_{n}\(")
        cells = f"[({n})](#{anchors[n]})", f"[`{Path(path).name}`]({code})", f"[test]({test})", exercises.get(n, "")
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def test_the_table_leads_from_each_equation_to_its_code_its_test_and_its_exercise():
    """If a line has moved, put what `table` gives in place of the page's rows."""
    assert re.findall(r"^\| \[\(\d+\)\].*$", PAGE, re.MULTILINE) == table()


@pytest.mark.parametrize(
    "exercise",
    [each for each in EXERCISES if [*numbers_of(each)] and each.name != "find_the_bug"],
    ids=lambda each: each.name,
)
def test_an_exercise_leads_to_where_its_equations_are_derived(exercise):
    (anchor,) = re.findall(r"docs/derivation\.md#([\w-]+)", exercise.text)
    derived = {sections()[n] for n in numbers_of(exercise)}
    assert anchor in derived


class Sequence:
    """T = 5 steps with random states, a gradient from above at every step, and one for the last cell."""

    def __init__(self, mask=None):
        rng = np.random.default_rng(1)
        self.x, self.dhs = rng.normal(size=(B, 5, E)), rng.normal(size=(B, 5, H))
        self.h0, self.c0, self.dc = rng.normal(size=(3, B, H))
        self.W, self.U, self.b = (rng.normal(size=SHAPES[name]) for name in "WUb")
        self.mask = mask

    def forward(self):
        return gates.lstm_forward(self.x, self.h0, self.c0, self.W, self.U, self.b, mask=self.mask)

    def loss(self):
        hs, c, _ = self.forward()
        return np.sum(self.dhs * hs) + np.sum(self.dc * c)

    def backward(self):
        names = "dx", "dW", "dU", "db", "dh0", "dc0"
        found = gates.lstm_backward(self.dhs, self.dc, self.forward()[2], self.W, self.U, mask=self.mask)
        return dict(zip(names, found, strict=True))

    def check(self, name):
        np.testing.assert_allclose(
            self.backward()[f"d{name}"], slope(self.loss, getattr(self, name)), rtol=1e-6, atol=1e-8
        )


def test_equation_22(monkeypatch):
    """Each step of `lstm_backward` continues with the slope by its h: through what is above, and what follows."""
    run, seen, step_backward = Sequence(), [], gates.lstm_step_backward

    def recorded(dh, *rest):
        seen.insert(0, dh)
        return step_backward(dh, *rest)

    monkeypatch.setattr(gates, "lstm_step_backward", recorded)
    run.backward()
    hs, _, caches = run.forward()
    for t in range(5):
        h = hs[:, t].copy()
        c = caches[t + 1].c_prev if t < 4 else None

        def loss(t=t, h=h, c=c):
            own = np.sum(run.dhs[:, t] * h)
            if t == 4:
                return own
            rest, c_last, _ = gates.lstm_forward(run.x[:, t + 1 :], h, c, run.W, run.U, run.b)
            return own + np.sum(run.dhs[:, t + 1 :] * rest) + np.sum(run.dc * c_last)

        np.testing.assert_allclose(seen[t], slope(loss, h), rtol=1e-6, atol=1e-8)


def test_equation_23():
    Sequence().check("W")


def test_equation_24():
    Sequence().check("U")


def test_equation_25():
    Sequence().check("b")


def test_equation_26():
    """A stateful layer's second piece: the slope of its loss with the states at its beginning as they are, no more."""
    rng = np.random.default_rng(2)
    layer = LSTM(H, return_sequences=True, stateful=True, dtype="float64")
    layer.build((None, E), rng)
    pieces, dhs = rng.normal(size=(2, B, 3, E)), rng.normal(size=(B, 3, H))
    W, U, b = layer.kernels()

    def loss(h, c):
        return np.sum(dhs * gates.lstm_forward(pieces[1], h, c, W, U, b)[0])

    def loss_through_both():
        start = np.zeros((B, H))
        hs, c, _ = gates.lstm_forward(pieces[0], start, start, W, U, b)
        return loss(hs[:, -1], c)

    layer.forward(pieces[0])
    states = [state.copy() for state in layer.states]
    _, grads = layer.backward(dhs, layer.forward(pieces[1])[1])
    assert loss(*states) == pytest.approx(loss_through_both(), rel=1e-12)  # the numbers go on
    for name, array in (("kernel", W), ("recurrent_kernel", U), ("bias", b)):
        gradient = grads[name]
        np.testing.assert_allclose(gradient, slope(lambda: loss(*states), array), rtol=1e-6, atol=1e-8)
        assert np.abs(gradient - slope(loss_through_both, array)).max() > 1e-3  # the gradient does not


def test_equation_27():
    """Past a masked step h, c and both gradients go as they came, and nothing enters the gates."""
    rng = np.random.default_rng(2)
    x, dhs, mask = rng.normal(size=(B, 1, E)), rng.normal(size=(B, 1, H)), np.zeros((B, 1), dtype=bool)
    h0, c0, dc = rng.normal(size=(3, B, H))
    W, U, b = (rng.normal(size=SHAPES[name]) for name in "WUb")
    hs, c, caches = gates.lstm_forward(x, h0, c0, W, U, b, mask=mask)
    dx, dW, dU, db, dh0, dc0 = gates.lstm_backward(dhs, dc, caches, W, U, mask=mask)
    for array, expected in ((hs[:, 0], h0), (c, c0), (dh0, dhs[:, 0]), (dc0, dc)):
        np.testing.assert_array_equal(array, expected)
    for gradient in (dx, dW, dU, db):
        assert not gradient.any()
    within = Sequence(mask=np.array([[1, 1, 0, 0, 1], [0, 1, 0, 1, 1], [1, 1, 1, 1, 0]], bool))
    for name in ("x", "W", "U", "b", "h0", "c0"):
        within.check(name)


def test_equation_28():
    """A row's gradient is the sum over the places of its id."""
    layer = Embedding(5, 3, dtype="float64")
    layer.build((4,), np.random.default_rng(0))
    x, dy = np.array([[1, 2, 1, 4], [1, 0, 0, 2]]), np.random.default_rng(3).normal(size=(2, 4, 3))
    _, grads = layer.backward(dy, layer.forward(x)[1])
    table = layer.params["embeddings"]
    numerical = slope(lambda: np.sum(dy * table[x]), table)
    np.testing.assert_allclose(np.asarray(grads["embeddings"]), numerical, rtol=1e-8, atol=1e-9)


def test_equation_29():
    """From the logits, by the package and by the slope of the mean log-likelihood."""
    logits, y = np.random.default_rng(4).normal(size=(5, 1)), np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])

    def loss():
        p = gates.sigmoid(logits)
        return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))

    _, gradient = losses.BinaryCrossentropy().with_gradient(y, logits, from_logits=True)
    np.testing.assert_allclose(gradient, (gates.sigmoid(logits) - y) / 5, rtol=1e-14)
    np.testing.assert_allclose(gradient, slope(loss, logits), rtol=1e-8)


def check_dense(name):
    """A gradient of the package's dense layer, by its slope."""
    rng = np.random.default_rng(5)
    h, dlogit = rng.normal(size=(B, H)), rng.normal(size=(B, 1))
    layer = Dense(1, dtype="float64")
    layer.build((H,), rng)
    dh, grads = layer.backward(dlogit, layer.forward(h)[1])
    arrays = {"w": layer.params["kernel"], "w0": layer.params["bias"], "h": h}
    gradients = {"w": grads["kernel"], "w0": grads["bias"], "h": dh}

    def loss():
        return np.sum(dlogit * (h @ arrays["w"] + arrays["w0"]))

    np.testing.assert_allclose(gradients[name], slope(loss, arrays[name]), rtol=1e-8, atol=1e-10)


def test_equation_30():
    check_dense("w")


def test_equation_31():
    check_dense("w0")


def test_equation_32():
    check_dense("h")


# --- attention --------------------------------------------------------------------------------------------------------


def attended(mask=None):
    """Random values for the lines of attention, two queries and five keys, with what goes before computed."""
    rng = np.random.default_rng(6)
    shapes = {"q": (B, 2, E), "k": (B, 5, E), "v": (B, 5, H), "dy": (B, 2, H), "scale": ()}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    values |= {name: rng.normal(size=(B, 2, 5)) for name in ("s", "w", "da", "ds")}
    values["scale"] = np.array(0.7)
    values["values"] = None if mask is None else np.array(mask, bool)[..., None]
    values["qk"] = values["q"] @ values["k"].swapaxes(1, 2)
    return values | {"a": attention.softmax(values["s"], values["values"])}


SOME_KEYS = [[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]


def scores(ds, q, k, scale, **_):  # (33)
    return np.sum(ds * scale * np.einsum("nie,nje->nij", q, k))


def weights(da, s, values, **_):  # (34)
    return np.sum(da * attention.softmax(s, values))


def context(dy, w, v, **_):  # (35)
    return np.sum(dy * np.einsum("nij,njd->nid", w, v))


def test_equation_33():
    values = attended()
    expected = 0.7 * np.einsum("nie,nje->nij", values["q"], values["k"])
    np.testing.assert_allclose(evaluated(33, "s", values), expected, rtol=1e-12)


def test_equation_34():
    """By the quotient itself; and from scores that are too large for it, with no weight for what is masked."""
    values = attended(SOME_KEYS)
    m, s = np.array(SOME_KEYS)[:, None], values["s"]
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(m * np.exp(s) / np.sum(m * np.exp(s), axis=-1, keepdims=True))
    np.testing.assert_allclose(evaluated(34, "a", values), expected, rtol=1e-12)
    huge = evaluated(34, "a", values | {"s": np.where(m, 1e4 * s, 1e6)})
    np.testing.assert_array_equal(huge.argmax(axis=-1)[[0, 2]], np.where(m, s, -np.inf).argmax(axis=-1)[[0, 2]])
    assert not huge[np.broadcast_to(m == 0, huge.shape)].any()


def test_equation_35():
    values = attended()
    expected = np.einsum("nij,njd->nid", values["w"], values["v"])
    np.testing.assert_allclose(evaluated(35, "y", values), expected, rtol=1e-12)


def test_equation_36():
    check(36, "v", context, attended())


def test_equation_37():
    check(37, "w", context, attended())


def test_equation_38():
    check(38, "s", weights, attended())
    check(38, "s", weights, attended(SOME_KEYS))


def test_equation_39():
    check(39, "q", scores, attended())


def test_equation_40():
    check(40, "k", scores, attended())


def test_equation_41():
    check(41, "scale", scores, attended())


# --- how far back a gradient reaches ----------------------------------------------------------------------------------


def test_equation_42():
    """Without U only the direct path remains: c reaches a later c by the product of the forget gates between them."""
    run = Sequence()
    run.dhs[:] = 0  # the loss sees the last c alone
    product = np.prod([cache.f for cache in run.forward()[2]], axis=0)
    assert np.abs(run.backward()["dc0"] - run.dc * product).max() > 1e-3  # through U there are other paths
    run.U = np.zeros_like(run.U)
    hs, _, caches = run.forward()
    for s in range(5):
        h, c = (run.h0, run.c0) if s == 0 else (hs[:, s - 1], caches[s].c_prev.copy())
        product = np.prod([cache.f for cache in caches[s:]], axis=0)

        def loss(s=s, h=h, c=c):
            return np.sum(run.dc * gates.lstm_forward(run.x[:, s:], h, c, run.W, run.U, run.b)[1])

        np.testing.assert_allclose(run.dc * product, slope(loss, c), rtol=1e-7, atol=1e-9)
        *_, dc = gates.lstm_backward(run.dhs[:, s:], run.dc, caches[s:], run.W, run.U)
        np.testing.assert_allclose(run.dc * product, dc, rtol=1e-12)


# --- the numbers beside the equations ---------------------------------------------------------------------------------

# "> Step 2: di = 0.34019 · (-0.91036) = **-0.30969**": where, then for each name what is computed, and its value
BESIDE = re.compile(r"^> .*(?:\n>.*)*", re.MULTILINE)
VALUE = re.compile(r"(\S+) = (?:([^=*]+) = )?\*\*([-\d.]+)\*\*")


def one_step(x, h_prev, c_prev, W, U, b, dh=0.0, dc_next=0.0):
    """Every name of a step of one unit, from the lines of `gates.py`, one after another."""
    values = {"x": x, "h_prev": h_prev, "c_prev": c_prev, "W": W, "U": U, "b": b, "dh": dh, "dc_next": dc_next, "H": 1}
    values["z"] = x @ W + h_prev @ U + b
    for number in range(1, 22):
        name = LINES[number].split(" = ")[0]
        values[name] = evaluated(number, name, values)
        if number == 5:
            values["tanh_c"] = np.tanh(values["c"])
        if number == 16:
            values["dz"] = np.concatenate([values[f"dz_{k}"] for k in "ifgo"], axis=1)
    values |= {f"z_{k}": values["z"][:, n] for n, k in enumerate("ifgo")}
    return values | {f"{name}_f": values[name][..., 1] for name in ("dW", "dU", "db")}


def example(page):
    """The values of the example's names, by the words that a line of numbers on the page begins with."""
    rows = re.findall(r"^\| [WUb] \| (.+) \|$", page, re.MULTILINE)
    W, U, b = (np.array([row.split(" | ")], float) for row in rows)
    x, h0, c0, ones = np.array([[[1.0], [-1.0]]]), np.array([[0.5]]), np.ones((1, 1)), np.ones((1, 2, 1))
    first = x[:, 0], h0, c0, W, U, b
    before = one_step(*first)
    second = one_step(x[:, 1], before["h"], before["c"], W, U, b, dh=1.0)
    mask = np.array([[True, False]])
    hs, _, caches = gates.lstm_forward(x, h0, c0, W, U, b[0])
    masked = gates.lstm_forward(x, h0, c0, W, U, b[0], mask=mask)[2]
    both, with_mask, from_last_c = (
        gates.lstm_backward(*given, W, U, mask=mask)
        for given, mask in (
            ((ones, np.zeros((1, 1)), caches), None),
            ((ones, np.zeros((1, 1)), masked), mask),
            ((0 * ones, np.ones((1, 1)), caches), None),
        )
    )

    embedding, dense = Embedding(4, 1, dtype="float64"), Dense(1, kernel_initializer=Constant(2.0), dtype="float64")
    embedding.build((3,))
    dense.build((1,))
    _, kept = embedding.forward(np.array([[3, 1, 3]]))
    dtable = np.asarray(embedding.backward(np.array([[[0.2], [0.5], [0.4]]]), kept)[1]["embeddings"])
    logit, kept = dense.forward(hs[:, 1])
    _, dlogit = losses.BinaryCrossentropy().with_gradient(np.ones((1, 1)), logit, from_logits=True)
    dh, grads = dense.backward(dlogit, kept)
    above = {"logit": logit, "p": gates.sigmoid(logit), "dlogit": dlogit, "dh": dh}

    attended = {"q": hs[:, 1:], "k": hs, "v": hs, "dy": np.ones((1, 1, 1)), "scale": 1.0, "values": None}
    attended["qk"] = attended["q"] @ hs.swapaxes(1, 2)
    for number, name in enumerate(("s", "a", "y", "dv", "dw", "ds", "dq", "dk", "dscale"), start=33):
        attended[name] = evaluated(number, name, attended)
        attended |= {{"a": "w", "dw": "da"}.get(name, name): attended[name]}
    by_key = {f"{name}_{n + 1}": attended[name].flat[n] for name in ("s", "a", "dv", "da", "ds", "dk") for n in (0, 1)}
    query = by_key | {"y": attended["y"], "dq": attended["dq"], "dα": attended["dscale"]}

    return {
        "Step 1": one_step(*first, dh=1 + second["dh_prev"], dc_next=second["dc_prev"]),
        "Step 2": second,
        "Both steps": {f"{name}_f": both[n].flat[1] for n, name in enumerate(("dW", "dU", "db"), start=1)},
        "Step 1, cut off from step 2": one_step(*first, dh=1.0),
        "Step 1, with step 2 masked": one_step(*first, dh=2.0) | {"dW_f": with_mask[1][:, 1]},
        "For ids 3, 1, 3 with dx = 0.2, 0.5, 0.4": {f"dtable_{row}": dtable[row] for row in range(4)},
        "Above the h of step 2": above | {"dw": grads["kernel"], "dw_0": grads["bias"]},
        "With its last h as a query": query,
        "From the last c back to c_0": {"direct": caches[0].f * caches[1].f, "all": from_last_c[-1]},
    }


def wrong_numbers(page):
    """The values on a page that are not what the page computes them from, or not what the package gives."""
    known, wrong = example(page), []
    functions = {"σ": lambda z: 1 / (1 + math.exp(-z)), "tanh": math.tanh, "exp": math.exp}
    for beside in BESIDE.findall(page):
        text = re.sub(r"\n> ?", " ", beside[2:])
        values = known.get(text.partition(":")[0])
        for name, computed, shown in VALUE.findall(text):
            if computed:
                result = eval(computed.replace("·", "*").replace("²", "**2"), functions)
                right = abs(result - float(shown)) < 3e-5
            if values is not None:
                right = (right or not computed) and float(shown) == round(float(np.squeeze(values[name])), 5)
            if not right:
                wrong.append(f"{name} = {shown} in: {text}")
    return wrong


def test_the_numbers_beside_the_equations_are_those_of_the_package():
    assert not wrong_numbers(PAGE)
    names = tuple(f"> {words}:" for words in example(PAGE))
    for number, text in re.findall(r"\\tag\{(\d+)\}(.*?)(?=\\tag|\Z)", PAGE, re.DOTALL):
        beside = BESIDE.findall(text)
        assert beside, f"no number beside equation ({number})"
        assert all(each.startswith(names) and VALUE.search(each) for each in beside), beside


def test_a_wrong_number_beside_an_equation_is_seen():
    """Each of them, operands and values, with its second decimal changed."""
    for beside in BESIDE.finditer(PAGE):
        for found in VALUE.finditer(PAGE, *beside.span()):
            for number in re.finditer(r"(?<![\w.])\d+(?:\.\d+)?", found[0].partition(" = ")[2]):
                at = found.end(1) + 3 + number.start()
                page = PAGE[:at] + f"{float(number[0]) + 0.013:g}" + PAGE[at + len(number[0]) :]
                assert wrong_numbers(page), f"{number[0]} in {found[0]}"
