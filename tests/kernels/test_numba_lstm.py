"""The compiled LSTM against the textbook; what holds for a compiled GRU, too, is in test_numba_recurrence.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
pytest.importorskip("scipy")

import test_numpy_lstm

from scratchlstm.kernels import numba_recurrence
from scratchlstm.kernels.numba_lstm import NumbaLSTM


def cut_into_blocks(patch):
    """Multiply with a kernel block by block, as if it were large."""
    patch.setattr(numba_recurrence, "_SMALL", 0)
    patch.setattr(numba_recurrence, "_BLOCK", (2, 3))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(blocked=st.booleans(), **test_numpy_lstm.CASES)
def test_same_as_the_textbook(blocked, **case):
    with pytest.MonkeyPatch.context() as patch:
        if blocked:
            cut_into_blocks(patch)
        test_numpy_lstm.same_as_the_textbook(NumbaLSTM, **case)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize(("B", "masked", "reverse"), [(1, False, False), (131, True, False), (70, True, True)])
def test_inference_gives_the_same_and_keeps_nothing(B, masked, reverse, tokens, sequences):
    test_numpy_lstm.inference_gives_the_same(NumbaLSTM, B, masked, reverse, tokens, sequences)


def test_saturated_gates_and_long_sequences_stay_finite():
    test_numpy_lstm.saturated_gates_stay_finite(NumbaLSTM)
