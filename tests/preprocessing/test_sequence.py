import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm.preprocessing.sequence import pad_sequences

SIDES = st.sampled_from(["pre", "post"])
DTYPES = st.sampled_from(["int32", "int64", "float32", "float64", np.float32, "int16", object])


@pytest.fixture(scope="module")
def keras_pad():
    return pytest.importorskip("keras", reason="no Keras to compare with").utils.pad_sequences


def test_the_defaults_pad_and_cut_in_front():
    padded = pad_sequences([[1], [2, 3], [4, 5, 6]])
    assert padded.dtype == np.int32
    assert padded.tolist() == [[0, 0, 1], [0, 2, 3], [4, 5, 6]]
    assert pad_sequences([[1], [4, 5, 6]], maxlen=2).tolist() == [[0, 1], [5, 6]]


def test_truncating_stays_in_front_where_only_padding_is_post():
    assert pad_sequences([[1], [4, 5, 6]], maxlen=2, padding="post").tolist() == [[1, 0], [5, 6]]


@st.composite
def sequences(draw):
    width = draw(st.sampled_from([None, 1, 3]))
    number = draw(st.sampled_from([st.integers(-9000, 9000), st.floats(-9000, 9000, width=32)]))
    item = number if width is None else st.lists(number, min_size=width, max_size=width)
    made = draw(st.lists(st.lists(item, max_size=7), min_size=1, max_size=6))
    kind = draw(st.sampled_from([list, tuple, np.asarray]))
    return [kind(s) if len(s) else s for s in made]


@settings(max_examples=300, deadline=None)
@given(sequences(), st.none() | st.integers(1, 9), DTYPES, SIDES, SIDES, st.sampled_from([0.0, -1, 7.9]))
def test_everything_agrees_with_keras(keras_pad, made, maxlen, dtype, padding, truncating, value):
    before = [np.array(s) for s in made]
    options = {"maxlen": maxlen, "dtype": dtype, "padding": padding, "truncating": truncating, "value": value}
    ours, theirs = pad_sequences(made, **options), keras_pad(made, **options)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert (ours == theirs).all()
    assert all(np.array_equal(a, b) for a, b in zip(before, made, strict=True))


@given(
    st.lists(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=9), min_size=1, max_size=5),
    st.integers(1, 12), SIDES, SIDES,
)  # fmt: skip
def test_each_row_is_the_kept_items_and_the_rest_is_padding(made, maxlen, padding, truncating):
    padded = pad_sequences(made, maxlen, padding=padding, truncating=truncating)
    for row, sequence in zip(padded.tolist(), made, strict=True):
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        zeros = [0] * (maxlen - len(kept))
        assert row == (zeros + kept if padding == "pre" else kept + zeros)


def test_strings_arrays_and_what_load_data_gives():
    assert pad_sequences([["a"], ["b", "c"]], dtype=object, value="<pad>").tolist() == [["<pad>", "a"], ["b", "c"]]
    assert pad_sequences(np.array([[1, 2], [3, 4]]), maxlen=1).tolist() == [[2], [4]]
    loaded = np.empty(2, dtype=object)
    loaded[:] = [[1, 2], [3]]
    assert pad_sequences(loaded).tolist() == [[1, 2], [0, 3]]
    assert pad_sequences([range(3)], maxlen=2).tolist() == [[1, 2]]


def test_none_and_empty_sequences():
    assert pad_sequences([[], []]).shape == (2, 0)
    assert pad_sequences([[], [5]]).tolist() == [[0], [5]]
    assert pad_sequences([], maxlen=4).shape == (0, 4)
    with pytest.raises(ValueError, match="sequences is empty"):
        pad_sequences([])


@pytest.mark.parametrize(
    ("made", "dtype"),
    [
        ([[1], [2**31]], "int32"),
        ([[1], [-(2**31) - 1]], "int32"),
        ([[1], np.array([2**40])], "int32"),
        ([[1], [2**70]], "int32"),
        ([[1], [1e300]], "int64"),
        ([[1], [2.0**63]], "int64"),
        ([[1], [-1]], "uint8"),
        ([[1.0], [np.nan]], "int32"),
        ([[1.0], [1.0, -np.inf]], "int32"),
        ([[1], [None]], "int32"),
        ([[1], ["word"]], "int32"),
        ([[1], ["word"]], "float32"),
        ([[1], [[2], [3, 4]]], "int32"),
        ([[1], [[2]]], "int32"),
        ([[[1, 2]], [[1, 2, 3]]], "int32"),
        ([[1], 5], "int32"),
        ([[1], "text"], "int32"),
        ([[1], None], "int32"),
        ([[1], {1: 2}], "int32"),
        ([[1], np.array(3)], "int32"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_sequence_that_does_not_fit_is_named(made, dtype):
    with pytest.raises(ValueError, match=r"sequences\[1\]"):
        pad_sequences(made, dtype=dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxlen": 0}, "maxlen must be an integer of at least 1, .* got 0"),
        ({"maxlen": -3}, "maxlen must be an integer of at least 1"),
        ({"maxlen": 2.5}, "maxlen must be an integer"),
        ({"maxlen": True}, "maxlen must be an integer"),
        ({"padding": "front"}, "padding='front' is unknown: use 'pre' or 'post'"),
        ({"truncating": None}, "truncating=None is unknown: use 'pre' or 'post'"),
        ({"value": "<pad>"}, "use dtype=object"),
        ({"value": np.nan}, "value holds NaN"),
        ({"value": 2**31}, "value holds .* outside int32"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        pad_sequences([[1, 2, 3]], **options)


@pytest.mark.parametrize("made", ["text", 5, None, iter([[1]])])
def test_sequences_must_be_a_list(made):
    with pytest.raises(ValueError, match="sequences must be a list of sequences"):
        pad_sequences(made)
