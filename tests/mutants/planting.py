"""Plant a mistake: a module's source with one line changed, put in the module's place for one test."""

import inspect
import sys
import types
from collections.abc import Sequence

import numpy as np
import pytest

from scratchlstm import cells, gates, optimizers, rows
from scratchlstm._support import compiled
from scratchlstm.cells import scan
from scratchlstm.exercises.mistakes import planted
from scratchlstm.kernels import numpy_lstm, numpy_recurrence, recurrence
from scratchlstm.layers import fused, lstm, rnn


def mutated(module: types.ModuleType, old: str, new: str) -> types.ModuleType:
    """A copy of `module` in which `old`, which must occur exactly once, reads `new`."""
    return copied(module, planted(inspect.getsource(module), module.__name__, (old, new)))


def copied(module: types.ModuleType, source: str) -> types.ModuleType:
    """A module in the place of another; loops that Numba would compile are left to Python, which is faster for few."""
    copy = types.ModuleType(module.__name__)
    copy.__file__ = module.__file__
    vars(copy)["np"] = np  # which a line of an exercise may need
    with pytest.MonkeyPatch.context() as patch:
        for decorator in "loop", "part":
            patch.setattr(compiled, decorator, lambda function: function)
        exec(compile(source, f"mutant of {module.__name__}", "exec"), copy.__dict__)
    return copy


# each imports from those before it; the layer imports the compiled one when it is used
LSTM_KERNELS = [[recurrence, numpy_recurrence, numpy_lstm]]
if not compiled.missing():
    from scratchlstm.kernels import numba_lstm, numba_recurrence

    LSTM_KERNELS.append([recurrence, numba_recurrence, numba_lstm])


def rebuilt(
    monkeypatch: pytest.MonkeyPatch, modules: Sequence[types.ModuleType], module: types.ModuleType, old: str, new: str
) -> types.ModuleType:
    """The last of some modules, each of which imports from those before it, with one of them mutated."""
    copy = mutated(module, old, new)
    monkeypatch.setitem(sys.modules, module.__name__, copy)
    for later in modules[modules.index(module) + 1 :]:
        copy = copied(later, inspect.getsource(later))
        monkeypatch.setitem(sys.modules, later.__name__, copy)
    return copy


def plant(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType, old: str, new: str) -> None:
    """Let the package use the mutated module until the test ends."""
    for modules in LSTM_KERNELS:
        if module in modules:
            copy = rebuilt(monkeypatch, modules, module, old, new)
            monkeypatch.setattr(lstm, "NumpyLSTM", getattr(copy, "NumpyLSTM", lstm.NumpyLSTM))
    if any(module in modules for modules in LSTM_KERNELS):
        return
    copy = mutated(module, old, new)
    if module is gates:
        monkeypatch.setattr(cells.lstm, "equations", copy)
    elif module is scan:
        for function in "scan", "scan_back":
            monkeypatch.setattr(rnn, function, getattr(copy, function))
        monkeypatch.setattr(fused, "Scan", copy.Scan)
    elif module is rows:
        monkeypatch.setattr(rows.Groups, "_sum", copy.Groups._sum)
    elif module is optimizers:
        for equations in "update", "alpha":
            monkeypatch.setattr(optimizers.Adam, equations, getattr(copy.Adam, equations))
        monkeypatch.setattr(optimizers.Optimizer, "_compiled", lambda *arrays: None)  # which has its own equations
    else:
        raise ValueError(module)
