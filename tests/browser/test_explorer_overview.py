"""The explorer page's overview: the heatmap, the lines over the words, the sentence for each step, playing."""

import re

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, sentiment, stacked

from scratchlstm.datasets import imdb
from scratchlstm.inspection import explore, trace
from scratchlstm.layers import LSTM
from scratchlstm.preprocessing.sequence import pad_sequences

WORDS = ["a", "wonderful", "film", "i", "loved", "every", "minute", "the", "plot", "was", "not", "bad"]
LAST = len(WORDS) - 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One page for each kind of model and text."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "plain": (sentiment(), SENTENCE),
        "masked": (sentiment(mask_zero=True, epochs=0), "a wonderful film"),
        "backwards": (sentiment(LSTM(3, go_backwards=True), epochs=0), SENTENCE),
        "stacked": (stacked(), SENTENCE),
        "no loss": (sentiment(compiled=False), SENTENCE),
        "one word": (sentiment(length=1, epochs=0), ["film"]),
        "large": (sentiment(LSTM(256), length=200, epochs=0), "good bad film " * 80),
    }
    for name, (model, text) in texts.items():
        explore(model, text, folder / f"{name}.html", word_index=WORD_INDEX, most_bytes=3_000_000)
    return {name: (folder / f"{name}.html", model) for name, (model, _) in texts.items()}


@pytest.fixture(scope="module")
def layer(files):
    """What `trace` finds of the plain model."""
    model = files["plain"][1]
    ids = imdb.encode_review(SENTENCE, num_words=model.layers[0].input_dim, word_index=WORD_INDEX)
    x = pad_sequences([ids], maxlen=len(WORDS))
    return trace(model, x, np.round(model.predict(x, verbose=0))).lstm


def units(page):
    """The units, in the order of the picker."""
    return [int(text.split()[0]) for text in page.locator("#unit option").all_inner_texts()]


def number(text):
    return float(text.replace("−", "-"))


def center(page, row, column):
    """Where a cell of the heatmap is, as a position in it."""
    box = page.locator("#map .cells").bounding_box()
    rows, columns = page.evaluate("[state.units.length, overviewMap.drawn.columns.length]")
    return {"x": (column + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows}


def status(page):
    """What the page says about the step, after its number and word."""
    return page.locator("#status").inner_text().split(". ", 1)[1].replace("\N{NO-BREAK SPACE}", " ")


def pixels(page):
    """The heatmap's colours, (rows, columns, 3)."""
    drawn = page.locator("#map canvas").evaluate("""canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return [canvas.height, canvas.width, ...copy.getImageData(0, 0, canvas.width, canvas.height).data];
    }""")
    return np.reshape(drawn[2:], (*drawn[:2], 4))[..., :3]


# --- the heatmap ------------------------------------------------------------------------------------------------------


def test_the_heatmap_has_each_quantity_of_trace_in_the_order_of_the_picker(plain, layer):
    offered = plain.locator("#shown option").evaluate_all("all => all.map(option => option.value)")
    assert offered == ["i", "f", "g", "o", "c", "h", "dc", "dh", "c · dc", "dz_i", "dz_f", "dz_g", "dz_o"]
    for name in offered:
        plain.locator("#shown").select_option(name)
        values = layer.c * layer.gradient("dc") if name == "c · dc" else getattr(layer, name)
        for row, column in [(0, 0), (1, 7), (4, LAST)]:
            plain.locator("#map .cells").hover(position=center(plain, row, column))
            unit = units(plain)[row]
            text = plain.locator("#map .told").inner_text()
            assert text.startswith(f"unit {unit}, {WORDS[column]}: {name} = ")
            assert number(text.split(" = ")[1]) == pytest.approx(values[0, column, unit], rel=1e-3)


def test_colours_tell_sign_and_size(plain, layer):
    c = layer.c[0].T[units(plain)]  # (H, T)
    redness = np.subtract(*pixels(plain)[..., [0, 2]].transpose(2, 0, 1))  # orange has more red than blue
    clear = np.abs(c) > 0.1 * np.abs(c).max()
    assert ((redness < 0) == (c > 0))[clear].all()
    order = np.argsort(np.abs(c), axis=None)
    darkness = 255 - pixels(plain).min(axis=-1)
    assert darkness.flat[order[-1]] == 255  # the end of the scale
    assert darkness.flat[order[0]] < 10
    assert plain.locator("#map .scale").inner_text().split() == [
        f"−{np.abs(c).max():.2f}", f"{np.abs(c).max():.2f}"
    ]  # fmt: skip
    plain.locator("#shown").select_option("f")
    assert plain.locator("#map .scale").inner_text().split() == ["0", "1"]
    f = layer.f[0].T[units(plain)]
    lightness = pixels(plain).sum(axis=-1)
    assert lightness.flat[f.argmax()] == lightness.min()
    assert lightness.flat[f.argmin()] == lightness.max()


def test_the_theme_changes_the_colours(plain):
    before = pixels(plain)
    plain.locator("#theme").click()
    assert pixels(plain).sum() < before.sum()


def test_a_click_and_the_arrow_keys_choose_unit_and_word(plain, layer):
    order = units(plain)
    cells = plain.locator("#map .cells")

    def check(row, column):
        assert plain.locator("#unit").input_value() == str(order[row])
        assert plain.locator("#words [aria-current]").inner_text().split()[0] == WORDS[column]
        value = number(plain.locator("#forward-picture [data-value=c]").text_content())
        assert value == pytest.approx(layer.c[0, column, order[row]], rel=6e-3)
        ring, canvas = (plain.locator(f"#map {part}").bounding_box() for part in (".ring", "canvas"))
        assert ring["x"] - canvas["x"] == pytest.approx(column * ring["width"], abs=1)
        assert ring["y"] - canvas["y"] == pytest.approx(row * ring["height"], abs=1)

    cells.click(position=center(plain, 3, 4))
    check(3, 4)
    cells.focus()
    for key, row, column in [
        ("ArrowDown", 4, 4), ("ArrowDown", 4, 4), ("ArrowRight", 4, 5), ("ArrowUp", 3, 5), ("ArrowLeft", 3, 4),
        ("End", 3, LAST), ("ArrowRight", 3, LAST), ("Home", 3, 0),
    ]:  # fmt: skip
        plain.keyboard.press(key)
        check(row, column)
    assert cells.get_attribute("aria-label").startswith("Heatmap of c: 5 units, the most important first, by 12 words")
    assert cells.get_attribute("aria-description") == plain.locator("#map .told").inner_text()


def test_padding_is_folded_in_the_heatmap_and_the_lines_unless_it_is_unfolded(opened):
    page = opened("masked")
    columns = page.locator("#map .columns span")
    assert columns.all_inner_texts() == ["<start>", "a", "wonderful", "film"]
    assert pixels(page).shape == (5, 4, 3)
    page.locator("#padding").click()
    assert columns.count() == len(WORDS)
    assert pixels(page).shape == (5, len(WORDS), 3)
    page.locator("#map .cells").click(position=center(page, 0, 2))
    assert page.locator("#status").inner_text().startswith("Step 3 of 12: <padding>")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_large_map_scrolls_in_its_own_box_to_the_chosen_cell(opened, width):
    page = opened("large", viewport={"width": width, "height": 900})
    page.evaluate("lookAt({ unit: state.units[230], step: 190 })")
    box, ring = (page.locator(f"#map {part}").bounding_box() for part in (".box", ".ring"))
    assert box["x"] <= ring["x"] <= box["x"] + box["width"]
    assert box["y"] <= ring["y"] <= box["y"] + box["height"] <= box["y"] + 400
    assert min(ring["width"], ring["height"]) > 2.9
    assert page.locator("body").evaluate("body => body.scrollWidth <= body.clientWidth")
    assert page.locator("#map .columns").is_hidden()  # no room for 200 words


def test_a_recorded_page_shows_the_chosen_layer(opened):
    page = opened("stacked")
    assert pixels(page).shape == (4, len(WORDS), 3)
    page.locator("#layer").select_option("2")
    assert pixels(page).shape == (3, len(WORDS), 3)


def test_without_a_loss_the_overview_has_the_states_in_both_views(opened):
    page = opened("no loss")
    page.locator("#backward-tab").click()
    assert page.locator("#shown optgroup:not([hidden]) option").count() == 6
    page.locator("#shown").select_option("o")
    assert " o = " in page.locator("#map .told").inner_text()
    assert page.locator("#unit-key").inner_text().startswith("i ")
    assert status(page) == "Without a loss there are no gradients."


# --- the lines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "names"), [("forward", "ifoch"), ("backward", ["dc", "dh"])])
def test_lines_run_through_the_units_values(plain, layer, view, names):
    plain.locator(f"#{view}-tab").click()
    plain.locator("#words button").nth(5).click()
    unit = units(plain)[0]
    curves = (
        plain.locator("#lines .plot").first.locator(".curve").evaluate_all("all => all.map(c => c.getAttribute('d'))")
    )
    assert len(curves) == len(names)
    at, values = [], []
    for name, curve in zip(names, curves, strict=True):
        points = [list(map(float, point.split(","))) for point in curve.split("L")[1].split()]
        assert [x for x, _ in points] == [step + 0.5 for step in range(len(WORDS))]
        at += [1 - y for _, y in points]
        values += list(getattr(layer, name)[0, :, unit])
    slope, offset = np.polyfit(values, at, 1)
    assert slope > 0
    np.testing.assert_allclose(at, slope * np.array(values) + offset, atol=1e-5)
    keys = plain.locator("#unit-key .key")
    assert keys.all_inner_texts() == [
        f"{name} {getattr(layer, name)[0, 5, unit]:#.3g}".replace("-", "−") for name in names
    ]  # fmt: skip
    dashes = keys.evaluate_all("all => all.map(key => getComputedStyle(key, '::before').borderTopStyle)")
    assert set(dashes) == {"solid" if view == "forward" else "dashed"}


def test_a_click_on_the_lines_chooses_the_word(plain):
    for plot in range(2):  # of the unit, of the output
        svg = plain.locator("#lines svg").nth(plot)
        box = svg.bounding_box()
        for step in (8, 3):
            svg.click(position={"x": (step + 0.5) * box["width"] / len(WORDS), "y": 20})
            assert plain.locator("#words [aria-current]").inner_text().split()[0] == WORDS[step]
            below = plain.locator("#words [aria-current] small").inner_text()
            assert number(plain.locator("#output-key").inner_text().split()[1]) == pytest.approx(
                number(below), rel=5e-3
            )


# --- the sentence for each step ---------------------------------------------------------------------------------------

_NUMBER = r"(−?[\d.]+(?:e−?\d+)?)"


def told(pattern, text):
    """The numbers at the marks # of a pattern."""
    found = re.fullmatch(re.escape(pattern).replace(r"\#", _NUMBER), text)
    assert found, text
    return list(map(number, found.groups()))


def everywhere(page):
    """Goes to each unit and step, and gives them with the sentence shown."""
    for unit in units(page):
        for step in range(len(WORDS)):
            page.evaluate("where => lookAt(where)", {"unit": unit, "step": step})
            yield unit, step, status(page)


def values_of(layer, step, unit, *names):
    return [getattr(layer, name)[0, step, unit] for name in names]


def test_forward_in_words(plain, layer):
    for unit, step, text in everywhere(plain):
        i, f, g, o, c_prev, c, h = values_of(layer, step, unit, "i", "f", "g", "o", "c_prev", "c", "h")
        kept = "keeps # % of # (f)" if step else "has nothing to keep (c_prev = 0)"
        pattern = f"Unit {unit} {kept} and adds # % of # (i · g): c = #. It shows # % of tanh(c) (o): h = #."
        *printed_f, printed_i, printed_g, printed_c, printed_o, printed_h = told(pattern, text)
        assert printed_f == ([pytest.approx(100 * f, abs=0.51), pytest.approx(c_prev, rel=6e-3)] if step else [])
        assert [printed_i, printed_o] == pytest.approx([100 * i, 100 * o], abs=0.51)
        assert [printed_g, printed_c, printed_h] == pytest.approx([g, c, h], rel=6e-3)


def test_backward_in_words(plain, layer):
    plain.locator("#backward-tab").click()
    for unit, step, text in everywhere(plain):
        f, dc, dc_next, dc_prev = values_of(layer, step, unit, "f", "dc", "dc_next", "dc_prev")
        pattern = f"A larger c in unit {unit} would {'raise' if dc > 0 else 'lower'} the loss: dc = #, "
        expected = [dc]
        if step == LAST:
            pattern += "all of it through h. "
        else:
            pattern += "the sum of # from the next step and # through h. "
            expected += [dc_next, dc - dc_next]
        if step == 0:
            printed = told(pattern + "There is no previous step to pass dc on to.", text)
        else:
            *printed, share, passed = told(pattern + "f passes # % of dc on to the previous step: dc_prev = #.", text)
            assert share == pytest.approx(100 * f, abs=0.51)
            assert passed == pytest.approx(dc_prev, rel=6e-3)
        np.testing.assert_allclose(printed, expected, rtol=6e-3, atol=1e-6)


def test_masked_steps_in_words(opened):
    page = opened("masked")
    page.locator("#padding").click()
    page.keyboard.press("Home")
    assert status(page) == f"The mask skips it: unit {units(page)[0]} keeps c = 0 and h = 0."
    page.locator("#backward-tab").click()
    dc, dh = page.evaluate("[current().dc[state.unit], current().dh[state.unit]]")
    text = f"The mask skips it: dc = # and dh = # of unit {units(page)[0]} pass it unchanged."
    np.testing.assert_allclose(told(text, status(page)), [dc, dh], rtol=6e-3)


def test_held_gates_and_nudges_in_words(plain):
    plain.evaluate("lookAt({ unit: 2, step: 4 })")
    held = [{"gate": "f", "unit": None, "value": 1}, {"gate": "i", "unit": 2, "value": 0.004}]
    plain.evaluate("held => experimentWith({ held })", held)
    assert re.match(r"Unit 2 keeps 100 % of \S+ \(f, held at 1\) and adds less than 1 % of ", status(plain))
    assert "(i · g, i held at 0.00400): c = " in status(plain)
    plain.locator("#backward-tab").click()
    assert " f, held at 1, passes 100 % of dc on " in status(plain)
    plain.locator("#forward-tab").click()
    plain.evaluate("experimentWith({ held: [], ...shifted(experiment, { name: 'c', step: 4, unit: 2 }, -0.5) })")
    plain.evaluate("experimentWith(shifted(experiment, { name: 'h', step: 5, unit: 2 }, 1))")
    assert ", and is nudged by −0.500: c = " in status(plain)
    assert status(plain).count("nudged") == 1


def test_a_shut_output_gives_no_gradient_and_says_so(plain):
    plain.locator("#backward-tab").click()
    plain.evaluate("experimentWith({ held: [{ gate: 'o', unit: null, value: 0 }] })")
    assert status(plain) == f"A slightly larger c in unit {units(plain)[0]} would not change the loss: dc = 0."


# --- playing ----------------------------------------------------------------------------------------------------------


def played(page, steps):
    """The words at which it was, one after another."""
    page.clock.install()
    page.locator("#play").click()
    seen = [page.evaluate("state.step")]
    for _ in range(steps):
        page.clock.run_for(900)
        seen.append(page.evaluate("state.step"))
    return seen


def test_backward_plays_from_the_last_word_to_the_first(plain):
    plain.locator("#backward-tab").click()
    seen = played(plain, LAST + 3)
    assert seen == [*range(LAST, -1, -1), 0, 0, 0]
    assert plain.locator("#play").inner_text() == "Play"
    plain.locator("#forward-tab").click()
    plain.locator("#play").click()
    plain.clock.run_for(1000)
    assert plain.evaluate("state.step") == 1


def test_playing_stops_at_folded_padding(opened):
    page = opened("masked")
    page.locator("#backward-tab").click()
    assert played(page, 6) == [11, 10, 9, 8, 8, 8, 8]


def test_a_layer_that_reads_backwards_plays_in_its_order(opened):
    assert played(opened("backwards"), 3) == [LAST, LAST - 1, LAST - 2, LAST - 3]


def test_one_word_does_not_play(opened):
    page = opened("one word")
    assert played(page, 1) == [0, 0]
    assert page.locator("#play").inner_text() == "Play"
