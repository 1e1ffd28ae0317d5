"""The report of a GPU, tests/benchmarks/gpu.py: it runs, on the stand-in and on a GPU, and judges correctly."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import backend, layers

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KERNELS = Path(backend.__file__).parent / "kernels"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def gpu():
    return importlib.import_module("gpu")


@pytest.fixture
def report():
    return importlib.import_module("gpu_report")


@pytest.fixture
def peers():
    return importlib.import_module("gpu_peers")


def numbers(value):
    """All that are in a nest of dicts and lists."""
    if isinstance(value, dict | list):
        return [n for each in (value.values() if isinstance(value, dict) else value) for n in numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


# --- from end to end --------------------------------------------------------------------------------------------------


def test_a_quick_report(device, gpu, tmp_path, capsys):
    assert gpu.main(["--quick", "--rounds", "2", "--skip-tests", "--output", str(tmp_path / "new")]) == 0
    markdown, found = sorted((tmp_path / "new").iterdir(), key=lambda path: path.suffix, reverse=True)
    card = re.sub("[^a-z0-9]+", "-", gpu._card().lower())
    assert [markdown.name, found.name] == [f"{card}.md", f"{card}.json"]
    text, found = markdown.read_text(), json.loads(found.read_text())
    assert text in capsys.readouterr().out
    assert text.startswith(f"# scratchlstm on {gpu._card()}\n\nA try-out")
    assert found["environment"]["CuPy"] == device.__version__

    measured = [found["step"]["scratchlstm"], found["step"]["op by op in CuPy"], found["epoch"]]
    measured += found["recurrence"]["times"].values()
    measured += [case["times"]["scratchlstm"] for case in found["layers"] + found["wide layers"]]
    assert len(measured) == 3 + 6 + 2
    for timing in measured:
        assert len(timing["rounds"]) == 2, timing
        assert min(timing["rounds"]) <= timing["ms"] <= max(timing["rounds"])
        assert f"{timing['ms']:.4g} ms" in text
    for dtype, cases in found["accuracy"].items():
        for errors in cases.values():
            assert set(errors) == {"y", "dx", "dh0", "dc0", "dkernel", "drecurrent_kernel", "dbias"}
            assert 0 < max(errors.values()) < {"float32": 1e-5, "float64": 1e-11}[dtype]
    assert found["from run to run"] == {"arrays": 6, "different": 0}
    assert "bit for bit: 6 arrays, 0 different." in text
    assert np.isfinite(numbers(found)).all()

    assert [row["verdict"] for row in found["targets"]] == ["not measured"] * len(gpu.TARGETS)
    for target in gpu.TARGETS:
        assert f"| {target.what} | {target.asked} |  | not measured: --quick takes other, tiny sizes |" in text
    assert found["tests"] == {"reason": "--skip-tests"}
    for line in text.splitlines():  # of a table: as many cells as its head
        assert "{" not in line
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_without_a_gpu_nothing_is_written(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu.py", "--quick", "--output", tmp_path / "new"]
    ended = subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert re.fullmatch(r'Nothing was measured: CuPy .*, or use backend="numpy"\n', ended.stderr)
    assert not (tmp_path / "new").exists()


def test_a_report_that_is_interrupted_is_not_written(standin, gpu, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "from_run_to_run", interrupted)
    monkeypatch.setattr(gpu, "compare", lambda makers, *rest: {})
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--quick", "--skip-tests", "--output", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_or_asked_is_told_before_anything_is_measured(
    standin, gpu, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(gpu, "measure", lambda *arguments: pytest.fail("it was measured"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="output folder"):
        gpu.main(["--quick", "--output", str(tmp_path / "file")])
    with pytest.raises(SystemExit):
        gpu.main(["--rounds", "0"])
    assert "--rounds must be 1 or more, not 0" in capsys.readouterr().err


# --- timing -----------------------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_one_that_cannot_leaves_a_gap(standin, gpu):
    calls = []

    def without():
        raise ImportError("PyTorch is not\n installed")

    makers = {"a": lambda: lambda: calls.append("a"), "none": without, "b": lambda: lambda: calls.append("b")}
    waits = standin.COUNTS["synchronisations"]
    found = gpu.compare(makers, rounds=3, turn=0.0)
    assert "".join(calls) == "aaa" + "bbb" + "ab" * 3  # each warms up, then in turns
    assert standin.COUNTS["synchronisations"] - waits == 2 * 2 + 3 * 2  # once a turn
    assert list(found) == ["a", "none", "b"]
    assert found["none"] == {"reason": "PyTorch is not installed"}
    assert found["a"]["ms"] == sorted(found["a"]["rounds"])[1]


def test_a_turn_is_many_calls_of_which_one_is_told(standin, gpu, monkeypatch):
    clock = [0.0]  # seconds; a call takes a quarter of one
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: clock[0])

    def run():
        clock[0] += 0.25

    assert gpu.compare({"a": lambda: run}, rounds=2, turn=2.0) == {"a": {"ms": 250.0, "rounds": [250.0, 250.0]}}
    assert clock[0] == 0.25 * (2 + 1 + 2 * 8)


# --- judging ----------------------------------------------------------------------------------------------------------

NONE = {"reason": "PyTorch is not installed"}


def timing(ms):
    return {"ms": ms, "rounds": [ms]}


def case(ours, theirs):
    return {"times": {"scratchlstm": ours, "PyTorch": theirs}}


def found(**other):
    values = {
        "quick": False,
        "step": {"scratchlstm": timing(1.0), "PyTorch": timing(9.0), "PyTorch, CUDA graph": timing(2.0)},
        "epoch": timing(200.0),
        "recurrence": {
            "floor ms": 0.5,
            "times": {"version 3, forward": timing(1.5), "version 1, forward": timing(9.0)},
        },
        "layers": [case(timing(1.0), timing(1.0)), case(timing(1.0), timing(2.0))],
        "wide layers": [case(timing(4.0), timing(2.0))],
        "accuracy": {"float32": {"a": {"y": 1e-5, "dx": 1e-7}}, "float64": {"a": {"y": 1e-11}}},
        "from run to run": {"different": 0},
    }
    return values | other


def verdicts(report, **other):
    rows = [report.judge(target, found(**other)) for target in report.TARGETS]
    return [(row["measured"], row["verdict"]) for row in rows]


def test_at_the_limit_a_target_is_met(report):
    measured = [0.5, 0.2, 3, 1, 2, 1e-5, 1e-11, 0]
    assert verdicts(report) == [(pytest.approx(value), "met") for value in measured]


STEP = found()["step"]
BEYOND = {
    "a graph decides": (0, {"step": STEP | {"scratchlstm": timing(1.1)}}, 0.55),
    "eager decides": (0, {"step": STEP | {"scratchlstm": timing(1.1), "PyTorch": timing(1.1)}}, 1.0),
    "an epoch": (1, {"epoch": timing(201.0)}, 0.201),
    "the recurrence": (2, {"recurrence": found()["recurrence"] | {"floor ms": 0.3}}, 5.0),
    "one layer": (3, {"layers": [case(timing(1.0), timing(2.0)), case(timing(3.0), timing(2.0))]}, 1.5),
    "one layer, another unknown": (3, {"layers": [case(timing(1.0), NONE), case(timing(3.0), timing(2.0))]}, 1.5),
    "a wide layer": (4, {"wide layers": [case(timing(5.0), timing(2.0))]}, 2.5),
    "float32": (5, {"accuracy": found()["accuracy"] | {"float32": {"a": {"y": 0.0}, "b": {"dx": 2e-5}}}}, 2e-5),
    "float64": (6, {"accuracy": found()["accuracy"] | {"float64": {"a": {"y": 2e-11}}}}, 2e-11),
    "NaN": (6, {"accuracy": found()["accuracy"] | {"float64": {"a": {"y": 0.0, "dx": float("nan")}}}}, float("nan")),
    "bits": (7, {"from run to run": {"different": 2}}, 2),
}


@pytest.mark.parametrize(("number", "other", "value"), BEYOND.values(), ids=BEYOND)
def test_beyond_the_limit_it_is_not(report, number, other, value):
    expected = verdicts(report)
    expected[number] = (pytest.approx(value, nan_ok=True), "not met")
    assert verdicts(report, **other) == expected


UNKNOWN = {
    "we": (0, {"step": STEP | {"scratchlstm": {"reason": "too little memory"}}}, "too little memory"),
    "no peer": (0, {"step": STEP | {"PyTorch": NONE, "PyTorch, CUDA graph": NONE}}, NONE["reason"]),
    "an epoch": (1, {"epoch": NONE}, NONE["reason"]),
    "the recurrence": (2, {"recurrence": {"floor ms": 1, "times": {"version 3, forward": NONE}}}, NONE["reason"]),
    "a layer": (
        3,
        {"layers": [case(timing(1.0), timing(2.0)), case(timing(1.0), NONE)]},
        "1 of 2 cases were not measured: PyTorch is not installed",
    ),
    "accuracy": (5, {"accuracy": found()["accuracy"] | {"float32": {"a": NONE}}}, "a: PyTorch is not installed"),
    "bits": (7, {"from run to run": NONE}, NONE["reason"]),
}


@pytest.mark.parametrize(("number", "other", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_without_a_number_it_is_not_measured(report, number, other, reason):
    row = report.judge(report.TARGETS[number], found(**other))
    assert (row["measured"], row["verdict"], row["reason"]) == (None, "not measured", reason)


def test_a_graph_that_cannot_be_recorded_leaves_eager_as_the_peer(report):
    step = {"scratchlstm": timing(1.0), "PyTorch": timing(4.0), "PyTorch, CUDA graph": NONE}
    assert report.judge(report.TARGETS[0], found(step=step))["measured"] == 0.25


# --- tests and sanitizers ---------------------------------------------------------------------------------------------


def test_tests_are_counted(gpu, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_a(): pass\ndef test_b(): pass\ndef test_c(): assert False\n"
        "def test_d(): pytest.skip('no GPU')\n@pytest.fixture\ndef broken(): raise OSError\ndef test_e(broken): pass\n"
    )
    assert gpu.gpu_tests([tmp_path]) == {"passed": 2, "failed": 2, "skipped": 1}
    nowhere = gpu.gpu_tests([tmp_path / "nowhere"])
    assert nowhere["failed"]
    assert "file or directory not found" in nowhere["reason"]


def a_sanitizer(folder, monkeypatch, script):
    program = folder / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_what_a_sanitizer_finds_is_told(gpu, tmp_path, monkeypatch):
    a_sanitizer(tmp_path, monkeypatch, 'echo "$@" >> "$0.log"; if [ "$2" = racecheck ]; then echo a race; exit 9; fi')
    assert gpu.sanitize() == {"memcheck": "no errors", "racecheck": "ended with 9: a race", "synccheck": "no errors"}
    for line in (tmp_path / "compute-sanitizer.log").read_text().splitlines():
        assert line.endswith(f"--error-exitcode 9 {sys.executable} {BENCHMARKS / 'gpu.py'} --every-kernel")


def test_without_a_sanitizer_that_is_said(gpu, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(gpu.sanitize().values()) == {"not run: compute-sanitizer, of NVIDIA's CUDA toolkit, is not on the PATH"}


@pytest.mark.parametrize(
    ("tests", "sanitizers", "code"),
    [({"failed": 0}, "no errors", 0), ({"failed": 1}, "no errors", 1), ({"failed": 0}, "ended with 9: a race", 1)],
)
def test_the_exit_code_says_whether_something_failed(standin, gpu, tmp_path, monkeypatch, tests, sanitizers, code):
    monkeypatch.setattr(gpu, "gpu_tests", lambda: tests)
    monkeypatch.setattr(gpu, "sanitize", lambda: {"memcheck": sanitizers})
    monkeypatch.setattr(gpu, "measure", lambda *arguments: {})
    monkeypatch.setattr(gpu, "markdown", lambda found: "")
    monkeypatch.setattr(gpu, "write", lambda found, folder: [])
    assert gpu.main(["--quick", "--output", str(tmp_path)]) == code


def test_every_kernel_is_shown_to_the_sanitizers(standin, gpu, monkeypatch):
    import cupy_standin

    launched, call = set(), cupy_standin.Kernel.__call__

    def remember(kernel, *arguments, **options):
        launched.add(kernel.name)
        call(kernel, *arguments, **options)

    monkeypatch.setattr(cupy_standin.Kernel, "__call__", remember)
    assert gpu.main(["--every-kernel"]) == 0
    sources = "".join(file.read_text() for file in KERNELS.glob("*.cu"))
    kernels = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(.*?\) )?(\w+)\(', sources)
    assert len(kernels) == sources.count('extern "C"')
    assert launched == set(kernels)


# --- the floor and the peer -------------------------------------------------------------------------------------------


def test_the_floor_grows_as_it_is_derived():
    floor = importlib.import_module("gpu_floor")
    chain = sum(floor.CHAIN.values())
    assert floor.forward_seconds(T=100, B=128, H=60, multiprocessors=132, lanes=128, hertz=1e9) == pytest.approx(
        100 * (chain + 4 * 60 * 60 / 128) / 1e9
    )
    assert floor.step_cycles(64, rows=8, lanes=64) - floor.step_cycles(64, rows=0, lanes=64) == 8 * 4 * 64
    assert [floor.lanes(capability) for capability in ("70", "80", "86", "90", "100", "120")] == [64, 64, *[128] * 4]


def test_the_peer_computes_the_same_step(gpu, peers):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: what it is given to do is NOT compared")
    x, y, _ = gpu.reviews(gpu.QUICK)
    shape, batch = gpu.QUICK.tutorial, gpu.QUICK.batch
    ours = gpu.contenders.Ours(shape, workers=1).model
    ours.compile("adam", "binary_crossentropy")
    ours.build_for(x.shape[1:])
    step = peers.training_steps(torch, shape, x, y, batch, device="cpu")
    theirs = step.model
    E, W, U, b, V, c = (torch.from_numpy(w.T.copy()) for w in ours.get_weights())
    with torch.no_grad():
        theirs.recurrent.bias_hh_l0.zero_().requires_grad_(False)  # a second bias, which we do not have
        for parameter, weight in (
            (theirs.embedding.weight, E.T), (theirs.recurrent.weight_ih_l0, W), (theirs.recurrent.weight_hh_l0, U),
            (theirs.recurrent.bias_ih_l0, b), (theirs.dense.weight, V), (theirs.dense.bias, c),
        ):  # fmt: skip
            parameter.copy_(weight)
    for start in (0, batch, 2 * batch, 0, batch):
        here = slice(start, start + batch)
        assert float(step()) == pytest.approx(ours.train_on_batch(x[here], y[here]), rel=1e-5)


def test_the_peer_computes_the_same_layer(peers):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: what it is given to do is NOT compared")
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(5, 6, columns)).astype("float32") for columns in (4, 3))
    run = peers.layer_passes(torch, x, dy, 3, device="cpu")
    dx, dW, dU, db, _ = (gradient.numpy() for gradient in run())
    W, U, b, b_too = (parameter.detach().numpy() for parameter in run.lstm.parameters())
    ours = layers.LSTM(3, return_sequences=True)
    ours.build((6, 4), rng)
    ours.set_weights([W.T, U.T, b + b_too])
    dx_found, grads = ours.backward(dy, ours.forward(x)[1])
    found = dx_found, *grads.values()
    for a, b in zip(found, (dx.swapaxes(0, 1), dW.T, dU.T, db), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    in_float32 = peers.layer_passes(torch, x, dy, 3, device="cpu", tf32=False)
    assert [gradient.shape for gradient in in_float32()] == [gradient.shape for gradient in run()]
