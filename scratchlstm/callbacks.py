"""Hooks into training, with Keras' names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scratchlstm.checks import positive_int
from scratchlstm.files import require_writable_folder

if TYPE_CHECKING:
    from scratchlstm.model import Sequential

Logs = dict[str, float]


class Callback:
    """What to do at certain moments of `fit`; override the methods you need.

    Setting `self.model.stop_training = True` ends training after the running batch and its epoch's validation. At the
    end of a batch or epoch `logs` holds the loss and metrics so far; what is added to it at the end of an epoch goes
    into the history. Epochs and batches count from 0.
    """

    model: "Sequential"

    def set_model(self, model: "Sequential") -> None:
        """Called once, before training."""
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch; not after an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch's first batch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch's update."""

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint has to keep of this callback: numbers, strings, lists, dicts, arrays."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave; called after `on_train_begin` where `fit` resumes a run."""


class History(Callback):
    """What `fit` returns.

    Attributes:
        epoch: numbers of the completed epochs, from 0.
        history: "accuracy", "loss", ..., then "val_accuracy", "val_loss", ...: a list with one float per epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class Checkpoint(Callback):
    """Keeps the run in a file, from which `fit(..., resume=path)` continues it bit for bit (docs/files.md).

    The file is written when all callbacks are done, whole or not at all; each one takes the place of the one before.

    Args:
        path: the file, in a folder that is made if need be.
        save_freq: "epoch" writes after each epoch, a number also after every so many batches of an epoch.

    Raises:
        TypeError, ValueError: other arguments.
        OSError: the file cannot be written; the one before is still there.
    """

    def __init__(self, path: str | os.PathLike[str], save_freq: str | int = "epoch") -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be that of a file, not {path!r}")
        self.path = Path(path)
        self.save_freq = save_freq if save_freq == "epoch" else positive_int("save_freq", save_freq)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        require_writable_folder(self.path.parent)


def check(callbacks: Any) -> list[Callback]:
    """A list of callbacks from a list, one callback or None.

    Raises:
        TypeError: naming what is no `Callback`.
    """
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback):
        return [callbacks]
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of Callback objects, not {callbacks!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be Callback objects, not {callback!r}")
    return list(callbacks)
