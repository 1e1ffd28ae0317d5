"""How many threads compute: one in BLAS, and a few of Python's that share what is large.

A product of the recurrence takes microseconds. BLAS' own threads wait for each other there by spinning, which makes a
training step on a busy machine many times slower. So BLAS gets one thread while a layer or model computes, and the few
large pieces of a step (sums and products over all time steps, the optimizer) go through `spread`. Its threads sleep
until there is work, and work that a late one has not begun is done by the others.

If the environment sets a number of BLAS threads (`OPENBLAS_NUM_THREADS`, ...), BLAS keeps it and nothing is spread.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator
from functools import cache, partial
from itertools import repeat
from typing import Any

import numpy as np

SETTINGS = (
    "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip
_MOST = 4  # more of Python's threads than this would only wait for the interpreter
LARGE = 1 << 24  # multiplications, a quarter of a millisecond: less is not worth waking a thread for

_lock = threading.Lock()
_inside = 0  # how many `one_blas_thread` blocks are open, in all threads of the program
_before: list[int] = []  # the threads of each BLAS library outside of them
_threads = 1  # that `spread` may use


class one_blas_thread(ContextDecorator):
    """Within, this process computes its products in one thread; the last block to end restores what was set before.

    What the outermost block says counts, in all threads of the program.

    Args:
        unless_set: leave BLAS alone if the environment sets its number of threads (`OPENBLAS_NUM_THREADS`, ...);
            if it does not, `spread` may use as many threads as BLAS had.
    """

    def __init__(self, unless_set: bool = False) -> None:
        self.unless_set = unless_set

    def __enter__(self) -> None:
        global _inside, _threads
        with _lock:
            if _inside == 0 and not (self.unless_set and any(os.environ.get(name) for name in SETTINGS)):
                _before[:] = [library.get_num_threads() for library in _blas()]
                _threads = min(max(_before, default=1), _MOST) if self.unless_set else 1
                for library in _blas():
                    _set(library, 1)
            _inside += 1

    def __exit__(self, *error: object) -> None:
        global _inside, _threads
        with _lock:
            _inside -= 1
            if _inside == 0:
                for library, threads in zip(_blas(), _before, strict=False):
                    _set(library, threads)
                _before.clear()
                _threads = 1


one_blas_thread_unless_set = one_blas_thread(unless_set=True)


def _set(library: Any, threads: int) -> None:
    library.set_num_threads(threads)
    if hasattr(library, "clear_controlling_thread"):  # or no other thread of the program could set it from now on
        library.clear_controlling_thread()


def spread(tasks: Sequence[Callable[[], Any]], multiplications: int = LARGE) -> list[Any]:
    """The results of all tasks, done in any order by several threads if they are `LARGE`.

    Args:
        tasks: independent of each other, each of some 100 microseconds or more, nearly all of them inside NumPy.
        multiplications: in all of them; below `LARGE` this thread does them alone.
    """
    helping = 0 if multiplications < LARGE else min(threads(), len(tasks)) - 1
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

    helpers = [_pool().submit(work) for _ in range(helping)]
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():  # it has begun
                helper.result()
    return results


def threads() -> int:
    """How many threads `spread` uses here and now."""
    return _threads


def product(a: Any, b: Any, out: np.ndarray | None = None) -> Any:
    """a @ b; a large product of NumPy's is computed in parts, by `spread`.

    Args:
        a: (..., m, n).
        b: (n, p), or where a is (m, n), a stack (..., n, p).
        out: where to write the result.
    """
    if not isinstance(a, np.ndarray) or a.size // a.shape[-1] * b.size < LARGE or threads() == 1:
        return a @ b if out is None else np.matmul(a, b, out=out)
    if a.ndim > 2:
        return product(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], -1)
    if out is None:
        out = np.empty((*b.shape[:-2], len(a), b.shape[-1]), dtype=a.dtype)
    if b.ndim > 2:
        parts: Any = zip(repeat(a), b, out)
    elif len(a) >= b.shape[1]:
        parts = zip(_cut(a), repeat(b), _cut(out))
    else:
        parts = zip(repeat(a), (part.T for part in _cut(b.T)), (part.T for part in _cut(out.T)))
    spread([partial(np.matmul, left, right, out=into) for left, right, into in parts])
    return out


def _cut(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, threads())


@cache
def _blas() -> list[Any]:
    """The libraries that compute NumPy's products."""
    from threadpoolctl import ThreadpoolController

    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST - 1, thread_name_prefix="scratchlstm")
