"""The progress line of training, like Keras'."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from scratchlstm._support.console import number, printable, say
from scratchlstm._support.notebook import in_notebook

_BAR = "━"
_WIDTH = 20
_INTERVAL = 0.1  # seconds between updates of the numbers
_SHORT = 0.5  # in seconds; notebooks show no bar for shorter runs, as they keep every output


class _Output:
    """A notebook cell's one-line output, as a file that tqdm draws its bar in; needs no widgets."""

    handle: Any = None  # until the first line

    def write(self, text: str) -> None:
        """Replace the line by a new one; text that only moves a terminal's cursor or clears a line is ignored."""
        if text.startswith("\r") and text.strip():
            self.show(text[1:].rstrip())

    def show(self, line: str) -> None:
        from IPython.display import display

        data = {"text/plain": line}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)

    def flush(self) -> None:
        """Nothing to do: a line is shown at once."""


class Progress:
    """One epoch's line: steps, bar, time left, running values; at the end time used, time per step, final values.

    The moving bar appears only in a terminal or notebook; a file or pipe gets the finished lines. In a notebook the
    finished line replaces the bar; anything shorter than half a second shows no bar there.

    Args:
        total: number of steps.
        verbose: 0 nothing, 1 the bar and the line, 2 the line without a bar.
        done: number of steps already done.
    """

    def __init__(self, total: int, verbose: int, done: int = 0) -> None:
        self.total, self.verbose, self.before, self.done = total, verbose, done, done
        self.start, self.shown = time.perf_counter(), 0.0
        self.bar: Any = None
        self.output = _Output() if in_notebook() else None
        if verbose == 1 and sys.stdout is not None:  # None without a console
            from tqdm import tqdm

            self.bar = tqdm(
                total=total,
                initial=done,
                bar_format=f"{{n_fmt:>{len(str(total))}}}/{{total_fmt}} {{bar:{_WIDTH}}} {{desc}}",
                ascii=" " + printable(_BAR),
                leave=False,
                file=self.output or sys.stdout,
                delay=_SHORT if self.output else 0,
                disable=None,  # no bar outside a terminal
            )

    def __enter__(self) -> "Progress":
        return self

    def step(self, logs: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Count one more step.

        Args:
            logs: returns the running values. Called only a few times a second, as on a GPU they have to be waited for.
        """
        self.done += 1
        if self.bar is not None and not self.bar.disable:
            now = time.perf_counter()
            if now - self.shown >= _INTERVAL or self.done == self.total:
                self.shown = now
                per_step = (now - self.start) / (self.done - self.before)
                left = per_step * (self.total - self.done)
                self.bar.set_description_str(f"{_clock(left)} {_per_step(per_step)}{_numbers(logs())}", refresh=False)
            self.bar.update()

    def finish(self, logs: Mapping[str, Any]) -> None:
        """Replace the bar by the final line."""
        self.__exit__()
        if not self.verbose:
            return
        used, done = time.perf_counter() - self.start, self.done or self.total
        per_step = _per_step(used / (done - self.before or 1)) + _numbers(logs)
        line = f" {_BAR * _WIDTH} {used:.0f}s {per_step}" if self.verbose == 1 else f" - {used:.0f}s - {per_step}"
        text = f"{done}/{self.total}{line}"
        if self.output and self.output.handle:
            self.output.show(text)
        else:
            say(text)

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def _numbers(logs: Mapping[str, Any]) -> str:
    return "".join(f" - {name}: {number(value)}" for name, value in logs.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}" if minutes else f"{rest}s"


def _per_step(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.0f}s/step"
    return f"{seconds * 1e3:.0f}ms/step" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us/step"
