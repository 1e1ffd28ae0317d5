"""`group_by_length`: batches of like lengths, without the padding that their rows share, and with the same results."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stopping import Stop, Stopped

from scratchlstm import Input, Model, Sequential, config
from scratchlstm.callbacks import Checkpoint
from scratchlstm.layers import (
    GRU,
    LSTM,
    Add,
    Attention,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    LayerNormalization,
    MaskedGlobalMaxPooling1D,
    Masking,
    Multiply,
    Reshape,
    TimeDistributed,
    WordDropout,
)
from scratchlstm.training import AdversarialTraining
from scratchlstm.training.by_length import rearranged, row_lengths, taken
from scratchlstm.training.data import Data
from scratchlstm.training.steps import Step, StepOptions

V, T, N = 20, 12, 45
RNG = np.random.default_rng(0)
LENGTHS = np.r_[0, RNG.integers(1, T - 2, N - 1)]  # one row is padding throughout, and none is full
WORDS = RNG.integers(1, V, (2, N, T))
Y = RNG.integers(0, 2, N)
PADDED = {
    "pre": np.arange(T) >= T - LENGTHS[:, None],
    "post": np.arange(T) < LENGTHS[:, None],
    "in the middle": (np.arange(T) >= 2) & (np.arange(T) < 2 + LENGTHS[:, None]) & (RNG.random((N, T)) < 0.8),
}
X, OTHER = WORDS * PADDED["pre"]


@pytest.fixture(autouse=True)
def float64():
    before = config.floatx()
    config.set_floatx("float64")
    yield
    config.set_floatx(before)


def classifier(*inner, rate=0.0, **options):
    """A model of ids of any length."""
    inner = inner or (Dropout(rate), LSTM(5))
    layers = [Embedding(V, 4, mask_zero=True, input_shape=(None,)), *inner, Dense(1, "sigmoid")]
    model = Sequential(layers, seed=1, **options)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def of_two_inputs():
    left, right, embedding = Input((None,), name="left"), Input((None,), name="right"), Embedding(V, 4, mask_zero=True)
    inner_input = Input((None, 4))
    inner = Model(inner_input, Bidirectional(GRU(3, return_sequences=True))(inner_input), name="inner", seed=2)
    a, b = inner(embedding(left)), inner(embedding(right))
    attended = Attention(use_scale=True)([a, b])
    both = Concatenate()([LSTM(3)(attended), MaskedGlobalMaxPooling1D()(Multiply()([a, Add()([a, b])]))])
    ends = [Dense(1, "sigmoid", name="is")(both), Dense(2, name="much")(both)]
    model = Model([left, right], ends, seed=2)
    model.compile("adam", {"is": "binary_crossentropy", "much": "mse"}, loss_weights={"is": 0.5, "much": 2})
    return model


MODELS = {
    "LSTM": lambda: classifier(LSTM(5)),
    "GRU, both activations of which differ": lambda: classifier(GRU(5, activation="relu")),
    "two layers": lambda: classifier(LSTM(4, return_sequences=True), Dense(3), LayerNormalization(), LSTM(5)),
    "backwards": lambda: classifier(LSTM(5, go_backwards=True)),
    "bidirectional": lambda: classifier(Bidirectional(LSTM(4))),
    "mean": lambda: classifier(GlobalAveragePooling1D()),
    "largest": lambda: classifier(Bidirectional(LSTM(3, return_sequences=True)), MaskedGlobalMaxPooling1D()),
    "zeros at padding": lambda: classifier(LSTM(3, return_sequences=True, zero_output_for_mask=True), GRU(3)),
    "each step": lambda: classifier(TimeDistributed(Dense(3, "tanh")), GRU(3)),
    "a model inside": lambda: classifier(Sequential([LSTM(4, return_sequences=True, input_shape=(None, 4)), GRU(2)])),
    "two inputs": of_two_inputs,
}


def data_for(model, x=X, other=OTHER):
    """X and y as `Data`, some of it weighted."""
    weight = np.linspace(0.5, 1.5, len(x))
    if not model.network.merges:
        return Data(x, Y[:, None].astype(float), weight)
    return Data((x, other), (Y[:, None].astype(float), np.linspace(-1, 1, 2 * len(x)).reshape(-1, 2)), (weight, None))


def close(a, b, tolerance=1e-12):
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) <= tolerance * max(np.linalg.norm(a), 1e-3)


# --- the columns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adversarial", [None, AdversarialTraining(0.5)], ids=["", "adversarial"])
@pytest.mark.parametrize("padding", PADDED)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_loss_and_gradients_are_those_with_all_padding(make, padding, adversarial):
    model = make()
    data = data_for(model, *(WORDS * PADDED[padding]))
    found = []
    for trims in False, True:
        batch = taken(data, slice(None), trims)
        assert np.shape(batch.x)[-1] < T if trims else np.shape(batch.x)[-1] == T
        found.append(Step(model, batch, StepOptions(adversarial)).learn(N))
    (loss, grads, _), (other_loss, other_grads, _) = found
    assert close(loss, other_loss)
    for name, a, b in zip(model.network.params, grads, other_grads, strict=True):
        assert close(a, b), name


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_rows_of_padding_alone_leave_one_column(make):
    model = make()
    data = data_for(model, np.zeros_like(X), np.zeros_like(X))
    losses = [Step(model, taken(data, slice(0, 3), trims)).learn(3).loss for trims in (False, True)]
    assert np.shape(taken(data, slice(0, 3), True).x)[-1] == 1
    assert close(*losses)


ids = npst.arrays(np.int32, st.tuples(st.just(2), st.integers(1, 30), st.integers(1, 8)), elements=st.integers(0, 2))


@given(ids, st.integers(1, 2), st.data())
def test_a_batch_has_the_columns_that_any_row_needs(x, inputs, draw):
    xs = tuple(x[:inputs]) if inputs > 1 else x[0]
    which = draw.draw(st.lists(st.integers(0, x.shape[1] - 1), min_size=1).map(np.array))
    columns = [t for t in range(x.shape[2]) if x[:inputs, which, t].any()] or [0]
    expected = x[:inputs, which, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(np.reshape(taken(Data(xs), which, True).x, expected.shape), expected)
    one = taken(Data(xs), which[:1], True, batch=which)  # a part of it has the columns of the whole
    np.testing.assert_array_equal(np.reshape(one.x, expected[:, :1].shape), expected[:, :1])
    lengths = [max(used) - min(used) + 1 if (used := np.flatnonzero(row)).size else 0 for row in x[0]]
    np.testing.assert_array_equal(row_lengths(x[0]), lengths)
    np.testing.assert_array_equal(row_lengths(tuple(x)), row_lengths(x[0] + x[1]))


# --- the order --------------------------------------------------------------------------------------------------------


def positions(order, lengths, size):
    """How many are computed in an epoch."""
    batches = [lengths[order[start : start + size]] for start in range(0, len(order), size)]
    return sum(len(batch) * batch.max() for batch in batches)


@given(npst.arrays(int, st.integers(1, 1000), elements=st.integers(0, 40)), st.integers(1, 9), st.integers(0, 9))
def test_the_order_is_a_permutation_into_batches_of_like_length(lengths, size, seed):
    rng = np.random.default_rng(seed)
    before = rng.permutation(len(lengths))
    order = rearranged(before, lengths, size, rng)
    assert sorted(order) == list(range(len(lengths)))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    pools = np.split(before, range(50 * size, len(before), 50 * size))
    pool_of = np.empty(len(before), int)
    pool_of[before] = np.repeat(np.arange(len(pools)), [len(pool) for pool in pools])
    for number, pool in enumerate(pools):  # each was sorted, and then cut
        mine = [lengths[batch] for batch in batches if pool_of[batch[0]] == number]
        assert sum(len(batch) for batch in mine) == len(pool)
        mine.sort(key=lambda batch: (batch[0], batch[-1]))
        np.testing.assert_array_equal(np.concatenate(mine), np.sort(lengths[pool]))
    if len(lengths) % size == 0:
        assert positions(order, lengths, size) <= positions(before, lengths, size)


def test_batches_come_in_an_order_that_is_drawn():
    lengths, orders = np.arange(40), []
    for seed in 0, 1:
        rng = np.random.default_rng(seed)
        orders.append(rearranged(rng.permutation(40), lengths, 4, rng))
        firsts = orders[-1][::4]
        assert sorted(firsts) == list(range(0, 40, 4)) != list(firsts)
    assert not np.array_equal(*orders)


class Seen(Layer):
    """Notes the shapes that pass."""

    passes_mask = True
    shapes: list = []  # which the tests empty

    def forward(self, x):
        self.shapes.append(x.shape[:2])
        return x, None

    def backward(self, dy, cache):
        return dy, {}


def computed(call):
    """How many positions."""
    Seen.shapes.clear()
    call()
    return sum(rows * steps for rows, steps in Seen.shapes)


def test_padding_is_not_computed():
    model, lengths, weighted = classifier(Seen(), LSTM(2)), row_lengths(X), {"verbose": 0, "batch_size": 5}
    options = {"group_by_length": True, **weighted}
    in_order = np.sort(lengths)
    assert computed(lambda: model.fit(X, Y, shuffle=False, **options)) == positions(np.arange(N), in_order, 5)
    assert computed(lambda: model.predict(X, **options)) == positions(np.arange(N), in_order[::-1].clip(1), 5)
    assert Seen.shapes[0] == (5, in_order[-1])  # the longest first
    assert computed(lambda: model.evaluate(X, Y, **options)) == positions(np.arange(N), in_order[::-1].clip(1), 5)
    assert computed(lambda: model.fit(X, Y, **weighted)) == N * T
    assert computed(lambda: model.fit(X, Y, **options)) < N * T / 2
    validated = {"validation_data": (X, Y), "shuffle": False}
    assert computed(lambda: model.fit(X[:5], Y[:5], **validated, **options)) < N * T + 5 * lengths[:5].max()


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("name", ["bidirectional", "two inputs"])
def test_training_is_that_on_the_rows_in_this_order(name, shuffle):
    """Without dropout, whose masks have as many steps as a batch."""
    model, other = MODELS[name](), MODELS[name]()
    data, lengths = data_for(model), row_lengths((X, OTHER) if name == "two inputs" else X)
    order = np.argsort(lengths, kind="stable")
    if shuffle:
        rng = np.random.default_rng()
        rng.bit_generator.state = model.rng.bit_generator.state
        order = rearranged(rng.permutation(N), lengths, 8, rng)
    in_order = data.take(order)
    options = {"batch_size": 8, "verbose": 0}
    validation = tuple(_lists(data))
    a = model.fit(
        *validation[:2], sample_weight=validation[2], validation_data=validation, shuffle=shuffle,
        group_by_length=True, **options,
    )  # fmt: skip
    x, y, weight = _lists(in_order)
    b = other.fit(x, y, sample_weight=weight, validation_data=validation, shuffle=False, **options)
    for w, v in zip(model.get_weights(), other.get_weights(), strict=True):
        assert close(w, v, 1e-11)
    assert a.history.keys() == b.history.keys()
    for measured, values in a.history.items():
        np.testing.assert_allclose(b.history[measured], values, rtol=1e-11)


def _lists(data):
    return [list(each) if isinstance(each, tuple) else each for each in data]


def test_class_weights_follow_the_rows():
    order = np.argsort(row_lengths(X), kind="stable")
    model, other = classifier(), classifier()
    options = {"batch_size": 8, "verbose": 0, "shuffle": False, "class_weight": {0: 0.2, 1: 3}}
    model.fit(X, Y, group_by_length=True, **options)
    other.fit(X[order], Y[order], **options)
    assert all(close(w, v, 1e-11) for w, v in zip(model.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["bidirectional", "largest", "two inputs"])
def test_predict_and_evaluate_give_what_they_do_without(name, workers):
    """To the last digits, which the sizes of products may change."""
    model = MODELS[name]()
    x, y, weight = _lists(data_for(model))
    options = {"batch_size": 7, "verbose": 0, "workers": workers}
    plain, grouped = (model.predict(x, group_by_length=by_length, **options) for by_length in (False, True))
    for a, b in zip(*((p if isinstance(p, list) else [p]) for p in (plain, grouped)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12)
    plain, grouped = (
        model.evaluate(x, y, sample_weight=weight, group_by_length=by_length, **options) for by_length in (False, True)
    )
    np.testing.assert_allclose(grouped, plain, rtol=1e-12)


def test_workers_cut_a_batch_as_one_process_does():
    """By the rows of all: dropout draws its masks for the whole batch."""
    trained = []
    for workers in 1, 2, 2:
        model = classifier(rate=0.3)
        history = model.fit(  # the last batch has a single row
            X, Y, batch_size=11, epochs=2, verbose=0, workers=workers, validation_data=(X, Y), group_by_length=True
        )
        trained.append((model, history))
    (one, history), (two, other), (again, _) = trained
    states = [[rng.bit_generator.state for rng in model.generators] for model, _ in trained]
    assert states[0] == states[1] == states[2]
    for a, b, c in zip(one.get_weights(), two.get_weights(), again.get_weights(), strict=True):
        assert close(a, b, 1e-11)
        assert b.tobytes() == c.tobytes()
    for name, values in history.history.items():
        np.testing.assert_allclose(other.history[name], values, rtol=1e-11)


def test_a_run_resumed_in_an_epoch_ends_with_the_same_bytes(tmp_path):
    path = tmp_path / "run.npz"
    options = {"batch_size": 8, "epochs": 3, "verbose": 0, "validation_data": (X, Y), "group_by_length": True}

    def fit(batches=None, **more):
        model = classifier(rate=0.3)
        checkpoint = Checkpoint(path, save_freq=1)
        model.fit(X, Y, callbacks=[checkpoint, Stop(batches)], resume=path, **options | more)
        return model

    straight = fit()
    path.unlink()
    for batches in 4, 5:  # of 6 in an epoch
        with pytest.raises(Stopped):
            fit(batches)
    with pytest.raises(ValueError, match="group_by_length"):
        fit(group_by_length=False)
    resumed = fit()
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()
    assert straight.history.history == resumed.history.history
    assert straight.rng.bit_generator.state == resumed.rng.bit_generator.state


def test_a_checkpoint_without_it_is_of_another_run(tmp_path):
    path, options = tmp_path / "run.npz", {"batch_size": 8, "verbose": 0}
    classifier().fit(X, Y, callbacks=[Checkpoint(path)], **options)
    with pytest.raises(ValueError, match="group_by_length"):
        classifier().fit(X, Y, epochs=2, resume=path, group_by_length=True, **options)


def test_a_gpu_computes_the_same(device):
    ours, theirs = classifier(rate=0.3), classifier(rate=0.3, backend="cupy")
    options = {"batch_size": 8, "verbose": 0, "group_by_length": True}
    histories = [model.fit(X, Y, validation_data=(X, Y), **options).history for model in (ours, theirs)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-9)
    np.testing.assert_allclose(theirs.predict(X, **options), ours.predict(X, **options), rtol=1e-9)
    there = device.asarray(X)
    np.testing.assert_allclose(theirs.predict(there, **options), ours.predict(X, **options), rtol=1e-9)
    np.testing.assert_allclose(theirs.evaluate(there, Y, **options), ours.evaluate(X, Y, **options), rtol=1e-9)


def test_a_model_without_a_shape_is_built_for_any_length():
    model = Sequential([Embedding(V, 4, mask_zero=True), LSTM(3), Dense(1)], seed=0)
    predicted = model.predict(X, verbose=0, group_by_length=True)
    assert model.input_shape == (None,)
    np.testing.assert_allclose(model.predict(X, verbose=0), predicted, rtol=1e-12)


def test_word_dropout_may_come_before_the_embedding():
    models = [
        Sequential([WordDropout(0.4, input_shape=(None,)), Embedding(V, 4, mask_zero=True), GRU(3), Dense(1)], seed=0)
        for _ in range(2)
    ]
    for model, workers in zip(models, (1, 2), strict=True):
        model.compile("adam", "mse")
        model.fit(X, Y, batch_size=8, verbose=0, group_by_length=True, workers=workers)
    one, two = models
    assert all(close(a, b, 1e-11) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))
    np.testing.assert_allclose(one.predict(X, verbose=0, group_by_length=True), one.predict(X, verbose=0), rtol=1e-12)


# --- what it refuses --------------------------------------------------------------------------------------------------


def functional(wire):
    """A model of what this makes of embedded words, and of the words."""
    words = Input((None,), name="words")
    return Model(words, wire(Embedding(V, 4, mask_zero=True)(words), words))


def decoder(x, words):
    _, h, c = LSTM(3, return_state=True)(x)
    return LSTM(3)(x, initial_state=[h, c])


def with_fixed_model_inside(x, words):
    inside = Sequential([LSTM(3, input_shape=(T, 4))], name="inside")
    return inside(x)


REFUSED = {
    "a fixed length": (
        lambda: Sequential([Embedding(V, 4, mask_zero=True, input_length=T), LSTM(3)]),
        r"has the fixed shape \(None, 12\); leave its length open: Input\(\(None,\)\)",
    ),
    "a fixed length inside": (lambda: functional(with_fixed_model_inside), "of inside has the fixed shape"),
    "no mask": (lambda: Sequential([Embedding(V, 4), LSTM(3)]), "use mask_zero=True"),
    "no mask at one of two": (
        lambda: functional(lambda x, words: LSTM(3)(Add()([x, Embedding(V, 4, name="plain")(words)]))),
        "plain treats padding as a word",
    ),
    "a time axis": (
        lambda: classifier(LSTM(3, return_sequences=True)),
        r"output dense has a time axis, \(None, None, 1\)",
    ),
    "stateful": (lambda: classifier(LSTM(3, stateful=True)), "is stateful"),
    "pooling": (lambda: classifier(GlobalMaxPooling1D()), "ignores the mask.*; MaskedGlobalMaxPooling1D uses it"),
    "an initial state": (lambda: functional(decoder), "is given an initial state"),
    "a mask of its own": (lambda: classifier(Masking(), LSTM(3)), "masking makes its own mask"),
    "steps backwards": (
        lambda: classifier(LSTM(3, go_backwards=True, return_sequences=True), LSTM(3)),
        "returns its steps in reverse",
    ),
    "zeros at padding": (
        lambda: classifier(LSTM(3, zero_output_for_mask=True)),
        "has zero_output_for_mask=True, and outputs 0",
    ),
    "a mask that ended": (
        lambda: functional(lambda x, words: LSTM(3)(Add()([x, GlobalAveragePooling1D(keepdims=True)(x)]))),
        "lstm takes a sequence without a mask",
    ),
    "ids elsewhere": (
        lambda: functional(lambda x, words: Concatenate()([LSTM(3)(x), LSTM(2)(Reshape((-1, 1))(words))])),
        "reshape takes the input, which must be ids",
    ),
    "numbers": (
        lambda: Sequential([Dropout(0.5, input_shape=(None,)), Embedding(V, 4, mask_zero=True), LSTM(3)]),
        "dropout takes the input, which must be ids",
    ),
    "ids alone": (
        lambda: Model(words := Input((None,)), WordDropout(0.5)(words)),
        "the output word_dropout has a time axis",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_models_whose_padding_counts_are_refused(make, message):
    model = make()
    before = model.rng.bit_generator.state
    with pytest.raises(ValueError, match=f"group_by_length=True is not possible: .*{message}"):
        model.predict(X, verbose=0, group_by_length=True)
    assert model.rng.bit_generator.state == before


def test_other_data_is_refused():
    model = Sequential([LSTM(3), Dense(1)])
    model.compile("sgd", "mse")
    wanted = (
        "group_by_length=True is not possible: x must be padded ids, integers (N, T), with the same T for all inputs, "
    )
    for call in model.fit, model.evaluate:
        with pytest.raises(ValueError, match=re.escape(f"{wanted}not float64 (45, 12, 2)")):
            call(np.zeros((N, T, 2)), Y, group_by_length=True, verbose=0)
    assert not model.built
    inputs = [Input((None,)), Input((None,))]
    read = [LSTM(2)(Embedding(V, 4, mask_zero=True)(each)) for each in inputs]
    two = Model(inputs, Dense(1)(Concatenate()(read)))
    two.compile("sgd", "mse")
    with pytest.raises(ValueError, match=re.escape(f"{wanted}not int64 (45, 12), int64 (45, 11)")):
        two.predict([X, X[:, 1:]], group_by_length=True, verbose=0)
    with pytest.raises(ValueError, match="validation x must be padded ids"):
        two.fit([X, X], Y, group_by_length=True, verbose=0, validation_data=([X, X[:, 1:]], Y))
