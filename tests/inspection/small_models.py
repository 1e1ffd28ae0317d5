"""Small models to look into."""

import numpy as np

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Dense, Embedding

IDS = np.array([[0, 0, 3, 1, 4], [1, 5, 0, 2, 2], [2, 2, 2, 2, 2]])  # padded before, padded within, whole
LABELS = np.array([0, 1, 1])


def stack(*middle, dtype="float64", mask_zero=True, seed=0):
    """Embedding, the given layers, Dense; compiled, with parameters of a trained model's size."""
    layers = [Embedding(6, 3, mask_zero=mask_zero, input_shape=(None,), dtype=dtype), *middle]
    model = Sequential([*layers, Dense(1, "sigmoid", dtype=dtype)], seed=seed)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.params])
    model.compile("adam", "binary_crossentropy")
    return model


def lstm(units=4, dtype="float64", **options):
    return LSTM(units, dtype=dtype, **options)
