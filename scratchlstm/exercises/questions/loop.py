"""Back through time: from the last step to the first.

The forward pass ran the steps t = 0, 1, ..., T - 1. Each received h and c of the previous step (the first: h0 and c0),
used the same W, U and b, and kept its values in `caches[t]`. Here the loss L depends only on the last h and the last c:
their gradients `dh_last` and `dc_last` are given.

You know one step backward. It is given, and takes the gradients of the step's own h and c:

    step = lstm_step_backward(dh, dc_next, cache, W, U)
    step.dz         (B, 4H)  (13) to (16)
    step.dh_prev    (B, H)   (18), for the h that the step received
    step.dc_prev    (B, H)   (12), for the c that the step received
    step.dc         (B, H)   (8), for the step's own c

First go through the steps, and pass what one step returns to the next. Then use the dz of all steps. They share W, U
and b, so L depends on them on T paths, one through each z_t = x_t W + h_{t-1} U + b: (19) to (21) are those of one
step, and (23), dW, (24), dU, and (25), db, those of all steps.

Sizes: B samples, T steps, E input features, H units. x is (B, T, E), hs (B, T, H) holds each step's h.

The derivation, with an example in numbers: docs/derivation.md#the-parameters-gradients-are-sums-over-time
"""

import numpy as np

from scratchlstm.gates import lstm_step_backward


def through_time(dh_last, dc_last, hs, caches, W, U):
    """(12, 18), dz of every step, (B, T, 4H), in time order; dh0 and dc0, (B, H), of the initial states."""
    # gradients of h and c of the step that is processed first
    dh, dc_next = dh_last, dc_last  # ?
    dzs = []
    steps = reversed(range(len(caches)))  # ?
    for t in steps:
        step = lstm_step_backward(dh, dc_next, caches[t], W, U)
        dzs.append(step.dz)
        # gradients of h and c of the previous step this one
        dh = step.dh_prev  # ?
        dc_next = step.dc_prev  # ?
    # dzs is a list of T arrays (B, 4H), in the order in which they were computed
    dz = np.stack(dzs[::-1], axis=1)  # ?
    dh0, dc0 = dh, dc_next
    return dz, dh0, dc0


def sums_over_time(x, hs, h0, dz):
    """(23 to 25), dW (E, 4H), dU (H, 4H) and db (4H,)."""
    E, H, Z = x.shape[2], hs.shape[2], dz.shape[2]
    dW, dU, db = np.zeros((E, Z)), np.zeros((H, Z)), np.zeros(Z)
    for t in range(x.shape[1]):
        # the h that step t received
        h_prev = hs[:, t - 1] if t > 0 else h0  # ?
        dW = dW + x[:, t].T @ dz[:, t]  # (23) ?
        dU = dU + h_prev.T @ dz[:, t]  # (24) ?
        db = db + np.sum(dz[:, t], axis=0)  # (25) ?
    return dW, dU, db


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import sequence as scene  # noqa: E402

HINTS = {
    "through_time": (
        "Which step can be processed first? The one whose h and c only the loss uses.",
        "Step t - 1 passed its h and its c to step t, so both gradients come from step t: its results of (18) "
        "and (12).",
        "dh, dc_next = dh_last, dc_last; steps = reversed(range(len(caches))); in the loop dh = step.dh_prev and "
        "dc_next = step.dc_prev; at the end dz = np.stack(dzs[::-1], axis=1).",
    ),
    "sums_over_time": (
        "One step is (19) to (21). How do gradients of several paths combine?",
        "They add up: start with zeros, and add what each step gives. Which h did step t multiply by U, and which did "
        "step 0?",
        "h_prev = hs[:, t - 1] if t > 0 else h0; dW = dW + x[:, t].T @ dz[:, t]; dU = dU + h_prev.T @ dz[:, t]; "
        "db = db + np.sum(dz[:, t], axis=0).",
    ),
}
MISTAKES = [
    # through_time
    Mistake(
        "dh, dc_next = dh_last, dc_last",
        "dh, dc_next = dh_last, np.zeros_like(dc_last)",
        "dc_last is lost: the last c has a gradient, too",
    ),
    Mistake(
        "dh, dc_next = dh_last, dc_last",
        "dh, dc_next = np.zeros_like(dh_last), dc_last",
        "dh_last is lost: the last h has a gradient, too",
    ),
    Mistake(
        "dh, dc_next = dh_last, dc_last",
        "dh, dc_next = dc_last, dh_last",
        "dh_last and dc_last are swapped at the start",
    ),
    Mistake(
        "reversed(range(len(caches)))",
        "range(len(caches))",
        "the steps run forward; gradients come from the next step, so the last step is processed first",
    ),
    Mistake(
        "reversed(range(len(caches)))",
        "range(len(caches) - 1, 0, -1)",
        "the loop ends before it reaches step 0: range(T - 1, 0, -1) stops at 1",
    ),
    Mistake(
        "reversed(range(len(caches)))",
        "range(len(caches) - 2, -1, -1)",
        "the loop skips the last step: it starts at t = T - 1, where dh_last and dc_last belong",
    ),
    Mistake(
        "dh, dc_next, caches[t]",
        "dh, dc_next, caches[t - 1]",
        "this is the previous step's cache: caches[t] has the values of step t",
    ),
    Mistake(
        "dh = step.dh_prev",
        "dh = np.zeros_like(dh)",
        "dh is not carried to the previous step: that step's h was used in this step, so it gets step.dh_prev",
    ),
    Mistake(
        "dh = step.dh_prev",
        "dh = dh_last",
        "every step gets dh_last; that belongs only to the last h; every other h gets what the next step sends back",
    ),
    Mistake(
        "dh = step.dh_prev",
        "dh = step.dh_prev + dh_last",
        "dh_last is added again at every step; it belongs only to the last h",
    ),
    Mistake(
        "dh = step.dh_prev",
        "dh = dh + step.dh_prev",
        "dh is added up over the steps; this step's dh already went into step.dh_prev, so it counts twice",
    ),
    Mistake("dh = step.dh_prev", "dh = step.dc_prev", "dh takes step.dc_prev, the gradient of the cell, not of h"),
    Mistake(
        "dh = step.dh_prev",
        "dh = hs[:, t - 1]",
        "this passes on the state h itself; what goes back is its gradient, step.dh_prev",
    ),
    Mistake(
        "dc_next = step.dc_prev",
        "dc_next = np.zeros_like(dc_next)",
        "dc is not carried to the previous step: that step's c was used in this step, so it gets step.dc_prev",
    ),
    Mistake(
        "dc_next = step.dc_prev",
        "dc_next = dc_last",
        "every step gets dc_last; that belongs only to the last c; every other c gets what the next step sends back",
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
    Mistake(
        "dc_next = step.dc_prev", "dc_next = step.dh_prev", "dc_next takes step.dh_prev, the gradient of h, not of c"
    ),
    Mistake(
        "np.stack(dzs[::-1], axis=1)",
        "np.stack(dzs, axis=1)",
        "dz is in the order of computation, last step first: reverse the list before you stack it",
    ),
    Mistake(
        "np.stack(dzs[::-1], axis=1)",
        "np.stack(dzs[::-1])",
        "dz is stacked along its first axis, (T, B, 4H): time is the second axis here",
    ),
    Mistake("dh = step.dh_prev", "dh = step.dz", "dh takes step.dz, the gradient of z, not of h"),
    # sums_over_time
    Mistake(
        "for t in range(x.shape[1])",
        "for t in range(x.shape[1])[-1:]",
        "dW, dU and db are those of the last step only: they are overwritten at each step, but must be added up",
    ),
    *(
        Mistake(
            f"{name} + {h}.T @ dz[:, t]",
            f"{name} + {h}.T @ dz[:, t - 1]",
            f"{name} uses dz of the previous step; its factor {h} belongs to dz[:, t]",
        )
        for name, h in (("dW", "x[:, t]"), ("dU", "h_prev"))
    ),
    Mistake(
        "hs[:, t - 1] if t > 0 else h0",
        "hs[:, t]",
        "dU uses h_t, which step t computes; (24) has h_{t-1}, which it received",
    ),
    Mistake(
        "hs[:, t - 1] if t > 0 else h0",
        "hs[:, t - 1]",
        "at t = 0, hs[:, t - 1] is the very last h: the index -1 counts from the end. Step 0 received h0",
    ),
    Mistake(
        "hs[:, t - 1] if t > 0 else h0",
        "hs[:, t - 1] if t > 0 else np.zeros_like(h0)",
        "step 0 received h0, not zeros",
    ),
    Mistake("hs[:, t - 1] if t > 0 else h0", "h0", "only step 0 received h0; step t received h_{t-1}"),
    Mistake(
        "dW + x[:, t].T @ dz[:, t]",
        "x[:, t].T @ dz[:, t]",
        "dW is that of the last step only: it is overwritten at each step, but must be added up (23)",
    ),
    Mistake(
        "dW + x[:, t].T @ dz[:, t]", "dW + x[:, t - 1].T @ dz[:, t]", "dW uses x of the previous step; (23) has x_t"
    ),
    Mistake(
        "dU + h_prev.T @ dz[:, t]",
        "h_prev.T @ dz[:, t]",
        "dU is that of the last step only: it is overwritten at each step, but must be added up (24)",
    ),
    Mistake(
        "db + np.sum(dz[:, t], axis=0)",
        "np.sum(dz[:, t], axis=0)",
        "db is that of the last step only: it is overwritten at each step, but must be added up (25)",
    ),
    Mistake(
        "db + np.sum(dz[:, t], axis=0)",
        "db + np.sum(dz[:, t])",
        "db sums over the columns as well; each of the 4H biases has its own gradient, so sum over axis 0 only",
    ),
    Mistake(
        "db + np.sum(dz[:, t], axis=0)", "db + dz[0, t]", "db uses only the first sample; (25) sums over all B samples"
    ),
]
