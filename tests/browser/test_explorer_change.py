"""What a reader changes on the explorer page: gates held, the sentence, the label; two readings compared."""

import re

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, quoted, sentiment, stacked

from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM, Dense

SHORT, LONG = "It was wonderful; I  LOVED it!", "I loved it and " * 6 + "it was boring"
EVIL = ["</script><script>alert(1)</script>", "<b>bold</b>", '"quoted"', "שלום", "🎬"]

ALL_OF_A_PASS = """() => {
    const { steps, label, left_out } = experiment;
    const pass = current();
    const names = [...STATES, ...GRADIENTS, "x", "dx", "dw", "dw_b", "dlogit", "logit", "p", "loss"];
    return { steps, label, left_out, pass: JSON.stringify(names.map((name) => pass[name])) };
}"""


def _regression(units=1, **options):
    model = sentiment(last=[Dense(units)])
    model.compile("adam", "mse")
    return model


def _classes():
    model = sentiment(last=[Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


_MODELS = {
    "masked": lambda: sentiment(mask_zero=True),
    "padded": sentiment,
    "backwards": lambda: sentiment(LSTM(4, go_backwards=True)),
    "any length": lambda: sentiment(length=None),
    "classes": _classes,
    "regression": _regression,
    "two numbers": lambda: _regression(2),
    "no loss": lambda: sentiment(compiled=False),
    "recorded": stacked,
}


@pytest.fixture(scope="module")
def models():
    return {name: make() for name, make in _MODELS.items()}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, model in models.items():
        explore(model, SENTENCE, folder / f"{name}.html", word_index=WORD_INDEX)
    words = ["film", *EVIL, "was", "good"]
    explore(models["padded"], words, folder / "odd.html", word_index=WORD_INDEX)
    return folder


@pytest.fixture
def opened(files, window):
    return lambda name, **options: window(files / f"{name}.html", **options)


def typed(page, text):
    page.get_by_label("Type a sentence").fill(text)
    page.get_by_role("button", name="Read").click()
    return page.locator("#sentence-answer").inner_text()


def words(page):
    return page.evaluate("wordsRead().map(({ word }) => word)")


def chips(page):
    return [name.removesuffix(" ✕") for name in page.locator("#changes .chip").all_inner_texts()]


def is_untouched(page):
    return page.evaluate("JSON.stringify(experiment) === JSON.stringify(untouched)")


# --- the sentence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masked", "padded", "backwards", "any length", "classes"])
@pytest.mark.parametrize("text", [SHORT, LONG])
def test_a_typed_sentence_gives_every_number_that_explore_gives(opened, models, window, tmp_path, name, text):
    explore(models[name], text, tmp_path / "page.html", word_index=WORD_INDEX)
    expected = window(tmp_path / "page.html").evaluate(ALL_OF_A_PASS)
    page = opened(name)
    assert typed(page, text) == ""
    assert page.evaluate(ALL_OF_A_PASS) == expected
    left_out = f"{expected['left_out']} earlier words are left out"
    assert (left_out in page.locator("#notes").inner_text()) == (text == LONG and name != "any length")


def test_words_are_dropped_swapped_replaced_and_inserted(opened):
    page = opened("any length")
    typed(page, "a good film")
    page.locator("#words button", has_text="good").click()
    page.get_by_role("button", name="Swap with next").click()
    assert words(page) == ["a", "film", "good"]
    page.get_by_role("button", name="Swap with next").click(force=True)
    assert "no next word" in page.locator("#sentence-answer").inner_text()
    page.get_by_label("Another word").fill("bad")
    page.get_by_role("button", name="Replace").click()
    assert words(page) == ["a", "film", "bad"]
    page.get_by_role("button", name="Drop").click()
    assert words(page) == ["a", "film"]
    page.locator("#words button").first.click()  # the start mark
    page.get_by_label("Another word").fill("Not every")
    page.get_by_role("button", name="Insert after").click()
    assert words(page) == ["not", "every", "a", "film"]
    assert page.get_by_label("Type a sentence").input_value() == "not every a film"
    assert page.locator("#status").inner_text().startswith("Step 2 of 5: not.")
    page.locator("#words button").first.click()
    page.get_by_role("button", name="Drop").click(force=True)
    assert "Choose a word first" in page.locator("#sentence-answer").inner_text()
    assert len(words(page)) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a good fim", [quoted("fim"), "all 14 words of the model", f"Similar: {quoted('film')}"]),
        ("<b>good</b> film", [quoted("b")]),
        (" .,; ", ["at least one word"]),
        ("the plot", ["knows none of these words"]),
    ],
)
def test_a_sentence_that_cannot_be_read_changes_nothing_and_is_told_why(opened, text, told):
    page = opened("padded")
    answer = typed(page, text)
    assert all(part in answer for part in told)
    assert answer.endswith("Nothing was changed.") != ("Similar" in answer)
    assert is_untouched(page)
    page.get_by_label("Type a sentence").fill(" ".join(words(page)).replace("wonderful", "good"))
    page.keyboard.press("Enter")  # the unknown words of the page's own text stay usable
    assert page.locator("#words .unknown").all_inner_texts()[0].startswith("the")


def test_a_page_without_all_words_says_how_many_it_has(models, window, tmp_path):
    path = tmp_path / "page.html"
    explore(models["padded"], SENTENCE, path, word_index=WORD_INDEX, most_bytes=1_000_000)
    data = path.read_text()
    path.write_text(data.replace('"known_of": 14', '"known_of": 88000'))
    assert "14 of the model's 88000 words" in typed(window(path), "plots")


def test_a_page_of_few_words_names_them(window, tmp_path):
    few = {word: rank for word, rank in WORD_INDEX.items() if rank <= 3}
    explore(sentiment(epochs=0), "a film", tmp_path / "page.html", word_index=few)
    answer = typed(window(tmp_path / "page.html"), "a plot")
    assert f"has the words a, film, i, but not {quoted('plot')}" in answer


def test_words_that_look_like_markup_are_text_and_stay_usable(opened):
    page = opened("odd")
    page.locator("#words button", has_text="good").click()
    page.get_by_role("button", name="Drop").click()
    assert words(page) == ["film", *EVIL, "was"]
    typed(page, " ".join(["good", *EVIL]))
    assert words(page) == ["good", *EVIL]
    assert page.locator("#words b, #words script").count() == 0


def test_nudges_of_single_steps_go_with_the_steps_and_those_of_weights_stay(opened):
    page = opened("padded")
    page.evaluate("experimentWith(shifted(experiment, at('c', { step: 3, unit: 0 }), 0.5))")
    page.evaluate("experimentWith(shifted(experiment, at('b', { gate: 'f', unit: 0 }), 0.5))")
    assert "taken back" in typed(page, SHORT)
    assert page.evaluate("[experiment.added.length, experiment.weights.length]") == [0, 1]


# --- gates that are held ----------------------------------------------------------------------------------------------


def run(model, ids, held):
    """The states and the output of a model, with gates held: {(gate, unit): value}, as the equations say."""
    embeddings, W, U, b, w, w_b = (array.astype("float64") for array in model.get_weights())
    h, c, states = np.zeros(len(U)), np.zeros(len(U)), []
    for word_id in ids:
        z = dict(zip("ifgo", np.split(embeddings[word_id] @ W + h @ U + b, 4), strict=True))
        gates = {gate: np.tanh(z[gate]) if gate == "g" else 1 / (1 + np.exp(-z[gate])) for gate in "ifgo"}
        for (gate, unit), value in held.items():
            gates[gate][unit] = value
        c = gates["f"] * c + gates["i"] * gates["g"]
        h = gates["o"] * np.tanh(c)
        states.append([c, h])
    return np.array(states), 1 / (1 + np.exp(-(h @ w + w_b)))


EVERY = ...


def hold(page, gate, choice, unit=None):
    """By the page's controls; a unit is chosen before."""
    if unit is not None:
        page.locator("#unit").select_option(str(unit))
    page.locator("#hold-scope button").nth(0 if unit is None else 1).click()
    page.locator(f"#hold-{gate}").get_by_role("button", name=choice, exact=True).click()


@pytest.mark.parametrize(
    ("holds", "held"),
    [
        ([("f", "1", None)], {("f", EVERY): 1}),
        ([("i", "0", 2), ("o", "1", None)], {("i", 2): 0, ("o", EVERY): 1}),
        ([("f", "0", None), ("f", "1", 1), ("g", "0", 3)], {("f", EVERY): 0, ("f", 1): 1, ("g", 3): 0}),
        ([("f", "1", 1), ("f", "0", None), ("i", "1", 0), ("i", "free", 0)], {("f", EVERY): 0}),
    ],
)
def test_held_gates_give_what_the_equations_give(opened, models, holds, held):
    page = opened("padded")
    for each in holds:
        hold(page, *each)
    ids = page.evaluate("experiment.steps.map(({ id }) => id)")
    states, output = run(models["padded"], ids, held)
    found = page.evaluate("['c', 'h'].map((name) => Array.from(current()[name]))")
    expected = states.transpose(1, 0, 2).reshape(2, -1)
    assert np.abs(found - expected).max() < 1e-12
    assert abs(page.evaluate("current().p[current().last][0]") - output[0]) < 1e-12
    assert abs(page.evaluate("current().loss") + np.log(1 - output[0])) < 1e-12  # its label is 0
    slopes = page.evaluate(
        """() => GATES.flatMap((gate) => [0, 1, 2, 3].map((unit) =>
            [valueOf(current(), at("db", { gate, unit })), measuredSlope(experiment, at("b", { gate, unit }))]))"""
    )
    assert np.allclose(*np.transpose(slopes), rtol=1e-6, atol=1e-9)
    assert not np.allclose(slopes, 0)


def test_a_unit_can_be_left_free_while_all_others_are_held(opened, models):
    page = opened("padded")
    hold(page, "f", "0")
    hold(page, "f", "free", unit=1)
    assert chips(page) == ["f = 0 in all units: it forgets everything at each word", "f free in unit 1"]
    free, held = page.evaluate(
        "[1, 0].map((unit) => [current().f[unit], valueOf(current(), at('db', { gate: 'f', unit }))])"
    )
    assert 0 < free[0] < 1
    assert free[1] != 0
    assert held == [0, 0]
    assert page.evaluate("QUANTITIES.f.from(current(), { step: 0, unit: 1 }).wrap") == "σ"


def test_the_effect_is_shown_and_each_change_can_be_taken_back(opened):
    page = opened("padded")
    effect = page.locator("#effect [role=status]")
    assert not effect.is_visible()
    assert chips(page) == []
    hold(page, "f", "1")
    before, after = page.evaluate("[untouched, experiment].map((e) => shown(passOf(e).p[passOf(e).last][0], 3))")
    assert before != after
    assert f"output {before} → {after}, loss " in effect.inner_text()
    typed(page, SHORT)
    page.locator("#label-choice").select_option("0")
    assert [chip.split(":")[0] for chip in chips(page)] == ["another sentence", "label 0", "f = 1 in all units"]
    for left in (["label 0", "f = 1 in all units"], ["f = 1 in all units"], []):
        page.locator("#changes .chip").first.click()
        assert [chip.split(":")[0] for chip in chips(page)] == left
    assert not effect.is_visible()
    assert page.locator("#hold-f [aria-pressed=true]").inner_text() == "free"


def test_reset_all_returns_to_the_page_as_it_was_written(opened):
    page = opened("padded")
    as_written = page.evaluate(ALL_OF_A_PASS)
    typed(page, SHORT)
    hold(page, "o", "0", unit=2)
    page.locator("#label-choice").select_option("1")
    page.get_by_role("button", name="Reset all", exact=True).click()
    assert is_untouched(page)
    assert page.evaluate(ALL_OF_A_PASS) == as_written
    assert page.get_by_label("Type a sentence").input_value() == " ".join(words(page))
    assert page.locator("#label-choice").input_value() == "own"
    assert page.evaluate("document.activeElement.id") == "slider"


# --- the label --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "label"), [("padded", [1]), ("classes", [0, 0, 1])])
def test_another_label_is_that_of_the_backward_pass(opened, name, label):
    page = opened(name)
    assert page.locator("#label-choice").input_value() == "own"
    page.locator("#label-choice").select_option(str(label.index(1) if name == "classes" else 1))
    p, slope, loss = page.evaluate("[current().p[current().last], Array.from(current().dlogit), current().loss]")
    assert np.allclose(slope, np.subtract(p, label))
    assert np.isclose(loss, -np.log(p[label.index(1)]))
    assert "(given)" in page.locator("#notes").inner_text()


@pytest.mark.parametrize(("name", "label"), [("regression", [2.5]), ("two numbers", [-1, 0.5])])
def test_a_number_as_label_brings_the_backward_pass_to_life(opened, name, label):
    page = opened(name)
    page.locator("#backward-tab").click()
    assert page.locator("#no-loss").is_visible()
    assert not page.locator("#backward-picture").is_visible()
    fields = page.locator(".label-value")
    for field, value in zip(fields.all(), label, strict=True):
        field.fill(str(value))
    fields.last.press("Enter")
    p = page.evaluate("current().p[current().last]")
    assert np.isclose(page.evaluate("current().loss"), np.mean(np.subtract(p, label) ** 2))
    assert not page.locator("#no-loss").is_visible()
    assert page.locator("#backward-picture").is_visible()
    assert page.locator("#backward-equations [data-value=dc]").first.inner_text() not in ("", "0")
    fields.first.fill("1e300")
    fields.first.press("Enter")
    assert "no longer be finite" in page.locator("#change-answer").inner_text()
    for field in fields.all():
        field.fill("")
    fields.last.press("Enter")
    assert page.locator("#no-loss").is_visible()
    assert page.evaluate("current().loss") is None


def test_pages_that_cannot_change_something_say_so_and_show_no_dead_controls(opened):
    page = opened("no loss")
    assert "not compiled" in page.locator("#label").inner_text()
    assert page.locator("#label").locator("select, input").count() == 0
    page = opened("recorded")
    assert "cannot be changed here" in page.locator("#change").inner_text()
    assert "Bidirectional" in page.locator("#change").inner_text()
    controls = page.locator("#change, #sentence-change, #effect").locator("button, input, select")
    assert [control.is_visible() for control in controls.all()] in ([], [False])


# --- two readings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "columns"),
    [
        ("a good film", "a good film", ["00", "11", "22", "33"]),
        ("a good film", "a film", ["00", "11", "2-", "32"]),
        ("good film", "bad film", ["00", "11", "22"]),
        ("it was not good", "was it not a good film", ["00", "1-", "21", "-2", "33", "-4", "45", "-6"]),
        ("a", "bad", ["00", "11"]),
        ("film was good", "film was not bad", ["00", "11", "22", "-3", "34"]),
    ],
)
def test_words_in_common_share_a_column_and_so_do_replaced_ones(opened, first, second, columns):
    page = opened("masked")  # the padding takes no part
    padding = "(steps) => steps.filter(({ kind }) => kind === 'padding').length"
    found = page.evaluate(
        f"""(texts) => {{
            const [a, b] = texts.map((text) => asRead(read(text).words).steps);
            const name = (step, of) => (step === undefined ? "-" : String(step - ({padding})(of)));
            return aligned(a, b).map(({{ first, second }}) => name(first, a) + name(second, b));
        }}""",
        [first, second],
    )
    assert found == columns


def test_two_sentences_are_compared_on_one_scale(opened):
    page = opened("any length")
    typed(page, "it was not good")
    page.get_by_role("button", name="a second sentence").click()
    second = page.get_by_label("The second sentence")
    assert second.input_value() == "it was not good"
    assert page.locator("#compared-difference .told").inner_text().endswith("= 0")
    second.fill("it was very bad")
    second.press("Enter")
    assert "very" in page.locator("#compare-answer").inner_text()
    second.fill("it film was bad")
    second.press("Enter")
    scales = [page.locator(f"#compared-{which} .scale").inner_text() for which in ("first", "second")]
    assert scales[0] == scales[1] != page.locator("#compared-difference .scale").inner_text()
    page.locator("#shown").select_option("f")
    kinds = [page.locator(f"#compared-{which} .ramp.share").count() for which in ("first", "second", "difference")]
    assert kinds == [1, 1, 0]  # a difference has both signs
    page.locator("#shown").select_option("c")
    names = page.locator("#compared-first .columns").evaluate("(of) => Array.from(of.children, (e) => e.textContent)")
    assert names == ["<start>", "it", "film", "was", "not", "good / bad"]

    page.locator("#words button", has_text="it").click()
    rows = page.locator("#compare tbody tr").evaluate_all(
        "all => all.map(r => Array.from(r.cells, c => c.textContent))"
    )
    assert rows[4][0] == "c"
    assert rows[4][1] == rows[4][2]
    assert rows[4][3] == "0"
    end = next(row for row in rows if row[0].endswith("at the end"))
    first, other, difference = (float(text.replace("−", "-")) for text in end[1:])
    assert difference != 0
    assert np.isclose(other - first, difference, atol=2e-4)

    canvas = page.locator("#compared-second canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] - 3, "y": 3}, force=True)  # in place of good
    assert page.locator("#compare caption").inner_text().endswith(f"at {quoted('good')} / {quoted('bad')}")
    assert "–" not in page.locator("#compare tbody tr").first.locator("td").all_inner_texts()
    canvas.click(position={"x": 2.5 / 6 * box["width"], "y": 3}, force=True)  # film, which only the second has
    assert page.locator("#compare caption").inner_text().endswith(f"at {quoted('film')}")
    row = page.locator("#compare tbody tr").first.locator("td").all_inner_texts()
    assert row[0] == "–"
    assert row[1] != "–"
    assert row[2] == "–"
    alpha = "c => c.getContext('2d').getImageData(Math.floor((2.5 / 6) * c.width), 0, 1, 1).data[3]"
    assert [
        page.locator(f"#compared-{which} canvas").evaluate(alpha) for which in ("first", "second", "difference")
    ] == [
        0,
        255,
        0,
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("padded", "output after it, the probability of label 1."),
        ("classes", "output 2 after it, the probability of label 2."),
        ("two numbers", "output 1 after it."),
    ],
)
def test_the_notes_tell_what_the_printed_output_is(opened, name, told):
    page = opened(name)
    last = page.evaluate("data.outputs - 1")
    page.evaluate("output => open(at('logit', { step: current().last, output }))", last)
    assert f"the model's {told}" in page.locator("#notes").inner_text()


def test_a_small_change_is_printed_with_the_digits_that_it_changes(opened):
    page = opened("padded")
    page.evaluate("experimentWith(shifted(experiment, at('w_b', { output: 0 }), 1e-6))")
    changed = re.fullmatch(
        r"Changed: output (\S+) → (\S+), loss (\S+) → (\S+)", page.locator("#effect span").inner_text()
    )
    assert changed[1] != changed[2]
    assert changed[3] != changed[4]


def test_a_change_is_compared_with_the_page_as_written(opened):
    page = opened("padded")
    hold(page, "f", "1")
    page.get_by_role("button", name="the page as written").click()
    rows = page.locator("#compare tbody tr").all_inner_texts()
    assert rows[1].split("\t")[2] == "1"  # f, now
    expected = page.evaluate("shown(passOf(untouched).f[state.step * 5 + state.unit])")
    assert rows[1].split("\t")[1] == expected
    page.get_by_role("button", name="Reset all", exact=True).click()
    assert {row.split("\t")[3] for row in page.locator("#compare tbody tr").all_inner_texts()} == {"0"}


def test_a_phone_shows_it_all_without_scrolling_sideways(opened, fits):
    page = opened("odd", viewport={"width": 390, "height": 800})
    hold(page, "f", "0", unit=1)
    page.get_by_role("button", name="a second sentence").click()
    fits(page)
