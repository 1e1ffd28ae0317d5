"""A learner's folder: the exercise files, and `progress.json` with what has been solved.

The learner's work is never overwritten: existing files are left alone.
"""

import json
import os
from pathlib import Path
from typing import Any

from scratchlstm._support.files import atomic_write
from scratchlstm.exercises.exercise import EXERCISES, Exercise

PROGRESS = "progress.json"
_FORMAT = 1


class Folder:
    """A folder created by `write`.

    Args:
        path: path of the folder.

    Raises:
        ValueError: it has no exercises, those of a newer version, or a `progress.json` that is not ours.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._read()

    @property
    def done(self) -> list[str]:
        """The names of the solved exercises, in order."""
        done = self._read()["done"]
        return [each.name for each in EXERCISES if each.name in done]

    @property
    def next(self) -> Exercise | None:
        """The first unsolved exercise."""
        done = self.done
        return next((each for each in EXERCISES if each.name not in done), None)

    def file(self, exercise: Exercise) -> Path:
        """The learner's file, which keeps its number even if another version numbers exercises differently."""
        older = sorted(self.path.glob(f"[0-9][0-9]_{exercise.name}.py"))
        return older[0] if older else self.path / exercise.file

    def set_done(self, exercise: Exercise, done: bool) -> None:
        """Record that an exercise is solved, or no longer is."""
        progress = self._read()
        others = [name for name in progress["done"] if name != exercise.name]
        self._write(progress | {"done": others + [exercise.name] * done})

    def next_hints(self, function: str, hints: tuple[str, ...]) -> tuple[str, ...]:
        """One hint more than last time."""
        progress = self._read()
        count = min(progress["hints"].get(function, 0) + 1, len(hints))
        self._write(progress | {"hints": progress["hints"] | {function: count}})
        return hints[:count]

    def _read(self) -> dict[str, Any]:
        file = self.path / PROGRESS
        if not file.is_file():
            if any(self.file(each).exists() for each in EXERCISES):
                return {"format": _FORMAT, "done": [], "hints": {}}  # answers that came without it
            advice = "`python -m scratchlstm exercises FOLDER` creates one"
            raise ValueError(f"{str(self.path)!r} is not a folder of exercises: it has no {PROGRESS}; {advice}")
        try:
            progress = json.loads(file.read_text(encoding="utf-8-sig"))
            is_ours = isinstance(progress["format"], int) and isinstance(progress["done"], list)
            is_ours = is_ours and all(isinstance(count, int) for count in progress["hints"].values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            is_ours = False
        if not is_ours:
            advice = "if it was, remove it (your answers stay) and run `check all`; otherwise choose another folder"
            raise ValueError(f"{str(file)!r} is damaged, or does not belong to these exercises: {advice}")
        if progress["format"] > _FORMAT:
            raise ValueError(f"{str(file)!r} was written by a newer version of scratchlstm: upgrade to use this folder")
        return progress

    def _write(self, progress: dict[str, Any]) -> None:
        with atomic_write(self.path / PROGRESS) as file:
            file.write(json.dumps(progress, indent=1).encode())


def write(path: str | os.PathLike[str]) -> tuple[Folder, list[Path]]:
    """Write the missing exercises to a folder, which is created if needed.

    Returns:
        the folder, and the files written.

    Raises:
        OSError: it cannot be written.
        ValueError: see `Folder`.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{str(path)!r} is a file; choose another name for the folder of exercises")
    path.mkdir(parents=True, exist_ok=True)
    if not (path / PROGRESS).exists():
        with atomic_write(path / PROGRESS) as file:
            file.write(json.dumps({"format": _FORMAT, "done": [], "hints": {}}).encode())
    folder, written = Folder(path), []
    for exercise in EXERCISES:
        if not (target := folder.file(exercise)).exists():
            with atomic_write(target) as file:
                file.write(exercise.text.encode())
            written.append(target)
    return folder, written
