"""Models with several outputs are trained as Keras trains them, from the same weights."""

import numpy as np
import pytest
from keras_side import keras

from scratchlstm import Input, Model, gradcheck, layers, optimizers

N, T, E = 11, 4, 3
BATCH = 4  # the last batch has three samples
RNG = np.random.default_rng(4)
# one sample is masked throughout; in the second batch others are shorter than in the first
X = RNG.normal(size=(N, T, E)) * (np.arange(T) < np.array([4, 4, 3, 0, 1, 2, 1, 2, 4, 4, 3])[:, None])[..., None]
TAGS, GOOD, MIDDLE = RNG.integers(0, 3, (N, T)), RNG.integers(0, 2, (N, 1)), RNG.integers(0, 2, (N, 2))
Y = {"tags": TAGS, "good": GOOD, "middle": MIDDLE}
WEIGHTS = {"tags": RNG.random((N, T)), "good": RNG.random(N), "middle": RNG.random(N)}
LOSSES = {"tags": "sparse_categorical_crossentropy", "good": "binary_crossentropy", "middle": "binary_crossentropy"}
SCALES = {"tags": 0.5, "good": 2.0, "middle": 0.75}

pytestmark = pytest.mark.usefixtures("float64")


def build(side, start, model_of, outputs, **model_options):
    """A masked sequence, and two sigmoids, one of which reads the other."""
    options = {"dtype": "float64"}
    series = start((T, E), name="series")
    states = side.LSTM(4, return_sequences=True, **options)(side.Masking(**options)(series))
    tags = side.Dense(3, activation="softmax", name="tags", **options)(states)
    middle = side.Dense(2, activation="sigmoid", name="middle", **options)(side.LSTM(3, **options)(states))
    good = side.Dense(1, activation="sigmoid", name="good", kernel_regularizer="l2", **options)(middle)
    return model_of(series, outputs(tags=tags, good=good, middle=middle), **model_options)


def pair(optimizer, outputs=lambda **ends: list(ends.values()), **compiled):
    """Ours and Keras' with the same weights, as large as a trained model's."""
    twins = build(layers, Input, Model, outputs, seed=0), build(keras.layers, keras.Input, keras.Model, outputs)
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=w.shape) * 0.6 for w in twins[0].get_weights()]
    for model, side in zip(twins, (optimizers, keras.optimizers), strict=True):
        model.set_weights(weights)
        model.compile(optimizer(side), **{"loss": LOSSES} | compiled)
    return twins


def assert_alike(ours, theirs, fitted, evaluated):
    """Three epochs, and what they come to."""
    options = {"epochs": 3, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    found, expected = (model.fit(**fitted, **options).history for model in (ours, theirs))
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, err_msg=name)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    lists = [model.evaluate(**evaluated, batch_size=BATCH, verbose=0) for model in (ours, theirs)]
    np.testing.assert_allclose(*lists, rtol=1e-9)


def sgd(side):
    return side.SGD(0.2, momentum=0.5)


def adam(side):
    return side.Adam(0.01, beta_1=0.5, beta_2=0.75)  # which float32 holds exactly


def test_fit_and_evaluate():
    compiled = {"loss_weights": SCALES, "metrics": {"tags": "accuracy", "good": ["accuracy", "AUC"]}}
    fitted = {"x": X, "y": list(Y.values()), "sample_weight": list(WEIGHTS.values())}
    validation = {"validation_data": (X[:6], [y[:6] for y in Y.values()])}
    assert_alike(*pair(adam, **compiled), fitted | validation, {"x": X, "y": Y})


def test_outputs_in_a_dict():
    twins = pair(sgd, outputs=dict, loss_weights=SCALES, metrics={"good": ["accuracy"]})
    assert_alike(*twins, {"x": {"series": X}, "y": Y, "sample_weight": WEIGHTS}, {"x": X, "y": Y})
    found, expected = (model.predict(X, verbose=0) for model in twins)
    assert list(found) == list(expected)
    for name, y in expected.items():
        np.testing.assert_allclose(found[name], y, rtol=1e-7, err_msg=name)


def test_an_output_without_a_loss():
    compiled = {"loss": {**LOSSES, "good": None}, "loss_weights": [1.0, 2.0, -0.5], "metrics": {"good": "acc"}}
    assert_alike(*pair(sgd, **compiled), {"x": X, "y": Y}, {"x": X, "y": Y})


def test_gradcheck():
    model = build(layers, Input, Model, lambda **ends: list(ends.values()), seed=0)
    model.compile("sgd", LOSSES, SCALES)
    report = gradcheck.check_model(model, X[:4], {name: y[:4] for name, y in Y.items()}, tensorflow=True)
    assert report.ok, report
