"""Files appear whole or not at all, and are read without ever unpickling."""

import errno
import io
import itertools
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from scratchlstm._support.files import atomic_write, held_folder, read_arrays, require_writable_folder, write_arrays

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX files")


class Payload:
    """Unpickling it writes a file: the trace that a test looks for."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@contextmanager
def peak_below(limit):
    """Within, no more than `limit` bytes are asked for at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= limit
    finally:
        tracemalloc.stop()


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


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_file_that_grows_too_large_is_named(tmp_path):
    program = """if True:
        import resource, sys
        import numpy as np
        from scratchlstm._support.files import atomic_write, write_arrays
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        def write(path):
            with atomic_write(path) as file:
                file.write(bytes(2000))
        for use in (write, lambda path: write_arrays(path, {"a": np.zeros(1000)})):
            try:
                use(sys.argv[1])
            except OSError as error:
                print(error)
        """
    command = [sys.executable, "-c", program, tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    line = f"[Errno {errno.EFBIG}] cannot write the file: File too large: {str(tmp_path / 'file')!r}"
    assert done.stdout.splitlines() == [line, line]
    assert not list(tmp_path.iterdir())


def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    kind = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(kind[stat.S_ISDIR(os.fstat(fd).st_mode)]), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert done == ["file", "rename", "folder"][: 2 if os.name == "nt" else 3]


@posix
def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError("Invalid argument")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_that_is_replaced_passes_on_its_permissions(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with atomic_write(path) as file:
        (temporary,) = set(tmp_path.iterdir()) - {path}
        assert stat.S_IMODE(temporary.stat().st_mode) == mode, "readable by others before it is in place"
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("existed", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path, existed):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    if existed:
        target.write_bytes(b"old")
    link.symlink_to(Path("elsewhere") / "target")
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [*os.listdir(target.parent), *sorted(os.listdir(tmp_path))] == ["target", "elsewhere", "link"]


@posix
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe' is not a file"), atomic_write(tmp_path / "pipe"):
        pass
    assert os.listdir(tmp_path) == ["pipe"]


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path):
    old, young = (f".file.{number:08x}.tmp" for number in (0xABC, 1))
    others = [".file.tmp", ".file2.00000abc.tmp", ".fil.00000abc.tmp", "file.00000abc.tmp", ".file.00000abc.tmp.npz"]
    now = time.time()
    for name in (old, young, *others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - 4000,) * 2)
    os.utime(tmp_path / young, (now - 3000,) * 2)
    with atomic_write(tmp_path / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(["file", young, *others])


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    """And anyone who reads meanwhile finds one, too."""
    path = tmp_path / "m.npz"
    write_arrays(path, {"a": np.zeros(1)})
    program = (
        "import sys, numpy as np\n"
        "from scratchlstm._support.files import write_arrays\n"
        "for n in range(150):\n"
        "    write_arrays(sys.argv[1], {'a': np.full(5000, n), 'b': np.full(9, n), 'c': np.array(int(sys.argv[2]))})"
    )
    command = [sys.executable, "-c", program, path]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    writers = [subprocess.Popen([*command, number], env=environment) for number in "12"]
    seen = set()
    try:
        while any(writer.poll() is None for writer in writers):
            arrays = read_arrays(path, "file")
            numbers = np.concatenate([arrays[name] for name in "ab" if name in arrays])
            assert (numbers == numbers[0]).all()
            seen.add(int(arrays.get("c", 0)))
    finally:
        codes = [writer.wait(60) for writer in writers]
    assert codes == [0, 0]
    assert seen == {0, 1, 2}
    assert os.listdir(tmp_path) == ["m.npz"]


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path):
    folder = re.escape(repr(str(tmp_path / "missing")))
    with pytest.raises(FileNotFoundError, match=f"^there is no folder {folder} to write 'file' into; create it first$"):
        write_arrays(tmp_path / "missing" / "file", {})
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    folder = re.escape(repr(str(tmp_path / "folder")))
    with pytest.raises(OSError, match=f"^{folder} is a folder; add a file name$"):
        write_arrays(tmp_path / "folder", {})
    assert os.listdir(tmp_path) == ["folder"]


@posix
def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    name = "m" * 250  # with more around it, it is too long
    with pytest.raises(OSError, match="cannot write the file: File name too long") as raised:
        write_arrays(tmp_path / name, {})
    assert raised.value.filename == str(tmp_path / name)
    assert raised.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("path", [None, 3, b"model.npz"])
def test_what_is_no_name_of_a_file_is_a_type_error(path):
    for use in (lambda: write_arrays(path, {}), lambda: read_arrays(path, "model file")):
        with pytest.raises(TypeError, match=f"^path must be the name of a file, a string or a Path, not {path!r}$"):
            use()


def test_an_empty_name_is_refused():
    for use in (lambda: write_arrays("", {}), lambda: read_arrays("", "model file")):
        with pytest.raises(ValueError, match="^path must be the name of a file, not an empty string$"):
            use()


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


# --- held_folder ------------------------------------------------------------------------------------------------------

_HOLDER = """
import sys, time
from scratchlstm._support.files import held_folder
with held_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_a_folder_is_one_programs_until_that_ends(tmp_path, end):
    command = [sys.executable, "-c", _HOLDER, tmp_path / "folder"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline().strip() == b"held"
        words = f"folder' is in use by process {holder.pid} on .*, since .*20.*choose another folder"
        for _ in range(2):
            with pytest.raises(BlockingIOError, match=words), held_folder(tmp_path / "folder"):
                pass
        if end == "is killed":
            holder.kill()
        else:
            holder.stdin.close()
        holder.wait(timeout=10)
    with held_folder(tmp_path / "folder") as folder:
        assert folder == tmp_path / "folder"
    assert not list(folder.iterdir())


def test_a_folder_is_held_once_in_one_program(tmp_path):
    for _ in range(2):
        with held_folder(tmp_path):
            words = f"in use by process {os.getpid()} on"
            with pytest.raises(BlockingIOError, match=words), held_folder(tmp_path):
                pass
        assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), held_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


@posix
def test_a_disk_without_locks_can_be_written(tmp_path, monkeypatch):
    import fcntl

    def fail(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with held_folder(tmp_path) as folder:
        assert folder == tmp_path
    assert not list(tmp_path.iterdir())


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


def test_more_arrays_than_a_file_may_hold_are_neither_written_nor_read(tmp_path):
    many = {f"a{number}": np.ones(1) for number in range(10_001)}
    with pytest.raises(ValueError, match="10,001 arrays are more than the 10,000"):
        write_arrays(tmp_path / "file", many)
    assert not list(tmp_path.iterdir())
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        for name in many:
            archive.writestr(f"{name}.npy", b"")
    with pytest.raises(ValueError, match="it has 10,001 members, but ours have at most 10,000"):
        read_arrays(tmp_path / "file", "model file")


def test_a_file_that_may_not_be_opened_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    write_arrays(tmp_path / "file", {})
    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, so no chmod here
    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(PermissionError, match="cannot open the model file: Permission denied: '.*file'") as raised:
        read_arrays(tmp_path / "file", "model file")
    assert raised.value.errno == errno.EACCES


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
        path.unlink(missing_ok=True)  # writing over it waits for the disk, each time
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


def _zip(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return bytearray(buffer.getvalue())


def _header(**changes):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2,)} | changes)
    return file.getvalue()


def _claiming(size):
    """An archive whose directory says that its member is so large."""
    content = _zip(a=_npy(np.ones(2)))
    entry = content.index(b"PK\x01\x02")
    for place in (entry + 20, entry + 24, 18, 22):
        content[place : place + 4] = struct.pack("<I", size)
    return content


def _overlapping():
    """Two thousand members that are all the same 4 MB."""
    content = _zip(a=_npy(np.ones(500_000)))
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    names = [f"{number:05}.npy".encode() for number in range(2000)]
    directory = b"".join(
        content[entry : entry + 28] + struct.pack("<H", len(name)) + content[entry + 30 : entry + 46] + name
        for name in names
    )
    tail = content[end : end + 8] + struct.pack("<HHII", 2000, 2000, len(directory), entry) + b"\0\0"
    return content[:entry] + directory + tail


_BOMBS = {
    "a huge shape": _zip(a=_header(shape=(10**15,)) + bytes(16)),
    "a shape of 2**64 numbers": _zip(a=_header(shape=(2**32, 2**32)) + bytes(16)),
    "a shape below zero": _zip(a=_header(shape=(-1, -2)) + bytes(16)),
    "all sizes but one open": _zip(a=_header(shape=(-1,)) + bytes(16)),
    "huge strings": _zip(a=_header(descr="<U1000000000", shape=(1,)) + bytes(16)),
    "strings of nothing": _zip(a=_header(descr="<U0", shape=(10**18,))),
    "a member that claims 4 GB": _claiming(2**32 - 2),
    "a member that claims 1 GB": _claiming(2**30),
    "members over each other": _overlapping(),
}


@posix
@pytest.mark.parametrize("content", _BOMBS.values(), ids=_BOMBS)
def test_no_more_memory_is_taken_than_the_file_explains(tmp_path, content):
    (tmp_path / "m.npz").write_bytes(content)
    with peak_below(8 * len(content) + 2**20), pytest.raises(ValueError, match="cannot be read"):
        read_arrays(tmp_path / "m.npz", "file")
