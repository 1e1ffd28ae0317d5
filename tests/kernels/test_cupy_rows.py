"""Sums by id on a GPU: what `Groups.sum` gives, in the same order at every run."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm.rows import Groups

pytestmark = pytest.mark.slow

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
WITH_CUPY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def id_arrays(draw):
    """(B, T) ids with runs from one to thousands, such as padding's."""
    B, T = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    V = draw(st.sampled_from([1, 2, 7, 100, 10_000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.integers(0, V, (B, T))
    ids[rng.random((B, T)) < draw(st.sampled_from([0.0, 0.5, 0.99]))] = 0
    return ids


def values_and_sums(cupy, groups, D, dtype, seed=0):
    values = np.random.default_rng(seed).normal(size=(groups.order.size, D)).astype(dtype)
    return values, groups.sum(cupy.asarray(values)).get()


@WITH_CUPY
@given(id_arrays(), st.sampled_from([1, 3, 31, 32, 33, 240, 256, 300, 520]), st.sampled_from(["float32", "float64"]))
def test_sum_by_id_is_the_sum_of_groups(cupy, ids, D, dtype):
    groups = Groups(ids)
    values, sums = values_and_sums(cupy, groups, D, dtype)
    assert sums.dtype == dtype
    expected = groups.sum(values.astype("float64"))
    # of a sum's rounding, the measure is what was added up
    scale = groups.sum(np.abs(values.astype("float64")))
    assert np.all(np.abs(sums - expected) <= TOLERANCE[dtype] * scale)
    assert np.array_equal(groups.on_device.ids.get(), groups.ids)
    assert np.array_equal(groups.on_device.index.get(), groups.index.ravel(order="F"))


@pytest.mark.sanitized
@pytest.mark.parametrize("run", [1, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 1100, 5000])
def test_runs_of_every_length_around_a_chunk(cupy, run):
    ids = np.repeat([3, 1, 2], [run, 32, 33])[None]
    groups = Groups(ids)
    values, sums = values_and_sums(cupy, groups, 5, "float64")
    expected = [values[ids[0] == k].sum(axis=0) for k in groups.ids]
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("ids", "launches"), [(np.arange(50)[None], 1), (np.zeros((10, 20), int), 2)])
def test_one_upload_for_all_sums_and_at_most_two_launches_each(cupy, ids, launches):
    groups, values = Groups(ids), cupy.asarray(np.ones((ids.size, 4)))
    cupy.COUNTS.clear()
    for _ in range(3):
        groups.sum(values)
    assert {"uploads": 1, "launches": 3 * launches} == cupy.COUNTS


def test_the_same_bits_at_every_run(cupy):
    ids = np.random.default_rng(0).integers(0, 3, (40, 50))
    sums = [values_and_sums(cupy, Groups(ids), 7, "float32")[1] for _ in range(2)]
    assert sums[0].tobytes() == sums[1].tobytes()


@pytest.mark.parametrize(("shape", "D"), [((0, 5), 3), ((2, 0), 3), ((2, 3), 0)])
def test_nothing_to_sum(cupy, shape, D):
    groups = Groups(np.zeros(shape, int))
    assert values_and_sums(cupy, groups, D, "float32")[1].shape == (len(groups.ids), D)


def test_values_of_other_positions_are_refused(cupy):
    with pytest.raises(ValueError, match="6 positions have ids, but values has 5 rows"):
        Groups(np.zeros((2, 3), int)).sum(cupy.asarray(np.zeros((5, 2))))


def test_a_strided_gradient_is_summed_too(cupy):
    ids = np.array([[0, 1, 0]])
    values = np.random.default_rng(0).normal(size=(2, 3))
    sums = Groups(ids).sum(cupy.ndarray(values.T)).get()
    np.testing.assert_allclose(sums, Groups(ids).sum(values.T))
