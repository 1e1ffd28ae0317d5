"""Dropout with a mask of its own for each gate.

Each gate then sees its own masked copy of x or h_prev. That is the same cell on four copies side by side, with the four
blocks of the kernel along a diagonal, so the equations in `gates` stay as they are. Sizes: n features of what is
copied (E or H), H units.
"""

from typing import Any

from scratchlstm.backend import namespace

Array = Any  # as in `gates`


def four_copies(a: Array, masks: Array) -> Array:
    """(..., n) and (..., 4, n) -> (..., 4n): a times each gate's mask."""
    copies = a[..., None, :] * masks
    return namespace(copies).reshape(copies, (*a.shape[:-1], 4 * a.shape[-1]))


def sum_copies(d_copies: Array, masks: Array) -> Array:
    """The way back: (..., 4n) -> (..., n)."""
    xp = namespace(d_copies)
    by_gate = xp.reshape(d_copies, (*d_copies.shape[:-1], 4, d_copies.shape[-1] // 4))
    return xp.sum(by_gate * masks, axis=-2)


def block_diagonal(kernel: Array) -> Array:
    """(n, 4H) -> (4n, 4H): gate k's columns only in the rows of copy k."""
    xp, H = namespace(kernel), kernel.shape[1] // 4
    gate = xp.arange(4 * H) // H  # of each column
    return xp.concat([xp.where(gate == k, kernel, xp.zeros_like(kernel)) for k in range(4)], axis=0)


def diagonal_blocks(d_kernel: Array) -> Array:
    """The way back: (4n, 4H) -> (n, 4H)."""
    xp, n, H = namespace(d_kernel), d_kernel.shape[0] // 4, d_kernel.shape[1] // 4
    return xp.concat([d_kernel[k * n : (k + 1) * n, k * H : (k + 1) * H] for k in range(4)], axis=1)
