"""A strict stand-in for CuPy, to run the package without a GPU: it refuses what CuPy refuses.

Its arrays are NumPy memory behind a wall. As in CuPy

- nothing turns into a NumPy array by itself, and no operation takes arrays of both kinds;
- functions exist as far as CuPy has them, with the parameters that it takes (`cupy_signatures.json`, read from CuPy);
- NumPy's functions and ufuncs are handed over to those (`__array_function__`, `__array_ufunc__`);
- an index that is too large is wrapped around silently;
- `empty` is not zero, and a reduction gives an array of no dimensions.

`COUNTS` says how often something would have waited for the GPU, and how much it was asked to do. Kernels are run by the
emulator (`raw_module`).
"""

import contextlib
import functools
import inspect
import json
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_module
from numpy.lib.mixins import NDArrayOperatorsMixin

from scratchlstm import backend
from scratchlstm._support import device
from scratchlstm.kernels import cupy_lstm

_KNOWN = json.loads(Path(__file__).with_name("cupy_signatures.json").read_text())
_SIGNATURES = {name: inspect.signature(eval(f"lambda {known}: None")) for name, known in _KNOWN["functions"].items()}
_UFUNCS = set(_KNOWN["ufuncs"])


COUNTS: Counter[str] = Counter()  # "synchronisations", which wait for the GPU, "uploads", "launches"


class ndarray(NDArrayOperatorsMixin):
    """An array "on the GPU"."""

    __module__ = "cupy"

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory

    # what CuPy knows without asking the GPU
    shape = property(lambda self: self.memory.shape)
    ndim = property(lambda self: self.memory.ndim)
    size = property(lambda self: self.memory.size)
    nbytes = property(lambda self: self.memory.nbytes)
    itemsize = property(lambda self: self.memory.itemsize)
    strides = property(lambda self: self.memory.strides)
    dtype = property(lambda self: self.memory.dtype)
    flags = property(lambda self: self.memory.flags)
    T = property(lambda self: ndarray(self.memory.T))

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.memory.ctypes.data)

    def __len__(self) -> int:
        return len(self.memory)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = ".".join([*func.__module__.split(".")[1:], func.__name__])
        if name not in _SIGNATURES or not all(issubclass(t, ndarray) for t in types):
            return NotImplemented
        return _function(name)(*args, **kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in _UFUNCS:
            return NotImplemented
        (kwargs["out"],) = kwargs.pop("out", (None,))
        return _ufunc(ufunc.__name__)(*inputs, **kwargs)

    def __matmul__(self, other: Any) -> Any:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return matmul(other, self)

    # what waits for the GPU
    def get(self) -> np.ndarray:
        COUNTS["synchronisations"] += 1
        return self.memory.copy()

    def item(self) -> Any:
        COUNTS["synchronisations"] += 1
        return self.memory.item()

    def tolist(self) -> Any:
        COUNTS["synchronisations"] += 1
        return self.memory.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("only integer arrays of one number can be an index")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item() if not self.ndim else self.get(), spec)

    def __repr__(self) -> str:
        return repr(self.get())

    # indexing

    def __getitem__(self, key: Any) -> "ndarray":
        if any(isinstance(k, ndarray) for k in (key if isinstance(key, tuple) else (key,))):
            COUNTS["launches"] += 1
        return ndarray(np.asarray(self.memory[_host_index(self.memory, key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        COUNTS["launches"] += 1
        self.memory[_host_index(self.memory, key)] = _unwrapped(value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return self.copy()

    def __reduce__(self) -> Any:
        COUNTS["synchronisations"] += 1
        return ndarray, (self.memory,)


def _method(name: str, parameters: str) -> Any:
    signature = inspect.signature(eval(f"lambda self, {parameters}: None"))

    @functools.wraps(getattr(np.ndarray, name))
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        signature.bind(self, *args, **kwargs)
        args, kwargs = _unwrapped(args), _unwrapped(kwargs)
        result = getattr(self.memory, name)(*args, **kwargs)
        if result is None or not np.shares_memory(self.memory, result):
            COUNTS["launches"] += 1  # which a view does not need
        return _wrapped(result)

    return method


# as CuPy's documentation has them (its methods are compiled, and do not tell)
_REDUCTION = "axis=None, dtype=None, out=None, keepdims=False"
for _name, _parameters in {
    "sum": _REDUCTION, "mean": _REDUCTION, "prod": _REDUCTION,
    "max": "axis=None, out=None, keepdims=False", "min": "axis=None, out=None, keepdims=False",
    "all": "axis=None, out=None, keepdims=False", "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False", "cumsum": "axis=None, dtype=None, out=None",
    "astype": "dtype, order='K', casting=None, subok=None, copy=True", "copy": "order='C'", "fill": "value",
    "reshape": "*shape, order='C'", "transpose": "*axes", "swapaxes": "axis1, axis2", "ravel": "order='C'",
    "squeeze": "axis=None", "take": "indices, axis=None, out=None", "dot": "b, out=None",
    "argsort": "axis=-1, kind=None", "clip": "min=None, max=None, out=None", "view": "dtype=None",
}.items():  # fmt: skip
    setattr(ndarray, _name, _method(_name, _parameters))


def _wrapped(result: Any) -> Any:
    if isinstance(result, np.ndarray | np.generic):
        return ndarray(np.asarray(result))
    if isinstance(result, list | tuple):
        return type(result)(map(_wrapped, result))
    return result


def _unwrapped(value: Any) -> Any:
    """What the operation takes.

    Raises:
        TypeError: a NumPy array among them.
    """
    if isinstance(value, ndarray):
        return value.memory
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrapped, value))
    if isinstance(value, dict):
        return {name: _unwrapped(each) for name, each in value.items()}
    return value


def _host_index(memory: np.ndarray, key: Any) -> Any:
    """The index, with whole numbers in arrays wrapped around as on the GPU."""
    keys = list(key) if isinstance(key, tuple) else [key]
    taken = sum(k is not None and k is not Ellipsis for k in keys)
    axis = 0
    for number, k in enumerate(keys):
        if k is None:
            continue
        if k is Ellipsis:
            axis = memory.ndim - (taken - axis)
            continue
        if isinstance(k, ndarray):
            if k.dtype == bool:
                COUNTS["synchronisations"] += 1  # how many there are is known on the GPU alone
                keys[number] = k.memory
                axis += k.ndim - 1
            else:
                keys[number] = k.memory % memory.shape[axis]
        elif isinstance(k, np.ndarray | list):
            raise TypeError(f"Unsupported type {type(k)}")
        axis += 1
    return tuple(keys) if isinstance(key, tuple) else keys[0]


def _function(name: str) -> Any:
    signature = _SIGNATURES[name]
    of_numpy = functools.reduce(getattr, name.split("."), np)

    @functools.wraps(of_numpy)
    def function(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)  # TypeError where CuPy does not take this
        args = _unwrapped(args)
        result = of_numpy(*args, **_unwrapped(kwargs))
        first = result[0] if isinstance(result, list) else result
        view = isinstance(first, np.ndarray) and isinstance(args[0], np.ndarray) and np.shares_memory(first, args[0])
        if isinstance(first, np.ndarray | np.generic) and not view:
            COUNTS["launches"] += 1
        return _wrapped(result)

    return function


def _ufunc(name: str) -> Any:
    of_numpy = getattr(np, name)

    def ufunc(*inputs: Any, out: Any = None, dtype: Any = None, casting: Any = "same_kind") -> Any:
        COUNTS["launches"] += 1
        with np.errstate(all="ignore"):  # a GPU does not warn
            result = of_numpy(*_unwrapped(inputs), out=_unwrapped(out), dtype=dtype, casting=casting)
        return out if out is not None else _wrapped(result)

    return ufunc


def matmul(a: Any, b: Any, out: ndarray | None = None) -> ndarray:
    COUNTS["launches"] += 1
    with np.errstate(all="ignore"):
        result = np.matmul(_unwrapped(a), _unwrapped(b), out=_unwrapped(out))
    return _wrapped(result) if out is None else out


class Device:
    """One GPU, with the sizes of an H100; by default the one in use."""

    _in_use = 0

    def __init__(self, number: int | None = None) -> None:
        self.id = Device._in_use if number is None else number
        self.compute_capability = "90"
        self.attributes = {
            "ClockRate": 1980000,
            "MultiProcessorCount": 132,
            "MaxRegistersPerMultiprocessor": 65536,
            "MaxSharedMemoryPerBlockOptin": 232448,
        }

    def use(self) -> None:
        Device._in_use = self.id


def take(a: ndarray, indices: Any, axis: int | None = None, out: Any = None) -> ndarray:
    COUNTS["launches"] += 1
    return _wrapped(np.take(_unwrapped(a), _unwrapped(indices), axis, out=_unwrapped(out), mode="wrap"))


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, blocking: bool = False
) -> ndarray:
    """From either kind; from NumPy it is an upload."""
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    COUNTS["uploads"] += 1
    return ndarray(np.array(a, dtype=dtype))


def array(a: Any, dtype: Any = None, copy: bool = True) -> ndarray:
    return asarray(a, dtype).copy()


def asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    memory = np.empty(shape, dtype)
    memory.fill(-(2**30) if memory.dtype.kind in "iu" else np.nan)
    return ndarray(memory)


def empty_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    return empty(a.shape if shape is None else shape, a.dtype if dtype is None else dtype)


class RawModule(raw_module.RawModule):
    """Kernels, run by the emulator and counted."""

    def get_function(self, name: str) -> "Kernel":
        kernel = super().get_function(name)
        return Kernel(kernel.name, kernel.function)


class Kernel(raw_module.Kernel):
    """One of them."""

    def __call__(self, *args: Any, **options: Any) -> None:
        COUNTS["launches"] += 1
        super().__call__(*args, **options)


class MemoryPool:
    """It holds nothing: an array's memory is NumPy's."""

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self, stream: Any = None) -> None:
        pass


def deviceSynchronize() -> None:
    COUNTS["synchronisations"] += 1


class OutOfMemoryError(MemoryError):
    """As `cupy.cuda.memory.OutOfMemoryError`."""

    __module__ = "cupy.cuda.memory"


class CUDARuntimeError(RuntimeError):
    """As `cupy.cuda.runtime.CUDARuntimeError`."""


def _namespace() -> types.ModuleType:
    """The stand-in as the module that `import cupy` returns."""
    cupy = types.ModuleType("cupy")
    cupy.__version__ = _KNOWN["version"]  # type: ignore[attr-defined]
    cupy.linalg = types.SimpleNamespace()  # type: ignore[attr-defined]
    for name in _SIGNATURES:
        if hasattr(np.linalg if name.startswith("linalg.") else np, name.split(".")[-1]):
            setattr(cupy.linalg if name.startswith("linalg.") else cupy, name.split(".")[-1], _function(name))
    for name in _UFUNCS & set(dir(np)):
        setattr(cupy, name, _ufunc(name))
    cupy.COUNTS = COUNTS  # type: ignore[attr-defined]
    cupy.RawModule = RawModule  # type: ignore[attr-defined]
    for own in (ndarray, matmul, take, asarray, array, asnumpy, empty, empty_like):
        setattr(cupy, own.__name__, own)
    for scalar in ("float32", "float64", "int32", "int64", "uint32", "bool_", "intp", "newaxis", "pi", "inf", "nan"):
        setattr(cupy, scalar, getattr(np, scalar))
    cupy.get_default_memory_pool = MemoryPool  # type: ignore[attr-defined]
    cupy.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        Device=Device,
        set_allocator=lambda allocator=None: None,
        compiler=types.SimpleNamespace(CompileException=raw_module.CompileException),
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            deviceSynchronize=deviceSynchronize,
            driverGetVersion=lambda: 13000,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda device: {"name": b"a stand-in for a GPU"},
            memGetInfo=lambda: (80 << 30, 80 << 30),
            runtimeGetVersion=lambda: 13000,
        ),
    )
    return cupy


CUPY = _namespace()


@contextlib.contextmanager
def in_place_of_cupy() -> Iterator[types.ModuleType]:
    """Make `import cupy` return the stand-in, and forget everything made with another CuPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", CUPY)
        forget_cupy()
        yield backend.cupy()
    forget_cupy()


def forget_cupy() -> None:
    """Look for CuPy and compile its kernels again when they are next asked for."""
    for remembered in (backend._probe, device.kernel, device._module, cupy_lstm.limits):
        remembered.cache_clear()
