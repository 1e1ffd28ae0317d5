"""The order of a branched model's layers is Keras', and files in the older order are read as what they are."""

import numpy as np
import pytest

from scratchlstm import Input, Model
from scratchlstm.callbacks import Callback, Checkpoint, EarlyStopping
from scratchlstm.layers import (
    LSTM,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    SpatialDropout1D,
)

V, T, N = 9, 5, 24
X, Y = np.random.default_rng(0).integers(0, V, (N, T)), np.random.default_rng(1).integers(0, 2, N)


def branched(dropout=0.3):
    """Branches of one, two and three layers, with dropout of four kinds."""
    words = Input((T,))
    x = Embedding(V, 3, mask_zero=True)(words)
    short = LSTM(2, dropout=dropout, name="short")(x)
    mean = Dropout(dropout, name="mean")(GlobalAveragePooling1D(name="average")(x))
    rows = LSTM(4, return_sequences=True, recurrent_dropout=dropout, name="long_1")(x)
    long = LSTM(3, name="long_2")(SpatialDropout1D(dropout, name="spatial")(rows))
    y = Dropout(dropout, name="last")(Concatenate()([short, mean, long]))
    model = Model(words, Dense(1, activation="sigmoid")(y), seed=0)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def in_older_order(monkeypatch, dropout=0.3):
    """The model as version 0.1.0 had it: its layers as a depth-first search leaves them."""
    with monkeypatch.context() as patch:
        patch.setattr(
            "scratchlstm.layers.network.keras_order",
            lambda sources, ends, owners=None: owners or list(range(len(sources))),
        )
        return branched(dropout)


def by_name(model, of):
    """Layer and parameter -> the array that `of` has in its place."""
    names = [(layer.name, name) for layer in model.layers for name in layer.params]
    return dict(zip(names, of, strict=True))


def numbers(model):
    """All of its history."""
    return [value for values in model.history.history.values() for value in values]


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_the_longest_way_to_the_output_comes_first():
    words = Input((T, 3))
    short, first = LSTM(2, name="short")(words), LSTM(2, return_sequences=True, name="long_1")(words)
    model = Model(words, Dense(1)(Concatenate()([short, LSTM(2, name="long_2")(first)])), seed=0)
    assert [layer.name for layer in model.layers] == ["long_1", "short", "long_2", "concatenate", "dense"]
    assert model.sources == [(-1,), (-1,), (0,), (1, 2), (3,)]
    assert [w.shape for w in model.get_weights()[:6:3]] == [(3, 8), (3, 8)]


def test_a_seed_draws_what_it_drew_before_the_order_was_keras(monkeypatch):
    ours, older = branched(), in_older_order(monkeypatch)
    assert [layer.name for layer in ours.layers] != [layer.name for layer in older.layers]
    assert same(by_name(ours, ours.params), by_name(older, older.params))
    for model in ours, older:
        model.fit(X, Y, batch_size=8, verbose=0)
    assert numbers(ours) == pytest.approx(numbers(older), rel=1e-6)


def test_a_file_in_the_older_order(monkeypatch, tmp_path):
    older = in_older_order(monkeypatch)
    older.fit(X, Y, batch_size=8, verbose=0)
    older.save(tmp_path / "older.npz")
    model = Model.load(tmp_path / "older.npz")
    assert [layer.name for layer in model.layers] == [layer.name for layer in branched().layers]
    assert np.array_equal(model.predict(X, verbose=0), older.predict(X, verbose=0))
    assert same(by_name(model, model.get_weights()), by_name(older, older.params))
    for slot in "momentum", "velocity":
        ours, theirs = ([state[slot] for state in m.optimizer.state] for m in (model, older))
        assert same(by_name(model, ours), by_name(older, theirs))
    model.save(tmp_path / "newer.npz")
    again = Model.load(tmp_path / "newer.npz")
    assert again.sources == model.sources
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


class StopAt(Callback):
    """Ends the run with an error after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == self.steps:
            raise KeyError("stopped")


def fit(model, *more, **options):
    stopping = EarlyStopping("loss", patience=9, restore_best_weights=True)
    model.fit(X, Y, epochs=4, batch_size=8, verbose=0, callbacks=[stopping, *more], **options)
    return stopping


def test_a_checkpoint_in_the_older_order_goes_on_as_it_would_have(monkeypatch, tmp_path):
    straight = branched()
    best = fit(straight, StopAt(None)).best_weights
    with pytest.raises(KeyError):
        fit(in_older_order(monkeypatch), StopAt(4), Checkpoint(tmp_path / "run.npz", save_freq=1))
    resumed = branched()
    stopping = fit(resumed, StopAt(None), resume=tmp_path / "run.npz")
    assert numbers(resumed) == pytest.approx(numbers(straight), rel=1e-6)
    for ours, theirs in (resumed.get_weights(), straight.get_weights()), (stopping.best_weights, best):
        assert all(np.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(ours, theirs, strict=True))
    states = [[source.rng.bit_generator.state for source in model.dropout_masks] for model in (resumed, straight)]
    assert states[0] == states[1]


def test_a_long_chain():
    """Longer than Python's recursion goes."""
    x = start = Input((1,))
    for number in range(1500):
        x = Dropout(0.0, name=f"{number}")(x)
    assert len(Model(start, x).layers) == 1500
