import sys
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))


@pytest.fixture(scope="session")
def exchange():
    """The folder of files that Keras and PyTorch wrote."""
    return FIXTURES / "exchange"


@pytest.fixture(scope="session")
def answers(exchange):
    """What the models in them answer."""
    with np.load(exchange / "answers.npz") as archive:
        return {name: archive[name] for name in archive.files}
