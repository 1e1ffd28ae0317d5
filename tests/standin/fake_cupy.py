"""As little of CuPy as the kernels' Python side needs: memory that nothing computes with but kernels."""

import types
from collections import Counter
from typing import Any

import numpy as np
import raw_module

COUNTS: Counter[str] = Counter()  # of launches and uploads


class ndarray:
    """An array that kernels read and write; `get` gives it as NumPy's."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.shape, self.size, self.dtype, self.flags = memory.shape, memory.size, memory.dtype, memory.flags
        self.data = types.SimpleNamespace(ptr=memory.ctypes.data)

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, key: Any) -> "ndarray":
        return ndarray(self.memory[key])

    def get(self) -> np.ndarray:
        return self.memory.copy()


def asarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        return a
    COUNTS["uploads"] += 1
    return ndarray(np.array(a, dtype=dtype, order="C"))


def ascontiguousarray(a: ndarray) -> ndarray:
    return ndarray(np.ascontiguousarray(a.memory))


def empty(shape: Any, dtype: Any) -> ndarray:
    """Filled with what nobody should read."""
    return ndarray(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else -(2**30), dtype))


def zeros(shape: Any, dtype: Any) -> ndarray:
    return ndarray(np.zeros(shape, dtype))


class RawModule(raw_module.RawModule):
    """One that counts launches."""

    def get_function(self, name: str) -> Any:
        return Kernel(super().get_function(name))


class Kernel:
    """A kernel whose launches are counted."""

    def __init__(self, kernel: raw_module.Kernel) -> None:
        object.__setattr__(self, "kernel", kernel)

    def __call__(self, *args: Any, **options: Any) -> None:
        COUNTS["launches"] += 1
        self.kernel(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.kernel, name, value)


cuda = types.SimpleNamespace(compiler=types.SimpleNamespace(CompileException=raw_module.CompileException))
