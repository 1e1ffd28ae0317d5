"""One pass through layers: its settings, and what it keeps for the backward pass."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, cast

import numpy as np

from scratchlstm._support import checks
from scratchlstm.rows import GatheredRows


class Cache:
    """What a layer's forward pass keeps for its backward pass.

    It stays valid, no matter how many other passes follow, until its `Pass` is released.

    Attributes:
        layer: the layer it belongs to.
        run: the pass it belongs to.
        shapes: the shape of each output.
        backend: the layer's backend during the pass.
        kept: whatever the layer's own `forward` returned along with y.
    """

    def __init__(self, layer: Any, run: "Pass", made_by: Callable[..., Any], y: Any, kept: Any) -> None:
        self.layer, self.run, self.made_by, self.kept = layer, run, made_by, kept
        self.several = isinstance(y, tuple)
        self.shapes = [part.shape for part in (y if self.several else (y,))]
        self.release, self.backend = run.releases, layer.backend

    @property
    def released(self) -> bool:
        """Whether its memory has been released."""
        return self.release != self.run.releases


class FromLogits(NamedTuple):
    """DL/d(logits) in place of dL/dy, from a loss that sees the logits below the last activation.

    If y is also used elsewhere, `dy` is the gradient from there.
    """

    dz: Any
    dy: Any = None


def at_logits(dy: Any, activation: Any, y: Any) -> Any:
    """dL/d(logits) of y = activation(logits), from dL/dy or `FromLogits`."""
    if not isinstance(dy, FromLogits):
        return activation.backward(y, dy)
    return dy.dz if dy.dy is None else dy.dz + activation.backward(y, dy.dy)


class DropoutMask:
    """Draws dropout masks: 0 with probability `rate`, else 1 / (1 - rate), which keeps the expected sum.

    (Srivastava et al., 2014; "inverted dropout", as in Keras.)

    Args:
        rate: in [0, 1).
        seed: None draws from the model's generator, an integer seeds a generator of the layer's own.
        argument: the name of `rate` in error messages.

    Attributes:
        rng: the generator of the masks, once built.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    def __init__(self, rate: float, seed: int | None = None, argument: str = "rate") -> None:
        self.rate, self.seed = checks.number(argument, rate, at_least=0, below=1), checks.seed(seed)

    def build(self, rng: np.random.Generator | None) -> None:
        """Create the generator; `rng` is its parent if there is no seed."""
        self.rng = checks.generator(rng).spawn(1)[0] if self.seed is None else np.random.default_rng(self.seed)

    def draw(self, shape: tuple[int, ...], dtype: Any, rows: tuple[int, int] | None) -> np.ndarray:
        """A mask (B, ...), drawn by NumPy on every backend; `rows` as in `Pass`."""
        first, total = rows or (0, shape[0])
        kept = _uniform(self.rng, shape, first, total) >= self.rate
        return kept * np.dtype(dtype).type(1 / (1 - self.rate))


class Workspaces:
    """Memory released by earlier passes, for reuse by later ones."""

    def __init__(self) -> None:
        self.free: list[Any] = []

    def take(self, kind: Any, *sizes: Any) -> Any:
        """A workspace of this class for these sizes: a free one, or a new one."""
        for number, one in enumerate(self.free):
            if isinstance(one, kind) and one.fits(*sizes):
                return self.free.pop(number)
        self.free.clear()  # the sizes changed, and workspaces that fit nothing only take up memory
        return kind.empty(*sizes)


class Pass:
    """The settings of a pass. Several passes may share one object and are then released together; a `with` block
    releases them at its end.

    Args:
        training: whether dropout is active.
        rows: (first, total) if a batch is split between processes: the index of our first row, and the total number of
            rows. Dropout masks are then drawn for the whole batch, and we use our rows of them.
        keeps_states: whether stateful layers keep the final states of this pass; if not, they keep their earlier ones.
        seen: called with (cache, dy) in each layer's backward pass, including layers inside others.
        embed: called with the `GatheredRows` of each embedding, in the order of computation; returns what the embedding
            passes on instead: an array of every position, or the rows. Default: the rows.
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
        self._releases = [0]  # a list, shared with `by_step`
        self._taken: list[Any] = []
        self._drawn: list[np.ndarray] = []
        self._repeated: Iterator[np.ndarray] | None = None

    def dropout(self, source: DropoutMask, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """A mask (B, ...) to multiply by, on the CPU; None for all ones: outside training, or at rate 0."""
        if not self.training or source.rate == 0:
            return None
        mask = source.draw(shape, dtype, self.rows) if self._repeated is None else next(self._repeated, None)
        if mask is None or mask.shape != shape:
            had = "none left" if mask is None else f"one of shape {mask.shape}"
            raise ValueError(f"again() repeats masks for the same layers and shapes: it has {had}, not {shape}")
        self._drawn.append(mask)
        return mask

    def again(self, embed: Callable[[GatheredRows], Any] | None = None) -> "Pass":
        """A pass that repeats this one's dropout masks, to run the same layers on other values."""
        twin = Pass(self.training, self.rows, keeps_states=self.keeps_states, embed=embed, workspaces=self.workspaces)
        twin._repeated = iter(self._drawn.copy())
        return twin

    def by_step(self, steps: int) -> "Pass":
        """This pass for a layer that treats each of `steps` time steps as a separate row."""
        inner = copy.copy(self)  # masks and workspaces go to the same lists
        inner.rows = None if self.rows is None else (self.rows[0] * steps, self.rows[1] * steps)
        return inner

    def workspace(self, kind: Any, *sizes: Any) -> Any:
        """Memory for what a pass keeps, until `release`; see `Workspaces.take`."""
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
        """Free the memory of all caches made so far for later passes; these caches can no longer be used."""
        self.workspaces.free += self._taken
        self._taken.clear()
        self._drawn.clear()
        self._releases[0] += 1


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], first_row: int, rows: int) -> np.ndarray:
    """Numbers in [0, 1) for `shape`, which starts at row `first_row` of an array with `rows` rows.

    Whoever draws a part of that array gets the same numbers as a draw of the whole array, and leaves the generator in
    the same state.
    """
    row, bits = math.prod(shape[1:]), cast(np.random.PCG64, rng.bit_generator)
    before, skipped = bits.state, first_row * row
    bits.advance(skipped // 2)  # each 64-bit number makes two float32
    numbers = rng.random(skipped % 2 + math.prod(shape), dtype=np.float32)[skipped % 2 :].reshape(shape)
    bits.state = before
    bits.advance((rows * row + 1) // 2)
    return numbers
