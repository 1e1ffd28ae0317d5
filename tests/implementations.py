"""What computes the recurrence of an LSTM or a GRU here: "compiled" where there is Numba."""

from scratchlstm._support import compiled

FAST = ("numpy",) if compiled.missing() else ("numpy", "compiled")
IMPLEMENTATIONS = *FAST, "textbook"
