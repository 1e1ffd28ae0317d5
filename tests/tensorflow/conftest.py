import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))


@pytest.fixture
def float64():
    """Keras in float64 for one test."""
    from keras_side import floats

    with floats("float64"):
        yield
