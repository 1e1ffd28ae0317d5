"""Examples as a reader runs them, and their functions one by one."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def run():
    """Run an example in its quick mode: what it printed."""

    def run_example(name, *arguments):
        command = [sys.executable, ROOT / "examples" / name, "--quick", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_example


@pytest.fixture(scope="session")
def functions():
    """An example's functions and constants by name."""
    return lambda name: runpy.run_path(str(ROOT / "examples" / name))


@pytest.fixture(scope="session")
def colors_of():
    """How many different colours a picture has; a blank one has a single one."""
    return lambda path: len({tuple(pixel) for row in matplotlib.image.imread(path) for pixel in row})
