"""Exercises: write the equations yourself, and be told which of them is wrong, and why.

`python -m scratchlstm exercises` writes them into a folder, one short file each; `... exercises check` says what is
right, what is wrong and what to do next. In a notebook `check(function)` says the same of one function.
"""

from typing import Any

from scratchlstm._support.checks import came
from scratchlstm._support.console import say
from scratchlstm.exercises import checking

__all__ = ["check"]


def check(function: Any, name: str | None = None) -> None:
    """Print whether a function is right, and if not, what is wrong with it.

    Args:
        function: your answer to an exercise.
        name: of the function that the exercise asks for, if yours has another name.

    Raises:
        TypeError: not a function.
        ValueError: no exercise asks for a function of this name.
    """
    if not callable(function):
        raise TypeError(f"check takes the function itself, check(f), not its result, check(f(...)): {came(function)}")
    asked = str(name or getattr(function, "__name__", ""))
    say(str(checking.judge(checking.find(asked), asked, function)))
