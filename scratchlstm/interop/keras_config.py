"""Keras' JSON descriptions of layers and of how a model was compiled (config.json in a `.keras` file).

An object is described as {"module": "keras.layers", "class_name": "LSTM", "config": {...}, "registered_name": None}.
Names of classes and settings are the same here, so most of it is copied unchanged; anything without a counterpart
raises an error. Only classes of this package are ever created from a description.
"""

from collections.abc import Mapping
from typing import Any

from scratchlstm import constraints, initializers, layers, losses, metrics, optimizers, regularizers, schedules
from scratchlstm._support import registry
from scratchlstm._support.console import warn
from scratchlstm.cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from scratchlstm.interop.plain import RECURRENCES
from scratchlstm.layers import RNN, Bidirectional, Layer
from scratchlstm.layers.network import Network
from scratchlstm.models.model import Model

Description = dict[str, Any]

# also under their Keras names
_SHARED = (constraints, initializers, layers, losses, metrics, optimizers, regularizers, schedules)
_ROOMS = {room.__name__.rpartition(".")[2]: room for room in _SHARED}
_OURS_ALONE = ("implementation",)  # settings that Keras' layers do not have
_CLASSES_OF_OURS_ALONE = ("MaskedGlobalMaxPooling1D", "Network", "Perplexity", "WordDropout")
_CELLS = {cell.__name__: cell for cell in (GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells)}
_OF_THE_LAYER = ("dtype", "trainable")  # settings of Keras' cells, which are layers in Keras
_ANY = object()
# settings we lack are ignored at a value without effect, as None is for any setting
_WITHOUT_EFFECT: dict[str, Any] = {
    "name": _ANY, "dtype": _ANY,  # for anything but layers
    "unroll": _ANY, "rms_scaling": False, "data_format": "channels_last",
    "sparse": False, "ragged": False, "optional": False,
    "amsgrad": False, "centered": False, "momentum": 0,  # optimizers
    # losses and metrics, and the axis of LayerNormalization
    "multi_label": False, "reduction": "sum_over_batch_size", "from_logits": False, "label_smoothing": 0, "axis": -1,
}  # fmt: skip
# last word of a setting -> where Keras keeps the classes it names
_MODULES = {
    "initializer": "keras.initializers", "regularizer": "keras.regularizers", "constraint": "keras.constraints",
    "layer": "keras.layers", "cell": "keras.layers", "rate": "keras.optimizers.schedules",
}  # fmt: skip


# --- to Keras ---------------------------------------------------------------------------------------------------------


def describe_compiled(model: Model) -> dict[str, Any]:
    """How a model was compiled, as in config.json; a `UserWarning` names metrics that Keras does not have."""
    all_metrics = [metric for target in model.targets for metric in target.metrics]
    if ours_alone := [metric for metric in all_metrics if type(metric).__name__ in _CLASSES_OF_OURS_ALONE]:
        warn(f"Keras does not have the metrics {', '.join(m.name for m in ours_alone)}, which are left out")
    losses = [target.loss and keras_thing("keras.losses", registry.serialize(target.loss)) for target in model.targets]
    kept = [[_describe_metric(m) for m in target.metrics if m not in ours_alone] for target in model.targets]
    weights, names = [target.weight for target in model.targets], model.network.named_outputs

    def arranged(values: list[Any]) -> Any:
        """Structured like the outputs."""
        return values[0] if len(values) == 1 else values if names is None else dict(zip(names, values, strict=True))

    return {
        "optimizer": keras_thing("keras.optimizers", registry.serialize(model.optimizer)),
        "loss": arranged(losses),
        "metrics": arranged(kept),
    } | ({"loss_weights": arranged(weights)} if set(weights) != {1.0} else {})


def describe_layer(layer: Layer) -> Description:
    """A layer as in config.json.

    Raises:
        ValueError: a name that Keras does not allow, or a layer that it does not have.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer must be a layer of scratchlstm, not {type(layer).__name__}")
    if _known("keras.layers").get(type(layer).__name__) is not type(layer):
        raise ValueError(f"{layer.name} is a {type(layer).__name__}, which Keras does not have")
    if inner := [each.name for each in layer.with_inner()[1:] if isinstance(each, Network)]:
        raise ValueError(f"{layer.name} contains the model {inner[0]}; Keras only gets models inside models")
    for each in layer.with_inner():
        for cell in each.cells.values() if isinstance(each, RNN) else ():
            if _CELLS.get(type(cell).__name__) is not type(cell):
                in_onnx = any(type(cell) in known.cells("ONNX") for known in RECURRENCES.values())
                todo = (
                    "write the model with to_onnx instead" if in_onnx else "take the arrays with get_weights() instead"
                )
                raise ValueError(f"{each.name} runs a {type(cell).__name__}, a cell that Keras does not have: {todo}")
    described = registry.serialize(layer)
    if isinstance(layer, Bidirectional):  # Keras always describes both directions
        described["config"]["backward_layer"] = registry.serialize(layer.backward_layer)
    return keras_thing("keras.layers", described)


def _describe_metric(metric: Any) -> Any:
    """Keras' "accuracy" is a name for one of several classes; Keras' `Accuracy` is something else."""
    if type(metric).__name__ == "Accuracy":
        return metric.name if metric.name == "acc" else "accuracy"
    return keras_thing("keras.metrics", registry.serialize(metric))


def keras_thing(module: str, described: Mapping[str, Any]) -> Description:
    """A class and its settings as described by Keras.

    Raises:
        ValueError: a user's own class, or a name that Keras does not allow.
    """
    for own, origin in registry.foreign(described):
        raise ValueError(f"{own} is not part of scratchlstm (but of {origin}), and Keras would not know it either")
    kind, config = described["class_name"], described["config"]
    if "/" in (name := config.get("name", "")):
        raise ValueError(f"the {kind} {name!r} cannot go to Keras, whose names have no slash: rename it")
    config = {name: _keras_value(name, value, config) for name, value in config.items() if name not in _OURS_ALONE}
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _keras_value(name: str, value: Any, above: Mapping[str, Any]) -> Any:
    """A setting's value as described by Keras; `above` has its sibling settings."""
    if name == "cells":
        return [_keras_value("cell", cell, above) for cell in value]
    if isinstance(value, Mapping) and set(value) == {"class_name", "config"}:
        if name == "cell":
            of_layer = {key: above[key] for key in _OF_THE_LAYER if key in above}
            value = {**value, "config": {**value["config"], **of_layer}}
        return keras_thing(_MODULES[name.split("_")[-1]], value)
    return value


# --- from Keras -------------------------------------------------------------------------------------------------------


def layer_from(described: Any) -> Layer:
    """The layer that Keras describes, not built.

    Raises:
        ValueError: a layer or a setting that we do not support.
    """
    ours = our_thing(described)
    try:
        layer = registry.resolve("layer", ours, _known("keras.layers"), Layer)
        if isinstance(layer, Bidirectional):  # we describe a backward layer only if it is a separate one
            derived = Bidirectional(ours["config"]["layer"])
            if derived.backward_layer.get_config() == layer.backward_layer.get_config():
                return Bidirectional(**ours["config"] | {"backward_layer": None})
        return layer
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {ours['class_name']} {ours['config'].get('name')!r}: {error}") from error


def our_thing(described: Any, above: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A Keras description converted for `registry.resolve`.

    Args:
        described: the Keras description.
        above: for a cell, the settings of the layer it belongs to.

    Raises:
        ValueError: a class or a setting that we do not support.
    """
    module, name, config = (described.get(key) for key in ("module", "class_name", "config"))
    cls = _known(module).get(name) if isinstance(name, str) and described.get("registered_name") is None else None
    if cls is None or not isinstance(config, Mapping):
        ours = ", ".join(sorted({known.__name__ for known in _known(module).values()}))
        what = f"{described.get('registered_name') or module}.{name}"
        raise ValueError(f"scratchlstm has no counterpart of {what}" + (f"; it has {ours}" if ours else ""))
    owner = f"the {name} {config['name']!r}" if "name" in config else str(name)
    accepted = registry.defaults(cls)
    if name in _CELLS and above is not None:
        config = _without_those_of_the_layer(owner, config, above)
    refuse_unknown(owner, config, set(accepted))
    for option in accepted.keys() & config.keys():
        if isinstance(accepted[option], bool) and not isinstance(config[option], bool):
            raise ValueError(f"{owner} has {option}={config[option]!r}, which must be true or false")
    try:
        above = config if above is None else above
        return {"class_name": name, "config": {o: _our_value(v, above) for o, v in config.items() if o in accepted}}
    except ValueError as error:  # from an object inside
        raise ValueError(f"{owner}: {error}") from error


def _our_value(value: Any, above: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_our_value(each, above) for each in value]
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    if value["class_name"] == "DTypePolicy":
        return value["config"]["name"]
    return our_thing(value, above if value["class_name"] in _CELLS else None)


def _without_those_of_the_layer(owner: str, config: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's settings without dtype and trainable, which must match the layer's."""
    for option in _OF_THE_LAYER:
        theirs, own = (_our_value(of.get(option), {}) for of in (above, config))
        if own not in (None, theirs, True):
            raise ValueError(f"{owner} has {option}={own!r}, but the layer that runs it has {theirs!r}")
    return {name: value for name, value in config.items() if name not in _OF_THE_LAYER}


def refuse_unknown(owner: str, config: Mapping[str, Any], accepted: set[str]) -> None:
    """Raise an error for a setting that is not accepted, unless it has no effect.

    Raises:
        ValueError: naming the setting.
    """
    for option, value in config.items():
        neutral = _WITHOUT_EFFECT.get(option, object())  # equals nothing
        if option not in accepted and neutral is not _ANY and value not in (None, neutral, [neutral]):
            raise ValueError(f"{owner} has {option}={value!r}, which scratchlstm does not support")


def _known(module: Any) -> Mapping[str, Any]:
    """Keras' names of our classes for one of its modules."""
    if not isinstance(module, str) or not module.startswith("keras."):
        return {}
    ours = _ROOMS.get(module.split(".")[-1])
    known = {**layers.KNOWN, **_CELLS} if ours is layers else getattr(ours, "_KNOWN", {})
    classes = {name: cls for name, cls in known.items() if isinstance(cls, type) and name == cls.__name__}
    return {name: cls for name, cls in classes.items() if name not in _CLASSES_OF_OURS_ALONE}


# --- how it was compiled ----------------------------------------------------------------------------------------------


def compile_like(model: Model, config: Mapping[str, Any] | None) -> None:
    """Compile as described by Keras' `compile_config`; a `UserWarning` names what we do not have.

    If we have no counterpart of the optimizer or the loss, the model stays uncompiled.
    """
    if not config:
        return
    lost = [f"weighted_metrics={config['weighted_metrics']!r}"] if config.get("weighted_metrics") else []

    def found(module: Any, described: Any) -> Any:
        if described is None:
            return None
        if isinstance(described, list | tuple):  # several outputs, or several metrics
            ours = [found(module, one) for one in described]
            return [one for one, theirs in zip(ours, described, strict=True) if one is not None or theirs is None]
        if isinstance(described, Mapping) and "class_name" not in described:
            return {name: found(module, one) for name, one in described.items()}
        try:
            return module.get(our_thing(described) if isinstance(described, Mapping) else described)
        except (ValueError, TypeError) as error:
            lost.append(str(error))
            return None

    others = len(lost)
    optimizer, loss = found(optimizers, config.get("optimizer")), found(losses, config.get("loss"))
    whole = optimizer is not None and loss is not None and len(lost) == others
    known = found(metrics, config.get("metrics"))
    try:
        if whole:
            model.compile(optimizer, loss, config.get("loss_weights"), known)
    except (TypeError, ValueError) as error:
        lost.append(str(error))
    if not model._compiled:
        lost.append("so the model is not compiled: call compile")
    if lost:
        warn(f"not everything compiled in Keras could be converted: {'; '.join(lost)}")
