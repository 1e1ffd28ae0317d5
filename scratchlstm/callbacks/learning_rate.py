"""Change the learning rate from epoch to epoch."""

import inspect
from collections.abc import Callable
from typing import ClassVar

from scratchlstm._support import checks
from scratchlstm._support.console import say
from scratchlstm.callbacks.base import NUMBER, Callback, Logs
from scratchlstm.callbacks.monitor import Monitor


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch, and logs it as "learning_rate".

    Args:
        schedule: called with (epoch, current learning rate) or (epoch); returns a learning rate above 0.
        verbose: 1 prints the rate.

    Raises:
        ValueError: from `fit`: schedule returned something else.
        TypeError: from `fit`: the optimizer has a schedule of its own.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = checks.function("schedule", schedule), checks.verbosity(verbose)
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self.takes_rate = True
        except (TypeError, ValueError):  # C functions have no signature
            self.takes_rate = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        optimizer.learning_rate = self.schedule(*([epoch, optimizer.learning_rate] if self.takes_rate else [epoch]))
        say(f"Epoch {epoch + 1}: learning rate set to {optimizer.learning_rate}.", when=self.verbose)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by `factor` when the monitored quantity has not improved for some epochs.

    Logs the rate of each epoch as "learning_rate".

    Args:
        monitor: name in the logs.
        factor: below 1.
        patience: number of epochs without improvement before the rate is reduced.
        verbose: 1 reports each reduction.
        mode: "min", "max", or "auto", for the loss and the model's metrics.
        min_delta: the smallest change that counts as an improvement.
        cooldown: number of epochs after a reduction before counting starts again.
        min_lr: lower bound of the rate.

    Raises:
        ValueError: a bad argument. From `fit`: monitor is not in the logs.
        TypeError: from `fit`: the optimizer has a schedule of its own.
    """

    _to_resume: ClassVar = {"best": NUMBER, "cooldown_counter": int, "wait": int}

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = checks.number("factor", factor, above=0, below=1)
        self.patience, self.verbose = checks.whole_number("patience", patience), checks.verbosity(verbose)
        self.cooldown = checks.whole_number("cooldown", cooldown)
        self.min_lr = checks.number("min_lr", min_lr, at_least=0)
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        self.model.optimizer.require_settable()
        self.best = None
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if logs is not None:
            logs["learning_rate"] = optimizer.learning_rate
        current = self._current(logs)
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best, self.wait = current, 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.wait, self.cooldown_counter = 0, self.cooldown
                say(f"Epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate}.", when=self.verbose)
