"""Padding before or after a text, with a mask and without: the same reviews, the same model, four learning curves.

python examples/padding.py

An LSTM's answer is its last h. With padding before the text ("pre"), the last step is the last word. With padding after
it ("post"), a hundred steps of nothing follow the last word. At each the cell is multiplied by the forget gate, in the
beginning 0.73, and so is the gradient on its way back; with what goes through U some 0.83 of it is left, and after 122
steps less than one part in a billion: nothing tells the words how to change. A mask (mask_zero=True) lets the state
pass the padding as it is.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from scratchlstm import Sequential
from scratchlstm.datasets import imdb
from scratchlstm.files import atomic_write, require_writable_folder
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.preprocessing.sequence import pad_sequences

COLORS = {"pre": "#0072B2", "post": "#D55E00"}  # blue and orange, which colour-blind readers can tell apart


def main() -> None:
    options = parse_options()
    folder = require_writable_folder(options.output)
    samples, maxlen, epochs = (200, 40, 2) if options.quick else (6000, 300, 5)
    words = 5000
    (x, y), (x_test, y_test) = imdb.load_data(options.path, num_words=words)
    x, y, x_test, y_test = x[:samples], y[:samples], x_test[: samples // 3], y_test[: samples // 3]
    lengths = np.minimum([len(review) for review in x], maxlen)
    print(f"{len(x)} reviews, cut to {maxlen} words: {np.mean(lengths < maxlen):.0%} are padded, ", end="")
    print(f"with {maxlen - np.median(lengths):.0f} steps in the median")

    curves = {}
    for padding in ("pre", "post"):
        for mask in (False, True):
            # what is cut off a long review is its beginning, both times: only the side of the padding differs
            train = pad_sequences(x, maxlen, padding=padding, truncating="pre"), y
            test = pad_sequences(x_test, maxlen, padding=padding, truncating="pre"), y_test
            model = Sequential(seed=options.seed)
            model.add(Embedding(words, 32, mask_zero=mask, input_shape=(maxlen,)))
            model.add(LSTM(32))
            model.add(Dense(1, activation="sigmoid"))
            model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
            print(f"padding {padding}, mask_zero={mask}")
            run = model.fit(*train, batch_size=64, epochs=epochs, validation_data=test, verbose=2)
            curves[padding, mask] = run.history["val_accuracy"]

    print("\nvalidation accuracy | " + " | ".join(f"epoch {epoch + 1}" for epoch in range(epochs)))
    for (padding, mask), curve in curves.items():
        print(f"{name(padding, mask):19} | " + " | ".join(f"{accuracy:7.3f}" for accuracy in curve))
    with atomic_write(folder / "padding.png") as file:
        draw(curves).savefig(file, dpi=150)
    print(f"written to {folder}/: padding.png")


def name(padding: str, mask: bool) -> str:
    return f"{padding}, {'mask' if mask else 'no mask'}"


def draw(curves: dict[tuple[str, bool], list[float]]) -> Figure:
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    panel = figure.subplots()
    for (padding, mask), curve in curves.items():
        style = "o-" if mask else "s--"
        panel.plot(range(1, len(curve) + 1), curve, style, color=COLORS[padding], label=name(padding, mask))
    panel.axhline(0.5, color="0.35", linestyle=":", label="a coin")
    panel.set(xlabel="epoch", ylabel="validation accuracy", title="Padding before or after the text")
    panel.set_xticks(range(1, len(curve) + 1))
    panel.grid(alpha=0.25)
    panel.legend()
    return figure


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="an imdb.npz or an unpacked aclImdb folder to read the reviews from")
    parser.add_argument("--output", default="runs/padding", help="folder for the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few and short reviews, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
