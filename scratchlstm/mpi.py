"""Run a script on all ranks of an MPI run: `mpiexec -n 4 python -m scratchlstm.mpi examples/imdb.py`.

    mpiexec -n 4 python -m scratchlstm.mpi [--patience SECONDS] SCRIPT ...
    python -m scratchlstm.mpi -n 4 [--restarts N] [--mpiexec "mpiexec -f HOSTS"] [--patience SECONDS] SCRIPT ...

Every rank runs the script unchanged; `fit`, `evaluate` and `predict` divide their work between the ranks
(docs/distributed.md). Next to the process with the script, each rank has a second one, its guardian, which ends the
rank if the script's process is killed, exits early, is stopped, or waits for other ranks for too long; `mpiexec` then
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
_TOLD = 10.0  # seconds of waiting before rank 0 says what for
_GRACE = 5.0  # seconds mpiexec may take to end after the ranks on its host
_LOOK = 0.1  # seconds between a guardian's checks
_FORWARDED = 0.2  # seconds for mpiexec to pass on output; what is printed just before the end may be lost
_USAGE = 2  # exit status for wrong usage, as in argparse
_STATUS = "--status"


class Status:
    """What a rank reports to its guardian, in memory shared by both.

    Args:
        descriptor: descriptor of the shared file.
    """

    SIZE = 512
    _HEAD = struct.Struct("=d?i")  # waiting since; finished; rank

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, self.SIZE)

    def tell(self, since: float = 0.0, finished: bool = False) -> None:
        """Report since when this rank has been waiting (0: not waiting), and whether all ranks' scripts have ended."""
        self.memory[: self._HEAD.size] = self._HEAD.pack(since, finished, ranks.rank)

    @contextmanager
    def waiting(self, awaited: str) -> Iterator[None]:
        """Report what this rank is waiting for, within this context."""
        text = awaited.encode()[: self.SIZE - self._HEAD.size - 1] + b"\0"
        self.memory[self._HEAD.size : self._HEAD.size + len(text)] = text
        self.tell(time.monotonic())
        yield
        self.tell()

    def read(self) -> tuple[float, bool, int, str]:
        """Since when this rank has been waiting, or 0; whether it has finished; its number; what it is waiting for."""
        text = self.memory[self._HEAD.size :].partition(b"\0")[0].decode(errors="replace")
        since, finished, rank = self._HEAD.unpack(self.memory[: self._HEAD.size])
        return since, finished, rank, text


def main(arguments: Sequence[str]) -> int:
    """Start the ranks, guard one, or be one; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scratchlstm.mpi",
        usage="mpiexec -n N python -m scratchlstm.mpi [options] SCRIPT ...\n"
        "       python -m scratchlstm.mpi -n N [options] SCRIPT ...",
        description="Run a script on all ranks of an MPI run, which share the work of fit, evaluate and predict.",
    )
    told = "seconds a rank waits for others before ending the run (default 300)"
    parser.add_argument("--patience", type=_seconds, default=_PATIENCE, help=told)
    told = "start N ranks, without mpiexec in front of the command"
    parser.add_argument("-n", type=functools.partial(_count, least=1), metavar="N", help=told)
    told = "how often to restart a failed run from its Checkpoint; with -n (default 0)"
    parser.add_argument("--restarts", type=functools.partial(_count, least=0), default=0, metavar="N", help=told)
    told = "the command that starts ranks, with its options; with -n (default: mpiexec)"
    parser.add_argument("--mpiexec", type=shlex.split, metavar="COMMAND", help=told)
    parser.add_argument("-m", action="store_true", help="SCRIPT is the name of a module, as in python -m")
    parser.add_argument("--resume-since", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--mark", help=argparse.SUPPRESS)
    parser.add_argument(_STATUS, type=int, help=argparse.SUPPRESS)
    parser.add_argument("script", metavar="SCRIPT", help="a Python file, followed by its arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    with redirect_stderr(io.StringIO()) if ranks.named_rank() else nullcontext():  # rank 0 reports errors
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
    """A message that this host does not have the script; "" if it does."""
    if options.m or Path(options.script).is_file():
        return ""
    return f"there is no script {options.script!r} on {socket.gethostname()}, in {os.getcwd()}"


def _missing_mpi() -> str:
    """A message that this host does not have mpi4py, and what to do; "" if it does. Does not start MPI."""
    try:
        import mpi4py  # noqa: F401
    except ImportError as error:
        return f'mpi4py is missing ({error}): pip install -e ".[mpi]", and an MPI such as pip install mpich'
    return ""


def _launcher() -> list[str]:
    """The command that started this program, with Python's own options."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return [sys.executable, *flags, "-m", "scratchlstm.mpi"]


def _say(message: str) -> None:
    """Print a line on standard error, uninterrupted by lines of other processes."""
    os.write(2, f"scratchlstm.mpi: {message}\n".encode(errors="backslashreplace"))


def _turn(rank: int) -> float:
    """Seconds a rank waits before reporting what others may report as well: the first to do so ends the run."""
    return 0.5 * min(rank, 8)


# --- with -n: the whole run -------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Start all ranks with mpiexec, and again if the run fails and there are restarts left."""
    beside = Path(sys.executable).with_name("mpiexec")
    command = options.mpiexec or [str(beside) if beside.exists() else "mpiexec"]
    if shutil.which(command[0]) is None:
        parser.error(f"{command[0]} is missing: pip install mpich installs one, or name yours with --mpiexec")
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
                if signal.getsignal(number) != signal.SIG_IGN:  # as with nohup
                    signal.signal(number, stop)
            code = _wait(process)
            if mark.exists():  # all ranks had finished when it was killed
                code = 0
            if stopped or code in (0, _USAGE):
                break
            if options.restarts:
                left = attempt < options.restarts
                then = f"restart {attempt + 1} of {options.restarts}" if left else "no restarts left"
                _say(f"the run failed with exit status {code}: {then}")
    return 128 - code if code < 0 else code


def _missing_permission(mpiexec: Sequence[str]) -> str:
    """The option Open MPI needs when run by root; "" if it is another MPI, or already has it."""
    if os.geteuid() or "--allow-run-as-root" in mpiexec or "OMPI_ALLOW_RUN_AS_ROOT" in os.environ:
        return ""
    version = subprocess.run([mpiexec[0], "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" not in version:
        return ""
    command = f"{shlex.join(mpiexec)} --allow-run-as-root --oversubscribe"
    return f"Open MPI refuses to run as root by default: add --mpiexec {command!r}"


def _wait(mpiexec: "subprocess.Popen[bytes]") -> int:
    """Wait until mpiexec has ended; returns its exit status.

    Kill it if it keeps running although all ranks on this host have ended: it is waiting for a host it cannot reach,
    and would do so forever.
    """
    seen = 0.0  # when a rank was last seen on this host; 0 if never
    while True:
        with suppress(subprocess.TimeoutExpired):
            return mpiexec.wait(timeout=1)
        below = psutil.Process(mpiexec.pid).children(recursive=True)
        if any(_is_rank(process) for process in below):
            seen = time.monotonic()
        elif seen and time.monotonic() - seen > _GRACE:
            _say(f"mpiexec has not ended {_GRACE:g} s after the ranks on this host: killing it")
            for process in below:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            mpiexec.kill()


def _is_rank(process: psutil.Process) -> bool:
    """Whether this is a guardian, or the process it guards."""
    with suppress(psutil.Error):
        return "scratchlstm.mpi" in process.cmdline()
    return False


# --- next to each rank: its guardian ----------------------------------------------------------------------------------


def _guard(arguments: Sequence[str], patience: float) -> int:
    """Start the script in a separate process, and watch it; returns the exit status of the rank."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryFile() as file:
        file.truncate(Status.SIZE)
        ranks.rank = ranks.named_rank()
        status = Status(file.fileno())
        status.tell()
        command = [*_launcher(), _STATUS, str(file.fileno()), *arguments]
        os.set_inheritable(file.fileno(), True)
        ends_with_this = functools.partial(_end_with_parent, signal.SIGKILL)
        # with all descriptors: one of them connects this rank to mpiexec
        child = subprocess.Popen(command, close_fds=False, preexec_fn=ends_with_this)
        try:
            code = _watch(child.pid, status, patience)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.returncode = 0  # `_watch` has handled it
    if code and ranks.started() > 1:  # before MPI has started, an exit status does not make mpiexec end the others
        time.sleep(_FORWARDED)
        os.kill(os.getpid(), signal.SIGKILL)
    return code


def _watch(child: int, status: Status, patience: float) -> int:
    """Wait until the script's process has ended, or must be ended; returns the exit status.

    Time is counted in checks, so none passes while this process is stopped, too, or the computer sleeps.
    """
    stopped, halted, waited, before = False, 0.0, 0.0, 0.0
    while True:
        changed, how = os.waitpid(child, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        since, finished, rank, awaited = status.read()
        me = f"rank {rank} on {socket.gethostname()}"
        if changed and os.WIFSTOPPED(how):
            stopped, halted = True, 0.0
            name = signal.Signals(os.WSTOPSIG(how)).name
            _say(f"{me} was stopped by {name}: kill -CONT {child} resumes it; otherwise the run ends in {patience:g} s")
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
            _say(f"{me} exited with status 0 before the others were done, as with os._exit(0): the run ends")
            return 1
        halted = halted + _LOOK if stopped else 0.0
        if halted > patience:
            _say(f"{me} was stopped for {patience:g} s: the run ends")
            return 1
        waited, before = waited + _LOOK if since and since == before and not stopped else 0.0, since
        if waited > patience + 0.5 + _turn(rank):  # after any stopped rank
            _say(f"{me} has waited {patience:g} s for {awaited}: the run ends (--patience SECONDS allows more)")
            return 1
        if rank == 0 and waited <= _TOLD < waited + _LOOK:
            _say(f"{me} has waited {_TOLD:g} s for {awaited}. The run ends after {patience:g} s of this")
        time.sleep(_LOOK)


def _end_with_parent(how: signal.Signals) -> None:
    """Ask the system to send this process a signal when its parent ends (on Linux), even if it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, how)  # PR_SET_PDEATHSIG


# --- a rank: the script -----------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> None:
    """Run the script as this rank; the process then ends in `_finish`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the guardian handles it
    faulthandler.enable(2)
    ranks.rank, ranks.status, ranks.resume_since = ranks.named_rank(), Status(options.status), options.resume_since
    try:
        _join()
        if missing := _missing_script(options):
            _fail(_mine(missing), _USAGE)
        # registered first means called last, after anything the script registers
        atexit.register(_finish, options.mark)
        _execute(options)
    except BaseException as error:
        if ranks.communicator is None and ranks.status is None:  # in a process forked by the script
            raise
        if code := _exit_status(error):
            _fail(_report(error), code)


def _join() -> None:
    """Join the MPI run, and let only rank 0 print."""
    if missing := _missing_mpi():
        _fail(_mine(missing), _USAGE)
    with ranks.waiting("all ranks to start"):
        try:
            import mpi4py

            mpi4py.rc.finalize = False  # done by `_finish`, and not in processes that the script forks
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            _fail(_mine(f"mpi4py cannot start an MPI; pip install mpich installs one. {error}"), _USAGE)
        if MPI.COMM_WORLD.size < ranks.started():
            version, seen = MPI.Get_library_version().partition("\n")[0], MPI.COMM_WORLD.size
            problem = f"{ranks.started()} processes were started, but mpi4py's MPI ({version}) sees {seen}"
            _fail(_mine(f"{problem}: mpiexec belongs to another MPI. Use the matching one"), _USAGE)
        communicator = MPI.COMM_WORLD.Dup()  # the script may send its own messages
        ranks.join(communicator, communicator.Split_type(MPI.COMM_TYPE_SHARED), count_workers("auto"))
        communicator.Barrier()  # wait until all ranks of this host have opened their shared memory
        _take_names_off()
    if first():
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as on a terminal: it is a pipe
        return
    os.environ["MPLBACKEND"] = "Agg"  # no windows
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  # mpiexec hands it to rank 0
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end


def _take_names_off() -> None:
    """Unlink mpich's memory in /dev/shm now, so that it is freed when the ranks of this host end, however they end."""
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
    """Wait for the other ranks, report that all are done, and leave a mark for the launcher if it asked for one."""
    from scratchlstm.training.distributed import Ranks

    if ranks.communicator is None:  # in a process forked by the script
        return
    status = ranks.status
    if not first():  # waits as long as needed for rank 0, which may have work of its own
        ranks.status = None
    try:
        Ranks(ranks.communicator).meet("the end of its script", {})
    except BaseException as error:
        _fail(_report(error), 1)
    status.tell(finished=True)
    if first():
        print(f"all {ranks.size} ranks finished" if ranks.size > 1 else "the only rank finished", flush=True)
        if mark:
            with suppress(OSError):  # not on the launcher's host
                Path(mark).touch()
    from mpi4py import MPI

    MPI.Finalize()
    os.kill(os.getppid(), signal.SIGCONT)  # mpiexec would wait for a stopped guardian


def _fail(report: str, code: int) -> NoReturn:
    """End this process, and so the run; if several ranks have the same error, only the first reports it."""
    time.sleep(_turn(ranks.rank))
    with suppress(Exception):
        sys.stdout.flush()
    _say(report)
    time.sleep(_FORWARDED)
    with suppress(Exception):
        from mpi4py import MPI

        MPI.COMM_WORLD.Abort(code)
    os._exit(code)  # without MPI


def _mine(report: str) -> str:
    """A report, with the rank it is from."""
    return f"{ranks.me()}:\n{report}"


def _exit_status(error: BaseException) -> int:
    """The exit status of a Python program that raises this."""
    if not isinstance(error, SystemExit):
        return 1
    return error.code if isinstance(error.code, int) else 0 if error.code is None else 1


def _report(error: BaseException) -> str:
    """The error as Python shows it, starting at the script's own lines; an error from another rank as shown there."""
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
