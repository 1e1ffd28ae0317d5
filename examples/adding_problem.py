"""The adding problem (Hochreiter & Schmidhuber, 1997): two numbers of a long sequence are marked; what is their sum?

python examples/adding_problem.py                 an LSTM and a plain recurrent network, the same steps for both

Each step shows a random number from 0 to 1 and a mark that is 1 at two places, one in each half, and else 0 (the usual
form of the task today). Who always answers 1, the mean sum, is wrong by 1/6 = 0.167 (mean squared error). To do
better, a network has to carry the first number over many others that mean nothing: at T = 100 some 50 steps.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from scratchlstm import Sequential
from scratchlstm.callbacks import History
from scratchlstm.files import atomic_write, require_writable_folder
from scratchlstm.layers import LSTM, Dense, SimpleRNN
from scratchlstm.layers.recurrent import Recurrent
from scratchlstm.optimizers import Adam
from scratchlstm.schedules import CosineDecay

BASELINE = 1 / 6  # the variance of the sum of two numbers drawn from 0 to 1
GOAL = 0.01
COLORS = {"LSTM": "#0072B2", "SimpleRNN": "#D55E00"}


def main() -> None:
    options = parse_options()
    folder = require_writable_folder(options.output)
    T, units, sequences, epochs = (10, 16, 2000, 8) if options.quick else (options.length, 32, 10_000, 15)
    rng = np.random.default_rng(options.seed)
    training, validation = make_data(sequences, T, rng), make_data(1000, T, rng)

    histories = {}
    for layer in (LSTM(units), SimpleRNN(units)):
        name = type(layer).__name__
        print(f"{name}, {units} units, T = {T}")
        histories[name] = train(layer, training, validation, epochs, options.seed).history

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
    layer: Recurrent,
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    epochs: int,
    seed: int,
) -> History:
    x, y = training
    model = Sequential([layer, Dense(1)], seed=seed)
    # Clipping: a plain recurrent network's gradient can explode as well as vanish, and one such step undoes hundreds.
    # Decay: large steps to find the way, small ones to become exact.
    steps = epochs * -(-len(x) // 50)
    model.compile(Adam(CosineDecay(0.01, steps), clipnorm=1.0), "mean_squared_error")
    return model.fit(x, y, batch_size=50, epochs=epochs, validation_data=validation, verbose=2)


def draw(histories: dict[str, dict[str, list[float]]], T: int) -> Figure:
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    panel = figure.subplots()
    for name, history in histories.items():
        epochs = range(1, len(history["val_loss"]) + 1)
        panel.semilogy(epochs, history["val_loss"], "o-", color=COLORS[name], label=name)
    panel.axhline(BASELINE, color="0.35", linestyle=":", label=f"always answering 1: {BASELINE:.3f}")
    panel.axhline(GOAL, color="0.35", linestyle="--", label=f"solved: {GOAL}")
    panel.set(xlabel="epoch", ylabel="validation mean squared error", title=f"The adding problem, T = {T}")
    panel.grid(alpha=0.25)
    panel.legend()
    return figure


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=100, help="T, steps of a sequence")
    parser.add_argument("--output", default="runs/adding_problem", help="folder for the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="short sequences and few of them, to see that it runs")
    options = parser.parse_args()
    if options.length < 2:
        parser.error(f"argument --length: must be at least 2, not {options.length}")
    return options


if __name__ == "__main__":
    main()
