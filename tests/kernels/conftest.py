"""Kernels for a GPU, run without one: see tests/standin."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "standin"))
import fake_cupy
import raw_module


@pytest.fixture
def cupy():
    """CuPy's part in running kernels, played by the emulator."""
    if raw_module.compiler() is None:
        pytest.skip("the emulator of a GPU needs a C++ compiler, and neither g++ nor clang++ is here")
    with fake_cupy.played():
        yield fake_cupy
