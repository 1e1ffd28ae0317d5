"""Earlier weights of a model in the explorer page: what is written, and what is refused."""

import base64
import json
import re

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, sentiment, stacked

from scratchlstm.callbacks import Snapshots
from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM


@pytest.fixture
def model():
    return sentiment(epochs=0)


def _trained(model, epochs=4, **options):
    learning = Snapshots(**options)
    rng = np.random.default_rng(0)
    model.fit(rng.integers(0, 16, (8, 12)), [0, 1] * 4, epochs=epochs, verbose=0, callbacks=[learning])
    return learning.snapshots


def _in_page(page):
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html)[1])
    return [(label, np.frombuffer(base64.b64decode(weights["W"][1:]), "<f4")) for label, weights in data["snapshots"]]


@pytest.mark.parametrize(("every", "labels"), [(1, ["0", "1", "2", "3", "4"]), (3, ["0", "3", ""])])
def test_the_last_are_the_models_own_once(model, tmp_path, every, labels):
    snapshots = _trained(model, every=every)
    shown = _in_page(explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=snapshots))
    assert [label for label, _ in shown] == labels
    expected = [weights for _, weights in snapshots] + [model.get_weights()] * ("" in labels)
    for (_, kernel), weights in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(kernel, weights[1].ravel())


def _changed(change):
    """One snapshot of the model, changed."""

    def make(model):
        weights = model.get_weights()
        change(weights)
        return [(3, weights)]

    return make


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda model: Snapshots(), TypeError, "snapshots must be a list of (epoch, weights) pairs, as callbacks.Snap"),
        (lambda model: [model.get_weights()], TypeError, "(epoch, weights) pairs"),
        (lambda model: [(1, np.ones(3))], TypeError, "(epoch, weights) pairs"),
        (lambda model: [("first", model.get_weights())], ValueError, "an epoch of snapshots must be a whole number"),
        (_changed(lambda w: w.pop()), ValueError, "the snapshot of epoch 3 has 6 weights, but 5 were given"),
        (
            _changed(lambda w: w.__setitem__(1, w[1][:-1])), ValueError,
            "weight lstm/kernel of the snapshot of epoch 3 has shape (6, 20), but (5, 20) was given",
        ),
        (
            _changed(lambda w: w[3].__setitem__(0, np.nan)), ValueError,
            "weight lstm/bias of the snapshot of epoch 3 was given values that are not finite numbers",
        ),
    ],
)  # fmt: skip
def test_snapshots_that_cannot_be(model, tmp_path, make, error, match):
    with pytest.raises(error, match=re.escape(match)):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=make(model))
    assert not list(tmp_path.iterdir())


def test_too_many_snapshots_are_refused_with_the_options_that_help(tmp_path):
    model = sentiment(LSTM(60), epochs=0)
    snapshots = _trained(model, epochs=9)
    with pytest.raises(ValueError, match=r"every of callbacks\.Snapshots") as refused:
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=snapshots)
    enough = int(re.search(r"most_bytes=([\d_]+)", str(refused.value))[1])
    page = explore(
        model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=snapshots, most_bytes=enough
    )
    assert len(_in_page(page)) == 10
    assert len(page.html) <= enough


def test_a_page_that_cannot_run_the_model_has_no_use_for_snapshots(tmp_path):
    model = stacked()
    with pytest.raises(ValueError, match="snapshots need a page that runs the model, but it runs one Embedding"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=[(0, model.get_weights())])
