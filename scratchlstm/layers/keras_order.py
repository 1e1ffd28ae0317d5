"""The order in which Keras lists a model's layers, on which that of its weights depends."""

import functools
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from scratchlstm.layers.attention import Attention
from scratchlstm.layers.base import Layer
from scratchlstm.layers.embedding import Embedding
from scratchlstm.layers.masking import Masking
from scratchlstm.layers.merging import Concatenate

Source = tuple[int, int]  # a place's number and which of its outputs; input k has the number -1 - k


class Place(NamedTuple):
    """A layer at one place, and what it takes its inputs from. The same layer may be at several."""

    layer: Layer
    sources: tuple[Source, ...]


class Operation(NamedTuple):
    """An operation that Keras adds to a model's graph to compute a mask."""

    kind: str  # its class in Keras
    sources: tuple[Source, ...]
    options: tuple[tuple[str, Any], ...] = ()
    compared: float | None = None  # what NotEqual compares with


def mask_operations(places: Sequence[Place]) -> tuple[list[Operation], list[list[Source | None]]]:
    """Keras' operations for the masks of a model, and for each place the masks that it is called with, one an input.

    As sources, the operations are numbered from `len(places)` on.
    """
    operations: dict[Operation, Source] = {}
    masks: dict[Source, Source] = {}
    given: list[list[Source | None]] = []

    def add(kind: str, *sources: Source, compared: float | None = None, **options: Any) -> Source:
        operation = Operation(kind, sources, tuple(options.items()), compared)
        return operations.setdefault(operation, (len(places) + len(operations), 0))

    def over_features(source: Source) -> Source:
        """A mask (B, T) with the shape of what it is for, (B, T, E)."""
        if source not in masks:
            return add("OnesLike", source, dtype="bool")
        return add("LogicalOr", add("ExpandDims", masks[source], axis=-1), add("ZerosLike", source, dtype="bool"))

    for number, (layer, sources) in enumerate(places):
        own = [masks.get(source) for source in sources]
        is_model, with_states = hasattr(layer, "places"), len(sources) > 1 and not layer.merges
        # a layer is called with the mask of its input if that is a single tensor, a model with all masks
        given.append(own if is_model or (layer.takes_mask and not layer.merges and not with_states) else [])
        masked: Any = [mask is not None for mask in own] if layer.merges else own[0] is not None
        if is_model or not layer.gives_mask(masked):
            continue  # what a model's mask will be, Keras does not know yet
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
    """The owners of places (default: the places' numbers) in the order in which Keras lists layers.

    Those with the longest path to an output come first; among equals, those that a depth-first search from the outputs
    meets first.

    Args:
        sources: for each place, the numbers of those that it takes its input from; inputs are negative.
        ends: numbers of the places that give the outputs.
        owners: of each place, its layer.
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
