"""A page to watch a trained cell read a sentence: every gate, every gradient, word by word.

`explore` computes; explorer.html, explorer.css and explorer.js beside this file show. They are put together with the
numbers into one file that needs nothing else.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import losses
from scratchlstm._support.files import atomic_write
from scratchlstm._support.notebook import framed
from scratchlstm.datasets.encoding import Encoding, require_words
from scratchlstm.datasets.vocabulary import LONGEST
from scratchlstm.gates import sigmoid
from scratchlstm.inspection.trace import LayerTrace, by_block, trace
from scratchlstm.layers import Embedding
from scratchlstm.models.model import Model
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.text import text_to_word_sequence
from scratchlstm.training.data import check_data

MOST_STEPS = 200  # that are read where the model sets no length itself
_SHOWN = 320_000  # bytes of numbers, which become four thirds of that in base64

# What the page cannot compute to the last bit: its script derives c_prev, h_prev, dh, dc_next, ... from these
_FORWARD = ["i", "f", "g", "o", "c", "h", "z_i", "z_f", "z_g", "z_o"]
_BACKWARD = ["dc", "dh_prev", "dz_o"]


class Step(NamedTuple):
    """One word as the model reads it."""

    word: str
    kind: str  # "word", "unknown" or "start"
    id: int


@dataclass(frozen=True, repr=False)
class ExplorerPage(os.PathLike[str]):
    """What `explore` has written: the path of the file and, as the last expression of a notebook's cell, the page.

    Attributes:
        path: of the file.
        html: what was written.
    """

    path: Path
    html: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"<page {str(self)!r}: open it in a browser>"

    def _repr_html_(self) -> str:
        """The page in a frame, for a notebook; below it the name of the file."""
        return framed(self.html, f"the page {self}")


def explore(
    model: Model, text: str | Sequence[str], path: str | os.PathLike[str], *, word_index: Mapping[str, int],
    label: Any = None, start_char: int | None = 1, oov_char: int | None = 2, index_from: int = 3,
) -> ExplorerPage:  # fmt: skip
    """Write one HTML file, for any browser and without a network, in which a trained model reads a text.

    It shows, for each word and each unit of each `LSTM`, the six equations and their derivatives (numbered as in
    `scratchlstm.gates`) with the numbers of `trace` in them, and the model's output after each word. Units are sorted
    by `LayerTrace.importance` over the words.

    The text is cut to its last words and padded in front to the length that the model states (`pad_sequences`); where
    it states none, the last 200 are read. Of wide models and long texts the page holds the units that mattered most, so
    that it stays below half a megabyte for texts of some hundred words.

    Args:
        model: begins with an `Embedding` and gives one vector (D,) for a text. Where it is compiled, its loss is gone
            back from.
        text: a sentence, which is split as by `text_to_word_sequence`; or words, which are looked up as they are.
        path: the file to write.
        word_index: word -> rank, as `imdb.get_word_index` gives it, or a `Tokenizer` (with `index_from=0`,
            `start_char=None` and its own `oov_char`).
        label: what the loss compares the output with, as `fit` takes it for one sample. None takes the model's own
            answer where the loss is a crossentropy: the likelier class. Other losses compare with a number that only
            the reader knows; without it the page has no way back.
        start_char, oov_char, index_from: as in `imdb.encode_review`. With `oov_char=None` unknown words are skipped.

    Returns:
        the page, which a notebook shows where it is a cell's last expression; also a path, as `open` takes it.

    Raises:
        OSError: the file cannot be written; found out before any work.
        TypeError: not a model, not a text, or no dict of words and ranks.
        ValueError: a model that cannot be shown, a text without a known word, or numbers that are not finite.
    """
    with atomic_write(path) as file:
        embedding, length = _embedding_and_length(model)
        encoding = Encoding(embedding.input_dim, 0, start_char, oov_char, index_from)
        read = _read(text, word_index, encoding)
        steps = read[-(length or MOST_STEPS) :]
        data = {
            "steps": [{"word": step.word, "kind": step.kind} for step in steps],
            "left_out": sum(step.kind != "start" for step in read[: -len(steps)]),
            "padding": 0 if length is None else length - len(steps),
            "masked": embedding.makes_mask,
            **_numbers(model, steps, length, label),
        }
        page = _page(data)
        file.write(page.encode())
    return ExplorerPage(Path(path), page)


# --- the text ---------------------------------------------------------------------------------------------------------


def _embedding_and_length(model: Any) -> tuple[Embedding, int | None]:
    """The first layer of a model that can be shown reading words, and how many it reads, if the model states it.

    Raises:
        TypeError, ValueError: of any other.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model or Sequential, not {type(model).__name__}")
    if not model.built:
        raise ValueError("the model has no parameters yet: train it first, or load a trained one")
    if model.network.merges:
        raise ValueError(f"explore reads one text, but the model has {len(model.input_shape)} inputs")
    first = model.layers[0]
    if not isinstance(first, Embedding):
        raise ValueError(f"explore shows words, so the model must begin with an Embedding, not {first.name}")
    if model.stateful:
        raise ValueError("explore reads a text from its beginning, but the model is stateful")
    length = model.input_shape[0] if model.input_shape else None
    if length is not None and length > LONGEST:
        raise ValueError(f"the model reads {length:,} words at once, and explore gives it up to {LONGEST:,}")
    return first, length


def _read(text: str | Sequence[str], word_index: Mapping[str, int], encoding: Encoding) -> list[Step]:
    """Every word as the model would read it, behind the start mark."""
    require_words(word_index)
    if not isinstance(text, str) and not (isinstance(text, list | tuple) and all(isinstance(w, str) for w in text)):
        raise TypeError(f"text must be a sentence or a list of words, not {text!r:.80}")
    words = text_to_word_sequence(text) if isinstance(text, str) else text
    if not words:
        raise ValueError(f"there is no word in {text!r:.80}")
    found: list[Step] = []
    for word in words:
        rank = word_index.get(word)
        word_id = encoding.oov_char if rank is None else encoding.limited(rank + encoding.index_from)
        if word_id is not None:
            found.append(Step(word, "unknown" if word_id == encoding.oov_char else "word", word_id))
    if not any(step.kind == "word" for step in found):
        raise ValueError(f"the model knows none of the words, which begin with {', '.join(map(repr, words[:5]))}")
    return [Step("<start>", "start", word_id) for word_id in encoding.start()] + found


# --- the numbers ------------------------------------------------------------------------------------------------------


def _numbers(model: Model, steps: list[Step], length: int | None, label: Any) -> dict[str, Any]:
    """The output after each word, and every LSTM's numbers."""
    ids = [step.id for step in steps]
    if label is not None and not model._compiled:
        raise ValueError("a label needs a loss, which the model gets in compile")
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at
        outputs = _outputs_by_word(model, ids, length)
        if len(wrong := np.flatnonzero(~np.isfinite(outputs).all(axis=1))):
            raise ValueError(f"the model's output is not finite from {_place(wrong[0], steps)} on: is it trained?")
        answer = _own_answer(model, outputs[-1]) if model._compiled and label is None else label
        y, x = None if answer is None else np.asarray(answer)[None], pad_sequences([ids], maxlen=length)
        if label is not None:
            check_data(model, x, y, prefix="label: ")
        traced = trace(model, x, y)
    layers = list(traced.lstms("explore").values())
    if traced.loss is not None:
        _require_finite_gradients(traced.loss, layers, steps)
    outputs[-1] = traced.prediction[0]  # as predict gave it, but for the last bits
    chosen = int(np.argmax(outputs[-1]))
    return {
        "label": None if y is None else y[0].tolist(),
        "own_label": label is None,
        "compiled": model._compiled,
        "loss": traced.loss,
        "output": f"output {chosen} of {outputs.shape[1]}" if outputs.shape[1] > 1 else "output",
        "outputs": outputs[:, chosen].tolist(),
        "layers": [_layer(layer, len(ids), _SHOWN // len(layers)) for layer in layers],
    }


def _outputs_by_word(model: Model, ids: list[int], length: int | None) -> np.ndarray:
    """The model's output for the text as far as each word, (steps, D)."""
    if (count := model.network.outputs) > 1:
        raise ValueError(f"explore shows models with one output (D,) for a text, but this one has {count}")
    prefixes = [ids[:end] for end in range(1, len(ids) + 1)]
    if length is None:  # each at its own length: padding would be read, too
        outputs = np.concatenate([model.predict(np.array([prefix]), verbose=0) for prefix in prefixes])
    else:
        outputs = model.predict(pad_sequences(prefixes, maxlen=length), verbose=0)
    if outputs.ndim != 2:
        raise ValueError(f"explore shows models with one output (D,) for a text, but this one's is {outputs.shape[1:]}")
    return outputs


def _own_answer(model: Model, output: np.ndarray) -> Any:
    """What the model itself would say, as a label for its loss; None where an answer is no class."""
    loss = model.loss
    if isinstance(loss, losses.SparseCategoricalCrossentropy):
        return np.argmax(output)
    if isinstance(loss, losses.CategoricalCrossentropy):
        return np.eye(len(output))[np.argmax(output)]
    if isinstance(loss, losses.BinaryCrossentropy):
        return np.round(sigmoid(output) if loss.from_logits and not model.looks_through() else output)
    return None


def _require_finite_gradients(loss: float, layers: list[LayerTrace], steps: list[Step]) -> None:
    """Raise ValueError if gradients are infinite or NaN, and name the step at which that begins."""
    if not np.isfinite(loss):
        raise ValueError(f"the loss is {loss}: from this label there is no gradient to show")
    for layer in layers:
        finite = np.all([np.isfinite(layer.gradient(name)[0]).all(axis=1) for name in ("dh", "dc", "d_input")], axis=0)
        if len(wrong := np.flatnonzero(~finite)):
            first = (wrong[0] if layer.go_backwards else wrong[-1]) - len(finite) + len(steps)
            told = f"on its way back through {layer.name} it is not finite from {_place(first, steps)} on"
            advice = "give a shorter text, or train with clipnorm and smaller weights"
            raise ValueError(f"the gradient exploded: {told}, so there is nothing to show there; {advice}")


def _place(step: int, steps: list[Step]) -> str:
    return f"step {step + 1} ({steps[step].word!r:.80})" if step >= 0 else "the padding before the first word"


def _layer(layer: LayerTrace, steps: int, most_bytes: int) -> dict[str, Any]:
    """One layer's numbers at the last `steps` steps for its important units, as the page takes them."""
    if (layer.activation, layer.recurrent_activation) != ("tanh", "sigmoid"):
        has = f"{layer.name} has {layer.activation} and {layer.recurrent_activation}"
        raise ValueError(f"explore shows the cell of scratchlstm.gates, with tanh and sigmoid, but {has}")
    shown = slice(-steps, None)
    first, last = (-1, -steps) if layer.go_backwards else (-steps, -1)  # in the order of computation
    arrays = {key: getattr(layer, key)[0, shown] for key in _FORWARD}  # (T, H) each
    arrays |= by_block("u", layer.blocks, layer.h_prev[0, shown] @ layer.recurrent_kernel)  # h_prev U
    of_unit = by_block("b", layer.blocks, layer.bias)
    of_unit |= {f"{state}_before": layer.arrays[f"{state}_prev"][0, first] for state in layer.states}
    above: list[int] = []
    if layer.dh is not None:
        arrays |= {key: layer.gradient(key)[0, shown] for key in _BACKWARD}
        of_unit |= {f"{key}_after": layer.gradient(f"{key}_next")[0, last] for key in ("dh", "dc")}
        dh_above = layer.gradient("dh_above")[0, shown]
        above = np.flatnonzero(dh_above.any(axis=1)).tolist()  # mostly the last step alone
    scores = layer.importance(0, shown)  # (H,)
    most = most_bytes // (steps * len(arrays) * layer.h.itemsize)
    units = np.argsort(-scores, kind="stable")[: max(1, most)]
    return {
        "name": layer.name,
        "of": layer.units,
        "backwards": layer.go_backwards,
        "dtype": layer.h.dtype.name,
        "counts": layer.mask[0, shown].tolist(),
        "units": units.tolist(),
        "scores": [float(f"{score:.6g}") for score in scores[units]],  # only printed
        "d_words": [] if layer.dh is None else layer.d_words[0, shown].tolist(),
        "of_unit": {key: _packed(array[units]) for key, array in of_unit.items()},
        "arrays": {key: _packed(array[:, units].T) for key, array in arrays.items()},
        "above_at": above,
        "above": _packed(dh_above[above][:, units].T) if above else "",
    }


# --- the page ---------------------------------------------------------------------------------------------------------


def _packed(array: np.ndarray) -> str:
    """Numbers in their own precision, as base64, which is less than half the length of their digits."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode()


def _page(data: dict[str, Any]) -> str:
    """The page with style, script and data in it."""
    style, script = _part("explorer.css"), _part("explorer.js")
    numbers = json.dumps(data, allow_nan=False)  # which escapes all beyond ASCII
    for mark in "&<>":  # would mean something in HTML
        numbers = numbers.replace(mark, f"\\u{ord(mark):04x}")
    hashes = {"STYLE_HASH": _hash(style), "SCRIPT_HASH": _hash(script)}
    parts = hashes | {"STYLE": style, "SCRIPT": script, "DATA": numbers}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _part("explorer.html"))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    """By which the page's policy knows its own style and script, and lets no other run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
