"""Layers that wrap other layers."""

import copy
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np

from scratchlstm import config
from scratchlstm._support import registry
from scratchlstm.backend import Array
from scratchlstm.layers.base import KNOWN, Gradients, Layer, LayerOptions, Signal
from scratchlstm.layers.composite import Composite, with_prefix
from scratchlstm.layers.passes import Cache, Pass
from scratchlstm.layers.rnn import RNN, has_states, no_layer
from scratchlstm.layers.weights import Shape, Specs
from scratchlstm.rows import RowGradient, as_array

MERGE_MODES = ("concat", "sum", "ave", "mul", None)


class Kept(NamedTuple):
    """What a forward pass of `Bidirectional` keeps."""

    x: Signal
    y: tuple[Array, Array]  # of both layers, in the order of time
    caches: tuple[Cache, Cache]
    given: bool  # whether the caller gave initial states


class Bidirectional(Composite):
    """Runs a recurrent layer over a sequence in both directions (Schuster & Paliwal, 1997), as in Keras.

    Args:
        layer: a recurrent layer: `LSTM`, `GRU`, `RNN(cell)`, ... The forward layer is a copy with its settings; so is
            the backward layer, except for `go_backwards`. Both start with parameters of their own. If the output is a
            sequence, it is 0 at masked steps.
        merge_mode: "concat" (features side by side), "sum", "ave", "mul", or None for two outputs.
        backward_layer: another layer for the reverse direction, with `go_backwards=True`.
        options: name, dtype (that of `layer`), input_shape; see `Layer`.

    Input: (B, T, E). Output: like that of `layer`, with the backward layer's sequence in time order. With
    `return_state`: [output, h and c of the forward layer, h and c of the backward layer].

    Parameters: those of both layers, as `forward/kernel`, ..., `backward/kernel`, ...

    Call: `layer(x, mask=mask, initial_state=[...])`, the states in the order of `return_state`.

    Raises:
        TypeError: a layer is not recurrent.
        ValueError: an unknown merge mode, or two layers that do not match.
    """

    ranks: ClassVar = (3,)
    call_order: ClassVar = ("initial_state", "mask", "training")
    takes_rows: ClassVar = True
    parts: Mapping[str, RNN]

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        *,
        backward_layer: Any = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        given, layer = layer, _as_recurrent("layer", layer, options.get("dtype"))
        super().__init__(**options | {"dtype": layer.dtype})
        if not isinstance(merge_mode, str | None) or merge_mode not in MERGE_MODES:
            raise ValueError(f"merge_mode must be one of {', '.join(map(repr, MERGE_MODES))}, not {merge_mode!r}")
        self.merge_mode = merge_mode
        self.forward_layer = _like(layer, "forward")
        self.has_own_backward = backward_layer is not None
        if backward_layer is None:
            self.backward_layer = _like(layer, "backward", go_backwards=True)
        else:
            self.backward_layer = _as_recurrent("backward_layer", backward_layer)
        _require_a_pair(self.forward_layer, self.backward_layer)
        self.parts = {"forward": self.forward_layer, "backward": self.backward_layer}
        for each in self.parts.values():
            each.zero_output_for_mask = each.return_sequences
        self.freeze_like(given)
        self.return_sequences = self.passes_mask = layer.return_sequences
        self.return_state = layer.return_state
        self.masked_outputs = 2 if merge_mode is None else 1
        self.outputs = self.masked_outputs + (len(self.state_sizes) if self.return_state else 0)

    def param_specs(self, input_shape: Shape) -> Specs:
        specs: Specs = {}
        for end, each in self.parts.items():
            specs |= with_prefix(end, each.param_specs(input_shape))
        return specs

    def output_shape(self, input_shape: Shape) -> Any:
        shape = self.forward_layer.output_shape(input_shape)
        shape = shape[0] if self.return_state else shape
        shapes = [(*shape[:-1], 2 * shape[-1] if self.merge_mode == "concat" else shape[-1])]
        shapes *= 2 if self.merge_mode is None else 1
        shapes += [(size,) for size in self.state_sizes.values()] if self.return_state else []
        return shapes if self.outputs > 1 else shapes[0]

    @property
    def state_sizes(self) -> dict[str, int]:  # type: ignore[override]
        """Name -> H of each initial state, in the order of `initial_state`."""
        return {f"{end} {name}": size for end, each in self.parts.items() for name, size in each.state_sizes.items()}

    def receive(self, x: Any) -> Any:
        x, *states = x if has_states(x) else (x,)
        return (super().receive(x), *states) if states else super().receive(x)  # the two layers check the states

    def receive_states(self, given: Any) -> Any:
        if not isinstance(given, list | tuple) or len(given) != len(self.state_sizes):
            raise ValueError(f"initial_state of {self.name} must be a list of {', '.join(self.state_sizes)}")
        return given

    def forward(self, x: Any, run: Pass, mask: Any = None) -> tuple[Any, Kept]:
        results, caches = zip(*(each.forward(own, run, mask) for each, own in self._inputs(x)), strict=True)
        y, both = self._merge(results)
        given = isinstance(x, tuple)
        return y, Kept(x[0] if given else x, both, caches, given)

    def infer(self, x: Any, mask: Any = None) -> Any:
        return self._merge([each.infer(own, mask) for each, own in self._inputs(x)])[0]

    def _inputs(self, x: Any) -> list[tuple[RNN, Any]]:
        """The two layers, each with its input and, if given, its initial states."""
        x, *states = x if isinstance(x, tuple) else (x,)
        half = len(states) // 2
        ends = zip(self.parts.values(), (states[:half], states[half:]), strict=True)
        return [(each, (x, *own) if own else x) for each, own in ends]

    def _merge(self, results: Any) -> tuple[Any, tuple[Array, Array]]:
        """The merged output, and each layer's own output in time order."""
        (y, *forward_states), (y_back, *backward_states) = results if self.return_state else [[y] for y in results]
        if self.return_sequences:
            y_back = y_back[:, ::-1]
        merged = {
            "concat": lambda: np.concatenate([y, y_back], axis=-1),
            "sum": lambda: y + y_back,
            "ave": lambda: (y + y_back) / 2,
            "mul": lambda: y * y_back,
        }
        outputs = [y, y_back] if self.merge_mode is None else [merged[self.merge_mode]()]
        outputs += [*forward_states, *backward_states]
        return (tuple(outputs) if len(outputs) > 1 else outputs[0]), (y, y_back)

    def backward(self, dy: Any, cache: Kept, need: Any = True) -> tuple[Any, Gradients]:
        """Backpropagation through both.

        Args:
            dy: dL/d of each output, in order; None for zero.
            cache: from `forward`.
            need: see `RNN.backward`.

        Returns:
            dx and the gradients, see `RNN.backward`.
        """
        dys = dy if isinstance(dy, tuple) else (dy,)
        y, y_back = cache.y
        d_forward = d_back = None
        if self.merge_mode is None:
            d_forward, d_back, *d_states = dys
        else:
            d, *d_states = dys
            if d is not None:
                d_forward, d_back = {
                    "concat": lambda: np.split(d, [self.forward_layer.output_size], axis=-1),
                    "sum": lambda: (d, d),
                    "ave": lambda: (d / 2, d / 2),
                    "mul": lambda: (d * y_back, d * y),
                }[self.merge_mode]()
        d_forward, d_back = (np.zeros_like(y) if d is None else d for y, d in ((y, d_forward), (y_back, d_back)))
        if self.return_sequences:
            d_back = d_back[:, ::-1]
        half, dxs = len(d_states) // 2, []
        grads: Gradients = {}
        need_x = need[0] if isinstance(need, tuple | list) else need
        own_states = d_states[:half], d_states[half:]
        ends = zip(self.parts.items(), (d_forward, d_back), own_states, cache.caches, strict=True)
        for (end, each), d, own, of_end in ends:
            dx, own_grads = each.backward((d, *own) if own else d, of_end, need_x)
            dxs.append(dx if cache.given else (dx,))
            grads |= with_prefix(end, own_grads)
        (dx, *d_initial), (dx_back, *d_initial_back) = dxs
        if isinstance(dx, RowGradient) or isinstance(dx_back, RowGradient):
            dx, dx_back = (cache.x.row_gradient(d) for d in (dx, dx_back))
        dx = dx + dx_back if need_x else None
        return ((dx, *d_initial, *d_initial_back) if cache.given else dx), grads

    def get_config(self) -> dict[str, Any]:
        differ = self.backward_layer.trainable != self.forward_layer.trainable
        backward = registry.serialize(self.backward_layer) if self.has_own_backward or differ else None
        return super().get_config() | {"backward_layer": backward}

    layer = property(attrgetter("forward_layer"), doc="The forward layer, as the argument is called.")


class TimeDistributed(Composite):
    """Applies a layer to every time step separately, with the same parameters.

    Args:
        layer: the layer to apply.
        options: name, dtype (that of `layer`), input_shape; see `Layer`.

    Input: (B, T, ...). Output: (B, T, ...), the layer's output at each step.

    Parameters: the layer's.

    A mask (B, T, S) of sequences of sequences goes to a layer that takes a mask, step by step; in the output a step is
    valid if any element of it is. (Keras passes the mask on unchanged.)

    Raises:
        TypeError: not a layer.
        ValueError: a layer with several outputs, or a stateful one (which Keras runs from step to step).
    """

    call_order: ClassVar = ("training", "mask")
    passes_mask = True

    def __init__(self, layer: Any, **options: Unpack[LayerOptions]) -> None:
        given, layer = layer, _as_layer("layer", layer, options.get("dtype"))
        self.layer = layer
        if layer.outputs > 1:
            raise ValueError(f"TimeDistributed needs a layer with one output, but {layer.name} has {layer.outputs}")
        if layer.stateful:
            raise ValueError(f"TimeDistributed processes each step separately, but {layer.name} is stateful")
        self.parts = {"": layer}
        super().__init__(**options | {"dtype": layer.dtype})
        self.freeze_like(given)

    def param_specs(self, input_shape: Shape) -> Specs:
        if len(input_shape) < 2:
            raise ValueError(f"{self.name} takes an input (batch, steps, ...), but one sample has shape {input_shape}")
        return self.layer.plan(self.shape_inside(input_shape))

    def shape_inside(self, input_shape: Any) -> Any:
        """The shape of one step."""
        return input_shape[1:]

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self.layer.output_shape(self.shape_inside(input_shape)))

    def cast(self, x: Any) -> Any:
        """X as the inner layer takes it."""
        return self.layer.cast(x)

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray | None:
        """The input's, (B, T)."""
        return mask if mask is None else np.any(mask, axis=tuple(range(2, np.ndim(mask))))

    def forward(self, x: Array, run: Pass, mask: Any = None) -> tuple[Array, tuple[Cache, tuple[int, ...]]]:
        steps = x.shape[:2]
        if mask is not None:
            mask = mask.reshape(-1, *mask.shape[2:]) if mask.ndim > 2 and self.layer.takes_mask else None
        y, cache = self.layer.forward(x.reshape(-1, *x.shape[2:]), run.by_step(steps[1]), mask)
        y = as_array(y)
        return y.reshape(*steps, *y.shape[1:]), (cache, steps)

    def backward(self, dy: Array, cache: tuple[Cache, tuple[int, ...]], need: bool = True) -> tuple[Any, Gradients]:
        of_layer, steps = cache
        dx, grads = self.layer.backward(dy.reshape(-1, *dy.shape[2:]), of_layer, need)
        return None if dx is None else dx.reshape(*steps, *dx.shape[1:]), grads


def _as_layer(argument: str, given: Any, dtype: str | None = None) -> Layer:
    """A layer, or the one a saved description describes; with this dtype, if given."""
    try:
        layer = registry.resolve("layer", getattr(given, "network", given), KNOWN, Layer, argument)
    except TypeError as error:
        if isinstance(given, Mapping):
            raise
        raise TypeError(f"{argument} must be a layer object such as Dense(32), not {no_layer(given)}") from error
    if dtype is not None and config.float_dtype(dtype) != layer.dtype:
        raise ValueError(f"dtype={dtype!r} contradicts the dtype of the inner layer, {layer.dtype}")
    return layer


def _as_recurrent(argument: str, given: Any, dtype: str | None = None) -> RNN:
    layer = _as_layer(argument, given, dtype)
    if not isinstance(layer, RNN):
        raise TypeError(f"{argument} must be a recurrent layer such as an LSTM, not {type(layer).__name__}")
    return layer


def _like(layer: RNN, end: str, **changes: Any) -> RNN:
    """An unbuilt layer with the same settings; activations, initializers, ... are the same objects."""
    name = f"{end}_{layer.name.removeprefix(f'{end}_').removeprefix('forward_')}"
    described = layer.get_config()
    settings: dict[str, Any] = {n: getattr(layer, n, v) if isinstance(v, dict) else v for n, v in described.items()}
    settings |= {"cell": copy.deepcopy(layer.cell)} if "cell" in settings else {}  # every layer has its own cell
    kind: Any = type(layer)
    return kind(**settings | {"name": name} | changes)


def _require_a_pair(forward: RNN, backward: RNN) -> None:
    if forward.go_backwards or not backward.go_backwards:
        raise ValueError("layer must have go_backwards=False, and backward_layer go_backwards=True")
    for setting in ("output_size", "dtype", "return_sequences", "return_state", "stateful"):
        first, second = getattr(forward, setting), getattr(backward, setting)
        if first != second:
            name = "units" if setting == "output_size" else setting
            raise ValueError(f"{name} must be the same for both layers, but is {first!r} and {second!r}")
