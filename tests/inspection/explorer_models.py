"""Small trained models that read words, for the tests of the explorer page."""

import numpy as np

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Bidirectional, Dense, Dropout, Embedding, SpatialDropout1D
from scratchlstm.losses import BinaryCrossentropy, CategoricalCrossentropy, Crossentropy, SparseCategoricalCrossentropy
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing.sequence import pad_sequences

GOOD, BAD = ["wonderful", "loved", "good"], ["bad", "boring", "not"]
WORDS = ["a", "film", "i", "every", "minute", "it", "was", "and", *GOOD, *BAD]
WORD_INDEX = {word: rank for rank, word in enumerate(WORDS, start=1)}
SENTENCE = "A wonderful film, I loved every minute; the plot was not bad"


def sentiment(*recurrent, length=12, mask_zero=False, compiled=True, last=None, epochs=8):
    """A model that has learned whether there are more good words than bad ones."""
    layers = [Embedding(len(WORDS) + 4, 6, input_shape=(length,), mask_zero=mask_zero), *(recurrent or [LSTM(5)])]
    model = Sequential([*layers, *(last or [Dense(1, activation="sigmoid")])], seed=3)
    if compiled:
        model.compile(Adam(0.02), "binary_crossentropy")
    if compiled and length and not last and epochs:
        rng = np.random.default_rng(0)
        x = rng.integers(4, len(WORDS) + 4, (256, length))
        good, bad = (np.isin(x - 3, [WORD_INDEX[word] for word in words]).sum(axis=1) for words in (GOOD, BAD))
        model.fit(x, good > bad, epochs=epochs, verbose=0)
    return model


def stacked():
    """Two directions, then one."""
    return sentiment(Bidirectional(LSTM(4, return_sequences=True)), LSTM(3))


# --- models of every kind that the page runs --------------------------------------------------------------------------

HEADS = {  # -> outputs, activation of the Dense layer, loss
    "yes or no": (1, "sigmoid", "binary_crossentropy"),
    "classes": (3, "softmax", "sparse_categorical_crossentropy"),
    "several answers": (3, "sigmoid", "binary_crossentropy"),
    "one-hot": (4, "softmax", "categorical_crossentropy"),
    "a number": (1, None, "mse"),
    "yes or no, logits": (1, None, BinaryCrossentropy(from_logits=True)),
    "numbers": (2, None, "mse"),
    "classes, logits": (3, None, SparseCategoricalCrossentropy(from_logits=True)),
    "one-hot, logits": (3, None, CategoricalCrossentropy(from_logits=True)),
}
READINGS = {  # -> words that the model reads (None: any number), words that are given
    "any length": (None, 7),
    "padded": (12, 7),
    "cut": (6, 9),
    "one step": (1, 2),
    "one padded": (3, 1),
}


def random_reader(seed, dtype):
    """A model with random weights, as `random_text` has a text for it; the seed also chooses what kind it is.

    Args:
        seed: 0, 1, ...; any 20 in a row have each head and each way of reading, at least twice.
        dtype: of its layers; "mixed" for an Embedding in float32 and the others in float64.
    """
    rng = np.random.default_rng(seed)
    length, _ = list(READINGS.values())[seed % len(READINGS)]
    outputs, activation, loss = list(HEADS.values())[seed % len(HEADS)]
    embedding, others = ("float32", "float64") if dtype == "mixed" else (dtype, dtype)
    units, features = rng.integers(1, 10, 2)
    features += features == units
    dense = Dense(outputs, activation=activation, use_bias=seed % 7 != 0, dtype=others)
    options = {"implementation": "textbook", "dropout": 0.2, "recurrent_dropout": 0.1, "dtype": others}
    lstm = LSTM(int(units), go_backwards=seed % 4 == 3, use_bias=seed % 6 != 1, **options)
    layers = [Embedding(len(WORDS) + 4, int(features), mask_zero=seed % 3 != 0, input_shape=(length,), dtype=embedding)]
    layers += [SpatialDropout1D(0.3, dtype=others)] * (seed % 4 == 0) + [
        lstm,
        *[Dropout(0.4, dtype=others)] * (seed % 2),
    ]
    model = Sequential([*layers, dense], seed=seed)
    model.compile("adam", loss)
    model.set_weights([rng.normal(0, 0.6, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def random_text(seed):
    """Words for `random_reader`, some of them unknown to it, some twice."""
    rng = np.random.default_rng(seed)
    _, count = list(READINGS.values())[seed % len(READINGS)]
    return [*rng.choice([*WORDS, "unheard"], count).tolist(), "good", "not", "good"][-count:]


def random_label(model, seed):
    """A label that its loss takes, by chance; None for the model's own answer, in every third model that has one."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0 and isinstance(model.loss, Crossentropy):
        return None
    outputs = model.layers[-1].units
    if isinstance(model.loss, SparseCategoricalCrossentropy):
        return int(rng.integers(outputs))
    if isinstance(model.loss, CategoricalCrossentropy):
        return np.eye(outputs)[rng.integers(outputs)].tolist()
    return rng.uniform(0, 1, outputs).round(2).tolist()


def quoted(word):
    """A word as the page quotes it, isolated from what is written around it in the other direction."""
    return f"“\N{FIRST STRONG ISOLATE}{word}\N{POP DIRECTIONAL ISOLATE}”"


def as_read(model, text):
    """The ids of a text as the model reads them, (1, T)."""
    ids = [1] + [WORD_INDEX[word] + 3 if word in WORD_INDEX else 2 for word in text]
    return pad_sequences([ids], maxlen=model.input_shape[0])


# for the page: what the sources of a quantity come to
RESULT_OF = """
    const WRAPS = { "": (sum) => sum, "σ": sigmoid, tanh: Math.tanh };
    const resultOf = (pass, { wrap, terms, nudge }) => WRAPS[wrap](sumOf(pass, terms)) + nudge;
"""
