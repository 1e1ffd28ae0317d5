"""Layers made of other layers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from scratchlstm.backend import Array
from scratchlstm.layers.base import Layer
from scratchlstm.layers.passes import DropoutMask
from scratchlstm.layers.weights import Shape, as_shape, check_weights
from scratchlstm.rows import as_array

V = TypeVar("V")


def _of_parts(attribute: str) -> Any:
    """A read-only mapping over all parts, built on each access: stored, it would be a reference cycle."""

    def joined(layer: "Composite") -> Mapping[str, Any]:
        parts = layer.parts.items()
        return MappingProxyType({_joined(name, n): of for name, p in parts for n, of in getattr(p, attribute).items()})

    return property(joined, lambda layer, own: None)


class Composite(Layer):
    """A layer that gets its parameters, penalties, states and dropout masks from its parts.

    Args:
        name, dtype, input_shape: see `Layer`.

    Attributes:
        parts: name -> layer; the name and a slash (nothing if it is "") prefix the names of the layer's own parameters.
    """

    parts: Mapping[str, Layer]

    params = _of_parts("params")
    unfrozen_params = _of_parts("unfrozen_params")
    regularizers = _of_parts("regularizers")
    constraints = _of_parts("constraints")
    column_blocks = _of_parts("column_blocks")

    @property
    def dropout_masks(self) -> list[DropoutMask]:  # type: ignore[override]
        """The sources of dropout masks of all parts."""
        return [source for part in self.parts.values() for source in part.dropout_masks]

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """Whether any part keeps its states from batch to batch."""
        return any(part.stateful for part in self.parts.values())

    def freeze_like(self, given: Any) -> None:
        """Freeze the parts if this layer is frozen, unless `given` describes saved parts."""
        if not self.trainable and not isinstance(given, Mapping):
            self.trainable = False

    def shape_inside(self, input_shape: Any) -> Any:
        """The input shape of the parts, for inputs of this shape."""
        return input_shape

    def build(
        self, input_shape: Shape, rng: np.random.Generator | None = None, params: Mapping[str, np.ndarray] | None = None
    ) -> None:
        specs = self.plan(input_shape)
        if self.built:
            return
        if params is not None:
            check_weights(self.name, {name: shape for name, (shape, _) in specs.items()}, params, "float64")
        for name, part in self.parts.items():
            part.build(self.shape_inside(input_shape), rng, None if params is None else of_part(name, params))
        self.input_shape = as_shape(input_shape)

    def check_mask(self, mask: Any, x: Any, dimensions: int = 2) -> np.ndarray | None:
        """As in `Layer`; masks of sequences of sequences may have more dimensions, which the parts check again."""
        mask = None if mask is None else as_array(mask, "mask")
        return super().check_mask(mask, x, max(np.ndim(mask), dimensions))

    def with_inner(self) -> list[Layer]:
        """This layer, its parts, and all layers inside them."""
        return [self, *(inner for part in self.parts.values() for inner in part.with_inner())]

    def set_params(self, arrays: Mapping[str, Array]) -> None:
        for name, part in self.parts.items():
            part.set_params({own: arrays[_joined(name, own)] for own in part.params})

    def to(self, name: str) -> None:
        for part in self.parts.values():
            part.to(name)
            self.backend = part.backend

    def reset_state(self) -> None:
        """Reset the states of every stateful part to zero."""
        for part in self.parts.values():
            part.reset_state()

    reset_states = reset_state

    def extra_state(self) -> dict[str, np.ndarray]:
        states = [with_prefix(name, part.extra_state()) for name, part in self.parts.items()]
        return {name: array for of_one in states for name, array in of_one.items()}

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        for name, part in self.parts.items():
            part.set_extra_state(of_part(name, state))


def of_part(name: str, joined: Mapping[str, V]) -> dict[str, V]:
    """The entries of a joined mapping that belong to the part of this name."""
    prefix = _joined(name, "")
    return {own.removeprefix(prefix): value for own, value in joined.items() if own.startswith(prefix)}


def with_prefix(name: str, own: Mapping[str, V]) -> dict[str, V]:
    """A part's mapping, with its keys as they are in the joined one."""
    return {_joined(name, key): value for key, value in own.items()}


def _joined(part: str, own: str) -> str:
    return f"{part}/{own}" if part else own
