"""The character model, in its quick mode, and its parts."""

import re
from collections import Counter

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_it_learns_and_writes(run, colors_of, tmp_path):
    printed = run("char_lm.py", "--output", tmp_path)
    losses, perplexities = zip(*re.findall(r": loss (\S+); .*perplexity (\S+)$", printed, re.MULTILINE), strict=True)
    assert float(losses[-1]) < float(losses[0]) / 2
    assert float(perplexities[-1]) < 3
    samples = (tmp_path / "samples.txt").read_text()
    assert re.findall(r"^--- temperature (\S+) ---$", samples, re.MULTILINE) == ["0.2", "0.5", "1.0", "1.5"]
    assert samples.count(" nonsense; ") == 4
    assert samples in printed
    assert colors_of(tmp_path / "loss.png") > 100


def test_it_reads_a_text_of_the_users(run, tmp_path):
    (tmp_path / "text.txt").write_text("žluťoučký kůň 🐎\n" * 300, encoding="utf-8")
    printed = run("char_lm.py", "--text", tmp_path / "text.txt", "--output", tmp_path)
    assert "🐎" in printed
    assert "nonsense" not in (tmp_path / "samples.txt").read_text(encoding="utf-8")


def test_windows_go_on_where_the_last_ones_ended(functions):
    ids = np.arange(100)
    x, y = functions("char_lm.py")["windows"](ids, rows=3, steps=4)
    assert x.shape == y.shape == (8 * 3, 4)
    np.testing.assert_array_equal(y, x + 1)
    by_row = x.reshape(8, 3, 4).swapaxes(0, 1).reshape(3, -1)
    np.testing.assert_array_equal(by_row, ids[:96].reshape(3, 32))


def test_a_text_that_cannot_be_read_is_named(refused, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name in ("latin.txt", "missing.txt"):
        assert f"{name}' cannot be read as a text in UTF-8" in refused("char_lm.py", "--text", tmp_path / name)


@pytest.mark.parametrize("letters", [0, 1, 1600])
def test_a_short_text_is_refused(refused, tmp_path, letters):
    (tmp_path / "text.txt").write_text("a" * letters)
    refusal = refused("char_lm.py", "--text", tmp_path / "text.txt")
    assert "the text is too short: its last tenth, which validates, needs over 160 characters" in refusal


def test_lines_that_were_never_finished_are_not_counted(functions):
    assert functions("char_lm.py")["count"]([], set()) == "no line was finished"


def test_the_text_is_true_and_the_judge_knows(functions):
    example = functions("char_lm.py")
    text = example["make_text"](500, np.random.default_rng(0))
    lines = text.strip().split("\n")
    assert len(lines) == 500
    assert {example["judge"](line) for line in lines} == {"true"}
    assert example["NUMBERS"]["forty two"] == 42
    for line, verdict in (
        ("ten is more than nine", "true"),
        ("nine is more than ten", "false"),
        ("ten comes after nine", "true"),
        ("ten comes after eight", "false"),
        ("ten is less than ten", "false"),
        ("tenty is less than ten", "nonsense"),
        ("", "nonsense"),
    ):
        assert example["judge"](line) == verdict


def test_the_least_loss_is_what_the_drawn_numbers_say(functions):
    example = functions("char_lm.py")
    text = example["make_text"](20000, np.random.default_rng(0))
    lines = text.strip().split("\n")
    # the entropy of the lines as they are: how often each occurs
    counts = np.array(list(Counter(line for line in lines if "after" in line).values()))
    assert len(counts) == 99
    share = counts / counts.sum()
    number = -np.sum(share * np.log(share)) + 98 / (2 * counts.sum())  # with Miller and Madow's correction
    known = np.log(3) + (2 * np.log(4950) + number) / 3
    assert example["least_loss"](text) == pytest.approx(known * len(lines) / len(text), rel=0.002)


def test_the_temperature_sharpens(functions):
    class Fair:
        """Always the same probabilities."""

        def reset_states(self):
            pass

        def predict(self, ids, **_):
            return np.tile([0.6, 0.4], (len(ids), 1, 1))

    def share(temperature):
        texts = functions("char_lm.py")["write"](Fair(), ["a", "b"], "b", 400, temperature, np.random.default_rng(0))
        return np.mean([letter == "a" for text in texts for letter in text[1:]])

    assert share(1.0) == pytest.approx(0.6, abs=0.02)
    assert share(0.5) == pytest.approx(0.36 / 0.52, abs=0.02)
    assert share(0.01) == 1.0
