"""The tutorial in full, here and in Keras: accuracy, seconds an epoch, peak memory, from the same arrays.

    python tests/benchmarks/tutorial.py            three seeds, with and without dropout, both in turn
    python tests/benchmarks/tutorial.py --seeds 1 --epochs 1 --samples 2000

Each run is a process of its own. Writes `tutorial.json` and the learning curves to --output, prints the tables.
Needs TensorFlow beside the extras `imdb` and `test`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from cpu import PeakMemory

DROPOUTS = (0.0, 0.5)
NAMES = {"ours": "scratchlstm", "keras": "Keras on TensorFlow"}


def data(samples):
    from scratchlstm.datasets import imdb
    from scratchlstm.preprocessing.sequence import pad_sequences

    (x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=20000, verbose=0)
    halves = (x_train, y_train), (x_test, y_test)
    return [(pad_sequences(x[:samples], maxlen=100), y[:samples]) for x, y in halves]


def run(framework, seed, dropout, epochs, samples):
    """Train once in this process; the history, and the seconds of each epoch with its validation."""
    if framework == "ours":
        from scratchlstm import Sequential, layers
        from scratchlstm.callbacks import Callback

        model = Sequential(seed=seed)
    else:
        import keras
        from keras import Sequential, layers
        from keras.callbacks import Callback

        keras.utils.set_random_seed(seed)
        model = Sequential()
        model.add(keras.Input((100,)))

    class Clock(Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)

    first = {"input_shape": (100,)} if framework == "ours" else {}
    model.add(layers.Embedding(20000, 128, **first))
    if dropout:
        model.add(layers.Dropout(dropout))
    model.add(layers.LSTM(60, activation="tanh"))
    if dropout:
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    (x, y), validation = data(samples)
    clock = Clock()
    settings = {"batch_size": 128, "epochs": epochs, "validation_data": validation, "callbacks": [clock], "verbose": 0}
    if framework == "ours":
        settings["workers"] = "auto"
    history = model.fit(x, y, **settings).history
    return {"history": history, "seconds": clock.seconds}


def in_a_process(**settings):
    command = [sys.executable, __file__, "--run", json.dumps(settings)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    with PeakMemory(process.pid) as memory:
        output, _ = process.communicate()
    return json.loads(output.splitlines()[-1]) | {"megabytes": memory.peak / 2**20}


def spread(values, digits):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(results, dropout, epochs):
    rows = [
        f"Dropout {dropout:g}, median and range over the seeds:",
        "",
        "| | epoch | loss | accuracy | val_loss | val_accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for framework, name in NAMES.items():
        histories = [result["history"] for result in results[framework][str(dropout)]]
        for epoch in range(epochs):
            keys = ("loss", "accuracy", "val_loss", "val_accuracy")
            cells = [spread([history[key][epoch] for history in histories], 3) for key in keys]
            rows.append(f"| {name if epoch == 0 else ''} | {epoch + 1} | {' | '.join(cells)} |")
        best = [max(history["val_accuracy"]) for history in histories]
        rows.append(f"| | best | | | | {spread(best, 4)} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--output", default="runs/benchmark")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(**json.loads(options.run))))
        return

    results = {framework: {str(dropout): [] for dropout in DROPOUTS} for framework in NAMES}
    for seed in range(options.seeds):
        for dropout in DROPOUTS:
            for framework, name in NAMES.items():
                settings = {"framework": framework, "seed": seed, "dropout": dropout}
                result = in_a_process(**settings, epochs=options.epochs, samples=options.samples)
                results[framework][str(dropout)].append(result)
                print(
                    f"{name}, seed {seed}, dropout {dropout:g}: {median(result['seconds']):.2f} s an epoch, "
                    f"{result['megabytes']:.0f} MB, val_accuracy {max(result['history']['val_accuracy']):.4f}",
                    flush=True,
                )

    from charts import pictures

    from scratchlstm.inspection import learning_curve

    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tutorial.json").write_text(json.dumps(results, indent=1))
    for dropout in DROPOUTS:
        print("\n" + table(results, dropout, options.epochs))
        title = f"With dropout {dropout:g}" if dropout else "Without dropout"
        figure = learning_curve(*(result["history"] for result in results["ours"][str(dropout)]), title=title)
        pictures.save(figure, folder / f"learning_curve_dropout_{dropout:g}.svg")
    flat = {framework: [run for runs in by.values() for run in runs] for framework, by in results.items()}
    seconds = {name: median(second for run in runs for second in run["seconds"]) for name, runs in flat.items()}
    memory = {framework: max(r["megabytes"] for r in runs) for framework, runs in flat.items()}
    print(
        f"\nan epoch with its validation: {seconds['ours']:.2f} s here, {seconds['keras']:.2f} s in Keras, ratio "
        f"{seconds['ours'] / seconds['keras']:.2f}; peak memory {memory['ours']:.0f} MB and {memory['keras']:.0f} MB"
    )


if __name__ == "__main__":
    main()
