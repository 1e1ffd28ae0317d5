"""Links of pages, which are those of a code host, lead to what the site has.

A file of the repository is shown with line numbers; an explorer page opens in the browser; index.md has the contents.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
# pages that stand for a file at the repository's top
FRONT = {"readme": "README.md", "changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
_LINK = re.compile(r"\[([^\]\[]*)\]\(((?:\.\./)+)([\w./-]+\.(?:py|cu|toml|yml))(?:#L(\d+))?\)")
_EXPLORER = r"\((?:\.\./)*(_static/[\w.]+\.html)\)"
_OPENED = re.compile(rf"\[(!\[[^\]]*\]\([^)]*\)|[^\]\[]*)\]{_EXPLORER}")
_FRAMED = re.compile(rf"^\[(?:!\[)?([^\]\[]*)\](?:\([^)]*\)\])?{_EXPLORER}$", re.MULTILINE)
logger = logging.getLogger(__name__)


def link(app: Sphinx, docname: str, content: list[str]) -> None:
    """[text](../scratchlstm/gates.py#L12) becomes a link to the page `source/scratchlstm/gates.py`."""
    if docname in FRONT:
        text = (ROOT / FRONT[docname]).read_text(encoding="utf-8")
        app.env.note_dependency(str(ROOT / FRONT[docname]))
        content[0] = re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")
    for page, file in FRONT.items():
        content[0] = content[0].replace(f"](../{file}", f"]({page}.md")
    up = "../" * docname.count("/")
    if docname == app.config.root_doc:
        content[0] += (ROOT / "docs" / "contents.txt").read_text(encoding="utf-8")
        app.env.note_dependency("contents.txt")
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


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file that a page links."""
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True)
    for path in sorted(getattr(app.env, "source_pages", set())):
        text = highlight((ROOT / path).read_text(encoding="utf-8"), get_lexer_for_filename(path), formatter)
        yield f"source/{path}", {"title": path, "body": f"<h1>{path}</h1>{text}"}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", link)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": False}
