"""Padding before and after, in its quick mode, on made-up reviews."""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """An imdb.npz with short and long reviews, whose words tell the label."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 240), ("test", 90)):
        labels = np.arange(count) % 2
        rows = [(rng.integers(1, 40, size=rng.integers(3, 60)) * 2 + label).tolist() for label in labels]
        arrays |= {f"x_{part}": np.concatenate(rows), f"lengths_{part}": [*map(len, rows)], f"y_{part}": labels}
    path = tmp_path_factory.mktemp("reviews") / "imdb.npz"
    np.savez(path, **arrays)
    return path


def test_a_table_and_a_picture_of_four_curves(run, reviews, colors_of, tmp_path):
    printed = run("padding.py", "--path", reviews, "--output", tmp_path)
    assert "200 reviews of up to 100 words, padded to 150 steps: " in printed
    table = printed[printed.index("validation accuracy |") :]
    curves = dict(re.findall(r"^((?:pre|post), (?:no )?mask) *\|(.*)$", table, re.MULTILINE))
    assert set(curves) == {"pre, no mask", "pre, mask", "post, no mask", "post, mask"}
    assert curves["pre, mask"] == curves["post, mask"]  # the same words, one after the other
    assert curves["pre, no mask"] != curves["post, no mask"]
    accuracy = {name: float(curve.split("|")[-1]) for name, curve in curves.items()}
    assert accuracy["pre, mask"] > 0.9
    assert accuracy["pre, no mask"] > 0.9
    assert accuracy["post, no mask"] < 0.75
    assert colors_of(tmp_path / "padding.png") > 100


def test_reviews_that_are_all_too_long_are_told(refused, tmp_path):
    rows = np.random.default_rng(0).integers(1, 99, size=(4, 101))
    np.savez(tmp_path / "imdb.npz", x_train=rows, x_test=rows, y_train=[0, 1, 0, 1], y_test=[0, 1, 0, 1])
    assert "no review there has 100 words or fewer" in refused("padding.py", "--path", tmp_path / "imdb.npz")
