"""The built site can be read on every screen, light and dark; and each check of `check_site.py` can fail."""

from pathlib import Path

import pytest
from check_site import broken_links, check

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A page</title>
<style>
body { margin: 0; background: light-dark(#fff, #111); color: light-dark(#000, #eee); color-scheme: light dark }
article { margin: 0 20px; font-size: 16px }
</style>
<article id="top">{}</article>
"""
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" width="400" height="100" viewBox="0 0 400 100">
<style>text { fill: #222 } @media (prefers-color-scheme: dark) { text { fill: #ccc } }</style>
<rect width="200" height="100" fill="#777"/><text x="320" y="50" font-size="14">drawn</text>{}
</svg>"""


@pytest.fixture
def site(tmp_path):
    """Writes a site of one page, with this body, that may show a picture with this in it, too."""

    def write(body, drawn=""):
        (tmp_path / "page.html").write_text(PAGE.replace("{}", body), encoding="utf-8")
        (tmp_path / "picture.svg").write_text(PICTURE.replace("{}", drawn), encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    "body",
    [
        "a sentence with <b>a bold word</b> and <code>code</code>",
        "<div style='overflow-x: auto'><pre style='width: 2000px'>scrolls by itself</pre></div>",
        "<nav style='position: fixed; left: -300px; width: 300px'>slides in</nav>",
        "<p style='color: #fff; visibility: hidden'>not seen</p>",
        "<p style='color: #888; font-size: 24px'>large enough to be faint</p>",
        "<div style='background: #333; color: #fff'><p style='opacity: 0.9'>on a ground of its own</p></div>",
        "<div style='overflow-x: auto'><img src='picture.svg'></div>",
        "<a href='#top'>here</a> <a href='page.html#top'>here</a> <a href='https://example.org/x#y'>elsewhere</a>",
    ],
)
def test_what_can_be_read_is_no_fault(body, chromium, site):
    assert list(check(chromium, site(body))) == []


@pytest.mark.parametrize(
    ("body", "seen_in", "said"),
    [
        ("<p style='width: 500px'>wide", "390 px", "article > p “wide”: from 20 to 520 px; required: 11 to 379 px"),
        (
            "<p style='width: 99px; white-space: nowrap'>longer than its box, and at last longer than a phone is wide",
            "390 px",
            "article > p “longer than its box, and at last longer ”: from 20 to",
        ),
        (
            "<div style='overflow: hidden'><p style='width: 500px'>cut off",
            "390 px",
            "div > p “cut off”: from 20 to 520 px; required: 11 to 379 px",
        ),
        (
            "<div style='overflow: auto; width: 500px'><p style='width: 2000px'>scrolls, partly out of sight",
            "390 px",
            "article > div “scrolls, partly out of sight”: from 20 to 520 px; required: 11 to 379 px",
        ),
        ("<p style='font-size: 13px'>small", "390 px", "article > p “small”: text of 13.0 px; required: 14 px"),
        (
            "<svg width='200' viewBox='0 0 400 50'><text y='20' font-size='20' fill='currentColor'>inside",
            "390 px",
            "svg > text “inside”: text of 10.0 px; required: 14 px",
        ),
        (
            "<img src='picture.svg' width='200'>",
            "390 px",
            "picture.svg: svg > text “drawn”: text of 7.0 px; required: 14 px",
        ),
        (
            "<p style='color: #555'>faint",
            "dark",
            "article > p “faint”: contrast 2.53, rgb(85,85,85) on rgb(17,17,17); required: 4.5",
        ),
        (
            "<p style='color: #aaa; font-size: 24px'>large",
            "light",
            "article > p “large”: contrast 2.32, rgb(170,170,170) on rgb(255,255,255); required: 3",
        ),
        (
            "<div style='opacity: 0.5; background: #fff'><p style='color: #000'>faded",
            "light",
            "div > p “faded”: contrast 3.97, rgb(128,128,128) on rgb(255,255,255); required: 4.5",
        ),
        (
            "<pre style='background: #eee; color: #000'>in <span style='color: #888'>code",
            "px",
            "pre > span “code”: contrast 3.05, rgb(136,136,136) on rgb(238,238,238); required: 4.5",
        ),
    ],
)
def test_what_cannot_be_read_is_a_fault(body, seen_in, said, chromium, site):
    (line,) = check(chromium, site(body))
    where = [f"{width} px {theme}" for width in (390, 768, 1280) for theme in ("light", "dark")]
    assert line.startswith(f"page.html ({', '.join(each for each in where if seen_in in each)}): {said}")


def test_a_text_in_a_picture_is_held_against_the_shape_that_it_is_on(chromium, site):
    drawn = "<text x='20' y='50' font-size='14'>gray</text>"
    (light, dark) = check(chromium, site("<div style='overflow: auto'><img src='picture.svg'></div>", drawn))
    assert light.endswith("“gray”: contrast 3.55, rgb(34,34,34) on rgb(119,119,119); required: 4.5")
    assert dark.endswith("“gray”: contrast 2.78, rgb(204,204,204) on rgb(119,119,119); required: 4.5")


def test_a_missing_picture_is_a_fault(chromium, site):
    (link, image) = check(chromium, site("<img src='none.png' alt=''>"))
    assert link == "page.html: the link none.png leads to no file"
    assert image.endswith("article > img “none.png”: no picture; required: a picture")


@pytest.mark.parametrize(
    ("link", "missing"), [("none.html", "file"), ("#none", "anchor"), ("page.html#none", "anchor"), ("..", "file")]
)
def test_a_link_that_leads_nowhere_is_a_fault(link, missing, site):
    (line,) = broken_links(site(f"<a href='{link}'>there</a>"))
    assert line == f"page.html: the link {link} leads to no {missing}"


def test_the_built_site_can_be_read_everywhere(chromium):
    if not SITE.exists():
        pytest.skip("the site is not built: python -m sphinx -b html docs docs/_build/html")
    faults = list(check(chromium, SITE))
    assert not faults, "\n".join(faults)
