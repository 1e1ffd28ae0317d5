"""Adversarial training: the perturbation is the worst of its length, and fit learns from it however it is run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stopping import Stop, Stopped

from scratchlstm import Input, Model, Sequential, backend, layers
from scratchlstm.callbacks import Checkpoint
from scratchlstm.layers import LSTM, Bidirectional, Dense, Dropout, Embedding
from scratchlstm.training import AdversarialTraining, steps
from scratchlstm.training.data import check_data

V, T, N = 20, 6, 23
RNG = np.random.default_rng(0)
X, Y = RNG.integers(1, V, (N, T)), RNG.integers(0, 2, (N, 1))
X[::3, :2] = 0
WORST = AdversarialTraining()


def reader(dropout=0.0, dtype="float64", inputs=1, **options):
    """Words and, with two inputs, something else; masked, read in both directions."""
    taken = [Input((None,)) for _ in range(inputs)]
    embedded = [Embedding(V, 3 + k, mask_zero=True, dtype=dtype)(ids) for k, ids in enumerate(taken)]
    x = embedded[0] if inputs == 1 else layers.Concatenate(dtype=dtype)(embedded)
    x = layers.SpatialDropout1D(dropout, dtype=dtype)(x)
    h = Bidirectional(LSTM(4, dtype=dtype))(x)
    y = Dense(1, activation="sigmoid", dtype=dtype)(Dropout(dropout, dtype=dtype)(h))
    return compiled(Model(taken, y, seed=1, **options))


def compiled(model, loss="binary_crossentropy", **shapes):
    model.compile("adam", loss, **shapes)
    return model


def step_of(model, x=X, y=Y, weight=None, adversarial=WORST, rng=None):
    """A step, forward; its parameters are drawn if there is an `rng`."""
    data = check_data(model, x, y, weight)
    model.build_for(data.shape)
    for w in model.params if rng is not None else []:
        w[...] = rng.normal(size=w.shape, scale=0.5)
    return steps.Step(model, data, steps.StepOptions(adversarial))


def learned(model, **options):
    step = step_of(model, **options)
    return step.learn(step.batch.samples)


def perturbations(step, epsilon):
    """Of what the embeddings gave in the forward pass of this step."""
    step._back(step.y_pred, step.cache, 1.0, None, need=True)
    return step.embedded.perturbations(epsilon, N)


def loss_at(model, shifts, x=X, y=Y):
    """The mean loss with these added to what the embeddings give."""
    shifts = iter(shifts)
    data = check_data(model, x, y)
    run = model.run(embed=lambda rows: rows.gathered() + next(shifts))
    y_pred, cache = model.network.forward(data.x, run)
    return model.judge(data.y, y_pred, cache.kept).loss


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), epsilon=st.floats(1e-6, 1), inputs=st.integers(1, 2))
def test_a_perturbation_has_its_length_and_leaves_padding_alone(seed, epsilon, inputs):
    rng = np.random.default_rng(seed)
    x = [X, np.where(X == 0, 0, rng.integers(1, V, X.shape))][:inputs]
    step = step_of(reader(inputs=inputs), x if inputs > 1 else x[0], rng=rng)
    r = np.concatenate(perturbations(step, epsilon), axis=2)
    of_text = np.concatenate([rows.gathered() for rows in step.embedded.rows], axis=2) * (X != 0)[..., None]
    lengths, wanted = (np.linalg.norm(each, axis=(1, 2)) for each in (r, epsilon * of_text))
    np.testing.assert_allclose(lengths, wanted, rtol=1e-10)
    assert not r[X == 0].any()


@pytest.mark.parametrize("seed", range(3))
def test_no_other_perturbation_of_that_length_hurts_more(seed):
    rng = np.random.default_rng(seed)
    model = reader(inputs=2)
    x = [X, np.where(X == 0, 0, X[::-1].clip(1))]
    step = step_of(model, x, rng=rng)
    worst = perturbations(step, 1e-4)
    # every sample's own loss counts, so each is turned to a random direction of its own
    length = np.sqrt(sum((each**2).sum(axis=(1, 2), keepdims=True) for each in worst))
    hurt = loss_at(model, worst, x)
    for _ in range(20):
        other = [rng.normal(size=each.shape) * (each != 0) for each in worst]
        size = np.sqrt(sum((each**2).sum(axis=(1, 2), keepdims=True) for each in other))
        assert loss_at(model, [each * length / size for each in other], x) < hurt


def test_both_passes_drop_the_same():
    """With a perturbation of no size, the step is the one without."""
    ours, plain = (reader(dropout=0.4) for _ in range(2))
    tiny = learned(ours, adversarial=AdversarialTraining(1e-12), rng=np.random.default_rng(1))
    same = learned(plain, adversarial=None, rng=np.random.default_rng(1))
    assert tiny.loss == pytest.approx(same.loss, rel=1e-9)
    for name, a, b in zip(ours.network.params, tiny.grads, same.grads, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-7, atol=1e-12, err_msg=name)


def test_metrics_are_those_of_the_texts_as_they_are():
    model = reader()
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    found = learned(model, adversarial=AdversarialTraining(50.0), rng=np.random.default_rng(2))
    assert found.totals[0][0] / N == pytest.approx(model.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_too_small_to_be_squared_has_a_direction(dtype):
    model = reader(dtype=dtype)
    weight = np.where(np.arange(N) % 2, 1.0, 1e-22)  # in float32 its square is 0
    (small,) = perturbations(step_of(model, weight=weight, rng=np.random.default_rng(3)), 0.1)
    (large,) = perturbations(step_of(model), 0.1)
    assert np.isfinite(small).all()
    lengths = np.linalg.norm(small, axis=(1, 2)), np.linalg.norm(large, axis=(1, 2))
    np.testing.assert_allclose(*lengths, rtol=1e-3)


def test_a_sample_without_a_gradient_is_left_as_it_is():
    model, weight = reader(), np.arange(N) % 2.0
    found = learned(model, weight=weight, rng=np.random.default_rng(3))
    assert np.isfinite(found.loss)
    (r,) = perturbations(step_of(model, weight=weight), 0.1)
    assert not r[::2].any()
    assert r[1::2].any(axis=(1, 2)).all()


# --- models -----------------------------------------------------------------------------------------------------------


def shared():
    """One table at two places."""
    one, other, embed = Input((T,)), Input((T,)), Embedding(V, 3, dtype="float64")
    lstm = LSTM(4, dtype="float64")
    both = layers.Concatenate(dtype="float64")([lstm(embed(one)), lstm(embed(other))])
    return Model([one, other], Dense(1, "sigmoid", dtype="float64")(both), seed=1), [X, X[::-1]], Y


def sentences():
    """Embeddings inside a TimeDistributed: words of three sentences a text."""
    inner = Sequential([Embedding(V, 3, dtype="float64"), LSTM(4, dtype="float64")])
    last = Dense(1, "sigmoid", dtype="float64")
    model = Sequential([Input((3, 2)), layers.TimeDistributed(inner.network), LSTM(3, dtype="float64"), last], seed=1)
    return model, X.reshape(N, 3, 2), Y


def frozen():
    """A table that is not trained."""
    table = Embedding(V, 3, dtype="float64", trainable=False)
    return Sequential([table, LSTM(4, dtype="float64"), Dense(1, "sigmoid", dtype="float64")], seed=1), X, Y


def tagger():
    """A label for each word, and a masked loss."""
    model = Sequential([Embedding(V, 3, mask_zero=True, dtype="float64")], seed=1)
    model.add(LSTM(4, return_sequences=True, dtype="float64"))
    model.add(Dense(1, "sigmoid", dtype="float64"))
    return model, X, RNG.integers(0, 2, (N, T, 1))


@pytest.mark.parametrize("make", [shared, sentences, frozen, tagger])
def test_it_learns_from_the_worst_loss(make):
    """The step's loss is the mean of that at x and at x + r, where r is as the gradient says, to first order."""
    model, x, y = make()
    compiled(model)
    epsilon = 1e-4
    step = step_of(model, x, y, rng=np.random.default_rng(4), adversarial=AdversarialTraining(epsilon))
    loss, grads, _ = step.learn(N)
    plain = learned(model, x=x, y=y, adversarial=None)
    rows, arrived = step.embedded.rows, step.embedded.arrived
    # of the loss at x, times 1 - weight
    slope = sum(
        (2 * arrived[id(each)][1] * r).sum()
        for each, r in zip(rows, step.embedded.perturbations(epsilon, N), strict=True)
    )
    assert slope > 0
    assert loss - plain.loss == pytest.approx(slope / 2, rel=0.02)
    for name, g, before in zip(model.network.params, grads, plain.grads, strict=True):
        assert (g is None) == (before is None) == (make is frozen and "embeddings" in name)


def test_an_embedding_that_the_loss_does_not_depend_on():
    one, other = Input((T,)), Input((T,))
    y = Dense(1, "sigmoid", name="used")(LSTM(3)(Embedding(V, 3)(one)))
    unused = Dense(1, name="unused")(LSTM(3)(Embedding(V, 3)(other)))
    model = Model([one, other], [y, unused], seed=1)
    model.compile("adam", ["binary_crossentropy", None])
    history = model.fit([X, X], [Y, None], epochs=1, verbose=0, adversarial=AdversarialTraining())
    assert np.isfinite(history.history["loss"]).all()


class Doubled(Embedding):
    """What a user may write."""

    def forward(self, x, run):
        y, cache = super().forward(x, run)
        return 2 * backend.namespace(y).asarray(y) if isinstance(y, np.ndarray) else 2 * y.gathered(), cache

    def backward(self, dy, cache):
        return super().backward(2 * dy, cache)


class Forgetful(Embedding):
    """One that does not hand the pass on."""

    def forward(self, x):
        return super().forward(x)


def test_embeddings_of_a_users_own():
    model = compiled(
        Sequential(
            [Doubled(V, 3, dtype="float64"), LSTM(4, dtype="float64"), Dense(1, "sigmoid", dtype="float64")], seed=1
        )
    )
    rng = np.random.default_rng(5)
    assert learned(model, rng=rng, adversarial=AdversarialTraining(0.3)).loss > learned(model, adversarial=None).loss
    model = compiled(Sequential([Forgetful(V, 3), LSTM(4), Dense(1, "sigmoid")], seed=1))
    with pytest.raises(ValueError, match=r"no Embedding took part .*super\(\)\.forward\(x, run\)"):
        model.fit(X, Y, verbose=0, adversarial=AdversarialTraining())


# --- fit --------------------------------------------------------------------------------------------------------------


def fitted(path=None, workers=1, stop=None, **options):
    model = reader(dropout=0.3)
    callbacks = [] if path is None else [Checkpoint(path, save_freq=1), Stop(stop)]
    settings = {"epochs": 3, "batch_size": 6, "verbose": 0, "adversarial": AdversarialTraining(0.05, first_step=3)}
    history = model.fit(X, Y, workers=workers, callbacks=callbacks, resume=path, **settings | options)
    return model.get_weights(), history.history


def assert_same(ours, theirs, exact=True):
    assert ours[1].keys() == theirs[1].keys()
    for a, b in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(a, b) if exact else np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_it_begins_with_its_first_step():
    plain, never, later = fitted(adversarial=None), fitted(adversarial=AdversarialTraining(first_step=99)), fitted()
    assert_same(plain, never)
    assert later[1]["loss"][0] != plain[1]["loss"][0]
    assert fitted(adversarial=AdversarialTraining(first_step=4), epochs=1)[1] == fitted(adversarial=None, epochs=1)[1]


def test_workers_do_what_one_process_does():
    alone, shared = fitted(), fitted(workers=2)
    assert_same(alone, shared, exact=False)
    assert_same(shared, fitted(workers=2))


@pytest.mark.parametrize(("workers", "batches"), [(1, 2), (1, 6), (2, 6)])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, batches, workers):
    """Before its first adversarial step, and after."""
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(Stopped):
        fitted(path, workers, stop=batches)
    assert_same(fitted(path, workers), fitted(workers=workers))


def test_a_run_of_other_settings_is_not_continued(tmp_path):
    path = tmp_path / "checkpoint.npz"
    fitted(path)
    for other in None, AdversarialTraining(0.06, first_step=3):
        with pytest.raises(ValueError, match=r"checkpoint of another run: .*adversarial"):
            fitted(path, adversarial=other)


def test_it_is_the_same_on_a_gpu(device):
    ours, there = reader(dropout=0.3, inputs=2), reader(dropout=0.3, inputs=2, backend="cupy")
    x = [X, np.where(X == 0, 0, X[::-1].clip(1))]
    for model in ours, there:
        model.fit(x, Y, epochs=2, batch_size=6, verbose=0, adversarial=AdversarialTraining(0.05, first_step=3))
    for a, b in zip(ours.get_weights(), there.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("given", "came"), [(0.1, "0.1"), (True, "True"), (AdversarialTraining, "")])
def test_anything_else_is_refused(given, came):
    model = reader()
    with pytest.raises(TypeError, match=f"adversarial must be an AdversarialTraining, or None, not {came}"):
        model.fit(X, Y, verbose=0, adversarial=given)
    assert model.optimizer.iterations == 0


def test_models_it_refuses():
    none = compiled(Sequential([LSTM(2), Dense(1)], seed=1), "mse")
    with pytest.raises(ValueError, match="the output of an Embedding, but the model has none"):
        none.fit(RNG.normal(size=(4, 3, 2)), Y[:4], verbose=0, adversarial=AdversarialTraining())
    stateful = compiled(Sequential([Embedding(V, 3), LSTM(2, stateful=True), Dense(1)], seed=1), "mse")
    with pytest.raises(ValueError, match=r"lstm is stateful.* without adversarial"):
        stateful.fit(X[:4], Y[:4], batch_size=2, verbose=0, adversarial=AdversarialTraining())
