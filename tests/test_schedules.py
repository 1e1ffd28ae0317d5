"""Learning-rate schedules: their formulas, and that every step of a run is made at their rate."""

import math

import numpy as np
import pytest

from scratchlstm import Sequential, optimizers, schedules
from scratchlstm.callbacks import LambdaCallback, LearningRateScheduler, ReduceLROnPlateau
from scratchlstm.layers import Dense
from scratchlstm.optimizers import SGD, Adam, RMSprop
from scratchlstm.schedules import CosineDecay, ExponentialDecay, LearningRateSchedule, PiecewiseConstantDecay

pytestmark = pytest.mark.usefixtures("without_numba")  # its processes start in half the time
X, Y = np.ones((6, 1)), np.zeros(6)


def model(optimizer):
    model = Sequential([Dense(1, input_shape=(1,), use_bias=False, dtype="float64")], seed=0)
    model.compile(optimizer, "mse")
    return model


def test_exponential():
    decay = ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    assert [decay(0), decay(10), decay(20)] == [0.1, 0.05, 0.025]
    assert decay(5) == pytest.approx(0.1 / math.sqrt(2))
    stairs = ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5, staircase=True)
    assert [stairs(9), stairs(10), stairs(19)] == [0.1, 0.05, 0.05]


def test_cosine():
    decay = CosineDecay(0.5, decay_steps=8, alpha=0.25)
    assert [decay(0), decay(4), decay(8), decay(99)] == pytest.approx([0.5, 0.3125, 0.125, 0.125])
    warm = CosineDecay(0.125, decay_steps=8, warmup_target=0.625, warmup_steps=4)
    assert [warm(0), warm(1), warm(3), warm(4), warm(8), warm(12)] == pytest.approx(
        [0.125, 0.25, 0.5, 0.625, 0.3125, 0]
    )


def test_piecewise_keeps_a_value_up_to_and_including_its_boundary():
    steps = PiecewiseConstantDecay([2, 5], [0.3, 0.2, 0.1])
    assert [steps(step) for step in (0, 2, 3, 5, 6)] == [0.3, 0.3, 0.2, 0.2, 0.1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialDecay(-0.1, 10, 0.5),
        lambda: ExponentialDecay(0.1, 0, 0.5),
        lambda: ExponentialDecay(0.1, 10, float("nan")),
        lambda: CosineDecay(0.1, -1),
        lambda: CosineDecay(0.1, 10, warmup_target="0.2"),
        lambda: CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=1.5),
        lambda: PiecewiseConstantDecay([1, 2], [0.1, 0.2]),
        lambda: PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3]),
        lambda: PiecewiseConstantDecay([1.5], [0.1, 0.2]),
        lambda: PiecewiseConstantDecay([1], [0.1, -0.2]),
        lambda: PiecewiseConstantDecay(1, [0.1, 0.2]),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"must"):
        make()


def test_an_optimizer_takes_nothing_else():
    with pytest.raises(ValueError, match="learning_rate must be above 0, not <function"):
        SGD(lambda: 0.1)
    with pytest.raises(ValueError, match="unknown learning-rate schedule 'Magic'. Known: cosine_decay"):
        SGD({"class_name": "Magic", "config": {}})


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_step_is_made_at_the_rate_of_step_0(workers):
    """w -= lr 2 w, on x = 1, y = 0: each step multiplies w by 1 - 2 lr."""
    schedule, sgd = PiecewiseConstantDecay([0, 2], [0.25, 0.125, 0.375]), None
    sgd = model(SGD(schedule))
    (start,) = sgd.get_weights()
    sgd.fit(X, Y, batch_size=2, epochs=2, workers=workers, verbose=0)  # six steps
    factors = [1 - 2 * rate for rate in (0.25, 0.125, 0.125, 0.375, 0.375, 0.375)]
    np.testing.assert_allclose(sgd.get_weights()[0], start * np.prod(factors), rtol=1e-12)
    assert sgd.optimizer.iterations == 6


def test_a_rate_of_0_moves_nothing():
    sgd = model(SGD(CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=5)))
    before = sgd.get_weights()
    sgd.fit(X, Y, batch_size=6, verbose=0)
    assert np.array_equal(sgd.get_weights(), before)
    sgd.fit(X, Y, batch_size=6, verbose=0)
    assert not np.array_equal(sgd.get_weights(), before)


@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam])
def test_a_saved_model_goes_on_along_its_schedule(tmp_path, optimizer):
    make = lambda: model(optimizer(ExponentialDecay(0.1, 2, 0.5)))  # noqa: E731
    whole, halves = make(), make()
    whole.fit(X, Y, epochs=4, batch_size=3, shuffle=False, verbose=0)
    halves.fit(X, Y, epochs=2, batch_size=3, shuffle=False, verbose=0)
    halves.save(tmp_path / "model.npz")
    loaded = Sequential.load(tmp_path / "model.npz")
    assert loaded.optimizer.learning_rate == halves.optimizer.learning_rate == 0.1 * 0.5**2
    loaded.fit(X, Y, epochs=2, batch_size=3, shuffle=False, verbose=0)
    assert np.array_equal(loaded.get_weights(), whole.get_weights())


class Mine(LearningRateSchedule):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def __call__(self, step):
        return np.float64(self.rate) / (step + 1)


def test_a_schedule_of_ones_own(tmp_path):
    mine = model(SGD(Mine(0.25)))
    (start,) = mine.get_weights()
    mine.fit(X, Y, batch_size=3, verbose=0)
    np.testing.assert_allclose(mine.get_weights()[0], start * 0.5 * 0.75)
    with pytest.raises(ValueError, match="Mine is not part of scratchlstm"):
        mine.save(tmp_path / "model.npz")
    with pytest.warns(UserWarning, match="other processes do not know Mine"):
        mine.fit(X, Y, batch_size=3, workers=2, verbose=0)


@pytest.mark.parametrize("rate", [float("nan"), -0.1, "0.1"])
def test_what_a_schedule_gives_is_checked_before_anything_is_updated(rate):
    class Wrong(LearningRateSchedule):
        def __call__(self, step):
            return rate

    wrong = model(SGD(Wrong()))
    before = wrong.get_weights()
    with pytest.raises(ValueError, match="the learning rate of Wrong must be at least 0"):
        wrong.fit(X, Y, verbose=0)
    assert np.array_equal(wrong.get_weights(), before)


@pytest.mark.parametrize("callback", [LearningRateScheduler(lambda epoch: 0.1), ReduceLROnPlateau("loss")])
def test_callbacks_cannot_set_a_rate_that_follows_a_schedule(callback):
    sgd = model(SGD(ExponentialDecay(0.1, 2, 0.5)))
    with pytest.raises(TypeError, match="follows ExponentialDecay and cannot be set"):
        sgd.fit(X, Y, callbacks=[callback], verbose=0)
    assert sgd.optimizer.iterations == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_callback_may_put_a_schedule_in_place_of_a_number(workers):
    def change(epoch, logs):
        if epoch == 1:
            sgd.optimizer.learning_rate = ExponentialDecay(0.25, 1, 1.0)

    sgd = model(SGD(0.125))
    (start,) = sgd.get_weights()
    callback = LambdaCallback(on_epoch_begin=change)
    sgd.fit(X, Y, batch_size=6, epochs=2, callbacks=[callback], workers=workers, verbose=0)
    np.testing.assert_allclose(sgd.get_weights()[0], start * 0.75 * 0.5)


def test_where_keras_has_them():
    assert optimizers.schedules is schedules
