"""Check the gradients of your own forward and backward functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm.gradcheck.arguments import require_arguments, require_float64
from scratchlstm.gradcheck.comparison import compare
from scratchlstm.gradcheck.numerical import EPSILON, Loss
from scratchlstm.gradcheck.report import TOLERANCE, Report


def check_functions(
    forward: Callable[..., Any], backward: Callable[[Any, Any], Any], inputs: Sequence[Any] | Mapping[str, Any], *,
    seed: int = 0, epsilon: float = EPSILON, tolerance: float = TOLERANCE,
) -> Report:  # fmt: skip
    """Compare the gradients of your own two functions with numerical ones, for L = Σ r out with random r.

        forward(*inputs) -> out, cache
        backward(dout, cache) -> gradients

    Args:
        forward: out is a float64 array or a tuple of them.
        backward: takes dL/d of each output, structured like out; returns a tuple of gradients in the order of the
            inputs, or for a single input just the array. Gradients of integer inputs are ignored.
        inputs: x and the parameters, float64 or integers: a list, or a dict by name in the order of `forward`.
        seed: seed of r.
        epsilon, tolerance: see `check_layer`.

    Raises:
        TypeError: not functions, no inputs, or something that is not an array of numbers.
        ValueError: float32, or not one gradient per input.
    """
    require_arguments(epsilon, tolerance)
    checks.function("forward", forward)
    checks.function("backward", backward)
    rng = np.random.default_rng(checks.seed(seed))
    checks.instance("inputs", inputs, list | tuple | Mapping, "a list of arrays, or a dict of arrays by name")
    if not inputs:
        raise TypeError("inputs must have an array for each argument of forward, but is empty")
    named = inputs if isinstance(inputs, Mapping) else {f"x[{number}]": each for number, each in enumerate(inputs)}
    tensors = {str(name): np.array(checks.array(f"input {name}", each, numeric=True)) for name, each in named.items()}
    floats = {name: array for name, array in tensors.items() if array.dtype.kind == "f"}
    require_float64(floats)

    def outputs() -> tuple[dict[str, np.ndarray], bool, Any]:
        came = forward(*tensors.values())
        if not isinstance(came, tuple) or len(came) != 2:
            raise TypeError(f"forward must return out and cache, not {checks.came(came)}")
        several = isinstance(came[0], tuple | list)
        parts = {f"output {number}": part for number, part in enumerate(came[0] if several else came[:1])}
        return {name: checks.array(name, part, numeric=True) for name, part in parts.items()}, several, came[1]

    found, several, cache = outputs()
    require_float64(found)
    weights = {name: rng.normal(size=part.shape) for name, part in found.items()}
    copies = [r.copy() for r in weights.values()]  # backward may change them
    given = backward(tuple(copies) if several else copies[0], cache)
    gradients = given if isinstance(given, tuple | list) else [given]
    if len(gradients) != len(tensors):
        wanted = f"a gradient for each of the {len(tensors)} inputs, in their order"
        raise ValueError(f"backward must return {wanted}, but returned {len(gradients)}")
    checked = {}
    for (name, array), d in zip(tensors.items(), gradients, strict=True):
        if name in floats:
            checked[name] = array, None if d is None else checks.array(f"the gradient of {name}", d, numeric=True)
    loss: Loss = lambda: sum(float(np.sum(weights[n] * y)) for n, y in outputs()[0].items())  # noqa: E731
    shapes = ", ".join(str(array.shape) for array in tensors.values())
    title = f"{getattr(forward, '__name__', 'forward')}, input {shapes}, a gradient on every output"
    return Report(title, list(compare({}, checked, loss, {}, rng, epsilon, tolerance)))
