"""Models with several outputs: what compile, fit, evaluate and predict take and give. (Keras: tests/tensorflow.)"""

import numpy as np
import pytest

from scratchlstm import Input, Model, gradcheck, layers, losses, metrics, optimizers
from scratchlstm.callbacks import Checkpoint, EarlyStopping, LambdaCallback, TerminateOnNaN
from scratchlstm.inspection import trace
from scratchlstm.interop.keras_config import compile_like, describe_compiled
from scratchlstm.layers import LSTM, Dense, Masking

pytestmark = pytest.mark.usefixtures("without_numba")  # its processes start in half the time
RNG = np.random.default_rng(0)
N, T = 23, 5
X = RNG.normal(size=(N, T, 2)) * (np.arange(T) < RNG.integers(0, T + 1, N)[:, None])[..., None]
TAGS, GOOD = RNG.integers(0, 3, (N, T)), RNG.integers(0, 2, N)
WEIGHTS = {"tags": RNG.random((N, T)), "good": RNG.random(N)}
CROSSENTROPIES = {"tags": "sparse_categorical_crossentropy", "good": "binary_crossentropy"}
HALVES = {"tags": 0.5, "good": 2.0}
METRICS = {"tags": ["accuracy"], "good": ["accuracy", "AUC"]}


def two_outputs(outputs=list, dropout=0.0, backend=None, dtype="float64", **compiled):
    """A tag for each step, which may be masked, and a label for the whole."""
    options = {"dtype": dtype}
    series = Input((T, 2), name="series")
    states = LSTM(3, return_sequences=True, dropout=dropout, **options)(Masking(**options)(series))
    tags = Dense(3, activation="softmax", name="tags", kernel_regularizer="l2", **options)(states)
    good = Dense(1, activation="sigmoid", name="good", **options)(LSTM(2, **options)(states))
    model = Model(series, {"t": tags, "g": good} if outputs is dict else [tags, good], seed=3, backend=backend)
    model.compile(
        **{"optimizer": "adam", "loss": CROSSENTROPIES, "loss_weights": HALVES, "metrics": METRICS} | compiled
    )
    return model


def fitted(model, **options):
    data = {"x": X, "y": [TAGS, GOOD], "sample_weight": list(WEIGHTS.values())}
    return model.fit(**data | {"batch_size": 7, "epochs": 2, "verbose": 0} | options).history


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


NAMES = ["good_AUC", "good_accuracy", "good_loss", "loss", "tags_accuracy", "tags_loss"]


def test_lists_and_dicts_by_name_are_one():
    by_list = two_outputs(
        loss=list(CROSSENTROPIES.values()), loss_weights=list(HALVES.values()), metrics=list(METRICS.values())
    )
    by_name, validation = two_outputs(), (X[:6], [TAGS[:6], GOOD[:6]])
    expected = fitted(by_list, validation_data=validation)
    named = {"x": {"series": X}, "y": {"good": GOOD, "tags": TAGS}, "sample_weight": WEIGHTS}
    assert fitted(by_name, validation_data=validation, **named) == expected
    assert list(expected) == [*NAMES, *(f"val_{name}" for name in NAMES)]
    assert same(by_list, by_name)
    values = by_list.evaluate(X, [TAGS, GOOD], verbose=0)
    by_key = by_name.evaluate({"series": X}, {"good": GOOD, "tags": TAGS}, verbose=0, return_dict=True)
    assert values == [by_key[name] for name in ["loss", "tags_loss", "good_loss", *NAMES[:2], "tags_accuracy"]]
    assert list(by_key) == NAMES
    assert [y.shape for y in by_list.predict(X, verbose=0)] == [(N, T, 3), (N, 1)]
    for a, b in zip(by_name({"series": X}), by_name.forward({"series": X})[0], strict=True):
        assert np.array_equal(a, b)


def test_a_model_that_gives_a_dict():
    model = two_outputs(dict, loss={"g": "mse", "t": CROSSENTROPIES["tags"]}, loss_weights=None, metrics={"t": "acc"})
    history = fitted(model, y={"g": GOOD, "t": TAGS}, sample_weight=None)
    assert list(history) == ["g_loss", "loss", "t_acc", "t_loss"]
    found = model.predict(X, verbose=0)
    assert {name: y.shape for name, y in found.items()} == {"t": (N, T, 3), "g": (N, 1)}


def test_the_loss_is_the_weighted_sum_and_the_penalties():
    model = two_outputs()
    found = model.evaluate(X, [TAGS, GOOD], verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(0.5 * found["tags_loss"] + 2 * found["good_loss"] + model.penalty())
    assert model.penalty() > 0


def test_train_on_batch_gives_what_evaluate_does():
    model = two_outputs()
    expected = model.evaluate(X, [TAGS, GOOD], verbose=0)
    assert model.train_on_batch(X, {"tags": TAGS, "good": GOOD}) == pytest.approx(expected, rel=1e-12)
    assert model.evaluate(X, [TAGS, GOOD], verbose=0)[0] != expected[0]


@pytest.mark.parametrize("y", [[TAGS], [TAGS, None], {"tags": TAGS}, {"tags": TAGS, "good": None}])
def test_an_output_without_a_loss(y):
    model = two_outputs(loss=[CROSSENTROPIES["tags"], None], loss_weights=None, metrics=None)
    head = [w.copy() for w in model.layers[-1].get_weights()]
    assert model.layers[-1].name == "good"
    assert list(fitted(model, y=y, sample_weight=None)) == ["loss"]
    assert all(np.array_equal(a, b) for a, b in zip(model.layers[-1].get_weights(), head, strict=True))
    assert isinstance(model.evaluate(X, y, verbose=0), float)


def test_metrics_of_an_output_without_a_loss():
    model = two_outputs(loss=[None, "mse"], loss_weights=[7.0, 1.0], metrics=[["accuracy"], None])
    assert list(fitted(model, sample_weight=None, workers=2)) == ["loss", "tags_accuracy"]


def test_one_sample_weight_is_for_all_outputs():
    weight = RNG.random(N)
    one, two = two_outputs(), two_outputs()
    assert fitted(one, sample_weight=weight) == fitted(two, sample_weight=[weight, weight])


def test_the_progress_line_lists_every_number(capsys):
    two_outputs().fit(X, [TAGS, GOOD], verbose=2)
    line = capsys.readouterr().out.splitlines()[-1]
    assert [part.split(":")[0] for part in line.split(" - ")[3:]] == NAMES


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_equal_one_process(workers):
    """The last batch has two rows: fewer than there are workers."""

    def run(workers):
        model = two_outputs(dropout=0.3)
        return model, fitted(model, workers=workers, validation_data=(X, [TAGS, GOOD], WEIGHTS))

    (one, history), (several, other) = run(1), run(workers)
    for name, values in history.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-12, err_msg=name)
    for a, b in zip(one.get_weights(), several.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-13)
    if workers == 2:
        data = X, [TAGS, GOOD]
        assert one.evaluate(*data, verbose=0, batch_size=5, workers=2) == one.evaluate(*data, verbose=0, batch_size=5)
        for a, b in zip(one.predict(X, 5, 0, workers=2), one.predict(X, 5, 0), strict=True):
            assert np.array_equal(a, b)


def test_a_resumed_run_ends_bit_for_bit(tmp_path):
    def run(name, stop_after=None):
        def stop(batch, logs):
            if model.optimizer.iterations == stop_after:
                raise RuntimeError("stopped")

        model, path = two_outputs(dropout=0.3), tmp_path / name
        listeners = [Checkpoint(path, save_freq=1), LambdaCallback(on_train_batch_begin=stop)]
        return model, fitted(model, callbacks=listeners, resume=path)

    whole, history = run("whole.npz")
    with pytest.raises(RuntimeError, match="stopped"):
        run("part.npz", stop_after=6)
    part, again = run("part.npz")
    assert again == history
    assert same(part, whole)


def test_a_run_is_not_resumed_with_other_loss_weights(tmp_path):
    path = tmp_path / "run.npz"
    fitted(two_outputs(loss_weights=None), epochs=1, callbacks=Checkpoint(path))
    with pytest.raises(ValueError, match=r"loss_weights was None, and is \[0.5, 2.0\] now"):
        fitted(two_outputs(), callbacks=Checkpoint(path), resume=path)


def test_a_file_holds_how_each_output_was_compiled(tmp_path):
    model = two_outputs(
        dict, loss={"t": CROSSENTROPIES["tags"], "g": None}, loss_weights=[0.25, 1], metrics={"g": "AUC"}
    )
    y = {"t": TAGS, "g": GOOD}
    fitted(model, y=y, sample_weight=None)
    model.save(tmp_path / "model.npz")
    loaded = Model.load(tmp_path / "model.npz")
    assert isinstance(loaded.loss[0], losses.SparseCategoricalCrossentropy)
    assert (loaded.loss[1], loaded.metrics[0]) == (None, [])
    assert loaded.evaluate(X, y, verbose=0, return_dict=True) == model.evaluate(X, y, verbose=0, return_dict=True)
    assert fitted(loaded, y=y, sample_weight=None, shuffle=False) == fitted(
        model, y=y, sample_weight=None, shuffle=False
    )
    assert same(loaded, model)


def test_callbacks_know_the_direction_of_each_number():
    stopping = EarlyStopping("good_AUC", patience=0), EarlyStopping("val_tags_loss", patience=5)
    fitted(two_outputs(), validation_split=0.2, callbacks=list(stopping))
    assert [each.sign for each in stopping] == [1, -1]


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_loss_that_becomes_infinite_is_nan_in_the_history():
    model = two_outputs(loss=[CROSSENTROPIES["tags"], "mse"], metrics=None)
    history = fitted(model, y=[TAGS, np.full(N, 1e200)], callbacks=TerminateOnNaN())
    assert np.isnan([history[name] for name in ("loss", "tags_loss", "good_loss")]).all()


def test_on_a_gpu(device):
    """Losses and metrics stay there until the end of the epoch."""
    there, here = two_outputs(backend="cupy"), two_outputs()
    found = fitted(there, validation_split=0.3)
    for name, values in fitted(here, validation_split=0.3).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
    for a, b in zip(there.predict(X, verbose=0), here.predict(X, verbose=0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_outputs_of_one_layer_have_numbered_names():
    series = Input((T, 2))
    y, h, c = LSTM(3, return_state=True)(series)
    model = Model(series, [y, h, c], seed=0)
    model.compile("sgd", "mse", metrics=[["accuracy"], None, None])
    history = model.fit(X, [np.zeros((N, 3))] * 3, verbose=0).history
    assert list(history) == ["loss", "lstm_1_loss", "lstm_2_loss", "lstm_accuracy", "lstm_loss"]
    assert history["lstm_loss"] == history["lstm_1_loss"]


def test_an_output_that_feeds_another_is_looked_through_as_well():
    """The gradient of its loss arrives at the logits, that of the layer above at the output."""

    def build(outputs):
        series = Input((3,))
        low = Dense(2, activation="sigmoid", name="low", dtype="float64")(series)
        high = Dense(1, activation="sigmoid", name="high", dtype="float64")(low)
        model = Model(series, outputs(low, high), seed=1)
        model.compile("sgd", "binary_crossentropy")
        return model

    both = build(lambda low, high: [low, high])
    x, y = RNG.normal(size=(6, 3)), (RNG.integers(0, 2, (6, 2)), RNG.integers(0, 2, (6, 1)))
    alone = [build(lambda low, high: low), build(lambda low, high: high)]
    for model in alone:
        model.set_weights(both.get_weights()[: len(model.params)])

    def gradients(model, y):
        y_pred, cache = model.forward(x)
        _, dy, from_logits = model.loss_with_gradient(y, y_pred, cache.kept)
        assert np.all(from_logits)
        return model.gradients_by_name(dy, cache, from_logits)

    parts = [gradients(model, target) for model, target in zip(alone, y, strict=True)]
    for name, gradient in gradients(both, y).items():
        np.testing.assert_allclose(gradient, sum(part[name] for part in parts if name in part), rtol=1e-12)


def test_losses_look_through_the_outputs_of_a_model_inside():
    series = Input((3,))
    low = Dense(2, activation="sigmoid", name="low", dtype="float64")(series)
    inner = Model(series, [low, Dense(1, activation="sigmoid", name="high", dtype="float64")(low)], seed=1)
    around = Input((3,))
    first, second = inner(around)
    outer = Model(around, [layers.Activation("linear", dtype="float64")(second), first])
    x, y = RNG.normal(size=(6, 3)) * 90, (RNG.integers(0, 2, (6, 2)), RNG.integers(0, 2, (6, 1)))  # that saturates
    weights, found = inner.get_weights(), []
    for model, targets in (outer, y[::-1]), (inner, y):
        model.set_weights(weights)
        model.compile(optimizers.SGD(0.1), "binary_crossentropy")
        assert model.looks_through(end=0)
        assert model.looks_through(end=1)
        model.fit(x, list(targets), verbose=0)
        found.append(inner.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)  # a bias that begins at 0 has hardly moved


def test_one_output_given_twice():
    series = Input((3,))
    low = Dense(1, activation="sigmoid", name="low", dtype="float64")(series)
    model, single = Model(series, [low, low], seed=1), Model(series, low)
    single.set_weights(model.get_weights())
    model.compile(optimizers.SGD(0.1), "binary_crossentropy")
    single.compile(optimizers.SGD(0.2), "binary_crossentropy")
    x, y = RNG.normal(size=(6, 3)), RNG.integers(0, 2, (6, 1))
    model.fit(x, [y, y], verbose=0)
    single.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_single_output_may_be_named_too():
    series = Input((3,), name="series")
    model = Model(series, Dense(1, name="out")(series), seed=0)
    model.compile("sgd", {"out": "mse"}, {"out": 2.0}, {"out": ["accuracy"]})
    x, y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 1))
    found = model.fit({"series": x}, {"out": y}, sample_weight={"out": np.ones(6)}, verbose=0).history
    model.set_weights(model.get_weights())
    assert list(found) == ["accuracy", "loss"]
    doubled = model.evaluate(x, y, verbose=0)[0]
    model.compile("sgd", "mse")
    assert doubled == pytest.approx(2 * model.evaluate(x, y, verbose=0))


A = metrics.AUC()
COMPILED = {
    "no loss": ({"loss": [None, None]}, ValueError, "loss is None for every output"),
    "too few losses": (
        {"loss": ["mse"]},
        ValueError,
        "^loss must have one entry for each of 'tags', 'good', but has 1",
    ),
    "too many": ({"loss": ["mse"] * 3}, ValueError, "^loss must have one entry for each of .*, but has 3"),
    "another's loss": (
        {"loss": {"tags": "mse", "goood": "mse"}},
        ValueError,
        "^loss names 'goood', but there are 'tags', 'good'",
    ),
    "a loss left out": (
        {"loss": {"tags": "mse"}},
        ValueError,
        "^loss has no entry for 'good', but needs one for each of 'tags', 'good'",
    ),
    "another's weight": ({"loss_weights": {"bad": 1.0}}, ValueError, "^loss_weights names 'bad'"),
    "a weight left out": ({"loss_weights": {"tags": 1.0}}, ValueError, "^loss_weights has no entry for 'good'"),
    "too many weights": ({"loss_weights": [1.0] * 3}, ValueError, "^loss_weights must have one entry"),
    "NaN": ({"loss_weights": [1.0, np.nan]}, ValueError, "loss_weights must be a finite number, not nan"),
    "a weight in words": ({"loss_weights": "much"}, ValueError, "loss_weights must be a finite number, not 'much'"),
    "flat metrics": ({"metrics": ["accuracy"]}, ValueError, "^metrics must have one entry"),
    "a metric alone": (
        {"metrics": "accuracy"},
        TypeError,
        "^metrics of several outputs must be a list .*, not 'accuracy'",
    ),
    "another's metrics": ({"metrics": {"bad": "accuracy"}}, ValueError, "^metrics names 'bad'"),
    "one object": ({"metrics": [[A], [A]]}, ValueError, "^metrics has the same object twice"),
}


@pytest.mark.parametrize(("compiled", "error", "match"), COMPILED.values(), ids=COMPILED)
def test_what_compile_refuses(compiled, error, match):
    with pytest.raises(error, match=match):
        two_outputs(**compiled)


def test_a_negative_weight_is_taken_as_in_keras():
    found = two_outputs(loss_weights=[1.0, -1.0]).evaluate(X, [TAGS, GOOD], verbose=0, return_dict=True)
    assert found["loss"] < found["tags_loss"]


ONE = np.ones(N)
DATA = {
    "one array": (
        {"y": TAGS},
        ValueError,
        r"^y must be a list of arrays, one for each of the outputs tags, good, or a dict",
    ),
    "missing": ({"y": None}, ValueError, "^y of tags is missing"),
    "one missing": ({"y": [TAGS, None]}, ValueError, "^y of good is missing"),
    "too few": ({"y": [TAGS]}, ValueError, "^y must have one entry for each of 'tags', 'good', but has 1"),
    "too many": ({"y": [TAGS, GOOD, GOOD]}, ValueError, "^y must have one entry for each of .*, but has 3"),
    "unknown": ({"y": {"tags": TAGS, "goood": GOOD}}, ValueError, "^y names 'goood', but there are 'tags', 'good'"),
    "left out": ({"y": {"tags": TAGS}}, ValueError, "^y has no entry for 'good'"),
    "shorter": ({"y": [TAGS[:-1], GOOD]}, ValueError, "^x has 23 samples, but y of tags has 22"),
    "exchanged": (
        {"y": [GOOD, TAGS]},
        ValueError,
        r"^y of tags: sparse_categorical_crossentropy takes one class number",
    ),
    "classes": ({"y": [TAGS + 1, GOOD]}, ValueError, "^y of tags: targets must be whole numbers from 0 to 2"),
    "weights of three": ({"sample_weight": [ONE] * 3}, ValueError, "^sample_weight must have one entry"),
    "weights in a list": ({"sample_weight": [1.0] * N}, ValueError, "^sample_weight must have one entry"),
    "another's weights": ({"sample_weight": {"bad": ONE}}, ValueError, "^sample_weight names 'bad'"),
    "weights left out": ({"sample_weight": {"tags": ONE}}, ValueError, "^sample_weight has no entry for 'good'"),
    "steps": (
        {"sample_weight": np.ones((N, T))},
        ValueError,
        r"^sample_weight of good must have one number .*\(23, 5\)",
    ),
    "classes' weights": ({"class_weight": {0: 1.0}}, ValueError, "^class_weight needs a model with one output"),
    "inputs": ({"x": {"serie": X}}, TypeError, "^x contains objects, in a dict"),
    "validation": ({"validation_data": (X, TAGS)}, ValueError, "^validation y must be a list of arrays"),
}


@pytest.mark.parametrize(("data", "error", "match"), DATA.values(), ids=DATA)
def test_what_fit_refuses(data, error, match):
    model = two_outputs()
    with pytest.raises(error, match=match):
        fitted(model, **{"sample_weight": None} | data)
    assert same(model, two_outputs())


def test_inputs_by_names_that_do_not_fit():
    one, two = Input((3,), name="one"), Input((3,), name="two")
    model = Model([one, two], Dense(1)(layers.Concatenate()([one, two])))
    x = RNG.normal(size=(4, 3))
    assert np.array_equal(model.predict({"two": x, "one": -x}, verbose=0), model.predict([-x, x], verbose=0))
    with pytest.raises(ValueError, match="^x names 'three', but there are 'one', 'two'"):
        model.predict({"one": x, "two": x, "three": x}, verbose=0)
    with pytest.raises(ValueError, match="^x has no entry for 'two', but needs one for each of 'one', 'two'"):
        model.predict({"one": x}, verbose=0)


def test_gradients_of_two_losses_are_those_of_central_differences():
    report = gradcheck.check_model(two_outputs(), X[:4], {"tags": TAGS[:4], "good": GOOD[:4]})
    assert report.ok, report
    assert len(report.rows) == 10


def test_a_trace_has_every_output():
    model = two_outputs()
    found = trace(model, X, [TAGS, GOOD], sample_weight=WEIGHTS)
    assert "Trace of 23 samples, prediction (23, 5, 3), (23, 1), loss" in repr(found)
    assert found.loss == pytest.approx(
        model.evaluate(X, [TAGS, GOOD], sample_weight=WEIGHTS, batch_size=N, verbose=0)[0]
    )
    for prediction, y in zip(found.prediction, model.predict(X, verbose=0), strict=True):
        np.testing.assert_allclose(prediction, y)


def test_what_keras_is_told_of_compiling_is_taken_back():
    model, other = two_outputs(loss=[CROSSENTROPIES["tags"], None]), two_outputs()
    config = describe_compiled(model)
    compile_like(other, config)
    assert (other.loss[1], [target.weight for target in other.targets]) == (None, [0.5, 2.0])
    assert describe_compiled(other) == config
    by_name = config | {key: dict(zip(CROSSENTROPIES, config[key], strict=True)) for key in ("loss", "metrics")}
    compile_like(other, by_name | {"loss_weights": HALVES})
    assert describe_compiled(other) == config
