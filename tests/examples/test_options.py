"""What every example refuses, in one line and before any work."""

import re

import pytest

EXAMPLES = [
    *("adding_problem.py", "char_lm.py", "forecast.py", "gates.py", "gradient_flow.py", "odyssey.py", "padding.py"),
    "seq2seq.py",
]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("seed", ["-1", "x"])
def test_a_seed_that_cannot_be(refused, name, seed):
    assert f"argument --seed: must be a whole number of at least 0, not '{seed}'" in refused(name, f"--seed={seed}")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_folder_that_cannot_be_written(refused, name, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write to the output folder" in refused(name, "--output", tmp_path / "file" / "below")


@pytest.mark.parametrize("name", [*EXAMPLES, "imdb.py"])
def test_a_folder_without_a_name(refused, name):
    assert "argument --output: must be the name of a folder, not an empty string" in refused(name, "--output", "")


@pytest.mark.parametrize("name", ["odyssey.py", "padding.py"])
@pytest.mark.parametrize("path", ["nope", ""])
def test_reviews_that_are_not_there(refused, name, path):
    assert f"argument --path: '{path}' does not exist: name an imdb.npz or" in refused(name, "--path", path)


@pytest.mark.parametrize("name", ["adding_problem.py", "gradient_flow.py"])
@pytest.mark.parametrize("length", ["1", "-5", "x", "nan", "", "1e3", "9" * 20])
def test_a_length_that_cannot_be(refused, name, length):
    expected = f"argument --length: must be a whole number of at least 2 and at most 1,000,000, not {length!r}"
    assert expected in refused(name, f"--length={length}")


@pytest.mark.parametrize(
    "option", ["epochs", "batch-size", "maxlen", "words", "units", "dropout", "samples", "workers"]
)
@pytest.mark.parametrize("value", ["-1", "x", "nan", "inf", "", "1.5"])
def test_a_number_of_the_tutorial_that_cannot_be(refused, option, value):
    assert re.search(
        f"argument --{option}: must be a .*number .*not '{value}'", refused("imdb.py", f"--{option}={value}")
    )


@pytest.mark.parametrize("text", ["", "nope.txt"])
def test_a_text_that_is_not_there(refused, text):
    assert f"{text!r} cannot be read as a text in UTF-8" in refused("char_lm.py", "--text", text)


@pytest.mark.parametrize("text", ["", "?!"])
def test_a_text_without_a_word(refused, text):
    assert f"argument --text: there is no word in {text!r}" in refused("gates.py", "--text", text)
