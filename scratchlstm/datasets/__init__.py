"""The reviews the examples learn from."""

from scratchlstm.datasets import imdb

__all__ = ["imdb"]
