"""Learning rates that depend on the number of steps, with Keras' names and formulas; also `optimizers.schedules`."""

import bisect
import math
from collections.abc import Sequence
from typing import Any

from scratchlstm._support import checks, registry


class LearningRateSchedule(registry.Configured):
    """An optimizer's learning rate as a function of the steps done; override `__call__`.

    The optimizer calls it before each step, so the first step uses the rate of step 0.

    Args:
        name: stored, but not used.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = type(self).__name__ if name is None else checks.string("name", name)

    def __call__(self, step: float) -> float:
        """The learning rate after `step` steps, 0 or more."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")


class ExponentialDecay(LearningRateSchedule):
    """lr · decay_rate^(step / decay_steps).

    Args:
        initial_learning_rate: lr, the rate of step 0.
        decay_steps: the number of steps after which the rate is multiplied by decay_rate.
        decay_rate: the factor, at least 0.
        staircase: whether step / decay_steps is rounded down, so that the rate falls in stairs.
        name: see `LearningRateSchedule`.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, at_least=0)
        self.decay_steps = checks.number("decay_steps", decay_steps, above=0)
        self.decay_rate = checks.number("decay_rate", decay_rate, at_least=0)
        self.staircase = checks.flag("staircase", staircase)

    def __call__(self, step: float) -> float:
        decays = checks.number("step", step, at_least=0) / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(decays) if self.staircase else decays)


class CosineDecay(LearningRateSchedule):
    """Decays along half a cosine wave (Loshchilov & Hutter 2016, without restarts), optionally after a warm-up.

    The decay from lr is lr · ((1 - α) (1 + cos(π step / decay_steps)) / 2 + α), and lr · α from decay_steps on. With a
    warmup_target the rate first rises linearly from initial_learning_rate to the target over warmup_steps, then decays
    from the target.

    Args:
        initial_learning_rate: the rate of step 0.
        decay_steps: number of steps of the decay.
        alpha: α, the fraction of the rate that remains at the end.
        name: see `LearningRateSchedule`.
        warmup_target: the rate at the end of the warm-up; None means no warm-up, regardless of warmup_steps (as in
            Keras).
        warmup_steps: number of steps of the warm-up.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str | None = None,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, at_least=0)
        self.decay_steps = checks.number("decay_steps", decay_steps, above=0)
        self.alpha = checks.number("alpha", alpha, at_least=0)
        target = warmup_target
        self.warmup_target = None if target is None else checks.number("warmup_target", target, at_least=0)
        self.warmup_steps = checks.whole_number("warmup_steps", warmup_steps)

    def __call__(self, step: float) -> float:
        step, rate = checks.number("step", step, at_least=0), self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return rate + (self.warmup_target - rate) * step / self.warmup_steps
            step, rate = step - self.warmup_steps, self.warmup_target
        wave = (1 + math.cos(math.pi * min(step / self.decay_steps, 1))) / 2
        return rate * ((1 - self.alpha) * wave + self.alpha)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1] up to boundaries[1], ..., then values[-1].

    Args:
        boundaries: increasing numbers of steps.
        values: learning rates, one more than boundaries.
        name: see `LearningRateSchedule`.

    Raises:
        ValueError: boundaries that are not increasing whole numbers, or the wrong number of values.
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float], name: str | None = None) -> None:
        super().__init__(name)
        self.boundaries = checks.whole_numbers("boundaries", boundaries)
        self.values = checks.numbers("values", values, at_least=0)
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values must have one more entry than boundaries, but has {len(self.values)} for "
                f"{len(self.boundaries)}"
            )
        if any(low >= high for low, high in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"boundaries must be increasing, unlike {self.boundaries}")

    def __call__(self, step: float) -> float:
        return self.values[bisect.bisect_left(self.boundaries, checks.number("step", step, at_least=0))]


_KNOWN = registry.by_both_names(ExponentialDecay, CosineDecay, PiecewiseConstantDecay)


def get(identifier: Any) -> LearningRateSchedule:
    """The schedule for a saved description, or the object itself.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: not a `LearningRateSchedule`.
    """
    return registry.resolve("learning-rate schedule", identifier, _KNOWN, LearningRateSchedule)
