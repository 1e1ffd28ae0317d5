"""What does not fit is refused at the boundary: by name, with what came and what was expected, and without a trace."""

import re
from contextlib import contextmanager

import numpy as np
import pytest

from scratchlstm import Input, Sequential
from scratchlstm.callbacks import Callback
from scratchlstm.initializers import Orthogonal
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding, Layer
from scratchlstm.optimizers import SGD, Adam, RMSprop

V, T, N = 10, 5, 6
IDS = np.arange(N * T).reshape(N, T) % V
LABELS = np.arange(N) % 2
NAN, INF = float("nan"), float("inf")


def _text():
    """Trained, so that optimizer state and history exist."""
    layers = [Embedding(V, 3, input_shape=(T,)), LSTM(2), Dense(1, activation="sigmoid")]
    return _trained(Sequential(layers, seed=0), IDS, LABELS, "binary_crossentropy")


def _numbers(loss="mse", units=2, activation=None):
    model = Sequential([Dense(units, activation, input_shape=(3,))], seed=0)
    y = LABELS if loss.startswith("sparse") else np.eye(2)[LABELS][:, :units]
    return _trained(model, np.ones((N, 3)), y, loss)


def _trained(model, x, y, loss):
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    return model


def _state(model):
    optimizer = getattr(model, "optimizer", None)
    slots = [slot.tobytes() for slots in optimizer.state for slot in slots.values()] if optimizer else None
    return {
        "layers": [(layer, layer.name, layer.input_shape) for layer in model.layers],
        "input_shape": model.input_shape,
        "weights": [weight.tobytes() for weight in model.get_weights()],
        "compiled": [getattr(model, name, None) for name in ("optimizer", "loss", "metrics")],
        "optimizer": (optimizer and optimizer.iterations, slots),
        "history": model.history,
        "randomness": model.rng.bit_generator.state,
    }


@contextmanager
def _refused(model, match, error=(TypeError, ValueError)):
    before = _state(model)
    with pytest.raises(error, match=match):
        yield
    after = _state(model)
    assert {name: value for name, value in after.items() if value != before[name]} == {}, "something changed"


def _changed(array, place, value, dtype=None):
    array = np.array(array, dtype=dtype)
    array[place] = value
    return array


_METHODS = {
    "fit": lambda model, x, y=LABELS, **options: model.fit(x, y, verbose=0, **options),
    "evaluate": lambda model, x, y=LABELS, **options: model.evaluate(x, y, verbose=0, **options),
    "predict": lambda model, x: model.predict(x, verbose=0),
    "validation": lambda model, x, y=LABELS: model.fit(IDS, LABELS, validation_data=(x, y), verbose=0),
}
_WITH_TARGETS = {name: method for name, method in _METHODS.items() if name != "predict"}
_each_method = pytest.mark.parametrize("method", _METHODS.values(), ids=_METHODS)
_each_with_targets = pytest.mark.parametrize("method", _WITH_TARGETS.values(), ids=_WITH_TARGETS)


def _cases(names, table):
    return pytest.mark.parametrize(names, table.values(), ids=table)


# --- x ----------------------------------------------------------------------------------------------------------------

_BAD_IDS = {
    "negative": (_changed(IDS, (2, 3), -1), r"ids 0 to 9, .*the id -1 \(negative\)"),
    "too large": (_changed(IDS, (5, 0), V), r"ids 0 to 9, .*the id 10 \(too large\)"),
    "much too large": (_changed(IDS, (0, 0), 2**64 - 1, np.uint64), "id 18446744073709551615"),
    "floats": (IDS.astype(float), "integer ids, but the input has dtype float64.*astype"),
    "truth values": (IDS > 3, "integer ids, but the input has dtype bool"),
    "text": (IDS.astype(str), "integer ids, but the input has dtype <U"),
    "complex": (IDS + 0j, "integer ids, but the input has dtype complex128"),
    "dates": (IDS.astype("M8[D]"), "integer ids, but the input has dtype datetime64"),
    "objects": (IDS.astype(object), "x contains objects instead of numbers"),
    "None": (None, "x is missing"),
    "ragged": ([[1, 2], [3]] * 3, "x has rows of different lengths; .*pad_sequences"),
    "ragged objects": (np.array([[1, 2], [3]] * 3, dtype=object), "x contains objects .*pad_sequences"),
    "a dict": ({"x": IDS}, "x contains objects"),
    "nothing": ([], "x is empty"),
    "no samples": (IDS[:0], "x is empty"),
    "one number": (3, "x must be an array of samples, not a single number, 3"),
    "no steps": (IDS[:, :0], r"empty.*\(6, 0\)|\(6, 0\).*empty"),
    "one row": (IDS[0], r"2 dimensions .*got shape \(None\)|2 dimensions.*\(5,\)"),
    "a dimension too many": (IDS[..., None], r"2 dimensions .*\(None, 5, 1\)"),
    "too long": (
        np.concatenate([IDS, IDS], axis=1),
        r"sequential takes inputs of shape \(None, 5\), but got \(None, 10\)",
    ),
    "NaN": (_changed(IDS, (1, 4), NAN, float), r"x holds nan at \(1, 4\)"),
}


@_each_method
@_cases(("x", "match"), _BAD_IDS)
def test_bad_ids(method, x, match):
    model = _text()
    with _refused(model, match):
        method(model, x)


ONES = np.ones((N, 3))
_BAD_NUMBERS = {
    "NaN": (_changed(ONES, (4, 1), NAN), r"x holds nan at \(4, 1\); only finite"),
    "infinity": (_changed(ONES, (0, 2), INF), r"x holds inf at \(0, 2\)"),
    "minus infinity": (_changed(ONES, (0, 2), -INF), r"x holds -inf at \(0, 2\)"),
    "infinite as float32": (_changed(ONES, (3, 0), 1e300), r"x holds (1e\+300|inf) at \(3, 0\)"),
    "text": (ONES.astype(str), "takes numbers, but the input has dtype <U"),
    "complex": (ONES + 1j, "takes numbers, but the input has dtype complex128"),
    "another width": (np.ones((N, 4)), r"built for inputs of shape \(None, 3\), but got \(6, 4\)"),
    "a dimension too few": (np.ones(N), "takes an input of 2 dimensions"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@_cases(("x", "match"), _BAD_NUMBERS)
def test_bad_numbers(method, x, match):
    model = _numbers()
    targets = {} if method == "predict" else {"y": np.eye(2)[LABELS]}
    with _refused(model, match):
        _METHODS[method](model, x, **targets)


def test_bad_validation_data_are_named_as_such():
    model = _text()
    with _refused(model, r"validation x holds nan at \(1, 4\)"):
        model.fit(IDS, LABELS, validation_data=(_changed(IDS, (1, 4), NAN, float), LABELS), verbose=0)


_UNBUILDABLE = {
    "ids in a row": (lambda: [Embedding(V, 3), LSTM(2)], IDS[:, 0], IDS),
    "ids with a dimension too many": (lambda: [Embedding(V, 3), LSTM(2)], IDS[..., None], IDS),
    "rows where sequences are due": (lambda: [Dense(3), LSTM(2)], np.ones((N, 4)), np.ones((N, T, 4))),
    "at the first layer": (lambda: [LSTM(2)], np.ones((N, 4)), np.ones((N, T, 4))),
}


@_cases(("layers", "bad", "good"), _UNBUILDABLE)
def test_a_model_that_a_wrong_input_could_not_build_can_still_be_built(layers, bad, good):
    model = Sequential(layers(), seed=0)
    with _refused(model, "lstm takes an input of 3 dimensions"):
        model.predict(bad, verbose=0)
    assert model.predict(good, verbose=0).shape == (N, 2)


def test_data_for_a_model_without_layers():
    with _refused(Sequential(), "no layers"):
        Sequential().predict(ONES)


# --- y and sample_weight ----------------------------------------------------------------------------------------------

_BAD_TARGETS = {
    "none": (None, "y is missing"),
    "one less": (LABELS[:-1], "x has 6 samples, but validation y has 5|x has 6 samples, but y has 5"),
    "one more": (np.append(LABELS, 1), "x has 6 samples, but (validation )?y has 7"),
    "one number": (1, r"y has 1|y .*\(\)"),
    "empty": ([], "y has 0|y is empty"),
    "ragged": ([[1], [0, 1]] * 3, "y has rows of different lengths"),
    "text": (np.array(["good", "bad"] * 3), "y must contain numbers, but has dtype <U"),
    "objects": (LABELS.astype(object), "y contains objects"),
    "complex": (LABELS + 0j, "y must contain numbers, but has dtype complex128"),
    "NaN": (_changed(LABELS, 3, NAN, float), r"y holds nan at \(3,\)"),
    "infinity": (_changed(LABELS, 5, INF, float), r"y holds inf at \(5,\)"),
    "two columns": (np.eye(2)[LABELS], r"the same shape, but got targets \(6, 2\) and predictions \(6, 1\)"),
    "a row": (LABELS[None], "x has 6 samples, but (validation )?y has 1"),
    "labels -1 and 1": (2 * LABELS - 1, "-1"),
    "labels 1 and 2": (LABELS + 1, "2"),
}


@_each_with_targets
@_cases(("y", "match"), _BAD_TARGETS)
def test_bad_targets(method, y, match):
    model = _text()
    with _refused(model, match):
        method(model, IDS, y)


_MISFITS = {
    "mse, another width": ("mse", np.ones((N, 3)), r"mean_squared_error .*targets \(6, 3\) and predictions \(6, 2\)"),
    "mse, no width": ("mse", np.ones(N), r"mean_squared_error .*targets \(6,\) and predictions \(6, 2\)"),
    "mse, infinite as float32": ("mse", np.full((N, 2), 1e300), r"y holds (1e\+300|inf) at \(0, 0\)"),
    "categorical, class numbers": ("categorical_crossentropy", LABELS, r"categorical_crossentropy .*\(6,\)"),
    "sparse, one-hot": ("sparse_categorical_crossentropy", np.eye(2)[LABELS], r"targets of shape \(6,\), not \(6, 2\)"),
    "sparse, too large": ("sparse_categorical_crossentropy", LABELS + 1, "numbers from 0 to 1, but range from 1 to 2"),
    "sparse, negative": ("sparse_categorical_crossentropy", LABELS - 1, "numbers from 0 to 1, but range from -1 to 0"),
    "sparse, a half": ("sparse_categorical_crossentropy", LABELS / 2, "whole numbers from 0 to 1.*0.5"),
    "binary, beyond 1": ("binary_crossentropy", np.full((N, 2), 1.5), "1.5"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("method", ["fit", "evaluate"])
@_cases(("loss", "y", "match"), _MISFITS)
def test_targets_that_do_not_fit_the_loss(method, loss, y, match):
    model = _numbers(loss, activation={"m": None, "b": "sigmoid"}.get(loss[0], "softmax"))
    with _refused(model, match):
        _METHODS[method](model, ONES, y)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("loss", "y", "metric"),
    [
        ("categorical_crossentropy", np.eye(2)[LABELS], "sparse_categorical_accuracy"),
        ("sparse_categorical_crossentropy", LABELS, "categorical_accuracy"),
    ],
)
def test_a_metric_that_does_not_fit_the_targets(method, loss, y, metric):
    """Otherwise it compares what does not belong together: an error deep in NumPy, or a number that means nothing."""
    model = _numbers(loss, activation="softmax")
    model.compile(model.optimizer, loss, metrics=[metric])
    with _refused(model, metric):
        _METHODS[method](model, ONES, y)


_BAD_WEIGHTS = {
    "one less": (np.ones(N - 1), r"sample_weight must have one number for each of the 6 samples, but has shape \(5,\)"),
    "one number": (2.0, r"sample_weight must have one number for each of the 6 samples, but has shape \(\)"),
    "too wide": (np.ones((N, 4)), r"sample_weight must have one number .*\(6, 4\)"),
    "text": (["a"] * N, "sample_weight must have one number .*dtype <U1"),
    "ragged": ([[1], [1, 2]] * 3, "sample_weight has rows of different lengths"),
    "NaN": (_changed(np.ones(N), 2, NAN), r"sample_weight holds nan at \(2,\)"),
    "infinity": (_changed(np.ones(N), 2, INF), r"sample_weight holds inf at \(2,\)"),
}


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@_cases(("weight", "match"), _BAD_WEIGHTS)
def test_bad_sample_weights(method, weight, match):
    model = _text()
    with _refused(model, match):
        _METHODS[method](model, IDS, sample_weight=weight)


# --- the arguments of fit ---------------------------------------------------------------------------------------------

_BAD_FIT = {
    "batch_size 0": ({"batch_size": 0}, "batch_size must be a whole number above 0, not 0"),
    "batch_size -1": ({"batch_size": -1}, "batch_size must be .*-1"),
    "batch_size 2.5": ({"batch_size": 2.5}, r"batch_size must be .*2\.5"),
    "batch_size text": ({"batch_size": "8"}, "batch_size must be .*'8'"),
    "batch_size True": ({"batch_size": True}, "batch_size must be .*True"),
    "epochs 0": ({"epochs": 0}, "epochs must be a whole number above 0, not 0"),
    "epochs 1.5": ({"epochs": 1.5}, r"epochs must be .*1\.5"),
    "epochs None": ({"epochs": None}, "epochs must be .*None"),
    "verbose 7": ({"verbose": 7}, 'verbose must be 0, 1, 2 or "auto", not 7'),
    "verbose text": ({"verbose": "loud"}, "verbose must be .*'loud'"),
    "verbose None": ({"verbose": None}, "verbose must be .*None"),
    "split 1": ({"validation_split": 1.0}, r"validation_split must be .*1\.0"),
    "split 1.5": ({"validation_split": 1.5}, r"validation_split must be .*1\.5"),
    "split -0.1": ({"validation_split": -0.1}, r"validation_split must be .*-0\.1"),
    "split NaN": ({"validation_split": NAN}, "validation_split must be .*nan"),
    "split text": ({"validation_split": "0.1"}, "validation_split must be .*'0.1'"),
    "split leaves nothing": ({"validation_split": 0.9}, "validation_split=0.9 leaves no training samples out of 6"),
    "initial_epoch -1": ({"initial_epoch": -1}, "initial_epoch must be .*-1"),
    "initial_epoch = epochs": ({"initial_epoch": 2, "epochs": 2}, "initial_epoch must be from 0 to .*1, not 2"),
    "initial_epoch 0.5": ({"initial_epoch": 0.5}, r"initial_epoch must be .*0\.5"),
    "initial_epoch text": ({"initial_epoch": "0"}, "initial_epoch must be .*'0'"),
    "validation_data one": (
        {"validation_data": (IDS,)},
        r"validation_data must be \(x, y\) or \(x, y, sample_weight\)",
    ),
    "validation_data four": ({"validation_data": (IDS, LABELS, None, None)}, "validation_data must be"),
    "validation_data an array": ({"validation_data": IDS}, "validation_data must be"),
    "callbacks a number": ({"callbacks": [3]}, "callbacks must be Callback objects, not 3"),
    "callbacks a class": ({"callbacks": [Callback]}, "callbacks must be Callback objects, not <class"),
    "callbacks no list": ({"callbacks": 3}, "callbacks must be .*3"),
    "class_weight a list": ({"class_weight": [1, 2]}, "class_weight must be"),
    "class_weight NaN": ({"class_weight": {0: NAN}}, "class_weight.*nan"),
    "class_weight infinite": ({"class_weight": {0: INF}}, "class_weight.*inf"),
    "class_weight text": ({"class_weight": {0: "a"}}, "class_weight.*'a'"),
    "class_weight text as label": ({"class_weight": {"bad": 2.0}}, "class_weight.*'bad'"),
    "two kinds of weights": ({"class_weight": {0: 2}, "sample_weight": np.ones(N)}, "class_weight and sample_weight"),
}


@_cases(("options", "match"), _BAD_FIT)
def test_bad_arguments_of_fit(options, match):
    model = _text()
    with _refused(model, match):
        model.fit(IDS, LABELS, **{"verbose": 0, **options})


@pytest.mark.parametrize("method", ["evaluate", "predict"])
@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 2.5}, {"verbose": 7}])
def test_bad_arguments_of_evaluate_and_predict(method, options):
    model = _text()
    with _refused(model, f"{next(iter(options))} must be"):
        getattr(model, method)(IDS, *[LABELS] * (method == "evaluate"), **{"verbose": 0, **options})


def test_class_weight_needs_one_label_per_sample():
    """For targets in sequence Keras fails, too; taking the first step's label would be a guess."""
    model = Sequential([Embedding(V, 3, input_shape=(T,)), LSTM(2, return_sequences=True), Dense(1)], seed=0)
    model.compile("adam", "mse")
    with _refused(model, "class_weight"):
        model.fit(IDS, (IDS % 2)[..., None], class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_before_compile(method):
    model = Sequential([Dense(1, input_shape=(3,))])
    with _refused(model, rf"call compile\(.*\) before {method}", RuntimeError):
        _METHODS[method](model, ONES)
    model.predict(ONES, verbose=0)


# --- training that goes wrong -----------------------------------------------------------------------------------------


def _diverging():
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    model.compile(SGD(0.1, momentum=0.9), "mse")
    return model


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_loss_that_is_no_number_names_epoch_and_batch_and_leaves_the_batch_before():
    stopped, whole = _diverging(), _diverging()
    x, y = np.array([[1.0], [2], [1e30], [1]]), np.ones(4)
    whole.fit(x[:2], y[:2], batch_size=1, shuffle=False, verbose=0)
    message = r"the loss became inf.*learning_rate.*\(epoch 1, batch 3 of 4\)"
    with pytest.raises(FloatingPointError, match=message):
        stopped.fit(x, y, batch_size=1, shuffle=False, epochs=3, verbose=0)
    for ours, theirs in zip(stopped.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert stopped.optimizer.iterations == 2
    assert stopped.optimizer.state[0]["momentum"] == whole.optimizer.state[0]["momentum"]


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_gradient_that_is_no_number_does_not_reach_the_parameters():
    """In float32 (1e18)² is finite, and 1e18 * 1e25 is not: the loss looks sound, its derivative is infinite."""
    model = Sequential([Dense(1, input_shape=(1,), use_bias=False)], seed=0)
    model.compile(SGD(0.1), "mse")
    model.set_weights([[[1e-10]]])
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 1 of 1"):
        model.fit([[1e25]], [1e18], verbose=0)
    assert model.get_weights()[0] == np.float32(1e-10)


# --- parameters -------------------------------------------------------------------------------------------------------


_BAD_PARAMETERS = {
    "one less": (lambda w: w[:-1], "has 6 weights, but 5 were given"),
    "one more": (lambda w: [*w, w[0]], "has 6 weights, but 7 were given"),
    "none": (lambda w: None, "weights"),
    "a number": (lambda w: 3, "weights"),
    "last transposed": (lambda w: [*w[:4], w[4].T, w[5]], r"has shape \(2, 1\), but \(1, 2\) was given"),
    "last one scalar": (lambda w: [*w[:5], 1.0], r"has shape \(1,\), but \(\) was given"),
    "last one NaN": (lambda w: [*w[:5], [NAN]], "not finite numbers"),
    "last one infinite": (lambda w: [*w[:5], [INF]], "not finite numbers"),
    "last one infinite as float32": (lambda w: [*w[:5], [1e300]], "not finite numbers|float32"),
    "last one text": (lambda w: [*w[:5], ["a"]], "not finite numbers"),
    "last one complex": (lambda w: [*w[:5], [1j]], "not finite numbers"),
    "last one ragged": (lambda w: [*w[:5], [[1], [1, 2]]], "weight .*bias of"),
    "last one None": (lambda w: [*w[:5], None], "weight .*bias of"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("of", ["model", "layer"])
@_cases(("change", "match"), _BAD_PARAMETERS)
def test_bad_parameters_change_none(of, change, match):
    model = _text()
    taker, first = (model, 0) if of == "model" else (model.layers[2], 4)
    if of == "layer":
        match = match.replace("6", "2").replace("5 were", "1 were").replace("7 were", "3 were")
    given = change([weight + 1 for weight in model.get_weights()])
    given = given[first:] if isinstance(given, list) else given
    with _refused(model, match):
        taker.set_weights(given)


def test_parameters_of_a_model_that_has_none_yet():
    model = Sequential([Dense(1)])
    with _refused(model, "no parameters yet: give it an input_shape, or call build"):
        model.set_weights([[[1.0]], [1.0]])


# --- names ------------------------------------------------------------------------------------------------------------

_OPTIMIZERS = "adam, rmsprop, sgd"
_INITIALIZERS = "constant, glorot_normal, glorot_uniform, .*zeros"
_ACTIVATIONS = "hard_sigmoid, linear, relu, sigmoid, softmax, tanh"
_UNKNOWN = {
    "optimizer": (lambda m: m.compile("adamm", "mse"), f"unknown optimizer 'adamm'. Known: {_OPTIMIZERS}"),
    "loss": (lambda m: m.compile("adam", "mss"), "unknown loss 'mss'. Known: binary_crossentropy, .*mse, sparse_"),
    "metric": (
        lambda m: m.compile("adam", "mse", metrics=["acu"]),
        "unknown metric 'acu'. Known: acc, accuracy, auc, binary_accuracy",
    ),
    "second metric": (lambda m: m.compile("sgd", "mse", metrics=["acc", "x"]), "unknown metric 'x'"),
    "activation": (lambda m: m.add(Dense(1, "rellu")), f"unknown activation 'rellu'. Known: {_ACTIVATIONS}"),
    "Activation": (lambda m: m.add(Activation("rellu")), f"unknown activation 'rellu'. Known: {_ACTIVATIONS}"),
    "gates": (lambda m: m.add(LSTM(1, recurrent_activation="s")), f"unknown activation 's'. Known: {_ACTIVATIONS}"),
    "Dense kernel": (lambda m: m.add(Dense(1, kernel_initializer="g")), f"initializer 'g'. Known: {_INITIALIZERS}"),
    "Dense bias": (lambda m: m.add(Dense(1, bias_initializer="g")), f"initializer 'g'. Known: {_INITIALIZERS}"),
    "table": (lambda m: m.add(Embedding(2, 1, "g")), f"initializer 'g'. Known: {_INITIALIZERS}"),
    "LSTM kernel": (lambda m: m.add(LSTM(1, kernel_initializer="g")), f"initializer 'g'. Known: {_INITIALIZERS}"),
    "recurrent": (lambda m: m.add(LSTM(1, recurrent_initializer="g")), f"initializer 'g'. Known: {_INITIALIZERS}"),
    "LSTM bias": (lambda m: m.add(LSTM(1, bias_initializer="g")), f"initializer 'g'. Known: {_INITIALIZERS}"),
    "implementation": (
        lambda m: m.add(LSTM(1, implementation="fast")),
        'implementation must be "fused", "compiled", "numpy" or "textbook", not \'fast\'',
    ),
    "softmax gates": (
        lambda m: m.add(LSTM(1, activation="softmax")),
        "activation of a recurrent layer .*which softmax is not",
    ),
    "dtype": (lambda m: m.add(Dense(1, dtype="float16")), "dtype must be one of float32, float64, not 'float16'"),
    "no loss": (lambda m: m.compile("adam"), "loss is missing"),
    "optimizer a number": (lambda m: m.compile(0.1, "mse"), "optimizer must be a name or an? Optimizer, not 0.1"),
    "loss a function": (lambda m: m.compile("sgd", len), "loss must be a name or a Loss, not <built-in"),
    "metric a number": (lambda m: m.compile("sgd", "mse", metrics=[1]), "metric must be a name or a Metric, not 1"),
    "metrics a number": (lambda m: m.compile("sgd", "mse", metrics=1), "metrics? must be"),
    "one metric twice": (lambda m: m.compile("sgd", "mse", metrics=["acc", "acc"]), "different names.*acc, acc"),
}


@_cases(("act", "match"), _UNKNOWN)
def test_unknown_names_list_the_known_ones(act, match):
    model = _numbers()
    with _refused(model, match):
        act(model)


# --- layers -----------------------------------------------------------------------------------------------------------

_SIZES = {
    "Dense": (Dense, "units"),
    "LSTM": (LSTM, "units"),
    "input_dim": (lambda size: Embedding(size, 1), "input_dim"),
    "output_dim": (lambda size: Embedding(1, size), "output_dim"),
    "input_length": (lambda size: Embedding(1, 1, input_length=size), "input_length"),
    "Input": (lambda size: Input((size,)), "shape"),
    "input_shape": (lambda size: Dense(1, input_shape=(3, size)), "shape"),
}


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3", NAN, (3,), 10.0], ids=repr)
@_cases(("make", "argument"), _SIZES)
def test_sizes_are_whole_numbers_above_0(make, argument, size):
    with pytest.raises(ValueError, match=re.escape(f"{argument} must be a whole number above 0, not {size!r}")):
        make(size)


@pytest.mark.parametrize("make", [Dense, LSTM, lambda size: Embedding(size, 1), lambda size: Embedding(1, size)])
def test_sizes_may_not_be_missing_and_may_be_numpys(make):
    with pytest.raises(ValueError, match="must be a whole number above 0, not None"):
        make(None)
    make(np.int64(3))


@pytest.mark.parametrize("rate", [1.0, 1, -0.1, 2, NAN, INF, "0.5", None, [0.5]], ids=repr)
def test_dropout_rates(rate):
    with pytest.raises((TypeError, ValueError), match="rate must be at least 0 and below 1, not"):
        Dropout(rate)


@pytest.mark.parametrize("seed", ["x", -1, 1.5], ids=repr)
@_cases("make", {"Dropout": lambda seed: Dropout(0.5, seed=seed), "Sequential": lambda seed: Sequential(seed=seed)})
def test_seeds(make, seed):
    with pytest.raises((TypeError, ValueError), match="seed"):
        make(seed)


_SHAPES = {
    "Input": Input,
    "input_shape": lambda shape: Dense(1, input_shape=shape),
    "build": lambda shape: Sequential([Dense(1)]).build(shape),
}


@pytest.mark.parametrize("shape", [100, "100", 2.5], ids=repr)
@_cases("make", _SHAPES)
def test_shapes_are_tuples(make, shape):
    with pytest.raises(ValueError, match=r"shape must be a tuple.*100.*, not"):
        make(shape)


def test_input_length_and_input_shape_agree():
    with pytest.raises(ValueError, match=r"input_length=3 and input_shape=\(4,\) contradict"):
        Embedding(2, 2, input_length=3, input_shape=(4,))
    assert Embedding(2, 2, input_length=4, input_shape=[4]).given_shape == (4,)


_FLOAT_LAYERS = {"LSTM": lambda: LSTM(2), "textbook": lambda: LSTM(2, implementation="textbook")}


@_cases("make", _FLOAT_LAYERS)
def test_an_lstms_input(make):
    for x, match in (
        (np.ones((2, 3)), r"lstm takes an input of 3 dimensions \(batch first\), but got shape \(None, 3\)"),
        (np.ones((2, 3, 4, 1)), "lstm takes an input of 3 dimensions"),
        (np.ones((0, 3, 4)), r"lstm got an empty input, of shape \(0, 3, 4\)"),
        (np.ones((2, 0, 4)), r"lstm got an empty input, of shape \(2, 0, 4\)"),
        (np.ones((2, 3, 0)), r"lstm got an empty input, of shape \(2, 3, 0\)"),
        (np.full((2, 3, 4), "a"), "lstm takes numbers, but the input has dtype <U1"),
        (np.array([[[1], [2, 3]]], dtype=object), "lstm takes|different lengths"),
    ):
        layer = make()
        with pytest.raises((TypeError, ValueError), match=match):
            layer(x)
        assert not layer.built, "a refused input builds nothing"


@_cases("make", _FLOAT_LAYERS)
@pytest.mark.parametrize(
    ("states", "match"),
    [
        ([np.zeros((5, 2))], r"initial_state of lstm must be \[h0, c0\], not 1 arrays"),
        ([np.zeros((5, 2))] * 3, r"initial_state of lstm must be \[h0, c0\], not 3 arrays"),
        (np.zeros((5, 2)), r"initial_state of lstm must be \[h0, c0\]"),
        (3, r"initial_state of lstm must be \[h0, c0\]"),
        ([np.zeros((5, 2)), np.zeros((4, 2))], r"c0 in initial_state of lstm must have shape \(5, 2\), not \(4, 2\)"),
        ([np.zeros((1, 2)), np.zeros((5, 2))], r"h0 in initial_state of lstm must have shape \(5, 2\), not \(1, 2\)"),
        ([np.zeros((5, 3)), np.zeros((5, 2))], r"h0 in initial_state of lstm must have shape \(5, 2\), not \(5, 3\)"),
        ([0.0, 0.0], r"h0 in initial_state of lstm must have shape \(5, 2\), not \(\)"),
        ([None, np.zeros((5, 2))], "h0 in initial_state of lstm"),
    ],
)
def test_an_lstms_initial_state(make, states, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()(np.ones((5, 4, 3)), initial_state=states)


def test_an_orthogonal_bias_is_refused_where_it_is_built():
    with pytest.raises(ValueError, match=r"orthogonal .*at least 2 dimensions, not shape \(2,\)"):
        Dense(2, bias_initializer=Orthogonal(), input_shape=(3,)).build((3,))


# --- the stack --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "match"),
    [
        ("lstm", "add takes a layer, not 'lstm'"),
        (Dense, "add takes a layer, not <class"),
        (None, "add takes a layer, not None"),
        ([Dense(1)], "add takes a layer, not \\["),
        (Input((3,)), "Input gives the shape .*must come first"),
        (LSTM(2), r"lstm takes an input of 3 dimensions .*\(None, 2\)"),
        (Dense(1, name="dense"), "already has a layer named 'dense'"),
    ],
    ids=["text", "class", "None", "list", "Input", "LSTM", "name taken"],
)
def test_what_cannot_be_added(thing, match):
    model = _numbers()
    with _refused(model, match):
        model.add(thing)


def test_a_layer_twice():
    model = _numbers()
    with _refused(model, "the layer dense is already in the model"):
        model.add(model.layers[0])


def test_input_twice():
    model = Sequential([Input((3,))])
    with _refused(model, "Input .*must come first"):
        model.add(Input((3,)))


@pytest.mark.parametrize(
    ("shape", "match"), [((3,), "takes an input of 3 dimensions"), ((4, None), "needs to know the last size")]
)
def test_a_first_layer_that_cannot_be_built_leaves_the_model_empty(shape, match):
    model = Sequential()
    with _refused(model, match):
        model.add(LSTM(2, input_shape=shape))
    model.add(LSTM(2, input_shape=(4, 3)))
    assert model.built


@pytest.mark.parametrize("after", [[], [Dense(1)]], ids=["last", "in between"])
@pytest.mark.parametrize("sequences", [True, False])
def test_a_layer_with_several_outputs_has_no_place_in_a_stack(sequences, after):
    """What follows would take [output, h, c] for one array (in Keras, too, it is an error for the next layer)."""
    model = Sequential([Input((4, 3))], seed=0)
    layers = [LSTM(2, return_sequences=sequences, return_state=True), *after]
    with pytest.raises(ValueError, match="return_state"):  # noqa: PT012
        for layer in layers:
            model.add(layer)
        model.predict(np.ones((N, 4, 3)), verbose=0)


def test_building_for_a_shape_that_does_not_fit():
    model = Sequential([Embedding(V, 3), LSTM(2)], seed=0)
    with _refused(model, "lstm takes an input of 3 dimensions"):
        model.build((None, T, 1))
    model.build((None, T))
    with _refused(Sequential(), "the model has no layers"):
        Sequential().build((None, T))


def test_a_layer_without_a_forward_is_no_layer():
    class Half(Layer):
        pass

    with pytest.raises(NotImplementedError):
        Half()(ONES)


# --- optimizers -------------------------------------------------------------------------------------------------------

_SETTINGS = {
    "learning_rate": ([0, -1, NAN, INF, "x", None, True, [0.1]], (SGD, RMSprop, Adam)),
    "clipnorm": ([0, -1, NAN, "x", True], (SGD, RMSprop, Adam)),
    "clipvalue": ([0, -1, NAN, "x"], (SGD, RMSprop, Adam)),
    "global_clipnorm": ([0, -1, NAN, "x"], (SGD, RMSprop, Adam)),
    "use_ema": ([2, "x", None], (SGD, RMSprop, Adam)),
    "ema_momentum": ([-0.1, 1.5, NAN, "x", None, True], (SGD, RMSprop, Adam)),
    "ema_overwrite_frequency": ([0, -1, 1.5, "x", True], (SGD, RMSprop, Adam)),
    "momentum": ([-0.1, 1.5, NAN, "x", None, True], (SGD,)),
    "rho": ([-0.1, 1.5, NAN, "x", None], (RMSprop,)),
    "beta_1": ([-0.1, 1, 1.5, NAN, "x", None], (Adam,)),
    "beta_2": ([-0.1, 1, 1.5, NAN, "x", None], (Adam,)),
    "epsilon": ([-1e-7, NAN, "x", None], (RMSprop, Adam)),
}


@pytest.mark.parametrize(
    ("optimizer", "setting", "value"),
    [(cls, name, value) for name, (values, classes) in _SETTINGS.items() for cls in classes for value in values],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_settings_of_optimizers(optimizer, setting, value):
    with pytest.raises((TypeError, ValueError), match=f"{setting} must be"):
        optimizer(**{setting: value})


@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam])
def test_two_clippings_at_once(optimizer):
    with pytest.raises(ValueError, match="only one of clipnorm, clipvalue and global_clipnorm"):
        optimizer(clipnorm=1.0, global_clipnorm=1.0)


def test_one_optimizer_for_two_models():
    """Its state belongs to the first one's parameters; Keras refuses it, too."""
    optimizer = Adam()
    models = [Sequential([Dense(units, input_shape=(3,))], seed=0) for units in (1, 2)]
    for model in models:
        model.compile(optimizer, "mse")
    models[0].fit(ONES, LABELS, verbose=0)
    with _refused(models[1], "optimizer"):
        models[1].fit(ONES, np.eye(2)[LABELS], verbose=0)
