"""A learner's folder: the exercises' files, and `progress.json` with what has been done.

Nothing of the learner's is overwritten: a file that exists is left as it is.
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
    """A folder that `write` has made.

    Args:
        path: of the folder.

    Raises:
        ValueError: it holds no exercises, those of a newer version, or a damaged `progress.json`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        file = self.path / PROGRESS
        if not file.is_file():
            command = "python -m scratchlstm exercises FOLDER"
            raise ValueError(
                f"{str(self.path)!r} is not a folder of exercises (no {PROGRESS} in it); {command} makes one"
            )
        try:
            progress = json.loads(file.read_text(encoding="utf-8"))
            version, self.done, self.hints = progress["format"], set(progress["done"]), dict(progress["hints"])
        except (ValueError, KeyError, TypeError) as error:
            advice = (
                "delete it and write the exercises again: your files stay as they are, and `check --all` counts them"
            )
            raise ValueError(f"{str(file)!r} is damaged ({error}); {advice}") from error
        if version > _FORMAT:
            raise ValueError(f"{str(file)!r} was written by a newer version of scratchlstm: upgrade to use this folder")

    def save(self) -> None:
        """Write what has been done."""
        progress: dict[str, Any] = {"format": _FORMAT, "done": sorted(self.done), "hints": self.hints}
        with atomic_write(self.path / PROGRESS) as file:
            file.write(json.dumps(progress, indent=1).encode())

    def set_done(self, exercise: Exercise, done: bool) -> None:
        """Note that an exercise is solved, or no longer is."""
        (self.done.add if done else self.done.discard)(exercise.name)
        self.save()

    def next_hints(self, function: str, hints: tuple[str, ...]) -> tuple[str, ...]:
        """One hint more than the last time."""
        self.hints[function] = min(self.hints.get(function, 0) + 1, len(hints))
        self.save()
        return hints[: self.hints[function]]

    @property
    def next(self) -> Exercise | None:
        """The first exercise that has not been done."""
        return next((each for each in EXERCISES if each.name not in self.done), None)

    def file(self, exercise: Exercise) -> Path:
        """The learner's file."""
        return self.path / exercise.file


def write(path: str | os.PathLike[str]) -> tuple[Folder, list[Path]]:
    """Write the exercises that are missing in a folder, which is made if need be.

    Returns:
        The folder, and the files that were written.

    Raises:
        OSError: it cannot be written.
        ValueError: see `Folder`.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / PROGRESS).exists():
        with atomic_write(path / PROGRESS) as file:
            file.write(json.dumps({"format": _FORMAT, "done": [], "hints": {}}).encode())
    folder, written = Folder(path), []
    for exercise in EXERCISES:
        target = folder.file(exercise)
        if not target.exists():
            with atomic_write(target) as file:
                file.write(exercise.text.encode())
            written.append(target)
    return folder, written
