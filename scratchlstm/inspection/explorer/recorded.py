"""The values of `trace` for a page that cannot run its model: each LSTM's, for the units that mattered most."""

from typing import Any

import numpy as np

from scratchlstm import activations
from scratchlstm.inspection.explorer.packing import packed
from scratchlstm.inspection.trace import LayerTrace, by_block

_FORWARD = ["i", "f", "g", "o", "c_prev", "c", "h_prev", "h", "z_i", "z_f", "z_g", "z_o"]
_BACKWARD = ["dh_above", "dh_next", "dh", "dh_prev", "dc_next", "dc", "dc_prev", "dz_i", "dz_f", "dz_g", "dz_o"]


def recorded(layer: LayerTrace, steps: int, most_bytes: int) -> dict[str, Any]:
    """One layer's values at the last `steps` steps for its important units, as the page takes them."""
    shown = slice(-steps, None)
    has_gradients = layer.dh is not None
    arrays = {name: getattr(layer, name)[0, shown] for name in _FORWARD}  # (T, H) each
    arrays |= by_block("hU", layer.blocks, layer.h_prev[0, shown] @ layer.recurrent_kernel)
    arrays["tanh_c"] = activations.get(layer.activation)(layer.c[0, shown])
    if has_gradients:
        arrays |= {name: layer.gradient(name)[0, shown] for name in _BACKWARD}
    scores = layer.importance(0, shown)  # (H,)
    most = most_bytes // (steps * len(arrays) * layer.h.itemsize)
    units = np.sort(np.argsort(-scores, kind="stable")[: max(1, most)])
    return {
        "layer": layer.name,
        "units": layer.units,
        "kept": units.tolist(),
        "backwards": layer.go_backwards,
        "activation": layer.activation,
        "recurrent_activation": layer.recurrent_activation,
        "counts": layer.mask[0, shown].tolist(),
        "dx_norm": layer.d_words[0, shown].tolist() if has_gradients else None,
        "b": packed(np.reshape(layer.bias, (4, -1))[:, units]),
        "arrays": {name: packed(array[:, units]) for name, array in arrays.items()},  # (T, kept) each
    }
