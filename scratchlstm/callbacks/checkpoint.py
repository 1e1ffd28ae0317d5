"""Save the model, or the whole run, during training."""

import os
import string
from pathlib import Path
from typing import Any, ClassVar

from scratchlstm._support import checks
from scratchlstm._support.console import say
from scratchlstm._support.files import file_path, require_own_ending, require_writable_folder
from scratchlstm.callbacks.base import NUMBER, Callback, Logs
from scratchlstm.callbacks.monitor import Monitor


def _frequency(save_freq: Any) -> int | str:
    by_epoch = isinstance(save_freq, str) and save_freq == "epoch"
    return "epoch" if by_epoch else checks.positive_int("save_freq", save_freq)


class ModelCheckpoint(Monitor):
    """Saves the model (`Model.save`) after each epoch, or only when the monitored quantity is the best so far.

    A file is written completely or not at all: whatever happens, the last good one remains.

    Args:
        filepath: the file; may contain names from the logs, "epoch" (from 1), and "batch" (from 1, if save_freq is a
            number), as in "{epoch:02d}-{val_loss:.2f}.npz". Folders are created. Keras' file extensions are rejected.
        monitor: name in the logs; only used by save_best_only.
        verbose: 1 reports each save.
        save_best_only: save only if the monitored quantity is the best so far.
        save_weights_only: not supported: a model file always holds the whole model.
        mode: "min", "max", or "auto", for the loss and the model's metrics.
        save_freq: "epoch", or the number of batches between saves.
        initial_value_threshold: the best value so far.

    Raises:
        ValueError: a bad argument. From `fit`: monitor, or a name in filepath, is not in the logs.
        OSError: from `fit`, before training: the folder cannot be written, or filepath is a folder.
    """

    _to_resume: ClassVar = {"batches": int, "best": NUMBER}

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if checks.flag("save_weights_only", save_weights_only):
            problem = "save_weights_only=True is not supported: a model file always holds the whole model"
            raise ValueError(f"{problem}, and Sequential.load(path).get_weights() gets its weights")
        require_own_ending(file_path(filepath, "filepath"))
        self.filepath, self.verbose = os.fspath(filepath), checks.verbosity(verbose)
        self.save_best_only, self.save_freq = checks.flag("save_best_only", save_best_only), _frequency(save_freq)
        if initial_value_threshold is not None:
            self.best = checks.number("initial_value_threshold", initial_value_threshold)
        self.batches = 0  # since we last decided whether to save

    @property
    def wants_batches(self) -> bool:
        """Not needed when saving once per epoch, unless a subclass overrides the method."""
        counts = type(self).on_train_batch_end is ModelCheckpoint.on_train_batch_end
        return super().wants_batches and not (counts and self.save_freq == "epoch")

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = self.params.get("epoch", 0)  # a run resumed in mid-epoch does not call on_epoch_begin
        if self.save_best_only:
            super().on_train_begin(logs)
        for _, name, _, _ in string.Formatter().parse(self.filepath):
            if name is not None:
                self._expect(name)
        path = Path(self.filepath)
        if path.is_dir():
            raise IsADirectoryError(f"filepath {self.filepath!r} is a folder; name a file in it")
        require_writable_folder(next(folder for folder in path.parents if "{" not in str(folder)))

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.batches += 1
        if self.batches == self.save_freq:
            self.batches = 0
            self._save(logs or {}, batch=batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch = epoch
        if self.save_freq == "epoch":
            self._save(logs or {})

    def _save(self, logs: Logs, **batch: int) -> None:
        names = {"epoch": self.epoch + 1} | batch | logs
        try:
            path = self.filepath.format(**names)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            known = ", ".join(names)
            raise ValueError(f"filepath {self.filepath!r} cannot be filled in from {known}: {error!r}") from None
        start = f"Epoch {self.epoch + 1}:"
        if self.save_best_only:
            current = self._current(logs)
            if not self._improves(current, self.best):
                say(f"{start} {self.monitor} did not improve from {self.best}", when=self.verbose)
                return
            self.best = current
            start += f" {self.monitor} improved to {current:.5f},"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.model.save(path)
        say(f"{start} model saved to {path}", when=self.verbose)


class Checkpoint(Callback):
    """Saves the run to a file, from which `fit(..., resume=path)` continues it bit for bit (docs/files.md).

    The file is written after all callbacks have run, completely or not at all, and replaces the one before.

    Args:
        path: the file; its folder is created if needed. Keras' file extensions are rejected.
        save_freq: "epoch" saves after each epoch; a number also saves after every that many batches of an epoch.

    Raises:
        TypeError, ValueError: invalid arguments.
        OSError: the file cannot be written; the previous one is still there.
    """

    def __init__(self, path: str | os.PathLike[str], save_freq: str | int = "epoch") -> None:
        require_own_ending(file_path(path))
        self.path, self.save_freq = file_path(path), _frequency(save_freq)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        require_writable_folder(self.path.parent)
