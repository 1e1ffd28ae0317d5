"""lstm.cu by NVIDIA's compiler, where it is installed: no warning, and no register spilled to memory."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from lstm_case import H100

from scratchlstm.kernels import cupy_lstm, device

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
REAL = {4: "float", 8: "double"}


def registers(tmp_path, architectures, **definitions):
    """Of each kernel for each architecture, {("lstm_forward", "sm_90"): 109}; a spill or a warning is an error."""
    source = tmp_path / "lstm.cu"
    source.write_text(device.source("lstm.cu"), encoding="utf-8")
    command = ["nvcc", "-std=c++17", "-fatbin", "--threads", "2", "-o", str(tmp_path / "lstm.fatbin"), str(source)]
    command += ["-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills"]
    for architecture in architectures:
        number = architecture.removeprefix("sm_")
        command += ["-gencode", f"arch=compute_{number},code=sm_{number}"]
    command += [f"-D{name}={value}" for name, value in definitions.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"entry function '(\w+)' for '(sm_\d+)'.*?Used (\d+) registers", done.stderr, re.DOTALL)
    assert re.findall(r"(\d+) bytes spill", done.stderr) == ["0"] * (2 * len(found))
    return {(kernel, architecture): int(used) for kernel, architecture, used in found}


def architectures():
    """Those from sm_70 to sm_100 that this nvcc knows."""
    listed = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    return [each for each in listed if re.fullmatch(r"sm_\d+", each) and 70 <= int(each[3:]) <= 100]


@pytest.mark.parametrize(("version", "itemsize"), [(0, 4), (1, 4), (2, 4), (3, 4), (3, 8)])
def test_the_tutorials_size_on_every_architecture(version, itemsize, tmp_path):
    definitions = {"REAL": REAL[itemsize], "UNITS": 60, "VERSION": version}
    used = registers(tmp_path, architectures(), **definitions)
    assert len(used) == 2 * len(architectures())
    assert max(used.values()) <= 255


@pytest.mark.parametrize(
    ("H", "B", "itemsize"),
    [
        (60, 256, 4),
        (60, 1024, 4),
        (100, 1024, 4),
        (128, 128, 4),
        (128, 1024, 4),
        (144, 1024, 4),
        (60, 1024, 8),
        (96, 1024, 8),
    ],
)
def test_the_plans_of_an_h100_leave_room_for_all_that_is_in_registers(H, B, itemsize, tmp_path):
    plan = cupy_lstm.plan(H, B, itemsize, H100)
    definitions = {"REAL": REAL[itemsize], "UNITS": H, "ROWS": plan.rows, "HELD": plan.held}
    used = registers(tmp_path, ["sm_90"], **definitions)
    warps_of_a_part = np.ceil(plan.threads / 128)
    assert max(used.values()) * 32 * warps_of_a_part <= H100.registers // 4
