"""The fast recurrence against the textbook, whatever the sizes, activations, dtypes and kinds of input."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm import activations, gates
from scratchlstm._support import threads
from scratchlstm.kernels import numpy_recurrence
from scratchlstm.kernels.numpy_lstm import NumpyLSTM
from scratchlstm.layers import LSTM
from scratchlstm.rows import GatheredRows, Groups

NAMES = ["tanh", "sigmoid", "hard_sigmoid", "relu", "linear"]
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


def close(result, expected, dtype):
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    assert result.dtype == dtype
    scale = max(np.linalg.norm(expected), 1e-3)
    assert np.linalg.norm(result.astype(float) - expected) <= TOLERANCE[dtype] * scale


def draw(rng, *shape, dtype):
    return rng.normal(scale=0.4, size=shape).astype(dtype)


def draw_mask(rng, B, T):
    """Some of the steps of some rows; often, all steps of a row or all rows at a step are masked."""
    return (rng.random((B, T)) < 0.7) & (rng.random(T) < 0.8) & (rng.random((B, 1)) < 0.8)


def share_rows(patch):
    """Each of three threads takes its rows through the steps, as it does if these are large."""
    for name, value in {"threads": lambda: 3, "_LARGE_STEP": 0}.items():
        patch.setattr(numpy_recurrence, name, value)
    patch.setattr(threads, "threads", lambda: 3)
    patch.setattr(threads, "LARGE", 0)


CASES = {
    "sizes": st.tuples(*(st.integers(1, 6) for _ in range(4))),
    "dtype": st.sampled_from(["float64", "float32"]),
    "sequences": st.booleans(),
    "tokens": st.booleans(),
    "masked": st.booleans(),
    "reverse": st.booleans(),
    "dropout": st.booleans(),
    "apart": st.booleans(),
    "seed": st.integers(0, 10**6),
}
ACTIVATIONS = {"phi": st.sampled_from(NAMES), "sigma": st.sampled_from(NAMES)}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**CASES, **ACTIVATIONS)
def test_same_as_the_textbook(**case):
    same_as_the_textbook(NumpyLSTM, **case)


def same_as_the_textbook(
    kind, sizes, dtype, sequences, tokens, masked, reverse, dropout, apart, seed, phi="tanh", sigma="sigmoid"
):
    (B, T, E, H), rng = sizes, np.random.default_rng(seed)
    phi, sigma = activations.get(phi), activations.get(sigma)
    W, U, b = draw(rng, E, 4 * H, dtype=dtype), draw(rng, H, 4 * H, dtype=dtype), draw(rng, 4 * H, dtype=dtype)
    h0, c0, dc_last, dh_last = (draw(rng, B, H, dtype=dtype) for _ in range(4))
    if tokens:
        groups = Groups(rng.integers(0, 4, size=(B, T)))
        x = GatheredRows(draw(rng, len(groups.ids), E, dtype=dtype), groups, (4, E))
    else:
        x = draw(rng, B, T, E, dtype=dtype)
    dy = draw(rng, B, T, H, dtype=dtype) if sequences else draw(rng, B, H, dtype=dtype)

    mask = draw_mask(rng, B, T) if masked else None
    of_x = rng.integers(0, 2, size=(B, 4, E)).astype(dtype) if dropout and not tokens else None
    of_h = rng.integers(0, 2, size=(B, 4, H)).astype(dtype) if dropout else None

    kernel = kind(W, U, b, phi, sigma, reverse, of_x, of_h)
    with pytest.MonkeyPatch.context() as patch:
        if apart:
            share_rows(patch)
        h, final = kernel.forward(x, [h0, c0], return_sequences=sequences, mask=mask)
        dx, gradients, d_initial = kernel.backward(dy, [dh_last, dc_last])
        if seed % 2:  # the gates, where dz has taken their place, are computed again
            dx, gradients, d_initial = kernel.backward(dy, [dh_last, dc_last])

    # the textbook in float64 throughout, so that only the kernel's rounding shows
    wide = [np.asarray(array, dtype=float) for array in (x, h0, c0, W, U, b)]
    order = slice(None, None, -1 if reverse else 1)
    x_in_order, W_wide, mask_in_order = wide[0][:, order], wide[3], None if mask is None else mask[:, order]
    if of_x is not None:
        x_in_order, W_wide = gates.gate_copies(x_in_order, of_x[:, None]), gates.block_diagonal(W_wide)
    hs, last_c, caches = gates.lstm_forward(x_in_order, *wide[1:3], W_wide, *wide[4:], sigma, phi, mask_in_order, of_h)
    dhs = np.array(dy, dtype=float)[:, order] if sequences else np.zeros((B, T, H))
    dhs[:, -1] += dh_last if sequences else dy.astype(float) + dh_last
    expected_dx, *expected = gates.lstm_backward(
        dhs, dc_last.astype(float), caches, W_wide, wide[4], sigma.prime, phi.prime, mask_in_order, of_h
    )
    if of_x is not None:
        expected_dx, expected[0] = gates.sum_copies(expected_dx, of_x[:, None]), gates.diagonal_blocks(expected[0])
    expected_dx, last_h, hs = expected_dx[:, order], hs[:, -1], hs[:, order]
    if tokens:
        summed = np.zeros((len(groups.ids), E))
        np.add.at(summed, groups.index, expected_dx)
        expected_dx = summed

    if dtype == "float32" and {phi.name, sigma.name} & {"relu", "hard_sigmoid"}:
        return close(h, hs if sequences else last_h, dtype)  # rounding may cross a kink, where the slope jumps
    for result, value in zip(
        [h, *final, dx, *gradients, *d_initial],
        [hs if sequences else last_h, last_h, last_c, expected_dx, *expected],
        strict=True,
    ):
        close(result, value, dtype)
    return None


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize(("masked", "reverse"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("B", [1, 3, 128, 131, 260])
def test_inference_gives_the_same_and_keeps_nothing(B, masked, reverse, tokens, sequences):
    inference_gives_the_same(NumpyLSTM, B, masked, reverse, tokens, sequences)


def inference_gives_the_same(kind, B, masked, reverse, tokens, sequences):
    rng = np.random.default_rng(0)
    T, E, H = 7, 4, 5
    W, U, b = rng.normal(size=(E, 4 * H)), rng.normal(size=(H, 4 * H)), rng.normal(size=4 * H)
    h0, c0 = rng.normal(size=(B, H)), rng.normal(size=(B, H))
    if tokens:
        groups = Groups(rng.integers(0, 9, size=(B, T)))
        x = GatheredRows(rng.normal(size=(len(groups.ids), E)), groups, (9, E))
    else:
        x = rng.normal(size=(B, T, E))
    mask = rng.random((B, T)) < 0.5 if masked else None
    h, final = kind(W, U, b, reverse=reverse).forward(x, [h0, c0], None, sequences, mask)
    before = h0.copy(), c0.copy()
    kernel = kind(W, U, b, reverse=reverse)
    found_h, found = kernel.infer(x, [h0, c0], sequences, mask)
    for result, value in zip([found_h, *found], [h, *final], strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-15)
    with pytest.MonkeyPatch.context() as patch:
        share_rows(patch)
        again_h, again = kernel.infer(x, [h0, c0], sequences, mask)
    for result, value in zip([again_h, *again], [found_h, *found], strict=True):
        assert np.array_equal(result, value)
    assert not hasattr(kernel, "workspace")
    assert np.array_equal(h0, before[0])
    assert np.array_equal(c0, before[1])


def test_workspace_is_used_again_for_the_same_shape_only():
    rng = np.random.default_rng(0)
    kernel = NumpyLSTM(rng.normal(size=(2, 12)), rng.normal(size=(3, 12)), rng.normal(size=12))

    def run(B, T, workspace=None):
        zeros = np.zeros((B, 3))
        x = np.random.default_rng(1).normal(size=(4, 6, 2))[:B, :T]
        return kernel.forward(x, [zeros, zeros], workspace)[0], kernel.workspace

    first, workspace = run(4, 5)
    again, same = run(4, 5, workspace)
    assert same is workspace
    assert np.array_equal(first, again)
    other, new = run(4, 6, workspace)
    assert new is not workspace
    assert np.array_equal(other[:, :5], first)


def test_saturated_gates_and_long_sequences_stay_finite():
    saturated_gates_stay_finite(NumpyLSTM)


def saturated_gates_stay_finite(kind):
    rng = np.random.default_rng(0)
    B, T, E, H = 2, 5000, 3, 4
    W, U = (100 * rng.normal(size=(rows, 4 * H)).astype("float32") for rows in (E, H))
    kernel = kind(W, U, np.zeros(4 * H, dtype="float32"))
    zeros = np.zeros((B, H), dtype="float32")
    with np.errstate(over="raise", invalid="raise"):
        h, final = kernel.forward(100 * rng.normal(size=(B, T, E)).astype("float32"), [zeros, zeros])
        dx, gradients, d_initial = kernel.backward(np.ones_like(h), [None, None])
    assert np.all(np.abs(h) <= 1)
    assert all(np.isfinite(array).all() for array in (*final, dx, *gradients, *d_initial))


@pytest.mark.parametrize("tokens", [True, False])
def test_a_second_backward_pass_over_the_same_forward_pass(tokens):
    x = GatheredRows(np.ones((1, 2)), Groups(np.zeros((2, 3), int)), (1, 2)) if tokens else np.ones((2, 3, 2))
    layer = LSTM(2, dtype="float64")
    y, cache = layer.forward((x, np.ones((2, 2)), np.ones((2, 2))))
    dy = np.random.default_rng(0).normal(size=y.shape)

    def gradients():
        (dx, *d_states), grads = layer.backward(dy, cache)
        return np.asarray(dx), *d_states, *grads.values()

    first = gradients()
    layer.params["kernel"] += 1  # it is the forward pass as it was that counts
    assert all(np.array_equal(a, b) for a, b in zip(first, gradients(), strict=True))


@pytest.mark.parametrize("named", [True, False])
def test_an_activation_of_the_users_own_is_called_by_one_thread(monkeypatch, named):
    for name, value in {"threads": lambda: 2, "_LARGE_STEP": 0}.items():
        monkeypatch.setattr(numpy_recurrence, name, value)
    monkeypatch.setattr(NumpyLSTM, "strip", 2)
    shared = []
    monkeypatch.setattr(
        numpy_recurrence,
        "spread",
        lambda tasks, multiplications=1: shared.append(multiplications * len(tasks)) or [task() for task in tasks],
    )
    relu = activations.get("relu")
    own = relu if named else activations.Activation("own", lambda z: relu(z), relu.prime)
    kernel = NumpyLSTM(np.ones((3, 16)), np.ones((4, 16)), np.ones(16), own)
    x, state = np.ones((6, 5, 3)), np.zeros((6, 4))
    kernel.infer(x, [state, state])
    inferred = shared.pop()
    kernel.forward(x, [state, state])
    assert (inferred > 0, shared.pop() > 1) == (named, named)


def test_a_copy_of_a_layer_goes_the_same_way():
    """The one tanh for all gates is taken by what the activations are, not by which object holds them."""
    layer = LSTM(4, implementation="numpy")
    layer.build((5, 3))
    kernels = [each.forward(np.ones((2, 5, 3)))[1].kept.parts[0].steps for each in (layer, copy.deepcopy(layer))]
    assert [kernel.one_tanh for kernel in kernels] == [True, True]
