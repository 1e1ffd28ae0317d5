"""What the arguments of a layer's call mean, and what is refused."""

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential, layers
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUCell,
    Layer,
    LSTMCell,
    MaskedGlobalMaxPooling1D,
    SimpleRNN,
    TimeDistributed,
)

X = np.random.default_rng(0).normal(size=(2, 4, 3))
MASK = np.array([[True, True, False, False], [True, False, True, True]])
STATES = [np.random.default_rng(n).normal(size=(2, 3)) for n in range(4)]


@pytest.mark.parametrize(
    ("make", "args", "call"),
    [
        (lambda: LSTM(3), (STATES[:2],), {"initial_state": STATES[:2]}),
        (lambda: LSTM(3), (STATES[:2], MASK), {"initial_state": STATES[:2], "mask": MASK}),
        (lambda: LSTM(3, dropout=0.5, seed=1), (None, MASK, True), {"mask": MASK, "training": True}),
        (lambda: SimpleRNN(3), (STATES[:1], MASK), {"initial_state": STATES[:1], "mask": MASK}),
        (lambda: GRU(3), (STATES[:1], MASK), {"initial_state": STATES[:1], "mask": MASK}),
        (lambda: RNN(LSTMCell(3)), (STATES[:2], MASK), {"initial_state": STATES[:2], "mask": MASK}),
        (lambda: Bidirectional(LSTM(3)), (STATES, MASK), {"initial_state": STATES, "mask": MASK}),
        (lambda: GlobalAveragePooling1D(), (MASK,), {"mask": MASK}),
        (lambda: MaskedGlobalMaxPooling1D(), (MASK,), {"mask": MASK}),
        (lambda: Dropout(0.5, seed=1), (True,), {"training": True}),
        (lambda: TimeDistributed(Dropout(0.5, seed=1)), (True, MASK), {"training": True, "mask": MASK}),
    ],
)
def test_positions_mean_what_they_mean_in_keras(make, args, call):
    layer, named = make(), make()
    for each in layer, named:
        each.build((4, 3), np.random.default_rng(0))
    y = layer(X, *args)
    assert np.array_equal(y, named(X, **call))
    assert not np.array_equal(y, named(X))


@pytest.mark.parametrize(
    "make", [lambda: LSTM(3), lambda: Dense(3), lambda: GlobalMaxPooling1D(), lambda: Dropout(0.5)]
)
@pytest.mark.parametrize("training", ["yes", 2, X, [True]])
def test_training_is_true_or_false(make, training):
    with pytest.raises(TypeError, match=r"training of \w+ must be True or False, not"):
        make()(X, training=training)
    make()(X, training=None)  # as in Keras: left open


def test_training_of_a_model_is_true_or_false():
    with pytest.raises(TypeError, match="training of sequential must be True or False, not 'no'"):
        Sequential([Input((3,)), Dense(2)])(X[:, 0], training="no")


def test_a_mask_is_not_taken_for_training():
    with pytest.raises(TypeError, match="training of global_max_pooling1d must be True or False"):
        GlobalMaxPooling1D()(X, MASK)


@pytest.mark.parametrize("args", [(None, None, False, 1), (None, MASK)])
def test_an_argument_too_many_is_refused(args):
    with pytest.raises(TypeError, match="lstm takes x, initial_state, mask, training in this order, each at most once"):
        LSTM(3)(X, *args, **({} if len(args) > 3 else {"mask": MASK}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LSTM(3),
        lambda: SimpleRNN(3),
        lambda: GRU(3),
        lambda: RNN([LSTMCell(3), GRUCell(2)]),
        lambda: Bidirectional(LSTM(3)),
        lambda: GlobalAveragePooling1D(),
        lambda: MaskedGlobalMaxPooling1D(),
        lambda: TimeDistributed(Dense(2)),
    ],
)
@pytest.mark.parametrize(
    "mask", [MASK[:1], MASK[:, :3], MASK.T, MASK[..., None, None] & np.ones((3, 1), bool), MASK[0], MASK * 0.5, "mask"]
)
def test_a_mask_of_another_kind_is_refused(make, mask):
    layer = make()
    with pytest.raises(ValueError, match=f"mask of {layer.name} must hold True or False for each step, with shape"):
        layer(X, mask=mask)


def test_every_layer_that_takes_a_mask_is_tested():
    takers = {name for name, cls in layers.KNOWN.items() if cls.takes_mask}
    assert takers == {
        "Network",  # hands it on to its layers, which check it
        *(
            "LSTM",
            "SimpleRNN",
            "GRU",
            "RNN",
            "Bidirectional",
            "GlobalAveragePooling1D",
            "MaskedGlobalMaxPooling1D",
            "TimeDistributed",
        ),
        *("Attention", "Multiply"),  # a list of masks: test_merging.py
    }


# --- layers in a graph ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [{"training": True}, {"training": False}, {"mask": MASK}])
def test_what_a_graph_would_not_follow_is_refused(call):
    """Keras fixes `training` for a layer that is called so; silently ignored it would be another model."""
    with pytest.raises(TypeError, match=f"takes only its input and initial states, not {next(iter(call))}; to pass"):
        LSTM(3)(Input((4, 3)), **call)
    with pytest.raises(TypeError, match="initial_state of lstm in a Model must hold outputs of Input or of layers"):
        LSTM(3)(Input((4, 3)), STATES[:2])
    with pytest.raises(TypeError, match="dense in a Model takes only its input, not initial_state"):
        Dense(3)(Input((4,)), initial_state=Input((3,)))


@pytest.mark.parametrize("make", [Sequential, lambda stack: Model(x := Input((3,)), Dense(2)(x))])
def test_a_model_is_a_layer_of_another(make):
    inner, x = make([Dense(2)]), Input((3,))
    with pytest.raises(TypeError, match="in a Model takes only its input, not training; to pass these"):
        inner(x, training=True)
    outer = Model(x, Dense(1)(inner(x)))
    assert outer.layers[0] is inner.network
    assert outer.predict(X[:, 0], verbose=0).shape == (2, 1)


def test_a_layer_at_two_places_of_a_stack_is_told_what_to_do_instead():
    dense = Dense(3)
    with pytest.raises(
        ValueError, match="the layer dense is already in the model: make another layer .*set_weights.* functional Model"
    ):
        Sequential([Input((3,)), dense, dense])


@pytest.mark.parametrize("second", [LSTM(2), Bidirectional(LSTM(2)), GlobalMaxPooling1D()])
def test_a_recurrent_layer_after_one_that_gives_no_sequence(second):
    with pytest.raises(ValueError, match=r"an input of 3 dimensions .*\(None, 4\): .* return_sequences=True"):
        Sequential([Input((5, 3)), LSTM(4), second])


# --- layers of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [Layer, Dense, Embedding])
def test_a_layer_written_for_keras_is_refused_when_it_is_defined(base):
    with pytest.raises(TypeError, match=r"Double defines call\(\), .* forward\(x\) -> .* backward\(dy, cache\)"):

        class Double(base):
            def call(self, inputs):
                return 2 * inputs


class Mixin:
    def call(self, inputs):
        return 2 * inputs


def test_a_call_that_a_layer_inherits_is_refused_unless_a_forward_comes_before_it():
    with pytest.raises(TypeError, match=r"^Mixin defines call\(\), .* forward\(x\) -> .* backward\(dy, cache\)"):

        class Double(Mixin, Dense):
            pass

    class After(Dense, Mixin):
        pass

    class Forward(Mixin, Layer):
        def forward(self, x):
            return self.call(x), None

    class Further(Forward):
        pass

    assert After(2, dtype="float64")(X).shape == (*X.shape[:-1], 2)
    assert np.array_equal(Further(dtype="float64")(X), 2 * X)


def test_a_layer_may_have_a_method_of_that_name_beside_forward():
    class Double(Layer):
        def forward(self, x):
            return self.call(x), None

        def call(self, x):
            return 2 * x

    assert np.array_equal(Double(dtype="float64")(X), 2 * X)
    layer = Double()
    y, cache = layer.forward(X)
    with pytest.raises(NotImplementedError, match=r"Double must define backward\(dy, cache\) to be trained"):
        layer.backward(y, cache)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_rate_that_is_set_is_the_rate():
    layer = Dropout(0.5, seed=0)
    layer.rate = 0.0
    assert np.array_equal(layer(X, training=True), X.astype("float32"))
    assert layer.get_config()["rate"] == 0.0
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
        layer.rate = 1.0


def test_penalties_on_outputs_are_refused():
    with pytest.raises(ValueError, match="activity_regularizer of dense must be None"):
        Dense(1).activity_regularizer = "l2"


ARRAY = np.ones(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LSTM(2, implementation=ARRAY),
        lambda: Bidirectional(LSTM(2), ARRAY),
        lambda: Bidirectional(LSTM(2), dtype=ARRAY),
        lambda: TimeDistributed(Dense(2), dtype=ARRAY),
        lambda: Dense(2, name=ARRAY),
        lambda: Input((3,), dtype=ARRAY),
        lambda: Input((3,), dtype="yes"),
        lambda: Sequential(backend=ARRAY),
    ],
)
def test_an_array_for_a_scalar_is_refused_in_words(make):
    with pytest.raises((TypeError, ValueError), match=r"(implementation|merge_mode|dtype|name|backend)\b.* must be"):
        make()
