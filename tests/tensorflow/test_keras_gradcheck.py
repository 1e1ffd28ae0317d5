"""The check against TensorFlow: right layers and models pass with masks, dropout, penalties, states and branches.

A wrong forward pass, with which numerical gradients are content, does not.
"""

import warnings

import numpy as np
import pytest
from keras_side import keras

from scratchlstm import gradcheck, layers
from scratchlstm.interop.keras import to_keras
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Add,
    Attention,
    Bidirectional,
    Concatenate,
    Dense,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUCell,
    Input,
    LayerNormalization,
    LSTMCell,
    MaskedGlobalMaxPooling1D,
    Masking,
    Multiply,
    RepeatVector,
    Reshape,
    SimpleRNN,
    SimpleRNNCell,
    SpatialDropout1D,
    StackedRNNCells,
    TimeDistributed,
    WordDropout,
)
from scratchlstm.models.model import Model, Sequential

pytestmark = pytest.mark.usefixtures("few_directions")  # tests/test_gradcheck.py takes every number

B, T, E, V = 3, 5, 4, 9
F64 = {"dtype": "float64"}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, E))
MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0]], bool)
IDS = np.array([[0, 0, 3, 8, 1], [4, 4, 2, 0, 0], [5, 0, 7, 1, 6]])
NOISY = {"dropout": 0.3, "recurrent_dropout": 0.2}
ALL_OUT = {"return_sequences": True, "return_state": True}


def recurrent():
    """Every way to ask for a recurrent layer that takes another path here or in Keras."""
    for implementation in ("fused", "textbook"):
        own = {"implementation": implementation, **F64}
        yield lambda own=own: LSTM(3, **ALL_OUT, **NOISY, **own)
        yield lambda own=own: LSTM(3, dropout=0.3, go_backwards=True, stateful=True, return_state=True, **own)
    yield lambda: LSTM(3, recurrent_dropout=0.3, zero_output_for_mask=True, return_sequences=True, **F64)
    yield lambda: SimpleRNN(3, stateful=True, **ALL_OUT, **NOISY, **F64)
    for merge_mode in ("concat", None):
        yield lambda mode=merge_mode: Bidirectional(LSTM(3, stateful=True, **ALL_OUT, **NOISY, **F64), mode)
        yield lambda mode=merge_mode: Bidirectional(SimpleRNN(3, **F64), mode)


def merged():
    """Numbers of both directions are merged when masks and dropout have had their say: at once is enough."""
    for merge_mode in ("sum", "ave", "mul"):
        yield lambda mode=merge_mode: Bidirectional(LSTM(3, stateful=True, **ALL_OUT, **NOISY, **F64), mode)
        yield lambda mode=merge_mode: Bidirectional(SimpleRNN(3, **F64), mode)


def calls():
    """Each layer with a mask and without, in training once; layers that differ in one option alone take turns."""
    for number, make in enumerate(recurrent()):
        masked_in_training = number % 4 in (1, 2)
        yield make, None, not masked_in_training
        yield make, MASK, masked_in_training


@pytest.mark.slow
@pytest.mark.parametrize(("make", "mask", "training"), list(calls()))
def test_every_recurrent_layer(make, mask, training):
    report = gradcheck.check_layer(make(), X, mask=mask, training=training, tensorflow=True)
    assert report.ok, report
    outputs = [row for row in report.rows if row.tensor.startswith("output")]
    assert outputs
    assert all(row.numerical is None for row in outputs)
    assert all(row.tensorflow is not None for row in report.rows)


@pytest.mark.parametrize("make", list(merged()))
def test_every_merge_mode_masked_in_training(make):
    test_every_recurrent_layer(make, MASK, True)


CELLS = {
    "GRU": lambda: GRU(3, **ALL_OUT, **NOISY, **F64),
    "GRU before": lambda: GRU(3, reset_after=False, implementation="textbook", **ALL_OUT, **NOISY, **F64),
    "GRU x": lambda: GRU(3, reset_after=False, dropout=0.3, go_backwards=True, return_state=True, **F64),
    "GRU h": lambda: GRU(3, use_bias=False, recurrent_dropout=0.3, zero_output_for_mask=True, stateful=True, **F64),
    "LSTMCell": lambda: RNN(LSTMCell(3, dropout=0.3), **ALL_OUT, **F64),
    "GRUCell": lambda: RNN(GRUCell(3, **NOISY), go_backwards=True, **F64),
    "SimpleRNNCell": lambda: RNN(SimpleRNNCell(3, **NOISY), **F64),
    "several": lambda: RNN([LSTMCell(3, **NOISY), GRUCell(2, dropout=0.3), SimpleRNNCell(2)], **ALL_OUT, **F64),
    "StackedRNNCells": lambda: RNN(StackedRNNCells([GRUCell(2, **NOISY), LSTMCell(3)]), stateful=True, **F64),
    "Bidirectional": lambda: Bidirectional(RNN([GRUCell(3, **NOISY), LSTMCell(2)], **ALL_OUT, **F64), None),
}


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_keras_with_mask_states_and_dropout(name):
    """Each cell drops what ours did: Keras' GRU has one mask for x, or three where h is dropped, too."""
    report = gradcheck.check_layer(CELLS[name](), X, mask=MASK, training=True, tensorflow=True)
    assert report.ok, report
    assert all(row.tensorflow is not None for row in report.rows)


OTHERS = {  # name of the layer -> (layer, x, call)
    "Dense": (Dense(3, "softmax", **F64), X, {}),
    "Dense ints": (Dense(3, **F64), IDS, {}),
    "Activation": (Activation("tanh", **F64), X, {}),
    "Dropout": (Dropout(0.4, **F64), X, {"training": True}),
    "SpatialDropout1D": (SpatialDropout1D(0.4, **F64), X, {"training": True}),
    "Embedding": (Embedding(V, 3, mask_zero=True, **F64), IDS, {}),
    "Flatten": (Flatten(**F64), X, {}),
    "GlobalAveragePooling1D": (GlobalAveragePooling1D(**F64), X, {"mask": MASK}),
    "GlobalMaxPooling1D": (GlobalMaxPooling1D(keepdims=True, **F64), X, {}),
    "LayerNormalization": (LayerNormalization(**F64), X, {}),
    "Masking": (Masking(**F64), X, {}),
    "Concatenate": (Concatenate(**F64), [X, X[..., :2]], {}),
    "Concatenate steps": (Concatenate(1, **F64), [X, X[:, :2]], {}),
    "Add": (Add(**F64), [X, X[:, :1], X[:, 0], X[..., :1]], {}),
    "Multiply": (Multiply(**F64), [X, X[:, :1], X[:, 0]], {}),
    "Multiply masked": (Multiply(**F64), [X, X + 1], {"mask": [MASK, ~MASK & (X[..., 0] > 0)]}),
    "Multiply one masked": (Multiply(**F64), [X, X[:, 0]], {"mask": [MASK, None]}),
    "Dot": (Dot(2, **F64), [X, X[:, 1:]], {}),
    "Dot vectors": (Dot(1, normalize=True, **F64), [X[:, 0], X[:, 1]], {}),
    "Dot vector": (Dot((-1, 2), normalize=True, **F64), [X[:, 0], X], {}),
    "Dot of four": (Dot((3, 1), **F64), [RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 5, 2, 3))], {}),
    "Dot of others": (Dot((1, 2), True, **F64), [RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 5, 3, 2))], {}),
    "Attention": (Attention(**F64), [X[:, :2], X], {}),
    "Attention masked": (Attention(use_scale=True, **F64), [X[:, :2], X], {"mask": [MASK[:, :2], MASK]}),
    "Attention key": (
        Attention(True, dropout=0.4, seed=1, **F64),
        [X[:, :2], X[..., :2], X[:, ::-1]],
        {"mask": [None, MASK], "training": True},
    ),
    "Reshape": (Reshape((2, -1), **F64), RNG.normal(size=(3, 4, 5)), {}),
    "RepeatVector": (RepeatVector(3, **F64), X[:, 0], {}),
    "TimeDistributed": (TimeDistributed(Dense(3, "tanh", **F64)), X, {}),
    "TimeDistributed LSTM": (TimeDistributed(LSTM(3, **F64)), RNG.normal(size=(2, 3, 4, 2)), {}),
    "TimeDistributed RNN": (TimeDistributed(RNN([GRUCell(3), LSTMCell(2)], **F64)), RNG.normal(size=(2, 3, 4, 2)), {}),
    "TimeDistributed Embedding": (TimeDistributed(Embedding(V, 2, **F64)), IDS[:, :, None], {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_layer(name):
    layer, x, call = OTHERS[name]
    report = gradcheck.check_layer(layer, x, tensorflow=True, **call)
    assert report.ok, report


def test_no_layer_is_left_out():
    told = {name.split()[0] for name in {*OTHERS, *CELLS} - {"several"}} | {"LSTM", "SimpleRNN", "RNN"}
    assert told == set(layers.__all__) - {"Input", "Layer", "MaskedGlobalMaxPooling1D", "Network", "WordDropout"}


def stack(*row):
    return Sequential([Input((T,)), Embedding(V, E, mask_zero=True, embeddings_regularizer="l2", **F64), *row], seed=0)


def branches(axis=-1):
    words = Input((T,))
    x = SpatialDropout1D(0.2, **F64)(Embedding(V, E, mask_zero=True, embeddings_regularizer="l2", **F64)(words))
    units = 3 if axis == -1 else E // 2
    both = Bidirectional(LSTM(units, return_sequences=True, **NOISY, **F64))(x)
    joined = Concatenate(axis, **F64)([both, x])
    pooled = GlobalAveragePooling1D(**F64)(joined)
    again = Concatenate(**F64)([pooled, LSTM(2, kernel_regularizer="l1", **F64)(joined)])
    return Model(words, Dense(1, "sigmoid", **F64)(Dropout(0.3, **F64)(again)), seed=0)


def data_branches():
    ids = Input((T,))
    vectors = Flatten(**F64)(Embedding(V, 2, **F64)(ids))
    return Model(ids, Dense(1, **F64)(Concatenate(**F64)([vectors, Dense(2, "tanh", **F64)(ids)])), seed=0)


LABELS, TAGS = np.array([0, 1, 1]), np.array([[0, 1, 2, 2, 1]] * B)
MODELS = {  # -> (model, targets, loss)
    "labels at each step": lambda: (
        stack(LSTM(3, return_sequences=True, **NOISY, **F64), Dense(1, "sigmoid", **F64)),
        TAGS % 2,
        "binary_crossentropy",
    ),
    "classes at each step": lambda: (
        stack(SimpleRNN(3, return_sequences=True, **F64), Dense(3, "softmax", kernel_regularizer="l1", **F64)),
        TAGS,
        "sparse_categorical_crossentropy",
    ),
    "one-hot at each step": lambda: (
        stack(
            Bidirectional(LSTM(3, return_sequences=True, recurrent_regularizer="l2", **F64), "mul"),
            TimeDistributed(Dense(3, **F64)),
            Activation("softmax", **F64),
        ),
        np.eye(3)[TAGS],
        "categorical_crossentropy",
    ),
    "numbers at each step": lambda: (
        stack(Dropout(0.3, **F64), LayerNormalization(**F64), Dense(2, **F64)),
        RNG.normal(size=(B, T, 2)),
        "mse",
    ),
    "states kept": lambda: (
        stack(
            LSTM(3, return_sequences=True, stateful=True, **F64),
            Bidirectional(LSTM(2, stateful=True, **F64)),
            Dense(1, "sigmoid", **F64),
        ),
        LABELS,
        "binary_crossentropy",
    ),
    "no mask through": lambda: (
        stack(GlobalMaxPooling1D(**F64), Dense(1, "sigmoid", bias_regularizer="l2", **F64)),
        LABELS[:, None],
        "binary_crossentropy",
    ),
    "branches": lambda: (branches(), LABELS, "binary_crossentropy"),
    "branches in time": lambda: (branches(axis=1), LABELS, "mse"),
    "branches of the data": lambda: (data_branches(), LABELS, "mse"),
}


@pytest.mark.parametrize("training", [False, True], ids=["", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model(name, training):
    model, y, loss = MODELS[name]()
    model.set_weights([RNG.normal(size=w.shape) * 0.6 for w in model.params])
    model.compile("sgd", loss)
    model.forward(IDS)  # where states are kept they are not zero now
    with warnings.catch_warnings():  # of Keras, that a mask ends at a layer
        warnings.simplefilter("ignore")
        report = gradcheck.check_model(model, IDS, y, training=training, tensorflow=True)
    assert report.ok, report
    assert [row.tensor for row in report.rows][:2] == ["output 0", "loss"]
    assert all(row.tensorflow is not None for row in report.rows)


def test_a_masked_row_where_keras_divides_by_zero_is_told():
    model = stack(GlobalAveragePooling1D(**F64), Dense(1, **F64))
    model.compile("sgd", "mse")
    assert "WRONG TensorFlow's is not finite" in str(gradcheck.check_model(model, IDS * 0, LABELS, tensorflow=True))


# --- what is wrong is seen --------------------------------------------------------------------------------------------


def wrong_rows(report):
    return [row.tensor for row in report.rows if not row.ok]


@pytest.mark.parametrize(
    ("layer", "option", "value"),
    [
        (Dense(3, "tanh", **F64), "activation", "sigmoid"),
        (LSTM(3, **ALL_OUT, **F64), "recurrent_activation", "hard_sigmoid"),
        (SimpleRNN(3, **F64), "go_backwards", True),
        (Bidirectional(LSTM(3, **F64), "sum"), "merge_mode", "ave"),
    ],
    ids=["Dense", "LSTM", "SimpleRNN", "Bidirectional"],
)
def test_another_network_is_seen_in_the_outputs(monkeypatch, layer, option, value):
    """One that is right in itself, but not the one that its settings promise: numerical gradients are content."""
    config = layer.get_config()
    monkeypatch.setattr(layer, "get_config", lambda: config | {option: value})
    assert gradcheck.check_layer(layer, X).ok
    assert "output 0" in wrong_rows(gradcheck.check_layer(layer, X, tensorflow=True))


def test_a_loss_without_the_mask_is_seen(monkeypatch):
    model = stack(Dense(1, "sigmoid", **F64))
    model.compile("sgd", "binary_crossentropy")
    right = model.loss.with_gradient
    monkeypatch.setattr(model.loss, "with_gradient", lambda *args: right(*args[:4]))
    assert gradcheck.check_model(model, IDS, TAGS % 2).ok
    wrong = wrong_rows(gradcheck.check_model(model, IDS, TAGS % 2, tensorflow=True))
    assert wrong == ["loss", "embedding/embeddings", "dense/kernel", "dense/bias"]


def test_a_penalty_of_another_size_is_seen(monkeypatch):
    model = stack(LSTM(2, **F64), Dense(1, **F64))
    model.compile("sgd", "mse")
    penalty = type(model.layers[0].regularizers["embeddings"])
    for method in ("__call__", "gradient"):
        right = getattr(penalty, method)
        monkeypatch.setattr(penalty, method, lambda self, w, right=right: 1.001 * right(self, w))
    assert gradcheck.check_model(model, IDS, LABELS).ok
    wrong = wrong_rows(gradcheck.check_model(model, IDS, LABELS, tensorflow=True))
    assert wrong == ["loss", "embedding/embeddings"]


def test_dropout_that_drops_nothing_is_seen(monkeypatch):
    layer = Dropout(0.5, seed=0, **F64)
    right = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x, run, mask: (x, right(x, run)[1]))
    monkeypatch.setattr(layer, "backward", lambda dy, cache: (dy, {}))
    assert gradcheck.check_layer(layer, X, training=True).ok
    assert wrong_rows(gradcheck.check_layer(layer, X, training=True, tensorflow=True)) == ["output 0", "x"]


@pytest.mark.parametrize("above", [[], [Dropout(0.0, **F64)]], ids=["head", "identity"])
@pytest.mark.parametrize(
    ("activation", "loss", "y"),
    [
        ("sigmoid", "sparse_categorical_crossentropy", TAGS),
        ("sigmoid", "categorical_crossentropy", np.eye(3)[TAGS]),
        ("softmax", "binary_crossentropy", np.eye(3)[TAGS]),
    ],
)
def test_a_head_that_is_not_the_losss(activation, loss, y, above):
    model = stack(Dense(3, activation, **F64), *above)
    model.compile("sgd", loss)
    assert gradcheck.check_model(model, IDS, y, tensorflow=True).ok


# --- what cannot be compared is refused -------------------------------------------------------------------------------


class Mine(Dense):
    """Not a layer of Keras'."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradcheck.check_layer(Mine(2, **F64), X, tensorflow=True), "is a Mine, which Keras does not have"),
        (
            lambda: gradcheck.check_layer(MaskedGlobalMaxPooling1D(**F64), X, tensorflow=True),
            "is a MaskedGlobalMaxPooling1D, which Keras does not have",
        ),
        (
            lambda: gradcheck.check_layer(WordDropout(0.5, **F64), IDS, tensorflow=True),
            "is a WordDropout, which Keras does not have",
        ),
        (
            lambda: gradcheck.check_layer(TimeDistributed(Dropout(0.5, **F64)), X, training=True, tensorflow=True),
            "the dropout in time_distributed cannot be reproduced in Keras",
        ),
        (
            lambda: to_keras(Sequential([Input((T, E)), LSTM(2, stateful=True)])),
            "a stateful layer, so Keras needs a batch_size",
        ),
    ],
    ids=["own subclass", "not in Keras", "of ids, not in Keras", "dropout step by step", "no batch size"],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_keras_on_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match="Keras uses the backend torch here; start with KERAS_BACKEND=tensorflow"):
        gradcheck.check_layer(Dense(2, **F64), X, tensorflow=True)
