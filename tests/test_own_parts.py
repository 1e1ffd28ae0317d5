"""A user's own part is never taken for ours of the same name, however deep inside a model it is."""

from typing import NamedTuple

import numpy as np
import pytest

from scratchlstm import (
    Input,
    Model,
    Sequential,
    activations,
    constraints,
    initializers,
    losses,
    metrics,
    regularizers,
    schedules,
)
from scratchlstm.cells import Cell
from scratchlstm.layers import GRU, LSTM, RNN, Activation, Bidirectional, Dense, GRUCell, LSTMCell, TimeDistributed
from scratchlstm.models import load_model
from scratchlstm.optimizers import SGD
from scratchlstm.training import archive

X, Y = np.random.default_rng(0).normal(size=(8, 4, 3)), np.random.default_rng(1).integers(0, 2, size=(8, 4, 2))


OWN = {}  # the user's classes by name, as `load` gets them


def own(base, **members):
    """A class of the user's with the name of ours that it is derived from."""
    return OWN.setdefault(base.__name__, type(base.__name__, (base,), {"__module__": "mine", **members}))


LEAKY = OWN["relu"] = activations.Activation("relu", lambda z: np.maximum(z, z / 2), lambda y: np.where(y > 0, 1, 0.5))


def twice(self, x):
    y, cache = Dense.forward(self, x)
    return 2 * y, cache


TWICE = own(Dense, forward=twice, backward=lambda self, dy, cache: Dense.backward(self, 2 * dy, cache))
HALVES = own(initializers.Zeros, draw=lambda self, shape, rng: np.full(shape, 0.5))


class StepCache(NamedTuple):
    x: np.ndarray
    h_prev: np.ndarray
    a: np.ndarray


class Fading(Cell):
    """h = rate a, a = tanh(x W + h_prev U + b)."""

    gates = ("a",)

    def __init__(self, units, rate, **options):
        super().__init__(units, **options)
        self.rate = rate

    def forward(self, x, h_prev, W, U, b):
        a = np.tanh(x @ W + h_prev @ U + b)
        return a * x.dtype.type(self.rate), StepCache(x, h_prev, a)

    def backward(self, dh, cache, W, U, b):
        dz = self.rate * dh * (1 - cache.a**2)
        return {"dx": dz @ W.T, "dh_prev": dz @ U.T, "dW": cache.x.T @ dz, "dU": cache.h_prev.T @ dz, "db": dz.sum(0)}


OWN["Fading"] = Fading


PARTS = {
    "an activation": lambda: [Activation(LEAKY), Dense(2)],
    "a Dense's activation": lambda: [Dense(2, activation=LEAKY)],
    "an LSTM's activations": lambda: [LSTM(2, activation=LEAKY, return_sequences=True)],
    "recurrent activation": lambda: [LSTM(2, recurrent_activation=LEAKY, return_sequences=True)],
    "an initializer": lambda: [Dense(2, kernel_initializer=HALVES())],
    "a regularizer": lambda: [Dense(2, kernel_regularizer=own(regularizers.L2, gradient=lambda self, w: 3 * w)(0.1))],
    "a constraint": lambda: [Dense(2, kernel_constraint=own(constraints.NonNeg, __call__=lambda self, w: w / 2)())],
    "a layer": lambda: [TWICE(2)],
    "in TimeDistributed": lambda: [TimeDistributed(TWICE(2))],
    "in TimeDistributed twice": lambda: [TimeDistributed(TimeDistributed(TWICE(2))), TimeDistributed(Dense(2))],
    "in Bidirectional": lambda: [Bidirectional(own(LSTM)(1, return_sequences=True))],
    "below Bidirectional": lambda: [Bidirectional(LSTM(1, bias_initializer=HALVES(), return_sequences=True))],
    "activation below Bidirectional": lambda: [Bidirectional(LSTM(1, activation=LEAKY, return_sequences=True))],
    "regularizer below Bidirectional": lambda: [
        Bidirectional(LSTM(1, bias_regularizer=own(regularizers.L1)(), return_sequences=True))
    ],
    "a cell": lambda: [RNN(Fading(2, 0.5), return_sequences=True)],
    "a cell named like ours": lambda: [RNN(own(GRUCell)(2), return_sequences=True), GRU(2, return_sequences=True)],
    "a cell among ours": lambda: [RNN([GRUCell(2), Fading(3, 0.5), LSTMCell(2)], return_sequences=True)],
    "a cell in Bidirectional": lambda: [Bidirectional(RNN(Fading(1, 0.5), return_sequences=True))],
    "a cell in a model": lambda: [Sequential([RNN(Fading(2, 0.5), return_sequences=True)], "inner")],
}


def model(layers, optimizer="sgd", loss="mse", metric="binary_accuracy"):
    deep = any(getattr(layer, "layer", None) is not None and hasattr(layer.layer, "layer") for layer in layers)
    made = Sequential([Input((4, 3, 1) if deep else (4, 3)), *layers], seed=0)
    made.compile(optimizer, loss, metrics=[metric])
    return made


COMPILED = {
    "an optimizer": lambda: model([Dense(2)], own(SGD)()),
    "a schedule": lambda: model([Dense(2)], SGD(own(schedules.ExponentialDecay)(0.1, 10, 0.9))),
    "a loss": lambda: model([Dense(2)], loss=own(losses.MeanSquaredError)()),
    "a metric": lambda: model([Dense(2)], metric=own(metrics.BinaryAccuracy)()),
}
MODELS = {name: lambda make=make: model(make()) for name, make in PARTS.items()} | COMPILED
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def data(model):
    deep = len(model.input_shape) == 3
    return (X[..., None], Y[:, :, None].repeat(3, axis=2)) if deep else (X, Y)


@every_model
def test_it_comes_back_from_a_file_if_load_gets_its_class(make, tmp_path):
    saved, path = make(), tmp_path / "model.npz"
    x, y = data(saved)
    saved.fit(x, y, batch_size=4, verbose=0)
    saved.save(path)
    with pytest.raises(
        ValueError, match=r"needs \w+ of \w+, and holds no code: pass custom_objects={'\w+': "
    ):
        Model.load(path)
    loaded = load_model(path, custom_objects=OWN)
    assert archive.describe(loaded) == archive.describe(saved)
    assert loaded.evaluate(x, y, verbose=0) == saved.evaluate(x, y, verbose=0)
    histories = [each.fit(x, y, epochs=2, shuffle=False, verbose=0).history for each in (saved, loaded)]
    assert histories[0] == histories[1]
    assert all(np.array_equal(a, b) for a, b in zip(saved.get_weights(), loaded.get_weights(), strict=True))


@every_model
def test_several_workers_do_what_one_does(make):
    alone, several = make(), make()
    x, y = data(alone)
    alone.fit(x, y, batch_size=4, verbose=0)
    with pytest.warns(UserWarning, match="workers=2 is not possible: other processes cannot know"):
        several.fit(x, y, batch_size=4, verbose=0, workers=2)
    assert all(np.array_equal(a, b) for a, b in zip(alone.get_weights(), several.get_weights(), strict=True))


def test_both_halves_of_bidirectional_have_the_users_parts():
    both = Bidirectional(LSTM(1, activation=LEAKY, bias_initializer=HALVES(), unit_forget_bias=False))
    both.build((4, 3))
    assert [each.activation for each in both.parts.values()] == [LEAKY, LEAKY]
    assert all(np.all(both.params[f"{end}/bias"] == 0.5) for end in ("forward", "backward"))


def test_ours_under_another_object_is_ours(tmp_path):
    """A copy of an activation, as a copied model has it."""
    copy = activations.Activation("tanh", activations.TANH.function, activations.TANH.prime)
    model([Activation(copy), Dense(2)]).save(tmp_path / "model.npz")


@pytest.mark.parametrize("layer", [lambda: Dense(2, activation=LEAKY), lambda: Activation(LEAKY)])
@pytest.mark.parametrize("export", ["onnx", "torch", "keras"])
def test_it_goes_nowhere_as_ours(export, layer, tmp_path):
    pytest.importorskip({"onnx": "onnx", "torch": "torch", "keras": "h5py"}[export])
    from scratchlstm.interop.keras import save_keras
    from scratchlstm.interop.onnx import to_onnx
    from scratchlstm.interop.torch import to_torch

    write = {"onnx": to_onnx, "torch": lambda model, path: to_torch(model), "keras": save_keras}[export]
    with pytest.raises(ValueError, match=r"relu.*(not a part of scratchlstm|cannot express)"):
        write(model([layer(), Dense(2)]), tmp_path / f"m.{export}")


class _Scaled(Dense):
    def __init__(self, scale, **options):
        super().__init__(3, name="scaled", **options)
        self.scale = scale


class _Told(_Scaled):
    def get_config(self):
        return super().get_config() | {"scale": self.scale}


class _Smoothed(metrics.BinaryAccuracy):
    def __init__(self, smoothing):
        super().__init__(threshold=0.25)
        self.smoothing = smoothing


class _Weighted(losses.BinaryCrossentropy):
    def __init__(self, weights):
        super().__init__(from_logits=True)


class _Tight(constraints.MaxNorm):
    def __init__(self, slack):
        super().__init__(3 - slack, axis=1)


def test_an_argument_that_a_subclass_adds_is_for_its_own_get_config():
    ours = Dense(3, name="scaled", bias_regularizer="l2").get_config()
    assert _Scaled(2, bias_regularizer="l2").get_config() == ours
    assert _Told(2, bias_regularizer="l2").get_config() == ours | {"scale": 2}
    assert _Smoothed(1).get_config() == {"name": "_smoothed", "threshold": 0.25}
    assert _Weighted([1, 2]).get_config() == {"from_logits": True}
    assert _Tight(1).get_config() == {"max_value": 2.0, "axis": 1}


def test_a_description_begins_with_what_every_layer_has():
    assert list(LSTM(2).get_config()) == [
        *("name", "dtype", "trainable", "units", "activation", "use_bias"),
        *("kernel_initializer", "recurrent_initializer", "bias_initializer"),
        *("kernel_regularizer", "recurrent_regularizer", "bias_regularizer"),
        *("kernel_constraint", "recurrent_constraint", "bias_constraint"),
        *("dropout", "recurrent_dropout", "seed", "return_sequences", "return_state", "go_backwards", "stateful"),
        *("zero_output_for_mask", "recurrent_activation", "unit_forget_bias", "implementation"),
    ]


# --- cells ------------------------------------------------------------------------------------------------------------


class Passing(Fading):
    def __init__(self, units, *args, slope=2.0, **options):
        super().__init__(units, *args, **options)
        self.slope = slope


class Described(Fading):
    def __init__(self, size, half):
        super().__init__(size, half * 2)

    def get_config(self):
        return {"size": self.units, "half": self.rate / 2}


class Derived(Fading):
    """Whose arguments are other than those of its config."""

    def __init__(self):
        super().__init__(2, 0.5)

    @classmethod
    def from_config(cls, config):
        return cls()


CONFIGS = {
    "of Cell": (type("Plain", (Fading,), {"__init__": Cell.__init__, "rate": 1})(2, "relu"), {"activation": "relu"}),
    "its own": (type("Fixed", (Fading,), {"__init__": lambda self, units, rate: None})(2, 1), {}),
    "passed on": (Passing(2, 0.5, slope=3.0, dropout=0.25), {"rate": 0.5, "slope": 3.0, "dropout": 0.25}),
    "described": (Described(2, 0.25), {"size": 2, "half": 0.25}),
}


def with_cell(*cells, **options):
    return model([RNN(list(cells), return_sequences=True, **options), Dense(2)])
