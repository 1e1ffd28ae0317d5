"""A text as a model reads it: words, their ids, the padding in front."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scratchlstm.datasets.encoding import Encoding, require_words
from scratchlstm.datasets.vocabulary import LONGEST
from scratchlstm.layers import Embedding
from scratchlstm.models.model import Model
from scratchlstm.preprocessing.text import text_to_word_sequence

MOST_STEPS = 200  # words that are read if the model states no length itself


class Step(NamedTuple):
    """One word as the model reads it."""

    word: str
    kind: str  # "word", "unknown" or "start"
    id: int


def embedding_and_length(model: Any) -> tuple[Embedding, int | None]:
    """The first layer of a model that can be shown reading words, and how many it reads, if the model states it.

    Raises:
        TypeError, ValueError: the model is of another kind.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model or Sequential, not {type(model).__name__}")
    if not model.built:
        raise ValueError("the model has no parameters yet: train it first, or load a trained one")
    if model.network.merges:
        raise ValueError(f"explore reads one text, but the model has {len(model.input_shape)} inputs")
    first = model.layers[0]
    if not isinstance(first, Embedding):
        raise ValueError(f"explore shows words, so the model must begin with an Embedding, not {first.name}")
    if model.stateful:
        raise ValueError("explore reads a text from its beginning, but the model is stateful")
    length = model.input_shape[0] if model.input_shape else None
    if length is not None and length > LONGEST:
        raise ValueError(f"the model reads {length:,} words at once, and explore gives it up to {LONGEST:,}")
    return first, length


def read(text: str | Sequence[str], word_index: Mapping[str, int], encoding: Encoding) -> list[Step]:
    """Every word as the model would read it, behind the start mark.

    Raises:
        TypeError: not a text, or no dict of words and ranks.
        ValueError: a text without a word that the model knows.
    """
    require_words(word_index)
    if not isinstance(text, str) and not (isinstance(text, list | tuple) and all(isinstance(w, str) for w in text)):
        raise TypeError(f"text must be a sentence or a list of words, not {text!r:.80}")
    words = text_to_word_sequence(text) if isinstance(text, str) else text
    if not words:
        raise ValueError(f"there is no word in {text!r:.80}")
    found: list[Step] = []
    for word in words:
        rank = word_index.get(word)
        word_id = encoding.oov_char if rank is None else encoding.limited(rank + encoding.index_from)
        if word_id is not None:
            found.append(Step(word, "unknown" if word_id == encoding.oov_char else "word", word_id))
    if not any(step.kind == "word" for step in found):
        raise ValueError(f"the model knows none of the words, which begin with {', '.join(map(repr, words[:5]))}")
    return [Step("<start>", "start", word_id) for word_id in encoding.start()] + found


def known_words(word_index: Mapping[str, int], encoding: Encoding) -> list[Step]:
    """All words that the model tells apart, the lowest ids first."""
    ids = ((encoding.limited(rank + encoding.index_from), word) for word, rank in word_index.items())
    known = sorted((word_id, word) for word_id, word in ids if word_id is not None and word_id != encoding.oov_char)
    return [Step(word, "word", word_id) for word_id, word in known]
