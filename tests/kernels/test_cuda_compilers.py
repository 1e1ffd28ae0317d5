"""The kernels' files as compilers for GPUs see them: every .cu of the package, float32 and float64, no warning.

`pytest -rP` on this file prints the registers that each kernel uses.
"""

import re
import shutil
import subprocess

import pytest

from scratchlstm._support import device

FILES = sorted(path.name for path in device._FOLDER.glob("*.cu"))
CARDS = "sm_70", "sm_75", "sm_80", "sm_89", "sm_90", "sm_100"  # V100, T4, A100, RTX 4090, H100, B200
# by file, other definitions than its own defaults that it has to compile for too
VARIANTS = {"lstm.cu": [{"VERSION": 0}, {"VERSION": 1}, {"VERSION": 2}]}
CASES = [(file, real, {}) for file in FILES for real in ("float", "double")]
CASES += [(file, "float", more) for file in FILES for more in VARIANTS.get(file, [])]
CASES = pytest.mark.parametrize(("file", "real", "more"), CASES, ids=lambda case: str(case))

USED = re.compile(
    r"Compiling entry function '(\w+)' for '(sm_\d+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


def test_all_kernel_files_are_seen():
    assert {"rows.cu", "optimizers.cu"} <= set(FILES)


def definitions(real, more):
    return [f"-DREAL={real}", *(f"-D{name}={value}" for name, value in more.items())]


@pytest.mark.slow
@CASES
def test_nvcc(file, real, more, tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not here")
    known = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    cards = [card for card in CARDS if card in known]
    assert cards
    targets = [f"-gencode=arch={card.replace('sm', 'compute')},code={card}" for card in cards]
    options = ["-std=c++17", "-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills", "--threads", "2", *targets]
    command = ["nvcc", *options, *definitions(real, more), "-fatbin", "-o", str(tmp_path / "kernels")]
    done = subprocess.run([*command, str(device._FOLDER / file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = [(name, card, *map(int, numbers)) for name, card, *numbers in USED.findall(done.stderr)]
    assert {card for _, card, *_ in used} == set(cards)
    for name, card, stack, stores, loads, registers in used:
        print(f"{name} {real} {more or ''} on {card}: {registers} registers, {stack + stores + loads} bytes elsewhere")
        assert (stack, stores, loads) == (0, 0, 0)


@pytest.mark.slow
@CASES
def test_nvrtc_which_has_no_headers(file, real, more):
    """What CuPy compiles with: the text alone."""
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not here")
    program = nvrtc.createProgram(device.source(file), file, [], [])
    try:
        nvrtc.compileProgram(program, ["--std=c++17", *definitions(real, more), "-arch=sm_90"])
    except nvrtc.NVRTCError as error:
        if "undefined symbol" in str(error) or "not found" in str(error):
            pytest.skip(f"NVRTC is not here: {error}")
        pytest.fail(nvrtc.getProgramLog(program))
    assert len(nvrtc.getCUBIN(program)) > 0
    assert "warning" not in nvrtc.getProgramLog(program)
