"""Exchange models and weights with Keras 3: live models, `.keras` files and `.weights.h5` files.

Files only need h5py (extra `keras`); Keras itself is only needed for live models. Nothing in a file is executed: a
Keras layer becomes one of ours by its name and settings, or raises an error.
"""

import functools
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support.checks import positive_int, whole_number
from scratchlstm._support.files import atomic_write, file_path
from scratchlstm.interop import hdf5, keras_config, keras_graph
from scratchlstm.interop.plain import require_built
from scratchlstm.layers import Layer
from scratchlstm.layers.network import Network
from scratchlstm.layers.weights import check_weights, name_weights
from scratchlstm.models.model import Model, Sequential
from scratchlstm.optimizers import Optimizer
from scratchlstm.training.archive import reason
from scratchlstm.training.compiled import Compiled

_FORMAT = "3.15.1"  # the version of Keras whose files ours are modelled on
_PathLike = str | os.PathLike[str]


# --- live models ------------------------------------------------------------------------------------------------------


def from_keras(model: Any) -> Model:
    """Convert a `keras.Sequential` or functional `keras.Model`: layers, wiring, dtypes and weights.

    A compiled model stays compiled, with the optimizer's state, if we have its optimizer, loss and metrics; a
    `UserWarning` names what we do not have. The names of inputs and outputs are kept.

    Returns:
        a `Sequential` for a `keras.Sequential`, otherwise a `Model`.

    Raises:
        ImportError: Keras is not installed.
        TypeError: not such a model.
        ValueError: not built, or with a layer, setting or call that we do not support (the message names it).
    """
    import keras

    functional = isinstance(model, keras.Model) and type(model).__name__ == "Functional"
    if not isinstance(model, keras.Sequential) and not functional:
        raise TypeError(f"from_keras takes a keras.Sequential or a functional keras.Model, not {type(model).__name__}")
    if not model.built:
        raise ValueError("the Keras model has no weights yet: give it a keras.Input, or call build first")
    description = keras.saving.serialize_keras_object(model)

    def read(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        weights = model.get_weights()
        if len(weights) < len(shapes):  # Keras counts a layer only once
            where = "is inside two of its inner models, or inside one and outside it"
            raise ValueError(f"a layer of {network.name} {where}; here a layer can be in one of them only")
        return name_weights(network.name, list(shapes), weights)

    ours = _model_from(description, read)
    keras_config.compile_like(ours, description.get("compile_config"))
    if ours._compiled:
        _restore_optimizer(ours, [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables])
    return ours


def to_keras(model: Model, batch_size: int | None = None) -> Any:
    """Convert to a `keras.Sequential`, or a `keras.Model` if the model is not a stack, with the same weights.

    Layers and dtypes are the same. The result is not compiled. The names of inputs and outputs are kept.

    Args:
        model: built.
        batch_size: a fixed batch size, which Keras needs for stateful layers.

    Raises:
        ImportError: Keras is not installed.
        ValueError: the model is not built, has a layer that Keras does not have, or a stateful layer without a
            `batch_size`.
    """
    import keras

    require_built(model)
    batch_size = None if batch_size is None else positive_int("batch_size", batch_size)
    if batch_size is None and model.stateful:
        raise ValueError(f"{model.name} has a stateful layer, so Keras needs a batch_size")
    twin = keras.saving.deserialize_keras_object(keras_graph.describe_network(model.network, batch_size))
    _copy_weights(model.network, twin)
    if not model.trainable:
        twin.trainable = False  # freezes all layers; one that says otherwise is frozen anyway
    return twin


def _copy_weights(network: Network, twin: Any) -> None:
    for layer in network.layers:
        other = twin.get_layer(layer.name)
        if isinstance(layer, Network):
            _copy_weights(layer, other)
        else:
            other.set_weights(layer.get_weights())


def _model_from(description: Any, read: Callable[[Network, dict[str, tuple[int, ...]]], dict[str, Any]]) -> Model:
    """The model that Keras describes.

    Args:
        description: of a `Sequential` or a functional model.
        read: (network, shapes of its parameters by name) -> their values by name; called before any is allocated.

    Raises:
        ValueError: see `keras_graph.network_from`.
    """
    network = keras_graph.network_from(description)
    shapes = network.input_shapes if network.merges else network.input_shapes[0]
    params = read(network, {name: shape for name, (shape, _) in network.plan(shapes).items()})
    kind = Sequential if description["class_name"] == "Sequential" else Model
    model = kind.__new__(kind)
    Compiled.__init__(model, network, None, "numpy")
    network.build(shapes, model.rng, params=params)
    return model.to(backend.choose(None))


def layer_to_keras(layer: Layer) -> Any:
    """The Keras layer with the same settings, without weights."""
    import keras

    return keras.saving.deserialize_keras_object(keras_config.describe_layer(layer))


# --- files ------------------------------------------------------------------------------------------------------------


def load_keras(path: _PathLike) -> Model:
    """Load a `.keras` file without Keras; compiled to the same extent as with `from_keras`.

    Returns:
        a `Sequential` for a `keras.Sequential`, otherwise a `Model`.

    Raises:
        ImportError: h5py is not installed.
        FileNotFoundError: no such file.
        ValueError: damaged, or with a layer, setting or call that we do not support (the message names it).
    """
    with _opened(path) as (file, description):
        if description is None:
            raise ValueError("it has weights but no model: build the model, and use load_keras_weights")
        model = _model_from(description, functools.partial(hdf5.read_weights, file))
        keras_config.compile_like(model, description.get("compile_config"))
        if model._compiled and "optimizer" in file:
            _restore_optimizer(model, hdf5.read_group(file, "optimizer"))
        return model


def load_keras_weights(model: Model, path: _PathLike) -> None:
    """Overwrite a model's parameters with those of a `.weights.h5` or `.keras` file: all of them or, on an error, none.

    As in Keras, the n-th layer of a class takes the weights of the file's n-th layer of that class; names do not
    matter, except between inner models, for which Keras has two classes.

    Raises:
        ImportError: h5py is not installed.
        FileNotFoundError: no such file.
        ValueError: the model is not built, or the file is damaged or belongs to another model.
    """
    require_built(model)
    with _opened(path) as (file, _):
        params = model.network.params
        arrays = hdf5.read_weights(file, model.network, {name: param.shape for name, param in params.items()})
        model.set_weights([arrays[name] for name in params])


def save_keras(model: Model, path: _PathLike) -> None:
    """Write a `.keras` file for `keras.saving.load_model`, completely or not at all.

    A compiled model is written with its optimizer, the optimizer's state, its loss and metrics; a `UserWarning` names
    metrics that Keras does not have. The names of inputs and outputs are kept.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the model is not built, has a layer that Keras does not have or a name that Keras does not allow, or
            the path lacks the ending.
        OSError: the file cannot be written.
    """
    require_built(model)
    model = model.on_cpu()
    description = keras_graph.describe_network(model.network)
    if model._compiled:
        description["compile_config"] = keras_config.describe_compiled(model)
    metadata = {"keras_version": _FORMAT, "date_saved": f"{datetime.now():%Y-%m-%d@%H:%M:%S}"}
    weights = hdf5.write_file(model, _optimizer_variables(model))
    with atomic_write(_ending_in(".keras", path)) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("config.json", json.dumps(description))
        archive.writestr("model.weights.h5", weights)


def save_keras_weights(model: Model, path: _PathLike) -> None:
    """Write a `.weights.h5` file for `load_weights` of a Keras model, completely or not at all.

    An inner model is written as a `Sequential` if its layers are a stack, otherwise as a functional model.

    Raises:
        as for `save_keras`.
    """
    require_built(model)
    model = model.on_cpu()
    content = hdf5.write_file(model, _optimizer_variables(model))
    with atomic_write(_ending_in(".weights.h5", path)) as file:
        file.write(content)


def _ending_in(ending: str, path: _PathLike) -> Path:
    if not str(file_path(path)).endswith(ending):
        raise ValueError(f"Keras reads such a file only if its name ends in {ending}, unlike {str(path)!r}")
    return Path(path)


@contextmanager
def _opened(path: _PathLike) -> Iterator[tuple[Any, Any]]:
    """The open HDF5 file, and the description of the model, if there is one.

    Any error in the file's content becomes one error that names the file.
    """
    import h5py

    if not file_path(path).is_file():
        raise FileNotFoundError(f"there is no file at {str(path)!r}")
    data, description = Path(path).read_bytes(), None
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                description = json.loads(_stored(archive, "config.json"))
                data = _stored(archive, "model.weights.h5")
        with h5py.File(io.BytesIO(data), "r") as file:
            if file.attrs.keys() & {"layer_names", "model_config"}:
                raise ValueError(
                    "it is in the format of Keras 2; load it in Keras and save it again, as .keras or .weights.h5"
                )
            yield file, description
    except Exception as error:  # damaged bytes can raise nearly anything in zipfile, HDF5 and json
        problem = reason(error) or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as a file of Keras 3: {problem}") from error


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of the archive; stored uncompressed, it cannot be larger than the file."""
    members = [member for member in archive.infolist() if member.filename == name]
    if len(members) != 1:
        raise ValueError(f"it has {len(members)} members named {name}, not one")
    if members[0].compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, which Keras files are not (use zip -0)")
    return archive.read(members[0])


# --- the optimizer's state --------------------------------------------------------------------------------------------


def _optimizer_variables(model: Model) -> list[np.ndarray]:
    """Keras' variables of an optimizer: iterations, learning rate, then its state for each trained parameter."""
    if not model._compiled:
        return []
    optimizer, trained = model.optimizer, model.network.trainable_params
    state = optimizer.state or [{name: np.zeros_like(w) for name in optimizer.kept} for w in model.params]
    numbers = [number for number, name in enumerate(model.network.params) if name in trained]
    head = [np.asarray(optimizer.iterations, "int64"), np.asarray(optimizer.learning_rate, "float32")]
    kept = [state[number][name] for number, name in _in_keras_order(optimizer, numbers)]
    return head[: 2 if optimizer.schedule is None else 1] + kept


def _in_keras_order(optimizer: Optimizer, numbers: Sequence[int]) -> list[tuple[int, str]]:
    """The state for the parameters with these numbers, as (number, name): all averages, then each one's slots."""
    averages = [(number, "average") for number in numbers if optimizer.use_ema]
    return averages + [(number, slot) for number in numbers for slot in optimizer.slots]


def _restore_optimizer(model: Model, variables: Sequence[Any]) -> None:
    """Restore Keras' variables (arrays, or unread datasets), if any.

    Keras has them for the parameters trainable when they were made; layers may have been frozen later.
    """
    optimizer, params = model.optimizer, model.params
    trained = [name in model.network.trainable_params for name in model.network.params]
    for built_for in trained, [True] * len(params):
        names = _in_keras_order(optimizer, [number for number, there in enumerate(built_for) if there])
        head = len(variables) - len(names)  # iterations and, unless it follows a schedule, the learning rate
        if head in (1, 2):
            break
    else:
        return  # not trained yet
    shapes = {f"{number}/{name}": params[number].shape for number, name in names}
    for (name, shape), variable in zip(shapes.items(), variables[head:], strict=True):
        if variable.shape != shape:
            raise ValueError(f"the optimizer's state {name} has shape {variable.shape}, not {shape}")
    iterations, *_ = arrays = [hdf5.read(variable) for variable in variables]
    checked = check_weights("the optimizer", shapes, dict(zip(shapes, arrays[head:], strict=True)), "float64")
    optimizer.claim(model.token, params)
    optimizer.iterations = whole_number("iterations", iterations[()])
    optimizer.build(params)
    for number, name in names:
        array = optimizer.state[number][name]
        array[...] = backend.beside(array, checked[f"{number}/{name}"], array.dtype)
