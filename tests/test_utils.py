"""Class numbers as one-hot rows."""

import numpy as np
import pytest

from scratchlstm.utils import to_categorical


@pytest.mark.parametrize("x", [[0, 2, 1], [[0], [2], [1]], np.array([0, 2, 1], dtype="uint8")])
def test_one_hot(x):
    assert np.array_equal(to_categorical(x), np.eye(3)[[0, 2, 1]])
    assert to_categorical(x, 5).shape == (3, 5)


def test_any_shape():
    assert to_categorical(np.ones((2, 3), int)).shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5],), "takes class indices, not 1 values of dtype float64"),
        (([],), "takes class indices, not 0 values"),
        (([3], 3), "from 0 to 2, but range from 3 to 3"),
        (([-1],), "range from -1 to -1"),
        (([1], 0), "num_classes must be a whole number above 0"),
    ],
)
def test_what_is_no_class_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        to_categorical(*arguments)
