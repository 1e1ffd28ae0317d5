"""The fast GRU against the equations written out here, whatever the sizes, activations, dtypes and kinds of input."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_numpy_lstm import ACTIVATIONS, close, draw, draw_mask, share_rows
from test_numpy_lstm import CASES as SHARED

from scratchlstm import activations, gradcheck
from scratchlstm.kernels.numpy_gru import NumpyGRU
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.rows import GatheredRows, Groups

TANH, SIGMOID = activations.TANH, activations.SIGMOID


class GRU(NamedTuple):
    """The textbook: one step forward and backward, and the loop over a sequence."""

    W: np.ndarray  #  (E, 3H)
    U: np.ndarray  #  (H, 3H)
    b: np.ndarray  #  (2, 3H) with reset_after, else (3H,)
    phi: activations.Activation = TANH
    sigma: activations.Activation = SIGMOID
    reset_after: bool = True
    of_x: np.ndarray | None = None  # (B, 3, E)
    of_h: np.ndarray | None = None  # (B, 3, H)

    def dropped(self, x, h):
        """What enters the products of u, r and n."""
        x = [x] * 3 if self.of_x is None else (x[:, None] * self.of_x).swapaxes(0, 1)
        return x, [h] * 3 if self.of_h is None else (h[:, None] * self.of_h).swapaxes(0, 1)

    def step(self, x, h):
        W, U, b = (np.split(array, 3, axis=-1) for array in (self.W, self.U, self.b))
        (x_u, x_r, x_n), (h_u, h_r, h_n) = self.dropped(x, h)
        b_u, b_r, b_n = (each.sum(axis=0) if self.reset_after else each for each in b)
        u = self.sigma(x_u @ W[0] + h_u @ U[0] + b_u)
        r = self.sigma(x_r @ W[1] + h_r @ U[1] + b_r)
        if self.reset_after:
            inner = h_n @ U[2] + b[2][1]
            n = self.phi(x_n @ W[2] + b[2][0] + r * inner)
        else:
            inner = r * h_n
            n = self.phi(x_n @ W[2] + inner @ U[2] + b_n)
        return u * h + (1 - u) * n, (x, h, u, r, n, inner)

    def step_back(self, dh, cache):
        """dx, dh_prev, dW, dU, db."""
        x, h, u, r, n, inner = cache
        W, U = (np.split(array, 3, axis=-1) for array in (self.W, self.U))
        x_in, (h_u, h_r, h_n) = self.dropped(x, h)
        du, dn = dh * (h - n), dh * (1 - u)
        dz_u, dz_n = du * self.sigma.prime(u), dn * self.phi.prime(n)
        if self.reset_after:
            dr, of_inner = dz_n * inner, dz_n * r
            dh_n, dU_n, db_n = of_inner @ U[2].T, h_n.T @ of_inner, of_inner.sum(axis=0)
        else:
            of_inner = dz_n @ U[2].T
            dr, dh_n, dU_n = of_inner * h_n, of_inner * r, inner.T @ dz_n
        dz_r = dr * self.sigma.prime(r)
        dz = dz_u, dz_r, dz_n
        to_x = np.stack([d @ W_k.T for d, W_k in zip(dz, W, strict=True)], axis=1)
        to_h = np.stack([dz_u @ U[0].T, dz_r @ U[1].T, dh_n], axis=1)
        dx, dh_in = (
            (d if kept is None else d * kept).sum(axis=1) for d, kept in ((to_x, self.of_x), (to_h, self.of_h))
        )
        dW = np.hstack([x_k.T @ d for x_k, d in zip(x_in, dz, strict=True)])
        db = np.hstack(dz).sum(axis=0)
        if self.reset_after:
            db = np.stack([db, np.hstack([db[: -len(db_n)], db_n])])
        return dx, dh * u + dh_in, dW, np.hstack([h_u.T @ dz_u, h_r.T @ dz_r, dU_n]), db

    def forward(self, x, h, mask):
        hs, caches = [], []
        for t in range(x.shape[1]):
            h_t, cache = self.step(x[:, t], h)
            h = np.where(mask[:, t, None], h_t, h)
            hs.append(h)
            caches.append(cache)
        return np.stack(hs, axis=1), caches

    def backward(self, dhs, caches, mask):
        """dx, dW, dU, db, dh0."""
        dh, dxs, totals = np.zeros_like(dhs[:, 0]), [], [0, 0, 0]
        for t in reversed(range(len(caches))):
            dh = dh + dhs[:, t]
            valid = mask[:, t, None]
            dx, dh_prev, *grads = self.step_back(np.where(valid, dh, 0), caches[t])
            dh = np.where(valid, dh_prev, dh)
            dxs.append(dx)
            totals = [total + each for total, each in zip(totals, grads, strict=True)]
        return np.stack(dxs[::-1], axis=1), *totals, dh


def parameters(rng, E, H, after, dtype="float64"):
    shape = (2, 3 * H) if after else (3 * H,)
    return draw(rng, E, 3 * H, dtype=dtype), draw(rng, H, 3 * H, dtype=dtype), draw(rng, *shape, dtype=dtype)


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("dropout", [True, False])
def test_the_equations_of_these_tests_against_central_differences(after, dropout):
    rng, (B, T, E, H) = np.random.default_rng(0), (2, 4, 3, 5)
    of_x, of_h = (rng.random((B, 3, size)) if dropout else None for size in (E, H))
    mask = np.array([[True, False, True, True], [True] * 4])

    def forward(x, h0, W, U, b):
        gru = GRU(W, U, b, TANH, SIGMOID, after, of_x, of_h)
        hs, caches = gru.forward(x, h0, mask)
        return hs, (gru, caches)

    def backward(dhs, cache):
        gru, caches = cache
        dx, dW, dU, db, dh0 = gru.backward(dhs, caches, mask)
        return dx, dh0, dW, dU, db

    inputs = rng.normal(size=(B, T, E)), rng.normal(size=(B, H)), *parameters(rng, E, H, after)
    assert gradcheck.check_functions(forward, backward, inputs).ok


CASES = SHARED | {"after": st.booleans(), "last": st.booleans()}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**CASES, **ACTIVATIONS)
def test_same_as_the_equations(**case):
    same_as_the_equations(NumpyGRU, **case)


def same_as_the_equations(
    kind, sizes, dtype, after, sequences, tokens, masked, reverse, dropout, last, apart, seed, phi="tanh",
    sigma="sigmoid",
):  # fmt: skip
    (B, T, E, H), rng = sizes, np.random.default_rng(seed)
    phi, sigma = activations.get(phi), activations.get(sigma)
    W, U, b = parameters(rng, E, H, after, dtype)
    h0, dh_last = (draw(rng, B, H, dtype=dtype) for _ in range(2))
    if tokens:
        groups = Groups(rng.integers(0, 4, size=(B, T)))
        x = GatheredRows(draw(rng, len(groups.ids), E, dtype=dtype), groups, (4, E))
    else:
        x = draw(rng, B, T, E, dtype=dtype)
    dy = draw(rng, B, T, H, dtype=dtype) if sequences else draw(rng, B, H, dtype=dtype)
    mask = draw_mask(rng, B, T) if masked else None
    of_x = rng.integers(0, 3, size=(B, 3, E)).astype(dtype) if dropout and not tokens else None
    of_h = rng.integers(0, 3, size=(B, 3, H)).astype(dtype) if dropout else None

    kernel = kind(W, U, b, phi, sigma, reverse, of_x, of_h, after)
    with pytest.MonkeyPatch.context() as patch:
        if apart:
            share_rows(patch)
        h, (h_last,) = kernel.forward(x, [h0], return_sequences=sequences, mask=mask)
        dx, gradients, d_initial = kernel.backward(dy, [dh_last if last else None])
        if seed % 2:  # what the first backward pass has overwritten is computed again
            dx, gradients, d_initial = kernel.backward(dy, [dh_last if last else None])

    # the equations in float64 throughout, so that only the kernel's rounding shows
    wide = [np.asarray(array, dtype=float) for array in (x, h0, W, U, b)]
    order = slice(None, None, -1 if reverse else 1)
    gru = GRU(*wide[2:], phi, sigma, after, of_x, of_h)
    in_order = np.ones((B, T), bool) if mask is None else mask[:, order]
    hs, caches = gru.forward(wide[0][:, order], wide[1], in_order)
    dhs = np.array(dy, dtype=float)[:, order] if sequences else np.zeros((B, T, H))
    dhs[:, -1] += (0 if sequences else dy) + (dh_last if last else 0)
    expected_dx, *expected = gru.backward(dhs, caches, in_order)
    expected_dx, expected_last, hs = expected_dx[:, order], hs[:, -1], hs[:, order]
    if tokens:
        at_places, expected_dx = expected_dx, np.zeros((len(groups.ids), E))
        np.add.at(expected_dx, groups.index, at_places)

    results = [h, h_last, dx, *gradients, *d_initial]
    wanted = [hs if sequences else expected_last, expected_last, expected_dx, *expected]
    if dtype == "float32" and {phi.name, sigma.name} & {"relu", "hard_sigmoid"}:
        results, wanted = results[:2], wanted[:2]  # rounding may cross a kink, where the slope jumps
    for result, value in zip(results, wanted, strict=True):
        close(result, value, dtype)


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_inference_gives_the_same_and_keeps_nothing(masked, tokens, sequences, after):
    inference_gives_the_same(NumpyGRU, masked, tokens, sequences, after)


def inference_gives_the_same(kind, masked, tokens, sequences, after):
    rng, (B, T, E, H) = np.random.default_rng(0), (131, 5, 4, 3)
    kernel = kind(*parameters(rng, E, H, after), reverse=masked, reset_after=after)
    groups, h0 = Groups(rng.integers(0, 9, size=(B, T))), rng.normal(size=(B, H))
    x = GatheredRows(rng.normal(size=(len(groups.ids), E)), groups, (9, E)) if tokens else rng.normal(size=(B, T, E))
    mask, before = rng.random((B, T)) < 0.5 if masked else None, h0.copy()
    found = kernel.infer(x, [h0], sequences, mask)
    assert not hasattr(kernel, "workspace")
    expected = kernel.forward(x, [h0], None, sequences, mask)
    for result, value in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-15)
    assert not np.shares_memory(found[0], found[1][0])
    assert np.array_equal(h0, before)


@pytest.mark.parametrize("after", [True, False])
def test_any_number_of_passes_may_be_open_whatever_becomes_of_the_parameters(after):
    rng, (B, T, E, H) = np.random.default_rng(0), (3, 4, 2, 5)
    W, U, b = parameters(rng, E, H, after)
    masks = np.array([[True, False, True, True], [False] * 4, [False, True, False, False]]), None
    x, h0, dy, d_last = (rng.normal(size=(2, *shape)) for shape in ((B, T, E), (B, H), (B, T, H), (B, H)))

    def gradients(kernel, number):
        dx, weights, d_initial = kernel.backward(dy[number], [d_last[number]])
        return [np.array(each) for each in (dx, *weights, *d_initial)]

    def kernel(number, workspace=None):
        one = NumpyGRU(W, U, b, reset_after=after)
        one.forward(x[number], [h0[number]], workspace, mask=masks[number])
        return one

    expected = [gradients(kernel(number), number) for number in range(2)]
    first, second = kernel(0), kernel(1)
    for parameter in (W, U, b):
        parameter += 1
    for number, one in ((1, second), (0, first), (0, first), (1, second)):
        for found, value in zip(gradients(one, number), expected[number], strict=True):
            assert np.array_equal(found, value)
    for parameter in (W, U, b):
        parameter -= 1
    again = kernel(0, second.workspace)  # memory that held another pass
    assert again.workspace is second.workspace
    for found, value in zip(gradients(again, 0), expected[0], strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-14)


def test_only_what_is_wanted_is_computed():
    rng = np.random.default_rng(0)
    kernel = NumpyGRU(*parameters(rng, 3, 2, True))
    kernel.forward(rng.normal(size=(4, 5, 3)), [np.zeros((4, 2))])
    dx, gradients, (dh0,) = kernel.backward(np.ones((4, 5, 2)), [None])
    assert kernel.backward(np.ones((4, 5, 2)), [None], input_gradient=False)[0] is None
    without = kernel.backward(np.ones((4, 5, 2)), [None], weight_gradients=False)
    assert without[1] == [None] * 3
    assert np.array_equal(without[0], dx)
    assert np.array_equal(without[2][0], dh0)
    assert [gradient.shape for gradient in gradients] == [(3, 6), (2, 6), (2, 6)]


def test_nothing_of_a_masked_step_reaches_the_state_or_a_recurrent_gradient():
    masked_steps_reach_nothing(NumpyGRU)


def masked_steps_reach_nothing(kind):
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(3, 4, 2)), rng.random((3, 4)) < 0.5
    mask[:, 2] = False
    for after in (True, False):
        results = []
        for beside in (0.0, np.nan):
            kernel = kind(*parameters(np.random.default_rng(1), 2, 5, after), reset_after=after)
            workspace = kind.memory.empty(4, 3, 5, np.dtype(float))
            for array in (workspace.gates, workspace.inner, *workspace.states):
                array[...] = beside
            h, final = kernel.forward(np.where(mask[..., None], x, beside), [np.ones((3, 5))], workspace, mask=mask)
            _, (_, dU, db), d_initial = kernel.backward(np.ones_like(h), [None])
            results.append([h, *final, dU, db, *d_initial])
        for clean, other in zip(*results, strict=True):
            assert np.array_equal(clean, other)


def test_a_workspace_belongs_to_its_cell():
    gru, lstm = (kernel.memory.empty(4, 3, 2, np.dtype(float)) for kernel in (NumpyGRU, NumpyLSTM))
    assert gru.fits(4, 3, 2, np.dtype(float))
    assert not gru.fits(4, 3, 2, np.dtype("float32"))
    assert not isinstance(lstm, NumpyGRU.memory)
    assert not isinstance(gru, NumpyLSTM.memory)


def test_saturated_gates_and_long_sequences_stay_finite():
    saturated_gates_stay_finite(NumpyGRU)


def saturated_gates_stay_finite(kind):
    rng = np.random.default_rng(0)
    B, T, E, H = 2, 2000, 3, 4
    W, U, b = (100 * array for array in parameters(rng, E, H, True, "float32"))
    kernel = kind(W, U, b)
    with np.errstate(over="raise", invalid="raise"):
        h, final = kernel.forward(draw(rng, B, T, E, dtype="float32"), [np.zeros((B, H), "float32")])
        dx, gradients, d_initial = kernel.backward(np.ones_like(h), [None])
    assert np.all(np.abs(h) <= 1)
    assert all(np.isfinite(array).all() for array in (*final, dx, *gradients, *d_initial))
