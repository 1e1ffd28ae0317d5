"""Check the gradients of a model's loss."""

from contextlib import suppress
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm.backend import host
from scratchlstm.gradcheck.arguments import require_arguments, require_float64
from scratchlstm.gradcheck.comparison import compare
from scratchlstm.gradcheck.numerical import EPSILON, Loss
from scratchlstm.gradcheck.recurrent import diagnoses
from scratchlstm.gradcheck.report import TOLERANCE, Report
from scratchlstm.interop.tensorflow import model_answers
from scratchlstm.layers.passes import Pass
from scratchlstm.models.model import Model
from scratchlstm.rows import as_array
from scratchlstm.training.data import check_data, inputs_of


def check_model(
    model: Model, x: Any, y: Any, *, training: bool = False, tensorflow: bool = False,
    seed: int = 0, epsilon: float = EPSILON, tolerance: float = TOLERANCE,
) -> Report:  # fmt: skip
    """Compare the gradients of a compiled model's loss with numerical ones, for all trained parameters.

    Args:
        model: compiled, in float64.
        x, y: a batch.
        training, tensorflow, seed, epsilon, tolerance: see `check_layer`.

    Raises:
        TypeError: not a model.
        RuntimeError: not compiled.
        ValueError, ImportError: see `check_layer`.
    """
    require_arguments(epsilon, tolerance, training=training, tensorflow=tensorflow)
    if not isinstance(model, Model):
        raise TypeError(f"check_model takes a Sequential or a Model, not {model!r}; check_layer takes a layer")
    model._require_compiled("check_model")
    rng = np.random.default_rng(checks.seed(seed))
    data = check_data(model, x, y)
    x = data.x if isinstance(data.x, tuple) else host(data.x)
    model.build_for(data.shape)
    require_float64(model.network.params)
    params = dict(model.network.trainable_params)
    if not params:
        raise ValueError(f"{model.name} has no trainable parameters, so no gradient to check: set trainable=True")
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
    again: Loss = lambda: float(forward(first.again())[2][0])  # noqa: E731
    rows = compare(values, tensors, again, answers, rng, epsilon, tolerance, model.network.column_blocks)
    order = " -> " if model.is_stack else ", "
    shapes = ", ".join(str(each.shape) for each in inputs_of(x))
    report = Report(f"{order.join(type(layer).__name__ for layer in model.layers)}, input {shapes}", list(rows))
    if any(row.differs for row in report.rows):
        with suppress(Exception), np.errstate(all="ignore"):  # a custom layer may not accept other inputs
            report.diagnosis = diagnoses(model.network, seed)
    return report
