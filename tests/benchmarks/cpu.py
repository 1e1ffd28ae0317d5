"""How fast on this CPU, against Keras on TensorFlow and PyTorch: the same model, the same data, one after another.

    python tests/benchmarks/cpu.py                 the table at the tutorial's shape, on real reviews: a few minutes
    python tests/benchmarks/cpu.py --layer GRU     the same for another layer
    python tests/benchmarks/cpu.py --small         a training step of small batches of dense input
    python tests/benchmarks/cpu.py --sweep         a training step over units, length, batch size; ids and dense input
    python tests/benchmarks/cpu.py --options       a training step with each option of the LSTM, against Keras
    python tests/benchmarks/cpu.py --load 0 2 8    a training step beside so many processes that never rest
    python tests/benchmarks/cpu.py --rounds 1 --steps 5 --samples 1000    a quick look

Every contender is a process that sleeps while another one runs; they take turns for several rounds, and medians are
compared. Needs the extra `bench`. An OPENBLAS_CORETYPE in the environment slows this package alone: unset it first.
Each prints a table and writes it, with the picture that belongs to it, to --output.
"""

import argparse
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

OURS, KERAS, TORCH = "scratchlstm, 1 process", "Keras/TensorFlow", "PyTorch"
FLUSHED = "PyTorch, denormal numbers flushed"
TUTORIAL = {"V": 20000, "E": 128, "H": 60, "T": 100, "tokens": True, "layer": "LSTM"}
# (B, T, E, H)
SMALL = ((8, 1000, 20, 32), (32, 48, 7, 64), (1, 100, 32, 64))
LARGE = ((256, 200, 64, 128), (64, 50, 300, 512), (32, 300, 64, 200))
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


def contenders(shape, data, workers):
    """Each kind with its settings, not yet started."""
    kinds = {
        OURS: ("ours", {"workers": 1}),
        f"scratchlstm without Numba, {workers} workers": ("ours", {"workers": workers, "compiled": False}),
        KERAS: ("keras", {}),
        TORCH: ("torch", {}),
        FLUSHED: ("torch", {"flush": True}),
    }
    return {
        name: lambda name=name, kind=kind, options=options: Contender(name, shape, data, kind=kind, options=options)
        for name, (kind, options) in kinds.items()
    }


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


def step_times(sizes, tokens, scratch, workers, rounds):
    """Contender -> median of milliseconds a training step, of PyTorch the better of its two."""
    B, T, E, H = sizes
    shape = TUTORIAL | {"T": T, "E": E, "H": H, "tokens": tokens}
    steps = max(3, min(200, 20 * 100 * 128 * 60 // (T * B * H)))
    rng, count = np.random.default_rng(0), steps * B
    if tokens:  # as often as words occur: Zipf's law
        x = np.minimum(rng.zipf(1.2, size=(count, T)), shape["V"] - 1).astype("int32")
    else:
        x = rng.normal(size=(count, T, E)).astype("float32")
    data = scratch / "shape.npz"
    np.savez(data, x=x, y=rng.integers(0, 2, count))  # coins, which nobody learns: gradients stay as large as they are
    running = {name: make() for name, make in contenders(shape, data, workers).items()}
    times = {name: [] for name in running}
    for _ in range(rounds):
        for name, contender in running.items():
            *_, seconds = contender.ask(do="train", samples=count, batch=B, epochs=2)
            times[name].append(1e3 * seconds / steps)
    for contender in running.values():
        contender.close()
    found = {name: median(values) for name, values in times.items()}
    return found | {TORCH: min(found[TORCH], found.pop(FLUSHED))}


def over_shapes(points, scratch, workers, rounds):
    """A training step at each (sizes, ids or dense): a table in Markdown, and the times."""
    lines, found = [], []
    for sizes, tokens in points:
        times = step_times(sizes, tokens, scratch, workers, rounds)
        found.append(times)
        if not lines:
            heads = ["B, T, E, H", "input", *times, "ratio to PyTorch", "ratio to the faster peer"]
            lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
            print("\n".join(lines))
        ratios = times[OURS] / times[TORCH], times[OURS] / min(times[TORCH], times[KERAS])
        cells = [", ".join(map(str, sizes)), "ids" if tokens else "dense"]
        cells += [*(f"{ms:.2f}" for ms in times.values()), *(f"{ratio:.2f}" for ratio in ratios)]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines), found


def swept():
    """(what varies, its value, ids or dense, sizes), from the tutorial's shape; then large ones, of which all vary."""
    values = {"H": (32, 64, 128, 256, 512), "T": (20, 50, 100, 200, 500), "B": (16, 32, 64, 128, 256, 512)}
    for tokens in (True, False):
        for what in values:
            for value in values[what]:
                at = {"B": 128, "T": 100, "E": 128, "H": 60} | {what: value}
                yield what, value, tokens, tuple(at.values())
        yield from (("", None, tokens, sizes) for sizes in LARGE)


def beside_load(makers, counts, samples, rounds, steps):
    """A training step next to busy processes: milliseconds, and the ratio to Keras in the same round; in Markdown."""
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
            name: median(own / keras for own, keras in zip(values, times[KERAS], strict=True))
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
        makers = contenders(TUTORIAL | setting, data, workers)
        running = [makers[name]() for name in (OURS, KERAS)]
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


def report(results, *references):
    """The table in Markdown: medians, in brackets the range, and the ratios to the references' medians."""
    names = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for quantity, by_name in results.items():
        cells = []
        for values in by_name.values():
            ratios = (f"{median(values) / median(by_name[reference]):.2f}" for reference in references)
            cells.append(f"{spread(values)}: {' / '.join(ratios)}")
        lines.append(f"| {quantity} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"(After the colon: ratios to {' / '.join(references)}.)"])


def spread(values):
    digits = 1 if median(values) < 100 else 0
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="training steps of a round")
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--workers", type=int, default=psutil.cpu_count(logical=False), help="of NumPy alone")
    parser.add_argument("--layer", choices=("LSTM", "GRU"), default="LSTM")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--small", action="store_true")
    what.add_argument("--sweep", action="store_true")
    what.add_argument("--options", action="store_true")
    what.add_argument("--load", type=int, nargs="+", metavar="PROCESSES", help="busy processes, nine rounds or more")
    parser.add_argument("--output", default="runs/benchmark")
    options = parser.parse_args()
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    TUTORIAL["layer"] = options.layer
    print(f"{machine()}; training steps in ms; medians\n")
    with tempfile.TemporaryDirectory() as scratch:
        if options.small:
            text, _ = over_shapes([(sizes, False) for sizes in SMALL], Path(scratch), options.workers, options.rounds)
            name = "small"
        elif options.sweep:
            points = list(swept())
            shapes = [(sizes, tokens) for _, _, tokens, sizes in points]
            text, times = over_shapes(shapes, Path(scratch), options.workers, options.rounds)
            from charts import sweep_chart

            sweep_chart(points, times, folder / "sweep.svg")
            name = "sweep"
        else:
            name, text = on_reviews(options, Path(scratch), folder)
    (folder / f"{name}.md").write_text(text + "\n")


def on_reviews(options, scratch, folder):
    """The measures at the tutorial's shape: a name, and a table in Markdown."""
    from scratchlstm.datasets import imdb
    from scratchlstm.preprocessing.sequence import pad_sequences

    (x, y), _ = imdb.load_data(num_words=TUTORIAL["V"], verbose=0)
    samples, data = min(options.samples, len(x)), scratch / "reviews.npz"
    np.savez(data, x=pad_sequences(x[:samples], TUTORIAL["T"]), y=y[:samples])
    if options.options:
        return "options", options_table(data, options.workers, options.rounds, min(samples, 128 * 40))
    makers = contenders(TUTORIAL, data, options.workers)
    del makers[FLUSHED]  # in so few steps no gradient gets that small
    if options.load:
        del makers[TORCH]  # whose waiting threads make it ten times slower, and this take an hour
        print("Range in brackets, and the median ratio to Keras in the same round.\n")
        return "load", beside_load(makers, options.load, samples, max(options.rounds, 9), min(options.steps, 30))
    results = tutorial_table(makers, samples, options.rounds, options.steps)
    from charts import cpu_chart

    cpu_chart(results, folder / "cpu.svg")
    text = report(results, KERAS, TORCH)
    print(text)
    return "cpu", text


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
