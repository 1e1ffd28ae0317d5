"""Messages to the user: lines on standard output or standard error, and warnings."""

import contextlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

_PLAIN = str.maketrans("━─┃│┏┳┓┡╇┩├┼┤└┴┘…", "=-||++++++++++++.")


def say(text: str, when: object = True) -> None:
    """Print a line if `when`; replaces bars and boxes by plain characters if the output cannot show them."""
    if when:
        print(printable(text), flush=True)


def note(text: str) -> None:
    """Print a line on standard error, apart from the results; a moving bar makes room for it."""
    if sys.stderr is not None:  # None without a console
        from tqdm import tqdm

        with contextlib.suppress(OSError, ValueError):  # it is closed, or nobody reads it
            tqdm.write(text, file=sys.stderr)


def warn(message: str) -> None:
    """Issue a warning that points at the line outside this package that caused it."""
    inside = str(Path(__file__).parents[1]), contextlib.__file__
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def number(value: Any) -> str:
    """A loss or metric as Keras prints it (the mean, if it has several values); anything else as text."""
    try:
        mean = float(np.mean(value))
    except (TypeError, ValueError):
        return f"{value!s:.80}"
    return f"{mean:.4f}" if abs(mean) > 1e-3 else f"{mean:.4e}"


def printable(text: str) -> str:
    """`text` as standard output can show it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
