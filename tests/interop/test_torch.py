"""State dicts and `.safetensors` files of PyTorch, without PyTorch. `test_torch_live.py` has the live comparisons."""

import json
import os
import pickle
import random
import sys

import numpy as np
import pytest
from exchange_models import IDS, TORCH_MODELS, E, H, T, V
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import Input, Model, Sequential
from scratchlstm.cells import CoupledLSTMCell, ProjectedLSTMCell
from scratchlstm.interop.torch import from_torch, load_torch_weights, save_safetensors
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    GRUCell,
    LSTMCell,
    SimpleRNN,
)

safetensors = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed here: its files are NOT tested"
)

REFUSED = r"safetensors' cannot be converted from PyTorch: (?s:.*)"
RNG = np.random.default_rng(0)


def same_bits(ours, theirs):
    return [(w.dtype, w.shape, w.tobytes()) for w in ours] == [(w.dtype, w.shape, w.tobytes()) for w in theirs]


def lstm_state(prefix="lstm.", features=E, units=H, bias=True, dtype="float32", level=0, gates=4, projection=None):
    rows = gates * units
    shapes = {"weight_ih": (rows, features), "weight_hh": (rows, projection or units)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
    shapes |= {"weight_hr": (projection, units)} if projection else {}
    return {f"{prefix}{name}_l{level}": RNG.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def gru_state(prefix="gru.", **options):
    return lstm_state(prefix, **options, gates=3)


def matrix(rows, columns, dtype="float32"):
    return RNG.normal(size=(rows, columns)).astype(dtype)


def linear_state(prefix="fc.", features=H, units=2):
    return {f"{prefix}weight": matrix(units, features), f"{prefix}bias": matrix(1, units)[0]}


def state_of_all():
    return {"embedding.weight": matrix(V, E), **lstm_state(), **linear_state()}


@pytest.fixture
def write(tmp_path):
    """Write a state dict to a file."""

    def write(state, name="m.safetensors"):
        path = tmp_path / name
        path.write_bytes(safetensors.save(state))
        return path

    return write


# --- files that PyTorch wrote -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCH_MODELS)
def test_a_file_of_pytorch_gives_the_same_answers(exchange, answers, name):
    model = from_torch(exchange / f"{name}.safetensors", activation="sigmoid")
    np.testing.assert_allclose(model.predict(IDS, verbose=0), answers[name], rtol=0, atol=1e-6)
    levels = ["lstm", "lstm_1"][: TORCH_MODELS[name]["layers"]]
    assert [layer.name for layer in model.layers] == ["embedding", *levels, "fc", "activation"]
    assert model.input_shape == (None,)
    ours = Sequential([Embedding(V, E, input_shape=(T,)), Dropout(0.5)])
    for level in levels:
        cell = LSTM(H, return_sequences=level != levels[-1])
        ours.add(Bidirectional(cell) if "bidirectional" in name else cell)
    ours.add(Dense(2, "sigmoid"))
    load_torch_weights(ours, exchange / f"{name}.safetensors")
    assert same_bits(ours.get_weights(), model.get_weights())


def test_the_equations(exchange):
    """By hand for one step: PyTorch's own i f g o, its two biases, and its transposed matrices."""
    w = lstm_state("", dtype="float64")
    model = from_torch(w)
    x = RNG.normal(size=(2, 1, E))
    z = x[:, 0] @ w["weight_ih_l0"].T + w["bias_ih_l0"] + w["bias_hh_l0"]
    i, _, g, o = np.split(z, 4, axis=1)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    np.testing.assert_allclose(model.predict(x, verbose=0), sigmoid(o) * np.tanh(sigmoid(i) * np.tanh(g)), rtol=1e-12)


def test_the_equations_of_a_gru():
    """By hand for two steps: PyTorch's r z n, and its bias of h inside of what r multiplies."""
    w = gru_state("", dtype="float64")
    x = RNG.normal(size=(2, 2, E))
    sigmoid, h = lambda z: 1 / (1 + np.exp(-z)), np.zeros((2, H))
    for t in range(2):
        x_r, x_z, x_n = np.split(x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, axis=1)
        h_r, h_z, h_n = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, axis=1)
        z, n = sigmoid(x_z + h_z), np.tanh(x_n + sigmoid(x_r + h_r) * h_n)
        h = (1 - z) * n + z * h
    np.testing.assert_allclose(from_torch(w).predict(x, verbose=0), h, rtol=1e-12)


# --- how names are read -----------------------------------------------------------------------------------------------


def kinds(model):
    return [(type(layer).__name__, layer.name) for layer in model.layers]


def test_a_state_dict_keeps_its_order():
    state = {"z.weight": matrix(V, E), **lstm_state("y.", E, 3), **lstm_state("x.", 3, H)}
    state |= linear_state("w.", H, 5) | {"v.weight": matrix(2, 5)}
    model = from_torch(state)
    assert kinds(model) == [("Embedding", "z"), ("LSTM", "y"), ("LSTM", "x"), ("Dense", "w"), ("Dense", "v")]
    assert [layer.return_sequences for layer in model.layers[1:3]] == [True, False]
    assert not model.layers[-1].use_bias
    assert same_bits(model.get_weights()[-1:], [np.array(state["v.weight"].T, order="C")])
    every = from_torch(state, return_sequences=True, input_shape=(T,))
    assert every.output_shape_for(every.input_shape) == (T, 2)


def test_a_file_is_put_in_order(write):
    state = {"a.weight": matrix(2, 9), "a.bias": matrix(1, 2)[0], "emb.weight": matrix(V, E)}
    state |= lstm_state("rnn.10.", 3, H) | lstm_state("rnn.9.", E, 3)
    model = from_torch(write(dict(state) | linear_state("a.", H, 2)))
    assert kinds(model) == [("Embedding", "emb"), ("LSTM", "rnn_9"), ("LSTM", "rnn_10"), ("Dense", "a")]


def test_a_matrix_in_a_file_is_what_fits(write):
    for width, wanted in ((E, [("Embedding", "a"), ("LSTM", "lstm")]), (H, [("LSTM", "lstm"), ("Dense", "a")])):
        assert kinds(from_torch(write({"a.weight": matrix(9, width), **lstm_state()}))) == wanted


def test_recurrences_of_a_file_are_told_by_their_shapes(write):
    state = gru_state("rnn.1.") | lstm_state("rnn.2.", H, projection=3) | lstm_state("rnn.3.", 3, 2, gates=1)
    model = from_torch(write(state))
    assert kinds(model) == [("GRU", "rnn_1"), ("RNN", "rnn_2"), ("SimpleRNN", "rnn_3")]
    assert model.layers[1].cell.get_config()["projection"] == 3
    with pytest.raises(ValueError, match=REFUSED + "does not tell the order of (gru, lstm|lstm, gru)"):
        from_torch(write(lstm_state() | gru_state(features=H)))


def test_numbered_modules_go_into_a_model_of_ones_own_in_their_order(write):
    state = lstm_state("rnn.", H, H) | {k: v for n in (10, 9, 2) for k, v in linear_state(f"fc.{n}.", H, H).items()}
    model = Sequential([LSTM(H, input_shape=(T, H)), Dense(H), Dense(H), Dense(H)])
    load_torch_weights(model, write(state))
    for layer, number in zip(model.layers[1:], (2, 9, 10), strict=True):
        assert np.array_equal(layer.params["bias"], state[f"fc.{number}.bias"])
    with pytest.raises(ValueError, match=REFUSED + "does not tell the order of"):
        from_torch(write(linear_state("a1b.", 2, 2) | linear_state("a_1b.", 2, 2)))


def test_modules_alone():
    assert kinds(from_torch(lstm_state(""))) == [("LSTM", "lstm")]
    assert from_torch(lstm_state("")).input_shape == (None, E)
    model = from_torch(linear_state("", 3, 2))
    assert kinds(model) == [("Dense", "dense")]
    assert model.input_shape == (3,)


def test_float64_stays(write):
    state = {"e.weight": matrix(V, E, "float64"), **lstm_state(dtype="float64")}
    for source in (state, write(state)):
        model = from_torch(source, activation="tanh")
        assert {layer.dtype for layer in model.layers} == {"float64"}
        assert {w.dtype for w in model.get_weights()} == {np.dtype("float64")}


def test_the_arrays_given_are_neither_changed_nor_shared():
    state = state_of_all()
    before = {name: array.copy() for name, array in state.items()}
    model = from_torch(state)
    model.set_weights([w + 1 for w in model.get_weights()])
    assert all(np.array_equal(state[name], before[name]) for name in state)


# --- into a model of one's own ----------------------------------------------------------------------------------------


def test_names_come_first(write):
    state = {"b.weight": matrix(V, E), **lstm_state(), "second.weight": matrix(H, H), "a.weight": matrix(H, H)}
    state |= {"second.bias": np.zeros(H, "f4"), "a.bias": np.ones(H, "f4")}
    model = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H), Dense(H, name="a"), Dense(H, name="second")])
    for source in (state, write(state)):
        load_torch_weights(model, source)
        assert model.layers[2].params["bias"].tolist() == [1] * H
        assert same_bits([model.layers[3].params["kernel"]], [np.array(state["second.weight"].T, order="C")])


def test_a_matrix_is_what_the_model_needs(write):
    """Only the model can tell an Embedding from a Linear without bias."""
    state = {"a.weight": matrix(V, E), **lstm_state(units=H), "c.weight": matrix(2, H)}
    model = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H), Dense(2, use_bias=False)])
    for source in (state, write(state), dict(reversed(state.items()))):
        load_torch_weights(model, source)
        assert same_bits(model.get_weights()[:1], [state["a.weight"]])
        assert same_bits(model.get_weights()[-1:], [np.array(state["c.weight"].T, order="C")])


def test_what_does_not_fit_leaves_the_model_as_it_was(write):
    model = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H), Dense(2)])
    before = model.get_weights()
    good = state_of_all()
    wrong = {
        "nothing fits dense": {name: array for name, array in good.items() if "fc" not in name},
        "nothing fits lstm, whose weights have the shapes .*unused: ": good | lstm_state(units=3),
        "no layer for extra": good | {"extra.weight": matrix(2, 2), "extra.bias": matrix(1, 2)[0]},
        "not finite numbers": good | {"fc.bias": np.array([1, np.nan], "f4")},
    }
    for match, state in wrong.items():
        with pytest.raises(ValueError, match=match):
            load_torch_weights(model, state)
        with pytest.raises(ValueError, match=REFUSED + match):
            load_torch_weights(model, write(state))
        assert same_bits(model.get_weights(), before)
    with pytest.raises(ValueError, match="no parameters yet"):
        load_torch_weights(Sequential([Dense(2)]), good)
    load_torch_weights(model, good)
    assert not same_bits(model.get_weights(), before)


def test_a_recurrence_goes_into_any_layer_with_its_equations():
    state = gru_state(bias=False)
    for layer in (GRU(H, use_bias=False), RNN(GRUCell(H, use_bias=False))):
        layer.given_shape = (T, E)
        model = Sequential([layer])
        load_torch_weights(model, state)
        assert same_bits(model.get_weights(), from_torch(state).get_weights())
    before = Sequential([GRU(H, use_bias=False, reset_after=False, input_shape=(T, E), name="before")])
    with pytest.raises(ValueError, match="before has reset_after=False, which PyTorch cannot express"):
        load_torch_weights(before, state)
    coupled = Sequential([RNN(CoupledLSTMCell(H, use_bias=False), input_shape=(T, E))])  # of the same shapes
    with pytest.raises(ValueError, match="nothing fits rnn"):
        load_torch_weights(coupled, state)


def test_two_that_fit_are_not_guessed_between(write):
    state = lstm_state() | linear_state("hidden.", H, H) | linear_state("again.", H, H)
    model = Sequential([LSTM(H, input_shape=(T, E)), Dense(H), Dense(H)])
    load_torch_weights(model, state)  # a state dict has an order
    with pytest.raises(
        ValueError,
        match=REFUSED + "does not tell the order of .*(again, hidden|hidden, again); .*named like the modules",
    ):
        load_torch_weights(model, write(state))
    with pytest.raises(ValueError, match=REFUSED + "does not tell the order of"):
        from_torch(write(state))
    with pytest.raises(ValueError, match=REFUSED + "each of .* may be an Embedding or a Linear without bias"):
        from_torch(write({**lstm_state(), "a.weight": matrix(V, E), "b.weight": matrix(2, H)}))


# --- what is refused --------------------------------------------------------------------------------------------------

_STATES = {
    "nothing": ({}, "no Embedding, LSTM, GRU, RNN or Linear"),
    "another weight": ({"norm.running_mean": np.zeros(3)}, "'norm.running_mean' is not a weight of"),
    "a projection of another size": (
        lstm_state() | {"lstm.weight_hr_l0": matrix(2, H)},
        r"weight_hh_l0 has shape \(16, 4\), but LSTM needs \(4H, P\) beside a weight_hr_l0 \(P, H\)",
    ),
    "a projection in one level": (
        lstm_state(projection=3) | lstm_state(features=3, level=1),
        "LSTM 'lstm': it has no weight_hr_l1",
    ),
    "a projected GRU": (gru_state(projection=2), r"LSTM 'gru': weight_hh_l0 has shape \(12, 2\)"),
    "other gates": (lstm_state(gates=2), r"LSTM 'lstm': .*\(8, 4\), but LSTM needs \(4H, H\)"),
    "an LSTM on a GRU": (
        gru_state() | lstm_state("gru.", H, level=1),
        r"GRU 'gru': weight_hh_l1 has shape \(16, 4\), but GRU needs \(3H, H\)",
    ),
    "a GRU without a bias": (
        {k: v for k, v in gru_state().items() if "bias_hh" not in k},
        "GRU 'gru': it has no bias_hh_l0",
    ),
    "a GRU with a bias too long": (
        gru_state() | {"gru.bias_hh_l0": np.zeros(16, "f4")},
        r"GRU 'gru': bias_hh_l0 has shape \(16,\), which does not match weight_hh_l0 \(12, 4\)",
    ),
    "a GRU with a kernel of fewer gates": (
        gru_state() | {"gru.weight_ih_l0": matrix(8, E)},
        r"GRU 'gru': weight_ih_l0 has shape \(8, 5\), which does not match",
    ),
    "a vector for a kernel": (gru_state() | {"gru.weight_ih_l0": np.zeros(12, "f4")}, r"ih_l0 has shape \(12,\)"),
    "an RNN with a level of other size": (
        lstm_state("rnn.", gates=1) | lstm_state("rnn.", 3, level=1, gates=1),
        r"kernel of rnn_1 has shape \(4, 4\)",
    ),
    "half a GRU": ({"gru.weight_ih_l0": matrix(9, 2)}, "LSTM 'gru': it has no weight_hh_l0"),
    "a bias missing": ({k: v for k, v in lstm_state().items() if "bias_hh" not in k}, "'lstm': it has no bias_hh_l0"),
    "a level missing": (lstm_state() | lstm_state(level=2), "LSTM 'lstm': it has no weight_ih_l1"),
    "a vector for a matrix": ({"fc.weight": np.zeros(3, "f4")}, r"'fc' has weight \(3,\)"),
    "a bias alone": ({"fc.bias": np.zeros(3, "f4")}, "'fc' has bias"),
    "a bias of another size": ({"fc.weight": matrix(2, 3), "fc.bias": np.zeros(3, "f4")}, "bias of fc has shape"),
    "four dimensions": ({"fc.weight": np.zeros((1, 2, 3, 4), "f4")}, "'fc' has weight"),
    "a level that does not fit": (lstm_state() | lstm_state(level=1), r"kernel of lstm_1 has shape \(4, 16\)"),
    "two dtypes": (lstm_state() | {"lstm.bias_hh_l0": np.zeros(4 * H)}, "'lstm': its weights are float32, float64"),
    "half precision": ({"fc.weight": matrix(2, 3, "float16")}, "fc.weight is float16; it must be float32 or float64"),
    "integers": ({"fc.weight": matrix(2, 3).astype(int)}, "fc.weight is int64"),
    "NaN": ({"fc.weight": np.full((2, 3), np.nan, "f4")}, "not finite numbers"),
    "an empty matrix": ({"fc.weight": matrix(0, 3)}, "Linear 'fc': units must be"),
}  # fmt: skip


@pytest.mark.parametrize(("state", "match"), _STATES.values(), ids=_STATES)
def test_states_that_are_refused(write, state, match):
    with pytest.raises(ValueError, match=match):
        from_torch(state)
    with pytest.raises(ValueError, match=REFUSED + match):
        from_torch(write(state))


def test_sources_that_are_none(tmp_path):
    for source in (3, [1], None):
        with pytest.raises(TypeError, match="a module, a state dict or a .safetensors file, not"):
            from_torch(source)
    with pytest.raises(ValueError, match="1 is not a weight of"):
        from_torch({1: np.zeros((2, 2), "f4")})
    with pytest.raises(ValueError, match="weight is object"):
        from_torch({"weight": np.array([object()])})
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        from_torch(tmp_path / "missing.safetensors")


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.pt", pickle.dumps(_Evil(), protocol=2)),
        ("m.safetensors", pickle.dumps(_Evil(), protocol=2)),
        ("m.safetensors", b"PK\x03\x04 and so on"),
        ("m.pth", b"anything"),
    ],
)
def test_pickles_are_never_loaded(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    for load in (from_torch, lambda path: load_torch_weights(Sequential([Dense(1, input_shape=(1,))]), path)):
        with pytest.raises(
            ValueError, match=rf"{name}' cannot be converted .* never loaded.*safetensors.torch.save_file"
        ):
            load(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_without_safetensors(tmp_path, exchange, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="safetensors"):
        from_torch(exchange / "torch.safetensors")
    with pytest.raises(ImportError, match="safetensors"):
        save_safetensors(Sequential([Dense(1, input_shape=(1,))]), tmp_path / "m")
    assert not os.listdir(tmp_path)


# --- out and back -----------------------------------------------------------------------------------------------------


@st.composite
def _models(draw):
    flag = st.booleans()
    dtype = draw(st.sampled_from(["float32", "float64"]))
    model = Sequential([Embedding(V, 3, input_shape=(T,), dtype=dtype)], seed=draw(st.integers(0, 9)))
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from([LSTM, GRU, SimpleRNN]))
        cell = kind(draw(st.integers(1, 3)), use_bias=draw(flag), return_sequences=True, dtype=dtype)
        model.add(Bidirectional(cell) if draw(flag) else cell)
        model.add(Dropout(0.5, dtype=dtype))
    model.add(LSTM(2, dtype=dtype))
    for _ in range(draw(st.integers(0, 2))):
        model.add(Dense(draw(st.integers(1, 3)), use_bias=draw(flag), dtype=dtype))
    if draw(flag):
        model.set_weights([-0.0 * w for w in model.get_weights()])
    return model


@settings(deadline=None, max_examples=60, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=_models())
def test_weights_come_back_bit_for_bit(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("torch") / "m.safetensors"
    save_safetensors(model, path)
    loaded = from_torch(path)
    assert [name for name in kinds(loaded) if name[0] != "Dropout"] == [
        name for name in kinds(model) if name[0] != "Dropout"
    ]
    assert same_bits(loaded.get_weights(), model.get_weights())
    assert np.array_equal(loaded.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    before = model.get_weights()
    model.set_weights([w + 1 for w in before])
    load_torch_weights(model, path)
    assert same_bits(model.get_weights(), before)


def test_what_pytorch_gets(tmp_path):
    model = Sequential([LSTM(2, input_shape=(T, 3)), Dense(4, "tanh")])
    save_safetensors(model, tmp_path / "m")
    state = safetensors.load_file(tmp_path / "m")
    kernel, recurrent, bias = model.layers[0].get_weights()
    assert sorted(state) == [
        "dense.bias",
        "dense.weight",
        *(f"lstm.{k}_{s}_l0" for k in ("bias", "weight") for s in ("hh", "ih")),
    ]
    assert np.array_equal(state["lstm.weight_ih_l0"], kernel.T)
    assert np.array_equal(state["lstm.weight_hh_l0"], recurrent.T)
    assert np.array_equal(state["lstm.bias_ih_l0"], bias)
    assert not state["lstm.bias_hh_l0"].any()
    assert np.array_equal(state["dense.weight"], model.layers[1].params["kernel"].T)


class _Own(LSTMCell):
    pass


class _OwnLayer(GRU):
    pass


_OURS = {
    "another activation": (
        lambda: LSTM(2, activation="relu"),
        "it has activation='relu', which PyTorch cannot express",
    ),
    "other gates": (lambda: LSTM(2, recurrent_activation="hard_sigmoid"), "it has recurrent_activation='hard_sigmoid'"),
    "a dot": (lambda: LSTM(2, name="a.b"), "whose names have no dot"),
    "go_backwards": (lambda: LSTM(2, go_backwards=True), "it has go_backwards=True, which PyTorch cannot express"),
    "a state kept": (lambda: LSTM(2, stateful=True), "it has stateful=True, which PyTorch cannot express"),
    "a sum": (
        lambda: Bidirectional(LSTM(2), merge_mode="sum"),
        "it has merge_mode='sum', which PyTorch cannot express",
    ),
    "directions of different kinds": (
        lambda: Bidirectional(LSTM(2), backward_layer=GRU(2, go_backwards=True, name="back")),
        "back and forward_lstm differ in class or size, which PyTorch cannot express",
    ),
    "projections of different cells": (
        lambda: Bidirectional(
            RNN(ProjectedLSTMCell(4, 2)), backward_layer=RNN(ProjectedLSTMCell(3, 2), go_backwards=True, name="back")
        ),
        "back and forward_rnn differ in class or size",
    ),
    "two activations": (
        lambda: Bidirectional(SimpleRNN(2), backward_layer=SimpleRNN(2, "relu", go_backwards=True, name="back")),
        "back has activation='relu', which PyTorch cannot express",
    ),
    "a reset before the product": (lambda: GRU(2, reset_after=False), "it has reset_after=False, which PyTorch cannot"),
    "the same in a cell": (lambda: RNN(GRUCell(2, reset_after=False)), "it has reset_after=False, which PyTorch"),
    "gates of another kind": (lambda: RNN(LSTMCell(2, "relu")), "it has activation='relu', which PyTorch cannot"),
    "another cell": (
        lambda: RNN(CoupledLSTMCell(2)),
        r"it runs a CoupledLSTMCell, but PyTorch only has LSTMCell, ProjectedLSTMCell, .*get_weights\(\) instead",
    ),
    "a cell of one's own": (lambda: RNN(_Own(2)), "it runs a _Own, but PyTorch only has LSTMCell"),
    "several cells": (lambda: RNN([LSTMCell(2), GRUCell(2)]), "it runs several cells, .*: make one layer for each"),
    "a layer of one's own": (
        lambda: _OwnLayer(2),
        "it is a _OwnLayer of your own, which cannot be converted to PyTorch",
    ),
    "a backward layer of its own": (
        lambda: Bidirectional(LSTM(2), backward_layer=LSTM(2, activation="relu", go_backwards=True, name="back")),
        "back has activation='relu', which PyTorch cannot express",
    ),
    "one bias": (
        lambda: Bidirectional(LSTM(2), backward_layer=LSTM(2, use_bias=False, go_backwards=True, name="back")),
        "back has use_bias=False, which PyTorch cannot express",
    ),
    "pooling": (GlobalMaxPooling1D, "it is a GlobalMaxPooling1D, which cannot be converted to PyTorch; only Embedding"),
}


@pytest.mark.parametrize(("make", "match"), _OURS.values(), ids=_OURS)
def test_layers_that_pytorch_does_not_have(tmp_path, make, match):
    layer = make()
    if "dot" not in match:
        layer.name = "it"
    layer.given_shape = (T, 3)
    with pytest.raises(ValueError, match=match):
        save_safetensors(Sequential([layer]), tmp_path / "m")
    assert not os.listdir(tmp_path)


def test_padding_that_is_masked_does_not_go(tmp_path):
    with pytest.raises(ValueError, match="embedding has mask_zero=True, which PyTorch cannot express"):
        save_safetensors(Sequential([Embedding(V, E, mask_zero=True, input_shape=(T,))]), tmp_path / "m")


def test_what_acts_in_training_alone_is_left_out(tmp_path):
    """It has no part in what the model answers, and PyTorch has another place for it."""
    cell = LSTM(2, dropout=0.5, recurrent_dropout=0.5, kernel_regularizer="l2", bias_constraint="non_neg", seed=1)
    model = Sequential([Bidirectional(cell, input_shape=(T, 3))])
    save_safetensors(model, tmp_path / "m")
    assert same_bits(from_torch(tmp_path / "m").get_weights(), model.get_weights())


def test_a_model_with_branches_is_refused(tmp_path):
    x = Input((3,))
    model = Model(x, Concatenate()([Dense(2)(x), Dense(2)(x)]))
    with pytest.raises(ValueError, match="has branches, a layer used several times"):
        save_safetensors(model, tmp_path / "m")
    with pytest.raises(ValueError, match="has branches, a layer used several times"):
        load_torch_weights(model, linear_state())


def test_a_layer_of_ones_own_does_not_go(tmp_path):
    class Mine(Activation):
        pass

    with pytest.raises(ValueError, match="mine is a Mine of your own, which cannot be converted to PyTorch"):
        save_safetensors(Sequential([Mine("tanh", input_shape=(3,))]), tmp_path / "m")
    with pytest.raises(ValueError, match="no parameters yet"):
        save_safetensors(Sequential([Dense(1)]), tmp_path / "m")


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_header_whose_length_looks_like_a_pickle(tmp_path):
    """Its first bytes are the length: 640 is b"\x80\x02", with which pickles begin."""
    weight, path = matrix(2, 3), tmp_path / "m.safetensors"
    header = {"fc.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    for length in (640, 0x4B50):
        text = json.dumps(header).ljust(length).encode()
        path.write_bytes(length.to_bytes(8, "little") + text + weight.tobytes())
        assert np.array_equal(from_torch(path).get_weights()[0], weight.T)


def test_an_order_that_is_none(tmp_path):
    path = tmp_path / "m.safetensors"
    for order in ("{]", "[]]", '["other"]', "3", "null", '[["fc"]]', 10**5 * "["):
        path.write_bytes(safetensors.save({"fc.weight": matrix(2, 3)}, metadata={"modules": order}))
        with pytest.raises(ValueError, match=REFUSED):
            from_torch(path)


def test_hostile_headers(tmp_path):
    path = tmp_path / "m.safetensors"
    tensor = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    headers = [
        {"fc.weight": tensor | {"shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}},
        {"fc.weight": tensor | {"shape": [10**9, 10**9]}},
        {"fc.weight": tensor | {"data_offsets": [-24, 0]}},
        {"fc.weight": tensor | {"data_offsets": [24, 0]}},
        {"fc.weight": tensor | {"dtype": "BF16", "data_offsets": [0, 12]}},
        {"fc.weight": tensor | {"dtype": "OBJECT"}},
        {"fc.weight": tensor, "fc2.weight": tensor},
        {"../fc.weight": tensor | {"shape": [24], "dtype": "U8"}},
        [1],
    ]
    for header in headers:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
        with pytest.raises(ValueError, match=REFUSED):
            from_torch(path)
    for length in (0, 1, 2**40, 2**63):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(ValueError, match=REFUSED):
            from_torch(path)


def test_a_damaged_file_is_refused_or_gives_finite_weights(tmp_path, exchange):
    """Its numbers have no checksum, so that a changed one is a number; all else is noticed."""
    content, draw, refused = (exchange / "torch.safetensors").read_bytes(), random.Random(0), 0
    path, header = tmp_path / "m.safetensors", int.from_bytes(content[:8], "little") + 8
    for number in range(1500):
        data, place = bytearray(content), draw.randrange(header if number % 2 else len(content))
        if number % 5 == 0:
            del data[place:]
        elif number % 5 == 1:
            data[place : place + 9] = draw.randbytes(9)
        else:
            data[place] ^= 1 << draw.randrange(8)
        path.unlink(missing_ok=True)  # writing over it waits for the disk, each time
        path.write_bytes(data)
        try:
            model = from_torch(path)
        except ValueError as error:
            assert "m.safetensors' cannot be converted from PyTorch: " in str(error)  # noqa: PT017
            refused += 1
        else:
            assert all(np.isfinite(w).all() for w in model.get_weights())
    assert refused > 600


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(data=st.binary(max_size=200))
def test_any_other_content_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=REFUSED):
        from_torch(path)
