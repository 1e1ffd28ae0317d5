"""From text to padded arrays of token ids, with the names and defaults of Keras."""

from scratchlstm.preprocessing import sequence, text

__all__ = ["sequence", "text"]
