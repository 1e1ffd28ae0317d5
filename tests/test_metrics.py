"""Metrics from sums: by hand, in any split of the samples, and through fit, evaluate and files."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm import Sequential, metrics
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.metrics import AUC, F1Score, Perplexity, Precision, R2Score, Recall, confusion_matrix

pytestmark = pytest.mark.usefixtures("without_numba")  # its processes start in half the time
HYPOTHESIS = settings(max_examples=60, derandomize=True, database=None, deadline=None)
RNG = np.random.default_rng(0)
LABELS = np.array([1, 0, 1, 1, 0, 0])
SCORES = np.array([[0.9], [0.8], [0.5], [0.6], [0.1], [0.3]])
ONE_HOT = np.eye(3)[[0, 1, 2, 1]]
ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
TOKENS = np.array([[0, 1, 2], [2, 0, 0]])


def found(metric, y_true, y_pred):
    metric.update(y_true, y_pred)
    return metric.result()


def test_precision_and_recall_by_hand():
    """Above 0.5 are 0.9 (right), 0.8 (wrong) and 0.6 (right); 0.5 itself is not."""
    assert found(Precision(), LABELS, SCORES) == 2 / 3
    assert found(Recall(), LABELS, SCORES) == 2 / 3
    assert found(Precision([0.85, 0.05]), LABELS, SCORES) == [1.0, 0.5]
    assert found(Recall([0.85, 0.05]), LABELS, SCORES) == [1 / 3, 1.0]
    assert found(Precision(1.0), LABELS, SCORES) == 0


def test_a_threshold_is_compared_in_the_precision_of_the_scores():
    """0.7 in float32 is below 0.7 in float64; a score on the threshold is not above it."""
    for dtype in ("float32", "float64"):
        assert found(Recall(0.7), [1], np.array([[0.7]], dtype)) == 0
        assert found(Recall(0.3), [1], np.array([[0.3]], dtype)) == 0


def test_whole_numbers_and_lists_will_do():
    assert found(Precision(), [1, 0], [1, 1]) == 0.5
    assert found(Recall(top_k=1), [[1, 0], [1, 0]], [[1, 0], [0, 1]]) == 0.5
    assert found(AUC(), [1, 0], [True, False]) == 1


def test_nan_is_not_above_any_threshold():
    assert found(Recall(0.0), [1, 1], np.array([0.5, np.nan])) == 0.5
    assert found(F1Score(threshold=0.5), [[1]], np.array([[np.nan]])) == [0]


def test_top_k_and_class_id_by_hand():
    assert found(Precision(top_k=1), ONE_HOT, ROWS) == 2 / 4
    assert found(Recall(top_k=2), ONE_HOT, ROWS) == 3 / 4
    assert found(Recall(class_id=1, thresholds=0.25), ONE_HOT, ROWS) == 1
    assert found(Precision(class_id=1, thresholds=0.25), ONE_HOT, ROWS) == 2 / 3


def test_auc_is_the_chance_of_the_right_order():
    """Of the pairs of a positive and a negative, the part in which the positive has the higher score."""
    y_true, scores = RNG.integers(0, 2, 200), RNG.uniform(size=200)
    positive, negative = scores[y_true == 1], scores[y_true == 0]
    chance = np.mean(positive[:, None] > negative)
    assert found(AUC(num_thresholds=100_000), y_true, scores[:, None]) == pytest.approx(chance, abs=1e-4)
    assert found(AUC(), [0, 1], np.array([[0.0], [1.0]])) == 1
    assert found(AUC(), [1, 0], np.array([[0.0], [1.0]])) == 0


def test_f1_by_hand():
    """Class 0: predicted twice, once right; class 1: predicted once of two, right; class 2: predicted once, wrong."""
    each = [2 * 0.5 * 1 / 1.5, 2 * 1 * 0.5 / 1.5, 0]
    assert found(F1Score(), ONE_HOT, ROWS) == pytest.approx(each, abs=1e-6)
    assert found(F1Score("macro"), ONE_HOT, ROWS) == pytest.approx(np.mean(each), abs=1e-6)
    assert found(F1Score("weighted"), ONE_HOT, ROWS) == pytest.approx(np.dot(each, [1, 2, 1]) / 4, abs=1e-6)
    assert found(F1Score("micro"), ONE_HOT, ROWS) == pytest.approx(0.5, abs=1e-6)


def test_perplexity_of_a_uniform_guess_is_the_number_of_classes():
    assert found(Perplexity(), TOKENS, np.full((2, 3, 7), 1 / 7)) == pytest.approx(7)
    assert found(Perplexity(from_logits=True), TOKENS, np.zeros((2, 3, 7))) == pytest.approx(7)


def test_perplexity_leaves_out_masked_tokens_and_weighs_the_others_alike():
    p = np.full((2, 3, 4), 0.25)
    p[TOKENS == 0] = [0.97, 0.01, 0.01, 0.01]
    metric = Perplexity(mask_token_id=0)
    for row in range(2):
        metric.update(TOKENS[row : row + 1], p[row : row + 1])
    assert metric.result() == pytest.approx(4)
    assert metric.sums[1] == 3
    assert found(Perplexity(mask_token_id=0), np.zeros((2, 3)), p) == 0


def test_perplexity_too_large_for_a_number_is_infinite():
    assert found(Perplexity(from_logits=True), [0], np.array([[-1e5, 0.0]])) == np.inf


COUNTS = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]])
FORECASTS = np.array([[1.0, 20.0], [2.0, 20.0], [5.0, 20.0]])  # off by 2 once, and the mean of the second column


def test_errors_by_hand():
    assert found(metrics.get("mse"), COUNTS, FORECASTS) == (4 + 100 + 100) / 6
    assert found(metrics.get("mae"), COUNTS, FORECASTS) == (2 + 10 + 10) / 6
    assert found(metrics.get("rmse"), COUNTS, FORECASTS) == pytest.approx(np.sqrt(204 / 6))
    assert found(metrics.get("mae"), [1, 2], np.array([[1], [4]])) == 1


def test_r2_by_hand():
    """The columns' sums of squares are 2 and 200: R² is 1 - 4 / 2 and 1 - 200 / 200."""
    assert found(metrics.get("r2"), COUNTS, FORECASTS) == -1 / 2
    assert found(R2Score(None), COUNTS, FORECASTS) == [-1, 0]
    assert found(R2Score("variance_weighted_average"), COUNTS, FORECASTS) == pytest.approx(-2 / 202)
    assert found(R2Score(num_regressors=2), COUNTS, FORECASTS) == 1 - (1 + 1 / 2) * 5 / 3
    assert found(R2Score(num_regressors=5), COUNTS, FORECASTS) == -1 / 2
    assert found(R2Score(), COUNTS, COUNTS) == 1


@pytest.mark.parametrize("aggregation", ["uniform_average", "variance_weighted_average"])
def test_r2_of_a_target_that_never_changes_is_0(aggregation):
    for forecast in (3.0, 4.0):
        assert found(R2Score(aggregation), np.full((2, 1), 3.0), np.full((2, 1), forecast)) == 0
    for count in (3, 7, 10, 100):  # of numbers whose squares are rounded
        for target in (0.1, 0.3, 1e6 + 0.1):
            assert found(R2Score(aggregation), np.full((count, 1), target), np.full((count, 1), target + 1)) == 0


def test_r2_of_a_target_that_hardly_changes():
    y_true = 1e5 + np.array([[-1.0], [1.0]])
    assert found(R2Score(), y_true, y_true + 1) == pytest.approx(0, abs=1e-4)
    assert found(R2Score(), y_true, y_true + 0.5) == pytest.approx(0.75, abs=1e-4)


def test_steps_that_a_mask_leaves_out_are_in_no_error():
    y_true, y_pred, mask = np.zeros((1, 2, 3)), np.array([[[1.0] * 3, [9.0] * 3]]), np.array([[True, False]])
    for name, value in (("mse", 1), ("mae", 1)):
        metric = metrics.get(name)
        metric.add(metric.measure(y_true, y_pred, mask))
        assert metric.result() == value
    assert not any(metrics.get(name).uses_mask for name in ("rmse", "r2"))


def _metrics():
    return [
        (metrics.get("mse"), COUNTS, FORECASTS),
        (metrics.get("mae"), COUNTS, FORECASTS),
        (metrics.get("rmse"), COUNTS, FORECASTS),
        (R2Score(None, num_regressors=1), COUNTS, FORECASTS),
        (Precision([0.2, 0.7]), LABELS, SCORES),
        (Recall(top_k=1), ONE_HOT, ROWS),
        (AUC(), LABELS, SCORES),
        (AUC(curve="PR"), LABELS, SCORES),
        (F1Score(), ONE_HOT, ROWS),
        (Perplexity(mask_token_id=0), TOKENS.ravel(), RNG.dirichlet(np.ones(3), size=6)),
        (metrics.get("accuracy"), LABELS, SCORES),
    ]


@HYPOTHESIS
@given(cuts=st.sets(st.integers(1, 5)), which=st.sampled_from(range(len(_metrics()))))
def test_any_split_of_the_samples_gives_the_same(cuts, which):
    metric, y_true, y_pred = _metrics()[which]
    whole = found(metric, y_true, y_pred)
    metric.reset()
    edges = [0, *sorted(cut for cut in cuts if cut < len(y_true)), len(y_true)]
    parts = [metric.measure(y_true[a:b], y_pred[a:b]) for a, b in itertools.pairwise(edges)]
    for part in reversed(parts):
        assert part.dtype in (np.int64, np.float64)
        metric.add(part)
    assert metric.result() == pytest.approx(whole, rel=1e-14)


@pytest.mark.parametrize("which", range(len(_metrics())))
def test_arguments_are_left_alone(which):
    metric, y_true, y_pred = _metrics()[which]
    y_true, y_pred = y_true.copy(), y_pred.copy()
    y_true.flags.writeable = y_pred.flags.writeable = False
    metric.update(y_true, y_pred)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Precision(1.5), "each of thresholds must be at least 0 and at most 1, not 1.5"),
        (lambda: Precision([0.5, -1]), "each of thresholds must be"),
        (lambda: Precision([]), "at least one number"),
        (lambda: Precision("half"), "thresholds must be"),
        (lambda: Recall(top_k=0), "top_k must be"),
        (lambda: Recall(class_id=-1), "class_id must be"),
        (lambda: AUC(1), "num_thresholds must be a whole number of at least 2"),
        (lambda: AUC(curve="PRGAIN"), 'curve must be "ROC" or "PR", not'),
        (lambda: AUC(summation_method="sum"), "summation_method must be"),
        (lambda: AUC(thresholds=0.5), "thresholds must be a list of numbers, not 0.5"),
        (lambda: AUC(thresholds=[2]), "each of thresholds must be"),
        (lambda: F1Score("mean"), "average must be None"),
        (lambda: F1Score(threshold=0), "threshold must be above 0"),
        (lambda: Perplexity(mask_token_id=-1), "mask_token_id must be"),
        (lambda: R2Score("mean"), 'class_aggregation must be None, "uniform_average" or "variance_weighted_average"'),
        (lambda: R2Score(num_regressors=-1), "num_regressors must be a whole number of at least 0, not -1"),
        (lambda: found(R2Score(), TOKENS, np.ones((2, 3, 1))), r"r2_score takes predictions \(B, C\), not \(2, 3, 1\)"),
        (lambda: found(metrics.get("mae"), [0, 1], COUNTS), r"mae takes targets of shape \(3, 2\) .*, not \(2,\)"),
        (lambda: found(AUC(), LABELS, SCORES * 9), "from 0 to 1, but they range from 0.9.* to 8.1.*from_logits=True"),
        (lambda: found(Precision(top_k=4), ONE_HOT, ROWS), "top_k=4 .* does not match predictions"),
        (lambda: found(Precision(class_id=3), ONE_HOT, ROWS), "class_id=3 .* does not match predictions"),
        (lambda: found(Precision(), [0, 1, 2, 1], ROWS), "precision takes targets of shape"),
        (lambda: found(F1Score(), TOKENS, RNG.uniform(size=(2, 3, 1))), r"takes predictions \(B, C\)"),
        (lambda: found(Perplexity(mask_token_id=0), ONE_HOT, ROWS), "class indices, not one-hot targets"),
        (lambda: confusion_matrix([0, 1], [0, 1, 1]), "y_true has 2 samples, but y_pred has 3"),
        (lambda: confusion_matrix([0, 3], [0, 1], 3), "from 0 to 2, but there is 3"),
        (lambda: confusion_matrix([0, 1], [0.2, 0.9]), "y_pred must contain class indices"),
        (lambda: confusion_matrix([-1, 1], [0, 1]), "y_true must contain class indices"),
        (lambda: confusion_matrix(["a"], [0]), "y_true must contain class indices"),
    ],
)
def test_what_does_not_fit_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("option", ["multi_label", "num_labels", "label_weights", "dtype"])
def test_options_of_keras_that_are_not_taken_fail(option):
    with pytest.raises(TypeError, match=option):
        AUC(**{option: 1})


# --- the confusion matrix ---------------------------------------------------------------------------------------------


def test_confusion_matrix_by_hand():
    assert confusion_matrix([0, 1, 1, 2], [0, 2, 1, 2]).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert confusion_matrix([0, 0], [0, 0]).tolist() == [[2, 0], [0, 0]]
    assert confusion_matrix([0], [0], num_classes=1).tolist() == [[1]]


def test_confusion_matrix_takes_what_predict_gives():
    assert confusion_matrix(LABELS, SCORES).tolist() == [[2, 1], [1, 2]]
    assert confusion_matrix(LABELS[:, None], SCORES).tolist() == [[2, 1], [1, 2]]
    expected = [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert confusion_matrix([0, 1, 2, 1], ROWS).tolist() == expected
    assert confusion_matrix(ONE_HOT, ROWS).tolist() == expected
    assert confusion_matrix(TOKENS, np.eye(3)[TOKENS]).tolist() == np.diag([3, 1, 2]).tolist()


# --- in a model -------------------------------------------------------------------------------------------------------


def model(*chosen, outputs=1, activation="sigmoid", loss="binary_crossentropy"):
    model = Sequential([Embedding(12, 4, input_shape=(5,)), LSTM(3), Dense(outputs, activation=activation)], seed=0)
    model.compile("adam", loss, metrics=list(chosen))
    return model


IDS, TARGETS = RNG.integers(0, 12, (31, 5)), RNG.integers(0, 2, 31)


def all_metrics():
    counts = ["auc", "recall", Precision([0.4, 0.5], name="precisions"), F1Score(threshold=0.5), "accuracy"]
    return [*counts, "mse", "mae", "rmse", "r2"]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_give_the_metrics_of_one_process(workers):
    """The last batch has one row, fewer than there are workers."""
    histories = []
    for number in (1, workers):
        history = model(*all_metrics()).fit(
            IDS, TARGETS, epochs=2, batch_size=10, validation_split=0.2, workers=number, verbose=0
        )
        histories.append(history.history)
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, err_msg=name)


def test_evaluate_fit_and_a_metric_alone_agree():
    trained = model(*all_metrics())
    logs = trained.evaluate(IDS, TARGETS, batch_size=7, verbose=0, return_dict=True)
    p = trained.predict(IDS, verbose=0)
    for metric in all_metrics():
        metric = metrics.get(metric)
        assert found(metric, TARGETS, p) == logs[metric.name]
    batch = trained.train_on_batch(IDS, TARGETS)
    assert batch[1:] == [logs[metric.name] for metric in trained.metrics]


def test_several_values_are_a_list_in_history_and_their_mean_on_the_line(capsys):
    trained = model(Precision([0.0, 1.0]))
    history = trained.fit(IDS, TARGETS, epochs=2, verbose=2).history
    part = np.mean(TARGETS)
    assert history["precision"] == [[part, 0.0]] * 2
    assert {type(value) for value in history["precision"][0]} == {float}
    assert capsys.readouterr().out.count(f"precision: {part / 2:.4f}") == 2


def test_a_saved_model_has_its_metrics(tmp_path):
    chosen = [
        AUC(9, "PR", "minoring", name="area", from_logits=False),
        AUC(thresholds=[0.5, 0.25], name="other"),
        Precision([0.25, 0.5], class_id=0),
        Recall(top_k=1),
        F1Score("macro", 0.5),
    ]
    trained = model(*chosen)
    trained.save(tmp_path / "model.npz")
    loaded = Sequential.load(tmp_path / "model.npz")
    assert [metric.get_config() for metric in loaded.metrics] == [metric.get_config() for metric in chosen]
    assert loaded.evaluate(IDS, TARGETS, verbose=0) == trained.evaluate(IDS, TARGETS, verbose=0)


def test_perplexity_in_a_model():
    trained = model("perplexity", outputs=4, activation="softmax", loss="sparse_categorical_crossentropy")
    loss, perplexity = trained.evaluate(IDS, RNG.integers(0, 4, 31), verbose=0)
    assert perplexity == pytest.approx(np.exp(loss), rel=1e-5)
