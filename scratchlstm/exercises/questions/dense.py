"""Above the LSTM: the dense layer and the loss. Equations (29) to (32).

The last layer turns the last h into one number, the logit, and σ turns that into the probability p that the answer y, 0
or 1, is 1:

    logit = h w + w0        p = σ(logit)

Shapes: h is (B, H), w (H, 1), w0 (1,); logit, p and y are (B, 1).

The loss is the mean over the batch of -y log p - (1 - y) log(1 - p). Computed this way, it fails: for a logit of 1000
NumPy's p is exactly 1, and log(1 - p) is log 0. With z for the logit, the same loss is

    L = 1/B Σ ( max(z, 0) - z y + log(1 + exp(-|z|)) )

where exp never sees a positive number. The gradient needs no such care. For (29), dlogit, differentiate the
logarithms with respect to p, multiply by the slope of σ, and simplify: the denominators cancel. The dense layer is a
matrix product like z in (17) to (21), which gives (30), dw, then (31), dw0, and (32), dh.

The derivation, with an example in numbers: docs/derivation.md#above-the-dense-layer-and-the-loss
"""

import numpy as np


def loss(logit, y):
    """(29, forward), L, one number: correct for any logit, even 1000 and -1000."""
    return np.mean(np.maximum(logit, 0) - logit * y + np.log1p(np.exp(-np.abs(logit))))  # ?


def dlogit(logit, p, y):
    """(29), dL/dlogit, (B, 1)."""
    return (p - y) / len(y)  # ?


def dw(h, p, y, dlogit):
    """(30), dL/dw, (H, 1)."""
    return h.T @ dlogit  # ?


def dw0(h, p, y, dlogit):
    """(31), dL/dw0, (1,)."""
    return np.sum(dlogit, axis=0)  # ?


def dh(h, w, p, y, dlogit):
    """(32), dL/dh, (B, H)."""
    return dlogit @ w.T  # ?


# --- the checker's part ---

from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import Scene, sequence  # noqa: E402

scene = sequence


def examine(name: str, function: Callable[..., Any], _: Scene) -> str | None:
    """Correct for the scene's small logits; check those of a network that is very sure, or very wrong."""
    logit, y = np.array([[1000.0], [1000.0], [-1000.0], [-1000.0]]), np.array([[0.0], [1.0], [0.0], [1.0]])
    if name == "loss" and not np.allclose(value := float(np.mean(function(logit, y))), 500):
        return (
            f"right for small logits, but for logits of 1000 and -1000 it gives {value:g} instead of 500: exp(1000) "
            "and log(0) are infinite. Keeping p away from 0 and 1 only hides that; use exp(-|z|) as above"
        )
    p = (logit > 0) * 1.0
    if name == "dlogit" and not np.allclose(function(logit, p, y), (p - y) / 4):
        return (
            "right for small logits, but wrong if p is exactly 0 or 1: it divides 0 by 0 there. Cancel p (1 - p) on "
            "paper first; then the only division left is by B"
        )
    return None


HINTS = {
    "loss": (
        "The formula is given; write it with NumPy and take the mean over the batch.",
        "np.maximum(logit, 0) compares element by element, and np.log1p(a) is log(1 + a), exact for small a, too.",
        "np.mean(np.maximum(logit, 0) - logit * y + np.log1p(np.exp(-np.abs(logit))))",
    ),
    "dlogit": (
        "Differentiate -y log p - (1 - y) log(1 - p) with respect to p, multiply by σ' = p (1 - p), and simplify.",
        "p - y is the gradient of one sample's loss. L is a mean.",
        "dlogit = (p - y) / len(y)",
    ),
    "dw": (
        "It has the shape of w, (H, 1). Which product of (B, H) and (B, 1) has it?",
        "Transpose h: (H, B) times (B, 1) sums over the batch.",
        "dw = h.T @ dlogit",
    ),
    "dw0": (
        "w0 is added to the logit of each of the B samples: that makes B paths.",
        "Sum over the samples, that is over the first axis.",
        "dw0 = np.sum(dlogit, axis=0)",
    ),
    "dh": (
        "It has the shape of h, (B, H). Which product of (B, 1) and (H, 1) has it?",
        "Transpose w: (B, 1) times (1, H).",
        "dh = dlogit @ w.T",
    ),
}
_LOSS = "np.mean(np.maximum(logit, 0) - logit * y + np.log1p(np.exp(-np.abs(logit))))"
MISTAKES = [
    # loss
    Mistake(_LOSS, _LOSS.replace("mean", "sum"), "this is the sum over the batch; the loss is the mean"),
    Mistake(_LOSS, _LOSS.replace("np.mean(", "("), "the mean over the batch is missing: the loss is one number"),
    Mistake("- logit * y +", "+", "z y is missing, so the answer y has no influence"),
    Mistake("- logit * y +", "- logit +", "y is missing in z y: as it is, every answer counts as 1"),
    Mistake("- logit * y +", "+ logit * y +", "the sign of z y is wrong: it is subtracted"),
    Mistake("- logit * y +", "- logit * (1 - y) +", "y and 1 - y are swapped: it is z times y"),
    Mistake("np.maximum(logit, 0)", "np.max(logit)", "np.max is the largest of all logits; max(z, 0) is np.maximum"),
    Mistake("np.maximum(logit, 0)", "np.minimum(logit, 0)", "this is the smaller of z and 0; max(z, 0) is the larger"),
    Mistake("np.maximum(logit, 0)", "logit", "this is z itself; max(z, 0) is 0 for a negative z"),
    Mistake("np.exp(-np.abs(logit))", "np.exp(np.abs(logit))", "the minus in exp(-|z|) is missing"),
    Mistake("np.exp(-np.abs(logit))", "np.exp(-logit)", "the absolute value in exp(-|z|) is missing"),
    Mistake("np.log1p(np.exp", "np.log(np.exp", "the 1 in log(1 + exp(-|z|)) is missing: np.log1p(a) is log(1 + a)"),
    Mistake("np.log1p(np.exp", "np.log1p(1 + np.exp", "np.log1p adds the 1 itself: it is log1p(exp(-|z|))"),
    # dlogit
    Mistake("(p - y) / len(y)", "p - y", "1/B is missing: the loss is a mean over the batch"),
    Mistake("(p - y) / len(y)", "(y - p) / len(y)", "the sign is wrong: it is p - y"),
    Mistake(
        "(p - y) / len(y)",
        "(p - y) * p * (1 - p) / len(y)",
        "there is one slope of σ too many; it has already cancelled the denominator p (1 - p)",
    ),
    Mistake(
        "(p - y) / len(y)",
        "(p - y) / (p * (1 - p)) / len(y)",
        "this is dL/dp, the gradient with respect to p: multiply by the slope of σ, p (1 - p), to get to the logit",
    ),
    Mistake(
        "(p - y) / len(y)",
        "(p - y) / (p * (1 - p))",
        "this is the gradient of one sample's loss with respect to p: multiply by the slope of σ, p (1 - p), to get to "
        "the logit, and divide by B, because L is a mean",
    ),
    Mistake(
        "(p - y) / len(y)",
        "(logit - y) / len(y)",
        "this uses the logit; y is compared with the probability p",
    ),
    Mistake("(p - y) / len(y)", "p / len(y)", "y is missing: it is p - y"),
    Mistake("(p - y) / len(y)", "((p > 0.5) - y) / len(y)", "p must not be rounded to 0 or 1"),
    Mistake(
        "(p - y) / len(y)",
        "(p - 1) * y / len(y)",
        "the samples with y = 0 get no gradient here: the term (1 - y) log(1 - p) is missing",
    ),
    Mistake(
        "(p - y) / len(y)", "2 * (p - y) / len(y)", "the factor 2 belongs to the squared error; there is none here"
    ),
    # dw, dw0, dh
    Mistake("h.T @ dlogit", "h.T @ (p - y)", "this uses p - y instead of dlogit; the 1/B is missing"),
    Mistake("h.T @ dlogit", "h.T @ p", "this uses p; the incoming gradient is dlogit"),
    Mistake("h.T @ dlogit", "np.sum(h, axis=0)[:, None]", "the factor dlogit is missing"),
    Mistake("h.T @ dlogit", "h * dlogit", "the sum over the batch is missing: the matrix product h.T @ dlogit does it"),
    Mistake(
        "h.T @ dlogit",
        "np.sum(h * dlogit, axis=1, keepdims=True)",
        "this sums over the units; dw is summed over the batch, axis 0",
    ),
    Mistake("np.sum(dlogit, axis=0)", "np.sum(p - y, axis=0)", "this uses p - y instead of dlogit; the 1/B is missing"),
    Mistake("np.sum(dlogit, axis=0)", "np.sum(dlogit, axis=1)", "this sums over the wrong axis: the batch is axis 0"),
    Mistake(
        "np.sum(dlogit, axis=0)", "dlogit", "the sum over the batch is missing: w0 has one gradient, not one per sample"
    ),
    Mistake(
        "np.sum(dlogit, axis=0)",
        "np.sum(h.T @ dlogit, axis=0)",
        "the factor h is too much: w0 is added, it multiplies nothing",
    ),
    Mistake("dlogit @ w.T", "(p - y) @ w.T", "this uses p - y instead of dlogit; the 1/B is missing"),
    Mistake("dlogit @ w.T", "dlogit * h", "this uses h; (32) has w, the other factor of the product"),
    Mistake(
        "dlogit @ w.T",
        "np.sum(dlogit) * np.ones_like(dlogit) @ w.T",
        "dlogit is summed over the batch; each sample's h gets its own",
    ),
]
