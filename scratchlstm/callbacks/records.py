"""Write down how training goes: as a table and as a picture."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.files import atomic_write, file_path, require_writable_folder
from scratchlstm._support.notebook import in_notebook
from scratchlstm.callbacks.base import Callback, History, Logs
from scratchlstm.callbacks.curves import learning_curve


class CSVLogger(Callback):
    """Writes one row per epoch to a CSV file, in Keras' format: epoch (from 0), then the values in the logs.

    The file is replaced as a whole after each epoch, so it never ends in half a row.

    Args:
        filename: the file; its folder is created.
        separator: the character between columns.
        append: whether to append to an existing file (keeping its columns) instead of replacing it.

    Raises:
        OSError: from `fit`, before training: the file cannot be read, or its folder cannot be written.
        ValueError: from `fit`, after the first epoch: the logs have names without a column in the file.
    """

    _to_resume: ClassVar = {"text": str}

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        file_path(filename, "filename")
        if len(checks.string("separator", separator)) != 1:
            raise ValueError(f"separator must be a single character, not {separator!r}")
        self.filename, self.separator, self.append = os.fspath(filename), separator, checks.flag("append", append)
        self.text = ""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        path = Path(self.filename)
        require_writable_folder(path.parent)
        self.text = path.read_bytes().decode() if self.append and path.exists() else ""
        if self.text and not self.text.endswith("\n"):
            self.text += "\r\n"

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if not self.text:
            names = sorted(logs)
            if not any(name.startswith("val_") for name in names):
                names += [f"val_{name}" for name in names]  # in case a later run appends with validation
            self.text = self._line(["epoch", *names])
        columns = next(csv.reader(io.StringIO(self.text, newline=""), delimiter=self.separator))
        if unknown := ", ".join(sorted(set(logs) - set(columns))):
            raise ValueError(f"{self.filename!r} has no column for {unknown}: its columns are {', '.join(columns)}")
        self.text += self._line([_cell(({"epoch": epoch} | logs).get(name, "NA")) for name in columns])
        with atomic_write(self.filename) as file:
            file.write(self.text.encode())

    def _line(self, cells: Iterable[Any]) -> str:
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self.separator).writerow(cells)
        return line.getvalue()


def _cell(value: Any) -> Any:
    """A value as Keras writes it: several values in brackets and quotes."""
    return f'"[{", ".join(map(str, np.asarray(value).tolist()))}]"' if np.ndim(value) else value


class LearningCurve(Callback):
    """Draws `inspection.learning_curve` after each epoch: in place in a notebook, elsewhere to a file.

    Args:
        path: a PNG file, replaced as a whole after each epoch; None to show it only in a notebook.
        title: title of the picture.

    Raises:
        ValueError: from `fit`, before training: neither a notebook nor a path.
        OSError: from `fit`, before training: the folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, title: str = "") -> None:
        self.path, self.title = None if path is None else file_path(path), checks.string("title", title)
        self.curves = History()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.curves, self.display = History(), None
        if self.path is not None:
            require_writable_folder(self.path.parent)
        elif not in_notebook():
            raise ValueError("LearningCurve needs a path for its picture unless it runs in a notebook")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.curves.on_epoch_end(epoch, logs)
        png = learning_curve(self.curves, title=self.title)._repr_png_()
        if self.path is not None:
            with atomic_write(self.path) as file:
                file.write(png)
        if in_notebook():
            from IPython.display import Image, display

            picture = Image(data=png)
            if self.display is None:
                self.display = display(picture, display_id=True)
            else:
                self.display.update(picture)

    def get_state(self) -> dict[str, Any]:
        return {"epoch": self.curves.epoch, "history": self.curves.history}

    def set_state(self, state: dict[str, Any]) -> None:
        self.curves.epoch, self.curves.history = list(state["epoch"]), {k: list(v) for k, v in state["history"].items()}
