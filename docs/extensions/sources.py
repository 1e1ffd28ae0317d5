"""Pages are written for a code host; here the site gets what it has instead.

A link to a file of the repository leads to its text, with line numbers, as [source] in the reference does; one to an
explorer page opens it; one to a module, on a page of the reference, is the reference. What contents.txt lists beside an
index.md is the contents of the site.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.adapters.toctree import global_toctree_for_doc
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
# pages that stand for a file at the repository's top
FRONT = {"readme": "README.md", "changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
_LINK = re.compile(r"\[([^\]\[]*)\]\(((?:\.\./)+)([\w./-]+\.(?:py|cu|toml|yml))(?:#L(\d+))?\)")
_EXPLORER = r"\((?:\.\./)*(_static/[\w.]+\.html)\)"
_OPENED = re.compile(rf"\[(!\[[^\]]*\]\([^)]*\)|[^\]\[]*)\]{_EXPLORER}")
_FRAMED = re.compile(rf"^\[(?:!\[)?([^\]\[]*)\](?:\([^)]*\)\])?{_EXPLORER}$", re.MULTILINE)
_MODULE = re.compile(r"^\[`(scratchlstm/[\w/]*\w)(?:\.py|/)`\]\([^)]*\)(?:: (.*))?$", re.MULTILINE)
logger = logging.getLogger(__name__)


def link(app: Sphinx, docname: str, content: list[str]) -> None:
    """What the site has in place of what a page has for a code host.

    [text](../scratchlstm/gates.py#L12) becomes a link to the page `source/scratchlstm/gates.py`.
    """
    if docname in FRONT:
        text = (ROOT / FRONT[docname]).read_text(encoding="utf-8")
        app.env.note_dependency(str(ROOT / FRONT[docname]))
        content[0] = re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")
    for page, file in FRONT.items():
        content[0] = content[0].replace(f"](../{file}", f"]({page}.md")
    up = "../" * docname.count("/")
    contents = Path(app.srcdir, docname).with_name("contents.txt")
    if Path(docname).name == "index":
        content[0] += "\n" + contents.read_text(encoding="utf-8")
        app.env.note_dependency(str(contents))
    if docname.startswith("api/"):
        content[0] = _MODULE.sub(to_reference, content[0])
    if docname == "explorer":  # where a link alone in its paragraph shows the page itself
        content[0] = _FRAMED.sub(r'<iframe src="\2" title="\1"></iframe>', content[0])
    content[0] = _OPENED.sub(rf'<a href="{up}\2">\1</a>', content[0])

    def to_page(found: re.Match[str]) -> str:
        text, _, path, line = found.groups()
        if not (ROOT / path).is_file():
            logger.warning("%s: no file %s in the repository", docname, path)
        app.env.source_pages = getattr(app.env, "source_pages", set()) | {path}  # kept from build to build
        text = re.sub(r"`([^`]*)`", r"<code>\1</code>", text)
        return f'<a href="{up}source/{path}.html{f"#line-{line}" if line else ""}">{text}</a>'

    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        content[0] = _LINK.sub(to_page, content[0])
        return
    notebook = json.loads(content[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _LINK.sub(to_page, "".join(cell["source"]))
    content[0] = json.dumps(notebook)


def merge(app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment) -> None:
    """What another process has read."""
    env.source_pages = getattr(env, "source_pages", set()) | getattr(other, "source_pages", set())


def to_reference(found: re.Match[str]) -> str:
    """[`scratchlstm/layers/rnn.py`](...): `RNN`, `Part` becomes the docstrings of both; without names, of all."""
    module, names = found[1].replace("/", "."), (found[2] or "").replace("`", "")
    return f"```{{eval-rst}}\n.. automodule:: {module}\n   :members: {names}\n```"


def to_source(domain: str, info: dict[str, str]) -> str | None:
    """The line of a documented object, for sphinx.ext.linkcode; None if it is no class and no function."""
    if not info["module"]:
        return None
    found: Any = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        found = getattr(found, name, None)
    found = inspect.unwrap(getattr(found, "fget", getattr(found, "func", found)))  # of a property, of a cached one
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return None
    file = inspect.getfile(found)
    path = Path(file).relative_to(ROOT).as_posix()
    return f"../source/{path}.html#line-{inspect.getsourcelines(found)[1]}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file of the package, and each other file that a page links."""
    root = app.config.root_doc
    options = {"collapse": False, "titles_only": True, "maxdepth": -1, "includehidden": True}
    tree = global_toctree_for_doc(app.env, root, app.builder, tags=app.tags, **options)
    contents = app.builder.render_partial(tree)["fragment"]  # once, since it takes longer than the rest of a page
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True)
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scratchlstm").rglob("*.py")}
    for path in sorted(package | getattr(app.env, "source_pages", set())):
        text = highlight((ROOT / path).read_text(encoding="utf-8"), get_lexer_for_filename(path), formatter)
        here = re.sub(r'(?<=href=")(?!#)', "../" * (path.count("/") + 1), contents)
        shown = {"title": path, "body": f"<h1>{path}</h1>{text}", "toctree": lambda here=here, **options: here}
        yield f"source/{path}", shown, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", link)
    app.connect("env-merge-info", merge)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
