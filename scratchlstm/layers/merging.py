"""Layers that merge several inputs into one."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm._support.masks import of_rank
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.weights import Shape, Specs, as_shape, with_batch
from scratchlstm.rows import as_array


class Merging(Layer):
    """The base class of layers with several inputs, `layer([a, b])`: one batch size, and each may have a mask.

    To write your own, define `output_shape`, which takes a list of shapes and raises `misfit` for those it cannot take.
    With `passes_mask = False` the output has no mask.
    """

    merges: ClassVar = True
    passes_mask = True

    def plan(self, input_shape: Any) -> Specs:
        checks.instance(f"input_shape of {self.name}", input_shape, list | tuple, "a list of shapes")
        shapes: Any = [as_shape(shape, "each input_shape") for shape in input_shape]
        self.output_shape(shapes)
        return self.param_specs(shapes)

    def receive(self, x: Any) -> list[Array]:
        """The inputs as arrays in the layer's dtype.

        Raises:
            TypeError: not a list.
            ValueError: shapes that do not match.
        """
        if not isinstance(x, list | tuple):
            raise TypeError(f"{self.name} takes a list of inputs, not {type(x).__name__}")
        inputs = [self.place(self.cast(as_array(each))) for each in x]
        if len({each.shape[:1] for each in inputs}) > 1:
            shapes = ", ".join(str(each.shape) for each in inputs)
            raise ValueError(f"{self.name} takes inputs with the same batch size, but got shapes {shapes}")
        of_samples: Any = [each.shape[1:] for each in inputs]
        self.build(of_samples)
        return inputs

    def output_mask(self, x: Any, mask: Any) -> np.ndarray | None:
        """The output's mask, from the list of the inputs' masks: a step is valid if it is valid in any of them."""
        if not self.passes_mask or any(m is None for m in mask) or len({each.ndim for each in x}) > 1:
            return None
        return functools.reduce(np.logical_or, mask)

    def gives_mask(self, masked: Any) -> bool:
        return self.passes_mask and bool(np.all(masked))

    def misfit(self, wanted: str, shapes: Iterable[Shape]) -> ValueError:
        """The error for inputs of these shapes."""
        given = ", ".join(map(with_batch, shapes)) or "(none)"
        return ValueError(f"{self.name} takes {wanted}, but got shapes {given}")


class Concatenate(Merging):
    """Joins inputs along an axis: `Concatenate()([a, b])`.

    Args:
        axis: the axis to join along; -1 is the last, the features.
        options: name, dtype; see `Layer`.

    Input: a list of (B, ..., E_k), equal except along the axis. Output: (B, ..., ΣE_k).

    If any input has a mask, a step of the output is valid if it is valid in any input (an input without a mask is valid
    throughout), as in Keras; along the time axis the masks are concatenated, too.
    """

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.axis = _axis("axis", axis)

    def output_shape(self, input_shape: Any) -> Shape:
        rank = len(input_shape[0]) + 1 if input_shape else 0
        axis = self.axis % rank if -rank <= self.axis < rank else 0
        others = {(*shape[: axis - 1], *shape[axis:]) for shape in input_shape if axis and len(shape) == rank - 1}
        if len(others) != 1 or any(len(shape) != rank - 1 for shape in input_shape):
            raise self.misfit(f"a list of inputs with the same shape except along axis {self.axis}", input_shape)
        shape, sizes = list(input_shape[0]), [shape[axis - 1] for shape in input_shape]
        shape[axis - 1] = None if None in sizes else sum(sizes)
        return tuple(shape)

    def output_mask(self, x: Any, mask: Any) -> np.ndarray | None:
        """The output's mask, from the list of the inputs' masks."""
        if all(m is None for m in mask):
            return None
        masks = [np.ones(each.shape[:2], bool) if m is None else m for each, m in zip(x, mask, strict=True)]
        return np.concatenate(masks, axis=1) if self.axis % x[0].ndim == 1 else np.logical_or.reduce(masks)

    def gives_mask(self, masked: Any) -> bool:
        return bool(np.any(masked))

    def forward(self, x: Sequence[Array]) -> tuple[Array, list[int]]:
        return np.concatenate(x, axis=self.axis), [each.shape[self.axis] for each in x]

    def backward(self, dy: Array, cache: list[int]) -> tuple[list[Array], Gradients]:
        return np.split(dy, np.cumsum(cache)[:-1].tolist(), axis=self.axis), {}


class _Elementwise(Merging):
    """Merges element by element, broadcasting sizes of 1; missing dimensions are inserted after the batch's."""

    def output_shape(self, input_shape: Any) -> Shape:
        rank = max(map(len, input_shape), default=0)
        by_axis = zip(*((1,) * (rank - len(shape)) + tuple(shape) for shape in input_shape), strict=True)
        larger = [set(sizes) - {1} for sizes in by_axis]  # None, a size left open, may turn out to be anything
        if not input_shape or any(len(sizes - {None}) > 1 for sizes in larger):
            raise self.misfit("a list of inputs whose sizes are equal or 1", input_shape)
        return tuple(max(sizes - {None}, default=None if sizes else 1) for sizes in larger)

    def aligned(self, x: Sequence[Array]) -> list[Array]:
        """The inputs with the same number of dimensions."""
        rank = max(each.ndim for each in x)
        return [each.reshape(len(each), *(1,) * (rank - each.ndim), *each.shape[1:]) for each in x]


class Add(_Elementwise):
    """The sum of the inputs, element by element: `Add()([a, b])`.

    Args:
        options: name, dtype; see `Layer`.

    Input: a list of (B, ...). A size of 1 is repeated to fit the others, and an input with fewer dimensions gets sizes
    of 1 after the batch's: (B, T, E) and (B, E) fit. Output: (B, ...).

    If all inputs have masks, a step is valid if it is valid in any of them; otherwise the output has no mask, as in
    Keras. Nor has it one if the inputs differ in their number of dimensions.
    """

    def forward(self, x: Sequence[Array]) -> tuple[Array, list[tuple[int, ...]]]:
        return functools.reduce(np.add, self.aligned(x)), [each.shape for each in x]

    def backward(self, dy: Array, cache: list[tuple[int, ...]]) -> tuple[list[Array], Gradients]:
        return [_summed(dy, shape) for shape in cache], {}


class Multiply(_Elementwise):
    """The product of the inputs, element by element: `Multiply()([a, b])`.

    Args:
        options: name, dtype; see `Layer`.

    Input and output: as for `Add`.

    An input counts as 1 at its masked steps, as in Keras. If all inputs have masks, a step is valid if it is valid in
    any of them, and the output is 0 at the others; otherwise the output has no mask. The same holds if the inputs
    differ in their number of dimensions (Keras then reads only the masks of those with the most).
    """

    def forward(self, x: Sequence[Array], mask: Any = None) -> tuple[Array, tuple[list[Array], Any]]:
        masks = [None if m is None else self._over_features(m, each.ndim) for m, each in zip(mask, x, strict=True)]
        one = np.dtype(self.dtype).type(1)
        factors = [each if m is None else np.where(m, each, one) for m, each in zip(masks, x, strict=True)]
        y, counts = functools.reduce(np.multiply, self.aligned(factors)), self.output_mask(x, mask)
        return (y if counts is None else y * self._over_features(counts, y.ndim)), (factors, masks)

    def backward(self, dy: Array, cache: tuple[list[Array], Any]) -> tuple[list[Array], Gradients]:
        factors, masks = cache
        aligned, dx = self.aligned(factors), []
        for number, (factor, m) in enumerate(zip(factors, masks, strict=True)):
            others = aligned[:number] + aligned[number + 1 :]
            d = _summed(functools.reduce(np.multiply, others, dy), factor.shape)
            dx.append(d if m is None else d * m)
        return dx, {}

    def _over_features(self, mask: np.ndarray, rank: int) -> Array:
        """A mask (B, T) as (B, T, 1, ...), on the layer's backend."""
        return backend.to(self.backend, of_rank(mask, rank))


class Dot(Merging):
    """Products of two inputs, summed over one axis of each: `Dot(axes=1)([a, b])`, like Keras' `batch_dot`.

    Args:
        axes: the axis of both inputs, or a pair with one for each; 0, the batch axis, is not allowed.
        normalize: divide each vector along its axis by its length first, so that the products are cosines.
        options: name, dtype; see `Layer`.

    Input: a list of two, each (B, ..., K, ...). Output: (B, ...), the remaining sizes of the first, then of the second;
    or (B, 1). The output has no mask.

    A vector shorter than 1e-7 is multiplied by 1e7 instead, as in Keras (whose gradient is NaN for a vector of zeros).

    Raises:
        ValueError: axes that are not whole numbers, or the batch axis.
    """

    passes_mask = False

    def __init__(self, axes: Any, normalize: bool = False, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        pair = axes if isinstance(axes, list | tuple) else (axes, axes)
        if len(pair) != 2:
            raise ValueError(f"axes must be a whole number or two, one for each input, not {checks.came(axes)}")
        self._pair = tuple(_axis("axes", axis) for axis in pair)
        self.axes = self._pair if isinstance(axes, list | tuple) else self._pair[0]
        self.normalize = checks.flag("normalize", normalize)

    def output_shape(self, input_shape: Any) -> Shape:
        ranks = [len(shape) + 1 for shape in input_shape]
        if len(ranks) != 2:
            raise self.misfit("a list of two inputs", input_shape)
        if not all(-rank < axis < rank for axis, rank in zip(self._pair, ranks, strict=True)):
            raise self.misfit(f"two inputs with the axes {self._pair}", input_shape)
        axes = [axis % rank - 1 for axis, rank in zip(self._pair, ranks, strict=True)]
        sizes = {shape[axis] for axis, shape in zip(axes, input_shape, strict=True)}
        if len(sizes - {None}) > 1:
            raise self.misfit(f"two inputs of the same size along the axes {self._pair}", input_shape)
        a, b = ((*shape[:axis], *shape[axis + 1 :]) for axis, shape in zip(axes, input_shape, strict=True))
        return a + b or (1,)

    def forward(self, x: Sequence[Array]) -> tuple[Array, tuple["_Vectors", "_Vectors"]]:
        a, b = (_Vectors.of(each, axis, self.normalize) for each, axis in zip(x, self._pair, strict=True))
        y = a.rows @ b.rows.swapaxes(1, 2)  # (B, M, N)
        return y.reshape(len(y), *(a.others + b.others or (1,))), (a, b)

    def backward(self, dy: Array, cache: tuple["_Vectors", "_Vectors"]) -> tuple[list[Array], Gradients]:
        a, b = cache
        dy = dy.reshape(len(dy), a.rows.shape[1], b.rows.shape[1])  # (B, M, N)
        return [a.backward(dy @ b.rows), b.backward(dy.swapaxes(1, 2) @ a.rows)], {}


class _Vectors(NamedTuple):
    """The vectors of an input along one axis."""

    rows: Array  # (B, M, K), of length 1 if normalized
    others: tuple[int, ...]  # the sizes whose product is M
    axis: int
    scale: Array | None  # (B, M, 1), the factor that normalized them

    @classmethod
    def of(cls, x: Array, axis: int, normalize: bool) -> "_Vectors":
        last = np.moveaxis(x, axis, -1)
        others = last.shape[1:-1]
        rows = last.reshape(len(x), math.prod(others), x.shape[axis])
        if not normalize:
            return cls(rows, others, axis, None)
        length = np.sqrt(np.sum(rows * rows, axis=-1, keepdims=True))
        scale = 1 / np.maximum(length, length.dtype.type(_SHORTEST))
        return cls(rows * scale, others, axis, scale)

    def backward(self, d: Array) -> Array:
        """The gradient with respect to x, from the gradient with respect to the rows."""
        if self.scale is not None:
            # the length depends on every element, so d's component along the vector cancels, unless it was too short
            counts = self.scale < 1 / self.scale.dtype.type(_SHORTEST)
            along = np.sum(d * self.rows, axis=-1, keepdims=True) * counts
            d = self.scale * (d - along * self.rows)
        return np.moveaxis(d.reshape(len(d), *self.others, d.shape[-1]), -1, self.axis)


_SHORTEST = 1e-7  # Keras' epsilon


def _axis(argument: str, value: Any) -> int:
    """The number of an axis other than the batch axis.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value == 0:
        raise ValueError(f"{argument} must be a whole number other than 0 (the batch axis), not {value!r}")
    return int(value)


def _summed(d: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of an input of this shape from that of its broadcast version: summed over the broadcast axes."""
    aligned = (shape[0], *(1,) * (d.ndim - len(shape)), *shape[1:])
    repeated = tuple(axis for axis, size in enumerate(aligned) if size != d.shape[axis])
    return (d.sum(axis=repeated) if repeated else d).reshape(shape)
