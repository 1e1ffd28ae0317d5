"""Layers that make one output of several inputs, or another shape of one: shapes, numbers, masks, what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlstm import Input, Model, gradcheck
from scratchlstm.layers import (
    LSTM,
    Add,
    Concatenate,
    Dense,
    Dot,
    Embedding,
    GlobalAveragePooling1D,
    Multiply,
    RepeatVector,
    Reshape,
)
from scratchlstm.models import load_model

F64 = {"dtype": "float64"}
X = np.random.default_rng(0).normal(size=(2, 4, 3))
FIRST = np.array([[True, True, False, False], [True, False, True, True]])
SECOND = np.array([[False, True, False, True], [True, False, False, True]])

sizes = st.integers(1, 3)


def drawn(*shape):
    """Two samples, no element near 0, where normalizing is steep."""
    rng = np.random.default_rng(shape)
    return rng.uniform(0.5, 1.5, (2, *shape)) * rng.choice([-1, 1], (2, *shape))


@st.composite
def broadcast(draw):
    """Two or three arrays of one batch size which NumPy would broadcast, were it not for the batch."""
    full = draw(st.lists(sizes, min_size=1, max_size=3))
    inputs = []
    for _ in range(draw(st.integers(2, 3))):
        shape = [1 if draw(st.booleans()) else size for size in full][draw(st.integers(0, len(full))) :]
        inputs.append(drawn(*shape) + len(inputs))
    return inputs


def one_by_one(function, inputs):
    """The samples merged one after the other, with NumPy's own broadcasting."""
    return np.stack([function(each) for each in zip(*inputs, strict=True)])


@given(broadcast())
def test_add_and_multiply_broadcast_each_sample(inputs):
    for layer, function in (Add(**F64), sum), (Multiply(**F64), math.prod):
        y = layer(inputs)
        np.testing.assert_allclose(y, one_by_one(function, inputs), rtol=1e-12)
        assert y.shape[1:] == layer.output_shape([each.shape[1:] for each in inputs])
        report = gradcheck.check_layer(layer, inputs)
        assert report.ok, report


@given(st.data())
def test_dot_is_a_sum_over_one_axis_of_each(data):
    shapes = [data.draw(st.lists(sizes, min_size=1, max_size=3)) for _ in range(2)]
    places = [data.draw(st.integers(0, len(shape) - 1)) for shape in shapes]
    shapes[1][places[1]] = shapes[0][places[0]]
    a, b = drawn(*shapes[0]), drawn(*shapes[1], 1)[..., 0]
    from_the_end = data.draw(st.booleans())
    axes = [place - len(shape) if from_the_end else place + 1 for place, shape in zip(places, shapes, strict=True)]
    normalize = data.draw(st.booleans())
    layer = Dot(axes, normalize, **F64)
    given = [a, b]
    if normalize:
        units = [np.linalg.norm(x, axis=axis, keepdims=True) for x, axis in zip(given, axes, strict=True)]
        a, b = a / units[0], b / units[1]
    expected = one_by_one(lambda pair: np.tensordot(*pair, places), [a, b])
    expected = expected[:, None] if expected.ndim == 1 else expected
    y = layer(given)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    assert y.shape[1:] == layer.output_shape([x.shape[1:] for x in given])
    if shapes[0][places[0]] > 1 or not normalize:  # a vector of one element has the length that divides it
        report = gradcheck.check_layer(layer, given)
        assert report.ok, report


def test_a_vector_too_short_to_be_normalized_is_magnified():
    x = np.array([[0.0, 0.0], [3e-9, 4e-9], [3.0, 4.0]])
    layer = Dot(1, normalize=True, **F64)
    y, cache = layer.forward([x, np.tile([1.0, 0.0], (3, 1))])
    np.testing.assert_allclose(y[:, 0], [0, 0.03, 0.6], rtol=1e-12)
    (dx, _), _ = layer.backward(np.ones_like(y), cache)
    np.testing.assert_allclose(dx, [[1e7, 0], [1e7, 0], [0.128, -0.096]], rtol=1e-12)


@given(st.lists(sizes, min_size=1, max_size=3), st.data())
def test_reshape_keeps_the_elements_in_order(shape, data):
    x = drawn(*shape)
    target = [*data.draw(st.permutations(shape)), *[1] * data.draw(st.integers(0, 1))]
    if data.draw(st.booleans()):
        target[data.draw(st.integers(0, len(target) - 1))] = -1
    layer = Reshape(target, **F64)
    y, cache = layer.forward(x)
    np.testing.assert_array_equal(y, x.reshape(2, *target))
    assert y.shape[1:] == layer.output_shape(tuple(shape))
    np.testing.assert_array_equal(layer.backward(y, cache)[0], x)


def test_sizes_left_open():
    assert Reshape((2, -1)).output_shape((None, 3)) == (2, None)
    assert Add().output_shape([(None, 1), (None, 3), (1, 3)]) == (None, 3)
    assert Add().output_shape([(None, 3), (4, 1)]) == (4, 3)
    assert Multiply().output_shape([(1, 1), (3,)]) == (1, 3)
    assert Dot((1, 2)).output_shape([(None, 3), (5, None)]) == (3, 5)
    with pytest.raises(ValueError, match=r"reshape got an input of shape \(None, 5, 3\), 15 elements a sample, which"):
        Reshape((2, -1))(np.ones((1, 5, 3)))  # known only now


def test_a_layer_takes_other_sizes_again():
    for layer in Add(), Multiply(), Concatenate(), Dot(2):
        assert layer([X, X]).shape[0] == 2
        assert layer([X[:1, :, :2], X[:1, :, :2]]).shape[0] == 1


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Add(), Multiply()])
def test_a_step_counts_if_it_does_in_any_input_if_all_have_masks(layer):
    np.testing.assert_array_equal(layer.output_mask([X, X], [FIRST, SECOND]), FIRST | SECOND)
    np.testing.assert_array_equal(layer.output_mask([X, X[:, :1]], [FIRST, SECOND[:, :1]]), FIRST | SECOND[:, :1])
    assert layer.output_mask([X, X], [FIRST, None]) is None
    assert layer.output_mask([X, X[..., None]], [FIRST, SECOND]) is None
    assert [layer.gives_mask(masked) for masked in ([True, True], [True, False], True)] == [True, False, True]


@pytest.mark.parametrize("layer", [Dot(1), Reshape((3, 4)), RepeatVector(2)])
def test_masks_end(layer):
    assert layer.output_mask(X, [FIRST, SECOND] if layer.merges else FIRST) is None
    assert not layer.gives_mask([True, True] if layer.merges else True)


def test_a_masked_factor_is_1_and_a_product_without_factors_0():
    layer, other = Multiply(**F64), X[::-1] + 1
    y = layer([X, other], mask=[FIRST, SECOND])
    both, m, n = X * other, FIRST[..., None], SECOND[..., None]
    np.testing.assert_array_equal(y, np.where(m & n, both, np.where(m, X, np.where(n, other, 0))))
    np.testing.assert_array_equal(layer([X, other], mask=[FIRST, None]), np.where(m, both, other))
    _, cache = layer.forward([X, other], mask=[FIRST, SECOND])
    (dx, d_other), _ = layer.backward(np.ones_like(X), cache)
    assert not dx[~FIRST].any()
    assert not d_other[~SECOND].any()


def test_a_mask_for_each_input_or_one_for_all():
    layer = Multiply(**F64)
    both = layer([X, X], mask=[FIRST, FIRST])
    np.testing.assert_array_equal(layer([X, X], mask=(FIRST, FIRST)), both)
    np.testing.assert_array_equal(layer([X, X], mask=FIRST), both)
    with pytest.raises(ValueError, match="mask of multiply must be a list of 2, one for each input, not of 1"):
        layer([X, X], mask=[FIRST])
    with pytest.raises(ValueError, match=r"mask of multiply must hold True or False .* with shape \(2, 4\)"):
        layer([X, X], mask=[FIRST, FIRST[:, :3]])
    model = Model([a := Input((4, 3)), b := Input((4, 3))], Add()([a, b]))
    with pytest.raises(ValueError, match="must be a list of 2, one for each input, not of 1"):
        model.network.forward([X, X], None, [FIRST])


# --- in a model -------------------------------------------------------------------------------------------------------


def graph():
    ids = Input((4,))
    x = Embedding(9, 3, mask_zero=True, **F64)(ids)
    steps = LSTM(3, return_sequences=True, **F64)(x)
    both = Multiply(**F64)([Add(**F64)([x, steps]), steps])
    match = Reshape((16,), **F64)(Dot(2, **F64)([both, x]))
    again = LSTM(2, **F64)(RepeatVector(3, **F64)(Dense(2, **F64)(match)))
    return Model(
        ids, Dense(1, "sigmoid", **F64)(Concatenate(**F64)([again, GlobalAveragePooling1D(**F64)(both)])), seed=0
    )


def test_a_model_of_them_has_the_gradients_that_it_should(tmp_path):
    model, ids = graph(), np.random.default_rng(1).integers(0, 9, size=(3, 4))
    model.compile("adam", "binary_crossentropy")
    assert (ids == 0).any()
    report = gradcheck.check_model(model, ids, [0, 1, 1])
    assert report.ok, report
    model.fit(ids, np.array([0, 1, 1]), verbose=0)
    model.save(tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.predict(ids, verbose=0), model.predict(ids, verbose=0))


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "no list": (lambda: Add()(X), TypeError, "add takes a list of inputs, not ndarray"),
    "no inputs": (
        lambda: Multiply()([]),
        ValueError,
        "takes a list of inputs .* but got shapes .none.",
    ),
    "batch sizes": (
        lambda: Add()([X, X[:1]]),
        ValueError,
        r"add takes inputs with the same batch size, but got shapes \(2, 4, 3\), \(1, 4, 3\)",
    ),
    "sizes": (
        lambda: Add()([X, X[:, :2]]),
        ValueError,
        r"whose sizes are equal or 1, but got shapes \(None, 4, 3\), \(None, 2, 3\)",
    ),
    "sizes in a graph": (lambda: Multiply()([Input((4, 3)), Input((4, 2))]), ValueError, "whose sizes are equal or 1"),
    "one input": (lambda: Dot(1)([X]), ValueError, r"dot takes a list of two inputs, but got shapes \(None, 4, 3\)"),
    "three inputs": (lambda: Dot(1)([X] * 3), ValueError, "dot takes a list of two inputs"),
    "axes of other sizes": (
        lambda: Dot((1, 2))([X, X]),
        ValueError,
        r"of the same size along the axes \(1, 2\), but",
    ),
    "axis too large": (lambda: Dot(3)([X, X]), ValueError, r"dot takes two inputs with the axes \(3, 3\), but got"),
    "axis too small": (lambda: Dot(-3)([X, X]), ValueError, r"with the axes \(-3, -3\), but got"),
    "no axis": (lambda: Dot(1)([X[:, 0, 0], X]), ValueError, r"with the axes \(1, 1\), but got shapes \(None\)"),
    "axis of the batch": (
        lambda: Dot((0, 1)),
        ValueError,
        r"axes must be .* other than 0 \(the batch axis\), not 0",
    ),
    "axis between": (
        lambda: Dot(1.5),
        ValueError,
        r"axes must be a whole number other than 0 \(the batch axis\), not 1.5",
    ),
    "three axes": (
        lambda: Dot((1, 1, 1)),
        ValueError,
        "axes must be a whole number or two, one for each input, not",
    ),
    "target of another size": (
        lambda: Reshape((5, 2))(X),
        ValueError,
        r"input of shape \(None, 4, 3\), 12 elements a sample, which cannot be arranged as target_shape \(5, 2\)",
    ),
    "target that does not divide": (
        lambda: Reshape((5, -1))(Input((4, 3))),
        ValueError,
        "cannot be arranged as target_shape",
    ),
    "two sizes open": (lambda: Reshape((-1, -1)), ValueError, r"sizes above 0 and at most one -1, but is \(-1, -1\)"),
    "size of 0": (lambda: Reshape((0, -1)), ValueError, r"sizes above 0 and at most one -1, but is \(0, -1\)"),
    "size of -2": (
        lambda: Reshape((-2, 2)),
        ValueError,
        "each size of target_shape must be .* at least -1",
    ),
    "no tuple": (lambda: Reshape(3), ValueError, r"target_shape must be a tuple such as \(3, -1\), not 3"),
    "n of 0": (lambda: RepeatVector(0), ValueError, "n must be a whole number above 0, not 0"),
    "a sequence repeated": (lambda: RepeatVector(2)(X), ValueError, "repeat_vector takes an input of 2 dimensions"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
