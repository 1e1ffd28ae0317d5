"""Arguments that cannot be: each is named, whatever came."""

import importlib.util

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential, layers
from scratchlstm.interop import keras as to_and_from_keras
from scratchlstm.interop import keras_config, onnx, torch

WRONG = [None, True, "False", -1, float("nan"), float("inf"), np.ones((2, 3)), {"a": 1}, ...]


@pytest.fixture
def model():
    return Sequential([layers.LSTM(3, input_shape=(4, 2)), layers.Dense(1)], seed=0)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_is_not_a_model_is_named(wrong, tmp_path):
    for package in ("onnx", "safetensors", "torch"):
        pytest.importorskip(package)
    calls = [
        lambda: to_and_from_keras.load_keras_weights(wrong, tmp_path / "x.keras"),
        lambda: to_and_from_keras.save_keras(wrong, tmp_path / "x.keras"),
        lambda: to_and_from_keras.save_keras_weights(wrong, tmp_path / "x.weights.h5"),
        lambda: onnx.to_onnx(wrong, tmp_path / "x.onnx"),
        lambda: torch.load_torch_weights(wrong, {}),
        lambda: torch.save_safetensors(wrong, tmp_path / "x.safetensors"),
        lambda: torch.torch_state_dict(wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"model must be a Sequential or a Model of scratchlstm, not "):
            call()
    with pytest.raises(TypeError, match="layer must be a layer of scratchlstm, not "):
        keras_config.describe_layer(wrong)
    assert list(tmp_path.iterdir()) == []


def shared_by_two_inputs():
    ends, encoder = [Input((4, 2)), Input((4, 2))], layers.LSTM(3)
    return Model(ends, layers.Concatenate()([encoder(end) for end in ends]), name="wired")


def twice_in_a_row():
    start, same = Input((4,)), layers.Dense(4)
    return Model(start, same(same(start)), name="wired")


def nested():
    return Sequential([Sequential([layers.Dense(3, input_shape=(4,))], name="inner"), layers.Dense(1)], name="wired")


def nested_deeper():
    inner = Sequential([layers.Dense(3, input_shape=(2,))], name="inner")
    return Sequential([layers.TimeDistributed(inner.network, input_shape=(4, 2)), layers.Flatten()], name="wired")


def with_states():
    start = Input((4, 2))
    y, h, c = layers.LSTM(3, return_sequences=True, return_state=True)(start)
    return Model(start, layers.LSTM(3)(y, initial_state=[h, c]), name="wired")


def of_a_state():
    start = Input((4, 2))
    return Model(start, layers.Dense(1)(layers.LSTM(3, return_state=True)(start)[2]), name="wired")


def with_two_outputs():
    start = Input((4,))
    first = layers.Dense(3)(start)
    return Model(start, [first, layers.Dense(1)(first)], name="wired")


_WIRED = "wired has branches, a layer used several times"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (shared_by_two_inputs, _WIRED),
        (twice_in_a_row, _WIRED),
        (with_states, f"{_WIRED}, states or several outputs;"),
        (of_a_state, f"{_WIRED}, states or several outputs;"),
        (with_two_outputs, f"{_WIRED}, states or several outputs;"),
        (nested, "wired has the model inner as a layer"),
        (nested_deeper, "wired has the model inner as a layer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_models_that_are_no_stack_of_layers_go_to_keras_alone(build, message, tmp_path):
    for package in ("onnx", "safetensors", "torch"):
        pytest.importorskip(package)
    wired = build()
    if build is nested:
        wired.build((None, 4))
    state = {f"x.{n}": w for n, w in enumerate(wired.get_weights())}
    calls = [
        lambda: onnx.to_onnx(wired, tmp_path / "x.onnx"),
        lambda: torch.to_torch(wired),
        lambda: torch.load_torch_weights(wired, state),
        lambda: torch.save_safetensors(wired, tmp_path / "x.safetensors"),
        lambda: torch.torch_state_dict(wired),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_model_inside_of_a_wrapper_goes_nowhere(tmp_path):
    pytest.importorskip("h5py")
    wired = nested_deeper()
    calls = [lambda: to_and_from_keras.save_keras(wired, tmp_path / "x.keras")]
    if importlib.util.find_spec("keras"):
        calls.append(lambda: to_and_from_keras.to_keras(wired))
    for call in calls:
        with pytest.raises(
            ValueError, match="time_distributed contains the model inner; Keras only gets models inside models"
        ):
            call()
    with pytest.raises(ValueError, match="inner is a Network, which Keras does not have"):
        keras_config.describe_layer(next(i for i in wired.network.with_inner() if i.name == "inner"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [w for w in WRONG if not isinstance(w, str)], ids=repr)
def test_what_is_not_a_path_is_named(model, wrong):
    pytest.importorskip("h5py")
    for call in (
        to_and_from_keras.load_keras,
        lambda path: to_and_from_keras.load_keras_weights(model, path),
        lambda path: to_and_from_keras.save_keras(model, path),
        lambda path: to_and_from_keras.save_keras_weights(model, path),
    ):
        with pytest.raises(TypeError, match="path must be the name of a file"):
            call(wrong)


@pytest.mark.parametrize("wrong", [w for w in WRONG if not isinstance(w, dict)], ids=repr)
def test_what_pytorch_does_not_give_is_named(wrong):
    if not isinstance(wrong, str):
        with pytest.raises(TypeError, match="source must be a module, a state dict or a .safetensors file, not"):
            torch.from_torch(wrong)
    state = {"weight": np.ones((3, 2), "float32"), "bias": np.ones(3, "float32")}
    if wrong is not None:
        with pytest.raises((TypeError, ValueError), match=r"input_shape must be a tuple|each size of a shape"):
            torch.from_torch(state, input_shape=wrong)
    if wrong is not True:
        with pytest.raises(TypeError, match="return_sequences must be True or False"):
            torch.from_torch(state, return_sequences=wrong)


@pytest.mark.parametrize("wrong", [True, -1, float("nan"), np.ones(2), ...], ids=repr)
def test_a_pattern_for_names_is_named(model, wrong):
    pytest.importorskip("torch")
    with pytest.raises(TypeError, match="like must be a module or a state dict, not"):
        torch.torch_state_dict(model, wrong)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_the_dtype_of_ids_is_named(model, tmp_path, wrong):
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="ids_dtype must be"):
        onnx.to_onnx(model, tmp_path / "x.onnx", ids_dtype=wrong)


@pytest.mark.parametrize("wrong", [*WRONG[1:], 0], ids=repr)
def test_the_batch_size_for_keras_is_named(model, wrong):
    pytest.importorskip("keras")
    with pytest.raises(ValueError, match="batch_size must be a whole number above 0"):
        to_and_from_keras.to_keras(model, batch_size=wrong)
