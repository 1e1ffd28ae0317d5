"""Back through h = o tanh(c), to the output gate: equation (7).

The forward pass ends with

    (6)  h = o tanh(c)

and `dh`, the gradient of the loss L with respect to h, has arrived from above. o appears nowhere else in the step, so
there is one path from o to L. Elementwise, with dh/do from (6): dL/do = dL/dh · dh/do.

Shapes: every array is (B, H): B samples, H units.
"""


def do(dh, o, c, tanh_c):
    """(7), dL/do, (B, H), for o = σ(z_o) as it is after its activation."""
    return dh * tanh_c  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "do": (
        "Keep c fixed and change o a little: how much does h = o tanh(c) change?",
        "dh/do is the other factor of the product. Multiply what arrived by it.",
        "do = dh * tanh_c",
    )
}
MISTAKES = [
    Mistake("dh * tanh_c", "dh", "the factor tanh(c) is missing: h is o times tanh(c)"),
    Mistake("dh * tanh_c", "dh * c", "(6) shows tanh(c), not c itself"),
    Mistake("dh * tanh_c", "dh * o", "this leads through tanh(c), the other factor; the slope in o is tanh(c)"),
    Mistake("dh * tanh_c", "dh * tanh_c * o * (1 - o)", "the slope of σ belongs to (16): here o is the value, not z_o"),
]
