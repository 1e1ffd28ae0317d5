"""End training early."""

import math
from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.console import say
from scratchlstm.callbacks.base import NUMBER, Callback, Logs
from scratchlstm.callbacks.monitor import Monitor


class EarlyStopping(Monitor):
    """Ends training when the monitored quantity has not improved for some epochs.

    Args:
        monitor: name in the logs.
        min_delta: the smallest change that counts as an improvement.
        patience: number of epochs without improvement before training ends; 0 and 1 both end it at the first one.
        verbose: 1 reports when training ends.
        mode: "min", "max", or "auto", for the loss and the model's metrics.
        baseline: an improvement resets the count only if it also beats this value.
        restore_best_weights: whether the model ends up with the weights of its best epoch (among those from
            start_from_epoch on, whatever the baseline).
        start_from_epoch: number of initial epochs to ignore.

    Attributes:
        best, best_epoch: the best value and its epoch, from 0.
        stopped_epoch: the epoch, from 0, after which this callback ended training; 0 if it did not.
        wait: number of epochs since the last improvement.

    Raises:
        ValueError: a bad argument. From `fit`: monitor is not in the logs.
    """

    _to_resume: ClassVar = {"best": NUMBER, "best_epoch": int, "best_weights": list, "stopped_epoch": int, "wait": int}

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose = checks.whole_number("patience", patience), checks.verbosity(verbose)
        self.baseline = None if baseline is None else checks.number("baseline", baseline)
        self.restore_best_weights = checks.flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = checks.whole_number("start_from_epoch", start_from_epoch)
        self._start()

    def _start(self) -> None:
        self.best = None
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        self._start()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = self._current(logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self._improves(current, self.best)
        if improved or (self.restore_best_weights and self.best_weights is None):
            self.best_epoch = epoch
            self.best_weights = self.model.get_weights() if self.restore_best_weights else None
        if improved:
            self.best = current
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        say(f"Epoch {self.stopped_epoch + 1}: early stopping", when=self.stopped_epoch and self.verbose)
        if self.best_weights is not None:
            say(f"Restored the weights of the best epoch: {self.best_epoch + 1}.", when=self.verbose)
            self.model.set_weights(self.best_weights)

    def set_state(self, state: dict[str, Any]) -> None:
        self._require_weights("best_weights", state)
        super().set_state(state)


class TerminateOnNaN(Callback):
    """Ends training when the loss becomes NaN or infinite, instead of the FloatingPointError that `fit` would raise.

    As in Keras, the epoch counts, its loss is NaN, its validation runs and `on_train_end` is called. Unlike in Keras,
    the bad batch updates nothing: the model keeps its parameters from before it. A NaN or infinite gradient, which is
    possible with a finite loss, is treated the same way.

    Args:
        raise_error: raise an error instead.

    Raises:
        RuntimeError: from `fit`, if raise_error.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = checks.flag("raise_error", raise_error)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if math.isfinite((logs or {}).get("loss", 0.0)):
            return
        if self.raise_error:
            raise RuntimeError(f"the loss of batch {batch} is NaN or infinite; its update was skipped")
        say(f"Batch {batch}: the loss is NaN or infinite, so training ends")
        self.model.stop_training = True
