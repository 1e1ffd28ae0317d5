"""A network together with everything needed to train it."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import activations, backend, losses, optimizers
from scratchlstm._support import checks
from scratchlstm._support.moved import Gone
from scratchlstm.backend import Array
from scratchlstm.callbacks import History
from scratchlstm.layers import Layer
from scratchlstm.layers.base import CONTRACT, Gradients
from scratchlstm.layers.network import Kept, Network
from scratchlstm.layers.passes import Cache, DropoutMask, FromLogits, Pass, Workspaces
from scratchlstm.metrics import Metric
from scratchlstm.optimizers import Optimizer
from scratchlstm.rows import Gradient, RowGradient
from scratchlstm.training import targets
from scratchlstm.training.targets import LossMean, Target

Totals = list[Any]  # sums over samples of everything `measured` (arrays; 0 over no samples)


class Judged(NamedTuple):
    """The result of comparing a pass with the targets."""

    loss: Any  # the weighted sum of all outputs' losses, plus penalties
    losses: list[Any]  # each output's unweighted loss; None if it has none
    dy: Any  # dL/dy, a tuple for several outputs
    from_logits: Any  # whether dy is with respect to the logits, a tuple for several outputs


class Compiled:
    """The part of a model that the training loop, its workers and its checkpoints use.

    Args:
        network: the network to train.
        seed: seed of all random numbers; None takes a new one from the operating system.
        backend: "numpy" or "cupy", where the network lives.

    Attributes:
        optimizer, loss, metrics: as given to `compile`; for several outputs, loss and metrics are lists with one entry
            each.
        targets: the training target of each output.
        measured: everything measured besides the loss, by its name in the logs, in the order of `evaluate`.
        history: history of the last `fit`, None before.
        stop_training: whether a callback has asked to end training.
        rng: generator of the parameters and the order of samples.
        workspaces: memory passed on from one step to the next.
    """

    grads = Gone("model.backward and model.gradients return the gradients; model.forward returns their cache")
    noises = Gone("it is now called dropout_masks")
    optimizer: Optimizer
    targets: Sequence[Target]
    measured: Mapping[str, Metric]

    def __init__(self, network: Network, seed: int | None, backend: str) -> None:
        self.network, self.backend = network, backend
        self.seed = checks.seed(seed)
        self.rng = np.random.default_rng(self.seed)
        self.token = object()  # by which an optimizer recognizes its model
        self.history: History | None = None
        self.stop_training = False
        self.workspaces = Workspaces()
        self._compiled = self._told = False

    @property
    def layers(self) -> list[Layer]:
        """Each layer once, without `Input`, in Keras' order."""
        return self.network.layers

    built = property(attrgetter("network.built"), doc="Whether all parameters exist.")
    stateful = property(attrgetter("network.stateful"), doc="Whether a layer keeps its states from batch to batch.")

    @property
    def params(self) -> list[Array]:
        """Every layer's parameters, in Keras' order; the arrays themselves, CuPy's if the model is on the GPU."""
        return list(self.network.params.values())

    @property
    def dropout_masks(self) -> Sequence[DropoutMask]:
        """The sources of every layer's random masks."""
        return self.network.dropout_masks

    @property
    def generators(self) -> list[np.random.Generator]:
        """All random generators used in training."""
        return [self.rng, *(source.rng for source in self.dropout_masks)]

    @property
    def trainability(self) -> list[bool]:
        """`trainable` of the network and of each layer in it; a callback may change it between two steps."""
        return [layer.trainable for layer in self.network.with_inner()]

    @trainability.setter
    def trainability(self, trainability: Sequence[bool]) -> None:
        """Set all of them."""
        for layer, trainable in zip(self.network.with_inner(), trainability, strict=True):
            layer.trainable = trainable  # followed by the layers inside it

    dtype = property(attrgetter("network.dtype"), doc="The output's dtype.")

    @property
    def batch_matters(self) -> bool:
        """Whether predictions depend on how samples are divided into batches."""
        return self.stateful or self.masks_loss

    @property
    def masks_loss(self) -> bool:
        """Whether any output has a mask."""
        return bool(np.any(self.network.gives_mask(False)))

    def build_for(self, input_shape: Any) -> None:
        """Create all parameters for samples of this shape (a list for several inputs), unless they exist already."""
        with backend.explain_memory("the model's parameters do not fit: use fewer units, or a smaller vocabulary"):
            self.network.build(input_shape, self.rng)

    def output_shape_for(self, input_shape: Any) -> Any:
        """The output's shape for inputs of `input_shape`, both without the batch."""
        return self.network.output_shape(input_shape)

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None, metrics: Any = None
    ) -> None:
        """Configure training.

        For several outputs, an argument may be a list with one entry per output, in order, or a dict by output name.

        Args:
            optimizer: a name or an `Optimizer`.
            loss: a name or a `Loss`; for several outputs one for all, or a list or dict, with None for an output
                without a loss.
            loss_weights: factor of each output's loss in the total loss; one number, or a list or dict. Default: 1.
                Each output's own loss is reported unweighted.
            metrics: a list of names or `Metric` objects; for several outputs a list or dict of such lists.

        Raises:
            TypeError, ValueError: an unknown name (the message lists the known ones), or something that fits no output.
        """
        made = targets.targets(self.network.output_names or ["output"], loss, loss_weights, metrics)
        self.optimizer, self.targets = optimizers.get(optimizer), made
        measured = {name: metric for target in self.targets for name, metric in target.measured.items()}
        first = [name for name, metric in measured.items() if isinstance(metric, LossMean) or len(self.targets) == 1]
        self.measured = {name: measured[name] for name in first + sorted(measured.keys() - {*first})}  # Keras' order
        self.compiled_learning_rate = self.optimizer.get_config()["learning_rate"]  # a callback may change it
        self._compiled, self._told = True, False

    @property
    def loss(self) -> Any:
        """The compiled loss, a list for several outputs."""
        return [target.loss for target in self.targets] if len(self.targets) > 1 else self.targets[0].loss

    @property
    def metrics(self) -> list[Any]:
        """The compiled metrics, a list of lists for several outputs."""
        return [target.metrics for target in self.targets] if len(self.targets) > 1 else self.targets[0].metrics

    # --- a step -----------------------------------------------------------------------------------------------------

    def run(self, rows: tuple[int, int] | None = None, **listeners: Any) -> Pass:
        """A training pass, in memory released by the one before; `listeners` are its `seen` and `embed`."""
        return Pass(True, rows, workspaces=self.workspaces, **listeners)

    def infer(self, x: Any) -> tuple[Any, Kept]:
        """The output for x, without dropout, and what loss and metrics need along with it."""
        return self.network.infer_to_head(x)

    def loss_with_gradient(
        self, y_true: Any, y_pred: Any, kept: Kept, sample_weight: Any = None
    ) -> tuple[Any, Any, Any]:
        """A pass's loss, its derivative, and whether that is with respect to the logits of the head (see `Loss`).

        For several outputs, all arguments but `kept` are tuples, as are the second and third results. The regularizers'
        penalties are included in the loss; `backward` adds their gradients.
        """
        judged = self.judge(y_true, y_pred, kept, sample_weight)
        return judged.loss, judged.dy, judged.from_logits

    def judge(
        self,
        y_true: Any,
        y_pred: Any,
        kept: Kept,
        sample_weight: Any = None,
        share: float = 1.0,
        scales: Sequence[float] | None = None,
    ) -> Judged:
        """`loss_with_gradient`, with the loss of each output.

        Args:
            y_true, y_pred, kept, sample_weight: as for `loss_with_gradient`.
            share: factor for everything, if these are only some rows of a batch.
            scales: further factor of each output's loss.
        """
        losses, dys, through = [], [], []
        given = map(self.by_output, (y_true, y_pred, sample_weight))
        columns = zip(*given, kept.masks, scales or [1.0] * len(self.targets), strict=True)
        for end, (target, (y, scores, weight, mask, scale)) in enumerate(zip(self.targets, columns, strict=True)):
            loss = dy = None
            through.append(self.looks_through(kept, end))
            if target.loss is not None:
                scores = self.network.head(kept, end)[1].logits if through[-1] else scores
                loss, dy = target.loss.with_gradient(y, scores, weight, through[-1], mask)
            losses.append(_times(loss, scale))
            dys.append(_times(_times(dy, scale * target.weight), share))
        parts = [_times(loss, target.weight) for target, loss in zip(self.targets, losses, strict=True)]
        parts = [part for part in parts if part is not None] + ([self.penalty()] if self.network.regularizers else [])
        of_all = (tuple(dys), tuple(through)) if len(dys) > 1 else (dys[0], through[0])
        return Judged(_times(sum(parts[1:], parts[0]), share), [_times(loss, share) for loss in losses], *of_all)

    def by_output(self, value: Any) -> Sequence[Any]:
        """A list or tuple with an entry per output, or the value itself for a single output; None is None for each."""
        count = self.network.outputs
        return [None] * count if value is None else value if count > 1 else [value]

    def gradients(
        self, dy: Any, cache: Cache, from_logits: Any, share: float = 1.0, need: bool = False
    ) -> list[Gradient | None]:
        """`gradients_by_name`, in the order of `params`; None for parameters that are not trained.

        Raises:
            ValueError: a layer did not return the gradient of a parameter.
        """
        grads = self.gradients_by_name(dy, cache, from_logits, share, need)
        if missing := [name for name in self.network.trainable_params if grads.get(name) is None]:
            raise ValueError(f"backward returned no gradient of {', '.join(missing)}: {CONTRACT}")
        return [grads.get(name) for name in self.network.params]

    def gradients_by_name(
        self, dy: Any, cache: Cache, from_logits: Any, share: float = 1.0, need: bool = False
    ) -> Gradients:
        """The gradients of the loss, as far as the layers returned them.

        Args:
            dy, from_logits: from `loss_with_gradient`.
            cache: from the forward pass.
            share: the fraction of the regularizers' gradients to add.
            need: whether to compute the gradient of the inputs, even if nothing below is trained.
        """
        if not self.network.trainable_params:
            return {}
        _, grads = self.back_from_loss(dy, cache, from_logits, need)
        params = self.network.params  # built on each access
        for name, regularizer in self.network.regularizers.items():
            if (gradient := grads.get(name)) is not None:
                penalty = regularizer.gradient(params[name])
                dense = gradient.dense() if isinstance(gradient, RowGradient) else gradient
                grads[name] = dense + penalty.dtype.type(share) * penalty
        return grads

    def back_from_loss(self, dy: Any, cache: Cache, from_logits: Any, need: bool = False) -> tuple[Any, Gradients]:
        """`Network.backward`, without penalties; takes the arguments of `gradients_by_name`."""
        of_outputs = zip(self.by_output(dy), self.by_output(from_logits), strict=True)
        dys = tuple(FromLogits(d) if through else d for d, through in of_outputs)
        return self.network.backward(dys if len(dys) > 1 else dys[0], cache, need)

    def looks_through(self, kept: Kept | None = None, end: int = 0) -> bool:
        """Whether an output's loss is computed from its head's logits, in this pass or without dropout."""
        if (loss := self.targets[end].loss) is None:
            return False
        head: Any = self.network.head(kept, end)[0]
        ends_in = activations.serialize(head.activation) if head.keeps_logits else None
        either = loss.from_logits or isinstance(loss, losses.Crossentropy)  # as in Keras
        return ends_in in (("sigmoid", "softmax") if either else (loss.logits_of or "",))

    def penalty(self) -> Any:
        """The penalty that the regularizers of trained parameters add to the loss; see `Regularizer`."""
        params = self.network.trainable_params
        return sum(r(params[name]) for name, r in self.network.regularizers.items() if name in params)

    def measure(self, y_true: Any, y_pred: Any, kept: Kept, losses: Sequence[Any], samples: int) -> Totals:
        """The sums of everything `measured` over the predictions of a pass.

        Args:
            y_true, y_pred, kept: as for `loss_with_gradient`.
            losses: loss of each output, from `judge`.
            samples: number of samples in the whole batch.
        """
        found: dict[str, Any] = {}
        columns = self.targets, self.by_output(y_true), self.by_output(y_pred), kept.masks, losses
        for target, y, p, mask, loss in zip(*columns, strict=True):
            found |= target.measure(y, p, mask, loss, samples)
        return [found[name] for name in self.measured]

    def constrain(self, broken: Any = None) -> None:
        """Apply the constraints to all trained parameters that have one; to none if `broken` is not 0."""
        params = self.network.trainable_params
        for name, constraint in self.network.constraints.items():
            if (param := params.get(name)) is None:
                continue
            allowed = constraint(param)
            param[...] = allowed if broken is None else np.where(broken == 0, allowed, param)

    def take_averages(self) -> None:
        """Set every trained parameter to its average, if the optimizer keeps one (`use_ema`)."""
        trained = self.network.trainable_params
        params = [w if name in trained else None for name, w in self.network.params.items()]
        self.optimizer.finalize_variable_values(params)


def _times(value: Any, factor: float) -> Any:
    """The product; `value` itself if it is None or the factor is 1, so that a GPU has nothing to compute."""
    if value is None or factor == 1:
        return value
    return value * value.dtype.type(factor) if backend.is_array(value) else value * factor
