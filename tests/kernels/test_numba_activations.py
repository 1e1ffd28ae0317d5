"""σ and tanh of compiled loops against long double: right digits everywhere, however small the result."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("scipy")

from numba import njit

from scratchlstm._support.compiled import OPTIONS
from scratchlstm.kernels.numba_activations import flushed, sigmoid, tanh

DTYPES = "float32", "float64"
EXACT = {sigmoid: lambda z: 1 / (1 + np.exp(-z)), tanh: np.tanh}
ULPS = 3  # units in the last place
of_each = {}


def compute(function, values):
    """The function of each value, as a loop that a processor computes several numbers of at once."""

    def run(values, out):
        for j in range(len(values)):
            out[j] = function(values[j])

    loop = of_each.setdefault(function, njit(**OPTIONS)(run))
    with ThreadPoolExecutor(1) as pool:  # in the main thread, Numba would wait for the thread that compiles `function`
        pool.submit(loop, values, out := np.empty_like(values)).result()
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", EXACT)
def test_right_to_a_few_units_in_the_last_place(function, dtype):
    kind = np.finfo(dtype)
    small = 10.0 ** np.linspace(np.log10(kind.tiny) + 1, 0, 20_000)  # as many of each size
    large = np.linspace(1, 87 if dtype == "float32" else 708, 20_000)
    at_halves = np.log(2) * (np.arange(60) + 0.5)  # where another power of 2 is taken out
    values = np.concatenate([small, large, at_halves, np.nextafter(at_halves, 99), np.nextafter(at_halves, 0)])
    values = np.concatenate([values, -values]).astype(dtype)
    exact = EXACT[function](values.astype(np.longdouble))
    error = np.abs(compute(function, values) - exact) / np.abs(exact)
    assert error.max() <= ULPS * kind.eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_infinities_and_what_is_no_number(dtype):
    kind = np.finfo(dtype)
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, kind.max, -kind.max], dtype)
    with np.errstate(all="raise"):
        squashed, gates = compute(tanh, values), compute(sigmoid, values)
    np.testing.assert_array_equal(squashed, [0, 0, 1, -1, np.nan, 1, -1])
    assert list(np.signbit(squashed[:2])) == [False, True]
    np.testing.assert_array_equal(gates[[0, 1, 2, 4, 5]], [0.5, 0.5, 1, np.nan, 1])
    assert all(0 <= gate < 4 * kind.tiny for gate in gates[[3, 6]])


@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-30), ("float64", 1e-290)])
def test_tiny_gradients_become_0_and_all_others_stay(dtype, tiny):
    values = np.array([tiny * 1.01, -tiny * 1.01, np.nan, np.inf, -np.inf, tiny * 0.99, -tiny * 0.99, 0], dtype)
    found = compute(flushed, values)
    np.testing.assert_array_equal(found[:5], values[:5])
    np.testing.assert_array_equal(found[5:], 0)
