"""Files of reviews: Keras' own by its hash, plain arrays, and what is hostile, damaged, or merely wrong."""

import inspect
import io
import os
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm.datasets import imdb, reviews
from scratchlstm.datasets.reviews import read_npz

ROOT = Path(__file__).parent.parent.parent
HALVES = {
    "x_train": [1, 2, 3], "lengths_train": [2, 1], "y_train": [0, 1],
    "x_test": [4, 5, 6, 7], "lengths_test": [1, 3], "y_test": [1, 0],
}  # fmt: skip


class Calls:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def npz_with(path, **changed):
    """The small file of plain arrays, with some replaced; None leaves one out."""
    arrays = {name: np.array(value) for name, value in HALVES.items()} | changed
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def ranks_of(half):
    return [half.row(n).tolist() for n in range(len(half))]


def test_plain_arrays_are_read(tmp_path):
    corpus = read_npz(npz_with(tmp_path / "imdb.npz"))
    assert ranks_of(corpus.train) == [[1, 2], [3]]
    assert ranks_of(corpus.test) == [[4], [5, 6, 7]]
    assert corpus.train.labels.tolist() == [0, 1]
    assert corpus.words is None


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "<i8", "u8"])
def test_integers_of_every_kind(tmp_path, dtype):
    corpus = read_npz(npz_with(tmp_path / "imdb.npz", **{n: np.array(v, dtype) for n, v in HALVES.items()}))
    assert ranks_of(corpus.test) == [[4], [5, 6, 7]]
    assert corpus.test.labels.dtype == np.int64


def test_reviews_of_one_length_need_no_lengths(tmp_path):
    path = npz_with(tmp_path / "imdb.npz", x_train=np.array([[1, 2], [3, 4]]), lengths_train=None)
    assert ranks_of(read_npz(path).train) == [[1, 2], [3, 4]]


def test_a_review_may_be_empty(tmp_path):
    path = npz_with(tmp_path / "imdb.npz", lengths_train=np.array([0, 3]))
    assert ranks_of(read_npz(path).train) == [[], [1, 2, 3]]


# ---- Keras' own, and files laid out like it ----


def test_lists_are_unpickled_only_from_the_file_with_the_right_hash(keras_npz, monkeypatch):
    assert len(read_npz(keras_npz).train) == 6
    monkeypatch.undo()
    with pytest.raises(ValueError, match="contains pickled objects, which are never loaded"):
        read_npz(keras_npz)


def test_the_hash_is_that_of_keras():
    text = inspect.getsource(pytest.importorskip("keras.src.datasets.imdb"))
    assert reviews.NPZ_SHA256 in text


def test_the_hash_is_compared_with_the_very_bytes_that_are_unpickled(keras_npz, tmp_path):
    """A file that takes the place of one found before, with its size and time, is not trusted."""
    imdb.load_data(keras_npz, verbose=0)
    before, touched = keras_npz.stat(), tmp_path / "touched"
    arrays = {name: objects(Calls(os.system, f"touch '{touched}'")) for name in ("x_train", "x_test")}
    np.savez(keras_npz, y_train=[1], y_test=[1], **arrays)
    assert keras_npz.stat().st_size < before.st_size
    with open(keras_npz, "ab") as file:
        file.write(bytes(before.st_size - keras_npz.stat().st_size))
    os.utime(keras_npz, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="cannot be read as Keras' imdb.npz"):
        imdb.load_data(keras_npz, verbose=0)
    assert not touched.exists()


def made_plain(path, folder, monkeypatch, written):
    """Run the two statements that make plain arrays of the file, as they are `written` somewhere."""
    monkeypatch.chdir(folder)
    exec(written, {"np": np})
    return folder / "plain.npz"


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[1, 2], [3, 4]], [[], [5]], [[7]]])
def test_the_refusal_says_how_to_make_plain_arrays(tmp_path, write_npz, monkeypatch, rows):
    labels = [1] * len(rows)
    path = write_npz(tmp_path / "it's mine.npz", rows, labels, [[300, 1], [2]], [0, 1])
    with pytest.raises(ValueError, match="Keras' own file comes with source='download'") as refusal:
        imdb.load_data(path)
    assert "\n" not in str(refusal.value)
    written = re.search(r"convert it: (.*)$", str(refusal.value)).group(1)
    corpus = read_npz(made_plain(path, tmp_path, monkeypatch, written))
    assert ranks_of(corpus.train) == rows
    assert ranks_of(corpus.test) == [[300, 1], [2]]
    assert (corpus.train.labels.tolist(), corpus.test.labels.tolist()) == (labels, [0, 1])


def test_the_docs_make_the_same_file(keras_npz, tmp_path, monkeypatch):
    (written,) = re.findall(r"```python\n(old = np.load.*?)```", (ROOT / "docs" / "files.md").read_text(), re.DOTALL)
    path = made_plain(keras_npz, tmp_path, monkeypatch, written.replace("old.npz", keras_npz.name))
    for plain, own in zip(imdb.load_data(path, verbose=0), imdb.load_data(keras_npz, verbose=0), strict=True):
        assert plain[0].tolist() == own[0].tolist()
        assert plain[1].tolist() == own[1].tolist()


def test_what_keras_loads_makes_a_plain_file(keras_npz, tmp_path, monkeypatch):
    keras_imdb = pytest.importorskip("keras.src.datasets.imdb", reason="no Keras to compare with")
    monkeypatch.setattr(keras_imdb, "get_file", lambda **_: keras_npz)
    loaded = keras_imdb.load_data(num_words=10**6, start_char=None, index_from=0)
    np.savez(
        tmp_path / "plain.npz",
        **{f"x_{half}": np.hstack(x) for half, (x, _) in zip(("train", "test"), loaded, strict=True)},
        **{f"lengths_{half}": [*map(len, x)] for half, (x, _) in zip(("train", "test"), loaded, strict=True)},
        **{f"y_{half}": y for half, (_, y) in zip(("train", "test"), loaded, strict=True)},
    )
    corpus = read_npz(tmp_path / "plain.npz")
    assert ranks_of(corpus.train) == [list(row) for row in loaded[0][0]]
    assert corpus.test.labels.tolist() == loaded[1][1].tolist()


@pytest.mark.parametrize("where", ["x_train", "y_train", "x_test", "y_test"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_smuggled_pickle_does_not_run(tmp_path, where, compressed):
    touched = tmp_path / "touched"
    arrays = {name: np.array(value) for name, value in HALVES.items()}
    arrays[where] = objects(Calls(os.system, f"touch '{touched}'"), [1])
    path = tmp_path / "imdb.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    with np.load(path, allow_pickle=True) as archive:
        archive[where]
    assert touched.exists(), "the payload is a dud, so this test could not fail"
    touched.unlink()
    with pytest.raises(ValueError, match=r"pickled objects|not a plainly stored array"):
        imdb.load_data(path, verbose=0)
    assert not touched.exists()


def test_a_small_pickle_that_would_take_forever_is_not_loaded(tmp_path):
    path = npz_with(tmp_path / "imdb.npz", x_train=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    # {t: 1} with t = (s, s), s = (r, r), ...: to hash the key takes 2**60 steps
    nested = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue() + b"\x80\x02}" + nested + b"K\x01s.")
    with pytest.raises(ValueError, match="pickled objects"):
        imdb.load_data(path, verbose=0)


_BOMBS = {
    "rows without columns": {"x_train": np.empty((10**9, 0), dtype="i4"), "lengths_train": None},
    "lengths that add up to the right sum beyond int64": {"lengths_train": np.array([2**62, 2**62, 2**62, 2**62 + 3])},
    "a thousandth of its size": {"x_train": np.ones(4_000_000, dtype="i4")},
}


@pytest.mark.parametrize("changed", _BOMBS.values(), ids=_BOMBS)
def test_no_more_memory_is_taken_than_the_file_explains(tmp_path, changed):
    path = npz_with(tmp_path / "imdb.npz", **changed)
    if path.stat().st_size > 10**6:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        del members
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="cannot be read as Keras' imdb.npz"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


# ---- wrong ----


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": None}, "it has no array x_train; it has"),
        ({"y_test": None}, "it has no array y_test"),
        ({"lengths_test": None}, "it has no array lengths_test"),
        ({"y_train": np.array([0, 1, 1])}, "2 reviews but 3 labels"),
        ({"y_train": np.array([0, 2])}, r"labels must be 0 or 1, got \[0, 2\]"),
        ({"y_train": np.array([-1, 1])}, "labels must be 0 or 1"),
        ({"y_train": np.array([0.0, 1.0])}, "the labels are not a row of integers, but float64"),
        ({"y_train": np.array([True, False])}, "the labels are not a row of integers, but bool"),
        ({"y_train": np.array(["neg", "pos"])}, "the labels are not a row of integers"),
        ({"y_train": np.array([[0], [1]])}, r"the labels are not a row of integers, but int64 \(2, 1\)"),
        ({"x_train": np.array([0, 1, 2])}, "word ranks must lie in 1 to"),
        ({"x_train": np.array([-4, 1, 2])}, "word ranks must lie in 1 to"),
        ({"x_train": np.array([10**8, 1, 2])}, "word ranks must lie in 1 to"),
        ({"x_train": np.array([2**63, 1, 2], np.uint64)}, "word ranks must lie in 1 to"),
        ({"x_train": np.array([1, np.nan, 2])}, "the ranks are not a row of integers"),
        ({"x_train": np.array([[1.5], [2.5]])}, "the ranks are not a row of integers"),
        ({"x_train": np.array([[1, 2], [3, 0]])}, "word ranks must lie in 1 to"),
        ({"x_train": np.ones((2, 2, 2), int)}, r"the ranks are not a row of integers, but int64 \(2, 2, 2\)"),
        ({"x_train": np.array(5)}, "the ranks are not a row of integers"),
        ({"lengths_train": np.array([2, 2])}, "lengths do not add up to the 3 words"),
        ({"lengths_train": np.array([4, -1])}, "lengths do not add up"),
        ({"lengths_train": np.array([2.0, 1.0])}, "the lengths are not a row of integers"),
        ({"x_train": np.array([], int), "lengths_train": np.array([], int), "y_train": np.array([], int)},
         "there are no reviews"),
        ({"x_train": objects([1, 2], [3])}, "x_train.npy contains pickled objects, which are never loaded"),
    ],
)  # fmt: skip
def test_wrong_content_is_refused(tmp_path, changed, message):
    path = npz_with(tmp_path / "imdb.npz", **changed)
    with pytest.raises(ValueError, match=message) as caught:
        imdb.load_data(path, verbose=0)
    assert str(path) in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_right_or_refused(tmp_path_factory, data):
    path = npz_with(tmp_path_factory.mktemp("damaged") / "imdb.npz")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
            content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        corpus = read_npz(path)
    except ValueError as error:
        assert "cannot be read as Keras' imdb.npz" in str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert ranks_of(corpus.train) == [[1, 2], [3]]
