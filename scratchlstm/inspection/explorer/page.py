"""The file itself: markup, style, scripts and data in one."""

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

# what is seen, each with its own style
_PARTS = ("sentence", "heatmap", "plot", "overview", "cell", "number", "change", "compare", "learning")
_STYLES = ("base", *_PARTS)
_SCRIPTS = ("data", "lstm", "quantities", "head", "state", "reading", "dom", "names", "step", *_PARTS, "main")


def page(data: dict[str, Any]) -> str:
    """The page with style, scripts and data in it; ASCII letters only, but for its own texts."""
    style = "\n".join(_without_comments(f"style/{name}.css") for name in _STYLES)
    script = "\n".join(_without_comments(f"script/{name}.js") for name in _SCRIPTS)
    hashes = {"STYLE_HASH": _hash(style), "SCRIPT_HASH": _hash(script)}
    parts = hashes | {"STYLE": style, "SCRIPT": script, "DATA": as_text(data)}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _part("page.html"))


def size(data: dict[str, Any]) -> int:
    """Bytes of the page with these data in it."""
    return len(page(data).encode())


def as_text(data: Any) -> str:
    """JSON that means nothing in HTML."""
    text = json.dumps(data, allow_nan=False)  # which escapes all beyond ASCII
    for mark in "&<>":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _without_comments(name: str) -> str:
    """A style or script without indentation and whole lines of comment: room for the numbers of the page."""
    code = re.sub(r"^ */\*(?:[^*]|\*(?!/))*\*/\n|^ *//.*\n|^\n", "", _part(name), flags=re.MULTILINE)
    return re.sub(r"^ +", "", code, flags=re.MULTILINE)


def _hash(content: str) -> str:
    """By which the page's policy knows its own style and script, and lets no other run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
