"""Distinct rows: nothing lost where ids repeat, and the same to whoever asks for an array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scratchlstm.rows import GatheredRows, Groups, RowGradient

V, D = 7, 3
IDS = arrays(np.int64, array_shapes(min_dims=1, max_dims=3, max_side=12), elements=st.integers(0, V - 1))


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


@given(IDS, st.integers(0, 2**32 - 1))
def test_sum_is_add_at(ids, seed):
    values = np.random.default_rng(seed).normal(size=(*ids.shape, D))
    expected = np.zeros((V, D))
    np.add.at(expected, ids, values)
    groups = Groups(ids)
    np.testing.assert_allclose(groups.sum(column_major(values)), expected[groups.ids], rtol=1e-12, atol=1e-12)


def test_sum_handles_ids_that_occur_hundreds_of_times():
    ids = np.zeros((50, 10), dtype=int)
    ids[:3, 0] = 1
    values = np.random.default_rng(0).normal(size=(50, 10, D))
    groups = Groups(ids)
    expected = [values[ids == k].sum(axis=0) for k in (0, 1)]
    np.testing.assert_allclose(groups.sum(column_major(values)), expected, rtol=1e-12)


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
