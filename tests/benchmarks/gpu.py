"""How fast, how exact and how sound on this GPU, against PyTorch with cuDNN: one command, one report.

    python tests/benchmarks/gpu.py                      all of it
    python tests/benchmarks/gpu.py --skip-tests         only the measurements: some five minutes of timing
    python tests/benchmarks/gpu.py --quick              tiny sizes, to see that it runs; nothing is judged

It runs the tests that need a GPU, then NVIDIA's compute-sanitizer over a small pass of every kernel (where it is on the
PATH), then the measurements, and writes CARD.md and CARD.json to --output: versions, every figure, and for each target
what was asked, what was measured, and whether that is met. PyTorch built for CUDA is optional; its columns say why they
are empty. Needs the extra `cuda12` or `cuda13`, and `test`; real reviews with `imdb` (else random ids, and it says so).

A time is a median over rounds in which the contenders take turns; in a round each is called many times in a row, and
then the GPU is waited for once. The exit code is 0 if nothing failed, 1 if a test or a sanitizer did, 2 without a
GPU.
"""

import argparse
import gc
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, product
from pathlib import Path
from statistics import median

import contenders
import gpu_floor
import gpu_peers
import numpy as np
from cpu import TUTORIAL, machine
from gpu_report import EAGER, FLOAT32, GRAPH, OURS, TARGETS, TEXTBOOK, judge, markdown, write

import scratchlstm
from scratchlstm import Sequential, backend, layers, optimizers
from scratchlstm._support.files import require_writable_folder
from scratchlstm.kernels.cupy_lstm import CupyLSTM
from scratchlstm.layers.passes import Pass, Workspaces
from scratchlstm.training import steps
from scratchlstm.training.data import check_data

ROOT = Path(__file__).parents[2]
TESTS = ("tests/gpu", "tests/kernels")
# and their options; what CUDA's own functions refuse, CuPy raises anyway
SANITIZERS = {"memcheck": ["--report-api-errors", "no"], "racecheck": [], "synccheck": []}
PROBLEMS = (ImportError, MemoryError, RuntimeError)  # that leave a gap in the report, and do not end it


@dataclass(frozen=True)
class Sizes:
    """What is measured at which sizes. A layer's are (units, T, B)."""

    tutorial: dict
    batch: int
    reviews: int
    layers: Sequence[tuple[int, int, int]]
    wide_layers: Sequence[tuple[int, int, int]]
    exact: Sequence[tuple[int, int, int]]
    steps: int  # of training, twice, to compare
    round: float  # seconds of each contender's turn


FULL = Sizes(
    tutorial=TUTORIAL, batch=128, reviews=25000,
    layers=list(product((32, 64, 96, 128), (20, 100, 500), (16, 128, 1024))),
    wide_layers=list(product((192, 256, 512, 1024), (100,), (16, 128, 1024))),
    exact=[(60, 100, 128), (128, 100, 128), (256, 50, 64)],
    steps=50, round=0.3,
)  # fmt: skip
QUICK = Sizes(
    tutorial={"V": 30, "E": 4, "H": 3, "T": 8, "tokens": True, "layer": "LSTM"}, batch=12, reviews=36,
    layers=[(3, 4, 5)], wide_layers=[(260, 2, 2)], exact=[(3, 6, 5)], steps=2, round=0.0,
)  # fmt: skip


# --- the one timing function ------------------------------------------------------------------------------------------


def compare(makers, rounds, turn):
    """For each contender milliseconds of a call: the median, `ms`, and those of all `rounds`; or the `reason` why not.

    Args:
        makers: name -> a function that makes what is called over and over.
        rounds: in each of which every contender has its turn.
        turn: seconds that a turn is to take.
    """
    wait = backend.cupy().cuda.runtime.deviceSynchronize

    def seconds(run, calls):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        return time.perf_counter() - start

    found, running = {}, {}
    for name, make in makers.items():
        try:
            run = make()
            seconds(run, 2)  # compiles, and finds its memory
            running[name] = run, max(1, round(turn / seconds(run, 1)))
            found[name] = {"ms": None, "rounds": []}
        except PROBLEMS as problem:
            found[name] = {"reason": _sentence(problem)}
    for _ in range(rounds):
        for name, (run, calls) in running.items():
            found[name]["rounds"].append(1e3 * seconds(run, calls) / calls)
    for name in running:
        found[name]["ms"] = median(found[name]["rounds"])
    return found


def attempt(measure, *arguments):
    """What is measured, or the reason why not."""
    try:
        return measure(*arguments)
    except PROBLEMS as problem:
        return {"reason": _sentence(problem)}


def _sentence(problem):
    return " ".join(str(problem).split())[:300] or type(problem).__name__


def _free_memory():
    """What earlier measurements left to the pools of both libraries."""
    gc.collect()
    backend.cupy().get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.empty_cache()


# --- what is timed ----------------------------------------------------------------------------------------------------


def training_steps(shape, x, y, batch, **options):
    """The tutorial's model; each call is a step on the next batch. Nothing in it waits for the GPU."""
    model = contenders.Ours(shape | {"options": options}, workers=1).model.to("cupy")
    model.compile("adam", "binary_crossentropy")
    data = check_data(model, x, y, None)
    model.build_for(data.x.shape[1:])
    model.optimizer.claim(model.token, model.params)
    runner = steps.OneProcess(model, data, None)
    runner.begin_epoch(np.arange(len(x)))
    starts = cycle(range(0, len(x) - batch + 1, batch))

    def step():
        start = next(starts)
        return runner.step(start, start + batch)

    step.model = model
    return step


def epoch(shape, x, y, batch, rounds):
    """`fit`, an epoch a round, after one to warm up."""
    ours = contenders.Ours(shape, workers=1)
    ours.model.to("cupy")
    _, *seconds = ours.epochs(x, y, batch, rounds + 1)
    return {"ms": 1e3 * median(seconds), "rounds": [1e3 * each for each in seconds]}


def lstm(units, **options):
    """A layer whose first weights are drawn quickly: the default, an orthogonal matrix, is slow where it is large."""
    return layers.LSTM(units, recurrent_initializer="glorot_uniform", **options)


def layer_passes(x, dy, units):
    """An LSTM forward and backward, all gradients."""
    x, dy = backend.to("cupy", x), backend.to("cupy", dy)
    layer = lstm(units, return_sequences=True)
    layer.build(x.shape[1:], np.random.default_rng(0))
    layer.to("cupy")
    workspaces = Workspaces()

    def both_ways():
        run = Pass(training=True, workspaces=workspaces)
        result = layer.backward(dy, layer.forward(x, run)[1])
        run.release()
        return result

    return both_ways


class Recurrence(CupyLSTM):
    """All T steps alone, without the products before and after them."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.launched = {}

    def launch_again(self, direction):
        """A function that launches this direction's kernel as it was launched last."""
        arguments = self.launched["lstm_" + direction]
        return lambda: super(Recurrence, self)._launch("lstm_" + direction, *arguments)

    def _launch(self, name, *arguments):
        self.launched[name] = arguments
        super()._launch(name, *arguments)


def recurrence(version, direction, shape, batch):
    """One kernel of a version of the recurrence."""
    T, E, H = shape["T"], shape["E"], shape["H"]
    rng, cupy = np.random.default_rng(0), backend.cupy()

    def draw(*sizes):
        return cupy.asarray(rng.normal(scale=0.3, size=sizes).astype("float32"))

    passes = Recurrence(draw(E, 4 * H), draw(H, 4 * H), draw(4 * H), version=version)
    passes.forward(draw(batch, T, E), [draw(batch, H), draw(batch, H)], return_sequences=False)
    passes.backward(draw(batch, H), [None, None])
    return passes.launch_again(direction)


# --- the measurements -------------------------------------------------------------------------------------------------


def measure(sizes, rounds):
    """Everything that takes time or memory, or has errors."""
    shape, batch, turn = sizes.tutorial, sizes.batch, sizes.round
    x, y, where_from = reviews(sizes)
    tutorial = shape, x, y, batch

    def theirs(**how):
        return gpu_peers.training_steps(gpu_peers.pytorch(), *tutorial, **how)

    makers = {
        OURS: lambda: training_steps(*tutorial),
        EAGER: theirs,
        GRAPH: lambda: theirs(graph=True),
        TEXTBOOK: lambda: training_steps(*tutorial, implementation="textbook"),
    }
    found = {"data": where_from, "step": compare(makers, rounds, turn)}
    _free_memory()
    found["epoch"] = attempt(epoch, *tutorial, rounds)
    found["memory"] = {OURS: attempt(peak_memory, makers[OURS]), EAGER: attempt(_peak_memory_of_pytorch, theirs)}
    found["launches"] = {name: attempt(lambda make=makers[name]: _launches(make)) for name in (OURS, EAGER)}
    kernels = {
        f"version {version}, {direction}": lambda v=version, d=direction: recurrence(v, d, shape, batch)
        for direction in ("forward", "backward")
        for version in (1, 2, 3)
    }
    found["recurrence"] = {"floor ms": _floor(shape, batch), "times": compare(kernels, rounds, turn)}
    found["layers"] = [layer_case(*case, shape["E"], rounds, turn) for case in sizes.layers]
    found["wide layers"] = [layer_case(*case, shape["E"], rounds, turn, (FLOAT32,)) for case in sizes.wide_layers]
    found["accuracy"] = {
        dtype: {f"units {H}, T {T}, B {B}": attempt(errors, H, T, B, shape["E"], dtype) for H, T, B in sizes.exact}
        for dtype in ("float32", "float64")
    }
    found["from run to run"] = attempt(from_run_to_run, sizes, x, y)
    return found


def reviews(sizes):
    """Ids, labels, and where they are from."""
    V, T, count = sizes.tutorial["V"], sizes.tutorial["T"], sizes.reviews
    rng = np.random.default_rng(0)
    source = "Ids as often as words occur (Zipf's law), not real reviews"
    if sizes is FULL:
        from scratchlstm.datasets import imdb
        from scratchlstm.preprocessing.sequence import pad_sequences

        try:
            train, test = imdb.load_data(num_words=V, verbose=0)
            x, y = (np.concatenate(each)[:count] for each in zip(train, test, strict=True))
            return pad_sequences(x, T), y, f"{len(x):,} real reviews (IMDB)."
        except FileNotFoundError as error:
            source += f": {_sentence(error)}"
    x = np.minimum(rng.zipf(1.2, size=(count, T)), V - 1).astype("int32")
    return x, rng.integers(0, 2, count), source + "."


def _launches(make):
    gpu_peers.pytorch()
    step = make()
    step()
    return gpu_peers.launches(step)


def _floor(shape, batch):
    device = backend.cupy().cuda.Device()
    has = device.attributes
    hertz, lanes = 1e3 * has["ClockRate"], gpu_floor.lanes(device.compute_capability)
    sizes = shape["T"], batch, shape["H"], has["MultiProcessorCount"]
    return 1e3 * gpu_floor.forward_seconds(*sizes, lanes, hertz)


def layer_case(H, T, B, E, rounds, turn, more=()):
    """One size of the sweep."""
    _free_memory()
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(B, T, columns)).astype("float32") for columns in (E, H))

    def theirs(**how):
        return gpu_peers.layer_passes(gpu_peers.pytorch(), x, dy, H, **how)

    makers = {OURS: lambda: layer_passes(x, dy, H), EAGER: theirs, GRAPH: lambda: theirs(graph=True)}
    makers |= {name: lambda: theirs(tf32=False) for name in more}
    return {"H": H, "T": T, "B": B, "times": compare(makers, rounds, turn)}


def peak_memory(make):
    """Bytes that CuPy took from the GPU for three steps, as a rule more than it filled."""
    _free_memory()
    pool = backend.cupy().get_default_memory_pool()
    before = pool.total_bytes()
    step = make()
    for _ in range(3):
        step()
    backend.cupy().cuda.runtime.deviceSynchronize()
    return {"bytes": pool.total_bytes() - before}


def _peak_memory_of_pytorch(make):
    return {"bytes": gpu_peers.peak_memory(make)}


def errors(H, T, B, E, dtype):
    """A layer against its twin on the CPU: for each result the norm of the difference by the norm.

    Random states that are not zero, a mask, a gradient at every step and on every parameter.
    """
    rng = np.random.default_rng(0)
    x, dy, *states = (rng.normal(size=size).astype(dtype) for size in ((B, T, E), (B, T, H), (B, H), (B, H)))
    mask = rng.random((B, T)) < 0.9
    weights = [rng.normal(scale=0.5 / H**0.5, size=size).astype(dtype) for size in ((E, 4 * H), (H, 4 * H), (4 * H,))]
    results = []
    for name in ("numpy", "cupy"):
        layer = lstm(H, return_sequences=True, dtype=dtype)
        layer.build((T, E), rng)
        layer.set_weights(weights)
        layer.to(name)
        y, cache = layer.forward((x, *states), mask=mask)
        dx, grads = layer.backward(backend.to(name, dy), cache)
        arrays = {"y": y} | dict(zip(("dx", "dh0", "dc0"), dx, strict=True))
        arrays |= {f"d{parameter}": gradient for parameter, gradient in grads.items()}
        results.append({what: backend.host(array, "f8") for what, array in arrays.items()})
    ours, theirs = results
    return {what: float(np.linalg.norm(theirs[what] - ours[what]) / np.linalg.norm(ours[what])) for what in ours}


def from_run_to_run(sizes, x, y):
    """How many of a model's parameters differ, in any bit, after the same training twice."""
    runs = []
    for _ in range(2):
        step = training_steps(sizes.tutorial, x, y, sizes.batch)
        for _ in range(sizes.steps):
            step()
        runs.append(step.model.get_weights())
    different = sum(a.tobytes() != b.tobytes() for a, b in zip(*runs, strict=True))
    return {"arrays": len(runs[0]), "different": different}


# --- tests and sanitizers ---------------------------------------------------------------------------------------------


def gpu_tests(paths=TESTS):
    """How many of the tests that need a GPU passed, failed, and were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={log}", *map(str, paths)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        print(ended.stdout, ended.stderr, sep="")
        if ended.returncode not in (0, 1):  # all passed, some failed
            return {"reason": f"pytest ended with {ended.returncode}: {_sentence(ended.stderr)}", "failed": 1}
        (suite,) = ElementTree.parse(log).getroot().iter("testsuite")
    failed, skipped = int(suite.get("failures")) + int(suite.get("errors")), int(suite.get("skipped"))
    return {"passed": int(suite.get("tests")) - failed - skipped, "failed": failed, "skipped": skipped}


def sanitize():
    """What each of NVIDIA's sanitizers says to `every_kernel`: "no errors", or what it found."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return dict.fromkeys(SANITIZERS, "not run: compute-sanitizer, of NVIDIA's CUDA toolkit, is not on the PATH")
    found = {}
    for tool, options in SANITIZERS.items():
        command = [program, "--tool", tool, *options, "--error-exitcode", "9"]
        command += [sys.executable, __file__, "--every-kernel"]
        ended = subprocess.run(command, capture_output=True, text=True)
        print(ended.stdout, ended.stderr, sep="")
        said = f"ended with {ended.returncode}: {' '.join((ended.stdout + ended.stderr).split())[-500:]}"
        found[tool] = "no errors" if ended.returncode == 0 else said
    return found


def every_kernel():
    """Each kernel at small, odd sizes, each array with memory of its own, so that a sanitizer sees where it ends."""
    backend.cupy().cuda.set_allocator(None)
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, 7, size=(5, 6)), rng.integers(0, 2, size=5)
    with_clipping, with_averages = optimizers.SGD(momentum=0.9, clipnorm=0.1), optimizers.RMSprop(use_ema=True)
    for dtype, units, optimizer in (
        ("float32", 3, "sgd"), ("float32", 3, with_clipping), ("float32", 3, with_averages), ("float64", 3, "adam"),
        ("float32", 260, "adam"),
    ):  # fmt: skip
        model = Sequential(backend="cupy", seed=0)
        model.add(layers.Embedding(7, 4, mask_zero=True, input_shape=(6,), dtype=dtype))
        model.add(layers.Bidirectional(lstm(units, return_sequences=True, dtype=dtype)))
        model.add(lstm(units, dtype=dtype))
        model.add(layers.Dense(1, "sigmoid", dtype=dtype))
        model.compile(optimizer, "binary_crossentropy")
        model.train_on_batch(ids, labels)
        model.predict(ids, verbose=0)
    for version in (1, 2, 3):
        recurrence(version, "forward", {"T": 4, "E": 2, "H": 3}, batch=3)
    backend.cupy().cuda.runtime.deviceSynchronize()


# --- the report -------------------------------------------------------------------------------------------------------


def environment():
    """What the figures hold for."""
    cupy = backend.cupy()
    runtime, device = cupy.cuda.runtime, cupy.cuda.Device()
    has, smi = device.attributes, shutil.which("nvidia-smi")
    query = [smi, "--query-gpu=driver_version", "--format=csv,noheader", f"--id={device.id}"]
    driver = subprocess.run(query, capture_output=True, text=True).stdout.strip() if smi else "unknown (no nvidia-smi)"
    try:
        torch = gpu_peers.pytorch()
        tf32 = "with TF32 in cuDNN" if torch.backends.cudnn.allow_tf32 else "without TF32"
        peer = f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {tf32}"
    except ImportError as error:
        peer = f"not measured: {error}"
    return {
        "GPU": f"{_card()}, {has['MultiProcessorCount']} multiprocessors, {has['ClockRate'] / 1e6:.2f} GHz at most, "
        f"{runtime.memGetInfo()[1] / 2**30:.0f} GiB, compute capability {device.compute_capability}",
        "driver": f"{driver}, for CUDA {_version(runtime.driverGetVersion())}",
        "CUDA": _version(runtime.runtimeGetVersion()),
        "CuPy": cupy.__version__,
        "PyTorch": peer,
        "CPU": machine(),
        "scratchlstm": scratchlstm.__version__,
        "system": platform.platform(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _card():
    runtime = backend.cupy().cuda.runtime
    return runtime.getDeviceProperties(backend.cupy().cuda.Device().id)["name"].decode()


def _version(number):
    """13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="in which the contenders take turns")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; nothing is judged")
    parser.add_argument("--skip-tests", action="store_true", help="neither tests nor sanitizers")
    parser.add_argument("--output", default="runs/benchmark", help="folder of the report")
    parser.add_argument("--every-kernel", action="store_true", help="run each kernel once, for a sanitizer; no report")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, not {options.rounds}")
    try:
        backend.cupy()
    except (ImportError, RuntimeError) as error:
        print(f"Nothing was measured: {error}", file=sys.stderr)
        return 2
    if options.every_kernel:
        every_kernel()
        return 0
    folder = require_writable_folder(options.output)
    skipped = {"reason": "--skip-tests"}
    found = {"card": _card(), "quick": options.quick, "rounds": options.rounds, "environment": environment()}
    found["tests"] = skipped if options.skip_tests else gpu_tests()
    found["sanitizer"] = dict.fromkeys(SANITIZERS, "not run: --skip-tests") if options.skip_tests else sanitize()
    found |= measure(QUICK if options.quick else FULL, options.rounds)
    found["targets"] = [judge(target, found) for target in TARGETS]
    print(markdown(found))
    for path in write(found, folder):
        print(f"written: {path}")
    sound = all(said == "no errors" or said.startswith("not run") for said in found["sanitizer"].values())
    return 0 if sound and not found["tests"].get("failed") else 1


if __name__ == "__main__":
    sys.exit(main())
