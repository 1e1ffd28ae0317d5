"""Errors for old import paths and attributes: one sentence that says what is new; see `docs/migration.md`."""

import sys
from typing import Any

_MOVED = {
    "files": "scratchlstm.utils, for atomic_write and held_folder; the rest of it is internal",
    "command_line": "examples/command_line.py, outside the package",
    "kernels.rows": "scratchlstm.rows",
    "layers.noise": "scratchlstm.layers.passes",
    "layers.recurrent": "scratchlstm.layers.rnn",
    "model": "scratchlstm.models",
    "simple_rnn": "scratchlstm.cells.simple_rnn",
    "gate_dropout": "scratchlstm.gates",
    "checkpoint": "scratchlstm.training.run",
}
_MOVED |= {name: f"scratchlstm.models.{name}" for name in ("saving", "summary")}
_MOVED |= {name: f"scratchlstm.training.{name}" for name in ("data", "parallel", "progress")}
_MOVED |= {name: f"scratchlstm._support.{name}" for name in ("threads", "checks", "console", "registry")}
_MOVED |= {f"kernels.{name}": f"scratchlstm._support.{name}" for name in ("device", "cupy_rows", "cupy_elementwise")}


class Gone:
    """A removed attribute: reading it raises an `AttributeError` that says what to use instead."""

    def __init__(self, instead: str) -> None:
        self.instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        raise AttributeError(f"{type(owner).__name__} has no {self.name} any more: {self.instead} (docs/migration.md)")


class Finder:
    """Asked for modules that Python has not found anywhere else."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """None, or for an old path a `ModuleNotFoundError` with the new one."""
        package, _, old = name.partition(".")
        if package == "scratchlstm" and old in _MOVED:
            # without the module's name in the error: given that, Python drops it in `from scratchlstm import files`
            internal = ", which is internal and should not be imported" if "_support" in _MOVED[old] else ""
            raise ModuleNotFoundError(f"{name} is now {_MOVED[old]}{internal}")


sys.meta_path.append(Finder())
