"""A run that is killed and restarted ends as if nothing had happened."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.mpi

SCRIPT = Path(__file__).with_name("restarting.py")
Done = subprocess.CompletedProcess[str]
Kill = tuple[int, int, int]  # the rank; after how many optimizer steps; after how many function calls more
STEPS = 36


@pytest.fixture(scope="module")
def supervised(mpiexec_path: str, run: Callable[..., Done]) -> Callable[..., Done]:
    """`supervised(folder, kills, restarts, *arguments)` trains on two ranks, in a folder of its own."""

    def train(folder: Path, kills: Sequence[Kill], restarts: int, *arguments: str) -> Done:
        (folder / "kills.json").write_text(json.dumps(kills))
        command = [sys.executable, "-m", "scratchlstm.mpi", "-n", "2", "--restarts", str(restarts)]
        return run([*command, str(SCRIPT), str(folder), *arguments], deadline=600)

    return train


@pytest.fixture(scope="module")
def undisturbed(supervised: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert supervised(folder, [], 0).returncode == 0
    return folder


def test_killed_at_20_random_moments(supervised: Callable[..., Done], undisturbed: Path, tmp_path: Path) -> None:
    """Before the first checkpoint too: one of an earlier run, which is there, is not taken for it."""
    shutil.copy(undisturbed / "run.npz", tmp_path)
    os.utime(tmp_path / "run.npz", (1e9, 1e9))
    rng = np.random.default_rng(7)
    steps = [-1, 0, *sorted(rng.integers(0, STEPS - 4, 17).tolist()), STEPS - 1]  # at the start; nearly at the end
    kills = [(int(rng.integers(2)), step, int(rng.integers(1, 6000))) for step in steps]
    done = supervised(tmp_path, kills, len(kills))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "used").read_text()) == len(kills) == 20
    assert int((tmp_path / "began").read_text()) >= STEPS - 12  # the last start, from a checkpoint
    assert done.stdout.count("all 2 ranks finished") == 1
    for name in "end0", "end1", "run.npz":
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes()


def test_no_restart_is_left(supervised: Callable[..., Done], tmp_path: Path) -> None:
    done = supervised(tmp_path, [(1, -1, 0), (0, -1, 0)], 1)
    assert done.returncode != 0
    assert "finished" not in done.stdout
    assert "the run failed with exit status 9: restart 1 of 1" in done.stderr
    assert "the run failed with exit status 9: no restarts left" in done.stderr


def test_two_fits_with_one_checkpoint(supervised: Callable[..., Done], tmp_path: Path) -> None:
    """A restart could not tell which of the two it belongs to."""
    done = supervised(tmp_path, [], 1, "again")
    assert done.returncode != 0
    assert "with --restarts, every fit needs its own" in done.stderr
