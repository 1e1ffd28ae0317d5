"""`Sequential`, a stack of layers, and `Model`, layers wired into a graph; as in Keras."""

import copy
import itertools
import os
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Self

import numpy as np

from scratchlstm import backend as backends
from scratchlstm._support import checks
from scratchlstm._support.console import say, warn
from scratchlstm.callbacks import History
from scratchlstm.layers import Input, Layer
from scratchlstm.layers.base import Node
from scratchlstm.layers.network import Network, networks_of
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import no_layer
from scratchlstm.layers.weights import Shape, as_shape
from scratchlstm.models import saving, summary
from scratchlstm.preprocessing.timeseries import TimeseriesDataset
from scratchlstm.rows import as_array
from scratchlstm.training import loop as training
from scratchlstm.training.adversarial import AdversarialTraining
from scratchlstm.training.compiled import Compiled
from scratchlstm.training.data import Data, check_data, check_x, listed, unpack
from scratchlstm.training.recruit import crew
from scratchlstm.training.steps import OneProcess


class Model(Compiled):
    """A model made by wiring layers together, from its inputs to its outputs.

        words = Input((100,))
        x = Embedding(20000, 128)(words)
        y = Concatenate()([GlobalAveragePooling1D()(x), LSTM(60)(x)])
        model = Model(words, Dense(1, activation="sigmoid")(y))

    A layer called twice is used in both places, with the same weights. Calling a model on a node makes it a layer of
    another model.

    Args:
        inputs: an `Input`, or a list or dict of several. The keys of a dict are the inputs' names.
        outputs: the layers' outputs for them: one, or a list or dict of several. `predict` returns the same structure.
        name: shown in the summary.
        seed: for initial parameters, shuffling and dropout; the same seed gives the same run. None takes a new seed
            from the operating system. (NumPy's global random state is neither read nor changed.)
        backend: "numpy", "cupy" (a GPU), "auto", or None for the value of the environment variable SCRATCHLSTM_BACKEND;
            see `to`.
        trainable: False freezes all layers; see the attribute.

    Attributes:
        network: the layers and how they are wired; its `forward` and `backward` are the explicit pass.
        layers: the layers (without `Input`) in Keras' order, in which a layer follows those its input comes from.
        history: the `History` of the last `fit`, None before.
        optimizer, loss, metrics: as given to `compile`.
        backend: "numpy" or "cupy".

    Raises:
        TypeError: not an `Input`, or outputs that layers did not compute from one.
        ValueError: an output that depends on another input, an input that no output depends on, duplicate names, or two
            layers that share parameters.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str = "functional",
        seed: int | None = None,
        backend: str | None = None,
        *,
        trainable: bool = True,
    ) -> None:
        nodes, input_names = _listed("inputs", inputs)
        for node in nodes:
            checks.instance("inputs", node, Input, "one Input, or a list or dict of them")
        ends, output_names = _listed("outputs", outputs)
        for node in ends:
            if not isinstance(node, Node) or isinstance(node, Input):
                raise TypeError(f"outputs must be outputs of layers applied to the inputs, not {node!r}")
        network = Network(nodes, ends, checks.string("name", name), output_names, trainable=trainable)
        network.freeze_like(nodes)
        network.input_names = input_names or network.input_names
        super().__init__(network, seed, backends.choose(backend))
        network.named_by_user = name != "functional"
        layers, network.layers = network.layers, []
        # first the names used in another model, then in Keras' numbering
        for layer in sorted(layers, key=lambda layer: (not networks_of(layer), layer.created)):
            layer.name = self._welcome(layer)
            network.layers.append(layer)
        network.layers = layers
        # the order decides which parameters a seed draws
        self.build_for([node.sample_shape for node in nodes] if len(nodes) > 1 else nodes[0].sample_shape)
        self.network.into_keras_order()

    def _welcome(self, layer: Layer) -> str:
        """Move a layer to our backend and choose its name in this model.

        Returns:
                its own name, with a number if that is taken and no layer next to it in another model has the result.

        Raises:
            ValueError: it or a layer inside it is already in the model, or its given name is taken.
        """
        here = [inner for other in self.layers for inner in other.with_inner()]
        for inner in layer.with_inner():
            if any(inner is other for other in here):
                raise ValueError(
                    f"the layer {inner.name} is already in the model: make another layer (set_weights can give it "
                    f"the same initial weights), or call the same one twice in a functional Model"
                )
        taken = {other.name for other in self.layers}
        if layer.name in taken and layer.named_by_user:
            raise ValueError(f"the model already has a layer named {layer.name!r}; give each a different name")
        layer.to(self.backend)
        if layer.name not in taken:
            return layer.name
        taken |= {other.name for network in networks_of(layer) for other in network.layers}
        return next(name for number in itertools.count(1) if (name := f"{layer.name}_{number}") not in taken)

    @property
    def name(self) -> str:
        """The name shown in the summary."""
        return self.network.name

    @name.setter
    def name(self, name: str) -> None:
        self.network.name = name

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters; setting it sets it for all layers. See `Layer`.

        Each training step uses the current setting: there is no need to `compile` again, and the optimizer keeps its
        state for frozen parameters until they are trained again.
        """
        return self.network.trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self.network.trainable = trainable

    def get_layer(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            ValueError: there is none; the message lists all names.
        """
        parts = self.network.parts
        if name not in list(parts):
            raise ValueError(f"{self.name} has no layer {name!r}, but {', '.join(parts)}")
        return parts[name]

    input_names = property(attrgetter("network.input_names"), doc="Names of the inputs.")
    output_names = property(attrgetter("network.output_names"), doc="Names of the outputs; see `Network`.")
    sources = property(attrgetter("network.sources"), doc="See `Network.sources`.")
    is_stack = property(attrgetter("network.is_stack"), doc="See `Network.is_stack`.")

    @property
    def input_shape(self) -> Any:
        """The shape of one sample; a list for several inputs, None if not known yet."""
        shapes = self.network.input_shapes
        return shapes if len(shapes) > 1 else shapes[0]

    def build(self, input_shape: Any) -> None:
        """Create all parameters for inputs of this shape, unless they exist already.

        Args:
            input_shape: (None, ...), batch first as in Keras; a number instead of None means the same. A list of
                shapes for several inputs.

        Raises:
            ValueError: not a shape, or one that a layer cannot take.
        """
        several = self.network.merges and isinstance(input_shape, list)
        self.build_for([_without_batch(shape) for shape in input_shape] if several else _without_batch(input_shape))

    def __repr__(self) -> str:
        return summary.line(type(self).__name__, self.network)

    def _repr_html_(self) -> str:
        """The table of `summary` as HTML for a notebook."""
        return summary.html(self.network)

    def summary(self, *, show_implementation: bool = False) -> None:
        """Print the layers with their output shapes and numbers of parameters, as Keras does.

        Args:
            show_implementation: add a column with what runs each recurrent layer here: "compiled", "numpy",
                "textbook" (see `LSTM`), or "cuda" on a GPU.
        """
        say(summary.table(self.network, checks.flag("show_implementation", show_implementation)))

    # --- parameters -----------------------------------------------------------------------------------------------

    def count_params(self) -> int:
        """The number of elements in all parameters."""
        return self.network.count_params()

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the parameters as NumPy arrays, in Keras' order."""
        return self.network.get_weights()

    trainable_weights = property(attrgetter("network.trainable_weights"), doc="See `Layer.trainable_weights`.")
    non_trainable_weights = property(attrgetter("network.non_trainable_weights"), doc="The others, in Keras' order.")

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite the parameters: either all of them or, on an error, none.

        Args:
            weights: in the order and with the shapes of `get_weights` (which are also Keras').

        Raises:
            ValueError: not built yet, the wrong number of arrays, wrong shapes, or values that are not finite.
        """
        if not self.built:
            raise ValueError("the model has no parameters yet: give it an input_shape, or call build first")
        self.network.set_weights(weights)

    # --- CPU and GPU ----------------------------------------------------------------------------------------------

    def to(self, backend: str) -> Self:
        """Move the model to a GPU or back: parameters, states, and the optimizer's state.

        From then on everything is computed there. `predict`, `get_weights` and files use NumPy arrays in any case.

        Args:
            backend: "numpy", "cupy", or "auto" (CuPy if it works).

        Returns:
            the model itself.

        Raises:
            ValueError: an unknown name.
            ImportError, RuntimeError: CuPy or a usable GPU is missing; the model stays on the CPU.
            MemoryError: the GPU's memory is too small; the model stays on the CPU.
        """
        before, name = self.backend, backends.choose(backend)
        if name == before:
            return self
        size = sum(param.nbytes for param in self.params) * (1 + (len(self.optimizer.kept) if self._compiled else 0))
        try:
            with backends.explain_memory(f"the model takes {size / 1e6:,.0f} MB with what its optimizer keeps"):
                self._move(name)
        except MemoryError:
            self._move(before)
            raise
        return self

    def _move(self, name: str) -> None:
        self.network.to(name)
        if self._compiled:
            for slots in self.optimizer.state:
                slots |= {slot: backends.to(name, array) for slot, array in slots.items()}
            if self.backend == "cupy":
                from scratchlstm.kernels import cupy_optimizers

                cupy_optimizers.forget(self.optimizer)
        self.backend = name
        self.workspaces.free.clear()

    def on_cpu(self) -> Self:
        """The model itself, or a copy on the CPU if it is on a GPU."""
        return self if self.backend == "numpy" else copy.deepcopy(self).to("numpy")

    # --- passes ---------------------------------------------------------------------------------------------------

    def forward(self, x: Any, run: Pass | None = None, **old: Any) -> tuple[Any, Any]:
        """The output for x and the cache for `backward`; see `Layer.forward`. A list or dict for several inputs."""
        x = listed(self, x)
        self._build_on(x)
        return self.network.forward(x, run, **old)

    def backward(self, dy: Any, cache: Any = None, need: Any = True) -> tuple[Any, dict[str, Any]]:
        """dL/dx, and the parameters' gradients as "layer/parameter"; see `Layer.backward`."""
        return self.network.backward(dy, cache, need)

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """The output for x; given a `Node` instead of x, this model becomes a layer of another model."""
        x = listed(self, x)
        if not any(isinstance(each, Node) for each in (x if isinstance(x, list | tuple) else [x])):
            self._build_on(x)
        return self._given_out(self.network(x, training=training))

    def _given_out(self, ys: Any) -> Any:
        """The outputs in the structure of `outputs`: one, a list, or a dict."""
        names = self.network.named_outputs
        return ys if names is None else dict(zip(names, ys if len(names) > 1 else [ys], strict=True))

    def _build_on(self, x: Any) -> None:
        """Create all parameters for x, unless they exist already."""
        if not self.built:  # a Sequential, with one input
            self.build_for(as_array(x).shape[1:])

    def reset_states(self) -> None:
        """Reset the states of every stateful layer to zero."""
        self.network.reset_state()

    # --- training and use -----------------------------------------------------------------------------------------

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
        workers: int | str | None = None,
        resume: str | os.PathLike[str] | None = None,
        *,
        adversarial: AdversarialTraining | None = None,
        group_by_length: bool = False,
    ) -> History:
        """Train the model, with Keras' arguments and defaults.

        Args:
            x: samples, (N, ...); y: targets, (N, ...). For several inputs or outputs a list of arrays, in their order,
                or a dict by name; y may omit, or have None for, outputs with neither loss nor metrics. Or x is the
                result of `timeseries_dataset_from_array`, which includes y, batch_size and shuffle; such a result may
                also be the `validation_data`.
            batch_size: None means 32. The last, shorter batch is used, too.
            epochs: number of the last epoch (from 1).
            verbose: 0 silent, 1 or "auto" progress and a line an epoch, 2 only the line.
            callbacks: `Callback` objects.
            validation_split: the fraction of x and y, from the end, to validate on.
            validation_data: (x, y) or (x, y, sample_weight) to validate on after each epoch.
            shuffle: whether to shuffle the samples in each epoch.
            class_weight: label -> weight of its samples in training; a target such as 0.95 counts as label 1 (as in
                Keras). Only for models with one output.
            sample_weight: weight of each sample's loss, (N,), or of each step's, (N, T). A negative weight reverses the
                sample's gradient. For several outputs a list or dict, like y, or (N,) for all of them.
            initial_epoch: number of epochs already done.
            workers: number of processes that share each batch. One is enough if the recurrent layers run compiled loops
                (see `LSTM`), which use all cores with threads: "auto" then means 1, otherwise one per physical core. On
                a GPU, 1. If the processes do not start, one process does the work after a warning, unless there is a
                checkpoint to write. "mpi" means all ranks of an MPI run (docs/distributed.md), also on a GPU. Default:
                "mpi" in a script that `python -m scratchlstm.mpi` runs, otherwise 1.
            resume: a file of `callbacks.Checkpoint`, from which the run continues bit for bit, with all other arguments
                the same (`epochs` may be larger); if the file does not exist yet, the run starts from the beginning.
            adversarial: an `AdversarialTraining`, for a model that begins with embeddings: each step also learns from
                the perturbation of the embeddings that hurts most. The loss is that of both passes; the metrics are
                those of the unperturbed one.
            group_by_length: whether to make batches of rows with similar lengths and cut off the padding that all rows
                of a batch share, in validation, too. For models of padded ids, (N, T), from Embeddings with
                mask_zero=True to outputs without a time axis, through layers that respect the mask; the length must be
                left open, `Input((None,))`. The shuffled samples are sorted by length in groups of 50 batches, which
                are then shuffled; without shuffle all samples are sorted.

        Returns:
            the `History`: the mean loss over an epoch's batches, each before its update, and the metrics. If several
            outputs have a loss, each is listed, too, unweighted, as "<output>_loss"; metrics of several outputs are
            called "<output>_<metric>".

        Raises:
            RuntimeError: before `compile`; a `training.WorkerError` if a worker dies, or if in a run with a checkpoint
                the workers do not start, in which case the model is unchanged.
            TypeError, ValueError: bad data or arguments, or a checkpoint that is damaged or of a different run; before
                anything is changed.
            FloatingPointError: the loss is NaN or infinite and there is no `TerminateOnNaN`; names epoch and batch. (On
                a GPU, at the end of that epoch; the batches in between have changed nothing.)
            MemoryError: the GPU's memory is too small; says what to reduce.
            KeyboardInterrupt: on Ctrl-C; weights and `model.history` are those of the last completed epoch. (With the
                optimizer's `use_ema`, the weights and not their averages.)
        """
        self._require_compiled("fit")
        shuffle = x.shuffle if isinstance(x, TimeseriesDataset) else shuffle
        x, y, batch_size = unpack(x, y, batch_size)
        batch_size = 32 if batch_size is None else batch_size
        with backends.explain_memory(f"lower batch_size (now {batch_size}), the number of time steps, or the units"):
            return training.fit(
                self, x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data, shuffle,
                class_weight, sample_weight, initial_epoch, crew(workers, self), resume, adversarial,
                group_by_length,
            )  # fmt: skip

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train one step on a single batch.

        Returns:
            the loss before the update, or a list for this batch, like that of `evaluate`.

        Raises:
            as for `fit`.
        """
        self._require_compiled("train_on_batch")
        data = check_data(self, x, y, sample_weight)
        self.build_for(data.shape)
        self.optimizer.claim(self.token, self.params)
        with backends.explain_memory(f"use a batch smaller than {data.samples}"):
            runner = OneProcess(self, data, None)
            loss, totals = runner.step_on(runner.data)
            runner.require_finite()
        values = [m.value(backends.host(sums)) for m, sums in zip(self.measured.values(), totals, strict=True)]
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
        workers: int | str | None = None,
        group_by_length: bool = False,
    ) -> Any:
        """Compute loss and metrics over x and y, without dropout; for `workers` and `group_by_length` see `fit`.

        Returns:
            [loss, metric, ...], only the loss if nothing else is measured, or a dict. For several outputs (as in Keras)
            the loss, the losses of the outputs in order, and the metrics by name.
        """
        self._require_compiled("evaluate")
        as_dict = checks.flag("return_dict", return_dict)
        x, y, batch_size = unpack(x, y, batch_size)
        data = check_data(self, x, y, sample_weight)
        batch_size, sharing = self._inference_batch(batch_size), crew(workers, self)
        with backends.explain_memory(f"lower batch_size (now {batch_size})"):
            logs = training.evaluate(self, data, batch_size, checks.verbosity(verbose), sharing, group_by_length)
        if as_dict:
            return logs
        values = [logs[name] for name in ("loss", *self.measured)]
        return values if self.measured else values[0]

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        *,
        workers: int | str | None = None,
        group_by_length: bool = False,
    ) -> Any:
        """Compute the model's output for x, (N, ...), without dropout; for `workers` and `group_by_length` see `fit`.

        Returns a NumPy array, even if the model is on a GPU; for several outputs a list or dict of them, like
        `outputs`.
        """
        x, _, batch_size = unpack(x, None, batch_size)
        data = Data(check_x(self, x))
        batch_size, sharing = self._inference_batch(batch_size), crew(workers, self)
        with backends.explain_memory(f"lower batch_size (now {batch_size})"):
            found = training.predict(self, data, batch_size, checks.verbosity(verbose), sharing, group_by_length)
        return self._given_out(found if len(found) > 1 else found[0])

    def _inference_batch(self, batch_size: int | None) -> int:
        """As given; by default Keras' size if the result depends on it, and a large one if it does not."""
        if batch_size is None:
            return 32 if self.batch_matters else training.INFERENCE_BATCH
        return checks.positive_int("batch_size", batch_size)

    def _require_compiled(self, method: str) -> None:
        if not self._compiled:
            raise RuntimeError(f"call compile(optimizer, loss, metrics=...) before {method}")
        for end, target in enumerate(self.targets if self.layers and not self._told else ()):
            if target.loss is not None and target.loss.from_logits and self.looks_through(end=end):
                self._told = True
                head, _ = self.network.head(end=end)
                warn(
                    f"the loss has from_logits=True, but {head.name} outputs probabilities, so the logits below them "
                    f"are used, as in Keras; remove from_logits=True, or the activation"
                )

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Save layers, parameters and, if compiled, the optimizer with its state to one `.npz` file.

        The file is written completely or not at all, and holds only arrays and JSON. Classes of your own (a cell, a
        layer, an optimizer, ...) are stored as their name and the result of `get_config`; see `load`.

        Raises:
            ValueError: not built yet, or a name with Keras' file extension (use `interop.keras` for those), or a class
                of your own that its `get_config` does not describe.
            OSError: the file cannot be written.
        """
        saving.save(self, filepath)

    @classmethod
    def load(cls, path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """Load a model written by `save`, ready to predict and, if it was compiled, to continue training.

        Nothing in the file is executed, unpickled or imported by name.

        Args:
            path: the file.
            custom_objects: name -> class, for each class of your own in the file, as in Keras; an `Activation` of your
                own is given as it is. Names that the file does not need are ignored, and names of our own classes
                always mean our classes.

        Raises:
            FileNotFoundError: no such file.
            TypeError: `custom_objects` is not such a mapping.
            ValueError: not a model file, damaged, or from a newer version; or `custom_objects` lacks a class, or has
                one that does not match.
        """
        return saving.load(cls, path, custom_objects, Sequential, Model)


class Sequential(Model):
    """A stack of layers, each taking the output of the one before.

    Args:
        layers: layers to add right away.
        name, seed, backend, trainable: see `Model`.

    Attributes:
        network, layers, history, optimizer, loss, metrics, backend, trainable: see `Model`.
    """

    def __init__(
        self,
        layers: Sequence[Layer | Model] | None = (),
        name: str = "sequential",
        seed: int | None = None,
        backend: str | None = None,
        *,
        trainable: bool = True,
    ) -> None:
        network = Network(name=checks.string("name", name), trainable=trainable)
        Compiled.__init__(self, network, seed, backends.choose(backend))
        self.network.named_by_user = name != "sequential"
        for layer in checks.instance("layers", layers, list | tuple | None, "a list of layers") or ():
            self.add(layer)

    def add(self, layer: Layer | Model) -> None:
        """Add a layer, or a model, on top; build it at once if the input shape is known.

        Raises:
            TypeError: not a layer.
            ValueError: a layer or name that is already in the model, or a shape that does not fit.
        """
        layer = layer.network if isinstance(layer, Model) else layer
        if not isinstance(layer, Layer):
            raise TypeError(f"add takes a layer, not {no_layer(layer)}")
        network = self.network
        if isinstance(layer, Input):
            if self.layers or self.input_shape is not None:
                raise ValueError("Input gives the shape of the model's input and must come first")
            network.input_shapes, network.input_names = [layer.given_shape], [layer.name]
            return
        if layer.merges or layer.outputs > 1:
            several = (
                "takes several inputs"
                if layer.merges
                else f"gives {layer.outputs} outputs (return_state or merge_mode)"
            )
            raise ValueError(f"{layer.name} {several}, which a Sequential does not support; use Model")
        given = layer.input_shape if isinstance(layer, Network) else layer.given_shape
        shape = self.input_shape if self.layers or self.input_shape is not None else given
        name = self._welcome(layer)
        if shape is not None:
            layer.build(network.output_shape(shape) if self.layers else shape, self.rng)
        layer.name = name
        if not self.trainable:
            layer.trainable = False
        network.input_shape, network.input_shapes = shape, [shape]
        network.append(layer)


def _listed(argument: str, given: Any) -> tuple[list[Any], list[str] | None]:
    """What was given, as a list; and the names, if it was a dict.

    Raises:
        TypeError: a key of the dict is not a string.
        ValueError: it is empty.
    """
    names = None
    if isinstance(given, Mapping):
        names, given = [checks.string(f"each key of {argument}", key) for key in given], list(given.values())
    if isinstance(given, list | tuple) and not given:
        raise ValueError(f"{argument} must not be empty")
    return list(given) if isinstance(given, list | tuple) else [given], names


def _without_batch(shape: Any) -> Shape:
    if not isinstance(shape, tuple | list) or not shape or not (shape[0] is None or isinstance(shape[0], int)):
        raise ValueError(f"input_shape must be a tuple, batch size first, such as (None, 100), not {shape!r}")
    return as_shape(tuple(shape[1:]))
