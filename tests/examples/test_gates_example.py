"""The example that watches a cell read, in its quick mode."""

import json
import re

import numpy as np
import pytest

WORDS = ["the", "film", "is", "good", "bad", "plot"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """An imdb.npz whose reviews say good or bad, and the words beside it."""
    folder = tmp_path_factory.mktemp("reviews")
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 200), ("test", 20)):
        labels = np.arange(count) % 2
        rows = [[*rng.choice([1, 2, 3, 6], size=rng.integers(3, 12)).tolist(), int(5 - label)] for label in labels]
        arrays |= {f"x_{part}": np.concatenate(rows), f"lengths_{part}": [*map(len, rows)], f"y_{part}": labels}
    np.savez(folder / "imdb.npz", **arrays)
    (folder / "imdb_word_index.json").write_text(json.dumps({word: rank for rank, word in enumerate(WORDS, start=1)}))
    return folder / "imdb.npz"


def test_numbers_pictures_and_page(run, reviews, colors_of, tmp_path):
    printed = run("gates.py", "--path", reviews, "--output", tmp_path, "--text", "The plot is BAD!")
    rows = re.findall(r"^(\S+) +(0\.\d+) \* +(\S+) \+ (0\.\d+) \* (\S+) = (\S+) \| (0\.\d+) (\S+) \|", printed, re.M)
    assert [word for word, *_ in rows] == ["<start>", "the", "plot", "is", "bad"]
    numbers = np.array([row[1:] for row in rows], dtype=float)
    f, c_prev, i, g, c, o, h = numbers.T
    np.testing.assert_allclose(f * c_prev + i * g, c, atol=0.01)
    np.testing.assert_allclose(o * np.tanh(c), h, atol=0.01)
    np.testing.assert_array_equal(c_prev[1:], c[:-1])
    probability = float(re.search(r"^(\S+) probability of a positive review$", printed, re.MULTILINE).group(1))
    assert 0 < probability < 1
    pictures = [path.name for path in sorted(tmp_path.glob("*.png"))]
    assert pictures == ["cell.png", "gates.png", "heatmap.png", "saliency.png", "saturation.png"]
    assert all(colors_of(tmp_path / name) > 100 for name in pictures)
    page = (tmp_path / "explorer.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert '"plot"' in page


def test_a_text_without_a_known_word_is_told_before_any_training(refused, reviews):
    assert "none of the 5000 words that the model learns is in 'zzzz'" in refused(
        "gates.py", "--text", "zzzz", "--path", reviews
    )


def test_words_of_reviews_that_are_missing_are_told(refused, reviews, tmp_path):
    (tmp_path / "imdb.npz").write_bytes(reviews.read_bytes()[:100])
    assert "imdb.npz" in refused("gates.py", "--path", tmp_path / "imdb.npz")
