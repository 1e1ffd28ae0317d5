"""Train one model with several processes on one machine.

Python threads would compete for the interpreter, so the work is split between processes. Parameters, optimizer state,
gradients and data are in shared memory. A batch is split by rows, and so is each parameter: a worker sums the gradients
of its rows and updates them. What each worker computes is in `worker`.

The calling process is worker 0. It sends each command through a pipe and reads the answer from it. A pipe reports at
once when the process at its other end dies, so neither side outlives the other; and the shared memory has no name, so
nothing remains after the last process ends, however it ends.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from multiprocessing.heap import Arena
from typing import Any

import numpy as np

from scratchlstm._support import registry
from scratchlstm._support.console import warn
from scratchlstm._support.threads import one_blas_thread
from scratchlstm.rows import Gradient, RowGradient
from scratchlstm.training import archive, steps
from scratchlstm.training.compiled import Compiled, Totals
from scratchlstm.training.data import Data
from scratchlstm.training.steps import PLAIN, StepOptions
from scratchlstm.training.worker import (
    Gradients,
    Worker,
    Workers,
    block,
    portable,
    row_sparse,
    share,
    summed,
    unsplittable,
)

Layout = dict[str, tuple[int, tuple[int, ...], np.dtype]]  # name -> (offset in bytes, shape, dtype)

_CACHE_LINE = 64
_PATIENCE = 10.0  # seconds without an answer before we report whom we are waiting for
_MAIN = threading.Lock()  # held while another module replaces __main__


class CannotStart(RuntimeError):
    """Other processes are not possible, so one has to do."""


@contextmanager
def team_or_alone(
    model: Compiled, workers: int, *arguments: Any, recorded: bool = False, **options: Any
) -> Iterator["Team | None"]:
    """A `Team`, or None if this process does the work alone, with a warning if other processes are not possible.

    Args:
        recorded: whether a checkpoint states the number of workers. Then the run must not depend on what happens to
            start: only a stateful model, which can never be split, is trained alone.

    Raises:
        steps.WorkerError: recorded, and the processes do not start.
        ValueError: recorded, and the model has parts unknown to other processes.
    """
    with ExitStack() as stack:
        team, reason = None, _unknown_parts(model)
        if reason and recorded:
            raise ValueError(f"a run with a checkpoint cannot have workers={workers}, as {reason}: use workers=1")
        reason = reason or unsplittable(model)
        if not reason:
            try:
                team = stack.enter_context(Team(model, workers, *arguments, **options))
            except CannotStart as error:
                if recorded:
                    stated = f"The checkpoint of this run states workers={workers}"
                    why = "a single process would give different last digits, so nothing was trained"
                    todo = f"{stated}, and {why}. Try again, or start a new run with workers=1"
                    raise steps.WorkerError(f"workers={workers} is not possible: {error}. {todo}") from error
                reason = str(error)
        if reason:
            warn(f"workers={workers} is not possible: {reason}. One process does the work")
        yield team


def _unknown_parts(model: Compiled) -> str:
    """The parts of the model that another process could not create; "" if there are none."""
    own = dict.fromkeys(name for name, _ in registry.foreign(archive.describe(model)))
    return f"other processes do not know {', '.join(own)}, which is not part of scratchlstm" if own else ""


class SharedArrays:
    """Named arrays in one block of memory that can be passed to a process being started.

    Raises:
        OSError: not enough memory to share.
    """

    def __init__(self, shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self.layout: Layout = {}
        size = 0
        for name, (shape, dtype) in shapes.items():
            self.layout[name] = size, shape, np.dtype(dtype)
            size += -(-math.prod(shape) * np.dtype(dtype).itemsize // _CACHE_LINE) * _CACHE_LINE
        self.memory = Arena(max(size, 1))
        if hasattr(os, "posix_fallocate"):  # its file is sparse: writing to it without space left raises SIGBUS
            os.posix_fallocate(self.memory.fd, 0, self.memory.size)

    def __contains__(self, name: str) -> bool:
        return name in self.layout

    def __getitem__(self, name: str) -> np.ndarray:
        offset, shape, dtype = self.layout[name]
        return np.frombuffer(self.memory.buffer, dtype, math.prod(shape), offset).reshape(shape)


class SharedGradients:
    """The exchange between workers with shared memory: each writes to its own buffers, which all can read.

    Args:
        rank: the number of this worker, from 0.
        workers: number of workers.
        params: the parameters.
        shared: the arrays of `_gradient_shapes`, for every worker.
    """

    def __init__(self, rank: int, workers: int, params: Sequence[np.ndarray], shared: SharedArrays) -> None:
        self.rank, self.workers, self.params, self.shared = rank, workers, params, shared

    def publish(self, grads: Gradients) -> None:
        """Copy the gradients to this worker's buffers."""
        self.trained = list(grads)
        for number, g in grads.items():
            where = f"gradient{self.rank}/{number}"
            if f"{where}/ids" not in self.shared:
                self.shared[where][...] = 0 if g is None else g
            elif isinstance(g, RowGradient):
                self.shared[f"{where}/count"][0] = len(g.ids)
                self.shared[f"{where}/ids"][: len(g.ids)] = g.ids
                self.shared[f"{where}/values"][: len(g.ids)] = g.values
            else:
                self.shared[f"{where}/count"][0] = 0

    def merge(self) -> dict[int, Gradient]:
        """Sum the published gradients of all workers, for this worker's rows."""
        return {number: self._merge(number) for number in self.trained}

    def updates(self, rows: int) -> tuple[int, int]:
        """This worker's share of the rows: the others update theirs, in the same arrays."""
        return share(rows, self.rank, self.workers)

    def _merge(self, number: int) -> Gradient:
        param = self.params[number]
        rows = self.updates(len(np.atleast_1d(param)))
        places = [f"gradient{rank}/{number}" for rank in range(self.workers)]
        return summed([block(self._read(place, param.shape), *rows) for place in places])

    def _read(self, place: str, shape: Any) -> Gradient:
        if f"{place}/ids" not in self.shared:
            return self.shared[place]
        count = self.shared[f"{place}/count"][0]
        return RowGradient(self.shared[f"{place}/ids"][:count], self.shared[f"{place}/values"][:count], shape)


class SharedWorker(Worker):
    """A worker that finds parameters, state, gradients and data in memory shared by all workers."""

    def __init__(self, rank: int, workers: int, model: Compiled, shared: SharedArrays, options: StepOptions) -> None:
        self.shared = shared
        if "order" in shared and not model.optimizer.state:  # the team is going to train
            model.optimizer.build(model.params)  # slots may be empty, as in plain SGD
        archive.put_in(model, shared)
        data = [Data.of(shared, model.network, prefix) for prefix in ("", "validation_")]
        super().__init__(rank, workers, model, SharedGradients(rank, workers, model.params, shared), options, *data)
        if "order" in shared:
            self.order = shared["order"]

    def predict(self, start: int, stop: int) -> None:
        """Write the outputs for these samples to shared memory."""
        for number, y in enumerate(super().predict(start, stop)):
            self.shared[f"output{number}"][start:stop] = y


class Team(Workers):
    """Worker 0, in this process, and the other workers, each in its own process; used in a `with` block.

    Args:
        model: built. Inside the block its parameters are the shared ones; afterwards they are its own again, with the
            latest values.
        workers: number of processes, including this one.
        data: arrays named as by `Data.named`, those for validation prefixed with `validation_`.
        options: see `StepOptions`.
        batch_size: the training batch size; 0 if nothing will be trained.
        outputs: the shape of each output of `predict`, if it will be called.

    Raises:
        CannotStart: not enough memory to share, or a process does not start.
        steps.WorkerError: a worker died later.
    """

    def __init__(
        self,
        model: Compiled,
        workers: int,
        data: Mapping[str, np.ndarray],
        options: StepOptions = PLAIN,
        batch_size: int = 0,
        outputs: Any = (),
    ) -> None:
        self.model, self.workers, self.trains, self.options = model, workers, batch_size > 0, options
        self.outputs = len(outputs)
        # regardless of the program's start method: a fork would copy locks held by other threads
        self.context = multiprocessing.get_context("spawn")
        if self.trains and not model.optimizer.state:
            model.optimizer.build(model.params)
        self.own = {name: a for name, a in archive.arrays_of(model).items() if self.trains or name.startswith("layer")}
        arrays = {**self.own, **data}
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {name: (a.shape, a.dtype) for name, a in arrays.items()}
        if self.trains:
            shapes["order"] = (len(next(iter(data.values()))),), np.int64
            positions = sum(math.prod(x.shape[1:]) for name, x in data.items() if name.startswith("x"))
            for rank in range(workers):
                shapes |= _gradient_shapes(model, rank, -(-batch_size // workers) * positions)
        for number, (shape, dtype) in enumerate(zip(outputs, model.network.dtypes, strict=False)):
            shapes[f"output{number}"] = shape, dtype
        try:
            self.shared = SharedArrays(shapes)
        except (OSError, MemoryError) as error:
            raise CannotStart(f"no memory to share between processes ({error})") from error
        for name, array in arrays.items():
            self.shared[name][...] = array

    def __enter__(self) -> "Team":
        with ExitStack() as stack:
            stack.callback(self._stop)
            self.patient = True  # whether we have not yet reported a long wait
            self.pipes: list[Any] = []
            self.starting: set[Any] = set()  # pipes of workers that have not reported ready yet
            self.processes: list[Any] = []
            stack.enter_context(one_blas_thread())
            try:
                self._start()
                if self.trains:
                    self._answers()  # each reports that it is ready
                    self.starting.clear()
            except (OSError, RuntimeError, AssertionError) as error:
                raise CannotStart(f"no other process can be started ({error})") from error
            self.worker = SharedWorker(0, self.workers, self.model, self.shared, self.options)
            self.stack = stack.pop_all()
        return self

    def _start(self) -> None:
        description = archive.describe(self.model)
        if description["compiled"] and not self.trains:
            description["compiled"]["iterations"] = 0  # without the state that belongs to them
        states = [source.rng.bit_generator.state for source in self.model.dropout_masks]
        with _main_left_alone(), _interrupt_ignored():
            for rank in range(1, self.workers):
                ours, theirs = self.context.Pipe()
                self.pipes.append(ours)
                self.starting.add(ours)
                args = rank, self.workers, theirs, description, states, self.shared, self.options
                process = self.context.Process(target=_serve, args=args, name=f"scratchlstm worker {rank}", daemon=True)
                process.start()
                self.processes.append(process)
                theirs.close()

    def __exit__(self, *error: Any) -> None:
        self.stack.close()

    def _stop(self) -> None:
        with _interrupt_ignored():  # a second Ctrl-C would leave processes running and the model half in shared memory
            for pipe in self.pipes:
                pipe.close()  # ends a worker that waits for a command
            for process, pipe in zip(self.processes, self.pipes, strict=False):
                process.join(timeout=0 if pipe in self.starting else 1)
                process.kill()  # does nothing if it has ended
                process.join()
            for name, array in self.own.items():
                array[...] = self.shared[name]
            archive.put_in(self.model, self.own)

    # --- used by fit, evaluate and predict -------------------------------------------------------------------

    def begin_epoch(self, order: np.ndarray) -> None:
        """Set the order of samples."""
        self.shared["order"][...] = order

    def evaluate(self, spans: Sequence[tuple[int, int]], done: Callable[[], None]) -> list[tuple[float, Totals]]:
        """The mean loss and the metrics of each span of the validation samples.

        Args:
            spans: (start, stop) pairs.
            done: called after each.
        """
        return self._share_out("evaluate", spans, done)

    def predict(self, spans: Sequence[tuple[int, int]], done: Callable[[], None]) -> list[np.ndarray]:
        """The outputs for x, one after another; takes the arguments of `evaluate`."""
        self._share_out("predict", spans, done)
        return [self.shared[f"output{number}"].copy() for number in range(self.outputs)]

    def _share_out(self, command: str, spans: Sequence[tuple[int, int]], done: Callable[[], None]) -> list[Any]:
        """Each span is done by whoever is free; returns the results in the order of the spans.

        This process begins while others are still starting. Each of them has a second span queued, so that it need not
        wait for this process to finish one.
        """
        results: list[Any] = [None] * len(spans)
        todo = iter(range(len(spans)))
        given: dict[Any, deque[int]] = {pipe: deque() for pipe in self.pipes}

        def hand_out(pipe: Any) -> None:
            while len(given[pipe]) < 2 and (number := next(todo, None)) is not None:
                given[pipe].append(number)
                self._send(pipe, command, spans[number])

        def take_in(pipe: Any) -> None:
            if pipe in self.starting:
                try:
                    self._opened(pipe, self._receive(pipe))  # it reports that it is ready
                except steps.WorkerError as death:
                    warn(f"{death} while starting; the others do its work")
                    del given[pipe]
                    return
                self.starting.discard(pipe)
            else:
                results[given[pipe].popleft()] = self._opened(pipe, self._receive(pipe))
                done()
            hand_out(pipe)

        for pipe in self.pipes:
            if pipe not in self.starting:
                hand_out(pipe)
        while (number := next(todo, None)) is not None:
            results[number] = getattr(self.worker, command)(*spans[number])
            done()
            for pipe in wait(list(given), timeout=0):
                take_in(pipe)
        while busy := [pipe for pipe, numbers in given.items() if numbers]:
            for pipe in self._ready(busy):
                take_in(pipe)
        return results

    def _all(self, command: str, *arguments: Any) -> list[Any]:
        """Let every worker run a command; returns their results, in order."""
        for pipe in self.pipes:
            self._send(pipe, command, arguments)
        try:
            result = getattr(self.worker, command)(*arguments)
        except Exception:
            for pipe in self.pipes:
                self._receive(pipe)  # or it would be mistaken for the answer to the next command
            raise
        return [result, *self._answers()]

    def _update(self, iterations: int, learning_rate: float, factors: list[float] | None) -> None:
        self._all("update", iterations, learning_rate, factors)

    def _answers(self) -> list[Any]:
        answers = [self._receive(pipe) for pipe in self.pipes]  # read all of them before raising an error from one
        return [self._opened(pipe, answer) for pipe, answer in zip(self.pipes, answers, strict=True)]

    def _send(self, pipe: Any, command: str, arguments: tuple[Any, ...]) -> None:
        try:
            pipe.send((command, arguments))
        except OSError:
            raise self._death(pipe) from None

    def _ready(self, pipes: list[Any]) -> list[Any]:
        """The pipes that have an answer or have lost their worker; waits until there is one."""
        if self.patient and not (ready := wait(pipes, timeout=_PATIENCE)):
            self.patient = False
            who, why = " and ".join(map(self._named, pipes)), "(slow, or stopped by a signal?)"
            warn(f"{who} did not answer for {_PATIENCE:g} s {why}. Still waiting; Ctrl-C ends it")
        return ready if self.patient else wait(pipes)

    def _receive(self, pipe: Any) -> Any:
        try:
            self._ready([pipe])
            return pipe.recv()
        except (EOFError, OSError):
            raise self._death(pipe) from None

    def _opened(self, pipe: Any, answer: tuple[Exception | None, Any]) -> Any:
        """The result in an answer; raises its error, if any."""
        error, result = answer
        if error is not None:
            raise error from steps.WorkerError(f"in {self._named(pipe)}:\n{result}")
        return result

    def _named(self, pipe: Any) -> str:
        rank = self.pipes.index(pipe) + 1
        return f"worker {rank} of {self.workers} (process {self.processes[rank - 1].pid})"

    def _death(self, pipe: Any) -> steps.WorkerError:
        rank = self.pipes.index(pipe) + 1
        process = self.processes[rank - 1]
        process.join(timeout=1)
        code = process.exitcode
        how = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return steps.WorkerError(f"worker {rank} of {self.workers} died ({how})")


def _serve(
    rank: int,
    workers: int,
    pipe: Any,
    description: dict[str, Any],
    states: list[Any],
    shared: SharedArrays,
    options: StepOptions,
) -> None:
    """Run a worker process: build the model, then answer commands until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; worker 0 ends the others
    with one_blas_thread():
        worker: SharedWorker | None = None
        command, arguments = "", ()
        while True:
            try:
                if worker is None:
                    result: Any = None
                    worker = SharedWorker(rank, workers, _twin(description, states, shared), shared, options)
                else:
                    result = getattr(worker, command)(*arguments)
                answer: tuple[Any, Any] = None, result
            except Exception as error:
                answer = portable(error), traceback.format_exc()
            try:
                pipe.send(answer)
                command, arguments = pipe.recv()
            except (EOFError, OSError):
                return  # worker 0 is done or dead


def _twin(description: dict[str, Any], states: list[Any], shared: SharedArrays) -> Compiled:
    """A copy of worker 0's model."""
    names = [name for name in shared.layout if name.startswith(("layer", "optimizer"))]
    model = archive.rebuild(Compiled, description, {name: shared[name] for name in names})
    for source, state in zip(model.dropout_masks, states, strict=True):
        source.rng.bit_generator.state = state
    return model


def _gradient_shapes(model: Compiled, rank: int, positions: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Room for one worker's gradients; an embedding's has at most as many rows as its part of a batch has ids."""
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
    places = row_sparse(model)
    for number, param in enumerate(model.params):
        where = f"gradient{rank}/{number}"
        if number in places:
            rows = min(len(param), positions * places[number])
            shapes[f"{where}/count"] = (1,), np.int64
            shapes[f"{where}/ids"] = (rows,), np.int64
            shapes[f"{where}/values"] = (rows, param.shape[1]), param.dtype
        else:
            shapes[where] = param.shape, param.dtype
    return shapes


@contextmanager
def _interrupt_ignored() -> Iterator[None]:
    """Processes started in this context ignore Ctrl-C from their first moment on."""
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # only the main thread may set it
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            stack.callback(signal.signal, signal.SIGINT, before)
        yield


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Processes started in this context do not run the user's script again, as they would without a __main__ guard.

    A worker needs nothing from there: it receives everything it needs.
    """
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
