"""The moving picture of the README: the explorer page reads "the film is not good", word by word.

`python docs/refresh.py explorer_picture` writes it. That needs Chromium, and the extra `browser`.
"""

import io
from pathlib import Path
from typing import Any

from pictures import same_png
from PIL import Image, ImageSequence

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "_static" / "explorer.html"
PICTURE = DOCS / "figures" / "explorer.png"
SHOWN = 3, 4, 0, 1, 2  # words; the one that shuts the gate comes first, as some show the first frame only
SECONDS = 2.4, 1.6, 1.2, 1.2, 1.2
WIDTH = 880
_COLORS = 128
# of the page only the words, what happens in words, the cell, and the unit over the words
STYLE = """
    header, #sentence-title, #notes, #sentence-change, .stepping, .pickers, #learning, .tabs, #map, #lines figcaption,
    #number, #equations, #change, main > .note { display: none !important }
    main { display: grid; grid-template-columns: 400px 1fr; gap: 0 28px; padding: 16px !important }
    main > section:first-of-type, .controls { grid-column: 1 / -1 }
    .controls { position: static !important; border: 0 !important; margin: 8px 0 0 !important; min-height: 3.4em }
    #words { font-size: 20px; gap: 10px !important }
    #words button { padding: 4px 16px !important }
    #status { font-size: 17px }
    #study { order: 1; display: block !important; padding: 0 !important }
    #overview { order: 2; display: block !important; margin: 0 !important }
    #effect { display: none !important }
"""


def frames(browser: Any) -> list[Image.Image]:
    """The page at each of the words that are shown."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 400}, color_scheme="light", bypass_csp=True)
    page.goto(PAGE.as_uri())
    page.add_style_tag(content=STYLE)
    shown = []
    for word in SHOWN:
        page.keyboard.press("Home")
        for _ in range(word):
            page.keyboard.press("ArrowRight")
        shown.append(Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled"))).convert("RGB"))
    return shown


def moving(shown: list[Image.Image]) -> bytes:
    """An animated PNG, in as few colors as one does not notice."""
    colors = shown[0].quantize(_COLORS, Image.Quantize.FASTOCTREE)
    first, *others = [frame.quantize(palette=colors, dither=Image.Dither.NONE) for frame in shown]
    written = io.BytesIO()
    duration = [round(1000 * seconds) for seconds in SECONDS]
    first.save(written, "PNG", save_all=True, append_images=others, duration=duration, loop=0, optimize=True)
    return written.getvalue()


def frames_of(picture: bytes) -> list[bytes]:
    """Each frame as a PNG file of its own."""
    found = []
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(picture))):
        written = io.BytesIO()
        frame.convert("RGB").save(written, "PNG")
        found.append(written.getvalue())
    return found


def same(one: bytes, other: bytes) -> bool:
    """Whether two moving pictures show the same."""
    both = frames_of(one), frames_of(other)
    return len(both[0]) == len(both[1]) and all(map(same_png, *both))


def update(browser: Any, check: bool) -> int:
    """Write it again if the page shows something else, or only say so; 1 if that is so."""
    new = moving(frames(browser))
    if PICTURE.exists() and same(PICTURE.read_bytes(), new):
        return 0
    print("docs/figures/explorer.png shows something else")
    if not check:
        PICTURE.write_bytes(new)
    return int(check)
