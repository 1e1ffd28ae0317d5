"""The slopes of σ and tanh, in terms of their values.

Backpropagation multiplies a gradient by the slope of each function on its path. The forward pass keeps the values
s = σ(z) and t = tanh(z), not z itself, so write both slopes in terms of the values. Differentiate
σ(z) = 1 / (1 + exp(-z)) with respect to z, and look for σ(z) in the result; do the same with tanh = sinh / cosh.

Somebody has answered the first question and got it wrong: run the check, read what it says, and fix the line. Then
replace the three dots in the second. Products are elementwise, and so is `*` in NumPy.

The rules and equations, here and in the other exercises, are those of docs/derivation.md, each with an example in
numbers. Both slopes are its rule 4: docs/derivation.md#four-rules-and-no-others
"""

import numpy as np

from scratchlstm.gates import sigmoid, tanh


def sigmoid_prime(s):
    """(rule 4), σ'(z) for s = σ(z), in the shape of s."""
    return s * (1 - s)


def tanh_prime(t):
    """(rule 4), tanh'(z) for t = tanh(z), in the shape of t."""
    return 1 - t * t  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "sigmoid_prime": (
        "Write exp(-z) / (1 + exp(-z))² as a product of two fractions, one of which is σ(z).",
        "The other fraction is exp(-z) / (1 + exp(-z)): what is it short of 1?",
        "σ'(z) = σ(z) (1 - σ(z)), so in terms of s: s * (1 - s)",
    ),
    "tanh_prime": (
        "Use the quotient rule on sinh / cosh; sinh' = cosh and cosh' = sinh.",
        "(cosh² - sinh²) / cosh² is 1 minus a square that you know.",
        "tanh'(z) = 1 - tanh²(z), so in terms of t: 1 - t * t",
    ),
}
BUGS = [Mistake("s * (1 - s)", "s", "this is σ itself, not its slope")]
MISTAKES = [
    *BUGS,
    *(
        Mistake("s * (1 - s)", twice, "s is already a value of σ: do not apply σ to it again")
        for twice in ("sigmoid(s) * (1 - sigmoid(s))", "sigmoid(s) * (1 - s)", "s * (1 - sigmoid(s))")
    ),
    Mistake("s * (1 - s)", "sigmoid(s)", "this is σ of a value of σ; write the slope in terms of s only"),
    Mistake("s * (1 - s)", "1 - s * s", "this is the slope of tanh; that of σ is different"),
    Mistake("s * (1 - s)", "s * 1 - s", "without parentheses this is (s * 1) - s, which is 0: write (1 - s)"),
    Mistake("s * (1 - s)", "s + (1 - s)", "the two factors are multiplied, not added"),
    Mistake("s * (1 - s)", "1 - 2 * s", "this is the derivative of s (1 - s): you differentiated once too often"),
    Mistake("1 - t * t", "1 - tanh(t) ** 2", "t is already a value of tanh: do not apply tanh to it again"),
    Mistake("1 - t * t", "tanh(t)", "this is tanh of a value of tanh; write the slope in terms of t only"),
    Mistake("1 - t * t", "t", "this is tanh itself, not its slope"),
    Mistake("1 - t * t", "1 - t", "t must be squared"),
    Mistake("1 - t * t", "t * t", "the slope is 1 minus this square"),
    Mistake("1 - t * t", "t * (1 - t)", "this is the slope of σ; that of tanh is different"),
    Mistake("1 - t * t", "(1 - t) ** 2", "only t is squared, not the whole of 1 - t"),
    Mistake("1 - t * t", "-2 * t", "this is the derivative of 1 - t²: you differentiated once too often"),
]
