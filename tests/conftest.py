"""Fixtures for Numba and for the GPU: test bodies run on a strict stand-in for CuPy everywhere, and on a GPU too."""

import gc
import importlib.util
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from scratchlstm import backend, gradcheck
from scratchlstm._support import compiled

# A shell that puts a job in the background lets it ignore Ctrl-C, and so would the programs that tests send one to.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# With NUMBA_DISABLE_JIT=1 all other tests run the NumPy path, as they do if Numba is not installed.
no_loops = os.environ.get(compiled.OFF, "0") != "0" or importlib.util.find_spec("numba") is None
collect_ignore_glob = ["kernels/test_numba*", "test_compiled.py"] if no_loops else []


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite takes a process per core, up to eight, as each imports TensorFlow.

    Chosen files take none, nor do tests with a mark, which may share a GPU or start MPI ranks.
    """
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and "not mpi" in config.option.markexpr
    return min(os.cpu_count() or 1, 8) if whole else 0


def pytest_collection_finish() -> None:
    gc.freeze()  # the garbage collector need not look through TensorFlow and ten thousand tests again and again


def _why_no_gpu() -> str:
    try:
        backend.cupy()
    except (ImportError, RuntimeError) as error:
        return str(error)
    return ""


NO_GPU = _why_no_gpu()


@pytest.fixture
def no_gpu() -> str:
    """Why no GPU can be used here; "" where one can."""
    return NO_GPU


@pytest.fixture(params=["standin", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    """CuPy, for a test body that runs on both."""
    if request.param == "standin":
        yield from _standin()
    elif NO_GPU:
        pytest.skip(NO_GPU)
    else:
        yield backend.cupy()


@pytest.fixture
def standin() -> Iterator[Any]:
    """The stand-in, for things that only it can count or provoke."""
    yield from _standin()


@pytest.fixture(scope="module")
def without_numba() -> Iterator[None]:
    """Nothing is compiled, nor in processes that start within: each of these would take a second longer to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(compiled.OFF, "1")
        patch.setattr(compiled, "missing", lambda: "this test does without")
        yield


@pytest.fixture
def with_numba() -> None:
    """Loops are compiled."""
    if why := compiled.missing():
        pytest.skip(why)


@pytest.fixture
def few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numerical gradients along three random directions, for tests of what is done with them."""
    monkeypatch.setattr(gradcheck.numerical, "EVERY_NUMBER", 0)
    monkeypatch.setattr(gradcheck.numerical, "DIRECTIONS", 3)


def _standin() -> Iterator[Any]:
    import cupy_standin
    import raw_module

    if raw_module.compiler() is None:
        pytest.skip("the kernels' emulator needs a C++ compiler, and neither g++ nor clang++ is here")
    with cupy_standin.in_place_of_cupy() as cupy:
        yield cupy


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = [report for report in reports if "gpu" in getattr(report, "keywords", ())]  # a module has none
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests on a GPU were not run: {NO_GPU}")
