"""A text as a model reads it: words, their ids, and the padding in front."""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm.datasets.encoding import Encoding, require_words
from scratchlstm.datasets.vocabulary import LONGEST
from scratchlstm.layers import Embedding, Layer, WordDropout
from scratchlstm.models.model import Model
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.text import text_to_word_sequence

MOST_STEPS = 200  # words read if the model has no fixed length


class Step(NamedTuple):
    """One word as the model reads it."""

    word: str
    kind: str  # "word", "unknown" or "start"
    id: int


class Reading(NamedTuple):
    """A text as the model reads it."""

    steps: list[Step]  #     the last ones that fit
    left_out: int  #         number of words before these
    length: int | None  #    the model's number of steps, if fixed

    @property
    def padding(self) -> int:
        """Number of steps before the first word."""
        return 0 if self.length is None else self.length - len(self.steps)

    @property
    def ids(self) -> set[int]:
        """All ids looked up in the embedding."""
        return {step.id for step in self.steps} | ({0} if self.padding else set())

    def input(self, end: int | None = None) -> np.ndarray:
        """The model's input for the text up to step `end`, (1, T)."""
        return pad_sequences([[step.id for step in self.steps[:end]]], maxlen=self.length)

    def place(self, step: int) -> str:
        """A step, for error messages; a negative one is in the padding."""
        return f"step {step + 1} ({self.steps[step].word!r:.80})" if step >= 0 else "the padding before the first word"


def first_layer(model: Model) -> Layer | None:
    """The first layer of a model that does something outside training."""
    return next((layer for layer in model.layers if type(layer) is not WordDropout), None)


def embedding_and_length(model: Any) -> tuple[Embedding, int | None]:
    """The embedding of a model that can be shown reading words, and its input length, if fixed.

    Raises:
        TypeError, ValueError: the model cannot be shown.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model or Sequential, not {type(model).__name__}")
    if not model.built:
        raise ValueError("the model has no parameters yet: train it first, or load a trained one")
    if model.network.merges:
        raise ValueError(f"explore reads one text, but the model has {len(model.input_shape)} inputs")
    if (count := model.network.outputs) > 1:
        raise ValueError(f"explore shows models with one output (D,) for a text, but this one has {count}")
    first = first_layer(model)
    if not isinstance(first, Embedding):
        name = (first or model.layers[0]).name
        raise ValueError(f"explore shows words, so the model must start with an Embedding, not {name}")
    if model.stateful:
        raise ValueError("explore reads a text from its beginning, but the model is stateful")
    length = model.input_shape[0] if model.input_shape else None
    if length is not None and length > LONGEST:
        raise ValueError(f"the model reads {length:,} words at once, but explore allows at most {LONGEST:,}")
    return first, length


def read(
    text: str | Sequence[str], word_index: Mapping[str, int], encoding: Encoding, length: int | None
) -> Reading:  # fmt: skip
    """The last words of a text as the model reads them, after the start mark if it fits.

    Raises:
        TypeError: not a text, or not a dict of words and ranks.
        ValueError: the text has no word that the model knows.
    """
    _require_ranks(word_index)
    if not isinstance(text, str) and not (isinstance(text, list | tuple) and all(isinstance(w, str) for w in text)):
        raise TypeError(f"text must be a sentence or a list of words, not {text!r:.80}")
    words = text_to_word_sequence(text) if isinstance(text, str) else text
    if not words:
        raise ValueError(f"there is no word in {text!r:.80}")
    found: list[Step] = []
    for word in words:
        rank = word_index.get(word)
        word_id = encoding.oov_char if rank is None else encoding.limited(int(rank) + encoding.index_from)
        if word_id is not None:
            found.append(Step(word, "unknown" if word_id == encoding.oov_char else "word", word_id))
    if not any(step.kind == "word" for step in found):
        raise ValueError(f"the model knows none of the words, which start with {', '.join(map(repr, words[:5]))}")
    found = [Step("<start>", "start", word_id) for word_id in encoding.start()] + found
    steps = found[-(length or MOST_STEPS) :]
    return Reading(steps, sum(step.kind != "start" for step in found[: -len(steps)]), length)


def known_words(word_index: Mapping[str, int], encoding: Encoding, most: int) -> tuple[list[Step], int]:
    """At most this many words that the model distinguishes, lowest ids first; and the number of all such words."""
    ids = ((encoding.limited(int(rank) + encoding.index_from), word) for word, rank in word_index.items())
    known = [(word_id, word) for word_id, word in ids if word_id is not None and word_id != encoding.oov_char]
    return [Step(word, "word", word_id) for word_id, word in heapq.nsmallest(most, known)], len(known)


def _require_ranks(word_index: Mapping[str, int]) -> None:
    """Raise TypeError or ValueError unless every word has a whole number."""
    for word, rank in require_words(word_index).items():
        if type(rank) is not int and not isinstance(rank, np.integer):
            raise TypeError(f"word_index must map words to ranks, whole numbers, but {word!r:.80} has {rank!r:.80}")
        if not isinstance(word, str):
            raise TypeError(f"word_index must map words to ranks, but it has a key that is not a word: {word!r:.80}")
