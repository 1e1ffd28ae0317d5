"""The explorer page as a reader uses it, in a real Chromium."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, as_read, sentiment, stacked

from scratchlstm.inspection import explore, trace
from scratchlstm.layers import LSTM, Dense
from scratchlstm.preprocessing.text import text_to_word_sequence

STEPS = 12  # of the sentence, as many as the model reads: its start mark is cut
WORDS = "#words button[data-step]"
FORWARD_NUMBERS = [f"({n})" for n in range(1, 7)]
BACKWARD_NUMBERS = [f"({n})" for n in range(7, 22)]
EVIL = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;"]
PHONE = {"viewport": {"width": 390, "height": 740}}


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
        "no label": (_regression(), SENTENCE),
        "padded": (sentiment(mask_zero=True), "a wonderful film"),
        "float64": (_float64(), SENTENCE),
        "relu": (sentiment(LSTM(4, activation="relu", recurrent_activation="hard_sigmoid")), SENTENCE),
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
    assert inside.locator("#status").inner_text().startswith("Step 2 of 12")
    assert inside.locator(WORDS).count() == STEPS
    assert inside.locator("body").evaluate("body => body.scrollWidth <= body.clientWidth")
    assert shown.locator("iframe").bounding_box()["height"] > 600
    assert shown.locator("p").inner_text() == f"the page {tmp_path / 'page.html'}"


def traced(model, text=SENTENCE):
    x = as_read(model, text_to_word_sequence(text))
    return trace(model, x, np.round(model.predict(x, verbose=0)))


def number(text):
    return float(text.strip("()").replace("−", "-"))


def current(page):
    """Number of the word that is marked, where the slider and the status are, too."""
    marks = page.locator(WORDS).evaluate_all("all => all.map(b => b.getAttribute('aria-current'))")
    assert marks.count("step") == 1
    step = marks.index("step")
    assert page.locator("#slider").input_value() == str(step)
    assert page.locator("#status").inner_text().startswith(f"Step {step + 1} of {len(marks)}: ")
    return step


# --- numbers ----------------------------------------------------------------------------------------------------------

STATES = ["i", "f", "g", "o", "c", "h", "c_prev", "h_prev", "z_i", "z_f", "z_g", "z_o"]
GRADIENTS = ["dh_above", "dh_next", "dh", "dh_prev", "dc_next", "dc", "dc_prev", "dz_i", "dz_f", "dz_g", "dz_o"]
# of two units at each step: what is printed in the picture and in the equations; not 1 − i and the like
PRINTED = """() => state.units.slice(0, 2).flatMap((unit) => everyStep(current(), (step) => {
    if (step < firstStep()) return [];
    lookAt({ unit, step, from: unit });
    const places = document.querySelectorAll("#pictures [data-value], #equations [data-value]:not([title^='1 −'])");
    const digits = (place) => (place.closest("svg") ? 3 : 4);
    return Array.from(places, (place) => [step, unit, place.dataset.value, place.textContent, digits(place)]);
})).flat()"""


@pytest.mark.parametrize("name", ["plain", "padded", "backwards", "tiny"])
def test_what_is_printed_are_the_numbers_of_trace(opened, files, name):
    layer = traced(files[name][1], "a wonderful film" if name == "padded" else SENTENCE).lstm
    seen = set()
    for step, unit, key, text, digits in opened(name).evaluate(PRINTED):
        if key in STATES + GRADIENTS:
            expected = getattr(layer, key)[0, step, unit]
            assert number(text) == pytest.approx(expected, rel=0.51 * 10 ** (1 - digits), abs=1e-12), (key, step, unit)
            seen.add(key)
    assert seen == {*STATES, *GRADIENTS}


LINES = "all => all.map((line) => line.querySelector('.numbers').textContent)"


@pytest.mark.parametrize("name", ["plain", "padded", "tiny"])
def test_each_line_of_arithmetic_adds_up(opened, name):
    """All that is between the = signs of a line gives, computed from the printed digits, the same."""
    page = opened(name)
    counted = 0
    for _ in range(page.locator(WORDS).count()):
        for line in page.locator("#equations .equations li").evaluate_all(LINES):
            parts = line.split(" = ")
            if len(parts) < 2 or re.search(r"[a-z]", re.sub(r"tanh|e−?\d+", "", line)):
                continue  # more than arithmetic, such as the length of a vector
            values = [eval(_python(part), {"exp": np.exp, "tanh": np.tanh}) for part in parts]
            terms = max(abs(number(part)) for part in re.findall(r"−?\d[\d.]*(?:e−?\d+)?", line))
            for value in values:
                assert value == pytest.approx(values[-1], abs=2e-3 * max(terms, abs(value)) + 1e-9), line
            counted += 1
        page.keyboard.press("ArrowRight")
    assert counted >= 20 * page.locator(WORDS).count()


def _python(part):
    part = re.sub(r"^σ\((.*)\)$", r"1 / (1 + exp(-(\1)))", part)
    return part.replace("−", "-").replace("·", "*").replace("²", "**2")


def test_equations_are_numbered_as_in_gates(plain):
    def numbers(view):
        return [text for text in plain.locator(f"#{view}-equations .number").all_text_contents() if text]

    assert numbers("forward") == FORWARD_NUMBERS
    assert numbers("backward") == BACKWARD_NUMBERS


def test_outputs_are_below_the_words(plain, files):
    shown = plain.locator("#words small").all_text_contents()
    assert number(shown[-1]) == pytest.approx(traced(files["plain"][1]).prediction[0, 0], rel=1e-3)
    assert shown == plain.evaluate("current().p.map(([p]) => shown(p))")


# --- every control ----------------------------------------------------------------------------------------------------


def test_buttons_words_and_slider_step(plain):
    assert current(plain) == 0
    plain.get_by_role("button", name="Step forward").click()
    assert current(plain) == 1
    plain.get_by_role("button", name="Step back").click()
    assert current(plain) == 0
    assert plain.locator("#previous").get_attribute("aria-disabled") == "true"
    plain.locator(WORDS).nth(7).click()
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
    assert current(plain) == STEPS - 1
    assert play.inner_text() == "Play"
    play.click()  # from the beginning again
    assert current(plain) == 0


def test_the_unit_picker_is_sorted_and_changes_the_numbers(plain):
    scores = [number(text.split()[1]) for text in plain.locator("#unit option").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 5
    before = plain.locator("#forward-equations").inner_text()
    plain.locator("#unit").select_option("1")
    assert plain.locator("#forward-equations").inner_text() != before
    plain.locator("#unit").select_option(str(plain.evaluate("state.units[0]")))
    assert plain.locator("#forward-equations").inner_text() == before


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


def views(page):
    return [
        page.locator(f"#{view}-{part}").is_visible()
        for view in ("forward", "backward")
        for part in ("picture", "equations")
    ]


def test_tabs_by_mouse_and_keyboard(plain):
    assert views(plain) == [True, True, False, False]
    plain.get_by_role("tab", name="Backward").click()
    assert views(plain) == [False, False, True, True]
    plain.keyboard.press("ArrowLeft")
    assert views(plain) == [True, True, False, False]
    assert plain.get_by_role("tab", name="Forward").get_attribute("aria-selected") == "true"
    assert current(plain) == 0


def test_padding_is_one_button_until_it_is_unfolded(opened):
    page = opened("padded")
    shown = page.locator("#words button:visible")
    assert page.locator(WORDS).count() == 4
    assert shown.first.inner_text() == "8 × padding"
    shown.first.click()
    assert page.locator("#padding").get_attribute("aria-expanded") == "true"
    assert page.locator(WORDS).count() == STEPS
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert current(page) == 0
    assert page.locator("#masked").is_visible()
    page.locator("#padding").click()
    assert page.locator(WORDS).count() == 4
    assert page.locator("#status").inner_text().startswith("Step 9 of 12")
    assert page.locator("#masked").is_hidden()


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


@pytest.mark.parametrize("name", ["plain", "stacked", "long", "odd", "tiny"])
def test_a_phones_width_needs_no_scrolling_to_the_side_and_no_magnifying_glass(opened, fits, name):
    page = opened(name, **PHONE)
    for view in ("Forward", "Backward"):
        page.get_by_role("tab", name=view).click()
        for key in ("Home", "ArrowRight", "End"):
            page.locator("h1").click()
            page.keyboard.press(key)
            fits(page)


# the box of each text in the picture that is shown, at every step
BOXES = """() => everyStep(current(), (step) => {
    goTo(step);
    const picture = document.querySelector(".picture:not([hidden])");
    const { x, y, width, height } = picture.viewBox.baseVal;
    const texts = [...picture.querySelectorAll("text")].filter((text) => text.textContent);
    return [[x, y, width, height], texts.map((text) => {
        const box = text.getBBox();
        return [text.textContent, text.dataset.value, box.x, box.y, box.width, box.height];
    })];
})"""


@pytest.mark.parametrize("name", ["relu", "tiny", "float64"])
@pytest.mark.parametrize("view", ["Forward", "Backward"])
def test_every_text_of_the_picture_is_in_it_and_none_lies_on_another(opened, name, view):
    page = opened(name)
    page.get_by_role("tab", name=view).click()
    printed = []
    for (left, top, width, height), boxes in page.evaluate(BOXES):
        gates = [
            (x, w)
            for _, key, x, _, w, _ in boxes
            if key in [("d" if view == "Backward" else "") + gate for gate in "ifgo"]
        ]
        assert len(gates) == 4
        for x, w in gates:  # in its box
            assert any(edge <= x < x + w <= edge + 84 for edge in (13, 103, 193, 283))
        for place, (text, key, x, y, w, h) in enumerate(boxes):
            assert left <= x < x + w <= left + width, text
            assert top <= y < y + h <= top + height, text
            printed += [text] if key else []
            for other, _, x2, y2, w2, h2 in boxes[place + 1 :]:
                apart_x = x + w <= x2 or x2 + w2 <= x
                assert apart_x or y + 0.8 * h <= y2 or y2 + 0.8 * h2 <= y, (text, other)
    if (name, view) == ("tiny", "Backward"):
        assert any(re.fullmatch(r"−\d\.\d\de−\d\d", text) for text in printed)


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.firstChild?.textContent")


def test_everything_can_be_reached_and_is_named(plain):
    seen = []
    for _ in range(24):
        plain.keyboard.press("Tab")
        seen.append(focused(plain))
        assert plain.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen
    order = ["theme", "a", "previous", "play", "next", "slider", "unit", "forward-tab"]
    assert [each for each in seen if each in order] == order
    controls = "button, select, input, [tabindex='0']"
    for name, label, stop in plain.locator(f":is({controls}):visible").evaluate_all(
        """(all, groups) => all.map((e) => [
            e.outerHTML.slice(0, 120), (e.ariaLabel || e.labels?.[0]?.textContent || e.textContent).trim(),
            e.tabIndex === 0 || e.closest(groups)?.querySelectorAll("[tabindex='0']").length === 1,
        ])""",
        "#words, #chain, .strip, [role=tablist]",
    ):
        assert label, f"no name: {name}"
        assert stop, f"not reached by the Tab key or the arrow keys: {name}"


def test_the_words_are_one_stop_in_which_the_arrow_keys_move(opened):
    page = opened("long")
    for key in ("Tab", "Tab", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    place = f"[...document.querySelectorAll('{WORDS}')].indexOf(document.activeElement)"
    assert current(page) == page.evaluate(place) == 1
    page.keyboard.press("End")
    assert current(page) == page.evaluate(place) == 99
    assert page.locator("#words button[tabindex='0']").count() == 1
    page.locator("#previous").focus()
    page.keyboard.press("ArrowLeft")  # elsewhere the focus stays
    assert current(page) == 98
    assert page.evaluate("document.activeElement.id") == "previous"


def test_the_focus_stays_at_the_last_step(plain):
    plain.locator("#next").focus()
    for step in range(1, STEPS + 2):
        plain.keyboard.press("Enter")
        assert current(plain) == min(step, STEPS - 1)
        assert plain.evaluate("document.activeElement.id") == "next"


# each text's contrast to what is behind it, if that is below 4.5 to 1 (WCAG AA)
PALE_TEXTS = """() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const dot = canvas.getContext("2d", { willReadFrequently: true });
    const rgb = (color) => {
        dot.clearRect(0, 0, 1, 1);
        dot.fillStyle = color;
        dot.fillRect(0, 0, 1, 1);
        return [...dot.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (color) => rgb(color).slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const { backgroundColor } = getComputedStyle(e);
            if (rgb(backgroundColor)[3] === 255) return backgroundColor;
        }
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), pale = new Set();
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
        const { parentElement: e } = text;
        if (!text.data.trim() || !e.checkVisibility() || e.closest("option, .unseen, noscript")) continue;
        const style = getComputedStyle(e);
        const colors = [e.closest("svg") ? style.fill : style.color, ground(e)];
        const [light, dark] = colors.map(luminance).sort((a, b) => b - a);
        const contrast = (light + 0.05) / (dark + 0.05);
        if (contrast < 4.5) pale.add(`${contrast.toFixed(2)}: ${text.data.trim().slice(0, 30)} in ${e.tagName}`);
    }
    return [...pale];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened, scheme):
    page = opened("plain", color_scheme=scheme)
    for view in ("Forward", "Backward"):
        page.get_by_role("tab", name=view).click()
        for step in (0, STEPS - 1):
            page.locator(WORDS).nth(step).click()
            page.mouse.move(0, 0)
            assert page.evaluate(PALE_TEXTS) == []


def test_a_long_text_scrolls_to_its_word_and_the_page_stays(opened):
    page = opened("long", **PHONE)
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
    words = page.locator(WORDS).evaluate_all("all => all.map(b => b.firstChild.textContent)")
    assert words == ["<start>", "film", "🎬", "שלום", *EVIL, "w" * 300]
    assert page.locator("img").count() == 0
    page.keyboard.press("End")
    assert "Dashed words are unknown" in page.locator("#notes").inner_text()


def test_what_was_left_out_and_what_is_padding_is_said(opened):
    assert "9900 earlier words are left out" in opened("long").locator("#notes").inner_text()
    assert "8 steps of padding, which the mask skips" in opened("padded").locator("#notes").inner_text()


@pytest.mark.parametrize(("name", "why"), [("no loss", "was not compiled"), ("no label", "Enter it")])
def test_a_model_without_a_loss_or_label_has_no_backward_pass(opened, name, why):
    page = opened(name)
    page.get_by_role("tab", name="Backward").click()
    assert page.locator("#no-loss").is_visible()
    assert why in page.locator("#no-loss").inner_text()
    assert views(page) == [False, False, False, False]
    page.keyboard.press("ArrowLeft")
    assert views(page) == [True, True, False, False]


def test_pictures(opened):
    """Taken for the reader's eyes where EXPLORER_PICTURES names a folder; in any case the two schemes differ."""
    folder = os.environ.get("EXPLORER_PICTURES")
    taken = {}
    for scheme in ("light", "dark"):
        for width, view in [(1280, "Forward"), (360, "Backward")]:
            page = opened("plain", color_scheme=scheme, viewport={"width": width, "height": 900})
            page.get_by_role("tab", name=view).click()
            page.locator(WORDS).nth(9).click()
            taken[scheme, width, view] = page.screenshot(full_page=True)
            if folder:
                name = f"{scheme}_{width}_{view.lower()}.png"
                (Path(folder) / name).write_bytes(taken[scheme, width, view])
    assert len(set(taken.values())) == len(taken)


# --- from the word to the loss and back -------------------------------------------------------------------------------

CHAIN = [
    "E",
    "x",
    "xW",
    "hU",
    "b",
    "z_f",
    "f",
    "c",
    "h",
    "logit",
    "p",
    "loss",
    "dlogit",
    "dh",
    "dc",
    "df",
    "dz_f",
    "dW",
    "dU",
    "db",
    "dx",
    "dE",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_with_the_keyboard_alone_from_the_word_to_the_loss_and_back(opened, width, scheme):
    page = opened("plain", viewport={"width": width, "height": 800}, color_scheme=scheme)
    for key in ("Tab", "Tab", "End"):  # the words, the last one
        page.keyboard.press(key)
    assert current(page) == STEPS - 1
    in_chain = "document.activeElement.closest('#chain') !== null"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(in_chain):
            break
    page.keyboard.press("Home")
    followed = []
    for _ in CHAIN:
        assert page.evaluate(in_chain)
        chosen, value = page.evaluate("[state.chosen.name, shown(valueOf(current(), state.chosen), 6)]")
        followed.append(chosen)
        assert value in page.locator("#number-title").inner_text()
        assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
        box = page.evaluate("(({ left, right }) => [left, right])(document.activeElement.getBoundingClientRect())")
        assert 0 <= box[0] < box[1] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("ArrowRight")
    assert followed == CHAIN
    for _ in CHAIN:
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("state.chosen.name") == "E"
    assert current(page) == STEPS - 1
