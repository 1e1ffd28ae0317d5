"""Back through h = o tanh(c), to the output gate: equation (7).

The forward pass ends with

    (6)  h = o tanh(c)

and `dh`, the gradient of the loss L with respect to h, is given from above. o appears nowhere else in the step, so
there is one path from o to L. Elementwise, with dh/do from (6): dL/do = dL/dh · dh/do.

`tanh_c` is tanh(c), which the forward pass kept. Shapes: every array is (B, H): B samples, H units.

The derivation, with an example in numbers: docs/derivation.md#through-6-the-hidden-state
"""

import numpy as np

from scratchlstm.gates import sigmoid, tanh


def do(dh, o, c, tanh_c):
    """(7), dL/do, (B, H), for o = σ(z_o), after its activation."""
    return dh * tanh_c  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "do": (
        "Keep c fixed and change o a little: how much does h = o tanh(c) change?",
        "dh/do is the other factor of the product. Multiply the incoming gradient by it.",
        "do = dh * tanh_c",
    )
}
MISTAKES = [
    Mistake("dh * tanh_c", "dh", "the factor tanh(c) is missing: h is o times tanh(c)"),
    Mistake("dh * tanh_c", "tanh_c", "dh is missing: this is dh/do, to be multiplied by the incoming gradient"),
    Mistake("dh * tanh_c", "dh * c", "(6) shows tanh(c), not c itself"),
    Mistake("dh * tanh_c", "dh * o", "this is the path through tanh(c), the other factor; the slope in o is tanh(c)"),
    Mistake("dh * tanh_c", "dh * o * tanh_c", "this is dh times h; the slope of h in o is just tanh(c), without o"),
    Mistake("dh * tanh_c", "dh * tanh(tanh_c)", "tanh_c is already tanh(c): do not apply tanh to it again"),
    Mistake("dh * tanh_c", "dh * sigmoid(tanh_c)", "σ does not belong here: (6) multiplies o by tanh(c) itself"),
    Mistake("dh * tanh_c", "dh * (1 - tanh_c * tanh_c)", "the slope of tanh belongs to the path to c, which is (8)"),
    Mistake("dh * tanh_c", "dh * tanh_c * o * (1 - o)", "the slope of σ belongs to (16): here o is the value, not z_o"),
    Mistake(
        "dh * tanh_c",
        "dh * o * (1 - o)",
        "this is the slope of σ, which belongs to (16); the factor tanh(c) is missing",
    ),
    Mistake("dh * tanh_c", "dh + tanh_c", "the two are multiplied, not added: the chain rule"),
    Mistake("dh * tanh_c", "-dh * tanh_c", "the sign is wrong: h grows with o where tanh(c) is positive"),
    Mistake("dh * tanh_c", "dh @ tanh_c", "the product is elementwise: `*`, not `@`"),
    Mistake("dh * tanh_c", "np.dot(dh, tanh_c)", "the product is elementwise: `*`, not np.dot"),
]
