"""Files laid out as Keras': hostile, damaged, and merely wrong."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm.datasets import imdb
from scratchlstm.datasets.keras_files import read_npz, read_word_index
from scratchlstm.datasets.pickle_scan import require_modest

HALVES = {
    "x_train": [[1, 2], [3]], "y_train": [0, 1],
    "x_test": [[4], [5, 6, 7]], "y_test": [1, 0],
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
    """The small file, with some arrays replaced (None leaves one out) or given as the bytes after a header."""
    arrays = {name: objects(*v) if name[0] == "x" else np.array(v) for name, v in HALVES.items()}
    arrays.update({name: value for name, value in changed.items() if not isinstance(value, bytes)})
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    streams = {name: value for name, value in changed.items() if isinstance(value, bytes)}
    if streams:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        for name, stream in streams.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (2,)})
            members[f"{name}.npy"] = header.getvalue() + stream
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    return path


def ranks_of(reviews):
    return [reviews.row(n).tolist() for n in range(len(reviews))]


@pytest.fixture
def small(tmp_path):
    return npz_with(tmp_path / "imdb.npz")


def test_the_small_file_is_read(small):
    corpus = read_npz(small)
    assert ranks_of(corpus.train) == [[1, 2], [3]]
    assert ranks_of(corpus.test) == [[4], [5, 6, 7]]
    assert corpus.train.labels.tolist() == [0, 1]
    assert corpus.words is None


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_every_pickle_protocol_and_either_numpy_module_name(tmp_path, protocol, module):
    stream = pickle.dumps(objects([1, 300], [70000]), protocol=protocol)
    written = b"numpy._core.multiarray"
    if protocol < 4:  # older protocols name it on a line of its own, so that it can be replaced
        assert written in stream
        stream = stream.replace(written, module)
    if protocol < 3 and b"_codecs" in stream:  # how Python 3 writes bytes in Python 2's protocols
        with pytest.raises(ValueError, match="_codecs"):
            read_npz(npz_with(tmp_path / "imdb.npz", x_train=stream))
        return
    assert ranks_of(read_npz(npz_with(tmp_path / "imdb.npz", x_train=stream)).train) == [[1, 300], [70000]]


def test_a_pickle_of_python_2_is_read(tmp_path):
    # What Python 2's NumPy wrote for an object array of [1, 300] and [7]: text where Python 3 has bytes.
    stream = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
        b"\x89](](K\x01M,\x01e](K\x07eetb."
    )
    assert pickle.loads(stream).tolist() == [[1, 300], [7]]
    assert ranks_of(read_npz(npz_with(tmp_path / "imdb.npz", x_train=stream)).train) == [[1, 300], [7]]


def test_lists_tuples_of_arrays_and_square_arrays(tmp_path):
    arrays = objects(np.array([1, 2]), np.array([3, 4, 5], dtype=">u2"))
    assert ranks_of(read_npz(npz_with(tmp_path / "a.npz", x_train=arrays)).train) == [[1, 2], [3, 4, 5]]
    square = np.array([[1, 2], [3, 4]])
    assert ranks_of(read_npz(npz_with(tmp_path / "b.npz", x_train=square)).train) == [[1, 2], [3, 4]]
    square_objects = np.array([[1, 2], [3, 4]], dtype=object)
    assert ranks_of(read_npz(npz_with(tmp_path / "c.npz", x_train=square_objects)).train) == [[1, 2], [3, 4]]


# ---- hostile ----


@pytest.mark.parametrize("where", ["x_train", "y_train", "x_test", "y_test"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_smuggled_pickle_does_not_run(tmp_path, where, wrapped):
    touched = tmp_path / "touched"
    payload = Calls(os.system, f"touch '{touched}'")
    changed = {where: objects(payload, [1]) if wrapped else pickle.dumps(payload)}
    path = npz_with(tmp_path / "imdb.npz", **changed)
    with np.load(path, allow_pickle=True) as archive:
        archive[where]
    assert touched.exists(), "the payload is a dud, so this test could not fail"
    touched.unlink()
    with pytest.raises(ValueError, match=r"posix.system|nt.system|not an array of integers"):
        imdb.load_data(path, verbose=0)
    assert not touched.exists()


@pytest.mark.parametrize(
    "call",
    [
        Calls(eval, "1"),
        Calls(getattr, [], "append"),
        Calls(np.array, [1]),
        Calls(np.memmap, "/etc/hostname"),
        Calls(np.load, "other.npz"),
        Calls(np.dtype, "i4"),
        Calls(bytearray, 10),
        Calls(print, "ran"),
        np.float64(1.0),
        np.int64(1),
        object(),
        {1: 2}.keys,
        os.getcwd,
    ],
)
def test_no_other_name_is_admitted(tmp_path, call, capsys):
    path = npz_with(tmp_path / "imdb.npz", x_train=objects([1], call))
    with pytest.raises(ValueError, match="cannot be read as Keras' imdb.npz"):
        read_npz(path)
    assert capsys.readouterr().out == ""


def test_the_stand_ins_cannot_be_turned_against_us(small, tmp_path):
    names = {
        "reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n",
        "dtype": b"cnumpy\ndtype\n",
        "ndarray": b"cnumpy\nndarray\n",
    }
    # BUILD with a slot state would set attributes on whatever the name stands for; NEWOBJ would make one.
    for name in names.values():
        for attack in (b"(N}U\x08__call__Nstb.", b"(N}U\x0c__setstate__Nstb.", b")R.", b")\x81."):
            path = npz_with(tmp_path / "attack.npz", x_train=b"\x80\x02" + name + attack)
            with pytest.raises(ValueError, match="cannot be read"):
                read_npz(path)
            assert len(read_npz(small).train) == 2
    assert np.dtype("i4") == np.int32
    assert np.dtype("i4").isnative


@pytest.mark.parametrize(
    "row",
    [[1.5], ["word"], [True], [None], [[1]], (1, 2), "text", None, {1}, 5, np.array([1.5]), np.ones((1, 1), int)],
)
def test_a_review_that_is_no_list_of_integers_is_named(tmp_path, row):
    path = npz_with(tmp_path / "imdb.npz", x_test=objects([4], row))
    with pytest.raises(ValueError, match=r"review 1 of x_test|dtype 'f8'|set"):
        read_npz(path)


_ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def _object_array(count, items):
    """The pickle of an object array, whose items are given in opcodes."""
    state = b"(K\x01J" + count.to_bytes(4, "little") + b"\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
    return _ARRAY + state + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](" + items + b"etb."


_LONG_LIST = b"](" + b"K\x01" * 20_000 + b"eq\x01"
_BOMBS = {
    "a far place in the memo": _object_array(2, b"](K\x01er\xff\xff\xff\x0f](K\x01e"),
    "a far place in the memo, in digits": _object_array(2, b"](K\x01ep200000000\n](K\x01e"),
    "a long array of bytes": b"\x80\x05\x96" + (10**9).to_bytes(8, "little") + b".",
    "one list, a thousand times": _object_array(1000, _LONG_LIST + b"h\x01" * 999),
    "a review of a billion": _object_array(2, b"](K\x01e](J\xff\xff\xff\x7feb"),
    "rows without columns": np.empty((10**9, 0), dtype="i4"),
    "a thousandth of its size": np.ones((2, 4_000_000), dtype="i4"),
}


@pytest.mark.parametrize("x_train", _BOMBS.values(), ids=_BOMBS)
def test_no_more_memory_is_taken_than_the_file_explains(tmp_path, x_train):
    path = npz_with(tmp_path / "imdb.npz", x_train=x_train)
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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_of_python_is_modest_until_it_is_cut(protocol):
    things = [
        1,
        -300,
        2**40,
        2**4000,
        1.5,
        "text",
        "ü" * 300,
        b"bytes",
        b"more" * 99,
        None,
        True,
        (),
        (1,),
        (1, 2, 3, 4),
    ]
    things += [{1: 2}, {3}, frozenset("a"), bytearray(b"b"), print, [[]] * 3, [*range(300)]]
    pickled = pickle.dumps([*things, things], protocol)
    require_modest(pickled)
    for length in range(len(pickled)):
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            require_modest(pickled[:length])


# ---- wrong ----


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": None}, "it has no array x_train; it has"),
        ({"y_test": None}, "it has no array y_test"),
        ({"y_train": np.array([0, 1, 1])}, "2 reviews but 3 labels"),
        ({"y_train": np.array([0, 2])}, r"labels must be 0 or 1, got \[0, 2\]"),
        ({"y_train": np.array([-1, 1])}, "labels must be 0 or 1"),
        ({"y_train": np.array([0.0, 1.0])}, "y_train is not an array of integers"),
        ({"y_train": np.array(["neg", "pos"])}, "y_train is not an array of integers"),
        ({"y_train": np.array([[0], [1]])}, "one-dimensional"),
        ({"x_train": objects([0], [1])}, "word ranks must lie in 1 to"),
        ({"x_train": objects([-4], [1])}, "word ranks must lie in 1 to"),
        ({"x_train": objects([10**8], [1])}, "word ranks must lie in 1 to"),
        ({"x_train": objects([10**12], [1])}, "cannot be read"),
        ({"x_train": objects(), "y_train": np.array([], int)}, "there are no reviews"),
        ({"x_train": np.array([1, 2])}, "not of lists of integers"),
        ({"x_train": np.array([[1.5], [2.5]])}, "not of lists of integers"),
        ({"x_train": b"not a pickle"}, "cannot be read"),
        ({"x_train": pickle.dumps([1, 2])}, "a pickled list, not an array"),
    ],
)
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
        assert ranks_of(corpus.train) == HALVES["x_train"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_is_only_data_or_refused(tmp_path_factory, data):
    stream = bytearray(pickle.dumps(objects([1, 2], [3]), protocol=3))
    for place in data.draw(st.lists(st.integers(0, len(stream) - 1), min_size=1, max_size=4)):
        stream[place] = data.draw(st.integers(0, 255))
    path = npz_with(tmp_path_factory.mktemp("pickle") / "imdb.npz", x_train=bytes(stream))
    try:
        train = read_npz(path).train
    except ValueError:
        return
    assert len(train) == 2
    assert train.ranks.min(initial=1) >= 1


# ---- the word index ----


def test_the_word_index_beside_the_file_is_used(small):
    small.with_name("imdb_word_index.json").write_text(json.dumps({"film": 2, "the": 1}), encoding="utf-8")
    assert imdb.get_word_index(small) == {"the": 1, "film": 2}
    assert imdb.get_word_index(small.with_name("imdb_word_index.json")) == {"the": 1, "film": 2}
    assert imdb.decode_review([1, 4, 5], path=small) == "<start> the film"


def test_a_foreign_file_without_words_says_what_to_do(small):
    with pytest.raises(FileNotFoundError, match="put its imdb_word_index.json beside it"):
        imdb.get_word_index(small)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[1]", b"{}", b"null", b'"text"', b'{"a": 0}', b'{"a": -1}', b'{"a": 1.5}', b'{"a": "1"}',
        b'{"a": true}', b'{"a": 1, "b": 1}', b'{"a": [1]}', b'{"a": null}', b"\xff\xfe", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_word_index_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "imdb_word_index.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="cannot be read as Keras' imdb_word_index.json"):
        read_word_index(path)
