"""The LSTM's recurrence as plain loops over time steps, rows and units, compiled by Numba.

Each line is an equation of `gates.py` for one number. A step's product h_prev U is left to BLAS. Threads share the rows
of a batch, and each makes one call for all steps of its rows.
"""

from typing import Any, ClassVar

import numpy as np

from scratchlstm._support.compiled import loop, part
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
def step(h_U: Any, b: Any, c_prev: Any, z: Any, c: Any, tanh_c: Any, h: Any) -> None:
    """One step of one row.

    Args:
        h_U: h_prev U, (4H,).
        b: (4H,).
        c_prev: (H,).
        z: x_t W, (4H,); becomes the gates i f g o.
        c, tanh_c, h: output, (H,).
    """
    H = len(h)
    for j in range(4 * H):
        z[j] += h_U[j] + b[j]
    for j in range(H):
        i = sigmoid(z[j])  # (1)
        f = sigmoid(z[H + j])  # (2)
        g = tanh(z[2 * H + j])  # (3)
        o = sigmoid(z[3 * H + j])  # (4)
        c[j] = f * c_prev[j] + i * g  # (5)
        tanh_c[j] = tanh(c[j])
        h[j] = o * tanh_c[j]  # (6)
        z[j], z[H + j], z[2 * H + j], z[3 * H + j] = i, f, g, o


@part
def step_back(dh: Any, dc: Any, gates: Any, tanh_c: Any, c_prev: Any) -> None:
    """One step of one row backward.

    Args:
        dh: (H,).
        dc: (H,); becomes dc_prev.
        gates: i f g o, (4H,); become dz.
        tanh_c, c_prev: (H,).
    """
    H, one = len(dh), gates.dtype.type(1)
    for j in range(H):
        i, f, g, o = gates[j], gates[H + j], gates[2 * H + j], gates[3 * H + j]
        do = dh[j] * tanh_c[j]  # (7)
        dc_j = dc[j] + dh[j] * o * (one - tanh_c[j] * tanh_c[j])  # (8)
        di = dc_j * g  # (9)
        df = dc_j * c_prev[j]  # (10)
        dg = dc_j * i  # (11)
        dc[j] = flushed(dc_j * f)  # (12)
        gates[j] = flushed(di * i * (one - i))  # (13)
        gates[H + j] = flushed(df * f * (one - f))  # (14)
        gates[2 * H + j] = flushed(dg * (one - g * g))  # (15)
        gates[3 * H + j] = flushed(do * o * (one - o))  # (16)


@loop
def forward_rows(
    first: int, last: int, reverse: bool, U: Any, mask: Any, dropout: Any, b: Any, index: Any, projected: Any,
    gates: Any, tanh_c: Any, h: Any, c: Any,
) -> None:  # fmt: skip
    """All steps of the rows first to last, see `CompiledRecurrence`."""
    T, H = len(gates), h.shape[2]
    h_U = np.empty((last - first, 4 * H), gates.dtype)
    for number in range(T):
        t = T - 1 - number if reverse else number
        before, after = (t + 1, t) if reverse else (t, t + 1)
        if mask is None or any_counts(mask[t, first:last]):
            product(h[before][first:last], U, of_rows(dropout, first, last), h_U)
        for row in range(first, last):
            if mask is not None and not mask[t, row]:
                copy(h[before, row], h[after, row])
                copy(c[before, row], c[after, row])
                continue
            if index is not None:
                copy(projected[index[t, row]], gates[t, row])
            step(h_U[row - first], b, c[before, row], gates[t, row], c[after, row], tanh_c[t, row], h[after, row])


@loop
def backward_rows(
    first: int, last: int, reverse: bool, U_back: Any, mask: Any, dropout: Any, dhs: Any,
    gates: Any, tanh_c: Any, c: Any, dh_0: Any, dc_0: Any,
) -> None:  # fmt: skip
    """All steps of the rows first to last backward, see `CompiledRecurrence`."""
    T = len(gates)
    dh, dc = dh_0[first:last], dc_0[first:last]
    dh_prev = np.empty(dh.shape, dh.dtype)
    for number in range(T - 1, -1, -1):
        t = T - 1 - number if reverse else number
        before = t + 1 if reverse else t
        for row in range(first, last):
            k = row - first
            if dhs is not None:
                add(dhs[row, t], dh[k])
            if mask is not None and not mask[t, row]:
                clear(gates[t, row])
            else:
                step_back(dh[k], dc[k], gates[t, row], tanh_c[t, row], c[before, row])
        if mask is not None and not any_counts(mask[t, first:last]):
            continue
        product_back(gates[t][first:last], U_back, of_rows(dropout, first, last), dh_prev)  # (18)
        for row in range(first, last):
            if mask is None or mask[t, row]:
                copy(dh_prev[row - first], dh[row - first])


@loop
def infer_rows(reverse: bool, U: Any, b: Any, mask: Any, index: Any, projected: Any, h: Any, c: Any, hs: Any) -> None:
    """All steps of rows, whose states h and c are updated in place; writes every h into hs, if given."""
    (n, H), T = h.shape, len(index)
    h_U, gates = np.empty((n, 4 * H), h.dtype), np.empty(4 * H, h.dtype)
    c_prev, tanh_c = np.empty(H, h.dtype), np.empty(H, h.dtype)
    for number in range(T):
        t = T - 1 - number if reverse else number
        if mask is None or any_counts(mask[t]):
            product(h, U, None, h_U)
        for row in range(n):
            if mask is None or mask[t, row]:
                copy(projected[index[t, row]], gates)
                copy(c[row], c_prev)
                step(h_U[row], b, c_prev, gates, c[row], tanh_c, h[row])
            if hs is not None:
                copy(h[row], hs[row, t])


class Workspace(CompiledWorkspace):
    """Gates i f g o, states h and c; `inner` is tanh(c)."""

    gate_count: ClassVar = 4
    state_count: ClassVar = 2


class NumbaLSTM(CompiledRecurrence):
    """Equations (1) to (6) at every step, and (7) to (21) backward; the arguments are those of `Recurrence`."""

    memory: ClassVar = Workspace
    order_of_gates: ClassVar = [0, 1, 2, 3]
    forward_rows, backward_rows, infer_rows = map(staticmethod, (forward_rows, backward_rows, infer_rows))
