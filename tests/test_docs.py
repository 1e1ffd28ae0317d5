"""The pages show what happens: their code prints the text below it, and their links lead somewhere."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pictures
import pytest
import refresh
from matplotlib.figure import Figure

from scratchlstm import cells, gates
from scratchlstm.layers import LSTM

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
LINKS = [
    (page, *found) for page, text in PAGES.items() for found in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text)
]


@pytest.mark.parametrize("name", ["derivation", "exercises", "faq", "migration"])  # quick; refresh.py --check has all
def test_code_prints_what_the_page_shows(name, tmp_path):
    page = PAGES[f"{name}.md"]
    now = refresh.run_page(page, tmp_path)
    assert now == page, refresh.difference(DOCS / f"{name}.md", now)


def test_every_page_with_code_and_its_output_is_run():
    run = {f"{name}.md" for name in refresh.PAGES}
    assert run >= {page for page, text in PAGES.items() if re.search(r"```python\n[^`]*```\n\n```text\n", text)}


def test_code_that_is_explained_is_that_of_the_package():
    paths = re.findall(r"\]\(\.\./(scratchlstm/(?:kernels/num\w+_lstm|gates)\.py)\)", PAGES["fast.md"])
    sources = [(DOCS.parent / path).read_text(encoding="utf-8") for path in sorted(set(paths))]
    shown = re.findall(r"^```python\n(.*?)^```$", PAGES["fast.md"], re.MULTILINE | re.DOTALL)
    for code in shown:
        assert any(textwrap.indent(code, " " * depth) in text for text in sources for depth in range(4, 16, 4)), code
    assert len(sources) == 3
    assert len(shown) == 4


def test_lines_beside_equations_on_the_first_page_are_those_of_the_package():
    source = (DOCS.parent / "scratchlstm" / "gates.py").read_text(encoding="utf-8")
    lines = {line.partition("  #")[0].strip() for line in source.splitlines()}
    shown = re.findall(r"^\|.*\$ \| `(.*)` \|$", PAGES["index.md"], re.MULTILINE)
    assert len(shown) == 3
    assert set(shown) <= lines


def test_the_page_of_the_variants_lists_every_cell():
    listed = set(re.findall(r"^(\w+Cell) ", PAGES["variants.md"], re.MULTILINE))
    assert listed == set(cells.__all__) - {"Cell", "GatedCell", "StackedRNNCells"}


def test_an_example_is_shown_as_its_comment_says():
    page = """
<!-- printed by one.py -->
```text
```
<!-- printed by one.py, from "b", before "d" -->
```text
old
```
<!-- printed by two.py -->
```text
old
```
"""
    shown = refresh.show(page, "one", "a\nb\nc\nd\n\nwritten to runs/one/: one.png\n")
    assert refresh.PRINTED.sub(lambda block: block["shown"], shown) == "\na\nb\nc\nd\n\nb\nc\n\nold\n\n"
    with pytest.raises(ValueError, match="substring not found"):
        refresh.show(page, "one", "a\nwritten to runs/one/: one.png\n")


def test_every_example_that_a_comment_names_has_its_command():
    page = PAGES["examples.md"]
    assert {block["name"] for block in refresh.PRINTED.finditer(page)} == {
        name for _, name in refresh.COMMAND.findall(page)
    }


def test_an_example_is_run_in_its_folder(tmp_path):
    printed = refresh.run_example("gradient_flow.py --quick", tmp_path)
    assert "SimpleRNN  " in printed
    assert (tmp_path / "runs" / "gradient_flow" / "gradient_flow.png").stat().st_size > 1000


def test_another_output_is_seen(tmp_path, capsys):
    text = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    page = tmp_path / "page.md"
    page.write_text(text)
    now = refresh.run_page(text, tmp_path)
    assert now == text.replace("3", "2")
    assert refresh.update({page: now}, check=True) == 1
    assert "page.md:\n" in (printed := capsys.readouterr().out)
    assert "-3\n+2" in printed
    assert page.read_text() == text
    assert refresh.update({page: now}, check=False) == 0
    assert page.read_text() == now
    assert refresh.update({page: now}, check=True) == 0
    with pytest.raises(ValueError, match="no text block shows"):
        refresh.run_page("```python\nprint(1)\n```\n", tmp_path)
    with pytest.raises(ZeroDivisionError):
        refresh.run_page("```python\n1 / 0\n```\n", tmp_path)


def test_a_picture_goes_where_a_page_links_it():
    files = dict.fromkeys(("gates.png", "saliency.png", "other.png", "explorer.html", "other.html"), "")
    kept = {path.relative_to(DOCS).as_posix() for path in refresh.places("gates", files)}
    assert kept == {"figures/gates.svg", "figures/gates_saliency.svg", "_static/explorer.html"}
    assert list(refresh.places("char_lm", {"loss.png": ""})) == [DOCS / "figures" / "char_lm.svg"]


def test_another_version_or_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(refresh.metadata, "version", lambda name: "1.0")
    for arguments, said in (
        (["--check"], "are needed, not numpy 1.0, matplotlib 1.0: pip install -r docs/made-with.txt"),
        (["gate"], "no page or example 'gate'; there are adversarial, cells, "),
    ):
        monkeypatch.setattr(refresh.sys, "argv", ["refresh.py", *arguments])
        with pytest.raises(SystemExit) as left:
            refresh.main()
        assert left.value.code == 2
        assert said in capsys.readouterr().err


def _plot(height=1.0, label="h", color="k"):
    figure = Figure(figsize=(3, 2))
    panel = figure.add_subplot()
    panel.plot([0, 1, height, 1], color=color, marker="o")
    panel.set(title=label, ylim=(0, 2))
    return pictures.svg(figure)


def test_pictures_are_compared_by_what_they_show():
    assert _plot() == _plot()  # byte for byte
    assert pictures.same_svg(_plot(), _plot(1.001))
    assert not pictures.same_svg(_plot(), _plot(1.02))
    assert not pictures.same_svg(_plot(), _plot(label="c"))
    assert not pictures.same_svg(_plot(), _plot(color="w"))
    assert not pictures.same_svg(_plot(), re.sub(r"<text.*?</text>", "", _plot(), count=1, flags=re.DOTALL))


def test_pictures_have_text_and_a_dark_side():
    shown = _plot(label="dL/dh")
    assert "dL/dh</text>" in shown
    assert "@media (prefers-color-scheme: dark)" in shown
    assert "stroke: var(--ink)" in shown


def test_an_explorer_page_is_compared_by_what_it_holds(tmp_path):
    page = (DOCS / "_static" / "explorer.html").read_text(encoding="utf-8")
    number = re.search(r'"loss": (\d\.\d+)', page)
    assert refresh.same_page(page, page.replace(number[0], number[0] + "1"))
    assert not refresh.same_page(page, page.replace(number[0], f'"loss": {float(number[1]) + 0.01}'))
    assert not refresh.same_page(page, page.replace("<h1", "<h2"))


def test_pages_can_be_read_where_they_lie():
    for page, text in PAGES.items():
        assert not re.search(r"```\{|:::|\{\w+\}`|_build/|<iframe", text), page


def test_every_page_is_in_the_contents_of_the_site():
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.*") if path.suffix in (".md", ".ipynb")}
    pages = {page for page in pages if page.parts[0] != "_build"}
    listed = set()
    for contents in DOCS.rglob("contents.txt"):
        names = re.findall(r"^(?:.* <)?([\w/]+)>?$", contents.read_text(encoding="utf-8"), re.MULTILINE)
        listed |= {contents.parent.relative_to(DOCS) / name for name in names}
    assert listed | {Path("index")} == pages


def test_pictures_are_few_bytes_and_each_is_shown():
    files = {path.name: path.stat().st_size for path in (DOCS / "figures").iterdir()}
    text = "".join(PAGES.values()) + (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert set(files) == set(re.findall(r"figures/([\w.]+)", text))
    assert sum(files.values()) < 1_500_000


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


@pytest.mark.parametrize("page", PAGES)
def test_a_formula_in_the_text_is_on_one_line(page):
    """A code host shows one that is broken as plain characters."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in text.splitlines() if line.count("$") % 2]


@pytest.mark.parametrize("page", PAGES)
def test_a_formula_in_the_text_escapes_no_punctuation(page):
    r"""A code host's Markdown takes the backslash first, and would show `\,` as a comma (github/markup#1746)."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    assert not [formula for formula in re.findall(r"\$([^$\n]+)\$", text) if re.search(r"\\[^\w\s]", formula)]


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


ASKED = [
    "units", "shape is the input", "after an LSTM", "4H", "How many parameters", "h and c", "relu", "tanh on the cell",
    "Which returned state", "off by one", "forget bias", "stateful", "GRU and peepholes", "dc +=", "dh[:, t] + dh_next",
    "not carried", "σ'", "Mean or sum", "vanishing", "post padding", "Does padding cost", "word salad", "overfit",
    "only the head", "NaN", "Same seed", "float32", "exp overflows", "dW[ids]",
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_a_question_of_a_learner_has_its_answer(asked):
    answers = [each.split("\n", 1) for each in re.split(r"\n##+ ", PAGES["faq.md"])]
    (answer,) = (text for title, text in answers if asked in title)
    assert len(answer.strip()) > 200


def test_each_group_of_questions_begins_with_a_list_of_them():
    groups = PAGES["faq.md"].split("\n## ")[1:]
    assert len(groups) == 6
    assert sum(group.count("\n### ") for group in groups) == len(ASKED)
    for group in groups:
        head, *questions = group.split("\n### ")
        listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", head, re.MULTILINE)
        assert [title for title, _ in listed] == [question.partition("\n")[0] for question in questions]
        assert all({anchor} == _anchors(f"### {title}") for title, anchor in listed)


def test_the_guide_explains_its_names_before_it_uses_them():
    before = PAGES["guide.md"].partition("```python")[0]
    assert re.findall(r"^- \*\*(\w)\*\*, ", before, re.MULTILINE) == [*"BTEH"]
    assert {*"ifgo"} <= {*re.findall(r"^\| \S+ \| (\w) \| the \*\*", before, re.MULTILINE)}


def test_the_glossary_has_the_layout_of_the_layers():
    page, layer = PAGES["glossary.md"], LSTM(3)
    layer.build((None, 5))
    sizes = {"E": 5, "H": 3, "4H": 12}
    rows = re.findall(r"^\| [WUb], `(\w+)`, \((.*?),?\) \|", page, re.MULTILINE)
    shapes = {name: tuple(sizes[size] for size in shape.split(", ")) for name, shape in rows}
    assert shapes == {name: array.shape for name, array in layer.params.items()}
    assert f"blocks {' '.join(cells.GRUCell.gates)} |" in page
    order = re.search(r"^\| order of the blocks: (.*?) \|", page, re.MULTILINE)[1].split()
    for n, name in enumerate(order):
        b = np.zeros(4)
        b[n] = 1  # of this block alone
        *_, step = gates.lstm_step_forward(*np.zeros((3, 1, 1)), *np.zeros((2, 1, 4)), b)
        assert [each for each in "ifgo" if getattr(step, each) != gates.sigmoid(np.zeros(1)) * (each != "g")] == [name]


def test_every_public_module_is_in_the_reference():
    package = DOCS.parent / "scratchlstm"
    reference = "\n".join(text for page, text in PAGES.items() if page.startswith("api/"))
    documented = {
        path.replace("/", ".") for path in re.findall(r"^\[`([\w/]*\w)(?:\.py|/)`\]", reference, re.MULTILINE)
    }
    public = {f"scratchlstm.{path.stem}" for path in package.glob("*.py") if not path.stem.startswith("__")}
    public |= {f"scratchlstm.cells.{path.stem}" for path in package.glob("cells/*.py") if path.stem != "__init__"}
    public |= {f"scratchlstm.{name}" for name in ("layers.passes", "layers.network", "training.compiled")}
    assert public <= documented
