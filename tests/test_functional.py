"""`Model`: layers that part and meet again."""

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential, gradcheck
from scratchlstm.layers import (
    LSTM,
    Add,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    MaskedGlobalMaxPooling1D,
    SpatialDropout1D,
    TimeDistributed,
)

T, V = 6, 11
X, Y = np.random.default_rng(0).integers(0, V, (40, T)), np.random.default_rng(1).integers(0, 2, 40)


def two_branches(dtype=None, seed=0, dropout=0.0):
    options = {"dtype": dtype}
    words = Input((T,))
    x = SpatialDropout1D(dropout, **options)(Embedding(V, 5, mask_zero=True, **options)(words))
    sequence = Bidirectional(LSTM(3, return_sequences=True, **options))(x)
    branches = [GlobalAveragePooling1D(**options)(sequence), MaskedGlobalMaxPooling1D(**options)(sequence)]
    branches.append(LSTM(4, **options)(x))
    y = Dropout(dropout, **options)(Concatenate(**options)(branches))
    model = Model(words, Dense(1, activation="sigmoid", **options)(y), seed=seed)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def test_gradients_where_ways_part_and_meet():
    assert gradcheck.check_model(two_branches("float64"), X[:4], Y[:4]).ok


def test_a_stack_is_the_same_either_way():
    words = Input((T,))
    functional = Model(words, Dense(1)(LSTM(3)(Embedding(V, 4)(words))), seed=3)
    stack = Sequential([Input((T,)), Embedding(V, 4), LSTM(3), Dense(1)], seed=3)
    assert np.array_equal(functional.predict(X, verbose=0), stack.predict(X, verbose=0))
    assert functional.sources == stack.sources == [(-1,), (0,), (1,)]


def test_saved_and_loaded_it_trains_on_identically(tmp_path):
    model = two_branches()
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "model.npz")
    loaded = Model.load(tmp_path / "model.npz")
    assert (type(loaded), loaded.sources) == (Model, model.sources)
    histories = [m.fit(X, Y, epochs=2, shuffle=False, verbose=0).history for m in (model, loaded)]
    assert histories[0] == histories[1]


def test_a_file_tells_which_output_is_taken(tmp_path):
    x = Input((T, 2))
    _, h, c = LSTM(3, return_state=True)(x)
    model = Model(x, Concatenate()([c, h]), seed=0)
    model.save(tmp_path / "model.npz")
    data = np.random.default_rng(0).normal(size=(3, T, 2))
    loaded = Model.load(tmp_path / "model.npz")
    assert np.array_equal(loaded.predict(data, verbose=0), model.predict(data, verbose=0))


def test_each_class_loads_its_own(tmp_path):
    two_branches().save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="holds a Model with branches, not a Sequential: use Model.load"):
        Sequential.load(tmp_path / "model.npz")
    Sequential([Input((3,)), Dense(1)]).save(tmp_path / "stack.npz")
    assert type(Model.load(tmp_path / "stack.npz")) is Sequential


def test_a_layer_keeps_the_name_that_it_has_in_a_model():
    x, first, second = Input((2,)), Dense(2), Dense(2)
    model = Model(x, second(first(x)), seed=0)
    model.compile("sgd", "mse")
    other = Model(x, Concatenate()([Dense(2)(x), first(x)]))
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]
    assert {layer.name for layer in other.layers} == {"dense", "dense_1", "concatenate"}
    assert len(model.get_weights()) == 4
    model.fit(np.ones((4, 2)), np.ones((4, 2)), verbose=0)


def test_layers_of_two_models_that_have_one_name_get_two():
    x, first, second = Input((2,)), Dense(2), Dense(2)
    models = [Model(x, [layer(x), Dense(3, name="other")(x)], seed=0) for layer in (first, second)]
    for model in models:
        model.compile("sgd", "mse")
    both = Model(x, Concatenate()([first(x), second(x)]))
    assert [layer.name for layer in both.layers][:2] == ["dense", "dense_1"]
    for model in models:  # and compiled names are as they were
        assert len(model.get_weights()) == 4
        model.fit(np.ones((4, 2)), {"dense": np.ones((4, 2)), "other": np.ones((4, 3))}, verbose=0)


def test_layers_are_numbered_in_the_order_in_which_they_are_made():
    """As in Keras, and not in the order of the wiring."""
    first, second, x = Dense(2), Dense(3), Input((2,))
    model = Model(x, first(second(x)))
    assert (first.name, second.name) == ("dense", "dense_1")
    assert model.get_layer("dense") is first
    assert (model.input_names, model.output_names) == (["input_layer"], ["dense"])
    with pytest.raises(ValueError, match="functional has no layer 'lstm', but dense_1, dense"):
        model.get_layer("lstm")


def test_values_of_a_model_say_what_they_cannot_do():
    x = Input((7, 3), name="x")
    assert x.shape == (None, 7, 3)
    y = LSTM(4)(x)
    assert y.shape == (None, 4)
    for use, instead in (
        (lambda: y + y, r"^the output \(None, 4\) of lstm, .* cannot be added: Add\(\)\(\[a, b\]\)"),
        (lambda: y * y, r"cannot be multiplied: Multiply\(\)"),
        (lambda: x[:, -1], r"^the output \(None, 7, 3\) of x, .* be indexed: .* return_sequences=False"),
        (lambda: [*y], "cannot be unpacked: .* return_state=True"),
    ):
        with pytest.raises(TypeError, match=instead):
            use()
    with pytest.raises(TypeError, match="an LSTM|lstm_1 takes one input, not 3; initial_state="):
        LSTM(4, name="lstm_1")([x, y, y])
    with pytest.raises(TypeError, match="concatenate in a Model takes only its input, .* put its inputs in one list"):
        Concatenate()(y, y)


def test_a_list_of_the_one_input_is_that_input():
    model = Sequential([Input((3,)), Dense(1)], seed=0)
    x = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(model.predict([x], verbose=0), model.predict(x, verbose=0))
    assert np.array_equal(model.predict([x[0]], verbose=0), model.predict(x[:1], verbose=0))


def test_the_name_of_a_stacks_input_comes_back(tmp_path):
    model = Sequential([Input((3,), name="words"), Dense(1)], seed=0)
    model.save(tmp_path / "model.npz")
    loaded = Sequential.load(tmp_path / "model.npz")
    assert loaded.network.input_names == ["words"]
    assert np.array_equal(loaded.predict({"words": np.ones((2, 3))}, verbose=0), model(np.ones((2, 3))))


def test_several_processes_give_one_processs_result():
    moves = []
    for workers in (1, 2):
        model = two_branches("float64", dropout=0.3)
        start = model.get_weights()
        model.fit(X, Y, batch_size=8, epochs=2, workers=workers, verbose=0)
        moves.append([a - b for a, b in zip(model.get_weights(), start, strict=True)])
    for one, other in zip(*moves, strict=True):
        assert np.linalg.norm(one - other) <= 1e-11 * np.linalg.norm(one)


def test_summary_lists_every_layer(capsys):
    two_branches().summary()
    shown = capsys.readouterr().out
    assert "concatenate" in shown
    assert "(Concatenate)" in shown
    assert "(None, 16)" in shown
    assert "Connected to" in shown


def test_summary_tells_what_each_layer_takes_its_inputs_from(capsys):
    x, y, inner = Input((4, 3), name="x"), Input((2, 3), name="y"), LSTM(6, return_state=True, name="shared")
    _, *states = inner(x)
    Model([x, y], Dense(1)(inner(y, initial_state=states)[0])).summary()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert rows[2:5] == [
        "│ shared (LSTM)       │ [(None, 6),       │        240 │ x[0][0], y[0][0], │",
        "│                     │ (None, 6), (None, │            │ shared[0][1],     │",
        "│                     │ 6)]               │            │ shared[0][2]      │",
    ]
    assert rows[5] == "│ dense (Dense)       │ (None, 1)         │          7 │ shared[1][0]      │"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda a, b: Model([a, Dense(1)(a)], b), TypeError, "inputs must be one Input, or a list or dict of them"),
        (
            lambda a, b: Model([a, b], Dense(1)(a)),
            ValueError,
            "no output depends on the input 'input_layer_1'; remove it from inputs",
        ),
        (lambda a, b: Model([a, a], Dense(1)(a)), ValueError, "different, but one of them is listed twice"),
        (lambda a, b: Model(a, a), TypeError, "outputs must be outputs of layers applied"),
        (lambda a, b: Model(a, Dense(1)(b)), ValueError, "on the Input 'input_layer', which is not among the inputs"),
        (
            lambda a, b: Model(a, Concatenate()([a, b])),
            ValueError,
            "on the Input 'input_layer', which is not among the inputs",
        ),
        (lambda a, b: Dense(1)([a, b]), TypeError, "dense takes one input, not 2; Concatenate"),
        (
            lambda a, b: Concatenate()([a, Input((3, 4))]),
            ValueError,
            r"the same shape except along axis -1, but got shapes",
        ),
        (lambda a, b: Concatenate()(np.ones((2, 3))), TypeError, "takes a list of inputs, not ndarray"),
        (lambda a, b: Concatenate(axis=0), ValueError, "axis must be a whole number other than 0"),
        (
            lambda a, b: Sequential([a, Concatenate()]),
            ValueError,
            "several inputs, which a Sequential does not support; use Model",
        ),
        (
            lambda a, b: LSTM(3)(Input((4, 2)), initial_state=[a, b]),
            ValueError,
            r"initial_state of lstm must be \[h0 \(None, 3\), c0 \(None, 3\)\], not \[\(None, 4\), \(None, 4\)\]",
        ),
        (lambda a, b: LSTM(3)(a), ValueError, "lstm takes an input of 3 dimensions"),
        (
            lambda a, b: Model(a, _twice(Dense(3), a)),
            ValueError,
            r"dense is used on inputs of different shapes, .*\(4,\) and \(3,\): make",
        ),
        (lambda a, b: Model([a, b], []), ValueError, "outputs must not be empty"),
        (lambda a, b: Model({1: a}, Dense(1)(a)), TypeError, "each key of inputs"),
        (
            lambda a, b: Model([Input((2,), name="x"), x := Input((2,), name="x")], Dense(1)(x)),
            ValueError,
            "two of the inputs are named 'x'",
        ),
        (lambda a, b: Sequential([Input((4, 2)), LSTM(2, return_state=True)]), ValueError, "gives 3 outputs .*, which"),
        (
            lambda a, b: Model(a, [Dense(1)(a), Dense(1)(b)]),
            ValueError,
            "on the Input 'input_layer', which is not among",
        ),
        (lambda a, b: Model(a, [Dense(1)(a), a]), TypeError, "outputs must be outputs of layers applied"),
        (
            lambda a, b: Model(a, Dense(1, name="x")(Dense(1, name="x")(a))),
            ValueError,
            "the model already has a layer named 'x'",
        ),
        (
            lambda a, b: LSTM(4)(Input((4, 2)), initial_state=a),
            ValueError,
            r"must be \[h0 \(None, 4\), c0 \(None, 4\)\], not \[\(None, 4\)\]",
        ),
        (lambda a, b: LSTM(4)(Input((4, 2)), initial_state=[]), ValueError, r"must be .*, not \[\]"),
        (
            lambda a, b: Bidirectional(LSTM(4))(Input((4, 2)), initial_state=[a, b]),
            ValueError,
            r"must be \[forward h0 .* backward c0 \(None, 4\)\], not \[\(None, 4\), \(None, 4\)\]",
        ),
        (
            lambda a, b: LSTM(4)(Input((4, 2)), initial_state=[a, np.ones((3, 4))]),
            TypeError,
            "must hold outputs of Input or of layers, not an array of shape",
        ),
        (
            lambda a, b: LSTM(4)(np.ones((3, 4, 2)), initial_state=[a, b]),
            TypeError,
            "lstm got both arrays and symbolic",
        ),
        (lambda a, b: Concatenate()([a, np.ones((3, 4))]), TypeError, "concatenate got both arrays and symbolic"),
        (
            lambda a, b: _sum_of(Input((4,)), Input((4,)))(a),
            ValueError,
            "takes a list of 2 inputs, input_layer, input_layer_1, but",
        ),
        (
            lambda a, b: _sum_of(Input((4,)), Input((4,)))([a, b, a]),
            ValueError,
            "takes a list of 2 inputs, input_layer, input_layer_1, but got shapes",
        ),
        (
            lambda a, b: _sum_of(Input((4,)), Input((4,)))([a, Input((3,))]),
            ValueError,
            r"takes inputs of shape \(None, 4\) for 'input_layer_1', but got \(None, 3\)",
        ),
        (
            lambda a, b: _sum_of(a, b)([np.ones((3, 4))]),
            ValueError,
            "must be a list of 2 arrays, one for each input, not",
        ),
        (lambda a, b: _sum_of(a, b)([np.ones((3, 4)), b]), TypeError, "got both arrays and symbolic values"),
        (lambda a, b: Model(a, _in_a_circle(a)), ValueError, "wired in a circle: dense depends on its own output"),
    ],
)
def test_what_makes_no_model_is_refused_in_words(make, error, message):
    with pytest.raises(error, match=message):
        make(Input((4,)), Input((4,)))


def _in_a_circle(x):
    first = Dense(4)(x)
    second = Dense(4)(first)
    first.sources = (second,)  # by hand: calls alone cannot do that
    return second


def _sum_of(a, b):
    return Model([a, b], Add()([a, b]))


def _twice(layer, x):
    return layer(layer(x))


# --- states -----------------------------------------------------------------------------------------------------------


def with_states():
    """A decoder of padded words that begins with states from outside."""
    words, h, c = Input((4,), name="words"), Input((3,), name="h"), Input((3,), name="c")
    x = Embedding(V, 2, mask_zero=True, dtype="float64")(words)
    y = LSTM(3, return_sequences=True, dtype="float64")(x, initial_state=[h, c])
    model = Model([words, h, c], Dense(1, dtype="float64")(y), seed=0)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (np.ones((2, 3)), "x must hold the same number of samples for each input, not"),
        (np.ones((3, 4)), r"takes inputs of shape \(None, 3\) for 'h', but got \(None, 4\)"),
        (np.ones((3, 3, 1)), r"initial_state of lstm must be \[h0 \(None, 3\), c0 .*, not \[\(None, 3, 1\)"),
    ],
)
@pytest.mark.parametrize("use", ["fit", "predict", "forward"])
def test_states_of_another_size_or_batch(use, h, message):
    model = with_states()
    x = [X[:3, :4], h, np.ones((3, 3))]
    calls = {
        "fit": lambda: model.fit(x, np.ones((3, 4, 1)), verbose=0),
        "predict": lambda: model.predict(x, verbose=0),
        "forward": lambda: model.forward(x),
    }
    before = model.get_weights()
    if use == "forward" and h.shape[1:] != (4,):  # which knows of no samples
        message = r"h0 in initial_state of lstm must have shape \(3, 3\), not"
    with pytest.raises(ValueError, match=message):
        calls[use]()
    assert all(map(np.array_equal, model.get_weights(), before))


def test_a_mask_beside_states_leaves_steps_out_of_the_loss_alone():
    """As in Keras, which gives a layer the mask of its input only if it is called with nothing else."""
    model, rng = with_states(), np.random.default_rng(0)
    words, states = np.array([[0, 3, 0, 4], [1, 2, 3, 4]]), [rng.normal(size=(2, 3)) for _ in range(2)]
    embedding, lstm, dense = model.layers
    every_step = dense(lstm(embedding(words), initial_state=states))
    y, cache = model.forward([words, *states])
    np.testing.assert_allclose(y, every_step, rtol=1e-12)
    assert np.array_equal(cache.kept.masks[0], words != 0)
    assert model.masks_loss
    expected = np.sum(np.square(every_step - 1)[words != 0]) / 6
    assert model.evaluate([words, *states], np.ones((2, 4, 1)), verbose=0) == pytest.approx(expected, rel=1e-12)


def test_what_nothing_reaches_has_gradients_of_zeros():
    a, b = Input((3,)), Input((2,))
    one, other = Dense(2, dtype="float64"), Dense(2, dtype="float64")
    inner = Model([a, b], [one(a), other(b)], seed=0)
    x = [np.ones((4, 3)), np.ones((4, 2))]
    _, cache = inner.forward(x)
    (da, db), grads = inner.backward((np.ones((4, 2)), None), cache)
    assert da.any()
    assert np.array_equal(db, np.zeros((4, 2)))
    assert not grads["dense_1/kernel"].any()
    starts = [Input((3,)), Input((2,))]
    below = [Dense(size, dtype="float64")(start) for size, start in zip((3, 2), starts, strict=True)]
    outer = Model(starts, inner(below)[0], seed=0)
    outer.compile("sgd", "mse")
    assert gradcheck.check_model(outer, x, np.ones((4, 2))).ok


# --- one input for several layers, and layers that are shared ---------------------------------------------------------


@pytest.mark.parametrize("first", ["embedding", "dense"])
def test_ids_that_words_and_numbers_are_made_of(first):
    """Whichever layer comes first: each casts what it gets for itself."""
    ids = Input((T,))
    branches = [GlobalAveragePooling1D()(Embedding(V, 2)(ids)), Dense(2)(ids)]
    model = Model(ids, Dense(1)(Concatenate()(branches if first == "embedding" else branches[::-1])), seed=0)
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="x: embedding has rows for ids 0 to 10"):
        model.fit(np.where(np.arange(40)[:, None] == 39, V, X), Y, batch_size=8, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


def test_an_input_beside_itself():
    x = Input((3,))
    model = Model(x, Dense(1)(Concatenate()([x, x])), seed=0)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.ones(4), verbose=0)


@pytest.mark.parametrize("around", [TimeDistributed, None])
def test_a_layer_inside_two_others_is_refused(around):
    if around is None:
        back = LSTM(2, return_sequences=True, go_backwards=True)
        layers = [Bidirectional(LSTM(2, return_sequences=True), backward_layer=back) for _ in range(2)]
    else:
        shared = Dense(3)
        layers = [around(shared), around(shared)]
    with pytest.raises(ValueError, match="is already in the model"):
        Sequential([Input((4, 3)), *layers])


def test_a_stack_in_a_stack_says_what_its_input_is():
    inner = Sequential([Dense(3, input_shape=(4,))], seed=0)
    outer = Sequential([inner, Dense(1)], seed=0)
    assert outer.built
    assert outer.input_shape == (4,)
    assert list(outer.network.params) == [
        "sequential/dense/kernel",
        "sequential/dense/bias",
        "dense/kernel",
        "dense/bias",
    ]
    y, cache = outer.forward(np.ones((2, 4)))
    assert list(outer.backward(np.ones_like(y), cache)[1]) == list(outer.network.params)
