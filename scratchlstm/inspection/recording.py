"""One pass over a batch: what each recurrent layer was given, and the gradients that arrived there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scratchlstm._support import checks
from scratchlstm.layers import Bidirectional, TimeDistributed
from scratchlstm.layers.network import Network
from scratchlstm.layers.passes import Cache, Pass
from scratchlstm.layers.rnn import RNN
from scratchlstm.models import Model
from scratchlstm.rows import as_array
from scratchlstm.training.data import check_data, check_x, each_of


@dataclass
class Recorded:
    """A recurrent layer's part in a pass.

    Attributes:
        layer: the layer.
        x: its input, (B, T, E).
        states: its initial states.
        mask: (B, T), None if every step counts.
        reached: dL/dh, as the layer gave h, and dL/d(final states); None if there was no backward pass.
    """

    layer: RNN
    x: np.ndarray
    states: list[np.ndarray]
    mask: np.ndarray | None
    reached: tuple[np.ndarray, list[np.ndarray | None]] | None = None


class Recording(NamedTuple):
    """A pass: what went in and came out, and the layers by name."""

    x: Any  # a tuple of several, and so are y and the prediction
    y: Any
    prediction: Any
    loss: float | None
    layers: dict[str, Recorded]


def record(model: Any, x: Any, y: Any, sample_weight: Any, caller: str) -> Recording:
    """Run x through the model, without dropout, and with a target the loss back through it; the model is left as it is.

    Args:
        model: built; compiled if y is given.
        x, y, sample_weight: a batch, as in `Model.evaluate`.
        caller: who asks, for errors.

    Raises:
        TypeError: not a model.
        ValueError: not built, a sample_weight without y, or data that do not fit.
        RuntimeError: y for a model that is not compiled.
    """
    if not isinstance(model, Model):
        raise TypeError(f"{caller} takes a Sequential or a Model, not {model!r}")
    if not model.built:
        raise ValueError(f"{caller} needs a model with parameters: state an input_shape, call build, or train it first")
    model = model.on_cpu()
    if y is None:
        if sample_weight is not None:
            raise ValueError("sample_weight weighs the loss, for which y is missing")
        x, weight = check_x(model, x), None
    else:
        model._require_compiled(f"{caller} with y")
        x, y, weight = check_data(model, x, y, sample_weight)
    arrived: dict[int, Any] = {}
    run = Pass(keeps_states=False, seen=lambda cache, dy: arrived.update({id(_own(cache)): dy}))
    prediction, cache = model.network.forward(x, run)
    prediction, loss = each_of(as_array, prediction), None
    if y is not None:
        loss, dy, from_logits = model.loss_with_gradient(y, prediction, cache.kept, weight)
        # need: so that it arrives at layers that are not trained, too
        model.back_from_loss(dy, cache, from_logits, need=True)
    layers: dict[str, Recorded] = {}
    for name, each in _recurrent(cache, ""):
        number = sum(other.partition("#")[0] == name for other in layers)  # of the places where the layer is
        kept, dh = each.kept, arrived.get(id(each))
        reached = None if dh is None else each.layer.arriving(dh, kept)
        first, states = kept.parts[0], [state.copy() for part in kept.parts for state in part.states]
        part = Recorded(each.layer, np.array(first.x), states, first.mask, reached)
        layers[f"{name}#{number + 1}" if number else name] = part
    x, y, prediction = (each_of(np.array, each) for each in (x, y, prediction))
    return Recording(x, y, prediction, loss, layers)


def choose(layers: dict[str, Any], name: str | None) -> Any:
    """The layer of that name; the only one if None.

    Raises:
        TypeError: a name that is not a string.
        ValueError: no such layer, or several to choose from.
    """
    if name is None and len(layers) == 1:
        return next(iter(layers.values()))
    if name is None:
        raise ValueError(f"there are several layers, so choose one by name: {', '.join(layers)}")
    if checks.string("layer", name) not in layers:
        raise ValueError(f"there is no layer {name!r} to look into; there is {', '.join(layers)}")
    return layers[name]


def _own(cache: Cache) -> Cache:
    """What our class kept, if a class derived from it has a forward of its own."""
    return _own(cache.kept) if isinstance(cache.kept, Cache) and cache.kept.layer is cache.layer else cache


def _recurrent(cache: Cache, name: str) -> Iterator[tuple[str, Cache]]:
    """The caches of recurrent layers within one, by the layers' names."""
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
