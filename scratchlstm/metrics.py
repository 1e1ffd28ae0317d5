"""Metrics, with Keras' names: sums over the batches of an epoch, and a value computed from them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm import losses
from scratchlstm._support import checks, masks, registry
from scratchlstm.backend import Array, beside
from scratchlstm.gates import sigmoid

Value = float | list[float]


class Metric(registry.Configured):
    """A function of sums over all samples since `reset`; sample weights are ignored (as in Keras).

    Args:
        name: the key in `History`. Default: the class's name in snake case.

    Attributes:
        direction: "max" or "min", whichever is better; None if neither is.
    """

    direction: ClassVar[str | None] = None
    on_gpu: ClassVar[bool] = False  # whether `measure` works on the predictions' device, or only on the CPU
    uses_mask: ClassVar[bool] = False  # whether `measure` takes the predictions' mask, as Keras' accuracies do

    def __init__(self, name: str | None = None) -> None:
        self.name = registry.snake_case(type(self).__name__) if name is None else checks.string("name", name)
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.sums: Any = 0  # can be added to any result of `measure`

    def update(self, y_true: Any, y_pred: Any) -> None:
        """Add a batch."""
        y_true, y_pred = checks.array("y_true", y_true, numeric=True), checks.array("y_pred", y_pred, numeric=True)
        self.add(self.measure(y_true, y_pred if y_pred.dtype.kind == "f" else y_pred.astype(np.float64)))

    def measure(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Sums over a batch, int64 or float64; those of several batches (or parts of one) add up to those of all."""
        raise NotImplementedError(f"{type(self).__name__} must define measure(y_true, y_pred)")

    def add(self, sums: Any) -> None:
        """Add sums from `measure`."""
        self.sums = self.sums + sums

    def result(self) -> Value:
        """The value so far, a list if the metric has several; 0.0 before any batch."""
        return self.value(self.sums) if np.ndim(self.sums) else 0.0

    def value(self, sums: np.ndarray) -> Value:
        """The value of these sums; if `measure` returns [total, count], it is their quotient."""
        return float(sums[0] / sums[1]) if sums[1] else 0.0

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """y_true in the shape to compare with y_pred: that of the predictions, where (B,) matches (B, 1).

        Raises:
            ValueError: targets that do not match the predictions.
        """
        if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
            y_true = y_true[..., None]
        return self._require(y_true, y_pred.shape)

    def _require_rows(self, y_pred: np.ndarray) -> np.ndarray:
        if y_pred.ndim != 2:
            raise ValueError(f"the metric {self.name} takes predictions (B, C), not {y_pred.shape}")
        return y_pred

    def _require(self, y_true: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if y_true.shape != shape:
            raise ValueError(
                f"the metric {self.name} takes targets of shape {shape} for these predictions, not {y_true.shape}"
            )
        return y_true


class _Mean(Metric):
    """The mean of one value per prediction, over the predictions that are not masked."""

    uses_mask = True
    on_gpu = True

    def measure(self, y_true: Array, y_pred: Array, mask: np.ndarray | None = None) -> Array:
        values = self.values(self.align(y_true, y_pred), y_pred)
        count = values.size
        if mask is not None:
            mask = masks.over(mask, values.shape)
            values, count = values * beside(values, mask), np.count_nonzero(mask)
        total = np.sum(values, dtype=np.int64 if values.dtype == bool else np.float64)
        return np.stack([total, np.full_like(total, count)])

    def values(self, y_true: Array, y_pred: Array) -> Array:
        """The value of each prediction, (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must define values(y_true, y_pred)")


class _Matches(_Mean):
    """How often a prediction is correct."""

    direction = "max"


class BinaryAccuracy(_Matches):
    """How often p > threshold equals the label.

    Args:
        name: see `Metric`.
        threshold: p must be above it, not equal to it.
    """

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = checks.number("threshold", threshold)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return (y_pred > self.threshold) == y_true


class CategoricalAccuracy(_Matches):
    """How often the largest prediction is at the largest entry of a one-hot target."""

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._require(y_true, y_pred.shape)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.argmax(y_pred, axis=-1) == np.argmax(y_true, axis=-1)


class SparseCategoricalAccuracy(_Matches):
    """How often the largest prediction is at the target class."""

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
            y_true = y_true[..., 0]
        return self._require(y_true, y_pred.shape[:-1])

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.argmax(y_pred, axis=-1) == y_true


class Accuracy(_Matches):
    """Binary, categorical or sparse accuracy, depending on the shapes (Keras' rule for "accuracy")."""

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if y_pred.shape[-1] == 1:
            self.form: _Matches = BinaryAccuracy(self.name)
        elif y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            self.form = SparseCategoricalAccuracy(self.name)
        else:
            self.form = CategoricalAccuracy(self.name)
        return self.form.align(y_true, y_pred)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self.form.values(y_true, y_pred)


def _above(thresholds: Sequence[float], labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How often scores are above each threshold (not equal to it), (4, thresholds): TP, FP, FN, TN."""
    levels, flat, positive = np.asarray(thresholds, dtype=scores.dtype), scores.ravel(), labels.ravel().astype(bool)
    above, below = [], []
    for of_label in (flat[positive], flat[~positive]):
        above.append(np.searchsorted(np.sort(-of_label), -levels))  # NaN sorts to the end, so it is above none
        below.append(len(of_label) - above[-1])
    return np.array([*above, *below], dtype=float)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A / b; 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


class _Retrieval(Metric):
    """True positives among the predicted or the actual positives, for each threshold."""

    direction = "max"
    mistakes: ClassVar[int]  # which counts of `_above` lower it

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        several = isinstance(thresholds, list | tuple | np.ndarray)
        given = [] if thresholds is None else thresholds if several else [thresholds]
        chosen = checks.numbers("thresholds", given, at_least=0, at_most=1)
        if several and not chosen:
            raise ValueError("thresholds must contain at least one number")
        self.thresholds = None if thresholds is None else chosen if several else chosen[0]
        self.top_k = None if top_k is None else checks.positive_int("top_k", top_k)
        self.class_id = None if class_id is None else checks.whole_number("class_id", class_id)
        # Keras' default: among the top k, any score is positive
        self._levels = chosen or [0.5 if top_k is None else -np.inf]

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        for name, value, most in (("top_k", self.top_k, 0), ("class_id", self.class_id, 1)):
            if value is not None and value > y_pred.shape[-1] - most:
                raise ValueError(f"{name}={value} of the metric {self.name} does not match predictions {y_pred.shape}")
        return super().align(y_true, y_pred)

    def measure(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        y_true = self.align(y_true, y_pred)
        if self.top_k is not None:
            rest = np.argsort(-y_pred, axis=-1, kind="stable")[..., self.top_k :]
            y_pred = y_pred.copy()
            np.put_along_axis(y_pred, rest, -np.inf, axis=-1)
        if self.class_id is not None:
            y_true, y_pred = y_true[..., self.class_id], y_pred[..., self.class_id]
        return _above(self._levels, y_true, y_pred)[[0, self.mistakes]]  # (2, thresholds)

    def value(self, sums: np.ndarray) -> Value:
        values = _divide(sums[0], sums[0] + sums[1]).tolist()
        return values if len(values) > 1 else values[0]


class Precision(_Retrieval):
    """The fraction of predicted positives that are positive: TP / (TP + FP); 0 if there are none.

    Labels and predictions have the same shape, (B, ..., D), and each entry counts separately. A nonzero label is
    positive, and so is a prediction above the threshold (not equal to it). Several thresholds give a list of values.

    Args:
        thresholds: a number from 0 to 1, or several. Default: 0.5; with top_k, none.
        top_k: only the k largest predictions along the last axis can be positive.
        class_id: only this index of the last axis counts.
        name: see `Metric`.
    """

    mistakes = 1  # FP


class Recall(_Retrieval):
    """The fraction of positives that are predicted as such: TP / (TP + FN); 0 if there are none.

    Args:
        thresholds, top_k, class_id, name: see `Precision`.
    """

    mistakes = 2  # FN


_MOST_THRESHOLDS = 100_000  # so that a number in a file cannot fill the memory


class AUC(Metric):
    """The area under a curve of a falling threshold: true against false positives, or precision against recall.

    It is approximated between evenly spaced thresholds, as in Keras; the counts at each are exact. Labels and
    predictions have the same shape, and each entry counts separately.

    Args:
        num_thresholds: number of thresholds, at least 2, from just below 0 to just above 1.
        curve: "ROC" (true positive rate over false positive rate) or "PR" (precision over recall).
        summation_method: "interpolation" (trapezoids; for PR, the true positives are interpolated linearly between
            thresholds, as in Davis & Goadrich 2006, section 4), "minoring" or "majoring" (the lower or the higher end).
        name: see `Metric`.
        thresholds: numbers from 0 to 1 to use between the first and the last threshold instead of evenly spaced ones.
        from_logits: whether predictions are logits.

    Raises:
        ValueError: a bad argument. From `measure`: predictions outside 0 to 1 (Keras clips them).
    """

    direction = "max"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        *,
        thresholds: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name)
        self.curve = checks.one_of("curve", curve, ("ROC", "PR"))
        methods = ("interpolation", "minoring", "majoring")
        self.summation_method = checks.one_of("summation_method", summation_method, methods)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.thresholds = thresholds
        if thresholds is not None:
            self.thresholds = sorted(checks.numbers("thresholds", thresholds, at_least=0, at_most=1))
            num_thresholds = len(self.thresholds) + 2
        self.num_thresholds = checks.whole_number("num_thresholds", num_thresholds, at_least=2)
        if self.num_thresholds > _MOST_THRESHOLDS:
            raise ValueError(f"num_thresholds must be at most {_MOST_THRESHOLDS:,}, not {num_thresholds}")

    def measure(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        y_true = self.align(y_true, y_pred)
        if self.from_logits:
            y_pred = sigmoid(y_pred)
        elif y_pred.size and not -1e-6 <= y_pred.min() <= y_pred.max() <= 1 + 1e-6:
            raise ValueError(
                f"the metric {self.name} takes predictions from 0 to 1, but they range from {y_pred.min()} to "
                f"{y_pred.max()}; for logits use from_logits=True"
            )
        last = self.num_thresholds - 1
        between = np.arange(1, last) / last if self.thresholds is None else self.thresholds
        return _above([-1e-7, *between, 1 + 1e-7], y_true, np.clip(y_pred, 0, 1))

    def value(self, sums: np.ndarray) -> float:
        tp, fp, fn, tn = sums  # each is monotonic along the thresholds
        if self.curve == "PR" and self.summation_method == "interpolation":
            return float(np.sum(self._interpolated(tp, fp, fn)))
        recall = _divide(tp, tp + fn)
        x, y = (_divide(fp, fp + tn), recall) if self.curve == "ROC" else (recall, _divide(tp, tp + fp))
        low, high = np.minimum(y[:-1], y[1:]), np.maximum(y[:-1], y[1:])
        heights = {"interpolation": (low + high) / 2, "minoring": low, "majoring": high}[self.summation_method]
        return float(np.sum((x[:-1] - x[1:]) * heights))

    def _interpolated(self, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
        """The area of each segment of the PR curve.

        Between two thresholds, p = TP + FP predictions are above: TP = a + s p, so ∫ (TP / p) dTP is
        s (ΔTP + a log(p_low / p_high)), over all positives.
        """
        p = tp + fp
        dtp, dp = tp[:-1] - tp[1:], p[:-1] - p[1:]
        slope = _divide(dtp, dp)
        intercept = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0) & (p[1:] > 0)
        log_ratio = np.log(np.divide(p[:-1], p[1:], out=np.ones_like(p[1:]), where=both))
        return _divide(slope * (dtp + intercept * log_ratio), tp[1:] + fn[1:])


class F1Score(Metric):
    """The harmonic mean of precision and recall, 2 P R / (P + R), for each class.

    Labels (one-hot or multi-hot) and predictions are (B, C). With a single column of predictions and no threshold,
    everything is positive (as in Keras): set a threshold.

    Args:
        average: None returns a list, one value per class; "micro" pools the counts of all classes; "macro" is the mean
            over classes; "weighted" is the mean weighted by how often each class is true.
        threshold: predictions above it are positive, in (0, 1]; None: the largest in each row is.
        name: see `Metric`.

    Raises:
        ValueError: a bad argument.
    """

    direction = "max"

    def __init__(self, average: str | None = None, threshold: float | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.average = checks.one_of("average", average, (None, "micro", "macro", "weighted"))
        self.threshold = None if threshold is None else checks.number("threshold", threshold, above=0, at_most=1)

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return super().align(y_true, self._require_rows(y_pred))

    def measure(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        y_true = self.align(y_true, y_pred).astype(np.float64)
        if self.threshold is None:  # a row of zeros has no largest value
            said = (y_pred >= np.max(y_pred, axis=-1, keepdims=True)) & (np.abs(y_pred) > 1e-9)
        else:
            said = y_pred > self.threshold
        return np.stack([np.sum(part, axis=0) for part in (said * y_true, said * (1 - y_true), ~said * y_true, y_true)])

    def value(self, sums: np.ndarray) -> Value:
        if self.average == "micro":
            sums = sums.sum(axis=1, keepdims=True)
        tp, fp, fn, support = sums
        epsilon = 1e-7  # Keras' value
        precision, recall = tp / (tp + fp + epsilon), tp / (tp + fn + epsilon)
        scores = 2 * precision * recall / (precision + recall + epsilon)
        if self.average is None:
            return scores.tolist()
        if self.average == "weighted":
            return float(np.sum(scores * support / (np.sum(support) + epsilon)))
        return float(np.mean(scores))


class MeanSquaredError(_Mean):
    """(y - p)², mean over the last axis and all predictions."""

    direction = "min"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return np.mean(np.square(y_pred - y_true), axis=-1)


class MeanAbsoluteError(_Mean):
    """`|y - p|`, mean over the last axis and all predictions."""

    direction = "min"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return np.mean(np.abs(y_pred - y_true), axis=-1)


class RootMeanSquaredError(MeanSquaredError):
    """The square root of the mean of (y - p)² over everything. Masks are ignored, as in Keras."""

    uses_mask = False

    def value(self, sums: np.ndarray) -> Value:
        return float(np.sqrt(super().value(sums)))


_ROUNDING = 1e-12  # relative rounding error of differences of float64 sums of squares, with some margin


class R2Score(Metric):
    """The coefficient of determination, R² = 1 - Σ (y - p)² / Σ (y - mean(y))², for each column of the targets.

    1 is perfect, 0 is as good as always predicting the mean of the targets, and below 0 is worse. Targets and
    predictions are (B, D). A target that never changes gives 0; so does one that changes by less than a millionth of
    its size, which is too little for sums of squares.

    Args:
        class_aggregation: None returns a list, one value per column; "uniform_average" their mean;
            "variance_weighted_average" their mean weighted by the variance of each column.
        num_regressors: p, above 0 for the adjusted score, 1 - (1 - R²) (n - 1) / (n - p - 1), where n is the number of
            target values (B D, as in Keras). While n is at most p + 1, the plain score is returned.
        name: see `Metric`.

    Raises:
        ValueError: a bad argument. From `measure`: predictions that are not (B, D).
    """

    direction = "max"
    on_gpu = True

    def __init__(
        self, class_aggregation: str | None = "uniform_average", num_regressors: int = 0, name: str | None = None
    ) -> None:
        super().__init__(name)
        aggregations = (None, "uniform_average", "variance_weighted_average")
        self.class_aggregation = checks.one_of("class_aggregation", class_aggregation, aggregations)
        self.num_regressors = checks.whole_number("num_regressors", num_regressors)

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return super().align(y_true, self._require_rows(y_pred))

    def measure(self, y_true: Array, y_pred: Array) -> Array:
        y = self.align(y_true, y_pred).astype(np.float64)
        return np.stack([np.sum(part, axis=0) for part in (y, y * y, np.square(y - y_pred), np.ones_like(y))])

    def value(self, sums: np.ndarray) -> Value:
        total, squares, residuals, count = sums  # (D,) each
        variation = squares - _divide(total * total, count)
        variation = np.where(variation > _ROUNDING * squares, variation, 0.0)
        scores: Any = np.where(variation > 0, 1 - _divide(residuals, variation), 0.0)
        if self.class_aggregation == "uniform_average":
            scores = np.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = _divide(np.sum(variation * scores), np.sum(variation))
        n, p = np.sum(count), self.num_regressors
        if 0 < p < n - 1:
            scores = 1 - (1 - scores) * (n - 1) / (n - p - 1)
        return scores.tolist()


class Perplexity(Metric):
    """exp of the mean crossentropy of all predictions: as if choosing between that many equally likely tokens.

    Like Keras Hub's metric of this name, with two differences: one-hot targets also work, and all tokens have equal
    weight. (Keras Hub first takes the mean of each batch, so with mask_token_id tokens in batches with much padding
    weigh more.)

    Args:
        from_logits: whether predictions are logits.
        mask_token_id: a class index to ignore, such as that of padding; not with one-hot targets.
        name: see `Metric`.
    """

    direction = "min"

    def __init__(self, from_logits: bool = False, mask_token_id: int | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.mask_token_id = None if mask_token_id is None else checks.whole_number("mask_token_id", mask_token_id)

    def align(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        one_hot = y_true.shape == y_pred.shape and y_pred.shape[-1] > 1
        if one_hot and self.mask_token_id is not None:
            raise ValueError(f"the metric {self.name} with mask_token_id takes class indices, not one-hot targets")
        self.crossentropy = losses.CategoricalCrossentropy() if one_hot else losses.SparseCategoricalCrossentropy()
        aligned = self.crossentropy.align(y_true, y_pred)
        if not one_hot:
            self.crossentropy.require_valid(aligned[aligned != self.mask_token_id], y_pred)
        return aligned

    def measure(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        y_true = self.align(y_true, y_pred)
        values, _ = self.crossentropy.values(y_true, y_pred, self.from_logits)
        if self.mask_token_id is not None:
            values = values[y_true != self.mask_token_id]
        return np.array([np.sum(values, dtype=np.float64), values.size])

    def value(self, sums: np.ndarray) -> Value:
        with np.errstate(over="ignore"):
            return float(np.exp(sums[0] / sums[1])) if sums[1] else 0.0


def confusion_matrix(y_true: Any, y_pred: Any, num_classes: int | None = None) -> np.ndarray:
    """How often each class is predicted for each true class; `inspection.confusion_matrix` draws it.

    Args:
        y_true: class indices, or one-hot rows of floats.
        y_pred: class indices, or the output of `predict`: (..., C), where the largest wins, or (..., 1), where above
            0.5 is class 1.
        num_classes: C. Default: as many as occur, at least 2.

    Returns:
        counts (C, C), int64: rows are true classes, columns predicted classes.

    Raises:
        ValueError: different numbers of samples, or class indices that are not whole numbers from 0 to num_classes - 1.
    """
    actual, predicted = _classes("y_true", y_true), _classes("y_pred", y_pred)
    if len(actual) != len(predicted):
        raise ValueError(f"y_true has {len(actual)} samples, but y_pred has {len(predicted)}")
    highest = int(max(actual.max(initial=0), predicted.max(initial=0)))
    classes = max(highest + 1, 2) if num_classes is None else checks.positive_int("num_classes", num_classes)
    if highest >= classes:
        raise ValueError(f"class indices must be from 0 to {classes - 1}, but there is {highest}")
    return np.bincount(actual * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _classes(name: str, values: Any) -> np.ndarray:
    """Class indices as a flat array."""
    values = checks.array(name, values)
    if values.dtype.kind == "f" and values.ndim > 1:
        values = values[..., 0] > 0.5 if values.shape[-1] == 1 else np.argmax(values, axis=-1)
    if values.dtype.kind not in "fiub" or not np.all((values == np.floor(values)) & (values >= 0) & (values < 2**31)):
        raise ValueError(f"{name} must contain class indices 0, 1, ..., or rows of probabilities")
    return values.astype(np.int64).ravel()


_ACCURACIES = BinaryAccuracy, CategoricalAccuracy, SparseCategoricalAccuracy, Accuracy
_ERRORS = MeanSquaredError, MeanAbsoluteError, RootMeanSquaredError
_SHORT = {"mse": MeanSquaredError, "mae": MeanAbsoluteError}
_KNOWN = registry.by_both_names(*_ACCURACIES, *_ERRORS, R2Score, Precision, Recall, AUC, F1Score, Perplexity) | {
    "acc": Accuracy,
    **_SHORT,
    **{name.upper(): metric for name, metric in _SHORT.items()},  # as in Keras
    "rmse": RootMeanSquaredError,
    "r2": R2Score,
}


def get(identifier: Any) -> Metric:
    """The metric of that name, which becomes its key ("accuracy" or "acc" is chosen by the shapes).

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor a `Metric`.
    """
    metric = registry.resolve("metric", identifier, _KNOWN, Metric)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric
