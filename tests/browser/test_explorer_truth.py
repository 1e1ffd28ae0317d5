"""The explorer page makes no false statements, however odd the model or the change."""

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, sentiment

from scratchlstm.activations import Activation
from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM, Dense


def _compiled(last, loss, **options):
    model = sentiment(LSTM(3), last=[last], compiled=False, **options)
    model.compile("adam", loss)
    return model


@pytest.fixture
def opened(window, tmp_path):
    """Opens the page of a model."""

    def open_page(model, text=SENTENCE, **options):
        explore(model, text, tmp_path / "page.html", word_index=WORD_INDEX, **options)
        return window(tmp_path / "page.html")

    return open_page


@pytest.fixture
def masked(opened):
    """Three words after masked padding, and the weights as they were before training."""
    model = sentiment(mask_zero=True, epochs=1)
    before = [0.5 * weight for weight in model.get_weights()]
    return opened(model, "a good film", snapshots=[(0, before)])


def say(page, of):
    return page.evaluate(f"open({of})") or page.locator("#number-origin").inner_text()


def test_why_a_sum_is_empty(masked):
    masked.evaluate("unfoldPadding()")
    assert "starts at 0" in say(masked, "at('c_prev', {step: 0, unit: 0})")
    assert "At a masked step" in say(masked, "at('dz_f', {step: 0, unit: 0})")
    assert "only h after the last step" in say(masked, "at('dh_above', {step: 0, unit: 0})")
    masked.evaluate("open(at('dE', {row: rowOf.get(readable.get('good').id), feature: 0}))")
    masked.locator("#typed").fill("a film")
    masked.locator("#typed").press("Enter")
    assert "This word does not occur in the sentence" in masked.locator("#number-origin").inner_text()


def test_what_is_nudged_at_a_masked_step_is_told(masked):
    masked.evaluate("unfoldPadding(), open(at('h', {step: 2, unit: 0})), nudge(0.1)")
    assert masked.locator("#status").inner_text().endswith("and h = 0.100, and h is nudged by 0.100.")
    assert (
        masked.locator("#learned-text").inner_text()
        == "The mask skips this step: the cell is kept, whatever was learned."
    )


def test_a_refused_label_leaves_its_controls_as_they_were(opened):
    page = opened(_compiled(Dense(2), "mse"), label=[1, 2])
    page.locator(".label-value").first.fill("1e300")
    page.locator(".label-value").first.press("Enter")
    assert "nothing was changed" in page.locator("#change-answer").inner_text()
    assert page.locator(".label-value").first.input_value() == "1"
    assert page.locator("#chain").inner_text().count("dlogit") == 1  # which is 2 (p − y) / 2 outputs
    assert "p − y" not in page.locator("#chain").inner_text()


def test_a_label_that_explore_would_not_take_is_refused(opened):
    page = opened(_compiled(Dense(2, activation="sigmoid"), "binary_crossentropy"), label=[1, 0])
    page.locator(".label-value").first.fill("5")
    page.locator(".label-value").first.press("Enter")
    assert "labels from 0 to 1" in page.locator("#change-answer").inner_text()
    assert page.evaluate("experiment.label") == [1, 0]
    assert page.locator(".label-value").first.input_value() == "1"


def test_weights_that_explode_leave_the_epoch_as_it_was(opened):
    model = sentiment(LSTM(3, dtype="float64"), last=[Dense(1, activation="sigmoid", dtype="float64")])
    embeddings, *others = model.get_weights()
    huge = [1e10 * embeddings, *(1e308 * np.sign(weight) for weight in others)]
    page = opened(model, snapshots=[(0, huge)])
    page.locator("#epoch").fill("0")
    assert page.locator("#epoch-text").inner_text().startswith("Epoch 0: Some numbers would no longer be")
    assert page.locator("#epoch").input_value() == "1"
    assert "NaN" not in page.locator("#learning").inner_text()


def test_a_nudged_logit_is_no_part_of_the_other_units(opened):
    page = opened(sentiment())
    page.keyboard.press("End")
    line = page.locator("#forward-equations li", has_text="logit = h · w").first
    before = line.locator(".numbers").inner_text().split(" + ")[1].split(" = ")[0]
    page.evaluate("open(at('logit', {step: current().last, output: 0})), nudge(1)")
    assert line.locator(".numbers").inner_text().split(" + ")[1] == before
    symbols = line.locator(".symbols").text_content()
    assert symbols.startswith("logit = h · w + the other units’ h · w + b_dense + your nudge")


def test_a_number_can_be_set_as_it_is_printed(opened):
    page = opened(sentiment())
    page.evaluate("open(at('b', {gate: 'f', unit: 0}))")
    page.locator("#set-to").fill("−2.5e−1")
    page.locator("#set").click()
    assert page.evaluate("current().weights.b[5]") == pytest.approx(-0.25)


def test_a_loss_without_digits_for_a_slope_is_said_to_have_none(opened):
    page = opened(_compiled(Dense(1), "mse"), label=0)
    page.evaluate("open(at('w_b', {output: 0})), nudge(1e9)")
    page.locator("#agreement", has_text="digits").wait_for()
    page.evaluate("open(at('b', {gate: 'f', unit: 0}))")
    page.locator("#agreement", has_text="is too small to be measured with the digits").wait_for()


def test_words_with_commas_have_their_own_columns(opened):
    page = opened(sentiment(epochs=0), ["good", "film", "film,good"])
    names = "overviewMap.columns.textContent"
    assert page.evaluate(names).endswith("goodfilmfilm,good")
    page.evaluate(
        "experimentWith({ steps: [...experiment.steps.slice(0, -3), "
        "{word: 'good,film', kind: 'unknown', id: 2}, experiment.steps.at(-2), experiment.steps.at(-3)] })"
    )
    assert page.evaluate(names).endswith("good,filmfilmgood")


def test_an_activation_may_have_any_name(opened):
    odd = Activation("c++ (x", np.tanh, lambda y: 1 - y * y)
    page = opened(sentiment(LSTM(3, activation=odd), epochs=0))
    assert "custom c++ (x" in page.locator("#forward-equations").inner_text()
