"""Whoever follows the first half hour sees what the page shows: its commands, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "newcomer.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path):
    for part in ("scratchlstm", "examples"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(command, folder):
    python, *arguments = command.split()
    assert python == ".venv/bin/python", command
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONUTF8": "1"},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def edit(block, name, folder):
    old, new = re.fullmatch(r"-(.*)\n\+(.*)\n", block).groups()
    text = (folder / name).read_text(encoding="utf-8")
    assert text.count(old + "\n") == 1, old
    (folder / name).write_text(text.replace(old + "\n", new + "\n"), encoding="utf-8")


def numbers_apart(text):
    """The words of a text; training rounds differently elsewhere."""
    return re.sub(r"[-+]?\d+\.\d+(e[-+]\d+)?", "#", " ".join(text.split()))


def follow(first, end, folder):
    """Do what the page says from one heading to another; what a command prints has the text block behind it."""
    printed = ""
    for block in BLOCK.finditer(PAGE, PAGE.index(f"\n## {first}"), PAGE.index(f"\n## {end}")):
        kind, text = block.groups()
        if kind == "text":
            assert numbers_apart(text) in numbers_apart(printed)
        elif kind == "diff":
            edit(text, re.findall(r"`([\w/]+\.py)`", PAGE[: block.start()])[-1], folder)
        elif not text.startswith("git "):  # the copy is none of git's
            printed = "".join(run(line, folder) for line in text.splitlines())


def test_to_the_picture_and_the_first_exercise(checkout):
    follow("2. The picture", "4. A gate", checkout)
    assert {path.name for path in (checkout / "runs/gates").iterdir()} >= {"gates.png", "explorer.html"}


@pytest.mark.slow
def test_to_a_changed_gate(checkout):
    follow("4. A gate", "From here", checkout)
