"""Configuration is the signature of the constructor: what `get_config` gives, as files of older versions hold it."""

from typing import TypedDict, Unpack

import pytest

from scratchlstm import activations, constraints, initializers, losses, metrics, optimizers, regularizers, schedules
from scratchlstm._support import registry

_CLIPS = {"clipnorm": None, "clipvalue": None, "global_clipnorm": None}
_DECAY = {"initial_learning_rate": 0.5, "decay_steps": 10.0, "decay_rate": 0.25, "staircase": True, "name": "d"}
_COSINE = {"initial_learning_rate": 0.5, "decay_steps": 10.0, "alpha": 0.0, "name": "CosineDecay"}
_COSINE |= {"warmup_target": None, "warmup_steps": 0}
_SEEDED = {"seed": 3}
_RETRIEVAL = {"thresholds": [0.5, 0.25], "top_k": 2, "class_id": 1}
_AUC = {"num_thresholds": 4, "curve": "PR", "summation_method": "minoring", "name": "a", "thresholds": [0.25, 0.5]}

CONFIGS = [
    (optimizers.SGD(), {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False} | _CLIPS),
    (
        optimizers.SGD(schedules.ExponentialDecay(**_DECAY), momentum=0.5, nesterov=True, clipnorm=2),
        {"learning_rate": {"class_name": "ExponentialDecay", "config": _DECAY}, "momentum": 0.5, "nesterov": True}
        | _CLIPS
        | {"clipnorm": 2.0},
    ),
    (
        optimizers.SGD(use_ema=True, ema_momentum=1, ema_overwrite_frequency=2),
        {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}
        | _CLIPS
        | {"use_ema": True, "ema_momentum": 1.0, "ema_overwrite_frequency": 2},
    ),
    (optimizers.RMSprop(1, epsilon=1), {"learning_rate": 1.0, "rho": 0.9, "epsilon": 1.0} | _CLIPS),
    (optimizers.Adam(), {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7} | _CLIPS),
    (schedules.ExponentialDecay(**_DECAY), _DECAY),
    (schedules.CosineDecay(0.5, 10), _COSINE),
    (
        schedules.PiecewiseConstantDecay((1, 5), [3, 2, 1], name="p"),
        {"boundaries": [1, 5], "values": [3, 2, 1], "name": "p"},
    ),
    (initializers.Zeros(), {}),
    (initializers.Ones(), {}),
    (initializers.Constant(2), {"value": 2.0}),
    (initializers.RandomUniform(-1, 1, 3), {"minval": -1.0, "maxval": 1.0} | _SEEDED),
    (initializers.RandomNormal(seed=3), {"mean": 0.0, "stddev": 0.05} | _SEEDED),
    (initializers.GlorotUniform(3), _SEEDED),
    (initializers.GlorotNormal(3), _SEEDED),
    (initializers.Orthogonal(2, 3), {"gain": 2.0} | _SEEDED),
    (regularizers.L1(1), {"l1": 1.0}),
    (regularizers.L2(1), {"l2": 1.0}),
    (regularizers.L1L2(1, 2), {"l1": 1.0, "l2": 2.0}),
    (constraints.NonNeg(), {}),
    (constraints.MaxNorm(3, 1), {"max_value": 3.0, "axis": 1}),
    (constraints.UnitNorm(1), {"axis": 1}),
    (losses.MeanSquaredError(), {}),
    (losses.MeanAbsoluteError(), {}),
    (losses.BinaryCrossentropy(True), {"from_logits": True}),
    (losses.CategoricalCrossentropy(), {"from_logits": False}),
    (losses.SparseCategoricalCrossentropy(), {"from_logits": False}),
    (metrics.get("acc"), {"name": "acc"}),
    (metrics.BinaryAccuracy(threshold=0.25), {"name": "binary_accuracy", "threshold": 0.25}),
    (metrics.CategoricalAccuracy(), {"name": "categorical_accuracy"}),
    (metrics.SparseCategoricalAccuracy("s"), {"name": "s"}),
    (metrics.Precision((0.5, 0.25), 2, 1), {"name": "precision"} | _RETRIEVAL),
    (metrics.Recall(), {"name": "recall", "thresholds": None, "top_k": None, "class_id": None}),
    (metrics.AUC(9, "PR", "minoring", "a", thresholds=(0.5, 0.25)), _AUC | {"from_logits": False}),
    (metrics.F1Score("micro", 0.5), {"name": "f1_score", "average": "micro", "threshold": 0.5}),
    (metrics.MeanSquaredError(), {"name": "mean_squared_error"}),
    (metrics.get("mae"), {"name": "mae"}),
    (metrics.RootMeanSquaredError("r"), {"name": "r"}),
    (metrics.R2Score(None, 2), {"name": "r2_score", "class_aggregation": None, "num_regressors": 2}),
    (metrics.Perplexity(mask_token_id=0), {"name": "perplexity", "from_logits": False, "mask_token_id": 0}),
]
MODULES = optimizers, schedules, initializers, regularizers, constraints, losses, metrics


@pytest.mark.parametrize(("thing", "config"), CONFIGS, ids=lambda each: type(each).__name__)
def test_get_config(thing, config):
    assert thing.get_config() == config
    assert registry.serialize(thing) == {"class_name": type(thing).__name__, "config": config}
    assert type(thing)(**config).get_config() == config


def test_each_class_has_its_row():
    known = {each for module in MODULES for each in module._KNOWN.values() if isinstance(each, type)}
    assert known == {type(thing) for thing, _ in CONFIGS}


def test_an_activation_is_described_by_its_name():
    assert registry.serialize(activations.get("relu")) == "relu"
    own = activations.Activation("relu", lambda z: z, lambda y: 1)
    assert registry.foreign([registry.serialize(own)]) == [("relu", __name__)]


class _BaseOptions(TypedDict):
    name: str
    size: int


class _Options(_BaseOptions):
    part: object
    rate: float


class _Base(registry.Configured):
    def __init__(self, name="base", size=1):
        self.name, self.size = name, size


class _Middle(_Base):
    def __init__(self, part, *, rate=0.5, **options: Unpack[_BaseOptions]):
        super().__init__(**options)
        self.part, self.rate = part, rate


class _Fixed(_Middle):
    def __init__(self, part):
        super().__init__(part, size=3)


class _Passing(_Middle):
    def __init__(self, more, **options: Unpack[_Options]):
        super().__init__(**options)
        self.more = more


@pytest.fixture
def all_ours(monkeypatch):
    monkeypatch.setattr(registry, "is_ours", lambda cls: issubclass(cls, registry.Configured))


@pytest.mark.usefixtures("all_ours")
def test_options_are_the_arguments_of_the_base_class():
    middle = _Middle(_Base("inner"), size=2)
    inner = {"class_name": "_Base", "config": {"name": "inner", "size": 1}}
    assert list(middle.get_config().items()) == [("name", "base"), ("size", 2), ("part", inner), ("rate", 0.5)]
    assert _Fixed(1).get_config() == {"part": 1}
    assert _Passing(4, part=1, rate=2).get_config() == {"name": "base", "size": 1, "part": 1, "rate": 2, "more": 4}


def test_what_a_users_subclass_adds_is_left_to_it():
    class Slow(optimizers.Adam):
        def __init__(self, patience, **options):
            super().__init__(**options)
            self.patience = patience

    assert Slow(3, beta_1=0.5).get_config() == optimizers.Adam(beta_1=0.5).get_config()
    assert registry.serialize(Slow(3))["foreign"] == __name__
