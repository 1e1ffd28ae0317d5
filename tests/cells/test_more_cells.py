"""Layer-normalized, projected and minimal cells: options, PyTorch, and what cells do that use functions elsewhere.

For the latter each labelled line of docs/variants.md, and bugs seeded into all of them. `tests/tensorflow` compares all
cells with TensorFlow.
"""

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scratchlstm import Sequential, cells, gates, gradcheck
from scratchlstm.cells import layer_norm, min_gru, min_lstm, minimal_gated, normalize, projected
from scratchlstm.gates import sigmoid
from scratchlstm.layers import LSTM, RNN, Dense, LayerNormalization, normalization
from scratchlstm.layers.passes import Pass
from scratchlstm.models import load_model

B, T, E, H, P = 2, 4, 4, 3, 2
MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
F64 = {"dtype": "float64"}
WITH_OTHERS = {  # cells that call functions of other modules
    "LayerNormLSTMCell": lambda **options: cells.LayerNormLSTMCell(H, **options),
    "ProjectedLSTMCell": lambda **options: cells.ProjectedLSTMCell(H, P, **options),
}
WITHOUT_U = {
    "MinGRUCell": lambda **options: cells.MinGRUCell(H, **options),
    "MinLSTMCell": lambda **options: cells.MinLSTMCell(H, **options),
}
CELLS = WITH_OTHERS | WITHOUT_U | {"MGUCell": lambda **options: cells.MGUCell(H, **options)}


def scattered(cell, seed=0):
    """A layer of the cell with random parameters, far from where they start."""
    rng = np.random.default_rng(seed)
    layer = RNN(cell, return_sequences=True, return_state=True, **F64)
    layer.build((T, E))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer, rng.normal(size=(B, T, E))


# --- the whole cell ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_OTHERS)
def test_gradients_are_slopes_with_masks_and_dropout(name):
    dropped = {"dropout": 0.3, "recurrent_dropout": 0.3, "seed": 1}
    for options in (dropped, {"use_bias": False, "activation": "sigmoid"}):
        layer, x = scattered(CELLS[name](**options))
        report = gradcheck.check_layer(layer, x, mask=MASK, training=True)
        assert report.ok, report


def test_a_projected_cell_is_pytorchs():
    torch = pytest.importorskip("torch")
    layer, x = scattered(cells.ProjectedLSTMCell(H, P))
    theirs = torch.nn.LSTM(E, H, proj_size=P, batch_first=True, dtype=torch.float64)
    W, U, b, R = layer.get_weights()
    own = {"weight_ih_l0": W.T, "weight_hh_l0": U.T, "bias_ih_l0": b, "bias_hh_l0": 0 * b, "weight_hr_l0": R.T}
    theirs.load_state_dict({name: torch.tensor(array) for name, array in own.items()})
    rng = np.random.default_rng(1)
    given = [x, rng.normal(size=(B, P)), rng.normal(size=(B, H))]
    arriving = [rng.normal(size=(B, T, P)), rng.normal(size=(B, P)), rng.normal(size=(B, H))]

    tensors = [torch.tensor(each, requires_grad=True) for each in given]
    hs, (h, c) = theirs(tensors[0], (tensors[1][None], tensors[2][None]))
    outputs = hs, h[0], c[0]
    torch.autograd.backward(outputs, [torch.tensor(each) for each in arriving])
    ours, cache = layer.forward(tuple(given), Pass())
    into, grads = layer.backward(tuple(arriving), cache)

    dW, dU, db, dR = grads.values()
    found = [*ours, *into, dW.T, dU.T, db, db, dR.T]
    expected = [each.detach() for each in outputs] + [each.grad for each in tensors]
    expected += [getattr(theirs, name).grad for name in own]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_projection_that_changes_nothing_is_an_lstm():
    layer, x = scattered(cells.ProjectedLSTMCell(H, H))
    *of_lstm, R = layer.get_weights()
    layer.set_weights([*of_lstm, np.eye(*R.shape)])
    plain = LSTM(H, return_sequences=True, **F64)
    plain.build((T, E))
    plain.set_weights(of_lstm)
    np.testing.assert_allclose(layer(x)[0], plain(x), rtol=1e-12)


def test_layer_normalization_hides_the_scale_of_the_kernels():
    """The paper's reason for it: W and U times any factor give the same states; not so in an LSTM."""
    layer, x = scattered(cells.LayerNormLSTMCell(H, epsilon=1e-12))
    before, (W, U, *rest) = layer(x)[0], layer.get_weights()
    layer.set_weights([5 * W, 0.1 * U, *rest])
    np.testing.assert_allclose(layer(x)[0], before, rtol=1e-6)


def test_the_layer_and_the_cell_normalize_alike():
    a = np.random.default_rng(0).normal(size=(4, 6))
    found = normalize.normalize(a, 1e-3).value
    np.testing.assert_array_equal(LayerNormalization(**F64)(a), found)
    np.testing.assert_allclose(found, (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-3))


@pytest.mark.parametrize("name", WITHOUT_U)
def test_gates_that_do_not_see_h_make_h_a_weighted_mean(name):
    """Gates of all steps in one product; then h_T is the sum of all candidates, each by its share and those after."""
    layer, x = scattered(CELLS[name]())
    W, b = layer.get_weights()
    *of_gates, g = np.split(x @ W + b, len(layer.cell.gates), axis=-1)
    i, f = sigmoid(of_gates[0]), 1 - sigmoid(of_gates[0]) if name == "MinGRUCell" else sigmoid(of_gates[1])
    w, h0 = i / (f + i), np.random.default_rng(1).normal(size=(B, H))
    after = [np.prod(1 - w[:, t:], axis=1) for t in range(T + 1)]
    expected = h0 * after[0] + sum(after[t + 1] * w[:, t] * g[:, t] for t in range(T))
    np.testing.assert_allclose(layer(x, initial_state=[h0])[1], expected, rtol=1e-12)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITHOUT_U)
def test_options_of_a_recurrent_kernel_are_refused_by_name(name):
    make = WITHOUT_U[name]
    with pytest.raises(ValueError, match=f"{name} does not support recurrent_dropout: nothing in it multiplies h_prev"):
        make(recurrent_dropout=0.1)
    for option, value in {"recurrent_regularizer": "l2", "recurrent_constraint": "non_neg"}.items():
        with pytest.raises(ValueError, match=f"{name} does not support {option}: it has no recurrent_kernel"):
            RNN(make(**{option: value}))
    with pytest.raises(ValueError, match=f"{name} does not take recurrent_initializer: it has no recurrent_kernel"):
        make(recurrent_initializer="zeros")
    assert "recurrent_initializer" not in make().get_config()


@pytest.mark.parametrize("activation", ["hard_sigmoid", "relu", "tanh", None])
def test_a_minlstm_does_not_divide_by_zero(activation):
    with pytest.raises(ValueError, match="recurrent_activation of MinLSTMCell must not be"):
        cells.MinLSTMCell(2, recurrent_activation=activation)


@pytest.mark.parametrize("wrong", [0, 2.5, None, "2"])
def test_a_projection_is_a_positive_whole_number(wrong):
    with pytest.raises(ValueError, match="projection"):
        cells.ProjectedLSTMCell(H, wrong)


@pytest.mark.parametrize("wrong", [0, -1e-3, None, float("nan")])
def test_epsilon_is_above_0(wrong):
    with pytest.raises(ValueError, match="epsilon"):
        cells.LayerNormLSTMCell(H, epsilon=wrong)


def test_shapes_and_first_values():
    built = {name: RNN(make(), **F64) for name, make in CELLS.items()}
    for layer in built.values():
        layer.build((T, E))
    shapes = {name: {key: param.shape for key, param in layer.params.items()} for name, layer in built.items()}
    lstm = {"kernel": (E, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)}
    gains = {"gain_x": (4 * H,), "gain_h": (4 * H,), "gain_c": (H,), "bias_c": (H,)}
    assert shapes == {
        "LayerNormLSTMCell": lstm | gains,
        "ProjectedLSTMCell": lstm | {"recurrent_kernel": (P, 4 * H), "projection_kernel": (H, P)},
        "MGUCell": {"kernel": (E, 2 * H), "recurrent_kernel": (H, 2 * H), "bias": (2 * H,)},
        "MinGRUCell": {"kernel": (E, 2 * H), "bias": (2 * H,)},
        "MinLSTMCell": {"kernel": (E, 3 * H), "bias": (3 * H,)},
    }
    assert built["ProjectedLSTMCell"].state_sizes == {"h0": P, "c0": H}
    first = built["LayerNormLSTMCell"].params
    assert [set(np.unique(first[name])) for name in gains] == [{1}, {1}, {1}, {0}]
    assert [list(first["bias"][k * H : (k + 1) * H]) for k in range(4)] == [[0] * H, [1] * H, [0] * H, [0] * H]
    for name in WITHOUT_U:
        assert built[name].cell.get_config()["activation"] == "linear"


def test_a_stack_of_them_trains_and_is_saved(tmp_path):
    made = [cells.LayerNormLSTMCell(H, epsilon=0.1), cells.ProjectedLSTMCell(H, P), cells.MGUCell(H)]
    made += [cells.MinGRUCell(H, "tanh"), cells.MinLSTMCell(H, use_bias=False)]
    model = Sequential([RNN(made, input_shape=(T, E)), Dense(1)], seed=0)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, T, E))
    losses = model.fit(x, x[:, -1, :1], epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.layers[0].get_config() == model.layers[0].get_config()


# --- each labelled line by itself -------------------------------------------------------------------------------------

MODULES = {"LayerNormLSTMCell": layer_norm, "ProjectedLSTMCell": projected}
LABELLED = re.compile(r"^( +\w+ = .*?) +# .*\(([A-Z]\d+)\)$", re.MULTILINE)
LINES = {
    label: code.strip()
    for module in (normalize, *MODULES.values())
    for code, label in LABELLED.findall(inspect.getsource(module))
}


def test_the_page_has_every_label_in_order():
    page = (Path(__file__).parents[2] / "docs" / "variants.md").read_text(encoding="utf-8")
    found = re.findall(r"\\tag\{([NRML])(\d+)\}", page)
    for letter, count in {"N": 14, "R": 4, "M": 12, "L": 13}.items():
        assert [int(number) for other, number in found if other == letter] == list(range(1, count + 1))
    for module in (normalize, layer_norm, projected, minimal_gated, min_gru, min_lstm):
        assert set(re.findall(r"\(([A-Z])(\d+)\)$", inspect.getsource(module), re.MULTILINE)) <= set(found)


def some_values():
    """A random array for every name in the lines; activations' values lie where the activations put them."""
    rng = np.random.default_rng(0)
    shapes = {"R": (H, P), "dz": (B, 4 * H), "xW": (B, 4 * H), "hU": (B, 4 * H), "gain_x": 4 * H, "gain_h": 4 * H}
    shapes |= {"gain_c": H, "bias_c": H}
    names = (*shapes, "a", "d_value", "dh", "dc_next", "dm", "c", "m", "o")
    return {name: rng.normal(size=shapes.get(name, (B, H))) for name in names}


def normal(a):
    """(N1) in other words."""
    return (a - a.mean(axis=1, keepdims=True)) / np.sqrt(a.var(axis=1, keepdims=True) + 1e-3)


def shown(dh, o, m, **_):  # (N4)
    return np.sum(dh * o * np.tanh(m))


def of_cell(dm, dc_next, gain_c, bias_c, c, **_):  # (N3), and what c gives to the step after
    return np.sum(dm * (gain_c * normal(c) + bias_c)) + np.sum(dc_next * c)


def pre_activations(dz, gain_x, xW, gain_h, hU, **_):  # (N2)
    return np.sum(dz * (gain_x * normal(xW) + gain_h * normal(hU)))


def projection(dh, m, R, **_):  # (R2)
    return np.sum(dh * (m @ R))


CHECKS = {  # label of a line of a backward pass -> the name whose gradient it gives, the loss
    "N5": ("a", lambda d_value, a, **_: np.sum(d_value * normal(a))),
    "N6": ("o", shown),
    "N7": ("m", shown),
    "N8": ("gain_c", of_cell),
    "N9": ("bias_c", of_cell),
    "N10": ("c", of_cell),
    "N11": ("gain_x", pre_activations),
    "N12": ("gain_h", pre_activations),
    "N13": ("xW", pre_activations),
    "N14": ("hU", pre_activations),
    "R3": ("m", projection),
    "R4": ("R", projection),
}


def evaluated(label):
    """What the line with this label gives, and the values it is evaluated with."""
    values, (name, _) = some_values(), CHECKS[label]
    if label[0] == "R":
        values["dh"] = np.random.default_rng(1).normal(size=(B, P))
    of_a = normalize.normalize(values["a"], 1e-3)
    known = {"value": of_a.value, "scale": of_a.scale, "mean": normalize.mean}
    known |= {f"of_{of}": normalize.normalize(values[a], 1e-3) for of, a in {"x": "xW", "h": "hU", "c": "c"}.items()}
    known |= {"phi_m": np.tanh(values["m"]), "phi_prime": gates.tanh_prime, "cache": SimpleNamespace(m=values["m"])}
    target, expression = LINES[label].split(" = ", 1)
    assert target == f"d{name}"
    return eval(expression, known | {"xp": np, "normalize_back": normalize.normalize_back}, values), values


@pytest.mark.parametrize("label", CHECKS)
def test_each_labelled_line_is_the_slope_it_claims_to_be(label):
    name, loss = CHECKS[label]
    analytic, values = evaluated(label)
    numerical = gradcheck.numerical_gradient(lambda: float(loss(**values)), values[name])
    np.testing.assert_allclose(analytic, numerical, rtol=1e-6, atol=1e-8)


# --- seeded bugs ------------------------------------------------------------------------------------------------------

SWAPPED = {"sigma_prime": "phi_prime", "phi_prime": "sigma_prime"}


class Mistake(ast.NodeTransformer):
    """Makes mistake number `wanted` in the operations of all backward functions of a module.

    An operand of a sum or product is left out; a difference becomes a sum or its second operand, a quotient its first;
    a sign is lost, a matrix product gets one; σ' becomes φ', φ' becomes σ'.
    """

    def __init__(self, wanted):
        self.wanted, self.count, self.inside, self.made = wanted, 0, False, ""

    def visit_FunctionDef(self, node):
        self.inside = "back" in node.name
        self.generic_visit(node)
        self.inside = False
        return node

    def _choose(self, node, *others):
        for other in others:
            if self.inside and self.count == self.wanted:
                self.made = f"{ast.unparse(node)} -> {ast.unparse(other)}"
                node = other
            self.count += self.inside
        return node

    def visit_BinOp(self, node):
        self.generic_visit(node)
        a, b = node.left, node.right
        match node.op:
            case ast.Add() | ast.Mult():
                return self._choose(node, a, b)
            case ast.Sub():
                return self._choose(node, ast.BinOp(a, ast.Add(), b), b)
            case ast.Div():
                return self._choose(node, a)
            case ast.MatMult():
                return self._choose(node, ast.UnaryOp(ast.USub(), node))
        return node

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return self._choose(node, node.operand)

    def visit_Call(self, node):
        self.generic_visit(node)
        other = ast.Name(SWAPPED.get(getattr(node.func, "id", ""), ""), ast.Load())
        return self._choose(node, *([ast.Call(other, node.args, [])] if other.id else []))


def with_mistake(module, number):
    """The module's names with that mistake in the code, and what it is; None if there are not so many."""
    mistake = Mistake(number)
    tree = mistake.visit(ast.parse(inspect.getsource(module)))
    if not mistake.made:
        return None
    names = {"__name__": module.__name__}
    exec(compile(ast.fix_missing_locations(tree), module.__file__, "exec"), names)
    return names, mistake.made


@pytest.fixture
def quick(monkeypatch):
    """The numerical gradients are computed once, since a mistake in a backward pass does not change them.

    Which gate is wrong, tests/cells/test_wrong_gates.py asks.
    """
    slopes, compute = {}, gradcheck.numerical_gradient

    def remembered(loss, array, epsilon):
        key = array.shape, array.tobytes()
        if key not in slopes:
            slopes[key] = compute(loss, array, epsilon)
        return slopes[key]

    monkeypatch.setattr(gradcheck.numerical, "numerical_gradient", remembered)
    monkeypatch.setattr(RNN, "column_blocks", {})


def seen(layer):
    """Whether `check_layer` objects, or cannot even go on because shapes do not fit."""
    rng = np.random.default_rng(0)
    layer.build((1, 3))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    try:
        return not gradcheck.check_layer(layer, rng.normal(size=(2, 1, 3))).ok
    except ValueError:
        return True


@pytest.mark.parametrize("name", MODULES)
def test_every_mistake_in_a_backward_pass_is_seen(name, quick):
    def layer(cell):
        return RNN(cell(3, *((2,) if name == "ProjectedLSTMCell" else ())), return_state=True, **F64)  # d of h and c

    assert not seen(layer(getattr(cells, name)))
    number = 0
    while (found := with_mistake(MODULES[name], number)) is not None:
        names, made = found
        assert seen(layer(names[name])), made
        number += 1
    assert number >= (2 if name == "ProjectedLSTMCell" else 10)


def test_every_mistake_in_the_normalization_is_seen(quick, monkeypatch):
    number = 0
    while (found := with_mistake(normalize, number)) is not None:
        names, made = found
        monkeypatch.setattr(normalization, "normalize_back", names["normalize_back"])
        assert seen(LayerNormalization(**F64)), made
        number += 1
    assert number >= 10
