"""Formulas as MathML, which browsers draw by themselves: no network, no script, no TeX."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

_TAG = re.compile(r"\\tag\{(\w+)\}")
_UPRIGHT = re.compile(r"\\mathrm\{(\w+)\}")
_PRIME = re.compile(r"<msup>(<mi>[^<]*</mi>)<mi>&#x02032;</mi></msup>")


def mathml(latex: str, display: str) -> str:
    """LaTeX to MathML.

    The converter makes a single upright letter italic, and raises a prime, which is a raised sign already, until it is
    too small to see.
    """
    formula = convert(_UPRIGHT.sub(r"\\text{\1}", latex), display=display)
    return _PRIME.sub(r'\1<mo lspace="0" rspace="0">&#x02032;</mo>', formula)


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def display(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own, with the number of its tag, which is an anchor: #equation-7."""
    latex = node.astext()
    tag = _TAG.search(latex)
    anchor, number = (f' id="equation-{tag[1]}"', f'<span class="eqno">({tag[1]})</span>') if tag else ("", "")
    formula = mathml(_TAG.sub("", latex).strip(), "block")
    translator.body.append(f'<div class="math"{anchor}>{number}{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
