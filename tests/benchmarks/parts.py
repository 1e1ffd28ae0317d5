"""Where a training step's time goes, and what each technique of docs/fast.md is worth.

    python tests/benchmarks/parts.py

At the tutorial's shape, on real reviews. Each technique is switched off in turn, all others staying on; every variant
is a process of its own, and the variants take turns for several rounds. Writes parts.md and parts.svg to --output.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

PARTS = ("forward", "backward", "optimizer", "rest")


def dense_input(modules):
    """Project every position, not each distinct word."""

    class Dense(modules.layers.Embedding):
        def forward(self, x):
            table, groups = self.params["embeddings"], modules.rows.Groups(x)
            return table[x], modules.rows.GatheredRows(table[groups.ids], groups, table.shape)

    modules.layers.Embedding = Dense


def add_at(modules):
    """Sum by id with np.add.at."""

    def add_at_sum(self, values):
        sums = np.zeros((len(self.ids), values.shape[1]), values.dtype)
        np.add.at(sums, self.index.ravel(order="F"), values)
        return sums

    modules.rows.Groups.sum = add_at_sum


def separate_activations(modules):
    """A sigmoid and a tanh, each with its own formula."""
    plain = modules.numpy_lstm.NumpyLSTM.__init__

    def init(self, W, U, b, activation, recurrent_activation, *rest):
        from dataclasses import replace

        plain(self, W, U, b, replace(activation, name="φ"), replace(recurrent_activation, name="σ"), *rest)

    modules.numpy_lstm.NumpyLSTM.__init__ = init


def one_thread(modules):
    """Nothing is shared between threads."""
    modules.threads.threads = lambda: 1


def nothing(modules):
    """All on."""


NUMPY = {"compiled": False}
VARIANTS = {  # what is changed, and options
    "all of it": (nothing, {}),
    "in one thread": (one_thread, {}),
    "without distinct rows": (dense_input, {}),
    "without sums by occurrence (np.add.at)": (add_at, {}),
    "NumPy's recurrence": (nothing, {"implementation": "numpy"}),
    "the textbook's recurrence": (nothing, {"implementation": "textbook"}),
    "nothing compiled": (nothing, NUMPY),
    "nothing compiled, without one tanh for all gates": (separate_activations, NUMPY),
    "nothing compiled, two workers": (nothing, NUMPY | {"workers": 2}),
}


def measure(name, steps):
    """Milliseconds of each part, medians over the steps."""
    from types import SimpleNamespace

    change, options = VARIANTS[name]
    if not options.get("compiled", True):
        os.environ["NUMBA_DISABLE_JIT"] = "1"
    from scratchlstm import Sequential, layers, optimizers, rows
    from scratchlstm._support import threads
    from scratchlstm.callbacks import Callback
    from scratchlstm.datasets import imdb
    from scratchlstm.kernels import numpy_lstm
    from scratchlstm.layers.network import Network
    from scratchlstm.preprocessing.sequence import pad_sequences
    from scratchlstm.training import parallel, worker
    from scratchlstm.training.steps import OneProcess

    change(SimpleNamespace(layers=layers, numpy_lstm=numpy_lstm, rows=rows, threads=threads))
    spent = {}

    def timed(owner, method, part):
        original = getattr(owner, method)

        def wrapper(*arguments, **keywords):
            start = time.perf_counter()
            result = original(*arguments, **keywords)
            spent.setdefault(part, []).append(1e3 * (time.perf_counter() - start))
            return result

        setattr(owner, method, wrapper)

    timed(Network, "forward", "forward")
    timed(Sequential, "gradients", "backward")
    timed(optimizers.Optimizer, "apply", "optimizer")
    timed(worker.Worker, "update", "optimizer")
    timed(OneProcess, "step", "step")
    timed(parallel.Team, "step", "step")

    (x, y), _ = imdb.load_data(num_words=20000, verbose=0)
    x, y = pad_sequences(x[: 128 * steps], 100), y[: 128 * steps]
    model = Sequential(seed=0)
    model.add(layers.Embedding(20000, 128, input_shape=(100,)))
    model.add(layers.LSTM(60, implementation=options.get("implementation", "fused")))
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, verbose=0, callbacks=Callback(), workers=options.get("workers", 1))
    medians = {part: median(values[3:]) for part, values in spent.items()}
    medians["rest"] = medians["step"] - sum(medians[part] for part in PARTS[:3])
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--output", default="runs/benchmark")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options.steps)))
        return
    rounds = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name in VARIANTS:
            command = [sys.executable, __file__, "--variant", name, "--steps", str(options.steps)]
            rounds[name].append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
    results = {
        name: {part: median(of[part] for of in measured) for part in (*PARTS, "step")}
        for name, measured in rounds.items()
    }
    lines = ["| | step (ms) | " + " | ".join(PARTS) + " | of all of it |", "|---" * 7 + "|"]
    for name, parts in results.items():
        cells = " | ".join(f"{parts[part]:.1f}" for part in PARTS)
        lines.append(f"| {name} | {parts['step']:.1f} | {cells} | {parts['step'] / results['all of it']['step']:.2f} |")
    print("\n".join(lines))
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts.md").write_text("\n".join(lines) + "\n")
    from charts import parts_chart

    parts_chart(results, folder / "parts.svg")


if __name__ == "__main__":
    main()
