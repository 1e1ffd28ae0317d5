"""One step: whose arrays are changed, and norms beyond what squares can be."""

import copy
import gc
import math
from functools import partial

import numpy as np
import pytest

from scratchlstm import Sequential, backend, optimizers
from scratchlstm.layers import LSTM, Bidirectional, Dense
from scratchlstm.optimizers import SGD, Adam, RMSprop
from scratchlstm.rows import RowGradient

KERAS_ORDER = r"apply takes the parameters first, apply\(params, grads\), but got the gradients first"


def _model(compiled=True):
    model = Sequential([Dense(2, input_shape=(3,)), Dense(1)], seed=0)
    if compiled:
        model.compile(SGD(0.5), "mse")
    return model


def _grads(model):
    """Of the sum of the output, by name."""
    y, cache = model.forward(np.ones((4, *model.input_shape)))
    return model.backward(np.ones_like(y), cache)[1]


# --- averages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (6, 3)])
@pytest.mark.parametrize("kind", [partial(SGD, momentum=0.5), RMSprop, Adam])
@pytest.mark.parametrize("frequency", [None, 3])
def test_averages_follow_the_weights(kind, frequency, shape):
    rng = np.random.default_rng(0)
    start = np.array(rng.normal(size=shape))
    optimizer = kind(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=frequency)
    plain, params, average = kind(0.1), [start.copy()], None
    for step in range(1, 8):
        g, w = np.array(rng.normal(size=shape)), params[0].copy()
        plain.apply([w], [g])  # the same update from the same weights
        average = w if step == 1 else 0.75 * average + 0.25 * w
        optimizer.apply(params, [g])
        w = average if frequency and step % frequency == 0 else w
        np.testing.assert_allclose(params[0], w, rtol=1e-12)
        np.testing.assert_allclose(optimizer.state[0]["average"], average, rtol=1e-12)
    optimizer.finalize_variable_values(params)
    np.testing.assert_array_equal(params[0], optimizer.state[0]["average"])
    kept = params[0].copy()
    optimizer.finalize_variable_values([None])
    np.testing.assert_array_equal(params[0], kept)


def test_averages_of_rows_without_a_gradient_follow_too():
    w, dense = np.arange(12.0).reshape(6, 2), np.arange(12.0).reshape(6, 2)
    rows = RowGradient(np.array([1, 4]), np.ones((2, 2)), w.shape)
    of_rows, in_full = (SGD(1.0, use_ema=True, ema_momentum=0.5) for _ in range(2))
    for _ in range(3):
        of_rows.apply([w], [rows])
        in_full.apply([dense], [rows.dense()])
        w[0] += 1  # by somebody else
        dense[0] += 1
    np.testing.assert_array_equal(w, dense)
    np.testing.assert_array_equal(of_rows.state[0]["average"], in_full.state[0]["average"])
    assert of_rows.state[0]["average"][0, 0] == 0.25 * 0 + 0.25 * 1 + 0.5 * 2


def test_a_parameter_that_is_trained_later_begins_its_average_as_it_is():
    params, one = [np.zeros(2), np.full(2, 8.0)], np.ones(2)
    optimizer = SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.apply(params, [one, None])
    optimizer.apply(params, [one, one])
    np.testing.assert_array_equal([kept["average"] for kept in optimizer.state], [[-1.5] * 2, [7.5] * 2])


def test_averages_of_other_parameters_are_not_put_in():
    optimizer = SGD(use_ema=True)
    w = np.ones(2)
    optimizer.finalize_variable_values([w])  # nothing has been averaged yet
    optimizer.apply([w], [w.copy()])
    for others, got in ([w, w], r"\[\(2,\), \(2,\)\]"), ([np.ones(3)], r"\[\(3,\)\]"):
        with pytest.raises(ValueError, match=rf"averages of params with shapes \[\(2,\)\], but got {got}"):
            optimizer.finalize_variable_values(others)
    with pytest.raises(ValueError, match="has state for params of other shapes"):
        optimizer.apply([np.ones(3)], [np.ones(3)])


def test_equations_of_ones_own_get_their_slots_alone():
    class Mine(SGD):
        slots = ("seen",)

        def update(self, w, rows, g, learning_rate, seen):
            seen[rows] += g
            w[rows] -= learning_rate * g

    Mine.__init__ = lambda self, **options: optimizers.Optimizer.__init__(self, 1.0, **options)
    optimizer, w = Mine(use_ema=True, ema_momentum=0.5), np.zeros(3)
    for _ in range(2):
        optimizer.apply([w], [np.ones(3)])
    np.testing.assert_array_equal(optimizer.state[0]["seen"], [2, 2, 2])
    np.testing.assert_array_equal(optimizer.state[0]["average"], [-1.5] * 3)


# --- Keras' order -----------------------------------------------------------------------------------------------------


def test_a_models_gradients_are_not_changed_in_the_place_of_its_parameters():
    for model, optimizer in (_model(), None), (_model(compiled=False), Adam()):
        grads = [_grads(model)[name] for name in model.network.params]
        before = [g.copy() for g in grads]
        with pytest.raises(TypeError, match=KERAS_ORDER):
            (optimizer or model.optimizer).apply(grads, model.params)
        assert all(map(np.array_equal, grads, before))


@pytest.mark.parametrize("know", ["build", "compile", "apply"])
def test_gradients_of_your_own_are_not_changed_once_the_parameters_are_known(know):
    model = _model()
    grads = [np.ones_like(w) for w in model.params]
    if know == "build":
        model.optimizer.build(model.params)
    elif know == "apply":
        model.optimizer.apply(model.params, grads)
    with pytest.raises(TypeError, match=KERAS_ORDER):
        model.optimizer.apply(grads, model.params)
    assert all(np.all(g == 1) for g in grads)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("come", ["new", "copied", "loaded", "wrapped", "wrapped and copied"])
def test_a_new_optimizer_knows_the_parameters_of_layers(come, optimizer, tmp_path):
    model = _model(compiled=False)
    if "wrapped" in come:
        model = Sequential([Bidirectional(LSTM(2), input_shape=(3, 3)), Dense(1)], seed=0)
    if "copied" in come:
        model = copy.deepcopy(model)
    if come == "loaded":
        model.save(tmp_path / "m.npz")
        model = Sequential.load(tmp_path / "m.npz")
    named = _grads(model)
    of_layers = [
        (list(each.params.values()), [named[f"{each.name}/{name}"] for name in each.params]) for each in model.layers
    ]
    for params, grads in (model.params, [named[name] for name in model.network.params]), *of_layers:
        before = [np.array(g) for g in grads]
        with pytest.raises(TypeError, match=KERAS_ORDER):
            optimizer().apply(grads, params)
        assert all(map(np.array_equal, grads, before))
        optimizer().apply(params, grads)


def test_parameters_may_be_their_own_gradients():
    model = _model(compiled=False)
    SGD(1.0).apply(model.params, list(model.params))
    assert not any(w.any() for w in model.params)


def test_parameters_that_are_gone_are_forgotten():
    known = len(backend._params)
    model = _model()
    assert len(backend._params) == known + 4
    del model
    gc.collect()
    assert len(backend._params) <= known


def test_row_gradients_are_no_parameters():
    rows = RowGradient(np.array([1]), np.ones((1, 2), np.float32), (3, 2))
    with pytest.raises(TypeError, match=KERAS_ORDER):
        Adam().apply([rows], [np.zeros((3, 2), np.float32)])
    assert np.all(rows.values == 1)


def test_other_parameters_are_not_taken_for_gradients():
    """An array that was a parameter may return as a gradient with other arrays, and parameters may be new ones."""
    optimizer, w = SGD(1.0), np.ones(2)
    optimizer.apply([w], [w.copy()])
    other = [np.ones(2), np.ones(2)]
    optimizer.apply(other, [w, np.ones(2)])
    assert [list(each) for each in other] == [[1, 1], [0, 0]]
    optimizer.apply([w], [w])  # half, in effect: a parameter as its own gradient
    assert list(w) == [0, 0]


_MISFITS = {
    "one gradient less": ([np.ones(2), np.ones(3)], [np.ones(2)], ValueError, "each of the 2 params, but got 1 grads"),
    "a gradient of one number": ([np.ones(2)], [np.ones(1)], ValueError, r"grads\[0\] has shape \(1,\), .* has \(2,\)"),
    "second of another shape": ([np.ones(2)] * 2, [np.ones(2), np.ones(3)], ValueError, r"grads\[1\] has shape \(3,\)"),
    "a list of lists": (
        [[1.0, 2.0]],
        [np.ones(2)],
        TypeError,
        r"list of arrays of floats, not \[\[1.0, 2.0\]\]",
    ),
    "whole numbers": ([np.ones(2, int)], [np.ones(2)], TypeError, "params must be a list of arrays of floats"),
    "no parameter": ([None], [np.ones(2)], TypeError, r"params must be a list of arrays of floats, not \[None\]"),
    "words": ([np.ones(2)], [np.array(["a", "b"])], TypeError, "grads must be a list of arrays of numbers"),
}


@pytest.mark.parametrize(("params", "grads", "error", "match"), _MISFITS.values(), ids=_MISFITS)
@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam])
def test_what_does_not_fit_changes_nothing(optimizer, params, grads, error, match):
    optimizer, before = optimizer(), [np.array(w) for w in params]
    with pytest.raises(error, match=match):
        optimizer.apply(params, grads)
    assert all(map(np.array_equal, params, before))
    assert optimizer.iterations == 0


def test_state_is_for_the_parameters_it_was_made_with():
    optimizer = Adam()
    optimizer.apply([np.ones(2), np.ones(3)], [np.ones(2), np.ones(3)])
    for others in [np.ones(2)], [np.ones(2), np.ones(4)]:
        with pytest.raises(ValueError, match="has state for params of other shapes"):
            optimizer.apply(others, [np.ones_like(w) for w in others])
    fresh = Adam()
    fresh.build([np.ones(2)])
    fresh.apply([np.ones(3)], [np.ones(3)])  # nothing is lost, as no step was made
    assert fresh.state[0]["momentum"].shape == (3,)


# --- norms ------------------------------------------------------------------------------------------------------------

_HUGE = {"float32": [1e-30, 1.0, 1e19, 1e25, 1e38], "float64": [1e-200, 1e-30, 1.0, 1e25, 1e160, 1e300]}


@pytest.mark.parametrize(("dtype", "scale"), [(dtype, scale) for dtype, scales in _HUGE.items() for scale in scales])
def test_norms_whose_squares_are_out_of_range(dtype, scale):
    g = np.array([[3, 0, 4], [0, 0, 0]], dtype) * np.dtype(dtype).type(scale / 2)
    assert optimizers.norm(g) == pytest.approx(2.5 * scale, rel=1e-6)
    assert optimizers.norm(RowGradient(np.array([1]), g[:1], (5, 3))) == pytest.approx(2.5 * scale, rel=1e-6)


def test_norms_of_nothing_and_of_what_is_not_finite():
    assert optimizers.norm(np.zeros((0, 3), np.float32)) == optimizers.norm(np.zeros(3)) == 0
    assert optimizers.norm(np.array([1, -math.inf])) == math.inf
    assert math.isnan(optimizers.norm(np.array([1, math.nan, math.inf])))
    assert not optimizers.is_finite(np.array([1, math.nan]))
    assert optimizers.is_finite(np.full(9, 1.7e308))


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("scale", [1.0, 1e19, 1e25, 1e38])
def test_a_huge_gradient_is_clipped_and_not_dropped(option, scale):
    params = [np.zeros(2, np.float32), np.zeros(1, np.float32)]
    grads = [np.array([1.8, 2.4], np.float32) * np.float32(scale), np.zeros(1, np.float32)]
    SGD(1.0, **{option: 1.0}).apply(params, grads)
    np.testing.assert_allclose(params[0], [-0.6, -0.8], rtol=1e-6)
    assert params[1] == 0


def test_a_norm_over_several_huge_gradients():
    params = [np.zeros(1, np.float32), np.zeros(1, np.float32)]
    SGD(1.0, global_clipnorm=1.0).apply(params, [np.array([3e30], np.float32), np.array([4e30], np.float32)])
    np.testing.assert_allclose(np.ravel(params), [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize("clips", [{}, {"clipnorm": 0.5}, {"clipvalue": 0.25}])
@pytest.mark.parametrize("make", [SGD, partial(SGD, momentum=0.5), RMSprop, Adam])
def test_a_parameter_of_no_dimensions_moves_as_one_of_one_element(make, clips):
    alone, row = np.array(0.5), np.array([0.5])
    for optimizer, w in (make(**clips), alone), (make(**clips), row):
        for g in (1.5, -0.25, 0.75):
            optimizer.apply([w], [np.float64(g) if w is alone else np.array([g])])
    assert alone == row[0] != 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [Adam, RMSprop, partial(SGD, momentum=0.9)])
def test_what_fades_ends_as_0_and_not_as_the_smallest_numbers(make, dtype):
    """A row that has had a gradient once, and one that has them at every step."""
    w, optimizer = np.zeros((2, 3), dtype), make(0.01)
    wide, in_full = w.astype(np.longdouble), make(0.01)
    in_full.fading = ()
    steps = {"float32": 1200, "float64": 8000}[dtype]
    for step in range(steps):
        g = np.array([[0.5 * (step == 0)] * 3, [0.1 + step % 7] * 3])
        optimizer.apply([w], [g.astype(dtype)])
        in_full.apply([wide], [g.astype(np.longdouble)])
    (slots,) = optimizer.state
    for name in optimizer.fading:
        assert (slots[name][0] == 0).all()
        assert (np.abs(slots[name][1]) > 1e-3).all()
    np.testing.assert_allclose(w, wide.astype(dtype), rtol=1e-3 if dtype == "float32" else 1e-11)
