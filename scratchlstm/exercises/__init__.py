"""Exercises: write the equations yourself and find out which of them are wrong, and why.

`python -m scratchlstm exercises` writes them to a folder, one short file each; `... exercises check` says what is
right, what is wrong and what to do next. In a notebook, `check(function)` does the same for one function.
"""

from typing import Any

from scratchlstm._support.checks import came
from scratchlstm._support.console import say
from scratchlstm.exercises import checking

__all__ = ["check"]


def check(function: Any, name: str | None = None) -> None:
    """Print whether a function is right and, if not, what is wrong with it.

    Args:
        function: your answer to an exercise.
        name: the name the exercise uses for the function, if yours has another one.

    Raises:
        TypeError: not a function.
        ValueError: no exercise asks for a function of this name.
    """
    if not callable(function):
        raise TypeError(f"check takes the function itself, check(f), not its result, check(f(...)): {came(function)}")
    asked = str(name or getattr(function, "__name__", ""))
    say(str(checking.judge(checking.find(asked), asked, function)))
