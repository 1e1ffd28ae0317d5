"""Any cell over a sequence, forward and back through time; `gates.lstm_forward` is the same loop for the LSTM alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scratchlstm.backend import Array, namespace
from scratchlstm.cells import contract
from scratchlstm.cells.base import Cell
from scratchlstm.gates import block_diagonal, diagonal_blocks, gate_copies, sum_copies

States = list[Array]


class Scan(NamedTuple):
    """What `scan` did at each step, for `scan_back`."""

    caches: list[Any]
    params: Sequence[Array]  #          as `forward` got them
    mask: Array | None  #               (B, T)
    input_dropout: Array | None  #      (B, n, E)
    recurrent_dropout: Array | None  #  (B, n, H)


class StepBack(NamedTuple):
    """One step of backpropagation through time."""

    arrived: States  #             dL/d of the step's new states, all paths added up
    gradients: Mapping[str, Array]  #  of the cell's `backward`; 0 in rows that are masked
    handed_on: States  #           dL/d of the states of the step before


def scan(
    cell: Cell,
    x: Array,
    states: Sequence[Array],
    params: Sequence[Array],
    mask: Array | None = None,
    input_dropout: Array | None = None,
    recurrent_dropout: Array | None = None,
    keeps: bool = True,
) -> tuple[Array, States, Scan]:
    """The cell at every step, the same parameters at each.

    Args:
        cell: the cell; n is its number of blocks.
        x: inputs in the order of computation, (B, T, E).
        states: initial ones, (B, H).
        params: in the order of `cell.forward`.
        mask: (B, T); a row's states stay as they are if it is False.
        input_dropout: (B, n, E), what multiplies x in the product with each block; the same at every step.
        recurrent_dropout: (B, n, H), the same for h_prev.
        keeps: whether `scan_back` will follow; if not, no step's cache is kept.

    Returns:
        every output (B, T, H), the final states, and what `scan_back` needs.
    """
    xp, params, n = namespace(x), list(params), len(cell.blocks)
    if input_dropout is not None:
        W = _place(cell, "kernel")
        x, params[W] = gate_copies(x, input_dropout[:, None]), block_diagonal(params[W], n)  # (B, T, nE), (nE, nH)
    if recurrent_dropout is not None:
        U = _place(cell, "recurrent_kernel")
        params[U] = block_diagonal(params[U], n)  # (nH, nH)
    forward = contract.first_steps(cell).forward
    apart = {"h_in", f"{cell.states[0]}_prev"} <= {*cell.arguments}  # else one of the two is all it takes
    now: States = [*states]
    hs, caches = [], []
    for t in range(x.shape[1]):
        h_in = now[0] if recurrent_dropout is None else gate_copies(now[0], recurrent_dropout)  # (B, H) or (B, nH)
        *new, cache = forward(x[:, t], h_in, *now[0 if apart else 1 :], *params)
        if mask is not None:
            valid = mask[:, t, None]  # (B, 1)
            new = [xp.where(valid, s, s_prev) for s, s_prev in zip(new, now, strict=True)]
        now = new
        hs.append(now[0])
        if keeps:
            caches.append(cache)
    return xp.stack(hs, axis=1), now, Scan(caches, params, mask, input_dropout, recurrent_dropout)


def scan_back(
    cell: Cell, dhs: Array, d_last: Sequence[Array | None], kept: Scan, weight_gradients: bool = True
) -> tuple[Array, list[Array | None], States]:
    """Backpropagation through time: the steps in reverse, the parameters' gradients summed over them.

    Args:
        cell: that of `scan`.
        dhs: dL/d(output) from the layer above at every step, (B, T, H).
        d_last: what reaches the final states besides, (B, H); None is zero.
        kept: from `scan`.
        weight_gradients: whether the parameters' gradients are wanted; if not, they are None.

    Returns:
        dx (B, T, E), the parameters' gradients in the order of `cell.forward`, those of the initial states.
    """
    xp, n = namespace(dhs), len(cell.blocks)
    grads: list[Any] = [xp.zeros_like(param) if weight_gradients else None for param in kept.params]
    sums, dxs = list(zip(cell.params, grads, strict=True)) if weight_gradients else [], []
    for step in steps_back(cell, dhs, d_last, kept):
        for name, total in sums:
            total += step.gradients[f"d{name}"]
        dxs.append(step.gradients["dx"])
    dx = xp.stack(dxs[::-1], axis=1)
    if kept.input_dropout is not None:
        dx = sum_copies(dx, kept.input_dropout[:, None])
    masks = {"kernel": kept.input_dropout, "recurrent_kernel": kept.recurrent_dropout}
    for at in [_place(cell, param) for param, mask in masks.items() if weight_gradients and mask is not None]:
        grads[at] = diagonal_blocks(grads[at], n)
    return dx, grads, step.handed_on


def _place(cell: Cell, param: str) -> int:
    """Where a parameter is among those that `forward` takes."""
    return list(cell.param_specs(1)).index(param)


def steps_back(cell: Cell, dhs: Array, d_last: Sequence[Array | None], kept: Scan) -> Iterator[StepBack]:
    """The steps of `scan_back`, from the last to the first."""
    xp, backward = namespace(dhs), contract.first_steps(cell).backward
    batch, dtype = len(dhs), dhs.dtype
    leaving = [f"d{name}" for name in cell.arguments[1 : len(cell.arguments) - len(cell.params)]]
    sizes = cell.state_sizes.values()
    handed_on = [
        xp.zeros((batch, size), dtype=dtype) if d is None else d for d, size in zip(d_last, sizes, strict=True)
    ]
    for t in reversed(range(len(kept.caches))):
        # h_t goes two ways: up to the next layer and on to step t+1
        arrived = [dhs[:, t] + handed_on[0], *handed_on[1:]]
        inside = arrived
        if kept.mask is not None:
            # a masked row's states went past the cell: so do their gradients, and none of them goes into the cell
            valid = kept.mask[:, t, None]  # (B, 1)
            inside = [xp.where(valid, d, 0) for d in arrived]
        step = backward(*inside, kept.caches[t], *kept.params)
        step = step if isinstance(step, dict) else step._asdict()
        handed_on = [step[name] for name in leaving]
        if kept.recurrent_dropout is not None:
            handed_on[0] = sum_copies(handed_on[0], kept.recurrent_dropout)  # (B, H)
        if len(leaving) > len(arrived):  # h_in besides h_prev
            handed_on = [handed_on[0] + handed_on[1], *handed_on[2:]]
        if kept.mask is not None:
            handed_on = [d + xp.where(valid, 0, past) for d, past in zip(handed_on, arrived, strict=True)]
        yield StepBack(arrived, step, handed_on)
