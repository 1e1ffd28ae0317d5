"""The first file to read: it is short, needs the cell alone, has the right gradients, and learns."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchlstm.gradcheck import numerical_gradient, relative_error

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "by_hand.py"
SOURCE = SCRIPT.read_text(encoding="utf-8")


def _finished(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def printed():
    done = _finished()
    assert done.returncode == 0, done.stderr
    return done.stdout


def _rows(printed):
    """step, loss, right, f at noise, f at a capital, and the sequence with its answer, of each line of the table."""
    found = re.findall(r"^ *(\d+) +(\S+) +(\S+)% +(\S+) +(\S+)  (\w{40}) -> (\w)$", printed, re.MULTILINE)
    return [(int(step), *map(float, numbers), text, answer) for step, *numbers, text, answer in found]


def test_it_learns_to_remember_and_to_forget(printed):
    first, *_, last = rows = _rows(printed)
    assert [row[0] for row in rows] == [1, *range(100, 1001, 100)]
    assert first[1] == pytest.approx(np.log(4), abs=0.1)
    assert first[2] == pytest.approx(25, abs=5)
    assert first[3] == pytest.approx(first[4], abs=0.05)  # the forget gate does not tell letters apart yet
    assert last[1] < 0.02
    assert last[2] > 99
    assert last[3] > last[4] + 0.2
    for *_, text, answer in rows[4:]:
        assert answer == re.findall("[A-D]", text)[-1]


def test_another_seed_learns_something_else(printed):
    other = _finished("--seed", "1").stdout
    assert _rows(other)[-1][2] > 99
    assert _rows(other)[-1][5] != _rows(printed)[-1][5]


def test_the_same_seed_prints_the_same(printed):
    assert _finished("--seed", "0").stdout == printed


def test_its_gradient_check_agrees(printed):
    given, measured = re.search(r"from the gradients (\S+), measured (\S+)\n", printed).groups()
    assert abs(float(given)) > 0.01
    assert float(given) == pytest.approx(float(measured), abs=2e-8)


@pytest.mark.parametrize("seed", ["-1", "10", "x"])
def test_a_seed_that_cannot_be(seed):
    done = _finished(f"--seed={seed}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"argument --seed: invalid {'int value' if seed == 'x' else 'choice'}: " in done.stderr


def test_every_gradient_is_that_of_the_loss(functions):
    example, rng = functions("by_hand.py"), np.random.default_rng(0)
    E, H, K = example["E"], example["H"], example["K"]
    shapes = (E, 4 * H), (H, 4 * H), (4 * H,), (H, K), (K,)
    params = [rng.normal(size=shape) for shape in shapes]
    batch = example["draw"](rng, B=5, T=6)

    def loss():
        return float(example["loss_and_gradients"](params, *batch)[0])

    for param, gradient in zip(params, example["loss_and_gradients"](params, *batch)[1], strict=True):
        assert gradient.shape == param.shape
        assert relative_error(gradient, numerical_gradient(loss, param)) < 1e-7


def test_the_answer_is_the_last_capital(functions):
    example = functions("by_hand.py")
    letters, answers = example["draw"](np.random.default_rng(0), B=200, T=12)
    assert letters.shape == (200, 12)
    texts = ["".join(example["LETTERS"][n] for n in row) for row in letters]
    found = [re.findall("[A-D]", text) for text in texts]
    assert [capitals[-1] for capitals in found] == [example["LETTERS"][n] for n in answers]
    assert {len(capitals) for capitals in found} == {1, 2}
    assert all(text[0] in "ABCD" for text in texts)


def test_it_fits_on_a_page_and_imports_only_the_cell():
    assert len(SOURCE.splitlines()) <= 80
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported == {"argparse", "numpy", "scratchlstm.gates"}


def test_pages_give_its_length():
    for page in ("README.md", "docs/index.md", "docs/guide.md", "docs/examples.md"):
        assert f"{len(SOURCE.splitlines())} lines" in (ROOT / page).read_text(encoding="utf-8")
