"""`Sequential`: layers in a row, under Keras' names."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm import checks, losses, metrics, optimizers, saving, summary, training
from scratchlstm.callbacks import History
from scratchlstm.checks import positive_int
from scratchlstm.console import say
from scratchlstm.kernels.rows import Gradient
from scratchlstm.layers import Input, Layer
from scratchlstm.layers.base import Shape, as_shape, cast_gradient, check_weights, name_weights
from scratchlstm.layers.noise import Noise
from scratchlstm.progress import verbosity


class Sequential:
    """A stack of layers, each one's output the next one's input.

    Args:
        layers: to add at once.
        name: shown in the summary.
        seed: for initial parameters, shuffling and dropout; the same seed gives the same run. None takes a fresh one
            from the operating system. (NumPy's global random state is neither read nor changed.)

    Attributes:
        layers: the layers, `Input` left out.
        history: the `History` of the last `fit`, None before.
        optimizer, loss, metrics: as compiled.
    """

    def __init__(self, layers: Sequence[Layer] = (), name: str = "sequential", seed: int | None = None) -> None:
        self.name = name
        self.rng = np.random.default_rng(checks.seed(seed))
        self.token = object()  # by which an optimizer knows its model
        self.layers: list[Layer] = []
        self.input_shape: Shape | None = None
        self.history: History | None = None
        self.output_mask: np.ndarray | None = None  # of the last pass; False where the loss is not to look
        self.stop_training = False
        self._compiled = False
        for layer in layers:
            self.add(layer)

    # --- the stack ------------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Put a layer on top; build it at once where the input shape is known.

        Raises:
            TypeError: not a layer.
            ValueError: a layer or name that is in the model already, or a shape that does not fit.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"add takes a layer, not {layer!r}")
        if isinstance(layer, Input):
            if self.layers or self.input_shape is not None:
                raise ValueError("Input states the shape of the model's input and has to come first")
            self.input_shape = layer.given_shape
            return
        if layer in self.layers:
            raise ValueError(f"the layer {layer.name} is in the model already")
        if layer.outputs > 1:
            raise ValueError(
                f"{layer.name} has {layer.outputs} outputs (return_state, or merge_mode=None), and a Sequential passes "
                f"on a single one"
            )
        input_shape = self.input_shape if self.layers or self.input_shape is not None else layer.given_shape
        self._name_apart(layer)
        if input_shape is not None:
            layer.build(self.output_shape_for(input_shape), self.rng)
        self.input_shape = input_shape
        self.layers.append(layer)

    def _name_apart(self, layer: Layer) -> None:
        taken = {other.name for other in self.layers}
        if layer.name in taken and layer.named_by_user:
            raise ValueError(f"the model has a layer named {layer.name!r} already; give each its own name")
        base, number = layer.name, 0
        while layer.name in taken:
            number += 1
            layer.name = f"{base}_{number}"

    def build(self, input_shape: Any) -> None:
        """Make all parameters for inputs of this shape, batch left out, unless they exist already."""
        if not self.layers:
            raise ValueError("the model has no layers; add some first")
        if self.built:
            return
        shapes = [as_shape(input_shape)]
        for layer in self.layers:
            layer.plan(shapes[-1])  # all are asked before any is built
            shapes.append(layer.output_shape(shapes[-1]))
        for layer, shape in zip(self.layers, shapes, strict=False):
            layer.build(shape, self.rng)
        self.input_shape = shapes[0]

    @property
    def built(self) -> bool:
        """Whether all parameters exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    def output_shape_for(self, input_shape: Shape) -> Shape:
        """The output's shape (batch left out) for inputs of `input_shape`."""
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def summary(self) -> None:
        """Print the layers with their output shapes and numbers of parameters, as Keras does."""
        shapes, shape = [], self.input_shape
        for layer in self.layers:
            shape = layer.output_shape(shape) if shape is not None and layer.built else None
            shapes.append("?" if shape is None else f"({', '.join(str(size) for size in (None, *shape))})")
        say(summary.table(self.name, self.layers, shapes))

    # --- parameters -----------------------------------------------------------------------------------------------

    @property
    def params(self) -> list[np.ndarray]:
        """Every layer's parameters, in Keras' order; the arrays themselves."""
        return [param for layer in self.layers for param in layer.params.values()]

    @property
    def grads(self) -> list[Gradient]:
        """The gradients of the last backward pass, in the order of `params`."""
        return [layer.grads[name] for layer in self.layers for name in layer.params]

    @property
    def noises(self) -> list[Noise]:
        """Every layer's sources of random masks."""
        return [noise for layer in self.layers for noise in layer.noises]

    def count_params(self) -> int:
        """How many numbers the parameters hold."""
        return sum(layer.count_params() for layer in self.layers)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the parameters, in Keras' order."""
        return [param.copy() for param in self.params]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite the parameters; all or none.

        Args:
            weights: in the order and with the shapes of `get_weights` (which are also Keras').

        Raises:
            ValueError: not built yet, another number of arrays, other shapes, or values that are no finite numbers.
        """
        if not self.built:
            raise ValueError("the model has no parameters yet: state an input_shape, or call build first")
        named = name_weights("the model", [f"{number}" for number in range(len(self.params))], weights)
        for number, param in enumerate(self.params):
            check_weights("the model", {f"{number}": param.shape}, {f"{number}": named[f"{number}"]}, str(param.dtype))
        for param, weight in zip(self.params, weights, strict=True):
            param[...] = weight

    # --- forward and backward -------------------------------------------------------------------------------------

    def forward(self, x: Any, training: bool = False) -> Any:
        """The output for x, keeping what `backward` needs.

        Args:
            x: a batch, as the first layer takes it.
            training: whether dropout is on.
        """
        return self._through(x, lambda layer, x, call: layer(x, training=training, **call))

    def _through(self, x: Any, run: Callable[[Layer, Any, dict[str, Any]], Any]) -> Any:
        """Run x through all layers, its mask beside it; the output's mask is kept for the loss."""
        mask = None
        for layer in self.layers:
            call: dict[str, Any] = {"mask": mask} if layer.takes_mask and mask is not None else {}
            mask, x = layer.output_mask(x, mask), run(layer, x, call)
        self.output_mask = mask
        return x

    def backward(self, dy: Any, from_logits: bool = False, share: float = 1.0, input_gradient: bool = True) -> Any:
        """dL/dx from dL/dy of the last `forward`; every layer's `grads` are overwritten.

        Args:
            dy: dL/d(output), or dL/d(logits) of the last layer.
            from_logits: whether it is the latter.
            share: the part of the regularizers' gradients to add.
            input_gradient: whether dL/dx is wanted. It is for nothing in training, where data is the input.
        """
        self.layers[0].input_gradient = input_gradient
        for number, layer in enumerate(reversed(self.layers)):
            dy = cast_gradient(dy, layer.dtype)
            is_last = number == 0 and from_logits
            dy = layer.backward_from_logits(dy) if is_last else layer.backward(dy)  # type: ignore[attr-defined]
            for name, regularizer in layer.regularizers.items():
                penalty = regularizer.gradient(layer.params[name])
                layer.grads[name] = np.asarray(layer.grads[name]) + penalty.dtype.type(share) * penalty
        return dy

    def infer(self, x: Any) -> Any:
        """The output for x where no backward pass will follow."""
        return self._through(x, lambda layer, x, call: layer.infer(x, **call))

    def loss_with_gradient(
        self, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray, bool]:
        """The loss of the last pass, its derivative, and whether that is by the last layer's logits (see `Loss`).

        The regularizers' penalties are in the loss; their gradients are added by `backward`.
        """
        last = self.layers[-1]
        activation = getattr(last, "activation", None) if hasattr(last, "backward_from_logits") else None
        from_logits = activation is not None and activation.name == self.loss.logits_of
        scores = last.logits if from_logits else y_pred  # type: ignore[attr-defined]
        loss, gradient = self.loss.with_gradient(y_true, scores, sample_weight, from_logits, self.output_mask)
        return loss + self.penalty(), gradient, from_logits

    def penalty(self) -> float:
        """What the regularizers add to the loss."""
        return sum(r(layer.params[name]) for layer in self.layers for name, r in layer.regularizers.items())

    @property
    def masks_loss(self) -> bool:
        """Whether a mask comes out of the last layer."""
        masked = False
        for layer in self.layers:
            masked = layer.makes_mask or (masked and layer.passes_mask)
        return masked

    def constrain(self) -> None:
        """Put every parameter that has a constraint back to an allowed one."""
        for layer in self.layers:
            for name, constraint in layer.constraints.items():
                layer.params[name][...] = constraint(layer.params[name])

    def reset_states(self) -> None:
        """Let every stateful layer begin anew."""
        for layer in self.layers:
            layer.reset_state()

    # --- training and use -----------------------------------------------------------------------------------------

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
        chosen = _metrics(metrics)
        self.optimizer, self.loss = optimizers.get(optimizer), losses.get(loss)
        self.metrics = chosen
        self._compiled = True

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        workers: int | str = 1,
    ) -> History:
        """Train, with Keras' arguments and defaults.

        Args:
            x: samples, (N, ...); y: targets, (N, ...).
            batch_size: 32 where None. The last, shorter batch is used, too.
            epochs: number of the last epoch (from 1).
            verbose: 0 silent, 1 or "auto" progress and a line an epoch, 2 the line only.
            callbacks: `Callback` objects.
            validation_split: the part of x and y, from the end, to validate on.
            validation_data: (x, y) or (x, y, sample_weight) to validate on after each epoch.
            shuffle: whether the order of samples is drawn anew in each epoch.
            class_weight: label -> weight of its samples in training.
            sample_weight: weight of each sample's loss, (N,).
            initial_epoch: number of epochs done before.
            workers: how many processes share each batch; "auto" is one for each physical core.

        Returns:
            the `History`: the mean loss of an epoch's batches, each before its update, and the metrics.

        Raises:
            RuntimeError: before `compile`.
            TypeError, ValueError: bad data or arguments, before anything is changed.
            FloatingPointError: NaN or infinite loss, unless there is a `TerminateOnNaN`; names epoch and batch.
            KeyboardInterrupt: on Ctrl-C; weights and `model.history` are those of the last completed epoch.
        """
        self._require_compiled("fit")
        batch_size = 32 if batch_size is None else batch_size
        return training.fit(
            self, x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data, shuffle,
            class_weight, sample_weight, initial_epoch, _count_workers(workers),
        )  # fmt: skip

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """One step on one batch; the layers' `grads` are those of this step afterwards.

        Returns:
            The loss before the update, or [loss, metric, ...] of this batch where there are metrics.

        Raises:
            As `fit`.
        """
        self._require_compiled("train_on_batch")
        data = training.check_data(self, x, y, sample_weight)
        self.optimizer.claim(self.token)
        loss, totals = training.OneProcess(self, data, None).step_on(data)
        values = [metric.value(sums) for metric, sums in zip(self.metrics, totals, strict=True)]
        return [loss, *values] if values else loss

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        return_dict: bool = False,
        workers: int | str = 1,
    ) -> Any:
        """Loss and metrics over x and y, without dropout, by as many processes as `workers` (see `fit`).

        Returns:
            [loss, metric, ...], the loss alone where there are no metrics, or a dict.
        """
        self._require_compiled("evaluate")
        data = training.check_data(self, x, y, sample_weight)
        batch_size, workers = _inference_batch(batch_size), _count_workers(workers)
        logs = training.evaluate(self, data, batch_size, verbosity(verbose), workers)
        if return_dict:
            return logs
        values = [logs["loss"]] + [logs[metric.name] for metric in self.metrics]
        return values if self.metrics else values[0]

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", workers: int | str = 1
    ) -> np.ndarray:
        """The model's output for x, (N, ...), without dropout, by as many processes as `workers` (see `fit`)."""
        x = training.check_x(self, x)
        batch_size, workers = _inference_batch(batch_size), _count_workers(workers)
        return training.predict(self, x, batch_size, verbosity(verbose), workers)

    def __call__(self, x: Any, training: bool = False) -> Any:
        """The same as `forward`."""
        return self.forward(x, training)

    def _require_compiled(self, method: str) -> None:
        if not self._compiled:
            raise RuntimeError(f"call compile(optimizer, loss, metrics) before {method}")

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write layers, parameters, and if compiled the optimizer with its state, to one `.npz` file.

        The file appears whole or not at all, and holds arrays and JSON only.

        Raises:
            ValueError: not built yet.
            OSError: it cannot be written.
        """
        saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Sequential":
        """The model that `save` wrote, ready to predict, and to train on if it was compiled.

        Nothing in the file is executed or unpickled.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a model file, damaged, or from a newer version.
        """
        return saving.load(cls, path)


def _metrics(identifiers: Any) -> list[metrics.Metric]:
    if identifiers is None:
        return []
    if isinstance(identifiers, str):
        identifiers = [identifiers]
    if not isinstance(identifiers, list | tuple):
        raise TypeError(f"metrics must be a list of names or Metric objects, not {identifiers!r}")
    chosen = [metrics.get(identifier) for identifier in identifiers]
    names = [metric.name for metric in chosen]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f'metrics need names of their own, apart from "loss"; got {", ".join(names)}')
    return chosen


def _inference_batch(batch_size: int | None) -> int:
    return training.INFERENCE_BATCH if batch_size is None else positive_int("batch_size", batch_size)


def _count_workers(workers: int | str) -> int:
    if workers == 1 and workers is not True:
        return 1
    from scratchlstm.parallel import count_workers

    return count_workers(workers)
