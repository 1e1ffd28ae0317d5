"""Keras' files, read and written without Keras. `tests/tensorflow/test_keras_exchange.py` has the live comparisons."""

import io
import json
import os
import random
import struct
import sys
import warnings
import zipfile

import numpy as np
import pytest
from exchange_models import IDS, SERIES, E, H, T, V
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import Model, Sequential, constraints, layers, losses, metrics, regularizers
from scratchlstm.interop.keras import load_keras, load_keras_weights, save_keras, save_keras_weights
from scratchlstm.interop.keras_config import describe_compiled
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding
from scratchlstm.optimizers import SGD, Adam, RMSprop

h5py = pytest.importorskip("h5py", reason="h5py is not installed here: Keras' files are NOT tested")

REFUSED = r"cannot be read as a file of Keras 3: (?s:.*)"


def same_bits(ours, theirs):
    return [(w.dtype, w.shape, w.tobytes()) for w in ours] == [(w.dtype, w.shape, w.tobytes()) for w in theirs]


def frozen_weights(answers):
    return [answers[name] for name in sorted(answers) if name.startswith("keras/")]


def own_model():
    """The frozen file's model, made by hand."""
    model = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H, return_sequences=True)])
    model.add(LSTM(3, recurrent_activation="hard_sigmoid", use_bias=False))
    model.add(Dense(2, activation="relu"))
    model.add(Dense(1, activation="sigmoid"))
    return model


# --- a file that Keras wrote ------------------------------------------------------------------------------------------


def test_a_file_of_keras_gives_the_same_model(exchange, answers):
    model = load_keras(exchange / "keras.keras")
    assert [(type(layer).__name__, layer.name) for layer in model.layers] == [
        ("Embedding", "embedding"), ("LSTM", "lower"), ("Dropout", "dropout"), ("LSTM", "lstm"),
        ("Dense", "dense"), ("Dense", "dense_1"), ("Activation", "activation"),
    ]  # fmt: skip
    assert model.input_shape == (T,)
    assert same_bits(model.get_weights(), frozen_weights(answers))
    np.testing.assert_allclose(model.predict(IDS, verbose=0), answers["keras"], rtol=0, atol=1e-6)
    config = model.layers[3].get_config()
    assert (config["recurrent_activation"], config["use_bias"]) == ("hard_sigmoid", False)
    assert model.layers[2].get_config()["seed"] == 3
    assert model.layers[4].get_config()["kernel_initializer"]["config"]["stddev"] == 0.5


def test_it_comes_compiled_with_the_optimizers_state(exchange):
    model = load_keras(exchange / "keras.keras")
    assert model.optimizer.get_config() == Adam(0.0625, clipnorm=1.0).get_config()
    assert model.optimizer.iterations == 2
    assert all(np.all(slots["velocity"] >= 0) and np.any(slots["velocity"]) for slots in model.optimizer.state)
    assert any(np.any(slots["momentum"] < 0) for slots in model.optimizer.state)
    assert (type(model.loss), [metric.name for metric in model.metrics]) == (losses.BinaryCrossentropy, ["accuracy"])
    before = model.evaluate(IDS, [0, 1, 1], verbose=0)[0]
    assert model.fit(IDS, [0, 1, 1], epochs=5, verbose=0).history["loss"][-1] < before


@pytest.mark.parametrize("name", ["keras.keras", "keras.weights.h5"])
def test_its_weights_go_into_a_model_of_ones_own(exchange, answers, name):
    """Dropout and names play no part: the n-th layer of a class takes the n-th one's weights."""
    model = own_model()
    load_keras_weights(model, exchange / name)
    assert same_bits(model.get_weights(), frozen_weights(answers))
    np.testing.assert_allclose(model.predict(IDS, verbose=0), answers["keras"], rtol=0, atol=1e-6)


def test_every_layer_of_keras_answers_the_same(exchange, answers):
    """Layers within layers, both directions, padding that is masked."""
    assert (IDS == 0).any()
    model = load_keras(exchange / "keras_layers.keras")
    np.testing.assert_allclose(model.predict(IDS, verbose=0), answers["keras_layers"], rtol=0, atol=1e-6)
    kinds = {type(layer).__name__ for layer in model.layers} | {
        "LSTM",
        "Dropout",
        "Activation",
        "Masking",
        "GlobalMaxPooling1D",
    }
    kinds |= {type(layer).__name__ for layer in load_keras(exchange / "keras_graph.keras").network.with_inner()}
    kinds |= {type(layer).__name__ for layer in load_keras(exchange / "keras_cells.keras").layers}
    ours_alone = {"MaskedGlobalMaxPooling1D", "WordDropout"}
    assert kinds | ours_alone == {*layers.KNOWN}, "a new layer belongs into exchange_models.py, too"
    assert model.layers[2].get_config()["backward_layer"] is None
    assert model.layers[3].get_config()["backward_layer"]["config"]["activation"] == "relu"
    assert model.layers[5].get_config()["recurrent_constraint"] == {
        "class_name": "MaxNorm",
        "config": {"max_value": 2, "axis": 0},
    }


def test_every_cell_of_keras_answers_the_same(exchange, answers, tmp_path):
    """From Keras' file, and from ours of the same model."""
    model = load_keras(exchange / "keras_cells.keras")
    save_keras(model, tmp_path / "m.keras")
    for each in (model, load_keras(tmp_path / "m.keras")):
        np.testing.assert_allclose(each.predict(IDS, verbose=0), answers["keras_cells"], rtol=0, atol=1e-6)
    gru, both, several, simple = model.layers[1:]
    assert (gru.cell.reset_after, both.forward_layer.cell.reset_after) == (True, True)
    assert [type(cell).__name__ for cell in several.cells.values()] == ["LSTMCell", "GRUCell", "LSTMCell"]
    assert not several.cells["cell_1"].reset_after
    assert several.cells["cell_1"].dropout == 0.25
    assert simple.constraints.keys() == {"recurrent_kernel"}


@pytest.mark.parametrize("change", [None, "our own file"])
def test_a_graph_of_keras_answers_the_same(exchange, answers, tmp_path, change):
    """States, masks, attention, shared and nested parts; inputs and outputs keep their names."""
    model = load_keras(exchange / "keras_graph.keras")
    if change:
        save_keras(model, tmp_path / "m.keras")
        model = load_keras(tmp_path / "m.keras")
    data = {"words": IDS, "series": SERIES}
    assert isinstance(model, Model)
    assert {*model.network.input_names} == {*data}
    found = model([data[name] for name in model.network.input_names])
    assert {*found} == {"weights", "column", "scores"}
    for name, value in found.items():
        np.testing.assert_allclose(value, answers[f"keras_graph/{name}"], rtol=0, atol=1e-6)


def test_weights_of_a_graph_go_into_an_equal_one(exchange, answers, tmp_path):
    model = load_keras(exchange / "keras_graph.keras")
    wanted = model.get_weights()
    for name in (exchange / "keras_graph.weights.h5", exchange / "keras_graph.keras", tmp_path / "m.weights.h5"):
        if not name.exists():
            save_keras_weights(model, name)
        model.set_weights([0 * weight for weight in wanted])
        load_keras_weights(model, name)
        assert same_bits(model.get_weights(), wanted)


# --- round trips ------------------------------------------------------------------------------------------------------

_OPTIMIZERS = {
    "adam": lambda: Adam(0.0625, beta_1=0.5, clipnorm=1.0),
    "sgd": lambda: SGD(0.25),
    "momentum": lambda: SGD(0.25, momentum=0.5, nesterov=True, clipvalue=0.5),
    "rmsprop": lambda: RMSprop(0.0625, rho=0.5, global_clipnorm=2.0),
    "averaged": lambda: Adam(0.0625, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3),
}


_CELLS = [
    lambda: layers.LSTMCell(2, use_bias=False, dropout=0.5),
    lambda: layers.GRUCell(2, reset_after=False, kernel_regularizer="l1"),
    lambda: layers.SimpleRNNCell(2, "relu", seed=3),
]

_KINDS = {  # from sequence to sequence
    "LSTM": lambda draw, options: LSTM(
        2,
        draw(st.sampled_from(["tanh", "linear"])),
        draw(st.sampled_from(["sigmoid", "hard_sigmoid"])),
        use_bias=draw(st.booleans()),
        unit_forget_bias=draw(st.booleans()),
        kernel_regularizer=draw(st.sampled_from([None, "l1", regularizers.L1L2(0.25, 0.5)])),
        recurrent_constraint=draw(st.sampled_from([None, "non_neg", constraints.MaxNorm(0.5, axis=1)])),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        seed=draw(st.none() | st.just(3)),
        go_backwards=draw(st.booleans()),
        return_sequences=True,
        **options,
    ),
    "Bidirectional": lambda draw, options: layers.Bidirectional(
        LSTM(2, return_sequences=True, **options),
        draw(st.sampled_from(["concat", "sum"])),
        backward_layer=LSTM(2, "relu", return_sequences=True, go_backwards=True, name="back", **options)
        if draw(st.booleans())
        else None,
    ),
    "SimpleRNN": lambda draw, options: layers.SimpleRNN(2, return_sequences=True, **options),
    "GRU": lambda draw, options: layers.GRU(
        2, reset_after=draw(st.booleans()), use_bias=draw(st.booleans()), return_sequences=True, **options
    ),
    "RNN": lambda draw, options: layers.RNN(
        draw(st.lists(st.sampled_from(_CELLS), min_size=1, max_size=3).map(lambda makes: [make() for make in makes])),
        return_sequences=True,
        **options,
    ),
    "RNN of a cell": lambda draw, options: layers.RNN(
        draw(st.sampled_from(_CELLS))(), go_backwards=True, return_sequences=True, **options
    ),
    "TimeDistributed": lambda draw, options: layers.TimeDistributed(Dense(2, **options)),
    "LayerNormalization": lambda draw, options: layers.LayerNormalization(scale=draw(st.booleans()), **options),
    "Dense": lambda draw, options: Dense(2, draw(st.sampled_from([None, "relu"])), draw(st.booleans()), **options),
    "Dropout": lambda draw, options: Dropout(0.5, seed=draw(st.none() | st.just(4)), **options),
    "Activation": lambda draw, options: Activation("tanh", **options),
}


@st.composite
def _models(draw):
    """A model of ids, trained or not."""
    flag = st.booleans()
    initializer = st.sampled_from(["glorot_normal", "random_normal", "ones"])
    dtype = draw(st.sampled_from(["float32", "float64"]))
    model = Sequential(name=draw(st.sampled_from(["mine", "sequential"])), seed=draw(st.integers(0, 9)))
    model.add(Embedding(V, 3, draw(initializer), input_shape=(draw(st.sampled_from([T, None])),), dtype=dtype))
    for _ in range(draw(st.integers(0, 3))):
        model.add(_KINDS[draw(st.sampled_from(sorted(_KINDS)))](draw, {"dtype": dtype}))
    model.add(LSTM(2, return_sequences=draw(flag), dtype=dtype))
    model.add(Dense(1, "sigmoid", dtype=dtype))
    if draw(flag):
        half = metrics.BinaryAccuracy("half", threshold=0.25)
        model.compile(_OPTIMIZERS[draw(st.sampled_from(sorted(_OPTIMIZERS)))](), "mse", metrics=["accuracy", half])
        if draw(flag):
            targets = np.ones((len(IDS), *(T if n is None else n for n in model.output_shape_for((T,)))))
            model.fit(IDS, targets, epochs=2, verbose=0)
    return model


def _content(model):
    compiled = None
    if model._compiled:
        optimizer = model.optimizer
        parts = [(type(part).__name__, part.get_config()) for part in (optimizer, model.loss, *model.metrics)]
        compiled = parts, optimizer.iterations
    return model.name, model.input_shape, [(type(y).__name__, y.get_config()) for y in model.layers], compiled


@settings(deadline=None, max_examples=60, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=_models())
def test_a_model_comes_back_from_its_keras_file(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    save_keras(model, path)
    loaded = load_keras(path)
    assert _content(loaded) == _content(model)
    assert same_bits(loaded.get_weights(), model.get_weights())
    assert np.array_equal(loaded.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    if model._compiled and model.optimizer.iterations:
        slots = [[slot for slots in m.optimizer.state for slot in slots.values()] for m in (loaded, model)]
        assert same_bits(*slots)


@settings(deadline=None, max_examples=30, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=_models())
def test_weights_come_back_from_their_file(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("keras") / "m.weights.h5"
    save_keras_weights(model, path)
    before = model.get_weights()
    model.set_weights([w + 1 for w in before])
    load_keras_weights(model, path)
    assert same_bits(model.get_weights(), before)


# --- how files are written --------------------------------------------------------------------------------------------


def test_what_cannot_be_written(tmp_path):
    unbuilt = Sequential([Dense(1)])
    for write in (save_keras, save_keras_weights):
        with pytest.raises(ValueError, match="no parameters yet"):
            write(unbuilt, tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"ends in \.keras, unlike"):
        save_keras(own_model(), tmp_path / "m.npz")
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5, unlike"):
        save_keras_weights(own_model(), tmp_path / "m.h5")
    with pytest.raises(ValueError, match="'a/b' cannot go to Keras"):
        save_keras(Sequential([Dense(1, name="a/b", input_shape=(1,))]), tmp_path / "m.keras")
    with pytest.raises(ValueError, match="it is a MaskedGlobalMaxPooling1D, which Keras does not have"):
        save_keras(Sequential([layers.MaskedGlobalMaxPooling1D(name="it", input_shape=(2, 1))]), tmp_path / "m.keras")
    with pytest.raises(ValueError, match="it is a WordDropout, which Keras does not have"):
        save_keras(Sequential([layers.WordDropout(0.5, name="it", input_shape=(2,))]), tmp_path / "m.keras")
    for name in ("a/b", "inner"):
        model = Sequential([layers.Bidirectional(LSTM(1, name="a/b"), input_shape=(2, 1), name=name)], name="mine")
        with pytest.raises(ValueError, match="a/b' cannot go to Keras"):
            save_keras(model, tmp_path / "m.keras")
    with pytest.raises(ValueError, match="the Sequential 'a/b' cannot go to Keras"):
        save_keras(Sequential([Dense(1, input_shape=(1,))], name="a/b"), tmp_path / "m.keras")
    model = own_model()
    model.compile(type("Mine", (Adam,), {"__module__": "mine"})(), "mse")
    with pytest.raises(ValueError, match="Mine is not part of scratchlstm"):
        save_keras(model, tmp_path / "m.keras")
    model = Sequential([type("Dense", (Dense,), {"__module__": "mine"})(1, input_shape=(1,))])
    with pytest.raises(ValueError, match="dense is a Dense, which Keras does not have"):
        save_keras(model, tmp_path / "m.keras")
    assert not os.listdir(tmp_path)


def test_an_exception_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    save_keras(own_model(), path)
    before = path.read_bytes()

    def fail(self, name, content):
        raise MemoryError("in the middle")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(MemoryError, match="in the middle"):
        save_keras(own_model(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.keras"]


def test_without_h5py(tmp_path, exchange, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="h5py"):
        load_keras(exchange / "keras.keras")
    with pytest.raises(ImportError, match="h5py"):
        save_keras(own_model(), tmp_path / "m.keras")
    assert not os.listdir(tmp_path)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_no_file_of_keras_3(tmp_path, exchange):
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        load_keras(tmp_path / "missing.keras")
    with pytest.raises(ValueError, match=REFUSED + "weights but no model: build the model, and use load_keras_weights"):
        load_keras(exchange / "keras.weights.h5")
    with pytest.raises(ValueError, match="no parameters yet"):
        load_keras_weights(Sequential([Dense(1)]), exchange / "keras.weights.h5")
    for attribute in ("layer_names", "model_config"):
        with h5py.File(tmp_path / "old.h5", "w") as file:
            file.attrs[attribute] = "[]"
        for load in (load_keras, lambda path: load_keras_weights(own_model(), path)):
            with pytest.raises(ValueError, match=REFUSED + "format of Keras 2; .* save it again"):
                load(tmp_path / "old.h5")


@pytest.fixture
def edited(exchange, tmp_path):
    """Write a file of Keras again, with its description or its HDF5 file changed."""

    def edit(change=None, change_weights=None, name="keras.keras", **how):
        with zipfile.ZipFile(exchange / name) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        if change:
            description = json.loads(members["config.json"])
            change(description)
            members["config.json"] = json.dumps(description)
        if change_weights:
            buffer = io.BytesIO(members["model.weights.h5"])
            with h5py.File(buffer, "a") as file:
                change_weights(file)
            members["model.weights.h5"] = buffer.getvalue()
        path = tmp_path / "m.keras"
        with zipfile.ZipFile(path, "w", **how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return edit


def layer(number, **config):
    """Change settings of a layer; the number counts the input, too."""
    return lambda d: d["config"]["layers"][number]["config"].update(config)


def described(number, **values):
    return lambda d: d["config"]["layers"][number].update(values)


_EVIL = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None, "closure": None}}
_REGULARIZER = {"module": "keras.regularizers", "class_name": "OrthogonalRegularizer", "config": {"factor": 0.01}}
_DESCRIPTIONS = {
    "an option at another value": (layer(2, activity_regularizer=_REGULARIZER), "'lower' has activity_regularizer="),
    "an unknown option": (layer(2, colour="red"), "LSTM 'lower' has colour='red'"),
    "the base class": (described(2, class_name="Layer"), "no counterpart of keras.layers.Layer"),
    "an unknown layer": (described(2, class_name="Conv1D"), "no counterpart of keras.layers.Conv1D; it has .*LSTM"),
    "another layer": (described(2, class_name="GRU"), "GRU 'lower' has unit_forget_bias=True"),
    "a cell for a layer": (described(2, class_name="LSTMCell"), "LSTMCell 'lower'"),
    "a custom layer": (described(2, registered_name="mine>LSTM"), "no counterpart of mine>LSTM.LSTM"),
    "another module": (described(2, module="os", class_name="system"), "no counterpart of os.system"),
    "a module of ours": (described(2, module="keras.files", class_name="Path"), "no counterpart of keras.files.Path"),
    "code in an option": (layer(2, activation=_EVIL), "LSTM 'lower'.*no counterpart"),
    "a Lambda": (described(2, class_name="Lambda", config={"name": "l", "function": _EVIL}), "keras.layers.Lambda"),
    "an unknown activation": (layer(2, activation="gelu"), "LSTM 'lower': unknown activation 'gelu'"),
    "an unknown initializer": (
        layer(2, kernel_initializer={"module": "keras.initializers", "class_name": "LecunNormal", "config": {}}),
        "LSTM 'lower'.*no counterpart of keras.initializers.LecunNormal; it has",
    ),
    "an unknown dtype": (
        layer(2, dtype={"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}),
        "LSTM 'lower': dtype must be one of float32, float64",
    ),
    "a functional model": (lambda d: d.update(class_name="Functional"), "a Functional of keras, but only Seq"),
    "a class of models": (lambda d: d.update(class_name="Mine"), "a Mine of keras, but only Sequential and"),
    "no layers": (lambda d: d["config"].update(layers=[]), "no layers"),
    "an input alone": (lambda d: d["config"].update(layers=d["config"]["layers"][:1]), "no layers"),
    "a sparse input": (layer(0, sparse=True), "the input has sparse=True"),
    "no shape": (layer(0, batch_shape=None), ""),
    "a shape of words": (layer(0, batch_shape=[None, "many"]), "each size of a shape"),
    "two layers of a name": (layer(4, name="lower"), "already has a layer named 'lower'"),
    "a layer less": (lambda d: d["config"]["layers"].pop(5), "dense_1 has weights of shapes"),
    "a layer less of its class": (lambda d: d["config"]["layers"].pop(4), "the file holds weights of lstm_1|shapes"),
    "more units": (layer(2, units=5), r"lower has weights of shapes \(5, 20\)"),
    "a flag in words": (layer(2, return_sequences="no"), "'lower' has return_sequences='no', which must be true"),
    "units in words": (layer(2, units="two"), "LSTM 'lower': units must be"),
    "no units": (lambda d: d["config"]["layers"][2]["config"].pop("units"), "LSTM 'lower'.*units"),
    "a huge layer": (layer(2, units=10**15), "lower has weights of shapes"),
    "a huge vocabulary": (layer(1, input_dim=10**15), "embedding has weights of shapes"),
    "no bias": (layer(2, use_bias=False), "lower has weights of shapes"),
    "a list": (lambda d: d["config"].update(layers=[1]), ""),
    "no config": (lambda d: d.pop("config"), "config"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "match"), _DESCRIPTIONS.values(), ids=_DESCRIPTIONS)
def test_descriptions_that_are_refused(edited, change, match):
    with pytest.raises(ValueError, match=REFUSED + match):
        load_keras(edited(change))


def cell(change, number=4):
    """Change the description of the cell of an RNN."""
    return lambda d: change(d["config"]["layers"][number]["config"]["cell"])


def settings_of(number=None, **values):
    """Change a cell's settings, or those of one of several."""

    def change(described):
        described = described if number is None else described["config"]["cells"][number]
        described["config"].update(values)

    return change


def no_setting(name):
    return lambda described: described["config"].pop(name)


_CELL_DESCRIPTIONS = {
    "no cell": (lambda d: d["config"]["layers"][4]["config"].pop("cell"), "RNN 'several'.*cell"),
    "a name for a cell": (lambda d: d["config"]["layers"][4]["config"].update(cell="mine"), "RNN 'several': .*'mine'"),
    "a layer for a cell": (cell(lambda d: d.update(class_name="LSTM")), "RNN 'several': .*LSTM"),
    "a cell of one's own": (cell(lambda d: d.update(class_name="Mine"), 5), "RNN 'rnn.* of .*Mine; it has"),
    "a registered one": (cell(lambda d: d.update(registered_name="a>B"), 5), "no counterpart of a>B.SimpleRNNCell"),
    "a cell of ours alone": (cell(lambda d: d.update(class_name="MGUCell"), 5), "RNN 'rnn.* of keras.layers.MGUCell"),
    "no cells": (cell(no_setting("cells")), "RNN 'several'.*cells"),
    "none of them": (cell(settings_of(cells=[])), "RNN 'several': cells must hold at least one"),
    "a number for cells": (cell(settings_of(cells=3)), "RNN 'several': cells must be a list"),
    "numbers among them": (cell(settings_of(cells=[3])), r"RNN 'several': cells\[0\] must be a cell"),
    "no units": (cell(no_setting("units"), 5), "RNN 'rnn.*(units|cell)"),
    "more units": (cell(settings_of(1, units=7)), "several has weights of shapes"),
    "another reset": (cell(settings_of(1, reset_after=True)), "several has weights of shapes"),
    "reset_after in words": (cell(settings_of(1, reset_after="no")), "has reset_after='no', which must be true or"),
    "an unknown setting": (cell(settings_of(0, colour="red")), "LSTMCell 'lstm_cell' has colour='red'"),
    "another dtype": (cell(settings_of(0, dtype="float64")), "has dtype='float64', but the layer .* has 'float32'"),
    "a frozen one": (cell(settings_of(0, trainable=False)), "has trainable=False, but the layer that runs it has True"),
    "another GRU": (layer(2, reset_after=False), r"gru has weights of shapes .*\(12,\), but .*\(2, 12\)"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "match"), _CELL_DESCRIPTIONS.values(), ids=_CELL_DESCRIPTIONS)
def test_descriptions_of_cells_that_are_refused(edited, change, match):
    with pytest.raises(ValueError, match=REFUSED + match):
        load_keras(edited(change, name="keras_cells.keras"))


def part(name):
    """A layer of the graph's description, or a model within the model."""
    return lambda d: next(each for each in d["config"]["layers"] if each["name"] == name)


def call(name, number=0, **arguments):
    """Give a call of the graph these arguments by name."""
    return lambda d: part(name)(d)["inbound_nodes"][number]["kwargs"].update(arguments)


def taken(name, history, number=0):
    """Let a call take its input from elsewhere."""
    return lambda d: part(name)(d)["inbound_nodes"][number]["args"].__setitem__(0, tensor(*history))


def tensor(*history):
    config = {"shape": [None], "dtype": "float32", "keras_history": list(history)}
    return {"class_name": "__keras_tensor__", "config": config}


def whole(**values):
    return lambda d: d["config"].update(values)


def operation(d):
    d["config"]["layers"].append(
        {
            "module": "keras.src.ops.numpy", "class_name": "Tanh", "config": {"name": "it"}, "registered_name": "Tanh",
            "name": "it", "inbound_nodes": [{"args": [tensor("series", 0, 0)], "kwargs": {}}],
        }
    )  # fmt: skip
    taken("inner", ["it", 0, 0])(d)


def deep(d):
    nested = tensor("series", 0, 0)
    for _ in range(900):
        nested = [nested]
    part("decoder")(d)["inbound_nodes"][0]["args"] = [nested]


_GRAPHS = {
    "a circle": (taken("encoder", ["reader", 0, 0]), "wired in a circle: '[a-z_0-9]+' depends on itself"),
    "a layer of itself": (taken("inner", ["inner", 0, 0]), "wired in a circle: 'inner'"),
    "no such layer": (taken("encoder", ["nothing", 0, 0]), "from call 0 of 'nothing', which does not exist"),
    "no such call": (taken("encoder", ["embedding", 1, 0]), "from call 1 of 'embedding', which does not exist"),
    "a call far off": (taken("encoder", ["embedding", 10**30, 0]), "which does not exist"),
    "a call below 0": (taken("encoder", ["embedding", -1, 0]), "the number of a call must be"),
    "no such output": (taken("reader", ["encoder", 0, 3]), "output 3 of call 0 of 'encoder', which does not exist"),
    "an output below 0": (taken("reader", ["encoder", 0, -1]), "the number of an output must be"),
    "an output in words": (taken("reader", ["encoder", 0, "y"]), "the number of an output must be"),
    "a history of one": (taken("reader", ["encoder"]), "history of a tensor must be a layer's name and two"),
    "a history of numbers": (taken("reader", [0, 0, 0]), "history of a tensor must be"),
    "an operation": (operation, "no counterpart of keras.src.ops.numpy.Tanh, which computes 'it'"),
    "a mask of one's own": (call("decoder", mask=tensor("words", 0, 0)), "decoder is called with a mask= other than"),
    "another mask": (
        lambda d: call("reader", mask=tensor("not_equal", 0, 0))(d),
        "reader is called with a mask= other than its input's",
    ),
    "training": (call("encoder", training=True), "encoder in a Model takes .*, not training"),
    "an unknown argument": (call("encoder", colour=1), "encoder in a Model takes .*, not colour"),
    "a causal mask": (call("attention", use_causal_mask=True), "use_causal_mask of attention must be False"),
    "one state": (call("decoder", initial_state=[tensor("encoder", 0, 1)]), r"initial_state of decoder must be \["),
    "a number for a state": (call("decoder", initial_state=[1, 2]), "initial_state of decoder"),
    "no arguments": (lambda d: part("encoder")(d)["inbound_nodes"][0].update(args=[]), "with other arguments than x, "),
    "many arguments": (
        lambda d: part("encoder")(d)["inbound_nodes"][0].update(args=[None] * 10**5),
        "with other arguments than x, ",
    ),
    "a call of Keras 2": (lambda d: part("encoder")(d)["inbound_nodes"].append([["series", 0, 0, {}]]), ""),
    "deep arguments": (deep, ""),
    "two names": (lambda d: part("reader")(d).update(name="encoder"), "already has a layer named 'encoder'"),
    "an unused input": (
        lambda d: d["config"]["layers"].append(
            part("series")(d) | {"name": "more", "config": {"batch_shape": [None, 2], "name": "more"}}
        )
        or d["config"]["input_layers"].update(more=["more", 0, 0]),
        "no output depends on the input",
    ),
    "a missing input": (whole(input_layers={"words": ["words", 0, 0]}), "depend on the Input 'series', which is not"),
    "an input twice": (
        whole(input_layers=[["words", 0, 0], ["series", 0, 0], ["words", 0, 0]]),
        "one of them is listed twice",
    ),
    "inputs of inputs": (whole(input_layers={"words": {"words": ["words", 0, 0]}}), "history of a tensor must be"),
    "no inputs": (whole(input_layers=[]), "history of a tensor must be"),
    "an input that is a layer": (
        whole(input_layers=[["words", 0, 0], ["series", 0, 0], ["reader", 0, 0]]),
        "an input of the model is the output of its layer 'reader'",
    ),
    "an input for an output": (whole(output_layers=["words", 0, 0]), "an output of the model is its input 'words'"),
    "no such end": (whole(output_layers=["reader", 7, 0]), "output 0 of call 7 of 'reader', which does not exist"),
    "many ends": (whole(output_layers=[["reader", 0, 0]] * 1000), ""),
    "nested settings": (
        lambda d: part("inner")(d)["config"].update(output_layers=["nothing", 0, 0]),
        "of 'nothing', which does not exist",
    ),
    "another class within": (lambda d: part("inner")(d).update(module="os"), "no counterpart of .*Functional"),
    "an unknown setting": (whole(colour="red"), "the model has colour='red'"),
    "half frozen": (whole(trainable="half"), "trainable must be True or False, not 'half'"),
    "sizes that differ": (lambda d: part("encoder")(d)["config"].update(units=4), "initial_state of decoder must be"),
    "an activation more": (lambda d: part("attention")(d)["config"].update(use_scale=False), "attention has weights"),
    "a huge layer within": (
        lambda d: part("stack")(part("inner")(d))["config"]["layers"][1]["config"].update(units=10**12),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "match"), _GRAPHS.values(), ids=_GRAPHS)
def test_graphs_that_are_refused(edited, change, match):
    path = edited(change, name="keras_graph.keras")
    if change is _GRAPHS["many ends"][0]:
        assert load_keras(path).network.outputs == 1000
        return
    with pytest.raises(ValueError, match=REFUSED + match) as refused:
        load_keras(path)
    assert str(refused.value).count("\n") == 0


def compiled(**values):
    return lambda d: d["compile_config"].update(values)


def optimizer(**config):
    return lambda d: d["compile_config"]["optimizer"]["config"].update(config)


_LION = {"module": "keras.optimizers", "class_name": "Lion", "config": {}, "registered_name": None}
_COMPILED = {
    "another optimizer": (compiled(optimizer=_LION), "no counterpart of keras.optimizers.Lion.*not compiled"),
    "a name of one": (compiled(optimizer="lion"), "unknown optimizer 'lion'.*not compiled"),
    "another loss": (compiled(loss="huber"), "unknown loss 'huber'.*not compiled"),
    "an option of the loss": (
        compiled(loss={"module": "keras.losses", "class_name": "BinaryCrossentropy", "config": {"axis": 1}}),
        "BinaryCrossentropy has axis=1",
    ),
    "weight decay": (optimizer(weight_decay=0.1), "'adam' has weight_decay=0.1.*not compiled"),
    "accumulated gradients": (optimizer(gradient_accumulation_steps=2), "'adam' has gradient_acc.*not compiled"),
    "weighted metrics": (compiled(weighted_metrics=["accuracy"]), r"weighted_metrics=\['accuracy'\]"),
    "weights of other losses": (compiled(loss_weights=[2.0, 3.0]), "loss_weights must have one entry.*not compiled"),
    "a loss too many": (compiled(loss=["mse", None]), "loss must have one entry.*not compiled"),
    "a metric as large as memory": (
        compiled(metrics=[{"module": "keras.metrics", "class_name": "AUC", "config": {"num_thresholds": 10**10}}]),
        "num_thresholds must be at most 100,000",
    ),
    "another metric": (compiled(metrics=["accuracy", "luck"]), "unknown metric 'luck'"),
}


@pytest.mark.parametrize(("change", "match"), _COMPILED.values(), ids=_COMPILED)
def test_what_is_lost_of_compiling_is_said(edited, change, match):
    with pytest.warns(UserWarning, match=f"not everything compiled in Keras could be converted: .*{match}"):
        model = load_keras(edited(change))
    assert model._compiled == ("not compiled" not in match and "axis=" not in match)


@pytest.mark.parametrize("weights", [2.0, [2.0]])
def test_weights_of_losses_are_taken_over(edited, weights):
    model = load_keras(edited(compiled(loss_weights=weights)))
    assert [target.weight for target in model.targets] == [2.0]
    assert describe_compiled(model)["loss_weights"] == 2.0


def test_a_model_that_was_not_compiled_is_not(edited):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_keras(edited(lambda d: d.pop("compile_config")))
    assert not model._compiled


# --- hostile weights --------------------------------------------------------------------------------------------------

_KERNEL = "layers/lstm/cell/vars/0"  # (5, 16)


def instead(make, place=_KERNEL):
    """Put something else in a dataset's place."""

    def change(file):
        del file[place]
        make(file, place)

    return change


def filtered(**options):
    return instead(lambda file, place: file.create_dataset(place, data=np.zeros((E, 4 * H), "f4"), **options))


def array(value):
    return instead(lambda file, place: file.create_dataset(place, data=value))


def virtual(file, place):
    layout = h5py.VirtualLayout((E, 4 * H), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (E, 4 * H))
    file.create_virtual_dataset(place, layout)


def external(file, place):
    file.create_dataset(place, (E, 4 * H), "f4", external=[("/etc/passwd", 0, 4 * E * 4 * H)])


def never_written(file, place):
    """A shape without bytes."""
    space, kind = h5py.h5s.create_simple((E, 4 * H)), h5py.h5t.IEEE_F32LE
    h5py.h5d.create(file["layers/lstm/cell/vars"].id, b"0", kind, space)


_WEIGHTS = {
    "a link to another file": (
        instead(lambda f, place: f.__setitem__(place, h5py.ExternalLink("/etc/hostname", "/"))),
        "is a link, which is never followed",
    ),
    "a link within": (
        instead(lambda f, p: f.__setitem__(p, h5py.SoftLink("/layers/lstm/cell/vars/1"))),
        "is a link, which is never followed",
    ),
    "a group elsewhere": (
        instead(lambda f, place: f.__setitem__(place, h5py.ExternalLink("other.h5", "/")), "layers/lstm/cell"),
        "is a link, which is never followed",
    ),
    "bytes of another file": (instead(external), "not stored plainly"),
    "a virtual array": (instead(virtual), "not stored plainly"),
    "compressed": (filtered(compression="gzip"), "not stored plainly"),
    "a filter": (filtered(shuffle=True, chunks=(1, 16)), "not stored plainly"),
    "no bytes": (instead(never_written), "declares 320 bytes, but 0 are stored"),
    "a huge shape": (
        instead(
            lambda file, place: file.create_dataset(place, (10**9, 10**6), "f4", chunks=(1, 16), compression="gzip")
        ),
        "holds .*1000000000, 1000000",
    ),
    "a group for an array": (instead(lambda file, place: file.create_group(place)), "is not a dataset"),
    "an array for a group": (
        instead(lambda file, place: file.create_dataset(place, data=[1.0]), "layers/lstm/cell"),
        "is not a group",
    ),
    "transposed": (array(np.zeros((4 * H, E), "f4")), "lower has weights of shapes"),
    "a number": (array(np.float32(0)), "lower has weights of shapes"),
    "text": (array(np.full((E, 4 * H), "x", "S1")), r"holds \|S1"),
    "objects": (array(np.full((E, 4 * H), "x", h5py.string_dtype())), "holds object"),
    "complex numbers": (array(np.zeros((E, 4 * H), "c8")), "holds complex64"),
    "half floats": (array(np.zeros((E, 4 * H), "f2")), "holds float16"),
    "truth values": (array(np.zeros((E, 4 * H), "?")), "holds bool"),
    "float64": (array(np.zeros((E, 4 * H), "f8")), "not all float32"),
    "NaN": (array(np.full((E, 4 * H), np.nan, "f4")), "not finite numbers"),
    "infinity": (array(np.full((E, 4 * H), np.inf, "f4")), "not finite numbers"),
    "an array missing": (lambda file: file.__delitem__("layers/lstm/cell/vars/2"), "lower has weights of shapes"),
    "numbers with a gap": (lambda file: file.move(_KERNEL, "layers/lstm/cell/vars/7"), "has no 0"),
    "an array too many": (lambda file: file.create_dataset("layers/lstm/cell/vars/3", data=[1.0]), "lower has weights"),
    "a layer missing": (lambda file: file.__delitem__("layers/lstm"), "has no lstm"),
    "a layer too many": (lambda file: file.create_dataset("layers/gru/vars/0", data=[1.0]), "weights of gru"),
    "no layers": (lambda file: file.__delitem__("layers"), "has no layers"),
    "a slot of another shape": (
        instead(lambda f, p: f.create_dataset(p, data=[1.0]), "optimizer/vars/2"),
        "0/momentum",
    ),
    "a slot of NaN": (
        instead(lambda f, p: f.create_dataset(p, data=np.full((V, E), np.nan)), "optimizer/vars/2"),
        "not finite numbers",
    ),
    "iterations below 0": (
        instead(lambda f, p: f.create_dataset(p, data=-1), "optimizer/vars/0"),
        "iterations must be",
    ),
    "many iterations": (
        instead(lambda f, p: f.create_dataset(p, data=[1, 2]), "optimizer/vars/0"),
        "iterations must be",
    ),
}


@pytest.mark.parametrize(("change", "match"), _WEIGHTS.values(), ids=_WEIGHTS)
def test_weights_that_are_refused(edited, change, match):
    with pytest.raises(ValueError, match=REFUSED + match):
        load_keras(edited(change_weights=change))


_GRU, _SEVERAL = "layers/gru/cell/vars", "layers/rnn/cell/cells"
_CELL_WEIGHTS = {
    "a bias missing": (lambda file: file.__delitem__(f"{_GRU}/2"), "gru has weights of shapes"),
    "a kernel missing": (lambda file: file.__delitem__(f"{_GRU}/0"), "has no 0"),
    "one bias": (instead(lambda f, p: f.create_dataset(p, data=np.zeros(12, "f4")), f"{_GRU}/2"), "gru has weights"),
    "NaN": (instead(lambda f, p: f.create_dataset(p, data=np.full((2, 12), np.nan, "f4")), f"{_GRU}/2"), "not finite"),
    "no cells": (lambda file: file.__delitem__(_SEVERAL), "has no cells"),
    "a cell missing": (lambda file: file.__delitem__(f"{_SEVERAL}/lstm_cell_1"), "has no lstm_cell_1"),
    "a cell too many": (
        lambda file: file.create_dataset(f"{_SEVERAL}/gru_cell_1/vars/0", data=[1.0]),
        "weights of rnn/cell/cells/gru_cell_1, a layer that the model does not have",
    ),
    "a link for a cell": (
        instead(lambda f, p: f.__setitem__(p, h5py.ExternalLink("/etc/hostname", "/")), f"{_SEVERAL}/gru_cell"),
        "is a link, which is never followed",
    ),
}


@pytest.mark.parametrize(("change", "match"), _CELL_WEIGHTS.values(), ids=_CELL_WEIGHTS)
def test_weights_of_cells_that_are_refused(edited, change, match):
    with pytest.raises(ValueError, match=REFUSED + match):
        load_keras(edited(change_weights=change, name="keras_cells.keras"))


def test_refused_weights_leave_the_model_as_it_was(edited):
    model = own_model()
    before = model.get_weights()
    path = edited(change_weights=lambda file: file["layers/dense_1/vars/0"].write_direct(np.full((2, 1), np.nan, "f4")))
    with pytest.raises(ValueError, match=REFUSED + "not finite numbers"):
        load_keras_weights(model, path)
    assert same_bits(model.get_weights(), before)


def test_a_layer_of_the_file_that_the_model_lacks_is_refused(exchange):
    model = Sequential([Embedding(V, E, input_shape=(T,)), LSTM(H)])
    with pytest.raises(ValueError, match=REFUSED + "weights of dense, a layer that the model does not have"):
        load_keras_weights(model, exchange / "keras.weights.h5")


def test_a_state_of_random_generators_is_passed_over(edited, answers):
    """Keras has written them, depending on its version; ours are drawn again."""

    def change(file):
        for place in ("layers/dropout", "layers/lstm/cell"):
            file.create_group(f"{place}/seed_generator/vars").create_dataset("0", data=np.array([1, 2], "u4"))

    path, model = edited(change_weights=change), own_model()
    load_keras_weights(model, path)  # which has no Dropout
    assert same_bits(model.get_weights(), frozen_weights(answers))
    assert same_bits(load_keras(path).get_weights(), frozen_weights(answers))


# --- hostile archives -------------------------------------------------------------------------------------------------


def test_archives_that_are_refused(edited, tmp_path):
    with pytest.raises(ValueError, match=REFUSED + "config.json is compressed"):
        load_keras(edited(compression=zipfile.ZIP_DEFLATED))
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(10**8))
    with pytest.raises(ValueError, match=REFUSED + "config.json is compressed"):
        load_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 10**5)
        archive.writestr("model.weights.h5", "")
    with pytest.raises(ValueError, match=REFUSED):
        load_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ValueError, match=REFUSED + "0 members named config.json"):
        load_keras(path)
    path = edited()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the name is there twice
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=REFUSED + "2 members named config.json"):
        load_keras(path)


def test_a_member_said_to_be_huge_is_refused(edited):
    """The archive's directory claims 4 GB for some thousand bytes."""
    path = edited()
    data = bytearray(path.read_bytes())
    for place in [n for n in range(len(data)) if data[n : n + 4] == b"PK\x01\x02"]:
        data[place + 20 : place + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=REFUSED):
        load_keras(path)


def test_other_members_are_not_written_anywhere(edited, tmp_path):
    path = edited()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil", "x")
        archive.writestr("/tmp/../evil", "x")
    before = sorted(tmp_path.parent.rglob("*"))
    load_keras(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


# --- damage -----------------------------------------------------------------------------------------------------------


def _mutants(content, count, seed):
    """Truncated, with a bit flipped, a stretch overwritten or repeated, or a number made extreme."""
    draw = random.Random(seed)
    extreme = [b"\xff" * 8, bytes(8), (2**40).to_bytes(8, "little"), (2**63).to_bytes(8, "little")]
    for number in range(count):
        data, place = bytearray(content), draw.randrange(len(content) - 8)
        if number % 5 == 0:
            data[place] ^= 1 << draw.randrange(8)
        elif number % 5 == 1:
            data[place : place + 8] = draw.choice([*extreme, draw.randrange(len(data)).to_bytes(8, "little")])
        elif number % 5 == 2:
            del data[place:]
        elif number % 5 == 3:
            data[place : place + 40] = draw.randbytes(40)
        else:
            other, length = draw.randrange(len(data)), draw.randint(1, 200)
            data[place : place + length] = data[other : other + length]
        yield bytes(data)


def test_a_damaged_keras_file_is_refused_or_gives_the_same_model(tmp_path, exchange, answers):
    path, refused = tmp_path / "m.keras", 0
    for data in _mutants((exchange / "keras.keras").read_bytes(), 1500, seed=0):
        path.unlink(missing_ok=True)  # writing over it waits for the disk, each time
        path.write_bytes(data)
        try:
            model = load_keras(path)
        except ValueError as error:
            assert "m.keras' cannot be read as a file of Keras 3: " in str(error)  # noqa: PT017  anything else passes on
            refused += 1
        else:
            assert same_bits(model.get_weights(), frozen_weights(answers))
    assert refused > 1200


@pytest.mark.slow
def test_a_damaged_weights_file_is_refused_or_gives_finite_weights(tmp_path, exchange):
    """Its numbers have no checksum, so that a changed one is a number; all else is noticed."""
    path, refused = tmp_path / "m.weights.h5", 0
    for data in _mutants((exchange / "keras.weights.h5").read_bytes(), 1000, seed=1):
        path.unlink(missing_ok=True)  # writing over it waits for the disk, each time
        path.write_bytes(data)
        model = own_model()
        before = model.get_weights()
        try:
            load_keras_weights(model, path)
        except ValueError as error:
            assert "h5' cannot be read as a file of Keras 3: " in str(error)  # noqa: PT017
            assert same_bits(model.get_weights(), before)
            refused += 1
        else:
            assert all(np.isfinite(w).all() for w in model.get_weights())
    assert refused > 200


_VALUES = [
    None,
    True,
    0,
    -1,
    2**31,
    10**18,
    1e308,
    float("nan"),
    "",
    "lstm",
    999 * "x",
    "\ud800",
    [],
    [None],
    50 * [1],
    {},
]
_VALUES += [{"module": "keras.layers", "class_name": "LSTM", "config": {"units": 10**9, "name": "x"}}]


def _places(node, place=()):
    """The path to something in nested dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from _places(value, (*place, key))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:not everything compiled in Keras")
@pytest.mark.parametrize("name", ["keras.keras", "keras_layers.keras", "keras_cells.keras", "keras_graph.keras"])
def test_a_description_with_anything_anywhere_is_refused_or_read(exchange, tmp_path, name):
    """Nothing else happens: no other error, no hanging, no memory for sizes that are merely claimed."""
    with zipfile.ZipFile(exchange / name) as archive:
        members = {part: archive.read(part) for part in ("config.json", "model.weights.h5")}
    places, draw, refused = list(_places(json.loads(members["config.json"]))), random.Random(0), 0
    for _ in range(300):
        description = parent = json.loads(members["config.json"])
        *above, last = draw.choice(places)
        for key in above:
            parent = parent[key]
        if draw.random() < 0.2:
            del parent[last]
        else:
            parent[last] = draw.choice(_VALUES)
        (tmp_path / "m.keras").unlink(missing_ok=True)  # writing over it waits for the disk, each time
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            archive.writestr("config.json", json.dumps(description))
            archive.writestr("model.weights.h5", members["model.weights.h5"])
        try:
            load_keras(tmp_path / "m.keras")
        except ValueError as error:
            assert "m.keras' cannot be read as a file of Keras 3: " in str(error)  # noqa: PT017
            refused += 1
    assert refused > 150


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(data=st.binary(max_size=300), magic=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x89HDF\r\n\x1a\n"]))
def test_any_other_content_is_refused(tmp_path_factory, data, magic):
    path = tmp_path_factory.mktemp("any") / "m.keras"
    path.write_bytes(magic + data)
    with pytest.raises(ValueError, match=REFUSED):
        load_keras(path)
    with pytest.raises(ValueError, match=REFUSED):
        load_keras_weights(own_model(), path)
