"""A siamese network, one embedding and one LSTM for two inputs, against Keras' with the same weights."""

import functools

import numpy as np
import pytest
from cases import EXACT, error, word_ids
from implementations import IMPLEMENTATIONS
from keras_side import dense, keras, tf

from scratchlstm import Input, Model, gradcheck, layers, optimizers
from scratchlstm.callbacks import Checkpoint
from scratchlstm.interop.keras import to_keras

V, E, H, T, N = 13, 5, 4, 7, 23
BATCH = 9  # the last batch has five samples
THREE_EPOCHS = {"batch_size": BATCH, "epochs": 3, "shuffle": False, "verbose": 0}
RNG = np.random.default_rng(3)
X = [word_ids(RNG, V, (N, T)), word_ids(RNG, V, (N, T - 2))]
X[0][0, :3], X[0][1, 4:], X[1][2, :2], X[1][3] = 0, 0, 0, 1
Y = RNG.integers(0, 2, size=(N, 1)).astype(float)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("float64"),
]


class SummedRows(keras.Model):
    """Trained on gradients in which the rows of repeated ids are summed, without which Keras' Adam differs."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(list(map(dense, gradients)), self.trainable_variables)
        return {"loss": loss}


def build(side, start, model_of, mask_zero, lengths=(None, None), implementation=None, **model_options):
    options = {"dtype": "float64"}
    ends = [start((length,)) for length in lengths]
    embedding = side.Embedding(V, E, mask_zero=mask_zero, **options)
    chosen = {} if implementation is None else {"implementation": implementation}
    shared = side.LSTM(H, **chosen, **options)
    both = side.Concatenate(**options)([shared(embedding(end)) for end in ends])
    return model_of(ends, side.Dense(1, activation="sigmoid", **options)(both), **model_options)


def ours(mask_zero, implementation="fused", **options):
    """Ours, with weights as large as a trained model's, biases too."""
    model = build(layers, Input, Model, mask_zero, implementation=implementation, seed=0, **options)
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    return model


def theirs(weights, mask_zero, kind=SummedRows):
    model = build(keras.layers, keras.Input, kind, mask_zero)
    model.set_weights(weights)
    return model


@pytest.fixture(params=[False, True], ids=["every step", "masked"])
def mask_zero(request):
    return request.param


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_predictions_loss_and_gradients(implementation, mask_zero):
    model = ours(mask_zero, implementation)
    model.compile("sgd", "binary_crossentropy")
    twin = theirs(model.get_weights(), mask_zero)
    with tf.GradientTape() as tape:
        prediction = twin(X, training=True)
        loss = keras.losses.BinaryCrossentropy()(Y, prediction)
    expected = tape.gradient(loss, twin.trainable_variables)
    assert error(model.predict(X, verbose=0), prediction) < 1e-12
    assert error(model.predict(X, batch_size=BATCH, verbose=0), prediction) < 1e-12
    y, cache = model.forward(X)
    found_loss, dy, from_logits = model.loss_with_gradient(Y, y, cache.kept)
    assert float(found_loss) == pytest.approx(float(loss), rel=1e-12)
    gradients = model.gradients(dy, cache, from_logits)
    assert len(gradients) == len(expected) == 6
    for gradient, of_keras in zip(gradients, expected, strict=True):
        assert error(np.asarray(gradient), dense(of_keras)) < 1e-9
    from_sigmoid = {name: np.asarray(g) for name, g in model.backward((y - Y) / (y * (1 - y)) / N, cache)[1].items()}
    for name, of_keras in zip(model.network.params, expected, strict=True):
        assert error(from_sigmoid[name], dense(of_keras)) < 1e-9


@functools.cache
def three_epochs_of_keras(optimizer, mask_zero):
    """Its weights, losses and what it evaluates to; ours are compared with them whatever computes ours."""
    twin = theirs(ours(mask_zero).get_weights(), mask_zero)
    twin.compile(getattr(keras.optimizers, optimizer)(**EXACT[optimizer]), "binary_crossentropy")
    history = twin.fit(X, Y, **THREE_EPOCHS)
    return twin.get_weights(), history.history["loss"], twin.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("optimizer", "implementation", "workers"),
    [("SGD", "fused", 1), ("SGD", "textbook", 2), ("Adam", "textbook", 1), ("Adam", "fused", 2)],
)
def test_three_epochs(optimizer, implementation, workers, mask_zero):
    model = ours(mask_zero, implementation)
    start = model.get_weights()
    model.compile(getattr(optimizers, optimizer)(**EXACT[optimizer]), "binary_crossentropy")
    history = model.fit(X, Y, workers=workers, **THREE_EPOCHS)
    their_weights, their_losses, their_loss = three_epochs_of_keras(optimizer, mask_zero)
    for w, their_w, w0 in zip(model.get_weights(), their_weights, start, strict=True):
        assert np.any(w != w0)
        assert error(w - w0, their_w - w0) < 1e-9
    assert error(model.evaluate(X, Y, verbose=0), their_loss) < 1e-9
    assert len(history.history["loss"]) == len(their_losses) == 3


def test_save_and_load(tmp_path, mask_zero):
    model = ours(mask_zero)
    model.compile("adam", "binary_crossentropy")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.npz")
    loaded = Model.load(tmp_path / "m.npz")
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for each in (model, loaded):
        each.fit(X, Y, shuffle=False, verbose=0)
    assert all(map(np.array_equal, model.get_weights(), loaded.get_weights()))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_checkpoint_resumes_bit_for_bit(tmp_path, mask_zero, workers):
    def run(epochs, **resume):
        model = ours(mask_zero)
        model.compile("adam", "binary_crossentropy")
        callbacks = [Checkpoint(tmp_path / "run")] if resume else []
        model.fit(X, Y, batch_size=BATCH, epochs=epochs, callbacks=callbacks, workers=workers, verbose=0, **resume)
        return model

    whole = run(3)
    run(1, resume=tmp_path / "run")
    resumed = run(3, resume=tmp_path / "run")
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))
    assert whole.history.history["loss"] == resumed.history.history["loss"]


@pytest.mark.parametrize("length", [None, T])
def test_the_twin_that_to_keras_makes(mask_zero, length):
    model = ours(mask_zero, lengths=(length, length), name="siamese")
    twin = to_keras(model)
    x = [X[0], X[0][::-1]] if length else X
    assert error(model.predict(x, verbose=0), twin(x)) < 1e-12
    assert twin.name == "siamese"
    assert [tuple(end.shape) for end in twin.inputs] == [(None, length)] * 2
    assert [end.dtype for end in twin.inputs] == ["int32", "int32"]
    assert [layer.name for layer in twin.layers if layer.weights] == ["embedding", "lstm", "dense"]
    assert len(twin.get_layer("lstm")._inbound_nodes) == 2
    assert all(map(np.array_equal, twin.get_weights(), model.get_weights()))


@pytest.mark.parametrize("training", [False, True])
def test_gradcheck_compares_it_with_tensorflow(mask_zero, training):
    model = ours(mask_zero)
    model.compile("sgd", "binary_crossentropy")
    report = gradcheck.check_model(model, [x[:4] for x in X], Y[:4], training=training, tensorflow=True)
    assert report.ok, report
    assert all(row.tensorflow < 1e-9 for row in report.rows)


def test_dropout_of_a_shared_layer_cannot_be_compared():
    ends = [Input((T, E)), Input((T, E))]
    shared = layers.LSTM(H, dropout=0.5, dtype="float64")
    model = Model(ends, layers.Concatenate(dtype="float64")([shared(end) for end in ends]))
    model.compile("sgd", "mse")
    x, y = RNG.normal(size=(2, 3, T, E)), np.ones((3, 2 * H))
    assert gradcheck.check_model(model, [*x], y, tensorflow=True).ok
    assert gradcheck.check_model(model, [*x], y, training=True).ok
    with pytest.raises(
        ValueError, match="the dropout of lstm, a layer used several times, cannot be reproduced in Keras"
    ):
        gradcheck.check_model(model, [*x], y, training=True, tensorflow=True)


def test_the_lengths_at_two_places_may_differ():
    model = ours(False, lengths=(T, T - 2))
    assert error(model.predict(X, verbose=0), to_keras(model)(X)) < 1e-12


def test_a_layer_twice_in_a_row():
    """One input, but no stack."""
    start = Input((T, E))
    shared = layers.LSTM(E, return_sequences=True, dtype="float64")
    model = Model(start, layers.Dense(2, dtype="float64")(shared(shared(start))), seed=1)
    twin = to_keras(model)
    x = RNG.normal(size=(3, T, E))
    assert not model.is_stack
    assert error(model.predict(x, verbose=0), twin(x)) < 1e-12
    assert len(twin.get_weights()) == len(model.get_weights()) == 5
