"""What each callback does in a real run, in one process and in two."""

import csv
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import Sequential, callbacks, metrics
from scratchlstm._support.files import read_arrays, write_arrays
from scratchlstm.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningCurve,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    Snapshots,
    SwapEMAWeights,
    TerminateOnNaN,
)
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.optimizers import SGD

pytestmark = pytest.mark.usefixtures("without_numba")  # its processes start in half the time
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 2))
Y = (X.sum(axis=1) > 0).astype(int)
IDS, LABELS = RNG.integers(0, 12, (30, 5)), RNG.integers(0, 2, 30)
BOTH = pytest.mark.parametrize("workers", [1, 2])


def dense(rate=0.5, metrics=("accuracy",), seed=0):
    model = Sequential([Dense(1, activation="sigmoid", input_shape=(2,))], seed=seed)
    model.compile(SGD(rate), "binary_crossentropy", metrics=list(metrics))
    return model


def reader(rate=1.0):
    model = Sequential([Embedding(12, 4, input_shape=(5,)), LSTM(3), Dense(1, activation="sigmoid")], seed=0)
    model.compile(SGD(rate), "binary_crossentropy")
    return model


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


class Logs(Callback):
    """Replaces a number of the logs by what a test wants it to be."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs):
        logs[self.name] = self.values[epoch]


class Weights(Callback):
    """The weights at each epoch's end."""

    def on_train_begin(self, logs):
        self.seen = []

    def on_epoch_end(self, epoch, logs):
        self.seen.append(self.model.get_weights())


def fit(model, watchers, epochs=6, workers=1, **options):
    return model.fit(X, Y, batch_size=8, epochs=epochs, callbacks=watchers, workers=workers, verbose=0, **options)


# --- early stopping ---------------------------------------------------------------------------------------------------


@BOTH
def test_early_stopping_restores_the_best_epoch_in_all_processes(workers):
    model, weights = reader(), Weights()
    stop = EarlyStopping("goodness", mode="max", patience=2, restore_best_weights=True)
    watchers = [Logs("goodness", [0.1, 0.5, 0.4, 0.3, 0.6]), weights, stop]
    history = model.fit(IDS, LABELS, batch_size=10, epochs=9, callbacks=watchers, workers=workers, verbose=0)
    assert history.epoch == [0, 1, 2, 3]
    assert (stop.stopped_epoch, stop.best_epoch, stop.best, stop.wait) == (3, 1, 0.5, 2)
    assert same(model.get_weights(), weights.seen[1])
    assert not same(model.get_weights(), weights.seen[3])
    assert model.evaluate(IDS, LABELS, verbose=0) == pytest.approx(_loss_of(weights.seen[1]))


def _loss_of(weights):
    model = reader()
    model.set_weights(weights)
    return model.evaluate(IDS, LABELS, verbose=0)


def test_restored_weights_are_those_of_that_moment_though_training_goes_on():
    model, stop = dense(), EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True)
    first = Weights()
    fit(model, [first, stop], epochs=4)
    assert stop.best_epoch == 0
    assert stop.stopped_epoch == 0
    assert same(model.get_weights(), first.seen[0])


def test_early_stopping_tells_what_it_does_only_if_asked(capsys):
    for verbose, lines in ((0, []), (1, ["Epoch 3: early stopping", "the best epoch: 1"])):
        stop = EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True, verbose=verbose)
        fit(dense(), stop)
        told = capsys.readouterr().out.splitlines()
        assert len(told) == len(lines)
        assert all(part in line for part, line in zip(lines, told, strict=True))


def test_nan_is_never_the_best():
    """In Keras a NaN that comes first stays the best forever, since no number is below it."""
    stop = EarlyStopping("odd", mode="min", patience=3)
    fit(dense(), [Logs("odd", [float("nan"), 2.0, 1.0, float("nan"), 3.0, 3.0]), stop])
    assert (stop.best, stop.best_epoch, stop.stopped_epoch) == (1.0, 2, 5)


@pytest.mark.parametrize(
    ("monitor", "metric", "direction"),
    [
        ("val_loss", "accuracy", "min"),
        ("loss", "accuracy", "min"),
        ("accuracy", "accuracy", "max"),
        ("val_acc", "acc", "max"),
        ("val_mine", metrics.AUC(name="mine"), "max"),
        ("recall", "recall", "max"),
    ],
)
def test_auto_knows_the_direction(monitor, metric, direction):
    stop = EarlyStopping(monitor, patience=9)
    fit(dense(metrics=[metric]), stop, epochs=1, validation_split=0.25)
    assert stop.sign == {"min": -1, "max": 1}[direction]


@pytest.mark.parametrize(
    "make", [EarlyStopping, ReduceLROnPlateau, lambda m: ModelCheckpoint("x", m, save_best_only=True)]
)
class TestMonitorsThatCannotBe:
    def refused(self, monitor, match, make, watchers=(), metrics=("accuracy",)):
        model = dense(metrics=metrics)
        with pytest.raises(ValueError, match=match):
            fit(model, [*watchers, make(monitor)])
        return model.optimizer.iterations

    def test_before_training(self, make, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert self.refused("val_loss", "needs 'val_loss', which requires validation_data", make) == 0
        assert self.refused("acuracy", "'acuracy' should increase or decrease.*one of accuracy, loss", make) == 0

    def test_at_the_first_epochs_end(self, make, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make_max = lambda monitor: _with_mode(make(monitor), "max")  # noqa: E731
        assert self.refused("goodness", "monitors 'goodness', but the logs hold accuracy, loss", make_max) == 3
        two = [metrics.Precision([0.25, 0.5])]
        assert self.refused("precision", "has several values", make, metrics=two) == 3


def _with_mode(callback, mode):
    callback.mode = mode
    return callback


# --- learning rates ---------------------------------------------------------------------------------------------------


@BOTH
def test_a_plateau_reduces_the_rate_of_all_workers(workers):
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    runs = []
    for number in (1, workers):
        model = reader(0.5)
        slower = ReduceLROnPlateau("plateau", mode="min", factor=0.25, patience=2, cooldown=1, min_lr=0.1)
        watchers = [Logs("plateau", values), slower]
        history = model.fit(IDS, LABELS, batch_size=10, epochs=6, callbacks=watchers, workers=number, verbose=0)
        runs.append(model.get_weights())
        assert history.history["learning_rate"] == [0.5, 0.5, 0.5, 0.5, 0.125, 0.125]
        assert model.optimizer.learning_rate == 0.1
    for one, several in zip(*runs, strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-5, atol=1e-7)


@BOTH
def test_a_scheduler_sets_the_rate_before_each_epoch(workers, capsys):
    for schedule in (lambda epoch: 0.5 / (epoch + 1), lambda epoch, rate: rate if epoch == 0 else rate / 2):
        model = dense(0.5)
        history = fit(model, LearningRateScheduler(schedule, verbose=1), epochs=2, workers=workers)
        assert history.history["learning_rate"] == [0.5, 0.25]
        assert capsys.readouterr().out.splitlines() == [
            "Epoch 1: learning rate set to 0.5.",
            "Epoch 2: learning rate set to 0.25.",
        ]


def test_an_error_in_a_schedule_is_not_taken_for_another_kind_of_schedule():
    """Keras calls the function again with one argument where it raised TypeError itself."""

    def broken(epoch, rate=None):
        return rate + "x"

    with pytest.raises(TypeError, match="unsupported operand"):
        fit(dense(), LearningRateScheduler(broken))


@pytest.mark.parametrize("value", [None, "0.1", float("nan"), -1.0, 0.0])
def test_a_scheduler_that_gives_no_rate_ends_before_the_epoch(value):
    model = dense()
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        fit(model, LearningRateScheduler(lambda epoch: value))
    assert model.optimizer.iterations == 0


# --- a NaN or infinite loss -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@BOTH
@pytest.mark.parametrize("bad", [0, 5])  # in the first worker's rows, or in the second's
def test_terminate_on_nan_ends_training_without_an_error(workers, bad, capsys):
    x = np.ones((18, 1))
    x[6 + bad] = 1e30
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    model.compile(SGD(0.01), "mse", metrics=["accuracy"])
    watch, ended = Weights(), []
    history = model.fit(
        x, np.ones(18), batch_size=6, epochs=5, shuffle=False, workers=workers, verbose=0,
        validation_data=(x[:3], np.ones(3)),
        callbacks=[TerminateOnNaN(), watch, LambdaCallback(on_train_end=ended.append)],
    )  # fmt: skip
    assert "Batch 1: the loss is NaN or infinite" in capsys.readouterr().out
    assert history.epoch == [0]
    assert np.isnan(history.history["loss"][0])
    assert np.isfinite(history.history["val_loss"][0])
    assert len(ended) == 1
    whole = Sequential([Dense(1, input_shape=(1,))], seed=0)
    whole.compile(SGD(0.01), "mse")
    whole.fit(x[:6], np.ones(6), batch_size=6, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert model.optimizer.iterations == 1
    assert model.evaluate(x[:3], np.ones(3), verbose=0)[0] == pytest.approx(history.history["val_loss"][0])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_terminate_on_nan_can_raise():
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    model.compile(SGD(0.01), "mse")
    with pytest.raises(RuntimeError, match="the loss of batch 0 is NaN"):
        model.fit([[1e30]], [1], callbacks=[TerminateOnNaN(raise_error=True)], verbose=0)


# --- files ------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_checkpoint_is_the_model_of_that_moment(tmp_path, workers):
    model, weights = reader(), Weights()
    save = ModelCheckpoint(tmp_path / "runs" / "{epoch:02d}-{loss:.2f}.npz")
    history = model.fit(IDS, LABELS, epochs=2, callbacks=[weights, save], batch_size=10, workers=workers, verbose=0)
    names = [f"{n + 1:02d}-{loss:.2f}.npz" for n, loss in enumerate(history.history["loss"])]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names
    for name, expected in zip(names, weights.seen, strict=True):
        loaded = Sequential.load(tmp_path / "runs" / name)
        assert same(loaded.get_weights(), expected)
    assert loaded.optimizer.iterations == model.optimizer.iterations == 6


def test_a_model_under_the_name_of_a_file_of_keras_is_refused_before_training():
    with pytest.raises(ValueError, match=r"Keras could not open as 'best\.keras': choose a name that ends in \.npz"):
        ModelCheckpoint("best.keras")


def test_only_the_best_model_is_kept(tmp_path, capsys):
    path = tmp_path / "best.npz"
    weights = Weights()
    save = ModelCheckpoint(path, "odd", mode="min", save_best_only=True, verbose=1, initial_value_threshold=2.5)
    fit(dense(), [Logs("odd", [3.0, 2.0, 2.25, 1.0, 1.5, 1.0]), weights, save])
    assert same(Sequential.load(path).get_weights(), weights.seen[3])
    assert save.best == 1.0
    told = capsys.readouterr().out.splitlines()
    assert [("saved" in line, "did not improve" in line) for line in told] == [
        (False, True), (True, False), (False, True), (True, False), (False, True), (False, True)
    ]  # fmt: skip


def test_checkpoints_after_some_batches(tmp_path):
    save = ModelCheckpoint(str(tmp_path / "{epoch}-{batch}.npz"), save_freq=4)
    fit(dense(), save, epochs=3)  # 3 batches an epoch
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2-1.npz", "3-2.npz"]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"save_weights_only": True}, ValueError, "save_weights_only=True is not supported.*get_weights"),
        ({"save_freq": "batch"}, ValueError, "save_freq must be a whole number above 0"),
        ({"save_freq": 0}, ValueError, "save_freq must be"),
        ({"mode": "best"}, ValueError, 'mode must be "auto", "min" or "max"'),
        ({"initial_value_threshold": "low"}, ValueError, "initial_value_threshold must be"),
    ],
)
def test_what_a_checkpoint_refuses_at_once(options, error, match):
    with pytest.raises(error, match=match):
        ModelCheckpoint("model.npz", **options)


@pytest.mark.parametrize(
    ("make", "error", "match", "steps"),
    [
        (lambda folder: ModelCheckpoint(folder), IsADirectoryError, "is a folder; name a file", 0),
        (lambda folder: ModelCheckpoint(folder / "file" / "m.npz"), OSError, "cannot write to the output folder", 0),
        (lambda folder: ModelCheckpoint(folder / "{val_loss:.2f}"), ValueError, "needs 'val_loss'", 0),
        (lambda folder: ModelCheckpoint(folder / "{epoch"), ValueError, "expected '}'", 0),
        (lambda folder: ModelCheckpoint(folder / "{los}"), ValueError, "from epoch, accuracy, loss: KeyError.'los'", 3),
        (lambda folder: ModelCheckpoint(folder / "{loss:d}"), ValueError, "from epoch, accuracy, loss: .*code 'd'", 3),
        (lambda folder: CSVLogger(folder / "file" / "log.csv"), OSError, "cannot write to the output folder", 0),
        (lambda folder: LearningCurve(folder / "file" / "a.png"), OSError, "cannot write to the output folder", 0),
        (lambda folder: LearningCurve(), ValueError, "needs a path", 0),
    ],
)
def test_files_that_cannot_be_written_are_told_before_training(tmp_path, make, error, match, steps):
    (tmp_path / "file").touch()
    model = dense()
    with pytest.raises(error, match=match):
        fit(model, make(tmp_path))
    assert model.optimizer.iterations == steps


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_csv_rows_are_the_history(tmp_path):
    path = tmp_path / "logs" / "run.csv"
    history = fit(dense(), CSVLogger(path), epochs=3, validation_split=0.25).history
    assert [int(row["epoch"]) for row in rows(path)] == [0, 1, 2]
    for name, values in history.items():
        assert [float(row[name]) for row in rows(path)] == values
    assert [entry.name for entry in path.parent.iterdir()] == ["run.csv"], "no temporary file is left"


def test_a_csv_file_is_appended_to_or_replaced(tmp_path):
    path = tmp_path / "run.csv"
    fit(dense(), CSVLogger(path), epochs=2)
    fit(dense(), CSVLogger(path, append=True), epochs=1, validation_split=0.5)
    assert [row["epoch"] for row in rows(path)] == ["0", "1", "0"]
    assert [row["val_loss"] != "NA" for row in rows(path)] == [False, False, True]
    fit(dense(), CSVLogger(path), epochs=1)
    assert [row["epoch"] for row in rows(path)] == ["0"]


def test_csv_columns_that_are_not_there_are_told_and_the_file_stays(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("epoch,loss\n0,0.5\n")
    with pytest.raises(ValueError, match="no column for accuracy: its columns are epoch, loss"):
        fit(dense(), CSVLogger(path, append=True))
    assert path.read_text() == "epoch,loss\n0,0.5\n"


def test_a_row_without_its_newline_is_completed(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("epoch,accuracy,loss\n0,1.0,0.5")
    fit(dense(), CSVLogger(path, append=True), epochs=1)
    assert len(rows(path)) == 2


def _size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return len(png)


@pytest.mark.parametrize(
    ("every", "first", "epochs"), [(1, 0, [0, 1, 2, 3, 4, 5]), (2, 0, [0, 2, 4]), (3, 2, [2, 3]), (9, 0, [0])]
)
def test_snapshots_are_the_weights_before_training_and_after_epochs(every, first, epochs):
    model, watch, snapshots = dense(), Weights(), Snapshots(every)
    for _ in range(2):  # a second training begins from its own weights, and forgets the first
        before = model.get_weights()
        fit(model, [watch, snapshots], epochs=5, initial_epoch=first)
        expected = {first: before} | dict(enumerate(watch.seen, start=first + 1))
        assert [epoch for epoch, _ in snapshots.snapshots] == epochs
        assert all(same(weights, expected[epoch]) for epoch, weights in snapshots.snapshots)


def test_snapshots_of_no_training_are_none():
    assert Snapshots().snapshots == []


def test_a_learning_curve_in_a_file(tmp_path):
    path = tmp_path / "curve.png"
    sizes = []

    def note(epoch, logs):
        sizes.append(_size(path.read_bytes()))

    fit(dense(), [LearningCurve(path, title="a run"), LambdaCallback(on_epoch_end=note)], validation_split=0.25)
    assert len(sizes) == 6
    assert len(set(sizes)) > 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["curve.png"]


def test_a_learning_curve_in_a_notebook_takes_one_cell(monkeypatch):
    shown = []

    class Handle:
        def update(self, picture):
            shown.append(("update", picture))

    def display(picture, display_id):
        shown.append(("display", picture))
        return Handle()

    shell = types.ModuleType("IPython")
    shell.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shell.display = types.ModuleType("IPython.display")
    shell.display.Image, shell.display.display = (lambda data: data), display
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell.display)
    curve = LearningCurve()
    for _ in range(2):  # each run has its own
        fit(dense(), curve, epochs=3)
        assert [how for how, _ in shown] == ["display", "update", "update"]
        assert all(_size(picture) for _, picture in shown)
        shown.clear()
        assert curve.curves.epoch == [0, 1, 2]


def test_a_terminal_with_ipython_is_no_notebook(monkeypatch):
    shell = types.ModuleType("IPython")
    shell.get_ipython = lambda: types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", shell)
    with pytest.raises(ValueError, match="needs a path"):
        fit(dense(), LearningCurve())


# --- averages ---------------------------------------------------------------------------------------------------------


def averaged(**options):
    model = reader()
    model.compile(SGD(0.5, use_ema=True, ema_momentum=0.75, **options), "binary_crossentropy")
    return model


def averages(model):
    return [kept["average"] for kept in model.optimizer.state]


class Both(Callback):
    """Weights and averages at each moment."""

    def __init__(self):
        self.seen = []

    def note(self, moment):
        self.seen.append((moment, self.model.get_weights(), [average.copy() for average in averages(self.model)]))

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.note("epoch begins")

    def on_test_begin(self, logs=None):
        self.note("test begins")

    def on_test_end(self, logs=None):
        assert list(logs) == ["loss"]
        self.note("test ends")

    def on_epoch_end(self, epoch, logs=None):
        self.note("epoch ends")

    def on_train_end(self, logs=None):
        self.note("training ends")


@BOTH
@pytest.mark.parametrize("swap_on_epoch", [None, False, True])
def test_when_the_model_has_its_averages(swap_on_epoch, workers):
    model, weights = averaged(), Both()
    swap = [] if swap_on_epoch is None else [SwapEMAWeights(swap_on_epoch)]
    options = {"epochs": 2, "validation_split": 0.5, "workers": workers, "batch_size": 4}
    history = model.fit(IDS, LABELS, callbacks=[*swap, weights], verbose=0, **options).history
    expected = {"test begins": bool(swap), "epoch ends": swap_on_epoch is True, "training ends": True}
    names = ["test begins", "test ends", "epoch ends"]
    assert [moment for moment, _, _ in weights.seen] == [*names, "epoch begins", *names, "training ends"]
    for moment, w, average in weights.seen:
        assert same(w, average) == expected.get(moment, False), moment
    last = weights.seen[-3:]
    assert same(last[0][2], last[2][2])  # what is swapped stays exactly what it was
    assert same(model.params, averages(model))
    validated = model.evaluate(IDS[15:], LABELS[15:], verbose=0)
    assert (validated == pytest.approx(history["val_loss"][-1], rel=1e-6)) == bool(swap)


def test_swapping_changes_nothing_of_the_training():
    plain, swapped = averaged(), averaged()
    for model, listeners in (plain, []), (swapped, [SwapEMAWeights(swap_on_epoch=True)]):
        model.fit(IDS, LABELS, epochs=3, validation_split=0.5, callbacks=listeners, verbose=0)
    assert same(plain.params, swapped.params)
    assert same(averages(plain), averages(swapped))


def test_a_saved_epoch_has_the_averages(tmp_path):
    model = averaged()
    save = ModelCheckpoint(tmp_path / "{epoch}.npz")
    model.fit(IDS, LABELS, epochs=2, callbacks=[SwapEMAWeights(swap_on_epoch=True), save], verbose=0)
    first, last = (Sequential.load(tmp_path / f"{epoch}.npz") for epoch in (1, 2))
    assert same(last.params, model.params)
    assert not same(first.params, last.params)
    for loaded in first, last:
        assert same(loaded.params, averages(loaded))


def test_a_run_that_is_stopped_early_ends_with_averages():
    model = averaged()
    stop = LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model.fit(IDS, LABELS, epochs=9, callbacks=[SwapEMAWeights(swap_on_epoch=True), stop], verbose=0)
    once = averaged()
    once.fit(IDS, LABELS, epochs=1, verbose=0)
    assert same(model.params, once.params)


def test_two_that_swap_are_refused():
    model = Sequential([Embedding(9, 2), LSTM(2), Dense(1)], seed=1)
    model.compile(SGD(use_ema=True), "mse")
    with pytest.raises(ValueError, match="callbacks must hold only one SwapEMAWeights, but there are several"):
        model.fit(IDS, LABELS, callbacks=[SwapEMAWeights(), SwapEMAWeights(True)], verbose=0)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_weights_and_averages_apart(error):
    """Those of the last completed epoch after Ctrl-C, those of the last batch after an error."""

    def stop(batch, logs):
        if len(weights.seen) > 2 and batch == 1:
            weights.note("interrupted")
            raise error

    model, weights = averaged(), Both()
    with pytest.raises(error):
        model.fit(IDS, LABELS, epochs=3, batch_size=8, verbose=0, shuffle=False,
                  callbacks=[weights, LambdaCallback(on_train_batch_end=stop)])  # fmt: skip
    _, w, average = weights.seen[-1] if error is RuntimeError else weights.seen[-3]
    assert same(model.get_weights(), w)
    assert same(averages(model), average)
    assert not same(w, average)


def test_averages_that_nothing_keeps_are_refused_before_training():
    model = dense()
    before = model.get_weights()
    with pytest.raises(ValueError, match="SwapEMAWeights needs averages: compile .* use_ema=True"):
        fit(model, [SwapEMAWeights()])
    assert same(before, model.get_weights())


# --- functions, hooks, params -----------------------------------------------------------------------------------------


def test_lambda_callback_calls_what_keras_would():
    seen = []
    names = ("on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end")
    hooks = {name: lambda *arguments, name=name: seen.append((name, *arguments)) for name in (*names, "on_train_end")}
    history = fit(dense(), LambdaCallback(**hooks), epochs=1, validation_split=0.5).history
    assert [(name, *rest) for name, *rest, _ in seen[:3]] == [
        ("on_train_begin",), ("on_epoch_begin", 0), ("on_train_batch_begin", 0)
    ]  # fmt: skip
    assert [logs for *_, logs in seen[:3]] == [{}, {}, {}]
    assert seen[-2] == ("on_epoch_end", 0, {name: values[0] for name, values in history.items()})
    assert seen[-1] == ("on_train_end", seen[-2][2])


def test_params_tell_what_fit_is_about_to_do():
    callback = Callback()
    fit(dense(), callback, epochs=4, validation_split=0.25)
    assert callback.params == {
        "epochs": 4, "epoch": 0, "steps": 3, "verbose": 0, "metrics": ["accuracy", "loss", "val_accuracy", "val_loss"]
    }  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 2])
@BOTH
def test_the_validation_has_its_moments(epochs, workers):
    class Watch(Callback):
        def on_test_begin(self, logs=None):
            seen.append(("begin", logs))

        def on_test_end(self, logs=None):
            seen.append(("end", logs))

    seen = []
    fit(dense(), Watch(), epochs=epochs, workers=workers)  # without a validation
    assert seen == []
    history = fit(dense(), Watch(), epochs=epochs, validation_split=0.25, workers=workers).history
    found = zip(history["val_accuracy"], history["val_loss"], strict=True)
    ends = [{"accuracy": accuracy, "loss": loss} for accuracy, loss in found]
    assert seen == [moment for end in ends for moment in (("begin", {}), ("end", end))]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_test_begin", "on_test_end", "on_epoch_end"])
def test_a_callback_that_evaluates_leaves_the_metrics_of_fit_alone(hook):
    watch = type("Watch", (Callback,), {hook: lambda self, *_: self.model.evaluate(X[:3], 1 - Y[:3], verbose=0)})()
    histories = [fit(dense(), each, epochs=2, validation_split=0.25).history for each in (Callback(), watch)]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("hook", ["on_test_batch_begin", "on_predict_batch_end", "on_batch_end", "on_epoch_ends"])
def test_hooks_that_are_never_called_are_refused(hook):
    mine = type("Mine", (Callback,), {hook: lambda self, *arguments: None})()
    with pytest.raises(TypeError, match=f"Mine has {hook}, but fit calls only on_epoch_begin, on_epoch_end"):
        fit(dense(), [mine])


def test_functions_that_lambda_callback_does_not_call_are_refused():
    with pytest.raises(TypeError, match="on_test_begin"):
        LambdaCallback(on_test_begin=print)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(patience=-1),
        lambda: EarlyStopping(patience=1.5),
        lambda: EarlyStopping(min_delta=float("nan")),
        lambda: EarlyStopping(baseline="low"),
        lambda: EarlyStopping(start_from_epoch=-1),
        lambda: EarlyStopping(mode="highest"),
        lambda: ReduceLROnPlateau(factor=1.0),
        lambda: ReduceLROnPlateau(factor=0.0),
        lambda: ReduceLROnPlateau(cooldown=-1),
        lambda: ReduceLROnPlateau(min_lr=-1e-3),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="must be"):
        make()


# --- state: a run that is stopped and goes on -------------------------------------------------------------------------


def _through_a_file(state, folder):
    """State as a checkpoint stores it: JSON and, separately, arrays."""
    arrays = {
        f"{name}/{number}": array
        for name, value in state.items()
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray)
        for number, array in enumerate(value)
    }
    write_arrays(folder / "state.npz", arrays)
    lists = {name.split("/")[0] for name in arrays}
    plain = json.loads(json.dumps({name: value for name, value in state.items() if name not in lists}))
    read = read_arrays(folder / "state.npz", "state") if arrays else {}
    return plain | {name: [read[f"{name}/{number}"] for number in range(len(state[name]))] for name in lists}


STATEFUL = {
    "early stopping": lambda folder: EarlyStopping("odd", mode="min", patience=3, restore_best_weights=True),
    "plateau": lambda folder: ReduceLROnPlateau("odd", mode="min", patience=2, factor=0.5, cooldown=2),
    "checkpoint": lambda folder: ModelCheckpoint(folder / "{epoch}.npz", "odd", mode="min", save_best_only=True),
    "batches": lambda folder: ModelCheckpoint(folder / "{epoch}-{batch}.npz", save_freq=4),
    "csv": lambda folder: CSVLogger(folder / "log.csv"),
    "curve": lambda folder: LearningCurve(folder / "curve.png"),
    "snapshots": lambda folder: Snapshots(every=2),
}


@pytest.mark.parametrize("cut", [1, 4])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_run_in_two_halves_is_the_run_in_one(tmp_path, name, cut):
    odd = Logs("odd", [3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.0])
    results = []
    for halves in (False, True):
        folder = tmp_path / str(halves)
        folder.mkdir()
        model, callback = dense(), STATEFUL[name](folder)
        if not halves:
            fit(model, [odd, callback], epochs=7, shuffle=False)
        else:
            # stopped by an error, as by a crash: on_train_end is not called
            with pytest.raises(RuntimeError, match="crash"):
                fit(model, [odd, callback, _crash_after(cut)], epochs=7, shuffle=False)
            state = _through_a_file(callback.get_state(), tmp_path)
            callback = STATEFUL[name](folder)
            resume = LambdaCallback(on_train_begin=lambda logs: callback.set_state(state))  # noqa: B023
            fit(model, [odd, callback, resume], epochs=7, initial_epoch=cut, shuffle=False)
        results.append((model.get_weights(), callback.get_state(), _contents(folder)))
    (weights, state, files), (other_weights, other_state, other_files) = results
    assert same(weights, other_weights)
    assert state.keys() == other_state.keys()
    for key, value in state.items():
        arrays = key in ("best_weights", "copies")
        assert same(value, other_state[key]) if arrays and value else value == other_state[key]
    assert files == other_files


def _crash_after(epochs):
    def crash(epoch, logs):
        if epoch == epochs - 1:
            raise RuntimeError("crash")

    return LambdaCallback(on_epoch_end=crash)


def _contents(folder: Path):
    found = {}
    for path in folder.iterdir():
        arrays = read_arrays(path, "model").items() if path.suffix == ".npz" else [("", path.read_bytes())]
        found[path.name] = {name: value if name == "" else value.tobytes() for name, value in arrays}
    return found


def test_what_has_no_state_gives_none():
    for callback in (Callback(), TerminateOnNaN(), LearningRateScheduler(lambda epoch: 0.1), LambdaCallback()):
        assert callback.get_state() == {}
        callback.set_state({})


def test_every_callback_is_tested_here():
    """Or, `Checkpoint`, in test_checkpoint.py."""
    assert {getattr(callbacks, name) for name in callbacks.__all__} == {
        Callback, callbacks.Checkpoint, CSVLogger, EarlyStopping, History, LambdaCallback, LearningCurve,
        LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau, Snapshots, SwapEMAWeights, TerminateOnNaN,
    }  # fmt: skip
