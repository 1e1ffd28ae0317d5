"""A model's layers and weights are in the order that Keras gives them, whatever the graph."""

import numpy as np
import pytest
from keras_side import keras

from scratchlstm import Input, Model, layers

pytestmark = pytest.mark.slow

T, E = 3, 2


def random_graph(seed):
    """Makes a model with either side's layers: layers over whatever was made before, until one output is left."""

    def build(side, start, model_of):
        draw = np.random.default_rng(seed)
        x = start((T, E))
        made, unused = [x], []

        def add(node):
            made.append(node)
            unused.append(node)

        for _ in range(draw.integers(2, 9)):
            kind, first = draw.integers(4), made[draw.integers(len(made))]
            others = [made[n] for n in draw.integers(len(made), size=draw.integers(1, 3))]
            used = [first, *others] if kind == 0 else [first]
            unused = [node for node in unused if not any(node is each for each in used)]
            add(
                [
                    lambda used=used: side.Concatenate()(used),
                    lambda first=first: side.LSTM(E, return_sequences=True)(first),
                    lambda first=first: side.Dense(E)(first),
                    lambda first=first: side.Activation("tanh")(first),
                ][kind]()
            )
        output = unused[0] if len(unused) == 1 else side.Concatenate()(unused)
        return model_of(x, side.Dense(1)(output))

    return build


@pytest.mark.parametrize("start", range(0, 100, 50))
def test_random_graphs(start):
    for seed in range(start, start + 50):
        build = random_graph(seed)
        ours, theirs = build(layers, Input, Model), build(keras.layers, keras.Input, keras.Model)
        own = [(type(layer).__name__, [w.shape for w in layer.get_weights()]) for layer in ours.layers]
        twins = [(type(layer).__name__, [w.shape for w in layer.get_weights()]) for layer in theirs.layers[1:]]
        assert own == twins, seed
        theirs.set_weights(ours.get_weights())
        x = np.random.default_rng(seed).normal(size=(2, T, E)).astype("float32")
        assert np.allclose(ours.predict(x, verbose=0), theirs(x), atol=1e-5), seed
