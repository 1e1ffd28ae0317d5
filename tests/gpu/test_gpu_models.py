"""The same model on a GPU: training, files, checkpoints, traces and checks are those of the CPU."""

import subprocess
import sys

import numpy as np
import pytest

import scratchlstm
from scratchlstm import Model, Sequential, backend, callbacks, gradcheck, inspection, optimizers, regularizers
from scratchlstm.backend import host
from scratchlstm.layers import (
    LSTM,
    Attention,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    Input,
    LayerNormalization,
)
from scratchlstm.layers.passes import Pass

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.* runs the textbook implementation on the GPU"),
]
V, T = 30, 8
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, V, size=(50, T)), RNG.integers(0, 2, size=50)
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
DIFFERENT = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipvalue=0.001),
    "rmsprop": lambda: optimizers.RMSprop(clipnorm=0.01),
    "adam": lambda: optimizers.Adam(0.01, global_clipnorm=0.02),
    "averaged": lambda: optimizers.Adam(0.01, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3),
}


class Own(optimizers.SGD):
    def update(self, w, rows, g, learning_rate):
        w[rows] -= learning_rate * g


def tutorial(name, optimizer="adam", dtype="float64", dropout=0.2, **more):
    model = Sequential(seed=1, backend=name)
    model.add(Embedding(V, 4, input_shape=(T,), dtype=dtype, **more))
    model.add(LSTM(3, dtype=dtype))
    model.add(Dropout(dropout, dtype=dtype))
    model.add(Dense(1, "sigmoid", dtype=dtype))
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


def branches(name, dtype="float64"):
    words = Input((T,))
    x = Embedding(V, 4, mask_zero=True, embeddings_regularizer=regularizers.L1L2(0.01, 0.01), dtype=dtype)(words)
    both = Bidirectional(LSTM(3, return_sequences=True, recurrent_dropout=0.1, dtype=dtype))(x)
    last = LSTM(2, go_backwards=True, kernel_constraint="unit_norm", dtype=dtype)(x)
    y = Concatenate(dtype=dtype)([GlobalAveragePooling1D(dtype=dtype)(both), last])
    y = LayerNormalization(dtype=dtype)(y)
    model = Model(words, Dense(3, "softmax", dtype=dtype)(y), seed=2, backend=name)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def translator(name):
    read, write = Input((None,)), Input((None,))
    embedded = Embedding(V, 4, mask_zero=True, dtype="float64")(read)
    hs, h, c = LSTM(3, return_sequences=True, return_state=True, dtype="float64")(embedded)
    decoder = LSTM(3, return_sequences=True, dropout=0.1, dtype="float64")
    written = decoder(Embedding(V, 4, dtype="float64")(write), initial_state=[h, c])
    context = Attention(use_scale=True, dropout=0.1, dtype="float64")([written, hs])
    both = Concatenate(dtype="float64")([written, context])
    model = Model([read, write], Dense(5, "softmax", dtype="float64")(both), seed=5, backend=name)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def compare_models(ours, theirs, tolerance):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(a)


def compare_histories(ours, theirs, tolerance):
    assert list(ours.history) == list(theirs.history)
    for name, values in ours.history.items():
        assert all(type(value) is float for value in theirs.history[name])
        np.testing.assert_allclose(theirs.history[name], values, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", DIFFERENT.values(), ids=DIFFERENT)
def test_the_tutorials_model_trains_alike(device, optimizer, dtype):
    ours, theirs = (tutorial(name, optimizer(), dtype) for name in ("numpy", "cupy"))
    options = {"epochs": 2, "batch_size": 12, "verbose": 0, "validation_split": 0.2, "class_weight": {0: 0.5, 1: 2.0}}
    compare_histories(ours.fit(X, Y, **options), theirs.fit(X, Y, **options), TOLERANCE[dtype])
    compare_models(ours, theirs, TOLERANCE[dtype])
    assert all(backend.is_cupy(param) for param in theirs.params)
    np.testing.assert_allclose(theirs.predict(X, verbose=0), ours.predict(X, verbose=0), atol=TOLERANCE[dtype])
    np.testing.assert_allclose(theirs.evaluate(X, Y, verbose=0), ours.evaluate(X, Y, verbose=0), rtol=TOLERANCE[dtype])


def test_a_model_with_branches_trains_alike(device):
    ours, theirs = branches("numpy"), branches("cupy")
    labels = RNG.integers(0, 3, size=len(X))
    options = {"epochs": 2, "batch_size": 12, "verbose": 0, "sample_weight": np.linspace(0.5, 1.5, len(X))}
    compare_histories(ours.fit(X, labels, **options), theirs.fit(X, labels, **options), 1e-9)
    compare_models(ours, theirs, 1e-9)


def test_an_encoder_and_a_decoder_with_attention_train_alike(device):
    ours, theirs = translator("numpy"), translator("cupy")
    padded, before = X * (np.arange(T) >= np.arange(50)[:, None] % 5), RNG.integers(0, V, size=(50, 3))
    labels, options = RNG.integers(0, 5, size=(50, 3)), {"epochs": 2, "batch_size": 12, "verbose": 0}
    histories = [model.fit([padded, before], labels, **options) for model in (ours, theirs)]
    compare_histories(*histories, 1e-9)
    compare_models(ours, theirs, 1e-9)


@pytest.mark.parametrize("optimizer", DIFFERENT.values(), ids=DIFFERENT)
def test_frozen_layers_and_a_change_of_them(device, optimizer):
    ours, theirs = (tutorial(name, optimizer(), dropout=0.0) for name in ("numpy", "cupy"))
    start = ours.get_weights()
    for frozen in ((0, 1), (1,), ()):
        for model in ours, theirs:
            for number, layer in enumerate(model.layers):
                layer.trainable = number not in frozen
        histories = [model.fit(X, Y, epochs=1, batch_size=12, verbose=0) for model in (ours, theirs)]
        compare_histories(*histories, 1e-9)
        compare_models(ours, theirs, 1e-9)
        for slots, on_gpu in zip(ours.optimizer.state, theirs.optimizer.state, strict=True):
            assert all(np.allclose(slots[name], host(on_gpu[name]), rtol=1e-9, atol=1e-15) for name in slots)
        moved = [not np.array_equal(*pair) for pair in zip(start, theirs.get_weights(), strict=True)]
        assert moved == [0 not in frozen, *[1 not in frozen] * 3, True, True]


def test_the_users_own_optimizer_leaves_frozen_parameters_alone(device):
    model = tutorial("cupy", Own(0.1))
    model.layers[0].trainable = False
    start = model.get_weights()
    model.fit(X, Y, batch_size=12, verbose=0)
    moved = [not np.array_equal(*pair) for pair in zip(start, model.get_weights(), strict=True)]
    assert moved == [False] + [True] * 5


def test_training_is_the_same_from_run_to_run(device):
    first, second = (tutorial("cupy", dtype="float32") for _ in range(2))
    for model in first, second:
        model.fit(X, Y, epochs=2, batch_size=12, verbose=0)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_at_every_step_behind_a_mask(device):
    models = []
    for name in "numpy", "cupy":
        model = Sequential(seed=3, backend=name)
        model.add(Embedding(V, 4, mask_zero=True, input_shape=(T,), dtype="float64"))
        model.add(LSTM(3, return_sequences=True, dtype="float64"))
        model.add(Dense(4, "softmax", dtype="float64"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        models.append(model)
    tags, padded = RNG.integers(0, 4, size=X.shape), X * (np.arange(T) >= np.arange(50)[:, None] % 5)
    histories = [model.fit(padded, tags, epochs=2, batch_size=10, verbose=0) for model in models]
    compare_histories(*histories, 1e-9)
    compare_models(*models, 1e-9)


@pytest.mark.parametrize("metric", ["AUC", "Precision", "Recall", "F1Score", "accuracy", "mae", "rmse", "r2"])
def test_every_metric(device, metric):
    found = []
    for name in "numpy", "cupy":
        model = tutorial(name)
        model.compile("adam", "binary_crossentropy", metrics=[metric])
        found.append(np.hstack(model.evaluate(X, Y, verbose=0)))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_floats_as_input_of_either_kind(device):
    x = RNG.normal(size=(20, T, 5)).astype("float32")
    found = []
    for name, data in ("numpy", x), ("cupy", x), ("cupy", device.asarray(x)), ("numpy", device.asarray(x)):
        model = Sequential([LSTM(3, input_shape=(T, 5)), Dense(1)], seed=4, backend=name)
        model.compile("adam", "mse")
        history = model.fit(data, Y[:20], epochs=2, batch_size=8, verbose=0)
        prediction = model.predict(data, verbose=0)
        assert type(prediction) is np.ndarray
        found.append((history.history["loss"], prediction))
    for losses, prediction in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=1e-5)
        np.testing.assert_allclose(prediction, found[0][1], atol=1e-5)


# --- the switch -------------------------------------------------------------------------------------------------------


def test_there_and_back_in_the_middle_of_a_training(device):
    straight, moved = tutorial("numpy"), tutorial("numpy")
    for name in "cupy", "numpy", "cupy":
        straight.fit(X, Y, epochs=1, batch_size=12, verbose=0)
        assert moved.to(name) is moved
        assert moved.backend == name
        moved.fit(X, Y, epochs=1, batch_size=12, verbose=0)
        assert all(backend.of(array) == name for slots in moved.optimizer.state for array in slots.values())
    compare_models(straight, moved, 1e-9)


def test_the_environment_variable(device, monkeypatch):
    monkeypatch.setenv(backend.VARIABLE, "cupy")
    assert tutorial(None).backend == "cupy"
    assert tutorial("numpy").backend == "numpy"
    monkeypatch.setenv(backend.VARIABLE, "gpu")
    with pytest.raises(ValueError, match=f"{backend.VARIABLE} must be one of 'numpy', 'cupy', 'auto', not 'gpu'"):
        Sequential()


def test_auto_takes_a_gpu_that_works(device):
    assert Sequential(backend="auto").backend == "cupy"


def test_layers_built_before_they_joined(device):
    embedding, dense = Embedding(V, 4), Dense(1, "sigmoid")
    embedding(X)
    model = Sequential([embedding, LSTM(3), dense], seed=1, backend="cupy")
    model.build((None, T))
    assert all(backend.is_cupy(param) for param in model.params)


def test_weights_of_either_kind(device):
    model, other = tutorial("cupy"), tutorial("numpy")
    weights = [w + 1 for w in model.get_weights()]
    assert all(type(w) is np.ndarray for w in weights)
    for given in weights, [device.asarray(w) for w in weights]:
        for each in model, other:
            each.set_weights(given)
            for a, b in zip(each.get_weights(), weights, strict=True):
                np.testing.assert_array_equal(a, b)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_the_same_whichever_backend_wrote_them(device, tmp_path):
    model = tutorial("numpy")
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "numpy.npz")
    model.to("cupy").save(tmp_path / "cupy.npz")
    assert (tmp_path / "numpy.npz").read_bytes() == (tmp_path / "cupy.npz").read_bytes()


def test_a_loaded_model_is_where_the_environment_says(device, tmp_path, monkeypatch):
    model = tutorial("cupy")
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "model.npz")
    assert Sequential.load(tmp_path / "model.npz").backend == "numpy"
    monkeypatch.setenv(backend.VARIABLE, "cupy")
    loaded = Sequential.load(tmp_path / "model.npz")
    assert loaded.backend == "cupy"
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_a_run_is_resumed_bit_for_bit(device, tmp_path, save_freq):
    class Stop(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2 and not resumed:
                raise RuntimeError("stopped")

    def checkpoint():
        return callbacks.Checkpoint(tmp_path / "run.npz", save_freq=save_freq)

    options = {"epochs": 3, "batch_size": 12, "verbose": 0}
    straight, resumed = tutorial("cupy"), None
    expected = straight.fit(X, Y, **options)
    with pytest.raises(RuntimeError, match="stopped"):
        tutorial("cupy").fit(X, Y, callbacks=[checkpoint(), Stop()], **options)
    resumed = tutorial("cupy")
    history = resumed.fit(X, Y, callbacks=[checkpoint(), Stop()], resume=tmp_path / "run.npz", **options)
    assert history.history == expected.history
    compare_models(straight, resumed, 0)


def test_a_run_goes_on_on_the_other_backend(device, tmp_path):
    options = {"batch_size": 12, "verbose": 0, "callbacks": [callbacks.Checkpoint(tmp_path / "run.npz")]}
    expected = tutorial("numpy").fit(X, Y, epochs=4, batch_size=12, verbose=0)
    for epochs, name in enumerate(["cupy", "numpy", "cupy", "numpy"], start=1):
        history = tutorial(name).fit(X, Y, epochs=epochs, resume=tmp_path / "run.npz", **options)
    compare_histories(expected, history, 1e-9)


def test_weights_go_to_keras_files_from_a_gpu(device, tmp_path):
    from scratchlstm.interop import keras

    model = tutorial("cupy")
    model.fit(X, Y, verbose=0)
    keras.save_keras_weights(model, tmp_path / "b.weights.h5")
    other = tutorial("cupy")
    keras.load_keras_weights(other, tmp_path / "b.weights.h5")
    compare_models(model, other, 0)


# --- looking in -------------------------------------------------------------------------------------------------------


def test_a_trace_is_that_of_the_cpu(device):
    model = branches("numpy")
    model.to("cupy").fit(X, Y, verbose=0)
    model.to("numpy")
    expected = inspection.trace(model, X[:4], Y[:4])
    before = model.to("cupy").get_weights()
    model.forward(X[:8])  # what it leaves is not in the way
    found = inspection.trace(model, device.asarray(X[:4]), Y[:4])
    assert model.backend == "cupy"
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(found.layers) == list(expected.layers)
    for name, layer in expected.layers.items():
        assert layer.as_dict().keys() == found[name].as_dict().keys()
        for key, array in layer.as_dict().items():
            np.testing.assert_allclose(found[name].as_dict()[key], array, rtol=1e-9, atol=1e-12, err_msg=key)


def test_a_trace_of_numbers_that_are_on_the_gpu(device):
    x = RNG.normal(size=(3, T, 2)).astype("float32")
    model = Sequential([LSTM(3, input_shape=(T, 2))], seed=4, backend="cupy")
    found = inspection.trace(model, device.asarray(x))
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.lstm.c, inspection.trace(model.to("numpy"), x).lstm.c)


def test_gradients_are_checked_on_the_gpu(device):
    x = RNG.normal(size=(3, 5, 4))
    layer = LSTM(3, return_sequences=True, return_state=True, dtype="float64")
    layer.to("cupy")
    assert gradcheck.check_layer(layer, x, mask=RNG.random((3, 5)) < 0.7).ok
    model = Sequential(seed=1, backend="cupy")
    model.add(Embedding(5, 2, mask_zero=True, input_shape=(3,), dtype="float64"))
    model.add(LSTM(2, dtype="float64"))
    model.add(Dropout(0.2, dtype="float64"))
    model.add(Dense(1, "sigmoid", dtype="float64"))
    model.compile("adam", "binary_crossentropy")
    report = gradcheck.check_model(model, X[:4, :3] % 5, Y[:4], training=True)
    assert report.ok, report


def test_a_wrong_gradient_on_the_gpu_is_seen(device, monkeypatch):
    layer = Dense(3, dtype="float64")
    layer.to("cupy")
    right = Dense.backward

    def wrong(self, *arguments):
        dx, grads = right(self, *arguments)
        return 1.01 * dx, grads

    monkeypatch.setattr(Dense, "backward", wrong)
    assert not gradcheck.check_layer(layer, RNG.normal(size=(3, 4))).ok


def test_a_trained_model_is_copied_and_let_go(standin):
    import copy
    import gc

    import cupy_standin

    def on_gpu():
        gc.collect()
        return sum(isinstance(thing, cupy_standin.ndarray) for thing in gc.get_objects())

    before = on_gpu()
    model = branches("cupy")
    model.fit(X, Y, verbose=0)
    twin = copy.deepcopy(model)
    compare_models(model, twin, 0)
    del twin
    assert on_gpu() > before
    here = model.on_cpu()
    compare_models(model, here, 0)
    del here
    model.to("numpy")
    assert on_gpu() == before


class Signs(optimizers.SGD):
    """Equations of a user's own."""

    def update(self, w, rows, g, learning_rate):
        w[rows] -= learning_rate * np.sign(g)


def test_an_optimizer_of_your_own(device):
    models = [tutorial(name, Signs(0.01), dropout=0.0) for name in ("numpy", "cupy")]
    histories = [model.fit(X, Y, epochs=2, batch_size=12, verbose=0) for model in models]
    compare_histories(*histories, 1e-9)
    compare_models(*models, 1e-9)
    weights = models[1].get_weights()
    models[1].layers[-1].params["bias"][...] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 1, batch 1"):
        models[1].fit(X, Y, verbose=0)
    np.testing.assert_array_equal(models[1].get_weights()[0], weights[0])


def test_a_step_by_hand(device):
    model = tutorial("cupy", optimizers.SGD(0.1), dropout=0.0)
    before = model.get_weights()
    y, cache = model.forward(X)
    _, gradient, from_logits = model.loss_with_gradient(Y, y, cache.kept)
    model.optimizer.apply(model.params, model.gradients(gradient, cache, from_logits))
    assert not np.array_equal(model.get_weights()[0], before[0])


def test_no_checkpoint_of_a_broken_step(device, tmp_path):
    x, y = RNG.normal(size=(50, T, 2)), 1e15 * RNG.normal(size=50)
    for name in "numpy", "cupy":
        path = tmp_path / f"{name}.npz"
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
            diverging(name).fit(
                x, y, epochs=4, batch_size=12, verbose=0, callbacks=[callbacks.Checkpoint(path, save_freq=1)]
            )
    found = [np.load(tmp_path / f"{name}.npz") for name in ("numpy", "cupy")]
    assert found[0].files == found[1].files
    for name in found[0].files:
        if found[0][name].dtype.kind == "f":
            np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-3)


@pytest.mark.parametrize("optimizer", [Own, optimizers.Adam])
@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_in_the_place_of_weights(device, optimizer, swap_on_epoch):
    options = {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 7}
    ours, theirs = (tutorial(name, optimizer(0.1, **options)) for name in ("numpy", "cupy"))
    histories = [
        model.fit(
            X, Y, epochs=3, batch_size=12, verbose=0, validation_split=0.2,
            callbacks=[callbacks.SwapEMAWeights(swap_on_epoch)],
        )
        for model in (ours, theirs)
    ]  # fmt: skip
    compare_histories(*histories, 1e-9)
    compare_models(ours, theirs, 1e-9)


def test_callbacks(device, tmp_path):
    model = tutorial("cupy")
    stopping = callbacks.EarlyStopping("val_loss", patience=0, restore_best_weights=True, min_delta=10)
    seen = []
    watch = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    best = callbacks.ModelCheckpoint(str(tmp_path / "best.npz"), save_best_only=True)
    history = model.fit(
        X, Y, epochs=5, batch_size=12, verbose=0, validation_split=0.2, callbacks=[stopping, watch, best]
    )
    assert len(history.epoch) == 2
    assert len(seen) == 2 * 4
    assert all(type(loss) is float for loss in seen)
    assert (tmp_path / "best.npz").exists()


# --- what is waited for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metrics", [["accuracy"], []])
def test_nothing_in_a_step_waits_for_the_gpu(standin, metrics):
    counts = []
    for batch_size in 25, 5:  # 2 steps and 10
        model = tutorial("cupy", dtype="float32", dropout=0.0)
        model.compile("adam", "binary_crossentropy", metrics=metrics)
        model.build((None, T))
        before = standin.COUNTS["synchronisations"]
        model.fit(X, Y, epochs=3, batch_size=batch_size, verbose=2, shuffle=True)
        counts.append(standin.COUNTS["synchronisations"] - before)
    assert counts[0] == counts[1]
    assert counts[0] <= 3 * 3  # of an epoch: the losses, the metric, and whether all were numbers


def test_launches_of_a_step(standin):
    """As docs/gpu.md counts them."""
    counts = []
    for batch_size in 5, 10:
        model = tutorial("cupy", dtype="float32", dropout=0.0)
        model.build((None, T))
        standin.COUNTS.clear()
        model.fit(X, Y, batch_size=batch_size, verbose=0)
        counts.append(standin.COUNTS.copy())
    steps = 10 - 5
    assert (counts[0]["launches"] - counts[1]["launches"]) / steps == 33
    assert (counts[0]["uploads"] - counts[1]["uploads"]) / steps == 1


@pytest.mark.parametrize("save_freq", ["epoch", 4])
def test_a_callback_that_wants_no_batches_waits_for_none(standin, tmp_path, save_freq):
    counts = []
    for batch_size in 25, 5:  # 2 steps and 10
        model = tutorial("cupy", dtype="float32", dropout=0.0)
        model.build((None, T))
        before = standin.COUNTS["synchronisations"]
        each = callbacks.ModelCheckpoint(tmp_path / "model", save_freq=save_freq)
        model.fit(X, Y, batch_size=batch_size, verbose=0, callbacks=[each, callbacks.EarlyStopping("loss")])
        counts.append(standin.COUNTS["synchronisations"] - before)
    assert (counts[0] == counts[1]) == (save_freq == "epoch")


def test_functions_are_called_after_each_batch(device):
    losses = []
    model = tutorial("cupy")
    each = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append((batch, logs["loss"])))
    model.fit(X, Y, batch_size=25, verbose=0, callbacks=[each])
    assert [batch for batch, _ in losses] == [0, 1]
    assert losses[-1][1] == pytest.approx(model.history.history["loss"][0])


class Counting(callbacks.ModelCheckpoint):
    """A checkpoint that also counts batches."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.count += 1


def test_a_subclass_of_a_callback_that_wants_no_batches_may_want_them(device, tmp_path):
    each = Counting(tmp_path / "model")
    tutorial("cupy").fit(X, Y, batch_size=25, verbose=0, callbacks=[each])
    assert each.count == 2


def test_evaluate_takes_data_there_once(standin):
    x = RNG.normal(size=(40, T, 5)).astype("float32")
    model = Sequential([LSTM(3, input_shape=(T, 5)), Dense(1)], seed=4, backend="cupy")
    model.compile("adam", "mse", metrics=[])
    before = standin.COUNTS["uploads"]
    model.evaluate(x, Y[:40], verbose=0)
    assert standin.COUNTS["uploads"] - before == 2  # x and y


def test_data_goes_there_once(standin):
    x = RNG.normal(size=(40, T, 5)).astype("float32")
    counts = []
    for epochs in 1, 4:
        model = Sequential([LSTM(3, input_shape=(T, 5)), Dense(1)], seed=4, backend="cupy")
        model.compile("adam", "mse", metrics=[])
        before = standin.COUNTS["uploads"]
        model.fit(x, Y[:40], epochs=epochs, batch_size=8, verbose=0)
        counts.append(standin.COUNTS["uploads"] - before)
    assert counts[1] - counts[0] == 3  # the order of the samples, in each further epoch


# --- bad input --------------------------------------------------------------------------------------------------------


def diverging(name):
    model = Sequential([LSTM(3, input_shape=(T, 2)), Dense(1)], seed=4, backend=name)
    model.compile(optimizers.SGD(1e9), "mse")
    return model


def test_a_loss_that_is_no_number(device):
    x, y = RNG.normal(size=(50, T, 2)), 1e15 * RNG.normal(size=50)
    models, messages = [diverging(name) for name in ("numpy", "cupy")], []
    for model in models:
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="became") as caught:
            model.fit(x, y, epochs=4, batch_size=12, verbose=0, shuffle=False)
        messages.append(str(caught.value).rpartition("(")[2])
    assert messages[0] == messages[1]  # the epoch and the batch
    assert models[0].optimizer.iterations == models[1].optimizer.iterations > 0
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(b, a, rtol=1e-4)


def test_terminate_on_nan(device):
    x, y = RNG.normal(size=(50, T, 2)), 1e15 * RNG.normal(size=50)
    model = diverging("cupy")
    history = model.fit(x, y, epochs=4, batch_size=12, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert np.isnan(history.history["loss"][-1])
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("bad", [-1, V])
def test_ids_out_of_range_are_refused_and_not_wrapped(device, bad):
    model, x = tutorial("cupy"), X.copy()
    x[3, 2] = bad
    for given in x, device.asarray(x):
        for call in model.predict, model.forward, lambda g: model.fit(g, Y, verbose=0):
            with pytest.raises(ValueError, match=f"rows for ids 0 to {V - 1}, but the input holds the id {bad}"):
                call(given)


def test_arrays_of_both_kinds(device):
    layer = LSTM(3, dtype="float64")
    layer.to("cupy")
    x = RNG.normal(size=(2, 4, 5))
    y, cache = layer.forward(x)
    with pytest.raises(
        TypeError, match="on the backend 'cupy', but dL/dy is an array of 'numpy'; move it with cupy.asarray"
    ):
        layer.backward(np.ones(y.shape), cache)
    for dy in np.ones(y.shape), np.ones(y.shape, "float32"):
        dx, _ = layer.backward(device.asarray(dy), cache)
        assert backend.is_cupy(dx)
        assert dx.dtype == "float64"
    for other in Dropout(0.5), GlobalAveragePooling1D(), LayerNormalization():
        other.to("cupy")
        y, cache = other.forward(x, Pass(training=True))
        with pytest.raises(TypeError, match="dL/dy is an array of 'numpy'"):
            other.backward(np.ones(y.shape, "float32"), cache)
    from scratchlstm import gates

    W, U, b = layer.kernels()
    with pytest.raises(TypeError, match="NumPy and CuPy arrays are mixed: x NumPy, h0 CuPy"):
        gates.lstm_forward(x, *[device.asarray(np.zeros((2, 3)))] * 2, W, U, b)


def test_processes_are_for_the_cpu(device):
    model = tutorial("cupy")
    with pytest.raises(ValueError, match="workers=2 share a batch between processes on the CPU"):
        model.fit(X, Y, workers=2, verbose=0)
    model.fit(X, Y, workers="auto", verbose=0)


@pytest.mark.parametrize("call", ["fit", "predict", "evaluate", "train_on_batch", "to"])
def test_too_little_memory_says_what_to_lower(standin, monkeypatch, call):
    import cupy_standin

    model = tutorial("numpy" if call == "to" else "cupy")
    before = model.get_weights()

    def full(*args, **kwargs):
        raise cupy_standin.OutOfMemoryError("Out of memory allocating 2,048 bytes (allocated so far: 1,024 bytes).")

    monkeypatch.setattr(standin, "asarray", full)
    calls = {
        "fit": lambda: model.fit(X, Y, batch_size=16, verbose=0),
        "predict": lambda: model.predict(X, batch_size=16, verbose=0),
        "evaluate": lambda: model.evaluate(X, Y, batch_size=16, verbose=0),
        "train_on_batch": lambda: model.train_on_batch(X, Y),
        "to": lambda: model.to("cupy"),
    }
    parts = "all samples are moved there before the first batch: pass them in several parts"
    wanted = {
        "fit": parts,
        "evaluate": parts,
        "predict": r"lower batch_size \(now 16\)",
        "train_on_batch": "smaller than 50",
        "to": "the model takes",
    }[call]
    with pytest.raises(MemoryError, match=f"the GPU's memory is too small: Out of memory allocating 2,048.*{wanted}"):
        calls[call]()
    monkeypatch.undo()
    if call == "to":
        assert model.backend == "numpy"
        for a, b in zip(model.params, before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_too_little_memory_in_a_batch(standin, monkeypatch, call):
    """There a smaller batch_size does help."""
    import cupy_standin

    def full(*args, **kwargs):
        raise cupy_standin.OutOfMemoryError("Out of memory allocating 2,048 bytes.")

    model = tutorial("cupy")
    monkeypatch.setattr(model, "judge", full)
    with pytest.raises(MemoryError, match=r"lower batch_size \(now 16\)"):
        getattr(model, call)(X, Y, batch_size=16, verbose=0)


# --- without a GPU ----------------------------------------------------------------------------------------------------


class Broken:
    """A CuPy that imports, and fails at the first use, as it does without a driver."""

    __version__ = "14.2.0"

    def __init__(self, error):
        self.error = error

    def ones(self, *_, **__):
        raise RuntimeError(self.error)


def use(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "cupy", module)
    backend._probe.cache_clear()


@pytest.fixture
def forgetful():
    yield
    backend._probe.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_no_cupy(monkeypatch):
    use(monkeypatch, None)
    for wanted in "is not installed|cannot be imported", "pip install", 'use backend="numpy"':
        with pytest.raises(ImportError, match=wanted):
            Sequential(backend="cupy")
    model = tutorial("numpy")
    with pytest.raises(ImportError):
        model.to("cupy")
    assert model.backend == "numpy"


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
            "install NVIDIA's",
        ),
        ("cudaErrorNoDevice: no CUDA-capable device is detected", "there is no NVIDIA GPU"),
        (
            "nvrtc: error: invalid value for --gpu-architecture",
            "must be built for the CUDA version that nvidia-smi shows",
        ),
    ],
)
def test_a_cupy_that_finds_no_gpu(monkeypatch, error, advice):
    use(monkeypatch, Broken(error))
    with pytest.raises(RuntimeError, match=f"CuPy 14.2.0 is installed, but cannot use a GPU here .*{advice}"):
        Sequential(backend="cupy")
    with pytest.warns(UserWarning, match="uses NumPy: CuPy 14.2.0 is installed, but") as caught:
        assert Sequential(backend="auto").backend == "numpy"
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


def test_nothing_of_this_imports_cupy():
    code = "import sys, scratchlstm; scratchlstm.Sequential(); assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_host_of_anything():
    assert host([1, 2]).tolist() == [1, 2]
    assert scratchlstm.Sequential().backend == "numpy"
