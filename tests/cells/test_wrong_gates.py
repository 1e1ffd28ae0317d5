"""`check_layer` names the gate whose gradient is wrong: of a cell of one's own, and of the LSTM's textbook."""

from typing import NamedTuple

import numpy as np
import pytest

from scratchlstm import gates
from scratchlstm.cells import Cell
from scratchlstm.gates import sigmoid, tanh
from scratchlstm.gradcheck import check_layer
from scratchlstm.layers import LSTM, RNN, Bidirectional


class StepCache(NamedTuple):
    x: np.ndarray
    h_prev: np.ndarray
    a: np.ndarray
    g: np.ndarray


class LeakyCell(Cell):
    """That of docs/cells.md, with a place for each mistake."""

    gates = ("a", "g")
    mistake = ""

    def forward(self, x, h_prev, W, U, b):
        z_a, z_g = self.split(x @ W + h_prev @ U + b)
        a, g = sigmoid(z_a), tanh(z_g)
        return (1 - a) * h_prev + a * g, StepCache(x, h_prev, a, g)

    def backward(self, dh, cache, W, U, b):
        x, h_prev, a, g = cache
        da = dh * (g if self.mistake == "h_prev forgotten" else g - h_prev)
        dg = dh * (1 if self.mistake == "a forgotten" else a)
        dz = np.concatenate([da * a * (1 - a), dg * (1 - g * g)], axis=1)
        through_h = 0 if self.mistake == "direct path forgotten" else dh * (1 - a)
        grads = {"dx": dz @ W.T, "dh_prev": through_h + dz @ U.T, "dW": x.T @ dz, "dU": h_prev.T @ dz}
        return grads | {"db": dz.sum(axis=0)}


def problems(layer, x, **given):
    return {row.tensor: row.problem for row in check_layer(layer, x, **given).rows if not row.ok}


def with_mistake(mistake):
    return type("Wrong", (LeakyCell,), {"mistake": mistake})(3)


X = np.random.default_rng(0).normal(size=(2, 5, 4))


@pytest.mark.parametrize(
    ("mistake", "kernels", "others"),
    [
        ("h_prev forgotten", "in a (g ok)", {"x": "", "h0": ""}),
        ("a forgotten", "in g (a ok)", {"x": "", "h0": ""}),
        (
            "direct path forgotten",
            "over several steps, right in one",
            {"x": "over several steps, right in one", "h0": ""},
        ),
    ],
)
def test_the_gate_with_a_mistake_is_named(mistake, kernels, others):
    expected = dict.fromkeys(("kernel", "recurrent_kernel", "bias"), kernels) | others
    assert problems(RNN(with_mistake(mistake), return_sequences=True, dtype="float64"), X) == expected


def test_a_right_cell_has_no_problem():
    assert problems(RNN(LeakyCell(3), return_sequences=True, dtype="float64"), X) == {}


def test_both_directions_are_told_apart():
    both = Bidirectional(RNN(LeakyCell(3), dtype="float64"))
    both.build(X.shape[1:])
    both.backward_layer.cell.mistake = "a forgotten"
    found = problems(both, X)
    assert found["backward/kernel"] == "in g (a ok)"
    assert "forward/kernel" not in found


@pytest.mark.parametrize("gate", "ifgo")
def test_a_mistake_in_the_textbook_is_traced_to_its_gate(monkeypatch, gate):
    right = gates.lstm_step_backward

    def wrong(dh, dc_next, cache, W, U, *primes):
        step = right(dh, dc_next, cache, W, U, *primes)
        k, H = "ifgo".index(gate), dh.shape[1]
        dz = step.dz.copy()
        dz[:, k * H : (k + 1) * H] *= 1.5  # as if a factor of the line was another
        h_in, x = cache.h_prev, cache.x
        return step._replace(dx=dz @ W.T, dh_prev=dz @ U.T, dW=x.T @ dz, dU=h_in.T @ dz, db=dz.sum(axis=0), dz=dz)

    monkeypatch.setattr(gates, "lstm_step_backward", wrong)
    found = problems(LSTM(3, implementation="textbook", return_sequences=True, return_state=True, dtype="float64"), X)
    others = ", ".join(name for name in "ifgo" if name != gate)
    assert {found[name] for name in ("kernel", "recurrent_kernel", "bias")} == {f"in {gate} ({others} ok)"}
    assert found["c0"] == "over several steps, right in one"


class PeepingCell(LeakyCell):
    """The gate sees h_prev through p, which starts at 0; `backward` may forget that."""

    def param_specs(self, features):
        return super().param_specs(features) | {"peephole": ((self.units,), "zeros")}

    def forward(self, x, h_prev, W, U, b, p):
        z_a, z_g = self.split(x @ W + h_prev @ U + b)
        a, g = sigmoid(z_a + p * h_prev), tanh(z_g)
        return (1 - a) * h_prev + a * g, StepCache(x, h_prev, a, g)

    def backward(self, dh, cache, W, U, b, p):
        _x, h_prev, a, g = cache
        grads = super().backward(dh, cache, W, U, b)
        dz_a = dh * (g - h_prev) * a * (1 - a)
        through_p = 0 if self.mistake == "p forgotten" else dz_a * p
        return grads | {"dh_prev": grads["dh_prev"] + through_p, "dp": (dz_a * h_prev).sum(axis=0)}


@pytest.mark.parametrize(("mistake", "wrong"), [("", set()), ("p forgotten", {"kernel", "recurrent_kernel", "h0"})])
def test_a_mistake_is_seen_that_makes_no_difference_at_first(mistake, wrong):
    cell = type("Own", (PeepingCell,), {"mistake": mistake})(3)
    layer = RNN(cell, return_sequences=True, dtype="float64")
    layer.build(X.shape[1:])
    before = layer.get_weights()
    found = problems(layer, X)
    assert wrong <= found.keys()
    assert bool(found) == bool(wrong)
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


def test_a_parameter_that_is_called_like_a_state_is_refused():
    class Own(LeakyCell):
        def param_specs(self, features):
            return {("h0" if name == "bias" else name): of for name, of in super().param_specs(features).items()}

    with pytest.raises(ValueError, match="a parameter of RNN and an input of the check are both called h0"):
        problems(RNN(Own(3), dtype="float64"), X)


def test_a_cell_by_itself_is_no_layer():
    with pytest.raises(TypeError, match=r"layer must be a layer, not the cell LeakyCell: RNN\(cell\) makes"):
        check_layer(LeakyCell(3), X)
