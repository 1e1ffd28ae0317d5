"""A real Chromium, which nothing leaves and in which nothing may be wrong."""

import sys
import warnings
from pathlib import Path

import pytest
from check_site import launch

sys.path.insert(0, str(Path(__file__).parents[1] / "inspection"))


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _skip(reason):
    reason = f"NO BROWSER TESTS: {reason}"
    warnings.warn(reason, stacklevel=2)  # in the summary, also where skips are not listed
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium():
    """The browser; each test opens its own window."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _skip('Playwright is missing: pip install -e ".[browser]"')
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            _skip("Chromium is missing: apt-get install chromium")
        yield browser
        browser.close()


@pytest.fixture
def window(chromium):
    """Opens a file and watches it: an error, a warning or a request for anything else fails the test."""
    wrong, contexts = [], []

    def open_file(path, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url == path.as_uri() or request.url == "data:," or wrong.append(request.url),
        )
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def opened(files, window):
    """Opens one of a module's `files`, name -> (path, model)."""
    return lambda name, **options: window(files[name][0], **options)


@pytest.fixture
def plain(opened):
    return opened("plain")


# whatever is wider than the page, but for what scrolls in a box of its own
_TOO_WIDE = """all => all.filter((e) => !e.closest("svg") && e.getBoundingClientRect().right > innerWidth)
    .filter((e) => {
        for (let box = e.parentElement; box; box = box.parentElement) {
            const isCut = getComputedStyle(box).overflowX !== "visible";
            if (isCut && box.getBoundingClientRect().right <= innerWidth) return false;
        }
        return true;
    }).map((e) => e.outerHTML.slice(0, 100))"""
# the size of each text as it is drawn, in CSS pixels
_SMALL_TEXTS = """least => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), small = new Set();
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
        const { parentElement: e } = text, svg = e.closest("svg");
        const isSeen = text.data.trim() && e.checkVisibility() && !e.closest("option, .unseen, noscript, script");
        if (!isSeen) continue;
        const scale = svg ? svg.getScreenCTM().a : 1;
        const size = scale * parseFloat(getComputedStyle(e).fontSize);
        if (size < least - 0.05) small.add(`${size.toFixed(1)} px: ${text.data.trim().slice(0, 30)} in ${e.tagName}`);
    }
    return [...small];
}"""


@pytest.fixture
def fits():
    """Checks that nothing is wider than a page and no text smaller than `least` CSS pixels."""

    def check(page, least=14):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("main *:visible").evaluate_all(_TOO_WIDE) == []
        assert page.evaluate(_SMALL_TEXTS, least) == []

    return check
