"""Functional models to live Keras and back: states, several inputs and outputs, shared layers, models within models."""

from types import SimpleNamespace

import keras_side
import numpy as np
import pytest
from cases import error

from scratchlstm import Input, Model, Sequential, layers
from scratchlstm.interop.keras import (
    from_keras,
    load_keras,
    load_keras_weights,
    save_keras,
    save_keras_weights,
    to_keras,
)

pytestmark = pytest.mark.slow

keras = keras_side.keras
pytest.importorskip("h5py", reason="h5py is not installed here: Keras' files are NOT tested")

B, T, E, H, V = 3, 5, 4, 3, 7


# layers and models of either side under one roof
OURS = SimpleNamespace(**vars(layers) | {"Input": Input, "Model": Model, "Sequential": Sequential})
THEIRS = SimpleNamespace(**vars(keras.layers) | {"Model": keras.Model, "Sequential": keras.Sequential})


def encoder_decoder(k):
    """An encoder's states begin a decoder; both have padding."""
    source, target = k.Input((None,), name="source"), k.Input((None,), name="target")
    rows = k.Embedding(V, E, mask_zero=True)(source)
    _, h, c = k.LSTM(H, return_state=True)(rows)
    read = k.LSTM(H, return_sequences=True)(k.Embedding(V, E, mask_zero=True)(target), initial_state=[h, c])
    return k.Model([source, target], k.TimeDistributed(k.Dense(V, activation="softmax"))(read))


def siamese(k):
    """One encoder for two texts."""
    ends = [k.Input((T,), name="left"), k.Input((T,), name="right")]
    words, encoder = k.Embedding(V, E, mask_zero=True), k.Bidirectional(k.LSTM(H))
    return k.Model(ends, k.Dense(1)(k.Concatenate()([encoder(words(end)) for end in ends])))


def by_name(k):
    """Inputs and outputs in dicts, whose keys are not in alphabetical order."""
    starts = {"series": k.Input((T, E), name="series"), "calendar": k.Input((T, 2), name="calendar")}
    x, h, c = k.LSTM(H, return_sequences=True, return_state=True)(k.Concatenate()(list(starts.values())))
    mean = k.Dense(2)(h)
    return k.Model(starts, {"steps": k.Dense(1)(x), "mean": mean, "cell": c})


def nested_twice(k):
    """A model within a model within a model, at two places; a stack and a graph."""
    start = k.Input((T, E))
    x, h, c = k.LSTM(H, return_sequences=True, return_state=True)(start)
    inner = k.Model(start, {"y": k.Dense(E)(x), "h": h, "c": c}, name="inner")
    start = k.Input((T, E))
    first = inner(start)
    if isinstance(first, dict):
        first = [first[name] for name in ("y", "h", "c")]
    stack = k.Sequential([k.Input((T, E)), k.Dense(E, activation="tanh"), k.Dense(E)], name="stack")
    middle = k.Model([start], [stack(first[0]), first[2]], name="middle")
    a, b = k.Input((T, E), name="a"), k.Input((T, E), name="b")
    (x, c), (y, d) = middle(a), middle(stack_of(k)(b))
    last = k.LSTM(H)(k.Concatenate()([x, y]), initial_state=[c, d])
    return k.Model([a, b], [k.Dense(1)(last), c], name="outer")


def stack_of(k):
    return k.Sequential([k.Input((T, E)), k.LSTM(E, return_sequences=True)], name="other_stack")


def both_ways_into_decoder(k):
    """The states of a Bidirectional, side by side, begin another; positional as Keras allows."""
    source, target = k.Input((T, E), name="source"), k.Input((None, E), name="target")
    encoder = k.Bidirectional(k.LSTM(H, return_state=True, return_sequences=True), name="encoder")
    x, fh, fc, bh, bc = encoder(source)
    decoder = k.Bidirectional(k.LSTM(H, return_sequences=True), merge_mode="sum")
    h, c = k.Concatenate()([fh, bh]), k.Concatenate()([fc, bc])
    rows = k.LSTM(2 * H, return_sequences=True)(target, [h, c])
    both = k.SimpleRNN(H)(decoder(target, initial_state=[fh, fc, bh, bc]), initial_state=bh)
    return k.Model([source, target], [rows, both, x])


def cells_into_cells(k):
    """The states of several cells, a list for each that has several, begin others."""
    source, target = k.Input((T, E), name="source"), k.Input((T, E), name="target")
    _, *states = k.RNN([k.GRUCell(2), k.LSTMCell(3)], return_state=True)(source)
    return k.Model([source, target], k.RNN([k.GRUCell(2), k.LSTMCell(3)])(target, initial_state=states))


def two_masks(k):
    """Masks of two embeddings and of a Masking layer meet, so that Keras' graph has operations for them."""
    ids, more, rows = k.Input((T,), name="ids"), k.Input((T,), name="more"), k.Input((T, E), name="rows")
    x, y = k.Embedding(V, E, mask_zero=True)(ids), k.Embedding(V, E, mask_zero=True)(more)
    deep = k.Dense(E)(k.Dense(E)(k.LSTM(E, return_sequences=True)(rows)))
    z, back = k.Bidirectional(k.LSTM(E, return_sequences=True), merge_mode=None)(k.Masking(0.5)(rows))
    both = k.Concatenate()([x, k.LSTM(E, return_sequences=True)(y), z, deep, k.LSTM(E, return_sequences=True)(back)])
    read = k.LSTM(H, return_sequences=True)(both)
    return k.Model([ids, more, rows], [k.GlobalAveragePooling1D()(read), k.LSTM(H)(k.Concatenate(axis=1)([x, y]))])


def attention(k):
    """A decoder that attends to an encoder, with padding in both; its weights are given out, too."""
    source, target = k.Input((None,), name="source"), k.Input((None,), name="target")
    rows = k.Embedding(V, E, mask_zero=True)(source)
    x, h, c = k.LSTM(H, return_sequences=True, return_state=True)(rows)
    y = k.LSTM(H, return_sequences=True)(k.Embedding(V, E, mask_zero=True)(target), initial_state=[h, c])
    context, weights = k.Attention(use_scale=True)([y, x], return_attention_scores=True)
    again = k.Attention()([context, x, x])
    joined = k.Concatenate()([k.Multiply()([y, context]), k.Add()([y, again])])
    return k.Model([source, target], [k.LSTM(H, return_sequences=True)(joined), weights])


def merged(k):
    """The other layers that merge and reshape."""
    vector, rows = k.Input((E, 1), name="vector"), k.Input((T, E), name="rows")
    flat = k.Flatten()(vector)
    repeated = k.RepeatVector(T)(k.Reshape((E,))(vector))
    y = k.Dot(axes=2, normalize=True)([k.Add()([rows, repeated]), k.Multiply()([rows, repeated])])
    return k.Model([vector, rows], [k.Reshape((-1, 1))(y), k.Dot(axes=1)([flat, k.LSTM(E)(rows)])])


MODELS = {
    build.__name__: build
    for build in (
        encoder_decoder,
        siamese,
        by_name,
        nested_twice,
        both_ways_into_decoder,
        cells_into_cells,
        two_masks,
        attention,
        merged,
    )
}


def inputs_of(model):
    """Data for a model of ours, with padding."""
    rng = np.random.default_rng(1)

    def data(name, shape):
        shape = (B, *(T if size is None else size for size in shape))
        if len(shape) == 2:
            ids = rng.integers(1, V, size=shape)
            ids[0, 3:] = ids[1, 1:] = 0
            return ids
        x = rng.normal(size=shape)
        x[0, 2:] = 0.5
        return x

    shapes = model.network.input_shapes
    return {name: data(name, shape) for name, shape in zip(model.network.input_names, shapes, strict=True)}


def answers(model, x):
    """Outputs by name or number."""
    if isinstance(model, Model):
        given = [x[name] for name in model.network.input_names]
    else:
        given = {each.name: x[each.name] for each in model.inputs}
        given = given if len(given) > 1 else next(iter(given.values()))
    found = model(given if not isinstance(given, list) or len(given) > 1 else given[0], training=False)
    if not isinstance(found, dict):
        found = dict(enumerate(found if isinstance(found, list | tuple) else [found]))
    return {key: np.asarray(value) for key, value in found.items()}


def assert_alike(model, other, x, tolerance):
    ours, theirs = answers(model, x), answers(other, x)
    assert ours.keys() == theirs.keys()
    for key, wanted in theirs.items():
        np.testing.assert_allclose(ours[key], wanted, rtol=0, atol=tolerance, err_msg=str(key))
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(a, b)


IN_BOTH = ("attention", "nested_twice")


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in MODELS), *((name, "float64") for name in IN_BOTH)]
)
def test_a_graph_there_and_back(name, dtype, tmp_path):
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    with keras_side.floats(dtype):
        theirs = MODELS[name](THEIRS)
        rng = np.random.default_rng(0)
        theirs.set_weights([rng.normal(size=weight.shape) / 2 for weight in theirs.get_weights()])
        ours = from_keras(theirs)
        x = inputs_of(ours)
        assert_alike(ours, theirs, x, tolerance)
        theirs.save(tmp_path / "theirs.keras")
        theirs.save_weights(tmp_path / "theirs.weights.h5")
        from_file = load_keras(tmp_path / "theirs.keras")
        assert from_file.network.get_config() == ours.network.get_config()
        assert_alike(from_file, theirs, x, tolerance)
        twin = to_keras(ours)
        assert_alike(ours, twin, x, tolerance)
        save_keras(ours, tmp_path / "ours.keras")
        reloaded = keras.saving.load_model(tmp_path / "ours.keras")
        assert_alike(ours, reloaded, x, tolerance)
        assert_alike(from_keras(twin), theirs, x, tolerance)
        ours.set_weights([0 * weight for weight in ours.get_weights()])
        load_keras_weights(ours, tmp_path / "theirs.weights.h5")
        assert_alike(ours, theirs, x, tolerance)
        save_keras_weights(ours, tmp_path / "ours.weights.h5")
        reloaded.set_weights([0 * weight for weight in reloaded.get_weights()])
        reloaded.load_weights(tmp_path / "ours.weights.h5")
        assert_alike(ours, reloaded, x, tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_our_own_graph_goes_to_keras(name, tmp_path):
    """The weights of a model made here are in the order of those of the same model made there."""
    ours, theirs = MODELS[name](OURS), MODELS[name](THEIRS)
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    rng = np.random.default_rng(0)
    ours.set_weights([rng.normal(size=weight.shape) / 2 for weight in ours.get_weights()])
    save_keras(ours, tmp_path / "ours.keras")
    assert_alike(ours, keras.saving.load_model(tmp_path / "ours.keras"), inputs_of(ours), 1e-6)


def of(layer, **call):
    """A model of one layer that is called with these arguments."""
    start = keras.Input((T, E))
    given = {key: value(start) if callable(value) else value for key, value in call.items()}
    return keras.Model(start, layer(start, **given))


def with_mask_of_other_ids():
    ids, more = keras.Input((T,), name="ids"), keras.Input((T,), name="more")
    words, others = keras.layers.Embedding(V, E, mask_zero=True), keras.layers.Embedding(V, E, mask_zero=True)
    x, mask = words(ids), others.compute_mask(more)
    return keras.Model([ids, more], keras.layers.LSTM(H, name="it")(x, mask=mask))


def with_a_mask_beside_states():
    ids, state = keras.Input((T,)), keras.Input((H,))
    words = keras.layers.Embedding(V, E, mask_zero=True)
    layer = keras.layers.LSTM(H, name="it")
    return keras.Model([ids, state], layer(words(ids), initial_state=[state, state], mask=words.compute_mask(ids)))


def sharing_between_levels():
    start, shared = keras.Input((E,)), keras.layers.Dense(E)
    inner = keras.Model(start, shared(start))
    other = keras.Input((E,))
    return keras.Model(other, shared(inner(other)), name="both")


L = keras.layers
REFUSED = {
    "a sum": (lambda: of(lambda x: x + x), "no counterpart of keras.src.ops.numpy.Add, which computes"),
    "an operation": (lambda: of(lambda x: L.LSTM(H)(keras.ops.tanh(x))), "no counterpart of keras.src.ops.numpy.Tanh"),
    "a part of x": (lambda: of(lambda x: L.LSTM(H)(x[:, 1:])), "no counterpart of keras.src.ops.numpy.GetItem"),
    "another layer": (lambda: of(L.Conv1D(H, 3)), "no counterpart of keras.layers.Conv1D"),
    "training": (
        lambda: of(L.Dropout(0.5, name="it"), training=True),
        "it in a Model takes only its input, not training",
    ),
    "mask": (with_mask_of_other_ids, "it is called with a mask= other than its input's"),
    "mask and states": (with_a_mask_beside_states, "it is called with a mask= other than its input's"),
    "a mask of one's own": (
        lambda: of(L.LSTM(H, name="it"), mask=lambda x: keras.ops.any(x > 0, axis=-1)),
        "it is called with a mask= other than its input's",
    ),
    "a layer at two levels": (
        sharing_between_levels,
        "a layer of both is inside two of its inner models, or inside one and outside it; here",
    ),
    "an input for an output": (lambda: of(lambda x: [x, L.LSTM(H)(x)]), "an output of the model is its input"),
    "a causal mask": (
        lambda: of(lambda x: L.Attention(name="it")([x, x], use_causal_mask=True)),
        "use_causal_mask of it must be False",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_we_do_not_have_are_refused_by_name(name):
    make, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        from_keras(make())


def test_calls_that_change_nothing_are_taken():
    start = keras.Input((T, E))
    x = L.Dropout(0.5)(start, training=False)
    x = L.LSTM(H, return_sequences=True)(x, mask=None, training=None)
    theirs = keras.Model([start], [L.Attention()([x, x], return_attention_scores=False)])
    data = np.random.default_rng(0).normal(size=(B, T, E)).astype("float32")
    np.testing.assert_allclose(from_keras(theirs)(data), np.asarray(theirs(data)), rtol=0, atol=1e-6)


def test_a_compiled_graph_goes_on_in_the_other_package(float64, tmp_path):
    """Losses by output, their weights and the optimizer's state; outputs in a dict."""
    theirs = by_name(THEIRS)
    theirs.compile(
        keras.optimizers.Adam(0.0625, beta_1=0.5, beta_2=0.75),
        loss={"steps": "mse", "mean": "mae", "cell": "mse"},
        loss_weights={"steps": 1.0, "mean": 0.5, "cell": 0.25},
    )
    rng = np.random.default_rng(0)
    x = {"series": rng.normal(size=(B, T, E)), "calendar": rng.normal(size=(B, T, 2))}
    y = {"steps": rng.normal(size=(B, T, 1)), "mean": rng.normal(size=(B, 2)), "cell": rng.normal(size=(B, H))}

    def train(model):
        model.fit(x, y, batch_size=B, shuffle=False, verbose=0)

    train(theirs)
    start = theirs.get_weights()
    theirs.save(tmp_path / "theirs.keras")
    others = [from_keras(theirs), load_keras(tmp_path / "theirs.keras")]
    save_keras(others[0], tmp_path / "ours.keras")
    others.append(keras.saving.load_model(tmp_path / "ours.keras"))
    train(theirs)
    for model in others:
        train(model)
        for w, w0, wanted in zip(model.get_weights(), start, theirs.get_weights(), strict=True):
            assert error(w - w0, wanted - w0) < 1e-6


def test_our_compiled_graph_goes_to_keras(float64, tmp_path):
    """Its dict of outputs is not sorted, as Keras' is."""
    ours = by_name(OURS)
    ours.compile("sgd", ["mse", "mae", "mse"], loss_weights=[1.0, 0.5, 0.25], metrics={"mean": ["binary_accuracy"]})
    save_keras(ours, tmp_path / "ours.keras")
    theirs = keras.saving.load_model(tmp_path / "ours.keras")
    rng = np.random.default_rng(0)
    x = {"series": rng.normal(size=(B, T, E)), "calendar": rng.normal(size=(B, T, 2))}
    y = {"steps": rng.normal(size=(B, T, 1)), "mean": rng.normal(size=(B, 2)), "cell": rng.normal(size=(B, H))}
    found, wanted = (model.evaluate(x, y, verbose=0, return_dict=True) for model in (ours, theirs))
    assert found == pytest.approx(wanted, rel=1e-5)
