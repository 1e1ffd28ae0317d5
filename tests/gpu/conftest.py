"""Every test body here runs twice: on the strict stand-in for CuPy, everywhere, and on a GPU, where there is one."""

import sys
from typing import Any

import pytest

from scratchlstm import backend


def _why_no_gpu() -> str:
    try:
        backend.cupy()
    except (ImportError, RuntimeError) as error:
        return str(error)
    return ""


NO_GPU = _why_no_gpu()


@pytest.fixture(params=["standin", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `backend.cupy()` gives in this test."""
    if request.param == "gpu":
        if NO_GPU:
            pytest.skip(NO_GPU)
        yield backend.cupy()
        return
    yield from _standin(monkeypatch)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """For what a GPU cannot show, or what cannot be counted there."""
    yield from _standin(monkeypatch)


def _standin(monkeypatch: pytest.MonkeyPatch) -> Any:
    import cupy_standin

    monkeypatch.setitem(sys.modules, "cupy", cupy_standin.CUPY)
    backend._probe.cache_clear()
    yield cupy_standin.CUPY
    backend._probe.cache_clear()
