"""The explorer page on Python's side: the numbers in it are those of `trace`, and nothing in it can run."""

import base64
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, WORDS, sentiment, stacked

from scratchlstm.__main__ import main
from scratchlstm.datasets import imdb
from scratchlstm.inspection import explore, explorer, trace
from scratchlstm.layers import LSTM, Dense, Embedding, Flatten, SimpleRNN
from scratchlstm.preprocessing.sequence import pad_sequences


@pytest.fixture(scope="module")
def model():
    return sentiment()


@pytest.fixture
def page(tmp_path):
    """Writes a page and reads its data."""

    def write(model, text, **options):
        path = tmp_path / "page.html"
        explore(model, text, path, **{"word_index": WORD_INDEX} | options)
        return data_of(path)

    return write


def data_of(path):
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"))
    return json.loads(data)


def numbers(layer, text):
    return np.frombuffer(base64.b64decode(text), np.dtype(layer["dtype"]).newbyteorder("<"))


def arrays_of(layer):
    """Name -> (units, steps)."""
    return {name: numbers(layer, text).reshape(len(layer["units"]), -1) for name, text in layer["arrays"].items()}


def of_unit(layer):
    """Name -> (units,)."""
    return {name: numbers(layer, text) for name, text in layer["of_unit"].items()}


def padded(model, text):
    ids = imdb.encode_review(text, num_words=model.layers[0].input_dim, word_index=WORD_INDEX)
    return pad_sequences([ids], maxlen=model.input_shape[0])


# --- the numbers ------------------------------------------------------------------------------------------------------


def _wide():
    """In float64, whose numbers the page holds as they are."""
    float64 = {"dtype": "float64"}
    return sentiment(LSTM(5, **float64), last=[Dense(1, activation="sigmoid", **float64)])


MODELS = [sentiment, stacked, lambda: sentiment(mask_zero=True), lambda: sentiment(LSTM(5, go_backwards=True)), _wide]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("label", [None, 0.0])
def test_every_number_is_that_of_trace(page, make, label):
    model = make()
    data = page(model, SENTENCE, label=label)
    x, steps = padded(model, SENTENCE), len(data["steps"])
    y = np.round(model.predict(x, verbose=0)) if label is None else [[label]]
    traced = trace(model, x, y)
    assert data["loss"] == traced.loss
    assert [layer["name"] for layer in data["layers"]] == list(traced.layers)
    for layer, own in zip(data["layers"], traced.layers.values(), strict=True):
        assert (layer["of"], layer["backwards"], layer["dtype"]) == (own.units, own.go_backwards, str(own.h.dtype))
        assert layer["counts"] == own.mask[0, -steps:].tolist()
        assert layer["d_words"] == own.d_words[0, -steps:].tolist()
        arrays, u = arrays_of(layer), own.h_prev[0] @ own.recurrent_kernel
        for name in ("i", "f", "g", "o", "c", "h", "z_i", "z_f", "z_g", "z_o", "dc", "dh_prev", "dz_o"):
            np.testing.assert_array_equal(
                arrays.pop(name), getattr(own, name)[0, -steps:, layer["units"]], err_msg=name
            )
        H = own.units
        for place, gate in enumerate("ifgo"):
            columns = place * H + np.array(layer["units"])
            np.testing.assert_array_equal(arrays.pop(f"u_{gate}"), u[-steps:, columns].T)
            np.testing.assert_array_equal(of_unit(layer)[f"b_{gate}"], own.bias[columns])
        assert not arrays


@pytest.mark.parametrize("make", MODELS)
def test_what_comes_from_beyond_the_page_is_that_of_trace(page, make):
    """States before the first step that is computed, gradients behind the last one, and what comes from above."""
    model = make()
    data, x = page(model, "a wonderful film"), padded(model, "a wonderful film")
    assert 0 < len(data["steps"]) < x.shape[1]
    traced, steps = trace(model, x, np.round(model.predict(x, verbose=0))), len(data["steps"])
    for layer, own in zip(data["layers"], traced.layers.values(), strict=True):
        first, last = (-1, -steps) if own.go_backwards else (-steps, -1)
        for name, array, step in (
            ("h_before", own.h_prev, first),
            ("c_before", own.c_prev, first),
            ("dh_after", own.dh_next, last),
            ("dc_after", own.dc_next, last),
        ):
            np.testing.assert_array_equal(of_unit(layer)[name], array[0, step, layer["units"]], err_msg=name)
        above = np.zeros((len(layer["units"]), steps), own.h.dtype)
        above[:, layer["above_at"]] = numbers(layer, layer["above"]).reshape(len(above), -1)
        np.testing.assert_array_equal(above, own.dh_above[0, -steps:, layer["units"]])


def test_from_above_the_gradient_comes_at_the_last_word_alone_or_at_every_one(page, model):
    assert page(model, SENTENCE)["layers"][0]["above_at"] == [11]
    below = page(stacked(), SENTENCE)["layers"]
    assert [layer["above_at"] for layer in below] == [list(range(12)), list(range(12)), [11]]


def test_a_small_gradient_from_above_is_not_taken_for_rounding(page):
    """Of two layers' worth, one 1e-7 of the other."""
    model = sentiment(LSTM(4, return_sequences=True), LSTM(3))
    kernel = model.layers[2].params["kernel"]
    kernel *= 1e-7
    (below, _), x = page(model, SENTENCE)["layers"], padded(model, SENTENCE)
    above = trace(model, x, np.round(model.predict(x, verbose=0)))["lstm"].dh_above[0]
    assert np.abs(above).max() < 1e-6
    assert len(below["above_at"]) == np.count_nonzero(above.any(axis=1)) > 1


@pytest.mark.parametrize("length", [12, None])
def test_the_output_after_each_word_is_that_of_the_text_so_far(page, length):
    model = sentiment(length=length)
    data = page(model, ["wonderful", "bad", "film"])
    for end, output in enumerate(data["outputs"], start=1):
        ids = [1, *(WORD_INDEX[word] + 3 for word in ("wonderful", "bad", "film"))][:end]
        expected = model.predict(pad_sequences([ids], maxlen=length), verbose=0)[0, 0]
        assert output == pytest.approx(expected, rel=1e-5)


def test_units_are_sorted_by_what_the_loss_hangs_on(page, model):
    layer = page(model, SENTENCE)["layers"][0]
    arrays = arrays_of(layer)
    np.testing.assert_allclose(layer["scores"], np.abs(arrays["dc"] * arrays["c"]).sum(axis=1), rtol=1e-5)
    x = padded(model, SENTENCE)
    importance = trace(model, x, np.round(model.predict(x, verbose=0))).lstm.importance()
    np.testing.assert_allclose(layer["scores"], importance[layer["units"]], rtol=1e-5)
    assert layer["scores"] == sorted(layer["scores"], reverse=True)
    assert sorted(layer["units"]) == list(range(5))


def test_the_model_is_left_as_it_was(page, model):
    before = model.get_weights(), model.optimizer.iterations
    page(model, SENTENCE)
    assert all(map(np.array_equal, before[0], model.get_weights()))
    assert model.optimizer.iterations == before[1]


def test_without_a_loss_there_is_no_way_back(page):
    data = page(sentiment(compiled=False), SENTENCE)
    assert data["loss"] is None
    assert not data["compiled"]
    assert "dc" not in data["layers"][0]["arrays"]


@pytest.mark.parametrize(
    ("loss", "activation", "of"),
    [
        ("sparse_categorical_crossentropy", "softmax", int),
        ("categorical_crossentropy", "softmax", list),
        ("binary_crossentropy", "sigmoid", list),
    ],
)
def test_several_outputs_show_the_largest(page, loss, activation, of):
    model = sentiment(last=[Dense(3, activation=activation)])
    model.compile("adam", loss)
    data = page(model, SENTENCE)
    output = model.predict(padded(model, SENTENCE), verbose=0)[0]
    assert data["output"] == f"output {np.argmax(output)} of 3"
    assert data["outputs"][-1] == pytest.approx(output.max(), rel=1e-5)
    assert isinstance(data["label"], of)


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_an_answer_that_is_no_class_is_no_label(page, loss):
    model = sentiment(last=[Dense(1)])
    model.compile("adam", loss)
    data = page(model, SENTENCE)
    assert (data["label"], data["loss"], data["compiled"]) == (None, None, True)
    assert "dc" not in data["layers"][0]["arrays"]
    data = page(model, SENTENCE, label=0.25)
    assert data["label"] == 0.25
    output = model.predict(padded(model, SENTENCE), verbose=0)[0, 0]
    assert data["loss"] == pytest.approx((output - 0.25) ** 2 if loss == "mse" else abs(output - 0.25))
    assert "dc" in data["layers"][0]["arrays"]


def test_all_prefixes_are_one_batch_where_the_length_is_stated(page, model, monkeypatch):
    batches, predict = [], type(model).predict

    def counted(self, x, **options):
        batches.append(x.shape)
        return predict(self, x, **options)

    monkeypatch.setattr(type(model), "predict", counted)
    page(model, SENTENCE)
    assert batches == [(12, 12)]


# --- the text ---------------------------------------------------------------------------------------------------------


def test_words_are_shown_as_they_are_read(page, model):
    steps = page(model, "Wonderful, <b>FILM</b> 🎬 שלום")["steps"]
    kinds = {"<start>": "start", "wonderful": "word", "film": "word"}
    words = ["<start>", "wonderful", "b", "film", "b", "🎬", "שלום"]
    assert steps == [{"word": word, "kind": kinds.get(word, "unknown")} for word in words]


_EVIL = ["</script><script>alert(1)</script>", "<!--", "]]>", "&lt;", "\u2028", '"\\', "{{SCRIPT}}", "\udc80"]


def test_nothing_in_a_sentence_can_run(tmp_path, model):
    explore(model, ["film", *_EVIL], tmp_path / "evil.html", word_index=WORD_INDEX)
    explore(model, ["film"], tmp_path / "plain.html", word_index=WORD_INDEX)
    evil, plain = ((tmp_path / f"{name}.html").read_text("utf-8") for name in ("evil", "plain"))
    assert [step["word"] for step in data_of(tmp_path / "evil.html")["steps"]] == ["<start>", "film", *_EVIL]
    for mark in "<>&\u2028":
        assert evil.count(mark) == plain.count(mark)


def test_the_policy_lets_nothing_in_but_the_pages_own_style_and_script(tmp_path, model):
    explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:,)", page)
    for forbidden in ("innerHTML", "eval(", "document.write", "insertAdjacentHTML", "Function("):
        assert forbidden not in page


def test_a_long_text_is_cut_to_what_the_model_reads(page, model):
    data = page(model, "good bad " * 5000)
    assert len(data["steps"]) == 12
    assert (data["left_out"], data["padding"]) == (9988, 0)
    assert {step["word"] for step in data["steps"]} == {"good", "bad"}


def test_a_model_of_any_length_reads_the_last_words(page, tmp_path):
    data = page(sentiment(LSTM(64), length=None), "good bad " * 5000)
    assert (len(data["steps"]), data["left_out"]) == (explorer.MOST_STEPS, 10_000 - explorer.MOST_STEPS)
    assert len(data["layers"][0]["units"]) < 64  # those that mattered most


@pytest.mark.parametrize(
    ("units", "length", "words", "dtype"),
    [(60, 100, 100, "float32"), (64, None, 200, "float32"), (256, 100, 20, "float32"), (60, 100, 100, "float64")],
)
def test_a_page_stays_below_half_a_megabyte(page, tmp_path, units, length, words, dtype):
    dense = Dense(1, activation="sigmoid", dtype=dtype)
    data = page(sentiment(LSTM(units, dtype=dtype), length=length, last=[dense]), ["good", "bad"] * (words // 2))
    assert (tmp_path / "page.html").stat().st_size < 500_000
    assert (tmp_path / "page.html").stat().st_size > 400_000
    layer = data["layers"][0]
    assert len(data["steps"]) == min(words + 1, length or explorer.MOST_STEPS)
    assert layer["scores"] == sorted(layer["scores"], reverse=True)


def test_the_tutorials_model_shows_all_units_of_a_sentence(page, tmp_path):
    wide = sentiment(LSTM(60), length=100, epochs=0)
    assert len(page(wide, SENTENCE)["layers"][0]["units"]) == 60
    assert (tmp_path / "page.html").stat().st_size < 150_000


def test_ids_of_a_tokenizer(page):
    options = {"index_from": 0, "start_char": None, "oov_char": None}
    assert [step["word"] for step in page(sentiment(), "a film unheard of", **options)["steps"]] == ["a", "film"]


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("xyzzy plugh", {}, "the model knows none of the words, which begin with 'xyzzy', 'plugh'"),
        ("🎬", {}, "knows none of the words"),
        ("?!", {}, "there is no word in '?!'"),
        ([], {}, "there is no word"),
        (["film", 3], {}, "must be a sentence or a list of words"),
        (b"film", {}, "must be a sentence or a list of words"),
        (7, {}, "must be a sentence or a list of words, not 7"),
        ("film", {"word_index": ["film"]}, "word_index must be a dict of words and ranks, got list"),
        ("film", {"word_index": {3: "film"}}, "is it the wrong way round?"),
        ("film", {"word_index": {}}, "word_index is empty"),
        ("film", {"label": 2}, "targets from 0 to 1"),
        ("film", {"label": [0, 1]}, "shape"),
    ],
)
def test_texts_and_options_that_cannot_be(tmp_path, model, text, options, match):
    with pytest.raises((TypeError, ValueError), match=re.escape(match)):
        explore(model, text, tmp_path / "page.html", **{"word_index": WORD_INDEX} | options)
    assert not list(tmp_path.iterdir())


def _stateful():
    model = sentiment(compiled=False)
    model.layers[1].stateful = True
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: "model", "model must be a Model or Sequential, not str"),
        (lambda: type(sentiment())([Embedding(20, 3), LSTM(2)]), "no parameters yet"),
        (lambda: type(sentiment())([LSTM(2, input_shape=(4, 3))]), "must begin with an Embedding, not lstm"),
        (lambda: sentiment(Flatten()), "the model has none"),
        (lambda: sentiment(SimpleRNN(3)), "the model has none"),
        (lambda: sentiment(LSTM(3, return_sequences=True), compiled=False), "models with one output (D,) for a text"),
        (lambda: sentiment(LSTM(3, activation="relu")), "with tanh and sigmoid, but lstm has relu and sigmoid"),
        (_stateful, "the model is stateful"),
    ],
)
def test_models_that_cannot_be_shown(tmp_path, make, match):
    with pytest.raises((TypeError, ValueError), match=re.escape(match)):
        explore(make(), SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def exploding():
    """A model whose forward pass is well, and whose gradient is not."""
    rng = np.random.default_rng(0)
    model = sentiment(LSTM(128), length=None, mask_zero=True)
    model.set_weights([rng.normal(size=w.shape) * 1.2 for w in model.get_weights()])
    return model


def test_a_gradient_that_explodes_is_said_and_nothing_written(tmp_path, exploding):
    match = r"the gradient exploded: on its way back through lstm it is not finite from step \d+ \('\w+'\) on"
    with pytest.raises(ValueError, match=match) as refusal:
        explore(exploding, ["film", "was", "bad"] * 66, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())
    step = int(re.search(r"step (\d+)", str(refusal.value))[1]) - 1
    ids = [1, *(WORD_INDEX[word] + 3 for word in ["film", "was", "bad"] * 66)]
    with np.errstate(over="ignore", invalid="ignore"):
        layer = trace(exploding, [ids], np.round(exploding.predict(np.array([ids]), verbose=0))).lstm
    finite = [np.isfinite(layer.dh[0, t]).all() and np.isfinite(layer.d_input[0, t]).all() for t in (step, step + 1)]
    assert finite == [False, True]


def test_large_gradients_are_shown_as_long_as_they_are_finite(page, exploding):
    data = page(exploding, ["film", "was", "bad"] * 50)
    largest = max(data["layers"][0]["d_words"])
    assert 1e19 < largest < np.inf  # beyond what float32 can square


def test_a_model_of_texts_that_no_memory_holds_is_refused(tmp_path):
    model = sentiment(epochs=0)
    model.network.input_shapes = [(10**13,)]
    with pytest.raises(ValueError, match="the model reads 10,000,000,000,000 words at once"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_not_finite_is_said(tmp_path):
    model = sentiment(epochs=0, last=[Dense(1)])
    model.layers[0].params["embeddings"][WORD_INDEX["loved"] + 3] = np.nan
    with pytest.raises(ValueError, match=r"the model's output is not finite from step 5 \('loved'\) on"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


def test_a_label_needs_a_loss(tmp_path):
    with pytest.raises(ValueError, match="a label needs a loss"):
        explore(sentiment(compiled=False), SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, label=1)


def test_a_path_that_cannot_be_written_costs_no_work(tmp_path, monkeypatch, model):
    monkeypatch.setattr(type(model), "predict", lambda *_, **__: pytest.fail("worked for nothing"))
    with pytest.raises(OSError, match="there is no folder"):
        explore(model, SENTENCE, tmp_path / "no" / "page.html", word_index=WORD_INDEX)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        explore(model, SENTENCE, tmp_path, word_index=WORD_INDEX)


def test_a_page_that_fails_leaves_the_old_one(tmp_path, model):
    path = tmp_path / "page.html"
    path.write_text("the old one")
    with pytest.raises(ValueError, match="knows none"):
        explore(model, "xyzzy", path, word_index=WORD_INDEX)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, model):
    """What `examples/imdb.py` leaves behind."""
    model.save(tmp_path / "model.npz")
    vocabulary = {"maxlen": 12, "num_words": len(WORDS) + 4, "words": WORD_INDEX}
    (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary))
    return tmp_path


def test_on_the_command_line(run, model):
    command = [sys.executable, "-m", "scratchlstm", "explore", str(run / "model.npz"), SENTENCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"written to {run / 'explorer.html'}: open it in a browser\n"
    data = data_of(run / "explorer.html")
    assert data["outputs"][-1] == pytest.approx(model.predict(padded(model, SENTENCE), verbose=0)[0, 0], rel=1e-5)


def test_output_and_label(run, tmp_path):
    page = tmp_path / "other.html"
    assert main(["explore", str(run / "model.npz"), SENTENCE, "--output", str(page), "--label", "0"]) == 0
    assert (data_of(page)["label"], data_of(page)["own_label"]) == (0.0, False)


def _refusal(capsys, *arguments):
    assert main(["explore", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_what_is_wrong_is_told_in_one_line(capsys, run):
    assert "there is no model file at" in _refusal(capsys, run / "none.npz", "film")
    assert "knows none of the words" in _refusal(capsys, run / "model.npz", "xyzzy")
    assert "there is no folder" in _refusal(capsys, run / "model.npz", "film", "--output", run / "no" / "page.html")
    assert "not one" in _refusal(capsys, run / "vocabulary.json", "film")
    (run / "vocabulary.json").write_text(json.dumps({"maxlen": 9, "num_words": 18, "words": WORD_INDEX}))
    assert "are not of one run" in _refusal(capsys, run / "model.npz", "film")
    (run / "vocabulary.json").write_text("[]")
    refusal = _refusal(capsys, run / "model.npz", "film")
    assert "is not the vocabulary of a run: it must hold maxlen, num_words and words, not a list" in refusal
    (run / "vocabulary.json").unlink()
    refusal = _refusal(capsys, run / "model.npz", "film")
    assert "vocabulary.json', which says what number the model knows each word by; examples/imdb.py writes" in refusal
    for folder in (run, "/", "."):
        assert "there is no model file at" in _refusal(capsys, folder, "film")


def test_a_model_without_a_name_is_told_as_an_option(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["explore", "", "a film"])
    assert "argument model: must be the name of a saved model's file, not an empty string" in capsys.readouterr().err
