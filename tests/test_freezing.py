"""Layers and models that are not trained: `trainable=False`."""

import numpy as np
import pytest

from scratchlstm import gradcheck, optimizers, regularizers
from scratchlstm.callbacks import Callback, Checkpoint, EarlyStopping
from scratchlstm.inspection import trace
from scratchlstm.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    Input,
    Layer,
    SimpleRNN,
    TimeDistributed,
)
from scratchlstm.layers.passes import Pass
from scratchlstm.models import Model, Sequential, load_model
from scratchlstm.rows import as_array
from scratchlstm.training.parallel import Team

RNG = np.random.default_rng(5)
IDS, LABELS = RNG.integers(0, 9, size=(12, 5)), RNG.integers(0, 2, size=12)
SERIES = RNG.normal(size=(4, 5, 3))
NAMES = ["words", "lower", "upper", "head"]


def classifier(*frozen, optimizer="adam", dropout=0.0, dtype="float64", **options):
    layers = [
        Embedding(9, 3, name="words", input_shape=(5,), dtype=dtype),
        LSTM(4, return_sequences=True, name="lower", dropout=dropout, dtype=dtype),
        LSTM(4, name="upper", dtype=dtype),
        Dense(1, "sigmoid", name="head", dtype=dtype),
    ]
    model = Sequential(layers, seed=1, **options)
    for layer in model.layers:
        layer.trainable = layer.name not in frozen
    model.compile(optimizer, "binary_crossentropy")
    return model


def fit(model, epochs=2, **options):
    return model.fit(IDS, LABELS, batch_size=4, epochs=epochs, verbose=0, **options)


def equal(some, others):
    return [np.array_equal(*pair) for pair in zip(some, others, strict=True)]


def same(some, others):
    return all(equal(some, others))


def owners(model):
    return [name.partition("/")[0] for name in model.network.params]


# --- what is trained --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", ["sgd", "rmsprop", "adam", optimizers.SGD(momentum=0.9), optimizers.Adam(clipnorm=1)]
)
@pytest.mark.parametrize("frozen", [["words"], ["lower"], ["head"], ["words", "upper"], NAMES[:3]], ids="+".join)
def test_training_changes_what_is_trainable_and_nothing_else(frozen, optimizer):
    optimizer = optimizer if isinstance(optimizer, str) else type(optimizer)(**optimizer.get_config())
    model = classifier(*frozen, optimizer=optimizer)
    before = model.get_weights()
    fit(model)
    for owner, was, now, slots in zip(owners(model), before, model.get_weights(), model.optimizer.state, strict=True):
        assert np.array_equal(was, now) == (owner in frozen), owner
        assert all(slot.any() != (owner in frozen) for slot in slots.values()), owner


@pytest.mark.parametrize("frozen", [["words"], ["lower"], NAMES[:3]], ids="+".join)
def test_the_gradients_of_the_others_are_those_of_a_model_without_frozen_parts(frozen):
    found = []
    for model in classifier(*frozen), classifier():
        y, cache = model.forward(IDS, Pass(training=True))
        dx, grads = model.backward(np.ones_like(y), cache)
        assert dx is None
        found.append({name: as_array(g.dense() if hasattr(g, "dense") else g) for name, g in grads.items()})
    ours, full = found
    assert ours.keys() == {name for name in full if name.partition("/")[0] not in frozen}
    assert all(np.array_equal(ours[name], full[name]) for name in ours)


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize(
    "make",
    [
        lambda **o: LSTM(4, return_sequences=True, **o),
        lambda **o: LSTM(4, dropout=0.2, recurrent_dropout=0.2, **o),
        lambda **o: LSTM(4, go_backwards=True, **o),
    ],
)
def test_a_frozen_lstm_hands_on_the_same_dx(make, implementation):
    found = []
    for trainable in (True, False):
        layer = make(implementation=implementation, dtype="float64", seed=3, trainable=trainable)
        layer.build((5, 3), np.random.default_rng(1))
        y, cache = layer.forward(SERIES, Pass(training=True))
        found.append(layer.backward(np.ones_like(y), cache))
    (dx, grads), (dx_frozen, none) = found
    assert np.array_equal(dx, dx_frozen)
    assert grads
    assert none == {}


def test_nothing_at_all_is_computed_if_neither_dx_nor_gradients_are_wanted():
    layer = LSTM(4, trainable=False)
    y, cache = layer.forward((SERIES, np.zeros((4, 4)), np.zeros((4, 4))))
    (dx, dh0, dc0), grads = layer.backward(np.ones_like(y), cache, (False, True, True))
    assert dx is None
    assert dh0.any()
    assert dc0.any()
    assert grads == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dense(2),
        lambda: SimpleRNN(2),
        lambda: Bidirectional(LSTM(2)),
        lambda: TimeDistributed(Dense(2)),
    ],
)
def test_a_frozen_layer_gives_dx_alone(make):
    layer = make()
    layer.trainable = False
    y, cache = layer.forward(SERIES)
    dx, grads = layer.backward(np.ones_like(y), cache)
    assert dx.any()
    assert grads == {}
    assert list(layer.params)
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == len(layer.params)


# --- what need not be computed is not ---------------------------------------------------------------------------------


def visited(model, x=IDS, need=False):
    seen = []
    y, cache = model.network.forward(x, Pass(training=True, seen=lambda cache, dy: seen.append(cache.layer.name)))
    model.network.backward(np.ones_like(y), cache, need)
    return [name for name in seen if name != model.name]


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        ([], ["head", "upper", "lower", "words"]),
        (["words"], ["head", "upper", "lower"]),
        (["lower"], ["head", "upper", "lower", "words"]),
        (["words", "lower", "upper"], ["head"]),
        (["head"], ["head", "upper", "lower", "words"]),
        (NAMES, []),
    ],
)
def test_the_backward_pass_ends_at_the_lowest_layer_that_is_trained(frozen, expected):
    assert visited(classifier(*frozen)) == expected


def test_dx_is_computed_through_frozen_layers_if_it_is_needed():
    model = Sequential([LSTM(3, input_shape=(5, 3), name="lstm"), Dense(1, name="head")], trainable=False)
    assert visited(model, SERIES) == []
    assert visited(model, SERIES, need=True) == ["head", "lstm"]


def test_a_branch_without_anything_trained_is_not_visited():
    words = Input((5,))
    vectors = Embedding(9, 3, name="words", trainable=False)(words)
    still = LSTM(3, name="still", trainable=False)(vectors)
    mean = GlobalAveragePooling1D(name="mean")(vectors)
    both = Concatenate(name="both")([still, Dense(3, name="moving")(mean)])
    model = Model(words, Dense(1, name="head")(both))
    assert visited(model) == ["head", "both", "moving"]


def test_nested_models():
    inner = Sequential([LSTM(3, return_sequences=True, name="a"), LSTM(3, name="b")], name="inner")
    model = Sequential([Input((5, 3)), inner, Dense(1, name="head")], seed=1)
    a, b = inner.layers
    assert visited(model, SERIES) == ["head", "inner", "b", "a"]
    a.trainable = False
    assert visited(model, SERIES) == ["head", "inner", "b"]
    inner.trainable = False
    assert not b.trainable
    assert visited(model, SERIES) == ["head"]
    assert list(model.network.trainable_params) == ["head/kernel", "head/bias"]
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(SERIES, np.ones(4), verbose=0)
    assert equal(before, model.get_weights()) == [True] * 6 + [False] * 2
    b.trainable = True  # inside of what is not, itself
    assert visited(model, SERIES) == ["head", "inner", "b"]
    assert inner.trainable_weights == []
    model.fit(SERIES, np.ones(4), verbose=0)
    assert equal(before, model.get_weights()) == [True] * 3 + [False] * 5
    inner.trainable = True
    assert visited(model, SERIES) == ["head", "inner", "b", "a"]


@pytest.mark.parametrize("frozen", [[], ["encoder"], ["decoder"], ["encoder", "decoder"]], ids=str)
def test_states_carry_gradients_through_a_frozen_decoder_only_to_what_is_trained(frozen):
    x, before = Input((5, 3)), Input((4, 2))
    _, *states = LSTM(3, return_state=True, name="encoder", dtype="float64", trainable="encoder" not in frozen)(x)
    decoder = LSTM(3, name="decoder", dtype="float64", trainable="decoder" not in frozen)
    y = Dense(1, name="head", dtype="float64")(decoder(before, initial_state=states))
    model = Model([x, before], y, seed=1)
    model.compile("adam", "mse")
    inputs = [SERIES, SERIES[:, :4, :2]]
    seen = visited(model, inputs)
    assert ("encoder" in seen) == ("encoder" not in frozen)
    assert ("decoder" in seen) == (frozen != ["encoder", "decoder"])
    assert gradcheck.check_model(model, inputs, np.ones((4, 1))).ok
    start = model.get_weights()
    model.fit(inputs, np.ones((4, 1)), verbose=0)
    assert equal(start, model.get_weights()) == [owner in frozen for owner in owners(model)]


# --- Keras' rules -----------------------------------------------------------------------------------------------------


def test_setting_it_sets_it_inside():
    layer = Bidirectional(LSTM(2))
    layer.trainable = False
    assert not layer.forward_layer.trainable
    assert not layer.backward_layer.trainable
    model = Sequential([Input((5, 3)), layer, Dense(1)])
    model.trainable = True
    assert layer.forward_layer.trainable


def test_what_begins_frozen_begins_with_frozen_parts():
    for layer in TimeDistributed(Dense(2), trainable=False), Bidirectional(LSTM(2), trainable=False):
        assert not any(part.trainable for part in layer.parts.values())
    i = Input((5, 3))
    for model in Sequential([Input((5, 3)), LSTM(2)], trainable=False), Model(i, LSTM(2)(i), trainable=False):
        assert not model.layers[0].trainable
        assert model.trainable_weights == []


def test_weights_keep_their_order():
    model = classifier("words", "upper")
    assert same(model.get_weights(), classifier().get_weights())
    assert owners(model) == ["words", *["lower"] * 3, *["upper"] * 3, *["head"] * 2]
    assert [w.shape for w in model.trainable_weights] == [(3, 16), (4, 16), (16,), (4, 1), (1,)]
    assert [w.shape for w in model.non_trainable_weights] == [(9, 3), (4, 16), (4, 16), (16,)]
    assert model.trainable_weights[0] is model.layers[1].params["kernel"]


def test_penalties_and_constraints_are_those_of_what_is_trained():
    for trainable in (True, False):
        penalized = Dense(2, kernel_regularizer=regularizers.L2(1.0), kernel_constraint="non_neg", trainable=trainable)
        model = Sequential([Input((3,)), penalized, Dense(1)], seed=1)
        model.compile("sgd", "mse")
        kernel = model.get_weights()[0]
        assert (kernel < 0).any()
        assert (model.penalty() > 0) == trainable
        model.fit(SERIES[0], np.ones(5), verbose=0)
        assert np.array_equal(kernel, model.get_weights()[0]) != trainable
        assert (model.get_weights()[0] < 0).any() != trainable


def test_dropout_of_a_frozen_layer_drops():
    frozen, free = classifier("words", "lower", dropout=0.5), classifier(dropout=0.5)
    assert fit(frozen, epochs=1).history["loss"][0] != fit(classifier("words", "lower"), epochs=1).history["loss"][0]
    assert [r.bit_generator.state for r in frozen.generators] != [
        r.bit_generator.state for r in classifier(dropout=0.5).generators
    ]
    fit(free, epochs=1)
    assert [r.bit_generator.state for r in frozen.generators] == [r.bit_generator.state for r in free.generators]


def test_a_model_without_anything_to_train_says_so():
    model = classifier()
    model.trainable = False
    before = model.get_weights()
    with pytest.warns(UserWarning, match="sequential has no trainable weights, so fit changes nothing"):
        fit(model)
    assert same(before, model.get_weights())


# --- between and during runs ------------------------------------------------------------------------------------------


def test_the_optimizers_state_waits_while_a_layer_is_frozen():
    model = classifier()
    fit(model)
    kept = [{name: slot.copy() for name, slot in slots.items()} for slots in model.optimizer.state]
    model.layers[1].trainable = False
    fit(model)
    for owner, was, now in zip(owners(model), kept, model.optimizer.state, strict=True):
        assert all(np.array_equal(was[name], now[name]) == (owner == "lower") for name in was), owner
    before = model.get_weights()
    model.layers[1].trainable = True
    fit(model, epochs=1)
    assert model.optimizer.iterations == 15
    assert not any(map(np.array_equal, before, model.get_weights()))


def test_averages_leave_frozen_weights_alone():
    model = classifier()
    model.compile(optimizers.Adam(0.1, use_ema=True), "binary_crossentropy")
    model.layers[1].trainable = False
    fit(model)
    frozen = [w + 1 for w in model.layers[1].get_weights()]
    model.layers[1].set_weights(frozen)
    fit(model)
    assert same(frozen, model.layers[1].get_weights())
    for owner, w, kept in zip(owners(model), model.params, model.optimizer.state, strict=True):
        assert np.array_equal(w, kept["average"]) == (owner != "lower"), owner


class Thaw(Callback):
    """Freezes the embedding and the first LSTM, and lets them go after some epochs."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in (0, 2):
            for layer in self.model.layers[:2]:
                layer.trainable = epoch == 2


def test_a_callback_may_change_it_with_workers_and_across_a_checkpoint(tmp_path):
    weights, path = [], tmp_path / "run.npz"
    for workers in (1, 2):
        model = classifier(dtype="float64")
        before = model.get_weights()
        fit(model, epochs=2, workers=workers, callbacks=[Thaw()])
        assert equal(before, model.get_weights()) == [True] * 4 + [False] * 5
        model = classifier(dtype="float64")
        fit(model, epochs=3, workers=workers, callbacks=[Thaw()])
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)
    fit(classifier(), epochs=3, callbacks=[Thaw(), Checkpoint(path)])
    resumed = classifier()
    fit(resumed, epochs=4, callbacks=[Thaw(), Checkpoint(path)], resume=path)
    whole = classifier()
    fit(whole, epochs=4, callbacks=[Thaw()])
    assert same(resumed.get_weights(), whole.get_weights())


@pytest.mark.parametrize("optimizer", ["adam", optimizers.SGD(momentum=0.5, global_clipnorm=0.1)])
def test_two_workers_train_as_one_does(optimizer):
    found = []
    for workers in (1, 2):
        own = optimizer if isinstance(optimizer, str) else type(optimizer)(**optimizer.get_config())
        model = classifier("words", "upper", optimizer=own)
        fit(model, workers=workers)
        found.append([*model.get_weights(), *(slot for slots in model.optimizer.state for slot in slots.values())])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


def test_workers_exchange_no_gradients_of_what_is_frozen():
    model = classifier("words", "upper")
    model.build_for((5,))
    model.optimizer.claim(model.token, model.params)
    with Team(model, 2, {"x": IDS, "y": LABELS.reshape(-1, 1).astype(float)}, batch_size=12) as team:
        team.begin_epoch(np.arange(12))
        team.step(0, 12)
        for rank in range(2):
            for number, owner in enumerate(owners(model)):
                where = f"gradient{rank}/{number}"
                written = team.shared[f"{where}/count" if owner == "words" else where]
                assert written.any() != (owner in ("words", "upper")), owner


def test_a_checkpoint_of_another_freezing_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    fit(classifier("words"), callbacks=[Checkpoint(path)])
    model = classifier()
    with pytest.raises(ValueError, match="another run: model/layers/words/config/trainable was False, and is True now"):
        fit(model, epochs=3, callbacks=[Checkpoint(path)], resume=path)
    model.trainable = False
    model.layers[0].trainable = False
    with pytest.raises(ValueError, match="another run: model/trainable was True, and is False now"):
        fit(model, epochs=3, callbacks=[Checkpoint(path)], resume=path)


def test_the_best_weights_are_restored_frozen_ones_included():
    model = classifier("words", optimizer=optimizers.Adam(0.5))
    before = model.get_weights()
    stopping = EarlyStopping("loss", patience=3, restore_best_weights=True)
    fit(model, epochs=6, callbacks=[stopping])
    assert np.array_equal(before[0], model.get_weights()[0])
    assert not np.array_equal(before[1], model.get_weights()[1])


# --- files, checks and pictures ---------------------------------------------------------------------------------------


def test_a_file_says_what_is_frozen(tmp_path):
    path = tmp_path / "model.npz"
    model = classifier("words")
    fit(model)
    model.save(path)
    loaded = load_model(path)
    assert loaded.trainability == model.trainability == [True, False, True, True, True]
    fit(model, shuffle=False)
    fit(loaded, shuffle=False)
    assert same(model.get_weights(), loaded.get_weights())
    model.trainable = False
    model.layers[2].trainable = True
    model.save(path)
    assert load_model(path).trainability == [False, False, False, True, False]


def test_halves_of_a_bidirectional_layer_may_differ_in_a_file(tmp_path):
    layer = Bidirectional(LSTM(2))
    model = Sequential([Input((5, 3)), layer, Dense(1)])
    layer.backward_layer.trainable = False
    model.save(tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz")
    assert loaded.trainability == model.trainability == [True, True, True, False, True]
    assert same(loaded.get_weights(), model.get_weights())


def test_nested_and_functional_models_keep_it_in_their_files(tmp_path):
    inner = Sequential([LSTM(3, name="a"), Dense(3, name="b")], name="inner")
    i = Input((5, 3))
    model = Model(i, Dense(1)(inner(i)), trainable=False)
    inner.layers[1].trainable = True
    model.save(tmp_path / "model.npz")
    assert load_model(tmp_path / "model.npz").trainability == [False, False, False, True, False]


@pytest.mark.parametrize("frozen", [["words"], ["lower"], NAMES[:3]], ids="+".join)
def test_gradcheck_checks_what_is_trained(frozen):
    model = classifier(*frozen)
    report = gradcheck.check_model(model, IDS[:3], LABELS[:3])
    assert report.ok, report
    assert [row.tensor for row in report.rows] == list(model.network.trainable_params)


def test_gradcheck_of_what_has_nothing_to_check():
    with pytest.raises(ValueError, match="sequential has no trainable parameters, so no gradient to check"):
        gradcheck.check_model(classifier(*NAMES), IDS, LABELS)
    report = gradcheck.check_layer(Dense(2, dtype="float64", trainable=False), SERIES)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x"]


def test_a_trace_follows_the_gradient_through_frozen_layers():
    frozen, free = classifier(*NAMES[:3]), classifier()
    ours, theirs = (trace(model, IDS[:2], LABELS[:2]).layers for model in (frozen, free))
    assert list(ours) == ["lower", "upper"]
    for name, layer in ours.items():
        assert layer.dh.any()
        assert np.array_equal(layer.dh, theirs[name].dh)


class Scale(Layer):
    """A layer of the user's own, which knows nothing of freezing."""

    def param_specs(self, input_shape):
        return {"scale": ((input_shape[-1],), "ones")}

    def forward(self, x):
        return x * self.params["scale"], x

    def backward(self, dy, cache):
        return dy * self.params["scale"], {"scale": (dy * cache).sum(axis=tuple(range(dy.ndim - 1)))}


def test_a_layer_and_an_optimizer_of_the_users_own():
    class Plain(optimizers.Optimizer):
        slots = ("seen",)

        def update(self, w, rows, g, learning_rate, seen):
            seen[rows] += 1
            w[rows] -= learning_rate * g

    model = Sequential([Input((5, 3)), Dense(3), Scale(trainable=False), Dense(1)], seed=1)
    model.compile(Plain(0.1), "mse")
    before = model.get_weights()
    model.fit(SERIES, np.ones((4, 5, 1)), verbose=0)
    assert equal(before, model.get_weights()) == [False, False, True, False, False]
    assert [slots["seen"].any() for slots in model.optimizer.state] == [True, True, False, True, True]


def test_dropout_has_it_too_as_in_keras():
    assert not Dropout(0.5, trainable=False).trainable
    assert Dropout(0.5).get_config()["trainable"]


def test_the_summary_counts_both(capsys):
    model = classifier("words", "upper", dtype="float32")
    model.summary()
    assert capsys.readouterr().out.endswith(
        " Total params: 304 (1.19 KB)\n Trainable params: 133 (532.00 B)\n Non-trainable params: 171 (684.00 B)\n"
    )


@pytest.mark.parametrize("value", ["no", 2, None])
def test_it_is_true_or_false(value):
    model = classifier()
    with pytest.raises(TypeError, match="trainable of words must be True or False"):
        model.layers[0].trainable = value
    with pytest.raises(TypeError, match="trainable of sequential must be True or False"):
        model.trainable = value
    with pytest.raises(TypeError, match="trainable must be True or False"):
        Dense(1, trainable=value)
    with pytest.raises(TypeError, match="trainable must be True or False"):
        Sequential(trainable=value)
