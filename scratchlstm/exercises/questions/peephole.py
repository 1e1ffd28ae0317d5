"""A cell whose equations you derive yourself: the LSTM with peepholes.

In an LSTM no gate sees the cell itself, only what the output gate showed of it one step earlier. Peepholes let each
gate see the cell, each unit its own: i and f the old one, o the new one.

    (P1)  i = σ(z_i + p_i c_prev)
    (P2)  f = σ(z_f + p_f c_prev)
    (5)   c = f c_prev + i g
    (P3)  o = σ(z_o + p_o c)
    (6)   h = o tanh(c)

Backward, (7), (9) to (11) and (13) to (16) are as before, and give do, di, df, dg and each dz. dz_i, for example, is
the gradient of the whole sum inside σ, z_i + p_i c_prev. Three things are new: dc, dc_prev, and the gradients of the
peepholes. Follow every path from c, and from c_prev, to the loss.

Shapes: the vectors p_i, p_f, p_o and their gradients are (H,), the same for all B samples; all other arrays are (B, H).

If you are stuck: docs/variants.md#the-peephole-lstm
"""

import numpy as np


def peephole_dc(dc_next, dh, i, f, o, c, c_prev, tanh_c, do, dz_i, dz_f, dz_o, p_i, p_f, p_o):
    """(P4), dL/dc, (B, H); dz_o is already computed."""
    return dc_next + dh * o * (1 - tanh_c * tanh_c) + dz_o * p_o  # ?


def peephole_dc_prev(dc, i, f, o, c, c_prev, di, df, dz_i, dz_f, dz_o, p_i, p_f, p_o):
    """(P5), dL/dc_prev, (B, H), the part that comes from this step's cell and gates."""
    return dc * f + dz_i * p_i + dz_f * p_f  # ?


def peephole_dp_i(c, c_prev, i, di, dz_i, dz_f, dz_o, p_i):
    """(P6), dL/dp_i, (H,)."""
    return np.sum(dz_i * c_prev, axis=0)  # ?


def peephole_dp_f(c, c_prev, f, df, dz_i, dz_f, dz_o, p_f):
    """(P7), dL/dp_f, (H,)."""
    return np.sum(dz_f * c_prev, axis=0)  # ?


def peephole_dp_o(c, c_prev, o, do, dz_i, dz_f, dz_o, p_o):
    """(P8), dL/dp_o, (H,)."""
    return np.sum(dz_o * c, axis=0)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import step  # noqa: E402

_PEEPHOLES = (("i", "c_prev", "(P1)"), ("f", "c_prev", "(P2)"), ("o", "c", "(P3)"))  # what each looks at, and where
HINTS = {
    "peephole_dc": (
        "How many of the forward equations use c? The next step's (5) and this step's (6), as in (8); and one more.",
        "(P3) uses c, too. dz_o is the gradient of everything inside σ there, z_o + p_o c: what is its slope in c?",
        "dc = dc_next + dh * o * (1 - tanh_c * tanh_c) + dz_o * p_o",
    ),
    "peephole_dc_prev": (
        "Which three equations use c_prev? Each is a path, and the paths add up.",
        "(5) gives dc * f, as in (12). In (P1) and (P2) c_prev is multiplied by a peephole; use dz_i, dz_f.",
        "dc_prev = dc * f + dz_i * p_i + dz_f * p_f",
    ),
    **{
        f"peephole_dp_{gate}": (
            f"p_{gate} is multiplied by something in {number}: that is its slope. All samples of the batch share it.",
            f"dz_{gate} * {cell} is (B, H), a row per sample; p_{gate} has one for all, like a bias. See (21).",
            f"dp_{gate} = np.sum(dz_{gate} * {cell}, axis=0)",
        )
        for gate, cell, number in _PEEPHOLES
    },
}
_DC = "dc_next + dh * o * (1 - tanh_c * tanh_c) + dz_o * p_o"
_DC_PREV = "dc * f + dz_i * p_i + dz_f * p_f"


def _of_peephole(gate, seen):
    other, when = ("c_prev", "new") if seen == "c" else ("c", "old")
    right = f"dz_{gate} * {seen},"
    yield Mistake(right, f"dz_{gate} * {other},", f"{gate} looks at the {when} cell, {seen}, not at {other}")
    yield Mistake(right, f"d{gate} * {seen},", f"p_{gate} is inside σ: dz_{gate} belongs here, not d{gate}")
    yield Mistake(right, f"dz_{gate},", f"this is what a bias gets: p_{gate} is multiplied by {seen}")
    yield Mistake(
        right,
        f"dz_{gate} * p_{gate},",
        f"this is multiplied by p_{gate}, which gives the gradient of {seen}; p_{gate} itself gets the factor {seen}",
    )
    for wrong in "ifo".replace(gate, ""):
        yield Mistake(right, f"dz_{wrong} * {seen},", f"this uses dz_{wrong}: {gate} has dz_{gate}")


MISTAKES = [
    Mistake(_DC, "dc_next + dh * o * (1 - tanh_c * tanh_c)", "the path through o is missing: (P3) looks at c, too"),
    Mistake(_DC, "dh * o * (1 - tanh_c * tanh_c) + dz_o * p_o", "dc_next is missing: the next step's cell uses c, too"),
    Mistake(_DC, "dc_next + dz_o * p_o", "the path through (6) is missing: h shows tanh(c)"),
    Mistake("dz_o * p_o", "do * p_o", "p_o c is inside σ, so dz_o belongs here, not do"),
    Mistake("dz_o * p_o", "dz_o", "the factor p_o is missing: in (P3) c is multiplied by it"),
    Mistake("dz_o * p_o", "dz_o * c", "this belongs to p_o, (P8); c gets dz_o p_o"),
    Mistake(
        _DC,
        _DC + " + dz_i * p_i + dz_f * p_f",
        "i and f look at the old cell: their terms belong to dc_prev, (P5); only dz_o p_o belongs to dc",
    ),
    Mistake(
        _DC,
        "dc_next + (dh * o + dz_o * p_o) * (1 - tanh_c * tanh_c)",
        "(P3) looks at c, not at tanh(c): no slope of tanh belongs to the term dz_o p_o",
    ),
    Mistake("dh * o * (1 - tanh_c * tanh_c)", "dh * o", "the slope of tanh is missing: h shows tanh(c)"),
    Mistake(_DC_PREV, "dc * f", "the peepholes of i and f are missing: (P1) and (P2) look at c_prev, too"),
    Mistake(_DC_PREV, _DC_PREV + " + dz_o * p_o", "o looks at the new cell: dz_o p_o is already in dc, (P4)"),
    *(
        Mistake(
            f"dz_{gate} * p_{gate}",
            f"d{gate} * p_{gate}",
            f"the peephole is inside σ: dz_{gate} belongs here, not d{gate}",
        )
        for gate in "if"
    ),
    Mistake(
        _DC_PREV,
        "dc * f + dz_i + dz_f",
        "the factors p_i and p_f are missing: in (P1) and (P2) c_prev is multiplied by them",
    ),
    Mistake(_DC_PREV, "dc * f + dz_i * p_f + dz_f * p_i", "p_i and p_f are swapped"),
    Mistake(_DC_PREV, "dc * i + dz_i * p_i + dz_f * p_f", "in (5) c_prev is multiplied by f, not by i"),
    Mistake(_DC_PREV, "dc + dz_i * p_i + dz_f * p_f", "the factor f is missing: (5) keeps f c_prev"),
    *(mistake for gate, seen, _ in _PEEPHOLES for mistake in _of_peephole(gate, seen)),
    Mistake("dz_o * c,", "dz_o * np.tanh(c),", "the peephole sees c itself, not tanh(c), which is only in h"),
]


def scene(rng, B, T, E, H):
    """A step like that of the LSTM, and peepholes."""
    return step(rng, B, T, E, H) | {f"p_{gate}": rng.normal(size=H) for gate in "ifo"}
