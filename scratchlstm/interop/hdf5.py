"""Keras' `.weights.h5` files: where each array is, read without trusting the file.

The n-th layer of a class has the group `layers/<class in snake case>` (`_1`, `_2`, ... from the second on); in it,
`vars/0`, `vars/1`, ... are its weights in the order of `get_weights`. A recurrent layer keeps its weights in `cell`, or
in `cell/cells` for several cells, counted by class like layers; a wrapper's are those of its inner layers. The same
goes for a model inside the model, whose class is `Sequential` or `Functional`; its group is laid out like the file.
"""

import io
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm._support import registry
from scratchlstm.interop.keras_graph import is_sequential
from scratchlstm.layers import RNN, Layer
from scratchlstm.layers.composite import of_part, with_prefix
from scratchlstm.layers.network import Network
from scratchlstm.models.model import Model

_WRAPPED = {"Bidirectional": ("forward_layer", "backward_layer"), "TimeDistributed": ("layer",)}


def layer_groups(layers: Sequence[Layer], above: str = "", file: Any = None) -> list[str]:
    """The group of each layer.

    Args:
        layers: those of a model.
        above: the group above, with a slash.
        file: used to find Keras' class of each inner model; without it, `is_sequential` decides.
    """
    counts: Counter[str] = Counter()
    groups = []

    def place(name: str) -> str:
        return f"{above}layers/{_numbered(name, counts[name])}"

    for layer in layers:
        name = registry.snake_case(type(layer).__name__)
        if isinstance(layer, Network):
            name, other = ("sequential", "functional") if is_sequential(layer) else ("functional", "sequential")
            if file is not None and (found := _name_in(file, place(other))) is not None:
                name = other if found == layer.name or _name_in(file, place(name)) is None else name
        groups.append(place(name))
        counts[name] += 1
    return groups


def _numbered(name: str, before: int) -> str:
    """The name of a group, given how many of its class come before."""
    return f"{name}_{before}" if before else name


def _name_in(file: Any, group: str) -> Any:
    """The name of the layer a group belongs to; None if there is no such group."""
    try:
        return _place(file, f"{group}/vars").attrs.get("name")
    except ValueError:
        return None


def owners(layer: Layer, group: str, file: Any = None) -> list[tuple[str, Layer, str]]:
    """The groups with a layer's `vars`, in the order of its weights.

    Each comes with the layer it belongs to, and the name of the cell if there are several.
    """
    if isinstance(layer, Network):
        groups = layer_groups(layer.layers, f"{group}/" if group else "", file)
        return [owner for each, of in zip(layer.layers, groups, strict=True) for owner in owners(each, of, file)]
    if wrapped := _WRAPPED.get(type(layer).__name__):
        return [owner for name in wrapped for owner in owners(getattr(layer, name), f"{group}/{name}", file)]
    if not isinstance(layer, RNN):
        return [(group, layer, "")]
    counts: Counter[str] = Counter()
    found: list[tuple[str, Layer, str]] = []
    for name, cell in layer.cells.items():
        own = registry.snake_case(type(cell).__name__)
        found.append((f"{group}/cell/cells/{_numbered(own, counts[own])}" if name else f"{group}/cell", layer, name))
        counts[own] += 1
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def read_group(file: Any, group: str) -> list[Any]:
    """The datasets `vars/0`, `vars/1`, ... of a group, in order; none if the group has no `vars`.

    Raises:
        ValueError: no such group, or one with other things in it.
    """
    place = _place(file, group)
    if "vars" not in place:
        return []
    variables = _member(place, "vars", "group")
    return [_member(variables, str(number), "dataset") for number in range(len(variables))]


def read_weights(file: Any, network: Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A network's parameters; all shapes and sizes are checked before anything is read.

    Args:
        file: open.
        network: its layers need not be built.
        shapes: those of all parameters, by name.

    Raises:
        ValueError: arrays that do not match the network.
    """
    arrays: dict[str, np.ndarray] = {}
    groups, used = layer_groups(network.layers, file=file), set()
    for layer, group in zip(network.layers, groups, strict=True):
        own = with_prefix(layer.name, of_part(layer.name, shapes))
        places = [place for place, *_ in owners(layer, group, file)]
        used.update(places)
        found = [dataset for place in places for dataset in read_group(file, place)]
        if [dataset.shape for dataset in found] != list(own.values()):
            came = ", ".join(str(dataset.shape) for dataset in found) or "none"
            wanted = ", ".join(map(str, own.values())) or "none"
            raise ValueError(f"{layer.name} has weights of shapes {wanted}, but {group} in the file holds {came}")
        arrays |= dict(zip(own, map(read, found), strict=True))
    _require_no_more(file, used)
    return arrays


def _require_no_more(file: Any, used: Collection[str]) -> None:
    """Raise an error for a file with weights in other groups than these."""
    import h5py

    def look(name: str, found: Any) -> None:
        place = f"layers/{name}".rpartition("/vars/")[0]
        if isinstance(found, h5py.Dataset) and place not in used and not place.endswith("/seed_generator"):
            more = place.removeprefix("layers/") or name
            raise ValueError(f"the file holds weights of {more}, a layer that the model does not have")

    _member(file, "layers", "group").visititems(look)


def _place(file: Any, group: str) -> Any:
    place = file
    for name in group.split("/"):
        place = _member(place, name, "group")
    return place


def _member(group: Any, name: str, kind: str) -> Any:
    """A member of a group, if it is in the file itself."""
    import h5py

    if name not in group:
        raise ValueError(f"{group.name} has no {name}")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} in {group.name} is a link, which is never followed")
    member = group[name]
    if not isinstance(member, h5py.Group if kind == "group" else h5py.Dataset):
        raise ValueError(f"{member.name} is not a {kind}")
    return member


def read(dataset: Any) -> np.ndarray:
    """A dataset (or array) as an array, if its bytes are present.

    Raises:
        ValueError: not a plain array of numbers.
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
    """The file's content: the layers' weights, and the optimizer's variables, if given."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars").attrs["name"] = model.name
        _write_layers(file, model.network, "")
        if optimizer:
            _write_group(file, "optimizer", registry.snake_case(type(model.optimizer).__name__), optimizer)
    return buffer.getvalue()


def _write_layers(file: Any, network: Network, above: str) -> None:
    for layer, group in zip(network.layers, layer_groups(network.layers, above), strict=True):
        _write_group(file, group, layer.name, ())
        if isinstance(layer, Network):
            _write_layers(file, layer, f"{group}/")
            continue
        for place, owner, cell in owners(layer, group):
            _write_group(file, place, owner.name, list(of_part(cell, owner.params).values()))


def _write_group(file: Any, group: str, name: str, arrays: Sequence[Any]) -> None:
    variables = file.require_group(f"{group}/vars")
    variables.attrs["name"] = name
    for number, array in enumerate(arrays):
        variables[str(number)] = array
