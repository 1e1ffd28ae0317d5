"""Each layer computes on a GPU what it computes on the CPU: outputs, and every gradient, with every option."""

import warnings

import numpy as np
import pytest

from scratchlstm import backend, layers
from scratchlstm.backend import host
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
    TimeDistributed,
)
from scratchlstm.layers.network import Network
from scratchlstm.layers.passes import Pass
from scratchlstm.rows import RowGradient, as_array

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.* runs the textbook implementation on the GPU"),
]
TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
either_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])
B, T, E, H = 5, 6, 4, 3


def error(found, expected):
    """Relative to the norm."""
    found, expected = np.asarray(found, "f8"), np.asarray(expected, "f8")
    assert found.shape == expected.shape
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-6)


def at_home(value):
    return host(value.dense() if isinstance(value, RowGradient) else as_array(value))


def run(layer, x, mask, states, training, seed):
    """Outputs, dx, the states' gradients, and the parameters', as NumPy arrays."""
    rng = np.random.default_rng(seed)
    y, cache = layer.forward(x if states is None else (x, *states), Pass(training), mask)
    outputs = y if isinstance(y, tuple) else (y,)
    for each in outputs:
        assert backend.of(as_array(each)) == layer.backend
    upstream = tuple(backend.to(layer.backend, rng.normal(size=y.shape).astype(layer.dtype)) for y in outputs)
    dx, grads = layer.backward(upstream if isinstance(y, tuple) else upstream[0], cache)
    dx = dx if isinstance(dx, list | tuple) else [] if dx is None else [dx]
    return [at_home(a) for a in (*outputs, *dx, *(grads[name] for name in layer.params))]


def compare(make, x, dtype, *, mask=None, states=None, training=False, seed=0):
    """A layer and its twin on the GPU, from the same parameters, none of them 0."""
    rng = np.random.default_rng(seed)
    ours, theirs = make(), make()
    for layer in ours, theirs:
        layer.build([each.shape[1:] for each in x] if layer.merges else x.shape[1:], np.random.default_rng(seed))
    weights = [rng.normal(size=w.shape).astype(dtype) * 0.5 for w in ours.get_weights()]
    for layer in ours, theirs:
        layer.set_weights(weights)
    theirs.to("cupy")
    for name, param in theirs.params.items():
        assert backend.is_cupy(param), name
    expected = run(ours, x, mask, states, training, seed)
    found = run(theirs, x, mask, states, training, seed)
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == b.dtype == dtype
        assert error(a, b) < TOLERANCE[dtype], number
    again = run(theirs, x, mask, states, training, seed) if not training else found
    for a, b in zip(again, found, strict=True):
        np.testing.assert_array_equal(a, b)  # from run to run, bit for bit


def numbers(*shape, dtype, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


MASKS = {
    "none": None,
    "ends": np.arange(T) < np.array([6, 1, 4, 0, 3])[:, None],
    "anywhere": np.random.default_rng(3).random((B, T)) < 0.5,
}

RECURRENT = {
    "last": {},
    "sequences": {"return_sequences": True},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "last backwards": {"go_backwards": True},
    "states": {"return_state": True},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "no bias": {"use_bias": False, "return_sequences": True},
    "relu": {"activation": "relu", "return_sequences": True},
}


@either_dtype
@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize("options", RECURRENT.values(), ids=RECURRENT)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_lstm(device, dtype, implementation, options, mask):
    states = numbers(B, H, dtype=dtype, seed=5), numbers(B, H, dtype=dtype, seed=6)
    x = numbers(B, T, E, dtype=dtype)
    compare(lambda: LSTM(H, dtype=dtype, implementation=implementation, **options), x, dtype, mask=mask, states=states)


@either_dtype
@pytest.mark.parametrize(
    "dropout", [{"dropout": 0.4}, {"recurrent_dropout": 0.4}, {"dropout": 0.3, "recurrent_dropout": 0.3}]
)
@pytest.mark.parametrize("implementation", ["fused", "textbook"])
def test_dropout_inside_an_lstm_draws_the_same(device, dtype, dropout, implementation):
    x = numbers(B, T, E, dtype=dtype)
    make = lambda: LSTM(H, dtype=dtype, return_sequences=True, seed=7, implementation=implementation, **dropout)  # noqa: E731
    compare(make, x, dtype, training=True, mask=MASKS["anywhere"])


@pytest.mark.parametrize(
    "slow", [{"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"recurrent_dropout": 0.5}]
)
def test_a_layer_says_once_that_it_falls_back_to_the_textbook(device, slow):
    x = numbers(B, T, E, dtype="float32")
    for _ in range(2):  # each layer for itself
        layer = LSTM(H, **slow)
        layer.to("cupy")
        with pytest.warns(UserWarning, match="lstm runs the textbook implementation on the GPU") as caught:
            calls = [layer(x, training=training) for training in (True, True, False)]
        assert len(calls) == 3
        assert [warning.filename for warning in caught] == [__file__]


def test_nothing_is_said_of_the_kernel_and_of_a_textbook_that_was_chosen(device):
    x = numbers(B, T, E, dtype="float32")
    quiet = {}, {"dropout": 0.5}, {"implementation": "textbook"}, {"implementation": "textbook", "activation": "relu"}
    with warnings.catch_warnings(action="error"):
        for options in quiet:
            layer = LSTM(H, **options)
            layer.to("cupy")
            layer.forward(x, Pass(training=True))
        LSTM(H, activation="relu").forward(x)  # on the CPU the fast implementation does all


@either_dtype
@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul", None])
def test_bidirectional(device, dtype, merge_mode):
    make = lambda: Bidirectional(LSTM(H, dtype=dtype, return_sequences=True, return_state=True), merge_mode)  # noqa: E731
    states = [numbers(B, H, dtype=dtype, seed=n) for n in range(4)]
    compare(make, numbers(B, T, E, dtype=dtype), dtype, mask=MASKS["ends"], states=states)


@pytest.mark.parametrize("slow", [{"activation": "relu"}, {"implementation": "textbook"}, {"recurrent_dropout": 0.5}])
@pytest.mark.parametrize("first", ["forward", "backward"])
def test_bidirectional_with_one_half_in_the_kernel(device, slow, first):
    """The gradient of an embedding's rows comes per row from one half, and per step from the other."""
    ids = np.random.default_rng(0).integers(0, 7, size=(B, T))
    options = [slow, {}] if first == "forward" else [{}, slow]
    found = []
    for name in "numpy", "cupy":
        halves = [LSTM(H, seed=1, go_backwards=n == 1, dtype="float64", **options[n]) for n in range(2)]
        both, embedding = Bidirectional(halves[0], backward_layer=halves[1]), Embedding(9, E, dtype="float64")
        for layer, shape in (embedding, (T,)), (both, (T, E)):
            layer.build(shape, np.random.default_rng(2))
            layer.to(name)
        rows, of_rows = embedding.forward(ids)
        y, cache = both.forward(rows, Pass(training=True))
        d_rows, grads = both.backward(backend.to(name, numbers(B, 2 * H, dtype="float64", seed=4)), cache)
        of_table = embedding.backward(d_rows, of_rows)[1]
        found.append([at_home(a) for a in (y, *grads.values(), of_table["embeddings"])])
    for ours, theirs in zip(*found, strict=True):
        assert error(theirs, ours) < TOLERANCE["float64"]


@either_dtype
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_simple_rnn(device, dtype, mask):
    make = lambda: SimpleRNN(H, dtype=dtype, return_sequences=True)  # noqa: E731
    compare(make, numbers(B, T, E, dtype=dtype), dtype, mask=mask, states=[numbers(B, H, dtype=dtype)])


@either_dtype
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("options", [{}, {"reset_after": False}, {"use_bias": False}], ids=str)
def test_gru(device, dtype, mask, options):
    make = lambda: GRU(H, dtype=dtype, return_sequences=True, **options)  # noqa: E731
    compare(make, numbers(B, T, E, dtype=dtype), dtype, mask=mask, states=[numbers(B, H, dtype=dtype)])


def stack():
    return [LSTMCell(H, dropout=0.3), GRUCell(2, recurrent_dropout=0.3, seed=1), SimpleRNNCell(3)]


@either_dtype
@pytest.mark.parametrize("around", [lambda layer: layer, Bidirectional])
def test_cells_on_top_of_each_other(device, dtype, around):
    make = lambda: around(RNN(stack(), return_state=True, dtype=dtype))  # noqa: E731
    compare(make, numbers(B, T, E, dtype=dtype), dtype, mask=MASKS["anywhere"], training=True)


def network(dtype):
    x = Input((T, E))
    return Network([x], [Dense(2, dtype=dtype)(LSTM(H, return_sequences=True, dtype=dtype)(x))])


OTHERS = {
    "Network": network,
    "Dense": lambda **o: Dense(3, "tanh", **o),
    "softmax": lambda **o: Dense(3, "softmax", **o),
    "Activation": lambda **o: Activation("hard_sigmoid", **o),
    "relu": lambda **o: Activation("relu", **o),
    "Dropout": lambda **o: Dropout(0.5, seed=1, **o),
    "SpatialDropout1D": lambda **o: SpatialDropout1D(0.5, seed=1, **o),
    "Flatten": lambda **o: Flatten(**o),
    "LayerNormalization": lambda **o: LayerNormalization(**o),
    "GlobalAveragePooling1D": lambda **o: GlobalAveragePooling1D(**o),
    "GlobalMaxPooling1D": lambda **o: GlobalMaxPooling1D(keepdims=True, **o),
    "MaskedGlobalMaxPooling1D": lambda **o: MaskedGlobalMaxPooling1D(**o),
    "Masking": lambda **o: Masking(0.0, **o),
    "TimeDistributed": lambda **o: TimeDistributed(Dense(2, **o)),
    "Concatenate": lambda **o: Concatenate(**o),
    "Add": lambda **o: Add(**o),
    "Multiply": lambda **o: Multiply(**o),
    "Dot": lambda **o: Dot(1, normalize=True, **o),
    "Attention": lambda **o: Attention(use_scale=True, dropout=0.5, seed=1, **o),
    "Reshape": lambda **o: Reshape((2, -1), **o),
    "RepeatVector": lambda **o: RepeatVector(3, **o),
}


def test_no_layer_is_left_out():
    tested = {type(make(dtype="float64")).__name__ for make in OTHERS.values()}
    of_ids = {"Embedding", "WordDropout"}  # see layers/test_word_dropout.py
    assert tested | of_ids | {"LSTM", "SimpleRNN", "GRU", "RNN", "Bidirectional"} == set(layers.KNOWN)


@either_dtype
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("training", [False, True])
def test_other_layers(device, dtype, make, training):
    x = numbers(B, T, E, dtype=dtype)
    x[:, 1] = 0
    layer = make(dtype=dtype)
    if layer.merges:
        x = [x, numbers(B, T, 2 if isinstance(layer, Concatenate | Dot) else E, dtype=dtype, seed=9)]
    if isinstance(layer, RepeatVector):
        x = x[:, 0]
    mask = MASKS["anywhere"] if layer.takes_mask and not isinstance(layer, TimeDistributed) else None
    mask = [MASKS["anywhere"], MASKS["ends"]] if layer.takes_mask and layer.merges else mask
    compare(lambda: make(dtype=dtype), x, dtype, training=training, mask=mask)


@either_dtype
def test_embedding(device, dtype):
    ids = np.random.default_rng(0).integers(0, 7, size=(B, T))
    compare(lambda: Embedding(9, E, dtype=dtype), ids, dtype)
    for of_device in (ids, device.asarray(ids)):
        layer = Embedding(9, E, dtype=dtype)
        layer.to("cupy")
        y = layer(of_device)
        np.testing.assert_array_equal(at_home(y), host(layer.params["embeddings"])[ids])


@either_dtype
@pytest.mark.parametrize("implementation", ["fused", "textbook"])
def test_an_lstm_above_an_embedding(device, dtype, implementation):
    ids = np.random.default_rng(0).integers(0, 7, size=(B, T))
    dh = numbers(B, T, H, dtype=dtype, seed=4)
    found = []
    for name in "numpy", "cupy":
        embedding, lstm = Embedding(9, E, dtype=dtype), LSTM(H, dtype=dtype, return_sequences=True, seed=1)
        lstm.implementation = implementation
        for layer, shape in (embedding, (T,)), (lstm, (T, E)):
            layer.build(shape, np.random.default_rng(2))
            layer.to(name)
        rows, of_rows = embedding.forward(ids)
        h, cache = lstm.forward(rows, mask=MASKS["ends"])
        d_rows, grads = lstm.backward(backend.to(name, dh), cache)
        of_table = embedding.backward(d_rows, of_rows)[1]
        found.append([at_home(a) for a in (h, *grads.values(), of_table["embeddings"])])
    for ours, theirs in zip(*found, strict=True):
        assert error(theirs, ours) < TOLERANCE[dtype]


def test_a_stateful_layer_takes_its_states_along(device):
    x = numbers(B, T, E, dtype="float64")
    layer = LSTM(H, stateful=True, dtype="float64")
    layer.build((T, E), np.random.default_rng(0))
    twin = LSTM(H, stateful=True, dtype="float64")
    twin.build((T, E), np.random.default_rng(0))
    for name in "numpy", "cupy", "numpy", "cupy":
        layer.to(name)
        y = layer(x)
        assert all(backend.of(state) == name for state in layer.states)
        assert error(host(y), twin(x)) < 1e-11
