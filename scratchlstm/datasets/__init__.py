"""Data sets: the reviews used by the examples."""

from scratchlstm.datasets import imdb

__all__ = ["imdb"]
