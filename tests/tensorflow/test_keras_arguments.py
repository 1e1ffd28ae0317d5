"""docs/keras.md, argument by argument, against Keras' signatures and ours."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from keras_side import keras

import scratchlstm
from scratchlstm import Input, Model, Sequential, layers
from scratchlstm._support import registry

PAGE = (Path(__file__).parents[2] / "docs" / "keras.md").read_text(encoding="utf-8")
LAYERS = [
    "LSTM",
    "GRU",
    "SimpleRNN",
    "RNN",
    "LSTMCell",
    "GRUCell",
    "SimpleRNNCell",
    "StackedRNNCells",
    "Bidirectional",
    "Embedding",
    "Dense",
    "Dropout",
    "SpatialDropout1D",
    "Masking",
    "LayerNormalization",
    "TimeDistributed",
    "GlobalMaxPooling1D",
    "GlobalAveragePooling1D",
    "Flatten",
    "RepeatVector",
    "Reshape",
    "Concatenate",
    "Add",
    "Multiply",
    "Dot",
    "Attention",
    "Activation",
]
METHODS = ["compile", "fit", "evaluate", "predict", "train_on_batch", "save", "summary"]
SUBJECTS = [*LAYERS, "Input", "Sequential", "Model", *METHODS]


def rows():
    """Class or method -> its cells (taken, refused, differs) as lists of the names in backticks."""
    table = PAGE.split("| class or method |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert all(len(row) == 4 for row in cells), cells
    return {row[0].strip("`"): [re.findall(r"`(\w+)`", cell) for cell in row[1:]] for row in cells}


ROWS = rows()


def described(subject):
    """Names taken, refused, and spoken of in the last column; of a layer with those of every layer."""
    taken, refused, differs = ROWS[subject]
    if subject in LAYERS:
        common = ROWS["every layer"]
        own = {*taken, *refused}
        taken = [*taken, *(name for name in common[0] if name not in own)]
        refused = [*refused, *(name for name in common[1] if name not in own)]
        differs = [*differs, *common[2]]
    return taken, refused, differs


def parameters(function):
    """Name -> parameter of those that can be given by name."""
    of = inspect.signature(function).parameters.values()
    return {p.name: p for p in of if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def of_keras(subject):
    """Name -> default of every argument of Keras, those of base classes and those taken out of **kwargs included."""
    if subject == "Input":
        return {name: p.default for name, p in parameters(keras.Input).items()}
    if subject in ("Sequential", "Model"):
        init = keras.Sequential.__init__ if subject == "Sequential" else keras.src.models.functional.Functional.__init__
        return {name: p.default for name, p in parameters(init).items()} | _popped(init)
    if subject in METHODS:
        return {name: p.default for name, p in parameters(getattr(keras.Sequential, subject)).items()}
    found = {}
    for base in getattr(keras.layers, subject).__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        for name, parameter in parameters(base.__init__).items():
            if not found or base is getattr(keras.layers, subject) or parameter.default is not parameter.empty:
                found.setdefault(name, parameter.default)  # what has no default a derived class gives its base itself
        for name, default in _popped(base.__init__).items():
            found.setdefault(name, default)
        if base is keras.layers.Layer or not any(p.kind is p.VAR_KEYWORD for p in _all(base.__init__)):
            break
    return found


def _popped(init):
    names = re.findall(r'kwargs\.pop\(\s*"([a-z]\w*)"', inspect.getsource(init))
    return dict.fromkeys(names, inspect.Parameter.empty)


def _all(function):
    return inspect.signature(function).parameters.values()


def ours(subject):
    """Our class, or our method of a model that can be called."""
    if subject in METHODS:
        model = Sequential([layers.Dense(1, input_shape=(2,))])
        if subject != "compile":
            model.compile("sgd", "mse")
        return getattr(model, subject)
    return getattr(layers if subject in LAYERS else scratchlstm, subject)


def test_the_page_has_a_row_for_each_and_no_other():
    assert list(ROWS) == ["every layer", *SUBJECTS]


def test_keras_arguments_are_found_where_they_hide():
    """The comparison would be empty if Keras' signatures were not read to their ends."""
    assert {"units", "zero_output_for_mask", "implementation", "autocast", "input_shape"} <= set(of_keras("LSTM"))
    assert not {"cell", "pool_dimensions"} & {*of_keras("LSTM"), *of_keras("GlobalMaxPooling1D")}
    assert "input_length" in of_keras("Embedding")
    assert "noise_shape" not in of_keras("SpatialDropout1D")
    assert "trainable" in of_keras("Model")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_argument_of_keras_is_in_the_row(subject):
    taken, refused, _ = described(subject)
    assert not set(taken) & set(refused)
    assert set(of_keras(subject)) - {*taken, *refused} == set()
    if subject not in LAYERS:
        assert {*taken, *refused} - set(of_keras(subject)) == set(), "not an argument of Keras"
    else:
        own = {*ROWS[subject][0], *ROWS[subject][1]}
        assert own - set(of_keras(subject)) == set(), "not an argument of Keras"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_taken_is_in_our_signature_with_keras_default(subject):
    taken, _, differs = described(subject)
    mine, theirs = registry.defaults(ours(subject)), of_keras(subject)
    assert set(taken) - set(mine) == set()
    for name in set(taken) & set(theirs) - set(differs):
        assert mine[name] == theirs[name], name
    assert set(mine) - {*taken, *differs} == set(), "only here, and the row does not say so"


NEEDED = {
    "LSTM": {"units": 2},
    **{name: {"units": 2} for name in ("GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell")},
    "RNN": {"cell": {"class_name": "GRUCell", "config": {"units": 2}}},  # a new one at each call
    "StackedRNNCells": {"cells": [layers.GRUCell(2)]},
    "Bidirectional": {"layer": layers.LSTM(2)},
    "Embedding": {"input_dim": 3, "output_dim": 2},
    "Dense": {"units": 2},
    "Dropout": {"rate": 0.5},
    "SpatialDropout1D": {"rate": 0.5},
    "TimeDistributed": {"layer": layers.Dense(2)},
    "RepeatVector": {"n": 2},
    "Reshape": {"target_shape": (3,)},
    "Dot": {"axes": 1},
    "Activation": {"activation": "relu"},
    "Input": {"shape": (3,)},
    "compile": {"optimizer": "sgd", "loss": "mse"},
    "fit": {"x": np.ones((4, 2)), "y": np.ones((4, 1)), "verbose": 0},
    "evaluate": {"x": np.ones((4, 2)), "y": np.ones((4, 1)), "verbose": 0},
    "predict": {"x": np.ones((4, 2)), "verbose": 0},
    "train_on_batch": {"x": np.ones((4, 2)), "y": np.ones((4, 1))},
}


def needed(subject, folder):
    """The arguments without which it cannot be called."""
    if subject == "Model":
        words = Input((3,))
        return {"inputs": words, "outputs": layers.Dense(1)(words)}
    return {"filepath": folder / "model.npz"} if subject == "save" else NEEDED.get(subject, {})


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_refused_is_an_error_that_names_it(subject, tmp_path):
    theirs = of_keras(subject)
    ours(subject)(**needed(subject, tmp_path))
    for name in described(subject)[1]:
        other = theirs.get(name) is not True  # than Keras' default
        with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
            ours(subject)(**needed(subject, tmp_path), **{name: other})


def test_a_derived_model_is_the_same_as_far_as_arguments_go():
    for method in METHODS:
        assert getattr(Sequential, method) is getattr(Model, method)
