"""The compiled GRU against the equations; what holds for a compiled LSTM, too, is in test_numba_recurrence.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
pytest.importorskip("scipy")

import test_numpy_gru
from test_numba_lstm import cut_into_blocks, with_combinations

from scratchlstm.kernels.numba_gru import NumbaGRU


@pytest.mark.slow  # which compiles six combinations of options
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    blocked=st.booleans(),
    **with_combinations(test_numpy_gru.CASES, "masked", "dropout", "dtype", "after", "tokens", "sequences"),
)
def test_same_as_the_equations(blocked, options, **case):
    with pytest.MonkeyPatch.context() as patch:
        if blocked:
            cut_into_blocks(patch)
        test_numpy_gru.same_as_the_equations(NumbaGRU, **case, **options)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize(  # each two of these, and no more: each line is compiled
    ("masked", "sequences", "after"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, True)],
)
def test_inference_gives_the_same_and_keeps_nothing(masked, tokens, sequences, after):
    test_numpy_gru.inference_gives_the_same(NumbaGRU, masked, tokens, sequences, after)


def test_nothing_of_a_masked_step_reaches_the_state_or_a_recurrent_gradient():
    test_numpy_gru.masked_steps_reach_nothing(NumbaGRU)


def test_saturated_gates_and_long_sequences_stay_finite():
    test_numpy_gru.saturated_gates_stay_finite(NumbaGRU)
