"""Initial values of parameters, with Keras' names, formulas and defaults."""

import math
from typing import Any

import numpy as np

from scratchlstm import config
from scratchlstm._support import checks, registry


class Initializer(registry.Configured):
    """Draws a parameter's initial values from a NumPy `Generator`, never from global random state.

    Args:
        seed: None draws from the generator the model passes in; an integer seeds a generator of its own, with the same
            numbers at every call (as in Keras).
    """

    seed: int | None = None

    def __init__(self, seed: int | None = None) -> None:
        self.seed = checks.seed(seed)

    def __call__(
        self, shape: tuple[int, ...], dtype: str | None = None, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """An array of this shape and dtype (default: `config.floatx()`)."""
        rng = checks.generator(rng) if self.seed is None else np.random.default_rng(self.seed)
        return np.asarray(self.draw(tuple(checks.whole_numbers("shape", shape)), rng), dtype=config.float_dtype(dtype))

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """The values as float64."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(shape, rng)")


class Zeros(Initializer):
    """All 0."""

    def __init__(self) -> None:
        pass  # no seed

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.zeros(shape)


class Ones(Zeros):
    """All 1."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.ones(shape)


class Constant(Initializer):
    """All elements have the same value."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = checks.number("value", value)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value)


class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = checks.number("minval", minval), checks.number("maxval", maxval)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.minval, self.maxval, shape)


class RandomNormal(Initializer):
    """Normal with this mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = checks.number("mean", mean), checks.number("stddev", stddev, at_least=0)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return rng.normal(self.mean, self.stddev, shape)


class GlorotUniform(Initializer):
    """Uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio, 2010).

    As in Keras, the fans are those of the whole matrix: an LSTM's kernel (E, 4H) has fan_out 4H.
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        limit = math.sqrt(6 / (sum(_fans(shape)) or 1))
        return rng.uniform(-limit, limit, shape)


class GlorotNormal(Initializer):
    """Normal with variance 2 / (fan_in + fan_out), truncated at two standard deviations, as in Keras."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        values = rng.normal(size=shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.normal(size=np.count_nonzero(outside))
        # standard deviation of a standard normal truncated at ±2; dividing by it restores the variance
        return values * math.sqrt(2 / (sum(_fans(shape)) or 1)) / 0.87962566103423978


class Orthogonal(Initializer):
    """A matrix with orthonormal rows (or columns, if there are more rows than columns), times `gain`.

    Uses the QR decomposition of a normal draw, with the signs of R's diagonal (Saxe et al., 2014; Keras).
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = checks.number("gain", gain)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"an orthogonal initializer needs at least 2 dimensions, not shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    receptive_field = math.prod(shape[:-2])
    return shape[-2] * receptive_field, shape[-1] * receptive_field


_KNOWN = {"uniform": RandomUniform, "normal": RandomNormal} | registry.by_both_names(
    Zeros, Ones, Constant, RandomUniform, RandomNormal, GlorotUniform, GlorotNormal, Orthogonal
)


def get(identifier: Any, argument: str = "") -> Initializer:
    """The initializer of that name.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor an `Initializer`.
    """
    return registry.resolve("initializer", identifier, _KNOWN, Initializer, argument)
