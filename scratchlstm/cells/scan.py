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

    Returns:
        every output (B, T, H), the final states, and what `scan_back` needs.
    """
    xp, params, n = namespace(x), list(params), len(cell.blocks)
    if input_dropout is not None:
        x, params[0] = gate_copies(x, input_dropout[:, None]), block_diagonal(params[0], n)  # (B, T, nE), (nE, nH)
    if recurrent_dropout is not None:
        params[1] = block_diagonal(params[1], n)  # (nH, nH)
    own_only = contract.first_step(cell)
    states, hs, caches = list(states), [], []
    for t in range(x.shape[1]):
        given = (x[:, t], *_entering(cell, states, recurrent_dropout), *params)
        *new, cache = (own_only.forward if t == 0 else cell.forward)(*given)
        if mask is not None:
            valid = mask[:, t, None]  # (B, 1)
            new = [xp.where(valid, s, s_prev) for s, s_prev in zip(new, states, strict=True)]
        states = new
        hs.append(states[0])
        caches.append(cache)
    return xp.stack(hs, axis=1), states, Scan(caches, params, mask, input_dropout, recurrent_dropout)


def scan_back(cell: Cell, dhs: Array, d_last: Sequence[Array | None], kept: Scan) -> tuple[Array, list[Array], States]:
    """Backpropagation through time: the steps in reverse, the parameters' gradients summed over them.

    Args:
        cell: that of `scan`.
        dhs: dL/d(output) from the layer above at every step, (B, T, H).
        d_last: what reaches the final states besides, (B, H); None is zero.
        kept: from `scan`.

    Returns:
        dx (B, T, E), the parameters' gradients in the order of `cell.forward`, those of the initial states.
    """
    xp, n = namespace(dhs), len(cell.blocks)
    grads, dxs = [xp.zeros_like(param) for param in kept.params], []
    sums = dict(zip((f"d{name}" for name in cell.params), grads, strict=True))
    for step in steps_back(cell, dhs, d_last, kept):
        for name, total in sums.items():
            total += step.gradients[name]
        dxs.append(step.gradients["dx"])
    dx = xp.stack(dxs[::-1], axis=1)
    if kept.input_dropout is not None:
        dx, grads[0] = sum_copies(dx, kept.input_dropout[:, None]), diagonal_blocks(grads[0], n)
    if kept.recurrent_dropout is not None:
        grads[1] = diagonal_blocks(grads[1], n)
    return dx, grads, step.handed_on


def steps_back(cell: Cell, dhs: Array, d_last: Sequence[Array | None], kept: Scan) -> Iterator[StepBack]:
    """The steps of `scan_back`, from the last to the first."""
    xp, last = namespace(dhs), contract.first_step(cell)
    batch, dtype = len(dhs), dhs.dtype
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
        backward = cell.backward if t < len(kept.caches) - 1 else last.backward
        step = backward(*inside, kept.caches[t], *kept.params)
        step = step if isinstance(step, dict) else step._asdict()
        handed_on = _leaving(cell, step, kept.recurrent_dropout)
        if kept.mask is not None:
            handed_on = [d + xp.where(valid, 0, past) for d, past in zip(handed_on, arrived, strict=True)]
        yield StepBack(arrived, step, handed_on)


def _entering(cell: Cell, states: States, dropout: Array | None) -> States:
    """The states as `forward` takes them: h_in, or h_in and h_prev, instead of h_prev alone."""
    if "h_in" not in cell.arguments:
        return states
    h_in = states[0] if dropout is None else gate_copies(states[0], dropout)  # (B, H) or (B, nH)
    return [h_in, *states] if f"{cell.states[0]}_prev" in cell.arguments else [h_in, *states[1:]]


def _leaving(cell: Cell, step: Mapping[str, Array], dropout: Array | None) -> States:
    """The gradients of the states of the step before, from those of `backward`; see `_entering`."""
    d_states = [step[f"d{state}_prev"] for state in cell.states if f"{state}_prev" in cell.arguments]
    if "h_in" not in cell.arguments:
        return d_states
    dh = step["dh_in"] if dropout is None else sum_copies(step["dh_in"], dropout)  # (B, H)
    return [dh + d_states[0], *d_states[1:]] if f"{cell.states[0]}_prev" in cell.arguments else [dh, *d_states]
