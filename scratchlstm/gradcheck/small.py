"""The checks of `python -m scratchlstm gradcheck`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchlstm import layers, regularizers
from scratchlstm._support import checks
from scratchlstm.gradcheck.layer import check_layer
from scratchlstm.gradcheck.model import check_model
from scratchlstm.gradcheck.report import Report
from scratchlstm.layers import LSTM
from scratchlstm.models.model import Model, Sequential


def reports_in_small(tensorflow: bool, seed: int = 0, implementation: str = "fused") -> Iterator[Report]:
    """Run the checks of `python -m scratchlstm gradcheck`, with small sizes.

    First the tutorial's LSTM alone, from random states and with a gradient for every output, where bugs cannot hide,
    and the tutorial's model with its loss. Then what may surround an LSTM: masks, both directions, a label at every
    step, regularizers, dropout as in training; and branches that split and merge.
    """
    rng = np.random.default_rng(checks.seed(seed))
    options: dict[str, Any] = {"dtype": "float64"}

    def lstm(units: int, **more: Any) -> LSTM:
        return LSTM(units, implementation=implementation, **options, **more)

    alone = lstm(4, return_sequences=True, return_state=True)
    yield check_layer(alone, rng.normal(size=(3, 6, 5)), tensorflow=tensorflow, seed=seed)

    ids, labels = rng.integers(0, 11, size=(3, 6)), rng.integers(0, 2, size=3)
    parts = [layers.Embedding(11, 5, input_shape=(6,), **options), lstm(4), layers.Dense(1, "sigmoid", **options)]
    tutorial = Sequential(parts, seed=seed)
    tutorial.compile("adam", "binary_crossentropy")
    yield check_model(tutorial, ids, labels, tensorflow=tensorflow, seed=seed)

    padded = (1 + ids % 10) * (np.arange(6) >= np.arange(3)[:, None])  # 0, 1 and 2 steps of padding
    penalty = regularizers.L2(1 / 64)  # exact in float32, to which Keras rounds it
    parts = [
        layers.Embedding(11, 5, mask_zero=True, input_shape=(6,), **options),
        layers.SpatialDropout1D(0.2, **options),
        layers.Bidirectional(lstm(3, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)),
        layers.Bidirectional(lstm(2, return_sequences=True, kernel_regularizer=penalty)),
        layers.Dense(3, "softmax", **options),
    ]
    stack = Sequential(parts, seed=seed)
    _scatter(stack, rng)
    stack.compile("adam", "sparse_categorical_crossentropy")
    tags = rng.integers(0, 3, size=(3, 6))
    yield check_model(stack, padded, tags, training=True, tensorflow=tensorflow, seed=seed)

    words = layers.Input((6,))
    vectors = layers.Embedding(11, 5, mask_zero=True, **options)(words)
    ways = [layers.GlobalAveragePooling1D(**options)(vectors), lstm(4, go_backwards=True)(vectors)]
    both = layers.LayerNormalization(**options)(layers.Concatenate(**options)(ways))
    branches = Model(words, layers.Dense(1, "sigmoid", **options)(both), seed=seed)
    _scatter(branches, rng)
    branches.compile("adam", "binary_crossentropy")
    yield check_model(branches, padded, labels, tensorflow=tensorflow, seed=seed)


def _scatter(model: Model, rng: np.random.Generator) -> None:
    """Random parameters, including biases, of a size at which no gradient is tiny."""
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.params])
