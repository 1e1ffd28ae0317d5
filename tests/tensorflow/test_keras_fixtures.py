"""The frozen answers are still those of the TensorFlow that is installed."""

import keras_side
import pytest
from cases import LossCase, LSTMCase, TrainingCase, assert_agree, load
from make_fixtures import ANSWERS, CASES

FROZEN = load(ANSWERS)
KINDS = {"lstm": LSTMCase, "train": TrainingCase, "loss": LossCase}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, cases in CASES.items() for name in cases])
def test_frozen_answer(kind, name):
    frozen = FROZEN[kind][name]
    assert_agree(getattr(keras_side, kind)(KINDS[kind](**frozen["case"])), frozen["answers"], 1e-11)
