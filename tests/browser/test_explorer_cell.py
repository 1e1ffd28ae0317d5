"""The cell and its equations on the explorer page: colours, links, texts, sizes and paper, in a real Chromium."""

import re

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, quoted, sentiment, stacked

from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM

LETTERS = "ifgoch"
VIEWS = ("forward", "backward")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    models = {
        "plain": (sentiment(), SENTENCE),
        "recorded": (stacked(), SENTENCE),
        "masked": (sentiment(mask_zero=True), "a wonderful film"),
        "relu": (sentiment(LSTM(4, activation="relu", recurrent_activation="hard_sigmoid")), SENTENCE),
    }
    for name, (model, text) in models.items():
        explore(model, text, folder / f"{name}.html", word_index=WORD_INDEX)
    return {name: folder / f"{name}.html" for name in models}


@pytest.fixture
def opened(files, window):
    return lambda name, **options: window(files[name], **options)


def show(page, view):
    page.get_by_role("tab", name=view.capitalize()).click()
    page.evaluate("document.activeElement.blur()")  # in whose tabs the arrow keys are their own


def colours(page, names):
    """Red, green and blue of variables of the style."""
    return page.evaluate(
        """names => {
            const made = document.body.appendChild(document.createElement('i'));
            const read = Object.fromEntries(names.map(name => {
                made.style.color = `var(--${name})`;
                return [name, getComputedStyle(made).color];
            }));
            made.remove();
            return read;
        }""",
        list(names),
    )


def style(locator, name):
    return locator.evaluate("(node, name) => getComputedStyle(node)[name]", name)


def result(page, view, key):
    return page.locator(f"#{view}-equations .result[data-value='{key}']")


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_each_quantity_has_one_colour_and_gradients_are_dashed(plain, view):
    show(plain, view)
    d = "d" if view == "backward" else ""
    own = colours(plain, LETTERS)
    assert len(set(own.values())) == 6
    for letter in LETTERS:
        part = plain.locator(f"#{view}-picture .part[data-of='{d}{letter}']")
        assert style(part.locator(".wire").first, "stroke") == own[letter]
        assert style(part.locator(".value").first, "fill") == own[letter]
        line = result(plain, view, d + letter)
        assert style(line, "color") == own[letter]
        assert (style(part.locator(".wire").first, "strokeDasharray") != "none") == bool(d)
        assert style(line, "textDecorationStyle") == ("dashed" if d else "solid")
    for gate in "ifgo":
        part = plain.locator(f"#{view}-picture .part[data-of='{d}{gate}']")
        assert style(part.locator("rect.box"), "stroke") == own[gate]
        if not d:
            assert style(part.locator(".level"), "fill") == own[gate]


# --- links ------------------------------------------------------------------------------------------------------------


def lit(page, selector):
    return page.locator(selector).evaluate_all("all => all.map(node => node.dataset.of ?? node.dataset.value)")


@pytest.mark.parametrize(
    ("view", "key", "parts"),
    [
        ("forward", "c", {"c_prev", "f", "i", "g", "c/0", "c/1", "c"}),
        ("forward", "f", {"z_f", "f"}),
        ("backward", "df", {"dc", "df", "dc_prev df"}),
    ],
)
def test_an_equation_lights_its_wires_by_mouse_and_keyboard(plain, view, key, parts):
    show(plain, view)
    number = result(plain, view, key)
    for point in (number.hover, number.focus):
        plain.mouse.move(0, 0)
        assert lit(plain, ".lit") == []
        point()
        assert set(lit(plain, f"#{view}-picture .part.lit")) >= parts
        assert "o" not in lit(plain, ".lit")
        assert number.evaluate("node => node.closest('li').classList.contains('lit')")
        plain.evaluate("document.activeElement.blur()")


@pytest.mark.parametrize(
    ("view", "key", "lines"),
    [("forward", "f", {"(2)", "(5)"}), ("backward", "dc", {"(8)", "(9)", "(10)", "(11)", "(12)"})],
)
def test_a_wire_lights_its_equations(plain, view, key, lines):
    show(plain, view)
    wire = plain.locator(f"#{view}-picture .part[data-of='{key}'] .wire").first
    wire.evaluate("node => node.scrollIntoView({ block: 'center' })")
    box = wire.bounding_box()
    plain.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    marked = plain.locator(f"#{view}-equations li.lit .number").all_text_contents()
    assert set(marked) == lines
    assert set(lit(plain, f"#{view}-equations .link.lit")) == {key}


def test_a_number_of_the_picture_opens_what_its_equation_opens(plain):
    chosen = []
    for number in (result(plain, "forward", "f"), plain.locator("#forward-picture [data-value=f]")):
        plain.evaluate("state.chosen = null")
        number.click()
        chosen.append(plain.evaluate("JSON.stringify(state.chosen)"))
    assert chosen[0] == chosen[1] != "null"
    assert plain.locator(".picture [tabindex], .picture a, .picture button").count() == 0


def test_tooltips_name_a_number_and_give_all_its_digits(plain):
    plain.locator("#words button").nth(1).click()
    value = plain.evaluate("String(valueOf(current(), at('f', { step: state.step, unit: state.unit })))")
    unit = plain.locator("#unit").input_value()
    expected = f"f, forget gate of unit {unit} at {quoted('wonderful')}: {value}"
    assert len(value) > 12
    assert result(plain, "forward", "f").get_attribute("title") == expected
    assert plain.locator("#forward-picture .part[data-of=f] title").first.text_content() == expected


def test_a_focused_number_keeps_the_focus_from_word_to_word(plain):
    number = result(plain, "forward", "c")
    number.focus()
    for key in ("ArrowRight", "End"):
        before = number.text_content()
        plain.keyboard.press(key)
        assert number.text_content() != before
        assert number.evaluate("node => node === document.activeElement")


def test_the_controls_do_not_cover_what_has_the_focus(plain):
    for view in VIEWS:
        show(plain, view)
        links = plain.locator(f"#{view}-equations .link")
        links.last.focus()
        for _ in range(links.count() - 1):
            plain.keyboard.press("Shift+Tab")
            assert plain.evaluate(
                """() => {
                    const { x, y, width, height } = document.activeElement.getBoundingClientRect();
                    return document.elementFromPoint(x + width / 2, y + height / 2) === document.activeElement;
                }"""
            )


# --- equations --------------------------------------------------------------------------------------------------------


def number(text):
    return float(text.strip("()").replace("−", "-"))


@pytest.mark.parametrize(("name", "last"), [("plain", 21), ("recorded", 18), ("relu", 18)])
def test_all_equations_are_there_in_order(opened, name, last):
    page = opened(name)
    numbers = [
        [text for text in page.locator(f"#{view}-equations .number").all_text_contents() if text] for view in VIEWS
    ]
    assert numbers == [[f"({n})" for n in range(1, 7)], [f"({n})" for n in range(7, last + 1)]]
    assert "NaN" not in page.locator("#equations").inner_text()


@pytest.mark.parametrize("name", ["plain", "recorded", "masked", "relu"])
def test_each_line_of_arithmetic_adds_up(opened, name):
    """The part before the last =, computed from the printed digits, gives the part after it."""
    page = opened(name)
    seen = 0
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        for line in page.locator("#equations .numbers").evaluate_all("all => all.map(node => node.textContent)"):
            if "=" not in line or re.search(r"[xh]_|over|length", line):
                continue
            left, *_, right = line.split(" = ")
            for written, python in {"−": "-", "·": "*", "hard σ(": "hard_sigmoid(", "σ(": "sigmoid("}.items():
                left = left.replace(written, python)
            functions = {
                "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "log": np.log,
                "relu": lambda z: max(z, 0), "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
            }  # fmt: skip
            value = eval(left, functions)
            terms = max(abs(number(part)) for part in re.findall(r"[-−]?\d[\d.]*(?:e[-−+]?\d+)?", line))
            assert value == pytest.approx(number(right), abs=2e-3 * max(terms, abs(value)) + 1e-9), line
            seen += 1
    assert seen > 40


def test_what_the_steps_add_to_a_weights_gradient_sums_to_it(plain):
    value = "node => Number(node.title.split(': ').at(-1))"
    for name in ("dW_f", "dU_f"):
        plain.keyboard.press("Home")
        added, steps = 0, plain.locator("#words button").count()
        for _ in range(steps):
            line = plain.locator(f"#backward-equations li:has(.result[data-value={name}])")
            added += line.locator(f"[data-value^='{name}/']").evaluate(value)
            plain.keyboard.press("ArrowRight")
        assert added == pytest.approx(result(plain, "backward", name).evaluate(value), rel=1e-9)


def test_the_weights_are_those_of_the_gate_whose_number_was_opened_last(plain):
    result(plain, "forward", "z_o").click()
    assert result(plain, "backward", "dW_o").count() == 1
    result(plain, "forward", "c").click()
    assert result(plain, "backward", "dW_o").count() == 1


def test_the_answer_and_the_loss_are_at_the_last_step(plain):
    plain.keyboard.press("End")
    assert "The answer and the loss" in plain.locator("#forward-equations h3").all_text_contents()
    assert number(result(plain, "forward", "loss").text_content()) == pytest.approx(
        plain.evaluate("current().loss"), rel=1e-3
    )
    plain.keyboard.press("Home")
    assert "The answer if the model stopped here" in plain.locator("#forward-equations h3").all_text_contents()
    assert result(plain, "forward", "loss").count() == 0


def test_other_activations_are_called_by_their_names(opened):
    page = opened("relu")
    symbols = page.locator("#equations .symbols").all_text_contents()
    assert {"i = hard σ(z_i):", "g = relu(z_g):", "h = o · relu(c):", "dz_g = dg · relu′(z_g):"} <= set(symbols)
    assert not any("tanh" in line for line in symbols)
    assert "tanh" not in " ".join(page.locator("#forward-picture text").all_text_contents())


def test_a_masked_step_passes_the_state_on(opened):
    page = opened("masked")
    page.locator("#padding").click()
    page.locator("#words button.padding").first.click()
    symbols = page.locator("#equations .symbols").all_text_contents()
    assert {"c = c_prev:", "h = h_prev:", "dc_prev = dc:"} <= set(symbols)


# --- readers ----------------------------------------------------------------------------------------------------------


def test_the_pictures_and_equations_read_as_text(plain):
    plain.locator("#words button").nth(2).click()

    def check_picture(view):
        text = plain.locator("#status").inner_text().split(". ", 1)[1]
        label = plain.locator(f"#{view}-picture").get_attribute("aria-label")
        assert label == f"The cell at {quoted('film')}, {view}. {text}"

    check_picture("forward")
    line = plain.locator("#forward-equations li:has(.result[data-value=c])")
    read = re.sub(r"\s+", " ", re.sub(r"- (?:text|button|subscript):?|\"", "", line.aria_snapshot()))
    assert re.search(r"\(5\) c = f · c _ ?prev \+ i · g ?: 0\.\d+ · ", read)
    assert read.endswith(f" = {result(plain, 'forward', 'c').text_content()}")
    show(plain, "backward")
    check_picture("backward")


@pytest.mark.parametrize(("name", "width"), [("plain", 390), ("plain", 360), ("relu", 390)])
def test_a_phone_shows_large_texts_and_controls_without_scrolling_sideways(opened, fits, name, width):
    page = opened(name, viewport={"width": width, "height": 740})
    for view in VIEWS:
        show(page, view)
        page.keyboard.press("End")
        if name == "plain":  # which can be changed
            page.evaluate("experimentWith({ held: [{ gate: 'f', unit: null, value: 1 }] })")
        page.locator("#slider").focus()
        fits(page, least=14 if width == 390 else 12.9)
        low = page.locator("button:visible:not(.link), select:visible").evaluate_all(
            "all => all.filter(node => node.getBoundingClientRect().height < 38).map(node => node.outerHTML)"
        )
        assert low == []


def test_on_paper_both_directions_are_light_and_complete(opened):
    page = opened("plain", color_scheme="dark")
    page.keyboard.press("End")
    page.emulate_media(media="print")
    assert style(page.locator("body"), "backgroundColor") == "rgb(255, 255, 255)"
    for selector in ("#play", "#theme", "#slider", "#forward-tab", "#change", "#nudge-form"):
        assert page.locator(selector).is_hidden()
    of_cell = [f"#{view}-{part}" for view in VIEWS for part in ("picture", "equations")]
    for selector in ("#words", "#status", "#map", *of_cell):
        assert page.locator(selector).is_visible()
    positions = page.locator("body *").evaluate_all("all => all.map(node => getComputedStyle(node).position)")
    assert "sticky" not in positions
    assert style(page.locator("#words button").first, "printColorAdjust") == "exact"
    corner = page.locator("#map canvas").evaluate("c => [...c.getContext('2d').getImageData(0, 0, 1, 1).data]")
    assert min(corner[:3]) > 100 or max(corner[:3]) - min(corner[:3]) > 60  # mixed with white, and not with black
    page.set_viewport_size({"width": 718, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
