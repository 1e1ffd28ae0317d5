"""The learning rate, from epoch to epoch."""

import inspect
from collections.abc import Callable
from typing import ClassVar

from scratchlstm._support import checks
from scratchlstm._support.console import say
from scratchlstm.callbacks.base import NUMBER, Callback, Logs
from scratchlstm.callbacks.monitor import Monitor


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch, and puts it into the logs as "learning_rate".

    Args:
        schedule: from (epoch, learning rate so far), or from (epoch), to a learning rate above 0.
        verbose: 1 tells the rate.

    Raises:
        ValueError: from `fit`: what schedule gives is no such number.
        TypeError: from `fit`: the optimizer follows a schedule of its own.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = checks.function("schedule", schedule), checks.verbosity(verbose)
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self.takes_rate = True
        except (TypeError, ValueError):  # a function of C has no signature
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

    Puts the rate of each epoch into the logs as "learning_rate".

    Args:
        monitor: name in the logs.
        factor: below 1.
        patience: how many epochs without improvement are borne.
        verbose: 1 tells of what is done.
        mode: "min", "max", or "auto", which knows it for the loss and the model's metrics.
        min_delta: by how much the quantity has to be better to count.
        cooldown: for how many epochs after a reduction no epoch counts as without improvement.
        min_lr: the rate does not fall below it.

    Raises:
        ValueError: a bad argument. From `fit`: a monitor that is not in the logs.
        TypeError: from `fit`: the optimizer follows a schedule.
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
