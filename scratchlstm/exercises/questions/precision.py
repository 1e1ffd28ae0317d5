"""Why a gradient check fails in float32.

A central difference is wrong in two ways. A computer rounds: the loss is off by up to u |L|, where u = 2⁻²⁴ ≈ 6e-8 in
float32 and 2⁻⁵³ ≈ 1e-16 in float64. And a curve is not a line: put the Taylor series up to the third derivative L''',

    L(a ± ε) = L ± ε L' + ε² L''/2 ± ε³ L'''/6

into (D1), and see what is left besides L'. A small ε makes one error large, a large ε the other. In between
is a best ε, and even there some digits are lost:

    (D3)  rounding error:    two losses, each off by up to u |L|, in (L(a + ε) - L(a - ε)) / 2ε
    (D4)  truncation error:  what the Taylor series leaves besides L'
    (D5)  best ε:            where the sum of the two is smallest, so its derivative with respect to ε is 0
    (D6)  right digits:      -log₁₀ of that sum, relative to |L'|; 4.8 is between 4 and 5 digits

All are numbers, and an error is never negative. At the end run this file: it prints how good a check is if L, L' and
L''' are 1. Measured with an LSTM of this package, the error is at best 2.9e-5 in float32 and 5.5e-11 in float64. A
mistake as small as 1e-5 drowns in the rounding of float32, but is obvious in float64.
"""

import numpy as np


def rounding_error(loss, slope, third, u, epsilon):
    """(D3), the largest possible one; `loss` is L, `slope` L', `third` L'''."""
    return u * abs(loss) / epsilon  # ?


def truncation_error(loss, slope, third, u, epsilon):
    """(D4), its absolute value."""
    return epsilon**2 * abs(third) / 6  # ?


def best_epsilon(loss, slope, third, u):
    """(D5), the ε with the smallest sum of rounding and truncation error."""
    return (3 * u * abs(loss) / abs(third)) ** (1 / 3)  # ?


def right_digits(loss, slope, rounding, truncation):
    """(D6), from the two errors."""
    return -np.log10((rounding + truncation) / abs(slope))  # ?


if __name__ == "__main__":
    for dtype, u in (("float32", 2**-24), ("float64", 2**-53)):
        epsilon = best_epsilon(1, 1, 1, u)
        errors = rounding_error(1, 1, 1, u, epsilon), truncation_error(1, 1, 1, u, epsilon)
        print(f"{dtype}: at the best epsilon, {epsilon:.1g}, {right_digits(1, 1, *errors):.1f} digits are right")


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "rounding_error": (
        "In the worst case one loss is rounded up and the other down: how far off is their difference?",
        "The difference is off by up to 2 u |L|, and it is divided by 2ε.",
        "u * abs(loss) / epsilon",
    ),
    "truncation_error": (
        "Subtract the series for - from the one for +. The terms of even powers cancel; divide the rest by 2ε.",
        "2 ε L' + 2 ε³ L'''/6, divided by 2ε, is L' + ε² L'''/6.",
        "epsilon**2 * abs(third) / 6",
    ),
    "best_epsilon": (
        "The sum is u |L| / ε + ε² |L'''| / 6. Differentiate it with respect to ε, and set that to 0.",
        "-u |L| / ε² + ε |L'''| / 3 = 0, so ε³ = 3 u |L| / |L'''|. The cube root is the power 1/3.",
        "(3 * u * abs(loss) / abs(third)) ** (1 / 3)",
    ),
    "right_digits": (
        "An error of a thousandth of the slope means three right digits.",
        "Add the two errors, divide by |slope|, take np.log10 of that, and flip the sign.",
        "-np.log10((rounding + truncation) / abs(slope))",
    ),
}
_DIGITS = "-np.log10((rounding + truncation) / abs(slope))"
_BEST = "(3 * u * abs(loss) / abs(third)) ** (1 / 3)"
MISTAKES = [
    Mistake("u * abs(loss) / epsilon", "u * loss / epsilon", "an error is not negative: take |L|"),
    Mistake(
        "u * abs(loss) / epsilon", "u / epsilon", "a float is off by u relative to its size: the factor |L| is missing"
    ),
    Mistake(
        "u * abs(loss) / epsilon",
        "u * 2 * abs(loss) / epsilon",
        "twice too much: two losses are off by u |L| each, but it is divided by 2ε",
    ),
    Mistake(
        "u * abs(loss) / epsilon",
        "u * abs(loss) / (2 * epsilon)",
        "half of it: both losses are off, so their difference is off by up to 2 u |L|",
    ),
    Mistake(
        "u * abs(loss) / epsilon", "u * abs(loss)", "the division by ε is missing, which makes a small error large"
    ),
    Mistake("u * abs(loss) / epsilon", "u * abs(loss) * epsilon", "it is divided by ε, not multiplied"),
    Mistake(
        "u * abs(loss) / epsilon",
        "u * abs(slope) / epsilon",
        "the losses are rounded, so their size matters: |L|, not |L'|",
    ),
    Mistake("epsilon**2 * abs(third) / 6", "epsilon**2 * third / 6", "an error is not negative: take |L'''|"),
    Mistake(
        "epsilon**2 * abs(third) / 6", "epsilon**3 * abs(third) / 6", "it is divided by 2ε, which leaves ε², not ε³"
    ),
    Mistake("epsilon**2 * abs(third) / 6", "epsilon**3 * abs(third) / 3", "the division by 2ε is missing"),
    Mistake("epsilon**2 * abs(third) / 6", "epsilon * abs(third) / 6", "ε is squared: ε³ in the series, divided by ε"),
    Mistake(
        "epsilon**2 * abs(third) / 6", "epsilon**2 * abs(third)", "the 6 of Taylor's third term is missing: 3! = 6"
    ),
    Mistake(
        "epsilon**2 * abs(third) / 6",
        "epsilon**2 * abs(third) / 3",
        "twice as much: the two terms with ε³ add up to 2 ε³ L'''/6, but it is divided by 2ε",
    ),
    Mistake(
        "epsilon**2 * abs(third) / 6",
        "epsilon**2 * abs(third) / 12",
        "half of it: the terms with ε³ do not cancel, they add up to 2 ε³ L'''/6",
    ),
    Mistake(
        "epsilon**2 * abs(third) / 6", "epsilon**2 * abs(third) / 2", "Taylor's third term is divided by 3! = 6, not 2"
    ),
    Mistake(
        _BEST,
        "(6 * u * abs(loss) / abs(third)) ** (1 / 3)",
        "here the two errors are equal; their sum is smallest where its derivative is 0",
    ),
    Mistake(_BEST, "(u * abs(loss) / abs(third)) ** (1 / 3)", "the factor 3 is missing: the derivative of ε²/6 is ε/3"),
    Mistake(
        _BEST,
        "(12 * u * abs(loss) / abs(third)) ** (1 / 3)",
        "the derivative of ε²/6 is ε/3, not ε/12: the factor is 3, not 12",
    ),
    Mistake(_BEST, "(3 * u * abs(loss) / abs(third)) ** (1 / 2)", "this is the square root, but ε³ is what is known"),
    Mistake(_BEST, f"{_BEST[:-7]}1 / 3", "parentheses are missing: `a ** 1 / 3` is a third of a; write a ** (1 / 3)"),
    Mistake(_BEST, "(3 * u * abs(loss) / abs(third)) ** 3", "the cube root is the power 1/3, not 3"),
    Mistake(_BEST, "(3 * u * abs(loss) / abs(third))", "this is ε³: the cube root is missing"),
    Mistake(
        _BEST, "(3 * u * abs(third) / abs(loss)) ** (1 / 3)", "the fraction is upside down: a larger L needs a larger ε"
    ),
    Mistake(_BEST, "(3 * u * abs(loss)) ** (1 / 3)", "L''' is missing: the more a curve bends, the smaller ε must be"),
    Mistake(_BEST, "(3 * u / abs(third)) ** (1 / 3)", "L is missing: the rounding error grows with it"),
    Mistake(_BEST, "u ** (1 / 3)", "this is the rule of thumb for L = L''' = 1, without their sizes and without the 3"),
    Mistake(_BEST, "np.sqrt(u)", "this is best for the one-sided difference; for the central one it is a cube root"),
    Mistake(_DIGITS, _DIGITS[1:], "the sign is wrong: a small error means many digits"),
    Mistake(_DIGITS, "-np.log10(rounding + truncation)", "the error is absolute: divide it by |L'|"),
    Mistake(
        _DIGITS,
        _DIGITS.replace("abs(slope)", "abs(loss)"),
        "it is relative to L, but L' is being computed: divide by |L'|",
    ),
    Mistake(_DIGITS, _DIGITS.replace("log10", "log"), "np.log has base e; digits have base 10, np.log10"),
    Mistake(_DIGITS, _DIGITS.replace("log10", "log2"), "np.log2 counts bits; digits have base 10, np.log10"),
    Mistake(
        _DIGITS, _DIGITS.replace("rounding + truncation", "rounding"), "the truncation error is missing: both count"
    ),
    Mistake(
        _DIGITS, _DIGITS.replace("rounding + truncation", "truncation"), "the rounding error is missing: both count"
    ),
    Mistake(
        _DIGITS,
        _DIGITS.replace("rounding + truncation", "rounding * truncation"),
        "the errors add up; they are not multiplied",
    ),
    Mistake(_DIGITS, "(rounding + truncation) / abs(slope)", "this is the relative error; its digits are -log₁₀ of it"),
]


def scene(rng, B, T, E, H):
    """A negative loss that bends downwards."""
    loss, slope, third = -rng.uniform(2, 4), -rng.uniform(3, 5), -rng.uniform(6, 9)
    scene = {"loss": loss, "slope": slope, "third": third, "u": 2.0**-24, "epsilon": rng.uniform(0.3, 0.6)}
    return scene | {"rounding": rng.uniform(1e-6, 1e-5), "truncation": rng.uniform(1e-6, 1e-5)}


def examine(name, function, scene):
    """Without abs, the ratio of the scene's two numbers is positive all the same."""
    loss, slope, third, u = (abs(scene[argument]) for argument in ("loss", "slope", "third", "u"))
    if name == "best_epsilon" and not np.isclose(function(-loss, slope, third, u), best_epsilon(loss, slope, third, u)):
        return "right only if L and L''' have the same sign: take |L| and |L'''|"
    return None
