"""Learning curves: what is drawn, and that nothing is shown."""

import sys

import numpy as np
import pytest

from scratchlstm.callbacks import History
from scratchlstm.inspection import learning_curve
from scratchlstm.inspection.plots import best_epoch

RUN = {
    "accuracy": [0.6, 0.8, 0.9],
    "loss": [0.7, 0.5, 0.3],
    "val_accuracy": [0.6, 0.7, 0.65],
    "val_loss": [0.7, 0.6, 0.8],
}
OTHER = {name: [value + 0.02 for value in values] for name, values in RUN.items()}


def test_both_quantities_of_both_halves_with_the_best_epoch():
    figure = learning_curve(RUN, title="a run")
    assert figure.get_suptitle() == "a run"
    for panel, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", name)
        training, validation, best = panel.lines
        np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(training.get_ydata(), RUN[name])
        np.testing.assert_array_equal(validation.get_ydata(), RUN[f"val_{name}"])
        assert best.get_xdata()[0] == 2
        assert [text.get_text() for text in panel.get_legend().get_texts()][:2] == ["training", "validation"]


def test_several_runs_show_median_and_range():
    panel = learning_curve(RUN, OTHER, RUN).axes[0]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), RUN["accuracy"])
    assert len(panel.collections) == 2


def test_a_history_object_without_validation_or_accuracy():
    history = History()
    history.on_epoch_end(0, {"loss": 0.5})
    (panel,) = learning_curve(history).axes
    assert len(panel.lines) == 1


def test_runs_of_different_lengths_are_compared_as_far_as_all_go():
    short = {name: values[:2] for name, values in RUN.items()}
    panel = learning_curve(RUN, short).axes[0]
    assert len(panel.lines[0].get_xdata()) == 2


@pytest.mark.parametrize("histories", [(), ({},), ({"loss": []},)])
def test_nothing_to_draw_is_refused(histories):
    with pytest.raises(ValueError, match="at least one history with a completed epoch"):
        learning_curve(*histories)


def test_best_epoch():
    assert best_epoch([RUN, OTHER]) == 2
    assert best_epoch([{"loss": [1.0]}]) is None


def test_pyplot_is_not_touched():
    sys.modules.pop("matplotlib.pyplot", None)
    learning_curve(RUN)
    assert "matplotlib.pyplot" not in sys.modules
