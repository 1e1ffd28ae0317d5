"""What objects and runs show in a notebook and in a terminal, without Jupyter: its kernel is in `tests/notebooks`."""

import html
import inspect
import io
import os
import pickle
import re
import sys
import time
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import figure, image
from tqdm import tqdm

from scratchlstm import inspection
from scratchlstm.callbacks import History, LambdaCallback
from scratchlstm.gradcheck import Report, Row
from scratchlstm.inspection import trace
from scratchlstm.layers import LSTM, Dense, Embedding, Input
from scratchlstm.models import Model, Sequential
from scratchlstm.training import progress

EVIL = '</td><script>alert("1")</script>&amp;'
WORDS = {"a": 1, "film": 2}


def _reader(**options):
    model = Sequential([Embedding(9, 4, input_shape=(3,)), LSTM(4), Dense(1, "sigmoid")], seed=1, **options)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def _trace():
    return trace(_reader(), np.array([[1, 2, 3]]), np.array([1]))


def _history(epochs, **values):
    history = History()
    for epoch in range(epochs):
        history.on_epoch_end(epoch, {"loss": 1 / (epoch + 1)} | values)
    return history


class _Cells(HTMLParser):
    """Texts of the cells, row by row, and the style of each row."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.styles, self.tags = [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
            self.styles.append(dict(attributes).get("style", ""))
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


# --- plots ------------------------------------------------------------------------------------------------------------

PLOTS = {
    "colored_words": lambda: inspection.colored_words(_trace(), ["a", "b", "c"]),
    "confusion_matrix": lambda: inspection.confusion_matrix(np.eye(2, dtype=int)),
    "gate_heatmap": lambda: inspection.gate_heatmap(_trace(), ["a", "b", "c"]),
    "gate_saturation": lambda: inspection.gate_saturation(_trace()),
    "gates_over_words": lambda: inspection.gates_over_words(_trace(), ["a", "b", "c"]),
    "gradient_norms": lambda: inspection.gradient_norms({"LSTM": np.ones(3)}),
    "learning_curve": lambda: inspection.learning_curve(_history(2)),
}


def test_every_plot_is_here():
    names = [name for name in inspection.__all__ if not isinstance(getattr(inspection, name), type)]
    assert {n for n in names if inspect.signature(getattr(inspection, n)).return_annotation == "Figure"} == set(PLOTS)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_shows_the_picture_that_it_saves(name):
    plot, saved = PLOTS[name](), io.BytesIO()
    assert isinstance(plot, figure.Figure)
    copied = pickle.loads(pickle.dumps(plot))
    copied.savefig(saved, format="png")
    shown = plot._repr_png_()
    assert shown == saved.getvalue()
    assert image.imread(io.BytesIO(shown)).std() > 0.01
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_report_marks_what_is_wrong():
    rows = [Row("kernel", (2, 8), 1e-10), Row(EVIL, (8,), 0.5, 1e-9, problem="in f (i, g, o ok)"), Row("x", ())]
    report = Report(EVIL, rows)
    shown = _Cells(report._repr_html_())
    assert shown.rows == [
        ["tensor", "shape", "vs numerical", "vs TensorFlow", "verdict"],
        ["kernel", "(2, 8)", "1.0e-10", "-", "ok"],
        [EVIL, "(8,)", "5.0e-01", "1.0e-09", "WRONG in f (i, g, o ok)"],
        ["x", "()", "-", "-", "WRONG"],
    ]
    assert [bool(style) for style in shown.styles] == [False, False, True, True]
    assert "script" not in shown.tags
    assert repr(report) == str(report)
    assert len(repr(report).splitlines()) == 5


def test_a_history_is_its_epochs():
    history = _history(2, val_loss=[0.25, 0.75], small=2e-5, odd="x" * 100)
    history.history["late"] = [1.0]  # which says nothing of its epoch, so that the table leaves it out
    told = "<History of 2 epochs, the last with loss 0.5000, val_loss 0.5000, small 2.0000e-05, odd xxx"
    assert repr(history).startswith(told)
    assert _Cells(history._repr_html_()).rows == [
        ["epoch", "loss", "val_loss", "small", "odd"],
        ["1", "1.0000", "0.5000", "2.0000e-05", "x" * 80],
        ["2", "0.5000", "0.5000", "2.0000e-05", "x" * 80],
    ]
    assert repr(_history(1)) == "<History of 1 epoch, the last with loss 1.0000>"
    assert repr(History()) == "<History of 0 epochs>"
    assert _Cells(History()._repr_html_()).rows == [["epoch"]]


def test_of_a_long_history_the_first_and_last_epochs_are_shown():
    epochs = [row[0] for row in _Cells(_history(100)._repr_html_()).rows]
    assert epochs == ["epoch", *map(str, range(1, 11)), "…", *map(str, range(91, 101))]
    assert len(_Cells(_history(20)._repr_html_()).rows) == 21


def test_a_model_is_its_layers():
    model = _reader()
    assert repr(model) == "<Sequential sequential: Embedding -> LSTM -> Dense; 185 parameters>"
    shown = _Cells(model._repr_html_())
    assert shown.rows == [
        ["Layer (type)", "Output Shape", "Param #"],
        ["embedding (Embedding)", "(None, 3, 4)", "36"],
        ["lstm (LSTM)", "(None, 4)", "144"],
        ["dense (Dense)", "(None, 1)", "5"],
    ]
    assert "Total params: 185 (740.00 B)" in model._repr_html_()


def test_any_model_has_a_line_and_a_table(capsys):
    x = Input((2,), name=EVIL)
    branched = Model(x, [Dense(1, name="one")(x), Dense(1, name="two")(x)], name=EVIL)
    assert repr(branched) == f"<Model {EVIL}: Dense, Dense; 6 parameters>"
    shown = _Cells(branched._repr_html_())
    assert shown.rows[0][-1] == "Connected to"
    assert shown.rows[1][0] == f"{EVIL} (Input)"
    assert "script" not in shown.tags
    assert repr(Sequential()) == "<Sequential sequential: no layers yet; not built>"
    assert repr(Sequential([Dense(1)])) == "<Sequential sequential: Dense; not built>"
    assert _Cells(Sequential([Dense(1)])._repr_html_()).rows[1][1:] == ["?", "0 (unbuilt)"]
    long = repr(Sequential([Dense(1, input_shape=(1,)), *(Dense(1) for _ in range(98)), LSTM(1)][:99]))
    assert long.startswith("<Sequential sequential: Dense -> Dense")
    assert long.count("->") == 12
    assert "-> ... -> Dense; 198 parameters>" in long


# --- the explorer page ------------------------------------------------------------------------------------------------


def test_the_page_is_a_path_and_shows_itself(tmp_path):
    path = tmp_path / 'a "page" & more.html'
    page = inspection.explore(_reader(), ["a", EVIL, "film"], path, word_index=WORDS)
    assert isinstance(page, os.PathLike)
    assert (os.fspath(page), str(page), Path(page)) == (str(path), str(path), path)
    assert repr(page) == f"<page {str(path)!r}: open it in a browser>"
    with open(page, encoding="utf-8") as file:
        written = file.read()
    frames = []

    class Frames(HTMLParser):
        def handle_starttag(self, tag, attributes):
            frames.append((tag, dict(attributes)))

    Frames().feed(page._repr_html_())
    assert [tag for tag, _ in frames] == ["iframe", "p"]
    assert frames[0][1]["srcdoc"] == written
    assert frames[0][1]["sandbox"] == "allow-scripts"  # and neither the notebook's origin nor its top window
    assert html.escape(str(path)) in page._repr_html_()
    path.unlink()
    assert html.escape(written) in page._repr_html_()


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """The outputs of a cell, each a list of what it showed, in a notebook that shows the bar at once."""
    outputs = []

    class Handle:
        def __init__(self, data):
            self.texts = [data["text/plain"]]

        def update(self, data, raw):
            self.texts.append(data["text/plain"])

    def display(data, raw, display_id):
        handle = Handle(data)
        outputs.append(handle.texts)
        return handle

    shell = types.ModuleType("IPython")
    shell.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shell.display = types.ModuleType("IPython.display")
    shell.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell.display)
    monkeypatch.setattr(progress, "_SHORT", 1e-9)
    monkeypatch.setattr(progress, "_INTERVAL", 0)
    return outputs


def _fit(**options):
    rng = np.random.default_rng(0)
    _reader().fit(rng.integers(9, size=(40, 3)), rng.integers(2, size=40), batch_size=4, **options)


def _wait(batch, logs):
    time.sleep(0.11)  # more than the time between two pictures of tqdm's


def test_a_notebook_shows_one_moving_line_an_epoch(shown, capsys):
    for _ in tqdm([0], file=io.StringIO()):  # under whose line tqdm would draw ours
        _fit(epochs=2, callbacks=LambdaCallback(on_train_batch_end=_wait))
    assert capsys.readouterr() == ("Epoch 1/2\nEpoch 2/2\n", "")
    assert len(shown) == 2
    for texts in shown:
        assert texts[0].startswith(" 1/10 ━━")
        assert re.match("10/10 ━━━━━━━━━━━━━━━━━━━━ [0-9]+s [0-9]", texts[-1])
        assert not any(mark in text for text in texts for mark in "\r\n\x1b")
        assert len(texts) > 5


@pytest.mark.parametrize(("verbose", "line"), [(1, "10/10 ━━━━━━━━━━━━━━━━━━━━ 0s "), (2, "10/10 - 0s - "), (0, "")])
def test_short_epochs_and_those_without_a_bar_are_lines_alone(shown, capsys, monkeypatch, verbose, line):
    monkeypatch.setattr(progress, "_SHORT", 60)
    _fit(epochs=2, verbose=verbose)
    assert shown == []
    out, err = capsys.readouterr()
    assert [text.startswith(line) for text in out.splitlines()[1::2]] == [True, True] * bool(verbose)
    assert err == ""


def test_after_an_error_the_bar_stays_where_it_was(shown, capsys):
    def stop(batch, logs):
        _wait(batch, logs)
        if batch == 2:
            raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        _fit(callbacks=LambdaCallback(on_train_batch_end=stop))
    assert capsys.readouterr() == ("Epoch 1/1\n", "")
    assert len(shown) == 1
    assert shown[0][-1].startswith(" 2/10 ━━━━")
