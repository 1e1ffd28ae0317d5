"""The whole backward step: equations (7) to (21) in one function.

`dh` and `dc_next` are given for h and c of this step. Go back through the step line by line, as in the previous
exercises, and return all six gradients. What the forward step kept is in `cache`: x, h_prev, c_prev, the values of the
four gates, and tanh(c).

    z = x W + h_prev U + b                                               (17) to (21)
    (1)  i = σ(z_i)    (2)  f = σ(z_f)    (3)  g = tanh(z_g)    (4)  o = σ(z_o)    (13) to (16)
    (5)  c = f c_prev + i g                                              (9) to (12)
    (6)  h = o tanh(c)                                                   (7), (8)

`np.concatenate([a, b], axis=1)` puts arrays side by side. You need not use the names or lines of the previous
exercises: only the returned values count.
Shapes: dh, dc_next, h_prev, c_prev, i, f, g, o and tanh_c (B, H), x (B, E), W (E, 4H), U (H, 4H).

The derivation, with an example in numbers: docs/derivation.md#back-through-one-step
"""

import numpy as np

from scratchlstm.gates import sigmoid, sigmoid_prime, tanh, tanh_prime


def step_backward(dh, dc_next, cache, W, U):
    """(7-21), dx (B, E), dh_prev (B, H), dc_prev (B, H), dW (E, 4H), dU (H, 4H), db (4H,), in this order."""
    x, h_prev, c_prev, i, f, g, o, tanh_c = cache
    do = dh * tanh_c  # (7) ?-
    dc = dc_next + dh * o * tanh_prime(tanh_c)  # (8) ?-
    di = dc * g  # (9) ?-
    df = dc * c_prev  # (10) ?-
    dg = dc * i  # (11) ?-
    dc_prev = dc * f  # (12) ?-
    dz_i = di * sigmoid_prime(i)  # (13) ?-
    dz_f = df * sigmoid_prime(f)  # (14) ?-
    dz_g = dg * tanh_prime(g)  # (15) ?-
    dz_o = do * sigmoid_prime(o)  # (16) ?-
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)  # ?-
    dx = dz @ W.T  # (17) ?-
    dh_prev = dz @ U.T  # (18) ?-
    dW = x.T @ dz  # (19) ?-
    dU = h_prev.T @ dz  # (20) ?-
    db = np.sum(dz, axis=0)  # (21) ?-
    return dx, dh_prev, dc_prev, dW, dU, db  # ?


# --- the checker's part ---

import inspect  # noqa: E402
import re  # noqa: E402

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.questions import cell, cell_inputs, hidden_state, pre_activations, products  # noqa: E402
from scratchlstm.gradcheck.diagnosis import explain_step, random_step  # noqa: E402

HINTS = {
    "step_backward": (
        "Start at the end of the step, with h = o tanh(c). Which gradient is given there? Which two names get it?",
        "First do and dc, from these the four in (5), then the four slopes, then dz as one array, then the products.",
        "The lines, in this order: do (7), dc (8), di, df, dg, dc_prev (9-12), dz_i to dz_o (13-16), their "
        "np.concatenate(..., axis=1), dx (17), dh_prev (18), dW (19), dU (20), db (21)",
    )
}

_LINES = [line for line in inspect.getsource(step_backward).splitlines() if line.endswith("?-")]
_ELSEWHERE = re.compile(r"\b(c|h|z_.)\b")  # not available here
_BLOCKS = "[dz_i, dz_f, dz_g, dz_o]"
_ORDER = "the blocks of dz must be in the order of those of z: i, f, g, o"
MISTAKES = [
    # each line here is from a previous exercise, with the same mistakes
    *(
        mistake._replace(says=f"{line.split('# ')[1].split(' ?')[0]}: {mistake.says}")
        for exercise in (hidden_state, cell, cell_inputs, pre_activations, products)
        for mistake in exercise.MISTAKES
        for line in _LINES
        if mistake.old in line and not _ELSEWHERE.search(mistake.new)
    ),
    Mistake("h_prev.T @ dz", "(o * tanh_c).T @ dz", "(20): h_prev is multiplied by U in z, not this step's own h"),
    Mistake(_BLOCKS, "[dz_f, dz_i, dz_g, dz_o]", f"(13), (14): {_ORDER}; here i and f are swapped"),
    Mistake(_BLOCKS, "[dz_i, dz_g, dz_f, dz_o]", f"(14), (15): {_ORDER}; here f and g are swapped"),
    Mistake(_BLOCKS, "[dz_i, dz_f, dz_o, dz_g]", f"(15), (16): {_ORDER}; here g and o are swapped"),
    Mistake(_BLOCKS, "[dz_i, dz_o, dz_f, dz_g]", f"(14) to (16): {_ORDER}; i, o, f, g is ONNX's order"),
    Mistake(_BLOCKS, "[dz_o, dz_g, dz_f, dz_i]", f"(13) to (16): {_ORDER}; here they are reversed"),
    *(
        Mistake(_BLOCKS, f"[dz_{gate}] * 4", f"(13) to (16): each gate has its own block; here all four are dz_{gate}")
        for gate in "ifgo"
    ),
    Mistake(
        "np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)",
        "np.concatenate([dz_i, dz_f, dz_g, dz_o])",
        "(13) to (16): the blocks are columns, side by side: axis=1 is missing",
    ),
    Mistake(
        "dx, dh_prev, dc_prev, dW, dU, db",
        "dx, dc_prev, dh_prev, dW, dU, db",
        "dh_prev and dc_prev are swapped: (18) comes before (12) in what is returned",
    ),
    Mistake(
        "dx, dh_prev, dc_prev, dW, dU, db",
        "dx, dh_prev, dc_prev, dU, dW, db",
        "dW and dU are swapped: (19) comes before (20)",
    ),
]


def explain(name, function, scene):
    """The wrong equations, however the function computes them; uses large gradients, because some code clips them."""
    known, unknown = random_step(), "is wrong, in a way that is not recognised"
    known |= {gradient: 100 * known[gradient] for gradient in ("dh", "dc_next")}
    return "; ".join(f"{each.equation} {each.name}: {each.text or unknown}" for each in explain_step(function, known))
