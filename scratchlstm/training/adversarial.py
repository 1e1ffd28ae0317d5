"""Adversarial training: each step also learns from the perturbation of the embeddings that hurts most.

    L(x + r) ≈ L(x) + g·r, where g = dL/dx: among all r of the same length, the one along g raises the loss most

    x           all of the embeddings' outputs for a sample: one array (T, E), or several
    g           from an ordinary forward and backward pass
    r           epsilon |x| g / |g|
    loss        (1 - weight) L(x) + weight L(x + r), from a second forward and backward pass, with r held constant

(Miyato, Dai and Goodfellow, 2017, equation 5. They normalize the embeddings, so that the length of r is meaningful;
here it is a fraction of the length of x.)
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks, registry
from scratchlstm.layers import Embedding
from scratchlstm.layers.passes import Cache
from scratchlstm.rows import GatheredRows
from scratchlstm.training.compiled import Compiled


class AdversarialTraining(registry.Configured):
    """Also train on embeddings perturbed to raise the loss most: `fit(adversarial=AdversarialTraining())`.

    Works for models that begin with embeddings, and makes a step take about twice as long. See docs/adversarial.md for
    the derivation.

    Args:
        epsilon: the length of a sample's perturbation, as a fraction of the length of its embeddings.
        weight: weight of the perturbed loss, between 0 and 1; the unperturbed loss gets 1 - weight.
        first_step: number of optimizer steps before it starts: perturbations of an untrained model teach nothing.

    Raises:
        TypeError, ValueError: an epsilon that is not positive, a weight outside (0, 1), a negative first_step.

    Source: Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text classification", 2017.
    """

    def __init__(self, epsilon: float = 0.025, weight: float = 0.5, first_step: int = 0) -> None:
        self.epsilon = checks.number("epsilon", epsilon, above=0)
        self.weight = checks.number("weight", weight, above=0, below=1)
        self.first_step = checks.whole_number("first_step", first_step)


def require_embeddings(model: Compiled, adversarial: Any) -> None:
    """Raise an error before training if `adversarial` has the wrong type or the model cannot be trained that way.

    Raises:
        TypeError: not an `AdversarialTraining`, or a subclass of it.
        ValueError: a model without embeddings, or a stateful one.
    """
    if type(adversarial) is not AdversarialTraining:
        raise TypeError(f"adversarial must be an AdversarialTraining, or None, not {checks.came(adversarial)}")
    if not any(isinstance(layer, Embedding) for layer in model.network.with_inner()):
        raise ValueError("adversarial training perturbs the output of an Embedding, but the model has none")
    if stateful := [layer.name for layer in model.layers if layer.stateful]:
        raise ValueError(
            f"adversarial training passes each batch through the model twice, but {', '.join(stateful)} is stateful, "
            f"and would take the second pass for the next batch: train it without adversarial"
        )


class Embedded:
    """The outputs of the embeddings in a pass, and the gradients with respect to them.

    A `Pass` calls `embed` and `seen`. Embeddings then output an array of every position, so that each position has its
    own gradient; otherwise gradients of the same id arrive already summed.
    """

    def __init__(self) -> None:
        self.rows: list[GatheredRows] = []  # one for each call of an embedding
        self.arrived: dict[int, tuple[Any, backend.Array]] = {}  # id of the rows -> layer, dL/dx, (B, T, E)

    def embed(self, rows: GatheredRows) -> backend.Array:
        """All positions, (B, T, E)."""
        self.rows.append(rows)
        return rows.gathered()

    def seen(self, cache: Cache, dy: Any) -> None:
        """Keep the gradient that arrives at an embedding."""
        if isinstance(cache.kept, GatheredRows):
            self.arrived[id(cache.kept)] = cache.layer, dy

    def perturbations(self, epsilon: float, samples: int) -> list[backend.Array | None]:
        """The perturbation r for each call of an embedding, (B, T, E); None if the loss does not depend on it.

        Padding is not part of `|x|` and has no gradient.

        Args:
            epsilon: `|r| / |x|`.
            samples: number of samples in the pass; a `TimeDistributed` embedding has several of the B rows for each.

        Raises:
            ValueError: no embedding called `embed`.
        """
        if not self.rows:
            raise ValueError(
                "no Embedding took part in the pass, so there is nothing to perturb: the model needs one, and a "
                "subclass of Embedding must call super().forward(x, run)"
            )
        reached = [(rows, *self.arrived[id(rows)]) for rows in self.rows if id(rows) in self.arrived]
        if not reached:
            return [None] * len(self.rows)
        x = sum(_summed(_squares(layer, rows), samples) for rows, layer, _ in reached)
        largest = _largest([g for _, _, g in reached], samples)
        scaled = {id(rows): g / _along(largest, rows) for rows, _, g in reached}
        g = sum(_summed(each**2, samples) for each in scaled.values())  # at least 1, or 0 if there is no gradient
        length = epsilon * (x / np.maximum(g, 1)) ** 0.5
        return [scaled[id(rows)] * _along(length, rows) if id(rows) in scaled else None for rows in self.rows]


def adding(perturbations: Sequence[backend.Array | None]) -> Callable[[GatheredRows], Any]:
    """The function a second `Pass` calls as `embed`, to output x + r; the perturbations are those of `Embedded`."""
    of_calls = iter(perturbations)

    def embed(rows: GatheredRows) -> Any:
        r = next(of_calls)
        return rows if r is None else rows.gathered() + r

    return embed


def _squares(layer: Embedding, rows: GatheredRows) -> backend.Array:
    """|x|² at each position, (B, T, 1); 0 for padding."""
    of_rows = (rows.values**2).sum(axis=1, keepdims=True)
    if layer.mask_zero:
        of_rows[backend.to(layer.backend, rows.groups.ids == 0)] = 0
    return GatheredRows(of_rows, rows.groups, (rows.table_shape[0], 1)).gathered()


def _summed(values: backend.Array, samples: int) -> backend.Array:
    """The values summed over each sample."""
    return values.reshape(samples, -1).sum(axis=1)


def _largest(gradients: Sequence[backend.Array], samples: int) -> backend.Array:
    """The largest absolute value in each sample's gradients, or 1 if that is 0, to divide them by.

    Otherwise a gradient of 1e-25, squared in float32, would become 0.
    """
    xp = backend.namespace(gradients[0])
    of_each = [xp.abs(g).reshape(samples, -1).max(axis=1) for g in gradients]
    largest = xp.stack(of_each).max(axis=0)
    return xp.where(largest == 0, largest.dtype.type(1), largest)


def _along(values: backend.Array, rows: GatheredRows) -> backend.Array:
    """One value per sample, repeated for its rows: (B, 1, 1), to multiply an embedding's output."""
    several = len(values), rows.shape[0] // len(values)
    of_each = backend.namespace(values).broadcast_to(values[:, None], several)
    return of_each.reshape(-1, *[1] * (rows.ndim - 1))
