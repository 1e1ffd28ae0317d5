"""Examples as a reader runs them, and their functions one by one."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def finished(name, *arguments):
    """An example in its quick mode, when it has ended."""
    command = [sys.executable, ROOT / "examples" / name, "--quick", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(scope="session")
def run():
    """Run an example in its quick mode: what it printed."""

    def run_example(name, *arguments):
        done = finished(name, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_example


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run an example that refuses what it is given, in one line and before any training: that line."""

    def refusal(name, *arguments):
        path = str(ROOT / "examples" / name)
        command = [path, "--quick", "--output", tmp_path / "output", *arguments]
        monkeypatch.setattr(sys, "argv", [*map(str, command)])
        with pytest.raises(SystemExit) as stop:  # in this process: to start Python takes longer than to refuse
            runpy.run_path(path, run_name="__main__")
        done = capsys.readouterr()
        assert stop.value.code == 2
        assert "poch" not in done.out
        *notes, line = done.err.splitlines()
        assert line.startswith(f"{name}: error: ")
        assert all(note.startswith(("usage: ", "  ", "imdb: ")) for note in notes)
        assert not list(tmp_path.glob("output/*"))
        return line

    return refusal


@pytest.fixture(scope="session")
def functions():
    """An example's functions and constants by name."""
    return lambda name: runpy.run_path(str(ROOT / "examples" / name))


@pytest.fixture(scope="session")
def colors_of():
    """How many different colours a picture has; a blank one has a single one."""

    def count(path):
        with Image.open(path) as picture:
            return len(picture.getcolors(picture.width * picture.height))

    return count
