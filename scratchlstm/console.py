"""Printing to whatever the standard output is."""

import sys

_PLAIN = str.maketrans("━─┃│┏┳┓┡╇┩├┼┤└┴┘…", "=-||++++++++++++.")


def say(text: str) -> None:
    """Print a line; where the output cannot show its bars and boxes, plain ones."""
    print(printable(text), flush=True)


def printable(text: str) -> str:
    """`text` as the standard output can show it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
