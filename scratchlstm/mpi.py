"""Run a script on all ranks of an MPI run: `mpiexec -n 4 python -m scratchlstm.mpi examples/imdb.py`.

    mpiexec -n 4 python -m scratchlstm.mpi [--patience SECONDS] SCRIPT ...
    python -m scratchlstm.mpi -n 4 [--restarts N] [--mpiexec "mpiexec -f HOSTS"] [--patience SECONDS] SCRIPT ...

Every rank runs the script as it is; `fit`, `evaluate` and `predict` share their work between the ranks
(docs/distributed.md). Beside the process with the script each rank has a second one, its guardian, which ends the rank
if the script's process is killed, leaves early, is stopped, or waits for the other ranks for too long; `mpiexec` then
ends the others.
"""

import argparse
import atexit
import ctypes
import faulthandler
import functools
import io
import mmap
import os
import re
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
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from pathlib import Path
from typing import NoReturn

import psutil

from scratchlstm._support import ranks
from scratchlstm._support.ranks import first
from scratchlstm.training import WorkerError
from scratchlstm.training.recruit import count_workers

__all__ = ["first"]

_PATIENCE = 300.0  # seconds
_TOLD = 10.0  # seconds of waiting after which rank 0 says for what
_GRACE = 5.0  # seconds that mpiexec may take to end after the ranks on its host
_LOOK = 0.1  # seconds between two looks of a guardian
_FORWARDED = 0.2  # seconds in which mpiexec passes on what was printed; what comes with the end itself may be lost
_USAGE = 2  # the exit status of a program that was called wrongly, as argparse gives it
_STATUS = "--status"


class Status:
    """What a rank tells its guardian, in memory that both share.

    Args:
        descriptor: of a file for it.
    """

    SIZE = 512
    _HEAD = struct.Struct("=d?i")  # waiting since; finished; rank

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, self.SIZE)

    def tell(self, since: float = 0.0, finished: bool = False) -> None:
        """Say since when this rank waits, 0 if it does not; and whether the script has ended on all ranks."""
        self.memory[: self._HEAD.size] = self._HEAD.pack(since, finished, ranks.rank)

    @contextmanager
    def waiting(self, awaited: str) -> Iterator[None]:
        """Say for what this rank waits, as long as it does."""
        text = awaited.encode()[: self.SIZE - self._HEAD.size - 1] + b"\0"
        self.memory[self._HEAD.size : self._HEAD.size + len(text)] = text
        self.tell(time.monotonic())
        yield
        self.tell()

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
    told = "start N ranks, without an mpiexec before the command"
    parser.add_argument("-n", type=functools.partial(_count, least=1), metavar="N", help=told)
    told = "how many times a run that failed starts again, from its Checkpoint; with -n (default 0)"
    parser.add_argument("--restarts", type=functools.partial(_count, least=0), default=0, metavar="N", help=told)
    told = "the command that starts ranks, with its options; with -n (default: mpiexec)"
    parser.add_argument("--mpiexec", type=shlex.split, metavar="COMMAND", help=told)
    parser.add_argument("-m", action="store_true", help="SCRIPT is the name of a module, as in python -m")
    parser.add_argument("--resume-since", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--mark", help=argparse.SUPPRESS)
    parser.add_argument(_STATUS, type=int, help=argparse.SUPPRESS)
    parser.add_argument("script", metavar="SCRIPT", help="a Python file, and what it is to be called with")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    with redirect_stderr(io.StringIO()) if ranks.named_rank() else nullcontext():  # rank 0 says what is wrong
        options = parser.parse_args(arguments)
        if options.n is None and (options.restarts or options.mpiexec):
            parser.error("--restarts and --mpiexec need -n: python -m scratchlstm.mpi -n N --restarts 1 SCRIPT")
    if options.status is not None:
        _run(options)
        return 0
    return _guard(arguments, options.patience) if options.n is None else _start(options, parser)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")


def _count(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _missing_script(options: argparse.Namespace) -> str:
    """That this host does not have the script; "" if it has."""
    if options.m or Path(options.script).is_file():
        return ""
    return f"there is no script {options.script!r} on {socket.gethostname()}, in {os.getcwd()}"


def _missing_mpi() -> str:
    """That this host does not have mpi4py, and what to do; "" if it has. MPI is not started."""
    try:
        import mpi4py  # noqa: F401
    except ImportError as error:
        return f'mpi4py is missing ({error}): pip install -e ".[mpi]", and an MPI such as pip install mpich'
    return ""


def _launcher() -> list[str]:
    """The command that has started this program, with Python's own options."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return [sys.executable, *flags, "-m", "scratchlstm.mpi"]


def _say(message: str) -> None:
    """A line on the standard error, which lines of other processes do not interrupt."""
    os.write(2, f"scratchlstm.mpi: {message}\n".encode(errors="backslashreplace"))


def _turn(rank: int) -> float:
    """Seconds that a rank waits before it says what others may say as well: the first to do so ends the run."""
    return 0.5 * min(rank, 8)


# --- with -n: the whole run -------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Start all ranks with mpiexec, and again if the run fails and there are restarts left."""
    beside = Path(sys.executable).with_name("mpiexec")
    command = options.mpiexec or [str(beside) if beside.exists() else "mpiexec"]
    if shutil.which(command[0]) is None:
        parser.error(f"{command[0]} is missing: pip install mpich brings one, or name yours with --mpiexec")
    if missing := _missing_script(options) or _missing_mpi() or _missing_permission(command):
        parser.error(missing)
    launcher = [*_launcher(), "--patience", str(options.patience)]
    if options.restarts:
        launcher += ["--resume-since", str(time.time())]
    script = [*["-m"] * options.m, options.script, *options.arguments]
    stopped = False

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        stopped = True
        process.send_signal(number)

    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "finished"
        launcher += ["--mark", str(mark)]
        for attempt in range(options.restarts + 1):
            ends_with_this = functools.partial(_end_with_parent, signal.SIGTERM)
            process = subprocess.Popen([*command, "-n", str(options.n), *launcher, *script], preexec_fn=ends_with_this)
            for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
                if signal.getsignal(number) != signal.SIG_IGN:  # as of nohup
                    signal.signal(number, stop)
            code = _wait(process)
            if mark.exists():  # all ranks had finished when it was killed
                code = 0
            if stopped or code in (0, _USAGE):
                break
            if options.restarts:
                left = attempt < options.restarts
                then = f"restart {attempt + 1} of {options.restarts}" if left else "no restart is left"
                _say(f"the run failed with exit status {code}: {then}")
    return 128 - code if code < 0 else code


def _missing_permission(mpiexec: Sequence[str]) -> str:
    """What Open MPI wants to be told by root; "" if it is another, or has been told."""
    if os.geteuid() or "--allow-run-as-root" in mpiexec or "OMPI_ALLOW_RUN_AS_ROOT" in os.environ:
        return ""
    version = subprocess.run([mpiexec[0], "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" not in version:
        return ""
    command = f"{shlex.join(mpiexec)} --allow-run-as-root --oversubscribe"
    return f"Open MPI does not start for root unless it is told to: add --mpiexec {command!r}"


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
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryFile() as file:
        file.truncate(Status.SIZE)
        ranks.rank = ranks.named_rank()
        status = Status(file.fileno())
        status.tell()
        command = [*_launcher(), _STATUS, str(file.fileno()), *arguments]
        os.set_inheritable(file.fileno(), True)
        ends_with_this = functools.partial(_end_with_parent, signal.SIGKILL)
        # with all descriptors, since one of them is this rank's line to mpiexec
        child = subprocess.Popen(command, close_fds=False, preexec_fn=ends_with_this)
        try:
            code = _watch(child.pid, status, patience)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.returncode = 0  # of which `_watch` has taken care
    if code and ranks.started() > 1:  # before MPI has started, an exit status would not make mpiexec end the others
        time.sleep(_FORWARDED)
        os.kill(os.getpid(), signal.SIGKILL)
    return code


def _watch(child: int, status: Status, patience: float) -> int:
    """Wait until the script's process has ended, or has to be; the exit status.

    Time is counted in looks: as long as this process is stopped as well, or the computer sleeps, none passes.
    """
    stopped, halted, waited, before = False, 0.0, 0.0, 0.0
    while True:
        changed, how = os.waitpid(child, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        since, finished, rank, awaited = status.read()
        me = f"rank {rank} on {socket.gethostname()}"
        if changed and os.WIFSTOPPED(how):
            stopped, halted = True, 0.0
            name = signal.Signals(os.WSTOPSIG(how)).name
            _say(f"{me} was stopped by {name}: kill -CONT {child} lets it go on; else the run ends in {patience:g} s")
        elif changed and os.WIFCONTINUED(how):
            stopped = False
        elif changed and os.WIFSIGNALED(how):
            killer = signal.Signals(os.WTERMSIG(how))
            reason = " (as the system does when memory runs out)" if killer == signal.SIGKILL else ""
            _say(f"{me} was killed by {killer.name}{reason}: the run ends")
            return 128 + killer
        elif changed:
            code = os.WEXITSTATUS(how)
            if finished or code:
                return code
            _say(f"{me} left with exit status 0 before the others were done, as os._exit(0) does: the run ends")
            return 1
        halted = halted + _LOOK if stopped else 0.0
        if halted > patience:
            _say(f"{me} was stopped for {patience:g} s: the run ends")
            return 1
        waited, before = waited + _LOOK if since and since == before and not stopped else 0.0, since
        if waited > patience + 0.5 + _turn(rank):  # after whoever is stopped
            _say(f"{me} has waited {patience:g} s for {awaited}: the run ends (--patience SECONDS allows more)")
            return 1
        if rank == 0 and waited <= _TOLD < waited + _LOOK:
            _say(f"{me} has waited {_TOLD:g} s for {awaited}. The run ends after {patience:g} s of this")
        time.sleep(_LOOK)


def _end_with_parent(how: signal.Signals) -> None:
    """Let the system send this process a signal when its parent ends (on Linux), even if it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, how)  # PR_SET_PDEATHSIG


# --- a rank: the script -----------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> None:
    """Run the script as this rank; the end of the process is then `_finish`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of which the guardian takes care
    faulthandler.enable(2)
    ranks.rank, ranks.status, ranks.resume_since = ranks.named_rank(), Status(options.status), options.resume_since
    try:
        _join()
        if missing := _missing_script(options):
            _fail(_mine(missing), _USAGE)
        # what is registered first is called last, after what the script registers
        atexit.register(_finish, options.mark)
        _execute(options)
    except BaseException as error:
        if ranks.communicator is None and ranks.status is None:  # in a process that the script has forked
            raise
        if code := _exit_status(error):
            _fail(_report(error), code)


def _join() -> None:
    """Take part in the MPI run, and let rank 0 alone be heard."""
    if missing := _missing_mpi():
        _fail(_mine(missing), _USAGE)
    with ranks.waiting("all ranks to start"):
        try:
            import mpi4py

            mpi4py.rc.finalize = False  # by `_finish`, and in no process that the script forks
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            _fail(_mine(f"mpi4py cannot start an MPI; pip install mpich brings one. {error}"), _USAGE)
        if MPI.COMM_WORLD.size < ranks.started():
            version, seen = MPI.Get_library_version().partition("\n")[0], MPI.COMM_WORLD.size
            problem = f"{ranks.started()} processes were started, but mpi4py's MPI ({version}) sees {seen}"
            _fail(_mine(f"{problem}: mpiexec is that of another MPI. Use the one that belongs to it"), _USAGE)
        communicator = MPI.COMM_WORLD.Dup()  # the script may send messages of its own
        ranks.join(communicator, communicator.Split_type(MPI.COMM_TYPE_SHARED), count_workers("auto"))
        communicator.Barrier()  # all ranks of this host have opened the memory that they share
        _take_names_off()
    if first():
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as on a terminal: it is a pipe
        return
    os.environ["MPLBACKEND"] = "Agg"  # no windows
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  # mpiexec hands it to rank 0
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end


def _take_names_off() -> None:
    """Let mpich's memory in /dev/shm end with the ranks of this host, however they end, by removing its name now."""
    with suppress(OSError):
        for path in set(re.findall(r"/dev/shm/mpich_shm_\w+$", Path("/proc/self/maps").read_text(), re.MULTILINE)):
            with suppress(FileNotFoundError):  # another rank was first
                os.unlink(path)


def _execute(options: argparse.Namespace) -> None:
    """Run the script as `python SCRIPT` or `python -m SCRIPT` would."""
    sys.argv = [options.script, *options.arguments]
    if options.m:
        runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        return
    path = os.path.abspath(options.script)
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = path
    exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), module.__dict__)


def _finish(mark: str | None) -> None:
    """Wait for the other ranks, say that all is done, and leave a mark of it for the launcher, if it has asked."""
    from scratchlstm.training.distributed import Ranks

    if ranks.communicator is None:  # in a process that the script has forked
        return
    status = ranks.status
    if not first():  # who waits for rank 0, which may have work of its own, for as long as it takes
        ranks.status = None
    try:
        Ranks(ranks.communicator).meet("the end of its script", {})
    except BaseException as error:
        _fail(_report(error), 1)
    status.tell(finished=True)
    if first():
        print(f"all {ranks.size} ranks finished" if ranks.size > 1 else "the only rank finished", flush=True)
        if mark:
            with suppress(OSError):  # on another host than that of the launcher
                Path(mark).touch()
    from mpi4py import MPI

    MPI.Finalize()
    os.kill(os.getppid(), signal.SIGCONT)  # mpiexec would wait for a guardian that somebody has stopped


def _fail(report: str, code: int) -> NoReturn:
    """End this process, and so the run; of several ranks with one error, the first alone reports it."""
    time.sleep(_turn(ranks.rank))
    with suppress(Exception):
        sys.stdout.flush()
    _say(report)
    time.sleep(_FORWARDED)
    with suppress(Exception):
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(code)
    os._exit(code)  # if there is no MPI


def _mine(report: str) -> str:
    """A report, and of whom."""
    return f"{ranks.me()}:\n{report}"


def _exit_status(error: BaseException) -> int:
    """With which a Python program ends that raises this."""
    if not isinstance(error, SystemExit):
        return 1
    return error.code if isinstance(error.code, int) else 0 if error.code is None else 1


def _report(error: BaseException) -> str:
    """The error as Python shows it, from the script's own lines on; if another rank had it, as that one showed it."""
    if isinstance(error.__cause__, WorkerError):
        return str(error.__cause__).rstrip()
    if isinstance(error, SystemExit):
        return _mine(f"it ended with exit status {error.code}" if isinstance(error.code, int) else str(error.code))
    inside = {__file__, runpy.__file__, "<frozen runpy>"}
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in inside:
        frames = frames.tb_next
    return _mine("".join(traceback.format_exception(error.with_traceback(frames))).rstrip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
