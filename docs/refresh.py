"""Write again what the pages show of the code: printed output, pictures, the explorer's pages.

python docs/refresh.py                   all of it, in minutes
python docs/refresh.py guide gates       the code on guide.md, and the command of examples/gates.py on examples.md
python docs/refresh.py --check           change nothing, and fail if anything would change

Two things of a page are written: the text block right behind a python block, and the one below a comment such as
<!-- printed by gates.py, from "Trace of", before "unit 1" -->. Pictures go to docs/figures, the explorer's pages to
docs/_static, if a page links them there. What a picture shows up to half a point is left as it is.

Numbers of a long training depend on rounding. So the versions in made-with.txt are required, and NumPy and OpenBLAS are
held to their code for processors with AVX2, on one core. What is not pinned is the C library with its exp and log, and
the kind of processor: if yours gives other digits, run this where CI runs.
"""

import argparse
import base64
import contextlib
import difflib
import importlib.util
import io
import json
import multiprocessing
import os
import re
import runpy
import shlex
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = (
    "adversarial", "cells", "derivation", "examples", "exercises", "explorer", "faq", "guide", "migration", "variants",
    "wiring",
)  # fmt: skip
EXAMPLES = DOCS / "examples.md"
COMMAND = re.compile(r"^```\npython examples/((\w+)\.py.*)\n```$", re.MULTILINE)
PRINTED = re.compile(
    r'^(?P<head><!-- printed by (?P<name>\w+)\.py(?:, from "(?P<first>.*?)")?(?:, before "(?P<end>.*?)")? -->\n'
    r"```text\n)(?P<shown>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?P<shown>\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
_DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)')


def run_page(page: str, folder: Path) -> str:
    """The page with what its python blocks print, one after another from its top; what they save lies in the folder.

    Raises:
        Exception: whatever a block raises.
        ValueError: a block prints something, and no text block is there to show it.
    """
    variables: dict[str, Any] = {"__name__": "__page__"}

    def execute(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.chdir(folder):
            exec(compile(block["code"], f"line {page.count(chr(10), 0, block.start()) + 2}", "exec"), variables)
        if block["shown"] is None and printed.getvalue():
            raise ValueError(f"no text block shows what this prints: {printed.getvalue()!r}\n{block['code']}")
        shown = "" if block["shown"] is None else f"\n```text\n{printed.getvalue()}```\n"
        return f"```python\n{block['code']}```\n{shown}"

    return _BLOCK.sub(execute, page)


def run_example(command: str, folder: Path) -> str:
    """What `python examples/COMMAND` prints; what it saves lies below the folder."""
    script, *options = shlex.split(command)
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.chdir(folder),
        mock.patch.object(sys, "path", [str(ROOT / "examples"), *sys.path]),
        mock.patch.object(sys, "argv", [script, *options]),
        mock.patch("psutil.cpu_count", return_value=1),  # workers="auto" is one process, whatever the machine
    ):
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    return printed.getvalue()


def show(page: str, name: str, printed: str) -> str:
    """The page with what the example of this name has printed, but for its last lines, which say what was written."""
    lines = "\n" + printed.partition("\nwritten to ")[0].rstrip() + "\n"

    def block(found: re.Match[str]) -> str:
        if found["name"] != name:
            return found[0]
        start = lines.index("\n" + (found["first"] or "")) + 1
        end = lines.index("\n" + found["end"], start) + 1 if found["end"] else len(lines)
        return f"{found['head']}{lines[start:end].rstrip()}\n```"

    return PRINTED.sub(block, page)


def work(name: str, command: str | None) -> tuple[str, dict[str, str]]:
    """Run a page, or an example with its command; its text, and all files that it has left."""
    import matplotlib as mpl
    import pictures
    from matplotlib.figure import Figure

    from scratchlstm._support.drawing import TEXT

    mpl.rcdefaults()
    mpl.rcParams["font.size"] = TEXT
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Figure, "savefig", pictures.save):
        if command:
            text = run_example(command, Path(folder))
        else:
            text = run_page((DOCS / f"{name}.md").read_text(encoding="utf-8"), Path(folder))
        left = [path for path in sorted(Path(folder).rglob("*")) if path.suffix in (".png", ".html")]
        return text, {path.name: path.read_text(encoding="utf-8") for path in left}


def places(name: str, files: dict[str, str]) -> dict[Path, str]:
    """Where the documentation keeps these files of a page or an example: those that a page links."""
    drawn = [file for file in files if file.endswith(".png")]
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    kept = {}
    for file, text in files.items():
        stem = Path(file).stem
        picture = name if len(drawn) == 1 or stem == name else f"{name}_{stem}"
        place = f"figures/{picture}.svg" if file in drawn else f"_static/{file}"
        if f"({place})" in pages:
            kept[DOCS / place] = text
    return kept


def refreshed(pages: list[str], examples: dict[str, str]) -> dict[Path, str]:
    """The text that each of the files should have."""
    new = {DOCS / f"{name}.md": (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in pages}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {name: pool.submit(work, name, command) for name, command in examples.items()}
        read = {name: pool.submit(work, name, None) for name in pages}
        for name, future in read.items():
            new[DOCS / f"{name}.md"], files = future.result()
            new |= places(name, files)
        for name, future in running.items():
            printed, files = future.result()
            new[EXAMPLES] = show(new.get(EXAMPLES) or EXAMPLES.read_text(encoding="utf-8"), name, printed)
            new |= places(name, files)
    return new


def same_page(one: str, other: str) -> bool:
    """Whether two of the explorer's pages are the same but for the last digits of their numbers."""
    if _DATA.sub("", one) != _DATA.sub("", other):
        return False
    return _same_data(*(json.loads(_DATA.search(page)[0]) for page in (one, other)))


def _same_data(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same_data(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same_data, one, other))
    if isinstance(one, float):
        return bool(np.isclose(one, other, rtol=1e-5))
    if isinstance(one, str) and re.fullmatch(r"d[\w+/]{11,}=*", one):  # an array
        arrays = [np.frombuffer(base64.b64decode(text[1:]), "<f8") for text in (one, other)]
        return arrays[0].shape == arrays[1].shape and np.allclose(*arrays, rtol=1e-5, atol=1e-7)
    return one == other


def difference(path: Path, new: str) -> str:
    """What has changed in a file, in words; "" if it is the same."""
    import pictures

    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if path.suffix == ".md":
        return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), "shown", "printed", lineterm="", n=1))
    if not old:
        return "is missing"
    same = pictures.same_svg if path.suffix == ".svg" else same_page
    return "" if same(old, new) else "shows something else"


def update(new: dict[Path, str], check: bool) -> int:
    """Write the files that have changed, or only tell which they are; 1 if that is so and there are any."""
    stale = False
    for path, text in new.items():
        if said := difference(path, text):
            stale = True
            print(f"{os.path.relpath(path, ROOT)}:\n{said}\n")
            if not check:
                path.write_text(text, encoding="utf-8", newline="\n")
    return int(check and stale)


def update_moving_picture(check: bool) -> int:
    """The same for the picture of the explorer page, if there is a browser to draw it."""
    if importlib.util.find_spec("playwright"):
        import explorer_picture
        from check_site import launch
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            if browser := launch(playwright):
                return explorer_picture.update(browser, check)
    print('docs/figures/explorer.png was NOT looked at: that needs Chromium and pip install -e ".[browser]"')
    return 0


def wrong_versions() -> str:
    """What is installed instead of what made-with.txt names."""
    wanted = re.findall(r"^(\w+)==(\S+)", (DOCS / "made-with.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return ", ".join(f"{name} {has}" for name, version in wanted if (has := metadata.version(name)) != version)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pages and examples (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything would change")
    options = parser.parse_args()
    text = EXAMPLES.read_text(encoding="utf-8")
    commands = {name: command for command, name in COMMAND.findall(text)}
    known = [*PAGES, *commands, "explorer_picture"]
    if unknown := set(options.names) - set(known):
        parser.error(f"no page or example {min(unknown)!r}; there are {', '.join(known)}")
    if wrong := wrong_versions():
        parser.error(f"the versions of docs/made-with.txt are needed, not {wrong}: pip install -r docs/made-with.txt")

    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fixtures"), str(ROOT / "tests" / "browser")]
    from past_runs import pinned

    os.environ |= pinned() | {"MPLBACKEND": "agg"}
    chosen = options.names or known
    pages = [name for name in PAGES if name in chosen]
    examples = {name: command for name, command in commands.items() if name in chosen}
    stale = update(refreshed(pages, examples), options.check)
    if "explorer_picture" in chosen:
        stale |= update_moving_picture(options.check)
    if stale:
        print("Write it again: python docs/refresh.py")
    return stale


if __name__ == "__main__":
    sys.exit(main())
