"""What the ranks send each other, without sending it: every array comes back, and every rank gets the same sum."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlstm.rows import RowGradient
from scratchlstm.training.worker import block, share, summed

mpi4py = pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install mpi4py mpich")
mpi4py.rc.initialize = False  # messages are only packed here
try:
    from scratchlstm.training import distributed
except (ImportError, RuntimeError) as error:  # mpi4py without an MPI
    pytest.skip(str(error), allow_module_level=True)

pytestmark = pytest.mark.mpi

REPEATABLE = settings(deadline=None, max_examples=60, derandomize=True, database=None)
DTYPES = st.sampled_from(["float32", "float64"])
DENSE = st.tuples(st.lists(st.integers(0, 5), max_size=3).map(tuple), DTYPES, st.just(False))
TABLES = st.tuples(st.tuples(st.integers(0, 9), st.integers(1, 3)), DTYPES, st.just(True))
PARAMS = st.lists(st.one_of(DENSE, TABLES), min_size=1, max_size=4)


class Mail:
    """Carries messages between threads, as `Ranks` does between ranks."""

    def __init__(self, size):
        self.size, self.barrier, self.letters = size, threading.Barrier(size, timeout=10), {}

    def of(self, rank):
        def to_each(messages, awaited):
            self.letters |= {(rank, to): message for to, message in enumerate(messages)}
            self.barrier.wait()
            came = [self.letters[sender, rank] for sender in range(self.size)]
            self.barrier.wait()
            return came

        def to_all(message, awaited):
            return to_each([message] * self.size, awaited)

        return SimpleNamespace(rank=rank, workers=self.size, to_each=to_each, to_all=to_all)


def exchange(params, crew, workers):
    """What a rank exchanges gradients of these parameters with: (shape, dtype, whether the gradient is row-sparse)."""
    rows = {number: 1 for number, (_, _, sparse) in enumerate(params) if sparse}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "row_sparse", lambda model: rows)
        model = SimpleNamespace(params=[np.zeros(shape, dtype) for shape, dtype, _ in params])
        return distributed.RankGradients(crew, workers, model)


def gradients(params, rng):
    """Of these parameters; a number's size varies so much that no two orders of adding have one sum."""
    found = {}
    for number, (shape, dtype, sparse) in enumerate(params):
        draw = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 6, size=shape)
        values = np.asarray(draw, dtype)
        if sparse:
            ids = np.flatnonzero(rng.random(shape[0]) < 0.5)
            found[number] = RowGradient(ids, values[ids], shape)
        else:
            found[number] = None if rng.random() < 0.2 else values
    return found


def assert_same(one, other):
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@REPEATABLE
@given(PARAMS, st.integers(0, 2**32))
def test_gradients_come_back_from_a_message(params, seed):
    here = exchange(params, Mail(1).of(0), 1)
    here.publish(gradients(params, np.random.default_rng(seed)))
    there = here._unpacked(here._packed(here.own), 0, 1)
    assert there.keys() == here.own.keys()
    for number, (shape, _, sparse) in enumerate(params):
        sent, came = here.own[number], there[number]
        assert_same(came, np.asarray(sent).reshape(shape or 1) if not sparse else sent)
        if sparse:
            np.testing.assert_array_equal(came.ids, sent.ids)


@REPEATABLE
@given(PARAMS, st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 2))
def test_all_ranks_get_the_sum_in_the_order_of_the_ranks(params, seed, workers, idle):
    """Also those that have no rows of the batch, as they are more than it has."""
    rng, mail = np.random.default_rng(seed), Mail(workers + idle)
    everybody = [exchange(params, mail.of(rank), workers) for rank in range(mail.size)]
    for rank in everybody:
        rank.publish(gradients(params, rng))

    def merge(rank):
        try:
            return rank.merge()
        except Exception:
            mail.barrier.abort()  # or the others would wait
            raise

    with ThreadPoolExecutor(mail.size) as pool:
        merged = [done.result() for done in [pool.submit(merge, rank) for rank in everybody]]
    for number in range(len(params)):
        expected = summed([np.asarray(rank.own[number]) for rank in everybody[:workers]])
        for rank in range(mail.size):
            whole = np.asarray(merged[rank][number])
            assert whole.reshape(expected.shape).tobytes() == expected.tobytes()


@REPEATABLE
@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 3))
def test_shares_are_in_order_and_even(count, workers, idle):
    parts = [share(count, rank, workers) for rank in range(workers + idle)]
    assert [i for first, last in parts for i in range(first, last)] == list(range(count))
    sizes = [last - first for first, last in parts[:workers]]
    assert max(sizes) - min(sizes) <= 1
    assert parts[workers:] == [(0, 0)] * idle


@REPEATABLE
@given(TABLES, st.integers(0, 2**32), st.integers(1, 4))
def test_blocks_of_a_gradient_are_its_rows(param, seed, workers):
    (whole,) = gradients([param], np.random.default_rng(seed)).values()
    blocks = [block(whole, *share(whole.shape[0], rank, workers)) for rank in range(workers)]
    assert_same(np.concatenate([np.asarray(each) for each in blocks]), whole.dense())
