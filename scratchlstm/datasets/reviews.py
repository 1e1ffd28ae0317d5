"""Labelled reviews as flat arrays of word ranks: in memory, in files like Keras' `imdb.npz`, and in the cache."""

import hashlib
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from scratchlstm._support.console import warn
from scratchlstm._support.files import read_arrays, require_writable_folder, write_arrays
from scratchlstm.datasets.cache import MOST_BYTES, cache_folder
from scratchlstm.preprocessing.text import Tokenizer

# A rank is a position in a list of words; this is far above any vocabulary, yet allows a table over all ranks.
LARGEST_RANK = 10_000_000

NPZ_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"

# Increase it when tokenizing or the file layout changes: files of other versions are ignored.
_VERSION = 2

_HOW_TO_MAKE_ONE = (
    "old = np.load({path!r}, allow_pickle=True); x, z = old['x_train'], old['x_test']; np.savez('plain.npz', "
    "x_train=np.hstack(x).astype(int), lengths_train=[*map(len, x)], y_train=old['y_train'], "
    "x_test=np.hstack(z).astype(int), lengths_test=[*map(len, z)], y_test=old['y_test'])"
)

LabelledTexts = tuple[Sequence[str], Sequence[int]]


class Reviews:
    """N reviews, one after another in flat arrays.

    Args:
        ranks: (tokens,) integers, 1 for the most frequent word.
        lengths: (N,) integers, the number of words of each review.
        labels: (N,) integers, 1 for positive and 0 for negative.

    Raises:
        ValueError: the three arrays do not describe reviews.
    """

    def __init__(self, ranks: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> None:
        for name, array in (("ranks", ranks), ("lengths", lengths), ("labels", labels)):
            if array.dtype.kind not in "iu" or array.ndim != 1:
                raise ValueError(f"the {name} are not a row of integers, but {array.dtype} {array.shape}")
        if len(lengths) != len(labels):
            raise ValueError(f"there are {len(lengths)} reviews but {len(labels)} labels")
        if not len(labels):
            raise ValueError("there are no reviews")
        if lengths.min() < 0 or lengths.max() > len(ranks) or lengths.sum() != len(ranks):
            raise ValueError(f"the reviews' lengths do not add up to the {len(ranks):,} words")
        if ranks.size and not 1 <= ranks.min() <= ranks.max() <= LARGEST_RANK:
            raise ValueError(f"word ranks must lie in 1 to {LARGEST_RANK:,}, got {ranks.min()} to {ranks.max()}")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"labels must be 0 or 1, got {np.unique(labels)[:5].tolist()}")
        self.ranks = ranks.astype(np.int32)
        self.lengths, self.labels = lengths.astype(np.int64), labels.astype(np.int64)
        self._ends = np.cumsum(self.lengths)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], labels: Sequence[int] | np.ndarray) -> "Reviews":
        """Join one list of ranks for each review."""
        ranks = np.fromiter(chain.from_iterable(rows), np.int32)
        return cls(ranks, np.fromiter(map(len, rows), np.int64), np.asarray(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def row(self, n: int) -> np.ndarray:
        """The ranks of review n."""
        return self.ranks[self._ends[n] - self.lengths[n] : self._ends[n]]


@dataclass(frozen=True)
class Corpus:
    """Training and test reviews; `words[rank - 1]` is the word of a rank, or None if stored elsewhere."""

    train: Reviews
    test: Reviews
    words: list[str] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if a rank has no word."""
        largest = max(self.train.ranks.max(initial=0), self.test.ranks.max(initial=0))
        if self.words is not None and largest > len(self.words):
            raise ValueError(f"there are ranks up to {largest:,} but only {len(self.words):,} words")


def tokenize(train: LabelledTexts, test: LabelledTexts) -> Corpus:
    """Rank the words by their count in the training texts, and convert both halves to ranks.

    Words that occur only in test texts are dropped, as in Keras' data.

    Raises:
        ValueError: the training texts contain no words at all.
    """
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(train[0])
    if not tokenizer.word_index:
        raise ValueError("the training reviews contain no words: were the texts lost while unpacking?")
    first, second = (Reviews.from_rows(tokenizer.texts_to_sequences(texts), labels) for texts, labels in (train, test))
    return Corpus(first, second, list(tokenizer.word_index))


def read_npz(path: str | os.PathLike[str]) -> Corpus:
    """Read Keras' own `imdb.npz`, recognized by its hash, or a file of plain arrays.

    Keras' lists of word ranks are pickled, and unpickling runs whatever code a file names, so only the very bytes whose
    hash was checked are unpickled. Every other file must contain plain arrays, see `_half`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: any other file that is damaged, compressed, pickled, or does not contain reviews.
    """
    path = Path(path)
    data = path.read_bytes() if path.is_file() and path.stat().st_size <= MOST_BYTES else b""
    if hashlib.sha256(data).hexdigest() == NPZ_SHA256:
        keras = np.load(io.BytesIO(data), allow_pickle=True)
        train, test = (Reviews.from_rows(keras[f"x_{half}"], keras[f"y_{half}"]) for half in ("train", "test"))
        return Corpus(train, test)
    try:
        arrays = read_arrays(path, "imdb.npz")
        return Corpus(_half(arrays, "train"), _half(arrays, "test"))
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as Keras' imdb.npz: {str(error.__cause__ or '') or error}. Keras' own file "
            "comes with source='download'; any other must contain plain, uncompressed arrays. If you trust the pickled "
            f"lists in this one, convert it: {_HOW_TO_MAKE_ONE.format(path=str(path))}"
        ) from error


def _half(arrays: dict[str, np.ndarray], half: str) -> Reviews:
    """The reviews x_train, lengths_train, y_train; without lengths, x may be (N, T), reviews of equal length.

    Raises:
        ValueError: an array is missing, or they do not describe reviews.
    """
    x = arrays.get(f"x_{half}")
    if x is not None and x.ndim == 2 and x.size:
        arrays = arrays | {f"x_{half}": x.ravel(), f"lengths_{half}": np.full(*x.shape)}
    try:
        return Reviews(*(arrays[f"{name}_{half}"] for name in ("x", "lengths", "y")))
    except KeyError as error:
        raise ValueError(f"it has no array {error.args[0]}; it has {', '.join(arrays) or 'none at all'}") from None


def load_corpus(identity: str) -> Corpus | None:
    """The cached tokenized reviews of the source `identity`, or None if there are none that can be trusted.

    A file that is damaged, truncated or changed fails its checksum and is ignored.
    """
    with suppress(Exception):  # whatever a damaged file causes, the remedy is to tokenize again
        arrays = read_arrays(corpus_path(identity), "cache of tokenized reviews")
        if arrays.pop("checksum").tobytes() == _checksum(arrays, identity):
            words = arrays["words"].tobytes().decode().split("\n")
            return Corpus(_half(arrays, "train"), _half(arrays, "test"), words)
    return None


def save_corpus(identity: str, corpus: Corpus) -> None:
    """Cache tokenized reviews; if the folder is not writable, warn once: only time is lost."""
    # The Tokenizer filters newlines, so no word contains one.
    arrays: dict[str, np.ndarray] = {"words": np.frombuffer("\n".join(corpus.words or ()).encode(), np.uint8)}
    for half, reviews in (("train", corpus.train), ("test", corpus.test)):
        arrays |= {f"x_{half}": reviews.ranks, f"lengths_{half}": reviews.lengths, f"y_{half}": reviews.labels}
    arrays["checksum"] = np.frombuffer(_checksum(arrays, identity), np.uint8)
    try:
        require_writable_folder(cache_folder())
        write_arrays(corpus_path(identity), arrays, every_rank=True)
    except OSError as error:
        hint = "(the environment variable SCRATCHLSTM_CACHE names the cache folder)"
        _warn_once(f"the tokenized reviews are not cached, so the next run takes some seconds longer: {error} {hint}")


def corpus_path(identity: str) -> Path:
    """The cache file for the reviews of that source."""
    return cache_folder() / f"imdb-{identity[:32]}-v{_VERSION}.npz"


def _checksum(arrays: dict[str, np.ndarray], identity: str) -> bytes:
    digest = hashlib.sha256(identity.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.digest()


_warn_once = cache(warn)
