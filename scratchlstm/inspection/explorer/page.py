"""The page as a single file: markup, style, scripts and data."""

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

# the parts one sees, each with its own style
_PARTS = ("sentence", "heatmap", "plot", "overview", "cell", "number", "change", "compare", "learning")
_STYLES = ("base", *_PARTS)
_SCRIPTS = ("data", "lstm", "quantities", "head", "state", "reading", "dom", "names", "step", *_PARTS, "main")


def page(data: dict[str, Any]) -> str:
    """The page with style, scripts and data; ASCII only, except for its own texts."""
    style = "\n".join(_without_comments(f"style/{name}.css") for name in _STYLES)
    script = "\n".join(_without_comments(f"script/{name}.js") for name in _SCRIPTS)
    hashes = {"STYLE_HASH": _hash(style), "SCRIPT_HASH": _hash(script)}
    parts = hashes | {"STYLE": style, "SCRIPT": script, "DATA": as_text(data)}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _part("page.html"))


def size(data: dict[str, Any]) -> int:
    """The number of bytes of the page with these data."""
    return len(page(data).encode())


def as_text(data: Any) -> str:
    """JSON without any meaning in HTML."""
    text = json.dumps(data, allow_nan=False)  # escapes everything beyond ASCII
    for mark in "&<>":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _without_comments(name: str) -> str:
    """A style or script without indentation and comment lines, to leave room for the page's numbers."""
    code = re.sub(r"^ */\*(?:[^*]|\*(?!/))*\*/\n|^ *//.*\n|^\n", "", _part(name), flags=re.MULTILINE)
    return re.sub(r"^ +", "", code, flags=re.MULTILINE)


def _hash(content: str) -> str:
    """The hash by which the page's content security policy allows only its own style and script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
