"""Who shares the work of `fit`, `evaluate` and `predict`, and who decides: usually this process alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scratchlstm import backend
from scratchlstm._support import ranks
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data
from scratchlstm.training.steps import OneProcess, StepOptions


class Crew:
    """This process makes all decisions, and some processes of its machine share the work.

    `distributed.Ranks` has the same methods for the ranks of an MPI run, which have to stay in step.

    Args:
        workers: number of processes, including this one.

    Attributes:
        first: whether this process runs callbacks and writes files.
    """

    first = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def require_same(self, call: str, model: Compiled, data: Mapping[str, Data | None], **options: Any) -> None:
        """Raise an error if the ranks do different things; a single process has nothing to compare.

        Args:
            call: the method that was called.
            model, data, options: what determines its results.
        """

    def ask_first(self, decide: Callable[[], Any]) -> Any:
        """The first rank's result, on all ranks."""
        return decide()

    def stops(self, model: Compiled) -> bool:
        """Whether training should stop after this batch or epoch."""
        return model.stop_training

    def require_alike(self, model: Compiled) -> None:
        """Raise an error if the ranks' models have diverged; a single process has nothing to compare."""

    def restarted_from(self, checkpoints: Sequence[Path]) -> Path | None:
        """The first of these files that this `fit` wrote before the launcher restarted the run; None if there is none.

        Raises:
            ValueError: an earlier fit of the script writes the same file, so it is not known which of the two wrote it.
        """
        if (began := ranks.resume_since) is None or not ranks.together():
            return None
        return self.ask_first(lambda: _written_since(began, [path.resolve() for path in checkpoints]))

    def follow(
        self,
        model: Compiled,
        act: Callable[[], Any],
        give: Callable[[], Any] = lambda: None,
        take: Callable[[Any], Any] = lambda given: None,
        thorough: bool = True,
    ) -> None:
        """Let the first rank do something to the model, and bring the others to the same state.

        Args:
            model: this rank's model.
            act: what the first rank does.
            give: returns anything else to send to the others.
            take: how the others use it.
            thorough: whether the optimizer's arrays may have changed as well.
        """
        act()

    @contextmanager
    def team(
        self,
        model: Compiled,
        workers: int,
        data: Data | None,
        validation: Data | None,
        step_options: StepOptions,
        **options: Any,
    ) -> Iterator[Any]:
        """The processes that share the steps, see `parallel.team_or_alone`; None if this process does them alone."""
        if workers == 1:
            yield None
            return
        from scratchlstm.training.parallel import team_or_alone  # which imports multiprocessing

        arrays = (data.named() if data else {}) | (validation.named("validation_") if validation else {})
        with team_or_alone(model, workers, arrays, step_options, **options) as team:
            yield team

    @contextmanager
    def runner(
        self,
        model: Compiled,
        workers: int,
        data: Data | None,
        validation: Data | None,
        step_options: StepOptions,
        **options: Any,
    ) -> Iterator[Any]:
        """A `team` to do the steps, or a `OneProcess` to do them in this process."""
        with self.team(model, workers, data, validation, step_options, **options) as runner:
            if runner is None:
                advice = "all samples are moved there before the first batch: pass them in several parts"
                with backend.explain_memory(advice):
                    runner = OneProcess(model, data, validation, step_options)
            yield runner


def _written_since(began: float, checkpoints: Sequence[Path]) -> Path | None:
    if repeated := ranks.checkpoints.intersection(checkpoints):
        raise ValueError(
            f"an earlier fit of this script also uses the checkpoint {str(repeated.pop())!r}: with --restarts, every "
            f"fit needs its own"
        )
    ranks.checkpoints.update(checkpoints)
    return next((path for path in checkpoints if path.is_file() and path.stat().st_mtime >= began), None)
