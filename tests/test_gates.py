"""The page people study: right on NumPy, unchanged on a strict array module, and never overflowing."""

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scratchlstm import gates

FINITE = {"allow_nan": False, "allow_infinity": False}
B, T, E, H = 3, 5, 4, 2


def sequence(rng):
    """x, h0, c0, W, U, b and, for the backward pass, dhs and dc."""
    shapes = (B, T, E), (B, H), (B, H), (E, 4 * H), (H, 4 * H), (4 * H,), (B, T, H), (B, H)
    return [rng.normal(size=shape) for shape in shapes]


@given(arrays(np.float32, array_shapes(), elements=st.floats(width=32, **FINITE)))
def test_sigmoid_never_overflows_and_stays_in_range(x):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = gates.sigmoid(x)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    assert np.all((y >= 0) & (y <= 1))


@given(st.floats(-700, 700))
def test_sigmoid_is_its_formula_and_mirrors(x):
    value = float(gates.sigmoid(np.array(x)))
    assert value == pytest.approx(1 / (1 + np.exp(-x)), rel=1e-14)
    assert value + float(gates.sigmoid(np.array(-x))) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("x", [-1e308, -1e4, 1e4, 1e308])
def test_sigmoid_saturates_at_its_limits(x):
    assert float(gates.sigmoid(np.array(x))) == (0.0 if x < 0 else 1.0)


@pytest.mark.parametrize(("function", "prime"), [(gates.sigmoid, gates.sigmoid_prime), (gates.tanh, gates.tanh_prime)])
def test_primes_are_the_slopes(function, prime):
    x = np.linspace(-4, 4, 41)
    slope = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(prime(function(x)), slope, rtol=1e-8, atol=1e-10)


def test_step_is_the_six_equations_number_by_number():
    rng = np.random.default_rng(0)
    x, h_prev, c_prev, W, U, b = sequence(rng)[:6]
    h, c, _ = gates.lstm_step_forward(x[:, 0], h_prev, c_prev, W, U, b)

    def sigma(z):
        return 1 / (1 + np.exp(-z))

    for n in range(B):
        for j in range(H):
            z_i, z_f, z_g, z_o = (
                sum(x[n, 0, e] * W[e, column] for e in range(E))
                + sum(h_prev[n, k] * U[k, column] for k in range(H))
                + b[column]
                for column in (j, H + j, 2 * H + j, 3 * H + j)
            )
            cell = sigma(z_f) * c_prev[n, j] + sigma(z_i) * np.tanh(z_g)
            assert c[n, j] == pytest.approx(cell, rel=1e-12)
            assert h[n, j] == pytest.approx(sigma(z_o) * np.tanh(cell), rel=1e-12)


def forward_and_back(x, h0, c0, W, U, b, dhs, dc, mask=None, of_x=None, of_h=None):
    """Every result of both passes; with dropout for each gate where `of_x` and `of_h` are given."""
    if of_x is not None:
        x, W = gates.gate_copies(x, of_x[:, None, ...]), gates.block_diagonal(W)
    hs, c, caches = gates.lstm_forward(x, h0, c0, W, U, b, mask=mask, recurrent_dropout=of_h)
    dx, dW, *rest = gates.lstm_backward(dhs, dc, caches, W, U, mask=mask, recurrent_dropout=of_h)
    if of_x is not None:
        dx, dW = gates.sum_copies(dx, of_x[:, None, ...]), gates.diagonal_blocks(dW)
    return [hs, c, dx, dW, *rest]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_runs_unchanged_on_a_strict_array_module(masked, dropout):
    rng = np.random.default_rng(1)
    tensors = sequence(rng)
    tensors.append(rng.random((B, T)) < 0.5 if masked else None)
    tensors += [2.0 * rng.integers(0, 2, size=(B, 4, n)) if dropout else None for n in (E, H)]
    results = forward_and_back(*(None if each is None else strict.asarray(each) for each in tensors))
    for result, value in zip(results, forward_and_back(*tensors), strict=True):
        assert type(result) is type(strict.asarray(0))
        np.testing.assert_allclose(np.asarray(result), value, rtol=1e-12, atol=1e-14)


def test_backward_of_a_sequence_is_the_slope_of_every_tensor():
    tensors = sequence(np.random.default_rng(2))
    *inputs, dhs, dc = tensors

    def loss():
        hs, c, _ = gates.lstm_forward(*inputs)
        return np.sum(hs * dhs) + np.sum(c * dc)

    _, _, caches = gates.lstm_forward(*inputs)
    dx, dW, dU, db, dh0, dc0 = gates.lstm_backward(dhs, dc, caches, inputs[3], inputs[4])
    for array, gradient in zip(inputs, (dx, dh0, dc0, dW, dU, db), strict=True):
        numerical = np.empty_like(array)
        for place in np.ndindex(array.shape):
            value = array[place]
            array[place] = value + 1e-5
            above = loss()
            array[place] = value - 1e-5
            numerical[place] = (above - loss()) / 2e-5
            array[place] = value
        assert np.linalg.norm(gradient - numerical) < 1e-8 * np.linalg.norm(numerical)
