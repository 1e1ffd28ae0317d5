"""Models inside of models, and passes of one's own around ours: nothing of them is silently something else."""

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential, gradcheck, inspection
from scratchlstm.layers import (
    LSTM,
    Activation,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Layer,
    Masking,
    TimeDistributed,
)
from scratchlstm.layers.passes import Pass
from scratchlstm.losses import BinaryCrossentropy
from scratchlstm.rows import GatheredRows, RowGradient

RNG = np.random.default_rng(0)
OPTIONS = {"dtype": "float64"}


def pair(inner, *others, loss="mse", **compiled):
    """The same layers with a model inside, and flat; of equal weights."""
    nested, flat = Sequential([inner(), *others], seed=0), Sequential([*inner().layers, *_fresh(others)], seed=0)
    for model in nested, flat:
        model.compile("sgd", loss, **compiled)
    return nested, flat


def _fresh(layers):
    return [type(layer)(**layer.get_config()) for layer in layers]


def masked():
    return Sequential([Masking(input_shape=(5, 3)), LSTM(3, return_sequences=True)], seed=1, name="inner")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mask_from_a_model_inside_reaches_the_loss(workers):
    nested, flat = pair(masked, Dense(1))
    x, y = RNG.normal(size=(40, 5, 3)), RNG.normal(size=(40, 5, 1))
    x[:15, 1:] = 0
    nested.build((None, 5, 3))
    flat.set_weights(nested.get_weights())
    assert nested.masks_loss
    losses = []
    for model in nested, flat:
        history = model.fit(x, y, epochs=2, shuffle=False, verbose=0, workers=workers)
        losses.append((history.history["loss"], model.evaluate(x, y, verbose=0)))
    assert losses[0] == losses[1]


def test_a_model_inside_takes_gathered_rows_without_putting_them_together(monkeypatch):
    model = Sequential([Embedding(9, 3, input_shape=(5,)), Sequential([LSTM(2, input_shape=(5, 3))])], seed=0)
    gathered = []
    monkeypatch.setattr(GatheredRows, "gathered", lambda rows: gathered.append(rows))
    run = Pass(training=True)
    y, cache = model.forward(RNG.integers(0, 9, size=(4, 5)), run)
    _, grads = model.backward(np.ones_like(y), cache)
    assert isinstance(grads["embedding/embeddings"], RowGradient)
    assert gathered == []


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("above", [list, lambda: [Activation("linear")], lambda: [Dropout(0.5, seed=1)]])
def test_a_loss_looks_through_a_model_inside(from_logits, above):
    def inner():
        return Sequential([Dense(1, "sigmoid", input_shape=(3,))], seed=1, name="inner")

    nested, flat = pair(inner, *above(), loss=BinaryCrossentropy(from_logits=from_logits))
    flat.set_weights(nested.get_weights())
    x, y = RNG.normal(size=(6, 3)) * 50, RNG.integers(0, 2, (6, 1))
    found = []
    for model in nested, flat:
        assert model.looks_through()
        if from_logits:
            with pytest.warns(UserWarning, match="the loss has from_logits=True, but dense outputs probabilities"):
                loss = model.evaluate(x, y, verbose=0)
        else:
            loss = model.evaluate(x, y, verbose=0)
        found.append((loss, model.train_on_batch(x, y), [w.tobytes() for w in model.get_weights()]))
    assert found[0] == found[1]
    assert found[0][0] > 1, "saturated: of probabilities the loss would be clipped"


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_a_model_inside_takes_ids(dtype):
    inner = Sequential([Embedding(10, 4, input_shape=(5,)), LSTM(3)], seed=1, name="inner")
    a, b = Input((5,)), Input((5,))
    siamese = Model([a, b], Dense(1)(Concatenate()([inner(a), inner(b)])), seed=0)
    x = [RNG.integers(0, 10, (4, 5)).astype(dtype) for _ in range(2)]
    assert np.array_equal(siamese.predict(x, verbose=0), siamese(x))
    stack = Sequential([Sequential([Embedding(10, 4, input_shape=(5,)), LSTM(3)]), Dense(1)], seed=0)
    assert np.array_equal(stack.predict(x[0], verbose=0), stack(x[0]))
    steps = Sequential([TimeDistributed(Sequential([Embedding(10, 4, input_shape=(5,)), LSTM(3)])), LSTM(2)], seed=0)
    assert steps.predict(np.stack(x, axis=1), verbose=0).shape == (4, 2)


def test_a_model_inside_has_the_dtype_of_its_layers():
    inner = Sequential([Dense(2, input_shape=(3,), **OPTIONS)], seed=1)
    model = Sequential([inner], seed=0)
    x = RNG.normal(size=(600, 3))
    assert (inner.dtype, model.dtype) == ("float64", "float64")
    assert np.array_equal(model.predict(x, verbose=0), inner.predict(x, verbose=0))
    assert model.predict(x, verbose=0, workers=2).dtype == np.float64


def test_two_models_with_default_names_have_each_their_own():
    model = Sequential([Sequential([Dense(2, input_shape=(3,))]), Sequential([Dense(1, input_shape=(2,))])])
    assert [layer.name for layer in model.layers] == ["sequential", "sequential_1"]


def test_parameters_of_one_name_are_refused():
    both = Bidirectional(LSTM(2, return_sequences=True), name="a")
    model = Sequential([Input((4, 3)), both, LSTM(2, name="a/forward")])
    with pytest.raises(ValueError, match="two parameters are named a/forward/bias: rename one of their layers"):
        model.predict(np.ones((1, 4, 3)), verbose=0)
    assert Dense(2, name="").name == "dense", "as in Keras"


def test_a_stateful_layer_is_at_one_place():
    a, b, lstm = Input((4, 3)), Input((4, 3)), LSTM(2, stateful=True)
    with pytest.raises(ValueError, match="lstm is stateful, so it can be used only once"):
        Model([a, b], Concatenate()([lstm(a), lstm(b)]))


# --- layers of one's own ----------------------------------------------------------------------------------------------


def test_a_layer_that_gives_no_dx_is_refused_if_layers_below_it_are_trained():
    class Own(Layer):
        def forward(self, x):
            return 2 * x, None

        def backward(self, dy, cache):
            return None, {}

    model = Sequential([Input((3,)), Dense(3), Own(), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="backward of own returned no dx, but layers below it need one"):
        model.fit(np.ones((4, 3)), np.ones(4), verbose=0)
    model = Sequential([Input((3,)), Own(), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.ones(4), verbose=0)


class Doubled:
    """A mixin, which is no layer itself."""

    def forward(self, x, run=None, mask=None):
        y, cache = super().forward(x, run, mask)
        return 2 * y, cache

    def backward(self, dy, cache, need=True):
        return super().backward(2 * dy, cache, need)


class Twice(LSTM):
    def forward(self, x, run, mask=None):
        y, cache = super().forward(x, run, mask)
        return 2 * y, cache

    def backward(self, dy, cache, need=True):
        return super().backward(2 * dy, cache, need)


class Mixed(Doubled, LSTM):
    pass


@pytest.mark.parametrize("kind", [Twice, Mixed])
def test_what_a_subclass_makes_of_a_pass_is_also_what_it_infers(kind):
    layer, plain = kind(3, **OPTIONS), LSTM(3, **OPTIONS)
    x = RNG.normal(size=(2, 4, 3))
    layer.build((4, 3), np.random.default_rng(1))
    plain.build((4, 3), np.random.default_rng(1))
    np.testing.assert_allclose(layer.forward(x)[0], 2 * plain(x), rtol=1e-12)
    assert np.array_equal(layer(x), 2 * plain(x))
    assert gradcheck.check_layer(kind(3, **OPTIONS), x).ok
    model = Sequential([Input((4, 3)), kind(3, **OPTIONS), Dense(1, **OPTIONS)], seed=0)
    model.compile("sgd", "mse")
    found = inspection.trace(model, x, np.ones((2, 1)))
    assert found.lstm.dh.shape == (2, 4, 3)
    assert np.array_equal(found.prediction, model.predict(x, verbose=0))


class Half(Doubled, Dense):
    pass


def test_a_loss_does_not_look_through_a_mixin():
    model = Sequential([Input((3,)), Half(1, "sigmoid", **OPTIONS)], seed=1)
    model.compile("sgd", "binary_crossentropy")
    assert not model.looks_through()
    x = RNG.normal(size=(4, 3)) - 3
    p = model.predict(x, verbose=0)
    assert model.evaluate(x, np.zeros(4), verbose=0) == pytest.approx(-np.mean(np.log1p(-np.minimum(p, 1 - 1e-7))))


def test_an_old_mixin_is_refused_when_the_class_is_defined():
    class Old:
        def forward(self, x, training=False):
            return x

    with pytest.raises(TypeError, match=r"^Mine defines forward\(x, training\), but a layer defines"):

        class Mine(Old, Dense):
            pass


def test_a_layer_around_another_gets_the_cache_that_it_kept():
    class Around(Layer):
        def backward(self, dy, cache):
            return self.inner.backward(dy, cache)[0], {}

    class Mine(Around):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = Dense(2)

        def forward(self, x):
            return self.inner.forward(x)

    layer = Mine()
    y, cache = layer.forward(np.ones((2, 3)))
    assert layer.backward(np.ones_like(y), cache)[0].shape == (2, 3)


def test_a_parameter_beside_the_kernels_gets_its_own_gradient_or_none():
    class Scaled(LSTM):
        def param_specs(self, input_shape):
            return super().param_specs(input_shape) | {"scale": ((4 * self.units,), "ones")}

    layer = Scaled(2, use_bias=False)
    y, cache = layer.forward(np.ones((2, 4, 3)))
    assert list(layer.backward(np.ones_like(y), cache)[1]) == ["kernel", "recurrent_kernel"]


# --- passes -----------------------------------------------------------------------------------------------------------


def test_a_direction_that_nothing_reaches_has_no_gradient():
    both, x = Bidirectional(LSTM(3, **OPTIONS), merge_mode=None), RNG.normal(size=(2, 4, 3))
    (y, _), cache = both.forward(x)
    dx, grads = both.backward((np.ones_like(y), None), cache)
    alone, grads_alone = both.forward_layer.backward(np.ones_like(y), both.forward_layer.forward(x)[1])
    assert np.array_equal(dx, alone)
    assert np.array_equal(grads["forward/kernel"], grads_alone["kernel"])
    assert not grads["backward/kernel"].any()


def test_masks_are_repeated_for_the_same_shapes_only():
    layer, run = Dropout(0.5, seed=1), Pass(True)
    layer.build((4,))
    layer.forward(np.ones((1, 4)), run)
    with pytest.raises(ValueError, match=r"again\(\) repeats masks .* one of shape \(1, 4\), not \(3, 4\)"):
        layer.forward(np.ones((3, 4)), run.again())
    repeated = run.again()
    layer.forward(np.ones((1, 4)), repeated)
    with pytest.raises(ValueError, match=r"again\(\) repeats masks .* none left, not \(1, 4\)"):
        layer.forward(np.ones((1, 4)), repeated)


def test_the_gradients_of_a_loss_take_the_models_own_open_cache():
    models = [Sequential([Dense(1, "sigmoid", input_shape=(3,))], seed=seed) for seed in (1, 2)]
    for model in models:
        model.compile("sgd", "binary_crossentropy")
    run = Pass(True)
    y, cache = models[0].forward(np.ones((2, 3)), run)
    _, dy, from_logits = models[0].loss_with_gradient(np.ones((2, 1)), y, cache.kept)
    assert from_logits
    with pytest.raises(TypeError, match="takes a cache that its own forward pass gave"):
        models[1].gradients(dy, cache, from_logits)
    with pytest.raises(TypeError, match="takes a cache that its own forward pass gave, not none"):
        models[0].gradients(dy, None, from_logits)
    assert len(models[0].gradients(dy, cache, from_logits)) == 2
    run.release()
    with pytest.raises(RuntimeError, match="was released"):
        models[0].gradients(dy, cache, from_logits)


def test_each_output_of_a_model_inside_another_has_its_own_dtype():
    x, y = Input((3,)), Input((3,))
    inner = Model(x, [Dense(1, dtype="float32")(x), Dense(1, dtype="float64")(x)])
    model = Model(y, inner(y), seed=0)
    assert model.network.dtypes == ["float32", "float64"]
    data = np.random.default_rng(0).normal(size=(6, 3))
    one, two = (model.predict(data, 2, verbose=0, workers=workers) for workers in (1, 2))
    assert all(map(np.array_equal, one, two))
