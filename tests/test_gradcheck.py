"""The checker itself: it passes what is right, sees what is wrong, and refuses what it cannot judge."""

import numpy as np
import pytest

from scratchlstm import gates, gradcheck, layers
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Add,
    Attention,
    Bidirectional,
    Concatenate,
    Dense,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUCell,
    Input,
    LayerNormalization,
    LSTMCell,
    MaskedGlobalMaxPooling1D,
    Masking,
    Multiply,
    Network,
    RepeatVector,
    Reshape,
    SimpleRNN,
    SimpleRNNCell,
    SpatialDropout1D,
    TimeDistributed,
    WordDropout,
)
from scratchlstm.models.model import Model, Sequential


class Scale:
    """A reader's own layer, nothing inherited: y = a x, with a mistake on request."""

    def __init__(self, wrong=""):
        self.params = {"a": np.array([1.5, -0.5, 2.0])}
        self.grads = {}
        self.wrong = wrong

    def forward(self, x):
        self.x = x
        return x * self.params["a"]

    def backward(self, dy):
        da = np.sum(dy * self.x, axis=0)
        self.grads = {
            "": {"a": da},
            "value": {"a": da * (1 + 1e-6)},
            "missing": {},
            "shape": {"a": np.sum(dy * self.x)},
            "nan": {"a": da * np.nan},
        }[self.wrong]
        return dy * self.params["a"]


X = np.random.default_rng(0).normal(size=(4, 3))
SEQUENCES = np.random.default_rng(1).normal(size=(2, 4, 3))
MASK = np.array([[False, True, True, True], [True, True, False, False]])


def test_a_layer_of_ones_own_passes():
    report = gradcheck.check_layer(Scale(), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["a", "x"]
    assert "WRONG" not in str(report)


@pytest.mark.parametrize("wrong", ["value", "missing", "shape", "nan"])
def test_a_wrong_layer_of_ones_own_fails(wrong):
    report = gradcheck.check_layer(Scale(wrong), X)
    assert not report.ok
    assert [row.ok for row in report.rows] == [False, True]
    assert "WRONG" in str(report)


def test_a_report_without_rows_is_not_right():
    assert not gradcheck.Report("empty").ok


F64 = {"dtype": "float64"}


def siamese_network():
    """One LSTM for two inputs, and two outputs."""
    ends, shared = [Input((4, 3)), Input((4, 3))], LSTM(2, **F64)
    both = Concatenate(**F64)([shared(end) for end in ends])
    return Network(ends, [both, Dense(1, "tanh", **F64)(both)])


EVERY_LAYER = {  # name of the layer -> (layer, x, call)
    "LSTM": (LSTM(2, "relu", "hard_sigmoid", return_sequences=True, **F64), SEQUENCES, {"mask": MASK}),
    "LSTM textbook": (LSTM(2, return_state=True, implementation="textbook", **F64), SEQUENCES, {"mask": MASK}),
    "LSTM stateful": (LSTM(2, stateful=True, use_bias=False, **F64), SEQUENCES, {}),
    "SimpleRNN": (SimpleRNN(2, recurrent_dropout=0.3, stateful=True, **F64), SEQUENCES, {"training": True}),
    "GRU": (GRU(2, recurrent_dropout=0.3, dropout=0.3, return_sequences=True, **F64), SEQUENCES, {"training": True}),
    "GRU before": (GRU(2, "relu", reset_after=False, recurrent_dropout=0.3, **F64), SEQUENCES, {"training": True}),
    "GRU masked": (GRU(2, go_backwards=True, return_state=True, **F64), SEQUENCES, {"mask": MASK}),
    "RNN": (
        RNN([LSTMCell(2), GRUCell(3, use_bias=False)], return_state=True, **F64),
        SEQUENCES,
        {"mask": MASK},
    ),
    "Bidirectional": (Bidirectional(LSTM(2, return_state=True, **F64), "mul"), SEQUENCES, {"mask": MASK}),
    "Bidirectional RNN": (Bidirectional(RNN(SimpleRNNCell(2), **F64)), SEQUENCES, {"mask": MASK}),
    "Bidirectional None": (Bidirectional(LSTM(2, return_sequences=True, **F64), None), SEQUENCES, {}),
    "TimeDistributed GRU": (TimeDistributed(GRU(2, **F64)), np.stack([SEQUENCES] * 2, axis=1), {}),
    "TimeDistributed": (TimeDistributed(Dense(2, dtype="float64")), SEQUENCES, {}),
    "Dense": (Dense(2, "softmax", **F64), X, {}),
    "Dense ints": (Dense(2, "tanh", use_bias=False, **F64), [[1, 2], [3, 5]], {}),
    "Activation": (Activation("sigmoid", **F64), X, {}),
    "Concatenate": (Concatenate(axis=1, **F64), [SEQUENCES, SEQUENCES[:, :2]], {}),
    "Add": (Add(**F64), [SEQUENCES, SEQUENCES[:, :1], SEQUENCES[:, 0]], {}),
    "Multiply": (Multiply(**F64), [SEQUENCES, SEQUENCES[:, :1]], {"mask": [MASK, MASK[:, 1:2]]}),
    "Dot": (Dot((2, 1), normalize=True, **F64), [SEQUENCES, SEQUENCES[:, :3]], {}),
    "Attention": (
        Attention(True, dropout=0.3, **F64),
        [SEQUENCES[:, :2], SEQUENCES[..., :2], SEQUENCES],
        {"mask": [MASK[:, :2], MASK], "training": True},
    ),
    "Reshape": (Reshape((2, -1), **F64), SEQUENCES, {}),
    "RepeatVector": (RepeatVector(3, **F64), X, {}),
    "Dropout": (Dropout(0.4, **F64), X, {"training": True}),
    "SpatialDropout1D": (SpatialDropout1D(0.4, **F64), SEQUENCES, {"training": True}),
    "Embedding": (Embedding(5, 2, **F64), [[0, 1, 1], [4, 1, 0]], {}),
    "WordDropout": (  # below a table, as it has no gradients itself
        Sequential([WordDropout(0.4), Embedding(5, 2, **F64)]).network,
        [[0, 1, 1], [4, 1, 0]],
        {"training": True},
    ),
    "Flatten": (Flatten(**F64), SEQUENCES, {}),
    "GlobalAveragePooling1D": (GlobalAveragePooling1D(**F64), SEQUENCES, {"mask": MASK}),
    "GlobalMaxPooling1D": (GlobalMaxPooling1D(**F64), SEQUENCES, {}),
    "MaskedGlobalMaxPooling1D": (MaskedGlobalMaxPooling1D(**F64), SEQUENCES, {"mask": MASK}),
    "LayerNormalization": (LayerNormalization(**F64), X, {}),
    "Masking": (Masking(**F64), SEQUENCES, {}),
    "Network": (siamese_network(), [SEQUENCES, SEQUENCES[::-1] - 1], {}),
}


@pytest.mark.parametrize("name", EVERY_LAYER)
def test_every_layer_passes(name):
    layer, x, call = EVERY_LAYER[name]
    report = gradcheck.check_layer(layer, x, **call)
    assert report.ok, report
    rows = [row.tensor for row in report.rows]
    of_ids = name in ("Embedding", "WordDropout")
    inputs = [f"x[{number}]" for number in range(len(x))] if layer.merges else [] if of_ids else ["x"]
    assert rows == [*layer.params, *inputs, *getattr(layer, "state_sizes", ())]


def test_every_layer_is_there():
    computing = set(layers.KNOWN)
    assert {name.split()[0] for name in EVERY_LAYER} == computing


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul", None])
def test_a_mistake_in_one_direction_is_seen(monkeypatch, merge_mode):
    layer = Bidirectional(LSTM(2, **F64), merge_mode)
    right = layer.backward_layer.scan_back

    def wrong(*arguments):
        dx, (dW, dU, db), states = right(*arguments)
        return dx, [dW, dU * 1.001, db], states

    assert gradcheck.check_layer(layer, SEQUENCES, mask=MASK).ok
    monkeypatch.setattr(layer.backward_layer, "scan_back", wrong)
    report = gradcheck.check_layer(layer, SEQUENCES, mask=MASK)
    assert [row.tensor for row in report.rows if not row.ok] == ["backward/recurrent_kernel"]


def test_dropout_is_checked_with_one_mask():
    kept = []

    class Watched(Dropout):
        def forward(self, x, run):
            y, cache = super().forward(x, run)
            kept.append(y / x)
            return y, cache

        def backward(self, dy, cache, need):
            return super().backward(dy, cache, need)

    report = gradcheck.check_layer(Watched(0.5, seed=0, dtype="float64"), X, training=True)
    assert report.ok, report
    assert (kept[0] == 0).any()
    assert len(kept) > 2 * X.size
    for mask in kept:
        np.testing.assert_allclose(mask, kept[0], rtol=1e-12)


def test_large_tensors_are_checked_along_random_directions(monkeypatch):
    monkeypatch.setattr(gradcheck.numerical, "EVERY_NUMBER", 2)
    assert gradcheck.check_layer(Scale(), X).ok
    assert not gradcheck.check_layer(Scale("value"), X, tolerance=1e-8).ok


def test_a_model_with_dropout_passes_as_it_is_trained():
    model = Sequential(seed=3)
    model.add(Embedding(6, 3, input_shape=(5,), dtype="float64"))
    model.add(Dropout(0.3, dtype="float64"))
    model.add(LSTM(4, return_sequences=True, dtype="float64"))
    model.add(LSTM(2, dtype="float64"))
    model.add(Dense(3, activation="softmax", dtype="float64"))
    model.compile("adam", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).integers(0, 6, size=(3, 5))
    report = gradcheck.check_model(model, x, [0, 2, 1], training=True)
    assert report.ok, report
    assert len(report.rows) == 1 + 3 + 3 + 2


def small_model(loss="binary_crossentropy", **last):
    """Masked, with a penalty, a state that is kept, and a label for each step."""
    model = Sequential(seed=3)
    model.add(Embedding(6, 3, mask_zero=True, input_shape=(5,), embeddings_regularizer="l2", **F64))
    model.add(LSTM(4, return_sequences=True, stateful=True, **F64))
    model.add(Dense(1, "sigmoid", **last, **F64))
    if loss is not None:
        model.compile("adam", loss)
    return model


IDS = np.array([[0, 0, 1, 5, 2], [3, 3, 4, 0, 0]])


def test_masks_penalties_and_kept_states_are_in_the_loss():
    model = small_model(kernel_regularizer="l1")
    model.forward(IDS)
    kept = [state.copy() for state in model.layers[1].states]
    report = gradcheck.check_model(model, IDS, IDS % 2)
    assert report.ok, report
    assert all(np.array_equal(a, b) for a, b in zip(kept, model.layers[1].states, strict=True))


def test_a_forgotten_penalty_is_seen(monkeypatch):
    model = small_model()
    monkeypatch.setattr(model, "penalty", lambda: 0.0)
    report = gradcheck.check_model(model, IDS, IDS % 2)
    assert [row.tensor for row in report.rows if not row.ok] == ["embedding/embeddings"]


def test_a_way_back_without_the_mask_is_seen(monkeypatch):
    model = small_model()
    right = model.loss.with_gradient
    monkeypatch.setattr(model.loss, "with_gradient", lambda *args: (right(*args)[0], right(*args[:4])[1]))
    report = gradcheck.check_model(model, IDS, IDS % 2)
    assert not any(row.ok for row in report.rows)


def test_branches_pass_and_a_lost_one_is_seen(monkeypatch):
    words = Input((5,))
    x = Embedding(6, 3, **F64)(words)
    joined = Concatenate(**F64)([GlobalAveragePooling1D(**F64)(x), LSTM(2, **F64)(x)])
    model = Model(words, Dense(1, **F64)(joined), seed=0)
    model.compile("sgd", "mse")
    report = gradcheck.check_model(model, IDS, [1, 2])
    assert report.ok, report
    assert report.title.startswith("Embedding, ")
    monkeypatch.setattr(model.network, "_added", lambda kept, source, one, other: other if one is None else one)
    rows = gradcheck.check_model(model, IDS, [1, 2]).rows
    assert [row.tensor for row in rows if not row.ok] == ["embedding/embeddings"]


def test_a_model_of_several_inputs_passes_and_its_title_names_their_shapes():
    ids, values = Input((5,)), Input((5, 3))
    encoder = LSTM(2, **F64)
    joined = Concatenate(**F64)([encoder(Embedding(6, 3, **F64)(ids)), encoder(values)])
    model = Model([ids, values], Dense(1, **F64)(joined), seed=0)
    model.compile("sgd", "mse")
    report = gradcheck.check_model(model, [IDS, np.random.default_rng(1).normal(size=(2, 5, 3))], [1, 2])
    assert report.ok, report
    assert report.title.endswith("input (2, 5), (2, 5, 3)")


def siamese(**embedding):
    """One embedding and one LSTM, called on two inputs."""
    ends = [Input((5,)), Input((5,))]
    words, shared = Embedding(6, 3, **embedding, **F64), LSTM(4, dropout=0.2, **F64)
    both = Concatenate(**F64)([shared(words(end)) for end in ends])
    model = Model(ends, Dense(1, "sigmoid", **F64)(both), seed=3)
    model.compile("sgd", "binary_crossentropy")
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "embedding", [{}, {"mask_zero": True, "embeddings_regularizer": "l2"}], ids=["plain", "masked"]
)
def test_a_siamese_model_passes_and_a_lost_use_is_seen(monkeypatch, embedding, training):
    model, x = siamese(**embedding), [IDS, IDS[::-1] // 2]
    report = gradcheck.check_model(model, x, [0, 1], training=training)
    assert report.ok, report
    assert [row.tensor for row in report.rows] == list(model.network.params)
    assert report.title.endswith("input (2, 5), (2, 5)")
    right = LSTM.backward
    first = []

    def once(layer, dy, cache, need=True):
        dx, grads = right(layer, dy, cache, need)
        first.append(cache)
        return dx, {name: gradient * (cache is first[0]) for name, gradient in grads.items()}

    monkeypatch.setattr(LSTM, "backward", once)
    rows = gradcheck.check_model(model, x, [0, 1], training=training).rows
    assert [row.tensor for row in rows if not row.ok] == [f"lstm/{name}" for name in model.layers[-3].params]


def test_checking_changes_nothing():
    layer = LSTM(2, stateful=True, **F64)
    layer(SEQUENCES)
    x, states = SEQUENCES.copy(), [np.ones((2, 2)), np.zeros((2, 2))]
    kept = [array.copy() for array in (*layer.get_weights(), *layer.states, x, *states)]
    assert gradcheck.check_layer(layer, x, initial_state=states).ok
    for before, after in zip(kept, (*layer.get_weights(), *layer.states, x, *states), strict=True):
        assert np.array_equal(before, after)


def read_only(array):
    array.flags.writeable = False
    return array


STATE = np.random.default_rng(4).normal(size=(2, 2))


@pytest.mark.parametrize(
    "states",
    [
        [STATE.astype("float32"), STATE],
        [np.ones((2, 2), int), STATE],
        [STATE, STATE],
        (STATE.tolist(), [[0, 0], [0, 0]]),
        [read_only(STATE.copy()), STATE],
        np.stack([STATE, -STATE]),
    ],
    ids=["float32", "whole numbers", "one twice", "lists", "read-only", "one array"],
)
def test_any_arrays_will_do_as_states(states):
    report = gradcheck.check_layer(LSTM(2, **F64), SEQUENCES, initial_state=states)
    assert report.ok, report


def test_states_are_not_even_moved_meanwhile():
    class Watched(LSTM):
        def forward(self, x, run):
            assert np.array_equal(given, before)
            return super().forward(x, run)

        def backward(self, dy, cache, need):
            return super().backward(dy, cache, need)

    given = STATE.copy()
    before = given.copy()
    assert gradcheck.check_layer(Watched(2, **F64), SEQUENCES, initial_state=[given, given]).ok
    assert gradcheck.check_layer(SimpleRNN(2, **F64), SEQUENCES, initial_state=given).ok


def test_float32_is_refused_in_words():
    with pytest.raises(ValueError, match="float32.*make it float64"):
        gradcheck.check_layer(Dense(2), X)
    with pytest.raises(ValueError, match="x is float32"):
        gradcheck.check_layer(Scale(), X.astype("float32"))

    whole = Scale()
    whole.params["a"] = np.array([1, 2, 3])
    with pytest.raises(ValueError, match="a is int64.*make it float64"):
        gradcheck.check_layer(whole, X)


DENSE = Dense(2, **F64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gradcheck.check_layer(3, X), TypeError, "layer must have params, .* but 3 has no params"),
        (lambda: gradcheck.check_layer(LSTM, X), TypeError, "has no params"),
        (lambda: gradcheck.check_layer(Input((3,)), X), TypeError, "which Input does not"),
        (lambda: gradcheck.check_layer(small_model(), IDS), TypeError, "check_model takes a model"),
        (lambda: gradcheck.check_layer(DENSE, X, epsilon=0), ValueError, "epsilon must be above 0, not 0"),
        (lambda: gradcheck.check_layer(DENSE, X, tolerance=-1), ValueError, "tolerance must be above 0, not -1"),
        (lambda: gradcheck.check_layer(DENSE, X, seed="a"), ValueError, "seed must be a whole number"),
        (lambda: gradcheck.check_layer(DENSE, X, mask=MASK), ValueError, "mask was given, but Dense takes none"),
        (lambda: gradcheck.check_layer(DENSE, X, initial_state=[X]), ValueError, "Dense has no states"),
        (lambda: gradcheck.check_layer(Scale(), X, tensorflow=True), ValueError, "Scale is not part of scratchlstm"),
        (
            lambda: gradcheck.check_layer(LSTM(2, **F64), SEQUENCES, initial_state=[STATE]),
            ValueError,
            r"must be \[h0, c0\], not 1 arrays",
        ),
        (
            lambda: gradcheck.check_layer(LSTM(2, **F64), SEQUENCES, initial_state=3),
            ValueError,
            r"must be \[h0, c0\], not int",
        ),
        (
            lambda: gradcheck.check_layer(LSTM(2, **F64), SEQUENCES, initial_state=["a", "b"]),
            TypeError,
            "must hold numbers",
        ),
        (
            lambda: gradcheck.check_layer(Masking(**F64), SEQUENCES * 0),
            ValueError,
            "steps of 0.0 alone, which Masking hides",
        ),
        (lambda: gradcheck.check_model(DENSE, X, [1]), TypeError, "check_model takes a Sequential or a Model"),
        (lambda: gradcheck.check_model(small_model(None), IDS, IDS), RuntimeError, "call compile.* before check_model"),
        (lambda: gradcheck.check_model(small_model(), IDS, IDS % 2, epsilon=-1), ValueError, "epsilon must be above"),
        (lambda: gradcheck.numerical_gradient(float, [1.0]), TypeError, "array must be a NumPy array.*not list"),
        (lambda: gradcheck.numerical_gradient(float, np.ones(2, int)), ValueError, "array is int64"),
        (lambda: gradcheck.numerical_gradient(float, X, epsilon=0), ValueError, "epsilon must be above 0"),
    ],
)
def test_bad_arguments_are_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numerical_gradient_of_a_known_function():
    a = np.array([[1.0, 2.0], [3.0, -1.0]])
    gradient = gradcheck.numerical_gradient(lambda: float(np.sum(a**3)), a)
    np.testing.assert_allclose(gradient, 3 * np.array([[1.0, 2.0], [3.0, -1.0]]) ** 2, rtol=1e-9)
    assert np.array_equal(a, [[1.0, 2.0], [3.0, -1.0]])


@pytest.mark.parametrize("wrong", [None, "False", -1, 2, float("nan"), np.ones(2), {"a": 1}], ids=repr)
def test_flags_are_true_or_false(wrong):
    layer = LSTM(2, dtype="float64")
    model = Sequential([Dense(1, input_shape=(2,), dtype="float64")])
    model.compile("sgd", "mse")
    for name in ("training", "tensorflow"):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            gradcheck.check_layer(layer, np.ones((2, 3, 2)), **{name: wrong})
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            gradcheck.check_model(model, np.ones((2, 2)), np.ones((2, 1)), **{name: wrong})


@pytest.mark.parametrize("wrong", [None, True, "False", float("nan"), {"a": 1}, ...], ids=repr)
def test_data_that_cannot_be_are_named(wrong):
    model = Sequential([Dense(1, input_shape=(2,), dtype="float64")])
    model.compile("sgd", "mse")
    with pytest.raises((TypeError, ValueError), match=r"^x\b"):
        gradcheck.check_layer(LSTM(2, dtype="float64"), wrong)
    with pytest.raises((TypeError, ValueError), match=r"^x\b"):
        gradcheck.check_model(model, wrong, np.ones((2, 1)))
    with pytest.raises((TypeError, ValueError), match=r"\by\b"):
        gradcheck.check_model(model, np.ones((2, 2)), wrong)
    with pytest.raises(TypeError, match="loss must be a function"):
        gradcheck.numerical_gradient(wrong, np.ones(2))


# --- two functions of one's own ---------------------------------------------------------------------------------------


def step_forward(x, h_prev, c_prev, W, U, b):
    h, c, cache = gates.lstm_step_forward(x, h_prev, c_prev, W, U, b)
    return (h, c), (cache, W, U)


def step_backward(dout, cache):
    return tuple(gates.lstm_step_backward(*dout, *cache))[:6]


def step_inputs(B=3, E=5, H=2):
    rng = np.random.default_rng(7)
    shapes = {"x": (B, E), "h": (B, H), "c": (B, H), "W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def test_the_functions_of_gates_pass():
    inputs = step_inputs()
    before = {name: array.copy() for name, array in inputs.items()}
    report = gradcheck.check_functions(step_forward, step_backward, inputs)
    assert report.ok, report
    assert [row.tensor for row in report.rows] == list(inputs)
    assert report.title == (
        "step_forward, input (3, 5), (3, 2), (3, 2), (5, 8), (2, 8), (8,), a gradient on every output"
    )
    assert all(np.array_equal(before[name], array) for name, array in inputs.items())
    in_a_list = gradcheck.check_functions(step_forward, step_backward, list(inputs.values()))
    assert [row.tensor for row in in_a_list.rows] == [f"x[{number}]" for number in range(6)]
    assert [row.numerical for row in in_a_list.rows] == [row.numerical for row in report.rows]


@pytest.mark.parametrize("wrong", range(6))
def test_a_mistake_in_a_function_of_ones_own_is_seen(wrong):
    def mistaken(dout, cache):
        return tuple(d * (1 + 1e-6 * (number == wrong)) for number, d in enumerate(step_backward(dout, cache)))

    report = gradcheck.check_functions(step_forward, mistaken, step_inputs())
    assert [row.ok for row in report.rows] == [number != wrong for number in range(6)]


def test_a_cell_without_its_forget_gate_is_seen():
    def forgetful(dout, cache):
        dx, dh_prev, dc_prev, *others = step_backward(dout, cache)
        return dx, dh_prev, dc_prev / cache[0].f, *others

    report = gradcheck.check_functions(step_forward, forgetful, step_inputs())
    assert [row.tensor for row in report.rows if not row.ok] == ["c"]


def test_one_input_and_ids():
    report = gradcheck.check_functions(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, [X])
    assert report.ok, report
    table, ids = X.copy(), np.array([0, 2, 2])

    def backward(dy, cache):
        gradient = np.zeros((4, 3))
        np.add.at(gradient, cache, dy)
        return gradient, None

    report = gradcheck.check_functions(lambda table, ids: (table[ids], ids), backward, {"table": table, "ids": ids})
    assert report.ok, report
    assert [row.tensor for row in report.rows] == ["table"]


@pytest.mark.parametrize(
    ("gradient", "problem"), [(None, "no gradient"), (np.ones(3), "gradient of shape (3,)"), (X * np.nan, "")]
)
def test_what_is_no_gradient_is_wrong(gradient, problem):
    (row,) = gradcheck.check_functions(lambda x: (x, None), lambda dy, cache: gradient, [X]).rows
    assert not row.ok
    assert row.problem == problem


def square(x):
    return x**2, x


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gradcheck.check_functions(3, square, [X]), TypeError, "forward must be a function, not 3"),
        (lambda: gradcheck.check_functions(square, None, [X]), TypeError, "backward must be a function, not None"),
        (lambda: gradcheck.check_functions(square, square, X), TypeError, "inputs must be a list of arrays, or a dict"),
        (
            lambda: gradcheck.check_functions(square, square, []),
            TypeError,
            "for each argument of forward, but is empty",
        ),
        (lambda: gradcheck.check_functions(square, square, ["a"]), TypeError, r"input x\[0\] must"),
        (lambda: gradcheck.check_functions(square, square, [X.astype("f")]), ValueError, r"x\[0\] is float32.*float64"),
        (
            lambda: gradcheck.check_functions(lambda x: (x.astype("f"), x), square, [X]),
            ValueError,
            "output 0 is float32.*float64",
        ),
        (lambda: gradcheck.check_functions(np.sin, square, [X]), TypeError, "forward must return out and cache, not"),
        (lambda: gradcheck.check_functions(lambda x: ("a", x), square, [X]), TypeError, "output 0 must"),
        (
            lambda: gradcheck.check_functions(square, lambda dy, x: (dy, dy), {"x": X}),
            ValueError,
            "backward must return a gradient for each of the 1 inputs, in their order, but returned 2",
        ),
        (lambda: gradcheck.check_functions(square, lambda dy, x: "a", {"x": X}), TypeError, "the gradient of x must"),
        (lambda: gradcheck.check_functions(square, square, [X], epsilon=0), ValueError, "epsilon must be above 0"),
        (lambda: gradcheck.check_functions(square, square, [X], seed="a"), ValueError, "seed must be a whole number"),
    ],
)
def test_functions_that_cannot_be_checked_are_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()
