"""The vanishing gradient: how much of a loss at the last step arrives at each earlier step of a recurrent network.

python examples/gradient_flow.py

The task: at the end of a sequence of random numbers, say which number was the first. To learn it, dL/dh_t has to reach
the first step. Its norm is drawn against t, before and after training, for

    SimpleRNN              dL/dh_t = U^T (tanh' dL/dh_t+1): at each step times U, and times tanh', which is at most 1
    LSTM, forget bias 0    the cell passes dL/dc_t+1 on times f, at first σ(0) = 1/2 (and something goes through U)
    LSTM, forget bias 1    the same, at first f = σ(1) = 0.73: it vanishes, too, but so slowly that training can begin
"""

import argparse

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scratchlstm import Sequential
from scratchlstm.files import atomic_write, require_writable_folder
from scratchlstm.inspection import gradient_norm_over_time
from scratchlstm.layers import LSTM, Dense, SimpleRNN
from scratchlstm.optimizers import Adam

STYLES = {
    "SimpleRNN": {"color": "#D55E00", "linestyle": "--"},
    "LSTM, forget bias 0": {"color": "#009E73", "linestyle": "-."},
    "LSTM, forget bias 1": {"color": "#0072B2"},
}


def main() -> None:
    options = parse_options()
    folder = require_writable_folder(options.output)
    T, units, sequences, epochs = (10, 8, 500, 3) if options.quick else (options.length, 32, 5000, 10)
    rng = np.random.default_rng(options.seed)
    x = rng.uniform(-1, 1, size=(sequences, T, 1)).astype("float32")  # (N, T, 1)
    y = x[:, 0]  #                                                     (N, 1)
    x_new = rng.uniform(-1, 1, size=(500, T, 1)).astype("float32")
    y_new = x_new[:, 0]

    layers = {
        "SimpleRNN": SimpleRNN(units),
        "LSTM, forget bias 0": LSTM(units, unit_forget_bias=False),
        "LSTM, forget bias 1": LSTM(units),
    }
    flows: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # ||dL/dh_t|| for each t, (T,), before and after training
    print(f"T = {T}           | ||dL/dh_1|| / ||dL/dh_T|| before | after training | mean squared error")
    for name, layer in layers.items():
        model = Sequential([layer, Dense(1)], seed=options.seed)
        model.build((None, T, 1))
        model.compile(Adam(0.005, clipnorm=1.0), "mean_squared_error")
        before = gradient_norm_over_time(model, x_new, y_new)
        model.fit(x, y, batch_size=50, epochs=epochs, verbose=0)
        after = gradient_norm_over_time(model, x_new, y_new)
        flows[name] = before, after
        error = model.evaluate(x_new, y_new, verbose=0)
        print(f"{name:19} | {before[0] / before[-1]:32.1e} | {after[0] / after[-1]:14.1e} | {error:.4f}")
    with atomic_write(folder / "gradient_flow.png") as file:
        draw(flows).savefig(file, dpi=150)
    print(f"written to {folder}/: gradient_flow.png")


def draw(flows: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, moment, title in zip(panels, (0, 1), ("before training", "after training"), strict=True):
        for name, both in flows.items():
            # relative to the last step: the loss itself shrinks in training, and every gradient with it
            flow = both[moment] / both[moment][-1]
            panel.semilogy(range(1, len(flow) + 1), flow, **STYLES[name], label=name)
        panel.set(xlabel="time step t", title=title)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("||dL/dh_t|| / ||dL/dh_T||")
    panels[0].legend()
    return figure


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=20, help="T, steps of a sequence")
    parser.add_argument("--output", default="runs/gradient_flow", help="folder for the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="short sequences and few of them, to see that it runs")
    options = parser.parse_args()
    if options.length < 2:
        parser.error(f"argument --length: must be at least 2, not {options.length}")
    return options


if __name__ == "__main__":
    main()
