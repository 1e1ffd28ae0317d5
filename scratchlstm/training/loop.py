"""The fit loop: epochs of shuffled batches, each forward, loss, backward, update."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm import backend, optimizers
from scratchlstm._support.checks import flag, instance, positive_int, verbosity, whole_number
from scratchlstm._support.console import say
from scratchlstm._support.files import file_path
from scratchlstm._support.threads import one_blas_thread, settle
from scratchlstm.callbacks import Callback, History, TerminateOnNaN
from scratchlstm.callbacks import base as callback_base
from scratchlstm.callbacks.base import Logs
from scratchlstm.rows import as_array
from scratchlstm.training import archive
from scratchlstm.training.data import Data, check_data, split_validation, weigh_classes
from scratchlstm.training.progress import Progress
from scratchlstm.training.run import Run, fingerprint

if TYPE_CHECKING:
    from scratchlstm.models.model import Model
    from scratchlstm.training.parallel import Team

# batches of inference are larger than those of training: nothing is kept, and no result depends on their size
INFERENCE_BATCH = 512


class WorkerError(RuntimeError):
    """A worker process died. (One that raises an error passes that error on instead.)"""


Totals = list[Any]  # each metric's sums over some samples (an array; 0, which adds to any, over none)


def _uploaded(data: Data) -> Data:
    """Data on the GPU, whole numbers of x (ids) left out."""
    kept = data.x if data.x.dtype.kind in "iu" else backend.to("cupy", data.x)
    weight = None if data.weight is None else backend.to("cupy", data.weight)
    return Data(kept, backend.to("cupy", data.y), weight)


def no_totals(model: "Model") -> Totals:
    """The metrics' sums over no samples."""
    return [0] * len(model.metrics)


class Meter:
    """The running loss (mean over samples) and metrics of one pass over data."""

    def __init__(self, model: "Model") -> None:
        self.metrics = model.metrics
        self.loss_sum, self.count = 0.0, 0
        self.unread: list[tuple[Any, int, Totals]] = []  # what is still on the GPU
        for metric in self.metrics:
            metric.reset()

    def add(self, loss: Any, count: int, totals: Totals) -> None:
        """Add the mean loss and the metrics of `count` samples. What the GPU has still to compute is not waited for."""
        self.count += count
        if backend.is_cupy(loss):
            self.unread.append((loss, count, totals))
        else:
            self._add(loss, count, totals)

    def _add(self, loss: float, count: int, totals: Totals) -> None:
        self.loss_sum += loss * count
        for metric, total in zip(self.metrics, totals, strict=True):
            metric.add(total)

    def read(self) -> None:
        """Take in what was left on the GPU, all at once."""
        if self.unread:
            losses, counts, totals = zip(*self.unread, strict=True)
            columns = [_read(of_metric) for of_metric in zip(*totals, strict=True)]
            for loss, count, *of_batch in zip(_read(losses), counts, *columns, strict=True):
                self._add(float(loss), count, of_batch)
            self.unread = []

    def logs(self, prefix: str = "") -> Logs:
        """Name -> value so far, in alphabetical order."""
        self.read()
        values: Logs = {metric.name: metric.result() for metric in self.metrics}
        values["loss"] = self.loss_sum / self.count
        return {prefix + name: values[name] for name in sorted(values)}

    def sums(self) -> list[Any]:
        """What `restore` takes."""
        self.read()
        return [self.loss_sum, self.count, [metric.sums for metric in self.metrics]]

    def restore(self, sums: list[Any]) -> None:
        """Go on from these sums."""
        self.loss_sum, self.count, totals = sums
        for metric, total in zip(self.metrics, totals, strict=True):
            metric.sums = total


def _read(arrays: Sequence[Any]) -> Any:
    """Arrays of one shape from the GPU at once, in a single NumPy array; what is here already is left."""
    return backend.host(np.stack(arrays)) if backend.is_cupy(arrays[0]) else arrays


class OneProcess:
    """Does the steps of `fit` in this process, on either backend; `parallel.Team` does them in several processes.

    On a GPU nothing in a step waits for it: data is taken there once (ids stay, see `Embedding`), losses and metrics
    are left there, and so is the finding that one of them is no number.

    Args:
        model: compiled and built.
        data: to train on.
        validation: to validate on.

    Attributes:
        data: as it is trained on.
        broken: on a GPU, the number of the optimizer's first step with a loss or gradient that is no number; from it on
            nothing was updated. 0 as long as there is none.
    """

    def __init__(self, model: "Model", data: Data, validation: Data | None) -> None:
        self.model, self.data, self.validation = model, data, validation
        self.broken: Any = None
        if model.backend == "cupy":
            self.data = _uploaded(data)
            if validation is not None:
                self.validation = self.data if validation is data else _uploaded(validation)
            self.broken = backend.cupy().zeros(1, dtype=np.int32)

    def begin_epoch(self, order: np.ndarray) -> None:
        """State the order of samples."""
        self.order = order
        self.order_there = backend.to(self.model.backend, order)

    def step(self, start: int, stop: int) -> tuple[Any, Totals]:
        """`step_on` the samples `order[start:stop]`."""
        return self.step_on(self.data.take(self.order[start:stop], self.order_there[start:stop]))

    @one_blas_thread(sharing=True)
    def step_on(self, batch: Data) -> tuple[Any, Totals]:
        """Forward, loss, backward, update: the loss before the update, and the metrics.

        Raises:
            FloatingPointError: the loss or a gradient is NaN or infinite; nothing was updated. (On a GPU
                `require_finite` raises it.)
        """
        model, on_cpu = self.model, self.broken is None
        y_pred = model.forward(batch.x, training=True)
        loss, gradient, from_logits = model.loss_with_gradient(batch.y, y_pred, batch.weight)
        if on_cpu:
            require_finite(loss)
        model.backward(gradient, from_logits, input_gradient=False)
        if on_cpu:
            require_finite_gradients(model)
        model.optimizer.apply(model.params, model.grads, self.broken, loss)
        model.constrain(self.broken)
        return loss, model.measure(batch.y, y_pred)

    def require_finite(self) -> None:
        """Wait for the GPU, and stop where a loss or a gradient was NaN or infinite.

        Raises:
            FloatingPointError: one was; the parameters and the optimizer's count of steps are those before that batch.
        """
        if self.broken is not None and (first := int(self.broken[0])):
            self.model.optimizer.iterations = first - 1
            raise FloatingPointError(
                "the loss or a gradient became NaN or infinite. The parameters are those before this batch; a smaller "
                "learning_rate or clipnorm=1.0 in the optimizer usually helps"
            )

    def evaluate(self, spans: Sequence[tuple[int, int]], done: Callable[[], None]) -> list[tuple[float, Totals]]:
        """For each span of the validation samples the mean loss, and the metrics.

        Args:
            spans: from, to.
            done: is called after each.
        """
        assert self.validation is not None
        results = []
        for start, stop in spans:
            results.append(evaluate_batch(self.model, self.validation.take(slice(start, stop))))
            done()
        return results


def fit(
    model: "Model",
    x: Any,
    y: Any,
    batch_size: int,
    epochs: int,
    verbose: Any,
    callbacks: Any,
    validation_split: float,
    validation_data: Any,
    shuffle: bool,
    class_weight: Mapping[int, float] | None,
    sample_weight: Any,
    initial_epoch: int,
    workers: int,
    resume: str | os.PathLike[str] | None,
) -> History:
    """See `Model.fit`. Everything is checked before the first update."""
    batch_size, epochs = positive_int("batch_size", batch_size), positive_int("epochs", epochs)
    if whole_number("initial_epoch", initial_epoch) >= epochs:
        raise ValueError(f"initial_epoch must be from 0 to epochs - 1 = {epochs - 1}, not {initial_epoch!r}")
    verbose, listeners, shuffle = verbosity(verbose), callback_base.check(callbacks), flag("shuffle", shuffle)
    data = check_data(model, x, y, sample_weight)
    data, validation = split_validation(model, data, validation_split, validation_data)
    if class_weight is not None:
        data = weigh_classes(data, class_weight, model.layers[-1].dtype)
    _require_whole_batches(model, batch_size, {"x": data, "validation x": validation})
    model.build_for(data.x.shape[1:])
    workers = min(workers, batch_size, len(data.x))
    model.optimizer.claim(model.token, model.params)
    history = History()
    run = Run(model, listeners, history, initial_epoch)
    if run.checkpoints or resume is not None:
        run.settings = _settings(model, data, validation, batch_size, shuffle, initial_epoch, workers)
    model.stop_training = False
    before, before_history = None if resume is None else _Snapshot(model), model.history
    if resume is not None:
        _resume(run, resume, epochs, -(-len(data.x) // batch_size), verbose)
    model.history = history
    params = {"epochs": epochs, "epoch": run.epoch, "steps": -(-len(data.x) // batch_size), "verbose": verbose}
    names = sorted(["loss", *(metric.name for metric in model.metrics)])
    params["metrics"] = names + [f"val_{name}" for name in names if validation is not None]
    for listener in listeners:
        listener.set_params(params)
        listener.set_model(model)

    logs: Logs = {}
    started = False
    last_epoch, position = _Snapshot(model), f"epoch {run.epoch + 1}"
    kept = "of the checkpoint" if run.batch else "of the last one" if history.epoch else "it had before"
    try:
        with _runner(model, data, validation, batch_size, workers, recorded=bool(run.settings)) as runner:
            _call(listeners, "on_train_begin", {})
            run.restore_callbacks()
            started, before = True, None
            for epoch in run.epochs(epochs):
                position = f"epoch {epoch + 1}"
                if verbose:
                    say(f"Epoch {epoch + 1}/{epochs}")
                if not run.batch:  # an epoch that is resumed in its middle has begun before
                    _call(listeners, "on_epoch_begin", epoch, {})
                order = run.order(len(data.x), shuffle)
                runner.begin_epoch(order)
                logs = _run_epoch(runner, model, len(order), validation, batch_size, verbose, listeners, run)
                try:
                    _call(listeners, "on_epoch_end", epoch, logs)
                finally:  # the epoch is complete, and what a callback adds to its logs belongs to it
                    history.on_epoch_end(epoch, logs)
                    kept = "of the last one"
                    last_epoch.take()
                run.end_epoch()
                if model.stop_training:
                    break
            _call(listeners, "on_train_end", logs)
    except KeyboardInterrupt as interrupt:
        last_epoch.restore()
        done = len(history.epoch)
        epochs_are = "epoch is" if done == 1 else "epochs are"
        epochs_done = f"{done} completed {epochs_are} in model.history" if done else "no epoch was completed"
        raise KeyboardInterrupt(
            f"training was interrupted in {position}; {epochs_done}, and the model has the weights {kept}"
        ) from interrupt
    except Exception as error:
        if not started:  # the workers, or a callback: the model may have taken up its part of the checkpoint
            model.history = before_history
            if before is not None:
                before.restore()
        elif isinstance(error, WorkerError):
            last_epoch.restore()  # the workers may have stopped in the middle of an update
        raise
    return history


def _require_whole_batches(model: "Model", batch_size: int, arrays: Mapping[str, Data | None]) -> None:
    """Stop where a stateful model would meet a batch of another size.

    Raises:
        ValueError: it would, in this of the arrays.
    """
    for name, data in arrays.items():
        if model.stateful and data is not None and len(data.x) % batch_size:
            raise ValueError(
                f"the model is stateful, so every batch needs the same number of rows, but {len(data.x)} samples of "
                f"{name} leave a rest when they are divided by batch_size={batch_size}"
            )


def _settings(
    model: "Model",
    data: Data,
    validation: Data | None,
    batch_size: int,
    shuffle: bool,
    initial_epoch: int,
    workers: int,
) -> dict[str, Any]:
    """All that decides a run's numbers, for a checkpoint to compare."""
    description = archive.describe(model)
    description["compiled"].pop("iterations")
    description["compiled"]["optimizer"]["config"]["learning_rate"] = model.compiled_learning_rate
    settings = {
        "data": fingerprint(data._asdict()),
        "validation data": None if validation is None else fingerprint(validation._asdict()),
        "batch_size": batch_size,
        "shuffle": shuffle,
        "initial_epoch": initial_epoch,
        "workers": workers,
        "model": description,
    }
    return archive.plain(settings)


def _resume(run: Run, path: Any, epochs: int, batches: int, verbose: int) -> None:
    """Take `run` up from the checkpoint at `path`, or leave it at its beginning where there is none yet."""
    instance("resume", path, str | os.PathLike, "the path of a checkpoint")
    if file_path(path, "resume").exists():
        run.resume(path, epochs, batches)
        where = f"after epoch {run.epoch}" + (f" and {run.batch} of {batches} batches" if run.batch else "")
    else:
        where = "from the beginning: there is no such checkpoint yet"
    if verbose:
        say(f"Resuming {str(path)!r} {where}")


@contextmanager
def _runner(
    model: "Model", data: Data, validation: Data | None, batch_size: int, workers: int, recorded: bool
) -> Iterator["OneProcess | Team"]:
    arrays = data.named() | ({} if validation is None else validation.named("validation_"))
    with _team(model, workers, arrays, batch_size=batch_size, recorded=recorded) as team:
        yield team or _alone(model, data, validation)


def _alone(model: "Model", data: Data, validation: Data | None) -> OneProcess:
    with backend.explain_memory("all samples are taken there before the first batch: pass them in several parts"):
        return OneProcess(model, data, validation)


def _run_epoch(
    runner: "OneProcess | Team",
    model: "Model",
    samples: int,
    validation: Data | None,
    batch_size: int,
    verbose: int,
    listeners: Sequence[Callback],
    run: Run,
) -> Logs:
    starts = range(0, samples, batch_size)
    meter = Meter(model)
    run.begin_epoch(meter)
    logs = meter.logs() if run.batch else {}
    first, steps_before, on_gpu = run.batch, model.optimizer.iterations, model.backend == "cupy"
    # whether each batch's numbers are asked for: on a GPU that means to wait for them
    watched = not on_gpu or any(listener.wants_batches for listener in listeners)
    with Progress(len(starts), verbose, run.batch) as progress:
        for number, start in enumerate(starts[first:], first):
            _call(listeners, "on_train_batch_begin", number, {})
            stop = min(start + batch_size, samples)
            try:
                loss, totals = runner.step(start, stop)
                last = number == len(starts) - 1 or model.stop_training
                if on_gpu and (watched or last or run.saves_after(number + 1)):
                    runner.require_finite()  # type: ignore[union-attr]
            except FloatingPointError as error:
                if not any(isinstance(listener, TerminateOnNaN) for listener in listeners):
                    batch = first + model.optimizer.iterations - steps_before + 1  # which no update followed
                    place = f"epoch {run.epoch + 1}, batch {batch} of {len(starts)}"
                    raise FloatingPointError(f"{error} ({place})") from None
                loss, totals = math.nan, no_totals(model)
            meter.add(loss, stop - start, totals)
            if watched:
                _call(listeners, "on_train_batch_end", number, meter.logs())
            progress.step(meter.logs)
            run.end_batch()
            if model.stop_training:
                break
        if meter.count:
            logs = meter.logs()
        if validation is not None:
            size = batch_size if model.batch_matters else INFERENCE_BATCH
            logs |= _evaluate(runner, model, len(validation.x), size).logs("val_")
        progress.finish(logs)
    return logs


def require_finite(loss: float) -> None:
    """Stop where the loss is NaN or infinite.

    Raises:
        FloatingPointError: it is.
    """
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss became {loss}. The parameters are those before this batch; a smaller learning_rate or "
            f"clipnorm=1.0 in the optimizer usually helps"
        )


def require_finite_gradients(model: "Model") -> None:
    """Stop where a gradient has NaN or infinity, which a finite loss can have.

    Raises:
        FloatingPointError: it has.
    """
    for layer in model.layers:
        for name, gradient in layer.grads.items():
            if not optimizers.is_finite(gradient):
                raise FloatingPointError(
                    f"the gradient of {layer.name}/{name} became infinite or NaN. The parameters are those before this "
                    f"batch; smaller inputs or a smaller learning_rate usually help"
                )


@one_blas_thread(sharing=True)
def evaluate_batch(model: "Model", batch: Data) -> tuple[Any, Totals]:
    """The mean loss and the metrics, without dropout, without updates."""
    y_pred = model.infer(batch.x)
    loss, _, _ = model.loss_with_gradient(batch.y, y_pred, batch.weight)
    return loss, model.measure(batch.y, y_pred)


def _evaluate(
    runner: "OneProcess | Team", model: "Model", samples: int, batch_size: int, progress: Progress | None = None
) -> Meter:
    """Loss and metrics over all validation samples."""
    meter, spans = Meter(model), _spans(samples, batch_size)
    done = (lambda: None) if progress is None else (lambda: progress.step(dict))
    for (start, stop), (loss, totals) in zip(spans, runner.evaluate(spans, done), strict=True):
        meter.add(loss, stop - start, totals)
    return meter


def evaluate(model: "Model", data: Data, batch_size: int = INFERENCE_BATCH, verbose: int = 0, workers: int = 1) -> Logs:
    """Loss and metrics over `data`, by name."""
    _require_whole_batches(model, batch_size, {"x": data})
    model.build_for(data.x.shape[1:])
    batches = len(_spans(len(data.x), batch_size))
    with Progress(batches, verbose) as progress:
        with _team(model, min(workers, batches), data.named("validation_")) as team:
            meter = _evaluate(team or _alone(model, data, data), model, len(data.x), batch_size, progress)
        progress.finish(meter.logs())
    return meter.logs()


def predict(
    model: "Model", x: np.ndarray, batch_size: int = INFERENCE_BATCH, verbose: int = 0, workers: int = 1
) -> np.ndarray:
    """The model's output for checked x."""
    spans = _spans(len(x), batch_size)
    with Progress(len(spans), verbose) as progress:
        shape = (len(x), *model.output_shape_for(x.shape[1:]))
        with _team(model, min(workers, len(spans)), {"x": x}, outputs=shape) as team:
            if team:
                result = team.predict(spans, lambda: progress.step(dict))
            else:
                outputs = []
                for start, stop in spans:
                    with one_blas_thread(sharing=True):
                        outputs.append(backend.host(as_array(model.infer(x[start:stop]))))
                    progress.step(dict)
                result = np.concatenate(outputs)
        progress.finish({})
    return result


def _spans(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Batches of `batch_size` samples, from and to; the last one may be shorter."""
    return [(start, min(start + batch_size, samples)) for start in range(0, samples, batch_size)]


def _team(model: "Model", workers: int, data: Mapping[str, np.ndarray], **options: Any) -> Any:
    if workers == 1:
        return nullcontext()  # which spares the import of multiprocessing
    from scratchlstm.training.parallel import team_or_alone

    return team_or_alone(model, workers, data, **options)


class _Snapshot:
    """Parameters, layers' states, generators and the optimizer as they are now."""

    def __init__(self, model: "Model") -> None:
        self.model = model
        self.take()

    def take(self) -> None:
        """Keep what is now; what was kept before is let go first, so that memory holds one copy."""
        model, self.whole = self.model, False
        self.params: list[Any] = []
        self.state: list[dict[str, Any]] = []
        self.layers = [{n: a.copy() for n, a in layer.extra_state().items()} for layer in model.layers]
        self.rngs = [rng.bit_generator.state for rng in model.generators]
        self.learning_rate = None if model.optimizer.schedule else model.optimizer.learning_rate
        self.params = [param.copy() for param in model.params]
        self.state = [{name: a.copy() for name, a in slots.items()} for slots in model.optimizer.state]
        self.iterations = model.optimizer.iterations
        self.whole = True

    def restore(self) -> None:
        """Put them back; after an interrupted `take` they are still what they were."""
        if not self.whole:
            return
        settle()  # Ctrl-C may have left a thread that still writes
        for param, saved in zip(self.model.params, self.params, strict=True):
            param[...] = saved
        for layer, extra in zip(self.model.layers, self.layers, strict=True):
            layer.set_extra_state(extra)
        for rng, state in zip(self.model.generators, self.rngs, strict=True):
            rng.bit_generator.state = state
        self.model.optimizer.state, self.model.optimizer.iterations = self.state, self.iterations
        if self.learning_rate is not None:
            self.model.optimizer.learning_rate = self.learning_rate


def _call(listeners: Sequence[Callback], moment: str, *args: Any) -> None:
    for listener in listeners:
        getattr(listener, moment)(*args)
