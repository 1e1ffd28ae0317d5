"""The data the page needs to run a model itself: weights, and the embedding rows of the words it knows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm import activations, losses
from scratchlstm._support import checks
from scratchlstm.inspection.explorer.packing import packed, packed_size
from scratchlstm.inspection.explorer.page import as_text
from scratchlstm.inspection.explorer.reading import Reading, Step
from scratchlstm.inspection.explorer.recorded import name_of
from scratchlstm.layers import LSTM, Dense, Dropout, Embedding, SpatialDropout1D, WordDropout
from scratchlstm.layers.weights import check_weights, name_weights
from scratchlstm.models.model import Model

Weights = Sequence[np.ndarray]  # as from get_weights: embeddings, the LSTM's, the Dense layer's
Snapshot = tuple[str, Mapping[str, np.ndarray]]  # epoch, and the weights after it by "layer/parameter"

_PASSED_OVER = Dropout, SpatialDropout1D, WordDropout  # no effect outside training
_LOSSES = {  # class -> its name on the page, and the activation that turns logits into predictions
    losses.BinaryCrossentropy: ("binary", "sigmoid"),
    losses.CategoricalCrossentropy: ("categorical", "softmax"),
    losses.SparseCategoricalCrossentropy: ("categorical", "softmax"),
    losses.MeanSquaredError: ("squared", "linear"),
}
_MOST_VALUES = 5_000_000  # the most values per run on the page, which keeps several runs
_ARRAYS = 28  # number of arrays with a value for each step and unit


def why_not(model: Model, reading: Reading) -> str | None:
    """Why the page cannot run this model on a text, to end a sentence with; None if it can."""
    computing = _computing(model)
    if [type(layer) for layer in computing] != [Embedding, LSTM, Dense]:
        has = ", ".join(type(layer).__name__ for layer in computing)
        return f"it runs one Embedding, one LSTM and one Dense layer, but this model has {has}"
    embedding, lstm, dense = computing
    names = [name_of(lstm.activation), name_of(lstm.recurrent_activation)]
    if names != ["tanh", "sigmoid"]:
        return f"it runs LSTMs with tanh and sigmoid, but {lstm.name} has {' and '.join(names)}"
    if lstm.return_sequences:
        return f"it runs a Dense layer on the last h, but {lstm.name} returns every h"
    if not model.network.is_stack:
        return "it runs layers that each take the output of the one before, but in this model one does not"
    if lstm.zero_output_for_mask:
        return f"{lstm.name} outputs 0 at masked steps, which the page does not"
    if activations.serialize(dense.activation) not in ("sigmoid", "softmax", "linear"):
        has = f"{dense.name} has {name_of(dense.activation)}"
        return f"it runs a Dense layer with sigmoid, softmax or no activation, but {has}"
    if model._compiled and (reason := _why_not_loss(model, dense)):
        return reason
    if not all(np.isfinite(embedding.params["embeddings"][word_id]).all() for word_id in reading.ids):
        return "the embedding of the padding is not finite"
    steps = reading.length or len(reading.steps)
    values = steps * (_ARRAYS * lstm.units + 2 * embedding.output_dim + 2 * dense.units)
    if values > _MOST_VALUES:
        return f"a run of {steps:,} steps has {values:,} values, too many to compute while you watch"
    return None


def _why_not_loss(model: Model, dense: Dense) -> str | None:
    """Why the page cannot compute a model's loss."""
    if _loss(model, dense) is None:
        of = f"{type(model.loss).__name__} of {name_of(dense.activation)}"
        return f"it knows crossentropies and the mean squared error with the usual activations, but not {of}"
    if model.network.regularizers:
        return "it does not compute the penalties of regularizers, which are part of this model's loss"
    if model.targets[0].weight != 1:
        return f"it does not support loss_weights, but this model's is {model.targets[0].weight}"
    return None


def recomputed(model: Model) -> dict[str, Any]:
    """A model for which `why_not` is None, as data for the page, without its weights."""
    embedding, lstm, dense = _computing(model)
    return {
        "units": lstm.units,
        "features": embedding.output_dim,
        "backwards": lstm.go_backwards,
        "outputs": dense.units,
        "activation": activations.serialize(dense.activation),
        "loss_name": _loss(model, dense) if model._compiled else None,
    }


def with_the_models_own(model: Model, snapshots: Any) -> list[Snapshot]:
    """Checked (epoch, weights) pairs; the last has the model's own weights, with "" if the epoch is unknown.

    Raises:
        TypeError, ValueError: not such pairs, or weights of another model.
    """
    pairs = "(epoch, weights) pairs, as callbacks.Snapshots keeps them"
    checks.instance("snapshots", snapshots, list | tuple, f"a list of {pairs}")
    several = list, tuple
    if not all(isinstance(pair, several) and len(pair) == 2 and isinstance(pair[1], several) for pair in snapshots):
        raise TypeError(f"snapshots must be {pairs}, not {checks.came(snapshots)}")
    own = model.network.params
    checked: list[Snapshot] = []
    for epoch, weights in snapshots:
        owner = f"the snapshot of epoch {checks.whole_number('an epoch of snapshots', epoch)}"
        named = name_weights(owner, list(own), weights)
        for name, param in own.items():
            array = check_weights(owner, {name: param.shape}, {name: named[name]}, str(param.dtype))[name]
            named[name] = array.astype(param.dtype, copy=False)
        checked.append((str(epoch), named))
    if not checked or not all(np.array_equal(checked[-1][1][name], param) for name, param in own.items()):
        checked.append(("", own))
    return checked


def weights_size(model: Model, snapshots: Sequence[Snapshot], ids: set[int]) -> int:
    """Bytes in the page for the weights of all snapshots and the embedding rows of these ids."""
    arrays = [array for _, weights in snapshots for array in _arrays(model, weights, sorted(ids)).values()]
    # names, quotes and commas: at most 20 bytes for each array, snapshot and id, and 200 around all
    around = sum(len(as_text(label)) for label, _ in snapshots) + 20 * (len(arrays) + len(snapshots) + len(ids)) + 200
    return packed_size(arrays) + around


def fitting_words(
    snapshots: Sequence[Snapshot], words: Sequence[Step], ids: set[int], room: int
) -> list[Step]:  # fmt: skip
    """As many of the first words as fit into the page; words without a finite embedding are omitted."""
    tables = [next(iter(weights.values())) for _, weights in snapshots]  # (V, E) each
    row = packed_size(table[0] for table in tables)
    found, here = [], set(ids)
    for word in words:
        if not all(np.isfinite(table[word.id]).all() for table in tables):
            continue
        room -= len(as_text([word.word, word.id])) + 2 + (0 if word.id in here else row + 20)
        if room < 0:
            break
        here.add(word.id)
        found.append(word)
    return found


def packed_weights(
    model: Model, snapshots: Sequence[Snapshot], known: Sequence[Step], ids: set[int]
) -> dict[str, Any]:  # fmt: skip
    """The weights as data for the page: the rows of `ids` and of the known words."""
    rows = sorted(ids | {word.id for word in known})
    return {
        "ids": rows,
        "known": [[word.word, word.id] for word in known],
        "snapshots": [
            [label, {name: packed(array) for name, array in _arrays(model, weights, rows).items()}]
            for label, weights in snapshots
        ],
    }


def _computing(model: Model) -> list[Any]:
    return [layer for layer in model.layers if type(layer) not in _PASSED_OVER]


def _loss(model: Model, dense: Dense) -> str | None:
    """The page's name for the loss; None if the page does not know it with this head."""
    name, takes = _LOSSES.get(type(model.loss), (None, None))
    ends_in = activations.serialize(dense.activation)
    if ends_in == takes or (ends_in == "linear" and getattr(model.loss, "from_logits", False)):
        return name
    return None


def _arrays(model: Model, weights: Mapping[str, np.ndarray], ids: list[int]) -> dict[str, np.ndarray]:
    """One snapshot's arrays by their names in the page; a missing bias becomes 0."""
    embedding, lstm, dense = _computing(model)

    def of(layer: Any, name: str, size: int = 0) -> np.ndarray:
        return weights.get(f"{layer.name}/{name}", np.zeros(size, "float32"))

    return {
        "E": of(embedding, "embeddings")[ids],
        "W": of(lstm, "kernel"),
        "U": of(lstm, "recurrent_kernel"),
        "b": of(lstm, "bias", 4 * lstm.units),
        "w": of(dense, "kernel"),
        "w_b": of(dense, "bias", dense.units),
    }
