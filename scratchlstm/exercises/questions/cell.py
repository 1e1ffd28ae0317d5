"""Back to the cell, which is reached twice: equation (8).

c is used in two places: by this step's hidden state, and by the cell of the next step:

    (6)  h = o tanh(c)
    (5)  c_next = f_next c + i_next g_next

Both lead to the loss, so dc is a sum of two terms. The second has been computed already, when step t + 1 was processed:
it is `dc_next`. The first leads through (6): `dh` has arrived there.

Shapes: every array is (B, H).
"""


def dc(dc_next, dh, o, c, tanh_c):
    """(8), dL/dc, (B, H): the sum over both paths."""
    return dc_next + dh * o * (1 - tanh_c * tanh_c)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "dc": (
        "L sees c through h and through c_next: compute the gradient of each path by itself, then add the two.",
        "The path through h: dh times the slope of o tanh(c) with respect to c. Which function's slope is in it?",
        "dc = dc_next + dh * o * (1 - tanh_c * tanh_c)",
    )
}
MISTAKES = [
    Mistake(
        "dc_next + dh * o * (1 - tanh_c * tanh_c)",
        "dh * o * (1 - tanh_c * tanh_c)",
        "dc_next is missing: c also reaches the loss through the next step's cell",
    ),
    Mistake(
        "dc_next + dh * o * (1 - tanh_c * tanh_c)",
        "dc_next",
        "the path through h is missing: h = o tanh(c) shows c in this step, too",
    ),
    Mistake("* (1 - tanh_c * tanh_c)", "", "the slope of tanh is missing: h shows tanh(c), not c"),
    Mistake("(1 - tanh_c * tanh_c)", "(1 - c * c)", "the slope of tanh is 1 - tanh²(c): square tanh_c, not c"),
    Mistake("(1 - tanh_c * tanh_c)", "tanh_c", "this is tanh itself; its slope belongs here, 1 - tanh²(c)"),
    Mistake("dh * o * (1", "dh * (1", "the factor o is missing: the output gate decides how much of c is shown"),
    Mistake("dc_next + dh", "dc_next * dh", "the two paths add up; they are not multiplied"),
]
