"""Choose who shares the work of `fit`, `evaluate` and `predict`, from their `workers` argument."""

import os
from typing import Any

import numpy as np

from scratchlstm._support import checks, ranks
from scratchlstm._support.console import warn
from scratchlstm.layers.rnn import all_compiled
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.crew import Crew


def crew(workers: Any, model: Compiled) -> Crew:
    """Choose who shares the work.

    Args:
        workers: number of processes on this machine; "auto" is one if all recurrent layers run compiled loops, which
            use threads, and otherwise one per physical core that this process may use; "mpi" is all ranks of the MPI
            run; None is these, if there is such a run, and otherwise one.
        model: the model to work on.

    Raises:
        ValueError: another value; or several processes for a model on a GPU.
        RuntimeError: "mpi" in a script not started by the launcher.
    """
    named = workers if isinstance(workers, str) else ""
    on_gpu = model.backend == "cupy"
    if workers is None or named == "mpi" or (named == "auto" and all_compiled(model.network)):
        count = 1
    else:
        count = count_workers(workers)
    if named == "mpi" and ranks.communicator is None:
        raise RuntimeError(
            'workers="mpi" needs ranks: start the script with `mpiexec -n 4 python -m scratchlstm.mpi SCRIPT` '
            "(docs/distributed.md)"
        )
    if ranks.together() and ranks.size > 1 and (count > 1 or workers is None or named):
        if not named and count not in (1, ranks.size):
            warn(f"workers={count} is not used: the {ranks.size} ranks of this MPI run share the work")
        from scratchlstm.training.distributed import Ranks  # imports mpi4py

        return Ranks(ranks.communicator)
    if on_gpu and count > 1 and not named:
        raise ValueError(f"workers={workers!r} share a batch between processes on the CPU; on a GPU, use workers=1")
    if (processes := ranks.started()) > 1:
        warn(
            f"{processes} processes were started together, but each works alone and writes the same files. "
            f"To share the work, put `-m scratchlstm.mpi` before the script (docs/distributed.md)"
        )
    return Crew(1 if on_gpu else count)


def count_workers(workers: Any) -> int:
    """The number of processes `workers` means; "auto" is one per physical core that this process may use.

    Raises:
        ValueError: neither "auto" nor a whole number above 0.
    """
    if isinstance(workers, str) and workers == "auto":
        import psutil

        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(psutil.cpu_count(logical=False) or 1, usable))
    if isinstance(workers, bool) or not isinstance(workers, int | np.integer) or workers < 1:
        raise ValueError(f'workers must be a whole number above 0, "auto" or "mpi", not {checks.came(workers)}')
    return int(workers)
