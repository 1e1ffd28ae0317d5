"""Open every page of the built site on a phone, a tablet and a desk, light and dark, and say what cannot be read there.

    python tests/browser/check_site.py docs/_build/html [--screenshots FOLDER]

A page fails on: what sticks out of it and does not scroll in a box of its own; a missing image; text below 14 pixels,
in SVG pictures as they are displayed, too; text whose contrast is below WCAG's 4.5 (3 from 24 pixels on); a link that
leads nowhere. Listings of source code, of which there are many, are opened on the phone alone.
"""

import argparse
import functools
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = {390: 14, 768: 0, 1280: 0}  # and how many pixels high text has to be there
THEMES = ("light", "dark")
LISTINGS = "source/"
EXPLORERS = ("_static/", "_downloads/")  # pages with tests of their own

SCRIPT = Path(__file__).with_name("check_site.js").read_text(encoding="utf-8")


def launch(playwright):
    """The Chromium of the system, or None."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        return None
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=executable, args=as_root)


# --- links ------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.references = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (name, tag) == ("name", "a"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.references.add(value)


def pages_of(site: Path) -> list[Path]:
    return [
        path for path in sorted(site.rglob("*.html")) if not path.relative_to(site).as_posix().startswith(EXPLORERS)
    ]


def broken_links(site: Path) -> Iterator[str]:
    """What refers to a file or an anchor that is not there."""
    files = {path for path in site.rglob("*") if path.is_file()}
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in pages_of(site)}
    for path, page in pages.items():
        for reference in sorted(page.references):
            to = urlsplit(reference)
            if to.scheme or to.netloc:
                continue
            target = Path(os.path.normpath(path.parent / unquote(to.path))) if to.path else path
            missing = "file" if target not in files else ""
            if target in pages and to.fragment and unquote(to.fragment) not in pages[target].anchors:
                missing = "anchor"
            if missing:
                yield f"{path.relative_to(site)}: the link {reference} leads to no {missing}"


# --- what is seen -----------------------------------------------------------------------------------------------------


def check(browser, site: Path, screenshots: Path | None = None) -> Iterator[str]:
    """What is wrong with the site in this folder, a line each."""
    site = site.resolve()
    yield from broken_links(site)
    context = browser.new_context()
    page, picture = context.new_page(), context.new_page()
    picture.set_viewport_size({"width": 2000, "height": 2000})  # what is to be hit has to be in sight
    for path in pages_of(site):
        name = path.relative_to(site).as_posix()
        page.goto(path.as_uri())
        where = defaultdict(list)  # fault -> widths and themes
        for width in list(WIDTHS)[: 1 if name.startswith(LISTINGS) else None]:
            for theme in THEMES:
                for fault in faults(page, picture, width, theme):
                    where[fault].append(f"{width} px {theme}")
                if screenshots:
                    file = screenshots / f"{name.replace('/', '_')}-{width}-{theme}.png"
                    page.screenshot(path=file, full_page=True)
        for fault, seen in where.items():
            yield f"{name} ({', '.join(seen)}): {fault}"
    context.close()


def faults(page, picture, width: int, theme: str) -> list[str]:
    """Of an open page; its pictures are opened in `picture`."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    seen = page.evaluate(SCRIPT, [WIDTHS[width]])
    found = seen["faults"]
    for each in seen["pictures"]:
        found += faults_of_picture(picture, theme, WIDTHS[width], **each)
    return found


@functools.cache
def faults_of_picture(page, theme: str, least: int, url: str, displayed: float, ground: str) -> list[str]:
    """Of an SVG picture that a page displays so many pixels wide on a ground of this color."""
    page.emulate_media(color_scheme=theme)
    page.goto(url)
    name = url.rpartition("/")[2]
    return [f"{name}: {fault}" for fault in page.evaluate(SCRIPT, [least, displayed, ground])["faults"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path, help="the folder with the built pages")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="also leaves a picture of each page here")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        count = 0
        for line in check(launch(playwright), options.site, options.screenshots):
            print(line)
            count += 1
    print(f"{count} faults")
    return count > 0


if __name__ == "__main__":
    sys.exit(main())
