"""Pages that cannot run their model: each number equals `trace`'s, and the page says what is missing."""

import numpy as np
import pytest
from explorer_models import RESULT_OF, SENTENCE, WORD_INDEX, as_read, sentiment, stacked

from scratchlstm.activations import Activation
from scratchlstm.inspection import explore, explorer, trace
from scratchlstm.layers import LSTM, Dense
from scratchlstm.preprocessing.text import text_to_word_sequence

SHORT = "a wonderful film"  # shorter than what the models read


def _custom():
    """An activation of the user's own, under a name of the package's."""
    return sentiment(LSTM(4, activation=Activation("tanh", lambda z: z * abs(z) / 4, lambda y: np.sqrt(abs(y)))))


def _under(*layers, **options):
    return lambda: sentiment(LSTM(4, return_sequences=True), *layers, **options)


MODELS = {
    "stacked": (stacked, SENTENCE),
    "stacked, padded": (stacked, SHORT),
    "backwards on top": (_under(LSTM(3, go_backwards=True)), SHORT),
    "masked": (_under(LSTM(3), mask_zero=True), SHORT),
    "two Dense layers": (lambda: sentiment(LSTM(4), Dense(3)), SENTENCE),
    "relu": (lambda: sentiment(LSTM(4, activation="relu", recurrent_activation="hard_sigmoid")), SENTENCE),
    "sigmoid": (lambda: sentiment(LSTM(4, activation="sigmoid")), SENTENCE),
    "custom": (_custom, SHORT),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One page for each of them."""
    folder = tmp_path_factory.mktemp("pages")
    made = {name: (folder / f"{name}.html", make(), text) for name, (make, text) in MODELS.items()}
    for path, model, text in made.values():
        explore(model, text, path, word_index=WORD_INDEX)
    return made


@pytest.fixture
def opened(files, window):
    def open_page(name, **options):
        page = window(files[name][0], **options)
        assert not page.evaluate("RUNS")
        return page

    return open_page


def traced(model, text):
    x = as_read(model, text_to_word_sequence(text))
    return trace(model, x, np.round(model.predict(x, verbose=0))).layers.values()


def shown_numbers(page, number):
    """Every number of the equations and pictures of a layer: [unit, step, name, text, whether it is in a picture]."""
    return page.evaluate(
        """number => {
            const found = [];
            chooseLayer(number);
            for (let unit = 0; unit < current().dims.H; unit++) {
                for (let step = 0; step < current().T; step++) {
                    Object.assign(state, { unit, step });
                    show();
                    for (const place of document.querySelectorAll("#pictures [data-value], #equations [data-value]")) {
                        found.push([unit, step, place.dataset.value, place.textContent, Boolean(place.closest("svg"))]);
                    }
                }
            }
            return found;
        }""",
        number,
    )


def by_name(layer, phi):
    """Name on the page -> (T, H), in the layer's own precision."""
    names = [*"ifgoch", "c_prev", "h_prev", *(f"z_{gate}" for gate in "ifgo")]
    names += ["dh_above", "dh_next", "dh", "dh_prev", "dc_next", "dc", "dc_prev", *(f"dz_{gate}" for gate in "ifgo")]
    arrays = {name: getattr(layer, name)[0] for name in names}
    counts = layer.mask[0, :, None]
    arrays["tanh_c"] = phi(layer.c[0])
    products = {"di": ("dc", "g"), "df": ("dc", "c_prev"), "dg": ("dc", "i"), "do": ("dh", "tanh_c")}
    arrays |= {name: arrays[one] * arrays[other] * counts for name, (one, other) in products.items()}
    arrays |= {"c/0": arrays["f"] * arrays["c_prev"], "c/1": arrays["i"] * arrays["g"]}
    x_parts = np.split(layer.input[0] @ layer.kernel, 4, axis=1)
    h_parts = np.split(layer.h_prev[0] @ layer.recurrent_kernel, 4, axis=1)
    for gate, xW, hU, b in zip("ifgo", x_parts, h_parts, np.split(layer.bias, 4), strict=True):
        arrays |= {f"xW_{gate}": xW, f"hU_{gate}": hU, f"b_{gate}": np.broadcast_to(b, xW.shape)}
    return arrays | {"dx": np.repeat(layer.d_words[0][:, None], layer.units, axis=1)}


COMPUTED_IN_THE_PAGE = {"di", "df", "dg", "do", "c/0", "c/1", "tanh_c"}  # from values of float32
SLOPES = {"i": lambda i: 1 - i, "f": lambda f: 1 - f, "o": lambda o: 1 - o}  # printed beside the gates in (13) to (16)
SLOPES |= {"g": lambda g: 1 - g**2, "tanh_c": lambda tanh_c: 1 - tanh_c**2}


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_that_of_trace_to_the_printed_digits(opened, files, name):
    page, (_, model, text) = opened(name), files[name]
    phi = model.layers[1].activation if name in ("relu", "sigmoid", "custom") else np.tanh
    for number, layer in enumerate(traced(model, text)):
        arrays, names = by_name(layer, phi), set()
        steps = page.evaluate("data.steps.length")
        for unit, step, key, printed, in_picture in shown_numbers(page, number):
            if key not in arrays or printed == "":
                assert key in ("", "x", "dc/0", "dc/1"), key
                continue
            names.add(key)
            value, digits = float(arrays[key][step - steps, unit]), 3 if in_picture else 4
            found = float(printed.strip("()").replace("−", "-"))
            if key.startswith("xW") or key in COMPUTED_IN_THE_PAGE or key.startswith("hU"):
                size = abs(arrays[f"z_{key[-1]}"][step - steps, unit]) if key[1:2] in "WU" else 0
                exact = found == pytest.approx(value, rel=10.0 ** (1 - digits), abs=1e-6 * float(size) + 1e-30)
            else:
                exact = found == float(f"{value:.{digits - 1}e}")
            slope = key in SLOPES and found == pytest.approx(SLOPES[key](value), rel=2e-3, abs=1e-7)
            assert exact or slope, (key, unit, step, printed, value)
        assert names >= set(arrays) - {"dx", "c/0", "c/1"}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_opened_adds_up_and_the_rest_stays_closed(opened, files, name):
    page = opened(name)
    opened_names, wrong = page.evaluate(
        "() => {"
        + RESULT_OF
        + """
            const names = new Set(), wrong = [];
            const look = (pass, q) => {
                if (valueOf(pass, q) === undefined || !canOpen(pass, q)) return;
                const sources = sourcesOf(pass, q);
                names.add(q.name);
                if (!(sources.wrap in WRAPS)) return;
                const [value, result] = [valueOf(pass, q), resultOf(pass, sources)];
                const parts = sources.terms.map((term) => Math.abs(termValue(pass, term)));
                const error = Math.abs(result - value);
                if (!(error <= 1e-4 * Math.max(...parts, Math.abs(value)))) wrong.push([q, result, value]);
            };
            recordings.forEach((_, number) => {
                chooseLayer(number);
                const pass = current();
                const known = Object.keys(QUANTITIES).filter((name) => QUANTITIES[name].from && name !== "loss");
                for (let step = 0; step < pass.T; step++) {
                    for (let unit = 0; unit < pass.dims.H; unit++) {
                        for (const gate of GATES) for (const name of known) look(pass, at(name, { step, unit, gate }));
                    }
                }
            });
            return [[...names], wrong];
        }"""
    )
    assert wrong == []
    assert {"c", "h", "dh", "di", "dc_prev", "z_i", "c_prev", "h_prev", "dh_next", "dc_next"} <= set(opened_names)
    assert not {"xW", "hU", "dh_above"} & set(opened_names)
    is_usual = name not in ("relu", "sigmoid", "custom")
    assert ({"dc", "dz_g"} <= set(opened_names)) == is_usual
    assert ({"dz_i", "dz_f", "dz_o"} <= set(opened_names)) == (name != "relu")
    assert "g" in opened_names


def test_the_first_step_behind_unmasked_padding_does_not_begin_at_0(opened):
    page = opened("stacked, padded")
    page.evaluate("chooseLayer(0); open(at('c_prev', { step: 0, unit: 0 }))")
    assert page.evaluate("valueOf(current(), at('c_prev', { step: 0, unit: 0 }))") != 0
    assert "are not on this page" in page.locator("#number").inner_text()
    assert "8 steps of padding, which the model reads too" in page.locator("#notes").inner_text()


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        (
            "relu",
            ["i = hard σ(z_i)", "g = relu(z_g)", "h = o · relu(c)"],
            [
                "dc = dc_next + dh · o · relu′(c)",
                "dz_i = di · hard σ′(z_i)",
                "dz_g = dg · relu′(z_g)",
                "do = dh · relu(c)",
            ],
        ),
        (
            "custom",
            ["i = σ(z_i)", "g = custom tanh(z_g)", "h = o · custom tanh(c)"],
            ["dc = dc_next + dh · o · custom tanh′(c)", "dz_i = di · i · (1 − i)", "dz_g = dg · custom tanh′(z_g)"],
        ),
    ],
)
def test_equations_name_the_layers_own_activations(opened, name, forward, backward):
    page = opened(name)
    for view, expected in (("forward", forward), ("backward", backward)):
        page.locator(f"#{view}-tab").click()
        symbols = page.locator(f"#{view}-equations .symbols").all_text_contents()
        assert set(expected) <= {text.rstrip(": ") for text in symbols}
        assert not page.locator("#study").get_by_text("1 − tanh²(c)").count()
    for quantity in ("g", "dc", "dz_g", "tanh_c"):
        page.evaluate("name => open(at(name, { step: 1, unit: 0 }))", quantity)
        text = page.locator("#number").inner_text().replace("custom tanh", "").replace("tanh and sigmoid", "")
        assert "tanh" not in text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_says_first_what_it_shows_and_why_no_more(opened, width):
    page = opened("stacked", viewport={"width": width, "height": 800})
    note = page.locator("#recorded")
    assert note.inner_text() == (
        "This page shows what the model computed in Python. It cannot rerun the model, so nothing can be changed "
        "here, and sums over weights or over all units stay closed: it runs one Embedding, one LSTM and one Dense "
        "layer, but this model has Embedding, Bidirectional, LSTM, Dense."
    )
    assert note.bounding_box()["y"] < page.locator("#words").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_layers_and_outputs_that_are_missing_are_named(window, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "_MOST_PREDICTED", 1)
    model = sentiment(LSTM(4, return_sequences=True, go_backwards=True), LSTM(3))
    page = window(explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX).path)
    note = page.locator("#recorded").inner_text()
    assert f"Not shown: {model.layers[2].name}, whose steps are not words." in note
    assert "The text is too long for the output after each word: only the last one is shown." in note
    below = page.locator("#words small").all_inner_texts()
    assert below[:-1] == [""] * 11
    assert float(below[-1]) == pytest.approx(
        model.predict(as_read(model, text_to_word_sequence(SENTENCE)), verbose=0)[0, 0], rel=1e-3
    )


def test_a_page_that_runs_its_model_says_nothing_of_it(window, tmp_path):
    page = window(explore(sentiment(), SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX).path)
    assert page.evaluate("RUNS")
    assert page.locator("#recorded").is_hidden()
