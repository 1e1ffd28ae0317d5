"""Windows of a series against those of Keras."""

import numpy as np
import pytest
from keras_side import keras

from scratchlstm.utils import timeseries_dataset_from_array

SERIES = np.arange(60, dtype="float32").reshape(30, 2)
CASES = {
    "plain": {"targets": None},
    "targets": {"targets": SERIES[5:]},
    "as many targets as steps": {"targets": SERIES},
    "fewer targets": {"targets": SERIES[:11, 0]},
    "stride and rate": {"targets": SERIES[:, 1], "sequence_stride": 4, "sampling_rate": 3},
    "a part": {"targets": SERIES, "start_index": 4, "end_index": 21, "sequence_stride": 2},
    "a part, fewer targets": {"targets": SERIES[:21], "start_index": 4, "sequence_stride": 16},
    "a part without its beginning": {"targets": None, "start_index": 11},
    "windows of one step": {"targets": SERIES, "sequence_length": 1},
    "one window": {"targets": SERIES, "sequence_length": 30},
    "single windows": {"targets": SERIES, "batch_size": None},
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_batches(name):
    options = {"sequence_length": 5, "batch_size": 4} | CASES[name]
    ours = list(timeseries_dataset_from_array(SERIES, **options))
    theirs = list(keras.utils.timeseries_dataset_from_array(SERIES, **options).as_numpy_iterator())
    assert len(ours) == len(theirs) == len(timeseries_dataset_from_array(SERIES, **options))
    for our, their in zip(ours, theirs, strict=True):
        for a, b in zip(our, their, strict=True) if options["targets"] is not None else [(our, their)]:
            np.testing.assert_array_equal(a, b)


def test_targets_that_do_not_reach_the_last_window_fail_in_both():
    options = {"targets": SERIES[:17], "sequence_length": 5, "start_index": 14}
    with pytest.raises(Exception, match=r"(?i)out of range|not in \[0"):
        list(keras.utils.timeseries_dataset_from_array(SERIES, **options))
    with pytest.raises(ValueError, match="targets has 17 steps"):
        timeseries_dataset_from_array(SERIES, **options)


def test_a_model_trains_on_them_as_in_keras():
    """In the order of time, batch by batch, validated on the later part."""
    from scratchlstm import Sequential
    from scratchlstm.layers import LSTM, Dense

    series = np.sin(SERIES)
    parts = ({"end_index": 20}, {"start_index": 20})
    theirs = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3), keras.layers.Dense(2)])
    ours = Sequential([LSTM(3, input_shape=(4, 2)), Dense(2)])
    ours.set_weights(theirs.get_weights())
    histories = []
    for model, make in ((theirs, keras.utils.timeseries_dataset_from_array), (ours, timeseries_dataset_from_array)):
        train, validation = (make(series[:-4], series[4:], 4, batch_size=8, **part) for part in parts)
        model.compile("sgd", "mse", metrics=["mae"])
        histories.append(model.fit(train, epochs=2, validation_data=validation, verbose=0).history)
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, err_msg=name)
