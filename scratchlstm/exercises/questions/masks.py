"""Masks, forward and backward: equation (27).

Sentences in a batch differ in length, so the short ones are padded. `mask` (B, T) marks the valid steps: where it is
False, the step is padding. At a masked step nothing happens: h and c do not change.

    (27)  m_t = 0:   h_t = h_{t-1},   c_t = c_{t-1}

A step may be masked in one row of the batch and not in another, so this is decided row by row: np.where(valid, a, b),
with `valid` of shape (B, 1), takes the row of a where valid is True, and that of b elsewhere.

Backward, `dh` and `dc_next` are the gradients of h_t and c_t. In a masked row the step is the identity, h_t = h_{t-1}
and c_t = c_{t-1}. Work out which gradients reach h_{t-1} and c_{t-1} there, and how much enters the gates.

The derivation, with an example in numbers: docs/derivation.md#masks
"""

import numpy as np

from scratchlstm.gates import lstm_step_backward, lstm_step_forward


def masked_forward(x, mask, h0, c0, W, U, b):
    """(27), every h, (B, T, H), and the last c, (B, H)."""
    h, c = h0, c0
    all_h = []
    for t in range(x.shape[1]):
        valid = mask[:, t, None]  # (B, 1), True in the valid rows
        h_t, c_t, _ = lstm_step_forward(x[:, t, :], h, c, W, U, b)
        # the state after this step
        h = np.where(valid, h_t, h)  # ?
        c = np.where(valid, c_t, c)  # ?
        all_h.append(h)
    hs, c_last = np.stack(all_h, axis=1), c
    return hs, c_last


def masked_backward(dhs, dc_last, mask, caches, W, U):
    """(27), dx (B, T, E), dW (E, 4H), dU (H, 4H), db (4H,), dh0 (B, H) and dc0 (B, H)."""
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros(W.shape[1])
    dxs = []
    none = np.zeros_like(dc_last)
    dh_next, dc_next = none, dc_last
    for t in reversed(range(len(caches))):
        dh = dhs[:, t, :] + dh_next  # (22)
        valid = mask[:, t, None]  # (B, 1), as before
        # the part that bypasses the step: that of the masked rows
        dh_past = np.where(valid, none, dh)  # ?
        dc_past = np.where(valid, none, dc_next)  # ?
        # the part that enters the step: that of the other rows
        dh = np.where(valid, dh, none)  # ?
        dc_next = np.where(valid, dc_next, none)  # ?
        step = lstm_step_backward(dh, dc_next, caches[t], W, U)
        # gradients for the previous step
        dh_next = step.dh_prev + dh_past  # ?
        dc_next = step.dc_prev + dc_past  # ?
        dW = dW + step.dW
        dU = dU + step.dU
        db = db + step.db
        dxs.append(step.dx)
    dx = np.stack(dxs[::-1], axis=1)
    dh0, dc0 = dh_next, dc_next
    return dx, dW, dU, db, dh0, dc0


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import Scene, sequence  # noqa: E402


def scene(rng: np.random.Generator, **sizes: int) -> Scene:
    """A batch whose forward pass obeys its mask."""
    return sequence(rng, **sizes, masked=True)


HINTS = {
    "masked_forward": (
        "In a masked row, h and c after the step are the same as before it.",
        "np.where chooses by row: the new state in valid rows, the old one in masked rows. Do that for h and c.",
        "h = np.where(valid, h_t, h) and c = np.where(valid, c_t, c).",
    ),
    "masked_backward": (
        "Split dh and dc_next: each row's gradient either enters the step or bypasses it, never both.",
        "In the masked rows, dh (including dhs) and dc_next bypass it, and 0 enters the step. In the others it is the "
        "reverse. The previous step gets both parts, added up.",
        "dh_past = np.where(valid, none, dh); dc_past = np.where(valid, none, dc_next); "
        "dh = np.where(valid, dh, none); dc_next = np.where(valid, dc_next, none); then "
        "dh_next = step.dh_prev + dh_past and dc_next = step.dc_prev + dc_past.",
    ),
}


def _of_state(s):
    """Mistakes for h or c in masked rows, and for its gradient."""
    new = f"where(valid, {s}_t, {s})"
    keeps = "at masked steps; there it keeps its old value"
    yield Mistake(new, f"where(valid, {s}_t, {s}_t)", f"{s} changes {keeps}")
    yield Mistake(new, f"where(valid, {s}_t, 0)", f"{s} becomes 0 {keeps}")
    yield Mistake(
        new,
        f"where(valid, {s}, {s}_t)",
        f"{s} is chosen the wrong way round: it takes the new value where the mask is True",
    )
    yield Mistake(
        new,
        f"where(valid, {s}_t, {s}0)",
        f"{s} goes back to {s}0 at masked steps; it keeps the value of the previous step",
    )
    arrived = {"h": "dh", "c": "dc_next"}[s]
    past, into = f"where(valid, none, {arrived})", f"where(valid, {arrived}, none)"
    yield Mistake(past, into, f"{arrived} bypasses the step in the wrong rows, the valid ones")
    yield Mistake(
        f"d{s}_past = np.{past}",
        f"d{s}_past = {arrived}",
        f"{arrived} bypasses the step in all rows; it should only in masked rows",
    )
    yield Mistake(
        into,
        f"where(valid, {arrived}, {arrived})",
        f"{arrived} enters the gates of masked steps; nothing enters there, dz = 0",
    )
    yield Mistake(
        f"d{s}_next = step.d{s}_prev + d{s}_past",
        f"d{s}_next = d{s}_past",
        f"step.d{s}_prev is missing: in valid rows, the gradient comes back through the step",
    )


MISTAKES = [
    *(mistake for state in "hc" for mistake in _of_state(state)),
    # masked_forward
    Mistake("where(valid, c_t, c)", "where(valid, c_t, h)", "c takes the value of h at masked steps; c keeps its own"),
    Mistake(
        "all_h.append(h)",
        "all_h.append(h_t)",
        "hs shows what the step computed in masked rows, too; the h of a masked step is that of the previous step",
    ),
    Mistake(
        "mask[:, t, None]  # (B, 1), True",
        "mask[:, t - 1, None]  # (B, 1), True",
        "this is the previous step's mask: mask[:, t] belongs to step t",
    ),
    Mistake(
        "mask[:, t, None]  # (B, 1), True",
        "mask[:, -1, None]  # (B, 1), True",
        "every step uses the mask of the last one: mask[:, t] belongs to step t",
    ),
    Mistake(
        "mask[:, t, None]  # (B, 1), True",
        "mask[:, t].all()  # (B, 1), True",
        "the step is masked for all rows or for none; the mask decides row by row",
    ),
    # masked_backward
    Mistake(
        "where(valid, none, dh)",
        "where(valid, none, none)",
        "dh is lost at masked steps: it must bypass them, to the last valid step",
    ),
    Mistake(
        "where(valid, none, dh)",
        "where(valid, none, dh_next)",
        "dhs is lost at masked steps: if their h is used outside, that gradient counts. dh bypasses the step, the "
        "sum of dhs and dh_next",
    ),
    Mistake(
        "where(valid, none, dh)",
        "where(valid, none, dhs[:, t, :])",
        "dh_next is lost at masked steps: dh bypasses the step, the sum of dhs and dh_next, not just dhs",
    ),
    Mistake(
        "where(valid, none, dc_next)",
        "where(valid, none, none)",
        "dc_next is lost at masked steps: c is kept there like h, so its gradient bypasses the step, too",
    ),
    Mistake("where(valid, none, dc_next)", "where(valid, none, dh)", "dc_past uses dh; dc_next bypasses the cell"),
    Mistake(
        "step.dc_prev + dc_past",
        "step.dc + dc_past",
        "step.dc belongs to this step's own c; one step back it is multiplied by f, which is step.dc_prev (12)",
    ),
    Mistake(
        "mask[:, t, None]  # (B, 1), as",
        "mask[:, t - 1, None]  # (B, 1), as",
        "this is the previous step's mask: mask[:, t] belongs to step t",
    ),
    Mistake(
        "mask[:, t, None]  # (B, 1), as",
        "mask[:, -1, None]  # (B, 1), as",
        "every step uses the mask of the last one: mask[:, t] belongs to step t",
    ),
    Mistake(
        "mask[:, t, None]  # (B, 1), as",
        "~mask[:, t, None]  # (B, 1), as",
        "the mask is read the wrong way round: True is a valid step",
    ),
]
