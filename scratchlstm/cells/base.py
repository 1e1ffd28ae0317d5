"""The base class of cells: one step of a recurrent layer and its derivatives, written by hand."""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np

from scratchlstm import activations, constraints, initializers, regularizers
from scratchlstm._support import checks, registry
from scratchlstm.backend import Array, namespace
from scratchlstm.initializers import Initializer

Specs = dict[str, tuple[tuple[int, ...], Initializer | str]]  # parameter name -> (shape, initializer)
IN_TRACE = {  # names a `LayerTrace` uses for every cell
    "activation", "arrays", "as_dict", "blocks", "cell", "d_input", "d_words", "gates", "go_backwards", "gradient",
    "gradients", "has_units", "importance", "input", "mask", "memory", "name", "recurrent_activation", "states",
    "table", "units", "why_not",
}  # fmt: skip
LIMITED = {"kernel": "kernel", "recurrent": "recurrent_kernel", "bias": "bias"}  # argument -> parameter


class CellOptions(TypedDict, total=False):
    """Keyword arguments of every cell; see `Cell`."""

    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: int | None


class Cell(registry.Configured):
    """One time step, forward and backward; `RNN(cell)` runs it over a sequence and holds its parameters.

    To write a cell of your own, name its gates and define two functions, in the style of `gates.py`:

        class Mine(Cell):
            gates = ("a", "g")

            def forward(self, x, h_prev, W, U, b):        # (B, E), (B, H), (E, 2H), (H, 2H), (2H,)
                ...
                return h, StepCache(x, h_prev, a, g)

            def backward(self, dh, cache, W, U, b):
                ...
                return {"dx": dx, "dh_prev": dh_prev, "dW": dW, "dU": dU, "db": db}

    `forward` takes x, the previous states, and the parameters in the order of `param_specs`; it returns each new state
    and a cache with an attribute for each gate. `backward` takes dL/d of each new state, the cache, and the parameters,
    named as in `forward`, and returns a gradient for each argument of `forward`, called "d" plus its name. It may add
    two for the trace: "dz" (B, nH), dL/dz of all blocks, and "dc" (B, H), the full dL/dc. If the cache has an attribute
    z, (B, nH), the trace shows that, too. Every result must be a new array: one that is overwritten at the next step
    raises an error.

    If h_prev enters a product with U, a cell may take `h_in` (before `h_prev`, or instead of it if products are its
    only use). `h_in` is h_prev, or with recurrent dropout a masked copy of it for each block side by side, (B, nH), and
    U is then block-diagonal, (nH, nH). A cell without `h_in` does not support `recurrent_dropout`.

    Args:
        units: H.
        activation: activation of the cell's values.
        use_bias: whether to use a bias; if not, b is zeros.
        kernel_initializer, recurrent_initializer, bias_initializer: names or `Initializer` objects.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties added to the loss, or None.
        kernel_constraint, recurrent_constraint, bias_constraint: applied after each update, or None.
        dropout: dropout rate for x; one mask for all steps, drawn for each batch.
        recurrent_dropout: the same for h_prev; each block has its own mask, and then so does x.
        seed: seed for dropout; None draws from the model's generator.

    Attributes:
        gates: names of a step's values that traces and pictures show, each (B, H), in order.
        blocks: names of the kernels' column blocks, in order. Default: the gates.
        states: names of the states; the first is the output.
        arguments: arguments of `forward`, read when the class is defined.
        params: the arguments that are parameters: W, U, b.

    Raises:
        TypeError: on definition of a class whose functions do not follow this contract.
    """

    gates: ClassVar[tuple[str, ...]] = ()
    blocks: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ("h",)
    arguments: ClassVar[tuple[str, ...]] = ()
    params: ClassVar[tuple[str, ...]] = ()
    starts: ClassVar[dict[str, float]] = {}  # block -> initial value of its bias, if special

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **options: Unpack[CellOptions],
    ) -> None:
        if type(self).forward is Cell.forward:
            raise TypeError(f"{type(self).__name__} must define forward: {_contract(self.states)}")
        self.units = checks.positive_int("units", units)
        self.activation = elementwise("activation", activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = initializers.get(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        for kind, module in (("regularizer", regularizers), ("constraint", constraints)):
            for name in (f"{word}_{kind}" for word in LIMITED):
                setattr(self, name, module.get(options.pop(name, None), name))  # type: ignore[misc]
        self.dropout = checks.number("dropout", options.pop("dropout", 0.0), at_least=0, below=1)
        rate = checks.number("recurrent_dropout", options.pop("recurrent_dropout", 0.0), at_least=0, below=1)
        self.recurrent_dropout, self.seed = rate, checks.seed(options.pop("seed", None))
        if options:
            raise TypeError(f"{type(self).__name__} takes no argument {', '.join(options)}")
        if rate and "h_in" not in self.arguments:
            why = "nothing in it multiplies h_prev by a kernel"
            if "recurrent_kernel" in self.param_specs(1):
                why = "its forward has no argument h_in, the masked copies of h_prev (see Cell)"
            raise ValueError(f"{type(self).__name__} does not support recurrent_dropout: {why}")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("gates", "blocks", "states"):
            value = getattr(cls, name)
            if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
                single = value if isinstance(value, str) and value else name[0]
                wanted = f"a tuple of names, with a comma after a single one: ({single!r},)"
                raise TypeError(f"{name} of {cls.__name__} must be {wanted}, not {checks.came(value)}")
            if twice := [each for each in value if value.count(each) > 1]:
                raise TypeError(f"{name} of {cls.__name__} must be different names, but {twice[0]!r} appears twice")
        if not cls.states:
            raise TypeError(f"states of {cls.__name__} must name at least one, the output")
        if "gates" in vars(cls) and "blocks" not in vars(cls):
            steps = next(each for each in cls.__mro__ if "forward" in vars(each))
            if cls.blocks and registry.is_ours(steps) and not registry.is_ours(cls):
                problem = f"names gates, but its forward is that of {steps.__name__}, with {', '.join(cls.blocks)}"
                raise TypeError(f"{cls.__name__} {problem}: define forward as well, or blocks")
            cls.blocks = cls.gates
        states = tuple(f"{state}_prev" for state in cls.states)
        if "call" in vars(cls) and "forward" not in vars(cls):
            raise TypeError(f"{cls.__name__} defines call(), as Keras cells do, but here {_contract(cls.states)}")
        names = [tuple(inspect.signature(getattr(cls, each)).parameters)[1:] for each in ("forward", "backward")]
        fitting = [
            entering
            for entering in (states, ("h_in", *states[1:]), ("h_in", *states))
            if names[0][: 1 + len(entering)] == ("x", *entering)
        ]
        if cls.forward is not Cell.forward and not fitting:
            problem = f"has the states {', '.join(cls.states)} and defines forward({', '.join(names[0])})"
            raise TypeError(f"{cls.__name__} {problem}, but {_contract(cls.states)}")
        if fitting:
            cls.arguments, cls.params = names[0], names[0][1 + len(fitting[-1]) :]
        fits = names[1][len(states) + 1 :] == cls.params and "cache" not in names[1][: len(states)]
        if {"forward", "backward"} & {*vars(cls)} and cls.backward is not Cell.backward and not fits:
            problem = f"defines forward({', '.join(names[0])}) and backward({', '.join(names[1])})"
            raise TypeError(f"{cls.__name__} {problem}, but {_contract(cls.states, cls.params)}")
        cls._check_names()

    @classmethod
    def _check_names(cls) -> None:
        """Raise TypeError if the name of a gate or state is already used for something else."""
        made = {f"{start}_{block}" for start in ("z", "dz") for block in cls.blocks} | {f"d{cls.states[0]}_above"}
        made |= {f"{of}{state}{end}" for state in cls.states for of in ("", "d") for end in ("_prev", "_next")}
        made |= {f"d{state}" for state in cls.states}
        for name in (*cls.gates, *cls.states):
            if name in ("x", *cls.params):
                problem = f"{name!r}, which is an argument of its forward"
            elif name in made | IN_TRACE or name.startswith("__"):
                problem = f"{name!r}, a name that traces use for something else"
            else:
                continue
            raise TypeError(f"{cls.__name__} calls a gate or state {problem}: rename it")

    # --- what a cell defines --------------------------------------------------------------------------------------

    def forward(self, x: Array, *states_and_params: Array) -> tuple[Any, ...]:
        """Compute one step: the new states, and a cache for `backward`."""
        raise NotImplementedError

    def backward(self, *d_states_cache_and_params: Any) -> Any:
        """Compute the derivatives of one step: a gradient for each argument of `forward`, in a dict or NamedTuple."""
        raise NotImplementedError(f"{type(self).__name__} must define backward to be trained: {_contract(self.states)}")

    def param_specs(self, features: int) -> Specs:
        """Name -> (shape, initializer or its name) of each parameter, for an input (B, features).

        Default: `kernel` (E, nH), `recurrent_kernel` (H, nH), `bias` (nH,) for n blocks.
        """
        if not self.blocks:
            problem = "names no gates, so its kernels have no columns"
            todo = "blocks = ('h',) with gates = () gives them one block, gates = ('a', 'g') two"
            raise TypeError(f"{type(self).__name__} {problem}: {todo}")
        width = len(self.blocks) * self.units
        return {
            "kernel": ((features, width), self.kernel_initializer),
            "recurrent_kernel": ((self.output_size, width), self.recurrent_initializer),
            "bias": ((width,), _Started(self.bias_initializer, [self.starts.get(block) for block in self.blocks])),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, each read from the attribute of that name; also for classes of your own."""
        names = [name for name in registry.defaults(type(self)) if hasattr(self, name)]
        return {name: registry.serialize(self.argument(name)) for name in names}

    # --- what a cell gets -----------------------------------------------------------------------------------------

    @property
    def state_sizes(self) -> dict[str, int]:
        """State name -> size; by default H."""
        return dict.fromkeys(self.states, self.units)

    @property
    def output_size(self) -> int:
        """The size of the first state, which is the output."""
        return self.state_sizes[self.states[0]]

    def split(self, columns: Array) -> list[Array]:
        """(..., nH) -> its blocks, (..., H) each, as views."""
        H = columns.shape[-1] // len(self.blocks)
        return [columns[..., k * H : (k + 1) * H] for k in range(len(self.blocks))]

    def limits(self, kind: str) -> dict[str, Any]:
        """Parameter -> its "regularizer" or "constraint", if it has one.

        Raises:
            ValueError: one was given for a parameter the cell does not have.
        """
        found = {param: getattr(self, f"{word}_{kind}") for word, param in LIMITED.items()}
        found = {param: of for param, of in found.items() if of is not None}
        for word, param in LIMITED.items():
            if param in found and param not in self.param_specs(1):
                raise ValueError(f"{type(self).__name__} does not support {word}_{kind}: it has no {param}")
        return {param: of for param, of in found.items() if param != "bias" or self.use_bias}

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Raise an error: a cell holds no parameters, so it cannot be called."""
        raise TypeError(
            f"{type(self).__name__} is one step and holds no parameters: RNN(cell)(x) runs it over a sequence, "
            f"cell.forward({', '.join(self.arguments)}) is the step by itself"
        )


class GatedCell(Cell):
    """A cell whose gates have a separate activation; arguments in Keras' order.

    Args:
        units, activation: see `Cell`.
        recurrent_activation: σ, the activation of the gates.
        use_bias, ..., options: see `Cell`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **options: Unpack[CellOptions],
    ) -> None:
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, **options
        )
        self.recurrent_activation = elementwise("recurrent_activation", recurrent_activation)


def back_to_inputs(dz: Array, x: Array, h_in: Array, W: Array, U: Array) -> dict[str, Array]:
    """The gradients of z = x W + h_in U + b, (17) to (21), and dz itself; for every cell with such a z."""
    return back_to_input(dz, x, W) | {
        "dh_in": dz @ U.T,  #                   (B, H)
        "dU": h_in.T @ dz,  #                   (H, nH)
    }


def back_to_input(dz: Array, x: Array, W: Array) -> dict[str, Array]:
    """Those of z = x W + b."""
    return {
        "dx": dz @ W.T,  #                      (B, E)
        "dW": x.T @ dz,  #                      (E, nH)
        "db": namespace(dz).sum(dz, axis=0),  # (nH,)
        "dz": dz,  #                            (B, nH)
    }


def each_copy(gate: Array, h_in: Array) -> Array:
    """A gate (B, H), repeated for each of the copies in h_in, (B, H) or (B, nH)."""
    return namespace(gate).tile(gate, (1, h_in.shape[1] // gate.shape[1]))


def sum_each_copy(d_copies: Array, H: int) -> Array:
    """The gradient of `each_copy`: (B, H) or (B, nH) -> (B, H)."""
    return namespace(d_copies).sum(d_copies.reshape(len(d_copies), -1, H), axis=1)


def elementwise(argument: str, identifier: Any) -> activations.Activation:
    """The activation of that name, which must be elementwise.

    Raises:
        ValueError: unknown name, or one that mixes its inputs.
    """
    activation = activations.get(identifier, argument)
    if isinstance(activation, activations.Softmax):
        raise ValueError(f"{argument} of a recurrent layer must be elementwise, which softmax is not")
    return activation


def _contract(states: Sequence[str], params: Sequence[str] = ("W", "U", "b")) -> str:
    """What a cell of one's own must define, for error messages."""
    before, new = (", ".join(each) for each in ([f"{state}_prev" for state in states], states))
    d_new, d_before = (", ".join(each) for each in ([f"d{s}" for s in states], [f"d{s}_prev" for s in states]))
    given, d_given = (", ".join(each) for each in (params, [f"d{param}" for param in params]))
    return (
        f"a cell defines forward(x, {before}, {given}) -> ({new}, cache) and backward({d_new}, cache, {given}) -> "
        f"the gradients by name (dx, {d_before}, {d_given}), with each state and parameter as an argument of its own, "
        f"in the same order (docs/cells.md)"
    )


class _Started(Initializer):
    """Draws from `others`, then sets some blocks of columns to a constant: `starts` has one for each block, or None."""

    def __init__(self, others: Initializer, starts: Sequence[float | None]) -> None:
        super().__init__()
        self.others, self.starts = others, starts

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        values = np.array(self.others(shape, "float64", rng))
        for block, start in zip(np.split(values, len(self.starts), axis=-1), self.starts, strict=True):
            if start is not None:
                block[...] = start
        return values
