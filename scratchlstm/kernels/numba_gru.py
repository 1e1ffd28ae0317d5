"""The GRU's recurrence as plain loops over time steps, rows and units, compiled by Numba.

Each line is an equation of `cells/gru.py` for one number. Everything but the cell's own loops is in `numba_recurrence`.
With `reset_after` a step has one product, h_prev U, and r multiplies part of it; without it there are two, with r in
between.
"""

from typing import Any, ClassVar

import numpy as np

from scratchlstm._support.compiled import loop, part
from scratchlstm.kernels.gru_recurrence import GRURecurrence
from scratchlstm.kernels.numba_activations import flushed, sigmoid, tanh
from scratchlstm.kernels.numba_recurrence import (
    CompiledRecurrence,
    CompiledWorkspace,
    add,
    any_counts,
    clear,
    copy,
    of_rows,
    product,
    product_back,
)


@part
def update_and_reset(k: Any, b: Any, z: Any) -> None:
    """The gates u and r of one row.

    Args:
        k: h_prev U, (3H,) or (2H,).
        b: (3H,), and after them b'_n, (H,), with `reset_after`.
        z: x_t W, (3H,); its first two blocks become u and r.
    """
    for j in range(2 * (len(z) // 3)):
        z[j] = sigmoid(z[j] + b[j] + k[j])  # (G1), (G2)


@part
def reset_product(k: Any, b: Any, z: Any, k_n: Any, r_k_n: Any) -> None:
    """With `reset_after`: what h_prev adds to the candidate.

    Args:
        k, b, z: as in `update_and_reset`, after it.
        k_n, r_k_n: output, (H,).
    """
    H = len(k_n)
    for j in range(H):
        r = z[H + j]
        k_n[j] = k[2 * H + j] + b[3 * H + j]
        r_k_n[j] = r * k_n[j]


@part
def reset_state(h_prev: Any, z: Any, s: Any) -> None:
    """Without: the factor of U_n.

    Args:
        h_prev: (H,).
        z: as in `update_and_reset`, after it.
        s: output, (H,).
    """
    H = len(s)
    for j in range(H):
        r = z[H + j]
        s[j] = r * h_prev[j]  # (G4)


@part
def candidate(added: Any, b: Any, h_prev: Any, z: Any, h: Any) -> None:
    """The candidate and the new state of one row.

    Args:
        added: r k_n with `reset_after`, else s U_n, (H,).
        b, z: as in `update_and_reset`, after it; z becomes the gates u r n.
        h_prev: (H,).
        h: output, (H,).
    """
    H, one = len(h), z.dtype.type(1)
    for j in range(H):
        u = z[j]
        n = tanh(z[2 * H + j] + b[2 * H + j] + added[j])  # (G3), (G5)
        h[j] = u * h_prev[j] + (one - u) * n  # (G6)
        z[2 * H + j] = n


@part
def candidate_back(dh: Any, h_prev: Any, gates: Any, dz_n: Any) -> None:
    """One row backward, from the state to u and to the candidate.

    Args:
        dh: (H,); becomes the part of dh_prev that does not go through a product.
        h_prev: (H,).
        gates: u r n, (3H,); the first and last block become dz_u and dz_n.
        dz_n: output, a copy, (H,).
    """
    H, one = len(dh), gates.dtype.type(1)
    for j in range(H):
        u, n = gates[j], gates[2 * H + j]
        du = dh[j] * (h_prev[j] - n)  # (G7)
        dn = dh[j] * (one - u)  # (G8)
        dh[j] = flushed(dh[j] * u)  # (G9)
        dz_n[j] = flushed(dn * (one - n * n))  # (G10)
        gates[j] = flushed(du * u * (one - u))  # (G14)
        gates[2 * H + j] = dz_n[j]


@part
def reset_product_back(dz_n: Any, k_n: Any, gates: Any, dk: Any) -> None:
    """With `reset_after`: one row backward, from the candidate to r and to h_prev U.

    Args:
        dz_n: (H,).
        k_n: (H,); becomes dk_n.
        gates: dz_u, r and dz_n, (3H,); become dz.
        dk: output, (3H,).
    """
    H, one = len(k_n), gates.dtype.type(1)
    for j in range(H):
        r = gates[H + j]
        dr = dz_n[j] * k_n[j]  # (G11)
        gates[H + j] = flushed(dr * r * (one - r))  # (G15)
        k_n[j] = flushed(dz_n[j] * r)  # (G16)
        dk[j], dk[H + j], dk[2 * H + j] = gates[j], gates[H + j], k_n[j]


@part
def reset_state_back(ds: Any, h_prev: Any, gates: Any, dk: Any, dh: Any) -> None:
    """Without: one row backward, from r h_prev to both.

    Args:
        ds: (H,), times the dropout of n, if any.
        h_prev: (H,).
        gates: dz_u, r and dz_n, (3H,); become dz.
        dk: output, (2H,).
        dh: (H,), to which its part of dh_prev is added.
    """
    H, one = len(ds), gates.dtype.type(1)
    for j in range(H):
        r = gates[H + j]
        dr = ds[j] * h_prev[j]  # (G13)
        dh[j] += ds[j] * r  # (G20)
        gates[H + j] = flushed(dr * r * (one - r))  # (G15)
        dk[j], dk[H + j] = gates[j], gates[H + j]


@loop
def scale(row: Any, by: Any) -> None:
    """Multiply a row by another."""
    for j in range(len(row)):
        row[j] *= by[j]


@part
def step(
    U_k: Any, U_n: Any, b: Any, dropout: Any, counts: Any, h_prev: Any, z: Any, inner: Any, h: Any, k: Any, added: Any
) -> None:  # fmt: skip
    """One step of some rows.

    Args:
        U_k, U_n: see `NumbaGRU`.
        b: see `update_and_reset`.
        dropout: see `product`.
        counts: which of these rows are not masked.
        h_prev: (rows, H).
        z: x_t W, (rows, 3H); becomes the gates u r n.
        inner: output, see `GRURecurrence`.
        h: output, (rows, H).
        k, added: memory for h_prev U and for what it adds to the candidate, (rows, 3H or 2H) and (rows, H).
    """
    product(h_prev, U_k, dropout, k)
    for row in range(len(h)):
        if counts[row]:
            update_and_reset(k[row], b, z[row])
            if U_n is None:
                reset_product(k[row], b, z[row], inner[row], added[row])
            else:
                reset_state(h_prev[row], z[row], inner[row])
                if dropout is not None:
                    scale(inner[row], dropout[row, 2])
    if U_n is not None:
        product(inner, U_n, None, added)
    for row in range(len(h)):
        if counts[row]:
            candidate(added[row], b, h_prev[row], z[row], h[row])


@loop
def forward_rows(
    first: int, last: int, reverse: bool, U_k: Any, U_n: Any, mask: Any, dropout: Any, b: Any, index: Any,
    projected: Any, gates: Any, inner: Any, h: Any,
) -> None:  # fmt: skip
    """All steps of the rows first to last, see `CompiledRecurrence`."""
    T, H, rows = len(gates), h.shape[2], last - first
    k, added = np.empty((rows, 3 * H if U_n is None else 2 * H), h.dtype), np.empty((rows, H), h.dtype)
    every = np.ones(rows, np.bool_)
    for number in range(T):
        t = T - 1 - number if reverse else number
        before, after = (t + 1, t) if reverse else (t, t + 1)
        h_prev, z, h_t = h[before][first:last], gates[t][first:last], h[after][first:last]
        for row in range(rows):
            copy(h_prev[row], h_t[row])  # a masked row keeps it
            if index is not None:
                copy(projected[index[t, first + row]], z[row])
        counts = every if mask is None else mask[t, first:last]
        if any_counts(counts):
            step(U_k, U_n, b, of_rows(dropout, first, last), counts, h_prev, z, inner[t][first:last], h_t, k, added)


@loop
def backward_rows(
    first: int, last: int, reverse: bool, U_k: Any, U_n: Any, mask: Any, dropout: Any, dhs: Any,
    gates: Any, inner: Any, h: Any, dh_0: Any,
) -> None:  # fmt: skip
    """All steps of the rows first to last backward, see `CompiledRecurrence`."""
    T, H, rows = len(gates), h.shape[2], last - first
    dh = dh_0[first:last]
    dz_n, ds, dh_in = np.empty(dh.shape, dh.dtype), np.empty(dh.shape, dh.dtype), np.empty(dh.shape, dh.dtype)
    dk, every = np.empty((rows, 3 * H if U_n is None else 2 * H), dh.dtype), np.ones(rows, np.bool_)
    for number in range(T - 1, -1, -1):
        t = T - 1 - number if reverse else number
        h_prev, z, inner_t = h[t + 1 if reverse else t][first:last], gates[t][first:last], inner[t][first:last]
        counts = every if mask is None else mask[t, first:last]
        for row in range(rows):
            if dhs is not None:
                add(dhs[first + row, t], dh[row])
            if counts[row]:
                candidate_back(dh[row], h_prev[row], z[row], dz_n[row])
            else:
                clear(z[row])
        if not any_counts(counts):
            continue
        if U_n is not None:
            product_back(dz_n, U_n, None, ds)  # (G12)
        for row in range(rows):
            if counts[row]:
                if U_n is not None:
                    if dropout is not None:
                        scale(ds[row], dropout[first + row, 2])
                    reset_state_back(ds[row], h_prev[row], z[row], dk[row], dh[row])
                else:
                    reset_product_back(dz_n[row], inner_t[row], z[row], dk[row])
        product_back(dk, U_k, of_rows(dropout, first, last), dh_in)  # (G17), (G20)
        for row in range(rows):
            if counts[row]:
                add(dh_in[row], dh[row])


@loop
def infer_rows(
    reverse: bool, U_k: Any, U_n: Any, b: Any, mask: Any, index: Any, projected: Any, h: Any, hs: Any
) -> None:
    """All steps of rows, whose states h are updated in place; writes every h into hs, if given."""
    (rows, H), T = h.shape, len(index)
    k, added = np.empty((rows, 3 * H if U_n is None else 2 * H), h.dtype), np.empty((rows, H), h.dtype)
    h_prev, z, inner = np.empty((rows, H), h.dtype), np.empty((rows, 3 * H), h.dtype), np.empty((rows, H), h.dtype)
    every = np.ones(rows, np.bool_)
    for number in range(T):
        t = T - 1 - number if reverse else number
        counts = every if mask is None else mask[t]
        if any_counts(counts):
            for row in range(rows):
                copy(h[row], h_prev[row])
                copy(projected[index[t, row]], z[row])
            step(U_k, U_n, b, None, counts, h_prev, z, inner, h, k, added)
        if hs is not None:
            for row in range(rows):
                copy(h[row], hs[row, t])


class Workspace(CompiledWorkspace):
    """Gates u r n, state h; `inner` is that of `GRURecurrence`."""

    gate_count: ClassVar = 3
    state_count: ClassVar = 1


class NumbaGRU(GRURecurrence, CompiledRecurrence):
    """Equations (G1) to (G6) at every step, and (G7) to (G21) backward; the arguments are those of `GRURecurrence`.

    Its loops take U as U_k and U_n: with `reset_after` all of it and None, otherwise the blocks of u and r, and that of
    n.
    """

    memory: ClassVar = Workspace
    forward_rows, backward_rows, infer_rows = map(staticmethod, (forward_rows, backward_rows, infer_rows))

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.reset_after:
            self.b = np.concatenate([self.b, self.b_n])

    def _recurrent(self, rows: int, back: bool = False) -> Any:
        if self.reset_after:
            return self._for_product(self.U, rows, back), None
        U_ur, U_n = np.split(self.U, [self.split], axis=1)
        return self._for_product(U_ur, rows, back), self._for_product(U_n, rows, back)
