"""Which process of an MPI run this is; see `scratchlstm.mpi`.

Every rank runs the whole script. Output is shown, and files are written, only by rank 0.
"""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

rank, size = 0, 1
on_host = 0  # rank on this machine
crowded = False  # whether this machine has more ranks than cores for them
threads = 1  # threads a rank may use, so that each core of this machine has one
communicator: Any = None  # mpi4py's, in a script that the launcher runs
status: Any = None  # watched by the guardian of this process
resume_since: float | None = None  # for a restartable run: when it began, in seconds since 1970
checkpoints: set[Path] = set()  # in such a run, the checkpoints of the fits so far

_alone = False  # while a callback runs

# where `mpiexec` or `srun` tell a process their number, and its own
_COUNTS = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMIX_SIZE"
_NUMBERS = "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"


def join(of_all: Any, of_host: Any, cores: int) -> None:
    """Join an MPI run: takes the communicators of all ranks and of this machine's, and its cores."""
    global communicator, rank, size, on_host, crowded, threads
    communicator, rank, size, on_host = of_all, of_all.rank, of_all.size, of_host.rank
    crowded, threads = of_host.size > cores, max(1, cores // of_host.size)
    for name in _COUNTS:  # programs started by the script are not ranks
        os.environ.pop(name, None)


def first() -> bool:
    """Whether this process shows results and writes files: rank 0, and any process not started by MPI."""
    return rank == 0


def together() -> bool:
    """Whether all ranks are at the same point: not in a callback, which runs only on rank 0, nor in another thread."""
    return communicator is not None and not _alone and threading.current_thread() is threading.main_thread()


@contextmanager
def alone() -> Iterator[None]:
    """In this context, the other ranks do something else."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def waiting(awaited: str) -> AbstractContextManager[None]:
    """In this context, this rank waits for others; reports what for if it takes long."""
    return nullcontext() if status is None else status.waiting(awaited)


def started() -> int:
    """The number of processes an `mpiexec` started, as told to those that have not joined; otherwise 1."""
    return max(_told(_COUNTS), default=1)


def named_rank() -> int:
    """The rank of this process, before MPI has started."""
    return next(iter(_told(_NUMBERS)), 0)


def me() -> str:
    """This rank, as named in reports."""
    return f"rank {rank} of {max(size, started())} on {socket.gethostname()}"


def _told(names: Sequence[str]) -> list[int]:
    return [int(value) for name in names if (value := os.environ.get(name, "")).isdecimal()]


def _leave() -> None:
    """Stop being a rank, in a process forked by one."""
    global communicator, status
    communicator = status = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
