"""The folder where tokenized reviews and downloads are kept between runs."""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from scratchlstm.console import warn
from scratchlstm.datasets.reviews import Corpus, Reviews
from scratchlstm.files import read_arrays, require_writable_folder, write_arrays

# Raise it when tokenizing or the file's layout changes: files of another version are not looked at.
_VERSION = 1
_FIELDS = ("ranks", "offsets", "labels")


def cache_folder() -> Path:
    """`$SCRATCHLSTM_CACHE`, or `scratchlstm` in the platform's folder for caches (~/.cache on Linux)."""
    if chosen := os.environ.get("SCRATCHLSTM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "scratchlstm"


def load_corpus(identity: str) -> Corpus | None:
    """The tokenized reviews of the source `identity`, or None where there are none that can be trusted.

    A file that is damaged, cut short or changed fails its checksum and counts as absent.
    """
    path = corpus_path(identity)
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path, "cache of tokenized reviews")
        if arrays.pop("checksum").tobytes() != _checksum(arrays, identity):
            return None
        train, test = (Reviews(*(arrays[f"{part}_{field}"] for field in _FIELDS)) for part in ("train", "test"))
        return Corpus(train, test, arrays["words"].tobytes().decode("utf-8").split("\n"))
    except Exception:
        # Whatever the bytes of a damaged file lead to, the remedy is the same: tokenize again.
        return None


def save_corpus(identity: str, corpus: Corpus) -> None:
    """Keep tokenized reviews; where the folder can't be written, warn once: only time is lost."""
    assert corpus.words is not None
    arrays = {
        f"{part}_{field}": getattr(reviews, field)
        for part, reviews in (("train", corpus.train), ("test", corpus.test))
        for field in _FIELDS
    }
    # A newline is among the Tokenizer's filters, so that no word contains one.
    arrays["words"] = np.frombuffer("\n".join(corpus.words).encode("utf-8"), dtype=np.uint8)
    arrays["checksum"] = np.frombuffer(_checksum(arrays, identity), dtype=np.uint8)
    try:
        require_writable_folder(cache_folder())
        write_arrays(corpus_path(identity), arrays)
    except OSError as error:
        _warn_once(
            f"the tokenized reviews are not kept for the next run, which will take seconds more: {error} "
            "(the environment variable SCRATCHLSTM_CACHE names the cache folder)"
        )


def corpus_path(identity: str) -> Path:
    """Where `save_corpus` keeps the reviews of that source."""
    return cache_folder() / f"imdb-{identity[:32]}-v{_VERSION}.npz"


def _checksum(arrays: dict[str, np.ndarray], identity: str) -> bytes:
    digest = hashlib.sha256(identity.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warn(message)
