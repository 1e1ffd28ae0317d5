"""Is a gradient right? Analytic against numerical, tensor by tensor, and against TensorFlow.

A check sees a bug only where the bug shows: inputs of several steps, random states that are not zero, and a gradient
that arrives at every step and at the final states. (With zero states and a gradient at the last step alone, as in
training a classifier, an LSTM that overwrites dh instead of adding to it passes.) `check_layer` sets this up.

Checks run in float64: in float32 central differences are good to some 1e-5 at best, too coarse to tell a small mistake
from rounding.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from scratchlstm.layers import LSTM, Layer
from scratchlstm.model import Model, Sequential

EPSILON = 1e-5
TOLERANCE = 1e-7
# up to this many numbers a tensor is checked number by number, beyond along random directions
EVERY_NUMBER = 2000
DIRECTIONS = 20
_NEGLIGIBLE = 1e-3  # differences are measured against a norm of at least this, so that rounding is not compared to zero


class LayerLike(Protocol):
    """What `check_layer` needs of a layer, ours or yours."""

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        """Name -> array; each is changed in place and put back."""

    @property
    def grads(self) -> Mapping[str, Any]:
        """Name -> gradient of the last backward pass."""

    def forward(self, x: Any) -> Any:
        """y for x."""

    def backward(self, *dy: Any) -> Any:
        """dL/dx for dL/dy (one for each output); sets `grads`."""


@dataclass
class Row:
    """One tensor of a report.

    Attributes:
        tensor: its name.
        shape: its shape.
        numerical: norm-relative difference between the analytic and the numerical gradient.
        tensorflow: the same against TensorFlow's gradient; None where not compared.
        problem: what is wrong apart from numbers (a gradient missing or of another shape).
    """

    tensor: str
    shape: tuple[int, ...]
    numerical: float | None = None
    tensorflow: float | None = None
    problem: str = ""
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        """Whether every comparison made is within the tolerance (NaN is not)."""
        errors = [error for error in (self.numerical, self.tensorflow) if error is not None]
        return not self.problem and bool(errors) and all(error <= self.tolerance for error in errors)


@dataclass
class Report:
    """The rows of one check; `print` shows the table."""

    title: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are rows and all of them are right."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def __str__(self) -> str:
        lines = [
            self.title,
            f"  {'tensor':<28}{'shape':<14}{'vs numerical':>13}{'vs TensorFlow':>15}  verdict",
        ]
        for row in self.rows:
            numbers = (f"{error:.1e}" if error is not None else "-" for error in (row.numerical, row.tensorflow))
            verdict = "ok" if row.ok else f"WRONG {row.problem}".rstrip()
            lines.append("  {:<28}{:<14}{:>13}{:>15}  {}".format(row.tensor, str(row.shape), *numbers, verdict))
        return "\n".join(lines)


def numerical_gradient(loss: Callable[[], float], array: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """Central differences, dL/da ≈ (L(a + ε) - L(a - ε)) / 2ε, for each number of `array`.

    Args:
        loss: computes L anew from `array`, which is changed in place and put back.
        array: float64.
        epsilon: ε; 1e-5 balances rounding and curvature in float64.

    Returns:
        An array of the same shape.
    """
    gradient = np.empty_like(array)
    for place in np.ndindex(array.shape):
        direction = np.zeros_like(array)
        direction[place] = 1
        gradient[place] = _slope(loss, array, direction, epsilon)
    return gradient


def relative_error(analytic: Any, reference: Any) -> float:
    """||a - b|| / max(||a||, ||b||), with a floor under the divisor where both are next to nothing."""
    analytic, reference = np.asarray(analytic), np.asarray(reference)
    scale = max(float(np.linalg.norm(analytic)), float(np.linalg.norm(reference)), _NEGLIGIBLE)
    return float(np.linalg.norm(analytic - reference)) / scale


def check_layer(
    layer: LayerLike,
    x: Any,
    *,
    initial_state: Any = None,
    mask: Any = None,
    training: bool = False,
    tensorflow: bool = False,
    seed: int = 0,
    epsilon: float = EPSILON,
    tolerance: float = TOLERANCE,
) -> Report:
    """Compare a layer's gradients with numerical ones, for L = Σ r y with random r on every number of every output.

    Args:
        layer: ours, built or not, or your own with `params`, `grads`, `forward(x)` and `backward(dy)`.
        x: a float64 input, or integer ids.
        initial_state: of a recurrent layer, for an `LSTM` [h0, c0]; drawn at random where None.
        mask: (B, T), for a layer that takes one.
        training: check the pass that training takes; dropout then draws the same numbers at every pass.
        tensorflow: also compare with TensorFlow (layers of this package only).
        seed: of r and of the states.
        epsilon: see `numerical_gradient`.
        tolerance: largest relative error that is right.

    Raises:
        ValueError: parameters or x in float32.
    """
    rng = np.random.default_rng(seed)
    x = np.array(x)
    call: dict[str, Any] = {"training": True} if training else {}
    state_sizes: dict[str, int] = getattr(layer, "state_sizes", {})
    if state_sizes:
        if initial_state is None:
            initial_state = [rng.normal(size=(len(x), size)) for size in state_sizes.values()]
        call["initial_state"] = initial_state
    if mask is not None:
        call["mask"] = mask
    if isinstance(layer, Layer):
        layer.receive(x)  # builds it
    _require_float64(layer.params, x)

    def outputs() -> list[np.ndarray]:
        with _same_randomness([layer]):
            y = layer.forward(x, **call)
        return [np.asarray(part) for part in (y if isinstance(y, list) else [y])]

    weights = [rng.normal(size=part.shape) for part in outputs()]
    dx = layer.backward(*weights)

    tensors = {name: (array, layer.grads.get(name)) for name, array in layer.params.items()}
    if x.dtype.kind == "f":
        tensors["x"] = x, dx
    if state_sizes:
        gradients = layer.initial_state_grads  # type: ignore[attr-defined]
        tensors |= zip(state_sizes, zip(initial_state, gradients, strict=True), strict=True)
    references = _tensorflow_layer(layer, x, initial_state, mask, weights) if tensorflow else {}

    def loss() -> float:
        return sum(float(np.sum(r * y)) for r, y in zip(weights, outputs(), strict=True))

    title = f"{type(layer).__name__}, input {x.shape}, a gradient on every output"
    return Report(title, list(_rows(tensors, loss, references, rng, epsilon, tolerance)))


def check_model(
    model: Model,
    x: Any,
    y: Any,
    *,
    training: bool = False,
    tensorflow: bool = False,
    seed: int = 0,
    epsilon: float = EPSILON,
    tolerance: float = TOLERANCE,
) -> Report:
    """Compare the gradients of a compiled model's loss with numerical ones.

    Args:
        model: compiled, in float64.
        x, y: a batch.
        training, tensorflow, seed, epsilon, tolerance: see `check_layer`.

    Raises:
        ValueError: parameters in float32.
    """
    x = np.asarray(x)
    model.build(x.shape[1:])

    def run() -> tuple[float, np.ndarray, bool]:
        with _same_randomness(model.layers):
            return model.loss_with_gradient(y, model.forward(x, training))

    _, dy, from_logits = run()
    model.backward(dy, from_logits)
    tensors = {
        f"{layer.name}/{name}": (array, layer.grads.get(name))
        for layer in model.layers
        for name, array in layer.params.items()
    }
    _require_float64({name: array for name, (array, _) in tensors.items()}, x)
    references = dict(zip(tensors, _tensorflow_model(model, x, y), strict=True)) if tensorflow else {}
    rows = _rows(tensors, lambda: run()[0], references, np.random.default_rng(seed), epsilon, tolerance)
    return Report(f"{' -> '.join(type(layer).__name__ for layer in model.layers)}, input {x.shape}", list(rows))


def tutorial_in_small(tensorflow: bool, seed: int = 0, implementation: str = "fused") -> list[Report]:
    """The checks of `python -m scratchlstm gradcheck`: the tutorial's architecture with small sizes.

    First its LSTM alone, from random states and with a gradient on every output, where bugs cannot hide; then the
    whole model with its loss.
    """
    from scratchlstm.layers import Dense, Embedding

    rng = np.random.default_rng(seed)
    lstm = LSTM(4, return_sequences=True, return_state=True, implementation=implementation, dtype="float64")
    alone = check_layer(lstm, rng.normal(size=(3, 6, 5)), tensorflow=tensorflow, seed=seed)
    model = Sequential(seed=seed)
    model.add(Embedding(11, 5, input_shape=(6,), dtype="float64"))
    model.add(LSTM(4, implementation=implementation, dtype="float64"))
    model.add(Dense(1, activation="sigmoid", dtype="float64"))
    model.compile("adam", "binary_crossentropy")
    x, y = rng.integers(0, 11, size=(3, 6)), rng.integers(0, 2, size=3)
    return [alone, check_model(model, x, y, tensorflow=tensorflow, seed=seed)]


def _rows(
    tensors: Mapping[str, tuple[np.ndarray, Any]],
    loss: Callable[[], float],
    references: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    epsilon: float,
    tolerance: float,
) -> Iterator[Row]:
    # all analytic gradients are copied first: computing the loss runs the layers again
    copies = {name: None if grad is None else np.array(grad) for name, (_, grad) in tensors.items()}
    for name, (array, _) in tensors.items():
        row, analytic = Row(name, array.shape, tolerance=tolerance), copies[name]
        if analytic is None:
            row.problem = "no gradient"
        elif analytic.shape != array.shape:
            row.problem = f"gradient of shape {analytic.shape}"
        else:
            row.numerical = _numerical_error(loss, array, analytic, rng, epsilon)
            if name in references:
                row.tensorflow = relative_error(analytic, references[name])
        yield row


def _numerical_error(
    loss: Callable[[], float], array: np.ndarray, analytic: np.ndarray, rng: np.random.Generator, epsilon: float
) -> float:
    if array.size <= EVERY_NUMBER:
        return relative_error(analytic, numerical_gradient(loss, array, epsilon))
    directions = [rng.normal(size=array.shape) for _ in range(DIRECTIONS)]
    directions = [direction / np.linalg.norm(direction) for direction in directions]
    slopes = [_slope(loss, array, direction, epsilon) for direction in directions]
    return relative_error([float(np.sum(analytic * direction)) for direction in directions], slopes)


def _slope(loss: Callable[[], float], array: np.ndarray, direction: np.ndarray, epsilon: float) -> float:
    """How L changes along `direction`; `array` is put back exactly."""
    before = array.copy()
    try:
        array[...] = before + epsilon * direction
        above = loss()
        array[...] = before - epsilon * direction
        return (above - loss()) / (2 * epsilon)
    finally:
        array[...] = before


def _require_float64(params: Mapping[str, np.ndarray], x: np.ndarray) -> None:
    for name, array in [*params.items(), ("x", x)]:
        if array.dtype.kind == "f" and array.dtype != np.float64:
            raise ValueError(
                f"{name} is {array.dtype}, in which a gradient cannot be checked closely; make it float64 "
                f'(for layers of this package: dtype="float64", or config.set_floatx("float64"))'
            )


@contextmanager
def _same_randomness(layers: Any) -> Iterator[None]:
    """Every pass inside draws the same numbers (dropout would compare two different functions)."""
    generators = [noise.rng.bit_generator for layer in layers for noise in getattr(layer, "noises", ())]
    states = [generator.state for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.state = state


def _tensorflow_layer(
    layer: Any, x: np.ndarray, states: Any, mask: Any, weights: list[np.ndarray]
) -> dict[str, np.ndarray]:
    import tensorflow as tf

    from scratchlstm.interop.keras import layer_to_keras

    twin = layer_to_keras(layer)
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    names, inputs = list(layer.params), []
    with tf.GradientTape() as tape:
        call: dict[str, Any] = {} if mask is None else {"mask": np.asarray(mask)}
        if x.dtype.kind == "f":
            names.append("x")
            inputs.append(x := tf.Variable(x))
        if states is not None:
            names += layer.state_sizes
            inputs += (variables := [tf.Variable(state) for state in states])
            call["initial_state"] = variables
        y = twin(x, **call)
        parts = y if isinstance(y, list | tuple) else [y]
        loss = sum(tf.reduce_sum(r * part) for r, part in zip(weights, parts, strict=True))
    gradients = tape.gradient(loss, [*twin.trainable_variables, *inputs])
    return dict(zip(names, map(_dense, gradients), strict=True))


def _tensorflow_model(model: Model, x: np.ndarray, y: Any) -> list[np.ndarray]:
    import keras
    import tensorflow as tf

    from scratchlstm import registry
    from scratchlstm.interop.keras import to_keras

    twin = to_keras(model)
    loss_function = getattr(keras.losses, registry.snake_case(type(model.loss).__name__))
    with tf.GradientTape() as tape:
        y_pred = twin(x)
        y_true = model.loss.align(y, np.empty(y_pred.shape, model.layers[-1].dtype))
        loss = tf.reduce_mean(loss_function(y_true, y_pred))
    return [_dense(gradient) for gradient in tape.gradient(loss, twin.trainable_variables)]


def _dense(gradient: Any) -> np.ndarray:
    """TensorFlow's gradient as an array; the slices of repeated ids are summed."""
    import tensorflow as tf

    return tf.convert_to_tensor(gradient).numpy()
