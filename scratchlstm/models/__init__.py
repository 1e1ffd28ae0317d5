"""Models, under their Keras names."""

import os
from collections.abc import Mapping
from typing import Any

from scratchlstm.models import decoding
from scratchlstm.models.model import Model, Sequential

__all__ = ["Model", "Sequential", "decoding", "load_model"]


def load_model(path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Load a model written by `Model.save`; see `Model.load`."""
    return Model.load(path, custom_objects)
