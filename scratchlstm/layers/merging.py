"""Several inputs made one."""

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import numpy as np

from scratchlstm._support.checks import instance
from scratchlstm.backend import Array
from scratchlstm.layers.base import Gradients, Layer, LayerOptions
from scratchlstm.layers.weights import Shape, as_shape
from scratchlstm.rows import as_array


class Concatenate(Layer):
    """Inputs side by side, in a `Model`: `Concatenate()([a, b])`.

    Args:
        axis: along which; -1 is the last, the features.
        options: name, dtype, see `Layer`.

    Input: a list of (B, ..., E_k), alike but for the axis. Output: (B, ..., ΣE_k).

    Where an input has a mask, a step of the output counts if it does in any of them (an input without a mask counts
    throughout), as in Keras; along the time axis the masks are put side by side, too.
    """

    merges: ClassVar = True
    passes_mask = True

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or axis == 0:
            raise ValueError(f"axis must be a whole number other than 0, the batch's, not {axis!r}")
        self.axis = int(axis)

    def plan(self, input_shape: Any) -> dict[str, Any]:
        self._sizes(input_shape)
        return {}

    def output_shape(self, input_shape: Any) -> Shape:
        sizes, axis = self._sizes(input_shape)
        shape = list(input_shape[0])
        shape[axis - 1] = None if None in sizes else sum(sizes)  # type: ignore[arg-type]
        return tuple(shape)

    def receive(self, x: Any) -> list[np.ndarray]:
        """The inputs as arrays in the layer's dtype.

        Raises:
            TypeError: no list.
            ValueError: shapes that do not fit.
        """
        if not isinstance(x, list | tuple):
            raise TypeError(f"{self.name} takes a list of inputs, not {type(x).__name__}")
        inputs = [self.place(self.cast(as_array(each))) for each in x]
        if len({each.shape[:1] for each in inputs}) > 1:
            shapes = ", ".join(str(each.shape) for each in inputs)
            raise ValueError(f"{self.name} takes inputs of one batch size, not of shapes {shapes}")
        self._sizes([each.shape[1:] for each in inputs])
        return inputs

    def output_mask(self, x: Any, mask: Any) -> np.ndarray | None:
        """Of the output, from the list of the inputs' masks."""
        if all(m is None for m in mask):
            return None
        masks = [np.ones(each.shape[:2], bool) if m is None else m for each, m in zip(x, mask, strict=True)]
        return np.concatenate(masks, axis=1) if self.axis % x[0].ndim == 1 else np.logical_or.reduce(masks)

    def forward(self, x: Sequence[Array]) -> tuple[Array, list[int]]:
        return np.concatenate(x, axis=self.axis), [each.shape[self.axis] for each in x]

    def backward(self, dy: Array, cache: list[int]) -> tuple[list[Array], Gradients]:
        return np.split(dy, np.cumsum(cache)[:-1].tolist(), axis=self.axis), {}

    def _sizes(self, shapes: Any) -> tuple[list[int | None], int]:
        """Each input's size along the axis, and the number of the axis, the batch's being 0."""
        instance(f"input_shape of {self.name}", shapes, list | tuple, "a list of shapes")
        shapes = [as_shape(shape, "each input_shape") for shape in shapes]
        rank = len(shapes[0]) + 1 if shapes else 0
        axis = self.axis % rank if -rank <= self.axis < rank else 0
        others = {(*shape[: axis - 1], *shape[axis:]) for shape in shapes if axis and len(shape) == rank - 1}
        if len(others) != 1 or any(len(shape) != rank - 1 for shape in shapes):
            given = ", ".join(str((None, *shape)) for shape in shapes) or "(none)"
            wanted = f"a list of inputs of one shape but for axis {self.axis}"
            raise ValueError(f"{self.name} takes {wanted}, not of shapes {given}")
        return [shape[axis - 1] for shape in shapes], axis
