"""Models under the name that Keras has them by."""

import os

from scratchlstm.models import decoding
from scratchlstm.models.model import Model, Sequential

__all__ = ["Model", "Sequential", "decoding", "load_model"]


def load_model(path: str | os.PathLike[str]) -> Model:
    """The model that `Model.save` wrote; see `Model.load`."""
    return Model.load(path)
