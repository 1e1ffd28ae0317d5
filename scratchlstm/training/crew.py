"""Who shares the work of `fit`, `evaluate` and `predict`, and who decides: nearly always this process, for itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scratchlstm import backend
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

    def require_same(self, call: str, model: Compiled, data: Mapping[str, Data | None], **options: Any) -> None:
        """Stop if a rank does something else than the others; alone there is nothing to compare.

        Args:
            call: the method that has been called.
            model, data, options: what decides its results.
        """

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
            thorough: whether the optimizer's arrays may have changed, too.
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
