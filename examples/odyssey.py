"""What is each gate for? Take it away: cells that lack something, on tasks that need it.

python examples/odyssey.py                  sixteen cells, five made-up tasks, three seeds: under ten minutes on two cores
python examples/odyssey.py --reviews        the five cells that differ most, on real reviews (extra `imdb`)

The tasks; each sequence has T steps, and numbers are drawn from -1 to 1:

    keep      one of four letters comes at some step, noise letters at all others: which of the four was it?
    reset     some numbers are marked: which was the last of them?
    ignore    one number is marked: which?
    count     some steps are events; at some steps the number of events so far is asked for, at all others the answer is 0
    add       one number in each half is marked: what is their sum?

The error is the root of the mean squared error on new sequences, divided by that of always giving the mean answer: 0 is
solved, 1 is no better than a guess. Every cell has as many units as give it about the LSTM's number of parameters, and
every network takes the same steps of the same optimizer. Sizes and learning rate were chosen for the LSTM alone.

After Greff et al., "LSTM: A Search Space Odyssey" (2015), whose tasks are speech, handwriting and music.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from command_line import example_parser, in_one_line, reviews_path, whole, workers
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from scratchlstm import Sequential, cells
from scratchlstm.cells import Cell
from scratchlstm.layers import RNN, Dense
from scratchlstm.optimizers import Adam
from scratchlstm.schedules import CosineDecay
from scratchlstm.training.parallel import count_workers
from scratchlstm.utils import atomic_write, held_folder

Data = tuple[np.ndarray, np.ndarray]  # x (N, T, E), y (N, K), or (N, T, K) if every step has an answer
Errors = dict[tuple[str, str], list[float]]  # (cell, task) -> of each seed

CELLS: dict[str, Callable[[int], Cell]] = {
    "LSTM": cells.LSTMCell,
    "no input gate": cells.NoInputGateLSTMCell,
    "no forget gate": cells.NoForgetGateLSTMCell,
    "no output gate": cells.NoOutputGateLSTMCell,
    "no input activation": cells.NoInputActivationLSTMCell,
    "no output activation": cells.NoOutputActivationLSTMCell,
    "no gate, no cell: plain": cells.SimpleRNNCell,
    "peepholes": cells.PeepholeLSTMCell,
    "coupled gates": cells.CoupledLSTMCell,
    "full gate recurrence": cells.FullGateLSTMCell,
    "layer normalization": cells.LayerNormLSTMCell,
    "projection": lambda units: cells.ProjectedLSTMCell(units, projection=-(-units // 2)),
    "GRU": cells.GRUCell,
    "minimal gated unit": cells.MGUCell,
    "minLSTM": cells.MinLSTMCell,
    "minGRU": cells.MinGRUCell,
}


class Size(NamedTuple):
    """Of an experiment."""

    T: int  #          steps of a sequence
    units: int  #      of the LSTM
    sequences: int  #  to train on
    epochs: int


BATCH = 64
FULL, QUICK = Size(40, 16, 50 * BATCH, 10), Size(15, 16, 20 * BATCH, 8)


# --- tasks ------------------------------------------------------------------------------------------------------------


def keep(N: int, T: int, rng: np.random.Generator) -> Data:
    """One-hot letters: one of the first four at some step, one of the other four at each of the rest."""
    letters, rows, capital = rng.integers(4, 8, (N, T)), np.arange(N), rng.integers(0, 4, N)
    letters[rows, rng.integers(0, T, N)] = capital
    return one_hot(letters, 8), one_hot(capital, 4)


def ignore(N: int, T: int, rng: np.random.Generator) -> Data:
    """Numbers and marks: one is marked."""
    x, rows, step = numbers(N, T, rng), np.arange(N), rng.integers(0, T, N)
    x[rows, step, 1] = 1
    return x, x[rows, step, :1]


def reset(N: int, T: int, rng: np.random.Generator) -> Data:
    """Numbers and marks: one to T are marked, four on average, and the last one counts."""
    x, rows = numbers(N, T, rng), np.arange(N)
    x[:, :, 1] = rng.random((N, T)) < 3 / T
    x[rows, rng.integers(0, T, N), 1] = 1
    last = T - 1 - np.argmax(x[:, ::-1, 1], axis=1)
    return x, x[rows, last, :1]


def count(N: int, T: int, rng: np.random.Generator) -> Data:
    """Events and queries, each 0 or 1 at every step; the answer at a query is a fifth of the events so far, else 0."""
    x = (rng.random((N, T, 2)) < (0.3, 0.1)).astype("float32")
    events, queries = x[:, :, :1], x[:, :, 1:]
    return x, np.cumsum(events, axis=1) / 5 * queries


def add(N: int, T: int, rng: np.random.Generator) -> Data:
    """Numbers and marks: one in each half is marked."""
    x, rows = numbers(N, T, rng), np.arange(N)
    first, second = rng.integers(0, T // 2, N), rng.integers(T // 2, T, N)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, x[rows, first, :1] + x[rows, second, :1]


def numbers(N: int, T: int, rng: np.random.Generator) -> np.ndarray:
    """A number at each step, and no mark yet, (N, T, 2)."""
    return np.stack([rng.uniform(-1, 1, (N, T)), np.zeros((N, T))], axis=2).astype("float32")


def one_hot(ids: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size, dtype="float32")[ids]


TASKS = {"keep": keep, "reset": reset, "ignore": ignore, "count": count, "add": add}


# --- one run ----------------------------------------------------------------------------------------------------------


def run(cell: str, task: str, seed: int, size: Size, backend: str | None = None) -> float:
    """The error of a new network with that cell on that task."""
    rng = np.random.default_rng([seed, list(TASKS).index(task)])  # the same sequences for every cell
    x, y = TASKS[task](size.sequences, size.T, rng)
    x_test, y_test = TASKS[task](2000, size.T, rng)
    features, outputs, each_step = x.shape[-1], y.shape[-1], y.ndim == 3
    layer = RNN(CELLS[cell](matching_units(cell, features, outputs, size.units)), return_sequences=each_step)
    model = Sequential([layer, Dense(outputs)], seed=seed, backend=backend)
    steps = size.epochs * -(-len(x) // BATCH)
    model.compile(Adam(CosineDecay(0.02, steps), clipnorm=1.0), "mean_squared_error")
    with threadpool_limits(1):
        model.fit(x, y, batch_size=BATCH, epochs=size.epochs, verbose=0)
        wrong = model.predict(x_test, batch_size=1000, verbose=0) - y_test
    guess = y_test - y_test.mean(axis=tuple(range(y.ndim - 1)))
    return float(np.sqrt(np.mean(wrong**2) / np.mean(guess**2)))


def matching_units(cell: str, features: int, outputs: int, units: int) -> int:
    """How many units give a network with that cell about the parameters of one with an LSTM of `units`."""

    def parameters(cell: Cell) -> int:
        of_cell = sum(int(np.prod(shape)) for shape, _ in cell.param_specs(features).values())
        return of_cell + (cell.output_size + 1) * outputs

    wanted = parameters(CELLS["LSTM"](units))
    return min(range(1, 20 * units), key=lambda n: abs(parameters(CELLS[cell](n)) - wanted))


# --- all of them ------------------------------------------------------------------------------------------------------


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options, QUICK if options.quick else FULL)


def experiment(folder: Path, options: argparse.Namespace, size: Size) -> None:
    seeds = range(options.seed, options.seed + (options.seeds or (1 if options.quick else 3)))
    jobs = [(cell, task, seed, size, options.backend) for cell in CELLS for task in TASKS for seed in seeds]
    found = {}
    with tqdm(total=len(jobs), unit="run", leave=False, disable=None) as bar:
        for job, error in results(jobs, count_workers(options.workers)):
            found[job] = error
            bar.set_postfix_str(f"{job[0]}, {job[1]}")
            bar.update()
    errors = {(cell, task): [found[job] for job in jobs if job[:2] == (cell, task)] for cell, task, *_ in jobs}
    report(errors)
    with atomic_write(folder / "odyssey.png") as file:
        draw(errors).savefig(file, dpi=150)
    print(f"written to {folder}/: odyssey.png")


def results(jobs: list[tuple], processes: int) -> Iterator[tuple[tuple, float]]:
    """Each job with what `run` returns for it, in the order in which they end."""
    if processes == 1:
        yield from ((job, run(*job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(run, *job): job for job in jobs}
        try:
            for future in as_completed(pending):
                yield pending[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def report(errors: Errors) -> None:
    """Print the table: the median over the seeds, and their range."""
    tasks = list(dict.fromkeys(task for _, task in errors))
    print(f"| {'':23} |" + "".join(f" {task:19} |" for task in tasks))
    print(f"| {'-' * 23} |" + f" {'-' * 19} |" * len(tasks))
    for cell in dict.fromkeys(cell for cell, _ in errors):
        print(f"| {cell:23} |" + "".join(f" {spread(errors[cell, task]):19} |" for task in tasks))


def spread(values: list[float]) -> str:
    """Median, and if there are several values, their range."""
    text = f"{np.median(values):.2f}"
    return f"{text} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else text


def draw(errors: Errors) -> Figure:
    figure = Figure(figsize=(9, 8), layout="constrained")
    panel = figure.subplots()
    names, tasks = list(dict.fromkeys(c for c, _ in errors)), list(dict.fromkeys(t for _, t in errors))
    medians = np.array([[np.median(errors[cell, task]) for task in tasks] for cell in names])
    panel.imshow(medians, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(tasks)), tasks)
    panel.set_yticks(range(len(names)), names)
    return figure


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/odyssey")
    parser.add_argument("--seeds", type=whole(1, 100), help="how many networks of each kind (default 3, or 1 with --quick)")
    parser.add_argument("--workers", default="auto", type=workers, help="processes; auto is one for each core")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
