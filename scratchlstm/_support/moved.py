"""An import of a module under an old path raises one sentence with the new one; see `docs/migration.md`."""

import sys
from typing import Any

_MOVED = {
    "files": "scratchlstm.utils, for atomic_write and held_folder; the rest of it is internal",
    "command_line": "examples/command_line.py, outside the package",
    "kernels.rows": "scratchlstm.rows",
    "model": "scratchlstm.models",
    "simple_rnn": "scratchlstm.cells.simple_rnn",
    "gate_dropout": "scratchlstm.gates",
    "checkpoint": "scratchlstm.training.run",
}
_MOVED |= {name: f"scratchlstm.models.{name}" for name in ("saving", "summary")}
_MOVED |= {name: f"scratchlstm.training.{name}" for name in ("data", "parallel", "progress")}
_MOVED |= {name: f"scratchlstm._support.{name}" for name in ("threads", "checks", "console", "registry")}
_MOVED |= {f"kernels.{name}": f"scratchlstm._support.{name}" for name in ("device", "cupy_rows", "cupy_elementwise")}


class Finder:
    """Asked for modules that Python has not found anywhere else."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """None, or for an old path a `ModuleNotFoundError` with the new one."""
        package, _, old = name.partition(".")
        if package == "scratchlstm" and old in _MOVED:
            # without the module's name in the error: given that, Python drops it in `from scratchlstm import files`
            internal = ", which is internal and not to be imported" if "_support" in _MOVED[old] else ""
            raise ModuleNotFoundError(f"{name} is now {_MOVED[old]}{internal}")


sys.meta_path.append(Finder())
