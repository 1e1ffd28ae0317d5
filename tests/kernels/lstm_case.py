"""Shared by the tests of the GPU's recurrence: a forward and backward pass by the kernels and by the textbook."""

import dataclasses

import numpy as np

from scratchlstm import backend, gates
from scratchlstm.kernels.cupy_lstm import CupyLSTM, Limits
from scratchlstm.rows import GatheredRows, Groups

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
H100 = Limits(multiprocessors=132, registers=65536, shared=232448)


def there(a):
    """A NumPy array, or rows of one, on the stand-in for CuPy; None stays None."""
    if isinstance(a, GatheredRows):
        return GatheredRows(there(a.values), a.groups, a.table_shape)
    return None if a is None else backend.to("cupy", a)


def here(results):
    return [None if a is None else backend.host(a) for a in results]


@dataclasses.dataclass
class Case:
    """A forward and backward pass, every array random and not zero."""

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
        return CupyLSTM(there(self.W), there(self.U), there(self.b), self.reverse, **options)

    def forward(self, lstm, workspace=None):
        states = [there(self.h0), there(self.c0)]
        h, (_, c) = lstm.forward(there(self.x), states, workspace, self.sequences, there(self.mask))
        return here([h, c])

    def infer(self, lstm):
        h, (_, c) = lstm.infer(there(self.x), [there(self.h0), there(self.c0)], self.sequences, there(self.mask))
        return here([h, c])

    def backward(self, lstm, **options):
        of_last = (there(self.dh_last), there(self.dc_last)) if self.last else (None, None)
        dx, gradients, d_initial = lstm.backward(there(self.dh), of_last, **options)
        return here([dx, *gradients, *d_initial])

    def results(self, **options):
        """h, c, dx, dW, dU, db, dh0, dc0 by the kernels."""
        lstm = self.lstm(**options)
        return *self.forward(lstm), *self.backward(lstm)

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
