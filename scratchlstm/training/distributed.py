"""MPI ranks share each batch: the arithmetic of `worker`, with messages instead of shared memory.

Every rank runs the user's whole script, holds all data, draws the same order, and computes its rows of each batch.
The results are packed into one message for each receiver:

    three workers or more    each rank gets, from every gradient, the rows it owns, and adds them up in the order of
                             the ranks; then all ranks get all sums
    two                      each sends everything to the other, and both add up: as few bytes, in half the messages

The sums are those of `parallel`, in the same order, so P ranks end with the same bits as `workers=P`. (`Allreduce`
would add up in an order of the library's own.) Of an embedding's gradient, only rows that occur in the batch are sent.
Then every rank updates all parameters, which stay the same everywhere.

Callbacks run only on rank 0, which tells the others what they changed.
"""

import functools
import math
import pickle
import platform
import re
import socket
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from mpi4py import MPI

from scratchlstm import backend
from scratchlstm._support import compiled, ranks
from scratchlstm._support.console import warn
from scratchlstm._support.files import forget, written_alone
from scratchlstm._support.threads import one_blas_thread, set_by_environment
from scratchlstm.layers.rnn import all_compiled
from scratchlstm.optimizers import Optimizer
from scratchlstm.rows import Gradient, RowGradient
from scratchlstm.training import archive, steps
from scratchlstm.training.compiled import Compiled, Totals
from scratchlstm.training.crew import Crew
from scratchlstm.training.data import Data
from scratchlstm.training.run import State, fingerprint
from scratchlstm.training.worker import (
    Gradients,
    Worker,
    Workers,
    block,
    is_portable,
    portable,
    row_sparse,
    share,
    summed,
    unsplittable,
)

_ALIGNED = 8  # bytes: alignment of arrays in a message
_PAUSE = 0.005  # seconds: a tolerable delay for calls of fit, which ranks reach at different times
_VALUES = 1  # the tag of messages other than gradients
_NOTHING = np.empty(0, np.uint8)  # a message to or from a rank without rows


class Ranks(Crew):
    """All ranks of an MPI run, kept in step.

    Args:
        communicator: the communicator of all ranks.

    Attributes:
        rank: the rank of this process.
        mixed: whether the ranks have different processors, so that last digits may differ.
        stop: whether rank 0 has asked to stop training.
    """

    def __init__(self, communicator: Any) -> None:
        super().__init__(communicator.size)
        self.communicator, self.rank = communicator, communicator.rank
        self.first, self.mixed, self.stop = self.rank == 0, False, False

    # --- deciding together ----------------------------------------------------------------------------------------

    def require_same(self, call: str, model: Compiled, data: Mapping[str, Data | None], **options: Any) -> None:
        """Compare everything that determines the results, before anything is computed; see `Crew.require_same`.

        Without a seed, each rank has drawn its own weights: then all take the model of rank 0.

        Raises:
            RuntimeError: another rank calls something else, or its script has ended.
            ValueError: naming the first difference and the host where it is.
        """
        facts = {**_versions(), **options, "model": _described(model), "seed": model.seed}
        facts |= {name: each and fingerprint(each) for name, each in data.items()}
        if model.seed is not None:
            facts["state"] = _checksums(model, thorough=call == "fit")
        self.meet(call, facts)
        if model.seed is None:
            self._be_as_first(model)

    def _be_as_first(self, model: Compiled) -> None:
        """Give all ranks what rank 0 has drawn, and what it has learned since."""
        mine = _checksums(model)
        if all(theirs == mine for theirs in self.gather(mine, "compare the model")):
            return
        if model._compiled:
            self._from_first(State.of(model), "send the model").put_into(model)
            return
        params = self._from_first([backend.host(w) for w in model.params], "send the model")
        for w, of_first in zip(model.params, params, strict=True):
            w[...] = backend.to(model.backend, of_first)

    def meet(self, call: str, facts: Mapping[str, Any]) -> None:
        """Wait for all ranks, and raise an error unless all make the same call with the same facts."""
        mine = socket.gethostname(), call, _flat(facts), _processor()
        hosts, calls, every, processors = zip(*self.gather(mine, f"reach {call}", _PAUSE), strict=True)
        for rank, other in enumerate(calls):
            if other != calls[0]:
                raise RuntimeError(
                    f"rank 0 ({hosts[0]}) is at {calls[0]}, but rank {rank} ({hosts[rank]}) at {other}: every rank has "
                    f"to call fit, evaluate and predict; inside `if scratchlstm.mpi.first():`, call them with workers=1"
                )
        for rank, theirs in enumerate(every):
            for name in every[0] | theirs:
                one, other = (each.get(name, "missing") for each in (every[0], theirs))
                if one != other:
                    here, there = f"{one!r:.80} on rank 0 ({hosts[0]})", f"{other!r:.80} on rank {rank} ({hosts[rank]})"
                    raise ValueError(f"the ranks differ: {name} is {here}, but {there}{_advice(name)}")
        mixed, self.mixed = self.mixed, len(set(processors)) > 1
        if self.mixed and not mixed and self.first and facts:  # not again at the end of the script
            others = next(rank for rank, processor in enumerate(processors) if processor != processors[0])
            warn(
                f"the ranks have different processors: {hosts[0]} {processors[0]}, {hosts[others]} "
                f"{processors[others]}. The last digits can differ from those of workers={self.workers}"
            )

    def ask_first(self, decide: Callable[[], Any]) -> Any:
        """Rank 0's result, on all ranks; if it is an error, all ranks raise it."""
        found, error = self._tried(decide)
        told, found = self._from_first((error and portable(error), found), "meet after what rank 0 does alone")
        if told is not None:
            raise error or told
        return found

    def _tried(self, act: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """Rank 0's result or error while the other ranks are elsewhere; nothing on those."""
        try:
            with ranks.alone():
                return act() if self.first else None, None
        except BaseException as raised:
            return None, raised

    def stops(self, model: Compiled) -> bool:
        """Whether rank 0 wanted to stop when all ranks last communicated; a signal may set its flag at any time."""
        return self.stop

    def require_alike(self, model: Compiled) -> None:
        """Raise an error if the ranks' models have diverged; see `Crew.require_alike`.

        Raises:
            ValueError: naming the first difference and the host where it is.
        """
        if self.mixed:  # last digits may differ
            self.follow(model, lambda: None)
        self.meet("the end of an epoch", {"state": _checksums(model)})

    def follow(
        self,
        model: Compiled,
        act: Callable[[], Any],
        give: Callable[[], Any] = lambda: None,
        take: Callable[[Any], Any] = lambda given: None,
        thorough: bool = True,
    ) -> None:
        """Let rank 0 act alone, then bring all ranks to the same state, raising its error if any; see `Crew.follow`."""
        before = _checksums(model, thorough) if self.first else {}
        _, error = self._tried(act)
        changed = self.first and (self.mixed or _checksums(model, thorough) != before)
        state = State.of(model) if changed else None
        switches = model.stop_training, model.trainability, _options(model.optimizer)
        told = error and portable(error), state, switches, None if error else give(), written_alone()
        told_error, state, switches, given, written = self._from_first(told, "meet after the callbacks of rank 0")
        self.stop = switches[0]
        forget(written)
        if self.first:
            if error is not None:
                raise error
            return
        if state is not None:
            state.put_into(model)
        model.stop_training, model.trainability, options = switches
        vars(model.optimizer).update(options)
        if told_error is not None:
            raise told_error
        take(given)

    @contextmanager
    def team(
        self,
        model: Compiled,
        workers: int,
        data: Data | None,
        validation: Data | None,
        step_options: steps.StepOptions,
        **options: Any,
    ) -> Iterator[Any]:
        """All ranks, of which the first `workers` share each batch; None if there is only one.

        Raises:
            ValueError: batches of this model cannot be split.
        """
        if workers == 1:
            yield None
            return
        if reason := unsplittable(model):
            raise ValueError(f"workers={self.workers}, the ranks, is not possible: {reason}. Use workers=1")
        # results depend on the number of threads: NumPy's loops', and BLAS', which the environment sets
        alone = set_by_environment() or not all_compiled(model.network)
        with one_blas_thread(threads=1 if alone else ranks.threads):
            yield RankWorkers(self, workers, model, data, validation, step_options)

    # --- messages -------------------------------------------------------------------------------------------------

    def gather(self, value: Any, awaited: str, pause: float = 0.0) -> list[Any]:
        """Every rank's value, in the order of the ranks; the other arguments are those of `to_each`."""
        message = np.frombuffer(pickle.dumps((awaited, value)), np.uint8)
        places, values = zip(
            *(pickle.loads(came.data) for came in self.to_all(message, awaited, pause, _VALUES)), strict=True
        )
        for rank, place in enumerate(places):
            if place.partition(" ")[0] != awaited.partition(" ")[0]:
                raise RuntimeError(f"rank {self.rank} is about to {awaited}, but rank {rank} to {place}")
        return list(values)

    def _from_first(self, value: Any, awaited: str) -> Any:
        return self.gather(value if self.first else None, awaited)[0]

    def to_each(
        self, messages: Sequence[np.ndarray], awaited: str, pause: float = 0.0, tag: int = 0
    ) -> list[np.ndarray]:
        """Send each rank its message; returns the received messages in the order of the ranks.

        Args:
            messages: the bytes for each rank.
            awaited: what another rank has to do first, to report if it takes long.
            pause: seconds between checks for a message; 0 checks constantly.
            tag: the tag of the messages; others are not received.
        """
        others = [(self.rank + distance) % self.workers for distance in range(1, self.workers)]
        came, status = list(messages), MPI.Status()
        sending = [self.communicator.Isend([messages[rank], MPI.BYTE], rank, tag) for rank in others]
        for rank in others:
            with ranks.waiting(f"rank {rank} to {awaited}"):
                while (pause or ranks.crowded) and not self.communicator.Iprobe(rank, tag):
                    time.sleep(pause)  # even 0 lets other processes have the core
                found = self.communicator.Mprobe(rank, tag, status=status)  # gives the size
                came[rank] = np.empty(status.Get_count(MPI.BYTE), np.uint8)
                found.Recv([came[rank], MPI.BYTE])
        with ranks.waiting(f"others to receive what they need to {awaited}"):
            MPI.Request.Waitall(sending)
        return came

    def to_all(self, message: np.ndarray, awaited: str, pause: float = 0.0, tag: int = 0) -> list[np.ndarray]:
        """`to_each`, with the same message for all ranks."""
        return self.to_each([message] * self.workers, awaited, pause, tag)


class RankGradients:
    """The exchange between ranks; `merge` sends the messages.

    Args:
        crew: all ranks.
        workers: number of ranks, from 0, that have rows of a batch.
        model: this rank's model.
    """

    def __init__(self, crew: Ranks, workers: int, model: Compiled) -> None:
        self.crew, self.workers, self.works = crew, workers, crew.rank < workers
        self.sparse = row_sparse(model)
        self.params = model.params
        self.awaited = ""

    def publish(self, grads: Gradients) -> None:
        """Keep the gradients, on the CPU, until every rank has its own."""
        self.own = {number: self._on_cpu(number, g) for number, g in grads.items()}

    def merge(self) -> dict[int, Gradient]:
        """The summed gradients, with all rows."""
        if self.workers == 2:
            messages = self.crew.to_all(self._packed(self.own) if self.works else _NOTHING, self.awaited)
            return self._summed([self._unpacked(message, 0, 1) for message in messages[:2]])
        parts = [self._part(rank) for rank in range(self.crew.workers)]
        messages = self.crew.to_each(parts, self.awaited)
        sums = _NOTHING
        if self.works:
            came = [self._unpacked(message, self.crew.rank, self.workers) for message in messages[: self.workers]]
            sums = self._packed(self._summed(came))
        messages = self.crew.to_all(sums, self.awaited)
        blocks = [self._unpacked(message, rank, self.workers) for rank, message in enumerate(messages[: self.workers])]
        return {number: self._joined(number, [of_rank[number] for of_rank in blocks]) for number in self.own}

    def updates(self, rows: int) -> tuple[int, int]:
        """All rows: each rank has its own copy of the parameters."""
        return 0, rows

    def _on_cpu(self, number: int, g: Gradient | None) -> Gradient:
        """A gradient on the CPU in its parameter's dtype, with ids in ascending order; zero for None."""
        w = self.params[number]
        if g is None and number in self.sparse:
            return RowGradient(np.empty(0, np.int64), np.empty((0, w.shape[1]), w.dtype), w.shape)
        if g is None:
            return np.zeros(w.shape, w.dtype)
        if not isinstance(g, RowGradient):
            return backend.host(g, w.dtype)
        ids, values = backend.host(g.ids), backend.host(g.values, w.dtype)
        order = np.argsort(ids) if backend.is_cupy(g.values) else slice(None)
        return RowGradient(ids[order], values[order], g.shape)

    def _summed(self, of_ranks: Sequence[Mapping[int, Gradient]]) -> dict[int, Gradient]:
        return {number: summed([grads[number] for grads in of_ranks]) for number in self.own}

    def _joined(self, number: int, blocks: Sequence[Gradient]) -> Gradient:
        """A whole gradient, joined from each owner's rows."""
        if number in self.sparse:
            return summed(blocks)  # no two have a row in common
        return np.concatenate(blocks).reshape(self.params[number].shape)

    # --- what a message is made of --------------------------------------------------------------------------------

    def _part(self, rank: int) -> np.ndarray:
        """The message to the owner of these rows."""
        if not self.works or rank >= self.workers:
            return _NOTHING
        return self._packed({number: self._owned(number, g, rank) for number, g in self.own.items()})

    def _owned(self, number: int, g: Gradient, rank: int) -> Gradient:
        """The rows that this rank owns: a block of a dense gradient; every so many-th row of a row-sparse one, since
        frequent words have low ids, and a block with all of them would be most of the traffic.
        """
        if isinstance(g, RowGradient):
            own = g.ids % self.workers == rank
            return RowGradient(g.ids[own], g.values[own], g.shape)
        return block(g, *share(self._table(number)[0], rank, self.workers))

    def _table(self, number: int) -> tuple[int, ...]:
        """A parameter's shape; a scalar counts as one row."""
        return self.params[number].shape or (1,)

    def _packed(self, grads: Mapping[int, Gradient]) -> np.ndarray:
        """Gradients in one message: dense ones as they are, others as number of rows, ids and values."""
        arrays: list[np.ndarray] = []
        for g in grads.values():
            if isinstance(g, RowGradient):
                arrays += [np.array([len(g.ids)]), g.ids.astype(np.uint32), g.values]
            else:
                arrays.append(g)
        return np.concatenate([piece for array in arrays for piece in _bytes(array)])

    def _unpacked(self, message: np.ndarray, rank: int, owners: int) -> dict[int, Gradient]:
        """The gradients in a message, for the rows of one of `owners` owners."""
        offset = 0

        def take(dtype: Any, *shape: int) -> np.ndarray:
            nonlocal offset
            size = math.prod(shape) * np.dtype(dtype).itemsize
            array = message[offset : offset + size].view(dtype).reshape(shape)
            offset += size + -size % _ALIGNED
            return array

        grads: Gradients = {}
        for number in self.own:
            rows, *rest = self._table(number)
            dtype = self.params[number].dtype
            if number in self.sparse:
                count = int(take(np.int64, 1)[0])
                ids = take(np.uint32, count).astype(np.int64)
                grads[number] = RowGradient(ids, take(dtype, count, *rest), (rows, rest[0]))
            else:
                first, last = share(rows, rank, owners)
                grads[number] = take(dtype, last - first, *rest)
        return grads


class RankWorker(Worker):
    """This rank's share of the work."""

    def update(self, iterations: int, learning_rate: float, factors: list[float] | None) -> None:
        """Update all parameters; on a GPU as `steps.OneProcess` does, where the optimizer itself clips."""
        if self.model.backend == "numpy":
            super().update(iterations, learning_rate, factors)
            return
        merged = self.exchange.merge()
        grads = [self._there(merged.get(number)) for number in range(len(self.params))]
        self.model.optimizer.apply(self.params, grads)

    def _there(self, g: Gradient | None) -> Gradient | None:
        there = functools.partial(backend.to, self.model.backend)
        if isinstance(g, RowGradient):
            return RowGradient(there(g.ids), there(g.values), g.shape)
        return None if g is None else there(g)


class RankWorkers(Workers):
    """All ranks, as the training loop of each rank uses them.

    Args:
        crew: all ranks.
        workers: number of ranks that share each batch.
        model: this rank's model.
        data, validation: this rank's data, the same on all ranks.
        options: see `StepOptions`.
    """

    def __init__(
        self,
        crew: Ranks,
        workers: int,
        model: Compiled,
        data: Data | None,
        validation: Data | None,
        options: steps.StepOptions,
    ) -> None:
        self.crew, self.workers, self.model, self.epoch = crew, workers, model, 0
        if data is not None and data.y is not None and model.backend == "numpy" and not model.optimizer.state:
            model.optimizer.build(model.params)  # before a callback, as in a `Team`
        self.exchange = RankGradients(crew, workers, model)
        own = [steps.uploaded(each) if model.backend == "cupy" else each for each in (data, validation)]
        self.worker = RankWorker(crew.rank, workers, model, self.exchange, options, *own)

    def begin_epoch(self, order: np.ndarray) -> None:
        """Set the order of samples."""
        self.worker.order, self.epoch = order, self.epoch + 1

    def step(self, start: int, stop: int) -> tuple[float, Totals]:
        """Train on the batch `order[start:stop]`; like `OneProcess.step`."""
        self.exchange.awaited = f"compute its share of samples {start} to {stop} in epoch {self.epoch} of this fit"
        return super().step(start, stop)

    def require_finite(self) -> None:
        """Nothing to do: each step has checked."""

    def evaluate(self, spans: Sequence[tuple[int, int]], done: Callable[[], Any]) -> list[tuple[float, Totals]]:
        """The mean loss and the metrics of each span of the validation samples; see `OneProcess.evaluate`."""
        return self._share_out("evaluate", spans, done)

    def predict(self, spans: Sequence[tuple[int, int]], done: Callable[[], Any]) -> list[np.ndarray]:
        """The outputs for x, one after another; takes the arguments of `evaluate`."""
        return [np.concatenate(parts) for parts in zip(*self._share_out("predict", spans, done), strict=True)]

    def _share_out(self, command: str, spans: Sequence[tuple[int, int]], done: Callable[[], Any]) -> list[Any]:
        """Deal the spans out to the ranks in rounds; returns the results in the order of the spans."""
        results: list[Any] = []
        for begin in range(0, len(spans), self.crew.workers):
            turn = spans[begin : begin + self.crew.workers]
            awaited = f"{command} its share of samples {turn[0][0]} to {turn[-1][1]}"
            results += self._answers(command, turn[self.crew.rank : self.crew.rank + 1], awaited)[: len(turn)]
            for _ in turn:
                done()
        return results

    def _all(self, command: str, *arguments: Any) -> list[Any]:
        return self._answers(command, [arguments], self.exchange.awaited)[: self.workers]

    def _update(self, iterations: int, learning_rate: float, factors: list[float] | None) -> None:
        self.worker.update(iterations, learning_rate, factors)

    def _answers(self, command: str, calls: Sequence[tuple[Any, ...]], awaited: str) -> list[Any]:
        """The results of every rank's worker called with these arguments (or not at all); all ranks raise any error."""
        answer: tuple[Any, Any] = None, None
        try:
            for arguments in calls:
                answer = None, getattr(self.worker, command)(*arguments)
        except BaseException as raised:
            answer = portable(raised), f"{ranks.me()}:\n{traceback.format_exc()}"
        answers = self.crew.gather((*answer, self.model.stop_training), awaited)
        self.crew.stop = answers[0][2]
        for error, result, _ in answers:
            if error is not None:
                raise error from steps.WorkerError(result)
        return [result for _, result, _ in answers]


def _bytes(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array's bytes, padded so that the next array is aligned."""
    yield np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    yield np.zeros(-array.nbytes % _ALIGNED, np.uint8)


# --- what has to be the same on all ranks -----------------------------------------------------------------------------


@functools.cache
def _versions() -> dict[str, Any]:
    numba = compiled.version()  # may load another BLAS
    blas = {f"{library['internal_api']} {library['version']}" for library in _blas()}
    found = {
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Numba": numba,
        "scratchlstm": sys.modules["scratchlstm"].__version__,
    }
    return {f"the version of {name}": version for name, version in found.items()} | {"the BLAS": sorted(blas)}


def _blas() -> Iterable[dict[str, Any]]:
    return [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@functools.cache
def _processor() -> str:
    """What last digits depend on apart from the program: the processor, and what BLAS takes it for."""
    about = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", about.read_text()) if about.exists() else None
    kinds = sorted({str(library.get("architecture")) for library in _blas()})
    return f"{named[1] if named else platform.processor() or platform.machine()} ({', '.join(kinds)})"


def _options(optimizer: Optimizer) -> dict[str, Any]:
    """The settings of an optimizer that a callback may change, except its arrays."""
    own = {name: value for name, value in vars(optimizer).items() if name not in ("state", "owner", "trained")}
    return {name: value for name, value in own.items() if is_portable(value)}


def _described(model: Compiled) -> Any:
    """The model's settings; if parts cannot be described, the names of its layers."""
    try:
        description = archive.plain(archive.describe(model))
        (description["compiled"] or {}).pop("iterations", None)  # part of the state
        return description
    except Exception:
        return [f"{type(layer).__name__} {layer.name}" for layer in model.layers]


def _checksums(model: Compiled, thorough: bool = True) -> dict[str, Any]:
    """CRC-32 of each parameter and of everything else training changes; the optimizer's arrays only if `thorough`."""
    arrays = {name: a for name, a in archive.arrays_of(model).items() if thorough or name.startswith("layer")}
    sums: dict[str, Any] = {name: zlib.crc32(np.ascontiguousarray(a).data) for name, a in arrays.items()}
    for number, layer in enumerate(model.layers):
        states = {name: backend.host(a) for name, a in layer.extra_state().items()}
        sums |= {f"layer{number}/{name}": zlib.crc32(np.ascontiguousarray(a).data) for name, a in states.items()}
    sums["random state"] = zlib.crc32(repr([rng.bit_generator.state for rng in model.generators]).encode())
    sums["steps of the optimizer"] = model.optimizer.iterations if model._compiled else 0
    return sums


def _flat(facts: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts and lists as one dict, keyed by path."""
    items = facts.items() if isinstance(facts, Mapping) else enumerate(facts) if isinstance(facts, list | tuple) else ()
    if not items:
        return {name: facts}
    return {path: leaf for key, item in items for path, leaf in _flat(item, f"{name}/{key}".lstrip("/")).items()}


def _advice(name: str) -> str:
    """How to fix a difference of that name."""
    if name.startswith(("the version", "the BLAS")):
        return ": install the same version on all hosts"
    if "data" in name.partition("/")[0]:
        return ": all ranks need the same data; if it is random, use a seed"
    if name.startswith("state/"):
        return ": all ranks must do the same to a model; if only one is to do something, do it to a copy"
    return ""
