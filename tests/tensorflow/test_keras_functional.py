"""Models whose ways part and meet again, against Keras' with the same weights."""

import numpy as np
import our_side
import pytest
from cases import error, word_ids
from keras_side import dense, floats, keras, tf

from scratchlstm import Input, Model, layers
from scratchlstm.interop.keras import to_keras

T, V, E, H = 7, 13, 5, 4


def two_ways(side, x, options):
    """One embedding read by a recurrent layer and averaged, its rows' gradients of both kinds."""
    recurrent = side.LSTM(H, **options)(x)
    return side.Concatenate(dtype="float64")([side.GlobalAveragePooling1D(**options)(x), recurrent])


def two_directions(side, x, options):
    """Bidirectional by hand: two LSTMs over the same rows, their sequences side by side."""
    ahead = side.LSTM(H, return_sequences=True, **options)(x)
    back = side.LSTM(3, return_sequences=True, go_backwards=True, **options)(x)
    return side.LSTM(2, **options)(side.Concatenate(**options)([ahead, back]))


def in_time(side, x, options):
    """Two sequences one after the other, and a layer that skips a way."""
    once = side.LSTM(E, return_sequences=True, **options)(x)
    both = side.Concatenate(axis=1, **options)([x, once, once])
    return side.LSTM(2, **options)(side.LayerNormalization(**options)(both))


def pairs(ours, theirs):
    """Our layers with parameters and their twins, told apart by kind and shapes: the order may differ."""

    def key(layer):
        return type(layer).__name__, *(w.shape for w in layer.get_weights())

    twins = {key(layer): layer for layer in theirs.layers}
    mine = [layer for layer in ours.layers if layer.params]
    assert len({key(layer) for layer in mine}) == len(mine)
    return [(layer, twins[key(layer)]) for layer in mine]


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("build", [two_ways, two_directions, in_time], ids=lambda build: build.__name__)
def test_outputs_and_gradients(build, mask_zero):
    options = {"dtype": "float64"}

    def model(side, start, model_of):
        words = start((T,))
        x = side.Embedding(V, E, mask_zero=mask_zero, **options)(words)
        return model_of(words, side.Dense(1, activation="sigmoid", **options)(build(side, x, options)))

    with floats("float64"):
        ours, theirs = model(layers, Input, Model), model(keras.layers, keras.Input, keras.Model)
        rng = np.random.default_rng(0)
        for layer, twin in pairs(ours, theirs):
            layer.set_weights([rng.normal(size=w.shape) * 0.6 for w in layer.get_weights()])
            twin.set_weights(layer.get_weights())
        x, y = word_ids(rng, V, (6, T)), rng.integers(0, 2, size=(6, 1)).astype(float)
        x[0, :3], x[1, 4:] = 0, 0
        with tf.GradientTape() as tape:
            prediction = theirs(x, training=True)
            loss = keras.losses.BinaryCrossentropy()(y, prediction)
        gradients = [dense(g) for g in tape.gradient(loss, theirs.trainable_variables)]
        ours.compile("sgd", "binary_crossentropy")
        assert error(ours.predict(x, verbose=0), prediction) < 1e-12
        found = dict(zip(ours.network.params, our_side.gradients(ours, x, y), strict=True))
        assert ours.train_on_batch(x, y) == pytest.approx(float(loss), rel=1e-12)
    places = {id(w): g for w, g in zip(theirs.trainable_variables, gradients, strict=True)}
    for layer, twin in pairs(ours, theirs):
        for name, variable in zip(layer.params, twin.trainable_variables, strict=True):
            assert error(found[f"{layer.name}/{name}"], places[id(variable)]) < 1e-9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", [two_directions, in_time], ids=lambda build: build.__name__)
def test_the_twin_answers_alike(build, dtype):
    words = Input((T,))
    x = layers.Embedding(V, E, mask_zero=True, dtype=dtype)(words)
    ours = Model(words, layers.Dense(2, dtype=dtype)(build(layers, x, {"dtype": dtype})), name="ways", seed=0)
    twin = to_keras(ours)
    ids = word_ids(np.random.default_rng(1), V, (4, T))
    ids[0, :3] = 0
    assert error(ours.predict(ids, verbose=0), twin(ids)) < (1e-6 if dtype == "float32" else 1e-12)
    assert twin.name == "ways"
    assert isinstance(twin, keras.Model)
    for layer in ours.layers:
        weights = twin.get_layer(layer.name).get_weights()
        assert all(np.array_equal(w, own) for w, own in zip(weights, layer.get_weights(), strict=True))
