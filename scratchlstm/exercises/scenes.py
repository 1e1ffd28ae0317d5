"""Random values for every name of the equations, of which a function under check gets those that it asks for."""

from typing import Any

import numpy as np

from scratchlstm import gates

Scene = dict[str, Any]


def step(rng: np.random.Generator, B: int, T: int, E: int, H: int) -> Scene:
    """One LSTM step of B samples, forward and backward: each name of `gates.py`, from x to db."""
    given = {"x": (B, E), "h_prev": (B, H), "c_prev": (B, H), "W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,)}
    scene: Scene = {name: rng.normal(size=shape) for name, shape in given.items()}
    h, c, cache = gates.lstm_step_forward(*scene.values())
    dh, dc_next = rng.normal(size=(2, B, H))
    back = gates.lstm_step_backward(dh, dc_next, cache, scene["W"], scene["U"])
    scene |= cache._asdict() | back._asdict() | {"h": h, "c": c, "cache": cache, "dh": dh, "dc_next": dc_next}
    z = scene["x"] @ scene["W"] + scene["h_prev"] @ scene["U"] + scene["b"]
    for k, gate in enumerate("ifgo"):
        scene |= {f"z_{gate}": z[:, k * H : (k + 1) * H], f"dz_{gate}": back.dz[:, k * H : (k + 1) * H]}
    dc = back.dc
    scene |= {"di": dc * cache.g, "df": dc * cache.c_prev, "dg": dc * cache.i, "do": dh * cache.tanh_c}
    return scene | {"z": z, "s": cache.i, "t": cache.g, "B": B, "T": T, "E": E, "H": H}
