"""P ranks end with the very bytes of `workers=P`: weights, moments, history, files, on every rank."""

import functools
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from trainings import CASES

pytestmark = pytest.mark.mpi

SCRIPT = Path(__file__).with_name("trainings.py")
COMPILED = "compiled_by_threads", "dropout", "bidirectional", "optimizer-clipnorm", "a_mask_that_reaches_the_loss"
RANDOM = "without_a_seed"  # which is the same on all ranks, but another each time


@pytest.fixture(scope="module")
def digests(run, on_ranks, tmp_path_factory):
    """`digests(P)`: of `workers=P`, and of each of P ranks: case -> name -> digest. With names, of these, compiled."""

    @functools.cache
    def both(ranks, *names):
        one, several = (tmp_path_factory.mktemp(f"{kind}{ranks}") for kind in ("workers", "ranks"))
        options = {"deadline": 300, "env": os.environ | ({"NUMBA_DISABLE_JIT": "0"} if names else {})}
        with ThreadPoolExecutor() as pool:  # at the same time, as neither keeps two cores busy
            by_workers = pool.submit(run, [sys.executable, str(SCRIPT), str(one), str(ranks), *names], **options)
            for done in on_ranks(ranks, SCRIPT, several, ranks, *names, **options), by_workers.result():
                assert done.returncode == 0, done.stderr
        return _read(one), [_read(several, rank) for rank in range(ranks)]

    return both


def _read(folder, rank=0):
    return json.loads((folder / f"digests-{rank}.json").read_text())


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("name", CASES)
def test_ranks_end_as_workers_do(name, ranks, digests):
    assert_same(name, *digests(ranks))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", COMPILED)
def test_so_they_do_if_loops_are_compiled(name, ranks, digests):
    assert_same(name, *digests(ranks, *COMPILED))


def assert_same(name, by_workers, by_ranks):
    expected = (by_ranks[0] if name == RANDOM else by_workers)[name]
    assert expected
    different = {}
    for rank, found in enumerate(by_ranks):
        files = set() if rank == 0 else {what for what in expected if what.endswith("files")}
        assert found[name].keys() == expected.keys() - files
        different[rank] = [what for what, digest in found[name].items() if digest != expected[what]]
    assert not any(different.values()), different


def test_the_bits_tell_how_many_ranks_there_were(digests):
    """Or the comparison would not show in which order gradients are added up."""
    for name in "dropout", "bidirectional", "optimizer-clipnorm", "several_inputs_and_outputs":
        assert len({digests(ranks)[0][name]["2 weights"] for ranks in (1, 2, 3, 4)}) == 4
