"""A disk cache of compiled code, for the next process.

Code is found by a digest of everything it was made from: our sources, the function and those it calls as they are in
memory, the argument types, the processor, and the versions of Numba and Python. (Numba's own cache looks only at the
function's file.) Whatever cannot be read, for whatever reason, is compiled again.
"""

import os
import pickle
import re
import sys
import time
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.util import cache_from_source
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from scratchlstm._support import ranks
from scratchlstm._support.console import note, warn
from scratchlstm._support.files import atomic_write, cache_folder, require_writable_folder

_DIGEST = 32  # bytes, before a file's content
_UNUSED = 7 * 24 * 3600  # seconds after which code compiled from other sources is removed


class DiskCache(NullCache):
    """The compiled code of one function, for all argument types; the interface Numba's dispatchers expect of a cache.

    Args:
        dispatcher: the function as Numba's decorator returns it.
    """

    def __init__(self, dispatcher: Any) -> None:
        self.dispatcher = dispatcher

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The cached code for this signature; None if it must be compiled, which is then announced."""
        target.refresh()
        for folder in folders():
            with suppress(Exception):  # missing or damaged
                path = folder / self._name(signature, target.codegen())
                data = path.read_bytes()
                if sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                    loaded = CompileResult._rebuild(target, *pickle.loads(data[_DIGEST:]))
                    with suppress(OSError):
                        os.utime(path)  # for `_remove_unused`
                    return loaded
        _say_once()
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Store it in the first writable folder."""
        if compiled.library.has_dynamic_globals:  # addresses of this process
            return
        try:
            name = self._name(signature, compiled.codegen)
        except OSError as error:  # in a zip file, or only bytecode
            _warn_once(f"the package's source files are missing ({error})")
            return
        data, errors = dumps(compiled._reduce()), []
        for folder in folders():
            try:
                with atomic_write(require_writable_folder(folder) / name, every_rank=True) as file:
                    file.write(sha256(data).digest() + data)
                _remove_unused(folder)
                return
            except OSError as error:
                errors.append(str(error))
        _warn_once("; ".join(errors))

    def _name(self, signature: Any, codegen: Any) -> str:
        made_from = *_meaning(self.dispatcher), signature, codegen.magic_tuple()
        name = f"{self.dispatcher.__module__.rpartition('.')[2]}.{self.dispatcher.__name__}"
        return f"{name}-{_sources()}-{sha256(repr(made_from).encode()).hexdigest()[:16]}.nbc"


def folders() -> list[Path]:
    """Where to look for compiled code: next to this package's own bytecode, then in the user's cache.

    `NUMBA_CACHE_DIR` replaces both.
    """
    if chosen := getattr(numba.config, "CACHE_DIR", ""):
        return [Path(chosen) / "scratchlstm"]
    found = [Path(cache_from_source(__file__)).parent]
    with suppress(RuntimeError):  # no home folder
        found.append(cache_folder() / "compiled")
    return found


@cache
def _sources() -> str:
    """A digest of our files with compiled code, and of what compiles them."""
    package = Path(__file__).parents[1]
    files = [package / "_support" / "compiled.py", *sorted(package.glob("*/numba_*.py"))]
    digest = sha256(repr((numba.__version__, llvmlite.__version__, sys.version)).encode())
    for file in files:
        digest.update(sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _meaning(dispatcher: Any) -> tuple[Any, ...]:
    """What a function and the compiled ones it calls do, as they are in memory, which may differ from the files."""
    function = dispatcher.py_func
    code, cells = function.__code__, function.__closure__ or ()
    used = [function.__globals__.get(name) for name in code.co_names] + [cell.cell_contents for cell in cells]
    inner = [_meaning(value) for value in used if hasattr(value, "py_func")]
    constants = [value for value in used if isinstance(value, int | float | str | tuple)]
    options = sorted(re.findall(r"\w+", repr(dispatcher.targetoptions)))  # the order of a set differs between processes
    return code.co_code, code.co_consts, code.co_names, constants, options, inner


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("numba_*.nbc"):
        with suppress(OSError):  # another process may be first
            if f"-{_sources()}-" not in path.name and time.time() - path.stat().st_mtime > _UNUSED:
                path.unlink()


def _leads() -> bool:
    """Whether this process speaks for all that share its work."""
    return ranks.first() and parent_process() is None


@cache
def _say_once() -> None:
    if _leads():
        note("scratchlstm compiles its loops, which takes a few seconds, and keeps them for the next time")


@cache
def _warn_once(why: str) -> None:
    if _leads():
        todo = "set NUMBA_CACHE_DIR to a folder that can be written"
        warn(f"compiled loops cannot be cached, so every process compiles them again; {todo} ({why})")
