"""Is a gradient right? Analytic against numerical, tensor by tensor, and against TensorFlow.

A check sees a bug only where the bug shows: inputs of several steps, random states that are not zero, and a gradient
that arrives at every step and at the final states. (With zero states and a gradient at the last step alone, as in
training a classifier, an LSTM that overwrites dh instead of adding to it passes.) `check_layer` sets this up.

Checks run in float64: in float32 central differences are good to some 1e-5 at best, too coarse to tell a small mistake
from rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from scratchlstm import backend, layers, regularizers
from scratchlstm._support import checks
from scratchlstm.backend import Array, host
from scratchlstm.cells import Cell, StackedRNNCells
from scratchlstm.interop.tensorflow import layer_answers, model_answers
from scratchlstm.layers import LSTM, Layer
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import as_states, no_layer
from scratchlstm.models.model import Model, Sequential
from scratchlstm.rows import RowGradient, as_array
from scratchlstm.training.data import check_data, inputs_of

EPSILON = 1e-5
TOLERANCE = 1e-7
# up to this many numbers a tensor is checked number by number, beyond along random directions
EVERY_NUMBER = 2000
DIRECTIONS = 20
_Loss = Callable[[], float]
_NEGLIGIBLE = 1e-2  # differences are measured against a norm of at least this, so that rounding is not compared to zero


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
        problem: what is wrong apart from numbers (a gradient missing or of another shape), or of a wrong gradient the
            gates whose blocks of columns are wrong.
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
        width = max([28, *(len(row.tensor) + 2 for row in self.rows)])
        lines = [self.title, f"  {'tensor':<{width}}{'shape':<14}{'vs numerical':>13}{'vs TensorFlow':>15}  verdict"]
        for row in self.rows:
            numbers = (f"{error:.1e}" if error is not None else "-" for error in (row.numerical, row.tensorflow))
            verdict = "ok" if row.ok else f"WRONG {row.problem}".rstrip()
            lines.append("  {:<{}}{:<14}{:>13}{:>15}  {}".format(row.tensor, width, str(row.shape), *numbers, verdict))
        return "\n".join(lines)


def numerical_gradient(loss: Callable[[], float], array: Array, epsilon: float = EPSILON) -> np.ndarray:
    """Central differences, dL/da ≈ (L(a + ε) - L(a - ε)) / 2ε, for each number of `array`.

    Args:
        loss: computes L anew from `array`, which is changed in place and put back.
        array: float64, of NumPy or CuPy.
        epsilon: ε; 1e-5 balances rounding and curvature in float64.

    Returns:
        A NumPy array of the same shape.

    Raises:
        TypeError: no array.
        ValueError: in another dtype, or an epsilon that is not above 0.
    """
    checks.function("loss", loss)
    if not backend.is_array(array):
        raise TypeError(f"array must be a NumPy array, which can be changed in place, not {type(array).__name__}")
    _require_float64({"array": array})
    checks.number("epsilon", epsilon, above=0)
    gradient = np.empty(array.shape)
    for place in np.ndindex(array.shape):
        direction = np.zeros(array.shape)
        direction[place] = 1
        gradient[place] = _slope(loss, array, direction, epsilon)
    return gradient


def relative_error(analytic: Any, reference: Any) -> float:
    """||a - b|| / max(||a||, ||b||), with a floor under the divisor where both are next to nothing."""
    analytic = checks.array("analytic", analytic, numeric=True)
    reference = checks.array("reference", reference, numeric=True)
    scale = max(float(np.linalg.norm(analytic)), float(np.linalg.norm(reference)), _NEGLIGIBLE)
    return float(np.linalg.norm(analytic - reference)) / scale


def check_layer(
    layer: Layer | LayerLike, x: Any, *, initial_state: Any = None, mask: Any = None, training: bool = False,
    tensorflow: bool = False, seed: int = 0, epsilon: float = EPSILON, tolerance: float = TOLERANCE,
) -> Report:  # fmt: skip
    """Compare a layer's gradients with numerical ones, for L = Σ r y with random r on every number of every output.

    While it runs, each parameter has a little noise added: at 0, at 1 or at a symmetric matrix, where many begin, a
    forgotten factor makes no difference.

    Of a layer that is not `trainable`, those of its input and states alone. If a recurrent layer's kernel is wrong, the
    report names the gates whose blocks of columns are wrong in a single step.

    Args:
        layer: ours, built or not, or your own with `params`, `grads`, `forward(x)` and `backward(dy)`.
        x: a float64 input, or integers; for a layer that takes several inputs, their list.
        initial_state: of a recurrent layer, arrays (B, H), for an `LSTM` [h0, c0]; drawn at random where None.
        mask: (B, T), for a layer that takes one; of several inputs a list.
        training: check the pass that training takes; dropout then draws the same numbers at every pass.
        tensorflow: also compare outputs and gradients with TensorFlow's (layers of this package only).
        seed: of r and of the states.
        epsilon: see `numerical_gradient`.
        tolerance: largest relative error that is right.

    Raises:
        TypeError: not a layer, or no numbers.
        ValueError: parameters or x in float32, a mask or states that the layer does not take, another argument out of
            its bounds, or nothing that TensorFlow could be compared with.
        ImportError: no TensorFlow.
    """
    _require_arguments(epsilon, tolerance, training=training, tensorflow=tensorflow)
    _require_layer(layer, mask, initial_state, tensorflow)
    rng = np.random.default_rng(checks.seed(seed))
    several = getattr(layer, "merges", False) and isinstance(x, list | tuple)
    given = [host(as_array(each)).copy() for each in (x if several else [x])]
    inputs = {f"x[{number}]": each for number, each in enumerate(given)} if several else {"x": given[0]}
    _require_float64({name: each for name, each in inputs.items() if each.dtype.kind == "f"})
    if isinstance(layer, Layer):
        try:
            received = layer.receive(given if several else given[0])  # builds it
        except (TypeError, ValueError) as error:
            raise type(error)(f"x: {error}") from error
        inputs = dict(zip(inputs, received if several else [received], strict=True))
    _require_float64(layer.params)
    if isinstance(layer, layers.Masking) and not layer.output_mask(inputs["x"], None).all():
        what = f"steps of {layer.mask_value} alone, which Masking hides until they move at all"
        raise ValueError(f"x has {what}: they have no numerical gradient; check it on other steps")

    with _with_noise(layer.params, rng.spawn(1)[0]):
        where = layer.backend if isinstance(layer, Layer) else "numpy"
        mask = (
            [_copied_mask(each) for each in mask] if several and isinstance(mask, list | tuple) else _copied_mask(mask)
        )
        sizes: dict[str, int] = getattr(layer, "state_sizes", {})
        states: dict[str, np.ndarray] = {}
        if sizes:
            if initial_state is None:
                initial_state = [rng.normal(size=(len(given[0]), size)) for size in sizes.values()]
            states = _copied_states(type(layer).__name__, initial_state, sizes)
            states = {name: backend.to(where, state) for name, state in states.items()}
        tensors = inputs | states
        if same := tensors.keys() & layer.params.keys():
            raise ValueError(
                f"a parameter of {type(layer).__name__} and an input of the check are both called {min(same)}"
            )
        x = list(inputs.values()) if several else (inputs["x"], *states.values()) if states else inputs["x"]
        run, call = Pass(training, keeps_states=False), {"training": True} if training else {}

        def forward(again: bool = True) -> tuple[list[np.ndarray], Any]:
            if isinstance(layer, Layer):
                y, cache = layer.forward(x, run.again() if again else run, mask)
            else:
                y, cache = layer.forward(x, **call if mask is None else call | {"mask": mask}), None
            return [host(as_array(part)) for part in (y if isinstance(y, list | tuple) else [y])], cache

        found, cache = forward(again=False)
        weights = [rng.normal(size=part.shape) for part in found]
        dy = [backend.to(where, r) for r in weights]
        grads: Mapping[str, Any]
        answers: Mapping[str, np.ndarray] = {}
        if isinstance(layer, Layer):
            dx, grads = layer.backward(tuple(dy) if len(dy) > 1 else dy[0], cache)
            if tensorflow:
                answers = layer_answers(layer, cache, inputs, states, mask, weights, training)
        else:
            dx, grads = layer.backward(*dy), layer.grads
        params = layer.unfrozen_params if isinstance(layer, Layer) else layer.params
        checked = {name: (array, grads.get(name)) for name, array in params.items()}
        arrived = zip(tensors.items(), dx if several or states else [dx], strict=True)
        checked |= {name: (array, d) for (name, array), d in arrived if array.dtype.kind == "f"}

        def loss() -> float:
            return sum(float(np.sum(r * y)) for r, y in zip(weights, forward()[0], strict=True))

        values = {f"output {number}": y.copy() for number, y in enumerate(found)}
        blocks = layer.column_blocks if isinstance(layer, Layer) else {}
        shapes = ", ".join(str(each.shape) for each in inputs.values())
        title = f"{type(layer).__name__}, input {shapes}, a gradient on every output"
        report = Report(title, list(_rows(values, checked, loss, answers, rng, epsilon, tolerance, blocks)))
        if blocks and not report.ok and not several and given[0].ndim == 3 and given[0].shape[1] > 1:
            # a mistake in one gate reaches the others through h and the steps before: one step shows which it is
            step = check_layer(
                layer, given[0][:, :1], initial_state=list(states.values()) or None, training=training, seed=seed,
                epsilon=epsilon, tolerance=tolerance,
            )  # fmt: skip
            of_step = {row.tensor: row for row in step.rows}
            for row in report.rows:
                if not row.ok and row.tensor in of_step:
                    alone = of_step[row.tensor]
                    row.problem = "over several steps, right in one" if alone.ok else alone.problem
        return report


def check_functions(
    forward: Callable[..., Any], backward: Callable[[Any, Any], Any], inputs: Sequence[Any] | Mapping[str, Any], *,
    seed: int = 0, epsilon: float = EPSILON, tolerance: float = TOLERANCE,
) -> Report:  # fmt: skip
    """Compare the gradients of two functions of your own with numerical ones, for L = Σ r out with a random r.

        forward(*inputs) -> out, cache
        backward(dout, cache) -> gradients

    Args:
        forward: out is an array, or a tuple of arrays, in float64.
        backward: gets dL/d of each output, as out; gives a tuple of gradients in the order of the inputs, or for a
            single input the array alone. That of an integer input is not looked at.
        inputs: x and the parameters alike, float64 or integers: a list, or a dict by name in the order of `forward`.
        seed: of r.
        epsilon, tolerance: see `check_layer`.

    Raises:
        TypeError: no functions, no inputs, or something that is no array of numbers.
        ValueError: float32, or another number of gradients than of inputs.
    """
    _require_arguments(epsilon, tolerance)
    checks.function("forward", forward)
    checks.function("backward", backward)
    rng = np.random.default_rng(checks.seed(seed))
    checks.instance("inputs", inputs, list | tuple | Mapping, "a list of arrays, or a dict of arrays by name")
    if not inputs:
        raise TypeError("inputs must have an array for each argument of forward, but is empty")
    named = inputs if isinstance(inputs, Mapping) else {f"x[{number}]": each for number, each in enumerate(inputs)}
    tensors = {str(name): np.array(checks.array(f"input {name}", each, numeric=True)) for name, each in named.items()}
    floats = {name: array for name, array in tensors.items() if array.dtype.kind == "f"}
    _require_float64(floats)

    def outputs() -> tuple[dict[str, np.ndarray], bool, Any]:
        came = forward(*tensors.values())
        if not isinstance(came, tuple) or len(came) != 2:
            raise TypeError(f"forward must return out and cache, not {checks.came(came)}")
        several = isinstance(came[0], tuple | list)
        parts = {f"output {number}": part for number, part in enumerate(came[0] if several else came[:1])}
        return {name: checks.array(name, part, numeric=True) for name, part in parts.items()}, several, came[1]

    found, several, cache = outputs()
    _require_float64(found)
    weights = {name: rng.normal(size=part.shape) for name, part in found.items()}
    copies = [r.copy() for r in weights.values()]  # which backward may change
    given = backward(tuple(copies) if several else copies[0], cache)
    gradients = given if isinstance(given, tuple | list) else [given]
    if len(gradients) != len(tensors):
        wanted = f"a gradient for each of the {len(tensors)} inputs, in their order"
        raise ValueError(f"backward must return {wanted}, but returned {len(gradients)}")
    checked = {}
    for (name, array), d in zip(tensors.items(), gradients, strict=True):
        if name in floats:
            checked[name] = array, None if d is None else checks.array(f"the gradient of {name}", d, numeric=True)
    loss: _Loss = lambda: sum(float(np.sum(weights[n] * y)) for n, y in outputs()[0].items())  # noqa: E731
    shapes = ", ".join(str(array.shape) for array in tensors.values())
    title = f"{getattr(forward, '__name__', 'forward')}, input {shapes}, a gradient on every output"
    return Report(title, list(_rows({}, checked, loss, {}, rng, epsilon, tolerance)))


def check_model(
    model: Model, x: Any, y: Any, *, training: bool = False, tensorflow: bool = False,
    seed: int = 0, epsilon: float = EPSILON, tolerance: float = TOLERANCE,
) -> Report:  # fmt: skip
    """Compare the gradients of a compiled model's loss with numerical ones, for all parameters that are trained.

    Args:
        model: compiled, in float64.
        x, y: a batch.
        training, tensorflow, seed, epsilon, tolerance: see `check_layer`.

    Raises:
        TypeError: not a model.
        RuntimeError: not compiled.
        ValueError, ImportError: see `check_layer`.
    """
    _require_arguments(epsilon, tolerance, training=training, tensorflow=tensorflow)
    if not isinstance(model, Model):
        raise TypeError(f"check_model takes a Sequential or a Model, not {model!r}; check_layer takes a layer")
    model._require_compiled("check_model")
    rng = np.random.default_rng(checks.seed(seed))
    data = check_data(model, x, y)
    x = data.x if isinstance(data.x, tuple) else host(data.x)
    model.build_for(data.shape)
    _require_float64(model.network.params)
    params = dict(model.network.trainable_params)
    if not params:
        raise ValueError(f"{model.name} has no parameter that is trained, so no gradient to check: set trainable=True")
    first = Pass(training, keeps_states=False)

    def forward(run: Pass) -> tuple[list[np.ndarray], Any, Any]:
        y_pred, cache = model.network.forward(x, run)
        y_preds = list(map(as_array, model.by_output(y_pred)))
        judged = model.loss_with_gradient(data.y, y_preds if len(y_preds) > 1 else y_preds[0], cache.kept)
        return list(map(host, y_preds)), cache, judged

    y_preds, cache, (loss, dy, from_logits) = forward(first)
    grads = model.gradients_by_name(dy, cache, from_logits)
    tensors = {name: (param, grads.get(name)) for name, param in params.items()}
    answers = model_answers(model, cache, x, data.y, training) if tensorflow else {}
    values = {f"output {number}": y_pred.copy() for number, y_pred in enumerate(y_preds)} | {"loss": host(loss)}
    again: _Loss = lambda: float(forward(first.again())[2][0])  # noqa: E731
    rows = _rows(values, tensors, again, answers, rng, epsilon, tolerance, model.network.column_blocks)
    order = " -> " if model.is_stack else ", "
    shapes = ", ".join(str(each.shape) for each in inputs_of(x))
    return Report(f"{order.join(type(layer).__name__ for layer in model.layers)}, input {shapes}", list(rows))


def reports_in_small(tensorflow: bool, seed: int = 0, implementation: str = "fused") -> Iterator[Report]:
    """The checks of `python -m scratchlstm gradcheck`, with small sizes.

    First the tutorial's LSTM alone, from random states and with a gradient on every output, where bugs cannot hide, and
    the tutorial's model with its loss. Then what may stand around an LSTM: masks, both directions, a label at every
    step, regularizers, dropout as in training; and ways that part and meet again.
    """
    rng = np.random.default_rng(checks.seed(seed))
    options: dict[str, Any] = {"dtype": "float64"}

    def lstm(units: int, **more: Any) -> LSTM:
        return LSTM(units, implementation=implementation, **options, **more)

    alone = lstm(4, return_sequences=True, return_state=True)
    yield check_layer(alone, rng.normal(size=(3, 6, 5)), tensorflow=tensorflow, seed=seed)

    ids, labels = rng.integers(0, 11, size=(3, 6)), rng.integers(0, 2, size=3)
    parts = [layers.Embedding(11, 5, input_shape=(6,), **options), lstm(4), layers.Dense(1, "sigmoid", **options)]
    tutorial = Sequential(parts, seed=seed)
    tutorial.compile("adam", "binary_crossentropy")
    yield check_model(tutorial, ids, labels, tensorflow=tensorflow, seed=seed)

    padded = (1 + ids % 10) * (np.arange(6) >= np.arange(3)[:, None])  # 0, 1 and 2 steps of padding
    penalty = regularizers.L2(1 / 64)  # Keras rounds it to float32, where this is exact
    parts = [
        layers.Embedding(11, 5, mask_zero=True, input_shape=(6,), **options),
        layers.SpatialDropout1D(0.2, **options),
        layers.Bidirectional(lstm(3, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)),
        layers.Bidirectional(lstm(2, return_sequences=True, kernel_regularizer=penalty)),
        layers.Dense(3, "softmax", **options),
    ]
    stack = Sequential(parts, seed=seed)
    _scatter(stack, rng)
    stack.compile("adam", "sparse_categorical_crossentropy")
    tags = rng.integers(0, 3, size=(3, 6))
    yield check_model(stack, padded, tags, training=True, tensorflow=tensorflow, seed=seed)

    words = layers.Input((6,))
    vectors = layers.Embedding(11, 5, mask_zero=True, **options)(words)
    ways = [layers.GlobalAveragePooling1D(**options)(vectors), lstm(4, go_backwards=True)(vectors)]
    both = layers.LayerNormalization(**options)(layers.Concatenate(**options)(ways))
    branches = Model(words, layers.Dense(1, "sigmoid", **options)(both), seed=seed)
    _scatter(branches, rng)
    branches.compile("adam", "binary_crossentropy")
    yield check_model(branches, padded, labels, tensorflow=tensorflow, seed=seed)


def _scatter(model: Model, rng: np.random.Generator) -> None:
    """Random parameters, biases too, of a size at which no gradient is next to nothing."""
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.params])


def _rows(
    values: Mapping[str, np.ndarray], tensors: Mapping[str, tuple[np.ndarray, Any]], loss: _Loss,
    answers: Mapping[str, np.ndarray], rng: np.random.Generator, epsilon: float, tolerance: float,
    blocks: Mapping[str, Sequence[str]] = {},
) -> Iterator[Row]:  # fmt: skip
    """First what the forward pass gave, where TensorFlow has answers to compare it with, then the gradients."""
    # all analytic gradients are copied first: computing the loss runs the layers again
    dense = {name: d.dense() if isinstance(d, RowGradient) else d for name, (_, d) in tensors.items()}
    copies = {name: None if d is None else np.array(host(d)) for name, d in dense.items()}
    if answers:
        for name, value in values.items():
            yield _compared(Row(name, value.shape, tolerance=tolerance), value, answers[name])
    for name, (array, _) in tensors.items():
        row, analytic = Row(name, array.shape, tolerance=tolerance), copies[name]
        if analytic is None:
            row.problem = "no gradient"
        elif analytic.shape != array.shape:
            row.problem = f"gradient of shape {analytic.shape}"
        else:
            row.numerical = _numeric_error(loss, array, analytic, rng, epsilon)
            if answers:
                _compared(row, analytic, answers[name])
        if not (row.ok or row.problem) and len(blocks.get(name, ())) > 1:
            row.problem = _wrong_blocks(blocks[name], loss, array, analytic, rng, epsilon, tolerance)
        yield row


def _wrong_blocks(
    blocks: Sequence[str], loss: _Loss, array: Array, analytic: Any, rng: np.random.Generator, epsilon: float,
    tolerance: float,
) -> str:  # fmt: skip
    """Which of the named blocks of columns a wrong gradient is wrong in."""
    columns = zip(np.split(array, len(blocks), axis=-1), np.split(analytic, len(blocks), axis=-1), strict=True)
    found = [_numeric_error(loss, *of_block, rng, epsilon) for of_block in columns]  # views, changed in place
    errors = dict(zip(blocks, found, strict=True))
    wrong = [name for name, error in errors.items() if not error <= tolerance]
    right = [name for name in errors if name not in wrong]
    return f"in {', '.join(wrong)}" + (f" ({', '.join(right)} ok)" if right else "")


def _compared(row: Row, ours: np.ndarray, answer: np.ndarray) -> Row:
    """The row with the difference from TensorFlow's answer."""
    if answer.shape != ours.shape:
        row.problem = f"TensorFlow's has shape {answer.shape}"
    else:
        row.tensorflow = relative_error(ours, answer)
        row.problem = "" if np.all(np.isfinite(answer)) else "TensorFlow's is not finite"
    return row


def _numeric_error(loss: _Loss, array: Array, analytic: np.ndarray, rng: np.random.Generator, epsilon: float) -> float:
    if array.size <= EVERY_NUMBER:
        return relative_error(analytic, numerical_gradient(loss, array, epsilon))
    directions = [direction / np.linalg.norm(direction) for direction in rng.normal(size=(DIRECTIONS, *array.shape))]
    slopes = [_slope(loss, array, direction, epsilon) for direction in directions]
    return relative_error([float(np.sum(analytic * direction)) for direction in directions], slopes)


def _slope(loss: _Loss, array: Array, direction: np.ndarray, epsilon: float) -> float:
    """How L changes along `direction`; `array` is put back exactly."""
    before = array.copy()
    try:
        step = epsilon * backend.beside(array, direction)
        array[...] = before + step
        above = loss()
        array[...] = before - step
        return (above - loss()) / (2 * epsilon)
    finally:
        array[...] = before


@contextmanager
def _with_noise(params: Mapping[str, Array], rng: np.random.Generator) -> Iterator[None]:
    """The parameters, each a little off its value; at the end exactly as they were."""
    before = {name: param.copy() for name, param in params.items()}
    try:
        for param in params.values():
            param += backend.beside(param, 0.1 * rng.normal(size=param.shape))
        yield
    finally:
        for name, param in params.items():
            param[...] = before[name]


def _require_arguments(epsilon: float, tolerance: float, **flags: bool) -> None:
    for argument, value in flags.items():
        checks.flag(argument, value)
    checks.number("epsilon", epsilon, above=0)
    checks.number("tolerance", tolerance, above=0)


def _require_layer(layer: Any, mask: Any, initial_state: Any, tensorflow: bool) -> None:
    if isinstance(layer, Cell | StackedRNNCells):
        raise TypeError(f"layer must be a layer, not {no_layer(layer)}")
    if missing := [name for name in ("params", "forward", "backward") if not hasattr(layer, name)]:
        raise TypeError(f"layer must have params, grads, forward and backward, but {layer!r} has no {missing[0]}")
    kind = type(layer).__name__
    if not isinstance(layer.params, Mapping):
        raise TypeError(f"layer must have params by name, which {kind} has not (check_model takes a model)")
    if isinstance(layer, Layer):
        if type(layer).forward is Layer.forward:
            raise TypeError(f"layer must compute something, which {kind} does not")
        if mask is not None and not layer.takes_mask:
            raise ValueError(f"mask was given, but {kind} takes none")
    elif tensorflow:
        advice = "check it with tensorflow=False, against numerical gradients"
        raise ValueError(f"{kind} is not of scratchlstm, and TensorFlow does not know it: {advice}")
    if initial_state is not None and not getattr(layer, "state_sizes", None):
        raise ValueError(f"initial_state was given, but {kind} has no states")


def _copied_mask(mask: Any) -> np.ndarray | None:
    return None if mask is None else host(as_array(mask, "mask")).copy()


def _copied_states(owner: str, given: Any, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The states, each an array of its own, which may be changed; the layer itself looks at their shapes."""
    if backend.is_array(given) and given.ndim and len(sizes) > 1:
        given = list(given)
    listed = as_states(owner, list(sizes), given)
    try:
        return {name: host(state, "float64").copy() for name, state in zip(sizes, listed, strict=True)}
    except (TypeError, ValueError) as error:
        raise TypeError(f"initial_state of {owner} must hold numbers: {error}") from error


def _require_float64(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if (dtype := as_array(array).dtype) != np.float64:
            advice = 'make it float64 (for layers of this package: dtype="float64", or config.set_floatx("float64"))'
            raise ValueError(f"{name} is {dtype}, in which a gradient cannot be checked closely; {advice}")
