"""What the tests of the GPU's recurrence share: a pass both ways by the kernels, and by the textbook."""

import contextlib
import dataclasses
import types

import numpy as np
import pytest
import raw_module

from scratchlstm import backend, gates
from scratchlstm.kernels import cupy_lstm, device
from scratchlstm.kernels.cupy_lstm import CupyLSTM, Limits
from scratchlstm.kernels.rows import GatheredRows, Groups

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
H100 = Limits(multiprocessors=132, registers=65536, shared=232448)


@contextlib.contextmanager
def on_emulator():
    """CuPy played by NumPy and the emulator, on an H100."""
    cupy = numpy_as_cupy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "cupy", lambda: cupy)
        patch.setattr(cupy_lstm, "limits", lambda number: H100)
        device.kernel.cache_clear()
        device._module.cache_clear()
        yield
    device.kernel.cache_clear()
    device._module.cache_clear()


def numpy_as_cupy():
    """What the module uses of CuPy; arrays are NumPy's, and memory that nobody wrote is NaN."""
    names = ("asarray", "ascontiguousarray", "matmul", "zeros")
    return types.SimpleNamespace(
        **{name: getattr(np, name) for name in names},
        empty=lambda shape, dtype: np.full(shape, np.nan, dtype=dtype),
        RawModule=raw_module.RawModule,
        cuda=types.SimpleNamespace(
            compiler=types.SimpleNamespace(CompileException=raw_module.CompileException),
            Device=lambda number=0: types.SimpleNamespace(id=number),
        ),
    )


@dataclasses.dataclass
class Case:
    """A pass both ways, every array random and not zero."""

    B: int = 3
    T: int = 4
    E: int = 2
    H: int = 5
    dtype: str = "float64"
    sequences: bool = True
    tokens: bool = False
    masked: bool = False
    reverse: bool = False
    last: bool = True  # gradients on the final states
    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        B, T, E, H = self.B, self.T, self.E, self.H

        def draw(*shape, scale=0.4):
            return rng.normal(scale=scale, size=shape).astype(self.dtype)

        self.W, self.U, self.b = draw(E, 4 * H), draw(H, 4 * H, scale=0.8 / np.sqrt(H)), draw(4 * H)
        self.h0, self.c0, self.dh_last, self.dc_last = (draw(B, H) for _ in range(4))
        if self.tokens:
            groups = Groups(rng.integers(0, 5, size=(B, T)))
            self.x = GatheredRows(draw(len(groups.ids), E), groups, (5, E))
        else:
            self.x = draw(B, T, E)
        self.dh = draw(B, T, H) if self.sequences else draw(B, H)
        self.mask = None
        if self.masked:
            self.mask = rng.random((B, T)) < 0.6
            self.mask[B // 2] = False  # a whole row, and a whole step
            self.mask[:, T // 2] = False

    def lstm(self, **options):
        return CupyLSTM(self.W, self.U, self.b, self.reverse, **options)

    def results(self, **options):
        """h, c, dx, dW, dU, db, dh0, dc0 by the kernels."""
        lstm = self.lstm(**options)
        h, c = lstm.forward(self.x, self.h0, self.c0, None, self.sequences, self.mask)
        of_last = (self.dh_last, self.dc_last) if self.last else (None, None)
        return h, c, *lstm.backward(self.dh, *of_last)

    def textbook(self):
        """The same by `gates`, in float64, so that only the kernels' rounding shows."""
        order = slice(None, None, -1 if self.reverse else 1)
        x, h0, c0, W, U, b, dh_last, dc_last = (
            np.asarray(array, dtype=float)
            for array in (self.x, self.h0, self.c0, self.W, self.U, self.b, self.dh_last, self.dc_last)
        )
        mask = None if self.mask is None else self.mask[:, order]
        hs, c, caches = gates.lstm_forward(x[:, order], h0, c0, W, U, b, mask=mask)
        dhs = self.dh.astype(float)[:, order].copy() if self.sequences else np.zeros(hs.shape)
        if not self.sequences:
            dhs[:, -1] += self.dh
        if self.last:
            dhs[:, -1] += dh_last
        else:
            dc_last = np.zeros_like(dc_last)
        dx, *others = gates.lstm_backward(dhs, dc_last, caches, W, U, mask=mask)
        dx = dx[:, order]
        if self.tokens:
            at_places, dx = dx, np.zeros((len(self.x.groups.ids), self.E))
            np.add.at(dx, self.x.groups.index, at_places)
        return (hs[:, order] if self.sequences else hs[:, -1]), c, dx, *others


NAMES = ("h", "c", "dx", "dW", "dU", "db", "dh0", "dc0")


def same(results, expected, dtype):
    for name, result, value in zip(NAMES, results, expected, strict=True):
        assert result.shape == value.shape, name
        assert result.dtype == dtype, name
        error = np.linalg.norm(result.astype(float) - value) / max(np.linalg.norm(value), 1e-3)
        assert error <= TOLERANCE[dtype], (name, error)


def check(case, **options):
    results = case.results(**options)
    same(results, case.textbook(), case.dtype)
    return results
