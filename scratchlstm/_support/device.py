"""The kernels in this folder's .cu files, compiled where they run."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scratchlstm import backend

_FOLDER = Path(__file__).parents[1] / "kernels"
_WORDS = '#include "gpu.cuh"'
_SHARED = 48 << 10  # bytes of shared memory a block gets by default
_NULL = np.uintp(0)  # CuPy accepts None, but turns it into a non-null address (its issue 9046)
_REAL = {"float32": "float", "float64": "double"}


def source(file: str) -> str:
    """The text of a .cu file, with gpu.cuh pasted in.

    This way NVRTC, the compiler inside CuPy, needs no include folder, and CuPy's kernel cache notices changes.
    """
    words = (_FOLDER / "gpu.cuh").read_text(encoding="utf-8")
    before, after = (_FOLDER / file).read_text(encoding="utf-8").split(_WORDS)
    # so that the compiler's line numbers match the two files
    line = before.count("\n") + 2
    return f'{before}#line 1 "gpu.cuh"\n{words}#line {line} "{file}"{after}'


class Kernel:
    """A compiled CuPy kernel, launched in the same way."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple, shared_mem: int = 0) -> None:
        if shared_mem > _SHARED:
            self.compiled.max_dynamic_shared_size_bytes = shared_mem
        self.compiled(grid, block, tuple(_NULL if arg is None else arg for arg in args), shared_mem=shared_mem)


@cache
def kernel(file: str, name: str, dtype: np.dtype, **definitions: int) -> Any:
    """A kernel, compiled on first use.

    Args:
        file: a .cu file of this folder.
        name: name of a function in it.
        dtype: float32 or float64; `REAL` in the source.
        definitions: other constants to compile for, such as UNITS=60.

    Returns:
        the kernel, called with (grid, block, args, shared_mem=bytes); None among the args is a null pointer.

    Raises:
        RuntimeError: it does not compile; shows the compiler's log.
    """
    return Kernel(_module(file, dtype, **definitions).get_function(name))


@cache
def _module(file: str, dtype: np.dtype, **definitions: int) -> Any:
    """All kernels in a file."""
    cupy = backend.cupy()
    sizes = {"REAL": _REAL[np.dtype(dtype).name], **definitions}
    options = ("--std=c++17", *(f"-D{key}={value}" for key, value in sizes.items()))
    module = cupy.RawModule(code=source(file), options=options)
    try:
        module.compile()
    except cupy.cuda.compiler.CompileException as error:
        raise RuntimeError(
            f"the kernels in {file} do not compile for {', '.join(options[1:])}; the CUDA that CuPy uses may be too "
            f'old or damaged (python -c "import cupy; cupy.show_config()" shows its version); backend="numpy" needs '
            f"none. The compiler's log:\n{error}"
        ) from error
    return module
