"""A training that kills itself, at the moments that `kills.json` lists: `restarting.py FOLDER [again]`."""

import atexit
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from scratchlstm import Sequential
from scratchlstm._support import ranks
from scratchlstm.callbacks import Checkpoint
from scratchlstm.layers import LSTM, Dense, Embedding

folder = Path(sys.argv[1])
kills, used = json.loads((folder / "kills.json").read_text()), folder / "used"
number = ranks.communicator.bcast(len(used.read_text()) if used.exists() else 0)  # before a rank may add to it
rank, step, calls = kills[number] if number < len(kills) else (-1, 0, 0)


def die():
    with used.open("a") as file:
        file.write(".")
    os.kill(os.getpid(), signal.SIGKILL)


def count(frame, event, argument):
    """Die at one of the calls and returns of Python functions that follow."""
    global calls
    calls -= 1
    if calls == 0:
        die()


class Watched(Dense):
    began = False

    def forward(self, x, run=None, mask=None):
        if ranks.first() and not self.began:
            self.began = True
            (folder / "began").write_text(str(model.optimizer.iterations))
        if ranks.rank == rank and model.optimizer.iterations >= step and sys.getprofile() is None:
            sys.setprofile(count)
        return super().forward(x, run, mask)


if ranks.rank == rank and step < 0:
    die()
rng = np.random.default_rng(0)
x, y = rng.integers(1, 30, (54, 6)), rng.integers(0, 2, (54, 1)).astype("float32")
model = Sequential([Embedding(30, 4), LSTM(5, dropout=0.2), Watched(1, activation="sigmoid")], seed=1)
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
if "again" in sys.argv:
    model.fit(x, y, epochs=1, verbose=0, callbacks=[Checkpoint(folder / "run.npz")])
options = {"batch_size": 8, "epochs": 6, "validation_split": 0.2, "verbose": 0}
history = model.fit(x, y, callbacks=[Checkpoint(folder / "run.npz", save_freq=2)], **options).history
sys.setprofile(None)
if ranks.rank == rank:
    atexit.register(die)
arrays = [*model.params, *(array for slots in model.optimizer.state for array in slots.values())]
digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays))
(folder / f"end{ranks.rank}").write_text(json.dumps([digest.hexdigest(), model.optimizer.iterations, history]))
