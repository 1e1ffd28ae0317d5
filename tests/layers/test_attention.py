"""Attention: what is masked has no weight and no gradient, both outputs carry gradients, and what is refused."""

import numpy as np
import pytest

from scratchlstm import Input, Model, gradcheck
from scratchlstm.layers import LSTM, Attention, Dense, Embedding, GlobalAveragePooling1D, Multiply
from scratchlstm.layers.passes import Pass
from scratchlstm.models import load_model

F64 = {"dtype": "float64"}
RNG = np.random.default_rng(0)
Q, V, K = RNG.normal(size=(3, 2, 4)), RNG.normal(size=(3, 5, 3)), RNG.normal(size=(3, 5, 4))
QUERIES = np.array([[True, False], [True, True], [False, True]])
VALUES = np.array([[True, True, False, False, True], [False] * 5, [True] * 5])
DY, DW = RNG.normal(size=(3, 2, 3)), RNG.normal(size=(3, 2, 5))


def attention(**options):
    layer = Attention(use_scale=True, **options, **F64)
    layer.build([(2, 4), (5, 3), (5, 4)])
    layer.set_weights([np.array(0.7)])
    return layer


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_gives_y_and_the_weights_if_they_are_asked_for():
    layer = attention()
    y, weights = layer([Q, V, K], return_attention_scores=True)
    np.testing.assert_array_equal(layer([Q, V, K]), y)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(y, weights @ V, rtol=1e-12)
    np.testing.assert_array_equal(layer.infer([Q, V, K])[1], weights)


def test_positions_mean_what_they_mean_in_keras():
    layer, masks = attention(dropout=0.5, seed=1), [QUERIES, VALUES]
    np.testing.assert_array_equal(layer([Q, V, K], masks), layer([Q, V, K], mask=masks))
    first = attention(dropout=0.5, seed=1)([Q, V, K], masks, True)
    np.testing.assert_array_equal(first, attention(dropout=0.5, seed=1)([Q, V, K], mask=masks, training=True))
    assert not np.array_equal(first, layer([Q, V, K], masks))


def test_without_a_key_the_value_is_the_key():
    layer = Attention(**F64)
    both, apart = layer([Q, K]), layer([Q, K, K])
    np.testing.assert_array_equal(both, apart)
    (_, _), cache = layer.forward([Q, K])
    (dq, dv), _ = layer.backward((np.ones_like(both), None), cache)
    (_, _), cache = layer.forward([Q, K, K])
    (dq_apart, dv_apart, dk_apart), _ = layer.backward((np.ones_like(both), None), cache)
    np.testing.assert_array_equal(dq, dq_apart)
    np.testing.assert_allclose(dv, dv_apart + dk_apart, rtol=1e-12)


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_masked_value_has_no_weight_and_a_masked_query_no_output():
    huge = np.where(VALUES[..., None], K, 1e4 * K)
    y, weights = attention()([Q, V, huge], mask=[QUERIES, VALUES], return_attention_scores=True)
    assert not weights[np.broadcast_to(~VALUES[:, None], weights.shape)].any()
    np.testing.assert_allclose(weights.sum(axis=-1), [[1, 1], [0, 0], [1, 1]], rtol=1e-12)
    assert not y[~QUERIES].any()
    assert not y[1].any()
    assert y[0, 0].all()
    few = attention()([Q[:1], V[:1, VALUES[0]], K[:1, VALUES[0]]])
    np.testing.assert_allclose(y[0, 0], few[0, 0], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_masked_has_no_gradient(dtype):
    layer = Attention(use_scale=True, dtype=dtype)
    (_, _), cache = layer.forward([Q, V, K], mask=[QUERIES, VALUES])
    (dq, dv, dk), grads = layer.backward((DY, None), cache)
    assert not dq[~QUERIES].any()
    for d in (dv, dk):
        assert not d[~VALUES].any()
        assert d[2].all()
    assert not dq[1].any()
    assert np.isfinite(grads["scale"])


@pytest.mark.parametrize("masks", [None, [QUERIES, VALUES], [None, VALUES], [QUERIES, None], [QUERIES, VALUES, VALUES]])
def test_gradients_at_both_outputs(masks):
    report = gradcheck.check_layer(attention(dropout=0.4), [Q, V, K], mask=masks, training=True)
    assert report.ok, report


def test_the_gradients_of_both_outputs_add_up():
    layer = attention()
    _, cache = layer.forward([Q, V, K], mask=[QUERIES, VALUES])
    parts = [layer.backward(dy, cache) for dy in ((DY, None), (None, DW), (DY, DW))]
    for of_y, of_weights, both in zip(*(dx for dx, _ in parts), strict=True):
        np.testing.assert_allclose(of_y + of_weights, both, rtol=1e-12, atol=1e-15)
    of_y, of_weights, both = (grads["scale"] for _, grads in parts)
    np.testing.assert_allclose(of_y + of_weights, both, rtol=1e-12)
    assert not parts[1][0][1].any()  # the weights do not depend on the values


def test_the_output_has_the_mask_of_the_queries():
    layer = attention()
    np.testing.assert_array_equal(layer.output_mask([Q, V], [QUERIES, VALUES]), QUERIES)
    assert layer.output_mask([Q, V], [None, VALUES]) is None
    assert [layer.gives_mask(masked) for masked in ([True, False], [False, True])] == [True, False]
    *_, masks = layer.pass_on([Q, V, K], Pass(), [QUERIES, VALUES, VALUES], keeps=False)
    assert masks[0] is QUERIES
    assert masks[1] is None


# --- in a model -------------------------------------------------------------------------------------------------------


def aligned(dropout=0.0):
    """A decoder that attends to an encoder's steps; and the same with the weights as a second output."""
    source, target = Input((5,)), Input((3,))
    steps = LSTM(4, return_sequences=True, **F64)(Embedding(9, 4, mask_zero=True, **F64)(source))
    asked = LSTM(4, return_sequences=True, **F64)(Embedding(7, 4, mask_zero=True, **F64)(target))
    layer = Attention(use_scale=True, dropout=dropout, seed=1, **F64)
    y, weights = layer([asked, steps], return_attention_scores=True)
    last = Dense(1, "sigmoid", **F64)(GlobalAveragePooling1D(**F64)(Multiply(**F64)([y, asked])))
    return Model([source, target], last, seed=0), Model([source, target], [y, weights])


def data(rows=4):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 9, size=(rows, 5)), rng.integers(0, 7, size=(rows, 3))], rng.integers(0, 2, rows)


def with_large_weights(model):
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])


def test_a_model_with_attention_has_the_gradients_that_it_should(tmp_path):
    model, alignment = aligned(dropout=0.3)
    with_large_weights(model)
    model.compile("adam", "binary_crossentropy")
    x, y = data()
    report = gradcheck.check_model(model, x, y, training=True)
    assert report.ok, report
    _, weights = alignment(x)
    assert not weights[np.broadcast_to(x[0][:, None] == 0, weights.shape)].any()
    before = model.network.params["attention/scale"].copy()
    model.fit(x, y, verbose=0)
    assert model.network.params["attention/scale"] != before
    model.save(tmp_path / "model.npz")
    np.testing.assert_array_equal(load_model(tmp_path / "model.npz").predict(x, verbose=0), model.predict(x, verbose=0))


def test_one_call_in_a_graph_gives_one_node_or_two():
    model = Model([q := Input((2, 4)), k := Input((5, 4))], Attention(**F64)([q, k]))
    np.testing.assert_allclose(model.predict([Q, K], verbose=0), Attention(**F64)([Q, K]), rtol=1e-12)
    y, weights = Attention()([Input((2, 4)), Input((5, 3)), Input((5, 4))], return_attention_scores=True)
    assert y.shape == (None, 2, 3)
    assert weights.shape == (None, 2, 5)


def test_workers_train_a_parameter_of_no_dimensions_as_one_process_does():
    x, y = data(8)
    found = []
    for workers in (1, 2):
        model, _ = aligned()
        with_large_weights(model)
        model.compile("adam", "binary_crossentropy")
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, workers=workers)
        found.append(model.network.params["attention/scale"])
        assert found[-1].shape == ()
    assert found[0] == pytest.approx(found[1], rel=1e-9)


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "concat": (lambda: Attention(score_mode="concat"), "score_mode must be \"dot\", .* here, not 'concat'"),
    "rate": (lambda: Attention(dropout=1), "dropout must be at least 0 and below 1, not 1"),
    "one input": (lambda: Attention()([Q]), r"attention takes \[query, value\] or \[query, value, key\] of three dim"),
    "four inputs": (lambda: Attention()([Q] * 4), r"attention takes \[query, value\] or \[query, value, key\]"),
    "two dimensions": (lambda: Attention()([Q[:, 0], V]), r"of three dimensions each, but got shapes \(None, 4\), "),
    "batch sizes": (lambda: Attention()([Q, K[:2]]), r"the same batch size, but got shapes \(3, 2, 4\), \(2, 5, 4\)"),
    "value of another size": (lambda: Attention()([Q, V]), "takes queries and values of equal size, but got shapes"),
    "key of another size": (lambda: Attention()([Q, K, V]), "takes queries and keys of equal size, but got shapes"),
    "key of another length": (lambda: Attention()([Q, V, K[:, :4]]), "takes as many keys as values, but got shapes"),
    "in a graph": (lambda: Attention()([Input((2, 4)), Input((5, 3))]), "takes queries and values of equal size"),
    "causal": (lambda: Attention()([Q, K], use_causal_mask=True), "use_causal_mask of attention must be False: here"),
    "one mask": (lambda: Attention()([Q, K], mask=QUERIES), r"mask of attention must be a list \[query_mask, value_"),
    "a mask too few": (
        lambda: Attention()([Q, K], mask=[QUERIES]),
        "must be a list of 2, one for each input, not of 1",
    ),
    "mask of another size": (lambda: Attention()([Q, K], mask=[QUERIES] * 2), r"with shape \(3, 5\), but its shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_gradients_for_both_or_one_output():
    layer = attention()
    _, cache = layer.forward([Q, V, K])
    for dy in (None, None), DY:
        with pytest.raises(ValueError, match="dL/dy of attention must be a tuple of 2, not all None"):
            layer.backward(dy, cache)
    with pytest.raises(TypeError, match="return_attention_scores must be True or False, not 'yes'"):
        layer([Q, V, K], return_attention_scores="yes")
