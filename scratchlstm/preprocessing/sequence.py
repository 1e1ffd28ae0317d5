"""Pad sequences of different lengths into one array."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchlstm._support import checks


def pad_sequences(
    sequences: Sequence[Any] | np.ndarray,
    maxlen: int | None = None,
    dtype: DTypeLike = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float | str = 0.0,
) -> np.ndarray:
    """Truncate or pad every sequence to the same length, with the results and defaults of Keras' `pad_sequences`.

    'pre' is the default on both sides: an LSTM that reads left to right then ends on text rather than padding, and a
    long review keeps its end, where the verdict is.

    Args:
        sequences: N sequences (lists, tuples or arrays), each of shape (t, ...) with its own t.
        maxlen: the length T of the result; None takes the longest sequence's.
        dtype: dtype of the result. Converting to integers truncates fractions, as in Keras.
        padding: "pre" or "post", where to pad.
        truncating: "pre" or "post", where to truncate long sequences.
        value: the padding value.

    Returns:
        An array (N, T, ...).

    Raises:
        ValueError: a sequence (which is named) is ragged, not a sequence, or does not fit `dtype`
            (NaN, infinity, too large); or an unknown side, `maxlen` below 1, or no sequences at all
            if `maxlen` is None.
    """
    try:
        target = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype must be a NumPy dtype, not {checks.came(dtype)}") from error
    for name, side in (("padding", padding), ("truncating", truncating)):
        if not isinstance(side, str) or side not in ("pre", "post"):
            raise ValueError(f"{name}={checks.came(side)} is unknown: use 'pre' or 'post'.")
    if isinstance(sequences, str | bytes) or not hasattr(sequences, "__len__"):
        raise ValueError(f"sequences must be a list of sequences, got {type(sequences).__name__}.")
    if not isinstance(sequences, list | tuple):  # each is checked below
        checks.require_array_like("sequences", sequences)
    if isinstance(value, str) and target.kind not in "OUS":
        raise ValueError(f"value={value!r} is a string, which dtype {target} cannot hold: use dtype=object.")
    lengths = [_length(sequence, position) for position, sequence in enumerate(sequences)]
    if maxlen is None and not lengths:
        raise ValueError("sequences is empty, so there is no longest one to get maxlen from: pass maxlen.")
    if maxlen is not None and (isinstance(maxlen, bool) or not isinstance(maxlen, int | np.integer) or maxlen < 1):
        raise ValueError(f"maxlen must be an integer of at least 1, or None for the longest; got {maxlen!r:.80}.")
    length = max(lengths) if maxlen is None else int(maxlen)

    shape = next((_as_array(s, None, f"sequences[{i}]").shape[1:] for i, s in enumerate(sequences) if lengths[i]), ())
    filler = _converted(value, target, "value")
    if filler.shape not in ((), shape):
        raise ValueError(f"value must be a scalar or have the shape of an item, {shape}, not {filler.shape}.")
    padded = np.full((len(lengths), length, *shape), filler, dtype=target)
    for position, sequence in enumerate(sequences):
        if not lengths[position]:
            continue
        cut = sequence[-length:] if truncating == "pre" else sequence[:length]
        items = _converted(cut, target, f"sequences[{position}]")
        if items.shape[1:] != shape:
            raise ValueError(
                f"sequences[{position}] has items of shape {items.shape[1:]}, but those before have {shape}: "
                "all items must have the same shape."
            )
        start = 0 if padding == "post" else length - len(items)
        padded[position, start : start + len(items)] = items
    return padded


def _length(sequence: Any, position: int) -> int:
    sliced = hasattr(sequence, "__getitem__") and not isinstance(sequence, str | bytes | Mapping)
    if not sliced or getattr(sequence, "ndim", 1) == 0:
        raise ValueError(
            f"sequences[{position}] must be a list, tuple or array of items, got {type(sequence).__name__}: "
            "wrap a single sequence in a list."
        )
    checks.require_array_like(f"sequences[{position}]", sequence)
    return len(sequence)


def _as_array(values: Any, dtype: np.dtype | None, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{what} cannot be converted to an array of {dtype or 'one shape'}: {error}.") from error


def _converted(values: Any, dtype: np.dtype, what: str) -> np.ndarray:
    """An array of `dtype`; raises an error where NumPy would silently change a number."""
    array = _as_array(values, None if dtype.kind in "iu" else dtype, what)
    if dtype.kind in "iu" and array.dtype.kind in "iuf" and array.size:
        low, high, limits = array.min(), array.max(), np.iinfo(dtype)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{what} holds NaN or infinity, which {dtype} cannot hold: use dtype='float32'.")
        # int() is exact where comparing int64 with float64 is not; it truncates like the cast.
        if int(low) < limits.min or int(high) > limits.max:
            raise ValueError(
                f"{what} holds {low} to {high}, outside {dtype}'s {limits.min} to {limits.max}: use a larger dtype."
            )
    return _as_array(array, dtype, what)
