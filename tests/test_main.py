"""`python -m scratchlstm gradcheck`: 0 if all gradients are right, 1 and WRONG if one is not."""

import re
import subprocess
import sys

import pytest

from scratchlstm import gates, gradcheck
from scratchlstm.__main__ import main
from scratchlstm._support import compiled
from scratchlstm.kernels.recurrence import Recurrence
from scratchlstm.layers import Dense

_ALONE = ["kernel", "recurrent_kernel", "bias", "x", "h0", "c0"]
_MODEL = ["embedding/embeddings", "lstm/kernel", "lstm/recurrent_kernel", "lstm/bias", "dense/kernel", "dense/bias"]
_BOTH = [f"{end}/{name}" for end in ("forward", "backward") for name in ("kernel", "recurrent_kernel", "bias")]
_MASKED = [
    "embedding/embeddings",
    *(f"{layer}/{name}" for layer in ("bidirectional", "bidirectional_1") for name in _BOTH),
    *("dense/kernel", "dense/bias"),
]
_BRANCHES = [*_MODEL[:4], "layer_normalization/gamma", "layer_normalization/beta", *_MODEL[4:]]
_ALL = _ALONE + _MODEL + _MASKED + _BRANCHES


def _verdicts(output):
    """[(tensor, verdict)] in the order of the table."""
    return re.findall(r"^  (\S+) +\([\d, ]+\) .* (ok|WRONG.*)$", output, flags=re.MULTILINE)


@pytest.mark.slow
def test_on_the_command_line_every_tensor_is_right():
    command = [sys.executable, "-m", "scratchlstm", "gradcheck", "--no-tensorflow"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert all("scratchlstm compiles its loops" in line for line in run.stderr.splitlines())  # on a new machine
    checked = ["compiled", "numpy", "textbook"][1 if compiled.missing() else 0 :]
    assert _verdicts(run.stdout) == [(tensor, "ok") for tensor in _ALL * len(checked)]
    assert [run.stdout.count(f"[{implementation}]") for implementation in checked] == [4] * len(checked)
    assert "every gradient is right" in run.stdout


def test_without_numba_compiled_loops_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "missing", lambda: "no Numba here")
    assert main(["gradcheck", "--no-tensorflow", "--implementation", "compiled"]) == 2
    said = 'compiled loops are not checked, as they need Numba: pip install "scratchlstm[fast]" (no Numba here)'
    assert said in capsys.readouterr().out
    checked = []
    monkeypatch.setattr(gradcheck, "reports_in_small", lambda *arguments: checked.append(arguments[-1]) or [])
    assert main(["gradcheck", "--no-tensorflow"]) == 0
    assert said in capsys.readouterr().out
    assert checked == ["numpy", "textbook"]


def _implementations(output):
    return set(re.findall(r"^\[(\w+)\]", output, flags=re.MULTILINE))


@pytest.mark.usefixtures("few_directions")
def test_one_implementation_alone(capsys):
    """The other one alone: see the planted bugs."""
    assert main(["gradcheck", "--no-tensorflow", "--implementation", "fused", "--seed", "3"]) == 0
    output = capsys.readouterr().out
    assert _verdicts(output) == [(tensor, "ok") for tensor in _ALL]
    assert _implementations(output) == {"fused"}


def _wrong_textbook(monkeypatch):
    right = gates.lstm_step_backward
    monkeypatch.setattr(gates, "lstm_step_backward", lambda *args: right(*args)._replace(dU=right(*args).dU * 1.001))


def _wrong_numpy(monkeypatch):
    def backward(self, *args):
        dx, (dW, dU, db), d_initial = right(self, *args)
        return dx, [dW, dU * 1.001, db], d_initial

    right = Recurrence.backward
    monkeypatch.setattr(Recurrence, "backward", backward)


@pytest.mark.parametrize(("implementation", "plant"), [("textbook", _wrong_textbook), ("numpy", _wrong_numpy)])
@pytest.mark.usefixtures("few_directions")
def test_a_planted_bug_is_shown_where_it_is(monkeypatch, capsys, implementation, plant):
    plant(monkeypatch)
    assert main(["gradcheck", "--no-tensorflow", "--implementation", implementation]) == 1
    output = capsys.readouterr().out
    assert [tensor for tensor, _ in _verdicts(output)] == _ALL
    assert _implementations(output) == {implementation}
    wrong = [tensor for tensor, verdict in _verdicts(output) if verdict.startswith("WRONG")]
    assert wrong == [tensor for tensor in _ALL if tensor.endswith("recurrent_kernel")]
    assert "A GRADIENT IS WRONG" in output


@pytest.mark.usefixtures("few_directions")
def test_a_missing_gradient_is_shown(monkeypatch, capsys):
    def without_bias(self, *arguments):
        dx, grads = right(self, *arguments)
        del grads["bias"]
        return dx, grads

    right = Dense.backward
    monkeypatch.setattr(Dense, "backward", without_bias)
    assert main(["gradcheck", "--no-tensorflow", "--implementation", "numpy"]) == 1
    assert ("dense/bias", "WRONG no gradient") in _verdicts(capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["train"], ["gradcheck", "--implementation", "fast"], ["explore"]),
        *(["gradcheck", f"--seed={seed}"] for seed in ("-1", "x", "1.5", "")),
        ["explore", "model.npz", "good", "--label", "x"],
        ["explore", "model.npz", "good", "--most-bytes", "x"],
    ],
)
def test_unknown_commands_end_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m scratchlstm" in capsys.readouterr().err
