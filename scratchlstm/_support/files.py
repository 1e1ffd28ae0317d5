"""Files written completely or not at all, arrays read without unpickling, and folders held by one program."""

import errno
import io
import math
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from scratchlstm._support import checks, ranks

# what this rank would have written as the first, by path; each is an open file, so only the latest are kept
_kept: dict[Path, IO[bytes]] = {}
_MOST_KEPT = 64
_written_alone: list[Path] = []  # written by the first rank while the others did something else

# seconds; a temporary file older than this belongs to a killed process
_ABANDONED = 3600

# the most arrays in one file: each takes time, however small
_MOST_ARRAYS = 10_000

# errors in writing for which the system does not name the file
_WHILE_WRITING = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}


@contextmanager
def atomic_write(path: str | os.PathLike[str], every_rank: bool = False) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only if the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to disk, and then renamed over `path`: a crash, a
    full disk, an exception or a second writer leaves one complete file, the old or the new. A replaced file passes on
    its permissions; a link stays, and its target is replaced. Leftovers of killed writers of the same file are removed
    once they are an hour old. Of the ranks of an MPI run, only the first writes the file; the others keep their bytes
    for `read_arrays`.

    Args:
        path: the file.
        every_rank: whether every rank of an MPI run writes it, e.g. to a cache on its own host.

    Raises:
        OSError: it cannot be written, or `path` exists and is not a file.
        TypeError, ValueError: `path` is not a file name.
    """
    path = Path(os.path.realpath(file_path(path)))
    if not (ranks.first() or every_rank):
        kept = tempfile.TemporaryFile()  # noqa: SIM115  as long as it may be read
        yield kept
        forget([path, *list(_kept)[:-_MOST_KEPT]])
        _kept[path] = kept
        return
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; add a file name")
    if path.exists() and not path.is_file():
        raise OSError(f"{str(path)!r} is not a file, so it cannot be replaced by one")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into; create it first")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            _remove_leftovers(path, temporary)
            if path.exists():
                shutil.copymode(path, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
        if ranks.communicator is not None and not ranks.together():
            _written_alone.append(path)
    except OSError as error:
        if error.filename != str(temporary) and error.errno not in _WHILE_WRITING:
            raise
        raise OSError(error.errno, f"cannot write the file: {error.strerror}", str(path)) from error
    finally:
        with suppress(OSError):  # an error in removing it would hide the one that matters
            temporary.unlink(missing_ok=True)


def written_alone() -> list[Path]:
    """The files that this rank has written without the others since the last call."""
    written = [*_written_alone]
    _written_alone.clear()
    return written


def forget(paths: Iterable[Path]) -> None:
    """From now on read these files from disk, not what this rank would have written."""
    for path in paths:
        if path in _kept:
            _kept.pop(path).close()


def file_path(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """`path`, which must be a file name.

    Raises:
        TypeError: neither a string nor a path.
        ValueError: an empty string, or one with a NUL character.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{argument} must be the name of a file, a string or a Path, not {checks.came(path)}")
    if not os.fspath(path) or "\0" in os.fspath(path):
        problem = "a name with a NUL character" if os.fspath(path) else "an empty string"
        raise ValueError(f"{argument} must be the name of a file, not {problem}")
    return Path(path)


def keras_function(path: str | os.PathLike[str]) -> str:
    """The functions for files with this ending, after "save_" and "load_"; "" if it is not a Keras ending."""
    name = str(path).lower()
    return "keras" if name.endswith(".keras") else "keras_weights" if name.endswith((".h5", ".hdf5")) else ""


def require_own_ending(path: str | os.PathLike[str]) -> None:
    """Raise an error for a name under which Keras would be expected to open our file.

    Raises:
        ValueError: naming the function that writes such a file.
    """
    if function := keras_function(path):
        raise ValueError(
            f"a model is saved in scratchlstm's own format, which Keras could not open as {str(path)!r}: choose a name "
            f"that ends in .npz, or write a file for Keras with scratchlstm.interop.keras.save_{function}"
        )


def _remove_leftovers(path: Path, newest: Path) -> None:
    """Delete abandoned temporary files for `path`; `newest` was created now, by the clock of that disk's machine."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for other in path.parent.iterdir():
        with suppress(OSError):  # another writer may be first
            if name.fullmatch(other.name) and newest.stat().st_mtime - other.stat().st_mtime > _ABANDONED:
                other.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, if the system can (Windows and some network disks cannot)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cache_folder() -> Path:
    """`$SCRATCHLSTM_CACHE`, or `scratchlstm` in the platform's folder for caches (~/.cache on Linux)."""
    if chosen := os.environ.get("SCRATCHLSTM_CACHE"):
        return Path(chosen).expanduser()
    home = Path.home()
    own = {"win32": os.environ.get("LOCALAPPDATA") or home / "AppData/Local", "darwin": home / "Library/Caches"}
    return Path(own.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "scratchlstm"


def require_writable_folder(folder: str | os.PathLike[str]) -> Path:
    """Create `folder` (with its parents) and make sure that files can be written there.

    Raises:
        OSError: the folder, which is named, cannot be created or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to the output folder {str(folder)!r}: {error}. Choose another folder.") from error
    return folder


@contextmanager
def held_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """`require_writable_folder`, for this program alone until the block or the program ends, however it ends.

    The operating system locks a file there, in which the holder is named. (Some network disks have no locks: there the
    folder is not held.)

    Raises:
        OSError: as for `require_writable_folder`, or another program holds the folder; says which, and since when.
    """
    if not ranks.first():  # rank 0 holds it for all
        yield Path(folder)
        return
    folder = require_writable_folder(folder)
    path, me = folder / ".scratchlstm.lock", f"process {os.getpid()} on {socket.gethostname()}, since {time.ctime()}"
    with open(path, "a+b", buffering=0) as file:
        if is_ours := _lock(file.fileno()):
            file.truncate(0)
            file.write(me.encode())
        holder = path.read_text(errors="replace")[:200]
        if not is_ours or holder != me:  # the latter if the holder was just removing the file
            raise BlockingIOError(
                f"the output folder {str(folder)!r} is in use by {holder or 'another program'}. Wait until that has "
                f"ended, or choose another folder."
            )
        try:
            yield folder
        finally:
            if sys.platform == "win32":  # Windows does not remove open files
                file.close()
            path.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Lock an open file for as long as it is open; False if somebody else has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # a byte that nobody reads: on Windows it is unreadable
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # any other error: this disk has no locks
        return not isinstance(error, BlockingIOError | PermissionError)
    return True


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], every_rank: bool = False) -> None:
    """Write named arrays to one `.npz` file, completely or not at all; `every_rank` as in `atomic_write`.

    Raises:
        OSError: as `atomic_write`.
        ValueError: an array of objects, which NumPy would pickle, or more arrays than can be read back.
    """
    if objects := [name for name, array in arrays.items() if np.asanyarray(array).dtype.hasobject]:
        raise ValueError(f"{objects[0]} contains objects, which need pickling (allow_pickle=False): nothing is written")
    if len(arrays) > _MOST_ARRAYS:
        raise ValueError(f"{len(arrays):,} arrays are more than the {_MOST_ARRAYS:,} allowed in a file")
    with atomic_write(path, every_rank) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # no allow_pickle: NumPy 2.0 takes it for one more array


def read_arrays(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Read every array of an `.npz` file; `what` names the kind of file in the error.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be opened.
        TypeError: `path` is not a file name.
        ValueError: it is damaged, not an `.npz`, or contains pickled objects (never loaded).
    """
    kept = _kept.get(Path(os.path.realpath(file_path(path))))  # not what rank 0 may still be writing to another disk
    if kept is None and not file_path(path).is_file():
        raise FileNotFoundError(f"there is no {what} at {str(path)!r}")
    try:
        file = open(os.dup(kept.fileno()) if kept else path, "rb")  # noqa: SIM115  its own errors are none of the content
    except OSError as error:
        raise OSError(error.errno, f"cannot open the {what}: {error.strerror}", str(path)) from error
    try:
        with file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MOST_ARRAYS:
                raise ValueError(f"it has {len(members):,} members, but ours have at most {_MOST_ARRAYS:,}")
            if len({member.filename for member in members}) < len(members):
                raise ValueError("two of its members have the same name")
            if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
                raise ValueError("its members claim to be larger than the file")
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except Exception as error:  # damaged bytes can raise nearly anything in zipfile, zlib and NumPy's header reader
        raise ValueError(f"the {what} at {str(path)!r} cannot be read (damaged, or not one): {error}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array, whose size is checked against the bytes present before anything is allocated.

    Raises:
        ValueError: it is larger or smaller than its header says, or holds pickled objects.
        KeyError, TypeError, SyntaxError: damaged.
    """
    name = member.filename
    plain = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
    if not name.endswith(".npy") or member.comment or not plain:
        raise ValueError(f"its member {name!r} is not a plainly stored array")
    data = archive.read(member)  # completely, so that the checksum is checked
    file = io.BytesIO(data)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran_order, dtype = readers[np.lib.format.read_magic(file)](file)
    if dtype.hasobject:
        raise ValueError(f"{name} contains pickled objects, which are never loaded")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{name} has {len(data) - file.tell()} bytes, not an array {shape} of {dtype}")
    array = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C").copy()
