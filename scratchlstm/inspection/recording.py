"""Record one pass over a batch: the input of each recurrent layer, and the gradients that arrive there."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scratchlstm._support import checks
from scratchlstm.cells import Cell
from scratchlstm.layers import Bidirectional, TimeDistributed
from scratchlstm.layers.network import Network
from scratchlstm.layers.passes import Cache, Pass
from scratchlstm.layers.rnn import RNN
from scratchlstm.models import Model
from scratchlstm.rows import as_array
from scratchlstm.training.data import Data, check_data, check_x, each_of


@dataclass
class Recorded:
    """A cell's share of a pass.

    Attributes:
        layer: the layer whose cell it is.
        cell: the cell.
        params: its parameters, in the order of `cell.forward`.
        x: its input, (B, T, E).
        states: its initial states.
        mask: (B, T), None if every step is valid.
        reached: dL/dh, shaped like the layer's h, and dL/d(final states); None without a backward pass.
    """

    layer: RNN
    cell: Cell
    params: list[np.ndarray]
    x: np.ndarray
    states: list[np.ndarray]
    mask: np.ndarray | None
    reached: tuple[np.ndarray, list[np.ndarray | None]] | None


class Recording(NamedTuple):
    """A pass: inputs and outputs, and the recurrent layers by name; a layer with several cells as "rnn/cell_0", ..."""

    x: Any  # a tuple for several inputs; likewise y and the prediction
    y: Any
    prediction: Any
    loss: float | None
    layers: dict[str, Recorded]


def record(model: Any, x: Any, y: Any, sample_weight: Any, caller: str) -> Recording:
    """Run x through the model, without dropout, and with a target backpropagate the loss; the model is not changed.

    Args:
        model: built; compiled if y is given.
        x, y, sample_weight: a batch, as in `Model.evaluate`.
        caller: the caller's name, for error messages.

    Raises:
        TypeError: not a model.
        ValueError: not built, a sample_weight without y, or data that do not match.
        RuntimeError: y for a model that is not compiled.
    """
    model, (x, y, weight) = checked(model, x, y, sample_weight, caller)
    arrived: dict[int, Any] = {}
    run = Pass(keeps_states=False, seen=lambda cache, dy: arrived.update({id(_own(cache)): dy}))
    prediction, cache = model.network.forward(x, run)
    prediction, loss = each_of(as_array, prediction), None
    if y is not None:
        loss, dy, from_logits = model.loss_with_gradient(y, prediction, cache.kept, weight)
        # need: so that it also reaches layers that are not trained
        model.back_from_loss(dy, cache, from_logits, need=True)
    layers: dict[str, Recorded] = {}
    for name, each in _recurrent(cache, ""):
        for part_name, part in _cells(each, name, arrived.get(id(each))).items():
            layers[numbered(part_name, layers)] = part
    x, y, prediction = (each_of(np.array, each) for each in (x, y, prediction))
    return Recording(x, y, prediction, loss, layers)


def checked(model: Any, x: Any, y: Any, sample_weight: Any, caller: str) -> tuple[Model, Data]:
    """The model, on the CPU, and the batch; arguments and errors are those of `record`."""
    if not isinstance(model, Model):
        raise TypeError(f"{caller} takes a Sequential or a Model, not {model!r}")
    if not model.built:
        raise ValueError(f"{caller} needs a model with parameters: set an input_shape, call build, or train it first")
    model = model.on_cpu()
    if y is not None:
        model._require_compiled(f"{caller} with y")
        return model, check_data(model, x, y, sample_weight)
    if sample_weight is not None:
        raise ValueError("sample_weight needs a loss, but y is missing")
    return model, Data(check_x(model, x))


def numbered(name: str, others: Collection[str]) -> str:
    """A layer's name, or "name#2" and so on for its further uses."""
    places = sum(other.partition("#")[0] == name for other in others)
    return f"{name}#{places + 1}" if places else name


def choose(layers: dict[str, Any], name: str | None) -> Any:
    """The layer of that name; None means the only one.

    Raises:
        TypeError: a name that is not a string.
        ValueError: no such layer, or several to choose from.
    """
    if name is None and len(layers) == 1:
        return next(iter(layers.values()))
    if name is None:
        raise ValueError(f"there are several layers; choose one by name: {', '.join(layers)}")
    if checks.string("layer", name) not in layers:
        raise ValueError(f"there is no layer {name!r} here; there is {', '.join(layers)}")
    return layers[name]


def _cells(cache: Cache, name: str, dy: Any) -> dict[str, Recorded]:
    """The cells of a recurrent layer in order; `dy` is the gradient at the layer's output, None if there is none."""
    layer, kept, found = cache.layer, cache.kept, {}
    dh, d_states = (None, []) if dy is None else layer.arriving(dy, kept)
    for own, part in reversed(list(zip(layer.cells, kept.parts, strict=True))):
        begin = len(d_states) - len(part.states)
        reached = None if dh is None else (dh, d_states[begin:])
        states = [state.copy() for state in part.states]
        found[f"{name}/{own}" if own else name] = Recorded(
            layer, part.cell, part.params, np.array(part.x), states, part.mask, reached
        )
        if dh is not None and part is not kept.parts[0]:
            dh, d_states = layer.scan_back(dh, d_states[begin:], part, need=True)[0], d_states[:begin]
    return dict(reversed(found.items()))


def _own(cache: Cache) -> Cache:
    """What our class kept, if a derived class has its own forward."""
    return _own(cache.kept) if isinstance(cache.kept, Cache) and cache.kept.layer is cache.layer else cache


def _recurrent(cache: Cache, name: str) -> Iterator[tuple[str, Cache]]:
    """The caches of recurrent layers within a cache, by the layers' names."""
    cache = _own(cache)
    layer, kept = cache.layer, cache.kept
    if isinstance(layer, RNN):
        yield name, cache
    elif isinstance(layer, Bidirectional):
        yield from ((f"{name}/{end}", of) for end, of in zip(layer.parts, kept.caches, strict=True))
    elif isinstance(layer, TimeDistributed):
        yield from _recurrent(kept[0], f"{name}/{layer.layer.name}")
    elif isinstance(layer, Network):
        for of in kept.caches:
            yield from _recurrent(of, f"{name}/{of.layer.name}" if name else of.layer.name)
