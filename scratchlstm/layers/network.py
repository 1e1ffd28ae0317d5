"""Layers wired together: a layer itself, whose pass runs through all of them."""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from weakref import WeakSet

import numpy as np

from scratchlstm import backend, config
from scratchlstm._support import registry
from scratchlstm._support.checks import came, index, whole_number
from scratchlstm.layers.base import INPUT, KNOWN, Gradients, Layer, Node
from scratchlstm.layers.composite import Composite, of_part, with_prefix
from scratchlstm.layers.keras_order import Place, Source, keras_order, mask_operations
from scratchlstm.layers.passes import Cache, FromLogits, Pass
from scratchlstm.layers.weights import Shape, as_shape, check_weights, same_sizes, with_batch
from scratchlstm.rows import GatheredRows, RowGradient, as_array


class Kept(NamedTuple):
    """What a pass through a network keeps."""

    inputs: list[Any]  # as given
    caches: list[Cache | None]  # one for each place; None if its layer only inferred
    rows: dict[Source, GatheredRows]  # outputs of embeddings, used to sum a gradient of positions into rows
    masks: list[Any]  # of the outputs; False where a loss ignores them


class Network(Composite):
    """A network of layers with any number of inputs and outputs.

    Args:
        inputs: the nodes to start from; their shapes are those of the inputs.
        outputs: the nodes to return.
        name: prefix of the parameters' names.
        output_names: names of the outputs; default: the names of their layers, numbered if a name repeats.
        trainable: see `Layer`.

    Attributes:
        layers: each layer once, in Keras' order, in which a layer follows those its input comes from.
        places: the uses of the layers, in the order of computation.
        ends: the sources of the outputs.
        input_shapes: the shape of one sample for each input; None if not known yet.
        input_names: names of the inputs.

    Raises:
        ValueError: an output that depends on an input which is not listed, an input that no output depends on or
            that is listed twice, two inputs with the same name, or nodes wired in a circle.
    """

    takes_rows: ClassVar = True

    def __init__(
        self,
        inputs: Sequence[Node] = (),
        outputs: Sequence[Node] = (),
        name: str = "network",
        output_names: Sequence[str] | None = None,
        *,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        for argument, nodes in ("inputs", inputs), ("outputs", outputs):
            if not isinstance(nodes, list | tuple) or not all(isinstance(node, Node) for node in nodes):
                raise TypeError(f"{argument} must be a list of outputs of Input and layers, not {came(nodes)}")
        self.layers: list[Layer] = []
        self.places: list[Place] = []
        self.input_shapes: list[Any] = [node.sample_shape for node in inputs] or [None]
        own = [node.layer.name for node in inputs if node.layer.named_by_user]
        self.input_names = _numbered([node.layer.name for node in inputs]) or [INPUT]
        self.named_outputs = None if output_names is None else _names("output", output_names, len(outputs))
        at: dict[object, int] = {node.call: -1 - number for number, node in enumerate(inputs)}
        order = _visited(outputs, at)
        reached = {source.call for node in [*order, *outputs] for source in (node, *node.sources)}
        if stray := [node for node in order if not node.sources and node.call not in at]:
            raise ValueError(f"outputs depend on the Input {stray[0].layer.name!r}, which is not among the inputs")
        if len(at) < len(inputs):
            raise ValueError("inputs must be different, but one of them is listed twice")
        if twice := [name for name, count in Counter(own).items() if count > 1]:
            raise ValueError(f"two of the inputs are named {twice[0]!r}; give each a different name")
        if unused := [n for n, node in zip(self.input_names, inputs, strict=False) if node.call not in reached]:
            raise ValueError(f"no output depends on the input {unused[0]!r}; remove it from inputs")
        for node in order:
            if node.call not in at:
                at[node.call] = len(self.places)
                sources = tuple((at[source.call], source.output) for source in node.sources)
                self.places.append(Place(node.layer, sources))
        self.ends: list[Source] = [(at[node.call], node.output) for node in outputs] or [(-1, 0)]
        self.layers = list(dict.fromkeys(place.layer for place in self.places))
        _alive.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _alive.add(self)

    @property
    def parts(self) -> dict[str, Layer]:  # type: ignore[override]
        """Name -> layer."""
        return {layer.name: layer for layer in self.layers}

    @property
    def merges(self) -> bool:  # type: ignore[override]
        """Whether the input is a list."""
        return len(self.input_shapes) > 1

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """The number of outputs."""
        return len(self.ends)

    @property
    def output_names(self) -> list[str]:
        """The given names of the outputs, or the names of the layers that compute them."""
        if self.named_outputs is not None:
            return list(self.named_outputs)
        return _numbered([self.places[number].layer.name for number, _ in self.ends if number >= 0])

    @property
    def dtypes(self) -> list[str]:
        """The dtype of each output."""
        return [self._dtype(end) for end in self.ends]

    def _dtype(self, source: Source) -> str:
        number, k = source
        layer = self.places[number].layer if number >= 0 else None
        return config.floatx() if layer is None else layer.dtypes[k] if isinstance(layer, Network) else layer.dtype

    @property
    def dtype(self) -> str:
        """The dtype of the first output."""
        return self.dtypes[0]

    @dtype.setter
    def dtype(self, own: str) -> None:
        """Ignored: a network has no dtype of its own."""

    def takers(self, k: int = 0) -> list[Layer]:
        """The layers that take input k, except those that merge it with others or use it as an initial state."""
        return [layer for layer, sources in self.places if sources[0] == (-1 - k, 0) and not layer.merges]

    @property
    def sources(self) -> list[tuple[int, ...]]:
        """For each place, the numbers of the places its inputs come from; -1 - k is input k."""
        return [tuple(number for number, _ in place.sources) for place in self.places]

    @property
    def is_stack(self) -> bool:
        """Whether each layer is used once, and its only input is the output of the layer before."""
        in_a_row = all(own == ((number - 1, 0),) for number, (_, own) in enumerate(self.places))
        of_one = all(layer.outputs == 1 for layer in self.layers) and self.ends == [(len(self.places) - 1, 0)]
        return in_a_row and of_one and len(self.places) == len(self.layers)

    @property
    def built(self) -> bool:
        """Whether all parameters exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    def append(self, layer: Layer) -> None:
        """Add a layer on top of the last one."""
        self.layers.append(layer)
        self.places.append(Place(layer, ((len(self.places) - 1, 0),)))
        self.ends = [(len(self.places) - 1, 0)]

    def into_keras_order(self) -> None:
        """Sort layers and places in Keras' order."""
        names = self.named_outputs
        ends = self.ends if names is None else [end for _, end in sorted(zip(names, self.ends, strict=True))]
        operations, masks = mask_operations(self.places)
        calls = [[*own, *filter(None, of)] for (_, own), of in zip(self.places, masks, strict=True)]
        sources = [[number for number, _ in own] for own in [*calls, *(each.sources for each in operations)]]
        owners = [*(place.layer for place in self.places), *operations]
        found = keras_order(sources, [number for number, _ in ends], owners)
        self.layers = [owner for owner in found if isinstance(owner, Layer)]
        order = [n for n in keras_order(sources, [number for number, _ in ends]) if n < len(self.places)]
        new = {old: number for number, old in enumerate(order)}

        def moved(source: Source) -> Source:
            return new.get(source[0], source[0]), source[1]

        self.places = [Place(p.layer, tuple(map(moved, p.sources))) for p in (self.places[old] for old in order)]
        self.ends = [moved(end) for end in self.ends]

    def uses(self, layer: Layer) -> int:
        """How often one pass uses a layer, including inside other layers."""
        inside = (place.layer for place in self.places)
        return sum(of.uses(layer) if isinstance(of, Network) else layer in of.with_inner() for of in inside)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "inputs": self.input_shapes,
            "input_names": self.input_names,
            "output_names": self.named_outputs,
            "layers": [registry.serialize(layer) for layer in self.layers],
            "places": [[self.layers.index(layer), [list(own) for own in sources]] for layer, sources in self.places],
            "ends": [list(end) for end in self.ends],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Network":
        """The network described by a `get_config`, unbuilt.

        Raises:
            KeyError, TypeError, ValueError: not the description of a network.
        """
        network = cls(name=config["name"], trainable=config.get("trainable", True))
        network.input_shapes = [as_shape(shape) for shape in config["inputs"]]
        names = config.get("input_names") or _numbered([INPUT] * len(network.input_shapes))
        network.input_names = _names("input", names, len(network.input_shapes))
        network.layers = [registry.resolve("layer", saved, KNOWN, Layer) for saved in config["layers"]]
        outputs = {-1 - k: 1 for k in range(len(network.input_shapes))}  # the number of outputs of each place

        def checked(source: Any) -> Source:
            number, k = (whole_number("a source", part, at_least=-len(network.input_shapes)) for part in source)
            if not 0 <= k < outputs.get(number, 0):
                raise ValueError(f"nothing can take its input from {source}")
            return number, k

        for number, (which, sources) in enumerate(config["places"]):
            place = Place(network.layers[index("layer", which, len(network.layers))], tuple(map(checked, sources)))
            states = 0 if place.layer.merges else len(sources) - 1
            if not sources or states not in (0, len(place.layer.state_sizes)):
                raise ValueError(f"layer {number} cannot take its input from {sources}")
            network.places.append(place)
            outputs[number] = place.layer.outputs
        network.ends = [checked(end) for end in config["ends"]]
        if (names := config.get("output_names")) is not None:
            network.named_outputs = _names("output", names, len(network.ends))
        used = {source for place in network.places for source, _ in place.sources} | {end for end, _ in network.ends}
        if used != set(outputs):
            raise ValueError("its layers are not wired as a model's can be")
        return network

    # --- shapes and parameters ------------------------------------------------------------------------------------

    def along(self, start: Any, step: Callable[[Layer, Any, list[Any]], Any]) -> dict[Source, Any]:
        """Apply `step` at each place to the results of the places before it; returns all results by source.

        Args:
            start: the value for the input; a list for several inputs.
            step: takes a layer, its input (a list, for several inputs) and a list of its initial states, and returns a
                list for several outputs.
        """
        found: dict[Source, Any] = {(-1 - k, 0): of for k, of in enumerate(start if self.merges else [start])}
        for number, (layer, sources) in enumerate(self.places):
            given = [found[source] for source in sources]
            made = step(layer, given, []) if layer.merges else step(layer, given[0], given[1:])
            found |= {(number, k): of for k, of in enumerate(made if layer.outputs > 1 else [made])}
        return found

    def output_shape(self, input_shape: Any) -> Any:
        found = self.along(input_shape, lambda layer, shape, states: layer.output_shape(shape))
        return [found[end] for end in self.ends] if self.outputs > 1 else found[self.ends[0]]

    def plan(self, input_shape: Any) -> Any:
        """Check that every layer can take its input for a sample of this shape; see `Layer.plan`."""
        if not self.places:
            raise ValueError("the model has no layers; add some first")
        names = Counter(layer.name for layer in self.layers)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"two of the layers of {self.name} are named {twice[0]!r}; give each a different name")
        specs: dict[str, Any] = {}
        taken: dict[Layer, Any] = {}  # the shapes of its input at its first place, and of its parameters

        def plan(layer: Layer, shape: Any, states: Any) -> Any:
            if states:
                layer.require_states(states)
            again = layer in taken
            own = with_prefix(layer.name, layer.plan(shape))
            sizes = {name: size for name, (size, _) in own.items()}
            before, sizes_before = taken.setdefault(layer, (shape, sizes))
            if sizes != sizes_before:
                problem = f"{layer.name} is used on inputs of different shapes, {before} and {shape}"
                raise ValueError(f"{problem}: make another layer for one of them")
            if again and layer.stateful:
                raise ValueError(f"{layer.name} is stateful, so it can be used only once: make another layer")
            if not again and (twice := own.keys() & specs.keys()):
                raise ValueError(f"two parameters are named {min(twice)}: rename one of their layers")
            specs.update(own)
            return layer.output_shape(shape)

        self.along(self._as_shapes(input_shape), plan)
        return {name: specs[name] for layer in self.layers for name in taken[layer][1]}

    def build(self, input_shape: Any, rng: Any = None, params: Mapping[str, np.ndarray] | None = None) -> None:
        shapes = self._as_shapes(input_shape)
        specs = self.plan(shapes)  # every layer is checked before any is built
        if not self.built:
            if params is not None:
                check_weights(self.name, {name: shape for name, (shape, _) in specs.items()}, params, "float64")

            def build(layer: Layer, shape: Any, states: Any) -> Any:
                layer.build(shape, rng, None if params is None else of_part(layer.name, params))
                return layer.output_shape(shape)

            self.along(shapes, build)
        if self.input_shape is None:
            self.input_shapes = shapes if self.merges else [shapes]
            self.input_shape = tuple(shapes) if self.merges else shapes

    def _as_shapes(self, input_shape: Any) -> Any:
        if not self.merges:
            return self._fitting(0, as_shape(input_shape))
        if not isinstance(input_shape, list | tuple) or len(input_shape) != len(self.input_shapes):
            wanted = f"a list of {len(self.input_shapes)} inputs, {', '.join(self.input_names)}"
            raise ValueError(f"{self.name} takes {wanted}, but got shapes {came(input_shape)}")
        return [self._fitting(k, as_shape(shape)) for k, shape in enumerate(input_shape)]

    def _fitting(self, k: int, shape: Shape) -> Shape:
        """The shape of a sample for input k, checked against what is known about the input.

        Raises:
            ValueError: they differ.
        """
        wanted = self.input_shapes[k]
        if wanted is not None and len(wanted) == len(shape) and not same_sizes(wanted, shape):
            which = f"for {self.input_names[k]!r} " if self.merges else ""
            given = f"{self.name} takes inputs of shape {with_batch(wanted)} {which}".rstrip()
            raise ValueError(f"{given}, but got {with_batch(shape)}")
        return shape

    # --- passes ---------------------------------------------------------------------------------------------------

    def receive(self, x: Any) -> Any:
        """X as passed to the layers, which check and cast it themselves: a list for several inputs."""
        count = len(self.input_shapes)
        if self.merges and (not isinstance(x, list | tuple) or len(x) != count):
            given = f"{len(x)} of them" if isinstance(x, list | tuple) else came(x)
            raise ValueError(f"x of {self.name} must be a list of {count} arrays, one for each input, not {given}")
        inputs = x if self.merges else [x]  # the shape of gathered rows is known without expanding them
        shapes = [(each if isinstance(each, GatheredRows) else as_array(each)).shape[1:] for each in inputs]
        if self.built:
            for k, shape in enumerate(shapes):
                self._fitting(k, shape)
        else:
            self.build(shapes if self.merges else shapes[0])
        return list(x) if self.merges else x

    def checked(self, x: Any, k: int = 0) -> Any:
        """Input k as all layers can take it; cast if only one takes it."""
        taken = [layer.checked(x) for layer in self.takers(k)]
        return taken[0] if len(taken) == sum((-1 - k, 0) in place.sources for place in self.places) == 1 else x

    def cast(self, x: Any) -> Any:
        return self.takers()[0].cast(x) if len(self.takers()) == 1 else x

    def gives_mask(self, masked: Any) -> Any:
        start = masked if self.merges and isinstance(masked, list) else [masked] * len(self.input_shapes)

        def step(layer: Layer, masked: Any, states: Any) -> Any:
            gives = layer.gives_mask(masked)
            return gives if isinstance(gives, list) else layer.per_output(gives, False)

        found = self.along(start if self.merges else start[0], step)
        gives = [bool(found[end]) for end in self.ends]
        return gives if self.outputs > 1 else gives[0]

    def receive_gradient(self, dy: Any, shape: tuple[int, ...]) -> Any:
        """The gradient unchanged; the layer it belongs to checks it."""
        return dy

    def forward(self, x: Any, run: Pass | None = None, mask: Any = None) -> tuple[Any, Any]:
        return self.through(x, run or Pass(), mask)

    def infer(self, x: Any, mask: Any = None) -> Any:
        return self.through(x, Pass(), mask, keep=())[0]

    def through(self, x: Any, run: Pass, mask: Any = None, keep: Container[int] | None = None) -> tuple[Any, Kept]:
        """A forward pass in which only the places with these numbers (None: all) keep what the backward pass needs."""
        caches: list[Cache | None] = []

        def step(layer: Layer, given: Any, states: list[Any]) -> Any:
            several = isinstance(given, list)
            x: Any = [each[0] for each in given] if several else given[0]
            mask: Any = [each[1] for each in given] if several else given[1]
            if states:
                x = (x, *(state for state, _ in states))
            y, cache, mask = layer.pass_on(x, run, mask, keeps=keep is None or len(caches) in keep)
            caches.append(cache)
            return list(zip(y, mask, strict=True)) if layer.outputs > 1 else (y, mask)

        inputs = x if self.merges else [x]
        masks = mask if isinstance(mask, list) else [mask] * len(inputs)
        start = list(zip(inputs, masks, strict=True))
        found = self.along(start if self.merges else start[0], step)
        rows = {source: y for source, (y, _) in found.items() if isinstance(y, GatheredRows)}
        ends = [found[end] for end in self.ends]
        y = tuple(y for y, _ in ends) if len(ends) > 1 else ends[0][0]
        return y, Kept(inputs, caches, rows, [mask for _, mask in ends])

    def pass_on(self, x: Any, run: Pass, mask: Any, keeps: bool) -> tuple[Any, Cache | None, Any]:
        if keeps:
            y, cache = self.forward(x, run, mask)
            masks = cache.kept.masks
        else:
            y, kept = self.through(x, run, mask, keep=())
            masks, cache = kept.masks, None
        return y, cache, masks if len(masks) > 1 else masks[0]

    def head(self, kept: Kept | None = None, end: int = 0) -> tuple[Layer, Any]:
        """An output's last layer that is not the identity in this pass (or without dropout), and what it kept."""
        number, k = self._to_head(end, kept)[-1]
        layer = self.places[number].layer
        own: Any = None if kept is None else kept.caches[number].kept  # type: ignore[union-attr]
        return layer.head(own, k) if isinstance(layer, Network) else (layer, own)

    def _to_head(self, end: int, kept: Kept | None = None, lowest: bool = False) -> list[Source]:
        """The layers from an output back to the head, or back to the lowest layer that can be the head in any pass.

        The last item is the head's own output.
        """
        found = [self.ends[end]]
        while (layer := self.places[number := found[-1][0]].layer).may_be_identity:
            own: Any = None if kept is None else kept.caches[number].kept  # type: ignore[union-attr]
            (below,) = self.places[number].sources
            other = below[0] < 0 or self._dtype(below) != layer.dtype
            if other or not (lowest or layer.is_identity(own)):
                break
            found.append(below)
        return found

    def infer_to_head(self, x: Any) -> tuple[Any, Kept]:
        """The output for x, with what a loss needs of the head or heads."""
        needed = {number for end in range(self.outputs) for number, _ in self._to_head(end, lowest=True)}
        return self.through(x, Pass(), keep=needed)

    def backward(self, dy: Any, cache: Any, need: Any = True) -> tuple[Any, Gradients]:
        arrived: dict[Source, Any] = {}
        for end, d in enumerate(dy if self.outputs > 1 else [dy]):
            source = self._to_head(end, cache)[-1] if isinstance(d, FromLogits) else self.ends[end]
            arrived[source] = self._added(cache, source, arrived.get(source), d)
        grads: Gradients = {}
        reached: set[Layer] = set()
        needs = need if isinstance(need, tuple | list) else [need] * len(self.input_shapes)
        if len(needs) != len(self.input_shapes):
            raise ValueError(f"need of {self.name} must be True, False, or a list with one of them for each input")
        trained = self._above(())
        needed = self._above(-1 - k for k, of_input in enumerate(needs) if of_input)
        for number, (layer, sources) in reversed(list(enumerate(self.places))):
            dys = tuple(arrived.pop((number, k), None) for k in range(layer.outputs))
            of_place = cache.caches[number]
            if of_place is None or number not in needed or all(d is None for d in dys):
                continue
            wanted = tuple(source in needed for source, _ in sources)
            several = len(sources) > 1 or layer.merges
            dx, own = layer.backward(dys if of_place.several else dys[0], of_place, wanted if several else wanted[0])
            reached.add(layer)
            for source, d in zip(sources, dx if several else [dx], strict=True):
                if d is None and source[0] in trained:
                    raise ValueError(f"backward of {layer.name} returned no dx, but layers below it need one")
                arrived[source] = self._added(cache, source, arrived.get(source), d)
            for name, gradient in with_prefix(layer.name, own).items():
                grads[name] = gradient if name not in grads else grads[name] + gradient
        for layer in self.layers:
            if layer not in reached:  # no output depends on it
                unfrozen = layer.unfrozen_params.items()
                zeros = {name: backend.namespace(param).zeros_like(param) for name, param in unfrozen}
                grads |= with_prefix(layer.name, zeros)
        params = self.params
        for name, param in params.items():
            found = grads.get(name)
            if found is not None and (shape := np.shape(found)) != param.shape:
                raise ValueError(f"{name} has shape {param.shape}, but backward returned a gradient of shape {shape}")
        if unknown := grads.keys() - params.keys():
            raise ValueError(f"backward returned gradients of {', '.join(sorted(unknown))}, which are not parameters")
        for k, x in enumerate(cache.inputs):
            if needs[k] and (-1 - k, 0) not in arrived and (x := as_array(x)).dtype.kind == "f":
                arrived[-1 - k, 0] = backend.namespace(x).zeros_like(x)
        dxs = [arrived.get((-1 - k, 0)) for k in range(len(self.input_shapes))]
        return (dxs if self.merges else dxs[0]), {name: grads[name] for name in params if name in grads}

    def _above(self, inputs: Iterable[int]) -> set[int]:
        """The numbers of these inputs (-1 - k is input k), and of the places that need a gradient for them or for
        parameters trained at or below the place.
        """
        found = set(inputs)
        for number, (layer, sources) in enumerate(self.places):
            if layer.unfrozen_params or any(source in found for source, _ in sources):
                found.add(number)
        return found

    def _added(self, kept: Kept, source: Source, one: Any, other: Any) -> Any:
        """The sum of two gradients of this source's output; None stands for zero."""
        if one is None or other is None:
            return other if one is None else one
        if isinstance(one, FromLogits) or isinstance(other, FromLogits):
            pair = (d if isinstance(d, FromLogits) else FromLogits(None, d) for d in (one, other))
            return FromLogits(*(self._added(kept, source, *of_both) for of_both in zip(*pair, strict=True)))
        if isinstance(one, RowGradient) or isinstance(other, RowGradient):
            one, other = (kept.rows[source].row_gradient(d) for d in (one, other))
        return one + other


_alive: WeakSet[Network] = WeakSet()  # all existing networks


def networks_of(layer: Layer) -> list[Network]:
    """The networks that contain a layer."""
    return [network for network in list(_alive) if layer in network.layers]


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, numbered when they repeat."""
    different: list[str] = []
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        different.append(next(each for each in candidates if each not in different))
    return different


def _names(what: str, names: Any, count: int) -> list[str]:
    """Names of inputs or outputs given by the caller, checked.

    Raises:
        ValueError: not one string for each, all different.
    """
    listed = names if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else []
    if not len(listed) == len({*listed}) == count:
        raise ValueError(f"{what}_names must be {count} different names, not {came(names)}")
    return list(listed)


def _visited(outputs: Sequence[Node], inputs: Collection[object]) -> list[Node]:
    """One node of each call the outputs depend on, each after the nodes its inputs come from.

    Args:
        outputs: the nodes to start from.
        inputs: the calls to stop at.

    Raises:
        ValueError: a node depends on itself.
    """
    order: dict[object, Node] = {}
    to_visit, begun = list(reversed(outputs)), set[object]()
    while to_visit:
        node = to_visit[-1]
        begun.add(node.call)
        missing = [] if node.call in inputs else [source for source in node.sources if source.call not in order]
        if not missing:
            order.setdefault(to_visit.pop().call, node)
        elif missing[0].call in begun:
            raise ValueError(f"the layers are wired in a circle: {missing[0].layer.name} depends on its own output")
        else:
            to_visit.append(missing[0])
    return list(order.values())
