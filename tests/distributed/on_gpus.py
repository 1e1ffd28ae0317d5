"""A script for several ranks: each trains on a GPU, here the stand-in, together with the others and then by itself."""

import json
from types import SimpleNamespace

import cupy_standin
import numpy as np
from mpi4py import MPI

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Dense, Dropout, Embedding
from scratchlstm.optimizers import Adam

V, T, GPUS = 30, 8, 2
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, V, size=(11, T)), RNG.integers(0, 2, size=11)


def train(**options):
    model = Sequential(seed=1, backend="cupy")
    model.add(Embedding(V, 4, input_shape=(T,), dtype="float64"))
    model.add(LSTM(3, dtype="float64"))
    model.add(Dropout(0.2, dtype="float64"))
    model.add(Dense(1, "sigmoid", dtype="float64"))
    model.compile(Adam(0.01, clipnorm=0.1), "binary_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, batch_size=4, epochs=2, validation_split=0.2, verbose=0, **options)
    return SimpleNamespace(weights=model.get_weights(), losses=[model.history.history[k] for k in ("loss", "val_loss")])


cupy_standin.CUPY.cuda.runtime.getDeviceCount = lambda: GPUS
with cupy_standin.in_place_of_cupy():
    together, alone = train(), train(workers=1)
bits = b"".join(w.tobytes() for w in together.weights)
found = MPI.COMM_WORLD.allgather((bits, cupy_standin.Device._in_use))
pairs = zip(together.weights + together.losses, alone.weights + alone.losses, strict=True)
off = max(float(np.max(np.abs(np.subtract(one, two)))) for one, two in pairs)
moved = float(np.abs(alone.weights[1]).max())
same = {"kinds": len({bits for bits, _ in found}), "gpus": [gpu for _, gpu in found]}
print(json.dumps({**same, "off": off, "moved": moved}))
