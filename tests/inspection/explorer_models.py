"""Small trained models that read words, for the tests of the explorer page."""

import numpy as np

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Bidirectional, Dense, Embedding
from scratchlstm.optimizers import Adam

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
