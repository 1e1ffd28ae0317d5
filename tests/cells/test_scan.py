"""The loop for any cell, held to the plain loop of `gates.py`; and what layers of cells promise beyond one call."""

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import Input, Model, Sequential, activations, callbacks, gates, gradcheck
from scratchlstm.cells import GRUCell, LSTMCell, SimpleRNNCell
from scratchlstm.cells.scan import scan, scan_back
from scratchlstm.layers import GRU, RNN, Bidirectional, Dense, Embedding
from scratchlstm.layers.passes import Pass

F64 = {"dtype": "float64"}
X = np.random.default_rng(0).normal(size=(2, 5, 3))


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(*[st.integers(1, 5)] * 4),
    masked=st.booleans(),
    rate=st.sampled_from([0.0, 0.4]),
    names=st.tuples(*[st.sampled_from(["tanh", "sigmoid", "relu", "hard_sigmoid"])] * 2),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_an_lstm_is_that_of_the_plain_loop(seed, sizes, masked, rate, names, dtype):
    (B, T, E, H), rng = sizes, np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    x, h0, c0, dhs, d_last = draw(B, T, E), draw(B, H), draw(B, H), draw(B, T, H), draw(B, H)
    W, U, b = draw(E, 4 * H), draw(H, 4 * H), draw(4 * H)
    mask = rng.random((B, T)) < 0.6 if masked else None
    dropout = ((rng.random((B, 4, H)) >= rate) / (1 - rate)).astype(dtype) if rate else None
    sigma, phi = map(activations.get, names)
    hs, c, caches = gates.lstm_forward(x, h0, c0, W, U, b, sigma, phi, mask, dropout)
    back = gates.lstm_backward(dhs, d_last, caches, W, U, sigma.prime, phi.prime, mask, dropout)
    cell = LSTMCell(H, names[1], names[0])
    found, final, kept = scan(cell, x, [h0, c0], [W, U, b], mask, recurrent_dropout=dropout)
    dx, grads, d_states = scan_back(cell, dhs, [None, d_last], kept)
    expected = [hs, hs[:, -1], c, *back]
    for ours, plain in zip([found, *final, dx, *grads, *d_states], expected, strict=True):
        assert ours.dtype == plain.dtype == dtype
        scale = np.linalg.norm(plain) or 1
        assert np.linalg.norm(ours - plain) <= (1e-14 if dtype == "float64" else 1e-6) * scale


def test_what_reaches_the_final_output_adds_to_its_gradient():
    cell, rng = GRUCell(2), np.random.default_rng(0)
    params = [rng.normal(size=(3, 6)), rng.normal(size=(2, 6)), rng.normal(size=(2, 6))]
    _, _, kept = scan(cell, X, [np.zeros((2, 2))], params)
    dhs, d_last = rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 2))
    apart = scan_back(cell, dhs, [d_last], kept)
    dhs[:, -1] += d_last
    together = scan_back(cell, dhs, [None], kept)
    assert np.allclose(apart[0], together[0], rtol=1e-14)


# --- layers -----------------------------------------------------------------------------------------------------------


MAKES = {
    "GRU": lambda **o: GRU(3, recurrent_dropout=0.2, seed=0, **o),
    "RNN": lambda **o: RNN(LSTMCell(3, dropout=0.2, seed=1), **o),
    "two cells": lambda **o: RNN([LSTMCell(2), GRUCell(3, reset_after=False)], **o),
}
each_layer = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def test_a_stack_of_cells_is_a_stack_of_layers():
    cells = [LSTMCell(2), GRUCell(4), SimpleRNNCell(3)]
    whole = Sequential([RNN(cells, return_sequences=True, **F64)], seed=0)
    apart = [RNN(copy.deepcopy(cell), return_sequences=True, **F64) for cell in cells]
    one_by_one = Sequential(apart, seed=0)
    for model in (whole, one_by_one):
        model.build((None, 5, 3))
    one_by_one.set_weights(whole.get_weights())
    assert np.array_equal(one_by_one(X), whole(X))
    (y, cache), (_, of_layers) = whole.forward(X), one_by_one.forward(X)
    dx, grads = whole.backward(np.ones_like(y), cache)
    dx_apart, grads_apart = one_by_one.backward(np.ones_like(y), of_layers)
    assert np.allclose(dx, dx_apart, rtol=1e-13)
    for ours, theirs in zip(grads.values(), grads_apart.values(), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-13)


@each_layer
@pytest.mark.parametrize("around", [lambda layer: layer, Bidirectional], ids=["alone", "bidirectional"])
def test_a_stateful_layer_reads_a_sequence_in_pieces(make, around):
    layer = around(make(stateful=True, return_sequences=True, **F64))
    if not isinstance(layer, Bidirectional):
        whole = layer(X)
        layer.reset_state()
        assert np.allclose(np.concatenate([layer(X[:, :2]), layer(X[:, 2:])], axis=1), whole, rtol=1e-13)
    layer(X)
    kept = layer.extra_state()
    assert kept.keys()
    assert all(state.any() for state in kept.values())
    second = layer(X)
    other = around(make(stateful=True, return_sequences=True, **F64))
    other.build((5, 3))
    other.set_weights(layer.get_weights())
    other.set_extra_state(kept)
    assert np.array_equal(other(X), second)
    layer.reset_state()
    assert layer.extra_state() == {}


def test_states_of_another_layer_are_refused():
    layer = RNN([LSTMCell(2), GRUCell(3)], stateful=True)
    layer(X)
    assert list(layer.extra_state()) == ["cell_0/h", "cell_0/c", "cell_1/h"]
    with pytest.raises(ValueError, match="rnn has no states named: h"):
        layer.set_extra_state({"h": np.zeros((2, 3))})


@each_layer
def test_a_checkpoint_in_the_middle_ends_with_the_same_bytes(make, tmp_path):
    x, y = np.random.default_rng(1).normal(size=(8, 5, 3)), np.random.default_rng(2).normal(size=(8, 1))

    def train(epochs, path, resume=None):
        model = Sequential([make(stateful=True, input_shape=(5, 3)), Dense(1)], seed=0)
        model.compile("adam", "mse")
        checkpoint = callbacks.Checkpoint(path, save_freq=1)
        model.fit(
            x, y, batch_size=2, epochs=epochs, shuffle=False, callbacks=[checkpoint], resume=resume, verbose=0
        )  # fmt: skip
        return model

    whole = train(2, str(tmp_path / "whole"))
    train(1, str(tmp_path / "half"))
    resumed = train(2, str(tmp_path / "half"), resume=str(tmp_path / "half"))
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    after, expected = (model.layers[0].extra_state() for model in (resumed, whole))
    assert all(np.array_equal(after[name], state) for name, state in expected.items())


@pytest.mark.slow
@each_layer
def test_two_workers_train_what_one_process_does(make):
    ids, y = np.random.default_rng(1).integers(0, 9, size=(12, 5)), np.random.default_rng(2).integers(0, 2, 12)
    found = []
    for workers in (1, 2):
        model = Sequential([Embedding(9, 3, input_shape=(5,), **F64), make(**F64), Dense(1, "sigmoid", **F64)], seed=0)
        model.compile("adam", "binary_crossentropy")
        model.fit(ids, y, batch_size=6, epochs=2, workers=workers, verbose=0)
        found.append(model.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-9, atol=1e-12)


@each_layer
def test_frozen_layers_have_no_gradients_and_stay(make):
    layer = make(**F64)
    model = Sequential([layer, Dense(1, **F64)], seed=0)
    model.build((None, 5, 3))
    layer.trainable = False
    model.compile("sgd", "mse")
    before = layer.get_weights()
    model.fit(X, [0.0, 1.0], verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before, strict=True))
    y, cache = model.forward(X)
    assert list(model.backward(np.ones_like(y), cache)[1]) == ["dense/kernel", "dense/bias"]


@each_layer
def test_copies_have_cells_of_their_own(make):
    layer = make(**F64)
    layer(X)
    twin = copy.deepcopy(layer)
    assert np.array_equal(twin(X), layer(X))
    assert not {id(cell) for cell in twin.cells.values()} & {id(cell) for cell in layer.cells.values()}
    both = Bidirectional(layer)
    ends = [id(cell) for end in (both.forward_layer, both.backward_layer) for cell in end.cells.values()]
    assert len({*ends, *map(id, layer.cells.values())}) == 3 * len(layer.cells)
    assert gradcheck.check_layer(both, X).ok


def test_a_cell_belongs_to_one_layer():
    cell = LSTMCell(2)
    layer = RNN(cell, name="first")  # kept: a cell is free again once its layer is gone
    assert layer.cell is cell
    for again in (lambda: RNN(cell, name="second"), lambda: RNN([GRUCell(3), cell], name="second")):
        with pytest.raises(
            ValueError, match="cell of second: this LSTMCell belongs to another layer.* make one cell for"
        ):
            again()
    twice = GRUCell(2)
    with pytest.raises(ValueError, match="this GRUCell belongs to another layer, or is listed twice"):
        RNN([twice, twice])


@pytest.mark.parametrize("nested", [False, True])
def test_states_may_come_in_a_list_for_each_cell(nested):
    layer = RNN([LSTMCell(2), GRUCell(3)], return_state=True, **F64)
    states = [np.random.default_rng(n).normal(size=(2, size)) for n, size in enumerate((2, 2, 3))]
    given = [states[:2], states[2:]] if nested else states
    expected = layer.forward((layer.receive(X), *states), Pass())[0]
    for ours, theirs in zip(layer(X, initial_state=given), expected, strict=True):
        assert np.array_equal(ours, theirs)
    nodes = [Input((size,), **F64) for size in (2, 2, 3)]
    x = Input((5, 3), **F64)
    y, *_ = layer(x, initial_state=[nodes[:2], nodes[2:]] if nested else nodes)
    assert np.array_equal(Model([x, *nodes], y)([X, *states]), expected[0])
    both = Bidirectional(RNN([LSTMCell(2), GRUCell(3)], **F64))
    twice = both(X, initial_state=[*given, *given])
    assert twice.shape == (2, 6)
