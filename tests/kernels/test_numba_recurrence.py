"""What holds for every compiled recurrence: threads, rounding, NaN and infinity, what fades; and the layers around."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("scipy")

from test_numpy_lstm import draw, share_rows

from scratchlstm import gradcheck
from scratchlstm._support import threads
from scratchlstm.kernels.numba_gru import NumbaGRU
from scratchlstm.kernels.numba_lstm import NumbaLSTM
from scratchlstm.kernels.numpy_gru import NumpyGRU
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.layers import GRU, LSTM, Bidirectional
from scratchlstm.models.model import Sequential


class Kind(NamedTuple):
    compiled: object
    numpy: object
    layer: object
    gates: int
    states: int
    bias: tuple[int, ...] = ()  # its shape but for the columns

    def arguments(self, rng, B, T, E, H, dtype="float64"):
        """[W, U, b], [x, *states]"""
        columns = self.gates * H
        shapes = (E, columns), (H, columns), (*self.bias, columns)
        parameters = [draw(rng, *shape, dtype=dtype) for shape in shapes]
        return parameters, [draw(rng, *shape, dtype=dtype) for shape in [(B, T, E)] + [(B, H)] * self.states]


KINDS = {
    "LSTM": Kind(NumbaLSTM, NumpyLSTM, LSTM, 4, 2),
    "GRU": Kind(NumbaGRU, NumpyGRU, GRU, 3, 1, (2,)),
    "GRU, reset before": Kind(
        *(partial(each, reset_after=False) for each in (NumbaGRU, NumpyGRU, GRU)), 3, 1
    ),
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def whole_pass(kernel, x, *states, mask=None, dh=None):
    """Outputs, final states and all gradients."""
    h, final = kernel.forward(x, states, mask=mask)
    dx, gradients, d_initial = kernel.backward(np.ones_like(h) if dh is None else dh, [None] * len(states))
    return [h, *final, dx, *gradients, *d_initial]


@kinds
@pytest.mark.parametrize("B", [1, 2, 70])
def test_results_do_not_depend_on_the_number_of_threads(kind, B):
    parameters, inputs = kind.arguments(np.random.default_rng(0), B, 4, 3, 5, "float32")
    one = whole_pass(kind.compiled(*parameters), *inputs), kind.compiled(*parameters).infer(inputs[0], inputs[1:])
    with pytest.MonkeyPatch.context() as patch:
        share_rows(patch)
        several = whole_pass(kind.compiled(*parameters), *inputs)
        inferred = kind.compiled(*parameters).infer(inputs[0], inputs[1:])
    for a, b in zip([*one[0], one[1][0]], [*several, inferred[0]], strict=True):
        assert np.array_equal(a, b)


@kinds
def test_passes_of_several_threads_at_once_are_independent(kind):
    rng = np.random.default_rng(0)
    cases = [kind.arguments(rng, 9, 30, 3, 5) for _ in range(4)]
    tasks = [lambda case=case: whole_pass(kind.compiled(*case[0]), *case[1]) for case in cases]
    alone = [task() for task in tasks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "threads", lambda: 3)
        together = threads.spread(tasks)
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@kinds
def test_several_passes_may_be_open_whatever_becomes_of_the_parameters(kind):
    rng = np.random.default_rng(0)
    parameters, inputs = kind.arguments(rng, 3, 4, 2, 5)
    dh, others = rng.normal(size=(3, 4, 5)), kind.arguments(rng, 3, 4, 2, 5)[1]
    dx, *gradients = whole_pass(kind.compiled(*parameters), *inputs, dh=dh)[1 + kind.states :]
    first, second = kind.compiled(*parameters), kind.compiled(*parameters)
    first.forward(inputs[0], inputs[1:])
    second.forward(others[0], others[1:])
    for parameter in parameters:
        parameter += 1
    second.backward(np.ones((3, 4, 5)), [None] * kind.states)
    for need_x, need_weights in ((True, True), (False, True), (True, False), (False, False)):
        found_x, weights, d_initial = first.backward(dh, [None] * kind.states, need_x, need_weights)
        assert (found_x is None) != need_x
        assert all((weight is None) != need_weights for weight in weights)
        assert not need_x or np.array_equal(found_x, dx)
        for found, expected in zip([*weights, *d_initial], gradients, strict=True):
            assert found is None or np.array_equal(found, expected)


@kinds
def test_long_sequences_in_float32_are_those_of_the_textbook_in_float64(kind):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(3, 200, 7)), rng.normal(size=(3, 200, 16))
    ours, textbook = (
        kind.layer(16, return_sequences=True, implementation=name, dtype=dtype, seed=0)
        for name, dtype in (("compiled", "float32"), ("textbook", "float64"))
    )
    for layer in (ours, textbook):
        layer.build((200, 7))
    textbook.set_weights([weight.astype(float) for weight in ours.get_weights()])
    results = []
    for layer in (ours, textbook):
        y, cache = layer.forward(x.astype(layer.dtype))
        dx, gradients = layer.backward(dy.astype(layer.dtype), cache)
        results.append([y, dx, *gradients.values()])
    for found, expected in zip(*results, strict=True):
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@kinds
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_what_they_reach_in_numpy(kind, value):
    mask = np.array([[True] * 4, [True, False, True, True], [True] * 4])
    for number in range(4 + kind.states):  # a parameter, x or a state
        parameters, inputs = kind.arguments(np.random.default_rng(number), 3, 4, 2, 5)
        array = (*parameters, *inputs)[number]
        array[(0,) * array.ndim] = value
        with np.errstate(invalid="ignore", over="ignore"):
            found, expected = (whole_pass(of(*parameters), *inputs, mask=mask) for of in (kind.compiled, kind.numpy))
        for a, b in zip(found, expected, strict=True):
            assert np.isfinite(a).all() == np.isfinite(b).all()
            if np.isnan(value):  # infinity times a closed gate is infinite, or NaN if the gate is exactly 0
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@kinds
def test_a_gradient_that_is_no_number_is_not_hidden(kind):
    parameters, inputs = kind.arguments(np.random.default_rng(0), 2, 6, 3, 4)
    dh = np.ones((2, 6, 4))
    dh[1, 4, 2] = np.nan
    *_, d_initial = results = whole_pass(kind.compiled(*parameters), *inputs, dh=dh)
    dx = results[1 + kind.states]
    assert np.isnan(d_initial[1]).any()
    assert np.isfinite(d_initial[0]).all()
    assert np.isnan(dx[1, :5]).any(axis=1).all()
    assert np.isfinite(dx[0]).all()
    assert np.isfinite(dx[1, 5]).all()


@kinds
@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-30), ("float64", 1e-290)])
def test_gradients_that_fade_become_0_before_they_become_slow(kind, dtype, tiny):
    parameters, inputs = kind.arguments(np.random.default_rng(0), 2, 600, 3, 4, dtype)
    parameters[2][...] = -3  # hardly anything is kept from step to step
    dh = np.zeros((2, 600, 4), dtype)
    dh[:, -1] = 1
    kernel = kind.compiled(*parameters)
    results = whole_pass(kernel, *inputs, dh=dh)
    dz = np.abs(kernel.workspace.gates)
    assert dz[-1].all()
    assert not dz[0].any()
    assert dz[dz > 0].min() >= np.dtype(dtype).type(tiny)
    for array in results:
        size = np.abs(array[array != 0])
        assert not size.size or size.min() >= np.finfo(dtype).tiny


@kinds
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 9, 2, 3), (5, 1, 2, 3), (4, 3, 2, 1)])
def test_the_smallest_sizes(kind, sizes):
    parameters, inputs = kind.arguments(np.random.default_rng(0), *sizes)
    found, expected = (whole_pass(of(*parameters), *inputs) for of in (kind.compiled, kind.numpy))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def layers(kind, implementation):
    """Layers around it: stacked, both directions, states kept from batch to batch."""
    own = {"implementation": implementation, "dtype": "float64"}
    model = Sequential(seed=0)
    model.add(Bidirectional(kind.layer(4, return_sequences=True, **own), input_shape=(5, 3)))
    model.add(kind.layer(3, return_sequences=True, dropout=0.3, recurrent_dropout=0.2, **own))
    model.add(kind.layer(2, stateful=True, **own))
    model.compile("sgd", "mse")
    return model


@kinds
def test_layers_around_it_train_as_around_the_textbook(kind):
    rng, weights = np.random.default_rng(0), []
    x, y = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 2))
    for implementation in ("compiled", "textbook"):
        model = layers(kind, implementation)
        for _ in range(3):
            model.train_on_batch(x, y)
        weights.append([*model.get_weights(), model.predict(x, batch_size=4, verbose=0)])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@kinds
def test_the_layers_gradients_are_right(kind):
    options = {"return_sequences": True, "return_state": True, "implementation": "compiled", "dtype": "float64"}
    x, mask = np.random.default_rng(0).normal(size=(2, 4, 3)), np.array([[True, False, True, True], [False] * 4])
    for layer in (kind.layer(3, **options), kind.layer(3, go_backwards=True, recurrent_dropout=0.3, seed=1, **options)):
        assert layer.runs == "compiled"
        assert gradcheck.check_layer(layer, x, mask=mask, training=True).ok


@kinds
def test_a_layer_that_is_not_trainable_has_the_gradient_of_its_input_alone(kind):
    layer, dxs = kind.layer(3, implementation="compiled"), []
    for layer.trainable in (True, False):
        y, cache = layer.forward(np.ones((2, 4, 3), "float32"))
        dx, gradients = layer.backward(np.ones_like(y), cache)
        dxs.append(dx)
        assert bool(gradients) == layer.trainable
    assert np.array_equal(*dxs)


@kinds
def test_other_activations_run_in_numpy(kind):
    assert kind.layer(3).runs == kind.layer(3, implementation="compiled").runs == "compiled"
    assert kind.layer(3, activation="relu", implementation="compiled").runs == "numpy"
