"""Watch a gate at work: a two-unit LSTM learns what "not" does to "good" and "bad", and shuts its forget gate at it.

python examples/gates.py
python examples/gates.py --text "the music is not bad"

Learns in a second, prints the equations of one unit word by word, and writes pictures of the gates and explorer.html: a
page, for any browser, in which every number can be followed and changed, and a slider shows how the gates learned.
"""

import argparse
from pathlib import Path

import numpy as np
from command_line import example_parser, fail, in_one_line, sentence
from matplotlib.figure import Figure

from scratchlstm import Sequential
from scratchlstm._support.drawing import QUANTITIES, RULE, in_style
from scratchlstm.callbacks import Snapshots
from scratchlstm.inspection import LayerTrace, Trace, colored_words, explore, gate_saturation, gates_over_words, trace
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.text import Tokenizer, text_to_word_sequence
from scratchlstm.utils import atomic_write, held_folder

SENTENCE = "the film is not good"
THINGS = ("film", "plot", "music", "end")
PRAISE = [f"the {thing} is {word}" for thing in THINGS for word in ("good", "not bad")]
BLAME = [f"the {thing} is {word}" for thing in THINGS for word in ("bad", "not good")]


def main() -> None:
    options = parse_options()
    tokenizer = Tokenizer()  # word -> id, from 1 on; 0 is padding
    tokenizer.fit_on_texts(PRAISE + BLAME)
    words = text_to_word_sequence(options.text)
    if unknown := [word for word in words if word not in tokenizer.word_index]:
        fail(f"--text: the model does not know {unknown[0]!r}; it learns the words {', '.join(tokenizer.word_index)}")
    with held_folder(options.output) as folder:
        experiment(folder, options, tokenizer, words)


def experiment(folder: Path, options: argparse.Namespace, tokenizer: Tokenizer, words: list[str]) -> None:
    sentences = pad_sequences(tokenizer.texts_to_sequences(PRAISE + BLAME))  # (16, 5), padded in front
    labels = [1] * len(PRAISE) + [0] * len(BLAME)
    model, snapshots = train(sentences, labels, options)

    # Forward: i, f, g, o, c and h of every unit at every word. Backward: a loss needs a target, here the answer that
    # the model gives, so that the gradients say what would make it more or less certain
    x = np.array(tokenizer.texts_to_sequences([options.text]))  # (1, T)
    traced = trace(model, x, np.round(model.predict(x, verbose=0)))
    print(f"{traced}\n")
    unit = int(np.argmax(traced.lstm.importance()))  # the loss depends most on its cell
    print_unit(traced.lstm, words, unit)
    print(f"\n{traced.prediction[0, 0]:.2f} probability of praise")

    pictures = {
        "gates.png": draw(traced, words, unit),
        "saliency.png": colored_words(traced, words, by="saliency"),
        "saturation.png": gate_saturation(trace(model, sentences)),
    }
    for name, figure in pictures.items():
        with atomic_write(folder / name) as file:
            figure.savefig(file, dpi=150)
    page = folder / "explorer.html"
    explore(
        model, options.text, page, word_index=tokenizer.word_index, index_from=0, start_char=None, oov_char=None,
        snapshots=snapshots,
    )  # fmt: skip
    print(f"written to {folder}/: {', '.join([*pictures, page.name])}")


@in_style
def draw(traced: Trace, words: list[str], unit: int) -> Figure:
    """The unit's gates and memory over the words; where the forget gate shuts, that is pointed out."""
    lstm = traced.lstm
    f, c = lstm.f[0, :, unit], lstm.c[0, :, unit]
    step = 1 + int(np.argmin(f[1:])) if len(f) > 1 else 0  # at the first word there is nothing to forget
    if f[step] > 0.1:
        return gates_over_words(traced, words, units=[unit], title="No gate shuts")
    title = f'At "{words[step]}" the forget gate shuts: what the cell held is gone'
    figure = gates_over_words(traced, words, units=[unit], title=title)
    for panel, name, values, top in zip(figure.axes, "fc", (f, c), (1.05, 0.9), strict=True):
        for line in panel.lines[:-1]:  # the last is the zero line
            line.set_linewidth(4 if str(line.get_label()).endswith(f" {name}") else 1.2)
        panel.axvspan(step - 0.25, step + 0.25, color=RULE, alpha=0.5, linewidth=0, zorder=0)
        told = f"{name}: {values[step - 1]:.2f} → {values[step]:.2f}".replace("-", "−")
        panel.text(
            step, top, told, color=QUANTITIES[name], fontweight="bold", ha="center", va="center",
            transform=panel.get_xaxis_transform(),
        )  # fmt: skip
    return figure


def train(sentences: np.ndarray, labels: list[int], options: argparse.Namespace) -> tuple[Sequential, list]:
    """A model small enough to look at, and its weights at every third epoch."""
    model = Sequential(seed=options.seed, backend=options.backend)
    model.add(Embedding(sentences.max() + 1, 4, mask_zero=True, input_shape=(None,), dtype="float64"))
    model.add(LSTM(2, dtype="float64"))
    model.add(Dense(1, activation="sigmoid", dtype="float64"))
    model.compile(optimizer=Adam(0.02), loss="binary_crossentropy")
    learning = Snapshots(every=3)
    model.fit(sentences, labels, epochs=15 if options.quick else 150, verbose=0, callbacks=[learning])
    return model, learning.snapshots


def print_unit(lstm: LayerTrace, words: list[str], unit: int) -> None:
    """Each word with the unit's equations: c = f · c_prev + i · g, h = o · tanh(c), and what the loss says about c."""
    print(f"unit {unit:<12}    f *  c_prev +    i *      g =      c |    o      h |   dL/dc")
    for word, row in zip(words, lstm.table(unit=unit), strict=True):
        print(
            f"{word:17} {row['f']:.2f} * {row['c_prev']:+7.3f} + {row['i']:.2f} * {row['g']:+.3f} = {row['c']:+.3f} | "
            f"{row['o']:.2f} {row['h']:+.3f} | {row['dc']:+.4f}"
        )


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/gates", seed=6)  # with which one unit does it all
    parser.add_argument(
        "--text",
        type=sentence,
        default=SENTENCE,
        help="the sentence to read, using only words of the training sentences",
    )
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
