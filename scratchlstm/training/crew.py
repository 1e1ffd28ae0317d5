"""Who shares the work of `fit`, `evaluate` and `predict`, and who decides: nearly always this process, for itself."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks, ranks
from scratchlstm._support.console import warn
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data
from scratchlstm.training.steps import OneProcess


class Crew:
    """This process decides, and some processes of its machine share the work.

    `distributed.Ranks` has the same methods for the ranks of an MPI run, which have to go the same way together.

    Args:
        workers: how many processes, this one included.

    Attributes:
        first: whether callbacks run here, and files are written here.
    """

    first = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def require_same(self, call: str, model: Compiled, settings: Callable[[], Mapping[str, Any]]) -> None:
        """Stop if a rank does something else than the others; alone there is nothing to compare."""

    def ask_first(self, decide: Callable[[], Any]) -> Any:
        """What the first rank finds, on all of them."""
        return decide()

    def follow(
        self,
        model: Compiled,
        act: Callable[[], Any],
        give: Callable[[], Any] = lambda: None,
        take: Callable[[Any], Any] = lambda given: None,
        thorough: bool = True,
    ) -> None:
        """Let the first rank do something to the model, and the others have the same afterwards.

        Args:
            model: this rank's.
            act: what the first rank does.
            give: what the others are told besides.
            take: what the others do with it.
            thorough: whether more than parameters, learning rate, `trainable` and `stop_training` may have changed.
        """
        act()

    @contextmanager
    def team(
        self, model: Compiled, workers: int, data: Data | None, validation: Data | None, **options: Any
    ) -> Iterator[Any]:
        """What does the steps in several processes, see `parallel.team_or_alone`; None if this process does them."""
        if workers == 1:
            yield None
            return
        from scratchlstm.training.parallel import team_or_alone  # which imports multiprocessing

        arrays = (data.named() if data else {}) | (validation.named("validation_") if validation else {})
        with team_or_alone(model, workers, arrays, **options) as team:
            yield team

    @contextmanager
    def runner(
        self, model: Compiled, workers: int, data: Data | None, validation: Data | None, **options: Any
    ) -> Iterator[Any]:
        """What does the steps: a `team`, or this process, a `OneProcess`."""
        with self.team(model, workers, data, validation, **options) as runner:
            if runner is None:
                advice = "all samples are taken there before the first batch: pass them in several parts"
                with backend.explain_memory(advice):
                    runner = OneProcess(model, data, validation)
            yield runner


def crew(workers: Any, on_gpu: bool) -> Crew:
    """Who shares the work.

    Args:
        workers: how many processes of this machine; "auto" is one for each physical core that this process may use;
            "mpi" is all ranks of the MPI run; None is these, if there is such a run, and else one.
        on_gpu: whether the model is on a GPU.

    Raises:
        ValueError: something else; or several processes of one machine for a model on a GPU.
        RuntimeError: "mpi" in a script that the launcher has not started.
    """
    named = workers if isinstance(workers, str) else ""
    count = 1 if workers is None or named == "mpi" else count_workers(workers)
    if named == "mpi" and ranks.communicator is None:
        raise RuntimeError(
            'workers="mpi" needs ranks: start the script with `mpiexec -n 4 python -m scratchlstm.mpi SCRIPT` '
            "(docs/distributed.md)"
        )
    if ranks.together() and ranks.size > 1 and (count > 1 or workers is None or named):
        if not named and count not in (1, ranks.size):
            warn(f"workers={count} is not used: the {ranks.size} ranks of this MPI run share the work")
        from scratchlstm.training.distributed import Ranks  # which imports mpi4py

        return Ranks(ranks.communicator)
    if on_gpu and count > 1 and not named:
        raise ValueError(f"workers={workers!r} share a batch between processes on the CPU; on a GPU, workers=1")
    if (processes := ranks.without_launcher()) > 1:
        warn(
            f"{processes} processes were started side by side, but each of them works alone and writes the same files. "
            f"To share the work, put `-m scratchlstm.mpi` before the script (docs/distributed.md)"
        )
    return Crew(1 if on_gpu else count)


def count_workers(workers: Any) -> int:
    """How many processes `workers` means; "auto" is one for each physical core that this process may use.

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
