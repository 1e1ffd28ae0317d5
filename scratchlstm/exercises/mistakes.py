"""Known mistakes: what people write in place of a right line, and what to say about it.

One collection for two uses: an exercise recognizes them in a learner's answer, and the tests plant them in the package,
to show that its checks can fail.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import gates


class Mistake(NamedTuple):
    """A line as people get it wrong."""

    old: str  # the right text, which occurs once in the source
    new: str  # what is written in its place
    says: str  # to who wrote it


def planted(source: str, where: str, *mistakes: tuple[str, str] | Mistake) -> str:
    """A module's source in which, for each mistake, the old text is replaced by the new one.

    Args:
        source: of the module.
        where: the module's name, for the error.
        mistakes: pairs of old and new, or `Mistake`s.

    Raises:
        ValueError: an old text does not occur exactly once.
    """
    for old, new, *_ in mistakes:
        if (count := source.count(old)) != 1:
            raise ValueError(f"{old!r} occurs {count} times in {where}, not once")
        source = source.replace(old, new)
    return source


@lru_cache(1024)
def plant(source: str, where: str, *mistakes: tuple[str, str] | Mistake) -> dict[str, Any]:
    """The names that `planted` source defines."""
    source = planted(source, where, *mistakes)
    scope: dict[str, Any] = {"__name__": where, "np": np, "sigmoid": gates.sigmoid, "tanh": gates.tanh}
    exec(compile(source, f"{where} with a mistake", "exec"), scope)
    return scope
