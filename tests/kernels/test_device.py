"""A kernel's source, and the error message if it does not compile."""

import numpy as np
import pytest

from scratchlstm._support import device


def test_a_kernel_is_compiled_once_for_each_dtype_and_definition(cupy, monkeypatch):
    compiled, compile_one = [], cupy.RawModule.compile
    monkeypatch.setattr(cupy.RawModule, "compile", lambda self: compiled.append(self.options) or compile_one(self))
    kernels = [device.kernel("rows.cu", "sum_rows", np.dtype(dtype)) for dtype in ("float32", "float64", "float32")]
    assert kernels[0] is kernels[2] is not kernels[1]
    device.kernel("rows.cu", "sum_rows", np.dtype("float32"), SIZE=3)
    assert compiled == [("-DREAL=float",), ("-DREAL=double",), ("-DREAL=float", "-DSIZE=3")]


def test_the_words_stand_in_the_place_of_their_include():
    text = device.source("rows.cu")
    assert '#include "gpu.cuh"' not in text
    assert text.count("using Global = T*") == 1
    lines = text.split("\n")
    marker = next(n for n, line in enumerate(lines) if line.startswith("#line") and "rows.cu" in line)
    number = int(lines[marker].split()[1])
    in_file = (device._FOLDER / "rows.cu").read_text().split("\n")
    assert lines[marker + 1 :] == in_file[number - 1 :]


def test_a_kernel_that_does_not_compile_says_so_with_the_log(cupy, monkeypatch):
    source = device.source
    monkeypatch.setattr(device, "source", lambda file: source(file).replace("REAL total = 0;", "REEL total = 0;"))
    with pytest.raises(
        RuntimeError, match=r"the kernels in rows.cu do not compile for -DREAL=double, -DSIZE=3"
    ) as caught:
        device.kernel("rows.cu", "sum_rows", np.dtype("float64"), SIZE=3)
    assert "rows.cu:32" in str(caught.value)
    assert "REEL" in str(caught.value)
