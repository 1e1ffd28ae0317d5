"""The small change of the embeddings that raises the loss most, and the words it moves a sentence towards.

docs/adversarial.md derives it. B samples, T positions, E features, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlstm._support import checks
from scratchlstm.inspection.recording import checked, choose, numbered
from scratchlstm.layers.passes import Pass
from scratchlstm.rows import as_array
from scratchlstm.training.adversarial import Embedded, adding
from scratchlstm.training.data import each_of

_AT_ONCE = 32  # number of positions compared with the whole table at once


@dataclass(frozen=True, repr=False)
class LayerPerturbation:
    """The effect of the worst perturbation on the output of one embedding.

    Attributes:
        name: name of the layer.
        ids: its input, (B, T).
        x: its output, (B, T, E).
        r: the perturbation, (B, T, E); 0 at padding.
        share: the fraction of a sample's `|r|²`, over all embeddings, at each position, (B, T); 0 if its r is 0.
        embeddings: the table, (V, E).
    """

    name: str
    ids: np.ndarray
    x: np.ndarray
    r: np.ndarray
    share: np.ndarray
    embeddings: np.ndarray

    def towards(self, exclude: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
        """The id that r moves each position towards, and how directly: the largest cosine of r and embeddings[id] - x.

        Args:
            exclude: ids to exclude, such as those of padding and the unknown word.

        Returns:
            ids (B, T) and cosines (B, T). Where r is 0, or no other id remains, the position's own id and 0.

        Raises:
            ValueError: exclude contains anything but ids of the table.
        """
        table = self.embeddings.astype("float64")
        excluded = [checks.index("exclude", each, len(table)) for each in checks.whole_numbers("exclude", exclude)]
        squares = (table**2).sum(axis=1)
        found, cosines = self.ids.copy(), np.zeros(self.ids.shape)
        moved = np.argwhere(self.share > 0)
        for start in range(0, len(moved), _AT_ONCE):
            at = tuple(moved[start : start + _AT_ONCE].T)
            x, r = self.x[at].astype("float64"), self.r[at].astype("float64")  # (N, E)
            sums = squares + (x**2).sum(axis=1, keepdims=True)  # (N, V)
            distances = sums - 2 * x @ table.T  # |w - x|²
            ahead = distances > 1e-10 * sums  # not the word itself, nor one with the same vector
            ahead[:, excluded] = False
            along = r @ table.T - (r * x).sum(axis=1, keepdims=True)  # r·(w - x)
            lengths = np.linalg.norm(r, axis=1, keepdims=True) * np.sqrt(np.where(ahead, distances, 1))
            cosine = np.where(ahead, along / lengths, -np.inf)
            found[at] = np.where(ahead.any(axis=1), cosine.argmax(axis=1), found[at])
            cosines[at] = np.where(ahead.any(axis=1), cosine.max(axis=1), 0)
        return found, cosines

    def __repr__(self) -> str:
        return f"LayerPerturbation {self.name!r}: r {self.r.shape}"


@dataclass(frozen=True, repr=False)
class WorstPerturbation:
    """The result of `worst_perturbation`: `found["embedding"]` is that of the layer "embedding".

    Attributes:
        loss: the loss at x, as from `Model.evaluate`.
        perturbed_loss: the loss at x + r.
        layers: name -> `LayerPerturbation`, in the order of computation.
    """

    loss: float
    perturbed_loss: float
    layers: dict[str, LayerPerturbation]

    def __getitem__(self, name: str | None) -> LayerPerturbation:
        """The perturbation of the layer with that name; None means the only one.

        Raises:
            ValueError: no such layer, or several to choose from; the message lists them.
        """
        return choose(self.layers, name)

    def __repr__(self) -> str:
        head = f"WorstPerturbation: loss {self.loss:.4g}, perturbed {self.perturbed_loss:.4g}"
        return "\n".join([head, *map(repr, self.layers.values())])


def worst_perturbation(
    model: Any, x: Any, y: Any, epsilon: float = 0.025, *, sample_weight: Any = None
) -> WorstPerturbation:
    """The change r of the embeddings' output that raises each sample's loss most, for its length.

    `r = epsilon |x| g / |g|`, with g the gradient of the loss with respect to the embedded text x: what `fit` with an
    `AdversarialTraining` learns from, but without dropout. The model is not changed.

    Args:
        model: built and compiled, with at least one `Embedding`.
        x, y, sample_weight: a batch, as in `Model.evaluate`.
        epsilon: `|r| / |x|`, for each sample.

    Returns:
        the losses, and r for each embedding the loss depends on. A layer used in several places has one for each use:
        "embedding", "embedding#2", ... in the order of computation. (Within `TimeDistributed`, each sentence of a text
        is a separate row.)

    Raises:
        TypeError: not a model, or data that are not numeric.
        ValueError: an epsilon that is not positive, a model that is not built or without an `Embedding`, y that is
            None, or data of the wrong shape.
        RuntimeError: not compiled.

    Source: Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text classification", 2017.
    """
    epsilon = checks.number("epsilon", epsilon, above=0)
    if y is None:
        raise ValueError("worst_perturbation needs targets y, as it raises the loss")
    model, data = checked(model, x, y, sample_weight, "worst_perturbation")

    def forward(run: Pass) -> tuple[Any, Any, Any, Any]:
        prediction, cache = model.network.forward(data.x, run)
        return cache, *model.loss_with_gradient(data.y, each_of(as_array, prediction), cache.kept, data.weight)

    embedded = Embedded()
    run = Pass(keeps_states=False, seen=embedded.seen, embed=embedded.embed)
    cache, loss, dy, from_logits = forward(run)
    model.back_from_loss(dy, cache, from_logits, need=True)
    rs = embedded.perturbations(epsilon, data.samples)
    _, perturbed_loss, *_ = forward(run.again(embed=adding(rs)))
    reached = [(rows, r) for rows, r in zip(embedded.rows, rs, strict=True) if r is not None]
    squares = [(r.astype("float64") ** 2).sum(axis=-1).reshape(data.samples, -1) for _, r in reached]
    total = sum(each.sum(axis=1, keepdims=True) for each in squares)  # |r|², (B, 1)
    layers: dict[str, LayerPerturbation] = {}
    for (rows, r), each in zip(reached, squares, strict=True):
        layer, _ = embedded.arrived[id(rows)]
        ids = rows.groups.ids[rows.groups.index]
        share = (each / np.where(total > 0, total, 1)).reshape(ids.shape)
        name = numbered(layer.name, layers)
        layers[name] = LayerPerturbation(name, ids, rows.gathered(), r, share, layer.params["embeddings"].copy())
    return WorstPerturbation(float(loss), float(perturbed_loss), layers)
