"""Learning-rate schedules against Keras: their values, and what they do to an optimizer's steps."""

import numpy as np
import pytest
from cases import error
from keras_side import keras, tf

from scratchlstm import optimizers, schedules

CASES = {
    "exponential": ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9}),
    "exponential staircase": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    ),
    "exponential growth": ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 2000, "decay_rate": 1.5}),
    "cosine": ("CosineDecay", {"initial_learning_rate": 0.3, "decay_steps": 40}),
    "cosine alpha": ("CosineDecay", {"initial_learning_rate": 0.3, "decay_steps": 40, "alpha": 0.1}),
    "cosine warm-up": (
        "CosineDecay",
        {"initial_learning_rate": 0.0, "decay_steps": 40, "warmup_target": 0.2, "warmup_steps": 8, "alpha": 0.25},
    ),
    "cosine warm-up of no step": (
        "CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 40, "warmup_target": 0.2}
    ),
    "cosine steps without a target": (
        "CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 40, "warmup_steps": 8}
    ),
    "piecewise": ("PiecewiseConstantDecay", {"boundaries": [3, 10, 11], "values": [0.5, 0.25, 0.1, 0.01]}),
    "one boundary": ("PiecewiseConstantDecay", {"boundaries": [3], "values": [0.5, 0.25]}),
}  # fmt: skip


def exactly(value):
    """Numbers that Keras keeps in float64; a plain float it rounds to float32 in any case."""
    if isinstance(value, list):
        return [exactly(entry) for entry in value]
    return np.float64(value) if isinstance(value, float) else value


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
class TestSchedules:
    def both(self, name):
        kind, settings = CASES[name]
        theirs = {key: exactly(value) for key, value in settings.items()}
        return getattr(schedules, kind)(**settings), getattr(keras.optimizers.schedules, kind)(**theirs)

    def test_values(self, name):
        ours, theirs = self.both(name)
        steps = [*range(60), 1000, 10**6]
        expected = [float(theirs(tf.constant(step, tf.int32))) for step in steps]
        np.testing.assert_allclose([ours(step) for step in steps], expected, rtol=1e-12, atol=1e-16)
        assert len(set(expected)) > 1

    @pytest.mark.parametrize(
        ("optimizer", "settings"),
        [("SGD", {"momentum": 0.875}), ("RMSprop", {"rho": 0.875}), ("Adam", {"beta_1": 0.875, "beta_2": 0.96875})],
    )
    def test_ten_steps(self, name, optimizer, settings):
        ours, theirs = self.both(name)
        mine = getattr(optimizers, optimizer)(ours, **settings)
        his = getattr(keras.optimizers, optimizer)(theirs, **settings)
        start = np.random.default_rng(0).normal(size=(4, 3))
        w, variable = start.copy(), keras.Variable(start)
        rng = np.random.default_rng(1)
        for _ in range(10):
            g = rng.normal(size=w.shape)
            mine.apply([w], [g])
            his.apply([tf.constant(g)], [variable])
            assert mine.learning_rate == pytest.approx(float(his.learning_rate), rel=1e-12)
        assert error(w - start, variable.numpy() - start) < 1e-8

    def test_the_same_configuration(self, name):
        ours, theirs = self.both(name)
        assert ours.get_config() | {"name": None} == theirs.get_config() | {"name": None}


def test_a_number_in_place_of_a_schedule_is_refused_by_both():
    for module in (optimizers, keras.optimizers):
        optimizer = module.SGD(module.schedules.ExponentialDecay(0.1, 10, 0.5))
        with pytest.raises(TypeError, match=r"learning.rate"):
            optimizer.learning_rate = 0.1
        optimizer.learning_rate = module.schedules.CosineDecay(0.5, 10)
        assert float(optimizer.learning_rate) == 0.5
