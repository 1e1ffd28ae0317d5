"""What a user's layer calls its attributes is the user's affair: moving and copying a model leaves them as they are."""

import copy

import numpy as np
import pytest

from scratchlstm import Sequential
from scratchlstm.inspection.trace import trace
from scratchlstm.layers import LSTM, Dense, Embedding, Input, Layer

NAMES = ["x", "y", "logits", "kept", "rows", "share", "mask", "shown", "halves", "normal", "run"]


class Scaled(Layer):
    """Multiplies by a number stored under every name that one of our layers uses for a pass."""

    passes_mask = True

    def __init__(self, factor, **options):
        super().__init__(**options)
        for name in NAMES:
            setattr(self, name, factor)

    def forward(self, x):
        return sum(getattr(self, name) for name in NAMES) * x, None

    def backward(self, dy, cache):
        return sum(getattr(self, name) for name in NAMES) * dy, {}

    def get_config(self):
        return super().get_config() | {"factor": self.x}


IDS = np.arange(12).reshape(3, 4) % 5


def model(factor=3):
    """The factor is also the number of units."""
    layers = [Embedding(5, 2, input_shape=(4,)), LSTM(3), Scaled(factor), Dense(1)]
    return Sequential(layers, seed=0)


def test_a_copy_has_the_same_attributes():
    ours = model()
    y = ours.predict(IDS, verbose=0)
    ours.forward(IDS)
    twin = copy.deepcopy(ours)
    assert [getattr(twin.layers[2], name) for name in NAMES] == [3] * len(NAMES)
    assert (twin.layers[1].units, twin.layers[3].units) == (3, 1)
    assert np.array_equal(twin.predict(IDS, verbose=0), y)
    assert vars(twin.layers[1]).keys() == vars(model().layers[1]).keys(), "nothing of a pass is on a layer"


def test_a_trace_of_a_model_with_such_a_layer():
    assert trace(model(), IDS).prediction.shape == (3, 1)


def test_to_another_backend_and_back(device):
    ours = model()
    y = ours.predict(IDS, verbose=0)
    _, cache = ours.layers[3].forward(np.ones((3, 3)))
    assert np.allclose(ours.to("cupy").predict(IDS, verbose=0), y, atol=1e-6)
    assert np.array_equal(ours.to("numpy").predict(IDS, verbose=0), y)
    ours.to("cupy")
    with pytest.raises(RuntimeError, match="dense has moved to 'cupy' since the forward pass: call forward again"):
        ours.layers[3].backward(np.ones((3, 1), "float32"), cache)


def test_a_layer_derived_from_ours_keeps_its_own_attribute():
    class Shared(Dense):
        share = None

    layer = Shared(2)
    layer.share = "mine"
    ours = Sequential([Input((3,)), layer])
    ours.predict(np.ones((1, 3)), verbose=0)
    assert copy.deepcopy(ours).layers[0].share == "mine"
