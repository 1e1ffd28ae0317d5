"""Training steps: a batch forward, its loss, backward pass, update; and the sums over an epoch."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import backend, optimizers
from scratchlstm._support.threads import one_blas_thread
from scratchlstm.callbacks.base import Logs
from scratchlstm.rows import Gradient, as_array
from scratchlstm.training.adversarial import AdversarialTraining, Embedded, adding
from scratchlstm.training.by_length import taken
from scratchlstm.training.compiled import Compiled, Judged, Totals
from scratchlstm.training.data import Data, each_of
from scratchlstm.training.targets import LossMean

# batches for inference are larger than for training: nothing is kept, and results do not depend on the size
INFERENCE_BATCH = 512

_ADVICE = "a smaller learning_rate or clipnorm=1.0 in the optimizer usually helps"


class WorkerError(RuntimeError):
    """A worker process died. (If it merely raises an error, that error is passed on instead.)"""


def uploaded(data: Data | None) -> Data | None:
    """Data, if any, moved to the GPU, except integers in x (ids)."""
    if data is None:
        return None
    there = functools.partial(backend.to, "cupy")
    x = each_of(lambda x: x if x.dtype.kind in "iu" else there(x), data.x)
    return Data(x, each_of(there, data.y), each_of(there, data.weight))


def no_totals(model: Compiled, loss: float = 0.0) -> Totals:
    """The metrics' sums over no samples; those of the outputs' losses are over one sample with this loss, unless 0."""
    return [loss * np.ones(2) if isinstance(metric, LossMean) else 0 for metric in model.measured.values()]


class Meter:
    """The running loss (mean over samples) and metrics of one pass over the data."""

    def __init__(self, model: Compiled) -> None:
        # separate ones, because a callback may evaluate the model during the pass
        self.metrics = {name: copy.copy(metric) for name, metric in model.measured.items()}
        self.loss_sum, self.count = 0.0, 0
        self.unread: list[tuple[Any, int, Totals]] = []  # still on the GPU
        for metric in self.metrics.values():
            metric.reset()

    def add(self, loss: Any, count: int, totals: Totals) -> None:
        """Add the mean loss and the metrics of `count` samples, without waiting for the GPU."""
        self.count += count
        if backend.is_cupy(loss):
            self.unread.append((loss, count, totals))
        else:
            self._add(loss, count, totals)

    def _add(self, loss: float, count: int, totals: Totals) -> None:
        self.loss_sum += loss * count
        for metric, total in zip(self.metrics.values(), totals, strict=True):
            metric.add(total)

    def read(self) -> None:
        """Fetch everything still on the GPU, all at once."""
        if self.unread:
            losses, counts, totals = zip(*self.unread, strict=True)
            columns = [_read(of_metric) for of_metric in zip(*totals, strict=True)]
            for loss, count, *of_batch in zip(_read(losses), counts, *columns, strict=True):
                self._add(float(loss), count, of_batch)
            self.unread = []

    def logs(self, prefix: str = "") -> Logs:
        """Name -> current value, in alphabetical order."""
        self.read()
        values: Logs = {name: metric.result() for name, metric in self.metrics.items()}
        values["loss"] = self.loss_sum / self.count
        return {prefix + name: values[name] for name in sorted(values)}

    def sums(self) -> list[Any]:
        """The sums so far, for `restore`."""
        self.read()
        return [self.loss_sum, self.count, [metric.sums for metric in self.metrics.values()]]

    def restore(self, sums: list[Any]) -> None:
        """Continue from these sums."""
        self.loss_sum, self.count, totals = sums
        for metric, total in zip(self.metrics.values(), totals, strict=True):
            metric.sums = total


def _read(arrays: Sequence[Any]) -> Any:
    """Arrays of one shape fetched from the GPU at once, in a single NumPy array; NumPy arrays stay as they are."""
    return backend.host(np.stack(arrays)) if backend.is_cupy(arrays[0]) else arrays


class StepOptions(NamedTuple):
    """How to do the steps, in each process that shares them."""

    adversarial: AdversarialTraining | None = None
    trims: bool = False  # whether to cut padding shared by all rows of a batch, see `by_length`


PLAIN = StepOptions()


class Learned(NamedTuple):
    """What a step computes for the update."""

    loss: Any
    grads: list[Gradient | None]
    totals: Totals


class Step:
    """A step on a batch, or some rows of one, up to the update. It runs forward at once; `learn` does the rest.

    Args:
        model: compiled and built.
        batch: the rows.
        options: see `StepOptions`.
        rows: (first, total) if other processes have the rest of the batch, see `Pass`.
        number: number of steps the optimizer has done.
        checked: whether to check that loss and gradients are finite, which on a GPU means waiting for them.

    Attributes:
        y_pred, cache: from the forward pass.
    """

    def __init__(
        self,
        model: Compiled,
        batch: Data,
        options: StepOptions = PLAIN,
        rows: tuple[int, int] | None = None,
        number: int = 0,
        checked: bool = True,
    ) -> None:
        self.model, self.batch, self.checked = model, batch, checked
        adversarial = options.adversarial
        self.adversarial = adversarial if adversarial and number >= adversarial.first_step else None
        self.embedded = Embedded()
        listeners = {"embed": self.embedded.embed, "seen": self.embedded.seen} if self.adversarial else {}
        self.run = model.run(rows, **listeners)
        self.y_pred, self.cache = model.network.forward(batch.x, self.run)

    def learn(self, samples: int, share: float = 1.0, scales: Sequence[float] | None = None) -> Learned:
        """The loss, its gradients, and the metrics; the pass is released.

        Args:
            samples: number of samples in the whole batch.
            share: these rows' fraction of the batch.
            scales: further factor of each output's loss.

        Raises:
            FloatingPointError: checked, and the loss or a gradient is NaN or infinite.
        """
        model, batch = self.model, self.batch
        with self.run:
            if self.adversarial is None:
                judged, grads = self._back(self.y_pred, self.cache, share, scales)
            else:
                judged, grads = self._back_twice(self.adversarial, share, scales)
        totals = model.measure(batch.y, self.y_pred, self.cache.kept, judged.losses, samples)
        return Learned(judged.loss, grads, totals)

    def _back(
        self, y_pred: Any, cache: Any, share: float, scales: Sequence[float] | None, need: bool = False
    ) -> tuple[Judged, list[Gradient | None]]:
        """The loss of one pass and its gradients; `need` is whether to compute them for frozen embeddings, too."""
        model = self.model
        judged = model.judge(self.batch.y, y_pred, cache.kept, self.batch.weight, share, scales)
        if self.checked:
            require_finite(judged.loss)
        grads = model.gradients(judged.dy, cache, judged.from_logits, share, need)
        if self.checked:
            require_finite_gradients(model, grads)
        return judged, grads

    def _back_twice(
        self, adversarial: AdversarialTraining, share: float, scales: Sequence[float] | None
    ) -> tuple[Judged, list[Gradient | None]]:
        """Backpropagate the first pass, then a second one through perturbed embeddings; see `AdversarialTraining`."""
        clean, grads = self._back(self.y_pred, self.cache, share * (1 - adversarial.weight), scales, need=True)
        again = self.run.again(embed=adding(self.embedded.perturbations(adversarial.epsilon, self.batch.samples)))
        self.y_pred = each_of(lambda y: y.copy(), self.y_pred)  # the second pass may overwrite it
        self.run.release()
        with again:
            y_pred, cache = self.model.network.forward(self.batch.x, again)
            worst, more = self._back(y_pred, cache, share * adversarial.weight, scales)
        losses = _sums(clean.losses, worst.losses)
        return worst._replace(loss=clean.loss + worst.loss, losses=losses), _sums(grads, more)


def _sums(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Sums of the results of two passes; None stays None."""
    return [a if b is None else a + b for a, b in zip(first, second, strict=True)]


class OneProcess:
    """Does the steps of `fit` in this process, on either backend; `parallel.Team` does them in several processes.

    On a GPU no step waits for it: data is moved there once (ids stay, see `Embedding`), losses and metrics stay there,
    and so does the record of whether one of them was NaN or infinite.

    Args:
        model: compiled and built.
        data: the `Data` to train on, or None.
        validation: the `Data` to validate on, or None.
        options: see `StepOptions`.

    Attributes:
        data: the training data as used.
        broken: on a GPU, the number of the first step whose loss or gradient was NaN or infinite; no update is applied
            from there on. 0 if there is none.
    """

    def __init__(self, model: Compiled, data: Any, validation: Any, options: StepOptions = PLAIN) -> None:
        self.model, self.data, self.validation, self.options = model, data, validation, options
        self.broken: Any = None
        if model.backend == "cupy":
            self.data, self.validation = uploaded(data), uploaded(validation)
            self.broken = backend.cupy().zeros(1, dtype=np.int32)

    def begin_epoch(self, order: np.ndarray) -> None:
        """Set the order of samples."""
        self.order = order
        self.order_there = backend.to(self.model.backend, order)

    def step(self, start: int, stop: int) -> tuple[Any, Totals]:
        """`step_on` the samples `order[start:stop]`."""
        rows, there = self.order[start:stop], self.order_there[start:stop]
        return self.step_on(taken(self.data, rows, self.options.trims, there))

    @one_blas_thread(sharing=True)
    def step_on(self, batch: Data) -> tuple[Any, Totals]:
        """Forward, loss, backward, update; returns the loss before the update, and the metrics.

        Raises:
            FloatingPointError: the loss or a gradient is NaN or infinite; nothing was updated. (On a GPU
                `require_finite` raises it.)
        """
        model, number = self.model, self.model.optimizer.iterations
        step = Step(model, batch, self.options, number=number, checked=self.broken is None)
        loss, grads, totals = step.learn(batch.samples)
        model.optimizer.apply(model.params, grads, self.broken, loss)
        model.constrain(self.broken)
        return loss, totals

    def require_finite(self) -> None:
        """Wait for the GPU, and raise an error if a loss or a gradient was NaN or infinite.

        Raises:
            FloatingPointError: one was; the parameters and the optimizer's step count are those before that batch.
        """
        if self.broken is not None and (first := int(self.broken[0])):
            self.model.optimizer.iterations = first - 1
            raise _broken("the loss or a gradient became NaN or infinite")

    def evaluate(self, spans: Sequence[tuple[int, int]], done: Callable[[], None]) -> list[tuple[float, Totals]]:
        """The mean loss and the metrics of each span of the validation samples.

        Args:
            spans: (start, stop) pairs.
            done: called after each.
        """
        results = []
        for start, stop in spans:
            results.append(evaluate_batch(self.model, taken(self.validation, slice(start, stop), self.options.trims)))
            done()
        return results


def outputs(
    model: Compiled, data: Data, options: StepOptions, spans: Sequence[tuple[int, int]], done: Callable[[], None]
) -> list[np.ndarray]:
    """The outputs for x, one after another, span by span; `done` is called after each."""
    found = []
    for start, stop in spans:
        with one_blas_thread(sharing=True):
            ys = model.by_output(model.network.infer(taken(data, slice(start, stop), options.trims).x))
            found.append([backend.host(as_array(y)) for y in ys])
        done()
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _broken(what: str, advice: str = _ADVICE) -> FloatingPointError:
    return FloatingPointError(f"{what}. The parameters are those before this batch; {advice}")


def require_finite(loss: float) -> None:
    """Raise an error if the loss is NaN or infinite.

    Raises:
        FloatingPointError: it is.
    """
    if not np.isfinite(loss):
        raise _broken(f"the loss became {loss}")


def require_finite_gradients(model: Compiled, grads: Sequence[Gradient | None]) -> None:
    """Raise an error if a gradient is NaN or infinite, which is possible with a finite loss.

    Raises:
        FloatingPointError: it has.
    """
    for name, gradient in zip(model.network.params, grads, strict=True):
        if not optimizers.is_finite(gradient):
            advice = "smaller inputs or a smaller learning_rate usually help"
            raise _broken(f"the gradient of {name} became infinite or NaN", advice)


@one_blas_thread(sharing=True)
def evaluate_batch(model: Compiled, batch: Data) -> tuple[Any, Totals]:
    """The mean loss and the metrics, without dropout or updates."""
    y_pred, kept = model.infer(batch.x)
    judged = model.judge(batch.y, y_pred, kept, batch.weight)
    return judged.loss, model.measure(batch.y, y_pred, kept, judged.losses, batch.samples)
