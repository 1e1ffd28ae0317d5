"""The order in which Keras lists a model's layers, which decides the order of its weights."""

import functools
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from scratchlstm.layers.attention import Attention
from scratchlstm.layers.base import Layer
from scratchlstm.layers.embedding import Embedding
from scratchlstm.layers.masking import Masking
from scratchlstm.layers.merging import Concatenate

Source = tuple[int, int]  # a place's number and the index of its output; input k has number -1 - k


class Place(NamedTuple):
    """One use of a layer, and the sources of its inputs. A layer may be used at several places."""

    layer: Layer
    sources: tuple[Source, ...]


class Operation(NamedTuple):
    """An operation that Keras adds to a model's graph to compute a mask."""

    kind: str  # class name in Keras
    sources: tuple[Source, ...]
    options: tuple[tuple[str, Any], ...] = ()
    compared: float | None = None  # the value NotEqual compares with


def mask_operations(places: Sequence[Place]) -> tuple[list[Operation], list[list[Source | None]]]:
    """Keras' operations for a model's masks, and for each place the masks it is called with, one per input.

    As sources, the operations are numbered starting at `len(places)`.
    """
    operations: dict[Operation, Source] = {}
    masks: dict[Source, Source] = {}
    given: list[list[Source | None]] = []

    def add(kind: str, *sources: Source, compared: float | None = None, **options: Any) -> Source:
        operation = Operation(kind, sources, tuple(options.items()), compared)
        return operations.setdefault(operation, (len(places) + len(operations), 0))

    def over_features(source: Source) -> Source:
        """A mask (B, T) broadcast to the shape of its input, (B, T, E)."""
        if source not in masks:
            return add("OnesLike", source, dtype="bool")
        return add("LogicalOr", add("ExpandDims", masks[source], axis=-1), add("ZerosLike", source, dtype="bool"))

    for number, (layer, sources) in enumerate(places):
        own = [masks.get(source) for source in sources]
        is_model, with_states = hasattr(layer, "places"), len(sources) > 1 and not layer.merges
        # a layer gets a mask if its input is a single tensor; a model gets all masks
        given.append(own if is_model or (layer.takes_mask and not layer.merges and not with_states) else [])
        masked: Any = [mask is not None for mask in own] if layer.merges else own[0] is not None
        if is_model or not layer.gives_mask(masked):
            continue  # Keras does not know yet what the model's output mask will be
        if isinstance(layer, Embedding):
            mask = add("NotEqual", sources[0], compared=0)
        elif isinstance(layer, Masking):
            mask = add("Any", add("NotEqual", sources[0], compared=layer.mask_value), axis=-1, keepdims=False)
        elif isinstance(layer, Concatenate):
            side_by_side = add("Concatenate", *map(over_features, sources), axis=layer.axis)
            mask = add("Any", side_by_side, axis=-1, keepdims=False)
        elif isinstance(layer, Attention):
            mask = add("ConvertToTensor", masks[sources[0]])
        else:
            of_inputs = [masks[source] for source in (sources if layer.merges else sources[:1])]
            mask = functools.reduce(lambda one, other: add("LogicalOr", one, other), of_inputs)
        masks |= {(number, k): mask for k in range(layer.masked_outputs)}
    return list(operations), given


def keras_order(
    sources: Sequence[Sequence[int]], ends: Sequence[int], owners: Sequence[Hashable] | None = None
) -> list[Any]:
    """The owners of the places (default: the places' numbers) in the order in which Keras lists layers.

    Layers with the longest path to an output come first; ties are in the order of a depth-first search from the
    outputs.

    Args:
        sources: for each place, the numbers of the places its inputs come from; inputs are negative.
        ends: the numbers of the places whose outputs are the model's.
        owners: the layer of each place.
    """
    owners = range(len(sources)) if owners is None else owners
    met: dict[Any, None] = {}
    seen: set[int] = set()
    finished: list[int] = []
    to_visit = [(number, False) for number in reversed(ends)]
    while to_visit:
        number, done = to_visit.pop()
        if done:
            finished.append(number)
        elif number >= 0 and number not in seen:
            seen.add(number)
            met[owners[number]] = None
            to_visit.append((number, True))
            to_visit += [(source, False) for source in reversed(sources[number])]
    depth, of_owner = [0] * len(sources), dict.fromkeys(met, 0)
    for number in reversed(finished):
        depth[number] = of_owner[owners[number]] = max(depth[number], of_owner[owners[number]])
        for source in sources[number]:
            if source >= 0:
                depth[source] = max(depth[source], depth[number] + 1)
    return sorted(met, key=lambda owner: -of_owner[owner])
