"""How fast on this CPU, against Keras on TensorFlow and PyTorch: the same model, the same real reviews, in turn.

    python tests/benchmarks/cpu.py                 the table at the tutorial's shape: a few minutes
    python tests/benchmarks/cpu.py --layer GRU     the same for another layer
    python tests/benchmarks/cpu.py --sweep         also units, length and batch size, ids and dense input
    python tests/benchmarks/cpu.py --options       also each option of the LSTM, against Keras with the same one
    python tests/benchmarks/cpu.py --load 0 2 8    only the training step, beside so many processes that never rest
    python tests/benchmarks/cpu.py --rounds 1 --steps 5 --samples 1000    a quick look

Every contender is a process that sleeps while another one runs; they take turns for several rounds, and medians are
compared. Needs the extra `bench`. An OPENBLAS_CORETYPE in the environment slows this package alone: unset it first.
Writes cpu.csv, cpu.png and cpu.md (with --sweep also sweep.csv and sweep.png, with --options options.md).
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from threadpoolctl import threadpool_info

TUTORIAL = {"V": 20000, "E": 128, "H": 60, "T": 100, "tokens": True, "layer": "LSTM"}
HERE = Path(__file__).parent


class Contender:
    """A process of `contenders.py`, or of another script that answers commands like it."""

    def __init__(self, name, shape, data=None, script="contenders.py", **setup):
        self.name = name
        command = [sys.executable, HERE / script, json.dumps({"shape": shape, "data": str(data)} | setup)]
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, **command):
        """The seconds that the command took, one number for each of its parts."""
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def contenders(shape, data, workers, jit):
    """Each kind with its settings, not yet started."""
    kinds = {
        "scratchlstm, 1 process": {"kind": "ours", "workers": 1},
        f"scratchlstm, {workers} workers": {"kind": "ours", "workers": workers},
        "Keras/TensorFlow": {"kind": "keras", "jit": False},
        "Keras/TensorFlow, XLA": {"kind": "keras", "jit": True},
        "PyTorch": {"kind": "torch"},
    }
    if not jit:
        del kinds["Keras/TensorFlow, XLA"]
    return {name: lambda name=name, kind=kind: Contender(name, shape, data, **kind) for name, kind in kinds.items()}


class PeakMemory:
    """Largest sum of proportional set sizes of a process and its children, sampled while it is watched."""

    def __init__(self, pid):
        self.root, self.peak, self.done = psutil.Process(pid), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()

    def _watch(self):
        while not self.done.wait(0.1):
            total = 0
            for process in [self.root, *self.root.children(recursive=True)]:
                try:
                    info = process.memory_full_info()
                    total += getattr(info, "pss", info.uss)
                except psutil.Error:
                    continue  # it has ended
            self.peak = max(self.peak, total)


def tutorial_table(makers, samples, rounds, steps):
    """Quantity -> contender -> list of values."""
    results = {quantity: {name: [] for name in makers} for quantity in QUANTITIES}
    for _ in range(min(rounds, 3)):
        for name, make in makers.items():
            contender = make()
            with PeakMemory(contender.process.pid) as memory:
                seconds = contender.ask(do="train", samples=samples, batch=128, epochs=1)
            results["process start to end of epoch 1 (s)"][name].append(time.perf_counter() - contender.start)
            results["first epoch (s)"][name] += seconds
            results["peak memory (MB)"][name].append(memory.peak / 2**20)
            contender.close()
    running = {name: make() for name, make in makers.items()}
    few = min(samples, 128 * steps)
    for turn in range(rounds + 1):
        for name, contender in running.items():
            *_, seconds = contender.ask(do="train", samples=few, batch=128, epochs=2)
            if turn:  # the first one warms up
                results["training step (ms)"][name].append(1e3 * seconds / -(-few // 128))
            for quantity, batch in PREDICTIONS.items():
                (seconds,) = contender.ask(do="predict", samples=samples, batch=batch)
                if turn:
                    results[quantity][name].append(samples / seconds)
    for contender in running.values():
        contender.close()
    return results


PREDICTIONS = {"predict (reviews/s)": None, "predict, batches of 512 (reviews/s)": 512}
QUANTITIES = (
    "training step (ms)",
    "first epoch (s)",
    "process start to end of epoch 1 (s)",
    *PREDICTIONS,
    "peak memory (MB)",
)


def sweep(folder, workers, rounds):
    """Milliseconds a training step while one size varies; rows of (what, size, input, contender, ms)."""
    rng, rows = np.random.default_rng(0), []
    sizes = {"H": (32, 64, 128, 256, 512), "T": (20, 50, 100, 200, 500), "B": (16, 32, 64, 128, 256, 512)}
    for tokens in (True, False):
        for what, values in sizes.items():
            for value in values:
                at = {"H": 60, "T": 100, "B": 128} | {what: value}
                shape = TUTORIAL | {"H": at["H"], "T": at["T"], "tokens": tokens}
                steps = max(3, min(20, 20 * 100 * 128 * 60 // (at["T"] * at["B"] * at["H"])))
                count = steps * at["B"]
                if tokens:  # as often as words occur: Zipf's law
                    ids = np.minimum(rng.zipf(1.2, size=(count, at["T"])), shape["V"] - 1).astype("int32")
                x = ids if tokens else rng.normal(size=(count, at["T"], shape["E"])).astype("float32")
                data = folder / "sweep.npz"
                np.savez(data, x=x, y=rng.integers(0, 2, count))
                running = [
                    make() for name, make in contenders(shape, data, workers, jit=False).items() if "1 p" not in name
                ]
                times = {contender.name: [] for contender in running}
                for _ in range(rounds):
                    for contender in running:
                        *_, seconds = contender.ask(do="train", samples=count, batch=at["B"], epochs=2)
                        times[contender.name].append(1e3 * seconds / steps)
                for contender in running:
                    contender.close()
                kind = "ids" if tokens else "dense"
                rows += [(what, value, kind, name, median(values_)) for name, values_ in times.items()]
                print(what, value, kind, {name: round(median(v), 1) for name, v in times.items()}, flush=True)
    return rows


def beside_load(makers, counts, samples, rounds, steps):
    """A training step beside busy processes: milliseconds, and the ratio to Keras in the same round; in Markdown."""
    lines = [f"| busy processes | {' | '.join(makers)} |", "|---" * (len(makers) + 1) + "|"]
    few = min(samples, 128 * steps)
    running = {name: make() for name, make in makers.items()}
    for contender in running.values():
        contender.ask(do="train", samples=few, batch=128, epochs=1)  # warms up
    for count in counts:
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        times = {name: [] for name in running}
        for _ in range(rounds):
            for name, contender in running.items():
                (seconds,) = contender.ask(do="train", samples=few, batch=128, epochs=1)
                times[name].append(1e3 * seconds / -(-few // 128))
        for process in busy:
            process.kill()
            process.wait()
        ratios = {
            name: median(own / keras for own, keras in zip(values, times["Keras/TensorFlow"], strict=True))
            for name, values in times.items()
        }
        cells = [f"{spread(values)}: {ratios[name]:.2f}" for name, values in times.items()]
        lines.append(f"| {count} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    for contender in running.values():
        contender.close()
    return "\n".join(lines)


OPTIONS = {
    "none": {},
    "mask_zero": {"mask_zero": True},
    "go_backwards": {"options": {"go_backwards": True}},
    "dropout": {"options": {"dropout": 0.3}},
    "recurrent_dropout": {"options": {"recurrent_dropout": 0.3}},
    "both dropouts": {"options": {"dropout": 0.3, "recurrent_dropout": 0.3}},
    "use_bias=False": {"options": {"use_bias": False}},
    "relu and hard_sigmoid": {"options": {"activation": "relu", "recurrent_activation": "hard_sigmoid"}},
    "regularizers": {"options": {"kernel_regularizer": "l2", "recurrent_regularizer": "l1"}},
    "constraints": {"options": {"kernel_constraint": "max_norm", "recurrent_constraint": "unit_norm"}},
    "two layers": {"depth": 2},
    "Bidirectional": {"bidirectional": True},
    "Bidirectional, mask_zero": {"bidirectional": True, "mask_zero": True},
}


def options_table(data, workers, rounds, samples):
    """A training step with each option, here and in Keras, in Markdown."""
    lines = [
        "| option | scratchlstm (ms) | Keras (ms) | ratio | against no option: here | in Keras |",
        "|---" * 6 + "|",
    ]
    plain: dict[str, float] = {}
    for name, setting in OPTIONS.items():
        makers = contenders(TUTORIAL | setting, data, workers, jit=False)
        running = [make() for kind, make in makers.items() if "1 p" not in kind and kind != "PyTorch"]
        times = {contender.name: [] for contender in running}
        for _ in range(rounds):
            for contender in running:
                *_, seconds = contender.ask(do="train", samples=samples, batch=128, epochs=2)
                times[contender.name].append(1e3 * seconds / -(-samples // 128))
        for contender in running:
            contender.close()
        ours, theirs = (median(values) for values in times.values())
        plain = plain or {"ours": ours, "theirs": theirs}
        against = f"{ours / plain['ours']:.2f} | {theirs / plain['theirs']:.2f}"
        lines.append(f"| {name} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} | {against} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def machine():
    """One line about where this ran."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    blas = ", ".join(f"{pool['internal_api']} ({pool.get('architecture', '?')})" for pool in threadpool_info())
    return (
        f"{model}, {psutil.cpu_count(logical=False)} cores, {platform.system()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__} with {blas}"
    )


def report(results, reference):
    """The table in Markdown: medians, in brackets the range, and the ratio to the reference."""
    names = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for quantity, by_name in results.items():
        base = median(by_name[reference])
        cells = [f"{spread(values)}: {median(values) / base:.2f}" for values in by_name.values()]
        lines.append(f"| {quantity} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values):
    digits = 1 if median(values) < 100 else 0
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def bar_chart(results, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.2), layout="constrained")
    colors = ["#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#999999"]
    for panel, (quantity, by_name) in zip(figure.subplots(1, len(results)), results.items(), strict=True):
        values = [median(v) for v in by_name.values()]
        panel.barh(list(by_name), values, color=colors[: len(values)])
        panel.invert_yaxis()
        panel.set_title(quantity, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.get_subplotspec().colspan.start:
            panel.set_yticklabels([])
    figure.savefig(path, dpi=130)


def sweep_chart(rows, path):
    """Log-log lines; how the time grows: for T and B a line a + b size, for H a power."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 3)
    colors = {"scratchlstm": "#0072B2", "Keras": "#D55E00", "PyTorch": "#666666"}
    for row, kind in enumerate(("ids", "dense")):
        for column, what in enumerate("HTB"):
            panel = panels[row][column]
            for name in dict.fromkeys(name for *_, name, _ in rows):
                points = [(v, ms) for w, v, k, n, ms in rows if (w, k, n) == (what, kind, name)]
                if what == "H":
                    growth = f"H^{np.polyfit(*np.log(points).T, 1)[0]:.2f}"
                else:  # relative errors count alike
                    slope, start = np.polyfit(*np.transpose(points), 1, w=[1 / ms for _, ms in points])
                    growth = f"{start:.1f} ms + {slope:.3f} ms {what}"
                color = next(color for start, color in colors.items() if name.startswith(start))
                panel.loglog(*zip(*points, strict=True), "o-", color=color, label=f"{name}: {growth}")
            sizes = sorted({v for w, v, *_ in rows if w == what})
            panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.set(xlabel=what, ylabel="ms a step", title=f"{kind}, {what} varies")
            panel.legend(fontsize=8)
            panel.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="training steps of a round")
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--workers", type=int, default=psutil.cpu_count(logical=False))
    parser.add_argument("--jit", action="store_true", help="Keras with XLA, too (slower here)")
    parser.add_argument("--layer", choices=("LSTM", "GRU"), default="LSTM", help="of the table")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--options", action="store_true")
    parser.add_argument("--load", type=int, nargs="+", metavar="PROCESSES", help="busy processes, nine rounds or more")
    parser.add_argument("--output", default="runs/benchmark")
    options = parser.parse_args()
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)

    from scratchlstm.datasets import imdb
    from scratchlstm.preprocessing.sequence import pad_sequences

    (x, y), _ = imdb.load_data(num_words=TUTORIAL["V"], verbose=0)
    samples = min(options.samples, len(x))
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "reviews.npz"
        np.savez(data, x=pad_sequences(x[:samples], TUTORIAL["T"]), y=y[:samples])
        makers = contenders(TUTORIAL | {"layer": options.layer}, data, options.workers, options.jit)
        if options.load:
            del makers["PyTorch"]  # whose waiting threads make it ten times slower, and this take an hour
            text = f"{machine()}; training step in ms: median (range), and the median ratio to Keras/TensorFlow\n\n"
            print(text)
            text += beside_load(makers, options.load, samples, max(options.rounds, 9), min(options.steps, 30))
            (folder / "load.md").write_text(text + "\n")
            return
        results = tutorial_table(makers, samples, options.rounds, options.steps)
        text = (
            f"{machine()}; medians of {options.rounds} rounds, range, and ratio to the median of Keras/TensorFlow\n\n"
        )
        text += report(results, "Keras/TensorFlow")
        print(text)
        (folder / "cpu.md").write_text(text + "\n")
        with open(folder / "cpu.csv", "w", newline="") as file:
            rows = [(q, name, value) for q, by_name in results.items() for name, vs in by_name.items() for value in vs]
            csv.writer(file).writerows([("quantity", "contender", "value"), *rows])
        bar_chart(results, folder / "cpu.png")
        if options.options:
            text = options_table(data, options.workers, 3, min(samples, 128 * 40))
            (folder / "options.md").write_text(text + "\n")
        if options.sweep:
            rows = sweep(Path(scratch), options.workers, rounds=3)
            with open(folder / "sweep.csv", "w", newline="") as file:
                csv.writer(file).writerows([("varies", "size", "input", "contender", "ms a step"), *rows])
            sweep_chart(rows, folder / "sweep.png")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
