"""A user's own part is never taken for ours of the same name, however deep inside a model it is."""

import copy
import dataclasses
import pickle
import sys
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
from scratchlstm.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from scratchlstm.cells import Cell
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Add,
    Bidirectional,
    Dense,
    Embedding,
    GRUCell,
    LSTMCell,
    Masking,
    TimeDistributed,
)
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
    with pytest.raises(ValueError, match=r"needs \w+ of \w+, but contains no code: pass custom_objects={'\w+': "):
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
    with pytest.warns(UserWarning, match="workers=2 is not possible: other processes do not know"):
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
    with pytest.raises(ValueError, match=r"relu.*(not part of scratchlstm|cannot express)"):
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
        *("name", "dtype", "trainable"),
        *("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask", "implementation"),
        *("units", "activation", "recurrent_activation", "use_bias"),
        *("kernel_initializer", "recurrent_initializer", "bias_initializer", "unit_forget_bias"),
        *("kernel_regularizer", "recurrent_regularizer", "bias_regularizer"),
        *("kernel_constraint", "recurrent_constraint", "bias_constraint"),
        *("dropout", "recurrent_dropout", "seed"),
    ]


# --- cells, and what goes into a file ---------------------------------------------------------------------------------


class Passing(Fading):
    def __init__(self, units, *args, slope=2.0, **options):
        super().__init__(units, *args, **options)
        self.slope = slope


class Described(Fading):
    def __init__(self, size, half):
        super().__init__(size, half * 2)

    def get_config(self):
        return {"size": self.units, "half": self.rate / 2}


class Unkept(Fading):
    def __init__(self, units, slope=2.0):
        super().__init__(units, slope)


class Long(Described):
    def get_config(self):
        return super().get_config() | {"more": 1}


class Converted(Unkept):
    @classmethod
    def from_config(cls, config):
        return cls(config["units"], 0.5)


class Doubling(Fading):
    def __init__(self, units, rate, **options):
        super().__init__(units, 2 * rate, **options)


class Once(Fading):
    def __init__(self, units, rate):
        if rate < 0.4:
            raise ValueError("rate must be above 0.4")
        super().__init__(units, rate / 2)


def with_cell(cell, **options):
    return model([RNN(cell, return_sequences=True, **options), Dense(2)])


@pytest.mark.parametrize(
    ("cell", "config"),
    [
        (type("Plain", (Fading,), {"__init__": Cell.__init__, "rate": 1})(2, "relu"), {"activation": "relu"}),
        (Passing(2, 0.5, slope=3.0, dropout=0.25), {"units": 2, "rate": 0.5, "slope": 3.0, "dropout": 0.25}),
        (Described(2, 0.25), {"size": 2, "half": 0.25}),
    ],
    ids=["its base's", "passed on", "described"],
)
def test_a_cells_configuration_is_its_signature(cell, config):
    full = cell.get_config()
    assert full | config == full
    assert type(cell)(**full).get_config() == full


@pytest.mark.parametrize("cell", [Passing(2, 0.5, slope=3.0), Described(2, 0.25), Converted(2, 0.5)])
def test_such_a_cell_comes_back(cell, tmp_path):
    saved = with_cell(cell)
    saved.save(tmp_path / "model.npz")
    classes = {each.__name__: each for each in (Passing, Described, Converted)}
    loaded = load_model(tmp_path / "model.npz", classes | {"LSTM": int})
    assert loaded.layers[0].cell.get_config() == cell.get_config()
    assert np.array_equal(loaded.predict(X, verbose=0), saved.predict(X, verbose=0))


NOT_SAVED = {
    "an argument that is not kept": (
        lambda: [RNN(Unkept(2, 0.5), return_sequences=True)],
        "and its constructor takes slope, which its get_config omits: make .* enough to store it as self.slope",
    ),
    "an argument of a layer": (lambda: [_Scaled(2), Dense(2)], "its constructor takes scale, which .* omits"),
    "a required argument": (
        lambda: [RNN(type("Short", (Fading,), {"get_config": lambda self: {"units": 2}})(2, 0.5), True)],
        "its constructor takes rate",
    ),
    "an argument that there is not": (
        lambda: [RNN(Long(2, 0.25), True)],
        "its get_config returns more, which its constructor does not take: take ..options",
    ),
    "an argument that is changed": (
        lambda: [RNN(Doubling(2, 0.5), True)],
        r"Doubling cannot be recreated from its get_config \(rate was 1.0, and is 2.0 now\): store each argument",
    ),
    "an argument that is refused": (
        lambda: [RNN([LSTMCell(2), Once(2, 0.5)], True)],
        r"Once cannot be recreated from its get_config \(rate must be above 0.4\): store each argument",
    ),
    "an array": (
        lambda: [RNN(Passing(2, 0.5, slope=np.ones(2)), True)],
        "its get_config returns what JSON cannot hold .*ndarray",
    ),
    "two of one name": (
        lambda: [RNN([Fading(2, 0.5), type("Fading", (Fading,), {"__module__": "mine"})(2, 1.0)], True)],
        f"your classes only by name, but there is Fading of {__name__} and another Fading of mine: rename one",
    ),
    "a class that was defined again": (
        lambda: [RNN([Fading(2, 0.5), type("Fading", (Fading,), {})(2, 1.0)], True)],
        f"there is Fading of {__name__} and another Fading of {__name__}",
    ),
    "two activations of one name": (
        lambda: [Dense(2, activation=LEAKY), Dense(2, activation=dataclasses.replace(LEAKY, prime=np.ones_like))],
        "there is relu of .* and another relu",
    ),
}


@pytest.mark.parametrize(("make", "message"), NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_could_not_be_made_again_is_not_saved(make, message, tmp_path):
    made = model(make())
    with pytest.raises(ValueError, match=message):
        made.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
    made.fit(X, Y, batch_size=4, verbose=0)  # which needs no description


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (None, ValueError, f"needs Passing of {__name__} and Fading of {__name__}, .*custom_objects={{'Passing': Pas"),
        ({"Fading": Fading}, ValueError, f"needs Passing of {__name__}, .*custom_objects={{'Passing': Passing}}"),
        ({"Fading": Fading, "Passing": Dense}, ValueError, r"cells\[0\] must be a name or a Cell, not <class .*Dense"),
        ({"Fading": Fading, "Passing": LSTMCell}, ValueError, "LSTMCell takes no argument slope, rate"),
        ({"Fading": Doubling, "Passing": Passing}, ValueError, "rate was 0.5, and is 1.0 now"),
        ({"Fading": "Fading"}, TypeError, "custom_objects.'Fading'. must be a class .or an Activation., not 'Fading'"),
        ({"Fading": Fading(2, 0.5)}, TypeError, "custom_objects.'Fading'. must be a class .*, not <.*Fading "),
        ([Fading], TypeError, "custom_objects must be a dict of name -> class"),
    ],
)
def test_classes_that_do_not_fit_are_named(given, kind, message, tmp_path):
    with_cell([Passing(2, 0.5), LSTMCell(2), Fading(2, 0.5)]).save(tmp_path / "model.npz")
    with pytest.raises(kind, match=message):
        Model.load(tmp_path / "model.npz", custom_objects=given)


def test_a_class_may_have_got_another_name_since(tmp_path):
    with_cell(Fading(2, 0.5)).save(tmp_path / "old.npz")
    renamed = type("Renamed", (Fading,), {})
    loaded = load_model(tmp_path / "old.npz", {"Fading": renamed})
    loaded.save(tmp_path / "new.npz")
    assert type(load_model(tmp_path / "new.npz", {"Renamed": renamed}).layers[0].cell) is renamed


def test_nothing_is_imported_by_a_name_in_a_file(tmp_path):
    made, path = with_cell(Fading(2, 0.5)), tmp_path / "model.npz"
    description = archive.describe(made)
    description["layers"][0]["config"]["cell"] |= {"class_name": "s", "foreign": "this"}
    archive.write(path, "scratchlstm model", description, archive.arrays_of(made))
    with pytest.raises(ValueError, match="needs s of this"):
        Model.load(path)
    assert "this" not in sys.modules


# --- runs -------------------------------------------------------------------------------------------------------------


def masked_branches():
    """A graph in whose order masks play a part."""
    ids = Input((4,))
    x = Embedding(9, 3, mask_zero=True)(ids)
    first = RNN(GRUCell(3), return_sequences=True)(RNN(Fading(3, 0.5, dropout=0.25), return_sequences=True)(x))
    made = Model(ids, LSTM(1)(Add()([first, Masking()(Dense(3)(x))])), seed=0)
    made.compile("adam", "mse")
    return made


IDS, ONES = np.random.default_rng(0).integers(0, 9, (16, 4)), np.ones((16, 1))
RUN = {"x": IDS, "y": ONES, "batch_size": 8, "verbose": 0}


def test_a_run_is_resumed_bit_for_bit(tmp_path):
    straight, stopped, resumed = masked_branches(), masked_branches(), masked_branches()
    straight.fit(epochs=4, **RUN)
    stopped.fit(epochs=2, callbacks=[Checkpoint(tmp_path / "run.npz")], **RUN)
    resumed.fit(epochs=4, resume=tmp_path / "run.npz", **RUN)
    assert all(np.array_equal(a, b) for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True))
    straight.save(tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz", OWN)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in straight.layers]
    assert np.array_equal(loaded.predict(IDS, verbose=0), straight.predict(IDS, verbose=0))


def test_a_run_with_a_checkpoint_has_one_worker(tmp_path):
    made, path = masked_branches(), tmp_path / "run.npz"
    before = made.get_weights()
    for options in ({"callbacks": [Checkpoint(path)]}, {"resume": path}):
        with pytest.raises(ValueError, match="cannot have workers=2, as other .* know Fading, .*use workers=1"):
            made.fit(workers=2, **RUN, **options)
    assert not path.exists()
    assert all(np.array_equal(a, b) for a, b in zip(before, made.get_weights(), strict=True))
    made.fit(callbacks=[Checkpoint(path)], **RUN)
    with pytest.raises(ValueError, match="workers was 1, and is 2 now"):
        made.fit(workers=2, resume=path, **RUN)


def test_a_run_with_a_checkpoint_is_described_before_it_begins(tmp_path):
    made = with_cell(Passing(2, 0.5, slope=np.ones(2)))
    with pytest.raises(
        TypeError, match="the model's description cannot be written as JSON .*ndarray.*: get_config of a class"
    ):
        made.fit(X, Y, callbacks=[Checkpoint(tmp_path / "run.npz")], verbose=0)
    assert made.history is None


def test_callbacks_that_keep_weights(tmp_path):
    made, path = masked_branches(), tmp_path / "best.npz"
    stop = EarlyStopping("loss", patience=0, mode="max", restore_best_weights=True)
    keeping = [ModelCheckpoint(path, monitor="loss"), stop]
    made.fit(epochs=3, callbacks=keeping, **RUN)
    assert len(made.history.epoch) == 2  # the second loss is lower, and the first epoch's weights are back
    first = masked_branches()
    first.fit(epochs=1, **RUN)
    for kept, expected in ((made, first), (load_model(path, OWN), masked_branches())):
        if expected is not first:
            expected.fit(epochs=2, **RUN)
        assert all(np.array_equal(a, b) for a, b in zip(kept.get_weights(), expected.get_weights(), strict=True))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "file"])
def test_a_copy_is_a_model_of_its_own(again):
    made = masked_branches()
    made.fit(**RUN)
    other = again(made)
    assert other.get_layer("rnn").cell is not made.get_layer("rnn").cell
    histories = [each.fit(epochs=2, **RUN).history for each in (made, other)]
    assert histories[0] == histories[1]
    assert all(np.array_equal(a, b) for a, b in zip(made.get_weights(), other.get_weights(), strict=True))
