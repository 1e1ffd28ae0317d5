"""σ and tanh of one number, for compiled loops.

Both come from e^x = 2^n e^r with n = round(x / ln 2) and r = x - n ln 2, which is at most ln(2)/2 in size: e^r - 1 is
the sum of a few terms of its Taylor series, and 2^n is written into the exponent's bits. There is no branch and no
table, so a processor computes several numbers at once, and no precision is lost however near 0 the result is: both are
accurate to 3 units in the last place.
"""

import math
from typing import Any, cast

import numpy as np
from numba import types
from numba.extending import overload

from scratchlstm._support.compiled import PART, loop, part


@part
def sigmoid(z: Any) -> Any:
    """1 / (1 + e^-z)."""
    one = type(z)(1)
    power, rest = exponential(-z)
    return one / (one + power + power * rest)


@part
def tanh(x: Any) -> Any:
    """(1 - e^-2|x|) / (1 + e^-2|x|), with the sign of x."""
    one, two = type(x)(1), type(x)(2)
    power, rest = exponential(-two * abs(x))
    less_one = power * rest + (power - one)  # e^-2|x| - 1
    return np.copysign(-less_one / (two + less_one), x)


@loop
def flushed(d: Any) -> Any:
    """A gradient, or 0 if it is tiny: below 1e-30 in float32, 1e-290 in float64.

    Over many steps gradients fade, and with numbers near the smallest representable a processor is a hundred times
    slower.
    """
    tiny = type(d)(1e-290)
    if tiny == 0:  # in float32
        tiny = type(d)(1e-30)
    return type(d)(0) if abs(d) < tiny else d


def exponential(x: Any) -> Any:
    """(2^n, e^r - 1), so that e^x is 2^n (1 + (e^r - 1)); x is clipped where e^x or e^-x is not a normal number."""
    raise NotImplementedError("for compiled loops only")


@overload(exponential, jit_options=cast(Any, PART))
def _exponential(x: Any) -> Any:
    of_dtype = {
        types.float32: (np.float32, np.int32, 7, 23, 127, 87.0, 0.693359375, -2.12194440e-4),
        types.float64: (np.float64, np.int64, 13, 52, 1023, 708.0, 0.693147180369123816490, 1.90821492927058770002e-10),
    }
    real, whole, terms, *constants = cast(Any, of_dtype[x])
    bits, bias = map(whole, constants[:2])
    most, ln_2, its_rest = map(real, constants[2:])  # n ln_2 is exact
    per_ln_2, half, zero = real(1 / math.log(2)), real(0.5), real(0)
    factors = tuple(real(1 / math.factorial(k)) for k in range(terms, 0, -1))

    def exponential(x: Any) -> Any:
        x = most if x > most else x  # NaN stays NaN
        x = -most if x < -most else x
        n = np.floor(x * per_ln_2 + half)
        r = (x - n * ln_2) - n * its_rest
        rest = zero
        for factor in factors:
            rest = (rest + factor) * r  # r/1! + r²/2! + r³/3! + ...
        return whole((whole(n) + bias) << bits).view(real), rest

    return exponential
