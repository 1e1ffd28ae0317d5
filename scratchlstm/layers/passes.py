"""One pass through layers: what it takes from outside, and what it keeps for the backward pass."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, cast

import numpy as np

from scratchlstm._support import checks
from scratchlstm.rows import GatheredRows


class Cache:
    """What one forward pass of a layer keeps for its backward pass.

    It stays valid, however many other passes follow, until its `Pass` is released.

    Attributes:
        layer: whose it is.
        run: the pass it belongs to.
        shapes: of each output.
        backend: where the layer was.
        kept: whatever the layer's own `forward` gave beside y.
    """

    def __init__(self, layer: Any, run: "Pass", made_by: Callable[..., Any], y: Any, kept: Any) -> None:
        self.layer, self.run, self.made_by, self.kept = layer, run, made_by, kept
        self.several = isinstance(y, tuple)
        self.shapes = [part.shape for part in (y if self.several else (y,))]
        self.release, self.backend = run.releases, layer.backend

    @property
    def released(self) -> bool:
        """Whether its memory was given back."""
        return self.release != self.run.releases


class FromLogits(NamedTuple):
    """dL/d(logits) in the place of dL/dy, from a loss that looks below the last activation.

    If y is used elsewhere, too, `dy` is the gradient from there.
    """

    dz: Any
    dy: Any = None


def at_logits(dy: Any, activation: Any, y: Any) -> Any:
    """dL/d(logits) of y = activation(logits), from dL/dy or `FromLogits`."""
    if not isinstance(dy, FromLogits):
        return activation.backward(y, dy)
    return dy.dz if dy.dy is None else dy.dz + activation.backward(y, dy.dy)


class DropoutMask:
    """Draws dropout's masks: 0 with probability `rate`, else 1 / (1 - rate), so that the expected sum stays.

    (Srivastava et al., 2014; "inverted" as in Keras.)

    Args:
        rate: in [0, 1).
        seed: None draws from the model's generator, an integer from a generator of the layer's own.
        argument: the name of `rate` in errors.

    Attributes:
        rng: where the masks come from, once built.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    def __init__(self, rate: float, seed: int | None = None, argument: str = "rate") -> None:
        self.rate, self.seed = checks.number(argument, rate, at_least=0, below=1), checks.seed(seed)

    def build(self, rng: np.random.Generator | None) -> None:
        """Make the generator; `rng` is its parent if there is no seed."""
        self.rng = checks.generator(rng).spawn(1)[0] if self.seed is None else np.random.default_rng(self.seed)

    def draw(self, shape: tuple[int, ...], dtype: Any, rows: tuple[int, int] | None) -> np.ndarray:
        """A mask (B, ...), drawn by NumPy on every backend; `rows` as of a `Pass`."""
        first, total = rows or (0, shape[0])
        kept = _uniform(self.rng, shape, first, total) >= self.rate
        return kept * np.dtype(dtype).type(1 / (1 - self.rate))


class Workspaces:
    """Memory that passes have released, for those that follow."""

    def __init__(self) -> None:
        self.free: list[Any] = []

    def take(self, kind: Any, *sizes: Any) -> Any:
        """A workspace of this class that fits these sizes: a free one, or a new one."""
        for number, one in enumerate(self.free):
            if isinstance(one, kind) and one.fits(*sizes):
                return self.free.pop(number)
        self.free.clear()  # the sizes have changed, and what fits nothing would only take up memory
        return kind.empty(*sizes)


class Pass:
    """What a pass takes from outside. With one object several passes may be run, and are released together; a `with`
    block releases them at its end.

    Args:
        training: whether dropout drops.
        rows: (first, total) if a batch is split between processes: the number of our first row, and how many rows there
            are in all. Dropout's masks are then drawn for the whole batch, and ours are its rows of it.
        keeps_states: whether stateful layers end with this pass' states; else with those they had before.
        seen: called with (cache, dy) at each layer's backward pass, those inside other layers included.
        embed: called with the `GatheredRows` of each embedding, in the order of computation; gives what the embedding
            passes on instead, an array of every position or the rows. Default: the rows.
        workspaces: memory of earlier passes.
    """

    def __init__(
        self,
        training: bool = False,
        rows: tuple[int, int] | None = None,
        *,
        keeps_states: bool = True,
        seen: Callable[[Cache, Any], None] | None = None,
        embed: Callable[[GatheredRows], Any] | None = None,
        workspaces: Workspaces | None = None,
    ) -> None:
        self.training, self.rows = checks.flag("training", training), rows
        self.keeps_states, self.seen, self.embed = checks.flag("keeps_states", keeps_states), seen, embed
        self.workspaces = Workspaces() if workspaces is None else workspaces
        self._releases = [0]  # a list, which `by_step` shares
        self._taken: list[Any] = []
        self._drawn: list[np.ndarray] = []
        self._repeated: Iterator[np.ndarray] | None = None

    def dropout(self, source: DropoutMask, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """A mask (B, ...) to multiply with, on the CPU; None for all ones: not in training, or at a rate of 0."""
        if not self.training or source.rate == 0:
            return None
        mask = source.draw(shape, dtype, self.rows) if self._repeated is None else next(self._repeated, None)
        if mask is None or mask.shape != shape:
            had = "none any more" if mask is None else f"one of shape {mask.shape}"
            raise ValueError(f"again() repeats the masks of the same layers and shapes: it has {had}, not {shape}")
        self._drawn.append(mask)
        return mask

    def again(self, embed: Callable[[GatheredRows], Any] | None = None) -> "Pass":
        """A pass that repeats this one's dropout masks, for the same layers on other values."""
        twin = Pass(self.training, self.rows, keeps_states=self.keeps_states, embed=embed, workspaces=self.workspaces)
        twin._repeated = iter(self._drawn.copy())
        return twin

    def by_step(self, steps: int) -> "Pass":
        """This pass for a layer that takes each of `steps` time steps as a row of its own."""
        inner = copy.copy(self)  # what is drawn and taken goes to the same lists
        inner.rows = None if self.rows is None else (self.rows[0] * steps, self.rows[1] * steps)
        return inner

    def workspace(self, kind: Any, *sizes: Any) -> Any:
        """Memory to keep a pass in, until `release`; see `Workspaces.take`."""
        self._taken.append(self.workspaces.take(kind, *sizes))
        return self._taken[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @property
    def releases(self) -> int:
        """How often `release` was called."""
        return self._releases[0]

    def release(self) -> None:
        """Give the memory of all caches made so far to later passes; these caches cannot be used any more."""
        self.workspaces.free += self._taken
        self._taken.clear()
        self._drawn.clear()
        self._releases[0] += 1


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], first_row: int, rows: int) -> np.ndarray:
    """Numbers in [0, 1) for `shape`, which begins at `first_row` of an array of `rows` rows.

    Whoever draws any part of that array gets the numbers that a draw of the whole would have there, and leaves the
    generator as that draw would leave it.
    """
    row, bits = math.prod(shape[1:]), cast(np.random.PCG64, rng.bit_generator)
    before, skipped = bits.state, first_row * row
    bits.advance(skipped // 2)  # two float32 are made of each 64-bit number
    numbers = rng.random(skipped % 2 + math.prod(shape), dtype=np.float32)[skipped % 2 :].reshape(shape)
    bits.state = before
    bits.advance((rows * row + 1) // 2)
    return numbers
