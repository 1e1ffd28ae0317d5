"""The words that a model knows, as a run keeps them beside it."""

import json
import os
from pathlib import Path
from typing import Any


def read_vocabulary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `examples/imdb.py` writes beside its model: `words` (word -> rank), `maxlen` and `num_words`.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is something else.
    """
    try:
        saved = json.loads(Path(path).read_bytes())
        numbers = [saved["maxlen"], saved["num_words"], *saved["words"].values()]
        if not saved["words"] or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("its lengths and ranks are not all whole numbers above 0")
        return saved
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not the vocabulary of a run: {error}") from error
