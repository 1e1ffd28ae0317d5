"""What differs between hosts, one after another; the last ends the run. `FOLDER` is a path at which each has a disk."""

import socket
import sys
from pathlib import Path

import numpy as np

import scratchlstm.mpi
from scratchlstm import Sequential, layers

folder, host = Path(sys.argv[1]), int(socket.gethostname().removeprefix("host"))
own = np.load(folder / "own.npy")
x, y = np.arange(48).reshape(16, 3) % 7, np.arange(16) % 2


def fit(x=x, seed=3, units=4, batch_size=8, **options):
    model = Sequential([layers.Embedding(7, 5), layers.LSTM(units), layers.Dense(1)], seed=seed)
    model.compile("adam", "mse")
    (model.evaluate if options.get("evaluates") else model.fit)(x, y, batch_size, verbose=0)


for difference in ({"x": own}, {"seed": host}, {"units": 3 + host}, {"batch_size": 3 + host}, {"evaluates": host > 1}):
    try:
        fit(**difference)
    except (ValueError, RuntimeError) as error:
        if scratchlstm.mpi.first():
            print(f"{next(iter(difference))}: {error}", flush=True)
fit()
if scratchlstm.mpi.first():
    print("trained", flush=True)
np.load(folder / "only_on_host1.npy")
