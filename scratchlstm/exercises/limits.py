"""A learner's code under a time limit, and what to say when it fails: its own line, in words."""

import ctypes
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

SECONDS = 5.0  # of computing
_WAITING = 4  # times as long, by the clock, may code take that waits, or that a busy machine keeps waiting


class TooLongError(BaseException):
    """Raised inside code that does not end; no `except Exception` of that code stops it."""


def limited(function: Callable[..., Any], *given: Any, seconds: float = SECONDS) -> Any:
    """The function's result; `TooLongError` is raised at whatever line of Python it has reached when the time is over.

    It works in any thread and on any system, unlike a signal. A single call that never returns to Python is not
    stopped.
    """
    here, thread, running = sys._getframe(), threading.get_ident(), threading.Lock()
    running.acquire()
    started, used = time.monotonic(), time.process_time()

    def stop() -> None:
        wait = seconds
        while not running.acquire(timeout=wait):
            wait = 0.5  # and once more, should the code catch the error
            if time.process_time() - used < seconds and time.monotonic() - started < _WAITING * seconds:
                continue
            top = frame = sys._current_frames().get(thread)
            while frame and frame is not here:
                frame = frame.f_back
            if frame and frame is not top:  # inside the function: the error is not for what follows it
                raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raise_in(ctypes.c_ulong(thread), ctypes.py_object(TooLongError))

    threading.Thread(target=stop, daemon=True).start()
    try:
        return function(*given)
    finally:
        running.release()  # calls no Python, so that no error can come between


def in_words(error: BaseException, file: str, seconds: float = SECONDS) -> str:
    """What went wrong in the code of `file`, with the last line of it that ran."""
    if isinstance(error, SyntaxError) and "unicode error" in str(error):
        return "it has characters that are not UTF-8: save it in that encoding"
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"line {error.lineno} cannot be read by Python: {error.msg}: {(error.text or '').strip()}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    source = f", `{frames[-1].line}`" if frames and frames[-1].line else ""
    where = f"line {frames[-1].lineno}{source}: " if frames else ""
    if isinstance(error, TooLongError):
        return f"{where}still running after {seconds:g} seconds, so it was stopped: does a loop never end?"
    if isinstance(error, SystemExit):
        return f"{where}this ends the program, so nothing could be checked: leave it out"
    return f"{where}{type(error).__name__}: {error}"
