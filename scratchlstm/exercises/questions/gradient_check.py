"""Is a gradient right? Check it against a numerical one.

A derivative says how much the loss L changes when one number a of an array changes a little. So change it, and see:

    (D1)  dL/da ≈ (L(a + ε) - L(a - ε)) / 2ε

This is the central difference. It needs no derivation, so it cannot repeat a mistake of yours; but it computes the loss
twice for every number, so it is used to check a gradient, not to train. Two gradients p and q are compared as a whole:

    (D2)  error = ‖p - q‖ / max(‖p‖, ‖q‖)       ‖p‖ = √(Σ p²), np.linalg.norm(p)

`loss()` takes no argument: it reads `array`. So write a + ε into the array, call `loss()`, and so on; and do not forget
what the array was like before.

Shapes: `array` and the gradient have any shape, the same; losses, ε and the error are numbers.
"""

import numpy as np


def numerical_gradient(loss, array, epsilon):
    """(D1), dL/da for each number of `array`, in its shape; afterwards the array is exactly as it was."""
    gradient = np.zeros(array.shape)
    for place in np.ndindex(array.shape):  # (0, 0), (0, 1), ...
        before = array[place]
        array[place] = before + epsilon  # ?
        above = loss()
        array[place] = before - epsilon  # ?
        below = loss()
        array[place] = before  # ?-
        gradient[place] = (above - below) / (2 * epsilon)  # ?
    return gradient


def relative_error(p, q):
    """(D2), how far two gradients of the same shape are apart; a number."""
    return np.linalg.norm(p - q) / max(np.linalg.norm(p), np.linalg.norm(q))  # ?


# --- the checker's part ---

from copy import deepcopy  # noqa: E402

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

IN_PLACE = ("array",)
HINTS = {
    "numerical_gradient": (
        "Each number takes four steps: make it larger, make it smaller, put it back, divide. Compute from `before`.",
        "a + ε and a - ε are 2ε apart: divide by that. After the second loss, write `before` into its place again.",
        "The four lines: array[place] = before + epsilon; array[place] = before - epsilon; array[place] = before; "
        "gradient[place] = (above - below) / (2 * epsilon)",
    ),
    "relative_error": (
        "Take the difference first, and then its norm: one number for the whole array.",
        "The norm of the difference, divided by the larger one of the two norms; `max` finds it.",
        "np.linalg.norm(p - q) / max(np.linalg.norm(p), np.linalg.norm(q))",
    ),
}
_NOT_PUT_BACK = (
    "the array is not put back: each number has to be as before when the next one is changed, and in the end"
)
_BELOW = """array[place] = before - epsilon  # ?
        below = loss()
        array[place] = before  # ?-
        gradient[place] = (above - below) / (2 * epsilon)"""
_ABOVE = """array[place] = before + epsilon  # ?
        above = loss()
        array[place] = before - epsilon  # ?
        below = loss()"""
_QUOTIENT = "(above - below) / (2 * epsilon)"
_ERROR = "np.linalg.norm(p - q) / max(np.linalg.norm(p), np.linalg.norm(q))"
_NORMS = "max(np.linalg.norm(p), np.linalg.norm(q))"
MISTAKES = [
    Mistake("array[place] = before  # ?-", "pass", _NOT_PUT_BACK),
    Mistake(
        _QUOTIENT,
        "abs(below - above) / (2 * epsilon)",
        "without abs: a gradient is negative if the loss falls while a grows",
    ),
    Mistake(_QUOTIENT, "(above - below) / epsilon", "it is divided by ε; a + ε and a - ε are 2ε apart"),
    Mistake(
        _QUOTIENT,
        "(above - below) / 2 * epsilon",
        "this multiplies by ε: `x / 2 * epsilon` is (x / 2) · ε, so put (2 * epsilon) in parentheses",
    ),
    Mistake(_QUOTIENT, "(above - below) // (2 * epsilon)", "`//` drops the decimal part; write `/`"),
    Mistake(_QUOTIENT, "(below - above) / (2 * epsilon)", "the sign is wrong: L(a + ε) minus L(a - ε), in this order"),
    Mistake(_QUOTIENT, "above - below", "the division by 2ε is missing"),
    Mistake(_QUOTIENT, "(above + below) / (2 * epsilon)", "the two losses are added; their difference belongs here"),
    Mistake(
        _BELOW,
        "array[place] = before\n        gradient[place] = (above - loss()) / epsilon",
        "this is the one-sided difference, (L(a + ε) - L(a)) / ε, whose error is of the size of ε, not ε²: take the "
        "second loss at a - ε",
    ),
    Mistake(
        _ABOVE,
        "above = loss()\n        array[place] = before - epsilon\n        below = loss() * 2 - above",
        "this is the one-sided difference, (L(a) - L(a - ε)) / ε, whose error is of the size of ε, not ε²: take the "
        "first loss at a + ε",
    ),
    Mistake(
        "array[place] = before - epsilon",
        "array[place] = before",
        "the second loss is that at a, not at a - ε. Whoever takes ε from `array[place]`, which is a + ε by then, gets "
        "just that: compute from `before`",
    ),
    Mistake(
        "array[place] = before + epsilon",
        "array[place] = before",
        "the first loss has to be taken at a + ε; here nothing has been added to a yet",
    ),
    Mistake(
        "array[place] = before - epsilon  # ?\n        below = loss()",
        "below = loss()",
        "both losses are the same, so their difference is 0: write a - ε into `array` before the second one. (A copy "
        "of the array does not count: loss() does not see it)",
    ),
    Mistake(_ERROR, "np.linalg.norm(p - q)", "this is the absolute error: divide it by the larger norm"),
    Mistake(
        _NORMS,
        "(np.linalg.norm(p) + np.linalg.norm(q))",
        "it is divided by the sum of the norms, which some books do; here it is the larger one of them, `max`",
    ),
    *(
        Mistake(
            _NORMS,
            f"np.linalg.norm({one})",
            f"it is divided by the norm of {one} alone, or by the smaller norm: were that nearly 0, the error would be "
            "huge; `max` finds the larger one",
        )
        for one in "pq"
    ),
    Mistake(
        _ERROR,
        "np.max(np.abs(p - q) / np.maximum(np.abs(p), np.abs(q)))",
        "this is the largest error of a single number; where both are nearly 0 it is mere noise. Compare the norms",
    ),
    Mistake(
        _ERROR,
        "np.mean(np.abs(p - q) / np.maximum(np.abs(p), np.abs(q)))",
        "this is the mean error of single numbers, most of all of those nearly 0. Compare the norms",
    ),
    Mistake(
        _ERROR,
        "np.max(np.abs(p - q)) / max(np.max(np.abs(p)), np.max(np.abs(q)))",
        "this compares the largest numbers; the norm is √(Σ p²)",
    ),
    Mistake(
        _ERROR,
        "abs(np.linalg.norm(p) - np.linalg.norm(q)) / max(np.linalg.norm(p), np.linalg.norm(q))",
        "this is the difference of the norms: two arrays can have the same norm and point elsewhere. Subtract first",
    ),
    Mistake(
        _ERROR,
        "np.sum((p - q) ** 2) / max(np.sum(p**2), np.sum(q**2))",
        "the norms are squared, which makes a small error look smaller: the root is missing",
    ),
    Mistake(
        _ERROR,
        "np.abs(p - q) / np.maximum(np.abs(p), np.abs(q))",
        "this is an error for each number; one for all belongs here: use the norms",
    ),
]


class _Loss:
    """A loss that reads an array."""

    def __init__(self, array):
        self.array = array

    def __call__(self, *given):
        if given:
            raise TypeError("loss() takes no argument: it reads the array, so change that")
        return float(np.sum(np.sin(3 * self.array) - self.array**3) + np.sum(self.array) ** 2)


def scene(rng, B, T, E, H):
    """A loss whose derivatives depend on all numbers and have either sign, and two gradients that are not the same."""
    array, p, noise = rng.normal(size=(3, B, H))
    return {
        "array": array,
        "loss": _Loss(array),
        "epsilon": 1e-2,
        "p": p,
        "q": (1.5 if T > 1 else 0.5) * p + 0.1 * noise,
    }


def explain(name, function, scene):
    """A wrong gradient's likely cause: an array that was left changed."""
    return _restored(name, function, scene)


def examine(name, function, scene):
    """A right gradient may leave the array changed: only after the last number, or by a rounding error."""
    return _restored(name, function, scene)


def _restored(name, function, scene):
    if name == "numerical_gradient":
        array, loss = deepcopy((scene["array"], scene["loss"]))
        function(loss, array, scene["epsilon"])
        if (off := np.max(np.abs(array - scene["array"]))) > 1e-12:
            return _NOT_PUT_BACK
        if off:
            advice = "keep the number itself in a variable, and write it back"
            return f"the array is not put back exactly: adding ε and taking it away leaves a rounding error; {advice}"
    return None
