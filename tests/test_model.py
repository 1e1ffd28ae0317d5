"""`Sequential`: building, parameters, seeds, dtypes, and what it does not change."""

import warnings

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential, activations, config, gradcheck
from scratchlstm._support import compiled
from scratchlstm.layers import LSTM, Activation, Add, Bidirectional, Dense, Dropout, Embedding, Flatten, SimpleRNN
from scratchlstm.layers.passes import Pass
from scratchlstm.losses import BinaryCrossentropy, CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy
from scratchlstm.optimizers import SGD, Adam
from scratchlstm.rows import RowGradient

V, T, N = 11, 6, 20


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    return rng.integers(0, V, size=(N, T)), rng.integers(0, 2, size=N)


def _classifier(seed=0, dropout=0.3, dtype=None, implementation="fused", metrics=("accuracy",)):
    model = Sequential(
        [
            Embedding(V, 5, input_shape=(T,), dtype=dtype),
            LSTM(4, return_sequences=True, implementation=implementation, dtype=dtype),
            Dropout(dropout, dtype=dtype),
            LSTM(3, implementation=implementation, dtype=dtype),
            Dense(1, activation="sigmoid", dtype=dtype),
        ],
        seed=seed,
    )
    model.compile("adam", "binary_crossentropy", metrics=list(metrics))
    return model


def _same(ours, theirs):
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --- building ---------------------------------------------------------------------------------------------------------

_FIRST = {
    "input_shape": lambda: [Embedding(20000, 128, input_shape=(100,))],
    "input_shape, a list": lambda: [Embedding(20000, 128, input_shape=[100])],
    "input_length": lambda: [Embedding(20000, 128, input_length=100)],
    "Input": lambda: [Input((100,)), Embedding(20000, 128)],
    "Input of ids": lambda: [Input(shape=(100,), dtype="int32"), Embedding(20000, 128)],
    "Input(shape=)": lambda: [Input(shape=(100,)), Embedding(20000, 128)],
    "built later": lambda: [Embedding(20000, 128)],
}

_TUTORIAL = """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ embedding (Embedding)           │ (None, 100, 128)       │     2,560,000 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ lstm (LSTM)                     │ (None, 60)             │        45,360 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense (Dense)                   │ (None, 1)              │            61 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 2,605,421 (9.94 MB)
 Trainable params: 2,605,421 (9.94 MB)
 Non-trainable params: 0 (0.00 B)
"""


@pytest.mark.parametrize("first", _FIRST.values(), ids=_FIRST)
def test_the_tutorials_model_in_every_form(capsys, first):
    model = Sequential()
    for layer in [*first(), LSTM(60, activation="tanh"), Dense(1, activation="sigmoid")]:
        model.add(layer)
    model.build((None, 100))
    model.summary()
    assert capsys.readouterr().out == _TUTORIAL
    assert model.count_params() == 2_605_421
    assert [type(layer) for layer in model.layers] == [Embedding, LSTM, Dense]
    assert [w.shape for w in model.get_weights()] == [(20000, 128), (128, 240), (60, 240), (240,), (60, 1), (1,)]


def test_summary_before_building_and_with_open_sizes(capsys):
    model = Sequential([LSTM(2), Dense(1)], name="later")
    model.summary()
    before = capsys.readouterr().out
    assert 'Model: "later"' in before
    assert before.count("│ ?") == before.count("0 (unbuilt)") == 2
    assert " Total params: 0 (0.00 B)" in before
    model.build((None, None, 3))
    model.summary()
    assert "│ (None, 2)" in capsys.readouterr().out
    Sequential([Input((None, 3)), LSTM(2, return_sequences=True)]).summary()
    assert "│ (None, None, 2)" in capsys.readouterr().out


def test_the_summary_shows_what_runs(capsys, monkeypatch):
    monkeypatch.setattr(compiled, "missing", lambda: "no Numba here")
    layers = [
        Embedding(9, 2),
        Bidirectional(LSTM(2, return_sequences=True)),
        SimpleRNN(2, return_sequences=True),
        LSTM(2, implementation="textbook"),
    ]
    model = Sequential([*layers, Dense(1)])
    model.build((None, 4))
    model.summary()
    table = capsys.readouterr().out
    assert "numpy" not in table
    model.summary(show_implementation=True)
    with_column = capsys.readouterr().out.splitlines()
    assert [line[:74] for line in with_column[2::2]] == [line[:74] for line in table.splitlines()[2::2]]
    assert [line.split("│")[-2].strip() for line in with_column[4:-4:2]] == ["-", "numpy", "textbook", "textbook", "-"]
    x = Input((4, 2))
    Model(x, Dense(1)(LSTM(2)(Add()([x, Dense(2)(x)])))).summary(show_implementation=True)
    rows = [line.split("│")[-2].strip() for line in capsys.readouterr().out.splitlines() if "(LSTM)" in line]
    assert rows == ["numpy"]
    with pytest.raises((TypeError, ValueError), match="show_implementation"):
        model.summary(show_implementation="lstm")


def test_summary_shortens_long_names_and_counts_bytes(capsys):
    Sequential([Dense(1, name="n" * 50, input_shape=(2,), dtype="float64")]).summary()
    output = capsys.readouterr().out
    assert len({len(line) for line in output.splitlines()[1:6]}) == 1
    assert "n… (Dense)" in output
    assert "Total params: 3 (24.00 B)" in output


@pytest.mark.parametrize("method", ["fit", "predict", "forward"])
def test_the_first_data_builds_a_model_that_knows_no_shape(data, method):
    model = Sequential([Embedding(V, 5), LSTM(4), Dense(1, activation="sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    assert not model.built
    assert model.get_weights() == []
    x, y = data
    {"fit": lambda: model.fit(x, y, verbose=0), "predict": lambda: model.predict(x, verbose=0)}.get(
        method, lambda: model.forward(x)
    )()
    assert model.built
    assert model.count_params() == V * 5 + 4 * 4 * (5 + 4 + 1) + 5


def test_building_early_or_late_gives_the_same_parameters(data):
    def layers():
        return [Embedding(V, 5), LSTM(4), Dropout(0.5), Dense(1)]

    early = Sequential([Input((T,)), *layers()], seed=3)
    late = Sequential(layers(), seed=3)
    assert np.array_equal(early.predict(data[0], verbose=0), late.predict(data[0], verbose=0))
    assert _same(early.get_weights(), late.get_weights())


@pytest.mark.parametrize("use", [Sequential.forward, Sequential.__call__])
def test_the_first_pass_draws_parameters_from_the_models_seed(data, use):
    models = [Sequential([Embedding(V, 5), LSTM(4), Dropout(0.5), Dense(1)], seed=3) for _ in range(2)]
    models[0].build((None, T))
    use(models[1], data[0])
    assert _same(*(model.get_weights() for model in models))
    assert models[0].input_shape == models[1].input_shape


def test_building_twice_keeps_the_parameters():
    model = _classifier()
    before = model.get_weights()
    model.build((32, T))
    assert _same(model.get_weights(), before)


def test_layers_added_to_a_built_model_are_built():
    model = Sequential([Dense(3, input_shape=(2,))])
    assert model.built
    model.add(Dense(4))
    assert model.layers[1].params["kernel"].shape == (3, 4)
    assert model.predict(np.ones((5, 2)), verbose=0).shape == (5, 4)


def test_an_open_length_takes_sequences_of_any_length():
    model = Sequential([Embedding(V, 3, input_shape=(None,)), LSTM(2)], seed=0)
    assert [model.predict(np.ones((4, t), int), verbose=0).shape for t in (1, 7)] == [(4, 2), (4, 2)]


def test_layers_are_named_apart():
    model = Sequential([Dense(2), Dense(2), LSTM(2), Dense(2, name="mine"), Dense(2)])
    assert [layer.name for layer in model.layers] == ["dense", "dense_1", "lstm", "mine", "dense_2"]
    with pytest.raises(ValueError, match="already has a layer named 'mine'"):
        model.add(LSTM(1, name="mine"))
    assert len(model.layers) == 5


# --- parameters -------------------------------------------------------------------------------------------------------


def test_weights_are_copied_both_ways(data):
    model, other = _classifier(seed=0), _classifier(seed=1)
    weights = model.get_weights()
    other.set_weights(weights)
    assert np.array_equal(model.predict(data[0], verbose=0), other.predict(data[0], verbose=0))
    for weight in weights:
        weight += 1
    assert _same(model.get_weights(), other.get_weights())
    assert not _same(model.get_weights(), weights)


def test_a_layers_weights(data):
    model = _classifier()
    lstm = model.layers[1]
    zeros = [np.zeros_like(w) for w in lstm.get_weights()]
    lstm.set_weights(zeros)
    assert _same(lstm.get_weights(), zeros)
    assert _same(model.get_weights()[1:4], zeros)


def test_set_weights_takes_lists_and_integers():
    model = Sequential([Dense(2, input_shape=(1,))])
    model.set_weights([[[1, 2]], np.array([3, 4])])
    assert np.array_equal(model.predict(np.array([[10]]), verbose=0), [[13, 24]])
    assert [w.dtype for w in model.get_weights()] == [np.float32, np.float32]


def test_set_weights_keeps_the_arrays_that_others_hold():
    model = Sequential([Dense(2, input_shape=(1,))])
    held = model.params
    model.set_weights([np.ones((1, 2)), np.zeros(2)])
    assert all(ours is theirs for ours, theirs in zip(held, model.params, strict=True))


# --- compile, evaluate, predict ---------------------------------------------------------------------------------------


def test_predict_is_forward_without_dropout_whatever_the_batch(data):
    model = _classifier(dropout=0.9)
    whole = model.predict(data[0], verbose=0)
    assert whole.shape == (N, 1)
    assert np.array_equal(whole, model.predict(data[0], verbose=0))
    np.testing.assert_allclose(whole, model.predict(data[0], batch_size=3, verbose=0), rtol=1e-5)
    np.testing.assert_allclose(whole, model.forward(data[0])[0], rtol=1e-5)
    np.testing.assert_array_equal(model(data[0]), model.forward(data[0])[0])
    assert not np.allclose(model.forward(data[0], Pass(training=True))[0], whole)


def test_predict_gives_what_the_caller_may_change(data):
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    x = np.ones((2, 1), np.float32)
    first = model.predict(x, verbose=0)
    kept = first.copy()
    second = model.predict(2 * x, verbose=0)
    assert np.array_equal(first, kept)
    first[...] = 7
    assert not np.any(second == 7)


def test_evaluate_gives_loss_then_metrics(data):
    x, y = data
    model = _classifier()
    p = model.predict(x, verbose=0)[:, 0].astype(float)
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    accuracy = np.mean((p > 0.5) == y)
    assert model.evaluate(x, y, verbose=0) == pytest.approx([loss, accuracy], rel=1e-5)
    assert model.evaluate(x, y, batch_size=3, verbose=0) == pytest.approx([loss, accuracy], rel=1e-5)
    as_dict = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(as_dict) == ["accuracy", "loss"]
    assert {type(value) for value in as_dict.values()} == {float}
    assert as_dict["loss"] == pytest.approx(loss, rel=1e-5)


def test_evaluate_without_metrics_gives_the_loss_alone(data):
    assert type(_classifier(metrics=[]).evaluate(*data, verbose=0)) is float


def test_evaluate_weighs_samples_in_the_loss_only(data):
    x, y = data
    model = _classifier()
    weight = np.linspace(0, 2, N)
    each = [model.evaluate(x[k : k + 1], y[k : k + 1], verbose=0)[0] for k in range(N)]
    loss, accuracy = model.evaluate(x, y, sample_weight=weight, verbose=0)
    assert loss == pytest.approx(np.mean(each * weight), rel=1e-5)
    assert accuracy == model.evaluate(x, y, verbose=0)[1]


def test_evaluate_and_predict_change_nothing(data):
    model = _classifier()
    model.fit(*data, verbose=0)
    before, history, generator = model.get_weights(), model.history, model.rng.bit_generator.state
    iterations = model.optimizer.iterations
    model.evaluate(*data, verbose=0)
    model.predict(data[0], verbose=0)
    assert _same(model.get_weights(), before)
    assert (model.history, model.optimizer.iterations, model.rng.bit_generator.state) == (
        history,
        iterations,
        generator,
    )


def test_evaluate_between_forward_and_backward_of_training_is_no_part_of_it(data):
    """Validation must not leak into gradients: the same run with and without it."""
    runs = [_classifier() for _ in range(2)]
    runs[0].fit(*data, epochs=3, batch_size=8, verbose=0)
    runs[1].fit(*data, epochs=3, batch_size=8, verbose=0, validation_data=data)
    assert _same(runs[0].get_weights(), runs[1].get_weights())


def test_compile_takes_names_and_objects(data):
    model = _classifier()
    model.compile(optimizer=SGD(0.5), loss="mse", metrics="accuracy")
    assert (model.optimizer.learning_rate, type(model.loss).__name__) == (0.5, "MeanSquaredError")
    assert list(model.evaluate(*data, verbose=0, return_dict=True)) == ["accuracy", "loss"]
    model.compile(loss="mean_squared_error")
    assert type(model.optimizer).__name__ == "RMSprop"
    assert model.metrics == []


def test_acc_is_accuracy_under_its_own_name(data):
    names = list(_classifier(metrics=["acc"]).fit(*data, verbose=0).history)
    assert names == ["acc", "loss"]


def test_a_loss_sees_the_logits_behind_the_last_activation():
    """Keras computes sigmoid and cross-entropy together: logit 40, label 0 gives loss 40, not log(1e-7)."""
    for last in ([Dense(1, activation="sigmoid")], [Dense(1), Activation("sigmoid")]):
        model = Sequential([Input((1,)), *last])
        model.compile("sgd", "binary_crossentropy")
        model.set_weights([[[1.0]], [0.0]])
        assert model.evaluate([[40.0]], [0], verbose=0) == pytest.approx(40)
        model.fit([[40.0]], [0], verbose=0)
        assert model.get_weights()[1] == pytest.approx(-0.01)


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
def test_the_same_seed_gives_the_same_run_bit_for_bit(data, implementation):
    runs = [_classifier(seed, implementation=implementation) for seed in (7, 7, 8)]
    histories = [run.fit(*data, epochs=2, batch_size=6, verbose=0).history for run in runs]
    assert histories[0] == histories[1] != histories[2]
    assert _same(runs[0].get_weights(), runs[1].get_weights())
    assert not any(np.array_equal(a, b) for a, b in zip(runs[0].get_weights(), runs[2].get_weights(), strict=True))


def test_without_a_seed_runs_differ():
    first, second = (_classifier(seed=None).get_weights() for _ in range(2))
    assert not np.array_equal(first[0], second[0])


def test_the_global_random_state_is_neither_read_nor_changed(data):
    def run():
        model = _classifier(seed=1)
        model.fit(*data, verbose=0, validation_split=0.2)
        return model.get_weights()

    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    first = run()
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert before[2:] == after[2:]
    assert np.array_equal(before[1], after[1])
    np.random.seed(2)  # noqa: NPY002
    assert _same(run(), first)


# --- the caller's arrays ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_passed_in_are_not_changed(data, writeable, implementation):
    x, y, weight = *data, np.linspace(0, 2, N)
    passed = {"x": x, "y": y, "weight": weight}
    before = {name: array.copy() for name, array in passed.items()}
    for array in passed.values():
        array.setflags(write=writeable)
    model = _classifier(implementation=implementation)
    model.fit(x, y, sample_weight=weight, validation_data=(x, y, weight), batch_size=7, epochs=2, verbose=0)
    model.evaluate(x, y, sample_weight=weight, verbose=0)
    model.predict(x, verbose=0)
    for name, array in passed.items():
        assert np.array_equal(array, before[name]), name


_LAYERS = {
    "fused": lambda: LSTM(4),
    "textbook": lambda: LSTM(4, implementation="textbook"),
    "fused sequences": lambda: LSTM(4, return_sequences=True),
    "textbook sequences": lambda: LSTM(4, return_sequences=True, implementation="textbook"),
    "Dense": lambda: Dense(2, activation="relu"),
    "linear Dense": lambda: Dense(2),
    "Dropout": lambda: Dropout(0.5),
    "Activation": lambda: Activation("linear"),
}


def _copies(dx, grads):
    return [np.array(gradient) for gradient in (*(dx if isinstance(dx, tuple) else [dx]), *grads.values())]


@pytest.mark.parametrize("make", _LAYERS.values(), ids=_LAYERS)
def test_layers_leave_input_state_and_gradient_alone(make):
    rng = np.random.default_rng(0)
    layer = make()
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    states = [rng.normal(size=(3, 4)).astype("float32") for _ in range(2)] if isinstance(layer, LSTM) else []
    arrays = [x, *states]
    for array in arrays:
        array.setflags(write=False)
    before = [array.copy() for array in arrays]
    y, cache = layer.forward((x, *states) if states else x, Pass(training=True))
    dy = rng.normal(size=y.shape).astype("float32")
    dy.setflags(write=False)
    arrays, before = [*arrays, dy], [*before, dy.copy()]
    first, second = (_copies(*layer.backward(dy, cache)) for _ in range(2))
    assert _same(arrays, before)
    assert _same(first, second), "a second backward of the same pass gives the same"


def test_set_weights_does_not_keep_the_callers_arrays():
    model = Sequential([Dense(1, input_shape=(1,))])
    given = [np.ones((1, 1), "float32"), np.ones(1, "float32")]
    model.set_weights(given)
    model.compile("sgd", "mse")
    model.fit([[1.0]], [5.0], verbose=0)
    assert given[0] == given[1] == 1


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def floatx():
    before = config.floatx()
    yield config.set_floatx
    config.set_floatx(before)


def _gradients(model, x, y):
    """Of a training pass: name of the parameter -> gradient."""
    y_pred, cache = model.forward(x, model.run())
    _, dy, from_logits = model.loss_with_gradient(np.asarray(y, y_pred.dtype), y_pred, cache.kept)
    return dict(zip(model.network.params, model.gradients(dy, cache, from_logits), strict=True))


def _dtypes(model, x, y):
    """The dtype of everything that is computed: name -> dtype."""
    found = {}
    for name, gradient in _gradients(model, x, y[:, None]).items():
        found[f"d {name}"] = (gradient.values if isinstance(gradient, RowGradient) else gradient).dtype
    for layer in model.layers:
        x = layer(x, training=True)
        found[f"{layer.name} output"] = x.dtype
        found |= {f"{layer.name}/{name}": array.dtype for name, array in layer.params.items()}
    for number, slots in enumerate(model.optimizer.state):
        found |= {f"{number}/{name}": array.dtype for name, array in slots.items()}
    return found


@pytest.mark.parametrize("how", ["default", "set_floatx", "dtype="])
@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize("optimizer", [lambda: Adam(clipnorm=0.1), lambda: SGD(momentum=0.9), lambda: "rmsprop"])
def test_one_dtype_runs_through_everything(data, floatx, how, implementation, optimizer):
    if how == "set_floatx":
        floatx("float64")
    model = _classifier(dtype="float64" if how == "dtype=" else None, implementation=implementation)
    model.compile(optimizer(), "binary_crossentropy", metrics=["accuracy"])
    model.fit(data[0], data[1].astype("float64"), sample_weight=np.ones(N), batch_size=8, verbose=0)
    expected = np.dtype("float32" if how == "default" else "float64")
    found = _dtypes(model, *data)
    assert {name: dtype for name, dtype in found.items() if dtype != expected} == {}
    assert len(found) > 20
    assert model.predict(data[0], verbose=0).dtype == expected


def test_set_floatx_leaves_existing_layers_alone(floatx):
    old = Dense(1)
    floatx("float64")
    assert (old.dtype, Dense(1).dtype, Dense(1, dtype="float32").dtype) == ("float32", "float64", "float32")
    assert config.floatx() == "float64"


@pytest.mark.parametrize("dtype", ["float16", "int32", 64])
def test_set_floatx_refuses_other_dtypes(floatx, dtype):
    with pytest.raises(ValueError, match=f"float32, float64, not {dtype!r}"):
        floatx(dtype)
    assert config.floatx() == "float32"


@pytest.mark.parametrize("dtypes", [("float32", "float64", "float32"), ("float64", "float32", "float64")])
def test_layers_of_different_dtypes_work_together(data, dtypes):
    first, second, third = dtypes
    model = Sequential(
        [
            Embedding(V, 5, input_shape=(T,), dtype=first),
            LSTM(4, return_sequences=True, dtype=second),
            LSTM(4, dtype=first),
            Dense(1, activation="sigmoid", dtype=third),
        ],
        seed=0,
    )
    model.compile("adam", "binary_crossentropy")
    model.fit(*data, epochs=2, verbose=0)
    grads = _gradients(model, data[0], data[1][:, None])
    for layer in model.layers:
        assert {array.dtype for array in layer.params.values()} == {np.dtype(layer.dtype)}, layer.name
        own = [np.asarray(grads[f"{layer.name}/{name}"]) for name in layer.params]
        assert {gradient.dtype for gradient in own} == {np.dtype(layer.dtype)}, layer.name
    assert model.predict(data[0], verbose=0).dtype == third


def test_float64_and_float32_agree(data):
    single, double = _classifier(dropout=0), _classifier(dropout=0, dtype="float64")
    double.set_weights(single.get_weights())
    losses = [
        model.fit(*data, epochs=3, batch_size=8, verbose=0, shuffle=False).history["loss"] for model in (single, double)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0] != losses[1]


def test_a_learning_rate_in_float64_does_not_change_the_numbers(data):
    runs = []
    for rate in (0.01, np.float64(0.01)):
        model = _classifier()
        model.compile(Adam(rate), "binary_crossentropy")
        model.fit(*data, epochs=2, verbose=0)
        runs.append(model.get_weights())
    assert _same(*runs)


# --- backward ---------------------------------------------------------------------------------------------------------


def test_params_and_grads_go_together(data):
    model = _classifier()
    x, y = data
    y_pred, cache = model.forward(x, Pass(training=True))
    loss, dy, from_logits = model.loss_with_gradient(y, y_pred, cache.kept)
    assert from_logits
    assert np.isfinite(loss)
    assert model.backward(dy, cache)[0] is None  # ids have no gradient
    first, second = ([np.array(g) for g in model.gradients(dy, cache, from_logits)] for _ in range(2))
    assert [gradient.shape for gradient in first] == [w.shape for w in model.params]
    assert _same(first, second), "backward does not add to what it gave before"


def test_backward_gives_the_inputs_gradient():
    model = Sequential(
        [Dense(3, activation="tanh", input_shape=(2,), dtype="float64"), Dense(1, dtype="float64")], seed=0
    )
    x, step = np.array([[0.3, -0.4]]), 1e-6
    _, cache = model.forward(x)
    dx, _ = model.backward(np.ones((1, 1)), cache)
    slopes = [(model(x + step * e).item() - model(x - step * e).item()) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(dx[0], slopes, rtol=1e-6)


# --- one thing after another ------------------------------------------------------------------------------------------


def _small(**options):
    model = Sequential([Input((3,)), Dense(2, **options)], seed=0)
    model.compile("adam", "mse", metrics=["accuracy"])
    return model


def test_a_model_that_has_grown_needs_a_new_optimizer(tmp_path):
    """Its moments fit what it has trained; the same for one process, several, and a file."""
    model, x = _small(), np.ones((4, 3))
    model.fit(x, np.ones((4, 2)), verbose=0)
    model.add(Dense(1))
    model.compile(model.optimizer, "mse")
    for workers in (1, 2):
        with pytest.raises(ValueError, match="trained a model with other parameters"):
            model.fit(x, np.ones(4), workers=workers, verbose=0)
    with pytest.raises(ValueError, match="trained a model with other parameters"):
        model.save(tmp_path / "model.npz")
    model.compile("adam", "mse")
    model.fit(x, np.ones(4), verbose=0)


def test_after_training_a_layer_gives_the_gradient_of_its_input_again():
    model = _small()
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    layer = model.layers[0]
    _, cache = layer.forward(np.ones((4, 3)))
    assert layer.backward(np.ones((4, 2)), cache)[0].shape == (4, 3)


def test_backward_belongs_to_a_forward_pass_whatever_came_in_between():
    model, x = _small(), np.random.default_rng(0).normal(size=(4, 3))
    dy = np.random.default_rng(1).normal(size=(4, 2))
    _, cache = model.forward(x)
    expected = _copies(*model.backward(dy, cache))
    model.forward(x[:2] + 1)
    model.predict(x[:3], verbose=0)
    model.evaluate(x, dy, verbose=0)
    assert _same(_copies(*model.backward(dy, cache)), expected)


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
def test_a_recurrent_layers_inference_leaves_a_backward_pass_alone(implementation):
    x, mask = np.random.default_rng(0).normal(size=(3, 5, 2)), np.array([[True, False, True, True, False]] * 3)
    layer = LSTM(4, dropout=0.5, recurrent_dropout=0.5, seed=1, implementation=implementation, dtype="float64")
    dy, cache = layer.forward(x, Pass(training=True), mask)
    expected = _copies(*layer.backward(dy, cache))
    layer.infer(x[:1])
    assert _same(_copies(*layer.backward(dy, cache)), expected)


def test_gradients_of_another_shape_are_refused():
    for layer, x, dy in [
        (Dense(2), np.ones((5, 3)), np.ones((1, 2))),
        (LSTM(3), np.ones((2, 4, 3)), np.ones((2, 4, 3))),
        (LSTM(3, return_sequences=True), np.ones((2, 4, 3)), np.ones((2, 3))),
        (LSTM(3, return_sequences=True), np.ones((2, 4, 3)), np.ones((2, 4, 1))),
    ]:
        _, cache = layer.forward(x)
        with pytest.raises(ValueError, match=r"gave an output of shape .*, but dL/dy has shape"):
            layer.backward(dy, cache)


def test_a_call_that_fails_builds_nothing():
    model = Sequential([LSTM(2), Dense(1)], seed=0)
    model.compile("adam", "mse")
    x = np.ones((4, 5, 3))
    with pytest.raises(ValueError, match="x has 4 samples, but y has 3"):
        model.fit(x[:, :, :2], np.ones(3), verbose=0)
    assert not model.built
    model.fit(x, np.ones(4), verbose=0)


def test_a_layer_built_for_another_shape_has_no_place():
    layer = Dense(1, input_shape=(3,))
    first = Sequential([layer])
    name = layer.name
    with pytest.raises(ValueError, match=r"built for inputs of shape \(None, 3\), but got \(None, 7\)"):
        Sequential([Input((9,)), Dense(7, name="seven"), layer])
    assert (layer.name, first.predict(np.ones((1, 3)), verbose=0).shape) == (name, (1, 1))


def test_a_stateful_model_is_asked_for_whole_batches_before_it_trains():
    model = Sequential([Input((4, 2)), LSTM(3, stateful=True), Dense(1)], seed=0)
    model.compile("adam", "mse")
    before, x, y = model.get_weights(), np.ones((20, 4, 2)), np.ones(20)
    for options in ({"batch_size": 8}, {"batch_size": 10, "validation_data": (x[:5], y[:5])}):
        with pytest.raises(ValueError, match="stateful, so every batch needs the same number of rows"):
            model.fit(x, y, verbose=0, **options)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    model.fit(x, y, batch_size=5, validation_data=(x[:10], y[:10]), shuffle=False, verbose=0)
    model.reset_states()
    assert model.predict(np.ones((32, 4, 2)), verbose=0).shape == (32, 1)


@pytest.mark.parametrize("split", [1e-17, 1 - 1e-12])
def test_a_split_that_leaves_nothing_on_one_side(split):
    model = _small()
    with pytest.raises(ValueError, match=r"validation_split=.* leaves no (training|validation) samples out of 4"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), validation_split=split, verbose=0)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("evaluate", {"return_dict": "False"}, "return_dict must be True or False, not 'False'"),
        ("evaluate", {"verbose": np.ones(3)}, "verbose must be 0, 1, 2"),
        ("evaluate", {"workers": np.ones(3)}, "workers must be a whole number above 0"),
        ("fit", {"workers": [1]}, "workers must be a whole number above 0"),
        ("fit", {"verbose": [1, 2]}, "verbose must be 0, 1, 2"),
    ],
)
def test_arguments_of_another_kind_are_named(method, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(_small(), method)(np.ones((4, 3)), np.ones((4, 2)), **options)


# --- a loss looks through to the logits -------------------------------------------------------------------------------

CERTAIN = np.array([[40.0], [-40.0]])  # as logits; as probabilities they are clipped, with a loss of 16


def certain(above, loss="binary_crossentropy", units=1, dtype="float32"):
    """A model that is certain of its answer, with these layers above its probabilities."""
    head = Dense(units, "sigmoid" if units == 1 else "softmax", name="head", dtype=dtype)
    model = Sequential([Input((1,)), head, *above], seed=0)
    model.compile("sgd", loss)
    model.set_weights([np.array([[1.0, 0.0][:units]]), np.zeros(units)])
    return model


IDENTITIES = {
    "nothing": lambda: [],
    "linear": lambda: [Activation("linear")],
    "no dropout": lambda: [Dropout(0.0)],
    "both": lambda: [Activation(None), Dropout(0.0), Activation("linear")],
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("above", IDENTITIES.values(), ids=IDENTITIES)
def test_identity_layers_do_not_hide_the_logits(above, workers):
    x, y = np.repeat(CERTAIN, 2, axis=0), np.array([0, 0, 1, 1])
    model, plain = certain(above()), certain([])
    assert model.evaluate(x, y, verbose=0, workers=workers) == 40.0
    for each in model, plain:
        each.fit(x, y, batch_size=4, verbose=0, workers=workers)
        assert each.history.history["loss"] == [40.0]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), plain.get_weights(), strict=True))


def test_dropout_hides_the_logits_while_it_drops():
    model = certain([Dropout(0.5, seed=0)])
    y = np.array([0, 1])
    assert model.evaluate(CERTAIN, y, verbose=0) == 40.0
    assert model.train_on_batch(CERTAIN, y) < 20


@pytest.mark.parametrize(
    "above",
    [[Activation("relu")], [Dropout(0.0, dtype="float64")], [Flatten()]],
    ids=["relu", "another dtype", "shape"],
)
def test_other_layers_hide_the_logits(above):
    assert certain(above).evaluate(CERTAIN, np.array([0, 1]), verbose=0) == pytest.approx(16.03, abs=0.1)


def test_gradients_below_an_identity():
    model = Sequential(
        [Input((3,)), Dense(1, "sigmoid", dtype="float64"), Activation("linear", dtype="float64")], seed=0
    )
    model.compile("sgd", "binary_crossentropy")
    assert gradcheck.check_model(model, np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 1, 0])).ok


@pytest.mark.parametrize(
    ("loss", "units", "y"),
    [
        (BinaryCrossentropy, 1, [0, 1]),
        (CategoricalCrossentropy, 2, [[0, 1], [1, 0]]),
        (SparseCategoricalCrossentropy, 2, [1, 0]),
    ],
)
@pytest.mark.parametrize("above", [lambda: [], lambda: [Activation("linear")]], ids=["head", "identity"])
def test_from_logits_above_probabilities_takes_the_logits_and_says_so_once(loss, units, y, above):
    model = certain(above(), loss(from_logits=True), units)
    with pytest.warns(UserWarning, match="from_logits=True, but head outputs probabilities, so the logits"):
        assert model.evaluate(CERTAIN, np.array(y), verbose=0, workers=2) == 40.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(CERTAIN, np.array(y), verbose=0)
    assert model.history.history["loss"] == [40.0]


@pytest.mark.parametrize(
    ("activation", "loss", "y"),
    [
        ("sigmoid", "categorical_crossentropy", [[0, 1], [1, 0]]),
        ("sigmoid", "sparse_categorical_crossentropy", [1, 0]),
        ("softmax", "binary_crossentropy", [[0, 1], [1, 0]]),
    ],
)
def test_a_crossentropy_takes_the_logits_below_the_other_activation_too(activation, loss, y):
    model = Sequential([Input((1,), dtype="float64"), Dense(2, activation, dtype="float64")], seed=0)
    model.compile("sgd", loss)
    bare = Sequential([Input((1,)), Dense(2, dtype="float64")])
    bare.compile("sgd", type(model.loss)(from_logits=True))
    bare.set_weights(model.get_weights())
    x, y = CERTAIN / 20, np.array(y)
    assert model.evaluate(x, y, verbose=0) == bare.evaluate(x, y, verbose=0)
    for each in model, bare:
        each.train_on_batch(x, y)
    assert all(map(np.array_equal, model.get_weights(), bare.get_weights()))


def test_a_loss_of_ones_own_takes_the_logits_of_its_activation_alone():
    class Own(Loss):
        logits_of = "sigmoid"

        def values(self, y_true, y_pred, from_logits):
            return np.full(len(y_pred), float(from_logits)), np.zeros_like(y_pred)

    model = Sequential([Input((1,)), Dense(2, "softmax")], seed=0)
    model.compile("sgd", Own())
    assert model.evaluate(CERTAIN, np.zeros((2, 2)), verbose=0) == 0
    model = Sequential([Input((1,)), Dense(2, "sigmoid")], seed=0)
    model.compile("sgd", Own())
    assert model.evaluate(CERTAIN, np.zeros((2, 2)), verbose=0) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_from_logits_above_logits_is_as_it_says(activation):
    model = Sequential([Input((1,)), Dense(1, activation)], seed=0)
    model.compile("sgd", BinaryCrossentropy(from_logits=True))
    logits = model.predict(CERTAIN, verbose=0)
    expected = np.mean(np.maximum(logits, 0) - logits * [[0], [1]] + np.log1p(np.exp(-np.abs(logits))))
    assert model.evaluate(CERTAIN, np.array([0, 1]), verbose=0) == pytest.approx(expected, rel=1e-6)


def test_an_activation_of_ones_own_is_no_sigmoid_whatever_its_name():
    own = Activation(activations.Activation("sigmoid", lambda z: z / 100, lambda y: 0 * y + 0.01))
    model = Sequential([Input((1,)), own], seed=0)
    model.compile("sgd", "binary_crossentropy")
    assert model.evaluate(CERTAIN[:1], np.array([1]), verbose=0) == pytest.approx(-np.log(0.4), rel=1e-6)
