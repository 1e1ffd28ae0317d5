"""The documentation: `python -m sphinx -W --keep-going -j auto -b html docs docs/_build/html`."""

import importlib
import inspect
import os
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import scratchlstm
from scratchlstm._support import compiled

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from sources import to_source

# to show the docstrings of compiled functions
compiled.loop = compiled.part = compiled.exact_loop = lambda function: function
os.environ[compiled.OFF] = "1"

project = "scratchlstm"
release = scratchlstm.__version__
html_title = f"{project} {release}"
extensions = [
    "myst_nb",  # with myst_parser inside
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "mathml",
    "sources",
]
exclude_patterns = ["_build", "extensions"]
nb_execution_mode = "off"  # notebooks are shown as they are stored; tests/notebooks executes them

# Markdown as on a code host: formulas in $ or in a block called math, anchors at headings
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# docstrings
default_role = "code"
autodoc_mock_imports = ["mpi4py"]  # which needs an MPI on the machine
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
linkcode_resolve = to_source
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_static_path = ["_static", str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["scratchlstm.css"]
html_copy_source = False
html_show_copyright = False
pygments_dark_style = "github-dark"


def literal_blocks(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """As in Markdown: lines indented by four spaces are shown as they are (not those of a section such as Args)."""
    text, after_plain_text = [], False
    for line in lines:
        if re.match(r" {4}\S", line) and after_plain_text and text and not text[-1]:
            text += [".. code-block:: text", ""]
        if line.strip():
            after_plain_text = not line.startswith((" ", ":", ".."))
        text.append(line)
    lines[:] = text


def single_letters(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """`units: H.` is not a list that begins at H."""
    lines[:] = [re.sub(r"^( +)(\w\.)$", r"\1\\\2", line) for line in lines]


def field_comments(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A named tuple's fields are said in the comment beside each (Python's own text is "Alias for field number 0")."""
    if lines and lines[0].startswith("Alias for field number"):
        module, owner, field = name.rsplit(".", 2)
        source = inspect.getsource(getattr(importlib.import_module(module), owner))
        lines[:] = re.findall(rf"^ +{field}: .*# +(.*)$", source, re.MULTILINE)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", literal_blocks)
    app.connect("autodoc-process-docstring", single_letters)
    app.connect("autodoc-process-docstring", field_comments)
