"""Validate and save with the moving averages of the weights."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import checks
from scratchlstm.callbacks.base import Callback, Logs


class SwapEMAWeights(Callback):
    """Validates with the moving averages kept by an optimizer with `use_ema=True`, then continues training the weights.

    Meanwhile the weights are kept in CPU memory; after an error during validation the model has the averages. (Keras
    exchanges the two in place. With `swap_on_epoch`, a run that stops before its last epoch ends with the weights in
    Keras; here it always ends with the averages.)

    Args:
        swap_on_epoch: whether the model also has the averages from the end of each epoch to the start of the next, for
            callbacks after this one in the list, such as `ModelCheckpoint` and `EarlyStopping`. Without it, or placed
            before this one, they save and restore weights other than those validated (as in Keras). After Ctrl-C the
            model has the averages of the last completed epoch.

    Raises:
        TypeError: `swap_on_epoch` is not a bool.
        ValueError: from `fit`, before training: the optimizer keeps no averages.
    """

    _to_resume: ClassVar = {"weights": list}
    _once: ClassVar = True  # a second one would mistake the averages for the weights

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = checks.flag("swap_on_epoch", swap_on_epoch)
        self.weights: list[np.ndarray] | None = None  # while the model has the averages

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not self.model.optimizer.use_ema:
            raise ValueError("SwapEMAWeights needs averages: compile with an optimizer that has use_ema=True")
        self.weights = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._swap_back()

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._swap()

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._swap_back()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.swap_on_epoch:
            self._swap()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.weights = None  # from here on the model has the averages

    def _swap(self) -> None:
        self.weights = self.model.get_weights()
        self.model.take_averages()

    def _swap_back(self) -> None:
        if self.weights is not None:
            self.model.set_weights(self.weights)
            self.weights = None

    def set_state(self, state: dict[str, Any]) -> None:
        self._require_weights("weights", state)
        super().set_state(state)
