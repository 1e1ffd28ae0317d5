"""Labelled reviews as flat arrays of word ranks, and the words behind the ranks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scratchlstm.preprocessing.text import Tokenizer

# A rank is a place in a list of words; far above any vocabulary, and small enough for a table over all ranks.
LARGEST_RANK = 10_000_000


@dataclass(frozen=True)
class Reviews:
    """N reviews, one after the other.

    Attributes:
        ranks: (tokens,) int32, 1 for the most frequent word.
        offsets: (N + 1,) int64; review n is `ranks[offsets[n] : offsets[n + 1]]`.
        labels: (N,) int64, 1 for positive and 0 for negative.
    """

    ranks: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Raise ValueError where the three arrays do not describe reviews."""
        if not (self.ranks.dtype == np.int32 and self.offsets.dtype == self.labels.dtype == np.int64):
            raise ValueError("ranks must be int32, offsets and labels int64")
        if not self.ranks.ndim == self.offsets.ndim == self.labels.ndim == 1:
            raise ValueError("ranks, offsets and labels must be one-dimensional")
        if len(self.offsets) != len(self.labels) + 1:
            raise ValueError(f"there are {len(self.offsets) - 1} reviews but {len(self.labels)} labels")
        if not len(self.labels):
            raise ValueError("there are no reviews")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.ranks) or (np.diff(self.offsets) < 0).any():
            raise ValueError("the reviews' offsets do not run from 0 to the number of tokens")
        if self.ranks.size and not 1 <= self.ranks.min() <= self.ranks.max() <= LARGEST_RANK:
            raise ValueError(
                f"word ranks must lie in 1 to {LARGEST_RANK:,}, got {self.ranks.min()} to {self.ranks.max()}"
            )
        if not np.isin(self.labels, (0, 1)).all():
            raise ValueError(f"labels must be 0 or 1, got {np.unique(self.labels)[:5].tolist()}")

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]], labels: Sequence[int] | np.ndarray) -> "Reviews":
        """Join one list of ranks for each review.

        Raises:
            ValueError: where the ranks or labels are none.
            OverflowError: where a rank does not fit int32.
        """
        arrays = [np.array(row, dtype=np.int32) for row in rows]
        offsets = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int64)
        ranks = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        return cls(ranks, offsets, np.asarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """How many words each review has, (N,)."""
        return np.diff(self.offsets)

    def row(self, n: int) -> np.ndarray:
        """The ranks of review n."""
        return self.ranks[self.offsets[n] : self.offsets[n + 1]]


@dataclass(frozen=True)
class Corpus:
    """Training and test reviews; `words[rank - 1]` is the word of a rank, None where it is kept elsewhere."""

    train: Reviews
    test: Reviews
    words: list[str] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where a rank has no word."""
        largest = max(self.train.ranks.max(initial=0), self.test.ranks.max(initial=0))
        if self.words is not None and largest > len(self.words):
            raise ValueError(f"there are ranks up to {largest:,} but only {len(self.words):,} words")


LabelledTexts = tuple[Sequence[str], Sequence[int]]


def tokenize(train: LabelledTexts, test: LabelledTexts) -> Corpus:
    """Rank the words by their count in the training texts, and write both halves in ranks.

    Words that only the test texts have are left out, as in Keras' data.

    Raises:
        ValueError: where the training texts hold no word at all.
    """
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(train[0])
    if not tokenizer.word_index:
        raise ValueError("the training reviews hold no words: were the texts lost while unpacking?")
    first, second = (Reviews.from_rows(tokenizer.texts_to_sequences(texts), labels) for texts, labels in (train, test))
    return Corpus(first, second, list(tokenizer.word_index))
