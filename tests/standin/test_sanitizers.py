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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ASAN and Path(ASAN).is_absolute()), reason="the sanitizers are those of g++ on Linux, which are not here"
    ),
]


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
    done = python("-m", "pytest", "tests/kernels", "-p", "no:cacheprovider", "-m", "sanitized and not gpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


TOYS = '''
import sys, numpy as np, raw_module
from scratchlstm._support import device
code = (device._FOLDER / "gpu.cuh").read_text() + """
extern "C" __global__ void right(Global<float> y, int n) { y[threadIdx.x] = float(n); }
extern "C" __global__ void overflow(Global<float> y, int n) { y[threadIdx.x] = float(n * 268435456); }
extern "C" __global__ void bounds(Global<float> y, int n) {
    float u[4];
    for (int k = 0; k < n; k++) u[k] = y[k];
    y[threadIdx.x] = u[threadIdx.x % 4];
}
"""
y = np.zeros(8, "float32")
raw_module.RawModule(code=code).get_function(sys.argv[1])((1,), (8,), (y, np.int32(8)))
print(y[0])
'''


def test_a_kernel_that_is_right_passes():
    done = python("-c", TOYS, "right")
    assert (done.returncode, done.stdout) == (0, "8.0\n"), done.stderr


@pytest.mark.parametrize(("toy", "report"), [("bounds", "out of bounds"), ("overflow", "signed integer overflow")])
def test_a_mistake_within_a_thread_is_reported(toy, report):
    done = python("-c", TOYS, toy)
    assert done.returncode != 0
    assert report in done.stderr
