"""The LSTM recurrence on a GPU: the same as `gates.lstm_forward` and `gates.lstm_backward`, up to rounding.

All T steps are one launch of a kernel in `lstm.cu`; docs/gpu.md explains it. Everything without a recurrence is done
here, for all steps at once, with matrix products. Arrays are time-major, (T, B, ...): position t·B + b is row b at time
t, as in `Groups`. Nothing here waits for the device.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from scratchlstm import backend
from scratchlstm._support import device
from scratchlstm.rows import GatheredRows

Array = Any  # a CuPy array

_MOST_THREADS = 1024  # most threads per block
_STEP_THREADS = 256  # threads per block, for the kernels of one step
# Registers of 32 bits that a thread of version 3 needs besides its weights, in float32 and float64: a base number,
# and more for each batch row. Counted by nvcc for sm_90; with too few, the compiler would spill values.
_WORKING_REGISTERS = {4: (24, 20), 8: (28, 32)}


class Limits(NamedTuple):
    """The limits of a device."""

    multiprocessors: int
    registers: int  # 32-bit registers of a multiprocessor
    shared: int  # bytes of shared memory a block can request


class Plan(NamedTuple):
    """How a recurrence is laid out on a device; see lstm.cu."""

    threads: int  # threads per block
    rows: int  # batch rows owned by a block
    held: int  # a quarter of the elements of U that a thread keeps in registers
    forward_bytes: int  # of shared memory
    backward_bytes: int


@cache
def limits(number: int) -> Limits:
    """The limits of the device with this number."""
    has = backend.cupy().cuda.Device(number).attributes
    return Limits(has["MultiProcessorCount"], has["MaxRegistersPerMultiprocessor"], has["MaxSharedMemoryPerBlockOptin"])


def plan(H: int, B: int, itemsize: int, limits: Limits) -> Plan | None:
    """Lay out version 3, which keeps all of U in one multiprocessor: in registers, and the rest in shared memory.

    Args:
        H: units.
        B: batch rows. A block takes as few as allow all blocks to run at once, more if the rest of U is read.
        itemsize: bytes per element, 4 or 8.
        limits: limits of the device.

    Returns:
        the plan, or None if U does not fit.
    """
    part, warps = -(-H // 4), -(-4 * H // 32)
    if 32 * warps > _MOST_THREADS:
        return None
    # a multiprocessor's registers are in four equal banks, each for every fourth warp, and allocated in eights
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
    """Version 3 with this many batch rows per block and weights in registers: see the constants in lstm.cu."""
    part, threads = -(-H // 4), -(-4 * H // 32) * 32
    stride = (-(-part // 4) | 1) * 4
    weights = (part - held) * 4 * threads
    forward, backward = (itemsize * (2 * rows * parts * stride + weights) for parts in (4, 16))
    return Plan(threads, rows, held, forward, backward)


class Workspace(NamedTuple):
    """What a forward pass keeps for the backward pass, step by step, like `gates.StepCache`."""

    gates: Array  #   (T, B, 4H)  i f g o
    h_prev: Array  #  (T, B, H)
    c_prev: Array  #  (T, B, H)
    tanh_c: Array  #  (T, B, H)

    @classmethod
    def empty(cls, T: int, B: int, H: int, dtype: np.dtype) -> "Workspace":
        """Memory for T steps."""
        return cls(*(backend.cupy().empty((T, B, columns), dtype=dtype) for columns in (4 * H, H, H, H)))

    def fits(self, T: int, B: int, H: int, dtype: np.dtype) -> bool:
        """Whether a pass with these sizes fits."""
        return self.gates.shape == (T, B, 4 * H) and self.gates.dtype == dtype


_NOWHERE = Workspace(None, None, None, None)  # for a kernel that keeps nothing


class CupyLSTM:
    """One pass over a batch of sequences, forward then backward; tanh for the candidate and the cell, σ for the gates.

    Args:
        W: kernel, (E, 4H), a CuPy array, like all arrays here.
        U: recurrent kernel, (H, 4H).
        b: bias, (4H,).
        reverse: from the last step to the first.
        version: version of the recurrence in lstm.cu: 3, the fastest, or 1 and 2, for study.
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
        """Compute equations (1) to (6) at every step; everything is kept for `backward`.

        Args:
            x: (B, T, E), or `GatheredRows` whose values are on the device and whose groups are on the host.
            states: h0 and c0, (B, H).
            workspace: the workspace of an earlier pass, overwritten if the shape is the same.
            return_sequences: whether to return every h_t or only that of the last step computed.
            mask: (B, T), bool; where False, a row's state does not change.

        Returns:
            h: (B, T, H) or (B, H), and the last h and c, (B, H).
        """
        B, T, _ = x.shape
        if workspace is None or not workspace.fits(T, B, self.H, self.dtype):
            workspace = Workspace.empty(T, B, self.H, self.dtype)
        # copies for the backward pass: an optimizer overwrites the originals
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
        """Like `forward`, but nothing is kept for `backward`, unless there is a workspace to keep it in."""
        (B, T, _), H, dtype, empty = x.shape, self.H, self.dtype, backend.cupy().empty
        mask = self._contiguous(mask)
        # the distinct rows (K, E), and each position's row; or all rows, (T·B, E)
        rows = x.values if isinstance(x, GatheredRows) else x.swapaxes(0, 1).reshape(T * B, x.shape[2])
        groups = x.groups if isinstance(x, GatheredRows) else None
        if kept is not None:
            self.workspace, self.mask, self.rows, self.groups = kept, mask, rows, groups
        z_x = self._contiguous(rows @ self.W)  # the kernel adds the bias
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
        """Compute equations (7) to (21) at every step, last to first.

        Args:
            dh: dL/dh_t for every step, (B, T, H), or only for the last step computed, (B, H).
            d_last: further gradients of the final h and c, (B, H), or None.
            input_gradient: whether to compute dx.
            weight_gradients: whether to compute dW, dU and db.

        Returns:
            dx, [dW, dU, db] and [dh0, dc0], None for what is not needed. dx is (B, T, E), or (K, E) per distinct row if
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
        """Launch all steps at once."""
        if not B:
            return  # CUDA does not launch empty grids
        sizes = {"UNITS": self.H, "VERSION": self.version}
        if self.version == 3:
            sizes |= {"ROWS": plan.rows, "HELD": plan.held}
        kernel = device.kernel("lstm.cu", name, self.dtype, **sizes)
        arguments = *arrays, np.int32(T), np.int32(B), np.bool_(self.reverse)
        kernel((-(-B // plan.rows),), (plan.threads,), arguments, shared_mem=shared)

    # --- if U does not fit into one multiprocessor: a product and a kernel for each step ------------------------------

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
        """Fill dz; returns dh0 and dc0."""
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
        threads, bytes_of_h = 4 * self.H, self.H * self.dtype.itemsize  # one thread per column, one row per block
        return Plan(threads, 1, 0, 5 * bytes_of_h, 8 * bytes_of_h) if threads <= _MOST_THREADS else None

    def _times(self, T: int) -> range:
        """The times of the steps, in the order of computation."""
        return range(T - 1, -1, -1) if self.reverse else range(T)

    def _contiguous(self, array: Array) -> Array:
        """A kernel only gets an array's address, neither its strides nor its dtype."""
        if array is None:
            return None
        return backend.cupy().ascontiguousarray(array, dtype=None if array.dtype == bool else self.dtype)


def _step_grid(h: Array) -> tuple[int]:
    """Blocks for one thread per element of h."""
    return (-(-h.size // _STEP_THREADS),)
