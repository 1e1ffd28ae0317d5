"""Compile loops over numbers with Numba, if it is installed: `loop` decorates functions with such loops.

Compiled code releases the interpreter lock, so threads can share the work, and is cached on disk for the next process
(`numba_cache`). Modules with such functions are called `numba_*`, by which the cache finds them.
"""

import os
import sys
import threading
from functools import cache
from importlib.util import find_spec
from typing import Any

from scratchlstm._support.console import warn
from scratchlstm._support.threads import include_new_blas

OFF = "NUMBA_DISABLE_JIT"  # environment variable: compile nothing
_SWITCHED_OFF = f"{OFF} is set"
_STACK = 16 << 20  # bytes, for a thread that compiles
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",  # a division that might raise could not be vectorized
    "fastmath": {"contract", "arcp", "nsz"},  # but nothing that would lose a NaN or an infinity
}
PART = OPTIONS | {"forceinline": True}


def loop(function: Any) -> Any:
    """`function`, compiled on its first call."""
    return _compiled(function, OPTIONS)


def part(function: Any) -> Any:
    """Like `loop`, for functions called by loops: it is compiled into each of them.

    Compiled separately it might round differently, and which copy runs would depend on what was loaded first.
    """
    return _compiled(function, PART)


def exact_loop(function: Any) -> Any:
    """Like `loop`, but each operation is rounded as in NumPy: the same operations give the same bits."""
    return _compiled(function, OPTIONS | {"fastmath": False})


def _compiled(function: Any, options: dict[str, Any]) -> Any:
    from numba import njit

    from scratchlstm._support.numba_cache import DiskCache

    compiled = njit(**options)(function)
    compiled._cache = DiskCache(compiled)
    compiled.compile = _uninterrupted(compiled.compile)
    return compiled


def _uninterrupted(compile: Any) -> Any:
    """Run `compile` in another thread, where Ctrl-C cannot interrupt it half way: it is raised afterwards.

    That thread has a large enough stack, whatever size the program has set for its own threads.
    """
    from numba.core.compiler_lock import global_compiler_lock

    def apart(signature: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() or global_compiler_lock.is_locked():
            return compile(signature)  # a lock for the caller's function, for which no other thread must wait
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
        warn(f"NumPy is used instead of compiled loops, because Numba cannot be used here: {why}")
    return why


def pays(much: bool) -> bool:
    """Whether to use compiled loops: Numba must be available and, unless already loaded, there must be `much` to do.

    As this depends on what else the process did, results must not depend on it.
    """
    return (much or "numba" in sys.modules) and not missing()


def version() -> str:
    """The versions of Numba and of its LLVM; "none" if nothing can be compiled."""
    if missing():
        return "none"
    import llvmlite.binding
    import numba

    return f"{numba.__version__}, LLVM {'.'.join(map(str, llvmlite.binding.llvm_version_info))}"


def require(what: str) -> None:
    """Raise an error if nothing can be compiled here.

    Args:
        what: what needs it, as the beginning of a sentence.

    Raises:
        ImportError: Numba or SciPy is not installed or not usable; says what to do.
    """
    if why := _obstacle()[0]:
        raise ImportError(f"{what} needs Numba and SciPy: {remedy(why)}")


def remedy(why: str) -> str:
    """What to do if nothing can be compiled, to end a sentence with; `why` is from `missing`."""
    return f"unset {OFF}" if why == _SWITCHED_OFF else f'pip install "scratchlstm[fast]" ({why})'


@cache
def _obstacle() -> tuple[str, bool]:
    """Why nothing can be compiled, and whether the installation is to blame."""
    if os.environ.get(OFF, "0") != "0":  # without importing Numba
        return _SWITCHED_OFF, False
    for name in ("numba", "scipy"):  # SciPy for products inside compiled loops
        if find_spec(name) is None:
            return f"{name} is not installed", False
    try:
        import numba
        import scipy.linalg.cython_blas  # noqa: F401

        import scratchlstm._support.numba_cache  # noqa: F401
    except Exception as error:  # whatever an incompatible version runs into first
        return f"{type(error).__name__}: {error}", True
    if getattr(numba.config, "DISABLE_JIT", 0):
        return _SWITCHED_OFF, False
    include_new_blas()
    return "", False
