"""Keras' `.weights.h5`: which array stands where, read without trusting the file.

The n-th layer of a class has the group `layers/<class in snake case>` (`_1`, `_2`, ... from the second on); in it,
`vars/0`, `vars/1`, ... are its weights in the order of `get_weights`. A recurrent layer keeps its own in `cell`, a
wrapper's are those of the layers in it.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchlstm._support import registry
from scratchlstm.layers import Layer
from scratchlstm.models.model import Model

_CELLS = ("LSTM", "SimpleRNN")
_WRAPPED = {"Bidirectional": ("forward_layer", "backward_layer"), "TimeDistributed": ("layer",)}


def layer_groups(layers: Sequence[Layer]) -> list[str]:
    """The group of each layer."""
    counts: dict[str, int] = {}
    groups = []
    for layer in layers:
        name = registry.snake_case(type(layer).__name__)
        number = counts[name] = counts.get(name, -1) + 1
        groups.append(f"layers/{name}_{number}" if number else f"layers/{name}")
    return groups


def owners(layer: Layer, group: str) -> list[tuple[str, Layer]]:
    """The groups that hold a layer's `vars`, in the order of its weights, and the layer whose they are."""
    if wrapped := _WRAPPED.get(type(layer).__name__):
        return [owner for name in wrapped for owner in owners(getattr(layer, name), f"{group}/{name}")]
    return [(f"{group}/cell" if type(layer).__name__ in _CELLS else group, layer)]


# --- reading ----------------------------------------------------------------------------------------------------------


def read_group(file: Any, group: str) -> list[Any]:
    """The datasets `vars/0`, `vars/1`, ... of a group, in order; none where the group has no `vars`.

    Raises:
        ValueError: no such group, or one with other things in it.
    """
    place = file
    for name in group.split("/"):
        place = _member(place, name, "group")
    if "vars" not in place:
        return []
    variables = _member(place, "vars", "group")
    return [_member(variables, str(number), "dataset") for number in range(len(variables))]


def read_weights(file: Any, layer: Layer, group: str, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """A layer's arrays, whose shapes and sizes are compared before anything is read.

    Raises:
        ValueError: other arrays than the layer has.
    """
    found = [dataset for place, _ in owners(layer, group) for dataset in read_group(file, place)]
    if [dataset.shape for dataset in found] != list(shapes):
        came = ", ".join(str(dataset.shape) for dataset in found) or "none"
        wanted = ", ".join(map(str, shapes)) or "none"
        raise ValueError(f"{layer.name} has weights of shapes {wanted}, but {group} in the file holds {came}")
    return [read(dataset) for dataset in found]


def require_no_more(file: Any, ours: Sequence[Layer]) -> None:
    """Refuse a file with weights for layers other than these.

    Raises:
        ValueError: there are.
    """
    layers, groups = _member(file, "layers", "group"), layer_groups(ours)
    for name in (name for name in layers if f"layers/{name}" not in groups):
        others = set(_member(layers, name, "group"))
        if others - {"vars", "seed_generator"} or read_group(file, f"layers/{name}"):
            raise ValueError(f"the file holds weights of {name}, a layer that the model does not have")


def _member(group: Any, name: str, kind: str) -> Any:
    """What a group holds under a name, if it lies in the file itself."""
    import h5py

    if name not in group:
        raise ValueError(f"{group.name} has no {name}")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} in {group.name} leads elsewhere, which is never followed")
    member = group[name]
    if not isinstance(member, h5py.Group if kind == "group" else h5py.Dataset):
        raise ValueError(f"{member.name} is no {kind}")
    return member


def read(dataset: Any) -> np.ndarray:
    """A dataset (or array) as an array, if the bytes for it are there.

    Raises:
        ValueError: no plain array of numbers.
    """
    if isinstance(dataset, np.ndarray):
        return dataset
    if dataset.dtype not in (np.float32, np.float64, np.int64, np.int32):
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, not float32 or float64")
    if dataset.external or dataset.is_virtual or dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{dataset.name} is not stored plainly in the file, as Keras does it")
    stored, declared = dataset.id.get_storage_size(), math.prod(dataset.shape) * dataset.dtype.itemsize
    if stored != declared:
        raise ValueError(f"{dataset.name} declares {declared} bytes, but {stored} are stored")
    return np.asarray(dataset[()])


# --- writing ----------------------------------------------------------------------------------------------------------


def write_file(model: Model, optimizer: Sequence[Any] = ()) -> bytes:
    """The file's content: the layers' weights, and the optimizer's variables if any are given."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars").attrs["name"] = model.name
        for layer, group in zip(model.layers, layer_groups(model.layers), strict=True):
            _write_group(file, group, layer.name, ())
            for place, owner in owners(layer, group):
                _write_group(file, place, owner.name, list(owner.params.values()))
        if optimizer:
            _write_group(file, "optimizer", registry.snake_case(type(model.optimizer).__name__), optimizer)
    return buffer.getvalue()


def _write_group(file: Any, group: str, name: str, arrays: Sequence[Any]) -> None:
    variables = file.require_group(f"{group}/vars")
    variables.attrs["name"] = name
    for number, array in enumerate(arrays):
        variables[str(number)] = array
