"""The scripts and styles of the explorer page: they become one of each, so they share their names."""

import re
from collections import Counter
from importlib import resources

import pytest

from scratchlstm.inspection.explorer.page import _SCRIPTS, _STYLES

FOLDER = resources.files("scratchlstm.inspection.explorer")
FILES = sorted((each for kind in ("script", "style") for each in FOLDER.joinpath(kind).iterdir()), key=str)


def test_every_file_is_in_the_page_once():
    listed = [f"{name}.js" for name in _SCRIPTS] + [f"{name}.css" for name in _STYLES]
    assert sorted(listed) == sorted(file.name for file in FILES)


def test_no_two_scripts_declare_the_same_name():
    scripts = "\n".join(file.read_text("utf-8") for file in FILES if file.name.endswith(".js"))
    declared = Counter(re.findall(r"^(?:async )?(?:const|let|function) (\w+)", scripts, re.MULTILINE))
    assert len(declared) > 200
    assert [name for name, times in declared.items() if times > 1] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_lines_have_at_most_120_columns(file):
    assert [line for line in file.read_text("utf-8").splitlines() if len(line) > 120] == []


def test_every_style_has_something_to_style():
    """Each class and id that a rule names is made by the markup or by a script."""
    made = FOLDER.joinpath("page.html").read_text("utf-8")
    made += "".join(file.read_text("utf-8") for file in FILES if file.name.endswith(".js"))
    made = made.replace("colour-${name}", " ".join(f"colour-{name}" for name in ("ground", "ahead", "back", "third")))
    for file in FILES:
        if file.name.endswith(".css"):
            rules = re.sub(r"/\*.*?\*/", "", file.read_text("utf-8"), flags=re.DOTALL)
            names = re.findall(r"[.#]([a-zA-Z][\w-]*)(?=[^{}]*\{)", rules)
            unused = [name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", made)]
            assert unused == [], file.name
