"""The checker itself: it passes what is right, sees what is wrong, and refuses what it cannot judge."""

import numpy as np
import pytest

from scratchlstm import gradcheck
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding
from scratchlstm.model import Sequential


class Scale:
    """A reader's own layer, nothing inherited: y = a x, with a mistake on request."""

    def __init__(self, wrong=""):
        self.params = {"a": np.array([1.5, -0.5, 2.0])}
        self.grads = {}
        self.wrong = wrong

    def forward(self, x):
        self.x = x
        return x * self.params["a"]

    def backward(self, dy):
        da = np.sum(dy * self.x, axis=0)
        self.grads = {
            "": {"a": da},
            "value": {"a": da * (1 + 1e-6)},
            "missing": {},
            "shape": {"a": np.sum(dy * self.x)},
            "nan": {"a": da * np.nan},
        }[self.wrong]
        return dy * self.params["a"]


X = np.random.default_rng(0).normal(size=(4, 3))


def test_a_layer_of_ones_own_passes():
    report = gradcheck.check_layer(Scale(), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["a", "x"]
    assert "WRONG" not in str(report)


@pytest.mark.parametrize("wrong", ["value", "missing", "shape", "nan"])
def test_a_wrong_layer_of_ones_own_fails(wrong):
    report = gradcheck.check_layer(Scale(wrong), X)
    assert not report.ok
    assert [row.ok for row in report.rows] == [False, True]
    assert "WRONG" in str(report)


def test_a_report_without_rows_is_not_right():
    assert not gradcheck.Report("empty").ok


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Dense(3, dtype="float64"), X),
        (Dense(3, activation="softmax", dtype="float64"), X),
        (Dense(2, activation="tanh", use_bias=False, dtype="float64"), X.reshape(2, 2, 3)),
        (Activation("sigmoid", dtype="float64"), X),
        (Embedding(5, 2, dtype="float64"), np.array([[0, 1, 1], [4, 1, 0]])),
        (LSTM(2, dtype="float64"), X.reshape(2, 2, 3)),
        (LSTM(2, return_state=True, use_bias=False, dtype="float64"), X.reshape(2, 2, 3)),
        (LSTM(2, "relu", "hard_sigmoid", return_sequences=True, dtype="float64"), X.reshape(1, 4, 3)),
        (LSTM(2, return_sequences=True, implementation="textbook", dtype="float64"), X.reshape(2, 2, 3)),
    ],
)
def test_every_layer_passes(layer, x):
    report = gradcheck.check_layer(layer, x)
    assert report.ok, report
    assert {row.tensor for row in report.rows} >= set(layer.params)


def test_dropout_is_checked_with_one_mask():
    layer = Dropout(0.5, seed=0, dtype="float64")
    report = gradcheck.check_layer(layer, X, training=True)
    assert report.ok, report
    assert (layer.kept == 0).any()
    assert (layer.kept == 2).any()


def test_large_tensors_are_checked_along_random_directions(monkeypatch):
    monkeypatch.setattr(gradcheck, "EVERY_NUMBER", 2)
    assert gradcheck.check_layer(Scale(), X).ok
    assert not gradcheck.check_layer(Scale("value"), X, tolerance=1e-8).ok


def test_a_model_with_dropout_passes_as_it_is_trained():
    model = Sequential(seed=3)
    model.add(Embedding(6, 3, input_shape=(5,), dtype="float64"))
    model.add(Dropout(0.3, dtype="float64"))
    model.add(LSTM(4, return_sequences=True, dtype="float64"))
    model.add(LSTM(2, dtype="float64"))
    model.add(Dense(3, activation="softmax", dtype="float64"))
    model.compile("adam", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).integers(0, 6, size=(3, 5))
    report = gradcheck.check_model(model, x, [0, 2, 1], training=True)
    assert report.ok, report
    assert len(report.rows) == 1 + 3 + 3 + 2


def test_checking_changes_no_parameter():
    layer = LSTM(2, dtype="float64")
    layer.build((3, 3))
    before, x = layer.get_weights(), X.reshape(1, 4, 3)[:, :3].copy()
    x_before = x.copy()
    gradcheck.check_layer(layer, x)
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
    assert np.array_equal(x, x_before)


def test_float32_is_refused_in_words():
    with pytest.raises(ValueError, match="float32.*make it float64"):
        gradcheck.check_layer(Dense(2), X)
    with pytest.raises(ValueError, match="x is float32"):
        gradcheck.check_layer(Scale(), X.astype("float32"))


def test_numerical_gradient_of_a_known_function():
    a = np.array([[1.0, 2.0], [3.0, -1.0]])
    gradient = gradcheck.numerical_gradient(lambda: float(np.sum(a**3)), a)
    np.testing.assert_allclose(gradient, 3 * np.array([[1.0, 2.0], [3.0, -1.0]]) ** 2, rtol=1e-9)
    assert np.array_equal(a, [[1.0, 2.0], [3.0, -1.0]])
