"""Files written whole or not at all, and arrays read without ever unpickling."""

import os
import secrets
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

# what zipfile, zlib and NumPy raise for bytes that are no archive of arrays
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to disk, and are then renamed over
    `path`: a crash, a full disk or an exception leaves what was there before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable_folder(folder: str | os.PathLike[str]) -> Path:
    """Make `folder` (with its parents) and prove that a file can be written there.

    Raises:
        OSError: naming the folder, where it cannot be made or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write to the output folder {str(folder)!r}: {error}. Choose another folder.") from error
    return folder


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to one `.npz` file, whole or not at all."""
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """Read every array of an `.npz` file; `what` names the kind of file in the error.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is damaged, not an `.npz`, or holds pickled objects (never loaded).
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {what} at {str(path)!r}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is not an .npz archive")
            return {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise ValueError(f"the {what} at {str(path)!r} cannot be read (damaged, or not one): {error}") from error
