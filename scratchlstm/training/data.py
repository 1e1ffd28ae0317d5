"""Training data, checked before use."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm._support.checks import array, came, instance, number, whole_number
from scratchlstm.layers.network import Network
from scratchlstm.preprocessing.timeseries import TimeseriesDataset
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.targets import Target, by_output

Spans = list[tuple[int, int]]  # spans of samples: from, to


class Data(NamedTuple):
    """Checked arrays of equal length; tuples of arrays if the model has several inputs or outputs."""

    x: Any
    y: Any = None  # None for predicting, and for an output without targets
    weight: Any = None  # the weight of each sample

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(inputs_of(self.x)[0])

    @property
    def shape(self) -> Any:
        """The shape of one sample; a list for several inputs."""
        shapes = [x.shape[1:] for x in inputs_of(self.x)]
        return shapes if isinstance(self.x, tuple) else shapes[0]

    def batches(self, size: int) -> Spans:
        """The spans of batches of this size; the last one may be shorter."""
        return [(start, min(start + size, self.samples)) for start in range(0, self.samples, size)]

    def take(self, which: Any, on_gpu: Any = None) -> "Data":
        """The samples at these indices, which arrays on a GPU may need as an array there."""
        return Data(*(take(array, which, on_gpu) for array in self))

    def named(self, prefix: str = "") -> dict[str, np.ndarray]:
        """The existing arrays by name: "x", or "x0", "x1", ... for several inputs, and so on."""
        named: dict[str, Any] = {}
        for name, of in self._asdict().items():
            several = enumerate(of) if isinstance(of, tuple) else [("", of)]
            named |= {f"{prefix}{name}{number}": array for number, array in several if array is not None}
        return named

    @classmethod
    def of(cls, arrays: Any, network: Network, prefix: str = "") -> "Data":
        """The data whose `named` gave these arrays, for a model with this network."""

        def one(name: str) -> Any:
            return arrays[prefix + name] if prefix + name in arrays else None  # noqa: SIM401  # may have no `get`

        counts = {"x": len(network.input_shapes), "y": network.outputs, "weight": network.outputs}
        return cls(*(tuple(one(f"{name}{k}") for k in range(n)) if n > 1 else one(name) for name, n in counts.items()))


def take(x: Any, which: Any, on_gpu: Any = None) -> Any:
    """`Data.take` for one array, a tuple of them, or None."""
    return each_of(lambda array: array[on_gpu if on_gpu is not None and backend.is_cupy(array) else which], x)


def each_of(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Apply a function to an array or to each of a tuple; None stays None."""
    if arrays is None or isinstance(arrays, tuple):
        return arrays and tuple(each_of(function, array) for array in arrays)
    return function(arrays)


def inputs_of(x: Any) -> tuple[Any, ...]:
    """A tuple of the arrays of all inputs, even if there is only one."""
    return x if isinstance(x, tuple) else (x,)


def check_x(model: Compiled, x: Any, name: str = "x") -> Any:
    """X as an array that the model takes, or a tuple of arrays for several inputs. (The model is not built here.)

    If the model is on a GPU, x stays on its device, with NumPy or CuPy; otherwise it is moved to the CPU.

    Raises:
        TypeError, ValueError: naming the argument and what is wrong with it.
    """
    several = model.network.merges
    count = len(model.network.input_shapes)
    x = listed(model, x, name)
    if several and (not isinstance(x, list | tuple) or len(x) != count):
        raise ValueError(f"{name} must be a list of {count} arrays, one for each input of the model, not {_given(x)}")
    names = [f"{name}[{number}]" for number in range(count)] if several else [name]
    arrays = [_checked_array(model, each, n) for each, n in zip(x if several else [x], names, strict=True)]
    if len(set(samples := [len(each) for each in arrays])) > 1:
        raise ValueError(f"{name} must hold the same number of samples for each input, not {samples}")
    for k, each in enumerate(arrays):
        with _about(names[k]):
            arrays[k] = model.network.checked(each, k)  # cast once; if several layers take it, each casts it
    with _about(name):
        model.network.plan([each.shape[1:] for each in arrays] if several else arrays[0].shape[1:])
    return tuple(arrays) if several else arrays[0]


def listed(model: Compiled, x: Any, name: str = "x") -> Any:
    """X unchanged, but a dict becomes a list of arrays in the order of the inputs, and a list of one array that array.

    Raises:
        ValueError: a dict with other names.
    """
    names, shape = model.network.input_names, model.network.input_shapes[0]
    of_one = isinstance(x, list | tuple) and len(x) == 1 and not model.network.merges and shape is not None
    if of_one and getattr(x[0], "ndim", 0) == len(shape) + 1:  # Keras' list of inputs, not a list of samples
        return x[0]
    if not isinstance(x, Mapping) or not (model.network.merges or x.keys() == {*names}):
        return x
    arrays = by_output(name, x, names, names)
    return arrays if model.network.merges else arrays[0]


def _given(arrays: Any) -> str:
    return f"{len(arrays)} of them" if isinstance(arrays, list | tuple) else came(arrays)


def _checked_array(model: Compiled, x: Any, name: str) -> np.ndarray:
    """An array of samples with finite values.

    Raises:
        TypeError, ValueError: naming the argument and what is wrong with it.
    """
    x = x if backend.is_cupy(x) and model.backend == "cupy" else array(name, x)
    if x.ndim == 0:
        raise ValueError(f"{name} must be an array of samples, not a single number, {x}")
    if len(x) == 0:
        raise ValueError(f"{name} is empty: shape {x.shape}")
    if x.dtype.kind in "fc" and model.layers:
        _require_finite(name, x, model.layers[0].dtype)
    return x


def unpack(x: Any, y: Any = None, batch_size: int | None = None) -> tuple[Any, Any, int | None]:
    """X, y and the batch size; y and the batch size come from x if it is a `TimeseriesDataset`.

    Raises:
        ValueError: y or batch_size is given although x has its own.
    """
    if not isinstance(x, TimeseriesDataset):
        return x, y, batch_size
    for name, given, own in (("y", y, x.y), ("batch_size", batch_size, x.batch_size)):
        if given is not None and own is not None:
            raise ValueError(f"{name} must be omitted: x is a TimeseriesDataset, which has its own")
    return x.x, y if x.y is None else x.y, x.batch_size or batch_size


def check_data(model: Compiled, x: Any, y: Any, sample_weight: Any = None, prefix: str = "") -> Data:
    """Arrays that match the model and each other; y and the weights are tuples if the model has several outputs.

    Raises:
        TypeError, ValueError: naming the argument and what is wrong with it.
    """
    if y is None and isinstance(x, tuple) and len(x) in (2, 3) and not model.network.merges:
        raise ValueError(f"{prefix}y is missing: {prefix}x is a tuple; pass its parts as separate arguments, x and y")
    several = model.network.outputs > 1
    if several and y is not None and not isinstance(y, list | tuple | Mapping):
        names = ", ".join(target.name for target in model.targets)
        wanted = f"a list of arrays, one for each of the outputs {names}, or a dict by their names"
        raise ValueError(f"{prefix}y must be {wanted}, not {came(y)}")
    data = Data(check_x(model, x, prefix + "x"))
    ys = _of_outputs(model, prefix + "y", y, [target.name for target in model.targets if target.wants_data])
    with_loss = [target.name for target in model.targets if target.loss is not None]
    weights = _of_outputs(model, prefix + "sample_weight", sample_weight, with_loss)
    found: list[tuple[Any, Any]] = []
    columns = model.targets, ys, weights, output_shapes(model, data), model.network.dtypes
    for target, y, weight, shape, dtype in zip(*columns, strict=True):
        # takes no memory; shows loss and metrics the predictions' shape
        stand_in = np.broadcast_to(np.zeros((), dtype), (data.samples, *shape))
        about = f" of {target.name}" if several else ""
        found.append(_checked_target(target, y, weight, stand_in, prefix, about) if target.wants_data else (None, None))
    ys, weights = zip(*found, strict=True)
    if not several:
        return Data(data.x, ys[0], weights[0])
    return Data(data.x, ys, None if all(weight is None for weight in weights) else weights)


def output_shapes(model: Compiled, data: Data) -> Sequence[Any]:
    """The shape of one sample, for each output."""
    return model.by_output(model.output_shape_for(data.shape))


def _of_outputs(model: Compiled, argument: str, given: Any, needed: Sequence[str]) -> Sequence[Any]:
    """The given value for each output; an array applies to all, and a list may omit outputs that need nothing."""
    if model.network.outputs == 1:
        names = model.network.output_names
        return [given[names[0]] if isinstance(given, Mapping) and given.keys() == {*names} else given]
    names = [target.name for target in model.targets]  # the names when the model was compiled
    if isinstance(given, list | tuple) and len(given) == len(needed):
        given = dict(zip(needed, given, strict=True))
    if not isinstance(given, list | tuple | Mapping):
        return [given] * len(names)
    return by_output(argument, given, names, needed)


def _checked_target(
    target: Target, y: Any, sample_weight: Any, stand_in: np.ndarray, prefix: str, about: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """One output's targets and weights, checked.

    Args:
        target: the training target of the output.
        y, sample_weight: as given.
        stand_in: an array with the predictions' shape and dtype.
        prefix, about: text before and after the arguments' names in error messages.
    """
    named, count, dtype = f"{prefix}y{about}", len(stand_in), str(stand_in.dtype)
    y = array(named, y, numeric=True)
    if len(np.atleast_1d(y)) != count:
        raise ValueError(f"{prefix}x has {count} samples, but {named} has {len(np.atleast_1d(y))}")
    _require_finite(named, y, dtype)
    if target.loss is not None:
        with _about(named):
            target.loss.require_valid(target.loss.align(y, stand_in), stand_in)
    for metric in target.metrics:
        with _about(f"{named}, for the metric {metric.name}"):
            metric.align(y, stand_in)
    if sample_weight is None:
        return y, None
    named = f"{prefix}sample_weight{about}"
    weight, shape = array(named, sample_weight), stand_in.shape
    if weight.dtype.kind not in "fiub" or weight.shape not in ((count,), (count, 1), shape[:-1]):
        raise ValueError(
            f"{named} must have one number for each of the {count} samples, but has shape {weight.shape} and dtype "
            f"{weight.dtype}"
        )
    _require_finite(named, weight, dtype)
    return y, (weight.reshape(count) if len(shape) == 2 else weight).astype(dtype, copy=False)


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Within this context, errors start with the name of the argument they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def _require_finite(name: str, values: np.ndarray, dtype: str) -> None:
    """Raise an error if any of `values` would not be finite in `dtype`.

    Raises:
        ValueError: one would not; naming the first position.
    """
    if values.dtype.kind not in "fc":
        return
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values if values.dtype.kind == "c" else values.astype(dtype, copy=False))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(backend.host(bad))[0])
        raise ValueError(f"{name} holds {values[where]} at {where}; only finite numbers (in {dtype}) can be used")


def split_validation(
    model: Compiled, data: Data, validation_split: float, validation_data: Any
) -> tuple[Data, Data | None]:
    """The training and validation data; the split takes the unshuffled tail from floor(n (1 - v)) on, as in Keras."""
    if isinstance(validation_data, TimeseriesDataset):
        validation_data = validation_data.x, validation_data.y
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ValueError(f"validation_data must be (x, y) or (x, y, sample_weight), not {_given(validation_data)}")
        x, y, weight = (*validation_data, None)[:3]
        return data, check_data(model, x, y, weight, prefix="validation ")
    if number("validation_split", validation_split, at_least=0, below=1) == 0:
        return data, None
    cut = int(data.samples * (1 - validation_split))
    if cut in (0, data.samples):
        part = "validation" if cut else "training"
        raise ValueError(f"validation_split={validation_split} leaves no {part} samples out of {data.samples}")
    return data.take(slice(None, cut)), data.take(slice(cut, None))


def weigh_classes(data: Data, class_weight: Mapping[int, float], dtype: str) -> Data:
    """The data, with each sample weighted by its label's class weight.

    A target's label is the nearest integer, or the index of the largest entry in its row, as in Keras.

    Raises:
        TypeError, ValueError: not a dict of labels and weights, targets without one label per sample, or both kinds of
            weights.
    """
    if isinstance(data.y, tuple):
        raise ValueError(
            "class_weight needs a model with one output: use sample_weight, with a list of weights for each"
        )
    if data.weight is not None:
        raise ValueError("class_weight and sample_weight cannot be combined")
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
