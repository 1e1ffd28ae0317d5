"""Any cell over a sequence, forward and backward in time; `gates.lstm_forward` is the same loop just for the LSTM."""

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
    params: Sequence[Array]  #          as passed to `forward`
    mask: Array | None  #               (B, T)
    input_dropout: Array | None  #      (B, n, E)
    recurrent_dropout: Array | None  #  (B, n, H)


class StepBack(NamedTuple):
    """One step of backpropagation through time."""

    arrived: States  #             dL/d of the step's new states, summed over all paths
    gradients: Mapping[str, Array]  #  from the cell's `backward`; 0 in masked rows
    handed_on: States  #           dL/d of the previous step's states


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
    """Apply the cell at every step, with the same parameters each time.

    Args:
        cell: the cell; n is its number of blocks.
        x: inputs in the order of computation, (B, T, E).
        states: initial states, (B, H).
        params: parameters in the order of `cell.forward`.
        mask: (B, T); where False, a row's states do not change.
        input_dropout: (B, n, E), factors of x in the product with each block; the same at every step.
        recurrent_dropout: (B, n, H), the same for h_prev.
        keeps: whether `scan_back` will follow; if not, no caches are kept.

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
    apart = {"h_in", f"{cell.states[0]}_prev"} <= {*cell.arguments}  # otherwise the cell takes only one of the two
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
    """Backpropagation through time: the steps in reverse, with the parameters' gradients summed over them.

    Args:
        cell: the cell of `scan`.
        dhs: dL/d(output) from the layer above at every step, (B, T, H).
        d_last: gradients arriving at the final states, (B, H); None is zero.
        kept: from `scan`.
        weight_gradients: whether to compute the parameters' gradients; if not, they are None.

    Returns:
        dx (B, T, E), the parameters' gradients in the order of `cell.forward`, and those of the initial states.
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
    """The position of a parameter among the arguments of `forward`."""
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
        # h_t takes two paths: up to the next layer and on to step t+1
        arrived = [dhs[:, t] + handed_on[0], *handed_on[1:]]
        inside = arrived
        if kept.mask is not None:
            # a masked row's states bypassed the cell, and so do their gradients
            valid = kept.mask[:, t, None]  # (B, 1)
            inside = [xp.where(valid, d, 0) for d in arrived]
        step = backward(*inside, kept.caches[t], *kept.params)
        step = step if isinstance(step, dict) else step._asdict()
        handed_on = [step[name] for name in leaving]
        if kept.recurrent_dropout is not None:
            handed_on[0] = sum_copies(handed_on[0], kept.recurrent_dropout)  # (B, H)
        if len(leaving) > len(arrived):  # h_in as well as h_prev
            handed_on = [handed_on[0] + handed_on[1], *handed_on[2:]]
        if kept.mask is not None:
            handed_on = [d + xp.where(valid, 0, past) for d, past in zip(handed_on, arrived, strict=True)]
        yield StepBack(arrived, step, handed_on)
