"""Optimizers, with Keras' names, formulas, defaults and epsilon."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, TypedDict, Unpack

import numpy as np

from scratchlstm import schedules
from scratchlstm._support import checks, compiled, registry
from scratchlstm._support.threads import spread
from scratchlstm.backend import Array, is_array, is_cupy, is_known, know
from scratchlstm.kernels import cupy_optimizers
from scratchlstm.rows import Gradient, RowGradient

# a block of a parameter and its moments, about 1 MB, stays in a core's level-2 cache during an update
_BLOCK = 1 << 16
_CLEARED_EVERY = 64  # steps; anything that fades by a tenth per step shrinks to 1e-3 in that time
_OF_AVERAGES = "use_ema", "ema_momentum", "ema_overwrite_frequency"

# a number, a schedule, or a schedule's saved description
LearningRate = float | schedules.LearningRateSchedule | Mapping[str, Any]
Rows = np.ndarray | slice  # rows of a block: their indices, or all


class _Shared(TypedDict, total=False):
    """Arguments of every optimizer; see `Optimizer`."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: Annotated[float, 0.99]
    ema_overwrite_frequency: int | None


class Optimizer(registry.Configured):
    """Updates parameters in place from their gradients.

    A `RowGradient` gives exactly the same result as the dense gradient it represents: rows without a gradient still
    move by their momentum. (Keras on TensorFlow squares the gradients of a repeated id before summing them; here, as in
    PyTorch and in the papers, they are summed first.)

    Args:
        learning_rate: the step size, or a `schedules.LearningRateSchedule` that sets it at each step.
        clipnorm: scale each parameter's gradient down to this norm.
        clipvalue: clip each element of a gradient to ± this.
        global_clipnorm: scale all gradients together down to this norm.
        use_ema: keep an exponential moving average of each parameter, a = β a + (1 - β) w after each update, a = w
            after the first. When `fit` ends, it sets the trained parameters to their averages.
        ema_momentum: β, in [0, 1].
        ema_overwrite_frequency: also do so every this many steps; None: only at the end.

    Raises:
        ValueError: a setting out of its range, or two kinds of clipping at once (as in Keras).
    """

    slots: tuple[str, ...] = ()  # names of the arrays kept for each parameter
    fading: tuple[str, ...] = ()  # the slots that fade without a gradient

    def __init__(
        self,
        learning_rate: LearningRate,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
    ) -> None:
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        chosen = {name: checks.number(name, limit, above=0) for name, limit in clips.items() if limit is not None}
        if len(chosen) > 1:
            raise ValueError("only one of clipnorm, clipvalue and global_clipnorm can be set")
        self.clipnorm, self.clipvalue, self.global_clipnorm = (chosen.get(name) for name in clips)
        self.use_ema = checks.flag("use_ema", use_ema)
        self.ema_momentum = checks.number("ema_momentum", ema_momentum, at_least=0, at_most=1)
        every = ema_overwrite_frequency
        self.ema_overwrite_frequency = None if every is None else checks.positive_int("ema_overwrite_frequency", every)
        self.schedule: schedules.LearningRateSchedule | None = None
        self.learning_rate = learning_rate
        self.iterations = 0
        self.state: list[dict[str, np.ndarray]] = []  # one dict of the `kept` arrays for each parameter
        self.owner: object = None  # the model whose parameters the state belongs to
        self.trained: list[tuple[int, ...]] = []  # the shapes of these parameters

    @property
    def learning_rate(self) -> float:
        """The size of the next step; may be set during training, unless it follows a schedule."""
        if self.schedule is None:
            return self._learning_rate
        return checks.number(f"the learning rate of {self.schedule.name}", self.schedule(self.iterations), at_least=0)

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        """Raises an error for invalid step sizes, and for replacing a schedule by a number (as in Keras)."""
        if isinstance(value, schedules.LearningRateSchedule | Mapping):
            self.schedule = schedules.get(value)
        else:
            self.require_settable()
            self._learning_rate = checks.number("learning_rate", value, above=0)

    def require_settable(self) -> None:
        """Raise an error if the learning rate cannot be set to a number.

        Raises:
            TypeError: it follows a schedule (as in Keras).
        """
        if self.schedule is not None:
            problem = f"this optimizer's learning rate follows {self.schedule.name} and cannot be set"
            raise TypeError(f"{problem}: a callback that sets it needs an optimizer whose learning_rate is a number")

    def claim(self, owner: object, params: Sequence[np.ndarray]) -> None:
        """Let `owner` use this optimizer for its parameters.

        Raises:
            ValueError: it has already trained another model, or other parameters.
        """
        if self.owner is not None and self.owner is not owner:
            raise ValueError(
                "this optimizer has trained another model, and keeps the state of that one: make a new one"
            )
        if self.iterations and [w.shape for w in params] != self.trained:
            raise ValueError("this optimizer has trained a model with other parameters: compile with a new one")
        self.owner, self.trained = owner, [w.shape for w in params]
        know(params)

    def update(self, w: np.ndarray, rows: Rows, g: np.ndarray, learning_rate: float, **slots: np.ndarray) -> None:
        """Apply the equations, in place, to a block of one parameter.

        Args:
            w: the block.
            rows: its rows that have a gradient; it is zero for the others.
            g: the gradient of these rows.
            learning_rate: the learning rate of this step.
            slots: the block's part of the state.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(w, rows, g, learning_rate, **slots)")

    def kernel(self, learning_rate: float) -> tuple[Any, ...]:
        """The name of the kernel in `optimizers.cu` that has these equations, and its settings."""
        raise NotImplementedError(f"{type(self).__name__} has no GPU kernel")

    @property
    def has_kernel(self) -> bool:
        """Whether this very class defines `kernel`; a subclass does not inherit it, as its equations may differ."""
        return "kernel" in vars(type(self))

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of all arrays kept per parameter: the slots and, with `use_ema`, "average"."""
        return (*self.slots, "average") if self.use_ema else self.slots

    def build(self, params: Sequence[np.ndarray]) -> None:
        """Create the state for these parameters: slots are zero, averages the current parameters."""
        self.state = [{slot: np.zeros_like(w) for slot in self.slots} for w in params]
        if self.use_ema:
            for w, kept in zip(params, self.state, strict=True):
                kept["average"] = w.copy()
        self.trained = [w.shape for w in params]
        know(params)

    def apply(
        self, params: Sequence[Array], grads: Sequence[Gradient | None], broken: Array | None = None, loss: Any = None
    ) -> None:
        """Do one step: update every parameter from its gradient. (Keras' `apply` takes the gradients first.)

        Args:
            params, grads: of the same length and backend, each gradient with the shape of its parameter. A parameter
                whose gradient is None is left unchanged, and so is its state.
            broken: on a GPU, an int32 array (1,): if it is not 0, nothing is changed; if it is 0 and the loss or a
                gradient is NaN or infinite, it is set to the number of this step.
            loss: on a GPU, the loss, a 0-d array.

        Raises:
            TypeError: gradients in place of parameters, or not arrays; nothing is changed.
            ValueError: gradients that do not match the parameters, or parameters other than those of earlier steps;
                nothing is changed.
        """
        self._require_fitting(params, grads)
        shapes = [w.shape for w in params]
        if len(self.state) != len(params) or (not self.iterations and shapes != self.trained):
            self.build(params)
        learning_rate = self.learning_rate  # a schedule counts the steps before this one
        self.iterations += 1
        if params and is_cupy(params[0]):
            if self.has_kernel:
                cupy_optimizers.apply(self, params, grads, learning_rate, broken, loss)
                return
            # a user's own equations: run as they are, on dense gradients, waiting for the GPU
            grads = [g.dense() if isinstance(g, RowGradient) else g for g in grads]
            if broken is not None and self._is_broken(grads, broken, loss):
                return
        factors = self.clip_factors([norm(g) for g in grads]) if self.clips_norms else [1.0] * len(params)
        for w, g, slots, factor in zip(params, grads, self.state, factors, strict=True):
            if g is not None:
                self.step(w, g, slots, learning_rate, factor)

    def _require_fitting(self, params: Sequence[Array], grads: Sequence[Gradient | None]) -> None:
        """Raise an error before anything is changed that should not be; see `apply`."""
        for name, arrays, kinds, what in ("params", params, "f", "floats"), ("grads", grads, "fiub", "numbers"):
            others = (RowGradient, np.generic) if name == "grads" else RowGradient  # NumPy's 0-d sums
            if not isinstance(arrays, list | tuple | np.ndarray) or not all(
                (is_array(a) or isinstance(a, others)) and a.dtype.kind in kinds
                for a in arrays
                if a is not None or name == "params"
            ):
                raise TypeError(f"{name} must be a list of arrays of {what}, not {checks.came(arrays)}")
        swapped = len(grads) and all(map(is_known, grads)) and not all(map(is_known, params))
        if swapped or any(isinstance(w, RowGradient) for w in params):
            wanted = "apply takes the parameters first, apply(params, grads)"
            raise TypeError(f"{wanted}, but got the gradients first, as in Keras")
        if len(params) != len(grads):
            raise ValueError(f"apply needs a gradient for each of the {len(params)} params, but got {len(grads)} grads")
        for number, (w, g) in enumerate(zip(params, grads, strict=True)):
            if g is not None and g.shape != w.shape:
                raise ValueError(f"grads[{number}] has shape {g.shape}, but its parameter has {w.shape}")
        if self.kept and self.iterations and self.trained and self.trained != [w.shape for w in params]:
            raise ValueError("this optimizer has state for params of other shapes: make a new one for these")

    def _is_broken(self, grads: Sequence[Array | None], broken: Array, loss: Any) -> bool:
        """Whether the loss or a gradient of this step, or an earlier one, is NaN or infinite; see `apply`."""
        if not int(broken[0]) and not all(map(is_finite, [*grads, *([] if loss is None else [loss])])):
            broken[...] = self.iterations
        return bool(int(broken[0]))

    def step(
        self, w: np.ndarray, g: Gradient, slots: Mapping[str, np.ndarray], learning_rate: float, factor: float = 1.0
    ) -> None:
        """Update one parameter, or some rows of it, in blocks that stay in the cache.

        Args:
            w: the parameter, changed in place.
            g: its gradient.
            slots: its arrays of `state`, changed in place.
            learning_rate: the size of this step.
            factor: scales the gradient.
        """
        w = np.atleast_1d(w)  # a 0-d parameter is one row
        slots = {name: np.atleast_1d(array) for name, array in slots.items()}
        for name in self.fading if self.iterations % _CLEARED_EVERY == 0 else ():
            if name in slots:
                _clear_faded(slots[name])
        in_one_pass = self._compiled(w, g, slots)  # needs no cache, but larger blocks, as calls are slow
        change, numbers = (in_one_pass, 4 * _BLOCK) if in_one_pass else (self._update, _BLOCK)
        limit, length = self.clipvalue, max(1, numbers * len(w) // max(w.size, 1))

        def update(start: int) -> None:
            block = slice(start, start + length)
            is_rows = isinstance(g, RowGradient)
            rows, values = g.block(start, start + length) if is_rows else (slice(None), np.atleast_1d(g)[block])
            values = values if factor == 1 else values * factor
            values = values if limit is None else np.clip(values, -limit, limit)
            change(w[block], rows, values, learning_rate, **{name: array[block] for name, array in slots.items()})

        blocks = [partial(update, start) for start in range(0, len(w), length)]
        if registry.is_ours(type(self)):
            spread(blocks)
        else:  # a user's own, which may not be thread-safe
            for block in blocks:
                block()

    def _update(self, w: np.ndarray, rows: Rows, g: np.ndarray, learning_rate: float, **kept: np.ndarray) -> None:
        """`update`, then `move_average` if averages are kept."""
        self.update(w, rows, g, learning_rate, **{slot: kept[slot] for slot in self.slots})
        if self.use_ema:
            self.move_average(w, kept["average"])

    def move_average(
        self, w: np.ndarray, average: np.ndarray, move: Callable[[np.ndarray, np.ndarray, float], None] | None = None
    ) -> None:
        """Update a block of the moving average in place; if this step `overwrites`, set the parameter to it.

        Args:
            w, average: the updated block, and its average.
            move: computes average += part (w - average) from average, w and part; default: in NumPy.
        """
        if self.iterations == 1:
            average[...] = w
        else:
            (move or _move)(average, w, 1 - self.ema_momentum)
        if self.overwrites:
            w[...] = average

    @property
    def overwrites(self) -> bool:
        """Whether the averages replace the parameters in this step."""
        return self.ema_overwrite_frequency is not None and self.iterations % self.ema_overwrite_frequency == 0

    def finalize_variable_values(self, params: Sequence[Array | None]) -> None:
        """Set the parameters to the averages of `use_ema`, in place; `fit` does so when it ends.

        Args:
            params: those of `apply`, in that order; None for one to leave unchanged.

        Raises:
            ValueError: params that do not match the averages; nothing is changed.
        """
        averages = [kept["average"] for kept in self.state] if self.use_ema else []
        if not averages:  # without use_ema, or before the first step
            return
        shapes, own = [w if w is None else w.shape for w in params], [average.shape for average in averages]
        if len(shapes) != len(own) or any(shape not in (None, its) for shape, its in zip(shapes, own, strict=True)):
            raise ValueError(f"this optimizer has averages of params with shapes {own}, but got {shapes}")
        for w, average in zip(params, averages, strict=True):
            if w is not None:
                w[...] = average

    def _compiled(self, w: np.ndarray, g: Gradient, slots: Mapping[str, np.ndarray]) -> Callable[..., None] | None:
        """`_update` as a compiled loop, if these arrays have one; both give the same bits.

        A small parameter does not load Numba: that takes longer than the loop could save.
        """
        has_loop = self.has_kernel and registry.is_ours(type(self))
        if not (has_loop and w.size and g.dtype == w.dtype) or not compiled.pays(w.size >= _BLOCK):
            return None
        from scratchlstm.kernels import numba_optimizers

        return partial(numba_optimizers.update, self) if numba_optimizers.takes(w, *slots.values()) else None

    @property
    def clips_norms(self) -> bool:
        """Whether a step needs `clip_factors`."""
        return self.clipnorm is not None or self.global_clipnorm is not None

    def clip_factors(self, norms: Sequence[float]) -> list[float]:
        """The factor for each parameter's gradient, from the gradients' norms."""
        limit = self.clipnorm or self.global_clipnorm or math.inf  # each is above 0, or None
        if self.clipnorm is None:
            norms = [math.hypot(*norms)] * len(norms)
        return [min(1.0, limit / max(each, 1e-30)) for each in norms]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that make an equal object.

        Those for averages are included only with `use_ema`, so files without averages do not change.
        """
        config = super().get_config()
        return {name: value for name, value in config.items() if self.use_ema or name not in _OF_AVERAGES}

    def argument(self, name: str) -> Any:
        return self.schedule if name == "learning_rate" and self.schedule is not None else super().argument(name)


class SGD(Optimizer):
    """Gradient descent: w -= lr g; with momentum m = μ m - lr g, w += m (Nesterov: w += μ m - lr g).

    Args:
        learning_rate: lr.
        momentum: μ, in [0, 1].
        nesterov: look ahead along the momentum.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency: see `Optimizer`.
    """

    fading = ("momentum",)

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **shared: Unpack[_Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.momentum = checks.number("momentum", momentum, at_least=0, at_most=1)
        self.nesterov = checks.flag("nesterov", nesterov)
        self.slots = ("momentum",) if momentum else ()

    def update(  # type: ignore[override]
        self, w: np.ndarray, rows: Rows, g: np.ndarray, learning_rate: float, momentum: np.ndarray | None = None
    ) -> None:
        step = learning_rate * g
        if momentum is not None:
            momentum *= self.momentum
            momentum[rows] -= step
            w += self.momentum * momentum if self.nesterov else momentum
        if momentum is None or self.nesterov:
            w[rows] -= step

    def kernel(self, learning_rate: float) -> tuple[Any, ...]:
        if not self.momentum:
            return "sgd", learning_rate
        return "sgd_momentum", learning_rate, self.momentum, self.nesterov


class RMSprop(Optimizer):
    """v = ρ v + (1 - ρ) g²; w -= lr g / sqrt(v + ε) (Hinton's lecture 6e; epsilon inside the root, as in Keras).

    Args:
        learning_rate: lr.
        rho: ρ.
        epsilon: ε.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency: see `Optimizer`.
    """

    slots = fading = ("velocity",)

    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.9, epsilon: float = 1e-7, **shared: Unpack[_Shared]
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.rho = checks.number("rho", rho, at_least=0, at_most=1)
        self.epsilon = checks.number("epsilon", epsilon, at_least=0)

    def update(  # type: ignore[override]
        self, w: np.ndarray, rows: Rows, g: np.ndarray, learning_rate: float, velocity: np.ndarray
    ) -> None:
        velocity *= self.rho
        velocity[rows] += (1 - self.rho) * g * g
        w[rows] -= learning_rate * g / np.sqrt(velocity[rows] + self.epsilon)

    def kernel(self, learning_rate: float) -> tuple[Any, ...]:
        return "rmsprop", learning_rate, self.rho, self.epsilon


class Adam(Optimizer):
    """m = β1 m + (1 - β1) g; v = β2 v + (1 - β2) g²; w -= α m / (sqrt(v) + ε), α = lr sqrt(1 - β2^t) / (1 - β1^t).

    Kingma & Ba (2015), in the form just before their section 2.1, which Keras uses: epsilon is added to sqrt(v) before
    bias correction rather than after it (as in PyTorch).

    Args:
        learning_rate: lr.
        beta_1, beta_2: β1 and β2.
        epsilon: ε.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency: see `Optimizer`.
    """

    slots = ("momentum", "velocity")
    fading = ("momentum",)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **shared: Unpack[_Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.beta_1 = checks.number("beta_1", beta_1, at_least=0, below=1)
        self.beta_2 = checks.number("beta_2", beta_2, at_least=0, below=1)
        self.epsilon = checks.number("epsilon", epsilon, at_least=0)

    def alpha(self, learning_rate: float) -> float:
        """The step size, corrected for moments that started at zero."""
        t = self.iterations
        return learning_rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)

    def update(  # type: ignore[override]
        self, w: np.ndarray, rows: Rows, g: np.ndarray, learning_rate: float, momentum: np.ndarray, velocity: np.ndarray
    ) -> None:
        alpha = self.alpha(learning_rate)
        momentum *= self.beta_1
        momentum[rows] += (1 - self.beta_1) * g
        velocity *= self.beta_2
        velocity[rows] += (1 - self.beta_2) * g * g
        step = np.sqrt(velocity)
        step += self.epsilon
        np.divide(momentum, step, out=step)
        step *= alpha
        w -= step

    def kernel(self, learning_rate: float) -> tuple[Any, ...]:
        return "adam", self.alpha(learning_rate), self.beta_1, self.beta_2, self.epsilon


def _move(average: np.ndarray, w: np.ndarray, part: float) -> None:
    """average += part (w - average), in place."""
    difference = w - average
    difference *= part
    average += difference


def _clear_faded(slot: np.ndarray) -> None:
    """Set values close to the smallest representable numbers to 0, in place.

    A row without gradients would get there after some 800 steps, and a processor is ten times slower with such numbers.
    Larger values only lose digits that do not matter next to `large`, about 1e-26 in float32.
    """
    limits = np.finfo(slot.dtype)
    large = limits.tiny / limits.eps * 2**17
    slot += large
    slot -= large


def values_of(g: Gradient) -> np.ndarray:
    """The elements of a gradient that may be nonzero."""
    return g.values if isinstance(g, RowGradient) else g


def norm(g: Gradient | None) -> float:
    """||g|| = sqrt(Σ g²), even if the squares overflow or underflow the dtype; not finite if g is not.

    0 for None, a parameter that is not trained.
    """
    if g is None:
        return 0.0
    values = values_of(g)
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.vdot(values, values))
        if 1e-30 < square < math.inf or not values.size:
            return math.sqrt(square)
        largest = float(np.max(np.abs(values)))
        if not 0 < largest < math.inf:
            return largest
        values = values / values.dtype.type(largest)
        return largest * math.sqrt(float(np.vdot(values, values)))


def is_finite(g: Gradient | None) -> bool:
    """Whether a gradient, if any, has no NaN or infinity."""
    return g is None or math.isfinite(norm(g)) or bool(np.isfinite(values_of(g)).all())


_KNOWN = registry.by_both_names(SGD, RMSprop, Adam) | {"sgd": SGD, "rmsprop": RMSprop}


def get(identifier: Any) -> Optimizer:
    """The optimizer of that name, with its default settings.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: neither a name nor an `Optimizer`.
    """
    return registry.resolve("optimizer", identifier, _KNOWN, Optimizer)
