"""A web page on which a trained model reads a sentence, from the words to the loss and back, with every number.

`explore` gathers the numbers; `page` puts them into one file with page.html, style/ and script/ from this folder. If
the page can run the model itself (`recomputed`), the reader can change it there; otherwise it shows the results of
`trace` (`recorded`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scratchlstm import losses
from scratchlstm._support import checks
from scratchlstm._support.files import atomic_write
from scratchlstm._support.notebook import framed
from scratchlstm.datasets.encoding import Encoding
from scratchlstm.gates import sigmoid
from scratchlstm.inspection.explorer.page import page, size
from scratchlstm.inspection.explorer.reading import (
    MOST_STEPS,
    Reading,
    embedding_and_length,
    first_layer,
    known_words,
    read,
)
from scratchlstm.inspection.explorer.recomputed import (
    Weights,
    fitting_words,
    packed_weights,
    recomputed,
    weights_size,
    why_not,
    with_the_models_own,
)
from scratchlstm.inspection.explorer.recorded import cells_that_read_words, recorded
from scratchlstm.inspection.trace import LayerTrace, Trace, trace
from scratchlstm.layers.rnn import RNN
from scratchlstm.models.model import Model
from scratchlstm.training.data import check_data

_MOST_WORDS = 2_000  # the most words that can be typed in the page
_MOST_MEMORY = 2**31  # bytes of states and gradients
_ARRAYS = 40  # number of such arrays, (T, H) each
_MOST_PREDICTED = 60_000_000  # the most values of h, over all predictions for the output after each word


@dataclass(frozen=True, repr=False)
class ExplorerPage(os.PathLike[str]):
    """The result of `explore`: the path of the file and, as the last expression in a notebook cell, the page.

    Attributes:
        path: path of the file.
        html: its content.
    """

    path: Path
    html: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"<page {str(self)!r}: open it in a browser>"

    def _repr_html_(self) -> str:
        """The page in a frame, for a notebook, with the file's name below."""
        return framed(self.html, f"the page {self}")


def explore(
    model: Model, text: str | Sequence[str], path: str | os.PathLike[str], *, word_index: Mapping[str, int],
    label: Any = None, start_char: int | None = 1, oov_char: int | None = 2, index_from: int = 3,
    snapshots: Sequence[tuple[int, Weights]] = (), most_bytes: int = 500_000,
) -> ExplorerPage:  # fmt: skip
    """Write a single HTML file, for any browser and offline use, in which a trained model reads a text.

    The reader can follow any number through the equations (numbered as in `scratchlstm.gates`): from a word's embedding
    through the gates to the model's output and the loss, and back to the gradients of the weights. If the page can run
    the model, it includes the weights and computes everything in double precision: the reader can nudge a weight, gate
    or state, hold a gate open or shut, change words, and see the effect.

    The page runs models with one `Embedding`, one `LSTM` with tanh and sigmoid, and one `Dense` layer with sigmoid,
    softmax or no activation, and a crossentropy or the mean squared error. For other models with LSTMs, or if the
    weights make the page too large, it shows the values of `trace`: for each word the states, gates and gradients of
    the units that matter most (`LayerTrace.importance`), and the output after each word. It says why; nothing can be
    changed then. LSTMs whose steps are not the words (for example after one that reads backwards) are omitted.

    The text is truncated to its last words and padded at the front to the model's input length (`pad_sequences`), or to
    its last 200 words if the model has none.

    Args:
        model: starts with an `Embedding` and returns one vector (D,) for a text. If it is compiled, the page shows the
            backward pass from its loss.
        text: a sentence, split like `text_to_word_sequence`; or a list of words, looked up unchanged.
        path: the file to write.
        word_index: word -> rank, from `imdb.get_word_index`, or from a `Tokenizer` (with `index_from=0`,
                `start_char=None` and its own `oov_char`). The words with the lowest ids, up to 2,000 of them, are
                included in the page if they fit, so that the reader can type them.
        label: the target for the loss, as for one sample in `fit`. None takes the model's own answer, the more likely
            class, if the loss is a crossentropy. Other losses need a number that only you know; without it there is no
            backward pass.
        start_char, oov_char, index_from: as in `imdb.encode_review`. With `oov_char=None` unknown words are skipped.
        snapshots: (epoch, weights after it) pairs, as in `callbacks.Snapshots`: the reader can step through them to
            watch the model learn.
        most_bytes: maximum size of the file. If the model's weights do not fit, the page shows the results of `trace`
            instead, and says how many bytes it would take to run the model.

    Returns:
        the page, which a notebook shows if it is a cell's last expression; also works as a path, e.g. for `open`.

    Raises:
        OSError: the file cannot be written; checked before any work.
        TypeError: not a model, not a text, not a dict of words and ranks, or not pairs of epochs and weights.
        ValueError: a model that cannot be shown or whose states would take too much memory, a text without a known
            word, values that are not finite, snapshots of another model or of one that the page cannot run, or a page
            that does not fit into `most_bytes`.
    """
    most_bytes = checks.whole_number("most_bytes", most_bytes, 1)
    with atomic_write(path) as file:
        embedding, length = embedding_and_length(model)
        encoding = Encoding(embedding.input_dim, 0, start_char, oov_char, index_from)
        reading = read(text, word_index, encoding, length)
        _require_memory(model, reading)
        model = model.on_cpu()
        shots = with_the_models_own(model, snapshots)
        traced, judged = _judged(model, reading, label)
        data = {
            "steps": [step._asdict() for step in reading.steps],
            "left_out": reading.left_out,
            "length": length,
            "padding": reading.padding,
            "most_steps": length or MOST_STEPS,
            "start": encoding.start(),
            "masked": embedding.makes_mask,
            "cannot_run": why_not(model, reading),
        } | judged
        if data["cannot_run"] is None:
            # including those needed to read any sentence
            ids = reading.ids | set(encoding.start()) | (set() if length is None else {0})
            needed = size(data | recomputed(model)) + weights_size(model, shots, ids)
            if needed <= most_bytes:
                words, known_of = known_words(word_index, encoding, _MOST_WORDS)
                known = fitting_words(shots, words, ids, most_bytes - needed)
                data |= recomputed(model) | packed_weights(model, shots, known, ids) | {"known_of": known_of}
            else:
                data["cannot_run"] = _too_large(needed, most_bytes, len(snapshots))
        if data["cannot_run"] is not None:
            if snapshots:
                raise ValueError(f"snapshots need a page that runs the model, but {data['cannot_run']}")
            data |= _recorded(model, traced, reading, data, most_bytes)
        html = page(data)
        file.write(html.encode())
    return ExplorerPage(Path(path), html)


def _too_large(needed: int, most_bytes: int, snapshots: int) -> str:
    """Why a page does not run its model although it could."""
    unit = 10 ** max(len(str(needed)) - 2, 0)
    enough = -(-needed // unit) * unit
    weights, fewer = "its weights", ""
    if snapshots:
        weights += f" and {snapshots} snapshot{'s' * (snapshots > 1)}"
        fewer = ", and fewer snapshots take less (every of callbacks.Snapshots)"
    option = f"explore(..., most_bytes={enough:_}) or, on the command line, --most-bytes {enough} makes room for them"
    return f"with {weights} the page would have more than {most_bytes:,} bytes; {option}{fewer}"


def _require_memory(model: Model, reading: Reading) -> None:
    """Raise an error before computing anything if a model's states and gradients would take too much memory.

    Raises:
        ValueError: it is too large.
    """
    steps = reading.length or len(reading.steps)
    needed = steps * _units(model) * _ARRAYS * 8
    if needed > _MOST_MEMORY:
        raise ValueError(
            f"the model's states and gradients over {steps:,} steps take some {needed / 1e9:,.0f} GB, but explore "
            f"holds at most {_MOST_MEMORY / 1e9:.0f} GB: use a model with fewer steps or units"
        )


def _units(model: Model) -> int:
    """The number of units of all recurrent cells; an embedding feature, with five arrays, counts as an eighth."""
    layers = [layer for layer in model.network.with_inner() if isinstance(layer, RNN)]
    of_cells = sum(cell.units * model.network.uses(layer) for layer in layers for cell in layer.cells.values())
    return of_cells + getattr(first_layer(model), "output_dim", 0) // 8


# --- what the model makes of it ---------------------------------------------------------------------------------------


def _judged(model: Model, reading: Reading, label: Any) -> tuple[Trace, dict[str, Any]]:
    """The trace of a text, with its label, loss and output, as data for the page."""
    if label is not None and not model._compiled:
        raise ValueError("a label needs a loss: compile the model first")
    x = reading.input()
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked
        output = model.predict(x, verbose=0)
        if output.ndim != 2:
            given = f"this one's is {output.shape[1:]}"
            raise ValueError(f"explore shows models with one output (D,) for a text, but {given}")
        if not np.isfinite(output).all():
            _require_finite_outputs(_outputs_by_word(model, reading, output[0]), reading)
        answer = _own_answer(model, output[0]) if model._compiled and label is None else label
        y = None if answer is None else np.asarray(answer)[None]
        if label is not None:
            check_data(model, x, y, prefix="label: ")
        traced = trace(model, x, y)
    lstms = list(traced.lstms("explore").values())
    _require_finite_states(lstms, reading)
    if traced.loss is not None:
        _require_finite_gradients(traced.loss, lstms, reading)
    return traced, {
        "label": None if y is None else _as_label(model, y[0]),
        "own_label": label is None,
        "compiled": model._compiled,
        "loss": traced.loss,
        "chosen": int(np.argmax(output[0])),
        "outputs_of": output.shape[1],
    }


def _own_answer(model: Model, output: np.ndarray) -> Any:
    """The model's own answer, as a label for its loss; None if an answer is not a class."""
    loss = model.loss
    if isinstance(loss, losses.SparseCategoricalCrossentropy):
        return np.argmax(output)
    if isinstance(loss, losses.CategoricalCrossentropy):
        return np.eye(len(output))[np.argmax(output)]
    if isinstance(loss, losses.BinaryCrossentropy):
        return np.round(sigmoid(output) if loss.from_logits and not model.looks_through() else output)
    return None


def _as_label(model: Model, y: np.ndarray) -> Any:
    """A label as data for the page: a class index as one number, others unchanged."""
    is_class = isinstance(model.loss, losses.SparseCategoricalCrossentropy)
    return int(np.ravel(y)[0]) if is_class else y.tolist()


def _outputs_by_word(model: Model, reading: Reading, last: np.ndarray) -> list[np.ndarray | None]:
    """The output for the text up to each word, (D,); None before the last word if all would take too long."""
    ends = range(1, len(reading.steps))
    if len(reading.steps) * (reading.length or len(reading.steps)) * _units(model) > _MOST_PREDICTED:
        return [*(None for _ in ends), last]
    if reading.length is None:  # each at its own length, or padding would be read, too
        return [*(model.predict(reading.input(end), verbose=0)[0] for end in ends), last]
    if not ends:
        return [last]
    return [*model.predict(np.concatenate([reading.input(end) for end in ends]), verbose=0), last]


def _recorded(
    model: Model, traced: Trace, reading: Reading, data: dict[str, Any], most_bytes: int
) -> dict[str, Any]:  # fmt: skip
    """The data for a page that cannot run its model: the output after each word, and what each LSTM did.

    Raises:
        ValueError: no LSTM reads the words, or not even one unit fits.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = _outputs_by_word(model, reading, traced.prediction[0])
    _require_finite_outputs(outputs, reading)
    by_word = {"outputs_by_word": [None if each is None else float(each[data["chosen"]]) for each in outputs]}
    cells, lstms = cells_that_read_words(model), traced.lstms("explore")
    layers = [(layer, cells[own]) for name, layer in lstms.items() if (own := name.partition("#")[0]) in cells]
    others = [name for name in lstms if name.partition("#")[0] not in cells]
    if not layers:
        raise ValueError(f"explore shows LSTMs with one step per word, but {', '.join(others)} has other steps")

    def of(room: int) -> dict[str, Any]:
        found = [recorded(layer, cell, reading, room // len(layers)) for layer, cell in layers]
        return by_word | {"layers": found, "layers_left_out": others}

    smallest = size(data | of(0))
    if smallest > most_bytes:
        raise ValueError(
            f"a page with one unit of each LSTM has {smallest:,} bytes, but most_bytes is {most_bytes:,}: use a "
            f"shorter text, or a larger most_bytes"
        )
    return of(most_bytes - smallest)


def _require_finite_outputs(outputs: Sequence[np.ndarray | None], reading: Reading) -> None:
    """Raise ValueError, naming the first such step, if an output is infinite or NaN."""
    for step, output in enumerate(outputs):
        if output is not None and not np.isfinite(output).all():
            raise ValueError(f"the model's output is not finite from {reading.place(step)} on: is it trained?")


def _require_finite_states(layers: list[LayerTrace], reading: Reading) -> None:
    """Raise ValueError if a pre-activation or state is infinite or NaN, even if the output is not."""
    for layer in layers:
        for name in ("z_i", "z_f", "z_g", "z_o", "c", "h"):
            finite = np.isfinite(getattr(layer, name)[0, -len(reading.steps) :]).all(axis=1)
            if not finite.all():
                first = np.flatnonzero(~finite)[-1 if layer.go_backwards else 0]
                raise ValueError(f"{name} of {layer.name} is not finite from {reading.place(first)} on: is it trained?")


def _require_finite_gradients(loss: float, layers: list[LayerTrace], reading: Reading) -> None:
    """Raise ValueError, naming the first such step, if gradients are infinite or NaN."""
    if not np.isfinite(loss):
        raise ValueError(f"the loss is {loss}: there is no gradient for this label")
    for layer in layers:
        finite = np.all([np.isfinite(layer.gradient(name)[0]).all(axis=1) for name in ("dh", "dc", "d_input")], axis=0)
        if len(wrong := np.flatnonzero(~finite)):
            first = (wrong[0] if layer.go_backwards else wrong[-1]) - len(finite) + len(reading.steps)
            told = f"in the backward pass of {layer.name} it is not finite from {reading.place(first)} on"
            advice = "use a shorter text, or train with clipnorm and smaller weights"
            raise ValueError(f"the gradient exploded: {told}, so there is nothing to show there; {advice}")
