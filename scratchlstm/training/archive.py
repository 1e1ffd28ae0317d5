"""A model as data for a file or another process: its description in JSON, and its arrays by name."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from scratchlstm import backend
from scratchlstm._support import registry
from scratchlstm._support.checks import whole_number
from scratchlstm._support.files import write_arrays
from scratchlstm.layers.base import INPUT
from scratchlstm.layers.keras_order import keras_order
from scratchlstm.layers.network import Network
from scratchlstm.layers.weights import check_weights
from scratchlstm.optimizers import is_finite
from scratchlstm.training.compiled import Compiled

M = TypeVar("M", bound=Compiled)
T = TypeVar("T")
Arrays = dict[str, np.ndarray]

_LEFT_OUT = {"trainable": True, "use_ema": False}  # left out of a description at these defaults
VERSION = 2  # adds networks with several inputs, and layers used in several places


def write(path: str | os.PathLike[str], kind: str, description: dict[str, Any], arrays: Arrays) -> None:
    """Write arrays and their description to one file, with its kind and the oldest format version that can hold it.

    Raises:
        TypeError: JSON cannot hold the description.
        OSError: the file cannot be written; an existing file is unchanged.
    """
    model = description.get("settings", {}).get("model", description)
    text = json.dumps({"kind": kind, "version": VERSION if "network" in model else 1} | description)
    write_arrays(path, {"description": np.frombuffer(text.encode(), dtype=np.uint8), **arrays})


def decode(arrays: Arrays, kind: str) -> dict[str, Any]:
    """Remove the description that `write` put among a file's arrays, and return it.

    Raises:
        ValueError: there is none, or it is of another kind or a newer version.
        KeyError, TypeError, RecursionError: it is not a description at all.
    """
    if "description" not in arrays:
        raise ValueError(f"it has no description, so it is not a {kind}")
    description = json.loads(arrays.pop("description").tobytes().decode())
    if description["kind"] != kind:
        raise ValueError(f"its kind is {description['kind']!r}, not {kind!r}")
    if whole_number("its version", description["version"], at_least=1) > VERSION:
        raise ValueError(
            f"it was written in format {description['version']}; this version of scratchlstm reads up to {VERSION}. "
            f"Upgrade scratchlstm"
        )
    return description


def reason(error: Exception) -> str:
    """What was wrong, to end a sentence with; a bare `KeyError` only says the key."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def plain(description: Any) -> Any:
    """A description as it is after reading it back from a file: tuples become lists.

    Raises:
        TypeError: JSON cannot hold it.
    """
    try:
        return json.loads(json.dumps(description))
    except TypeError as error:
        wanted = "get_config of a class of your own must return numbers, strings, lists and dicts"
        raise TypeError(f"the model's description cannot be written as JSON ({error}): {wanted}") from error


def difference(was: Any, now: Any, name: str = "") -> str:
    """How `now` differs from `was`, a description from a file, in words; "" if it does not.

    Anything only `now` has is not a difference: it is an option newer than the file, at its default. (Except
    `trainable` and `use_ema`, which are omitted at their defaults.)
    """
    if isinstance(was, dict) and isinstance(now, dict):
        left_out = {name: value for name, value in _LEFT_OUT.items() if name in was or name in now}
        was, now = (left_out | each for each in (was, now))
        pairs = [(key, item, now.get(key, "missing")) for key, item in was.items()]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [
            (_name_in(one) or number, one, other) for number, (one, other) in enumerate(zip(was, now, strict=True))
        ]
    elif isinstance(was, list) and isinstance(now, list) and any(isinstance(each, dict) for each in (*was, *now)):
        return f"{name} were {len(was)}, and are {len(now)} now"
    elif isinstance(was, type | registry.Configured):
        return ""  # from custom_objects, where a class may have a new name
    elif isinstance(was, str) and isinstance(now, dict) and was == now.get("class_name"):
        return ""  # an activation of the user's own; older files have only its name
    else:
        same = was is now if bool in (type(was), type(now)) else was == now  # True and False are 1 and 0 to Python
        return "" if same else f"{name} was {was!r:.80}, and is {now!r:.80} now"
    return next(filter(None, (difference(a, b, f"{name}/{key}".lstrip("/")) for key, a, b in pairs)), "")


def _name_in(described: Any) -> str | None:
    """The name in a layer's description."""
    config = described.get("config") if isinstance(described, dict) else None
    name = config.get("name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def describe(model: Compiled) -> dict[str, Any]:
    """A model as JSON values: its layers' settings, how they are wired, and how it was compiled."""
    description: dict[str, Any]
    network = model.network
    once = len(network.places) == len(network.layers)
    with_states = any(len(place.sources) > 1 and not place.layer.merges for place in network.places)
    of_first = all(output == 0 for place in network.places for _, output in place.sources)
    simple = once and of_first and not with_states and network.ends == [(len(network.places) - 1, 0)]
    if simple and not network.merges and network.named_outputs is None:
        layers = [registry.serialize(layer) for layer in network.layers]
        description = {"name": network.name, "input_shape": network.input_shapes[0], "layers": layers}
        if not network.trainable:
            description["trainable"] = False
        if network.input_names != [INPUT]:
            description["input_names"] = network.input_names
        if not network.is_stack:
            description["sources"] = network.sources
    else:
        description = {"name": network.name, "network": registry.serialize(network)["config"]}
    description["compiled"] = None
    if model._compiled:
        losses = [target.loss and registry.serialize(target.loss) for target in model.targets]
        metrics = [[registry.serialize(metric) for metric in target.metrics] for target in model.targets]
        description["compiled"] = {
            "optimizer": registry.serialize(model.optimizer),
            "loss": losses if len(losses) > 1 else losses[0],
            "metrics": metrics if len(losses) > 1 else metrics[0],
            "iterations": model.optimizer.iterations,
        }
        weights = [target.weight for target in model.targets]
        if weights != [1.0] * len(weights):
            description["compiled"]["loss_weights"] = weights
    return description


def arrays_of(model: Compiled) -> Arrays:
    """The arrays under their names in a file: parameters, then the optimizer's state.

    They are the model's own arrays, or copies if it is on a GPU.
    """
    owners = {f"layer{number}": layer.params for number, layer in enumerate(model.layers)}
    owners |= {f"optimizer{number}": slots for number, slots in enumerate(_slots(model))}
    return {f"{owner}/{name}": backend.host(a) for owner, own in owners.items() for name, a in own.items()}


def put_in(model: Compiled, arrays: Any) -> None:
    """Replace the model's arrays by these, named as in `arrays_of`; optimizer slots may be missing."""
    for number, layer in enumerate(model.layers):
        layer.set_params({name: arrays[f"layer{number}/{name}"] for name in layer.params})
    for number, slots in enumerate(_slots(model)):
        own = {name: f"optimizer{number}/{name}" for name in slots}
        slots |= {name: arrays[saved] for name, saved in own.items() if saved in arrays}


def _slots(model: Compiled) -> list[Arrays]:
    return model.optimizer.state if model._compiled else []


def finite_arrays_of(model: Compiled) -> Arrays:
    """`arrays_of`, checked for writing to a file.

    Raises:
        ValueError: one holds NaN or infinity, which files must not contain.
    """
    arrays = arrays_of(model)
    for name, array in arrays.items():
        if not is_finite(array):
            raise ValueError(f"{name} of the model holds NaN or infinity, so the file could not be loaded again")
    return arrays


def rebuild(kind: type[M], description: dict[str, Any], arrays: Arrays) -> M:
    """Rebuild the model of `describe` with copies of the arrays of `arrays_of`, which are removed from `arrays`.

    Args:
        kind: class of the model to make.
        description, arrays: those of the model.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they do not describe a model.
    """
    network = Network.from_config(description.get("network") or _config_of(description))
    if any(number < 0 for number, _ in network.ends):
        raise ValueError("one of its outputs is an input")
    model = kind.__new__(kind)
    Compiled.__init__(model, network, None, "numpy")

    def build(layer: Any, shape: Any, states: Any) -> Any:
        if not layer.built:
            params = _taken(arrays, f"layer{network.layers.index(layer)}/", layer.plan(shape))
            layer.build(shape, model.rng, params=params)
        return layer.output_shape(shape)

    shapes = network.input_shapes if network.merges else network.input_shapes[0]
    network.along(shapes, build)
    network.build(shapes)
    require_no_more([name for name in arrays if name.startswith("layer")])
    if (compiled := description["compiled"]) is not None:
        loss = compiled["loss"] if network.outputs > 1 else [compiled["loss"]]
        model.compile(compiled["optimizer"], loss, compiled.get("loss_weights"), compiled["metrics"])
        optimizer = model.optimizer
        optimizer.claim(model.token, model.params)
        optimizer.iterations, optimizer.state = optimizer_state(model, compiled["iterations"], arrays)
    require_no_more(arrays)
    return model


def _config_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """A network's config, from a description with a single input and each layer used once."""
    layers = description["layers"]
    sources = description.get("sources") or [(number - 1,) for number in range(len(layers))]
    places = [[number, [[source, 0] for source in own]] for number, own in enumerate(sources)]
    inputs, ends = [description["input_shape"]], [[len(layers) - 1, 0]]
    own = {"name": description["name"], "trainable": description.get("trainable", True)}
    own["input_names"] = description.get("input_names")
    return own | {"inputs": inputs, "layers": layers, "places": places, "ends": ends}


def require_no_more(arrays: Collection[str]) -> None:
    """Raise an error if a file has arrays that nothing took.

    Raises:
        ValueError: naming the first of them.
    """
    if arrays:
        more = f", ... ({len(arrays)} in all)" if len(arrays) > 5 else ""
        raise ValueError(f"it holds arrays that belong to no part of the model: {', '.join(list(arrays)[:5])}{more}")


# --- the order of layers ----------------------------------------------------------------------------------------------


def reordered(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """The items in a new order, beginning with the one numbered `order[0]`."""
    return [items[number] for number in order]


def parts_order(order: Sequence[int], counts: Sequence[int]) -> list[int]:
    """`order` for the parts of layers, given how many parts each layer has before reordering."""
    starts = [0, *itertools.accumulate(counts)]
    return [starts[number] + part for number in order for part in range(counts[number])]


def into_keras_order(description: dict[str, Any], arrays: Arrays) -> tuple[list[int], list[int]] | None:
    """Put a branching model, as written by version 0.1 and older, in Keras' order; both arguments are changed.

    Returns:
        the order of the layers, and that of the parameters; None if they are already in order.

    Raises:
        KeyError, TypeError, ValueError: this does not describe a model.
    """
    if (saved := description.get("sources")) is None:
        return None
    if registry.foreign(description["layers"]):  # they cannot be made here, so their masks are unknown
        sources = [[whole_number("a source", source, at_least=-1) for source in own] for own in saved]
        order = keras_order(sources, [len(sources) - 1])
    else:
        network = Network.from_config(_config_of(description))
        before = list(network.layers)
        network.into_keras_order()
        order = [before.index(layer) for layer in network.layers]
    if order == list(range(len(description["layers"]))) or len(order) != len(description["layers"]):
        return None  # unchanged, or not loadable anyway
    counts = Counter(name.partition("/")[0] for name in arrays)
    of_params = parts_order(order, [counts[f"layer{number}"] for number in range(len(order))])
    new = {-1: -1} | {old: number for number, old in enumerate(order)}
    places = {f"layer{old}": f"layer{number}" for old, number in new.items()}
    places |= {f"optimizer{old}": f"optimizer{number}" for number, old in enumerate(of_params)}
    named = [(*name.partition("/"), arrays.pop(name)) for name in list(arrays)]
    arrays.update({f"{places.get(owner, owner)}{slash}{name}": array for owner, slash, name, array in named})
    description["layers"] = reordered(description["layers"], order)
    description["sources"] = [[new[source] for source in own] for own in reordered(saved, order)]
    return order, of_params


def optimizer_state(model: Compiled, iterations: Any, arrays: Arrays) -> tuple[int, list[Arrays]]:
    """The step count and the state of the model's optimizer; the arrays are removed from `arrays`.

    Raises:
        ValueError: an impossible step count, or the state of another optimizer or model.
    """
    if whole_number("iterations", iterations) >= 2**63:
        raise ValueError(f"iterations must be below 2**63, not {iterations}")
    if not iterations and not any(name.startswith("optimizer") for name in arrays):
        return 0, []  # compiled, but never trained
    names = model.optimizer.kept
    state = [like(f"optimizer{n}", dict.fromkeys(names, w), arrays) for n, w in enumerate(model.params)]
    for number, slots in enumerate(state):
        if "velocity" in slots and np.any(slots["velocity"] < 0):
            raise ValueError(f"optimizer{number}/velocity, a mean of squares, is below 0 somewhere")
    return int(iterations), state


def like(owner: str, own: Mapping[str, np.ndarray], arrays: Arrays) -> Arrays:
    """The arrays of `owner`, removed from `arrays`: with the names, shapes and dtypes of those in `own`.

    Raises:
        ValueError: they differ.
    """
    saved = _taken(arrays, f"{owner}/", own)
    dtype = next((array.dtype for array in own.values()), np.dtype("float32"))
    check_weights(owner, {name: array.shape for name, array in own.items()}, saved, str(dtype))
    for name, array in saved.items():
        if array.dtype != dtype:
            raise ValueError(f"{owner}/{name} is {array.dtype}, not {dtype}")
    return {name: saved[name] for name in own}


def _taken(arrays: Arrays, prefix: str, names: Iterable[str]) -> Arrays:
    """The arrays of these names after `prefix`, if present; they are removed from `arrays`."""
    return {name: arrays.pop(f"{prefix}{name}") for name in names if f"{prefix}{name}" in arrays}
