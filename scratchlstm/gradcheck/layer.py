"""Check the gradients of a layer, ours or yours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeGuard

import numpy as np

from scratchlstm import backend, layers
from scratchlstm._support import checks
from scratchlstm.backend import Array, host
from scratchlstm.cells import Cell, StackedRNNCells
from scratchlstm.gradcheck.arguments import require_arguments, require_float64
from scratchlstm.gradcheck.comparison import compare, in_blocks
from scratchlstm.gradcheck.numerical import EPSILON
from scratchlstm.gradcheck.own_layer import diagnose, own_blocks
from scratchlstm.gradcheck.recurrent import diagnoses
from scratchlstm.gradcheck.report import TOLERANCE, Report
from scratchlstm.interop.tensorflow import layer_answers
from scratchlstm.layers import Layer
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import as_states, no_layer
from scratchlstm.rows import as_array


class LayerLike(Protocol):
    """What `check_layer` needs of a layer, ours or yours."""

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        """Name -> array; each is changed in place and restored."""

    @property
    def grads(self) -> Mapping[str, Any]:
        """Name -> gradient from the last backward pass."""

    def forward(self, x: Any) -> Any:
        """y for x."""

    def backward(self, *dy: Any) -> Any:
        """dL/dx from dL/dy (one for each output); sets `grads`."""


def check_layer(
    layer: Layer | LayerLike, x: Any, *, initial_state: Any = None, mask: Any = None, training: bool = False,
    tensorflow: bool = False, seed: int = 0, epsilon: float = EPSILON, tolerance: float = TOLERANCE,
) -> Report:  # fmt: skip
    """Compare a layer's gradients with numerical ones, for L = Σ r y with random r for every element of every output.

    Meanwhile each parameter has a little noise added: at the usual initial values 0, 1, or a symmetric matrix, a
    forgotten factor would make no difference.

    For a layer that is not `trainable`, only the gradients of its input and states are checked.

    If a recurrent layer is wrong, the report names the gates whose blocks of columns are wrong in a single step and the
    steps at which dx is wrong, and ends with the `diagnosis`: which equation is wrong and how, or what is wrong in the
    loop over the steps. This works for the recurrent layers of this package, for `RNN` with a cell of your own, and for
    your own layer if its recurrent_kernel is (H, nH): for n = 4 the blocks are assumed to be i f g o, as in Keras. A
    mistake is named only if it reproduces exactly the gradients found.

    Args:
        layer: ours, built or not, or your own with `params`, `grads`, `forward(x)` and `backward(dy)`.
        x: a float64 input, or integers; for a layer with several inputs, a list.
        initial_state: for a recurrent layer, arrays (B, H), for an `LSTM` [h0, c0]; None draws random ones.
        mask: (B, T), for a layer that takes one; for several inputs a list.
        training: check the pass used in training; dropout then draws the same numbers in every pass.
        tensorflow: also compare outputs and gradients with TensorFlow's (layers of this package only).
        seed: seed of r and of the states.
        epsilon: see `numerical_gradient`.
        tolerance: the largest relative error accepted as right.

    Raises:
        TypeError: not a layer, or not numbers.
        ValueError: parameters or x in float32, a mask or states that the layer does not take, another argument out of
            range, or nothing to compare with in TensorFlow.
        ImportError: TensorFlow is not installed.
    """
    require_arguments(epsilon, tolerance, training=training, tensorflow=tensorflow)
    _require_layer(layer, mask, initial_state, tensorflow)
    rng = np.random.default_rng(checks.seed(seed))
    several = getattr(layer, "merges", False) and isinstance(x, list | tuple)
    given = [host(as_array(each)).copy() for each in (x if several else [x])]
    inputs = {f"x[{number}]": each for number, each in enumerate(given)} if several else {"x": given[0]}
    require_float64({name: each for name, each in inputs.items() if each.dtype.kind == "f"})
    if isinstance(layer, Layer):
        try:
            received = layer.receive(given if several else given[0])  # builds the layer
        except (TypeError, ValueError) as error:
            raise type(error)(f"x: {error}") from error
        inputs = dict(zip(inputs, received if several else [received], strict=True))
    require_float64(layer.params)
    if isinstance(layer, layers.Masking) and not layer.output_mask(inputs["x"], None).all():
        what = f"steps of {layer.mask_value} alone, which Masking hides until they change at all"
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
        named = getattr(layer, "column_blocks", Layer.column_blocks)
        blocks = own_blocks(layer) if named is Layer.column_blocks else named
        shapes = ", ".join(str(each.shape) for each in inputs.values())
        title = f"{type(layer).__name__}, input {shapes}, a gradient on every output"
        sequences = ["x"] if blocks and not several and given[0].ndim == 3 else []
        rows = compare(values, checked, loss, answers, rng, epsilon, tolerance, blocks, sequences)
        report = Report(title, list(rows))
        if blocks and any(row.differs for row in report.rows):
            step = partial(
                check_layer, layer, given[0][:, :1], initial_state=list(states.values()) or None, training=training,
                seed=seed, epsilon=epsilon, tolerance=tolerance,
            )  # fmt: skip
            # this runs the layer on other inputs, which not all custom layers accept
            with suppress(Exception), np.errstate(all="ignore"):
                from_zeros = not states and not _has_cells(layer)
                alone = step() if sequences and given[0].shape[1] > 1 else Report("")
                _split(report, alone, from_zeros)
                if _has_cells(layer):
                    report.diagnosis = diagnoses(layer, seed) if alone.ok or not alone.rows else alone.diagnosis
                elif sequences and from_zeros:
                    wrong, report.diagnosis = diagnose(layer, seed)
                    _name_blocks(report, blocks, wrong)
        return report


def _has_cells(layer: Any) -> TypeGuard[Layer]:
    """Whether it consists of this package's recurrent layers, which name their blocks of columns."""
    return isinstance(layer, Layer) and bool(layer.column_blocks)


def _split(report: Report, step: Report, from_zeros: bool) -> None:
    """Say which wrong tensors are right in a single step, and for others which gates are wrong in it.

    A mistake in one gate reaches the others through h and earlier steps. A step from zeros sees nothing of a forget
    gate, so what is wrong in such a step says less than what is wrong over several.
    """
    of_step = {row.tensor: row for row in step.rows}
    for row in [row for row in report.rows if row.differs and row.tensor in of_step]:
        alone = of_step[row.tensor]
        if alone.ok:
            at = f": {row.problem}" if row.problem.startswith("at ") else ""
            row.problem = f"over several steps, right in one{at}"
        elif not from_zeros:
            row.problem = alone.problem or row.problem


def _name_blocks(report: Report, blocks: Mapping[str, Sequence[str]], wrong: Sequence[bool]) -> None:
    """Say which blocks are wrong in a step, unless all or none are."""
    if any(wrong) and not all(wrong):
        for row in [row for row in report.rows if row.differs]:
            row.problem = in_blocks(blocks[row.tensor], wrong) if row.tensor in blocks else ""


@contextmanager
def _with_noise(params: Mapping[str, Array], rng: np.random.Generator) -> Iterator[None]:
    """The parameters with a little noise; restored exactly at the end."""
    before = {name: param.copy() for name, param in params.items()}
    try:
        for param in params.values():
            param += backend.beside(param, 0.1 * rng.normal(size=param.shape))
        yield
    finally:
        for name, param in params.items():
            param[...] = before[name]


def _require_layer(layer: Any, mask: Any, initial_state: Any, tensorflow: bool) -> None:
    if isinstance(layer, Cell | StackedRNNCells):
        raise TypeError(f"layer must be a layer, not {no_layer(layer)}")
    if missing := [name for name in ("params", "forward", "backward") if not hasattr(layer, name)]:
        raise TypeError(f"layer must have params, grads, forward and backward, but {layer!r} has no {missing[0]}")
    kind = type(layer).__name__
    if not isinstance(layer.params, Mapping):
        raise TypeError(f"layer must have params by name, which {kind} does not (check_model takes a model)")
    if isinstance(layer, Layer):
        if type(layer).forward is Layer.forward:
            raise TypeError(f"layer must compute something, which {kind} does not")
        if mask is not None and not layer.takes_mask:
            raise ValueError(f"mask was given, but {kind} takes none")
    elif tensorflow:
        advice = "check it with tensorflow=False, against numerical gradients"
        raise ValueError(f"{kind} is not part of scratchlstm, and TensorFlow does not know it: {advice}")
    if initial_state is not None and not getattr(layer, "state_sizes", None):
        raise ValueError(f"initial_state was given, but {kind} has no states")


def _copied_mask(mask: Any) -> np.ndarray | None:
    return None if mask is None else host(as_array(mask, "mask")).copy()


def _copied_states(owner: str, given: Any, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The states, each a separate array that may be changed; the layer itself checks their shapes."""
    if backend.is_array(given) and given.ndim and len(sizes) > 1:
        given = list(given)
    listed = as_states(owner, list(sizes), given)
    try:
        return {name: host(state, "float64").copy() for name, state in zip(sizes, listed, strict=True)}
    except (TypeError, ValueError) as error:
        raise TypeError(f"initial_state of {owner} must hold numbers: {error}") from error
