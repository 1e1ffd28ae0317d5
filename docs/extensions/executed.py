"""Python blocks of a page, run from its top; the text block right behind one shows what it prints.

So a page can be read where it lies, and its numbers are those that the package gives when it is built. What
a block saves lies in `_build/executed/PAGE`; pages for a browser are also put into the site, as `executed/PAGE/...`.
"""

import contextlib
import difflib
import io
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGES = (
    "adversarial", "cells", "derivation", "examples", "exercises", "explorer", "faq", "guide", "migration", "variants",
    "wiring",
)  # fmt: skip
PACKAGE = Path(__file__).parents[2] / "scratchlstm"
FOLDER = Path("_build", "executed")
_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?P<shown>\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def run(page: str, folder: str | os.PathLike[str]) -> str:
    """The page with what its blocks print now; what they save lies in `folder`.

    Raises:
        Exception: whatever a block raises.
        ValueError: a block prints something, and no text block is there to show it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
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


def differences(page: str, now: str) -> str:
    """What a page shows and what its blocks print, where they differ."""
    return "\n".join(difflib.unified_diff(page.splitlines(), now.splitlines(), "shown", "printed", lineterm="", n=1))


def rebuild(app: "Sphinx", docname: str, content: list[str]) -> None:
    """Put what a page's blocks print now in place of what it shows."""
    if docname not in PAGES:
        return
    from sphinx.util import logging

    page = content[0]
    content[0] = run(page, Path(app.srcdir, FOLDER, docname))
    if content[0] != page:
        changes = differences(page, content[0])
        logging.getLogger(__name__).warning("%s.md shows what its code does not print:\n%s", docname, changes)
    for kind in ("py", "html", "css", "js"):
        for source in PACKAGE.rglob(f"*.{kind}"):
            app.env.note_dependency(str(source))  # another package prints and draws something else


def put_into_site(app: "Sphinx", exception: Exception | None) -> None:
    for page in Path(app.srcdir, FOLDER).glob("*/*.html"):
        place = Path(app.outdir, "executed", page.parent.name, page.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, place)


def setup(app: "Sphinx") -> dict[str, Any]:
    app.connect("source-read", rebuild, priority=400)  # before links are changed
    app.connect("build-finished", put_into_site)
    return {"parallel_read_safe": True}
