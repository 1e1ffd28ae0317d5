"""The LSTM as a layer: parameters, states, and the choice between the textbook and the fast recurrence."""

from typing import Any, ClassVar

import numpy as np

from scratchlstm import activations, gates, initializers, registry
from scratchlstm.checks import positive_int
from scratchlstm.kernels.numpy_lstm import NumpyLSTM, Workspace
from scratchlstm.kernels.rows import GatheredRows, RowGradient
from scratchlstm.layers.base import Layer, Shape, Signal, Specs
from scratchlstm.layers.dense import known_features

IMPLEMENTATIONS = ("fused", "textbook")


class LSTM(Layer):
    """Long short-term memory over a sequence; the equations are in `scratchlstm.gates`.

    Args:
        units: H.
        activation: of the candidate g and of the cell in (6).
        recurrent_activation: of the gates i, f, o.
        use_bias: whether z has a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        unit_forget_bias: start the forget gate's bias at 1, so that a new cell remembers (Jozefowicz et al., 2015);
            the other three blocks keep `bias_initializer`.
        return_sequences: give every h_t, (B, T, H), instead of the last, (B, H).
        return_state: give [output, h_T, c_T].
        implementation: "fused" (fast) or "textbook" (`gates.lstm_forward`, to study); the same result to rounding.
        name, dtype, input_shape: see `Layer`.

    Input: (B, T, E). Output: (B, H) or (B, T, H).

    Parameters, columns in four blocks i f g o as in Keras: `kernel` (E, 4H), `recurrent_kernel` (H, 4H), `bias` (4H,).

    Call: `layer(x, initial_state=[h0, c0])` starts from these (B, H) states instead of zeros. After `backward`,
    `initial_state_grads` is [dh0, dc0].
    """

    ranks: ClassVar = (3,)
    takes_rows: ClassVar = True

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        implementation: str = "fused",
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name, dtype, input_shape)
        self.units = positive_int("units", units)
        self.activation = _elementwise("activation", activation)
        self.recurrent_activation = _elementwise("recurrent_activation", recurrent_activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.unit_forget_bias = bool(unit_forget_bias)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, not {implementation!r}")
        self.implementation = implementation
        self._workspace: Workspace | None = None

    def param_specs(self, input_shape: Shape) -> Specs:
        E, H = known_features(self.name, input_shape), self.units
        specs: Specs = {
            "kernel": ((E, 4 * H), self.kernel_initializer),
            "recurrent_kernel": ((H, 4 * H), self.recurrent_initializer),
        }
        if self.use_bias:
            forget_one = _UnitForgetBias(self.bias_initializer)
            specs["bias"] = ((4 * H,), forget_one if self.unit_forget_bias else self.bias_initializer)
        return specs

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.units) if self.return_sequences else (self.units,)

    def forward(self, x: Signal, training: bool = False, initial_state: Any = None) -> Any:
        self.x, (self.h0, self.c0) = x, self._initial_state(x.shape[0], initial_state)
        run = self._forward_fused if self.implementation == "fused" else self._forward_textbook
        return self._output(*run(x))

    def infer(self, x: Any) -> Any:
        if self.implementation == "textbook":
            return self(x)
        x = self.receive(x)
        kernel = NumpyLSTM(*self._weights(), self.activation, self.recurrent_activation)
        h0, c0 = self._initial_state(x.shape[0], None)
        return self._output(*kernel.infer(x, h0, c0, self.return_sequences))

    def backward(
        self, dy: np.ndarray, dh: np.ndarray | None = None, dc: np.ndarray | None = None
    ) -> np.ndarray | RowGradient:
        """Backpropagation through time.

        Args:
            dy: dL/d(output), (B, T, H) or (B, H).
            dh, dc: dL/d of the returned states h_T and c_T besides, (B, H); None is zero.

        Returns:
            dx, (B, T, E); a `RowGradient` where the input came from an `Embedding` as gathered rows.
        """
        run = self._backward_fused if self.implementation == "fused" else self._backward_textbook
        dx, dW, dU, db, dh0, dc0 = run(dy, dh, dc)
        self.grads["kernel"], self.grads["recurrent_kernel"] = dW, dU
        if self.use_bias:
            self.grads["bias"] = db
        self.initial_state_grads = [dh0, dc0]
        return dx

    # --- the textbook ---------------------------------------------------------------------------------------------

    def _forward_textbook(self, x: Signal) -> tuple[np.ndarray, np.ndarray]:
        sigma, phi = self.recurrent_activation, self.activation
        dense = np.asarray(x)
        hs, c, self._caches = gates.lstm_forward(dense, self.h0, self.c0, *self._weights(), sigma, phi)
        return (hs if self.return_sequences else hs[:, -1]), c

    def _backward_textbook(self, dy: np.ndarray, dh: np.ndarray | None, dc: np.ndarray | None) -> Any:
        B, T = self.x.shape[:2]
        dhs = dy.copy() if self.return_sequences else np.zeros((B, T, self.units), dtype=self.dtype)
        if not self.return_sequences:
            dhs[:, -1] += dy
        if dh is not None:
            dhs[:, -1] += dh
        dc = np.zeros_like(self.c0) if dc is None else dc
        W, U, _ = self._weights()
        primes = self.recurrent_activation.prime, self.activation.prime
        return gates.lstm_backward(dhs, dc, self._caches, W, U, *primes)

    # --- the fast one ---------------------------------------------------------------------------------------------

    def _forward_fused(self, x: Signal) -> tuple[np.ndarray, np.ndarray]:
        self._kernel = NumpyLSTM(*self._weights(), self.activation, self.recurrent_activation)
        output = self._kernel.forward(x, self.h0, self.c0, self._workspace, self.return_sequences)
        self._workspace = self._kernel.workspace
        return output

    def _backward_fused(self, dy: np.ndarray, dh: np.ndarray | None, dc: np.ndarray | None) -> Any:
        dx, *rest = self._kernel.backward(dy, dh, dc)
        return (self.x.gradient(dx) if isinstance(self.x, GatheredRows) else dx), *rest

    # --- both -----------------------------------------------------------------------------------------------------

    def _weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kernel, recurrent_kernel = self.params["kernel"], self.params["recurrent_kernel"]
        bias = self.params["bias"] if self.use_bias else np.zeros_like(kernel[0])
        return kernel, recurrent_kernel, bias

    def _initial_state(self, batch: int, states: Any) -> list[np.ndarray]:
        shape = batch, self.units
        if states is None:
            return [np.zeros(shape, dtype=self.dtype), np.zeros(shape, dtype=self.dtype)]
        if not isinstance(states, list | tuple) or len(states) != 2:
            came = f"{len(states)} arrays" if isinstance(states, list | tuple) else type(states).__name__
            raise ValueError(f"initial_state of {self.name} must be [h0, c0], not {came}")
        states = [np.asarray(state, dtype=self.dtype) for state in states]
        for name, state in zip(("h0", "c0"), states, strict=True):
            if state.shape != shape:
                raise ValueError(f"{name} in initial_state of {self.name} must have shape {shape}, not {state.shape}")
        return states

    def _output(self, h: np.ndarray, c: np.ndarray) -> Any:
        last = h[:, -1] if self.return_sequences else h
        return [h, last.copy(), c] if self.return_state else h

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "activation": self.activation.name,
            "recurrent_activation": self.recurrent_activation.name,
            "use_bias": self.use_bias,
            "kernel_initializer": registry.serialize(self.kernel_initializer),
            "recurrent_initializer": registry.serialize(self.recurrent_initializer),
            "bias_initializer": registry.serialize(self.bias_initializer),
            "unit_forget_bias": self.unit_forget_bias,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "implementation": self.implementation,
        }


class _UnitForgetBias(initializers.Initializer):
    """`others` for the blocks i, g and o, and 1 for f."""

    def __init__(self, others: initializers.Initializer) -> None:
        super().__init__()
        self.others = others

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        bias = np.array(self.others(shape, "float64", rng))
        H = len(bias) // 4
        bias[H : 2 * H] = 1
        return bias


def _elementwise(argument: str, identifier: Any) -> activations.Activation:
    activation = activations.get(identifier)
    if isinstance(activation, activations.Softmax):
        raise ValueError(f"{argument} of an LSTM must act on each number by itself; softmax does not")
    return activation
