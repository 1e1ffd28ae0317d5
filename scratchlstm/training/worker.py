"""One worker's share of a training step, and the step as a whole.

    each worker    forward and backward pass on its rows of the batch; publishes the gradients through the exchange
                   (if a mask can reach a loss, all first tell each other how many of their steps are valid, to divide
                   by the total)
    --- all wait for each other ---
    each worker    gets the sum of all workers' gradients from the exchange, in their order; updates

The workers are processes on one machine that share memory (`parallel`), or the ranks of an MPI run (`distributed`).
Both use the code here, each with its own exchange.
"""

import math
import pickle
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from scratchlstm import backend
from scratchlstm.layers import Embedding
from scratchlstm.optimizers import norm
from scratchlstm.rows import Gradient, RowGradient, as_array, total
from scratchlstm.training import steps
from scratchlstm.training.by_length import taken
from scratchlstm.training.compiled import Compiled, Totals
from scratchlstm.training.data import Data

Gradients = dict[int, Gradient | None]  # gradients of trained parameters, by the parameter's number


class Exchange(Protocol):
    """How the workers get each other's gradients."""

    def publish(self, grads: Gradients) -> None:
        """Publish this worker's gradients; None is zero."""

    def merge(self) -> dict[int, Gradient]:
        """The sum of all workers' published gradients, in their order, for the rows this worker updates."""

    def updates(self, rows: int) -> tuple[int, int]:
        """The rows this worker updates of a parameter with so many rows: from, to."""


def share(count: int, rank: int, workers: int) -> tuple[int, int]:
    """One worker's share of `count` items: from, to. Empty for a rank beyond the workers."""
    return (count * rank // workers, count * (rank + 1) // workers) if rank < workers else (0, 0)


def block(g: Gradient, first: int, last: int) -> Gradient:
    """The given rows of a gradient."""
    if isinstance(g, RowGradient):
        return RowGradient(*g.block(first, last), (last - first, g.shape[1]))
    return np.atleast_1d(g)[first:last]


def summed(parts: Sequence[Gradient]) -> Gradient:
    """The sum in this order; the last digits depend on the order."""
    return total(parts) if isinstance(parts[0], RowGradient) else sum(parts[1:], parts[0])


def row_sparse(model: Compiled) -> dict[int, int]:
    """The parameters with a row-sparse gradient (`RowGradient`), by number, and how often each is used."""
    inside = model.network.with_inner()
    embeddings = [layer for layer in inside if isinstance(layer, Embedding) and not layer.regularizers]
    tables = {id(layer.params["embeddings"]): model.network.uses(layer) for layer in embeddings}
    return {number: tables[id(param)] for number, param in enumerate(model.params) if id(param) in tables}


def unsplittable(model: Compiled) -> str:
    """Why a batch of this model cannot be split by rows, wherever it is trained; "" if it can."""
    if stateful := [layer.name for layer in model.layers if layer.stateful]:
        return f"{', '.join(stateful)} is stateful, and its states belong to the rows of a whole batch"
    return ""


class Worker:
    """One process's share of the work.

    Args:
        rank: the number of this worker, from 0; a rank beyond the workers has no rows.
        workers: number of workers.
        model: this process's model.
        exchange: exchange of the gradients.
        options: see `StepOptions`.
        data, validation: training and validation data; None if there is none.

    Attributes:
        order: order of the samples in this epoch.
    """

    order: np.ndarray

    def __init__(
        self,
        rank: int,
        workers: int,
        model: Compiled,
        exchange: Exchange,
        options: steps.StepOptions,
        data: Data | None = None,
        validation: Data | None = None,
    ) -> None:
        self.rank, self.workers, self.model, self.exchange = rank, workers, model, exchange
        self.options = options
        self.data: Any = data
        self.validation: Any = validation
        self.params = model.params

    def compute(self, *batch: Any) -> tuple[float, Totals]:
        """`forward`, then `backward`, if no mask can reach a loss."""
        self.forward(*batch)
        return self.backward()

    def forward(self, start: int, stop: int, trainability: Sequence[bool], number: int) -> list[int]:
        """Run forward on this worker's rows of the batch `order[start:stop]`.

        Args:
            start, stop: the batch.
            trainability: that of the calling process's model, see `Compiled`.
            number: number of steps its optimizer has done.

        Returns:
            for each output, the number of unmasked loss values in these rows.
        """
        self.model.trainability = trainability
        first, last = share(stop - start, self.rank, self.workers)
        rows = self.order[start + first : start + max(last, first + 1)]
        there = backend.to(self.model.backend, rows)
        batch = taken(self.data, rows, self.options.trims, there, self.order[start:stop])
        step = steps.Step(self.model, batch, self.options, (first, stop - start), number)
        masked = zip(self.model.by_output(step.y_pred), step.cache.kept.masks, strict=True)
        # fewer rows than workers: that was another worker's row, only to draw the masks
        self.counts = [0 if first == last else _count(y, mask) for y, mask in masked]
        self.opened = step, last - first, stop - start
        return self.counts

    def backward(self, counts: Sequence[int] | None = None) -> tuple[float, Totals]:
        """Compute loss and backward pass, after `forward`.

        Args:
            counts: for each output, the number of unmasked loss values in the whole batch. Default: these rows have
                their share of them.

        Returns:
            this worker's share of the batch's loss and of everything measured.
        """
        step, rows, samples = self.opened
        del self.opened
        if rows == 0:
            step.run.release()
            self._publish([None] * len(self.params))
            return 0.0, steps.no_totals(self.model)
        part, scales = rows / samples, None
        if counts is not None:
            scales = [own / max(count, 1) / part for own, count in zip(self.counts, counts, strict=True)]
        loss, grads, totals = step.learn(samples, part, scales)
        self._publish(grads)
        return _here(loss), [_here(of_metric) for of_metric in totals]

    def _publish(self, grads: Sequence[Gradient | None]) -> None:
        trained = self.model.network.trainable_params
        numbers = [number for number, name in enumerate(self.model.network.params) if name in trained]
        self.exchange.publish({number: grads[number] for number in numbers})

    def merge(self) -> list[float]:
        """Sum all workers' gradients; returns the norms of the rows that this worker updates."""
        self.merged = self.exchange.merge()
        return [self._norm(number, w) for number, w in enumerate(self.params)]

    def _norm(self, number: int, w: np.ndarray) -> float:
        if number not in self.merged:
            return 0.0
        rows = len(np.atleast_1d(w))
        begin, _ = self.exchange.updates(rows)
        first, last = share(rows, self.rank, self.workers)
        return norm(block(self.merged[number], first - begin, last - begin))

    def update(self, iterations: int, learning_rate: float, factors: list[float] | None) -> None:
        """Update this worker's rows.

        Args:
            iterations: the step count of the calling process's optimizer, which a callback may have changed.
            learning_rate: likewise.
            factors: clipping factors, after `merge`.
        """
        optimizer = self.model.optimizer
        optimizer.iterations = iterations + 1
        if factors is None:
            self.merged = self.exchange.merge()
        for number, g in self.merged.items():
            w = np.atleast_1d(self.params[number])
            first, last = self.exchange.updates(len(w))
            part = {name: np.atleast_1d(array)[first:last] for name, array in optimizer.state[number].items()}
            optimizer.step(w[first:last], g, part, learning_rate, 1.0 if factors is None else factors[number])

    def evaluate(self, start: int, stop: int) -> tuple[float, Totals]:
        """The mean loss of these validation samples, and the metrics."""
        batch = taken(self.validation, slice(start, stop), self.options.trims)
        loss, totals = steps.evaluate_batch(self.model, batch)
        return _here(loss), [_here(of_metric) for of_metric in totals]

    def predict(self, start: int, stop: int) -> Any:
        """The outputs for these samples, one after another."""
        x = taken(self.data, slice(start, stop), self.options.trims).x
        ys = self.model.by_output(self.model.network.infer(x))
        return [backend.host(as_array(y)) for y in ys]


class Workers:
    """All workers, as the training loop uses them; `_all` and `_update` reach them.

    Attributes:
        model: the calling process's model.
    """

    model: Compiled

    def _all(self, command: str, *arguments: Any) -> list[Any]:
        """Let every worker run a command; returns their results, in order."""
        raise NotImplementedError

    def _update(self, iterations: int, learning_rate: float, factors: list[float] | None) -> None:
        """Let every worker update its rows."""
        raise NotImplementedError

    def step(self, start: int, stop: int) -> tuple[float, Totals]:
        """Train on the batch `order[start:stop]`; like `OneProcess.step`."""
        model = self.model
        batch = start, stop, model.trainability, model.optimizer.iterations
        if model.masks_loss:  # a mean over the valid steps of the whole batch
            counts = [sum(of_output) for of_output in zip(*self._all("forward", *batch), strict=True)]
            parts = self._all("backward", counts)
        else:
            parts = self._all("compute", *batch)
        losses, totals = zip(*parts, strict=True)
        loss = sum(losses)
        steps.require_finite(loss)
        optimizer = model.optimizer
        factors = None
        if optimizer.clips_norms:
            factors = optimizer.clip_factors([math.hypot(*parts) for parts in zip(*self._all("merge"), strict=True)])
        self._update(optimizer.iterations, optimizer.learning_rate, factors)
        model.constrain()  # the whole parameter: a norm covers rows of all workers
        return loss, [sum(of_one) for of_one in zip(*totals, strict=True)]


def portable(error: BaseException) -> BaseException:
    """The error itself, or its text if it cannot be sent to another process."""
    return error if is_portable(error) else RuntimeError(f"{type(error).__name__}: {error}")


def is_portable(value: Any) -> bool:
    """Whether this can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(value))
        return True
    except Exception:
        return False


def _here(value: Any) -> Any:
    """A result from a GPU, on the CPU."""
    return backend.host(value) if backend.is_cupy(value) else value


def _count(y: np.ndarray, mask: np.ndarray | None) -> int:
    """The number of unmasked loss values for predictions with this mask."""
    count = math.prod(y.shape[:-1]) if mask is None else np.count_nonzero(mask) * math.prod(y.shape[mask.ndim : -1])
    return int(count)
