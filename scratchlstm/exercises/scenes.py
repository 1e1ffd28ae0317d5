"""Random values for every name in the equations; a function under check gets those it asks for."""

from typing import Any

import numpy as np

from scratchlstm import gates
from scratchlstm.gradcheck.diagnosis import random_forward

Scene = dict[str, Any]


def step(rng: np.random.Generator, B: int, T: int, E: int, H: int) -> Scene:
    """One LSTM step of B samples, forward as in `gates.py`, and the gradients its equations take.

    The gradients are random and independent: for ones that belong together, several formulas give the same result, such
    as dg i = di g. They are also so large that code which clips them is detected.
    """
    scene: Scene = random_forward(rng, B, E, H)
    cache = gates.StepCache(*(scene[name] for name in gates.StepCache._fields))
    z = scene["x"] @ scene["W"] + scene["h_prev"] @ scene["U"] + scene["b"]
    dz = 100 * rng.normal(size=z.shape)
    for k, gate in enumerate("ifgo"):
        scene |= {f"z_{gate}": z[:, k * H : (k + 1) * H], f"dz_{gate}": dz[:, k * H : (k + 1) * H]}
    for name in ("dh", "dc_next", "dc", "di", "df", "dg", "do"):
        scene[name] = 100 * rng.normal(size=(B, H))
    return scene | {"cache": cache, "z": z, "dz": dz, "s": cache.i, "t": cache.g, "B": B, "T": T, "E": E, "H": H}


def sequence(rng: np.random.Generator, B: int, T: int, E: int, H: int, masked: bool = False) -> Scene:
    """A batch of sequences, forward and backward, and the layers around it: the names in equations (22) to (32).

    Every h and the last c have a gradient. Some of `ids` (B, T) repeat within a sample and between samples, and some
    rows of the table are unused. In `mask` (B, T), which the forward pass obeys only if `masked`, the second step is
    masked for all samples, each other step for some. Some logits are positive, some negative.
    """
    given = {"x": (B, T, E), "h0": (B, H), "c0": (B, H), "W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,)}
    scene: Scene = {name: rng.normal(size=shape) for name, shape in given.items()}
    mask = (np.arange(B)[:, None] + np.arange(T)) % 3 > 0
    mask[:, 1:2] = False
    hs, c_last, caches = gates.lstm_forward(**scene, mask=mask if masked else None)
    dhs, dc_last = rng.normal(size=(B, T, H)), rng.normal(size=(B, H))
    dz, dh, dc_next = np.empty((B, T, 4 * H)), np.zeros((B, H)), dc_last
    for t in reversed(range(T)):
        step = gates.lstm_step_backward(dhs[:, t] + dh, dc_next, caches[t], scene["W"], scene["U"])
        dz[:, t], dh, dc_next = step.dz, step.dh_prev, step.dc_prev
    scene |= {"mask": mask, "hs": hs, "c_last": c_last, "caches": caches, "dz": dz}
    scene |= {"dhs": dhs, "dh_last": dhs[:, -1], "dc_last": dc_last, "dx": dz @ scene["W"].T}
    # two samples share ids, and T ids are drawn from T - 1 rows of the table, so some occur twice in a sample
    ids = rng.integers(max(1, T - 1), size=(B, T))
    ids[1] = ids[0]
    h, w = hs[:, -1], rng.normal(size=(H, 1))
    w0 = -np.quantile(h @ w, [0.3])
    logit = h @ w + w0
    p, y = gates.sigmoid(logit), (logit < np.max(logit)) * 1.0
    scene |= {"ids": ids, "table": rng.normal(size=(7, E)), "h": h, "w": w, "w0": w0, "logit": logit, "p": p, "y": y}
    return scene | {"dlogit": (p - y) / B, "B": B, "T": T, "E": E, "H": H}
