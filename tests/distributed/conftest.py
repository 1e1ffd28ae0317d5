"""Runs of MPI, each with a deadline."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_DEADLINE = 120  # seconds: far more than any run here takes


def _mpiexec() -> str | None:
    """The one next to this Python, else the one on PATH."""
    return shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")


def _run(command: list[str], deadline: float = _DEADLINE, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; at the deadline all its processes are killed, and the test fails with what they printed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes, **options)
    try:
        output = process.communicate(timeout=deadline)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)  # mpiexec's helpers end the ranks when it is gone
        stdout, stderr = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            pytest.fail(f"{command} did not end within {deadline:g} s. It printed:\n{stdout}\n{stderr}")
        raise
    return subprocess.CompletedProcess(command, process.returncode, *output)


@pytest.fixture(scope="module", autouse=True)
def _start_fast(without_numba: None) -> None:
    """No rank or worker imports Numba, unless a test asks for it."""


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run(command)`, with a deadline."""
    return _run


@pytest.fixture(scope="session")
def mpiexec_path() -> str:
    """The command that starts ranks."""
    command = _mpiexec()
    if command is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py or mpiexec is missing: pip install mpi4py mpich")
    return command


@pytest.fixture(scope="session")
def on_ranks(mpiexec_path: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`on_ranks(4, script, *arguments)` runs a script on so many ranks; options are those of `_run`."""

    def start(ranks: int, script: Path, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        python = [sys.executable, "-m", "scratchlstm.mpi", script, *arguments]
        return _run([mpiexec_path, "-n", str(ranks), *map(str, python)], **options)

    return start
