"""Metrics that are a function of counts, over several batches, against Keras."""

import keras_side
import numpy as np
import pytest
from cases import error
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_side import keras

from scratchlstm import metrics

RNG = np.random.default_rng(0)
N = 41
SCORES = RNG.uniform(size=(N, 1))
LABELS = (SCORES + RNG.normal(scale=0.4, size=(N, 1)) > 0.6).astype(int)
CLASSES = RNG.integers(0, 4, size=N)
MANY = RNG.dirichlet(np.ones(4), size=N)
ONE_HOT = np.eye(4)[CLASSES]
SEVERAL = RNG.integers(0, 2, size=(N, 4))  # labels, several at a time
AVERAGES = (None, "micro", "macro", "weighted")

CASES = {
    "precision": ("Precision", {}, LABELS, SCORES),
    "precision (B,) labels": ("Precision", {}, LABELS[:, 0], SCORES),
    "precision, a threshold": ("Precision", {"thresholds": 0.7}, LABELS, SCORES),
    "precision, thresholds": ("Precision", {"thresholds": [0.9, 0.3, 0.45]}, LABELS, SCORES),
    "precision, even thresholds": ("Precision", {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]}, LABELS, SCORES),
    "precision, nothing positive": ("Precision", {"thresholds": 1.0}, LABELS, SCORES),
    "precision, classes": ("Precision", {"thresholds": 0.2}, ONE_HOT, MANY),
    "precision, top 2": ("Precision", {"top_k": 2}, SEVERAL, MANY),
    "precision, top 2 and a threshold": ("Precision", {"top_k": 2, "thresholds": 0.4}, SEVERAL, MANY),
    "precision, a class": ("Precision", {"class_id": 2, "thresholds": 0.2}, ONE_HOT, MANY),
    "precision, a class of the top 2": ("Precision", {"class_id": 3, "top_k": 2}, ONE_HOT, MANY),
    "precision, soft labels": ("Precision", {}, LABELS * 0.25, SCORES),
    "recall": ("Recall", {}, LABELS, SCORES),
    "recall, thresholds": ("Recall", {"thresholds": [0.9, 0.3, 0.45]}, LABELS, SCORES),
    "recall, nothing to find": ("Recall", {}, 0 * LABELS, SCORES),
    "recall, top 1": ("Recall", {"top_k": 1}, SEVERAL, MANY),
    "recall, a class": ("Recall", {"class_id": 0, "thresholds": 0.3}, ONE_HOT, MANY),
    **{
        f"auc {curve} {method}": ("AUC", {"curve": curve, "summation_method": method}, LABELS, SCORES)
        for curve in ("ROC", "PR")
        for method in ("interpolation", "minoring", "majoring")
    },
    "auc, few thresholds": ("AUC", {"num_thresholds": 5}, LABELS, SCORES),
    "auc, two thresholds": ("AUC", {"num_thresholds": 2}, LABELS, SCORES),
    "auc, own thresholds": ("AUC", {"thresholds": [0.8, 0.1, 0.45]}, LABELS, SCORES),
    "auc PR, own thresholds": ("AUC", {"thresholds": [0.8, 0.1, 0.45], "curve": "PR"}, LABELS, SCORES),
    "auc, logits": ("AUC", {"from_logits": True}, LABELS, 8 * SCORES - 4),
    "auc, classes": ("AUC", {}, ONE_HOT, MANY),
    "auc, one label": ("AUC", {}, 0 * LABELS, SCORES),
    "auc PR, one label": ("AUC", {"curve": "PR"}, 0 * LABELS, SCORES),
    "auc PR, all positive": ("AUC", {"curve": "PR"}, 0 * LABELS + 1, SCORES),
    "auc PR, ties and ends": ("AUC", {"curve": "PR"}, LABELS, np.round(4 * SCORES) / 4),
    "auc, ties and ends": ("AUC", {"num_thresholds": 9}, LABELS, np.round(8 * SCORES) / 8),
    **{f"f1 {average}": ("F1Score", {"average": average}, ONE_HOT, MANY) for average in AVERAGES},
    **{
        f"f1 {average}, a threshold": ("F1Score", {"average": average, "threshold": 0.25}, SEVERAL, MANY)
        for average in AVERAGES
    },
    **{
        f"{name} {np.shape(y_true)}": (name, {}, y_true, y_pred)
        for name in ("MeanSquaredError", "MeanAbsoluteError", "RootMeanSquaredError")
        for y_true, y_pred in ((LABELS[:, 0], SCORES), (SEVERAL, MANY), (SEVERAL, MANY[..., None]))
    },
    **{
        f"r2 {aggregation}, {regressors}": ("R2Score", {"class_aggregation": aggregation, "num_regressors": regressors},
            3 * MANY + SEVERAL, 4 * MANY)
        for aggregation in (None, "uniform_average", "variance_weighted_average")
        for regressors in (0, 3)
    },
    "r2 (B,) targets": ("R2Score", {}, LABELS[:, 0], SCORES),
    "r2, more regressors than values": ("R2Score", {"num_regressors": 500}, LABELS, SCORES),
    "r2, a target that never changes": ("R2Score", {}, 0 * SEVERAL, MANY),
    "f1 of one column": ("F1Score", {"threshold": 0.5}, LABELS, SCORES),
    "f1 of one column without a threshold": ("F1Score", {}, LABELS, SCORES),
    "f1, ties and rows of zeros": ("F1Score", {}, SEVERAL, np.round(MANY)),
}  # fmt: skip


def both(name, options, y_true, y_pred, dtype, size=9):
    ours = getattr(metrics, name)(**options)
    with keras_side.floats(dtype):
        theirs = getattr(keras.metrics, name)(**options)
        for start in range(0, len(y_pred), size):
            batch = y_true[start : start + size], y_pred[start : start + size].astype(dtype)
            ours.update(*batch)
            theirs.update_state(*batch)
        return ours.result(), np.asarray(theirs.result())


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-6)])
@pytest.mark.parametrize("name", CASES)
def test_values(name, dtype, tolerance):
    ours, theirs = both(*CASES[name], dtype)
    assert np.shape(ours) == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.booleans(), st.integers(0, 16)), min_size=1, max_size=30),
    options=st.fixed_dictionaries(
        {
            "num_thresholds": st.sampled_from([2, 3, 5, 17]),
            "curve": st.sampled_from(["ROC", "PR"]),
            "summation_method": st.sampled_from(["interpolation", "minoring", "majoring"]),
        }
    ),
)
def test_auc_with_scores_on_the_thresholds(pairs, options):
    labels, scores = np.array(pairs).T
    ours, theirs = both("AUC", options, labels, scores / 16, "float64")
    assert ours == pytest.approx(float(theirs), abs=1e-9)


def test_results_before_any_batch():
    for name in ("Precision", "Recall", "AUC"):
        assert getattr(metrics, name)().result() == float(getattr(keras.metrics, name)().result())


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("form", ["sparse", "one-hot"])
@pytest.mark.parametrize("shape", [(6,), (6, 5)])
def test_perplexity_is_the_exponential_of_keras_crossentropy(form, shape, from_logits, float64):
    y_true = RNG.integers(0, 4, size=shape)
    y_pred = RNG.normal(size=(*shape, 4)) if from_logits else RNG.dirichlet(np.ones(4), size=shape)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)(y_true, y_pred)
    ours = metrics.Perplexity(from_logits=from_logits)
    for rows in (slice(2), slice(2, None)):
        ours.update(y_true[rows] if form == "sparse" else np.eye(4)[y_true[rows]], y_pred[rows])
    assert error(ours.result(), np.exp(float(theirs))) < 1e-9


def test_compile_takes_the_same_names():
    y_true, y_pred = SEVERAL, MANY.astype("float32")
    names = [
        "precision",
        "recall",
        "auc",
        "AUC",
        "F1Score",
        "f1_score",
        "mse",
        "MSE",
        "mae",
        "MAE",
        "R2Score",
        "r2_score",
    ]
    names += ["mean_squared_error", "mean_absolute_error", "root_mean_squared_error", "RootMeanSquaredError"]
    theirs = keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear")])
    theirs.compile(loss="mse", metrics=names)
    expected = theirs.evaluate(y_pred, y_true, verbose=0, return_dict=True)

    from scratchlstm import Sequential
    from scratchlstm.layers import Activation

    ours = Sequential([Activation("linear", input_shape=(4,))])
    ours.compile("sgd", "mse", metrics=names)
    found = ours.evaluate(y_pred, y_true, verbose=0, return_dict=True)
    assert set(found) == set(expected)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_confusion_matrix():
    predicted = np.argmax(MANY, axis=1)
    theirs = keras.src.metrics.metrics_utils.confusion_matrix(CLASSES, predicted, num_classes=5)
    assert np.array_equal(metrics.confusion_matrix(CLASSES, MANY, num_classes=5), np.asarray(theirs))


def test_masks_reach_the_errors_that_they_reach_in_keras():
    """Of the errors only `mse` and `mae` leave masked steps out."""
    from scratchlstm import Sequential
    from scratchlstm.layers import LSTM, Masking

    x, y = RNG.normal(size=(5, 4, 2)).astype("float32"), RNG.normal(size=(5, 4, 3)).astype("float32")
    x[:2, 1:] = 0
    names = ["mse", "mae", "root_mean_squared_error"]
    theirs = keras.Sequential(
        [keras.Input((4, 2)), keras.layers.Masking(), keras.layers.LSTM(3, return_sequences=True)]
    )
    theirs.compile(loss="mse", metrics=names)
    ours = Sequential([Masking(input_shape=(4, 2)), LSTM(3, return_sequences=True)])
    ours.compile("sgd", "mse", metrics=names)
    ours.set_weights(theirs.get_weights())
    expected = theirs.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    found = ours.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    assert expected["mse"] != pytest.approx(expected["root_mean_squared_error"] ** 2, rel=1e-3)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)
