"""The vanishing gradient: how much of a last-step loss's gradient reaches each earlier step of a recurrent network.

python examples/gradient_flow.py

Two untrained networks of 32 units read 50 random numbers. The picture shows ||dL/dh_t|| / ||dL/dh_T|| against the
steps back from the end, for

    SimpleRNN, U = k Q    dL/dh_t = (tanh' dL/dh_t+1) U^T: each step multiplies by k (Q is orthogonal) and by tanh' <= 1
    LSTM, forget bias b   dL/dc_t = f dL/dc_t+1, with f near σ(b), plus the part through the gates and U
"""

import argparse
from pathlib import Path

import numpy as np
from command_line import example_parser, in_one_line, whole
from matplotlib.figure import Figure

from scratchlstm import Sequential
from scratchlstm._support.drawing import BACK, GRADIENT, QUANTITIES, QUIET, THIRD, in_style, label_ends
from scratchlstm.gates import sigmoid
from scratchlstm.initializers import Orthogonal
from scratchlstm.inspection import gradient_norm_over_time
from scratchlstm.layers import LSTM, Dense, SimpleRNN
from scratchlstm.utils import atomic_write, held_folder

UNITS = 32
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)  # k
FORGET_BIASES = (0.0, 1.0, 2.0, 5.0)  # b
COLORS = {"vanishes": BACK, "fades": QUIET, "holds": THIRD, "explodes": QUANTITIES["g"]}


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    T = options.length or (10 if options.quick else 50)
    plain = {f"k = {k}": plain_flow(k, T, options.seed, options.backend) for k in SCALES}
    lstm = {
        f"b = {b:.0f} (f = {sigmoid(np.array(b)):.2f})": lstm_flow(b, T, options.seed, options.backend)
        for b in FORGET_BIASES
    }
    print(f"T = {T:<5} {UNITS} units           | ||dL/dh_1|| / ||dL/dh_T||")
    for name, flows in (("SimpleRNN", plain), ("LSTM", lstm)):
        for label, flow in flows.items():
            print(f"{name:9}  {label:16} | {flow[0]:.1e}  {verdict(flow)}")
    with atomic_write(folder / "gradient_flow.png") as file:
        draw(plain, lstm).savefig(file, dpi=150)
    print(f"written to {folder}/: gradient_flow.png")


def plain_flow(k: float, T: int, seed: int, backend: str | None = None) -> np.ndarray:
    """||dL/dh_t|| / ||dL/dh_T|| for each t of a plain network whose U is k times an orthogonal matrix, (T,)."""
    model = new_model(SimpleRNN(UNITS, recurrent_initializer=Orthogonal(gain=k), dtype="float64"), seed, backend)
    return relative_norms(model, T, seed)


def lstm_flow(forget_bias: float, T: int, seed: int, backend: str | None = None) -> np.ndarray:
    """The same for each t of an LSTM with this forget bias, (T,)."""
    model = new_model(LSTM(UNITS, dtype="float64"), seed, backend)
    model.layers[0].params["bias"][UNITS : 2 * UNITS] = forget_bias  # the second of the blocks i f g o
    return relative_norms(model, T, seed)


def new_model(layer: SimpleRNN | LSTM, seed: int, backend: str | None) -> Sequential:
    model = Sequential([layer, Dense(1, dtype="float64")], seed=seed, backend=backend)
    model.build((None, None, 1))
    model.compile(loss="mean_squared_error")
    return model


def relative_norms(model: Sequential, T: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(-1, 1, size=(100, T, 1))
    norms = gradient_norm_over_time(model, x, y=x[:, 0])  # the task: at the end, say which number came first
    return norms / norms[-1]


def verdict(flow: np.ndarray) -> str:
    arrives = flow[0]
    return "vanishes" if arrives < 1e-3 else "fades" if arrives < 0.1 else "holds" if arrives <= 10 else "explodes"


@in_style
def draw(plain: dict[str, np.ndarray], lstm: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(6.5, 6.6), layout="constrained")
    figure.suptitle("U decides whether a plain network's gradient lasts,\nthe forget gate whether an LSTM's does")
    heads = "Plain network: U = k × an orthogonal matrix", "LSTM: forget gate f = σ(... + b)"
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for panel, head, flows in zip(panels, heads, (plain, lstm), strict=True):
        panel.axhline(1, color=QUIET, linewidth=0.8)
        for label, flow in flows.items():
            told = verdict(flow)
            panel.plot(flow[flow > 0][::-1], color=COLORS[told], linestyle=GRADIENT, label=f"{label}: {told}")
        panel.set(yscale="log", xlim=(0, len(flow) - 1), title=head, ylabel="‖dL/dh_t‖ / ‖dL/dh_T‖")
        panel.yaxis.set_major_formatter("{x:g}")
    panels[1].set_xlabel("steps back from the end")
    label_ends(*panels)
    return figure


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/gradient_flow")
    parser.add_argument(
        "--length", type=whole(2, 1_000_000), help="T, steps of a sequence (default 50, or 10 with --quick)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
