"""Words and steps: which word belongs to which step, and how to draw it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.drawing import require_title
from scratchlstm.inspection.recording import choose
from scratchlstm.inspection.trace import LayerTrace, Trace

MOST_LETTERS = 24  # the most letters drawn of a word
MISSING = "□"  # stands for letters missing in the font


def chosen_layer(trace: Any, layer: str | None, title: Any) -> LayerTrace:
    """The layer of that name; None means the only one. The trace of a single layer counts as that of all.

    Raises:
        TypeError: not a trace, or a name or a picture's title that is not a string.
        ValueError: no such layer.
    """
    if not isinstance(trace, Trace | LayerTrace):
        raise TypeError(f"trace must be the result of trace(model, x), or one layer of it, not {type(trace).__name__}")
    require_title(title)
    return trace[layer] if isinstance(trace, Trace) else choose({trace.name: trace}, layer)


def steps_with_words(layer: LayerTrace, words: Any, sample: int) -> tuple[np.ndarray, list[str]]:
    """The valid steps of a sample, and the word at each, ready to draw.

    Args:
        words: one for each step, or one for each valid step.

    Raises:
        TypeError: not a list of strings.
        ValueError: the wrong number of words, no such sample, or no valid step.
    """
    counts = layer.mask[checks.index("sample", sample, len(layer.mask))]
    if isinstance(words, str) or not isinstance(words, Sequence | np.ndarray):
        raise TypeError(f"words must be a list of strings, one for each step, not {words!r:.80}")
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"words must be strings, but {word!r:.80} is {type(word).__name__}")
    steps = np.flatnonzero(counts)
    if not len(steps):
        raise ValueError(f"sample {sample} is entirely masked: there is nothing to draw")
    if len(words) == len(counts):
        words = [words[step] for step in steps.tolist()]
    if len(words) != len(steps):
        there_are = f"{len(counts)} steps" + ("" if counts.all() else f", of which {len(steps)} count")
        problem = f"words must be one for each step, and there are {there_are}, but {len(words)} words"
        raise ValueError(f'{problem}; padding is a step, too: its word may be ""')
    return steps, [drawable(word) for word in words]


def drawable(word: str) -> str:
    """The word on one line, shortened if very long, with a box for each letter missing in all available fonts."""
    letters = _letters()
    line = "".join(c if ord(c) in letters else MISSING for c in " ".join(word.split()) if c.isprintable())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"


def _letters() -> frozenset[int]:
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    settings: dict[Any, Any] = rcParams
    families = [name for family in FontProperties().get_family() for name in settings.get(f"font.{family}", [family])]
    return _letters_of(tuple(families))


@lru_cache(maxsize=4)
def _letters_of(families: tuple[str, ...]) -> frozenset[int]:
    """The letters matplotlib can draw with these fonts, searched one after another, as it does."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    found: set[int] = set()
    for family in families:
        try:
            path = findfont(FontProperties(family=[family]), fallback_to_default=False)
        except ValueError:
            continue
        found |= set(get_font(path).get_charmap())
    return frozenset(found)
