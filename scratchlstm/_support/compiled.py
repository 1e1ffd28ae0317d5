"""Compile loops over numbers with Numba, where it is there: `loop` decorates a function that has them.

What is compiled releases the interpreter, so that threads share the work, and is kept on disk for the next process.
"""

import sys
from functools import cache
from typing import Any

from scratchlstm._support.threads import include_new_blas

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",  # a division that might raise could not be computed for several numbers at once
    "fastmath": {"contract", "arcp", "nsz"},  # but nothing that would lose a NaN or an infinity
}


def loop(function: Any) -> Any:
    """`function`, compiled when it is first called."""
    from numba import njit

    return njit(cache=True, **OPTIONS)(function)


def exact_loop(function: Any) -> Any:
    """As `loop`, but with each operation rounded as NumPy's: the same operations give the same bits."""
    from numba import njit

    return njit(cache=True, **OPTIONS | {"fastmath": False})(function)


@cache
def missing() -> str:
    """Why nothing can be compiled here; "" if it can."""
    try:
        import numba  # noqa: F401
        import scipy.linalg.cython_blas  # noqa: F401  the products inside compiled loops
    except ImportError as error:
        return str(error)
    include_new_blas()
    return ""


def pays(much: bool) -> bool:
    """Whether to compute with compiled loops: there has to be Numba, and `much` to do unless Numba is loaded already.

    As this depends on what else the process did, the result must not depend on this.
    """
    return (much or "numba" in sys.modules) and not missing()


def require(what: str) -> None:
    """Stop if nothing can be compiled here.

    Args:
        what: needs it, the beginning of a sentence.

    Raises:
        ImportError: Numba is not there, or too old; with the command that installs it.
    """
    if why := missing():
        raise ImportError(f'{what} needs Numba: pip install "scratchlstm[fast]" ({why})')
