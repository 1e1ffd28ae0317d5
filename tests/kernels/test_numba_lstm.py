"""The compiled LSTM against the textbook; what holds for a compiled GRU, too, is in test_numba_recurrence.py."""

import itertools

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


def with_combinations(cases, *names):
    """Cases of which the named options have six combinations, in which any two options take all four pairs of values.

    Each combination is compiled; all of them would take a minute.
    """
    values = dict.fromkeys(names, (False, True)) | {"dtype": ("float64", "float32")}
    second = dict(
        zip(names, itertools.combinations(range(1, 6), 2), strict=False)
    )  # where an option has its second value
    combinations = [{name: values[name][row in (0, *second[name])] for name in names} for row in range(6)]
    return {name: of for name, of in cases.items() if name not in names} | {"options": st.sampled_from(combinations)}


@pytest.mark.slow  # which compiles six combinations of options
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    blocked=st.booleans(),
    **with_combinations(test_numpy_lstm.CASES, "masked", "dropout", "dtype", "tokens", "sequences"),
)
def test_same_as_the_textbook(blocked, options, **case):
    with pytest.MonkeyPatch.context() as patch:
        if blocked:
            cut_into_blocks(patch)
        test_numpy_lstm.same_as_the_textbook(NumbaLSTM, **case, **options)


@pytest.mark.slow
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize(("B", "masked", "reverse"), [(1, False, False), (131, True, False), (70, True, True)])
def test_inference_gives_the_same_and_keeps_nothing(B, masked, reverse, tokens, sequences):
    test_numpy_lstm.inference_gives_the_same(NumbaLSTM, B, masked, reverse, tokens, sequences)


def test_saturated_gates_and_long_sequences_stay_finite():
    test_numpy_lstm.saturated_gates_stay_finite(NumbaLSTM)
