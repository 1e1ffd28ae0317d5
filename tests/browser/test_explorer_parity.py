"""What the page computes in JavaScript, against `trace` and the model's own gradients."""

import numpy as np
import pytest
from explorer_models import WORD_INDEX, as_read, random_label, random_reader, random_text

from scratchlstm.inspection import explore, trace
from scratchlstm.layers.passes import Pass

STATES = "i f g o c h c_prev h_prev z_i z_f z_g z_o".split()
GRADIENTS = "dh_above dh_next dh dh_prev dc_next dc dc_prev dz_i dz_f dz_g dz_o d_input".split()
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
    """The same from the page; its embedding gradient for the rows that it has, {id: row}."""
    return page.evaluate(
        """names => {
            const pass = current();
            const arrays = Object.fromEntries(names.map(name => [name, Array.from(pass[name])]));
            return [{ ...arrays, loss: pass.loss, prediction: Array.from(pass[data.activation === "linear" ? "logit" : "p"][pass.last]) }, data.ids];
        }""",
        [*STATES, *GRADIENTS[:-1], "dx", "dW", "dU", "db", "dE", "dw", "dw_b"],
    )


def wrong(model, text, label, page):
    """Name -> the norm of the difference relative to the larger of both norms, where that is too large."""
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
    for dtype in ("float64", "float32", "mixed"):
        model, text = random_reader(seed, dtype), random_text(seed)
        label = random_label(model, seed)
        assert not wrong(model, text, label, opened(model, text, label)), dtype
