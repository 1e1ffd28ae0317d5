"""A page on which a trained model reads a sentence: from the word to the loss and back, every number in its equation.

`explore` gathers the numbers; `page` puts them into one file with page.html, style.css and the scripts beside this
module. If the page can run the model itself (`recomputed`), a reader can change it there; otherwise it shows what
`trace` found (`recorded`).
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
from scratchlstm.inspection.explorer.page import page
from scratchlstm.inspection.explorer.reading import MOST_STEPS, Step, embedding_and_length, known_words, read
from scratchlstm.inspection.explorer.recomputed import (
    Weights,
    recomputed,
    weights_in_page,
    why_not,
    with_the_models_own,
)
from scratchlstm.inspection.explorer.recorded import recorded
from scratchlstm.inspection.trace import LayerTrace, Trace, trace
from scratchlstm.models.model import Model
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.training.data import check_data

_OWN = 140_000  # bytes of the page without any numbers, with room for the words
_OF_SNAPSHOT = 150  # bytes of its names
_MOST_MEMORY = 2**31  # bytes of states and gradients
_ARRAYS = 40  # of them, (T, H) each


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
    snapshots: Sequence[tuple[int, Weights]] = (), most_bytes: int = 500_000,
) -> ExplorerPage:  # fmt: skip
    """Write one HTML file, for any browser and without a network, in which a trained model reads a text.

    TODO docstring.
    """
    most_bytes = checks.whole_number("most_bytes", most_bytes, 1)
    with atomic_write(path) as file:
        embedding, length = embedding_and_length(model)
        shots = with_the_models_own(model, snapshots)
        encoding = Encoding(embedding.input_dim, 0, start_char, oov_char, index_from)
        whole = read(text, word_index, encoding)
        steps = whole[-(length or MOST_STEPS) :]
        _require_memory(model, length or len(steps))
        start = encoding.start()
        # without which no sentence can be read: the page lets a reader change it
        ids = {step.id for step in steps} | set(start) | (set() if length is None else {0})
        data = {
            "steps": [step._asdict() for step in steps],
            "left_out": sum(step.kind != "start" for step in whole[: -len(steps)]),
            "length": length,
            "most_steps": length or MOST_STEPS,
            "start": start,
            "masked": embedding.makes_mask,
            "of_words": embedding.input_dim,
        }
        reason = why_not(model)
        needed = _OWN + len(shots) * (4 * weights_in_page(model, len(ids)) // 3 + _OF_SNAPSHOT)
        if reason is None and needed > most_bytes:
            reason = f"its weights make {needed:,} bytes: explore(..., most_bytes={needed:,})".replace(",", "_")
        if reason is not None and snapshots:
            fewer = "; fewer snapshots make less (every of callbacks.Snapshots)" if needed > most_bytes else ""
            raise ValueError(f"snapshots need a page that runs the model, but {reason}{fewer}")
        traced, judged = _traced(model, steps, length, label, by_word=reason is not None)
        data |= {"cannot_run": reason} | judged
        if reason is None:
            per_word = 4 * embedding.output_dim * embedding.params["embeddings"].itemsize * len(shots) // 3 + 40
            known = known_words(word_index, encoding)
            data |= {"known_of": len(known)}
            data |= recomputed(model, shots, ids, known[: (most_bytes - needed) // per_word])
        else:
            layers = list(traced.lstms("explore").values())
            data["layers"] = [recorded(of, len(steps), 3 * (most_bytes - _OWN) // 4 // len(layers)) for of in layers]
        html = page(data)
        file.write(html.encode())
    return ExplorerPage(Path(path), html)


def _require_memory(model: Model, steps: int) -> None:
    """Refuse a model whose states and gradients over the text no memory should hold, before any is taken.

    Raises:
        ValueError: it is too large.
    """
    needed = sum(steps * getattr(layer, "units", 0) * _ARRAYS * 8 for layer in model.layers)
    if needed > _MOST_MEMORY:
        raise ValueError(
            f"the model's states and gradients over {steps:,} steps take some {needed / 1e9:,.0f} GB, and explore "
            f"holds {_MOST_MEMORY / 1e9:.0f} GB at most: give a model of fewer steps or units"
        )


# --- what the model makes of it ---------------------------------------------------------------------------------------


def _traced(
    model: Model, steps: list[Step], length: int | None, label: Any, by_word: bool
) -> tuple[Trace, dict[str, Any]]:
    """The trace of the text, and the label, loss and outputs that go with it."""
    ids = [step.id for step in steps]
    if label is not None and not model._compiled:
        raise ValueError("a label needs a loss, which the model gets in compile")
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at
        outputs = _outputs_by_word(model, ids if by_word else ids[-1:], length)
        x = pad_sequences([ids], maxlen=length)
        if not by_word:
            outputs = model.predict(x, verbose=0)
        if len(wrong := np.flatnonzero(~np.isfinite(outputs).all(axis=1))):
            raise ValueError(f"the model's output is not finite from {_place(wrong[0], steps)} on: is it trained?")
        answer = _own_answer(model, outputs[-1]) if model._compiled and label is None else label
        y = None if answer is None else np.asarray(answer)[None]
        if label is not None:
            check_data(model, x, y, prefix="label: ")
        traced = trace(model, x, y)
    if traced.loss is not None:
        _require_finite_gradients(traced.loss, list(traced.lstms("explore").values()), steps)
    outputs[-1] = traced.prediction[0]  # as predict gave it, but for the last bits
    chosen = int(np.argmax(outputs[-1]))
    return traced, {
        "label": None if y is None else y[0].tolist(),
        "own_label": label is None,
        "compiled": model._compiled,
        "loss": traced.loss,
        "chosen": chosen,
        "outputs_of": outputs.shape[1],
        "outputs_by_word": outputs[:, chosen].tolist() if by_word else None,
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
    """What the model itself would say, as a label for its loss; None if an answer is no class."""
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
