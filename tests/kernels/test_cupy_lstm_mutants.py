"""Mistakes planted in lstm.cu, each of which the emulator or the textbook has to catch.

All mistakes of a version are compiled into one program, in which a number says which of them is made.
"""

import ctypes

import pytest
import raw_module
from cupy_standin import in_place_of_cupy
from lstm_case import Case, same
from test_cupy_mutants import with_mistakes

from scratchlstm._support import device
from scratchlstm.kernels import cupy_lstm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(raw_module.compiler() is None, reason="the emulator of a GPU needs g++ or clang++"),
]

# The code, and the mistake that replaces it; "" for an omitted barrier.
CELL = [
    ("gate == 2", "gate == 3"),
    ("gates.f * c_prev + gates.i * gates.g", "c_prev + gates.i * gates.g"),  # (5)
    ("gates.f * c_prev + gates.i * gates.g", "gates.f * c_prev + gates.g"),
    ("gates.o * state.tanh_c", "state.tanh_c"),  # (6)
    ("gates.o * state.tanh_c", "gates.o * state.c"),
    ("dh * tanh_c", "dh"),  # (7)
    ("dc_next + dh * o * phi_prime(tanh_c)", "dh * o * phi_prime(tanh_c)"),  # (8)
    ("dc_next + dh * o * phi_prime(tanh_c)", "dc_next + dh * phi_prime(tanh_c)"),
    ("dc_next + dh * o * phi_prime(tanh_c)", "dc_next + dh * o"),
    ("dc * g", "dc"),  # (9)
    ("dc * c_prev", "dc"),  # (10)
    ("dc * i", "dc"),  # (11)
    ("dc * f", "dc"),  # (12)
    ("di * sigma_prime(i)", "di"),  # (13)
    ("df * sigma_prime(f)", "df"),  # (14)
    ("dg * phi_prime(g)", "dg * sigma_prime(g)"),  # (15)
    ("do_ * sigma_prime(o)", "do_"),  # (16)
    ("reverse ? T - 1 - s : s", "s"),
    ("bool(mask[(long long)row * T + t])", "bool(mask[(long long)t * B + row])"),
    ("index ? int(index[n]) : int(n)", "int(n)"),
]
COLUMN_A_THREAD = [
    ("__syncthreads();  // h0 is in its place", ""),
    ("__syncthreads();  // all gates are there", ""),
    ("__syncthreads();  // all of h is there, and nobody needs the gates", ""),
    ("__syncthreads();  // all of dz is there\n", ""),
    ("__syncthreads();  // all sums are there", ""),
    ("valid ? state.h : h_prev", "state.h"),
    ("valid ? state.c : c_prev", "state.c"),
    ("valid ? dz_own[each] : REAL(0)", "dz_own[each]"),
    ("valid ? REAL(0) : dh", "REAL(0)"),
    ("valid ? d.dc_prev : dc_next", "d.dc_prev"),
    ("start[m * step]", "start[(m + 1) * step]"),
    ("gates[2 * UNITS + unit]", "gates[3 * UNITS + unit]"),
    ("dz[gate * UNITS + m]", "dz[gate * UNITS + m + 1]"),
]
QUAD_A_UNIT = [
    ("__syncthreads();  // h is zero", ""),
    ("__syncthreads();  // h0 is there", ""),
    ("__syncthreads();  // all of h is there, and nobody needs the other copy", ""),
    ("__syncthreads();  // dz is zero", ""),
    ("__syncthreads();  // all of dz is there, and nobody needs the other copy", ""),
    ("valid[r] ? state.h : h_prev", "state.h"),
    ("valid[r] ? state.c : c_prev", "state.c"),
    ("valid[r] ? dz_gate : REAL(0)", "dz_gate"),
    ("valid[r] ? REAL(0) : dh", "REAL(0)"),
    ("valid[r] ? d.dc_prev : dc_next[r]", "d.dc_prev"),
    ("dh_next[r] += dh_prev", "dh_next[r] = dh_prev"),
    ("dh_next[r] + dh_above[r]", "dh_next[r]"),
    ("z_x[r] + b", "z_x[r]"),
    ("ROWS * ROW - now", "now"),
    ("s % 2 * ROWS * ROW", "0"),
    ("__shfl_sync(WARP, a, first + 2)", "__shfl_sync(WARP, a, first + 1)"),
    ("2 * apart", "apart"),
    ("total(sums[r], share / 4, 4)", "total(sums[r], part, 4)"),
    ("__shfl_xor_sync(WARP, dh_prev, 2)", "dh_prev"),
    ("min(ROWS, lstm.B - first_row)", "ROWS"),
    ("unit < UNITS && k < UNITS", "unit < UNITS && k <= UNITS"),
    ("k < UNITS && of_gate < UNITS", "k < UNITS && of_gate <= UNITS"),
    ("at < 2 * ROWS * ROW", "at <= 2 * ROWS * ROW"),
    ("at < 2 * ROWS * ROW", "at < ROWS * ROW"),
    ("r < rows && s < lstm.T", "r < rows && s <= lstm.T"),
    ("ask(s + 1)", "ask(s)"),
    ("m + q >= PART", "m + q >= PART - 1"),
    ("(m - HELD) * THREADS", "(m - HELD + 1) * THREADS"),
    ("k / PART * STRIDE + k % PART", "k"),
]
A_STEP = [
    ("own >= (long long)B * H", "own > (long long)B * H"),
    ("valid ? state.h : h_prev", "state.h"),
    ("valid ? state.c : c_prev", "state.c"),
    ("valid ? REAL(0) : dh", "REAL(0)"),
    ("valid ? d.dc_prev : dc", "d.dc_prev"),
    ("valid ? d.dz_i : REAL(0)", "d.dz_i"),
    ("valid ? d.dz_f : REAL(0)", "d.dz_f"),
    ("valid ? d.dz_g : REAL(0)", "d.dz_g"),
    ("valid ? d.dz_o : REAL(0)", "d.dz_o"),
    ("dh_past[own] + above", "above"),
    ("dh_past[own] + above", "dh_past[own]"),
    ("z_x[of_x * 4 * H + column]", "z_x[n * 4 * H + column]"),
    ("b[column]", "REAL(0)"),
]
MISTAKES = {1: COLUMN_A_THREAD, 3: CELL + QUAD_A_UNIT, 0: A_STEP}
# 18 units fill neither parts, nor quads of quads, nor warps; 5 rows not the last block; 3 of 5 weights are in registers
LAYOUT = (2, 3)
CASES = [Case(B=5, H=18, tokens=True, masked=True, reverse=True), Case(B=5, T=3, H=18, masked=True)]
EXPECTED = [case.textbook() for case in CASES]


def mistaken(version):
    """A version with all its mistakes in it, none of them made unless `mistake` is its number, from 1."""
    definitions = {"REAL": "double", "VERSION": version, "UNITS": 18}
    if version == 3:
        definitions |= {"ROWS": LAYOUT[0], "HELD": LAYOUT[1]}
    options = tuple(f"-D{key}={value}" for key, value in definitions.items())
    return raw_module.RawModule(code=with_mistakes(device.source("lstm.cu"), MISTAKES[version]), options=options)


@pytest.fixture(scope="module")
def plant():
    """Let the kernels make a mistake: number 0 is none."""
    modules, compiled = {}, device.kernel
    with in_place_of_cupy(), pytest.MonkeyPatch.context() as patch:

        def planted(version, number):
            if version not in modules:
                modules[version] = mistaken(version)
            library, _ = modules[version].library
            ctypes.c_int.in_dll(library, "mistake").value = number
            patch.setattr(
                device,
                "kernel",
                lambda file, name, dtype, **sizes: (
                    device.Kernel(modules[version].get_function(name))
                    if file == "lstm.cu"
                    else compiled(file, name, dtype, **sizes)
                ),
            )
            layout = None if version == 0 else cupy_lstm._layout(18, *LAYOUT, 8)
            patch.setattr(cupy_lstm, "plan", lambda H, B, itemsize, limits: layout)

        yield planted


def run(version):
    for case, expected in zip(CASES, EXPECTED, strict=True):
        same(case.results(version=version or 3), expected, "float64")


@pytest.mark.parametrize("version", MISTAKES)
def test_without_a_mistake_all_is_well(version, plant):
    plant(version, 0)
    run(version)


@pytest.mark.parametrize(
    ("version", "number"), [(version, n) for version in MISTAKES for n in range(1, len(MISTAKES[version]) + 1)]
)
def test_each_mistake_is_seen(version, number, plant):
    plant(version, number)
    with pytest.raises((raw_module.EmulationError, AssertionError)):
        run(version)
