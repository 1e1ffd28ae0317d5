"""The adding problem (Hochreiter & Schmidhuber, 1997): two numbers of a long sequence are marked; what is their sum?

python examples/adding_problem.py                 an LSTM and a plain recurrent network, the same steps for both

Each step shows a random number from 0 to 1 and a mark that is 1 at two places, one in each half, and else 0 (the usual
form of the task today). Always answering 1, the mean sum, gives an error of 1/6 = 0.167 (mean squared error). To do
better, a network has to carry the first number over many others that mean nothing: at T = 100 some 50 steps.
"""

import argparse
from pathlib import Path

import numpy as np
from command_line import example_parser, in_one_line, whole
from matplotlib.figure import Figure

from scratchlstm import Sequential
from scratchlstm._support.drawing import QUIET, in_style, label_ends
from scratchlstm.callbacks import History
from scratchlstm.inspection import learning_curve
from scratchlstm.layers import LSTM, Dense, SimpleRNN
from scratchlstm.layers.rnn import RNN
from scratchlstm.optimizers import Adam
from scratchlstm.schedules import CosineDecay
from scratchlstm.utils import atomic_write, held_folder

BASELINE = 1 / 6  # the variance of the sum of two numbers drawn from 0 to 1
GOAL = 0.01


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    T = options.length or (30 if options.quick else 100)
    units, sequences, epochs = (32, 4000, 12) if options.quick else (32, 10_000, 15)
    rng = np.random.default_rng(options.seed)
    training, validation = make_data(sequences, T, rng), make_data(1000, T, rng)

    histories = {}
    for layer in (LSTM(units), SimpleRNN(units)):
        name = type(layer).__name__
        print(f"{name}, {units} units, T = {T}")
        histories[name] = train(layer, training, validation, epochs, options).history

    for name, history in histories.items():
        below = [epoch for epoch, loss in enumerate(history["val_loss"], start=1) if loss < GOAL]
        reached = f"below {GOAL} from epoch {below[0]} on" if below else f"never below {GOAL}"
        print(f"{name:9}: mean squared error {history['val_loss'][-1]:.5f} (always 1: {BASELINE:.3f}), {reached}")
    with atomic_write(folder / "adding_problem.png") as file:
        draw(histories, T).savefig(file, dpi=150)
    print(f"written to {folder}/: adding_problem.png")


def make_data(sequences: int, T: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (N, T, 2) of numbers and marks, and sums (N,)."""
    x = np.zeros((sequences, T, 2), dtype="float32")
    x[:, :, 0] = rng.random((sequences, T))
    rows = np.arange(sequences)
    first, second = rng.integers(0, T // 2, sequences), rng.integers(T // 2, T, sequences)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, x[rows, first, 0] + x[rows, second, 0]


def train(
    layer: RNN,
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    epochs: int,
    options: argparse.Namespace,
) -> History:
    x, y = training
    model = Sequential([layer, Dense(1)], seed=options.seed, backend=options.backend)
    # Clipping: a plain recurrent network's gradient can explode as well as vanish, and one such step undoes hundreds.
    # Decay: large steps to get close, small ones to become exact.
    steps = epochs * -(-len(x) // 50)
    model.compile(Adam(CosineDecay(0.01, steps), clipnorm=1.0), "mean_squared_error")
    return model.fit(x, y, batch_size=50, epochs=epochs, validation_data=validation, verbose=2)


@in_style
def draw(histories: dict[str, dict[str, list[float]]], T: int) -> Figure:
    """The error on sequences that are not in training."""
    validation = {name: [{"val_loss": history["val_loss"]}] for name, history in histories.items()}
    figure = learning_curve(validation, title=f"The sum of two of {T} numbers")
    (panel,) = figure.axes
    for value, label in ((BASELINE, f"always answering 1: {BASELINE:.3f}"), (GOAL, f"solved: {GOAL}")):
        panel.axhline(value, color=QUIET, linewidth=1, linestyle=":", label=label)
    panel.set(yscale="log", ylabel="mean squared error")
    panel.yaxis.set_major_formatter("{x:g}")
    label_ends(panel)
    return figure


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/adding_problem")
    parser.add_argument(
        "--length", type=whole(2, 1_000_000), help="T, steps of a sequence (default 100, or 30 with --quick)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
