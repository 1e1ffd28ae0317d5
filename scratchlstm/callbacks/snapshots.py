"""Record a model's weights as it learns."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import checks
from scratchlstm.callbacks.base import Callback, Logs


class Snapshots(Callback):
    """Keeps copies of the model's weights, so that `inspection.explore` can show how its gates learned.

    One copy is made before training and one after each epoch; each takes as much memory as the model's weights.

    Args:
        every: number of epochs between copies.

    Attributes:
        snapshots: (epoch, weights) pairs: epoch is the number of completed epochs, starting at 0, and weights are as
            returned by `get_weights`.
    """

    _to_resume: ClassVar = {"epochs": list, "copies": list}

    def __init__(self, every: int = 1) -> None:
        self.every = checks.positive_int("every", every)
        self.epochs: list[int] = []
        self.copies: list[np.ndarray] = []  # all arrays of the first copy, then those of the second, ...

    @property
    def snapshots(self) -> list[tuple[int, list[np.ndarray]]]:
        size = len(self.copies) // len(self.epochs) if self.epochs else 0
        return [(epoch, self.copies[n * size : (n + 1) * size]) for n, epoch in enumerate(self.epochs)]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epochs, self.copies = [self.params["epoch"]], self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if (epoch + 1) % self.every == 0:
            self.epochs.append(epoch + 1)
            self.copies += self.model.get_weights()

    def set_state(self, state: dict[str, Any]) -> None:
        epochs, copies = (state.get(name) if isinstance(state, dict) else None for name in self._to_resume)
        if isinstance(epochs, list) and isinstance(copies, list):
            shapes = [w.shape for w in self.model.params] * len(epochs)
            if [np.shape(copy) for copy in copies] != shapes:
                raise ValueError("copies in the state of Snapshots do not fit this model")
        super().set_state(state)
