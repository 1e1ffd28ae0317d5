"""What the launcher says if it, or MPI, is called wrongly; and that a script runs as Python would run it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchlstm import Sequential, mpi
from scratchlstm._support import ranks
from scratchlstm.layers import Dense

HOST = socket.gethostname()


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text("")
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a call that is refused at once."""
    with pytest.raises(SystemExit) as refused:
        mpi.main(arguments)
    assert refused.value.code == 2
    return capsys.readouterr().err.partition("error: ")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patience", "0"], "--patience: must be a number of seconds above 0, not '0'"),
        (["--patience", "nan"], "--patience: must be a number of seconds above 0, not 'nan'"),
        (["--patience", "long"], "--patience: must be a number of seconds above 0, not 'long'"),
        (["-n", "0"], "-n: must be a whole number of at least 1, not '0'"),
        (["-n", "two"], "-n: must be a whole number of at least 1, not 'two'"),
        (["-n", "2", "--restarts", "-1"], "--restarts: must be a whole number of at least 0, not '-1'"),
        (["--restarts", "1"], "--restarts and --mpiexec need -n: python -m scratchlstm.mpi -n N --restarts 1 SCRIPT"),
        (["--mpiexec", "srun"], "--restarts and --mpiexec need -n"),
        (["-n", "2", "--mpiexec", "no-such-mpiexec -x"], "no-such-mpiexec is missing: pip install mpich"),
    ],
)
def test_wrong_options(capsys: pytest.CaptureFixture[str], script: str, options: list[str], message: str) -> None:
    assert message in said(capsys, *options, script)


def test_no_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert "required: SCRIPT" in said(capsys, "-n", "2")
    assert f"there is no script 'no.py' on {HOST}" in said(capsys, "-n", "2", "--mpiexec", "env", "no.py")


def test_no_mpi4py(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert 'pip install -e ".[mpi]"' in said(capsys, "-n", "2", "--mpiexec", "env", script)


def test_open_mpi_as_root(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, script: str, tmp_path: Path
) -> None:
    """It would refuse: the options that it wants are named."""
    pytest.importorskip("mpi4py")
    openmpi = tmp_path / "mpiexec"
    openmpi.write_text("#!/bin/sh\necho 'mpiexec (Open MPI) 5.0.11'\n")
    openmpi.chmod(0o755)
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    options = "--allow-run-as-root --oversubscribe"
    assert f"add --mpiexec '{openmpi} {options}'" in said(capsys, "-n", "2", "--mpiexec", str(openmpi), script)
    assert mpi.main(["-n", "2", "--mpiexec", f"{openmpi} {options}", script]) == 0


# --- without the launcher ---------------------------------------------------------------------------------------------


def train(**options: Any) -> None:
    model = Sequential([Dense(1)], seed=1)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, **options)


def test_mpiexec_without_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.warns(UserWarning, match=r"2 processes were started together.*put `-m scratchlstm\.mpi` before"):
        train()


def test_ranks_are_wanted_without_the_launcher() -> None:
    with pytest.raises(RuntimeError, match=r"mpiexec -n 4 python -m scratchlstm\.mpi SCRIPT"):
        train(workers="mpi")


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_waited_for_is_said(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rank: int
) -> None:
    """After some time by rank 0; at the end of the patience by every rank, unless one before has ended the run."""
    monkeypatch.setattr(mpi, "_TOLD", 0.5)
    monkeypatch.setattr(ranks, "rank", rank)
    with open(tmp_path / "status", "w+b") as file, subprocess.Popen(["sleep", "60"]) as child:
        file.truncate(mpi.Status.SIZE)
        status = mpi.Status(file.fileno())
        with status.waiting("the others, in größter Ruhe"):
            assert mpi._watch(child.pid, status, 1.0) == 1
        child.kill()
    told = f"scratchlstm.mpi: rank {rank} on {HOST} has waited"
    early = f"{told} 0.5 s for the others, in größter Ruhe. The run ends after 1 s of this\n"
    late = f"{told} 1 s for the others, in größter Ruhe: the run ends (--patience SECONDS allows more)\n"
    assert capfd.readouterr().err == early * (rank == 0) + late


# --- as python runs it ------------------------------------------------------------------------------------------------

SHOWS = """
import json, pickle, sys
class Own: pass
own = type(pickle.loads(pickle.dumps(Own()))) is Own
print(json.dumps([sys.argv, __file__, __name__, sys.path[0], own, sys.stdin.read(), sys.modules["__main__"].__file__]))
"""


@pytest.mark.mpi
@pytest.mark.parametrize("script", [["rooms/shows.py"], ["-m", "rooms.shows"], ["-m", "rooms"]])
def test_a_script_runs_as_python_runs_it(tmp_path: Path, script: list[str]) -> None:
    pytest.importorskip("mpi4py")
    (tmp_path / "rooms").mkdir()
    for name in "shows.py", "__main__.py":
        (tmp_path / "rooms" / name).write_text(SHOWS)
    (tmp_path / "rooms" / "__init__.py").write_text("")

    def output(*launcher: str) -> list[str]:
        command = [sys.executable, *launcher, *script, "-n", "--patience", "für", "--", "-m"]
        options: dict[str, Any] = {"cwd": tmp_path, "input": "typed\n", "text": True, "stdout": subprocess.PIPE}
        return subprocess.run(command, check=True, timeout=60, **options).stdout.splitlines()

    assert output("-m", "scratchlstm.mpi") == [*output(), "the only rank finished"]
    assert json.loads(output()[0])[5] == "typed\n"
