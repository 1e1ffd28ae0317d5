"""Kernels for a GPU, run without one: see tests/standin."""

import sys
from pathlib import Path

import pytest

from scratchlstm import backend
from scratchlstm.kernels import device

sys.path.insert(0, str(Path(__file__).parent.parent / "standin"))
import fake_cupy
import raw_module


@pytest.fixture
def cupy(monkeypatch):
    """CuPy's part in running kernels, played by the emulator."""
    if raw_module.compiler() is None:
        pytest.skip("the emulator of a GPU needs a C++ compiler, and neither g++ nor clang++ is here")
    monkeypatch.setattr(backend, "cupy", lambda: fake_cupy)
    forget_kernels()
    yield fake_cupy
    forget_kernels()


def forget_kernels():
    """Compile all anew when they are next asked for."""
    device.kernel.cache_clear()
    device._module.cache_clear()
