"""The LSTM recurrence on a GPU: what `gates.lstm_forward` and `gates.lstm_backward` compute, to rounding.

All T steps are one launch, of a kernel in `lstm.cu`; docs/gpu.md explains it. What has no recurrence in it is done for
all steps together by products of matrices, here. Everything is time-major, (T, B, ...): position t·B + b is row b at
time t, as `Groups` counts. Nothing here waits for the device.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm._support import device
from scratchlstm.rows import GatheredRows

Array = Any  # a CuPy array

_MOST_THREADS = 1024  # of a block
_STEP_THREADS = 256  # of a block, for the kernels of one step
# Registers of 32 bits that a thread of version 3 needs besides its weights, in float32 and float64: some to begin with,
# and some for each batch row. Counted by nvcc for sm_90; were they too few, the compiler would put numbers elsewhere.
_WORKING_REGISTERS = {4: (24, 20), 8: (28, 32)}


class Limits(NamedTuple):
    """What a device has."""

    multiprocessors: int
    registers: int  # of 32 bits, of a multiprocessor
    shared: int  # bytes of shared memory that a block can ask for


class Plan(NamedTuple):
    """How a recurrence is laid out on a device, see lstm.cu."""

    threads: int  # of a block
    rows: int  # of the batch that a block owns
    held: int  # of the numbers of U that a thread owns, a quarter of those that it keeps in registers
    forward_bytes: int  # of shared memory
    backward_bytes: int


@cache
def limits(number: int) -> Limits:
    """Those of the device of that number."""
    has = backend.cupy().cuda.Device(number).attributes
    return Limits(has["MultiProcessorCount"], has["MaxRegistersPerMultiprocessor"], has["MaxSharedMemoryPerBlockOptin"])


def plan(H: int, B: int, itemsize: int, limits: Limits) -> Plan | None:
    """How version 3 keeps all of U in one multiprocessor, in registers and what is over in shared memory.

    Args:
        H: units.
        B: batch rows. A block takes as few as let all blocks run together; more rows for each reading of U's rest.
        itemsize: bytes of a number, 4 or 8.
        limits: of the device.

    Returns:
        The plan, or None where U does not fit.
    """
    part, warps = -(-H // 4), -(-4 * H // 32)
    if 32 * warps > _MOST_THREADS:
        return None
    # a multiprocessor's registers lie in four equal parts, each for every fourth warp, and are given out by eights
    registers = min(255, limits.registers // 4 // (-(-warps // 4) * 32) // 8 * 8)
    to_begin_with, for_a_row = _WORKING_REGISTERS[itemsize]
    best = None
    for rows in (1, 2, 4, 8):
        held = min(part, (registers - to_begin_with - for_a_row * rows) // (itemsize // 4) // 4)
        if held < 0:
            break
        layout = _layout(H, rows, held, itemsize)
        if layout.backward_bytes > limits.shared:
            break
        best = layout
        if rows * limits.multiprocessors >= B:
            break
    return best


def _layout(H: int, rows: int, held: int, itemsize: int) -> Plan:
    """Version 3 with so many batch rows a block and so many weights in registers: see the constants in lstm.cu."""
    part, threads = -(-H // 4), -(-4 * H // 32) * 32
    stride = (-(-part // 4) | 1) * 4
    weights = (part - held) * 4 * threads
    forward, backward = (itemsize * (2 * rows * parts * stride + weights) for parts in (4, 16))
    return Plan(threads, rows, held, forward, backward)


class Workspace(NamedTuple):
    """What a forward pass keeps for the backward pass, step by step as `gates.StepCache`."""

    gates: Array  #   (T, B, 4H)  i f g o
    h_prev: Array  #  (T, B, H)
    c_prev: Array  #  (T, B, H)
    tanh_c: Array  #  (T, B, H)

    @classmethod
    def empty(cls, T: int, B: int, H: int, dtype: np.dtype) -> "Workspace":
        """Room for T steps."""
        return cls(*(backend.cupy().empty((T, B, columns), dtype=dtype) for columns in (4 * H, H, H, H)))

    def fits(self, T: int, B: int, H: int, dtype: np.dtype) -> bool:
        """Whether a pass of these sizes can run in it."""
        return self.gates.shape == (T, B, 4 * H) and self.gates.dtype == dtype


_NOWHERE = Workspace(None, None, None, None)  # for a kernel that keeps nothing


class CupyLSTM:
    """One pass over a batch of sequences, forward then backward; tanh for the candidate and the cell, σ for the gates.

    Args:
        W: kernel, (E, 4H), a CuPy array, as all arrays here.
        U: recurrent kernel, (H, 4H).
        b: bias, (4H,).
        reverse: from the last step to the first.
        version: of the recurrence in lstm.cu: 3, the fastest, or 1 and 2, to study.
    """

    memory: ClassVar = Workspace

    def __init__(self, W: Array, U: Array, b: Array, reverse: bool = False, version: int = 3) -> None:
        self.dtype = np.dtype(U.dtype)
        self.W, self.U, self.b = (self._contiguous(array) for array in (W, U, b))
        self.H, self.reverse, self.version = len(U), reverse, version

    def forward(
        self,
        x: Array | GatheredRows,
        states: Sequence[Array],
        workspace: Workspace | None = None,
        return_sequences: bool = True,
        mask: Array | None = None,
    ) -> tuple[Array, list[Array]]:
        """Equations (1) to (6) at every step; everything is kept for `backward`.

        Args:
            x: (B, T, E), or `GatheredRows` whose values are on the device and whose groups are on the host.
            states: h0 and c0, (B, H).
            workspace: of an earlier pass, overwritten if the shape is the same.
            return_sequences: whether every h_t is wanted or only that of the step computed last.
            mask: (B, T), bool; where False, a row's state stays as it is.

        Returns:
            h: (B, T, H) or (B, H), and the last h and c, (B, H).
        """
        B, T, _ = x.shape
        if workspace is None or not workspace.fits(T, B, self.H, self.dtype):
            workspace = Workspace.empty(T, B, self.H, self.dtype)
        # for the backward pass as they are now: an optimizer writes the new ones over the old
        self.W, self.U = self.W.copy(), self.U.copy()
        return self.infer(x, states, return_sequences, mask, workspace)

    def infer(
        self,
        x: Array | GatheredRows,
        states: Sequence[Array],
        return_sequences: bool = True,
        mask: Array | None = None,
        kept: Workspace | None = None,
    ) -> tuple[Array, list[Array]]:
        """As `forward`, but nothing is kept for `backward`, unless there is a workspace to keep it in."""
        (B, T, _), H, dtype, empty = x.shape, self.H, self.dtype, backend.cupy().empty
        mask = self._contiguous(mask)
        # the distinct rows (K, E), and where each is; or all rows, (T·B, E)
        rows = x.values if isinstance(x, GatheredRows) else x.swapaxes(0, 1).reshape(T * B, x.shape[2])
        groups = x.groups if isinstance(x, GatheredRows) else None
        if kept is not None:
            self.workspace, self.mask, self.rows, self.groups = kept, mask, rows, groups
        z_x = self._contiguous(rows @ self.W)  # the bias is added in the kernel
        index = None if groups is None else groups.on_device.index
        h0, c0 = (self._contiguous(state) for state in states)
        hs = empty((T, B, H), dtype=dtype) if return_sequences else None
        plan = self._plan(B)
        if plan is None:
            h_last, c_last = h0.copy(), c0.copy()
            self._run_by_steps(h_last, c_last, (z_x, index, self.b, mask), kept, hs, T)
        else:
            h_last, c_last = None if return_sequences else empty((B, H), dtype=dtype), empty((B, H), dtype=dtype)
            arrays = z_x, index, self.U, self.b, h0, c0, mask, *(kept or _NOWHERE), hs, h_last, c_last
            self._launch("lstm_forward", plan, plan.forward_bytes, T, B, arrays)
        if hs is None:
            return h_last, [h_last.copy(), c_last]
        return hs.swapaxes(0, 1), [hs[0 if self.reverse else -1].copy(), c_last]

    def backward(
        self,
        dh: Array,
        d_last: Sequence[Array | None],
        input_gradient: bool = True,
        weight_gradients: bool = True,
    ) -> tuple[Array | None, list[Array | None], list[Array]]:
        """Equations (7) to (21) at every step, last to first.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or of the step computed last only, (B, H).
            d_last: what reaches the final h and c besides, (B, H), or None.
            input_gradient: whether dx is wanted.
            weight_gradients: whether dW, dU and db are.

        Returns:
            dx, [dW, dU, db] and [dh0, dc0], None for what is not wanted. dx is (B, T, E), or (K, E) per distinct row if
            the input was `GatheredRows`.
        """
        kept, dtype, empty = self.workspace, self.dtype, backend.cupy().empty
        T, B, H = kept.h_prev.shape
        dh_last, dc_last = d_last
        dhs = dh.swapaxes(0, 1) if dh.ndim == 3 else None
        if dhs is None:
            dh_last = dh if dh_last is None else dh + dh_last
        dhs, dh_last, dc_last = (self._contiguous(d) for d in (dhs, dh_last, dc_last))
        dz, plan = empty((T, B, 4 * H), dtype=dtype), self._plan(B)
        if plan is None:
            dh0, dc0 = self._run_back_by_steps(dhs, dh_last, dc_last, dz)
        else:
            dh0, dc0 = empty((B, H), dtype=dtype), empty((B, H), dtype=dtype)
            arrays = self.U, self.mask, kept.gates, kept.c_prev, kept.tanh_c, dhs, dh_last, dc_last, dz, dh0, dc0
            self._launch("lstm_backward", plan, plan.backward_bytes, T, B, arrays)
        flat = dz.reshape(T * B, 4 * H)
        dz_rows = flat if self.groups is None else self.groups.sum(flat)
        dW = dU = db = None
        if weight_gradients:
            dU = kept.h_prev.reshape(T * B, H).T @ flat  # (20)
            dW, db = self.rows.T @ dz_rows, dz_rows.sum(axis=0)  # (19), (21)
        dx = dz_rows @ self.W.T if input_gradient else None  # (17)
        if dx is not None and self.groups is None:
            dx = dx.reshape(T, B, self.rows.shape[1]).swapaxes(0, 1)
        return dx, [dW, dU, db], [dh0, dc0]

    def _launch(self, name: str, plan: Plan, shared: int, T: int, B: int, arrays: tuple[Array | None, ...]) -> None:
        """All steps at once."""
        if not B:
            return  # CUDA launches no grid without blocks
        sizes = {"UNITS": self.H, "VERSION": self.version}
        if self.version == 3:
            sizes |= {"ROWS": plan.rows, "HELD": plan.held}
        kernel = device.kernel("lstm.cu", name, self.dtype, **sizes)
        arguments = *arrays, np.int32(T), np.int32(B), np.bool_(self.reverse)
        kernel((-(-B // plan.rows),), (plan.threads,), arguments, shared_mem=shared)

    # --- where one multiprocessor does not hold U: a product and a kernel for each step ------------------------------

    def _run_by_steps(
        self, h: Array, c: Array, inputs: tuple, kept: Workspace | None, hs: Array | None, T: int
    ) -> None:
        """From the initial states in h and c to the last ones, in place."""
        B, H = h.shape
        step = device.kernel("lstm.cu", "lstm_step_forward", self.dtype, VERSION=0)
        _, *states = kept or _NOWHERE
        zs = [backend.cupy().empty((B, 4 * H), dtype=self.dtype)] * T if kept is None else kept.gates
        for t in self._times(T if B else 0):
            backend.cupy().matmul(h, self.U, out=zs[t])
            sizes = np.int32(t), np.int32(T), np.int32(B), np.int32(H)
            step(_step_grid(h), (_STEP_THREADS,), (zs[t], h, c, *inputs, *states, hs, *sizes))

    def _run_back_by_steps(
        self, dhs: Array | None, dh_last: Array | None, dc_last: Array | None, dz: Array
    ) -> tuple[Array, Array]:
        """dh0 and dc0; dz is filled."""
        kept, zeros = self.workspace, backend.cupy().zeros
        T, B, H = kept.h_prev.shape
        step = device.kernel("lstm.cu", "lstm_step_backward", self.dtype, VERSION=0)
        dh, dh_past, dc = (zeros((B, H), self.dtype) if d is None else d.copy() for d in (dh_last, None, dc_last))
        for t in reversed(self._times(T if B else 0)):
            sizes = np.int32(t), np.int32(T), np.int32(B), np.int32(H)
            of_forward = kept.gates, kept.c_prev, kept.tanh_c
            step(_step_grid(dh), (_STEP_THREADS,), (dh, dh_past, dc, dhs, self.mask, *of_forward, dz, *sizes))
            backend.cupy().matmul(dz[t], self.U.T, out=dh)  # (18)
        return dh + dh_past, dc

    # --- both --------------------------------------------------------------------------------------------------------

    def _plan(self, B: int) -> Plan | None:
        if self.version == 3:
            return plan(self.H, B, self.dtype.itemsize, limits(backend.cupy().cuda.Device().id))
        threads, bytes_of_h = 4 * self.H, self.H * self.dtype.itemsize  # a thread a column, a row a block
        return Plan(threads, 1, 0, 5 * bytes_of_h, 8 * bytes_of_h) if threads <= _MOST_THREADS else None

    def _times(self, T: int) -> range:
        """Of the steps, in the order in which they are computed."""
        return range(T - 1, -1, -1) if self.reverse else range(T)

    def _contiguous(self, array: Array) -> Array:
        """A kernel is told an array's address and no more: neither its strides nor its dtype."""
        if array is None:
            return None
        return backend.cupy().ascontiguousarray(array, dtype=None if array.dtype == bool else self.dtype)


def _step_grid(h: Array) -> tuple[int]:
    """Blocks for one thread a number of h."""
    return (-(-h.size // _STEP_THREADS),)
