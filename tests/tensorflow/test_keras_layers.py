"""Every layer with its options against Keras: outputs, and every gradient for a random gradient on each output.

Both sides get the same weights, states, mask and, for dropout, the masks that this package drew.
"""

import warnings

import numpy as np
import pytest
from cases import error
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_side import dense, floats, give_dropout, keras, tf

from scratchlstm import layers
from scratchlstm.layers import LSTM, Bidirectional
from scratchlstm.layers.passes import Pass
from scratchlstm.rows import RowGradient

TOLERANCE = 1e-9
ACTIVATIONS = "tanh", "sigmoid", "hard_sigmoid", "relu", "linear"
MASKS = {
    "after": lambda rng, B, T: np.arange(T) < rng.integers(1, T + 1, size=(B, 1)),
    "before": lambda rng, B, T: np.arange(T) >= rng.integers(0, T, size=(B, 1)),
    "anywhere": lambda rng, B, T: rng.random((B, T)) < 0.5,  # a row may be masked throughout
    "everywhere": lambda rng, B, T: np.zeros((B, T), dtype=bool),
    "nowhere": lambda rng, B, T: np.ones((B, T), dtype=bool),
}


def twins(kind, options, implementation="fused", *, merge_mode="concat", backward=None, dtype="float64"):
    """Our layer and Keras' with the same settings."""

    def make(side, **settings):
        if kind != "Bidirectional":
            return getattr(side, kind)(**settings)
        other = None if backward is None else side.LSTM(**settings | backward, go_backwards=True)
        return side.Bidirectional(side.LSTM(**settings), merge_mode=merge_mode, backward_layer=other, dtype=dtype)

    own = {"implementation": implementation} if kind != "SimpleRNN" else {}
    return make(layers, **options, **own, dtype=dtype), make(keras.layers, **options, dtype=dtype)


def compare(ours, theirs, x, *, mask=None, states=None, training=False, seed=0, tolerance=TOLERANCE):
    """Run both forward and backward, from weights that are no two alike."""
    rng, dtype = np.random.default_rng(seed), ours.dtype
    call = {} if mask is None else {"mask": mask}
    if states is not None:
        call["initial_state"] = list(states)
    ours.receive(x)
    ours.set_weights([(rng.normal(size=w.shape) * 0.5).astype(dtype) for w in ours.get_weights()])
    y, cache = ours.forward(x if states is None else (x, *states), Pass(training), mask)
    outputs = [np.asarray(each) for each in _as_list(y)]
    upstream = [rng.normal(size=y.shape).astype(dtype) for y in outputs]
    dx, grads = ours.backward(tuple(upstream) if isinstance(y, tuple) else upstream[0], cache)
    with floats(dtype):
        theirs.build(x.shape)
        theirs.set_weights(ours.get_weights())
        if training and any(source.rate for source in ours.dropout_masks):
            give_dropout(cache, theirs)
        variable = tf.Variable(x)
        variables = [tf.Variable(state) for state in states or ()]
        if variables:
            call["initial_state"] = variables
        with tf.GradientTape() as tape:
            answers = theirs(variable, training=training, **call)
            answers = list(answers) if isinstance(answers, list | tuple) else [answers]
            total = sum(tf.reduce_sum(r * y) for r, y in zip(upstream, answers, strict=True))
        gradients = tape.gradient(total, [variable, *variables, *theirs.trainable_variables])
    for y, answer in zip(outputs, answers, strict=True):
        assert y.dtype == dtype
        assert error(y, answer) < tolerance
    found = [*(dx if states else [dx]), *(grads[name] for name in ours.params)]
    expected = [
        0 * variable if g is None else dense(g) for g, variable in zip(gradients, [variable] * 99, strict=False)
    ]
    names = ["x", *(ours.state_sizes if states else ()), *ours.params]
    for name, gradient, answer in zip(names, found, expected, strict=True):
        assert gradient.dtype == dtype
        assert error(gradient, answer) < tolerance, name
    if not training:
        for y, again in zip(outputs, _as_list(ours(x, **call_of(mask, states))), strict=True):
            assert error(again, y) < tolerance
    return outputs


def call_of(mask, states):
    call = {} if mask is None else {"mask": mask}
    return call if states is None else call | {"initial_state": list(states)}


def _as_list(outputs):
    return outputs if isinstance(outputs, list | tuple) else [outputs]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    kind=st.sampled_from(["LSTM", "LSTM textbook", "SimpleRNN", "Bidirectional", "Bidirectional textbook"]),
    sizes=st.fixed_dictionaries({size: st.integers(1, 5) for size in "BTEH"}),
    mask=st.sampled_from([None, *MASKS]),
    with_states=st.booleans(),
    training=st.booleans(),
    merge_mode=st.sampled_from(["concat", "sum", "ave", "mul", None]),
    options=st.fixed_dictionaries(
        {
            "return_sequences": st.booleans(),
            "return_state": st.booleans(),
            "go_backwards": st.booleans(),
            "zero_output_for_mask": st.booleans(),
            "use_bias": st.booleans(),
            "activation": st.sampled_from(ACTIVATIONS),
            "recurrent_activation": st.sampled_from(ACTIVATIONS),
            "dropout": st.sampled_from([0.0, 0.0, 0.4]),
            "recurrent_dropout": st.sampled_from([0.0, 0.0, 0.4]),
        }
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_options_of_recurrent_layers(kind, sizes, mask, with_states, training, merge_mode, options, seed):
    kind, _, implementation = kind.partition(" ")
    (B, T, E, H), rng = sizes.values(), np.random.default_rng(seed)
    if kind == "SimpleRNN":
        del options["recurrent_activation"]
    if kind == "Bidirectional":
        del options["go_backwards"]
    ours, theirs = twins(kind, {"units": H} | options, implementation or "fused", merge_mode=merge_mode)
    mask = None if mask is None else MASKS[mask](rng, B, T)
    states = [rng.normal(size=(B, size)) for size in ours.state_sizes.values()] if with_states else None
    with warnings.catch_warnings():  # of Keras, about numbers that overflow in a relu network
        warnings.simplefilter("ignore")
        compare(ours, theirs, rng.normal(size=(B, T, E)), mask=mask, states=states, training=training, seed=seed)


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
def test_a_backward_layer_of_its_own(implementation):
    options = {"units": 3, "return_sequences": True}
    ours, theirs = twins("Bidirectional", options, implementation, backward={"activation": "relu", "use_bias": False})
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    compare(ours, theirs, x, mask=MASKS["anywhere"](np.random.default_rng(1), 2, 5))


@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional"])
def test_masks_and_dropout_in_float32(kind):
    options = {"units": 12, "return_sequences": True, "dropout": 0.3, "recurrent_dropout": 0.2}
    ours, theirs = twins(kind, options, dtype="float32")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 20, 10)).astype("float32")
    compare(ours, theirs, x, mask=MASKS["before"](rng, 8, 20), training=True, tolerance=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "SimpleRNN", "Bidirectional"])
@pytest.mark.parametrize("masked", [False, True])
def test_stateful_layers_go_on_where_they_were(kind, masked):
    rng = np.random.default_rng(0)
    ours, theirs = twins(kind, {"units": 3, "stateful": True, "return_sequences": True})
    batches = rng.normal(size=(5, 2, 4, 3))
    ours.receive(batches[0])
    with floats("float64"):
        theirs.build((2, 4, 3))
        theirs.set_weights(ours.get_weights())
        for number, x in enumerate(batches):
            if number == 3:
                ours.reset_states()
                theirs.forward_layer.reset_state() if kind == "Bidirectional" else theirs.reset_state()
                if kind == "Bidirectional":
                    theirs.backward_layer.reset_state()
            call = {"mask": rng.random((2, 4)) < 0.6} if masked else {}
            # either pass moves the states on
            y = ours.infer(x, **call) if number % 2 else ours.forward(x, **call)[0]
            assert error(y, theirs(x, **call)) < TOLERANCE


@pytest.mark.parametrize("mask", [None, "after", "anywhere"])
def test_gathered_rows_through_both_directions(mask):
    """From an embedding: the rows' gradients of both directions add up to the dense gradient."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, size=(3, 5))
    mask = None if mask is None else MASKS[mask](rng, 3, 5)
    results = []
    for implementation in ("fused", "textbook"):
        embedding = layers.Embedding(6, 4, dtype="float64")
        both = Bidirectional(LSTM(3, return_sequences=True, implementation=implementation, dtype="float64"))
        embedding.build((5,), np.random.default_rng(1))
        both.build((5, 4), np.random.default_rng(2))
        rows, of_embedding = embedding.forward(ids)
        y, cache = both.forward(rows, mask=mask)
        dx, grads = both.backward(np.random.default_rng(3).normal(size=y.shape), cache)
        assert isinstance(dx, RowGradient) == (implementation == "fused")
        table = embedding.backward(dx, of_embedding)[1]["embeddings"]
        results.append([y, np.asarray(table), *grads.values()])
    for one, other in zip(*results, strict=True):
        assert error(one, other) < 1e-12


SIMPLE = {
    "GlobalAveragePooling1D": [{}, {"keepdims": True}],
    "GlobalMaxPooling1D": [{}, {"keepdims": True}],
    "LayerNormalization": [{}, {"epsilon": 0.1}, {"center": False}, {"scale": False}],
    "Flatten": [{}],
    "Masking": [{}, {"mask_value": 1.5}],
}


@pytest.mark.parametrize(("kind", "options"), [(kind, each) for kind, all_of in SIMPLE.items() for each in all_of])
def test_layers_without_memory(kind, options):
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(3, 5, 4)), 1)  # some values are equal, and share a maximum
    x[0, 2], x[1, 1:3] = 0.0, 1.5
    mask = MASKS["after"](rng, 3, 5) if kind == "GlobalAveragePooling1D" else None
    ours, theirs = (getattr(side, kind)(**options, dtype="float64") for side in (layers, keras.layers))
    compare(ours, theirs, x, mask=mask)


@pytest.mark.parametrize("features", [(4,), (5, 4)])
def test_a_layer_at_each_step(features):
    """A dense one, or over sequences of sequences a recurrent one."""
    kind, options = ("Dense", {"activation": "tanh"}) if len(features) == 1 else ("LSTM", {})
    ours, theirs = (
        side.TimeDistributed(getattr(side, kind)(3, **options, dtype="float64"), dtype="float64")
        for side in (layers, keras.layers)
    )
    compare(ours, theirs, np.random.default_rng(0).normal(size=(2, 3, *features)))
