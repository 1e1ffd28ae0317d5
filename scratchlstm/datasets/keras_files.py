"""Keras' two files, `imdb.npz` and `imdb_word_index.json`, read without trusting them.

The lists of word ranks in `imdb.npz` are pickled, and unpickling runs whatever code a file names. So the
pickle is read with our own stand-ins for the three NumPy names it needs, which can only carry data, and
every other name is refused.
"""

import io
import json
import os
import pickle
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from scratchlstm.datasets.pickle_scan import require_modest
from scratchlstm.datasets.reviews import Corpus, Reviews
from scratchlstm.files import parse_array, read_header

# Text compresses to a third or a quarter; a member that claims more than this many times its file is a bomb.
_MOST_SQUEEZED = 20


def read_npz(path: str | os.PathLike[str]) -> Corpus:
    """Read the arrays x_train, y_train, x_test, y_test of a file laid out as Keras' `imdb.npz`.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is damaged, names anything but arrays of integers (nothing of it is run),
            or its content is not reviews: other lengths of x and y, ranks below 1, labels not 0 or 1.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no imdb.npz at {str(path)!r}")
    try:
        with zipfile.ZipFile(path) as archive:
            train, test = (
                Reviews.from_rows(_rows(archive, f"x_{part}"), _labels(archive, f"y_{part}"))
                for part in ("train", "test")
            )
    except Exception as error:
        # A damaged pickle or archive can raise nearly anything.
        raise ValueError(
            f"{str(path)!r} cannot be read as Keras' imdb.npz: {_reason(error)}. "
            "Keras' own file comes with source='download'."
        ) from error
    return Corpus(train, test)


def read_word_index(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read Keras' `imdb_word_index.json`: word -> rank, 1 for the most frequent.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is not JSON, or not an object of words with distinct ranks from 1.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no imdb_word_index.json at {str(path)!r}")
    try:
        word_index = json.loads(Path(path).read_bytes())
        if not isinstance(word_index, dict) or not word_index:
            raise ValueError("it is not an object of words and ranks")
        ranks = set(word_index.values())
        if not all(type(rank) is int and rank >= 1 for rank in ranks) or len(ranks) != len(word_index):
            raise ValueError("the ranks are not distinct integers from 1")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as Keras' imdb_word_index.json: {error}. "
            "Put Keras' own file in its place, or delete this one."
        ) from error
    return word_index


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _labels(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    labels = _member(archive, name)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        raise ValueError(f"{name} is not an array of integers")
    return labels


def _rows(archive: zipfile.ZipFile, name: str) -> list[list[int]]:
    array = _member(archive, name)
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "iu" or array.ndim != 2 or not array.size:
            raise ValueError(f"{name} is an array of {array.dtype} {array.shape}, not of lists of integers")
        return array.tolist()
    rows = array.nested()
    # A pickle may name one long list a million times; what it spells out itself takes a byte for each number.
    if sum(len(row) for row in rows if isinstance(row, list | _Array)) > array.length:
        raise ValueError(f"{name} says more than its bytes can")
    for n, row in enumerate(rows):
        if isinstance(row, _Array):
            rows[n] = row = row.nested()
        if type(row) is not list or not {type(rank) for rank in row} <= {int}:
            raise ValueError(f"review {n} of {name} is not a list of integers")
    return rows


def _member(archive: zipfile.ZipFile, name: str) -> "np.ndarray | _Array":
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"it has no array {name}; it has {', '.join(archive.namelist()) or 'none at all'}")
    data = _content(archive, archive.getinfo(f"{name}.npy"))
    file = io.BytesIO(data)
    _, _, dtype = read_header(file)
    if not dtype.hasobject:
        return parse_array(data, name)
    pickled = file.read()
    require_modest(pickled)
    array = _ArrayUnpickler(io.BytesIO(pickled)).load()
    if not isinstance(array, _Array):
        raise ValueError(f"{name} holds a pickled {type(array).__name__}, not an array")
    array.length = len(pickled)
    return array


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, their checksum compared; never more of them than a file of this size may hold."""
    assert archive.filename is not None
    if member.file_size > max(_MOST_SQUEEZED * os.path.getsize(archive.filename), 1 << 20):
        raise ValueError(f"{member.filename} claims {member.file_size:,} bytes, far more than the file's size explains")
    with archive.open(member) as file:
        return file.read(member.file_size)  # asked for so many, zipfile unpacks no more


class _Dtype:
    """Stands for numpy.dtype in a pickle: its name, and nothing that could be set on a real one."""

    def __init__(self, name: str) -> None:
        # Lists of ranks, and arrays of them; the names NumPy has written over the years ("O8" is object).
        if name not in ("O8", "O", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
            raise pickle.UnpicklingError(f"it holds an array of dtype {name!r}, not of integers or lists")
        self.name = name
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """Stands for an array in a pickle, and keeps what it is made of.

    Attributes:
        length: of the pickle it came from, in bytes.
    """

    length = 0

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self.shape is not None:
            raise pickle.UnpicklingError("it fills an array twice")
        _, shape, dtype, fortran, self.data = state
        if type(shape) is not tuple or len(shape) not in (1, 2) or {type(size) for size in shape} != {int}:
            raise pickle.UnpicklingError(f"it holds an array of shape {shape!r:.80}")
        self.dtype = None if dtype.name.startswith("O") else np.dtype(dtype.order + dtype.name)
        count = len(self.data) // (1 if self.dtype is None else self.dtype.itemsize)
        if prod(shape) != count or (len(shape) > 1 and (fortran or not count)):
            raise pickle.UnpicklingError(f"an array of shape {shape} has {count} items")
        self.shape = shape

    def __len__(self) -> int:
        return prod(self.shape or (0,))

    def nested(self) -> list[Any]:
        """The items, in lists of a row each where the array has two dimensions."""
        items = list(self.data) if self.dtype is None else np.frombuffer(self.data, self.dtype).tolist()
        if self.shape is None or len(self.shape) == 1:
            return items
        width = self.shape[1]
        return [items[n * width : (n + 1) * width] for n in range(self.shape[0])]


class _NdarrayName:
    """Stands for the class numpy.ndarray, which such a pickle only names."""

    __slots__ = ()


class _Callable:
    """A function a pickle may call, without attributes that it could set."""

    __slots__ = ()


class _Reconstruct(_Callable):
    def __call__(self, kind: object, shape: object, code: object) -> _Array:
        return _Array()


class _MakeDtype(_Callable):
    def __call__(self, name: str, align: object = False, copy: object = True) -> _Dtype:
        return _Dtype(name)


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the three names of a pickled array, and answers each with a stand-in."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        ):
            return _Reconstruct()
        if module == "numpy" and name == "dtype":
            return _MakeDtype()
        if module == "numpy" and name == "ndarray":
            return _NdarrayName()
        raise pickle.UnpicklingError(f"its pickle names {module}.{name}, which no array of reviews needs")
