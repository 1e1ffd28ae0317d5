"""A real Chromium, which nothing leaves and in which nothing may be wrong."""

import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest

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
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        _skip("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=as_root)
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
