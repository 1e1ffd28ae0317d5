"""Small trainings of many kinds, and SHA-256 digests of all that each of them ends with.

    python trainings.py FOLDER P [NAME ...]                            by workers=P
    mpiexec -n P python -m scratchlstm.mpi trainings.py FOLDER P ...   by the ranks of an MPI run

A process writes its digests to FOLDER/digests-RANK.json. Each rank gets a folder of its own for the files of the
trainings, as on machines that share none.
"""

import hashlib
import json
import multiprocessing
import os
import re
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from scratchlstm import Input, Model, Sequential, callbacks, layers, losses, metrics, optimizers, schedules
from scratchlstm._support import compiled, ranks, threads
from scratchlstm.cells import SimpleRNNCell
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Add,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    LayerNormalization,
    Masking,
    SpatialDropout1D,
    TimeDistributed,
)
from scratchlstm.training import AdversarialTraining, parallel

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
from random_graphs import FEW, data, graph

ON_RANKS = ranks.communicator is not None
V, T, SAMPLES = 30, 6, 29  # with batches of 7 the last batch has a single row
RNG = np.random.default_rng(0)
IDS, OTHER_IDS = RNG.integers(0, V, (2, SAMPLES, T))
NUMBERS = RNG.normal(size=(SAMPLES, T, 3))
NUMBERS[RNG.random((SAMPLES, T)) < 0.3] = 0  # which Masking leaves out
LENGTHS = RNG.permutation(np.r_[np.zeros(9, int), np.arange(SAMPLES - 9) % T + 1])
LABELS, CLASSES = RNG.integers(0, 2, SAMPLES), RNG.integers(0, 4, (SAMPLES, T))
TARGETS, STEP_WEIGHTS = RNG.normal(size=(SAMPLES, 2)), RNG.random(IDS.shape)


def digest(value):
    """Of arrays their bytes, of all else what Python writes for it; also of what dicts and lists hold."""
    whole = hashlib.sha256()

    def take(value):
        if isinstance(value, dict):
            value = [[key, value[key]] for key in sorted(value)]
        if isinstance(value, np.ndarray):
            whole.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        elif isinstance(value, list | tuple):
            whole.update(f"{len(value)}:".encode())
            for each in value:
                take(each)
        else:
            whole.update(f"{value!r};".encode())

    take(value)
    return whole.hexdigest()


class Case:
    """One training.

    Args:
        workers: how many share the work.
        folder: for its files.

    Attributes:
        found: digests by name.
    """

    def __init__(self, workers: int, folder: Path) -> None:
        self.workers, self.folder, self.found, self.count = workers, folder, {}, 0
        self.shared = {"workers": None if ON_RANKS else workers, "verbose": 0}

    def note(self, **values):
        self.count += 1
        self.found |= {f"{self.count} {name}": digest(value) for name, value in values.items()}

    def fit(self, model, x, y, **options):
        """Train, and note all that has come of it, an error or not."""
        options = {"epochs": 2, "batch_size": 7} | self.shared | options
        try:
            history = model.fit(x, y, **options)
            self.note(history=[history.epoch, history.history])
        finally:
            self.note_state(model)
        return model

    def note_state(self, model):
        optimizer = model.optimizer
        self.note(
            weights=model.get_weights(),
            moments=optimizer.state,
            optimizer=[optimizer.iterations, None if optimizer.schedule else optimizer.learning_rate],
            generators=[rng.bit_generator.state for rng in model.generators],
            switches=[model.stop_training, model.trainability, model.history and model.history.history],
        )

    def note_error(self, kind, call):
        try:
            call()
        except kind as error:
            self.note(error=[type(error).__name__, str(error)])
        else:
            raise AssertionError(f"no {kind.__name__}")

    def note_files(self):
        """Note the bytes of all files, which the first rank alone has."""
        written = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        assert bool(written) == ranks.first()
        self.note(**{"files": written} if written else {})


CASES: dict[str, Callable[[Case], None]] = {}


def case(**variants):
    """A training, or one for each of several variants by name."""

    def several(function):
        CASES.update({f"{function.__name__}-{name}": partial(function, about=each) for name, each in variants.items()})
        CASES.update({} if variants else {function.__name__: function})
        return function

    return several


def words(*inner, optimizer="adam", metrics=("accuracy",), seed=3):
    """A classifier of ids, with these layers inside."""
    inner = inner or (LSTM(5, dropout=0.2),)
    model = Sequential([Embedding(V, 4), *inner, Dense(1, activation="sigmoid")], seed=seed)
    model.compile(optimizer, "binary_crossentropy", metrics=list(metrics))
    return model


# --- layers and wiring ------------------------------------------------------------------------------------------------


@case()
def dropout(c):
    noisy = LSTM(5, dropout=0.2, recurrent_dropout=0.3, return_sequences=True), GRU(4, recurrent_dropout=0.2)
    c.fit(words(SpatialDropout1D(0.2), *noisy, Dropout(0.4)), IDS, LABELS)


@case()
def compiled_by_threads(c):
    ranks.threads, x, y = 3, np.resize(IDS, (256, 24)), np.resize(LABELS, 256)
    c.fit(words(LSTM(64)), x, y, batch_size=256, epochs=1)
    c.note(evaluation=c.fit(words(LSTM(64)), x, y, batch_size=256, epochs=1).evaluate(x, y, 64, **c.shared))
    if ON_RANKS and c.workers > 1 and not compiled.missing():
        assert threads._pool  # which helped this one


@case()
def a_mask_that_reaches_the_loss(c):
    read = LSTM(5, return_sequences=True, dropout=0.1)
    model = Sequential([Embedding(V, 4, mask_zero=True), read, Dense(4, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = IDS * (np.arange(T) < LENGTHS[:, None])
    c.fit(model, x, CLASSES, validation_data=(x[:9], CLASSES[:9]), sample_weight=STEP_WEIGHTS)


@case()
def batches_by_length(c):
    read = Dropout(0.2), LSTM(5, dropout=0.1)
    model = Sequential([Embedding(V, 4, mask_zero=True, input_shape=(None,)), *read, Dense(1)], seed=1)
    model.compile("adam", "mse", metrics=["mae"])
    x, grouped = IDS * (np.arange(T) < LENGTHS[:, None]), {"group_by_length": True}
    c.fit(model, x, LABELS, validation_data=(x[:9], LABELS[:9]), **grouped)
    c.note(predicted=model.predict(x, batch_size=4, **grouped, **c.shared))
    c.note(evaluated=model.evaluate(x, LABELS, batch_size=4, **grouped, **c.shared))


@case()
def adversarial(c):
    model = words(Dropout(0.3), LSTM(4, return_sequences=True), LSTM(3, recurrent_dropout=0.2))
    c.fit(model, IDS, LABELS, adversarial=AdversarialTraining(0.1, first_step=3))


@case()
def masking(c):
    steps = [Masking(input_shape=(T, 3)), GRU(4, return_sequences=True), TimeDistributed(Dense(2))]
    model = Sequential(steps, seed=1)
    model.compile("rmsprop", "mse", metrics=["mae"])
    x = NUMBERS * (np.arange(T) < LENGTHS[:, None])[..., None]
    c.fit(model, x, np.repeat(TARGETS[:, None], T, axis=1), shuffle=False)


@case()
def a_mask_that_ends_before_the_loss(c):
    c.fit(words(Masking(), LSTM(4)), IDS, LABELS)


@case()
def bidirectional(c):
    both = Bidirectional(LSTM(3, return_sequences=True, dropout=0.2)), Bidirectional(GRU(2), merge_mode="sum")
    c.fit(words(*both), IDS, LABELS)


def two_inputs_and_two_outputs():
    left, right, numbers = Input((T,), name="left"), Input((T,), name="right"), Input((T, 3), name="numbers")
    embedding = Embedding(V, 4, mask_zero=True)  # used at two places
    shared = LSTM(3, return_sequences=True)
    read = Add()([GlobalAveragePooling1D()(shared(embedding(each))) for each in (left, right)])
    read = Concatenate()([read, GRU(3)(numbers)])
    ends = [Dense(1, activation="sigmoid", name="is")(read), Dense(2, name="much")(Dropout(0.3)(read))]
    return Model([left, right, numbers], ends, seed=4)


@case()
def several_inputs_and_outputs(c):
    model = two_inputs_and_two_outputs()
    much = {"is": ["accuracy", "AUC"], "much": ["mae"]}
    model.compile(
        "adam", {"is": "binary_crossentropy", "much": "mse"}, loss_weights={"is": 0.3, "much": 2}, metrics=much
    )
    x, y = {"left": IDS, "right": OTHER_IDS, "numbers": NUMBERS}, {"is": LABELS, "much": TARGETS}
    c.fit(model, x, y, validation_split=0.3)
    c.note(predicted=model.predict(x, batch_size=5, **c.shared))
    c.note(evaluated=model.evaluate(x, y, batch_size=5, **c.shared))


@case()
def a_dense_gradient_of_an_embedding(c):
    limited = Embedding(V, 4, embeddings_regularizer="l2"), LSTM(3, kernel_regularizer="l1")
    model = Sequential([*limited, Dense(1)], seed=0)
    model.compile("adam", "mse")
    c.fit(model, IDS, LABELS)


@case()
def constraints(c):
    limited = LSTM(4, kernel_constraint="max_norm", recurrent_constraint="unit_norm", bias_constraint="non_neg")
    embedding = Embedding(V, 4, embeddings_constraint="unit_norm")
    model = Sequential([embedding, limited, LayerNormalization(), Dense(1)], seed=0)
    model.compile(optimizers.SGD(0.1), "mse")
    c.fit(model, IDS, LABELS)


@case()
def frozen(c):
    model = words(LSTM(4, trainable=False), Dense(3))
    c.fit(model, IDS, LABELS)
    model.layers[0].trainable = False
    model.compile("adam", "binary_crossentropy")
    c.fit(model, IDS, LABELS)


@case()
def float64(c):
    exact = {"dtype": "float64"}
    model = Sequential([Embedding(V, 4, **exact), LSTM(5, dropout=0.3, **exact), Dense(1, **exact)], seed=2)
    model.compile(optimizers.Adam(global_clipnorm=0.1), "mse")
    c.fit(model, IDS, LABELS)


@case(**{str(number): number for number in FEW})
def random_model(c, about):
    """A graph of `random_graphs`, with weights that are no initial ones."""
    seeded = partial(Model, seed=about)  # models inside others, too
    model = graph(about, layers, Input, seeded, ("float32", "float64")[about % 2])
    rng = np.random.default_rng(about)
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    xs = data(about, model.network.input_shapes, 11)
    x = xs if len(xs) > 1 else xs[0]
    y = model.predict(x, verbose=0, workers=1)
    clips = {"clipnorm": 0.1} if about % 3 == 0 else {}
    model.compile((optimizers.Adam, optimizers.RMSprop, optimizers.SGD)[about % 3](0.01, **clips), "mae")
    y = [np.zeros_like(each) for each in y] if isinstance(y, list) else np.zeros_like(y)
    c.fit(model, x, y, batch_size=4)


# --- what fit is told -------------------------------------------------------------------------------------------------

DECAY = schedules.ExponentialDecay(0.01, 3, 0.7)


@case(
    clipnorm=optimizers.Adam(clipnorm=1e-2),
    global_clipnorm=optimizers.RMSprop(global_clipnorm=1e-2),
    clipvalue=optimizers.SGD(0.1, clipvalue=1e-3),
    momentum=optimizers.SGD(0.1, momentum=0.9),
    nesterov=optimizers.SGD(0.1, momentum=0.8, nesterov=True, clipnorm=1e-2),
    averaged=optimizers.RMSprop(use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3),
    schedule=optimizers.RMSprop(DECAY),
    cosine=optimizers.Adam(schedules.CosineDecay(0.01, 6), clipnorm=1.0),
)
def optimizer(c, about):
    c.fit(words(optimizer=about), IDS, LABELS)


@case(one=1, two=2, three=3, five=5, all=100)
def batch_size(c, about):
    c.fit(words(), IDS[:11], LABELS[:11], batch_size=about)


@case(one=1, two=2, three=3)
def samples(c, about):
    model = c.fit(words(), IDS[:about], LABELS[:about])
    c.note(predicted=model.predict(IDS[:about], **c.shared))


@case(
    class_weight={"class_weight": {0: 0.5, 1: 3.0}},
    sample_weight={"sample_weight": np.arange(SAMPLES) / SAMPLES},
    in_order={"shuffle": False},
    validation_data={"validation_data": (OTHER_IDS, LABELS)},
    validation_split={"validation_split": 0.25},
    weighted_validation={"validation_data": (IDS, LABELS, np.arange(SAMPLES))},
    from_epoch={"initial_epoch": 1, "epochs": 3},
)
def option(c, about):
    c.fit(words(), IDS, LABELS, **about)


@case()
def measured(c):
    names = ["accuracy", "AUC", "Precision", "Recall", "F1Score", "mse", "mae", "RootMeanSquaredError", "R2Score"]
    c.fit(words(metrics=names), IDS, LABELS, validation_split=0.4)


@case()
def spans(c):
    """Batches of validation, evaluation and prediction that the ranks cannot share evenly."""
    many = np.tile(IDS, (40, 1))  # of which validation takes 512 at a time
    validation = many, np.tile(LABELS, 40)
    model = c.fit(words(metrics=["accuracy", "AUC"]), IDS, LABELS, validation_data=validation)
    for size in 1, 4, 10, 64:
        c.note(predicted=model.predict(IDS, batch_size=size, **c.shared))
        c.note(evaluated=model.evaluate(IDS, LABELS, batch_size=size, **c.shared))


@case()
def named(c):
    """`workers` given as a number, or as "mpi"."""
    for workers in c.workers, "mpi" if ON_RANKS else c.workers:
        model = c.fit(words(), IDS, LABELS, workers=workers)
        c.note(predicted=model.predict(IDS, batch_size=5, verbose=0, workers=workers))


@case()
def by_each_rank_alone(c):
    model = words(LSTM(4, dropout=0.3))
    for start in 0, 7, 14:
        c.note(loss=model.train_on_batch(IDS[start : start + 7], LABELS[start : start + 7]))
    c.fit(model, IDS, LABELS, workers=1)
    c.note(predicted=model.predict(IDS, verbose=0, workers=1))
    c.note(evaluated=model.evaluate(IDS, LABELS, verbose=0, workers=1))
    c.fit(model, IDS, LABELS)  # and then together


@case()
def one_fit_after_another(c):
    model = c.fit(words(), IDS, LABELS)
    c.fit(model, OTHER_IDS[:13], LABELS[:13], batch_size=3, epochs=1)
    model.compile(optimizers.SGD(0.1), "mse")
    c.fit(model, IDS, LABELS, initial_epoch=2, epochs=4)
    other = c.fit(words(GRU(3), seed=9), IDS, LABELS)
    c.note(both=[each.predict(IDS, **c.shared) for each in (model, other)])


@case()
def stateful(c):
    """Cannot be split: `workers=` leaves it to one process, ranks refuse."""
    model = Sequential([LSTM(3, stateful=True, input_shape=(T, 3)), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    why = ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model.fit(NUMBERS[:28], LABELS[:28], batch_size=7, **c.shared)
        except ValueError as error:
            why = str(error)
            model.fit(NUMBERS[:28], LABELS[:28], batch_size=7, workers=1, verbose=0)
    why = why or " ".join(str(each.message) for each in said)
    c.note(why=re.findall("is not possible: (.*?)[.]", why))
    c.note_state(model)


@case(**{str(number): number for number in FEW})
def random_training(c, about):
    """Any layers with any options, any way to train."""
    rng = np.random.default_rng(about)

    def one_of(*choices):
        return choices[rng.integers(len(choices))]

    samples, steps, of_steps = int(rng.integers(1, 30)), int(rng.integers(1, 6)), one_of(True, False)
    dtype, mask = {"dtype": one_of("float32", "float64")}, one_of(True, False)
    inner, limits = [], {"kernel_regularizer": one_of(None, "l2"), "kernel_constraint": one_of(None, "max_norm")}
    if one_of(True, False):
        x = rng.integers(0, 9, (samples, steps))
        inner.append(Embedding(9, 3, mask_zero=mask, embeddings_regularizer=one_of(None, None, "l2"), **dtype))
    else:
        x = rng.normal(size=(samples, steps, 2)) * (rng.random((samples, steps, 1)) < 0.6)
        inner += [Masking(**dtype)] if mask else []
    inner += [SpatialDropout1D(0.3, **dtype)] if one_of(True, False) else []
    for last in (False, True)[one_of(0, 1) :]:
        noise = {"dropout": one_of(0, 0.3), "recurrent_dropout": one_of(0, 0, 0.3)}
        layer = one_of(LSTM, GRU)(
            int(rng.integers(1, 5)), return_sequences=of_steps or not last, **noise, **limits, **dtype
        )
        inner.append(Bidirectional(layer, **dtype) if one_of(True, False, False) else layer)
    model = Sequential(
        [*inner, Dropout(0.2, **dtype), Dense(2, trainable=one_of(True, True, False), **dtype)], seed=about
    )
    clips = {one_of("clipnorm", "global_clipnorm", "clipvalue"): one_of(None, 1e-2)}
    rate = one_of(0.01, schedules.ExponentialDecay(0.02, 2, 0.5))
    model.compile(
        one_of(optimizers.SGD, optimizers.RMSprop, optimizers.Adam)(rate, **clips),
        one_of("mse", "mae"),
        metrics=["mse"],
    )
    y = rng.normal(size=(samples, steps, 2) if of_steps else (samples, 2))
    options = {"sample_weight": one_of(None, rng.random(samples)), "shuffle": one_of(True, False)}
    options |= {"validation_split": one_of(0.0, 0.4) if samples > 3 else 0.0}
    c.fit(model, x, y, batch_size=int(rng.integers(1, 12)), epochs=int(rng.integers(1, 4)), **options)
    for size in rng.integers(1, 12, 2):
        c.note(predicted=model.predict(x, batch_size=int(size), **c.shared))
        c.note(evaluated=model.evaluate(x, y, batch_size=int(size), **c.shared))


# --- callbacks, which run on the first rank ---------------------------------------------------------------------------


MOMENTS = {
    "batch_begin": "on_train_batch_begin",
    "batch_end": "on_train_batch_end",
    "epoch_begin": "on_epoch_begin",
    "epoch_end": "on_epoch_end",
    "train_begin": "on_train_begin",
    "train_end": "on_train_end",
}


class Own(callbacks.Callback):
    """Does one thing at one moment."""

    def __init__(self, moment, act):
        setattr(self, moment, lambda *arguments: act(self.model, *arguments))


@case()
def stops_early(c):
    stop = callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    model = words(optimizer=optimizers.Adam(0.3))
    c.fit(model, IDS, LABELS, epochs=9, validation_data=(OTHER_IDS, LABELS), callbacks=[stop])


@case(validated=False, saved=True)
def averages(c, about):
    model = words(optimizer=optimizers.Adam(0.05, use_ema=True, ema_momentum=0.75))
    swap = callbacks.SwapEMAWeights(swap_on_epoch=about)
    c.fit(model, IDS, LABELS, epochs=3, validation_data=(OTHER_IDS, LABELS), callbacks=[swap])


@case()
def stops_within_an_epoch(c):
    def stop(model, batch, logs):
        model.stop_training = batch == 2

    c.fit(words(), IDS, LABELS, validation_split=0.2, callbacks=[Own("on_train_batch_end", stop)])


@case()
def changes_the_learning_rate(c):
    plateau = callbacks.ReduceLROnPlateau(patience=0, factor=0.3, min_delta=1)
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 1.7)

    def each_batch(model, batch, logs):
        model.optimizer.learning_rate *= 0.9

    listeners = [plateau, schedule, Own("on_train_batch_begin", each_batch)]
    c.fit(words(), IDS, LABELS, epochs=4, validation_split=0.2, callbacks=listeners)


@case(**MOMENTS)
def changes_weights(c, about):
    def change(model, *arguments):
        weights = model.get_weights()
        model.set_weights([weights[0] * np.float32(1.01), *weights[1:]])

    c.fit(words(), IDS, LABELS, callbacks=[Own(about, change)])


@case(**MOMENTS)
def raises(c, about):
    """On all ranks, which have the same afterwards, what the callback changed before included."""

    def fail(model, *arguments):
        model.set_weights([w + 1 for w in model.get_weights()])
        raise OSError("no room left")

    model = words()
    c.note_error(OSError, lambda: c.fit(model, IDS, LABELS, callbacks=[Own(about, fail)]))
    c.fit(model, IDS, LABELS)


@case()
def changes_what_is_trained(c):
    def freeze(model, epoch, logs):
        model.layers[epoch % 2].trainable = False
        model.layers[(epoch + 1) % 2].trainable = True

    c.fit(words(), IDS, LABELS, epochs=4, callbacks=[Own("on_epoch_begin", freeze)])


@case(batch_end="on_train_batch_end", epoch_end="on_epoch_end")
def restarts_the_optimizer(c, about):
    def restart(model, number, logs):
        model.optimizer.iterations = 0
        if about == "on_epoch_end":
            model.optimizer.state[1]["momentum"][...] = 0

    c.fit(words(), IDS, LABELS, epochs=3, callbacks=[Own(about, restart)])


@case()
def adds_to_the_logs(c):
    def add(model, epoch, logs):
        logs["largest"] = float(np.abs(model.get_weights()[1]).max())

    listeners = [Own("on_epoch_end", add), callbacks.EarlyStopping("largest", mode="min")]
    c.fit(words(), IDS, LABELS, epochs=4, callbacks=listeners)


@case()
def looks_by_itself(c):
    """A callback's evaluate and predict, and its other models, are the first rank's alone."""

    def look(model, epoch, logs):
        logs["elsewhere"] = model.evaluate(OTHER_IDS, LABELS, verbose=0)[0]
        logs["predicted"] = float(model.predict(OTHER_IDS, batch_size=3, verbose=0).sum())
        other = words(LSTM(4, dropout=0.5), seed=1)
        logs["other"] = other.fit(IDS, LABELS, batch_size=9, verbose=0).history["loss"][-1]
        Sequential([Dense(1, input_shape=(2,))]).get_weights()  # without a seed

    c.fit(words(), IDS, LABELS, callbacks=[Own("on_epoch_end", look)])


@case()
def writes_files(c):
    listeners = [
        callbacks.ModelCheckpoint(c.folder / "{epoch}.npz", "val_loss"),
        callbacks.ModelCheckpoint(c.folder / "best.npz", "accuracy", save_best_only=True),
        callbacks.CSVLogger(c.folder / "log.csv"),
        callbacks.Checkpoint(c.folder / "run.npz", save_freq=2),
    ]
    model = c.fit(words(metrics=["accuracy", "AUC"]), IDS, LABELS, validation_split=0.2, callbacks=listeners)
    model.save(c.folder / "model.npz")
    c.note_files()


@case(after_an_epoch=(LABELS, 7, 4), within_an_epoch=(LABELS, 9, 2), with_a_mask=(CLASSES, 8, 3))
def resumes(c, about):
    """Stopped by an error in a callback, which all ranks raise, and resumed from a file that only the first has."""
    y, batches, save_freq = about
    path = c.folder / "run.npz"

    def fit(stop_after=-1, **options):
        begun = []

        def stop(model, batch, logs):
            begun.append(batch)
            if len(begun) == stop_after:
                raise OSError("the machine is needed elsewhere")

        model = words(LSTM(4, dropout=0.3, recurrent_dropout=0.2), metrics=["accuracy", "AUC"])
        if y is CLASSES:
            model = Sequential(
                [Embedding(V, 4, mask_zero=True), LSTM(4, return_sequences=True, dropout=0.2), Dense(4)], seed=1
            )
            model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
        plateau = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.1, factor=0.5)
        listeners = [Own("on_train_batch_begin", stop), plateau, callbacks.Checkpoint(path, save_freq)]
        c.fit(model, IDS, y, epochs=3, callbacks=listeners, **options)
        return model.get_weights()

    c.note_error(OSError, lambda: fit(stop_after=batches, resume=path))
    c.note_files()
    resumed = fit(resume=path)
    c.note_files()
    assert all(map(np.array_equal, resumed, fit()))


@case()
def resumes_no_other_run(c):
    c.fit(words(), IDS, LABELS, callbacks=[callbacks.Checkpoint(c.folder / "run.npz")])
    model = words(seed=4)
    c.note_error(ValueError, lambda: c.fit(model, IDS, LABELS, resume=c.folder / "run.npz"))
    c.fit(model, IDS, LABELS)


def exploding():
    model = Sequential([Dense(4, input_shape=(3,)), Dense(1)], seed=0)
    model.compile(optimizers.SGD(1e12), "mse")
    return model


@case()
def ends_on_nan(c):
    with np.errstate(all="ignore"):
        terminate = callbacks.TerminateOnNaN()
        c.fit(exploding(), NUMBERS[:, 0], LABELS, epochs=5, callbacks=[terminate], validation_split=0.2)


@case()
def fails_on_nan(c):
    with np.errstate(all="ignore"):
        c.note_error(FloatingPointError, lambda: c.fit(exploding(), NUMBERS[:, 0], LABELS, epochs=5))
        y = np.zeros(SAMPLES, "f4")
        y[20] = 1e30  # whose square is infinite, in one rank
        c.note_error(FloatingPointError, lambda: c.fit(exploding(), NUMBERS[:, 0], y))


# --- classes of the script's own, beside ours that compute the same, which `workers=` can split -----------------------


class OwnDense(Dense):
    def forward(self, x, run=None, mask=None):
        return super().forward(x, run, mask)


class OwnCell(SimpleRNNCell):
    pass


class OwnLoss(losses.MeanSquaredError):
    def values(self, y_true, y_pred, from_logits):
        difference = y_pred - y_true
        return np.mean(difference**2, axis=-1), 2 * difference / y_pred.shape[-1]


class OwnSGD(optimizers.SGD):
    def update(self, w, rows, g, learning_rate, momentum=None):
        super().update(w, rows, g, learning_rate, momentum)


class OwnMetric(metrics.MeanAbsoluteError):
    pass


@case()
def own_classes(c):
    dense, cell, loss, sgd, metric = (
        (OwnDense, OwnCell, OwnLoss, OwnSGD, OwnMetric)
        if ON_RANKS
        else (Dense, SimpleRNNCell, losses.MeanSquaredError, optimizers.SGD, metrics.MeanAbsoluteError)
    )
    model = Sequential([Embedding(V, 4), RNN(cell(5)), dense(3, activation="tanh"), Dropout(0.2), dense(1)], seed=5)
    model.compile(sgd(0.1, momentum=0.5, clipnorm=0.3), loss(), metrics=[metric(name="mae")])
    c.fit(model, IDS, LABELS, validation_split=0.3)


# --- what is random, and can only be compared between ranks -----------------------------------------------------------


@case()
def without_a_seed(c):
    models = [c.fit(words(LSTM(4, dropout=0.3), seed=None), IDS, LABELS) for _ in range(2)]
    assert not np.array_equal(*(model.get_weights()[0] for model in models))
    untrained = words(seed=None)
    c.note(predicted=untrained.predict(IDS[:3], verbose=0), weights=untrained.get_weights())  # a single batch


def processes_from_a_server():
    """Let the processes of `workers=` be forked from one that has imported the package, which takes less time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scratchlstm.training.parallel"])
    parallel.multiprocessing = types.SimpleNamespace(get_context=lambda method: context)


def main(folder, workers, *names):
    folder, found = Path(folder).resolve(), {}
    for name in names or CASES:
        files = folder / f"{name}-{ranks.rank}"
        files.mkdir()
        os.chdir(files)  # so that all call a file by the same name
        one = Case(int(workers), Path())
        CASES[name](one)
        found[name] = one.found
    (folder / f"digests-{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    if not ON_RANKS:
        processes_from_a_server()
    main(*sys.argv[1:])
