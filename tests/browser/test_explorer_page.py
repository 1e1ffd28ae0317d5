"""The explorer page as a reader uses it, in a real Chromium."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, sentiment, stacked

from scratchlstm.datasets import imdb
from scratchlstm.inspection import explore, trace
from scratchlstm.layers import LSTM, Dense
from scratchlstm.preprocessing.sequence import pad_sequences

STEPS = 12  # of the sentence, as many as the model reads: its start mark is cut
EQUATION_NUMBERS = ["(1)", "(2)", "(3)", "(4)", "(5)", "(6)"]
WAY_BACK_NUMBERS = [f"({n})" for n in range(7, 19)]


def _regression():
    model = sentiment(last=[Dense(1)])
    model.compile("adam", "mse")
    return model


def _float64():
    return sentiment(LSTM(5, dtype="float64"), last=[Dense(1, activation="sigmoid", dtype="float64")])


def _tiny():
    """Large weights, shut gates: numbers that are printed with exponents, the longest there are."""
    model = sentiment()
    model.set_weights([6 * weight for weight in model.get_weights()])
    model.layers[1].params["bias"] -= 6
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One page for each kind of model and text."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "plain": (sentiment(), SENTENCE),
        "stacked": (stacked(), SENTENCE),
        "backwards": (sentiment(LSTM(4, go_backwards=True)), SENTENCE),
        "no loss": (sentiment(compiled=False), SENTENCE),
        "one step": (sentiment(length=1, epochs=0), ["film"]),
        "no label": (_regression(), SENTENCE),
        "padded": (sentiment(mask_zero=True), "a wonderful film"),
        "unmasked": (sentiment(), "a wonderful film"),
        "unmasked, backwards": (sentiment(LSTM(4, go_backwards=True)), "a wonderful film"),
        "float64": (_float64(), SENTENCE),
        "tiny": (_tiny(), SENTENCE),
        "long": (sentiment(LSTM(60), length=100, epochs=0), "good bad " * 5000),
        "odd": (sentiment(epochs=0), ["film", "🎬", "שלום", *EVIL, "w" * 300]),
    }
    for name, (model, text) in texts.items():
        explore(model, text, folder / f"{name}.html", word_index=WORD_INDEX)
    return {name: (folder / f"{name}.html", model) for name, (model, _) in texts.items()}


def test_a_notebook_shows_the_page_in_a_frame(window, tmp_path):
    page = explore(sentiment(), SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{page._repr_html_()}", "utf-8")
    shown = window(notebook)
    inside = shown.frame_locator("iframe")
    inside.locator("#next").click()  # so its script runs, by the policy that its file has
    assert inside.locator("#status").inner_text().startswith("Step ")
    assert inside.locator("#words button").count() == STEPS
    assert inside.locator("body").evaluate("body => body.scrollWidth <= body.clientWidth")
    assert shown.locator("iframe").bounding_box()["height"] > 600
    assert shown.locator("p").inner_text() == f"the page {tmp_path / 'page.html'}"


EVIL = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;"]


@pytest.fixture
def opened(files, window):
    return lambda name, **options: window(files[name][0], **options)


@pytest.fixture
def plain(opened):
    return opened("plain")


def traced(model, text=SENTENCE):
    ids = imdb.encode_review(text, num_words=model.layers[0].input_dim, word_index=WORD_INDEX)
    x = pad_sequences([ids], maxlen=model.input_shape[0])
    return trace(model, x, np.round(model.predict(x, verbose=0)))


def number(text):
    return float(text.strip("()").replace("−", "-"))


def as_printed(value, digits=4):
    return float(f"{value:.{digits - 1}e}")


def current(page):
    """Number of the word that is marked, its text, and where the slider stands."""
    marks = page.locator("#words button").evaluate_all("all => all.map(b => b.getAttribute('aria-current'))")
    assert marks.count("step") == 1
    step = marks.index("step")
    assert page.locator("#slider").input_value() == str(step)
    assert page.locator("#status").inner_text().startswith(f"Step {step + 1} of {len(marks)}: ")
    return step


# --- numbers ----------------------------------------------------------------------------------------------------------

_ALL = ["i", "f", "g", "o", "c", "h", "c_prev", "h_prev", "z_i", "z_f", "z_g", "z_o"]
_BACK = ["dh_next", "dh", "dh_prev", "dc_next", "dc", "dc_prev", "dz_i", "dz_f", "dz_g", "dz_o"]


@pytest.mark.parametrize(
    "name", ["plain", "stacked", "backwards", "padded", "unmasked", "unmasked, backwards", "float64", "tiny"]
)
def test_every_number_is_that_of_trace_to_the_printed_digits(opened, files, name):
    text = "a wonderful film" if name.startswith(("padded", "unmasked")) else SENTENCE
    page, layers = opened(name), traced(files[name][1], text).layers
    steps = page.locator("#words button").count()
    for number_of, layer in enumerate(layers.values()):
        if len(layers) > 1:
            page.locator("#layer").select_option(str(number_of))
        for place in range(layer.units):
            page.locator("#unit").select_option(str(place))
            unit = int(page.locator("#unit option:checked").inner_text().split()[0])
            for step in range(steps):
                page.locator("#words button").nth(step).click()
                places = page.locator("[data-value]").evaluate_all(
                    "all => all.map(place => [place.dataset.value, place.textContent, Boolean(place.closest('svg'))])"
                )
                assert {key for key, *_ in places} >= {*_ALL, *_BACK}
                for key, text, in_picture in places:
                    if key in _ALL + _BACK:
                        expected = as_printed(getattr(layer, key)[0, step - steps, unit], 3 if in_picture else 4)
                        assert number(text) == expected, (key, step, unit)
                    if key == "above":
                        assert number(text) == as_printed(layer.dh_above[0, step - steps, unit]), (step, unit)
                length = number(page.locator("#backward-equations [data-value=d_words]").text_content())
                assert length == as_printed(layer.d_words[0, step - steps])


def test_each_line_of_arithmetic_adds_up(plain):
    """What stands before the last = gives, computed from the printed digits, what stands behind it."""
    for _ in range(STEPS):
        for view in ("forward", "backward"):
            for line in plain.locator(f"#{view}-equations .numbers").evaluate_all("all => all.map(e => e.textContent)"):
                if "=" not in line:
                    continue
                left, *_, result = line.split(" = ")
                left = left.replace("σ", "1/(1+exp").replace("−", "-").replace("·", "*").replace("²", "**2")
                left = re.sub(r"1/\(1\+exp\((.*?)\)$", r"1/(1+exp(-(\1)))", left)
                value = eval(left, {"exp": np.exp, "tanh": np.tanh})
                terms = max(abs(number(part)) for part in re.findall(r"[-−]?\d[\d.]*(?:e[-−+]?\d+)?", line))
                assert value == pytest.approx(number(result), abs=2e-3 * max(terms, abs(value)) + 1e-9), line
        plain.keyboard.press("ArrowRight")


def test_equations_are_numbered_as_in_gates(plain):
    def numbers(view):
        return [text for text in plain.locator(f"#{view}-equations .number").all_text_contents() if text]

    assert numbers("forward") == EQUATION_NUMBERS
    assert numbers("backward") == WAY_BACK_NUMBERS


def test_outputs_stand_below_the_words(plain, files):
    shown = plain.locator("#words small").all_text_contents()
    assert number(shown[-1]) == as_printed(traced(files["plain"][1]).prediction[0, 0])
    plain.keyboard.press("End")
    assert plain.locator("#output").inner_text() == shown[-1]


# --- every control ----------------------------------------------------------------------------------------------------


def test_buttons_words_and_slider_step(plain):
    assert current(plain) == 0
    plain.get_by_role("button", name="Step forward").click()
    assert current(plain) == 1
    plain.get_by_role("button", name="Step back").click()
    assert current(plain) == 0
    assert plain.locator("#previous").get_attribute("aria-disabled") == "true"
    plain.locator("#words button").nth(7).click()
    assert current(plain) == 7
    plain.locator("#slider").fill("11")
    assert current(plain) == 11
    assert plain.locator("#next").get_attribute("aria-disabled") == "true"
    assert plain.locator("#previous").get_attribute("aria-disabled") == "false"


def test_keys_step(plain):
    keys = ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft"]
    for key, step in zip(keys, [1, 2, 1, 11, 11, 0, 0], strict=True):
        plain.keyboard.press(key)
        assert current(plain) == step
    plain.locator("#slider").focus()
    plain.keyboard.press("ArrowRight")
    assert current(plain) == 1


def test_keys_of_a_picker_stay_its_own(plain):
    plain.locator("#unit").focus()
    plain.keyboard.press("ArrowRight")
    plain.keyboard.press("End")
    assert current(plain) == 0


def test_play_goes_to_the_end_and_stops(plain):
    plain.clock.install()
    plain.reload()
    play = plain.locator("#play")
    play.click()
    assert play.inner_text() == "Pause"
    plain.clock.run_for(2000)
    assert current(plain) == 2
    play.click()
    assert play.inner_text() == "Play"
    plain.clock.run_for(5000)
    assert current(plain) == 2
    plain.locator("h1").click()
    plain.keyboard.press("Space")
    plain.clock.run_for(30_000)
    assert current(plain) == 11
    assert play.inner_text() == "Play"
    play.click()  # from the beginning again
    assert current(plain) == 0


def test_the_unit_picker_is_sorted_and_changes_the_numbers(plain):
    scores = [number(text.split()[1]) for text in plain.locator("#unit option").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 5
    before = plain.locator("#forward-equations").inner_text()
    chart = plain.locator("#unit-chart").inner_html()
    plain.locator("#unit").select_option("1")
    assert plain.locator("#forward-equations").inner_text() != before
    assert plain.locator("#unit-chart").inner_html() != chart


def test_the_layer_picker_is_there_where_there_are_several(plain, opened):
    assert plain.locator("#layer").is_hidden()
    page = opened("stacked")
    names = page.locator("#layer option").all_text_contents()
    assert names == ["bidirectional/forward", "bidirectional/backward", "lstm"]
    page.locator("#layer").select_option("1")
    assert page.locator("#unit option").count() == 4
    assert "from the last word to the first" in page.locator("#order").inner_text()
    page.locator("#layer").select_option("2")
    assert page.locator("#unit option").count() == 3
    assert "from the last word" not in page.locator("#order").inner_text()


def test_tabs_by_mouse_and_keyboard(plain):
    assert (plain.locator("#forward").is_visible(), plain.locator("#backward").is_visible()) == (True, False)
    plain.get_by_role("tab", name="Backward").click()
    assert (plain.locator("#forward").is_visible(), plain.locator("#backward").is_visible()) == (False, True)
    plain.keyboard.press("ArrowLeft")
    assert plain.locator("#forward").is_visible()
    assert plain.get_by_role("tab", name="Forward").get_attribute("aria-selected") == "true"
    assert current(plain) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_the_button_changes_it(opened, scheme):
    page = opened("plain", color_scheme=scheme)

    def is_dark():
        return page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"

    assert is_dark() == (scheme == "dark")
    page.locator("#theme").click()
    assert is_dark() == (scheme == "light")
    assert page.locator("#theme").get_attribute("aria-pressed") == str(is_dark()).lower()
    page.locator("#theme").click()
    assert is_dark() == (scheme == "dark")


# --- every reader -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "stacked", "long", "odd"])
@pytest.mark.parametrize("view", ["Forward", "Backward"])
def test_a_phones_width_needs_no_scrolling_to_the_side(opened, name, view):
    page = opened(name, viewport={"width": 360, "height": 740})
    page.get_by_role("tab", name=view).click()
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for box in page.locator("main *:visible").evaluate_all(
            "all => all.filter(e => !e.closest('svg')).map(e => e.getBoundingClientRect().right)"
        ):
            assert box <= 360


@pytest.mark.parametrize("name", ["plain", "tiny", "float64"])
@pytest.mark.parametrize("view", ["Forward", "Backward"])
def test_every_text_of_the_picture_is_in_it_and_none_lies_on_another_or_on_a_box_edge(opened, name, view):
    page = opened(name)
    page.get_by_role("tab", name=view).click()
    for step in range(STEPS):
        page.locator("#words button").nth(step).click()
        left, top, width, height, *boxes = page.locator(f"#{view.lower()} .picture").evaluate(
            """picture => {
                const { x, y, width, height } = picture.viewBox.baseVal;
                const texts = [...picture.querySelectorAll('text')].filter(text => text.textContent);
                return [x, y, width, height, ...texts.map(text => {
                    const box = text.getBBox();
                    return [text.textContent, box.x, box.y, box.width, box.height];
                })];
            }"""
        )
        for place, (text, x, y, w, h) in enumerate(boxes):
            assert left <= x < x + w <= left + width, text
            assert top <= y < y + h <= top + height, text
            for edge in (74, 424):  # the cell's body ends there
                assert not x + 0.5 < edge < x + w - 0.5, text
            for other, x2, y2, w2, h2 in boxes[place + 1 :]:
                apart_x = x + w <= x2 or x2 + w2 <= x
                assert apart_x or y + 0.8 * h <= y2 or y2 + 0.8 * h2 <= y, (text, other)
    if (name, view) == ("tiny", "Backward"):
        shown = page.locator("#backward .picture .value text").all_text_contents()
        assert any(re.fullmatch(r"−\d\.\d\de−\d\d", text) for text in shown)


def test_the_numbers_of_a_gate_stay_in_its_box(opened):
    page = opened("tiny")
    for view in ("Forward", "Backward"):
        page.get_by_role("tab", name=view).click()
        for step in range(STEPS):
            page.locator("#words button").nth(step).click()
            boxes = page.locator(f"#{view.lower()} .picture .value text[y='263']").evaluate_all(
                "all => all.map(text => [text.getBBox().x, text.getBBox().width])"
            )
            assert len(boxes) == 4
            for (x, width), left in zip(boxes, (80, 166, 252, 338), strict=True):
                assert left <= x < x + width <= left + 80


def test_everything_can_be_reached_and_is_named(plain):
    seen = []
    for _ in range(10):
        plain.keyboard.press("Tab")
        seen.append(plain.evaluate("document.activeElement.id || document.activeElement.firstChild?.textContent"))
        outline = plain.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or plain.evaluate("document.activeElement === document.body")
    assert seen[:8] == ["theme", "a", "previous", "play", "next", "slider", "unit", "forward-tab"]
    for control in plain.locator("button:visible, select:visible, input:visible").all():
        named = control.evaluate("e => (e.ariaLabel || e.labels?.[0]?.textContent || e.textContent).trim()")
        assert named


def test_the_words_are_one_stop_in_which_the_arrow_keys_move(opened):
    page = opened("long")
    for key in ("Tab", "Tab", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    focused = "[...document.querySelectorAll('#words button')].indexOf(document.activeElement)"
    assert current(page) == page.evaluate(focused) == 1
    page.keyboard.press("End")
    assert current(page) == page.evaluate(focused) == 99
    assert page.locator("#words button[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "previous"
    page.keyboard.press("ArrowLeft")  # elsewhere the focus stays
    assert current(page) == 98
    assert page.evaluate("document.activeElement.id") == "previous"


def test_the_focus_stays_at_the_last_step(plain):
    plain.locator("#next").focus()
    for step in range(1, STEPS + 2):
        plain.keyboard.press("Enter")
        assert current(plain) == min(step, STEPS - 1)
        assert plain.evaluate("document.activeElement.id") == "next"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened, scheme):
    """WCAG AA: 4.5 to 1."""
    page = opened("plain", color_scheme=scheme)
    colors = page.evaluate(
        """() => {
            const made = document.body.appendChild(document.createElement('i')), read = {};
            for (const name of ['ground', 'card', 'gate', 'ink', 'quiet', 'ahead', 'back', 'third']) {
                made.style.color = `var(--${name})`;
                read[name] = getComputedStyle(made).color.match(/\\d+/g).map(Number);
            }
            return read;
        }"""
    )

    def luminance(color):
        parts = [part / 255 for part in colors[color]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    for text in ("ink", "quiet", "ahead", "back", "third"):
        for ground in ("ground", "card", *(["gate"] if text == "ink" else [])):
            light, dark = sorted([luminance(text), luminance(ground)], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_a_long_text_scrolls_to_its_word_and_the_page_stays(opened):
    page = opened("long", viewport={"width": 360, "height": 740})
    page.evaluate("scrollTo(0, 700)")
    for key, word in [("End", -1), ("Home", 0)]:
        page.keyboard.press(key)
        word, words = (page.locator(f"#words{part}").bounding_box() for part in (f" li >> nth={word}", ""))
        assert words["y"] <= word["y"]
        assert word["y"] + word["height"] <= words["y"] + words["height"]
        assert page.evaluate("scrollY") == 700


# --- every text and model ---------------------------------------------------------------------------------------------


def test_odd_words_are_shown_as_text(opened):
    page = opened("odd")
    words = page.locator("#words button").evaluate_all("all => all.map(b => b.firstChild.textContent)")
    assert words == ["<start>", "film", "🎬", "שלום", *EVIL, "w" * 300]
    assert page.locator("img").count() == 0
    page.keyboard.press("End")
    assert "Dashed words are unknown" in page.locator("#notes").inner_text()


def test_what_was_left_out_and_what_is_padding_is_said(opened):
    assert "9900 words before these are left out" in opened("long").locator("#notes").inner_text()
    assert "8 steps of padding, which the mask skips" in opened("padded").locator("#notes").inner_text()


@pytest.mark.parametrize(("name", "why"), [("no loss", "was not compiled"), ("no label", "Give it as label")])
def test_a_model_without_a_loss_or_label_has_no_way_back(opened, name, why):
    page = opened(name)
    page.get_by_role("tab", name="Backward").click()
    assert page.locator("#no-loss").is_visible()
    assert why in page.locator("#no-loss").inner_text()
    assert page.locator("#backward").is_hidden()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#forward").is_visible()


def test_a_single_step(opened):
    page = opened("one step")
    page.locator("#play").click()
    assert current(page) == 0
    assert page.locator("#play").inner_text() == "Play"


def test_pictures(opened):
    """Taken for the reader's eyes where EXPLORER_PICTURES names a folder; in any case the two schemes differ."""
    folder = os.environ.get("EXPLORER_PICTURES")
    taken = {}
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            for view in ("Forward", "Backward"):
                page = opened("plain", color_scheme=scheme, viewport={"width": width, "height": 900})
                page.get_by_role("tab", name=view).click()
                page.locator("#words button").nth(9).click()
                taken[scheme, width, view] = page.screenshot(full_page=True)
                if folder:
                    name = f"{scheme}_{width}_{view.lower()}.png"
                    (Path(folder) / name).write_bytes(taken[scheme, width, view])
    assert len(set(taken.values())) == len(taken)
