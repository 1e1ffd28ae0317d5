"""The optimizers' equations in one compiled loop over a parameter, its slots and its gradient.

Each operation is rounded as in `Optimizer.update`, so both give the same bits, and it does not matter which of them
updated a parameter, or part of one.

The loops take matrices. `places` has for each row of `ws` the index of the row of `gs` that is its gradient, or -1 if
the gradient is zero: then `zeros` is used.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm._support.compiled import exact_loop

if TYPE_CHECKING:
    from scratchlstm.optimizers import Optimizer, Rows


@exact_loop
def sgd(places: Any, gs: Any, zeros: Any, ws: Any, learning_rate: float) -> None:
    """w -= lr g."""
    lr = ws.dtype.type(learning_rate)
    for row in range(len(ws)):
        if places[row] >= 0:
            w, g = ws[row], gs[places[row]]
            for j in range(len(w)):
                w[j] -= lr * g[j]


@exact_loop
def sgd_momentum(
    places: Any, gs: Any, zeros: Any, ws: Any, learning_rate: float, mu: float, nesterov: bool, momentum: Any
) -> None:
    """m = μ m - lr g, w += m (Nesterov: w += μ m - lr g)."""
    real = ws.dtype.type
    lr, keep = real(learning_rate), real(mu)
    for row in range(len(ws)):
        g = gs[places[row]] if places[row] >= 0 else zeros
        w, m = ws[row], momentum[row]
        for j in range(len(w)):
            m[j] = keep * m[j] - lr * g[j]
            w[j] = w[j] + keep * m[j] - lr * g[j] if nesterov else w[j] + m[j]


@exact_loop
def rmsprop(
    places: Any, gs: Any, zeros: Any, ws: Any, learning_rate: float, rho: float, epsilon: float, velocity: Any
) -> None:
    """v = ρ v + (1 - ρ) g²; w -= lr g / sqrt(v + ε)."""
    real = ws.dtype.type
    lr, keep, rest, eps = real(learning_rate), real(rho), real(1 - rho), real(epsilon)
    for row in range(len(ws)):
        w, v = ws[row], velocity[row]
        if places[row] < 0:
            for j in range(len(v)):
                v[j] *= keep
            continue
        g = gs[places[row]]
        for j in range(len(w)):
            v[j] = keep * v[j] + rest * g[j] * g[j]
            w[j] -= lr * g[j] / np.sqrt(v[j] + eps)


@exact_loop
def adam(
    places: Any, gs: Any, zeros: Any, ws: Any, step: float, beta_1: float, beta_2: float, epsilon: float,
    momentum: Any, velocity: Any,
) -> None:  # fmt: skip
    """m = β1 m + (1 - β1) g; v = β2 v + (1 - β2) g²; w -= α m / (sqrt(v) + ε)."""
    real = ws.dtype.type
    alpha, eps = real(step), real(epsilon)
    keep_1, rest_1, keep_2, rest_2 = real(beta_1), real(1 - beta_1), real(beta_2), real(1 - beta_2)
    for row in range(len(ws)):
        g = gs[places[row]] if places[row] >= 0 else zeros
        w, m, v = ws[row], momentum[row], velocity[row]
        for j in range(len(w)):
            m[j] = keep_1 * m[j] + rest_1 * g[j]
            v[j] = keep_2 * v[j] + rest_2 * g[j] * g[j]
            w[j] -= m[j] / (np.sqrt(v[j]) + eps) * alpha


@exact_loop
def _move(averages: Any, ws: Any, part: float) -> None:
    """average += part (w - average), for 1-d arrays."""
    rate = ws.dtype.type(part)
    for j in range(len(ws)):
        averages[j] += rate * (ws[j] - averages[j])


_LOOPS: dict[str, Callable[..., None]] = {loop.__name__: loop for loop in (sgd, sgd_momentum, rmsprop, adam)}


def takes(w: np.ndarray, *slots: np.ndarray) -> bool:
    """Whether the loops can update these arrays: all float32 or all float64, of one shape, contiguous."""
    alike = all(a.dtype == w.dtype and a.shape == w.shape and a.flags.carray for a in (w, *slots))
    return w.dtype in (np.float32, np.float64) and alike


def update(
    optimizer: "Optimizer", w: np.ndarray, rows: "Rows", g: np.ndarray, learning_rate: float, **kept: np.ndarray
) -> None:
    """`optimizer._update`, with the same arguments, for arrays of one dtype that `takes` accepts."""
    name, *settings = optimizer.kernel(learning_rate)
    if isinstance(rows, slice):
        places, count, columns = np.zeros(1, np.intp), 1, w.size  # one long row
    else:
        places, count, columns = np.full(len(w), -1, np.intp), len(rows), w.size // len(w)
        places[rows] = np.arange(len(rows))
    if not g.flags.carray or np.may_share_memory(g, w):
        g = g.copy()
    matrices = {name: kept[name].reshape(-1, columns) for name in optimizer.slots}
    zeros, gs, ws = np.zeros(columns, w.dtype), g.reshape(count, columns), w.reshape(-1, columns)
    _LOOPS[name](places, gs, zeros, ws, *settings, **matrices)
    if optimizer.use_ema:
        optimizer.move_average(w.reshape(-1), kept["average"].reshape(-1), _move)
