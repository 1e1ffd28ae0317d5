"""NumPy or CuPy: the one place that tells them apart.

A model's parameters live in the memory of the CPU, as NumPy arrays, or in that of a GPU, as CuPy arrays, and all that
is computed with them happens there. NumPy's functions, called with CuPy arrays, run CuPy's functions of the same name,
so that most of this package is written once. What stays with the CPU on either backend: word ids (which are
range-checked and sorted there), masks (which decide what is computed), and random numbers (so that both backends draw
the same).
"""

import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from scratchlstm._support import ranks

NAMES = ("numpy", "cupy", "auto")
VARIABLE = "SCRATCHLSTM_BACKEND"  # of the environment, the default of `backend=`

Array = Any  # a NumPy or a CuPy array


def choose(name: str | None) -> str:
    """The backend that is meant: "numpy" or "cupy".

    Args:
        name: "numpy", "cupy", "auto" (CuPy where it works; else NumPy, with a warning that says why), or None for what
            the environment variable SCRATCHLSTM_BACKEND says ("numpy" where it is not set).

    Raises:
        ValueError: another name.
        ImportError, RuntimeError: "cupy" where it cannot be used; see `cupy`.
    """
    argument = "backend"
    if name is None:
        name, argument = os.environ.get(VARIABLE) or "numpy", f"the environment variable {VARIABLE}"
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, NAMES))}, not {name!r}")
    if name == "numpy":
        return name
    try:
        cupy()
    except (ImportError, RuntimeError) as error:
        if name == "cupy":
            raise
        warnings.warn(f'backend="auto" takes NumPy: {error}', stacklevel=3)
        return "numpy"
    return "cupy"


def cupy() -> Any:
    """The module CuPy, which has shown that it can compute.

    Raises:
        ImportError: it is not installed, or does not fit the CUDA that is.
        RuntimeError: it finds no GPU, no driver, or none that it was built for.
    """
    return _probe()


@functools.cache
def _probe() -> Any:
    """See `cupy`. (CuPy imports without a GPU, and fails at the first allocation.)"""
    try:
        import cupy
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        what = "CuPy is not installed" if missing else f"CuPy cannot be imported ({_one_line(error)})"
        raise ImportError(
            f"{what}; pip install 'scratchlstm[cuda13]', or [cuda12] where nvidia-smi shows CUDA 12, and no other CuPy "
            f'beside it, or use backend="numpy"'
        ) from None
    try:
        if ranks.communicator is not None:  # each rank takes the GPU of its number on the machine
            cupy.cuda.Device(ranks.on_host % cupy.cuda.runtime.getDeviceCount()).use()
        a = cupy.ones((2, 2), dtype=np.float32)
        if float((a @ a + 1).sum()) != 12:  # which takes CUDA's compiler and its linear algebra, too
            raise RuntimeError("it computes wrongly")
    except Exception as error:  # of CUDA's runtime, its compiler, or the driver, each with types of its own
        built = f"CuPy {cupy.__version__}"
        raise RuntimeError(
            f"{built} is installed, but cannot use a GPU here ({_one_line(error)}); {_advice(str(error))}, or use "
            f'backend="numpy"'
        ) from None
    return cupy


def _advice(error: str) -> str:
    """What to do about an error of CUDA's."""
    if "NoDevice" in error:
        return "there is no NVIDIA GPU, or it is hidden (CUDA_VISIBLE_DEVICES)"
    if "InsufficientDriver" in error:
        return "install NVIDIA's driver, or a newer one: nvidia-smi shows whether there is one and for which CUDA"
    return "CuPy has to be built for the CUDA that nvidia-smi shows: 'scratchlstm[cuda12]' or [cuda13]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def module(name: str) -> Any:
    """NumPy or CuPy, by the backend's name."""
    return cupy() if name == "cupy" else np


def is_cupy(thing: Any) -> bool:
    """Whether it is an array (or an error) of CuPy's."""
    module = type(thing).__module__
    return module == "cupy" or module.startswith("cupy.")


def is_array(thing: Any) -> bool:
    """Whether it is an array of either kind."""
    return isinstance(thing, np.ndarray) or is_cupy(thing)


def is_array_like(thing: Any) -> bool:
    """Whether it hands its memory to NumPy as a whole: an array, a tensor, a table, a buffer."""
    if is_cupy(thing) or any(hasattr(type(thing), f"__array{way}__") for way in ("", "_interface", "_struct")):
        return True
    with suppress(TypeError):
        memoryview(thing)
        return True
    return False


def of(array: Any) -> str:
    """The backend that an array belongs to."""
    return "cupy" if is_cupy(array) else "numpy"


def namespace(array: Array) -> Any:
    """The module whose functions take this array: any that follows the array API standard, or CuPy.

    Raises:
        TypeError: it is no such array.
    """
    if is_cupy(array):
        return cupy()
    if not hasattr(array, "__array_namespace__"):
        raise TypeError(f"an array such as np.asarray gives is needed, not a {type(array).__name__}")
    return array.__array_namespace__()


def to(name: str, array: Any, dtype: Any = None) -> Array:
    """`array` as one of that backend (and dtype); itself, where it is one.

    From one to the other it is copied, which, towards NumPy, waits for all that the GPU has still to compute.
    """
    return cupy().asarray(array, dtype=dtype) if name == "cupy" else host(array, dtype)


def host(array: Any, dtype: Any = None) -> np.ndarray:
    """`array` as one of NumPy."""
    return np.asarray(array.get() if is_cupy(array) else array, dtype=dtype)


def beside(other: Array, array: Any, dtype: Any = None) -> Array:
    """`array` where `other` is."""
    return to(of(other), array, dtype)


def require_one(**arrays: Any) -> None:
    """Stop where arrays that are to be computed with each other are not of one kind.

    Raises:
        TypeError: some are NumPy's, some CuPy's; which.
    """
    kinds = {name: of(array) for name, array in arrays.items() if array is not None}
    if len(set(kinds.values())) > 1:
        which = ", ".join(f"{name} {'CuPy' if kind == 'cupy' else 'NumPy'}" for name, kind in kinds.items())
        raise TypeError(f"arrays of NumPy and of CuPy are mixed: {which}; cupy.asarray(a) or a.get() makes them alike")


@contextmanager
def explain_memory(advice: str) -> Iterator[None]:
    """Let a lack of the GPU's memory say what to do about it.

    Raises:
        MemoryError: where CuPy's own was raised.
    """
    try:
        yield
    except MemoryError as error:
        if not is_cupy(error):
            raise
        raise MemoryError(f"the GPU's memory is too small: {_one_line(error)}; {advice}") from error


_params: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by their id


def know(params: Iterable[Array]) -> None:
    """Remember that these arrays are parameters, so that no optimizer takes them for gradients."""
    _params.update({id(w): w for w in params})


def is_known(array: Any) -> bool:
    """Whether this very array is a parameter."""
    return _params.get(id(array)) is array
