"""Encoders that hand their states to decoders, against Keras' with the same weights."""

import itertools

import numpy as np
import pytest
from cases import EXACT, error, word_ids
from keras_side import dense, keras, tf

from scratchlstm import Input, Model, config, optimizers
from scratchlstm.interop.keras import to_keras
from scratchlstm.layers import LSTM, Attention, Bidirectional, Concatenate, Dense, Embedding

V, E, H, N = 13, 5, 4, 6
T_IN, T_OUT = 4, 3
RNG = np.random.default_rng(3)
SOURCE, TARGET = word_ids(RNG, V - 1, (N, T_IN)) + 1, word_ids(RNG, V - 1, (N, T_OUT)) + 1
SOURCE[0, 3:], SOURCE[1, :2], SOURCE[2], TARGET[0, 2:], TARGET[3, 1:], TARGET[4, :2] = 0, 0, 0, 0, 0, 0
NEXT = word_ids(RNG, V, (N, T_OUT))
ELSEWHERE = word_ids(RNG, V, (N, T_IN))
FEATURES = RNG.normal(size=(N, 3))

pytestmark = pytest.mark.usefixtures("float64")


def encoder(words, **options):
    return LSTM(H, return_state=True)(Embedding(V, E, mask_zero=True)(words), **options)


def decoder(words, states, mask_zero=True):
    sequence = LSTM(H, return_sequences=True)(Embedding(V, E, mask_zero=mask_zero)(words), initial_state=states)
    return Dense(V, activation="softmax")(sequence)


def plain(source, target):
    return decoder(target, encoder(source)[1:])


def no_mask_on_the_target(source, target):
    return decoder(target, encoder(source)[1:], mask_zero=False)


def all_that_is_given_out(source, target):
    """Gradients reach the decoder's states, and every value of the encoder."""
    y, h, c = LSTM(H, return_sequences=True, return_state=True)(Embedding(V, E, mask_zero=True)(source))
    found = LSTM(H, return_sequences=True, return_state=True)(Embedding(V, E)(target), initial_state=[h, c])
    return [y, *found, Concatenate()([h, found[1]])]


def attention(source, target):
    """The decoder looks back at the encoder's sequence: of a source that is all padding at nothing, unlike in Keras."""
    words = Embedding(V, E, mask_zero=True)
    sequence, *states = LSTM(H, return_sequences=True, return_state=True)(words(source))
    decoded = LSTM(H, return_sequences=True)(words(target), initial_state=states)
    context = Attention(use_scale=True)([decoded, sequence])
    return Dense(V, activation="softmax")(Concatenate()([decoded, context]))


def two_directions(source, target):
    """Each direction's states go to a decoder of their own."""
    _, *states = Bidirectional(LSTM(H, return_state=True))(Embedding(V, E, mask_zero=True)(source))
    words = Embedding(V, E, mask_zero=True)(target)
    ways = [LSTM(H, return_sequences=True)(words, initial_state=own) for own in (states[:2], states[2:])]
    return Dense(V, activation="softmax")(Concatenate()(ways))


def both_ways_into_both_ways(source, target):
    _, *states = Bidirectional(LSTM(H, return_state=True), merge_mode="sum")(Embedding(V, E, mask_zero=True)(source))
    decoded = Bidirectional(LSTM(H, return_sequences=True))
    words = Embedding(V, E, mask_zero=True)(target)
    return Dense(V, activation="softmax")(decoded(words, initial_state=[states[k] for k in (2, 1, 0, 3)]))


def from_features(source, target, features):
    """The first states are made of something else, and a source's last states begin with them."""
    begin = [Dense(H, activation="tanh")(features), Dense(H)(features)]
    return decoder(target, encoder(source, initial_state=begin)[1:])


def states_from_outside(target, h, c):
    return decoder(target, [h, c])


def one_decoder_twice(source, target, elsewhere):
    """The same decoder continues from two encoders' states."""
    words, shared = Embedding(V, E, mask_zero=True), LSTM(H, return_sequences=True)
    encoded = LSTM(H, return_state=True)
    decoded = [shared(words(target), initial_state=encoded(words(each))[1:]) for each in (source, elsewhere)]
    return Dense(V, activation="softmax")(Concatenate()(decoded))


# each with what goes in
MODELS = {
    plain: [SOURCE, TARGET],
    no_mask_on_the_target: [SOURCE, TARGET],
    attention: [np.maximum(SOURCE, np.arange(T_IN) == T_IN - 1), TARGET],
    two_directions: [SOURCE, TARGET],
    both_ways_into_both_ways: [SOURCE, TARGET],
    from_features: [SOURCE, TARGET, FEATURES],
    states_from_outside: [TARGET, RNG.normal(size=(N, H)), RNG.normal(size=(N, H))],
    one_decoder_twice: [SOURCE, TARGET, ELSEWHERE],
}
SEVERAL = {all_that_is_given_out: [SOURCE, TARGET]}


def with_twin(build, xs):
    """Our model, with weights as large as a trained model's, and Keras' of the same weights."""
    shapes = [(None,) if x.dtype.kind == "i" else x.shape[1:] for x in xs]
    inputs = [Input(shape) for shape in shapes]
    model = Model(inputs, build(*inputs), seed=0)
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    return model, to_keras(model)


@pytest.fixture(autouse=True)
def ours_in_float64():
    config.set_floatx("float64")
    yield
    config.set_floatx("float32")


@pytest.mark.parametrize("build", MODELS | SEVERAL)
def test_outputs_and_gradients(build):
    """A random gradient on every output, compared in every parameter and in every input of numbers."""
    xs = (MODELS | SEVERAL)[build]
    model, twin = with_twin(build, xs)
    found, cache = model.forward(xs)
    found = found if isinstance(found, tuple) else (found,)
    upstream = [np.random.default_rng(7).normal(size=y.shape) for y in found]
    tensors = [tf.Variable(x) if x.dtype.kind == "f" else tf.constant(x) for x in xs]
    of = [tensor for tensor in tensors if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        answers = twin(tensors, training=True)
        answers = answers if isinstance(answers, list | tuple) else [answers]
        total = sum(tf.reduce_sum(r * answer) for r, answer in zip(upstream, answers, strict=True))
    expected = tape.gradient(total, [*twin.trainable_variables, *of])
    assert len(found) == len(answers)
    for y, answer in zip(found, answers, strict=True):
        assert error(y, answer) < 1e-12
    dx, grads = model.backward(tuple(upstream) if len(found) > 1 else upstream[0], cache)
    assert list(grads) == list(model.network.params)
    gradients = [*grads.values(), *(d for d, x in zip(dx, xs, strict=True) if x.dtype.kind == "f")]
    assert len(gradients) == len(expected)
    for gradient, of_keras in zip(gradients, expected, strict=True):
        assert np.any(np.asarray(of_keras))
        assert error(np.asarray(gradient), dense(of_keras)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "kind"), [*zip(MODELS, itertools.cycle(["Adam", "SGD"])), (plain, "SGD"), (attention, "SGD")]
)
def test_ten_steps(build, kind):
    """The loss counts the steps of the target that are not padding, as Keras does with the decoder's mask."""
    xs = MODELS[build]
    model, twin = with_twin(build, xs)
    model.compile(getattr(optimizers, kind)(**EXACT[kind]), "sparse_categorical_crossentropy")
    start, optimizer = model.get_weights(), getattr(keras.optimizers, kind)(**EXACT[kind])
    loss_of = keras.losses.SparseCategoricalCrossentropy()
    for _ in range(10):
        with tf.GradientTape() as tape:
            loss = loss_of(NEXT, twin(xs, training=True))
        # rows of repeated ids are summed, without which Keras' Adam differs
        optimizer.apply([*map(dense, tape.gradient(loss, twin.trainable_variables))], twin.trainable_variables)
        assert model.train_on_batch(xs, NEXT) == pytest.approx(float(loss), rel=1e-9)
    for w, of_keras, w0 in zip(model.get_weights(), twin.get_weights(), start, strict=True):
        assert np.any(w != w0)
        assert error(w - w0, of_keras - w0) < 1e-8
