"""Windows of a series, step by step; as batches; and in fit, evaluate and predict."""

import numpy as np
import pytest

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Dense
from scratchlstm.preprocessing import timeseries_dataset_from_array

SERIES = np.arange(20, dtype="float32")


def make(**options):
    given = {"data": SERIES[:-1], "targets": SERIES[1:], "sequence_length": 3} | options
    return timeseries_dataset_from_array(**given)


def test_windows_and_targets_by_hand():
    dataset = make(sequence_stride=4, sampling_rate=2, start_index=1, end_index=14)
    assert dataset.x.tolist() == [[1, 3, 5], [5, 7, 9], [9, 11, 13]]
    assert dataset.y.tolist() == [2, 6, 10]


def test_features_stay_in_the_last_axis():
    data = np.arange(24).reshape(6, 2, 2)
    x = make(data=data, targets=None).x
    assert x.shape == (4, 3, 2, 2)
    np.testing.assert_array_equal(x[2], data[2:5])


def test_windows_take_no_memory():
    x = make(sampling_rate=2, sequence_stride=3).x
    assert np.shares_memory(x, SERIES)
    assert not x.flags.writeable


def test_batches():
    dataset = make(batch_size=8)
    assert [(x.shape, y.shape) for x, y in dataset] == [((8, 3), (8,)), ((8, 3), (8,)), ((1, 3), (1,))]
    assert len(dataset) == 3
    np.testing.assert_array_equal(np.concatenate([x for x, _ in dataset]), dataset.x)
    single = make(batch_size=None, targets=None)
    assert len(single) == 17
    assert [window.tolist() for window in single][3] == [3, 4, 5]


def test_shuffling_keeps_pairs_and_repeats_with_its_seed():
    dataset, again = make(shuffle=True, seed=3, batch_size=5), make(shuffle=True, seed=3, batch_size=5)
    first, second = ([y for _, y in dataset] for _ in range(2))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate([y for _, y in again]))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    assert sorted(np.concatenate(first)) == dataset.y.tolist()
    for x, y in dataset:
        np.testing.assert_array_equal(x[:, 0] + 1, y)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"data": [[1, 2], [3]]}, "data has rows of different lengths"),
        ({"data": 3.0}, "data must be an array of time steps, not 3.0"),
        ({"data": []}, r"data must be an array of time steps, not \[\]"),
        ({"targets": []}, "targets must be an array of time steps"),
        ({"sequence_length": 0}, "sequence_length must be a whole number above 0, not 0"),
        ({"sequence_stride": 0}, "sequence_stride must be a whole number above 0, not 0"),
        ({"sampling_rate": 1.5}, "sampling_rate must be a whole number above 0, not 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number above 0, not 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"start_index": -1}, "start_index must be a whole number of at least 0, not -1"),
        ({"start_index": 19}, "start_index=19 must be below end_index=19, which can be at most 19, the steps in data"),
        ({"end_index": 20}, "start_index=0 must be below end_index=20, which can be at most 19"),
        ({"sequence_length": 11, "sampling_rate": 2}, "spans 21 steps, but there are 19 of data: use shorter windows"),
        ({"targets": SERIES[:12], "start_index": 9}, r"targets has 12 steps, .* needs targets\[16\]: start_index=9"),
    ],
)
def test_what_does_not_fit_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        make(**options)


# --- in a model -------------------------------------------------------------------------------------------------------


def new_model():
    model = Sequential([LSTM(3, input_shape=(3, 1)), Dense(1)], seed=0)
    model.compile("adam", "mse", metrics=["mae"])
    return model


@pytest.fixture
def windows():
    return lambda **options: make(data=SERIES[:-1, None], **options)


@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_takes_what_it_would_be_given_one_by_one(windows, shuffle):
    dataset, validation = windows(batch_size=4, shuffle=shuffle), windows(start_index=12)
    ours, by_hand = new_model(), new_model()
    history = ours.fit(dataset, epochs=2, validation_data=validation, verbose=0).history
    pairs = {"x": dataset.x, "y": dataset.y, "validation_data": (validation.x, validation.y)}
    assert history == by_hand.fit(**pairs, batch_size=4, epochs=2, shuffle=shuffle, verbose=0).history
    assert ours.evaluate(dataset, verbose=0) == by_hand.evaluate(dataset.x, dataset.y, batch_size=4, verbose=0)
    np.testing.assert_array_equal(ours.predict(windows(targets=None), verbose=0), by_hand.predict(dataset.x, verbose=0))


def test_what_a_dataset_has_cannot_be_given_beside_it(windows):
    with pytest.raises(ValueError, match="^y must be omitted: x is a TimeseriesDataset, which has its own"):
        new_model().fit(windows(), SERIES)
    with pytest.raises(ValueError, match="^batch_size must be omitted"):
        new_model().evaluate(windows(), batch_size=3)
    for argument, options in {"y": {}, "validation y": {"x": windows()}}.items():
        with pytest.raises(ValueError, match=f"^{argument} is missing"):
            new_model().fit(**{"x": windows(targets=None), "validation_data": windows(targets=None)} | options)


def test_what_it_lacks_can_be_given(windows):
    history = new_model().fit(windows(targets=None, batch_size=None), SERIES[1:18], batch_size=4, verbose=0).history
    assert history == new_model().fit(windows(batch_size=4), verbose=0).history


def test_elsewhere_its_arrays_are_asked_for(windows):
    with pytest.raises(TypeError, match=r"^x must be an array or a list of rows, not a TimeseriesDataset"):
        new_model().train_on_batch(windows(), SERIES)
