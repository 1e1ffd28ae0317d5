"""The example as a user runs it, on a few made-up reviews of Keras' format."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.utils import held_folder

ROOT = Path(__file__).parent.parent
WORDS = ["good", "bad", "film", "the", "plot", "end"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """An imdb.npz whose reviews say good or bad, and its word index."""
    folder = tmp_path_factory.mktemp("reviews")
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 64), ("test", 24)):
        labels = np.arange(count) % 2
        rows = [[*rng.integers(3, 7, size=rng.integers(3, 12)).tolist(), 1 if label else 2] for label in labels]
        arrays |= {f"x_{part}": np.concatenate(rows), f"lengths_{part}": [*map(len, rows)], f"y_{part}": labels}
    np.savez(folder / "imdb.npz", **arrays)
    (folder / "imdb_word_index.json").write_text(json.dumps({word: rank for rank, word in enumerate(WORDS, start=1)}))
    return folder / "imdb.npz"


def run(*arguments, **options):
    command = [sys.executable, ROOT / "examples" / "imdb.py", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, **options)


SMALL = ("--maxlen", 8, "--words", 20, "--units", 8, "--batch-size", 8)


@pytest.fixture(scope="module")
def trained(reviews, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "made" / "here"
    done = run("--path", reviews, "--output", folder, "--epochs", 12, "--workers", 1, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_it_leaves_picture_model_history_and_words(trained):
    folder, output = trained
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.npz",
        "history.json",
        "learning_curve.png",
        "model.npz",
        "vocabulary.json",
    ]
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    history = json.loads((folder / "history.json").read_text())
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ["accuracy", "loss", "val_accuracy", "val_loss"], 12
    )
    assert history["loss"][-1] < history["loss"][0]
    assert Sequential.load(folder / "model.npz").layers[0].input_dim == 20
    for shown in ("Total params:", "Epoch 12/12", "probability of a positive review", "best validation accuracy"):
        assert shown in output
    assert re.search(
        r"\| (positive|negative)\| \.\.\.(<start> )?((good|bad|film|the|plot|end) ?)+$", output, re.MULTILINE
    )


def test_it_scores_a_sentence(trained):
    folder, _ = trained
    done = run("--output", folder, "--predict", "a GOOD, good film!")
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout.split()[0]) <= 1
    assert "<start> <oov> good good film" in done.stdout


def refusal(*arguments):
    """The one line that says what is wrong, if nothing was done."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("imdb.py: error: ")
    return last.removeprefix("imdb.py: error: ")


def test_prediction_without_a_model_says_what_to_do(tmp_path):
    assert re.match(r"there is no model file at .*; train first", refusal("--output", tmp_path, "--predict", "good"))


def test_a_folder_that_cannot_be_written_stops_it_before_the_data_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write to the output folder" in refusal(
        "--source", "aclImdb", "--output", tmp_path / "file" / "below"
    )


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--epochs", "0", "must be a whole number of at least 1, not '0'"),
        ("--samples", "-5", "must be a whole number of at least 1, not '-5'"),
        ("--units", "1.5", "must be a whole number of at least 1, not '1.5'"),
        ("--words", "4", "must be a whole number of at least 5, not '4'"),
        ("--seed", "-1", "must be a whole number of at least 0, not '-1'"),
        ("--workers", "0", "must be a whole number of at least 1, not '0', or auto"),
        ("--dropout", "1", "must be a number of at least 0 and below 1, not '1'"),
        ("--dropout", "nan", "must be a number of at least 0 and below 1, not 'nan'"),
        ("--path", "/no/such", "'/no/such' does not exist: name an imdb.npz or an unpacked aclImdb folder"),
        ("--source", "web", "invalid choice: 'web'"),
        ("--predict", " ?!", "there is no word in ' ?!'"),
    ],
)
def test_an_option_that_cannot_be_is_named(option, value, expected):
    assert refusal(f"{option}={value}").startswith(f"argument {option}: {expected}")


def test_data_that_cannot_be_read_is_named(reviews, tmp_path):
    damaged = tmp_path / "imdb.npz"
    damaged.write_bytes(reviews.read_bytes()[:100])
    assert str(damaged) in refusal("--path", damaged, "--output", tmp_path)
    alone = tmp_path / "alone" / "imdb.npz"
    alone.parent.mkdir()
    alone.write_bytes(reviews.read_bytes())
    assert "imdb_word_index.json" in refusal("--path", alone, "--output", tmp_path)


def test_a_folder_that_another_run_writes_to_is_left_to_it(reviews, tmp_path):
    with held_folder(tmp_path):
        files = sorted(tmp_path.iterdir())
        assert f"is in use by process {os.getpid()} on " in refusal("--path", reviews, "--output", tmp_path, *SMALL)
        assert sorted(tmp_path.iterdir()) == files


def test_a_length_that_no_memory_holds_is_refused(trained, tmp_path):
    model = Sequential([Embedding(20, 2, input_shape=(10**13,)), LSTM(2), Dense(1)], seed=0)
    model.save(tmp_path / "model.npz")
    words = json.loads((trained[0] / "vocabulary.json").read_bytes()) | {"maxlen": 10**13}
    (tmp_path / "vocabulary.json").write_text(json.dumps(words))
    assert "its maxlen is 10,000,000,000,000 words" in refusal("--output", tmp_path, "--predict", "good")


def test_a_checkpoint_of_another_run_is_named(reviews, trained):
    done = run("--path", reviews, "--output", trained[0], "--resume", "--workers", 1, *SMALL, "--units", 9)
    assert done.returncode == 2
    assert re.search(r"^imdb.py: error: the run cannot be resumed from .*checkpoint.npz", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_that_numba_is_missing_is_told_in_one_line(monkeypatch, reviews, tmp_path):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    done = run("--path", reviews, "--output", tmp_path, "--implementation", "compiled", *SMALL)
    assert done.returncode == 2
    assert "needs Numba and SciPy: unset NUMBA_DISABLE_JIT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_of_ours_is_not_hidden(monkeypatch, reviews, tmp_path):
    example = runpy.run_path(str(ROOT / "examples" / "imdb.py"))
    monkeypatch.setattr(sys, "argv", ["imdb.py", "--path", str(reviews), "--output", str(tmp_path), "--verbose", "0"])
    monkeypatch.setattr(Sequential, "fit", lambda *_, **__: np.zeros(2) + np.zeros(3))
    with pytest.raises(ValueError, match="could not be broadcast"):
        example["main"]()


OVERFITS = {"loss": [0.5, 0.3], "val_loss": [0.4, 0.6], "accuracy": [0.7, 0.9], "val_accuracy": [0.8, 0.8]}


def test_what_the_curve_shows():
    shows = runpy.run_path(str(ROOT / "examples" / "imdb.py"))["what_the_curve_shows"]
    text = shows(OVERFITS)
    assert "lowest validation loss 0.4000 in epoch 1, best validation accuracy 0.8000 in epoch 1" in text
    assert "training accuracy 0.9000 is 0.1000 above validation accuracy 0.8000" in text
    assert "validation loss rises, 0.4000 to 0.6000, while the training loss falls, 0.5000 to 0.3000: the mod" in text
    for other in ({"loss": [0.5, 0.6]}, {"val_loss": [0.4, 0.4]}, {"val_loss": [0.4, 0.3]}):
        assert "overfits" not in shows(OVERFITS | other)
    assert "0.8000 is the same as validation accuracy 0.8000" in shows(OVERFITS | {"accuracy": [0.7, 0.80001]})


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_several_workers_and_dropout(reviews, tmp_path, workers):
    done = run("--path", reviews, "--output", tmp_path, "--epochs", 1, "--workers", workers, "--dropout", 0.5, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "dropout (Dropout)" in done.stdout


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"maxlen": 8, "num_words": 20, "words": {"a": -1}}'])
def test_a_damaged_vocabulary_is_named(trained, tmp_path, text):
    (tmp_path / "model.npz").write_bytes((trained[0] / "model.npz").read_bytes())
    (tmp_path / "vocabulary.json").write_text(text)
    done = run("--output", tmp_path, "--predict", "good")
    assert done.returncode == 2
    assert "imdb.py: error:" in done.stderr
    assert "vocabulary.json' is not the vocabulary of a run" in done.stderr
    assert "Traceback" not in done.stderr


def test_words_of_another_run_are_refused(trained, tmp_path):
    (tmp_path / "model.npz").write_bytes((trained[0] / "model.npz").read_bytes())
    words = json.loads((trained[0] / "vocabulary.json").read_bytes()) | {"num_words": 30}
    (tmp_path / "vocabulary.json").write_text(json.dumps(words))
    assert "are not from the same run; train first" in refusal("--output", tmp_path, "--predict", "good")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_is_resumed_and_ends_as_one_that_was_not(reviews, tmp_path):
    def arguments(folder, epochs=60):
        options = ["--path", reviews, "--epochs", epochs, "--workers", 2, "--dropout", 0.5, *SMALL]
        return [*options, "--output", tmp_path / folder]

    command = [sys.executable, "-u", ROOT / "examples" / "imdb.py", *map(str, arguments("killed", epochs=10**6))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.startswith("Epoch 3/"):
                process.kill()
                break
    assert not (tmp_path / "killed" / "model.npz").exists()
    resumed, straight = run(*arguments("killed"), "--resume"), run(*arguments("straight"), "--resume")
    assert resumed.returncode == straight.returncode == 0, resumed.stderr
    assert "checkpoint.npz' after epoch " in resumed.stdout
    assert "from the beginning: there is no such checkpoint yet" in straight.stdout
    for name in ("model.npz", "history.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_the_completed_epochs(reviews, tmp_path):
    command = [sys.executable, "-u", ROOT / "examples" / "imdb.py", "--path", reviews, "--output", tmp_path]
    command += ["--epochs", "100000", "--workers", "1", *map(str, SMALL)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout:
            if line.startswith("Epoch 3/"):
                process.send_signal(signal.SIGINT)
                break
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "completed epochs are in model.history" in output
    kept = json.loads((tmp_path / "history.json").read_text())
    assert len(kept["loss"]) >= 2
    assert (tmp_path / "model.npz").exists()
