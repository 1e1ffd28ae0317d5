"""A training run in one file, from which `fit(resume=path)` continues bit for bit.

    layers' parameters and states, optimizer's state       what was learned
    epoch, batch, sums of loss and metrics, history        how far it got
    generators of shuffling and dropout                    what will be drawn next
    callbacks' states                                      what they have seen
    model, data's checksums, batch size, workers, ...      what must be the same on resuming

The file is an `.npz` of arrays and JSON, like that of a model (`saving`), and written as safely.
"""

import copy
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm._support import compiled
from scratchlstm._support.checks import flag, number, whole_number
from scratchlstm._support.console import warn
from scratchlstm._support.files import read_arrays
from scratchlstm._support.threads import settle
from scratchlstm.backend import Array
from scratchlstm.callbacks import Callback, Checkpoint, History
from scratchlstm.layers import Embedding
from scratchlstm.layers.rnn import what_runs
from scratchlstm.training import archive, by_length
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data, output_shapes
from scratchlstm.training.steps import Meter
from scratchlstm.training.targets import LossMean

_KIND = "scratchlstm checkpoint"
_CODE = {"compiled": "compiled by Numba", "numpy": "in NumPy", "textbook": "step by step"}


class State(NamedTuple):
    """Everything training changes in a model, to restore after a failure or from a checkpoint."""

    layers: list[dict[str, Array]]  # states kept from batch to batch
    params: list[Array]
    slots: list[dict[str, Array]]  # slots of the optimizer
    generators: list[Any]
    iterations: int
    learning_rate: float | None  # None to leave it alone
    trainability: list[bool]

    @classmethod
    def of(cls, model: Compiled) -> "State":
        """Copies of the current state."""
        return cls(
            [{name: a.copy() for name, a in layer.extra_state().items()} for layer in model.layers],
            [param.copy() for param in model.params],
            [{name: a.copy() for name, a in slots.items()} for slots in model.optimizer.state],
            [rng.bit_generator.state for rng in model.generators],
            model.optimizer.iterations,
            None if model.optimizer.schedule else model.optimizer.learning_rate,
            model.trainability,
        )

    def put_into(self, model: Compiled) -> None:
        """Restore this state in the model; its optimizer then uses these very arrays."""
        settle()  # Ctrl-C may have left a thread still writing
        for layer, extra in zip(model.layers, self.layers, strict=True):
            layer.set_extra_state(extra)  # the only call that may raise an error
        for param, saved in zip(model.params, self.params, strict=True):
            param[...] = saved
        for rng, state in zip(model.generators, self.generators, strict=True):
            rng.bit_generator.state = state
        model.optimizer.state, model.optimizer.iterations = self.slots, self.iterations
        if self.learning_rate is not None:
            model.optimizer.learning_rate = self.learning_rate
        model.trainability = self.trainability


class Run:
    """One call of `fit`, and how far it has got.

    Args:
        model: compiled and built.
        listeners: all given callbacks.
        first_epoch: number of epochs done before it.
        data: the training data.
        size: the batch size.

    Attributes:
        epoch: the current epoch, from 0.
        batch: number of its batches done.
        history: the history of its epochs.
        meter: loss and metrics of these batches.
        settings: the arguments of `fit`, if they will be saved or compared.
    """

    def __init__(self, model: Compiled, listeners: Sequence[Callback], first_epoch: int, data: Data, size: int) -> None:
        self.model, self.listeners, self.history = model, listeners, History()
        self.data, self.size, self.batches = data, size, data.batches(size)
        self.checkpoints = [callback for callback in listeners if isinstance(callback, Checkpoint)]
        self.callbacks = [callback for callback in listeners if not isinstance(callback, Checkpoint)]
        self.epoch, self.batch = first_epoch, 0
        self.settings: dict[str, Any] = {}
        self.before_order: Any = model.rng.bit_generator.state
        self._sums: Any = None
        self._callback_states: list[Any] | None = None
        self._finished = False

    # --- used by the training loop -------------------------------------------------------------------------------

    def epochs(self, count: int) -> range:
        """The epochs still to be trained or completed, out of `count`."""
        return range(self.epoch, self.epoch if self._finished else count)

    def order(self, shuffle: bool, lengths: np.ndarray | None = None) -> np.ndarray:
        """The order of samples in this epoch; drawn again in the same way if the run was resumed in mid-epoch.

        Args:
            shuffle: whether the order is random.
            lengths: the samples' lengths, (N,), if batches should have similar lengths.
        """
        if not shuffle:
            return np.arange(self.data.samples) if lengths is None else np.argsort(lengths, kind="stable")
        rng = self.model.rng
        if self.batch:
            rng = copy.deepcopy(rng)
            rng.bit_generator.state = self.before_order
        self.before_order = rng.bit_generator.state
        order = rng.permutation(self.data.samples)
        return order if lengths is None else by_length.rearranged(order, lengths, self.size, rng)

    def begin_epoch(self) -> Meter:
        """The meter for loss and metrics; it includes the batches done before."""
        self.meter = Meter(self.model)
        if self.batch:
            self.meter.restore(self._sums)
        return self.meter

    def end_batch(self) -> None:
        """Record that a batch and its callbacks are done."""
        self.batch += 1

    def saves_after(self, batch: int) -> list[Checkpoint]:
        """The checkpoints due after this many batches of an epoch."""
        return [c for c in self.checkpoints if isinstance(c.save_freq, int) and batch % c.save_freq == 0]

    def end_epoch(self) -> None:
        """Record that an epoch, its callbacks and its line in the history are done."""
        self.epoch, self.batch = self.epoch + 1, 0

    def save_due(self) -> None:
        """Write the checkpoints due after the batch or epoch that has just ended."""
        for checkpoint in self.saves_after(self.batch) if self.batch else self.checkpoints:
            self.save(checkpoint.path)

    def position(self) -> Any:
        """How far the run has got, for `put_at` of another rank's run."""
        epochs = self.history.epoch, self.history.history
        return epochs, self.epoch, self.batch, self.before_order, self._sums, self._finished

    def put_at(self, position: Any) -> None:
        """Move to the `position` of another run."""
        epochs, self.epoch, self.batch, self.before_order, self._sums, self._finished = position
        self.history.epoch, self.history.history = epochs

    def restore_callbacks(self) -> None:
        """Give the callbacks their states from the checkpoint, if the run was resumed.

        Raises:
            ValueError: a callback cannot continue from its state.
        """
        for callback, state in zip(self.callbacks, self._callback_states or [], strict=False):
            try:
                callback.set_state(state)
            except Exception as error:
                name = type(callback).__name__
                raise ValueError(f"{name} cannot continue from its state in the checkpoint: {error!r}") from error

    # --- the file -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to `path`, completely or not at all.

        Raises:
            TypeError: a callback's state contains more than values and arrays.
            ValueError: the model holds NaN or infinity, so training could not continue from it.
            OSError: the file cannot be written; an existing file is unchanged.
        """
        model = self.model
        sums = self.meter.sums() if self.batch else None
        if sums is not None and not math.isfinite(sums[0]):
            return  # the loss is NaN or infinite, with TerminateOnNaN: training could not continue
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "stopped": bool(model.stop_training),
            "sums": sums,
            "history": {"epoch": self.history.epoch, "history": self.history.history},
            "iterations": model.optimizer.iterations,
            "learning_rate": model.optimizer.get_config().get("learning_rate"),
            "trainability": model.trainability,
            "rng": model.rng.bit_generator.state,
            "before_order": self.before_order,
            "noises": [source.rng.bit_generator.state for source in model.dropout_masks],
            "layers": [{n: backend.host(a) for n, a in layer.extra_state().items()} for layer in model.layers],
            "callbacks": [[type(callback).__name__, callback.get_state()] for callback in self.callbacks],
        }
        arrays = archive.finite_arrays_of(model)
        description = {"settings": self.settings, "seed": model.seed, "run": _pack(state, arrays)}
        archive.write(path, _KIND, description, arrays)

    def resume(self, path: str | os.PathLike[str], epochs: int) -> None:
        """Continue the run from a checkpoint; on an error nothing has changed.

        Args:
            path: the checkpoint.
            epochs: the total number of epochs.

        Raises:
            FileNotFoundError: `path` is not a file.
            ValueError: it is damaged, or the checkpoint of another run; says what differs.
        """
        arrays = read_arrays(path, "checkpoint")
        try:
            description = archive.decode(arrays, _KIND)
            was, now = dict(description["settings"]), dict(self.settings)
            ran, runs = was.pop("computed by", None), now.pop("computed by")
            wired = {key: was["model"].get(key) for key in ("layers", "sources")}
            as_now = not archive.difference(wired, now["model"])  # so it is in Keras' order
            orders = None if as_now else archive.into_keras_order(was["model"], arrays)
            if ran is not None and not archive.difference(was["model"], now["model"]):
                _require_same_code(ran, runs)  # first, because workers="auto" depends on it
            pairs = (was, now), (now | {"model": {}}, was), (_loss_weights(was), _loss_weights(now))
            if difference := next(filter(None, (archive.difference(*pair) for pair in pairs)), ""):
                raise ValueError(f"it is the checkpoint of another run: {difference}")
            seed = description.get("seed")  # None: random, or from a version that did not record it
            if None not in (seed, self.model.seed) and seed != self.model.seed:
                raise ValueError(f"it is of another run: seed was {seed!r:.80}, and is {self.model.seed} now")
            state = _unpack(description["run"], arrays)
            if orders is not None:
                self._reorder(state, *orders)
            self._take_up(state, arrays, epochs)
        except Exception as error:  # whatever a crafted description causes
            raise ValueError(f"the run cannot be resumed from {str(path)!r}: {archive.reason(error)}") from error
        if ran is None and (parts := [name for name, code in runs if code == "compiled"]):
            warn(
                f"{str(path)!r} was written before loops were compiled. From now on, {', '.join(parts)} run compiled, "
                f"and the last digits differ from those of NumPy. To continue as before, set {compiled.OFF}=1"
            )

    def _reorder(self, state: dict[str, Any], of_layers: list[int], of_params: list[int]) -> None:
        """Put everything an older version's file has by layer and parameter into today's order."""
        counts = [len(self.model.layers[of_layers.index(old)].dropout_masks) for old in range(len(of_layers))]
        state["noises"] = archive.reordered(state["noises"], archive.parts_order(of_layers, counts))
        state["layers"] = archive.reordered(state["layers"], of_layers)
        for _, of_callback in state["callbacks"]:
            if isinstance(of_callback, dict) and of_callback.get("best_weights") is not None:  # from EarlyStopping
                of_callback["best_weights"] = archive.reordered(of_callback["best_weights"], of_params)

    def _take_up(self, state: dict[str, Any], arrays: dict[str, np.ndarray], epochs: int) -> None:
        """Continue from this state, once nothing in it can fail any more."""
        model, optimizer, batches = self.model, self.model.optimizer, len(self.batches)
        first = self.settings["initial_epoch"]
        epoch, batch = whole_number("epoch", state["epoch"], first), whole_number("batch", state["batch"])
        if epoch > epochs or (epoch == epochs and batch) or batch > batches:
            raise ValueError(f"it is in epoch {epoch + 1} after batch {batch}, beyond {epochs} epochs of {batches}")
        of_layers = [archive.like(f"layer{n}", layer.params, arrays) for n, layer in enumerate(model.layers)]
        iterations, slots = archive.optimizer_state(model, state["iterations"], arrays)
        archive.require_no_more(arrays)
        saved_states = [state["rng"], *state["noises"]]
        generators = [_generator(*pair) for pair in zip(model.generators, saved_states, strict=True)]
        _generator(model.rng, state["before_order"])
        sums = self._checked_sums(state["sums"], batch) if batch else None
        history = _require_history(state["history"], range(first, epoch))
        if not isinstance(stopped := state["stopped"], bool):
            raise ValueError(f"stopped is {stopped!r}")
        if not stopped and iterations < epoch - first + batch:  # an epoch may end early, but not without any batch
            raise ValueError(f"it counts only {iterations} optimizer steps in epoch {epoch + 1} after batch {batch}")
        own = [type(callback).__name__ for callback in self.callbacks]
        if own != (theirs := [name for name, _ in state["callbacks"]]):
            raise ValueError(f"its callbacks were {theirs or 'none'}, and are {own or 'none'} now")
        rate, own_rate = state["learning_rate"], optimizer.get_config().get("learning_rate")  # or None with a schedule
        learning_rate = None if rate == own_rate else number("learning_rate", rate, above=0)
        layers = [dict(of_layer) for of_layer in state["layers"]]
        trainability = state.get("trainability", model.trainability)  # missing in files of older versions
        if len(layers) != len(model.layers) or len(trainability) != len(model.trainability):
            raise ValueError("it has the states of other layers")
        trainability = [flag("trainable", trainable) for trainable in trainability]

        params = [backend.to(model.backend, array) for saved in of_layers for array in saved.values()]
        slots = [{n: backend.to(model.backend, a) for n, a in of_param.items()} for of_param in slots]
        State(layers, params, slots, generators, iterations, learning_rate, trainability).put_into(model)
        self.history.epoch, self.history.history = history
        model.stop_training, self._finished = stopped, stopped and not batch
        self.epoch, self.batch = epoch, batches if stopped and batch else batch
        self.before_order, self._sums = state["before_order"], sums
        self._callback_states = [saved for _, saved in state["callbacks"]]

    def _checked_sums(self, saved: Any, batch: int) -> Any:
        """The sums of loss and metrics after this many batches, checked to be addable to those of the next."""
        model = self.model
        loss_sum, count, of_metrics = saved
        number("the sum of the losses", loss_sum)
        samples = self.batches[batch - 1][1]
        if type(count) is not int or count != samples:
            raise ValueError(f"its sums are of {count!r} samples, not of {samples}")
        examples: dict[str, Any] = {}
        columns = model.targets, model.by_output(self.data.y), output_shapes(model, self.data), model.network.dtypes
        for target, y, shape, dtype in zip(*columns, strict=True):
            y_true: Any = None if y is None else np.zeros((1, *y.shape[1:]), y.dtype)
            y_pred = np.zeros((1, *shape), dtype)
            for name, metric in target.measured.items():
                with suppress(Exception):  # a user's metric may not accept labels that are all 0
                    of_loss = isinstance(metric, LossMean)
                    examples[name] = np.zeros(2) if of_loss else np.asarray(metric.measure(y_true, y_pred))
        for name, of_metric in zip(model.measured, map(np.asarray, of_metrics), strict=True):
            expected = examples.get(name, of_metric)
            if (of_metric.shape, of_metric.dtype.kind) != (expected.shape, expected.dtype.kind):
                raise ValueError(f"its sums for {name} are {of_metric.dtype} {of_metric.shape}")
            if not np.isfinite(of_metric).all():
                raise ValueError(f"its sums for {name} are not all finite")
        return saved


def fingerprint(data: Data) -> dict[str, Any]:
    """Shape, dtype and CRC-32 of each array, to recognize the data by."""
    return {"weight": None} | {
        name: {"shape": array.shape, "dtype": array.dtype.str, "checksum": zlib.crc32(np.ascontiguousarray(array).data)}
        for name, array in data.named().items()
    }


def computed_by(model: Compiled) -> list[tuple[str, str]]:
    """What computes each recurrent layer, and an embedding's sums by id: the last digits depend on it."""
    kind = "cuda" if model.backend == "cupy" else "numpy" if compiled.missing() else "compiled"
    sums = any(isinstance(layer, Embedding) for layer in model.network.with_inner())
    return [*what_runs(model.network), *([("the sum by id", kind)] if sums else [])]


def _require_same_code(was: Any, now: Any) -> None:
    """Raise an error if the model is computed by different code than before; both arguments are from `computed_by`.

    Moving between the CPU and a GPU is allowed.

    Raises:
        ValueError: naming the first such part, and what to do.
    """
    for (name, before), (_, here) in zip(was, now, strict=True):
        if before == here or "cuda" in (before, here):
            continue
        todo = compiled.remedy(compiled.missing()) if here == "numpy" else f"on this machine, set {compiled.OFF}=1"
        raise ValueError(f"{name} ran {_CODE[before]}, and runs {_CODE[here]} now, so the last digits differ: {todo}")


def _loss_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The loss weights, which are only recorded if one is not 1."""
    return {"loss_weights": settings["model"]["compiled"].get("loss_weights")}


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON; its arrays go into `arrays`, and are replaced by their names there."""
    if isinstance(value, np.ndarray):
        name = f"state{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a checkpoint cannot hold a dict with the key {key!r}: keys must be strings")
        return {"dict": {key: _pack(item, arrays) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [_pack(item, arrays) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds numbers, strings, lists, dicts and arrays; {value!r} is none of these")


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Undo `_pack`; the arrays are removed from `arrays`."""
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        return arrays.pop(content) if kind == "array" else {k: _unpack(v, arrays) for k, v in content.items()}
    return [_unpack(item, arrays) for item in value] if isinstance(value, list) else value


def _generator(rng: np.random.Generator, state: Any) -> Any:
    """A generator's state, verified by a generator of the same kind as `rng`."""
    twin = copy.deepcopy(rng.bit_generator)
    twin.state = state
    return twin.state


def _require_history(history: Any, done: range) -> tuple[list[int], dict[str, list[Any]]]:
    epochs, values = history["epoch"], history["history"]
    if epochs != list(done) or not all(type(epoch) is int for epoch in epochs):
        raise ValueError(f"its history does not list the epochs done so far ({len(done)})")
    lists = isinstance(values, dict) and all(isinstance(v, list) and _is_value(v) for v in values.values())
    if not lists or max(map(len, values.values()), default=0) > len(done) or len(values.get("loss", done)) < len(done):
        raise ValueError("its history is not made of lists of numbers, one for each epoch")
    return epochs, values


def _is_value(value: Any) -> bool:
    """Whether this is a number, or a list of numbers from a metric with several values."""
    if isinstance(value, list):
        return all(_is_value(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)
