"""One pass over a batch, with what reached each recurrent layer written down; the model itself is left alone."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchlstm._support import checks
from scratchlstm.layers import Bidirectional, Layer, TimeDistributed
from scratchlstm.layers.base import Signal
from scratchlstm.layers.recurrent import Recurrent, States
from scratchlstm.models.model import Model
from scratchlstm.training.data import check_data, check_x


class Recorder(Recurrent):
    """A recurrent layer of the model's twin, which writes down what it is called with.

    Attributes:
        seen: the input (B, T, E), the initial states, and the mask (B, T), None where every step counts.
        reached: dL/dh and dL/d(final states) as `run_back` got them; None before.
    """

    seen: tuple[np.ndarray, States, np.ndarray | None]
    reached: tuple[np.ndarray, Sequence[np.ndarray | None]] | None

    def run(self, x: Signal, states: States, mask: np.ndarray | None) -> tuple[np.ndarray, States]:
        self.seen, self.reached = (np.array(x), [state.copy() for state in states], mask), None
        return super().run(x, states, mask)

    def run_back(self, dh: np.ndarray, d_states: Sequence[np.ndarray | None]) -> tuple[Any, States, States]:
        self.reached = dh, d_states
        return super().run_back(dh, d_states)


class Recording(NamedTuple):
    """A pass: what went in and came out, and the layers by name."""

    x: np.ndarray
    y: np.ndarray | None
    prediction: np.ndarray
    loss: float | None
    layers: dict[str, Recorder]


def record(model: Any, x: Any, y: Any, sample_weight: Any, caller: str) -> Recording:
    """Run x through a twin of the model, without dropout, and with a target the loss back through it.

    The twin reads the model's parameters; states, caches and gradients are its own.

    Args:
        model: built; compiled where y is given.
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
    twin = model.twin()
    layers: dict[str, Recorder] = {}
    for own in twin.layers:
        for name, layer in _recurrent(own, own.name):
            layer.__class__ = type(type(layer).__name__, (Recorder, type(layer)), {})
            layers[name] = layer  # type: ignore[assignment]
    prediction, loss = twin.forward(x), None
    if y is not None:
        loss, dy, from_logits = twin.loss_with_gradient(y, prediction, weight)
        twin.backward(dy, from_logits)
    return Recording(np.array(x), None if y is None else np.array(y), np.array(prediction), loss, layers)


def choose(layers: dict[str, Any], name: str | None) -> Any:
    """The layer of that name; the only one where None.

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


def _recurrent(layer: Layer, name: str) -> Iterator[tuple[str, Recurrent]]:
    """The recurrent layers that a layer is or has, by name."""
    if isinstance(layer, Recurrent):
        yield name, layer
    elif isinstance(layer, Bidirectional):
        yield from ((f"{name}/{end}", each) for end, each in layer.both.items())
    elif isinstance(layer, TimeDistributed):
        yield from _recurrent(layer.layer, f"{name}/{layer.layer.name}")
