"""What the package shows in a notebook without a `%matplotlib` line: one with many cells, in a real kernel."""

import base64
import html
import io
import re

import pytest
from matplotlib import image

CELLS = {
    "model": """
        import numpy as np

        from scratchlstm import gradcheck, inspection
        from scratchlstm.layers import LSTM, Dense, Embedding, Layer
        from scratchlstm.models import Sequential

        x = np.random.default_rng(0).integers(1, 20, size=(64, 6))
        y = (x[:, 0] > 9).astype(int)

        def reader(*layers):
            model = Sequential([Embedding(20, 4, input_shape=(6,)), *layers, Dense(1, "sigmoid")], name="<b>", seed=1)
            model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
            return model

        model = reader(LSTM(4))
        model""",
    "summary": "model.summary()",
    "fit": "history = model.fit(x, y, epochs=2)",
    "history": "history",
    "slow": """
        import time

        from scratchlstm.callbacks import LambdaCallback

        slowly = LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(0.05))
        _ = model.fit(x, y, batch_size=4, epochs=2, callbacks=slowly)""",
    "verbose 2": "_ = model.fit(x, y, epochs=2, verbose=2)",
    "workers": """
        weights = model.get_weights()
        together = model.fit(x, y, epochs=1, workers=2, verbose=2)""",
    "own layer": """
        class Double(Layer):
            def forward(self, x):
                return 2 * x, None

            def backward(self, dy, cache):
                return 2 * dy, {}

        _ = reader(Double(), LSTM(4)).fit(x, y, workers=2, verbose=0)""",
    "interrupted": """
        import os
        import signal

        import psutil

        def interrupt(batch, logs):
            if batch == 2:
                children = psutil.Process().children(recursive=True)
                found.extend(each for each in children if "spawn_main" in " ".join(each.cmdline()))
                os.killpg(os.getpid(), signal.SIGINT)  # as Jupyter does

        found = []
        model.fit(x, y, workers=2, batch_size=8, verbose=0, callbacks=LambdaCallback(on_train_batch_end=interrupt))""",
    "nobody left": "print(len(found), [worker for worker in found if worker.is_running()])",
    "trace": "traced = inspection.trace(model, x[:1], y[:1])\ntraced",
    "gates": "words = ['a', '<b>', '$c$', 'd', 'e', 'f']\ninspection.gates_over_words(traced, words)",
    "gates of a layer": "inspection.gates_over_words(traced.lstm, words)",
    "curve": "inspection.learning_curve(history)",
    "not last": "figure = inspection.learning_curve(history)\nfigure\nNone",
    "explore": "inspection.explore(model, 'a </iframe> b', 'a & b.html', word_index={'a': 1, 'b': 2})",
    "report": "gradcheck.check_layer(LSTM(2, dtype='float64'), np.ones((2, 3, 4)))",
    "inline": "%matplotlib inline\ninspection.learning_curve(history)",
}


@pytest.fixture(scope="module")
def outputs(run_notebook, tmp_path_factory):
    """Name of a cell -> its outputs."""
    import nbformat

    folder = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(_dedented(source)) for source in CELLS.values()]
    cells[list(CELLS).index("interrupted")].metadata["tags"] = ["raises-exception"]
    done = run_notebook(nbformat.v4.new_notebook(cells=cells), folder)
    found = {name: _merged(cell.outputs) for name, cell in zip(CELLS, done.cells, strict=True)}
    found["file"] = (folder / "a & b.html").read_text("utf-8")
    return found


def _dedented(source):
    return re.sub(r"\n {8}", "\n", source).strip()


def _merged(outputs):
    """What a notebook shows as one: streams that follow each other."""
    merged = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _only(outputs, kind="execute_result"):
    """The data of the only output there is."""
    (output,) = outputs
    assert output.output_type == kind
    return output.data if kind != "stream" else (output.name, output.text)


def _picture(data):
    """Height, width and colours of a PNG file in base64."""
    return image.imread(io.BytesIO(base64.b64decode(data["image/png"])))


@pytest.mark.parametrize("name", ["gates", "gates of a layer", "curve", "inline"])
def test_a_plot_shows_its_picture_once(outputs, name):
    data = _only(outputs[name])
    assert set(data) == {"text/plain", "image/png"}
    height, width, _ = _picture(data).shape
    assert min(height, width) > 200
    assert _picture(data)[..., :3].std() > 0.01


def test_a_plot_in_the_middle_of_a_cell_shows_nothing(outputs):
    assert outputs["not last"] == []


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("model", ["&lt;b&gt;", "lstm (LSTM)", "<th>Output Shape</th>", "Total params: "]),
        ("history", ["<th>epoch</th><th>accuracy</th><th>loss</th>", "<tr><td>1</td>", "<tr><td>2</td>"]),
        ("report", ["<td>recurrent_kernel</td><td>(2, 8)</td>", "<td>ok</td>"]),
    ],
)
def test_a_table_shows_itself(outputs, name, texts):
    data = _only(outputs[name])
    assert set(data) == {"text/plain", "text/html"}
    assert all(text in data["text/html"] for text in texts)
    assert "<b>" not in data["text/html"]
    assert " at 0x" not in data["text/plain"]


def test_a_trace_says_what_was_read_and_found(outputs):
    text = _only(outputs["trace"])["text/plain"]
    assert text.startswith("Trace of 1 sample, input [")
    assert len(text.splitlines()) < 15


def test_the_explorer_page_is_in_the_notebook_and_in_its_file(outputs):
    shown = _only(outputs["explore"])["text/html"]
    (page,) = re.findall('srcdoc="([^"]*)"', shown)
    assert html.unescape(page) == outputs["file"]
    assert "a &amp; b.html" in shown


def test_the_summary_is_printed(outputs):
    name, text = _only(outputs["summary"], "stream")
    assert name == "stdout"
    assert text.startswith('Model: "<b>"\n┏━')


def test_short_epochs_are_lines_alone(outputs):
    name, text = _only(outputs["fit"], "stream")
    assert name == "stdout"
    assert re.fullmatch(r"(Epoch \d/2\n2/2 ━{20} 0s \S+/step - accuracy: \S+ - loss: \S+\n){2}", text)


def test_the_bar_of_a_long_epoch_ends_as_its_line(outputs):
    kinds = [output.output_type for output in outputs["slow"]]
    assert kinds == ["stream", "display_data"] * 2
    for number, (before, line) in enumerate(zip(outputs["slow"][::2], outputs["slow"][1::2], strict=True), 1):
        assert (before.name, before.text) == ("stdout", f"Epoch {number}/2\n")
        assert set(line.data) == {"text/plain"}
        assert re.fullmatch(r"16/16 ━{20} \ds \S+/step - accuracy: \S+ - loss: \S+", line.data["text/plain"])


@pytest.mark.parametrize(("name", "epochs"), [("verbose 2", 2), ("workers", 1)])
def test_without_a_bar_there_are_lines_alone(outputs, name, epochs):
    stream, text = _only(outputs[name], "stream")
    assert stream == "stdout"
    line = r"Epoch \d/\d\n\d+/\d+ - \ds - \S+/step - accuracy: \S+ - loss: \S+\n"
    assert re.fullmatch(rf"({line}){{{epochs}}}", text)


def test_a_layer_of_the_notebook_makes_one_process_do_the_work(outputs):
    stream, text = _only(outputs["own layer"], "stream")
    assert stream == "stderr"
    assert "workers=2 is not possible: other processes do not know Double" in text
    assert "fit(x, y, workers=2" in text  # the line of the notebook at which the warning points


def test_an_interrupted_cell_leaves_no_worker(outputs):
    (error,) = outputs["interrupted"]
    assert (error.output_type, error.ename) == ("error", "KeyboardInterrupt")
    assert "training was interrupted in epoch 1" in error.evalue
    assert _only(outputs["nobody left"], "stream") == ("stdout", "1 []\n")
