"""What a cell of one's own must do: each mistake is refused with one sentence, when it is defined, made or run."""

import types
from typing import NamedTuple

import numpy as np
import pytest

from scratchlstm.cells import Cell, GRUCell, LSTMCell, MinGRUCell, StackedRNNCells
from scratchlstm.layers import GRU, LSTM, RNN, Dense
from scratchlstm.layers.passes import Pass

X = np.random.default_rng(0).normal(size=(2, 4, 3))


class StepCache(NamedTuple):
    x: np.ndarray
    h_prev: np.ndarray
    g: np.ndarray


class Leaky(Cell):
    """Right as it is."""

    gates = ("g",)

    def forward(self, x, h_prev, W, U, b):
        g = np.tanh(x @ W + h_prev @ U + b)
        return (h_prev + g) / 2, StepCache(x, h_prev, g)

    def backward(self, dh, cache, W, U, b):
        dz = dh / 2 * (1 - cache.g**2)
        d_params = {"dW": cache.x.T @ dz, "dU": cache.h_prev.T @ dz, "db": dz.sum(axis=0)}
        return {"dx": dz @ W.T, "dh_prev": dh / 2 + dz @ U.T, **d_params}


def run(cell, x=X, mask=None):
    """Forward and backward of a layer of it."""
    layer = RNN(cell, dtype="float64")
    y, cache = layer.forward(x, Pass(training=True), mask)
    return layer.backward(np.ones_like(y), cache)


def own(**body):
    """A class of one's own with these attributes."""
    return type("Mine", (Leaky,), body)


def gives(change):
    """A cell whose `backward` gives something else."""
    return own(backward=lambda self, dh, cache, W, U, b: change(Leaky.backward(self, dh, cache, W, U, b)))(3)


def steps(change):
    """A cell whose `forward` gives something else."""
    return own(forward=lambda self, x, h_prev, W, U, b: change(*Leaky.forward(self, x, h_prev, W, U, b)))(3)


def test_the_cell_above_is_right():
    dx, grads = run(Leaky(3))
    assert dx.shape == X.shape
    assert list(grads) == ["kernel", "recurrent_kernel", "bias"]


def test_a_cache_may_be_any_object_and_more_may_be_given_for_the_trace():
    run(steps(lambda h, cache: (h, types.SimpleNamespace(**cache._asdict()))))
    run(gives(lambda grads: grads | {"dz": grads["dx"]}))
    run(gives(lambda grads: NamedTuple("Grads", [(name, object) for name in grads])(**grads)))


def test_numbers_that_are_not_finite_are_not_taken_for_changes():
    with np.errstate(invalid="ignore"):
        run(Leaky(3), np.where(X > 1, np.nan, X))


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        (
            gives(lambda g: {n: g[n] for n in g if n != "dU"}),
            TypeError,
            "backward of Mine has no dU among dx, dh_prev, dW",
        ),
        (
            gives(lambda g: g | {"dU": g["dU"][:2]}),
            ValueError,
            r"must return dU with the shape \(3, 3\), not an array of .* \(2, 3\)",
        ),
        (
            gives(lambda g: g | {"dU": g["dU"].astype("f4")}),
            TypeError,
            "must return dU with the dtype float64, that of x, not float32",
        ),
        (gives(lambda g: g | {"db": None}), ValueError, r"must return db with the shape \(3,\), not None"),
        (gives(lambda g: g | {"dz": g["dx"][:, :2]}), ValueError, r"must return dz with the shape \(2, 3\), not"),
        (gives(lambda g: g | {"dh": g["db"]}), ValueError, r"must return dh with the shape \(2, 3\), not"),
        (gives(lambda g: {}), TypeError, "backward of Mine returned no gradients: it must return dx, .*, dU, db$"),
        (gives(lambda g: g | {"dx": g["dx"][:, :2]}), ValueError, r"must return dx with the shape \(2, 3\), not"),
        (
            gives(lambda g: g | {"dh_prev": g["dh_prev"][0]}),
            ValueError,
            r"must return dh_prev with the shape \(2, 3\), not",
        ),
        (
            gives(lambda g: list(g.values())),
            TypeError,
            "must return a dict or a NamedTuple with dx, .*, db, not a list of 5$",
        ),
        (gives(lambda g: None), TypeError, "must return a dict or a NamedTuple with dx, .*, not None$"),
        (
            steps(lambda h, c: h),
            TypeError,
            r"forward of Mine must return \(h, cache\), to match its states, not an array",
        ),
        (steps(lambda h, c: (h, h, c)), TypeError, r"must return \(h, cache\), to match its states, not a tuple of 3$"),
        (steps(lambda h, c: [h, c]), TypeError, r"must return \(h, cache\), to match its states, not a list of 2$"),
        (
            steps(lambda h, c: (h[:, :2], c)),
            ValueError,
            r"forward of Mine must return h with the shape \(2, 3\), not .* \(2, 2\)",
        ),
        (
            steps(lambda h, c: (h.astype("f4"), c)),
            TypeError,
            "must return h with the dtype float64, that of x, not float32",
        ),
        (steps(lambda h, c: (h, tuple(c))), TypeError, "cache of Mine must have the attribute g, .* not a tuple of 3$"),
        (
            steps(lambda h, c: (h, None)),
            TypeError,
            "cache of Mine must have the attribute g, one of its gates: .*, not None$",
        ),
        (
            steps(lambda h, c: (h, c._replace(g=1.0))),
            ValueError,
            r"must return g in its cache with the shape \(2, 3\), not 1.0",
        ),
    ],
)
def test_results_that_do_not_fit(cell, error, message):
    with pytest.raises(error, match=message):
        run(cell)


@pytest.mark.parametrize("name", ["x", "h_prev", "W", "U", "b"])
def test_a_forward_that_changes_its_input(name):
    def forward(self, x, h_prev, W, U, b):
        locals()[name].__iadd__(1)
        return Leaky.forward(self, x, h_prev, W, U, b)

    with pytest.raises(ValueError, match=f"forward of Mine changes {name} in place, which it does not own: copy it"):
        run(own(forward=forward)(3))


@pytest.mark.parametrize("name", ["dh", "W", "x of the cache", "g of the cache"])
def test_a_backward_that_changes_its_input(name):
    def backward(self, dh, cache, W, U, b):
        array = getattr(cache, name[0]) if "cache" in name else locals()[name]
        array += 1
        return Leaky.backward(self, dh, cache, W, U, b)

    with pytest.raises(ValueError, match=f"backward of Mine changes {name} in place, which it does not own: copy it"):
        run(own(backward=backward)(3))


def reusing(name):
    """A cell that writes the result of that name into one array at every step."""
    buffers = []

    def reused(**results):
        if name in results:
            buffers[:] = buffers or [results[name].copy()]
            buffers[0][...] = results[name]
            results[name] = buffers[0]
        return results

    def forward(self, x, h_prev, W, U, b):
        h, cache = Leaky.forward(self, x, h_prev, W, U, b)
        results = reused(h=h, g=cache.g)
        return results["h"], cache._replace(g=results["g"])

    def backward(self, dh, cache, W, U, b):
        return reused(**Leaky.backward(self, dh, cache, W, U, b))

    return own(forward=forward, backward=backward)(3)


@pytest.mark.parametrize("name", ["h", "g", "dx", "dh_prev", "dU"])
@pytest.mark.parametrize("mask", [None, np.array([[True, True, False, False]] * 2)])
def test_an_array_that_is_returned_again(name, mask):
    function, told = "backward" if name[0] == "d" else "forward", "g of the cache" if name == "g" else name
    match = f"^{function} of Mine returns as {told} the same array as at the previous step, .*: make a new one$"
    with pytest.raises(ValueError, match=match):
        run(reusing(name), mask=mask)


def test_what_is_only_passed_on_or_never_changes_may_be_returned_again():
    same = np.ones(3)

    class Passing(Cell):
        gates = ("g",)
        states = ("h", "first", "before")

        def forward(self, x, h_prev, first_prev, before_prev, W, U, b):
            h, cache = Leaky.forward(self, x, h_prev, W, U, b)
            return h, first_prev, h_prev, types.SimpleNamespace(**cache._asdict(), same=same)

        def backward(self, dh, dfirst_next, dbefore_next, cache, W, U, b):
            step = Leaky.backward(self, dh, cache, W, U, b)
            step["dh_prev"] += dbefore_next
            return step | {"dfirst_prev": dfirst_next, "dbefore_prev": np.zeros_like(dh)}

    run(Passing(3))


def test_what_goes_wrong_only_after_the_first_step():
    def forward(self, x, h_prev, W, U, b):
        h, cache = Leaky.forward(self, x, h_prev, W, U, b)
        return (h[:, :2] if h_prev.any() else h), cache

    with pytest.raises(ValueError, match="forward of Mine must return h with the shape"):
        run(own(forward=forward)(3))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"forward": lambda self, inputs, states: None},
            r"defines forward\(inputs, states\), but a cell defines forward\(x, ",
        ),
        (
            {"forward": lambda self, x, h, W, U, b: None},
            r"the states h and defines forward\(x, h, W, U, b\), but a cell",
        ),
        (
            {"forward": lambda: None},
            r"defines forward\(\), but a cell defines forward\(x, h_prev, W, U, b\) -> \(h, cache\)",
        ),
        ({"forward": lambda self, *arrays: None}, r"defines forward\(arrays\), but a cell defines"),
        (
            {"states": ("h", "c")},
            r"states h, c and .* but a cell defines forward\(x, h_prev, c_prev, W, U, b\) -> \(h, c, ",
        ),
        ({"backward": lambda self, dy, cache: None}, r"backward\(dy, cache\), but .* backward\(dh, cache, W, U, b\)"),
        (
            {"backward": lambda self, cache, dh, W, U, b: None},
            r"backward\(cache, dh, W, U, b\), but .* backward\(dh, cache, ",
        ),
        (
            {"backward": lambda self, dh, cache, U, W, b: None},
            r"forward\(x, h_prev, W, U, b\) and backward\(dh, cache, U, W, b\), but .* in the same order",
        ),
        (
            {"forward": lambda self, x, h_prev, U, W, b: None},
            r"forward\(x, h_prev, U, W, b\) and backward\(dh, cache, W, U, b\), but .* backward\(dh, cache, U, W, b\)",
        ),
        (
            {"call": lambda self, inputs, states: None},
            r"defines call\(\), as Keras cells do, but here a cell defines forw",
        ),
        (
            {"gates": "in"},
            r"gates of Mine must be a tuple of names, with a comma after a single one: \('in',\), not 'in'",
        ),
        ({"states": "h"}, "states of Mine must be a tuple of names"),
        ({"blocks": (1, 2)}, r"blocks of Mine must be a tuple of names, with a comma .*: \('b',\), not \(1, 2\)"),
        ({"gates": ("g", "a", "g")}, "gates of Mine must be different names, but 'g' appears twice"),
        ({"blocks": ("g", "g")}, "blocks of Mine must be different names, but 'g' appears twice"),
        ({"states": ("h", "h")}, "states of Mine must be different names, but 'h' appears twice"),
        ({"gates": ("x",)}, "Mine calls a gate or state 'x', which is an argument of its forward: rename it"),
        ({"gates": ("a", "b")}, "Mine calls a gate or state 'b', which is an argument of its forward: rename it"),
        (
            {"gates": ("input",)},
            "Mine calls a gate or state 'input', a name that traces use for something else: rename it",
        ),
        ({"gates": ("table",)}, "Mine calls a gate or state 'table', a name that traces use for something else"),
        ({"gates": ("h_prev",)}, "Mine calls a gate or state 'h_prev', a name that traces use for something else"),
        (
            {"gates": ("z_g",), "blocks": ("g",)},
            "Mine calls a gate or state 'z_g', a name that traces use for something else",
        ),
        ({"states": ()}, "states of Mine must name at least one, the output"),
    ],
)
def test_a_class_that_is_no_cell_is_refused_when_it_is_defined(body, message):
    with pytest.raises(TypeError, match=message):
        type("Mine", (Cell if "call" in body else Leaky,), body)


def test_what_a_cell_has_to_define():
    with pytest.raises(TypeError, match=r"Mine must define forward: a cell defines forward\(x, h_prev, W, U, b\)"):
        type("Mine", (Cell,), {"gates": ("g",)})(3)
    untrained = type("Mine", (Cell,), {"gates": ("g",), "forward": Leaky.forward})(3)
    layer = RNN(untrained)
    y, cache = layer.forward(X)
    with pytest.raises(NotImplementedError, match="Mine must define backward to be trained: a cell defines forward"):
        layer.backward(y, cache)
    with pytest.raises(TypeError, match=r"^Mine names no gates, .*: blocks = \('h',\) with gates = \(\) gives"):
        run(own(gates=())(3))
    with pytest.raises(TypeError, match=r"^Mine.__init__ does not call super\(\).__init__\(units, ...\), but must$"):
        run(own(__init__=lambda self, units: None)(3))


@pytest.mark.parametrize(
    ("specs", "shown"),
    [
        (lambda own: own | {"peephole": ((3,), "zeros")}, "kernel, recurrent_kernel, bias, peephole"),
        (lambda own: {"kernel": own["kernel"]}, "kernel"),
    ],
)
def test_parameters_that_forward_does_not_take(specs, shown):
    cell = own(param_specs=lambda self, features: specs(Cell.param_specs(self, features)))(3)
    with pytest.raises(TypeError, match=f"its forward takes W, U, b, but its param_specs are {shown}$"):
        run(cell)


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({}, "{}"),
        ({"c": 3}, "{'c': 3}"),
        ({"h": 3, "c": 3}, "{'h': 3, 'c': 3}"),
        ({"h": 0}, "{'h': 0}"),
        ({"h": True}, "{'h': True}"),
        ({"h": 3.0}, "{'h': 3.0}"),
        ([3], r"\[3\]"),
        (None, "None"),
    ],
)
def test_state_sizes_that_do_not_fit(sizes, shown):
    match = f"^state_sizes of Mine must be a property with a whole number above 0 .*, like {{'h': 3}}, not ({shown})$"
    with pytest.raises(TypeError, match=match):
        RNN(own(state_sizes=property(lambda self: sizes))(3))


def test_state_sizes_that_are_no_property():
    with pytest.raises(TypeError, match="^state_sizes of Mine must be a property .*, not a method$"):
        RNN(own(state_sizes=lambda self: {"h": 3})(3))


@pytest.mark.parametrize(
    ("param_specs", "message"),
    [
        (lambda self: {}, r"^Mine must define param_specs\(self, features\), with .*, not param_specs\(self\)$"),
        (lambda self, E, H: {}, r"features\), with the size of x, not param_specs\(self, E, H\)$"),
        (lambda self, features: [(3, 3)], r"^param_specs of Mine must return a dict, name -> .*, not a list of 1$"),
        (lambda self, features: None, "must return a dict, .* not None$"),
        (lambda self, features: {"W": (3, 6)}, r"must have \(shape, initializer\) for 'W', like .*, not \(3, 6\)$"),
        (lambda self, features: {"W": ((3, 6.0), "zeros")}, r"for 'W', like .*, not \(\(3, 6.0\), 'zeros'\)$"),
        (lambda self, features: {"W": ((3, 0), "zeros")}, r"for 'W', like .*, not \(\(3, 0\), 'zeros'\)$"),
        (lambda self, features: {"W": ((3,), 6)}, r"for 'W', like .*, not \(\(3,\), 6\)$"),
        (lambda self, features: {"W": ((3,), "zeros", 1)}, "for 'W', like"),
        (
            lambda self, features: {"g": ((3,), "zeros")},
            "^param_specs of Mine calls a parameter 'g', a name that traces use for something else",
        ),
        (lambda self, features: {"mask": ((3,), "zeros")}, "calls a parameter 'mask', a name that traces use"),
    ],
)
def test_param_specs_that_do_not_fit(param_specs, message):
    with pytest.raises(TypeError, match=message):
        run(own(param_specs=param_specs)(3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: RNN(LSTM(3)),
            TypeError,
            r"cell must be a cell such as LSTMCell\(32\), not LSTM, a layer .*: use it without RNN",
        ),
        (
            lambda: RNN(type("LSTMCell", (), {"__module__": "keras.src.layers"})()),
            TypeError,
            r"must be a cell such as LSTMCell\(32\), not LSTMCell of keras: import it from scratchlstm.layers$",
        ),
        (lambda: RNN(LSTMCell), TypeError, r"cell must be a cell such as LSTMCell\(32\), not the class LSTMCell$"),
        (lambda: RNN(Leaky), TypeError, "not the class Leaky$"),
        (lambda: RNN("LSTMCell"), TypeError, r"cell must be a cell such as LSTMCell\(32\), not 'LSTMCell'$"),
        (lambda: RNN("lstm"), ValueError, "unknown cell 'lstm'. Known: .*LSTMCell"),
        (lambda: RNN(3), TypeError, r"cell must be a cell such as LSTMCell\(32\), not 3$"),
        (lambda: RNN([]), ValueError, "cells must hold at least one cell"),
        (lambda: RNN([LSTMCell(2), GRUCell]), TypeError, r"cells\[1\] must be a cell .*, not the class GRUCell$"),
        (
            lambda: StackedRNNCells([Dense(2)]),
            TypeError,
            r"cells\[0\] must be a cell such as LSTMCell\(32\), not Dense$",
        ),
        (lambda: StackedRNNCells(LSTMCell(2)), TypeError, "cells must be a list of cells, not"),
        (lambda: LSTMCell(units="3"), ValueError, "units must be a whole number above 0, not '3'"),
        (
            lambda: LSTMCell(3, "softmax"),
            ValueError,
            "activation of a recurrent layer must be elementwise",
        ),
        (lambda: LSTMCell(3, use_bias="False"), TypeError, "use_bias must be True or False, not 'False'"),
        (lambda: GRU(3, reset_after="False"), TypeError, "reset_after must be True or False, not 'False'"),
        (lambda: RNN(LSTMCell(3), "False"), TypeError, "return_sequences must be True or False, not 'False'"),
        (lambda: LSTMCell(3, return_sequences=True), TypeError, "LSTMCell takes no argument return_sequences"),
        (
            lambda: Leaky(3, recurrent_dropout=0.5),
            ValueError,
            "does not support recurrent_dropout: its forward has no argument h_in",
        ),
        (
            lambda: MinGRUCell(3, recurrent_dropout=0.5),
            ValueError,
            "MinGRUCell does not support recurrent_dropout: nothing in it",
        ),
        (
            lambda: LSTMCell(3)(X[:, 0], [X[:, 0]] * 2),
            TypeError,
            r"one step and holds no parameters: RNN\(cell\)\(x\) runs it",
        ),
    ],
)
def test_settings_that_do_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_arguments_by_position_mean_what_they_mean_in_keras():
    initial = "zeros", "ones", "ones"
    cell = LSTMCell(3, "relu", "tanh", False, *initial, False)
    names = ("units", "activation", "recurrent_activation", "use_bias", "unit_forget_bias")
    assert [cell.get_config()[name] for name in names] == [3, "relu", "tanh", False, False]
    layer = GRU(3, "relu", "tanh", False, *initial)
    assert [layer.get_config()[name] for name in names[:4]] == [3, "relu", "tanh", False]
    with pytest.raises(TypeError, match="positional"):
        RNN(LSTMCell(3), True, True, False, True, True)  # in Keras that is `unroll`
    config = RNN(LSTMCell(3), True, True, False, True).get_config()
    flags = ("return_sequences", "return_state", "go_backwards", "stateful")
    assert [config[name] for name in flags] == [True, True, False, True]


def test_gates_over_an_inherited_forward_are_refused():
    with pytest.raises(TypeError, match="Moved names gates, but its forward is that of LSTMCell, with i, f, g, o"):
        type("Moved", (LSTMCell,), {"gates": ("i", "f", "o", "g")})
    kept = type("Fewer", (LSTMCell,), {"gates": ("f",), "blocks": ("i", "f", "g", "o")})
    assert kept(2).param_specs(1)["kernel"][0] == (1, 8)
