"""Padding before or after a text, with and without a mask: the same reviews, the same model, four learning curves.

python examples/padding.py

An LSTM's answer is its last h. With padding before the text ("pre"), the last step is the last word. With padding after
it ("post"), 150 steps or more of nothing follow the last word. At each of them the cell is multiplied by the forget
gate, initially 0.73, and so is the gradient in the backward pass. The path through U raises this factor to some 0.83;
after 150 steps less than one part in a billion is left, so nothing tells the words how to change. With a mask
(mask_zero=True) the state passes the padding unchanged.
"""

import argparse
from pathlib import Path

import numpy as np
from command_line import example_parser, fail, in_one_line, reviews_path

from scratchlstm import Sequential
from scratchlstm.datasets import imdb
from scratchlstm.inspection import learning_curve
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.utils import atomic_write, held_folder

CURVES = "val_accuracy", "val_loss"  # the curves that are drawn


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    samples, longest, maxlen, epochs = (200, 100, 150, 2) if options.quick else (4000, 150, 300, 4)
    words = 5000
    with in_one_line(ValueError, ModuleNotFoundError):
        (x, y), (x_test, y_test) = imdb.load_data(options.path, num_words=words)
    x, y = short(x, y, longest, samples)
    x_test, y_test = short(x_test, y_test, longest, samples // 3)
    print(f"{len(x)} reviews of up to {longest} words, padded to {maxlen} steps: ", end="")
    print(f"{maxlen - np.median([len(review) for review in x]):.0f} steps of padding in the median")

    histories = {}
    for padding in ("pre", "post"):
        for mask in (False, True):
            train = pad_sequences(x, maxlen, padding=padding), y
            test = pad_sequences(x_test, maxlen, padding=padding), y_test
            model = Sequential(seed=options.seed, backend=options.backend)
            model.add(Embedding(words, 32, mask_zero=mask, input_shape=(maxlen,)))
            model.add(LSTM(32))
            model.add(Dense(1, activation="sigmoid"))
            # clipped: over so many steps a gradient can also explode, and one such step undoes many
            model.compile(Adam(0.001, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"])
            print(f"padding {padding}, mask_zero={mask}")
            run = model.fit(*train, batch_size=64, epochs=epochs, validation_data=test, verbose=2)
            histories[f"{padding}, {'mask' if mask else 'no mask'}"] = run.history

    print("\nvalidation accuracy | " + " | ".join(f"epoch {epoch + 1}" for epoch in range(epochs)))
    for name, history in histories.items():
        print(f"{name:19} | " + " | ".join(f"{accuracy:7.3f}" for accuracy in history["val_accuracy"]))
    validation = {name: [{key: history[key] for key in CURVES}] for name, history in histories.items()}
    with atomic_write(folder / "padding.png") as file:
        learning_curve(validation, title="Padding after the text needs a mask").savefig(file, dpi=150)
    print(f"written to {folder}/: padding.png")


def short(x: np.ndarray, y: np.ndarray, longest: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The first reviews of at most `longest` words."""
    chosen = np.flatnonzero([len(review) <= longest for review in x])[:samples]
    if not len(chosen):
        fail(f"no review there has {longest} words or fewer")
    return x[chosen], y[chosen]


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/padding")
    parser.add_argument("--path", type=reviews_path, help="an imdb.npz or an unpacked aclImdb folder with reviews")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
