"""Cells of a user's own, with names that the package does not have."""

from typing import NamedTuple

import numpy as np

from scratchlstm.cells import Cell
from scratchlstm.gates import sigmoid, tanh


class OneGateCache(NamedTuple):
    x: np.ndarray
    h_prev: np.ndarray
    open: np.ndarray
    idea: np.ndarray


class OneGateCell(Cell):
    """Only what the contract asks for: one state, no z and no dz."""

    gates = ("open", "idea")

    def forward(self, x, h_prev, W, U, b):
        z_open, z_idea = self.split(x @ W + h_prev @ U + b)
        a, g = sigmoid(z_open), tanh(z_idea)
        return (1 - a) * h_prev + a * g, OneGateCache(x, h_prev, a, g)

    def backward(self, dh, cache, W, U, b):
        x, h_prev, a, g = cache
        dz = np.concatenate([dh * (g - h_prev) * a * (1 - a), dh * a * (1 - g * g)], axis=1)
        dh_prev = dh * (1 - a) + dz @ U.T
        return {"dx": dz @ W.T, "dh_prev": dh_prev, "dW": x.T @ dz, "dU": h_prev.T @ dz, "db": dz.sum(axis=0)}


class SlowCache(NamedTuple):
    x: np.ndarray
    h_prev: np.ndarray
    m_prev: np.ndarray
    z: np.ndarray
    open: np.ndarray
    idea: np.ndarray


class SlowCell(Cell):
    """Two states, and everything that a trace can show: z, dz and dm. The gate sees m as well."""

    gates = ("open", "idea")
    states = ("h", "m")

    def forward(self, x, h_prev, m_prev, W, U, b):
        z = x @ W + h_prev @ U + b
        z[:, : self.units] += m_prev
        a, g = sigmoid(z[:, : self.units]), tanh(z[:, self.units :])
        m = m_prev + a * g
        return tanh(m), m, SlowCache(x, h_prev, m_prev, z, a, g)

    def backward(self, dh, dm_next, cache, W, U, b):
        x, h_prev, m_prev, _, a, g = cache
        dm = dm_next + dh * (1 - tanh(m_prev + a * g) ** 2)
        dz_open = dm * g * a * (1 - a)
        dz = np.concatenate([dz_open, dm * a * (1 - g * g)], axis=1)
        back = {"dx": dz @ W.T, "dh_prev": dz @ U.T, "dW": x.T @ dz, "dU": h_prev.T @ dz, "db": dz.sum(axis=0)}
        return back | {"dm_prev": dm + dz_open, "dz": dz, "dm": dm}
