"""The results of `trace` for a page that cannot run its model: each LSTM's, for the units that matter most."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchlstm import activations
from scratchlstm.activations import Activation
from scratchlstm.cells import Cell
from scratchlstm.inspection.explorer.packing import packed, packed_size
from scratchlstm.inspection.explorer.reading import Reading
from scratchlstm.inspection.trace import LayerTrace, by_block
from scratchlstm.layers import Activation as ActivationLayer
from scratchlstm.layers import Bidirectional, Dense, Dropout, Embedding, LayerNormalization
from scratchlstm.layers.base import Layer
from scratchlstm.layers.rnn import RNN
from scratchlstm.models.model import Model

_FORWARD = ["i", "f", "g", "o", "c_prev", "c", "h_prev", "h", "z_i", "z_f", "z_g", "z_o"]
_BACKWARD = ["dh_above", "dh_next", "dh", "dh_prev", "dc_next", "dc", "dc_prev", "dz_i", "dz_f", "dz_g", "dz_o"]

# layers that return one step for each step of their input, in the same order
_KEEP_STEPS = (Embedding, Dense, Dropout, ActivationLayer, LayerNormalization)


def cells_that_read_words(model: Model) -> dict[str, Cell]:
    """The recurrent cells with one step per word, by their names in a trace (without "#2")."""
    ordered, others = {-1}, set()
    found: dict[str, tuple[Layer, Cell]] = {}
    for number, (layer, sources) in enumerate(model.network.places):
        if not all(source in ordered for source, _ in sources):
            others.add(layer)
            continue
        if _keeps_steps(layer):
            ordered.add(number)
        if isinstance(layer, RNN | Bidirectional):
            found |= {name: (layer, cell) for name, cell in _cells(layer)}
    return {name: cell for name, (layer, cell) in found.items() if layer not in others}


def _keeps_steps(layer: Layer) -> bool:
    if isinstance(layer, Bidirectional):
        return _keeps_steps(layer.parts["forward"])
    return not layer.go_backwards if isinstance(layer, RNN) else isinstance(layer, _KEEP_STEPS)


def _cells(layer: RNN | Bidirectional) -> Iterator[tuple[str, Cell]]:
    """The cells of a layer, by their names in a trace."""
    parts: dict[str, RNN] = {layer.name: layer} if isinstance(layer, RNN) else {}
    if isinstance(layer, Bidirectional):
        parts = {f"{layer.name}/{end}": part for end, part in layer.parts.items()}
    for name, part in parts.items():
        yield from ((f"{name}/{own}" if own else name, cell) for own, cell in part.cells.items())


def recorded(layer: LayerTrace, cell: Any, reading: Reading, most_bytes: int) -> dict[str, Any]:
    """One layer's values at the steps of a text for its most important units, as data for the page.

    Args:
        layer: trace of what it did with the text.
        cell: the layer's cell.
        reading: the text.
        most_bytes: limit for the values of all units but the most important one, which is always included.
    """
    shown = slice(-len(reading.steps), None)
    has_gradients = layer.dh is not None
    arrays = {name: getattr(layer, name)[0, shown] for name in _FORWARD}  # (T, H) each
    arrays |= by_block("hU", layer.blocks, layer.h_prev[0, shown] @ layer.recurrent_kernel)
    arrays["tanh_c"] = cell.activation(layer.c[0, shown])
    if has_gradients:
        arrays |= {name: layer.gradient(name)[0, shown] for name in _BACKWARD}
    b = np.reshape(layer.bias, (len(layer.blocks), -1))  # (4, H)
    of_unit = packed_size([*(array[:, :1] for array in arrays.values()), b[:, :1]]) + len(str(layer.units)) + 2
    units = np.sort(np.argsort(-layer.importance(0, shown), kind="stable")[: 1 + max(0, most_bytes // of_unit)])
    return {
        "layer": layer.name,
        "units": layer.units,
        "kept": units.tolist(),
        "backwards": layer.go_backwards,
        "activation": name_of(cell.activation),
        "recurrent_activation": name_of(cell.recurrent_activation),
        "counts": layer.mask[0, shown].tolist(),
        "dx_norm": layer.d_words[0, shown].tolist() if has_gradients else None,
        "b": packed(b[:, units]),
        "arrays": {name: packed(array[:, units]) for name, array in arrays.items()},  # (T, kept) each
    }


def name_of(activation: Activation) -> str:
    """The page's name for an activation; a user's own one never gets the name of one of ours."""
    known = isinstance(activations.serialize(activation), str)
    return activation.name if known else f"custom {activation.name}"
