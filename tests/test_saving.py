"""A saved model is the model: bit for bit, whole or not at all, and never a program."""

import inspect
import io
import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import Sequential, cells, layers, losses, metrics, optimizers, schedules
from scratchlstm._support import registry
from scratchlstm.constraints import MaxNorm
from scratchlstm.initializers import Constant, RandomUniform
from scratchlstm.layers import LSTM, Activation, Dense, Dropout, Embedding, Flatten
from scratchlstm.models import load_model
from scratchlstm.optimizers import SGD, Adam, RMSprop
from scratchlstm.regularizers import L1L2
from scratchlstm.schedules import CosineDecay, ExponentialDecay, PiecewiseConstantDecay

V, T, N = 7, 4, 10


def _same_model(ours, theirs):
    """Everything that a file keeps."""

    def content(model):
        compiled = None
        if model._compiled:
            optimizer = model.optimizer
            compiled = [
                *((type(part).__name__, part.get_config()) for part in (optimizer, model.loss, *model.metrics)),
                optimizer.iterations,
                [(slot, a.dtype, a.shape, a.tobytes()) for slots in optimizer.state for slot, a in slots.items()],
            ]
        return (
            model.name,
            model.input_shape,
            [(type(layer).__name__, layer.get_config(), list(layer.params)) for layer in model.layers],
            [(w.dtype, w.shape, w.tobytes()) for w in model.get_weights()],
            compiled,
        )

    return content(ours) == content(theirs)


def _batch(model, targets):
    rng = np.random.default_rng(2)
    ids = isinstance(model.layers[0], Embedding | layers.WordDropout)
    shape = (N, *(T if size is None else size for size in model.input_shape))
    x = rng.integers(0, V, size=shape) if ids else rng.normal(size=shape)
    output = model.output_shape_for(shape[1:])
    y = rng.integers(0, 2, size=(N, *output))
    if targets == "one-hot":
        y = np.eye(output[-1], dtype=int)[y.argmax(axis=-1)]
    return x, y.argmax(axis=-1) if targets == "class" else y


# --- round trips ------------------------------------------------------------------------------------------------------

_OPTIMIZERS = {
    "adam": lambda: Adam(0.05, beta_1=0.8, clipnorm=1.0),
    "sgd": lambda: SGD(0.1),
    "exponential": lambda: SGD(ExponentialDecay(0.1, 3, 0.5, staircase=True)),
    "cosine": lambda: Adam(CosineDecay(0.0, 30, warmup_target=0.1, warmup_steps=2)),
    "piecewise": lambda: RMSprop(PiecewiseConstantDecay([1, 3], [0.1, 0.01, 0.001])),
    "momentum": lambda: SGD(0.1, momentum=0.5, nesterov=True, clipvalue=0.5),
    "rmsprop": lambda: RMSprop(0.01, rho=0.5, global_clipnorm=2.0),
    "averaged": lambda: Adam(0.05, use_ema=True, ema_momentum=0.75),
}
_LOSSES = {  # loss -> (kind of targets, activation of the last layer, metrics)
    "mean_squared_error": ("any", "tanh", ["accuracy", "mse", "rmse"]),
    "mean_absolute_error": ("any", "tanh", ["accuracy", "mae"]),
    "binary_crossentropy": (
        "any",
        "sigmoid",
        ["acc", metrics.BinaryAccuracy("half", threshold=0.25), "auc", metrics.Precision([0.25, 0.5]), "recall"],
    ),
    "categorical_crossentropy": ("one-hot", "softmax", ["categorical_accuracy"]),
    "sparse_categorical_crossentropy": ("class", "softmax", ["sparse_categorical_accuracy", "perplexity"]),
}


_INITIALIZERS = st.sampled_from(
    ["glorot_normal", "random_normal", "ones", Constant(0.25), RandomUniform(-1, 1, seed=3)]
)
_CELLS = {name: kind for name, kind in cells.KNOWN.items() if name != "StackedRNNCells"}
_KINDS = {  # layers from sequence to sequence, each with settings of its own
    "LSTM": lambda draw, options: LSTM(
        2,
        activation=draw(st.sampled_from(["tanh", "relu", "linear"])),
        recurrent_activation=draw(st.sampled_from(["sigmoid", "hard_sigmoid"])),
        use_bias=draw(st.booleans()),
        kernel_initializer=draw(_INITIALIZERS),
        unit_forget_bias=draw(st.booleans()),
        kernel_regularizer=draw(st.sampled_from([None, "l2", L1L2(0.01, 0.02)])),
        recurrent_constraint=draw(st.sampled_from([None, "non_neg", MaxNorm(0.5)])),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        recurrent_dropout=draw(st.sampled_from([0.0, 0.5])),
        go_backwards=draw(st.booleans()),
        zero_output_for_mask=draw(st.booleans()),
        seed=draw(st.none() | st.just(3)),
        return_sequences=True,
        implementation=draw(st.sampled_from(["fused", "textbook"])),
        **options,
    ),
    "SimpleRNN": lambda draw, options: layers.SimpleRNN(
        2, recurrent_dropout=draw(st.sampled_from([0.0, 0.5])), return_sequences=True, **options
    ),
    "GRU": lambda draw, options: layers.GRU(
        2, reset_after=draw(st.booleans()), dropout=draw(st.sampled_from([0.0, 0.5])), return_sequences=True, **options
    ),
    "RNN": lambda draw, options: layers.RNN(
        draw(
            st.sampled_from(
                [
                    lambda: layers.LSTMCell(2, "relu", unit_forget_bias=False),
                    lambda: layers.GRUCell(2, use_bias=False, kernel_regularizer="l2"),
                    lambda: layers.SimpleRNNCell(2, recurrent_constraint=MaxNorm(0.5)),
                    lambda: [layers.LSTMCell(3), layers.GRUCell(2, recurrent_dropout=0.5, seed=3)],
                ]
            )
        )(),
        return_sequences=True,
        **options,
    ),
    "Bidirectional": lambda draw, options: layers.Bidirectional(
        LSTM(2, dropout=0.5, return_sequences=True, dtype=options.pop("dtype")),
        draw(st.sampled_from(["concat", "sum", "ave", "mul"])),
        **options,
    ),
    "TimeDistributed": lambda draw, options: layers.TimeDistributed(Dense(2, dtype=options.pop("dtype")), **options),
    "Masking": lambda draw, options: layers.Masking(draw(st.sampled_from([0.0, 1.0])), **options),
    "LayerNormalization": lambda draw, options: layers.LayerNormalization(
        epsilon=0.01, center=draw(st.booleans()), gamma_regularizer=draw(st.sampled_from([None, "l1"])), **options
    ),
    "Dense": lambda draw, options: Dense(2, draw(st.sampled_from([None, "relu"])), draw(st.booleans()), **options),
    "Dropout": lambda draw, options: Dropout(
        draw(st.sampled_from([0.0, 0.5])), seed=draw(st.none() | st.just(4)), **options
    ),
    "SpatialDropout1D": lambda draw, options: layers.SpatialDropout1D(
        0.5, seed=draw(st.none() | st.just(4)), **options
    ),
    "Activation": lambda draw, options: Activation("tanh", **options),
}
_POOLINGS = {  # from sequence to sequence of one step, or none
    "GlobalAveragePooling1D": lambda: layers.GlobalAveragePooling1D(),
    "GlobalMaxPooling1D": lambda: layers.GlobalMaxPooling1D(),
    "MaskedGlobalMaxPooling1D": lambda: layers.MaskedGlobalMaxPooling1D(),
}
# layers of several inputs and what goes with them: test_functional.py and layers/test_merging.py save these
_IN_GRAPHS = {"Concatenate", "Add", "Multiply", "Dot", "Attention", "Reshape", "RepeatVector"}
# of single predictions only, not of sequences
_OF_ROWS = {"categorical_crossentropy": metrics.F1Score("macro"), "mean_absolute_error": metrics.R2Score()}


@st.composite
def _models(draw):
    """A compiled model of one to four layers, and the kind of targets its loss takes."""
    dtype = st.sampled_from(["float32", "float64"])
    shape = draw(st.sampled_from([(T,), (T, 3), (None, 3), (None,)]))
    model = Sequential(name=draw(st.text(max_size=8)), seed=0)
    if len(shape) == 1:
        if draw(st.booleans()):
            model.add(layers.WordDropout(draw(st.sampled_from([0.0, 0.5])), 2, seed=4, input_shape=shape))
        model.add(Embedding(V, 3, draw(_INITIALIZERS), input_shape=shape, dtype=draw(dtype)))
    for number in range(draw(st.integers(0, 2))):
        common = {"dtype": draw(dtype), "input_shape": shape if not model.layers else None}
        common["name"] = draw(st.sampled_from([None, f"my layer/{number}"]))
        model.add(_KINDS[draw(st.sampled_from(sorted(_KINDS)))](draw, common))
    loss = draw(st.sampled_from(sorted(_LOSSES)))
    targets, activation, names = _LOSSES[loss]
    last = draw(st.sampled_from(["LSTM", "sequences", *sorted(_POOLINGS)]))
    first = None if model.layers else shape
    model.add(LSTM(2, return_sequences=last != "LSTM", input_shape=first))
    if last in _POOLINGS:
        model.add(_POOLINGS[last]())
        model.add(Flatten())
    model.add(Dense(3, activation))
    if loss in _OF_ROWS and len(model.output_shape_for(shape)) == 1:
        names = [*names, _OF_ROWS[loss]]
    model.compile(_OPTIMIZERS[draw(st.sampled_from(sorted(_OPTIMIZERS)))](), loss, metrics=names)
    return model, targets


def test_every_kind_is_drawn_above():
    """A new layer, loss, metric or optimizer has to join the round trips."""
    of_ids = {"Embedding", "WordDropout"}
    assert {*layers.KNOWN} == {*_KINDS, *of_ids, "LSTM", "Dense", "Flatten", *_POOLINGS, "Network", *_IN_GRAPHS}
    # test_functional.py saves models within models
    assert {type(losses.get(name)) for name in _LOSSES} == {*losses._KNOWN.values()}
    assert {type(make()) for make in _OPTIMIZERS.values()} == {*optimizers._KNOWN.values()}
    followed = {type(make().schedule) for make in _OPTIMIZERS.values()}
    assert followed == {type(None), *schedules._KNOWN.values()}
    drawn = [metrics.get(name) for _, _, names in _LOSSES.values() for name in [*names, *_OF_ROWS.values()]]
    assert {type(metric) for metric in drawn} == {*metrics._KNOWN.values()}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=_models(), epochs=st.integers(0, 2))
def test_a_model_comes_back_bit_for_bit_and_trains_on_identically(tmp_path_factory, drawn, epochs):
    (model, targets), path = drawn, tmp_path_factory.mktemp("saved") / "model.npz"
    x, y = _batch(model, targets)
    for _ in range(epochs):
        model.fit(x, y, batch_size=4, verbose=0)
    model.save(path)
    loaded = Sequential.load(path)
    assert _same_model(loaded, model)
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    if not any(source.rate for source in model.dropout_masks):
        histories = [m.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0).history for m in (model, loaded)]
        assert histories[0] == histories[1]
        assert _same_model(loaded, model)


@pytest.mark.parametrize("compiled", [True, False])
def test_an_untrained_model_comes_back(tmp_path, compiled):
    model = Sequential([Dense(2, input_shape=(3,))], name="mine")
    if compiled:
        model.compile("adam", "mse")
    model.save(tmp_path / "m")
    loaded = Sequential.load(str(tmp_path / "m"))
    assert _same_model(loaded, model)
    if not compiled:
        with pytest.raises(RuntimeError, match="compile"):
            loaded.fit(np.ones((1, 3)), np.ones((1, 2)))


def test_an_open_length_and_layers_added_later_come_back(tmp_path):
    model = Sequential([Embedding(V, 2, input_shape=(None,)), LSTM(2)])
    model.save(tmp_path / "m")
    loaded = Sequential.load(tmp_path / "m")
    loaded.add(Dense(1))
    assert [loaded.predict(np.ones((3, t), int), verbose=0).shape for t in (2, 5)] == [(3, 1), (3, 1)]
    loaded.save(tmp_path / "m")
    assert _same_model(Sequential.load(tmp_path / "m"), loaded)


_NUMPY_NUMBERS = {
    "learning_rate": lambda: (Dense(1, input_shape=(1,)), Adam(np.float32(0.25))),
    "clipnorm": lambda: (Dense(1, input_shape=(1,)), SGD(0.5, momentum=np.float64(0.5), clipnorm=np.int64(1))),
    "seed": lambda: (Dropout(0.5, seed=np.int64(3), input_shape=(1,)), "adam"),
    "rate": lambda: (Dropout(np.float32(0.5), input_shape=(1,)), "adam"),
    "initializer": lambda: (Dense(1, kernel_initializer=Constant(np.float32(0.5)), input_shape=(1,)), "adam"),
    "its seed": lambda: (Dense(1, bias_initializer=RandomUniform(seed=np.int64(1)), input_shape=(1,)), "adam"),
    "units": lambda: (Dense(np.int64(1), input_shape=(np.int64(1),)), "adam"),
    "dtype": lambda: (Dense(1, input_shape=(1,), dtype=np.float64), "adam"),
}


@pytest.mark.parametrize("make", _NUMPY_NUMBERS.values(), ids=_NUMPY_NUMBERS)
def test_settings_given_as_numpy_numbers_can_be_saved(tmp_path, make):
    """They are accepted at the start; after an hour of training is no time to learn that they cannot be saved."""
    layer, optimizer = make()
    model = Sequential([layer])
    model.compile(optimizer, "mse")
    model.save(tmp_path / "m")
    assert _same_model(Sequential.load(tmp_path / "m"), model)


def test_what_cannot_be_loaded_again_is_not_saved(tmp_path):
    """Better refused at save than after the training is lost; test_own_parts.py has more of such classes."""

    class Mine(layers.Layer):
        def __init__(self, factor):
            super().__init__(input_shape=(2,))

        def forward(self, x):
            return x, None

    with pytest.raises(ValueError, match="Mine .* constructor takes factor"):
        Sequential([Mine(2.0)]).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", sorted(_CELLS))
def test_each_cell_comes_back_by_its_name(name, tmp_path):
    cell, options = _CELLS[name], {"kernel_initializer": "ones", "bias_regularizer": "l1", "dropout": 0.5, "seed": 3}
    needed = {name: 2 for name, default in registry.defaults(cell).items() if default is inspect.Parameter.empty}
    both = [cell(**needed, **options), cell(**needed, use_bias=False)]
    model = Sequential([layers.RNN(both, input_shape=(T, 3), go_backwards=True)], seed=0)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(N, T, 3))
    model.fit(x, np.ones((N, 2)), verbose=0)
    model.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert _same_model(loaded, model)
    assert [type(each) for each in loaded.layers[0].cells.values()] == [cell, cell]
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_model_without_parameters_is_not_saved(tmp_path):
    for model in (Sequential(), Sequential([Dense(1)])):
        with pytest.raises(ValueError, match="a model needs parameters to be saved"):
            model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_no_longer_finite_is_not_saved(tmp_path):
    """It could not be loaded again, and the last good file is worth more."""
    model = Sequential([Dense(1, input_shape=(1,))])
    model.save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    for value in (np.nan, np.inf):
        model.layers[0].params["bias"][:] = value
        with pytest.raises(ValueError, match="layer0/bias of the model holds NaN or infinity"):
            model.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before


def test_parameters_lie_in_memory_as_they_will_once_loaded(tmp_path):
    """Products of matrices that lie otherwise may round otherwise, and a loaded model would be another by a bit."""
    model = Sequential([Embedding(V, 3, input_shape=(T,)), LSTM(2), Dense(1)], seed=0)
    model.save(tmp_path / "m")
    for layer in (*model.layers, *Sequential.load(tmp_path / "m").layers):
        assert all(array.flags.c_contiguous for array in layer.params.values())


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """A small model with every kind of array; the first one is beyond what zipfile reads, and checks, at once."""
    model = Sequential([Embedding(1200, 2, input_shape=(2,)), LSTM(1), Dense(1, activation="sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit([[0, 1], [2, 1]], [0, 1], epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def content(trained, tmp_path_factory):
    """The bytes of its file."""
    path = tmp_path_factory.mktemp("content") / "model.npz"
    trained.save(path)
    return path.read_bytes()


@pytest.fixture
def saved(content, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    return path


def test_the_file_holds_no_pickle(saved):
    with np.load(saved, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert {array.dtype.kind for array in arrays.values()} == {"f", "u"}
    description = json.loads(arrays["description"].tobytes())
    assert description["kind"] == "scratchlstm model"
    assert [layer["class_name"] for layer in description["layers"]] == ["Embedding", "LSTM", "Dense"]
    assert "layer1/recurrent_kernel" in arrays
    assert os.listdir(saved.parent) == ["model.npz"], "nothing temporary is left"


def test_the_name_of_the_file_is_kept(trained, tmp_path):
    trained.save(tmp_path / "no ending")
    assert os.listdir(tmp_path) == ["no ending"]


def test_an_exception_in_the_middle_leaves_the_old_file(saved, trained, monkeypatch):
    def fail(file, *args, **kwargs):
        file.write(b"PK half a file")
        raise MemoryError("in the middle")

    before = saved.read_bytes()
    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(MemoryError, match="in the middle"):
        trained.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.npz"]


@pytest.mark.parametrize("name", ["missing/model.npz", "model.npz/below"])
def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(saved, trained, name):
    before = saved.read_bytes()
    with pytest.raises(OSError, match=name.split("/")[0]):
        trained.save(saved.parent / name)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.npz"]


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["missing", "a folder"])
def test_loading_what_is_no_file(tmp_path, make):
    make(tmp_path / "m.npz")
    with pytest.raises(FileNotFoundError, match=r"there is no model file at .*m\.npz"):
        Sequential.load(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("name", "function"), [("m.keras", "keras"), ("M.KERAS", "keras"), ("m.weights.h5", "keras_weights")]
)
def test_a_name_of_keras_files_leads_to_what_writes_and_reads_them(tmp_path, name, function):
    model = Sequential([Dense(1, input_shape=(2,))])
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(ValueError, match=rf"Keras could not open .*interop\.keras\.save_{function}$"):
            model.save(path)
    assert not list(tmp_path.iterdir())
    (tmp_path / name).write_bytes(b"\x89HDF\r\n")
    with pytest.raises(
        ValueError, match=rf"cannot be read.*wrote it: scratchlstm\.interop\.keras\.load_{function} reads"
    ):
        load_model(tmp_path / name)
    model.save(tmp_path / "m.npz")
    (tmp_path / "m.npz").rename(tmp_path / name)  # as version 0.1 would have named it
    assert load_model(tmp_path / name).count_params() == 3


def test_arrays_of_something_else_are_no_model(tmp_path):
    np.savez(tmp_path / "m.npz", weights=np.ones(3))
    with pytest.raises(
        ValueError, match="is not a model that can be loaded: it has no description, so it is not a scratch"
    ):
        Sequential.load(tmp_path / "m.npz")


def test_what_a_description_lacks_is_named(saved):
    _edit(saved, change_description=lambda description: description.pop("name"))
    with pytest.raises(ValueError, match="is not a model that can be loaded: 'name' is missing"):
        Sequential.load(saved)


# --- damage -----------------------------------------------------------------------------------------------------------

_REFUSED = r"the (model )?file .*model\.npz.*(cannot be read|is not a model that can be loaded)"


def _damage(saved, trained, content):
    """What is wrong with the handling of a damaged file; None if it is refused in words or harmless."""
    saved.unlink(missing_ok=True)  # writing over it waits for the disk, each time
    saved.write_bytes(content)
    try:
        loaded = Sequential.load(saved)
    except ValueError as error:
        return None if "cannot be" in str(error) or "can be loaded" in str(error) else repr(error)
    except Exception as error:  # any other reaches the user as a surprise
        return repr(error)
    return None if _same_model(loaded, trained) else "other numbers"


def _report(wrong, tried):
    found = {place: problem for place, problem in wrong.items() if problem}
    assert not found, f"{len(found)} of {tried}, among them {dict(list(found.items())[:4])}"


def test_a_truncated_file_is_refused(saved, trained, content):
    wrong = {length: _damage(saved, trained, content[:length]) for length in range(0, len(content), 19)}
    _report(wrong, len(wrong))
    saved.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=_REFUSED):
        Sequential.load(saved)


def _flips(content):
    """(byte, bit): some all over, more in what zip and NumPy write around numbers, all where NumPy's headers begin."""
    draw = random.Random(0)
    around = {
        place for sign in re.finditer(rb"PK|\x93NUMPY", content) for place in range(sign.start(), sign.end() + 120)
    }
    some = draw.sample(range(len(content)), 500) + draw.sample(sorted(around & {*range(len(content))}), 1500)
    headers = [sign.start() + byte for sign in re.finditer(rb"\x93NUMPY", content) for byte in range(6, 12)]
    return [*((byte, draw.randrange(8)) for byte in some), *((byte, bit) for byte in headers for bit in range(8))]


def test_one_flipped_bit_is_refused_or_harmless(saved, trained, content):
    wrong = {}
    for place, bit in _flips(content):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        wrong[place, bit] = _damage(saved, trained, damaged)
    _report(wrong, len(wrong))


def test_overwritten_stretches_are_refused_or_harmless(saved, trained, content):
    draw, wrong = random.Random(0), {}
    for _ in range(300):
        start, count = draw.randrange(len(content)), draw.randint(1, 40)
        damaged = content[:start] + draw.randbytes(count) + content[start + count :]
        wrong[start, count] = _damage(saved, trained, damaged[: len(content)])
    _report(wrong, len(wrong))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(other=st.binary(max_size=200), magic=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00"]))
def test_any_other_content_is_refused(saved, trained, other, magic):
    assert _damage(saved, trained, magic + other) is None


# --- files that were made to mislead ----------------------------------------------------------------------------------


def _edit(path, change_arrays=None, change_description=None):
    """Rewrite the file with other contents (and right checksums)."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    description = json.loads(arrays["description"].tobytes())
    if change_description:
        change_description(description)
        arrays["description"] = _text(json.dumps(description))
    if change_arrays:
        change_arrays(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())


def _text(text):
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _each_of(arrays, prefix):
    return [name for name in arrays if name.startswith(prefix)]


_ARRAYS = {
    "no description": lambda a: a.pop("description"),
    "a parameter missing": lambda a: a.pop("layer1/bias"),
    "a slot missing": lambda a: a.pop("optimizer0/velocity"),
    "a parameter's slots missing": lambda a: [a.pop(name) for name in _each_of(a, "optimizer2/")],
    "all optimizer state missing": lambda a: [a.pop(name) for name in _each_of(a, "optimizer")],
    "an array too many": lambda a: a.update({"extra": np.ones(1)}),
    "a parameter too many": lambda a: a.update({"layer2/gamma": np.ones(1)}),
    "a layer too many": lambda a: a.update({"layer3/kernel": np.ones((1, 1))}),
    "optimizer state too many": lambda a: a.update({"optimizer6/momentum": np.ones(1)}),
    "transposed": lambda a: a.update({"layer0/embeddings": a["layer0/embeddings"].T}),
    "flat": lambda a: a.update({"layer0/embeddings": a["layer0/embeddings"].ravel()}),
    "one row": lambda a: a.update({"layer0/embeddings": a["layer0/embeddings"][:1]}),
    "a number": lambda a: a.update({"layer2/bias": np.float32(0)}),
    "a slot of another shape": lambda a: a.update({"optimizer5/velocity": np.zeros((1, 1))}),
    "a slot of more digits": lambda a: a.update({"optimizer5/velocity": np.array([1 / 3])}),
    "text": lambda a: a.update({"layer2/bias": np.array(["1"])}),
    "complex": lambda a: a.update({"layer2/bias": np.array([1j])}),
    "truth values": lambda a: a.update({"layer2/bias": np.array([True])}),
    "dates": lambda a: a.update({"layer2/bias": np.array(["2020-01-01"], "M8[D]")}),
    "NaN": lambda a: a.update({"layer2/bias": np.array([np.nan], "f4")}),
    "infinity": lambda a: a.update({"layer2/bias": np.array([np.inf], "f4")}),
    "NaN in the optimizer": lambda a: a.update({"optimizer5/velocity": np.array([np.nan], "f4")}),
    "too large for float32": lambda a: a.update({"layer2/bias": np.array([1e300])}),
    "more digits than float32 has": lambda a: a.update({"layer2/bias": np.array([1 / 3])}),
    "a description of floats": lambda a: a.update({"description": np.ones(3)}),
    "a description that is no text": lambda a: a.update({"description": np.full(9, 255, np.uint8)}),
    "a description that is no JSON": lambda a: a.update({"description": _text("{]")}),
    "a description that is a list": lambda a: a.update({"description": _text("[1]")}),
    "a description that is a number": lambda a: a.update({"description": _text("1")}),
    "a description nested too deeply": lambda a: a.update({"description": _text(10**5 * "[")}),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("change", _ARRAYS.values(), ids=_ARRAYS)
def test_other_arrays_are_refused(saved, change):
    _edit(saved, change_arrays=change)
    with pytest.raises(ValueError, match=_REFUSED):
        Sequential.load(saved)


def _config(layer, **config):
    return lambda d: d["layers"][layer]["config"].update(config)


def _optimizer(**config):
    return lambda d: d["compiled"]["optimizer"]["config"].update(config)


def _set(**values):
    return lambda d: d.update(values)


_DESCRIPTIONS = {
    "another kind": (_set(kind="a cake"), "kind is 'a cake'"),
    "no kind": (lambda d: d.pop("kind"), "kind"),
    "a version in words": (_set(version="one"), ""),
    "version none": (_set(version=None), ""),
    "unknown layer": (lambda d: d["layers"][1].update(class_name="QRNN"), "unknown layer 'QRNN'. Known: .*LSTM"),
    "a path to a class": (lambda d: d["layers"][1].update(class_name="os.system"), "unknown layer 'os.system'"),
    "the base class": (lambda d: d["layers"].append({"class_name": "Layer", "config": {}}), "Layer"),
    "an Input": (lambda d: d["layers"].append({"class_name": "Input", "config": {"shape": [1]}}), "Input"),
    "unknown option": (_config(1, colour="red"), "colour"),
    "no units": (lambda d: d["layers"][2]["config"].pop("units"), "units"),
    "no layers": (_set(layers=[]), ""),
    "layers of numbers": (_set(layers=[1, 2]), "layer"),
    "a layer less": (lambda d: d["layers"].pop(), "layer2/kernel"),
    "layers swapped": (lambda d: d["layers"].reverse(), ""),
    "an input of another shape": (_set(input_shape=[2, 3]), ""),
    "no input": (_set(input_shape=None), "shape"),
    "more units": (_config(1, units=2), "shape"),
    "units in words": (_config(1, units="two"), "units must be"),
    "a huge vocabulary": (_config(0, input_dim=10**12), "weight embeddings"),
    "a huge layer": (_config(2, units=10**15), "weight kernel"),
    "unknown activation": (_config(2, activation="os.system"), "unknown activation 'os.system'"),
    "unknown implementation": (_config(1, implementation="exec"), "implementation must be"),
    "unknown initializer": (
        lambda d: d["layers"][2]["config"]["kernel_initializer"].update(class_name="Magic"),
        "unknown initializer 'Magic'",
    ),
    "a bias in words": (_config(1, use_bias="yes"), "use_bias must be True or False, not 'yes'"),
    "a truth value for a number": (_optimizer(clipnorm=True), "clipnorm must be"),
    "a name that is a number": (_set(name=5), "name must be a string, not 5"),
    "a layer's name that is a list": (_config(1, name=["lstm"]), "name must be a string"),
    "no name of a layer": (_config(1, name=None), "name was None, and is 'lstm' now"),
    "a version of 0": (_set(version=0), "version must be a whole number above 0, not 0"),
    "a version that is true": (_set(version=True), "version must be a whole number"),
    "no bias any more": (_config(1, use_bias=False), "bias"),
    "unknown optimizer": (lambda d: d["compiled"]["optimizer"].update(class_name="Lion"), "unknown optimizer 'Lion'"),
    "unknown loss": (lambda d: d["compiled"]["loss"].update(class_name="Pain"), "unknown loss 'Pain'"),
    "unknown metric": (lambda d: d["compiled"]["metrics"][0].update(class_name="Luck"), "unknown metric 'Luck'"),
    "another optimizer": (
        lambda d: d["compiled"]["optimizer"].update(class_name="SGD", config={"learning_rate": 0.1, "momentum": 0.9}),
        "optimizer0",
    ),
    "an optimizer without state": (
        lambda d: d["compiled"]["optimizer"].update(class_name="SGD", config={}),
        "optimizer0",
    ),
    "a learning rate below 0": (_optimizer(learning_rate=-1), "learning_rate must be"),
    "a learning rate of NaN": (_optimizer(learning_rate=float("nan")), "learning_rate must be"),
    "iterations in words": (lambda d: d["compiled"].update(iterations="many"), ""),
    "iterations below 0": (lambda d: d["compiled"].update(iterations=-1), "iterations"),
    "infinite iterations": (lambda d: d["compiled"].update(iterations=float("inf")), ""),
    "half an iteration": (lambda d: d["compiled"].update(iterations=1.5), "iterations"),
    "not compiled, with state": (_set(compiled=None), "optimizer0"),
    "no loss": (lambda d: d["compiled"].pop("loss"), "loss"),
}


@pytest.mark.parametrize(("change", "match"), _DESCRIPTIONS.values(), ids=_DESCRIPTIONS)
def test_other_descriptions_are_refused(saved, change, match):
    _edit(saved, change_description=change)
    with pytest.raises(ValueError, match=_REFUSED + f"(?s:.*){match}"):
        Sequential.load(saved)


def test_a_newer_format_is_refused_in_words(saved):
    _edit(saved, change_description=_set(version=3))
    with pytest.raises(ValueError, match=r"written in format 3; this version .* reads up to 2.*Upgrade scratchlstm"):
        Sequential.load(saved)


class _Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["description", "layer2/bias", "optimizer0/velocity", "extra"])
def test_a_pickle_in_the_file_is_not_executed(saved, tmp_path, name):
    trace = tmp_path / "trace"
    _edit(saved, change_arrays=lambda a: a.update({name: np.array([_Payload(trace)], dtype=object)}))
    with pytest.raises(ValueError, match=_REFUSED):
        Sequential.load(saved)
    assert not trace.exists()
    with np.load(saved, allow_pickle=True) as archive:
        archive[name]
    assert trace.exists(), "the payload would have worked"


def test_loading_many_layers_asks_each_of_them_a_few_times(tmp_path, monkeypatch):
    count = 150
    Sequential([Dropout(0.1, input_shape=(1,)), *(Dropout(0.1) for _ in range(count - 1))]).save(tmp_path / "many.npz")
    asked = []
    with_inner = layers.Layer.with_inner
    monkeypatch.setattr(layers.Layer, "with_inner", lambda self: asked.append(self) or with_inner(self))
    assert len(Sequential.load(tmp_path / "many.npz").layers) == count
    assert len(asked) <= 3 * count


def test_arrays_that_belong_to_nothing_are_not_all_listed(tmp_path):
    path = tmp_path / "model.npz"
    Sequential([Dense(1, input_shape=(1,))]).save(path)
    with np.load(path) as file:
        arrays = dict(file) | {f"extra{number}": np.ones(1) for number in range(99)}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"belong to no part of the model: extra0, .*, \.\.\. \(99 in all\)$"):
        Sequential.load(path)
