"""From a word's rank to the id a model sees, following Keras' `imdb.load_data`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scratchlstm.datasets.reviews import Reviews


@dataclass(frozen=True)
class Encoding:
    """The arguments of `load_data` that determine the ids; see there.

    A word's id is its rank + `index_from`. The limits apply to ids, after that shift, and to the start mark as to
    any word: an id outside `skip_top <= id < num_words` becomes `oov_char`, or is dropped if that is None. If
    `num_words` is None, `largest_id` is used instead.
    """

    num_words: int | None = None
    skip_top: int = 0
    start_char: int | None = 1
    oov_char: int | None = 2
    index_from: int = 3
    largest_id: int | None = None

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError if an argument is not an integer in its range."""
        require_integer("num_words", self.num_words, 1, "None keeps every word", optional=True)
        require_integer("skip_top", self.skip_top, 0, "0 skips none")
        require_integer("index_from", self.index_from, 0, "Keras' default is 3")
        require_integer("start_char", self.start_char, 0, "None for no mark", optional=True)
        require_integer("oov_char", self.oov_char, 0, "None drops such words", optional=True)

    def limited_by(self, largest_rank: int) -> "Encoding":
        """The same, with the limit Keras uses if `num_words` is None: the largest id.

        That id fails `id < limit` itself, so one word becomes `oov_char`: a quirk of Keras, kept so that the ids agree.
        """
        largest_word = largest_rank + self.index_from if largest_rank else 0
        return replace(self, largest_id=max(largest_word, self.start_char or 0))

    def limited(self, word_id: int) -> int | None:
        """`word_id` itself, or `oov_char` if it is outside the limits."""
        limit = self.largest_id if self.num_words is None else self.num_words
        assert limit is not None, "without num_words, call limited_by() first"
        return word_id if self.skip_top <= word_id < limit else self.oov_char

    def start(self) -> list[int]:
        """The beginning of every review: the start mark, or nothing."""
        first = None if self.start_char is None else self.limited(self.start_char)
        return [] if first is None else [first]

    def rows(self, reviews: Reviews, chosen: np.ndarray) -> np.ndarray:
        """The ids of the chosen reviews, an object array of lists."""
        # All lists share one table of Python ints, which takes a fifth of the memory of one int per token.
        table = np.array([self.limited(r + self.index_from) for r in range(reviews.ranks.max(initial=0) + 1)], object)
        start = self.start()
        rows = np.empty(len(chosen), dtype=object)
        for place, n in enumerate(chosen):
            row = start + table[reviews.row(n)].tolist()
            rows[place] = row if self.oov_char is not None else [word_id for word_id in row if word_id is not None]
        return rows


def require_integer(name: str, value: object, smallest: int, otherwise: str, optional: bool = False) -> None:
    """Raise TypeError or ValueError if `value` is not an integer of at least `smallest` (or None if `optional`)."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r} ({otherwise}).")
    if value < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {value} ({otherwise}).")


def require_words(word_index: Mapping[str, int]) -> Mapping[str, int]:
    """`word_index` itself; raise TypeError or ValueError if it is not a dict of words and ranks."""
    if not isinstance(word_index, Mapping):
        raise TypeError(f"word_index must be a dict of words and ranks, got {type(word_index).__name__}.")
    if not word_index:
        raise ValueError("word_index is empty: pass the result of get_word_index().")
    word, rank = next(iter(word_index.items()))
    if not isinstance(word, str) or not isinstance(rank, int | np.integer) or isinstance(rank, bool):
        raise TypeError(f"word_index must map words to ranks, got {word!r}: {rank!r}: is it the wrong way round?")
    return word_index


def largest_rank(word_index: Mapping[str, int]) -> int:
    """The largest rank; raise TypeError if the ranks cannot be compared."""
    try:
        return int(max(word_index.values()))
    except (TypeError, ValueError) as error:
        raise TypeError(f"word_index must map words to ranks, whole numbers: {error}.") from error
