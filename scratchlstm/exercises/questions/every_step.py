"""A gradient at every step: equation (22).

Now every h_t is also used outside, by the layer above, and L depends on all of them: `dhs` (B, T, H) is given from
above, dhs[:, t] for h_t. The last c is used, too: `dc_last` (B, H).

So h_t reaches L on two paths: up, and on to step t + 1, whose z is x_{t+1} W + h_t U + b. The gradient from the second
path is called `dh_next`; (22) is dh_t, the whole gradient with respect to h_t. Likewise, `dc_next` is the gradient of
c_t from step t + 1. The step function is that of the loop before:

    step = lstm_step_backward(dh, dc_next, cache, W, U)

The derivation, with an example in numbers: docs/derivation.md#h_t-goes-two-ways
"""

import numpy as np

from scratchlstm.gates import lstm_step_backward


def every_step(dhs, dc_last, hs, caches, W, U):
    """(22), dx (B, T, E), dW (E, 4H), dU (H, 4H), db (4H,), dh0 (B, H) and dc0 (B, H)."""
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros(W.shape[1])
    dxs = []
    none = np.zeros_like(dc_last)
    # gradients arriving at the last h apart from dhs, and at the last c; no step comes after
    dh_next, dc_next = none, dc_last  # ?
    for t in reversed(range(len(caches))):
        dh = dhs[:, t, :] + dh_next  # (22) ?
        step = lstm_step_backward(dh, dc_next, caches[t], W, U)
        dh_next = step.dh_prev  # ?
        dc_next = step.dc_prev  # ?
        dW = dW + step.dW
        dU = dU + step.dU
        db = db + step.db
        dxs.append(step.dx)
    dx = np.stack(dxs[::-1], axis=1)
    dh0, dc0 = dh_next, dc_next
    return dx, dW, dU, db, dh0, dc0


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import sequence as scene  # noqa: E402

HINTS = {
    "every_step": (
        "For each h_t, count the places that use it. Its gradient is the sum of the gradients from all of them.",
        "dhs[:, t] comes from above, dh_next from the next step. No step comes after the last one: its dh_next is 0, "
        "and its dc_next is what arrives from outside.",
        "dh_next, dc_next = none, dc_last; in the loop dh = dhs[:, t, :] + dh_next, then dh_next = step.dh_prev and "
        "dc_next = step.dc_prev.",
    )
}
MISTAKES = [
    Mistake(
        "dh_next, dc_next = none, dc_last",
        "dh_next, dc_next = none, none",
        "dc_last is lost: the last c has a gradient from outside",
    ),
    Mistake(
        "dh_next, dc_next = none, dc_last",
        "dh_next, dc_next = dhs[:, -1], dc_last",
        "the last step's gradient from above counts twice: dh_next starts with zeros, because no step comes after",
    ),
    Mistake(
        "dh_next, dc_next = none, dc_last",
        "dh_next, dc_next = dc_last, none",
        "dc_last belongs to the last c; here it is added to the last dh",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = dhs[:, t, :]",
        "dh_next is overwritten: the gradient from the next step must be added to the one from above (22)",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = dh_next",
        "dhs is not used: the gradient from above is missing at every step",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = dhs[:, t, :] + dh_next if t == len(caches) - 1 else dh_next",
        "the gradient from above is added at the last step only; (22) adds one at every step",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = dhs[:, -1, :] + dh_next",
        "every step gets the gradient from above that belongs to the last one: dhs[:, t] is that of step t",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = dhs[:, t - 1, :] + dh_next",
        "this is the previous step's gradient from above: dhs[:, t] is that of step t",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = dhs[:, len(caches) - 1 - t, :] + dh_next",
        "dhs is read from the start while the loop starts at the end: dhs[:, t] is that of step t",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = (dhs[:, t, :] + dh_next) / 2",
        "this is the mean of both paths; (22) is their sum",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = (dhs[:, t, :] + dh_next) / len(caches)",
        "dh is divided by T; nothing is averaged over the steps here: the 1/T of a mean is already in dhs",
    ),
    Mistake(
        "dh = dhs[:, t, :] + dh_next",
        "dh = hs[:, t, :] + dh_next",
        "this adds the state h_t; its gradient from above is dhs[:, t]",
    ),
    Mistake(
        "dh_next = step.dh_prev",
        "dh_next = dh_next + step.dh_prev",
        "dh_next is added up over the steps; it is only what step t sends back to step t - 1",
    ),
    Mistake(
        "dh_next = step.dh_prev",
        "dh_next = dh + step.dh_prev",
        "dh already went into this step, so it counts twice: only step.dh_prev goes to the previous step",
    ),
    Mistake(
        "dh_next = step.dh_prev",
        "dh_next = dhs[:, t] + step.dh_prev",
        "dhs[:, t] counts twice: it went into this step; (22) adds the previous step's at the previous step",
    ),
    Mistake(
        "dc_next = step.dc_prev", "dc_next = step.dh_prev", "dc_next takes step.dh_prev, the gradient of h, not of c"
    ),
    Mistake("dh_next = step.dh_prev", "dh_next = dh", "dh goes to the previous step unchanged; (18) is step.dh_prev"),
    Mistake(
        "dh_next = step.dh_prev", "dh_next = step.dc_prev", "dh_next takes step.dc_prev, the gradient of c, not of h"
    ),
    Mistake(
        "dc_next = step.dc_prev",
        "dc_next = none",
        "dc is not carried to the previous step: its c was used in this step, so it gets step.dc_prev",
    ),
    Mistake(
        "dc_next = step.dc_prev",
        "dc_next = step.dc",
        "step.dc belongs to this step's own c; one step back it is multiplied by f, which is step.dc_prev (12)",
    ),
    Mistake(
        "dc_next = step.dc_prev",
        "dc_next = dc_next + step.dc_prev",
        "dc_next is added up over the steps; (8) has already added it, so it counts twice",
    ),
    Mistake("dc_next = step.dc_prev", "dc_next = dc_last", "every step gets dc_last; that belongs only to the last c"),
    Mistake(
        "dW = dW + step.dW", "dW = step.dW", "dW is overwritten at each step, so only step 0 remains; (23) is a sum"
    ),
    Mistake(
        "dU = dU + step.dU", "dU = step.dU", "dU is overwritten at each step, so only step 0 remains; (24) is a sum"
    ),
    Mistake(
        "db = db + step.db", "db = step.db", "db is overwritten at each step, so only step 0 remains; (25) is a sum"
    ),
    Mistake(
        "np.stack(dxs[::-1], axis=1)",
        "np.stack(dxs, axis=1)",
        "dx is in the order of computation, last step first: reverse the list before you stack it",
    ),
]
