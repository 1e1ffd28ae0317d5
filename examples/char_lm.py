"""A character model: an LSTM reads a text letter by letter, predicts each next letter, and then writes text of its own.

python examples/char_lm.py                        read generated sentences, all of them true, and write some
python examples/char_lm.py --text book.txt        read your own text (UTF-8, ideally 100,000 characters or more)

A text is one long sequence, too long to backpropagate through as a whole. Truncated backpropagation through time cuts
it into windows: the state carries over from window to window (stateful=True); only the gradient stops at the cuts.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from command_line import example_parser, fail, in_one_line
from matplotlib.figure import Figure

from scratchlstm import Sequential
from scratchlstm._support.drawing import QUIET, in_style, label_ends
from scratchlstm.inspection import learning_curve
from scratchlstm.layers import LSTM, Dense, Embedding
from scratchlstm.metrics import Perplexity
from scratchlstm.optimizers import Adam
from scratchlstm.schedules import CosineDecay
from scratchlstm.utils import atomic_write, held_folder

TEMPERATURES = (0.2, 0.5, 1.0, 1.5)


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    rows, steps, units, epochs = (8, 20, 32, 4) if options.quick else (32, 50, 128, 14)

    # 1. Letters as numbers. The text becomes `rows` long strips that are read side by side; its last tenth validates
    made = None if options.text is not None else make_text(300 if options.quick else 12_000, rng)
    text = made or read_text(options.text)
    letters = sorted(set(text))
    ids = np.array([letters.index(letter) for letter in text])
    cut = len(ids) * 9 // 10
    x, y = windows(ids[:cut], rows, steps)
    held_out = windows(ids[cut:], rows, steps)
    print(
        f"{len(text):,} characters, {len(letters)} different; an epoch is {len(x) // rows} windows of {rows} x {steps}"
    )

    # 2. The model takes any length (None): it reads whole windows and writes one letter at a time
    model = Sequential(seed=options.seed, backend=options.backend)
    model.add(Embedding(len(letters), 32, input_shape=(None,)))
    model.add(LSTM(units, return_sequences=True, stateful=True))
    model.add(Dense(len(letters), activation="softmax"))
    optimizer = Adam(CosineDecay(0.005, epochs * len(x) // rows), clipnorm=1.0)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=[Perplexity()])

    # 3. Training: the windows in their order (shuffle=False), each pass over the text starting from empty states. These
    # belong to the rows of a whole batch, so nobody shares the work (workers=1)
    losses, held_out_losses = [], []
    for epoch in range(epochs):
        model.reset_states()
        run = model.fit(x, y, rows, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0, workers=1)
        model.reset_states()
        loss, perplexity = model.evaluate(*held_out, batch_size=rows, verbose=0, workers=1)
        losses.append(run.history["loss"][0])
        held_out_losses.append(loss)
        print(f"epoch {epoch + 1:2}: loss {losses[-1]:.4f}; held out: loss {loss:.4f}, perplexity {perplexity:.3f}")
    least = least_loss(made) if made else None
    if least is not None:
        print(f"the least loss there can be is {least:.4f}: so much of the text was drawn by chance")

    # 4. Writing: the lower the temperature, the more the likeliest letter is preferred
    report = ""
    for temperature in TEMPERATURES:
        texts = write(model, letters, "\n" if made else text[0], 250, temperature, rng)
        report += f"\n--- temperature {temperature} ---\n{texts[0].strip()}\n"
        if made:
            lines = [line for text in texts for line in text.split("\n")[1:-1]]  # without the unfinished last one
            report += f"({count(lines, set(made.splitlines()))})\n"
    print(report)

    with atomic_write(folder / "samples.txt") as file:
        file.write(report.encode())
    with atomic_write(folder / "loss.png") as file:
        draw(losses, held_out_losses, least).savefig(file, dpi=150)
    print(f"written to {folder}/: loss.png, samples.txt")


def read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path!r} cannot be read as a text in UTF-8: {error}")


def windows(ids: np.ndarray, rows: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N * rows, steps) and the same one letter later; row r of a batch continues row r of the last."""
    count = (len(ids) - 1) // (rows * steps)
    if count < 1:
        fail(f"the text is too short: its last tenth, which validates, needs over {rows * steps} characters")

    def cut(ids: np.ndarray) -> np.ndarray:
        return ids[: rows * count * steps].reshape(rows, count, steps).swapaxes(0, 1).reshape(-1, steps)

    return cut(ids[:-1]), cut(ids[1:])


def write(
    model: Sequential, letters: list[str], start: str, length: int, temperature: float, rng: np.random.Generator
) -> list[str]:
    """Texts of 20 parallel writers: each letter is drawn from p^(1/temperature) and becomes the next input."""
    model.reset_states()
    ids = np.full((20, 1), letters.index(start))
    for _ in range(length):
        # (20, letters); the layers keep their states
        p = model.predict(ids[:, -1:], batch_size=20, verbose=0, workers=1)[:, 0]
        scores = np.log(p + 1e-30) / temperature
        # the largest of log p + Gumbel noise is a draw from p
        chosen = np.argmax(scores + rng.gumbel(size=scores.shape), axis=1)
        ids = np.concatenate([ids, chosen[:, None]], axis=1)
    return ["".join(letters[i] for i in row) for row in ids]


@in_style
def draw(losses: list[float], held_out: list[float], least: float | None) -> Figure:
    figure = learning_curve({"loss": losses, "val_loss": held_out}, title="Each letter surprises the model less")
    (panel,) = figure.axes
    if least is not None:
        panel.axhline(least, color=QUIET, linewidth=1, linestyle=":", label=f"least possible: {least:.3f}")
    panel.set(ylabel="crossentropy of a letter (nats)", ylim=(0, None))
    label_ends(panel)
    return figure


# --- a text that can be true or false ---------------------------------------------------------------------------------

SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SMALL += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = SMALL + [f"{ten} {one}".removesuffix(" zero") for ten in TENS for one in SMALL[:10]]
NUMBERS = {word: number for number, word in enumerate(WORDS)}  # "forty two": 42
RELATIONS = {
    "is more than": lambda a, b: a > b,
    "is less than": lambda a, b: a < b,
    "comes after": lambda a, b: a == b + 1,
}


def make_text(sentences: int, rng: np.random.Generator) -> str:
    """True sentences, one a line."""
    lines = []
    for _ in range(sentences):
        low, high = sorted(rng.choice(100, size=2, replace=False).tolist())
        number = int(rng.integers(99))
        a, relation, b = [
            (high, "is more than", low),
            (low, "is less than", high),
            (number + 1, "comes after", number),
        ][rng.integers(3)]
        lines.append(f"{WORDS[a]} {relation} {WORDS[b]}")
    return "\n" + "\n".join(lines) + "\n"


def least_loss(text: str) -> float:
    """The text's own entropy per letter: nobody can predict what was drawn by chance."""
    relation, pair, number = np.log(3), np.log(100 * 99 / 2), np.log(99)
    return (relation + (2 * pair + number) / 3) * text.count("\n") / len(text)


def judge(line: str) -> str:
    for relation, holds in RELATIONS.items():
        a, found, b = line.partition(f" {relation} ")
        if found and a in NUMBERS and b in NUMBERS:
            return "true" if holds(NUMBERS[a], NUMBERS[b]) else "false"
    return "nonsense"


def count(lines: list[str], read: set[str]) -> str:
    if not lines:
        return "no line was finished"
    verdicts = Counter(map(judge, lines))
    new = sum(judge(line) == "true" and line not in read for line in lines)
    share = {verdict: f"{verdicts[verdict] / len(lines):.0%} {verdict}" for verdict in ("true", "false", "nonsense")}
    return (
        f"of {len(lines)} lines {share['true']}, {share['false']}, {share['nonsense']}; {new} true ones were never read"
    )


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/char_lm")
    parser.add_argument("--text", help="a file to read instead of the generated sentences")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
