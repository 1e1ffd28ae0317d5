"""Recurrent layers of one's own, nothing inherited: `check_layer` names gates, steps and the wrong equation."""

import inspect

import numpy as np
import pytest

from scratchlstm.gradcheck import check_layer
from scratchlstm.layers import Layer

E, H = 3, 2
X = np.random.default_rng(1).normal(size=(4, 4, E))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class OwnLSTM:
    """As a course asks for it: one loop forward, one back."""

    def __init__(self, sequences=True, bias=True, features=E):
        rng, self.sequences = np.random.default_rng(0), sequences
        self.params = {"kernel": rng.normal(size=(features, 4 * H)), "recurrent_kernel": rng.normal(size=(H, 4 * H))}
        self.params |= {"bias": rng.normal(size=4 * H)} if bias else {}
        self.grads = {}

    def forward(self, x):
        W, U, *b = self.params.values()
        h, c, hs, self.caches = np.zeros((len(x), H)), np.zeros((len(x), H)), [], []
        for t in range(x.shape[1]):
            h_prev, c_prev = h, c
            z_i, z_f, z_g, z_o = np.split(x[:, t] @ W + h_prev @ U + sum(b), 4, axis=1)
            i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
            c = f * c_prev + i * g
            h = o * np.tanh(c)
            hs.append(h)
            self.caches.append((x[:, t], h_prev, c_prev, i, f, g, o, c))
        return np.stack(hs, axis=1) if self.sequences else h

    def backward(self, dy):
        W, U, *b = self.params.values()
        T, B = len(self.caches), len(dy)
        dx, dW, dU, db = np.zeros((B, T, len(W))), np.zeros_like(W), np.zeros_like(U), np.zeros(4 * H)
        dh_next, dc_next = np.zeros((B, H)), np.zeros((B, H))
        for t in reversed(range(T)):
            x, h_prev, c_prev, i, f, g, o, c = self.caches[t]
            tanh_c = np.tanh(c)
            above = dy[:, t] if self.sequences else dy * (t == T - 1)
            dh = above + dh_next
            do = dh * tanh_c
            dc = dc_next + dh * o * (1 - tanh_c**2)
            di = dc * g
            df = dc * c_prev
            dg = dc * i
            dc_next = dc * f
            dz_i = di * i * (1 - i)
            dz_f = df * f * (1 - f)
            dz_g = dg * (1 - g**2)
            dz_o = do * o * (1 - o)
            dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
            dx[:, t] = dz @ W.T
            dh_next = dz @ U.T
            dW += x.T @ dz
            dU += h_prev.T @ dz
            db += dz.sum(axis=0)
        self.grads = {"kernel": dW, "recurrent_kernel": dU} | ({"bias": db} if b else {})
        return dx


def changed(cls, *changes):
    """The class with some of its lines changed."""
    source = inspect.getsource(cls)
    for old, new in changes:
        assert source.count(old) == 1
        source = source.replace(old, new)
    names = {}
    exec(compile(source, __file__, "exec"), globals(), names)
    return names[cls.__name__]


def checked(layer, x=X):
    """The problem of each wrong tensor, and the diagnosis."""
    report = check_layer(layer, x)
    return {row.tensor: row.problem for row in report.rows if not row.ok}, report.diagnosis


PARAMS = ("kernel", "recurrent_kernel", "bias")
LOOP = "right in one step, wrong over several: the loop. "
BEFORE = {"x": "over several steps, right in one: at steps 0 to 2, right at step 3"}
BEFORE |= dict.fromkeys(PARAMS, "over several steps, right in one")
MISTAKES = {  # line, with a mistake -> which blocks or tensors are wrong, the diagnosis
    ("do = dh * tanh_c", "do = dh"): ("in o (i, f, g ok)", "(7) or (16) dz_o: the factor tanh_c is missing"),
    ("dh * o * (1 - tanh_c**2)", "dh * o"): (
        "in i, f, g (o ok)",
        "(8) dc: the factor 1 - tanh_c² is missing, the derivative of tanh",
    ),
    ("di = dc * g", "di = dc * i"): ("in i (f, g, o ok)", "(9) or (13) dz_i: you have i where g belongs"),
    ("df = dc * c_prev", "df = dc * c"): ("in f (i, g, o ok)", "(10) dz_f: you have c where c_prev belongs"),
    ("dg = dc * i", "dg = dc * o"): ("in g (i, f, o ok)", "(11) dz_g: you have o where i belongs"),
    ("dc_next = dc * f", "dc_next = dc"): (BEFORE, "(12) dc_prev: the factor f is missing"),
    ("di * i * (1 - i)", "di * (1 - i**2)"): (
        "in i (f, g, o ok)",
        "(13) dz_i: you have 1 - i² where i (1 - i) belongs, the derivative of σ",
    ),
    ("df * f * (1 - f)", "df"): (
        "in f (i, g, o ok)",
        "(14) dz_f: the factor f (1 - f) is missing, the derivative of σ",
    ),
    ("dz_i, dz_f, dz_g, dz_o]", "dz_i, dz_f, dz_o, dz_g]"): (
        "in g, o (i, f ok)",
        "(13) to (16) dz: the blocks of g and o are swapped",
    ),
    ("dx[:, t] = dz @ W.T", "dx[:, t] = -dz @ W.T"): ({"x": ""}, "(17) dx: the sign is wrong"),
    ("dh_next = dz @ U.T", "dh_next = dz @ U.T * 2"): (BEFORE, "(18) dh_prev: it is multiplied by 2"),
    ("dW += x.T @ dz", "dW += x.T @ dz / B"): (
        {"kernel": "in i, f, g, o"},
        "(19) dW: it is divided by 4, the batch size: no mean belongs there",
    ),
    ("dU += h_prev.T @ dz", "dU += (o * tanh_c).T @ dz"): (
        {"recurrent_kernel": "in i, f, g, o"},
        "(20) dU: you have h.T @ dz where h_prev.T @ dz belongs",
    ),
    ("db += dz.sum(axis=0)", "db += dz.mean(axis=0)"): (
        {"bias": "in i, f, g, o"},
        "(21) db: it is divided by 4, the batch size: no mean belongs there",
    ),
    ("dh_next = dz @ U.T", "dz @ U.T"): (
        BEFORE,
        f"{LOOP}dh is not carried from step to step: add dh_prev at the previous step",
    ),
    ("dc_next = dc * f", "dc * f"): (
        BEFORE,
        f"{LOOP}dc is not carried from step to step: add dc_prev at the previous step",
    ),
    ("dh = above + dh_next", "dh = above if t == T - 1 else dh_next"): (
        BEFORE,
        f"{LOOP}dh from above is overwritten by the gradient from step t+1: add the two",
    ),
    ("dU += h_prev.T @ dz", "dU = h_prev.T @ dz"): (
        {"recurrent_kernel": "over several steps, right in one"},
        f"{LOOP}dU: only the gradient of step 0, where the sum over all steps belongs",
    ),
    ("dh_next = dz @ U.T", "dh_next = np.sin(dz @ U.T)"): (
        BEFORE,
        "right in the last step, wrong before it: what a step passes to the previous one, or the loop",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[1])
def test_the_mistake_is_named(mistake):
    where, diagnosis = MISTAKES[mistake]
    where = where if isinstance(where, dict) else dict.fromkeys(PARAMS, where) | {"x": ""}
    assert checked(changed(OwnLSTM, mistake)()) == (where, [diagnosis])


MIXED = "a sample's gradients differ in a batch and alone: use only its own values, and take no mean over the batch"
ABOVE = "the loop. The gradient from above at step t belongs to another step, or is lost: add dy[:, t]"


@pytest.mark.parametrize(
    ("old", "new", "diagnosis"),
    [
        ("df = dc * c_prev", "df = dc * c_prev; df[0] = 0", MIXED),
        ("df = dc * c_prev", "df = dc * c_prev; df[1:2] = 0", MIXED),
        ("df = dc * c_prev", "df = dc * c_prev; df[-1] *= 2", MIXED),
        ("df = dc * c_prev", "df = dc * c_prev[::-1]", MIXED),
        ("dz_f = df * f * (1 - f)", "dz_f = df * f * (1 - f) / B", MIXED),
        ("above = dy[:, t]", "above = dy[:, t - 1]", ABOVE),
        ("above = dy[:, t]", "above = dy[:, T - 1 - t]", ABOVE),
        ("above = dy[:, t]", "above = dy[:, min(t + 1, T - 1)]", ABOVE),
        ("above = dy[:, t]", "above = dy[:, -1]", ABOVE),
    ],
)
def test_no_equation_is_named_for_mixed_samples_or_steps(old, new, diagnosis):
    assert checked(changed(OwnLSTM, (old, new))())[1] == [diagnosis]


def test_nothing_is_named_where_the_gradient_is_another_at_every_call():
    noise = "dz_f = df * f * (1 - f) * np.random.default_rng().normal(size=f.shape)"
    assert checked(changed(OwnLSTM, ("dz_f = df * f * (1 - f)", noise))())[1] == []


def test_a_layer_may_fill_the_same_arrays_at_every_call():
    class Reusing(changed(OwnLSTM, ("df = dc * c_prev", "df = dc * c"))):
        def filled(self, name, values):
            array = vars(self).setdefault(name + str(values.shape), np.empty(values.shape))
            array[...] = values
            return array

        def forward(self, x):
            return self.filled("y", super().forward(x))

        def backward(self, dy):
            return self.filled("dx", super().backward(dy))

    assert checked(Reusing())[1] == ["(10) dz_f: you have c where c_prev belongs"]


@pytest.mark.parametrize("options", [{"sequences": False}, {"bias": False}], ids=str)
def test_the_last_output_alone_or_no_bias_will_do(options):
    assert checked(OwnLSTM(**options)) == ({}, [])
    _, diagnosis = checked(changed(OwnLSTM, ("df * f * (1 - f)", "df * f"))(**options))
    assert diagnosis == ["(14) dz_f: the factor 1 - f is missing (as in f (1 - f), the derivative of σ)"]


@pytest.mark.parametrize(
    ("first", "second", "diagnosis"),
    [
        (
            ("df * f * (1 - f)", "df"),
            ("dU += h_prev.T @ dz", "dU = h_prev.T @ dz"),
            "(14) dz_f: the factor f (1 - f) is missing, the derivative of σ",
        ),
        (
            ("dc_next = dc * f", "dc * f"),
            ("db += dz.sum(axis=0)", "db += dz.mean(axis=0)"),
            "the loop. dc is not carried from step to step: add dc_prev at the previous step",
        ),
    ],
)
def test_of_two_mistakes_one_is_named_and_none_that_is_not_there(first, second, diagnosis):
    assert checked(changed(OwnLSTM, first, second)())[1] == [diagnosis]


def test_what_is_not_recognised_is_not_explained():
    found, diagnosis = checked(changed(OwnLSTM, ("dg * (1 - g**2)", "dg * np.cos(g)"))())
    assert found["kernel"] == "in g (i, f, o ok)"
    assert diagnosis == []


def test_another_cell_with_four_blocks_has_them_named_in_keras_order():
    plain = ("h = o * np.tanh(c)", "h = o * c"), ("tanh_c = np.tanh(c)", "tanh_c = c"), ("(1 - tanh_c**2)", "1")
    assert checked(changed(OwnLSTM, *plain)()) == ({}, [])
    found, diagnosis = checked(changed(OwnLSTM, *plain, ("df * f * (1 - f)", "df * f"))())
    assert found["kernel"] == "in f (i, g, o ok)"
    assert diagnosis == ["its four blocks of columns are assumed to be in Keras' order, i f g o"]


class OwnLeaky(Layer):
    """A layer of this package's kind, with a loop of its own and two blocks: h = (1 - a) h_prev + a g."""

    def param_specs(self, input_shape):
        kernels = {"kernel": ((input_shape[-1], 2 * H), "glorot_uniform")}
        return kernels | {"recurrent_kernel": ((H, 2 * H), "orthogonal"), "bias": ((2 * H,), "zeros")}

    def forward(self, x):
        W, U, b = self.params.values()
        h, steps = np.zeros((len(x), H)), []
        for t in range(x.shape[1]):
            z_a, z_g = np.split(x[:, t] @ W + h @ U + b, 2, axis=1)
            steps.append((x[:, t], h, sigmoid(z_a), np.tanh(z_g)))
            _, h_prev, a, g = steps[-1]
            h = (1 - a) * h_prev + a * g
        return h, steps

    def backward(self, dy, cache):
        W, U, _ = self.params.values()
        dh, dxs, grads = dy, [], {name: np.zeros_like(param) for name, param in self.params.items()}
        for x, h_prev, a, g in reversed(cache):
            dz_a = dh * (g - h_prev) * a * (1 - a)
            dz_g = dh * a * (1 - g**2)
            dz = np.concatenate([dz_a, dz_g], axis=1)
            for name, d in zip(grads, (x.T @ dz, h_prev.T @ dz, dz.sum(axis=0)), strict=True):
                grads[name] += d
            dxs.append(dz @ W.T)
            dh = dz @ U.T + dh * (1 - a)
        return np.stack(dxs[::-1], axis=1), grads


def test_other_blocks_are_numbered():
    assert checked(OwnLeaky(dtype="float64")) == ({}, [])
    found, diagnosis = checked(changed(OwnLeaky, ("dh * a * (1 - g**2)", "dh * (1 - g**2)"))(dtype="float64"))
    assert {found[name] for name in PARAMS} == {"in block 2 (block 1 ok)"}
    assert diagnosis == []


def test_the_loop_of_another_cell_is_said_to_be_wrong_and_no_more():
    found, diagnosis = checked(changed(OwnLeaky, ("dh = dz @ U.T + dh * (1 - a)", "dh = dz @ U.T"))(dtype="float64"))
    assert found == BEFORE
    assert diagnosis == ["right in the last step, wrong before it: what a step passes to the previous one, or the loop"]


def test_a_layer_that_takes_no_other_shape_is_reported_all_the_same():
    class Fixed(changed(OwnLSTM, ("df * f * (1 - f)", "df"))):
        def forward(self, x):
            if x.shape != X.shape:
                raise RuntimeError("another shape")
            return super().forward(x)

    found, diagnosis = checked(Fixed())
    assert found.keys() == {*PARAMS, "x"}
    assert diagnosis == []


@pytest.mark.parametrize("wrong", [None, np.ones(3), np.full((E, 4 * H), np.nan)], ids=["missing", "shape", "nan"])
def test_what_is_no_gradient_is_left_to_the_table(wrong):
    class Odd(OwnLSTM):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads["kernel"] = wrong
            return dx

    found, diagnosis = checked(Odd())
    assert found.keys() == {"kernel"}
    assert diagnosis == []


def test_one_feature_alone_does_not_show_the_steps():
    found, diagnosis = checked(changed(OwnLSTM, ("do = dh * tanh_c", "do = dh"))(features=1), X[:, :, :1])
    assert found.keys() == {*PARAMS, "x"}
    assert diagnosis == []
