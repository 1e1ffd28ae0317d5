"""One step of Adam, as Keras takes it.

Adam keeps two running means of each gradient g. A running mean moves a little way from its old value to the new one:

    (Adam, m)  the running mean of g, in which the old m has weight β₁
    (Adam, v)  the running mean of g², in which the old v has weight β₂

Both start at 0, so they are too small at first. The bias correction makes up for that: after t steps (t = 1 for the
first), m is divided by 1 - β₁ᵗ, and v by 1 - β₂ᵗ. With both corrected, the step is learning_rate · m / √v,
against the gradient. Keras combines everything but m and √v into one number:

    (Adam, α)  the learning rate with both corrections
    (Adam, w)  w = w - α m / (√v + ε)

ε prevents a division by 0 where v is 0; mind where it is added.

Shapes: w, m, v and g are arrays of the same shape; t, α, ε and the learning rate are numbers. Return new arrays.
"""

import numpy as np


def adam_m(m, v, g, beta_1, beta_2):
    """(Adam, m), the running mean of g, in the shape of g; m and v are those of the previous step."""
    return beta_1 * m + (1 - beta_1) * g  # ?


def adam_v(m, v, g, beta_1, beta_2):
    """(Adam, v), the running mean of g², in the shape of g; m and v are those of the previous step."""
    return beta_2 * v + (1 - beta_2) * g * g  # ?


def adam_alpha(t, learning_rate, beta_1, beta_2):
    """(Adam, α), the size of step number t, corrected for m and v having started at 0; a number."""
    return learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)  # ?


def adam_w(w, g, m, v, t, learning_rate, alpha, beta_1, beta_2, epsilon):
    """(Adam, w), the new weights, in the shape of w; m, v and alpha are those of this step."""
    return w - alpha * m / (np.sqrt(v) + epsilon)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "adam_m": (
        "The weights of a mean add up to 1: how much is left for g?",
        "The old m has weight beta_1; the rest, 1 - beta_1, belongs to g.",
        "m = beta_1 * m + (1 - beta_1) * g",
    ),
    "adam_v": (
        "The same running mean, of another quantity and with its own beta.",
        "The old v has weight beta_2; the rest, 1 - beta_2, belongs to g², which is g * g, element by element.",
        "v = beta_2 * v + (1 - beta_2) * g * g",
    ),
    "adam_alpha": (
        "m is divided by its correction. v has its own correction, and is in the denominator, under a root.",
        "Write m / (1 - beta_1**t) over np.sqrt(v / (1 - beta_2**t)), and take both corrections out of the fraction.",
        "alpha = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)",
    ),
    "adam_w": (
        "Go against the mean gradient m, with step size alpha, and divide by how large gradients were.",
        "Add epsilon to the root of v, after taking it; alpha already includes the corrections.",
        "w = w - alpha * m / (np.sqrt(v) + epsilon)",
    ),
}
_M = "beta_1 * m + (1 - beta_1) * g"
_V = "beta_2 * v + (1 - beta_2) * g * g"
_ALPHA = "learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)"
_W = "w - alpha * m / (np.sqrt(v) + epsilon)"
_PAPER = "w - learning_rate * m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)"
MISTAKES = [
    Mistake(_M, "beta_2 * m + (1 - beta_2) * g", "m uses β₁; this is β₂, which belongs to v"),
    Mistake(_M, "beta_1 * m + beta_2 * g", "the weights add up to 1, so g gets 1 - β₁; β₂ belongs to v"),
    Mistake(_M, "(1 - beta_1) * m + beta_1 * g", "the weights are swapped: the old m gets β₁, and g gets 1 - β₁"),
    Mistake(_M, "beta_1 * m + g", "the factor 1 - β₁ of g is missing: this is momentum, a running sum, not a mean"),
    Mistake(_M, "(1 - beta_1) * g", "β₁ m is missing: without the old m this is not a running mean"),
    Mistake(_M, "beta_1 * m + (1 - beta_1) * g * g", "m is the mean of g itself; g² belongs to v"),
    Mistake(_M, "m + (1 - beta_1) * g", "the old m has to shrink by the factor β₁"),
    Mistake(_M, "beta_1 * m - (1 - beta_1) * g", "g is added to m; the minus sign comes at the end, in w"),
    Mistake(_V, "beta_1 * v + (1 - beta_1) * g * g", "v uses β₂; this is β₁, which belongs to m"),
    Mistake(_V, "beta_2 * v + beta_1 * g * g", "the weights add up to 1, so g² gets 1 - β₂; β₁ belongs to m"),
    Mistake(_V, "beta_2 * v + (1 - beta_2) * g", "g must be squared: v is the mean of g²"),
    Mistake(_V, "beta_2 * v + ((1 - beta_2) * g) ** 2", "1 - β₂ is squared, too: square only g"),
    Mistake(_V, "beta_2 * v + (1 - beta_2) * np.abs(g)", "this is |g|; v is the mean of g²"),
    Mistake(_V, "(1 - beta_2) * v + beta_2 * g * g", "the weights are swapped: the old v gets β₂, and g² gets 1 - β₂"),
    Mistake(_V, "beta_2 * v + g * g", "the factor 1 - β₂ of g² is missing"),
    Mistake(_V, "(1 - beta_2) * g * g", "β₂ v is missing: without the old v this is not a running mean"),
    Mistake(
        _V,
        "beta_2 * v + (1 - beta_2) * np.sum(g * g)",
        "g² is summed: every weight has its own v, so there is no sum here",
    ),
    Mistake(_V, "beta_2 * v + (1 - beta_2) * m * m", "this is the square of m; v is the mean of g²"),
    Mistake(_ALPHA, _ALPHA[len("learning_rate * ") :], "the learning rate is missing: this is only its correction"),
    Mistake(
        _ALPHA, "learning_rate * np.sqrt(1 - beta_2**t) / 1 - beta_1**t", "parentheses are missing: / (1 - beta_1**t)"
    ),
    Mistake(
        _ALPHA,
        "learning_rate * np.sqrt((1 - beta_2**t) / (1 - beta_1**t))",
        "the root is only of 1 - β₂ᵗ: w divides m, without a root, by √v",
    ),
    Mistake(_ALPHA, "learning_rate", "the bias correction is missing: √(1 - β₂ᵗ) / (1 - β₁ᵗ)"),
    Mistake(_ALPHA, _ALPHA.replace("**t", "**(t - 1)"), "t counts from 1: β to the power of t, not t - 1"),
    Mistake(
        _ALPHA, _ALPHA.replace("**t", "**(t + 1)"), "t is already this step's number: β to the power of t, not t + 1"
    ),
    Mistake(
        _ALPHA,
        "learning_rate * (1 - beta_2**t) / (1 - beta_1**t)",
        "the root of 1 - β₂ᵗ is missing: w divides by √v, not v",
    ),
    Mistake(
        _ALPHA,
        "learning_rate * np.sqrt(1 - beta_1**t) / (1 - beta_2**t)",
        "β₁ and β₂ are swapped: the root belongs to v's correction, and v has β₂",
    ),
    Mistake(
        _ALPHA,
        "learning_rate * (1 - beta_1**t) / np.sqrt(1 - beta_2**t)",
        "the fraction is upside down: m is divided by 1 - β₁ᵗ, which is in the denominator",
    ),
    Mistake(_ALPHA, "learning_rate / (1 - beta_1**t)", "the correction of v is missing: √(1 - β₂ᵗ)"),
    Mistake(_ALPHA, "learning_rate * np.sqrt(1 - beta_2**t)", "the correction of m is missing: 1 - β₁ᵗ"),
    Mistake(
        _ALPHA,
        "learning_rate * np.sqrt(1 - beta_2) / (1 - beta_1)",
        "the power t is missing: this is the correction of the first step",
    ),
    Mistake(_W, "w + alpha * m / (np.sqrt(v) + epsilon)", "the sign is wrong: the loss falls against the gradient"),
    Mistake(_W, "alpha * m / (np.sqrt(v) + epsilon)", "this is only the step: subtract it from w"),
    Mistake(_W, "w - alpha * m / np.sqrt(v + epsilon)", "ε is inside the root; it is added after taking it: √v + ε"),
    Mistake(_W, "w - alpha * m / np.sqrt(v) + epsilon", "ε is outside of the division: put (√v + ε) in parentheses"),
    Mistake(_W, "w - alpha * m / np.sqrt(v)", "ε is missing"),
    Mistake(_W, "w - alpha * m / (v + epsilon)", "the root of v is missing"),
    Mistake(_W, "w - alpha * g / (np.sqrt(v) + epsilon)", "this steps along g; Adam steps along m, its running mean"),
    Mistake(_W, "w - alpha * m", "the division by √v + ε is missing: this is a step of plain momentum"),
    Mistake(
        _W,
        "w - learning_rate * m / (np.sqrt(v) + epsilon)",
        "this is the learning rate; α belongs here, which includes the bias correction",
    ),
    Mistake(
        _W,
        "w - alpha * m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)",
        "m and v are corrected once more here; α already has both corrections",
    ),
    Mistake(
        _W,
        "w - learning_rate * m / (1 - beta_1**t) / np.sqrt(v / (1 - beta_2**t) + epsilon)",
        "ε is inside the root; it is added after taking it. And m and v are not corrected here: α has both corrections",
    ),
    Mistake(
        _W,
        f"w - alpha * ({_M}) / (np.sqrt({_V}) + epsilon)",
        "m and v are updated once more here; the given ones already include this step's g",
    ),
    Mistake(
        _W,
        _PAPER,
        "this is the form of the paper's Algorithm 1 and of PyTorch, which adds ε after correcting v. Keras adds it to "
        "√v before, with the corrections in α; the two differ only in the size of ε",
    ),
]


def scene(rng, B, T, E, H):
    """The third step, with an epsilon so large that its position matters."""
    w, m, g = rng.normal(size=(3, E, H))
    v = rng.uniform(0.1, 2, size=(E, H))
    given = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.95}
    scene = {"w": w, "m": m, "v": v, "g": g, "t": 3, "epsilon": 0.2} | given
    return scene | {"alpha": adam_alpha(3, **given)}
