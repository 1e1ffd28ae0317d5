"""Losses, with Keras' names and formulas: each computes its values together with their derivative."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm._support import checks, cupy_elementwise, masks, registry
from scratchlstm.activations import softmax
from scratchlstm.backend import Array, beside, is_cupy
from scratchlstm.gates import sigmoid

_EPSILON = 1e-7  # Keras clips probabilities to this before taking a logarithm


class Loss(registry.Configured):
    """The mean of `values` over everything: the base class of losses.

    Attributes:
        logits_of: the activation that the loss can bypass. If a model's last layer ends in it, training and evaluation
            compute the loss from that layer's logits: exact even where a probability would round to 0 or 1, and with
            the short derivative p - y. Keras does the same. The crossentropies here use the logits below a sigmoid or a
            softmax, as in Keras.
    """

    logits_of: ClassVar[str | None] = None
    from_logits: bool = False

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each sample (and step), (B, ...), and its derivative with respect to y_pred, (B, ..., D)."""
        raise NotImplementedError(f"{type(self).__name__} must define values(y_true, y_pred, from_logits)")

    def align(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """y_true in y_pred's shape and dtype: labels (B,) match predictions (B, 1).

        Raises:
            ValueError: shapes that do not match.
        """
        y_true = beside(y_pred, y_true, y_pred.dtype)
        if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
            y_true = y_true[..., None]
        if y_true.shape != y_pred.shape:
            name = registry.snake_case(type(self).__name__)
            given = f"targets {y_true.shape} and predictions {y_pred.shape}"
            raise ValueError(f"{name} needs targets and predictions of the same shape, but got {given}")
        return y_true

    def require_valid(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        """Raise an error if targets, after `align`, have values this loss is not defined for.

        Raises:
            ValueError: there are such values.
        """

    def with_gradient(
        self,
        y_true: Any,
        y_pred: np.ndarray,
        sample_weight: np.ndarray | None = None,
        from_logits: bool = False,
        mask: np.ndarray | None = None,
    ) -> tuple[Any, Array]:
        """The mean loss, and dL/dy_pred. (On a GPU the loss stays there, as a 0-d array.)

        Args:
            y_true: targets; see `require_valid`.
            y_pred: predictions (B, ..., D); logits if `from_logits`.
            sample_weight: (B,), (B, 1) or the shape of `values`; multiplies each value, while the divisor remains their
                number (Keras).
            from_logits: whether y_pred contains logits.
            mask: the shape of `values`, or its leading dimensions; values where it is False are ignored, also in the
                divisor. If all are False, the loss is 0.

        Raises:
            ValueError: shapes that do not match.
        """
        values, gradient = self.values(self.align(y_true, y_pred), y_pred, from_logits or self.from_logits)
        weight: Any = y_pred.dtype.type(1 / values.size)
        if mask is not None:
            mask = masks.over(mask, values.shape)
            weight = beside(values, mask / max(np.count_nonzero(mask), 1), y_pred.dtype)
        if sample_weight is not None:
            weight = weight * _beside_values(values, beside(values, sample_weight, y_pred.dtype))
        loss = np.sum(values * weight)
        return (loss if is_cupy(loss) else float(loss)), gradient * (weight[..., None] if np.ndim(weight) else weight)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Compute the mean loss of predictions.

        Args:
            y_true, y_pred: targets and predictions, see `with_gradient`.
            sample_weight: a single weight for everything, or as in `with_gradient`.

        Raises:
            TypeError, ValueError: values or shapes the loss is not defined for.
        """
        y_true, y_pred = _numbers("y_true", y_true), _numbers("y_pred", y_pred)
        y_pred = y_pred.astype(y_pred.dtype if y_pred.dtype in (np.float32, np.float64) else np.float64, copy=False)
        if y_pred.ndim == 0:
            raise ValueError(f"y_pred must be an array of predictions, not a single number, {y_pred}")
        self.require_valid(self.align(y_true, y_pred), y_pred)
        weight = None if sample_weight is None else _numbers("sample_weight", sample_weight)
        return float(self.with_gradient(y_true, y_pred, weight)[0])


class MeanSquaredError(Loss):
    """(y - p)², mean over the last axis."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        difference = y_pred - y_true
        return np.mean(difference**2, axis=-1), 2 * difference / y_pred.shape[-1]


class MeanAbsoluteError(Loss):
    """`|y - p|`, mean over the last axis; the derivative is 0 where they are equal."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        difference = y_pred - y_true
        return np.mean(np.abs(difference), axis=-1), np.sign(difference) / y_pred.shape[-1]


class Crossentropy(Loss):
    """A loss on probabilities or logits.

    Args:
        from_logits: whether predictions are logits, from a last layer without activation.
    """

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = checks.flag("from_logits", from_logits)


class BinaryCrossentropy(Crossentropy):
    """-y log p - (1 - y) log(1 - p), mean over the last axis.

    From logits x, p = σ(x): `max(x, 0) - x y + log(1 + exp(-|x|))`, with derivative p - y. Probabilities p are clipped
    to [1e-7, 1 - 1e-7]; outside that, the derivative is 0 (Keras).

    Args:
        from_logits: whether predictions are logits, from a last layer without activation.
    """

    logits_of = "sigmoid"

    def require_valid(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        if y_true.size and not 0 <= y_true.min() <= y_true.max() <= 1:
            given = f"they range from {y_true.min()} to {y_true.max()}"
            raise ValueError(f"binary_crossentropy takes targets from 0 to 1, but {given}")

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        if from_logits and is_cupy(y_pred):
            losses, gradient = cupy_elementwise.binary_crossentropy(y_pred, y_true)
        elif from_logits:
            losses = np.maximum(y_pred, 0) - y_pred * y_true + np.log1p(np.exp(-np.abs(y_pred)))
            gradient = sigmoid(y_pred) - y_true  # equation (29), whose 1/B comes with the mean
        else:
            p, inside = _clip(y_pred)
            losses = -y_true * np.log(p) - (1 - y_true) * np.log(1 - p)
            gradient = inside * (p - y_true) / (p * (1 - p))
        if y_pred.shape[-1] == 1:
            return losses[..., 0], gradient
        return np.mean(losses, axis=-1), gradient / y_pred.shape[-1]


class CategoricalCrossentropy(Crossentropy):
    """-Σ y log p over the last axis, with y one-hot (or a distribution).

    Probabilities are divided by their sum and clipped to [1e-7, 1 - 1e-7] (Keras).

    Args:
        from_logits: whether predictions are logits, from a last layer without activation.
    """

    logits_of = "softmax"

    def align(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        if y_pred.shape[-1] == 1:
            instead = "for yes-or-no labels use binary_crossentropy"
            raise ValueError(f"categorical_crossentropy of a single class is always 0; {instead}")
        return super().align(y_true, y_pred)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        if from_logits:
            losses = -np.sum(y_true * _log_softmax(y_pred), axis=-1)
            return losses, softmax(y_pred) * np.sum(y_true, axis=-1, keepdims=True) - y_true
        total = np.sum(y_pred, axis=-1, keepdims=True)
        p, inside = _clip(y_pred / total)
        dp = -(inside * y_true) / p
        gradient = (dp - np.sum(dp * y_pred / total, axis=-1, keepdims=True)) / total
        return -np.sum(y_true * np.log(p), axis=-1), gradient


class SparseCategoricalCrossentropy(Crossentropy):
    """-log p[y] for class indices y.

    For probabilities, log p clipped to [1e-7, 1 - 1e-7] is used as logits (Keras).

    Args:
        from_logits: whether predictions are logits, from a last layer without activation.
    """

    logits_of = "softmax"

    def align(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """y_true in y_pred's shape without the last axis.

        Raises:
            ValueError: shapes that do not match.
        """
        y_true = beside(y_pred, y_true)
        if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
            y_true = y_true[..., 0]
        if y_true.shape != y_pred.shape[:-1]:
            wanted = f"for predictions {y_pred.shape} targets of shape {y_pred.shape[:-1]}, not {y_true.shape}"
            raise ValueError(f"sparse_categorical_crossentropy takes one class number for each prediction: {wanted}")
        return y_true

    def require_valid(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        classes = y_pred.shape[-1]
        if y_true.size and (np.any(y_true != np.floor(y_true)) or y_true.min() < 0 or y_true.max() >= classes):
            given = f"range from {y_true.min()} to {y_true.max()}"
            raise ValueError(f"targets must be whole numbers from 0 to {classes - 1}, but {given}")

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        p, inside = (None, None) if from_logits else _clip(y_pred)
        logits = y_pred if p is None else np.log(p)
        place = y_true.astype(np.intp)[..., None]
        losses = -np.take_along_axis(_log_softmax(logits), place, axis=-1)[..., 0]
        gradient = softmax(logits)
        one_less = np.take_along_axis(gradient, place, axis=-1) - 1
        np.put_along_axis(gradient, place, one_less, axis=-1)  # softmax - one-hot
        return losses, gradient if p is None else gradient * inside / p


def _log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - np.max(z, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _clip(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P clipped to [1e-7, 1 - 1e-7], and where it was within those limits."""
    clipped = np.clip(p, p.dtype.type(_EPSILON), p.dtype.type(1 - _EPSILON))
    return clipped, clipped == p


def _numbers(argument: str, value: Any) -> np.ndarray:
    return value if is_cupy(value) else checks.array(argument, value, numeric=True)


def _beside_values(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights in a shape that multiplies the values, sample by sample.

    Raises:
        ValueError: there is no such shape.
    """
    shape = weight.shape[:-1] if weight.ndim == values.ndim + 1 and weight.shape[-1] == 1 else weight.shape
    shape += (1,) * (values.ndim - len(shape))
    if len(shape) > values.ndim or any(size not in (1, of) for size, of in zip(shape, values.shape, strict=True)):
        wanted = f"have one number for each sample, or the shape of the losses, {values.shape}"
        raise ValueError(f"sample_weight must {wanted}, not {weight.shape}")
    return weight.reshape(shape)


_KNOWN = {"mse": MeanSquaredError, "mae": MeanAbsoluteError} | registry.by_both_names(
    MeanSquaredError, MeanAbsoluteError, BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
)


def get(identifier: Any) -> Loss:
    """The loss of that name.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor a `Loss`.
    """
    return registry.resolve("loss", identifier, _KNOWN, Loss)
