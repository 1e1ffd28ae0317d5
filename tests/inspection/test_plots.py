"""Learning curves: what is drawn, and that nothing is shown."""

import io
import sys

import numpy as np
import pytest

from scratchlstm.callbacks import History
from scratchlstm.callbacks.curves import best_epoch
from scratchlstm.inspection import confusion_matrix, learning_curve

RUN = {
    "accuracy": [0.6, 0.8, 0.9],
    "loss": [0.7, 0.5, 0.3],
    "val_accuracy": [0.6, 0.7, 0.65],
    "val_loss": [0.7, 0.6, 0.8],
}
OTHER = {name: [value + 0.02 for value in values] for name, values in RUN.items()}


def told(panel):
    return [text.get_text() for text in panel.texts]


def test_both_quantities_of_both_halves_with_the_best_epoch():
    figure = learning_curve(RUN, title="a run")
    assert figure.get_suptitle() == "a run"
    assert figure.axes[-1].get_xlabel() == "epoch"
    assert told(figure.axes[0])[0] == "lowest validation loss (epoch 2)"
    for panel, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        assert panel.get_ylabel() == name
        training, validation, best = panel.lines
        np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(training.get_ydata(), RUN[name])
        np.testing.assert_array_equal(validation.get_ydata(), RUN[f"val_{name}"])
        assert best.get_xdata()[0] == 2
        assert told(panel)[-2:] == ["training", "validation"]


def test_several_runs_show_median_and_range():
    panel = learning_curve(RUN, OTHER, RUN).axes[0]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), RUN["accuracy"])
    assert len(panel.collections) == 2


def test_kinds_of_runs_have_their_colours_and_ranges():
    figure = learning_curve({"LSTM": [RUN, OTHER], "RNN": [OTHER]}, title="two kinds")
    assert figure.get_suptitle() == "two kinds"
    for panel in figure.axes:
        labels = [f"{kind}, {half}" for kind in ("LSTM", "RNN") for half in ("training", "validation")]
        assert [line.get_label() for line in panel.lines] == labels
        lstm, lstm_validation, rnn, rnn_validation = panel.lines
        assert lstm.get_color() == lstm_validation.get_color() != rnn.get_color() == rnn_validation.get_color()
        assert lstm.get_linewidth() < lstm_validation.get_linewidth()
        assert len(panel.collections) == 2  # of the kind with two runs
    accuracy = figure.axes[0].lines
    np.testing.assert_allclose(accuracy[0].get_ydata(), [0.61, 0.81, 0.91])
    np.testing.assert_allclose(accuracy[2].get_ydata(), OTHER["accuracy"])


def test_kinds_may_be_of_different_lengths_and_hold_history_objects():
    history = History()
    for epoch in range(5):
        history.on_epoch_end(epoch, {"loss": 0.5})
    (panel,) = learning_curve({"long": (history,), "short": [{"loss": [1.0, 0.5]}]}).axes
    assert [len(line.get_xdata()) for line in panel.lines] == [5, 2]
    assert panel.get_xlim()[1] == 5


def test_one_kind_alone_shows_its_best_epoch():
    panel = learning_curve({"LSTM": [RUN, OTHER]}).axes[0]
    assert told(panel) == ["lowest validation loss (epoch 2)", "LSTM, training", "LSTM, validation"]


def test_a_history_object_without_validation_or_accuracy():
    history = History()
    history.on_epoch_end(0, {"loss": 0.5})
    (panel,) = learning_curve(history).axes
    assert len(panel.lines) == 1


def test_runs_of_different_lengths_are_compared_as_far_as_all_go():
    short = {name: values[:2] for name, values in RUN.items()}
    panel = learning_curve(RUN, short).axes[0]
    assert len(panel.lines[0].get_xdata()) == 2


@pytest.mark.parametrize("epochs", [1, 2, 5, 40])
def test_ticks_stand_at_whole_epochs(epochs):
    for panel in learning_curve({"loss": [0.5] * epochs, "val_loss": [0.6] * epochs}).axes:
        left, right = panel.get_xlim()
        ticks = [tick for tick in panel.get_xticks() if left <= tick <= right]
        assert left < 1 <= min(ticks) <= max(ticks) <= epochs == right
        assert all(tick == round(tick) for tick in ticks)


def test_validation_alone_can_be_drawn():
    validation = {name: values for name, values in RUN.items() if name.startswith("val_")}
    figure = learning_curve({"LSTM": [validation], "RNN": [validation]})
    for panel, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        assert panel.get_ylabel() == f"validation {name}"
        assert told(panel) == ["LSTM", "RNN"]
        np.testing.assert_array_equal(panel.lines[0].get_ydata(), RUN[f"val_{name}"])


def test_an_epoch_that_came_to_nothing_is_not_the_best():
    run = {"loss": [1.0, np.nan, 0.5], "val_loss": [1.0, np.nan, 0.9]}
    assert best_epoch([run]) == 3
    assert best_epoch([run, {"val_loss": [1.0, 0.5, 0.6]}]) == 3
    assert best_epoch([{"val_loss": [np.nan, np.nan]}]) is None
    panel = learning_curve(run).axes[0]
    assert told(panel)[0] == "lowest validation loss (epoch 3)"


def test_histories_without_a_curve_in_common_are_told_so():
    match = "draws accuracy or loss where all histories have it, but they have loss and accuracy"
    with pytest.raises(ValueError, match=match):
        learning_curve({"loss": [1.0]}, {"accuracy": [1.0]})
    with pytest.raises(ValueError, match="but they have lr"):
        learning_curve({"lr": [1.0]})


@pytest.mark.parametrize("label", ["$\\x$", "costs $5 and $6", "_hidden"])
def test_labels_and_titles_are_shown_letter_by_letter(label):
    figure = learning_curve({label: [RUN], "b": [OTHER]}, title=label)
    figure.savefig(io.BytesIO())
    texts = figure.axes[0].texts
    assert told(figure.axes[0])[:2] == [f"{label}, training", f"{label}, validation"]
    assert not any(text.get_parse_math() for text in [*texts, *figure.texts])
    matrix = confusion_matrix([[1, 0], [0, 1]], labels=[label, "b"], title=label)
    matrix.savefig(io.BytesIO())
    panel = matrix.axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == [label, "b"]
    assert panel.get_title() == label


@pytest.mark.parametrize("histories", [(), ({},), ({"loss": []},), ({"a": [RUN], "b": []},), ({"a": [{}]},)])
def test_nothing_to_draw_is_refused(histories):
    with pytest.raises(ValueError, match="at least one history with a completed epoch"):
        learning_curve(*histories)


@pytest.mark.parametrize("histories", [(5,), ([RUN],), ({"a": [RUN], "b": RUN},), ({"a": [RUN, 5]},), ("loss",)])
def test_what_are_no_histories_is_refused(histories):
    with pytest.raises(TypeError, match="learning_curve takes History objects or their history dicts, or one dict of"):
        learning_curve(*histories)


def test_best_epoch():
    assert best_epoch([RUN, OTHER]) == 2
    assert best_epoch([{"loss": [1.0]}]) is None


def test_pyplot_is_not_touched():
    sys.modules.pop("matplotlib.pyplot", None)
    learning_curve(RUN)
    assert "matplotlib.pyplot" not in sys.modules


# --- confusion matrix -------------------------------------------------------------------------------------------------


def shades(panel):
    return [tile.get_alpha() for tile in panel.patches]


def test_a_confusion_matrix_shows_counts_shaded_by_row():
    (panel,) = confusion_matrix([[90, 10], [1, 1]], labels=["no", "yes"], title="a model").axes
    assert told(panel) == ["90", "10", "1", "1"]
    assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_title()) == ("predicted class", "true class", "a model")
    assert [text.get_text() for text in panel.get_xticklabels()] == ["no", "yes"]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["no", "yes"]
    np.testing.assert_allclose(np.divide(shades(panel), shades(panel)[0]), np.divide([0.9, 0.1, 0.5, 0.5], 0.9))


def test_a_class_that_never_occurs_is_an_empty_row():
    panel = confusion_matrix([[2, 1], [0, 0]]).axes[0]
    assert shades(panel)[2:] == [0, 0]


@pytest.mark.parametrize("names", [["negative", "positive"], [f"a rather long class {n}" for n in range(12)]])
def test_nothing_of_a_confusion_matrix_is_cut_off_or_overlaps(names):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = confusion_matrix(np.full((len(names), len(names)), 12345), labels=names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    panel = figure.axes[0]
    texts = [panel.xaxis.label, panel.yaxis.label, *panel.get_xticklabels(), *panel.get_yticklabels()]
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    cell = panel.bbox.width / len(names)
    assert all(text.get_window_extent(canvas.get_renderer()).width < cell for text in panel.texts)


@pytest.mark.parametrize(
    ("matrix", "labels", "match"),
    [
        ([[1, 2]], None, r"must be square, \(C, C\), not \(1, 2\)"),
        ([], None, "must be square"),
        ([[0.5, 1], [1, 1]], None, "must hold counts"),
        ([[-1, 1], [1, 1]], None, "must hold counts"),
        ([["a"]], None, "must hold counts"),
        ([[1, 1], [1, 1]], ["no"], "labels must name the 2 classes, but there are 1"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, labels, match):
    with pytest.raises(ValueError, match=match):
        confusion_matrix(matrix, labels)
