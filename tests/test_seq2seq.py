"""Encoder and decoder with attention: gradients, traces, workers, interrupted runs. (Keras: tests/tensorflow.)"""

import numpy as np
import pytest

from scratchlstm import Input, Model, gradcheck
from scratchlstm.callbacks import Callback, Checkpoint
from scratchlstm.inspection import explore, gradient_norm_over_time, trace
from scratchlstm.layers import LSTM, Attention, Bidirectional, Concatenate, Dense, Embedding, SimpleRNN

V, E, H, N, T_IN, T_OUT = 5, 2, 3, 11, 4, 3
RNG = np.random.default_rng(0)
# padded after and before, so that each mask counts
SOURCE = RNG.integers(1, V, (N, T_IN)) * (np.arange(T_IN) < RNG.integers(1, T_IN + 1, N)[:, None])
TARGET = RNG.integers(1, V, (N, T_OUT)) * (np.arange(T_OUT) >= RNG.integers(0, T_OUT, N)[:, None])
NEXT, LENGTH = RNG.integers(0, V, (N, T_OUT)), RNG.normal(size=(N, 1))
LOSS = "sparse_categorical_crossentropy"
X = {"source": SOURCE, "target": TARGET}


def seq2seq(encoder, decoder, dropout=0.0, several=False):
    """One embedding for both texts; the encoder's states go to the decoder, which looks back at its sequence."""
    options = {"dtype": "float64"}
    source, target = Input((None,), name="source"), Input((None,), name="target")
    words = Embedding(V, E, mask_zero=True, name="words", **options)
    sequence, *states = encoder(return_sequences=True, return_state=True, dropout=dropout)(words(source))
    decoded = decoder(return_sequences=True)(words(target), initial_state=states)
    context = Attention(use_scale=True, name="attention", **options)([decoded, sequence])
    both = Concatenate(**options)([decoded, context])
    outputs = [Dense(V, activation="softmax", name="next", **options)(both)]
    outputs += [Dense(1, name="length", **options)(states[-1])] if several else []
    model = Model([source, target], outputs if several else outputs[0], seed=1)
    model.compile("adam", [LOSS, "mse"] if several else LOSS)
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.get_weights()])
    return model


def of(kind, name, **fixed):
    return lambda **options: kind(H, name=name, dtype="float64", **fixed, **options)


def both_ways(name, **fixed):
    def make(dropout=0.0, **options):
        return Bidirectional(LSTM(H, dtype="float64", dropout=dropout, **fixed, **options), merge_mode="sum", name=name)

    return make


PAIRS = {
    "fused": (of(LSTM, "encoder"), of(LSTM, "decoder")),
    "textbook": [of(LSTM, name, implementation="textbook") for name in ("encoder", "decoder")],
    "simple": (of(SimpleRNN, "encoder"), of(SimpleRNN, "decoder")),
    "bidirectional": (both_ways("encoder"), both_ways("decoder")),
    "backwards": (of(LSTM, "encoder", go_backwards=True), of(LSTM, "decoder")),
}


@pytest.mark.parametrize(("pair", "several"), [*((pair, pair == "simple") for pair in PAIRS), ("fused", True)])
def test_gradients_are_those_of_central_differences(pair, several):
    model = seq2seq(*PAIRS[pair], dropout=0.3, several=several)
    x, y = {name: ids[:3] for name, ids in X.items()}, [NEXT[:3], LENGTH[:3]] if several else NEXT[:3]
    assert gradcheck.check_model(model, x, y, training=several).ok


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "several"), [(1, False), (2, True)])
def test_a_run_that_was_interrupted_ends_bit_for_bit(tmp_path, workers, several):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if (self.model.optimizer.iterations, self.stops) == (4, True):
                raise KeyError("stopped")

    def run(name, stops=False):
        model, stop = seq2seq(*PAIRS["fused"], dropout=0.3, several=several), Stop()
        stop.stops, path = stops, tmp_path / name
        options = {"callbacks": [Checkpoint(path, save_freq=3), stop], "resume": path, "workers": workers, "verbose": 0}
        model.fit(X, [NEXT, LENGTH] if several else NEXT, batch_size=4, epochs=2, **options)
        return model

    whole = run("whole")
    with pytest.raises(KeyError, match="stopped"):
        run("part", stops=True)
    part = run("part")
    assert part.history.history == whole.history.history
    assert all(map(np.array_equal, part.get_weights(), whole.get_weights()))


def test_two_processes_are_one():
    """Rows of the source and the target are masked, and so is the loss."""
    found = []
    for workers in 1, 2:
        model = seq2seq(*PAIRS["fused"], dropout=0.3, several=True)
        start = model.get_weights()
        model.fit(X, [NEXT, LENGTH], batch_size=4, workers=workers, verbose=0)
        found.append([w - w0 for w, w0 in zip(model.get_weights(), start, strict=True)])
    for one, other in zip(*found, strict=True):
        assert np.linalg.norm(one - other) <= 1e-11 * np.linalg.norm(one)


# --- looking inside ---------------------------------------------------------------------------------------------------


def shared_decoder():
    """A decoder at two places, from the encoder's states and from them exchanged."""
    source, target = Input((T_IN,), name="source"), Input((T_OUT,), name="target")
    words, shared = (Embedding(V, E, mask_zero=True, dtype="float64"), of(LSTM, "decoder", return_sequences=True)())
    _, h, c = of(LSTM, "encoder", return_state=True)()(words(source))
    ways = [shared(words(target), initial_state=states) for states in ([h, c], [c, h])]
    y = Dense(V, activation="softmax", dtype="float64")(Concatenate(dtype="float64")(ways))
    model = Model([source, target], [y, h], seed=0)
    model.compile("adam", [LOSS, "mse"])
    return model


def test_a_trace_follows_states_to_every_place():
    model = shared_decoder()
    found = trace(model, X, [NEXT, np.ones((N, H))])
    assert list(found.layers) == ["encoder", "decoder", "decoder#2"]
    assert repr(found).startswith(f"Trace of {N} samples, prediction (11, 3, 5), (11, 3), loss")
    encoder, decoder, again = (found[name] for name in found.layers)
    for h0, c0, of_place in (encoder.h, encoder.c, decoder), (encoder.c, encoder.h, again):
        np.testing.assert_allclose(of_place.h_prev[:, 0], h0[:, -1], rtol=1e-13)
        np.testing.assert_allclose(of_place.c_prev[:, 0], c0[:, -1], rtol=1e-13)
    of_loss = 2 * (encoder.h[:, -1] - 1) / (N * H)
    expected = of_loss + decoder.dh_prev[:, 0] + again.dc_prev[:, 0]
    np.testing.assert_allclose(encoder.dh_above[:, -1], expected, rtol=1e-12)
    np.testing.assert_allclose(encoder.dc_next[:, -1], decoder.dc_prev[:, 0] + again.dh_prev[:, 0], rtol=1e-12)
    assert np.all(encoder.mask == (SOURCE != 0))
    assert decoder.mask.all(), "a mask beside states is for the loss"
    norms = gradient_norm_over_time(model, X, [NEXT, np.ones((N, H))], layer="decoder#2")
    assert norms.shape == (T_OUT,)


def test_the_explorer_reads_one_text():
    with pytest.raises(ValueError, match="explore reads one text, but the model has 2 inputs"):
        explore(shared_decoder(), "a b", "page.html", word_index={"a": 1, "b": 2})
