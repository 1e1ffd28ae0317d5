"""Initial parameters against Keras': the draws differ, their limits, moments and structure do not."""

import numpy as np
import pytest
from keras_side import keras

from scratchlstm import initializers
from scratchlstm.layers import LSTM, Dense, Embedding

E, H = 128, 60
KERNEL, RECURRENT, TABLE = (E, 4 * H), (H, 4 * H), (20000, 16)
DRAWN = {
    "glorot_uniform of a kernel": ("GlorotUniform", {}, KERNEL),
    "glorot_uniform of a vector": ("GlorotUniform", {}, (30000,)),
    "glorot_normal": ("GlorotNormal", {}, KERNEL),
    "random_uniform": ("RandomUniform", {}, TABLE),
    "random_uniform, own limits": ("RandomUniform", {"minval": -0.5, "maxval": 2.0}, TABLE),
    "random_normal": ("RandomNormal", {}, TABLE),
    "random_normal, own moments": ("RandomNormal", {"mean": 3.0, "stddev": 0.5}, TABLE),
    "orthogonal": ("Orthogonal", {}, RECURRENT),
    "orthogonal with a gain": ("Orthogonal", {"gain": 2.5}, RECURRENT),
}
QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)


def both(name, settings, shape):
    ours = getattr(initializers, name)(**settings)(shape, "float64", np.random.default_rng(1))
    theirs = np.array(getattr(keras.initializers, name)(**settings, seed=1)(shape, "float32"))
    return ours, theirs


@pytest.mark.parametrize("name", DRAWN)
def test_distribution(name):
    """Mean, deviation and quantiles agree as closely as two draws of one distribution do."""
    ours, theirs = both(*DRAWN[name])
    assert ours.shape == theirs.shape
    noise = theirs.std() / np.sqrt(theirs.size)
    assert abs(ours.mean() - theirs.mean()) < 6 * noise
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    inner = slice(1, -1)  # the ends of a normal draw are noisy; those of a bounded one are compared below
    gap = np.quantile(ours, QUANTILES) - np.quantile(theirs, QUANTILES)
    assert np.abs(gap[inner]).max() < 0.15 * theirs.std()
    assert np.abs(gap[3:-3]).max() < 0.04 * theirs.std()


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("glorot_uniform of a kernel", np.sqrt(6 / (E + 4 * H))),  # over the whole (E, 4H), not gate by gate
        ("glorot_uniform of a vector", np.sqrt(6 / 60000)),
        ("glorot_normal", 2 * np.sqrt(2 / (E + 4 * H)) / 0.8796256610342398),  # cut at two standard deviations
        ("random_uniform", 0.05),
    ],
)
def test_limit(name, limit):
    for draw in both(*DRAWN[name]):
        assert 0.99 * limit < np.abs(draw).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize("shape", [RECURRENT, (4 * H, H), (H, H), (3, 5, 7)], ids=str)
def test_orthogonal(shape):
    """Orthonormal rows, or columns where there are more rows; one draw over all four gates."""
    for draw in both("Orthogonal", {}, shape):
        matrix = draw.reshape(-1, shape[-1])
        gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_signs_of_an_orthogonal_draw():
    """Without R's signs the first entry of LAPACK's Q would have the same sign in every draw."""
    rng = np.random.default_rng(0)
    ours = [initializers.Orthogonal()((4, 4), "float64", rng) for _ in range(400)]
    theirs = [np.array(keras.initializers.Orthogonal(seed)((4, 4), "float32")) for seed in range(100)]
    for draws in (ours, theirs):
        positive = np.mean(np.array(draws) > 0, axis=0)
        assert np.all(np.abs(positive - 0.5) < 0.25)


@pytest.mark.parametrize(("name", "value"), [("Zeros", 0), ("Ones", 1), ("Constant", 0.25)])
def test_constants(name, value):
    settings = {"value": value} if name == "Constant" else {}
    ours = getattr(initializers, name)(**settings)((3, 4), "float32")
    np.testing.assert_array_equal(ours, np.array(getattr(keras.initializers, name)(**settings)((3, 4))))
    np.testing.assert_array_equal(ours, np.full((3, 4), value, dtype="float32"))


@pytest.mark.parametrize(
    ("layer", "settings", "input_shape"),
    [
        ("LSTM", {"units": H}, (100, E)),
        ("LSTM", {"units": H, "unit_forget_bias": False}, (100, E)),
        ("LSTM", {"units": H, "bias_initializer": "ones"}, (100, E)),
        ("LSTM", {"units": H, "use_bias": False}, (100, E)),
        ("Dense", {"units": 50}, (E,)),
        ("Embedding", {"input_dim": 2000, "output_dim": 16}, (100,)),
    ],
)
def test_what_layers_start_from(layer, settings, input_shape):
    """Each layer's defaults: same parameters in the same order, constants equal, draws of the same width."""
    ours = {"LSTM": LSTM, "Dense": Dense, "Embedding": Embedding}[layer](**settings)
    theirs = getattr(keras.layers, layer)(**settings)
    ours.build(input_shape, np.random.default_rng(2))
    theirs.build((None, *input_shape))
    assert list(ours.params) == [variable.name for variable in theirs.trainable_variables]
    for name, start, their_start in zip(ours.params, ours.get_weights(), theirs.get_weights(), strict=True):
        assert start.shape == their_start.shape
        assert start.dtype == their_start.dtype
        if name == "bias":
            np.testing.assert_array_equal(start, their_start)
        else:
            assert start.std() == pytest.approx(their_start.std(), rel=0.03)
            assert np.abs(start).max() == pytest.approx(np.abs(their_start).max(), rel=0.25)


def test_forget_bias_is_one():
    layer = LSTM(3)
    layer.build((5, 2))
    np.testing.assert_array_equal(layer.params["bias"], [0] * 3 + [1] * 3 + [0] * 6)
