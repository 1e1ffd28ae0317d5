"""Train the tutorial's model on some reviews, and print a line of JSON: on each rank, or in one process.

It says what the rank ends with, what its host has sent and should have sent, and how long a step takes.
"""

import argparse
import hashlib
import json
import os
import socket
import time
from pathlib import Path
from statistics import median

import numpy as np

from scratchlstm import Sequential, layers
from scratchlstm._support import ranks
from scratchlstm.callbacks import Checkpoint
from scratchlstm.datasets import imdb
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.training.steps import OneProcess
from scratchlstm.training.worker import Workers

WORDS, FEATURES, UNITS = 20000, 128, 60
DENSE = 4 * (4 * UNITS * (FEATURES + UNITS + 1) + UNITS + 1)  # bytes of all gradients but the embedding's
ROW = 4 + 4 * FEATURES  # bytes: a word's number, and the gradient of its vector


def write_data(path, samples):
    """Write some real reviews to a file, as the tutorial trains on them; the file's path."""
    (x, y), _ = imdb.load_data(num_words=WORDS, verbose=0)
    np.savez(path, x=pad_sequences(x[:samples], maxlen=100), y=np.asarray(y[:samples], np.float32))
    return path


def bytes_to_send(x, size, rank):
    """What a rank sends when a batch x (B, T) is trained on: the formula of docs/distributed.md."""
    words = [np.unique(x[len(x) * each // size : len(x) * (each + 1) // size]) for each in range(size)]
    if size < 3:  # all it has to each of the others
        return (size - 1) * (len(words[rank]) * ROW + DENSE)
    to_owners = np.count_nonzero(words[rank] % size != rank)
    of_own = (size - 1) * np.count_nonzero(np.unique(x) % size == rank)  # the sums, to all others
    return (to_owners + of_own) * ROW + 2 * DENSE * (size - 1) / size


def sent():
    """How many bytes this host has sent so far."""
    counts = [line.split() for line in Path("/proc/net/dev").read_text().splitlines()]
    return next((int(fields[9]) for fields in counts if fields[0] == "eth0:"), 0)


class Meter:
    """What the steps on batches of x send, and how long they take, from the second of each epoch on."""

    def __init__(self, x):
        self.x, self.bytes, self.expected, self.seconds = x, 0, 0.0, []
        for kind in Workers, OneProcess:
            kind.step = self.watched(kind.step)

    def watched(self, step):
        def watched(workers, start, stop):
            before, begin = sent(), time.perf_counter()
            result = step(workers, start, stop)
            if start:
                self.seconds.append(time.perf_counter() - begin)
                self.bytes += sent() - before
                self.expected += bytes_to_send(self.x[start:stop], ranks.size, ranks.rank)
            return result

        return watched


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="an .npz file with x and y")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--checkpoint", help="to write to, and to resume from")
    options = parser.parse_args()
    with np.load(options.data) as data:
        x, y = data["x"], data["y"]
    model = Sequential(seed=1)
    model.add(layers.Embedding(WORDS, FEATURES, input_shape=x.shape[1:]))
    model.add(layers.LSTM(UNITS))
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    meter = Meter(x)
    settings = {"batch_size": options.batch, "epochs": options.epochs, "shuffle": False, "verbose": 0}
    if options.checkpoint:
        settings |= {"callbacks": [Checkpoint(options.checkpoint)], "resume": options.checkpoint}
    model.fit(x, y, workers=options.workers, **settings)
    arrays = [*model.params, *(array for state in model.optimizer.state for array in state.values())]
    steps = len(meter.seconds)
    report = {
        "host": socket.gethostname(),
        "rank": ranks.rank,
        "digest": hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest(),
        "steps": steps,
        "bytes": meter.bytes / steps,
        "expected": meter.expected / steps,
        "ms": 1e3 * median(meter.seconds),
    }
    os.write(1, (json.dumps(report) + "\n").encode())  # sys.stdout is rank 0's alone


if __name__ == "__main__":
    main()
