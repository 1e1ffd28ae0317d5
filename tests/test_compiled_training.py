"""What compiled loops mean for training: who shares the work, and which runs can be continued."""

import json
import re

import numpy as np
import pytest

from scratchlstm import Sequential
from scratchlstm._support import compiled
from scratchlstm.callbacks import Checkpoint
from scratchlstm.layers import LSTM, Bidirectional, Dense, Embedding, Flatten, SimpleRNN
from scratchlstm.training import recruit

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 30, (35, 7)), RNG.integers(0, 2, 35)


@pytest.fixture
def numba_missing(monkeypatch):
    monkeypatch.setattr(compiled, "missing", lambda: "no Numba here")


def tutorial(implementation="fused", **options):
    lstm = LSTM(3, implementation=implementation, dropout=0.2, **options)
    model = Sequential([Embedding(30, 4, **options), lstm, Dense(1, **options)], seed=1)
    model.build((None, 7))
    model.compile("adam", "mse", metrics=["mae"])
    return model


# --- who shares the work ----------------------------------------------------------------------------------------------


def test_auto_is_one_process_if_compiled_loops_use_the_cores(monkeypatch):
    monkeypatch.setattr(recruit, "count_workers", lambda workers: 3 if workers == "auto" else workers)

    def workers(*layers, given="auto"):
        return recruit.crew(given, Sequential([*layers, Dense(1)])).workers

    monkeypatch.setattr(compiled, "missing", lambda: "")
    assert workers(Embedding(9, 2), Bidirectional(LSTM(2)), LSTM(2)) == 1
    assert workers(LSTM(2), given=2) == 2
    assert workers(Flatten()) == 3  # no loop in it is compiled
    for other in LSTM(2, implementation="numpy"), LSTM(2, activation="relu"), SimpleRNN(2):
        assert workers(LSTM(2, return_sequences=True), other) == 3
    monkeypatch.setattr(compiled, "missing", lambda: "no Numba here")
    assert workers(LSTM(2)) == 3


def test_several_processes_compute_what_one_does(with_numba):
    one, two = tutorial(dtype="float64"), tutorial(dtype="float64")
    start = one.get_weights()
    settings = {"batch_size": 17, "verbose": 0}  # a last batch of a single row
    one.fit(X, Y, **settings)
    two.fit(X, Y, **settings, workers=2)
    for w, other, before in zip(one.get_weights(), two.get_weights(), start, strict=True):
        assert np.linalg.norm(w - other) <= 1e-11 * np.linalg.norm(w - before)
    assert np.array_equal(one.predict(X, 9, 0), one.predict(X, 9, 0, workers=2))
    assert one.evaluate(X, Y, 9, 0) == one.evaluate(X, Y, 9, 0, workers=2)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def fit(model, path, epochs=3):
    model.fit(X, Y, 7, epochs, 0, callbacks=[Checkpoint(path)], resume=path)
    return model


def rewrite(path, change):
    """Change the settings that a checkpoint states."""
    with np.load(path) as file:
        arrays = dict(file)
    description = json.loads(arrays["description"].tobytes())
    change(description["settings"])
    arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    np.savez(path, **arrays)


def test_a_resumed_run_ends_with_the_same_bits(with_numba, tmp_path):
    straight = fit(tutorial(), tmp_path / "straight.npz")
    fit(tutorial(), tmp_path / "run.npz", epochs=1)
    resumed = fit(tutorial(), tmp_path / "run.npz")
    for w, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(w, other)
    with np.load(tmp_path / "run.npz") as file:
        stated = json.loads(file["description"].tobytes())["settings"]["computed by"]
    assert stated == [["lstm", "compiled"], ["the sum by id", "compiled"]]


@pytest.mark.parametrize(("implementation", "part"), [("fused", "lstm"), ("textbook", "the sum by id")])
def test_a_run_that_other_code_computed_is_refused(tmp_path, monkeypatch, numba_missing, implementation, part):
    path = tmp_path / "run.npz"
    fit(tutorial(implementation), path, epochs=1)
    fit(tutorial(implementation), path, epochs=2)
    before = path.read_bytes()
    monkeypatch.setattr(compiled, "missing", lambda: "")
    said = rf"{part} ran in NumPy, and runs compiled by Numba now, .*: on this machine, set NUMBA_DISABLE_JIT=1$"
    with pytest.raises(ValueError, match=said):
        fit(tutorial(implementation), path)
    assert path.read_bytes() == before

    def by_numba(settings):
        ran = settings["computed by"]
        ran[:] = [[name, "compiled" if code == "numpy" else code] for name, code in ran]
        settings["workers"] = 2  # as "auto" can be in the one, and not in the other

    rewrite(path, by_numba)
    monkeypatch.setattr(compiled, "missing", lambda: "no Numba here")
    install = re.escape('pip install "scratchlstm[fast]" (no Numba here)')
    with pytest.raises(ValueError, match=rf"{part} ran compiled by Numba, and runs in NumPy now, .*: {install}$"):
        fit(tutorial(implementation), path)


@pytest.mark.parametrize("ran", [3, [], [["lstm", "numpy"]], [["lstm", "fast"], ["the sum by id", 1]], ["ab", "cd"]])
def test_a_checkpoint_that_states_something_else_is_refused(tmp_path, numba_missing, ran):
    path = tmp_path / "run.npz"
    fit(tutorial(), path, epochs=1)
    rewrite(path, lambda settings: settings.update({"computed by": ran}))
    with pytest.raises(ValueError, match="the run cannot be resumed"):
        fit(tutorial(), path)


@pytest.fixture
def of_earlier_version(tmp_path):
    fit(tutorial(), tmp_path / "run.npz", epochs=1)
    rewrite(tmp_path / "run.npz", lambda settings: settings.pop("computed by"))
    return tmp_path / "run.npz"


def test_what_an_earlier_version_wrote_goes_on_in_numpy(numba_missing, of_earlier_version, recwarn):
    fit(tutorial(), of_earlier_version)
    assert not recwarn.list


def test_what_an_earlier_version_wrote_goes_on_compiled_with_a_warning(with_numba, of_earlier_version, recwarn):
    with pytest.warns(
        UserWarning, match="was written before loops were compiled. From now on, lstm, the sum by id run"
    ):
        fit(tutorial(), of_earlier_version, epochs=2)
    fit(tutorial(), of_earlier_version)  # which says by now what computed it
    assert not recwarn.list
