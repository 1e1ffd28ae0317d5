"""Truncated backpropagation through time: equation (26).

A text of a million words does not fit into one backward pass. So it is cut into pieces of k steps (the last one may be
shorter), and each piece has its forward and its backward pass before the next one begins. Between two pieces the state
goes on, as a value; the gradient does not:

    (26)  h_0 of the next piece = h_t,   c_0 of the next piece = c_t        at the last step t of a piece
          dh_next = 0,                   dc_next = 0                        there, in the backward pass

You have written both passes. They are given, for a whole piece:

    hs, c_last, caches = lstm_forward(x, h0, c0, W, U, b)
    dx, dW, dU, db, dh0, dc0 = lstm_backward(dhs, dc_last, caches, W, U)

The gradients of all pieces add up, as those of the steps do. `dhs` (B, T, H) arrives from above at every step. dc_last
is the gradient that arrives at the c of the piece's last step.

The derivation, with an example in numbers: docs/derivation.md#truncated-backpropagation
"""

import numpy as np

from scratchlstm.gates import lstm_backward, lstm_forward


def truncated(x, dhs, h0, c0, W, U, b, k):
    """(26), dW (E, 4H), dU (H, 4H), db (4H,), and the last h and c, (B, H) each."""
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    # the states at the beginning of a piece
    h, c = h0, c0
    # the first step of each piece
    starts = range(0, x.shape[1], k)  # ?
    for start in starts:
        piece = slice(start, start + k)
        hs, c_last, caches = lstm_forward(x[:, piece], h, c, W, U, b)
        dc_last = np.zeros_like(c)  # ?
        own = lstm_backward(dhs[:, piece], dc_last, caches, W, U)
        _, own_dW, own_dU, own_db, _, _ = own
        dW, dU, db = dW + own_dW, dU + own_dU, db + own_db  # ?
        # the states at the beginning of the next piece
        h = hs[:, -1]  # ?
        c = c_last  # ?
    return dW, dU, db, h, c


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import Scene, sequence  # noqa: E402


def scene(rng: np.random.Generator, B: int, T: int, E: int, H: int) -> Scene:
    """Pieces of 2, 2, 2 and 1 steps; if T is 1, one piece of one step."""
    return sequence(rng, B, 2 * T - 1, E, H) | {"k": min(T, 2)}


HINTS = {
    "truncated": (
        "Forward, a piece continues where the one before ended. Backward, a piece knows nothing of any other.",
        "Pieces begin at 0, k, 2k, ... A piece's last h is the last of its hs; no gradient arrives at its last c.",
        "starts = range(0, x.shape[1], k); dc_last = np.zeros_like(c); dW, dU, db = dW + own_dW, dU + own_dU, "
        "db + own_db; h = hs[:, -1]; c = c_last.",
    )
}
_STARTS, _PIECE = "range(0, x.shape[1], k)", "piece = slice(start, start + k)"
_ADDED = "dW, dU, db = dW + own_dW, dU + own_dU, db + own_db"
MISTAKES = [
    Mistake(
        _STARTS,
        "range(0, x.shape[1] - k + 1, k)",
        "the last piece is left out if it is shorter than k; its steps count, too",
    ),
    Mistake(
        _STARTS,
        "range(0, x.shape[1] + 1, k)",
        "if T is a multiple of k, an empty piece is added at the end: it begins at T, and the last step is T - 1",
    ),
    Mistake(
        _STARTS,
        "range(0, k, x.shape[1])",
        "T and k are swapped in range(first, end, step), so the first piece is the only one",
    ),
    Mistake(_STARTS, "range(x.shape[1] // k)", "these are the numbers of the pieces; piece number j begins at j k"),
    Mistake(_STARTS, "range(x.shape[1])", "a piece begins at every step here; the next one begins k steps later"),
    Mistake(
        f"{_STARTS}  # ?\n    for start in starts:\n        {_PIECE}",
        "[0]\n    for start in starts:\n        piece = slice(None)",
        "the sequence is not cut: each piece of k steps has its own forward and backward pass",
    ),
    Mistake(_PIECE, "piece = slice(None)", "each piece gets the whole sequence: x and dhs have to be cut, too"),
    Mistake(
        _PIECE,
        "piece = slice(start, start + k - 1) if k > 1 else slice(start, start + 1)",
        "the pieces are one step short: the end of a slice is not part of it, so it is start:start + k",
    ),
    Mistake(
        "dc_last = np.zeros_like(c)",
        "dc_last = own[5] if start else np.zeros_like(c)",
        "dc0 of the piece before is handed on; gradients go back in time, and (26) lets none go from piece to piece",
    ),
    Mistake(
        "dc_last = np.zeros_like(c)",
        "dc_last = c_last",
        "dc_last takes the value of c; it is the gradient that arrives at c, and none does",
    ),
    Mistake(
        _ADDED,
        "dW, dU, db = own_dW, own_dU, own_db",
        "the gradients are those of the last piece only: they are overwritten, and have to be added up",
    ),
    *(
        Mistake(
            f"{name} + own_{name}",
            f"own_{name}",
            f"{name} is that of the last piece only: it is overwritten, and has to be added up as the others are",
        )
        for name in ("dW", "dU", "db")
    ),
    Mistake(
        "lstm_forward(x[:, piece], h, c,",
        "lstm_forward(x[:, piece], h0, c0,",
        "every piece begins with h0 and c0; only the gradient is cut, the states go on",
    ),
    Mistake(
        "h = hs[:, -1]  # ?\n        c = c_last",
        "h = c_last\n        c = hs[:, -1]",
        "h and c are swapped: hs[:, -1] is the last h",
    ),
    Mistake("h = hs[:, -1]", "h = h0", "every piece begins with h0; only the gradient is cut, the state goes on"),
    Mistake("h = hs[:, -1]", "h = np.zeros_like(h)", "h begins with 0 in each piece; the state goes on"),
    Mistake(
        "h = hs[:, -1]", "h = hs[:, 0]", "the next piece begins with the h of this piece's first step, not its last"
    ),
    Mistake("h = hs[:, -1]", "h = hs[-1]", "hs[-1] is the last sample; time is the second axis, so it is hs[:, -1]"),
    Mistake("h = hs[:, -1]", "h = own[4]", "dh0 is a gradient; the state that goes on is h itself"),
    Mistake("c = c_last  #", "c = c0  #", "every piece begins with c0; the cell goes on as h does"),
    Mistake("c = c_last  #", "c = np.zeros_like(c)  #", "c begins with 0 in each piece; the cell goes on as h does"),
    Mistake("c = c_last  #", "c = h  #", "c takes the value of h; the cell goes on as c_last"),
    Mistake("c = c_last  #", "c = own[5]  #", "dc0 is a gradient; the state that goes on is c itself"),
]
