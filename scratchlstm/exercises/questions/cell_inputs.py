"""Back through c = f c_prev + i g: equations (9) to (12).

    (5)  c = f c_prev + i g

`dc`, the whole gradient of the loss with respect to c, is known from (8). Each of i, f, g and c_prev appears once in
(5). Elementwise, for each of them: d(name) = dc · (slope of c in the name). i, f and g are values here, that
is, after their activations.

Shapes: every array is (B, H).

The derivation, with an example in numbers: docs/derivation.md#through-5-the-cell
"""

import numpy as np

from scratchlstm.gates import sigmoid_prime, tanh, tanh_prime


def di(dc, dc_next, i, f, g, c_prev, c):
    """(9), dL/di, (B, H)."""
    return dc * g  # ?


def df(dc, dc_next, i, f, g, c_prev, c):
    """(10), dL/df, (B, H)."""
    return dc * c_prev  # ?


def dg(dc, dc_next, i, f, g, c_prev, c):
    """(11), dL/dg, (B, H)."""
    return dc * i  # ?


def dc_prev(dc, dc_next, i, f, g, c_prev, c):
    """(12), dL/dc_prev, (B, H): what the previous step receives as its `dc_next`."""
    return dc * f  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

_SLOPES = {"i": "g", "f": "c_prev", "g": "i", "c_prev": "f"}  # of c in each of its inputs
_C = "(f * c_prev + i * g)"  # c is not available in a whole backward step

HINTS = {
    f"d{name}": (
        f"Change {name} a little in (5), with the others fixed: how much does c change?",
        f"{name} is in a product of two factors: the slope of c in {name} is the other factor.",
        f"d{name} = dc * {slope}",
    )
    for name, slope in _SLOPES.items()
}


def _of_input(name):
    slope = _SLOPES[name]
    right, term = f"dc * {slope}", f"{name} * {slope}"
    yield Mistake(right, "dc", f"the factor {slope} is missing: in (5) {name} is multiplied by it")
    yield Mistake(right, slope, f"dc is missing: {slope} is the slope of c, to be multiplied by the incoming gradient")
    yield Mistake(right, f"dc_next * {slope}", "dc_next is one of two paths to c: use dc, the sum of both, from (8)")
    yield Mistake(right, f"dc + {slope}", f"dc is multiplied by {slope}, not added to it: the chain rule")
    yield Mistake(
        right, f"dc * {term}", f"this is dc times the whole term {name} {slope}; the slope in {name} is {slope}"
    )
    yield Mistake(right, f"dc @ {slope}", "the product is elementwise: `*`, not `@`")
    yield Mistake(right, f"np.dot(dc, {slope})", "the product is elementwise: `*`, not np.dot")
    if slope != "c_prev":
        yield Mistake(
            right, f"dc * {name}", f"the slope of c in {name} is the other factor, {slope}, not {name} itself"
        )


MISTAKES = [
    *(mistake for name in _SLOPES for mistake in _of_input(name)),
    Mistake("dc * g", "dc * g * i * (1 - i)", "the slope of σ belongs to (13): here i is the value, not z_i"),
    Mistake("dc * g", "dc * tanh(g)", "g is already a value of tanh: do not apply tanh to it again"),
    Mistake("dc * g", "dc * tanh_prime(g)", "the slope of tanh belongs to (15), where g itself is differentiated"),
    Mistake("dc * c_prev", f"dc * {_C}", "the old cell belongs here, c_prev, not c"),
    Mistake("dc * c_prev", "dc * tanh(c_prev)", "(5) has c_prev itself; tanh only comes in (6)"),
    Mistake("dc * c_prev", "dc * c_prev * f * (1 - f)", "the slope of σ belongs to (14): here f is the value, not z_f"),
    Mistake("dc * i", "dc * i * (1 - g * g)", "the slope of tanh belongs to (15): here g is the value, not z_g"),
    Mistake("dc * f", "dc * (1 - f)", "f is what is kept: the factor is f, not 1 - f"),
    Mistake("dc * f", "dc_next", "the previous step does not get dc_next unchanged: it gets dc, times f"),
    Mistake("dc * f", "dc + dc_next * f", "dc, the whole gradient, is multiplied by f; it includes dc_next"),
    Mistake("dc * f", "dc * f + dc_next", "dc_next counts twice: dc already contains it, see (8)"),
    Mistake("dc * f", "dc * f * tanh_prime(c_prev)", "there is no tanh between c_prev and c: (5) has none"),
]
