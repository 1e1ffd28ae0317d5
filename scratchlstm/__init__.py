"""scratchlstm: an LSTM written out by hand, every gate and every derivative."""

__version__ = "0.1.0"
