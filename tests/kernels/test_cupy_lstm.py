"""The GPU's recurrence against the textbook, on the emulator of tests/standin, which watches indices and barriers."""

import numpy as np
import pytest
import raw_module
from cupy_standin import in_place_of_cupy
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm_case import H100, Case, check, here, there

from scratchlstm._support import device
from scratchlstm.kernels import cupy_lstm
from scratchlstm.kernels.cupy_lstm import Limits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(raw_module.compiler() is None, reason="the emulator of a GPU needs g++ or clang++"),
]


@pytest.fixture(autouse=True, scope="module")
def kernels():
    with in_place_of_cupy():
        yield


@pytest.fixture
def layout(monkeypatch):
    """Lay version 3 out as asked for, whatever the device; None for step by step."""

    def lay_out(rows_and_held):
        def plan(H, B, itemsize, limits):
            return rows_and_held and cupy_lstm._layout(H, *rows_and_held, itemsize)

        monkeypatch.setattr(cupy_lstm, "plan", plan)

    return lay_out


@pytest.fixture
def launches(monkeypatch):
    """The names of the kernels that were launched."""
    names, compiled = [], device.kernel

    def kernel(file, name, dtype, **definitions):
        function = compiled(file, name, dtype, **definitions)

        def launch(*args, **options):
            names.append(name)
            function(*args, **options)

        return launch

    monkeypatch.setattr(device, "kernel", kernel)
    return names


# 13 units fill neither their quads' parts nor their warps
SHAPES = [
    {"masked": True},
    {"tokens": True, "sequences": False, "reverse": True},
    {"masked": True, "tokens": True, "reverse": True, "last": False},
    {"B": 1, "T": 1, "sequences": False, "last": False},
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_each_version_gives_what_the_textbook_gives(version, dtype):
    for shape in SHAPES:
        check(Case(**{"B": 5, "H": 13, "dtype": dtype, **shape}), version=version)


@pytest.mark.sanitized
@pytest.mark.parametrize("version", [1, 2, 3, "step by step"])
def test_a_small_case(version, layout):
    options = {} if isinstance(version, str) else {"version": version}
    layout(None if version == "step by step" else (2, 1))
    for shape in {"masked": True}, {"tokens": True, "sequences": False, "reverse": True}:
        check(Case(B=3, H=5, **shape), **options)


# Where the kernels go other ways: several rows a block, the last block not full; part or all of U in shared memory; and
# step by step, where U is too large for all of that
@pytest.mark.parametrize(
    ("rows_and_held", "dtype"),
    [((2, 1), "float64"), ((8, 4), "float64"), ((2, 0), "float32"), (None, "float64"), (None, "float32")],
)
def test_each_layout_gives_what_the_textbook_gives(rows_and_held, dtype, layout):
    layout(rows_and_held)
    for shape in SHAPES:
        check(Case(**{"B": 5, "H": 13, "dtype": dtype, **shape}))


@pytest.mark.parametrize(
    ("H", "dtype", "held"),
    [(1, "float64", 1), (60, "float32", 15), (128, "float32", 21), (150, "float32", None), (97, "float64", None)],
)
def test_sizes_as_an_h100_lays_them_out(H, dtype, held):
    case = Case(B=2, T=3, H=H, E=3, dtype=dtype, tokens=True, masked=True)
    plan = cupy_lstm.plan(H, case.B, np.dtype(dtype).itemsize, H100)
    assert held == (plan and plan.held)
    check(case)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 3), st.sampled_from([1, 13])),
    sequences=st.booleans(),
    tokens=st.booleans(),
    masked=st.booleans(),
    reverse=st.booleans(),
    last=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_same_as_the_textbook(sizes, sequences, tokens, masked, reverse, last, seed):
    B, T, E, H = sizes
    check(Case(B, T, E, H, "float64", sequences, tokens, masked, reverse, last, seed))


@pytest.mark.parametrize("rows_and_held", [(1, 4), (2, 1), None])
def test_where_all_is_masked_states_and_gradients_pass_by(rows_and_held, layout):
    layout(rows_and_held)
    case = Case(H=13, masked=True, reverse=True)
    case.mask[:] = False
    h, c, dx, dW, dU, db, dh0, dc0 = check(case)
    assert np.array_equal(h, np.broadcast_to(case.h0[:, None], h.shape))
    assert np.array_equal(c, case.c0)
    assert not any(np.any(gradient) for gradient in (dx, dW, dU, db))
    np.testing.assert_allclose(dh0, case.dh.sum(axis=1) + case.dh_last, rtol=1e-13)
    assert np.array_equal(dc0, case.dc_last)


@pytest.mark.parametrize("rows_and_held", [(1, 4), (2, 1), None])
def test_nothing_of_a_masked_step_reaches_the_states(rows_and_held, layout):
    layout(rows_and_held)
    case = Case(H=13, masked=True)
    expected = case.forward(case.lstm())
    case.x[~case.mask] = np.nan
    h, c = case.forward(case.lstm())
    assert np.array_equal(h, expected[0])
    assert np.array_equal(c, expected[1])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_saturated_gates_stay_finite(version):
    case = Case(H=13, T=20, dtype="float32")
    case.W *= 1000
    case.U *= 1000
    results = case.results(version=version)
    assert all(np.isfinite(array).all() for array in results)
    assert np.all(np.abs(results[0]) <= 1)


@pytest.mark.parametrize("rows_and_held", [(1, 4), (2, 1), None])
@pytest.mark.parametrize("sequences", [True, False])
def test_inference_gives_the_same_and_keeps_nothing(sequences, rows_and_held, layout):
    layout(rows_and_held)
    for tokens in (True, False):
        case = Case(B=5, H=13, tokens=tokens, masked=True, reverse=True, sequences=sequences)
        lstm, states = case.lstm(), [there(case.h0), there(case.c0)]
        h, final = lstm.infer(there(case.x), states, sequences, there(case.mask))
        expected_h, expected_c, *_ = case.textbook()
        last_h = expected_h[:, 0] if sequences else expected_h
        for result, value in zip(here([h, *final]), [expected_h, last_h, expected_c], strict=True):
            np.testing.assert_allclose(result, value, rtol=1e-11, atol=1e-14)
        assert not hasattr(lstm, "workspace")
        assert np.array_equal(states[0].get(), case.h0)
        assert np.array_equal(states[1].get(), case.c0)


@pytest.mark.parametrize("rows_and_held", [(1, 4), None])
def test_the_forward_pass_counts_as_it_was(rows_and_held, layout):
    """A second backward pass gives the same, and an optimizer that moved the parameters since changes nothing."""
    layout(rows_and_held)
    case = Case(H=13, tokens=True, masked=True)
    expected = case.results()
    parameters = W, U, b = there(case.W), there(case.U), there(case.b)
    lstm = cupy_lstm.CupyLSTM(W, U, b, case.reverse)
    h, _ = lstm.forward(there(case.x), [there(case.h0), there(case.c0)], None, True, there(case.mask))
    h[...] = np.nan  # it is the caller's
    for parameter in parameters:
        parameter += 1
    for _ in range(2):
        gradients = case.backward(lstm)
        assert all(np.array_equal(a, b) for a, b in zip(gradients, expected[2:], strict=True))
    assert case.backward(lstm, input_gradient=False)[0] is None


def test_a_workspace_is_used_again_for_the_same_shape_only():
    case, other = Case(H=13, dtype="float32"), Case(H=13, B=2, dtype="float32")
    lstm = case.lstm()
    first, _ = case.forward(lstm)
    workspace = lstm.workspace
    again, _ = case.forward(lstm, workspace)
    assert lstm.workspace is workspace
    assert np.array_equal(first, again)
    other.forward(lstm, workspace)
    assert lstm.workspace is not workspace


def test_a_row_is_computed_alike_whatever_stands_beside_it(layout):
    case = Case(B=5, H=13, masked=True)
    layout((1, 4))
    expected = case.results()
    for rows_and_held in [(2, 1), (8, 4)]:
        layout(rows_and_held)
        results = case.results()
        assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize("rows_and_held", [(1, 4), None])
def test_an_empty_batch(rows_and_held, layout):
    layout(rows_and_held)
    check(Case(B=0, H=13))


def test_launches(launches, layout):
    case = Case(T=7, H=13, tokens=True)
    case.results()
    assert launches == ["lstm_forward", "lstm_backward", "sum_rows"]
    launches.clear()
    layout(None)
    case.results()
    assert launches == ["lstm_step_forward"] * 7 + ["lstm_step_backward"] * 7 + ["sum_rows"]


# --- the plan -------------------------------------------------------------------------------------------------------

DEVICES = {
    "T4": Limits(multiprocessors=40, registers=65536, shared=64 << 10),
    "A100": Limits(multiprocessors=108, registers=65536, shared=163 << 10),
    "RTX 4090": Limits(multiprocessors=128, registers=65536, shared=99 << 10),
    "H100": H100,
}
# the most units that fit, in float32 and float64
MOST_UNITS = {"T4": (112, 72), "A100": (128, 96), "RTX 4090": (128, 84), "H100": (144, 96)}


@pytest.mark.parametrize("name", DEVICES)
def test_a_plan_keeps_to_what_the_device_has(name):
    limits = DEVICES[name]
    for itemsize, most in zip((4, 8), MOST_UNITS[name], strict=True):
        for H in range(1, 300):
            for B in (1, limits.multiprocessors, limits.multiprocessors + 1, 100_000):
                plan = cupy_lstm.plan(H, B, itemsize, limits)
                assert (plan is not None) == (most >= H)
                if plan is None:
                    continue
                assert 4 * H <= plan.threads <= 1024
                assert plan.threads % 32 == 0
                assert 0 <= plan.held <= -(-H // 4)
                assert plan.forward_bytes <= plan.backward_bytes <= limits.shared
                registers = 4 * plan.held * itemsize // 4  # of weights
                assert registers * plan.threads < limits.registers
                assert plan.rows == 1 or limits.multiprocessors < B  # no row waits for another without need
    assert cupy_lstm.plan(60, 128, 4, H100).rows == 1
    assert cupy_lstm.plan(60, 1024, 4, H100).rows == 8
