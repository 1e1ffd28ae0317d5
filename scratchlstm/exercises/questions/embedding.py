"""Below the LSTM: the embedding, whose words repeat. Equation (28).

A word is a number, its id. Its vector is a row of a table (V, E), one row for each of the V words. `ids` (B, T) are the
words of B texts of T words, so x (B, T, E) has at [n, t] the row number ids[n, t]. NumPy takes many rows at once:
table[ids] has the shape of ids, and one axis more.

Backward, dx (B, T, E) is given, and (28) is dtable. A row that was used in several places reaches the loss on that
many paths; an unused one does not reach it at all. This answer takes more than one line.

The derivation, with an example in numbers: docs/derivation.md#below-the-embedding
"""

import numpy as np


def lookup(ids, table):
    """(28, forward), x (B, T, E): the rows of the table (V, E) that the ids select."""
    return table[ids]  # ?


def dtable(ids, x, dx, table):
    """(28), dL/dtable, (V, E)."""
    total = np.zeros_like(table)  # ?
    np.add.at(total, ids, dx)  # ?-
    return total


# --- the checker's part ---

from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import sequence as scene  # noqa: E402

HINTS = {
    "lookup": (
        "No multiplication is needed: NumPy takes rows by their numbers.",
        "An array of integers in the brackets takes one row for each of them.",
        "return table[ids]",
    ),
    "dtable": (
        "Start with zeros in the shape of the table. For each place (n, t), add dx[n, t] to the row ids[n, t].",
        "total[ids] += dx reads, adds and writes once for each row, so only one of a word's places counts. Write two "
        "loops, or look up np.add.at.",
        "total = np.zeros_like(table), then np.add.at(total, ids, dx).",
    ),
}
MISTAKES = [
    Mistake(
        "return table[ids]", "return table[ids - 1]", "ids begin at 0: the id 0 is the first row, so do not subtract 1"
    ),
    Mistake("return table[ids]", "return table[ids + 1]", "ids begin at 0: the id 0 is the first row, so do not add 1"),
    Mistake("return table[ids]", "return table.T[:, ids]", "the features come first here; x has them last, (B, T, E)"),
    Mistake(
        "return table[ids]", "return table[ids.T]", "time comes first here; x is (B, T, E), so do not transpose ids"
    ),
    Mistake(
        "np.add.at(total, ids, dx)",
        "total[ids] += dx",
        "only one gradient is kept for an id that occurs more than once; np.add.at adds them all up",
    ),
    Mistake(
        "np.add.at(total, ids, dx)",
        "for n in range(len(ids)): total[ids[n]] += dx[n]",
        "only one gradient is kept for an id that is in one text twice; np.add.at adds them all up",
    ),
    Mistake(
        "np.add.at(total, ids, dx)",
        "for t in range(ids.shape[1]): total[ids[:, t]] += dx[:, t]",
        "only one gradient is kept for an id that two texts have at the same step; np.add.at adds them all up",
    ),
    Mistake(
        "np.add.at(total, ids, dx)",
        "np.add.at(total, ids, dx / np.bincount(ids.ravel())[ids][..., None])",
        "this is the mean over a word's places; (28) is the sum",
    ),
    Mistake(
        "np.add.at(total, ids, dx)",
        "first = np.unique(ids, return_index=True); total[first[0]] = dx.reshape(-1, dx.shape[2])[first[1]]",
        "only the first place of each word counts here; (28) sums over all of them",
    ),
    Mistake("np.add.at(total, ids, dx)", "np.add.at(total, ids, x)", "this adds up x; the incoming gradient is dx"),
    Mistake(
        "np.add.at(total, ids, dx)",
        "np.add.at(total, ids, x * dx)",
        "the factor x is too much: x is the row itself, so the slope is 1",
    ),
    Mistake("np.add.at(total, ids, dx)", "np.add.at(total, ids, 1)", "this counts the places; it has to add up dx"),
    Mistake(
        "np.add.at(total, ids, dx)",
        "np.add.at(total, ids[:, -1], dx[:, -1])",
        "only the last step counts here; (28) sums over all steps",
    ),
]
