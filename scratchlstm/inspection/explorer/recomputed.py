"""What the page needs to run a model itself, in JavaScript: weights, and the embedding rows of the words it knows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchlstm import activations, losses
from scratchlstm._support import checks
from scratchlstm.inspection.explorer.packing import packed
from scratchlstm.inspection.explorer.reading import Step
from scratchlstm.layers import LSTM, Dense, Dropout, Embedding, SpatialDropout1D
from scratchlstm.layers.weights import check_weights, name_weights
from scratchlstm.models.model import Model

Weights = Sequence[np.ndarray]  # as get_weights gives them: embeddings, the LSTM's, the Dense layer's
Snapshot = tuple[str, Weights]  # epoch, and the weights after it

_PASSED_OVER = Dropout, SpatialDropout1D  # which do nothing but in training
_LOSSES = {  # the class -> its name on the page, the activation that turns logits into what it compares
    losses.BinaryCrossentropy: ("binary", "sigmoid"),
    losses.CategoricalCrossentropy: ("categorical", "softmax"),
    losses.SparseCategoricalCrossentropy: ("categorical", "softmax"),
    losses.MeanSquaredError: ("squared", "linear"),
}


def why_not(model: Model) -> str | None:
    """Why the page cannot run this model, as the end of a sentence; None if it can."""
    computing = [layer for layer in model.layers if type(layer) not in _PASSED_OVER]
    if [type(layer) for layer in computing] != [Embedding, LSTM, Dense]:
        has = ", ".join(type(layer).__name__ for layer in computing)
        return f"it runs one Embedding, one LSTM and one Dense layer, and this model has {has}"
    _, lstm, dense = computing
    names = tuple(map(activations.serialize, (lstm.activation, lstm.recurrent_activation)))
    if names != ("tanh", "sigmoid"):
        return f"it runs LSTMs with tanh and sigmoid, and {lstm.name} has {' and '.join(map(str, names))}"
    if lstm.return_sequences:
        return f"it runs a Dense layer on the last h, and {lstm.name} gives every h"
    if not model.network.is_stack:
        return "it runs layers of which each takes the output of the one before, and in this model one takes another"
    ends_in = activations.serialize(dense.activation)
    if ends_in not in ("sigmoid", "softmax", "linear"):
        return f"it runs a Dense layer with sigmoid, softmax or no activation, and {dense.name} has {ends_in}"
    if model._compiled and _loss(model, dense) is None:
        return f"it knows crossentropies and the mean squared error, and not {type(model.loss).__name__} of {ends_in}"
    return None


def with_the_models_own(model: Model, snapshots: Any) -> list[Snapshot]:
    """Checked (epoch, weights) pairs; the last has the model's own weights, with "" if no epoch is known.

    Raises:
        TypeError, ValueError: not such pairs, or weights of another model.
    """
    pairs = "(epoch, weights) pairs, as callbacks.Snapshots keeps them"
    checks.instance("snapshots", snapshots, list | tuple, f"a list of {pairs}")
    several = list, tuple
    if not all(isinstance(pair, several) and len(pair) == 2 and isinstance(pair[1], several) for pair in snapshots):
        raise TypeError(f"snapshots must be {pairs}, not {checks.came(snapshots)}")
    params = model.network.params
    checked: list[Snapshot] = []
    for epoch, weights in snapshots:
        owner = f"the snapshot of epoch {checks.whole_number('an epoch of snapshots', epoch)}"
        named = name_weights(owner, list(params), weights)
        for name, param in params.items():
            named |= check_weights(owner, {name: param.shape}, {name: named[name]}, str(param.dtype))
        checked.append((str(epoch), list(named.values())))
    own = model.get_weights()
    if not checked or not all(map(np.array_equal, checked[-1][1], own)):
        checked.append(("", own))
    return checked


def weights_in_page(model: Model, rows: int) -> int:
    """Bytes of the weights without which the page cannot run the model at all, with `rows` of the embeddings."""
    embeddings, *others = model.get_weights()
    return rows * embeddings[0].nbytes + sum(array.nbytes for array in others)


def recomputed(
    model: Model, snapshots: Sequence[Snapshot], needed: set[int], known: Sequence[Step]
) -> dict[str, Any]:
    """A model's weights, as the page takes them.

    Args:
        model: for which `why_not` is None.
        snapshots: see `with_the_models_own`.
        needed: ids without whose rows the text cannot be read.
        known: words whose rows go into the page, too.
    """
    _, lstm, dense = (layer for layer in model.layers if type(layer) not in _PASSED_OVER)
    ids = sorted({step.id for step in known} | needed)
    return {
        "ids": ids,
        "known": [[step.word, step.id] for step in known],
        "layer": lstm.name,
        "units": lstm.units,
        "features": model.layers[0].output_dim,
        "backwards": lstm.go_backwards,
        "dense": dense.name,
        "outputs": dense.units,
        "activation": activations.serialize(dense.activation),
        "loss_name": _loss(model, dense) if model._compiled else None,
        "snapshots": [[label, _named(model, lstm, dense, weights, ids)] for label, weights in snapshots],
    }


def _loss(model: Model, dense: Dense) -> str | None:
    """The page's name of the loss; None if the page does not know it with this head."""
    name, takes = _LOSSES.get(type(model.loss), (None, None))
    ends_in = activations.serialize(dense.activation)
    if ends_in == takes or (ends_in == "linear" and getattr(model.loss, "from_logits", False)):
        return name
    return None


def _named(model: Model, lstm: LSTM, dense: Dense, weights: Weights, ids: list[int]) -> dict[str, str]:
    """One snapshot's arrays by name; a missing bias is 0."""
    named = dict(zip(model.network.params, weights, strict=True))

    def of(layer: LSTM | Dense, name: str, size: int) -> np.ndarray:
        return named.get(f"{layer.name}/{name}", np.zeros(size, "float32"))

    arrays = {
        "E": weights[0][ids],
        "W": named[f"{lstm.name}/kernel"],
        "U": named[f"{lstm.name}/recurrent_kernel"],
        "b": of(lstm, "bias", 4 * lstm.units),
        "w": named[f"{dense.name}/kernel"],
        "w_b": of(dense, "bias", dense.units),
    }
    return {name: packed(array) for name, array in arrays.items()}
