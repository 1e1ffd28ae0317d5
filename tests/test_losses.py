"""Losses called as objects: their weights, and what they refuse."""

import numpy as np
import pytest

from scratchlstm.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

RNG = np.random.default_rng(0)
TARGETS, PREDICTIONS = RNG.normal(size=(4, 3, 2)), RNG.normal(size=(4, 3, 2))
SQUARES = np.mean((TARGETS - PREDICTIONS) ** 2, axis=-1)  # (4, 3)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_weights_of_samples(shape):
    weights = np.arange(1.0, 5)
    expected = np.mean(SQUARES[:, 0] * weights)
    assert MeanSquaredError()(TARGETS[:, 0], PREDICTIONS[:, 0], weights.reshape(shape)) == pytest.approx(expected)
    p = np.array([[0.2], [0.7], [0.6], [0.1]])
    expected = np.mean(-np.log(p[:, 0]) * weights)
    assert BinaryCrossentropy()(np.ones((4, 1)), p, weights.reshape(shape)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(), (4,), (4, 1), (4, 3), (4, 3, 1), (1, 3), (4, 1, 1)])
def test_weights_of_samples_and_steps(shape):
    weights = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    beside = weights.reshape((*shape, 1, 1)[:2] if len(shape) < 3 else shape[:2])
    assert MeanSquaredError()(TARGETS, PREDICTIONS, weights) == pytest.approx(np.mean(SQUARES * beside))


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 4), (4, 4), (4, 2), (4, 1, 1), (0,)])
def test_weights_that_fit_no_sample(shape):
    with pytest.raises(ValueError, match=r"sample_weight must have one number for each sample.*\(4,\), not"):
        MeanSquaredError()(TARGETS[:, 0], PREDICTIONS[:, 0], np.ones(shape))


def test_a_number_is_no_prediction():
    with pytest.raises(ValueError, match=r"y_pred must be an array of predictions, not a single number, 0\.5"):
        BinaryCrossentropy()(1.0, 0.5)


def test_no_samples_are_nothing_to_refuse():
    with pytest.raises(ValueError, match="whole numbers from 0 to 1, but range from 0 to 2"):
        SparseCategoricalCrossentropy()([0, 2], np.full((2, 2), 0.5))
    SparseCategoricalCrossentropy().require_valid(np.zeros(0, int), np.zeros((0, 2)))


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_gradient_for_targets_that_do_not_sum_to_one(from_logits):
    loss, y = CategoricalCrossentropy(from_logits=from_logits), np.array([[1.0, 1, 0], [0, 0.5, 0], [0, 0, 0]])
    rng = np.random.default_rng(0)
    predictions, direction, step = rng.uniform(0.1, 1, size=y.shape), rng.normal(size=y.shape), 1e-6
    _, gradient = loss.with_gradient(y, predictions)
    slope = (loss(y, predictions + step * direction) - loss(y, predictions - step * direction)) / (2 * step)
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-7)
