"""What an older version had raises one sentence with what replaced it: import paths, calls and attributes."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scratchlstm
from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Layer
from scratchlstm.layers.passes import DropoutMask, Pass

ROOT = Path(__file__).parent.parent
# as of the version before
OLD = [
    *("files", "threads", "checks", "console", "registry", "command_line", "model", "simple_rnn", "gate_dropout"),
    *("saving", "summary", "parallel", "checkpoint", "data", "progress"),
    *("kernels.rows", "kernels.device", "kernels.cupy_rows", "kernels.cupy_elementwise", "layers.noise"),
    "layers.recurrent",
]
PAGE = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(scratchlstm\.[\w.]+)` \| `([\w./]+)`", PAGE, re.MULTILINE))


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize(
    "form", ["import {package}.{name}", "from {package}.{name} import x", "from {package} import {name}"]
)
def test_every_form_of_import_names_the_new_path(old, form):
    package, _, name = f"scratchlstm.{old}".rpartition(".")
    with pytest.raises(ImportError) as raised:
        exec(form.format(package=package, name=name), {})
    new = ROWS[f"scratchlstm.{old}"]
    assert re.fullmatch(rf"scratchlstm\.{re.escape(old)} is now {re.escape(new)}(, .*)?", str(raised.value))
    assert ("which is internal" in str(raised.value)) == new.startswith("scratchlstm._support")
    assert not hasattr(importlib.import_module(package), name)


def test_the_page_has_every_path_and_each_new_one_exists():
    assert set(ROWS) == {f"scratchlstm.{old}" for old in OLD}
    for new in ROWS.values():
        assert (ROOT / new).is_file() if "/" in new else importlib.import_module(new)


ERRORS = re.findall(r"^    >>> (.*\n(?:    \.\.\. .*\n)*)    (\w+Error): (.*\n(?:    .*\n)*)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("code", "kind", "error"), ERRORS, ids=[code.split("\n")[0] for code, _, _ in ERRORS])
def test_the_errors_on_the_page_are_what_is_raised(code, kind, error):
    x = np.ones((2, 5, 3))
    names = {"layer": LSTM(4), "model": Sequential([LSTM(4, input_shape=(5, 3))]), "Layer": Layer, "x": x}
    names |= {"h0": x[:, 0], "c0": x[:, 0], "dy": np.ones((2, 4))}
    with pytest.raises(Exception, match=f"^{re.escape(' '.join(error.split()))}$") as raised:
        exec(re.sub(r"^    \.\.\. ", "", code, flags=re.MULTILINE), names)
    assert type(raised.value).__name__ == kind


def test_the_page_has_each_kind_of_old_form():
    assert len(ERRORS) == 13


@pytest.mark.parametrize("name", ["grads", "noises", "input_gradient", "initial_state_grads"])
def test_an_attribute_that_is_gone_is_free_for_a_layer_of_ones_own(name):
    class Own(Layer):
        def __init__(self):
            super().__init__()
            setattr(self, name, 3)

    assert not hasattr(Layer(), name)
    assert getattr(Own(), name) == 3


@pytest.mark.parametrize("result", [lambda dy: dy, lambda dy: (dy, [dy]), lambda dy: (dy,)])
def test_a_backward_that_returns_something_else_is_refused(result):
    class Scale(Layer):
        def forward(self, x):
            return x, None

        def backward(self, dy, cache):
            return result(dy)

    layer = Scale()
    y, cache = layer.forward(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"backward of scale must return dx and a dict of gradients, not"):
        layer.backward(y, cache)


def test_a_layer_of_ones_own_drops_as_the_page_says():
    class Drop(Layer):
        def __init__(self):
            super().__init__(dtype="float64")
            self.mask = DropoutMask(0.5, seed=0)
            self.dropout_masks = [self.mask]

        def forward(self, x, run):
            mask = run.dropout(self.mask, x.shape, x.dtype)
            return (x if mask is None else x * mask), mask

        def backward(self, dy, cache):
            return (dy if cache is None else dy * cache), {}

    layer, x, run = Drop(), np.ones((4, 8)), Pass(training=True)
    y, cache = layer.forward(x, run)
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(layer.backward(x, cache)[0], y)
    np.testing.assert_array_equal(layer.forward(x, run.again())[0], y)
    np.testing.assert_array_equal(layer(x), x)


def test_what_never_existed_is_missed_as_ever():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'scratchlstm\.nothing'$") as raised:
        importlib.import_module("scratchlstm.nothing")
    assert raised.value.name == "scratchlstm.nothing"
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from scratchlstm import nothing", {})
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'files'$"):
        importlib.import_module("files")


def test_a_program_that_tries_an_old_path_first_goes_on():
    program = "try:\n    import scratchlstm.files\nexcept ImportError:\n    print('goes on')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"


def test_names_of_the_package_are_its_own():
    assert not {old for old in OLD if hasattr(scratchlstm, old)}
