"""The tutorial's model, trained here and in Keras from the same weights on the same batches."""

import keras_side
import numpy as np
import our_side
import pytest
from cases import EXACT, assert_agree, error, training_case, tutorial_weights, word_ids
from implementations import IMPLEMENTATIONS
from keras_side import keras

import scratchlstm
from scratchlstm import Model, Sequential, layers, optimizers
from scratchlstm.interop.keras import to_keras
from scratchlstm.layers import LSTM, Dense, Embedding

V, E, H, T = 13, 5, 4, 7


@pytest.mark.parametrize("optimizer", EXACT)
def test_ten_steps(optimizer):
    """Each loss, every gradient, and how far ten steps move every parameter."""
    case = training_case(optimizer, EXACT[optimizer])
    theirs = keras_side.train(case)
    for implementation in IMPLEMENTATIONS:
        assert_agree(our_side.train(case, implementation), theirs, 1e-9)


def of_kind(answers, kind):
    return {name: answer for name, answer in answers.items() if name.startswith(kind)}


@pytest.mark.slow
def test_ten_steps_of_the_true_shape():
    """In float32, as the tutorial trains; Adam enlarges the rounding of small gradients."""
    case = training_case("Adam", {}, B=128, T=100, V=20000, E=128, H=60, dtype="float32")
    ours, theirs = our_side.train(case), keras_side.train(case)
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-5)
    assert_agree(of_kind(ours, "gradient"), of_kind(theirs, "gradient"), 1e-5)
    assert_agree(of_kind(ours, "moved"), of_kind(theirs, "moved"), 1e-4)


# --- fit, evaluate and predict ----------------------------------------------------------------------------------------

RNG = np.random.default_rng(21)
N, BATCH = 23, 9  # the last batch has five samples
X, X_VAL = word_ids(RNG, V, (N, T)), word_ids(RNG, V, (11, T))
CLASSES, CLASSES_VAL = RNG.integers(0, 3, size=N), RNG.integers(0, 3, size=11)
WEIGHTS, WEIGHTS_VAL = RNG.uniform(0, 3, size=N), RNG.uniform(0, 3, size=11)
# loss: (its last layer's units and activation, targets from class numbers)
MODELS = {
    "binary_crossentropy": (1, "sigmoid", lambda classes: classes % 2),
    "mse": (1, "sigmoid", lambda classes: (classes % 2)[:, None]),
    "sparse_categorical_crossentropy": (3, "softmax", lambda classes: classes),
    "categorical_crossentropy": (3, "softmax", lambda classes: np.eye(3)[classes]),
}
CLASS_WEIGHT = {0: 0.5, 1: 2.0}
FITS = {
    "nothing else": {},
    "validation data": {"validation_data": ["x", "y"]},
    "weighted validation data": {"validation_data": ["x", "y", "weight"]},
    "validation split": {"validation_split": 0.3},
    "class weight": {"class_weight": CLASS_WEIGHT, "validation_data": ["x", "y"]},
    "class weight and split": {"class_weight": CLASS_WEIGHT, "validation_split": 0.2},
    "sample weight": {"sample_weight": WEIGHTS, "validation_data": ["x", "y"]},
    "sample weight and split": {"sample_weight": WEIGHTS, "validation_split": 0.2},
}


def two_models(loss, start_seed=5):
    """Ours and Keras', compiled with SGD, where repeated ids make no difference; and their first weights."""
    outputs, activation, _ = MODELS[loss]
    start = tutorial_weights(start_seed, V, E, H, outputs)
    ours, theirs = (side.tutorial_model(start, T, activation) for side in (our_side, keras_side))
    ours.compile(optimizers.SGD(0.5), loss, metrics=["accuracy"])
    theirs.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"])
    return ours, theirs, start


def assert_same_fit(loss, **arguments):
    ours, theirs, start = two_models(loss)
    y, y_val = (MODELS[loss][2](classes) for classes in (CLASSES, CLASSES_VAL))
    if "validation_data" in arguments:
        parts = {"x": X_VAL, "y": y_val, "weight": WEIGHTS_VAL}
        arguments["validation_data"] = tuple(parts[part] for part in arguments["validation_data"])
    histories = [
        model.fit(X, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, **arguments) for model in (ours, theirs)
    ]
    our_history, their_history = (history.history for history in histories)
    assert list(our_history) == list(their_history)
    assert histories[0].epoch == histories[1].epoch
    assert all(type(value) is float for values in our_history.values() for value in values)
    assert_agree(our_history, their_history, 1e-9)
    for w, their_w, w0 in zip(ours.get_weights(), theirs.get_weights(), start, strict=True):
        assert error(w - w0, their_w - w0) < 1e-9


@pytest.mark.parametrize("name", FITS)
def test_fit(name, float64):
    assert_same_fit("binary_crossentropy", **FITS[name])


@pytest.mark.parametrize("loss", MODELS)
def test_fit_with_each_loss(loss, float64):
    assert_same_fit(loss, class_weight=CLASS_WEIGHT, validation_data=["x", "y"])


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", MODELS)
def test_evaluate_and_predict(loss, weighted, float64):
    ours, theirs, _ = two_models(loss)
    y = MODELS[loss][2](CLASSES)
    arguments = {"batch_size": BATCH, "verbose": 0, "sample_weight": WEIGHTS if weighted else None}
    loss_and_accuracy = theirs.evaluate(X, y, **arguments)
    assert error(ours.evaluate(X, y, **arguments), loss_and_accuracy) < 1e-9
    assert list(ours.evaluate(X, y, return_dict=True, **arguments).items()) == [
        ("accuracy", pytest.approx(loss_and_accuracy[1])),
        ("loss", pytest.approx(loss_and_accuracy[0])),
    ]
    assert error(ours.predict(X, BATCH, verbose=0), theirs.predict(X, BATCH, verbose=0)) < 1e-9


def test_labels_and_weights_for_every_step(float64):
    """A prediction at each time step, with one label a step and one weight a sample (in Keras a column)."""
    start = tutorial_weights(6, V, E, H)
    layers = [Embedding(V, E, input_shape=(T,), dtype="float64"), LSTM(H, return_sequences=True, dtype="float64")]
    ours = Sequential([*layers, Dense(1, "sigmoid", dtype="float64")])
    twin_layers = keras.layers.Embedding(V, E), keras.layers.LSTM(H, return_sequences=True)
    theirs = keras.Sequential([keras.Input((T,)), *twin_layers, keras.layers.Dense(1, "sigmoid")])
    labels, moved = RNG.integers(0, 2, size=(N, T, 1)), []
    ours.compile(optimizers.SGD(0.5), "binary_crossentropy", metrics=["accuracy"])
    theirs.compile(keras.optimizers.SGD(0.5), "binary_crossentropy", metrics=["accuracy"])
    histories = []
    for model, weight in ((ours, WEIGHTS), (theirs, WEIGHTS[:, None])):
        model.set_weights(start)
        fitted = model.fit(X, labels, BATCH, epochs=2, shuffle=False, verbose=0, sample_weight=weight)
        histories.append(fitted.history)
        moved.append([w - w0 for w, w0 in zip(model.get_weights(), start, strict=True)])
    assert list(histories[0]) == list(histories[1])
    assert_agree(*histories, 1e-9)
    assert all(error(a, b) < 1e-9 for a, b in zip(*moved, strict=True))


@pytest.mark.parametrize("logit", [40.0, -40.0])
def test_saturated_logit(logit, float64):
    """A sigmoid that rounds to 1 or 0 still gives its true loss, 40, and a gradient, in training and in `evaluate`."""
    weights, y = [np.array([[logit]]), np.zeros(1)], np.array([float(logit < 0)])
    ours = Sequential([Dense(1, "sigmoid", input_shape=(1,), dtype="float64")])
    theirs = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid")])
    ours.compile(optimizers.SGD(0.5), "binary_crossentropy")
    theirs.compile(keras.optimizers.SGD(0.5), "binary_crossentropy")
    for model in (ours, theirs):
        model.set_weights(weights)
        assert model.evaluate(np.ones((1, 1)), y, verbose=0) == pytest.approx(40)
        assert model.fit(np.ones((1, 1)), y, verbose=0).history["loss"] == pytest.approx([40])
        assert model.get_weights()[1] == pytest.approx([-0.5 * np.sign(logit)])


# --- the summary ------------------------------------------------------------------------------------------------------


def test_summary_text(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")  # Keras fits its table to the terminal
    start = tutorial_weights(0, 20000, 128, 60, dtype="float32")
    printed = []
    keras_side.tutorial_model(start, 100).summary(print_fn=printed.append)
    our_side.tutorial_model(start, 100).summary()
    assert "2,605,421" in printed[0]
    assert capsys.readouterr().out.splitlines() == printed[0].splitlines()


def test_summary_of_layers_with_cells(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def model(package, kind):
        of = package.layers
        two = [of.GRUCell(4), of.SimpleRNNCell(2, use_bias=False)]
        rnns = [
            of.RNN(of.LSTMCell(4), return_sequences=True, name="one"),
            of.RNN(two, return_sequences=True, name="two"),
        ]
        grus = [
            of.Bidirectional(of.GRU(6, return_sequences=True), name="both"),
            of.GRU(7, reset_after=False, name="gru"),
        ]
        return kind([package.Input((5, 3)), *rnns, *grus], name="cells")

    printed = []
    model(keras, keras.Sequential).summary(print_fn=printed.append)
    model(scratchlstm, Sequential).summary()
    assert "128" in printed[0]
    assert capsys.readouterr().out.splitlines() == printed[0].splitlines()


def test_summary_of_a_graph(monkeypatch, capsys):
    """Keras' rows of layers, which come after those of the inputs."""
    monkeypatch.setenv("COLUMNS", "80")
    x, y = layers.Input((None, 3), name="input_layer"), layers.Input((5, 3), name="input_layer_1")
    large = {"units": 600, "recurrent_initializer": "zeros"}  # an orthogonal one would take seconds
    read, *states = layers.LSTM(**large, return_sequences=True, return_state=True, name="reads")(x)
    written = layers.LSTM(**large, name="a_name_of_many_letters")(y, initial_state=states)
    model = Model([x, y], layers.Concatenate(name="both")([layers.GlobalAveragePooling1D(name="mean")(read), written]))
    model.summary()
    theirs = []
    to_keras(model).summary(print_fn=theirs.append)

    def rows(text):
        rule = next(line for line in text.splitlines() if line.startswith("├"))
        head, *middle, last = text.split(f"{rule}\n")
        return [head.splitlines()[2], *(row for row in middle if "Input" not in row), last]

    assert len(rows(theirs[0])) == 5
    assert rows(capsys.readouterr().out) == rows(theirs[0])


SOFT = {
    "smoothed": (1, [0.05, 0.95, 0.5, 0.51]),
    "a column": (1, [[0.49], [1.0], [0.0], [0.95]]),
    "rows": (2, [[0.9, 0.1], [0.45, 0.55], [0.0, 1.0], [0.6, 0.4]]),
}


@pytest.mark.parametrize(("columns", "y"), SOFT.values(), ids=SOFT)
@pytest.mark.parametrize("weights", [{"class_weight": {0: 2.0, 1: 5.0}}, {"sample_weight": np.array([1.0, -2, 3, -4])}])
def test_weights_of_soft_labels_and_negative_weights(columns, y, weights):
    x, y, start = np.ones((4, 1), "float32"), np.array(y, "float32"), [np.zeros((1, columns)), np.zeros(columns)]
    ours = Sequential([Dense(columns, "sigmoid", input_shape=(1,))])
    theirs = keras.Sequential([keras.Input((1,)), keras.layers.Dense(columns, "sigmoid")])
    losses = []
    for model in ours, theirs:
        model.set_weights(start)
        model.compile("sgd", "binary_crossentropy")
        losses.append(model.fit(x, y, epochs=2, shuffle=False, verbose=0, **weights).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("name", ["MeanSquaredError", "BinaryCrossentropy"])
def test_weights_of_losses_called_as_objects(name, shape):
    from scratchlstm import losses

    y, p = RNG.integers(0, 2, size=(4, 1)).astype("float32"), RNG.random((4, 1)).astype("float32")
    weights = RNG.random(shape).astype("float32")
    ours, theirs = (getattr(of, name)()(y, p, sample_weight=weights) for of in (losses, keras.losses))
    assert ours == pytest.approx(float(theirs), rel=1e-5)


def test_tensors_as_data():
    """An EagerTensor is an array; a data set, a generator's kind of data, and a `PyDataset` are refused."""
    import tensorflow as tf

    x, y, weight = RNG.random((4, 2)).astype("float32"), np.array([0, 1, 0, 1.0]), RNG.random(4).astype("float32")
    results = []
    for of in np.asarray, tf.constant:
        model = Sequential([Dense(1, "sigmoid", input_shape=(2,))], seed=0)
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
        history = model.fit(of(x), of(y), sample_weight=of(weight), validation_data=(of(x), of(y)), verbose=0).history
        results.append((history, model.train_on_batch(of(x), of(y)), model.evaluate(of(x), of(y), verbose=0)))
        results[-1] += (model.predict(of(x), verbose=0).tolist(),)
    assert results[0] == results[1]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise AssertionError("it was read")

    for source in Batches(), tf.data.Dataset.from_tensor_slices((x, y)).batch(2):
        with pytest.raises(TypeError, match=r"x must be an array or a list of rows, not a .*np\.concatenate"):
            model.fit(source, verbose=0)
