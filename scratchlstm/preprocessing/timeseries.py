"""Windows of a time series with their targets, without copying the series."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchlstm._support import checks


class TimeseriesDataset:
    """Windows and targets for `fit`, `evaluate` and `predict`, which accept it in place of x and y.

    Iterating gives batches (x, y), or only x if there are no targets; `len` is their number. If it shuffles, each
    iteration draws a new order.

    Attributes:
        x: windows (N, T, ...), in time order; a read-only view of the series.
        y: their targets (N, ...), also a view; None if there are none.
        batch_size: None for single windows without a batch axis.
        shuffle: whether iterating and `fit` shuffle.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray | None, batch_size: int | None, shuffle: bool, seed: int | None
    ) -> None:
        self.x, self.y, self.batch_size, self.shuffle = x, y, batch_size, shuffle
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self.x) // (self.batch_size or 1))

    def __iter__(self) -> Iterator[Any]:
        order, size = np.arange(len(self.x)), self.batch_size
        if self.shuffle:
            self._rng.shuffle(order)
        for which in order if size is None else np.split(order, range(size, len(order), size)):
            yield self.x[which] if self.y is None else (self.x[which], self.y[which])


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> TimeseriesDataset:
    """Sliding windows over a series, like Keras' function of this name.

        hours = timeseries_dataset_from_array(series[:-24], series[24:], sequence_length=24)
        model.fit(hours, epochs=3)                              # batches as given here
        model.fit([hours.x, calendar], hours.y, batch_size=64)  # or as arrays, e.g. for one of several inputs

    The windows are views: they take no memory until a batch is taken from them, or the model needs another dtype (use
    float32 for a float32 model).

    Args:
        data: the series, (steps, ...).
        targets: targets[i] belongs to the window starting at data[i], so the first is that of the first window; None
            for windows without targets. Surplus windows or targets are dropped.
        sequence_length: T, steps in a window.
        sequence_stride: steps from the start of one window to the start of the next.
        sampling_rate: steps between successive elements of a window.
        batch_size: windows in a batch; None for single windows.
        shuffle: whether to shuffle the windows; otherwise they are in time order, in `fit`, too.
        seed: seed for the order when iterating. (`fit` draws from the model's own generator.)
        start_index: the first step of `data` and `targets` to use. Default: 0.
        end_index: the first step not to use. Default: use all.

    Returns:
        a `TimeseriesDataset`. (Keras returns a `tf.data.Dataset`, which shuffles only within a buffer.)

    Raises:
        TypeError, ValueError: a bad argument, or no window fits between start_index and end_index.
    """
    data = _series("data", data)
    length = checks.positive_int("sequence_length", sequence_length)
    stride = checks.positive_int("sequence_stride", sequence_stride)
    rate = checks.positive_int("sampling_rate", sampling_rate)
    batch_size = None if batch_size is None else checks.positive_int("batch_size", batch_size)
    start = 0 if start_index is None else checks.whole_number("start_index", start_index)
    end = len(data) if end_index is None else checks.positive_int("end_index", end_index)
    if not start < end <= len(data):
        raise ValueError(
            f"start_index={start} must be below end_index={end}, which can be at most {len(data)}, the steps in data"
        )
    span = (length - 1) * rate + 1
    if end - start < span:
        raise ValueError(
            f"a window of sequence_length={length} with sampling_rate={rate} spans {span} steps, but there are "
            f"{end - start} of data: use shorter windows"
        )
    windows = np.lib.stride_tricks.sliding_window_view(data[start:end], span, axis=0)[..., ::rate]
    count = len(windows)
    if targets is not None:
        targets = _series("targets", targets)
        count = min(count, len(targets))
        if (last := (count - 1) // stride * stride) >= len(targets[start:end]):
            raise ValueError(
                f"targets has {len(targets)} steps, but the last window needs targets[{start + last}]: "
                f"start_index={start} and end_index={end} also apply to targets"
            )
        targets = targets[start:end][:count:stride]
    x = np.moveaxis(windows[:count:stride], -1, 1)
    return TimeseriesDataset(x, targets, batch_size, checks.flag("shuffle", shuffle), checks.seed(seed))


def _series(name: str, values: Any) -> np.ndarray:
    """An array of at least one step.

    Raises:
        TypeError, ValueError: it is not such an array.
    """
    series = checks.array(name, values, numeric=True)
    if not series.shape or not len(series):
        raise ValueError(f"{name} must be an array of time steps, not {checks.came(values)}")
    return series
