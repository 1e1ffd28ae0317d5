"""Mistakes planted in rows.cu and optimizers.cu, each of which the emulator or the CPU's numbers have to catch.

All mistakes of a file are compiled into one program, in which a number says which of them is made.
"""

import ctypes

import numpy as np
import pytest
import raw_module
from test_cupy_optimizers import CLIPS, KINDS, SMALL, OnBoth, gradient_of

from scratchlstm._support import device
from scratchlstm.kernels import cupy_optimizers
from scratchlstm.rows import Groups

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(raw_module.compiler() is None, reason="the emulator of a GPU needs g++ or clang++"),
]

# The code, and the mistake that replaces it; for a statement, which ends with ";", "" where it is left out.
MISTAKES = {
    "rows.cu": [
        ("start + counts[c]", "start + counts[c] - 1"),
        ("start + counts[c]", "start + counts[c] + 1"),
        ("starts[c]", "starts[0]"),
        ("c < parts", "c <= parts"),
        ("(c - parts + long_runs) * width", "(c - parts) * width"),
        ("part_sums + c * width", "part_sums"),
        ("order[n]", "n"),
        ("d < D", "d <= D"),
        ("d < D", "d < D - 1"),
    ],
    "optimizers.cu": [
        # who works on what
        ("parameters.count - 1", "0"),
        ("first_block<checks>(parameters, p) > blockIdx.x", "first_block<checks>(parameters, p) > blockIdx.x + 1"),
        ("blockIdx.x - of.first_check", "blockIdx.x"),
        ("blockIdx.x - of.first_block", "blockIdx.x"),
        ("i >= of.gradient_size", "i > of.gradient_size"),
        ("i >= of.size", "i > of.size"),
        ("i >= of.size", "i + 1 >= of.size"),
        ("begin + n * THREADS + threadIdx.x", "begin + n + threadIdx.x"),
        ("(THREADS * EACH)", "THREADS"),
        ("(THREADS * EACH_CHECKED)", "THREADS"),
        # the check
        ("!isfinite(loss[0])", "false"),
        ("finite = finite && isfinite(g);", "finite = isfinite(g);"),
        ("if (!finite) atomicCAS(broken, 0, step);", ""),
        ("broken[0]", "0"),
        # norms
        ("sums[threadIdx.x] = value;", "sums[threadIdx.x] = 0;"),
        ("__syncthreads();", ""),
        ("THREADS / 2", "THREADS / 4"),
        ("double(g) * double(g)", "double(g)"),
        ("parameters.at[p + 1].first_check", "parameters.at[p].first_check"),
        (
            "p + 1 < parameters.count ? parameters.at[p + 1].first_check : parameters.checks",
            "p + 1 < parameters.count ? parameters.at[p + 1].first_check : parameters.checks - 1",
        ),
        ("n += THREADS", "n += THREADS + 1"),
        ("fmax(sqrt(square_norm), 1e-30)", "fmax(square_norm, 1e-30)"),
        ("fmin(1.0, clip / fmax(sqrt(square_norm), 1e-30))", "clip / fmax(sqrt(square_norm), 1e-30)"),
        ("all ? 0 : parameters.at[p].first_check", "0"),
        ("factors[p]", "factors[0]"),
        ("g *= factor;", ""),
        ("fmax(g, -limit)", "g"),
        # rows
        ("i % of.columns == 0", "i == 0"),
        ("int(i / of.columns)", "int(i % of.columns)"),
        ("k < of.K", "true"),
        ("unsigned(ids[k]) == row", "true"),
        ("k * of.columns + i % of.columns", "i % of.columns"),
        ("Rule::slots == 0", "true"),
        # the equations
        ("w -= learning_rate * g;", "w += learning_rate * g;"),
        ("m = mu * m - learning_rate * g;", "m = mu * m + learning_rate * g;"),
        ("nesterov ? mu * m - learning_rate * g : m", "m"),
        ("rho * v + one_minus_rho * g * g", "rho * v + one_minus_rho * g"),
        ("sqrt(v + epsilon)", "sqrt(v) + epsilon"),
        ("m = beta_1 * m + one_minus_beta_1 * g;", "m = beta_1 * m + g;"),
        ("one_minus_beta_2 * g * g", "one_minus_beta_2 * fabs(g)"),
        ("(sqrt(v) + epsilon)", "sqrt(v + epsilon)"),
        ("REAL(1 - beta_2)", "REAL(1 - beta_1)"),
        ("if (Rule::slots > 1) second[i] = second_i;", ""),
        ("REAL(part) * (w[i] - average[i])", "REAL(part) * w[i]"),
        ("average[i] = moved;", ""),
        ("if (overwrites) w[i] = moved;", ""),
    ],
}


def with_mistakes(code, mistakes):
    """The code with all of them in it, none of them made unless `mistake` is its number, from 1."""
    at = {}  # the code -> what replaces it
    for number, (right, wrong) in enumerate(mistakes, start=1):
        assert right in code, right
        now = at.get(right, right)
        if right.endswith(";") or not wrong:
            at[right] = f"if (mistake == {number}) {{ {wrong} }} else {now}"
        else:
            at[right] = f"(mistake == {number} ? {wrong} : {now})"
    for right in sorted(at, key=len, reverse=True):  # what contains another comes first
        code = code.replace(right, at[right])
    return 'extern "C" { int mistake = 0; }\n' + code


@pytest.fixture
def plant(cupy, monkeypatch):
    """Let the kernels of a file make a mistake: number 0 is none."""
    right = device.source
    monkeypatch.setattr(device, "source", lambda file: with_mistakes(right(file), MISTAKES[file]))
    monkeypatch.setattr(cupy_optimizers, "_SIZES", SMALL)

    def planted(file, number):
        sizes = SMALL if file == "optimizers.cu" else {}
        library, _ = device._module(file, np.dtype("float64"), **sizes).library
        ctypes.c_int.in_dll(library, "mistake").value = number

    return planted


def sum_rows(cupy):
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(20), [1] * 12 + [3, 5, 31, 32, 33, 70, 100, 200])
    groups = Groups(rng.permutation(ids)[None])
    for D in 3, 40:
        values = rng.normal(size=(ids.size, D))
        sums = groups.sum(cupy.asarray(values)).get()
        np.testing.assert_allclose(sums, groups.sum(values), rtol=1e-12, atol=1e-12)


def optimize(cupy):
    shapes = [(30, 7), (5,), (70,), (40, 3), (3300,), (1, 1)]
    for kind, clip in [(kind, {}) for kind in KINDS] + [("sgd", clip) for clip in CLIPS]:
        rng = np.random.default_rng(1)
        params = [rng.normal(size=shape) for shape in shapes]
        both = OnBoth(cupy, KINDS[kind](**clip), params)
        for _ in range(3):
            both.step([gradient_of(w, rng, w.ndim == 2) for w in params], loss=1.0)
        both.require_equal(1e-12)
        assert both.broken.get() == 0
        bad = [gradient_of(w, rng, False) for w in params]
        bad[4][0] = np.inf
        for grads, loss in (None, np.nan), (bad, 1.0):
            both.broken = cupy.zeros((1,), np.int32)
            both.step_gpu(grads or params, loss=loss)
            assert both.broken.get() == both.gpu.iterations
            both.require_equal(1e-12)


RUNS = {"rows.cu": sum_rows, "optimizers.cu": optimize}


@pytest.mark.parametrize("file", MISTAKES)
def test_without_a_mistake_all_is_well(file, plant, cupy):
    plant(file, 0)
    RUNS[file](cupy)


@pytest.mark.parametrize(
    ("file", "number"), [(file, number) for file in MISTAKES for number in range(1, len(MISTAKES[file]) + 1)]
)
def test_each_mistake_is_seen(file, number, plant, cupy):
    plant(file, number)
    with pytest.raises((raw_module.EmulationError, AssertionError)):
        RUNS[file](cupy)
