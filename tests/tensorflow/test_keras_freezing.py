"""Layers and models that are not trained, against Keras: steps, weights' order, summary, files."""

import warnings

import numpy as np
import pytest
from cases import EXACT, error, word_ids
from keras_side import dense, floats, keras, tf

from scratchlstm import Model, Sequential, layers, losses, optimizers, regularizers
from scratchlstm.gradcheck import check_model
from scratchlstm.interop.keras import from_keras, load_keras, save_keras, to_keras
from scratchlstm.models import load_model

pytestmark = pytest.mark.slow

V, T, E, H, B = 13, 3, 4, 3, 6


def build(frozen, dtype="float64", **options):
    """Names of `frozen` are layers, and "both/forward_layer" is within one."""
    parts = [
        layers.Embedding(V, E, embeddings_regularizer=regularizers.L2(0.125), name="words", dtype=dtype),
        layers.LSTM(H, return_sequences=True, name="lower", dtype=dtype),
        layers.Bidirectional(
            layers.LSTM(2, return_sequences=True, kernel_regularizer=regularizers.L2(0.25), dtype=dtype), name="both"
        ),
        layers.TimeDistributed(layers.Dense(2, bias_regularizer=regularizers.L2(0.5), dtype=dtype), name="each"),
        layers.SimpleRNN(3, name="upper", dtype=dtype),
        layers.Dense(1, "sigmoid", name="head", kernel_constraint="non_neg", dtype=dtype),
    ]
    model = Sequential([layers.Input((T,)), *parts], seed=0, **options)
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.get_weights()])
    freeze(model, frozen)
    return model


def freeze(model, frozen):
    """Of either side. (Keras on TensorFlow passes over an assignment that changes nothing, and the parts with it.)"""
    for layer in model.layers:
        layer.trainable = layer.name not in frozen
        if layer.name == "both":
            layer.forward_layer.trainable = layer.trainable and "both/forward_layer" not in frozen


FROZEN = {
    "bottom": ["words", "lower"],
    "embedding": ["words"],
    "middle": ["lower", "each"],
    "a half": ["both/forward_layer", "upper"],
    "top": ["upper", "head"],
    "wrappers": ["both", "each"],
}


@pytest.mark.parametrize("name", ["bottom", "a half", "wrappers"])
def test_ten_steps_of_adam(name):
    """Three steps with frozen parts, four with everything trained, and three frozen again, with one optimizer."""
    frozen = FROZEN[name]
    with floats("float64"):
        ours = build([])
        theirs = to_keras(ours)
        start = ours.get_weights()
        ours.compile(optimizers.Adam(**EXACT["Adam"], clipnorm=0.5), losses.BinaryCrossentropy())
        optimizer = keras.optimizers.Adam(**EXACT["Adam"], clipnorm=0.5)
        optimizer.build(theirs.trainable_variables)
        loss_function = keras.losses.BinaryCrossentropy()
        rng = np.random.default_rng(3)
        for step in range(10):
            for model in (ours, theirs):
                freeze(model, [] if 3 <= step < 7 else frozen)
            x, y = word_ids(rng, V, (B, T)), rng.integers(0, 2, size=(B, 1)).astype(float)
            before, our_loss = ours.get_weights(), ours.train_on_batch(x, y)
            with tf.GradientTape() as tape:
                loss = loss_function(y, theirs(x, training=True)) + sum(theirs.losses)
            variables = theirs.trainable_variables
            optimizer.apply([dense(g) for g in tape.gradient(loss, variables)], variables)
            assert our_loss == pytest.approx(float(loss), rel=1e-9)
            moved = [not np.array_equal(*pair) for pair in zip(before, ours.get_weights(), strict=True)]
            trained = {id(variable) for variable in variables}
            assert moved == [id(variable) in trained for variable in theirs.weights]
        for w, answer, w0 in zip(ours.get_weights(), theirs.get_weights(), start, strict=True):
            assert error(w - w0, answer - w0) < 1e-8
        slots = [array for state in ours.optimizer.state for array in state.values()]
        for slot, answer in zip(slots, optimizer.variables[2:], strict=True):
            assert error(slot, answer.numpy()) < 1e-8


def shapes(weights):
    return [tuple(w.shape) for w in weights]


@pytest.mark.parametrize("frozen", FROZEN.values(), ids=FROZEN)
def test_lists_of_weights_and_the_summary(frozen, capsys):
    ours = build(frozen, "float32")
    theirs, printed = to_keras(ours), []
    for kind in ("weights", "trainable_weights", "non_trainable_weights"):
        mine = ours.params if kind == "weights" else getattr(ours, kind)
        for w, answer in zip(mine, getattr(theirs, kind), strict=True):
            assert np.array_equal(w, answer.numpy())
    theirs.summary(print_fn=printed.append)
    ours.summary()
    assert capsys.readouterr().out.rstrip() == "\n".join(printed).rstrip()


def flags(model):
    """Of either side: the model, its layers, and the halves of the Bidirectional."""
    both = next(layer for layer in model.layers if layer.name == "both")
    halves = both.forward_layer.trainable, both.backward_layer.trainable
    return [model.trainable, *(layer.trainable for layer in model.layers), *halves]


def toggled(model, values):
    for value in values:
        model.trainable = value


@pytest.mark.parametrize("values", [[False], [False, True]], ids=str)
def test_a_frozen_model_and_what_is_set_inside(values):
    """Only what is trained as a model, and the layer that has the parameters, decide."""
    ours = build(["lower", "both/forward_layer"])
    theirs = to_keras(ours)
    outer, outer_theirs = Sequential([layers.Input((T,)), ours]), keras.Sequential([keras.Input((T,)), theirs])
    for model in (ours, theirs):
        toggled(model, values)
    for name in "words", "both":
        assert flags(ours) == flags(theirs)
        for model in (ours, theirs):
            next(layer for layer in model.layers if layer.name == name).trainable = True
        for mine, other in ((ours, theirs), (outer, outer_theirs)):
            assert shapes(mine.trainable_weights) == shapes(other.trainable_weights)
            assert shapes(mine.non_trainable_weights) == shapes(other.non_trainable_weights)


@pytest.mark.parametrize("frozen", FROZEN.values(), ids=FROZEN)
def test_there_and_back(frozen, tmp_path):
    rng = np.random.default_rng(1)
    x, y = word_ids(rng, V, (B, T)), rng.integers(0, 2, size=(B, 1))
    ours = build(frozen, "float32")
    ours.compile("adam", "binary_crossentropy")
    ours.fit(x, y, verbose=0)
    save_keras(ours, tmp_path / "ours.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras' own on what of the optimizer it skips
        theirs = keras.saving.load_model(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    for back in from_keras(theirs), load_keras(tmp_path / "theirs.keras"):
        assert flags(back) == flags(theirs) == flags(ours)
        assert all(map(np.array_equal, back.get_weights(), ours.get_weights()))
        assert back.optimizer.iterations == 1
        for slots, saved, w in zip(ours.optimizer.state, back.optimizer.state, ours.params, strict=True):
            assert all(np.array_equal(slots[name], saved[name]) for name in slots), w.shape


def test_a_keras_model_frozen_after_training(tmp_path):
    """Its optimizer has the state of all parameters."""
    theirs = to_keras(build([], "float32"))
    theirs.compile("adam", "binary_crossentropy")
    theirs.fit(word_ids(np.random.default_rng(1), V, (B, T)), np.ones((B, 1)), verbose=0)
    freeze(theirs, ["words", "upper"])
    ours = from_keras(theirs)
    assert flags(ours) == flags(theirs)
    slots = [slot for state in ours.optimizer.state for slot in state.values()]
    assert all(map(np.array_equal, slots, [variable.numpy() for variable in theirs.optimizer.variables[2:]]))


def test_flags_of_what_is_around_come_over(tmp_path):
    """As they are in Keras, where a wrapper or model that begins frozen leaves its parts trainable."""
    lstm = keras.layers.Bidirectional(keras.layers.LSTM(2), trainable=False, name="both")
    theirs = keras.Sequential([keras.Input((T, E)), lstm, keras.layers.Dense(1)])
    for own in (True, False):
        theirs._trainable = own
        ours = from_keras(theirs)
        assert flags(ours) == flags(theirs) == [own, False, True, True, True]
        assert shapes(ours.trainable_weights) == shapes(theirs.trainable_weights)
        assert shapes(to_keras(ours).trainable_weights) == shapes(theirs.trainable_weights)
        ours.save(tmp_path / "model.npz")
        assert flags(load_model(tmp_path / "model.npz")) == flags(theirs)


@pytest.mark.parametrize("frozen", ["inner", "outer"])
def test_models_within_models_there_and_back(frozen, tmp_path):
    """The inner one frozen but for a layer; or the outer one, in which a layer says otherwise."""
    inner = Sequential([layers.Input((T, E)), layers.LSTM(2, name="a"), layers.Dense(2, name="b")], name="inner")
    i = layers.Input((T, E))
    both = layers.Concatenate()([inner(i), layers.GlobalAveragePooling1D()(i)])  # Keras forgets it of a Sequential
    ours = Model(i, layers.Dense(1, name="head")(both))
    (inner if frozen == "inner" else ours).trainable = False
    inner.layers[1].trainable = True
    twin = to_keras(ours)
    assert shapes(twin.trainable_weights) == shapes(ours.trainable_weights)
    assert bool(ours.trainable_weights) == (frozen == "inner")
    save_keras(ours, tmp_path / "ours.keras")
    theirs = keras.saving.load_model(tmp_path / "ours.keras")
    assert shapes(theirs.trainable_weights) == shapes(ours.trainable_weights)
    for back in load_keras(tmp_path / "ours.keras"), from_keras(theirs):
        assert shapes(back.trainable_weights) == shapes(ours.trainable_weights)


def test_gradcheck_with_tensorflow():
    rng = np.random.default_rng(1)
    x, y = word_ids(rng, V, (3, T)), rng.integers(0, 2, size=(3, 1))
    with floats("float64"):
        for frozen in FROZEN["bottom"], FROZEN["a half"]:
            ours = build(frozen)
            ours.compile("adam", "binary_crossentropy")
            report = check_model(ours, x, y, tensorflow=True)
            assert report.ok, report
            assert all(row.tensorflow is not None for row in report.rows)
