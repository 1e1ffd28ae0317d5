"""Models under the name that Keras has them by."""

import os
from collections.abc import Mapping
from typing import Any

from scratchlstm.models import decoding
from scratchlstm.models.model import Model, Sequential

__all__ = ["Model", "Sequential", "decoding", "load_model"]


def load_model(path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> Model:
    """The model that `Model.save` wrote; see `Model.load`."""
    return Model.load(path, custom_objects)
