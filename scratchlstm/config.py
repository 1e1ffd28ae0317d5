"""The default float type, under Keras' names."""

_FLOATS = ("float32", "float64")
_floatx = "float32"


def floatx() -> str:
    """The dtype that new layers compute in: "float32" unless `set_floatx` changed it."""
    return _floatx


def set_floatx(dtype: str) -> None:
    """Set the dtype of layers made from now on; layers that exist keep theirs.

    Raises:
        ValueError: for anything but "float32" and "float64".
    """
    global _floatx
    _floatx = float_dtype(dtype)


def float_dtype(dtype: str | None) -> str:
    """`dtype` checked; None is the default one."""
    if dtype is None:
        return _floatx
    name = getattr(dtype, "__name__", str(dtype))  # np.float64 is welcome, too
    if name not in _FLOATS:
        raise ValueError(f"dtype must be one of {', '.join(_FLOATS)}, not {dtype!r}")
    return name
