"""Text to padded arrays of token ids, and series to windows, with the names and defaults of Keras."""

from scratchlstm.preprocessing import sequence, text, timeseries
from scratchlstm.preprocessing.timeseries import timeseries_dataset_from_array

__all__ = ["sequence", "text", "timeseries", "timeseries_dataset_from_array"]
