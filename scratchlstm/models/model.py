"""`Sequential`, layers in a row, and `Model`, where they part and meet again; under Keras' names."""

import copy
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from scratchlstm import activations, losses, metrics, optimizers
from scratchlstm import backend as backends
from scratchlstm._support import checks
from scratchlstm._support.checks import positive_int, verbosity
from scratchlstm._support.console import say, warn
from scratchlstm.callbacks import History
from scratchlstm.layers import Input, Layer
from scratchlstm.layers.base import Node, Shape, as_shape, cast_gradient, check_weights, fixed, name_weights
from scratchlstm.layers.noise import Noise
from scratchlstm.models import saving, summary
from scratchlstm.rows import GatheredRows, Gradient, RowGradient
from scratchlstm.training import loop as training
from scratchlstm.training.archive import keras_order, reordered, reordered_sources
from scratchlstm.training.data import check_data, check_x


class Model:
    """Layers that a batch runs through from one input to one output, on one way or on several that meet again.

        words = Input((100,))
        x = Embedding(20000, 128)(words)
        y = Concatenate()([GlobalAveragePooling1D()(x), LSTM(60)(x)])
        model = Model(words, Dense(1, activation="sigmoid")(y))

    Args:
        inputs: an `Input`.
        outputs: what a layer gave for it. Every layer on the way is in the model once.
        name: shown in the summary.
        seed: for initial parameters, shuffling and dropout; the same seed gives the same run. None takes a fresh one
            from the operating system. (NumPy's global random state is neither read nor changed.)
        backend: "numpy", "cupy" (a GPU), "auto", or None for what the environment variable SCRATCHLSTM_BACKEND says;
            see `to`.

    Attributes:
        layers: the layers, `Input` left out, in Keras' order, which puts each after those that it takes its input from.
        sources: for each layer the numbers of those that it takes its input from; -1 is the model's input.
        history: the `History` of the last `fit`, None before.
        optimizer, loss, metrics: as compiled.
        backend: "numpy" or "cupy".

    Raises:
        TypeError: not an `Input`, or not something that layers made of one.
        ValueError: another input on the way, or a layer at two places.
    """

    def __init__(
        self, inputs: Any, outputs: Any, name: str = "functional", seed: int | None = None, backend: str | None = None
    ) -> None:
        checks.instance("inputs", inputs, Input, "one Input")
        if not isinstance(outputs, Node) or isinstance(outputs, Input):
            raise TypeError(f"outputs must be what a layer gave for the input, not {outputs!r}")
        self.begin(name, seed, backend)
        order = _visited(outputs)
        if order[0] is not inputs or any(isinstance(node, Input) for node in order[1:]):
            raise ValueError("outputs must hang on the given Input, and on no other")
        place = {id(node): number - 1 for number, node in enumerate(order)}
        for node in order[1:]:
            self.require_new(node.layer)
            node.layer.name = self._name_apart(node.layer)
            node.layer.to(self.backend)
            self.layers.append(node.layer)
            self.sources.append(tuple(place[id(source)] for source in node.sources))
        self.build_for(inputs.shape)  # in this order, on which the parameters that a seed draws depend
        moves = keras_order(self.sources)
        self.layers[:], self.sources[:] = reordered(self.layers, moves), reordered_sources(self.sources, moves)

    trainable = fixed("trainable", True, "no layer can be frozen here; train a smaller model on the output of another")

    def begin(self, name: str, seed: int | None = None, backend: str | None = None) -> None:
        """A model without layers."""
        self.backend = backends.choose(backend)
        self.name = checks.string("name", name)
        self.seed = checks.seed(seed)
        self.rng = np.random.default_rng(self.seed)
        self.token = object()  # by which an optimizer knows its model
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []
        self.input_shape: Shape | None = None
        self.history: History | None = None
        self.output_mask: np.ndarray | None = None  # of the last pass; False where the loss is not to look
        self.stop_training = False
        self._compiled = self._told = False
        # by layer what an embedding gave, by which a gradient of all places becomes one of its rows
        self._rows: dict[int, GatheredRows] = {}
        self._can_go_back = False

    def require_new(self, layer: Layer) -> None:
        """Stop where a layer cannot join those that are there.

        Raises:
            ValueError: it is there already, or gives more than one output.
        """
        here = [inner for other in self.layers for inner in other.with_inner()]
        for inner in layer.with_inner():
            if any(inner is other for other in here):
                raise ValueError(
                    f"the layer {inner.name} is in the model already, and a layer has one place: make another layer "
                    f"for the other (set_weights can give it equal weights to begin with)"
                )
        layer.require_one_output()

    def _name_apart(self, layer: Layer) -> str:
        """The layer's name, with a number behind it where it is taken."""
        taken = {other.name for other in self.layers}
        if layer.name in taken and layer.named_by_user:
            raise ValueError(f"the model has a layer named {layer.name!r} already; give each its own name")
        numbered = (f"{layer.name}_{number}" for number in itertools.count(1))
        return next(name for name in itertools.chain([layer.name], numbered) if name not in taken)

    def build(self, input_shape: Any) -> None:
        """Make all parameters for inputs of this shape, unless they exist already.

        Args:
            input_shape: (None, ...), batch first as in Keras; a number in the place of None means the same.

        Raises:
            ValueError: no shape, or one that a layer cannot take.
        """
        self.build_for(_without_batch(input_shape))

    def build_for(self, input_shape: Shape) -> None:
        """`build` for the shape of one sample."""
        self.plan(input_shape)  # all layers are asked before any is built
        if self.built:
            return

        def build(layer: Layer, shape: Any) -> Shape:
            layer.build(shape, self.rng)
            return layer.output_shape(shape)

        with backends.explain_memory("the model's parameters do not fit: fewer units, or words in the vocabulary"):
            self._along(input_shape, build)
        self.input_shape = as_shape(input_shape)

    def plan(self, input_shape: Any) -> None:
        """Ask every layer whether it can take what it would get for a sample of this shape.

        Raises:
            ValueError: one cannot, or there is none.
        """
        if not self.layers:
            raise ValueError("the model has no layers; add some first")

        def plan(layer: Layer, shape: Any) -> Shape:
            layer.plan(shape)
            return layer.output_shape(shape)

        self._along(as_shape(input_shape), plan)

    @property
    def is_stack(self) -> bool:
        """Whether each layer takes its input from the one before."""
        return all(own == (number - 1,) for number, own in enumerate(self.sources))

    @property
    def built(self) -> bool:
        """Whether all parameters exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    def _along(self, start: Any, step: Callable[[Layer, Any], Any]) -> list[Any]:
        """What `step` makes for each layer of what it made for those before it (a list, for a layer that merges)."""
        found: list[Any] = []
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values = [start if source < 0 else found[source] for source in sources]
            found.append(step(layer, values if layer.merges else values[0]))
        return found

    def output_shape_for(self, input_shape: Shape) -> Shape:
        """The output's shape (batch left out) for inputs of `input_shape`."""
        return [input_shape, *self._along(input_shape, lambda layer, shape: layer.output_shape(shape))][-1]

    def summary(self) -> None:
        """Print the layers with their output shapes and numbers of parameters, as Keras does."""

        def shape_after(layer: Layer, shape: Any) -> Shape | None:
            return layer.output_shape(shape) if shape is not None and layer.built else None

        shapes = self._along(self.input_shape, shape_after)
        texts = ["?" if s is None else f"({', '.join(str(size) for size in (None, *s))})" for s in shapes]
        say(summary.table(self.name, self.layers, texts))

    # --- parameters -----------------------------------------------------------------------------------------------

    @property
    def params(self) -> list[backends.Array]:
        """Every layer's parameters, in Keras' order; the arrays themselves, CuPy's if the model is on the GPU."""
        return [param for layer in self.layers for param in layer.params.values()]

    @property
    def grads(self) -> list[Gradient]:
        """The gradients of the last backward pass, in the order of `params`."""
        return [layer.grads[name] for layer in self.layers for name in layer.params]

    @property
    def noises(self) -> list[Noise]:
        """Every layer's sources of random masks."""
        return [noise for layer in self.layers for noise in layer.noises]

    @property
    def generators(self) -> list[np.random.Generator]:
        """All that random numbers are drawn from in training."""
        return [self.rng, *(noise.rng for noise in self.noises)]

    def count_params(self) -> int:
        """How many numbers the parameters hold."""
        return sum(layer.count_params() for layer in self.layers)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the parameters as NumPy arrays, in Keras' order."""
        return [backends.host(param).copy() for param in self.params]

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
            param[...] = backends.beside(param, weight, param.dtype)

    # --- CPU and GPU ----------------------------------------------------------------------------------------------

    def to(self, backend: str) -> Self:
        """Take the model to a GPU or back: parameters, states, and the optimizer's state; gradients are forgotten.

        From then on everything is computed there. `predict`, `get_weights` and files give NumPy arrays in any case.

        Args:
            backend: "numpy", "cupy", or "auto" (CuPy if it works).

        Returns:
            the model itself.

        Raises:
            ValueError: another name.
            ImportError, RuntimeError: no CuPy, or no GPU that it can use; the model stays where it is.
            MemoryError: the GPU's memory is too small; the model stays where it is.
        """
        before, name = self.backend, backends.choose(backend)
        if name == before:
            return self
        size = sum(param.nbytes for param in self.params) * (1 + (len(self.optimizer.slots) if self._compiled else 0))
        try:
            with backends.explain_memory(f"the model takes {size / 1e6:,.0f} MB with what its optimizer keeps"):
                self._move(name)
        except MemoryError:
            self._move(before)
            raise
        return self

    def _move(self, name: str) -> None:
        for layer in self.layers:
            layer.to(name)
        if self._compiled:
            for slots in self.optimizer.state:
                slots |= {slot: backends.to(name, array) for slot, array in slots.items()}
            if self.backend == "cupy":
                from scratchlstm.kernels import cupy_optimizers

                cupy_optimizers.forget(self.optimizer)
        self.backend, self._can_go_back, self._rows = name, False, {}

    def on_cpu(self) -> Self:
        """The model, or if it is on a GPU, a copy of it on the CPU."""
        if self.backend == "numpy":
            return self
        twin = self.twin()
        if self._compiled:
            twin.optimizer = copy.deepcopy(self.optimizer, {id(self.token): self.token})
        return twin.to("numpy")

    def twin(self) -> Self:
        """A model with layers of its own that read the same parameters, and have nothing of the last pass."""
        inner = [each for layer in self.layers for each in layer.with_inner()]
        copies: dict[int, Any] = {id(each): copy.copy(each) for each in inner}
        memo = copies | {id(param): param for param in self.params}
        for each in inner:
            passing = each.of_last_pass()
            own = {n: None if n in passing else copy.deepcopy(value, memo) for n, value in vars(each).items()}
            vars(copies[id(each)]).update(own)
        twin = copy.copy(self)
        twin.layers = [copies[id(layer)] for layer in self.layers]
        return twin

    # --- forward and backward -------------------------------------------------------------------------------------

    def forward(self, x: Any, training: bool = False) -> Any:
        """The output for x, keeping what `backward` needs: do not change the output in place before `backward`.

        Args:
            x: a batch, as the first layer takes it.
            training: whether dropout is on.

        Raises:
            TypeError: a `Node`, as a layer takes it.
        """
        y = self._through(x, lambda layer, x, call: layer(x, training=training, **call))
        self._can_go_back = True
        return y

    def _through(self, x: Any, run: Callable[[Layer, Any, dict[str, Any]], Any]) -> Any:
        """Run x through all layers, its mask beside it; the output's mask is kept for the loss."""
        if any(isinstance(each, Node) for each in (x if isinstance(x, list | tuple) else [x])):
            raise TypeError(f"{self.name} is a model, which cannot be a layer of another; use its layers there")

        def step(layer: Layer, given: Any) -> tuple[Any, Any]:
            x: Any
            mask: Any
            x, mask = ([g[0] for g in given], [g[1] for g in given]) if layer.merges else given
            call: dict[str, Any] = {"mask": mask} if layer.takes_mask and mask is not None else {}
            return run(layer, x, call), layer.output_mask(x, mask)

        found = [(x, None), *self._along((x, None), step)]
        self._rows = {n: y for n, (y, _) in enumerate(found[1:]) if isinstance(y, GatheredRows)}
        y, self.output_mask = found[-1]
        return y

    def backward(self, dy: Any, from_logits: bool = False, share: float = 1.0, input_gradient: bool = True) -> Any:
        """dL/dx from dL/dy of the last `forward`; every layer's `grads` are overwritten.

        Args:
            dy: dL/d(output), or dL/d(logits) of the layer `head`.
            from_logits: whether it is the latter.
            share: the part of the regularizers' gradients to add.
            input_gradient: whether dL/dx is wanted. It is for nothing in training, where data is the input.

        Raises:
            RuntimeError: no forward pass came before.
        """
        if not self._can_go_back:
            raise RuntimeError("backward needs a forward pass before it, with no predict or evaluate in between")
        last = self.head if from_logits else len(self.layers) - 1  # what is above the head gives on what it gets
        arrived: dict[int, Any] = {last: dy}  # dL/dy of each layer as far as it has come
        for number in range(last, -1, -1):
            layer, sources = self.layers[number], self.sources[number]
            layer.input_gradient = input_gradient or -1 not in sources
            dy = cast_gradient(arrived.pop(number), layer)
            is_last = number == last and from_logits
            dx = layer.backward_from_logits(dy) if is_last else layer.backward(dy)  # type: ignore[attr-defined]
            layer.input_gradient = True
            for source, d in zip(sources, dx if layer.merges else [dx], strict=True):
                arrived[source] = self._added(source, arrived[source], d) if source in arrived else d
            for name, regularizer in layer.regularizers.items():
                penalty = regularizer.gradient(layer.params[name])
                gradient = layer.grads[name]
                dense = gradient.dense() if isinstance(gradient, RowGradient) else gradient
                layer.grads[name] = dense + penalty.dtype.type(share) * penalty
        return arrived.get(-1)

    def _added(self, source: int, one: Any, other: Any) -> Any:
        """The sum of two gradients of what this layer gave; None, of ids, is nothing."""
        if one is None or other is None:
            return other if one is None else one
        if isinstance(one, RowGradient) or isinstance(other, RowGradient):
            one, other = (self._rows[source].row_gradient(d) for d in (one, other))
        return one + other

    def infer(self, x: Any) -> Any:
        """The output for x where no backward pass will follow."""
        self._can_go_back = False  # the layers hold parts of this pass now
        return self._through(x, lambda layer, x, call: layer.infer(x, **call))

    @property
    def head(self) -> int:
        """The number of the last layer that, in the last pass, was more than the identity."""
        number = len(self.layers) - 1
        while number and self.layers[number].identity and self.layers[number].dtype == self.layers[number - 1].dtype:
            number -= 1
        return number

    def loss_with_gradient(
        self, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[Any, backends.Array, bool]:
        """The loss of the last pass, its derivative, and whether that is by the logits of `head` (see `Loss`).

        The regularizers' penalties are in the loss; their gradients are added by `backward`.
        """
        from_logits = self.looks_through
        scores = self.layers[self.head].logits if from_logits else y_pred  # type: ignore[attr-defined]
        loss, gradient = self.loss.with_gradient(y_true, scores, sample_weight, from_logits, self.output_mask)
        if any(layer.regularizers for layer in self.layers):
            loss = loss + self.penalty()
        return loss, gradient, from_logits

    @property
    def looks_through(self) -> bool:
        """Whether the loss is computed from the logits of `head`."""
        head = self.layers[self.head]
        activation = getattr(head, "activation", None) if hasattr(head, "backward_from_logits") else None
        ends_in = None if activation is None else activations.serialize(activation)
        either = self.loss.from_logits or isinstance(self.loss, losses.Crossentropy)  # as in Keras
        return ends_in in (("sigmoid", "softmax") if either else (self.loss.logits_of or "",))

    def penalty(self) -> Any:
        """What the regularizers add to the loss, see `Regularizer`."""
        return sum(r(layer.params[name]) for layer in self.layers for name, r in layer.regularizers.items())

    def measure(self, y_true: backends.Array, y_pred: backends.Array) -> list[backends.Array]:
        """Each metric's sums over the predictions of the last pass."""
        mask: Any = {"mask": self.output_mask}
        there = backends.beside(y_pred, y_true), y_pred
        here = there if all(m.on_gpu for m in self.metrics) else (backends.host(y_true), backends.host(y_pred))
        return [
            metric.measure(*(there if metric.on_gpu else here), **(mask if metric.uses_mask else {}))
            for metric in self.metrics
        ]

    @property
    def stateful(self) -> bool:
        """Whether a layer keeps its states from batch to batch."""
        return any(layer.stateful for layer in self.layers)

    @property
    def batch_matters(self) -> bool:
        """Whether results without training depend on how samples are put together in batches."""
        return self.stateful or self.masks_loss

    @property
    def masks_loss(self) -> bool:
        """Whether a mask comes out of the last layer."""

        def masked_after(layer: Layer, masked: Any) -> bool:
            return layer.makes_mask or (bool(np.any(masked)) and layer.passes_mask)

        return [False, *self._along(False, masked_after)][-1]

    def constrain(self, broken: Any = None) -> None:
        """Put every parameter that has a constraint back to an allowed one; where `broken` is not 0, none."""
        for layer in self.layers:
            for name, constraint in layer.constraints.items():
                param = layer.params[name]
                allowed = constraint(param)
                param[...] = allowed if broken is None else np.where(broken == 0, allowed, param)

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
        self.compiled_learning_rate = self.optimizer.get_config()["learning_rate"]  # which a callback may change
        self._compiled, self._told = True, False

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
        resume: str | os.PathLike[str] | None = None,
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
            class_weight: label -> weight of its samples in training; a target such as 0.95 counts as label 1 (Keras).
            sample_weight: weight of each sample's loss, (N,). A negative one turns the sample's gradient around.
            initial_epoch: number of epochs done before.
            workers: how many processes share each batch; "auto" is one for each physical core. On a GPU, 1. If they
                do not start, a warning says so and one process does the work, unless there is a checkpoint to keep.
            resume: a file of `callbacks.Checkpoint`, from which the run goes on bit for bit, with all other arguments
                the same (`epochs` may have grown); where there is none yet, the run begins.

        Returns:
            the `History`: the mean loss of an epoch's batches, each before its update, and the metrics.

        Raises:
            RuntimeError: before `compile`; as a `training.WorkerError`, if a worker dies, or in a run with a checkpoint
                the workers do not start, which leaves the model as it was.
            TypeError, ValueError: bad data or arguments, or a checkpoint that is damaged or of another run, before
                anything is changed.
            FloatingPointError: NaN or infinite loss, unless there is a `TerminateOnNaN`; names epoch and batch. (On a
                GPU it comes at the end of that epoch; the batches in between have changed nothing.)
            MemoryError: the GPU's memory is too small; says what to lower.
            KeyboardInterrupt: on Ctrl-C; weights and `model.history` are those of the last completed epoch.
        """
        self._require_compiled("fit")
        batch_size = 32 if batch_size is None else batch_size
        with backends.explain_memory(f"lower batch_size (now {batch_size}), the number of time steps, or the units"):
            return training.fit(
                self, x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data, shuffle,
                class_weight, sample_weight, initial_epoch, self._count_workers(workers), resume,
            )  # fmt: skip

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """One step on one batch; the layers' `grads` are those of this step afterwards.

        Returns:
            The loss before the update, or [loss, metric, ...] of this batch where there are metrics.

        Raises:
            As `fit`.
        """
        self._require_compiled("train_on_batch")
        data = check_data(self, x, y, sample_weight)
        self.build_for(data.x.shape[1:])
        self.optimizer.claim(self.token, self.params)
        with backends.explain_memory(f"use a batch smaller than {len(data.x)}"):
            runner = training.OneProcess(self, data, None)
            loss, totals = runner.step_on(runner.data)
            runner.require_finite()
        values = [metric.value(backends.host(sums)) for metric, sums in zip(self.metrics, totals, strict=True)]
        return [float(loss), *values] if values else float(loss)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        *,
        return_dict: bool = False,
        workers: int | str = 1,
    ) -> Any:
        """Loss and metrics over x and y, without dropout, by as many processes as `workers` (see `fit`).

        Returns:
            [loss, metric, ...], the loss alone where there are no metrics, or a dict.
        """
        self._require_compiled("evaluate")
        as_dict = checks.flag("return_dict", return_dict)
        data = check_data(self, x, y, sample_weight)
        batch_size, workers = self._inference_batch(batch_size), self._count_workers(workers)
        with backends.explain_memory(f"lower batch_size (now {batch_size})"):
            logs = training.evaluate(self, data, batch_size, verbosity(verbose), workers)
        if as_dict:
            return logs
        values = [logs["loss"]] + [logs[metric.name] for metric in self.metrics]
        return values if self.metrics else values[0]

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", *, workers: int | str = 1
    ) -> np.ndarray:
        """The model's output for x, (N, ...), without dropout, by as many processes as `workers` (see `fit`).

        A NumPy array, also where the model is on a GPU.
        """
        x = check_x(self, x)
        self.build_for(x.shape[1:])
        batch_size, workers = self._inference_batch(batch_size), self._count_workers(workers)
        with backends.explain_memory(f"lower batch_size (now {batch_size})"):
            return training.predict(self, x, batch_size, verbosity(verbose), workers)

    def __call__(self, x: Any, training: bool = False) -> Any:
        """The same as `forward`."""
        return self.forward(x, training)

    def _inference_batch(self, batch_size: int | None) -> int:
        """As given; else Keras' where the result depends on it, and a large one where it does not."""
        if batch_size is None:
            return 32 if self.batch_matters else training.INFERENCE_BATCH
        return positive_int("batch_size", batch_size)

    def _count_workers(self, workers: int | str) -> int:
        if isinstance(workers, int) and workers == 1 and workers is not True:
            return 1
        if self.backend == "cupy" and not (isinstance(workers, str) and workers == "auto"):
            raise ValueError(f"workers={workers!r} share a batch between processes on the CPU; on a GPU, workers=1")
        from scratchlstm.training.parallel import count_workers

        return 1 if self.backend == "cupy" else count_workers(workers)

    def _require_compiled(self, method: str) -> None:
        if not self._compiled:
            raise RuntimeError(f"call compile(optimizer, loss, metrics) before {method}")
        if self.loss.from_logits and not self._told and self.layers and self.looks_through:
            self._told = True
            warn(
                f"the loss has from_logits=True, but {self.layers[self.head].name} gives probabilities, so the logits "
                f"below them are used, as in Keras; leave out from_logits=True, or the activation"
            )

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Write layers, parameters, and if compiled the optimizer with its state, to one `.npz` file.

        The file appears whole or not at all, and holds arrays and JSON only.

        Raises:
            ValueError: not built yet, or a name that ends like a file of Keras, which `interop.keras` writes.
            OSError: it cannot be written.
        """
        saving.save(self, filepath)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model that `save` wrote, ready to predict, and to train on if it was compiled.

        Nothing in the file is executed or unpickled.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a model file, damaged, or from a newer version.
        """
        return saving.load(cls, path)


class Sequential(Model):
    """A stack of layers, each one's output the next one's input.

    Args:
        layers: to add at once.
        name, seed, backend: see `Model`.

    Attributes:
        layers: the layers, `Input` left out.
        history: the `History` of the last `fit`, None before.
        optimizer, loss, metrics: as compiled.
        backend: "numpy" or "cupy".
    """

    def __init__(
        self,
        layers: Sequence[Layer] | None = (),
        name: str = "sequential",
        seed: int | None = None,
        backend: str | None = None,
    ) -> None:
        self.begin(name, seed, backend)
        for layer in checks.instance("layers", layers, list | tuple | None, "a list of layers") or ():
            self.add(layer)

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
        self.require_new(layer)
        if layer.merges:
            raise ValueError(f"{layer.name} takes several inputs, which a Sequential has not; see Model")
        input_shape = self.input_shape if self.layers or self.input_shape is not None else layer.given_shape
        name = self._name_apart(layer)
        layer.to(self.backend)
        if input_shape is not None:
            layer.build(self.output_shape_for(input_shape), self.rng)
        layer.name, self.input_shape = name, input_shape
        self.layers.append(layer)
        self.sources.append((len(self.layers) - 2,))


def _visited(outputs: Node) -> list[Node]:
    """The nodes that `outputs` depends on and itself, each after those that it takes its input from."""
    order: dict[int, Node] = {}
    to_visit = [outputs]
    while to_visit:
        missing = [source for source in to_visit[-1].sources if id(source) not in order]
        if missing:
            to_visit.append(missing[0])
        else:
            node = to_visit.pop()
            order[id(node)] = node
    return list(order.values())


def _metrics(identifiers: Any) -> list[metrics.Metric]:
    if identifiers is None:
        return []
    if isinstance(identifiers, str):
        identifiers = [identifiers]
    if not isinstance(identifiers, list | tuple):
        raise TypeError(f"metrics must be a list of names or Metric objects, not {checks.came(identifiers)}")
    chosen = [metrics.get(identifier) for identifier in identifiers]
    names = [metric.name for metric in chosen]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f'metrics need names of their own, apart from "loss"; got {", ".join(names)}')
    return chosen


def _without_batch(shape: Any) -> Shape:
    if not isinstance(shape, tuple | list) or not shape or not (shape[0] is None or isinstance(shape[0], int)):
        raise ValueError(f"input_shape must be a tuple with the batch first, such as (None, 100), not {shape!r}")
    return as_shape(tuple(shape[1:]))
