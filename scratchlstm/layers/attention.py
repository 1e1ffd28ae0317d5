"""Attention: a weighted mean of values for each query; the better a key matches, the larger the weight of its value."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np

from scratchlstm import activations
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, LayerOptions
from scratchlstm.layers.merging import Merging
from scratchlstm.layers.passes import DropoutMask, Pass
from scratchlstm.layers.weights import Shape, Specs


class Kept(NamedTuple):
    """What a forward pass keeps: Tq queries, Tv values; queries and keys have E features, values D."""

    q: Array  #               (B, Tq, E)
    v: Array  #               (B, Tv, D)
    k: Array  #               (B, Tv, E)
    qk: Array  #              (B, Tq, Tv), the dot product of each query with each key
    a: Array  #               (B, Tq, Tv), the softmax of the scores
    w: Array  #               (B, Tq, Tv), the weights: a after dropout
    dropout: Array | None  #  (B, Tq, Tv), 0 or 1 / (1 - rate)
    queries: Array | None  #  (B, Tq, 1), False where masked
    has_key: bool  #          if False, k is v


class Attention(Merging):
    """Dot-product attention (Luong, Pham & Manning, 2015): y = softmax(scale q kᵀ) v.

    Args:
        use_scale: whether to multiply the scores by a trained parameter; otherwise the scale is 1.
        score_mode: "dot"; Keras' "concat" is not supported.
        dropout: the dropout rate of the attention weights during training.
        seed: seed for dropout; None draws from the model's generator.
        options: name, dtype; see `Layer`.

    Input: [query (B, Tq, E), value (B, Tv, D)] or [query, value, key (B, Tv, E)]; the key defaults to the value.
    Output: (B, Tq, D). With `return_attention_scores=True`, [output, weights (B, Tq, Tv)], weights after dropout.

    `forward` returns both as a tuple, and `backward` takes a gradient for each; one of them may be None.

    Parameters: `scale` (), initially 1, with `use_scale`.

    Call: `layer([query, value], mask=[query_mask, value_mask], return_attention_scores=True)`. The output is 0
    at masked queries, and has their mask. Masked values get weight 0.

    One difference from Keras: if all values of a row are masked, the weights and the output are 0, without a gradient.
    Keras subtracts 1e9 from masked scores, which in float32 makes them all equal: its output is the mean of all.

    Raises:
        ValueError: an unsupported score_mode, or a rate outside [0, 1).
    """

    call_order: ClassVar = ("mask", "training", "return_attention_scores", "use_causal_mask")
    outputs = 2

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.use_scale = checks.flag("use_scale", use_scale)
        if not isinstance(score_mode, str) or score_mode != "dot":
            raise ValueError(f'score_mode must be "dot", the only one supported here, not {checks.came(score_mode)}')
        self.score_mode = score_mode
        self.source = DropoutMask(dropout, seed, "dropout")
        self.dropout_masks = [self.source]

    dropout = property(attrgetter("source.rate"), doc="The dropout rate of the attention weights.")
    seed = property(attrgetter("source.seed"), doc="Seed for dropout.")

    def param_specs(self, input_shape: Any) -> Specs:
        return {"scale": ((), "ones")} if self.use_scale else {}

    def output_shape(self, input_shape: Any) -> list[Shape]:
        """The shapes of the output and of the weights."""
        if len(input_shape) not in (2, 3) or any(len(shape) != 2 for shape in input_shape):
            raise self.misfit("[query, value] or [query, value, key] of three dimensions each", input_shape)
        (Tq, E), (Tv, D), (Tk, of_key) = (*input_shape, input_shape[1])[:3]
        if len({E, of_key} - {None}) > 1:
            raise self.misfit(f"queries and {'keys' if len(input_shape) == 3 else 'values'} of equal size", input_shape)
        if len({Tv, Tk} - {None}) > 1:
            raise self.misfit("as many keys as values", input_shape)
        return [(Tq, D), (Tq, Tv)]

    def __call__(self, x: Any, *args: Any, **call: Any) -> Any:
        """Build on first use, and return y; see `Layer.__call__`.

        Args:
            x: [query, value] or [query, value, key].
            args, call: mask, training; return_attention_scores, to get [output, weights]; use_causal_mask, which
                must be False.

        Raises:
            TypeError, ValueError: see `Layer.__call__`; or a causal mask.
        """
        call = self.named(args, call)
        both, causal = (checks.flag(name, call.pop(name, False)) for name in self.call_order[2:])
        if causal:
            raise ValueError(f"use_causal_mask of {self.name} must be False: here each query attends to all values")
        outputs = super().__call__(x, **call)
        return outputs if both else outputs[0]

    def receive_mask(self, mask: Any, x: Any) -> Any:
        """The masks of query, value and key; that of the key is optional and ignored, as in Keras."""
        if isinstance(mask, list | tuple) and len(mask) == 2:
            mask = [*mask, None][: len(x)]
        elif mask is not None and not isinstance(mask, list | tuple):
            raise ValueError(f"mask of {self.name} must be a list [query_mask, value_mask], not {checks.came(mask)}")
        return super().receive_mask(mask, x)

    def output_mask(self, x: Any, mask: Any) -> np.ndarray | None:
        """The queries'."""
        return mask[0]

    def gives_mask(self, masked: Any) -> bool:
        return bool(masked[0])

    def forward(self, x: Sequence[Array], run: Pass, mask: Any = None) -> tuple[tuple[Array, Array], Kept]:
        q, v, k = (*x, x[1])[:3]
        queries, values = (self.place(None if m is None else m[..., None]) for m in mask[:2])  # (B, T, 1)
        scale = self.params["scale"] if self.use_scale else 1
        qk = q @ k.swapaxes(1, 2)  # (B, Tq, Tv)
        s = scale * qk  # (B, Tq, Tv)  (33)
        a = softmax(s, values)  # (B, Tq, Tv)  (34)
        dropout = self.place(run.dropout(self.source, a.shape, self.dtype))
        w = a if dropout is None else a * dropout
        y = w @ v  # (B, Tq, D)  (35)
        y = y if queries is None else y * queries
        return (y, w), Kept(q, v, k, qk, a, w, dropout, queries, len(x) == 3)

    def backward(self, dy: Any, cache: Kept) -> tuple[list[Array], Gradients]:
        q, v, k, qk, a, w, dropout, queries, has_key = cache
        dy, dw_given = dy
        scale = self.params["scale"] if self.use_scale else 1
        if dy is None:
            dv, dw = np.zeros_like(v), dw_given
        else:
            dy = dy if queries is None else dy * queries
            dv = w.swapaxes(1, 2) @ dy  # (B, Tv, D)  (36)
            dw = dy @ v.swapaxes(1, 2)  # (B, Tq, Tv)  (37)
            dw = dw if dw_given is None else dw + dw_given
        da = dw if dropout is None else dw * dropout
        ds = a * (da - np.sum(da * a, axis=-1, keepdims=True))  # (B, Tq, Tv)  (38)
        dq = scale * ds @ k  # (B, Tq, E)  (39)
        dk = scale * ds.swapaxes(1, 2) @ q  # (B, Tv, E)  (40)
        grads: Gradients = {}
        if self.use_scale:
            dscale = np.sum(ds * qk)  # ()  (41)
            grads["scale"] = dscale[...]
        return ([dq, dv, dk] if has_key else [dq, dv + dk]), grads


def softmax(s: Array, values: Array | None) -> Array:
    """exp(s) / Σ exp(s) over the unmasked values; 0 for the masked ones, and everywhere if all are masked.

    Args:
        s: (B, Tq, Tv), scores.
        values: (B, Tv, 1), False where masked; None if nothing is.
    """
    if values is None:
        return activations.softmax(s)
    values = values.swapaxes(1, 2)  # (B, 1, Tv)
    s = np.where(values, s, s.min(axis=-1, keepdims=True))  # so that no masked score is the largest
    e = np.exp(s - s.max(axis=-1, keepdims=True)) * values
    return e / np.maximum(e.sum(axis=-1, keepdims=True), 1)  # the largest e is 1, so the sum is 0 or at least 1
