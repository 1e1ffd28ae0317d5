"""Training data, checked before anything is done with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm._support.checks import array, came, instance, number, whole_number

if TYPE_CHECKING:
    from scratchlstm.models.model import Model


class Data(NamedTuple):
    """Checked arrays of the same length."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None  # of each sample

    def take(self, which: Any, on_gpu: Any = None) -> "Data":
        """The samples at these places, of which arrays on a GPU may need to be told there."""
        places = (on_gpu if on_gpu is not None and backend.is_cupy(array) else which for array in self)
        return Data(*(None if a is None else a[p] for a, p in zip(self, places, strict=True)))  # type: ignore[arg-type]

    def named(self, prefix: str = "") -> dict[str, np.ndarray]:
        """The arrays that there are, by name."""
        return {prefix + name: array for name, array in self._asdict().items() if array is not None}


def check_x(model: "Model", x: Any, name: str = "x") -> np.ndarray:
    """X as an array that the model takes. (A model that is not built yet is not built here.)

    It stays where it is, with NumPy or CuPy, if the model is on the GPU; for one on the CPU it is brought there.

    Raises:
        TypeError, ValueError: what is wrong with it, by name.
    """
    x = x if backend.is_cupy(x) and model.backend == "cupy" else array(name, x)
    if x.ndim == 0:
        raise ValueError(f"{name} must be an array of samples, not the single number {x}")
    if len(x) == 0:
        raise ValueError(f"{name} is empty: shape {x.shape}")
    if x.dtype.kind in "fc" and model.layers:
        _require_finite(name, x, model.layers[0].dtype)
    with _about(name):
        takers = [layer for layer, sources in zip(model.layers, model.sources, strict=True) if -1 in sources]
        taken = [layer.checked(x) for layer in takers if not layer.merges]
        model.plan(x.shape[1:])
        if len(takers) == 1 and taken:
            return taken[0]  # cast once for all; where several layers take x, each casts it for itself
    return x


def check_data(model: "Model", x: Any, y: Any, sample_weight: Any = None, prefix: str = "") -> Data:
    """Arrays that fit the model and each other.

    Raises:
        TypeError, ValueError: what is wrong with which argument.
    """
    if y is None and isinstance(x, tuple) and len(x) in (2, 3):
        raise ValueError(f"{prefix}y is missing: {prefix}x is a tuple, whose parts are arguments of their own, x and y")
    x, y = check_x(model, x, prefix + "x"), array(prefix + "y", y, numeric=True)
    dtype = model.layers[-1].dtype
    if len(np.atleast_1d(y)) != len(x):
        raise ValueError(f"{prefix}x has {len(x)} samples, but {prefix}y has {len(np.atleast_1d(y))}")
    _require_finite(prefix + "y", y, dtype)
    # a stand-in without memory shows loss and metrics the shape that predictions will have
    shape: Any = (len(x), *model.output_shape_for(x.shape[1:]))
    stand_in = np.broadcast_to(np.zeros((), dtype), shape)
    with _about(prefix + "y"):
        model.loss.require_valid(model.loss.align(y, stand_in), stand_in)
    for metric in model.metrics:
        with _about(f"{prefix}y, for the metric {metric.name}"):
            metric.align(y, stand_in)
    if sample_weight is not None:
        sample_weight = array(prefix + "sample_weight", sample_weight)
        if sample_weight.dtype.kind not in "fiub" or sample_weight.shape not in ((len(x),), (len(x), 1), shape[:-1]):
            raise ValueError(
                f"{prefix}sample_weight must hold one number for each of the {len(x)} samples, but has shape "
                f"{sample_weight.shape} and dtype {sample_weight.dtype}"
            )
        _require_finite(prefix + "sample_weight", sample_weight, dtype)
        if len(shape) == 2:
            sample_weight = sample_weight.reshape(len(x))
        sample_weight = sample_weight.astype(dtype, copy=False)
    return Data(x, y, sample_weight)


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Errors raised within begin with the name of the argument they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def _require_finite(name: str, values: np.ndarray, dtype: str) -> None:
    """Stop where `values` would not be finite in `dtype`.

    Raises:
        ValueError: they would not; with the first place.
    """
    if values.dtype.kind not in "fc":
        return
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values if values.dtype.kind == "c" else values.astype(dtype, copy=False))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(backend.host(bad))[0])
        raise ValueError(f"{name} holds {values[where]} at {where}; only finite numbers (in {dtype}) can be used")


def split_validation(
    model: "Model", data: Data, validation_split: float, validation_data: Any
) -> tuple[Data, Data | None]:
    """Training and validation part; the split takes the unshuffled tail from floor(n (1 - v)) on, as Keras does."""
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            given = isinstance(validation_data, tuple | list)
            what = f"{len(validation_data)} of them" if given else came(validation_data)
            raise ValueError(f"validation_data must be (x, y) or (x, y, sample_weight), not {what}")
        x, y, weight = (*validation_data, None)[:3]
        return data, check_data(model, x, y, weight, prefix="validation ")
    if number("validation_split", validation_split, at_least=0, below=1) == 0:
        return data, None
    cut = int(len(data.x) * (1 - validation_split))
    if cut in (0, len(data.x)):
        part = "validation" if cut else "training"
        raise ValueError(f"validation_split={validation_split} leaves no {part} sample of {len(data.x)}")
    return data.take(slice(None, cut)), data.take(slice(cut, None))


def weigh_classes(data: Data, class_weight: Mapping[int, float], dtype: str) -> Data:
    """The data with each sample's weight that of its label.

    A target's label is the whole number next to it, or the place of the largest entry of its row, as in Keras.

    Raises:
        TypeError, ValueError: no dict of labels and weights, targets without one label a sample, or weights twice.
    """
    if data.weight is not None:
        raise ValueError("class_weight and sample_weight cannot both be given")
    instance("class_weight", class_weight, Mapping, "a dict of labels and weights such as {0: 1.0, 1: 2.0}")
    one_hot = data.y.ndim == 2 and data.y.shape[1] > 1
    largest = np.count_nonzero(data.y == data.y.max(axis=-1, keepdims=True), axis=-1) if one_hot else 1
    if data.y.ndim > 2 or np.any(largest != 1):
        raise ValueError(f"class_weight needs one label for each sample, but y has shape {data.y.shape}")
    classes = np.argmax(data.y, axis=1) if one_hot else np.round(data.y.reshape(len(data.y)))
    weight = np.ones(len(classes), dtype)
    for label, value in class_weight.items():
        chosen = number(f"class_weight of {label!r}", value, at_least=0)
        weight[classes == whole_number("a label in class_weight", label)] = chosen
    return data._replace(weight=weight)
