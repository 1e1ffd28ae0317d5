"""Losses (value and derivative) and the forms of accuracy against Keras."""

import keras_side
import numpy as np
import our_side
import pytest
from cases import assert_agree
from keras_side import keras
from loss_cases import (
    BCE,
    CCE,
    LABELS,
    LOSS_CASES,
    MSE,
    SCORES,
    SEQUENCE_CLASSES,
    SEQUENCE_LABELS,
    SEQUENCE_LOGITS,
    SEQUENCE_SCORES,
    WEIGHTS,
    LossCase,
    one_hot,
    softmax,
)

from scratchlstm import metrics


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", LOSS_CASES)
def test_loss(name, dtype, tolerance):
    case = LOSS_CASES[name]._replace(y_pred=LOSS_CASES[name].y_pred.astype(dtype))
    assert_agree(our_side.loss(case), keras_side.loss(case), tolerance)


@pytest.mark.parametrize("sample_weight", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ["bce", "mse"])
def test_labels_without_their_last_axis(name, sample_weight):
    """Labels (B,) with predictions (B, 1) count as labels (B, 1)."""
    case = LOSS_CASES["bce"]._replace(name={"bce": BCE, "mse": MSE}[name], sample_weight=sample_weight)
    assert_agree(our_side.loss(case._replace(y_true=LABELS[:, 0])), keras_side.loss(case), 1e-12)


def test_weight_per_sample_of_a_sequence():
    """(B,) means the same as Keras' (B, 1)."""
    case = LOSS_CASES["bce sequence, a weight per sample"]
    flat = case._replace(sample_weight=case.sample_weight[:, 0])
    assert_agree(our_side.loss(flat), keras_side.loss(case), 1e-12)


def test_targets_that_do_not_sum_to_one():
    """The loss is Keras'; its derivative is given here, but not by TensorFlow."""
    y_true = one_hot(np.array([0, 1, 2]), 4) + one_hot(np.array([1, 1, 0]), 4)
    case = LossCase(CCE, y_true, SCORES[:3], from_logits=True)
    ours, theirs = our_side.loss(case), keras_side.loss(case)
    assert ours["value"] == pytest.approx(theirs["value"], rel=1e-12)
    p = softmax(case.y_pred)
    np.testing.assert_allclose(ours["gradient"], (2 * p - y_true) / 3, rtol=1e-12)
    np.testing.assert_allclose(theirs["gradient"], (p - y_true) / 3, rtol=1e-12)


# a prediction of exactly 0.5 is not above the threshold, and the first of equal scores wins
HALVES = np.array([[0.5], [0.5], [0.2], [0.9], [0.50001], [0.49999], [1.0], [0.0]])
TIED = np.vstack([SCORES, [[1, 2, 2, 0], [3, 3, 3, 3]]])
TIED_CLASSES = np.append(np.argmax(TIED[:3], axis=-1), [0, 1, 2, 1, 3])
ACCURACIES = {
    "binary": (LABELS, HALVES),
    "binary (B,) labels": (LABELS[:, 0], HALVES),
    "binary sequence": (SEQUENCE_LABELS[..., :1], 1 / (1 + np.exp(-SEQUENCE_LOGITS[..., :1]))),
    "categorical": (one_hot(TIED_CLASSES, 4), TIED),
    "categorical sequence": (one_hot(SEQUENCE_CLASSES, 4), SEQUENCE_SCORES),
    "sparse": (TIED_CLASSES, TIED),
    "sparse (B, 1) classes": (TIED_CLASSES[:, None], TIED),
    "sparse sequence": (SEQUENCE_CLASSES, SEQUENCE_SCORES),
    "sparse sequence (B, T, 1) classes": (SEQUENCE_CLASSES[..., None], SEQUENCE_SCORES),
}


def ours_in_batches(metric, y_true, y_pred, size=3):
    for start in range(0, len(y_pred), size):
        metric.update(y_true[start : start + size], y_pred[start : start + size])
    return metric.result()


@pytest.mark.parametrize("name", ACCURACIES)
def test_accuracy_by_shape(name, float64):
    """`metrics=["accuracy"]` chooses the form that Keras does; a Keras model without weights `evaluate`s it."""
    y_true, y_pred = ACCURACIES[name]
    identity = keras.Sequential([keras.Input(y_pred.shape[1:]), keras.layers.Activation("linear")])
    any_loss = "sparse_categorical_crossentropy" if name.startswith("sparse") else "mse"
    identity.compile(loss=any_loss, metrics=["accuracy"])
    theirs = identity.evaluate(y_pred, y_true, batch_size=3, verbose=0, return_dict=True)["accuracy"]
    assert 0 < theirs < 1
    assert ours_in_batches(metrics.get("accuracy"), y_true, y_pred) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(
    ("metric", "data"),
    [
        ("BinaryAccuracy", "binary"),
        ("BinaryAccuracy", "binary sequence"),
        ("CategoricalAccuracy", "categorical"),
        ("CategoricalAccuracy", "categorical sequence"),
        ("SparseCategoricalAccuracy", "sparse"),
        ("SparseCategoricalAccuracy", "sparse (B, 1) classes"),
        ("SparseCategoricalAccuracy", "sparse sequence"),
    ],
)
def test_accuracy_by_name(metric, data):
    y_true, y_pred = ACCURACIES[data]
    theirs = getattr(keras.metrics, metric)()
    theirs.update_state(y_true, y_pred)
    assert 0 < float(theirs.result()) < 1
    assert ours_in_batches(metrics.get(metric), y_true, y_pred) == pytest.approx(float(theirs.result()), rel=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.49999, 0.9])
def test_threshold(threshold):
    """Predictions in float32, some on the threshold. (For float64 predictions, too, Keras rounds it to float32.)"""
    theirs, y_pred = keras.metrics.BinaryAccuracy(threshold=threshold), HALVES.astype("float32")
    theirs.update_state(LABELS, y_pred)
    assert ours_in_batches(metrics.BinaryAccuracy(threshold=threshold), LABELS, y_pred) == float(theirs.result())
