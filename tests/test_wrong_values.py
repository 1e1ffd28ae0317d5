"""Every argument of every public callable is given values of wrong kinds, one at a time.

Each has to be accepted, if the table says so, or refused with a TypeError or ValueError whose message names the
argument. A new public name without an entry fails, and so does a new argument.
"""

import inspect
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from scratchlstm import (
    Model,
    Sequential,
    activations,
    backend,
    callbacks,
    cells,
    config,
    constraints,
    gates,
    gradcheck,
    initializers,
    inspection,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    schedules,
    utils,
)
from scratchlstm._support import registry
from scratchlstm.datasets import imdb
from scratchlstm.interop import keras as keras_files
from scratchlstm.interop import onnx, torch
from scratchlstm.layers import Dense, Input, Layer, passes
from scratchlstm.layers.passes import Pass
from scratchlstm.models import decoding
from scratchlstm.preprocessing import sequence, text, timeseries
from scratchlstm.training import AdversarialTraining


class Tensor:
    """An array of another library: it can be converted, and its truth value is ambiguous."""

    shape = (2,)
    dtype = "another library's float64"
    values = (0.5, 0.25)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]

    def __eq__(self, other):
        return self

    __hash__ = None

    def __bool__(self):
        raise RuntimeError("the truth value of a tensor is ambiguous")


WRONG = {
    "None": None,
    "True": True,
    "text": "False",
    "-1": -1,
    "NaN": float("nan"),
    "inf": float("inf"),
    "array": np.array([0.5, 0.25]),
    "tensor": Tensor(),
    "dict": {"a": 1},
    "object": object(),
}


class Entry(NamedTuple):
    """What is called, with which valid arguments, and which kinds of WRONG each argument takes besides."""

    call: Callable[..., Any]
    valid: dict[str, Any]
    takes: dict[str, str]  # names of WRONG, with blanks between them
    signature: Any = None  # whose arguments these are, if not those of `call`
    other: dict[str, str] = {}


FLAG = "True"
OPTIONAL = "None"
NAME = "None text"
ANY_NUMBER = "-1"
ARRAYS = "array tensor"
SCALARS = "True -1 NaN inf"
NUMBERS = f"{SCALARS} {ARRAYS}"
ANYTHING = " ".join(WRONG)
EMPTY = inspect.Parameter.empty
CELLS = {name for name in cells.__all__ if name not in ("Cell", "GatedCell", "StackedRNNCells")}
FLAGS = ("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask")


def _model():
    model = Sequential([Dense(1, "sigmoid", input_shape=(2,))], seed=0)
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model


def _method(name, valid, takes):
    def call(**arguments):
        return getattr(_model(), name)(**arguments)

    return Entry(call, valid, takes, getattr(Model, name))


def _loss(loss, y_true=(0.25, 0.5), y_pred=(0.5, 0.25), takes=ARRAYS, weights=""):
    return Entry(
        lambda **arguments: loss(**arguments),
        {"y_true": np.array(y_true), "y_pred": np.array(y_pred), "sample_weight": None},
        {"y_true": takes, "y_pred": takes, "sample_weight": f"None True -1 NaN inf {weights}"},
        type(loss).__call__,
    )


def _tokenizer():
    tokenizer = text.Tokenizer()
    tokenizer.fit_on_texts(["a b"])
    return tokenizer


def _by_default(call, takes=None, signature=None, other=None, **given):
    """All arguments with their defaults; what these take besides can be seen from their names and defaults."""
    parameters = [p for p in inspect.signature(signature or call).parameters.values() if p.kind < p.VAR_KEYWORD]
    valid = {p.name: p.default for p in parameters if p.name != "self" and p.kind != p.VAR_POSITIONAL} | given
    kinds = {n: FLAG if isinstance(v, bool) else OPTIONAL for n, v in valid.items() if v is None or isinstance(v, bool)}
    named = {"name": NAME} if "name" in valid else {}
    takes = {argument: kinds for argument, kinds in (takes or {}).items() if argument in valid}
    return Entry(call, valid, kinds | named | takes, signature, other or {})


def _of_layer(make, x, takes="", **call):
    """A layer's call, and its methods, for x; `takes` is what x may be besides."""

    def built():
        layer = make()
        layer(x)
        return layer

    def backward(dy, cache, need):
        layer = built()
        _, own = layer.forward(x)
        return layer.backward(dy, own if cache is ... else cache, need)

    shape = [each.shape[1:] for each in x] if isinstance(x, list) else x.shape[1:]
    y = make().forward(x)[0]
    kinds = {"x": takes, "training": "None True", **dict.fromkeys(call, OPTIONAL)}
    by_name = {"x": "input|" + type(make()).__name__.lower()[:4] + ".* (takes|got|has|was|needs)"}
    return [
        Entry(lambda **a: make()(**a), {"x": x, "training": False, **call}, kinds, Layer.__call__, by_name),
        Entry(
            lambda **a: make().build(**a),
            {"input_shape": shape, "rng": None, "params": None},
            {"rng": OPTIONAL, "params": OPTIONAL},
            other={"params": "weights", "input_shape": "shape"},
        ),
        Entry(lambda **a: built().set_weights(**a), {"weights": built().get_weights()}, {}),
        Entry(lambda **a: built().to(**a), {"name": "numpy"}, {"name": OPTIONAL}, other={"name": "backend"}),
        Entry(
            lambda **a: make().forward(**a),
            {"x": x, "run": Pass(), "mask": call.get("mask")},
            {"x": takes, "run": OPTIONAL, "mask": OPTIONAL},
            other=by_name | {"run": "Pass"},
        ),
        Entry(
            backward,
            {
                "dy": tuple(map(np.ones_like, y)) if isinstance(y, tuple) else np.ones_like(np.asarray(y)),
                "cache": ...,  # its own
                "need": True,
            },
            {"need": FLAG},
        ),
    ]


def _functional(inputs, outputs, **arguments):
    """`...` is something valid."""
    words = Input((2,))
    out = Dense(1)(words)
    return Model(words if inputs is ... else inputs, out if outputs is ... else outputs, **arguments)


def _network():
    words = Input((2,))
    return layers.Network([words], [Dense(1, name="network_dense")(words)])


def _of_two_inputs():
    inputs = [Input((2,)), Input((2,))]
    model = Model(inputs, Dense(1, "sigmoid")(layers.Concatenate()(inputs)), seed=0)
    model.compile("sgd", "binary_crossentropy")
    return model


def _backward(dy, cache, need):
    model = _model()
    _, own = model.forward(X)
    return model.backward(dy, own if cache is ... else cache, need)


def _call(make, method, **arguments):
    return getattr(make(), method)(**arguments)


def _attribute(thing, name, valid, takes=""):
    return Entry(
        lambda value: setattr(thing(), name, value),
        {"value": valid},
        {"value": takes},
        other={"value": name.replace("_", "[-_ ]")},
    )


def _reader():
    model = Sequential([layers.Embedding(5, 2, input_shape=(3,)), layers.LSTM(1), Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_crossentropy")
    return model


def _without_tensorflow(function, **given):
    """Asked for, it would take seconds to be imported."""

    def call(tensorflow, **arguments):
        checked = function(tensorflow=tensorflow is not True and tensorflow, **arguments)
        return next(checked) if inspect.isgenerator(checked) else checked

    return _by_default(call, {"seed": OPTIONAL}, function, **given)


def _of_trace(function, other=None, takes=None, **given):
    return _by_default(function, takes, other=other, **{"trace": TRACE, "words": list("abc")} | given)


def _with_reviews(function, takes, **given):
    """Called with a file of reviews."""

    def call(**arguments):
        half = {"x": [1, 2], "lengths": [1, 1], "y": [1, 0]}
        np.savez("r.npz", **{f"{name}_{end}": half[name] for name in half for end in ("train", "test")})
        Path("i.json").write_text('{"a": 1, "b": 2}')
        return function(**arguments)

    return _by_default(call, takes, function, {"path": "cannot be read|no imdb|there is no"}, **given)


def _with_texts(function, takes, **given):
    """Called with a folder of reviews."""

    def call(**arguments):
        for half in "train", "test":
            for kind in "neg", "pos":
                (folder := Path("aclImdb", half, kind)).mkdir(parents=True, exist_ok=True)
                (folder / "0_1.txt").write_text("a film")
        return function(**arguments)

    return _by_default(call, takes, function, **given)


def _beside_model(function, ending="npz", saver=None, **given):
    """Called with a saved model."""

    def call(**arguments):
        model = _model()
        (saver or Model.save)(model, f"model.{ending}")
        return function(**arguments)

    return _by_default(call, signature=function, other={"path": "file|path"}, path=f"model.{ending}", **given)


FLOAT64 = Sequential([Dense(1, "sigmoid", input_shape=(2,), dtype="float64")], seed=0)
FLOAT64.compile("sgd", "binary_crossentropy")
READ = np.array([[1, 2, 3]])
TRACE = inspection.trace(_reader(), READ, np.array([1]))
WORST = inspection.worst_perturbation(_reader(), READ, np.array([1]))
ENCODED = {"num_words": None, "skip_top": 0, "start_char": 1, "oov_char": 2, "index_from": 3}
INDEX = {"word_index": {"a": 1, "b": 2}}
CHARS = {"start_char": OPTIONAL, "oov_char": OPTIONAL}
UNREAD = {"path": ANYTHING, "source": ANYTHING, "word_index": "None dict", **CHARS}  # beside a word_index
SIGNED = ("value", "mean", "minval", "maxval", "gain")
INITIALIZERS = [name for name, thing in vars(initializers).items() if getattr(thing, "draw", None)]
INITIALIZERS.remove("Initializer")
HALF = {"name": "text", "on_gpu": ANYTHING}
STATE_DICT = {"source": "file|a is", "input_shape": "shape"}
TORCH = {"0.weight": np.ones((1, 2), "float32"), "0.bias": np.ones(1, "float32")}
X, Y = np.ones((4, 2)), np.array([0, 1, 0, 1])
IDS, SERIES, MASK = np.ones((2, 3), int), np.ones((2, 3, 2), "float32"), np.array([[True, True, False]] * 2)
STATES = [np.ones((2, 1), "float32")] * 2
LIMITS = dict.fromkeys(("kernel_initializer", "recurrent_initializer", "bias_initializer"), "")
B, T, E, H = 2, 3, 4, 1
CELL = {"W": np.ones((E, 4 * H)), "U": np.ones((H, 4 * H)), "b": np.ones(4 * H)}
STATE = np.ones((B, H))
_, _, CACHE = gates.lstm_step_forward(np.ones((B, E)), STATE, STATE, **CELL)
_, _, CACHES = gates.lstm_forward(np.ones((B, T, E)), STATE, STATE, **CELL)
KERNELS = {"W": CELL["W"], "U": CELL["U"]}
DATA = {"x": X, "y": Y, "sample_weight": None}
SHARED = {"clipnorm": None, "clipvalue": None, "global_clipnorm": None}
SHARED |= {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": None}
TAKES_SHARED = dict.fromkeys(SHARED, OPTIONAL) | {"use_ema": FLAG, "ema_momentum": ""}
WATCHED = {"monitor": "loss", "min_delta": 0.0, "patience": 1, "verbose": 0, "mode": "min"}
TAKES_WATCHED = {"monitor": "text", "min_delta": ANY_NUMBER, "verbose": FLAG}
RETRIEVAL = {"thresholds": None, "top_k": None, "class_id": None, "name": None}
TAKES_RETRIEVAL = {"thresholds": "None array", "top_k": OPTIONAL, "class_id": OPTIONAL, "name": NAME}
PARAMS, GRADS = [np.ones(2)], [np.ones(2)]
STEP = {
    "step": lambda given: [np.full((len(given[0]), 4), 0.25), *given[1:]],
    "start": 1,
    "states": [STATE],
    "steps": 3,
}
DECAY = {"initial_learning_rate": 0.1, "decay_steps": 10}

TABLE = {
    "losses.MeanSquaredError": [Entry(losses.MeanSquaredError, {}, {}), _loss(losses.MeanSquaredError())],
    "losses.MeanAbsoluteError": [Entry(losses.MeanAbsoluteError, {}, {}), _loss(losses.MeanAbsoluteError())],
    "losses.BinaryCrossentropy": [
        Entry(losses.BinaryCrossentropy, {"from_logits": False}, {"from_logits": FLAG}),
        _loss(losses.BinaryCrossentropy()),
    ],
    "losses.CategoricalCrossentropy": [
        Entry(losses.CategoricalCrossentropy, {"from_logits": False}, {"from_logits": FLAG}),
        _loss(losses.CategoricalCrossentropy(), [[0.0, 1.0]], [[0.5, 0.5]], takes=""),
    ],
    "losses.SparseCategoricalCrossentropy": [
        Entry(losses.SparseCategoricalCrossentropy, {"from_logits": False}, {"from_logits": FLAG}),
        _loss(losses.SparseCategoricalCrossentropy(), [1, 0], [[0.5, 0.5]] * 2, takes="", weights=ARRAYS),
    ],
    "optimizers.SGD": [
        Entry(
            optimizers.SGD,
            {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, **SHARED},
            {"nesterov": FLAG, **TAKES_SHARED},
        ),
        Entry(
            lambda **arguments: optimizers.SGD().apply(**arguments),
            {"params": PARAMS, "grads": GRADS, "broken": None, "loss": None},
            {"broken": ANYTHING, "loss": ANYTHING},  # these two are for a GPU alone
            optimizers.SGD.apply,
        ),
        _attribute(optimizers.SGD, "learning_rate", 0.25),
    ],
    "optimizers.RMSprop": [
        Entry(
            optimizers.RMSprop,
            {"learning_rate": 0.1, "rho": 0.9, "epsilon": 1e-7, **SHARED},
            TAKES_SHARED,
        )
    ],
    "optimizers.Adam": [
        Entry(
            optimizers.Adam,
            {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.9, "epsilon": 1e-7, **SHARED},
            TAKES_SHARED,
        )
    ],
    **{
        f"metrics.{name}": [Entry(getattr(metrics, name), {"name": None}, {"name": NAME})]
        for name in (
            *("Accuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
            *("MeanSquaredError", "MeanAbsoluteError", "RootMeanSquaredError"),
        )
    },
    "metrics.R2Score": [
        Entry(
            metrics.R2Score,
            {"class_aggregation": None, "num_regressors": 0, "name": None},
            {"class_aggregation": OPTIONAL, "name": NAME},
        )
    ],
    "metrics.BinaryAccuracy": [
        Entry(metrics.BinaryAccuracy, {"name": None, "threshold": 0.5}, {"name": NAME, "threshold": ANY_NUMBER}),
        Entry(
            lambda **arguments: metrics.BinaryAccuracy().update(**arguments),
            {"y_true": np.array([0.5, 0.25]), "y_pred": np.array([0.5, 0.25])},
            {"y_true": ARRAYS, "y_pred": ARRAYS},
            metrics.BinaryAccuracy.update,
        ),
    ],
    "metrics.Precision": [Entry(metrics.Precision, RETRIEVAL, TAKES_RETRIEVAL)],
    "metrics.Recall": [Entry(metrics.Recall, RETRIEVAL, TAKES_RETRIEVAL)],
    "metrics.AUC": [
        Entry(
            metrics.AUC,
            {
                "num_thresholds": 10,
                "curve": "PR",
                "summation_method": "minoring",
                "name": None,
                "thresholds": None,
                "from_logits": False,
            },
            {"name": NAME, "thresholds": "None array", "from_logits": FLAG},
        )
    ],
    "metrics.F1Score": [
        Entry(
            metrics.F1Score,
            {"average": None, "threshold": None, "name": None},
            {"average": OPTIONAL, "threshold": OPTIONAL, "name": NAME},
        )
    ],
    "metrics.Perplexity": [
        Entry(
            metrics.Perplexity,
            {"from_logits": False, "mask_token_id": None, "name": None},
            {"from_logits": FLAG, "mask_token_id": OPTIONAL, "name": NAME},
        )
    ],
    "metrics.confusion_matrix": [
        Entry(
            metrics.confusion_matrix,
            {"y_true": [0, 1], "y_pred": [1, 1], "num_classes": None},
            {"num_classes": OPTIONAL},
        )
    ],
    "schedules.ExponentialDecay": [
        Entry(
            schedules.ExponentialDecay,
            {**DECAY, "decay_rate": 0.5, "staircase": False, "name": None},
            {"staircase": FLAG, "name": NAME},
        ),
        Entry(schedules.ExponentialDecay(0.1, 10, 0.5).__call__, {"step": 1}, {}),
    ],
    "schedules.CosineDecay": [
        Entry(
            schedules.CosineDecay,
            {**DECAY, "alpha": 0.0, "name": None, "warmup_target": None, "warmup_steps": 0},
            {"name": NAME, "warmup_target": OPTIONAL},
        ),
        Entry(schedules.CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=2).__call__, {"step": 1}, {}),
    ],
    "schedules.PiecewiseConstantDecay": [
        Entry(
            schedules.PiecewiseConstantDecay,
            {"boundaries": [1], "values": [0.1, 0.2], "name": None},
            {"values": "array", "name": NAME},
        ),
        Entry(schedules.PiecewiseConstantDecay([1], [0.1, 0.2]).__call__, {"step": 1}, {}),
    ],
    "callbacks.Callback": [Entry(callbacks.Callback, {}, {})],
    "callbacks.History": [Entry(callbacks.History, {}, {})],
    "callbacks.LambdaCallback": [
        Entry(
            callbacks.LambdaCallback,
            dict.fromkeys(inspect.signature(callbacks.LambdaCallback).parameters),
            dict.fromkeys(inspect.signature(callbacks.LambdaCallback).parameters, OPTIONAL),
        )
    ],
    "callbacks.Checkpoint": [
        Entry(callbacks.Checkpoint, {"path": "run", "save_freq": "epoch"}, {"path": "text"}),
    ],
    "callbacks.ModelCheckpoint": [
        Entry(
            callbacks.ModelCheckpoint,
            {
                "filepath": "model",
                "monitor": "loss",
                "verbose": 0,
                "save_best_only": False,
                "save_weights_only": False,
                "mode": "min",
                "save_freq": "epoch",
                "initial_value_threshold": None,
            },
            {
                "filepath": "text",
                "monitor": "text",
                "verbose": FLAG,
                "save_best_only": FLAG,
                "initial_value_threshold": "None -1",
            },
        )
    ],
    "callbacks.EarlyStopping": [
        Entry(
            callbacks.EarlyStopping,
            {**WATCHED, "baseline": None, "restore_best_weights": False, "start_from_epoch": 0},
            {**TAKES_WATCHED, "baseline": "None -1", "restore_best_weights": FLAG},
        )
    ],
    "callbacks.ReduceLROnPlateau": [
        Entry(callbacks.ReduceLROnPlateau, {**WATCHED, "factor": 0.5, "cooldown": 0, "min_lr": 0.0}, {**TAKES_WATCHED})
    ],
    "callbacks.LearningRateScheduler": [
        Entry(callbacks.LearningRateScheduler, {"schedule": lambda epoch: 0.1, "verbose": 0}, {"verbose": FLAG})
    ],
    "callbacks.TerminateOnNaN": [
        Entry(callbacks.TerminateOnNaN, {"raise_error": False}, {"raise_error": FLAG}),
    ],
    "callbacks.SwapEMAWeights": [Entry(callbacks.SwapEMAWeights, {"swap_on_epoch": False}, {"swap_on_epoch": FLAG})],
    "callbacks.Snapshots": [Entry(callbacks.Snapshots, {"every": 1}, {})],
    "callbacks.CSVLogger": [
        Entry(
            callbacks.CSVLogger,
            {"filename": "log.csv", "separator": ",", "append": False},
            {"filename": "text", "append": FLAG},
        )
    ],
    "callbacks.LearningCurve": [
        Entry(callbacks.LearningCurve, {"path": None, "title": ""}, {"path": NAME, "title": "text"}),
    ],
    "sequence.pad_sequences": [
        Entry(
            sequence.pad_sequences,
            {
                "sequences": [[1], [2, 3]],
                "maxlen": None,
                "dtype": "int32",
                "padding": "pre",
                "truncating": "pre",
                "value": 0,
            },
            {"maxlen": OPTIONAL, "dtype": OPTIONAL, "value": "True -1"},  # dtype=None is float64, as in Keras
        )
    ],
    "timeseries.timeseries_dataset_from_array": [
        _by_default(
            timeseries.timeseries_dataset_from_array,
            {"data": ARRAYS, "targets": f"None {ARRAYS}", "batch_size": OPTIONAL},
            data=np.ones(5),
            targets=np.ones(5),
            sequence_length=2,
        )
    ],
    "text.text_to_word_sequence": [
        Entry(
            text.text_to_word_sequence,
            {"input_text": "A b", "filters": "", "lower": True, "split": " "},
            {"input_text": "text", "filters": "text", "lower": FLAG, "split": "text"},
        )
    ],
    "text.ngrams": [Entry(text.ngrams, {"words": ["a", "b"], "n": 2}, {"words": "list"})],
    "text.Tokenizer": [
        Entry(
            text.Tokenizer,
            {"num_words": None, "filters": "", "lower": True, "split": " ", "char_level": False, "oov_token": None},
            {
                "num_words": OPTIONAL,
                "filters": "text",
                "lower": FLAG,
                "split": "text",
                "char_level": FLAG,
                "oov_token": NAME,
            },
        ),
        Entry(lambda **arguments: _tokenizer().fit_on_texts(**arguments), {"texts": ["a"]}, {"texts": "dict"}),
        Entry(lambda **arguments: _tokenizer().texts_to_sequences(**arguments), {"texts": ["a"]}, {"texts": "dict"}),
        Entry(lambda **arguments: _tokenizer().sequences_to_texts(**arguments), {"sequences": [[1]]}, {}),
    ],
    "utils.to_categorical": [
        Entry(
            utils.to_categorical,
            {"x": [0, 1], "num_classes": None},
            {"x": "True", "num_classes": OPTIONAL},
        )
    ],
    "Model": [
        _by_default(_functional, {"name": "text"}, Model, inputs=..., outputs=...),
        _beside_model(Model.load),
        _method(
            "compile",
            {"optimizer": "sgd", "loss": "mse", "loss_weights": None, "metrics": None},
            {"loss_weights": "None -1", "metrics": OPTIONAL},
        ),
        _method(
            "fit",
            {
                **DATA,
                "batch_size": None,
                "epochs": 1,
                "verbose": 0,
                "callbacks": None,
                "validation_split": 0.0,
                "validation_data": None,
                "shuffle": True,
                "class_weight": None,
                "initial_epoch": 0,
                "workers": None,
                "resume": None,
                "adversarial": None,
                "group_by_length": False,
            },
            {
                "batch_size": OPTIONAL,
                "workers": OPTIONAL,
                "verbose": FLAG,
                "callbacks": OPTIONAL,
                "validation_data": OPTIONAL,
                "shuffle": FLAG,
                "class_weight": OPTIONAL,
                "sample_weight": OPTIONAL,
                "adversarial": OPTIONAL,
                "resume": "None text",  # a checkpoint that does not exist yet
            },
        ),
        _method(
            "evaluate",
            {**DATA, "batch_size": None, "verbose": 0, "return_dict": False, "workers": None, "group_by_length": False},
            {
                "batch_size": OPTIONAL,
                "verbose": FLAG,
                "sample_weight": OPTIONAL,
                "return_dict": FLAG,
                "workers": OPTIONAL,
            },
        ),
        _method(
            "predict",
            {"x": X, "batch_size": None, "verbose": 0, "workers": None, "group_by_length": False},
            {"batch_size": OPTIONAL, "verbose": FLAG, "workers": OPTIONAL},
        ),
        _method("train_on_batch", DATA, {"sample_weight": OPTIONAL}),
        *(
            Entry(
                partial(_call, _of_two_inputs, method, **more),
                {"x": [X, X]},
                {},
                lambda x: None,
                {"x": "functional|inputs"},
            )
            for method, more in (
                ("fit", {"y": Y, "verbose": 0}),
                ("evaluate", {"y": Y, "verbose": 0}),
                ("predict", {"verbose": 0}),
                ("train_on_batch", {"y": Y}),
                ("forward", {}),
                ("__call__", {}),
            )
        ),
    ],
    # --- layers -------------------------------------------------------------------------------------------------------
    "layers.Layer": [_by_default(layers.Layer)],
    "layers.Input": [_by_default(layers.Input, shape=(3,))],
    "layers.Activation": [
        _by_default(layers.Activation, {"activation": OPTIONAL}, activation="relu"),
        *_of_layer(lambda: layers.Activation("relu"), X, ARRAYS),
    ],
    "layers.Dense": [
        _by_default(layers.Dense, units=2),
        *_of_layer(lambda: Dense(1, "sigmoid"), X),
        _attribute(lambda: Dense(1), "trainable", True, FLAG),
        _attribute(lambda: Dense(1), "activity_regularizer", None, OPTIONAL),
    ],
    "layers.Dropout": [
        _by_default(layers.Dropout, rate=0.5),
        *_of_layer(lambda: layers.Dropout(0.5), X, ARRAYS),
        _attribute(lambda: layers.Dropout(0.5), "rate", 0.25),
    ],
    "layers.SpatialDropout1D": [
        _by_default(layers.SpatialDropout1D, rate=0.5),
        *_of_layer(lambda: layers.SpatialDropout1D(0.5), SERIES),
    ],
    "layers.WordDropout": [
        _by_default(layers.WordDropout, rate=0.5),
        *_of_layer(lambda: layers.WordDropout(0.5), IDS),
    ],
    "layers.Embedding": [
        _by_default(layers.Embedding, input_dim=5, output_dim=2),
        *_of_layer(lambda: layers.Embedding(5, 2), IDS),
    ],
    "layers.Flatten": [_by_default(layers.Flatten), *_of_layer(layers.Flatten, SERIES, ARRAYS)],
    "layers.LSTM": [
        _by_default(layers.LSTM, dict.fromkeys(("activation", "recurrent_activation"), OPTIONAL), units=2),
        *_of_layer(lambda: layers.LSTM(1), SERIES, mask=MASK, initial_state=STATES),
        *_of_layer(lambda: layers.LSTM(1, return_sequences=True, return_state=True, implementation="textbook"), SERIES),
    ],
    "layers.Masking": [
        _by_default(layers.Masking, {"mask_value": ANY_NUMBER}),
        *_of_layer(layers.Masking, SERIES),
    ],
    "layers.Concatenate": [
        _by_default(layers.Concatenate, {"axis": ANY_NUMBER}),
        *_of_layer(layers.Concatenate, [X, X]),
    ],
    "layers.Add": [_by_default(layers.Add), *_of_layer(layers.Add, [X, X])],
    "layers.Multiply": [_by_default(layers.Multiply), *_of_layer(layers.Multiply, [SERIES, SERIES], mask=[MASK, MASK])],
    "layers.Dot": [
        _by_default(layers.Dot, {"axes": ANY_NUMBER}, axes=1),
        *_of_layer(lambda: layers.Dot(2, normalize=True), [SERIES, SERIES]),
    ],
    "layers.Attention": [
        _by_default(layers.Attention),
        *_of_layer(lambda: layers.Attention(use_scale=True), [SERIES, SERIES], mask=[MASK, MASK]),
        _by_default(
            partial(_call, layers.Attention, "__call__"),
            {"use_causal_mask": ""},
            layers.Attention.__call__,
            {"x": "attention takes"},
            x=[SERIES, SERIES],
        ),
    ],
    "layers.Reshape": [
        _by_default(layers.Reshape, target_shape=(3,)),
        *_of_layer(lambda: layers.Reshape((3, 2)), SERIES),
    ],
    "layers.RepeatVector": [
        _by_default(layers.RepeatVector, n=2),
        *_of_layer(lambda: layers.RepeatVector(2), X),
    ],
    "layers.LayerNormalization": [
        _by_default(layers.LayerNormalization),
        *_of_layer(layers.LayerNormalization, X),
    ],
    "layers.GlobalAveragePooling1D": [
        _by_default(layers.GlobalAveragePooling1D),
        *_of_layer(layers.GlobalAveragePooling1D, SERIES, mask=MASK),
    ],
    "layers.GlobalMaxPooling1D": [
        _by_default(layers.GlobalMaxPooling1D),
        *_of_layer(layers.GlobalMaxPooling1D, SERIES),
    ],
    "layers.MaskedGlobalMaxPooling1D": [
        _by_default(layers.MaskedGlobalMaxPooling1D),
        *_of_layer(layers.MaskedGlobalMaxPooling1D, SERIES, mask=MASK),
    ],
    "layers.SimpleRNN": [
        _by_default(layers.SimpleRNN, {"activation": OPTIONAL}, units=2),
        *_of_layer(lambda: layers.SimpleRNN(1), SERIES, mask=MASK, initial_state=STATES[:1]),
    ],
    "layers.GRU": [
        _by_default(layers.GRU, dict.fromkeys(("activation", "recurrent_activation"), OPTIONAL), units=2),
        *_of_layer(lambda: layers.GRU(1), SERIES, mask=MASK, initial_state=STATES[:1]),
        *_of_layer(lambda: layers.GRU(1, reset_after=False, return_sequences=True, return_state=True), SERIES),
    ],
    "layers.RNN": [
        Entry(
            lambda cell, **a: layers.RNN(cells.LSTMCell(2) if cell is ... else cell, **a),
            {"cell": ...} | dict.fromkeys(FLAGS, False),
            dict.fromkeys(FLAGS, FLAG),
            layers.RNN,
        ),
        *_of_layer(lambda: layers.RNN(cells.GRUCell(1)), SERIES, mask=MASK, initial_state=STATES[:1]),
        *_of_layer(lambda: layers.RNN([cells.LSTMCell(2), cells.SimpleRNNCell(1)], return_state=True), SERIES),
    ],
    **{
        f"{room}.{name}": [
            _by_default(
                getattr(cells, name),
                # None is linear, which may be 0, by which a MinLSTMCell would divide
                dict.fromkeys(("activation", "recurrent_activation")[: 1 if name == "MinLSTMCell" else 2], OPTIONAL),
                **{each: 2 for each, given in registry.defaults(getattr(cells, name)).items() if given is EMPTY},
            )
        ]
        for room in ("cells", "layers")
        for name in sorted(CELLS & {*vars({"cells": cells, "layers": layers}[room])})
    },
    **{
        f"{room}.StackedRNNCells": [Entry(cells.StackedRNNCells, {"cells": [cells.LSTMCell(2)]}, {})]
        for room in ("cells", "layers")
    },
    "layers.Bidirectional": [
        _by_default(layers.Bidirectional, {"merge_mode": OPTIONAL}, layer=layers.LSTM(1)),
        *_of_layer(lambda: layers.Bidirectional(layers.LSTM(1)), SERIES, mask=MASK, initial_state=STATES * 2),
    ],
    "layers.TimeDistributed": [
        _by_default(layers.TimeDistributed, layer=Dense(1)),
        *_of_layer(lambda: layers.TimeDistributed(Dense(1)), SERIES, mask=MASK),
    ],
    "layers.Network": [
        _by_default(
            layers.Network,
            inputs=[(node := Input((2,)))],
            outputs=[Dense(1)(node)],
        ),
        *_of_layer(_network, X),
    ],
    "training.AdversarialTraining": [_by_default(AdversarialTraining)],
    "passes.Pass": [
        # which training passes in
        _by_default(Pass, dict.fromkeys(["rows", "seen", "embed", "workspaces"], ANYTHING)),
    ],
    # --- what layers are made of --------------------------------------------------------------------------------------
    **{
        f"initializers.{name}": [
            _by_default(getattr(initializers, name), dict.fromkeys(SIGNED, ANY_NUMBER)),
            _by_default(
                partial(_call, getattr(initializers, name), "__call__"),
                signature=initializers.Initializer.__call__,
                shape=(2, 3),
            ),
        ]
        for name in INITIALIZERS
    },
    **{
        f"{module.__name__.split('.')[-1]}.{name}": [
            _by_default(getattr(module, name)),
            *(
                Entry(partial(_call, getattr(module, name), method), {"w": np.ones((2, 3))}, {"w": takes})
                for method in methods
            ),
        ]
        for module, names, methods, takes in (
            (constraints, ("NonNeg",), ["__call__"], NUMBERS),
            (constraints, ("MaxNorm", "UnitNorm"), ["__call__"], ARRAYS),
            (regularizers, ("L1", "L2", "L1L2"), ["__call__", "gradient"], NUMBERS),
        )
        for name in names
    },
    **{
        f"activations.{name}": [Entry(getattr(activations, name), {"z": X}, {"z": takes}, other={"z": "an array"})]
        for name, takes in (("softmax", "array"), ("hard_sigmoid", "array"), ("relu", "array"), ("linear", ANYTHING))
    },
    "activations.Activation": [
        _by_default(
            activations.Activation, {"name": "text", "on_gpu": ANYTHING}, name="half", function=np.abs, prime=np.sign
        )
    ],
    "activations.serialize": [Entry(activations.serialize, {"activation": activations.TANH}, {"activation": OPTIONAL})],
    **{
        f"{module.__name__.split('.')[-1]}.get": [
            _by_default(
                module.get, {"identifier": takes, "argument": ANYTHING}, other={"identifier": kind}, identifier=known
            )
        ]
        for module, known, takes, kind in (
            (activations, "tanh", "None", "activation"),
            (initializers, "zeros", "", "initializer"),
            (constraints, "non_neg", "None", "constraint"),
            (regularizers, "l2", "None", "regularizer"),
            (losses, "mse", "", "loss"),
            (metrics, "accuracy", "", "metric"),
            (optimizers, "sgd", "", "optimizer"),
            (schedules, schedules.ExponentialDecay(0.1, 1, 0.5), "", "schedule"),
        )
    },
    "config.set_floatx": [Entry(config.set_floatx, {"dtype": "float32"}, {"dtype": OPTIONAL})],
    "config.float_dtype": [Entry(config.float_dtype, {"dtype": "float32"}, {"dtype": OPTIONAL})],
    "config.floatx": [Entry(config.floatx, {}, {})],
    # --- gates --------------------------------------------------------------------------------------------------------
    **{
        f"gates.{name}": [Entry(getattr(gates, name), {"x": X}, {"x": "array"}, other={"x": "an array"})]
        for name in ("sigmoid", "tanh")
    },
    "gates.lstm_step_forward": [
        _by_default(gates.lstm_step_forward, {"b": SCALARS}, x=np.ones((B, E)), h_prev=STATE, c_prev=STATE, **CELL)
    ],
    "gates.lstm_step_backward": [
        _by_default(gates.lstm_step_backward, {"dc_next": SCALARS}, dh=STATE, dc_next=STATE, cache=CACHE, **KERNELS)
    ],
    "gates.lstm_forward": [_by_default(gates.lstm_forward, x=np.ones((B, T, E)), h0=STATE, c0=STATE, **CELL)],
    "gates.lstm_backward": [
        _by_default(gates.lstm_backward, dhs=np.ones((B, T, H)), dc_last=STATE, caches=CACHES, **KERNELS)
    ],
    # --- models -------------------------------------------------------------------------------------------------------
    "models.load_model": [_beside_model(models.load_model)],
    "decoding.greedy": [_by_default(decoding.greedy, **STEP)],
    "decoding.sample": [_by_default(decoding.sample, **STEP)],
    "decoding.beam": [_by_default(decoding.beam, **STEP, width=2)],
    "Sequential": [
        _by_default(Sequential, {"name": "text", "layers": OPTIONAL}),
        Entry(lambda **a: _model().add(**a), {"layer": Dense(1)}, {}),
        Entry(lambda **a: _model().build(**a), {"input_shape": (None, 2)}, {}),
        Entry(lambda **a: _model().set_weights(**a), {"weights": _model().get_weights()}, {}),
        Entry(lambda **a: _model().to(**a), {"backend": "numpy"}, {"backend": OPTIONAL}),
        Entry(lambda **a: _model().save(**a), {"filepath": "m.npz"}, {"filepath": "text"}, other={"filepath": "path"}),
        *(
            Entry(
                partial(_call, _model, method),
                {"x": X, argument: value},
                {argument: takes},
                other={"x": "dense|input|sequential", "run": "Pass"},
            )
            for method, argument, value, takes in (
                ("forward", "run", Pass(training=True), OPTIONAL),
                ("__call__", "training", False, "None True"),
            )
        ),
        Entry(lambda **a: _model().infer(**a), {"x": X}, {}, other={"x": "dense"}),
        Entry(_backward, {"dy": np.ones((4, 1)), "cache": ..., "need": True}, {"need": FLAG}),
        _attribute(_model, "trainable", True, FLAG),
    ],
    "backend.choose": [Entry(backend.choose, {"name": "numpy"}, {"name": OPTIONAL}, other={"name": "backend"})],
    # --- gradcheck ----------------------------------------------------------------------------------------------------
    "gradcheck.numerical_gradient": [
        _by_default(gradcheck.numerical_gradient, {"array": "array"}, loss=lambda: 0.0, array=np.ones(2))
    ],
    "gradcheck.relative_error": [
        _by_default(
            gradcheck.relative_error,
            dict.fromkeys(("analytic", "reference"), NUMBERS),
            analytic=np.ones(2),
            reference=np.ones(2),
        )
    ],
    "gradcheck.check_layer": [
        _without_tensorflow(gradcheck.check_layer, layer=layers.LSTM(1, dtype="float64"), x=np.ones((1, 2, 1)))
    ],
    "gradcheck.check_functions": [
        _by_default(
            gradcheck.check_functions,
            {"seed": OPTIONAL},
            other={"inputs": "input|output 0"},  # a whole number comes out as one
            forward=lambda x: (x, None),
            backward=lambda dy, cache: dy,
            inputs=[np.ones(2)],
        )
    ],
    "gradcheck.check_model": [_without_tensorflow(gradcheck.check_model, model=FLOAT64, x=X, y=Y)],
    "gradcheck.reports_in_small": [_without_tensorflow(gradcheck.reports_in_small, tensorflow=False)],
    # --- inspection ---------------------------------------------------------------------------------------------------
    "inspection.trace": [
        _by_default(inspection.trace, model=_reader(), x=READ, y=np.array([1]), takes={"y": OPTIONAL})
    ],
    "inspection.LayerTrace": [
        Entry(TRACE.lstm.importance, {"sample": 0, "steps": slice(None)}, {"steps": ANY_NUMBER}),
        Entry(TRACE.lstm.gradient, {"name": "dh"}, {}),
        Entry(TRACE.lstm.table, {"sample": 0, "unit": 0}, {}),
    ],
    "inspection.Trace": [Entry(TRACE.__getitem__, {"name": "lstm"}, {"name": OPTIONAL}, other={"name": "layer"})],
    "inspection.worst_perturbation": [
        _by_default(inspection.worst_perturbation, model=_reader(), x=READ, y=np.array([1]))
    ],
    "inspection.LayerPerturbation": [Entry(WORST[None].towards, {"exclude": (0, 1)}, {})],
    "inspection.WorstPerturbation": [
        Entry(WORST.__getitem__, {"name": "embedding"}, {"name": OPTIONAL}, other={"name": "layer"})
    ],
    "inspection.explore": [
        _by_default(
            inspection.explore,
            {"text": "", "path": "text", "label": "None True", "word_index": "dict", **CHARS},
            model=_reader(),
            text="a b",
            path="page.html",
            **INDEX,
            other={"text": "words"},
        )
    ],
    "inspection.gate_heatmap": [_of_trace(inspection.gate_heatmap, takes={"title": NAME})],
    "inspection.gate_saturation": [
        _by_default(inspection.gate_saturation, {"title": NAME}, trace=TRACE),
    ],
    "inspection.gates_over_words": [_of_trace(inspection.gates_over_words, takes={"title": NAME})],
    "inspection.colored_words": [_of_trace(inspection.colored_words, takes={"title": NAME})],
    "inspection.gradient_norm_over_time": [
        _by_default(inspection.gradient_norm_over_time, model=_reader(), x=READ, y=np.array([1]))
    ],
    "inspection.gradient_norms": [
        _by_default(inspection.gradient_norms, {"title": NAME}, norms={"a": np.ones(3)}),
    ],
    "inspection.confusion_matrix": [
        _by_default(
            inspection.confusion_matrix, {"title": NAME, "labels": f"None {ARRAYS}"}, matrix=np.eye(2, dtype=int)
        )
    ],
    "inspection.learning_curve": [
        Entry(
            lambda histories, title: inspection.learning_curve(histories, title=title),
            {"histories": {"loss": [1.0, 0.5]}, "title": ""},
            {"title": NAME},
            other={"histories": "learning_curve"},
        )
    ],
    # --- exchange -----------------------------------------------------------------------------------------------------
    "keras.load_keras": [_beside_model(keras_files.load_keras, "keras", keras_files.save_keras)],
    "keras.load_keras_weights": [
        _beside_model(keras_files.load_keras_weights, "keras", keras_files.save_keras, model=_model())
    ],
    "keras.save_keras": [
        Entry(keras_files.save_keras, {"model": _model(), "path": "m.keras"}, {}, other={"path": "name"})
    ],
    "keras.save_keras_weights": [
        Entry(keras_files.save_keras_weights, {"model": _model(), "path": "m.weights.h5"}, {}, other={"path": "name"})
    ],
    "onnx.to_onnx": [_by_default(onnx.to_onnx, {"path": "text"}, model=_model(), path="m.onnx")],
    "torch.from_torch": [_by_default(torch.from_torch, source=TORCH, other=STATE_DICT)],
    "torch.load_torch_weights": [_by_default(torch.load_torch_weights, model=_model(), source=TORCH, other=STATE_DICT)],
    "torch.save_safetensors": [
        Entry(torch.save_safetensors, {"model": _model(), "path": "m.safetensors"}, {"path": "text"})
    ],
    # --- data sets ----------------------------------------------------------------------------------------------------
    "imdb.load_data": [_with_reviews(imdb.load_data, {"verbose": FLAG, "path": OPTIONAL, **CHARS}, path="r.npz")],
    "imdb.load_texts": [_with_texts(imdb.load_texts, {"verbose": FLAG, "path": OPTIONAL}, path="aclImdb")],
    "imdb.get_word_index": [_with_reviews(imdb.get_word_index, {"path": OPTIONAL, "source": ANYTHING}, path="i.json")],
    "imdb.encode_review": [_by_default(imdb.encode_review, UNREAD | {"text": "text"}, text="a b", **INDEX)],
    "imdb.decode_review": [_by_default(imdb.decode_review, UNREAD, ids=[1, 4], **INDEX)],
}

# public names without an entry, and why
BASES = {
    *("cells.Cell", "cells.GatedCell"),  # whose arguments are those of the cells
    *("initializers.Initializer", "constraints.Constraint", "regularizers.Regularizer", "activations.Softmax"),
    *("losses.Loss", "losses.Crossentropy"),
    "optimizers.Optimizer",
    "metrics.Metric",
    "schedules.LearningRateSchedule",
}
PARTS = {
    *("passes.Cache", "passes.DropoutMask", "passes.FromLogits", "passes.Workspaces"),  # what layers and passes have
    "passes.at_logits",
    *(f"optimizers.{name}" for name in ("values_of", "with_values", "norm", "is_finite")),
    *("gates.StepCache", "gates.StepGradients", "gates.sigmoid_prime", "gates.tanh_prime"),  # what operators take
    *("constraints.non_neg", "constraints.max_norm", "constraints.unit_norm"),  # other names of classes
    *("regularizers.l1", "regularizers.l2", "regularizers.l1_l2"),
    *("gates.gate_copies", "gates.sum_copies", "gates.block_diagonal", "gates.diagonal_blocks"),
    *("gradcheck.LayerLike", "gradcheck.Row", "gradcheck.Report"),
    "inspection.ExplorerPage",
    # which have their entries under other names
    *("models.Model", "models.Sequential", "utils.pad_sequences", "utils.timeseries_dataset_from_array"),
    "timeseries.TimeseriesDataset",  # tests/preprocessing/test_timeseries.py
    *("utils.atomic_write", "utils.held_folder"),  # tests/test_files.py
    "imdb.find_source",
    # tests/interop/test_exchange_arguments.py, with Keras and PyTorch themselves
    *("keras.from_keras", "keras.to_keras", "keras.layer_to_keras", "torch.to_torch", "torch.torch_state_dict"),
}
MODULES = {
    "losses": losses,
    "optimizers": optimizers,
    "metrics": metrics,
    "schedules": schedules,
    "callbacks": callbacks,
    "sequence": sequence,
    "text": text,
    "timeseries": timeseries,
    "utils": utils,
    "layers": layers,
    "cells": cells,
    "passes": passes,
    "initializers": initializers,
    "constraints": constraints,
    "regularizers": regularizers,
    "activations": activations,
    "config": config,
    "gates": gates,
    "models": models,
    "decoding": decoding,
    "gradcheck": gradcheck,
    "inspection": inspection,
    "imdb": imdb,
    "keras": keras_files,
    "onnx": onnx,
    "torch": torch,
}


def _public(module):
    """The classes and functions that a module offers as its own."""
    for name, thing in vars(module).items():
        inside = getattr(thing, "__module__", "").startswith(module.__name__) or name in getattr(module, "__all__", ())
        if inside and not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield name


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_entry(module):
    names = {f"{module}.{name}" for name in _public(MODULES[module])}
    assert names - set(TABLE) - BASES - PARTS == set()
    assert {name for name in TABLE if name.startswith(f"{module}.")} <= names


NEEDED = {"keras": "h5py", "onnx": "onnx", "torch": "safetensors"}


def _case(name, label, *values):
    package = NEEDED.get(name.split(".")[0])
    marks = [pytest.mark.skipif(not find_spec(package), reason=f"{package} is not installed")] if package else []
    return pytest.param(*values, id=label, marks=marks)


ENTRIES = [(name, f"{name}-{number}", entry) for name, entries in TABLE.items() for number, entry in enumerate(entries)]
ARGUMENTS = [(*each, argument) for each in ENTRIES for argument in each[2].valid]


@pytest.mark.parametrize("entry", [_case(*each) for each in ENTRIES])
def test_every_argument_has_a_valid_value(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = inspect.signature(entry.signature or entry.call).parameters.values()
    kinds = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    names = [each.name for each in parameters if each.name != "self" and each.kind not in kinds]
    assert set(names) <= set(entry.valid)
    assert set(entry.takes) <= set(entry.valid)
    entry.call(**entry.valid)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(("entry", "argument"), [_case(name, f"{label}-{a}", e, a) for name, label, e, a in ARGUMENTS])
def test_wrong_values(entry, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    takes, found = entry.takes.get(argument, "").split(), {}
    other = {"y_true": "targets", "y_pred": "predictions"}.get(argument, argument)
    other = entry.other.get(argument, other)
    named = re.compile(rf"\b({argument.removesuffix('s').replace('_', '[-_ ]')}s?|{other})\b", re.IGNORECASE)
    for kind, value in WRONG.items():
        try:
            entry.call(**entry.valid | {argument: value})
            outcome = "taken"
        except (TypeError, ValueError, OSError) as error:
            outcome = "refused" if named.search(str(error)) else f"does not name it: {error}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        if outcome != ("taken" if kind in takes else "refused"):
            found[kind] = outcome
    assert found == {}


class Ragged:
    """Rows of different lengths, as TensorFlow has them: no array, and `len` counts the rows."""

    ragged_rank = 1

    def __getitem__(self, row):
        return [1, 2][: row + 1]

    def to_list(self):
        return [[1], [1, 2]]


def test_ragged_rows_are_to_be_padded():
    advice = r"^x has rows of different lengths; pad_sequences\(x.to_list\(\)\) makes them equal"
    with pytest.raises(TypeError, match=advice):
        _reader().predict(Ragged())
    assert _reader().predict(sequence.pad_sequences(Ragged().to_list(), 3), verbose=0).shape == (2, 1)


def test_numbers_and_flags_of_numpy_are_numbers_and_flags():
    rate, flag = np.array(0.25), np.bool_(True)
    assert layers.Dropout(rate).rate == schedules.ExponentialDecay(rate, 1, 1.0)(np.array(3)) == 0.25
    assert Dense(np.int64(3), use_bias=~flag).get_config().items() >= {"units": 3, "use_bias": False}.items()
    ours = layers.LSTM(np.int32(1), return_sequences=flag, stateful=flag, dropout=np.float32(0.5))
    assert ours(SERIES, training=flag).shape == (2, 3, 1)
    _model().fit(X, Y, batch_size=np.int64(2), epochs=np.int32(1), shuffle=flag, verbose=np.int64(0))


def test_a_gradient_that_would_be_broadcast_is_refused():
    for layer in (layers.Dropout(0.5), layers.Activation("tanh"), layers.LayerNormalization()):
        _, cache = layer.forward(X, Pass(training=True))
        with pytest.raises(ValueError, match=r"gave an output of shape \(4, 2\), but dL/dy has shape \(1, 2\)"):
            layer.backward(np.ones((1, 2)), cache)


def test_weights_that_are_wider_than_the_states_are_refused():
    with pytest.raises(
        ValueError, match=r"^W must be an array \(E, 4H\) like the others, not an array of shape \(4, 8\)"
    ):
        gates.lstm_forward(np.ones((B, T, E)), STATE, STATE, np.ones((E, 8)), np.ones((H, 8)), np.ones(8))
