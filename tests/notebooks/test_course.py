"""The course's notebooks show what their code gives, are small and clean, and the answers to their blanks are right."""

import ast
import copy
import io
import json
import re

import matplotlib.figure
import numpy as np
import pytest

from scratchlstm.exercises import checking

nbformat = pytest.importorskip("nbformat")
execute = pytest.importorskip("execute")
pictures = pytest.importorskip("pictures")

COURSE = execute.NOTEBOOKS[0].parent
NOTES = (COURSE / "teaching.md").read_text(encoding="utf-8")
STORED = {path.name: nbformat.read(path, as_version=4) for path in execute.NOTEBOOKS}
every_notebook = pytest.mark.parametrize("path", execute.NOTEBOOKS, ids=lambda path: path.stem)


def _code(name):
    return [cell for cell in STORED[name].cells if cell.cell_type == "code"]


def _texts(name):
    return "\n".join(cell.source for cell in STORED[name].cells if cell.cell_type == "markdown")


@every_notebook
def test_a_notebook_shows_what_its_code_gives(path):
    now = execute.again(path)
    assert not execute.differences(STORED[path.name], now)
    assert now.metadata == STORED[path.name].metadata
    assert [cell.metadata for cell in now.cells] == [cell.metadata for cell in STORED[path.name].cells]


@every_notebook
def test_a_notebook_is_small_and_holds_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert max(len(png) for cell in _code(path.name) for png in execute.pictures(cell)) < 60_000
    assert set(STORED[path.name].metadata) == {"kernelspec", "language_info"}
    assert not re.search(r"/home/|/tmp/|/work/|[A-Z]:\\\\|iopub|[Ww]arning", re.sub(r'"image/png": ".*?"', "", text))
    assert [cell.execution_count for cell in _code(path.name)] == list(range(1, len(_code(path.name)) + 1))
    assert not [cell for cell in _code(path.name) if re.search(r"^\s*[%!]", cell.source, re.MULTILINE)]


@every_notebook
def test_a_notebook_says_how_to_run_it_asks_and_is_answered(path):
    first = STORED[path.name].cells[0].source
    assert first.startswith("# ")
    assert 'pip install -e ".[notebooks]"' in first
    questions = re.findall(r"^\d\. ", _texts(path.name), re.MULTILINE)
    assert "**Before you" in _texts(path.name)
    title = first.split("\n")[0].removeprefix("# ")
    (notes,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", NOTES, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\d\. ", notes, re.MULTILINE) == questions
    assert len(questions) >= 4


def test_links_of_the_notebooks_lead_somewhere():
    for path in execute.NOTEBOOKS:
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", _texts(path.name)):
            assert (COURSE / target).exists(), target
            if anchor:
                titles = re.findall(r"^## (.*)$", (COURSE / target).read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_without_a_kernel_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(execute.KernelSpecManager, "find_kernel_specs", lambda self: {"ir": "/somewhere"})
    with pytest.raises(
        SystemExit, match=r"no kernel 'python3' to run a notebook in: pip install -e \"\.\[notebooks\]\""
    ):
        execute.again(execute.NOTEBOOKS[0])


# --- blanks and their answers ---


def _functions(source):
    """Those with a blank (or, in the notes, all): name -> (arguments, whether it is one)."""
    found = [each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef)]
    return {each.name: (ast.unparse(each.args), ast.unparse(each.body[-1]) == "return ...") for each in found}


def test_every_blank_has_its_answer_and_each_is_right():
    cells = [_functions(cell.source) for cell in _code("3_backward.ipynb")]
    blanks = {name: args for cell in cells for name, (args, blank) in cell.items() if blank}
    assert set(blanks) == {"dc", "di", "df", "dg", "dc_prev", "dz_i", "dz_f", "dz_g", "dz_o", "dh_prev", "dU", "db"}
    scope, answers = {}, {}
    for block in re.findall(r"^```python\n(def .*?)^```$", NOTES, re.MULTILINE | re.DOTALL):
        answers |= {name: args for name, (args, _) in _functions(block).items()}
        exec("import numpy as np\nfrom scratchlstm.gates import sigmoid_prime, tanh_prime\n" + block, scope)
    assert answers == blanks
    for name in blanks:
        verdict = checking.judge(checking.find(name), name, scope[name])
        assert verdict.state == "right", verdict


def test_a_wrong_answer_is_told_what_is_wrong_with_it():
    shown = "".join(output.get("text", "") for cell in _code("3_backward.ipynb") for output in cell.outputs)
    assert "do (7) is wrong: " in shown
    assert "do (7) is right\n" in shown
    assert "dz_f (14) is wrong: the slope of σ is missing" in shown
    assert "dc (8) is not written yet\n" in shown


def test_the_program_that_grades_reads_what_the_command_prints(tmp_path, capsys):
    from scratchlstm.__main__ import main

    folder = tmp_path / "ada"
    main(["exercises", str(folder)])
    answers = "def sigmoid_prime(s):\n    return s\n\n\ndef tanh_prime(t):\n    return 1 - t * t\n"
    (folder / "01_slopes.py").write_text(answers)
    capsys.readouterr()
    (program,) = re.findall(r"^```python\n(import json.*?)^```$", NOTES, re.MULTILINE | re.DOTALL)
    main(["exercises", "check", "slopes", "--json", "--folder", str(folder)])
    (tmp_path / "ada.json").write_text(capsys.readouterr().out)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(program, {})
    assert capsys.readouterr().out.startswith("ada: 1 of 2 functions right\n  sigmoid_prime (rule 4): this is σ itself")


# --- that the comparison can fail ---


def _drawn(dpi=100, style="--", factor=0.73, color="tab:orange", another=False, **settings):
    """A picture like those of the notebooks, as a PNG file."""
    steps = np.arange(31)
    with matplotlib.rc_context(settings):
        figure = matplotlib.figure.Figure(figsize=(6, 3))
        panel = figure.subplots()
        panel.plot(0.5**steps, ":", linewidth=2, label="bias 0")
        panel.plot(factor**steps, style, color=color, linewidth=2, label="bias 1")
        panel.plot(0.95**steps, linewidth=2, label="bias 3")
        if another:
            panel.axhline(0.5, color="0.6", linewidth=0.8)
        panel.set(title="What is left of a memory", xlabel="steps")
        panel.grid(alpha=0.3)
        panel.legend()
        png = io.BytesIO()
        figure.savefig(png, dpi=dpi, bbox_inches="tight")
    return png.getvalue()


@pytest.mark.parametrize(
    "other",
    [
        {"dpi": 72},
        {"dpi": 90},
        {"dpi": 150},
        {"text.antialiased": False},
        {"text.hinting": "none"},
        {"axes.titlepad": 7},
    ],
)
def test_another_resolution_or_smoothing_shows_the_same(other):
    assert _drawn(**other) != _drawn()
    assert pictures.same_png(_drawn(), _drawn(**other))
    assert pictures.same_png(_drawn(**other), _drawn())


@pytest.mark.parametrize(
    "other", [{"style": "-"}, {"style": ":"}, {"factor": 0.78}, {"color": "tab:red"}, {"another": True}]
)
def test_another_line_is_seen(other):
    assert not pictures.same_png(_drawn(), _drawn(**other))
    assert not pictures.same_png(_drawn(**other), _drawn())


def test_another_shape_is_seen():
    whole = io.BytesIO()
    matplotlib.figure.Figure(figsize=(6, 3)).savefig(whole)
    half = io.BytesIO()
    matplotlib.figure.Figure(figsize=(3, 3)).savefig(half)
    assert not pictures.same_png(whole.getvalue(), half.getvalue())


@pytest.mark.parametrize("change", ["text", "picture", "no picture", "nothing printed"])
def test_another_output_is_seen(change):
    stored = STORED["1_one_step.ipynb"]
    now = copy.deepcopy(stored)
    assert not execute.differences(stored, now)
    cells = [cell for cell in now.cells if cell.cell_type == "code"]
    prints = next(cell for cell in cells if cell.outputs and "text" in cell.outputs[0])
    draws = [cell for cell in cells if execute.pictures(cell)]
    if change == "text":
        prints.outputs[0].text = prints.outputs[0].text.replace("16", "17")
    elif change == "nothing printed":
        prints.outputs = []
    elif change == "picture":
        draws[0].outputs[-1].data["image/png"] = draws[2].outputs[-1].data["image/png"]
    else:
        del draws[0].outputs[-1].data["image/png"]
    said = execute.differences(stored, now)
    assert said.startswith("cell ")
    assert ("+17 weights" in said) == (change == "text")
    assert ("picture" in said) == ("picture" in change)


def test_what_is_written_again_is_as_it_was(tmp_path, monkeypatch, capsys):
    source = "print(1 + 1)"
    cells = [nbformat.v4.new_code_cell(source, id="one", metadata={"tags": ["a"], "execution": {"iopub": "now"}})]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"path": "here"}), path)
    monkeypatch.setattr("sys.argv", ["execute.py", str(path)])
    execute.main()
    assert "small.ipynb written:" in capsys.readouterr().out
    written = path.read_bytes()
    (cell,) = json.loads(written)["cells"]
    assert cell["metadata"] == {"tags": ["a"]}
    assert cell["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["2\n"]}]
    execute.main()
    assert capsys.readouterr().out == "small.ipynb shows what it gives\n"
    assert path.read_bytes() == written
