"""Watch a trained LSTM read: train a small one on real reviews, and look at every gate while it reads your sentence.

python examples/gates.py
python examples/gates.py --text "not a bad film at all, I liked it"

Leaves pictures of the gates over the words, and explorer.html: a page, for any browser, that walks through the sentence
word by word, with the numbers of all equations, forward and back.
"""

import argparse
from pathlib import Path

import numpy as np
from command_line import example_parser, fail, in_one_line, reviews_path, sentence

from scratchlstm import Sequential
from scratchlstm.datasets import imdb
from scratchlstm.inspection import (
    LayerTrace,
    colored_words,
    explore,
    gate_heatmap,
    gate_saturation,
    gates_over_words,
    trace,
)
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.utils import atomic_write, held_folder

SENTENCE = "the plot is dull and the actors are bad, but the music is wonderful and I loved the end"
VOCABULARY = 5000
FIRST_WORD = 4  # ids below are marks: padding, start, unknown


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    # The sentence as the model reads it: ids, and the words that they stand for
    with in_one_line(ValueError, ModuleNotFoundError):
        (reviews, labels), _ = imdb.load_data(options.path, num_words=VOCABULARY)
        words_of = imdb.get_word_index(options.path)
    ids = imdb.encode_review(options.text, num_words=VOCABULARY, word_index=words_of)
    if max(ids) < FIRST_WORD:
        fail(f"none of the {VOCABULARY} words that the model learns is in {options.text!r}")
    words = imdb.decode_review(ids, word_index=words_of).split()
    x = np.array([ids])  # (1, T): without padding, which a model of any length does not need

    model = train(reviews, labels, options)

    # Forward: i, f, g, o, c and h of every unit at every word. Backward: a loss needs a target, here the answer that
    # the model gives, so that the gradients say what would make it surer or less sure
    answer = np.round(model.predict(x, verbose=0))  # (1, 1)
    traced = trace(model, x, answer)
    print(f"\n{traced}\n")
    unit = int(np.argmax(traced.lstm.importance()))  # on its cell the loss hangs most
    print_unit(traced.lstm, words, unit)
    verdict = f"{traced.prediction[0, 0]:.2f} probability of a positive review"
    print(f"\n{verdict}")

    pictures = {
        "gates.png": gates_over_words(traced, words, units=[unit], title=verdict),
        "cell.png": colored_words(traced, words, by="cell", unit=unit),
        "saliency.png": colored_words(traced, words, by="saliency"),
        "heatmap.png": gate_heatmap(traced, words, "g"),
        "saturation.png": gate_saturation(trace(model, pad_sequences(reviews[:100], 100))),
    }
    for name, figure in pictures.items():
        with atomic_write(folder / name) as file:
            figure.savefig(file, dpi=150)
    explore(model, options.text, folder / "explorer.html", word_index=words_of)
    print(f"written to {folder}/: {', '.join([*pictures, 'explorer.html'])}")


def train(reviews: np.ndarray, labels: np.ndarray, options: argparse.Namespace) -> Sequential:
    """A model small enough to look at: 16 units."""
    samples, maxlen, epochs = (200, 20, 2) if options.quick else (8000, 100, 3)
    x, y = pad_sequences(reviews[:samples], maxlen), labels[:samples]
    model = Sequential(seed=options.seed, backend=options.backend)
    model.add(Embedding(VOCABULARY, 32, mask_zero=True, input_shape=(None,)))  # None: sentences of any length
    model.add(LSTM(16))
    model.add(Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs, validation_split=0.2, verbose=2)
    return model


def print_unit(lstm: LayerTrace, words: list[str], unit: int) -> None:
    """Each word with the unit's equations: c = f · c_prev + i · g, h = o · tanh(c), and what the loss says about c."""
    print(f"unit {unit:<12}    f *  c_prev +    i *      g =      c |    o      h |   dL/dc")
    for word, row in zip(words, lstm.table(unit=unit), strict=True):
        print(
            f"{word:17} {row['f']:.2f} * {row['c_prev']:+7.3f} + {row['i']:.2f} * {row['g']:+.3f} = {row['c']:+.3f} | "
            f"{row['o']:.2f} {row['h']:+.3f} | {row['dc']:+.4f}"
        )


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/gates")
    parser.add_argument("--text", type=sentence, default=SENTENCE, help="the sentence to read")
    parser.add_argument("--path", type=reviews_path, help="an imdb.npz or an unpacked aclImdb folder with reviews")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
