"""The base class of callbacks, and `fit`'s list of them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from scratchlstm._support import checks
from scratchlstm._support.console import number
from scratchlstm._support.notebook import table

if TYPE_CHECKING:
    from scratchlstm.models.model import Model

Logs = dict[str, Any]  # name -> float, or a list of floats if a metric has several values
NUMBER = int, float  # for `isinstance`
_MOST_EPOCHS = 20  # the most epochs of which a notebook shows each


class Callback:
    """Code to run at certain points of `fit`; override the methods you need.

    Setting `self.model.stop_training = True` ends training after the current batch and the epoch's validation. At the
    end of a batch or epoch `logs` holds the loss and metrics so far; anything added to it at the end of an epoch goes
    into the history. Epochs and batches count from 0.

    Attributes:
        model: the model being trained.
        params: "epochs", "epoch" (the first to train, from 0), "steps" per epoch, "verbose", and "metrics", the names
            that an epoch's logs will have.
    """

    model: "Model"
    params: Mapping[str, Any] = {}
    # in our callbacks: attributes restored by a resumed run, and what each may be in a file besides None
    _to_resume: ClassVar[Mapping[str, type | tuple[type, ...]]] = {}
    _once: ClassVar = False  # whether a second one would undo the first one's work

    @property
    def wants_batches(self) -> bool:
        """Whether `on_train_batch_end` does anything; if so, each batch has to wait for the GPU."""
        return self._acts("on_train_batch_end")

    @property
    def moments(self) -> set[str]:
        """The names of the methods that do something when `fit` calls them."""
        own = {name for name in dir(Callback) if name.startswith("on_") and self._acts(name)}
        return own if self.wants_batches else own - {"on_train_batch_end"}

    def _acts(self, moment: str) -> bool:
        return getattr(getattr(self, moment), "__func__", None) is not getattr(Callback, moment)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called once before training."""
        self.params = params

    def set_model(self, model: "Model") -> None:
        """Called once before training."""
        self.model = model

    def get_state(self) -> dict[str, Any]:
        """The state a resumed run needs to continue exactly: JSON values, arrays, lists of arrays."""
        return {name: getattr(self, name) for name in self._to_resume}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`; called after `on_train_begin`.

        Raises:
            ValueError: a state with the wrong names or types for one of our callbacks.
        """
        if not self._to_resume:
            return
        if not isinstance(state, dict) or set(state) != set(self._to_resume):
            raise ValueError(f"a state of {type(self).__name__} must have {', '.join(self._to_resume)}, not {state!r}")
        for name, value in state.items():
            if value is not None and (not isinstance(value, self._to_resume[name]) or isinstance(value, bool)):
                raise ValueError(f"{name} in the state of {type(self).__name__} cannot be {value!r}")
        vars(self).update(state)

    def _require_weights(self, name: str, state: Any) -> None:
        """Raise an error if a state has weights of that name that do not fit this model."""
        weights = state.get(name) if isinstance(state, dict) else None
        if weights is not None and [np.shape(w) for w in weights] != [w.shape for w in self.model.params]:
            raise ValueError(f"{name} in the state of {type(self).__name__} do not fit this model")

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch; not after an error."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an epoch's validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an epoch's validation, with its loss and metrics."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch's first batch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch's update."""


class History(Callback):
    """The record of training that `fit` returns.

    Attributes:
        epoch: numbers of the completed epochs, from 0.
        history: "accuracy", "loss", ..., then "val_accuracy", "val_loss", ...: a list with one float per epoch (or one
            list of floats, if a metric has several values).
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        count = len(self.epoch)
        last = ", ".join(f"{name} {number(values[-1])}" for name, values in self.history.items() if values)
        return f"<History of {count} epoch{'s' * (count != 1)}{last and f', the last with {last}'}>"

    def _repr_html_(self) -> str:
        """The values after each epoch as a table for a notebook, for the names that have one per epoch."""
        every = {name: values for name, values in self.history.items() if len(values) == len(self.epoch)}
        rows = [
            [str(epoch + 1), *map(number, values)] for epoch, *values in zip(self.epoch, *every.values(), strict=True)
        ]
        if len(rows) > _MOST_EPOCHS:
            rows[_MOST_EPOCHS // 2 : -_MOST_EPOCHS // 2] = [["…"] * len(rows[0])]
        return table("", ["epoch", *every], rows)


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin, on_epoch_end: called with (epoch, logs).
        on_train_begin, on_train_end: called with (logs).
        on_train_batch_begin, on_train_batch_end: called with (batch, logs).
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs], Any] | None = None,
    ) -> None:
        given = {name: f for name, f in locals().items() if name.startswith("on_") and f is not None}
        for name, function in given.items():
            setattr(self, name, checks.function(name, function))


def check(callbacks: Any) -> list[Callback]:
    """A list of callbacks, from a list, a single callback or None.

    Raises:
        TypeError: something is not a `Callback`, or has a method that is never called, such as Keras'
            on_test_batch_end.
        ValueError: several callbacks of a kind that may occur only once.
    """
    if callbacks is None:
        return []
    callbacks = [callbacks] if isinstance(callbacks, Callback) else callbacks
    for callback in checks.instance("callbacks", callbacks, list | tuple, "a list of Callback objects"):
        checks.instance("callbacks", callback, Callback, "Callback objects")
        unknown = [name for name in dir(callback) if name.startswith("on_") and not hasattr(Callback, name)]
        if unknown:
            called = ", ".join(name for name in dir(Callback) if name.startswith("on_"))
            raise TypeError(f"{type(callback).__name__} has {', '.join(unknown)}, but fit calls only {called}")
    for kind in {type(callback) for callback in callbacks if callback._once}:
        if sum(isinstance(callback, kind) for callback in callbacks) > 1:
            raise ValueError(f"callbacks must hold only one {kind.__name__}, but there are several: remove the others")
    return list(callbacks)
