"""ONNX files, run in ONNX Runtime and compared with `predict`."""

import os

import numpy as np
import pytest
from exchange_models import IDS, E, H, T, V
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import Input, Model, Sequential, activations, layers
from scratchlstm.cells import CoupledLSTMCell, PeepholeLSTMCell, ProjectedLSTMCell
from scratchlstm.interop.onnx import to_onnx
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding

onnx = pytest.importorskip("onnx", reason="onnx is not installed here: the export is NOT tested")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed here: the export is NOT tested")


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": x})[0]


def assert_same_answers(model, path, x):
    ours, theirs = model.predict(x, verbose=0), run(path, x)
    assert (theirs.dtype, theirs.shape) == (ours.dtype, ours.shape)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6)


ELEMENTWISE = ["sigmoid", "tanh", "relu", "hard_sigmoid", "linear"]


_POOLINGS = ("GlobalAveragePooling1D", "GlobalMaxPooling1D", "MaskedGlobalMaxPooling1D")


_RECURRENT = {
    "LSTM": (LSTM, True),
    "GRU": (layers.GRU, True),
    "SimpleRNN": (layers.SimpleRNN, False),
    "GRUCell": (lambda *args, **own: _run_by_rnn(layers.GRUCell, *args, **own), True),
    "PeepholeLSTMCell": (lambda *args, **own: _run_by_rnn(PeepholeLSTMCell, *args, **own), True),
    "CoupledLSTMCell": (lambda *args, **own: _run_by_rnn(CoupledLSTMCell, *args, **own), True),
}  # -> (what makes one, whether it has gates)


def _run_by_rnn(cell, units, activation, use_bias, recurrent_activation, reset_after=None, **options):
    of_cell = {} if reset_after is None else {"reset_after": reset_after}
    return layers.RNN(cell(units, activation, recurrent_activation, use_bias, **of_cell), **options)


def _recurrent(draw, **options):
    """A recurrent layer, in either direction or in both, with any activations."""
    flag, elementwise = st.booleans(), st.sampled_from(ELEMENTWISE)
    name, units = draw(st.sampled_from(sorted(_RECURRENT))), draw(st.integers(1, 3))
    make, has_gates = _RECURRENT[name]
    options |= {"reset_after": draw(flag)} if "GRU" in name else {}

    def one(**more):
        # where f + i = 1, gates without bounds let the states grow beyond float32
        of_gates = elementwise if name == "LSTM" else st.sampled_from(["sigmoid", "hard_sigmoid"])
        gates = {"recurrent_activation": draw(of_gates)} if has_gates else {}
        return make(units, draw(elementwise), use_bias=draw(flag), **gates, **options, **more)

    if draw(flag):
        return one(go_backwards=draw(flag))
    back = one(go_backwards=True, name="back") if draw(flag) else None
    return layers.Bidirectional(one(), draw(st.sampled_from(["concat", "sum", "ave", "mul"])), backward_layer=back)


@st.composite
def _models(draw):
    flag, elementwise = st.booleans(), st.sampled_from(ELEMENTWISE)
    T_or_open, first_is_ids = draw(st.sampled_from([T, None])), draw(flag)
    model = Sequential(seed=(seed := draw(st.integers(0, 9))))
    if first_is_ids:
        if seed % 2:
            model.add(layers.WordDropout(0.5, input_shape=(T_or_open,)))
        model.add(Embedding(V, E, input_shape=(T_or_open,)))
    else:
        model.add(Input((T_or_open, E)))
    for _ in range(draw(st.integers(0, 2))):
        model.add(_recurrent(draw, return_sequences=True))
        model.add(draw(st.sampled_from([Dropout, layers.SpatialDropout1D]))(0.5))
    last = draw(st.sampled_from(["recurrent", "sequence", *_POOLINGS]))
    model.add(_recurrent(draw, return_sequences=last != "recurrent"))
    if last in _POOLINGS:
        model.add(getattr(layers, last)(keepdims=draw(flag)))
    if draw(flag):
        model.add(layers.LayerNormalization(center=draw(flag), scale=draw(flag), epsilon=0.25))
    if len(model.output_shape_for(model.input_shape)) == 2:
        model.add(layers.TimeDistributed(Dense(2, "tanh")))
        if None not in model.output_shape_for(model.input_shape):
            model.add(layers.Flatten())
    model.add(Dense(draw(st.integers(1, 3)), draw(elementwise | st.just("softmax")), draw(flag)))
    model.add(Activation(draw(elementwise | st.just("softmax"))))
    model.set_weights([np.clip(2 * w, -0.5, 0.5) for w in model.get_weights()])
    return model


@settings(
    deadline=None, max_examples=100, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(model=_models(), batch=st.integers(1, 4), steps=st.integers(1, 5), ids_dtype=st.sampled_from(["int32", "int64"]))
def test_onnx_runtime_gives_the_same_answers(tmp_path_factory, model, batch, steps, ids_dtype):
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    to_onnx(model, path, ids_dtype=ids_dtype)
    steps = model.input_shape[0] or steps
    rng = np.random.default_rng(batch)
    if isinstance(model.layers[0], Embedding | layers.WordDropout):
        x = rng.integers(0, V, size=(batch, steps)).astype(ids_dtype)
    else:
        x = rng.normal(size=(batch, steps, E)).astype("float32")
    assert_same_answers(model, path, x)


def tutorial():
    return Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H), Dense(1, "sigmoid")], seed=0)


def test_every_layer_goes_or_is_refused():
    """A new layer has to be put on either side, and into `_models`."""
    from scratchlstm.interop.onnx import _LAYERS

    assert {*layers.KNOWN} - {*_LAYERS} == {
        *("Masking", "Reshape", "RepeatVector"),
        *("Concatenate", "Add", "Multiply", "Dot", "Attention", "Network"),
    }


def test_what_the_file_says(tmp_path):
    to_onnx(tutorial(), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "scratchlstm"
    (x,), (y,) = model.graph.input, model.graph.output
    sizes = [[d.dim_param or d.dim_value for d in end.type.tensor_type.shape.dim] for end in (x, y)]
    assert (x.name, y.name, sizes) == ("input", "output", [["batch", T], ["batch", 1]])
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert_same_answers(tutorial(), tmp_path / "m.onnx", IDS)


def test_float64_without_an_lstm(tmp_path):
    model = Sequential([Dense(3, "tanh", input_shape=(2,), dtype="float64"), Activation("softmax", dtype="float64")])
    to_onnx(model, tmp_path / "m.onnx")
    assert_same_answers(model, tmp_path / "m.onnx", np.random.default_rng(0).normal(size=(4, 2)))


def test_layers_that_answer_nothing_of_their_own(tmp_path):
    model = Sequential([Dropout(0.5, input_shape=(3,))])
    to_onnx(model, tmp_path / "m.onnx")
    assert_same_answers(model, tmp_path / "m.onnx", np.ones((2, 3), "float32"))


class _Mine(Activation):
    pass


class _MyCell(layers.GRUCell):
    pass


_MINE = activations.Activation("mine", np.sin, np.cos)


_REFUSED = {
    "a state kept": (
        lambda: LSTM(2, stateful=True, input_shape=(T, E)),
        "it has stateful=True, which ONNX cannot express",
    ),
    "masks": (lambda: layers.Masking(input_shape=(T, E)), "it is a Masking, which cannot be exported to ONNX"),
    "masks of ids": (
        lambda: Embedding(V, E, mask_zero=True, input_shape=(T,)),
        "it has mask_zero=True, which ONNX cannot express",
    ),
    "a recurrence in each step": (
        lambda: layers.TimeDistributed(LSTM(2), input_shape=(T, 2, E)),
        "it contains a LSTM, which does not act only on the last axis",
    ),
    "two classes": (
        lambda: layers.Bidirectional(
            LSTM(2), backward_layer=layers.SimpleRNN(2, go_backwards=True), input_shape=(T, E)
        ),
        "it contains two layers of different classes",
    ),
    "two ways to reset": (
        lambda: layers.Bidirectional(
            layers.GRU(2),
            backward_layer=layers.GRU(2, reset_after=False, go_backwards=True, name="back"),
            input_shape=(T, E),
        ),
        "back has reset_after=False, which ONNX cannot express",
    ),
    "several cells": (
        lambda: layers.RNN([layers.GRUCell(2), layers.LSTMCell(2)], input_shape=(T, E)),
        "it runs several cells, which ONNX cannot express: make one layer for each",
    ),
    "a cell that ONNX does not have": (
        lambda: layers.RNN(ProjectedLSTMCell(3, 2), input_shape=(T, E)),
        "it runs a ProjectedLSTMCell, but ONNX only has LSTMCell, PeepholeLSTMCell, CoupledLSTMCell, GRUCell, Si",
    ),
    "a cell of one's own": (
        lambda: layers.RNN(_MyCell(2), input_shape=(T, E)),
        r"it runs a _MyCell, but ONNX only has .*: take the arrays with get_weights\(\) instead",
    ),
    "a function of one's own in a cell": (
        lambda: layers.RNN(layers.GRUCell(2, _MINE), input_shape=(T, E)),
        "it has activation=.*'mine'.*, which ONNX cannot express",
    ),
    "float64": (
        lambda: LSTM(2, dtype="float64", input_shape=(T, E)),
        "it computes in float64; ONNX Runtime's recurrences only support float32",
    ),
    "another class": (
        lambda: _Mine("tanh", input_shape=(T, E)),
        "it is a _Mine, which cannot be exported to ONNX; Embedding, LSTM",
    ),
}


@pytest.mark.parametrize(("make", "match"), _REFUSED.values(), ids=_REFUSED)
def test_what_is_refused(tmp_path, make, match):
    layer = make()
    layer.name = "it"
    with pytest.raises(ValueError, match=match):
        to_onnx(Sequential([layer]), tmp_path / "m.onnx")
    assert not os.listdir(tmp_path)


def test_models_that_are_refused(tmp_path):
    x = Input((3,))
    with pytest.raises(ValueError, match="has branches, a layer used several times"):
        to_onnx(Model(x, layers.Concatenate()([Dense(2)(x), Dense(2)(x)])), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="no parameters yet"):
        to_onnx(Sequential([Dense(2)]), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match='ids_dtype must be "int64" or "int32", not \'int8\''):
        to_onnx(tutorial(), tmp_path / "m.onnx", ids_dtype="int8")
    with pytest.raises(ValueError, match="compute in float32 and float64; for ONNX they must agree"):
        to_onnx(Sequential([Dense(2, input_shape=(3,)), Dense(2, dtype="float64")]), tmp_path / "m.onnx")
    assert not os.listdir(tmp_path)


def test_an_exception_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    to_onnx(tutorial(), tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    monkeypatch.setattr(onnx.checker, "check_model", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_onnx(tutorial(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert os.listdir(tmp_path) == ["m.onnx"]
