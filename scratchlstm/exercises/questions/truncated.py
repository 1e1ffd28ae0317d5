"""Truncated backpropagation through time: equation (26).

A text of a million words does not fit into one backward pass. So it is cut into pieces of k steps (the last one may be
shorter), and each piece has its forward and its backward pass before the next one starts. Between pieces the state is
passed on as a value; the gradient is not:

    (26)  h_0 of the next piece = h_t,   c_0 of the next piece = c_t        at the last step t of a piece
          dh_next = 0,                   dc_next = 0                        there, in the backward pass

You have written both passes. They are given, for a whole piece:

    hs, c_last, caches = lstm_forward(x, h0, c0, W, U, b)
    dx, dW, dU, db, dh0, dc0 = lstm_backward(dhs, dc_last, caches, W, U)

The gradients of all pieces add up, like those of steps. `dhs` (B, T, H) is given from above for every step. dc_last
is the gradient of the c of the piece's last step.

The derivation, with an example in numbers: docs/derivation.md#truncated-backpropagation
"""

import numpy as np

from scratchlstm.gates import lstm_backward, lstm_forward


def truncated(x, dhs, h0, c0, W, U, b, k):
    """(26), dW (E, 4H), dU (H, 4H), db (4H,), and the last h and c, (B, H) each."""
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    # the states at the start of a piece
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
        # the states at the start of the next piece
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
        "Forward, a piece continues where the previous one ended. Backward, a piece knows nothing of the others.",
        "Pieces start at 0, k, 2k, ... A piece's last h is the last of its hs; its last c has no gradient.",
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
        "the last piece is skipped if it is shorter than k; its steps count, too",
    ),
    Mistake(
        _STARTS,
        "range(0, x.shape[1] + 1, k)",
        "if T is a multiple of k, an empty piece is added at the end: it starts at T, and the last step is T - 1",
    ),
    Mistake(
        _STARTS,
        "range(0, k, x.shape[1])",
        "T and k are swapped in range(first, end, step), so the first piece is the only one",
    ),
    Mistake(_STARTS, "range(x.shape[1] // k)", "these are the numbers of the pieces; piece number j starts at j k"),
    Mistake(_STARTS, "range(x.shape[1])", "here a piece starts at every step; the next one should start k steps later"),
    Mistake(
        f"{_STARTS}  # ?\n    for start in starts:\n        {_PIECE}",
        "[0]\n    for start in starts:\n        piece = slice(None)",
        "the sequence is not cut: each piece of k steps has its own forward and backward pass",
    ),
    Mistake(_PIECE, "piece = slice(None)", "each piece gets the whole sequence: x and dhs must be cut, too"),
    Mistake(
        _PIECE,
        "piece = slice(start, start + k - 1) if k > 1 else slice(start, start + 1)",
        "the pieces are one step short: the end of a slice is not part of it, so it is start:start + k",
    ),
    Mistake(
        "dc_last = np.zeros_like(c)",
        "dc_last = own[5] if start else np.zeros_like(c)",
        "dc0 of the previous piece is passed on; gradients go back in time, and (26) lets none go from piece to piece",
    ),
    Mistake(
        "dc_last = np.zeros_like(c)",
        "dc_last = c_last",
        "dc_last takes the value of c; it is the gradient of c, and there is none",
    ),
    Mistake(
        _ADDED,
        "dW, dU, db = own_dW, own_dU, own_db",
        "the gradients are those of the last piece only: they are overwritten, but must be added up",
    ),
    *(
        Mistake(
            f"{name} + own_{name}",
            f"own_{name}",
            f"{name} is that of the last piece only: it is overwritten, but must be added up like the others",
        )
        for name in ("dW", "dU", "db")
    ),
    Mistake(
        "lstm_forward(x[:, piece], h, c,",
        "lstm_forward(x[:, piece], h0, c0,",
        "every piece starts with h0 and c0; only the gradient is cut, the states are passed on",
    ),
    Mistake(
        "h = hs[:, -1]  # ?\n        c = c_last",
        "h = c_last\n        c = hs[:, -1]",
        "h and c are swapped: hs[:, -1] is the last h",
    ),
    Mistake("h = hs[:, -1]", "h = h0", "every piece starts with h0; only the gradient is cut, the state is passed on"),
    Mistake("h = hs[:, -1]", "h = np.zeros_like(h)", "h starts at 0 in each piece; the state should be passed on"),
    Mistake(
        "h = hs[:, -1]", "h = hs[:, 0]", "the next piece starts with the h of this piece's first step, not its last"
    ),
    Mistake("h = hs[:, -1]", "h = hs[-1]", "hs[-1] is the last sample; time is the second axis, so it is hs[:, -1]"),
    Mistake("h = hs[:, -1]", "h = own[4]", "dh0 is a gradient; the state to pass on is h itself"),
    Mistake("c = c_last  #", "c = c0  #", "every piece starts with c0; the cell is passed on, like h"),
    Mistake("c = c_last  #", "c = np.zeros_like(c)  #", "c starts at 0 in each piece; the cell is passed on, like h"),
    Mistake("c = c_last  #", "c = h  #", "c takes the value of h; the cell is passed on as c_last"),
    Mistake("c = c_last  #", "c = own[5]  #", "dc0 is a gradient; the state to pass on is c itself"),
]
