"""The fit loop: epochs of shuffled batches, each forward, loss, backward, update."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support.checks import flag, instance, positive_int, verbosity, whole_number
from scratchlstm._support.console import say
from scratchlstm._support.files import file_path
from scratchlstm._support.threads import settle
from scratchlstm.callbacks import Callback, History, TerminateOnNaN
from scratchlstm.callbacks import base as callback_base
from scratchlstm.callbacks.base import Logs
from scratchlstm.training import archive
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data, check_data, split_validation, weigh_classes
from scratchlstm.training.progress import Progress
from scratchlstm.training.run import Run, fingerprint
from scratchlstm.training.steps import INFERENCE_BATCH, Meter, OneProcess, WorkerError, no_totals, outputs

if TYPE_CHECKING:
    from scratchlstm.training.parallel import Team


def fit(
    model: Compiled,
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
        data = weigh_classes(data, class_weight, model.dtype)
    _require_whole_batches(model, batch_size, {"x": data, "validation x": validation})
    model.build_for(data.shape)
    workers = min(workers, batch_size, data.samples)
    model.optimizer.claim(model.token, model.params)
    history = History()
    run = Run(model, listeners, history, initial_epoch)
    if run.checkpoints or resume is not None:
        options = {"batch_size": batch_size, "shuffle": shuffle, "initial_epoch": initial_epoch, "workers": workers}
        run.settings = _settings(model, data, validation, **options)
    model.stop_training = False
    before, before_history = None if resume is None else _Snapshot(model), model.history
    if resume is not None:
        _resume(run, resume, epochs, -(-data.samples // batch_size), verbose)
    model.history = history
    params = {"epochs": epochs, "epoch": run.epoch, "steps": -(-data.samples // batch_size), "verbose": verbose}
    names = sorted(["loss", *(metric.name for metric in model.metrics)])
    params["metrics"] = names + [f"val_{name}" for name in names if validation is not None]
    for listener in listeners:
        listener.set_params(params)
        listener.set_model(model)  # type: ignore[arg-type]  # which is a whole Model

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
                order = run.order(data.samples, shuffle)
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


def _require_whole_batches(model: Compiled, batch_size: int, arrays: Mapping[str, Data | None]) -> None:
    """Stop where a stateful model would meet a batch of another size.

    Raises:
        ValueError: it would, in this of the arrays.
    """
    for name, data in arrays.items():
        if model.stateful and data is not None and data.samples % batch_size:
            raise ValueError(
                f"the model is stateful, so every batch needs the same number of rows, but {data.samples} samples of "
                f"{name} leave a rest when they are divided by batch_size={batch_size}"
            )


def _settings(model: Compiled, data: Data, validation: Data | None, **options: Any) -> dict[str, Any]:
    """All that decides a run's numbers, for a checkpoint to compare."""
    description = archive.describe(model)
    description["compiled"].pop("iterations")
    description["compiled"]["optimizer"]["config"]["learning_rate"] = model.compiled_learning_rate
    settings = {
        "data": fingerprint(data),
        "validation data": None if validation is None else fingerprint(validation),
        "model": description,
    }
    return archive.plain(settings | options)


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
    model: Compiled, data: Data, validation: Data | None, batch_size: int, workers: int, recorded: bool
) -> Iterator["OneProcess | Team"]:
    arrays = data.named() | ({} if validation is None else validation.named("validation_"))
    with _team(model, workers, arrays, batch_size=batch_size, recorded=recorded) as team:
        yield team or _alone(model, data, validation)


def _alone(model: Compiled, data: Data, validation: Data | None) -> OneProcess:
    with backend.explain_memory("all samples are taken there before the first batch: pass them in several parts"):
        return OneProcess(model, data, validation)


def _run_epoch(
    runner: "OneProcess | Team",
    model: Compiled,
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
            logs |= _evaluate(runner, model, validation.samples, size).logs("val_")
        progress.finish(logs)
    return logs


def _evaluate(
    runner: "OneProcess | Team", model: Compiled, samples: int, batch_size: int, progress: Progress | None = None
) -> Meter:
    """Loss and metrics over all validation samples."""
    meter, spans = Meter(model), _spans(samples, batch_size)
    done = (lambda: None) if progress is None else (lambda: progress.step(dict))
    for (start, stop), (loss, totals) in zip(spans, runner.evaluate(spans, done), strict=True):
        meter.add(loss, stop - start, totals)
    return meter


def evaluate(
    model: Compiled, data: Data, batch_size: int = INFERENCE_BATCH, verbose: int = 0, workers: int = 1
) -> Logs:
    """Loss and metrics over `data`, by name."""
    _require_whole_batches(model, batch_size, {"x": data})
    model.build_for(data.shape)
    batches = len(_spans(data.samples, batch_size))
    with Progress(batches, verbose) as progress:
        with _team(model, min(workers, batches), data.named("validation_")) as team:
            meter = _evaluate(team or _alone(model, data, data), model, data.samples, batch_size, progress)
        progress.finish(meter.logs())
    return meter.logs()


def predict(
    model: Compiled, x: Any, batch_size: int = INFERENCE_BATCH, verbose: int = 0, workers: int = 1
) -> np.ndarray:
    """The model's output for checked x."""
    data = Data(x)
    spans = _spans(data.samples, batch_size)
    with Progress(len(spans), verbose) as progress:
        shape = (data.samples, *model.output_shape_for(data.shape))
        with _team(model, min(workers, len(spans)), data.named(), outputs=shape) as team:
            done = lambda: progress.step(dict)  # noqa: E731
            result = team.predict(spans, done) if team else outputs(model, x, spans, done)
        progress.finish({})
    return result


def _spans(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Batches of `batch_size` samples, from and to; the last one may be shorter."""
    return [(start, min(start + batch_size, samples)) for start in range(0, samples, batch_size)]


def _team(model: Compiled, workers: int, data: Mapping[str, np.ndarray], **options: Any) -> Any:
    if workers == 1:
        return nullcontext()  # which spares the import of multiprocessing
    from scratchlstm.training.parallel import team_or_alone

    return team_or_alone(model, workers, data, **options)


class _Snapshot:
    """Parameters, layers' states, generators and the optimizer as they are now."""

    def __init__(self, model: Compiled) -> None:
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
