"""Back through the activations, to z: equations (13) to (16).

    (1)  i = σ(z_i)        (2)  f = σ(z_f)        (3)  g = tanh(z_g)        (4)  o = σ(z_o)

`di`, `df`, `dg` and `do` are given for the values. One step further back are z_i, z_f, z_g and z_o: multiply by the
slope of the activation in between.

`sigmoid_prime(s)` and `tanh_prime(t)` are the slopes in terms of the *values* s = σ(z) and t = tanh(z), as in the first
exercise.
Shapes: every array is (B, H).

The derivation, with an example in numbers: docs/derivation.md#through-1-to-4-the-activations
"""

import numpy as np

from scratchlstm.gates import sigmoid, sigmoid_prime, tanh, tanh_prime


def dz_i(di, df, dg, do, i, f, g, o, z_i):
    """(13), dL/dz_i, (B, H)."""
    return di * sigmoid_prime(i)  # ?


def dz_f(di, df, dg, do, i, f, g, o, z_f):
    """(14), dL/dz_f, (B, H)."""
    return df * sigmoid_prime(f)  # ?


def dz_g(di, df, dg, do, i, f, g, o, z_g):
    """(15), dL/dz_g, (B, H)."""
    return dg * tanh_prime(g)  # ?


def dz_o(di, df, dg, do, i, f, g, o, z_o):
    """(16), dL/dz_o, (B, H)."""
    return do * sigmoid_prime(o)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

_PRIMES = {"i": "sigmoid_prime", "f": "sigmoid_prime", "g": "tanh_prime", "o": "sigmoid_prime"}

HINTS = {
    f"dz_{gate}": (
        f"Which function maps z_{gate} to {gate}? Its slope is the factor between d{gate} and dz_{gate}.",
        f"The slope is {prime}, and it takes the value of the activation. Which of the arguments is that?",
        f"dz_{gate} = d{gate} * {prime}({gate})",
    )
    for gate, prime in _PRIMES.items()
}


def _of_gate(gate):
    prime = _PRIMES[gate]
    value, slope, function, sign = f"d{gate}", f"{prime}({gate})", prime.removesuffix("_prime"), "σ"
    formula, wrong, wrong_sign = f"{gate} (1 - {gate})", "tanh_prime", "tanh"
    if gate == "g":
        formula, sign, wrong, wrong_sign = "1 - g²", "tanh", "sigmoid_prime", "σ"
    right = f"{value} * {slope}"
    yield Mistake(f" * {slope}", "", f"the slope of {sign} is missing: it is {formula}")
    yield Mistake(right, slope, f"{value} is missing: multiply the slope by the incoming gradient")
    yield Mistake(slope, gate, f"this is {sign} itself; its slope belongs here, {formula}")
    yield Mistake(
        slope, f"{function}({gate})", f"{gate} is already a value of {sign}; its slope belongs here, {formula}"
    )
    yield Mistake(
        slope, f"{prime}({function}({gate}))", f"{gate} is already a value of {sign}: do not apply {sign} again"
    )
    yield Mistake(slope, f"{prime}(z_{gate})", f"{prime} takes the value {gate}, not z_{gate}")
    yield Mistake(slope, f"{prime}({value})", f"{prime} takes the value {gate}, not the gradient {value}")
    yield Mistake(
        slope, f"{wrong}({gate})", f"this is the slope of {wrong_sign}; {gate} is a value of {sign}: {formula}"
    )
    yield Mistake(slope, f"(1 - {gate})", f"this is not the whole slope of {sign}, which is {formula}")
    written, bare = (
        (f"(1 - {gate} * {gate})", f"1 - {gate} * {gate}")
        if gate == "g"
        else (f"{gate} * (1 - {gate})", f"{gate} * 1 - {gate}")
    )
    yield Mistake(right, f"{value} * {bare}", f"parentheses are missing: it is {value} * {written}")
    yield Mistake(right, f"{value} + {slope}", f"{value} is multiplied by the slope, not added to it: the chain rule")
    yield Mistake(f"{value} *", f"{value} @", "the product is elementwise: `*`, not `@`")


MISTAKES = [mistake for gate in _PRIMES for mistake in _of_gate(gate)]
