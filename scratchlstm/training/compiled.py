"""A network with what it takes to train it."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from scratchlstm import activations, backend, losses, metrics, optimizers
from scratchlstm._support import checks
from scratchlstm._support.moved import Gone
from scratchlstm.backend import Array
from scratchlstm.callbacks import History
from scratchlstm.layers import Layer
from scratchlstm.layers.base import CONTRACT, Gradients
from scratchlstm.layers.network import Kept, Network
from scratchlstm.layers.passes import Cache, DropoutMask, FromLogits, Pass, Workspaces
from scratchlstm.losses import Loss
from scratchlstm.metrics import Metric
from scratchlstm.optimizers import Optimizer
from scratchlstm.rows import Gradient, RowGradient

Totals = list[Any]  # each metric's sums over some samples (an array; 0, which adds to any, over none)


class Compiled:
    """What the fit loop, its workers and its checkpoints know of a model.

    Args:
        network: whose parameters are trained.
        seed: of everything that is drawn; None takes a fresh one from the operating system.
        backend: "numpy" or "cupy", where the network is.

    Attributes:
        optimizer, loss, metrics: as compiled.
        history: of the last `fit`, None before.
        stop_training: whether a callback wants training to end.
        rng: what parameters and the order of samples are drawn from.
        workspaces: memory that one step leaves to the next.
    """

    grads = Gone("model.backward and model.gradients return the gradients; model.forward gives their cache")
    noises = Gone("they are dropout_masks now")
    optimizer: Optimizer
    loss: Loss
    metrics: list[Metric]

    def __init__(self, network: Network, seed: int | None, backend: str) -> None:
        self.network, self.backend = network, backend
        self.seed = checks.seed(seed)
        self.rng = np.random.default_rng(self.seed)
        self.token = object()  # by which an optimizer knows its model
        self.history: History | None = None
        self.stop_training = False
        self.workspaces = Workspaces()
        self._compiled = self._told = False

    @property
    def layers(self) -> list[Layer]:
        """Each layer once, `Input` left out, in Keras' order."""
        return self.network.layers

    built = property(attrgetter("network.built"), doc="Whether all parameters exist.")
    stateful = property(attrgetter("network.stateful"), doc="Whether a layer keeps its states from batch to batch.")

    @property
    def params(self) -> list[Array]:
        """Every layer's parameters, in Keras' order; the arrays themselves, CuPy's if the model is on the GPU."""
        return list(self.network.params.values())

    @property
    def dropout_masks(self) -> Sequence[DropoutMask]:
        """What draws every layer's random masks."""
        return self.network.dropout_masks

    @property
    def generators(self) -> list[np.random.Generator]:
        """All that random numbers are drawn from in training."""
        return [self.rng, *(source.rng for source in self.dropout_masks)]

    dtype = property(attrgetter("network.dtype"), doc="Of the output.")

    @property
    def batch_matters(self) -> bool:
        """Whether results without training depend on how samples are put together in batches."""
        return self.stateful or self.masks_loss

    @property
    def masks_loss(self) -> bool:
        """Whether a mask comes out of the last layer."""
        return self.network.gives_mask(False)

    def build_for(self, input_shape: Any) -> None:
        """Make all parameters for samples of this shape (a list for several inputs), unless they exist already."""
        with backend.explain_memory("the model's parameters do not fit: fewer units, or words in the vocabulary"):
            self.network.build(input_shape, self.rng)

    def output_shape_for(self, input_shape: Any) -> Any:
        """The output's shape (batch left out) for inputs of `input_shape`."""
        return self.network.output_shape(input_shape)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *, metrics: Any = None) -> None:
        """Choose how to train.

        Args:
            optimizer: a name or an `Optimizer`.
            loss: a name or a `Loss`.
            metrics: a list of names or `Metric` objects.

        Raises:
            ValueError: an unknown name; the known ones are listed.
        """
        if loss is None:
            raise ValueError('loss is missing; for yes-or-no labels it is "binary_crossentropy"')
        self.metrics, self.optimizer, self.loss = _metrics(metrics), optimizers.get(optimizer), losses.get(loss)
        self.compiled_learning_rate = self.optimizer.get_config()["learning_rate"]  # which a callback may change
        self._compiled, self._told = True, False

    # --- a step -----------------------------------------------------------------------------------------------------

    def run(self, rows: tuple[int, int] | None = None) -> Pass:
        """A training pass, in memory that the one before has released."""
        return Pass(True, rows, workspaces=self.workspaces)

    def infer(self, x: Any) -> tuple[Any, Kept]:
        """The output for x, without dropout, and what loss and metrics need beside it."""
        return self.network.infer_to_head(x)

    def loss_with_gradient(
        self, y_true: Array, y_pred: Array, kept: Kept, sample_weight: Array | None = None
    ) -> tuple[Any, Array, bool]:
        """The loss of a pass, its derivative, and whether that is with respect to the logits of the head (see `Loss`).

        The regularizers' penalties are in the loss; their gradients are added by `backward`.
        """
        from_logits = self.looks_through(kept)
        scores = self.network.head(kept)[1].logits if from_logits else y_pred
        loss, gradient = self.loss.with_gradient(y_true, scores, sample_weight, from_logits, kept.masks[0])
        if self.network.regularizers:
            loss = loss + self.penalty()
        return loss, gradient, from_logits

    def gradients(self, dy: Array, cache: Cache, from_logits: bool, share: float = 1.0) -> list[Gradient]:
        """`gradients_by_name`, in the order of `params`.

        Raises:
            ValueError: a layer has not given the gradient of a parameter.
        """
        grads = self.gradients_by_name(dy, cache, from_logits, share)
        names = list(self.network.params)
        if missing := [name for name in names if grads.get(name) is None]:
            raise ValueError(f"backward gave no gradient of {', '.join(missing)}: {CONTRACT}")
        return [grads[name] for name in names]

    def gradients_by_name(self, dy: Array, cache: Cache, from_logits: bool, share: float = 1.0) -> Gradients:
        """The gradients of the loss, as far as the layers have given them.

        Args:
            dy, from_logits: from `loss_with_gradient`.
            cache: of the pass.
            share: the part of the regularizers' gradients to add.
        """
        _, grads = self.network.backward(FromLogits(dy) if from_logits else dy, cache, False)
        params = self.network.params  # joined whenever it is read
        for name, regularizer in self.network.regularizers.items():
            if (gradient := grads.get(name)) is not None:
                penalty = regularizer.gradient(params[name])
                dense = gradient.dense() if isinstance(gradient, RowGradient) else gradient
                grads[name] = dense + penalty.dtype.type(share) * penalty
        return grads

    def looks_through(self, kept: Kept | None = None) -> bool:
        """Whether the loss is computed from the logits of the head, in this pass or without dropout."""
        head: Any = self.network.head(kept)[0]
        ends_in = activations.serialize(head.activation) if head.keeps_logits else None
        either = self.loss.from_logits or isinstance(self.loss, losses.Crossentropy)  # as in Keras
        return ends_in in (("sigmoid", "softmax") if either else (self.loss.logits_of or "",))

    def penalty(self) -> Any:
        """What the regularizers add to the loss, see `Regularizer`."""
        params = self.network.params
        return sum(r(params[name]) for name, r in self.network.regularizers.items())

    def measure(self, y_true: Array, y_pred: Array, kept: Kept) -> Totals:
        """Each metric's sums over the predictions of a pass."""
        mask: Any = {"mask": kept.masks[0]}
        there = backend.beside(y_pred, y_true), y_pred
        here = there if all(m.on_gpu for m in self.metrics) else (backend.host(y_true), backend.host(y_pred))
        return [
            metric.measure(*(there if metric.on_gpu else here), **(mask if metric.uses_mask else {}))
            for metric in self.metrics
        ]

    def constrain(self, broken: Any = None) -> None:
        """Put every parameter that has a constraint back to an allowed value; if `broken` is not 0, none."""
        params = self.network.params
        for name, constraint in self.network.constraints.items():
            param = params[name]
            allowed = constraint(param)
            param[...] = allowed if broken is None else np.where(broken == 0, allowed, param)


def _metrics(identifiers: Any) -> list[Metric]:
    identifiers = [identifiers] if isinstance(identifiers, str) else [] if identifiers is None else identifiers
    if not isinstance(identifiers, list | tuple):
        raise TypeError(f"metrics must be a list of names or Metric objects, not {checks.came(identifiers)}")
    chosen = [metrics.get(identifier) for identifier in identifiers]
    names = [metric.name for metric in chosen]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f'metrics need names of their own, apart from "loss"; got {", ".join(names)}')
    return chosen
