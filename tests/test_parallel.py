"""Several processes give one process's result, the same each time, and clean up after themselves."""

import errno
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

from scratchlstm import Input, Sequential, layers, optimizers
from scratchlstm.callbacks import Callback, Checkpoint, SwapEMAWeights
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding
from scratchlstm.training import parallel
from scratchlstm.training.loop import WorkerError
from scratchlstm.training.recruit import count_workers

pytestmark = pytest.mark.usefixtures("without_numba")  # see test_compiled_training.py

METHODS = [method for method in ("fork", "forkserver", "spawn") if method in multiprocessing.get_all_start_methods()]
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 30, (61, 9)), RNG.integers(0, 2, 61)


def tutorial(optimizer="adam", dtype=None, dropout=0.3):
    model = Sequential(seed=1)
    model.add(Embedding(30, 6, input_shape=(9,), dtype=dtype))
    if dropout:
        model.add(Dropout(dropout, dtype=dtype))
    model.add(LSTM(5, dtype=dtype))
    model.add(Dense(1, activation="sigmoid", dtype=dtype))
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


def trained(workers, optimizer="adam", **options):
    model = tutorial(optimizer() if callable(optimizer) else optimizer, dtype="float64")
    start = model.get_weights()
    # the last batch has one row: fewer than there are workers
    settings = {"epochs": 2, "batch_size": 20, "validation_data": (X[:15], Y[:15]), "verbose": 0} | options
    history = model.fit(X, Y, workers=workers, **settings).history
    return model, history, [after - before for after, before in zip(model.get_weights(), start, strict=True)]


def assert_same(one, several, tolerance=1e-11):
    (_, history, moves), (_, other_history, other_moves) = one, several
    for name, values in history.items():
        np.testing.assert_allclose(other_history[name], values, rtol=tolerance, err_msg=name)
    for move, other in zip(moves, other_moves, strict=True):
        assert np.linalg.norm(move - other) <= tolerance * np.linalg.norm(move)


OPTIMIZERS = {
    "adam": "adam",
    "sgd": "sgd",
    "rmsprop": "rmsprop",
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "clipnorm": lambda: optimizers.Adam(clipnorm=1e-3),
    "global_clipnorm": lambda: optimizers.Adam(global_clipnorm=1e-3),
    "clipvalue": lambda: optimizers.RMSprop(clipvalue=1e-4),
    "averaged": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "workers"), list(zip(OPTIMIZERS, itertools.cycle([2, 3, 3]), strict=False)))
def test_equals_one_process(name, workers):
    optimizer = OPTIMIZERS[name]
    assert_same(trained(1, optimizer), trained(workers, optimizer))


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
def test_equals_one_process_where_squares_are_out_of_range(option):
    """The squares of these gradients are infinite in float32; each worker has a part of every norm."""

    def run(workers):
        model = Sequential([Dense(4, input_shape=(3,)), Dense(1)], seed=0)
        model.compile(optimizers.SGD(1.0, **{option: 1.0}), "mae")
        start = model.get_weights()
        weights = np.full(6, 1e25)
        history = model.fit(np.ones((6, 3)), np.zeros(6), sample_weight=weights, workers=workers, verbose=0).history
        return model, history, [a - b for a, b in zip(model.get_weights(), start, strict=True)]

    one, two = run(1), run(2)
    assert_same(one, two, 1e-5)
    together = np.linalg.norm([np.linalg.norm(move) for move in two[2]])
    assert (together if option == "global_clipnorm" else np.linalg.norm(two[2][0])) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("options", [{"sample_weight": RNG.random(61)}, {"class_weight": {1: 3.0}}, {"shuffle": False}])
def test_equals_one_process_with_options(options):
    assert_same(trained(1, **options), trained(2, **options))


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_equals_one_process_where_averages_are_validated(swap_on_epoch):
    def run(workers):
        optimizer = optimizers.Adam(0.05, use_ema=True, ema_momentum=0.75)
        return trained(workers, optimizer, epochs=3, callbacks=[SwapEMAWeights(swap_on_epoch)])

    one, two = run(1), run(2)
    assert_same(one, two)
    for model in one[0], two[0]:
        assert all(
            np.array_equal(w, kept["average"]) for w, kept in zip(model.params, model.optimizer.state, strict=True)
        )


def test_equals_one_process_where_a_callback_restarts_the_optimizer():
    class Restart(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.iterations = 0
            for moments in self.model.optimizer.state:
                for moment in moments.values():
                    moment[...] = 0

    assert_same(*(trained(workers, epochs=3, callbacks=[Restart()]) for workers in (1, 2)))


def test_equals_one_process_on_dense_sequences():
    def run(workers):
        model = Sequential(seed=2)
        model.add(LSTM(4, return_sequences=True, input_shape=(7, 3), dtype="float64"))
        model.add(LSTM(4, return_sequences=True, implementation="textbook", dtype="float64"))
        model.add(Dense(3, dtype="float64"))
        model.add(Activation("softmax", dtype="float64"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        start = model.get_weights()
        x = np.random.default_rng(0).normal(size=(30, 7, 3))
        y = np.random.default_rng(1).integers(0, 3, (30, 7))
        history = model.fit(x, y, epochs=2, batch_size=8, workers=workers, verbose=0).history
        return model, history, [a - b for a, b in zip(model.get_weights(), start, strict=True)]

    assert_same(run(1), run(2))


def test_equals_one_process_with_every_kind_of_noise_penalty_and_limit():
    def run(workers):
        options = {"dtype": "float64"}
        limits = {"kernel_regularizer": "l2", "recurrent_constraint": "max_norm", "bias_regularizer": "l1"}
        model = Sequential(seed=2)
        model.add(layers.WordDropout(0.2, input_shape=(9,)))
        model.add(Embedding(30, 6, embeddings_regularizer="l2", mask_zero=True, **options))
        model.add(layers.SpatialDropout1D(0.3, **options))
        model.add(layers.TimeDistributed(Dropout(0.2, **options)))
        model.add(LSTM(5, dropout=0.2, recurrent_dropout=0.2, return_sequences=True, **limits, **options))
        model.add(layers.Bidirectional(LSTM(3, recurrent_dropout=0.4, return_sequences=True, **options)))
        model.add(layers.SimpleRNN(4, dropout=0.3, recurrent_dropout=0.3, **options))
        model.add(Dense(1, activation="sigmoid", kernel_constraint="unit_norm", **options))
        model.compile(optimizers.Adam(clipnorm=0.01), "binary_crossentropy", metrics=["accuracy"])
        start = model.get_weights()
        history = model.fit(X, Y, epochs=2, batch_size=20, validation_split=0.2, workers=workers, verbose=0).history
        return model, history, [a - b for a, b in zip(model.get_weights(), start, strict=True)]

    assert_same(run(1), run(2))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_one_process_with_dropout_in_wrappers_within_each_other(depth):
    def run(workers):
        noisy = Dropout(0.5, dtype="float64")
        for _ in range(depth):
            noisy = layers.TimeDistributed(noisy)
        shape = (2, 4, 3, 5)[-depth - 1 :]
        model = Sequential([Input(shape), noisy, layers.Flatten(), Dense(1, dtype="float64")], seed=3)
        model.compile("sgd", "mse")
        start = model.get_weights()
        x, y = np.random.default_rng(0).normal(size=(40, *shape)), np.arange(40) % 2
        history = model.fit(x, y, epochs=2, batch_size=13, workers=workers, verbose=0).history
        return model, history, [a - b for a, b in zip(model.get_weights(), start, strict=True)]

    one = run(1)
    assert_same(one, run(2))
    assert_same(one, run(3))


def a_stateful_model():
    model = Sequential([LSTM(3, stateful=True, input_shape=(4, 2)), Dense(1)], seed=0)
    return model, np.ones((8, 4, 2)), np.ones(8), "stateful"


def test_what_cannot_be_split_is_left_to_one_process_which_says_why():
    model, x, y, reason = a_stateful_model()
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match=reason):
        model.fit(x, y, batch_size=4, workers=2, verbose=0)


def masked_loss(workers, lengths, dtype="float64", optimizer="adam", regularizer=None, twice=False, **options):
    """A loss that leaves out masked steps, in batches whose halves have different numbers of steps that count.

    With `twice`, every step has two values and two labels, which are equal.
    """
    model = Sequential([Embedding(9, 3, mask_zero=True, input_shape=(6,), dtype=dtype)], seed=1)
    model.add(LSTM(4, return_sequences=True, dropout=0.2, kernel_regularizer=regularizer, dtype=dtype))
    if twice:
        model.add(layers.TimeDistributed(layers.RepeatVector(2, dtype=dtype)))
    model.add(Dense(3, activation="softmax", dtype=dtype))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng, start = np.random.default_rng(2), model.get_weights()
    x = rng.integers(1, 9, (len(lengths), 6)) * (np.arange(6) < np.array(lengths)[:, None])
    y, weights = rng.integers(0, 3, x.shape), options.pop("sample_weight", None)
    y = np.stack([y, y], axis=-1) if twice else y
    data = {"validation_data": (x, y), "sample_weight": weights, "shuffle": False}
    settings = {"epochs": 2, "batch_size": 8, "verbose": 0, "workers": workers} | data | options
    history = model.fit(x, y, **settings).history
    return model, history, [after - before for after, before in zip(model.get_weights(), start, strict=True)]


LENGTHS = [
    6,
    5,
    1,
    0,
    2,
    0,
    1,
    0,
    *[0] * 8,
    *[0] * 4,
    *[6] * 4,
    3,
]  # a batch and a half are all masked; the last has one


@pytest.mark.parametrize(
    ("workers", "options"), [(3, {}), (2, {"sample_weight": RNG.random((25, 6)), "regularizer": "l2"})]
)
def test_equals_one_process_with_a_masked_loss(workers, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(masked_loss(1, LENGTHS, **options), masked_loss(workers, LENGTHS, **options))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mask_of_steps_leaves_out_all_values_of_a_step(workers):
    assert_same(masked_loss(1, LENGTHS), masked_loss(workers, LENGTHS, twice=True))


def test_a_batch_without_a_step_that_counts_changes_nothing():
    _, history, moves = masked_loss(2, [0] * 8, optimizer="sgd")
    assert history["loss"] == [0.0, 0.0]
    assert not any(np.any(move) for move in moves)


def test_a_masked_loss_is_resumed_bit_for_bit(tmp_path):
    class Stop(Callback):
        at = None

        def on_train_batch_begin(self, batch, logs=None):
            if batch == self.at:
                raise RuntimeError("stopped")

    def run(name):
        path = tmp_path / name
        resumed = {"callbacks": [Checkpoint(path, save_freq=1), Stop()], "resume": path}
        model, history, _ = masked_loss(2, LENGTHS, shuffle=True, **resumed)
        return history, content(model)

    whole = run("whole.npz")
    Stop.at = 2
    with pytest.raises(RuntimeError, match="stopped"):
        run("part.npz")
    Stop.at = None
    assert run("part.npz") == whole


def between_the_passes(monkeypatch, do):
    """Before the third of the backward passes, which is in the second epoch."""
    everybody, seen = parallel.Team._all, []

    def watched(team, command, *arguments):
        seen.extend([command] if command == "backward" else [])
        if command == "backward" and len(seen) == 3:
            do(team)
        return everybody(team, command, *arguments)

    monkeypatch.setattr(parallel.Team, "_all", watched)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_worker_that_dies_between_forward_and_backward(monkeypatch):
    def kill(team):
        team.processes[0].kill()
        team.processes[0].join()

    between_the_passes(monkeypatch, kill)
    with pytest.raises(WorkerError, match=r"worker 1 of 2 died \(killed by SIGKILL\)"):
        masked_loss(2, LENGTHS[:16], epochs=3)
    assert not multiprocessing.active_children()


def test_ctrl_c_between_forward_and_backward(monkeypatch):
    def interrupt(team):
        raise KeyboardInterrupt

    between_the_passes(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 2; 1 completed epoch is in model.history"):
        masked_loss(2, LENGTHS[:16], epochs=3)
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_masked_loss_that_is_infinite_in_another_process():
    def run(workers):
        model = Sequential([layers.Masking(input_shape=(3, 2)), Dense(1)], seed=0)
        model.compile("sgd", "mse")
        y = np.zeros((8, 3, 1), "f4")
        y[7] = 1e30  # of which the square is infinite
        with pytest.raises(FloatingPointError, match=r"the loss became inf.* \(epoch 1, batch 1 of 1\)"):
            model.fit(np.ones((8, 3, 2)), y, workers=workers, verbose=0)
        return model.get_weights()

    for one, two in zip(run(1), run(2), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("n", [1, 511, 512, 1025, 3000])
def test_inference_is_one_processs_to_the_last_bit(n):
    model = tutorial()
    x, y = np.random.default_rng(3).integers(0, 30, (n, 9)), np.random.default_rng(4).integers(0, 2, n)
    assert np.array_equal(model.predict(x, workers=2, verbose=0), model.predict(x, verbose=0))
    assert model.evaluate(x, y, workers=2, verbose=0) == model.evaluate(x, y, verbose=0)


def test_a_worker_that_never_gets_ready_is_done_without(monkeypatch):
    predict = parallel.Worker.predict
    monkeypatch.setattr(parallel, "_serve", os._exit)  # a wrong call, which ends the process as soon as it has started
    monkeypatch.setattr(parallel.Worker, "predict", lambda *span: time.sleep(0.2) or predict(*span))
    model, x = tutorial(), np.random.default_rng(3).integers(0, 30, (10000, 9))
    with pytest.warns(UserWarning, match="worker 1 of 2 died .* while starting; the others do its work"):
        several = model.predict(x, workers=2, verbose=0)
    monkeypatch.undo()
    assert np.array_equal(several, model.predict(x, verbose=0))


@pytest.mark.parametrize("workers", [2, 3])
def test_same_run_bit_for_bit(workers):
    (_, history, moves), (_, again, other_moves) = trained(workers), trained(workers)
    assert history == again
    assert all(np.array_equal(a, b) for a, b in zip(moves, other_moves, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_whatever_start_method_the_program_has_chosen(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            import numpy as np
            if __name__ == "__main__":
                multiprocessing.set_start_method(sys.argv[1])
                from scratchlstm import Sequential
                from scratchlstm.layers import LSTM, Dense, Embedding
                rng = np.random.default_rng(0)
                x, y = rng.integers(0, 30, (61, 9)), rng.integers(0, 2, 61)
                losses = []
                for workers in (1, 2):
                    model = Sequential([Embedding(30, 6), LSTM(5), Dense(1, activation="sigmoid")], seed=1)
                    model.compile("adam", "binary_crossentropy")
                    losses.append(model.fit(x, y, epochs=2, workers=workers, verbose=0).history["loss"][-1])
                print(*losses)
            """
        )
    )
    done = subprocess.run([sys.executable, script, method], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    one, two = map(float, done.stdout.split())
    assert two == pytest.approx(one, rel=1e-5)


def test_a_script_without_a_main_guard_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np
            from scratchlstm import Sequential
            from scratchlstm.layers import LSTM, Dense, Embedding
            print("the script runs")
            model = Sequential([Embedding(9, 4), LSTM(3), Dense(1, activation="sigmoid")])
            model.compile("adam", "binary_crossentropy")
            model.fit(np.arange(80).reshape(16, 5) % 9, np.arange(16) % 2, workers=2, verbose=0)
            print(model.predict(np.arange(80).reshape(16, 5) % 9, workers=2, verbose=0).shape)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the script runs", "(16, 1)"]
    assert re.sub("^scratchlstm compiles its loops.*\n", "", done.stderr) == ""  # the first program of all


def test_what_other_processes_cannot_know_is_done_in_one():
    class Twice(Dense):
        pass

    def run(workers):
        model = Sequential([Twice(1, input_shape=(3,))], seed=0)
        model.compile("adam", "mse")
        history = model.fit(np.ones((8, 3)), np.ones(8), workers=workers, verbose=0).history
        return history, model.predict(np.ones((8, 3)), workers=workers, verbose=0)

    with pytest.warns(UserWarning, match="workers=2 is not possible: other processes do not know Twice"):
        history, outputs = run(2)
    assert history == run(1)[0]
    assert np.array_equal(outputs, run(1)[1])


def test_processes_that_do_not_start_leave_one(monkeypatch):
    def fail(self):
        raise OSError("no more processes")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", fail)
    model = tutorial()
    with pytest.warns(UserWarning, match="no other process can be started .no more processes"):
        history = model.fit(X, Y, workers=2, verbose=0).history
    assert history == tutorial().fit(X, Y, verbose=0).history


def refuse_to_start(monkeypatch):
    def fail(self):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", fail)


def die_while_starting(monkeypatch):
    monkeypatch.setattr(parallel, "_serve", os._exit)  # a wrong call, which ends the process as soon as it has started


def be_a_daemon(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)


def have_no_memory(monkeypatch):
    def fail(shapes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parallel, "SharedArrays", fail)


def content(model):
    """All that training changes."""
    state = [{name: array.tobytes() for name, array in slots.items() if array.any()} for slots in model.optimizer.state]
    return (
        [w.tobytes() for w in model.params],
        [slots for slots in state if slots],  # zeros are those of an optimizer that has done nothing
        model.optimizer.iterations,
        model.history and (model.history.epoch, model.history.history),
        [rng.bit_generator.state for rng in model.generators],
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", [refuse_to_start, die_while_starting, be_a_daemon, have_no_memory])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_whose_checkpoint_states_its_workers_is_never_trained_by_fewer(tmp_path, monkeypatch, fault, resumed):
    path, model = tmp_path / "run", tutorial()
    options = {"batch_size": 20, "workers": 2, "verbose": 0, "resume": path}
    if resumed:
        tutorial().fit(X, Y, epochs=1, callbacks=[Checkpoint(path)], **options)
    before, files = content(model), {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with monkeypatch.context() as broken:
        fault(broken)
        with pytest.raises(WorkerError, match="workers=2 is not possible: .* states workers=2, and a single process"):
            model.fit(X, Y, epochs=3, callbacks=[Checkpoint(path)], **options)
    assert content(model) == before
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files
    model.fit(X, Y, epochs=3, callbacks=[Checkpoint(path)], **options)
    straight = tutorial()
    straight.fit(X, Y, epochs=3, **options | {"resume": None})
    assert content(model) == content(straight)


def _kill_one(after):
    """Kill a worker process so many seconds from now, or the first that there is then."""
    time.sleep(after)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        for process in tuple(multiprocessing.process._children):
            if process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
                return


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "with a checkpoint"])
def test_workers_killed_at_any_moment_of_the_start_never_lead_to_other_bytes(tmp_path, recorded):
    def run(workers, path=None):
        model, checkpoint = tutorial(), [] if path is None else [Checkpoint(path, save_freq=2)]
        model.fit(X, Y, 20, epochs=10, verbose=0, workers=workers, callbacks=checkpoint, resume=path)
        return content(model)

    straight = {workers: run(workers) for workers in (1, 2, 3)}
    draw, ends = np.random.default_rng(int(recorded)), set()
    for number in range(25):
        workers, path = int(draw.integers(2, 4)), tmp_path / f"{number}" if recorded else None
        killer = threading.Thread(target=_kill_one, args=[draw.uniform(0, 0.8)])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            killer.start()
            try:
                end = run(workers, path)
            except WorkerError:
                end = None
            killer.join()
        ends.add("an error" if end is None else "alone" if said else "undisturbed")
        if recorded:
            end = end or run(workers, path)
        assert end in (None, straight[1 if said else workers]), number
    assert "an error" in ends if recorded else ends & {"an error", "alone"}, "no kill has hit"
    assert not (recorded and "alone" in ends)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot promise a file its bytes")
def test_shared_memory_that_runs_short_is_a_warning_and_no_bus_error(monkeypatch):
    def fail(descriptor, offset, size):
        assert os.fstat(descriptor).st_size == size > 1000
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    model = tutorial()
    with pytest.warns(UserWarning, match="workers=2 is not possible: no memory to share between processes .*No space"):
        history = model.fit(X, Y, workers=2, verbose=0).history
    assert history == tutorial().fit(X, Y, verbose=0).history


def test_evaluate_and_predict_equal_one_process():
    model, _, _ = trained(1)
    np.testing.assert_array_equal(model.predict(X, verbose=0, workers=2), model.predict(X, verbose=0))
    expected = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0, workers=3), expected, rtol=1e-12)


def test_the_model_is_its_own_again_afterwards(tmp_path):
    model = tutorial()
    arrays = model.params
    model.fit(X, Y, workers=2, verbose=0)
    assert all(after is before for after, before in zip(model.params, arrays, strict=True))
    model.save(tmp_path / "model.npz")
    model.fit(X, Y, epochs=2, initial_epoch=1, workers=1, verbose=0)
    loaded = Sequential.load(tmp_path / "model.npz")
    assert loaded.optimizer.iterations == 2
    assert not multiprocessing.active_children()


def test_learning_rates_that_a_callback_sets_reach_all_workers():
    class Slower(Callback):
        def on_epoch_begin(self, epoch, logs):
            self.model.optimizer.learning_rate = 0.1 / (epoch + 1)

    assert_same(trained(1, "sgd", callbacks=[Slower()]), trained(2, "sgd", callbacks=[Slower()]))


class Snapshots(Callback):
    """Weights after each epoch, and something to do in the middle of the second."""

    def __init__(self, action):
        self.action, self.weights = action, []

    def on_epoch_end(self, epoch, logs):
        self.weights.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs):
        if len(self.weights) == 1 and batch == 1:
            self.action()


def kill_a_worker():
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (kill_a_worker, WorkerError, "died .killed by SIGKILL"),
        (interrupt, KeyboardInterrupt, "1 completed epoch is in model.history"),
    ],
)
def test_a_dead_worker_or_ctrl_c_ends_training_with_the_last_epoch(action, error, words):
    model, watch = tutorial(), Snapshots(action)
    with pytest.raises(error, match=words):
        model.fit(X, Y, epochs=3, batch_size=10, workers=2, callbacks=watch, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), watch.weights[-1], strict=True))
    assert model.history.epoch == [0]
    assert not multiprocessing.active_children()


def test_an_error_in_a_worker_is_raised_here():
    model = tutorial()
    # the last rows of each batch are the second worker's; its embedding finds the bad id after fit's own check
    x = X.copy()

    class Spoil(Callback):
        def on_train_begin(self, logs=None):
            model.layers[0].input_dim = 10**6  # here, not in the other process

    x[-1, 0] = 0
    with pytest.raises(ValueError, match="ids 0 to 29"):
        _fit_with_bad_row(model, x, Spoil())
    assert not multiprocessing.active_children()


def _fit_with_bad_row(model, x, spoil):
    from scratchlstm.training import parallel

    data = {"x": np.where(np.arange(61)[:, None] == 60, 99, x), "y": Y}
    with parallel.Team(model, 2, data, batch_size=61) as team:
        spoil.set_model(model)
        spoil.on_train_begin()
        team.begin_epoch(np.arange(61))
        team.step(0, 61)


def test_a_loss_that_is_not_finite_updates_nothing():
    model = tutorial()
    model.layers[-1].params["kernel"][...] = 1e38
    model.layers[2].params["bias"][...] = 1e3
    before = model.get_weights()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="epoch 1, batch 1"):
        model.fit(X, Y, workers=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops no process")
def test_a_stopped_worker_is_waited_for_and_that_is_said_once(monkeypatch):
    class Halt(Callback):
        def on_train_begin(self, logs=None):
            monkeypatch.setattr(parallel, "_PATIENCE", 0.1)

        def on_epoch_begin(self, epoch, logs=None):
            pid = multiprocessing.active_children()[0].pid
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.4, os.kill, [pid, signal.SIGCONT]).start()

    _, _, undisturbed = trained(2)
    with pytest.warns(UserWarning, match=r"worker 1 of 2 .process \d+. did not answer for 0.1 s .* Still wait") as said:
        _, _, moves = trained(2, callbacks=Halt())
    assert len(said) == 1
    assert all(np.array_equal(a, b) for a, b in zip(moves, undisturbed, strict=True))


def test_two_threads_that_start_workers_leave_main_in_its_place():
    main, inside, leave = sys.modules["__main__"], threading.Event(), threading.Event()

    def second():
        with parallel._main_left_alone():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=second)
    with parallel._main_left_alone():
        thread.start()
        inside.wait(0.2)
    leave.set()
    thread.join()
    assert sys.modules["__main__"] is main


LONG_RUN = """
import sys
import numpy as np
from scratchlstm import Sequential
from scratchlstm.callbacks import Callback
from scratchlstm.layers import LSTM, Dense, Embedding

class Tell(Callback):
    def on_epoch_end(self, epoch, logs):
        print("epoch", epoch, flush=True)

model = Sequential([Embedding(30, 6), LSTM(5), Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy")
x = np.random.default_rng(0).integers(0, 30, (200, 9))
model.fit(x, np.arange(200) % 2, epochs=10**6, workers=3, callbacks=Tell(), verbose=0)
"""


def own_shared_memory():
    """Names of shared memory, without that of MPI runs which other tests may have started at the same time."""
    memory = Path("/dev/shm")
    names = {path.name for path in memory.iterdir()} if memory.is_dir() else set()
    return {name for name in names if not name.lower().startswith(("mpich", "intel"))}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and /dev/shm")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_nothing_is_left_after_the_parent_ends(sent):
    before = own_shared_memory()
    with subprocess.Popen(
        [sys.executable, "-c", LONG_RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout.readline() == "epoch 0\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 2
        if sent == signal.SIGINT:
            os.killpg(parent.pid, sent)  # as a terminal does: to all processes of the group
        else:
            os.kill(parent.pid, sent)
        parent.stdout.read()
        errors = parent.stderr.read()
        parent.wait(timeout=10)
    deadline = time.monotonic() + 10
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family):
        assert time.monotonic() < deadline, family
        time.sleep(0.05)
    assert own_shared_memory() <= before
    if sent == signal.SIGINT:
        assert "in model.history, and the model has the weights" in errors
        assert "scratchlstm worker" not in errors, "only the parent speaks"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="POSIX signals")
def test_ctrl_c_pressed_twice_ends_a_run_whose_worker_is_stopped():
    command = [sys.executable, "-c", LONG_RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout.readline() == b"epoch 0\n"
        children = psutil.Process(parent.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        os.kill(workers[0].pid, signal.SIGSTOP)
        for _ in range(2):
            time.sleep(0.2)
            os.killpg(parent.pid, signal.SIGINT)
        try:
            _, errors = parent.communicate(timeout=10)
        finally:
            for process in (parent, *workers):
                if process.poll() is None if process is parent else process.is_running():
                    process.kill()
    assert len(workers) == 2
    assert b"in model.history, and the model has the weights" in errors


def test_workers_are_counted():
    assert count_workers(3) == 3
    assert 1 <= count_workers("auto") <= os.cpu_count()


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "many"])
def test_a_wrong_number_of_workers_is_refused(workers):
    with pytest.raises(ValueError, match="workers must be a whole number above 0"):
        tutorial().fit(X, Y, workers=workers)


def test_blas_threads_are_restored():
    from threadpoolctl import threadpool_info

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    class Look(Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append(threads())

    seen, before = [], threads()
    tutorial().fit(X, Y, workers=2, callbacks=Look(), verbose=0)
    assert all(count == 1 for count in seen[0])
    assert threads() == before
