"""The base class of callbacks that monitor one quantity."""

import math

import numpy as np

from scratchlstm._support import checks
from scratchlstm.callbacks.base import Callback, Logs


class Monitor(Callback):
    """Monitors one quantity of the logs.

    Args:
        monitor: its name in the logs.
        mode: "min" or "max", whichever is better; "auto" decides for the loss and the model's metrics (Keras' rule).
        min_delta: the smallest change that counts as an improvement.

    Raises:
        ValueError: from `fit`, before training: "auto" for a name it does not know, or a validation quantity when there
            is no validation. After the first epoch: no such name in the logs, or several values. (Keras warns after
            each epoch, and the callback does nothing.)
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        self.monitor, self.mode = checks.string("monitor", monitor), checks.one_of("mode", mode, ("auto", "min", "max"))
        self.min_delta = abs(checks.number("min_delta", min_delta))
        self.best: float | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.sign = {"min": -1, "max": 1}[self._direction()]
        self._expect(self.monitor)

    def _direction(self) -> str:
        if self.mode != "auto":
            return self.mode
        directions = {"loss": "min"} | {name: metric.direction for name, metric in self.model.measured.items()}
        if (direction := directions.get(self.monitor.removeprefix("val_"))) is None:
            problem = f"{type(self).__name__} cannot tell whether {self.monitor!r} should increase or decrease"
            known = ", ".join(self.params.get("metrics", directions))
            raise ValueError(f'{problem}: give mode="max" or mode="min", or monitor one of {known}')
        return direction

    def _expect(self, name: str) -> None:
        """Raise an error if `name` is a validation quantity and there will be no validation."""
        names = self.params.get("metrics", [])
        if name not in names and name.removeprefix("val_") in names:
            needed = f"{name!r}, which requires validation_data or validation_split in fit"
            raise ValueError(f"{type(self).__name__} needs {needed}")

    def _current(self, logs: Logs | None) -> float:
        if self.monitor not in (logs := logs or {}):
            raise ValueError(f"{type(self).__name__} monitors {self.monitor!r}, but the logs hold {', '.join(logs)}")
        if np.ndim(logs[self.monitor]):
            todo = "make the metric return one (with average, or a single threshold)"
            raise ValueError(f"{type(self).__name__} monitors {self.monitor!r}, which has several values: {todo}")
        return float(logs[self.monitor])

    def _improves(self, value: float, on: float | None) -> bool:
        """Whether `value` is better by more than min_delta. (NaN never is; in Keras a first NaN remains the best.)"""
        if on is None:
            return not math.isnan(value)
        return self.sign * (value - on) > self.min_delta
