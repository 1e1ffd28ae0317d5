"""Answers unlike the solution: right ones are not rejected, wrong ones are still told what is wrong."""

from collections import namedtuple

import numpy as np
import pytest

from scratchlstm.exercises.checking import find, judge
from scratchlstm.gates import sigmoid, sigmoid_prime, tanh_prime


def columns(a, k, H):
    return a[:, k * H : (k + 1) * H]


# --- right ------------------------------------------------------------------------------------------------------------


def slope_of_sigmoid_by_the_quotient(s):
    z = np.log(s / (1 - s))
    return np.exp(-z) / (1 + np.exp(-z)) ** 2


def slope_of_tanh_by_factors(t):
    return (1 - t) * (1 + t)


def slope_of_tanh_through_cosh(t):
    return 1 / np.cosh(np.arctanh(t)) ** 2


def input_gate_split(z):
    return sigmoid(np.split(z, 4, axis=1)[0])


def forget_gate_from_exp(z):
    z_f = np.array_split(z, 4, axis=1)[1]
    return 1 / (1 + np.exp(-z_f))


def candidate_unit_by_unit(z):
    H = z.shape[1] // 4
    g = np.zeros((len(z), H))
    for n in range(len(z)):
        for j in range(H):
            g[n, j] = np.tanh(z[n, 2 * H + j])
    return g


def candidate_from_sigmoid(z):
    return 2 * sigmoid(2 * columns(z, 2, z.shape[1] // 4)) - 1


def output_gate_reshaped(z):
    return sigmoid(z.reshape(len(z), 4, -1)[:, 3])


def output_gate_from_behind(z):
    return sigmoid(z[:, -(z.shape[1] // 4) :])


def new_cell_in_place_on_a_copy(i, f, g, o, c_prev, h_prev):
    c = c_prev.copy()
    c *= f
    c += i * g
    return c


def new_cell_as_a_sum(i, f, g, o, c_prev, h_prev):
    return np.sum([np.multiply(f, c_prev), np.multiply(i, g)], axis=0)


def hidden_in_a_comprehension(o, c, c_prev, h_prev):
    return np.array([[a * np.tanh(b) for a, b in zip(*rows, strict=True)] for rows in zip(o, c, strict=True)])


def do_with_the_cell_itself(dh, o, c, tanh_c):
    return np.tanh(c) * dh


def do_in_float32(dh, o, c, tanh_c):
    return (dh * tanh_c).astype("float32")


def do_from_h(dh, o, c, tanh_c):
    h = o * tanh_c
    return dh * h / o


def dc_in_two_terms(dc_next, dh, f, o, c, tanh_c):
    through_h = dh * o
    through_h -= through_h * np.square(tanh_c)
    return through_h + dc_next


def dc_by_einsum(dc_next, dh, f, o, c, tanh_c):
    return dc_next + np.einsum("nj,nj,nj->nj", dh, o, 1 - tanh_c**2)


def di_by_einsum(dc, dc_next, i, f, g, c_prev, c):
    return np.einsum("nj,nj->nj", dc, g)


def df_row_by_row(dc, dc_next, i, f, g, c_prev, c):
    return np.stack([row * old for row, old in zip(dc, c_prev, strict=True)])


def df_from_the_sum(dc, dc_next, i, f, g, c_prev, c):
    return dc * (c - i * g) / f


def dg_transposed_twice(dc, dc_next, i, f, g, c_prev, c):
    return (i.T * dc.T).T


def dc_prev_in_place_on_a_copy(dc, dc_next, i, f, g, c_prev, c):
    passed = np.array(dc)
    passed *= f
    return passed


def dz_i_in_full(di, df, dg, do, i, f, g, o, z_i):
    return di * np.exp(-z_i) / (1 + np.exp(-z_i)) ** 2


def dz_f_with_a_helper(di, df, dg, do, i, f, g, o, z_f):
    def slope(value):
        return value - value**2

    return slope(f) * df


def dz_g_from_z(di, df, dg, do, i, f, g, o, z_g):
    return dg / np.cosh(z_g) ** 2


def dz_o_float32(di, df, dg, do, i, f, g, o, z_o):
    do, o = np.float32(do), np.float32(o)
    return do * o * (1 - o)


def dx_with_dot(dz, x, h_prev, h, W, U):
    return np.dot(dz, W.T)


def dx_gate_by_gate(dz, x, h_prev, h, W, U):
    H = len(U)
    return sum(columns(dz, k, H) @ columns(W, k, H).T for k in range(4))


def dh_prev_by_einsum(dz, x, h_prev, h, W, U):
    return np.einsum("nz,jz->nj", dz, U)


def dh_prev_transposed(dz, x, h_prev, h, W, U):
    return np.matmul(U, dz.T).T


def dW_outer_products(dz, x, h_prev, h, W, U):
    dW = np.zeros_like(W)
    for n in range(len(x)):
        dW += np.outer(x[n], dz[n])
    return dW


def dW_four_matrices(dz, x, h_prev, h, W, U):
    return np.concatenate([x.T @ each for each in np.split(dz, 4, axis=1)], axis=1)


def dU_tensordot(dz, x, h_prev, h, W, U):
    return np.tensordot(h_prev, dz, axes=(0, 0))


def dU_with_matmul(dz, x, h_prev, h, W, U):
    return np.matmul(np.transpose(h_prev), dz)


def db_with_ones(dz, x, h_prev, h, W, U):
    return np.ones(len(dz)) @ dz


def db_added_up(dz, x, h_prev, h, W, U):
    total = 0
    for row in dz:
        total = total + row
    return total


Gradients = namedtuple("Gradients", "dx dh_prev dc_prev dW dU db")


def step_in_blocks(dh, dc_next, cache, W, U, **change):
    """Separate matrices for the gates, loops over them, and a named tuple; `change` puts mistakes in."""
    H = dh.shape[1]
    at_c = dh * cache.o * (1 - cache.tanh_c**2) + dc_next
    at_gates = {"i": at_c * cache.g, "f": at_c * cache.c_prev, "g": at_c * cache.i, "o": dh * cache.tanh_c}
    slopes = {gate: sigmoid_prime(getattr(cache, gate)) for gate in "ifo"} | {"g": tanh_prime(cache.g)}
    slopes |= {gate: change[gate](cache) for gate in change.keys() & slopes.keys()}
    at_gates |= {gate: change[f"d{gate}"](at_c, dh, cache) for gate in "ifgo" if f"d{gate}" in change}
    at_z = [at_gates[gate] * slopes[gate] for gate in change.get("order", "ifgo")]
    matrices = [(columns(W, k, H), columns(U, k, H)) for k in range(4)]
    return Gradients(
        dx=sum(d @ Wk.T for d, (Wk, _) in zip(at_z, matrices, strict=True)),
        dh_prev=sum(d @ Uk.T for d, (_, Uk) in zip(at_z, matrices, strict=True)),
        dc_prev=change.get("dc_prev", lambda at_c, cache: at_c * cache.f)(at_c, cache),
        dW=np.concatenate([np.einsum("ne,nj->ej", cache.x, d) for d in at_z], axis=1),
        dU=np.concatenate(
            [np.einsum("nk,nj->kj", change.get("h", lambda cache: cache.h_prev)(cache), d) for d in at_z], axis=1
        ),
        db=np.concatenate([change.get("sum", np.sum)(d, axis=0) for d in at_z]),
    )


def step_sample_by_sample(dh, dc_next, cache, W, U):
    dW, dU, db, rows = np.zeros_like(W), np.zeros_like(U), np.zeros(W.shape[1]), []
    for n in range(len(dh)):
        x, h_prev, c_prev, i, f, g, o, tanh_c = (each[n] for each in cache)
        dc = dc_next[n] + dh[n] * o * (1 - tanh_c**2)
        di, df, dg, do = dc * g, dc * c_prev, dc * i, dh[n] * tanh_c
        dz = np.hstack([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)])
        dW += np.outer(x, dz)
        dU += np.outer(h_prev, dz)
        db += dz
        rows.append((W @ dz, U @ dz, dc * f))
    return [*map(np.array, zip(*rows, strict=True)), dW, dU, db]


def step_in_float32(dh, dc_next, cache, W, U):
    single = [np.float32(each) for each in (dh, dc_next, W, U)]
    return step_in_blocks(*single[:2], type(cache)(*map(np.float32, cache)), *single[2:])


RIGHT = {
    "sigmoid_prime": [slope_of_sigmoid_by_the_quotient],
    "tanh_prime": [slope_of_tanh_by_factors, slope_of_tanh_through_cosh],
    "input_gate": [input_gate_split],
    "forget_gate": [forget_gate_from_exp],
    "candidate": [candidate_unit_by_unit, candidate_from_sigmoid],
    "output_gate": [output_gate_reshaped, output_gate_from_behind],
    "new_cell": [new_cell_in_place_on_a_copy, new_cell_as_a_sum],
    "hidden": [hidden_in_a_comprehension],
    "do": [do_with_the_cell_itself, do_in_float32, do_from_h],
    "dc": [dc_in_two_terms, dc_by_einsum],
    "di": [di_by_einsum],
    "df": [df_row_by_row, df_from_the_sum],
    "dg": [dg_transposed_twice],
    "dc_prev": [dc_prev_in_place_on_a_copy],
    "dz_i": [dz_i_in_full],
    "dz_f": [dz_f_with_a_helper],
    "dz_g": [dz_g_from_z],
    "dz_o": [dz_o_float32],
    "dx": [dx_with_dot, dx_gate_by_gate],
    "dh_prev": [dh_prev_by_einsum, dh_prev_transposed],
    "dW": [dW_outer_products, dW_four_matrices],
    "dU": [dU_tensordot, dU_with_matmul],
    "db": [db_with_ones, db_added_up],
    "step_backward": [step_in_blocks, step_sample_by_sample, step_in_float32],
}


@pytest.mark.parametrize(
    ("name", "answer"),
    [pytest.param(name, answer, id=answer.__name__) for name, answers in RIGHT.items() for answer in answers],
)
def test_a_right_answer_in_another_style_is_not_rejected(name, answer):
    verdict = judge(find(name), name, answer)
    assert verdict.state == "right", verdict
    assert bool(verdict.says) == ("float32" in answer.__name__)  # which is told
    assert not verdict.says or "float32" in verdict.says


# --- wrong ------------------------------------------------------------------------------------------------------------


def df_row_by_row_with_the_new_cell(dc, dc_next, i, f, g, c_prev, c):
    return np.stack([row * new for row, new in zip(dc, c, strict=True)])


def dc_by_einsum_without_slope(dc_next, dh, f, o, c, tanh_c):
    return dc_next + np.einsum("nj,nj->nj", dh, o)


def dc_with_the_slope_at_c(dc_next, dh, f, o, c, tanh_c):
    return np.add(dc_next, dh * o - dh * o * c**2)


def dz_f_by_hand_without_f(di, df, dg, do, i, f, g, o, z_f):
    return df - f * df


def dz_f_slope_of_the_wrong_gate(di, df, dg, do, i, f, g, o, z_f):
    return df * np.exp(np.log(i) + np.log(1 - i))


def dz_g_with_the_slope_of_sigmoid(di, df, dg, do, i, f, g, o, z_g):
    return dg * g - dg * g * g


def dW_mean_of_outer_products(dz, x, h_prev, h, W, U):
    return np.mean([np.outer(x[n], dz[n]) for n in range(len(x))], axis=0)


def dU_outer_products_with_this_h(dz, x, h_prev, h, W, U):
    return sum(np.outer(h[n], dz[n]) for n in range(len(h)))


def db_sample_overwritten(dz, x, h_prev, h, W, U):
    db = np.zeros(dz.shape[1])
    for row in dz:
        db = row
    return db


def dx_output_gate_only(dz, x, h_prev, h, W, U):
    H = len(U)
    return np.einsum("nj,ej->ne", columns(dz, 3, H), columns(W, 3, H))


def candidate_in_the_order_of_another_library(z):
    return np.tanh(np.split(z, 4, axis=1)[3])


def new_cell_with_one_gate(i, f, g, o, c_prev, h_prev):
    return f * (c_prev - g) + g


def changed(**change):
    return lambda dh, dc_next, cache, W, U: step_in_blocks(dh, dc_next, cache, W, U, **change)


def without(at):
    """A whole step without the slope of one gate."""
    return changed(**{at: lambda cache: 1.0})


WRONG = [
    ("df", df_row_by_row_with_the_new_cell, ["the old cell belongs here, c_prev, not c"]),
    ("dc", dc_by_einsum_without_slope, ["the slope of tanh is missing"]),
    ("dc", dc_with_the_slope_at_c, ["square tanh_c, not c"]),
    ("dz_f", dz_f_by_hand_without_f, ["this is not the whole slope of σ, which is f (1 - f)"]),
    ("dz_f", dz_f_slope_of_the_wrong_gate, ["you have i (1 - i) where f (1 - f) belongs"]),
    ("dz_g", dz_g_with_the_slope_of_sigmoid, ["this is the slope of σ"]),
    ("dW", dW_mean_of_outer_products, ["there is no mean here"]),
    ("dU", dU_outer_products_with_this_h, ["U goes with h_prev in z, not with h"]),
    ("db", db_sample_overwritten, ["this is only the last sample"]),
    ("dx", dx_output_gate_only, ["only z_o is used"]),
    ("candidate", candidate_in_the_order_of_another_library, ["these are the columns of z_o"]),
    ("new_cell", new_cell_with_one_gate, ["weighted by i, a separate gate, not by 1 - f"]),
    ("step_backward", without("f"), ["(14)", "the slope of σ is missing: it is f (1 - f)"]),
    ("step_backward", without("g"), ["(15)", "the slope of tanh is missing: it is 1 - g²"]),
    ("step_backward", changed(o=lambda cache: cache.o), ["(16)", "this is σ itself"]),
    ("step_backward", changed(dc_prev=lambda at_c, cache: at_c), ["(12)", "the factor f is missing"]),
    ("step_backward", changed(order="figo"), ["(13), (14)", "i and f are swapped"]),
    ("step_backward", changed(sum=np.mean), ["(21)", "there is no mean here"]),
    ("step_backward", changed(do=lambda at_c, dh, cache: dh), ["(7)", "the factor tanh(c) is missing"]),
    # a name is wrong that none of the known mistakes uses here
    ("dz_i", lambda di, df, dg, do, i, f, g, o, z_i: di * i * (1 - i) * g * f, ["factor", "one too many"]),
    ("di", lambda dc, dc_next, i, f, g, c_prev, c: 2 * dc * g, ["multiplied by 2"]),
    ("step_backward", changed(i=lambda cache: np.cos(cache.i)), ["dz_i: is wrong, in a way that is not recognised"]),
    # two at once, in two lines
    ("step_backward", changed(f=lambda cache: 1.0, dc_prev=lambda at_c, cache: at_c), ["(14)", "(12)"]),
    ("step_backward", changed(i=lambda cache: cache.i, sum=np.mean), ["(13)", "(21)"]),
    ("step_backward", changed(df=lambda at_c, dh, cache: at_c, o=lambda cache: 1.0), ["(10)", "(16)"]),
    ("step_backward", changed(order="figo", g=lambda cache: 1.0), ["(13) to (16)", "i and f are swapped", "(15)"]),
    (
        "step_backward",
        changed(dg=lambda at_c, dh, cache: at_c * cache.g, h=lambda cache: cache.o * cache.tanh_c),
        ["(11)", "(20)"],
    ),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG)
def test_a_wrong_answer_in_another_style_is_told_what_is_wrong(name, answer, says):
    verdict = judge(find(name), name, answer)
    assert verdict.state == "wrong"
    assert [clause for clause in says if clause not in verdict.says] == [], verdict


def test_a_wrong_shape_in_a_whole_step_is_told_beside_another_mistake():
    def answer(dh, dc_next, cache, W, U):
        found = step_in_blocks(dh, dc_next, cache, W, U, i=lambda cache: cache.i)
        return found._replace(db=found.db[None])

    verdict = judge(find("step_backward"), "step_backward", answer)
    assert "db: it must have the shape (8,), that is (4H,), not (1, 8)" in verdict.says


def test_there_are_enough_styles():
    assert sum(map(len, RIGHT.values())) >= 30
    assert len(WRONG) >= 15
