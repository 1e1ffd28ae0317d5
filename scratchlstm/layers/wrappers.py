"""Layers around layers."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from scratchlstm import config
from scratchlstm._support import checks, registry
from scratchlstm.layers.base import Layer, Shape, Signal, Specs, check_weights
from scratchlstm.layers.recurrent import Recurrent
from scratchlstm.rows import GatheredRows, RowGradient, as_array

MERGE_MODES = ("concat", "sum", "ave", "mul", None)
V = TypeVar("V")


class Bidirectional(Layer):
    """A recurrent layer from both ends (Schuster & Paliwal, 1997), with Keras' semantics.

    Args:
        layer: an `LSTM` or `SimpleRNN`. The forward layer is one with equal settings, the backward layer, too, except
            for `go_backwards`; both begin with parameters of their own. Where a sequence is given out, masked steps
            are 0 in it.
        merge_mode: "concat" (features side by side), "sum", "ave", "mul", or None for two outputs.
        backward_layer: another layer for the way back, with `go_backwards=True`.
        name, dtype, input_shape: see `Layer`; dtype is that of `layer`.

    Input: (B, T, E). Output: as `layer`, the backward layer's sequence in the order of time. With `return_state`:
    [output, h and c of the forward layer, h and c of the backward layer].

    Parameters: those of the two, as `forward/kernel`, ..., `backward/kernel`, ...

    Call: `layer(x, mask=mask, initial_state=[...])`, the states in the order of `return_state`.

    Raises:
        TypeError: not recurrent layers.
        ValueError: an unknown merge mode, or two layers that do not fit together.
    """

    ranks: ClassVar = (3,)
    call_order: ClassVar = ("initial_state", "mask", "training")
    of_a_pass: ClassVar = ("rows", "halves", "initial_state_grads", "given_out")
    takes_mask: ClassVar = True
    takes_rows: ClassVar = True

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        *,
        backward_layer: Any = None,
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        layer = _as_recurrent("layer", layer, dtype)
        super().__init__(name, layer.dtype, input_shape)
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
        self.both = {"forward": self.forward_layer, "backward": self.backward_layer}
        for each in self.both.values():
            each.zero_output_for_mask = each.return_sequences
        self.return_sequences = self.passes_mask = layer.return_sequences
        self.return_state, self.stateful = layer.return_state, layer.stateful
        states = len(self.state_sizes) if self.return_state else 0
        self.outputs = (2 if merge_mode is None else 1) + states
        self.noises = [noise for each in self.both.values() for noise in each.noises]
        self.params = _Joined({end: each.params for end, each in self.both.items()})  # type: ignore[assignment]
        self.grads = _Joined({end: each.grads for end, each in self.both.items()})  # type: ignore[assignment]
        self.regularizers = _Joined({end: each.regularizers for end, each in self.both.items()})
        self.constraints = _Joined({end: each.constraints for end, each in self.both.items()})

    def param_specs(self, input_shape: Shape) -> Specs:
        return dict(_Joined({end: each.param_specs(input_shape) for end, each in self.both.items()}))

    def build(
        self, input_shape: Shape, rng: np.random.Generator | None = None, params: Mapping[str, np.ndarray] | None = None
    ) -> None:
        specs = self.plan(input_shape)
        if self.built:
            return
        if params is not None:
            check_weights(self.name, {name: shape for name, (shape, _) in specs.items()}, params, self.dtype)
        for end, each in self.both.items():
            each.build(input_shape, rng, None if params is None else _part(end, params))
        self.params = _Joined({end: each.params for end, each in self.both.items()})  # type: ignore[assignment]
        self.input_shape = self.forward_layer.input_shape

    def output_shape(self, input_shape: Shape) -> Shape:
        *steps, features = self.forward_layer.output_shape(input_shape)
        return (*steps, 2 * self.forward_layer.units if self.merge_mode == "concat" else features)

    @property
    def state_sizes(self) -> dict[str, int]:
        """Name -> H of each initial state, in the order of `initial_state`."""
        return {f"{end} {name}": size for end, each in self.both.items() for name, size in each.state_sizes.items()}

    def with_inner(self) -> list[Layer]:
        """This layer and the two inside."""
        return [self, *self.both.values()]

    def reset_state(self) -> None:
        """Let both stateful layers begin anew, from zeros."""
        for each in self.both.values():
            each.reset_state()

    reset_states = reset_state

    def extra_state(self) -> dict[str, np.ndarray]:
        return dict(_Joined({end: each.extra_state() for end, each in self.both.items()}))

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        for end, each in self.both.items():
            each.set_extra_state(_part(end, state))

    def forward(self, x: Signal, training: bool = False, **call: Any) -> Any:
        self.rows = x if isinstance(x, GatheredRows) else None
        result, self.halves = self._merge(x, call, lambda layer, x, own: layer.forward(x, training=training, **own))
        self.given_out = (result if self.outputs == 1 else result[0]).shape
        return result

    def infer(self, x: Any, **call: Any) -> Any:
        return self._merge(self.receive(x), call, lambda layer, x, own: layer.infer(x, **own))[0]

    def _merge(self, x: Signal, call: dict[str, Any], run: Any) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
        """The two layers' outputs as one, and each by itself, in the order of time."""
        states = call.pop("initial_state", None)
        if states is not None and (not isinstance(states, list | tuple) or len(states) != len(self.state_sizes)):
            raise ValueError(f"initial_state of {self.name} must be a list: {', '.join(self.state_sizes)}")
        half = len(self.forward_layer.state_sizes)
        parts = dict(zip(self.both, (None, None) if states is None else (states[:half], states[half:]), strict=True))
        call["mask"] = self.check_mask(call.get("mask"), x.shape[:2])
        results = [run(each, x, {**call, "initial_state": parts[end]}) for end, each in self.both.items()]
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
        return (outputs if len(outputs) > 1 else outputs[0]), (y, y_back)

    def backward(self, *dy: Any) -> Any:
        """Backpropagation through both.

        Args:
            dy: dL/d of each output, in their order; None is zero for a final state.

        Returns:
            dx, see `Recurrent.backward`.
        """
        if self.merge_mode is None:
            dy_forward, dy_back, *d_states = dy
        else:
            d, *d_states = dy
            d = self.require_gradient(d, self.given_out)
            dy_forward, dy_back = {
                "concat": lambda: np.split(d, [self.forward_layer.units], axis=-1),
                "sum": lambda: (d, d),
                "ave": lambda: (d / 2, d / 2),
                "mul": lambda: (d * self.halves[1], d * self.halves[0]),
            }[self.merge_mode]()
        if self.return_sequences:
            dy_back = dy_back[:, ::-1]
        half = len(d_states) // 2
        self.forward_layer.input_gradient = self.backward_layer.input_gradient = self.input_gradient
        dx: Any = self.forward_layer.backward(dy_forward, *d_states[:half])
        dx_back: Any = self.backward_layer.backward(dy_back, *d_states[half:])
        self.initial_state_grads = [*self.forward_layer.initial_state_grads, *self.backward_layer.initial_state_grads]
        if isinstance(dx, RowGradient) or isinstance(dx_back, RowGradient):
            dx, dx_back = (self.rows.row_gradient(d) for d in (dx, dx_back))  # type: ignore[union-attr]
        return dx + dx_back if self.input_gradient else None

    def kept_elsewhere(self) -> dict[str, Any]:
        return super().kept_elsewhere() | {
            "layer": self.forward_layer,
            "backward_layer": self.backward_layer if self.has_own_backward else None,
        }


class TimeDistributed(Layer):
    """A layer applied to each time step by itself, with the same parameters.

    Args:
        layer: what to apply.
        name, dtype, input_shape: see `Layer`; dtype is that of `layer`.

    Input: (B, T, ...). Output: (B, T, ...), what the layer makes of each step.

    Parameters: the layer's.

    A mask (B, T, S) of sequences of sequences goes to a layer that takes one, step by step; behind it a step counts if
    any place in it does. (Keras hands the mask on as it came.)

    Raises:
        TypeError: no layer.
        ValueError: a layer with several outputs, or a stateful one (which Keras runs from step to step).
    """

    takes_mask: ClassVar = True
    of_a_pass: ClassVar = ("given_out",)
    call_order: ClassVar = ("training", "mask")
    passes_mask = True

    def __init__(
        self, layer: Any, *, name: str | None = None, dtype: str | None = None, input_shape: Shape | None = None
    ) -> None:
        self.layer = layer = _as_layer("layer", layer, dtype)
        if layer.outputs > 1:
            raise ValueError(f"TimeDistributed needs a layer with one output, but {layer.name} has {layer.outputs}")
        if layer.stateful:
            raise ValueError(f"TimeDistributed takes each step by itself, but {layer.name} is stateful")
        super().__init__(name, layer.dtype, input_shape)
        self.noises, self.grads = layer.noises, layer.grads
        self.regularizers, self.constraints = layer.regularizers, layer.constraints

    def param_specs(self, input_shape: Shape) -> Specs:
        if len(input_shape) < 2:
            raise ValueError(f"{self.name} takes an input (batch, steps, ...), but one sample has shape {input_shape}")
        return self.layer.plan(input_shape[1:])

    def build(
        self, input_shape: Shape, rng: np.random.Generator | None = None, params: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.plan(input_shape)
        if not self.built:
            self.layer.build(input_shape[1:], rng, params)
            self.params, self.input_shape = self.layer.params, input_shape

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self.layer.output_shape(input_shape[1:]))

    def cast(self, x: Any) -> Any:
        """X as the layer takes it."""
        return self.layer.cast(x)

    def with_inner(self) -> list[Layer]:
        """This layer, the one inside, and what that is around."""
        return [self, *self.layer.with_inner()]

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray | None:
        """The input's, (B, T)."""
        return mask if mask is None else np.any(mask, axis=tuple(range(2, np.ndim(mask))))

    def forward(self, x: np.ndarray, training: bool = False, mask: np.ndarray | None = None) -> np.ndarray:
        mask = self.check_mask(mask, x.shape[: max(as_array(mask, "mask").ndim, 2)])
        self.steps = x.shape[:2]
        call: dict[str, Any] = {}
        if mask is not None and mask.ndim > 2 and self.layer.takes_mask:
            call["mask"] = mask.reshape(-1, *mask.shape[2:])
        y = as_array(self.layer.forward(x.reshape(-1, *x.shape[2:]), training=training, **call))
        self.given_out = (*self.steps, *y.shape[1:])
        return y.reshape(self.given_out)

    def backward(self, dy: np.ndarray) -> Any:
        dy = self.require_gradient(dy, self.given_out)
        dx = self.layer.backward(dy.reshape(-1, *dy.shape[2:]))
        return None if dx is None else dx.reshape(*self.steps, *dx.shape[1:])


class _Joined(MutableMapping[str, V]):
    """Several dicts as one, each name behind the name of its dict: "forward/kernel"."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> V:
        part, _, own = name.partition("/")
        return self.parts[part][own]

    def __setitem__(self, name: str, value: V) -> None:
        part, _, own = name.partition("/")
        self.parts[part][own] = value

    def __delitem__(self, name: str) -> None:
        part, _, own = name.partition("/")
        del self.parts[part][own]

    def __iter__(self) -> Iterator[str]:
        return (f"{part}/{own}" for part, of in self.parts.items() for own in of)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))


def _part(part: str, joined: Mapping[str, V]) -> dict[str, V]:
    """What was joined from the dict of that name."""
    return {name.removeprefix(f"{part}/"): of for name, of in joined.items() if name.startswith(f"{part}/")}


def _as_layer(argument: str, given: Any, dtype: str | None = None) -> Layer:
    """A layer, or the saved description of one; with this dtype, if one is given."""
    from scratchlstm import layers

    try:
        layer = registry.resolve("layer", given, layers.KNOWN, Layer, argument)
    except TypeError as error:
        raise TypeError(f"{argument} must be a layer, not {checks.came(given)}") from error
    if dtype is not None and config.float_dtype(dtype) != layer.dtype:
        raise ValueError(f"dtype={dtype!r} contradicts that of the layer inside, {layer.dtype}")
    return layer


def _as_recurrent(argument: str, given: Any, dtype: str | None = None) -> Recurrent:
    layer = _as_layer(argument, given, dtype)
    if not isinstance(layer, Recurrent):
        raise TypeError(f"{argument} must be an LSTM or a SimpleRNN, not {type(layer).__name__}")
    return layer


def _like(layer: Recurrent, end: str, **changes: Any) -> Recurrent:
    """An unbuilt layer with the same settings; activations, initializers, ... are the same objects."""
    name = f"{end}_{layer.name.removeprefix(f'{end}_').removeprefix('forward_')}"
    parts = vars(layer) | layer.limits()
    settings = {n: parts.get(n, v) if isinstance(v, dict) else v for n, v in layer.get_config().items()}
    return type(layer)(**settings | {"name": name} | changes)


def _require_a_pair(forward: Recurrent, backward: Recurrent) -> None:
    if forward.go_backwards or not backward.go_backwards:
        raise ValueError("of the two layers the first must have go_backwards=False, backward_layer go_backwards=True")
    for setting in ("units", "dtype", "return_sequences", "return_state", "stateful"):
        first, second = getattr(forward, setting), getattr(backward, setting)
        if first != second:
            raise ValueError(f"{setting} must be the same for both layers, but is {first!r} and {second!r}")
