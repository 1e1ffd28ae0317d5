"""Vocabularies in JSON files: Keras' word index, and the one a run saves with its model."""

import json
import os
from pathlib import Path
from typing import Any

LONGEST = 1_000_000  # the most words a model gets at once: each takes memory, including padding


def read_vocabulary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `examples/imdb.py` saves with its model: `words` (word -> rank), `maxlen` and `num_words`.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is something else.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"there is no {str(path)!r}, which gives the number of each word for the model; examples/imdb.py writes "
            f"it next to its model (for other models, call scratchlstm.inspection.explore with word_index)"
        )
    try:
        saved = json.loads(Path(path).read_bytes())
        if not isinstance(saved, dict):
            raise ValueError(f"it must contain maxlen, num_words and words, not a {type(saved).__name__}")
        numbers = [saved["maxlen"], saved["num_words"], *saved["words"].values()]
        if not saved["words"] or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("its lengths and ranks are not all whole numbers above 0")
        if saved["maxlen"] > LONGEST:
            raise ValueError(f"its maxlen is {saved['maxlen']:,} words, but at most {LONGEST:,} are supported")
        return saved
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not the vocabulary of a run: {error}") from error


def read_word_index(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read Keras' `imdb_word_index.json`: word -> rank, 1 for the most frequent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or not an object of words with distinct ranks from 1.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no imdb_word_index.json at {str(path)!r}")
    try:
        word_index = json.loads(Path(path).read_bytes())
        if not isinstance(word_index, dict) or not word_index:
            raise ValueError("it is not an object of words and ranks")
        ranks = set(word_index.values())
        if not all(type(rank) is int and rank >= 1 for rank in ranks) or len(ranks) != len(word_index):
            raise ValueError("the ranks are not distinct integers from 1")
    except (ValueError, TypeError, RecursionError) as error:
        todo = "Put Keras' own file in its place, or delete this one."
        raise ValueError(f"{str(path)!r} cannot be read as Keras' imdb_word_index.json: {error}. {todo}") from error
    return word_index
