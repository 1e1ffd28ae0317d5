"""What a loss sees of a model's end, and what a layer's arguments mean by position, in live Keras."""

import inspect
import warnings

import numpy as np
import pytest
from keras_side import keras

from scratchlstm import Input, Sequential, layers, losses
from scratchlstm._support import registry

CERTAIN = np.array([[40.0], [-40.0]], "float32")
ENDS = {
    "nothing": lambda side: [],
    "linear": lambda side: [side.Activation("linear")],
    "no dropout": lambda side: [side.Dropout(0.0)],
    "dropout": lambda side: [side.Dropout(0.5)],  # which evaluate does not see
    "both": lambda side: [side.Dropout(0.0), side.Activation("linear")],
    "relu": lambda side: [side.Activation("relu")],
    "another dtype": lambda side: [side.Dropout(0.0, dtype="float64")],
    "another shape": lambda side: [side.Flatten()],
}
LOSSES = {
    "BinaryCrossentropy": ("sigmoid", 1, [[0.0], [1.0]]),
    "CategoricalCrossentropy": ("softmax", 2, [[0.0, 1.0], [1.0, 0.0]]),
    "SparseCategoricalCrossentropy": ("softmax", 2, [1, 0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("end", ENDS)
def test_evaluate_and_fit(end, loss, from_logits):
    activation, units, y = LOSSES[loss]
    found = []
    for side, start, of_losses in (layers, Input, losses), (keras.layers, keras.Input, keras.losses):
        head = side.Dense(units, activation=activation)
        model = (Sequential if side is layers else keras.Sequential)([start((1,)), head, *ENDS[end](side)])
        model.compile("sgd", getattr(of_losses, loss)(from_logits=from_logits))
        model.set_weights([np.eye(1, units), np.zeros(units)])
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            values = [model.evaluate(CERTAIN, np.array(y), verbose=0)]
            if end != "dropout":  # which draws other masks
                values += model.fit(CERTAIN, np.array(y), verbose=0).history["loss"]
                values += [w.sum() for w in model.get_weights()]
        found.append((values, any("from_logits" in str(warning.message) for warning in warned)))
    (ours, we_warned), (theirs, they_warned) = found
    assert ours == pytest.approx(theirs, rel=1e-2)  # near 0 and 1 the clip is felt to the last bit of a float32
    assert we_warned == they_warned


@pytest.mark.slow
@pytest.mark.parametrize("end", ["nothing", "linear", "no dropout", "both", "relu"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_each_crossentropy_above_each_head(activation, loss, end):
    rng = np.random.default_rng(0)
    x, weights, y = rng.normal(size=(6, 4)), [rng.normal(size=(4, 3)), rng.normal(size=3)], np.arange(6) % 3
    y, found = y if loss.startswith("Sparse") else np.eye(3)[y], []
    for side, start in (layers, Input), (keras.layers, keras.Input):
        head = side.Dense(3, activation=activation)
        model = (Sequential if side is layers else keras.Sequential)([start((4,)), head, *ENDS[end](side)])
        model.compile("sgd", registry.snake_case(loss))
        model.set_weights(weights)
        values = [model.evaluate(x, y, verbose=0), model.train_on_batch(x, y)]
        found.append((np.ravel(values), (model.get_weights()[0] - weights[0]) / 0.01))  # and the gradient
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(layers.KNOWN))
def test_positions_of_a_call(name):
    if not hasattr(keras.layers, name):
        pytest.skip("Keras does not have it")
    theirs = tuple(inspect.signature(getattr(keras.layers, name).call).parameters)[2:]
    assert layers.KNOWN[name].call_order[: len(theirs)] == theirs
