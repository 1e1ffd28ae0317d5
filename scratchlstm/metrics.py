"""Metrics: running means over an epoch, with Keras' names."""

from typing import Any

import numpy as np

from scratchlstm import checks, registry


class Metric:
    """The mean of `matches` over all samples since `reset`. Sample weights do not enter (as in Keras).

    Args:
        name: the key in `History`. Default: the class's name in snake case.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = checks.string("name", name) if name else registry.snake_case(type(self).__name__)
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self.total, self.count = 0.0, 0

    def update(self, y_true: Any, y_pred: np.ndarray) -> None:
        """Add a batch."""
        self.add(*self.measure(np.asarray(y_true), np.asarray(y_pred)))

    def measure(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[int, int]:
        """How many predictions of a batch are right, and how many there are."""
        matches = self.matches(self.align(y_true, y_pred), y_pred)
        return int(np.count_nonzero(matches)), matches.size

    def add(self, total: float, count: int) -> None:
        """Add what `measure` found."""
        self.total += total
        self.count += count

    def result(self) -> float:
        """The mean so far; 0.0 before any batch."""
        return self.total / self.count if self.count else 0.0

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """y_true in the shape that `matches` compares.

        Raises:
            ValueError: targets that do not fit the predictions.
        """
        raise NotImplementedError

    def matches(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """For each prediction whether it is right."""
        raise NotImplementedError

    def _require(self, y_true: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if y_true.shape != shape:
            raise ValueError(f"the metric {self.name} takes targets of shape {shape} here, not {y_true.shape}")
        return y_true

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal metric."""
        return {"name": self.name}


class BinaryAccuracy(Metric):
    """How often p > threshold equals the label.

    Args:
        name: see `Metric`.
        threshold: p has to be above it, not on it.
    """

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = checks.number("threshold", threshold)

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
            y_true = y_true[..., None]
        return self._require(y_true, y_pred.shape)

    def matches(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return (y_pred > self.threshold) == y_true

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"threshold": self.threshold}


class CategoricalAccuracy(Metric):
    """How often the largest prediction is at the largest entry of a one-hot target."""

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._require(y_true, y_pred.shape)

    def matches(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.argmax(y_pred, axis=-1) == np.argmax(y_true, axis=-1)


class SparseCategoricalAccuracy(Metric):
    """How often the largest prediction is at the class number."""

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
            y_true = y_true[..., 0]
        return self._require(y_true, y_pred.shape[:-1])

    def matches(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.argmax(y_pred, axis=-1) == y_true


class Accuracy(Metric):
    """Binary, categorical or sparse accuracy, whichever the shapes ask for (Keras' rule for "accuracy")."""

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if y_pred.shape[-1] == 1:
            self.form: Metric = BinaryAccuracy(self.name)
        elif y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            self.form = SparseCategoricalAccuracy(self.name)
        else:
            self.form = CategoricalAccuracy(self.name)
        return self.form.align(y_true, y_pred)

    def matches(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self.form.matches(y_true, y_pred)


_KNOWN = registry.by_both_names(BinaryAccuracy, CategoricalAccuracy, SparseCategoricalAccuracy, Accuracy)


def get(identifier: Any) -> Metric:
    """The metric of that name ("accuracy" or "acc" chooses its form by the shapes); a name becomes its key.

    Raises:
        ValueError: unknown name; the known ones are listed.
        TypeError: neither a name nor a `Metric`.
    """
    if identifier == "acc":
        return Accuracy(name="acc")
    return registry.resolve("metric", identifier, _KNOWN, Metric)
