"""A run that was stopped, however it was stopped, ends as if it had not been: byte for byte."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stopping import Stop, Stopped

from scratchlstm import Input, Sequential, callbacks
from scratchlstm.callbacks import Callback, Checkpoint
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding
from scratchlstm.metrics import Metric
from scratchlstm.optimizers import SGD, Adam

pytestmark = pytest.mark.usefixtures("without_numba")  # see test_compiled_training.py

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 30, (43, 7)), RNG.integers(0, 2, 43)
EPOCHS, BATCHES = 3, 5  # of 43 - 8 samples


def tutorial(optimizer="adam", units=3, rate=0.3, loss="binary_crossentropy"):
    model = Sequential([Embedding(30, 4), Dropout(rate), LSTM(units), Dense(1, activation="sigmoid")], seed=1)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def fit(model, path=None, stop=None, save_freq="epoch", more=(), **options):
    """Train, with a checkpoint at `path`; resume from it where it is there."""
    settings = {"epochs": EPOCHS, "batch_size": 7, "validation_data": (X[:8], Y[:8]), "verbose": 0, **options}
    callbacks = [*more] if path is None else [Checkpoint(path, save_freq), *more, Stop(stop)]
    x, y = settings.pop("data", (X[8:], Y[8:]))
    return model.fit(x, y, callbacks=callbacks, resume=path, **settings)


def content(model):
    """All that training changes."""
    return (
        [w.tobytes() for w in model.params],
        [{name: array.tobytes() for name, array in slots.items()} for slots in model.optimizer.state],
        (model.optimizer.iterations, model.optimizer.learning_rate),
        (model.history.epoch, model.history.history),
        model.rng.bit_generator.state,
        [source.rng.bit_generator.state for source in model.dropout_masks],
    )


def until_through(make, path, batches, **options):
    """Begin again and again, each time for so many batches; the last model, and how often it was stopped."""
    for stops in range(100):
        model = make()
        try:
            fit(model, path, stop=batches, **options)
        except Stopped:
            continue
        return model, stops
    raise AssertionError("it never got through")


@pytest.fixture(scope="module")
def straight():
    model = tutorial()
    fit(model)
    return content(model)


@pytest.mark.parametrize(
    ("batches", "save_freq", "stops"), [(6, "epoch", 2), (2, 1, 14), (4, 2, 5), (4, 3, 5), (7, 5, 2)]
)
def test_a_run_stopped_again_and_again_ends_as_one_that_was_not(tmp_path, straight, batches, save_freq, stops):
    model, stopped = until_through(tutorial, tmp_path / "run", batches, save_freq=save_freq)
    assert content(model) == straight
    assert stopped == stops
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: Adam(0.01, global_clipnorm=0.1),
        lambda: SGD(0.1),
        lambda: SGD(0.1, momentum=0.9, nesterov=True),
        lambda: "rmsprop",
        lambda: SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4),
    ],
    ids=["clipped adam", "sgd", "nesterov", "rmsprop", "averaged"],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_whatever_the_optimizer_and_the_order(tmp_path, optimizer, shuffle):
    model = tutorial(optimizer())
    fit(model, shuffle=shuffle)
    resumed, _ = until_through(lambda: tutorial(optimizer()), tmp_path / "run", 4, save_freq=3, shuffle=shuffle)
    assert content(resumed) == content(model)


def averaged():
    return tutorial(Adam(0.05, use_ema=True, ema_momentum=0.75))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_in_the_place_of_weights(tmp_path, swap_on_epoch, workers):
    def swap():
        return [callbacks.SwapEMAWeights(swap_on_epoch)]

    model = averaged()
    fit(model, more=swap(), workers=workers)
    path = tmp_path / "run"
    resumed, _ = until_through(averaged, path, 6, save_freq=4, more=swap(), workers=workers)
    assert content(resumed) == content(model)
    again = averaged()
    fit(again, path, more=swap(), workers=workers)  # of which nothing is left to be done
    assert content(again) == content(model)
    longer, at_once = averaged(), averaged()
    fit(longer, path, more=swap(), workers=workers, epochs=EPOCHS + 1)
    fit(at_once, more=swap(), workers=workers, epochs=EPOCHS + 1)
    assert content(longer) == content(at_once)


def test_a_run_without_averages_does_not_go_on_with_them(tmp_path):
    fit(tutorial(Adam(0.05)), tmp_path / "run")
    with pytest.raises(ValueError, match="use_ema was False, and is True now"):
        fit(averaged(), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers(tmp_path, workers):
    model = tutorial()
    fit(model, workers=workers)
    resumed, stopped = until_through(tutorial, tmp_path / "run", 9, save_freq=3, workers=workers)
    assert content(resumed) == content(model)
    assert stopped == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_of_whom_some_have_no_row_of_the_first_batch(tmp_path, workers):
    options = {"workers": workers, "batch_size": 17}  # 17, 17 and 1 of 35 samples
    model = tutorial()
    fit(model, **options)
    resumed, stopped = until_through(tutorial, tmp_path / "run", 3, save_freq=2, **options)
    assert content(resumed) == content(model)
    assert stopped > 1


def test_class_weights_dense_input_float64_and_a_seed_of_its_own(tmp_path):
    def make():
        layers = [LSTM(3, input_shape=(7, 2), dtype="float64"), Dropout(0.5, seed=4, dtype="float64")]
        model = Sequential([*layers, Dense(2, dtype="float64"), Activation("softmax", dtype="float64")])  # no seed
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    x, weights = np.random.default_rng(1).normal(size=(35, 7, 2)), make().get_weights()
    options = {"data": (x, Y[8:]), "validation_data": None, "class_weight": {1: 3.0}, "shuffle": False}

    def start():
        model = make()
        model.set_weights(weights)
        return model

    model = start()
    fit(model, **options)
    resumed, _ = until_through(start, tmp_path / "run", 4, save_freq=2, **options)
    assert content(resumed)[:4] == content(model)[:4]


# --- killed -----------------------------------------------------------------------------------------------------------

_PROGRAM = f"""
import io, json, os, signal, sys, time
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np
import scratchlstm._support.files, scratchlstm.training.run
from scratchlstm.callbacks import Callback
from test_checkpoint import fit, tutorial

folder, workers, how = sys.argv[1], int(sys.argv[2]), sys.argv[3].split()

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

class Die(Callback):
    done = 0
    def on_train_batch_end(self, batch, logs=None):
        if how[0] == "batch" and self.done == int(how[1]):
            die()
        if how[0] == "delay":
            if not self.done:
                print("ready", flush=True)
            time.sleep(0.1)
        self.done += 1

def in_the_middle(file, **arrays):
    whole = io.BytesIO()
    savez(whole, **arrays)
    file.write(whole.getvalue()[: int(how[1]) * len(whole.getvalue()) // 100])
    file.flush()
    die()

savez = np.savez
if how[0] == "write":
    np.savez = in_the_middle
if how[0] == "call":
    setattr(os, how[1], die)

model = tutorial()
path = folder + "/run" if how[0] != "straight" else None
history = fit(model, path, save_freq=2, workers=workers, more=[Die()])
model.save(folder + "/model.npz")
open(folder + "/history.json", "w").write(json.dumps([history.epoch, history.history]))
"""


def _program(folder, workers, how):
    """The exit code of a run that is to be killed in this way; negative where it was."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(workers), how]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        if how.startswith("delay") and process.stdout.readline():
            try:
                process.wait(float(how.split()[1]))
            except subprocess.TimeoutExpired:
                process.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path, workers):
    draw = np.random.default_rng(workers)
    kills = [
        f"batch {draw.integers(2, 5)}",
        f"write {draw.integers(0, 101)}",
        f"delay {draw.uniform(0, 0.15):.3f}",
        "call fsync",
        f"batch {draw.integers(2, 5)}",
        "call replace",
    ]
    for how in kills:
        assert _program(tmp_path / "killed", workers, how) == -signal.SIGKILL, how
        assert not (tmp_path / "killed" / "model.npz").exists()
    left = {path.suffix for path in (tmp_path / "killed").iterdir()} - {""}
    assert left == {".tmp"}, "what is left has a name of its own"
    assert _program(tmp_path / "killed", workers, "not") == 0
    assert _program(tmp_path / "straight", workers, "straight") == 0
    for name in ("model.npz", "history.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, straight):
    program = f"""
        import resource, sys
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from scratchlstm.callbacks import Callback
        from test_checkpoint import fit, tutorial

        class Fill(Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

        try:
            fit(tutorial(), sys.argv[1], more=[Fill()])
        except OSError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), tmp_path / "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert f"cannot write the file: File too large: {str(tmp_path / 'run')!r}" in done.stdout
    assert os.listdir(tmp_path) == ["run"], "nothing half-written is left"
    model = tutorial()
    fit(model, tmp_path / "run", more=[Fill()])
    assert content(model) == straight


class Fill(Callback):
    """Takes the place of the program's own."""


# --- when it is over, or has not begun --------------------------------------------------------------------------------


def test_where_there_is_no_checkpoint_yet_the_run_begins(tmp_path, straight, capsys):
    model = tutorial()
    fit(model, tmp_path / "made" / "here" / "run", verbose=2)
    assert content(model) == straight
    assert "from the beginning: there is no such checkpoint yet" in capsys.readouterr().out
    assert (tmp_path / "made" / "here" / "run").is_file()


def test_a_finished_run_is_not_trained_again(tmp_path, straight):
    fit(tutorial(), tmp_path / "run")
    model, again = tutorial(), Stop(1)
    history = fit(model, tmp_path / "run", stop=1)
    assert content(model) == straight
    assert again.left == 1
    assert history is model.history


def test_a_finished_run_goes_on_to_more_epochs(tmp_path):
    longer = tutorial()
    fit(longer, epochs=5)
    fit(tutorial(), tmp_path / "run", epochs=3)
    model = tutorial()
    fit(model, tmp_path / "run", epochs=5)
    assert content(model) == content(longer)


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    fit(tutorial(), tmp_path / "run", epochs=3)
    with pytest.raises(ValueError, match="beyond 2 epochs"):
        fit(tutorial(), tmp_path / "run", epochs=2)


class Enough(Callback):
    """Stops training in the way EarlyStopping does, after a batch or an epoch."""

    def __init__(self, epoch, batch=None):
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = self.model.stop_training or (self.epoch, batch) == self.at

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self.model.stop_training or (epoch, None) == self.at

    def get_state(self):
        return {"epoch": self.epoch}

    def set_state(self, state):
        self.epoch = state["epoch"]


@pytest.mark.parametrize("at", [(1, None), (1, 2), (1, 4)])
def test_a_run_that_a_callback_stopped_stays_stopped(tmp_path, at):
    model = tutorial()
    fit(model, more=[Enough(*at)])
    assert model.history.epoch == [0, 1]
    for stop in (BATCHES + 3, 2, None):  # the first one ends just after the batch (1, 2)
        again = tutorial()
        try:
            fit(again, tmp_path / "run", stop=stop, save_freq=1, more=[Enough(*at)])
        except Stopped:
            continue
    assert content(again) == content(model)
    assert again.stop_training


def test_a_run_stopped_by_a_callback_in_an_epoch_that_did_not_end_trains_no_further(tmp_path):
    class EndsAt(Callback):
        def __init__(self, epoch):
            self.epoch = epoch

        def on_epoch_end(self, epoch, logs=None):
            if epoch == self.epoch:
                raise Stopped

    straight, model = tutorial(), tutorial()
    fit(straight, more=[Enough(1, 2)])
    with pytest.raises(Stopped):
        fit(tutorial(), tmp_path / "run", save_freq=1, more=[Enough(1, 2), EndsAt(1)])
    fit(model, tmp_path / "run", save_freq=1, more=[Enough(1, 2), EndsAt(None)])
    assert content(model) == content(straight)


def test_the_first_epochs_number_is_kept(tmp_path):
    model = tutorial()
    fit(model, initial_epoch=1)
    resumed, _ = until_through(tutorial, tmp_path / "run", 3, save_freq=2, initial_epoch=1)
    assert content(resumed) == content(model)
    assert resumed.history.epoch == [1, 2]


# --- callbacks, layers, learning rates --------------------------------------------------------------------------------


class Remembers(Callback):
    """Has a state of every kind that a checkpoint takes, and a learning rate that depends on it."""

    def on_train_begin(self, logs=None):
        self.seen, self.arrays, self.best = [], [np.zeros((2, 3), "f4"), np.arange(3)], float("inf")

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate *= 0.9

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([batch, logs["loss"]])
        self.arrays[0] += np.float32(logs["loss"])
        self.best = min(self.best, np.float64(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate *= self.best
        logs["rate"] = self.model.optimizer.learning_rate

    def get_state(self):
        return {"seen": self.seen, "arrays": self.arrays, "nested": {"best": self.best, "no": None, "yes": True}}

    def set_state(self, state):
        assert self.seen == [], "on_train_begin comes first"
        self.seen, self.arrays, self.best = state["seen"], state["arrays"], state["nested"]["best"]
        assert state["nested"]["no"] is None
        assert state["nested"]["yes"] is True


def test_a_model_saved_every_few_batches_knows_its_epoch_when_a_run_is_resumed_in_the_middle_of_it(tmp_path):
    def saver():
        return callbacks.ModelCheckpoint(tmp_path / "model-{epoch}-{batch}.npz", save_freq=2)

    with pytest.raises(Stopped):
        fit(tutorial(), tmp_path / "run", stop=BATCHES + 1, save_freq=1, more=[saver()])
    before = {file.name for file in tmp_path.glob("model-*")}
    fit(tutorial(), tmp_path / "run", save_freq=1, more=[saver()])
    assert before == {"model-1-2.npz", "model-1-4.npz", "model-2-1.npz"}
    after = {"model-2-3.npz", "model-2-5.npz", "model-3-2.npz", "model-3-4.npz"}
    assert {file.name for file in tmp_path.glob("model-*")} - before == after


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_what_callbacks_know_and_have_set_is_kept(tmp_path, save_freq):
    model, remembers = tutorial(), Remembers()
    fit(model, more=[remembers])
    for _ in range(20):
        again, resumed = tutorial(), Remembers()
        try:
            fit(again, tmp_path / "run", stop=6, save_freq=save_freq, more=[resumed])
            break
        except Stopped:
            pass
    assert content(again) == content(model)
    assert (resumed.seen, resumed.best) == (remembers.seen, remembers.best)
    for array, other in zip(resumed.arrays, remembers.arrays, strict=True):
        assert (array.dtype, array.tobytes()) == (other.dtype, other.tobytes())


@pytest.mark.parametrize("state", [{"a": {1, 2}}, {"a": {1: 2}}, {"a": object()}, {"a": b"bytes"}])
def test_a_state_that_no_file_holds_is_named_and_nothing_is_written(tmp_path, state):
    class Odd(Callback):
        def get_state(self):
            return state

    with pytest.raises(TypeError, match="a checkpoint (holds|cannot hold)"):
        fit(tutorial(), tmp_path / "run", more=[Odd()])
    assert not list(tmp_path.iterdir())


_STATES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | npst.arrays(st.sampled_from(["f4", "f8", "i8", "bool", "<U2"]), npst.array_shapes(min_dims=0, max_side=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def _plain(value):
    """A state in a form that compares arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else (type(value), value)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(state=st.dictionaries(st.text(max_size=5), _STATES, max_size=3))
def test_any_state_of_values_and_arrays_comes_back(tmp_path_factory, state):
    class Keeps(Callback):
        def get_state(self):
            return state

        def set_state(self, state):
            self.came_back = state

    path = tmp_path_factory.mktemp("state") / "run"
    for keeps in (Keeps(), Keeps()):
        model = Sequential([Dense(1, input_shape=(1,))], seed=0)
        model.compile("sgd", "mse")
        model.fit([[1.0]], [1], callbacks=[keeps, Checkpoint(path)], resume=path, verbose=0)
    assert _plain(keeps.came_back) == _plain(state)


class Counting(Dense):
    """A layer with something to keep that is no parameter."""

    passes = 0

    def forward(self, x, run):
        self.passes += run.training
        y, cache = super().forward(x, run)
        return y * self.dtype_of(1 + self.passes % 3), cache

    def backward(self, dy, cache):
        return super().backward(dy * self.dtype_of(1 + self.passes % 3), cache)

    def dtype_of(self, number):
        return np.float32(number)

    def extra_state(self):
        return {"passes": np.array(self.passes)}

    def set_extra_state(self, state):
        self.passes = int(state["passes"])


def test_layers_of_ones_own_and_what_they_keep(tmp_path):
    def make():
        model = Sequential([Counting(2, input_shape=(7,)), Dense(1)], seed=0)
        model.compile("sgd", "mse")
        return model

    data = {"data": (X[8:] / 30, Y[8:])}
    model = make()
    fit(model, **data, validation_data=None)
    resumed, _ = until_through(make, tmp_path / "run", 3, save_freq=1, **data, validation_data=None)
    assert content(resumed) == content(model)


# --- another run ------------------------------------------------------------------------------------------------------

_OTHERS = {
    "units": (lambda: tutorial(units=4), {}, "model/layers/lstm/config/units was 3, and is 4 now"),
    "dropout": (lambda: tutorial(rate=0.2), {}, "rate was 0.3, and is 0.2 now"),
    "optimizer": (lambda: tutorial("sgd"), {}, "class_name was 'Adam', and is 'SGD' now"),
    "learning rate": (lambda: tutorial(Adam(0.1)), {}, "learning_rate was 0.001, and is 0.1 now"),
    "loss": (lambda: tutorial(loss="mse"), {}, "loss/class_name was 'BinaryCrossentropy'"),
    "batch size": (tutorial, {"batch_size": 8}, "batch_size was 7, and is 8 now"),
    "no shuffling": (tutorial, {"shuffle": False}, "shuffle was True, and is False now"),
    "first epoch": (tutorial, {"initial_epoch": 1}, "initial_epoch was 0, and is 1 now"),
    "workers": (tutorial, {"workers": 2}, "workers was 1, and is 2 now"),
    "more samples": (tutorial, {"data": (X, Y)}, "data/x/shape/0 was 35, and is 43 now"),
    "other samples": (tutorial, {"data": (X[8:][::-1], Y[8:])}, "data/x/checksum was"),
    "other labels": (tutorial, {"data": (X[8:], 1 - Y[8:])}, "data/y/checksum was"),
    "another dtype": (tutorial, {"data": (X[8:].astype("i2"), Y[8:])}, "data/x/dtype was '<i8', and is '<i2' now"),
    "weights": (tutorial, {"sample_weight": np.ones(35)}, "data/weight was None"),
    "other validation": (tutorial, {"validation_data": (X[:7], Y[:7])}, "validation data/x/shape"),
    "no validation": (tutorial, {"validation_data": None}, "validation data was .* and is None now"),
    "other callbacks": (tutorial, {"more": [Enough(9)]}, r"callbacks were \['Stop'\], and are \['Enough', 'Stop'\]"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The checkpoint of a run that ended in its second epoch."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Stopped):
        fit(tutorial(), path, stop=8, save_freq=2)
    return path


@pytest.mark.parametrize(("make", "options", "message"), _OTHERS.values(), ids=_OTHERS)
def test_the_checkpoint_of_another_run_is_refused_and_nothing_changed(stopped, make, options, message):
    model, before = make(), stopped.read_bytes()
    model.build((None, 7))
    weights, generator = [w.tobytes() for w in model.params], model.rng.bit_generator.state
    with pytest.raises(ValueError, match=rf"the run cannot be resumed from .*run': .*{message}"):
        fit(model, stopped, **options)
    assert [w.tobytes() for w in model.params] == weights
    assert model.rng.bit_generator.state == generator
    assert (model.optimizer.iterations, model.optimizer.state) == (0, [])
    assert model.history is None
    assert stopped.read_bytes() == before


def _seeded(seed):
    model = Sequential([Embedding(30, 4), Dropout(0.3), LSTM(3), Dense(1, activation="sigmoid")], seed=seed)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def test_the_checkpoint_of_another_seed_is_refused(stopped):
    with pytest.raises(ValueError, match="it is of another run: seed was 1, and is 2 now"):
        fit(_seeded(2), stopped)


def test_another_implementation_is_refused_as_other_settings_are(tmp_path):
    def make(implementation):
        model = Sequential([LSTM(3, implementation=implementation, input_shape=(7, 1)), Dense(1)], seed=1)
        model.compile("adam", "mse")
        return model

    data = {"data": (X[8:, :, None] / 30, Y[8:]), "validation_data": None}
    fit(make("numpy"), tmp_path / "run", epochs=1, **data)
    with pytest.raises(ValueError, match=r"lstm/config/implementation was 'numpy', and is 'textbook' now"):
        fit(make("textbook"), tmp_path / "run", **data)


def test_a_seed_that_nobody_states_is_no_other_one(tmp_path, stopped, straight):
    for number, (path, change) in enumerate([(stopped, lambda d: None), (stopped, lambda d: d.pop("seed"))]):
        with np.load(path) as file:
            arrays = dict(file)
        description = json.loads(arrays["description"].tobytes())
        change(description)  # the second is as version 0.1 wrote it
        arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
        np.savez(tmp_path / f"{number}.npz", **arrays)
        model = _seeded(number if number else None)
        fit(model, tmp_path / f"{number}.npz")
        assert content(model) == straight


def test_other_options_of_writing_and_printing_do_not_matter(stopped, straight, tmp_path, capsys):
    (tmp_path / "run").write_bytes(stopped.read_bytes())
    model = tutorial()
    fit(model, tmp_path / "run", save_freq="epoch", verbose=2)
    assert content(model) == straight
    output = capsys.readouterr().out
    assert "after epoch 1 and 2 of 5 batches\nEpoch 2/3\n5/5 - " in output


def test_a_run_can_be_resumed_in_the_model_that_was_stopped(stopped, straight):
    model = tutorial()
    with pytest.raises(Stopped):
        fit(model, stop=9, more=[Stop(9)])
    model.fit(X[8:], Y[8:], 7, EPOCHS, 0, callbacks=[Stop(None)], validation_data=(X[:8], Y[:8]), resume=stopped)
    assert content(model) == straight


@pytest.mark.parametrize(
    ("stop", "batches", "words"),
    [
        (2, 1, "epoch 1; no epoch was completed, and the model has the weights of the checkpoint"),
        (7, 1, "epoch 2; 1 completed epoch is in model.history, and the model has the weights of the checkpoint"),
        (5, 1, "epoch 1; no epoch was completed, and the model has the weights of the checkpoint"),
        (6, 1, "epoch 2; 1 completed epoch is in model.history, and the model has the weights of the last one"),
        (4, 5, "epoch 2; 1 completed epoch is in model.history, and the model has the weights of the last one"),
    ],
)
def test_ctrl_c_in_a_resumed_run_says_what_is_kept(tmp_path, stop, batches, words):
    class Interrupt(Stop):
        def on_train_batch_end(self, batch, logs=None):
            try:
                super().on_train_batch_end(batch, logs)
            except Stopped:
                raise KeyboardInterrupt from None

    with pytest.raises(Stopped):
        fit(tutorial(), tmp_path / "run", stop=stop, save_freq=1 if stop != 6 else "epoch", more=[Interrupt(None)])
    with pytest.raises(KeyboardInterrupt, match=words):
        fit(tutorial(), tmp_path / "run", more=[Interrupt(batches)])


# --- arguments, and files that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [3, b"run", ["run"], None])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(TypeError, match="path must be"):
        Checkpoint(path)
    if path is not None:
        with pytest.raises(TypeError, match="resume must be the path of a checkpoint"):
            tutorial().fit(X, Y, resume=path, verbose=0)


@pytest.mark.parametrize("name", ["run.keras", "run.h5", "run.HDF5"])
def test_the_name_of_a_file_of_keras_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf"Keras could not open as '.*{name}': choose a name that ends in \.npz"):
        Checkpoint(tmp_path / name)


@pytest.mark.parametrize("save_freq", [0, -1, 1.5, "batch", None, True])
def test_a_wrong_save_freq_is_refused(save_freq):
    with pytest.raises(ValueError, match="save_freq must be"):
        Checkpoint("run", save_freq)


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to the output folder"):
        tutorial().fit(X, Y, verbose=0, callbacks=[Stop(1), Checkpoint(tmp_path / "file" / "run")])


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        tutorial().fit(X, Y, verbose=0, resume=tmp_path)


def test_a_model_that_is_no_longer_finite_does_not_replace_the_last_good_checkpoint(tmp_path):
    class Spoil(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.params[0][0, 0] = np.nan

    with pytest.raises(ValueError, match="layer0/embeddings of the model holds NaN or infinity"):
        fit(tutorial(), tmp_path / "run", more=[Spoil()])
    model = tutorial()
    with pytest.raises(Stopped):
        fit(model, tmp_path / "run", stop=1, more=[Spoil()])
    assert model.history.epoch == [0]


def test_a_model_file_is_no_checkpoint_and_the_other_way_round(tmp_path, stopped):
    model = tutorial()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="its kind is 'scratchlstm model', not 'scratchlstm checkpoint'"):
        fit(tutorial(), tmp_path / "model")
    with pytest.raises(ValueError, match="its kind is 'scratchlstm checkpoint', not 'scratchlstm model'"):
        Sequential.load(stopped)


def test_a_newer_format_is_refused_in_words(tmp_path, stopped):
    with np.load(stopped) as archive:
        arrays = {name: archive[name] for name in archive.files}
    description = json.loads(arrays["description"].tobytes())
    description["version"] = 3
    arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    (tmp_path / "run").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"written in format 3; this version .* reads up to 2.*Upgrade scratchlstm"):
        fit(tutorial(), tmp_path / "run")


def test_arrays_that_belong_to_nothing_are_not_all_listed(tmp_path, stopped):
    with np.load(stopped) as file:
        arrays = dict(file)
    np.savez(tmp_path / "run.npz", **arrays, **{f"more{number}": np.ones(1) for number in range(100)})
    with pytest.raises(ValueError, match=r"belong to no part of the model: more0, more1, .*\(100 in all\)") as refusal:
        fit(tutorial(), tmp_path / "run.npz")
    assert len(str(refusal.value)) < 300


# --- what a checkpoint may not do -------------------------------------------------------------------------------------


def _tampered(path, change):
    """The checkpoint with another description."""
    with np.load(path) as file:
        arrays = dict(file)
    description = json.loads(arrays["description"].tobytes())
    change(description["run"]["dict"])
    arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "sums",
    [np.ones(3), np.ones((2, 1), int), np.ones(2), 1.0, "abc", [1, 2, 3], np.array([np.nan, 1]), None],
    ids=repr,
)
def test_sums_that_are_none_of_the_metrics_change_nothing(tmp_path, stopped, sums):
    with np.load(stopped) as file:
        arrays = dict(file)
    description = json.loads(arrays["description"].tobytes())
    ((kept,),) = [description["run"]["dict"]["sums"][2]]
    if isinstance(sums, np.ndarray):
        arrays[kept["array"]] = sums
    else:
        arrays.pop(kept["array"])
        description["run"]["dict"]["sums"][2] = [sums]
    arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    np.savez(tmp_path / "run.npz", **arrays)
    model = tutorial()
    model.build((None, 7))
    weights = [w.tobytes() for w in model.params]
    with pytest.raises(ValueError, match="the run cannot be resumed from"):
        fit(model, tmp_path / "run.npz")
    assert [w.tobytes() for w in model.params] == weights
    assert model.history is None


_INCONSISTENT = {
    "a count that is no int": (
        lambda run: run["sums"].__setitem__(1, float(run["sums"][1])),
        "sums are of 21.0 samples",
    ),
    "no steps": (lambda run: run.update(iterations=0), "counts only 0 optimizer steps in epoch 2 after batch 3"),
    "no epochs": (lambda run: run["history"]["dict"].update(epoch=[]), "history does not list the epochs done"),
    "an epoch too many": (
        lambda run: run["history"]["dict"].update(epoch=[0, 1]),
        "history does not list the epochs done",
    ),
    "epochs from elsewhere": (
        lambda run: run["history"]["dict"].update(epoch=[4]),
        "history does not list the epochs done",
    ),
    "a lost loss": (
        lambda run: run["history"]["dict"]["history"]["dict"].update(loss=[]),
        "lists of numbers, one for each epoch",
    ),
}


@pytest.mark.parametrize(("change", "message"), _INCONSISTENT.values(), ids=_INCONSISTENT)
def test_a_state_that_no_run_can_be_in_changes_nothing(tmp_path, change, message):
    with pytest.raises(Stopped):
        fit(tutorial(), tmp_path / "run.npz", stop=9, save_freq=3)
    _tampered(tmp_path / "run.npz", change)
    model = tutorial()
    model.build((None, 7))
    weights = [w.tobytes() for w in model.params]
    with pytest.raises(ValueError, match=f"the run cannot be resumed from .*{message}"):
        fit(model, tmp_path / "run.npz")
    assert [w.tobytes() for w in model.params] == weights
    assert model.history is None


def test_an_epoch_before_the_runs_first_is_refused(tmp_path):
    options = {"initial_epoch": 1, "epochs": 3}
    with pytest.raises(Stopped):
        fit(tutorial(), tmp_path / "run.npz", stop=2, save_freq=1, **options)
    _tampered(tmp_path / "run.npz", lambda run: run.update(epoch=0))
    with pytest.raises(ValueError, match="the run cannot be resumed from .*: epoch must be a whole number"):
        fit(tutorial(), tmp_path / "run.npz", **options)


def test_an_epoch_that_a_callback_ends_early_can_be_resumed_behind(tmp_path):
    """It has fewer steps than batches, and the run continues after it."""

    class Short(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = False

    straight = tutorial()
    fit(straight, more=[Short(), Stop(None)])
    with pytest.raises(Stopped):
        fit(tutorial(), tmp_path / "run.npz", stop=3, more=[Short()])
    resumed = tutorial()
    fit(resumed, tmp_path / "run.npz", more=[Short()])
    assert content(resumed) == content(straight)
    assert resumed.optimizer.iterations == EPOCHS


def test_a_metric_of_the_users_own_may_refuse_labels_that_are_all_alike(tmp_path):
    class Picky(Metric):
        def align(self, y_true, y_pred):
            return y_true

        def measure(self, y_true, y_pred):
            if len(set(y_true.tolist())) == 1:
                raise ValueError("only one class")
            return np.array([np.sum(y_pred), len(y_pred)], dtype=np.float64)

    def make():
        model = Sequential([Embedding(30, 4), LSTM(3), Dense(1, activation="sigmoid")], seed=1)
        model.compile("adam", "binary_crossentropy", metrics=[Picky()])
        return model

    options = {"data": (X[:16], np.arange(16) % 2), "validation_data": None, "batch_size": 4, "shuffle": False}
    model = make()
    fit(model, **options)
    resumed, _ = until_through(make, tmp_path / "run", 3, save_freq=1, **options)
    assert content(resumed) == content(model)


def _dense():
    model = Sequential([Input((3,)), Dense(1)], seed=0)
    model.compile(Adam(use_ema=True), "mse")
    return model


def _callback_state(run):
    return run["callbacks"][0][1]["dict"]


@pytest.mark.parametrize(
    ("callback", "change"),
    [
        (callbacks.ModelCheckpoint, lambda run, folder: _callback_state(run).update(filepath=f"{folder}/elsewhere")),
        (callbacks.ModelCheckpoint, lambda run, folder: _callback_state(run).update(batches="abc")),
        (callbacks.EarlyStopping, lambda run, folder: _callback_state(run).update(wait=[1])),
        (callbacks.EarlyStopping, lambda run, folder: _callback_state(run).update(on_epoch_end=1)),
        (callbacks.EarlyStopping, lambda run, folder: _callback_state(run).update(best_weights=[1.0])),
        (callbacks.SwapEMAWeights, lambda run, folder: _callback_state(run).update(weights=[1.0])),
        (callbacks.SwapEMAWeights, lambda run, folder: _callback_state(run).update(weights=7)),
        (callbacks.ReduceLROnPlateau, lambda run, folder: _callback_state(run).pop("best")),
        (callbacks.CSVLogger, lambda run, folder: _callback_state(run).update(text=5)),
        (callbacks.Snapshots, lambda run, folder: _callback_state(run).update(epochs=[1])),
        (callbacks.Snapshots, lambda run, folder: _callback_state(run).update(epochs=7)),
    ],
)
def test_a_callbacks_state_sets_nothing_else_and_is_taken_up_with_all_or_nothing(tmp_path, callback, change):
    def listeners():
        arguments = {
            callbacks.ModelCheckpoint: [tmp_path / "model.npz", "loss"],
            callbacks.CSVLogger: [tmp_path / "log.csv"],
            callbacks.Snapshots: [],
            callbacks.SwapEMAWeights: [],
        }.get(callback, ["loss"])
        return [callback(*arguments), callbacks.Checkpoint(tmp_path / "run.npz")]

    x, y = np.ones((4, 3)), np.ones(4)
    _dense().fit(x, y, epochs=2, callbacks=listeners(), verbose=0)
    path = tmp_path / "run.npz"
    _tampered(path, lambda run: change(run, tmp_path))
    model = _dense()
    before = model.get_weights()
    with pytest.raises(ValueError, match="cannot continue from its state"):
        model.fit(x, y, epochs=4, callbacks=listeners(), resume=path, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert model.history is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_goes_on_in_the_same_process_after_its_rate_was_lowered(tmp_path):
    model, x, y = _dense(), np.ones((4, 3)), np.ones(4)
    kept = callbacks.Checkpoint(tmp_path / "run")

    def listeners():
        return [callbacks.ReduceLROnPlateau("loss", 0.5, 1, min_delta=10.0), kept]

    model.fit(x, y, epochs=4, callbacks=listeners(), verbose=0)
    assert model.optimizer.learning_rate < 0.001
    history = model.fit(x, y, epochs=6, callbacks=listeners(), resume=kept.path, verbose=0)
    assert history.epoch == [0, 1, 2, 3, 4, 5]


def test_an_interrupt_puts_back_the_states_too():
    class Interrupt(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 5:
                raise KeyboardInterrupt

    def make():
        model = Sequential([Input((4, 2)), LSTM(3, stateful=True), Dense(1)], seed=0)
        model.compile("adam", "mse")
        return model

    x, y = np.random.default_rng(0).normal(size=(12, 4, 2)), np.ones(12)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    interrupted, straight = make(), make()
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(x, y, epochs=2, callbacks=[Interrupt()], **options)
    interrupted.fit(x, y, **options)
    straight.fit(x, y, epochs=2, **options)
    for a, b in zip(interrupted.get_weights(), straight.get_weights(), strict=True):
        assert np.array_equal(a, b)
