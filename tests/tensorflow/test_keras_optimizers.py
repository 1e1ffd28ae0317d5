"""Ten steps of each optimizer against Keras', by how far the parameters moved."""

import numpy as np
import pytest
from cases import EXACT, error
from keras_side import dense, keras, tf

from scratchlstm import optimizers
from scratchlstm.rows import Groups, RowGradient

V, E = 9, 4
SHAPES = [(V, E), (3,), (2, 5)]
SETTINGS = {
    "sgd": ("SGD", {"learning_rate": 0.125}),
    "sgd momentum": ("SGD", EXACT["SGD"] | {"nesterov": False}),
    "sgd nesterov": ("SGD", EXACT["SGD"]),
    "rmsprop": ("RMSprop", EXACT["RMSprop"]),
    "rmsprop defaults": ("RMSprop", {}),
    "adam": ("Adam", EXACT["Adam"]),
    "adam large epsilon": ("Adam", EXACT["Adam"] | {"epsilon": 0.125}),
}
CLIPPING = [{}, {"clipnorm": 1.5}, {"clipvalue": 0.25}, {"global_clipnorm": 2.0}]


def random_slices(rng):
    """Ids, some repeated and most absent, and a row for each."""
    ids = rng.integers(0, V, size=7)
    ids[1:3] = ids[0]
    return ids, rng.normal(size=(len(ids), E))


def both_gradients(rng, first_as_rows):
    """One step's gradients for ours and for TensorFlow; scales differ, so that clipping takes some and leaves some."""
    arrays = [rng.normal(size=shape) * scale for shape, scale in zip(SHAPES, (1, 0.1, 3), strict=True)]
    if not first_as_rows:
        return arrays, [tf.constant(array) for array in arrays]
    ids, values = random_slices(rng)
    groups = Groups(ids)
    rows = RowGradient(groups.ids, groups.sum(values), (V, E))
    return [rows, *arrays[1:]], [dense(tf.IndexedSlices(values, ids, (V, E))), *map(tf.constant, arrays[1:])]


def moved_by_both(name, settings, first_as_rows=False, steps=10, finalize=False):
    """W_k - W_0 of each parameter after k steps, ours and theirs."""
    rng = np.random.default_rng(3)
    start = [rng.normal(size=shape) for shape in SHAPES]
    params, variables = [w.copy() for w in start], [keras.Variable(w) for w in start]
    ours, theirs = getattr(optimizers, name)(**settings), getattr(keras.optimizers, name)(**settings)
    for _ in range(steps):
        grads, tensors = both_gradients(rng, first_as_rows)
        ours.apply(params, grads)
        theirs.apply(tensors, variables)
    if finalize:
        ours.finalize_variable_values(params)
        theirs.finalize_variable_values(variables)
    return [[w - w0 for w, w0 in zip(after, start, strict=True)] for after in (params, [v.numpy() for v in variables])]


@pytest.mark.usefixtures("float64")
class TestInFloat64:
    @pytest.mark.parametrize("rows", [False, True], ids=["dense", "rows"])
    @pytest.mark.parametrize("clipping", CLIPPING, ids=lambda clipping: next(iter(clipping), "no clipping"))
    @pytest.mark.parametrize("name", SETTINGS)
    def test_ten_steps(self, name, clipping, rows):
        optimizer, settings = SETTINGS[name]
        for ours, theirs in zip(*moved_by_both(optimizer, settings | clipping, rows), strict=True):
            assert error(ours, theirs) < 1e-8

    @pytest.mark.slow
    @pytest.mark.parametrize("rows", [False, True], ids=["dense", "rows"])
    @pytest.mark.parametrize("frequency", [None, 3])
    @pytest.mark.parametrize("name", SETTINGS)
    def test_averages(self, name, frequency, rows):
        optimizer, settings = SETTINGS[name]
        settings = settings | {"use_ema": True, "ema_overwrite_frequency": frequency}
        for ours, theirs in zip(*moved_by_both(optimizer, settings, rows), strict=True):
            assert error(ours, theirs) < 1e-8
        for ours, theirs in zip(*moved_by_both(optimizer, settings, rows, finalize=True), strict=True):
            assert error(ours, theirs) < 1e-8

    def test_the_floor_under_default_betas(self):
        """In float64 too, Keras rounds the betas to float32 in the bias correction: why other betas are used above."""
        for ours, theirs in zip(*moved_by_both("Adam", {}), strict=True):
            assert 1e-6 < error(ours, theirs) < 1e-5

        def alpha(beta_1, beta_2):  # of the first step, without the learning rate
            return np.sqrt(1 - beta_2) / (1 - beta_1)

        excess = alpha(float(np.float32(0.9)), float(np.float32(0.999))) / alpha(0.9, 0.999)
        for ours, theirs in zip(*moved_by_both("Adam", {}, steps=1), strict=True):
            assert error(ours * excess, theirs) < 1e-12

    @pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam"])
    def test_default_settings_have_the_same_values(self, name):
        ours = getattr(optimizers, name)().get_config()
        theirs = getattr(keras.optimizers, name)().get_config()
        assert ours == pytest.approx({setting: theirs[setting] for setting in ours})
