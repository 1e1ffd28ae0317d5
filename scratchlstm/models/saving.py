"""Save and load a model as one `.npz` file of arrays and a JSON description. Nothing is pickled."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from scratchlstm import backend
from scratchlstm._support import checks, registry
from scratchlstm._support.files import keras_function, read_arrays, require_own_ending
from scratchlstm.activations import Activation
from scratchlstm.cells import Cell
from scratchlstm.training import archive

if TYPE_CHECKING:
    from scratchlstm.models.model import Model

M = TypeVar("M", bound="Model")

_KIND = "scratchlstm model"


def save(model: "Model", path: str | os.PathLike[str]) -> None:
    """See `Model.save`."""
    require_own_ending(path)
    if not model.built or model.input_shape is None:
        raise ValueError("a model needs parameters to be saved: give it an input_shape, or call build first")
    description = archive.describe(model)
    registry.require_loadable(description)
    _require_equal_cells(description)
    if model._compiled and model.optimizer.iterations:
        model.optimizer.claim(model.token, model.params)
    archive.write(path, _KIND, description, archive.finite_arrays_of(model))


def _require_equal_cells(description: dict[str, Any]) -> None:
    """Raise an error if a cell of the user's own would come back differently from its config.

    Raises:
        ValueError: naming the first such cell, and what changes.
    """
    makers = {part["class_name"]: part.maker for part in registry.own_parts(description) if hasattr(part, "maker")}
    for part in registry.own_parts(description):
        if not (isinstance(maker := makers.get(part["class_name"]), type) and issubclass(maker, Cell)):
            continue
        try:
            saved = archive.plain(part)
            again = registry.resolve("cell", registry.with_own(saved, makers), {}, Cell)
            problem = archive.difference(saved["config"], archive.plain(again.get_config()))
        except Exception as error:  # whatever the user's code raises
            problem = archive.reason(error)
        if problem:
            todo = "store each argument of __init__ unchanged, or define get_config to return them"
            raise ValueError(f"{part['class_name']} cannot be recreated from its get_config ({problem}): {todo}")


def load(cls: type[M], path: str | os.PathLike[str], own: Mapping[str, Any] | None, stack: Any, graph: Any) -> M:
    """See `Model.load`; the model becomes an instance of `stack` or `graph`."""
    own = checks.instance("custom_objects", own, Mapping | None, "a dict of name -> class") or {}
    for name, thing in own.items():
        if not isinstance(thing, type | Activation):
            raise TypeError(f"custom_objects[{name!r}] must be a class (or an Activation), not {checks.came(thing)}")
    try:
        arrays = read_arrays(path, "model file")
    except ValueError as error:
        if not (function := keras_function(path)):
            raise
        raise ValueError(f"{error}. If Keras wrote it: scratchlstm.interop.keras.load_{function} reads it") from error
    try:
        description = registry.with_own(archive.decode(arrays, _KIND), own)
        archive.into_keras_order(description, arrays)
        model = archive.rebuild(graph if {"sources", "network"} & description.keys() else stack, description, arrays)
        if not isinstance(model, cls):
            raise ValueError(f"it holds a Model with branches, not a {cls.__name__}: use Model.load")
        again = archive.plain(archive.describe(model))  # this reveals an option read as another value ("no" as True)
        if changed := archive.difference({key: description[key] for key in again}, again):
            raise ValueError(f"the model made from its description differs: {changed}")
    except Exception as error:  # whatever a crafted description causes
        reason = archive.reason(error)
        raise ValueError(f"the file {str(path)!r} is not a model that can be loaded: {reason}") from error
    return model.to(backend.choose(None))
