"""A plan's registers are what NVIDIA's compiler needs (if it is installed): none is spilled to memory."""

import re
import shutil
import subprocess

import pytest
from lstm_case import H100

from scratchlstm._support import device
from scratchlstm.kernels import cupy_lstm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed"),
]
REAL = {4: "float", 8: "double"}


@pytest.mark.parametrize(
    ("H", "B", "itemsize"),
    [
        (60, 256, 4),
        (60, 1024, 4),
        (60, 1024, 8),
        (96, 128, 8),
        (96, 1024, 8),
        (128, 128, 4),
        (128, 1024, 4),
        (144, 128, 4),
    ],
)
def test_the_plans_of_an_h100_leave_room_for_all_that_is_in_registers(H, B, itemsize, tmp_path):
    plan = cupy_lstm.plan(H, B, itemsize, H100)
    sizes = {"REAL": REAL[itemsize], "UNITS": H, "ROWS": plan.rows, "HELD": plan.held}
    options = ["-std=c++17", "-arch=sm_90", "-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills"]
    command = ["nvcc", *options, *(f"-D{name}={value}" for name, value in sizes.items())]
    command += ["-cubin", "-o", str(tmp_path / "lstm.cubin"), str(device._FOLDER / "lstm.cu")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
    assert len(used) == 2
    assert re.findall(r"(\d+) bytes spill", done.stderr) == ["0"] * 4
    warps_of_a_part = -(-plan.threads // 128)
    assert max(used) * 32 * warps_of_a_part <= H100.registers // 4
