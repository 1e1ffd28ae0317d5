"""What `fit` takes as data: arrays of any library and lists of rows. Everything else is refused unread."""

import array
import collections

import numpy as np
import pytest

from scratchlstm import Input, Sequential
from scratchlstm.gradcheck import check_layer
from scratchlstm.layers import LSTM, Bidirectional, Concatenate, Dense, Embedding, TimeDistributed
from scratchlstm.preprocessing.sequence import pad_sequences

X, Y = np.arange(8.0).reshape(4, 2) / 8, np.array([0, 1, 0, 1])


def _model():
    model = Sequential([Dense(1, "sigmoid", input_shape=(2,))], seed=0)
    model.compile("sgd", "binary_crossentropy")
    return model


class Unread:
    """Fails any test that looks into it; endless if read item by item."""

    def __len__(self):
        return 4

    def _read(self, *_):
        raise AssertionError("it was read")


class Items(Unread):
    """As a map-style data set of PyTorch's, or a `PyDataset` of Keras'."""

    def __getitem__(self, index):
        self._read()


class Pieces(Unread):
    """As a `DataLoader`, or a data set of TensorFlow's."""

    def __iter__(self):
        self._read()


def _generator():
    yield Unread()._read()


ONE_BY_ONE = r"must be an array or a list of rows, not a {}, whose samples must be fetched one by one; .*np\.stack"
_SOURCES = {
    "items": (Items(), ONE_BY_ONE.format("Items") + r"\(\[d\[i\]\[0\] for i in range\(len\(d\)\)"),
    "pieces": (Pieces(), ONE_BY_ONE.format("Pieces") + r"\(\[x for x, y in d\]\)"),
    "a generator": (_generator(), ONE_BY_ONE.format("generator")),
    "an iterator": (zip(X, Y, strict=True), ONE_BY_ONE.format("zip")),
    "a set": ({1, 2}, ONE_BY_ONE.format("set")),
    "a dict": ({"x": X}, "contains objects, in a dict; pass the array itself"),
    "in a list": ([Items()] * 4, ONE_BY_ONE.format("Items")),
    "in lists": ([[0.5, Items()]] * 4, ONE_BY_ONE.format("Items")),
    "in a tuple": ((Items(), Items()), ONE_BY_ONE.format("Items")),
}


@pytest.mark.parametrize(("source", "match"), _SOURCES.values(), ids=_SOURCES)
@pytest.mark.parametrize("argument", ["x", "y", "sample_weight", "validation y", "predict x"])
def test_sources_that_are_no_arrays(source, match, argument):
    model, match = _model(), f"{argument.removeprefix('predict ')} {match}"
    data = {"validation_data": (X, source)} if argument == "validation y" else {argument: source}
    with pytest.raises(TypeError, match=match):
        model.predict(source, verbose=0) if argument == "predict x" else model.fit(**{"x": X, "y": Y} | data, verbose=0)


@pytest.mark.parametrize("source", [Items(), Pieces()])
def test_a_source_alone(source):
    with pytest.raises(TypeError, match="x must be an array or a list of rows"):
        _model().fit(source, verbose=0)


@pytest.mark.parametrize("both", [(X, Y), (X[:, 0], Y), (X, Y, np.ones(4))])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_x_and_y_in_one_tuple(both, method):
    with pytest.raises(ValueError, match="y is missing: x is a tuple; pass its parts as separate arguments"):
        getattr(_model(), method)(both, verbose=0)


@pytest.mark.parametrize("y", [Y, Y[:, None], Y.tolist()])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_a_tuple_in_the_place_of_x(method, y):
    args = ((X, y),) if method == "predict" else ((X, y), Y)
    with pytest.raises(ValueError, match=r"^x looks like a tuple \(x, y\); pass its parts as separate arguments"):
        getattr(_model(), method)(*args, verbose=0)


def test_a_tuple_of_rows_of_different_lengths_is_to_be_padded():
    with pytest.raises(ValueError, match="^x has rows of different lengths; .*pad_sequences"):
        _model().predict((np.ones(2), np.ones(3)), verbose=0)


@pytest.mark.parametrize(("thing", "kind"), [(Input((2,)), "Input"), (Dense(1), "Dense")])
def test_what_holds_no_data(thing, kind):
    with pytest.raises(TypeError, match=f"^x must be an array or a list of rows; {kind} holds no data"):
        _model().predict(thing, verbose=0)
    with pytest.raises(TypeError, match=f"^y must be an array or a list of rows; {kind} holds no data"):
        _model().fit(X, thing, verbose=0)


SERIES, PARAMS, DOUBLE = np.ones((4, 3, 2)), ("kernel", "bias"), LSTM(2, dtype="float64")


def _series_model():
    model = Sequential([Input((3, 2)), LSTM(2), Dense(1)], seed=0)
    model.forward(SERIES)
    return model


def _called(layer):
    layer(SERIES)
    return layer


def _back(layer, dy):
    _, cache = layer.forward(SERIES)
    layer.backward(dy, cache)


_BOUNDARIES = {
    "layer": ("x", LSTM(2)),
    "layer of ids": ("x", Embedding(3, 2)),
    "layer of several": ("x", lambda source: Concatenate()([SERIES, source])),
    "infer": ("x", LSTM(2).infer),
    "model": ("x", lambda source: _series_model()(source)),
    "forward": ("x", lambda source: _series_model().forward(source)),
    "weights of a model": (
        "weight lstm/kernel of sequential",
        lambda source: _series_model().set_weights([source] * 5),
    ),
    "weights of a layer": ("weight kernel of lstm", lambda source: _called(LSTM(2)).set_weights([source] * 3)),
    "weights to build with": (
        "weight kernel of dense",
        lambda source: Dense(1).build((3,), None, dict.fromkeys(PARAMS, source)),
    ),
    "mask": ("mask", lambda source: LSTM(2)(SERIES, mask=source)),
    "mask of a wrapper": ("mask", lambda source: TimeDistributed(LSTM(2))(np.ones((4, 3, 2, 2)), mask=source)),
    "mask for both ends": ("mask", lambda source: Bidirectional(LSTM(2))(SERIES, mask=source)),
    "states": ("initial_state of lstm", lambda source: LSTM(2)(SERIES, initial_state=[source] * 2)),
    "states of both ends": (
        "initial_state of forward_lstm",
        lambda source: Bidirectional(LSTM(2))(SERIES, initial_state=[source] * 4),
    ),
    "gradient": ("dL/dy", lambda source: _back(LSTM(2), source)),
    "gradient of states": ("dL/dy", lambda source: _back(LSTM(2, return_state=True), (None, source, source))),
    "gradient of a model": ("dL/dy", lambda source: _back(_series_model(), source)),
    "check_layer": ("x", lambda source: check_layer(DOUBLE, source)),
    "check_layer's mask": ("mask", lambda source: check_layer(DOUBLE, SERIES, mask=source)),
    "check_layer's states": (
        "initial_state of LSTM",
        lambda source: check_layer(DOUBLE, SERIES, initial_state=[source] * 2),
    ),
}


@pytest.mark.parametrize("make", [Items, Pieces, _generator], ids=["items", "pieces", "generator"])
@pytest.mark.parametrize(("argument", "use"), _BOUNDARIES.values(), ids=_BOUNDARIES)
def test_sources_are_read_by_no_layer_either(argument, use, make):
    source = make()
    with pytest.raises(TypeError, match=f"^{argument} " + ONE_BY_ONE.format(type(source).__name__)):
        use(source)


def test_sequences_to_pad_are_not_read_without_end():
    for sequences, match in (Items(), "sequences must be"), ([[1], Items()], r"sequences\[1\] must be"):
        with pytest.raises(TypeError, match=match):
            pad_sequences(sequences)


class Table:
    """What only knows how to become an array."""

    def __array__(self, dtype=None, copy=None):
        return X.astype(dtype or X.dtype)


class Rows(collections.UserList):
    """A sequence by its base class."""


_ACCEPTED = {
    "lists": X.tolist(),
    "a tuple of arrays": tuple(X),
    "a list of tuples": [tuple(row) for row in X.tolist()],
    "lists of NumPy's numbers": [list(row) for row in X],
    "a table": Table(),
    "a list of arrays and lists": [X[0], X[1].tolist(), tuple(X[2]), array.array("d", X[3])],
    "a sequence": Rows(X.tolist()),
    "a deque": collections.deque(X.tolist()),
    "a buffer": memoryview(X),
    "float16": X.astype(np.float16),
}


@pytest.mark.parametrize("x", _ACCEPTED.values(), ids=_ACCEPTED)
def test_what_can_be_one_array_is_one(x):
    np.testing.assert_array_equal(_model().predict(x, verbose=0), _model().predict(X, verbose=0))
    assert _model().fit(x, Y.tolist(), verbose=0).history == _model().fit(X, Y, verbose=0).history


def test_a_range_and_a_list_within_itself():
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 1)), range(4), verbose=0)
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="y has rows of different lengths|y contains objects"):
        model.fit(np.ones((4, 1)), endless, verbose=0)
