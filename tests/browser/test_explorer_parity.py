"""What the page computes in JavaScript, against `trace` and the model's own gradients."""

import numpy as np
import pytest
from explorer_models import WORD_INDEX, as_read, random_label, random_reader, random_text

from scratchlstm.inspection import explore, trace
from scratchlstm.layers.passes import Pass

STATES = ["i", "f", "g", "o", "c", "h", "c_prev", "h_prev", "z_i", "z_f", "z_g", "z_o"]
GRADIENTS = [
    "dh_above",
    "dh_next",
    "dh",
    "dh_prev",
    "dc_next",
    "dc",
    "dc_prev",
    "dz_i",
    "dz_f",
    "dz_g",
    "dz_o",
    "d_input",
]
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


def computed_here(model, x, label):
    """Name -> array: a trace of one text, and the gradients of all parameters, under the page's names."""
    y = np.asarray(label)[None]
    traced = trace(model, x, y)
    lstm = traced.lstm
    arrays = {name: getattr(lstm, name)[0] for name in STATES + GRADIENTS}
    arrays["dx"] = arrays.pop("d_input")
    arrays |= {"loss": lstm.h.dtype.type(traced.loss), "prediction": traced.prediction[0]}
    y_pred, cache = model.network.forward(x, Pass(training=False, keeps_states=False))
    _, dy, from_logits = model.loss_with_gradient(y, y_pred, cache.kept)
    grads = model.gradients_by_name(dy, cache, from_logits)
    names = {"kernel": "dW", "recurrent_kernel": "dU", "bias": "db"}
    of_layer = {lstm.name: names, model.layers[-1].name: {"kernel": "dw", "bias": "dw_b"}}
    for name, gradient in grads.items():
        layer, param = name.split("/")
        if layer in of_layer:
            arrays[of_layer[layer][param]] = gradient
        else:
            arrays["dE"] = gradient.dense()
    return arrays


def computed_there(page):
    """The same from the page, and the ids whose rows its embedding gradient has."""
    return page.evaluate(
        """names => {
            const pass = current();
            const arrays = Object.fromEntries(names.map(name => [name, Array.from(pass[name])]));
            const dz = (of) => everyGateAndUnit(pass, (gate, unit) => valueOf(pass, of(gate, unit)));
            arrays.dW = everyFeature(pass, (feature) => dz((gate, unit) => at("dW", { gate, feature, unit }))).flat();
            arrays.dU = everyUnit(pass, (from) => dz((gate, unit) => at("dU", { gate, from, unit }))).flat();
            arrays.db = dz((gate, unit) => at("db", { gate, unit }));
            const outputs = pass[data.activation === "linear" ? "logit" : "p"][pass.last];
            return [{ ...arrays, loss: pass.loss, prediction: Array.from(outputs) }, data.ids];
        }""",
        [*STATES, *GRADIENTS[:-1], "dx", "dE", "dw", "dw_b"],
    )


def wrong(model, text, label, page):
    """Name -> the norm of the difference relative to the larger of both norms, if that is too large."""
    own = page.evaluate("data.label")
    expected = computed_here(model, as_read(model, text), own if label is None else label)
    found, ids = computed_there(page)
    assert not np.delete(expected["dE"], ids, axis=0).any(), "a word that the page does not have got a gradient"
    expected["dE"] = expected["dE"][ids]
    errors = {name: relative(np.ravel(found[name]), np.ravel(array)) for name, array in expected.items()}
    return {name: error for name, error in errors.items() if not error <= TOLERANCES[expected[name].dtype.name]}


def relative(found, expected):
    size = max(np.linalg.norm(found), np.linalg.norm(expected))
    return np.linalg.norm(found - expected) / size if size else 0.0


@pytest.fixture
def opened(window, tmp_path):
    """Opens the page of a model; of further ones in the same window."""
    pages = []

    def open_page(model, text, label=None, change=lambda html: html):
        path = tmp_path / "page.html"
        explore(model, text, path, word_index=WORD_INDEX, label=label)
        path.write_text(change(path.read_text("utf-8")), "utf-8")
        if pages:
            pages[0].reload()
        else:
            pages.append(window(path, bypass_csp=True))
        assert pages[0].evaluate("RUNS")
        return pages[0]

    return open_page


@pytest.mark.parametrize("seed", range(20))
def test_every_quantity_is_that_of_trace(opened, seed):
    for dtype in ("float64", "float32") if seed % 5 else ("float64", "float32", "mixed"):
        model, text = random_reader(seed, dtype), random_text(seed)
        label = random_label(model, seed)
        assert not wrong(model, text, label, opened(model, text, label)), dtype


MISTAKES = {  # in the page's script
    "(1 - tanh_c[p] * tanh_c[p])": "(1 - tanh_c[p])",
    "df[p] = dc[p] * c_prev[p]": "df[p] = dc[p] * pass.c[p]",
    "dh[p] = dh_above[p] + dh_next[p]": "dh[p] = dh_above[p]",
    "df[p] * sigmoidSlope(z_f[p])": "df[p] * sigmoidSlope(z_i[p])",
    "dc_prev[p] = dc[p] * f[p]": "dc_prev[p] = dc[p]",
    "(backwards ? T - 1 - step : step)": "step",
    "if (!counts[t]) {": "if (false) {",
    "?? Math.tanh(z_g[p])": "?? sigmoid(z_g[p])",
    "pass.dE[row * E + k] +=": "pass.dE[row * E + k] =",
    "label[d]) * slope) / mean": "label[d]) * slope)",
    "(z >= 0 ? 1 : e) / (1 + e)": "1 / (1 + e)",
}


def test_a_mistake_in_the_page_is_seen(opened):
    seed = 11  # whose model is masked, padded, goes backwards and has several outputs
    model, text = random_reader(seed, "float64"), random_text(seed)
    label = random_label(model, seed)
    for right, mistaken in MISTAKES.items():

        def planted(html, right=right, mistaken=mistaken):
            assert html.count(right) == 1, right
            return html.replace(right, mistaken)

        assert wrong(model, text, label, opened(model, text, label, planted)), mistaken


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_gates_that_are_shut_or_wide_open_are_those_of_trace(opened, scale):
    """With z of a thousand and far more, of both signs: nothing overflows, and gradients of 0 are 0."""
    for seed in (0, 1, 5):
        model, text = random_reader(seed, "float64"), random_text(seed)
        embeddings, *others = model.get_weights()
        model.set_weights([embeddings, *(scale * weight for weight in others)])
        label = random_label(model, seed)
        page = opened(model, text, label)
        assert page.evaluate("Math.max(...current().z_f.map(Math.abs))") > 800 or seed == 5
        assert page.evaluate("isFinitePass(current())")
        assert not wrong(model, text, label, page)


def test_gradients_too_small_for_their_squares_are_those_of_trace(opened):
    model, text = random_reader(0, "float64"), random_text(0)
    *others, kernel = model.get_weights()
    model.set_weights([*others, 1e-200 * kernel])
    page = opened(model, text, 1)
    assert 0 < page.evaluate("Math.max(...current().dx.map(Math.abs))") < 1e-160
    assert not wrong(model, text, 1, page)


def test_a_class_number_in_a_list_is_a_label_too(opened):
    model, text = random_reader(1, "float64"), random_text(1)
    assert not wrong(model, text, [1], opened(model, text, [1]))


# of numbers that can be changed: [it, the equations' slope, the measured one]
SLOPES = """() => {
    const pass = current(), { last } = pass, unit = pass.dims.H - 1, feature = pass.dims.E - 1, output = 0;
    const steps = everyStep(pass, (step) => step).filter((step) => step % 3 === last % 3 && pass.counts[step]);
    const ofGate = (gate) =>
        [at("W", { gate, feature, unit }), at("U", { gate, from: 0, unit }), at("b", { gate, unit })];
    const ofStep = (step) => [
        ...[...GATES, "z_i", "z_f", "z_g", "z_o", "c", "h"].map((name) => at(name, { step, unit })),
        at("x", { step, feature }), at("E", { row: pass.rows[step], feature }),
    ];
    const head = [at("w", { unit, output }), at("w_b", { output }), at("logit", { step: last, output })];
    return [...steps.flatMap(ofStep), ...GATES.flatMap(ofGate), ...head].map(
        (q) => [JSON.stringify(q), valueOf(pass, gradientOf(q)), measuredSlope(experiment, q)]);
}"""
CHANGES = [
    "{}",
    "{ held: [{ gate: 'f', unit: null, value: 0.3 }, { gate: 'o', unit: 0, value: 1 }] }",
    "['i', 'z_g', 'c'].reduce((tried, name) => shifted(tried, at(name, { step: 2, unit: 0 }), 0.1), experiment)",
    "shifted(shifted(experiment, at('x', { step: 2, feature: 0 }), 0.1), at('W', {gate: 'i', feature: 0, unit: 0}), 1)",
]


@pytest.mark.parametrize("seed", [0, 7, 11, 16])  # masked or not, backwards or not, padded, cut
def test_every_slope_is_the_measured_one_whatever_the_reader_has_changed(opened, seed):
    model = random_reader(seed, "float64")
    page = opened(model, random_text(seed), random_label(model, seed))
    for change in CHANGES:
        assert page.evaluate(f"experimentWith({change})") == ""
        slopes = page.evaluate(SLOPES)
        assert len(slopes) > 20
        for q, slope, measured in slopes:
            assert measured == pytest.approx(slope, rel=1e-6, abs=1e-9), (q, change)
