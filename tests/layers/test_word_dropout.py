"""Word dropout: what it replaces, how often, and that every kind of pass repeats its draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stopping import Stop, Stopped

from scratchlstm import Input, Model, Sequential, backend, gradcheck
from scratchlstm.callbacks import Checkpoint
from scratchlstm.layers import LSTM, Dense, Embedding, GlobalAveragePooling1D, TimeDistributed, WordDropout
from scratchlstm.layers.passes import Pass

IDS = np.random.default_rng(0).integers(0, 9, size=(6, 5))
LABELS = np.arange(6) % 2
INTEGERS = npst.integer_dtypes() | npst.unsigned_integer_dtypes()
BATCHES = INTEGERS.flatmap(
    lambda dtype: npst.arrays(
        dtype, npst.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.integers(0, np.iinfo(dtype).max)
    )
)


def classifier(rate=0.5, oov_id=1, dtype="float64", **options):
    own = {"dtype": dtype}
    row = [WordDropout(rate, oov_id, input_shape=(5,)), Embedding(9, 3, mask_zero=True, **own), LSTM(2, **own)]
    model = Sequential([*row, Dense(1, "sigmoid", **own)], seed=3, **options)
    model.compile("adam", "binary_crossentropy")
    return model


@given(x=BATCHES, rate=st.floats(0, 0.99), oov_id=st.integers(0, 127), seed=st.integers(0, 9))
def test_ids_are_kept_or_become_the_unknown_word(x, rate, oov_id, seed):
    layer, given_ids, run = WordDropout(rate, oov_id, seed=seed), x.copy(), Pass(training=True)
    y, _ = layer.forward(x, run)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert np.all((y == x) | (y == oov_id))
    assert np.all(y[x == 0] == 0)
    assert np.array_equal(x, given_ids)
    assert np.array_equal(layer.forward(x, run.again())[0], y)
    assert np.array_equal(layer(x), x)
    assert np.array_equal(layer.forward(x)[0], x)


def test_a_word_is_dropped_with_the_rate_by_itself():
    """Words next to each other, and of one id, are decided on one by one."""
    dropped = WordDropout(0.25, oov_id=0, seed=1)(np.full((400, 100), 7), training=True) == 0
    assert dropped.mean() == pytest.approx(0.25, abs=0.01)
    assert (dropped[:, 1:] & dropped[:, :-1]).mean() == pytest.approx(1 / 16, abs=0.01)
    assert (dropped[1:] & dropped[:-1]).mean() == pytest.approx(1 / 16, abs=0.01)


def test_the_draws_do_not_depend_on_the_ids():
    """So that a batch with other padding drops the same positions."""
    one, other = (WordDropout(0.5, seed=1)(x, training=True) == 1 for x in (np.full((3, 4), 5), np.full((3, 4), 8)))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("first", [0, 1, 4])
def test_a_worker_draws_its_rows_of_the_whole_batch(first):
    whole, part = WordDropout(0.5, seed=1), WordDropout(0.5, seed=1)
    for _ in range(2):
        y = whole.forward(IDS, Pass(True))[0]
        assert np.array_equal(part.forward(IDS[first:], Pass(True, rows=(first, len(IDS))))[0], y[first:])


def test_padding_stays_masked_and_a_dropped_word_is_read():
    words = Input((5,), dtype="int32")
    dropped = WordDropout(0.9, seed=1)(words)
    network = Model(words, Embedding(9, 3, mask_zero=True)(dropped)).network
    (mask,) = network.forward(IDS, Pass(True))[1].kept.masks
    assert np.array_equal(mask, IDS != 0)


def test_with_zero_a_word_is_left_out_of_the_mean():
    """The word dropout of deep averaging networks: the mean is over the words that stay."""
    words, vectors, mean = WordDropout(0.5, 0, seed=1), Embedding(9, 3, mask_zero=True), GlobalAveragePooling1D()
    y = Sequential([words, vectors, mean])(IDS, training=True)
    kept = WordDropout(0.5, 0, seed=1)(IDS, training=True)
    for row, found in zip(kept, y, strict=True):
        of_row = vectors.params["embeddings"][row[row != 0]] if row.any() else np.zeros((1, 3))
        np.testing.assert_allclose(found, of_row.mean(0), rtol=1e-5, atol=1e-7)


def test_ids_have_no_gradient_and_the_layers_above_the_right_one():
    layer = WordDropout(0.5)
    y, cache = layer.forward(IDS, Pass(True))
    assert layer.backward(np.ones(y.shape), cache) == (None, {})
    report = gradcheck.check_model(classifier(), IDS, LABELS, training=True)
    assert report.ok, report
    dx, grads = (network := classifier().network).backward(np.ones((6, 1)), network.forward(IDS, Pass(True))[1])
    assert dx is None
    assert grads.keys() == network.params.keys()


def test_only_words_that_were_read_have_a_gradient():
    network = classifier(rate=0.9).network
    ids = np.full((6, 5), 8)
    dropped, _ = network.layers[0].forward(ids, run := Pass(True))
    _, cache = network.forward(ids, run.again())
    _, grads = network.backward(np.ones((6, 1)), cache)
    assert {*grads["embedding/embeddings"].ids} == {*np.unique(dropped)} == {1, 8}


def test_two_places_draw_for_themselves():
    words = Input((5,), dtype="int32")
    layer = WordDropout(0.5, seed=1)
    both = Model(words, [layer(words), layer(words)])
    one, other = both(np.full((6, 5), 7), training=True)
    assert not np.array_equal(one, other)


def test_within_time_distributed():
    x = np.repeat(IDS[:, :, None], 3, axis=2)
    y = TimeDistributed(WordDropout(0.5, seed=1))(x, training=True)
    assert y.dtype == x.dtype
    assert np.array_equal(y.reshape(-1, 3), WordDropout(0.5, seed=1)(x.reshape(-1, 3), training=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_resumed_run_draws_what_would_have_followed(tmp_path, dtype):
    options = {"epochs": 3, "batch_size": 2, "verbose": 0}
    whole, stopped, resumed = (classifier(dtype=dtype) for _ in range(3))
    history = whole.fit(IDS, LABELS, **options).history
    with pytest.raises(Stopped):
        stopped.fit(IDS, LABELS, callbacks=[Checkpoint(tmp_path / "run", 1), Stop(5)], **options)
    options |= {"callbacks": [Stop(None)], "resume": tmp_path / "run"}
    assert resumed.fit(IDS, LABELS, **options).history == history
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_a_model_comes_back_from_its_file(tmp_path):
    model = classifier(rate=0.25, oov_id=2)
    model.save(tmp_path / "model.npz")
    loaded = Sequential.load(tmp_path / "model.npz")
    assert (loaded.layers[0].rate, loaded.layers[0].oov_id) == (0.25, 2)
    assert np.array_equal(loaded.predict(IDS, verbose=0), model.predict(IDS, verbose=0))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (IDS * 1.0, TypeError, r'word_dropout takes integer ids, but the input has dtype float64; x.astype\("int32"\)'),
        (IDS > 3, TypeError, "word_dropout takes integer ids, but the input has dtype bool"),
        (np.array([[1], [2, 3]], object), TypeError, "dtype object; rows of different lengths. see pad_sequences"),
        (IDS.astype("int8"), ValueError, "oov_id of word_dropout is 300, which does not fit into ids of dtype int8"),
    ],
)
def test_what_holds_no_ids_is_refused(x, error, message):
    model = classifier(oov_id=300)
    with pytest.raises(error, match=message):
        WordDropout(0.5, oov_id=300)(x)
    if x.dtype != object:  # of which a model speaks in its own words
        with pytest.raises(error, match=message):
            model.fit(x, np.zeros(len(x)), verbose=0)


@pytest.mark.parametrize("x", [IDS, IDS.astype("uint8")])
def test_ids_stay_on_the_cpu(device, x):
    here, there = WordDropout(0.5, seed=1), WordDropout(0.5, seed=1)
    there.to("cupy")
    for training in (False, True):
        expected = here(x, training=training)
        for given_ids in (x, device.asarray(x)):
            y = there(given_ids, training=training)
            assert isinstance(y, np.ndarray)
            assert y.dtype == x.dtype
            if given_ids is x:
                assert np.array_equal(y, expected)


def test_trains_alike_on_a_gpu(device):
    ours, theirs = classifier(), classifier(backend="cupy")
    options = {"epochs": 2, "batch_size": 4, "verbose": 0, "validation_split": 0.5}
    expected, found = (model.fit(IDS, LABELS, **options).history for model in (ours, theirs))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(backend.host(other), one, rtol=1e-9, atol=1e-12)
