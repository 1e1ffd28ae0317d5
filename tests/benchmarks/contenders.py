"""The same model in this package, in Keras on TensorFlow and in PyTorch, behind one set of commands.

Run as a process: the first argument describes the contender in JSON, then each line of standard input is a command and
is answered by a line of JSON. Between commands a contender sleeps, so that the next one has the machine to itself.
"""

import json
import os
import sys
import time

import numpy as np

START = time.perf_counter()


def layers_of(shape, layers):
    """The model's layers, from this package's or Keras' `layers`; `shape` may name options of the recurrent layer."""
    options = shape.get("options", {})
    found = [layers.Input((shape["T"],) if shape["tokens"] else (shape["T"], shape["E"]))]
    if shape["tokens"]:
        found.append(layers.Embedding(shape["V"], shape["E"], mask_zero=shape.get("mask_zero", False)))
    for number in range(depth := shape.get("depth", 1)):
        recurrent = getattr(layers, shape["layer"])(shape["H"], return_sequences=number < depth - 1, **options)
        found.append(layers.Bidirectional(recurrent) if shape.get("bidirectional") else recurrent)
    return [*found, layers.Dense(1, activation="sigmoid")]


class Ours:
    """This package; `workers` processes, and compiled loops or NumPy alone."""

    def __init__(self, shape, workers, compiled=True):
        if not compiled:
            os.environ["NUMBA_DISABLE_JIT"] = "1"  # also of the workers
        from scratchlstm import Sequential, layers

        self.workers = workers
        self.model = Sequential(layers_of(shape, layers), seed=0)
        self.model.compile("adam", "binary_crossentropy", metrics=["accuracy"])

    def epochs(self, x, y, batch, count):
        """Seconds of each epoch."""
        from scratchlstm.callbacks import Callback

        return timed_fit(self.model, Callback, x, y, batch, count, workers=self.workers)

    def predict(self, x, batch):
        self.model.predict(x, batch_size=batch, verbose=0, workers=self.workers)


class Keras:
    """Keras on TensorFlow."""

    def __init__(self, shape):
        import keras

        self.model = keras.Sequential(layers_of(shape, keras.layers))
        self.model.compile("adam", "binary_crossentropy", metrics=["accuracy"])

    def epochs(self, x, y, batch, count):
        """Seconds of each epoch."""
        from keras.callbacks import Callback

        return timed_fit(self.model, Callback, x, y, batch, count)

    def predict(self, x, batch):
        self.model.predict(x, batch_size=batch, verbose=0)


class Torch:
    """PyTorch, with a training loop of its own; `adam` are options of its optimizer.

    Gradients that fade over many steps end as denormal numbers, each of which takes a processor a hundred times as
    long. This package's loops and TensorFlow make them 0; PyTorch does if `flush` asks it to.
    """

    def __init__(self, shape, device="cpu", flush=False, **adam):
        import torch
        from torch import nn

        torch.set_flush_denormal(flush)  # before there are other threads, which inherit it
        self.torch, self.tokens = torch, shape["tokens"]
        self.embedding = nn.Embedding(shape["V"], shape["E"]) if self.tokens else nn.Identity()
        self.recurrent = getattr(nn, shape["layer"])(shape["E"], shape["H"], batch_first=True)
        self.dense = nn.Linear(shape["H"], 1)
        modules = self.embedding, self.recurrent, self.dense
        parameters = [p for module in modules for p in module.to(device).parameters()]
        self.optimizer = torch.optim.Adam(parameters, eps=1e-7, **adam)
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, x):
        _, last = self.recurrent(self.embedding(x))
        h = last[0] if isinstance(last, tuple) else last  # an LSTM has c beside it
        return self.dense(h[0])[:, 0]

    def epochs(self, x, y, batch, count):
        """Seconds of each epoch."""
        x = self.torch.from_numpy(x.astype(np.int64) if self.tokens else x)
        y = self.torch.from_numpy(y.astype(np.float32))
        seconds = []
        for _ in range(count):
            start, loss_sum, right = time.perf_counter(), 0.0, 0
            order = self.torch.randperm(len(x))
            for first in range(0, len(x), batch):
                which = order[first : first + batch]
                self.optimizer.zero_grad()
                logits = self.forward(x[which])
                loss = self.loss(logits, y[which])
                loss.backward()
                self.optimizer.step()
                loss_sum += loss.item() * len(which)
                right += int(((logits > 0) == (y[which] > 0)).sum())
            seconds.append(time.perf_counter() - start)
        return seconds

    def predict(self, x, batch):
        batch = batch or 512  # PyTorch has no default
        with self.torch.inference_mode():
            x = self.torch.from_numpy(x.astype(np.int64) if self.tokens else x)
            for first in range(0, len(x), batch):
                self.torch.sigmoid(self.forward(x[first : first + batch])).numpy()


def timed_fit(model, base, x, y, batch, count, **options):
    """Fit, without hooks on single batches, which would slow Keras down."""
    seconds = []

    class Clock(base):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.start)

    model.fit(x, y, batch_size=batch, epochs=count, callbacks=[Clock()], verbose=0, **options)
    return seconds


def main():
    setup = json.loads(sys.argv[1])
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    contender = {"ours": Ours, "keras": Keras, "torch": Torch}[setup["kind"]](setup["shape"], **setup["options"])
    data = np.load(setup["data"])
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        command = json.loads(line)
        x, y = data["x"][: command["samples"]], data["y"][: command["samples"]]
        if command["do"] == "train":
            answer = contender.epochs(x, y, command["batch"], command["epochs"])
        else:
            start = time.perf_counter()
            contender.predict(x, command["batch"])
            answer = [time.perf_counter() - start]
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
