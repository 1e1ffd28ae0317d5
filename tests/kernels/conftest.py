"""Kernels for a GPU, run without one: see tests/standin."""

import pytest


@pytest.fixture
def cupy(standin):
    """CuPy's part in running kernels, played by the stand-in and the emulator."""
    return standin
