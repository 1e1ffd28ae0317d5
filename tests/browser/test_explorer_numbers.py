"""The numbers that the explorer page opens: each one is the sum it shows, and knows what is computed from it."""

import numpy as np
import pytest
from explorer_models import RESULT_OF, quoted

from scratchlstm import Sequential
from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM, Dense, Embedding

WORD_INDEX = {f"w{rank}": rank for rank in range(1, 13)}
TEXT = ["w4", "w2", "w8", "w2", "w1", "w4"]  # words come twice, so that dE is a sum


def _model(seed, dtype="float64", outputs=1, length=None, **options):
    """An LSTM with random weights: no two of its numbers are equal."""
    rng = np.random.default_rng(seed)
    activation, loss = {1: ("sigmoid", "binary_crossentropy"), 3: ("softmax", "sparse_categorical_crossentropy")}[
        outputs
    ]
    mask_zero = options.pop("mask_zero", False)
    activation, loss = options.pop("head", (activation, loss))
    model = Sequential(
        [
            Embedding(16, 3, input_shape=(length,), mask_zero=mask_zero, dtype=dtype),
            LSTM(4, dtype=dtype, **options),
            Dense(outputs, activation=activation, dtype=dtype),
        ]
    )
    model.compile("adam", loss)
    model.set_weights([rng.normal(size=weight.shape).astype(dtype) for weight in model.get_weights()])
    return model


MODELS = {
    "plain": {},
    "masked": {"length": 9, "mask_zero": True},
    "padding is read": {"length": 9},
    "backwards": {"go_backwards": True, "length": 9, "mask_zero": True},
    "softmax": {"outputs": 3},
    "float32, no bias": {"dtype": "float32", "use_bias": False},
    "squared": {"head": (None, "mse"), "label": [0.3]},
    "two outputs": {"outputs": 3, "head": ("sigmoid", "binary_crossentropy"), "label": [1, 0, 1]},
    "no label": {"head": (None, "mse")},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    for seed, (name, options) in enumerate(MODELS.items()):
        label = options.get("label")
        model = _model(seed, **{key: value for key, value in options.items() if key != "label"})
        explore(model, TEXT, folder / f"{name}.html", word_index=WORD_INDEX, label=label)
    return folder


# changes of the run, as a reader makes them
CHANGES = {
    "as it is": "experiment",
    "gates held": "({ ...experiment, held: [{ gate: 'f', unit: null, value: 1 }, { gate: 'g', unit: 2, value: 0 }] })",
    "nudged": """Object.entries({ z_f: 1, f: 1, g: 2, i: 3, c: 0, h: 3, x: 1, logit: 0, E: 0, U: 0 }).reduce(
        (tried, [name, unit]) => shifted(
            tried, at(name, { step: 3, unit, feature: unit % 3, output: 0, row: 1, gate: 'o', from: 2 }), 0.1),
        { ...experiment, held: [{ gate: 'o', unit: 3, value: 1 }] })""",
}

EVERY_NUMBER = (
    "tried => {"
    + RESULT_OF
    + """
    experiment = tried;
    const pass = current();
    const key = q => JSON.stringify(q, Object.keys(q).sort());
    const bare = ({ of, text, ...q }) => q;
    const uses = new Map(), wrong = [], todo = [];
    const see = q => { if (!uses.has(key(q))) { uses.set(key(q), new Set()); todo.push(q); } };
    pass.rows.forEach(row => see(at('E', { row, feature: 0 })));
    const everything = [];
    while (todo.length) {
        const q = todo.pop();
        everything.push(q);
        const value = valueOf(pass, q);
        if (!Number.isFinite(value)) wrong.push(['not finite', key(q), value]);
        const sources = sourcesOf(pass, q);
        if (sources) {
            const sum = resultOf(pass, sources);
            const isRight = Math.abs(sum - value) <= 1e-12 * Math.max(1, Math.abs(value));
            if (!isRight) wrong.push(['sum', key(q), sum, value]);
            for (const factor of sources.terms.flat().filter(factor => 'name' in factor)) {
                see(bare(factor));
                uses.get(key(bare(factor))).add(key(q));
            }
        }
        usesOf(pass, q).forEach(see);
    }
    for (const q of everything) {
        const said = new Set(usesOf(pass, q).map(key));
        if (said.size !== usesOf(pass, q).length) wrong.push(['twice', key(q)]);
        for (const use of uses.get(key(q)).difference(said)) wrong.push(['not in to', key(q), use]);
        for (const use of said.difference(uses.get(key(q)))) wrong.push(['only in to', key(q), use]);
    }
    return [everything.map(({ name }) => name), wrong.slice(0, 5)];
}"""
)


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_the_sum_of_its_terms_and_uses_are_the_inverse_of_sources(window, pages, name):
    page = window(pages / f"{name}.html")
    expected = set(page.evaluate("Object.keys(QUANTITIES)"))
    expected -= set() if name == "softmax" else {"total"}
    if name == "no label":
        expected = {of for of in expected if not of.startswith("d")} - {"loss", "y"}
    for change, tried in CHANGES.items():
        names, wrong = page.evaluate(f"({EVERY_NUMBER})({tried})")
        assert not wrong, change
        assert set(names) == expected, change
        page.evaluate("experiment = untouched")


# --- nudging ----------------------------------------------------------------------------------------------------------

SLOPES = """() => {
    const pass = current(), { H, E, D } = pass.dims, wrong = [], seen = {};
    const check = q => {
        const gradient = valueOf(pass, gradientOf(q)), measured = measuredSlope(experiment, q);
        const size = Math.max(Math.abs(gradient), Math.abs(measured)), error = Math.abs(gradient - measured);
        if (!(error < (size > 1e-7 ? 1e-6 * size : 1e-12))) wrong.push([q, gradient, measured]);
        if (size > 1e-7) seen[q.name] = true;
    };
    const each = (size, of) => Array.from({ length: size }, (_, n) => of(n));
    each(pass.T, step => {
        const names = [...GATES, ...GATES.map(gate => `z_${gate}`), 'c', 'h'];
        each(H, unit => names.forEach(name => check(at(name, { step, unit }))));
        each(E, feature => check(at('x', { step, feature })));
    });
    each(H, unit => GATES.forEach(gate => {
        check(at('b', { gate, unit }));
        each(E, feature => check(at('W', { gate, feature, unit })));
        each(H, from => check(at('U', { gate, from, unit })));
    }));
    each(D, output => {
        check(at('logit', { step: pass.last, output }));
        check(at('w_b', { output }));
        each(H, unit => check(at('w', { unit, output })));
    });
    new Set(pass.rows).forEach(row => each(E, feature => check(at('E', { row, feature }))));
    return [Object.keys(seen).sort(), wrong.slice(0, 5)];
}"""


@pytest.mark.parametrize("name", [name for name in MODELS if name != "no label"])
def test_a_measured_slope_is_the_gradient_to_six_digits(window, pages, name):
    page = window(pages / f"{name}.html")
    for change in ("as it is", "nudged"):
        page.evaluate(f"experimentWith({CHANGES[change]})")
        seen, wrong = page.evaluate(SLOPES)
        assert not wrong, change
        assert {*seen} == {"E", "W", "U", "b", "w", "w_b", "logit", "x", *"ifgoch", "z_i", "z_f", "z_g", "z_o"}


@pytest.fixture
def plain(window, pages):
    return window(pages / "plain.html")


def number(text):
    return float(text.replace("−", "-").strip("()"))


def nudge_text(page):
    """What the page says about the loss and the slopes, once they are measured."""
    page.wait_for_function("document.getElementById('agreement').textContent.startsWith('They')")
    return [page.locator(f"#{name}").inner_text() for name in ("nudge-said", "measured", "slope", "agreement")]


def test_a_nudge_changes_the_weight_and_shows_the_loss_before_and_after(plain):
    model = _model(0)
    row, gate, unit = 2, 1, 3  # of W
    plain.evaluate(f"open(at('W', {{ gate: 'f', feature: {row}, unit: {unit} }}))")
    before, measured, slope, agreement = nudge_text(plain)
    assert measured == slope
    assert int(agreement.split()[3]) >= 6
    plain.locator("#epsilon").select_option("0.1")
    plain.locator("#nudge-up").click()
    kernel = model.layers[1].params["kernel"]
    kernel[row, gate * 4 + unit] += 0.1
    x = np.array([[1, *(WORD_INDEX[word] + 3 for word in TEXT)]])
    p = model.predict(x, verbose=0)[0, 0]
    label = plain.evaluate("experiment.label[0]")
    loss = -np.log(p if label else 1 - p)
    said, *_ = nudge_text(plain)
    assert said.startswith("Your last nudge, W[f,2,3] + 0.1: the loss was ")
    assert number(said.split(" was ")[1].split()[0]) == number(before.split()[-1].rstrip("."))
    assert number(said.split(" and is ")[1].split()[0]) == pytest.approx(loss, rel=1e-5)
    assert "Your nudges added 0.1" in plain.locator("#number-origin").inner_text()
    assert plain.evaluate("document.activeElement.id") == "nudge-up"
    plain.locator("#nudge-up").press("Enter")
    assert plain.locator("#reset-nudges").inner_text() == "Reset all 2 nudges"
    plain.locator("#undo").click()
    assert nudge_text(plain)[0] == said
    plain.locator("#reset-nudges").click()
    assert nudge_text(plain)[0] == before


def test_a_number_can_be_set_and_the_nudge_is_one_of_its_terms(plain):
    plain.evaluate("open(at('f', { step: 3, unit: 1 }))")
    plain.locator("#set-to").fill("−0,25")
    plain.locator("#set-to").press("Enter")
    assert plain.evaluate("current().f[3 * 4 + 1]") == pytest.approx(-0.25)
    assert plain.locator("#number-title strong").inner_text() == "−0.250000"
    assert "(your nudge) = −0.2500" in plain.locator("#number-origin").inner_text()
    for text in ("", "one", "1e999"):
        plain.locator("#set-to").fill(text)
        plain.locator("#set").click()
        assert plain.locator("#nudge-said").inner_text() == f"{quoted(text)} is not a number. Type one, such as 0.5."


def test_a_slope_too_small_to_be_measured_is_no_disagreement(window, pages):
    page = window(pages / "masked.html")
    page.evaluate("open(at('i', { step: 1, unit: 0 }))")  # a step of padding
    page.wait_for_function("document.getElementById('agreement').textContent.startsWith('Both')")
    assert page.locator("#measured").inner_text() == page.locator("#slope").inner_text() == "0"
    said = page.evaluate("[agreement(3e-10, 4e-10), agreement(1e-8, 1.001e-8), agreement(0.1, 0.2)]")
    assert "too small to be measured with the digits" in said[0]
    assert said[1].startswith("They agree to 3 digits; for so small a slope")
    assert said[2] == "They agree to 0 digits."


@pytest.mark.parametrize(
    ("name", "q", "why"),
    [
        ("plain", "at('dc', { step: 1, unit: 1 })", "A gradient is a result."),
        ("plain", "at('xW', { step: 1, gate: 'f', unit: 1 })", "This number is a result."),
        ("plain", "at('logit', { step: 1, output: 0 })", "The loss uses only the logit after the last word."),
        ("no label", "at('c', { step: 1, unit: 1 })", "there is no loss"),
    ],
)
def test_what_cannot_be_nudged_says_why(window, pages, name, q, why):
    page = window(pages / f"{name}.html")
    page.evaluate(f"open({q})")
    assert why in page.locator("#nudge-refused").inner_text()
    assert page.locator("#nudge-form").is_hidden()
    assert page.locator("#slopes").is_hidden()


# --- the panel --------------------------------------------------------------------------------------------------------


def test_the_chain_is_followed_from_the_word_to_the_loss_and_back_by_keyboard(plain):
    plain.locator("#words button").nth(2).click()
    for _ in range(60):
        plain.keyboard.press("Tab")
        if plain.evaluate("byId('chain').contains(document.activeElement)"):
            break
    plain.keyboard.press("Home")
    opened, titles = [], []
    while True:
        assert plain.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
        assert plain.locator("#chain [aria-current]").count() == plain.locator("#chain [tabindex='0']").count() == 1
        q = plain.evaluate("state.chosen")
        assert plain.evaluate("state.step") == 2  # followed from this word
        if opened and q == opened[-1]:
            break
        opened.append(q)
        titles.append(plain.locator("#number-title").inner_text())
        plain.keyboard.press("ArrowRight")
    names = [q["name"] for q in opened]
    forward, backward = " ".join(names).split(" loss ")
    assert forward == "E x xW hU b z_f f c h h logit p"
    assert backward == "dlogit dh dh dc df dz_f dW dU db dx dE"
    assert f"feature 0 of the embedding of {quoted('w2')}" in titles[0]
    assert titles[names.index("f")].endswith(f"at {quoted('w2')} (step 3)")
    assert titles[names.index("loss")].startswith("L = ")
    plain.keyboard.press("Home")
    assert plain.evaluate("state.chosen.name") == "E"
    plain.keyboard.press("Tab")  # one stop
    assert not plain.evaluate("byId('chain').contains(document.activeElement)")


def test_a_long_sum_shows_its_largest_terms_and_what_this_step_adds(plain):
    plain.evaluate("goTo(3); open(at('dx', { step: 3, feature: 1 }))")
    rows = plain.locator("#number .bars li")
    values = [number(text) for text in plain.locator("#number .bars .value").all_text_contents()]
    assert len(values) == 9
    assert sum(values) == pytest.approx(plain.evaluate("current().dx[3 * 3 + 1]"), rel=1e-2)
    assert rows.nth(8).inner_text().startswith("the other 8")
    assert plain.locator("#number .bars .here").count() == 1
    plain.evaluate("open(at('dW', { gate: 'f', feature: 1, unit: 2 }))")
    step = plain.evaluate("current().x[3 * 3 + 1] * current().dz_f[3 * 4 + 2]")
    text = plain.locator("#number-origin").inner_text()
    assert f"This step, {quoted('w8')}, adds {plain.evaluate('shown', step)} of " in text
    assert quoted("w8") not in plain.locator("#number .bars li:not(.here)").all_inner_texts()
    plain.locator("#number .bars .here .link").nth(1).click()
    assert plain.evaluate("state.chosen") == {"name": "dz_f", "step": 3, "unit": 2}


def test_links_of_the_panel_keep_the_focus_and_are_announced(plain):
    plain.evaluate("goTo(2); open(at('c', { step: 2, unit: 1 }))")
    title = plain.locator("#number-title")
    assert title.get_attribute("aria-live") == "polite"
    plain.locator("#number-origin .link").first.press("Enter")
    assert plain.evaluate("state.chosen.name") == "f"
    assert plain.evaluate("document.activeElement.id") == "number-title"
    plain.locator("#number-uses .link").first.press("Enter")
    assert plain.evaluate("document.activeElement.id") == "number-title"
    plain.evaluate("open(at('x', { step: 2, feature: 1 }))")
    plain.locator("#number .strip [tabindex='0']").press("ArrowRight")
    assert plain.evaluate("state.chosen") == {"name": "E", "row": plain.evaluate("current().rows[2]"), "feature": 2}
    assert plain.evaluate("document.activeElement.ariaLabel").startswith("feature 2: ")


PLACES = {"step": 2, "unit": 1, "gate": "g", "feature": 1, "from": 0, "output": 0, "row": 1}
KINDS = {  # where a quantity is -> those that are there
    "step unit": "i f g o c h c_prev h_prev z_f tanh_c dh dh_above dh_next do dc dc_next di df dg dc_prev dz_f dh_prev",
    "step unit gate": "xW hU",
    "gate feature unit": "W dW",
    "gate from unit": "U dU",
    "gate unit": "b db",
    "unit output": "w dw",
    "step feature": "x dx",
    "row feature": "E dE",
    "output": "w_b dw_b dlogit y",
    "step output": "logit p",
    "step": "total",
    "": "loss",
}


@pytest.mark.parametrize("width", [390, 1280])
def test_a_number_that_is_opened_from_elsewhere_comes_into_sight(window, pages, width):
    page = window(pages / "plain.html", viewport={"width": width, "height": 800})
    title = page.locator("#number-title")
    for number in (page.locator("#forward-equations .link").first, page.locator("#forward-equations .link").last):
        page.evaluate("scrollTo(0, 0)")
        number.click()
        box = title.bounding_box()
        assert 0 < box["y"] < box["y"] + box["height"] < 800
        assert page.evaluate(
            "([x, y]) => document.elementFromPoint(x, y).closest('#number-title') !== null",
            [box["x"] + 5, box["y"] + 5],
        )
    page.locator("#chain button").first.click()
    before = page.evaluate("scrollY")
    page.locator("#chain button").nth(3).click()
    assert page.evaluate("scrollY") == before


def _kinds():
    return [
        {"name": name} | {place: PLACES[place] for place in places.split()}
        for places, names in KINDS.items()
        for name in names.split()
    ]


@pytest.mark.parametrize("name", ["plain", "softmax", "masked", "recorded"])
def test_every_kind_of_number_opens_on_a_phone(window, pages, name, tmp_path):
    file = pages / f"{name}.html"
    if name == "recorded":
        file = tmp_path / "recorded.html"
        explore(_model(1, activation="relu"), TEXT, file, word_index=WORD_INDEX)
    page = window(file, viewport={"width": 390, "height": 844})
    for q in _kinds():
        if page.evaluate(
            "q => valueOf(current(), q) === undefined || (q.name === 'total' && head.wrap !== 'softmax')", q
        ):
            continue
        page.evaluate("q => open(q)", q)
        text = page.locator("#number").inner_text()
        assert "undefined" not in text, q
        assert "NaN" not in text, q
        assert "{" not in text, q
        sizes = page.locator("#number *:visible").evaluate_all(
            """all => all.filter(e => e.tagName !== 'SUB')
                .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
                .map(e => [e.getBoundingClientRect().right, parseFloat(getComputedStyle(e).fontSize), e.className])"""
        )
        assert all(right <= 390 and size >= 14 for right, size, _ in sizes), (q, sizes)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if name == "recorded":
            assert "does not run the model" in page.locator("#nudge-refused").inner_text()
