"""Traces against TensorFlow's automatic differentiation of an LSTM written out step by step."""

import keras_side  # noqa: F401 - skips where TensorFlow is missing
import numpy as np
import pytest
from cases import error
from keras_side import tf

from scratchlstm import Sequential
from scratchlstm.inspection import gradient_norm_over_time, trace
from scratchlstm.layers import LSTM, Dense, Embedding, SimpleRNN

IDS = np.array([[0, 0, 3, 1, 4, 5], [1, 5, 0, 2, 2, 0], [2, 2, 3, 2, 1, 4]])
LABELS = np.array([0.0, 1.0, 1.0])


def lstm_loop(x, mask, weights, backwards):
    """Each step's tensors by time, and the outputs in the order of computation: 0 before the first step that counts."""
    W, U, b = (tf.constant(weight) for weight in weights)
    h = c = tf.zeros((len(IDS), len(weights[1])), tf.float64)
    steps, outputs, begun = {}, [], False
    for t in range(IDS.shape[1])[:: -1 if backwards else 1]:
        counts = tf.constant(mask[:, t, None])
        x_t = tf.identity(x[t])
        z_i, z_f, z_g, z_o = tf.split(x_t @ W + h @ U + b, 4, axis=1)
        i, f, g, o = tf.sigmoid(z_i), tf.sigmoid(z_f), tf.tanh(z_g), tf.sigmoid(z_o)
        c = tf.where(counts, f * c + i * g, c)
        h = tf.where(counts, o * tf.tanh(c), h)
        named = {"z_i": z_i, "z_f": z_f, "z_g": z_g, "z_o": z_o, "i": i, "f": f, "g": g, "o": o, "c": c, "h": h}
        steps[t] = named | {"input": x_t}
        begun = begun | mask[:, t, None]  # not in place: TensorFlow may hold the very memory
        outputs.append(tf.where(begun, h, 0))
    return [steps[t] for t in range(IDS.shape[1])], outputs


def layer_model(*recurrent, mask_zero=True):
    model = Sequential([Embedding(6, 3, mask_zero=mask_zero, input_shape=(6,), dtype="float64"), *recurrent])
    model.add(Dense(1, "sigmoid", dtype="float64"))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.params])
    model.compile("adam", "binary_crossentropy")
    return model


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mask_zero", [False, True])
def test_every_value_and_gradient_of_two_layers(implementation, backwards, mask_zero):
    options = {"implementation": implementation, "dtype": "float64"}
    lower = LSTM(4, return_sequences=True, go_backwards=backwards, **options)
    model = layer_model(lower, LSTM(2, **options), mask_zero=mask_zero)
    embeddings, *weights = model.get_weights()
    mask = IDS != 0 if mask_zero else np.ones(IDS.shape, bool)
    with tf.GradientTape() as tape:
        x = tf.unstack(tf.gather(tf.Variable(embeddings), IDS), axis=1)
        below, h_below = lstm_loop(x, mask, weights[:3], backwards)
        above, h_above = lstm_loop(h_below, mask, weights[3:6], False)
        logits = h_above[-1] @ weights[6] + weights[7]
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(LABELS[:, None], logits))
    gradients = tape.gradient(loss, [below, above], unconnected_gradients=tf.UnconnectedGradients.ZERO)
    found = trace(model, IDS, LABELS)
    assert found.loss == pytest.approx(float(loss), rel=1e-12)
    for layer, steps, slopes in zip(found.layers.values(), (below, above), gradients, strict=True):
        for name in steps[0]:
            values = np.stack([step[name] for step in steps], axis=1)
            assert error(getattr(layer, name), values) < 1e-12, name
        for name in ("z_i", "z_f", "z_g", "z_o", "c", "h", "input"):
            expected = np.stack([slope[name] for slope in slopes], axis=1)
            of_ours = "d_input" if name == "input" else f"d{name}"
            assert error(getattr(layer, of_ours), expected) < 1e-12, of_ours
            assert np.any(expected)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mask_zero", [False, True])
def test_gradient_norms_of_a_plain_recurrent_network(backwards, mask_zero):
    model = layer_model(SimpleRNN(4, go_backwards=backwards, dtype="float64"), mask_zero=mask_zero)
    embeddings, W, U, b, kernel, bias = model.get_weights()
    states, h = [None] * IDS.shape[1], tf.zeros((len(IDS), 4), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(h)
        for t in range(IDS.shape[1])[:: -1 if backwards else 1]:
            counts = (IDS[:, t, None] != 0) | (not mask_zero)
            states[t] = h = tf.where(counts, tf.tanh(embeddings[IDS[:, t]] @ W + h @ U + b), h)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(LABELS[:, None], h @ kernel + bias))
    expected = [np.mean(np.linalg.norm(g, axis=1)) for g in tape.gradient(loss, states)]
    assert error(gradient_norm_over_time(model, IDS, LABELS), expected) < 1e-12
