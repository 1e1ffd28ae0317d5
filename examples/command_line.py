"""Shared by the command-line programs: options that are checked before any work, and one-line errors."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from scratchlstm import backend
from scratchlstm.preprocessing.text import text_to_word_sequence


def example_parser(description: str | None, folder: str, seed: int = 0) -> argparse.ArgumentParser:
    """A parser with the options of every small example: --output, --seed and --quick.

    Args:
        description: the example's docstring.
        folder: where its files go.
        seed: the default one.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=named, default=folder, help=f"folder for the results (default {folder})")
    parser.add_argument("--seed", type=whole(0), default=seed, help=f"draws everything from scratch (default {seed})")
    parser.add_argument("--quick", action="store_true", help="a scaled-down run that finishes in seconds")
    add_backend(parser)
    return parser


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option --backend."""
    parser.add_argument(
        "--backend",
        type=usable_backend,
        default=os.environ.get(backend.VARIABLE) or None,
        metavar="{" + ",".join(backend.NAMES) + "}",
        help=f"cupy computes on a GPU (docs/gpu.md), auto if that works (default: {backend.VARIABLE}, or numpy)",
    )


def usable_backend(text: str) -> str:
    """The type of an option for where to compute; if "auto" takes the CPU, a line says why."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            chosen = backend.choose(text)
    except (ValueError, ImportError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    for warning in said:
        print(warning.message, file=sys.stderr)
    return chosen


def whole(smallest: int, largest: int = 0) -> Callable[[str], int]:
    """The type of an option for whole numbers of at least `smallest`, and at most `largest` if given."""

    def number(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < smallest or 0 < largest < int(text):
            most = f" and at most {largest:,}" if largest else ""
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {smallest}{most}, not {text!r}")
        return int(text)

    return number


def workers(text: str) -> int | str:
    """The type of an option for a number of processes."""
    if text == "auto":
        return text
    try:
        return whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from None


def named(text: str) -> str:
    """The type of an option for a folder that may not exist yet."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a folder, not an empty string")
    return text


def reviews_path(text: str) -> str:
    """The type of an option for the path of the reviews."""
    if not text or not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text!r} does not exist: name an imdb.npz or an unpacked aclImdb folder")
    return text


def sentence(text: str) -> str:
    """The type of an option for a text with at least one word in it."""
    if not text_to_word_sequence(text):
        raise argparse.ArgumentTypeError(f"there is no word in {text!r}")
    return text


@contextmanager
def in_one_line(*expected: type[Exception]) -> Iterator[None]:
    """Report errors the user can fix in one line; any other error is a bug, and keeps its traceback."""
    try:
        yield
    except expected as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the program with this error."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    raise SystemExit(2)
