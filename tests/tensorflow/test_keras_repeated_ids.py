"""The first deliberate difference from Keras on TensorFlow: what Adam and RMSprop do where an id repeats in a batch."""

import numpy as np
import pytest
from cases import EXACT, error
from keras_side import dense, keras, tf

from scratchlstm import optimizers
from scratchlstm.rows import Groups, RowGradient

V, E = 6, 3
IDS = np.array([4, 1, 4, 4, 2, 1])
VALUES = np.random.default_rng(11).normal(size=(len(IDS), E))
START = np.random.default_rng(12).normal(size=(V, E))


def moved_by_keras(name, gradient):
    variable = keras.Variable(START)
    getattr(keras.optimizers, name)(**EXACT[name]).apply([gradient], [variable])
    return variable.numpy() - START


def moved_by_us(name):
    table, groups = START.copy(), Groups(IDS)
    row_gradient = RowGradient(groups.ids, groups.sum(VALUES), (V, E))
    getattr(optimizers, name)(**EXACT[name]).apply([table], [row_gradient])
    return table - START


def sum_per_row(values):
    total = np.zeros((V, E))
    np.add.at(total, IDS, values)
    return total


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_repeated_ids(name, float64):
    slices = tf.IndexedSlices(VALUES, IDS, (V, E))
    ours, summed_first, as_keras_does = (
        moved_by_us(name),
        moved_by_keras(name, dense(slices)),
        moved_by_keras(name, slices),
    )
    assert error(ours, summed_first) < 1e-9
    if name == "SGD":  # nothing is squared
        assert error(ours, as_keras_does) < 1e-9
        return

    once, often = [2], [1, 4]
    assert error(ours[once], as_keras_does[once]) < 1e-9
    assert error(ours[often], as_keras_does[often]) > 0.1
    # that is all the difference: Keras takes the sum of g² where the definition has the square of the sum
    g, squares = sum_per_row(VALUES), sum_per_row(VALUES**2)
    settings = EXACT[name]
    if name == "Adam":
        # at the first step the bias corrections cancel the betas, except beside epsilon
        lr, small = settings["learning_rate"], 1e-7 / np.sqrt(1 - settings["beta_2"])
        expected = -lr * g / (np.sqrt(squares) + small)
    else:
        expected = -settings["learning_rate"] * g / np.sqrt((1 - settings["rho"]) * squares + 1e-7)
    assert error(as_keras_does, expected) < 1e-6
