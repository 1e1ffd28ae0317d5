"""The explorer page on Python's side: what is in it, and that nothing in a text can run."""

import base64
import json
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from explorer_models import SENTENCE, WORD_INDEX, WORDS, sentiment, stacked

from scratchlstm import Model, Sequential
from scratchlstm.__main__ import main
from scratchlstm.activations import Activation
from scratchlstm.cells import LSTMCell
from scratchlstm.datasets import imdb
from scratchlstm.inspection import explore, explorer, trace
from scratchlstm.inspection.explorer.reading import MOST_STEPS
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    Flatten,
    GlobalMaxPooling1D,
    Input,
    RepeatVector,
    Reshape,
    SimpleRNN,
    WordDropout,
)
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


def unpacked(text):
    """What `packed` has packed."""
    return np.frombuffer(base64.b64decode(text[1:]), {"d": "<f8", "f": "<f4"}[text[0]])


def arrays_of(layer):
    """Name -> (steps, units) of what was recorded of a layer."""
    return {name: unpacked(text).reshape(-1, len(layer["kept"])) for name, text in layer["arrays"].items()}


def padded(model, text):
    ids = imdb.encode_review(text, num_words=model.layers[0].input_dim, word_index=WORD_INDEX)
    return pad_sequences([ids], maxlen=model.input_shape[0])


# --- the numbers ------------------------------------------------------------------------------------------------------


def _wide():
    """In float64, whose numbers the page holds as they are."""
    float64 = {"dtype": "float64"}
    return sentiment(LSTM(5, **float64), last=[Dense(1, activation="sigmoid", **float64)])


RUN = [sentiment, lambda: sentiment(mask_zero=True), lambda: sentiment(LSTM(5, go_backwards=True)), _wide]


@pytest.mark.parametrize("make", [sentiment, lambda: sentiment(Bidirectional(LSTM(2)))])
def test_word_dropout_changes_nothing_on_the_page(page, make):
    model = make()
    noisy = type(model)([WordDropout(0.5, input_shape=model.input_shape), *model.layers])
    noisy.compile("adam", "binary_crossentropy")
    assert page(noisy, SENTENCE) == page(model, SENTENCE)


@pytest.mark.parametrize("make", RUN)
@pytest.mark.parametrize("text", [SENTENCE, "a wonderful film"])
def test_a_page_that_runs_the_model_has_its_weights(page, make, text):
    model = make()
    data, weights = page(model, text), model.get_weights()
    assert data["cannot_run"] is None
    ((label, named),) = data["snapshots"]
    assert label == ""
    ids = padded(model, text)[0].tolist()
    assert [step["id"] for step in data["steps"]] == ids[-len(data["steps"]) :]
    assert ids[: -len(data["steps"])] == [0] * data["padding"]
    assert data["ids"] == sorted({0, 1, *ids, *(rank + 3 for rank in WORD_INDEX.values())})
    names = ["E", "W", "U", "b", "w", "w_b"]
    for name, weight in zip(names, [weights[0][data["ids"]], *weights[1:]], strict=True):
        np.testing.assert_array_equal(unpacked(named[name]), weight.ravel(), err_msg=name)
        assert unpacked(named[name]).dtype == weight.dtype
    assert (data["units"], data["features"], data["outputs"]) == (5, 6, 1)
    assert data["backwards"] == model.layers[1].go_backwards
    x = padded(model, text)
    assert data["loss"] == trace(model, x, np.round(model.predict(x, verbose=0))).loss


def test_a_missing_bias_is_0_in_the_page(page):
    model = sentiment(LSTM(5, use_bias=False), last=[Dense(1, activation="sigmoid", use_bias=False)])
    ((_, named),) = page(model, SENTENCE)["snapshots"]
    assert not unpacked(named["b"]).any()
    assert [unpacked(named[name]).size for name in ("b", "w_b")] == [20, 1]


def test_snapshots_are_in_the_page_in_their_order(page, model):
    earlier = [[n * weight for weight in model.get_weights()] for n in (0.5, 0.7)]
    data = page(model, SENTENCE, snapshots=[(1, earlier[0]), (2, earlier[1])])
    assert [label for label, _ in data["snapshots"]] == ["1", "2", ""]
    for (_, named), weights in zip(data["snapshots"], [*earlier, model.get_weights()], strict=True):
        np.testing.assert_array_equal(unpacked(named["U"]), weights[2].ravel())
    data = page(model, SENTENCE, snapshots=[(1, earlier[0]), (2, model.get_weights())])
    assert [label for label, _ in data["snapshots"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda _: 3, "snapshots must be a list of (epoch, weights) pairs"),
        (lambda _: [3], "snapshots must be (epoch, weights) pairs"),
        (lambda w: [(1, w, w)], "snapshots must be (epoch, weights) pairs"),
        (lambda w: [("a", w)], "an epoch of snapshots must be a whole number"),
        (lambda w: [(1, w[1:])], "the snapshot of epoch 1 has 6 weights, but 5 were given"),
        (
            lambda w: [(1, [*w[:-1], [1, 2]])],
            "dense/bias of the snapshot of epoch 1 has shape (1,), but (2,) was given",
        ),
        (lambda w: [(1, [*w[:-1], [np.nan]])], "the snapshot of epoch 1 was given values that are not finite"),
    ],
)
def test_snapshots_that_cannot_be(tmp_path, model, spoil, match):
    snapshots = spoil(model.get_weights())
    with pytest.raises((TypeError, ValueError), match=re.escape(match)):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=snapshots)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [stacked, lambda: imdb_model(256)])
def test_snapshots_need_a_page_that_runs_the_model(tmp_path, make):
    model = make()
    snapshots = [(1, model.get_weights())]
    match = "snapshots need a page that runs the model, but (it runs one|with its weights)"
    with pytest.raises(ValueError, match=match):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, snapshots=snapshots)
    assert not list(tmp_path.iterdir())


# --- models that the page cannot run ----------------------------------------------------------------------------------


def _square():
    """An activation of the user's own, under a name of the package's."""
    return Activation("tanh", lambda z: z * abs(z) / 4, lambda y: np.sqrt(abs(y)))


def _shared():
    words = Input((12,))
    x, lstm = Embedding(len(WORDS) + 4, 6)(words), LSTM(3, return_sequences=True)
    model = Model(words, Dense(1, activation="sigmoid")(GlobalMaxPooling1D()(lstm(Dense(3)(lstm(Dense(3)(x)))))))
    model.compile("adam", "binary_crossentropy")
    return model


def _compiled(loss, *layers, **options):
    model = sentiment(*layers, last=[Dense(1)])
    model.compile("adam", loss, **options)
    return model


def _penalized():
    return sentiment(LSTM(3, kernel_regularizer="l2"))


# name -> model, why the page cannot run it
RECORDED = {
    "stacked": (stacked, "but this model has Embedding, Bidirectional, LSTM, Dense"),
    "relu": (lambda: sentiment(LSTM(5, activation="relu")), "lstm has relu and sigmoid"),
    "hard sigmoid": (lambda: sentiment(LSTM(5, recurrent_activation="hard_sigmoid")), "lstm has tanh and hard_sigmoid"),
    "own": (lambda: sentiment(LSTM(5, activation=_square())), "lstm has custom tanh and sigmoid"),
    "backwards, on top": (
        lambda: sentiment(LSTM(4, return_sequences=True), LSTM(3, go_backwards=True)),
        "this model has Embedding, LSTM, LSTM, Dense",
    ),
    "masked": (lambda: sentiment(LSTM(4, return_sequences=True), LSTM(3), mask_zero=True), "Embedding, LSTM, LSTM"),
    "dense": (lambda: sentiment(LSTM(4), Dense(3)), "Embedding, LSTM, Dense, Dense"),
    "pooling": (lambda: sentiment(LSTM(4, return_sequences=True), GlobalMaxPooling1D()), "GlobalMaxPooling1D"),
    "shared": (_shared, "this model has Embedding, Dense, LSTM"),
    "loss": (lambda: _compiled("mae"), "not MeanAbsoluteError of linear"),
    "probabilities": (lambda: _compiled("binary_crossentropy"), "not BinaryCrossentropy of linear"),
    "penalty": (_penalized, "penalties of regularizers"),
    "weighted": (
        lambda: _compiled("mse", loss_weights=[2.0]),
        "does not support loss_weights, but this model's is 2.0",
    ),
    "head": (lambda: sentiment(last=[Dense(1, activation="relu")], compiled=False), "dense has relu"),
    "zeros": (lambda: sentiment(LSTM(3, zero_output_for_mask=True)), "outputs 0 at masked steps"),
}


@pytest.mark.parametrize(("make", "why"), RECORDED.values(), ids=list(RECORDED))
@pytest.mark.parametrize("text", [SENTENCE, "a wonderful film"])
def test_every_number_of_a_model_that_the_page_cannot_run_is_that_of_trace(page, make, why, text):
    model, x = make(), None
    label = 1.0 if model._compiled else None
    data, x = page(model, text, label=label), padded(model, text)
    assert why in data["cannot_run"]
    steps = len(data["steps"])
    traced = trace(model, x, None if label is None else np.array([[label]]))
    assert data["loss"] == traced.loss
    assert [layer["layer"] for layer in data["layers"]] == list(traced.layers)
    assert data["layers_left_out"] == []
    for layer, own in zip(data["layers"], traced.layers.values(), strict=True):
        assert (layer["units"], layer["kept"]) == (own.units, list(range(own.units)))
        assert layer["backwards"] == own.go_backwards
        assert layer["counts"] == own.mask[0, -steps:].tolist()
        arrays = arrays_of(layer)
        for name in set(arrays) - {"tanh_c", "hU_i", "hU_f", "hU_g", "hU_o"}:
            np.testing.assert_array_equal(arrays.pop(name), getattr(own, name)[0, -steps:], err_msg=name)
        counts = own.mask[0, -steps:]
        shown = arrays["tanh_c"] * own.o[0, -steps:]
        np.testing.assert_allclose(shown[counts], own.h[0, -steps:][counts], rtol=1e-6, atol=1e-7)
        for gate, hU in zip("ifgo", np.split(own.h_prev[0, -steps:] @ own.recurrent_kernel, 4, axis=1), strict=True):
            np.testing.assert_allclose(arrays[f"hU_{gate}"], hU, rtol=1e-6)
        np.testing.assert_array_equal(unpacked(layer["b"]), own.bias)
        if label is not None:
            assert layer["dx_norm"] == own.d_words[0, -steps:].tolist()


def test_activations_of_ones_own_never_have_the_name_of_the_packages(page):
    (layer,) = page(RECORDED["own"][0](), SENTENCE)["layers"]
    assert (layer["activation"], layer["recurrent_activation"]) == ("custom tanh", "sigmoid")


@pytest.mark.parametrize(
    "below",
    [
        [LSTM(4, go_backwards=True, return_sequences=True)],
        [LSTM(4, return_sequences=True), Reshape((4, 12))],
        [LSTM(4), RepeatVector(12)],
    ],
)
def test_layers_whose_steps_are_not_the_words_are_left_out(page, below):
    model = sentiment(*below, LSTM(3), epochs=0)
    data = page(model, SENTENCE)
    assert [layer["layer"] for layer in data["layers"]] == [below[0].name]
    assert data["layers_left_out"] == [model.layers[-2].name]


def test_a_model_none_of_whose_steps_are_words_is_refused(tmp_path):
    model = sentiment(Reshape((6, 12)), LSTM(3), epochs=0)
    with pytest.raises(ValueError, match="shows LSTMs with one step per word, but lstm has other steps"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [12, None])
def test_the_output_after_each_word_is_that_of_the_text_so_far(page, length):
    model = sentiment(LSTM(4, activation="relu"), length=length)
    data = page(model, ["wonderful", "bad", "film"])
    for end, output in enumerate(data["outputs_by_word"], start=1):
        ids = [1, *(WORD_INDEX[word] + 3 for word in ("wonderful", "bad", "film"))][:end]
        expected = model.predict(pad_sequences([ids], maxlen=length), verbose=0)[0, 0]
        assert output == pytest.approx(expected, rel=1e-5)


def test_of_a_long_text_only_the_last_output_is_there(page, monkeypatch):
    monkeypatch.setattr(explorer, "_MOST_PREDICTED", 12 * 12 * 3)
    model = stacked()
    outputs = page(model, SENTENCE)["outputs_by_word"]
    assert outputs[:-1] == [None] * 11
    assert outputs[-1] == pytest.approx(model.predict(padded(model, SENTENCE), verbose=0)[0, 0])


def test_the_units_that_are_there_are_those_that_the_loss_depends_on_most(page):
    model = sentiment(LSTM(64, activation="relu"), length=None, epochs=0)
    (layer,) = page(model, ["good", "bad"] * 100, most_bytes=300_000)["layers"]
    ids = [1, *(WORD_INDEX[word] + 3 for word in ["good", "bad"] * 100)][-200:]
    importance = trace(model, [ids], np.round(model.predict(np.array([ids]), verbose=0))).lstm.importance()
    assert 1 < len(layer["kept"]) < 64
    assert layer["kept"] == sorted(np.argsort(-importance)[: len(layer["kept"])])


def test_the_model_is_left_as_it_was(page, model):
    before = model.get_weights(), model.optimizer.iterations
    page(model, SENTENCE)
    assert all(map(np.array_equal, before[0], model.get_weights()))
    assert model.optimizer.iterations == before[1]


def test_without_a_loss_there_is_no_way_back(page):
    data = page(sentiment(compiled=False), SENTENCE)
    assert data["loss"] is None
    assert not data["compiled"]
    assert data["cannot_run"] is None
    data = page(sentiment(LSTM(3, activation="relu"), compiled=False), SENTENCE)
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
    assert (data["chosen"], data["outputs_of"]) == (np.argmax(output), 3)
    assert isinstance(data["label"], of)


def test_a_class_number_is_one_number_however_it_is_given(page):
    model = sentiment(last=[Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert [page(model, SENTENCE, label=label)["label"] for label in (2, 2.0, [2], np.array([2.0]))] == [2] * 4


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_an_answer_that_is_no_class_is_no_label(page, loss):
    model = sentiment(last=[Dense(1)])
    model.compile("adam", loss)
    data = page(model, SENTENCE)
    assert (data["label"], data["loss"], data["compiled"]) == (None, None, True)
    data = page(model, SENTENCE, label=0.25)
    assert data["label"] == 0.25
    output = model.predict(padded(model, SENTENCE), verbose=0)[0, 0]
    assert data["loss"] == pytest.approx((output - 0.25) ** 2 if loss == "mse" else abs(output - 0.25))


def test_all_prefixes_are_one_batch_if_the_length_is_stated(page, model, monkeypatch):
    batches, predict = [], Sequential.predict

    def counted(self, x, **options):
        batches.append(x.shape)
        return predict(self, x, **options)

    monkeypatch.setattr(Sequential, "predict", counted)
    page(model, SENTENCE)
    assert batches == [(1, 12)]  # the page has the others from its own run
    page(stacked(), SENTENCE)
    assert batches == [(1, 12), (1, 12), (11, 12)]


# --- the text ---------------------------------------------------------------------------------------------------------


def test_words_are_shown_as_they_are_read(page, model):
    steps = page(model, "Wonderful, <b>FILM</b> 🎬 שלום")["steps"]
    kinds = {"<start>": "start", "wonderful": "word", "film": "word"}
    words = ["<start>", "wonderful", "b", "film", "b", "🎬", "שלום"]
    assert [(step["word"], step["kind"]) for step in steps] == [(word, kinds.get(word, "unknown")) for word in words]


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


def test_a_model_of_any_length_reads_the_last_words(page):
    data = page(sentiment(LSTM(64), length=None), "good bad " * 5000)
    assert (len(data["steps"]), data["left_out"]) == (MOST_STEPS, 10_000 - MOST_STEPS)


# --- the size of the page ---------------------------------------------------------------------------------------------

MANY = {f"w{rank}": rank for rank in range(20, 30_000)} | WORD_INDEX


def imdb_model(units=60):
    """The tutorial's."""
    layers = [Embedding(20_000, 128, input_shape=(100,)), LSTM(units), Dense(1, activation="sigmoid")]
    model = Sequential(layers, seed=0)
    model.compile("adam", "binary_crossentropy")
    return model


def test_the_tutorials_model_runs_in_half_a_megabyte_and_knows_the_most_frequent_words(page, tmp_path):
    data = page(imdb_model(), SENTENCE, word_index=MANY)
    assert data["cannot_run"] is None
    assert 495_000 < (tmp_path / "page.html").stat().st_size <= 500_000
    ids = [word_id for _, word_id in data["known"]]
    assert ids == sorted(ids)
    assert ids[:15] == [rank + 3 for rank in (*range(1, 15), 20)]
    assert 50 < len(ids) < 1000
    assert data["known_of"] == 19_991


def test_a_large_embedding_is_not_copied(tmp_path):
    layers = [Embedding(100_000, 128, input_shape=(12,)), LSTM(5), Dense(1, activation="sigmoid")]
    model = Sequential(layers, seed=0)
    model.compile("adam", "binary_crossentropy")
    tracemalloc.start()
    explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < model.params[0].nbytes / 2


def test_at_most_2000_words_go_into_a_page(page):
    data = page(imdb_model(2), SENTENCE, word_index=MANY, most_bytes=10_000_000)
    assert len(data["known"]) == 2000


def test_the_size_that_a_page_names_is_enough_to_run_its_model(page, tmp_path):
    model = imdb_model(256)
    refused = page(model, SENTENCE, word_index=MANY)["cannot_run"]
    assert "with its weights the page would have more than 500,000 bytes" in refused
    assert 450_000 < (tmp_path / "page.html").stat().st_size <= 500_000
    enough = int(re.search(r"most_bytes=([\d_]+)\)", refused)[1])
    assert f"--most-bytes {enough} " in refused
    data = page(model, SENTENCE, most_bytes=enough, word_index=MANY)
    assert data["cannot_run"] is None
    assert 0.9 * enough < (tmp_path / "page.html").stat().st_size <= enough


def test_the_size_that_is_named_for_snapshots_is_enough(page, tmp_path):
    model = imdb_model()
    options = {"word_index": MANY, "snapshots": [(0, [2 * weight for weight in model.get_weights()])]}
    with pytest.raises(ValueError, match=r"its weights and 1 snapshot .*fewer snapshots take less") as refusal:
        page(model, SENTENCE, **options)
    enough = int(re.search(r"most_bytes=([\d_]+)\)", str(refusal.value))[1])
    assert page(model, SENTENCE, most_bytes=enough, **options)["cannot_run"] is None
    assert 0.9 * enough < (tmp_path / "page.html").stat().st_size <= enough


@pytest.mark.parametrize(
    ("units", "length", "words", "dtype"),
    [(60, 100, 100, "float32"), (64, None, 200, "float32"), (256, 100, 20, "float32"), (60, 100, 100, "float64")],
)
def test_a_page_that_cannot_run_its_model_shows_as_many_units_as_fit(page, tmp_path, units, length, words, dtype):
    dense = Dense(1, activation="sigmoid", dtype=dtype)
    model = sentiment(LSTM(units, activation="relu", dtype=dtype), length=length, last=[dense])
    data = page(model, ["good", "bad"] * (words // 2))
    assert 450_000 < (tmp_path / "page.html").stat().st_size <= 500_000
    assert len(data["steps"]) == min(words + 1, length or MOST_STEPS)


def test_without_room_for_one_unit_there_is_no_page(tmp_path, model):
    match = r"a page with one unit of each LSTM has ([\d,]+) bytes, but most_bytes is 1,000: use a shorter text, or a"
    with pytest.raises(ValueError, match=match) as refusal:
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, most_bytes=1000)
    assert not list(tmp_path.iterdir())
    enough = int(re.search(match, str(refusal.value))[1].replace(",", ""))
    explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, most_bytes=enough)
    assert (tmp_path / "page.html").stat().st_size <= enough


@pytest.mark.parametrize("wrong", [0, -1, True, 1e6, "500000", None])
def test_a_size_that_cannot_be(tmp_path, model, wrong):
    with pytest.raises(ValueError, match="most_bytes must be a whole number above 0"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX, most_bytes=wrong)
    assert not list(tmp_path.iterdir())


def test_a_run_of_too_many_steps_is_left_to_python(page):
    data = page(sentiment(LSTM(60), length=5000, epochs=0), SENTENCE)
    assert "a run of 5,000 steps has 8,470,000 values, too many" in data["cannot_run"]


# --- the words --------------------------------------------------------------------------------------------------------


def test_ids_of_a_tokenizer(page):
    options = {"index_from": 0, "start_char": None, "oov_char": None}
    assert [step["word"] for step in page(sentiment(), "a film unheard of", **options)["steps"]] == ["a", "film"]


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("xyzzy plugh", {}, "the model knows none of the words, which start with 'xyzzy', 'plugh'"),
        ("🎬", {}, "knows none of the words"),
        ("?!", {}, "there is no word in '?!'"),
        ([], {}, "there is no word"),
        (["film", 3], {}, "must be a sentence or a list of words"),
        (b"film", {}, "must be a sentence or a list of words"),
        (7, {}, "must be a sentence or a list of words, not 7"),
        ("film", {"word_index": ["film"]}, "word_index must be a dict of words and ranks, got list"),
        ("film", {"word_index": {3: "film"}}, "is it the wrong way round?"),
        ("film", {"word_index": {}}, "word_index is empty"),
        ("film", {"word_index": {"film": 1, "bad": "2"}}, "must map words to ranks, whole numbers, but 'bad' has '2'"),
        ("film", {"word_index": {"film": 1, "bad": 2.0}}, "but 'bad' has 2.0"),
        ("film", {"word_index": {"film": 1, "bad": True}}, "but 'bad' has True"),
        ("film", {"word_index": {"film": 1, 3: 2}}, "a key that is not a word: 3"),
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
        (lambda: type(sentiment())([LSTM(2, input_shape=(4, 3))]), "must start with an Embedding, not lstm"),
        (lambda: type(sentiment())([WordDropout(0.5, input_shape=(4,))]), "with an Embedding, not word_dropout"),
        (lambda: sentiment(Flatten()), "the model has none"),
        (lambda: sentiment(SimpleRNN(3)), "the model has none"),
        (lambda: sentiment(LSTM(3, return_sequences=True), compiled=False), "models with one output (D,) for a text"),
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
    match = r"the gradient exploded: in the backward pass of lstm it is not finite from step \d+ \('\w+'\) on"
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
    data = page(exploding, ["film", "was", "bad"] * 50, most_bytes=250_000)
    largest = max(data["layers"][0]["dx_norm"])
    assert 1e19 < largest < np.inf  # beyond what float32 can square


def test_a_model_of_texts_that_no_memory_holds_is_refused(tmp_path):
    model = sentiment(epochs=0)
    model.network.input_shapes = [(10**13,)]
    with pytest.raises(ValueError, match="the model reads 10,000,000,000,000 words at once"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (LSTM(60), "19 GB"),
        (Bidirectional(LSTM(60)), "38 GB"),
        (RNN([LSTMCell(40), LSTMCell(20)]), "19 GB"),
        (GRU(60), "19 GB"),
    ],
)
def test_a_model_whose_states_no_memory_holds_is_refused(tmp_path, layer, size, monkeypatch):
    model = sentiment(layer, length=1_000_000, epochs=0)
    monkeypatch.setattr(Sequential, "predict", lambda *_, **__: pytest.fail("took memory"))
    with pytest.raises(ValueError, match=f"over 1,000,000 steps take some {size}, but explore holds at most 2 GB"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


def test_words_without_a_finite_embedding_cannot_be_typed(page):
    model = sentiment()
    model.layers[0].params["embeddings"][WORD_INDEX["boring"] + 3] = np.inf
    data = page(model, SENTENCE)
    assert {word for word, _ in data["known"]} == set(WORDS) - {"boring"}
    assert WORD_INDEX["boring"] + 3 not in data["ids"]


def test_a_padding_that_is_masked_and_not_finite_is_not_run(page):
    model = sentiment(mask_zero=True, compiled=False)
    model.layers[0].params["embeddings"][0] = np.nan
    data = page(model, "a wonderful film")
    assert data["cannot_run"] == "the embedding of the padding is not finite"
    assert all(np.isfinite(array).all() for array in arrays_of(data["layers"][0]).values())


def test_words_of_one_rank_and_of_ranks_that_the_model_does_not_have(page):
    word_index = WORD_INDEX | {"movie": WORD_INDEX["film"], "later": 10**12, "negative": -7, "padding": -3}
    data = page(sentiment(), "a movie, later", word_index=word_index)
    assert [(step["word"], step["kind"]) for step in data["steps"][1:]] == [
        ("a", "word"), ("movie", "word"), ("later", "unknown"),
    ]  # fmt: skip
    known = dict(data["known"])
    assert known["movie"] == known["film"] == WORD_INDEX["film"] + 3
    assert not {"later", "negative"} & set(known)


def test_an_output_that_is_not_finite_is_said(tmp_path):
    model = sentiment(epochs=0, last=[Dense(1)])
    model.layers[0].params["embeddings"][WORD_INDEX["loved"] + 3] = np.nan
    with pytest.raises(ValueError, match=r"the model's output is not finite from step 5 \('loved'\) on"):
        explore(model, SENTENCE, tmp_path / "page.html", word_index=WORD_INDEX)
    assert not list(tmp_path.iterdir())


def test_a_state_that_is_not_finite_is_said_though_the_output_is(tmp_path):
    model = sentiment(epochs=0)
    model.layers[1].params["bias"][5] = np.inf  # of a forget gate, which is 1 then
    with pytest.raises(ValueError, match=r"z_f of lstm is not finite from step 1 \('a'\) on: is it trained\?"):
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
    """A results folder of `examples/imdb.py`."""
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
    assert data["cannot_run"] is None
    assert [word for word, _ in data["known"]] == WORDS


def test_the_size_on_the_command_line(run, tmp_path, capsys):
    page = tmp_path / "small.html"
    assert main(["explore", str(run / "model.npz"), SENTENCE, "--output", str(page), "--most-bytes", "1000"]) == 2
    enough = re.search(r"has ([\d,]+) bytes", capsys.readouterr().err)[1].replace(",", "")
    assert main(["explore", str(run / "model.npz"), SENTENCE, "--output", str(page), "--most-bytes", enough]) == 0
    assert page.stat().st_size <= int(enough)


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
    assert "are not from the same run" in _refusal(capsys, run / "model.npz", "film")
    (run / "vocabulary.json").write_text("[]")
    refusal = _refusal(capsys, run / "model.npz", "film")
    assert "is not the vocabulary of a run: it must contain maxlen, num_words and words, not a list" in refusal
    (run / "vocabulary.json").unlink()
    refusal = _refusal(capsys, run / "model.npz", "film")
    assert "vocabulary.json', which gives the number of each word for the model; examples/imdb.py writes" in refusal
    for folder in (run, "/", "."):
        assert "there is no model file at" in _refusal(capsys, folder, "film")


def test_a_model_without_a_name_is_told_as_an_option(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["explore", "", "a film"])
    assert "argument model: must be the name of a saved model's file, not an empty string" in capsys.readouterr().err
