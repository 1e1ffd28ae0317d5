"""The example that watches a gate at work, and the page that it has left in the documentation."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "_static" / "explorer.html"
DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)')
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


def test_the_page_in_the_documentation_is_what_the_example_writes(whole):
    committed, written = (path.read_text("utf-8") for path in (COMMITTED, whole[1] / "explorer.html"))
    again = "write it again: python examples/gates.py && cp runs/gates/explorer.html docs/_static/"
    assert DATA.sub("", committed) == DATA.sub("", written), again
    assert_close(*(json.loads(DATA.search(page)[0]) for page in (committed, written)))
    assert len(committed) < 300_000


def assert_close(ours, theirs):
    """Equal, but for the last digits of numbers, which depend on the machine."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            assert_close(*pair)
    elif isinstance(ours, float):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    elif isinstance(ours, str) and re.fullmatch(r"d[\w+/]{11,}=*", ours):
        ours, theirs = (np.frombuffer(base64.b64decode(text[1:]), "<f8") for text in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    else:
        assert ours == theirs


def test_a_word_that_it_does_not_learn_is_told_before_any_training(refused):
    line = refused("gates.py", "--text", "the film is awful")
    assert "the model does not know 'awful'; it learns the words the, is, good, not, bad, film, " in line
