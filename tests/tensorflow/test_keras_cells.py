"""Every cell of the package, written again in TensorFlow from its equations: its autodiff against our backward.

A new cell has a line in STEPS: how it is made, and its step in TensorFlow, (x, states, parameters) -> the new states.
"""

import numpy as np
import pytest
from keras_side import tf

from scratchlstm import cells
from scratchlstm.cells.stacked import KNOWN
from scratchlstm.layers import RNN
from scratchlstm.layers.passes import Pass

B, T, E = 3, 4, 2
MASK = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]], bool)
sigma, tanh = tf.sigmoid, tf.tanh


def blocks(n, x, h, W, U, b):
    return tf.split(x @ W + h @ U + b, n, axis=1)


def simple_rnn(x, h, W, U, b):
    return [tanh(x @ W + h @ U + b)]


def gru(x, h, W, U, b):
    (z_u, z_r, z_n), (k_u, k_r, k_n) = tf.split(x @ W + b[0], 3, axis=1), tf.split(h @ U + b[1], 3, axis=1)
    u, r = sigma(z_u + k_u), sigma(z_r + k_r)
    return [u * h + (1 - u) * tanh(z_n + r * k_n)]


def gru_before(x, h, W, U, b):
    (W_u, W_r, W_n), (U_u, U_r, U_n), (b_u, b_r, b_n) = (tf.split(each, 3, axis=-1) for each in (W, U, b))
    u, r = sigma(x @ W_u + h @ U_u + b_u), sigma(x @ W_r + h @ U_r + b_r)
    return [u * h + (1 - u) * tanh(x @ W_n + (r * h) @ U_n + b_n)]


def lstm(x, h, c, W, U, b):
    z_i, z_f, z_g, z_o = blocks(4, x, h, W, U, b)
    c = sigma(z_f) * c + sigma(z_i) * tanh(z_g)
    return [sigma(z_o) * tanh(c), c]


def peephole(x, h, c, W, U, b, p):
    z_i, z_f, z_g, z_o = blocks(4, x, h, W, U, b)
    new = sigma(z_f + p[1] * c) * c + sigma(z_i + p[0] * c) * tanh(z_g)
    return [sigma(z_o + p[2] * new) * tanh(new), new]


def coupled(x, h, c, W, U, b):
    z_i, z_g, z_o = blocks(3, x, h, W, U, b)
    c = c + sigma(z_i) * (tanh(z_g) - c)
    return [sigma(z_o) * tanh(c), c]


def no_input_gate(x, h, c, W, U, b):
    z_f, z_g, z_o = blocks(3, x, h, W, U, b)
    c = sigma(z_f) * c + tanh(z_g)
    return [sigma(z_o) * tanh(c), c]


def no_forget_gate(x, h, c, W, U, b):
    z_i, z_g, z_o = blocks(3, x, h, W, U, b)
    c = c + sigma(z_i) * tanh(z_g)
    return [sigma(z_o) * tanh(c), c]


def no_output_gate(x, h, c, W, U, b):
    z_i, z_f, z_g = blocks(3, x, h, W, U, b)
    c = sigma(z_f) * c + sigma(z_i) * tanh(z_g)
    return [tanh(c), c]


def no_input_activation(x, h, c, W, U, b):
    z_i, z_f, z_g, z_o = blocks(4, x, h, W, U, b)
    c = sigma(z_f) * c + sigma(z_i) * z_g
    return [sigma(z_o) * tanh(c), c]


def no_output_activation(x, h, c, W, U, b):
    z_i, z_f, z_g, z_o = blocks(4, x, h, W, U, b)
    c = sigma(z_f) * c + sigma(z_i) * tanh(z_g)
    return [sigma(z_o) * c, c]


def full_gate(x, h, c, i, f, o, W, U, b, R):
    z_i, z_f, z_g, z_o = blocks(4, x, h, W, U, b)
    R = [tf.split(rows, 3, axis=1) for rows in tf.split(R, 3)]  # nine matrices, from each of i f o to each
    i, f, o = (sigma(z + i @ R[0][to] + f @ R[1][to] + o @ R[2][to]) for to, z in enumerate((z_i, z_f, z_o)))
    c = f * c + i * tanh(z_g)
    return [o * tanh(c), c, i, f, o]


def layer_norm(x, h, c, W, U, b, gain_x, gain_h, gain_c, bias_c):
    def normal(a):
        mean, variance = tf.nn.moments(a, axes=[1], keepdims=True)
        return (a - mean) / tf.sqrt(variance + 1e-3)

    z_i, z_f, z_g, z_o = tf.split(gain_x * normal(x @ W) + gain_h * normal(h @ U) + b, 4, axis=1)
    c = sigma(z_f) * c + sigma(z_i) * tanh(z_g)
    return [sigma(z_o) * tanh(gain_c * normal(c) + bias_c), c]


def projected(x, h, c, W, U, b, R):
    z_i, z_f, z_g, z_o = blocks(4, x, h, W, U, b)
    c = sigma(z_f) * c + sigma(z_i) * tanh(z_g)
    return [(sigma(z_o) * tanh(c)) @ R, c]


def minimal_gated(x, h, W, U, b):
    (W_f, W_n), (U_f, U_n), (b_f, b_n) = (tf.split(each, 2, axis=-1) for each in (W, U, b))
    f = sigma(x @ W_f + h @ U_f + b_f)
    return [(1 - f) * h + f * tanh(x @ W_n + (f * h) @ U_n + b_n)]


def min_gru(x, h, W, b):
    z, candidate = tf.split(x @ W + b, 2, axis=1)
    return [(1 - sigma(z)) * h + sigma(z) * candidate]


def min_lstm(x, h, W, b):
    z_i, z_f, candidate = tf.split(x @ W + b, 3, axis=1)
    i, f = sigma(z_i), sigma(z_f)
    return [f / (f + i) * h + i / (f + i) * candidate]


STEPS = {
    "SimpleRNNCell(3)": simple_rnn,
    "GRUCell(3)": gru,
    "GRUCell(3, reset_after=False)": gru_before,
    "LSTMCell(3)": lstm,
    "PeepholeLSTMCell(3)": peephole,
    "CoupledLSTMCell(3)": coupled,
    "NoInputGateLSTMCell(3)": no_input_gate,
    "NoForgetGateLSTMCell(3)": no_forget_gate,
    "NoOutputGateLSTMCell(3)": no_output_gate,
    "NoInputActivationLSTMCell(3)": no_input_activation,
    "NoOutputActivationLSTMCell(3)": no_output_activation,
    "FullGateLSTMCell(3)": full_gate,
    "LayerNormLSTMCell(3)": layer_norm,
    "ProjectedLSTMCell(4, 3)": projected,
    "MGUCell(3)": minimal_gated,
    "MinGRUCell(3)": min_gru,
    "MinLSTMCell(3)": min_lstm,
}


def test_every_cell_has_its_step_here():
    assert {made.split("(")[0] for made in STEPS} == set(KNOWN) - {"StackedRNNCells"}


@pytest.mark.parametrize("mask", [None, MASK], ids=["", "mask"])
@pytest.mark.parametrize("made", STEPS)
def test_outputs_and_gradients_are_those_of_tensorflow(made, mask):
    rng = np.random.default_rng(0)
    layer = RNN(eval(made, vars(cells)), return_sequences=True, return_state=True, dtype="float64")
    layer.build((T, E), rng)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    x = rng.normal(size=(B, T, E))
    states = [rng.normal(size=(B, size)) for size in layer.state_sizes.values()]

    given = [tf.constant(each) for each in (x, *states, *layer.params.values())]
    with tf.GradientTape() as tape:
        tape.watch(given)
        now, hs = given[1 : 1 + len(states)], []
        for t in range(T):
            new = STEPS[made](given[0][:, t], *now, *given[1 + len(states) :])
            now = new if mask is None else [tf.where(mask[:, t, None], *pair) for pair in zip(new, now, strict=True)]
            hs.append(now[0])
        theirs = [tf.stack(hs, axis=1), *now]
        weights = [rng.normal(size=each.shape) for each in theirs]  # a gradient at every step and on every final state
        loss = sum(tf.reduce_sum(r * each) for r, each in zip(weights, theirs, strict=True))
    expected = tape.gradient(loss, given)

    ours, cache = layer.forward((x, *states), Pass(), mask)
    into, grads = layer.backward(tuple(weights), cache)
    for found, answer in zip((*ours, *into, *grads.values()), (*theirs, *expected), strict=True):
        np.testing.assert_allclose(found, answer, rtol=1e-9, atol=1e-9)
