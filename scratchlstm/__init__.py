"""scratchlstm: an LSTM written out by hand, every gate and every derivative, with an API after Keras."""

from scratchlstm import (  # noqa: I001  (several to a line)
    activations, callbacks, config, constraints, datasets, gates, initializers, layers, losses, metrics, models,
    optimizers, preprocessing, regularizers, schedules, utils,
)  # fmt: skip
from scratchlstm._support import moved as _moved  # noqa: F401  (it explains old imports)
from scratchlstm.layers import Input
from scratchlstm.models.model import Model, Sequential

__version__ = "0.1.0"

__all__ = [
    "Input", "Model", "Sequential", "activations", "callbacks", "config", "constraints", "datasets", "gates",
    "initializers", "layers", "losses", "metrics", "models", "optimizers", "preprocessing", "regularizers",
    "schedules", "utils",
]  # fmt: skip
