"""What every example refuses, in one line and before any work."""

import pytest

EXAMPLES = ["adding_problem.py", "char_lm.py", "gates.py", "gradient_flow.py", "padding.py"]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("seed", ["-1", "x"])
def test_a_seed_that_cannot_be(refused, name, seed):
    assert f"argument --seed: must be a whole number of at least 0, not '{seed}'" in refused(name, f"--seed={seed}")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_folder_that_cannot_be_written(refused, name, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write to the output folder" in refused(name, "--output", tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["gates.py", "padding.py"])
@pytest.mark.parametrize("path", ["nope", ""])
def test_reviews_that_are_not_there(refused, name, path):
    assert f"argument --path: '{path}' does not exist: name an imdb.npz or" in refused(name, "--path", path)


@pytest.mark.parametrize("name", ["adding_problem.py", "gradient_flow.py"])
def test_a_length_that_cannot_be(refused, name):
    assert "argument --length: must be a whole number of at least 2, not '1'" in refused(name, "--length", "1")


@pytest.mark.parametrize("text", ["", "?!"])
def test_a_text_without_a_word(refused, text):
    assert f"argument --text: there is no word in {text!r}" in refused("gates.py", "--text", text)
