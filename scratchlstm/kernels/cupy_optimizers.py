"""One step of an optimizer on the device, for all parameters at once: see `optimizers.cu`.

Two launches: check the gradients, update the parameters. Clipping norms needs another in between, and averages one more
at the end. The host waits for none of them, and uploads nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from scratchlstm import backend
from scratchlstm._support import device
from scratchlstm.rows import Gradient, RowGradient

if TYPE_CHECKING:
    from scratchlstm.optimizers import Optimizer

_SIZES = {"THREADS": 256, "EACH": 4, "EACH_CHECKED": 16, "MOST": 48}  # see optimizers.cu

_LARGEST = 2**31 - 1  # most elements of a parameter; the kernels count in 32 bits

# as in optimizers.cu
_POINTERS = ("w", "u8"), ("g", "u8"), ("slots", "u8", 2), ("average", "u8"), ("ids", "u8"), ("place", "u8")
_SIZES_OF_ONE = "size", "gradient_size", "columns", "K", "first_block", "first_check"
_PARAMETER = np.dtype([*_POINTERS, *((name, "u4") for name in _SIZES_OF_ONE)], align=True)
_CLIPPING = np.dtype([("factors", np.uint64), ("value", np.float64)], align=True)


def apply(
    optimizer: "Optimizer",
    params: Sequence[Any],
    grads: Sequence[Gradient | None],
    learning_rate: float,
    broken: Any,
    loss: Any = None,
) -> None:
    """Update every parameter, and the optimizer's state, if all gradients are finite.

    Args:
        optimizer: one with a `kernel`; its `state` is built, and its `iterations` counts this step.
        params: CuPy arrays, changed in place.
        grads: of the same shapes. A `RowGradient` may have its ids on the device (as in `Groups.on_device`), in any
            order. None: the parameter is left alone.
        learning_rate: the learning rate of this step.
        broken: int32, (1,): 0, or the first step whose gradients or loss were not finite; set to this step if they are
            not. While it is not 0, nothing is changed. None starts at 0.
        loss: a number on the device that must also be finite, or None.

    Raises:
        ValueError: a gradient that does not match its parameter; a parameter that is not contiguous, or has more
            than 2^31 - 1 elements.
    """
    cupy = backend.cupy()
    if broken is None:
        broken = cupy.zeros((1,), dtype=np.int32)
    given = zip(range(len(params)), params, optimizer.state, grads, strict=True)
    tables = _tables(optimizer, [(number, w, slots) for number, w, slots, g in given if g is not None], loss)
    held = [table.take(grads) for table in tables]  # what the tables point to, kept until the kernels are launched
    starts = np.cumsum([0, *(table.checks for table in tables)])
    square_norms = cupy.empty((max(1, starts[-1]),), dtype=np.float64)
    of_tables = [square_norms[start : start + table.checks] for start, table in zip(starts[:-1], tables, strict=True)]
    for number, (table, own) in enumerate(zip(tables, of_tables, strict=True)):
        of_loss = None if number or loss is None else loss.astype(table.dtype, copy=False)  # one table checks it
        table.launch("check", table.checks + 1, of_loss, np.int32(optimizer.iterations), broken, own)
    name, *settings = optimizer.kernel(learning_rate)
    numbers = [np.int32(each) if isinstance(each, bool) else np.float64(each) for each in settings]
    part = 1 if optimizer.iterations == 1 else 1 - optimizer.ema_momentum
    for table, own in zip(tables, of_tables, strict=True):
        clipping = np.zeros(1, _CLIPPING)
        clipping["value"] = optimizer.clipvalue or 0
        if optimizer.clips_norms and table.count:
            each = optimizer.clipnorm is not None
            parts, together = (own, 0) if each else (square_norms, starts[-1])
            clip = np.float64(optimizer.clipnorm if each else optimizer.global_clipnorm)
            factors = cupy.empty((table.count,), dtype=np.float64)
            table.launch("clip_factors", table.count, parts, np.int32(together), clip, factors)
            clipping["factors"] = factors.data.ptr
        if table.blocks:
            table.launch(name, table.blocks, broken, clipping, *numbers)
            if optimizer.use_ema:
                table.launch("move_average", table.blocks, broken, np.float64(part), np.int32(optimizer.overwrites))
    del held


class _Table:
    """Up to MOST parameters of one dtype, in the form the kernels read.

    Attributes:
        count: number of parameters.
        blocks: number of blocks that update them.
        checks: number of blocks that check their gradients.
    """

    def __init__(self, dtype: np.dtype, members: Sequence[tuple[int, Any, dict[str, Any]]]) -> None:
        layout = np.dtype([("count", np.uint32), ("checks", np.uint32), ("at", _PARAMETER, _SIZES["MOST"])], align=True)
        self.dtype, self.count = dtype, len(members)
        self.members = members  # including the slots, held so that their addresses stay valid
        self.places: dict[int, Any] = {}
        self.struct = np.zeros(1, layout)
        self.struct["count"] = self.count
        self.at = self.struct["at"][0][: self.count]
        for at, (number, w, slots) in zip(self.at, members, strict=True):
            for array in (w, *slots.values()):
                if not array.flags.c_contiguous or array.size > _LARGEST:
                    raise ValueError(
                        f"parameter {number}, of shape {w.shape}: a GPU's optimizer takes contiguous arrays of at most "
                        f"{_LARGEST} numbers"
                    )
            at["w"], at["size"] = w.data.ptr, w.size
            pointers = {name: array.data.ptr for name, array in slots.items()}
            at["average"] = pointers.pop("average", 0)
            at["slots"][: len(pointers)] = list(pointers.values())
        blocks = -(-self.at["size"].astype(int) // (_SIZES["THREADS"] * _SIZES["EACH"]))
        self.at["first_block"] = np.cumsum(blocks) - blocks
        self.blocks, self.checks = int(blocks.sum()), 0

    def take(self, grads: Sequence[Any]) -> list[Any]:
        """Point to this step's gradients; returns the arrays pointed to.

        Raises:
            ValueError: one that does not match its parameter.
        """
        cupy, held = backend.cupy(), []
        for p, (number, w, _) in enumerate(self.members):
            g, at = grads[number], self.at[p]
            if g.shape != w.shape or g.dtype != w.dtype:
                raise ValueError(
                    f"parameter {number} is {w.dtype} of shape {w.shape}, but its gradient {g.dtype} of shape {g.shape}"
                )
            if isinstance(g, RowGradient):
                values, ids = cupy.ascontiguousarray(g.values), cupy.asarray(g.ids, dtype=np.int32)
                if p not in self.places:
                    self.places[p] = cupy.zeros((len(w),), dtype=np.int32)
                at["columns"], at["K"] = max(1, w.shape[1]), len(ids)
                at["ids"], at["place"] = ids.data.ptr, self.places[p].data.ptr
                held.append(ids)
            else:
                values = cupy.ascontiguousarray(g)
                at["columns"], at["K"], at["ids"], at["place"] = 1, 0, 0, 0
            held.append(values)
            at["g"], at["gradient_size"] = values.data.ptr, values.size
        checks = -(-self.at["gradient_size"].astype(int) // (_SIZES["THREADS"] * _SIZES["EACH_CHECKED"]))
        self.at["first_check"] = np.cumsum(checks) - checks
        self.checks = int(checks.sum())
        self.struct["checks"] = self.checks
        return held

    def launch(self, name: str, blocks: int, *args: Any) -> None:
        """Run a kernel of optimizers.cu."""
        kernel = device.kernel("optimizers.cu", name, self.dtype, **_SIZES)
        kernel((blocks,), (_SIZES["THREADS"],), (self.struct, *args))


# for each optimizer: the arrays the tables are for, by address, and the tables
_made: "WeakKeyDictionary[Optimizer, tuple[list[int], list[_Table]]]" = WeakKeyDictionary()


def forget(optimizer: "Optimizer") -> None:
    """Release the arrays that this optimizer's tables are for."""
    _made.pop(optimizer, None)


def _tables(optimizer: "Optimizer", members: Sequence[tuple[int, Any, dict[str, Any]]], loss: Any) -> list[_Table]:
    """The tables of these parameters, rebuilt if the parameters change; at least one, which checks the loss.

    Args:
        optimizer: whose tables.
        members: number, parameter and slots of each trained parameter.
        loss: loss of the step, or None.
    """
    addresses = [array.data.ptr for _, w, slots in members for array in (w, *slots.values())]
    if optimizer not in _made or _made[optimizer][0] != addresses:
        alone = np.dtype(np.float32) if loss is None else loss.dtype
        dtypes = list(dict.fromkeys(w.dtype for _, w, _ in members)) or [alone]
        tables, most = [], _SIZES["MOST"]
        for dtype in dtypes:
            alike = [member for member in members if member[1].dtype == dtype]
            tables += [_Table(dtype, alike[k : k + most]) for k in range(0, max(1, len(alike)), most)]
        _made[optimizer] = addresses, tables
    return _made[optimizer][1]
