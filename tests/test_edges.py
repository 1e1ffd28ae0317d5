"""Where numbers or sizes are extreme: one of everything, thousands of steps, gates at their ends; no stray dtype."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from implementations import IMPLEMENTATIONS

import scratchlstm
from scratchlstm import Sequential, gradcheck, optimizers
from scratchlstm.callbacks import Callback
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding
from scratchlstm.layers.passes import Pass
from scratchlstm.rows import RowGradient

ROOT = Path(__file__).parent.parent
PACKAGE = str(Path(scratchlstm.__file__).parent)
every = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
either_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def tutorial(implementation="fused", dtype=None, V=11, E=4, H=3, rate=0.3, optimizer="adam"):
    model = Sequential(seed=1)
    model.add(Embedding(V, E, dtype=dtype))
    model.add(Dropout(rate, dtype=dtype))
    model.add(LSTM(H, implementation=implementation, dtype=dtype))
    model.add(Dense(1, activation="sigmoid", dtype=dtype))
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


def gradients(model, x, y):
    """Of the loss with respect to each parameter."""
    y_pred, cache = model.forward(x, model.run())
    _, dy, from_logits = model.loss_with_gradient(np.asarray(y, y_pred.dtype).reshape(-1, 1), y_pred, cache.kept)
    return [np.asarray(gradient) for gradient in model.gradients(dy, cache, from_logits)]


def norm_relative(a, b):
    return np.linalg.norm(np.asarray(a, "f8") - np.asarray(b, "f8")) / max(np.linalg.norm(np.asarray(b, "f8")), 1e-300)


# --- dtypes -----------------------------------------------------------------------------------------------------------

# The generator's numbers, of which only whether they reach the rate is used, and the user's own arrays.
_MAY_DIFFER = {
    ("_uniform", "numbers"),
    ("_uniform", "return"),
    ("fit", "sample_weight"),
    ("check_data", "sample_weight"),
}


def _floats(value, depth=0):
    """The dtypes of all NumPy floats in `value`, inside of lists, dicts and objects of this package, too."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "fc":
            yield str(value.dtype)
    elif depth < 6:
        inner = ()
        if isinstance(value, Mapping):
            inner = value.values()
        elif isinstance(value, list | tuple):
            inner = value
        elif type(value).__module__.startswith("scratchlstm"):
            inner = vars(value).values() if hasattr(value, "__dict__") else ()
        for item in inner:
            yield from _floats(item, depth + 1)


def _strays(action, dtype):
    """(function, variable, dtype) of every variable of this package that had a float of another dtype meanwhile."""
    found = set()

    def look(frame, event, result):
        if event == "return" and frame.f_code.co_filename.startswith(PACKAGE):
            function = frame.f_code.co_name
            for name, value in (*frame.f_locals.items(), ("return", result)):
                if (function, name) not in _MAY_DIFFER:
                    found.update((function, name, other) for other in _floats(value) if other != dtype)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        action()
    finally:
        sys.setprofile(before)
    return found


_OPTIMIZERS = {
    "adam": lambda: "adam",
    "clipped": lambda: optimizers.Adam(clipnorm=0.1),
    "clipped together": lambda: optimizers.SGD(momentum=0.9, global_clipnorm=0.1),
    "clipped by value": lambda: optimizers.RMSprop(clipvalue=0.01),
    "nesterov": lambda: optimizers.SGD(momentum=0.9, nesterov=True),
}


@pytest.mark.slow
# an optimizer or a loss does not see how the layers compute: each runs above one of the implementations
@pytest.mark.parametrize(
    ("optimizer", "implementation"), list(zip(_OPTIMIZERS, itertools.cycle(IMPLEMENTATIONS), strict=False))
)
@either_dtype
def test_no_float_of_another_dtype_appears_in_training_or_prediction(optimizer, implementation, dtype):
    model = tutorial(implementation, dtype, optimizer=_OPTIMIZERS[optimizer]())
    model.build((None, 7))  # parameters are drawn in float64, whatever they are to be
    x, y = np.arange(42).reshape(6, 7) % 11, np.arange(6) % 2

    def use():
        model.fit(x, y, batch_size=4, epochs=2, validation_split=0.3, verbose=0)
        model.fit(x, y, batch_size=4, class_weight={1: 2.0}, sample_weight=None, verbose=0)
        model.train_on_batch(x, y)
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)

    assert not _strays(use, dtype)
    assert {str(array.dtype) for array in (*model.params, *gradients(model, x, y))} == {dtype}
    assert {str(array.dtype) for slots in model.optimizer.state for array in slots.values()} <= {dtype}


@pytest.mark.parametrize(
    ("loss", "activation", "implementation"),
    [
        ("mse", "tanh", "fused"),
        ("categorical_crossentropy", "softmax", "textbook"),
        ("sparse_categorical_crossentropy", "softmax", "fused"),
        ("categorical_crossentropy", "sigmoid", "fused"),
        ("binary_crossentropy", "hard_sigmoid", "textbook"),
        ("mse", "relu", "textbook"),
    ],
)
@either_dtype
def test_no_float_of_another_dtype_appears_with_any_loss_on_dense_sequences(loss, activation, implementation, dtype):
    options = {"implementation": implementation, "dtype": dtype, "return_sequences": True}
    model = Sequential(seed=0)
    model.add(LSTM(4, recurrent_activation="hard_sigmoid", activation="relu", **options))
    model.add(LSTM(4, use_bias=False, **options))
    model.add(Dense(3, dtype=dtype))
    model.add(Activation(activation, dtype=dtype))
    model.compile("rmsprop", loss, metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(dtype)
    classes = np.arange(30).reshape(5, 6) % 3
    y = classes if "sparse" in loss else np.eye(3, dtype="i4")[classes]
    model.build((None, 6, 2))

    def use():
        model.fit(x, y, batch_size=3, sample_weight=np.arange(5), verbose=0)
        model.predict(x, verbose=0)

    assert not _strays(use, dtype)


def test_a_stray_dtype_would_be_seen():
    layer = Dense(2, dtype="float32")
    layer(np.ones((1, 2)))
    layer.params["bias"] = np.zeros(2)  # float64
    assert ("forward", "self", "float64") in _strays(lambda: layer(np.ones((1, 2))), "float32")


# --- sizes ------------------------------------------------------------------------------------------------------------

_ONES = [(1, 4, 3, 2), (3, 1, 3, 2), (3, 4, 1, 2), (3, 4, 3, 1), (1, 1, 3, 2), (3, 4, 1, 1), (1, 1, 1, 1)]


@pytest.mark.parametrize("sizes", _ONES, ids="B{0[0]} T{0[1]} E{0[2]} H{0[3]}".format)
@pytest.mark.parametrize("return_sequences", [True, False])
@every
def test_gradients_with_one_of_something(sizes, return_sequences, implementation):
    B, T, E, H = sizes
    layer = LSTM(
        H, return_sequences=return_sequences, return_state=True, implementation=implementation, dtype="float64"
    )
    report = gradcheck.check_layer(layer, np.random.default_rng(0).normal(size=(B, T, E)))
    assert report.ok, str(report)


@pytest.mark.parametrize("sizes", _ONES, ids="B{0[0]} T{0[1]} E{0[2]} H{0[3]}".format)
@pytest.mark.parametrize("V", [1, 5])
@every
def test_gradients_of_a_whole_model_with_one_of_something(sizes, V, implementation):
    B, T, E, H = sizes
    model = tutorial(implementation, "float64", V, E, H, rate=0.0)
    x = np.random.default_rng(0).integers(0, V, (B, T))
    report = gradcheck.check_model(model, x, np.arange(B) % 2)
    assert report.ok, str(report)


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 7, 8, 9])
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_samples_in_batches_of_four(N, workers):
    """No batch is empty, none is lost, and more workers than samples are no harm."""
    if workers > 1 and N not in (1, 2, 5):
        return  # three sizes will do for what starts processes

    class Batches(Callback):
        def __init__(self):
            self.counts = []

        def on_epoch_begin(self, epoch, logs=None):
            self.counts.append(0)

        def on_train_batch_end(self, batch, logs=None):
            self.counts[-1] += 1

    def trained(workers):
        model = tutorial(dtype="float64")
        x, y = np.arange(7 * N).reshape(N, 7) % 11, np.arange(N) % 2
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=batches, workers=workers, validation_data=(x, y))
        return model, model.predict(x, verbose=0, batch_size=2, workers=workers)

    batches = Batches()
    model, outputs = trained(workers)
    assert batches.counts == [-(-N // 4)] * 2
    assert outputs.shape == (N, 1)
    alone, others = trained(1)
    np.testing.assert_allclose(outputs, others, rtol=1e-10)
    for name, values in alone.history.history.items():
        np.testing.assert_allclose(model.history.history[name], values, rtol=1e-10)


def test_fewer_samples_than_a_batch_are_one_batch():
    weights = []
    for batch_size in (3, 4, 1000):
        model = tutorial()
        model.fit(np.arange(21).reshape(3, 7) % 11, [0, 1, 1], batch_size=batch_size, epochs=3, verbose=0)
        weights.append(model.get_weights())
    assert all(np.array_equal(a, b) for others in weights[1:] for a, b in zip(weights[0], others, strict=True))


@every
def test_a_vocabulary_of_one_word_learns(implementation):
    model = tutorial(implementation, V=1, rate=0.0, optimizer=optimizers.Adam(0.1))
    history = model.fit(np.zeros((6, 3), int), np.ones(6), epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.1 < history[0]


# --- long sequences ---------------------------------------------------------------------------------------------------


def _run(implementation, dtype, weights, x, dy, **options):
    """Outputs and all gradients of an LSTM with these weights."""
    layer = LSTM(weights[1].shape[0], return_sequences=True, implementation=implementation, dtype=dtype, **options)
    layer.build(x.shape[1:])
    layer.set_weights(weights)
    y, cache = layer.forward((x, *np.zeros((2, len(x), layer.units))), Pass(training=True))
    (dx, *d_states), grads = layer.backward(dy, cache)
    return [y, np.asarray(dx), *(np.asarray(grads[name]) for name in layer.params), *d_states]


@either_dtype
def test_five_thousand_steps(dtype):
    rng = np.random.default_rng(0)
    B, T, E, H = 2, 5000, 3, 4
    weights = [rng.normal(size=shape) * 0.5 for shape in ((E, 4 * H), (H, 4 * H), (4 * H,))]
    x, dy = rng.normal(size=(B, T, E)), rng.normal(size=(B, T, H))
    exact = _run("textbook", "float64", weights, x, dy)
    for implementation in IMPLEMENTATIONS:
        found = _run(implementation, dtype, weights, x.astype(dtype), dy.astype(dtype))
        for array, reference in zip(found, exact, strict=True):
            assert np.isfinite(array).all()
            assert norm_relative(array, reference) < {"float32": 1e-4, "float64": 1e-12}[dtype]


@either_dtype
def test_a_long_chain_neither_explodes_nor_is_cut_off(dtype):
    """With the forget gate wide open the cell's gradient comes back through 5,000 steps as it is."""
    H, T = 2, 5000
    weights = [np.zeros((1, 4 * H)), np.zeros((H, 4 * H)), np.repeat([0.0, 40.0, 0.0, 40.0], H)]
    x, dy = np.zeros((1, T, 1), dtype), np.zeros((1, T, H), dtype)
    dy[:, -1] = 1
    for implementation in IMPLEMENTATIONS:
        *_, dh0, dc0 = _run(implementation, dtype, weights, x, dy)
        np.testing.assert_allclose(dc0, 1, rtol=1e-6)
        assert not dh0.any()


@every
def test_rows_of_padding(implementation):
    """The id 0 occurs thousands of times in a batch; its gradient is their sum, in float32 too."""
    x = np.zeros((8, 3000), int)
    x[:, -3:] = np.arange(24).reshape(8, 3) % 10 + 1
    x[0] = 0
    y = np.arange(8) % 2
    grads = {}
    for dtype in ("float32", "float64"):
        model = tutorial(implementation, dtype, rate=0.0)
        grads[dtype] = gradients(model, x, y)
        model.train_on_batch(x, y)
        assert all(np.isfinite(w).all() for w in model.params)
    for single, double in zip(grads["float32"], grads["float64"], strict=True):
        assert norm_relative(single, double) < 1e-4


@either_dtype
def test_the_sum_over_a_hundred_thousand_places(dtype):
    layer = Embedding(3, 2, dtype=dtype)
    x = np.zeros((100, 1000), int)
    x[0, 0] = 2
    _, cache = layer.forward(x)
    _, grads = layer.backward(np.full((*x.shape, 2), 0.1, dtype), cache)
    assert isinstance(grads["embeddings"], RowGradient)
    np.testing.assert_allclose(np.asarray(grads["embeddings"])[:, 0], [9999.9, 0, 0.1], rtol=1e-5)


# --- gates at their ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [50.0, 1e3, 1e10, 1e30])
@pytest.mark.parametrize(
    "options",
    [{}, {"recurrent_activation": "hard_sigmoid"}, {"activation": "hard_sigmoid", "use_bias": False}],
    ids=["sigmoid", "hard_sigmoid", "hard candidate"],
)
@either_dtype
@pytest.mark.filterwarnings("error")
def test_saturated_gates(scale, options, dtype):
    rng = np.random.default_rng(0)
    B, T, E, H = 3, 6, 2, 5
    weights = [rng.normal(size=shape) * scale for shape in ((E, 4 * H), (H, 4 * H), (4 * H,))]
    weights = weights[: 2 + options.get("use_bias", True)]
    x, dy = rng.normal(size=(B, T, E)).astype(dtype), rng.normal(size=(B, T, H)).astype(dtype)
    *fast, textbook = (_run(implementation, dtype, weights, x, dy, **options) for implementation in IMPLEMENTATIONS)
    for array, reference in zip(itertools.chain(*fast), textbook * len(fast), strict=True):
        assert np.isfinite(array).all()
        assert np.isfinite(reference).all()
        # where all is flat, what is left of a gradient is rounding
        np.testing.assert_allclose(array, reference, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(reference).max()))


@pytest.mark.parametrize("value", [3e38, -3e38])
@every
@pytest.mark.filterwarnings("error")
def test_inputs_at_the_end_of_float32(value, implementation):
    weights = [np.full((1, 4), 0.5), np.full((1, 4), 0.5), np.zeros(4)]
    found = _run(implementation, "float32", weights, np.full((2, 3, 1), value, "f4"), np.ones((2, 3, 1), "f4"))
    assert all(np.isfinite(array).all() for array in found)


@every
@pytest.mark.filterwarnings("error")
def test_a_model_that_is_certain_and_wrong(implementation):
    """The loss of a certain mistake is its logit, and its gradient does not vanish."""
    model = tutorial(implementation, rate=0.0)
    model.build((None, 3))
    model.layers[-1].params["bias"][:] = 500
    x = np.zeros((4, 3), int)
    loss, accuracy = model.evaluate(x, np.zeros(4), verbose=0)
    assert loss == pytest.approx(500, rel=1e-2)
    assert accuracy == 0
    assert gradients(model, x, np.zeros(4))[-1] == 1
    model.train_on_batch(x, np.zeros(4))
    assert model.evaluate(x, np.ones(4), verbose=0) == [0, 1]


# --- the same seed, the same run --------------------------------------------------------------------------------------

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from test_edges import digest
print(*(digest(workers) for workers in (1, 2, 3)))
"""


def digest(workers):
    """A hash of all that a run leaves: weights, optimizer state, history."""
    model = tutorial()
    x, y = np.arange(7 * 22).reshape(22, 7) ** 2 % 11, np.arange(22) % 2
    history = model.fit(x, y, batch_size=5, epochs=2, workers=workers, validation_split=0.2, verbose=0).history
    state = [array for slots in model.optimizer.state for array in slots.values()]
    return hashlib.sha256(
        b"".join([*(a.tobytes() for a in (*model.params, *state)), repr(history).encode()])
    ).hexdigest()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_bit_for_bit_for_each_number_of_workers():
    here = [digest(workers) for workers in (1, 2, 3)]
    command = [sys.executable, "-c", _PROGRAM, str(ROOT / "tests")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    fresh = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert fresh.stdout.split() == here
