"""Files appear whole or not at all, and are read without ever unpickling."""

import io
import itertools
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from scratchlstm.files import atomic_write, read_arrays, require_writable_folder, write_arrays


class Payload:
    """Unpickling it writes a file: the trace that a test looks for."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# --- atomic_write -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_written_file_holds_the_bytes_and_nothing_else_is_left(tmp_path, kind):
    with atomic_write(kind(tmp_path / "file")) as file:
        file.write(b"new")
        assert not (tmp_path / "file").exists(), "visible before it is whole"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_what_was_there(tmp_path, error, existed):
    path = tmp_path / "file"
    if existed:
        path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:  # noqa: PT012
        file.write(b"ne")
        raise error
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({"file": b"old"} if existed else {})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, call):
    def fail(*args):
        raise OSError("No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(OSError, match="missing"), atomic_write(tmp_path / "missing" / "file"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"), atomic_write(tmp_path / "folder"):
        pass
    assert os.listdir(tmp_path) == ["folder"]


# --- require_writable_folder ------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = require_writable_folder(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert not list(folder.iterdir())
    assert require_writable_folder(folder) == folder


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="cannot write to the output folder .*file.*another folder"):
            require_writable_folder(folder)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write everywhere, so no chmod here
    with pytest.raises(OSError, match=f"cannot write to the output folder .*{tmp_path.name}.*Permission denied"):
        require_writable_folder(tmp_path)


# --- arrays -----------------------------------------------------------------------------------------------------------

_DTYPES = st.sampled_from(["<f4", "<f8", ">f4", "u1", "i4", "i8", "bool", "<U3"])


@settings(deadline=None, max_examples=40)
@given(
    arrays=st.dictionaries(
        st.sampled_from(["description", "layer0/kernel", "ä"]),
        _DTYPES.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=3))),
    )
)
def test_arrays_come_back_bit_for_bit(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("arrays") / "any name"
    write_arrays(path, arrays)
    read = read_arrays(path, "file")
    assert _content(read) == _content(arrays)


def test_what_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "file", {"a": np.array([object()])})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["missing", "a folder"])
def test_a_missing_file_is_named(tmp_path, make):
    make(tmp_path / "model.npz")
    with pytest.raises(FileNotFoundError, match=r"there is no model file at .*model\.npz"):
        read_arrays(tmp_path / "model.npz", "model file")


def _npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "text": b"hello",
        "zip magic only": b"PK\x03\x04",
        "one array, no archive": _npy(np.ones(3)),
        "a pickle": pickle.dumps([1.0, 2.0]),
        "half an archive": _npz(a=np.ones(9))[:100],
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "m.npz").write_bytes(content[1])
    with pytest.raises(ValueError, match=r"the model file at .*m\.npz.* cannot be read"):
        read_arrays(tmp_path / "m.npz", "model file")


@pytest.mark.parametrize("as_array", [True, False], ids=["object array", "bare pickle"])
def test_a_pickle_is_not_executed(tmp_path, as_array):
    trace, path = tmp_path / "trace", tmp_path / "m.npz"
    payload = Payload(trace)
    path.write_bytes(_npz(a=np.array([payload])) if as_array else pickle.dumps(payload))
    with pytest.raises(ValueError, match="cannot be read"):
        read_arrays(path, "model file")
    assert not trace.exists()


@pytest.mark.parametrize("size", [4, 3000], ids=["read by zipfile at once", "larger"])
def test_every_bit_flip_is_refused_or_harmless(tmp_path, size):
    arrays = {"a": np.arange(size) / 3, "b": np.array([[7, 8]], dtype="f4")}
    content, path = _npz(**arrays), tmp_path / "m.npz"
    expected = _content(arrays)
    payload = content.index(arrays["a"].tobytes())
    places = [*range(payload + 16), *range(payload + arrays["a"].nbytes - 16, len(content))]
    wrong = []
    for byte, bit in itertools.product(places, range(8)):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            read = read_arrays(path, "file")
        except ValueError:
            continue
        except Exception as error:  # the one that would reach the user
            wrong.append((byte, bit, repr(error)))
            continue
        if _content(read) != expected:
            wrong.append((byte, bit, read))
    assert not wrong, f"{len(wrong)} of {8 * len(places)} flips, among them {wrong[:3]}"


def _content(arrays):
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}
