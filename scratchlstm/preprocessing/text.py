"""Words and their ranks: the Tokenizer, which behaves like Keras'.

Keras 3 has this class only as an undocumented legacy module; the same texts give the same ids here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from numbers import Integral
from typing import TypeGuard

from scratchlstm._support import checks

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'

Text = str | Sequence[str]


def text_to_word_sequence(input_text: str, filters: str = FILTERS, lower: bool = True, split: str = " ") -> list[str]:
    """Split a text into words: lower-case, each character of `filters` becomes `split`, empty words are dropped.

    Raises:
        TypeError: `input_text`, `filters` or `split` is not a string, or `lower` is not True or False.
        ValueError: `split` is empty.
    """
    if not isinstance(input_text, str):
        raise TypeError(f"input_text must be a string, got {_came(input_text)}.")
    if not checks.string("split", split):
        raise ValueError("split is the empty string, which separates nothing: use ' ', or char_level=True.")
    text = input_text.lower() if checks.flag("lower", lower) else input_text
    table = str.maketrans(dict.fromkeys(checks.string("filters", filters), split))
    return [word for word in text.translate(table).split(split) if word]


def ngrams(words: Sequence[str], n: int = 2) -> list[str]:
    """The n words that end at each word, joined by spaces; at the first n - 1 words, as many as there are.

        ngrams(["not", "a", "good", "film"]) == ["not", "not a", "a good", "good film"]

    There is one n-gram per word, so a second `Tokenizer` gives ids of bigrams step by step with those of the words:

        words = [text_to_word_sequence(text) for text in texts]
        bigrams = Tokenizer(num_words=100_000, oov_token="<oov>")
        bigrams.fit_on_texts(map(ngrams, words))  # one text at a time, which saves memory
        ids = bigrams.texts_to_sequences(map(ngrams, words))

    Both need an `oov_token`: without it, a `Tokenizer` drops rare words, and the ids after them shift.

    Raises:
        TypeError: `words` is not a list of strings.
        ValueError: `n` is below 1, or a word contains a space, which would make the words ambiguous.
    """
    if not _is_words(words):
        raise TypeError(f"words must be a list of words, such as text_to_word_sequence gives, got {_came(words)}.")
    if " " in "".join(words):
        bad = next(word for word in words if " " in word)
        raise ValueError(f"words must not contain spaces, which separate them in an n-gram, got {_came(bad)}.")
    n = min(checks.positive_int("n", n), len(words) + 1)
    shorter = [" ".join(words[:end]) for end in range(1, n)]
    return [*shorter, *map(" ".join, zip(*(words[start:] for start in range(n)), strict=False))]


class Tokenizer:
    """Number the words of texts: 1 is the most frequent, ties are in order of first appearance, 0 is unused.

    Args:
        num_words: keep only indices below this number when texts become sequences (so `num_words - 1` words);
            `word_index` itself is not truncated. None keeps all.
        filters: characters replaced by `split` before splitting; "" for none.
        lower: lower-case the texts first.
        split: the separator between words.
        char_level: every character is a token (and `filters` is not applied).
        oov_token: stands for words never fitted, or cut by `num_words`; it has index 1. None drops such words. If a
            text contains the token itself, it counts as the token (Keras gives it a second index instead, which
            `num_words` may not even allow).

    Attributes:
        word_counts: word -> its count, in order of first appearance.
        word_index: word -> index.
        index_word: index -> word.
        document_count: number of texts fitted.

    A text may also be a list of words, which are only lower-cased.
    Source: the legacy Tokenizer of Keras 3, without its `analyzer` and matrix modes.
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
    ) -> None:
        if isinstance(num_words, bool) or not isinstance(num_words, Integral | None):
            raise TypeError(f"num_words must be an integer or None, got {_came(num_words)}.")
        if num_words is not None and num_words < 1:
            raise ValueError(f"num_words must be at least 1, or None to keep all words; got {num_words}.")
        self.num_words = num_words
        self.oov_token = checks.instance("oov_token", oov_token, str | None, "a string or None")
        self.filters, self.split = checks.string("filters", filters), checks.string("split", split)
        self.lower, self.char_level = checks.flag("lower", lower), checks.flag("char_level", char_level)
        self.word_counts: Counter[str] = Counter()
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}
        self.document_count = 0

    def fit_on_texts(self, texts: Iterable[Text]) -> None:
        """Count the words of `texts` and recompute the ranks; a second call adds to the first.

        Raises:
            TypeError: `texts` is a single string, or a text is neither a string nor a list of strings.
                In that case no texts are counted.
        """
        counts, documents = self.word_counts.copy(), self.document_count
        for tokens in self._tokens_of_each(texts):
            counts.update(tokens)
            documents += 1
        self.word_counts, self.document_count = counts, documents

        # sorted() is stable, even reversed, and a Counter keeps insertion order: ties are by first appearance.
        ranked = sorted(counts, key=counts.__getitem__, reverse=True)
        if self.oov_token is not None:
            ranked = [self.oov_token, *(word for word in ranked if word != self.oov_token)]
        self.index_word = dict(enumerate(ranked, start=1))
        self.word_index = dict(zip(ranked, self.index_word, strict=True))  # shares the integers

    def texts_to_sequences(self, texts: Iterable[Text]) -> list[list[int]]:
        """Convert each text to a list of indices; unknown and cut words become the oov index, or are dropped.

        Raises:
            TypeError: as for `fit_on_texts`.
            ValueError: nothing was fitted yet.
        """
        self._require_fitted()
        limit = math.inf if self.num_words is None else self.num_words
        kept = {word: index for word, index in self.word_index.items() if index < limit}
        oov = repeat(self._oov_index())
        return [
            [index for index in map(kept.get, tokens, oov) if index is not None]
            for tokens in self._tokens_of_each(texts)
        ]

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """The words of each sequence, joined by spaces; unknown and cut indices become the oov token, or are dropped.

        Raises:
            TypeError: `sequences` is not a list of lists of indices.
            ValueError: nothing was fitted yet.
        """
        self._require_fitted()
        texts = []
        for position, sequence in enumerate(checks.instance("sequences", sequences, Iterable, "a list of sequences")):
            try:
                indices = [int(i) for i in sequence]
            except (TypeError, ValueError, OverflowError) as error:
                raise TypeError(f"sequences[{position}] must be a list of indices, got {_came(sequence)}.") from error
            known = (self._kept(i) if i in self.index_word else self._oov_index() for i in indices)
            texts.append(" ".join(self.index_word[index] for index in known if index is not None))
        return texts

    def _kept(self, index: int) -> int | None:
        return index if self.num_words is None or index < self.num_words else self._oov_index()

    def _oov_index(self) -> int | None:
        return None if self.oov_token is None else self.word_index.get(self.oov_token)

    def _tokens_of_each(self, texts: Iterable[Text]) -> Iterator[Sequence[str]]:
        if isinstance(texts, str):
            raise TypeError("texts is a single string, whose letters would count as texts: pass a list, [text].")
        for position, text in enumerate(checks.instance("texts", texts, Iterable, "a list of texts")):
            if isinstance(text, str) and self.char_level:
                yield text.lower() if self.lower else text
            elif isinstance(text, str):
                yield text_to_word_sequence(text, self.filters, self.lower, self.split)
            elif _is_words(text):
                yield [word.lower() for word in text] if self.lower else text
            else:
                raise TypeError(f"texts[{position}] must be a string or a list of words, got {_came(text)}.")

    def _require_fitted(self) -> None:
        if not self.word_index and not self.document_count:
            raise ValueError("this Tokenizer has no words yet: call fit_on_texts(texts) first.")


def _is_words(text: object) -> TypeGuard[Sequence[str]]:
    return isinstance(text, list | tuple) and all(map(isinstance, text, repeat(str)))


def _came(value: object) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:57] + '...'}"
