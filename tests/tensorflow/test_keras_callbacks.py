"""The same logs, epoch for epoch, through Keras' callbacks and ours: the same decisions."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras_side import keras

from scratchlstm import Sequential, callbacks, optimizers
from scratchlstm.layers import Dense
from scratchlstm.optimizers import SGD

# multiples of 1/64, so that Keras' comparisons in float32 see no other order
VALUES = st.lists(st.integers(0, 64).map(lambda n: n / 64), min_size=1, max_size=14)
HYPOTHESIS = settings(max_examples=150, derandomize=True, database=None, deadline=None)


class Model:
    """What a callback sees of a model: weights that identify the epoch, and a learning rate."""

    def __init__(self):
        self.stop_training, self.weights, self.saved = False, None, []
        self.optimizer = SGD(0.5)
        self.metrics, self.measured = [], {}

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights

    def save(self, path, overwrite=True):
        self.saved.append(Path(path).stem)  # the ending says whose format it is


def run(callback, values, name="val_loss", batches=0):
    """Everything that can be seen of the callback while these values go by."""
    model = Model()
    callback.set_model(model)
    callback.on_train_begin({})
    seen = []
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch, {})
        for batch in range(batches):
            callback.on_train_batch_end(batch, {name: value})
        model.weights = epoch
        logs = {"loss": value / 2, name: value}
        callback.on_epoch_end(epoch, logs)
        seen.append((model.stop_training, float(model.optimizer.learning_rate), sorted(logs)))
        if model.stop_training:
            break
    callback.on_train_end({})
    return seen, model.weights, model.saved


def both(name, values, options, ours=None, **how):
    mine, theirs = getattr(callbacks, name)(**(ours or options)), getattr(keras.callbacks, name)(**options)
    assert run(mine, values, **how) == run(theirs, values, **how)
    return mine, theirs


@HYPOTHESIS
@given(
    values=VALUES,
    options=st.fixed_dictionaries(
        {
            "monitor": st.sampled_from(["val_loss", "loss"]),
            "mode": st.sampled_from(["auto", "min", "max"]),
            "patience": st.integers(0, 3),
            "min_delta": st.sampled_from([0, 1 / 8, -1 / 8]),
            "baseline": st.sampled_from([None, 0.25, 0.5]),
            "restore_best_weights": st.booleans(),
            "start_from_epoch": st.integers(0, 3),
        }
    ),
)
def test_early_stopping(values, options):
    ours, theirs = both("EarlyStopping", values, options)
    assert (ours.best, ours.best_epoch, ours.stopped_epoch, ours.wait) == (
        theirs.best, theirs.best_epoch, theirs.stopped_epoch, theirs.wait
    )  # fmt: skip


@HYPOTHESIS
@given(
    values=VALUES,
    options=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["auto", "min", "max"]),
            "factor": st.sampled_from([0.5, 0.25]),
            "patience": st.integers(0, 3),
            "min_delta": st.sampled_from([0, 1 / 8]),
            "cooldown": st.integers(0, 3),
            "min_lr": st.sampled_from([0.0, 0.125]),
        }
    ),
)
def test_reduce_lr_on_plateau(values, options):
    both("ReduceLROnPlateau", values, options)


@HYPOTHESIS
@given(
    values=VALUES,
    batches=st.integers(0, 5),
    options=st.fixed_dictionaries(
        {
            "save_best_only": st.booleans(),
            "mode": st.sampled_from(["auto", "min", "max"]),
            "save_freq": st.sampled_from(["epoch", 1, 2, 7]),
            "initial_value_threshold": st.sampled_from([None, 0.5]),
        }
    ),
)
def test_model_checkpoint(tmp_path_factory, values, batches, options):
    form = "{epoch:02d}-{val_loss:.3f}" + ("" if options["save_freq"] == "epoch" else "-{batch}")
    # Keras looks the mode up at the first epoch's end, and fails where it has to compare before
    assume(not (options["save_best_only"] and options["save_freq"] != "epoch" and batches))
    path = str(tmp_path_factory.getbasetemp() / form)
    ours, theirs = (options | {"filepath": f"{path}.{ending}"} for ending in ("npz", "keras"))
    both("ModelCheckpoint", values, theirs, ours, batches=batches)


def test_learning_rate_scheduler():
    for schedule in (lambda epoch, rate: rate * 0.5, lambda epoch: 1.0 / (epoch + 1)):
        both("LearningRateScheduler", [0.5] * 4, {"schedule": schedule})


@pytest.mark.parametrize(
    ("rows", "append"),
    [
        ([{"loss": 0.5, "accuracy": 0.75}, {"loss": 0.25, "accuracy": 1.0}], False),
        ([{"val_loss": 1e-9, "loss": 0.5}] * 2, False),
        ([{"loss": 0.5, "f1_score": [0.25, 0.5]}], False),
        ([{"loss": 0.5}, {"loss": 0.25, "val_loss": 0.125}], False),
        ([{"loss": 0.5}], True),
    ],
)
@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_logger_writes_the_same_file(tmp_path, rows, append, separator):
    files = []
    for name, module in (("ours", callbacks), ("theirs", keras.callbacks)):
        path = tmp_path / name
        path.write_text(f"epoch{separator}loss{separator}val_loss\n0{separator}0.75{separator}NA\n")
        callback = module.CSVLogger(path, separator=separator, append=append)
        for _ in range(2):  # the second run replaces the first, or is appended to it
            callback.on_train_begin({})
            for epoch, logs in enumerate(rows):
                callback.on_epoch_end(epoch, dict(logs))
            callback.on_train_end({})
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert files[0]


def test_a_direction_for_the_same_metrics():
    """Where Keras knows what is better, so does this package, and the same."""
    from scratchlstm import metrics

    for cls in {cls for cls in metrics._KNOWN.values() if hasattr(keras.metrics, cls.__name__)}:
        theirs = {"up": "max", "down": "min"}[getattr(keras.metrics, cls.__name__)()._direction]
        assert cls.direction == theirs


def test_the_same_defaults():
    import inspect

    for name in ("EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint", "CSVLogger", "LearningRateScheduler",
                 "TerminateOnNaN", "LambdaCallback", "SwapEMAWeights"):  # fmt: skip
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (callbacks, keras.callbacks))
        theirs = {key: parameter for key, parameter in theirs.items() if key != "kwargs"}
        assert {key: parameter.default for key, parameter in ours.items()} == {
            key: parameter.default for key, parameter in theirs.items()
        }
        assert list(ours) == list(theirs)


def models():
    """The same model in both, and data that it learns."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, size=(40, 1))
    theirs = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    ours = Sequential([Dense(1, activation="sigmoid", input_shape=(3,), dtype="float64")])
    ours.set_weights(theirs.get_weights())
    return SimpleNamespace(ours=ours, theirs=theirs, x=x, y=y)


@pytest.mark.usefixtures("float64")
def test_whole_runs_stop_and_restore_alike():
    m = models()
    histories, weights = [], []
    for model, module, sgd in ((m.ours, callbacks, SGD(8.0)), (m.theirs, keras.callbacks, keras.optimizers.SGD(8.0))):
        model.compile(sgd, "binary_crossentropy", metrics=["accuracy"])
        stop = module.EarlyStopping("val_accuracy", patience=4, restore_best_weights=True)
        slower = module.ReduceLROnPlateau("val_accuracy", factor=0.5, patience=1, min_delta=0.0)
        history = model.fit(
            m.x, m.y, epochs=30, batch_size=8, shuffle=False, validation_split=0.25, callbacks=[stop, slower], verbose=0
        )
        histories.append(history.history)
        weights.append(model.get_weights())
    ours, theirs = histories
    assert 4 < len(ours["loss"]) == len(theirs["loss"]) < 30
    assert set(ours) == set(theirs)
    assert min(ours["learning_rate"]) < 8
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, err_msg=name)
    for mine, his in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, his, rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "frequency", "swap"),
    [  # each two of these options in every combination
        *[("SGD", None, None), ("SGD", 7, False), ("SGD", None, True)],
        *[("RMSprop", 7, None), ("RMSprop", None, False), ("RMSprop", 7, True)],
        *[("Adam", None, None), ("Adam", 7, False), ("Adam", 7, True)],
    ],
)
def test_averages_in_whole_runs(optimizer, frequency, swap):
    """Two calls of `fit`, the averages of the second going on from those of the first."""
    m = models()
    options = {"SGD": {"learning_rate": 0.5, "momentum": 0.75}, "Adam": {"beta_1": 0.875, "beta_2": 0.75}}
    options = options.get(optimizer, {}) | {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": frequency}
    histories, weights = [], []
    for model, module, place in (m.ours, callbacks, optimizers), (m.theirs, keras.callbacks, keras.optimizers):
        model.compile(getattr(place, optimizer)(**options), "binary_crossentropy")
        saved = []
        save = module.LambdaCallback(on_epoch_end=lambda epoch, logs, m=model, s=saved: s.append(m.get_weights()))
        listeners = [save] if swap is None else [module.SwapEMAWeights(swap_on_epoch=swap), save]
        for epochs in (3, 2):
            arguments = {"epochs": epochs, "batch_size": 8, "shuffle": False, "validation_split": 0.25, "verbose": 0}
            histories.append(model.fit(m.x, m.y, callbacks=listeners, **arguments).history)
            saved.append(model.get_weights())
        weights.append(saved)
    for ours, theirs in zip(histories[:2], histories[2:], strict=True):
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, err_msg=name)
    for mine, his in zip(*weights, strict=True):
        for one, other in zip(mine, his, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
