"""What TensorFlow answered once, in float64: runs in a second on machines that do not have it.

`fixtures/make_fixtures.py` made the numbers; `tensorflow/test_keras_fixtures.py` sees that they are still TensorFlow's.
"""

import sys
from pathlib import Path

import pytest
from implementations import IMPLEMENTATIONS

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))

import our_side
from cases import LossCase, LSTMCase, TrainingCase, assert_agree, load

FROZEN = load(Path(__file__).parent / "fixtures" / "keras_answers.npz")
TOLERANCE = 1e-9

implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def test_the_file_holds_what_it_should():
    assert {kind: len(FROZEN[kind]) for kind in ("lstm", "train", "loss")} == {"lstm": 8, "train": 5, "loss": 28}
    assert {"output 0", "output 1", "output 2", "dx", "dh0", "dc0", "dkernel", "drecurrent_kernel", "dbias"} == set(
        FROZEN["lstm"]["every output, from states"]["answers"]
    )
    assert len(FROZEN["train"]["Adam"]["answers"]["losses"]) == 10


@implementations
@pytest.mark.parametrize("name", FROZEN["lstm"])
def test_lstm(name, implementation):
    frozen = FROZEN["lstm"][name]
    assert_agree(our_side.lstm(LSTMCase(**frozen["case"]), implementation), frozen["answers"], TOLERANCE)


@implementations
@pytest.mark.parametrize("name", FROZEN["train"])
def test_training(name, implementation):
    frozen = FROZEN["train"][name]
    assert_agree(our_side.train(TrainingCase(**frozen["case"]), implementation), frozen["answers"], TOLERANCE)


@pytest.mark.parametrize("name", FROZEN["loss"])
def test_loss(name):
    frozen = FROZEN["loss"][name]
    assert_agree(our_side.loss(LossCase(**frozen["case"])), frozen["answers"], TOLERANCE)
