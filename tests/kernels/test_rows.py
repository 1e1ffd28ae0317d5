"""Distinct rows: nothing is lost if ids repeat, and every caller that asks for an array gets the same."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scratchlstm import rows as rows_module
from scratchlstm._support import compiled, threads
from scratchlstm.rows import GatheredRows, Groups, RowGradient

V, D = 7, 3
IDS = arrays(np.int64, array_shapes(min_dims=1, max_dims=3, max_side=12), elements=st.integers(0, V - 1))
PATCHED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["numpy", "compiled"])
def computed(request, monkeypatch):
    """Sums of any size are computed in NumPy, then by the compiled loop."""
    if request.param == "compiled" and compiled.missing():
        pytest.skip(compiled.missing())
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "missing", lambda: "not for this test")
    monkeypatch.setattr(rows_module, "_COMPILED", 0)
    return request.param


def column_major(values):
    """(B, T, D) -> (T·B, D): the order of positions that `Groups` counts in."""
    axes = (*reversed(range(values.ndim - 1)), values.ndim - 1)
    return values.transpose(axes).reshape(-1, values.shape[-1])


@given(IDS)
def test_groups_name_each_position_once(ids):
    groups = Groups(ids)
    assert np.array_equal(np.sort(groups.ids), np.unique(ids))
    assert np.array_equal(groups.counts, [(ids == k).sum() for k in groups.ids])
    assert np.all(np.diff(groups.counts) <= 0)
    assert np.array_equal(groups.ids[groups.index], ids)
    assert groups.counts.sum() == ids.size
    assert np.array_equal(np.sort(groups.order), np.arange(ids.size))


@PATCHED
@given(IDS, st.integers(0, 2**32 - 1))
def test_sum_is_add_at(computed, ids, seed):
    values = np.random.default_rng(seed).normal(size=(*ids.shape, D))
    expected = np.zeros((V, D))
    np.add.at(expected, ids, values)
    groups = Groups(ids)
    np.testing.assert_allclose(groups.sum(column_major(values)), expected[groups.ids], rtol=1e-12, atol=1e-12)


def test_sum_handles_ids_that_occur_hundreds_of_times(computed):
    ids = np.zeros((50, 10), dtype=int)
    ids[:3, 0] = 1
    values = np.random.default_rng(0).normal(size=(50, 10, D))
    groups = Groups(ids)
    expected = [values[ids == k].sum(axis=0) for k in (0, 1)]
    np.testing.assert_allclose(groups.sum(column_major(values)), expected, rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 33])
@pytest.mark.parametrize("distinct", [1, 40])
def test_float32_loses_nothing_over_thousands_of_occurrences(computed, columns, distinct):
    """All of one sign, as with padding: added one by one in float32 they would be right to only three digits."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, distinct, (100, 120)) * (rng.random((100, 120)) < 0.1)
    values = rng.random((ids.size, columns)).astype("float32")
    groups = Groups(ids)
    sums = groups.sum(values)
    assert sums.dtype == np.float32
    expected = np.zeros((distinct, columns))
    np.add.at(expected, ids.ravel(order="F"), values.astype(float))
    np.testing.assert_allclose(sums, expected[groups.ids], rtol=1e-7 if computed == "compiled" else 1e-6)


@pytest.mark.parametrize(("shape", "D"), [((0,), 3), ((0, 5), 3), ((2, 0), 3), ((2, 3), 0), ((1,), 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_little_or_nothing_to_sum(computed, shape, D, dtype):
    groups = Groups(np.zeros(shape, int))
    sums = groups.sum(np.ones((groups.order.size, D), dtype))
    assert sums.dtype == dtype
    np.testing.assert_array_equal(sums, np.full((len(groups.ids), D), groups.order.size))


@pytest.mark.parametrize("dtype", ["float16", "int64", ">f4"])
def test_sums_of_other_dtypes(computed, dtype):
    sums = Groups(np.array([[0, 1, 0]])).sum(np.arange(6).reshape(3, 2).astype(dtype))
    np.testing.assert_array_equal(sums, [[4, 6], [2, 3]])


def test_a_strided_gradient_is_summed_too(computed):
    groups, values = Groups(np.array([[0, 1, 0]])), np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_array_equal(groups.sum(values.T), groups.sum(values.T.copy()))


def test_values_of_other_positions_are_refused(computed):
    for rows in 5, 7:
        with pytest.raises(ValueError, match=f"6 positions have ids, but values has {rows} rows"):
            Groups(np.zeros((2, 3), int)).sum(np.zeros((rows, 2)))


@pytest.mark.parametrize("D", [1, 17, 64])
def test_threads_do_not_change_a_bit(computed, monkeypatch, D):
    rng = np.random.default_rng(0)
    groups, values = Groups(rng.integers(0, 50, (20, 30))), rng.normal(size=(600, D)).astype("float32")
    alone = groups.sum(values)
    monkeypatch.setattr(threads, "LARGE", 0)
    for workers in 2, 3, 4:
        monkeypatch.setattr(threads, "threads", lambda workers=workers: workers)
        assert groups.sum(values).tobytes() == alone.tobytes()


def test_what_computes_a_sum_depends_on_its_size(monkeypatch):
    """Not on whether Numba is loaded: the last digits of the two ways differ."""
    asked = []
    monkeypatch.setattr(compiled, "missing", lambda: asked.append(1) or "not for this test")
    groups = Groups(np.zeros((8, 8), int))
    groups.sum(np.ones((64, rows_module._COMPILED // 64 - 1)))
    assert not asked
    groups.sum(np.ones((64, rows_module._COMPILED // 64)))
    assert asked


@given(IDS, st.sampled_from(["float32", "float64"]))
def test_gathered_rows_are_the_array_they_stand_for(ids, dtype):
    table = np.random.default_rng(0).normal(size=(V, D))
    groups = Groups(ids)
    rows = GatheredRows(table[groups.ids], groups, table.shape)
    assert rows.shape == (*ids.shape, D)
    assert rows.ndim == ids.ndim + 1
    assert np.array_equal(np.asarray(rows), table[ids])
    cast = np.asarray(rows.astype(dtype))
    assert cast.dtype == dtype
    assert np.array_equal(cast, table[ids].astype(dtype))


@given(st.sets(st.integers(0, V - 1), min_size=1), st.integers(0, V), st.integers(0, V))
def test_row_gradient_is_dense_with_zeros(ids, start, stop):
    start, stop = sorted((start, stop))
    ids = np.array(sorted(ids))
    values = np.random.default_rng(0).normal(size=(len(ids), D))
    dense = np.zeros((V, D))
    dense[ids] = values
    gradient = RowGradient(ids, values, (V, D))
    assert np.array_equal(np.asarray(gradient), dense)
    rows, part = gradient.block(start, stop)
    restored = np.zeros((stop - start, D))
    restored[rows] = part
    assert np.array_equal(restored, dense[start:stop])
    assert gradient.astype("float32").dtype == np.float32


def test_each_distinct_id_needs_its_row():
    with pytest.raises(ValueError, match="3 distinct ids need a row each, but values has 2"):
        GatheredRows(np.zeros((2, 4)), Groups(np.array([[0, 5, 7]])), (10, 4))
