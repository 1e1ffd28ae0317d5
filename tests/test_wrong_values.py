"""Every argument of every public callable is given values of wrong kinds, one at a time.

Each has to be accepted, if the table says so, or refused with a TypeError or ValueError whose message names the
argument. A new public name without an entry fails, and so does a new argument.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from scratchlstm import (
    Model,
    Sequential,
    activations,
    backend,
    callbacks,
    config,
    constraints,
    gates,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    schedules,
    utils,
)
from scratchlstm.layers import Dense, Layer
from scratchlstm.preprocessing import sequence, text


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
    other: dict[str, str] = {}  # noqa: RUF012 - argument -> what an error may call it besides


FLAG = "True"
OPTIONAL = "None"
NAME = "None text"
ANY_NUMBER = "-1"
ARRAYS = "array tensor"


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
    return Entry(call, valid, kinds | named | (takes or {}), signature, other or {})


def _of_layer(make, x, takes="", **call):
    """A layer's call, and its methods, for x; `takes` is what x may be besides."""

    def built():
        layer = make()
        layer(x)
        return layer

    def backward(dy):
        layer = built()
        outputs = [dy] if layer.outputs == 1 else [dy, None, None]
        return layer.backward(*outputs)

    shape = [each.shape[1:] for each in x] if isinstance(x, list) else x.shape[1:]
    y = make()(x)
    kinds = {"x": takes, "training": "None True", **dict.fromkeys(call, OPTIONAL)}
    by_name = {"x": type(make()).__name__.lower()[:4] + ".* (takes|got|has|was)"}
    return [
        Entry(lambda **a: make()(**a), {"x": x, "training": False, **call}, kinds, Layer.__call__, by_name),
        Entry(
            lambda **a: make().build(**a),
            {"input_shape": shape, "rng": None, "params": None},
            {"rng": OPTIONAL, "params": OPTIONAL},
            other={"params": "weight", "input_shape": "shape"},
        ),
        Entry(lambda **a: built().set_weights(**a), {"weights": built().get_weights()}, {}),
        Entry(lambda **a: built().to(**a), {"name": "numpy"}, {}, other={"name": "backend"}),
        Entry(backward, {"dy": np.ones_like(np.asarray(y[0] if isinstance(y, list) else y))}, {}),
    ]


def _of_function(function, **given):
    return _by_default(function, {name: "" for name in given}, **given)


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
CLIPS = {"clipnorm": None, "clipvalue": None, "global_clipnorm": None}
WATCHED = {"monitor": "loss", "min_delta": 0.0, "patience": 1, "verbose": 0, "mode": "min"}
TAKES_WATCHED = {"monitor": "text", "min_delta": ANY_NUMBER, "verbose": FLAG}
RETRIEVAL = {"thresholds": None, "top_k": None, "class_id": None, "name": None}
TAKES_RETRIEVAL = {"thresholds": "None array", "top_k": OPTIONAL, "class_id": OPTIONAL, "name": NAME}
PARAMS, GRADS = [np.ones(2)], [np.ones(2)]
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
            {"learning_rate": 0.1, "momentum": 0.9, "nesterov": False, **CLIPS},
            {"nesterov": FLAG, **dict.fromkeys(CLIPS, OPTIONAL)},
        ),
        Entry(
            lambda **arguments: optimizers.SGD().apply(**arguments),
            {"params": PARAMS, "grads": GRADS, "broken": None, "loss": None},
            {"broken": " ".join(WRONG), "loss": " ".join(WRONG)},  # these two are for a GPU alone
            optimizers.SGD.apply,
        ),
    ],
    "optimizers.RMSprop": [
        Entry(
            optimizers.RMSprop,
            {"learning_rate": 0.1, "rho": 0.9, "epsilon": 1e-7, **CLIPS},
            dict.fromkeys(CLIPS, OPTIONAL),
        )
    ],
    "optimizers.Adam": [
        Entry(
            optimizers.Adam,
            {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.9, "epsilon": 1e-7, **CLIPS},
            dict.fromkeys(CLIPS, OPTIONAL),
        )
    ],
    **{
        f"metrics.{name}": [Entry(getattr(metrics, name), {"name": None}, {"name": NAME})]
        for name in ("Accuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy")
    },
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
        )
    ],
    "schedules.CosineDecay": [
        Entry(
            schedules.CosineDecay,
            {**DECAY, "alpha": 0.0, "name": None, "warmup_target": None, "warmup_steps": 0},
            {"name": NAME, "warmup_target": OPTIONAL},
        )
    ],
    "schedules.PiecewiseConstantDecay": [
        Entry(
            schedules.PiecewiseConstantDecay,
            {"boundaries": [1], "values": [0.1, 0.2], "name": None},
            {"values": "array", "name": NAME},
        )
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
    "text.text_to_word_sequence": [
        Entry(
            text.text_to_word_sequence,
            {"input_text": "A b", "filters": "", "lower": True, "split": " "},
            {"input_text": "text", "filters": "text", "lower": FLAG, "split": "text"},
        )
    ],
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
        _method(
            "compile",
            {"optimizer": "sgd", "loss": "mse", "metrics": None},
            {"metrics": OPTIONAL},
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
                "workers": 1,
                "resume": None,
            },
            {
                "batch_size": OPTIONAL,
                "verbose": FLAG,
                "callbacks": OPTIONAL,
                "validation_data": OPTIONAL,
                "shuffle": FLAG,
                "class_weight": OPTIONAL,
                "sample_weight": OPTIONAL,
                "resume": "None text",  # a checkpoint that does not exist yet
            },
        ),
        _method(
            "evaluate",
            {**DATA, "batch_size": None, "verbose": 0, "return_dict": False, "workers": 1},
            {"batch_size": OPTIONAL, "verbose": FLAG, "sample_weight": OPTIONAL, "return_dict": FLAG},
        ),
        _method(
            "predict",
            {"x": X, "batch_size": None, "verbose": 0, "workers": 1},
            {"batch_size": OPTIONAL, "verbose": FLAG},
        ),
        _method("train_on_batch", DATA, {"sample_weight": OPTIONAL}),
    ],
    # --- layers -------------------------------------------------------------------------------------------------------
    "layers.Layer": [_by_default(layers.Layer)],
    "layers.Input": [_by_default(layers.Input, shape=(3,))],
    "layers.Activation": [
        _by_default(layers.Activation, {"activation": OPTIONAL}, activation="relu"),
        *_of_layer(lambda: layers.Activation("relu"), X, ARRAYS),
    ],
    "layers.Dense": [_by_default(layers.Dense, units=2), *_of_layer(lambda: Dense(1, "sigmoid"), X)],
    "layers.Dropout": [_by_default(layers.Dropout, rate=0.5), *_of_layer(lambda: layers.Dropout(0.5), X, ARRAYS)],
    "layers.SpatialDropout1D": [
        _by_default(layers.SpatialDropout1D, rate=0.5),
        *_of_layer(lambda: layers.SpatialDropout1D(0.5), SERIES),
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
    "layers.Bidirectional": [
        _by_default(layers.Bidirectional, {"merge_mode": OPTIONAL}, layer=layers.LSTM(1)),
        *_of_layer(lambda: layers.Bidirectional(layers.LSTM(1)), SERIES, mask=MASK, initial_state=STATES * 2),
    ],
    "layers.TimeDistributed": [
        _by_default(layers.TimeDistributed, layer=Dense(1)),
        *_of_layer(lambda: layers.TimeDistributed(Dense(1)), SERIES, mask=MASK),
    ],
    # --- what layers are made of --------------------------------------------------------------------------------------
    **{
        f"initializers.{name}": [
            _by_default(getattr(initializers, name), dict.fromkeys(("value", "mean", "minval", "maxval", "gain"), "-1")),
            _by_default(
                lambda name=name, **arguments: getattr(initializers, name)()(**arguments),
                signature=initializers.Initializer.__call__,
                shape=(2, 3),
            ),
        ]
        for name in ("Zeros", "Ones", "Constant", "RandomUniform", "RandomNormal", "GlorotUniform", "GlorotNormal",
                     "Orthogonal", "Initializer")
    },
    **{
        f"{module.__name__.split('.')[-1]}.{name}": [
            _by_default(getattr(module, name)),
            *(
                Entry(lambda a=a, m=method, **w: getattr(a(), m)(**w), {"w": np.ones((2, 3))}, {}, getattr(a, method))
                for method in methods for a in [getattr(module, name)]
            ),
        ]
        for module, names, methods in (
            (constraints, ("NonNeg", "MaxNorm", "UnitNorm"), ["__call__"]),
            (regularizers, ("L1", "L2", "L1L2"), ["__call__", "gradient"]),
        )
        for name in names
    },
    **{
        f"activations.{name}": [Entry(getattr(activations, name), {"z": X}, {"z": ARRAYS})]
        for name in ("softmax", "hard_sigmoid", "relu", "linear")
    },
    "activations.get": [Entry(activations.get, {"identifier": "tanh"}, {"identifier": OPTIONAL})],
    "activations.serialize": [Entry(activations.serialize, {"activation": activations.TANH}, {})],
    **{
        f"{module.__name__.split('.')[-1]}.get": [
            Entry(module.get, {"identifier": known}, {"identifier": takes}, other={"identifier": kind})
        ]
        for module, known, takes, kind in (
            (initializers, "zeros", "", "initializer"),
            (constraints, "non_neg", "None", "constraint"),
            (regularizers, "l2", "None", "regularizer"),
            (losses, "mse", "", "loss"),
            (metrics, "accuracy", "", "metric"),
            (optimizers, "sgd", "", "optimizer"),
            (schedules, schedules.ExponentialDecay(0.1, 1, 0.5), "", "schedule"),
        )
    },
    "config.set_floatx": [Entry(config.set_floatx, {"dtype": "float32"}, {})],
    "config.float_dtype": [Entry(config.float_dtype, {"dtype": "float32"}, {"dtype": OPTIONAL})],
    "config.floatx": [Entry(config.floatx, {}, {})],
    # --- gates --------------------------------------------------------------------------------------------------------
    **{
        f"gates.{name}": [Entry(getattr(gates, name), {argument: X}, {argument: ARRAYS})]
        for name, argument in (("sigmoid", "x"), ("sigmoid_prime", "s"), ("tanh", "x"), ("tanh_prime", "t"))
    },
    "gates.lstm_step_forward": [
        _by_default(gates.lstm_step_forward, x=np.ones((B, E)), h_prev=STATE, c_prev=STATE, **CELL)
    ],
    "gates.lstm_step_backward": [
        _by_default(gates.lstm_step_backward, dh=STATE, dc_next=STATE, cache=CACHE, **KERNELS)
    ],
    "gates.lstm_forward": [
        _by_default(gates.lstm_forward, x=np.ones((B, T, E)), h0=STATE, c0=STATE, **CELL)
    ],
    "gates.lstm_backward": [
        _by_default(gates.lstm_backward, dhs=np.ones((B, T, H)), dc_last=STATE, caches=CACHES, **KERNELS)
    ],
    # --- models -------------------------------------------------------------------------------------------------------
    "models.load_model": [Entry(models.load_model, {"path": "saved.npz"}, {})],
}

# public names without an entry, and why
BASES = {"losses.Loss", "optimizers.Optimizer", "metrics.Metric", "schedules.LearningRateSchedule"}
PARTS = {
    *(f"optimizers.{name}" for name in ("Gradients", "values_of", "with_values", "norm", "is_finite")),
    *(f"{module}.get" for module in ("losses", "optimizers", "metrics", "schedules")),  # by `compile` or an optimizer
}
MODULES = {
    "losses": losses,
    "optimizers": optimizers,
    "metrics": metrics,
    "schedules": schedules,
    "callbacks": callbacks,
    "sequence": sequence,
    "text": text,
    "utils": utils,
    "layers": layers,
    "initializers": initializers,
    "constraints": constraints,
    "regularizers": regularizers,
    "activations": activations,
    "config": config,
    "gates": gates,
}


def _public(module):
    """The classes and functions that a module offers as its own."""
    for name, thing in vars(module).items():
        inside = getattr(thing, "__module__", "").startswith(module.__name__)
        if inside and not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield name


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_entry(module):
    names = {f"{module}.{name}" for name in _public(MODULES[module])}
    assert names - set(TABLE) - BASES - PARTS == set()
    assert {name for name in TABLE if name.startswith(f"{module}.")} <= names


ENTRIES = [(name, number, entry) for name, entries in TABLE.items() for number, entry in enumerate(entries)]
ARGUMENTS = [(f"{name}-{number}", entry, argument) for name, number, entry in ENTRIES for argument in entry.valid]


@pytest.mark.parametrize("entry", [entry for _, _, entry in ENTRIES], ids=[f"{name}-{n}" for name, n, _ in ENTRIES])
def test_every_argument_has_a_valid_value(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = inspect.signature(entry.signature or entry.call).parameters.values()
    names = [each.name for each in parameters if each.name != "self" and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    assert set(names) <= set(entry.valid)
    assert set(entry.takes) <= set(entry.valid)
    entry.call(**entry.valid)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(
    ("entry", "argument"), [each[1:] for each in ARGUMENTS], ids=[f"{a}-{c}" for a, _, c in ARGUMENTS]
)
def test_wrong_values(entry, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    takes, found = entry.takes.get(argument, "").split(), {}
    other = {"y_true": "targets", "y_pred": "predictions"}.get(argument, argument)
    other = entry.other.get(argument, other)
    named = re.compile(rf"\b({argument.removesuffix('s').replace('_', '[-_ ]')}|{other})", re.IGNORECASE)
    for kind, value in WRONG.items():
        try:
            entry.call(**entry.valid | {argument: value})
            outcome = "taken"
        except (TypeError, ValueError) as error:
            outcome = "refused" if named.search(str(error)) else f"does not name it: {error}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        if outcome != ("taken" if kind in takes else "refused"):
            found[kind] = outcome
    assert found == {}
