"""`python -m scratchlstm exercises`: write the exercises, check them, give hints, check at every save."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scratchlstm._support.console import say
from scratchlstm.exercises.checking import Verdict
from scratchlstm.exercises.exercise import EXERCISES, Exercise
from scratchlstm.exercises.folder import PROGRESS, Folder, write
from scratchlstm.exercises.running import judge_file

DEFAULT = "exercises"
_COMMAND = "python -m scratchlstm exercises"
_BAR = 20  # characters
_PAUSE = 0.3  # seconds between two looks at a file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("what", nargs="*", metavar="FOLDER | check [NAME] | hint NAME | watch", help="see above")
    parser.add_argument("--folder", type=Path, help=f"of the exercises (default: this one, or {DEFAULT!r} in it)")
    parser.add_argument("--json", action="store_true", help="with check: every verdict, for a program to read")


def run(options: argparse.Namespace) -> int:
    """Run the command; 0 if all that was checked is right."""
    what, folder, as_json = options.what, options.folder, options.json
    try:
        match what:
            case ["check", *names] if len(names) < 2:
                return _check(_open(folder), names, as_json)
            case ["hint", name]:
                return _hint(_open(folder), name)
            case ["watch"]:
                return _watch(_open(folder))
            case [] | [_]:
                return _write(Path(what[0]) if what else folder or Path(DEFAULT))
        raise ValueError(f"say one of: {_COMMAND} [FOLDER], check [NAME], hint NAME, watch")
    except (ValueError, OSError) as error:
        print(f"{_COMMAND}: {error}", file=sys.stderr)
        return 2


def _open(path: Path | None) -> Folder:
    if path is None:
        path = Path() if Path(PROGRESS).is_file() else Path(DEFAULT)
    return Folder(path)


def _write(path: Path) -> int:
    folder, written = write(path)
    say(
        f"{len(written)} exercises written to {str(path)!r}"
        + (", others left as they are" if len(written) < len(EXERCISES) else "")
    )
    if folder.next:
        say(f"Open {folder.file(folder.next)}, replace the three dots, then: {_COMMAND} check")
    return 0


def _check(folder: Folder, names: Sequence[str], as_json: bool) -> int:
    if as_json:
        chosen = [_named(names[0])] if names else EXERCISES
    elif not names and folder.next is None:
        say(f"All {len(EXERCISES)} exercises are done.")
        return 0
    else:
        chosen = [_named(names[0]) if names else folder.next or EXERCISES[-1]]
    verdicts = {each.name: judge_file(each, folder.file(each)) for each in chosen}
    for each in chosen:
        folder.set_done(each, _right(verdicts[each.name]))
    if as_json:
        print(
            json.dumps(
                [each._asdict() for of_one in verdicts.values() for each in of_one], indent=1, ensure_ascii=False
            )
        )
    else:
        _tell(folder, chosen[0], verdicts[chosen[0].name])
    return 0 if all(map(_right, verdicts.values())) else 1


def _right(verdicts: Sequence[Verdict]) -> bool:
    return all(each.state == "right" for each in verdicts)


def _tell(folder: Folder, exercise: Exercise, verdicts: Sequence[Verdict]) -> None:
    say(f"{folder.file(exercise)}: {exercise.title}")
    for each in verdicts:
        say(f"  {each}")
    if not _right(verdicts):
        wrong = next(each for each in verdicts if each.state != "right")
        say(f"A hint: {_COMMAND} hint {wrong.function}")
    elif folder.next:
        say(f"Right, go on: {folder.file(folder.next)}")
    say(bar(folder))


def bar(folder: Folder) -> str:
    """How far the learner is."""
    done = sum(each.name in folder.done for each in EXERCISES)
    filled = round(_BAR * done / len(EXERCISES))
    return f"[{'#' * filled}{'-' * (_BAR - filled)}] {done} of {len(EXERCISES)} done"


def _hint(folder: Folder, name: str) -> int:
    for exercise in EXERCISES:
        if name in exercise.hints:
            hints = folder.next_hints(name, exercise.hints[name])
            for number, hint in enumerate(hints, start=1):
                say(f"{number}. {hint}")
            return 0
    raise ValueError(name)


def _watch(folder: Folder) -> int:
    """Check the next exercise whenever its file has been saved, until Ctrl-C or until all are done."""
    seen: tuple[Path, int] | None = None
    with contextlib.suppress(KeyboardInterrupt):
        while exercise := folder.next:
            file = folder.file(exercise)
            if seen != (state := (file, file.stat().st_mtime_ns if file.exists() else 0)):
                seen = state
                _check(folder, [exercise.name], as_json=False)
            time.sleep(_PAUSE)
    return 0


def _named(name: str) -> Exercise:
    for each in EXERCISES:
        if Path(name).name in (each.name, each.file, str(each.number), Path(each.file).stem):
            return each
    raise ValueError(f"there is no exercise {name!r}; there are {', '.join(each.name for each in EXERCISES)}")
