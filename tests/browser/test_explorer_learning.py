"""Learning watched on the explorer page: a slider over the epochs, and what everything was after each."""

import re

import numpy as np
import pytest
from explorer_models import WORD_INDEX, quoted, sentiment

from scratchlstm.callbacks import Snapshots
from scratchlstm.inspection import explore, trace
from scratchlstm.layers import LSTM, Dense

TEXT = ["a", "film", "it", "was", "not", "good"]
EVERY, EPOCHS = 5, 20


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The page of a model that learns to hear "not", its snapshots, and the model."""
    model = sentiment(LSTM(3, dtype="float64"), length=None, last=[Dense(1, "sigmoid", dtype="float64")])
    x = np.array([[WORD_INDEX[word] + 3 for word in ("not", other)] for other in ("good", "bad", "film", "it")])
    learning = Snapshots(EVERY)
    model.fit(np.concatenate([x, x[:, ::-1]]), [0, 1] * 4, epochs=EPOCHS, verbose=0, callbacks=[learning])
    path = tmp_path_factory.mktemp("page") / "page.html"
    explore(
        model, TEXT, path, word_index=WORD_INDEX, label=1, start_char=None, oov_char=None, snapshots=learning.snapshots
    )
    return path, learning.snapshots, model


@pytest.fixture
def page(window, learned):
    return window(learned[0])


def _traces(learned):
    """Of each snapshot."""
    _, snapshots, model = learned
    ids = np.array([[WORD_INDEX[word] + 3 for word in TEXT]])
    last = model.get_weights()
    found = []
    for _, weights in snapshots:
        model.set_weights(weights)
        found.append(trace(model, ids, np.array([1])))
    model.set_weights(last)
    return found


def _curves(page, name):
    """The values of each line of a plot, relative to its top."""
    drawn = page.locator(f"#learned-{name} .curve").evaluate_all("all => all.map((each) => each.getAttribute('d'))")
    return [1 - np.array(re.findall(r"[\d.]+,([\d.e-]+)", line.split("L")[1]), dtype=float) for line in drawn]


def test_without_snapshots_there_is_nothing_to_watch(window, learned, tmp_path):
    explore(learned[2], TEXT, tmp_path / "page.html", word_index=WORD_INDEX)
    page = window(tmp_path / "page.html")
    assert page.locator("#learning").is_hidden()
    assert page.locator("#learning *").count() == 0


def test_the_page_begins_where_training_moved_the_forget_gate_most(page, learned):
    first, last = (found.lstm.f[0] for found in (_traces(learned)[0], _traces(learned)[-1]))
    unit = page.evaluate("state.unit")
    assert page.evaluate("state.step") == np.abs(last - first)[:, unit].argmax()


def test_every_epoch_shows_the_model_of_then(page, learned):
    """By the keyboard: the numbers of the cell, the words and the text are those of the snapshot's trace."""
    page.locator("#epoch").focus()
    page.keyboard.press("Home")
    for number, found in enumerate(_traces(learned)):
        text = page.locator("#epoch-text").text_content()
        epoch, loss = re.fullmatch(r"Epoch (\d+) of 20, loss of this sentence (\S+)\. ", text).groups()
        assert int(epoch) == number * EVERY
        assert page.locator("#epoch").get_attribute("aria-valuetext").capitalize() == text[:-2]
        np.testing.assert_allclose(float(loss), found.loss, rtol=0.05)
        for name in ("f", "c", "h"):
            ours = np.array(page.evaluate(f"Array.from(current().{name})"))
            np.testing.assert_allclose(ours, getattr(found.lstm, name).ravel(), rtol=1e-12)
        shown = page.locator("#words small").last.text_content()
        np.testing.assert_allclose(float(shown), found.prediction.item(), rtol=1e-3)
        compared = "; at epoch 0 it kept" in page.locator("#learned-text").text_content()
        assert compared == (number > 0)
        page.keyboard.press("ArrowRight")


def test_the_curves_are_the_gates_and_the_loss_over_the_epochs(page, learned):
    page.locator("#words button", has_text="not").click()
    found, step, unit = _traces(learned), TEXT.index("not"), page.evaluate("state.unit")
    keys = page.locator("#learned-gates .key")
    for number, gate in enumerate("fio"):
        values = np.array([getattr(each.lstm, gate)[0, step, unit] for each in found])
        np.testing.assert_allclose(_curves(page, "gates")[number], values, rtol=1e-9)
        name, value = keys.nth(number).text_content().split()
        assert name == gate
        np.testing.assert_allclose(float(value), values[-1], rtol=0.01)
    losses = np.array([each.loss for each in found])
    np.testing.assert_allclose(_curves(page, "outcome"), [losses / losses.max()], rtol=1e-9)
    kept = f"At {quoted('not')} unit {unit} keeps {100 * found[-1].lstm.f[0, step, unit]:.0f} % of its cell"
    assert kept in page.locator("#learned-text").text_content()
    assert "f from " in page.locator("#learned-gates svg").get_attribute("aria-label")


def test_a_click_into_a_plot_goes_to_its_epoch_and_the_cursors_follow(page):
    plot = page.locator("#learned-gates svg")
    plot.click(position={"x": plot.bounding_box()["width"] * 0.3, "y": 20})
    assert page.locator("#epoch").input_value() == "1"
    cursors = page.locator("#learning .cursor").evaluate_all("all => all.map((each) => each.getAttribute('d'))")
    assert [cursor.split(",")[0] for cursor in cursors] == ["M1.5", "M1.5"]


def test_curves_follow_the_sentence(page, learned):
    (before,) = _curves(page, "outcome")
    page.evaluate("experimentWith({ label: [0] })")
    page.evaluate("async () => { while (!isLearned()) await new Promise(setTimeout); }")
    (after,) = _curves(page, "outcome")
    losses = np.array([-np.log(1 - each.prediction.item()) for each in _traces(learned)])
    np.testing.assert_allclose(after, losses / losses.max(), rtol=1e-9)
    assert not np.allclose(before, after)


def test_play_goes_from_the_first_epoch_to_the_last_and_stops(page):
    press = "() => { byId('learning-play').click(); return [byId('learning-play').textContent, byId('epoch').value]; }"
    assert page.evaluate(press) == ["Pause", "0"]
    page.locator("#learning-play", has_text="Play the epochs").wait_for()
    assert page.locator("#epoch").input_value() == str(EPOCHS // EVERY)
    assert page.evaluate(press) == ["Pause", "0"]
    text, number = page.evaluate(press)
    assert text == "Play the epochs"
    page.wait_for_timeout(500)
    assert page.locator("#epoch").input_value() == number


def test_a_phone_has_room_for_it(window, fits, learned):
    page = window(learned[0], viewport={"width": 390, "height": 844})
    fits(page)
    boxes = [page.locator(f"#learned-{name} svg").bounding_box() for name in ("gates", "outcome")]
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]
