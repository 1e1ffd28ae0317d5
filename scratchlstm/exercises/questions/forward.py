"""One LSTM step forward: equations (1) to (6).

All four gates are computed from one product, z = x W + h_prev U + b, of shape (B, 4H): B samples, H units. Its 4H
columns are four blocks of H, one for each gate, in the order i, f, g, o:

    (1)  i = σ(z_i)               input gate:   how much of the candidate is written
    (2)  f = σ(z_f)               forget gate:  how much of the old cell is kept
    (3)  g = tanh(z_g)            candidate:    what could be written
    (4)  o = σ(z_o)               output gate:  how much of the cell is shown
    (5)  c = f c_prev + i g       the cell
    (6)  h = o tanh(c)            the hidden state

Products are elementwise. z_i, z_f, z_g and z_o are the blocks of z: cut each out yourself. `sigmoid` is σ.
Shapes: z is (B, 4H), every other array is (B, H).

The derivation, with an example in numbers: docs/derivation.md#forward
"""

import numpy as np

from scratchlstm.gates import sigmoid, tanh


def input_gate(z):
    """(1), i, (B, H)."""
    H = z.shape[1] // 4
    return sigmoid(z[:, 0 * H : 1 * H])  # ?


def forget_gate(z):
    """(2), f, (B, H)."""
    H = z.shape[1] // 4
    return sigmoid(z[:, 1 * H : 2 * H])  # ?


def candidate(z):
    """(3), g, (B, H)."""
    H = z.shape[1] // 4
    return tanh(z[:, 2 * H : 3 * H])  # ?


def output_gate(z):
    """(4), o, (B, H)."""
    H = z.shape[1] // 4
    return sigmoid(z[:, 3 * H : 4 * H])  # ?


def new_cell(i, f, g, o, c_prev, h_prev):
    """(5), c, (B, H), from the gates and the previous step's states."""
    return f * c_prev + i * g  # ?


def hidden(o, c, c_prev, h_prev):
    """(6), h, (B, H), from the output gate and the new cell."""
    return o * tanh(c)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

_BLOCKS = {gate: f"z[:, {k} * H : {k + 1} * H]" for k, gate in enumerate("ifgo")}
_FUNCTIONS = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}
_SIGNS = {"sigmoid": "σ", "tanh": "tanh"}

HINTS = {
    name: (
        f"Which columns of z are z_{gate}? The order is i, f, g, o, and each block has H columns.",
        f"z[:, a : b] has the columns from a to b - 1. Apply {_FUNCTIONS[gate]} to the block of {gate}.",
        f"{gate} = {_FUNCTIONS[gate]}({_BLOCKS[gate]})",
    )
    for name, gate in zip(("input_gate", "forget_gate", "candidate", "output_gate"), "ifgo", strict=True)
} | {
    "new_cell": (
        "The new cell is a sum: what is kept of the old cell, and what is written.",
        "What is kept: the old cell times the forget gate. What is written: the candidate times the input gate.",
        "c = f * c_prev + i * g",
    ),
    "hidden": (
        "The cell may be large: it is squashed first, then the gate decides how much of it is shown.",
        "Multiply the output gate by tanh of the new cell.",
        "h = o * tanh(c)",
    ),
}


def _of_gate(k, gate):
    block, function = _BLOCKS[gate], _FUNCTIONS[gate]
    right, sign = f"{function}({block})", _SIGNS[function]
    other = "tanh" if function == "sigmoid" else "sigmoid"
    where = f"in the order i, f, g, o (other libraries use others), z_{gate} is block {k}, counting from 0"
    for wrong in "ifgo".replace(gate, ""):
        yield Mistake(block, _BLOCKS[wrong], f"these are the columns of z_{wrong}; {where}")
    yield Mistake(block, "z", f"these are all 4H columns of z: cut out the H columns of z_{gate}")
    yield Mistake(block, f"z[{k} * H : {k + 1} * H]", "this cuts out rows, which are samples; columns are z[:, a : b]")
    yield Mistake(block, f"z[:, {k}::4]", "this is every fourth column; the H columns of a gate are side by side")
    yield Mistake(right, f"{other}({block})", f"this is {_SIGNS[other]}; {gate} is {sign} of its block")
    yield Mistake(right, block, f"{sign} is missing: this is z_{gate} itself")
    yield Mistake(right, f"{function}(-{block})", f"the sign is wrong inside {sign}: it is {sign}(z_{gate})")
    yield Mistake(right, f"{function}({right})", f"{sign} is applied twice")


_CELL = "f * c_prev + i * g"
MISTAKES = [
    *(mistake for k, gate in enumerate("ifgo") for mistake in _of_gate(k, gate)),
    Mistake(
        f"sigmoid({_BLOCKS['f']})",
        f"sigmoid({_BLOCKS['f']} + 1)",
        "1 is added to z_f here; if the forget gate's bias starts at 1, that is already in b, and so in z",
    ),
    Mistake("f * c_prev +", "o * c_prev +", "this is o; the forget gate, f, decides how much of the old cell is kept"),
    Mistake("i * g", "o * g", "this is o; the input gate, i, decides how much of the candidate is written"),
    Mistake(_CELL, "i * c_prev + f * g", "i and f are swapped: the forget gate belongs to the old cell"),
    Mistake(
        "c_prev + i * g", "c_prev + (1 - f) * g", "what is written is weighted by i, a separate gate, not by 1 - f"
    ),
    Mistake(
        _CELL, "c_prev + i * g", "the factor f is missing: the forget gate decides how much of the old cell is kept"
    ),
    Mistake("i * g", "g", "the factor i is missing: the input gate decides how much of the candidate is written"),
    Mistake("i * g", "i", "the factor g is missing: the candidate is what is written"),
    Mistake("i * g", "i * tanh(g)", "g is already a value of tanh: do not apply tanh to it again"),
    Mistake("i * g", "i + g", "the input gate is multiplied by the candidate, not added to it"),
    Mistake("c_prev + i * g", "c_prev * i * g", "the two terms are added, not multiplied"),
    Mistake(
        "f * c_prev +", "(1 - f) * c_prev +", "f is what is kept, not what is forgotten: f c_prev, not (1 - f) c_prev"
    ),
    Mistake("f * c_prev +", "f * h_prev +", "the cell is carried over, not the hidden state: c_prev, not h_prev"),
    Mistake(_CELL, "f * (c_prev + i * g)", "f multiplies only the old cell, not what is written now"),
    Mistake(_CELL, "tanh(f * c_prev + i * g)", "there is no tanh here: it comes in (6), and c itself is carried over"),
    Mistake("o * tanh(c)", "o * c", "tanh is missing: (6) shows tanh(c), not c"),
    Mistake("o * tanh(c)", "sigmoid(o) * tanh(c)", "o is already a value of σ: do not apply σ to it again"),
    Mistake("o * tanh(c)", "o", "the factor tanh(c) is missing: the cell is what is shown"),
    Mistake("o * tanh(c)", "tanh(o * c)", "tanh is applied only to c; o multiplies the result"),
    Mistake("o * tanh(c)", "o * sigmoid(c)", "this is σ; (6) has tanh(c)"),
    Mistake("o * tanh(c)", "o * tanh(tanh(c))", "tanh is applied twice"),
    Mistake("o * tanh(c)", "o + tanh(c)", "the output gate is multiplied by tanh(c), not added to it"),
    Mistake("o * tanh(c)", "o * tanh(c_prev)", "the new cell is shown, c, not the old one"),
]
