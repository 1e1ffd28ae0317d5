"""The fit loop: what it trains on, what it reports, and what remains after an interruption."""

import gc
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import textwrap
import tracemalloc
import weakref

import numpy as np
import pytest

from scratchlstm import Sequential, optimizers
from scratchlstm.callbacks import Callback
from scratchlstm.layers import LSTM, Bidirectional, Dense, Embedding, Layer
from scratchlstm.optimizers import SGD, Adam, RMSprop


class Recorder(Layer):
    """Passes its input on and keeps what it saw: first column only, which numbers the samples."""

    def __init__(self, **options):
        super().__init__(**options)
        self.trained, self.inferred = [], []

    def forward(self, x, run):
        (self.trained if run.training else self.inferred).append(x[:, 0].astype(int).tolist())
        return x, None

    def backward(self, dy, cache):
        return dy, {}


class Events(Callback):
    """Every call, in order."""

    def __init__(self):
        self.events = []

    def set_model(self, model):
        super().set_model(model)
        self.events.append("set_model")

    def on_train_begin(self, logs):
        self.events.append("train begin")

    def on_train_end(self, logs):
        self.events.append("train end")

    def on_epoch_begin(self, epoch, logs):
        self.events.append(f"epoch {epoch} begin")

    def on_epoch_end(self, epoch, logs):
        self.events.append(f"epoch {epoch} end {' '.join(logs)}")

    def on_train_batch_begin(self, batch, logs):
        self.events.append(f"batch {batch} begin")

    def on_train_batch_end(self, batch, logs):
        self.events.append(f"batch {batch} end {' '.join(logs)}")


class At(Callback):
    """Calls `action` at the end of this batch of this epoch, or at the end of this epoch."""

    def __init__(self, action, epoch, batch=None):
        self.action, self.moment = action, (epoch, batch)

    def on_epoch_begin(self, epoch, logs):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs):
        if (self.epoch, batch) == self.moment:
            self.action(self.model)

    def on_epoch_end(self, epoch, logs):
        if (epoch, None) == self.moment:
            self.action(self.model)


def _interrupt(model):
    raise KeyboardInterrupt


def _stop(model):
    model.stop_training = True


def _numbered(n=10):
    """x whose first column is the sample's number, and labels."""
    x = np.stack([np.arange(n), np.cos(np.arange(n))], axis=1)
    return x, np.arange(n) % 2


def _linear(optimizer="adam", metrics=("accuracy",), seed=0, recorder=False):
    first = [Recorder(input_shape=(2,))] if recorder else []
    model = Sequential([*first, Dense(1, activation="sigmoid", input_shape=(2,))], seed=seed)
    model.compile(optimizer, "binary_crossentropy", metrics=list(metrics))
    return model


def _same(ours, theirs):
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize(
    "optimizer",
    [lambda: Adam(0.01), lambda: RMSprop(0.01), lambda: SGD(0.3, momentum=0.9, nesterov=True)],
    ids=["Adam", "RMSprop", "SGD"],
)
def test_an_lstm_learns_what_only_memory_can_tell(implementation, optimizer):
    """The label is in the first of four tokens: a net that forgets stays at log 2 = 0.69."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, size=(256, 4))
    y = x[:, 0] > 1
    model = Sequential(
        [
            Embedding(4, 4, input_shape=(4,)),
            LSTM(8, implementation=implementation),
            Dense(1, activation="sigmoid"),
        ],
        seed=1,
    )
    model.compile(optimizer(), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=20, batch_size=16, verbose=0).history
    assert 0.6 < history["loss"][0] < 0.75
    assert history["loss"][-1] < 0.02
    assert history["accuracy"][-1] == 1
    assert model.evaluate(x, y, verbose=0)[1] == 1


# --- which samples ----------------------------------------------------------------------------------------------------


def test_without_shuffling_samples_come_in_order_and_the_rest_is_a_batch():
    model = _linear(recorder=True)
    model.fit(*_numbered(10), batch_size=4, shuffle=False, epochs=2, verbose=0)
    assert model.layers[0].trained == 2 * [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_shuffling_draws_a_new_order_of_all_samples_in_each_epoch():
    model = _linear(recorder=True)
    model.fit(*_numbered(10), batch_size=4, epochs=3, verbose=0)
    batches = model.layers[0].trained
    assert [len(batch) for batch in batches] == 3 * [4, 4, 2]
    epochs = [[*batches[k], *batches[k + 1], *batches[k + 2]] for k in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == 3 * [list(range(10))]
    assert len({tuple(epoch) for epoch in [list(range(10)), *epochs]}) == 4


def test_batches_are_of_32_by_default():
    model = _linear(recorder=True)
    model.fit(*_numbered(70), verbose=0)
    assert [len(batch) for batch in model.layers[0].trained] == [32, 32, 6]


def test_x_and_y_stay_together_in_shuffling():
    x = np.arange(1, 201.0)[:, None] / 200
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    model.compile(SGD(0.3), "mse")
    assert model.fit(x, 3 * x[:, 0] - 1, epochs=60, batch_size=7, verbose=0).history["loss"][-1] < 1e-4


@pytest.mark.parametrize(("split", "n", "cut"), [(0.2, 10, 8), (0.25, 10, 7), (0.1, 10, 9), (0.5, 3, 1), (0.01, 10, 9)])
def test_validation_split_takes_the_unshuffled_tail(split, n, cut):
    model = _linear(recorder=True)
    history = model.fit(*_numbered(n), validation_split=split, epochs=2, verbose=0).history
    assert [sorted(batch) for batch in model.layers[0].trained] == 2 * [list(range(cut))]
    assert model.layers[0].inferred == 2 * [list(range(cut, n))]
    assert len(history["val_loss"]) == 2


def test_validation_data_goes_before_validation_split():
    model = _linear(recorder=True)
    x, y = _numbered(10)
    model.fit(x, y, validation_data=(x[:3], y[:3]), validation_split=0.5, verbose=0)
    assert sorted(model.layers[0].trained[0]) == list(range(10))
    assert model.layers[0].inferred == [[0, 1, 2]]


@pytest.mark.parametrize("kind", [tuple, list])
def test_validation_data_is_evaluated_after_each_epoch(kind):
    x, y = _numbered(10)
    after = []
    model = _linear()

    class Evaluate(Callback):
        def on_epoch_end(self, epoch, logs):
            after.append(self.model.evaluate(x[:4], y[:4], verbose=0, return_dict=True))

    history = model.fit(x, y, epochs=3, validation_data=kind((x[:4], y[:4])), callbacks=[Evaluate()], verbose=0).history
    assert history["val_loss"] == [logs["loss"] for logs in after]
    assert history["val_accuracy"] == [logs["accuracy"] for logs in after]


def test_weights_in_validation_data_weigh_its_loss():
    x, y = _numbered(10)
    weight = np.arange(10.0)
    model = _linear()
    history = model.fit(x, y, validation_data=(x, y, weight), verbose=0).history
    expected = model.evaluate(x, y, sample_weight=weight, verbose=0)[0]
    assert history["val_loss"] == [expected]
    assert expected != model.evaluate(x, y, verbose=0)[0]


def test_lists_and_single_samples_will_do():
    model = _linear()
    model.fit([[0.5, 1.0]], [1], verbose=0)
    assert model.predict([[0.5, 1]], verbose=0).shape == (1, 1)


# --- weights of samples -----------------------------------------------------------------------------------------------


def test_class_weight_is_the_weight_of_each_sample_in_training_only():
    x, y = _numbered(10)
    by_class, by_sample = _linear(), _linear()
    history = by_class.fit(x, y, class_weight={0: 0.5, 1: 3}, validation_split=0.2, epochs=3, batch_size=3, verbose=0)
    by_sample.fit(x[:8], y[:8], sample_weight=np.where(y == 1, 3, 0.5)[:8], epochs=3, batch_size=3, verbose=0)
    assert _same(by_class.get_weights(), by_sample.get_weights())
    assert history.history["val_loss"][-1] == by_class.evaluate(x[8:], y[8:], verbose=0)[0]


def test_class_weight_reads_class_numbers_and_one_hot():
    x, labels = np.eye(3), np.array([0, 1, 2])
    runs = []
    for y, loss in ((labels, "sparse_categorical_crossentropy"), (np.eye(3), "categorical_crossentropy")):
        model = Sequential([Dense(3, activation="softmax", input_shape=(3,))], seed=0)
        model.compile(SGD(1.0), loss)
        model.set_weights([np.zeros((3, 3)), np.zeros(3)])
        model.fit(x, y, class_weight={2: 0}, verbose=0)
        runs.append(model.get_weights())
    assert _same(*runs)
    np.testing.assert_array_equal(runs[0][0][2], 0)
    assert np.all(runs[0][0][:2] != 0)


def test_classes_that_class_weight_leaves_out_weigh_one():
    runs = [_linear() for _ in range(2)]
    for model, weights in zip(runs, ({0: 2.0}, {0: 2.0, 1: 1.0}), strict=True):
        model.fit(*_numbered(), class_weight=weights, verbose=0)
    assert _same(runs[0].get_weights(), runs[1].get_weights())


def test_sample_weight_scales_the_loss_and_the_divisor_stays():
    x, y = _numbered(4)
    plain, weighted = _linear(SGD(1.0)), _linear(SGD(0.5))
    plain.fit(x, y, shuffle=False, verbose=0)
    history = weighted.fit(x, y, sample_weight=[2, 2, 2, 2], shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(2 * plain.history.history["loss"][0])
    assert history["accuracy"] == plain.history.history["accuracy"]
    for a, b in zip(weighted.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_sample_weight_reaches_every_step_of_a_sequence(shape):
    """Keras takes (N, 1) for outputs in sequence, and (N, 1) as well as (N,) elsewhere."""
    x, y = np.ones((6, 4), int), np.ones((6, 4))
    model = Sequential([Embedding(2, 3, input_shape=(4,)), LSTM(2, return_sequences=True), Dense(1)], seed=0)
    model.compile(SGD(0.1), "mse")
    unweighted = model.evaluate(x, y, verbose=0)
    halved = model.evaluate(x, y, sample_weight=np.full(shape, 0.5), verbose=0)
    assert halved == pytest.approx(unweighted / 2)


def test_sample_weight_may_be_a_column():
    x, y = _numbered(6)
    model = _linear()
    row = model.evaluate(x, y, sample_weight=np.arange(6), verbose=0)
    assert model.evaluate(x, y, sample_weight=np.arange(6)[:, None], verbose=0) == row


# --- history ----------------------------------------------------------------------------------------------------------


def test_history_is_alphabetical_training_first_and_plain_floats():
    x, y = _numbered(10)
    model = _linear(metrics=["binary_accuracy", "acc"])
    history = model.fit(x, y, epochs=3, validation_split=0.2, verbose=0)
    assert list(history.history) == [
        "acc", "binary_accuracy", "loss", "val_acc", "val_binary_accuracy", "val_loss",
    ]  # fmt: skip
    assert history.epoch == [0, 1, 2]
    assert history is model.history
    assert {type(value) for values in history.history.values() for value in values} == {float}
    assert {len(values) for values in history.history.values()} == {3}


def test_an_epochs_loss_is_the_mean_over_samples_not_over_batches():
    """The last, shorter batch has the large error; a mean over batches would count it too much."""
    x = np.array([[1.0]] * 4 + [[100.0]])
    model = Sequential([Dense(1, input_shape=(1,), use_bias=False)])
    model.compile(SGD(1e-30), "mse", metrics=["accuracy"])
    model.set_weights([[[1.0]]])
    history = model.fit(x, np.zeros(5), batch_size=4, shuffle=False, verbose=0).history
    assert history["loss"] == [pytest.approx((4 * 1 + 100**2) / 5)]


def test_a_batchs_loss_is_measured_before_its_update():
    model = Sequential([Dense(1, input_shape=(1,), use_bias=False)])
    model.compile(SGD(0.25), "mse")
    model.set_weights([[[2.0]]])
    history = model.fit([[1.0], [1.0]], [0, 0], batch_size=1, shuffle=False, verbose=0).history
    # w = 2: loss 4; then w = 2 - 0.25 * 4 = 1: loss 1
    assert history["loss"] == [2.5]
    assert model.get_weights()[0].item() == 0.5


def test_a_second_fit_starts_a_new_history_and_keeps_the_optimizer():
    model = _linear()
    first = model.fit(*_numbered(), epochs=2, verbose=0)
    second = model.fit(*_numbered(), epochs=1, verbose=0)
    assert first is not second
    assert (first.epoch, second.epoch) == ([0, 1], [0])
    assert model.optimizer.iterations == 3


def test_initial_epoch_goes_on_counting(capsys):
    events = Events()
    history = _linear().fit(*_numbered(), initial_epoch=3, epochs=5, callbacks=[events])
    assert history.epoch == [3, 4]
    assert len(history.history["loss"]) == 2
    assert re.findall("^Epoch .*$", capsys.readouterr().out, flags=re.MULTILINE) == ["Epoch 4/5", "Epoch 5/5"]
    assert "epoch 3 begin" in events.events


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_keras_order():
    events = Events()
    _linear().fit(*_numbered(10), batch_size=5, epochs=2, validation_split=0.2, callbacks=events, verbose=0)
    numbers = "accuracy loss"
    epochs = [
        [
            f"epoch {epoch} begin",
            *(f"batch {batch} {event}" for batch in (0, 1) for event in ("begin", f"end {numbers}")),
            f"epoch {epoch} end {numbers} val_accuracy val_loss",
        ]
        for epoch in (0, 1)
    ]
    assert events.events == ["set_model", "train begin", *epochs[0], *epochs[1], "train end"]


def test_batch_logs_are_running_means():
    seen = []

    class Keep(Callback):
        def on_train_batch_end(self, batch, logs):
            seen.append(dict(logs))

    history = _linear().fit(*_numbered(10), batch_size=4, callbacks=[Keep()], verbose=0).history
    assert len(seen) == 3
    assert seen[-1] == {name: values[0] for name, values in history.items()}
    assert seen[0] != seen[-1]


def test_each_of_several_callbacks_is_called_with_the_model():
    first, second = Events(), Events()
    model = _linear()
    model.fit(*_numbered(), callbacks=(first, second), verbose=0)
    assert first.events == second.events
    assert first.model is second.model is model


def test_stop_training_at_an_epochs_end():
    model, events = _linear(), Events()
    history = model.fit(*_numbered(), epochs=9, callbacks=[At(_stop, epoch=1), events], verbose=0)
    assert history.epoch == [0, 1]
    assert events.events[-1] == "train end"
    assert model.fit(*_numbered(), epochs=3, verbose=0).epoch == [0, 1, 2], "the wish ends with the run"


def test_stop_training_in_an_epoch_ends_it_after_the_batch():
    """As in Keras; the epoch counts."""
    model = _linear(recorder=True)
    history = model.fit(*_numbered(10), batch_size=2, epochs=9, callbacks=At(_stop, epoch=0, batch=1), verbose=0)
    assert history.epoch == [0]
    assert len(model.layers[0].trained) == 2


def test_callbacks_written_for_keras_work():
    class Keras(Callback):
        def on_train_begin(self, logs=None):
            self.losses = []

        def on_epoch_end(self, epoch, logs=None):
            self.losses.append(logs.get("loss"))

    callback = Keras()
    history = _linear().fit(*_numbered(), epochs=2, callbacks=[callback], verbose=0)
    assert callback.losses == history.history["loss"]


def test_an_exception_in_a_callback_reaches_the_caller():
    def fail(model):
        raise RuntimeError("mine")

    model = _linear()
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(*_numbered(), epochs=3, callbacks=At(fail, epoch=1), verbose=0)
    assert model.history.epoch == [0, 1]


# --- what is printed --------------------------------------------------------------------------------------------------

_NUMBER = r"(\d+\.\d{4}|\d\.\d{4}e-\d\d)"
_TIME = r"\d+s \d+(s|ms|us)/step"


def _lines(prefixes, names):
    return "".join(rf" - {prefix}{name}: {_NUMBER}" for prefix in prefixes for name in names)


@pytest.mark.parametrize("verbose", [1, "auto"])
@pytest.mark.parametrize("validate", [True, False])
def test_verbose_1_prints_keras_line_for_each_epoch(capsys, verbose, validate):
    split = {"validation_split": 0.3} if validate else {}
    _linear().fit(*_numbered(100 if validate else 70), batch_size=10, epochs=2, verbose=verbose, **split)
    numbers = _lines(["", "val_"] if validate else [""], ["accuracy", "loss"])
    epoch = (
        rf"Epoch {{}}/2\n7/7 ━{{{{20}}}} {_TIME.replace('{', '{{')}{numbers.replace('{', '{{').replace('}', '}}')}\n"
    )
    output = capsys.readouterr()
    assert re.fullmatch(epoch.format(1) + epoch.format(2), output.out), output.out
    assert output.err == ""


def test_verbose_2_prints_the_line_without_a_bar(capsys):
    _linear().fit(*_numbered(70), batch_size=10, verbose=2)
    numbers = _lines([""], ["accuracy", "loss"])
    output = capsys.readouterr().out
    assert re.fullmatch(rf"Epoch 1/1\n7/7 - \d+s - \d+(s|ms|us)/step{numbers}\n", output), output


def test_verbose_0_prints_nothing(capfd):
    model = _linear()
    x, y = _numbered()
    model.fit(x, y, epochs=2, validation_split=0.5, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert capfd.readouterr() == ("", "")


def test_evaluate_and_predict_print_their_line(capsys):
    model = _linear()
    x, y = _numbered()
    model.evaluate(x, y, batch_size=4)
    line = rf"3/3 ━{{20}} {_TIME}"
    assert re.fullmatch(line + _lines([""], ["accuracy", "loss"]) + "\n", capsys.readouterr().out)
    model.predict(x, batch_size=4)
    assert re.fullmatch(line + "\n", capsys.readouterr().out)
    model.evaluate(x, y, batch_size=4, verbose=2)
    assert re.match(r"3/3 - \d+s - \d+(s|ms|us)/step - accuracy", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("loss", "text"),
    [(0.69314, "0.6931"), (0.0010001, "0.0010"), (0.001, "1.0000e-03"), (1.25e-7, "1.2500e-07"), (1234.5, "1234.5000")],
)
def test_numbers_are_printed_as_keras_prints_them(capsys, loss, text):
    model = Sequential([Dense(1, input_shape=(1,), use_bias=False, dtype="float64")])
    model.compile(SGD(1e-30), "mse")
    model.set_weights([[[1.0]]])
    model.fit([[np.sqrt(loss)]], [0], verbose=1)
    assert capsys.readouterr().out.endswith(f" - loss: {text}\n")


def _script(body):
    setup = """
        import time
        import numpy as np
        from scratchlstm import Sequential, optimizers
        from scratchlstm.callbacks import Callback
        from scratchlstm.layers import Dense

        model = Sequential([Dense(1, activation="sigmoid", input_shape=(2,))], seed=0)
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        x = np.random.default_rng(0).normal(size=(2000, 2))
        y = x[:, 0] > 0

        class Slow(Callback):
            def on_train_batch_end(self, batch, logs):
                time.sleep(0.03)
    """
    return [sys.executable, "-u", "-c", textwrap.dedent(setup) + textwrap.dedent(body)]


def _in_terminal(command):
    """What the command writes to a terminal of 24 lines and 100 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        chunks = []
        try:
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
        except OSError:  # Linux' way to say that the other end is closed
            pass
        finally:
            os.close(ours)
        assert process.wait(timeout=30) == 0, process.stderr.read().decode()
    return b"".join(chunks).decode()


def test_a_terminal_shows_a_moving_bar_that_gives_way_to_the_line():
    output = _in_terminal(_script("model.fit(x, y, batch_size=100, epochs=2, callbacks=Slow())"))
    states = re.findall(r"\r *(\d+)/20 [━ ]{20} +(?:\d+s \d+ms/step - accuracy: \d\.\d{4} - loss: (\d\.\d{4}))", output)
    done = [int(steps) for steps, _ in states]
    assert len(set(done)) > 4, output
    assert len({loss for _, loss in states}) > 4, "the running loss moves"
    assert done[: done.index(max(done))] == sorted(done[: done.index(max(done))])
    shown = [_as_terminal(line) for line in output.split("\n")]
    line = rf"20/20 ━{{20}} {_TIME}{_lines([''], ['accuracy', 'loss'])}"
    assert len(shown) == 5, shown
    for text, pattern in zip(shown, ["Epoch 1/2", line, "Epoch 2/2", line, ""], strict=True):
        assert re.fullmatch(pattern, text), shown


def _as_terminal(line):
    """What stays visible: each carriage return writes over what was there."""
    visible = ""
    for part in line.rstrip("\r").split("\r"):
        visible = part + visible[len(part) :]
    return visible.rstrip()


def test_a_pipe_gets_no_moving_bar():
    body = "model.fit(x, y, batch_size=100, epochs=2, callbacks=Slow()); model.predict(x)"
    run = subprocess.run(_script(body), capture_output=True, text=True, timeout=60, check=True)
    assert "\r" not in run.stdout
    assert "\x1b" not in run.stdout
    assert len(run.stdout.splitlines()) == 5
    assert re.sub("^scratchlstm compiles its loops.*\n", "", run.stderr) == ""  # the first program of all


@pytest.mark.parametrize("body", ["model.fit(x, y)", "model.summary()"])
def test_a_terminal_of_few_characters_does_not_end_the_training(body):
    """Keras drops the characters that stdout cannot show; an epoch's work must not be lost over a bar."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    run = subprocess.run(_script(body), capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-300:]


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [lambda: Adam(0.1), lambda: SGD(0.1, momentum=0.9), lambda: SGD(0.1)])
@pytest.mark.parametrize(("epoch", "batch"), [(2, 0), (2, 1), (2, 2)])
def test_an_interruption_leaves_the_last_completed_epoch(optimizer, epoch, batch):
    stopped, whole = _linear(optimizer()), _linear(optimizer())
    whole.fit(*_numbered(10), batch_size=4, epochs=epoch, verbose=0)
    message = f"interrupted in epoch {epoch + 1}.* {epoch} completed epochs are in model.history"
    with pytest.raises(KeyboardInterrupt, match=message):
        stopped.fit(*_numbered(10), batch_size=4, epochs=9, callbacks=At(_interrupt, epoch, batch), verbose=0)
    _assert_same_training(stopped, whole)
    for model in (stopped, whole):
        model.rng = np.random.default_rng(1)
        model.fit(*_numbered(10), batch_size=4, epochs=2, verbose=0)
    _assert_same_training(stopped, whole)


def _assert_same_training(ours, theirs):
    assert _same(ours.get_weights(), theirs.get_weights())
    assert ours.history.history == theirs.history.history
    assert ours.history.epoch == theirs.history.epoch
    assert ours.optimizer.iterations == theirs.optimizer.iterations
    assert [list(slots) for slots in ours.optimizer.state] == [list(slots) for slots in theirs.optimizer.state]
    for a, b in zip(ours.optimizer.state, theirs.optimizer.state, strict=True):
        assert _same(list(a.values()), list(b.values()))


def test_an_interruption_of_the_first_epoch_leaves_the_initial_weights():
    model = _linear()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 1"):
        model.fit(*_numbered(10), batch_size=4, epochs=9, callbacks=At(_interrupt, 0, 1), verbose=0)
    assert _same(model.get_weights(), before)
    assert model.history.history == {}
    assert (model.optimizer.iterations, model.optimizer.state) == (0, [])


def test_an_interruption_at_an_epochs_end_keeps_that_epoch():
    stopped, whole = _linear(), _linear()
    whole.fit(*_numbered(10), epochs=2, verbose=0)
    with pytest.raises(KeyboardInterrupt, match="2 completed epochs"):
        stopped.fit(*_numbered(10), epochs=9, callbacks=At(_interrupt, epoch=1), verbose=0)
    _assert_same_training(stopped, whole)


def test_an_interruption_of_validation_undoes_the_epoch(monkeypatch):
    stopped, whole = _linear(), _linear()
    whole.fit(*_numbered(10), epochs=1, validation_split=0.2, verbose=0)
    infer, calls = Sequential.infer, []

    def interrupted(self, x):
        calls.append(1)
        return infer(self, x) if len(calls) == 1 else _interrupt(self)

    monkeypatch.setattr(Sequential, "infer", interrupted)
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 2"):
        stopped.fit(*_numbered(10), epochs=9, validation_split=0.2, verbose=0)
    _assert_same_training(stopped, whole)


def test_an_interruption_in_the_middle_of_an_update_leaves_no_mixture(monkeypatch):
    stopped, whole = _linear(), _linear()
    whole.fit(*_numbered(10), epochs=1, verbose=0)
    step, calls = Adam.step, []

    def interrupted(self, *arguments):
        step(self, *arguments)
        calls.append(1)
        if len(calls) == 3:  # the second step's first parameter is moved, its second is not
            raise KeyboardInterrupt

    monkeypatch.setattr(Adam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 2"):
        stopped.fit(*_numbered(10), epochs=9, verbose=0)
    monkeypatch.undo()
    _assert_same_training(stopped, whole)


def test_ctrl_c_in_a_running_program():
    body = """
        class Tell(Callback):
            def on_epoch_end(self, epoch, logs):
                self.kept = self.model.get_weights(), dict(logs), self.model.optimizer.iterations

            def on_epoch_begin(self, epoch, logs):
                self.epoch = epoch

            def on_train_batch_end(self, batch, logs):
                if self.epoch == 1:
                    if batch == 3:
                        print("ready")
                    time.sleep(0.05)

        tell = Tell()
        try:
            model.fit(x, y, batch_size=4, epochs=1000, callbacks=tell, verbose=0)
        except KeyboardInterrupt as interrupt:
            print(interrupt)
        weights, logs, iterations = tell.kept
        assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
        assert model.history.history == {name: [value] for name, value in logs.items()}
        assert model.optimizer.iterations == iterations == 500
    """
    with subprocess.Popen(_script(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert re.match(r"training was interrupted in epoch 2; 1 completed epochs? (is|are) in model.history", output)


def test_an_uncaught_ctrl_c_ends_a_program_with_its_message():
    body = """
        class Stop(Callback):
            def on_train_batch_end(self, batch, logs):
                raise KeyboardInterrupt

        model.fit(x, y, callbacks=Stop(), verbose=0)
    """
    run = subprocess.run(_script(body), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode != 0
    assert "KeyboardInterrupt: training was interrupted in epoch 1" in run.stderr


# --- weights ----------------------------------------------------------------------------------------------------------


def _weighted(y, loss="binary_crossentropy", **weights):
    y = np.asarray(y, float)
    model = Sequential([Dense(y.shape[-1] if y.ndim > 1 else 1, input_shape=(1,))], seed=0)
    model.compile(SGD(0.1), loss)
    model.fit(np.ones((len(y), 1)), y, verbose=0, **weights)
    return model.history.history["loss"], model.get_weights()


_SOFT_LABELS = {
    "smoothed": ([0.05, 0.95, 0.5, 0.51], [2, 5, 2, 5]),
    "a column": ([[0.4], [0.6]], [2, 5]),
    "beyond the classes": ([-0.4, 1.5, 2.5, 3.2], [2, 1, 1, 1]),
    "rows": ([[0.9, 0.1], [0.45, 0.55], [2.0, 3.0]], [2, 5, 5]),
}


@pytest.mark.parametrize(("y", "weights"), _SOFT_LABELS.values(), ids=_SOFT_LABELS)
def test_class_weights_of_labels_that_are_not_whole(y, weights):
    """Keras takes the whole number next to a label; without that the weights would be ignored."""
    ours, expected = (
        _weighted(y, "mse", **how) for how in ({"class_weight": {0: 2, 1: 5}}, {"sample_weight": np.array(weights)})
    )
    assert ours[0] == expected[0] != _weighted(y, "mse")[0]
    assert all(map(np.array_equal, ours[1], expected[1]))


@pytest.mark.parametrize("y", [[[1, 1], [0, 1]], [[0, 0], [0, 1]], [[0.5, 0.5], [0, 1]]])
def test_class_weights_need_one_label_a_row(y):
    with pytest.raises(ValueError, match=r"class_weight needs one label for each sample, but y has shape \(2, 2\)"):
        _weighted(y, "mse", class_weight={0: 2.0})


def test_a_negative_weight_turns_a_samples_gradient_around():
    """As in Keras; what a policy gradient weights by may be negative."""
    start = _weighted([1.0], "mse", sample_weight=np.zeros(1))[1]
    there, back = (_weighted([1.0], "mse", sample_weight=np.full(1, sign))[1] for sign in (1.0, -1.0))
    for a, b, c in zip(start, there, back, strict=True):
        np.testing.assert_allclose(b - a, a - c, rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_trained_without_a_gradient(monkeypatch, workers):
    """A layer that forgets one is refused: taken for zero, its parameter would silently stay as it was drawn."""
    backward = Dense.backward
    monkeypatch.setattr(Dense, "backward", lambda *arguments: (backward(*arguments)[0], {"bias": None}))
    model = Sequential([Dense(2, input_shape=(3,)), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    weights = model.get_weights()
    with pytest.raises(ValueError, match="backward returned no gradient of dense/kernel, dense/bias, dense_1/kernel"):
        model.fit(np.ones((4, 3)), np.ones(4), workers=workers, verbose=0)
    assert all(map(np.array_equal, model.get_weights(), weights))


# --- memory -----------------------------------------------------------------------------------------------------------


def test_one_copy_of_the_last_epoch_is_kept():
    model = Sequential([Dense(1000, input_shape=(1000,))], seed=0)
    model.compile(SGD(0.1, momentum=0.9), "mse")
    size = sum(w.nbytes for w in model.params)
    x = np.ones((1, 1000), np.float32)
    tracemalloc.start()
    try:
        model.fit(x, x, epochs=3, verbose=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # the momentum, an old and a new gradient, and the copy of parameters and momentum; a second copy makes it 6
    assert peak < 5.5 * size


def _deep():
    layers = [Bidirectional(LSTM(4, return_sequences=True), input_shape=(5, 3)), LSTM(2), Dense(1)]
    model = Sequential(layers, seed=0)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("fault", ["loss", "gradient", "backward"])
def test_a_step_gives_its_memory_back_also_after_an_error(monkeypatch, fault):
    """Three LSTMs, two of one size: each step runs in the memory of the one before, whether that failed or not."""
    model, x, y = _deep(), np.ones((6, 5, 3)), np.ones(6)
    model.train_on_batch(x, y)
    memory = {id(workspace) for workspace in model.workspaces.free}
    assert len(memory) == 3
    weights = model.get_weights()
    with monkeypatch.context() as patch:
        if fault == "gradient":
            patch.setattr(optimizers, "is_finite", lambda gradient: False)
        elif fault == "backward":
            patch.setattr(LSTM, "scan_back", lambda *arguments: _interrupt(arguments))
        for _ in range(5):
            with np.errstate(all="ignore"), pytest.raises((FloatingPointError, KeyboardInterrupt)):
                model.train_on_batch(x, 1e30 * y if fault == "loss" else y)
            assert {id(workspace) for workspace in model.workspaces.free} == memory
    assert _same(model.get_weights(), weights)
    model.train_on_batch(x, y)
    assert {id(workspace) for workspace in model.workspaces.free} == memory


def test_a_model_that_is_dropped_is_freed_at_once():
    """Not only when Python looks for reference cycles, which on a GPU may be long after its memory is full."""
    gc.collect()
    gc.disable()
    try:
        model = _deep()
        model.fit(np.ones((6, 5, 3)), np.ones(6), verbose=0)
        model.predict(np.ones((6, 5, 3)), verbose=0)
        freed = [weakref.ref(thing) for thing in (model, model.network, *model.layers)]
        del model
        assert [ref() for ref in freed] == [None] * 5
    finally:
        gc.enable()


class Interrupts(Callback):
    """Ctrl-C while the parameters after the second epoch are copied."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.weights = self.model.get_weights()

            def interrupted(layer):
                raise KeyboardInterrupt

            self.monkeypatch.setattr(Dense, "extra_state", interrupted)


def test_an_interruption_while_an_epoch_is_kept(monkeypatch):
    model = Sequential([Dense(2, input_shape=(3,))], seed=0)
    model.compile(SGD(0.1), "mse")
    interrupts = Interrupts(monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="epoch 2; 2 completed epochs are in model.history, .* of the last one"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=3, verbose=0, callbacks=interrupts)
    assert all(map(np.array_equal, model.get_weights(), interrupts.weights))


# --- flags and paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shuffle", "same_as"), [(1, True), (0, False), (np.bool_(True), True), (np.bool_(False), False)]
)
def test_flags_may_be_numbers_or_numpys(shuffle, same_as):
    histories = []
    for flag in shuffle, same_as:
        model = Sequential([Dense(1, input_shape=(1,))], seed=0)
        model.compile(SGD(0.1), "mse")
        x = np.arange(8.0)[:, None]
        histories.append(model.fit(x, x, batch_size=3, shuffle=flag, verbose=0).history)
    assert histories[0] == histories[1]


def test_a_path_that_no_file_can_have_does_not_begin_a_run():
    model = Sequential([Dense(1, input_shape=(1,))], seed=0)
    model.compile(SGD(0.1), "mse")
    with pytest.raises(ValueError, match="resume must be the name of a file, not a name with a NUL character"):
        model.fit(np.ones((2, 1)), np.ones(2), resume="a\0b", verbose=0)
    assert model.optimizer.iterations == 0


def test_a_metric_of_classes_on_one_column():
    model = Sequential([Dense(1, "sigmoid", input_shape=(1,))], seed=0)
    model.compile("sgd", "binary_crossentropy", metrics=["perplexity"])
    with pytest.raises(ValueError, match=r"y, for the metric perplexity: targets must be whole numbers from 0 to 0"):
        model.fit(np.ones((2, 1)), [0, 1], verbose=0)


# --- without a console ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["0<&- 1>&- 2>&-", "1>&-", "2>&-"])
def test_training_without_standard_streams(stream, tmp_path):
    body = """
        import sys
        model.fit(x, y, epochs=2)
        model.evaluate(x, y)
        model.predict(x)
        model.summary()
        open(sys.argv[1], "w").write(str(len(model.history.epoch)))
    """
    command = [*_script(body), str(tmp_path / "done")]
    run = subprocess.run(["sh", "-c", f'exec "$@" {stream}', "sh", *command], timeout=60, check=False)
    assert run.returncode == 0
    assert (tmp_path / "done").read_text() == "2"
