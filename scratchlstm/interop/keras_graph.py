"""Keras' JSON description of a model's wiring, converted from and to a `Network`.

A `Sequential` lists its layers, a functional model also the calls of each layer, `inbound_nodes`. There, a tensor is
identified by its history: the name of the layer that made it, the number of the call and the number of the output.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from scratchlstm._support import registry
from scratchlstm._support.checks import whole_number
from scratchlstm.interop.keras_config import Description, describe_layer, keras_thing, layer_from, refuse_unknown
from scratchlstm.layers import Attention, Bidirectional, Embedding, Input, Layer
from scratchlstm.layers.base import Node
from scratchlstm.layers.keras_order import Operation, Place, Source, mask_operations
from scratchlstm.layers.network import Network
from scratchlstm.layers.weights import as_shape

History = tuple[str, int, int]
Call = tuple[str, int]
_UNKNOWN: Source = (0, -1)  # the result of an operation that does not make one of our masks


# --- to Keras ---------------------------------------------------------------------------------------------------------


def is_sequential(network: Network) -> bool:
    """Whether it becomes a `Sequential` in Keras rather than a functional model."""
    return network.is_stack and network.named_outputs is None


def describe_network(network: Network, batch_size: int | None = None) -> Description:
    """The model as in config.json, for batches of any size or of a fixed size.

    Raises:
        ValueError: a name that Keras does not allow, or a layer that it does not have.
    """
    starts = []
    for k, (name, shape) in enumerate(zip(network.input_names, network.input_shapes, strict=True)):
        dtype = "int32" if _reads_ids(network, k) else _readers(network, k)[0][0].dtype
        stated = {"batch_shape": [batch_size, *shape], "dtype": dtype, "name": name}
        starts.append(keras_thing("keras.layers", {"class_name": "InputLayer", "config": stated}))
    if not is_sequential(network):
        return _Described(network, starts).model()
    layers = [*starts, *map(_describe_part, network.layers)]
    own = {"name": network.name} | ({} if network.trainable else {"trainable": False})
    described = {"class_name": "Sequential", "config": own | {"layers": layers}}
    return keras_thing("keras", described) | {"build_config": {"input_shape": starts[0]["config"]["batch_shape"]}}


def _describe_part(layer: Layer) -> Description:
    return describe_network(layer) if isinstance(layer, Network) else describe_layer(layer)


def _readers(network: Network, k: int) -> list[tuple[Layer, int]]:
    """The layers that read input k, and as which of their inputs."""
    source = (-1 - k, 0)
    return [(layer, n) for layer, own in network.places for n, each in enumerate(own) if each == source]


def _reads_ids(network: Network, k: int) -> bool:
    """Whether only embeddings read input k."""
    readers = _readers(network, k)
    return all(_reads_ids(of, n) if isinstance(of, Network) else isinstance(of, Embedding) for of, n in readers)


class _Described:
    """A network as a functional model, its layers and operations described one after another."""

    def __init__(self, network: Network, starts: Sequence[Description]) -> None:
        self.network = network
        self.operations, self.masks = mask_operations(network.places)
        self.parts: dict[str, Description] = {}
        for described in [*starts, *map(_describe_part, network.layers)]:
            name = described["config"]["name"]
            if name in self.parts:
                raise ValueError(f"{network.name} has two inputs or layers named {name!r}: rename one for Keras")
            self.parts[name] = described | {"name": name, "inbound_nodes": []}
        self.histories: dict[Source, History] = {}
        for k, name in enumerate(network.input_names):
            self.histories[-1 - k, 0] = name, 0, 0
        calls: Counter[Layer] = Counter()
        for number, (layer, _) in enumerate(network.places):
            self.histories |= {
                (number, k): (layer.name, calls[layer], _position(layer, k)) for k in range(layer.outputs)
            }
            calls[layer] += 1

    def model(self) -> Description:
        """The model."""
        network, names = self.network, self.network.named_outputs
        used = {source for place in network.places for source in place.sources} | {*network.ends}
        for number, (layer, own) in enumerate(network.places):
            x, *states = map(self.tensor, own)
            named: Description = {}
            if states and not layer.merges:
                named["initial_state"] = by_cell(layer, states)
            if isinstance(layer, Attention) and (number, 1) in used:
                named["return_attention_scores"] = True
            masks = [None if mask is None else self.tensor(mask) for mask in self.masks[number]]
            if any(masks):
                named["mask"] = masks if layer.merges else masks[0]
            call = {"args": [[x, *states] if layer.merges else x], "kwargs": named}
            self.parts[layer.name]["inbound_nodes"].append(call)
        ends = [self.end(source) for source in network.ends]
        inputs = [[name, 0, 0] for name in network.input_names]
        config = {"name": network.name, "trainable": network.trainable, "layers": list(self.parts.values())}
        config["input_layers"] = inputs if len(inputs) > 1 else inputs[0]
        config["output_layers"] = (
            (ends if len(ends) > 1 else ends[0]) if names is None else dict(zip(names, ends, strict=True))
        )
        described = keras_thing("keras.src.models.functional", {"class_name": "Functional", "config": config})
        return described | {"registered_name": "Functional"}

    def tensor(self, source: Source) -> Description:
        """The argument of a call. Keras gets its shape and dtype from the layers when reading this."""
        if source not in self.histories:
            self.histories[source] = self.add(self.operations[source[0] - len(self.network.places)]), 0, 0
        config = {"shape": [None], "dtype": "float32", "keras_history": [*self.histories[source]]}
        return {"class_name": "__keras_tensor__", "config": config}

    def add(self, operation: Operation) -> str:
        """Describe an operation that makes a mask, and return its name."""
        kind = operation.kind
        given: list[Any] = [self.tensor(source) for source in operation.sources]
        given = [given] if kind == "Concatenate" else given
        given += [] if operation.compared is None else [operation.compared]
        numbered = (f"mask_{registry.snake_case(kind)}_{number}" for number in itertools.count())
        name = next(name for name in numbered if name not in self.parts)
        module = "keras.src.ops.core" if kind == "ConvertToTensor" else "keras.src.ops.numpy"
        self.parts[name] = {
            "module": module,
            "class_name": kind,
            "config": {"name": name, **dict(operation.options)},
            "registered_name": kind,
            "name": name,
            "inbound_nodes": [{"args": given, "kwargs": {}}],
        }
        return name

    def end(self, source: Source) -> list[Any]:
        """An output of the model."""
        name, call, output = self.histories[source]
        return [name, call + _first_call(self.parts[name]), output]


def by_cell(layer: Any, states: Sequence[Any]) -> list[Any]:
    """A recurrent layer's states as in Keras: with several cells, a list for each cell that has several states."""
    if isinstance(layer, Bidirectional):
        half = len(states) // 2
        return by_cell(layer.forward_layer, states[:half]) + by_cell(layer.backward_layer, states[half:])
    if "" in layer.cells:
        return [*states]
    rest = iter(states)
    cells = [list(itertools.islice(rest, len(cell.states))) for cell in layer.cells.values()]
    return [own if len(own) > 1 else own[0] for own in cells]


def _first_call(described: Mapping[str, Any]) -> int:
    """The number of a layer's first call in a model's outputs; in other histories it is 0."""
    return int(described.get("class_name") == "Functional")


def _position(layer: Layer, k: int) -> int:
    """Keras' number for output k: it sorts the outputs of a dict by name."""
    names = layer.named_outputs if isinstance(layer, Network) else None
    return k if names is None else sorted(names).index(names[k])


# --- from Keras -------------------------------------------------------------------------------------------------------


def network_from(described: Mapping[str, Any]) -> Network:
    """The network that Keras describes, not built; its layers are in Keras' order.

    Raises:
        ValueError: a layer, a setting or a call that we do not support, or impossible wiring.
    """
    kind, config = described["class_name"], described["config"]
    if not _is_model(described):
        raise ValueError(
            f"it is a {kind} of {described['module']}, but only Sequential and Functional models can be read"
        )
    if kind == "Functional":
        return _Wiring(config).network()
    start, parts = _input_of(config, described.get("build_config"))
    layers = [_part_from(each) for each in parts]
    _require_different([layer.name for layer in layers])
    node: Any = start
    for layer in layers:
        node = layer(node)
        if not isinstance(node, Node):
            raise ValueError(f"{layer.name} gives {len(node)} outputs, which a Sequential does not support")
    return Network([start], [node], config["name"], trainable=config.get("trainable", True))


def _is_model(described: Mapping[str, Any]) -> bool:
    module, kind = described["module"], described["class_name"]
    known = str(module).startswith("keras.") if kind == "Functional" else (module, kind) == ("keras", "Sequential")
    return known and described.get("registered_name") in (None, kind)


def _part_from(described: Any) -> Layer:
    return network_from(described) if _is_model(described) else layer_from(described)


def _require_different(names: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"the model already has a layer named {twice[0]!r}")


def _input_of(config: Mapping[str, Any], build_config: Any) -> tuple[Input, list[Description]]:
    """The input of a `Sequential`, and the layers except the one that declares it."""
    described = list(config["layers"])
    if described and described[0]["class_name"] == "InputLayer":
        start = _input_from(described.pop(0)["config"])
    else:
        shape = config.get("build_input_shape") or (build_config or {}).get("input_shape")
        if shape is None:
            raise ValueError("the model has no input shape: it was never built")
        start = Input(as_shape(tuple(shape)[1:]))
    if not described:
        raise ValueError("the model has no layers")
    return start, described


def _input_from(config: Mapping[str, Any]) -> Input:
    refuse_unknown("the input", config, {"batch_shape", "dtype", "name"})
    return Input(as_shape(tuple(config["batch_shape"])[1:]), name=config["name"])


class _Wiring:
    """A functional Keras model, rebuilt by calling its layers again."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config, described = config, config["layers"]
        refuse_unknown("the model", config, {"name", "trainable", "layers", "input_layers", "output_layers"})
        _require_different([each["name"] for each in described])
        self.described = {each["name"]: each for each in described}
        self.layers: dict[str, Layer] = {}
        self.made: dict[Call, list[Node]] = {}
        self.calls: list[Call] = []  # in an order in which they can be made

    def network(self) -> Network:
        """The network."""
        sources: dict[Call, set[Call]] = {}
        for name, each in self.described.items():
            if each["class_name"] == "InputLayer":
                self.made[name, 0] = [_input_from(each["config"])]
            elif not _is_operation(each):
                self.layers[name] = _part_from(each)
            for number, call in enumerate(each["inbound_nodes"]):
                found: list[History] = []
                _filled([call["args"], call["kwargs"]], found.append)
                sources[name, number] = {(of, its_call) for of, its_call, _ in found}
        try:
            self.calls = [call for call in TopologicalSorter(sources).static_order() if call not in self.made]
        except CycleError as error:
            raise ValueError(f"the layers are wired in a circle: {error.args[1][0][0]!r} depends on itself") from error
        for name, number in self.calls:
            if (name, number) not in sources:
                raise ValueError(f"a layer takes its input from call {number} of {name!r}, which does not exist")
            if name in self.layers:
                self.call(name, number)
        self.check_masks()
        inputs, input_names = _ends(self.config["input_layers"])
        ends, output_names = _ends(self.config["output_layers"])
        starts = [self.node(history) for history in inputs]
        outputs = [self.node((of, call - _first_call(self.described.get(of, {})), k)) for of, call, k in ends]
        if through := [node for node in outputs if isinstance(node, Input)]:
            raise ValueError(f"an output of the model is its input {through[0].name!r}, unchanged by any layer")
        if inside := [node for node in starts if not isinstance(node, Input)]:
            raise ValueError(f"an input of the model is the output of its layer {inside[0].layer.name!r}")
        trainable = self.config.get("trainable", True)
        network = Network(starts, outputs, self.config["name"], output_names, trainable=trainable)
        network.input_names = input_names or network.input_names
        network.layers = [layer for layer in self.layers.values() if layer in {*network.layers}]
        return network

    def arguments(self, name: str, number: int) -> dict[str, Any]:
        """The arguments of a call, by name."""
        call, layer = self.described[name]["inbound_nodes"][number], self.layers[name]
        names = ("x", *layer.call_order)
        if not 0 < len(call["args"]) <= len(names) or {*names[: len(call["args"])]} & call["kwargs"].keys():
            raise ValueError(f"{name} is called with other arguments than {', '.join(names)} in this order")
        return dict(zip(names, call["args"], strict=False)) | call["kwargs"]

    def call(self, name: str, number: int) -> None:
        """Call a layer as Keras did, except for the mask, which comes with x."""
        layer, given = self.layers[name], self.arguments(name, number)
        given = {key: _filled(value, self.node) for key, value in given.items() if key != "mask" and value is not None}
        x = given.pop("x")
        if given.get("training") is False:
            del given["training"]
        try:
            made = layer(_by_input(layer, x) if isinstance(x, Mapping) else x, **given)
        except TypeError as error:
            raise ValueError(str(error)) from error
        self.made[name, number] = made if isinstance(made, list) else [made]

    def node(self, history: History) -> Node:
        """The node with this history."""
        name, call, output = history
        described = self.described.get(name, {})
        if described and _is_operation(described):
            what = f"{described['module']}.{described['class_name']}"
            raise ValueError(f"scratchlstm has no counterpart of {what}, which computes {name!r}")
        outputs = self.made.get((name, call), [])
        if output >= len(outputs):
            raise ValueError(f"the model uses output {output} of call {call} of {name!r}, which does not exist")
        return outputs[output]

    def check_masks(self) -> None:
        """Raise an error for masks other than those of the inputs: our calls take no others.

        Keras records the operations that compute a mask, and the mask among the arguments.
        """
        numbers = {made[0].call: -1 - k for k, made in enumerate(self.made.values()) if isinstance(made[0], Input)}
        calls = [(name, number) for name, number in self.calls if name in self.layers]
        places: list[Place] = []
        for call in calls:
            node = self.made[call][0]
            numbers[node.call] = len(places)
            places.append(Place(node.layer, tuple((numbers[each.call], each.output) for each in node.sources)))
        operations, masks = mask_operations(places)
        known = {_key(*operation): (len(places) + number, 0) for number, operation in enumerate(operations)}
        found: dict[str, Source] = {}  # results of operations

        def source(history: History) -> Source:
            if history[0] in found:
                return found[history[0]]
            node = self.node(history)
            return numbers[node.call], node.output

        for name, number in self.calls:
            if name not in self.layers:
                described = self.described[name]
                given = _flat(_filled(described["inbound_nodes"][number]["args"], source))
                sources = tuple(each for each in given if isinstance(each, tuple))
                others = [each for each in given if not isinstance(each, tuple)]
                key = _key(described["class_name"], sources, described["config"].items(), *others[:1])
                found[name] = known.get(key, _UNKNOWN) if len(others) < 2 else _UNKNOWN
                if described["class_name"] == "Cast" and sources:  # to the layer's dtype: the mask stays the same
                    found[name] = sources[0]
        for call, own in zip(calls, masks, strict=True):
            mask = self.arguments(*call).get("mask")
            given = _by_input(self.layers[call[0]], _filled(mask, source))
            if any(of not in (None, wanted) for of, wanted in itertools.zip_longest(given, own)):
                raise ValueError(
                    f"{call[0]} is called with a mask= other than its input's, which is not supported here"
                )


def _by_input(layer: Layer, given: Any) -> list[Any]:
    """The entry for each of a layer's inputs."""
    if isinstance(given, Mapping) and isinstance(layer, Network):
        return [given[name] for name in layer.input_names]
    return given if isinstance(given, list) else [given]


def _is_operation(described: Mapping[str, Any]) -> bool:
    return str(described["module"]).startswith("keras.src.ops.")


def _key(kind: str, sources: tuple[Source, ...], options: Iterable[tuple[str, Any]], compared: Any = None) -> Any:
    """The key that distinguishes an operation from others."""
    return (
        kind,
        sources,
        str(dict(options).get("axis")),
        compared if isinstance(compared, int | float) else str(compared),
    )


def _ends(described: Any) -> tuple[list[History], list[str] | None]:
    """The histories of a model's inputs or outputs, in Keras' order, and their names, if any.

    Raises:
        ValueError: they are nested.
    """
    if isinstance(described, Mapping):
        names = sorted(described)
        return [_history(described[name]) for name in names], names
    several = isinstance(described, list | tuple) and described and isinstance(described[0], list | tuple)
    return [_history(each) for each in described] if several else [_history(described)], None


def _history(described: Any) -> History:
    if not isinstance(described, list | tuple) or len(described) != 3 or not isinstance(described[0], str):
        raise ValueError(f"the history of a tensor must be a layer's name and two numbers, not {described!r:.80}")
    name, call, output = described
    return name, whole_number("the number of a call", call), whole_number("the number of an output", output)


def _filled(value: Any, of: Callable[[History], Any]) -> Any:
    """A described argument, with each tensor's history replaced by the result of `of`."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return of(_history(value["config"]["keras_history"]))
        return {key: _filled(each, of) for key, each in value.items()}
    return [_filled(each, of) for each in value] if isinstance(value, list | tuple) else value


def _flat(value: Any) -> list[Any]:
    return [leaf for each in value for leaf in _flat(each)] if isinstance(value, list) else [value]
