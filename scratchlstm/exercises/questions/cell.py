"""Back to the cell, on two paths: equation (8).

c is used in two places: in this step's hidden state, and in the cell of the next step:

    (6)  h = o tanh(c)
    (5)  c_next = f_next c + i_next g_next

Both lead to the loss, so dc is a sum of two terms. The second was already computed when step t + 1 was processed: it is
`dc_next`. The first goes through (6), where `dh` is given.

`tanh_c` is tanh(c). `tanh_prime(t)` is the slope of tanh, in terms of its value t, as in the first exercise.
Shapes: every array is (B, H).

The derivation, with an example in numbers: docs/derivation.md#through-6-the-hidden-state
"""

import numpy as np

from scratchlstm.gates import sigmoid, sigmoid_prime, tanh, tanh_prime


def dc(dc_next, dh, f, o, c, tanh_c):
    """(8), dL/dc, (B, H): the sum over both paths."""
    return dc_next + dh * o * tanh_prime(tanh_c)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "dc": (
        "L depends on c through h and through c_next: compute the gradient of each path, then add the two.",
        "The path through h: dh times the slope of o tanh(c) with respect to c. Which function's slope is in it?",
        "dc = dc_next + dh * o * tanh_prime(tanh_c)",
    )
}
_DC, _SLOPE = "dc_next + dh * o * tanh_prime(tanh_c)", "tanh_prime(tanh_c)"
MISTAKES = [
    Mistake("dc_next + dh", "dh", "dc_next is missing: c also reaches the loss through the next step's cell"),
    Mistake(f"* {_SLOPE}", "", "the slope of tanh is missing: h shows tanh(c), not c"),
    Mistake(_SLOPE, "tanh_c", "this is tanh itself; its slope belongs here, 1 - tanh²(c)"),
    Mistake(_SLOPE, "tanh_prime(c)", "the slope of tanh is 1 - tanh²(c): square tanh_c, not c"),
    Mistake(_SLOPE, "tanh_prime(tanh(tanh_c))", "tanh_c is already tanh(c): do not apply tanh to it again"),
    Mistake(_SLOPE, "tanh_prime(o * tanh_c)", "this squares h = o tanh(c); the slope of tanh is 1 - tanh²(c)"),
    Mistake(_SLOPE, "sigmoid_prime(tanh_c)", "this is the slope of σ; (6) has tanh(c), whose slope is 1 - tanh²(c)"),
    Mistake(_SLOPE, "(1 - tanh_c)", "tanh(c) must be squared: the slope of tanh is 1 - tanh²(c)"),
    Mistake(_SLOPE, "(1 - tanh_c) ** 2", "only tanh(c) is squared, not the whole of 1 - tanh(c)"),
    Mistake(_SLOPE, "c", "this is c; the slope of tanh belongs here, 1 - tanh²(c)"),
    Mistake(_SLOPE, "(1 + tanh_c * tanh_c)", "a sign is wrong: the slope of tanh is 1 - tanh²(c)"),
    Mistake(_SLOPE, "(1 - o)", "o (1 - o) is the slope of σ, and belongs to (16); c reaches h through tanh"),
    Mistake(_SLOPE, "(1 - tanh_c) ** 2", "only tanh(c) is squared, not the whole of 1 - tanh(c)"),
    Mistake(_SLOPE, f"{_SLOPE} ** 2", "the slope of tanh is squared here; it is 1 - tanh²(c), once"),
    Mistake("dh * o *", "dh * o * o *", "the factor o appears twice: h = o tanh(c) has it once"),
    Mistake("dh * o *", "dh *", "the factor o is missing: the output gate decides how much of c is shown"),
    Mistake("dh * o *", "dh * f *", "the factor is o, not f: the output gate decides how much of c is shown"),
    Mistake("dh * o *", "dh * tanh_c *", "the factor is o: in h = o tanh(c), tanh(c) is what you differentiate"),
    Mistake("+ dh * o", "+ o", "dh is missing in the path through h: multiply by the incoming gradient"),
    Mistake("dh * o * tanh_prime", "dh + o * tanh_prime", "dh is multiplied by the slope of h, not added to it"),
    Mistake("dc_next + dh", "dc_next * f + dh", "dc_next is used as it is: (12) has already multiplied it by f_next"),
    Mistake("dc_next + dh", "dc_next * dh", "the two paths add up; they are not multiplied"),
    Mistake("dc_next + dh", "(dc_next + dh)", "dc_next is not multiplied by the slope of h: only dh belongs to h"),
    Mistake(_DC, "dc_next + dh", "dh is the gradient of h, not of c: the slope of h = o tanh(c) in c is missing"),
]
