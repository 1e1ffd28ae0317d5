"""The worst perturbation is along the gradient, has its length, and points to the word that the result names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import IDS, LABELS, lstm, stack

from scratchlstm import Input, Model, Sequential, layers
from scratchlstm.inspection import LayerPerturbation, worst_perturbation
from scratchlstm.layers import LSTM, Dense, Dropout, Embedding, GlobalAveragePooling1D, TimeDistributed


def two_inputs(dropout=0.0, **options):
    """Words and, as a second input, a narrower table; padding counts in neither."""
    inputs = Input((None,)), Input((None,))
    embedded = [Embedding(6, 3 - k, mask_zero=True, dtype="float64")(ids) for k, ids in enumerate(inputs)]
    x = Dropout(dropout, dtype="float64")(layers.Concatenate(dtype="float64")(embedded))
    model = Model([*inputs], Dense(1, "sigmoid", dtype="float64")(lstm()(x)), seed=0, **options)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.params])
    model.compile("adam", "binary_crossentropy")
    return model


BOTH = [IDS, np.where(IDS == 0, 0, IDS[::-1].clip(1))]


def test_it_is_along_the_slope_of_the_loss_which_is_measured_at_its_end():
    model = stack(lstm(return_sequences=True), GlobalAveragePooling1D(dtype="float64"), mask_zero=False)
    found = worst_perturbation(model, IDS, LABELS, epsilon=0.1)
    x, r = found["embedding"].x, found["embedding"].r

    def losses(x):
        """Of each sample, through the layers above."""
        for layer in model.layers[1:]:
            x = layer(x)
        return -np.log(np.abs(1 - LABELS - x[:, 0]))

    np.testing.assert_array_equal(x, model.layers[0](IDS))
    assert found.loss == pytest.approx(model.evaluate(IDS, LABELS, verbose=0), rel=1e-12)
    assert found.loss == pytest.approx(losses(x).mean(), rel=1e-12)
    assert found.perturbed_loss == pytest.approx(losses(x + r).mean(), rel=1e-12)
    steps = 1e-6 * np.eye(x[0].size).reshape(-1, 1, *x[0].shape)
    slopes = np.array([(losses(x + step) - losses(x - step)) / 2e-6 for step in steps]).T.reshape(x.shape)
    lengths = (np.linalg.norm(each, axis=(1, 2), keepdims=True) for each in (x, slopes))
    expected = slopes * 0.1 * next(lengths) / next(lengths)
    np.testing.assert_allclose(r, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_its_length_is_shared_by_all_embeddings_and_positions_but_padding(epsilon):
    found = worst_perturbation(two_inputs(), BOTH, LABELS, epsilon)
    assert [*found.layers] == ["embedding", "embedding_1"]
    each = found.layers.values()
    np.testing.assert_allclose(sum(of.share.sum(axis=1) for of in each), 1, rtol=1e-12)
    text = np.concatenate([of.x for of in each], axis=2) * (IDS != 0)[..., None]
    r = np.concatenate([of.r for of in each], axis=2)
    length = np.linalg.norm(r, axis=(1, 2))
    np.testing.assert_allclose(length, epsilon * np.linalg.norm(text, axis=(1, 2)), rtol=1e-12)
    for of, ids in zip(each, BOTH, strict=True):
        np.testing.assert_array_equal(of.ids, ids)
        np.testing.assert_allclose(of.share, (of.r**2).sum(axis=2) / length[:, None] ** 2, rtol=1e-12)
        assert not of.share[ids == 0].any()
    assert found.perturbed_loss > found.loss


def test_a_sample_that_does_not_count_is_left_alone():
    of = worst_perturbation(stack(lstm()), IDS, LABELS, sample_weight=[1.0, 0.0, 1.0])[None]
    assert not of.r[1].any()
    np.testing.assert_array_equal(of.share.any(axis=1), [True, False, True])
    ids, cosines = of.towards()
    np.testing.assert_array_equal(ids[1], IDS[1])
    assert not cosines[1].any()


# --- the words --------------------------------------------------------------------------------------------------------


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), exclude=st.lists(st.integers(0, 5), max_size=3))
def test_no_other_word_is_straighter_ahead(seed, exclude):
    rng = np.random.default_rng(seed)
    table, r = rng.normal(size=(6, 3)), rng.normal(size=(*IDS.shape, 3)) * (IDS != 0)[..., None]
    table[4] = table[5]  # two words with one vector: neither is a direction from the other
    of = LayerPerturbation("embedding", IDS, table[IDS], r, (r**2).sum(axis=2) / (r**2).sum(), table)
    ids, cosines = of.towards(exclude)
    for at in np.ndindex(IDS.shape):
        if IDS[at] == 0:
            assert (ids[at], cosines[at]) == (0, 0)
            continue
        others = {w for w in range(6) if w not in exclude and table[w].tolist() != of.x[at].tolist()}
        expected = {w: cosine(r[at], table[w] - of.x[at]) for w in others}
        best = max(expected.values())
        assert ids[at] in others
        assert expected[ids[at]] == pytest.approx(best, abs=1e-9)
        assert cosines[at] == pytest.approx(best, abs=1e-9)


def test_a_long_text_is_compared_in_several_parts():
    rng = np.random.default_rng(0)
    ids, table, r = rng.integers(0, 9, (2, 50)), rng.normal(size=(9, 3)), rng.normal(size=(2, 50, 3))
    whole = LayerPerturbation("embedding", ids, table[ids], r, np.ones(ids.shape), table).towards()
    for t in (0, 31, 32, 49):
        one = np.s_[:, t : t + 1]
        part = LayerPerturbation("embedding", ids[one], table[ids[one]], r[one], np.ones((2, 1)), table).towards()
        np.testing.assert_array_equal(whole[0][one], part[0])
        np.testing.assert_allclose(whole[1][one], part[1], rtol=1e-12)


def test_ids_to_exclude():
    of = worst_perturbation(stack(lstm()), IDS, LABELS)["embedding"]
    with pytest.raises(ValueError, match="exclude must be from 0 to 5, not 6"):
        of.towards([6])
    with pytest.raises(ValueError, match="exclude must be a list of numbers, not 1"):
        of.towards(1)
    everything = of.towards([*range(6)])
    np.testing.assert_array_equal(everything[0], IDS)
    assert not everything[1].any()


# --- models -----------------------------------------------------------------------------------------------------------


def test_the_model_is_left_as_it_is_and_drops_nothing():
    model = two_inputs(dropout=0.5)
    before = [w.copy() for w in model.get_weights()]
    one, two = (worst_perturbation(model, BOTH, LABELS, 0.1) for _ in range(2))
    assert one.loss == two.loss == worst_perturbation(two_inputs(), BOTH, LABELS, 0.1).loss
    np.testing.assert_array_equal(one["embedding"].r, two["embedding"].r)
    one["embedding"].embeddings[...] = 0
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer.iterations == 0


def test_both_passes_begin_with_the_states_of_a_stateful_layer():
    model = stack(lstm(stateful=True), mask_zero=False)
    model.predict(IDS, batch_size=3, verbose=0)
    lstm_states = [state.copy() for state in model.layers[1].states]
    found = worst_perturbation(model, IDS, LABELS, 1e-9)
    assert found.perturbed_loss == pytest.approx(found.loss, rel=1e-6)
    for a, b in zip(lstm_states, model.layers[1].states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_table_at_two_places():
    one, other, embed = Input((5,)), Input((5,)), Embedding(6, 3)
    model = Model([one, other], Dense(1, "sigmoid")(layers.Concatenate()([LSTM(2)(embed(one)), LSTM(3)(embed(other))])))
    model.compile("adam", "binary_crossentropy")
    found = worst_perturbation(model, [IDS, IDS[::-1]], LABELS)
    assert [*found.layers] == ["embedding", "embedding#2"]
    np.testing.assert_array_equal(found["embedding#2"].ids, IDS[::-1])
    with pytest.raises(ValueError, match="several layers; choose one by name: embedding, embedding#2"):
        found[None]


def test_sentences_of_a_text():
    inner = Sequential([Embedding(6, 3), LSTM(4)])
    model = Sequential([Input((5, 2)), TimeDistributed(inner.network), LSTM(3), Dense(1, "sigmoid")], seed=1)
    model.compile("adam", "binary_crossentropy")
    x = np.stack([IDS, IDS[::-1]], axis=2)
    of = worst_perturbation(model, x, LABELS)[None]
    np.testing.assert_array_equal(of.ids, x.reshape(15, 2))
    assert of.r.shape == (15, 2, 3)
    np.testing.assert_allclose(of.share.reshape(3, -1).sum(axis=1), 1, rtol=1e-6)
    assert of.towards()[0].shape == (15, 2)


def test_an_embedding_that_the_loss_does_not_depend_on_is_left_out():
    one, other = Input((5,)), Input((5,))
    used = Dense(1, "sigmoid")(LSTM(3)(Embedding(6, 3, name="used")(one)))
    unused = Dense(1)(LSTM(3)(Embedding(6, 3)(other)))
    model = Model([one, other], [used, unused], seed=1)
    model.compile("adam", ["binary_crossentropy", None])
    assert [*worst_perturbation(model, [IDS, IDS], [LABELS, None]).layers] == ["used"]


def test_a_frozen_model_has_one_as_well():
    model = stack(lstm())
    found = worst_perturbation(model, IDS, LABELS)
    model.trainable = False
    np.testing.assert_array_equal(worst_perturbation(model, IDS, LABELS)[None].r, found[None].r)


def test_it_is_the_same_for_a_model_on_a_gpu(device):
    model = two_inputs()
    found, there = (worst_perturbation(each, BOTH, LABELS) for each in (model, two_inputs().to("cupy")))
    assert there.perturbed_loss == pytest.approx(found.perturbed_loss, rel=1e-12)
    np.testing.assert_allclose(there["embedding"].r, found["embedding"].r, rtol=1e-10, atol=1e-15)
    assert isinstance(there["embedding"].embeddings, np.ndarray)


def test_it_is_shown_in_a_few_lines():
    lines = repr(worst_perturbation(two_inputs(), BOTH, LABELS)).split("\n")
    assert lines[0].startswith("WorstPerturbation: loss 0.")
    assert lines[1:] == ["LayerPerturbation 'embedding': r (3, 5, 3)", "LayerPerturbation 'embedding_1': r (3, 5, 2)"]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": Embedding(3, 2)}, TypeError, "worst_perturbation takes a Sequential"),
        ({"model": Sequential([Embedding(6, 2), LSTM(2), Dense(1)])}, ValueError, "needs a model with parameters"),
        ({"y": None}, ValueError, "worst_perturbation needs targets y"),
        ({"y": LABELS[:2]}, ValueError, "y"),
        ({"epsilon": 0}, ValueError, "epsilon must be .*above 0"),
        ({"epsilon": "0.1"}, ValueError, "epsilon must be"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight"),
    ],
)
def test_what_is_refused(change, error, match):
    with pytest.raises(error, match=match):
        worst_perturbation(**{"model": stack(lstm()), "x": IDS, "y": LABELS} | change)


def test_models_without_what_it_needs():
    with pytest.raises(RuntimeError, match="compile"):
        worst_perturbation(Sequential([Embedding(6, 2, input_shape=(5,)), LSTM(2), Dense(1)], seed=0), IDS, LABELS)
    model = Sequential([LSTM(2, input_shape=(5, 1)), Dense(1, "sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    with pytest.raises(ValueError, match="no Embedding took part in the pass"):
        worst_perturbation(model, IDS[..., None] / 1.0, LABELS)
