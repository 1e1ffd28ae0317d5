"""A model in one `.npz` file: arrays, and a description in JSON. Nothing is pickled."""

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchlstm import layers, registry
from scratchlstm.checks import whole_number
from scratchlstm.files import read_arrays, write_arrays
from scratchlstm.layers.base import as_shape, check_weights

if TYPE_CHECKING:
    from scratchlstm.model import Sequential

VERSION = 1
_KIND = "scratchlstm model"


def save(model: "Sequential", path: str | os.PathLike[str]) -> None:
    """See `Sequential.save`."""
    if not model.built or model.input_shape is None:
        raise ValueError("a model can be saved once it has parameters: state an input_shape, or call build first")
    for thing in parts_of(model):
        if not is_ours(thing):
            raise ValueError(
                f"{type(thing).__name__} is not a part of scratchlstm, so a file with it could not be loaded again; "
                f"keep the numbers of get_weights instead"
            )
    text = json.dumps({"kind": _KIND, "version": VERSION} | describe(model)).encode()
    write_arrays(path, {"description": np.frombuffer(text, dtype=np.uint8), **arrays_of(model)})


def parts_of(model: "Sequential") -> list[Any]:
    """Layers and, if compiled, optimizer, its schedule, loss and metrics."""
    if not model._compiled:
        return list(model.layers)
    schedule = [] if model.optimizer.schedule is None else [model.optimizer.schedule]
    return [*model.layers, model.optimizer, *schedule, model.loss, *model.metrics]


def is_ours(thing: Any) -> bool:
    """Whether its class comes from this package."""
    return type(thing).__module__.split(".")[0] == __name__.split(".")[0]


def describe(model: "Sequential") -> dict[str, Any]:
    """What JSON can hold of a model: its layers' settings, and how it was compiled."""
    description: dict[str, Any] = {
        "name": model.name,
        "input_shape": model.input_shape,
        "layers": [registry.serialize(layer) for layer in model.layers],
        "compiled": None,
    }
    if model._compiled:
        description["compiled"] = {
            "optimizer": registry.serialize(model.optimizer),
            "loss": registry.serialize(model.loss),
            "metrics": [registry.serialize(metric) for metric in model.metrics],
            "iterations": model.optimizer.iterations,
        }
    return description


def arrays_of(model: "Sequential") -> dict[str, np.ndarray]:
    """The arrays themselves under the names they have in a file: parameters, then the optimizer's state."""
    arrays = {
        f"layer{number}/{name}": param
        for number, layer in enumerate(model.layers)
        for name, param in layer.params.items()
    }
    if model._compiled:
        for number, slots in enumerate(model.optimizer.state):
            arrays |= {f"optimizer{number}/{slot}": array for slot, array in slots.items()}
    return arrays


def load(cls: type["Sequential"], path: str | os.PathLike[str]) -> "Sequential":
    """See `Sequential.load`."""
    arrays = read_arrays(path, "model file")
    try:
        description = json.loads(arrays.pop("description").tobytes().decode())
        _check_format(description)
        return rebuild(cls, description, arrays)
    except Exception as error:  # whatever a crafted description leads to
        raise ValueError(f"the file {str(path)!r} is not a model that can be loaded: {error}") from error


def _check_format(description: dict[str, Any]) -> None:
    if description["kind"] != _KIND:
        raise ValueError(f"its kind is {description['kind']!r}")
    if description["version"] > VERSION:
        raise ValueError(
            f"it was written in format {description['version']}; this version of scratchlstm reads up to {VERSION}. "
            f"Upgrade scratchlstm"
        )


def rebuild(cls: type["Sequential"], description: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Sequential":
    """The model of `describe` with copies of the arrays of `arrays_of`, which `arrays` is emptied of.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they do not describe a model.
    """
    model = cls(name=description["name"])
    model.input_shape = shape = as_shape(description["input_shape"])
    for number, saved in enumerate(description["layers"]):
        layer = registry.resolve("layer", saved, layers.KNOWN, layers.Layer)
        layer.build(shape, model.rng, params=_taken(arrays, f"layer{number}/"))
        shape = layer.output_shape(shape)
        model.layers.append(layer)
    if (compiled := description["compiled"]) is not None:
        model.compile(compiled["optimizer"], compiled["loss"], metrics=compiled["metrics"])
        model.optimizer.iterations = whole_number("iterations", compiled["iterations"])
        model.optimizer.claim(model.token)
        _restore_state(model, arrays)
    if arrays:
        raise ValueError(f"it holds arrays that belong to nothing: {', '.join(arrays)}")
    return model


def _restore_state(model: "Sequential", arrays: dict[str, np.ndarray]) -> None:
    if not model.optimizer.iterations and not any(name.startswith("optimizer") for name in arrays):
        return  # compiled, but never trained
    model.optimizer.build(model.params)
    for number, slots in enumerate(model.optimizer.state):
        saved = _taken(arrays, f"optimizer{number}/")
        shapes = {name: array.shape for name, array in slots.items()}
        dtype = str(model.params[number].dtype)
        for name, array in check_weights(f"optimizer{number}", shapes, saved, dtype).items():
            slots[name][...] = array


def _taken(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it; they are removed from `arrays`."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}
