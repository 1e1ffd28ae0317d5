"""Run a script on all ranks of an MPI run: `mpiexec -n 4 python -m scratchlstm.mpi examples/imdb.py`.

    mpiexec -n 4 python -m scratchlstm.mpi [--patience SECONDS] SCRIPT ...
    python -m scratchlstm.mpi -n 4 [--restarts N] [--mpiexec "mpiexec -f HOSTS"] [--patience SECONDS] SCRIPT ...

Every rank runs the script as it is; `fit`, `evaluate` and `predict` share their work between the ranks
(docs/distributed.md). Beside the process with the script each rank has a second one, its guardian, which ends the rank
if the script's process is killed, leaves early, is stopped, or waits for the other ranks for too long; `mpiexec` then
ends the others.
"""

import argparse
import ctypes
import mmap
import os
import runpy
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil

from scratchlstm._support import ranks
from scratchlstm._support.ranks import first
from scratchlstm.training import WorkerError

__all__ = ["first"]

_PATIENCE = 300.0  # seconds
_TOLD = 10.0  # seconds of waiting after which rank 0 says for what
_GRACE = 5.0  # seconds that mpiexec may take to end after the ranks on its host
_LOOK = 0.1  # seconds between two looks of a guardian
_USAGE = 2  # the exit status of a program that was called wrongly, as argparse gives it
_RANKS = "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"
_STATUS = "--status"


class Status:
    """What a rank tells its guardian, in memory that both share.

    Args:
        descriptor: of a file for it.
    """

    _HEAD = struct.Struct("=d?i")  # waiting since; finished; rank
    _SIZE = 512

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, self._SIZE)

    def _write(self, since: float = 0.0, finished: bool = False) -> None:
        self.memory[: self._HEAD.size] = self._HEAD.pack(since, finished, ranks.rank)

    @contextmanager
    def waiting(self, awaited: str) -> Iterator[None]:
        """Say for what this rank waits, as long as it does."""
        text = awaited.encode()[: self._SIZE - self._HEAD.size - 1] + b"\0"
        self.memory[self._HEAD.size : self._HEAD.size + len(text)] = text
        self._write(time.monotonic())
        yield
        self._write()

    def finish(self) -> None:
        """Say that the script has ended on all ranks."""
        self._write(finished=True)

    def read(self) -> tuple[float, bool, int, str]:
        """Since when this rank waits, or 0; whether it has finished; its number; for what it waits."""
        text = self.memory[self._HEAD.size :].partition(b"\0")[0].decode(errors="replace")
        since, finished, rank = self._HEAD.unpack(self.memory[: self._HEAD.size])
        return since, finished, rank, text


def main(arguments: Sequence[str]) -> int:
    """Start the ranks, guard one, or be one; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scratchlstm.mpi",
        usage="mpiexec -n N python -m scratchlstm.mpi [options] SCRIPT ...\n"
        "       python -m scratchlstm.mpi -n N [options] SCRIPT ...",
        description="Run a script on all ranks of an MPI run, which share the work of fit, evaluate and predict.",
    )
    told = "seconds that a rank waits for others before the run is ended (default 300)"
    parser.add_argument("--patience", type=_seconds, default=_PATIENCE, help=told)
    parser.add_argument("-n", type=_count, metavar="N", help="start N ranks, without an mpiexec before the command")
    told = "how many times a run that failed starts again, from its Checkpoint; with -n (default 0)"
    parser.add_argument("--restarts", type=_restarts, default=0, metavar="N", help=told)
    told = "the command that starts ranks, with its options; with -n (default: mpiexec)"
    parser.add_argument("--mpiexec", type=shlex.split, metavar="COMMAND", help=told)
    parser.add_argument("--resume-since", type=float, help=argparse.SUPPRESS)
    parser.add_argument(_STATUS, type=int, help=argparse.SUPPRESS)
    parser.add_argument("script", metavar="SCRIPT", help="a Python file, and what it is to be called with")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    options = parser.parse_args(arguments)
    if options.status is not None:
        _run(options)
    if not Path(options.script).is_file():
        parser.error(f"there is no script {options.script!r} on {socket.gethostname()}")
    if options.n is None and (options.restarts or options.mpiexec):
        parser.error("--restarts and --mpiexec need -n: python -m scratchlstm.mpi -n N --restarts 1 SCRIPT")
    try:
        import mpi4py  # noqa: F401  # without starting MPI
    except ImportError:
        parser.error('mpi4py is missing: pip install -e ".[mpi]", and an MPI such as pip install mpich')
    return _guard(arguments, options.patience) if options.n is None else _start(options, parser)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _restarts(text: str) -> int:
    return 0 if text == "0" else _count(text)


# --- with -n: the whole run -------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Start all ranks with mpiexec, and again if the run fails and there are restarts left."""
    beside = Path(sys.executable).with_name("mpiexec")
    command = options.mpiexec or [str(beside) if beside.exists() else "mpiexec"]
    if shutil.which(command[0]) is None:
        parser.error(f"{command[0]} is missing: pip install mpich brings one, or name yours with --mpiexec")
    began = time.time()
    for attempt in range(options.restarts + 1):
        more = ["--resume-since", str(began)] if attempt else []
        launcher = [sys.executable, "-m", "scratchlstm.mpi", "--patience", str(options.patience), *more]
        code = _wait(subprocess.Popen([*command, "-n", str(options.n), *launcher, options.script, *options.arguments]))
        if code in (0, 128 + signal.SIGINT):
            break
        if attempt < options.restarts:
            _say(f"the run failed with exit status {code}: restart {attempt + 1} of {options.restarts}")
    return code


def _wait(mpiexec: "subprocess.Popen[bytes]") -> int:
    """Wait until mpiexec has ended; its exit status.

    It is killed if it stays although all ranks on this host have ended: it waits for a host that it cannot reach, and
    would do so forever.
    """
    seen = 0.0  # when there last was a rank on this host; 0 if there never was
    while True:
        with suppress(subprocess.TimeoutExpired):
            return mpiexec.wait(timeout=1)
        below = psutil.Process(mpiexec.pid).children(recursive=True)
        if any(_is_rank(process) for process in below):
            seen = time.monotonic()
        elif seen and time.monotonic() - seen > _GRACE:
            _say(f"mpiexec has not ended {_GRACE:g} s after the ranks on this host: it is killed")
            for process in below:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            mpiexec.kill()


def _is_rank(process: psutil.Process) -> bool:
    """Whether this is a guardian, or what it guards."""
    with suppress(psutil.Error):
        return "scratchlstm.mpi" in process.cmdline()
    return False


# --- beside each rank: its guardian -----------------------------------------------------------------------------------


def _guard(arguments: Sequence[str], patience: float) -> int:
    """Start the script in a process of its own, and watch it; the exit status of the rank."""
    with tempfile.TemporaryFile() as file:
        file.truncate(Status._SIZE)
        status = Status(file.fileno())
        status._HEAD.pack_into(status.memory, 0, 0.0, False, _rank_from_environment())
        command = [sys.executable, "-m", "scratchlstm.mpi", _STATUS, str(file.fileno()), *arguments]
        os.set_inheritable(file.fileno(), True)
        # with all descriptors, since one of them is this rank's line to mpiexec
        child = subprocess.Popen(command, close_fds=False)
        try:
            return _watch(child.pid, status, patience)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _watch(child: int, status: Status, patience: float) -> int:
    """Wait until the script's process has ended, or has to be; the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stopped, told = 0.0, False
    while True:
        changed, how = os.waitpid(child, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        since, finished, rank, awaited = status.read()
        now, me = time.monotonic(), f"rank {rank} on {socket.gethostname()}"
        if changed and os.WIFSTOPPED(how):
            stopped = now
            name = signal.Signals(os.WSTOPSIG(how)).name
            _say(f"{me} was stopped by {name}: kill -CONT {child} lets it go on; else the run ends in {patience:g} s")
        elif changed and os.WIFCONTINUED(how):
            stopped = 0.0
        elif changed and os.WIFSIGNALED(how):
            _say(f"{me} was killed by {signal.Signals(os.WTERMSIG(how)).name}: the run ends")
            return 128 + os.WTERMSIG(how)
        elif changed:
            code = os.WEXITSTATUS(how)
            if finished or code:
                return code
            _say(f"{me} left with exit status 0 before the others were done: the run ends")
            return 1
        if stopped and now - stopped > patience:
            _say(f"{me} was stopped for {patience:g} s: the run ends")
            return 1
        if since and now - since > patience and not stopped:
            _say(f"{me} has waited {patience:g} s for {awaited}: the run ends (--patience SECONDS allows more)")
            return 1
        if since and now - since > _TOLD and rank == 0 and not told:
            told = True
            _say(f"{me} has waited {_TOLD:g} s for {awaited}. The run ends after {patience:g} s of this")
        time.sleep(_LOOK)


def _rank_from_environment() -> int:
    """The rank, as whoever has started this process names it."""
    return next((int(value) for name in _RANKS if (value := os.environ.get(name, "")).isdecimal()), 0)


def _say(message: str) -> None:
    """A line on the standard error, which lines of other processes do not interrupt."""
    os.write(2, f"scratchlstm.mpi: {message}\n".encode())


# --- a rank: the script -----------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> NoReturn:
    """Run the script as this rank, and end the process."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of which the guardian takes care
    ranks.status = status = Status(options.status)
    ranks.resume_since = options.resume_since
    ranks.rank = _rank_from_environment()  # of which the guardian speaks until MPI has started
    with status.waiting("all ranks to start"):
        from mpi4py import MPI

        communicator = MPI.COMM_WORLD.Dup()  # the script may send messages of its own
        of_host = communicator.Split_type(MPI.COMM_TYPE_SHARED)
        ranks.join(communicator, of_host.rank)
        of_host.Free()  # or mpich leaves its memory in /dev/shm
    status._write()
    _require_one_mpi(MPI)
    for name in ranks.COUNTS:  # programs that the script starts are no ranks
        os.environ.pop(name, None)
    if ranks.rank:
        os.environ["MPLBACKEND"] = "Agg"  # no windows
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
    sys.argv = [options.script, *options.arguments]
    sys.path[0] = str(Path(options.script).resolve().parent)
    try:
        runpy.run_path(options.script, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code:
            _fail("" if isinstance(end.code, int) else f"{end.code}", code)
    except BaseException as error:
        _fail(_traceback(error), 1)
    _finish()


def _finish() -> NoReturn:
    """Wait for the other ranks, say that all is done, and end the process."""
    from scratchlstm.training.distributed import Ranks

    status = ranks.status
    if not first():  # who waits for rank 0, which may have work of its own, for as long as it takes
        ranks.status = None
    try:
        Ranks(ranks.communicator).meet("the end of its script", {})
    except BaseException as error:
        _fail(_traceback(error), 1)
    status.finish()
    if first():
        print(f"all {ranks.size} ranks finished" if ranks.size > 1 else "the only rank finished", flush=True)
    sys.exit(0)


def _fail(report: str, code: int) -> NoReturn:
    """End this process, and so the run; of several ranks with one error, the first alone reports it."""
    if ranks.rank:
        time.sleep(0.5 + 0.3 * min(ranks.rank, 10))
        report = report or f"it ended with exit status {code}"
    if report:
        _say(report if report.startswith("rank ") else f"{_me()}:\n{report}")
    with suppress(Exception):
        sys.stdout.flush()
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(code)
    os._exit(code)  # should an MPI return


def _me() -> str:
    return f"rank {ranks.rank} of {ranks.size} on {socket.gethostname()}"


def _traceback(error: BaseException) -> str:
    """The error as Python shows it, from the script's own lines on; if another rank had it, as that one showed it."""
    if isinstance(error.__cause__, WorkerError):
        return str(error.__cause__).rstrip()
    inside = {__file__, runpy.__file__, "<frozen runpy>"}
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in inside:
        frames = frames.tb_next
    return "".join(traceback.format_exception(error.with_traceback(frames))).rstrip()


def _require_one_mpi(library: Any) -> None:
    """Stop if each process believes that it is the only one."""
    started = max((int(v) for name in ranks.COUNTS if (v := os.environ.get(name, "")).isdecimal()), default=1)
    if ranks.size < started:
        version = library.Get_library_version().splitlines()[0]
        _fail(
            f"{started} processes were started, but mpi4py's MPI ({version}) sees {ranks.size}: mpiexec is that of "
            f"another MPI. Use the one that belongs to it",
            _USAGE,
        )


def _end_with_parent() -> None:
    """Let the system kill this process when its guardian ends, even if it is stopped (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
