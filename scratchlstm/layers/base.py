"""The base class of all layers: parameters, and an explicit forward and backward pass."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypedDict, Unpack
from weakref import WeakSet

import numpy as np

from scratchlstm import backend, config, constraints, initializers, regularizers
from scratchlstm._support import registry
from scratchlstm._support.checks import came, flag, generator, string
from scratchlstm._support.moved import Gone
from scratchlstm.constraints import Constraint
from scratchlstm.layers.passes import Cache, DropoutMask, FromLogits, Pass
from scratchlstm.layers.weights import (
    Shape,
    Specs,
    as_shape,
    check_weights,
    name_weights,
    same_sizes,
    shapes_of,
    with_batch,
)
from scratchlstm.regularizers import Regularizer
from scratchlstm.rows import GatheredRows, Gradient, RowGradient, as_array

Signal = backend.Array | GatheredRows  # what travels forward between layers
Gradients = dict[str, Gradient]  # parameter name -> its gradient
INPUT = "input_layer"  # default name of an input, as in Keras
TENSORFLOWS_LOOP = "in Keras it only changes how TensorFlow runs the loop, so leave it out"  # for error messages
KNOWN: dict[str, Any] = {}  # layers a saved model may contain; filled by `layers/__init__.py`
CONTRACT = (
    "a layer defines forward(x) -> (y, cache) and backward(dy, cache) -> (dx, grads); grads has the gradient of "
    "each parameter by name; forward may also take run and mask, backward may take need (docs/migration.md)"
)


def _instead(what: str, instead: str) -> Callable[..., Any]:
    """An operation that a `Node` does not support."""

    def refuse(node: "Node", *others: Any) -> Any:
        raise TypeError(f"{node}, a symbolic value in a Model, cannot {what}: {instead}")

    return refuse


class Node:
    """A symbolic value in a model, not computed yet: one output of one call of a layer.

    Args:
        layer: the layer.
        sources: the nodes its inputs come from, followed by those of its initial states, if given.
        sample_shape: shape without the batch dimension.
        output: index among the layer's outputs.
        call: identifies the call, if it has several outputs.
    """

    def __init__(
        self, layer: "Layer", sources: Sequence["Node"], sample_shape: Shape, output: int = 0, call: object = None
    ) -> None:
        self.layer, self.sources, self.sample_shape = layer, tuple(sources), sample_shape
        self.output, self.call = output, call or object()

    shape = property(lambda node: (None, *node.sample_shape), doc="The shape with None for the batch, as in Keras.")

    def __repr__(self) -> str:
        return f"the output {with_batch(self.sample_shape)} of {self.layer.name}"

    __add__ = __radd__ = _instead("be added", "Add()([a, b]) does that")
    __mul__ = __rmul__ = _instead("be multiplied", "Multiply()([a, b]) does that")
    __getitem__ = _instead("be indexed", "a recurrent layer with return_sequences=False gives the last step")
    __iter__ = _instead("be unpacked", "it is one output; return_state=True makes a recurrent layer return its states")


class LayerOptions(TypedDict, total=False):
    """Arguments of every layer; see `Layer`."""

    name: str | None
    dtype: str | None
    input_shape: Shape | None
    trainable: Annotated[bool, True]  # the default


def fixed(setting: str, only: Any, why: str) -> property:
    """An attribute of Keras layers with one fixed value here; setting another raises a `ValueError` saying `why`."""

    def refuse(owner: Any, value: Any) -> None:
        if value is not only:
            raise ValueError(f"{setting} of {owner.name} must be {only}: {why}")

    return property(lambda owner: only, refuse, doc=f"{only}: {why}.")


class Layer(registry.Configured):
    """A function with parameters: the base class of all layers.

    A layer holds its configuration, its parameters and, if stateful, its states, but nothing of a pass. A layer of your
    own defines `forward(x)`, which returns y and a cache of whatever `backward` needs; `backward(dy, cache)`; and
    `param_specs` if it has parameters. They are called with checked arguments: x is an array of the layer's dtype.

        layer(x)                              builds the parameters on first use and returns y
        y, cache = layer.forward(x, run, mask)
        dx, grads = layer.backward(dy, cache, need)

    A subclass of one of our layers calls `super().forward(x, run, mask)` and `super().backward(dy, cache, need)`. If it
    defines only `backward`, the cache it gets is the one to pass to `super().backward`.

    Any number of passes may be open at the same time. `backward` uses the current parameters, so change them only
    afterwards; a recurrent layer keeps the parameters of its forward pass.

    Args:
        name: shown in the summary, unique in a model. Default: the class's name in snake case.
        dtype: "float32" or "float64". Default: `config.floatx()`.
        input_shape: the shape of one sample, if this is a model's first layer; None for a size left open.
        trainable: whether training changes the parameters; see the attribute. A layer created with False freezes its
            parts, too.

    Attributes:
        params: name -> array.
        dropout_masks: the sources of random dropout masks.
        regularizers, constraints: parameter name -> its regularizer or constraint, if it has one.
        backend: "numpy" or "cupy", where the parameters live and everything is computed; see `to`.
    """

    ranks: ClassVar[tuple[int, ...] | None] = None  # allowed numbers of input dimensions, including the batch
    takes_rows: ClassVar[bool] = False  # whether forward accepts `GatheredRows` rather than only arrays
    takes_mask: ClassVar[bool] = False  # whether forward takes `mask`, (B, T), False at steps to ignore
    makes_mask: bool = False  # whether it computes a mask from x
    passes_mask: bool = False  # whether the input's mask is also the output's
    outputs: int = 1  # how many arrays forward returns
    masked_outputs: int = 1  # how many of them, counting from the first, the mask applies to
    stateful: bool = False  # whether it keeps states from batch to batch
    column_blocks: Mapping[str, tuple[str, ...]] = {}  # parameter -> names of its column blocks, if any
    merges: ClassVar[bool] = False  # whether it takes a list of inputs
    state_sizes: Mapping[str, int] = {}  # name -> H of each initial state it accepts
    call_order: ClassVar[tuple[str, ...]] = ("training",)  # positional arguments after x, as in Keras
    dropout_masks: Sequence[DropoutMask] = ()
    regularizers: Mapping[str, Regularizer] = {}
    constraints: Mapping[str, Constraint] = {}
    keeps_logits: ClassVar[bool] = False  # whether a loss may use the logits below `activation`; see `Dense`
    may_be_identity: ClassVar[bool] = False  # whether y may be x itself, so that a loss sees through it

    activity_regularizer = fixed("activity_regularizer", None, "only parameters can have penalties here")

    grads = Gone("backward returns the gradients: dx, grads = layer.backward(dy, cache)")
    initial_state_grads = Gone("pass the states to forward((x, *states)); backward returns (dx, *d_states), grads")
    input_gradient = Gone("backward(dy, cache, need=False) skips dx")
    noises = Gone("it is now called dropout_masks")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        first = next(each for each in cls.__mro__ if vars(each).keys() & {"call", "forward"})
        if "forward" not in vars(first):
            raise TypeError(f"{first.__name__} defines call(), as Keras layers do, but here {CONTRACT}")
        # what the class itself defines or inherits from a class that is not a layer
        new = {name for name in ("forward", "backward", "infer") if getattr(cls, name) not in _checked}
        if new & {"forward", "backward"}:  # so a loss cannot see through it as it does its base class
            cls.may_be_identity = vars(cls).get("may_be_identity", False)
            cls.keeps_logits = vars(cls).get("keeps_logits", False)
        if "forward" in new:
            takes = _taken(cls, "forward", ("x",), ("run", "mask"))
            cls.takes_mask = "mask" in takes
            cls.forward = _checked_forward(cls.forward, takes)  # type: ignore[method-assign]
            if "infer" not in new:  # the base class's infer would skip what this forward does
                cls.infer = Layer.infer  # type: ignore[method-assign]
        if "backward" in new:
            takes = _taken(cls, "backward", ("dy", "cache"), ("need",))
            # the cache of an inherited forward is for the inherited backward, which the new one will call
            inherits = "forward" not in new and cls.forward is not Layer.forward
            cls.backward = _checked_backward(cls, cls.backward, takes, inherits)  # type: ignore[method-assign]
        if "infer" in new:
            takes = _taken(cls, "infer", ("x",), ("mask",))
            cls.infer = _checked_infer(cls.infer, takes)  # type: ignore[method-assign]
        _checked.update(getattr(cls, name) for name in new)

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        name, input_shape = options.pop("name", None), options.pop("input_shape", None)
        self.name = (name is not None and string("name", name)) or registry.snake_case(type(self).__name__)
        self.named_by_user = bool(name)
        self.created = next(_created)
        self.dtype = config.float_dtype(options.pop("dtype", None))
        self._trainable = flag("trainable", options.pop("trainable", True))
        if options:
            todo = f": {TENSORFLOWS_LOOP}" if options.keys() <= {"unroll", "use_cudnn", "implementation"} else ""
            raise TypeError(f"{type(self).__name__} takes no argument {', '.join(options)}{todo}")
        self.given_shape = None if input_shape is None else as_shape(input_shape, "input_shape")
        self.input_shape: Shape | None = None
        self.backend = "numpy"
        self.params: dict[str, backend.Array] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, whose parameters may be separate arrays."""
        vars(self).update(state)
        backend.know(self.params.values())

    # --- what a layer defines -------------------------------------------------------------------------------------

    def param_specs(self, input_shape: Shape) -> Specs:
        """Name -> (shape, initializer or its name) of each parameter for inputs of this shape (without the batch)."""
        return {}

    def output_shape(self, input_shape: Shape) -> Any:
        """The shape of the output for inputs of `input_shape`, both without the batch; a list for several outputs."""
        return input_shape

    def forward(self, x: Any, *run_and_mask: Any, **named: Any) -> tuple[Any, Any]:
        """Run one forward pass: `forward(x, run=None, mask=None)`.

        Args:
            x: the input; for a recurrent layer also (x, initial states).
            run: the pass's settings; default: a `Pass` without training.
            mask: (B, T), False at steps to ignore, if the layer takes a mask.

        Returns:
            y, an array or a tuple of arrays, and the `Cache` for `backward`. The cache may hold x or y itself: do not
            change them before calling `backward`.

        Raises:
            TypeError, ValueError: an input or a mask the layer cannot take.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x): {CONTRACT}")

    def backward(self, dy: Any, cache: Any, *need: Any) -> tuple[Any, Gradients]:
        """Compute the gradients of one pass: `backward(dy, cache, need=True)`.

        Args:
            dy: dL/dy, structured like y; with several outputs any of them may be None for zero.
            cache: from `forward`.
            need: whether to compute dx; a tuple for several inputs.

        Returns:
            dL/dx, structured like x (None if not needed, and for ids), and the gradients of `unfrozen_params` by name.

        Raises:
            TypeError, ValueError, RuntimeError: a gradient of the wrong shape, or a cache that is another layer's, was
                released, or was made before the layer moved to another backend.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy, cache) to be trained: {CONTRACT}")

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray | None:
        """The mask for the next layer, given input x with this mask; None if all steps are valid."""
        return mask if self.passes_mask else None

    def gives_mask(self, masked: Any) -> bool:
        """Whether the output has a mask, given whether the input has one (for several inputs, a list)."""
        return self.makes_mask or (bool(np.any(masked)) and self.passes_mask)

    def is_identity(self, kept: Any) -> bool:
        """Whether the pass that kept this returned x itself; only asked if `may_be_identity`."""
        return False

    def get_config(self) -> dict[str, Any]:
        """The constructor arguments that make an equal layer (without the parameters' values)."""
        names = [name for name in registry.arguments(self) if name not in ("input_shape", "input_length")]
        return {name: registry.serialize(getattr(self, name)) for name in names}

    def description(self) -> Any:
        """See `registry.serialize`. `trainable` is written only if False, so that other files do not change."""
        description = super().description()
        if self.trainable:
            description["config"].pop("trainable", None)
        return description

    # --- what a layer gets ----------------------------------------------------------------------------------------

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters, provided the model being trained is trainable, too.

        If False, `backward` returns no gradients for them; dropout still applies. You can set it at any time; the next
        training step uses it. Setting it also sets it for inner layers, each of which can then be set separately.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        """Also sets it for the layers inside."""
        trainable = flag(f"trainable of {self.name}", trainable)
        for layer in self.with_inner():
            layer._trainable = trainable

    @property
    def unfrozen_params(self) -> Mapping[str, backend.Array]:
        """The part of `params` that `backward` returns gradients for: parameters of inner layers that are trainable."""
        return self.params if self.trainable else {}

    @property
    def trainable_params(self) -> Mapping[str, backend.Array]:
        """The parameters trained if this layer is the model: `unfrozen_params`, or none if it is not trainable.

        As in Keras 3, layers in between play no part.
        """
        return self.unfrozen_params if self.trainable else {}

    @property
    def trainable_weights(self) -> list[backend.Array]:
        """The arrays of `trainable_params`, in Keras' order."""
        return list(self.trainable_params.values())

    @property
    def non_trainable_weights(self) -> list[backend.Array]:
        """All other parameters, in Keras' order."""
        return [param for name, param in self.params.items() if name not in self.trainable_params]

    @property
    def built(self) -> bool:
        """Whether the parameters have been created."""
        return self.input_shape is not None

    def build(
        self, input_shape: Shape, rng: np.random.Generator | None = None, params: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Create the parameters, once, for inputs of this shape (without the batch).

        Args:
            input_shape: None for a size left open.
            rng: generator for the initializers; default: a new one.
            params: values to use instead of initializing.

        Raises:
            ValueError: a shape this layer cannot take, or `params` with wrong names, shapes or values.
        """
        specs = self.plan(input_shape)
        if self.built:
            return
        rng = generator(rng)
        if params is None:
            drawn = {name: initializers.get(of)(shape, self.dtype, rng) for name, (shape, of) in specs.items()}
            # the same memory layout as when loaded from a file, so that products round the same
            made = {name: np.asarray(array, order="C") for name, array in drawn.items()}
        else:
            arrays = check_weights(self.name, {name: shape for name, (shape, _) in specs.items()}, params, self.dtype)
            if any(array.dtype != self.dtype for array in arrays.values()):
                raise ValueError(f"the weights of {self.name} are not all {self.dtype}")
            made = {name: arrays[name].copy() for name in specs}
        self.params = {name: backend.to(self.backend, array) for name, array in made.items()}
        backend.know(self.params.values())
        for source in self.dropout_masks:
            source.build(rng)
        several: Any = self.merges and tuple(as_shape(each) for each in input_shape)
        self.input_shape = several or as_shape(input_shape)

    def plan(self, input_shape: Shape) -> Specs:
        """`param_specs` for a shape, after checking the shape.

        Raises:
            ValueError: a shape this layer cannot take.
        """
        input_shape = as_shape(input_shape, "input_shape")
        self._check_rank(len(input_shape) + 1, input_shape)
        self._check_sizes(input_shape, with_batch(input_shape))
        specs = self.param_specs(input_shape)
        for name, constraint in self.constraints.items():
            if name in specs:
                constraint.require_axis(f"{self.name}/{name}", specs[name][0])
        return specs

    def __call__(self, x: Any, *args: Any, **call: Any) -> Any:
        """Build on first use, check and cast x, and return y; given a `Node` instead of x, return one for a `Model`.

        Args:
            x: the input.
            args: the arguments in `call_order`, as in Keras.
            call: the same by name: `training`, `mask`, `initial_state`, if the layer takes them.

        Raises:
            TypeError: an argument the layer does not take, or a `training` other than True or False.
        """
        call = self.named(args, call)
        if "initial_state" in call:
            call["initial_state"] = _in_one_list(call["initial_state"])
        nodes, states = _listed(x), _listed(call.get("initial_state"))
        if nodes and all(isinstance(node, Node) for node in nodes):
            return self._nodes(nodes, **{argument: value for argument, value in call.items() if value is not None})
        if any(isinstance(each, Node) for each in nodes + states):
            raise TypeError(f"{self.name} got both arrays and symbolic values of a Model: pass one or the other")
        if unknown := call.keys() - {*self.call_order} - ({"mask"} if self.takes_mask else set()):
            raise TypeError(f"{self.name} takes x, {', '.join(self.call_order)}, but not {', '.join(unknown)}")
        training = call.get("training")
        training = training is not None and flag(f"training of {self.name}", training)
        if call.get("initial_state") is not None:
            x = (self.receive(x), *self.receive_states(call["initial_state"]))  # type: ignore[attr-defined]
        y = self.forward(x, Pass(training), call.get("mask"))[0] if training else self.infer(x, call.get("mask"))
        return list(y) if isinstance(y, tuple) else y

    def named(self, args: Sequence[Any], call: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a call by name; `args` are the positional ones.

        Raises:
            TypeError: too many arguments, or one given twice.
        """
        named = dict(zip(self.call_order, args, strict=False))
        if len(args) > len(named) or named.keys() & call.keys():
            raise TypeError(f"{self.name} takes x, {', '.join(self.call_order)} in this order, each at most once")
        return {**call, **named}

    def _nodes(self, nodes: list[Node], **given: Any) -> Any:
        """The symbolic output of a call in a `Model`, or a list of them."""
        initial_state = given.pop("initial_state", None) if self.state_sizes else None
        if given:
            takes = "its input and initial states" if self.state_sizes else "its input"
            instead = "to pass these, call the layer with an array"
            instead = "put its inputs in one list" if self.merges else instead
            raise TypeError(f"{self.name} in a Model takes only {takes}, not {', '.join(given)}; {instead}")
        if not self.merges and len(nodes) > 1:
            todo = "initial_state=[...] takes states" if self.state_sizes else "Concatenate joins several into one"
            raise TypeError(f"{self.name} takes one input, not {len(nodes)}; {todo}")
        states = _listed(() if initial_state is None else initial_state)
        if other := [state for state in states if not isinstance(state, Node)]:
            problem = f"initial_state of {self.name} in a Model must hold outputs of Input or of layers"
            raise TypeError(f"{problem}, not {came(other[0])}")
        shape: Any = [node.sample_shape for node in nodes] if self.merges else nodes[0].sample_shape
        self.plan(shape)
        if initial_state is not None:
            self.require_states([state.sample_shape for state in states])
        sources, call, shapes = nodes + states, object(), self.output_shape(shape)
        if self.outputs == 1:
            return Node(self, sources, shapes)
        return [Node(self, sources, each, output, call) for output, each in enumerate(shapes)]

    def require_states(self, shapes: Sequence[Shape]) -> None:
        """Compare the shapes of initial states (without the batch) with `state_sizes`.

        Raises:
            ValueError: the wrong number of states, or wrong shapes.
        """
        wanted = {name: (size,) for name, size in self.state_sizes.items()}
        if list(shapes) != list(wanted.values()):
            named = ", ".join(f"{name} {with_batch(shape)}" for name, shape in wanted.items()) or "none"
            given = ", ".join(map(with_batch, shapes))
            raise ValueError(f"initial_state of {self.name} must be [{named}], not [{given}]")

    def infer(self, x: Any, mask: Any = None) -> Any:
        """`forward`'s y outside training, when no backward pass will follow; a layer may then keep nothing."""
        return self.forward(x, None, mask)[0]

    def pass_on(self, x: Any, run: Pass, mask: Any, keeps: bool) -> tuple[Any, Cache | None, Any]:
        """What a network needs from a pass: y, the cache if one is to be kept, and the output's mask.

        For several outputs it is a list of masks. As in Keras, a layer that is given initial states passes its input's
        mask on but ignores it.
        """
        own = mask if self.takes_mask and not isinstance(x, tuple) else None
        y, cache = self.forward(x, run, own) if keeps else (self.infer(x, own), None)
        return y, cache, self.per_output(self.output_mask(x, mask), None)

    def per_output(self, masked: Any, others: Any) -> Any:
        """`masked` for an output the mask applies to, else `others`; a list for several outputs."""
        listed = [masked] * self.masked_outputs + [others] * (self.outputs - self.masked_outputs)
        return listed if self.outputs > 1 else masked

    def with_inner(self) -> list["Layer"]:
        """This layer and all layers inside it."""
        return [self]

    def to(self, name: str) -> None:
        """Move the parameters and states to another backend.

        Args:
            name: "numpy" or "cupy".
        """
        name = backend.choose(name)
        if name == self.backend:
            return
        kept = {state: backend.host(array) for state, array in self.extra_state().items()}
        self.backend = name
        self.params = {param: backend.to(name, array) for param, array in self.params.items()}
        backend.know(self.params.values())
        if kept:
            self.set_extra_state(kept)

    def set_params(self, arrays: Mapping[str, backend.Array]) -> None:
        """Use these very arrays as the parameters of the given names."""
        self.params |= arrays

    def reset_state(self) -> None:
        """Reset what a stateful layer kept from the last batch."""

    def limit(self, **limits: tuple[str, Any, Any]) -> None:
        """Set penalties (regularizers) and constraints of parameters, for kernel_regularizer, kernel_constraint, ...

        Args:
            limits: prefix of the arguments' names -> (parameter, regularizer, constraint); the latter two as names,
                objects, or None.
        """
        self.regularizers, self.constraints = {}, {}
        for argument, (param, *given) in limits.items():
            kinds = ("regularizer", regularizers, self.regularizers), ("constraint", constraints, self.constraints)
            for one, (kind, module, of_params) in zip(given, kinds, strict=True):
                found = module.get(one, f"{argument}_{kind}")
                setattr(self, f"{argument}_{kind}", found)
                if found is not None:
                    of_params[param] = found  # type: ignore[index]

    def receive(self, x: Any) -> Any:
        """X as this layer's forward expects it: an array of the right rank and dtype, on the layer's backend.

        Raises:
            TypeError: not numbers.
            ValueError: the wrong shape.
        """
        x = self.checked(x if isinstance(x, GatheredRows) and self.takes_rows else as_array(x))
        if not self.built:
            self.build(x.shape[1:])
        return x if isinstance(x, GatheredRows) else self.place(x)

    def receive_mask(self, mask: Any, x: Any) -> Any:
        """A mask for x as booleans on the CPU, or None if every step is valid; for several inputs, a list of masks.

        Raises:
            ValueError: the wrong shape, not booleans, or not one mask for each input.
        """
        if not self.merges:
            return self.check_mask(mask, x[0] if isinstance(x, tuple) else x)
        masks = mask if isinstance(mask, list | tuple) else [mask] * len(x)
        if len(masks) != len(x):
            raise ValueError(f"mask of {self.name} must be a list of {len(x)}, one for each input, not of {len(masks)}")
        return [self.check_mask(one, each) for one, each in zip(masks, x, strict=True)]

    def check_mask(self, mask: Any, x: Any, dimensions: int = 2) -> np.ndarray | None:
        """A mask for the leading dimensions of one input as booleans on the CPU; None if every step is valid.

        Raises:
            ValueError: the wrong shape, or not booleans.
        """
        if mask is None:
            return None
        mask, shape = backend.host(as_array(mask, "mask")), np.shape(x)[:dimensions]
        if mask.shape != shape or mask.dtype.kind not in "bui":
            wanted = f"True or False for each step, with shape {shape}"
            given = f"its shape is {mask.shape} and its dtype {mask.dtype}"
            raise ValueError(f"mask of {self.name} must hold {wanted}, but {given}")
        mask = mask.astype(bool, copy=False)
        return None if mask.all() else mask

    def place(self, x: Any) -> Any:
        """X on the backend this layer computes with; None stays None."""
        return None if x is None else backend.to(self.backend, x)

    def checked(self, x: Any) -> Any:
        """`receive`, for an array, without building the layer.

        Raises:
            ValueError: the wrong number of dimensions, or a size other than the layer was built for.
        """
        self._check_rank(x.ndim, x.shape[1:])
        if not x.shape or 0 in x.shape:
            raise ValueError(f"{self.name} got an {'empty' if x.shape else 'unbatched'} input, of shape {x.shape}")
        self._check_sizes(x.shape[1:], str(x.shape))
        return self.cast(x)

    def cast(self, x: Any) -> Any:
        """X in the layer's dtype.

        Raises:
            TypeError: not numbers.
        """
        if x.dtype.kind not in "fiub":
            hint = ": rows of different lengths? pad_sequences makes them equal" if x.dtype == object else ""
            raise TypeError(f"{self.name} takes numbers, but the input has dtype {x.dtype}{hint}")
        return x.astype(self.dtype, copy=False)

    def _check_sizes(self, given: Shape, shown: str) -> None:
        """Raise an error if the layer's parameters would have other shapes for a sample of these sizes."""
        if self.input_shape is None or same_sizes(self.input_shape, given):
            return
        if {name: shape for name, (shape, _) in self.param_specs(given).items()} != shapes_of(self.params):
            wanted = with_batch(self.input_shape)
            raise ValueError(f"{self.name} was built for inputs of shape {wanted}, but got {shown}")

    def _check_rank(self, rank: int, shape: Shape) -> None:
        ranks = self.ranks if self.input_shape is None else (len(self.input_shape) + 1,)
        if ranks is not None and rank not in ranks:
            wanted = " or ".join(str(r) for r in ranks)
            hint = (
                ": after a recurrent layer, give that layer return_sequences=True; for ids, put an Embedding before it"
            )
            raise ValueError(
                f"{self.name} takes an input of {wanted} dimensions (batch first), but got shape {with_batch(shape)}"
                + (hint if (ranks, rank) == ((3,), 2) else "")
            )

    def receive_gradient(self, dy: Any, shape: tuple[int, ...]) -> Any:
        """The incoming gradient in the layer's dtype, checked against the output it belongs to.

        Raises:
            ValueError: the wrong shape.
            TypeError: not numbers, or an array of the other backend.
        """
        if isinstance(dy, FromLogits):
            return FromLogits(*(None if d is None else self.receive_gradient(d, shape) for d in dy))
        if isinstance(dy, RowGradient):
            return dy.astype(self.dtype, copy=False)
        dy = as_array(dy, "dL/dy")
        if backend.of(dy) != self.backend:
            given = f"an array of {backend.of(dy)!r}; move it with cupy.asarray(dy) or dy.get()"
            raise TypeError(f"{self.name} is on the backend {self.backend!r}, but dL/dy is {given}")
        if dy.shape != shape:
            raise ValueError(f"{self.name} gave an output of shape {shape}, but dL/dy has shape {dy.shape}")
        if dy.dtype.kind not in "fiub":
            raise TypeError(f"dL/dy of {self.name} must hold numbers, but has dtype {dy.dtype}")
        return dy.astype(self.dtype, copy=False)

    def extra_state(self) -> dict[str, np.ndarray]:
        """What a checkpoint has to save besides the parameters, as arrays by name."""
        return {}

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `extra_state` returned."""

    def count_params(self) -> int:
        """The number of elements in all parameters."""
        return sum(param.size for param in self.params.values())

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the parameters as NumPy arrays, in Keras' order."""
        return [backend.host(param).copy() for param in self.params.values()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite the parameters: either all of them or, on an error, none.

        Raises:
            ValueError: the wrong number of arrays, or a wrong shape.
        """
        named = name_weights(self.name, list(self.params), weights)
        for name, param in self.params.items():
            check_weights(self.name, {name: param.shape}, {name: named[name]}, str(param.dtype))
        for name, param in self.params.items():
            param[...] = backend.beside(param, named[name], param.dtype)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _in_one_list(states: Any) -> Any:
    """Initial states as one flat list; for several cells they may come as a list per cell, as in Keras."""
    if not isinstance(states, list | tuple):
        return states
    found: list[Any] = []
    for each in states:
        of_cell = isinstance(each, list | tuple) and all(isinstance(s, Node) or backend.is_array_like(s) for s in each)
        found += each if of_cell else [each]
    return found


# --- around what a layer defines --------------------------------------------------------------------------------------


def _taken(cls: type, method: str, first: tuple[str, ...], optional: tuple[str, ...]) -> set[str]:
    """Which of the optional arguments a layer's method takes.

    Raises:
        TypeError: the method has another signature.
    """
    parameters = list(inspect.signature(getattr(cls, method)).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    starred = any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters)
    if starred or len(names) < len(first) or not set(names[len(first) :]) <= set(optional):
        raise TypeError(f"{cls.__name__} defines {method}({', '.join(names)}), but {CONTRACT}")
    return set(names[len(first) :])


def _checked_forward(own: Callable[..., Any], takes: set[str]) -> Callable[..., Any]:
    @functools.wraps(own)
    def forward(self: Layer, x: Any, run: Pass | None = None, mask: Any = None, **old: Any) -> tuple[Any, Cache]:
        run = Pass() if run is None else run
        if old or not isinstance(run, Pass):
            wrong = ", ".join(old) or came(run)
            instead = "forward(x, Pass(training=True)) for dropout, forward((x, *states)) for initial states"
            raise TypeError(f"forward of {self.name} takes x, a Pass and a mask, but got {wrong}: write {instead}")
        x = self.receive(x)
        given: dict[str, Any] = {"run": run, "mask": self.receive_mask(mask, x) if "mask" in takes else None}
        if mask is not None and "mask" not in takes:
            raise TypeError(f"{self.name} takes no mask")
        result = own(self, x, **{name: given[name] for name in takes})
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"forward of {self.name} must return y and a cache, not {type(result).__name__}")
        for part in result[0] if isinstance(result[0], tuple) else result[:1]:
            if not hasattr(part, "shape"):
                raise TypeError(f"forward of {self.name} must return an array and a cache, not {came(part)} for y")
        return result[0], Cache(self, run, forward, *result)

    return forward


def _checked_backward(cls: Any, own: Callable[..., Any], takes: set[str], inherits: bool) -> Callable[..., Any]:
    @functools.wraps(own)
    def backward(self: Layer, dy: Any, cache: Any = None, need: Any = True) -> tuple[Any, Gradients]:
        if not isinstance(cache, Cache) or cache.layer is not self:
            no_cache = "none" if cache is None else f"a {type(cache).__name__}"
            given = f"one of another layer, {cache.layer.name}" if isinstance(cache, Cache) else no_cache
            how = "y, cache = layer.forward(x), then layer.backward(dy, cache)"
            raise TypeError(f"backward of {self.name} takes a cache that its own forward pass gave, not {given}: {how}")
        if cache.released:
            todo = "call backward before release(), or forward again"
            raise RuntimeError(f"the cache of {self.name} was released, and its memory may be in use elsewhere: {todo}")
        if cache.backend != self.backend:
            raise RuntimeError(f"{self.name} has moved to {self.backend!r} since the forward pass: call forward again")
        dys = dy if isinstance(dy, tuple | list) and cache.several else (dy,)
        if len(dys) != len(cache.shapes) or all(d is None for d in dys):
            wanted = f"a tuple of {len(cache.shapes)}, not all None" if cache.several else "an array"
            given = f"{len(dys)} of them" if len(dys) > 1 and any(d is not None for d in dys) else came(dy)
            raise ValueError(f"dL/dy of {self.name} must be {wanted}, like its output, not {given}")
        for each in need if isinstance(need, tuple | list) else [need]:
            flag(f"need of {self.name}", each)
        dys = tuple(None if d is None else self.receive_gradient(d, s) for d, s in zip(dys, cache.shapes, strict=True))
        dy = dys if cache.several else dys[0]
        if cache.run.seen is not None:
            cache.run.seen(cache, dy)
        while cache.made_by is not cls.forward and isinstance(cache.kept, Cache) and cache.kept.layer is self:
            cache = cache.kept  # a subclass's forward called ours
        result = own(self, dy, cache if inherits else cache.kept, **({"need": need} if takes else {}))
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
            raise TypeError(f"backward of {self.name} must return dx and a dict of gradients, not {came(result)}")
        dx, grads = result
        frozen = self.params.keys() - self.unfrozen_params.keys()
        return dx, {name: gradient for name, gradient in grads.items() if name not in frozen}

    return backward


def _checked_infer(own: Callable[..., Any], takes: set[str]) -> Callable[..., Any]:
    @functools.wraps(own)
    def infer(self: Layer, x: Any, mask: Any = None) -> Any:
        x = self.receive(x)
        return own(self, x, **({"mask": self.receive_mask(mask, x)} if takes else {}))

    return infer


_created = itertools.count()  # numbers layers in the order of creation
_checked: WeakSet[Any] = WeakSet([Layer.forward, Layer.backward, Layer.infer])  # methods already wrapped
