"""What scripts do around a training works on ranks as it does without them."""

import textwrap

import pytest

pytestmark = pytest.mark.mpi

MODEL = """
import multiprocessing, sys
import numpy as np
from scratchlstm import Sequential, mpi
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.models import load_model

x, y = np.random.default_rng(0).integers(1, 50, (60, 6)), np.ones((60, 1))

def trained(seed, *before):
    model = Sequential([Embedding(50, 8), LSTM(4), Dense(1)], seed=seed)
    model.compile("adam", "mse")
    for function in before:
        function(model)
    model.fit(x, y, epochs=1, verbose=0)
    return model
"""


def lines(on_ranks, tmp_path, script, *arguments):
    path = tmp_path / "script.py"
    path.write_text(MODEL + textwrap.dedent(script))
    *printed, last = on_ranks(2, path, *arguments).stdout.splitlines()
    assert last == "all 2 ranks finished"
    return printed


def test_a_file_just_written_is_read_by_every_rank(on_ranks, tmp_path):
    script = """
        model = trained(1)
        for _ in range(2):  # the second time over what is there
            model.fit(x, y, verbose=0)
            model.save(sys.argv[1])
        reloaded = load_model(sys.argv[1])
        print(reloaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0))  # of which all ranks do a share
        reloaded.fit(x, y, verbose=0)
    """
    assert lines(on_ranks, tmp_path, script, tmp_path / "model.npz") == ["True"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".npz"] == ["model.npz"]


def test_a_process_that_a_rank_has_forked_is_none(on_ranks, tmp_path):
    script = """
        def loss(seed):
            return trained(seed).evaluate(x, y, verbose=0)

        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map(loss, range(3))
        print(np.allclose(found, [loss(seed) for seed in range(3)], rtol=1e-5))
    """
    assert lines(on_ranks, tmp_path, script) == ["True"]


def test_what_ranks_without_a_seed_have_learned_alone_gives_way_to_rank_0(on_ranks, tmp_path):
    script = """
        models = [trained(None, lambda model: model.train_on_batch(x[:20], y[:20])) for _ in range(2)]
        print(models[0].evaluate(x, y, verbose=0) != models[1].evaluate(x, y, verbose=0))
    """
    assert lines(on_ranks, tmp_path, script) == ["True"]
