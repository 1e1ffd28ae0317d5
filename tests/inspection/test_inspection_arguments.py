"""Arguments that cannot be: each is named, whatever came."""

import numpy as np
import pytest

from scratchlstm import Sequential, layers
from scratchlstm.inspection import (
    colored_words,
    confusion_matrix,
    explore,
    gate_heatmap,
    gate_saturation,
    gates_over_words,
    gradient_norm_over_time,
    gradient_norms,
    learning_curve,
    trace,
)

ARRAY = np.ones((2, 3))
WRONG = [True, -1, float("nan"), float("inf"), ARRAY, {"a": 1}, [1, 2], ...]
WORDS = list("abcdef")
HISTORY = {"loss": [1.0, 0.5], "val_loss": [1.0, 0.6]}


@pytest.fixture(scope="module")
def model():
    model = Sequential([layers.Embedding(11, 5, input_shape=(6,)), layers.LSTM(4), layers.Dense(1, "sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    return model


@pytest.fixture(scope="module")
def traced(model):
    return trace(model, np.arange(12).reshape(2, 6) % 11, np.array([0, 1]))


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_titles(traced, wrong):
    for draw in (
        lambda title: gates_over_words(traced, WORDS, title=title),
        lambda title: gate_heatmap(traced, WORDS, title=title),
        lambda title: gate_saturation(traced, title=title),
        lambda title: colored_words(traced, WORDS, title=title),
        lambda title: confusion_matrix(np.eye(2, dtype=int), title=title),
        lambda title: learning_curve(HISTORY, title=title),
        lambda title: gradient_norms({"LSTM": np.ones(3)}, title=title),
    ):
        with pytest.raises(TypeError, match="title must be a string, not"):
            draw(wrong)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_names_of_layers(model, traced, wrong):
    for look in (
        traced.__getitem__,
        lambda layer: gates_over_words(traced, WORDS, layer=layer),
        lambda layer: gradient_norm_over_time(model, traced.x, traced.y, layer=layer),
    ):
        with pytest.raises(TypeError, match="layer must be a string, not"):
            look(wrong)


@pytest.mark.parametrize("wrong", [*WRONG, None, "False"], ids=repr)
def test_choices(traced, wrong):
    with pytest.raises(ValueError, match="gate must be one of i, f, g, o"):
        gate_heatmap(traced, WORDS, gate=wrong)
    with pytest.raises(ValueError, match="by must be 'cell' or 'saliency'"):
        colored_words(traced, WORDS, by=wrong)
    with pytest.raises(ValueError, match="name must be that of a gradient, one of dh_above, dh_next"):
        traced.lstm.gradient(wrong)


@pytest.mark.parametrize("wrong", [None, True, "False", float("nan"), float("inf"), ARRAY, {"a": 1}, 6], ids=repr)
def test_steps(traced, wrong):
    with pytest.raises(ValueError, match="steps must"):
        traced.lstm.importance(0, wrong)


def test_one_step_gives_a_number_for_each_unit(traced):
    expected = np.abs(traced.lstm.dc[0, -1].astype("float64") * traced.lstm.c[0, -1])
    np.testing.assert_array_equal(traced.lstm.importance(0, -1), expected)
    np.testing.assert_array_equal(traced.lstm.importance(0, [5]), expected)


@pytest.mark.parametrize("wrong", [True, -1, float("nan"), "ab", ...], ids=repr)
def test_labels_of_classes(wrong):
    with pytest.raises(TypeError, match="labels must be a list of names"):
        confusion_matrix(np.eye(2, dtype=int), labels=wrong)


@pytest.mark.parametrize("wrong", ["False", -1, float("nan"), ARRAY, {"a": 1}, ...], ids=repr)
def test_the_label_of_a_page(model, tmp_path, wrong):
    with pytest.raises((TypeError, ValueError), match="^label: "):
        explore(model, "a b", tmp_path / "page.html", word_index={"a": 1, "b": 2}, label=wrong)
    assert list(tmp_path.iterdir()) == []
