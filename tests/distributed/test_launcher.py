"""The launcher: an MPI run that fails ends soon and as a whole, says why once, and can be started again."""

import fcntl
import functools
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.mpi

SCRIPT = Path(__file__).with_name("failing.py")
HOST = socket.gethostname()
SOON = 10.0  # seconds within which a run that has failed is to have ended
DEADLINE = 60.0  # for what is no failure


class Launched:
    """A run, whose processes are known by a folder among their arguments.

    Args:
        command: to start it.
        folder: in its arguments; its ranks write files into it.
        options: of `subprocess.Popen`.
    """

    def __init__(self, command: list[str], folder: Path, **options: Any) -> None:
        self.folder = folder
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
        self.process = subprocess.Popen(command, **(pipes | {"start_new_session": True} | options))

    def read(self, name: str) -> str:
        """What a rank has written into a file, once it has."""
        path, deadline = self.folder / name, time.monotonic() + DEADLINE
        while not path.exists():
            ended = self.process.poll() is not None
            if (ended or time.monotonic() > deadline) and not path.exists():
                self.kill()
                pytest.fail(f"no {name}: {self.process.communicate()}")
            time.sleep(0.02)
        return path.read_text()

    def script(self, rank: int = 1) -> psutil.Process:
        """The process of a rank's script, once it is there."""
        return psutil.Process(int(self.read(f"pid{rank}")))

    def processes(self) -> list[psutil.Process]:
        """Those that have not ended."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has ended meanwhile
                pass
        return found

    def kill(self) -> None:
        """End what is left."""
        for process in self.processes():
            process.kill()

    def ended(self, within: float = DEADLINE) -> tuple[int, str, str]:
        """The exit status, standard output and error, once all its processes have ended."""
        deadline = time.monotonic() + within
        try:
            output, errors = self.process.communicate(timeout=within)
            while (left := self.processes()) and time.monotonic() < deadline:
                time.sleep(0.02)
        except subprocess.TimeoutExpired:
            left = self.processes()
        if left:
            self.kill()
            pytest.fail(f"{left} were left after {within} s: {self.process.communicate()}")
        return self.process.returncode, output, errors

    def failed(self) -> tuple[int, str, str]:
        """As `ended`, soon after the failure."""
        happened = float(self.read("failing"))
        code, output, errors = self.ended(happened + SOON - time.time())
        assert code != 0
        assert "finished" not in output
        return code, output, errors


@pytest.fixture
def launch(mpiexec_path: str, tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """`launch("raise in step", 1)` starts three ranks of `failing.py`, of which rank 1 is to fail."""
    runs: list[Launched] = []

    def start(way: str, rank: int = 1, *options: str, supervised: bool = False, **of_process: Any) -> Launched:
        command = [sys.executable, "-m", "scratchlstm.mpi", *options, str(SCRIPT), way, str(rank), str(tmp_path)]
        if supervised:
            command[3:3] = ["-n", "3"]
        else:
            command[:0] = [mpiexec_path, "-n", "3"]
        runs.append(Launched(command, tmp_path, **of_process))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


def ours(errors: str) -> list[str]:
    """The lines that are the launcher's own."""
    return [line.removeprefix("scratchlstm.mpi: ") for line in errors.splitlines() if "scratchlstm.mpi: " in line]


# --- a rank fails by itself -------------------------------------------------------------------------------------------


def one(rank: int) -> str:
    return f"rank {rank} of 3 on {HOST}:"


LEFT = f"rank 1 on {HOST} exited with status 0 before the others were done, as with os._exit(0): the run ends"
KILLED = f"rank 1 on {HOST} was killed by SIGKILL (as the system does when memory runs out): the run ends"
WAYS = {
    "raise in step": (one(1), "ValueError: a mistake in step"),
    "raise in script": (one(1), "ValueError: a mistake in script"),
    "all raise": (one(0), "ValueError: a mistake of all"),
    "exit 3 in step": (one(1), "SystemExit: 3"),
    "exit 3 in script": (one(1), "it ended with exit status 3"),
    "exit with a text in script": (one(1), "nothing to do"),
    "exit 0 in script": (one(0), rf"but rank 1 ({HOST}) at the end of its script"),
    "only the others train": (one(0), rf"but rank 1 ({HOST}) at the end of its script"),
    "kill in step": (KILLED, ""),
    "kill at the end": (KILLED, ""),
    "segfault in step": (f"rank 1 on {HOST} was killed by SIGSEGV: the run ends", "Fatal Python error"),
    "os._exit in step": (LEFT, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_rank_that_fails_ends_the_run_and_is_named_once(launch: Callable[..., Launched], way: str) -> None:
    line, reason = WAYS[way]
    code, _, errors = launch(way).failed()
    assert ours(errors) == [line], errors
    assert errors.count(reason) == 1 or not reason
    assert errors.count("Traceback") == ("Error: " in reason or "SystemExit" in reason or reason.startswith("but"))
    assert code == 3 or "exit 3" not in way


@pytest.mark.parametrize(
    ("way", "line", "reason"),
    [
        ("raise in callback", one(0), "ValueError: a mistake in callback"),
        ("kill in checkpoint", KILLED.replace("rank 1", "rank 0"), ""),
        ("usage", one(0), "failing.py: error: this is wrong"),
    ],
)
def test_rank_0_fails_where_it_is_alone(launch: Callable[..., Launched], way: str, line: str, reason: str) -> None:
    _, _, errors = launch(way, 0).failed()
    assert ours(errors) == [line], errors
    assert errors.count(reason) == 1 or not reason
    assert errors.count("Traceback") == (way == "raise in callback")


def test_a_callback_that_leaves_ends_all_ranks_well(launch: Callable[..., Launched]) -> None:
    code, output, errors = launch("exit 0 in callback", 0).ended()
    assert (code, output) == (0, "all 3 ranks finished\n")
    assert ours(errors) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_shared_memory_has_no_name(on_ranks: Callable[..., Any], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "for line in open('/proc/self/maps'):\n    if '/dev/shm/' in line:\n        print(*line.split()[5:])\n"
    )
    lines = on_ranks(2, script).stdout.splitlines()
    assert lines.pop() == "all 2 ranks finished"
    assert all(line.endswith("(deleted)") for line in lines), lines


def test_rank_0_alone_is_heard(launch: Callable[..., Launched]) -> None:
    code, output, errors = launch("none").ended()
    assert (code, output) == (0, "trained\nall 3 ranks finished\n")
    assert errors.count("UserWarning") == 1
    assert ours(errors) == []


def test_a_rank_that_does_not_come(launch: Callable[..., Launched]) -> None:
    _, _, errors = launch("sleep", 1, "--patience", "2").failed()
    awaited = "rank 1 to reach fit: the run ends (--patience SECONDS allows more)"
    assert ours(errors) == [f"rank 0 on {HOST} has waited 2 s for {awaited}"]


# --- before MPI has started -------------------------------------------------------------------------------------------

AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "{name}" and "--status" in sys.orig_argv and os.environ["PMI_RANK"] in "{on}":
            {do}

sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize(
    ("name", "on", "do", "rank", "message"),
    [
        ("mpi4py.MPI", "1", "os.kill(os.getpid(), signal.SIGKILL)", 1, KILLED),
        ("mpi4py.MPI", "0", "raise RuntimeError('cannot load MPI library')", 0, "mpi4py cannot start an MPI"),
        ("mpi4py", "2", "raise ImportError('no file')", 2, "mpi4py is missing (no file)"),
    ],
)
def test_a_rank_that_ends_before_mpi_has_started(
    launch: Callable[..., Launched], tmp_path: Path, name: str, on: str, do: str, rank: int, message: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT.format(name=name, on=on, do=do))
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = launch("none", env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})
    code, output, errors = run.ended(SOON)
    assert code != 0
    assert "trained" not in output
    assert len(ours(errors)) == 1
    assert f"rank {rank} o" in ours(errors)[0]
    assert errors.count(message) == 1


def test_the_script_is_missing_on_one_host(mpiexec_path: str, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "scratchlstm.mpi"]
    command = [mpiexec_path, "-n", "1", *launcher, str(SCRIPT), "none", "0", str(tmp_path)]
    run = Launched([*command, ":", "-n", "1", *launcher, str(tmp_path / "no.py")], tmp_path)
    code, _, errors = run.ended(SOON)
    assert code != 0
    assert ours(errors) == [f"rank 1 of 2 on {HOST}:"]
    assert f"there is no script '{tmp_path}/no.py' on {HOST}" in errors


def test_mpiexec_of_another_mpi(launch: Callable[..., Launched], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scratchlstm.mpi", str(SCRIPT), "none", "0", str(tmp_path)]
    code, _, errors = Launched(command, tmp_path, env=os.environ | {"OMPI_COMM_WORLD_SIZE": "4"}).ended(SOON)
    assert code != 0
    assert errors.count("4 processes were started, but mpi4py's MPI") == 1
    assert "sees 1: mpiexec belongs to another MPI. Use the matching one" in errors


# --- somebody sends a signal ------------------------------------------------------------------------------------------


def test_killed_in_a_collective(launch: Callable[..., Launched]) -> None:
    run = launch("wait in callback")
    run.read("failing")
    run.script().kill()
    assert ours(run.failed()[2]) == [KILLED]


def test_a_guardian_is_killed(launch: Callable[..., Launched]) -> None:
    run = launch("wait in callback")
    run.read("failing")
    run.script().parent().kill()
    run.failed()


def test_stopped(launch: Callable[..., Launched]) -> None:
    """The error is reported at once; then the rank has `patience` seconds to continue."""
    run = launch("stop in step", 1, "--patience", "3")
    _, _, errors = run.failed()
    first, *rest = ours(errors)
    assert first.startswith(f"rank 1 on {HOST} was stopped by SIGSTOP: kill -CONT {run.script().pid} resumes it")
    assert len(rest) == 1


def test_stopped_and_continued(launch: Callable[..., Launched]) -> None:
    run = launch("stop in step", 1, "--patience", "30")
    run.read("failing")
    while run.script().status() != psutil.STATUS_STOPPED:
        time.sleep(0.02)
    time.sleep(0.5)  # for the guardian to look
    run.script().resume()
    code, output, errors = run.ended()
    assert (code, output.splitlines()[-1]) == (0, "all 3 ranks finished")
    assert len(ours(errors)) == 1


def test_a_guardian_that_is_stopped_is_continued_at_the_end(launch: Callable[..., Launched]) -> None:
    run = launch("none")
    run.script().parent().suspend()
    assert run.ended()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("supervised", [False, True])
def test_mpiexec_or_the_launcher_before_it_gets_a_signal(
    launch: Callable[..., Launched], number: int, supervised: bool
) -> None:
    run = launch("wait in callback", 1, *["--restarts", "3"] * supervised, supervised=supervised)
    run.read("failing")
    run.process.send_signal(number)
    run.failed()


@pytest.mark.parametrize("supervised", [False, True])
def test_ctrl_c_at_a_terminal(launch: Callable[..., Launched], supervised: bool) -> None:
    terminal, end = pty.openpty()
    options = ["--restarts", "3"] * supervised
    of_process = {
        "stdin": end,
        "stderr": end,
        "start_new_session": False,
        "preexec_fn": functools.partial(control, end),
    }
    run = launch("wait in callback", 1, *options, supervised=supervised, **of_process)
    os.close(end)
    run.read("failing")
    os.write(terminal, b"\x03")
    run.failed()
    os.close(terminal)


def control(terminal: int) -> None:
    """Let this process, the first of a new session, have the terminal."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
