"""What is each gate for? Take it away and see: sixteen cells, each on tasks for which a gate matters.

python examples/odyssey.py                  five made-up tasks, three seeds
python examples/odyssey.py --reviews        real reviews instead, for five of the cells

In a made-up task a sequence has T steps, and numbers are drawn from -1 to 1:

    keep      one of four letters comes at some step, noise at all others: which of the four was it?
    reset     some steps are marked: what is the sum of the numbers after the last mark?
    ignore    one number is marked: which?
    count     at some steps the number of events so far is asked for; at all others the answer is 0
    add       one number in each half is marked: what is their sum?

The error is the root mean square on new sequences, divided by that of always giving the mean answer: 0 is solved, 1 is
a guess. (Of reviews: the share of wrong answers, divided by 1/2.) A cell has as many units as it takes to give its
network the LSTM network's number of parameters; all networks train for the same steps. The settings were tuned for the
LSTM.

The cells are those of Greff et al., "LSTM: A Search Space Odyssey" (2015), and some more (docs/variants.md).
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from command_line import example_parser, in_one_line, reviews_path, whole, workers
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from scratchlstm import Sequential, cells
from scratchlstm._support.drawing import BACK, in_style
from scratchlstm.cells import Cell
from scratchlstm.datasets import imdb
from scratchlstm.layers import RNN, Dense, Embedding
from scratchlstm.mpi import first
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.schedules import CosineDecay
from scratchlstm.training.recruit import count_workers
from scratchlstm.utils import atomic_write, held_folder

Data = tuple[np.ndarray, np.ndarray]  # x (N, T, E), y (N, K), or (N, T, K) if every step has an answer
Errors = dict[tuple[str, str], list[float]]  # (cell, task) -> the error of each seed

CELLS: dict[str, Callable[[int], Cell]] = {
    "LSTM": cells.LSTMCell,
    # something is taken away
    "no input gate": cells.NoInputGateLSTMCell,
    "no forget gate": cells.NoForgetGateLSTMCell,
    "no output gate": cells.NoOutputGateLSTMCell,
    "no input activation": cells.NoInputActivationLSTMCell,
    "no output activation": cells.NoOutputActivationLSTMCell,
    "plain network": cells.SimpleRNNCell,
    # another cell
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
TAKEN_AWAY = list(CELLS)[1:7]
REVIEWERS = ["LSTM", "no forget gate", "no output activation", "plain network", "GRU"]
CLAIMS = [  # a cell, and a task at which it should be worse than the LSTM
    ("no input gate", "ignore"),
    ("no input gate", "add"),
    ("no forget gate", "reset"),
    ("no forget gate", "ignore"),
    ("no output gate", "count"),
    ("no input activation", "ignore"),
    ("no output activation", "keep"),
    *(("plain network", task) for task in ("keep", "reset", "ignore", "count", "add")),
    *((cell, task) for cell in ("minLSTM", "minGRU") for task in ("reset", "count")),
    *((cell, "reviews") for cell in ("no forget gate", "no output activation", "plain network")),
]
TITLES = {
    "keep": "keep\na letter",
    "reset": "reset\nat a mark",
    "ignore": "ignore\nthe unmarked",
    "count": "count\nand be quiet",
    "add": "add\ntwo numbers",
    "reviews": "film\nreviews",
}
SHADES = 0.04, 1.0  # errors of the palest and of the darkest colour
BATCH = 64
VOCABULARY = 5000  # of the reviews


class Size(NamedTuple):
    """The sizes of an experiment."""

    T: int  #          steps of a sequence
    units: int  #      of the LSTM
    sequences: int  #  to train on
    epochs: int


FULL, QUICK = Size(40, 16, 50 * BATCH, 10), Size(15, 16, 20 * BATCH, 8)
FULL_REVIEWS, QUICK_REVIEWS = Size(100, 32, 12_800, 3), Size(20, 16, 10 * BATCH, 1)


class Job(NamedTuple):
    """A network to train."""

    cell: str
    task: str
    seed: int
    size: Size
    backend: str | None = None
    path: str | None = None  # of the reviews


# --- tasks ------------------------------------------------------------------------------------------------------------


def keep(N: int, T: int, rng: np.random.Generator) -> Data:
    """One-hot letters: one of the first four at some step, one of the other four at every other step."""
    letters, rows, capital = rng.integers(4, 8, (N, T)), np.arange(N), rng.integers(0, 4, N)
    letters[rows, rng.integers(0, T, N)] = capital
    return one_hot(letters, 8), one_hot(capital, 4)


def ignore(N: int, T: int, rng: np.random.Generator) -> Data:
    """Numbers and marks: one is marked."""
    x, rows, step = numbers(N, T, rng), np.arange(N), rng.integers(0, T, N)
    x[rows, step, 1] = 1
    return x, x[rows, step, :1]


def reset(N: int, T: int, rng: np.random.Generator) -> Data:
    """Numbers and marks: one step and, by chance, some others (two on average) are marked; only later numbers count."""
    x, rows = numbers(N, T, rng), np.arange(N)
    x[:, :, 1] = rng.random((N, T)) < 2 / T
    x[rows, rng.integers(0, T, N), 1] = 1
    last = T - 1 - np.argmax(x[:, ::-1, 1], axis=1)
    after = np.arange(T) > last[:, None]  # (N, T)
    return x, np.sum(x[:, :, 0] * after, axis=1, keepdims=True)


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
    """A number at each step, without marks yet, (N, T, 2)."""
    return np.stack([rng.uniform(-1, 1, (N, T)), np.zeros((N, T))], axis=2).astype("float32")


def one_hot(ids: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size, dtype="float32")[ids]


TASKS = {"keep": keep, "reset": reset, "ignore": ignore, "count": count, "add": add}


# --- one run ----------------------------------------------------------------------------------------------------------


def run(job: Job) -> float:
    """The error of a new network of that cell on that task."""
    with threadpool_limits(1):
        return on_reviews(job) if job.task == "reviews" else on_made_up(job)


def on_made_up(job: Job) -> float:
    rng = np.random.default_rng([job.seed, *job.task.encode()])  # the same sequences for every cell
    x, y = TASKS[job.task](job.size.sequences, job.size.T, rng)
    x_test, y_test = TASKS[job.task](2000, job.size.T, rng)
    model = Sequential(seed=job.seed, backend=job.backend)
    model.add(layer_of(job, x.shape[-1], y.shape[-1], return_sequences=y.ndim == 3))
    model.add(Dense(y.shape[-1]))
    steps = job.size.epochs * -(-len(x) // BATCH)
    model.compile(Adam(CosineDecay(0.02, steps), clipnorm=1.0), "mean_squared_error")
    model.fit(x, y, batch_size=BATCH, epochs=job.size.epochs, verbose=0, workers=1)
    wrong = model.predict(x_test, batch_size=1000, verbose=0, workers=1) - y_test
    guess = y_test - y_test.mean(axis=tuple(range(y.ndim - 1)))
    return float(np.sqrt(np.mean(wrong**2) / np.mean(guess**2)))


def on_reviews(job: Job) -> float:
    (x, y), (x_test, y_test) = imdb.load_data(job.path, num_words=VOCABULARY, verbose=0)
    x, y = pad_sequences(x[: job.size.sequences], job.size.T), y[: job.size.sequences]
    model = Sequential(seed=job.seed, backend=job.backend)
    model.add(Embedding(VOCABULARY, 32, mask_zero=True))
    model.add(layer_of(job, 32, 1))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(Adam(clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, epochs=job.size.epochs, verbose=0, workers=1)
    x_test = pad_sequences(x_test, job.size.T)
    accuracy = model.evaluate(x_test, y_test, batch_size=1000, verbose=0, workers=1)[1]
    return 2 * (1 - accuracy)


def layer_of(job: Job, features: int, outputs: int, return_sequences: bool = False) -> RNN:
    return RNN(CELLS[job.cell](units_of(job, features, outputs)), return_sequences=return_sequences)


def units_of(job: Job, features: int, outputs: int) -> int:
    """The number of units that gives the network (nearly) as many parameters as the LSTM network."""

    def parameters(cell: Cell) -> int:
        of_cell = sum(int(np.prod(shape)) for shape, _ in cell.param_specs(features).values())
        return of_cell + (cell.output_size + 1) * outputs

    wanted = parameters(CELLS["LSTM"](job.size.units))
    return min(range(1, 20 * job.size.units), key=lambda units: abs(parameters(CELLS[job.cell](units)) - wanted))


# --- all of them ------------------------------------------------------------------------------------------------------


def main() -> None:
    options = parse_options()
    if not first():  # each network has its own process, spread over the cores of one machine
        return
    with held_folder(options.output) as folder:
        if options.reviews:
            with in_one_line(ValueError, ModuleNotFoundError):
                imdb.load_data(options.path)  # says what it reads, or what is missing
            experiment(folder, options, QUICK_REVIEWS if options.quick else FULL_REVIEWS, REVIEWERS, ["reviews"])
        else:
            experiment(folder, options, QUICK if options.quick else FULL, list(CELLS), list(TASKS))


def experiment(folder: Path, options: argparse.Namespace, size: Size, names: list[str], tasks: list[str]) -> None:
    seeds = range(options.seed, options.seed + (options.seeds or (1 if options.quick else 3)))
    pairs = list(product(names, tasks))
    jobs = [Job(*pair, seed, size, options.backend, options.path) for seed in seeds for pair in pairs]
    found = dict(results(jobs, count_workers(options.workers)))
    errors = {pair: [found[job] for job in jobs if (job.cell, job.task) == pair] for pair in pairs}
    print("\n".join([*table(errors), "", *conclusions(errors)]))
    with atomic_write(folder / "odyssey.png") as file:
        draw(errors).savefig(file, dpi=150)
    print(f"written to {folder}/: odyssey.png")


def results(jobs: list[Job], processes: int) -> Iterator[tuple[Job, float]]:
    """Each job and what `run` returns for it, in the order in which they finish."""
    with tqdm(total=len(jobs), unit="run", leave=False, disable=None) as bar:
        if processes == 1:
            for job in jobs:
                yield job, run(job)
                bar.update()
            return
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            pending = {pool.submit(run, job): job for job in jobs}
            try:
                for future in as_completed(pending):
                    yield pending[future], future.result()
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)


def table(errors: Errors) -> Iterator[str]:
    """The median and range over the seeds, for each cell and task."""
    names, tasks = rows_and_columns(errors)
    yield f"| {'error':20} |" + "".join(f" {task:19} |" for task in tasks)
    yield f"| {'-' * 20} |" + f" {'-' * 19} |" * len(tasks)
    for cell in names:
        yield f"| {cell:20} |" + "".join(f" {spread(errors[cell, task]):19} |" for task in tasks)


def conclusions(errors: Errors) -> Iterator[str]:
    """The findings that hold for all seeds: the ranges of two cells' errors do not overlap."""
    for cell, task in CLAIMS:
        if (cell, task) in errors:
            lstm, other = errors["LSTM", task], errors[cell, task]
            verdict = "holds" if min(other) > max(lstm) else "does not hold"
            yield f"{cell:20} is worse at {task:7} {spread(other):19}, LSTM {spread(lstm):19} {verdict}"
    better = [f"{cell} at {task}" for (cell, task), other in errors.items() if max(other) < min(errors["LSTM", task])]
    yield f"better than the LSTM with every seed: {', '.join(better) or 'none'}"


def rows_and_columns(errors: Errors) -> tuple[list[str], list[str]]:
    """The cells and the tasks, in order."""
    return list(dict.fromkeys(cell for cell, _ in errors)), list(dict.fromkeys(task for _, task in errors))


def spread(values: list[float]) -> str:
    """Median, and if there are several values, their range."""
    text = f"{np.median(values):.2f}"
    return f"{text} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else text


@in_style
def draw(errors: Errors) -> Figure:
    """The table as a heat map: the LSTM, below it the LSTM without one of its parts, below that other cells."""
    names, tasks = rows_and_columns(errors)
    medians = {cell: np.array([np.median(errors[cell, task]) for task in tasks]) for cell in names}
    ordered = sorted(names, key=lambda cell: -np.mean(np.log(medians[cell])))  # the worst first
    groups = {
        "": ["LSTM"],
        "something is taken away": [cell for cell in ordered if cell in TAKEN_AWAY],
        "another cell": [cell for cell in ordered if cell not in ("LSTM", *TAKEN_AWAY)],
    }
    groups = {title: members for title, members in groups.items() if members}
    heights = [len(members) for members in groups.values()]
    figure = Figure(figsize=(1.9 + 0.97 * len(tasks), 1.9 + 0.3 * len(names)), layout="constrained")
    panels = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (title, members) in zip(panels, groups.items(), strict=True):
        for row, cell in enumerate(members):
            for column, value in enumerate(medians[cell]):
                depth = np.clip(np.log(value / SHADES[0]) / np.log(SHADES[1] / SHADES[0]), 0, 1)
                tile = Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=BACK, linewidth=0)
                tile.set_alpha(float(0.5 * depth))  # so that the ink can be read on it
                panel.add_patch(tile)
                panel.text(column, row, f"{value:.2f}", ha="center", va="center")
        panel.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(members) - 0.5, -0.5))
        panel.set_yticks(range(len(members)), members)
        panel.set_xticks([])
        panel.set_title(title, loc="left", fontweight="normal", style="italic")
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    panels[0].set_xticks(range(len(tasks)), [TITLES[task] for task in tasks])
    panels[0].tick_params(labeltop=True, labelbottom=False)
    figure.suptitle("What is lost without it: errors, from 0, solved, to 1, a guess")
    return figure


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/odyssey")
    parser.add_argument("--reviews", action="store_true", help="five cells on real reviews instead of made-up tasks")
    parser.add_argument("--path", type=reviews_path, help="an imdb.npz or an unpacked aclImdb folder with reviews")
    parser.add_argument("--seeds", type=whole(1, 100), help="networks of each kind (default 3, or 1 with --quick)")
    parser.add_argument("--workers", default="auto", type=workers, help="processes; auto is one for each core")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
