"""The command `python -m scratchlstm exercises`: write exercises, check them, give hints, check on every save."""

import argparse
import contextlib
import difflib
import json
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from scratchlstm._support.console import say
from scratchlstm.exercises.checking import Verdict, find
from scratchlstm.exercises.exercise import EXERCISES, Exercise
from scratchlstm.exercises.folder import PROGRESS, Folder, write
from scratchlstm.exercises.running import judge_file

_COMMAND = "python -m scratchlstm exercises"
_DEFAULT = Path("exercises")
_BAR = 20  # characters
_PAUSE = 0.3  # seconds between checks of the files

USAGE = f"""
  {_COMMAND} [FOLDER]       write the exercises (default: into {str(_DEFAULT)!r}); existing files stay
  {_COMMAND} check [NAME]   check an exercise, "all", or the next unsolved one
  {_COMMAND} hint NAME      a hint; repeat it for a plainer one
  {_COMMAND} watch          check each exercise whenever it is saved
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = USAGE
    parser.add_argument("what", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=f"their folder (default: this one, or {str(_DEFAULT)!r} in it)")
    parser.add_argument("--json", action="store_true", help="with check: print each verdict as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 0 if everything checked is right, 1 if not, 2 if it could not be checked."""
    try:
        match options.what:
            case ["check"] if options.json:
                return _check(_open(options.folder), EXERCISES, as_json=True)
            case ["check"]:
                return _check_next(_open(options.folder))
            case ["check", "all"]:
                return _check(_open(options.folder), EXERCISES, options.json)
            case ["check", name]:
                return _check(_open(options.folder), [_named(name)], options.json)
            case ["hint", name]:
                return _hint(_open(options.folder), name)
            case ["watch"]:
                return _watch(_open(options.folder))
            case [] | [_] if options.what != ["hint"]:
                return _write(_new_folder(*options.what) if options.what else options.folder or _DEFAULT)
        raise ValueError(f"what should be done? One of:\n{USAGE}")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"{_COMMAND}: {error}", file=sys.stderr)
        return 2


def _new_folder(name: str) -> Path:
    """The folder of this name, unless it looks like a misspelled command."""
    near = "/" not in name and difflib.get_close_matches(name, ["check", "hint", "watch"], n=1)
    if (near or name == "list") and not Path(name).is_dir():
        meant = f"did you mean {near[0]}?" if near else f"{_COMMAND} check all lists them."
        raise ValueError(f"{name!r} is not a command; {meant} (For a folder of this name, write ./{name}.)")
    return Path(name)


def _option(folder: Folder) -> str:
    """The option that names the folder, if it is needed."""
    return "" if folder.path == _here() else f" --folder {shlex.quote(str(folder.path))}"


def _here() -> Path:
    """The default folder."""
    return Path() if Path(PROGRESS).is_file() else _DEFAULT


def _open(path: Path | None) -> Folder:
    return Folder(path or _here())


def _named(name: str) -> Exercise:
    """The exercise of this name, number or file, or the one that asks for a function of this name."""
    for each in EXERCISES:
        if Path(name).stem.lstrip("0123456789_") == each.name or name.lstrip("0") == str(each.number):
            return each
    try:
        return find(name)
    except ValueError:
        names = ", ".join(each.name for each in EXERCISES)
        raise ValueError(f"there is no exercise {name!r}; there are {names}") from None


def _write(path: Path) -> int:
    folder, written = write(path)
    kept = f"; the other {len(EXERCISES) - len(written)} already exist" if len(written) < len(EXERCISES) else ""
    say(f"{len(written)} exercises written to {str(path)!r}{kept}")
    if folder.next:
        say(f"Open {folder.file(folder.next)}, answer it, then run: {_COMMAND} check{_option(folder)}")
    return 0


def _check_next(folder: Folder) -> int:
    if not folder.next:
        say(f"All {len(EXERCISES)} exercises are done. (`{_COMMAND} check all` checks them again.)")
        return 0
    return _check(folder, [folder.next])


def _check(folder: Folder, chosen: Sequence[Exercise], as_json: bool = False) -> int:
    found: list[Verdict] = []
    for each in chosen:
        verdicts = judge_file(each, folder.file(each))
        if not as_json:  # for grading, leave the folder unchanged
            _tell(folder, each, verdicts)
            try:
                folder.set_done(each, _right(verdicts))
            except OSError as error:  # e.g. a full disk, or somebody else's folder
                print(f"{_COMMAND}: this was not recorded in {PROGRESS}: {error}", file=sys.stderr)
        found += verdicts
    if as_json:
        print(json.dumps([each._asdict() for each in found], indent=1))
    else:
        _tell_next(folder, found)
    return 0 if _right(found) else 1


def _right(verdicts: Sequence[Verdict]) -> bool:
    return all(each.state == "right" for each in verdicts)


def _tell(folder: Folder, exercise: Exercise, verdicts: Sequence[Verdict]) -> None:
    say(f"{folder.file(exercise)}: {exercise.title}")
    of_file = verdicts[0].says if len(verdicts) > 1 and len({each.says for each in verdicts}) == 1 else ""
    for text in [of_file] if of_file else map(str, verdicts):
        say(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    "))


def _tell_next(folder: Folder, verdicts: Sequence[Verdict]) -> None:
    if not _right(verdicts):
        name = next(each for each in verdicts if each.state != "right").function
        say(f"A hint: {_COMMAND} hint {name}{_option(folder)}")
    elif folder.next:
        say(f"Right. Continue with {folder.file(folder.next)}")
    done, count = len(folder.done), len(EXERCISES)
    filled = _BAR * done // count
    say(f"[{'#' * filled}{'-' * (_BAR - filled)}] {done} of {count} exercises done")


def _hint(folder: Folder, name: str) -> int:
    exercise = _named(name)
    if name not in exercise.hints:  # an exercise: its first wrong function
        verdicts = judge_file(exercise, folder.file(exercise))
        name = next((each.function for each in verdicts if each.state != "right"), verdicts[-1].function)
    hints = folder.next_hints(name, exercise.hints[name])
    say(f"{name} {exercise.equation(name)}, in {folder.file(exercise)}")
    for number, hint in enumerate(hints, start=1):
        say(f"  {number}. {hint}")
    return 0


def _watch(folder: Folder) -> int:
    """Check the next exercise, then each one whenever it is saved, until Ctrl-C or until all are done."""
    say(f"Watching {str(folder.path)!r}; press Ctrl-C to stop.")
    with contextlib.suppress(KeyboardInterrupt):
        before = _saved(folder)
        changed = [folder.next] if folder.next else []
        while True:
            for exercise in changed:
                say("")
                _check(folder, [exercise])
            if not folder.next:
                break
            time.sleep(_PAUSE)
            now = _saved(folder)
            changed = [each for each in EXERCISES if now[each.name] not in (None, before[each.name])]
            before = now
    return 0


def _saved(folder: Folder) -> dict[str, int | None]:
    """The modification time of each exercise's file."""
    times = dict.fromkeys(each.name for each in EXERCISES)
    for each in EXERCISES:
        with contextlib.suppress(FileNotFoundError):  # an editor may just be replacing it
            times[each.name] = folder.file(each).stat().st_mtime_ns
    return times
