"""A learner's code under a time limit, and what to say when it fails: its own line, in words."""

import ctypes
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SECONDS = 5.0


class TooLongError(BaseException):
    """Raised inside code that does not end; no `except Exception` of that code stops it."""


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Stop the block, with `TooLongError` at whatever line of Python it has reached, when the time is over.

    It works in any thread and on any system, unlike a signal. A single call that never returns to Python is not
    stopped.
    """
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    thread, over = ctypes.c_ulong(threading.get_ident()), threading.Event()

    def stop() -> None:
        wait = seconds
        while not over.wait(wait):  # more than once, should the code catch it
            raise_in(thread, ctypes.py_object(TooLongError))
            wait = 0.5

    watch = threading.Thread(target=stop, daemon=True)
    watch.start()
    try:
        yield
    finally:
        # Not `raise_in(thread, None)`: under CPython 3.11 a thread that clears what never came hangs once it is traced.
        while watch.is_alive():
            with suppress(TooLongError):  # one that was on its way
                over.set()
                watch.join()


def in_words(error: BaseException, file: str, seconds: float = SECONDS) -> str:
    """What went wrong in the code of `file`, with the last line of it that ran."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"line {error.lineno} cannot be read by Python: {error.msg}: {(error.text or '').strip()}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"line {frames[-1].lineno}, `{frames[-1].line}`: " if frames else ""
    if isinstance(error, TooLongError):
        return f"{where}still running after {seconds:g} seconds, so it was stopped: does a loop never end?"
    if isinstance(error, SystemExit):
        return f"{where}this ends the program, so nothing could be checked: leave it out"
    return f"{where}{type(error).__name__}: {error}"
