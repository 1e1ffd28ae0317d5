"""Run a learner's code under a time limit, and say in words where it fails."""

import ctypes
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

SECONDS = 5.0  # of CPU time
_LONGEST = 500  # the most characters shown of an error
_WAITING = 4  # times SECONDS of wall time allowed for code that waits, or runs on a busy machine


class TooLongError(BaseException):
    """Raised inside code that runs too long; not caught by its `except Exception`."""


def limited(function: Callable[..., Any], *given: Any, seconds: float = SECONDS) -> Any:
    """The function's result; when time is up, `TooLongError` is raised at the line of Python it has reached.

    Unlike a signal, this works in any thread and on any system, but it cannot stop a single call that never returns to
    Python.
    """
    here, thread, running = sys._getframe(), threading.get_ident(), threading.Lock()
    running.acquire()
    started, used = time.monotonic(), time.process_time()

    def again(frame: FrameType, event: str, _: Any) -> Any:
        """Raise at a line of the function; stop tracing once the function has ended."""
        if not running.locked():
            sys.settrace(None)
            return None
        if event == "line":
            raise_in(ctypes.c_ulong(thread), ctypes.py_object(TooLongError))
        return again

    class Caught(TooLongError):
        """Raised in code that catches everything: from then on each of its lines raises, even in an `except:` block."""

        def __init__(self) -> None:
            super().__init__()
            frame: FrameType | None = sys._getframe(1)  # created where it is raised
            while frame and frame is not here:
                frame.f_trace, frame = again, frame.f_back
            sys.settrace(again)

    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    error: type[TooLongError] = TooLongError

    def stop() -> None:
        nonlocal error
        wait = seconds
        while not running.acquire(timeout=wait):
            wait = 0.5  # raise again if the code catches it
            if time.process_time() - used < seconds and time.monotonic() - started < _WAITING * seconds:
                continue
            top = frame = sys._current_frames().get(thread)
            while frame and frame is not here:
                frame = frame.f_back
            if frame and frame is not top:  # only inside the function, not in what follows it
                raise_in(ctypes.c_ulong(thread), ctypes.py_object(error))
                error = Caught

    threading.Thread(target=stop, daemon=True).start()
    try:
        return function(*given)
    finally:
        running.release()  # calls no Python, so no error can occur in between


def in_words(error: BaseException, file: str) -> str:
    """What went wrong in the code of `file`, with its last line that ran."""
    if isinstance(error, SyntaxError) and "unicode error" in str(error):
        return "it has characters that are not UTF-8: save it in that encoding"
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"line {error.lineno} is not valid Python: {error.msg}: {(error.text or '').strip()}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    source = f", `{frames[-1].line}`" if frames and frames[-1].line else ""
    where = f"line {frames[-1].lineno}{source}: " if frames else ""
    if isinstance(error, TooLongError):
        return f"{where}still running after {SECONDS:g} seconds, so it was stopped: does a loop never end?"
    if isinstance(error, SystemExit):
        return f"{where}this ends the program, so nothing could be checked: remove it"
    return f"{where}{type(error).__name__}: {message(error)}".removesuffix(": ")


def message(error: BaseException) -> str:
    """An error's message, in a line or two."""
    try:
        text = str(error)
    except Exception:  # the learner's own error may itself fail
        return ""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
