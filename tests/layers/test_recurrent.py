"""What recurrent layers refuse, and what they promise beyond one call."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm import Sequential, gradcheck
from scratchlstm.constraints import MaxNorm
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    GRUCell,
    Input,
    LSTMCell,
    SimpleRNN,
    TimeDistributed,
)
from scratchlstm.layers.passes import Pass

X = np.random.default_rng(0).normal(size=(2, 5, 3))


def of_keras(name):
    return type(name, (), {"__module__": "keras.src.layers"})()


@pytest.mark.parametrize("kind", [LSTM, SimpleRNN, GRU])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"mask": np.ones((2, 4), bool)}, r"mask of .* with shape \(2, 5\), but its shape is \(2, 4\)"),
        ({"mask": np.ones((2, 5))}, "True or False .* dtype float64"),
        ({"initial_state": np.zeros(3)}, "initial_state of"),
        ({"initial_state": [np.zeros((2, 4))] * 3}, "initial_state of .* not 3 arrays"),
        ({"initial_state": [np.zeros((3, 4))] * 2}, "initial_state of"),
    ],
)
def test_calls_that_do_not_fit(kind, call, message):
    with pytest.raises(ValueError, match=message):
        kind(4)(X, **call)


def test_a_mask_of_zeros_and_ones_is_one_of_booleans():
    layer, mask = LSTM(4, dtype="float64"), np.array([[1, 0, 1, 1, 0], [1, 1, 1, 0, 0]])
    assert np.array_equal(layer(X, mask=mask), layer(X, mask=mask.astype(bool)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Bidirectional(Dense(3)), TypeError, "layer must be a recurrent layer such as an LSTM, not Dense"),
        (lambda: Bidirectional("lstm"), ValueError, "unknown layer 'lstm'"),
        (lambda: Bidirectional(3), TypeError, r"layer must be a layer object such as Dense\(32\), not 3$"),
        (lambda: Bidirectional(LSTMCell(3)), TypeError, r"not the cell LSTMCell: RNN\(cell\) makes a layer from it"),
        (lambda: TimeDistributed(GRUCell(3)), TypeError, r"not the cell GRUCell: RNN\(cell\) makes a layer from it"),
        (lambda: Sequential([LSTMCell(3)]), TypeError, r"not the cell LSTMCell: RNN\(cell\) makes a layer from it"),
        (lambda: Sequential([of_keras("LSTM")]), TypeError, "not LSTM of keras: import it from scratchlstm.layers"),
        (lambda: TimeDistributed(of_keras("Dense")), TypeError, "not Dense of keras: import it from scratchlstm.la"),
        (lambda: Bidirectional(LSTM(3), "add"), ValueError, "merge_mode must be one of 'concat', .* not 'add'"),
        (lambda: Bidirectional(LSTM(3, go_backwards=True)), ValueError, "layer must have go_backwards=False"),
        (lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3)), ValueError, "backward_layer go_backwards=True"),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=LSTM(2, go_backwards=True)),
            ValueError,
            "units must be the same for both layers, but is 3 and 2",
        ),
        (
            lambda: Bidirectional(LSTM(3), dtype="float64"),
            ValueError,
            "contradicts the dtype of the inner layer",
        ),
        (lambda: TimeDistributed(LSTM(3, return_state=True)), ValueError, "one output, but lstm has 3"),
        (lambda: TimeDistributed(LSTM(3, stateful=True)), ValueError, "each step separately, but lstm is stateful"),
        (lambda: TimeDistributed(Dense(2))(np.ones((2, 3))), ValueError, "steps"),
        (lambda: LSTM(3, dropout=1.0), ValueError, "dropout must be at least 0 and below 1, not 1.0"),
        (lambda: LSTM(3, recurrent_dropout=-0.1), ValueError, "recurrent_dropout must be"),
        (lambda: LSTM(3, kernel_regularizer="l3"), ValueError, "unknown regularizer 'l3'. Known: l1, l2"),
        (lambda: LSTM(3, kernel_constraint=2), TypeError, "constraint must be a name or a Constraint, not 2"),
    ],
)
def test_settings_that_do_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("option", ["unroll", "use_cudnn", "activity_regularizer", "time_major"])
def test_what_keras_has_and_we_have_not_is_refused(option):
    with pytest.raises(TypeError, match=option):
        LSTM(3, **{option: True})


@pytest.mark.parametrize("option", [{"unroll": True}, {"use_cudnn": "auto"}, {"implementation": 2}])
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_what_only_changes_how_tensorflow_runs_the_loop_can_be_left_out(kind, option):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(option))}.*: in Keras it only .* so leave it out$"):
        kind(3, **option)


def test_states_belong_to_rows():
    layer = LSTM(4, stateful=True)
    layer(X)
    with pytest.raises(ValueError, match="stateful, with states of 2 rows, but this batch has 1"):
        layer(X[:1])
    layer.reset_state()
    layer(X[:1])


@pytest.mark.parametrize("wrong", [(2, 3), (1, 4)])
def test_states_of_another_shape_are_refused(wrong):
    layer = LSTM(4, stateful=True)
    layer.build((3, 2))
    layer.states = [np.zeros((2, 4)), np.zeros(wrong)]
    for run in layer.forward, layer.infer:
        with pytest.raises(ValueError, match="c0 in initial_state"):
            run(np.zeros((2, 3, 2)))


def test_a_stateful_model_reads_a_text_in_pieces():
    """Two halves one after the other end where the whole does; shuffle is off, as it has to be."""
    text = np.random.default_rng(1).integers(0, 6, size=(3, 8))
    model = Sequential([Embedding(6, 4, input_shape=(None,)), LSTM(5, stateful=True), Dense(2)], seed=0)
    whole = model.predict(text, verbose=0)
    model.reset_states()
    model.predict(text[:, :4], verbose=0)
    assert np.allclose(model.predict(text[:, 4:], verbose=0), whole, atol=1e-6)


def test_the_gradient_of_truncated_backpropagation_stops_at_the_piece():
    layer = LSTM(3, stateful=True, return_sequences=True, dtype="float64")
    layer(X)
    states = [state.copy() for state in layer.states]
    report = gradcheck.check_layer(layer, X, initial_state=states)  # states are inputs like others
    assert report.ok


@pytest.mark.parametrize("kind", ["fused", "textbook"])
@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_gradients_with_dropout_and_a_mask(kind, rates):
    layer = Bidirectional(
        LSTM(
            3, dropout=rates[0], recurrent_dropout=rates[1], return_sequences=True, return_state=True, seed=1,
            implementation=kind, dtype="float64",
        )
    )  # fmt: skip
    mask = np.array([[True, False, True, True, False], [False, True, True, True, True]])
    assert gradcheck.check_layer(layer, X, mask=mask, training=True).ok


def test_dropout_is_drawn_anew_for_each_batch_and_only_in_training():
    layer = LSTM(4, dropout=0.5, recurrent_dropout=0.5, seed=0)
    first, second = layer(X, training=True), layer(X, training=True)
    assert not np.array_equal(first, second)
    assert np.array_equal(layer(X), layer(X))
    again = LSTM(4, dropout=0.5, recurrent_dropout=0.5, seed=0)
    again.receive(X)
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(X, training=True), first)


def test_weights_of_a_bidirectional_layer_are_one_list():
    model = Sequential([Input((5, 3)), Bidirectional(LSTM(2)), Dense(1)], seed=0)
    names = list(model.layers[0].params)
    assert names == [
        f"{end}/{name}" for end in ("forward", "backward") for name in ("kernel", "recurrent_kernel", "bias")
    ]
    before = model.predict(X, verbose=0)
    weights = model.get_weights()
    model.set_weights([2 * w for w in weights])
    assert not np.allclose(model.predict(X, verbose=0), before)
    model.set_weights(weights)
    assert np.array_equal(model.predict(X, verbose=0), before)
    with pytest.raises(ValueError, match="shape"):
        model.layers[0].set_weights([*weights[:5], weights[0]])
    assert np.array_equal(model.predict(X, verbose=0), before)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    dropout=st.sampled_from([0.0, 0.4]),
    recurrent_dropout=st.sampled_from([0.0, 0.4]),
    mask_zero=st.booleans(),
    flags=st.fixed_dictionaries(
        {name: st.booleans() for name in ("return_sequences", "go_backwards", "zero_output_for_mask", "use_bias")}
    ),
    both=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_words_fast_and_by_the_textbook(dropout, recurrent_dropout, mask_zero, flags, both, seed):
    """From ids on, where the fast path shares what equal words have in common."""
    ids, y = np.random.default_rng(seed).integers(0, 6, size=(3, 5)), np.random.default_rng(seed).normal(size=(3, 5, 2))
    found = []
    for implementation in ("fused", "textbook"):
        lstm = LSTM(
            3, dropout=dropout, recurrent_dropout=recurrent_dropout, implementation=implementation, dtype="float64",
            **flags | ({"go_backwards": False} if both else {}),
        )  # fmt: skip
        recurrent = Bidirectional(lstm) if both else lstm
        model = Sequential(
            [Embedding(6, 4, mask_zero=mask_zero, dtype="float64"), recurrent, Dense(2, dtype="float64")], seed=seed
        )
        model.compile("sgd", "mse")
        targets = y if flags["return_sequences"] else y[:, 0]
        y_pred, cache = model.forward(ids, run := model.run())
        _, dy, from_logits = model.loss_with_gradient(targets, y_pred, cache.kept)
        grads = [np.asarray(gradient) for gradient in model.gradients(dy, cache, from_logits)]
        run.release()
        found.append([model.train_on_batch(ids, targets), *grads, *model.get_weights(), model.predict(ids, verbose=0)])
    for fast, slow in zip(*found, strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-12)


def test_words_in_sentences_in_texts():
    """Padding in a sentence is left out of it, and a sentence of nothing else out of the text."""
    ids = np.random.default_rng(0).integers(1, 6, size=(2, 3, 4))
    ids[0, 0, 2:], ids[1, 2] = 0, 0
    options = {"dtype": "float64"}
    model = Sequential(
        [
            Embedding(6, 4, mask_zero=True, **options),
            TimeDistributed(LSTM(3, **options)),
            LSTM(2, **options),
            Dense(1, **options),
        ],
        seed=0,
    )
    model.compile("sgd", "mse")
    model.build((None, None, None))
    whole = model.predict(ids, verbose=0)
    assert np.allclose(whole[1:], model.predict(ids[1:, :2], verbose=0))
    embedding, sentences, *_ = model.layers
    vectors = sentences.infer(embedding(ids), mask=ids != 0)
    assert np.allclose(vectors[0, 0], sentences.layer.infer(np.asarray(embedding(ids[:1, :1, :2]))[:, 0])[0])
    assert gradcheck.check_model(model, ids, [0.0, 1.0]).ok


def test_a_constraint_along_an_axis_that_is_not_there():
    for make in (
        lambda: LSTM(2, kernel_constraint=MaxNorm(1, axis=5)),
        lambda: Dense(2, bias_constraint=MaxNorm(1, 1)),
    ):
        with pytest.raises(ValueError, match=r"MaxNorm has axis=[15], but .* has the shape"):
            make()(X)


def test_inference_of_both_directions_leaves_a_backward_pass_alone():
    layer = Bidirectional(LSTM(3, dtype="float64"), "mul")
    dy, cache = layer.forward(X)
    expected, _ = layer.backward(dy, cache)
    layer.infer(X[:1])
    assert np.array_equal(layer.backward(dy, cache)[0], expected)


def test_a_cell_is_free_again_once_its_layer_is_gone():
    cell = LSTMCell(2)
    with pytest.raises(ValueError, match="belongs to another layer, or is listed twice"):
        RNN([cell, cell])
    layer = RNN(cell)
    with pytest.raises(ValueError, match="belongs to another layer, or is listed twice"):
        RNN(cell)
    del layer
    assert RNN(cell).cell is cell


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("options", [{}, {"recurrent_dropout": 0.3, "dropout": 0.2}, {"go_backwards": True}])
def test_the_fast_gru_gives_what_its_cell_does(reset_after, options):
    rng = np.random.default_rng(0)
    x, h0, mask = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 2)), rng.random((3, 5)) < 0.7
    found = []
    for implementation in ("fused", "textbook"):
        layer = GRU(2, reset_after=reset_after, implementation=implementation, seed=1, dtype="float64",
                    return_sequences=True, return_state=True, **options)  # fmt: skip
        layer.build((5, 4), np.random.default_rng(2))
        layer.params["bias"][...] = np.random.default_rng(3).normal(size=layer.params["bias"].shape)
        y, cache = layer.forward((x, h0), Pass(training=True), mask)
        dx, grads = layer.backward(tuple(np.cos(part) for part in y), cache)
        found.append([*y, *dx, *grads.values()])
    for fused, textbook in zip(*found, strict=True):
        np.testing.assert_allclose(fused, textbook, rtol=1e-12, atol=1e-13)
