"""How many threads compute: one in BLAS, and a few Python threads that share large pieces of work.

A product in the recurrence takes microseconds. BLAS' own threads busy-wait for each other, which makes a training step
many times slower on a busy machine. So BLAS gets one thread while a layer or model computes, and the few large pieces
of a step (sums and products over all time steps, the optimizer) go through `spread`. Its threads sleep until there is
work, and work that a late thread has not begun is done by the others.

If the environment sets a number of BLAS threads (`OPENBLAS_NUM_THREADS`, ...), BLAS keeps it and nothing is spread.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ContextDecorator, suppress
from functools import cache, partial
from itertools import repeat
from queue import SimpleQueue
from typing import Any

import numpy as np

SETTINGS = (
    "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip
MOST = 4  # more Python threads than this would only wait for the interpreter
LARGE = 1 << 24  # multiplications, a quarter of a millisecond: less is not worth waking a thread

_lock = threading.RLock()  # the garbage collector may find an abandoned block at any moment
_inside: set[int] = set()  # the open `one_blas_thread` blocks, in all threads of the program
_before: list[int] = []  # the number of threads of each BLAS library outside them
_threads = 1  # number of threads that `spread` may use

_pool: list[threading.Thread] = []
_queue: "SimpleQueue[_Helper]" = SimpleQueue()
_helpers: "set[_Helper]" = set()  # what these threads were asked to do


class one_blas_thread(ContextDecorator):
    """In this context, products use one thread; the last block to end restores the previous setting.

    The outermost block's settings apply, in all threads of the program. A block that Ctrl-C removes before it could end
    ends when it is deleted.

    Args:
        sharing: let `spread` use as many threads as BLAS had. If the environment sets a number for BLAS
            (`OPENBLAS_NUM_THREADS`, ...), BLAS keeps it instead, and nothing is shared.
        threads: number of threads `spread` uses if not sharing.
    """

    def __init__(self, sharing: bool = False, threads: int = 1) -> None:
        self.sharing, self.threads, self.ended = sharing, threads, True

    def _recreate_cm(self) -> "one_blas_thread":
        return one_blas_thread(self.sharing, self.threads)  # each call of a decorated function is a separate block

    def __enter__(self) -> None:
        global _threads
        self.ended = False
        try:
            with _lock:
                outermost = not _inside
                _inside.add(id(self))
                if outermost and not (self.sharing and set_by_environment()):
                    _before[:] = _before or [library.get_num_threads() for library in _blas()]
                    _threads = max(_before, default=1) if self.sharing else self.threads
                    for library in _blas():
                        _set(library, 1)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        global _threads
        with _lock:  # all of this may safely run twice
            _inside.discard(id(self))
            if not _inside:
                for library, threads in zip(_blas(), _before, strict=False):
                    _set(library, threads)
                _before.clear()
                _threads = 1
        self.ended = True

    def __del__(self) -> None:
        if not self.ended:
            self.__exit__()


def set_by_environment() -> bool:
    """Whether the environment sets a number of BLAS threads."""
    return any(os.environ.get(name) for name in SETTINGS)


def _set(library: Any, threads: int) -> None:
    library.set_num_threads(threads)
    if hasattr(library, "clear_controlling_thread"):  # otherwise no other thread of the program could set it any more
        library.clear_controlling_thread()


def spread(tasks: Sequence[Callable[[], Any]], multiplications: int = LARGE, most: int = MOST) -> list[Any]:
    """Run all tasks, in any order, in several threads if they are `LARGE`; returns their results.

    Args:
        tasks: independent tasks, each of about 100 microseconds or more, spent mostly inside NumPy.
        multiplications: in all tasks together; below `LARGE` this thread does them alone.
        most: most threads to use. Up to one per task helps if the tasks are compiled and do not need the interpreter.
    """
    helping = 0 if multiplications < LARGE else min(threads(), most, len(tasks)) - 1
    if helping < 1:
        return [task() for task in tasks]
    todo, results = deque(enumerate(tasks)), [None] * len(tasks)

    def work() -> None:
        while True:
            try:
                number, task = todo.popleft()
            except IndexError:
                return
            results[number] = task()

    with suppress(RuntimeError):  # no thread can be started, e.g. when the interpreter is shutting down
        while len(_pool) < helping:
            thread = threading.Thread(target=_serve, args=(_queue,), name="scratchlstm", daemon=True)
            thread.start()
            _pool.append(thread)
    helpers = [_Helper(work) for _ in range(min(helping, len(_pool)))]
    _helpers.update(helpers)
    try:
        for helper in helpers:
            _queue.put(helper)
        work()
    finally:
        todo.clear()
        settle(helpers)
    if errors := [helper.error for helper in helpers if helper.error is not None]:
        raise errors[0]
    return results


class _Helper:
    """A request to another thread.

    The queue and locks are those written in C: Ctrl-C cannot interrupt them half way, as it can a future's.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.error: BaseException | None = None
        self.at_work = self.too_late = False
        self.lock, self.ended = threading.Lock(), threading.Lock()
        self.ended.acquire()  # until it has ended

    def run(self) -> None:
        with self.lock:
            if self.too_late:
                return
            self.at_work = True
        try:
            self.work()
        except BaseException as error:
            self.error = error
        self.at_work = False
        self.ended.release()

    def settle(self) -> None:
        """Wait for the work if it has begun; if not, it never will. May be interrupted and called again."""
        with self.lock:
            self.too_late = True
        while self.at_work:
            self.ended.acquire(timeout=0.05)


def _serve(queue: "SimpleQueue[_Helper]") -> None:
    while True:
        queue.get().run()


def settle(helpers: Iterable[_Helper] | None = None) -> None:
    """Wait until no thread works for `spread` any more: one may still, after Ctrl-C."""
    for helper in list(_helpers if helpers is None else helpers):
        helper.settle()
        _helpers.discard(helper)


def threads() -> int:
    """How many threads may compute here and now."""
    return _threads


def product(a: Any, b: Any, out: Any = None) -> Any:
    """a @ b; a large NumPy product is computed in parts, by `spread`.

    The parts do not depend on the number of threads: a product's last digits may depend on its number of rows.

    Args:
        a: (..., m, n).
        b: (n, p), or if a is (m, n), a stack (..., n, p).
        out: for the result, if a is (m, n) and b (n, p).
    """
    if not isinstance(a, np.ndarray):
        return a @ b
    if a.size // a.shape[-1] * b.size < LARGE:
        return np.matmul(a, b, out=out)
    if a.ndim > 2:
        return product(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], -1)
    if b.ndim == 2 and len(a) < b.shape[1]:
        return product(b.T, a.T, None if out is None else out.T).T
    if out is None:
        out = np.empty((*b.shape[:-2], len(a), b.shape[-1]), dtype=a.dtype)
    parts = zip(repeat(a), b, out) if b.ndim > 2 else zip(_cut(a), repeat(b), _cut(out))
    spread([partial(np.matmul, left, right, out=into) for left, right, into in parts])
    return out


def _cut(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, MOST)


@cache
def _blas() -> list[Any]:
    """The libraries that compute products: NumPy's, and any loaded later, see `include_new_blas`."""
    return _loaded_blas()


def _loaded_blas() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


def include_new_blas() -> None:
    """Also set the threads of a library loaded just now; SciPy brings its own."""
    with _lock:
        known = {library.filepath for library in _blas()}
        for library in _loaded_blas():
            if library.filepath not in known:
                _blas().append(library)
                if _before:  # a block is open
                    _before.append(library.get_num_threads())
                    _set(library, 1)


def _forget() -> None:
    """Start over in a forked process, which has no other threads but may have their locks."""
    global _lock, _queue, _threads
    _lock, _queue, _threads = threading.RLock(), SimpleQueue(), 1
    for kept in (_inside, _before, _pool, _helpers):
        kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
