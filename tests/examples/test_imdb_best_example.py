"""The best reader of reviews, as a user runs it, on a few made-up reviews in an aclImdb folder."""

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

from scratchlstm import Model, Sequential
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.utils import held_folder

pytestmark = pytest.mark.usefixtures("without_numba")  # its processes start in half the time
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "imdb_best.py"
SMALL = ("--units", 4, "--words", 40, "--bigrams", 60, "--batch-size", 8, "--epochs", 6, "--workers", 1)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Reviews that praise or blame, with a "not" in front of a word turning it around."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data") / "aclImdb"
    for half, count in (("train", 40), ("test", 12)):
        for kind, words in (("pos", ["good", "not bad"]), ("neg", ["bad", "not good"])):
            (root / half / kind).mkdir(parents=True)
            for number in range(count):
                filler = rng.choice(["the film", "a plot", "its end<br />"], size=rng.integers(1, 6)).tolist()
                text = " ".join([*filler, "is", str(rng.choice(words)) + "!"])
                (root / half / kind / f"{number}_1.txt").write_text(text)
    (root / "test" / "pos" / "90_1.txt").write_text("...")  # a review without a word
    return root


def run(*arguments, **options):
    command = [sys.executable, EXAMPLE, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, **options)


@pytest.fixture(scope="module")
def trained(reviews, tmp_path_factory):
    """The whole recipe, and the same without bigrams, plus the baseline."""
    folder = tmp_path_factory.mktemp("run") / "made" / "here"
    outputs = []
    for more in (), ("--without", "bigrams", "--baseline"):
        done = run("--path", reviews, "--output", folder, *SMALL, *more)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return folder, outputs


def test_it_leaves_model_words_curve_and_results(trained):
    folder, (output, _) = trained
    names = ["checkpoint.npz", "learning_curve.png", "model.npz", "results.json", "vocabulary.json"]
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == names
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "results.json").read_bytes())
    assert results["reviews"] == "25 test reviews"
    assert {name: len(values) for name, values in results["history"].items()} == {"accuracy": 6, "loss": 6}
    assert f"\naccuracy {results['accuracy']:.4f}, loss {results['loss']:.4f} on 25 test reviews" in output
    assert "80 reviews to train on, 25 to test on, once" in output
    assert len(Model.load(folder / "model.npz").input_shape) == 2
    assert "--without adversarial tells what that is worth" in output


def test_without_an_ingredient_the_two_are_compared(trained):
    folder, (_, output) = trained
    with_all, without = (
        json.loads((folder / name / "results.json").read_bytes())["accuracy"] for name in (".", "without-bigrams")
    )
    table = dict(re.findall(r"^  (nothing|bigrams) +(.*)$", output, re.MULTILINE))
    assert table == {"nothing": f"{with_all:.4f}", "bigrams": f"{without:.4f} {without - with_all:+.4f}"}
    assert len(Model.load(folder / "without-bigrams" / "model.npz").network.input_shapes) == 1
    found = re.search(r"logistic regression .*: (\d\.\d{4})$", output, re.MULTILINE)
    assert found
    assert float(found[1]) > 0.9


@pytest.fixture
def done(monkeypatch, capsys):
    """What the example prints, run in this process: to start Python takes longer than the rest."""

    def output(*arguments):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        assert stop.value.code == 0
        return capsys.readouterr().out

    return output


def test_a_sentence_is_scored_and_explained(done, trained):
    folder, _ = trained
    first, *words = done("--output", folder, "--predict", "The film is GOOD!").splitlines()
    probability = float(re.match(r"(0\.\d{3}) probability of a positive review", first)[1])
    moved = {word: float(by) for word, by in (re.search(r"(\S+) .*([+-]\d+\.\d\d)$", each).groups() for each in words)}
    assert [*moved] == ["the", "film", "is", "good", "!"]
    # what the last line says is what the model says of the others
    left_out = float(done("--output", folder, "--predict", "The film is!").split()[0])
    log_odds = [np.log(p / (1 - p)) for p in (probability, left_out)]
    assert moved["good"] == pytest.approx(log_odds[0] - log_odds[1], abs=0.05)


@pytest.mark.parametrize("ingredient", ["adversarial", "average", "dropout", "pooling", "backward", "schedule"])
def test_every_ingredient_can_be_left_out(done, monkeypatch, reviews, tmp_path, ingredient):
    fit, asked = Model.fit, []

    def noted(model, *args, **options):
        asked.append(options["adversarial"])
        return fit(model, *args, **options)

    monkeypatch.setattr(Model, "fit", noted)
    done("--path", reviews, "--output", tmp_path, *SMALL, "--epochs", 1, "--without", ingredient)
    assert (tmp_path / f"without-{ingredient}" / "model.npz").exists()
    model = Model.load(tmp_path / f"without-{ingredient}" / "model.npz")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert (asked == [None]) == (ingredient == "adversarial")
    assert ("Bidirectional" in kinds) == (ingredient != "backward")
    assert any("Pooling" in kind for kind in kinds) == (ingredient != "pooling")
    assert model.optimizer.use_ema == (ingredient != "average")
    assert (model.optimizer.schedule is None) == (ingredient == "schedule")
    rates = [layer.rate for layer in model.layers if hasattr(layer, "rate")]
    assert any(rates) == (ingredient != "dropout")


@pytest.fixture
def refusal(monkeypatch, capsys):
    """What the example says when it refuses its arguments, in one line and before any training."""

    def line(*arguments):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        said = capsys.readouterr()
        assert stop.value.code == 2
        assert "Epoch" not in said.out
        last = said.err.splitlines()[-1]
        assert last.startswith("imdb_best.py: error: ")
        return last.removeprefix("imdb_best.py: error: ")

    return line


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--epochs", "0", "must be a whole number of at least 1, not '0'"),
        ("--batch-size", "-5", "must be a whole number of at least 1, not '-5'"),
        ("--units", "1.5", "must be a whole number of at least 1, not '1.5'"),
        ("--words", "0", "must be a whole number of at least 1, not '0'"),
        ("--bigrams", "x", "must be a whole number of at least 1, not 'x'"),
        ("--seed", "-1", "must be a whole number of at least 0, not '-1'"),
        ("--workers", "0", "must be a whole number of at least 1, not '0', or auto"),
        ("--without", "words", "invalid choice: 'words'"),
        ("--path", "/no/such", "'/no/such' does not exist"),
        ("--output", "", "must be the name of a folder, not an empty string"),
        ("--predict", " ?!", "there is no word in ' ?!'"),
    ],
)
def test_an_option_that_cannot_be_is_named(refusal, option, value, expected):
    assert refusal(f"{option}={value}").startswith(f"argument {option}: {expected}")


def test_a_file_of_ids_is_refused(refusal, tmp_path):
    np.savez(tmp_path / "imdb.npz", x_train=[[1]], x_test=[[1]], y_train=[0], y_test=[1])
    assert "imdb.npz" in refusal("--path", tmp_path / "imdb.npz", "--output", tmp_path)


def test_a_folder_that_another_run_writes_to_is_left_to_it(refusal, reviews, tmp_path):
    with held_folder(tmp_path):
        assert f"is in use by process {os.getpid()} on " in refusal("--path", reviews, "--output", tmp_path, *SMALL)


def test_a_folder_that_cannot_be_written_stops_it_before_the_data_is_loaded(refusal, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write to the output folder" in refusal("--output", tmp_path / "file" / "below")


def test_a_checkpoint_of_another_run_is_named(refusal, reviews, trained):
    told = refusal("--path", reviews, "--output", trained[0], "--resume", *SMALL, "--units", 5)
    assert "the run cannot be resumed from" in told


def test_a_baseline_without_scikit_learn_is_told_before_any_work(refusal, monkeypatch, reviews, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    told = refusal("--path", reviews, "--output", tmp_path / "made", "--baseline", *SMALL)
    assert told.startswith("--baseline needs scikit-learn: pip install 'scratchlstm[baseline]'")
    assert not (tmp_path / "made").exists()


def test_prediction_without_a_model_says_what_to_do(refusal, tmp_path):
    assert re.match(r"there is no model file at .*; train first", refusal("--output", tmp_path, "--predict", "good"))


def test_a_sentence_without_a_known_word_is_refused(refusal, trained):
    told = refusal("--output", trained[0], "--predict", "Quarks, in Kyōto")
    assert re.fullmatch(r"none of the \d+ words that the model knows is in 'Quarks, in Kyōto'", told)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"known": [[1], [2]], "maxlen": 4}', '{"known": [["a"]], "maxlen": -4}', '{"known": 3}']
)
def test_a_damaged_vocabulary_is_named(refusal, trained, tmp_path, text):
    (tmp_path / "model.npz").write_bytes((trained[0] / "model.npz").read_bytes())
    (tmp_path / "vocabulary.json").write_text(text)
    assert "vocabulary.json' is not the vocabulary of such a run" in refusal("--output", tmp_path, "--predict", "good")


def test_words_of_another_run_are_refused(refusal, trained, tmp_path):
    (tmp_path / "model.npz").write_bytes((trained[0] / "model.npz").read_bytes())
    (tmp_path / "vocabulary.json").write_text('{"known": [["good"], ["is good"]], "maxlen": 4}')
    assert "are not from the same run; train first" in refusal("--output", tmp_path, "--predict", "good")


def test_the_tutorials_run_is_refused(refusal, trained, tmp_path):
    Sequential([Embedding(20, 2, input_shape=(8,)), LSTM(2), Dense(1)], seed=0).save(tmp_path / "model.npz")
    (tmp_path / "vocabulary.json").write_text('{"maxlen": 8, "num_words": 20, "words": {"good": 1}}')
    assert "is not the vocabulary of such a run" in refusal("--output", tmp_path, "--predict", "good")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_run_that_was_interrupted_is_resumed_and_ends_as_one_that_was_not(reviews, trained, tmp_path):
    arguments = ["--path", reviews, "--output", tmp_path, *SMALL]
    command = [sys.executable, "-u", EXAMPLE, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.startswith("Epoch 3/"):
                process.send_signal(signal.SIGINT)
                break
        output = process.stdout.read()
    if process.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert process.returncode == 130
    assert "--resume continues it" in output
    assert not (tmp_path / "model.npz").exists()
    resumed = run(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "model.npz").read_bytes() == (trained[0] / "model.npz").read_bytes()


def test_all_texts_without_a_known_word_have_one_column():
    reader = runpy.run_path(str(EXAMPLE))["Reader"]([["good"], ["is good"]], 5)
    words, bigrams = reader.read(["...", ""])
    assert words.tolist() == bigrams.tolist() == [[0], [0]]
    words, bigrams = reader.read(["it is good", "so good! so!"])
    assert words.tolist() == [[0, 0, 1, 1, 2], [1, 2, 1, 1, 1]]
    assert bigrams.tolist() == [[0, 0, 1, 1, 2], [1, 1, 1, 1, 1]]


def test_the_order_of_what_is_left_out_does_not_matter(done, reviews, tmp_path):
    for more in ("--without", "schedule", "--without", "average"), ("--without", "average", "--without", "schedule"):
        done("--path", reviews, "--output", tmp_path, *SMALL, "--epochs", 1, *more, *more)
    assert [path.name for path in tmp_path.iterdir()] == ["without-average-schedule"]


def test_reviews_without_a_word_are_refused(refusal, tmp_path):
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        (tmp_path / "aclImdb" / part).mkdir(parents=True)
        (tmp_path / "aclImdb" / part / "0_1.txt").write_text("...")
    told = refusal("--path", tmp_path / "aclImdb", "--output", tmp_path / "run", *SMALL)
    assert told == "there is no word in the reviews to train on"
