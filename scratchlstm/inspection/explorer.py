"""A page to watch a trained cell read a sentence: every gate, every gradient, word by word.

`explore` computes; explorer.html, explorer.css and explorer.js beside this file show. They are put together with the
numbers into one file that needs nothing else.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import losses
from scratchlstm.datasets.encoding import Encoding, require_words
from scratchlstm.files import atomic_write
from scratchlstm.gates import sigmoid
from scratchlstm.inspection.trace import GATES, LayerTrace, trace
from scratchlstm.layers import Embedding
from scratchlstm.model import Model
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.text import text_to_word_sequence

LONGEST = 200  # steps that are read where the model sets no length itself
_SHOWN = 6400  # steps × units of all layers together, of some 130 bytes each

_FORWARD = ["i", "f", "g", "o", "c", "h", "c_prev", "h_prev", "z_i", "z_f", "z_g", "z_o"]
_BACKWARD = ["dh", "dc", "dz_i", "dz_f", "dz_g", "dz_o"]


class Step(NamedTuple):
    """One word as the model reads it."""

    word: str
    kind: str  # "word", "unknown" or "start"
    id: int


def explore(
    model: Model,
    text: str | Sequence[str],
    path: str | os.PathLike[str],
    *,
    word_index: Mapping[str, int],
    label: Any = None,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> None:
    """Write one HTML file, for any browser and without a network, in which a trained model reads a text.

    It shows, for each word and each unit of each `LSTM`, the six equations and their derivatives (numbered as in
    `scratchlstm.gates`) with the numbers of `trace` in them, and the model's output after each word. Units are sorted
    by the sum over the words of `|dL/dc · c|`: how much the loss would change, to first order, if the cell were scaled.

    The text is cut to its last words and padded in front to the length that the model states (`pad_sequences`); where
    it states none, the last 200 are read. Of wide models the page holds the units that mattered most.

    Args:
        model: begins with an `Embedding` and gives one vector (D,) for a text. Where it is compiled, its loss is gone
            back from.
        text: a sentence, which is split as by `text_to_word_sequence`; or words, which are looked up as they are.
        path: the file to write.
        word_index: word -> rank, as `imdb.get_word_index` gives it, or a `Tokenizer` (with `index_from=0`,
            `start_char=None` and its own `oov_char`).
        label: what the loss compares the output with, as `fit` takes it for one sample. None takes the model's own
            answer: the output rounded, or its largest class.
        start_char, oov_char, index_from: as in `imdb.encode_review`. With `oov_char=None` unknown words are skipped.

    Raises:
        OSError: the file cannot be written; found out before any work.
        TypeError: not a model, not a text, or no dict of words and ranks.
        ValueError: a model that cannot be shown, or a text without a known word.
    """
    with atomic_write(path) as file:
        embedding = _embedding(model)
        encoding = Encoding(embedding.input_dim, 0, start_char, oov_char, index_from)
        read = _read(text, word_index, encoding)
        length = model.input_shape[0] if model.input_shape else None
        steps = read[-(length or LONGEST) :]
        data = {
            "steps": [{"word": step.word, "kind": step.kind} for step in steps],
            "left_out": sum(step.kind != "start" for step in read[: -len(steps)]),
            "padding": 0 if length is None else length - len(steps),
            "masked": embedding.makes_mask,
            **_numbers(model, [step.id for step in steps], length, label),
        }
        file.write(_page(data).encode())


# --- the text ---------------------------------------------------------------------------------------------------------


def _embedding(model: Any) -> Embedding:
    """The first layer of a model that can be shown reading words.

    Raises:
        TypeError, ValueError: of any other.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model or Sequential, not {type(model).__name__}")
    if not model.built:
        raise ValueError("the model has no parameters yet: train it first, or load a trained one")
    first = model.layers[0]
    if not isinstance(first, Embedding):
        raise ValueError(f"explore shows words, so the model must begin with an Embedding, not {first.name}")
    if model.stateful:
        raise ValueError("explore reads a text from its beginning, but the model is stateful")
    return first


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


def _numbers(model: Model, ids: list[int], length: int | None, label: Any) -> dict[str, Any]:
    """The output after each word, and every LSTM's numbers."""
    outputs = _outputs_by_word(model, ids, length)
    found: dict[str, Any] = {"own_label": label is None}
    y = None
    if model._compiled:
        y = np.asarray(_own_answer(model.loss, outputs[-1]) if label is None else label)[None]
        found["label"] = y[0].tolist()
    elif label is not None:
        raise ValueError("a label needs a loss, which the model gets in compile")
    traced = trace(model, pad_sequences([ids], maxlen=length), y)
    outputs[-1] = traced.prediction[0]  # as predict gave it, but for the last bits
    chosen = int(np.argmax(outputs[-1]))
    most = max(1, _SHOWN // (len(ids) * len(traced.layers)))
    return found | {
        "loss": traced.loss,
        "output": f"output {chosen} of {outputs.shape[1]}" if outputs.shape[1] > 1 else "output",
        "outputs": outputs[:, chosen].tolist(),
        "layers": [_layer(layer, len(ids), most) for layer in traced.layers.values()],
    }


def _outputs_by_word(model: Model, ids: list[int], length: int | None) -> np.ndarray:
    """The model's output for the text as far as each word, (steps, D)."""
    prefixes = (pad_sequences([ids[:end]], maxlen=length) for end in range(1, len(ids) + 1))
    outputs = [model.predict(x, verbose=0)[0] for x in prefixes]
    if outputs[0].ndim != 1:
        raise ValueError(f"explore shows models with one output (D,) for a text, but this one's is {outputs[0].shape}")
    return np.stack(outputs)


def _own_answer(loss: losses.Loss, output: np.ndarray) -> Any:
    """What the model itself would say, as a label for its loss."""
    if isinstance(loss, losses.SparseCategoricalCrossentropy):
        return np.argmax(output)
    if isinstance(loss, losses.CategoricalCrossentropy):
        return np.eye(len(output))[np.argmax(output)]
    return np.round(sigmoid(output) if loss.from_logits else output)


def _layer(layer: LayerTrace, steps: int, most: int) -> dict[str, Any]:
    """One layer's numbers at the last `steps` steps for its `most` important units, as the page takes them."""
    if (layer.activation, layer.recurrent_activation) != ("tanh", "sigmoid"):
        raise ValueError(
            f"explore shows the cell of scratchlstm.gates, with tanh and sigmoid, but {layer.name} has "
            f"{layer.activation} and {layer.recurrent_activation}"
        )
    arrays = {key: getattr(layer, key)[0] for key in _FORWARD}  # (T, H) each
    arrays |= {f"u_{gate}": part for gate, part in _by_gate(layer.h_prev[0] @ layer.recurrent_kernel)}  # h_prev U
    if layer.dh is not None:
        arrays |= {key: layer.gradient(key)[0] for key in _BACKWARD} | _passed_on(layer)
    arrays = {key: array[-steps:] for key, array in arrays.items()}
    d_words = [] if layer.dh is None else layer.d_words[0, -steps:].tolist()
    scores = np.sum(np.abs(arrays["c"] * arrays.get("dc", 1)), axis=0)  # (H,)
    units = np.argsort(-scores, kind="stable")[:most]
    return {
        "name": layer.name,
        "of": layer.units,
        "backwards": layer.go_backwards,
        "counts": layer.mask[0, -steps:].tolist(),
        "units": units.tolist(),
        "scores": scores[units].tolist(),
        "d_words": d_words,
        "bias": {gate: part[units].tolist() for gate, part in _by_gate(layer.bias)},
        "arrays": {key: _packed(array[:, units].T) for key, array in arrays.items()},
    }


def _by_gate(columns: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    """The four blocks of an array (..., 4H), each behind its gate's name."""
    return zip(GATES, np.split(columns, 4, axis=-1), strict=True)


def _passed_on(layer: LayerTrace) -> dict[str, np.ndarray]:
    """What goes from step to step on the way back, each (T, H): dh_prev (18), dc_next, and dh's part from above."""
    dz = np.concatenate([layer.gradient(f"dz_{gate}")[0] for gate in GATES], axis=1)  # (T, 4H)
    dh, dc, counts = layer.gradient("dh")[0], layer.gradient("dc")[0], layer.mask[0, :, None]
    dh_prev = np.where(counts, dz @ layer.recurrent_kernel.T, dh)
    dc_prev = np.where(counts, dc * layer.f[0], dc)
    dh_next, dc_next = (_of_the_next(array, layer.go_backwards) for array in (dh_prev, dc_prev))
    rounding = 1e-5 * np.max(np.abs(dh_next), axis=1, keepdims=True)  # (T, 1)
    above = np.where(np.abs(dh - dh_next) <= rounding, 0, dh - dh_next)
    return {"dh_prev": dh_prev, "dc_next": dc_next, "above": above}


def _of_the_next(array: np.ndarray, backwards: bool) -> np.ndarray:
    """At each step what stands at the one computed after it; 0 at the last."""
    none = np.zeros_like(array[:1])
    return np.concatenate([none, array[:-1]] if backwards else [array[1:], none])


# --- the page ---------------------------------------------------------------------------------------------------------


def _packed(array: np.ndarray) -> str:
    """Numbers (units, steps) as base64 of float32, which is less than half the length of their digits."""
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def _page(data: dict[str, Any]) -> str:
    """The page with style, script and data in it."""
    style, script = _part("explorer.css"), _part("explorer.js")
    parts = {
        "STYLE": style,
        "SCRIPT": script,
        "STYLE_HASH": _hash(style),
        "SCRIPT_HASH": _hash(script),
        "DATA": _harmless(json.dumps(data)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _part("explorer.html"))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    """By which the page's policy knows its own style and script, and lets no other run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _harmless(text: str) -> str:
    """JSON without a character that means something in HTML; json.dumps has escaped all beyond ASCII."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
