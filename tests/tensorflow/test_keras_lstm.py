"""LSTM layers against Keras: every output, and every gradient for a random gradient on each of them."""

import keras_side
import our_side
import pytest
from cases import assert_agree, error, lstm_case
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import IMPLEMENTATIONS
from keras_side import keras, tf

from scratchlstm import Sequential
from scratchlstm.layers import LSTM

ACTIVATIONS = "tanh", "sigmoid", "hard_sigmoid", "relu", "linear"
FULL = {"return_sequences": True, "return_state": True}
OUTPUTS = [{"return_sequences": s, "return_state": r} for s in (False, True) for r in (False, True)]


def check(case, tolerance=1e-9):
    theirs = keras_side.lstm(case)
    for implementation in IMPLEMENTATIONS:
        assert_agree(our_side.lstm(case, implementation), theirs, tolerance)


@pytest.mark.parametrize("states", [False, True], ids=["from zeros", "from states"])
@pytest.mark.parametrize("outputs", OUTPUTS, ids=str)
def test_outputs_and_states(outputs, states):
    check(lstm_case(1, states=states, **outputs))


@pytest.mark.parametrize("recurrent_activation", ACTIVATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, recurrent_activation):
    check(lstm_case(2, activation=activation, recurrent_activation=recurrent_activation, **FULL))


@pytest.mark.parametrize("option", [{"use_bias": False}, {"unit_forget_bias": False}], ids=str)
def test_bias_options(option):
    check(lstm_case(3, **option, **FULL))


@pytest.mark.parametrize("outputs", OUTPUTS, ids=str)
def test_float32(outputs):
    check(lstm_case(4, B=8, T=20, E=10, H=12, dtype="float32", **outputs), tolerance=1e-5)


def test_large_inputs_do_not_overflow():
    case = lstm_case(5, **FULL)
    check(case._replace(x=case.x * 1e4))


def test_long_sequence():
    check(lstm_case(6, T=200, **FULL))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.fixed_dictionaries({size: st.integers(1, 5) for size in "BTEH"}),
    states=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "return_sequences": st.booleans(),
            "return_state": st.booleans(),
            "use_bias": st.booleans(),
            "activation": st.sampled_from(ACTIVATIONS),
            "recurrent_activation": st.sampled_from(ACTIVATIONS),
        }
    ),
)
def test_any_shape_and_options(seed, sizes, states, options):
    check(lstm_case(seed, **sizes, states=states, **options))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_two_in_a_stack(float64, implementation):
    lower, upper = lstm_case(7, E=4, H=6, return_sequences=True), lstm_case(8, E=6, H=3, return_sequences=True)
    options, shape = (lower.options, upper.options), lower.x.shape[1:]
    model = Sequential([LSTM(**each, implementation=implementation, dtype="float64") for each in options])
    twin = keras.Sequential([keras.Input(shape), *(keras.layers.LSTM(**each) for each in options)])
    model.build((None, *shape))
    for either in (model, twin):
        either.set_weights([*lower.weights, *upper.weights])

    x = tf.Variable(lower.x)
    with tf.GradientTape() as tape:
        y = twin(x)
        total = tf.reduce_sum(upper.upstream[0] * y)
    gradients = tape.gradient(total, [x, *twin.trainable_variables])

    our_y, cache = model.forward(lower.x)
    assert error(our_y, y) < 1e-9
    dx, grads = model.backward(upper.upstream[0], cache)
    for ours, theirs in zip([dx, *(grads[name] for name in model.network.params)], gradients, strict=True):
        assert error(ours, theirs) < 1e-9
