"""The kernels under the address and undefined-behaviour sanitizers, which see what the emulator does not: arrays of a
thread's own, overflows, shifts, memory of the host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GCC = shutil.which("g++")
ASAN = GCC and subprocess.run([GCC, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()

pytestmark = pytest.mark.skipif(
    not (ASAN and Path(ASAN).is_absolute()), reason="the sanitizers are those of g++ on Linux, which are not here"
)


def python(*arguments):
    """Run Python with kernels that the sanitizers watch."""
    environment = {
        **os.environ,
        "CXX": GCC,
        "EMULATED_GPU_FLAGS": "-fsanitize=address,undefined -fno-sanitize-recover=all",
        "LD_PRELOAD": ASAN,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)


def test_no_kernel_does_what_a_sanitizer_refuses():
    of_every_kernel = "without_a_mistake or around_a_chunk or tutorials_shapes"
    done = python("-m", "pytest", "tests/kernels", "-p", "no:cacheprovider", "-k", of_every_kernel)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


TOY = """
import numpy as np, raw_module
from scratchlstm.kernels import device
words = (device._FOLDER / "gpu.cuh").read_text()
code = words + 'extern "C" __global__ void toy(Global<float> y, int n) { %s }'
y = np.zeros(8, "float32")
raw_module.RawModule(code=code).get_function("toy")((1,), (8,), (y, np.int32(8)))
print(y)
"""


@pytest.mark.parametrize(
    ("body", "report"),
    [
        ("float u[4]; for (int k = 0; k < n; k++) u[k] = y[k]; y[threadIdx.x] = u[threadIdx.x % 4];", "out of bounds"),
        ("n += 2147483647; if (threadIdx.x == 0) y[0] = float(n);", "signed integer overflow"),
        ("if (threadIdx.x == 0) y[0] = float(1 << (n * 5));", "shift exponent 40 is too large"),
        ("y[threadIdx.x] = 1.0f;", None),
    ],
)
def test_the_sanitizers_watch(body, report):
    done = python("-c", TOY % body)
    if report is None:
        assert (done.returncode, done.stdout) == (0, "[1. 1. 1. 1. 1. 1. 1. 1.]\n"), done.stderr
    else:
        assert done.returncode != 0
        assert report in done.stderr
