"""The example that watches a gate at work."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PICTURES = ["gates.png", "saliency.png", "saturation.png"]


def rows_of(printed):
    """Each word, and its f, c_prev, i, g, c, o, h."""
    found = re.findall(r"^(\S+) +(0\.\d+|1\.00) \* +(\S+) \+ (\S+) \* (\S+) = (\S+) \| (\S+) (\S+) \|", printed, re.M)
    return [word for word, *_ in found], np.array([numbers for _, *numbers in found], dtype=float).T


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the example prints, not in its quick mode, and its folder."""
    folder = tmp_path_factory.mktemp("gates")
    command = [sys.executable, ROOT / "examples" / "gates.py", "--output", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=True)
    return done.stdout, folder


def test_numbers_pictures_and_page(run, colors_of, tmp_path):
    printed = run("gates.py", "--output", tmp_path, "--text", "The plot is NOT bad!")
    words, (f, c_prev, i, g, c, o, h) = rows_of(printed)
    assert words == ["the", "plot", "is", "not", "bad"]
    np.testing.assert_allclose(f * c_prev + i * g, c, atol=0.01)
    np.testing.assert_allclose(o * np.tanh(c), h, atol=0.01)
    np.testing.assert_array_equal(c_prev[1:], c[:-1])
    probability = float(re.search(r"^(\S+) probability of praise$", printed, re.MULTILINE).group(1))
    assert 0 < probability < 1
    assert [path.name for path in sorted(tmp_path.glob("*.png"))] == PICTURES
    assert all(colors_of(tmp_path / name) > 100 for name in PICTURES)
    page = (tmp_path / "explorer.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert '"plot"' in page


def test_the_forget_gate_shuts_at_not_and_good_changes_nothing(whole):
    words, (f, _, i, g, c, _, _) = rows_of(whole[0])
    assert words == ["the", "film", "is", "not", "good"]
    assert f[3] <= 0.01
    assert min(f[1], f[2], f[4]) >= 0.9
    assert g[2] > 0.9 > -0.9 > g[3]
    assert c[2] > 2 > -0.9 > c[3]
    assert i[4] <= 0.01
    assert abs(c[4] - c[3]) < 0.02


def test_a_word_that_it_does_not_learn_is_told_before_any_training(refused):
    line = refused("gates.py", "--text", "the film is awful")
    assert "the model does not know 'awful'; it learns the words the, is, good, not, bad, film, " in line
