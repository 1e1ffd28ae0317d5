"""NumPy or CuPy: the only place that distinguishes them.

A model's parameters are NumPy arrays in CPU memory or CuPy arrays on a GPU, and everything is computed where they are.
NumPy functions called with CuPy arrays run CuPy's functions of the same name, so most of this package is written once.
On both backends the CPU keeps: word ids (which are range-checked and sorted there), masks (which decide what is
computed), and random numbers (so that both backends draw the same).
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
VARIABLE = "SCRATCHLSTM_BACKEND"  # environment variable, the default of `backend=`

Array = Any  # a NumPy or a CuPy array


def choose(name: str | None) -> str:
    """The chosen backend: "numpy" or "cupy".

    Args:
        name: "numpy", "cupy", "auto" (CuPy if it works, else NumPy, with a warning that says why), or None for the
            value of the environment variable SCRATCHLSTM_BACKEND ("numpy" if it is not set).

    Raises:
        ValueError: an unknown name.
        ImportError, RuntimeError: "cupy" is not usable; see `cupy`.
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
        warnings.warn(f'backend="auto" uses NumPy: {error}', stacklevel=3)
        return "numpy"
    return "cupy"


def cupy() -> Any:
    """The module CuPy, after testing that it can compute.

    Raises:
        ImportError: it is not installed, or does not match the installed CUDA.
        RuntimeError: there is no GPU or driver, or CuPy was built for another one.
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
            f"{what}; pip install 'scratchlstm[cuda13]', or [cuda12] if nvidia-smi shows CUDA 12, and no other CuPy "
            f'next to it, or use backend="numpy"'
        ) from None
    try:
        if ranks.communicator is not None:  # each rank takes the GPU with its local number
            cupy.cuda.Device(ranks.on_host % cupy.cuda.runtime.getDeviceCount()).use()
        a = cupy.ones((2, 2), dtype=np.float32)
        if float((a @ a + 1).sum()) != 12:  # also needs CUDA's compiler and linear algebra
            raise RuntimeError("it computes wrong results")
    except Exception as error:  # from CUDA's runtime, compiler or driver, each with its own error types
        built = f"CuPy {cupy.__version__}"
        raise RuntimeError(
            f"{built} is installed, but cannot use a GPU here ({_one_line(error)}); {_advice(str(error))}, or use "
            f'backend="numpy"'
        ) from None
    return cupy


def _advice(error: str) -> str:
    """What to do about a CUDA error."""
    if "NoDevice" in error:
        return "there is no NVIDIA GPU, or it is hidden (CUDA_VISIBLE_DEVICES)"
    if "InsufficientDriver" in error:
        return "install NVIDIA's driver, or a newer one: nvidia-smi shows whether there is one and for which CUDA"
    return "CuPy must be built for the CUDA version that nvidia-smi shows: 'scratchlstm[cuda12]' or [cuda13]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def module(name: str) -> Any:
    """NumPy or CuPy, by the backend's name."""
    return cupy() if name == "cupy" else np


def is_cupy(thing: Any) -> bool:
    """Whether this is a CuPy array (or a CuPy error)."""
    module = type(thing).__module__
    return module == "cupy" or module.startswith("cupy.")


def is_array(thing: Any) -> bool:
    """Whether this is a NumPy or CuPy array."""
    return isinstance(thing, np.ndarray) or is_cupy(thing)


def is_array_like(thing: Any) -> bool:
    """Whether this gives NumPy all its memory at once: an array, a tensor, a table, a buffer."""
    if is_cupy(thing) or any(hasattr(type(thing), f"__array{way}__") for way in ("", "_interface", "_struct")):
        return True
    with suppress(TypeError):
        memoryview(thing)
        return True
    return False


def of(array: Any) -> str:
    """The backend of an array."""
    return "cupy" if is_cupy(array) else "numpy"


def namespace(array: Array) -> Any:
    """The module whose functions take this array: any that follows the array API standard, or CuPy.

    Raises:
        TypeError: it is not such an array.
    """
    if is_cupy(array):
        return cupy()
    if not hasattr(array, "__array_namespace__"):
        raise TypeError(f"expected an array, such as np.asarray(...), not a {type(array).__name__}")
    return array.__array_namespace__()


def to(name: str, array: Any, dtype: Any = None) -> Array:
    """`array` on that backend (and in that dtype); the same object if it already is.

    Moving it makes a copy; towards NumPy this waits until the GPU has finished its pending work.
    """
    return cupy().asarray(array, dtype=dtype) if name == "cupy" else host(array, dtype)


def host(array: Any, dtype: Any = None) -> np.ndarray:
    """`array` as a NumPy array."""
    return np.asarray(array.get() if is_cupy(array) else array, dtype=dtype)


def beside(other: Array, array: Any, dtype: Any = None) -> Array:
    """`array` on the backend of `other`."""
    return to(of(other), array, dtype)


def require_one(**arrays: Any) -> None:
    """Raise an error if arrays to compute with are not all from the same backend.

    Raises:
        TypeError: some are NumPy's, some CuPy's; says which.
    """
    kinds = {name: of(array) for name, array in arrays.items() if array is not None}
    if len(set(kinds.values())) > 1:
        which = ", ".join(f"{name} {'CuPy' if kind == 'cupy' else 'NumPy'}" for name, kind in kinds.items())
        raise TypeError(f"NumPy and CuPy arrays are mixed: {which}; convert them with cupy.asarray(a) or a.get()")


@contextmanager
def explain_memory(advice: str) -> Iterator[None]:
    """If the GPU runs out of memory in this context, say what to do about it.

    Raises:
        MemoryError: in place of CuPy's own error.
    """
    try:
        yield
    except MemoryError as error:
        if not is_cupy(error):
            raise
        raise MemoryError(f"the GPU's memory is too small: {_one_line(error)}; {advice}") from error


_params: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by id


def know(params: Iterable[Array]) -> None:
    """Remember that these arrays are parameters, so that no optimizer mistakes them for gradients."""
    _params.update({id(w): w for w in params})


def is_known(array: Any) -> bool:
    """Whether this very array is a parameter."""
    return _params.get(id(array)) is array
