"""Plant a mistake: a module's source with one line changed, put in the module's place for one test."""

import inspect
import types

import numpy as np
import pytest

from scratchlstm import cells, gates, optimizers, rows
from scratchlstm.cells import scan
from scratchlstm.exercises.mistakes import planted
from scratchlstm.kernels import numpy_lstm, numpy_recurrence
from scratchlstm.layers import fused, lstm, rnn


def mutated(module: types.ModuleType, old: str, new: str) -> types.ModuleType:
    """A copy of `module` in which `old`, which must occur exactly once, reads `new`."""
    source = planted(inspect.getsource(module), module.__name__, (old, new))
    copy = types.ModuleType(module.__name__)
    copy.__file__ = module.__file__
    vars(copy)["np"] = np  # which a line of an exercise may need
    exec(compile(source, f"mutant of {module.__name__}", "exec"), copy.__dict__)
    return copy


def plant(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType, old: str, new: str) -> None:
    """Let the package use the mutated module until the test ends."""
    copy = mutated(module, old, new)
    if module is gates:
        monkeypatch.setattr(cells.lstm, "equations", copy)
    elif module is scan:
        for function in "scan", "scan_back":
            monkeypatch.setattr(rnn, function, getattr(copy, function))
        monkeypatch.setattr(fused, "Scan", copy.Scan)
    elif module is numpy_lstm:
        monkeypatch.setattr(lstm, "NumpyLSTM", copy.NumpyLSTM)
    elif module is numpy_recurrence:
        for name, method in inspect.getmembers(copy.Recurrence, inspect.isfunction):
            monkeypatch.setattr(numpy_recurrence.Recurrence, name, method)
    elif module is rows:
        monkeypatch.setattr(rows.Groups, "_sum", copy.Groups._sum)
    elif module is optimizers:
        for equations in "update", "alpha":
            monkeypatch.setattr(optimizers.Adam, equations, getattr(copy.Adam, equations))
        monkeypatch.setattr(optimizers.Optimizer, "_compiled", lambda *arrays: None)  # which has its own equations
    else:
        raise ValueError(module)
