"""Files written whole or not at all, arrays read without ever unpickling, and folders that one program writes to."""

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

# what this rank would have written if it were the first, by the paths; each is an open file, so only the last ones
_kept: dict[Path, IO[bytes]] = {}
_MOST_KEPT = 64
_written_alone: list[Path] = []  # by the first rank, while the others did something else

# nobody writes to a temporary file for so long (seconds): whoever did was killed
_ABANDONED = 3600

# arrays in one file: each takes its time, however few bytes it has
_MOST_ARRAYS = 10_000

# what goes wrong in writing, without the system's naming the file
_WHILE_WRITING = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}


@contextmanager
def atomic_write(path: str | os.PathLike[str], every_rank: bool = False) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to disk, and are then renamed over
    `path`: a crash, a full disk, an exception or a second writer leaves one whole file, the old or the new.
    A file that is replaced passes on its permissions; a link stays, and what it points to is replaced.
    What killed writers of the same file left behind is removed once it is an hour old.
    Of the ranks of an MPI run only the first writes the file. The others keep their bytes for `read_arrays`.

    Args:
        path: of the file.
        every_rank: whether every rank of an MPI run writes it, as into a cache of its own host.

    Raises:
        OSError: it cannot be written, or `path` is something other than a file.
        TypeError, ValueError: `path` is no name of a file.
    """
    path = Path(os.path.realpath(file_path(path)))
    if not (ranks.first() or every_rank):
        kept = tempfile.TemporaryFile()  # noqa: SIM115  as long as it may be read
        yield kept
        forget([path, *list(_kept)[:-_MOST_KEPT]])
        _kept[path] = kept
        return
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; add the name of a file in it")
    if path.exists() and not path.is_file():
        raise OSError(f"{str(path)!r} is no file, so no file can take its place")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into; make it first")
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
        with suppress(OSError):  # an error of what was to be removed would hide the one that matters
            temporary.unlink(missing_ok=True)


def written_alone() -> list[Path]:
    """The files that this rank has written without the others since it was last asked."""
    written = [*_written_alone]
    _written_alone.clear()
    return written


def forget(paths: Iterable[Path]) -> None:
    """Read these files where they are from now on, not what this rank would have written."""
    for path in paths:
        if path in _kept:
            _kept.pop(path).close()


def file_path(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """`path`, which has to be the name of a file.

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
    """What writes and reads files with this ending, behind "save_" and "load_"; "" if it is not an ending of Keras."""
    name = str(path).lower()
    return "keras" if name.endswith(".keras") else "keras_weights" if name.endswith((".h5", ".hdf5")) else ""


def require_own_ending(path: str | os.PathLike[str]) -> None:
    """Refuse a name under which Keras would be expected to open a file of ours.

    Raises:
        ValueError: naming what writes such a file.
    """
    if function := keras_function(path):
        raise ValueError(
            f"a model is saved in scratchlstm's own format, which Keras could not open as {str(path)!r}: choose a name "
            f"that ends in .npz, or write a file for Keras with scratchlstm.interop.keras.save_{function}"
        )


def _remove_leftovers(path: Path, newest: Path) -> None:
    """Delete abandoned temporary files for `path`; `newest` was made now, by the clock of whichever machine's disk."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for other in path.parent.iterdir():
        with suppress(OSError):  # another writer may be first
            if name.fullmatch(other.name) and newest.stat().st_mtime - other.stat().st_mtime > _ABANDONED:
                other.unlink()


def _flush_folder(folder: Path) -> None:
    """Let a rename in it outlast a power cut, where the system can do that (Windows and some network disks cannot)."""
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
    """Make `folder` (with its parents) and prove that a file can be written there.

    Raises:
        OSError: naming the folder, where it cannot be made or written.
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
    """`require_writable_folder`, for this program alone until the block ends, or the program, however it ends.

    It is the system that locks a file there, in which the holder names itself. (Some network disks have no locks: there
    the folder is not held.)

    Raises:
        OSError: as `require_writable_folder`, or another program holds the folder: which, and since when.
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
        if not is_ours or holder != me:  # the latter if whoever held it was just removing the file
            raise BlockingIOError(
                f"the output folder {str(folder)!r} is in use by {holder or 'another program'}. Wait until that has "
                f"ended, or choose another folder."
            )
        try:
            yield folder
        finally:
            if sys.platform == "win32":  # which removes no open file
                file.close()
            path.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Whether an open file is locked now, as long as it is open; False if somebody else has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # a byte that nobody reads: on Windows nobody could
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # any other: this disk has no locks
        return not isinstance(error, BlockingIOError | PermissionError)
    return True


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], every_rank: bool = False) -> None:
    """Write named arrays to one `.npz` file, whole or not at all; `every_rank` as in `atomic_write`.

    Raises:
        OSError: as `atomic_write`.
        ValueError: an array of objects, which NumPy would pickle, or more arrays than are read again.
    """
    if objects := [name for name, array in arrays.items() if np.asanyarray(array).dtype.hasobject]:
        raise ValueError(f"{objects[0]} holds objects, which only pickles can (allow_pickle=False): nothing is written")
    if len(arrays) > _MOST_ARRAYS:
        raise ValueError(f"{len(arrays):,} arrays are more than the {_MOST_ARRAYS:,} that a file may hold")
    with atomic_write(path, every_rank) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # without allow_pickle, which NumPy 2.0 takes for one more array


def read_arrays(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Read every array of an `.npz` file; `what` names the kind of file in the error.

    Raises:
        FileNotFoundError: where there is no such file.
        OSError: it cannot be opened.
        TypeError: `path` is no name of a file.
        ValueError: where it is damaged, not an `.npz`, or holds pickled objects (never loaded).
    """
    kept = _kept.get(Path(os.path.realpath(file_path(path))))  # not what rank 0 may still be writing, on another disk
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
                raise ValueError(f"it has {len(members):,} members, and none of ours has more than {_MOST_ARRAYS:,}")
            if len({member.filename for member in members}) < len(members):
                raise ValueError("two of its members have one name")
            if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
                raise ValueError("its members are said to be larger than the file")
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except Exception as error:  # damaged bytes can raise nearly anything in zipfile, zlib and NumPy's header reader
        raise ValueError(f"the {what} at {str(path)!r} cannot be read (damaged, or not one): {error}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array, whose size is compared with the bytes that are there before anything is made of it.

    Raises:
        ValueError: it is larger or smaller than its header says, or holds pickled objects.
        KeyError, TypeError, SyntaxError: damaged.
    """
    name = member.filename
    plain = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
    if not name.endswith(".npy") or member.comment or not plain:
        raise ValueError(f"its member {name!r} is no plainly stored array")
    data = archive.read(member)  # whole, so that the checksum is compared
    file = io.BytesIO(data)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran_order, dtype = readers[np.lib.format.read_magic(file)](file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled objects, which are never loaded")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{name} holds {len(data) - file.tell()} bytes, not an array {shape} of {dtype}")
    array = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C").copy()
