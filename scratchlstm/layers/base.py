"""What every layer has: parameters, their gradients, and an explicit forward and backward."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm import activations, backend, config, constraints, regularizers
from scratchlstm._support import checks, registry
from scratchlstm._support.checks import came, flag, generator, positive_int, string
from scratchlstm.constraints import Constraint
from scratchlstm.initializers import Initializer
from scratchlstm.layers.noise import Noise
from scratchlstm.regularizers import Regularizer
from scratchlstm.rows import GatheredRows, Gradient, RowGradient, as_array

Shape = tuple[int | None, ...]  # without the batch dimension; None where any length will do
Signal = backend.Array | GatheredRows  # what travels forward between layers
Specs = dict[str, tuple[tuple[int, ...], Initializer]]  # parameter name -> (shape, initializer)


class Node:
    """A value in a model that is not computed yet: what a layer will give.

    Args:
        layer: the layer.
        sources: what it takes its input from.
        shape: of one sample.
    """

    def __init__(self, layer: "Layer", sources: Sequence["Node"], shape: Shape) -> None:
        self.layer, self.sources, self.shape = layer, tuple(sources), shape


def fixed(setting: str, only: Any, why: str) -> property:
    """An attribute of Keras' that has one value here; another is refused with a `ValueError` that says `why`."""

    def refuse(owner: Any, value: Any) -> None:
        if value is not only:
            raise ValueError(f"{setting} of {owner.name} must be {only}: {why}")

    return property(lambda owner: only, refuse, doc=f"{only}: {why}.")


class Layer:
    """A function with parameters.

    `layer(x)` builds the parameters on first use, checks and casts x, and runs `forward`. `backward(dy)` takes
    dL/dy of the last forward pass, overwrites `grads`, and returns dL/dx.

    Args:
        name: shown in the summary; unique in a model. Default: the class's name in snake case.
        dtype: "float32" or "float64". Default: `config.floatx()`.
        input_shape: of one sample, where the layer is a model's first; None for a length left open.

    Attributes:
        params: name -> array.
        grads: name -> gradient of the last backward pass, with the same keys.
        noises: the sources of random masks that training draws from.
        regularizers, constraints: name -> that of a parameter which has one.
        input_gradient: whether `backward` has to give dL/dx; a model's first layer does not in training.
        backend: "numpy" or "cupy", where the parameters are and everything is computed; see `to`.
    """

    ranks: ClassVar[tuple[int, ...] | None] = None  # allowed numbers of input dimensions, batch included
    takes_rows: ClassVar[bool] = False  # whether forward reads `GatheredRows`; others get an ordinary array
    takes_mask: ClassVar[bool] = False  # whether forward has an argument `mask`, (B, T), False at steps to be ignored
    makes_mask: bool = False  # whether it finds out from x which steps are to be ignored
    passes_mask: bool = False  # whether the mask of the input is that of the output, too
    outputs: int = 1  # how many arrays forward gives
    stateful: bool = False  # whether it keeps states from batch to batch
    merges: ClassVar[bool] = False  # whether it takes a list of inputs
    call_order: ClassVar[tuple[str, ...]] = ("training",)  # what arguments after x mean by position, as in Keras
    of_a_pass: ClassVar[tuple[str, ...]] = ()  # attributes of this class that forward leaves for backward
    given_out: tuple[int, ...] | None = None  # the shape of the last output, in layers that keep it
    limited: Mapping[str, str] = {}  # beginning of the names of arguments that `limit` was given -> parameter
    identity: bool = False  # whether the last forward pass gave x itself, so that a loss may look through the layer

    trainable = fixed("trainable", True, "a layer cannot be frozen here; train those above it alone, on what it gives")
    activity_regularizer = fixed("activity_regularizer", None, "only parameters have penalties here")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        first = next(each for each in cls.__mro__ if vars(each).keys() & {"call", "forward"})
        if "forward" not in vars(first):
            raise TypeError(
                f"{first.__name__} defines call(), as a layer of Keras does; here a layer defines forward(x, training) "
                f"and backward(dy), which returns dL/dx and sets `grads`"
            )

    def __init__(self, name: str | None = None, dtype: str | None = None, input_shape: Shape | None = None) -> None:
        given = None if name is None else string("name", name)
        self.name = given or registry.snake_case(type(self).__name__)
        self.named_by_user = name is not None
        self.dtype = config.float_dtype(dtype)
        self.given_shape = None if input_shape is None else as_shape(input_shape, "input_shape")
        self.input_shape: Shape | None = None
        self.backend = "numpy"
        self.params: dict[str, backend.Array] = {}
        self.grads: dict[str, Gradient] = {}
        self.noises: list[Noise] = []
        self.regularizers: Mapping[str, Regularizer] = {}
        self.constraints: Mapping[str, Constraint] = {}
        self.input_gradient = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy, whose parameters may be arrays of its own."""
        vars(self).update(state)
        backend.know(self.params.values())

    # --- what a layer defines -------------------------------------------------------------------------------------

    def param_specs(self, input_shape: Shape) -> Specs:
        """Name -> (shape, initializer) of each parameter for inputs of this shape (batch left out)."""
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the output (batch left out) for inputs of `input_shape`."""
        return input_shape

    def forward(self, x: Any, training: bool = False) -> Any:
        """y for x, keeping what `backward` needs, which may be x or y itself: change neither before `backward`."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward(x, training)")

    def backward(self, dy: Any) -> Any:
        """dL/dx from dL/dy of the last forward pass; overwrites `grads`."""
        raise NotImplementedError(f"{type(self).__name__} has to define backward(dy) to be trained")

    def output_mask(self, x: Any, mask: np.ndarray | None) -> np.ndarray | None:
        """The mask that goes on to the next layer, for an input x with this mask; None where all steps count."""
        return mask if self.passes_mask else None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that make an equal layer (its parameters' values left out)."""
        elsewhere = self.kept_elsewhere()
        names = [name for name in registry.arguments(self) if name not in ("input_shape", "input_length")]
        return {name: _described(elsewhere[name] if name in elsewhere else getattr(self, name)) for name in names}

    def kept_elsewhere(self) -> dict[str, Any]:
        """For `get_config`, the constructor's arguments that are no attributes of the same names."""
        return self.limits()

    # --- what a layer gets ----------------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self.input_shape is not None

    def build(
        self, input_shape: Shape, rng: np.random.Generator | None = None, params: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Make the parameters, once, for inputs of this shape (batch left out).

        Args:
            input_shape: None where a size is left open.
            rng: what the initializers draw from; default: a fresh one.
            params: values to take instead of drawing.

        Raises:
            ValueError: a shape this layer cannot take, or `params` of other names, shapes or values.
        """
        specs = self.plan(input_shape)
        if self.built:
            return
        rng = generator(rng)
        if params is None:
            drawn = {name: draw(shape, self.dtype, rng) for name, (shape, draw) in specs.items()}
            # laid out as they will be when they come from a file, so that products round the same
            made = {name: np.ascontiguousarray(array) for name, array in drawn.items()}
        else:
            arrays = check_weights(self.name, {name: shape for name, (shape, _) in specs.items()}, params, self.dtype)
            if any(array.dtype != self.dtype for array in arrays.values()):
                raise ValueError(f"the weights of {self.name} are not all {self.dtype}")
            made = {name: arrays[name].copy() for name in specs}
        self.params = {name: backend.to(self.backend, array) for name, array in made.items()}
        backend.know(self.params.values())
        for noise in self.noises:
            noise.build(rng)
        several: Any = self.merges and tuple(as_shape(each) for each in input_shape)
        self.input_shape = several or as_shape(input_shape)

    def plan(self, input_shape: Shape) -> Specs:
        """`param_specs` for a shape that was checked.

        Raises:
            ValueError: a shape this layer cannot take.
        """
        input_shape = as_shape(input_shape, "input_shape")
        self._check_rank(len(input_shape) + 1, input_shape)
        self._check_sizes(input_shape, _with_batch(input_shape))
        specs = self.param_specs(input_shape)
        for name, constraint in self.constraints.items():
            if name in specs:
                constraint.require_axis(f"{self.name}/{name}", specs[name][0])
        return specs

    def __call__(self, x: Any, *args: Any, **call: Any) -> Any:
        """Build on first use, check and cast x, and run forward; for a `Node` instead of x, give one for a `Model`.

        Args:
            x: the input.
            args: what `call_order` names, as in Keras.
            call: the same by name: `training`, and what else forward takes.

        Raises:
            TypeError: too many arguments, or a `training` other than True and False.
        """
        named = dict(zip(self.call_order, args, strict=False))
        if len(args) > len(named) or named.keys() & call.keys():
            raise TypeError(f"{self.name} takes x, {', '.join(self.call_order)} in this order, each once")
        call |= named
        nodes = list(x) if isinstance(x, list | tuple) else [x]
        if nodes and all(isinstance(node, Node) for node in nodes):
            return self._node(nodes, [argument for argument, value in call.items() if value is not None])
        training = call.pop("training", None)
        training = training is not None and flag(f"training of {self.name}", training)
        return self.forward(self.receive(x), training=training, **call)

    def _node(self, nodes: list[Node], given: list[str]) -> Node:
        if given:
            raise TypeError(
                f"{self.name} in a Model takes its input alone, without {', '.join(given)}; to give these, call the "
                f"layer itself with an array"
            )
        self.require_one_output()
        if not self.merges and len(nodes) > 1:
            raise TypeError(f"{self.name} takes one input, not {len(nodes)}; Concatenate makes one of several")
        shape: Any = [node.shape for node in nodes] if self.merges else nodes[0].shape
        self.plan(shape)
        return Node(self, nodes, self.output_shape(shape))

    def require_one_output(self) -> None:
        """Stop where the layer has no place in a model.

        Raises:
            ValueError: it gives more than one output.
        """
        if self.outputs > 1:
            raise ValueError(
                f"{self.name} has {self.outputs} outputs (return_state, or merge_mode=None), and a model passes on a "
                f"single one; leave that out in a model, and call the layer itself with an array to see its states"
            )

    def infer(self, x: Any, **call: Any) -> Any:
        """Y for x where no backward pass will follow (a layer may keep nothing then)."""
        return self(x, **call)

    def with_inner(self) -> list["Layer"]:
        """This layer, and those that it is around."""
        return [self]

    def to(self, name: str) -> None:
        """Take the parameters and states to another backend; gradients, and the last pass, are forgotten.

        Args:
            name: "numpy" or "cupy".
        """
        name = backend.choose(name)
        if name == self.backend:
            return
        kept = {state: backend.host(array) for state, array in self.extra_state().items()}
        self.backend = name
        for inner in self.with_inner()[1:]:
            inner.to(name)
        for param, array in list(self.params.items()):
            self.params[param] = backend.to(name, array)
        backend.know(self.params.values())
        for noise in self.noises:
            noise.backend = name
        self.grads.clear()
        for attribute in self.of_last_pass():
            setattr(self, attribute, None)
        if kept:
            self.set_extra_state(kept)

    def of_last_pass(self) -> dict[str, Any]:
        """Attribute -> value of all that the last forward pass has left for backward."""
        names = (name for cls in type(self).__mro__ for name in vars(cls).get("of_a_pass", ()))
        return {name: value for name in names if (value := vars(self).get(name)) is not None}

    def reset_state(self) -> None:
        """Forget what a stateful layer kept from the last batch."""

    def limit(self, **limits: tuple[str, Any, Any]) -> None:
        """Give parameters regularizers and constraints.

        Args:
            limits: beginning of the arguments' names -> (parameter, regularizer, constraint); the latter by name, as
                objects, or None.
        """
        self.limited = {argument: param for argument, (param, _, _) in limits.items()}
        found = [
            (param, regularizers.get(r, f"{argument}_regularizer"), constraints.get(c, f"{argument}_constraint"))
            for argument, (param, r, c) in limits.items()
        ]
        self.regularizers = {param: r for param, r, _ in found if r is not None}
        self.constraints = {param: c for param, _, c in found if c is not None}

    def limits(self) -> dict[str, Any]:
        """The arguments that `limit` was given, as objects or None."""
        return {
            f"{argument}_{kind}": of.get(param)
            for kind, of in (("regularizer", self.regularizers), ("constraint", self.constraints))
            for argument, param in self.limited.items()
        }

    def limits_config(self) -> dict[str, Any]:
        """`limits`, for the `get_config` of a layer of your own."""
        return {name: _described(of) for name, of in self.limits().items()}

    def receive(self, x: Any) -> Any:
        """X as this layer's forward wants it: an array of the right rank and dtype, where the parameters are.

        Raises:
            TypeError: not numbers.
            ValueError: the wrong shape.
        """
        x = self.checked(x if isinstance(x, GatheredRows) and self.takes_rows else as_array(x))
        if not self.built:
            self.build(x.shape[1:])
        return x if isinstance(x, GatheredRows) else self.place(x)

    def check_mask(self, mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        """A mask as booleans on the CPU; None if every step counts.

        Raises:
            ValueError: another shape, or no booleans.
        """
        if mask is None:
            return None
        mask = backend.host(as_array(mask, "mask"))
        if mask.shape != shape or mask.dtype.kind not in "bui":
            raise ValueError(
                f"mask of {self.name} must hold True or False for each step, with shape {shape}, but its shape is "
                f"{mask.shape} and its dtype {mask.dtype}"
            )
        mask = mask.astype(bool, copy=False)
        return None if mask.all() else mask

    def place(self, x: backend.Array) -> backend.Array:
        """X where this layer computes with it."""
        return backend.to(self.backend, x)

    def checked(self, x: Any) -> Any:
        """`receive`, for an array, without building."""
        self.check_shape(x)
        return self.cast(x)

    def cast(self, x: Any) -> Any:
        """X in the layer's dtype.

        Raises:
            TypeError: not numbers.
        """
        if x.dtype.kind not in "fiub":
            raise TypeError(f"{self.name} takes numbers, but the input has dtype {x.dtype}{_ragged_hint(x)}")
        return x.astype(self.dtype, copy=False)

    def check_shape(self, x: Any) -> None:
        """Compare x's shape with what the layer takes.

        Raises:
            ValueError: the wrong number of dimensions, or another size than the layer was built for.
        """
        self._check_rank(x.ndim, x.shape[1:])
        if not x.shape or 0 in x.shape:
            raise ValueError(f"{self.name} got an {'empty' if x.shape else 'unbatched'} input, of shape {x.shape}")
        self._check_sizes(x.shape[1:], str(x.shape))

    def _check_sizes(self, given: Shape, shown: str) -> None:
        """Compare the sizes of a sample with those the layer was built for, as far as both are known."""
        for built, size in zip(self.input_shape or (), given, strict=False):
            if built is not None and size is not None and built != size:
                raise ValueError(
                    f"{self.name} was built for inputs of shape {_with_batch(self.input_shape)}, but got {shown}"
                )

    def _check_rank(self, rank: int, shape: Shape) -> None:
        ranks = self.ranks if self.input_shape is None else (len(self.input_shape) + 1,)
        if ranks is not None and rank not in ranks:
            wanted = " or ".join(str(r) for r in ranks)
            hint = "; a recurrent layer before it has to give its sequence, return_sequences=True"
            raise ValueError(
                f"{self.name} takes an input of {wanted} dimensions (batch first), but got shape {_with_batch(shape)}"
                + (hint if (ranks, rank) == ((3,), 2) else "")
            )

    def require_gradient(self, dy: Any, shape: tuple[int, ...] | None) -> Any:
        """The gradient that arrives, in the layer's dtype, compared with the output it belongs to.

        Args:
            dy: the gradient.
            shape: of the last output; None where there has been none.

        Raises:
            RuntimeError: there has been none.
            ValueError: another shape.
            TypeError: an array of the other backend.
        """
        if shape is None:
            raise RuntimeError(f"backward of {self.name} needs a forward pass before it")
        if isinstance(dy, RowGradient):
            return dy
        if backend.of(dy) != self.backend:
            raise TypeError(
                f"{self.name} is on the backend {self.backend!r}, but dL/dy is an array of {backend.of(dy)!r}; "
                f"cupy.asarray(dy) or dy.get() moves it"
            )
        if as_array(dy, "dL/dy").shape != shape:
            raise ValueError(f"{self.name} gave an output of shape {shape}, but dL/dy has shape {np.shape(dy)}")
        return backend.to(self.backend, dy, self.dtype)

    def extra_state(self) -> dict[str, np.ndarray]:
        """What a checkpoint has to keep besides parameters, as arrays by name."""
        return {}

    def set_extra_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `extra_state` gave."""

    def count_params(self) -> int:
        """How many numbers the parameters hold."""
        return sum(param.size for param in self.params.values())

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the parameters as NumPy arrays, in Keras' order."""
        return [backend.host(param).copy() for param in self.params.values()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Overwrite the parameters; all or none.

        Raises:
            ValueError: another number of arrays, or another shape.
        """
        named = name_weights(self.name, list(self.params), weights)
        shapes = {name: param.shape for name, param in self.params.items()}
        for name, array in check_weights(self.name, shapes, named, self.dtype).items():
            self.params[name][...] = backend.to(self.backend, array)


def name_weights(owner: str, names: list[str], weights: Any) -> dict[str, Any]:
    """A list of weights, by name.

    Raises:
        TypeError: no list.
        ValueError: another number of weights.
    """
    if not isinstance(weights, list | tuple):
        raise TypeError(f"set_weights takes a list of weights, as get_weights gives it, not {type(weights).__name__}")
    if len(weights) != len(names):
        raise ValueError(f"{owner} has {len(names)} weights, but {len(weights)} were given")
    return dict(zip(names, weights, strict=True))


def check_weights(
    owner: str, shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Any], dtype: str
) -> dict[str, np.ndarray]:
    """`weights` as arrays, compared with the parameters that `owner` has.

    Raises:
        ValueError: other names, another shape, or values that are no finite numbers (in `dtype`).
    """
    checks.instance(f"weights of {owner}", weights, Mapping, "a dict of arrays by name")
    if set(weights) != set(shapes):
        raise ValueError(f"{owner} has the weights {', '.join(shapes) or 'none'}, but {', '.join(weights)} were given")
    arrays = {}
    for name, shape in shapes.items():
        try:
            arrays[name] = weight = backend.host(as_array(weights[name], f"weight {name} of {owner}"))
        except ValueError as error:
            raise ValueError(f"weight {name} of {owner} is no array: {error}") from error
        if weight.shape != shape:
            raise ValueError(f"weight {name} of {owner} has shape {shape}, but {weight.shape} was given")
        with np.errstate(over="ignore"):
            if weight.dtype.kind not in "fiu" or not np.isfinite(weight.astype(dtype)).all():
                raise ValueError(f"weight {name} of {owner} was given values that are no finite numbers in {dtype}")
    return arrays


def cast_gradient(dy: Any, layer: Layer) -> Any:
    """A gradient in the dtype, and on the backend, of the layer that receives it.

    Raises:
        TypeError, ValueError: it is no array of numbers.
    """
    if isinstance(dy, RowGradient):
        return dy.astype(layer.dtype, copy=False)
    return backend.to(layer.backend, dy if backend.is_array(dy) else checks.array("dy", dy, numeric=True), layer.dtype)


def as_shape(shape: Any, argument: str = "a shape") -> Shape:
    """A shape as a tuple of positive whole numbers and None.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(shape, tuple | list):
        raise ValueError(f"{argument} must be a tuple such as (100,), not {came(shape)}")
    return tuple(None if size is None else positive_int("each size of a shape", size) for size in shape)


def _described(value: Any) -> Any:
    """An argument as `get_config` gives it."""
    if isinstance(value, activations.Activation):
        return activations.serialize(value)
    return registry.serialize(value) if hasattr(value, "get_config") else value


def _with_batch(shape: Shape | None) -> str:
    return f"({', '.join(str(size) for size in (None, *(shape or ())))})"


def _ragged_hint(x: np.ndarray) -> str:
    return ": rows of different lengths? pad_sequences makes them equal" if x.dtype == object else ""
