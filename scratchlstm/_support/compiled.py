"""Compile loops over numbers with Numba, if it is installed: `loop` decorates a function that has them.

What is compiled releases the interpreter, so that threads share the work, and is kept on disk for the next process
(`numba_cache`). Modules with such functions are called `numba_*`, by which the cache knows them.
"""

import os
import sys
import threading
from functools import cache
from importlib.util import find_spec
from typing import Any

from scratchlstm._support.console import warn
from scratchlstm._support.threads import include_new_blas

OFF = "NUMBA_DISABLE_JIT"  # in the environment: compile nothing
_SWITCHED_OFF = f"{OFF} is set"
_STACK = 16 << 20  # bytes, for a thread that compiles
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",  # a division that might raise could not be computed for several numbers at once
    "fastmath": {"contract", "arcp", "nsz"},  # but nothing that would lose a NaN or an infinity
}
PART = OPTIONS | {"forceinline": True}


def loop(function: Any) -> Any:
    """`function`, compiled when it is first called."""
    return _compiled(function, OPTIONS)


def part(function: Any) -> Any:
    """As `loop`, for what loops call: it is compiled into each of them.

    Compiled by itself it might round otherwise, and which of its copies runs would depend on what was loaded first.
    """
    return _compiled(function, PART)


def exact_loop(function: Any) -> Any:
    """As `loop`, but with each operation rounded as NumPy's: the same operations give the same bits."""
    return _compiled(function, OPTIONS | {"fastmath": False})


def _compiled(function: Any, options: dict[str, Any]) -> Any:
    from numba import njit

    from scratchlstm._support.numba_cache import DiskCache

    compiled = njit(**options)(function)
    compiled._cache = DiskCache(compiled)
    compiled.compile = _uninterrupted(compiled.compile)
    return compiled


def _uninterrupted(compile: Any) -> Any:
    """`compile` in another thread, where Ctrl-C cannot leave it half way: it is raised when that has ended.

    That thread has a stack that is large enough, whatever size the program has set for its own threads.
    """
    from numba.core.compiler_lock import global_compiler_lock

    def apart(signature: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() or global_compiler_lock.is_locked():
            return compile(signature)  # the lock: for a function of the caller's, that another thread must not wait for
        try:
            from concurrent.futures import ThreadPoolExecutor

            pool, before = ThreadPoolExecutor(1), threading.stack_size(_STACK)
            try:
                done = pool.submit(compile, signature)
            finally:
                threading.stack_size(before)
        except RuntimeError:  # no thread can be started
            return compile(signature)
        with pool:
            return done.result()

    return apart


@cache
def missing() -> str:
    """Why nothing can be compiled here; "" if it can. If Numba is installed but unusable, warn once."""
    why, broken = _obstacle()
    if broken:
        warn(f"NumPy computes what Numba could compile, because Numba cannot be used here: {why}")
    return why


def pays(much: bool) -> bool:
    """Whether to compute with compiled loops: there has to be Numba, and `much` to do unless Numba is loaded already.

    As this depends on what else the process did, the result must not depend on this.
    """
    return (much or "numba" in sys.modules) and not missing()


def version() -> str:
    """What compiles: the version of Numba, and of its LLVM; "none" if nothing can be compiled."""
    if missing():
        return "none"
    import llvmlite.binding
    import numba

    return f"{numba.__version__}, LLVM {'.'.join(map(str, llvmlite.binding.llvm_version_info))}"


def require(what: str) -> None:
    """Stop if nothing can be compiled here.

    Args:
        what: needs it, the beginning of a sentence.

    Raises:
        ImportError: Numba or SciPy is not installed, or cannot be used; with what to do.
    """
    if why := _obstacle()[0]:
        raise ImportError(f"{what} needs Numba and SciPy: {remedy(why)}")


def remedy(why: str) -> str:
    """What to do if nothing can be compiled, for the end of a sentence; `why` is what `missing` says."""
    return f"unset {OFF}" if why == _SWITCHED_OFF else f'pip install "scratchlstm[fast]" ({why})'


@cache
def _obstacle() -> tuple[str, bool]:
    """Why nothing can be compiled, and whether that is a fault of what is installed."""
    if os.environ.get(OFF, "0") != "0":  # and Numba need not be imported to know
        return _SWITCHED_OFF, False
    for name in ("numba", "scipy"):  # SciPy for the products inside compiled loops
        if find_spec(name) is None:
            return f"{name} is not installed", False
    try:
        import numba
        import scipy.linalg.cython_blas  # noqa: F401

        import scratchlstm._support.numba_cache  # noqa: F401
    except Exception as error:  # whatever an unfit version meets first
        return f"{type(error).__name__}: {error}", True
    if getattr(numba.config, "DISABLE_JIT", 0):
        return _SWITCHED_OFF, False
    include_new_blas()
    return "", False
