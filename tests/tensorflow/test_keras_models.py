"""Models with masks, penalties and limits, trained here and in Keras from the same weights on the same batches."""

import itertools

import numpy as np
import pytest
from cases import EXACT, error, word_ids
from keras_side import dense, floats, give_dropout, keras, tf

from scratchlstm import Sequential, constraints, layers, losses, optimizers, regularizers

B, T, V, E, H = 6, 5, 13, 5, 4
STEPS = 4  # all but the first with moments of the ones before; test_keras_optimizers takes ten with each optimizer


def both(build):
    """The model that `build(side, options)` lists the layers of, from either side, with the same weights."""
    ours = Sequential([layers.Input((T,)), *build(layers, {"dtype": "float64"}, regularizers, constraints)], seed=0)
    theirs = keras.Sequential(
        [keras.Input((T,)), *build(keras.layers, {"dtype": "float64"}, keras.regularizers, keras.constraints)]
    )
    rng = np.random.default_rng(7)
    weights = [rng.normal(size=w.shape) * 0.7 for w in ours.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs, weights


def batches(output, steps=STEPS):
    """Ids with padding on either side, a row of nothing else, targets, weights of the samples."""
    rng = np.random.default_rng(3)
    x = word_ids(rng, V, (steps, B, T))
    x[:, 0, :3], x[:, 1, 3:], x[:, 2] = 0, 0, 0
    return x, rng.integers(0, 2, size=(steps, B, *output)).astype(float), rng.uniform(0.5, 2, size=(steps, B))


def assert_steps_agree(build, optimizer="SGD", weighted=False):
    with floats("float64"):
        ours, theirs, start = both(build)
        settings = EXACT[optimizer]
        ours.compile(getattr(optimizers, optimizer)(**settings), "binary_crossentropy")
        theirs_optimizer = getattr(keras.optimizers, optimizer)(**settings)
        theirs_optimizer.build(theirs.trainable_variables)
        loss_function = keras.losses.BinaryCrossentropy()
        compute, step = ours.gradients, {}

        def gradients_of(dy, cache, *more):
            found = compute(dy, cache, *more)
            step.update(caches=cache.kept.caches, gradients=[np.array(gradient) for gradient in found])
            return found

        ours.gradients = gradients_of
        for x, y, weight in zip(*batches(ours.output_shape_for((T,))), strict=True):
            weight = weight if weighted else None
            our_loss = ours.train_on_batch(x, y, weight)
            for cache, twin in zip(step["caches"], theirs.layers, strict=True):
                if isinstance(cache.layer, layers.LSTM | layers.SimpleRNN | layers.Bidirectional):
                    give_dropout(cache, twin)
            with tf.GradientTape() as tape:
                loss = loss_function(y, theirs(x, training=True), sample_weight=_as_keras(weight, y))
                loss += sum(theirs.losses)
            gradients = [dense(g) for g in tape.gradient(loss, theirs.trainable_variables)]
            theirs_optimizer.apply(gradients, theirs.trainable_variables)
            assert our_loss == pytest.approx(float(loss), rel=1e-9)
            for gradient, answer in zip(step["gradients"], gradients, strict=True):
                assert error(gradient, answer) < 1e-9 * 10
        for w, answer, w0 in zip(ours.get_weights(), theirs.get_weights(), start, strict=True):
            assert error(w - w0, answer - w0) < 1e-8


def _as_keras(weight, y):
    return weight[:, None] if weight is not None and y.ndim == 3 else weight


def masked(last):
    def build(side, options, *_):
        return [
            side.Embedding(V, E, mask_zero=True, **options),
            side.LSTM(H, return_sequences=True, **options),
            side.Dropout(0.0, **options),
            side.LayerNormalization(**options),
            side.Bidirectional(side.LSTM(3, return_sequences=last != "last step", **options), **options),
            *({"average": [side.GlobalAveragePooling1D(**options)]}.get(last, [])),
            side.Dense(1, activation="sigmoid", **options),
        ]

    return build


def limited(side, options, regularizers, constraints):
    small = regularizers.L2(2**-6)  # float32 holds these factors exactly: in float64, too, Keras rounds them to that
    return [
        side.Embedding(V, E, embeddings_regularizer=small, embeddings_constraint="unit_norm", **options),
        side.LSTM(
            H,
            kernel_regularizer=regularizers.L1L2(2**-6, 2**-5),
            recurrent_regularizer=regularizers.L1(2**-7),
            bias_regularizer=regularizers.L2(2**-3),
            kernel_constraint=constraints.MaxNorm(0.5),
            recurrent_constraint=constraints.UnitNorm(1),
            bias_constraint="non_neg",
            **options,
        ),
        side.LayerNormalization(gamma_regularizer=small, beta_constraint="non_neg", **options),
        side.Dense(1, "sigmoid", kernel_regularizer=small, bias_constraint="max_norm", **options),
    ]


@pytest.mark.parametrize("optimizer", EXACT)
@pytest.mark.parametrize("last", ["last step", "every step"])
def test_masks_from_the_embedding_to_the_loss(last, optimizer):
    """At the last step, and, where each step has a target, in the loss: a mean over the steps that count."""
    assert_steps_agree(masked(last), optimizer)


def test_masked_average():
    """Without the row of nothing but padding, which Keras turns into NaN."""

    def build(side, *rest):
        embedding, *others = masked("average")(side, *rest)
        return [embedding, side.Activation("linear", **rest[0]), *others]

    with floats("float64"):
        ours, theirs, _ = both(build)
        x = batches(())[0][0]
        filled = x[[0, 1, 3, 4, 5]]
        assert error(ours.predict(filled, verbose=0), theirs(filled)) < 1e-12
        assert np.isfinite(ours.predict(x, verbose=0)).all()


@pytest.mark.parametrize("last", ["last step", "every step"])
def test_masks_with_weights_of_samples(last):
    assert_steps_agree(masked(last), weighted=True)


OPTIONS = {
    "go_backwards": {"go_backwards": True},
    "sequences, backwards": {"go_backwards": True, "return_sequences": True},
    "dropout": {"dropout": 0.4},
    "recurrent_dropout": {"recurrent_dropout": 0.4},
    "both dropouts": {"dropout": 0.4, "recurrent_dropout": 0.4},
    "no bias": {"use_bias": False},
    "zero_output_for_mask": {"zero_output_for_mask": True, "return_sequences": True},
    "other activations": {"activation": "sigmoid", "recurrent_activation": "hard_sigmoid"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("LSTM", name) for name in OPTIONS),
        *zip(itertools.cycle(["SimpleRNN", "Bidirectional"]), OPTIONS, strict=False),
    ],
)
def test_each_option(kind, name):
    """Of a recurrent layer above a masked embedding, the same at each step."""
    settings = dict(OPTIONS[name])
    if kind == "SimpleRNN":
        settings.pop("recurrent_activation", None)
    if kind == "Bidirectional":
        settings.pop("go_backwards", None)

    def build(side, options, *_):
        both_ways = kind == "Bidirectional"
        recurrent = getattr(side, "LSTM" if both_ways else kind)(H, **settings, **options)
        return [
            side.Embedding(V, E, mask_zero=True, **options),
            side.Bidirectional(recurrent, **options) if both_ways else recurrent,
            side.Dense(1, activation="sigmoid", **options),
        ]

    assert_steps_agree(build, "Adam")


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul"])
def test_each_merge_mode(merge_mode):
    def build(side, options, *_):
        both_ways = side.Bidirectional(side.LSTM(H, return_sequences=True, **options), merge_mode, **options)
        return [
            side.Embedding(V, E, mask_zero=True, **options),
            both_ways,
            side.LSTM(3, **options),
            side.Dense(1, activation="sigmoid", **options),
        ]

    assert_steps_agree(build, "RMSprop")


@pytest.mark.parametrize("optimizer", EXACT)
def test_penalties_and_limits(optimizer):
    assert_steps_agree(limited, optimizer)


@pytest.mark.parametrize("penalty", ["l1", "l2", regularizers.L1(0.3), regularizers.L1L2(l2=0.2)])
def test_penalties(penalty):
    w = np.random.default_rng(0).normal(size=(3, 4))
    ours = regularizers.get(penalty)
    name = type(ours).__name__
    theirs = keras.regularizers.get(penalty) if isinstance(penalty, str) else getattr(keras.regularizers, name)(
        **ours.get_config()
    )  # fmt: skip
    assert ours(w) == pytest.approx(float(theirs(tf.constant(w))), rel=1e-7)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["MaxNorm", "UnitNorm", "NonNeg"])
def test_limits(kind, axis):
    w = np.random.default_rng(0).normal(size=(3, 4)) * 2
    settings = {} if kind == "NonNeg" else {"axis": axis}
    answer = getattr(keras.constraints, kind)(**settings)(tf.constant(w))
    assert error(getattr(constraints, kind)(**settings)(w), answer) < 1e-15


def test_masked_sequences_are_evaluated_and_fitted_alike():
    """Loss and accuracy, over batches as Keras makes them: a masked mean depends on them."""
    with floats("float64"):
        ours, theirs, _ = both(masked("every step"))
        ours.compile(optimizers.SGD(0.5), "binary_crossentropy", metrics=["accuracy"])
        theirs.compile(keras.optimizers.SGD(0.5), "binary_crossentropy", metrics=["accuracy"])
        x, y, _ = batches((T, 1), steps=8)
        x, y = x.reshape(-1, T), y.reshape(-1, T, 1)
        x_val, y_val = x[:13], y[:13]
        for options in ({}, {"batch_size": 7}):
            expected = theirs.evaluate(x, y, verbose=0, **options)
            assert ours.evaluate(x, y, verbose=0, **options) == pytest.approx(expected, rel=1e-6)
        options = {"batch_size": 5, "epochs": 2, "shuffle": False, "validation_data": (x_val, y_val), "verbose": 0}
        expected = theirs.fit(x, y, **options).history
        for name, values in ours.fit(x, y, **options).history.items():
            assert values == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("loss", ["BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"])
def test_losses_from_logits(loss):
    """With a last layer that has no activation, as in many texts about Keras."""
    with floats("float64"):
        ours, theirs, _ = both(lambda side, options, *_: [side.Embedding(V, E, **options), side.LSTM(3, **options)])
        ours.compile("sgd", getattr(losses, loss)(from_logits=True))
        theirs.compile("sgd", getattr(keras.losses, loss)(from_logits=True))
        x, classes = batches(())[0][0], np.arange(B) % 3
        y = {"S": classes, "C": np.eye(3)[classes], "B": np.eye(3)[classes]}[loss[0]]
        assert ours.evaluate(x, y, verbose=0) == pytest.approx(theirs.evaluate(x, y, verbose=0), rel=1e-9)


def test_mean_absolute_error():
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 5, 3))
    variable = tf.Variable(p)
    with tf.GradientTape() as tape:
        expected = keras.losses.MeanAbsoluteError()(y, variable)
    value, gradient = losses.get("mae").with_gradient(y, p)
    assert value == pytest.approx(float(expected), rel=1e-6)
    assert error(gradient, tape.gradient(expected, variable)) < 1e-6
