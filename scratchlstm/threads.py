"""How many threads a matrix product takes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

SETTINGS = (
    "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, this process computes its products in one thread; the setting that was there returns afterwards."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


@contextmanager
def one_blas_thread_unless_set() -> Iterator[None]:
    """`one_blas_thread`, unless the environment says how many (`OPENBLAS_NUM_THREADS`, ...).

    Where layers are small a product takes microseconds, and threads that wait for each other cost more than they save:
    many times the work itself where other programs keep the cores busy.

    The limit is the whole process's: it is for a program's main thread, with no other in such a call.
    """
    with nullcontext() if any(os.environ.get(name) for name in SETTINGS) else one_blas_thread():
        yield
