"""Merging layers and attention in models, against Keras' with the same weights: masks, outputs, gradients.

Each layer by itself is compared in `test_keras_gradcheck.py`.
"""

import numpy as np
import pytest
from cases import error, word_ids
from keras_side import dense, floats, keras, tf

from scratchlstm import Input, Model, layers
from scratchlstm.interop.keras import from_keras, to_keras

F64 = {"dtype": "float64"}
RNG = np.random.default_rng(0)
X, OTHER = RNG.normal(size=(2, 2, 4, 3))
FIRST = np.array([[True, True, False, False], [True, False, True, True]])
SECOND = np.array([[False, True, False, True], [True, False, False, True]])


@pytest.mark.parametrize("masks", [(FIRST, SECOND), (FIRST, None), (None, SECOND), (None, None)])
@pytest.mark.parametrize("make", ["Add", "Multiply", "Attention", "Dot"])
def test_the_mask_that_goes_on(make, masks):
    ours, theirs = (getattr(side, make)(*[1] * (make == "Dot"), **F64) for side in (layers, keras.layers))
    inputs = [tf.constant(x) for x in (X, OTHER)]
    for x, mask in zip(inputs, masks, strict=True):
        x._keras_mask = None if mask is None else tf.constant(mask)
    y = theirs(inputs)
    expected = getattr(y, "_keras_mask", None)
    found = ours.output_mask([X, OTHER], list(masks))
    assert (found is None) == (expected is None)
    if expected is not None:
        np.testing.assert_array_equal(found, expected)
    call = {"mask": list(masks)} if ours.takes_mask else {}
    np.testing.assert_allclose(ours([X, OTHER], **call), y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", [lambda side: side.Reshape((3, 4)), lambda side: side.RepeatVector(2)])
def test_the_mask_that_ends(make):
    assert not make(keras.layers).supports_masking
    assert not make(layers).gives_mask(True)


def test_the_one_difference_of_attention():
    """All values masked: the mean of the padding in Keras, 0 here."""
    mask = [None, np.array([[False] * 4, [True] * 4])]
    x, other = X.astype("float32"), OTHER.astype("float32")
    theirs = keras.layers.Attention()([x, other], mask=[None, tf.constant(mask[1])]).numpy()
    ours = layers.Attention()([x, other], mask=mask)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)
    np.testing.assert_allclose(theirs[0], np.broadcast_to(other[0].mean(axis=0), (4, 3)), rtol=1e-5)
    assert not ours[0].any()


def encoder_decoder(side, start, model_of):
    """Two texts: each step of the second attends to the first."""
    source, target = start((6,)), start((4,))
    steps = side.LSTM(4, return_sequences=True, name="encoder", **F64)(
        side.Embedding(9, 3, mask_zero=True, name="source", **F64)(source)
    )
    asked = side.LSTM(4, return_sequences=True, name="decoder", **F64)(
        side.Embedding(7, 2, mask_zero=True, name="target", **F64)(target)
    )
    found = side.Attention(use_scale=True, name="attention", **F64)([asked, steps])
    both = side.Multiply(**F64)([side.Add(**F64)([found, asked]), asked])
    last = side.Dense(5, activation="softmax", name="dense", **F64)(side.Concatenate(**F64)([both, found]))
    return model_of([source, target], last)


def test_outputs_and_gradients_of_an_encoder_and_a_decoder():
    with floats("float64"):
        ours, theirs = encoder_decoder(layers, Input, Model), encoder_decoder(keras.layers, keras.Input, keras.Model)
        for layer in ours.layers:
            twin = theirs.get_layer(layer.name) if layer.params else None
            if twin is not None:
                layer.set_weights([RNG.normal(size=w.shape) for w in layer.get_weights()])
                twin.set_weights(layer.get_weights())
        x = [word_ids(RNG, 9, (8, 6)), word_ids(RNG, 7, (8, 4))]
        for ids in x:
            ids[:, 0], ids[::2, -2:] = 1, 0
        labels = RNG.integers(0, 5, size=(8, 4))
        ours.compile("sgd", "sparse_categorical_crossentropy")
        loss_of = keras.losses.SparseCategoricalCrossentropy(dtype="float64")
        with tf.GradientTape() as tape:
            y = theirs(x)
            loss = loss_of(labels, y)
        np.testing.assert_allclose(ours.predict(x, verbose=0), y, rtol=1e-9, atol=1e-12)
        y_pred, cache = ours.network.forward(x)
        own, dy, from_logits = ours.loss_with_gradient(labels, y_pred, cache.kept)
        assert own == pytest.approx(float(loss), rel=1e-9)
        grads = ours.gradients_by_name(dy, cache, from_logits)
        variables = {
            f"{layer.name}/{name}": variable
            for layer in ours.layers
            if layer.params
            for name, variable in zip(layer.params, theirs.get_layer(layer.name).trainable_variables, strict=True)
        }
        assert variables.keys() == grads.keys()
        for name, gradient in tape.gradient(loss, variables).items():
            expected = dense(gradient).numpy()
            found = grads[name].dense() if hasattr(grads[name], "dense") else grads[name]
            assert error(found, expected) < 1e-9, name


def test_a_stack_with_a_repeated_vector_goes_both_ways():
    row = [keras.Input((4, 3)), *(f(keras.layers) for f in STACK)]
    theirs = keras.Sequential(row)
    ours = from_keras(theirs)
    x = X.astype("float32")
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs(x), rtol=0, atol=1e-6)
    np.testing.assert_allclose(to_keras(ours)(x), theirs(x), rtol=0, atol=1e-6)


STACK = [
    lambda side: side.LSTM(4),
    lambda side: side.RepeatVector(3),
    lambda side: side.LSTM(4, return_sequences=True),
    lambda side: side.Reshape((2, -1)),
    lambda side: side.Dense(2),
]
