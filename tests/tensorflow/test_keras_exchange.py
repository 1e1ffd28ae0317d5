"""Models and weights to live Keras and back, through memory and through files."""

import warnings

import keras_side
import numpy as np
import pytest
from cases import error
from exchange_models import IDS, E, H, T, V, keras_model

from scratchlstm import Sequential, layers, metrics, optimizers
from scratchlstm.cells import NoInputGateLSTMCell, PeepholeLSTMCell
from scratchlstm.interop.keras import (
    from_keras,
    layer_to_keras,
    load_keras,
    load_keras_weights,
    save_keras,
    save_keras_weights,
    to_keras,
)
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding

pytestmark = pytest.mark.slow

keras = keras_side.keras
L = keras.layers
pytest.importorskip("h5py", reason="h5py is not installed here: Keras' files are NOT tested")


def same_bits(ours, theirs):
    return [(w.dtype, w.shape, w.tobytes()) for w in ours] == [(w.dtype, w.shape, w.tobytes()) for w in theirs]


def answer(theirs, x=IDS):
    """What `predict` gives, without its compilation."""
    return keras.ops.convert_to_numpy(theirs(x, training=False))


def assert_same_answers(ours, theirs, x=IDS):
    np.testing.assert_allclose(ours.predict(x, verbose=0), answer(theirs, x), rtol=1e-6, atol=1e-6)


def optimizer_values(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]


@pytest.fixture(scope="module")
def theirs():
    return keras_model()


def from_file(model, folder):
    model.save(folder / "m.keras")
    return load_keras(folder / "m.keras")


WAYS_IN = {"live": lambda model, folder: from_keras(model), "file": from_file}


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_compiled_and_trained_model_comes_over(theirs, way, tmp_path):
    ours = WAYS_IN[way](theirs, tmp_path)
    assert same_bits(ours.get_weights(), theirs.get_weights())
    assert_same_answers(ours, theirs)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    iterations, learning_rate, *slots = optimizer_values(theirs)
    assert ours.optimizer.iterations == iterations == 2
    assert ours.optimizer.learning_rate == learning_rate
    assert same_bits([array for state in ours.optimizer.state for array in state.values()], slots)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("way", WAYS_IN)
def test_averages_come_over_and_go_back(way, frozen, tmp_path):
    theirs = keras_model()
    theirs.get_layer("lower").trainable = not frozen
    optimizer = keras.optimizers.Adam(0.0625, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=5)
    theirs.compile(optimizer, "binary_crossentropy")
    theirs.fit(IDS, np.array([0, 1, 1]), epochs=3, verbose=0)
    ours = WAYS_IN[way](theirs, tmp_path)
    config = theirs.optimizer.get_config()
    assert ours.optimizer.get_config() == {name: config[name] for name in ours.optimizer.get_config()}
    trained = [name in ours.network.trainable_params for name in ours.network.params]
    averages = [kept["average"] for kept, known in zip(ours.optimizer.state, trained, strict=True) if known]
    known = theirs.optimizer._model_variables_moving_average
    assert same_bits(averages, [keras.ops.convert_to_numpy(average) for average in known])
    save_keras(ours, tmp_path / "ours.keras")
    back = keras.saving.load_model(tmp_path / "ours.keras")
    assert same_bits(optimizer_values(back), optimizer_values(theirs))
    ours.take_averages()
    back.optimizer.finalize_variable_values(back.trainable_variables)
    assert same_bits(ours.get_weights(), back.get_weights())


SEQUENCE = {"go_backwards": True, "zero_output_for_mask": True, "return_sequences": True}


def every_option():
    return {
        "kernel_regularizer": keras.regularizers.L1L2(0.25, 0.5),
        "recurrent_regularizer": "l2",
        "bias_regularizer": keras.regularizers.L1(0.125),
        "kernel_constraint": keras.constraints.MaxNorm(1.5, axis=1),
        "recurrent_constraint": "unit_norm",
        "bias_constraint": "non_neg",
        "dropout": 0.25,
        "recurrent_dropout": 0.5,
        "seed": 7,
    }


LAYERS = {
    "LSTM": lambda: [L.LSTM(3)],
    "LSTM, sequences": lambda: [L.LSTM(3, return_sequences=True), L.Dense(2, activation="softmax")],
    "LSTM, no bias": lambda: [L.LSTM(3, use_bias=False, unit_forget_bias=False)],
    "LSTM, hard sigmoid": lambda: [L.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid")],
    "LSTM, linear": lambda: [L.LSTM(3, activation=None, recurrent_activation="sigmoid", unroll=True)],
    "stack": lambda: [L.LSTM(3, return_sequences=True), L.Dropout(0.5), L.LSTM(2, return_sequences=True), L.LSTM(1)],
    "initializers": lambda: [
        L.LSTM(2, kernel_initializer="glorot_normal", recurrent_initializer=keras.initializers.Orthogonal(0.5, seed=1)),
        L.Dense(2, kernel_initializer=keras.initializers.Constant(0.5), bias_initializer="ones", use_bias=True),
        L.Dense(1, kernel_initializer=keras.initializers.RandomUniform(-1, 1, seed=3), use_bias=False),
    ],
    "activations": lambda: [
        L.LSTM(2),
        L.Dense(2, activation="tanh"),
        L.Activation("hard_sigmoid"),
        L.Activation("relu"),
    ],
    "SimpleRNN": lambda: [
        L.SimpleRNN(3, return_sequences=True, recurrent_dropout=0.25),
        L.SimpleRNN(2, use_bias=False),
    ],
    "LSTM, every option": lambda: [L.LSTM(3, **every_option(), **SEQUENCE)],
    "GRU": lambda: [L.GRU(3, return_sequences=True), L.GRU(2, reset_after=False, go_backwards=True)],
    "GRU, no bias": lambda: [L.GRU(3, use_bias=False, return_sequences=True), L.GRU(2, "relu", "hard_sigmoid")],
    "GRU, every option": lambda: [L.GRU(3, **every_option(), **SEQUENCE)],
    "RNN": lambda: [
        L.RNN(L.LSTMCell(3, unit_forget_bias=False), unroll=True, return_sequences=True),
        L.RNN(L.GRUCell(3, reset_after=False), return_sequences=True),
        L.RNN(L.SimpleRNNCell(2, use_bias=False)),
    ],
    "RNN, every option": lambda: [
        L.RNN(L.LSTMCell(3, **every_option()), **SEQUENCE),
        L.RNN(L.GRUCell(3, **every_option()), **SEQUENCE),
        L.RNN(L.SimpleRNNCell(3, **every_option()), **SEQUENCE),
    ],
    "stacked cells": lambda: [
        L.RNN([L.LSTMCell(4, use_bias=False), L.GRUCell(2), L.LSTMCell(3, dropout=0.5)], return_sequences=True),
        L.RNN(L.StackedRNNCells([L.SimpleRNNCell(3), L.SimpleRNNCell(3)])),
    ],
    "frozen cells": lambda: [L.RNN(L.GRUCell(3), trainable=False)],
    "Bidirectional, cells": lambda: [
        L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="sum"),
        L.Bidirectional(L.RNN([L.GRUCell(3), L.LSTMCell(2)], return_sequences=True)),
        L.Bidirectional(L.RNN(L.GRUCell(2)), backward_layer=L.RNN(L.LSTMCell(2), go_backwards=True, name="back")),
    ],
    "TimeDistributed, cells": lambda: [
        L.Reshape((T, E, 1)),
        L.TimeDistributed(L.RNN([L.GRUCell(3), L.SimpleRNNCell(2)])),
    ],
    "Bidirectional": lambda: [
        L.Bidirectional(L.LSTM(3, return_sequences=True, name="inner")),
        L.Bidirectional(L.LSTM(2)),
    ],
    "Bidirectional, sum": lambda: [L.Bidirectional(L.SimpleRNN(3, dropout=0.25), merge_mode="sum", name="both")],
    "Bidirectional, ave": lambda: [L.Bidirectional(L.LSTM(3, use_bias=False, return_sequences=True), merge_mode="ave")],
    "Bidirectional, a layer of its own": lambda: [
        L.Bidirectional(
            L.LSTM(2), merge_mode="mul", backward_layer=L.LSTM(2, activation="relu", go_backwards=True, name="back")
        )
    ],
    "pooling": lambda: [L.SpatialDropout1D(0.5), L.LSTM(3, return_sequences=True), L.GlobalMaxPooling1D(keepdims=True)],
    "average": lambda: [
        L.LSTM(3, return_sequences=True),
        L.GlobalAveragePooling1D(),
        L.LayerNormalization(epsilon=0.125),
    ],
    "normalization": lambda: [
        L.LayerNormalization(center=False, gamma_regularizer="l1"),
        L.TimeDistributed(L.Dense(2, activation="relu", kernel_constraint="max_norm")),
        L.Flatten(),
        L.Dense(1),
    ],
}
MASKED = (
    *("LSTM", "LSTM, every option", "GRU", "RNN, every option", "stacked cells", "SimpleRNN"),
    *("Bidirectional", "Bidirectional, ave", "average"),
)
IN_FLOAT64 = ("stack", "GRU", "RNN", "stacked cells")


def comparable(described):
    """A layer's settings without what is ours to choose: how it is computed, and names of cells."""
    if isinstance(described, list):
        return [comparable(each) for each in described]
    if not isinstance(described, dict):
        return described
    own = {key: comparable(value) for key, value in described.items() if key not in ("unroll", "build_config")}
    if "Cell" in str(own.get("class_name")):
        del own["config"]["name"]
        own["config"].pop("trainable")  # the layer's; Keras forgets it in a cell that it is not set for
    return own


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in LAYERS),
        *((name, "float64") for name in ("stack", "GRU", "RNN", "stacked cells")),
    ],
)
def test_every_layer_there_and_back(name, dtype, tmp_path):
    """Keras -> ours -> Keras -> ours, live and through files: the same settings, weights and answers."""
    first = {"mask_zero": name in MASKED, "embeddings_regularizer": "l2", "embeddings_constraint": "unit_norm"}
    with keras_side.floats(dtype):
        model = keras.Sequential([keras.Input((T,), dtype="int32"), L.Embedding(V, E, **first), *LAYERS[name]()])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    ours, wanted = from_keras(model), answer(model)
    assert {layer.dtype for layer in ours.layers} == {dtype}
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(ours.predict(IDS, verbose=0), wanted, rtol=tolerance, atol=tolerance)
    back = to_keras(ours)
    save_keras(ours, tmp_path / "ours.keras")
    reloaded = keras.saving.load_model(tmp_path / "ours.keras")
    for twin in (back, reloaded):
        assert same_bits(twin.get_weights(), model.get_weights())
        configs = [[comparable(layer.get_config()) for layer in m.layers] for m in (twin, model)]
        assert configs[0] == configs[1]
        assert same_bits([answer(twin)], [wanted])
    reloaded.save(tmp_path / "theirs.keras")
    again = load_keras(tmp_path / "theirs.keras")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in ours.layers]
    assert same_bits(again.get_weights(), ours.get_weights())


def test_masking(tmp_path):
    model = keras.Sequential([keras.Input((T, E)), L.Masking(-1.0), L.LSTM(3), L.Dense(1)])
    x = np.random.default_rng(0).normal(size=(4, T, E)).astype("float32")
    x[0, 3:] = x[1, :2] = x[2] = -1
    for ours in (from_keras(model), from_file(model, tmp_path)):
        assert_same_answers(ours, model, x)
        np.testing.assert_allclose(answer(to_keras(ours), x), answer(model, x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.LSTM(2, stateful=True),
        lambda: L.GRU(2, stateful=True),
        lambda: L.RNN([L.LSTMCell(3), L.GRUCell(2)], stateful=True),
    ],
    ids=["LSTM", "GRU", "cells"],
)
def test_a_stateful_model(make):
    """Keras fixes its batch size; ours comes from the data."""
    model = keras.Sequential([keras.Input(batch_shape=(3, T, E)), make()])
    ours = from_keras(model)
    x = np.random.default_rng(0).normal(size=(3, T, E)).astype("float32")
    for _ in range(2):
        assert_same_answers(ours, model, x)
    back, again = to_keras(ours, batch_size=3), from_keras(model)
    for _ in range(2):
        assert_same_answers(again, back, x)


def test_weights_files_in_both_directions(theirs, tmp_path):
    ours = from_keras(theirs)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours.set_weights([0 * w for w in ours.get_weights()])
    load_keras_weights(ours, tmp_path / "theirs.weights.h5")
    assert same_bits(ours.get_weights(), theirs.get_weights())
    save_keras_weights(ours, tmp_path / "ours.weights.h5")
    twin = keras_model()
    twin.set_weights([0 * w for w in twin.get_weights()])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras' own on what it skips
        twin.load_weights(tmp_path / "ours.weights.h5")
    assert same_bits(twin.get_weights(), theirs.get_weights())
    assert same_bits(optimizer_values(twin), optimizer_values(theirs))


OPTIMIZERS = {
    "SGD": lambda o: o.SGD(0.125),
    "momentum": lambda o: o.SGD(0.125, momentum=0.5, nesterov=True),
    "RMSprop": lambda o: o.RMSprop(0.0625, rho=0.75),
    "Adam": lambda o: o.Adam(0.0625, beta_1=0.5, beta_2=0.75, clipnorm=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_in_the_other_package(name, float64, tmp_path):
    """Two epochs in one package are one there and one here, in both directions, live and through files."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(8, T, E)), rng.integers(0, 2, size=8)
    theirs = keras.Sequential([keras.Input((T, E)), L.LSTM(H), L.Dense(1, activation="sigmoid")])
    theirs.compile(OPTIMIZERS[name](keras.optimizers), "binary_crossentropy")

    def train(model):
        return model.fit(x, y, batch_size=4, shuffle=False, verbose=0)

    train(theirs)
    start = theirs.get_weights()
    continued = [from_keras(theirs), from_file(theirs, tmp_path)]
    save_keras(continued[0], tmp_path / "ours.keras")
    continued.append(keras.saving.load_model(tmp_path / "ours.keras"))
    train(theirs)
    for model in continued:
        train(model)
        for w, w0, wanted in zip(model.get_weights(), start, theirs.get_weights(), strict=True):
            assert error(w - w0, wanted - w0) < 1e-6


def test_our_compiled_model_goes_to_keras(tmp_path):
    """Optimizer, loss and metrics are Keras' own afterwards; "accuracy" still finds its form."""
    ours = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H), Dense(3, "softmax")], name="mine", seed=0)
    ours.compile(
        optimizers.Adam(0.125), "sparse_categorical_crossentropy", metrics=["acc", "sparse_categorical_accuracy"]
    )
    classes = np.array([0, 2, 1])
    ours.fit(IDS, classes, epochs=3, verbose=0)
    save_keras(ours, tmp_path / "ours.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        theirs = keras.saving.load_model(tmp_path / "ours.keras")
    assert theirs.name == "mine"
    assert isinstance(theirs.optimizer, keras.optimizers.Adam)
    assert same_bits(theirs.get_weights(), ours.get_weights())
    np.testing.assert_allclose(
        theirs.evaluate(IDS, classes, verbose=0), ours.evaluate(IDS, classes, verbose=0), rtol=1e-5, atol=1e-6
    )


SCHEDULES = {
    "ExponentialDecay": lambda k: k.ExponentialDecay(0.125, 2, 0.5, staircase=True),
    "CosineDecay": lambda k: k.CosineDecay(0.125, 8, alpha=0.25, warmup_target=0.5, warmup_steps=2),
    "PiecewiseConstantDecay": lambda k: k.PiecewiseConstantDecay([1, 3], [0.5, 0.25, 0.125]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_learning_rate_schedule_goes_along(name, float64, tmp_path):
    """With the number of steps done, on which it depends."""
    x, y = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6) % 2
    theirs = keras.Sequential([keras.Input((3,)), L.Dense(1)])
    theirs.compile(keras.optimizers.SGD(SCHEDULES[name](keras.optimizers.schedules), momentum=0.5), "mse")

    def train(model):
        return model.fit(x, y, batch_size=2, shuffle=False, verbose=0)

    train(theirs)
    ours = from_keras(theirs)
    save_keras(ours, tmp_path / "ours.keras")
    back = keras.saving.load_model(tmp_path / "ours.keras")
    copies = [ours, from_file(theirs, tmp_path), load_keras(tmp_path / "ours.keras"), back]
    before = theirs.get_weights()
    train(theirs)
    for model in copies:
        train(model)
        for w, wanted, w0 in zip(model.get_weights(), theirs.get_weights(), before, strict=True):
            assert error(w - w0, wanted - w0) < 1e-6


def test_metrics_go_along(tmp_path):
    ours = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H), Dense(1, "sigmoid")], seed=0)
    chosen = [
        metrics.Precision([0.25, 0.5]),
        metrics.Recall(name="found"),
        metrics.AUC(50, "PR"),
        "accuracy",
        "perplexity",
    ]
    ours.compile("adam", "binary_crossentropy", metrics=chosen)
    with pytest.warns(UserWarning, match="Keras does not have the metrics perplexity, which are left out"):
        save_keras(ours, tmp_path / "ours.keras")
    theirs = keras.saving.load_model(tmp_path / "ours.keras")
    theirs.evaluate(IDS, np.array([0, 1, 1]), verbose=0)
    back = from_keras(theirs)
    assert [(type(m).__name__, m.get_config()) for m in back.metrics[:-1]] == [
        (type(m).__name__, m.get_config()) for m in ours.metrics[:-2]
    ]
    assert isinstance(back.metrics[-1], metrics.Accuracy)
    assert [m.name for m in theirs.metrics[1].metrics] == ["precision", "found", "auc", "accuracy"]


def test_a_model_never_trained_or_compiled(tmp_path):
    ours = Sequential([Dropout(0.5, input_shape=(None, E)), LSTM(H), Dense(1), Activation("sigmoid")])
    x = np.random.default_rng(0).normal(size=(2, 3, E))
    for compiled in (False, True):
        if compiled:
            ours.compile("adam", "mse")
        save_keras(ours, tmp_path / "ours.keras")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            theirs = keras.saving.load_model(tmp_path / "ours.keras")
        assert theirs.compiled == compiled
        assert_same_answers(ours, theirs, x)
        twin = from_keras(theirs)
        assert twin._compiled == compiled
        assert twin.input_shape == (None, E)


def test_a_model_built_by_its_first_batch(tmp_path):
    model = keras.Sequential([L.LSTM(2), L.Dense(1)])
    with pytest.raises(ValueError, match="no weights yet"):
        from_keras(model)
    model(np.ones((2, 3, 4)))
    for ours in (from_keras(model), from_file(model, tmp_path)):
        assert ours.input_shape == (3, 4)
        assert same_bits(ours.get_weights(), model.get_weights())


class OwnCell(L.GRUCell):
    pass


REFUSED = {
    "Conv1D": (lambda: L.Conv1D(2, 3), "no counterpart of keras.layers.Conv1D"),
    "a cell of one's own": (lambda: L.RNN(OwnCell(2)), "the RNN 'it': scratchlstm has no counterpart of .*OwnCell"),
    "one among others": (lambda: L.RNN([L.GRUCell(2), OwnCell(2)]), "the StackedRNNCells '.*': .* of .*OwnCell"),
    "dtype of a cell": (
        lambda: L.RNN(L.GRUCell(2, dtype="float64")),
        "GRUCell 'gru_cell.*' has dtype='float64', but the layer that runs it has 'float32'",
    ),
    "a frozen cell": (
        lambda: L.RNN([L.GRUCell(2, trainable=False), L.LSTMCell(2)]),
        "GRUCell '.*' has trainable=False, but the layer that runs it has True",
    ),
    "in a cell": (lambda: L.RNN(L.GRUCell(2, activation="gelu")), "the RNN 'it': unknown activation 'gelu'"),
    "Lambda": (lambda: L.Lambda(lambda x: x), "no counterpart of keras.layers.Lambda"),
    "activity": (lambda: L.LSTM(2, activity_regularizer="l2"), "LSTM 'it' has activity_regularizer="),
    "dtype": (lambda: L.LSTM(2, dtype="mixed_float16"), "LSTM 'it': dtype must be one of float32, float64"),
    "activation": (lambda: L.LSTM(2, activation="gelu"), "LSTM 'it': unknown activation 'gelu'"),
    "a function": (lambda: L.LSTM(2, activation=lambda x: x), "LSTM 'it': activation must be a name"),
    "noise": (lambda: L.Dropout(0.5, noise_shape=(None, 1, E)), "Dropout 'it' has noise_shape="),
    "initializer": (lambda: L.Dense(2, kernel_initializer="he_normal"), "Dense 'it'.*keras.initializers.HeNormal"),
}


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("name", REFUSED)
def test_what_we_do_not_have_is_refused_by_name(name):
    make, match = REFUSED[name]
    layer = make()
    layer.name = "it"
    model = keras.Sequential([keras.Input((T, E)), layer])
    with pytest.raises(ValueError, match=match):
        from_keras(model)


def test_other_models_are_refused(tmp_path):
    class Mine(keras.Model):
        def call(self, x):
            return x

    for other in (Mine(), L.Dense(1), None):
        with pytest.raises(TypeError, match="takes a keras.Sequential or a functional keras.Model, not"):
            from_keras(other)
    keras.Sequential([keras.Input((T, E)), L.LSTM(2)]).save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="format of Keras 2"):
        load_keras(tmp_path / "m.h5")


def test_what_of_compiling_we_do_not_have_is_said():
    model = keras.Sequential([keras.Input((T, E)), L.LSTM(2)])
    model.compile("lion", keras.losses.Huber(), metrics=["accuracy", "kl_divergence"])
    with pytest.warns(UserWarning, match="keras.optimizers.Lion.*keras.losses.Huber.*'kl_divergence'.*not compiled"):
        assert not from_keras(model)._compiled
    model.compile("adam", "mse", metrics=["accuracy", "kl_divergence"])
    with pytest.warns(UserWarning, match="unknown metric 'kl_divergence'"):
        assert [metric.name for metric in from_keras(model).metrics] == ["accuracy"]


def test_one_layer():
    layer = LSTM(
        3, recurrent_activation="hard_sigmoid", kernel_initializer="ones", implementation="textbook", name="it"
    )
    twin = layer_to_keras(layer)
    assert (twin.name, twin.units, twin.recurrent_activation.__name__) == ("it", 3, "hard_sigmoid")
    assert type(twin.cell.kernel_initializer).__name__ == "Ones"


MISSING = {
    "peepholes": (
        lambda: PeepholeLSTMCell(2),
        "it runs a PeepholeLSTMCell, a .* not have: write the model with to_onnx",
    ),
    "no gate": (
        lambda: NoInputGateLSTMCell(2),
        r"it runs a NoInputGateLSTMCell, .*: take the arrays with get_weights\(\)",
    ),
    "one's own": (lambda: MyCell(2), r"it runs a MyCell, .*: take the arrays with get_weights\(\) instead"),
    "one of several": (lambda: [layers.GRUCell(2), MyCell(2)], "it runs a MyCell, a cell that Keras does not have"),
}


class MyCell(layers.GRUCell):
    pass


@pytest.mark.parametrize(("make", "match"), MISSING.values(), ids=MISSING)
def test_cells_that_keras_does_not_have_are_refused_by_name(make, match, tmp_path):
    layer = layers.RNN(make(), name="it", return_sequences=True)
    for of in (layer, layers.Bidirectional(layers.RNN(make(), name="it"))):
        with pytest.raises(ValueError, match=match if of is layer else "forward_it runs a "):
            layer_to_keras(of)
    model = Sequential([layer, Dense(1)])
    model.build((None, T, E))
    for write in (to_keras, lambda model: save_keras(model, tmp_path / "m.keras")):
        with pytest.raises(ValueError, match=match):
            write(model)


def test_a_layer_that_is_frozen_freezes_its_cell_in_keras_too():
    """There a cell is a layer, which would be trained within a model that is."""
    model = Sequential([layers.RNN([layers.GRUCell(2), layers.LSTMCell(2)], trainable=False, input_shape=(T, E))])
    model.add(Dense(1))
    assert [len(layer.trainable_weights) for layer in to_keras(model).layers] == [0, 2]
