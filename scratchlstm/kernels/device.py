"""Kernels of this folder's .cu files, compiled where they run."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scratchlstm import backend

_FOLDER = Path(__file__).parent
_WORDS = '#include "gpu.cuh"'
_REAL = {"float32": "float", "float64": "double"}


def source(file: str) -> str:
    """The text of a .cu file, the words of gpu.cuh pasted in.

    So NVRTC, the compiler inside CuPy, needs no folder of headers, and CuPy's cache of compiled kernels sees a change.
    """
    words = (_FOLDER / "gpu.cuh").read_text(encoding="utf-8")
    text = (_FOLDER / file).read_text(encoding="utf-8")
    before, after = text.split(_WORDS)
    # the compiler counts lines as in the two files
    line = before.count("\n") + 2
    return f'{before}#line 1 "gpu.cuh"\n{words}#line {line} "{file}"{after}'


@cache
def kernel(file: str, name: str, dtype: np.dtype, **definitions: int) -> Any:
    """A kernel, compiled on first use.

    Args:
        file: a .cu file of this folder.
        name: of a function in it.
        dtype: float32 or float64; `REAL` in the source.
        definitions: what else the source is compiled for, such as UNITS=60.

    Returns:
        What is called with (grid, block, args, shared_mem=bytes).

    Raises:
        RuntimeError: it does not compile; the compiler's log is shown.
    """
    return _module(file, dtype, **definitions).get_function(name)


@cache
def _module(file: str, dtype: np.dtype, **definitions: int) -> Any:
    """All of a file's kernels."""
    cupy = backend.cupy()
    sizes = {"REAL": _REAL[np.dtype(dtype).name], **definitions}
    options = ("--std=c++17", *(f"-D{key}={value}" for key, value in sizes.items()))
    module = cupy.RawModule(code=source(file), options=options)
    try:
        module.compile()
    except cupy.cuda.compiler.CompileException as error:
        raise RuntimeError(
            f"the kernels in {file} do not compile for {', '.join(options[1:])}; the CUDA that CuPy uses may be too "
            f'old or damaged (python -c "import cupy; cupy.show_config()" tells which it is); backend="numpy" needs '
            f"none. The compiler's log:\n{error}"
        ) from error
    return module
