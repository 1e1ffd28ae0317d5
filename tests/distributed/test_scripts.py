"""What scripts do around a training works on ranks as it does without them."""

import textwrap

import pytest

pytestmark = pytest.mark.mpi

MODEL = """
import multiprocessing, os, shutil, sys
import numpy as np
from mpi4py import MPI
from scratchlstm import Sequential, mpi
from scratchlstm.callbacks import Callback, Checkpoint, LambdaCallback, ModelCheckpoint
from scratchlstm.layers import LSTM, Activation, Dense, Embedding, Layer
from scratchlstm.models import load_model
from scratchlstm.optimizers import SGD
from scratchlstm.regularizers import Regularizer
from scratchlstm.schedules import ExponentialDecay

x, y = np.random.default_rng(0).integers(1, 50, (60, 6)), np.ones((60, 1))

def made(*more, seed=1):
    model = Sequential([Embedding(50, 8), LSTM(4), Dense(1), *more], seed=seed)
    model.compile("adam", "mse")
    return model

def trained(seed, *before):
    model = made(seed=seed)
    for function in before:
        function(model)
    model.fit(x, y, epochs=1, verbose=0)
    return model

def alike(value):
    every = MPI.COMM_WORLD.allgather(value)
    return all(one == every[0] for one in every)

def weights(model):
    return [w.tobytes() for w in model.get_weights()]
"""


def lines(on_ranks, tmp_path, script, *arguments):
    path = tmp_path / "script.py"
    path.write_text(MODEL + textwrap.dedent(script))
    *printed, last = on_ranks(2, path, *arguments).stdout.splitlines()
    assert last == "all 2 ranks finished"
    return printed


def test_a_file_just_written_is_read_by_every_rank(on_ranks, tmp_path):
    script = """
        model = trained(1)
        for _ in range(2):  # the second time over what is there
            model.fit(x, y, verbose=0)
            model.save(sys.argv[1])
        reloaded = load_model(sys.argv[1])
        print(reloaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0))  # of which all ranks do a share
        reloaded.fit(x, y, verbose=0)
    """
    assert lines(on_ranks, tmp_path, script, tmp_path / "model.npz") == ["True"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".npz"] == ["model.npz"]


def test_a_process_that_a_rank_has_forked_is_none(on_ranks, tmp_path):
    script = """
        def loss(seed):
            return trained(seed).evaluate(x, y, verbose=0)

        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map(loss, range(3))
        print(np.allclose(found, [loss(seed) for seed in range(3)], rtol=1e-5))
    """
    assert lines(on_ranks, tmp_path, script) == ["True"]


def test_what_ranks_without_a_seed_have_learned_alone_gives_way_to_rank_0(on_ranks, tmp_path):
    script = """
        models = [trained(None, lambda model: model.train_on_batch(x[:20], y[:20])) for _ in range(2)]
        print(models[0].evaluate(x, y, verbose=0) != models[1].evaluate(x, y, verbose=0))
    """
    assert lines(on_ranks, tmp_path, script) == ["True"]


def test_a_file_that_a_callback_has_replaced_is_read_as_it_is_now(on_ranks, tmp_path):
    script = """
        model = made()
        model.build((None, 6))
        model.save(sys.argv[1])
        model.fit(x, y, verbose=0, callbacks=ModelCheckpoint(sys.argv[1]))
        print(alike(weights(load_model(sys.argv[1]))))
    """
    assert lines(on_ranks, tmp_path, script, tmp_path / "model.npz") == ["True"]


def test_a_gradient_of_another_dtype_is_cast(on_ranks, tmp_path):
    script = """
        class Wide(Regularizer):
            def __call__(self, w):
                return np.float64(0.5) * np.sum(w.astype(float) ** 2)
            def gradient(self, w):
                return w.astype(float)

        models = []
        for workers in None, 1:
            model = Sequential([Embedding(50, 8), LSTM(4), Dense(1, kernel_regularizer=Wide())], seed=1)
            model.compile("adam", "mse")
            model.fit(x, y, epochs=3, verbose=0, workers=workers)
            models.append(model)
        print(all(np.allclose(*pair, rtol=1e-3, atol=1e-5) for pair in zip(*[m.get_weights() for m in models])))
    """
    assert lines(on_ranks, tmp_path, script) == ["True"]


def test_ranks_go_the_same_way_whatever_rank_0_does_alone(on_ranks, tmp_path):
    script = """
        def tried(callback, model=None, epochs=4):
            model = model or made()
            try:
                model.fit(x, y, epochs=epochs, verbose=0, batch_size=8, callbacks=callback)
                outcome = "trained"
            except BaseException as error:
                outcome = type(error).__name__
            print(outcome, alike((outcome, len(model.history.epoch), weights(model))))

        def interrupt(epoch, logs):
            raise KeyboardInterrupt

        class Late(Callback):  # makes its methods when training begins
            def on_train_begin(self, logs):
                self.on_epoch_end = lambda epoch, logs: setattr(self.model, "stop_training", True)

        class Schedule(Callback):
            def on_epoch_begin(self, epoch, logs):
                self.model.optimizer.learning_rate = ExponentialDecay(0.1, 1, 0.5)
                self.model.optimizer.beta_1 = 0.5

        class Stops(Layer):
            def forward(self, x):
                if mpi.first():
                    stopping.stop_training = True  # as a signal or a timer might, at any time
                return x, None
            def backward(self, dy, cache):
                return dy, {}

        tried(LambdaCallback(on_epoch_end=interrupt))
        os.makedirs(sys.argv[1], exist_ok=True)
        for freq in "epoch", 2:
            checkpoint = Checkpoint(sys.argv[1] + "/run.npz", freq)
            gone = LambdaCallback(on_epoch_begin=lambda epoch, logs: shutil.rmtree(sys.argv[1], ignore_errors=True))
            tried([checkpoint, gone])
        tried(Late())
        tried(Schedule())
        stopping = made(Stops())
        tried(None, stopping)
        print(len(stopping.history.epoch))
        own = made()
        own.compile(SGD(), "mse")
        own.optimizer.unsendable = lambda: None
        tried(LambdaCallback(on_epoch_end=lambda epoch, logs: logs.clear()), own)
    """
    expected = ["KeyboardInterrupt True", *["FileNotFoundError True"] * 2, *["trained True"] * 3, "1", "trained True"]
    assert lines(on_ranks, tmp_path, script, tmp_path / "run") == expected


def test_ranks_that_come_apart_are_stopped(on_ranks, tmp_path):
    script = """
        class Noisy(Layer):
            rng = np.random.default_rng()
            def forward(self, x):
                return x, None
            def backward(self, dy, cache):
                model.layers[2].params["bias"][0] += self.rng.normal()
                return dy, {}

        model = made(Noisy())
        try:
            model.fit(x, y, epochs=2, verbose=0)
        except ValueError as error:
            print(len(model.history.epoch), str(error).partition(" is ")[0])
    """
    assert lines(on_ranks, tmp_path, script) == ["1 the ranks differ: state/layer2/bias"]
