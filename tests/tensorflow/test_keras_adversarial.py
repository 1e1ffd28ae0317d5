"""The gradient of the adversarial loss against TensorFlow's, written there in two passes of its own."""

import numpy as np
import pytest
from cases import error
from keras_side import keras

from scratchlstm import Model, config, layers
from scratchlstm.interop.keras import to_keras
from scratchlstm.training import AdversarialTraining, steps
from scratchlstm.training.data import check_data

tf = pytest.importorskip("tensorflow")

V, PAIRS, T, B = 13, 17, 7, 5
RNG = np.random.default_rng(3)
WORDS = RNG.integers(1, V, (B, T))
WORDS[0, :3] = WORDS[2, 4:] = 0
BIGRAMS = np.where(WORDS == 0, 0, RNG.integers(1, PAIRS, (B, T)))
LABELS, WEIGHTS = RNG.integers(0, 2, (B, 1)), RNG.uniform(0.5, 2, B)


@pytest.fixture(autouse=True)
def both_in_float64(float64):
    before = config.floatx()
    config.set_floatx("float64")
    yield
    config.set_floatx(before)


def model():
    words, bigrams = layers.Input((None,)), layers.Input((None,))
    embed = layers.Embedding(V, 4, mask_zero=True)
    x = layers.Concatenate()([embed(words), layers.Embedding(PAIRS, 3, mask_zero=True)(bigrams)])
    h = layers.Bidirectional(layers.LSTM(3, return_sequences=True, kernel_regularizer="l2"))(x)
    last = layers.LSTM(2)(h)
    return Model([words, bigrams], layers.Dense(1, activation="sigmoid")(last), seed=1)


def ours(model, epsilon, weight):
    """Loss and gradients of a step, by name."""
    data = check_data(model, [WORDS, BIGRAMS], LABELS, WEIGHTS)
    step = steps.Step(model, data, steps.StepOptions(AdversarialTraining(epsilon, weight)))
    loss, grads, _ = step.learn(B)
    named = zip(model.network.params, grads, strict=True)
    return float(loss), {name: np.asarray(g) for name, g in named if g is not None}


def theirs(ours, epsilon, weight):
    """The same in TensorFlow: the layers above the embeddings, called on what these give, and on that plus r."""
    twin = to_keras(ours)
    embeds = [layer for layer in twin.layers if isinstance(layer, keras.layers.Embedding)]
    above = twin.layers[-4:]
    masks = [tf.constant(WORDS != 0)] * 2

    def loss_of(x):
        y = above[0](x)
        y = above[1](y, mask=masks[0])
        p = above[3](above[2](y, mask=masks[0]))
        each = -tf.math.log(tf.where(LABELS == 1, p, 1 - p))[:, 0]
        penalty = tf.add_n(
            [0.01 * tf.reduce_sum(half.cell.kernel**2) for half in (above[1].forward_layer, above[1].backward_layer)]
        )
        return tf.reduce_mean(WEIGHTS * each) + penalty

    with tf.GradientTape() as outer:
        x = [embed(tf.constant(ids)) for embed, ids in zip(embeds, (WORDS, BIGRAMS), strict=True)]
        with tf.GradientTape() as inner:
            inner.watch(x)
            clean = loss_of(x)
        g = tf.concat(inner.gradient(clean, x), axis=2) * tf.cast(masks[0][..., None], "float64")
        length = tf.norm(tf.concat(x, axis=2) * tf.cast(masks[0][..., None], "float64"), axis=(1, 2), keepdims=True)
        r = tf.stop_gradient(epsilon * length * g / tf.norm(g, axis=(1, 2), keepdims=True))
        parts = tf.split(r, [4, 3], axis=2)
        loss = (1 - weight) * clean + weight * loss_of([each + part for each, part in zip(x, parts, strict=True)])
    grads = outer.gradient(loss, twin.trainable_variables)
    return float(loss), [tf.convert_to_tensor(g).numpy() for g in grads]


@pytest.mark.parametrize(("epsilon", "weight"), [(0.3, 0.5), (0.02, 0.9)])
def test_loss_and_gradients_are_those_of_tensorflow(epsilon, weight):
    twin = model()
    twin.compile("sgd", "binary_crossentropy")
    twin.build_for([(T,), (T,)])
    for w in twin.params:
        w[...] = RNG.normal(size=w.shape)
    loss, grads = ours(twin, epsilon, weight)
    their_loss, their_grads = theirs(twin, epsilon, weight)
    assert loss == pytest.approx(their_loss, rel=1e-12)
    assert loss > ours(twin, 1e-9, weight)[0] + 1e-3  # so the perturbation matters
    for (name, mine), other in zip(grads.items(), their_grads, strict=True):
        assert error(mine, other) < 1e-10, name
