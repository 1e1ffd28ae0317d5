"""The vanishing gradient: how much of a loss at the last step arrives at each earlier step of a recurrent network.

python examples/gradient_flow.py

The task: at the end of a sequence of random numbers, say which number was the first. To learn it, dL/dh_t has to reach
the first step. Its norm is drawn against t, before and after training, and so is the error of each epoch, for

    SimpleRNN              dL/dh_t = U^T (tanh' dL/dh_t+1): at each step times U, and times tanh', which is at most 1
    LSTM, forget bias 0    the cell passes dL/dc_t+1 on times f, at first σ(0) = 1/2 (and something goes through U)
    LSTM, forget bias 1    the same, at first f = σ(1) = 0.73: it vanishes, too, but so slowly that training can begin

One run can have luck. So there are three of each, from seeds one after the other; what is printed is their median.
"""

import argparse
from pathlib import Path

import numpy as np
from command_line import example_parser, in_one_line, whole

from scratchlstm import Sequential
from scratchlstm.inspection import gradient_norm_over_time, gradient_norms, learning_curve
from scratchlstm.layers import LSTM, Dense, SimpleRNN
from scratchlstm.layers.rnn import RNN
from scratchlstm.optimizers import Adam
from scratchlstm.utils import atomic_write, held_folder

LAYERS = {
    "SimpleRNN": lambda units: SimpleRNN(units),
    "LSTM, forget bias 0": lambda units: LSTM(units, unit_forget_bias=False),
    "LSTM, forget bias 1": lambda units: LSTM(units),
}
RUNS = 3


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    T = options.length or (10 if options.quick else 20)
    units, sequences, epochs = (8, 500, 3) if options.quick else (32, 5000, 10)

    flows: dict[str, dict[str, np.ndarray]] = {"before training": {}, "after training": {}}  # (T,) each
    histories = {}
    print(f"T = {T}           | ||dL/dh_1|| / ||dL/dh_T|| before | after training | mean squared error")
    for name, layer in LAYERS.items():
        runs = [train(layer(units), T, sequences, epochs, options.seed + run, options.backend) for run in range(RUNS)]
        for moment, of_runs in zip(flows, zip(*(flow for flow, _ in runs), strict=True), strict=True):
            # relative to the last step: the loss itself shrinks in training, and every gradient with it
            flows[moment][name] = np.median([flow / flow[-1] for flow in of_runs], axis=0)
        histories[name] = [{"val_loss": history["val_loss"]} for _, history in runs]
        before, after = (flow[name][0] for flow in flows.values())
        error = np.median([history["val_loss"][-1] for history in histories[name]])
        print(f"{name:19} | {before:32.1e} | {after:14.1e} | {error:.4f}")

    norms = gradient_norms(flows, title="How much of the last step's gradient arrives at each step")
    norms.axes[0].set_ylabel("‖dL/dh_t‖ / ‖dL/dh_T‖")
    curves = learning_curve(histories, title=f"Which number was the first of {T}? {RUNS} runs each")
    curves.axes[0].set(yscale="log", ylabel="mean squared error")
    pictures = {"gradient_flow.png": norms, "learning_curves.png": curves}
    for picture, figure in pictures.items():
        with atomic_write(folder / picture) as file:
            figure.savefig(file, dpi=150)
    print(f"written to {folder}/: {', '.join(pictures)}")


def train(
    layer: RNN, T: int, sequences: int, epochs: int, seed: int, backend: str | None
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, list[float]]]:
    """||dL/dh_t|| for each t, (T,), before and after training; and the history."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(sequences, T, 1)).astype("float32")  # (N, T, 1)
    x_new = rng.uniform(-1, 1, size=(500, T, 1)).astype("float32")
    y, y_new = x[:, 0], x_new[:, 0]  #                                  (N, 1)
    model = Sequential([layer, Dense(1)], seed=seed, backend=backend)
    model.build((None, T, 1))
    model.compile(Adam(0.005, clipnorm=1.0), "mean_squared_error")
    before = gradient_norm_over_time(model, x_new, y_new)
    run = model.fit(x, y, batch_size=50, epochs=epochs, validation_data=(x_new, y_new), verbose=0)
    return (before, gradient_norm_over_time(model, x_new, y_new)), run.history


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/gradient_flow")
    parser.add_argument(
        "--length", type=whole(2, 1_000_000), help="T, steps of a sequence (default 20, or 10 with --quick)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
