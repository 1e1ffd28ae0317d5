"""Known mistakes: what people write instead of the right line, and what to say about it.

They have two uses: exercises recognize them in a learner's answer, and tests insert them into the package to show that
its checks can fail.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import gates


class Mistake(NamedTuple):
    """A wrong version of a line."""

    old: str  # the right text, which occurs exactly once in the source
    new: str  # what is written instead
    says: str  # what to tell whoever wrote it


def planted(source: str, where: str, *mistakes: tuple[str, str] | Mistake) -> str:
    """A module's source with the old text of each mistake replaced by the new one.

    Args:
        source: the module's source.
        where: the module's name, for error messages.
        mistakes: (old, new) pairs, or `Mistake`s.

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
    """The names defined by the source of `planted`."""
    source = planted(source, where, *mistakes)
    scope: dict[str, Any] = {"__name__": where, "np": np, "sigmoid": gates.sigmoid, "tanh": gates.tanh}
    exec(compile(source, f"{where} with a mistake", "exec"), scope)
    return scope
