"""`cupy.RawModule` without a GPU: kernels compiled for the CPU against `emulated_gpu.h`, run on NumPy's memory."""

import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("emulated_gpu.h")
CACHE = Path(tempfile.gettempdir()) / f"scratchlstm-emulated-{os.getuid() if hasattr(os, 'getuid') else 'kernels'}"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
# a double where a float is meant makes a GPU slow, and `c ? p[i] : 0` an integer here
FLAGS += ("-Wfloat-conversion", "-Wdouble-promotion", "-Wno-unused-parameter", "-Wno-pass-failed")
SANITIZERS = tuple(os.environ.get("EMULATED_GPU_FLAGS", "").split())  # see test_sanitizers.py

THREADS = 1024  # of a block at most
SHARED = 48 << 10  # bytes a block gets without asking
MOST_SHARED = 227 << 10  # bytes it gets at most (H100)

# an extern "C" kernel, as the preprocessor leaves it: its name and its parameters
KERNEL = re.compile(r'extern "C"\s+__attribute__\(\(used\)\)\s+void\s+(\w+)\s*\(([^)]*)\)')


class CompileException(Exception):
    """As `cupy.cuda.compiler.CompileException`: the compiler's log is its text."""


class EmulationError(RuntimeError):
    """A kernel did, or was asked for, what a GPU would not do, or would do wrongly."""


def compiler() -> str | None:
    """The C++ compiler, or None if there is none."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


class Argument(ctypes.Structure):
    """See `Argument` in emulated_gpu.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        ("itemsize", ctypes.c_int32),
        ("kind", ctypes.c_char),
        ("dtype", ctypes.c_char),
    ]


class Configuration(ctypes.Structure):
    """See `Configuration` in emulated_gpu.h."""

    _fields_ = [("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared_bytes", ctypes.c_int64)]


class RawModule:
    """The kernels of a CUDA source; the arguments are those of CuPy's class that the package uses.

    Args:
        code: the source, for which `EMULATED_GPU` is defined.
        options: -D definitions and --std; others have no meaning here and are refused.
    """

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        unknown = [option for option in options if not re.match(r"-D\w+(=|$)|-?-std=", option)]
        if unknown:
            raise ValueError(f"the emulator knows -D and --std, not {unknown}")
        self.code, self.options = code, tuple(option for option in options if option.startswith("-D"))

    @functools.cached_property
    def library(self) -> tuple[ctypes.CDLL, dict[str, list[str]]]:
        """The compiled source, and the parameters of each kernel in it."""
        command = [str(compiler()), *FLAGS, *SANITIZERS, "-DEMULATED_GPU", f"-I{HEADER.parent}", *self.options]
        key = hashlib.sha256("\0".join([*command, _LAUNCHER, HEADER.read_text(), self.code]).encode()).hexdigest()
        CACHE.mkdir(mode=0o700, exist_ok=True)
        library, names = CACHE / f"{key}.so", CACHE / f"{key}.json"
        if not (library.exists() and names.exists()):
            expanded = re.sub(r"(?m)^#.*$", "", _run([*command, "-E", "-x", "c++", "-"], self.code))
            kernels = {name: _names(parameters) for name, parameters in KERNEL.findall(expanded)}
            launchers = [
                _LAUNCHER.format(name=name, names="".join(f'"{each}", ' for each in parameters))
                for name, parameters in kernels.items()
            ]
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                made = Path(folder) / "kernels"
                _run([*command, "-shared", "-o", str(made), "-x", "c++", "-"], self.code + "".join(launchers))
                os.replace(made, library)
                made.write_text(json.dumps(kernels))
                os.replace(made, names)
        kernels = json.loads(names.read_text())
        return ctypes.CDLL(str(library)), kernels

    def compile(self) -> None:
        """Compile now what otherwise is compiled when a kernel is asked for."""
        self.library  # noqa: B018 (computed once)

    def get_function(self, name: str) -> "Kernel":
        """The kernel of that name; compiles the source if that has not been done."""
        library, kernels = self.library
        if name not in kernels:
            raise EmulationError(f'there is no extern "C" __global__ function {name}; there are {sorted(kernels)}')
        return Kernel(name, getattr(library, f"emulated_launch_{name}"))


class Kernel:
    """A kernel, to be launched as CuPy's: kernel(grid, block, args, shared_mem=bytes)."""

    def __init__(self, name: str, function: Any) -> None:
        self.name, self.function = name, function
        self.function.restype = ctypes.c_char_p
        self.max_dynamic_shared_size_bytes = SHARED

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple, *, shared_mem: int = 0) -> None:
        grid, block = _three("grid", grid), _three("block", block)
        if np.prod(block) > THREADS:
            raise EmulationError(f"{self.name}: a block of {block} has more than {THREADS} threads")
        if self.max_dynamic_shared_size_bytes > MOST_SHARED:
            raise EmulationError(f"{self.name}: no GPU gives a block more than {MOST_SHARED} bytes of shared memory")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise EmulationError(
                f"{self.name}: {shared_mem} bytes of shared memory, but max_dynamic_shared_size_bytes is "
                f"{self.max_dynamic_shared_size_bytes}"
            )
        held = [_held(self.name, argument) for argument in args]
        arguments = (Argument * len(held))(*(_argument(*each) for each in held))
        configuration = Configuration((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), shared_mem)
        error = self.function(ctypes.byref(configuration), arguments, len(held))
        if error:
            raise EmulationError(f"{self.name}: {error.decode()}")


_LAUNCHER = """
extern "C" const char* emulated_launch_{name}(const emulated::Configuration* configuration,
                                              const emulated::Argument* arguments, int count) {{
    static const char* const names[] = {{{names}""}};
    static std::string error;
    error = emulated::run({name}, *configuration, arguments, count, names);
    return error.empty() ? nullptr : error.c_str();
}}
"""


def _run(command: list[str], source: str) -> str:
    """A compiler's output."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # it needs no sanitizer
    done = subprocess.run(command, input=source, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise CompileException(done.stderr)
    return done.stdout


def _names(parameters: str) -> list[str]:
    """The names in a parameter list."""
    return [parameter.split()[-1] for parameter in parameters.split(",") if parameter.strip()]


def _three(what: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes with ones for those not given."""
    if not (isinstance(sizes, tuple) and 1 <= len(sizes) <= 3 and all(size > 0 for size in sizes)):
        raise EmulationError(f"the {what} is {sizes!r}, not one to three positive integers in a tuple")
    return (*map(int, sizes), 1, 1)[:3]


def _held(kernel: str, argument: Any) -> tuple[bytes, np.ndarray]:
    """An argument's kind and its memory, an array that has to live as long as the launch."""
    argument = getattr(argument, "memory", argument)  # of a stand-in array
    if argument is None:
        raise EmulationError(f"{kernel}: CuPy makes no null pointer of None (its issue 9046), but of np.uintp(0)")
    if isinstance(argument, np.uintp) and argument == 0:
        return b"n", np.empty(0)
    if type(argument) in (int, float):  # as CuPy passes them
        argument = {int: np.int64, float: np.float64}[type(argument)](argument)
    if isinstance(argument, np.generic) or _is_struct(argument):
        return b"s", np.asarray(argument)
    if not isinstance(argument, np.ndarray):
        raise EmulationError(f"{kernel}: a kernel takes arrays and numbers, not {type(argument).__name__}")
    if not argument.flags.c_contiguous:
        raise EmulationError(
            f"{kernel}: an array of shape {argument.shape} and strides {argument.strides} is not contiguous, and a "
            f"kernel is told no more than its address"
        )
    return b"a", argument


def _is_struct(argument: Any) -> bool:
    """Whether it is a struct of the host's, which CuPy passes by value."""
    return isinstance(argument, np.ndarray) and argument.dtype.names is not None and argument.size == 1


def _argument(kind: bytes, held: np.ndarray) -> Argument:
    return Argument(held.ctypes.data, held.nbytes, held.itemsize, kind, held.dtype.kind.encode())
