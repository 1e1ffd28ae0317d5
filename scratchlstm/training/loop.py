"""The training loop: epochs of shuffled batches, each with a forward pass, loss, backward pass and update."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm._support.checks import flag, instance, positive_int, verbosity, whole_number
from scratchlstm._support.console import say, warn
from scratchlstm._support.files import file_path
from scratchlstm.callbacks import Callback, Checkpoint, History, TerminateOnNaN
from scratchlstm.callbacks import base as callback_base
from scratchlstm.callbacks.base import Logs
from scratchlstm.training import archive, by_length
from scratchlstm.training.adversarial import AdversarialTraining, require_embeddings
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.crew import Crew
from scratchlstm.training.data import Data, Spans, check_data, output_shapes, split_validation, weigh_classes
from scratchlstm.training.progress import Progress
from scratchlstm.training.run import Run, State, computed_by, fingerprint
from scratchlstm.training.steps import INFERENCE_BATCH, Meter, StepOptions, WorkerError, no_totals, outputs


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
    crew: Crew,
    resume: str | os.PathLike[str] | None,
    adversarial: AdversarialTraining | None,
    group_by_length: bool,
) -> History:
    """See `Model.fit`. Everything is checked before the first update."""
    batch_size, epochs = positive_int("batch_size", batch_size), positive_int("epochs", epochs)
    if whole_number("initial_epoch", initial_epoch) >= epochs:
        raise ValueError(f"initial_epoch must be from 0 to epochs - 1 = {epochs - 1}, not {initial_epoch!r}")
    verbose, listeners, shuffle = verbosity(verbose), callback_base.check(callbacks), flag("shuffle", shuffle)
    group_by_length = flag("group_by_length", group_by_length)
    if not crew.first:
        verbose, listeners = 0, []
    data = check_data(model, x, y, sample_weight)
    data, validation = split_validation(model, data, validation_split, validation_data)
    if class_weight is not None:
        data = weigh_classes(data, class_weight, model.dtype)
    _require_whole_batches(model, batch_size, {"x": data, "validation x": validation})
    lengths = None
    if group_by_length:
        data = by_length.prepared(model, data)
        validation = validation and by_length.prepared(model, validation, "validation x")
        lengths = by_length.row_lengths(data.x)
    model.build_for(data.shape)
    if adversarial is not None:
        require_embeddings(model, adversarial)
    step_options = StepOptions(adversarial, trims=group_by_length)
    workers = min(crew.workers, batch_size, data.samples)
    model.optimizer.claim(model.token, model.params)
    run = Run(model, listeners, initial_epoch, data, batch_size)
    history = run.history
    options: dict[str, Any] = {
        "batch_size": batch_size, "shuffle": shuffle, "initial_epoch": initial_epoch, "workers": workers,
    }  # fmt: skip
    if adversarial is not None:  # otherwise omitted, as in older checkpoints
        options["adversarial"] = adversarial.get_config()
    if group_by_length:
        options["group_by_length"] = True
    compared = {"data": data, "validation data": validation}
    crew.require_same("fit", model, compared, **options, epochs=epochs, resumed=resume is not None)
    resume = crew.restarted_from([checkpoint.path for checkpoint in run.checkpoints]) or resume
    recorded = bool(run.checkpoints) or resume is not None
    if recorded:
        run.settings = _settings(model, data, validation, **options)
    if group_by_length and validation is not None:
        validation, _ = by_length.longest_first(validation)
    model.stop_training = False
    before, before_history = None if resume is None else State.of(model), model.history
    if resume is not None:
        crew.follow(model, lambda: _resume(run, resume, epochs, verbose), run.position, run.put_at)
    if model.params and not model.network.trainable_params:
        warn(f"{model.network.name} has no trainable weights, so fit changes nothing")
    model.history = history
    names = sorted(["loss", *model.measured])
    names += [f"val_{name}" for name in names if validation is not None]
    params = {"epochs": epochs, "epoch": run.epoch, "steps": len(run.batches), "verbose": verbose, "metrics": names}
    for listener in listeners:
        listener.set_params(params)
        listener.set_model(model)  # type: ignore[arg-type]  # which is a whole Model
    call = _Callbacks(crew, model, listeners)

    logs: Logs = {}
    size = batch_size if model.batch_matters else INFERENCE_BATCH
    validation_batches = [] if validation is None else validation.batches(size)
    last_epoch: State | None = State.of(model)
    started, position = False, f"epoch {run.epoch + 1}"
    kept = "of the checkpoint" if run.batch else "of the last one" if history.epoch else "it had before"
    try:
        sharing = {"batch_size": batch_size, "recorded": recorded}
        with crew.runner(model, workers, data, validation, step_options, **sharing) as runner:
            call("on_train_begin", {})
            crew.follow(model, run.restore_callbacks)
            started, before = True, None
            for epoch in run.epochs(epochs):
                position = f"epoch {epoch + 1}"
                say(f"Epoch {epoch + 1}/{epochs}", verbose)
                if not run.batch:  # an epoch resumed in the middle has already begun
                    call("on_epoch_begin", {}, epoch)
                runner.begin_epoch(run.order(shuffle, lengths))
                logs = _run_epoch(run, runner, validation_batches, verbose, call)
                try:
                    call("on_epoch_end", logs, epoch)
                finally:  # the epoch is complete, and anything callbacks add to its logs belongs to it
                    history.on_epoch_end(epoch, logs)
                    kept = "of the last one"
                    last_epoch = None  # freed first, so that memory holds one copy
                    last_epoch = State.of(model)
                crew.require_alike(model)
                run.end_epoch()
                crew.ask_first(run.save_due)
                if crew.stops(model):
                    break
            model.take_averages()
            call("on_train_end", logs)
    except KeyboardInterrupt as interrupt:
        if last_epoch is not None:  # otherwise it was being copied, and the model still has that state
            last_epoch.put_into(model)
        done = len(history.epoch)
        epochs_are = "epoch is" if done == 1 else "epochs are"
        epochs_done = f"{done} completed {epochs_are} in model.history" if done else "no epoch was completed"
        raise KeyboardInterrupt(
            f"training was interrupted in {position}; {epochs_done}, and the model has the weights {kept}"
        ) from interrupt
    except Exception as error:
        if not started:  # workers or a callback failed: the model may have loaded the checkpoint
            model.history = before_history
            if before is not None:
                before.put_into(model)
        elif isinstance(error, WorkerError) and last_epoch is not None:
            last_epoch.put_into(model)  # the workers may have been stopped in mid-update
        raise
    return history


def _require_whole_batches(model: Compiled, batch_size: int, arrays: Mapping[str, Data | None]) -> None:
    """Raise an error if a stateful model would get a batch of a different size.

    Raises:
        ValueError: it would; naming the array.
    """
    for name, data in arrays.items():
        if model.stateful and data is not None and data.samples % batch_size:
            raise ValueError(
                f"the model is stateful, so every batch needs the same number of rows, but {data.samples} samples of "
                f"{name} are not a multiple of batch_size={batch_size}"
            )


def _settings(model: Compiled, data: Data, validation: Data | None, **options: Any) -> dict[str, Any]:
    """Everything that determines a run's results, for a checkpoint to compare."""
    description = archive.describe(model)
    description["compiled"].pop("iterations")
    description["compiled"]["optimizer"]["config"]["learning_rate"] = model.compiled_learning_rate
    fingerprints = {"data": fingerprint(data), "validation data": validation and fingerprint(validation)}
    return archive.plain({**fingerprints, "model": description, "computed by": computed_by(model), **options})


def _resume(run: Run, path: Any, epochs: int, verbose: int) -> None:
    """Resume `run` from the checkpoint at `path`; if there is none yet, it starts from the beginning."""
    instance("resume", path, str | os.PathLike, "the path of a checkpoint")
    if file_path(path, "resume").exists():
        run.resume(path, epochs)
        where = f"after epoch {run.epoch}" + (f" and {run.batch} of {len(run.batches)} batches" if run.batch else "")
    else:
        where = "from the beginning: there is no such checkpoint yet"
    say(f"Resuming {str(path)!r} {where}", verbose)


def _run_epoch(run: Run, runner: Any, validation: Spans, verbose: int, call: "_Callbacks") -> Logs:
    model, batches = run.model, len(run.batches)
    meter = run.begin_epoch()
    first, steps_before, on_gpu = run.batch, model.optimizer.iterations, model.backend == "cupy"
    watched = call.wants("on_train_batch_end")  # needs each batch's values: on a GPU that means waiting for them
    with Progress(batches, verbose, first) as progress:
        for number, (start, stop) in enumerate(run.batches[first:], first):
            call("on_train_batch_begin", {}, number)
            try:
                loss, totals = runner.step(start, stop)
                last = number == batches - 1 or call.crew.stops(model)
                if on_gpu and (watched or last or call.saves_after(number + 1)):
                    runner.require_finite()
            except FloatingPointError as error:
                if not call.ends_on_nan:
                    batch = first + model.optimizer.iterations - steps_before + 1  # the one without an update
                    place = f"epoch {run.epoch + 1}, batch {batch} of {batches}"
                    raise FloatingPointError(f"{error} ({place})") from None
                loss, totals = math.nan, no_totals(model, math.nan)
            meter.add(loss, stop - start, totals)
            if watched:
                call("on_train_batch_end", meter.logs(), number)
            progress.step(meter.logs)
            run.end_batch()
            if call.saves_after(run.batch):
                call.crew.ask_first(run.save_due)
            if call.crew.stops(model):
                break
        logs = meter.logs()
        if validation:
            call("on_test_begin", {})
            found = _evaluate(runner, model, validation)
            call("on_test_end", found.logs())
            logs |= found.logs("val_")
        progress.finish(logs)
    return logs


def _evaluate(runner: Any, model: Compiled, spans: Spans, done: Callable[[], Any] = lambda: None) -> Meter:
    """Compute loss and metrics over all validation samples."""
    meter = Meter(model)
    for (start, stop), (loss, totals) in zip(spans, runner.evaluate(spans, done), strict=True):
        meter.add(loss, stop - start, totals)
    return meter


def evaluate(model: Compiled, data: Data, batch_size: int, verbose: int, crew: Crew, group_by_length: bool) -> Logs:
    """Compute loss and metrics over `data`, by name."""
    _require_whole_batches(model, batch_size, {"x": data})
    if flag("group_by_length", group_by_length):
        data = by_length.prepared(model, data)
    model.build_for(data.shape)
    spans = data.batches(batch_size)
    crew.require_same("evaluate", model, {"data": data}, batch_size=batch_size, group_by_length=group_by_length)
    if group_by_length:
        data, _ = by_length.longest_first(data)
    workers = min(crew.workers, len(spans))
    with Progress(len(spans), verbose if crew.first else 0) as progress:
        with crew.runner(model, workers, None, data, StepOptions(trims=group_by_length)) as runner:
            meter = _evaluate(runner, model, spans, progress.step)
        progress.finish(meter.logs())
    return meter.logs()


def predict(
    model: Compiled, data: Data, batch_size: int, verbose: int, crew: Crew, group_by_length: bool
) -> list[np.ndarray]:
    """Compute the model's outputs for checked x."""
    if flag("group_by_length", group_by_length):
        data = by_length.prepared(model, data)
    model.build_for(data.shape)
    spans, order, options = data.batches(batch_size), None, StepOptions(trims=group_by_length)
    crew.require_same("predict", model, {"data": data}, batch_size=batch_size, group_by_length=group_by_length)
    if group_by_length:
        data, order = by_length.longest_first(data)
    workers = min(crew.workers, len(spans))
    with Progress(len(spans), verbose if crew.first else 0) as progress:
        shapes = [(data.samples, *shape) for shape in output_shapes(model, data)]
        with crew.team(model, workers, data, None, options, outputs=shapes) as team:
            result = team.predict(spans, progress.step) if team else outputs(model, data, options, spans, progress.step)
        progress.finish({})
    return result if order is None else [y[np.argsort(order)] for y in result]


class _Callbacks:
    """Calls all callbacks one after another; with several ranks, those of the first, whose changes the others copy.

    Attributes:
        ends_on_nan: whether a NaN loss ends training without an error.
        save_frequencies: the intervals, in batches, of checkpoints written within epochs.
    """

    def __init__(self, crew: Crew, model: Compiled, listeners: Sequence[Callback]) -> None:
        self.crew, self.model, self.listeners = crew, model, listeners
        self.moments, self.ends_on_nan, self.save_frequencies = crew.ask_first(self._look)

    def _look(self) -> tuple[set[str], bool, list[int]]:
        """What the callbacks ask for, which they may change when training begins."""
        moments = {moment for listener in self.listeners for moment in listener.moments}
        ends_on_nan = any(isinstance(listener, TerminateOnNaN) for listener in self.listeners)
        frequencies = [each.save_freq for each in self.listeners if isinstance(each, Checkpoint)]
        return moments, ends_on_nan, [each for each in frequencies if isinstance(each, int)]

    def wants(self, moment: str) -> bool:
        """Whether any callback does something at this moment."""
        return moment in self.moments

    def saves_after(self, batch: int) -> bool:
        """Whether a checkpoint is due after this many batches of an epoch."""
        return any(batch % frequency == 0 for frequency in self.save_frequencies)

    def __call__(self, moment: str, logs: Logs, *number: int) -> None:
        """Call them, with the number of the epoch or batch, if any."""
        if moment not in self.moments:
            return

        def act() -> None:
            for listener in self.listeners:
                getattr(listener, moment)(*number, logs)

        def take(given: Logs) -> None:
            logs.clear()
            logs.update(given)

        self.crew.follow(self.model, act, lambda: logs, take, thorough="batch" not in moment)
        if moment == "on_train_begin":
            self.moments, self.ends_on_nan, self.save_frequencies = self.crew.ask_first(self._look)
