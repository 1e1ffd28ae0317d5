"""What is wrong with a wrong array, in words."""

from collections.abc import Mapping

import numpy as np


def explain(found: np.ndarray, right: np.ndarray, at_hand: Mapping[str, np.ndarray]) -> str | None:
    """How `found` differs from `right`, if it can be told from the arrays at hand."""
    return "the sign is wrong" if np.allclose(found, -right, rtol=1e-7) else None
