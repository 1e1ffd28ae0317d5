"""Layers that are made of layers."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import numpy as np

from scratchlstm.layers.base import Layer
from scratchlstm.layers.passes import DropoutMask

V = TypeVar("V")


def _of_parts(attribute: str) -> Any:
    """A mapping that all parts have, as one; made when it is read, since a kept one would be a reference cycle."""
    return property(lambda layer: Joined(layer, attribute), lambda layer, own: None)


class Composite(Layer):
    """What such a layer has through its parts: parameters, penalties, states, dropout's masks.

    Args:
        name, dtype, input_shape: see `Layer`.

    Attributes:
        parts: name -> layer; the name, unless it is "", and a slash precede the names of the layer's own parameters.
    """

    parts: Mapping[str, Layer]

    params = _of_parts("params")
    regularizers = _of_parts("regularizers")
    constraints = _of_parts("constraints")

    @property
    def dropout_masks(self) -> list[DropoutMask]:  # type: ignore[override]
        """Those of all parts."""
        return [source for part in self.parts.values() for source in part.dropout_masks]

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """Whether a part keeps its states from batch to batch."""
        return any(part.stateful for part in self.parts.values())

    def with_inner(self) -> list[Layer]:
        """This layer, its parts, and what is inside them."""
        return [self, *(inner for part in self.parts.values() for inner in part.with_inner())]

    def to(self, name: str) -> None:
        for part in self.parts.values():
            part.to(name)
            self.backend = part.backend

    def reset_state(self) -> None:
        """Let every stateful part begin from zeros."""
        for part in self.parts.values():
            part.reset_state()

    reset_states = reset_state

    def extra_state(self) -> dict[str, np.ndarray]:
        states = [with_prefix(name, part.extra_state()) for name, part in self.parts.items()]
        return {name: array for of_one in states for name, array in of_one.items()}

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        for name, part in self.parts.items():
            part.set_extra_state(of_part(name, state))


class Joined(MutableMapping[str, V]):
    """A mapping that each of several layers has, as one, each name behind its layer's: "forward/kernel".

    It reads the layers' own mappings, whatever they are at the time.
    """

    def __init__(self, owner: Composite, attribute: str) -> None:
        self.owner, self.attribute = owner, attribute

    def _own(self, name: str) -> tuple[Any, str]:
        """The mapping that has it, and its name there."""
        parts = self.owner.parts
        part, _, own = ("", "", name) if "" in parts else name.partition("/")
        if part not in parts or own not in getattr(parts[part], self.attribute):  # a slash in a layer's own name
            found = [each for each in parts if name.startswith(f"{each}/")]
            part, own = next(((p, o) for p in found if (o := name[len(p) + 1 :]) in parts[p].params), ("", name))
            if part not in parts:
                raise KeyError(name)
        return getattr(parts[part], self.attribute), own

    def __getitem__(self, name: str) -> V:
        of, own = self._own(name)
        return of[own]

    def __setitem__(self, name: str, value: V) -> None:
        of, own = self._own(name)
        of[own] = value

    def __delitem__(self, name: str) -> None:
        of, own = self._own(name)
        del of[own]

    def __iter__(self) -> Iterator[str]:
        parts = self.owner.parts.items()
        return (_joined(name, own) for name, part in parts for own in getattr(part, self.attribute))

    def __len__(self) -> int:
        return sum(len(getattr(part, self.attribute)) for part in self.owner.parts.values())


def of_part(name: str, joined: Mapping[str, V]) -> dict[str, V]:
    """What the part of that name has of a joined mapping."""
    prefix = _joined(name, "")
    return {own.removeprefix(prefix): value for own, value in joined.items() if own.startswith(prefix)}


def with_prefix(name: str, own: Mapping[str, V]) -> dict[str, V]:
    """A part's mapping under the names it has in a joined one."""
    return {_joined(name, key): value for key, value in own.items()}


def _joined(part: str, own: str) -> str:
    return f"{part}/{own}" if part else own
