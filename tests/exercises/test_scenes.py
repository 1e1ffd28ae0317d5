"""Mistakes that only some values show, and formulas that only some values distinguish."""

import inspect
import itertools

import numpy as np
import pytest

from scratchlstm.cells import PeepholeLSTMCell
from scratchlstm.exercises.checking import find, judge
from scratchlstm.exercises.exercise import EXERCISES
from scratchlstm.exercises.mistakes import planted
from scratchlstm.exercises.running import load

ONE_STEP = ["do", "dc", "di", "df", "dg", "dc_prev", "dz_i", "dz_f", "dz_g", "dz_o", "dx", "dh_prev", "dW", "dU", "db"]
DC, DZ = "dc_next + dh * o * tanh_prime(tanh_c)", "np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)"


def verdict(name, old, new, folder):
    """Of the solution with one change."""
    exercise = find(name)
    folder.joinpath("answer.py").write_text(planted(exercise.solution, name, (old, new)), encoding="utf-8")
    return judge(exercise, name, load(folder / "answer.py")[name])


@pytest.mark.parametrize("name", [*ONE_STEP, "step_backward"])
@pytest.mark.parametrize("limit", [0.5, 1, 5])
def test_a_gradient_must_not_be_clipped(name, limit):
    right = find(name).functions[name]

    def clipped(*given):
        result = right(*given)
        if isinstance(result, tuple):
            return tuple(np.clip(each, -limit, limit) for each in result)
        return np.clip(result, -limit, limit)

    assert judge(find(name), name, clipped).state == "wrong"


@pytest.mark.parametrize(("line", "limit"), [(DZ, 0.5), (DZ, 1), (DZ, 5), (DC, 3), (DC, 5), ("dh * tanh_c", 5)])
def test_nor_inside_a_step(line, limit, tmp_path):
    found = verdict("step_backward", line, f"np.clip({line}, -{limit}, {limit})", tmp_path)
    assert found.state == "wrong"
    assert {DZ: "(9) or (13) dz_i", DC: "(8) dc"}.get(line, "(7) or (16) dz_o") in found.says


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("numerical_gradient", "(above - below) /", "abs(above - below) /", "without abs"),
        ("best_epsilon", "abs(loss) / abs(third)", "loss / third", "only if L and L''' have the same sign"),
        ("best_epsilon", "(3 * u * abs(loss) / abs(third)) ** (1 / 3)", "np.cbrt(3 * u * loss / third)", "same sign"),
        (
            "masked_forward",
            "all_h = []\n    for t in range(x.shape[1]):",
            "all_h = []\n    for t in range(x.shape[1]):\n        if not mask[:, t].any(): break",
            "it must have the shape",
        ),
        (
            "masked_backward",
            "valid = mask[:, t, None]  # (B, 1), as before",
            "valid = mask[:, t, None]\n"
            "        if not valid.any():\n            dxs.append(0 * caches[t].x)\n            continue",
            "dx: ",
        ),
        ("truncated", "range(0, x.shape[1], k)", "range(0, x.shape[1] + 1, k)", "an empty piece is added at the end"),
        ("truncated", "h = hs[:, -1]", "h = hs[-1]", "hs[-1] is the last sample"),
        ("truncated", "range(0, x.shape[1], k)", "range(0, x.shape[1] // k)", "piece number j starts at j k"),
        ("through_time", "dh = step.dh_prev", "dh = step.dz", "dh takes step.dz, the gradient of z, not of h"),
        ("relative_error", "(p - q) / max(", "(p - q) / min(", "or by the smaller norm"),
        # what is written, by its own names
        ("dz_g", "dg * tanh_prime(g)", "dg * i * (1 - g)", "you have i where 1 + g belongs"),
        ("dz_i", "di * sigmoid_prime(i)", "dg * i * (1 - g)", "you have dg (1 - g) where di (1 - i) belongs"),
        ("dz_i", "di * sigmoid_prime(i)", "dg * g * (1 - i)", "you have dg g where di i belongs"),
        ("dz_f", "df * sigmoid_prime(f)", "dc_prev * (1 - f)", "NameError"),
        ("dc", DC, "dc_next + dh * f", "the factor is o, not f"),
        ("dU", "h_prev.T @ dz", "h.T @ dz / len(h)", "U goes with h_prev in z, not with h"),
        ("dtable", "np.add.at(total, ids, dx)", "total[ids] = dx", "only one gradient is kept"),
    ],
)
def test_a_mistake_that_only_some_values_show(name, old, new, says, tmp_path):
    found = verdict(name, old, new, tmp_path)
    assert found.state == "wrong"
    assert says in found.says


def test_of_a_step_no_two_gradients_belong_together():
    scene = find("dc").scene(0, B=3, T=4, E=5, H=2)
    names = ["dh", "dc_next", "dc", "di", "df", "dg", "do", "dz_i", "dz_f", "dz_g", "dz_o"]
    for one, other in itertools.permutations(names, 2):
        for a, b in itertools.permutations([*"ifgo", "c_prev", "tanh_c"], 2):
            assert not np.allclose(scene[one] * scene[a], scene[other] * scene[b]), (one, a, other, b)
    assert np.allclose(scene["c"], scene["f"] * scene["c_prev"] + scene["i"] * scene["g"])
    assert np.allclose(scene["h"], scene["o"] * np.tanh(scene["c"]))


def test_the_peepholes_are_the_packages():
    rng, (B, H) = np.random.default_rng(0), (3, 2)
    x, states, W, U, b, p = (rng.normal(size=s) for s in ((B, 4), (2, B, H), (4, 4 * H), (H, 4 * H), 4 * H, (3, H)))
    cell, (dh, dc_next) = PeepholeLSTMCell(H), rng.normal(size=(2, B, H))
    _, c, cache = cell.forward(x, *states, W, U, b, p)
    back = cell.backward(dh, dc_next, cache, W, U, b, p)
    known = cache._asdict() | back | {"c": c, "dh": dh, "dc_next": dc_next} | dict.fromkeys(["di", "df", "do"])
    known |= {f"dz_{gate}": dz for gate, dz in zip("ifgo", cell.split(back["dz"]), strict=True)}
    known |= {
        f"{d}p_{gate}": each for d, of in (("", p), ("d", back["dp"])) for gate, each in zip("ifo", of, strict=True)
    }
    for name, right in find("peephole_dc").functions.items():
        given = [known[argument] for argument in inspect.signature(right).parameters]
        np.testing.assert_allclose(right(*given), known[name.removeprefix("peephole_")], rtol=1e-12)


def test_no_message_ends_in_a_full_stop_because_texts_are_appended():
    for exercise in EXERCISES:
        assert not [each.says for each in exercise.mistakes if each.says.endswith(".")]
