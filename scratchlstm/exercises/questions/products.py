"""Back through z = x W + h_prev U + b: equations (17) to (21).

    z = x W + h_prev U + b        matrix products, b is added to each row

`dz`, (B, 4H), is given: the four blocks dz_i, dz_f, dz_g, dz_o side by side. Element by element, z_nk is the sum of
x_ne W_ek over e, of h_prev_nj U_jk over j, and b_k: each element of x, W and so on reaches several elements of z, and
its gradient is a sum over all of them. When in doubt, look at the shapes: a gradient has the shape of its name.

In NumPy: `@` is the matrix product, `A.T` is A transposed.
Shapes: x (B, E), h_prev and h (B, H), W (E, 4H), U (H, 4H), b (4H,).

The derivation, with an example in numbers: docs/derivation.md#through-z-the-products
"""

import numpy as np


def dx(dz, x, h_prev, h, W, U):
    """(17), dL/dx, (B, E)."""
    return dz @ W.T  # ?


def dh_prev(dz, x, h_prev, h, W, U):
    """(18), dL/dh_prev, (B, H)."""
    return dz @ U.T  # ?


def dW(dz, x, h_prev, h, W, U):
    """(19), dL/dW, (E, 4H)."""
    return x.T @ dz  # ?


def dU(dz, x, h_prev, h, W, U):
    """(20), dL/dU, (H, 4H)."""
    return h_prev.T @ dz  # ?


def db(dz, x, h_prev, h, W, U):
    """(21), dL/db, (4H,)."""
    return np.sum(dz, axis=0)  # ?


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402

HINTS = {
    "dx": (
        "What multiplies x in z? Each element of x reaches all 4H columns of z: sum over them.",
        "(B, 4H) times what gives (B, E)? W is (E, 4H).",
        "dx = dz @ W.T",
    ),
    "dh_prev": (
        "h_prev is to U what x is to W.",
        "(B, 4H) times what gives (B, H)? U is (H, 4H).",
        "dh_prev = dz @ U.T",
    ),
    "dW": (
        "Each sample adds its x times its dz. A matrix product can do the sum over the samples.",
        "(E, B) times (B, 4H) gives (E, 4H), and sums over B.",
        "dW = x.T @ dz",
    ),
    "dU": (
        "U multiplies the state that came into this step.",
        "h_prev is to dU what x is to dW: (H, B) times (B, 4H).",
        "dU = h_prev.T @ dz",
    ),
    "db": (
        "b is added to the row of each sample: its slope is 1, once for each sample.",
        "Sum dz over the samples; they are the first axis.",
        "db = np.sum(dz, axis=0)",
    ),
}


_ORDERS = {"i g f o": [0, 2, 1, 3], "i f o g": [0, 1, 3, 2], "i o f g": [0, 3, 1, 2]}


def _in_order(right):
    """Mistakes with the blocks of dz in the order of another library."""
    for order, blocks in _ORDERS.items():
        dz = f"np.reshape(np.reshape(dz, (len(dz), 4, -1))[:, {blocks}], dz.shape)"
        says = f"the blocks of dz are in the order {order} here; they should be i f g o, as in z, W, U and b"
        yield Mistake(right, right.replace("dz", dz), says)


def _of_input(name, matrix, other):
    """Mistakes for dL/d(name) = dz @ matrix.T."""
    right = f"dz @ {matrix}.T"
    yield Mistake(f"@ {matrix}.T", f"@ {other}.T", f"{name} goes with {matrix} in z, not with {other}")
    yield Mistake(f"dz @ {matrix}.T", f"dz @ {matrix}", f"{matrix} must be transposed: {matrix}.T")
    yield Mistake(right, f"np.dot(dz, {matrix})", f"{matrix} must be transposed: {matrix}.T")
    yield Mistake(right, f"dz * {matrix}.T", "this is a matrix product: `@`, not `*`")
    yield Mistake(right, f"{matrix} @ dz.T", f"this is the transpose: d{name} is dz times {matrix}.T, in this order")
    yield from _in_order(right)
    yield Mistake(right, f"{right} / len(dz)", _MEAN.format("each sample has its own gradient here"))
    yield Mistake(right, f"np.sum({right}, axis=0)", "the samples are not added up here: each one has its own row")
    last = f"np.outer(dz[:, -1], {matrix}[:, -1])"
    yield Mistake(right, last, "this is only the last of the 4H columns; their paths add up (in a loop: `+=`, not `=`)")
    for k, gate in enumerate("ifgo"):
        block = f"[:, {k} * len(U) : {k + 1} * len(U)]"
        says = f"only z_{gate} is used; all four blocks of z contain {name}, and their paths add up"
        yield Mistake(right, f"dz{block} @ {matrix}{block}.T", says)


def _of_matrix(name, factor, others):
    """Mistakes for dL/d(name) = factor.T @ dz."""
    right = f"{factor}.T @ dz"
    for other in others:
        yield Mistake(right, f"{other}.T @ dz", f"{name} goes with {factor} in z, not with {other}")
    yield Mistake(f"{factor}.T @ dz", f"{factor} @ dz", f"{factor} must be transposed: {factor}.T")
    yield Mistake(right, f"np.dot({factor}, dz)", f"{factor} must be transposed: {factor}.T")
    yield Mistake(right, f"{factor}.T * dz", "this is a matrix product: `@`, not `*`")
    yield Mistake(right, f"dz.T @ {factor}", f"this is the transpose: d{name} has the shape of {name}")
    yield from _in_order(right)
    yield Mistake(right, f"{right} / len(dz)", _MEAN.format("the samples add up"))
    yield Mistake(right, f"np.outer({factor}[0], dz[0])", "this is only the first sample: sum over all samples")
    yield Mistake(right, f"np.outer({factor}[-1], dz[-1])", "this is only the last sample: sum over all samples")
    yield Mistake(
        right,
        f"np.outer(np.sum({factor}, axis=0), np.sum(dz, axis=0))",
        f"multiply first, then sum: each sample's {factor} goes with the dz of the same sample",
    )


_MEAN = "there is no mean here: {}, and if the loss is a mean, it has already divided by B"
_DB = "np.sum(dz, axis=0)"
MISTAKES = [
    *_of_input("x", "W", "U"),
    *_of_input("h_prev", "U", "W"),
    *_of_matrix("W", "x", ["h_prev"]),
    *_of_matrix("U", "h_prev", ["x", "h"]),
    *_in_order(_DB),
    Mistake(_DB, "np.mean(dz, axis=0)", _MEAN.format("the samples add up")),
    Mistake(_DB, "np.sum(dz, axis=1)", "the sum is over the samples, axis 0, not over the columns"),
    Mistake(_DB, "np.sum(dz)", "the sum is only over the samples, axis=0: each column has its own bias"),
    Mistake(_DB, "np.sum(dz, axis=0, keepdims=True)", "b has the shape (4H,), not (1, 4H): omit keepdims"),
    Mistake(_DB, "dz[0]", "this is only the first sample: sum over all samples"),
    Mistake(_DB, "dz[-1]", "this is only the last sample: sum over all samples"),
    Mistake(_DB, "np.sum(x.T @ dz, axis=0)", "b is not multiplied by x: sum only dz"),
    Mistake(
        _DB, "np.tile(np.sum(dz[:, -len(U) :], axis=0), 4)", "each gate has its own biases; this repeats those of o"
    ),
    Mistake(
        _DB, "np.tile(np.sum(dz[:, : len(U)], axis=0), 4)", "each gate has its own biases; this repeats those of i"
    ),
    Mistake(
        _DB,
        "np.tile(dz.reshape(len(dz), 4, -1).sum(axis=(0, 1)), 4)",
        "each gate has its own biases; this adds up the four blocks",
    ),
]
