"""An old import path raises one sentence with the new one, however it is imported."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scratchlstm

ROOT = Path(__file__).parent.parent
# as of the version before
OLD = [
    *("files", "threads", "checks", "console", "registry", "command_line", "model", "simple_rnn", "gate_dropout"),
    *("saving", "summary", "parallel", "checkpoint", "data", "progress"),
    *("kernels.rows", "kernels.device", "kernels.cupy_rows", "kernels.cupy_elementwise"),
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


def test_the_error_on_the_page_is_what_is_raised():
    code, error = re.search(r"^    >>> (.*)\n    ModuleNotFoundError: (.*)$", PAGE, re.MULTILINE).groups()
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(error)}$"):
        exec(code, {})


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
