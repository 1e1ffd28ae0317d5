"""Run and check a learner's file in a separate process, which may hang, crash or exit without harm."""

import importlib.util
import linecache
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scratchlstm.exercises.checking import Verdict, judge
from scratchlstm.exercises.exercise import EXERCISES, Exercise
from scratchlstm.exercises.limits import in_words, limited

# seconds without a verdict: calls that never return to Python outlast the inner limit, and busy machines start slowly
_WAIT = 30.0


def judge_file(exercise: Exercise, path: Path) -> list[Verdict]:
    """A verdict on each function of a learner's file."""
    if not path.is_file():
        advice = "`python -m scratchlstm exercises FOLDER` writes only the missing files"
        return _all(exercise, f"there is no file {path.name} in {str(path.parent)!r}; {advice}")
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_judge, args=(exercise.number, path, theirs), daemon=True)
    child.start()
    theirs.close()
    verdicts: dict[str, Verdict] = {}  # by function: a file that forks may send them twice
    try:
        while len(verdicts) < len(exercise.functions):
            if not mine.poll(_WAIT):
                raise TimeoutError
            verdicts |= {each.function: each for each in mine.recv()}
        return list(verdicts.values())
    except (EOFError, TimeoutError) as error:
        child.join(1)
        how = "it did not end" if isinstance(error, TimeoutError) else f"Python ended (exit code {child.exitcode})"
        failed = _all(exercise, f"{path.name} could not be checked: {how}")
        return [verdicts.get(each.function, each) for each in failed]
    finally:
        if hasattr(os, "killpg") and child.pid:
            with suppress(ProcessLookupError):  # including anything the file started
                os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.join()
        mine.close()


def _judge(number: int, path: Path, results: Connection) -> None:
    """In the child process: send the verdicts, one by one."""
    exercise = EXERCISES[number - 1]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C and ends this process
    sys.dont_write_bytecode = True
    if hasattr(os, "setsid"):
        os.setsid()  # a process group of its own, to be ended as a whole
    with suppress(OSError):
        os.dup2(2, 1)  # output of the code and its subprocesses must not mix with the command's
    sys.stdout = sys.stderr
    sys.path.insert(0, str(path.parent))
    try:
        names = load(path)
    except BaseException as error:
        results.send(_all(exercise, f"{path.name} cannot be run: {in_words(error, str(path.resolve()))}"))
        return
    for name in exercise.functions:
        if name in names:
            results.send([_judged(exercise, name, names[name], path)])
        else:
            says = f"there is no function {name} in {path.name}"
            results.send([Verdict(exercise.name, name, exercise.equation(name), "wrong", says)])


def _judged(exercise: Exercise, name: str, function: Any, path: Path) -> Verdict:
    """The verdict, whatever is raised: even an interrupt by the code itself, or a NumPy error it changed."""
    try:
        return judge(exercise, name, function)
    except BaseException as error:
        says = f"{path.name} could not be checked: {in_words(error, str(path.resolve()))}"
        return Verdict(exercise.name, name, exercise.equation(name), "wrong", says)


def load(path: Path) -> dict[str, Any]:
    """The names a file defines."""
    path = path.resolve()  # as in tracebacks
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses and pickle look
    linecache.checkcache(str(path))
    # not with the loader, which may run stale bytecode of a file changed within the same second
    limited(lambda: exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module)))
    return vars(module)


def _all(exercise: Exercise, says: str) -> list[Verdict]:
    return [Verdict(exercise.name, name, exercise.equation(name), "wrong", says) for name in exercise.functions]
