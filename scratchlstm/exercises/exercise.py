"""An exercise: a question module, both as the learner gets it and as the checker sees it.

A question module is the file to hand out, solution included. Lines that end in `# ?` are for the learner: their right
side is replaced by three dots (`# ?-`: they are removed). What follows `# --- the checker's part ---` stays here:

    HINTS     function name -> three hints, each plainer than the last
    MISTAKES  what people write instead, see `mistakes.py`
    BUGS      the mistakes left in the handed-out file for the learner to find
    IN_PLACE  names of arguments that a function may change while it runs
    scene     (rng, B, T, E, H) -> values by name, which become the functions' arguments (default:
              `scenes.step`)
    explain   (name, function, scene) -> what is wrong with a function with a wrong result, if single values do not
              tell; or None
    examine   (name, function, scene) -> what is wrong with a function with a correct result; or None. A class,
              which is a cell, has no result to compare: this is its only check
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
    """The questions in one file.

    Attributes:
        number: the number, from 1.
        name: the question module's name.
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
        """The first line of its docstring."""
        return (inspect.getdoc(self.module) or "").partition("\n")[0].rstrip(".")

    @cached_property
    def solution(self) -> str:
        """The handed-out file with its solution."""
        return inspect.getsource(self.module).partition(_CUT)[0].rstrip() + "\n"

    @cached_property
    def text(self) -> str:
        """The file the learner gets."""
        lines = []
        for line in self.solution.splitlines():
            if not (found := _OPEN.fullmatch(line)):
                lines.append(line)
            elif not found["gone"]:
                lines.append(f"{found['left']}...  # {found['label'] or ''}your line")
        return planted("\n".join(lines) + "\n", self.name, *getattr(self.module, "BUGS", ()))

    @cached_property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The correct functions, by name, that the learner writes or fixes; a cell is a class."""
        kinds = ast.FunctionDef | ast.ClassDef
        names = [each.name for each in ast.parse(self.solution).body if isinstance(each, kinds)]
        own = {name: getattr(self.module, name) for name in names}
        return {name: each for name, each in own.items() if inspect.getsource(each) not in self.text}

    @property
    def hints(self) -> dict[str, tuple[str, str, str]]:
        """Three hints for each function."""
        return self.module.HINTS

    @property
    def mistakes(self) -> list[Mistake]:
        """Known mistakes."""
        return self.module.MISTAKES

    def mistakes_in(self, function: str) -> list[Mistake]:
        """The known mistakes on lines of this function."""
        source = inspect.getsource(self.functions[function])
        return [each for each in self.mistakes if each.old in source]

    @property
    def in_place(self) -> tuple[str, ...]:
        """Arguments that a function may change while it runs."""
        return getattr(self.module, "IN_PLACE", ())

    def planted(self, *mistakes: Mistake) -> dict[str, Any]:
        """The names that the solution defines with these mistakes inserted."""
        return plant(self.solution, self.module.__name__, *mistakes)

    def scene(self, seed: int, **sizes: int) -> Scene:
        """Values for the functions' arguments, by name."""
        return getattr(self.module, "scene", step)(np.random.default_rng(seed), **sizes)

    def ask(self, hook: str, function: str, theirs: Callable[..., Any], scene: Scene) -> str | None:
        """The result of the module's own `explain` or `examine`, if any, for a learner's function."""
        return getattr(self.module, hook)(function, theirs, scene) if hasattr(self.module, hook) else None

    def equation(self, function: str) -> str:
        """The number in parentheses at the start of its docstring."""
        found = re.match(r"\(.+?\)", inspect.getdoc(self.functions[function]) or "")
        return found[0] if found else ""


EXERCISES = [Exercise(number, name) for number, name in enumerate(questions.ORDER, start=1)]
