"""Check a gradient against a numerical one.

A derivative says how much the loss L changes when one number a of an array changes a little. So change it and see:

    (D1)  dL/da ≈ (L(a + ε) - L(a - ε)) / 2ε

This is the central difference. It needs no derivation, so it cannot repeat a mistake of yours; but it computes the loss
twice for every element, so it is used to check a gradient, not to train. Two gradients p and q are compared as a whole:

    (D2)  error = ‖p - q‖ / max(‖p‖, ‖q‖)       ‖p‖ = √(Σ p²), np.linalg.norm(p)

`loss()` takes no argument: it reads `array`. So write a + ε into the array, call `loss()`, and so on; and remember
what the array was before.

Shapes: `array` and the gradient have any shape, the same; losses, ε and the error are numbers.
"""

import numpy as np


def numerical_gradient(loss, array, epsilon):
    """(D1), dL/da for each element of `array`, in its shape; afterwards the array is exactly as it was."""
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
    """(D2), how far apart two gradients of the same shape are; a number."""
    return np.linalg.norm(p - q) / max(np.linalg.norm(p), np.linalg.norm(q))  # ?


# --- the checker's part ---

from copy import deepcopy  # noqa: E402

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

IN_PLACE = ("array",)
HINTS = {
    "numerical_gradient": (
        "Each element takes four steps: increase it, decrease it, restore it, divide. Compute from `before`.",
        "a + ε and a - ε are 2ε apart: divide by that. After the second loss, write `before` back.",
        "The four lines: array[place] = before + epsilon; array[place] = before - epsilon; array[place] = before; "
        "gradient[place] = (above - below) / (2 * epsilon)",
    ),
    "relative_error": (
        "Take the difference first, and then its norm: one number for the whole array.",
        "The norm of the difference, divided by the larger of the two norms; `max` finds it.",
        "np.linalg.norm(p - q) / max(np.linalg.norm(p), np.linalg.norm(q))",
    ),
}
_NOT_PUT_BACK = "the array is not restored: each element must be as before when the next one is changed, and at the end"
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
        "without abs: a gradient is negative if the loss falls as a grows",
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
        "this is the one-sided difference, (L(a + ε) - L(a)) / ε, whose error is of order ε, not ε²: take the "
        "second loss at a - ε",
    ),
    Mistake(
        _ABOVE,
        "above = loss()\n        array[place] = before - epsilon\n        below = loss() * 2 - above",
        "this is the one-sided difference, (L(a) - L(a - ε)) / ε, whose error is of order ε, not ε²: take the "
        "first loss at a + ε",
    ),
    Mistake(
        "array[place] = before - epsilon",
        "array[place] = before",
        "the second loss is at a, not at a - ε. Subtracting ε from `array[place]`, which is a + ε by then, gives "
        "just that: compute from `before`",
    ),
    Mistake(
        "array[place] = before + epsilon",
        "array[place] = before",
        "the first loss must be taken at a + ε; here nothing has been added to a yet",
    ),
    Mistake(
        "array[place] = before - epsilon  # ?\n        below = loss()",
        "below = loss()",
        "both losses are the same, so their difference is 0: write a - ε into `array` before the second one. (A copy "
        "of the array does not help: loss() does not see it)",
    ),
    Mistake(_ERROR, "np.linalg.norm(p - q)", "this is the absolute error: divide it by the larger norm"),
    Mistake(
        _NORMS,
        "(np.linalg.norm(p) + np.linalg.norm(q))",
        "it is divided by the sum of the norms, as in some books; here it is the larger of the two, `max`",
    ),
    *(
        Mistake(
            _NORMS,
            f"np.linalg.norm({one})",
            f"it is divided only by the norm of {one}, or by the smaller norm: if that is nearly 0, the error becomes "
            "huge; `max` finds the larger one",
        )
        for one in "pq"
    ),
    Mistake(
        _ERROR,
        "np.max(np.abs(p - q) / np.maximum(np.abs(p), np.abs(q)))",
        "this is the largest error of a single element; where both are nearly 0 it is just noise. Compare the norms",
    ),
    Mistake(
        _ERROR,
        "np.mean(np.abs(p - q) / np.maximum(np.abs(p), np.abs(q)))",
        "this is the mean error of single elements, dominated by those nearly 0. Compare the norms",
    ),
    Mistake(
        _ERROR,
        "np.max(np.abs(p - q)) / max(np.max(np.abs(p)), np.max(np.abs(q)))",
        "this compares the largest elements; the norm is √(Σ p²)",
    ),
    Mistake(
        _ERROR,
        "abs(np.linalg.norm(p) - np.linalg.norm(q)) / max(np.linalg.norm(p), np.linalg.norm(q))",
        "this is the difference of the norms: arrays can have the same norm but other directions. Subtract first",
    ),
    Mistake(
        _ERROR,
        "np.sum((p - q) ** 2) / max(np.sum(p**2), np.sum(q**2))",
        "the norms are squared, which makes a small error look smaller: the root is missing",
    ),
    Mistake(
        _ERROR,
        "np.abs(p - q) / np.maximum(np.abs(p), np.abs(q))",
        "this is an error for each element, but a single one is needed: use the norms",
    ),
]


class _Loss:
    """A loss that reads an array."""

    def __init__(self, array):
        self.array = array

    def __call__(self, *given):
        if given:
            raise TypeError("loss() takes no argument: it reads the array, so change the array")
        return float(np.sum(np.sin(3 * self.array) - self.array**3) + np.sum(self.array) ** 2)


def scene(rng, B, T, E, H):
    """A loss whose derivatives depend on all elements and have both signs, and two different gradients."""
    array, p, noise = rng.normal(size=(3, B, H))
    return {
        "array": array,
        "loss": _Loss(array),
        "epsilon": 1e-2,
        "p": p,
        "q": (1.5 if T > 1 else 0.5) * p + 0.1 * noise,
    }


def explain(name, function, scene):
    """The likely cause of a wrong gradient: an array left changed."""
    return _restored(name, function, scene)


def examine(name, function, scene):
    """A correct gradient may still leave the array changed: only after the last element, or by rounding."""
    return _restored(name, function, scene)


def _restored(name, function, scene):
    if name == "numerical_gradient":
        array, loss = deepcopy((scene["array"], scene["loss"]))
        function(loss, array, scene["epsilon"])
        if (off := np.max(np.abs(array - scene["array"]))) > 1e-12:
            return _NOT_PUT_BACK
        if off:
            advice = "keep the value itself in a variable, and write it back"
            return f"the array is not restored exactly: adding and subtracting ε leaves a rounding error; {advice}"
    return None
