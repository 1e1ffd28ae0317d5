"""An exercise: a question module, seen as what the learner gets and as what the checker knows.

A question module is a file to be handed out, solution included. Lines that end in `# ?` are the learner's: their right
side is handed out as three dots (`# ?-`: they are left out). What follows `# --- the checker's part ---` stays here:

    HINTS     name of the function -> three hints, each plainer than the one before
    MISTAKES  what people write instead, see `mistakes.py`
    BUGS      those of the mistakes that the file is handed out with, for the learner to find
    IN_PLACE  names of arguments that a function may change while it runs
    scene     (rng, B, T, E, H) -> values by name, from which a function gets its arguments by their names (default:
              `scenes.step`)
    explain   (name, function, scene) -> what is wrong with a function whose result is, if there is more to go by than
              single values; or None
    examine   (name, function, scene) -> what is wrong with a function whose result is right; or None. A class, which
              is a cell, has no result to be compared: this is all that is asked of it
"""

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from scratchlstm.exercises import questions
from scratchlstm.exercises.mistakes import Mistake, plant, planted
from scratchlstm.exercises.scenes import Scene, step

_CUT = "# --- the checker's part ---"
_OPEN = re.compile(r"^(?P<left> *(?:return |.*? [-+*]?= ))?.*  # (?P<label>\(.+?\) )?\?(?P<gone>-?)$")


class Exercise:
    """What is asked in one file.

    Attributes:
        number: from 1.
        name: of the question module.
        file: its name in the learner's folder.
    """

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name, self.file = number, name, f"{number:02}_{name}.py"

    def __repr__(self) -> str:
        return f"Exercise {self.number}, {self.title}"

    @cached_property
    def module(self) -> ModuleType:
        """The question module."""
        return importlib.import_module(f"{questions.__name__}.{self.name}")

    @property
    def title(self) -> str:
        """Its first line."""
        return (inspect.getdoc(self.module) or "").partition("\n")[0].rstrip(".")

    @cached_property
    def solution(self) -> str:
        """The file that is handed out, solved."""
        return inspect.getsource(self.module).partition(_CUT)[0].rstrip() + "\n"

    @cached_property
    def text(self) -> str:
        """The file that a learner gets."""
        lines = []
        for line in self.solution.splitlines():
            if not (found := _OPEN.fullmatch(line)):
                lines.append(line)
            elif not found["gone"]:
                lines.append(f"{found['left']}...  # {found['label'] or ''}your line")
        return planted("\n".join(lines) + "\n", self.name, *getattr(self.module, "BUGS", ()))

    @cached_property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """Those that the learner writes or mends, right, by name; a cell is a class."""
        kinds = ast.FunctionDef | ast.ClassDef
        names = [each.name for each in ast.parse(self.solution).body if isinstance(each, kinds)]
        own = {name: getattr(self.module, name) for name in names}
        return {name: each for name, each in own.items() if inspect.getsource(each) not in self.text}

    @property
    def hints(self) -> dict[str, tuple[str, str, str]]:
        """Three for each function."""
        return self.module.HINTS

    @property
    def mistakes(self) -> list[Mistake]:
        """What people write instead."""
        return self.module.MISTAKES

    def mistakes_in(self, function: str) -> list[Mistake]:
        """Those whose line is in this function."""
        source = inspect.getsource(self.functions[function])
        return [each for each in self.mistakes if each.old in source]

    @property
    def in_place(self) -> tuple[str, ...]:
        """Arguments that a function may change while it runs."""
        return getattr(self.module, "IN_PLACE", ())

    def planted(self, *mistakes: Mistake) -> dict[str, Any]:
        """The names that the solution defines with these mistakes in it."""
        return plant(self.solution, self.module.__name__, *mistakes)

    def scene(self, seed: int, **sizes: int) -> Scene:
        """Values for the functions' arguments, by name."""
        return getattr(self.module, "scene", step)(np.random.default_rng(seed), **sizes)

    def ask(self, hook: str, function: str, theirs: Callable[..., Any], scene: Scene) -> str | None:
        """What the module's own `explain` or `examine`, if it has one, says of a learner's function."""
        return getattr(self.module, hook)(function, theirs, scene) if hasattr(self.module, hook) else None

    def equation(self, function: str) -> str:
        """The number that its docstring begins with, in parentheses."""
        found = re.match(r"\(.+?\)", inspect.getdoc(self.functions[function]) or "")
        return found[0] if found else ""


EXERCISES = [Exercise(number, name) for number, name in enumerate(questions.ORDER, start=1)]
