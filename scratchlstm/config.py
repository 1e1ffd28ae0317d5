"""The default float type, as in Keras."""

_FLOATS = ("float32", "float64")
_floatx = "float32"


def floatx() -> str:
    """The dtype of new layers: "float32" unless changed by `set_floatx`."""
    return _floatx


def set_floatx(dtype: str) -> None:
    """Set the dtype of layers created from now on; existing layers keep theirs.

    Raises:
        ValueError: anything but "float32" and "float64".
    """
    global _floatx
    _floatx = float_dtype(dtype)


def float_dtype(dtype: str | None) -> str:
    """`dtype`, checked; None means the default."""
    if dtype is None:
        return _floatx
    name = getattr(dtype, "__name__", str(dtype))  # np.float64 is fine, too
    if name not in _FLOATS:
        raise ValueError(f"dtype must be one of {', '.join(_FLOATS)}, not {dtype!r}")
    return name
