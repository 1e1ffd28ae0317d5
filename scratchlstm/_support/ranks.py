"""Which of the processes this is that an MPI run has started the user's script in; see `scratchlstm.mpi`.

Every rank runs the whole script. What is shown, and the files that are written, come from rank 0 alone.
"""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

rank, size = 0, 1
on_host = 0  # the rank among those of this machine
crowded = False  # whether this machine has more ranks than cores for them
threads = 1  # that a rank may use, so that each core of this machine has one
communicator: Any = None  # mpi4py's, in a script that the launcher runs
status: Any = None  # what the guardian of this process watches
resume_since: float | None = None  # in a run that may be restarted: when it began, in seconds since 1970
checkpoints: set[Path] = set()  # in such a run, those of the fits so far

_alone = False  # while a callback runs

# in which an `mpiexec` or `srun` tells a process how many there are, and which of them it is
_COUNTS = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMIX_SIZE"
_NUMBERS = "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"


def join(of_all: Any, of_host: Any, cores: int) -> None:
    """Take part in an MPI run: the communicators of all ranks and of those of this machine, and its cores."""
    global communicator, rank, size, on_host, crowded, threads
    communicator, rank, size, on_host = of_all, of_all.rank, of_all.size, of_host.rank
    crowded, threads = of_host.size > cores, max(1, cores // of_host.size)
    for name in _COUNTS:  # programs that the script starts are no ranks
        os.environ.pop(name, None)


def first() -> bool:
    """Whether this process shows results and writes files: rank 0, and every process that no MPI run has started."""
    return rank == 0


def together() -> bool:
    """Whether all ranks are here at once: not in a callback, which runs on rank 0 alone, nor in a thread of its own."""
    return communicator is not None and not _alone and threading.current_thread() is threading.main_thread()


@contextmanager
def alone() -> Iterator[None]:
    """Within, the other ranks do something else."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def waiting(awaited: str) -> AbstractContextManager[None]:
    """Within, this rank waits for others; for whom or what is said if it takes long."""
    return nullcontext() if status is None else status.waiting(awaited)


def started() -> int:
    """How many processes an `mpiexec` has started side by side, as it tells those that have not joined; else 1."""
    return max(_told(_COUNTS), default=1)


def named_rank() -> int:
    """Which of them this is, before MPI has started."""
    return next(iter(_told(_NUMBERS)), 0)


def me() -> str:
    """This rank, as reports name it."""
    return f"rank {rank} of {max(size, started())} on {socket.gethostname()}"


def _told(names: Sequence[str]) -> list[int]:
    return [int(value) for name in names if (value := os.environ.get(name, "")).isdecimal()]


def _leave() -> None:
    """Be no rank, in a process that one has forked."""
    global communicator, status
    communicator = status = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
