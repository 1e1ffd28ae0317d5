"""The page in the documentation: what its text says is seen on it, and its frames are tall enough."""

import re
from pathlib import Path

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, quoted, sentiment

from scratchlstm.inspection import explore

DOCS = Path(__file__).parents[2] / "docs"
FLAGSHIP = DOCS / "_static" / "explorer.html"


def _outputs(page):
    return np.array([float(text) for text in page.locator("#words small").all_text_contents()])


def test_it_opens_where_the_forget_gate_learned_to_shut(window):
    page = window(FLAGSHIP)
    assert page.locator("#words [aria-current]").text_content().startswith("not")
    text = page.locator("#learned-text").text_content()
    assert text == f"At {quoted('not')} unit 1 keeps less than 1 % of its cell; at epoch 0 it kept 72 %."
    page.locator("#epoch").fill("17")
    assert page.locator("#epoch-text").text_content().startswith("Epoch 51 of 150, ")
    kept = re.search(r"keeps (.*) % of its cell", page.locator("#learned-text").text_content())[1]
    assert kept in ("1", "less than 1")


def test_bad_turns_the_cell_over_and_good_leaves_it_alone(window):
    page = window(FLAGSHIP)
    cell = "Array.from({ length: 5 }, (_, step) => valueOf(current(), at('c', { step, unit: 1 })))"
    good = page.evaluate(cell)
    assert good[2] > 2 > 0 > good[3]
    assert abs(good[4] - good[3]) < 0.02
    page.locator("#typed").fill("the film is not bad")
    page.keyboard.press("Enter")
    assert page.evaluate(cell)[4] > 0.5
    assert _outputs(page)[-1] > 0.9


def test_with_the_forget_gate_held_open_not_does_nothing(window):
    page = window(FLAGSHIP)
    assert _outputs(page)[-1] < 0.1
    page.locator("#hold-f").get_by_text("1", exact=True).click()
    assert round(_outputs(page)[-1], 2) == 0.96


@pytest.mark.parametrize("width", [830, 1240])
def test_a_frame_in_the_documentation_shows_the_cell(window, width):
    style = (DOCS / "_static" / "scratchlstm.css").read_text(encoding="utf-8")
    height = int(re.search(r"^iframe \{.* height: (\d+)px;", style, re.MULTILINE)[1])
    assert _bottom_of_the_cell(window(FLAGSHIP, viewport={"width": width, "height": height})) <= height


@pytest.mark.parametrize("width", [830, 1240])
def test_a_frame_in_a_notebook_shows_the_cell(window, width, tmp_path):
    shown = explore(sentiment(epochs=0), SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)._repr_html_()
    height = int(re.search(r'style="[^"]*height: (\d+)px', shown)[1])
    for path in (tmp_path / "page.html", FLAGSHIP):
        assert _bottom_of_the_cell(window(path, viewport={"width": width, "height": height})) <= height


def _bottom_of_the_cell(page):
    box = page.locator("#forward-picture").bounding_box()
    return box["y"] + box["height"]
